// Package devidp is a small identity provider for the demonstration and for
// tests: users from a file, ID tokens by password, on loopback alone. It is no
// provider for anything else.
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
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
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

	mu     sync.Mutex
	users  map[string]User
	url    string
	key    *ecdsa.PrivateKey
	signer jose.Signer
}

// SetUsers replaces the users.
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
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "dev"}}, nil)
	}
	if err != nil {
		l.Close()
		return nil, "", fmt.Errorf("devidp: %w", err)
	}
	p.url = "http://" + l.Addr().String()
	return l, p.url, nil
}

// Run serves until ctx is done.
func (p *Provider) Run(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys", "token_endpoint": p.url + "/token", "authorization_endpoint": p.url + "/none",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "dev", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", p.token)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("devidp: %w", err)
	}
	return nil
}

// token answers the password grant (RFC 6749, section 4.3).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("username")
	if r.PostFormValue("grant_type") != "password" || r.PostFormValue("client_id") != p.ClientID {
		write(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"})
		return
	}
	p.mu.Lock()
	u, ok := p.users[name]
	p.mu.Unlock()
	if !ok || subtle.ConstantTimeCompare([]byte(u.Password), []byte(r.PostFormValue("password"))) != 1 {
		write(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	t, err := p.Token(name, u.Groups)
	if err != nil {
		write(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
		return
	}
	write(w, http.StatusOK, map[string]string{"id_token": t, "token_type": "Bearer"})
}

// Token signs an ID token for a subject.
func (p *Provider) Token(subject string, groups []string) (string, error) {
	life := p.Lifetime
	if life == 0 {
		life = time.Hour
	}
	now := time.Now()
	return p.Sign(map[string]any{"iss": p.url, "sub": subject, "aud": p.ClientID, "iat": now.Unix(), "exp": now.Add(life).Unix(), "groups": groups})
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

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
