package ssh

import (
	"context"
	"encoding/binary"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// channel is one session channel of the client: it runs one program, shell or
// subsystem, and ends with it.
type channel struct {
	c      *conn
	client ssh.Channel
	input  *input
	work   sync.WaitGroup // every goroutine of the channel
	gone   chan struct{}  // closed once the client has closed it

	// Of the goroutine that takes requests, until the command has begun.
	env   []setting
	asked int // variables
	pty   *terminal
	agent *gate.Exchange // the client's keys may be lent to the host
	x11   *gate.Exchange
	x11As []byte
	next  func() error // begins the command, once its request is answered

	telling sync.Mutex              // writes to the client's standard error
	cancel  context.CancelCauseFunc // ends the command, waiting or running

	mu      sync.Mutex
	running bool                    // a command was asked for
	host    ssh.Channel             // of the command, while it runs
	tap     *tap                    // of it
	size    func(columns, rows int) // is told the terminal's size, of a line editor
	sizing  bool                    // it is being told
	unsaid  []string                // lines for the client that are not written yet
}

// maxUnsaid bounds those: more are not said to who reads none of them.
const maxUnsaid = 32

// terminal is what a client has in front of it.
type terminal struct {
	name          string
	columns, rows uint32
	width, height uint32
	modes         string
}

// maxSide bounds a terminal's columns and rows, and what it is in pixels.
const (
	maxSide   = 4096
	maxPixels = 1 << 16
)

func (t *terminal) clamp() {
	t.columns, t.rows = min(t.columns, maxSide), min(t.rows, maxSide)
	t.width, t.height = min(t.width, maxPixels), min(t.height, maxPixels)
}

// takeSession serves a session channel until the client closes it.
func (c *conn) takeSession(ctx context.Context, nc ssh.NewChannel) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return ignoreGone(nc.Reject(ssh.Prohibited, "taskgate: you said that there would be no more sessions"))
	}
	client, reqs, err := nc.Accept()
	if err != nil {
		return ignoreGone(err)
	}
	ch := &channel{c: c, client: client, gone: make(chan struct{})}
	ch.input = newInput(ch)
	ctx, ch.cancel = context.WithCancelCause(ctx)
	defer ch.cancel(nil)
	c.mu.Lock()
	c.channels[ch] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.channels, ch)
		c.mu.Unlock()
	}()
	for r := range reqs {
		var ok bool
		if ok, err = ch.request(ctx, r); err != nil {
			break
		}
		_ = r.Reply(ok, nil)
		if ch.next != nil { // not before: an end that comes before the answer is taken for a failure
			ch.goes(ch.next)
			ch.next = nil
		}
	}
	ch.cancel(errGone)
	_ = client.Close()
	for range reqs { // whatever broke the loop: the connection must not wait for it
	}
	ch.input.end()
	close(ch.gone)
	ch.work.Wait()
	ch.unused(ctx)
	return err
}

// goes runs f as a goroutine of the channel. A fault in it ends the connection.
func (ch *channel) goes(f func() error) {
	ch.work.Go(func() {
		if err := ch.c.p.contain(ch.c.session.ID(), f); err != nil {
			ch.c.over(err)
		}
	})
}

// unused closes the exchanges of what was allowed and not needed in the end.
func (ch *channel) unused(ctx context.Context) {
	ch.c.takeBack(ch)
	ctx = context.WithoutCancel(ctx)
	for i := range ch.env {
		_ = ch.env[i].exchange.Done(ctx, gate.Outcome{State: gate.Skipped})
	}
	for _, ex := range []*gate.Exchange{ch.agent, ch.x11} {
		if ex != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Completed})
		}
	}
}

// say writes lines of the gateway's own to the client's standard error, behind
// those that are not written yet. It waits while the client does not read.
func (ch *channel) say(lines ...string) {
	ch.telling.Lock()
	defer ch.telling.Unlock()
	ch.mu.Lock()
	lines, ch.unsaid = append(ch.unsaid, lines...), nil
	end := "\n"
	if ch.pty != nil {
		end = "\r\n"
	}
	ch.mu.Unlock()
	var b []byte
	for _, l := range lines {
		b = append(append(append(b, "taskgate: "...), readable(l)...), end...)
	}
	_, _ = ch.client.Stderr().Write(b) // a client that does not read has left
}

// mention is say for whoever answers the client's requests, and must not wait: as
// long as one is not answered, the library reads nothing of the whole connection,
// its end neither.
func (ch *channel) mention(lines ...string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.unsaid) >= maxUnsaid {
		return
	}
	if ch.unsaid = append(ch.unsaid, lines...); len(ch.unsaid) == len(lines) {
		ch.c.goes(func() error { ch.say(); return nil })
	}
}

func (ch *channel) terminal() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.pty != nil
}

