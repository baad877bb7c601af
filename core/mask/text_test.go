package mask

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

func hide(s string) Rule { return Rule{Kind: abi.MaskFixed, Arg: s} }

// shown gives what is shown of a stream that comes in these pieces.
func shown(t testing.TB, text *Text, pieces ...string) string {
	t.Helper()
	var got []byte
	var err error
	for _, p := range pieces {
		if got, err = text.Append(got, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = text.End(got); err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestText(t *testing.T) {
	for name, c := range map[string]struct {
		lines    []Lines
		in, want string
	}{
		"a group":               {[]Lines{{Pattern: `password=(\S+)`, Rule: hide("***")}}, "user=a password=b c\npassword=d", "user=a password=*** c\npassword=***"},
		"all that matches":      {[]Lines{{Pattern: `\d{4}`, Rule: hide("#")}}, "1234 56 7890\r\n", "# 56 #\r\n"},
		"nothing matches":       {[]Lines{{Pattern: `x`, Rule: hide("#")}}, "a\n\nb", "a\n\nb"},
		"a field":               {[]Lines{{Field: 2, Separator: ":", Rule: hide("x")}}, "root:hash:0\nbin\n", "root:x:0\nbin\n"},
		"the last field":        {[]Lines{{Field: 3, Separator: ":", Rule: hide("x")}}, "a:b:c", "a:b:x"},
		"a field after blanks":  {[]Lines{{Field: 2, Rule: hide("x")}}, "  a \t b  c\n", "  a \t x  c\n"},
		"a field of some":       {[]Lines{{Pattern: "^secret", Field: 2, Rule: hide("x")}}, "secret a\npublic b\n", "secret x\npublic b\n"},
		"null is nothing":       {[]Lines{{Pattern: `k=(\w+)`, Rule: Rule{Kind: abi.MaskNull}}}, "k=v;\n", "k=;\n"},
		"two on one part":       {[]Lines{{Pattern: `abc`, Rule: hide("1")}, {Pattern: `bcd`, Rule: hide("2")}}, "xabcdy\n", "xy\n"},
		"two apart":             {[]Lines{{Pattern: `a`, Rule: hide("1")}, {Pattern: `b`, Rule: hide("2")}}, "bca\n", "2c1\n"},
		"one in another":        {[]Lines{{Pattern: `b`, Rule: hide("1")}, {Pattern: `abc`, Rule: hide("2")}}, "xabcy", "xy"},
		"no end of line inside": {[]Lines{{Pattern: `a`, Rule: hide("1\n2")}}, "a\n", "1 2\n"},
		"cannot be carried out": {[]Lines{{Pattern: `(`, Rule: hide("1")}}, "a\nb", "\n"},
		"an unknown mask":       {[]Lines{{Pattern: `a`, Rule: Rule{Kind: 99}}}, "xay\n", "\n"},
		"custom":                {[]Lines{{Pattern: `a`, Rule: Rule{Kind: abi.MaskCustom}}}, "xay\n", "xy\n"},
		"keep":                  {[]Lines{{Pattern: `mail (\S+)`, Rule: Rule{Kind: abi.MaskKeep, Arg: "0,4"}}}, "mail someone@example.org\n", "mail ***.org\n"},
	} {
		if got := shown(t, NewText(c.lines, nil, nil), c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestTextCuts: what is shown does not depend on where the stream is cut, in
// the middle of a character or of what a pattern matches.
func TestTextCuts(t *testing.T) {
	lines := []Lines{{Pattern: `naïve=(\S+)`, Rule: hide("•")}, {Field: 3, Separator: "€", Rule: hide("x")}, custom("plain", 0, "")}
	in := []byte(strings.Repeat("a€b€c€d naïve=Zoë rest\r\n\nplain\n", 20) + "naïve=at the end")
	in = append(in, "\x1b[1mnaï\x1b[0mve=Zoë\r"...)
	want := shown(t, NewText(lines, nil, upper(nil)), string(in))
	if strings.Contains(want, "Zoë") || strings.Count(want, "•") != 22 || !strings.Contains(want, "PLAIN") {
		t.Fatalf("%s", want)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var pieces []string
		for rest := string(in); len(rest) > 0; {
			n := min(1+r.IntN(9), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := shown(t, NewText(lines, nil, upper(nil)), pieces...); got != want {
			t.Fatalf("cut otherwise it is\n%s\nand not\n%s", got, want)
		}
	}
}

// upper is a module that answers in capitals, and tells how many cells it was
// given.
func upper(asked *[]int) Ask {
	return func(_ int, b *abi.Batch) (*abi.Batch, error) {
		if asked != nil {
			*asked = append(*asked, b.Rows)
		}
		out := b.Answer()
		for i := range b.Rows {
			cell, _ := b.Columns[0].Cell(i)
			out.Columns[0].Add(bytes.ToUpper(cell), string(cell) == "none")
		}
		if !out.Fits(b) {
			return nil, errors.New("it does not fit")
		}
		return out, nil
	}
}

func custom(pattern string, by int, arg string) Lines {
	return Lines{Pattern: pattern, By: by, Rule: Rule{Kind: abi.MaskCustom, Arg: arg}}
}

// TestTextCustom: a module is given parts of lines, as the other masks leave
// them, and what two modules want is not shown.
func TestTextCustom(t *testing.T) {
	for name, c := range map[string]struct {
		lines    []Lines
		in, want string
	}{
		"whole lines":          {[]Lines{custom(".+", 0, "")}, "ab\n\ncd\r\nef", "AB\n\nCD\r\nEF"},
		"a group":              {[]Lines{custom(`k=(\w+)`, 0, "")}, "k=v k=w x\ny\n", "k=V k=W x\ny\n"},
		"a field":              {[]Lines{{Field: 2, Rule: Rule{Kind: abi.MaskCustom}}}, "a b c\n", "a B c\n"},
		"null is nothing":      {[]Lines{custom(`k=(\w+)`, 0, "")}, "k=none.\n", "k=.\n"},
		"behind the others":    {[]Lines{custom(".+", 0, ""), {Pattern: "b.", Rule: hide("x")}}, "abcd\nef\n", "AXD\nEF\n"},
		"the same part":        {[]Lines{custom("b", 0, ""), {Pattern: "b", Rule: hide("x")}}, "abc\n", "aXc\n"},
		"within another":       {[]Lines{custom("b", 0, ""), {Pattern: "abc", Rule: hide("x")}}, "abcd\n", "d\n"},
		"over the edge":        {[]Lines{custom("bc", 0, ""), {Pattern: "cd", Rule: hide("x")}}, "abcde\n", "ae\n"},
		"two modules":          {[]Lines{custom(".+", 0, ""), custom("b", 1, "")}, "abc\n", "\n"},
		"two arguments":        {[]Lines{custom("ab", 0, "1"), custom("b", 0, "2")}, "abc\n", "c\n"},
		"one by two rules":     {[]Lines{custom("ab", 0, "1"), custom("bc", 0, "1")}, "xabcy\n", "xABCy\n"},
		"two modules, apart":   {[]Lines{custom("b", 0, ""), custom("a", 1, "")}, "aba.\n", "ABA.\n"},
		"no text":              {[]Lines{custom(".+", 0, "")}, "a\xe9\nb\n", "\nB\n"},
		"what does not show":   {[]Lines{custom("ab", 0, "")}, "\x1b[1ma\x1b[0mb c\n", "AB c\n"},
		"two modules and more": {[]Lines{custom(".+", 0, ""), custom("b", 1, ""), {Pattern: "c", Rule: hide("x")}}, "abc\n", "\n"},
	} {
		if got := shown(t, NewText(c.lines, nil, upper(nil)), c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestTextBatches: a module is asked once a run, and not for too much at once.
func TestTextBatches(t *testing.T) {
	var asked []int
	many := strings.Repeat("line\n", 2*maxCells+10)
	if got := shown(t, NewText([]Lines{custom(".+", 0, "")}, nil, upper(&asked)), "a\nb\n", "c", "d\n", many); got != "A\nB\nCD\n"+strings.ToUpper(many) {
		t.Errorf("%d bytes", len(got))
	}
	if want := []int{2, 1, maxCells, maxCells, 10}; !slices.Equal(asked, want) {
		t.Errorf("%v, want %v", asked, want)
	}
}

// TestPM23TextFails: where a module fails, nothing of that run is shown, nor of
// what follows.
func TestPM23TextFails(t *testing.T) {
	broken := errors.New("broken")
	text := NewText([]Lines{custom("secret", 0, "")}, nil, func(_ int, b *abi.Batch) (*abi.Batch, error) { return nil, broken })
	got, err := text.Append([]byte("head"), []byte("fine\nhalf"))
	if err != nil || string(got) != "headfine\n" {
		t.Errorf("%q %v", got, err)
	}
	for range 2 {
		if got, err = text.Append([]byte("head"), []byte(" a line\nmy secret\nfine\n")); !errors.Is(err, broken) || string(got) != "head" {
			t.Errorf("%q %v", got, err)
		}
	}
	if got, err := text.End(nil); !errors.Is(err, broken) || len(got) > 0 {
		t.Errorf("%q %v", got, err)
	}
	if got := shown(t, NewText([]Lines{custom("b", 0, "")}, nil, nil), "abc\n"); got != "ac\n" {
		t.Errorf("with nobody to ask: %q", got)
	}
}

// TestPM28Hidden: what does not show is no way round a mask.
func TestPM28Hidden(t *testing.T) {
	lines := []Lines{{Pattern: `^password *[=:] *(\S+)`, Rule: hide("***")}}
	utf16 := func(s string, high int) string {
		b := []byte{0xff, 0xfe}
		if high == 0 {
			b = []byte{0xfe, 0xff}
		}
		for i := range len(s) {
			c := []byte{0, 0}
			c[1-high] = s[i]
			b = append(b, c...)
		}
		return string(b)
	}
	for name, in := range map[string]string{
		"colours":               "\x1b[01;31m\x1b[Kpass\x1b[m\x1b[Kword=geheim\n",
		"a colour at the =":     "password\x1b[0m=\x1b[32mgeheim\x1b[0m\n",
		"of eight bits":         "pass\u009b1mword=geheim\n",
		"a link":                "\x1b]8;;http://x\x1b\\password\x1b]8;;\x07=geheim\n",
		"a character set":       "\x1b(Bpassword=geheim\n",
		"an escape of two":      "\x1b7pass\x1b8word=geheim\n",
		"struck over":           "p\bpa\bas\bss\bsw\bwo\bor\brd\bd=g\bge\beheim\n",
		"underlined":            "_\bpassword=geheim\n",
		"NULs between":          "p\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00=\x00g\x00e\x00h\x00e\x00i\x00m\n",
		"UTF-16":                utf16("a\npassword=geheim\nb\n", 1),
		"UTF-16, high first":    utf16("a\npassword=geheim\nb\n", 0),
		"a mark of order":       "\ufeffpassword=geheim\n",
		"no width":              "pass\u200bword=geheim\n",
		"a soft hyphen":         "pass\u00adword=geheim\n",
		"a carriage return":     "10%\rpassword=geheim\n",
		"lines of a Mac":        "user=a\rpassword=geheim\rx=y\r",
		"an environment":        "A=1\x00password=geheim\x00B=2\x00",
		"a form feed":           "\fpassword=geheim\n",
		"a separator of lines":  "a\u2028password=geheim\n",
		"a next line":           "a\u0085password=geheim\n",
		"many ends":             "password=geheim\r\r\r\n",
		"a bell":                "\apassword=geheim\n",
		"deleted":               "pass\x7fword=geheim\n",
		"a half sequence":       "password=geheim\x1b[\n",
		"a sequence at the end": "password=geheim\x1b",
		"a text to nobody":      "password=geheim\x1b]0;\n",
		"one that is cut off":   "\x1b[12\x1b[0mpassword=geheim\n",
	} {
		got := shown(t, NewText(lines, nil, nil), in)
		if left := strings.NewReplacer("\x00", "", "\b", "").Replace(got); !strings.Contains(got, "***") || strings.Contains(left, "geh") || strings.Contains(left, "eim") {
			t.Errorf("%s: %q shows %q", name, in, got)
		}
	}
	for _, in := range []string{"\x1b[1mplain\x1b[0m 10%\r20%\n", "\x00\x01\xff\n", "\x1b[", "\x1b", "\u009b", "\b\b\r\n"} {
		if got := shown(t, NewText(lines, nil, nil), in); got != in {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
	for in, want := range map[string]string{ // a pattern that knows of colours
		"\x1b[31mred\x1b[0m x\n":     " x\n",
		"\x1b[31mred\b\b\b\x1b[0m\n": "\n",
	} {
		if got := shown(t, NewText([]Lines{{Pattern: `\x1b\[31m([^\x1b]+)`, Rule: Rule{Kind: abi.MaskNull}}}, nil, nil), in); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

// FuzzPM28: a value is hidden wherever sequences that do not show stand in its
// line.
func FuzzPM28(f *testing.F) {
	f.Add("\x1b[1m", uint8(3), uint8(12))
	f.Add("\u200b", uint8(0), uint8(9))
	f.Fuzz(func(t *testing.T, junk string, a, b uint8) {
		const key, value = "password=", "Zx7Zx7"
		in := []byte(key + value)
		i, j := int(a)%len(in), int(b)%len(in)
		in = slices.Insert(in, max(i, j), []byte(junk)...)
		in = slices.Insert(in, min(i, j), []byte(junk)...)
		var p bare
		p.read([]byte(junk))
		if len(p.text) > 0 || len(p.segs) > 2 || strings.ContainsAny(junk, "\n\b") || !ends(junk) {
			return // it shows, or takes away what does
		}
		got := shown(t, NewText([]Lines{{Pattern: `password=(\w+)`, Rule: hide("***")}}, nil, nil), string(in))
		if got != "password=***" {
			t.Errorf("%q is shown as %q", in, got)
		}
	})
}

// ends says whether a sequence takes nothing of what follows.
func ends(junk string) bool {
	var p bare
	p.read([]byte(junk + "~~"))
	return string(p.text) == "~~"
}

// TestTextLong: a line that is too long shows nothing, and the next is as ever.
func TestTextLong(t *testing.T) {
	text := NewText([]Lines{{Pattern: "secret", Rule: hide("x")}}, nil, nil)
	if got := shown(t, text, append(slices.Repeat([]string{strings.Repeat("s", 4<<10)}, 300), "end\na secret\n")...); got != tooLong+"\na x\n" {
		t.Errorf("%.200q", got)
	}
	if cap(text.tail) > 2*maxLine {
		t.Errorf("it keeps %d bytes", cap(text.tail))
	}
}

// TestTextManyParts: a line may have as many parts as bytes.
func TestTextManyParts(t *testing.T) {
	in := strings.Repeat("ab", maxLine/16)
	want := strings.Repeat("xb", maxLine/16) + "\n"
	if got := shown(t, NewText([]Lines{{Pattern: "a", Rule: hide("x")}}, nil, nil), in+"\n"); got != want {
		t.Errorf("%d bytes, %.20q", len(got), got)
	}
}

func BenchmarkText(b *testing.B) {
	text := NewText([]Lines{{Pattern: `password=(\S+)`, Rule: hide("***")}, {Field: 9, Separator: ":", Rule: hide("x")}}, nil, nil)
	run := []byte(strings.Repeat("2026-11-26T10:00:00Z web-1 app: a line as logs have them, of some length\n", 400))
	dst := make([]byte, 0, 2*len(run))
	b.SetBytes(int64(len(run)))
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = text.Append(dst[:0], run)
	}
}
