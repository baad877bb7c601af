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

// span are the commands of an open transaction, from before the group, by the
// least and the greatest of their numbers: they run in the order of Execute, and
// are numbered in that of Bind.
type span struct{ first, last uint64 }

func (s *span) add(o span) {
	if o.first == 0 {
		return
	}
	if s.last = max(s.last, o.last); s.first == 0 || o.first < s.first {
		s.first = o.first
	}
}

// mark is a savepoint that stands.
type mark struct {
	name  string
	at    int  // the command that set it, in ending; -1 is before the group
	wrote bool // and that had changed something by then
	since span // what was carried out from it to the next
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
		c.backTo(p.Name, &o)
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
		c.marks = append(c.marks, mark{strings.Clone(p.Name), len(c.ending) - 1, end.wrote, span{}})
	case sql.Release:
		if i := c.marked(p.Name); i >= 0 {
			for _, m := range c.marks[i:] {
				c.behind(i - 1).add(m.since)
			}
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
	c.unmark()
}

func (c *conn) unmark() { c.writes, c.unmarked, c.marks = span{}, span{}, c.marks[:0] }

// behind gives what was carried out behind a savepoint, and before the first
// where there is none.
func (c *conn) behind(mark int) *span {
	if mark < 0 {
		return &c.unmarked
	}
	return &c.marks[mark].since
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
func (c *conn) backTo(name string, o *gate.Outcome) {
	i := c.marked(name)
	if i < 0 {
		return
	}
	var undone span
	for j := i; j < len(c.marks); j++ {
		undone.add(c.marks[j].since)
	}
	c.marks = c.marks[:i+1]
	m := &c.marks[i]
	m.since = span{}
	for i := max(m.at, 0); i < len(c.ending); i++ {
		switch e := &c.ending[i]; {
		case !e.open:
		case i == m.at:
			e.undone = e.undone || e.wrote && !m.wrote
			e.wrote = m.wrote
		default:
			e.undone, e.wrote = e.undone || e.wrote, false
		}
	}
	if undone.first == 0 {
		return
	}
	o.First, o.Last, o.Settles = undone.first, undone.last, gate.RolledBack
	for j := -1; j < i; j++ {
		if s := c.behind(j); s.first != 0 && s.first < undone.last && s.last > undone.first { // these are not told apart by numbers
			o.Settles = gate.Lost
		}
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
func (c *conn) outcome(i int, now byte) gate.Outcome {
	e := &c.ending[i]
	o := e.outcome
	switch {
	case o.State == gate.Failed && e.kept: // after a COMMIT in its text
		o.State = gate.Lost
	case o.State != gate.Completed:
	case e.open && e.wrote && now != 'I':
		o.State = gate.Open
		one := span{e.exchange.Number(), e.exchange.Number()}
		c.writes.add(one)
		n, _ := slices.BinarySearchFunc(c.marks, i, func(m mark, i int) int {
			if m.at < i || m.at == i && !m.wrote {
				return -1
			}
			return 1
		})
		c.behind(n - 1).add(one)
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
		if err := e.exchange.Done(ctx, c.outcome(i, now)); err != nil {
			return err
		}
	}
	if clear(c.ending); cap(c.ending) > 4096 { // of a group like no other
		c.ending = nil
	}
	c.ending = c.ending[:0]
	for i := range c.marks {
		c.marks[i].at = -1
	}
	if now == 'I' {
		c.unmark()
	}
	return nil
}
