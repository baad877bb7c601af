package mask

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

func TestParseRule(t *testing.T) {
	for _, c := range []struct {
		text string
		want Rule
		back string // where it is not the text
	}{
		{"null", Rule{Kind: abi.MaskNull}, ""},
		{`fixed("x")`, Rule{Kind: abi.MaskFixed, Arg: "x"}, ""},
		{`fixed("")`, Rule{Kind: abi.MaskFixed}, ""},
		{`fixed("a) \"b\" (\\ ü")`, Rule{Kind: abi.MaskFixed, Arg: `a) "b" (\ ü`}, ""},
		{"keep(2, 4)", Rule{Kind: abi.MaskKeep, Arg: "2,4"}, ""},
		{" keep ( 0,4 ) ", Rule{Kind: abi.MaskKeep, Arg: "0,4"}, "keep(0, 4)"},
		{`keep_from("@")`, Rule{Kind: abi.MaskKeep, Arg: "from:@"}, ""},
		{`keep_from("(,)")`, Rule{Kind: abi.MaskKeep, Arg: "from:(,)"}, ""},
		{"hash", Rule{Kind: abi.MaskHash}, ""},
		{`hash("people")`, Rule{Kind: abi.MaskHash, Arg: "people"}, ""},
		{"tokenize", Rule{Kind: abi.MaskTokenize}, ""},
		{`tokenize("people")`, Rule{Kind: abi.MaskTokenize, Arg: "people"}, ""},
		{"bucket(10)", Rule{Kind: abi.MaskBucket, Arg: "10"}, ""},
		{"bucket(0.25)", Rule{Kind: abi.MaskBucket, Arg: "0.25"}, ""},
		{`trunc("month")`, Rule{Kind: abi.MaskTruncDate, Arg: "month"}, ""},
		{"custom", Rule{Kind: abi.MaskCustom}, ""},
		{`custom("a b")`, Rule{Kind: abi.MaskCustom, Arg: "a b"}, ""},
	} {
		got, err := ParseRule(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s gives %+v, %v", c.text, got, err)
		}
		if c.back == "" {
			c.back = c.text
		}
		if got.String() != c.back {
			t.Errorf("%s is written as %s", c.text, got)
		}
	}
}

func TestParseRuleFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                         `"" is no mask: one of null, fixed, keep, keep_from, hash, tokenize, bucket, trunc is expected`,
		"kep(1,2)":                 `did you mean "keep"?`,
		"Null":                     `did you mean "null"?`,
		"mask it":                  `"mask it" is no mask: one of`,
		"pass":                     `is no mask`,
		"null()":                   `null(): nothing is expected behind it, as in null`,
		"fixed":                    `as in fixed("x")`,
		"fixed(x)":                 `in double quotes`,
		"fixed('x')":               `in double quotes`,
		`fixed("x"`:                `no closing parenthesis`,
		`fixed("x", "y")`:          `as in fixed("x")`,
		`fixed("\q")`:              `as in fixed("x")`,
		"keep":                     `as in keep(2, 4)`,
		"keep()":                   `as in keep(2, 4)`,
		"keep(2)":                  `as in keep(2, 4)`,
		"keep(2, 4, 6)":            `as in keep(2, 4)`,
		"keep(-1, 4)":              `as in keep(2, 4)`,
		"keep(1, 70000)":           `as in keep(2, 4)`,
		"keep(02, 4)":              `as in keep(2, 4)`,
		`keep("2", "4")`:           `as in keep(2, 4)`,
		"keep_from(@)":             `as in keep_from("@")`,
		`keep_from("")`:            `as in keep_from("@")`,
		`keep_from("\x80")`:        `as in keep_from("@")`,
		"hash(people)":             `as in hash("name") or hash`,
		`hash("")`:                 `as in hash("name") or hash`,
		"bucket(0)":                `a width above 0`,
		"bucket(-5)":               `a width above 0`,
		"bucket(1e3)":              `a width above 0`,
		"bucket(.5)":               `a width above 0`,
		"bucket(5.)":               `a width above 0`,
		"bucket(010)":              `a width above 0`,
		"bucket(0.0)":              `a width above 0`,
		"bucket(1234567890123456)": `at most 15 digits`,
		`trunc("mounth")`:          `did you mean "month"?`,
		`trunc("week")`:            `one of "year", "month", "day", "hour" is expected`,
		`trunc("")`:                `one of "year"`,
		"trunc(month)":             `in trunc("month")`,
		`custom("")`:               `custom`,
	} {
		if r, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %+v, %v; want %q", text, r, err, want)
		}
	}
}

// TestJoin holds every pair of rules against the sentence of SPEC.md.
func TestJoin(t *testing.T) {
	null := Rule{Kind: abi.MaskNull}
	var all []Rule
	for kind := abi.MaskUnset; kind <= abi.MaskCustom+1; kind++ {
		for _, arg := range []string{"1,1", "2,2"} {
			all = append(all, Rule{Kind: kind, Arg: arg}, Rule{Kind: kind, Arg: arg, Nulls: true})
		}
	}
	strength := map[abi.MaskKind]int{abi.MaskUnset: 4, abi.MaskNull: 4, abi.MaskCustom + 1: 4, abi.MaskFixed: 3, abi.MaskTokenize: 2, abi.MaskHash: 1}
	for _, a := range all {
		for _, b := range all {
			got := Join(a, b)
			want, x, y := null, strength[a.Kind], strength[b.Kind]
			switch {
			case x == 4 || y == 4:
			case a.Kind == b.Kind && a.Arg == b.Arg:
				want = a
			case x > 0 && y > 0 && x > y:
				want = a
			case x > 0 && y > 0 && x < y:
				want = b
			}
			if want != null {
				want.Nulls = a.Nulls && b.Nulls
			}
			if got != want {
				t.Errorf("Join(%+v, %+v) = %+v, want %+v", a, b, got, want)
			}
			if got != Join(b, a) {
				t.Errorf("Join(%+v, %+v) depends on the order", a, b)
			}
		}
	}
}
