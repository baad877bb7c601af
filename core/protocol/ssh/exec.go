package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/shell"
)

// command is what a channel was asked to do, and where it says what it says.
type command struct {
	kind      string // exec, shell or subsystem
	statement *abi.Statement
	text      string // as the host is told, of an exec or a subsystem
	out, errs io.Writer
	input     *input    // nil is none
	terminal  *terminal // nil is none
}

// read makes the command of an exec. What the host is told is what was judged.
func (ch *channel) read(text string) *command {
	c := &command{kind: "exec", statement: ch.c.exec(text)}
	c.text = c.statement.Canonical
	return c
}

// never is the refusal of a text that no host may be told, whatever a task allows.
func (c *command) never() error {
	if c.kind != "exec" || c.text != "" {
		return nil
	}
	return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.never", Message: c.statement.Incomplete}}
}

// errConverses refuses what would wait for ever: in what programs say to programs
// lines have no end, and what is masked comes in whole lines.
var errConverses = &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "ssh.converses",
	Message: "this program speaks to a program, and what it says is to be masked line by line, which the other one cannot read",
	Hint:    "files that are masked are copied by sftp, or by scp without -O; ask your operator to leave this program out of what is masked"}}

// converses says whether one of its programs is known to speak to another.
func (c *command) converses() bool {
	return slices.ContainsFunc(c.statement.Operations, func(o abi.Operation) bool {
		return o.Kind == abi.KindProgram && o.Verb == "exec" && shell.Converses(o.Object)
	})
}

// confined says whether it is rsync's server under rrsync.
func (c *command) confined() bool {
	return len(c.statement.Operations) == 1 && shell.Confined(c.statement.Operations[0].Object)
}

// interactive says whether a command is a shell that somebody types into.
func (c *command) interactive() bool {
	o := c.statement.Operations
	return len(o) == 1 && o[0].Kind == abi.KindTerminal
}

// reads says whether what the client sends may pass to the program.
func (c *command) reads(v *abi.Verdict) bool {
	return c.input != nil && (v.Stdin || c.interactive())
}

// begin takes the one command of a channel. It is answered at once: whether it
// may run, the client reads on its standard error and in the exit status.
func (ch *channel) begin(ctx context.Context, r *ssh.Request) (bool, error) {
	ch.mu.Lock()
	again := ch.running
	ch.mu.Unlock()
	if again {
		return false, nil
	}
	var cmd *command
	switch r.Type {
	case "exec", "subsystem":
		var m struct{ Text string }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		if tooLong(m.Text) {
			ch.mu.Lock()
			ch.running = true
			ch.mu.Unlock()
			what := fmt.Sprintf("a command of %d bytes was refused: longer than %d, or with a NUL in it", len(m.Text), maxText)
			if err := ch.c.session.Refused(ctx, what); err != nil {
				return false, err
			}
			ch.next = func() error { ch.say("denied: " + what); ch.exit(exitDenied); return nil }
			return true, nil
		}
		if r.Type == "exec" {
			cmd = ch.read(m.Text)
		} else {
			cmd = &command{kind: r.Type, statement: ch.c.subsystem(m.Text), text: m.Text}
		}
	case "shell":
		cmd = &command{kind: r.Type, statement: ch.c.operation("shell", abi.Operation{Verb: "shell", Kind: abi.KindTerminal, Effect: abi.EffectWrite})}
	}
	cmd.out, cmd.errs, cmd.input = ch.client, stderr{ch}, ch.input
	if cmd.kind != "subsystem" {
		cmd.terminal = ch.pty
	}
	ch.mu.Lock()
	ch.running = true
	ch.mu.Unlock()
	ch.next = func() error {
		if cmd.kind == "shell" && ch.c.commandShell() {
			return ch.commands(ctx)
		}
		return ch.perform(ctx, cmd)
	}
	return true, nil
}

func tooLong(text string) bool { return len(text) > maxText || strings.IndexByte(text, 0) >= 0 }

// perform judges a command, runs it, and tells the client how it ended.
func (ch *channel) perform(ctx context.Context, cmd *command) error {
	ex, err := ch.ask(ctx, cmd)
	if err != nil {
		ch.input.drop(nil, false)
		return ch.refuse(ctx, err)
	}
	status, err := ch.execute(ctx, cmd, ex)
	if err != nil {
		return ch.refuse(ctx, err)
	}
	if cmd.confined() {
		switch status.code() {
		case exitNoProgram:
			ch.say("hint: the host has no rrsync, which keeps rsync in the directory that the task lists: it comes with rsync 3.5.0, and needs python3")
		case exitUsage:
			ch.say("hint: rrsync has refused it, and says why above; where it does not know -absolute, the host's rsync is older than 3.5.0, and keeps too little in the directory that the task lists")
		}
	}
	status.send(ch)
	return nil
}

