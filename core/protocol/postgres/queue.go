package postgres

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// entry is one thing that the client has been promised: the answer to one of
// its messages, or to the one that stands in its place.
type entry struct {
	kind     byte // the client's message: Q P B D E C S
	exchange *gate.Exchange
	command  *abi.Command
	analysis *sql.Analysis
	refusal  *refusal    // the server's error is replaced by it
	swallow  bool        // the gateway asked this itself: the client hears nothing of it
	own      bool        // the same, and it is about the session, not about a command
	changes  bool        // may change what later texts mean: names, settings, the transaction
	naming   bool        // its text makes names
	group    uint64      // counts Sync and Query
	params   []abi.Param // of a DECLARE
	judged   []judged    // where drift is looked for: the texts that the answer is held against

	name   string    // of the statement that Parse makes or Close ends, of the portal of Bind and Execute, of what Describe asks for
	before *prepared // what the name stood for until then
	after  *prepared
	ran    bool // it is what failed; everything behind it was skipped
	portal *portal
	count  *tally // a limit holds for what it writes
	size   int    // bytes of its text and what is known of it
	simple bool   // a Query message asked for it
	last   bool   // and it is the last statement of several
	offset int    // of its text in that of the Query, in characters
}

// prepared is a statement that the client has prepared.
type prepared struct {
	analysis  *sql.Analysis
	read      reading  // what it was read under
	path      []string // the search path that it was read along
	types     []byte   // of its parameters, as the client gave them
	group     uint64
	confirmed bool                      // the server has it
	sure      bool                      // and the client's side knows
	plan      atomic.Pointer[gate.Plan] // of its result, as it was described last
}

// reading is what a text was read under: the version of the schema, what the
// task and the resource say of texts, and whether the search path may be another
// than the login's.
type reading struct {
	schema   uint64
	task     *gate.Task
	resource *gate.Resource
	moved    bool
}

// unread is what no text was read under.
var unread = reading{schema: ^uint64(0)}

// portal is a bound statement. Its exchange lives until it is closed.
type portal struct {
	statement *prepared
	analysis  *sql.Analysis // of the statement, with its names looked up
	serial    uint64
	moved     bool // the search path had been moved when it was bound
	exchange  *gate.Exchange
	command   *abi.Command
	own       abi.Command // which that is
	described bool        // the plan of its rows is fixed, or will be before they come
	params    []abi.Param // of a DECLARE
	bound     []abi.Param // where a guard looks at them
	formats   []byte      // of its columns, as Bind has them
	refused   *refusal    // its rows may not be shown
	judged    []judged
	given     int    // how many parameters were bound
	ended     bool   // its exchange is on the list of those that the next ReadyForQuery closes
	count     *tally // a limit holds for what it writes
}

// catchUp takes over what the server's side has found out since the client's
// side looked last: names that were not made or closed after all, and where the
// transaction stands when nothing is in flight.
func (c *conn) catchUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUpLocked()
}

// catchUpLocked is catchUp for who holds mu.
func (c *conn) catchUpLocked() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		e := &c.undo[i]
		switch {
		case e.kind == 'B':
			if c.portals[e.name] == e.portal {
				delete(c.portals, e.name)
			}
		case c.prepared[e.name] != e.after: // it has been made anew since
		case e.before == nil || e.ran && e.name == "": // a Parse that fails destroys the unnamed statement
			delete(c.prepared, e.name)
		default:
			c.prepared[e.name] = e.before
		}
	}
	clear(c.undo) // what they point to can be large
	c.undo = c.undo[:0]
	for i := range c.learned {
		c.take(c.learned[i])
		c.learned[i] = learned{}
	}
	c.learned = c.learned[:0]
	if len(c.queue) == 0 && !c.unsynced {
		c.open = c.status != 'I'
		c.late = c.late && c.open
	}
}

// push promises an answer. The caller sends the message afterwards. Once
// something has failed, the server skips all but a Sync, and so nothing is
// promised.
func (c *conn) push(e entry) {
	e.group = c.group
	switch {
	case e.after != nil:
		e.size = e.after.analysis.Size()
	case e.kind == 'Q' && e.analysis != nil:
		e.size = e.analysis.Size()
	}
	c.grows(&e)
	c.feeds = c.feeds || e.analysis != nil && copies(e.analysis) > 0
	c.unsynced = e.kind != 'S' && e.kind != 'Q'
	c.written = c.written && c.unsynced
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skipping && e.kind != 'S' {
		c.skipOne(e, gate.Outcome{State: gate.Skipped})
		return
	}
	c.skipping = false
	c.queue = append(c.queue, e)
	c.promising += e.size
	c.crowded = len(c.queue) >= maxQueue || c.promising >= maxPromised
	if e.changes {
		c.changing++
	}
	if e.naming {
		c.naming++
	}
}

