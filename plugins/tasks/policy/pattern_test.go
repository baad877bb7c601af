package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestSC21Words: what a * in a template stands for, and what it does not.
func TestSC21Words(t *testing.T) {
	for _, c := range []struct {
		template, words string // words are parted by |
		want            bool
	}{
		{"systemctl|restart|web-*", "systemctl|restart|web-1", true},
		{"systemctl|restart|web-*", "systemctl|restart|web-", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1/../db", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1/x", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1 db-1", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1\tdb-1", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1\ndb-1", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1\u00a0db", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1\u2028", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-\u202e1", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-\x1b[2J", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-\xff", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-ä", true},
		{"systemctl|restart|web-*", "systemctl|restart|WEB-1", false},
		{"systemctl|restart|web-*", "systemctl|restart", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-1|web-2", false},
		{"systemctl|restart|web-*", "systemctl|--host=db|restart|web-1", false},
		{"systemctl|restart|web-*", "systemctl|restart|*", false},
		{"systemctl|restart|web-*", "systemctl|restart|web-*", true}, // quoted, and so a name
		{"systemctl|restart|web-*", "/usr/bin/systemctl|restart|web-1", false},
		{"systemctl|restart|web-*", "./systemctl|restart|web-1", false},
		{"systemctl|restart|web-*", "SYSTEMCTL|restart|web-1", false},
		{"/usr/bin/systemctl|status", "systemctl|status", false},
		{"sys*|status", "systemctl|status", false}, // no pattern stands for a program
		{"sys*|status", "sys*|status", true},
		{"*", "uptime", false},
		{"cat|*", "cat|x", true},
		{"cat|*", "cat|-x", false},
		{"cat|*", "cat|--", false},
		{"cat|*", "cat|-", false},
		{"cat|*", "cat|", false},
		{"cat|*", "cat|.", false},
		{"cat|*", "cat|..", false},
		{"cat|*", "cat|.env", false},
		{"cat|*", "cat|/etc/shadow", false},
		{"cat|.*", "cat|..", false},
		{"cat|.*", "cat|.x", true},
		{"cat|*.", "cat|..", false},
		{"cat|/var/log/*", "cat|/var/log/x", true},
		{"cat|/var/log/*", "cat|/var/log/", false},
		{"cat|/var/log/*", "cat|/var/log/..", false},
		{"cat|/var/log/*", "cat|/var/log/x/..", false},
		{"cat|/var/log/*", "cat|/var/log/../log/x", false},
		{"cat|/var/log/*", "cat|/var/log//x", false},
		{"cat|/var/log/*/x", "cat|/var/log/../x", false},
		{"cat|/var/log/*/x", "cat|/var/log/./x", false},
		{"cat|/var/log/*/x", "cat|/var/log//x", false},
		{"cat|/srv/../*", "cat|/srv/../x", false},
		{"cat|../x", "cat|../x", true}, // written so, and meant so
		{"journalctl|--unit=*", "journalctl|--unit=web", true},
		{"journalctl|--unit=*", "journalctl|--unit=-x", true},
		{"journalctl|--unit=*", "journalctl|--unit=", false},
		{"echo|a*b*c", "echo|axbxbxc", true},
		{"echo|a*b*c", "echo|abc", false},
		{"echo|a*b*c", "echo|aXbXcX", false},
		{"echo|my *", "echo|my x", true}, // the blank is the template's own
		{"echo|my *", "echo|my x y", false},
		{"echo|", "echo|", true},
		{"", "", false}, // no words at all
	} {
		template, words := strings.Split(c.template, "|"), strings.Split(c.words, "|")
		if c.template == "" {
			template, words = nil, nil
		}
		if got := Words(template, words); got != c.want {
			t.Errorf("%q for %q: %v", template, words, got)
		}
	}
}

// TestSF01Paths: what a pattern stands for in a path.
func TestSF01Paths(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/etc/hosts", "/etc/hosts", true},
		{"/etc/hosts", "/etc/hosts/", false},
		{"/etc/hosts", "/etc//hosts", false},
		{"/etc/hosts", "/etc/./hosts", false},
		{"/etc/hosts", "etc/hosts", false},
		{"/etc/hosts", "/etc/hosts\x00.log", false},
		{"/etc/hosts", "/etc/HOSTS", false},
		{"/", "/", true},
		{"/**", "/", false},
		{"/**", "/a", true},
		{"/*", "/", false},
		{"/var/log/web/**", "/var/log/web", false},
		{"/var/log/web/**", "/var/log/web/", false},
		{"/var/log/web/**", "/var/log/web/a", true},
		{"/var/log/web/**", "/var/log/web/a/b/c d", true},
		{"/var/log/web/**", "/var/log/web2/a", false},
		{"/var/log/web/**", "/var/log/web/../../../etc/shadow", false},
		{"/var/log/web/**", "/var/log/web/a/..", false},
		{"/var/log/web/**", "/var/log/web/.", false},
		{"/var/log/web/**", "/var/log/web/.ssh", false},
		{"/var/log/web/**", "/var/log/web/.ssh/id", false},
		{"/var/log/web/**", "/var/log/web/a\nb", false},
		{"/var/log/web/**", "/var/log/web/a\x1b[2J", false},
		{"/var/log/web/**", "/var/log/web/\xff", false},
		{"/var/log/web/**", "/var/log/web//a", false},
		{"/home/a/**", "/home/ab/x", false},
		{"/a/**/z", "/a/z", true},
		{"/a/**/z", "/a/b/c/z", true},
		{"/a/**/z", "/a/b/c/zz", false},
		{"/a/**/z", "/a/z/b", false},
		{"/a/**/z", "/a/.b/z", false},
		{"/a/**/z/**/y", "/a/z/z/x/y", true},
		{"/a/**/z/**", "/a/z", false},
		{"/a/**/z/**", "/a/b/z/c", true},
		{"/a/**/.git", "/a/b/.git", true},
		{"/a/*.log", "/a/b.log", true},
		{"/a/*.log", "/a/.log", false},
		{"/a/*.log", "/a/..log", false},
		{"/a/*.log", "/a/b/c.log", false},
		{"/a/*/c", "/a/b/c", true},
		{"/a/*/c", "/a/c", false},
		{"/a/*/c", "/a/../c", false},
		{"/a/.*", "/a/.b", true},
		{"/a/.*", "/a/..", false},
		{"/a/-*", "/a/-b", true},
		{"/a/*", "/a/-b", true}, // not a word of a command
		{"a/*", "a/b", false},
		{"a/*", "/a/b", false},
		{"/a/**/", "/a/b", false},
		{"**", "/a", false},
		{"", "", false},
	} {
		if got := Path(c.pattern, c.path); got != c.want {
			t.Errorf("%q for %q: %v", c.pattern, c.path, got)
		}
	}
	if Path("/a/**/b/**/c", "/a"+strings.Repeat("/b", 50000)) { // in a time that grows with the length alone
		t.Error("matches")
	}
}

// one says by trying everything whether a part of a pattern stands for a part.
func one(pattern, s string, blanks bool) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] != '*' {
		return s != "" && s[0] == pattern[0] && one(pattern[1:], s[1:], blanks)
	}
	for i := 0; i < len(s); {
		n := taken(s[i:], blanks)
		if n == 0 {
			return false
		}
		if i += n; one(pattern[1:], s[i:], blanks) {
			return true
		}
	}
	return false
}

