package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// resourceState is what all sessions of one resource and login share: the
// schema as it is known, and what texts meant under it.
type resourceState struct {
	dial     func(context.Context) (gate.Upstream, error)
	resource string // as attach found it (conn.resourceNow)

	known atomic.Pointer[looked] // changes under mu

	mu     sync.Mutex
	took   time.Duration // how long the last look took
	failed time.Time     // when a look for a name failed last
	next   time.Time     // when the last look for a name began, or will
	texts  map[textKey]*sql.Analysis
	meant  int // bytes of texts
	users  int
	closed map[string]bool // tasks whose masks do not resolve
	asking previewing      // for previews

	reading sync.Mutex // one reads, the others wait for it
	conn    *pgx.Conn
	pooled  bool // a pooler stands before the server
}

// looked is a schema, and when it was last seen to hold. Each command of every
// session asks for it.
type looked struct {
	schema *schema.Schema
	at     time.Time
}

// attach finds the state that the session shares with others of the same login
// at the same resource. One that a reload has changed is another resource: what
// is known of the old one says nothing of it.
func (c *conn) attach() {
	about, now := c.session.About(), c.resourceNow()
	v, _ := c.p.schemas.LoadOrStore(about.Resource+"\x00"+about.Login+"\x00"+now, &resourceState{})
	c.state = v.(*resourceState)
	if r, _ := c.session.Resource(); r != nil {
		o, ok := r.Options.(*ResourceOptions)
		c.strict, c.probes = ok && o.DriftStrict, ok && o.Probe
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if l := c.state.known.Load(); c.state.users == 0 && l != nil && time.Since(l.at) > poll/2 { // nobody has looked since
		c.state.known.Store(&looked{schema: l.schema})
	}
	c.state.users++
	c.state.resource = now
	session := c.session // and not what else the connection keeps
	c.state.dial = func(ctx context.Context) (gate.Upstream, error) {
		if digestNow(session) != now {
			return gate.Upstream{}, errors.New("the resource has changed since the session began")
		}
		return session.Dial(ctx)
	}
}

// resourceNow tells the session's resource from what a reload makes of it.
func (c *conn) resourceNow() string { return digestNow(c.session) }

func digestNow(s *gate.Session) string {
	if r, _ := s.Resource(); r != nil {
		return r.Digest
	}
	return ""
}

func (c *conn) detach() {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if c.state.users--; c.state.users == 0 {
		c.state.dial = nil // nobody is to be kept by it
	}
}

// Run looks every second whether the schemas that are in use still hold, and
// whether a peer has gone unnoticed.
func (p *Protocol) Run(ctx context.Context) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.schemas.Range(func(_, v any) bool { v.(*resourceState).hangUp(); return true })
			return nil
		case <-tick.C:
		}
		for _, c := range p.conns() {
			c.look()
		}
		p.schemas.Range(func(name, v any) bool {
			s := v.(*resourceState)
			s.mu.Lock()
			idle := s.users == 0
			s.mu.Unlock()
			if idle {
				s.hangUp()
			} else if err := p.contain("", func() error { return s.refresh(ctx, poll/2) }); err != nil && ctx.Err() == nil {
				p.log("", "schema of "+strings.SplitN(name.(string), "\x00", 2)[0], err)
			}
			return true
		})
	}
}

// fresh gives the schema if it was seen to hold within age, or at any time for 0.
func (s *resourceState) fresh(age time.Duration) *schema.Schema {
	l := s.known.Load()
	if l == nil || age > 0 && time.Since(l.at) > age {
		return nil
	}
	return l.schema
}

func (s *resourceState) hangUp() {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.conn != nil {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = s.conn.Close(ctx)
		s.conn = nil
	}
	s.mu.Lock()
	a := s.asking
	s.asking = previewing{}
	s.mu.Unlock()
	a.close(context.Background())
}

// refresh makes the schema one that held within age.
func (s *resourceState) refresh(ctx context.Context, age time.Duration) error {
	return s.since(ctx, time.Now().Add(-age))
}

// A look asks for nothing that somebody has locked, which the session that waits for
// the look could be. It waits for what is locked meanwhile, not for long, and then
// knows of it.
const (
	lockTime = 200 * time.Millisecond
	lockLate = "55P03"
	lockLook = 4
	goneLate = "XX000"                // what was to be printed is dropped meanwhile
	patience = 250 * time.Millisecond // with who has locked what a text reaches
)

// since makes the schema one that was looked at after a time.
func (s *resourceState) since(ctx context.Context, t time.Time) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if l := s.known.Load(); l != nil && l.at.After(t) {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, loginTime)
	defer stop()
	began, kept := time.Now(), s.conn != nil
	next, err := s.look(ctx)
	if err != nil && kept && s.conn.IsClosed() && ctx.Err() == nil { // somebody has ended it since
		s.conn = nil
		next, err = s.look(ctx)
	}
	if err != nil {
		if s.conn != nil {
			_ = s.conn.Close(context.WithoutCancel(ctx))
			s.conn = nil
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = time.Since(began)
	if s.fresh(0) != next {
		s.texts, s.meant = map[textKey]*sql.Analysis{}, 0
	}
	s.known.Store(&looked{next, began})
	return nil
}

// again looks at the schema for a name that is not in it, and says whether it
// has. Who asks for such names one after another waits, and so do several who do:
// a look may be heavy, and takes a fifth of the time at most. One that fails, or
// waits for a lock that the very session may hold, is not tried for a while. The
// session that asks may end meanwhile: others wait for the same look.
func (s *resourceState) again(ctx context.Context, t time.Time) bool {
	s.mu.Lock()
	failed, start := time.Since(s.failed) < schemaAge, s.turn(t)
	s.mu.Unlock()
	if failed {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(start)):
	}
	look, stop := context.WithTimeout(context.WithoutCancel(ctx), poll)
	defer stop()
	if s.since(look, t) == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = time.Now()
	return false
}

