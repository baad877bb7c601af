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
	maxHeld  = 1 << 30   // names and unfinished messages, of all sessions; half of it of one person's
	grain    = 1 << 20   // less is not counted
)

// holdings are what all sessions hold, and what those of each person do, who have
// half of it at the most: others go on.
type holdings struct {
	mu   sync.Mutex
	all  account
	by   map[person]*account
	most int // 0 is maxHeld
}

type person struct{ issuer, subject string }

// account counts bytes. A text that several sessions hold counts once.
type account struct {
	held  int
	users map[*sql.Analysis]int
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
	return h.all.held
}

// holding is what one session holds of it.
type holding struct {
	of    *holdings
	who   person
	plain int                   // bytes beside texts
	texts map[*sql.Analysis]int // and their sizes
}

// holds begins to count for the session.
func (c *conn) holds() holding {
	about := c.session.About()
	return holding{of: &c.p.memory, who: person{about.Issuer, about.Subject}}
}

// take holds n bytes in place of what was held, and texts. The error is why that
// would be too much, and then nothing has changed.
func (h *holding) take(n int, texts map[*sql.Analysis]int) error {
	if n < grain && len(texts) == 0 {
		n = 0
	}
	if n == h.plain && len(texts) == 0 && len(h.texts) == 0 {
		return nil
	}
	of := h.of
	of.mu.Lock()
	defer of.mu.Unlock()
	own := of.by[h.who]
	if own == nil {
		own = new(account)
	}
	all, mine, bound := of.all.more(h, n, texts), own.more(h, n, texts), of.bound()
	switch {
	case all > 0 && of.all.held+all > bound:
		return crowded("all sessions hold", bound)
	case mine > 0 && own.held+mine > bound/2:
		return crowded("your sessions hold", bound/2)
	}
	of.all.settle(all, h.texts, texts)
	if own.settle(mine, h.texts, texts); own.held == 0 && len(own.users) == 0 {
		delete(of.by, h.who)
	} else {
		if of.by == nil {
			of.by = map[person]*account{}
		}
		of.by[h.who] = own
	}
	h.plain, h.texts = n, texts
	return nil
}

// more says by how much what is held would grow.
func (a *account) more(h *holding, n int, texts map[*sql.Analysis]int) int {
	more := n - h.plain
	for t, size := range texts {
		if a.users[t] == 0 {
			more += size
		}
	}
	for t, size := range h.texts {
		if _, has := texts[t]; !has && a.users[t] == 1 {
			more -= size
		}
	}
	return more
}

// settle has one session's texts be others.
func (a *account) settle(more int, old, texts map[*sql.Analysis]int) {
	a.held += more
	if a.users == nil {
		a.users = map[*sql.Analysis]int{}
	}
	for t := range texts {
		if _, had := old[t]; !had {
			a.users[t]++
		}
	}
	for t := range old {
		if _, has := texts[t]; has {
			continue
		}
		if a.users[t]--; a.users[t] == 0 {
			delete(a.users, t)
		}
	}
}

// crowded is the error of whoever asks for more than sessions may hold.
func crowded(who string, most int) error {
	return fmt.Errorf("%s %d MB of messages that are not whole, of prepared statements, of values and of what temporary tables are called", who, most>>20)
}

// drop holds nothing any more.
func (h *holding) drop() { _ = h.take(0, nil) }

// keeping is what a session holds behind its names.
type keeping struct {
	holding
	bytes     int // and more, where some were closed since they were weighed
	weighed   int // bytes, as they were then
	lightened time.Time
}

// wait says whether the rest of a message that has to be whole may be waited
// for: the buffer grows with what comes.
func (f *frames) wait() *fatal {
	size := len(f.buf)
	if f.have() == size {
		size *= 2
	}
	if err := f.held.take(size, nil); err != nil {
		return &fatal{code: "53200", message: err.Error(), hint: "try again later, with smaller messages"}
	}
	return nil
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
	if c.kept.bytes > maxNamed {
		c.kept.bytes = c.kept.weighed
		return &sql.Error{Code: "54000", Message: fmt.Sprintf("the session's prepared statements, portals and cursors have more than %d MB", maxNamed>>20), Hint: "close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
	}
	if err := c.kept.take(values+n, texts); err != nil {
		c.kept.bytes = c.kept.weighed
		return &sql.Error{Code: "53200", Message: err.Error(), Hint: "try again later, or close some: DEALLOCATE ALL, CLOSE ALL", Offset: -1}
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
	_ = c.kept.take(values, texts) // it is less
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