// refuse tells the client why its command does not run, or not to its end.
func (ch *channel) refuse(ctx context.Context, err error) error {
	lines, ok := refusal(err)
	var s *said
	switch {
	case ok:
		ch.say(lines...)
		ch.exit(exitDenied)
	case errors.Is(err, gate.ErrCancelled) && ch.c.session.Context().Err() == nil:
		ch.say("taken back")
		ch.exit(exitCalled)
	case ch.c.session.Context().Err() != nil: // is told as the end of the session
	case errors.Is(err, errGone):
		_ = ch.client.Close()
	case errors.As(err, &s):
		ch.say(s.line)
		ch.exit(exitNotThere)
	default:
		return err
	}
	return nil
}

// exitStatus is how a program ended, as the host said it.
type exitStatus struct {
	kind    string // exit-status, exit-signal, or empty where it said nothing
	payload []byte
}

// exit tells the client an exit status of the gateway's own. What a program
// still says then is not waited for.
func (ch *channel) exit(code uint32) {
	_, _ = ch.client.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
	_ = ch.client.Close()
}

// send tells the client how its command ended, and that nothing follows: after
// the last byte of both outputs, or OpenSSH would lose the exit status.
func (s exitStatus) send(ch *channel) {
	ch.say()
	if s.kind != "" {
		_, _ = ch.client.SendRequest(s.kind, false, s.payload)
	}
	ch.telling.Lock()
	_ = ch.client.CloseWrite()
	ch.telling.Unlock()
	_ = ch.client.Close()
}

// code is the exit status that the host said, if it did.
func (s exitStatus) code() uint32 {
	var m struct{ Code uint32 }
	if s.kind == "exit-status" {
		_ = ssh.Unmarshal(s.payload, &m) // it was read once
	}
	return m.Code
}

// outcome is what the log has of it.
func (s exitStatus) outcome() gate.Outcome {
	switch s.kind {
	case "exit-status":
		return gate.Outcome{State: gate.Completed, Tag: fmt.Sprintf("exit %d", s.code())}
	case "exit-signal":
		var m exitSignal
		_ = ssh.Unmarshal(s.payload, &m)
		return gate.Outcome{State: gate.Completed, Tag: "signal " + m.Name}
	}
	return gate.Outcome{State: gate.Lost}
}

type exitSignal struct {
	Name     string
	Core     bool
	Message  string
	Language string
}

// readStatus takes what the host says of a program's end, nothing else.
func readStatus(r *ssh.Request) (exitStatus, bool) {
	switch r.Type {
	case "exit-status":
		var m struct{ Code uint32 }
		return exitStatus{r.Type, r.Payload}, ssh.Unmarshal(r.Payload, &m) == nil
	case "exit-signal":
		var m exitSignal
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return exitStatus{}, false
		}
		m.Name, m.Message, m.Language = readable(m.Name), readable(m.Message), "" // OpenSSH prints it
		return exitStatus{r.Type, ssh.Marshal(&m)}, true
	}
	return exitStatus{}, false
}

