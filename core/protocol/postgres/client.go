package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/loop"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

// The bounds of a client's messages, in bytes. Copy data has none: it passes
// in pieces.
const (
	maxText = parse.MaxBytes + 64<<10
	maxBind = 64 << 20
	maxMisc = 64 << 10

	beginning = 5 + maxName + 1 // of a message that is too large: with the name that a Parse begins with
)

// turn is about how long one session's messages are taken in a loop before others
// have theirs.
const turn = 200 * time.Microsecond

// fromClient reads messages, judges what is to be judged and sends upstream
// what may go, many messages in one write.
func (c *conn) fromClient(ctx context.Context) error {
	f := &frames{conn: c.client, to: c.carried[1], contain: c.contain, held: c.holds()}
	defer f.held.drop()
	err := f.run(func() error {
		err := c.messages(ctx, f)
		if err != nil && !errors.Is(err, loop.ErrMore) {
			return err
		}
		if err := c.flush(); err != nil {
			return fmt.Errorf("postgres: %w: %w", errUpstream, err)
		}
		return err
	})
	if errors.Is(err, io.EOF) || c.clientGone.Load() && ctx.Err() == nil {
		err = errGoodbye
	}
	if errors.Is(err, unix.ECONNRESET) && !errors.Is(err, errUpstream) {
		err = fmt.Errorf("%w: %w", errTell, err)
	}
	if errors.Is(err, errGoodbye) {
		f.buf = nil // half a message, while the server goes on with what came before
		f.held.drop()
		c.leave()
	}
	return err
}

// leave tells the server that nothing more comes, and waits until it has ended:
// what the client sent before it left is carried out and answered, as it would
// be without a gateway. What was not committed by then the server rolls back.
func (c *conn) leave() {
	if err := c.flush(); err != nil {
		return
	}
	socket := c.upstream
	if t, ok := socket.(*tls.Conn); ok { // the alert that TLS ends with would lie unread when the server closes, which then resets, and its last answers are lost
		if socket = t.NetConn(); socketOf(t) != nil {
			socket = socketOf(t).Conn
		}
	}
	half, ok := socket.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over {
		c.moved.Wait()
	}
}

// messages takes what is there of the client's messages, in a loop for no longer
// than a turn. Copy data passes in pieces, so that its size does not matter.
func (c *conn) messages(ctx context.Context, f *frames) error {
	var began time.Time
	for n := 1; ; n++ {
		if c.carried[0] != nil && n%4 == 0 && f.have() > 0 {
			if began.IsZero() {
				began = time.Now()
			} else if time.Since(began) > turn {
				return loop.ErrMore
			}
		}
		if c.dropLeft > 0 {
			if f.have() == 0 {
				return nil
			}
			c.dropLeft -= len(f.take(min(c.dropLeft, f.have())))
			continue
		}
		if c.dataLeft > 0 {
			if f.have() == 0 {
				return nil
			}
			piece := f.take(min(c.dataLeft, f.have()))
			c.dataLeft -= len(piece)
			if c.spool != nil {
				c.dataPass = false
				if err := c.spooled(ctx, piece); err != nil {
					return err
				}
				continue
			}
			if c.dataPass {
				if err := c.dataInto.Input(piece); err != nil {
					return err
				}
				c.out = append(c.out, piece...)
			}
			if len(c.out) >= largeBuffer {
				if err := c.flush(); err != nil {
					return fmt.Errorf("postgres: %w: %w", errUpstream, err)
				}
			}
			continue
		}
		kind, size, ok, err := f.head()
		if err != nil {
			return &fatal{code: "08P01", message: err.Error()}
		}
		if !ok {
			return nil
		}
		if c.taking != nil && !c.inCopy() { // the COPY has failed
			if err := c.conclude(c.taking); err != nil {
				return err
			}
		}
		if kind == 'd' { // outside COPY the server would ignore it, and it is dropped
			if c.spool != nil {
				f.take(5)
				c.dataLeft = size - 5
				continue
			}
			c.dataLeft, c.dataPass = size, c.inCopy()
			c.mu.Lock()
			c.dataInto = c.copyInto
			c.mu.Unlock()
			continue
		}
		whole := size
		if size > limit(kind) {
			if kind != 'Q' && kind != 'P' {
				return &fatal{code: "54000", message: fmt.Sprintf("a message %q of %d bytes: at most %d", kind, size, limit(kind))}
			}
			size = beginning // the text is refused, and what follows dropped as it comes
		}
		if f.have() < size {
			if err := f.wait(); err != nil {
				return err
			}
			return nil
		}
		c.dropLeft = whole - size
		if err := c.message(ctx, kind, f.take(size)); err != nil {
			return err
		}
	}
}

