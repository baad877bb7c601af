//go:build suite

package sql_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var variable = regexp.MustCompile(`:(['"])\w+['"]`)

// statements cuts a script of psql's as psql does: at semicolons outside of
// quotes, comments, brackets and BEGIN ATOMIC; commands of its own and the data of COPY are left out.
func statements(script string) (out []string) {
	var b strings.Builder
	depth, atomic := 0, 0
	end := func() {
		if text := strings.TrimSpace(b.String()); text != "" {
			out = append(out, variable.ReplaceAllString(text, "${1}x${1}"))
		}
		b.Reset()
		depth, atomic = 0, 0
	}
	word := regexp.MustCompile(`^(?i)(begin\s+atomic|case|end)\b`)
	dollar := regexp.MustCompile(`^\$([A-Za-z_\x80-\xff][A-Za-z_0-9\x80-\xff]*)?\$`)
	ident := func(c byte) bool {
		return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
	}
	for i := 0; i < len(script); {
		rest := script[i:]
		take := func(n int) { b.WriteString(rest[:n]); i += n }
		until := func(from int, s string) int {
			if n := strings.Index(rest[from:], s); n >= 0 {
				return from + n + len(s)
			}
			return len(rest)
		}
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "--"):
			take(until(0, "\n"))
		case strings.HasPrefix(rest, "/*"):
			n, level := 2, 1
			for n < len(rest) && level > 0 {
				switch {
				case strings.HasPrefix(rest[n:], "/*"):
					level++
					n += 2
				case strings.HasPrefix(rest[n:], "*/"):
					level--
					n += 2
				default:
					n++
				}
			}
			take(n)
		case c == '\'' || c == '"':
			escapes := c == '\'' && i > 0 && script[i-1]|0x20 == 'e' && (i < 2 || !ident(script[i-2]))
			n := 1
			for n < len(rest) && rest[n] != c {
				if escapes && rest[n] == '\\' {
					n++
				}
				n++
			}
			take(min(n+1, len(rest)))
		case c == '$' && (i == 0 || !ident(script[i-1])) && dollar.MatchString(rest):
			tag := dollar.FindString(rest)
			take(until(len(tag), tag))
		case c == '\\': // a command of psql's ends what stands before it, or goes on with \;
			if strings.HasPrefix(rest, `\;`) {
				i += 2
				end()
				break
			}
			i += until(0, "\n")
			end()
		case c == ';' && depth == 0 && atomic == 0:
			text := b.String()
			i++
			end()
			if regexp.MustCompile(`(?is)^\s*copy\b.*\bfrom\s+stdin`).MatchString(text) {
				if n := strings.Index(script[i:], "\n\\.\n"); n >= 0 {
					i += n + 4
				}
			}
		default:
			if (i == 0 || !ident(script[i-1])) && ident(c) {
				if w := strings.ToLower(word.FindString(rest)); strings.HasPrefix(w, "begin") || w == "case" && atomic > 0 {
					atomic++
				} else if w == "end" && atomic > 0 {
					atomic--
				}
			}
			switch c {
			case '(':
				depth++
			case ')':
				depth = max(0, depth-1)
			}
			take(1)
		}
	}
	end()
	return out
}

// TestPS19Suite holds the parser against the regression suite in the
// directory TASKGATE_SUITE, as `make suite` fetches it.
func TestPS19Suite(t *testing.T) {
	c := loaded(t)
	files, err := filepath.Glob(filepath.Join(os.Getenv("TASKGATE_SUITE"), "*.sql"))
	if err != nil || len(files) < 100 {
		t.Fatalf("no suite in TASKGATE_SUITE: %d files, %v", len(files), err)
	}
	a := arbitrate(t, "shop")
	total, both, neither, bounded := 0, 0, 0, 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts := statements(string(raw))
		total += len(texts)
		x, y, z := held(t, c, a, texts)
		both, neither, bounded = both+x, neither+y, bounded+z
	}
	t.Logf("%d files, %d statements: %d accepted by both, %d refused by both, %d refused here alone as too large", len(files), total, both, neither, bounded)
	if both < 20000 {
		t.Error("the suite is not read as it should be")
	}
}
