package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// Temporary relations are one session's own, in the catalog that all share. So
// what a session has of them is read through its own connection, once something
// has been sent that may have changed it, and texts are judged by the resource's
// schema with that added.

// temporary is what the session has of its own. It belongs to the client's side.
type temporary struct {
	own   *schema.Schema      // nil where it has none
	made  map[schema.OID]bool // those that its own statements have made: what a function has put into others nobody has judged
	makes []schema.Name       // what is sent makes, or would
	there map[schema.OID]bool // what was there before that, nil where nobody has looked
	again bool                // something has been sent that may have changed it
	open  bool                // the open transaction has changed it

	text       int            // how much there is in own
	base, over *schema.Schema // what others see, and that with them
	held       holding        // the bytes of it
}

// maxOwn is how many of them a session may have: all are read again after each
// change.
const maxOwn = 1000

// maxOwnText is how much text may be in them, of views, conditions and defaults, in
// bytes: who has more makes and changes no further.
const maxOwnText = 8 << 20

// grows says whether a text makes or changes relations, and does not merely drop
// them.
func grows(a *sql.Analysis) bool {
	return anyOf(a.Statement.Operations, func(o *abi.Operation) bool {
		return strings.HasPrefix(o.Verb, "create_") || strings.HasPrefix(o.Verb, "alter_")
	})
}

// makes says whether a text makes relations.
func makes(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool { return len(p.Makes) > 0 })
}

// defines notes what a part may change of it, and says whether later texts have to
// wait for its answer.
func (t *temporary) defines(p *sql.Part) bool {
	switch p.Kind {
	case sql.Define:
		if !p.Temporary && t.own == nil && !slices.ContainsFunc(p.Makes, func(n schema.Name) bool { return n.Namespace == schema.Temporary }) {
			return false
		}
		t.makes = append(t.makes, p.Makes...)
		t.open = true
	case sql.Discard:
		if t.own == nil && !t.open {
			return false
		}
	case sql.Commit, sql.Rollback, sql.CommitChain, sql.TwoPhase:
		if !t.open {
			return false
		}
		t.open = false
	case sql.RollbackTo:
		if !t.open {
			return false
		}
	default:
		return false
	}
	t.again = true
	return true
}

// groupEnds notes that the implicit transaction ends in which something was changed.
func (t *temporary) groupEnds() bool {
	if !t.open {
		return false
	}
	t.open, t.again = false, true
	return true
}

// temporaries reads what the session has of its own, where that may have changed.
// While nothing can run it stays as it was.
func (c *conn) temporaries() error {
	t := &c.temp
	if !t.again {
		return nil
	}
	if failed, err := c.quieten(); err != nil || failed {
		return err
	}
	known := c.judging()
	var own *schema.Schema
	err := c.reading(func() (err error) {
		own, err = schema.Own(known, c.rowsOf)
		return err
	})
	if err != nil {
		return fmt.Errorf("postgres: temporary relations: %w", err)
	}
	if !c.undone() {
		maps.DeleteFunc(t.made, func(oid schema.OID, _ bool) bool { return own.Relations[oid] == nil })
	}
	for _, name := range t.makes {
		if r := own.RelationByName[name]; r != nil && t.there != nil && !t.there[r.OID] {
			t.makesOwn(r.OID)
		}
	}
	for oid, r := range own.Relations {
		if r.Kind == 'S' { // of a column that numbers itself: it holds a number
			t.makesOwn(oid)
		}
	}
	if t.text = own.Texts(); !own.HasTemporary {
		own = nil
	}
	t.own, t.makes, t.there, t.again, t.base = own, nil, nil, false, nil
	return nil
}

