package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// fromServer reads the server's answers, holds each against what the client
// was promised, and passes runs of untouched messages on in one write.
func (c *conn) fromServer(ctx context.Context) error {
	f := &frames{conn: c.upstream, to: c.carried[0], contain: c.contain, held: c.holds()}
	defer f.held.drop()
	err := f.run(func() error {
		if err := c.answers(ctx, f); err != nil {
			return err
		}
		return c.deliver()
	})
	if c.upstreamGone.Load() && ctx.Err() == nil {
		err = io.EOF
	}
	if err != nil && !errors.Is(err, errGoodbye) {
		return fmt.Errorf("postgres: %w: %w", errUpstream, err)
	}
	return err
}

// answers takes what is there of the server's messages.
func (c *conn) answers(ctx context.Context, f *frames) error {
	if c.strict {
		c.arrived = time.Now()
	}
	for {
		if c.rowLeft > 0 {
			if f.have() == 0 {
				return nil
			}
			if err := c.largeRow(ctx, f, 0); err != nil {
				return err
			}
			continue
		}
		kind, size, ok, err := f.head()
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		if kind == 'D' || kind == 'd' {
			more, err := c.rows(ctx, f, kind, size)
			if err != nil || more {
				return err
			}
			continue
		}
		if said := kind == 'E' || kind == 'N'; size > maxMessage && !said || size > maxSaid {
			return fmt.Errorf("a message %q of %d bytes", kind, size)
		}
		if f.have() < size {
			if size > maxMessage {
				if err := f.wait(); err != nil {
					return err
				}
			}
			return nil
		}
		if err := c.answer(ctx, kind, f.take(size)); err != nil {
			return err
		}
	}
}

// deliver sends what is waiting to the client.
func (c *conn) deliver() error {
	if c.counting != nil {
		return nil
	}
	if len(c.in) > 0 {
		if err := c.tell(c.in); err != nil {
			return err
		}
		if cap(c.in) > 2*largeBuffer {
			c.in = nil
		}
		c.in = c.in[:0]
	}
	c.mu.Lock()
	if c.pending {
		c.pending = false
		c.moved.Broadcast()
	}
	c.mu.Unlock()
	return nil
}

// top gives the first promise, nil where there is none.
func (c *conn) top() *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil
	}
	return &c.queue[0]
}

func unasked(kind byte) error {
	return fmt.Errorf("the message %q that nobody asked for", kind)
}

// rows takes a run of DataRow or CopyData messages. One that is larger than
// the buffer passes in pieces. It reports true where more has to be read.
func (c *conn) rows(ctx context.Context, f *frames, kind byte, size int) (bool, error) {
	e := c.top()
	if e != nil && e.own && size <= maxMessage {
		if f.have() < size {
			return true, nil
		}
		return false, c.ownAnswer(e, kind, f.take(size))
	}
	if e == nil || e.kind != 'E' && e.kind != 'Q' || e.exchange == nil || !c.announced(e, kind) {
		return false, unasked(kind)
	}
	c.keep(e)
	if err := c.drifted(ctx, e); err != nil {
		return false, err
	}
	whole, err := c.masks(e)
	if err != nil {
		return false, err
	}
	if whole && size > maxRow {
		c.stopped = &refusal{code: "54000", message: fmt.Sprintf("a row of %d bytes has to be masked: at most %d", size, maxRow), hint: "select fewer columns, or a part of the large one"}
		whole = false
	}
	if f.have() < size && size > largeBuffer && whole {
		if err := f.wait(); err != nil {
			c.stopped = &refusal{code: err.code, message: err.message, hint: err.hint}
			whole = false
		}
	}
	if f.have() < size && (size <= largeBuffer || whole) {
		return true, nil
	}
	if size > largeBuffer && !whole {
		c.rowLeft = size
		c.tooMuch(size)
		return false, c.largeRow(ctx, f, 1)
	}
	// As many whole messages of that kind as there are.
	n, count := 0, 0
	for f.have()-n >= 5 && f.buf[f.r+n] == kind {
		one := int(uint32(f.buf[f.r+n+1])<<24|uint32(f.buf[f.r+n+2])<<16|uint32(f.buf[f.r+n+3])<<8|uint32(f.buf[f.r+n+4])) + 1
		if one < 5 || one > f.have()-n {
			break
		}
		n += one
		count++
	}
	r := abi.Result{Frames: f.take(n), Rows: count}
	c.tooMuch(n)
	if kind == 'd' && whole {
		err = c.passCopy(ctx, e, &r)
	} else {
		err = c.pass(ctx, e, &r)
	}
	if err != nil || c.stopped != nil {
		return false, err
	}
	c.in = append(c.in, r.Frames...)
	if len(c.in) >= largeBuffer {
		return false, c.deliver()
	}
	return false, nil
}

