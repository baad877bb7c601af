package mask

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// none stands for NULL in these tests.
const none = "(NULL)"

// masked gives what stands in a cell's place.
func masked(r Rule, c abi.Class, cell string, bin bool) string {
	in := cell
	if cell == none {
		in = "never looked at"
	}
	out, null := Compile(r, c, keys).Append([]byte("<"), []byte(in), cell == none, bin)
	if null {
		return none
	}
	return string(out[1:])
}

// TestPM35Values has what each mask makes of values in text form.
func TestPM35Values(t *testing.T) {
	huge := strings.Repeat("9", 40)
	for _, c := range []struct {
		rule  string
		class abi.Class
		cells map[string]string
	}{
		{"null", abi.ClassText, map[string]string{"x": none, "": none, none: none}},
		{`fixed("x")`, abi.ClassText, map[string]string{"abc": "x", "": "x", none: "x", "\xff": "x"}},
		{`fixed("2000-01-31")`, abi.ClassTimestampTZ, map[string]string{none: "2000-01-31 00:00:00+00"}},
		{`fixed("2000-01-31 01:30:00+05:30")`, abi.ClassTimestampTZ, map[string]string{none: "2000-01-30 20:00:00+00"}},
		{`fixed("0044-03-15 BC")`, abi.ClassDate, map[string]string{none: "0044-03-15 BC"}},
		{`fixed("0001-01-01 00:00:00.25 BC")`, abi.ClassTimestamp, map[string]string{none: "0001-01-01 00:00:00.25 BC"}},
		{`fixed("1e30")`, abi.ClassFloat8, map[string]string{none: "1e+30"}},
		{`fixed("\\xAB")`, abi.ClassBytea, map[string]string{none: `\xab`}},
		{"keep(2, 4)", abi.ClassText, map[string]string{"1234567890": "12***7890", "1234567": "12***4567", "123456": "***", "": "***", none: "***",
			"äöüßéèñ": "äö***ßéèñ", "äöüßéè": "***", "ab\xffdefgh": none,
			"ab          ": "***", "1234567     ": "12***4567", "12    3456": "***", "      x": "***", "  y   x": "  ***   x"}},
		{"keep(0, 0)", abi.ClassText, map[string]string{"": "***", "abc": "***"}},
		{"keep(0, 2)", abi.ClassText, map[string]string{"日本語": "***本語", "本語": "***", "abc": "***bc"}},
		{"keep(1, 0)", abi.ClassText, map[string]string{"日本語": "日***", "日": "***"}},
		{`keep_from("@")`, abi.ClassText, map[string]string{"ada@example.com": "***@example.com", "a@b@c": "***@c", "@ada": "***", "ada": "***", "ada@": "***@", "": "***", none: "***", "  @example.com": "***", "ada@example.com  ": "***@example.com",
			"\xff@example.com": none}},
		{`keep_from("::")`, abi.ClassText, map[string]string{"a:::b": "***::b", "::::b": "***::b", "::b": "***"}},
		{"bucket(10)", abi.ClassInt2, map[string]string{"0": "0", "9": "0", "10": "10", "-1": "-10", "32767": "32760", "-32768": none, "-32760": "-32760", none: "0", "": none, "x": none,
			"+5": none, "32768": none, " 5": none, "1_0": none, "0x10": none}},
		{"bucket(1000)", abi.ClassInt4, map[string]string{"-2147483648": none, "2147483647": "2147483000", "-2147483000": "-2147483000"}},
		{"bucket(3)", abi.ClassInt8, map[string]string{"9223372036854775807": "9223372036854775806", "-9223372036854775808": none, "-9223372036854775807": none, "-9223372036854775806": "-9223372036854775806", "-4": "-6", huge: none}},
		{"bucket(10)", abi.ClassNumeric, map[string]string{"0.00": "0", "12.34": "10", "-0.01": "-10", "-10.00": "-10", "-0.00": "0", "19.999999999999999999999999": "10", "-10.00000000000000000000000001": "-20",
			"9223372036854775807.9": "9223372036854775800", "9223372036854775808": none, "-9223372036854775808": none, "-9223372036854775800": "-9223372036854775800", huge: none, "0." + huge: "0",
			"NaN": none, "Infinity": none, "-Infinity": none, "": none, "-": none, ".5": none, "5.": none, "1.2.3": none, "1e5": none, none: "0"}},
		{"bucket(0.25)", abi.ClassNumeric, map[string]string{"1": "1.00", "1.3": "1.25", "-0.0001": "-0.25", "100000000000000000": none, none: "0.00"}},
		{"bucket(0.1)", abi.ClassFloat4, map[string]string{"0.3": "0.3", "0.7": "0.7", "0.69999": "0.6", "-0.7": "-0.7"}},
		{"bucket(0.1)", abi.ClassFloat8, map[string]string{"0.3": "0.3", "0.7": "0.7", "0.35": "0.3", "-0.05": "-0.1", "-0": "0", "1e+300": none, "1e-300": "0", "NaN": none, "Infinity": none, "inf": none, "0x1p4": none,
			"": none, "1e400": none, none: "0"}},
		{"bucket(10)", abi.ClassFloat8, map[string]string{"12345678901234567": "1.234567890123456e+16", "1e+15": "1e+15", "123456789012345": "123456789012340", "-1e-05": "-10"}},
		{"bucket(100)", abi.ClassFloat4, map[string]string{"1.5e+06": "1.5e+06", "123456": "123400", "3.4028235e+38": none, "-3.4028235e+38": none, "1e-45": "0"}},
		{`trunc("year")`, abi.ClassDate, map[string]string{"2024-02-29": "2024-01-01", "0044-03-15 BC": "0044-01-01 BC", "5874897-12-31": "5874897-01-01", "4714-11-24 BC": none, "4713-01-01 BC": "4713-01-01 BC",
			"infinity": none, "-infinity": none, "29.02.2024": none, "02-29-2024": none, "02/29/2024": none, "2024-02-30": none, "2024-2-3": none, "2024-13-01": none, "2024-00-01": none, "2024-01-00": none,
			"24-01-01": none, "0000-01-01": none, "0000-01-01 BC": none, "2024-01-01 AD": none, "2024-01-01 ": none, "2024-01-01 00:00:00": none, "5874898-01-01": none, "": none, none: "2000-01-01"}},
		{`trunc("month")`, abi.ClassTimestamp, map[string]string{"2024-02-29 23:59:59.999999": "2024-02-01 00:00:00", "294276-12-31 23:59:59.999999": "294276-12-01 00:00:00", "294277-01-01 00:00:00": none,
			"0001-12-31 23:59:59.5 BC": "0001-12-01 00:00:00 BC", "4714-11-24 00:00:00 BC": none, "4714-12-24 00:00:00 BC": "4714-12-01 00:00:00 BC", "2024-02-29": none, "2024-02-29T00:00:00": none,
			"2024-02-29 24:00:00": none, "2024-02-29 23:60:00": none, "2024-02-29 23:59:60": none, "2024-02-29 12:00:60": none, "2024-02-29 23:59:59.": none, "2024-02-29 23:59:59.1234567": none, "Thu Feb 29 23:59:59 2024": none,
			"2024-02-29 23:59:59+00": none, none: "2000-01-01 00:00:00"}},
		{`trunc("hour")`, abi.ClassTimestamp, map[string]string{"1999-12-31 23:59:59.5": "1999-12-31 23:00:00", "0044-03-15 11:22:33 BC": "0044-03-15 11:00:00 BC"}},
		{`trunc("day")`, abi.ClassTimestampTZ, map[string]string{"2024-03-01 00:30:00+01": "2024-02-29 00:00:00+00", "2024-02-29 23:30:00-08": "2024-03-01 00:00:00+00", "1900-01-01 00:00:00+00:53:28": "1899-12-31 00:00:00+00",
			"2024-02-29 12:00:00.5+05:30": "2024-02-29 00:00:00+00", "2024-02-29 12:00:00": none, "2024-02-29 12:00:00 CET": none, "2024-02-29 12:00:00+5": none, "2024-02-29 12:00:00Z": none, "infinity": none,
			"0001-01-01 00:00:00+01": "0001-12-31 00:00:00+00 BC", none: "2000-01-01 00:00:00+00"}},
		{"hash", abi.ClassUUID, map[string]string{"": none, "00000000000000000000000000000000": none, "0000000g-0000-0000-0000-000000000000": none, "{00000000-0000-0000-0000-0000000000}": none}},
		{"hash", abi.ClassBytea, map[string]string{"": none, `\x0`: none, `\xzz`: none, `abc`: none, `\\x00`: none, `\000\001`: none}},
		{"hash", abi.ClassInt4, map[string]string{"1": none, none: none}},
		{"tokenize", abi.ClassText, map[string]string{"": "", "--- ---": none, "\xff": none}},
		{"tokenize", abi.ClassInt2, map[string]string{"x": none, "": none, "99999": none}},
		{`custom("x")`, abi.ClassText, map[string]string{"x": none, none: none}},
	} {
		r, err := ParseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		for cell, want := range c.cells {
			if got := masked(r, c.class, cell, false); got != want {
				t.Errorf("%s of %s %q is %q, want %q", c.rule, classes[c.class], cell, got, want)
			}
		}
	}
}