// before notes what the session has of its own before a text runs that makes
// something, and reads what was made before it, for which a function that it calls
// may put others: what a function has made is not the session's own work, and how
// often functions run nobody can tell.
func (c *conn) before(a *sql.Analysis) error {
	t := &c.temp
	if err := c.temporaries(); err != nil {
		return err
	}
	if !anyOf(a.Parts, func(p *sql.Part) bool { return p.Kind == sql.Define && p.Temporary }) {
		return nil
	}
	if failed, err := c.quieten(); err != nil || failed {
		return err
	}
	synced, named, there := !c.unsynced, c.named, map[schema.OID]bool{}
	var oid schema.OID
	err := c.rowsOf("SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()", []any{&oid}, func() { there[oid] = true })
	if err != nil {
		return fmt.Errorf("postgres: temporary relations: %w", err)
	}
	t.there = there
	return c.endOwn(synced, named)
}

// quieten waits until all that was sent is answered, and says whether nothing can
// run before a transaction or a group has ended.
func (c *conn) quieten() (failed bool, err error) {
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return false, err
	}
	c.catchUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skipping || c.status == 'E', nil
}

// undone says whether a rollback may bring back what has been dropped.
func (c *conn) undone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsynced || c.status != 'I'
}

func (t *temporary) makesOwn(oid schema.OID) {
	if t.made == nil {
		t.made = map[schema.OID]bool{}
	}
	t.made[oid] = true
}

// withOwn gives a schema with what the session has of its own.
func (c *conn) withOwn(s *schema.Schema) (*schema.Schema, error) {
	t := &c.temp
	if t.own == nil {
		if t.over != nil { // it had
			t.base, t.over = nil, nil
			t.held.drop()
			c.seen.Store(c.inside.schema)
		}
		return s, nil
	}
	if t.base != s {
		if err := t.held.take(schema.OverWeight(s, t.own), nil); err != nil {
			return nil, &fatal{code: "53200", message: err.Error(), hint: "the session's temporary tables have gone with it: try again later"}
		}
		t.base, t.over = s, schema.Over(s, t.own)
		c.looks++
		t.over.Version = 1<<63 | c.looks
	}
	if c.seen.Load() != t.over {
		c.seen.Store(t.over)
	}
	return t.over, nil
}

// roomForOwn says whether there is room for the names of a first temporary relation:
// where there is none once it is there, the session ends.
func (c *conn) roomForOwn() error {
	t, s := &c.temp, c.judging()
	if s == nil {
		return nil
	}
	defer t.held.drop()
	if err := t.held.take(schema.OverWeight(s, &schema.Schema{}), nil); err != nil {
		return &sql.Error{Code: "53200", Message: err.Error(), Hint: "try again later", Offset: -1}
	}
	return nil
}

// stale says whether the session has views and what others see has changed: what they
// read may be called otherwise now.
func (t *temporary) stale(s *schema.Schema) bool {
	if t.own == nil || t.base == nil || t.base == s {
		return false
	}
	for _, r := range t.own.Relations {
		if r.Kind == 'v' {
			return true
		}
	}
	return false
}

// made are the relations that count as listed: those of the open transaction, and
// of the session.
func (c *conn) made() map[schema.OID]bool {
	if len(c.temp.made) == 0 {
		return c.inside.made
	}
	if len(c.inside.made) == 0 {
		return c.temp.made
	}
	all := maps.Clone(c.temp.made)
	maps.Copy(all, c.inside.made)
	return all
}

// reading asks queries of the gateway's own through the session's connection, in
// which nothing hides the server's catalog: temporary relations come last.
func (c *conn) reading(ask func() error) error {
	synced, named := !c.unsynced, c.named
	var path string
	if err := c.rowsOf("SELECT pg_catalog.current_setting('search_path')", []any{&path}, func() {}); err != nil {
		return err
	}
	setPath := func(to string) error {
		var set string
		return c.rowsOf("SELECT pg_catalog.set_config('search_path', "+quoteLiteral(to)+", true)", []any{&set}, func() {})
	}
	if err := setPath("pg_catalog, pg_temp"); err != nil {
		return err
	}
	if err := ask(); err != nil {
		return err
	}
	if err := setPath(path); err != nil {
		return err
	}
	return c.endOwn(synced, named)
}