// parts is the same for paths.
func parts(pattern, path []string) bool {
	if len(pattern) == 0 {
		return len(path) == 0
	}
	dot := func(p, s string) bool {
		return s == "." || s == ".." || p[0] == '*' && strings.HasPrefix(s, ".")
	}
	if pattern[0] == "**" {
		least := 0
		if len(pattern) == 1 {
			least = 1
		}
		for n := 0; n <= len(path); n++ {
			if n > 0 && (dot("*", path[n-1]) || !one("*", path[n-1], true)) {
				return false
			}
			if n >= least && parts(pattern[1:], path[n:]) {
				return true
			}
		}
		return false
	}
	return len(path) > 0 && !dot(pattern[0], path[0]) && one(pattern[0], path[0], true) && parts(pattern[1:], path[1:])
}

// TestSC21Patterns holds the matchers against ones that try everything, and
// what they let through against what no * ever stands for.
func TestSC21Patterns(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 21))
	text := func(alphabet string, n int) string {
		var b strings.Builder
		for range r.IntN(n + 1) {
			b.WriteByte(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	found := 0
	for range 300_000 {
		template, w := text("ab*./- ", 6), text("ab./- \xff\n", 8)
		want := strings.Contains(template, "*")
		if !want {
			want = template == w
		} else if tp, wp := strings.Split(template, "/"), strings.Split(w, "/"); len(tp) != len(wp) || template[0] == '*' && strings.HasPrefix(w, "-") {
			want = false
		} else {
			for i := range tp {
				if wp[i] == "." || wp[i] == ".." || strings.HasPrefix(tp[i], "*") && strings.HasPrefix(wp[i], ".") || !one(tp[i], wp[i], false) {
					want = false
				}
			}
		}
		if got := word(template, w); got != want {
			t.Fatalf("%q for the word %q: %v", template, w, got)
		} else if got {
			found++
		}
		pattern, path := "/"+text("a*./", 8), "/"+text("ab./ \xff", 8)
		pattern = strings.ReplaceAll(pattern, "***", "*")
		ps := strings.Split(pattern[1:], "/")
		whole := true
		for _, p := range ps {
			whole = whole && p != "" && (p == "**" || !strings.Contains(p, "**"))
		}
		if !whole {
			continue
		}
		want = Clean(path) && parts(ps, strings.Split(path[1:], "/"))
		if !strings.Contains(pattern, "*") {
			want = Clean(path) && pattern == path
		}
		if got := Path(pattern, path); got != want {
			t.Fatalf("%q for the path %q: %v", pattern, path, got)
		} else if got {
			found++
		}
	}
	if found < 5000 {
		t.Errorf("only %d that match", found)
	}
}

// FuzzSC21Star: whatever stands in the place of a * is of one part and one word.
func FuzzSC21Star(f *testing.F) {
	for _, s := range []string{"web-1", "-x", "..", "a/b", "a b", "", ".env", "\xff", "a\u202eb", "a\u2003b", "/etc/shadow"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bad := s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r == '/' || unicode.IsControl(r) || unicode.In(r, unicode.Cf) })
		blank := strings.ContainsFunc(s, unicode.IsSpace)
		for template, w := range map[string]string{"*": s, "web-*": "web-" + s, "*.log": s + ".log", "/var/log/*": "/var/log/" + s, "a*/b": "a" + s + "/b"} {
			if !word(template, w) {
				continue
			}
			if bad || blank || template[0] == '*' && (s[0] == '-' || s[0] == '.') || strings.HasSuffix(template, "/*") && s[0] == '.' {
				t.Errorf("%q stands for %q", template, w)
			}
		}
		for pattern, path := range map[string]string{"/var/*": "/var/" + s, "/var/*/x": "/var/" + s + "/x", "/var/*.log": "/var/" + s + ".log"} {
			if Path(pattern, path) && (bad || s[0] == '.') {
				t.Errorf("%q stands for %q", pattern, path)
			}
		}
		if path := "/var/" + s; Path("/var/**", path) {
			for _, p := range strings.Split(path[1:], "/") {
				if p == "" || p[0] == '.' || strings.ContainsFunc(p, unicode.IsControl) {
					t.Errorf("** stands for %q", path)
				}
			}
		}
	})
}