func limit(kind byte) int {
	switch kind {
	case 'Q', 'P':
		return maxText
	case 'B':
		return maxBind
	}
	return maxMisc
}

// message takes one whole message.
func (c *conn) message(ctx context.Context, kind byte, m []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.bound(); err != nil {
		return err
	}
	if kind == 'S' || kind == 'Q' {
		c.lighten()
	}
	body := cursor{b: m[5:]}
	switch kind {
	case 'X':
		c.out = append(c.out, m...)
		return errGoodbye
	case 'c', 'f':
		if c.spool != nil {
			return c.endSpool(ctx, m)
		}
		return c.endCopy(m)
	}
	if c.taking != nil && !c.inCopy() {
		if err := c.conclude(c.taking); err != nil {
			return err
		}
	}
	if c.spool != nil || c.taking != nil {
		if kind == 'S' || kind == 'H' {
			return nil // the server ignores them as well
		}
		return &fatal{code: "08P01", message: fmt.Sprintf("the message %q in the middle of COPY", kind)}
	}
	if c.straying() {
		switch {
		case kind == 'H':
			return nil
		case kind == 'S' && c.inCopy():
			c.stray(m)
			return nil
		case c.inCopy() && c.judging() != nil && c.judging().Major < 14: // it goes on behind what is out of place, and cannot be asked
			return &fatal{code: "08P01", message: fmt.Sprintf("the message %q in the middle of COPY", kind)}
		}
		if err := c.afterCopy(); err != nil {
			return err
		}
	}
	if c.called && (kind == 'Q' || kind == 'P' || kind == 'B' || kind == 'E') {
		if err := c.readBack(); err != nil {
			return err
		}
	}
	switch kind {
	case 'Q':
		return c.query(ctx, body)
	case 'P':
		return c.parse(ctx, m, body)
	case 'B':
		return c.bind(ctx, m, body)
	case 'D':
		return c.describe(m, body)
	case 'E':
		return c.execute(ctx, m, body)
	case 'C':
		return c.close(m, body)
	case 'H':
		c.out = append(c.out, m...)
		return nil
	case 'S':
		c.endGroup(entry{kind: 'S'})
		c.out = append(c.out, m...)
		return nil
	case 'F':
		if skipped, err := c.skips(); err != nil || skipped {
			return err
		}
		c.push(entry{kind: 'Q', refusal: &refusal{code: "0A000", message: "the function call message is refused", hint: "call the function in a SELECT"}})
		c.group++
		c.failingQuery()
		return nil
	}
	return &fatal{code: "08P01", message: fmt.Sprintf("the message %q is not known", kind)}
}

// endGroup promises the answer to a Sync.
func (c *conn) endGroup(e entry) {
	c.catchUp()
	if !c.open { // the implicit transaction ends, and its portals with it
		c.called = c.called || c.late
		for name := range c.portals {
			c.drop(name)
		}
	}
	c.named = c.groupEnds(true) || c.named
	e.changes = c.named
	c.push(e)
	c.named = false
	c.group++
}

// tooLong refuses a message whose name the server would not tell from another.
func (c *conn) tooLong(kind byte) error {
	c.push(entry{kind: kind, refusal: &refusal{code: "42622", message: fmt.Sprintf("the name of a statement or portal is longer than %d bytes", maxName)}})
	c.failingParse()
	return nil
}

func malformed(kind byte) error {
	return &fatal{code: "08P01", message: fmt.Sprintf("a malformed message %q", kind)}
}

