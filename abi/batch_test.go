package abi

import (
	"bytes"
	"errors"
	"testing"
)

// sampleBatch has a column of text and one of int4, in binary, with a NULL in
// each and an empty cell.
func sampleBatch() *Batch {
	b := &Batch{Rows: 3, Columns: []BatchColumn{{Index: 1, Name: "card", Type: 25, Arg: "last4"}, {Index: 4, Name: "n", Type: 23, Binary: true}}}
	b.Columns[0].Add([]byte("4111111111111111"), false)
	b.Columns[0].Add(nil, true)
	b.Columns[0].Add(nil, false)
	b.Columns[1].Add(nil, true)
	b.Columns[1].Add([]byte{0, 0, 0, 1}, false)
	b.Columns[1].Add([]byte{0, 0, 0, 2}, false)
	return b
}

// cells are the cells of a batch, all of them, row by row.
func cells(b *Batch) (list []string) {
	for i := range b.Rows {
		for j := range b.Columns {
			cell, ok := b.Columns[j].Cell(i)
			if !ok {
				cell = []byte("NULL")
			}
			list = append(list, string(cell))
		}
	}
	return list
}

func TestBatchRoundTrip(t *testing.T) {
	var got Batch
	for _, want := range []*Batch{sampleBatch(), {}, sampleBatch(), {Rows: MaxRows}} { // into what the one before left
		if err := got.Decode(want.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if len(want.Columns) > 0 && (!got.Fits(want) || got.Columns[0].Name != "card" || got.Columns[0].Arg != "last4" || !bytes.Equal(got.AppendTo(nil), want.AppendTo(nil))) {
			t.Errorf("got %+v", got)
		}
		if a, b := cells(&got), cells(want); len(want.Columns) > 0 && !equalTexts(a, b) {
			t.Errorf("got %q, want %q", a, b)
		}
		if got.Rows != want.Rows || len(got.Columns) != len(want.Columns) {
			t.Errorf("%d rows and %d columns", got.Rows, len(got.Columns))
		}
	}
}

func equalTexts(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestWM06Batches: a batch of which any cell would not be there is none.
func TestWM06Batches(t *testing.T) {
	column := func(valid, offsets []byte, cells string) []byte {
		return AppendString(AppendString(AppendString(nil, 6, valid), 7, offsets), 8, cells)
	}
	at := func(list ...uint32) (b []byte) {
		for _, v := range list {
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		return b
	}
	for name, c := range map[string]struct {
		rows   uint64
		column []byte
		good   bool
	}{
		"one cell":               {1, column([]byte{1}, at(0, 2), "ab"), true},
		"no rows":                {0, column(nil, at(0), ""), true},
		"nine rows":              {9, column([]byte{255, 1}, at(0, 1, 1, 1, 1, 1, 1, 1, 1, 1), "a"), true},
		"no rows but cells":      {0, column(nil, at(0), "a"), false},
		"nothing":                {1, nil, false},
		"no bitmap":              {1, column(nil, at(0, 2), "ab"), false},
		"a short bitmap":         {9, column([]byte{255}, at(0, 1, 1, 1, 1, 1, 1, 1, 1, 1), "a"), false},
		"a long bitmap":          {1, column([]byte{1, 0}, at(0, 2), "ab"), false},
		"no offsets":             {1, column([]byte{1}, nil, "ab"), false},
		"too few offsets":        {1, column([]byte{1}, at(0), "ab"), false},
		"too many offsets":       {1, column([]byte{1}, at(0, 1, 2), "ab"), false},
		"half an offset":         {1, column([]byte{1}, at(0, 2)[:7], "ab"), false},
		"does not begin at 0":    {1, column([]byte{1}, at(1, 2), "ab"), false},
		"ends before its bytes":  {1, column([]byte{1}, at(0, 1), "ab"), false},
		"ends behind its bytes":  {1, column([]byte{1}, at(0, 3), "ab"), false},
		"far behind":             {1, column([]byte{1}, at(0, 1<<32-1), "ab"), false},
		"goes back":              {2, column([]byte{3}, at(0, 3, 2), "ab"), false},
		"more rows than it says": {2, column([]byte{1}, at(0, 2), "ab"), false},
		"rows without end":       {1<<64 - 1, column([]byte{1}, at(0, 2), "ab"), false},
		"rows that wrap":         {1<<32 + 1, column([]byte{1}, at(0, 2), "ab"), false},
		"malformed":              {1, append(column([]byte{1}, at(0, 2), "ab"), 0x0b), false},
	} {
		for _, message := range [][]byte{ // the number of rows may stand behind the columns
			AppendElement(AppendUint(nil, 1, c.rows), 2, c.column), AppendUint(AppendElement(nil, 2, c.column), 1, c.rows)} {
			var b Batch
			err := b.Decode(message)
			if (err == nil) != c.good || err != nil && (b.Rows != 0 || len(b.Columns) != 0) || err != nil && !errors.Is(err, ErrBatch) && !errors.Is(err, ErrWire) {
				t.Errorf("%s: %v, %d rows", name, err, b.Rows)
			}
			cells(&b)
		}
	}
	many := []byte(nil)
	for range MaxColumns + 1 {
		many = AppendElement(many, 2, column(nil, at(0), ""))
	}
	if err := new(Batch).Decode(many); !errors.Is(err, ErrBatch) {
		t.Error("more columns than there may be:", err)
	}
	if err := new(MaskPlan).Decode((&MaskPlan{Kinds: make([]MaskKind, MaxColumns+1)}).AppendTo(nil)); !errors.Is(err, ErrVerdict) {
		t.Error("a plan for more columns than there may be:", err)
	}
}

// TestWM19ForgottenCells: what a guard does not write is NULL, and what it
// writes too much of fits nothing.
func TestWM19ForgottenCells(t *testing.T) {
	asked := sampleBatch()
	out := asked.Answer()
	out.Columns[0].Add([]byte("x"), false)
	out.Columns[1].Bytes = append(out.Columns[1].Bytes, "left over"...)
	out.Columns[1].End(true)
	out.Fill()
	if got := cells(out); !out.Fits(asked) || !equalTexts(got, []string{"x", "NULL", "NULL", "NULL", "NULL", "NULL"}) {
		t.Errorf("%q", got)
	}
	again := asked.Answer()
	if again != out || len(again.Columns[0].Offsets) != 1 || len(again.Columns[0].Bytes) != 0 {
		t.Error("the room is not used again, or not empty")
	}
	for range 4 {
		again.Columns[0].Add(nil, false)
	}
	if again.Fill(); again.Fits(asked) {
		t.Error("a cell too many fits")
	}
	if none := (&Batch{Columns: make([]BatchColumn, 1)}); !none.Answer().Fits(none.Answer()) {
		t.Error("no rows do not fit no rows")
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	asked := sampleBatch()
	message, buf, got := asked.AppendTo(nil), make([]byte, 0, 4096), Batch{}
	if n := testing.AllocsPerRun(100, func() {
		buf = asked.AppendTo(buf[:0])
		if err := got.Copy(message); err != nil {
			t.Fatal(err)
		}
		out := asked.Answer()
		out.Columns[0].Add(message[:9], false)
		out.Fill()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(sampleBatch().AppendTo(nil))
	f.Add((&Batch{Rows: 9}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, message []byte) {
		var b Batch
		if b.Decode(message) != nil {
			return
		}
		if len(b.Columns) > 0 {
			cells(&b)
		}
		var again Batch
		if err := again.Decode(b.AppendTo(nil)); err != nil || len(b.Columns) > 0 && !again.Fits(&b) {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	asked := Batch{Rows: 1000, Columns: make([]BatchColumn, 1)}
	for range asked.Rows {
		asked.Columns[0].Add([]byte("4111 1111 1111 1111"), false)
	}
	var buf []byte
	var got Batch
	b.ReportAllocs()
	for b.Loop() {
		buf = asked.AppendTo(buf[:0])
		if err := got.Decode(buf); err != nil || !got.Fits(&asked) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*asked.Rows), "ns/cell")
}
