package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// What a recording shows on a screen, by asciicast's letters.
const (
	shotOut    = "o"
	shotIn     = "i"
	shotMark   = "m" // a decision, or what else is to be found again
	shotResize = "r"
	shotExit   = "x"
)

// shot is one thing that a screen showed: always valid UTF-8.
type shot struct {
	at         time.Duration // since the session began; it never goes back
	kind, data string
}

// screen makes a screen of what the programs of an SSH session wrote. What came
// of files and forwards is not on it, but for the decision.
type screen struct {
	f        func(shot) error
	began    time.Time
	at       time.Duration
	only     uint64 // of this command alone; 0 is all
	streams  streams
	texts    map[string]drawn
	commands map[uint64]*drawing
	size     string
	exit     string
	err      error
}

// drawn is a text that was met.
type drawn struct {
	label             string
	program, terminal bool
}

// drawing is a command whose streams are on the screen.
type drawing struct {
	out, err, in split
	terminal     bool // it says itself where a line begins
	cr           bool
}

// maxLabel bounds what a mark shows of a text, in bytes.
const maxLabel = 256

// sides bounds a terminal: what a client claims beyond it is no size.
const sides = 1000

func show(path string, s *Summary, only uint64, f func(shot) error) error {
	c := &screen{f: f, began: s.Began, only: only, streams: streams{}, texts: map[string]drawn{}, commands: map[uint64]*drawing{}, size: sane(s.size)}
	err := Read(path, func(e *gate.Event) error {
		if at := e.Time.Sub(c.began); at > c.at { // a clock may be set back
			c.at = at
		}
		c.event(e)
		return c.err
	})
	switch {
	case errors.Is(err, ErrTorn):
		c.shot(shotMark, ErrTorn.Error())
	case err == nil && c.exit != "" && s.State == "ended":
		c.shot(shotExit, c.exit)
	}
	if c.err != nil {
		return c.err
	}
	return err
}

func (c *screen) shot(kind, data string) {
	if c.err == nil && (data != "" || kind == shotMark) {
		c.err = c.f(shot{c.at, kind, data})
	}
}

func (c *screen) mark(word string, digest string) {
	if t, ok := c.texts[digest]; ok {
		word += ": " + t.label
	}
	c.shot(shotMark, word)
}

func (c *screen) event(e *gate.Event) {
	if e.Kind == gate.EventText {
		program, terminal := programs(e.Operations)
		text, more := e.Text, ""
		if len(text) > maxLabel {
			text, more = text[:maxLabel-unfinished([]byte(text[:maxLabel]))], "…"
		}
		c.texts[e.Digest] = drawn{Escape(text) + more, program, terminal}
		return
	}
	if c.only != 0 && (e.Command != c.only || e.Kind == gate.EventRequest) { // a request has no number of its own
		return
	}
	switch e.Kind {
	case gate.EventCommand:
		word := e.Decision
		switch {
		case e.Request != "":
			word = "approved"
		case e.Decision == "review":
			word = "hold"
		case refused(e):
			word = "deny"
		}
		c.mark(word, e.Digest)
		if t := c.texts[e.Digest]; t.program && !refused(e) {
			c.commands[e.Command] = &drawing{terminal: t.terminal}
		}
	case gate.EventRequest:
		c.mark("hold", e.Digest)
	case gate.EventSettled:
		c.shot(shotMark, "request "+Escape(e.Request)+" "+Escape(e.State))
	case gate.EventResult, gate.EventInput:
		if d := c.commands[e.Command]; d != nil {
			c.streams.each(e, func(kind byte, b []byte) { c.piece(d, kind, b) })
		}
	case gate.EventDone:
		c.done(e)
	}
}

func (c *screen) piece(d *drawing, kind byte, b []byte) {
	switch kind {
	case frameOut:
		c.shot(shotOut, d.lines(d.out.text(b)))
	case frameErr:
		c.shot(shotOut, d.lines(d.err.text(b)))
	case frameIn:
		c.shot(shotIn, d.in.text(b))
	case frameResize:
		d.terminal = true
		if now := sane(size(b)); now != c.size {
			c.size = now
			c.shot(shotResize, now)
		}
	}
}

func (c *screen) done(e *gate.Event) {
	d := c.commands[e.Command]
	if d == nil {
		return
	}
	c.shot(shotOut, d.out.end())
	c.shot(shotOut, d.err.end())
	c.shot(shotIn, d.in.end())
	if c.streams.end(e.Command) {
		c.shot(shotMark, "the rest was not kept")
	}
	delete(c.commands, e.Command)
	var status int
	if _, err := fmt.Sscanf(e.Tag, "exit %d", &status); err == nil {
		c.exit = fmt.Sprint(status)
	}
}

// lines gives what the terminal of a client makes of output that does not come
// from one: each line begins at the left.
func (d *drawing) lines(s string) string {
	if d.terminal || !strings.Contains(s, "\n") {
		d.cr = strings.HasSuffix(s, "\r")
		return s
	}
	var b bytes.Buffer
	for i := range len(s) {
		if s[i] == '\n' && !d.cr {
			b.WriteByte('\r')
		}
		b.WriteByte(s[i])
		d.cr = s[i] == '\r'
	}
	return b.String()
}

// sane gives a size that a player can show: what says nothing is 80x24.
func sane(size string) string {
	cols, rows := sizeOf(size)
	return fmt.Sprintf("%dx%d", cols, rows)
}

func sizeOf(size string) (cols, rows int) {
	if _, err := fmt.Sscanf(size, "%dx%d", &cols, &rows); err != nil || cols == 0 || rows == 0 {
		return 80, 24
	}
	return min(cols, sides), min(rows, sides)
}

// size is "80x24".
func size(b []byte) string {
	return fmt.Sprintf("%dx%d", binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]))
}