// TestPM35BinaryOfNoType gives each class bytes that are none of its values.
func TestPM35BinaryOfNoType(t *testing.T) {
	for _, c := range []struct {
		rule  string
		class abi.Class
		cells []string // in hex
	}{
		{"bucket(10)", abi.ClassInt2, []string{"", "00", "000001"}},
		{"bucket(10)", abi.ClassInt4, []string{"", "0000", "0000000001"}},
		{"bucket(10)", abi.ClassInt8, []string{"", "00000000", "8000000000000000"}},
		{"bucket(10)", abi.ClassFloat4, []string{"", "0000", "7fc00000", "7f800000", "ff800000"}},
		{"bucket(10)", abi.ClassFloat8, []string{"", "00000000", "7ff8000000000000"}},
		// digits, weight, sign, scale; NaN, infinities; a digit of 10000; a digit too few; one too many; a sign that is none
		{"bucket(10)", abi.ClassNumeric, []string{"", "0000", "00000000c0000000", "00000000d0000000", "00000000f0000000", "0001000000000000" + "2710", "0001000000000000", "0000000000000000" + "0001",
			"0001000000010000" + "0001", "0001ffff00000000" + "ffff", "00017fff00000000" + "0001"}},
		{`trunc("year")`, abi.ClassDate, []string{"", "00", "7fffffff", "80000000", "0000000000000000"}},
		{`trunc("year")`, abi.ClassTimestamp, []string{"", "00000000", "7fffffffffffffff", "8000000000000000", "8000000000000001", "7ffffffffffffffe"}},
		{`trunc("hour")`, abi.ClassTimestampTZ, []string{"", "00000000", "7fffffffffffffff", "8000000000000000", "8000000000000001", "7ffffffffffffffe"}},
		{"hash", abi.ClassUUID, []string{"", "00", strings.Repeat("00", 15), strings.Repeat("00", 17)}},
		{"tokenize", abi.ClassInt4, []string{"", "0000"}},
	} {
		r, err := ParseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range c.cells {
			b, err := hex.DecodeString(cell)
			if err != nil {
				t.Fatal(err)
			}
			if got := masked(r, c.class, string(b), true); got != none {
				t.Errorf("%s of %s %s is %x, want NULL", c.rule, classes[c.class], cell, got)
			}
		}
	}
}

