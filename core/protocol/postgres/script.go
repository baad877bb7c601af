package postgres

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// A Query whose text changes tables among other statements is carried out one
// statement at a time: what the next one means is known once those before have
// run. They go by the extended protocol, and the Sync follows the last: that is one
// implicit transaction, as of a Query, with the same status and the same end where
// one of them fails or is refused. Each is a command of its own: judged, held and
// written down by itself.

// errScript is not an answer: the statements of a Query have to be taken apart.
var errScript = errors.New("statements that are judged one by one")

// apart says whether the statements of a text have to be judged one by one: they
// change tables, or follow the end of a transaction that has, or a function that
// may have moved the path or put others in the place of the session's own.
func (c *conn) apart(a *sql.Analysis) bool {
	if len(a.Parts) < 2 {
		return a.Apart
	}
	first := a.Parts[:len(a.Parts)-1]
	if c.callsFirst(a) || c.callsLate(first) || (c.temp.own != nil || c.inside.schema != nil) && (mayCall(a) || c.callsUnsaid(a, len(first))) {
		return true
	}
	if !c.inside.active() && !c.temp.open {
		return a.Apart
	}
	return anyOf(first, func(p *sql.Part) bool {
		return p.Kind == sql.Commit || p.Kind == sql.Rollback || p.Kind == sql.RollbackTo
	})
}

// callsFirst says whether a statement of a text, but the last, calls a function that
// may do anything, by what it and its names say, or for a relation.
func (c *conn) callsFirst(a *sql.Analysis) bool {
	if in, err := c.resolve(a); err == nil {
		a = in
	}
	last := len(a.Parts) - 1
	return anyOf(a.Parts[:last], func(p *sql.Part) bool { return p.Unsaid }) ||
		anyOf(a.Statement.Operations, func(o *abi.Operation) bool { return o.Kind == abi.KindFunction && o.Statement < last })
}

// mayCall says whether a statement of a text, but the last, may call a function
// that may do anything.
func mayCall(a *sql.Analysis) bool {
	last := len(a.Parts) - 1
	return anyOf(a.Parts[:last], func(p *sql.Part) bool { return p.Kind == sql.Execute }) ||
		anyOf(a.Statement.Operations, func(o *abi.Operation) bool { return o.Kind == abi.KindFunction && o.Statement < last })
}

// script carries out the statements of a Query message.
func (c *conn) script(ctx context.Context, text string, pieces []sql.Piece) error {
	if c.unsynced {
		c.refuseQuery(&refusal{late: true, code: "0A000", message: "a Query whose statements are judged one by one, behind messages without a Sync", hint: "send Sync first"})
		return nil
	}
	c.steps(true)
	defer c.steps(false)
	if done, err := c.refusedBefore(ctx, text, pieces); done || err != nil {
		return err
	}
	for name := range c.portals {
		if name == "" || !c.open {
			c.drop(name)
		}
	}
	delete(c.prepared, "")
	c.scripted = true
	defer func() { c.scripted = false }()
	for i, p := range pieces {
		if goesOn, err := c.piece(ctx, text, p, i == len(pieces)-1); err != nil {
			return err
		} else if !goesOn {
			break
		}
	}
	c.endGroup(entry{kind: 'S'})
	c.out = append(c.out, frame('S', nil)...)
	return nil
}

// refusedBefore refuses the text whole where one of the statements is refused that
// are known before any of them has run: those up to the first after which names can
// stand for something else. They are asked about as prepared ones are.
func (c *conn) refusedBefore(ctx context.Context, text string, pieces []sql.Piece) (bool, error) {
	for _, p := range pieces {
		a, ex, _, err := c.judge(ctx, p.Text, abi.Prepare)
		if err == nil {
			if err := ex.Done(ctx, gate.Outcome{State: gate.Completed}); err != nil {
				return false, err
			}
			if called(a.Statement) || c.unsettles(a) {
				return false, nil
			}
			continue
		}
		r, ok := refuse(p.Text, err)
		if !ok {
			return false, err
		}
		if r.position > 0 {
			r.position += utf8.RuneCountInString(text[:p.Offset])
		}
		c.refuseQuery(r)
		return true, nil
	}
	return false, nil
}

// unsettles says whether what follows a statement may be read otherwise once it has
// run.
func (c *conn) unsettles(a *sql.Analysis) bool {
	return anyOf(a.Parts, func(p *sql.Part) bool {
		switch p.Kind {
		case sql.Query, sql.Write, sql.Begin, sql.Savepoint, sql.Release, sql.Set, sql.Show, sql.ExplainPlan, sql.ExplainAnalyze, sql.CopyOut:
			return false
		case sql.Commit, sql.Rollback, sql.RollbackTo:
			return c.inside.active() || c.temp.open || c.names.moved
		}
		return true
	})
}

// steps begins or ends what a cancel ends before its next statement.
func (c *conn) steps(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepping, c.stopping = on, false
}

// piece carries out one of them, and says whether the next may follow.
func (c *conn) piece(ctx context.Context, text string, p sql.Piece, last bool) (goesOn bool, err error) {
	if c.called {
		if err := c.readBack(); err != nil {
			return false, err
		}
	}
	c.mu.Lock()
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		c.push(entry{kind: 'P', refusal: &refusal{code: "57014", message: "canceling statement due to user request"}})
		c.failingParse()
		return false, nil
	}
	a, ex, cmd, err := c.judge(ctx, p.Text, abi.Execute)
	if errors.Is(err, errSpool) {
		err = copyInScript
	}
	var n *tally
	if err == nil {
		switch n, err = limited(a, ex); {
		case err != nil:
		case copies(a) > 0:
			err = copyInScript
		case a.Params > 0 && a.Parts[0].Kind != sql.Execute && a.Parts[0].Kind != sql.Prepare:
			err = c.noParam(p.Text)
		}
		if err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	offset := utf8.RuneCountInString(text[:p.Offset])
	if err != nil {
		r, ok := refuse(p.Text, err)
		if !ok {
			return false, err
		}
		if r.position > 0 {
			r.position += offset
		}
		c.push(entry{kind: 'P', refusal: r})
		c.failingParse()
		return false, nil
	}
	own := &portal{statement: &prepared{analysis: a}, analysis: a, exchange: ex, command: cmd, judged: c.texts}
	e := entry{exchange: ex, command: cmd, analysis: a, portal: own, judged: c.texts, simple: true, offset: offset}
	ask := func(kind byte, body []byte) {
		e.kind = kind
		c.push(e)
		c.out = append(c.out, frame(kind, body)...)
	}
	if err := c.before(a); err != nil {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		return false, err
	}
	c.countOn(a, ex)
	names := c.names.makesNames(a)
	names = c.calls(a) || names
	names = c.defines(a, false) || names
	c.named = c.named || names
	ask('P', append(append([]byte{0}, a.Statement.Canonical...), 0, 0, 0))
	ask('B', make([]byte, 8))
	ask('D', []byte{'P', 0})
	e.changes, e.naming, e.count, e.last = changes(a), names, n, last
	if n != nil {
		counted := e
		counted.kind = 'E'
		n.entry = &counted
	}
	ask('E', make([]byte, 5))
	c.assume(a)
	c.written = c.written || !c.open && a.Statement.Writes()
	if n != nil {
		err = c.conclude(n)
	}
	if err == nil {
		err = c.await(func() bool { return len(c.queue) == 0 })
	}
	c.catchUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.skipping, err
}

var copyInScript = &sql.Error{Code: "0A000", Message: "COPY FROM STDIN in a text that changes tables", Hint: "send it in a text of its own", Offset: -1}
