package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// What became of a command is known when its transaction ends: by a Sync or the
// end of a Query, by COMMIT or ROLLBACK among others of one group or text, or in
// a later one.

// ending is a command of the group at hand that has ended, but for its
// transaction.
type ending struct {
	exchange *gate.Exchange
	outcome  gate.Outcome
	open     bool // the transaction of its last part has not ended within the group
	wrote    bool // and a part of it has changed something
	kept     bool // something of it is committed
	undone   bool // something of it was rolled back
}

// span are the commands of an open transaction, from before the group.
type span struct{ first, last uint64 }

// mark is a savepoint that stands.
type mark struct {
	name   string
	number uint64 // of the command that set it
	wrote  bool   // and that had changed something by then
}

// ends notes how a command has ended, or a part of its text: what came of the
// last of them is what came of it.
func (c *conn) ends(ex *gate.Exchange, o gate.Outcome) *ending {
	if n := len(c.ending) - 1; n >= 0 && c.ending[n].exchange == ex {
		last := &c.ending[n]
		if o.Settles == 0 {
			o.Settles, o.First, o.Last = last.outcome.Settles, last.outcome.First, last.outcome.Last
		}
		last.outcome = o
		return last
	}
	c.ending = append(c.ending, ending{exchange: ex, outcome: o})
	return &c.ending[len(c.ending)-1]
}

// partOf gives the statement that the server has carried out last.
func (c *conn) partOf(e *entry) *sql.Part {
	if i := max(c.part-1, 0); e.analysis != nil && i < len(e.analysis.Parts) {
		return &e.analysis.Parts[i]
	}
	return nil
}

// stood notes where the transaction stands after a statement, before the server
// says it at the end of the group: the next of the group is judged by that. It comes
// before the promise is kept, for which that one waits.
func (c *conn) stood(e *entry, tag string) {
	p := c.partOf(e)
	if p == nil {
		return
	}
	var status byte
	ended := p.Kind != sql.RollbackTo && (tag == "COMMIT" || tag == "ROLLBACK")
	switch {
	case p.Kind == sql.Define:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.undecided = true
		return
	case p.Kind == sql.Begin, p.Kind == sql.RollbackTo, p.Kind == sql.CommitChain:
		status = 'T'
	case ended:
		status = 'I'
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.undecided = status, c.undecided && !ended
}

// endsPart is ends for one statement of a text.
func (c *conn) endsPart(e *entry, o gate.Outcome) {
	p := c.partOf(e)
	switch {
	case p == nil:
	case p.Kind == sql.RollbackTo:
		c.backTo(p.Name, e.exchange, &o)
	case o.Tag == "COMMIT" || o.Tag == "ROLLBACK": // COMMIT of what has failed says ROLLBACK
		c.decide(o.Tag == "COMMIT", &o)
	}
	end := c.ends(e.exchange, o)
	if p == nil || p.Kind == sql.Commit || p.Kind == sql.Rollback || p.Kind == sql.CommitChain {
		return
	}
	end.open = true
	end.wrote = end.wrote || p.Writes || len(e.analysis.Parts) == 1
	switch p.Kind {
	case sql.Savepoint:
		c.marks = append(c.marks, mark{strings.Clone(p.Name), e.exchange.Number(), end.wrote})
	case sql.Release:
		if i := c.marked(p.Name); i >= 0 {
			c.marks = c.marks[:i]
		}
	}
}

// decide is the end of a transaction: of what is open in the group, and of what
// was before it.
func (c *conn) decide(committed bool, o *gate.Outcome) {
	for i := range c.ending {
		if e := &c.ending[i]; e.open {
			e.decide(committed)
		}
	}
	if c.writes.first != 0 {
		o.First, o.Last, o.Settles = c.writes.first, c.writes.last, gate.RolledBack
		if committed {
			o.Settles = gate.Committed
		}
	}
	c.writes, c.marks = span{}, c.marks[:0]
}

func (e *ending) decide(committed bool) {
	if e.wrote && committed {
		e.kept = true
	} else if e.wrote {
		e.undone = true
	}
	e.open, e.wrote = false, false
}

func (c *conn) marked(name string) int {
	i := len(c.marks) - 1
	for i >= 0 && c.marks[i].name != name {
		i--
	}
	return i
}

// backTo undoes what came behind a savepoint, in the group and before it. The
// savepoint stays.
func (c *conn) backTo(name string, ex *gate.Exchange, o *gate.Outcome) {
	i := c.marked(name)
	if i < 0 {
		return
	}
	m := c.marks[i]
	c.marks = c.marks[:i+1]
	for i := range c.ending {
		switch e := &c.ending[i]; {
		case !e.open || e.exchange.Number() < m.number:
		case e.exchange.Number() == m.number:
			e.undone = e.undone || e.wrote && !m.wrote
			e.wrote = m.wrote
		default:
			e.undone, e.wrote = e.undone || e.wrote, false
		}
	}
	if m.number < c.writes.last {
		o.First, o.Last, o.Settles = m.number+1, c.writes.last, gate.RolledBack
	}
}

// ran says whether an exchange has run in part, and forgets it.
func (c *conn) ran(ex *gate.Exchange) bool {
	i := slices.Index(c.partly, ex)
	if i >= 0 {
		c.partly = slices.Delete(c.partly, i, i+1)
	}
	return i >= 0
}

// outcome says what became of a command, once the server has said where the
// transaction stands.
func (c *conn) outcome(e *ending, now byte) gate.Outcome {
	o := e.outcome
	switch {
	case o.State == gate.Failed && e.kept: // after a COMMIT in its text
		o.State = gate.Lost
	case o.State != gate.Completed:
	case e.open && e.wrote && now != 'I':
		o.State = gate.Open
		n := e.exchange.Number() // in the order of their ends, not of their numbers
		if c.writes.last = max(c.writes.last, n); c.writes.first == 0 || n < c.writes.first {
			c.writes.first = n
		}
	case e.open && now == 'I':
		e.decide(!c.failure)
	}
	if o.State == gate.Completed && e.undone && !e.kept {
		o.State = gate.RolledBack
	}
	return o
}

// concluded closes the commands of a group.
func (c *conn) concluded(ctx context.Context, now byte) error {
	if now == 'I' && c.failure && c.writes.first != 0 { // COMMIT itself has failed
		for i := range c.ending {
			if o := &c.ending[i].outcome; o.State == gate.Failed && o.Settles == 0 {
				o.First, o.Last, o.Settles = c.writes.first, c.writes.last, gate.RolledBack
				break
			}
		}
	}
	for i := range c.ending {
		e := &c.ending[i]
		c.ran(e.exchange)
		if err := e.exchange.Done(ctx, c.outcome(e, now)); err != nil {
			return err
		}
	}
	clear(c.ending)
	c.ending = c.ending[:0]
	if now == 'I' {
		c.writes, c.marks = span{}, c.marks[:0]
	}
	return nil
}
