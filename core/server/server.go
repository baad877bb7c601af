package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/store"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/internal/count"
)

// Server is one running gateway.
type Server struct {
	Config  config.Source
	Version string
	Log     zerolog.Logger
	Grace   time.Duration // that sessions have to end in when the gateway stops
	Ready   func(addresses map[string]string)

	failed    atomic.Int64 // the second in which it was last said that a guard failed
	gate      *gate.Gate
	host      *wasm.Host
	audit     *audit.Log
	logins    *auth.Logins
	approvals *approval.Service
	hooks     *approval.Webhooks
	watching  atomic.Int64 // who waits for changes of requests
	pg        *postgres.Protocol
	protocols map[string]gate.Protocol // by the name of their listener
	keys      atomic.Pointer[sshKeys]  // nil where there is no SSH listener
	own       atomic.Pointer[[]string] // where the gateway itself is reached
	metrics   *metrics
	front     atomic.Pointer[Front] // how psql gets here
	ssh       sshSide               // what the API has for clients of SSH
	clock     func() time.Time      // of logins; nil is time.Now

	top       *errgroup.Group
	listening context.Context // what the listeners run under
	carrying  context.Context // and the connections
	conns     sync.WaitGroup

	mu       sync.Mutex // one reload at a time; guards what follows
	config   *config.Config
	seen     *reading // what it and its generation were read from
	fronts   map[string]*front
	stopping bool
}

// headBytes is what `record.results: head` keeps of each result.
const headBytes = 64 << 10

// Run serves until ctx is done, then lets sessions end, and returns.
func (s *Server) Run(ctx context.Context) (err error) {
	seen := look(s.Config.Path)
	c, err := config.Load(s.Config)
	if err != nil {
		return err
	}
	seen.of(c)
	if _, _, err := plan(c); err != nil { // before anything is made
		return err
	}
	certs, err := certificates(c)
	if err != nil {
		return err
	}
	if err := ownData(c.Data); err != nil {
		return err
	}
	keys, err := openKeys(c, c.Data)
	if err != nil {
		return err
	}
	for _, missing := range Secrets(c) {
		s.Log.Warn().Msg(missing)
	}
	s.Log.Info().Str("config", s.Config.Path).Str("data", c.Data).Str("version", s.Version).Msg("starting")
	if s.host, err = wasm.Open(filepath.Join(c.Data, "modules")); err != nil {
		return err
	}
	s.host.Version = s.Version
	s.host.Log = func(module, line string) { s.Log.Info().Str("module", module).Msg(clean(line)) }
	defer s.host.Close()
	gen, _, err := Build(ctx, s.host, c)
	if err != nil {
		return err
	}
	defer func() {
		if s.gate == nil {
			gen.Close()
		}
	}()
	seen = seen.still(s.Config.Path, c)
	s.metrics = s.newMetrics()
	var found audit.Recovery
	if s.audit, found, err = audit.Open(filepath.Join(c.Data, "audit"), audit.Options{Sync: audit.Sync(c.Audit.Sync), Witness: c.Audit.Witness,
		Synced: func(took time.Duration) { s.metrics.sync.Observe(took.Seconds()) }}); err != nil {
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
	key, err := maskKey(filepath.Join(c.Data, "mask.key"))
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.hooks = &approval.Webhooks{Failed: s.webhookFailed}
	s.approvals = s.approving(s.audit, rows)
	if err := s.approvals.Start(ctx); err != nil {
		return err
	}
	s.gate = &gate.Gate{Identity: s.logins, Dialer: Dialer{Foreign: s.foreign}, Log: s.audit, Recorder: recorder, Judged: s.judged, Refused: s.refusedLogin, Approver: s.approvals, Refresh: s.refresh, Ran: s.ran, MaskKey: key}
	s.gate.Swap(gen)
	defer s.gate.Swap(&gate.Generation{})
	opened, err := s.open(c)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	admin, err := adminSocket(filepath.Join(c.Data, "admin.sock"))
	if err == nil {
		err = s.note("gateway", "started, version "+s.Version)
	}
	if err != nil {
		for _, f := range opened {
			f.Close()
		}
		return err
	}

	// What carries sessions outlives the listeners, and those the order to stop.
	below, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var base errgroup.Group
	carry := func(what string, f func(context.Context) error) {
		base.Go(func() error {
			err := f(below)
			if err != nil {
				s.Log.Error().Msg(what + ": " + clean(err.Error()))
			}
			return err
		})
	}
	s.pg = &postgres.Protocol{Log: s.protocolLog, Ended: func(reason string) { s.metrics.ends.WithLabelValues(reason).Inc() }}
	s.protocols = map[string]gate.Protocol{"postgres": s.pg, "ssh": &sshproto.Protocol{Settings: s.settings, Ask: s.askSSH, Log: s.protocolLog, Ended: func(reason string) { s.metrics.sshEnds.WithLabelValues(reason).Inc() }}}
	s.ssh.hostKeys = s.hostKeys
	carry("audit", s.audit.Run)
	carry("recordings", recorder.Run)
	carry("postgres", s.pg.Run)
	carry("webhooks", s.hooks.Run)
	carry("groups", func(ctx context.Context) error { return s.regroup(ctx, regroupEvery) })
	var cut, closing context.CancelFunc
	s.carrying, cut = context.WithCancel(below)
	s.listening, closing = context.WithCancel(below)
	defer cut()
	defer closing()
	var failed context.Context // a listener is broken
	s.top, failed = errgroup.WithContext(below)
	s.top.Go(func() error { return s.serveHTTP(s.listening, admin, s.steady(s.admin())) })
	s.mu.Lock()
	s.config, s.seen, s.fronts = c, seen, map[string]*front{}
	s.turn(c, opened, certs, keys)
	addresses := map[string]string{}
	for name, f := range s.fronts {
		addresses[name] = f.Addr().String()
	}
	s.mu.Unlock()
	s.Log.Info().Interface("addresses", addresses).Uint64("generation", s.gate.Current().Number).Msg("ready")
	if s.Ready != nil {
		s.Ready(addresses)
	}
	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	s.drain()
	closing()
	err = s.top.Wait()
	cut() // who has not logged in by now does not
	s.conns.Wait()
	stop()
	err = errors.Join(err, base.Wait())
	return errors.Join(err, s.note("gateway", "stopped"))
}

// ownData makes the data directory, or sees that it is ours alone: who can
// write there can replace keys, logins and the log.
func ownData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("server: data: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("server: data: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("server: data: %s is no directory", dir)
	}
	if o, ok := st.Sys().(*syscall.Stat_t); ok && int(o.Uid) != os.Geteuid() {
		return fmt.Errorf("server: data: %s belongs to uid %d, and the gateway runs as uid %d: it has to be its own", dir, o.Uid, os.Geteuid())
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("server: data: %s has mode %04o, so that others get at keys and recordings: chmod 700 %s", dir, m, dir)
	}
	return nil
}

