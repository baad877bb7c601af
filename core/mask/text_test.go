package mask

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

func hide(s string) Rule { return Rule{Kind: abi.MaskFixed, Arg: s} }

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
		"custom":                {[]Lines{{Pattern: `a`, Rule: Rule{Kind: abi.MaskCustom}}}, "xay\n", "\n"},
		"keep":                  {[]Lines{{Pattern: `mail (\S+)`, Rule: Rule{Kind: abi.MaskKeep, Arg: "0,4"}}}, "mail someone@example.org\n", "mail ***.org\n"},
	} {
		text := NewText(c.lines, nil)
		if got := string(text.End(text.Append(nil, []byte(c.in)))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestTextCuts: what is shown does not depend on where the stream is cut, in
// the middle of a character or of what a pattern matches.
func TestTextCuts(t *testing.T) {
	lines := []Lines{{Pattern: `naïve=(\S+)`, Rule: hide("•")}, {Field: 3, Separator: "€", Rule: hide("x")}}
	in := []byte(strings.Repeat("a€b€c€d naïve=Zoë rest\r\n\nplain\n", 20) + "naïve=at the end")
	whole := NewText(lines, nil)
	want := whole.End(whole.Append(nil, in))
	if bytes.Contains(want, []byte("Zoë")) || bytes.Count(want, []byte("•")) != 21 {
		t.Fatalf("%s", want)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := NewText(lines, nil)
		var got []byte
		for rest := in; len(rest) > 0; {
			n := min(1+r.IntN(9), len(rest))
			got = text.Append(got, rest[:n])
			rest = rest[n:]
		}
		if got = text.End(got); !bytes.Equal(got, want) {
			t.Fatalf("cut otherwise it is\n%s\nand not\n%s", got, want)
		}
	}
}

// TestTextLong: a line that is too long shows nothing, and the next is as ever.
func TestTextLong(t *testing.T) {
	text := NewText([]Lines{{Pattern: "secret", Rule: hide("x")}}, nil)
	var got []byte
	for range 300 {
		got = text.Append(got, bytes.Repeat([]byte("s"), 4<<10))
	}
	if got = text.End(text.Append(got, []byte("end\na secret\n"))); string(got) != tooLong+"\na x\n" {
		t.Errorf("%.200q", got)
	}
	if cap(text.tail) > 2*maxLine {
		t.Errorf("it keeps %d bytes", cap(text.tail))
	}
}

func BenchmarkText(b *testing.B) {
	text := NewText([]Lines{{Pattern: `password=(\S+)`, Rule: hide("***")}, {Field: 9, Separator: ":", Rule: hide("x")}}, nil)
	run := []byte(strings.Repeat("2026-11-26T10:00:00Z web-1 app: a line as logs have them, of some length\n", 400))
	dst := make([]byte, 0, 2*len(run))
	b.SetBytes(int64(len(run)))
	b.ReportAllocs()
	for b.Loop() {
		dst = text.Append(dst[:0], run)
	}
}
