package strict

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestX17Texts: what is no file of ours is refused with its place and what
// helps; nothing of it is guessed.
func TestX17Texts(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "f:1:1: the file is empty",
		"# only a comment\n":                "f:1:1: the file is empty",
		"%YAML 1.2\n---\na: x\n":            "",
		"\xef\xbb\xbfa: x\n":                "",
		"a: x\r\nb: y\r\n":                  "",
		"\xff\xfea\x00:\x00":                "f:1:1: this is UTF-16: save the file as UTF-8",
		"a: x\nb: \xff\n":                   "f:2:4: this is no UTF-8",
		"a: x\n---\nb: y\n":                 "f:3:1: a second document",
		"a:\n\tb: x\n":                      "f:2:1: found a tab that cannot start any token (indent with spaces, not with tabs)",
		"a: b: c\n":                         "f:1:4: mapping value is not allowed in this context (a text with a colon in it needs quotes)",
		"a:\n  b: x\n c: y\n":               "f:3:2: value is not allowed in this context (is the indentation that of the lines above?)",
		"a: {b: *}\n":                       "f:1:9: unexpected scalar value type (a text that begins with * needs quotes: '*')",
		"a: *\n":                            "f:1:4: undefined alias name (a text that begins with * needs quotes)",
		"a: @x\n":                           "needs quotes)",
		"a: [x, y\nb: z\n":                  "(is a bracket or a brace not closed?)",
		"a: \"x\nb: y\n":                    "(is a quote not closed?)",
		"a: x\na: y\n":                      `f:2:1: mapping key "a" already defined at [1:1]`,
		"a: &x y\n":                         "f:1:4: a: anchors, aliases and tags are not allowed",
		"&x {a: y}\n":                       "f:1:1: anchors, aliases and tags are not allowed",
		"a: !!str y\n":                      "f:1:4: a: anchors, aliases and tags are not allowed",
		"a: !!binary eQ==\n":                "anchors, aliases and tags are not allowed",
		"a: {<<: {b: x}}\n":                 "f:1:5: a.<<: merge keys are not allowed",
		"a: x\x00y\n":                       "f:1:4: a: a text with a zero byte",
		"a: " + strings.Repeat("[", 100000): "f:1:104: brackets nested more than 100 deep",
		"\"\x1b[2J\u202e\": x\n":            "f:1:10: \ufffd[2J\ufffd: unknown key",
		"nope: x\n":                         "f:1:7: nope: unknown key (known are a, b)",
		"a: 1\n":                            "f:1:4: a: a text is expected, not a number: quote it",
		"a: [x]\n":                          "f:1:4: a: a text is expected, not a list",
		"a:\nb: ~\n":                        "f:2:4: b: nothing stands here: give it a value, or leave the key out",
		strings.Repeat("#", MaxBytes+1):     "f:1:1: 1048577 bytes: at most 1048576",
		"- a\n":                             "f:1:1: a mapping is expected, not a list",
		"just a text\n":                     "f:1:1: a mapping is expected, not a text",
	} {
		var faults Faults
		read := func(n Node) {
			if s, ok := n.JSON().(string); n.Exists() && (!ok || s == "") {
				_ = n.String()
			}
		}
		if n := Parse("f", []byte(text), &faults); n.Exists() {
			n.Fields(map[string]func(Node){"a": read, "b": read})
		}
		got := faults.Error()
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%.40q: %s\n want %s", text, got, want)
		}
		if strings.ContainsAny(got, "\x1b\u202e\x00") {
			t.Errorf("X18: %q steers the terminal", got)
		}
	}
}

// TestReadFile: only what is a file, and no larger than ours can be.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"good": []byte("a: x"), "huge": make([]byte, MaxBytes+1)} {
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for to, name := range map[string]string{"good": "link", "nowhere": "dangling", "/dev/zero": "endless"} {
		if err := os.Symlink(to, path(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"good": "", "link": "", "dangling": "no such file", "endless": "it is no file", "pipe": "it is no file", ".": "it is no file", "huge": "at most 1048576"} {
		b, err := ReadFile(path(name))
		if want == "" && (err != nil || string(b) != "a: x") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}
