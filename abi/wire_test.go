package abi

import (
	"bytes"
	"math"
	"testing"
)

func TestWireRoundTrip(t *testing.T) {
	var b []byte
	b = AppendUint(b, 1, 0) // left out
	b = AppendUint(b, 2, 300)
	b = AppendString(b, 3, "SELECT 1")
	b = AppendString(b, 4, []byte(nil)) // left out
	b = AppendElement(b, 5, "")
	b = AppendUint(b, 1<<29-1, math.MaxUint64)

	r := Read(b)
	want := []struct {
		num  int
		u    uint64
		text string
	}{{2, 300, ""}, {3, 0, "SELECT 1"}, {5, 0, ""}, {1<<29 - 1, math.MaxUint64, ""}}
	for _, w := range want {
		if !r.Next() || r.Num != w.num || r.Uint != w.u || string(r.Bytes) != w.text {
			t.Fatalf("got field %d = %d %q, want %+v", r.Num, r.Uint, r.Bytes, w)
		}
	}
	if r.Next() || r.Err() != nil {
		t.Fatalf("after the last field: %d, %v", r.Num, r.Err())
	}
	// The encoding specification's own example: field 1 = 150.
	if got := AppendUint(nil, 1, 150); !bytes.Equal(got, []byte{0x08, 0x96, 0x01}) {
		t.Errorf("field 1 = 150 is % x", got)
	}
}

func TestWM07Malformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"tag cut":              {0x80},
		"value missing":        {0x08},
		"varint over 64 bits":  {0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2},
		"varint of 11 bytes":   {0x08, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0},
		"length past the end":  {0x12, 2, 'a'},
		"length of 2^63":       {0x12, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1},
		"fixed64 cut":          {0x09, 1, 2, 3},
		"field 0":              {0x00, 1},
		"field number too big": {0x80, 0x80, 0x80, 0x80, 0x10, 1},
		"start of a group":     {0x0b},
		"32-bit":               {0x0d, 1, 2, 3, 4},
	} {
		r := Read(b)
		for r.Next() {
		}
		if r.Err() != ErrWire {
			t.Errorf("%s: %v", name, r.Err())
		}
		if r.Next() || r.Bytes != nil || r.Uint != 0 {
			t.Errorf("%s: goes on after the fault", name)
		}
	}
}

// Every prefix of a message is either a shorter message or a fault, and what
// was read before the fault is what the whole message says.
func TestWirePrefixes(t *testing.T) {
	whole := AppendUint(AppendString(AppendUint(nil, 1, 9), 2, "orders"), 3, 1<<40)
	for n := range whole {
		r, all := Read(whole[:n]), Read(whole)
		for r.Next() {
			if !all.Next() || r.Num != all.Num || r.Uint != all.Uint || !bytes.Equal(r.Bytes, all.Bytes) {
				t.Fatalf("prefix of %d bytes reads field %d otherwise", n, r.Num)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(AppendString(AppendUint(nil, 1, 9), 2, "orders"))
	f.Add([]byte{0x12, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		r := Read(b)
		for r.Next() {
			total += len(r.Bytes)
		}
		if total > len(b) {
			t.Fatalf("%d bytes read of %d", total, len(b))
		}
	})
}

func TestWireAllocatesNothing(t *testing.T) {
	b := AppendString(AppendUint(nil, 1, 9), 2, "orders")
	scratch := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		r := Read(b)
		for r.Next() {
		}
		scratch = AppendString(scratch[:0], 2, "orders")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	m := AppendString(AppendUint(nil, 1, 9), 2, "orders")
	b.ReportAllocs()
	for b.Loop() {
		r := Read(m)
		for r.Next() {
		}
	}
}
