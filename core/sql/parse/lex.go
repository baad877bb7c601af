package parse

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// lexer turns a text into terminals as the manual's chapter 4.1 says, with
// standard_conforming_strings on and the client encoding UTF-8.
type lexer struct {
	g    *Grammar
	s    string
	i    int
	toks []Token
	ops  signs
}

// signs is a run of the characters that operators are made of, up to a comment.
type signs struct {
	end     int // behind it
	special int // behind the last one that lets an operator end in + or -
	other   int // behind the last one that is neither + nor -
}

// Lex gives the terminals of text, look-ahead already merged (NOT_LA and its like).
func (g *Grammar) Lex(text string) ([]Token, error) {
	return g.lex(text, nil)
}

func (g *Grammar) lex(text string, into []Token) ([]Token, error) {
	if n := min(len(text)/4+4, MaxTokens); cap(into) < n {
		into = make([]Token, 0, n)
	}
	l := lexer{g: g, s: text, toks: into}
	switch {
	case len(text) > MaxBytes:
		return nil, l.fault(MaxBytes, MaxBytes, "statement is too long")
	case strings.IndexByte(text, 0) >= 0:
		return nil, l.fault(strings.IndexByte(text, 0), 0, "NUL byte in statement")
	case !utf8.ValidString(text):
		return nil, l.fault(0, 0, "statement is not valid UTF-8")
	}
	for {
		if err := l.space(); err != nil {
			return nil, err
		}
		if l.i == len(l.s) {
			return l.lookAhead()
		}
		if len(l.toks) == MaxTokens {
			return nil, l.fault(l.i, l.i, "statement has too many tokens")
		}
		if starts[l.s[l.i]] {
			l.word()
		} else if err := l.next(); err != nil {
			return nil, err
		}
	}
}

func (l *lexer) fault(from, to int, message string) error {
	e := &SyntaxError{Offset: from, Message: message}
	if from < to {
		e.Near = l.s[from:to]
	}
	return e
}

func (l *lexer) at(i int) byte {
	if i < len(l.s) {
		return l.s[i]
	}
	return 0
}

func (l *lexer) isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r' && (c != '\v' || l.g.Major >= 17)
}

