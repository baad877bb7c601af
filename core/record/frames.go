package record

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/core/gate"
)

// runs joins the frames of a command, which may be cut anywhere between one
// event and the next.
type runs map[run][]byte

type run struct {
	command uint64
	kind    gate.EventKind
}

// largest is the largest frame that is put together; what is larger is not shown.
const largest = 64 << 20

// add gives the messages that are whole with this event.
func (r runs) add(e *gate.Event) (list []message) {
	key := run{e.Command, e.Kind}
	b := append(r[key], e.Frame...)
	for len(b) >= 5 {
		n := int64(binary.BigEndian.Uint32(b[1:])) + 1
		if n < 5 || n > largest {
			b = nil
			break
		}
		if n > int64(len(b)) {
			break
		}
		if m, ok := read(b[0], b[5:n]); ok {
			list = append(list, m)
		}
		b = b[n:]
	}
	if len(b) == 0 {
		delete(r, key)
	} else {
		r[key] = append([]byte(nil), b...)
	}
	return list
}

// end forgets the beginning of a message whose rest was not kept, and says
// whether there was one.
func (r runs) end(command uint64) bool {
	n := len(r)
	delete(r, run{command, gate.EventResult})
	delete(r, run{command, gate.EventInput})
	return len(r) < n
}

// message is what one message of PostgreSQL shows (PostgreSQL documentation,
// "Message Formats"): a row, a piece of COPY data, an error or a notice. Of a
// host it is a piece of a stream, or the size of a terminal.
type message struct {
	Out      *cell  `json:"out,omitempty"`
	Err      *cell  `json:"err,omitempty"`
	In       *cell  `json:"in,omitempty"`
	Size     string `json:"size,omitempty"`
	Row      []cell `json:"row,omitempty"`
	Copy     *cell  `json:"copy,omitempty"`
	Severity string `json:"severity,omitempty"`
	Code     string `json:"code,omitempty"`
	Message  string `json:"message,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

func read(kind byte, b []byte) (m message, ok bool) {
	switch kind {
	case 'D':
		m.Row = cells(b)
	case 'd':
		m.Copy = &cell{value: b}
	case 'E', 'N':
		for len(b) > 1 {
			value, rest, ok := strings.Cut(string(b[1:]), "\x00")
			if !ok {
				break
			}
			switch b[0] {
			case 'S':
				m.Severity = value
			case 'C':
				m.Code = value
			case 'M':
				m.Message = value
			case 'D':
				m.Detail = value
			case 'H':
				m.Hint = value
			}
			b = b[len(b)-len(rest):]
		}
	default:
		return m, false
	}
	return m, true
}

// lines are for people: one, but for COPY data, which has its own.
func (m message) lines() []string {
	switch {
	case m.Copy != nil:
		list := strings.Split(strings.TrimSuffix(string(m.Copy.value), "\n"), "\n")
		for i := range list {
			list[i] = Escape(list[i])
		}
		return list
	case m.Severity != "" || m.Message != "":
		s := Escape(m.Severity) + " " + Escape(m.Code) + ": " + Escape(m.Message)
		for _, more := range []string{m.Detail, m.Hint} {
			if more != "" {
				s += "; " + Escape(more)
			}
		}
		return []string{s}
	}
	list := make([]string, len(m.Row))
	for i, c := range m.Row {
		list[i] = c.String()
	}
	return []string{strings.Join(list, " | ")}
}

// cell is one value. NULL is none.
type cell struct {
	null  bool
	value []byte
}

// String tells NULL from a text that says so, and a bar in a value from one
// between two.
func (c cell) String() string {
	if c.null {
		return "NULL"
	}
	s := Escape(string(c.value))
	if s == "NULL" || strings.ContainsAny(s, "|\"") || s != strings.TrimSpace(s) {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}

// MarshalJSON gives text as it is, and what is no text in base64.
func (c cell) MarshalJSON() ([]byte, error) {
	switch {
	case c.null:
		return []byte("null"), nil
	case utf8.Valid(c.value):
		return json.Marshal(string(c.value))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString(c.value)})
}

func cells(b []byte) []cell {
	list := []cell{}
	if len(b) < 2 {
		return list
	}
	count := int(binary.BigEndian.Uint16(b))
	for b = b[2:]; count > 0 && len(b) >= 4; count-- {
		n := int32(binary.BigEndian.Uint32(b))
		if b = b[4:]; n < 0 {
			list = append(list, cell{null: true})
			continue
		}
		if int(n) > len(b) {
			break
		}
		list = append(list, cell{value: b[:n:n]})
		b = b[n:]
	}
	return list
}
