// Package devidp is a small identity provider for the demonstration and for
// tests: users from a file, logins by the device flow, on loopback alone. It
// is no provider for anything else. The protocol is zitadel/oidc's; here are
// the users, their groups and one page.
package devidp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// User may log in.
type User struct {
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

// Provider is one issuer. Its zero value has no users.
type Provider struct {
	ClientID string
	Lifetime time.Duration // of a token, default one hour
	Patience time.Duration // with a login that nobody confirms, default five minutes

	mu     sync.Mutex
	users  map[string]User
	logins map[string]*login // by device code
	fresh  map[string]*refreshable
	url    string
	key    *ecdsa.PrivateKey
	keyID  string
	signer jose.Signer
}

// SetUsers replaces the users. One who is gone has no refresh token any more.
func (p *Provider) SetUsers(users map[string]User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = users
}

// Listen takes an address of loopback; any other is refused. It gives the
// issuer's URL.
func (p *Provider) Listen(address string) (net.Listener, string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", fmt.Errorf("devidp: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, "", fmt.Errorf("devidp: %s is not a loopback address: this provider is for development", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", fmt.Errorf("devidp: %w", err)
	}
	p.logins, p.fresh = map[string]*login{}, map[string]*refreshable{}
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		p.keyID = rand.Text() // another key has another name, after a restart too
		p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.keyID}}, nil)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("devidp: %w", err), l.Close())
	}
	p.url = "http://" + l.Addr().String()
	return l, p.url, nil
}

// Run serves until ctx is done.
func (p *Provider) Run(ctx context.Context, l net.Listener) error {
	patience := p.Patience
	if patience == 0 {
		patience = 5 * time.Minute
	}
	config := &op.Config{GrantTypeRefreshToken: true, AuthMethodPost: true, DeviceAuthorization: op.DeviceAuthorizationConfig{
		Lifetime: patience, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20}}
	_, _ = rand.Read(config.CryptoKey[:])
	provider, err := op.NewProvider(config, storage{p}, op.StaticIssuer(p.url), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("devidp: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /device", func(w http.ResponseWriter, r *http.Request) {
		show(w, http.StatusOK, r.FormValue("user_code"), "", false)
	})
	mux.HandleFunc("POST /device", p.confirm)
	mux.Handle("/", provider)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("devidp: %w", err)
	}
	return nil
}

// confirm takes the page's form: who it is, and for which code.
func (p *Provider) confirm(w http.ResponseWriter, r *http.Request) {
	code, name := strings.ToUpper(strings.TrimSpace(r.PostFormValue("user_code"))), r.PostFormValue("user")
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok := p.users[name]
	if !ok || subtle.ConstantTimeCompare([]byte(u.Password), []byte(r.PostFormValue("password"))) != 1 {
		show(w, http.StatusForbidden, code, "no such user and password", false)
		return
	}
	for _, l := range p.logins {
		if l.code == code && !l.Done && !l.Denied && time.Now().Before(l.Expires) {
			l.Done, l.Denied = r.PostFormValue("deny") == "", r.PostFormValue("deny") != ""
			l.Subject, l.AuthTime = name, time.Now()
			show(w, http.StatusOK, code, "", true)
			return
		}
	}
	show(w, http.StatusBadRequest, code, "no such code, or it is over", false)
}

var page = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>development login</title>
<style>body{font:16px system-ui;max-width:24em;margin:4em auto}input,button{font:inherit;display:block;width:100%;margin:.5em 0;padding:.4em;box-sizing:border-box}</style>
{{if .Done}}<p>Done. You can close this page.{{else}}<h1>Log in</h1>{{with .Error}}<p role="alert">{{.}}</p>{{end}}
<form method="post" action="/device"><label>Code, as the program shows it <input name="user_code" value="{{.Code}}" required></label>
<label>User <input name="user" required autofocus></label><label>Password <input name="password" type="password" required></label>
<button>Log in</button><button name="deny" value="1">It was not me</button></form>{{end}}</html>`))

func show(w http.ResponseWriter, status int, code, problem string, done bool) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.WriteHeader(status)
	_ = page.Execute(w, map[string]any{"Code": code, "Error": problem, "Done": done})
}

// Confirm does what a user does on the page of a provider of this kind: it is
// for the demonstration and for tests.
func Confirm(ctx context.Context, verification, code, user, password string) error {
	form := url.Values{"user_code": {code}, "user": {user}, "password": {password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, verification, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("devidp: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("devidp: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusForbidden:
		return errors.New("devidp: the provider knows no such user with that password")
	case http.StatusBadRequest:
		return errors.New("devidp: the provider waits for no such code: codes are used once, and last some minutes")
	}
	return fmt.Errorf("devidp: the provider refused: %s", resp.Status)
}

// Token signs an ID token for a subject.
func (p *Provider) Token(subject string, groups []string) (string, error) {
	now := time.Now()
	return p.Sign(map[string]any{"iss": p.url, "sub": subject, "aud": p.ClientID, "iat": now.Unix(), "exp": now.Add(p.lifetime()).Unix(), "groups": groups})
}

func (p *Provider) lifetime() time.Duration {
	if p.Lifetime == 0 {
		return time.Hour
	}
	return p.Lifetime
}

// Sign signs any claims, as tests of what a token may not say need it.
func (p *Provider) Sign(claims map[string]any) (string, error) {
	b, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	s, err := p.signer.Sign(b)
	if err != nil {
		return "", err
	}
	return s.CompactSerialize()
}