// largeRow passes on what is there of a row that is larger than the buffer.
func (c *conn) largeRow(ctx context.Context, f *frames, rows int) error {
	e := c.top()
	if e == nil || e.exchange == nil {
		return unasked('D')
	}
	piece := f.take(min(c.rowLeft, f.have()))
	c.rowLeft -= len(piece)
	stopped := c.stopped != nil
	if err := c.pass(ctx, e, &abi.Result{Frames: piece, Rows: rows}); err != nil {
		return err
	}
	if c.stopped != nil {
		if !stopped && rows == 0 && c.counting == nil { // half of it is with the client
			c.torn.Store(true)
			return errors.New("a limit was passed in the middle of a row")
		}
		return nil
	}
	c.in = append(c.in, piece...)
	c.torn.Store(c.rowLeft > 0 && c.counting == nil)
	if len(c.in) >= largeBuffer {
		return c.deliver()
	}
	return nil
}

// answer takes one whole message that is no row.
func (c *conn) answer(ctx context.Context, kind byte, m []byte) error {
	e := c.top()
	switch kind {
	case 'N', 'A', 'S', 'E':
		if err := c.pace(ctx, len(m)); err != nil {
			return err
		}
	}
	switch kind {
	case 'Z', '3', 'E':
		if taken, err := c.strayed(ctx, e, kind, m); taken || err != nil {
			return err
		}
		e = c.top()
	}
	switch kind {
	case 'N':
		return c.notice(ctx, e, m)
	case 'A':
		return c.notification(m)
	case 'S':
		ok, err := c.parameter(m[5:])
		ok = ok && c.mayTell(e, m[5:])
		if ok {
			c.beside(m)
		}
		return err
	case 'E':
		if e == nil || !e.own || last(m) {
			return c.failed(ctx, e, m)
		}
	}
	if e == nil {
		return unasked(kind)
	}
	if e.own && kind != 'Z' {
		return c.ownAnswer(e, kind, m)
	}
	c.keep(e)
	simple := e.simple
	if e.refusal != nil && kind != 'Z' {
		return fmt.Errorf("the message %q for a text that cannot succeed", kind)
	}
	if e.analysis != nil {
		c.secret.add(e.exchange, e.analysis.Statement)
		c.secret.beneath = c.secret.beneath || e.analysis.Beneath
	}
	if err := c.drifted(ctx, e); err != nil {
		return err
	}
	switch {
	case kind == '1' && e.kind == 'P', kind == '2' && e.kind == 'B', kind == '3' && e.kind == 'C':
		c.finish(ctx, gate.Outcome{State: gate.Completed})
		if simple {
			return nil
		}
	case kind == 't' && e.kind == 'D':
	case (kind == 'T' || kind == 'n') && e.kind == 'D':
		if kind == 'T' && e.exchange != nil {
			if err := c.shape(ctx, e, m); err != nil {
				return err
			}
		}
		swallow := e.swallow || kind == 'n' && simple
		c.finish(ctx, gate.Outcome{})
		if swallow {
			return nil
		}
	case kind == 'T' && e.kind == 'Q' && c.shaped == 0:
		c.shaped = 'T'
		if err := c.shape(ctx, e, m); err != nil {
			return err
		}
	case kind == 'C' && (e.kind == 'E' || e.kind == 'Q'):
		return c.completed(ctx, e, m)
	case kind == 'I' && (e.kind == 'E' || e.kind == 'Q') && c.shaped == 0:
		if e.kind == 'E' {
			c.finish(ctx, gate.Outcome{State: gate.Completed})
		}
	case kind == 's' && e.kind == 'E' && e.count != nil:
		return c.unfits(ctx, e, &refusal{code: "42501", message: "the task limits the rows of this write, which has to be executed in one go", hint: "ask for all rows at once"})
	case kind == 's' && e.kind == 'E' && c.shaped == 0:
		if _, err := c.masks(e); err != nil {
			return err
		}
		if err := c.learn(e, ""); err != nil { // SELECT set_config(…) has run by its first row
			return err
		}
		if c.stopped != nil {
			code, err := c.overLimit(ctx, e)
			if err == nil {
				c.finish(ctx, gate.Outcome{State: gate.Failed, Code: code})
			}
			return err
		}
		c.mu.Lock()
		ex := c.pop().exchange
		if !c.promised(ex) {
			ex.Rest()
		}
		c.mu.Unlock()
		if !slices.Contains(c.partly, ex) {
			c.partly = append(c.partly, ex)
		}
		c.compared = false
	case kind == 'G' && (e.kind == 'E' || e.kind == 'Q') && e.exchange != nil:
		c.mu.Lock()
		c.copying, c.copyInto = true, e.exchange
		c.moved.Broadcast()
		c.mu.Unlock()
		c.counting = nil // the client waits for it
		if e.swallow {   // and has been told already
			return nil
		}
	case kind == 'H' && (e.kind == 'E' || e.kind == 'Q') && c.shaped == 0:
		c.shaped = 'H'
		if err := c.copyShape(ctx, e, m); err != nil {
			return err
		}
	case kind == 'c' && (e.kind == 'E' || e.kind == 'Q') && c.shaped == 'H':
		if err := c.copied.end(); err != nil && c.stopped == nil {
			return err
		}
	case kind == 'Z' && (e.kind == 'S' || e.kind == 'Q') && len(m) == 6:
		return c.ready(ctx, e, m)
	default:
		return unasked(kind)
	}
	c.in = append(c.in, m...)
	return nil
}

