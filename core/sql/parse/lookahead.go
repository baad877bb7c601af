package parse

import (
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// followers names, for each terminal that the grammar knows in two forms, the
// second form and the terminals that call for it when they come next.
var followers = []struct {
	token, merged string
	next          []string
}{
	{"NOT", "NOT_LA", []string{"BETWEEN", "IN_P", "LIKE", "ILIKE", "SIMILAR"}},
	{"NULLS_P", "NULLS_LA", []string{"FIRST_P", "LAST_P"}},
	{"WITH", "WITH_LA", []string{"TIME", "ORDINALITY"}},
	{"WITHOUT", "WITHOUT_LA", []string{"TIME"}},
	{"FORMAT", "FORMAT_LA", []string{"JSON"}},
}

// lookAhead merges what the LALR(1) automaton cannot tell apart by itself.
func (l *lexer) lookAhead() ([]Token, error) {
	first := slices.IndexFunc(l.toks, func(t Token) bool { return l.g.looks[t.Kind] })
	if first < 0 {
		return l.toks, nil
	}
	out := l.toks[:first]
	is := &l.g.kinds
	for i := first; i < len(l.toks); i++ {
		if !l.g.looks[l.toks[i].Kind] {
			if len(out) < i {
				l.toks[len(out)] = l.toks[i]
			}
			out = out[:len(out)+1]
			continue
		}
		k := l.toks[i]
		if k.Kind == is.uident || k.Kind == is.usconst {
			escape := byte('\\')
			if i+1 < len(l.toks) && l.toks[i+1].Kind == is.uescape {
				const must = "UESCAPE must be followed by a simple string literal"
				if i+2 == len(l.toks) {
					return nil, l.fault(len(l.s), len(l.s), must+" at end of input")
				}
				if next := &l.toks[i+2]; next.Kind != is.sconst {
					return nil, l.fault(int(next.Start), int(next.End), must)
				}
				v := l.toks[i+2].Value
				if len(v) != 1 || digit(v[0]) < 16 || v[0] == '+' || v[0] == '\'' || v[0] == '"' || l.isSpace(v[0]) {
					return nil, l.fault(int(l.toks[i+2].Start), int(l.toks[i+2].End), "invalid Unicode escape character")
				}
				escape = v[0]
				k.End = l.toks[i+2].End
				i += 2
			}
			v, ok := unicodeEscapes(k.Value, escape)
			if !ok {
				return nil, l.fault(int(k.Start), int(k.End), "invalid Unicode escape")
			}
			if k.Kind == is.uident {
				k.Kind, k.Value = is.ident, cut63(v)
			} else {
				k.Kind, k.Value = is.sconst, v
			}
		} else if i+1 < len(l.toks) {
			k.Kind = l.merged(k.Kind, l.toks[i+1].Kind)
		}
		out = append(out, k)
	}
	return out, nil
}

func (l *lexer) merged(kind, next Symbol) Symbol {
	if l.g.Major == 16 && kind == l.g.kinds.json && next == l.g.single['('] { // a function's name still
		return l.g.kinds.ident
	}
	for _, m := range l.g.merges[kind] {
		if m.next == next {
			return m.into
		}
	}
	return kind
}

// unicodeEscapes decodes the body of U&” and U&"" (manual, 4.1.2.3).
func unicodeEscapes(s string, escape byte) (string, bool) {
	var out []byte
	high := rune(0)
	for i := 0; i < len(s); {
		if s[i] != escape || i+1 < len(s) && s[i+1] == escape {
			if high != 0 {
				return "", false
			}
			out = append(out, s[i])
			if s[i] == escape {
				i++
			}
			i++
			continue
		}
		i++
		width := 4
		if i < len(s) && s[i] == '+' {
			width = 6
			i++
		}
		v := rune(0)
		for range width {
			if i == len(s) || digit(s[i]) == 16 {
				return "", false
			}
			v = v<<4 | rune(digit(s[i]))
			i++
		}
		switch {
		case high != 0:
			if v = utf16.DecodeRune(high, v); v == utf8.RuneError {
				return "", false
			}
			high = 0
		case v >= 0xd800 && v < 0xdc00:
			high = v
			continue
		}
		if v == 0 || !utf8.ValidRune(v) {
			return "", false
		}
		out = utf8.AppendRune(out, v)
	}
	return string(out), high == 0
}
