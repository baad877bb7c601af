package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
)

// How logins are looked after and waited for.
const (
	regroupEvery = 30 * time.Second
	waitAtMost   = 20 * time.Second // in one request
	narrowAtMost = 12 * time.Hour
	maxFrom      = 20   // addresses or ranges of one token
	maxWatching  = 1000 // at once
)

func issuers(c *config.Config) []auth.Issuer {
	var list []auth.Issuer
	for _, i := range c.Issuers {
		a := auth.Issuer{URL: i.URL, ClientID: i.ClientID, Subject: i.Subject, Groups: i.Groups, MayAssert: i.MayAssert, NoRaw: !i.RawTokens, Scopes: i.Scopes, Roles: i.Roles, People: i.People}
		if i.Secret != nil {
			a.Secret = i.Secret.Resolve
		}
		list = append(list, a)
	}
	return list
}

// regroup asks, again and again, what groups the logins of open sessions have,
// and ends the sessions that have lost their right.
func (s *Server) regroup(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.endForeign()
		seen := map[string]bool{"": true}
		for _, x := range s.gate.Sessions() {
			if id := x.Login(); !seen[id] {
				seen[id] = true
				s.regroupOne(ctx, id)
			}
		}
	}
}

// endForeign ends the sessions that no issuer of now would have given.
func (s *Server) endForeign() {
	gen := s.gate.Current()
	for _, x := range s.gate.Sessions() {
		a := x.About()
		groups, ours := s.logins.Asserted(a.Issuer, a.Groups)
		if !ours {
			x.End(&gate.Ended{Reason: "the issuer that your login is from is no longer trusted"})
		} else if err := gen.Permits(a.Task, a.Resource, groups); err != nil {
			x.End(&gate.Ended{Reason: err.Error()})
		}
	}
}

func (s *Server) regroupOne(ctx context.Context, login string) {
	r, err := s.logins.Current(ctx, login)
	if err == nil || ctx.Err() == nil {
		s.regrouped(login, r, err)
	}
}

// refresh is regroupOne before a command is released that was held: the groups
// are asked for now, and where they cannot be had the command does not run.
func (s *Server) refresh(ctx context.Context, login string) error {
	r, err := s.logins.Anew(ctx, login)
	if err == nil || errors.Is(err, auth.ErrToken) {
		s.regrouped(login, r, err)
	}
	return err
}

func (s *Server) regrouped(login string, r *auth.Record, err error) {
	var groups []string
	if err == nil {
		groups = r.Groups
	}
	over := err
	if err != nil && !errors.Is(err, auth.ErrToken) { // why it cannot be asked is for the log
		over = errors.New("your login cannot be checked now")
	}
	if n := s.gate.Regroup(login, groups, over); n > 0 {
		s.Log.Info().Str("login", login).Int("sessions", n).AnErr("why", err).Msg("sessions lost their right")
	}
}

// Front is how clients reach a protocol of the gateway.
type Front struct {
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
}

// TaskStatus is a task that a subject may do now.
type TaskStatus struct {
	Name      string   `json:"name"`
	Resources []string `json:"resources"`
	SSH       []string `json:"ssh,omitempty"` // those of them that are reached by SSH
}

// Me is who a token is for, and what it opens.
type Me struct {
	Issuer   string       `json:"issuer"`
	Subject  string       `json:"subject"`
	Groups   []string     `json:"groups"`
	Expires  time.Time    `json:"expires"`
	Audience string       `json:"audience"` // data or control
	Tasks    []TaskStatus `json:"tasks"`
	Postgres Front        `json:"postgres,omitzero"` // where the gateway speaks it
}

