package postgres

import (
	"fmt"
	"sync"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// What clients make the gateway keep, or servers that answer them, is bounded
// for a session and for all of them, in bytes. Beside what is counted here a
// session keeps a few MB at the most, or what it has not sent yet.
const (
	maxNamed = 128 << 20 // behind a session's names: texts, and values where a guard looks at them
	maxMeant = 64 << 20  // texts of a resource whose meaning is remembered
	maxHeld  = 1 << 30   // names and unfinished messages, of all sessions
	grain    = 1 << 20   // less is not counted
)

// holdings are what all sessions hold. A text that several do counts once.
type holdings struct {
	mu    sync.Mutex
	held  int
	users map[*sql.Analysis]int
	most  int // 0 is maxHeld
}

func (h *holdings) bound() int {
	if h.most != 0 {
		return h.most
	}
	return maxHeld
}

func (h *holdings) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// fits adds bytes where all sessions do not hold too much then. The caller holds mu.
func (h *holdings) fits(more int) bool {
	if more > 0 && h.held+more > h.bound() {
		return false
	}
	h.held += more
	return true
}

// holding is what one of them holds of it.
type holding struct {
	of    *holdings
	plain int                   // bytes beside texts
	texts map[*sql.Analysis]int // and their sizes
}

// take holds n bytes in place of what was held, and texts. It reports false
// where all sessions would hold too much, and changes nothing.
func (h *holding) take(n int, texts map[*sql.Analysis]int) bool {
	if n < grain && len(texts) == 0 {
		n = 0
	}
	if n == h.plain && len(texts) == 0 && len(h.texts) == 0 {
		return true
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	more := n - h.plain
	for a, size := range texts {
		if _, had := h.texts[a]; !had && h.of.users[a] == 0 {
			more += size
		}
	}
	for a, size := range h.texts {
		if _, has := texts[a]; !has && h.of.users[a] == 1 {
			more -= size
		}
	}
	if !h.of.fits(more) {
		return false
	}
	if h.of.users == nil {
		h.of.users = map[*sql.Analysis]int{}
	}
	for a := range texts {
		if _, had := h.texts[a]; !had {
			h.of.users[a]++
		}
	}
	for a := range h.texts {
		if _, has := texts[a]; has {
			continue
		}
		if h.of.users[a]--; h.of.users[a] == 0 {
			delete(h.of.users, a)
		}
	}
	h.plain, h.texts = n, texts
	return true
}

// keeping is what a session holds behind its names.
type keeping struct {
	holding
	bytes     int // and more, where some were closed since they were weighed
	weighed   int // bytes, as they were then
	lightened time.Time
}

// crowded is the error of whoever asks for more than all sessions may hold.
func (h *holdings) crowded() string {
	return fmt.Sprintf("all sessions hold %d MB of messages that are not whole, of prepared statements and of values", h.bound()>>20)
}

// wait says whether the rest of a message that has to be whole may be waited
// for: the buffer grows with what comes.
func (f *frames) wait() *fatal {
	size := len(f.buf)
	if f.have() == size {
		size *= 2
	}
	if f.held.take(size, nil) {
		return nil
	}
	return &fatal{code: "53200", message: f.held.of.crowded(), hint: "try again later, with smaller messages"}
}

// room says whether the session may keep n bytes more, behind a name of its own
// where fresh is said.
func (c *conn) room(fresh bool, n int) error {
	if fresh && len(c.prepared)+len(c.portals)+len(c.names.cursors)+len(c.names.savepoints) >= maxNames {
		return &sql.Error{Code: "54000", Message: fmt.Sprintf("the session has %d prepared statements, portals, cursors and savepoints", maxNames), Hint: "close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	}
	if c.kept.bytes += n; c.kept.bytes-c.kept.weighed < grain {
		return nil
	}
	// What was closed meanwhile has not been counted off.
	values, texts := c.weigh()
	c.kept.bytes = c.kept.weighed + n
	switch {
	case c.kept.bytes > maxNamed:
		c.kept.bytes = c.kept.weighed
		return &sql.Error{Code: "54000", Message: fmt.Sprintf("the session's prepared statements, portals and cursors have more than %d MB", maxNamed>>20), Hint: "close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	case !c.kept.take(values+n, texts):
		c.kept.bytes = c.kept.weighed
		return &sql.Error{Code: "53200", Message: c.p.memory.crowded(), Hint: "try again later, or close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	}
	return nil
}

// lighten gives back what was closed since it was weighed: at once where a text
// may have closed it, else once a second.
func (c *conn) lighten() {
	if c.kept.plain == 0 && len(c.kept.texts) == 0 {
		return
	}
	if c.catchUp(); time.Since(c.kept.lightened) < time.Second {
		return
	}
	values, texts := c.weigh()
	if c.kept.bytes = c.kept.weighed; c.kept.bytes < grain {
		values, texts = 0, nil
	}
	c.kept.take(values, texts)
	c.kept.lightened = time.Now()
}

// weigh counts what is kept behind the session's names.
func (c *conn) weigh() (values int, texts map[*sql.Analysis]int) {
	texts = map[*sql.Analysis]int{}
	c.kept.weighed = 0
	add := func(a *sql.Analysis) {
		if _, ok := texts[a]; !ok && a != nil {
			size := a.Size()
			texts[a] = size
			c.kept.weighed += size
		}
	}
	for _, st := range c.prepared {
		add(st.analysis)
		values += len(st.types)
	}
	for _, p := range c.portals {
		add(p.statement.analysis)
		add(p.analysis)
		values += sizeOf(p.params) + sizeOf(p.bound) + len(p.formats)
	}
	for _, d := range c.names.cursors {
		add(d.analysis)
		values += sizeOf(d.params) + d.size
	}
	c.kept.weighed += values
	return values, texts
}

func sizeOf(params []abi.Param) (n int) {
	const each = 48
	for i := range params {
		n += each + len(params[i].Value)
	}
	return n
}
