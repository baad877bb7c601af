package schema

import "strings"

// before are the words that a relation's name stands behind.
var before = map[string]bool{"from": true, "join": true, "into": true, "update": true, "table": true, "exists": true, "only": true, "truncate": true, "copy": true,
	"using": true, "lock": true, "temp": true, "temporary": true, "unlogged": true, "sequence": true, "analyze": true, "references": true, "like": true, "inherits": true}

const blanks = " \t\n\r\f\v"

// maxIdent is how many bytes of a name the server keeps.
const maxIdent = 63

// looked adds the names without a schema, or with pg_temp, by which a function's
// source may look for relations, also in texts that it puts together. It is no
// parser: names that are not of relations are among them, and a name that is put
// together is not.
func looked(source string, names map[string]bool) {
	search(source, names)
	if bare := uncommented(source); bare != source {
		search(bare, names)
	}
}

func search(source string, names map[string]bool) {
	w := words{rest: source}
	for here := false; w.next(); {
		for here && w.word == "" { // brackets, quotes and what else stands between
			if !strings.ContainsAny(w.sign, "('") || !w.next() {
				here = false
			}
		}
		if !here {
			here = before[w.word]
			continue
		}
		name := w.name
		if here = before[w.word]; strings.HasPrefix(strings.TrimLeft(w.rest, blanks), ".") {
			if w.next(); w.next() && name == "pg_temp" {
				names[w.name] = true
			}
		} else {
			names[name] = true
		}
		if here {
			continue
		}
		// FROM a AS x, b
		at := w
		if at.next(); at.word == "as" {
			at.next()
		}
		if at.word != "" && !before[at.word] {
			at.next()
		}
		if at.sign == "," {
			w, here = at, true
		}
	}
}

// words takes a text apart: word is one in lower case, name that as the server
// reads it, or else sign is one character that is no blank.
type words struct{ rest, word, name, sign string }

func (w *words) next() bool {
	w.word, w.name, w.sign = "", "", ""
	w.rest = strings.TrimLeft(w.rest, blanks)
	if w.rest == "" {
		return false
	}
	if strings.HasPrefix(w.rest, `"`) {
		if end := strings.IndexByte(w.rest[1:], '"'); end > 0 {
			w.name, w.rest = w.rest[1:end+1], w.rest[end+2:]
			w.word = w.name
			return true
		}
	}
	n := 0
	for n < len(w.rest) && (w.rest[n] >= 0x80 || w.rest[n] == '_' || w.rest[n] == '$' && n > 0 || w.rest[n] >= '0' && w.rest[n] <= '9' || w.rest[n]|0x20 >= 'a' && w.rest[n]|0x20 <= 'z') {
		n++
	}
	if n == 0 {
		w.sign, w.rest = w.rest[:1], w.rest[1:]
		return true
	}
	b := []byte(w.rest[:min(n, maxIdent)])
	for i := range b {
		if b[i] >= 'A' && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	w.word, w.rest = string(b), w.rest[n:]
	w.name = w.word
	return true
}

// uncommented gives a source without its comments, as far as they are.
func uncommented(s string) string {
	var b strings.Builder
	for s != "" {
		line, block := strings.Index(s, "--"), strings.Index(s, "/*")
		at, end := line, "\n"
		if line < 0 || block >= 0 && block < line {
			at, end = block, "*/"
		}
		if at < 0 {
			break
		}
		b.WriteString(s[:at])
		b.WriteByte(' ')
		i := strings.Index(s[at+2:], end)
		if i < 0 {
			return b.String()
		}
		s = s[at+2+i+len(end):]
	}
	b.WriteString(s)
	return b.String()
}
