package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// textKey is what a text's meaning is kept for. The text is compared as a
// whole: two that look alike can mean different things.
type textKey struct {
	text        string
	introspect  bool
	path        string
	login       string // the path that the session began with
	extensions  string
	timeout     time.Duration
	types       string       // of parameters, where the server is asked what the text reads
	blind       *sql.Blind   // of one generation, and so are filter and listed
	filter      *sql.Filter  //
	listed      *sql.Listing //
	definitions *sql.Definitions
}

const (
	maxTexts  = 4096
	poll      = time.Second     // between two looks at a schema that is in use
	schemaAge = 5 * time.Second // how old a schema may be at most, if the looks fail
)

// understand finds out what a text does, looked up along a path, or remembers. Where it
// takes along what depends on something, somebody may have made more of that since.
func (c *conn) understand(text string, path []string) (*sql.Analysis, error) {
	began := time.Now()
	a, err := c.meaningOf(text, path)
	if err == nil && takesAlong(a) && !c.lookedSince(began) {
		if err = c.looksNow(); err == nil {
			a, err = c.meaningOf(text, path)
		}
	}
	return a, err
}

func takesAlong(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool { return p.Cascades })
}

// lookedSince says whether the schema under which a text was just read was looked at
// after a time.
func (c *conn) lookedSince(t time.Time) bool {
	if c.inside.active() {
		return c.inside.schema != nil && !c.inside.again && c.inside.read.After(t)
	}
	l := c.state.known.Load()
	return l != nil && l.at.After(t) && l.schema.Version == c.known.schema
}

// looksNow has the schema be what it is now, in a transaction that has changed it too.
func (c *conn) looksNow() error {
	if c.inside.active() {
		c.inside.again = true
		return nil
	}
	if c.looksAgain() {
		return nil
	}
	if err := c.state.since(c.session.Context(), time.Now()); err != nil {
		return c.unlooked(c.session.Context(), err)
	}
	return nil
}

// meaningOf is understand under the schema as it is known.
func (c *conn) meaningOf(text string, path []string) (*sql.Analysis, error) {
	resource, task := c.session.Resource()
	if task == nil || resource == nil {
		return nil, &gate.Denied{Guard: "gate", Reason: abi.Reason{Code: "gate.no-task", Message: "the task is gone"}}
	}
	o := reads(task)
	s, err := c.schema(c.session.Context())
	if err != nil {
		return nil, err
	}
	c.known = reading{s.Version, task, resource, c.names.moved}
	key := textKey{text, o.Introspect, pathKey(path, c.names.moved), pathKey(c.names.login, false), strings.Join(c.extensions(), "\x00"), o.StatementTimeout, "", o.Blind, o.Filter, o.Listed, o.Definitions}
	if c.probes {
		key.types = string(c.types)
	}
	c.state.mu.Lock()
	a := c.state.texts[key]
	same := c.state.fresh(0) == s
	c.state.mu.Unlock()
	if a != nil && same {
		c.judgedBy(a, path, s)
		return a, nil
	}
	var context *sql.Context
	analyze := func() {
		c.known.schema = s.Version
		if context, err = c.context(path, s); err == nil {
			a, err = c.p.analysis(context, text)
		}
	}
	analyze()
	if unknown(err) && c.looksAgain() { // somebody may have made it since
		now, e := c.schema(c.session.Context())
		if e != nil {
			return nil, e
		}
		if now != s {
			s = now
			analyze()
		}
	}
	for until := time.Now().Add(patience); lockedOut(err) && time.Now().Before(until) && c.looksPast(); {
		if s, err = c.schema(c.session.Context()); err != nil {
			return nil, err
		}
		analyze()
	}
	if err == nil && c.probes {
		err = c.probe(c.session.Context(), context, a)
	}
	if err != nil {
		return nil, err
	}
	c.judgedBy(a, path, s)
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if c.state.fresh(0) == s {
		size := a.Size()
		if len(c.state.texts) >= maxTexts || c.state.meant+size > maxMeant {
			clear(c.state.texts)
			c.state.meant = 0
		}
		c.state.meant += size
		c.state.texts[key] = a
	}
	return a, nil
}

// looksAgain looks at the resource's schema for a name that is not in it; within a
// transaction that has changed it that is read anyway.
func (c *conn) looksAgain() bool {
	if c.inside.active() {
		return false
	}
	c.leaveLoop()
	return c.state.again(c.session.Context(), time.Now())
}

// lockedOut says whether a text reaches what somebody has locked.
func lockedOut(err error) bool {
	var e *sql.Error
	return errors.As(err, &e) && e.Code == lockLate
}