// announced says whether rows of that kind may come: the server has said so, or
// Execute is answered, whose rows it does not announce.
func (c *conn) announced(e *entry, kind byte) bool {
	switch c.shaped {
	case 'T':
		return kind == 'D'
	case 'H':
		return kind == 'd'
	}
	return kind == 'D' && e.kind == 'E'
}

// tagged gives the tag of a CommandComplete, which mostly is the last one's.
func (c *conn) tagged(body []byte) string {
	if n := len(c.tag); len(body) > n && body[n] == 0 && string(body[:n]) == c.tag {
		return c.tag
	}
	tag, _, _ := cutString(body)
	if len(tag) < 64 {
		c.tag = tag
	}
	return tag
}

// completed takes CommandComplete.
func (c *conn) completed(ctx context.Context, e *entry, m []byte) error {
	if e.kind == 'E' && e.portal != nil && e.portal.refused != nil && c.stopped == nil { // no row of it came
		c.stopped = e.portal.refused
	}
	c.shaped, c.compared = 0, false
	tag := c.tagged(m[5:])
	if err := c.learn(e, tag); err != nil {
		return err
	}
	c.stood(e, tag)
	c.wrote = c.wrote || c.status == 'I' && e.analysis != nil && e.analysis.Statement.Writes()
	if e.count != nil {
		return c.counted(ctx, e, tag, m)
	}
	outcome := gate.Outcome{State: gate.Completed, Tag: tag}
	if c.stopped != nil {
		code, err := c.overLimit(ctx, e)
		if err != nil {
			return err
		}
		outcome.State, outcome.Code = gate.Failed, code
	} else if e.last {
		c.unsaid = append(c.unsaid[:0], m...)
	} else {
		c.in = append(c.in, m...)
	}
	c.mu.Lock()
	c.copying, c.strays.sent = false, 0
	c.mu.Unlock()
	if e.kind == 'E' {
		c.finish(ctx, outcome)
		return nil
	}
	c.endsPart(e, outcome)
	return nil
}