// execute runs an allowed command at the host and carries what passes. The
// exchange is done when it returns.
func (ch *channel) execute(ctx context.Context, cmd *command, ex *gate.Exchange) (status exitStatus, err error) {
	t := &tap{exchange: ex}
	o := gate.Outcome{State: gate.Failed}
	defer func() {
		ch.mu.Lock()
		ch.host, ch.tap = nil, nil
		ch.mu.Unlock()
		if e := ex.Done(ctx, o); e != nil && err == nil {
			err = e
		}
	}()
	if err := cmd.never(); err != nil {
		return exitStatus{}, err
	}
	if ex.MasksText() && cmd.converses() {
		o.Code = errConverses.Reason.Code
		return exitStatus{}, errConverses
	}
	t.apart = ex.MasksText() && cmd.terminal != nil
	host, says, err := ch.start(ctx, cmd, ex.MasksText())
	if err != nil {
		return exitStatus{}, err
	}
	defer host.Close()
	ctx, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	defer t.end()
	ch.mu.Lock()
	ch.host, ch.tap = host, t
	size := cmd.size()
	ch.mu.Unlock()
	if size != nil {
		ex.Whole()
		if err := t.resized(ctx, size.columns, size.rows); err != nil {
			return exitStatus{}, err
		}
	}
	if n := ex.Verdict().Limits.StatementTimeout; n > 0 {
		late := time.AfterFunc(time.Duration(n)*time.Millisecond, func() {
			halt(&gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.timeout", Message: fmt.Sprintf("it ran longer than the %s that the task allows", time.Duration(n)*time.Millisecond)}})
		})
		defer late.Stop()
	}
	var outputs sync.WaitGroup
	carry := func(f func() error) {
		outputs.Add(1)
		ch.goes(func() error {
			defer outputs.Done()
			if err := f(); err != nil {
				halt(err)
			}
			return nil
		})
	}
	carry(func() error { _, err := t.answers(ctx, cmd.errs, host.Stderr(), FrameErr); return err })
	if cmd.kind == "subsystem" && cmd.text == filesName {
		carry(func() error { return ch.files(ctx, host) })
	} else {
		carry(func() error { _, err := t.answers(ctx, cmd.out, host, FrameOut); return err })
		switch {
		case cmd.reads(ex.Verdict()):
			if err := cmd.input.to(t, host); err != nil {
				halt(err)
			}
		case cmd.input != nil:
			cmd.input.drop(host, t.apart)
		default:
			_ = host.CloseWrite()
		}
	}
	select {
	case <-ctx.Done():
	case <-says.over:
		outputs.Wait()
	}
	status = says.status()
	if status.kind == "" && ctx.Err() == nil && !there(ch.c.host) { // why it says nothing, the end of the session tells
		<-ctx.Done()
	}
	if status.kind != "" && !errors.As(context.Cause(ctx), new(*gate.Denied)) {
		o = status.outcome()
	} else {
		o = cut(context.Cause(ctx))
	}
	if ctx.Err() != nil { // the host may say nothing more for as long as the program runs
		t.end() // before, or what it cuts off would be taken for the last line
		_ = host.Close()
		return exitStatus{}, context.Cause(ctx)
	}
	return status, nil
}

// cut is the outcome of what has come to no end of its own.
func cut(why error) gate.Outcome {
	var d *gate.Denied
	if errors.As(why, &d) {
		return gate.Outcome{State: gate.Failed, Code: d.Reason.Code}
	}
	return gate.Outcome{State: gate.Lost}
}

// saying is what a host says of a program beside its output.
type saying struct {
	over chan struct{} // closed once it says no more
	last atomic.Pointer[exitStatus]
}

func (s *saying) status() exitStatus {
	if e := s.last.Load(); e != nil {
		return *e
	}
	return exitStatus{}
}

// hear takes all of it, from the beginning on: the library reads on only behind
// that.
func (ch *channel) hear(reqs <-chan *ssh.Request) *saying {
	s := &saying{over: make(chan struct{})}
	ch.goes(func() error {
		defer close(s.over)
		for r := range reqs {
			if e, ok := readStatus(r); ok {
				s.last.CompareAndSwap(nil, &e) // the first counts
			}
			_ = r.Reply(false, nil)
		}
		return nil
	})
	return s
}

// size is the terminal's, at this moment. The caller holds the channel's mu.
func (c *command) size() *terminal {
	if c.terminal == nil {
		return nil
	}
	now := *c.terminal
	return &now
}

// stderr is the client's standard error, which the gateway's own lines share.
type stderr struct{ ch *channel }

func (s stderr) Write(b []byte) (int, error) {
	s.ch.telling.Lock()
	defer s.ch.telling.Unlock()
	return s.ch.client.Stderr().Write(b)
}

// start opens a channel at the host and has it begin the command there, in the
// surroundings that were judged. Where its text is masked it has no terminal: one
// makes programs break lines and colour words, which no mask could foresee.
func (ch *channel) start(ctx context.Context, cmd *command, masks bool) (ssh.Channel, *saying, error) {
	conn, err := ch.c.there(ctx)
	if err != nil {
		return nil, nil, err
	}
	host, reqs, err := conn.OpenChannel("session", nil)
	if err != nil {
		return nil, nil, &said{line: "the host opens no session", cause: err}
	}
	says := ch.hear(reqs)
	fail := func(line string, err error) (ssh.Channel, *saying, error) {
		_ = host.Close()
		return nil, nil, &said{line: line, cause: err}
	}
	for i := range ch.env {
		if masks && (ch.env[i].name == "COLUMNS" || ch.env[i].name == "LINES") { // by which programs cut lines as well
			ch.say("note: " + ch.env[i].name + " is not passed on: what this command shows is masked line by line")
			continue
		}
		if _, err = host.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{ch.env[i].name, ch.env[i].value})); err != nil {
			return fail("the host closed the channel", err)
		}
		if err := ch.env[i].exchange.Done(ctx, gate.Outcome{State: gate.Completed}); err != nil {
			return fail("internal error", err)
		}
	}
	ch.mu.Lock()
	t := cmd.size()
	ch.mu.Unlock()
	switch {
	case t != nil && masks:
		ch.say("note: what this command shows is masked line by line, so it runs without a terminal")
	case t != nil:
		ok, err := host.SendRequest("pty-req", true, ssh.Marshal(struct {
			Name                         string
			Columns, Rows, Width, Height uint32
			Modes                        string
		}{t.name, t.columns, t.rows, t.width, t.height, t.modes}))
		if err != nil {
			return fail("the host closed the channel", err)
		}
		if !ok {
			ch.say("the host gives no terminal")
		}
	}
	if err := ch.lend(ctx, host); err != nil {
		return fail("the host closed the channel", err)
	}
	var payload []byte
	if cmd.kind != "shell" {
		payload = ssh.Marshal(struct{ Text string }{cmd.text})
	}
	ok, err := host.SendRequest(cmd.kind, true, payload)
	if err != nil || !ok {
		return fail("the host does not run it", err)
	}
	return host, says, nil
}

// stop ends the command that runs, for what a limit or the recording says.
func (ch *channel) stop(err error) error {
	if _, ok := refusal(err); ok {
		ch.cancel(err)
		return nil
	}
	return err
}
