package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// What a session's own transaction has changed of the catalog nobody else sees
// before it commits. So after each statement that does, after a rollback to a
// savepoint, and every second, the catalog is read again through the session's
// own connection, and texts are judged by that. Nothing is assumed of what a
// statement has done: the server is asked.

// overlay is the catalog as the open transaction sees it. It belongs to the
// client's side.
type overlay struct {
	schema *schema.Schema // nil where it has changed nothing, or is to be read
	read   time.Time
	again  bool                // something has been sent that may have changed it
	before *schema.Schema      // what that was judged by
	makes  []schema.Name       // relations that it makes, or would
	had    map[schema.OID]bool // what the transaction had locked against everybody before that
	made   map[schema.OID]bool // relations that the transaction has made
}

func (o *overlay) active() bool { return o.schema != nil || o.again }

// judging is the schema by which what is in flight was judged; nil where none is
// known. Both sides may ask.
func (c *conn) judging() *schema.Schema {
	if s := c.seen.Load(); s != nil {
		return s
	}
	return c.state.fresh(0)
}

// defines notes what a text that is sent may change of the catalog, as the
// session sees it, and says whether later texts have to wait for its answer.
// group is true where its implicit transaction ends with it.
func (c *conn) defines(a *sql.Analysis, group bool) bool {
	o, waits := &c.inside, false
	for i := range a.Parts {
		p := &a.Parts[i]
		waits = c.temp.defines(p) || waits
		switch p.Kind {
		case sql.Define:
			if p.Temporary {
				continue
			}
			if o.before == nil {
				o.before = c.judging()
			}
			o.makes = append(o.makes, p.Makes...)
			o.again, waits = true, true
		case sql.Commit, sql.Rollback, sql.RollbackTo, sql.CommitChain, sql.TwoPhase:
			if o.active() {
				o.again, waits = true, true
				if p.Kind != sql.RollbackTo {
					o.made = nil
				}
			}
		}
	}
	return c.groupEnds(group) || waits
}

// groupEnds notes that the implicit transaction ends in which something was
// changed.
func (c *conn) groupEnds(group bool) bool {
	if !group || c.open {
		return false
	}
	waits := c.temp.groupEnds()
	if c.inside.active() {
		c.inside.again, c.inside.made, waits = true, nil, true
	}
	return waits
}

// within gives the schema as the open transaction sees it; nil where it has
// changed nothing.
func (c *conn) within(ctx context.Context) (*schema.Schema, error) {
	o := &c.inside
	if !o.again && time.Since(o.read) < poll {
		return o.schema, nil
	}
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return nil, err
	}
	c.catchUp()
	c.mu.Lock()
	status, skipping, undecided := c.status, c.skipping, c.undecided
	c.mu.Unlock()
	switch {
	case skipping || status == 'E': // nothing can run before what makes it be read anew
		return o.schema, nil
	case !undecided: // it is over, and whatever became of it is there for everybody
		c.leaveLoop()
		if err := c.state.since(ctx, time.Now()); err != nil {
			return nil, c.unlooked(ctx, err)
		}
		c.inside = overlay{}
		c.seen.Store(nil)
		return nil, nil
	}
	began := time.Now()
	s, locked, err := c.readCatalog()
	if err != nil {
		return nil, fmt.Errorf("postgres: schema: %w", err)
	}
	for _, name := range o.makes {
		// It was not there before, and nobody else can have made it: that locks it so. What a function had made was locked before.
		if r := s.RelationByName[name]; r != nil && o.before != nil && o.before.Relations[r.OID] == nil && locked[r.OID] && !o.had[r.OID] {
			if o.made == nil {
				o.made = map[schema.OID]bool{}
			}
			o.made[r.OID] = true
		}
	}
	c.looks++
	s.Version = 1<<63 | c.looks
	o.schema, o.read, o.again, o.before, o.makes, o.had = s, began, false, nil, nil, nil
	c.seen.Store(s)
	return s, nil
}

// readCatalog reads the catalog through the session's own connection, and which
// relations its transaction has locked against everybody.
func (c *conn) readCatalog() (s *schema.Schema, locked map[schema.OID]bool, err error) {
	known := c.judging()
	if known == nil {
		return nil, nil, errors.New("nothing is known of the database")
	}
	err = c.reading(func() (err error) {
		if s, err = schema.Within(known, c.rowsOf); err == nil {
			locked, err = c.locked()
		}
		return err
	})
	return s, locked, err
}

// locked gives the relations that the session has locked against everybody.
func (c *conn) locked() (map[schema.OID]bool, error) {
	var oid schema.OID
	locked := map[schema.OID]bool{}
	err := c.rowsOf(`SELECT l.relation FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) l.database
		WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock' AND l.granted
			AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()`, []any{&oid}, func() { locked[oid] = true })
	return locked, err
}

// endOwn ends what the gateway has asked by itself: what the client has not
// ended stays open.
func (c *conn) endOwn(synced, named bool) error {
	if synced {
		c.ask('S', nil)
		c.group++
	}
	c.unsynced, c.named = !synced, named
	return c.await(func() bool { return len(c.queue) == 0 })
}

// gathered is the answer to a query of the gateway's own.
type gathered struct {
	types []uint32
	rows  [][]byte
}