// looksPast looks again where something was locked: it may not be any more, and in a
// transaction the session itself may have locked it, which nobody else can look past.
func (c *conn) looksPast() bool {
	if !c.open && !c.inside.active() {
		c.leaveLoop()
		return c.state.again(c.session.Context(), time.Now())
	}
	if c.inside.schema != nil { // it has been looked at within already
		c.leaveLoop()
		time.Sleep(patience / 8)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside.again, c.undecided = true, true
	return c.status != 'E'
}

// unknown says whether a text names what the schema does not have.
func unknown(err error) bool {
	var e *sql.Error
	return errors.As(err, &e) && slices.Contains([]string{"3F000", "42P01", "42P10", "42703", "42704", "42883"}, e.Code)
}

// reads is what a task says of how texts are read.
func reads(t *gate.Task) *TaskOptions {
	if o, ok := taskOptions(t); ok {
		return o
	}
	return &TaskOptions{}
}

// context is what a text is read under.
func (c *conn) context(path []string, s *schema.Schema) (*sql.Context, error) {
	g, err := parse.ForServer(s.Major)
	if err != nil {
		return nil, &sql.Error{Code: "0A000", Message: err.Error(), Offset: -1}
	}
	_, task := c.session.Resource()
	o := reads(task)
	return &sql.Context{Schema: s, Grammar: g, SearchPath: path, Login: c.names.login, Anywhere: c.names.moved, Made: c.made(), Introspect: o.Introspect, Extensions: c.extensions(), StatementTimeout: o.StatementTimeout, Blind: o.Blind, Filter: o.Filter, Listed: o.Listed, Definitions: o.Definitions}, nil
}

// extensions are those that the resource accepts.
func (c *conn) extensions() []string {
	if r, _ := c.session.Resource(); r != nil {
		if o, ok := r.Options.(*ResourceOptions); ok {
			return o.Extensions
		}
	}
	return nil
}

// schema gives the resource's schema, reading it where it is not known or Run
// has not been able to look at it for too long.
func (c *conn) schema(ctx context.Context) (s *schema.Schema, err error) {
	if err := c.temporaries(); err != nil {
		return nil, err
	}
	if c.inside.active() {
		if s, err = c.within(ctx); err != nil {
			return nil, err
		}
	}
	if s == nil {
		s = c.state.fresh(schemaAge)
	}
	if s == nil {
		c.leaveLoop()
		if err := c.state.refresh(ctx, schemaAge); err != nil {
			return nil, c.unlooked(ctx, err)
		}
		s = c.state.fresh(0)
	}
	if c.temp.stale(s) {
		c.temp.again = true
		if err := c.temporaries(); err != nil {
			return nil, err
		}
	}
	if s, err = c.withOwn(s); err != nil {
		return nil, err
	}
	if s.Role.Privileged() != "" {
		r, _ := c.session.Resource()
		if err := Fit(s, r, c.session.About().Login); err != nil {
			return nil, &fatal{code: "28000", message: fmt.Sprintf("the resource %s may not be used (session %s)", c.session.About().Resource, c.session.ID()), hint: tellOperator, cause: err}
		}
	}
	return s, nil
}

// noSchema is of a schema that could not be looked at: who asks is refused, and may
// ask again.
type noSchema struct{ cause error }

func (e *noSchema) Error() string { return fmt.Sprintf("postgres: schema: %v", e.cause) }
func (e *noSchema) Unwrap() error { return e.cause }

// unlooked says so to the operator as well. A session that has ended under its look
// ends by what ended it.
func (c *conn) unlooked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("postgres: schema: %w", err)
	}
	c.p.log(c.session.ID(), "schema of "+c.session.About().Resource, err)
	return &noSchema{err}
}

const tellOperator = "tell your operator: the gateway's log says why"

// fit holds a session's resource and login to what the gateway needs of them
// before the client is let in.
func (c *conn) fit(ctx context.Context) error {
	_, err := c.schema(ctx)
	c.state.mu.Lock()
	pooled := c.state.pooled
	c.state.mu.Unlock()
	if _, task := c.session.Resource(); err == nil && pooled {
		if o, ok := taskOptions(task); ok && o.StatementTimeout > 0 {
			err = errors.New("the task limits the time of a statement, which a pooler before the server would lose")
		}
	}
	if err == nil && c.resourceNow() != c.state.resource {
		err = errors.New("the resource has changed while the session began")
	}
	var f *fatal
	if err == nil || errors.As(err, &f) {
		return err
	}
	message := fmt.Sprintf("the resource %s cannot be used (session %s)", c.session.About().Resource, c.session.ID())
	if old := schema.Unsupported(0); errors.As(err, &old) { // no secret: a server tells its version to everybody
		message = fmt.Sprintf("the resource %s cannot be used: %v (session %s)", c.session.About().Resource, old, c.session.ID())
	}
	return &fatal{code: "08006", message: message, hint: tellOperator, cause: err}
}

// Fit says why a login's role may not be used, nil where it may. What the
// server would hold others to does not hold such a role, so that the gateway
// would stand alone.
func Fit(s *schema.Schema, r *gate.Resource, login string) error {
	why := s.Role.Privileged()
	if r != nil {
		if o, ok := r.Options.(*ResourceOptions); ok && o.Privileged[login] {
			why = ""
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("the role %s of login %q %s: give the login another role, or say `privileged: accepted` at it", s.Role.Name, login, why)
}

// origin names the table and column behind a result's column.
func (c *conn) origin(table uint32, num uint16) ([]string, string) {
	s := c.judging()
	if s == nil || table == 0 {
		return nil, ""
	}
	r := s.Relations[table]
	if r == nil {
		return nil, ""
	}
	if col := r.ColumnAt(int16(num)); col != nil {
		return r.Name.Parts(), col.Name
	}
	if n := -int(int16(num)); n > 0 && n < len(systemColumns) {
		return r.Name.Parts(), systemColumns[n]
	}
	return r.Name.Parts(), ""
}

// systemColumns are those that every table has, by their number below 0
// (PostgreSQL's sysattr.h).
var systemColumns = [...]string{1: "ctid", 2: "xmin", 3: "cmin", 4: "xmax", 5: "cmax", 6: "tableoid"}
