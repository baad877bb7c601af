package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/count"
)

// Escape makes text safe to print on a terminal, so that what it was can still
// be told: what is not printable is written out, as is a backslash.
func Escape(s string) string {
	var b strings.Builder
	for i, w := 0, 0; i < len(s); i += w {
		var c rune
		c, w = utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && w == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case c == '\\':
			b.WriteString(`\\`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case !unicode.IsPrint(c) || unicode.Is(unicode.Bidi_Control, c):
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

const indent = "              "

// player prints a recording for people.
type player struct {
	w     io.Writer
	sum   *Summary
	began time.Time
	texts map[string]string
	runs  runs
	kept  map[uint64]uint64 // bytes of each answer that the recording has
	err   error             // of the writer
	hosts *hosts            // of an SSH session alone
}

// Replay prints a recording for people: each command with its decision and its
// outcome, what came back, and how long it took.
func Replay(w io.Writer, path string) error {
	s, err := Summarize(path)
	if err != nil {
		return err
	}
	p := &player{w: w, sum: s, began: s.Began, texts: map[string]string{}, runs: runs{}, kept: map[uint64]uint64{}}
	if s.Protocol == protocolSSH {
		p.hosts = newHosts()
	}
	p.head()
	err = Read(path, func(e *gate.Event) error {
		p.event(e)
		return p.err
	})
	if p.hosts != nil && (err == nil || errors.Is(err, ErrTorn)) {
		p.unended()
	}
	if errors.Is(err, ErrTorn) {
		p.printf("%s  %v: the session goes on, or its gateway was killed\n", strings.Repeat(" ", 10), ErrTorn)
		err = p.err
	}
	return err
}

func (p *player) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *player) head() {
	s := p.sum
	p.printf("session %s: %s for task %s on %s from %s\n", s.ID, Escape(s.Subject), Escape(s.Task), Escape(s.Resource), Escape(s.Address))
	if s.Issuer != "" || len(s.Groups) > 0 {
		p.printf("%s%s, groups %s\n", indent, Escape(s.Issuer), Escape(strings.Join(s.Groups, " ")))
	}
	p.printf("%sbegan %s", indent, s.Began.Format(time.RFC3339))
	if s.State == "ended" {
		p.printf(", ended after %s", s.Ended.Sub(s.Began).Round(time.Millisecond))
	}
	p.printf("\n%s%s: %s; ", indent, count.Of(s.Commands, "command"), s.Outcomes)
	if p.hosts == nil {
		p.printf("%s, ", count.Of(s.Rows, "row"))
	}
	p.printf("%s\n", count.Of(s.Bytes, "byte"))
	for _, m := range s.Modules {
		p.printf("%sjudged by %s, sha256 %s\n", indent, Escape(m.Name), Escape(m.Digest))
	}
}

func (p *player) event(e *gate.Event) {
	at := fmt.Sprintf("%9.3fs", e.Time.Sub(p.began).Seconds())
	switch e.Kind {
	case gate.EventOpen:
		p.printf("%s  opened under generation %d\n", at, e.Generation)
	case gate.EventGeneration:
		p.printf("%s  policy: generation %d\n", at, e.Generation)
	case gate.EventText:
		p.texts[e.Digest] = e.Text
		if p.hosts != nil {
			_, p.hosts.shells[e.Digest] = programs(e.Operations)
		}
	case gate.EventCommand:
		p.command(at, e)
		if p.hosts != nil {
			p.begins(at, e)
		}
	case gate.EventResult, gate.EventInput:
		mark := "<"
		if e.Kind == gate.EventResult {
			mark = "|"
			p.kept[e.Command] += uint64(len(e.Frame))
		}
		if p.hosts != nil {
			p.came(at, e)
			return
		}
		for _, m := range p.runs.add(e) {
			for _, line := range m.lines() {
				p.printf("%s%s %s\n", indent, mark, line)
			}
		}
	case gate.EventDone:
		p.done(at, e)
	case gate.EventRequest:
		p.request(at, e)
	case gate.EventDecision:
		p.printf("%s  request %s\n", at, Escape(e.Request))
		p.voices(e.Voices)
	case gate.EventSettled:
		p.settled(at, e)
	case gate.EventClose:
		p.printf("%s\n", strings.TrimRight(at+"  closed after "+count.Of(e.Command, "command")+" "+Escape(e.Why), " "))
	default:
		p.printf("%s  %s\n", at, e.Name)
	}
}

func (p *player) command(at string, e *gate.Event) {
	p.printf("%s  #%d %s by %s", at, e.Command, e.Decision, Escape(e.Guard))
	if e.Phase == "prepare" {
		p.printf(", to prepare")
	}
	if c := p.sum.ends[e.Command]; c != nil && c.outcome != Refused {
		p.printf(", %s", c.outcome)
		if c.by != 0 {
			p.printf(" by #%d", c.by)
		}
	}
	p.text(e.Digest)
	p.params(e)
	for _, v := range e.Verdicts {
		if e.Decision == "allow" && v.Message == "" && v.Detail == "" {
			continue
		}
		p.verdict(&v)
	}
	if e.Request != "" {
		p.printf("%sheld as request %s, bound to sha256 %s\n", indent, Escape(e.Request), e.Binding)
		p.voices(e.Voices)
	}
}

// text ends a line with the text of a digest.
func (p *player) text(digest string) {
	if text, ok := p.texts[digest]; ok {
		lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
		p.printf(": %s", Escape(lines[0]))
		for _, l := range lines[1:] {
			p.printf("\n%s  %s", indent, Escape(l))
		}
	}
	p.printf("\n")
}

func (p *player) params(e *gate.Event) {
	if len(e.Params) > 0 {
		p.printf("%sparameters %s\n", indent, Escape(strings.Join(e.Params, ", ")))
	}
}

func (p *player) verdict(v *gate.GuardVerdict) {
	p.printf("%s\n", strings.TrimRight(indent+Escape(v.Guard)+": "+v.Decision+" "+Escape(v.Message), " "))
	for _, more := range []string{v.Closest, v.Hint, v.Detail} {
		if more != "" {
			p.printf("%s  %s\n", indent, Escape(more))
		}
	}
}

func (p *player) done(at string, e *gate.Event) {
	if p.hosts != nil {
		p.ended(at, e)
	} else {
		p.answered(at, e)
	}
	if e.First != 0 {
		p.printf("%s    #%d to #%d %s\n", at, e.First, e.Last, e.Settles)
	}
	p.spent(e)
}

func (p *player) answered(at string, e *gate.Event) {
	kept := p.kept[e.Command]
	delete(p.kept, e.Command)
	if cut := p.runs.end(e.Command); kept < e.Bytes {
		p.printf("%s… (%d of %s were kept)\n", indent, kept, count.Of(e.Bytes, "byte"))
	} else if cut {
		p.printf("%s… (the rest was not kept)\n", indent)
	}
	p.printf("%s    #%d %s", at, e.Command, e.State)
	if e.Tag != "" {
		p.printf(" %s", Escape(e.Tag))
	}
	if e.Code != "" {
		p.printf(" SQLSTATE %s", Escape(e.Code))
	}
	p.printf(" (%s, %s, %s)\n", count.Of(e.Rows, "row"), count.Of(e.Bytes, "byte"), took(e))
}

func took(e *gate.Event) time.Duration { return e.Took.Round(time.Microsecond) }

// JSON writes the summary and then one event a line. A command has its outcome;
// what came back has its rows, where it is read, and the protocol's own bytes.
func JSON(w io.Writer, path string) error {
	s, err := Summarize(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	if err := enc.Encode(struct {
		Name string `json:"event"`
		*Summary
	}{"summary", s}); err != nil {
		return err
	}
	runs, streams := runs{}, streams{}
	err = Read(path, func(e *gate.Event) error {
		line := struct {
			*gate.Event
			Outcome string    `json:"outcome,omitempty"`
			By      uint64    `json:"settled_by,omitempty"`
			Shown   []message `json:"shown,omitempty"`
			Frames  []byte    `json:"frames,omitempty"`
		}{Event: e}
		switch e.Kind {
		case gate.EventCommand:
			if c := s.ends[e.Command]; c != nil { // else it is newer than the summary
				line.Outcome, line.By = c.outcome, c.by
			}
			streams.end(0)
		case gate.EventResult, gate.EventInput:
			line.Frames = e.Frame
			if s.Protocol == protocolSSH {
				line.Shown = streams.messages(e)
			} else {
				line.Shown = runs.add(e)
			}
		case gate.EventDone:
			runs.end(e.Command)
			streams.end(e.Command)
		}
		return enc.Encode(line)
	})
	if errors.Is(err, ErrTorn) { // the summary says so
		return nil
	}
	return err
}