// adminSocket listens on a Unix socket that only the operator can open.
func adminSocket(path string) (net.Listener, error) {
	_ = os.Remove(path)
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return l, nil
}

// judged counts what a guard said.
func (s *Server) judged(guard string, d abi.Decision, took time.Duration, err error) {
	outcome := d.String()
	if err != nil {
		outcome = "failed"
		now := time.Now().Unix()
		if s.failed.Swap(now) != now { // once a second; what a guard said of what it was given stays in the audit log
			s.Log.Warn().Str("guard", guard).Msg("a guard failed, and what it was to judge was refused: the audit log and `taskgate replay` have why")
		}
	}
	s.metrics.guard.WithLabelValues(guard, outcome).Observe(took.Seconds())
}

// refusedLogin says why a login failed, which its client is not told.
func (s *Server) refusedLogin(l gate.Login, why error) {
	s.Log.Warn().Str("client", l.Address).Str("task", clean(l.Task)).Str("resource", clean(l.Resource)).Str("why", clean(why.Error())).Msg("login refused")
}

// protocolLog takes what a protocol cannot tell its client.
func (s *Server) protocolLog(session, what string, err error) {
	switch what {
	case "panic":
		s.metrics.panics.Inc()
	case "loop": // it is slower, and works
	default:
		kind, _, _ := strings.Cut(what, " ")
		s.metrics.upstream.WithLabelValues(kind).Inc()
	}
	s.Log.Warn().Str("session", session).Str("what", what).Msg(clean(err.Error()))
}

func (s *Server) serve(p gate.Protocol, nc net.Conn) {
	s.conns.Go(func() {
		defer func() {
			if r := recover(); r != nil { // X12: a fault in one connection ends that connection
				_ = nc.Close()
				s.metrics.panics.Inc()
				s.Log.Error().Str("client", nc.RemoteAddr().String()).Msg(clean(fmt.Sprintf("panic: %v\n%s", r, debug.Stack())))
			}
		}()
		if err := p.Serve(s.carrying, nc, s.gate); err != nil {
			s.Log.Info().Str("client", nc.RemoteAddr().String()).Msg(clean(err.Error()))
		}
	})
}

