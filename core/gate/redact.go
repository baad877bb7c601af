package gate

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// redacted stands where a secret stood. In a text it is a literal, so that what
// could be read by a parser still can.
const redacted = "[redacted]"

// redact gives a text without the secrets that show themselves as such: literals
// behind a word like PASSWORD, and those that hold a connection string with one
// or an address with user and password. hidden are the numbers of the parameters
// in such a place. It reads what no parser understands too: what is refused is
// written down as well. Where a literal could end in two places, the later counts.
func redact(text string) (clean string, hidden []int) {
	if !suspicious(text) {
		return text, nil
	}
	r := redactor{in: text}
	for r.at < len(r.in) {
		r.token()
	}
	return r.out.String(), r.hidden
}

// secretWords are found in names, whatever stands around them.
var secretWords = []string{"password", "passwd", "passphrase", "passwort", "pwd", "secret", "api_key", "apikey", "access_token"}

func suspicious(text string) bool {
	return secretName(text) || strings.Contains(text, "://")
}

// secretName says whether what has this name is likely to be secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	if name == "password_encryption" {
		return false
	}
	for _, w := range secretWords {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

// blank gives a text without any value that is written in it: a literal stands
// where one stood, of a kind that can be there.
func blank(text string) string {
	r := redactor{in: text, all: true}
	for r.at < len(r.in) {
		r.token()
	}
	return r.out.String()
}

// redactor walks the tokens of a text, in the manner of SQL.
type redactor struct {
	in     string
	at     int
	out    strings.Builder
	hidden []int
	all    bool // every literal is a secret

	armed   bool // a literal that comes now is a secret
	comma   bool // even behind a comma: the name was a literal itself
	assigns bool // the statement is one that sets something to a bare word
	first   bool // a word has been seen in this statement
	equals  bool // = or TO stands between the name and what comes
}

func (r *redactor) copy(n int) {
	r.out.WriteString(r.in[r.at : r.at+n])
	r.at += n
}

func (r *redactor) token() {
	rest := r.in[r.at:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "--"):
		n := strings.IndexAny(rest, "\r\n")
		if n < 0 {
			n = len(rest)
		}
		r.copy(n)
	case strings.HasPrefix(rest, "/*"):
		r.copy(comment(rest))
	case c == '\'':
		r.literal(quoted(rest, '\''))
	case c == '$' && dollar(rest) > 0:
		r.literal(dollar(rest))
	case c == '$' && len(rest) > 1 && rest[1] >= '0' && rest[1] <= '9':
		n, v := 1, 0
		for ; n < len(rest) && rest[n] >= '0' && rest[n] <= '9' && v < 1<<16; n++ {
			v = 10*v + int(rest[n]-'0')
		}
		if r.armed {
			r.hidden = append(r.hidden, v)
		}
		r.copy(n)
	case r.all && number(rest) > 0:
		r.out.WriteByte('0')
		r.at += number(rest)
	case c == '"':
		n := quoted(rest, '"')
		r.name(rest[:n])
		r.copy(n)
	case wordByte(c):
		n := 1
		for n < len(rest) && (wordByte(rest[n]) || rest[n] == '$') {
			n++
		}
		r.word(rest[:n])
	case c == ',':
		r.armed = r.armed && r.comma
		r.copy(1)
	case c == ';':
		r.armed, r.assigns, r.first = false, false, false
		r.copy(1)
	case c == ')':
		r.armed = false
		r.copy(1)
	default: // blanks, = := => ( . : + and whatever else may stand between a name and its value
		r.equals = r.equals || c == '='
		r.copy(1)
	}
}

func (r *redactor) name(word string) {
	r.armed, r.comma, r.equals = secretName(word), false, false
}

func (r *redactor) word(word string) {
	low := strings.ToLower(word)
	if !r.first {
		r.first, r.assigns = true, low == "set" || low == "alter"
	}
	next := r.in[r.at+len(word):]
	switch {
	case strings.HasPrefix(next, "'") && len(word) == 1, low == "u" && strings.HasPrefix(next, "&"):
		// E'…', B'…', U&'…': part of the literal
	case low == "to" || low == "is" || low == "as" || low == "like":
		r.equals = r.equals || low == "to"
	case low == "in" || low == "any" || low == "array":
		r.comma = r.armed
	case r.armed && r.equals && r.assigns:
		r.armed = false
		r.out.WriteString("'" + redacted + "'")
		r.at += len(word)
		return
	default:
		r.name(word)
	}
	r.copy(len(word))
}

