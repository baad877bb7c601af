package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
)

// SSH is how clients reach the gateway by SSH, and know it again.
type SSH struct {
	Address  string   `json:"address"`
	HostKeys []string `json:"host_keys"` // as known_hosts has them
	UserCA   string   `json:"user_ca"`   // signs the certificates that open it
}

// Certificate is one that the gateway has made. It is no secret.
type Certificate struct {
	Certificate string    `json:"certificate"` // as a file for ssh has it
	Expires     time.Time `json:"expires"`
	Tasks       []string  `json:"tasks"`
}

// The bounds of logins that an SSH client waits for.
const (
	maxAsks    = 500
	maxNamed   = 128 // bytes of a task or a resource that is shown on a page
	keyAtMost  = 16 << 10
	askPath    = "/v1/ssh/ask/"
	noSSH      = "this gateway takes nobody by SSH"
	noSSHHint  = "`listeners: {ssh: …}` of its configuration"
	noHosts    = "none of your tasks has a resource that is reached by SSH"
	noHostHint = "`taskgate whoami` lists your tasks"
)

// sshSide is what the API knows of the SSH listener.
type sshSide struct {
	hostKeys func() []ssh.PublicKey // nil where there is no such listener
	front    atomic.Pointer[SSH]    // nil, the same
	page     atomic.Pointer[page]   // nil where nobody knows by which name it is reached
	issuer   atomic.Pointer[string] // of who cannot choose, as at SASL

	mu   sync.Mutex
	asks map[string]*asked // by the id of their page
}

// page is where the API is reached.
type page struct {
	url   string
	local bool // from this host alone
}

// asked is what the page of a login says that an SSH client waits for.
type asked struct {
	Task, Resource, Address string
	URL, Code               string
}

// tellSSH notes how clients reach the SSH listener, once the listeners are open.
func (s *Server) tellSSH(c *config.Config) {
	s.ssh.front.Store(nil)
	s.ssh.page.Store(nil)
	s.ssh.issuer.Store(&c.Issuers[0].URL)
	if api := c.Listeners.API; api != nil && s.fronts["api"] != nil {
		scheme, address := "http://", s.fronts["api"].Addr().String()
		if api.Cert != "" {
			scheme = "https://"
		}
		if api.Public != "" {
			address = api.Public
		}
		if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsUnspecified() {
			s.ssh.page.Store(&page{scheme + address, err == nil && at.Addr().IsLoopback()})
		}
	}
	l, f := c.Listeners.All()["ssh"], s.fronts["ssh"]
	if l == nil || f == nil || s.ssh.hostKeys == nil || s.logins.CA() == nil {
		return
	}
	to := &SSH{Address: f.Addr().String(), UserCA: line(s.logins.CA().PublicKey())}
	if l.Public != "" {
		to.Address = l.Public
	}
	for _, k := range s.ssh.hostKeys() {
		to.HostKeys = append(to.HostKeys, line(k))
	}
	s.ssh.front.Store(to)
}

func line(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

// sshRoutes adds what clients of the SSH listener need beside it.
func (s *Server) sshRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/ssh", func(w http.ResponseWriter, _ *http.Request) {
		if to := s.ssh.front.Load(); to != nil {
			reply(w, http.StatusOK, to)
			return
		}
		failHint(w, http.StatusNotFound, noSSH, noSSHHint)
	})
	mux.HandleFunc("POST /v1/ssh/certificate", s.certify)
	mux.HandleFunc("GET /v1/ssh/ask/{id}", s.showAsked)
}

// hosts gives the resources of a task that are reached by SSH.
func hosts(gen *gate.Generation, t *gate.Task) (names []string) {
	for _, name := range t.Resources {
		if r := gen.Resources[name]; r != nil && r.Protocol == "ssh" {
			names = append(names, name)
		}
	}
	return names
}

func (s *Server) certify(w http.ResponseWriter, r *http.Request) {
	var in struct {
		PublicKey string `json:"public_key"`
		Task      string `json:"task"`
		Resource  string `json:"resource"`
		Minutes   int64  `json:"minutes"`
	}
	if !take(w, r, &in) {
		return
	}
	t, l, ok := s.bearer(w, r)
	if !ok {
		return
	}
	if s.ssh.front.Load() == nil {
		failHint(w, http.StatusNotFound, noSSH, noSSHHint)
		return
	}
	lasts := auth.CertificateLasts
	if in.Minutes != 0 {
		if in.Minutes < 0 || in.Minutes > int64(auth.CertificateAtMost/time.Minute) {
			fail(w, http.StatusBadRequest, fmt.Sprintf("minutes: 1 to %d are expected, not %d", int64(auth.CertificateAtMost/time.Minute), in.Minutes))
			return
		}
		lasts = time.Duration(in.Minutes) * time.Minute
	}
	key, err := publicKey(in.PublicKey)
	if err != nil {
		failHint(w, http.StatusBadRequest, "public_key: "+err.Error(), "the one line of a file like id_ed25519.pub")
		return
	}
	if t.Audience != auth.Data {
		failHint(w, http.StatusForbidden, "a token for decisions opens no host", "taskgate login gives one that does")
		return
	}
	only := in.Resource
	if t.Resource != "" && only == "" {
		only = t.Resource
	}
	gen, want := s.gate.Current(), auth.Certified{Key: key, Resource: in.Resource, Lasts: lasts}
	for _, task := range gen.Allowed(l.Groups) {
		has := hosts(gen, task)
		if len(has) > 0 && (in.Task == "" || in.Task == task.Name) && (t.Task == "" || t.Task == task.Name) && (only == "" || slices.Contains(has, only)) {
			want.Tasks = append(want.Tasks, task.Name)
		}
	}
	switch {
	case len(want.Tasks) > 0:
	case in.Task != "":
		failHint(w, http.StatusForbidden, fmt.Sprintf("no such task for you, or none of its resources is reached by SSH: %q", in.Task), noHostHint)
		return
	case in.Resource != "":
		failHint(w, http.StatusForbidden, fmt.Sprintf("no task of yours covers the resource %q, or it is not reached by SSH", in.Resource), noHostHint)
		return
	default:
		failHint(w, http.StatusForbidden, noHosts, noHostHint)
		return
	}
	c, err := s.logins.Certify(t, l, want)
	if errors.Is(err, auth.ErrToken) {
		fail(w, http.StatusUnauthorized, err.Error())
		return
	} else if err != nil {
		failHint(w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), "auth: "), "")
		return
	}
	end := time.Unix(int64(c.ValidBefore), 0).UTC()
	if err := s.note(l.Subject, fmt.Sprintf("SSH certificate %016x of login %s for tasks %q on %q from %q until %s, key %s", c.Serial, l.ID, want.Tasks, only, t.From, end.Format(time.RFC3339), ssh.FingerprintSHA256(key))); err != nil {
		fail(w, http.StatusInternalServerError, "the certificate could not be recorded")
		return
	}
	reply(w, http.StatusOK, Certificate{line(c), end, want.Tasks})
}