// rowsOf asks one query through the session's own connection. It is a
// schema.Rows.
func (c *conn) rowsOf(query string, into []any, f func()) error {
	g := &gathered{}
	c.mu.Lock()
	c.gathering = g
	c.mu.Unlock()
	b := append([]byte(ownName), 0)
	c.ask('P', append(append(b[:len(b):len(b)], query...), 0, 0, 0))
	c.ask('B', append(append(b[:len(b):len(b)], b...), 0, 0, 0, 0, 0, 0))
	c.ask('D', append([]byte{'P'}, b...))
	c.ask('E', append(b[:len(b):len(b)], 0, 0, 0, 0))
	c.ask('C', append([]byte{'P'}, b...))
	c.ask('C', append([]byte{'S'}, b...))
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return err
	}
	c.mu.Lock()
	c.gathering = nil
	c.mu.Unlock()
	if len(g.types) != len(into) {
		return fmt.Errorf("an answer of %d columns where %d were asked for", len(g.types), len(into))
	}
	m := pgtype.NewMap()
	for _, row := range g.rows {
		at := cursor{b: row}
		if at.uint16() != len(into) {
			return errors.New("a row of another number of columns")
		}
		for i := range into {
			var cell []byte
			if n := int32(at.uint32()); n >= 0 {
				cell = at.bytes(int(n))
			}
			if at.bad {
				return errors.New("a row that is cut short")
			}
			if err := m.Scan(g.types[i], pgtype.TextFormatCode, cell, into[i]); err != nil {
				return err
			}
		}
		f()
	}
	return nil
}

// gather takes what the server answers to a query of the gateway's own. The
// caller holds mu.
func (c *conn) gather(e *entry, kind byte, m []byte) (bool, error) {
	g := c.gathering
	if g == nil {
		return false, nil
	}
	switch {
	case kind == 'T' && e.kind == 'D':
		var d pgproto3.RowDescription
		if err := d.Decode(m[5:]); err != nil {
			return false, err
		}
		for _, f := range d.Fields {
			g.types = append(g.types, f.DataTypeOID)
		}
		c.pop()
		return true, nil
	case kind == 'D' && e.kind == 'E':
		g.rows = append(g.rows, bytes.Clone(m[5:]))
		return true, nil
	}
	return false, nil
}

// definable is mayDefine for what a guard has allowed.
func (c *conn) definable(ctx context.Context, a *sql.Analysis, ex *gate.Exchange, runs bool) (*gate.Exchange, error) {
	if err := c.mayDefine(a, runs); err != nil {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		return nil, err
	}
	return ex, nil
}

// mayDefine refuses what changes the catalog where the gateway could not tell
// afterwards what is there, or what its masks are for would be elsewhere. runs
// is true where it is about to run.
func (c *conn) mayDefine(a *sql.Analysis, runs bool) error {
	if !anyOf(a.Parts, func(p *sql.Part) bool { return p.Kind == sql.Define }) {
		return nil
	}
	if c.strict {
		return noDefinition("the resource says drift: strict, which a session's own changes cannot keep", "your operator lists a resource without it for migrations")
	}
	if !anyOf(a.Parts, func(p *sql.Part) bool { return p.Kind == sql.Define && !p.Temporary }) {
		if c.probes {
			return noDefinition("the resource says probe: on, and nobody but this session sees its temporary tables", "your operator lists a resource without it for this task")
		}
		if makes(a) && c.temp.own != nil && len(c.temp.own.Relations) >= maxOwn {
			return noDefinition(fmt.Sprintf("this session has %d temporary relations already", len(c.temp.own.Relations)), "drop some, or begin a session anew")
		}
		if c.temp.text > maxOwnText && grows(a) {
			return noDefinition(fmt.Sprintf("the texts of this session's temporary relations are over %d MB", maxOwnText>>20), "drop some, or begin a session anew")
		}
		if runs && makes(a) && c.temp.own == nil {
			return c.roomForOwn()
		}
		return nil
	}
	resource, task := c.session.Resource()
	owns := false
	if resource != nil {
		o, ok := resource.Options.(*ResourceOptions)
		owns = ok && o.Privileged[c.session.About().Login]
	}
	if !owns {
		return noDefinition("who makes or changes tables owns them, and this task's login may own none", "your operator gives the task a login that says privileged: accepted")
	}
	if t, ok := taskOptions(task); ok {
		for _, m := range t.Masked {
			if op := loses(a.Statement, m); op != nil {
				return noDefinition(fmt.Sprintf("%s would take %s.%s out of its mask", op.Verb, strings.Join(m.Relation, "."), m.Column), "your operator changes the mask with it")
			}
		}
	}
	if !runs || !c.open && !c.unsynced && !c.scripted {
		return nil
	}
	synced, named := !c.unsynced, c.named
	if failed, err := c.quieten(); err != nil || failed { // it cannot run
		return err
	}
	level, had := "", map[schema.OID]bool(nil)
	err := c.rowsOf("SELECT pg_catalog.current_setting('transaction_isolation')", []any{&level}, func() {})
	if err == nil {
		had, err = c.locked()
	}
	if err == nil {
		c.inside.had = had
		err = c.endOwn(synced, named)
	}
	if err != nil {
		return fmt.Errorf("postgres: isolation: %w", err)
	}
	if level != "read committed" {
		return noDefinition("in a transaction that is "+level+" what others have changed would not be seen", "use READ COMMITTED, which is usual, or no transaction")
	}
	return nil
}

func noDefinition(what, hint string) error {
	return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.ddl", Message: what, Hint: hint}}
}

// loses finds the operation after which a column would no longer be there by
// its name.
func loses(st *abi.Statement, m abi.Source) *abi.Operation {
	for i := range st.Operations {
		o := &st.Operations[i]
		if minor, known := abi.VerbMinor(o.Verb); known && minor == 2 && (o.Via == "" || strings.HasPrefix(o.Via, "parent ")) && o.Kind == abi.KindRelation && slices.Equal(o.Object, m.Relation) &&
			(o.Verb == "drop_table" || o.Verb == "drop_view" || slices.ContainsFunc(o.Columns, func(k abi.Column) bool { return k.Name == m.Column && k.Use&abi.UseWritten != 0 })) {
			return o
		}
	}
	return nil
}