// overLimit ends an answer whose rows were over a limit.
func (c *conn) overLimit(ctx context.Context, e *entry) (code string, err error) {
	r := c.stopped
	if err := c.says(ctx, r.encode()); err != nil {
		return "", err
	}
	c.stopped = nil
	// The server has not failed, and will commit what came before in the group,
	// or what this has written in the open transaction: a client that is told of
	// an error must not go on from there.
	if !c.onlySync(e) || c.wrote || e.analysis == nil || e.analysis.Statement.Writes() {
		return "", &fatal{code: r.code, message: r.message, hint: r.hint}
	}
	return r.code, nil
}

// onlySync says whether nothing but a Sync follows the first promise, so that
// an error of the gateway's own can stand there.
func (c *conn) onlySync(e *entry) bool {
	if e.kind == 'Q' {
		return e.analysis != nil && len(e.analysis.Parts) == 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) > 1 && c.queue[1].kind == 'S'
}

// finish pops the first promise and notes how its exchange ended.
func (c *conn) finish(_ context.Context, o gate.Outcome) {
	c.compared = false
	c.mu.Lock()
	e := c.pop()
	if e.kind == 'E' && e.portal != nil {
		e.portal.ended = true
	}
	if e.after != nil {
		e.after.confirmed = true
	}
	c.mu.Unlock()
	switch e.kind {
	case 'P':
		if e.exchange != nil && !e.simple {
			c.ends(e.exchange, o)
		}
	case 'E':
		e.exchange.Rest()
		c.endsPart(&e, o)
	}
}

// failed takes an ErrorResponse: the first promise has failed, and what
// follows it up to the next Sync the server skips.
func (c *conn) failed(ctx context.Context, e *entry, m []byte) error {
	c.uncount(e)
	if e == nil || e.kind == 'S' { // asynchronous: the server is going away
		var ex *gate.Exchange
		var st *abi.Statement
		if e != nil && e.analysis != nil {
			ex, st = e.exchange, e.analysis.Statement
		}
		b, code, err := c.cut('E', m[5:], ex, st, e)
		if err != nil {
			return err
		}
		if err := errors.Join(c.says(ctx, b), c.deliver()); err != nil {
			return err
		}
		if e == nil || last(m) {
			return fmt.Errorf("postgres: %w ended the session with %s: %w", errUpstream, code, errGoodbye)
		}
		c.failure = true
		return nil
	}
	var st *abi.Statement
	switch {
	case e.analysis != nil:
		st = e.analysis.Statement
	case e.after != nil: // of a Parse
		st = e.after.analysis.Statement
	}
	b, code, err := c.cut('E', m[5:], e.exchange, st, e)
	if err != nil {
		return err
	}
	if r := e.refusal; r != nil { // whose words the recording has
		if r.late && c.status == 'E' {
			r = aborted
		}
		code = r.code
		c.in = append(c.in, r.encode()...)
	} else if err := c.says(ctx, b); err != nil {
		return err
	}
	c.failure, c.stopped, c.shaped, c.compared = true, nil, 0, false
	if last(m) { // the server says that it was the last thing
		if err := c.deliver(); err != nil {
			return err
		}
		return fmt.Errorf("postgres: %w ended the session with %s: %w", errUpstream, code, errGoodbye)
	}
	c.mu.Lock()
	sync := c.syncFor(e)
	c.copying, c.strays.group = false, e.group
	c.moved.Broadcast()
	c.mu.Unlock()
	if sync {
		if err := c.sendSync(); err != nil {
			return err
		}
	}
	if e.kind == 'Q' {
		if e.exchange != nil {
			c.ends(e.exchange, gate.Outcome{State: gate.Failed, Code: code})
		}
		return nil
	}
	c.skip(gate.Outcome{State: gate.Failed, Code: code})
	return nil
}