// TestPM06NullEmptyAndMasked tells them apart, and what grows and shrinks from
// what stood before it.
func TestPM06NullEmptyAndMasked(t *testing.T) {
	for _, c := range []struct{ rule, cell, want string }{
		{"keep(1, 1)", "", "***"}, {"keep(1, 1)", "ab", "***"}, {"keep(1, 1)", strings.Repeat("x", 1<<20), "x***x"}, {"keep(1, 1)", none, none},
		{`fixed("")`, "", ""}, {`fixed("")`, "abc", ""}, {`fixed("")`, none, none}, {"tokenize", "", ""}, {"tokenize", none, none}, {"hash", none, none}, {"null", "", none},
	} {
		r, err := ParseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		r.Nulls = true
		for _, bin := range []bool{false, true} {
			if got := masked(r, abi.ClassText, c.cell, bin); got != c.want {
				t.Errorf("%s of %.10q is %q, want %q", c.rule, c.cell, got, c.want)
			}
		}
	}
}

// TestPM34NullnessAndLength: without `nulls` what stands for NULL is a value
// like others, the same each time, and KEEP's hidden part has no length.
func TestPM34NullnessAndLength(t *testing.T) {
	for kind := abi.MaskFixed; kind <= abi.MaskTruncDate; kind++ {
		for class := range abi.Class(len(classes)) {
			r := rule(kind, class)
			if Check(r, class) != nil {
				continue
			}
			for _, bin := range []bool{false, true} {
				hidden := masked(r, class, none, bin)
				if hidden == none || hidden != masked(r, class, none, bin) {
					t.Errorf("%s of NULL of %s is %q, and not always", r, classes[class], hidden)
				}
				r.Nulls = true
				if got := masked(r, class, none, bin); got != none {
					t.Errorf("%s of NULL of %s with nulls is %q", r, classes[class], got)
				}
				r.Nulls = false
			}
		}
	}
	r := Rule{Kind: abi.MaskKeep, Arg: "1,1"}
	for n := range 100 {
		if got := masked(r, abi.ClassText, "a"+strings.Repeat("é", n)+"z", false); len(got) > 5 {
			t.Errorf("%d hidden characters show as %q", n, got)
		}
	}
}