// publicKey reads one key as authorized_keys has it, without options.
func publicKey(text string) (ssh.PublicKey, error) {
	if len(text) > keyAtMost {
		return nil, fmt.Errorf("%d bytes are no key", len(text))
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return nil, errors.New("no public key as ssh-keygen writes it")
	case len(options) > 0 || strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("one key is expected, and nothing else")
	}
	return key, nil
}

// askSSH begins a login for who has come by SSH without anything to show. What
// its Wait gives is good for that task on that resource, from there, alone.
// When ctx ends so does the login, confirmed or not.
func (s *Server) askSSH(ctx context.Context, task, resource, address string) (*sshproto.Asked, error) {
	ip, err := addressOf(address)
	if err != nil {
		return nil, err
	}
	if !shown(task) || !shown(resource) {
		return nil, errors.New("server: no names that could be shown to anybody")
	}
	d, err := s.logins.Begin(ctx, *s.ssh.issuer.Load(), ip.String(), auth.Data)
	if err != nil {
		return nil, err
	}
	id, url := rand.Text(), d.URL
	if page := s.ssh.page.Load(); page != nil && (!page.local || ip.IsLoopback()) {
		if err := s.ssh.add(id, &asked{task, resource, ip.String(), d.URL, d.Code}); err != nil {
			s.logins.Abandon(d.ID)
			return nil, err
		}
		url = page.url + askPath + id
		time.AfterFunc(time.Until(d.Expires), func() { s.ssh.drop(id) })
	}
	stop := context.AfterFunc(ctx, func() { s.ssh.drop(id); s.logins.Abandon(d.ID) })
	return &sshproto.Asked{URL: url, Code: d.Code, Wait: func() (string, error) {
		l, token, err := s.logins.Wait(ctx, d.ID)
		stop()
		s.ssh.drop(id)
		if err != nil {
			s.logins.Abandon(d.ID)
			return "", err
		}
		narrow, _, err := s.logins.Narrow(ctx, token, ip.String(), task, resource, narrowAtMost, []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())})
		if err != nil {
			return "", err
		}
		if err := s.note(l.Subject, fmt.Sprintf("login %s of %s at %s from %s by SSH for task %q on %q, groups %q", l.ID, l.Subject, l.Issuer, ip, task, resource, l.Groups)); err != nil {
			return "", err
		}
		return narrow, nil
	}}, nil
}

func addressOf(client string) (netip.Addr, error) {
	if h, _, err := net.SplitHostPort(client); err == nil {
		client = h
	}
	ip, err := netip.ParseAddr(client)
	if err != nil {
		return ip, fmt.Errorf("server: no address of a client: %w", err)
	}
	return ip.Unmap().WithZone(""), nil
}

// shown says whether a name that anybody may have sent can stand on a page.
func shown(name string) bool {
	return name != "" && len(name) <= maxNamed && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar })
}

func (a *sshSide) add(id string, x *asked) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asks) >= maxAsks {
		return auth.ErrBusy
	}
	if a.asks == nil {
		a.asks = map[string]*asked{}
	}
	a.asks[id] = x
	return nil
}

func (a *sshSide) drop(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asks, id)
}

var askPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>taskgate</title>
<h1>Somebody wants to log in by SSH</h1>
<table>
<tr><th align="left">task<td>{{.Task}}
<tr><th align="left">host<td>{{.Resource}}
<tr><th align="left">from<td>{{.Address}}
<tr><th align="left">code<td><strong>{{.Code}}</strong>
</table>
<p>Go on only if that is you: a terminal in front of you shows this address and this code. If somebody has sent you here, close this page.
<p><a rel="noreferrer" href="{{.URL}}">Go on to your identity provider</a>, which asks for the code.
</html>
`))

// showAsked shows who waits for a login, before its user is sent on (ID13).
func (s *Server) showAsked(w http.ResponseWriter, r *http.Request) {
	s.ssh.mu.Lock()
	x := s.ssh.asks[r.PathValue("id")]
	s.ssh.mu.Unlock()
	if x == nil {
		fail(w, http.StatusNotFound, "no such login is under way: it is over, or was never asked for")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if err := askPage.Execute(w, x); err != nil {
		s.Log.Warn().Err(err).Msg("page")
	}
}