// turn gives when the next look for a name that is missing begins, for all who ask
// until then. The caller holds mu.
func (s *resourceState) turn(now time.Time) time.Time {
	if s.next.After(now) {
		return s.next
	}
	rest := min(4*s.took, poll)
	start := now
	if t := s.next.Add(rest + min(s.took, poll)); t.After(start) {
		start = t
	}
	if l := s.known.Load(); l != nil && l.at.Add(rest).After(start) {
		start = l.at.Add(rest)
	}
	s.next = start
	return start
}

// look reads the schema, or finds that the one that is known still holds.
func (s *resourceState) look(ctx context.Context) (*schema.Schema, error) {
	if s.conn == nil {
		conn, err := s.enter(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = conn
	}
	mark, err := schema.Fingerprint(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	known := s.fresh(0)
	if known != nil && known.Mark == mark {
		return known, nil
	}
	next, err := s.load(ctx, known, mark)
	for range lockLook {
		var late *pgconn.PgError
		if !errors.As(err, &late) || late.Code != lockLate && late.Code != goneLate {
			break
		}
		next, err = s.load(ctx, known, mark)
	}
	if err != nil {
		return nil, err
	}
	next.Mark = mark
	if known != nil {
		next.Version = known.Version + 1
	}
	if !next.HasLocked {
		return next, nil
	}
	next.Mark.Users = "" // what is not there is to be read when it can be
	if known != nil && known.HasLocked && schema.Same(known, next) {
		return known, nil
	}
	return next, nil
}

func (s *resourceState) load(ctx context.Context, known *schema.Schema, mark schema.Mark) (*schema.Schema, error) {
	if known != nil && known.Mark.Server == mark.Server {
		return schema.Reload(ctx, s.conn, known)
	}
	return schema.Load(ctx, s.conn)
}

// connect logs in as the sessions do, to look at the schema.
func (s *resourceState) connect(ctx context.Context) (*pgx.Conn, error) {
	s.mu.Lock()
	dial := s.dial
	s.mu.Unlock()
	if dial == nil {
		return nil, errors.New("no session is at the resource any more")
	}
	up, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		up.Conn.Close()
		return nil, err
	}
	config.Host, config.Port = up.Conn.RemoteAddr().String(), 1 // for errors alone: the connection is made already
	if host, port, err := net.SplitHostPort(config.Host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			config.Host, config.Port = host, uint16(n)
		}
	}
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.User, config.Password, config.Database, config.TLSConfig, config.Fallbacks = up.User, up.Password, up.Database, nil, nil
	config.RuntimeParams = map[string]string{"application_name": "taskgate"}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return secureUpstream(ctx, up) }
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

// enter connects and sees that the connection has a server process of its own.
func (s *resourceState) enter(ctx context.Context) (*pgx.Conn, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.own(ctx, conn); err == nil {
		_, err = conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = 20000; SET lock_timeout = %d", lockTime.Milliseconds()))
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// errShared is of a pooler that gives its clients another server process with
// every transaction: settings, prepared statements and cursors of one session
// would be another's.
var errShared = errors.New("a pooler in transaction or statement mode stands before the server: use its session mode, or the server itself")

// poolerTries is how many connections are held beside one that has to keep its
// server process.
const poolerTries = 4

// own refuses a pooler that does not keep a server process for each client. A
// server tells its process as the number of the cancel key; a pooler has keys
// of its own. Behind one, our process has to stay ours while other clients of
// the same login hold theirs in transactions.
func (s *resourceState) own(ctx context.Context, conn *pgx.Conn) error {
	ours, err := process(ctx, conn)
	if err != nil {
		return err
	}
	pooled := ours != conn.PgConn().PID()
	s.mu.Lock()
	s.pooled = pooled
	s.mu.Unlock()
	if !pooled {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	for range poolerTries {
		other, err := s.connect(ctx)
		if err != nil {
			return fmt.Errorf("a pooler stands before the server, and whether it keeps a process for each client cannot be told: %w", err)
		}
		defer other.Close(context.WithoutCancel(ctx))
		_, err = other.Exec(ctx, "BEGIN")
		var theirs, again uint32
		if err == nil {
			theirs, err = process(ctx, other)
		}
		if err == nil {
			again, err = process(ctx, conn)
		}
		if err != nil {
			return fmt.Errorf("%w (%w)", errShared, err)
		}
		if theirs == ours || again != ours {
			return errShared
		}
	}
	return nil
}

// process is the server process that answers.
func process(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid)
	return pid, err
}

// LoadSchema reads the schema of a resource as a session of it would, and fails where
// something is locked.
func LoadSchema(ctx context.Context, dial func(context.Context) (gate.Upstream, error)) (*schema.Schema, error) {
	s := &resourceState{dial: dial}
	defer s.hangUp()
	read, err := s.look(ctx)
	if err == nil && read.HasLocked {
		return nil, errors.New("postgres: schema: a table is locked by another transaction, which may be changing it: try again when that has ended")
	}
	return read, err
}