// judge finds out what a text does and asks the gate. A text that cannot be
// understood is submitted all the same, so that it stands in the record, and
// is refused whatever the guards say.
func (c *conn) judge(ctx context.Context, text string, phase abi.Phase) (*sql.Analysis, *gate.Exchange, *abi.Command, error) {
	if err := c.settle(); err != nil {
		return nil, nil, nil, err
	}
	c.texts = nil
	raw, err := c.understand(text, c.names.path)
	if err == nil && c.apart(raw) {
		if phase == abi.Execute {
			return raw, nil, nil, errScript
		}
		err = multiple
	}
	a := raw
	if closed := c.taskOpen(raw); closed != nil {
		err = closed
	}
	if err == nil && givesName(raw) {
		err = c.room(true, raw.Size())
	}
	if err == nil {
		if a, err = c.resolve(raw); phase == abi.Prepare && nameless(err) && raw.Later() != nil {
			a, err = raw.Later(), nil // Bind looks again, and fails if it still stands for nothing
		}
	}
	if err != nil {
		return nil, nil, nil, c.unjudged(ctx, text, phase, err)
	}
	if onlyPrepares(a) {
		phase = abi.Prepare
	}
	cmd := &abi.Command{Phase: phase, Statement: a.Statement, Params: c.given(a, nil), Open: c.open}
	if phase == abi.Execute && copies(a) > 0 {
		cmd.Input.Kind = abi.InputStream
	}
	ex, err := c.submit(ctx, cmd, a, cmd.Input.Kind == abi.InputStream && len(a.Parts) == 1, func() (*sql.Analysis, error) { return c.reread(text) })
	if err == nil && a.Statement.Incomplete != "" { // no guard can allow what is not understood
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		err = &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.incomplete", Message: "not understood, and so refused: " + a.Statement.Incomplete}}
		ex = nil
	}
	if err == nil {
		ex, err = c.definable(ctx, a, ex, phase == abi.Execute)
	}
	if err == nil {
		ex, err = c.copyable(ctx, a, ex)
	}
	if phase == abi.Prepare && !onlyPrepares(a) {
		a = raw // what its names stand for is looked up each time it runs
	}
	return a, ex, cmd, err
}

// unjudged writes down a text that is refused before the guards can judge it,
// and gives back why.
func (c *conn) unjudged(ctx context.Context, text string, phase abi.Phase, why error) error {
	if errors.Is(why, errOver) { // the session has ended under it
		return why
	}
	st := &abi.Statement{Protocol: "postgres", Text: text, Incomplete: why.Error()}
	ex, err := c.session.Submit(ctx, &abi.Command{Phase: phase, Statement: st, Open: c.open}, nil)
	if err == nil {
		err = ex.Done(ctx, gate.Outcome{State: gate.Failed})
	}
	var denied *gate.Denied
	if err != nil && !errors.As(err, &denied) {
		return err
	}
	return why
}

// tooLarge writes down that a text is refused of which only the beginning was read,
// and gives back why.
func (c *conn) tooLarge(ctx context.Context, phase abi.Phase) error {
	if err := c.settle(); err != nil {
		return err
	}
	size := c.dropLeft + beginning - 5
	why := &sql.Error{Code: "54000", Message: fmt.Sprintf("a text of %d bytes: at most %d are read", size, parse.MaxBytes), Hint: "send less at once, or the values as parameters or by COPY", Offset: -1}
	return c.unjudged(ctx, fmt.Sprintf("(a text of %d bytes)", size), phase, why)
}

// reread finds out what a text does now.
func (c *conn) reread(text string) (*sql.Analysis, error) {
	a, err := c.understand(text, c.names.path)
	if err != nil {
		return nil, err
	}
	return c.resolve(a)
}

