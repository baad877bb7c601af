package record

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/taskgate/taskgate/core/gate"
)

// Escape makes text safe to print on a terminal: what is not printable is
// written out.
func Escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) || unicode.Is(unicode.Bidi_Control, c) {
			fmt.Fprintf(&b, "\\u%04x", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Replay prints a recording for people: each command with its decision, what
// came back and how it ended.
func Replay(w io.Writer, path string) error {
	texts := map[string]*gate.Event{}
	var began time.Time
	return Read(path, func(e *gate.Event) error {
		if began.IsZero() {
			began = e.Time
		}
		at := fmt.Sprintf("%9.3fs", e.Time.Sub(began).Seconds())
		switch e.Kind {
		case gate.EventOpen:
			fmt.Fprintf(w, "%s  session %s: %s for task %s on %s from %s, %s\n", at, e.Session, Escape(e.Subject), Escape(e.Task), Escape(e.Resource), Escape(e.Address), e.Time.Format(time.RFC3339))
		case gate.EventGeneration:
			fmt.Fprintf(w, "%s  policy: generation %d\n", at, e.Generation)
		case gate.EventText:
			texts[e.Digest] = e
		case gate.EventCommand:
			command(w, at, e, texts[e.Digest])
		case gate.EventResult:
			rows(w, e.Frame)
		case gate.EventDone:
			fmt.Fprintf(w, "%s    #%d %s %s", at, e.Command, e.State, Escape(e.Tag))
			if e.Code != "" {
				fmt.Fprintf(w, " SQLSTATE %s", Escape(e.Code))
			}
			fmt.Fprintf(w, " (%d rows, %d bytes, %s)\n", e.Rows, e.Bytes, e.Took.Round(time.Microsecond))
			if e.First != 0 {
				fmt.Fprintf(w, "%s    #%d to #%d %s\n", at, e.First, e.Last, e.Settles)
			}
		case gate.EventClose:
			fmt.Fprintf(w, "%s  closed after %d commands %s\n", at, e.Command, Escape(e.Why))
		}
		return nil
	})
}

func command(w io.Writer, at string, e, text *gate.Event) {
	fmt.Fprintf(w, "%s  #%d %s by %s", at, e.Command, e.Decision, Escape(e.Guard))
	if e.Phase == "prepare" {
		fmt.Fprint(w, ", to prepare")
	}
	if text != nil {
		fmt.Fprintf(w, ": %s", Escape(text.Text))
	}
	if len(e.Params) > 0 {
		fmt.Fprintf(w, "  [%s]", Escape(strings.Join(e.Params, ", ")))
	}
	fmt.Fprintln(w)
	if e.Decision == "allow" {
		return
	}
	for _, v := range e.Verdicts {
		fmt.Fprintf(w, "              %s: %s %s\n", Escape(v.Guard), v.Decision, Escape(v.Message))
		for _, more := range []string{v.Closest, v.Hint} {
			if more != "" {
				fmt.Fprintf(w, "                %s\n", Escape(more))
			}
		}
	}
}

// rows prints the DataRow messages among the frames of a PostgreSQL result
// (PostgreSQL documentation, "Message Formats").
func rows(w io.Writer, frames []byte) {
	for len(frames) >= 5 {
		n := int(binary.BigEndian.Uint32(frames[1:])) + 1
		if n < 5 || n > len(frames) {
			fmt.Fprintln(w, "              … (the rest was not kept)")
			return
		}
		if frames[0] == 'D' {
			fmt.Fprintf(w, "              | %s\n", strings.Join(cells(frames[5:n]), " | "))
		}
		frames = frames[n:]
	}
}

func cells(b []byte) (list []string) {
	if len(b) < 2 {
		return nil
	}
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	for range count {
		if len(b) < 4 {
			break
		}
		n := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n < 0 {
			list = append(list, "NULL")
			continue
		}
		if int(n) > len(b) {
			break
		}
		list = append(list, Escape(string(b[:n])))
		b = b[n:]
	}
	return list
}

// JSON writes one event a line.
func JSON(w io.Writer, path string) error {
	enc := json.NewEncoder(w)
	return Read(path, func(e *gate.Event) error { return enc.Encode(e) })
}
