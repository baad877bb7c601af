package mask

import (
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// args has an argument for each kind of mask that does for every class where
// it works, but for FIXED, which takes a literal of the class.
var args = [...]string{abi.MaskKeep: "2,4", abi.MaskHash: "k", abi.MaskTokenize: "", abi.MaskBucket: "10", abi.MaskTruncDate: "month", abi.MaskCustom: "x"}

// literal has one literal for each class.
var literal = [...]string{abi.ClassText: "it's", abi.ClassInt2: "-7", abi.ClassInt4: "70000", abi.ClassInt8: "-7000000000", abi.ClassNumeric: "-12.50", abi.ClassFloat4: "0.25",
	abi.ClassFloat8: "1e+20", abi.ClassBool: "true", abi.ClassDate: "1999-12-31", abi.ClassTimestamp: "1999-12-31 23:59:59.5", abi.ClassTimestampTZ: "1999-12-31 23:59:59+02",
	abi.ClassUUID: "00000000-0000-8000-8000-00000000000f", abi.ClassBytea: `\x00ff`, abi.ClassJSON: `{"a": [1, "ü"]}`, abi.ClassJSONB: `{"a": null}`, abi.ClassEnum: "sad"}

func rule(k abi.MaskKind, c abi.Class) Rule {
	r := Rule{Kind: k}
	switch {
	case k == abi.MaskFixed && int(c) < len(literal):
		r.Arg = literal[c]
	case int(k) < len(args):
		r.Arg = args[k]
	}
	return r
}

func keys(name string) []byte { return []byte("a key of 32 bytes, named by: " + name) }

// TestPM35TheTableOfSPEC holds Check and Compile against every pair.
func TestPM35TheTableOfSPEC(t *testing.T) {
	b, err := os.ReadFile("../../abi/SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n| class | ")
	if !found {
		t.Fatal("SPEC.md has no table of classes")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	lines := strings.Split(table, "\n")
	kinds := strings.Split(strings.TrimSuffix(lines[0], " |"), " | ")
	if len(kinds) != int(abi.MaskCustom-abi.MaskNull)+1 || len(lines) != 2+len(classes) {
		t.Fatalf("the table has %d kinds and %d classes", len(kinds), len(lines)-2)
	}
	number := map[string]abi.MaskKind{"NULL": abi.MaskNull, "FIXED": abi.MaskFixed, "KEEP": abi.MaskKeep, "HASH": abi.MaskHash, "TOKENIZE": abi.MaskTokenize,
		"BUCKET": abi.MaskBucket, "TRUNC_DATE": abi.MaskTruncDate, "CUSTOM": abi.MaskCustom}
	seen := map[abi.Class]bool{}
	for _, line := range lines[2:] {
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), "|"), "|")
		var class abi.Class
		for c, name := range classes {
			if name == strings.TrimSpace(cells[0]) {
				class = abi.Class(c)
			}
		}
		if seen[class] {
			t.Errorf("%q is there twice, or is no class", cells[0])
		}
		seen[class] = true
		for i, name := range kinds {
			kind, ok := number[name]
			if !ok {
				t.Fatalf("%q is no mask", name)
			}
			r, works := rule(kind, class), strings.TrimSpace(cells[i+1]) == "x"
			if err := Check(r, class); works != (err == nil) {
				t.Errorf("%s on %s: SPEC says %v, Check %v", r, classes[class], works, err)
			}
			_, null := Compile(r, class, keys).Append(nil, nil, true, false) // what shows anything shows something for NULL
			if shows := works && kind != abi.MaskNull && kind != abi.MaskCustom; shows == null {
				t.Errorf("%s on %s: SPEC says %v, NULL masked is NULL: %v", r, classes[class], works, null)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		rule  Rule
		class abi.Class
		want  string
	}{
		{Rule{Kind: abi.MaskUnset}, abi.ClassText, "0 is no mask"},
		{Rule{Kind: abi.MaskPass}, abi.ClassText, "1 is no mask"},
		{Rule{Kind: 77}, abi.ClassText, "77 is no mask"},
		{Rule{Kind: abi.MaskBucket, Arg: "10"}, abi.ClassText, "bucket does not work on text: it works on int2, int4, int8, numeric, float4 and float8; null works on every type"},
		{Rule{Kind: abi.MaskKeep, Arg: "from:@"}, abi.ClassInt4, "keep_from does not work on int4: it works on text; null"},
		{Rule{Kind: abi.MaskFixed, Arg: "x"}, abi.ClassOther, "fixed does not work on this type"},
		{Rule{Kind: abi.MaskFixed, Arg: "x"}, 99, "fixed does not work on this type"},
		{Rule{Kind: abi.MaskKeep, Arg: "2, 4"}, abi.ClassText, "as in keep(2, 4)"},
		{Rule{Kind: abi.MaskKeep, Arg: "from:"}, abi.ClassText, "keep"},
		{Rule{Kind: abi.MaskBucket, Arg: "1"}, abi.ClassInt4, "a whole number from 2 on is expected"},
		{Rule{Kind: abi.MaskBucket, Arg: "2.5"}, abi.ClassInt4, "a whole number from 2 on is expected"},
		{Rule{Kind: abi.MaskBucket, Arg: "40000"}, abi.ClassInt2, "as far as int2 goes"},
		{Rule{Kind: abi.MaskBucket, Arg: "+1"}, abi.ClassNumeric, "a width above 0"},
		{Rule{Kind: abi.MaskTruncDate, Arg: "Month"}, abi.ClassDate, `one of "year"`},
		{Rule{Kind: abi.MaskTruncDate, Arg: "day"}, abi.ClassDate, "would hide nothing"},
		{Rule{Kind: abi.MaskTruncDate, Arg: "hour"}, abi.ClassDate, "would hide nothing"},
		{Rule{Kind: abi.MaskFixed, Arg: "a\x00b"}, abi.ClassText, "UTF-8 without NUL"},
		{Rule{Kind: abi.MaskFixed, Arg: "\xff"}, abi.ClassText, "UTF-8 without NUL"},
		{Rule{Kind: abi.MaskFixed, Arg: "40000"}, abi.ClassInt2, `fixed("40000"): a whole number as far as int2 goes is expected`},
		{Rule{Kind: abi.MaskFixed, Arg: "1.5"}, abi.ClassInt8, "a whole number"},
		{Rule{Kind: abi.MaskFixed, Arg: "x"}, abi.ClassNumeric, "a number of at most 15 digits"},
		{Rule{Kind: abi.MaskFixed, Arg: "NaN"}, abi.ClassFloat8, "a finite number"},
		{Rule{Kind: abi.MaskFixed, Arg: "1e99"}, abi.ClassFloat4, "a finite number"},
		{Rule{Kind: abi.MaskFixed, Arg: "yes"}, abi.ClassBool, "true or false"},
		{Rule{Kind: abi.MaskFixed, Arg: "2001-02-29"}, abi.ClassDate, "a date is expected"},
		{Rule{Kind: abi.MaskFixed, Arg: "0000-01-01"}, abi.ClassDate, "a date is expected"},
		{Rule{Kind: abi.MaskFixed, Arg: "31.12.1999"}, abi.ClassTimestamp, "a date with or without a time"},
		{Rule{Kind: abi.MaskFixed, Arg: "300000-01-01"}, abi.ClassTimestampTZ, "an offset"},
		{Rule{Kind: abi.MaskFixed, Arg: "x"}, abi.ClassUUID, "a UUID"},
		{Rule{Kind: abi.MaskFixed, Arg: "00ff"}, abi.ClassBytea, "in hex"},
		{Rule{Kind: abi.MaskFixed, Arg: `\x0`}, abi.ClassBytea, "in hex"},
		{Rule{Kind: abi.MaskFixed, Arg: "x"}, abi.ClassJSON, "JSON is expected"},
		{Rule{Kind: abi.MaskFixed, Arg: "\"\xff\""}, abi.ClassJSONB, "JSON is expected"},
		{Rule{Kind: abi.MaskFixed, Arg: ""}, abi.ClassEnum, "labels"},
	} {
		if err := Check(c.rule, c.class); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v on %d: %v; want %q", c.rule, c.class, err, c.want)
		}
		for _, null := range []bool{false, true} {
			if out, isNull := Compile(c.rule, c.class, keys).Append([]byte("before"), []byte("cell"), null, false); !isNull || string(out) != "before" {
				t.Errorf("%+v on %d gives %q, %v", c.rule, c.class, out, isNull)
			}
		}
	}
}