func isStart(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isCont(c byte) bool  { return isStart(c) || isDigit(c) || c == '$' }

// isOp says whether operators are made of it.
func isOp(c byte) bool {
	switch c {
	case '~', '!', '@', '#', '^', '&', '|', '`', '?', '+', '-', '*', '/', '%', '<', '>', '=':
		return true
	}
	return false
}

// space skips blanks and comments; block comments nest.
func (l *lexer) space() error {
	for l.i < len(l.s) {
		switch c := l.s[l.i]; {
		case l.isSpace(c):
			l.i++
		case c != '-' && c != '/':
			return nil
		case strings.HasPrefix(l.s[l.i:], "--"):
			l.lineComment()
		case strings.HasPrefix(l.s[l.i:], "/*"):
			from, depth := l.i, 0
			for {
				switch rest := l.s[l.i:]; {
				case rest == "":
					return l.fault(from, len(l.s), "unterminated /* comment")
				case strings.HasPrefix(rest, "/*"):
					depth++
					l.i += 2
				case strings.HasPrefix(rest, "*/"):
					depth--
					l.i += 2
				default:
					l.i++
				}
				if depth == 0 {
					break
				}
			}
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) lineComment() {
	n := strings.IndexAny(l.s[l.i:], "\r\n")
	if n < 0 {
		n = len(l.s) - l.i
	}
	l.i += n
}

func (l *lexer) emit(kind Symbol, from int, value string) {
	if n := len(l.toks); n == cap(l.toks) && n > maxKept { // the rest is mostly as what came before
		l.toks = slices.Grow(l.toks, min(MaxTokens-n, max(n/2, n*(len(l.s)-l.i)/l.i+n/64)))
	}
	l.toks = append(l.toks, Token{Kind: kind, Start: int32(from), End: int32(l.i), Value: value})
}

func (l *lexer) next() error {
	from := l.i
	c, d := l.s[from], l.at(from+1)
	switch {
	case c == '\'':
		return l.quoted(l.g.kinds.sconst, from, 1, false)
	case c|0x20 == 'b' && d == '\'':
		return l.quoted(l.g.kinds.bconst, from, 2, false)
	case c|0x20 == 'x' && d == '\'':
		return l.quoted(l.g.kinds.xconst, from, 2, false)
	case c|0x20 == 'e' && d == '\'':
		return l.quoted(l.g.kinds.sconst, from, 2, true)
	case c|0x20 == 'n' && d == '\'':
		l.i++
		l.emit(l.g.kinds.nchar, from, "nchar")
		return nil
	case c|0x20 == 'u' && d == '&' && l.at(from+2) == '\'':
		return l.quoted(l.g.kinds.usconst, from, 3, false)
	case c|0x20 == 'u' && d == '&' && l.at(from+2) == '"':
		return l.quotedName(l.g.kinds.uident, from, 3)
	case c == '"':
		return l.quotedName(l.g.kinds.ident, from, 1)
	case isStart(c):
		l.word()
		return nil
	case isDigit(c), c == '.' && isDigit(d):
		return l.number()
	case c == '$':
		return l.dollar()
	case c == ':' && d == ':':
		l.i += 2
		l.emit(l.g.kinds.typecast, from, "::")
		return nil
	case c == ':' && d == '=':
		l.i += 2
		l.emit(l.g.kinds.colonEquals, from, ":=")
		return nil
	case c == '.' && d == '.':
		l.i += 2
		l.emit(l.g.kinds.dotDot, from, "..")
		return nil
	case isOp(c):
		return l.operator()
	case c == ',' || c == '(' || c == ')' || c == '[' || c == ']' || c == '.' || c == ';' || c == ':':
		l.i++
		l.emit(l.g.single[c], from, l.s[from:l.i])
		return nil
	}
	_, n := utf8.DecodeRuneInString(l.s[from:])
	return l.fault(from, from+n, "syntax error")
}

func (l *lexer) word() {
	from, to, sum := l.i, l.i, uint32(0)
	for ; to < len(l.s); to++ {
		c := smallCont[l.s[to]]
		if c == 0 {
			break
		}
		sum = mix(sum, c)
	}
	l.i = to
	word := l.s[from:to]
	if k := l.g.words.find(sum, word); k != nil {
		l.emit(k.kind, from, k.word)
		return
	}
	l.emit(l.g.kinds.ident, from, cut63(lower(word)))
}

// starts are the bytes that begin a word, whatever comes next.
var starts = func() (t [256]bool) {
	for i := range t {
		c := byte(i)
		t[i] = isStart(c) && strings.IndexByte("bxenu", c|0x20) < 0
	}
	return t
}()

// smallCont gives for each byte that a word can go on with itself, letters small;
// 0 for others.
var smallCont = func() (t [256]byte) {
	for i := range t {
		if c := byte(i); isCont(c) {
			t[i] = c
			if c >= 'A' && c <= 'Z' {
				t[i] |= 0x20
			}
		}
	}
	return t
}()

// lower folds ASCII letters alone, as the server does in UTF-8.
func lower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}

// cut63 cuts an identifier at NAMEDATALEN-1 bytes, on a character's border.
func cut63(s string) string {
	if len(s) <= 63 {
		return s
	}
	n := 63
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (l *lexer) operator() error {
	from := l.i
	if from >= l.ops.end { // else it is known from the operator before: a run is read once, however many it has
		l.ops = signs{end: from}
		for to := from; to < len(l.s) && isOp(l.s[to]); l.ops.end = to {
			if p := l.s[to:]; to > from && (strings.HasPrefix(p, "--") || strings.HasPrefix(p, "/*")) {
				break
			}
			c := l.s[to]
			to++
			if c != '+' && c != '-' {
				l.ops.other = to
			}
			if strings.IndexByte("~!@#^&|`?%", c) >= 0 {
				l.ops.special = to
			}
		}
	}
	to := l.ops.end
	if l.ops.special <= from {
		to = max(from+1, l.ops.other)
	}
	l.i = to
	op := l.s[from:to]
	switch op {
	case "=>":
		l.emit(l.g.kinds.equalsGreater, from, op)
	case ">=":
		l.emit(l.g.kinds.greaterEquals, from, op)
	case "<=":
		l.emit(l.g.kinds.lessEquals, from, op)
	case "<>", "!=":
		l.emit(l.g.kinds.notEquals, from, "<>")
	default:
		switch {
		case len(op) > 63:
			return l.fault(from, to, "operator too long")
		case len(op) == 1 && strings.Contains("+-*/%^<>=", op):
			l.emit(l.g.single[op[0]], from, op)
		default:
			l.emit(l.g.kinds.op, from, op)
		}
	}
	return nil
}

func (l *lexer) digits(ok func(byte) bool) int {
	from := l.i
	for ok(l.at(l.i)) || l.g.Major >= 16 && l.at(l.i) == '_' && l.i > from && ok(l.at(l.i+1)) {
		l.i++
	}
	return l.i - from
}

func (l *lexer) number() error {
	from := l.i
	if base := l.at(from+1) | 0x20; l.s[from] == '0' && l.g.Major >= 16 && strings.IndexByte("xob", base) >= 0 {
		l.i += 2
		if l.at(l.i) == '_' {
			l.i++
		}
		n := l.digits(func(c byte) bool {
			switch base {
			case 'x':
				return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
			case 'o':
				return c >= '0' && c <= '7'
			}
			return c == '0' || c == '1'
		})
		if n == 0 || isDigit(l.at(l.i)) {
			return l.junk(from)
		}
		return l.numberEnd(from, true)
	}
	whole := true
	l.digits(isDigit)
	if l.at(l.i) == '.' && (l.at(l.i+1) != '.' || l.i == from) {
		whole = false
		l.i++
		l.digits(isDigit)
	}
	if c := l.at(l.i); c == 'e' || c == 'E' {
		mark := l.i
		l.i++
		if c := l.at(l.i); c == '+' || c == '-' {
			l.i++
		}
		whole = false
		if l.digits(isDigit) == 0 {
			l.i = mark
			return l.junk(from)
		}
	}
	return l.numberEnd(from, whole)
}

func (l *lexer) numberEnd(from int, whole bool) error {
	if isStart(l.at(l.i)) {
		return l.junk(from)
	}
	text := l.s[from:l.i]
	if whole {
		v, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, 64)
		if len(text) > 1 && text[0] == '0' && !isDigit(text[1]) {
			v, err = strconv.ParseUint(strings.ReplaceAll(text[2:], "_", ""), map[byte]int{'x': 16, 'o': 8, 'b': 2}[text[1]|0x20], 64)
		}
		if err == nil && v <= math.MaxInt32 {
			l.emit(l.g.kinds.iconst, from, text)
			return nil
		}
	}
	l.emit(l.g.kinds.fconst, from, text)
	return nil
}

func (l *lexer) junk(from int) error {
	for isCont(l.at(l.i)) {
		l.i++
	}
	return l.fault(from, l.i, "trailing junk after numeric literal")
}

func (l *lexer) dollar() error {
	from := l.i
	if isDigit(l.at(from + 1)) {
		l.i++
		for isDigit(l.at(l.i)) {
			l.i++
		}
		if isStart(l.at(l.i)) {
			return l.fault(from, l.i+1, "trailing junk after parameter")
		}
		if _, err := strconv.ParseInt(l.s[from+1:l.i], 10, 32); err != nil {
			return l.fault(from, l.i, "parameter number too large")
		}
		l.emit(l.g.kinds.param, from, l.s[from+1:l.i])
		return nil
	}
	end := from + 1
	for c := l.at(end); isStart(c) || end > from+1 && isDigit(c); c = l.at(end) {
		end++
	}
	if l.at(end) != '$' {
		return l.fault(from, from+1, "syntax error")
	}
	tag := l.s[from : end+1]
	body := l.s[end+1:]
	n := strings.Index(body, tag)
	if n < 0 {
		return l.fault(from, len(l.s), "unterminated dollar-quoted string")
	}
	l.i = end + 1 + n + len(tag)
	l.emit(l.g.kinds.sconst, from, body[:n])
	return nil
}