// request answers one request. An error ends the connection.
func (ch *channel) request(ctx context.Context, r *ssh.Request) (bool, error) {
	ch.mu.Lock()
	running := ch.running
	ch.mu.Unlock()
	switch r.Type {
	case "exec", "shell", "subsystem":
		return ch.begin(ctx, r)
	case "env":
		return ch.setenv(ctx, r.Payload)
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		return ch.signal(ctx, r, m.Name)
	case "break":
		return ch.signal(ctx, r, "BREAK")
	case "window-change":
		return ch.resize(ctx, r.Payload)
	case keepalive:
		return true, nil
	}
	if running {
		return false, nil
	}
	switch r.Type {
	case "pty-req":
		return ch.wantTerminal(r.Payload), nil
	case "auth-agent-req@openssh.com":
		return ch.lendAgent(ctx)
	case "x11-req":
		return ch.lendX11(ctx, r.Payload)
	}
	return false, nil
}

// wantTerminal takes what a client says of its terminal. That by itself is no
// right to a shell: what runs in it is judged as what it is.
func (ch *channel) wantTerminal(payload []byte) bool {
	var m struct {
		Name                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ch.pty != nil || ssh.Unmarshal(payload, &m) != nil || !termName(m.Name) || len(m.Modes) > 1024 || !utf8.ValidString(m.Name) {
		return false
	}
	t := &terminal{m.Name, m.Columns, m.Rows, m.Width, m.Height, m.Modes}
	t.clamp()
	ch.mu.Lock()
	ch.pty = t
	ch.mu.Unlock()
	return true
}

// termName says whether a terminal's name is one: a path is none.
func termName(name string) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case b >= '0' && b <= '9', b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '-', b == '_', b == '+', b == '.' && i > 0:
		default:
			return false
		}
	}
	return len(name) <= 64
}

// resize passes a new size on.
func (ch *channel) resize(ctx context.Context, payload []byte) (bool, error) {
	var m struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &m) != nil {
		return false, nil
	}
	ch.mu.Lock()
	if ch.pty == nil {
		ch.mu.Unlock()
		return false, nil
	}
	t := ch.pty
	same := t.columns == m.Columns && t.rows == m.Rows
	t.columns, t.rows, t.width, t.height = m.Columns, m.Rows, m.Width, m.Height
	t.clamp()
	now, host, tap := *t, ch.host, ch.tap
	if ch.size != nil {
		if !ch.sizing { // which waits while it writes, and so may last
			ch.sizing = true
			ch.c.goes(ch.fit)
		}
		ch.mu.Unlock()
		return true, nil
	}
	ch.mu.Unlock()
	if same || host == nil {
		return true, nil
	}
	if err := tap.resized(ctx, now.columns, now.rows); err != nil {
		return true, ch.stop(err)
	}
	if tap.apart {
		return true, nil
	}
	b := make([]byte, 0, 16)
	for _, n := range []uint32{now.columns, now.rows, now.width, now.height} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	_, err := host.SendRequest("window-change", false, b)
	return true, ignoreGone(err)
}

// fit tells a line editor the terminal's size until it has heard the last.
func (ch *channel) fit() error {
	for last := (terminal{}); ; {
		ch.mu.Lock()
		now, size := *ch.pty, ch.size
		if now == last {
			ch.sizing = false
			ch.mu.Unlock()
			return nil
		}
		ch.mu.Unlock()
		size(max(int(now.columns), 20), max(int(now.rows), 2))
		last = now
	}
}

// signals that RFC 4254 names, and a break.
var signals = map[string]bool{"ABRT": true, "ALRM": true, "FPE": true, "HUP": true, "ILL": true, "INT": true, "KILL": true, "PIPE": true,
	"QUIT": true, "SEGV": true, "TERM": true, "USR1": true, "USR2": true, "BREAK": true}

// signal passes a signal on, once it is judged and answered: what it ends closes
// the channel, behind which no answer comes. One that would end a command takes
// back one that still waits for people.
func (ch *channel) signal(ctx context.Context, r *ssh.Request, name string) (bool, error) {
	answer := func() {
		_ = r.Reply(true, nil)
		r.WantReply = false
	}
	ch.mu.Lock()
	running, host := ch.running, ch.host
	ch.mu.Unlock()
	if !running || !signals[name] {
		return false, nil
	}
	if host == nil {
		switch name {
		case "INT", "TERM", "HUP", "QUIT", "KILL":
			answer()
			ch.cancel(gate.ErrCancelled)
			return true, nil
		}
		return false, nil
	}
	st := ch.c.operation("signal "+name, abi.Operation{Verb: "signal", Kind: abi.KindSignal, Object: []string{name}, Effect: abi.EffectWrite})
	ex, err := ch.c.submit(ctx, st, "", nil)
	if lines, ok := refusal(err); ok {
		ch.mention(lines...)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	answer()
	if name == "BREAK" { // whose answer may not come
		_, err = host.SendRequest("break", false, []byte{0, 0, 0, 0})
	} else {
		_, err = host.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
	}
	o := gate.Outcome{State: gate.Completed}
	if err != nil {
		o.State = gate.Failed
	}
	if e := ex.Done(ctx, o); e != nil {
		return false, e
	}
	return err == nil, nil
}
