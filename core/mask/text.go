package mask

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"unicode/utf8"

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
	By        int // which module masks it itself, where Rule is CUSTOM
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
	}
	if _, err := regexp.Compile(l.Pattern); err != nil {
		return fmt.Errorf("mask: %w", err)
	}
	return Check(l.Rule, abi.ClassText)
}

// An Ask has a module mask the cells of a batch of one column. It gives an answer
// that fits the batch, in text, or an error.
type Ask func(by int, asked *abi.Batch) (*abi.Batch, error)

// Text masks one stream. It keeps a line until it is whole, so that what it
// shows does not depend on where the stream was cut.
type Text struct {
	lines []line
	tail  []byte
	long  bool // the line is too long, and dropped until it ends
	bare  bare
	spans []span
	work  []byte
	inner []byte

	ask     Ask
	modules []*module
	holes   []hole // in what was made since they were filled
	size    int    // of the cells that are to go there
	err     error  // why nothing more is shown

	Cells uint64 // how many parts were masked
}

type line struct {
	pattern *regexp.Regexp // nil is every line
	field   int
	sep     []byte
	op      *Op     // nil where a module masks it
	module  *module // that masks it
}

// module is what one module masks itself, by one argument.
type module struct {
	by     int
	asked  abi.Batch
	answer *abi.Batch
	next   int // the row whose cell comes next
}

// hole is where a cell is to go.
type hole struct {
	at     int
	module *module
}

type span struct {
	from, to int
	by       *line
}

// like says whether two parts are masked by the same.
func (l *line) like(o *line) bool { return l == o || l.module != nil && l.module == o.module }

// NewText makes what masks a stream by all of these. What cannot be carried out
// shows nothing at all.
func NewText(all []Lines, keys Keys, ask Ask) *Text {
	t := &Text{ask: ask}
	for _, l := range all {
		c := line{field: l.Field, sep: []byte(l.Separator)}
		if l.Check() != nil {
			c = line{op: &Op{}} // every line, whole
		} else if l.Pattern != "" {
			c.pattern = regexp.MustCompile(l.Pattern)
		}
		switch {
		case c.op != nil:
		case l.Rule.Kind == abi.MaskCustom && ask != nil:
			c.module = t.module(l)
		default:
			c.op = Compile(l.Rule, abi.ClassText, keys)
		}
		t.lines = append(t.lines, c)
	}
	return t
}

// module gives the module of a mask.
func (t *Text) module(l Lines) *module {
	for _, m := range t.modules {
		if m.by == l.By && m.asked.Columns[0].Arg == l.Rule.Arg {
			return m
		}
	}
	m := &module{by: l.By, asked: abi.Batch{Columns: []abi.BatchColumn{{Name: "text", Arg: l.Rule.Arg}}}}
	m.asked.Columns[0].Reset()
	t.modules = append(t.modules, m)
	return m
}

