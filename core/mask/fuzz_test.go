package mask

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// FuzzAppend gives every mask on every class bytes that are no value of
// anything: nothing of them may show but what a mask is there to show.
func FuzzAppend(f *testing.F) {
	for _, k := range kept {
		for _, v := range k.values {
			f.Add([]byte(v), uint8(k.class), "2,4")
		}
	}
	for _, arg := range []string{"from:@", "10", "0.25", "year", "hour", "x", `\x00`, "\xff", "-12.5", "2000-01-31"} {
		f.Add([]byte("0044-03-15 11:22:33.5+00 BC"), uint8(abi.ClassTimestampTZ), arg)
		f.Add([]byte{0, 2, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x26, 0xac}, uint8(abi.ClassNumeric), arg)
	}
	f.Fuzz(func(t *testing.T, cell []byte, class uint8, arg string) {
		c := abi.Class(class % uint8(len(classes)+1))
		for kind := abi.MaskUnset; kind <= abi.MaskCustom+1; kind++ {
			for _, r := range []Rule{{Kind: kind, Arg: arg}, rule(kind, c)} {
				op, err := Compile(r, c, keys), Check(r, c)
				for _, bin := range []bool{false, true} {
					out, null := op.Append([]byte("before"), cell, false, bin)
					if !bytes.HasPrefix(out, []byte("before")) || null && len(out) > 6 {
						t.Fatalf("%s: what was there before is now %q, NULL: %v", r, out, null)
					}
					out = out[6:]
					switch {
					case err != nil && !null:
						t.Fatalf("%s on %d: %v, but it gives %q", r, c, err, out)
					case null:
					case kind == abi.MaskFixed && string(out) != masked(r, c, "another", bin):
						t.Fatalf("%s of %q is %q", r, cell, out)
					case kind == abi.MaskKeep && bytes.Contains(out, cell) && len(cell) > 3 && !bytes.Contains(cell, []byte("*")):
						t.Fatalf("%s of %q is %q", r, cell, out)
					case kind == abi.MaskHash && bytes.Contains(out, cell) && len(cell) >= 8:
						t.Fatalf("%s of %q is %q", r, cell, out)
					case c == abi.ClassText && !utf8.Valid(out) && kind != abi.MaskFixed:
						t.Fatalf("%s of %q is no text: %q", r, cell, out)
					case kind == abi.MaskBucket || kind == abi.MaskTruncDate:
						again, null := op.Append(nil, out, false, bin) // it is a value of the type, and at the beginning of its own
						if null || !bytes.Equal(again, out) {
							t.Fatalf("%s on %s of %q is %q, and of that %q", r, classes[c], cell, out, again)
						}
					}
				}
			}
		}
	})
}

// FuzzParseRule: what is read is written so that it is read again.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"null", `fixed("x")`, "keep(2, 4)", `keep_from("@")`, `hash("a")`, "tokenize", "bucket(0.5)", `trunc("day")`, `custom("\xff")`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Fatalf("%q is %+v, written as %s, which is %+v, %v", s, r, r, again, err)
		}
	})
}