// literal takes a literal of n bytes.
func (r *redactor) literal(n int) {
	v := r.in[r.at : r.at+n]
	switch {
	case r.all || r.armed || telling(v):
		r.out.WriteString("'" + redacted + "'") // and stays armed: another may continue it
		r.at += n
	default:
		r.armed = secretName(v) && strings.Trim(strings.ToLower(v), "abcdefghijklmnopqrstuvwxyz0123456789_.'$") == ""
		r.comma = r.armed
		r.copy(n)
	}
}

// telling says whether a literal holds a secret by itself: password=…,
// "password": …, user:password@host.
func telling(v string) bool {
	low := strings.ToLower(v)
	for _, w := range secretWords {
		for rest := low; ; {
			i := strings.Index(rest, w)
			if i < 0 {
				break
			}
			rest = rest[i+len(w):]
			if t := strings.TrimLeft(rest, " \t\"'\\"); t != "" && (t[0] == '=' || t[0] == ':') {
				return true
			}
		}
	}
	if _, address, ok := strings.Cut(low, "://"); ok {
		user, _, at := strings.Cut(address, "@")
		return at && strings.Contains(user, ":") && !strings.ContainsAny(user, "/ ")
	}
	return false
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// number gives the length of a number, 0 where there is none.
func number(s string) int {
	digit := func(i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }
	if !digit(0) && (s[0] != '.' || !digit(1)) {
		return 0
	}
	n := 1
	for n < len(s) && (wordByte(s[n]) || s[n] == '.' || (s[n] == '+' || s[n] == '-') && (s[n-1] == 'e' || s[n-1] == 'E') && digit(n+1)) {
		n++
	}
	return n
}

// quoted gives the length of what is in quotes; a backslash keeps a quote from
// ending it, since settings of a session can make it so.
func quoted(s string, q byte) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q == '\'':
			i++
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return len(s)
}

// dollar gives the length of a literal in dollar quotes, 0 where there is none.
func dollar(s string) int {
	n := 1
	for n < len(s) && wordByte(s[n]) {
		n++
	}
	if n == len(s) || s[n] != '$' || n > 1 && s[1] >= '0' && s[1] <= '9' {
		return 0
	}
	tag := s[:n+1]
	if i := strings.Index(s[len(tag):], tag); i >= 0 {
		return i + 2*len(tag)
	}
	return len(s)
}

// comment gives the length of a comment, which may hold others.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			if depth--; depth == 0 {
				return i + 2
			}
			i++
		}
	}
	return len(s)
}

// written is a statement as it is written down.
type written struct {
	sum             [16]byte
	text, canonical string
	hidden          []int // parameters that are not written, from 1
	blank           bool  // none of its values is
}

// write gives a statement as it is written down. Where it is refused for what it
// does with masked columns, none of its values is: they may be guesses at what
// is masked, or what somebody has seen elsewhere. Nor are those with which a
// task may compare it: the answer says that they are right.
func write(st *abi.Statement, refused bool) *written {
	w := &written{blank: refused || st.Guesses > 0 && len(st.Guessed) == 0}
	if w.blank {
		w.text, w.canonical = blank(st.Text), blank(st.Canonical)
	} else {
		text, canonical := unguessed(st)
		w.text, w.hidden = redact(text)
		w.canonical, _ = redact(canonical)
		for i := range st.Guessed {
			if n := st.Guessed[i].Param; n > 0 {
				w.hidden = append(w.hidden, n)
			}
		}
	}
	w.sum = digest(w.text, w.canonical) // of the clean text: a digest of a secret can be guessed at
	return w
}

// unguessed gives a statement's text, and as it is forwarded, without the values
// that are compared with what is masked, wherever they stand in it again.
func unguessed(st *abi.Statement) (text, canonical string) {
	const gone = "'" + redacted + "'"
	text, canonical = st.Text, st.Canonical
	guessed := slices.Clone(st.Guessed)
	slices.SortFunc(guessed, func(a, b abi.Guess) int { return b.From - a.From }) // from behind: what is before keeps its place
	for i := range guessed {
		if g := &guessed[i]; g.Param == 0 {
			text, canonical = text[:g.From]+gone+text[g.To:], strings.ReplaceAll(canonical, g.Forwarded, gone)
		}
	}
	for i := range guessed {
		if v := st.Text[guessed[i].From:guessed[i].To]; strings.ContainsAny(v, "'$") { // no number
			text = strings.ReplaceAll(text, v, gone)
		}
	}
	return text, canonical
}

// hides gives the parameters of a command that are not written.
func (w *written) hides(c *abi.Command) []int {
	if !w.blank {
		return w.hidden
	}
	all := make([]int, len(c.Params))
	for i := range all {
		all[i] = i + 1
	}
	return all
}
