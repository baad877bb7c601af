package mask

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// usual has a usual cell of each class in text form.
var usual = [...]string{abi.ClassText: "ada.lovelace@example.com", abi.ClassInt2: "12345", abi.ClassInt4: "-1234567890", abi.ClassInt8: "1234567890123456789", abi.ClassNumeric: "-12345.6789",
	abi.ClassFloat4: "123.25", abi.ClassFloat8: "-1234.5678e+3", abi.ClassBool: "t", abi.ClassDate: "2024-02-29", abi.ClassTimestamp: "2024-02-29 12:34:56.789",
	abi.ClassTimestampTZ: "2024-02-29 12:34:56.789+05:30", abi.ClassUUID: "550e8400-e29b-41d4-a716-446655440000", abi.ClassBytea: `\x00112233445566778899aabbccddeeff`, abi.ClassJSON: "{}", abi.ClassJSONB: "{}", abi.ClassEnum: "fine"}

// inBinary gives a usual cell in binary form.
func inBinary(t testing.TB, c abi.Class) []byte {
	s := usual[c]
	f, ok := readFixed(s, c)
	if !ok {
		if f, ok = readFixed("-12345.6789", c); !ok {
			t.Fatalf("%s: %q is no value", classes[c], s)
		}
	}
	return f.binary
}

// each calls for every pair that masks something, in text and in binary.
func each(t testing.TB, call func(name string, op *Op, cell []byte, bin bool)) {
	for kind := abi.MaskNull; kind < abi.MaskCustom; kind++ {
		for c := abi.ClassText; c <= abi.ClassEnum; c++ {
			r := rule(kind, c)
			if Check(r, c) != nil {
				continue
			}
			name := strings.TrimSuffix(r.word()+"/"+classes[c], "/")
			call(name+"/text", Compile(r, c, keys), []byte(usual[c]), false)
			call(name+"/binary", Compile(r, c, keys), inBinary(t, c), true)
		}
	}
	op := Compile(Rule{Kind: abi.MaskKeep, Arg: "from:@"}, abi.ClassText, keys)
	call("keep_from/text/text", op, []byte(usual[abi.ClassText]), false)
}

// TestPM26NothingIsAllocatedForACell holds every mask to it, NULL and what
// does not parse included.
func TestPM26NothingIsAllocatedForACell(t *testing.T) {
	dst := make([]byte, 0, 4096)
	long := []byte(strings.Repeat("9", 100))
	each(t, func(name string, op *Op, cell []byte, bin bool) {
		if n := testing.AllocsPerRun(100, func() {
			op.Append(dst, cell, false, bin)
			op.Append(dst, nil, true, bin)
			op.Append(dst, long, false, bin)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	dst := make([]byte, 0, 4096)
	each(b, func(name string, op *Op, cell []byte, bin bool) {
		if (strings.HasPrefix(name, "null/") || strings.HasPrefix(name, "fixed/")) && !strings.Contains(name, "/text/") {
			return // one is like the other
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				op.Append(dst, cell, false, bin)
			}
		})
	})
}

func BenchmarkCompile(b *testing.B) {
	for kind := abi.MaskNull; kind < abi.MaskCustom; kind++ {
		for _, c := range []abi.Class{abi.ClassText, abi.ClassInt4, abi.ClassTimestamp} {
			r := rule(kind, c)
			if Check(r, c) != nil {
				continue
			}
			b.Run(r.word()+"/"+classes[c], func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Compile(r, c, keys)
				}
			})
		}
	}
}
