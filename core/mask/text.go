package mask

import (
	"bytes"
	"fmt"
	"regexp"

	"github.com/taskgate/taskgate/abi"
)

// Lines says which parts of a text are masked, line by line.
type Lines struct {
	// Pattern is an RE2 expression (its package regexp's, which takes time in
	// proportion to the line). What its groups match is masked; all that it
	// matches where it has none. Empty is every line.
	Pattern string
	// Field, from 1, masks that field of the lines that Pattern matches, instead.
	// Separator stands between two; empty is any run of blanks.
	Field     int
	Separator string
	Rule      Rule
}

// String says it for the record.
func (l Lines) String() string {
	s := l.Pattern
	if l.Field > 0 {
		s = fmt.Sprintf("field %d", l.Field)
		if l.Pattern != "" {
			s += " of " + l.Pattern
		}
	}
	return s
}

// maxPattern bounds an expression, in bytes, and maxLine a line: what is longer
// is not looked at, and nothing of it is shown.
const (
	maxPattern = 4 << 10
	maxLine    = 1 << 20
)

// Check says why it cannot be carried out.
func (l Lines) Check() error {
	switch {
	case l.Pattern == "" && l.Field == 0:
		return fmt.Errorf("mask: neither a pattern nor a field")
	case len(l.Pattern) > maxPattern:
		return fmt.Errorf("mask: a pattern of more than %d bytes", maxPattern)
	case l.Field < 0 || l.Field > 10000:
		return fmt.Errorf("mask: no field %d: the first is 1", l.Field)
	case len(l.Separator) > 16 || bytes.ContainsAny([]byte(l.Separator), "\r\n"):
		return fmt.Errorf("mask: %q is no separator", l.Separator)
	case l.Rule.Kind == abi.MaskCustom:
		return fmt.Errorf("mask: custom masks are for results of databases")
	}
	if _, err := regexp.Compile(l.Pattern); err != nil {
		return fmt.Errorf("mask: %w", err)
	}
	return Check(l.Rule, abi.ClassText)
}

// Text masks one stream. It keeps a line until it is whole, so that what it
// shows does not depend on where the stream was cut.
type Text struct {
	lines []line
	tail  []byte
	long  bool // the line is too long, and dropped until it ends
	spans []span
	work  []byte
	Cells uint64 // how many parts were masked
}

type line struct {
	pattern *regexp.Regexp // nil is every line
	field   int
	sep     []byte
	op      *Op
}

type span struct {
	from, to int
	op       *Op
}

// NewText makes what masks a stream by all of these. What cannot be carried out
// shows nothing at all.
func NewText(all []Lines, keys Keys) *Text {
	t := &Text{}
	for _, l := range all {
		c := line{field: l.Field, sep: []byte(l.Separator), op: Compile(l.Rule, abi.ClassText, keys)}
		if l.Check() != nil {
			c = line{op: &Op{}} // every line, whole
		} else if l.Pattern != "" {
			c.pattern = regexp.MustCompile(l.Pattern)
		}
		t.lines = append(t.lines, c)
	}
	return t
}

// Append appends what may be shown of a run of the stream.
func (t *Text) Append(dst, run []byte) []byte {
	for len(run) > 0 {
		i := bytes.IndexByte(run, '\n')
		if i < 0 {
			if t.long || len(t.tail)+len(run) > maxLine {
				t.long, t.tail = true, t.tail[:0]
				return dst
			}
			t.tail = append(t.tail, run...)
			return dst
		}
		whole := run[:i]
		if len(t.tail) > 0 {
			t.tail = append(t.tail, whole...)
			whole = t.tail
		}
		if t.long || len(whole) > maxLine {
			dst = append(dst, tooLong...)
			t.Cells++
		} else {
			dst = t.line(dst, whole)
		}
		dst, t.tail, t.long = append(dst, '\n'), t.tail[:0], false
		run = run[i+1:]
	}
	return dst
}

const tooLong = "(a line that is too long to be masked)"

// End appends what is left once the stream has ended.
func (t *Text) End(dst []byte) []byte {
	switch {
	case t.long:
		dst = append(dst, tooLong...)
		t.Cells++
	case len(t.tail) > 0:
		dst = t.line(dst, t.tail)
	}
	t.tail, t.long = t.tail[:0], false
	return dst
}

// line appends one line without its end. The rules see it as it came, and what
// two of them mask in part is left out whole.
func (t *Text) line(dst, b []byte) []byte {
	end := len(b)
	if end > 0 && b[end-1] == '\r' {
		end--
	}
	t.spans = t.spans[:0]
	for i := range t.lines {
		t.find(&t.lines[i], b[:end])
	}
	if len(t.spans) == 0 {
		return append(dst, b...)
	}
	at := 0
	for at < end {
		next, s := end, span{}
		for _, c := range t.spans {
			if c.to > at && c.from < next {
				next, s = max(c.from, at), c
			}
		}
		dst = append(dst, b[at:next]...)
		if next == end {
			break
		}
		whole := true
		for grown := true; grown; { // with all that lies over it
			grown = false
			for _, c := range t.spans {
				if c == s || c.to <= s.from || c.from >= s.to {
					continue
				}
				whole = false
				if c.from < s.from || c.to > s.to {
					s.from, s.to, grown = min(s.from, c.from), max(s.to, c.to), true
				}
			}
		}
		if whole {
			dst = t.mask(dst, b[s.from:s.to], s.op)
		}
		t.Cells++
		at = s.to
	}
	return append(dst, b[end:]...)
}

// find adds the parts of a line that a rule masks.
func (t *Text) find(l *line, b []byte) {
	if l.field > 0 {
		if l.pattern == nil || l.pattern.Match(b) {
			if from, to, ok := field(b, l.field, l.sep); ok && to > from {
				t.spans = append(t.spans, span{from, to, l.op})
			}
		}
		return
	}
	if l.pattern == nil {
		if len(b) > 0 {
			t.spans = append(t.spans, span{0, len(b), l.op})
		}
		return
	}
	for _, m := range l.pattern.FindAllSubmatchIndex(b, -1) {
		if len(m) == 2 {
			if m[1] > m[0] {
				t.spans = append(t.spans, span{m[0], m[1], l.op})
			}
			continue
		}
		for i := 2; i < len(m); i += 2 {
			if m[i+1] > m[i] {
				t.spans = append(t.spans, span{m[i], m[i+1], l.op})
			}
		}
	}
}

// field gives where the nth field of a line stands.
func field(b []byte, n int, sep []byte) (from, to int, ok bool) {
	if len(sep) > 0 {
		for from = 0; n > 1; n-- {
			i := bytes.Index(b[from:], sep)
			if i < 0 {
				return 0, 0, false
			}
			from += i + len(sep)
		}
		if i := bytes.Index(b[from:], sep); i >= 0 {
			return from, from + i, true
		}
		return from, len(b), true
	}
	blank := func(c byte) bool { return c == ' ' || c == '\t' }
	for at := 0; ; n-- {
		for at < len(b) && blank(b[at]) {
			at++
		}
		if at == len(b) {
			return 0, 0, false
		}
		from = at
		for at < len(b) && !blank(b[at]) {
			at++
		}
		if n == 1 {
			return from, at, true
		}
	}
}

// mask appends what stands in a part's place: on one line, and nothing for NULL.
func (t *Text) mask(dst, part []byte, op *Op) []byte {
	out, null := op.Append(t.work[:0], part, false, false)
	t.work = out
	if null {
		return dst
	}
	for _, c := range out {
		if c == '\n' || c == '\r' {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}