// last says whether an ErrorResponse is the last message of a session.
func last(m []byte) bool {
	var e pgproto3.ErrorResponse
	return e.Decode(m[5:]) == nil && (e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC")
}

// skip pops the failed promise and everything that the server skips after it,
// undoing what was assumed of them. The Sync stays.
func (c *conn) skip(first gate.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for o := first; len(c.queue) > 0 && c.queue[0].kind != 'S'; o = (gate.Outcome{State: gate.Skipped}) {
		c.skipOne(c.pop(), o)
	}
	c.skipping = len(c.queue) == 0
}

// ready takes ReadyForQuery: the promises of the group are kept, and the
// server has said where the transaction stands.
func (c *conn) ready(ctx context.Context, e *entry, m []byte) error {
	now := m[5]
	if now != 'I' && now != 'T' && now != 'E' {
		return fmt.Errorf("a transaction status %q", now)
	}
	c.counting = nil
	c.mu.Lock()
	if e.kind == 'Q' && e.exchange != nil {
		c.closing = append(c.closing, closing{e.exchange, e.group})
	}
	group, own := e.group, e.own
	c.status, c.undecided = now, c.undecided && now != 'I'
	if c.learning && now == 'I' {
		c.learned = append(c.learned, learned{rolledBack: c.failure})
		c.learning = false
	}
	c.part, c.shaped, c.compared = 0, 0, false
	c.pop()
	var gone []*gate.Exchange
	rest := c.closing[:0]
	for _, cl := range c.closing {
		if cl.group <= group {
			gone = append(gone, cl.exchange)
		} else {
			rest = append(rest, cl)
		}
	}
	if clear(c.closing[len(rest):]); len(rest) == 0 && cap(rest) > 4096 { // of a group like no other
		rest = nil
	}
	c.closing = rest
	c.ending = append(c.ending, c.skipped...)
	if clear(c.skipped); cap(c.skipped) > 4096 {
		c.skipped = nil
	}
	c.skipped = c.skipped[:0]
	c.mu.Unlock()
	for _, ex := range gone {
		if c.ran(ex) { // though not to its end
			c.ending = slices.Insert(c.ending, 0, ending{exchange: ex, outcome: gate.Outcome{State: gate.Completed}, open: true, wrote: true})
			for i := range c.marks {
				if c.marks[i].at >= 0 {
					c.marks[i].at++
				}
			}
		}
	}
	if err := c.concluded(ctx, now); err != nil {
		return err
	}
	if !c.failure {
		c.in = append(c.in, c.unsaid...)
	}
	c.failure, c.wrote, c.unsaid = false, false, c.unsaid[:0]
	if now == 'I' {
		c.secret = secret{}
	}
	for _, ex := range gone { // one that is not done by now was never executed
		if err := ex.Done(ctx, gate.Outcome{State: gate.Skipped}); err != nil {
			return err
		}
	}
	if !own {
		c.in = append(c.in, m...)
	}
	return nil
}

func (c *conn) notice(ctx context.Context, e *entry, m []byte) error {
	var st *abi.Statement
	var ex *gate.Exchange
	if e != nil {
		ex = e.exchange
		if e.analysis != nil {
			st = e.analysis.Statement
		}
	}
	b, _, err := c.cut('N', m[5:], ex, st, nil)
	if err != nil {
		return err
	}
	return c.says(ctx, b)
}

// says gives the client an error or a notice, which the recording keeps.
func (c *conn) says(ctx context.Context, b []byte) error {
	if err := c.session.Ambient().Result(ctx, &abi.Result{Frames: b}); err != nil {
		return err
	}
	c.beside(b)
	return nil
}

// notification passes the channel on, and the payload where the task lists it:
// another session's trigger may have put a row there.
func (c *conn) notification(m []byte) error {
	var n pgproto3.NotificationResponse
	if err := n.Decode(m[5:]); err != nil {
		return fmt.Errorf("postgres: %w: %w", errUpstream, err)
	}
	_, task := c.session.Resource()
	if o, ok := taskOptions(task); !ok || !slices.Contains(o.Channels, n.Channel) {
		n.Payload = ""
	}
	n.Channel = strings.ToValidUTF8(n.Channel, "?")
	c.beside(encode(&n))
	return nil
}