// Token is one that the gateway has handed out. It is a secret.
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// api is what the API listener offers: health to anybody, logins, and to whoever
// has a token of the gateway what concerns it.
func (s *Server) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.unready(); why != nil {
			http.Error(w, "not ready: "+why.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /v1/login", s.beginLogin)
	mux.HandleFunc("POST /v1/login/wait", s.waitLogin)
	mux.HandleFunc("POST /v1/login/code", s.redeemLogin)
	mux.HandleFunc("GET /v1/me", s.me)
	mux.HandleFunc("POST /v1/tokens", s.narrow)
	mux.HandleFunc("POST /v1/logout", s.logout)
	s.approvalRoutes(mux)
	s.sshRoutes(mux)
	return mux
}

func (s *Server) beginLogin(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Issuer   string `json:"issuer"`
		Redirect string `json:"redirect"` // of a browser; without it a device's code is given
		For      string `json:"for"`      // data, which is the default, or control
	}
	if !take(w, r, &in) {
		return
	}
	purpose := auth.Data
	switch in.For {
	case "", "data":
	case "control":
		purpose = auth.Control
	default:
		failHint(w, http.StatusBadRequest, fmt.Sprintf("for: %q", in.For), "data, to connect, or control, to decide requests")
		return
	}
	var d any
	var err error
	if in.Redirect == "" {
		d, err = s.logins.Begin(r.Context(), in.Issuer, host(r), purpose)
	} else {
		d, err = s.logins.BeginBrowser(r.Context(), in.Issuer, host(r), in.Redirect, purpose)
	}
	switch {
	case errors.Is(err, auth.ErrNoDevice):
		fail(w, http.StatusNotImplemented, err.Error())
	case errors.Is(err, auth.ErrRedirect):
		fail(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, auth.ErrBusy):
		fail(w, http.StatusTooManyRequests, err.Error())
	case errors.Is(err, auth.ErrIssuer):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil: // X20: whoever asks is not known yet
		s.Log.Warn().Err(err).Msg("login")
		fail(w, http.StatusBadGateway, "the identity provider does not answer, or does not take the gateway for its client")
	default:
		reply(w, http.StatusOK, d)
	}
}

func (s *Server) waitLogin(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID string `json:"id"`
	}
	if !take(w, r, &in) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitAtMost)
	defer cancel()
	l, token, err := s.logins.Wait(ctx, in.ID)
	if errors.Is(err, auth.ErrPending) {
		reply(w, http.StatusAccepted, struct{}{})
		return
	}
	s.handOut(w, r, l, token, err)
}

// redeemLogin takes the code that a browser came back with.
func (s *Server) redeemLogin(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID    string `json:"id"`
		State string `json:"state"`
		Code  string `json:"code"`
	}
	if !take(w, r, &in) {
		return
	}
	l, token, err := s.logins.Redeem(r.Context(), in.ID, in.State, in.Code)
	s.handOut(w, r, l, token, err)
}

