package parse

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// quoted reads a string constant of any kind, its continuations on later lines
// included; the opening quote ends open bytes after from.
func (l *lexer) quoted(kind Symbol, from, open int, escapes bool) error {
	var out []byte
	l.i = from + open
	bits := kind == l.g.kinds.bconst || kind == l.g.kinds.xconst
	if n := strings.IndexByte(l.s[l.i:], '\''); n >= 0 && !(escapes && strings.IndexByte(l.s[l.i:l.i+n], '\\') >= 0) { // most have nothing in them
		body := l.s[l.i : l.i+n]
		if l.i += n + 1; (bits || l.at(l.i) != '\'') && !l.continues() {
			l.emit(kind, from, body)
			return nil
		}
		l.i = from + open
	}
	for {
		if l.i == len(l.s) {
			return l.fault(from, len(l.s), "unterminated quoted string")
		}
		switch c := l.s[l.i]; {
		case c == '\'' && l.at(l.i+1) == '\'' && !bits: // a bit string has no quote in it
			out = append(out, '\'')
			l.i += 2
		case c == '\'':
			l.i++
			if l.continues() {
				continue
			}
			if escapes && (!utf8.Valid(out) || strings.IndexByte(string(out), 0) >= 0) {
				return l.fault(from, l.i, "invalid byte sequence for encoding \"UTF8\"")
			}
			l.emit(kind, from, string(out))
			return nil
		case escapes && c == '\\':
			var err error
			if out, err = l.escape(out); err != nil {
				return err
			}
		default:
			out = append(out, c)
			l.i++
		}
	}
}

// continues moves behind the next opening quote if only blanks and line
// comments with at least one newline stand before it.
func (l *lexer) continues() bool {
	mark, newline := l.i, false
	for l.i < len(l.s) {
		switch c := l.s[l.i]; {
		case c == '\n' || c == '\r':
			newline = true
			l.i++
		case l.isSpace(c):
			l.i++
		case strings.HasPrefix(l.s[l.i:], "--"):
			l.lineComment()
		case c == '\'' && newline:
			l.i++
			return true
		default:
			l.i = mark
			return false
		}
	}
	l.i = mark
	return false
}

// escape reads one backslash escape of an escape string (manual, 4.1.2.2).
func (l *lexer) escape(out []byte) ([]byte, error) {
	from := l.i
	c := l.at(from + 1)
	l.i += 2
	if l.i > len(l.s) {
		l.i = len(l.s)
		return out, nil // the caller finds the string unterminated
	}
	number := func(base, most int) (v rune, n int) {
		for n < most {
			d := digit(l.at(l.i))
			if d >= base {
				break
			}
			v = v*rune(base) + rune(d)
			l.i++
			n++
		}
		return v, n
	}
	switch c {
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'v':
		return append(out, '\v'), nil
	case 'x':
		if v, n := number(16, 2); n > 0 {
			return append(out, byte(v)), nil
		}
		return append(out, 'x'), nil
	case '0', '1', '2', '3', '4', '5', '6', '7':
		l.i--
		v, _ := number(8, 3)
		return append(out, byte(v)), nil
	case 'u', 'U':
		width := 4
		if c == 'U' {
			width = 8
		}
		v, n := number(16, width)
		if n != width {
			return nil, l.fault(from, l.i, "invalid Unicode escape")
		}
		if utf16.IsSurrogate(v) && l.at(l.i) == '\\' && (l.at(l.i+1) == 'u' || l.at(l.i+1) == 'U') {
			width = 4
			if l.at(l.i+1) == 'U' {
				width = 8
			}
			l.i += 2
			low, n := number(16, width)
			if n != width {
				return nil, l.fault(from, l.i, "invalid Unicode escape")
			}
			v = utf16.DecodeRune(v, low)
			if v == utf8.RuneError {
				return nil, l.fault(from, l.i, "invalid Unicode surrogate pair")
			}
		}
		if v == 0 || !utf8.ValidRune(v) {
			return nil, l.fault(from, l.i, "invalid Unicode escape value")
		}
		return utf8.AppendRune(out, v), nil
	}
	return append(out, c), nil
}

func digit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return 16
}

func (l *lexer) quotedName(kind Symbol, from, open int) error {
	var out []byte
	l.i = from + open
	if n := strings.IndexByte(l.s[l.i:], '"'); n > 0 && l.at(l.i+n+1) != '"' {
		value := l.s[l.i : l.i+n]
		if kind == l.g.kinds.ident {
			value = cut63(value)
		}
		l.i += n + 1
		l.emit(kind, from, value)
		return nil
	}
	for l.i < len(l.s) {
		c := l.s[l.i]
		l.i++
		if c == '"' && l.at(l.i) != '"' {
			if len(out) == 0 {
				return l.fault(from, l.i, "zero-length delimited identifier")
			}
			value := string(out)
			if kind == l.g.kinds.ident {
				value = cut63(value)
			}
			l.emit(kind, from, value)
			return nil
		}
		if c == '"' {
			l.i++
		}
		out = append(out, c)
	}
	return l.fault(from, len(l.s), "unterminated quoted identifier")
}