// steady makes a panic in a handler the end of one request, counted.
func (s *Server) steady(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				s.metrics.panics.Inc()
				s.Log.Error().Str("client", r.RemoteAddr).Msg(clean(fmt.Sprintf("panic: %v\n%s", v, debug.Stack())))
				panic(http.ErrAbortHandler)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// drain refuses whoever comes, in the words of their protocol, lets sessions
// end by themselves, and then ends them (X14).
func (s *Server) drain() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.gate.Drain(&gate.Ended{Reason: "the gateway is shutting down", Shutdown: true})
	s.Log.Info().Int("sessions", len(s.gate.Sessions())).Dur("grace", s.Grace).Msg("shutting down")
	over := time.After(s.Grace)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(s.gate.Sessions()) > 0 {
		select {
		case <-tick.C:
			continue
		case <-over:
		}
		n := s.gate.Kill("the gateway is shutting down", func(*gate.Session) bool { return true })
		s.Log.Info().Int("sessions", n).Msg("ended the sessions that were left")
		return
	}
}

// unready says why nobody should be sent here now, nil where they may.
func (s *Server) unready() error {
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	switch gen := s.gate.Current(); {
	case stopping:
		return errors.New("draining")
	case gen == nil || len(gen.Guards) == 0:
		return errors.New("no policy")
	case s.audit.Err() != nil:
		return errors.New("the audit log takes nothing new")
	}
	return nil
}

func (s *Server) note(who, what string) error {
	return s.audit.Append(context.Background(), gate.Note(time.Now(), who, what), true)
}

// Reload makes what the files say now count: it builds the next generation,
// reads the certificates and opens what is to listen, all beside what runs, and
// then turns everything over. A fault changes nothing, and where every file is
// what it was the generation stays, with what its guards remember.
func (s *Server) Reload(ctx context.Context, who string) (changes []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if err != nil {
			s.metrics.reloads.WithLabelValues("refused").Inc()
			s.Log.Error().Str("by", who).Strs("faults", strings.Split(err.Error(), "\n")).Msg("reload refused, nothing has changed")
		}
	}()
	if s.stopping {
		return nil, errors.New("the gateway is shutting down")
	}
	seen := look(s.Config.Path)
	c, err := config.Load(s.Config)
	if err != nil {
		return nil, err
	}
	seen.of(c)
	next, certs, opened, keys, err := s.prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	changes = slices.Concat(Changes(s.gate.Current(), next), issuerChanges(s.config, c), webhookChanges(s.config, c), s.listenerChanges(c, opened, certs), s.keyChanges(keys), needRestart(s.config, c))
	seen = seen.still(s.Config.Path, c)
	stays := seen.same(s.seen) && len(changes) == 0 && len(opened) == 0
	switch {
	case stays:
		changes = []string{"nothing has changed"}
	case len(changes) == 0:
		changes = s.seen.changes(seen)
	}
	if err := s.note(who, fmt.Sprintf("reload: %v", changes)); err != nil {
		for _, f := range opened {
			f.Close()
		}
		next.Close()
		return nil, err
	}
	if stays {
		next.Close()
	} else if ended := s.turnOver(c, next, seen, opened, certs, keys); ended > 0 {
		changes = append(changes, count.Of(ended, "session")+" ended, whose task, resource or issuer is gone")
	}
	for _, missing := range Secrets(c) {
		changes = append(changes, "warning: "+missing)
	}
	s.metrics.reloads.WithLabelValues("done").Inc()
	s.Log.Info().Str("by", who).Strs("changes", changes).Uint64("generation", s.gate.Current().Number).Msg("reloaded")
	return changes, nil
}

// turnOver makes what was prepared count, and gives how many sessions that ended.
func (s *Server) turnOver(c *config.Config, next *gate.Generation, seen *reading, opened map[string]*front, certs map[string]*tls.Config, keys *sshKeys) (ended int) {
	before := s.gate.Sessions()
	s.logins.SetIssuers(issuers(c))
	s.gate.Swap(next)
	s.endForeign()
	s.config, s.seen = c, seen
	s.turn(c, opened, certs, keys)
	for _, x := range before {
		if x.Context().Err() != nil {
			ended++
		}
	}
	return ended
}

// prepare builds what a reload needs. All its faults come together, and then
// nothing is left of it.
func (s *Server) prepare(ctx context.Context, c *config.Config) (*gate.Generation, map[string]*tls.Config, map[string]*front, *sshKeys, error) {
	next, _, err := Build(ctx, s.host, c)
	certs, certErr := certificates(c)
	keys, keyErr := openKeys(c, s.config.Data)
	opened, openErr := s.open(c)
	if err := errors.Join(err, certErr, keyErr, openErr); err != nil {
		for _, f := range opened {
			f.Close()
		}
		if next != nil {
			next.Close()
		}
		return nil, nil, nil, nil, err
	}
	return next, certs, opened, keys, nil
}