// TestPM21KeysKeepApart: one value has another hash and token under another
// key, the same under the same, and none without a key.
func TestPM21KeysKeepApart(t *testing.T) {
	for _, c := range []struct {
		kind  abi.MaskKind
		class abi.Class
		cell  string
	}{
		{abi.MaskHash, abi.ClassText, "ada@example.com"}, {abi.MaskHash, abi.ClassUUID, "550e8400-e29b-41d4-a716-446655440000"}, {abi.MaskHash, abi.ClassBytea, `\x0011223344556677`},
		{abi.MaskTokenize, abi.ClassText, "ada@example.com"}, {abi.MaskTokenize, abi.ClassInt8, "123456789012345678"},
	} {
		for _, cell := range []string{c.cell, none} {
			if cell == none && c.class == abi.ClassInt8 {
				continue // there are but 9000 tokens for it
			}
			one := masked(Rule{Kind: c.kind, Arg: "one"}, c.class, cell, false)
			if one != masked(Rule{Kind: c.kind, Arg: "one"}, c.class, cell, false) || one == none {
				t.Errorf("kind %d of %q is %q, and not always", c.kind, cell, one)
			}
			if one == masked(Rule{Kind: c.kind, Arg: "two"}, c.class, cell, false) || one == masked(Rule{Kind: c.kind}, c.class, cell, false) {
				t.Errorf("kind %d of %q is %q under two keys", c.kind, cell, one)
			}
		}
		for name, keys := range map[string]Keys{"no keys": nil, "nil": func(string) []byte { return nil }, "empty": func(string) []byte { return []byte{} }} {
			for _, null := range []bool{false, true} {
				if out, isNull := Compile(Rule{Kind: c.kind}, c.class, keys).Append(nil, []byte(c.cell), null, false); !isNull {
					t.Errorf("%s: kind %d gives %q", name, c.kind, out)
				}
			}
		}
	}
	if a, b := masked(Rule{Kind: abi.MaskHash}, abi.ClassText, "", false), masked(Rule{Kind: abi.MaskHash}, abi.ClassText, none, false); a == b {
		t.Error("the empty text and NULL have one hash")
	}
}

// TestPM21StaysTheSame holds hashes and tokens of integers against HMAC-SHA256
// as another library works it out, and all against change: they are in use.
func TestPM21StaysTheSame(t *testing.T) {
	one := func(string) []byte { return []byte("0123456789abcdef0123456789abcdef") }
	for _, c := range []struct {
		kind  abi.MaskKind
		class abi.Class
		cell  string
		null  bool
		want  string
	}{
		{abi.MaskHash, abi.ClassText, "ada@example.com", false, "06a523486445f3ba3c432abcc53683a3"},
		{abi.MaskHash, abi.ClassText, "", true, "0f5eb49d48a62073458e0d0f8c897efc"},
		{abi.MaskHash, abi.ClassBytea, `\x0011223344556677`, false, `\x8f5eaecd26237c0814874741a77978b5`},
		{abi.MaskHash, abi.ClassUUID, "550e8400-e29b-41d4-a716-446655440000", false, "333e4bb6-1ae1-8a73-81fa-89f2e67349ca"},
		{abi.MaskTokenize, abi.ClassInt4, "12345", false, "60961"},
		{abi.MaskTokenize, abi.ClassInt2, "-32768", false, "-26202"},
		{abi.MaskTokenize, abi.ClassText, "Ada Lovelace, 1815", false, "Dnn Ecubkdji, 5490"},
		{abi.MaskTokenize, abi.ClassText, "", true, "jpujqmyr"},
	} {
		out, null := Compile(Rule{Kind: c.kind}, c.class, one).Append(nil, []byte(c.cell), c.null, false)
		if string(out) != c.want || null {
			t.Errorf("kind %d of %s %q is %q, want %q", c.kind, classes[c.class], c.cell, out, c.want)
		}
	}
}

