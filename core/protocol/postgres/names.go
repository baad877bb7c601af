package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// names is what the session's own texts have made: cursors, and the path that
// names are looked up along. It belongs to the client's side, and follows what
// the server says it has done; while such a text is unanswered, no other is
// read. Statements of PREPARE stand with those of Parse, in conn.prepared.
type names struct {
	cursors    map[string]*declared
	path       []string // as it stands; nil is the login's own
	login      []string // as the session began with it
	lasting    []string // as it stands once the transaction is committed
	before     []string // as it stood before the transaction
	savepoints []savepoint
	serial     uint64 // counts cursors, portals and savepoints
	moved      bool   // the path may not be what it was at login: functions and operators can be any schema's
	resolved   map[use]*sql.Analysis
	found      int // bytes of resolved
}

// declared is an open cursor.
type declared struct {
	analysis *sql.Analysis
	params   []abi.Param
	exchange *gate.Exchange // the last that fetched: its limits count on
	hold     bool
	kept     bool // its transaction is committed
	serial   uint64
	size     int // bytes of the text that exchange is of
}

type savepoint struct {
	name          string
	path, lasting []string
	serial        uint64
}

// use is a text that uses a name, and what the name stood for.
type use struct{ text, name *sql.Analysis }

// learned is what the server has said of one part of a text, or of the end of
// a transaction, where part is nil.
type learned struct {
	part       *sql.Part
	exchange   *gate.Exchange
	params     []abi.Param
	size       int // bytes of the text, of a DECLARE
	rolledBack bool
}

// makesNames says whether later texts have to wait until this one is answered.
func (n *names) makesNames(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool {
		switch p.Kind {
		case sql.SetPath, sql.Prepare, sql.Deallocate, sql.Declare, sql.CloseCursor, sql.Discard, sql.Fetch:
			return true
		case sql.Reset:
			return p.All
		case sql.Commit, sql.Rollback, sql.RollbackTo, sql.Release:
			return n.moved
		}
		return false
	})
}

// anyOf is slices.ContainsFunc for what is large: each is looked at where it is.
func anyOf[E any](list []E, f func(*E) bool) bool {
	for i := range list {
		if f(&list[i]) {
			return true
		}
	}
	return false
}

// givesName says whether a text gives something a name.
func givesName(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool {
		return p.Kind == sql.Prepare || p.Kind == sql.Declare || p.Kind == sql.Savepoint
	})
}

// calls notes a function that may do anything, named in a text or not, and so may
// move the path. What the server has to tell of it, as another encoding, comes before
// the next text is read.
func (c *conn) calls(a *sql.Analysis) bool {
	calls := anyOf(a.Statement.Operations, func(o *abi.Operation) bool { return o.Kind == abi.KindFunction })
	unsaid := anyOf(a.Parts, func(p *sql.Part) bool { return p.Unsaid })
	if c.callsUnsaid(a, len(a.Parts)) {
		c.late = true
		c.replaced()
	}
	if c.late = c.late || calls || unsaid; !calls && !unsaid && !c.callsLate(a.Parts) {
		return false
	}
	c.names.moved, c.called = true, true
	return true
}

// callsUnsaid says whether one of the first statements of a text may call a function that
// no operation names, as a table's condition does, where that matters: it could put
// others in the place of what is the session's own, or its transaction's.
func (c *conn) callsUnsaid(a *sql.Analysis, first int) bool {
	s := c.temp.over
	if s == nil {
		s = c.inside.schema
	}
	return s != nil && anyOf(a.Statement.Operations, func(o *abi.Operation) bool {
		if o.Kind != abi.KindRelation || len(o.Object) != 2 || o.Statement >= first {
			return false
		}
		r := s.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]
		return r != nil && s.Unsaid(r, nil)
	})
}

// callsLate says whether statements may call what the open transaction has put off:
// triggers that are deferred, and the query of a cursor that is to outlast it.
func (c *conn) callsLate(parts []sql.Part) bool {
	return c.late && anyOf(parts, func(p *sql.Part) bool {
		return p.Kind == sql.Commit || p.Kind == sql.CommitChain || p.Kind == sql.TwoPhase || p.Kind == sql.Utility
	})
}