// query takes a Query message: one command, whatever it holds, refused whole.
func (c *conn) query(ctx context.Context, body cursor) error {
	large := c.dropLeft > 0
	text := body.string()
	if !body.end() && !large {
		return malformed('Q')
	}
	if skipped, err := c.skips(); err != nil || skipped {
		return err
	}
	if large {
		err := c.tooLarge(ctx, abi.Execute)
		r, ok := refuse("", err)
		if !ok {
			return err
		}
		c.refuseQuery(r)
		return nil
	}
	a, ex, cmd, err := c.judge(ctx, text, abi.Execute)
	if errors.Is(err, errScript) {
		return c.script(ctx, text, a.Pieces)
	}
	if errors.Is(err, errSpool) {
		return c.beginSpool(ctx, &spool{text: text, analysis: a, command: cmd})
	}
	var n *tally
	if err == nil {
		if n, err = limited(a, ex); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err != nil {
		r, ok := refuse(text, err)
		if !ok {
			return err
		}
		c.refuseQuery(r)
		return nil
	}
	return c.carry(a, ex, cmd, n, false)
}

// refuseQuery answers a Query message that may not go. It ends the unnamed statement
// all the same, as the server's own errors do.
func (c *conn) refuseQuery(r *refusal) {
	delete(c.prepared, "")
	if c.answerIdle(r) {
		return
	}
	c.push(entry{kind: 'Q', refusal: r})
	c.group++
	c.failingQuery()
}

// carry sends a Query message that may go. quiet is of a COPY that the client
// has been told of.
func (c *conn) carry(a *sql.Analysis, ex *gate.Exchange, cmd *abi.Command, n *tally, quiet bool) error {
	if n != nil {
		return c.queryCounted(a, ex, cmd, n, quiet)
	}
	if err := c.before(a); err != nil {
		_ = ex.Done(c.session.Context(), gate.Outcome{State: gate.Failed})
		return err
	}
	c.countOn(a, ex)
	names := c.names.makesNames(a)
	names = c.defines(a, true) || names
	c.push(entry{kind: 'Q', swallow: quiet, exchange: ex, command: cmd, analysis: a, changes: changes(a), naming: c.calls(a) || names, judged: c.texts})
	c.group++
	c.assume(a)
	for name := range c.portals { // a Query ends the unnamed portal, and a transaction the others
		if name == "" || !c.open {
			c.drop(name)
		}
	}
	delete(c.prepared, "")
	c.out = append(c.out, 'Q', 0, 0, 0, 0)
	binary.BigEndian.PutUint32(c.out[len(c.out)-4:], uint32(len(a.Statement.Canonical)+5))
	c.out = append(append(c.out, a.Statement.Canonical...), 0)
	return c.awaitCopy(a, ex)
}

// skips says whether the server skips a Query: something before it has failed,
// and no Sync stands between.
func (c *conn) skips() (bool, error) {
	if !c.unsynced {
		return false, nil
	}
	defer c.catchUp()
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skipping, nil
}

// awaitCopy waits, where a command takes data, until the server has said
// whether it does: what the client sends next is data only if so.
func (c *conn) awaitCopy(a *sql.Analysis, ex *gate.Exchange) error {
	if copies(a) == 0 {
		return nil
	}
	return c.await(func() bool { return c.copying || !c.promised(ex) })
}

// copies counts the statements of a text that take data.
func copies(a *sql.Analysis) (n int) {
	for i := range a.Parts {
		if a.Parts[i].Kind == sql.CopyIn {
			n++
		}
	}
	return n
}

// answerIdle answers a refused Query at once where nothing is in flight and no
// transaction is open, so that the server need not be asked.
func (c *conn) answerIdle(r *refusal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 || c.unsynced || c.pending || c.status != 'I' || len(c.out) > 0 {
		return false
	}
	_ = c.tell(append(r.encode(), 'Z', 0, 0, 0, 5, 'I')) // a client that cannot be told is met when it is read from
	return true
}

// assume follows the transaction as it will be if what was sent succeeds.
func (c *conn) assume(a *sql.Analysis) {
	for i := range a.Parts {
		switch a.Parts[i].Kind {
		case sql.Begin:
			c.open = true
		case sql.Commit, sql.Rollback:
			c.open = false
		}
	}
}

// changes says whether a text may change what later texts mean.
func changes(a *sql.Analysis) bool {
	for i := range a.Parts {
		switch a.Parts[i].Kind {
		case sql.Query, sql.Write, sql.Execute, sql.Show, sql.ExplainPlan, sql.CopyOut, sql.CopyIn:
		default:
			return true
		}
	}
	return false
}

func (c *conn) inCopy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copying
}

// endCopy takes CopyDone or CopyFail. A text of several statements may take
// more data.
func (c *conn) endCopy(m []byte) error {
	c.mu.Lock()
	if !c.copying {
		c.mu.Unlock()
		return nil
	}
	c.copying = false
	var more *gate.Exchange
	if len(c.queue) > 0 && c.queue[0].kind == 'Q' && copies(c.queue[0].analysis) > 1 {
		more = c.queue[0].exchange
	}
	c.mu.Unlock()
	c.out = append(c.out, m...)
	if c.taking != nil {
		return c.conclude(c.taking)
	}
	if more == nil {
		return nil
	}
	return c.await(func() bool { return c.copying || !c.promised(more) })
}
