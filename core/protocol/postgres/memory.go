package postgres

import (
	"fmt"
	"sync/atomic"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// What clients make the gateway keep, or servers that answer them, is bounded
// for a session and for all of them, in bytes. Beside what is counted here a
// session keeps a few hundred KB at the most, or what it has not sent yet.
const (
	maxNamed = 64 << 20 // behind a session's names: texts, and values where a guard looks at them
	maxMeant = 64 << 20 // texts of a resource whose meaning is remembered
	maxHeld  = 1 << 30  // names and unfinished messages, of all sessions
	grain    = 1 << 20  // less is not counted
)

// holdings are what all sessions hold.
type holdings struct {
	held atomic.Int64
	most int64 // 0 is maxHeld
}

func (h *holdings) bound() int64 {
	if h.most != 0 {
		return h.most
	}
	return maxHeld
}

// holding is what one of them holds of it.
type holding struct {
	of    *holdings
	bytes int
}

// take holds n bytes in place of what was held. It reports false where all
// sessions would hold too much, and changes nothing.
func (h *holding) take(n int) bool {
	if n < grain {
		n = 0
	}
	more := int64(n - h.bytes)
	if more != 0 && h.of.held.Add(more) > h.of.bound() && more > 0 {
		h.of.held.Add(-more)
		return false
	}
	h.bytes = n
	return true
}

// wait says whether the rest of a message that has to be whole may be waited
// for: the buffer grows with what comes.
func (f *frames) wait() *fatal {
	size := len(f.buf)
	if f.have() == size {
		size *= 2
	}
	if f.held.take(size) {
		return nil
	}
	return &fatal{code: "53200", message: fmt.Sprintf("all sessions hold %d MB of messages that are not whole, of prepared statements and of values: this one has no room", f.held.of.bound()>>20), hint: "try again later, with smaller messages"}
}

// room says whether the session may keep n bytes more, behind a name of its own
// where fresh is said.
func (c *conn) room(fresh bool, n int) error {
	if fresh && len(c.prepared)+len(c.portals)+len(c.names.cursors)+len(c.names.savepoints) >= maxNames {
		return &sql.Error{Code: "54000", Message: fmt.Sprintf("the session has %d prepared statements, portals, cursors and savepoints", maxNames), Hint: "close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	}
	if c.kept += n; c.kept-c.weighed < grain {
		return nil
	}
	// What was closed meanwhile has not been counted off.
	c.weighed = c.weigh()
	c.kept = c.weighed + n
	switch {
	case c.kept > maxNamed:
		c.kept = c.weighed
		return &sql.Error{Code: "54000", Message: fmt.Sprintf("the session's prepared statements, portals and cursors have more than %d MB", maxNamed>>20), Hint: "close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	case !c.behind.take(c.kept):
		c.kept = c.weighed
		return &sql.Error{Code: "53200", Message: fmt.Sprintf("all sessions hold %d MB of messages that are not whole, of prepared statements and of values", c.p.memory.bound()>>20), Hint: "try again later, or close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	}
	return nil
}

// weigh counts what is kept behind the session's names.
func (c *conn) weigh() (n int) {
	seen := map[*sql.Analysis]bool{}
	add := func(a *sql.Analysis) {
		if !seen[a] {
			seen[a] = true
			n += a.Size()
		}
	}
	for _, st := range c.prepared {
		add(st.analysis)
		n += len(st.types)
	}
	for _, p := range c.portals {
		add(p.statement.analysis)
		add(p.analysis)
		n += sizeOf(p.params) + sizeOf(p.bound) + len(p.formats)
	}
	for _, d := range c.names.cursors {
		add(d.analysis)
		n += sizeOf(d.params)
	}
	return n
}

func sizeOf(params []abi.Param) (n int) {
	const each = 48
	for i := range params {
		n += each + len(params[i].Value)
	}
	return n
}