// learn takes the end of one part of the first promise. The server's side
// calls it.
func (c *conn) learn(e *entry, tag string) error {
	if e.analysis == nil {
		return nil
	}
	i := 0
	if e.kind == 'Q' {
		i = c.part
		c.part++
	}
	if i >= len(e.analysis.Parts) {
		return unasked('C')
	}
	p := &e.analysis.Parts[i]
	if p.Notice != "" {
		c.in = append(c.in, notice("01000", p.Notice)...)
	}
	switch p.Kind {
	case sql.Begin, sql.Commit, sql.Rollback, sql.Savepoint, sql.Release, sql.RollbackTo, sql.SetPath, sql.Reset,
		sql.Prepare, sql.Deallocate, sql.Declare, sql.CloseCursor, sql.Discard:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learning = true
	size := 0
	if p.Kind == sql.Declare {
		size = e.analysis.Size()
	}
	c.learned = append(c.learned, learned{part: p, exchange: e.exchange, params: e.params, size: size, rolledBack: tag == "ROLLBACK"})
	return nil
}

// take carries out what the server has done. The caller holds mu.
func (c *conn) take(l learned) {
	n := &c.names
	c.kept.lightened = time.Time{}
	if l.part == nil {
		n.end(!l.rolledBack)
		return
	}
	switch p := l.part; p.Kind {
	case sql.Prepare:
		c.prepared[strings.Clone(p.Name)] = &prepared{analysis: p.Inner, read: unread, path: n.path, confirmed: true}
	case sql.Deallocate:
		for name := range c.prepared {
			if name == p.Name && !p.All || name != "" && p.All {
				delete(c.prepared, name)
			}
		}
	case sql.Declare:
		n.serial++
		n.cursors[strings.Clone(p.Name)] = &declared{analysis: p.Inner, params: l.params, exchange: l.exchange, hold: p.Hold, serial: n.serial, size: l.size}
	case sql.CloseCursor:
		for name := range n.cursors {
			if p.All || name == p.Name {
				delete(n.cursors, name)
			}
		}
		for name := range c.portals {
			if p.All || name == p.Name {
				c.dropLocked(name)
			}
		}
	case sql.SetPath:
		n.moved = true
		if n.path = p.Path; p.Path == nil {
			n.path = n.login
		}
		if !p.Local {
			n.lasting = n.path
		}
	case sql.Reset:
		if p.All {
			n.moved = true
			n.path, n.lasting = n.login, n.login
		}
	case sql.Discard:
		if p.All {
			n.path, n.lasting = n.login, n.login
			clear(n.cursors)
			for name := range c.portals {
				c.dropLocked(name)
			}
			for name := range c.prepared {
				if name != "" {
					delete(c.prepared, name)
				}
			}
		}
	case sql.Commit, sql.Rollback:
		n.end(!l.rolledBack)
	case sql.Savepoint:
		n.serial++
		n.savepoints = append(n.savepoints, savepoint{strings.Clone(p.Name), n.path, n.lasting, n.serial})
	case sql.Release, sql.RollbackTo:
		i := len(n.savepoints) - 1
		for i >= 0 && n.savepoints[i].name != p.Name {
			i--
		}
		if i < 0 {
			return
		}
		s := n.savepoints[i]
		if p.Kind == sql.Release {
			clear(n.savepoints[i:])
			n.savepoints = n.savepoints[:i]
			return
		}
		clear(n.savepoints[i+1:])
		n.savepoints = n.savepoints[:i+1]
		n.path, n.lasting = s.path, s.lasting
		for name, d := range n.cursors {
			if d.serial > s.serial {
				delete(n.cursors, name)
			}
		}
		for name, p := range c.portals {
			if p.serial > s.serial {
				c.dropLocked(name)
			}
		}
	}
}

// end is the end of a transaction.
func (n *names) end(committed bool) {
	if !committed {
		n.lasting = n.before
	}
	clear(n.savepoints)
	n.path, n.before, n.savepoints = n.lasting, n.lasting, n.savepoints[:0]
	for name, d := range n.cursors {
		if d.kept = d.kept || committed && d.hold; !d.kept {
			delete(n.cursors, name)
		}
	}
}

// sessionNames are the names as package sql asks for them.
type sessionNames struct{ *conn }

// Prepared gives what a statement does under the schema as it is now.
func (c sessionNames) Prepared(name string) (*sql.Analysis, error) {
	st := c.prepared[name]
	if st == nil || name == "" {
		return nil, nil
	}
	if err := c.renew(st); err != nil {
		return nil, err
	}
	return st.analysis, nil
}

// Cursor gives what a cursor's query was when it was opened, which is what it
// goes on to run.
func (c sessionNames) Cursor(name string) (*sql.Analysis, error) {
	if d := c.names.cursors[name]; d != nil {
		return d.analysis, nil
	}
	if p := c.portals[name]; p != nil {
		return nil, &sql.Error{Code: "0A000", Message: "FETCH from a portal of the protocol", Hint: "execute the portal, or DECLARE a cursor", Offset: -1}
	}
	return nil, nil
}

const (
	maxResolved = 256
	maxFound    = 8 << 20 // bytes
)

// resolve fills in what the names of a text stand for now. The answer to the
// same question is the same statement, so that verdicts are remembered.
func (c *conn) resolve(a *sql.Analysis) (*sql.Analysis, error) {
	if !a.Named() {
		return a, nil
	}
	if len(a.Parts) != 1 {
		return a.Resolve(sessionNames{c})
	}
	p := &a.Parts[0]
	ask, name := sessionNames{c}.Prepared, p.Name
	switch {
	case p.Kind == sql.Fetch:
		ask = sessionNames{c}.Cursor
	case p.Current != "":
		ask, name = sessionNames{c}.Cursor, p.Current
	case p.Kind != sql.Execute:
		return a.Resolve(sessionNames{c})
	}
	in, err := ask(name)
	if err != nil {
		return nil, err
	}
	key := use{a, in}
	if known := c.names.resolved[key]; known != nil {
		return known, nil
	}
	out, err := a.Resolve(sessionNames{c})
	if err != nil {
		return nil, err
	}
	size := out.Size() + a.Size() + in.Size()
	if len(c.names.resolved) >= maxResolved || c.names.found+size > maxFound {
		clear(c.names.resolved)
		c.names.found = 0
	}
	c.names.found += size
	c.names.resolved[key] = out
	return out, nil
}

// nameless says whether a text uses a name that stands for nothing.
func nameless(err error) bool {
	var e *sql.Error
	return errors.As(err, &e) && (e.Code == "26000" || e.Code == "34000")
}

// sameNames gives a refusal where the names in a portal's text no longer stand
// for what they did when it was bound.
func (c *conn) sameNames(name string, p *portal) (*refusal, error) {
	if err := c.settle(); err != nil {
		return nil, err
	}
	switch k := &p.analysis.Parts[0]; {
	case c.names.moved != p.moved:
		return &refusal{code: "34000", message: "the search path has changed since the portal was bound", hint: "bind it again"}, nil
	case c.portals[name] != p:
		return &refusal{code: "34000", message: noPortal(name)}, nil
	case k.Kind != sql.Execute && k.Kind != sql.Fetch && k.Current == "":
		return nil, nil // it makes or ends a name: the server knows whether it can
	}
	a, err := c.resolve(p.statement.analysis)
	if err != nil {
		if r, ok := refuse("", err); ok {
			return r, nil
		}
		return nil, err
	}
	if a != p.analysis {
		return &refusal{code: "34000", message: fmt.Sprintf("the name %q has changed since the portal was bound", a.Parts[0].Name+a.Parts[0].Current), hint: "bind it again"}, nil
	}
	return nil, nil
}

// given are the parameters that a guard sees: of EXECUTE its arguments, of
// FETCH what its cursor was opened with, else those that were bound.
func (c *conn) given(a *sql.Analysis, bound []abi.Param) []abi.Param {
	if len(a.Parts) != 1 {
		return bound
	}
	switch p := &a.Parts[0]; p.Kind {
	case sql.Execute:
		return p.Args
	case sql.Fetch:
		if d := c.names.cursors[p.Name]; d != nil {
			return d.params
		}
	}
	return bound
}

// countOn makes what is fetched from a cursor count as one answer.
func (c *conn) countOn(a *sql.Analysis, ex *gate.Exchange) {
	for i := range a.Parts {
		if a.Parts[i].Kind != sql.Fetch {
			continue
		}
		if d := c.names.cursors[a.Parts[i].Name]; d != nil && d.exchange != ex {
			ex.CountOn(d.exchange)
			d.exchange, d.size = ex, a.Size()
		}
	}
}

// declares says whether a text opens a cursor, which keeps its parameters.
func declares(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool { return p.Kind == sql.Declare })
}

func cloneParams(list []abi.Param) []abi.Param {
	kept := slices.Clone(list)
	for i := range kept {
		kept[i].Value = slices.Clone(kept[i].Value)
	}
	return kept
}

// onlyPrepares says whether a text makes statements ready and does nothing.
func onlyPrepares(a *sql.Analysis) bool {
	return len(a.Parts) > 0 && !anyOf(a.Parts, func(p *sql.Part) bool { return p.Kind != sql.Prepare })
}

// pathKey tells search paths apart; the login's own is empty.
func pathKey(path []string, moved bool) string {
	switch {
	case path != nil:
		return "\x00" + strings.Join(path, "\x00")
	case moved:
		return "\x00\x00\x00"
	}
	return ""
}
