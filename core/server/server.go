package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/store"
	"github.com/taskgate/taskgate/core/wasm"
)

// Server is one running gateway.
type Server struct {
	Config  config.Source
	Version string
	Log     zerolog.Logger
	Grace   time.Duration // that sessions have to end in when the gateway stops
	Ready   func(addresses map[string]string)

	gate   *gate.Gate
	host   *wasm.Host
	audit  *audit.Log
	logins *auth.Logins
	front  Front
	clock  func() time.Time // of logins; nil is time.Now
	mu     sync.Mutex       // one reload at a time
}

// headBytes is what `record.results: head` keeps of each result.
const headBytes = 64 << 10

// Run serves until ctx is done, then lets sessions end, and returns.
func (s *Server) Run(ctx context.Context) (err error) {
	c, err := config.Load(s.Config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	for _, missing := range Secrets(c) {
		s.Log.Warn().Msg(missing)
	}
	if s.host, err = wasm.Open(filepath.Join(c.Data, "modules")); err != nil {
		return err
	}
	s.host.Version = s.Version
	s.host.Log = func(module, line string) { s.Log.Info().Str("module", module).Msg(clean(line)) }
	defer s.host.Close()
	var found audit.Recovery
	if s.audit, found, err = audit.Open(filepath.Join(c.Data, "audit"), audit.Options{Sync: audit.Sync(c.Audit.Sync), Witness: c.Audit.Witness}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.audit.Close()) }()
	if found.Torn != nil {
		s.Log.Warn().Str("torn", found.Torn.String()).Msg("the audit log had a torn tail")
	}
	head := headBytes
	switch c.Record {
	case "none":
		head = 0
	case "full":
		head = 1 << 40
	}
	recorder, err := record.Open(filepath.Join(c.Data, "recordings"), head)
	if err != nil {
		return err
	}
	rows, err := store.Open(ctx, filepath.Join(c.Data, "store.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	authority := auth.New(issuers(c))
	if s.clock != nil {
		authority.SetClock(s.clock)
	}
	if s.logins, err = auth.NewLogins(authority, rows, filepath.Join(c.Data, "keys", "seal")); err != nil {
		return err
	}
	defer s.logins.Close()
	s.gate = &gate.Gate{Identity: s.logins, Dialer: Dialer{}, Log: s.audit, Recorder: recorder}
	gen, _, err := Build(ctx, s.host, c)
	if err != nil {
		return err
	}
	s.gate.Swap(gen)
	defer s.gate.Swap(&gate.Generation{})
	if err := s.note("gateway", "started, version "+s.Version); err != nil {
		return err
	}

	// What carries sessions outlives the listeners, until they have drained.
	below, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var base errgroup.Group
	base.Go(func() error { return s.audit.Run(below) })
	base.Go(func() error { return recorder.Run(below) })
	pg := &postgres.Protocol{Plain: c.Listeners.Postgres.Plain, Log: func(session, what string, err error) {
		s.Log.Warn().Str("session", session).Str("what", what).Msg(clean(err.Error()))
	}}
	first := c.Issuers[0]
	pg.OAuth = postgres.OAuth{Configuration: strings.TrimRight(first.URL, "/") + "/.well-known/openid-configuration", Scope: strings.Join(append([]string{"openid"}, first.Scopes...), " ")}
	if pg.TLS, err = certificate(c.Listeners.Postgres); err != nil {
		return err
	}
	base.Go(func() error { return pg.Run(below) })
	base.Go(func() error { return s.regroup(below, regroupEvery) })

	addresses := map[string]string{}
	top, gctx := errgroup.WithContext(ctx)
	var sessions sync.WaitGroup
	l, err := net.Listen("tcp", c.Listeners.Postgres.Address)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	addresses["postgres"] = l.Addr().String()
	s.front = Front{Address: addresses["postgres"], TLS: pg.TLS != nil}
	if p := c.Listeners.Postgres.Public; p != "" {
		s.front.Address = p
	}
	top.Go(func() error { return s.accept(gctx, l, func(nc net.Conn) { s.serve(below, pg, nc, &sessions) }) })
	if a := c.Listeners.API; a != nil {
		h, err := net.Listen("tcp", a.Address)
		if err != nil {
			return errors.Join(fmt.Errorf("server: %w", err), l.Close())
		}
		addresses["api"] = h.Addr().String()
		config, err := certificate(a)
		if err != nil {
			return errors.Join(err, l.Close(), h.Close())
		}
		if config != nil {
			h = tls.NewListener(h, config)
		}
		top.Go(func() error { return serveHTTP(gctx, h, s.api()) })
	}
	socket := filepath.Join(c.Data, "admin.sock")
	_ = os.Remove(socket)
	old := unix.Umask(0o177)
	u, err := net.Listen("unix", socket)
	unix.Umask(old)
	if err != nil {
		return errors.Join(fmt.Errorf("server: %w", err), l.Close())
	}
	top.Go(func() error { return serveHTTP(gctx, u, s.admin()) })
	s.Log.Info().Interface("addresses", addresses).Uint64("generation", s.gate.Current().Number).Msg("ready")
	if s.Ready != nil {
		s.Ready(addresses)
	}
	err = top.Wait()
	s.drain(&sessions)
	stop()
	err = errors.Join(err, base.Wait())
	return errors.Join(err, s.note("gateway", "stopped"))
}

// accept hands connections on; a failure that passes, as one of too many open
// files, is waited out (X11).
func (s *Server) accept(ctx context.Context, l net.Listener, f func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for wait := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			f(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.Log.Error().Err(err).Dur("wait", wait).Msg("accept")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) serve(ctx context.Context, p gate.Protocol, nc net.Conn, all *sync.WaitGroup) {
	all.Go(func() {
		defer func() {
			if r := recover(); r != nil { // X12: a fault in one connection ends that connection
				_ = nc.Close()
				s.Log.Error().Str("client", nc.RemoteAddr().String()).Msg(clean(fmt.Sprint("panic: ", r)))
			}
		}()
		if err := p.Serve(ctx, nc, s.gate); err != nil {
			s.Log.Info().Str("client", nc.RemoteAddr().String()).Msg(clean(err.Error()))
		}
	})
}

// drain lets sessions end by themselves, and then ends them.
func (s *Server) drain(sessions *sync.WaitGroup) {
	s.gate.Drain(&gate.Ended{Reason: "the gateway is shutting down", Shutdown: true})
	done := make(chan struct{})
	go func() { sessions.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(s.Grace):
	}
	n := s.gate.Kill("the gateway is shutting down", func(*gate.Session) bool { return true })
	s.Log.Info().Int("sessions", n).Msg("ended the sessions that were left")
	<-done
}

func (s *Server) note(who, what string) error {
	return s.audit.Append(context.Background(), gate.Note(time.Now(), who, what), true)
}

// Reload builds the next generation and swaps it in. A fault changes nothing.
func (s *Server) Reload(ctx context.Context, who string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := config.Load(s.Config)
	if err != nil {
		return nil, err
	}
	next, _, err := Build(ctx, s.host, c)
	if err != nil {
		return nil, err
	}
	changes := Changes(s.gate.Current(), next)
	if err := s.note(who, fmt.Sprintf("reload: %v", changes)); err != nil {
		next.Close()
		return nil, err
	}
	s.gate.Swap(next)
	s.Log.Info().Str("by", who).Strs("changes", changes).Uint64("generation", next.Number).Msg("reloaded")
	return changes, nil
}

func certificate(l *config.Listener) (*tls.Config, error) {
	if l.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peer(nc))
		}}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

type peerKey struct{}

// peer names the OS user at the other end of a Unix socket.
func peer(nc net.Conn) string {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ""
	}
	name := ""
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = "uid " + strconv.Itoa(int(cred.Uid))
			if who, err := user.LookupId(strconv.Itoa(int(cred.Uid))); err == nil {
				name = who.Username
			}
		}
	})
	return name
}

