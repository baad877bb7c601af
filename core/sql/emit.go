package sql

import (
	"strings"

	"github.com/taskgate/taskgate/core/sql/parse"
)

// edit replaces the tokens [from, to) by text.
type edit struct {
	from, to int32
	text     string
}

// null says whether it puts a NULL in place of what may hold data.
func (e edit) null() bool {
	return strings.HasPrefix(e.text, "(NULL::") || strings.HasPrefix(e.text, eitherBegins)
}

// lookup says whether it puts a query in the place of an expression, which the
// server would call otherwise.
func (e edit) lookup() bool {
	return strings.HasPrefix(e.text, "(SELECT ") || strings.HasPrefix(e.text, `"pg_catalog"."unnest"(`)
}

// quoteIdent gives an identifier in double quotes.
func quoteIdent(s string) string { return string(appendIdent(make([]byte, 0, 64), s)) }

func appendIdent(b []byte, s string) []byte {
	return append(appendDoubled(append(b, '"'), s, '"'), '"')
}

// appendDoubled adds a text with each of one character twice.
func appendDoubled(b []byte, s string, c byte) []byte {
	for {
		n := strings.IndexByte(s, c)
		if n < 0 {
			return append(b, s...)
		}
		b = append(append(b, s[:n+1]...), c)
		s = s[n+1:]
	}
}

// quoteLiteral gives a string constant that reads the same whatever
// standard_conforming_strings is.
func quoteLiteral(s string) string { return string(appendLiteral(nil, s)) }

func appendLiteral(b []byte, s string) []byte {
	if strings.IndexByte(s, '\\') >= 0 {
		b, s = append(b, 'E'), strings.ReplaceAll(s, `\`, `\\`)
	}
	return append(appendDoubled(append(b, '\''), s, '\''), '\'')
}

// emit writes the tokens [from, to) anew: no comments, one space between,
// identifiers and strings quoted. What runs is then what was read, even where
// another lexer would have read the client's text differently. edits are in
// order; where they overlap something was read twice, and nothing is written.
func (a *analyzer) emit(from, to int32, edits []edit) string {
	a.out = a.write(a.out[:0], from, to, edits)
	return string(a.out)
}

// write is emit into a buffer.
func (a *analyzer) write(b []byte, from, to int32, edits []edit) []byte {
	t, begin := a.t, len(b)
	for i := from; i < to || len(edits) > 0; {
		if len(b) > begin {
			b = append(b, ' ')
		}
		if len(edits) > 0 && edits[0].from <= i {
			if edits[0].from < i || edits[0].to > to {
				panic("edits that overlap")
			}
			b = append(b, edits[0].text...)
			i = edits[0].to
			edits = edits[1:]
			continue
		}
		tok := &t.Tokens[i]
		switch a.g.Class(tok) {
		case parse.Ident:
			if int(tok.End-tok.Start) == len(tok.Value) { // it stands without quotes, so that none is in it
				b = append(append(append(b, '"'), tok.Value...), '"')
			} else {
				b = appendIdent(b, tok.Value)
			}
		case parse.String:
			b = appendLiteral(b, tok.Value)
		case parse.Bits: // the lexer leaves no quote in either
			b = append(append(append(b, "B'"...), tok.Value...), '\'')
		case parse.Hex:
			b = append(append(append(b, "X'"...), tok.Value...), '\'')
		case parse.National: // N'…' would be something else with a space in it
			b = append(b, "nchar"...)
		default:
			b = append(b, t.Text[tok.Start:tok.End]...)
		}
		i++
	}
	return b
}