// TestTokensKeepTheShape looks at what a token shares with its value.
func TestTokensKeepTheShape(t *testing.T) {
	shape := func(s string) string {
		return strings.Map(func(c rune) rune {
			switch {
			case c >= '0' && c <= '9':
				return '9'
			case c >= 'A' && c <= 'Z', c == 'Ä':
				return 'A'
			case c >= 'a' && c <= 'z', c > 127:
				return 'a'
			}
			return c
		}, s)
	}
	for _, cell := range []string{"Ada Lovelace", "+49 (0)171-555 66 77", "DE89 3704 0044 0532 0130 00", "a.b+c@example.com", "Ärger über 日本語", strings.Repeat("Long text 4711; ", 1000)} {
		got := masked(Rule{Kind: abi.MaskTokenize}, abi.ClassText, cell, false)
		if got == cell || shape(got) != shape(cell) {
			t.Errorf("the token of %q is %q", cell, got)
		}
	}
	seen := map[string]bool{} // letters and digits come from all of theirs
	for _, c := range masked(Rule{Kind: abi.MaskTokenize}, abi.ClassText, strings.Repeat("aA0", 1000), false) {
		seen[string(c)] = true
	}
	if len(seen) != 26+26+10 {
		t.Errorf("%d characters come up in tokens", len(seen))
	}
	for _, class := range []abi.Class{abi.ClassInt2, abi.ClassInt4, abi.ClassInt8} {
		most := int64(1)<<(8*intSize(class)-1) - 1
		for v := int64(1); v > 0 && v <= most; v *= 3 {
			for _, v := range []int64{v, -v, most, -most, -most - 1, 0} {
				text, bin := appendInt(nil, v, class, false), appendInt(nil, v, class, true)
				got := masked(Rule{Kind: abi.MaskTokenize}, class, string(text), false)
				token, ok := readInt([]byte(got), class, false)
				if !ok || len(got) != len(text) || (token < 0) != (v < 0) {
					t.Fatalf("the token of %s is %q", text, got)
				}
				if b := masked(Rule{Kind: abi.MaskTokenize}, class, string(bin), true); b != string(appendInt(nil, token, class, true)) {
					t.Fatalf("the token of %s is %q in text and %x in binary", text, got, b)
				}
			}
		}
	}
}

// TestTokensOfSmallNumbers: a negative number's token is never 0, under any key.
func TestTokensOfSmallNumbers(t *testing.T) {
	for i := range 90 {
		cell := strconv.Itoa(-1 - i%9)
		got := masked(Rule{Kind: abi.MaskTokenize, Arg: strconv.Itoa(i / 9)}, abi.ClassInt4, cell, false)
		if len(got) != 2 || got[0] != '-' || got[1] < '1' {
			t.Errorf("the token of %s is %s", cell, got)
		}
	}
}

// TestAnOpForgets: what an Op has seen does not change what it gives.
func TestAnOpForgets(t *testing.T) {
	cells := []string{"", "a", "Ada 1", strings.Repeat("x1", 400), `\x00ff`, "550e8400-e29b-41d4-a716-446655440000", "12", "-7.5", "2024-02-29", "2024-02-29 01:02:03+04", "\xff", none}
	for kind := abi.MaskFixed; kind <= abi.MaskTruncDate; kind++ {
		for class := range abi.Class(len(classes)) {
			r := rule(kind, class)
			op := Compile(r, class, keys)
			for range 2 {
				for _, cell := range cells {
					for _, bin := range []bool{false, true} {
						want := masked(r, class, cell, bin)
						got, null := op.Append([]byte("before"), []byte(cell), cell == none, bin)
						if !bytes.HasPrefix(got, []byte("before")) || null != (want == none) || !null && string(got[6:]) != want {
							t.Fatalf("%s of %s %q is %q, then %q", r, classes[class], cell, want, got)
						}
					}
				}
			}
		}
	}
}

// TestFixedAndNullDependOnNothing: the property that makes them masks.
func TestFixedAndNullDependOnNothing(t *testing.T) {
	cells := []string{none, "", "x", "\x00", "\xff\xff\xff\xff", "12345678", strings.Repeat("y", 5000), string(binary.BigEndian.AppendUint64(nil, math.MaxUint64))}
	for class := range abi.Class(len(classes)) {
		for _, kind := range []abi.MaskKind{abi.MaskNull, abi.MaskFixed} {
			r := rule(kind, class)
			for _, bin := range []bool{false, true} {
				want := masked(r, class, "first", bin)
				for _, cell := range cells {
					if got := masked(r, class, cell, bin); got != want {
						t.Errorf("%s of %s %q is %q, of another %q", r, classes[class], cell, got, want)
					}
				}
			}
		}
	}
}