// handOut gives the token of a login, once that is recorded.
func (s *Server) handOut(w http.ResponseWriter, r *http.Request, l *auth.Record, token string, err error) {
	switch {
	case errors.Is(err, auth.ErrUnknown):
		fail(w, http.StatusNotFound, "no such login is under way")
	case errors.Is(err, auth.ErrStale):
		failHint(w, http.StatusForbidden, err.Error(), "log out at the identity provider and in again, or log in by the browser, which asks it to ask you")
	case err != nil:
		s.Log.Warn().Err(err).Msg("login")
		refuse(w, http.StatusForbidden, err)
	default:
		t, _, err := s.logins.Lookup(r.Context(), token, host(r))
		if err != nil {
			refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		what := "login"
		if t.Audience == auth.Control {
			what = "login for decisions"
		}
		if err := s.note(l.Subject, fmt.Sprintf("%s %s of %s at %s from %s, groups %q", what, l.ID, l.Subject, l.Issuer, host(r), l.Groups)); err != nil {
			fail(w, http.StatusInternalServerError, "the login could not be recorded")
			return
		}
		reply(w, http.StatusOK, Token{token, t.Expires})
	}
}

func (s *Server) me(w http.ResponseWriter, r *http.Request) {
	t, l, ok := s.bearer(w, r)
	if !ok {
		return
	}
	me := Me{Issuer: l.Issuer, Subject: l.Subject, Groups: l.Groups, Expires: t.Expires, Audience: "data", Tasks: []TaskStatus{}}
	if to := s.front.Load(); to != nil {
		me.Postgres = *to
	}
	if t.Audience == auth.Control { // it opens no task
		me.Audience = "control"
		reply(w, http.StatusOK, me)
		return
	}
	gen := s.gate.Current()
	for _, task := range gen.Allowed(l.Groups) {
		if t.Task == "" || t.Task == task.Name {
			me.Tasks = append(me.Tasks, TaskStatus{task.Name, task.Resources, hosts(gen, task)})
		}
	}
	reply(w, http.StatusOK, me)
}

func (s *Server) narrow(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Task     string   `json:"task"`
		Resource string   `json:"resource"`
		Seconds  int64    `json:"seconds"`
		From     []string `json:"from"`
	}
	if !take(w, r, &in) {
		return
	}
	t, l, ok := s.bearer(w, r)
	if !ok {
		return
	}
	if t.Audience != auth.Data {
		fail(w, http.StatusForbidden, "a token for decisions makes no others")
		return
	}
	lasts := time.Duration(in.Seconds) * time.Second
	if in.Seconds <= 0 || in.Seconds > int64(narrowAtMost/time.Second) {
		fail(w, http.StatusBadRequest, fmt.Sprintf("a token lasts from 1s to %s, not %s", narrowAtMost, time.Duration(in.Seconds)*time.Second))
		return
	}
	from, err := prefixes(in.From)
	if err != nil {
		fail(w, http.StatusBadRequest, "from: "+err.Error())
		return
	}
	if err := s.gate.Current().Permits(in.Task, in.Resource, l.Groups); err != nil {
		failHint(w, http.StatusForbidden, err.Error(), "`taskgate whoami` lists your tasks and their resources")
		return
	}
	token, end, err := s.logins.Narrow(r.Context(), secret(r), host(r), in.Task, in.Resource, lasts, from)
	if err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	if err := s.note(l.Subject, fmt.Sprintf("token of login %s for task %q on %q from %q until %s", l.ID, in.Task, in.Resource, in.From, end.UTC().Format(time.RFC3339))); err != nil {
		fail(w, http.StatusInternalServerError, "the token could not be recorded")
		return
	}
	reply(w, http.StatusOK, Token{token, end})
}

// prefixes reads addresses and ranges of them.
func prefixes(list []string) (all []netip.Prefix, err error) {
	if len(list) > maxFrom {
		return nil, fmt.Errorf("at most %d are expected, not %d", maxFrom, len(list))
	}
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil || ip.Zone() != "" {
				return nil, fmt.Errorf("%q: an address or a range like 192.0.2.0/24 is expected", text)
			}
			p = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	l, err := s.logins.End(r.Context(), secret(r))
	if l != nil {
		s.regroupOne(context.WithoutCancel(r.Context()), l.ID)
	}
	if err != nil {
		refuse(w, http.StatusUnauthorized, err)
		return
	}
	if err := s.note(l.Subject, "logout of login "+l.ID); err != nil {
		fail(w, http.StatusInternalServerError, "you are logged out, but that could not be recorded")
		return
	}
	reply(w, http.StatusOK, struct{}{})
}

// bearer gives who a request is from (RFC 6750, section 2.1).
func (s *Server) bearer(w http.ResponseWriter, r *http.Request) (*auth.Token, *auth.Record, bool) {
	t, l, err := s.logins.Lookup(r.Context(), secret(r), host(r))
	if err == nil {
		return t, l, true
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	if errors.Is(err, auth.ErrToken) {
		fail(w, http.StatusUnauthorized, err.Error())
	} else {
		s.Log.Warn().Err(err).Msg("token")
		fail(w, http.StatusServiceUnavailable, "the token cannot be checked now")
	}
	return nil, nil, false
}

func secret(r *http.Request) string {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return token
}

// take reads a small JSON body, strictly.
func take(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		fail(w, http.StatusBadRequest, "the request is not the JSON that is expected: "+err.Error())
		return false
	}
	return true
}

func fail(w http.ResponseWriter, status int, why string) {
	reply(w, status, map[string]string{"error": why})
}

// refuse tells a client why, without what is the log's alone.
func refuse(w http.ResponseWriter, status int, err error) {
	if errors.Is(err, auth.ErrStore) {
		fail(w, http.StatusServiceUnavailable, auth.ErrStore.Error())
		return
	}
	fail(w, status, strings.TrimPrefix(err.Error(), "auth: "))
}

func host(r *http.Request) string {
	h, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return h
}