// SessionStatus is one open session as `taskgate status` shows it.
type SessionStatus struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"`
	Task     string    `json:"task"`
	Resource string    `json:"resource"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Commands uint64    `json:"commands"`
	Denied   uint64    `json:"denied"`
}

// Status is what `taskgate status` shows.
type Status struct {
	Version    string          `json:"version"`
	Generation uint64          `json:"generation"`
	Policy     string          `json:"policy"`
	Tasks      []string        `json:"tasks"`
	Guards     []gate.Module   `json:"guards"`
	Sessions   []SessionStatus `json:"sessions"`
}

// Status says how the gateway stands.
func (s *Server) Status() Status {
	gen := s.gate.Current()
	st := Status{Version: s.Version, Generation: gen.Number, Policy: gen.Digest}
	for name := range gen.Tasks {
		st.Tasks = append(st.Tasks, name)
	}
	sort.Strings(st.Tasks)
	for _, g := range gen.Guards {
		st.Guards = append(st.Guards, gate.Module{Name: g.Name(), Digest: g.Digest()})
	}
	for _, x := range s.gate.Sessions() {
		a := x.About()
		n, denied := x.Counts()
		st.Sessions = append(st.Sessions, SessionStatus{x.ID(), a.Subject, a.Task, a.Resource, a.Address, x.Started(), n, denied})
	}
	sort.Slice(st.Sessions, func(i, j int) bool { return st.Sessions[i].Since.Before(st.Sessions[j].Since) })
	return st
}

// admin is what the socket in the data directory offers: whoever can open it
// is the operator.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Status()) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		changes, err := s.Reload(r.Context(), who)
		if err != nil {
			reply(w, http.StatusConflict, map[string]string{"error": err.Error()})
			return
		}
		reply(w, http.StatusOK, map[string]any{"changes": changes, "generation": s.gate.Current().Number})
	})
	mux.HandleFunc("POST /kill", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		id, subject := r.FormValue("session"), r.FormValue("subject")
		if id == "" && subject == "" {
			reply(w, http.StatusBadRequest, map[string]string{"error": "name a session or a subject"})
			return
		}
		if err := s.note(who, fmt.Sprintf("kill: session %q, subject %q", id, subject)); err != nil {
			reply(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
			return
		}
		n := s.gate.Kill("ended by the operator "+who, func(x *gate.Session) bool {
			return id != "" && x.ID() == id || subject != "" && x.About().Subject == subject
		})
		reply(w, http.StatusOK, map[string]int{"ended": n})
	})
	return mux
}

// metrics are counted by the gate and read when somebody asks.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, f func(gate.Counts) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "taskgate", Name: name, Help: help}, func() float64 { return float64(f(s.gate.Counts())) }))
	}
	counter("commands_total", "Commands that were judged.", func(c gate.Counts) uint64 { return c.Commands })
	counter("denied_total", "Commands that were refused or held.", func(c gate.Counts) uint64 { return c.Denied })
	counter("logins_refused_total", "Logins that were refused.", func(c gate.Counts) uint64 { return c.LoginsRefused })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "taskgate", Name: "sessions", Help: "Open sessions."}, func() float64 { return float64(len(s.gate.Sessions())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "taskgate", Name: "generation", Help: "The generation that judges."}, func() float64 { return float64(s.gate.Current().Number) }))
	return r
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
