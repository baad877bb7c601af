package ssh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/taskgate/taskgate/core/gate"
)

const (
	endOfLine = 0x05 // ctrl-E
	killLine  = 0x15 // ctrl-U
)

// typed is what somebody types into the command shell: for its line editor, at
// once or once a command has ended. Ctrl-C ends the command that runs.
type typed struct {
	ch *channel

	mu    sync.Mutex
	moved *sync.Cond
	kept  []byte
	ended bool
	stop  context.CancelCauseFunc // of the command that runs
}

const maxAhead = 4 << 10 // bytes that may be typed ahead

func (k *typed) read() error {
	var b [1 << 10]byte
	for {
		n, err := k.ch.client.Read(b[:])
		k.mu.Lock()
		k.take(b[:n])
		if err != nil {
			k.ended = true
			k.moved.Broadcast()
			if k.stop != nil {
				k.stop(errGone)
			}
			k.mu.Unlock()
			return nil
		}
		k.mu.Unlock()
	}
}

// take keeps what was typed. The caller holds mu.
func (k *typed) take(b []byte) {
	if i := bytes.LastIndexByte(b, interrupt); i >= 0 && k.stop != nil {
		k.stop(gate.ErrCancelled)
		k.kept, b = k.kept[:0], b[i+1:]
	}
	for len(k.kept)+len(b) > maxAhead {
		if k.stop != nil || k.ended {
			return
		}
		k.moved.Wait()
	}
	// At a prompt ctrl-C means: not this line.
	k.kept = append(k.kept, bytes.ReplaceAll(b, []byte{interrupt}, []byte{endOfLine, killLine})...)
	k.moved.Broadcast()
}

// Read gives it to the line editor.
func (k *typed) Read(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.kept) == 0 && !k.ended {
		k.moved.Wait()
	}
	n := copy(b, k.kept)
	k.kept = append(k.kept[:0], k.kept[n:]...)
	k.moved.Broadcast()
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// end lets nothing wait for the line editor any more.
func (k *typed) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	k.moved.Broadcast()
}

func (k *typed) runs(stop context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop = stop
	k.moved.Broadcast()
}

// commands is the gateway's own shell: it edits lines, and submits each as an
// exec is. Nothing that is typed reaches the host but as a command that was
// judged (SC08).
func (ch *channel) commands(ctx context.Context) error {
	about := ch.c.session.About()
	hello := []string{fmt.Sprintf("each line is one command of task %s, judged by itself; a command gets no input; exit ends", about.Task)}
	if n := ch.c.session.Notice(); n != "" {
		hello = append(hello, n)
	}
	if !ch.terminal() { // a script: its lines are read as they are needed
		lines := bufio.NewScanner(ch.client)
		lines.Buffer(nil, maxText+2)
		return ch.lines(func() (string, error) {
			if !lines.Scan() {
				return "", io.EOF
			}
			return lines.Text(), nil
		}, func(text string) error { return ch.line(ctx, text, ch.client) })
	}
	k := &typed{ch: ch}
	k.moved = sync.NewCond(&k.mu)
	defer k.end()
	ch.goes(k.read)
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{k, ch.client}, about.Resource+"> ")
	ch.mu.Lock()
	ch.size = func(columns, rows int) { _ = t.SetSize(columns, rows) }
	columns, rows := int(ch.pty.columns), int(ch.pty.rows)
	ch.mu.Unlock()
	if err := t.SetSize(max(columns, 20), max(rows, 2)); err != nil {
		return ignoreGone(err)
	}
	ch.say(hello...)
	return ch.lines(t.ReadLine, func(text string) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		k.runs(stop)
		defer k.runs(nil)
		return ch.line(ctx, text, t) // which ends lines as a terminal wants them
	})
}

// lines runs one line after the other, until there are no more.
func (ch *channel) lines(next func() (string, error), do func(string) error) error {
	for {
		line, err := next()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			ch.exit(0)
			return nil
		}
		switch text := strings.TrimSpace(line); {
		case text == "":
		case text == "exit", text == "logout":
			ch.exit(0)
			return nil
		case tooLong(text):
			ch.say("denied: that is too long, or has a NUL in it")
		default:
			if err := do(text); err != nil {
				return err
			}
		}
	}
}

// line runs one line, and says how it ended where not well.
func (ch *channel) line(ctx context.Context, text string, out io.Writer) error {
	cmd := ch.read(text)
	cmd.out, cmd.errs = out, stderr{ch}
	if ch.terminal() {
		cmd.errs = out
	}
	ex, err := ch.ask(ctx, cmd)
	var status exitStatus
	if err == nil {
		status, err = ch.execute(ctx, cmd, ex)
	}
	lines, denied := refusal(err)
	var s *said
	switch {
	case denied:
		ch.say(lines...)
	case err != nil && ch.c.session.Context().Err() == nil && errors.Is(context.Cause(ctx), gate.ErrCancelled):
		ch.say("taken back")
	case errors.As(err, &s):
		ch.say(s.line)
	case errors.Is(err, errGone):
	case err != nil:
		return err
	default:
		if tag := status.outcome().Tag; tag != "exit 0" && tag != "" {
			ch.say(tag)
		}
	}
	return nil
}
