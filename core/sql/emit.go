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
func (e edit) null() bool { return strings.HasPrefix(e.text, "(NULL::") }

// lookup says whether it puts a query in the place of an expression, which the
// server would call otherwise.
func (e edit) lookup() bool {
	return strings.HasPrefix(e.text, "(SELECT ") || strings.HasPrefix(e.text, `"pg_catalog"."unnest"(`)
}

// quoteIdent gives an identifier in double quotes.
func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLiteral gives a string constant that reads the same whatever
// standard_conforming_strings is.
func quoteLiteral(s string) string {
	if strings.ContainsRune(s, '\\') {
		return `E'` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `'`, `''`) + `'`
	}
	return `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
}

// emit writes the tokens [from, to) anew: no comments, one space between,
// identifiers and strings quoted. What runs is then what was read, even where
// another lexer would have read the client's text differently. edits are in
// order; where they overlap something was read twice, and nothing is written.
func emit(t *parse.Tree, from, to int32, edits []edit) string {
	var b strings.Builder
	b.Grow(len(t.Text) + 32)
	for i := from; i < to || len(edits) > 0; {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if len(edits) > 0 && edits[0].from <= i {
			if edits[0].from < i || edits[0].to > to {
				panic("edits that overlap")
			}
			b.WriteString(edits[0].text)
			i = edits[0].to
			edits = edits[1:]
			continue
		}
		tok := &t.Tokens[i]
		switch raw := t.Text[tok.Start:tok.End]; t.Grammar.Names[tok.Kind] {
		case "IDENT":
			b.WriteString(quoteIdent(tok.Value))
		case "SCONST":
			b.WriteString(quoteLiteral(tok.Value))
		case "BCONST": // the lexer leaves no quote in either
			b.WriteString("B'" + tok.Value + "'")
		case "XCONST":
			b.WriteString("X'" + tok.Value + "'")
		case "NCHAR": // N'…' would be something else with a space in it
			b.WriteString("nchar")
		default:
			b.WriteString(raw)
		}
		i++
	}
	return b.String()
}
