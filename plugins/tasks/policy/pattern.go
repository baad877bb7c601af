package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Words says whether a template stands for the words of a command: as many, and
// each by itself. The first is the program as it was written: no pattern stands
// for it.
func Words(template, words []string) bool {
	if len(template) != len(words) || len(words) == 0 || template[0] != words[0] {
		return false
	}
	for i := 1; i < len(words); i++ {
		if !word(template[i], words[i]) {
			return false
		}
	}
	return true
}

// word says whether a word of a template stands for one of a command. A * in it
// is one or more printable characters, none of them a slash or a blank. At the
// start of the word they do not begin with a dash, at the start of a part of a
// path not with a dot; and no part of the word is "." or "..".
func word(template, w string) bool {
	if !strings.Contains(template, "*") {
		return template == w
	}
	if template[0] == '*' && strings.HasPrefix(w, "-") {
		return false
	}
	for {
		t, rest, more := strings.Cut(template, "/")
		p, left, deeper := strings.Cut(w, "/")
		if more != deeper || !part(t, p, false) {
			return false
		}
		if !more {
			return true
		}
		template, w = rest, left
	}
}

// Path says whether a pattern stands for a path, which is absolute and cleaned.
// A * in a part is one or more printable characters of that part. A part ** is
// any number of parts, also none, at the end of the pattern one or more. Neither
// stands for a dot with which a part begins.
func Path(pattern, path string) bool {
	if !Clean(path) {
		return false
	}
	if !strings.Contains(pattern, "*") {
		return pattern == path
	}
	if pattern[0] != '/' {
		return false
	}
	p, s := pattern[1:], path[1:]
	again, mark := "", "" // what stands behind the last **, and where that may begin
	for {
		t, rest, more := strings.Cut(p, "/")
		if t == "**" {
			if !more {
				return every(s)
			}
			p, again, mark = rest, rest, s
			continue
		}
		at, left, deeper := strings.Cut(s, "/")
		if more == deeper && part(t, at, true) {
			if !more {
				return true
			}
			p, s = rest, left
			continue
		}
		if again == "" {
			return false
		}
		at, left, deeper = strings.Cut(mark, "/")
		if !deeper || !part("*", at, true) {
			return false
		}
		p, s, mark = again, left, left // the ** takes one part more
	}
}

// part says whether a part of a pattern stands for a part of a path.
func part(pattern, s string, blanks bool) bool {
	if s == "." || s == ".." || strings.HasPrefix(pattern, "*") && strings.HasPrefix(s, ".") {
		return false
	}
	i, j := 0, 0
	star, mark := -1, 0 // what stands behind the last *, and where that may begin
	for j < len(s) {
		if i < len(pattern) && pattern[i] == '*' {
			if n := taken(s[j:], blanks); n > 0 {
				i, j = i+1, j+n
				star, mark = i, j
				continue
			}
		} else if i < len(pattern) && pattern[i] == s[j] {
			i, j = i+1, j+1
			continue
		}
		if star < 0 {
			return false
		}
		n := taken(s[mark:], blanks)
		if n == 0 {
			return false
		}
		mark += n // the * takes one more
		i, j = star, mark
	}
	return i == len(pattern)
}

// taken is how long the first character is, or 0 where no * stands for it.
func taken(s string, blanks bool) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n <= 1 || r == '/' || r == ' ' && !blanks || !strconv.IsPrint(r) {
		return 0
	}
	return n
}

// Clean says whether a path is absolute, with no part that is empty, "." or
// "..", and no slash at its end.
func Clean(path string) bool {
	if path == "/" {
		return true
	}
	if path == "" || path[0] != '/' || strings.IndexByte(path, 0) >= 0 {
		return false
	}
	for p, more := path[1:], true; more; {
		var at string
		if at, p, more = strings.Cut(p, "/"); at == "" || at == "." || at == ".." {
			return false
		}
	}
	return true
}

// within says whether a path is the directory in which the last part of a
// pattern stands. Where that part is a * or **, whole is true: it stands for
// whatever is in there.
func within(pattern, path string) (is, whole bool) {
	i := strings.LastIndexByte(pattern, '/')
	if i < 0 || !strings.Contains(pattern[i:], "*") {
		return false, false
	}
	dir, last := pattern[:i], pattern[i+1:]
	if dir == "" {
		dir = "/"
	}
	return Path(dir, path), last == "*" || last == "**"
}

// every says whether a ** at the end of a pattern stands for these parts.
func every(s string) bool {
	for more := true; more; {
		var at string
		if at, s, more = strings.Cut(s, "/"); !part("*", at, true) {
			return false
		}
	}
	return true
}
