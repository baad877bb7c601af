package record

import (
	"slices"
	"strings"
)

// tame lets through what changes the picture of a terminal, and nothing that
// makes it answer, type, print, keep or fetch something: whoever was recorded
// must not act on the machine of who looks at it. It takes valid UTF-8, cut
// anywhere between code points (ECMA-48; xterm's ctlseqs).
type tame struct {
	state byte   // 0, or the byte that began what is at hand: ESC, [, ] for any string
	seq   []byte // of a sequence at hand, behind ESC
	stray bool   // an ESC inside a string, which may be its end
	alt   bool   // the other screen is shown
	out   strings.Builder
}

const (
	maxSequence = 64
	esc         = 0x1b
)

// reset ends what a recording has left on.
func (t *tame) reset() string {
	s := "\x1b[!p\x1b(B\x0f\x1b[m\x1b[4l\x1b[?5;6;45;69;2026l\x1b[?7;25h\x1b[0 q\x1b7\x1b[r\x1b8"
	if t.alt {
		s = "\x1b[?1049l" + s
	}
	*t = tame{}
	return s + "\r\n"
}

func (t *tame) text(s string) string {
	t.out.Reset()
	for _, c := range s {
		t.rune(c)
	}
	return t.out.String()
}

func (t *tame) rune(c rune) {
	switch {
	case t.state == ']':
		t.str(c)
	case c == esc:
		t.state, t.seq = esc, t.seq[:0]
	case c == 0x18 || c == 0x1a: // they end a sequence
		t.state = 0
	case t.state == 0:
		if c >= ' ' && c != 0x7f && (c < 0x80 || c >= 0xa0) || strings.ContainsRune("\a\b\t\n\v\f\r\x0e\x0f", c) {
			t.out.WriteRune(c)
		}
	case c < ' ' || c >= 0x7f: // nothing that belongs into one
	case t.state == esc:
		t.escape(byte(c))
	default:
		t.control(byte(c))
	}
}

// str drops a string: titles, the clipboard, links, keys, pictures.
func (t *tame) str(c rune) {
	switch {
	case t.stray && c == '\\', c == '\a', c == 0x18, c == 0x1a, c == 0x9c:
		t.state, t.stray = 0, false
	case t.stray && c != esc: // another sequence has begun
		t.stray, t.state, t.seq = false, esc, t.seq[:0]
		t.rune(c)
	default:
		t.stray = c == esc
	}
}

func (t *tame) escape(c byte) {
	switch {
	case len(t.seq) == 0 && c == '[':
		t.state = '['
		return
	case len(t.seq) == 0 && strings.IndexByte("]PX^_k", c) >= 0: // k: a title, as screen has it
		t.state = ']'
		return
	case c < '0': // an intermediate
		if t.seq = append(t.seq, c); len(t.seq) > maxSequence {
			t.state = 0
		}
		return
	case len(t.seq) == 0 && strings.IndexByte("78cDEMNOno|}~", c) >= 0,
		len(t.seq) == 1 && strings.IndexByte("()*+#", t.seq[0]) >= 0:
		t.out.WriteByte(esc)
		t.out.Write(t.seq)
		t.out.WriteByte(c)
		t.alt = t.alt && c != 'c'
	}
	t.state = 0
}

// shownModes are the private modes that change what is seen alone.
var shownModes = []string{"5", "6", "7", "12", "25", "45", "47", "69", "1047", "1048", "1049", "2026"}

func (t *tame) control(c byte) {
	if c < '@' {
		if t.seq = append(t.seq, c); len(t.seq) > maxSequence {
			t.state = 0
		}
		return
	}
	t.state = 0
	p := string(t.seq)
	plain := strings.Trim(p, "0123456789;:") == ""
	switch {
	case plain && strings.IndexByte("@ABCDEFGHIJKLMPSXZ`abdefmrsu", c) >= 0,
		plain && c == 'T' && !strings.Contains(p, ";"), // with more it reports the mouse
		p == "4" && (c == 'h' || c == 'l'),
		(p == "?0" || p == "?1" || p == "?2" || p == "?") && (c == 'J' || c == 'K'),
		strings.HasSuffix(p, " ") && strings.Trim(p, "0123456789 ") == "" && c == 'q',
		p == "!" && c == 'p':
	case strings.HasPrefix(p, "?") && (c == 'h' || c == 'l'):
		modes := slices.DeleteFunc(strings.Split(p[1:], ";"), func(m string) bool { return !slices.Contains(shownModes, m) })
		if len(modes) == 0 {
			return
		}
		if p = "?" + strings.Join(modes, ";"); slices.ContainsFunc(modes, func(m string) bool { return m == "47" || m == "1047" || m == "1049" }) {
			t.alt = c == 'h'
		}
	default:
		return
	}
	t.out.WriteString("\x1b[" + p)
	t.out.WriteByte(c)
}
