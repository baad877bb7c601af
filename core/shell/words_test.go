package shell

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// TestMain makes this binary a program that prints its words, each behind a NUL.
func TestMain(m *testing.M) {
	if os.Getenv("TASKGATE_TEST_WORDS") != "" {
		for _, w := range os.Args {
			fmt.Print("\x00", w)
		}
		fmt.Print("\x00\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run gives what a real shell makes of a text: the words of each program that
// ran, in order, as the last one's output shows them.
func run(t *testing.T, shell, text string) string {
	t.Helper()
	cmd := exec.Command(shell, "-c", text)
	cmd.Env = []string{"TASKGATE_TEST_WORDS=1", "PATH=/usr/bin:/bin", "HOME=/nowhere"}
	cmd.Dir = t.TempDir()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s -c %.300q: %v: %s", shell, text, err, stderr.String())
	}
	return string(out)
}

func printedWords(words []string) string {
	return "\x00" + strings.Join(words, "\x00") + "\x00\n"
}

// self is the path of this binary, by a name that needs no quotes.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "words")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	link := filepath.Join(dir, "w")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	return link
}

var realShells = []string{"/bin/sh", "/bin/dash", "/bin/bash"}

// dress writes a word in one of the ways that a client may.
func dress(r *rand.Rand, w string) string {
	switch r.IntN(4) {
	case 0:
		return string(quote(nil, w))
	case 1: // in double quotes
		var b strings.Builder
		b.WriteByte('"')
		for i := 0; i < len(w); i++ {
			if strings.IndexByte("$`\"\\", w[i]) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(w[i])
		}
		return b.String() + `"`
	case 2: // a backslash before each character that is not plain
		var b strings.Builder
		for _, c := range w {
			switch {
			case c == '\n':
				b.WriteString("'\n'")
			case c < 0x80 && !plain(string(c), true):
				b.WriteString("\\" + string(c))
			default:
				b.WriteRune(c)
			}
		}
		if w == "" {
			return "''"
		}
		return b.String()
	}
	n := r.IntN(len(w) + 1) // cut in two
	for n > 0 && n < len(w) && !utf8.RuneStart(w[n]) {
		n--
	}
	return string(quote(nil, w[:n])) + `"` + strings.NewReplacer("$", `\$`, "`", "\\`", `"`, `\"`, `\`, `\\`).Replace(w[n:]) + `"`
}

func randomWord(r *rand.Rand) string {
	const special = "'\"\\$`!#&*()[]{}<>?|;~=\n\r\t %^"
	wide := []rune("äß€😀\u00a0\u2028\u200b\uffff")
	var b strings.Builder
	for range r.IntN(12) {
		switch r.IntN(6) {
		case 0:
			b.WriteRune(wide[r.IntN(len(wide))])
		case 1:
			b.WriteByte(special[r.IntN(len(special))])
		default:
			b.WriteByte(byte(1 + r.IntN(127)))
		}
	}
	return strings.ReplaceAll(b.String(), "\r\n", "\n\r")
}

// TestSC21WordsInRealShells: whatever bytes the words hold, and however the client
// has quoted them, the host's shell gives the program those that were judged.
func TestSC21WordsInRealShells(t *testing.T) {
	prog := self(t)
	r := rand.New(rand.NewPCG(5, 21))
	for range 8 {
		want := []string{prog}
		text := prog
		for range 150 {
			w := randomWord(r)
			want = append(want, w)
			text += " " + dress(r, w)
		}
		st := Parse(text, Options{Posix: true})
		if st.Incomplete != "" {
			t.Fatalf("%q: %s", text, st.Incomplete)
		}
		if got := st.Operations[0].Object; !slices.Equal(got, want) {
			t.Fatalf("%q is read as\n%q, not\n%q", text, got, want)
		}
		for _, sh := range realShells {
			if got := run(t, sh, st.Canonical); got != printedWords(want) {
				t.Fatalf("%s -c %q ran\n%q, not\n%q", sh, st.Canonical, got, want)
			}
		}
		if got := run(t, "/bin/bash", text); got != printedWords(want) { // nor is the client misunderstood
			t.Fatalf("bash -c %q ran\n%q, not\n%q", text, got, want)
		}
	}
}

// TestTextsInRealShells: of random texts, those that are understood give the same
// words as they are in bash, and as they are forwarded in every shell.
func TestTextsInRealShells(t *testing.T) {
	// The program is a function of the script here, or there would be thousands.
	const begin, prog, end = `w() { for x; do printf '%s\0' "$x"; done; }`, "w", "printf '\\1'"
	pieces := []string{"a", "b", " ", " ", "\t", "'", "'", "\"", "\"", "\\", "\\", "$", "#", "!", "^", "~", "=", ":", "%", "@", "-", "]", ",", "\n", "\\\n", "é", "\v", "$'", "\\n", "\\'", "\\\"", "\\$", "``", "a=b", "\u00a0"}
	r := rand.New(rand.NewPCG(5, 24))
	var texts, forwarded, want strings.Builder
	for n := 0; n < 3000; {
		text := prog + " "
		for range 1 + r.IntN(14) {
			text += pieces[r.IntN(len(pieces))]
		}
		st := Parse(text, Options{Posix: true})
		if st.Incomplete != "" {
			continue
		}
		n++
		texts.WriteString(text + "\n" + end + "\n")
		forwarded.WriteString(st.Canonical + "\n" + end + "\n")
		for _, w := range st.Operations[0].Object[1:] {
			want.WriteString(w + "\x00")
		}
		want.WriteByte(1)
	}
	check := func(sh, text string) {
		file := filepath.Join(t.TempDir(), "texts")
		if err := os.WriteFile(file, []byte(begin+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sh, file).Output()
		if err != nil {
			t.Fatalf("%s: %v", sh, err)
		}
		got, want := strings.Split(string(out), "\x01"), strings.Split(want.String(), "\x01")
		lines := strings.Split(text, "\n"+end+"\n")
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("%s makes of %q\n%q, not\n%q", sh, lines[i], got[min(i, len(got)-1)], want[i])
			}
		}
	}
	check("/bin/bash", texts.String())
	for _, sh := range realShells {
		check(sh, forwarded.String())
	}
}

// TestSC21EveryByte: each byte but NUL, alone and between others, in each shell.
func TestSC21EveryByte(t *testing.T) {
	prog := self(t)
	want := []string{prog}
	for b := 1; b < 256; b++ {
		want = append(want, string([]byte{byte(b)}), string([]byte{'a', byte(b), 'b'}), string([]byte{byte(b), byte(b)}))
	}
	for _, sh := range realShells {
		if got := run(t, sh, Quote(want)); got != printedWords(want) {
			t.Fatalf("%s ran %q", sh, got)
		}
	}
}

// TestSC21WithoutQuotes: a shell that nobody vouches for is given words alone that
// need no quotes.
func TestSC21WithoutQuotes(t *testing.T) {
	prog := self(t)
	text := prog + ` restart 'web-1' "a@b" --x=y,z +%F /var/log/x a:b -- _ 10`
	st := Parse(text, Options{})
	want := []string{prog, "restart", "web-1", "a@b", "--x=y,z", "+%F", "/var/log/x", "a:b", "--", "_", "10"}
	if st.Incomplete != "" || st.Canonical != strings.Join(want, " ") {
		t.Fatalf("%q, %s", st.Canonical, st.Incomplete)
	}
	for _, sh := range append(realShells, "/bin/rbash") {
		if sh == "/bin/rbash" { // it takes no program by its path
			cmd := exec.Command(sh, "-c", "w "+strings.Join(want[1:], " "))
			cmd.Env = []string{"TASKGATE_TEST_WORDS=1", "PATH=" + filepath.Dir(prog)}
			out, err := cmd.Output()
			if w := append([]string{"w"}, want[1:]...); err != nil || string(out) != printedWords(w) {
				t.Fatalf("rbash ran %q: %v", out, err)
			}
			continue
		}
		if got := run(t, sh, st.Canonical); got != printedWords(want) {
			t.Fatalf("%s ran %q", sh, got)
		}
	}
	for _, text := range []string{
		"ls 'a b'", "ls ''", "ls 'a*'", `ls \~`, "ls 'it'\\''s'", "ls ä", "ls '=ls'", "ls '%self'", "'a=b' c", "'a%b'", "'a@b' x", "ls '!x'", "ls 'a\nb'", "ls a^b", "ls 'x#y'", "ls x~",
		"LANG=C ls", "ls 2>/tmp/x", "ls 2>&1", "ls >|/tmp/x", "ls <>/tmp/x", "ls > '/tmp/a b'", "sh -c 'ls -l'",
	} {
		st := Parse(text, Options{})
		if !strings.Contains(st.Incomplete, "shell: posix") {
			t.Errorf("%q: %q (%s)", text, st.Canonical, st.Incomplete)
		}
		if st := Parse(text, Options{Posix: true}); st.Incomplete != "" {
			t.Errorf("%q: %s", text, st.Incomplete)
		}
	}
}

// TestPlainWordsInRealShells: what goes without quotes is read alike with and
// without them, as the first word and behind it.
func TestPlainWordsInRealShells(t *testing.T) {
	prog := self(t)
	r := rand.New(rand.NewPCG(5, 22))
	const letters = "abcxyzABCXYZ0189_@%+=:,./-"
	words := []string{prog}
	for len(words) < 1500 {
		b := make([]byte, 1+r.IntN(6))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		if plain(string(b), false) {
			words = append(words, string(b))
		}
	}
	for _, sh := range realShells {
		if got := run(t, sh, strings.Join(words, " ")); got != printedWords(words) {
			t.Fatalf("%s does not read plain words as they are", sh)
		}
	}
}

// TestRedirectionsInRealShells: files are read and written where the operations
// say, and nowhere else.
func TestRedirectionsInRealShells(t *testing.T) {
	prog := self(t)
	for _, sh := range realShells {
		dir, err := os.MkdirTemp("/tmp", "redir")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		p := func(name string) string { return filepath.Join(dir, name) }
		if err := os.WriteFile(p("in put"), []byte("read me\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			text string
			ops  []string
			file string
			has  string
		}{
			{prog + " 2 >" + p("a"), []string{"exec", "write " + p("a")}, "a", printedWords([]string{prog, "2"})},
			{prog + " x>" + p("a"), []string{"exec", "write " + p("a")}, "a", printedWords([]string{prog, "x"})},
			{prog + " y >>" + p("a"), []string{"exec", "write " + p("a")}, "a", printedWords([]string{prog, "x"}) + printedWords([]string{prog, "y"})},
			{"cat < '" + p("in put") + "' | cat - > " + p("./b"), []string{"exec", "read " + p("in put"), "exec", "write " + p("b")}, "b", "read me\n"},
			{"cat '" + p("missing") + "' > " + p("c") + " 2>&1", []string{"exec", "write " + p("c")}, "c", "No such file"},
			{"cat '" + p("missing") + "' 2>/dev/null >" + p("d") + " | cat", []string{"exec", "write " + p("d"), "exec"}, "d", ""},
			{"> " + p("e") + " echo one 1>&2 2>/dev/null", []string{"exec", "write " + p("e")}, "e", ""},
			{"sh -c 'cat \"" + p("in put") + "\" > " + p("f") + "' > " + p("g"), []string{"exec", "write " + p("f"), "write " + p("g")}, "f", "read me\n"},
			{"echo  'a  b' '$HOME' \"c\" | cat >| " + p("h"), []string{"exec", "exec", "write " + p("h")}, "h", "a  b $HOME c\n"},
			{"LC_ALL=C cat 0<'" + p("in put") + "' 1> " + p("i"), []string{"setenv LC_ALL", "exec", "read " + p("in put"), "write " + p("i")}, "i", "read me\n"},
		} {
			st := Parse(c.text, Options{Posix: true})
			if st.Incomplete != "" {
				t.Fatalf("%q: %s", c.text, st.Incomplete)
			}
			var ops []string
			for i := range st.Operations {
				o := &st.Operations[i]
				if o.Verb == "exec" {
					ops = append(ops, "exec")
				} else {
					ops = append(ops, o.Verb+" "+o.Object[0])
				}
			}
			if !slices.Equal(ops, c.ops) {
				t.Errorf("%q does %q, not %q", c.text, ops, c.ops)
			}
			cmd := exec.Command(sh, "-c", st.Canonical)
			cmd.Env = []string{"TASKGATE_TEST_WORDS=1", "PATH=/usr/bin:/bin"}
			cmd.Dir = "/"
			_ = cmd.Run() // a missing file is an error, and meant
			got, err := os.ReadFile(p(c.file))
			if err != nil {
				t.Fatalf("%s: %q: %v", sh, st.Canonical, err)
			}
			if c.has == "" && len(got) > 0 || !strings.Contains(string(got), c.has) {
				t.Errorf("%s: %q left %q in %s", sh, st.Canonical, got, c.file)
			}
		}
		found, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if len(f.Name()) > 1 && f.Name() != "in put" {
				t.Errorf("%s: there is %q, which nothing was to write", sh, f.Name())
			}
		}
	}
}

// TestWrappedInRealShells: what sh -c is given anew runs the same words, through
// a wrapper and shells within shells.
func TestWrappedInRealShells(t *testing.T) {
	prog := self(t)
	inner := prog + ` 'it'\''s' "a  b" c=d '' 'ä'`
	want := printedWords([]string{prog, "it's", "a  b", "c=d", "", "ä"})
	for depth := range 4 {
		st := Parse(inner, Options{Posix: true})
		if st.Incomplete != "" {
			t.Fatalf("%d: %s", depth, st.Incomplete)
		}
		last := st.Operations[len(st.Operations)-1].Object
		if printedWords(last) != want {
			t.Fatalf("%d: the last program is %q", depth, last)
		}
		for _, sh := range realShells {
			if got := run(t, sh, st.Canonical); got != want {
				t.Errorf("%d: %s -c %q ran %q", depth, sh, st.Canonical, got)
			}
		}
		inner = []string{"sh -c ", "env X=1 nice -n 1 bash -c ", "timeout 5 dash -c ", ""}[depth] + string(quote(nil, inner))
	}
}

// TestQuoteIsRead: what Quote writes is read back as those words.
func TestQuoteIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 23))
	for range 2000 {
		words := []string{"x"}
		for range r.IntN(5) {
			words = append(words, randomWord(r))
		}
		st := Parse(Quote(words), Options{Posix: true})
		if st.Incomplete != "" || !reflect.DeepEqual(st.Operations[0].Object, words) || st.Operations[0].Kind != abi.KindProgram {
			t.Fatalf("%q: %v %s", words, st.Operations, st.Incomplete)
		}
	}
}