// grows counts what a promise has the gateway keep until the next Sync or Query.
func (c *conn) grows(e *entry) {
	g := &c.grown
	switch e.kind {
	case 'S', 'Q':
		if g.counted > 0 {
			g.held.drop()
		}
		g.bytes, g.counted, g.texts = 0, 0, nil
		return
	case 'P', 'B':
		g.bytes += perCommand
	case 'E':
		g.bytes += perExecute
	}
	if e.size == 0 || g.texts[e.after.analysis] {
		return
	}
	if g.bytes += e.size; g.bytes > grain { // from here on no text counts twice
		if g.texts == nil {
			g.texts = map[*sql.Analysis]bool{}
		}
		g.texts[e.after.analysis] = true
	}
}

// skipOne undoes what was assumed of a promise that is not kept. The caller
// holds mu.
func (c *conn) skipOne(e entry, o gate.Outcome) {
	if e.refusal == nil && (e.kind == 'P' || e.kind == 'B' || e.kind == 'C' && e.changes) {
		e.ran = o.State == gate.Failed
		c.undo = append(c.undo, e)
	}
	if e.exchange != nil && e.kind != 'D' {
		if e.portal != nil {
			e.portal.ended = true
		}
		c.skipped = append(c.skipped, ending{exchange: e.exchange, outcome: o})
	}
}

// pop removes the first entry. The caller holds mu.
func (c *conn) pop() entry {
	e := c.queue[0]
	c.promising -= e.size
	c.queue[0] = entry{}
	c.queue = c.queue[1:]
	if len(c.queue) == 0 {
		c.queue = c.ring[:0]
	}
	if e.changes {
		c.changing--
	}
	if e.naming {
		c.naming--
	}
	c.pending = true
	c.moved.Broadcast()
	return e
}

// promised says whether an exchange's command is still to be answered. The
// caller holds mu.
func (c *conn) promised(ex *gate.Exchange) bool {
	return slices.ContainsFunc(c.queue, func(e entry) bool { return e.exchange == ex })
}

// idle says whether the client has been answered everything.
func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0 || c.queue[0].own
}

// settle waits until what is in flight can no longer change the meaning of the
// next text: nothing that changes names, settings or the transaction is
// unanswered from before the last Sync or Query, and no text that makes names.
func (c *conn) settle() error {
	c.mu.Lock()
	ready := !c.unsettled()
	if ready {
		c.catchUpLocked()
	}
	c.mu.Unlock()
	if ready {
		return nil
	}
	defer c.catchUp()
	return c.await(func() bool { return !c.unsettled() })
}

// The bounds of what a session makes the gateway remember.
const (
	maxQueue    = 4096      // promises, before the next message is looked at
	maxGrouped  = 128 << 20 // bytes that are kept until a Sync
	maxPromised = 16 << 20  // bytes of texts, before the next message is looked at
	maxNames    = 10_000    // statements, portals, cursors and savepoints
)

// What becomes of a command is known at the Sync, and until then it is kept: some
// 330 bytes of a Parse, 260 of a Bind and 90 more of its Execute, and a Bind's
// masks. Other messages leave nothing behind once they are answered.
const (
	perCommand = 448
	perExecute = 128
)

// group is what a session keeps until the next Sync.
type group struct {
	bytes   int
	counted int                    // of them in held
	texts   map[*sql.Analysis]bool // that are counted in bytes, once there are many
	held    holding
}

// bound holds a client to what may be in flight.
func (c *conn) bound() error {
	if g := &c.grown; g.bytes-g.counted >= grain {
		if g.bytes > maxGrouped {
			return &fatal{code: "54000", message: fmt.Sprintf("more than %d MB of commands without a Sync", maxGrouped>>20), hint: "send Sync now and then"}
		}
		g.counted = g.bytes
		if err := g.held.take(g.bytes, nil); err != nil {
			return &fatal{code: "53200", message: err.Error(), hint: "try again later, with Sync now and then"}
		}
	}
	if !c.crowded {
		return nil
	}
	c.crowded = false
	return c.await(func() bool { return len(c.queue) < maxQueue/2 && c.promising < maxPromised/2 })
}

// unsettled is called with mu held.
func (c *conn) unsettled() bool {
	if c.naming > 0 {
		return true
	}
	if c.changing == 0 {
		return false
	}
	for i := range c.queue {
		if c.queue[i].changes && c.queue[i].group < c.group {
			return true
		}
	}
	return false
}

// await sends what is waiting, with a Flush where the server would not answer
// without, and waits until done holds or the server's side has ended. A Flush
// behind ReadyForQuery would stop the server's clock for idle transactions.
func (c *conn) await(done func() bool) error {
	if c.unsynced {
		c.out = append(c.out, 'H', 0, 0, 0, 4)
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !done() {
		if c.over {
			return errOver
		}
		c.leaveLoop()
		c.moved.Wait()
	}
	return nil
}
