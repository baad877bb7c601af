package mask

import (
	"unicode"
	"unicode/utf8"
)

// bare is a line without what does not show: escape sequences, control
// characters, what was struck over, format characters and byte order marks. A
// key that is coloured, or padded with NUL, is the same key.
type bare struct {
	text []byte
	at   []int32 // where in text stands what begins at a byte of the line; one more for its end
	segs []int32 // where in text the parts begin that a carriage return or its like has parted; and its end
}

// clean says whether a line has nothing that does not show.
func clean(b []byte) bool {
	for i := 0; i < len(b); {
		if c := b[i]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if hidden(r, n, b[i]) {
			return false
		}
		i += n
	}
	return true
}

// hidden says whether a character does not show. No text in UTF-8 has the bytes
// FE and FF, which are the mark of UTF-16.
func hidden(r rune, n int, c byte) bool {
	if r == utf8.RuneError && n == 1 {
		return c >= 0xfe
	}
	return r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r)
}

// parts says whether a character begins a line for some who read it.
func parts(r rune) bool {
	switch r {
	case 0, '\n', '\v', '\f', '\r', '\u0085', '\u2028', '\u2029':
		return true
	}
	return false
}

const (
	escape    = 0x1b
	backspace = 0x08
)

// read makes it of a line.
func (p *bare) read(b []byte) {
	p.text, p.at, p.segs = p.text[:0], p.at[:0], append(p.segs[:0], 0)
	for i := 0; i < len(b); {
		r, n := rune(b[i]), 1
		if b[i] >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(b[i:])
		}
		skip := n
		switch {
		case r == escape || r >= 0x80 && r < 0xa0 && n == 2 && !parts(r):
			skip = sequence(b[i:], r, n)
		case r == backspace:
			if from := int(p.segs[len(p.segs)-1]); len(p.text) > from {
				_, last := utf8.DecodeLastRune(p.text[from:])
				p.text = p.text[:len(p.text)-last]
			}
		case parts(r):
			p.segs = append(p.segs, int32(len(p.text)))
		case hidden(r, n, b[i]):
		default:
			for range n {
				p.at = append(p.at, int32(len(p.text)))
			}
			p.text = append(p.text, b[i:i+n]...)
			i += n
			continue
		}
		for range skip {
			p.at = append(p.at, int32(len(p.text)))
		}
		i += skip
	}
	p.at = append(p.at, int32(len(p.text)))
	p.segs = append(p.segs, int32(len(p.text)))
}

// span gives where in text stands what a part of the line has shown.
func (p *bare) span(from, to int) (int, int) {
	low, high := p.at[from], p.at[from]
	for _, at := range p.at[from : to+1] {
		low, high = min(low, at), max(high, at)
	}
	return int(low), int(min(high, int32(len(p.text))))
}

// sequence gives the length of what an escape, or a control character of eight
// bits that takes n bytes, begins (ECMA-48). What does not end takes the rest.
func sequence(b []byte, r rune, n int) int {
	if r == escape {
		if len(b) < 2 {
			return len(b)
		}
		r, n = rune(b[1])+0x40, 2 // ESC [ is what U+009B is
		if b[1] < 0x40 || b[1] > 0x5f {
			r = 0
			for n = 1; n < len(b) && b[n] >= 0x20 && b[n] <= 0x2f; n++ { // of a character set
			}
			return min(n+1, len(b))
		}
	}
	switch r {
	case 0x9b: // CSI
		for ; n < len(b); n++ {
			if c := b[n]; c >= 0x40 && c <= 0x7e {
				return n + 1
			} else if c < 0x20 || c > 0x3f { // which it cannot have
				return n
			}
		}
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC: a text to the terminal
		for ; n < len(b); n++ {
			switch {
			case b[n] == 0x07:
				return n + 1
			case b[n] == escape:
				if n+1 < len(b) && b[n+1] == '\\' {
					return n + 2
				}
				return n
			}
		}
	}
	return n
}