// Append appends what may be shown of a run of the stream. After an error
// nothing is shown any more.
func (t *Text) Append(dst, run []byte) ([]byte, error) {
	if t.err != nil {
		return dst, t.err
	}
	begin, from := len(dst), len(dst)
	for len(run) > 0 {
		i := bytes.IndexByte(run, '\n')
		if i < 0 {
			if t.long || len(t.tail)+len(run) > maxLine {
				t.long, t.tail = true, t.tail[:0]
			} else {
				t.tail = append(t.tail, run...)
			}
			break
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
		if len(t.holes) >= maxCells || t.size >= maxAsked {
			if dst = t.fill(dst, from); t.err != nil {
				return dst[:begin], t.err
			}
			from = len(dst)
		}
	}
	if dst = t.fill(dst, from); t.err != nil {
		return dst[:begin], t.err
	}
	return dst, nil
}

// A module is asked at the latest when there are so many cells, or bytes of them.
const (
	maxCells = 16 << 10
	maxAsked = 256 << 10
)

const tooLong = "(a line that is too long to be masked)"

// End appends what is left once the stream has ended.
func (t *Text) End(dst []byte) ([]byte, error) {
	if t.err != nil {
		return dst, t.err
	}
	from := len(dst)
	switch {
	case t.long:
		dst = append(dst, tooLong...)
		t.Cells++
	case len(t.tail) > 0:
		dst = t.line(dst, t.tail)
	}
	dst = t.fill(dst, from)
	t.tail, t.long, t.bare, t.spans, t.work, t.inner = nil, false, bare{}, nil, nil, nil // its exchange may go on for long
	if t.err != nil {
		return dst[:from], t.err
	}
	return dst, nil
}

// fill puts what the modules answer into the holes behind from.
func (t *Text) fill(dst []byte, from int) []byte {
	if len(t.holes) == 0 {
		return dst
	}
	for _, m := range t.modules {
		m.answer, m.next = nil, 0
		if m.asked.Rows = len(m.asked.Columns[0].Offsets) - 1; m.asked.Rows == 0 {
			continue
		}
		if m.answer, t.err = t.ask(m.by, &m.asked); t.err != nil {
			t.tail, t.holes = nil, nil
			return dst
		}
	}
	t.work = append(t.work[:0], dst[from:]...)
	dst, at := dst[:from], 0
	for _, h := range t.holes {
		dst = append(dst, t.work[at:h.at-from]...)
		if cell, ok := h.module.answer.Columns[0].Cell(h.module.next); ok {
			dst = oneLine(dst, cell)
		}
		h.module.next++
		at = h.at - from
	}
	for _, m := range t.modules {
		m.asked.Columns[0].Reset()
	}
	t.holes, t.size = t.holes[:0], 0
	return append(dst, t.work[at:]...)
}

// line appends one line without its end. The rules see it as it came, and as it
// shows; where any finds something it is shown as it shows. What two of them mask
// in part is left out whole, but within what a module masks the others come first.
func (t *Text) line(dst, b []byte) []byte {
	end := len(b)
	for end > 0 && b[end-1] == '\r' {
		end--
	}
	text := b[:end]
	t.spans = t.spans[:0]
	t.find(text, 0)
	if !clean(text) {
		t.bare.read(text)
		for i := range t.spans {
			s := &t.spans[i]
			s.from, s.to = t.bare.span(s.from, s.to)
		}
		found := len(t.spans) > 0
		text = t.bare.text
		t.find(text, 0)
		if segs := t.bare.segs; len(segs) > 2 {
			for i := range len(segs) - 1 {
				if segs[i] < segs[i+1] {
					t.find(text[segs[i]:segs[i+1]], int(segs[i]))
				}
			}
		}
		t.spans = slices.DeleteFunc(t.spans, func(s span) bool { return s.to <= s.from })
		if found && len(t.spans) == 0 { // it was all struck over
			t.Cells++
			return append(append(dst, text...), b[end:]...)
		}
	}
	if len(t.spans) == 0 {
		return append(dst, b...)
	}
	slices.SortFunc(t.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	return append(t.parts(dst, text, 0, len(text), t.spans), b[end:]...)
}

// parts appends a part of a line, with these spans in it masked.
func (t *Text) parts(dst, b []byte, at, end int, spans []span) []byte {
	for len(spans) > 0 {
		from, to, n := spans[0].from, spans[0].to, 1
		for n < len(spans) && spans[n].from < to {
			to = max(to, spans[n].to)
			n++
		}
		dst = t.cover(append(dst, b[at:from]...), b, from, to, spans[:n])
		spans, at = spans[n:], to
	}
	return append(dst, b[at:end]...)
}

// cover appends what stands in the place of a part that spans lie over, without
// a gap.
func (t *Text) cover(dst, b []byte, from, to int, spans []span) []byte {
	t.Cells++
	alike, custom := true, -1 // a module's span that is the whole
	for i, s := range spans {
		alike = alike && s.by.like(spans[0].by)
		if s.by.module != nil && s.from == from && s.to == to {
			custom = i
		}
	}
	switch {
	case alike && spans[0].by.module != nil:
		return t.cell(dst, b[from:to], spans[0].by.module)
	case alike:
		return t.mask(dst, b[from:to], spans[0].by.op)
	case custom < 0:
		return dst
	}
	by := spans[custom].by
	for _, s := range spans {
		if s.by.module != nil && !s.by.like(by) {
			return dst
		}
	}
	native := slices.DeleteFunc(spans, func(s span) bool { return s.by.module != nil })
	t.inner = t.parts(t.inner[:0], b, from, to, native)
	return t.cell(dst, t.inner, by.module)
}

// cell leaves a hole for what a module makes of a part. What is no text is not
// shown, as everywhere.
func (t *Text) cell(dst, part []byte, m *module) []byte {
	if len(part) == 0 || !utf8.Valid(part) {
		return dst
	}
	m.asked.Columns[0].Add(part, false)
	t.size += len(part)
	t.holes = append(t.holes, hole{len(dst), m})
	return dst
}

// find adds the parts of a text that any rule masks. off is where it stands.
func (t *Text) find(b []byte, off int) {
	for i := range t.lines {
		t.findBy(&t.lines[i], b, off)
	}
}

func (t *Text) findBy(l *line, b []byte, off int) {
	add := func(from, to int) {
		if to > from {
			t.spans = append(t.spans, span{off + from, off + to, l})
		}
	}
	if l.field > 0 {
		if l.pattern == nil || l.pattern.Match(b) {
			if from, to, ok := field(b, l.field, l.sep); ok {
				add(from, to)
			}
		}
		return
	}
	if l.pattern == nil {
		add(0, len(b))
		return
	}
	for _, m := range l.pattern.FindAllSubmatchIndex(b, -1) {
		if len(m) == 2 {
			add(m[0], m[1])
			continue
		}
		for i := 2; i < len(m); i += 2 {
			add(m[i], m[i+1])
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
	return oneLine(dst, out)
}

func oneLine(dst, b []byte) []byte {
	for _, c := range b {
		if c == '\n' || c == '\r' {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}
