package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/gate"
)

func open(t testing.TB, dir string, opt Options) *Log {
	t.Helper()
	l, _, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(context.Background(), fmt.Appendf(nil, "record %d", i), i%7 == 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendVerify(t *testing.T) {
	dir := t.TempDir()
	witness := filepath.Join(t.TempDir(), "witness")
	l := open(t, dir, Options{Segment: 4096, Witness: witness})
	if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("RC05: a second writer: %v", err)
	}
	fill(t, l, 200)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(context.Background(), []byte("x"), false); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	l = open(t, dir, Options{Segment: 4096, Witness: witness})
	fill(t, l, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(dir, "", "")
	if err != nil || rep.Records != 210 || rep.Signed != 210 || rep.Witnessed {
		t.Fatalf("%+v %v", rep, err)
	}
	if rep, err := Verify(dir, "", witness); err != nil || !rep.Witnessed {
		t.Fatalf("%+v %v", rep, err)
	}
	n := 0
	if err := Read(dir, func(r Record) error {
		if n++; r.Seq != uint64(n) {
			t.Errorf("record %d is %d", n, r.Seq)
		}
		return nil
	}); err != nil || n != 210 {
		t.Error(n, err)
	}
}

// TestRC03Tampered flips every bit of a log, cuts it at every byte, and takes
// out, doubles, swaps and inserts every record: the first bad one is named.
func TestRC03Tampered(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Segment: 320})
	fill(t, l, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	l = open(t, other, Options{Segment: 320})
	for range 10 {
		if err := l.Append(t.Context(), []byte("record x"), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := segments(dir)
	if len(names) < 3 {
		t.Fatal("too few segments")
	}
	// found says what Verify names: a record, else 0 where it is the segment's head or the missing tail.
	found := func(want uint64, what string) {
		t.Helper()
		_, err := Verify(dir, "", "")
		bad, ok := errors.AsType[*Bad](err)
		switch {
		case err == nil:
			t.Errorf("%s: nobody noticed", what)
		case want != 0 && (!ok || bad.Seq != want):
			t.Errorf("%s: the first bad record is %d, and it says %v", what, want, err)
		}
	}
	for i, name := range names {
		path, final := filepath.Join(dir, name), i == len(names)-1
		whole, _ := os.ReadFile(path)
		s, err := openSegment(path)
		if err != nil {
			t.Fatal(err)
		}
		first := s.first
		starts := []int{segHead}
		for s.next() {
			starts = append(starts, s.at)
		}
		n := len(starts) - 1
		of := func(at int) uint64 { // the record that a byte belongs to
			for k := range n {
				if at < starts[k+1] {
					return first + uint64(k)
				}
			}
			return 0
		}
		set := func(parts ...[]byte) {
			t.Helper()
			if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for at := range whole {
			for bit := range 8 {
				b := bytes.Clone(whole)
				b[at] ^= 1 << bit
				set(b)
				if at < segHead {
					found(0, fmt.Sprintf("%s: bit %d of byte %d", name, bit, at))
				} else {
					found(of(at), fmt.Sprintf("%s: bit %d of byte %d", name, bit, at))
				}
			}
			set(whole[:at])
			if want := of(at); at < segHead || final {
				found(0, fmt.Sprintf("%s: cut at %d", name, at))
			} else {
				found(want, fmt.Sprintf("%s: cut at %d", name, at))
			}
		}
		strange, _ := os.ReadFile(filepath.Join(other, name))
		for k := range n {
			a, b := starts[k], starts[k+1]
			seq := first + uint64(k)
			set(whole[:a], whole[b:])
			if final && k == n-1 {
				found(0, "the last record taken out")
			} else {
				found(seq, fmt.Sprintf("record %d taken out", seq))
			}
			set(whole[:b], whole[a:])
			found(seq+1, fmt.Sprintf("record %d doubled", seq))
			if k+1 < n {
				set(whole[:a], whole[b:starts[k+2]], whole[a:b], whole[starts[k+2]:])
				found(seq, fmt.Sprintf("record %d swapped with the next", seq))
			}
			if seq == 1 { // any log's first record could be this one's: the second tells
				seq++
			}
			set(whole[:a], strange[a:b], whole[a:])
			found(seq, fmt.Sprintf("another log's record before %d", seq))
			set(whole[:a], strange[a:b], whole[b:])
			found(seq, fmt.Sprintf("another log's record instead of %d", seq))
		}
		set(whole)
	}
	one, two := filepath.Join(dir, names[0]), filepath.Join(dir, names[1])
	a, _ := os.ReadFile(one)
	b, _ := os.ReadFile(two)
	_, _ = os.WriteFile(one, b, 0o600), os.WriteFile(two, a, 0o600)
	found(1, "swapped segments")
	_, _ = os.WriteFile(one, a, 0o600), os.WriteFile(two, b, 0o600)
	strange, _ := os.ReadFile(filepath.Join(other, names[1]))
	_ = os.WriteFile(two, strange, 0o600)
	found(0, "another log's segment")
	_ = os.WriteFile(two, b, 0o600)
	if _, err := Verify(dir, "", ""); err != nil {
		t.Fatal("the log is not as it was:", err)
	}
	points := filepath.Join(dir, "checkpoints")
	lines, _ := os.ReadFile(points)
	for at := range lines[:len(lines)-1] { // its end makes a torn line, which is reported
		c := bytes.Clone(lines)
		c[at] ^= 1
		_ = os.WriteFile(points, c, 0o600)
		if rep, err := Verify(dir, "", ""); err == nil && rep.Signed == rep.Records && !bytes.EqualFold(c, lines) {
			t.Errorf("byte %d of the checkpoints was changed: %+v", at, rep)
		}
	}
	_ = os.WriteFile(points, lines, 0o600)
	_ = os.Remove(filepath.Join(dir, names[len(names)-1]))
	if _, err := Verify(dir, "", ""); err == nil || !strings.Contains(err.Error(), "the tail is missing") {
		t.Errorf("RC04: %v", err)
	}
	_, public, _ := note.GenerateKey(rand.Reader, keyName)
	if _, err := Verify(dir, public, ""); err == nil {
		t.Error("another key's checkpoints were taken")
	}
}

// TestRC20: whoever holds the key rewrites a shorter history; a witness shows it.
func TestRC20Rewritten(t *testing.T) {
	dir, witness := t.TempDir(), filepath.Join(t.TempDir(), "w")
	l := open(t, dir, Options{Witness: witness})
	fill(t, l, 50)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key, _ := os.ReadFile(filepath.Join(dir, "key"))
	public, _ := os.ReadFile(filepath.Join(dir, "key.pub"))
	shorter := t.TempDir()
	_ = os.WriteFile(filepath.Join(shorter, "key"), key, 0o600)
	_ = os.WriteFile(filepath.Join(shorter, "key.pub"), public, 0o600)
	l = open(t, shorter, Options{})
	fill(t, l, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(shorter, "", ""); err != nil || rep.Witnessed {
		t.Errorf("by itself it is consistent: %v", err)
	}
	if _, err := Verify(shorter, "", witness); err == nil {
		t.Error("the witness was not heard")
	}
	// One that is not there, or empty, has seen nothing.
	empty := filepath.Join(t.TempDir(), "empty")
	for range 2 {
		if rep, err := Verify(shorter, "", empty); err == nil || rep.Witnessed || !strings.Contains(err.Error(), "empty: there is no checkpoint") {
			t.Errorf("a witness of nothing: %v %v", rep.Witnessed, err)
		}
		_ = os.WriteFile(empty, nil, 0o600)
	}
}

func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	fill(t, l, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "00000001.log")
	b, _ := os.ReadFile(path)
	_ = os.WriteFile(path, append(b, 9, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3), 0o600)
	if _, err := Verify(dir, "", ""); err == nil {
		t.Error("a torn tail that nobody has reported")
	}
	l, rec, err := Open(dir, Options{})
	if err != nil || rec.Torn == nil || rec.Torn.Offset != len(b) || rec.Torn.Bytes != 15 || rec.Torn.After != 5 {
		t.Fatalf("%+v %v", rec.Torn, err)
	}
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(dir, "", ""); err != nil || len(rep.Torn) != 1 || rep.Records != 7 {
		t.Errorf("%+v %v", rep, err)
	}
	if l, rec, err = Open(dir, Options{}); err != nil || rec.Torn != nil {
		t.Errorf("reported twice: %+v %v", rec.Torn, err)
	}
	_ = l.Close()
}

func TestRC06ClockGoesBack(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1000, 0)
	l := open(t, dir, Options{Now: func() time.Time { return now }})
	fill(t, l, 1)
	now = time.Unix(10, 0)
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, "", ""); err != nil {
		t.Error(err)
	}
}

func TestRC13Golden(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Now: func() time.Time { return time.Unix(1, 2) }})
	_ = l.Append(context.Background(), []byte("hello"), false)
	_ = l.Append(context.Background(), []byte("world"), true)
	const want = "089696c7419d5fb1"
	if got := hex.EncodeToString(l.last[:8]); got != want {
		t.Errorf("the chain's hash is %s: its bytes have changed, which old logs do not survive", got)
	}
	_ = l.Close()
}

func TestConcurrentDurable(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Segment: 8192})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := l.Append(context.Background(), []byte("some record of some length"), i%2 == 0); err != nil {
					t.Error(err)
				}
				for !l.TryAppend([]byte("y"), time.Now()) {
					if err := l.Append(context.Background(), []byte("y"), false); err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(dir, "", ""); err != nil || rep.Records != 800 {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestRC01Killed kills a process that appends at a random moment: whatever it
// had been told was taken is in the chain.
func TestRC01Killed(t *testing.T) {
	if dir := os.Getenv("TASKGATE_TEST_AUDIT_CHILD"); dir != "" {
		l := open(t, dir, Options{Segment: 64 << 10})
		for i := 0; ; i++ {
			if !l.TryAppend(fmt.Appendf(nil, "record %d", i), time.Now()) {
				if err := l.Append(context.Background(), fmt.Appendf(nil, "record %d", i), false); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Println("taken", l.seq)
		}
	}
	for round := range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRC01Killed$")
		cmd.Env = append(os.Environ(), "TASKGATE_TEST_AUDIT_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		taken := uint64(0)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if s, ok := strings.CutPrefix(lines.Text(), "taken "); ok {
				taken, _ = strconv.ParseUint(s, 10, 64)
			}
			if n == 500+round*777 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		l, rec, err := Open(dir, Options{})
		if err != nil || taken == 0 || rec.Records < taken { // what was not yet taken may be torn, and is then reported
			t.Fatalf("taken %d, found %+v, %v", taken, rec, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(dir, "", ""); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkTryAppend(b *testing.B) {
	l := open(b, b.TempDir(), Options{})
	rec := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if !l.TryAppend(rec, time.Now()) {
			if err := l.Append(context.Background(), rec, false); err != nil {
				b.Fatal(err)
			}
		}
	}
	_ = l.Close()
}

// BenchmarkWrite is the plain way that TryAppend is held against: one write a record.
func BenchmarkWrite(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rec := make([]byte, 152)
	for b.Loop() {
		if _, err := f.Write(rec); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRC01FullDisk: with no room for another segment nothing begins any more,
// what ends is still recorded, and it goes on by itself once there is room.
func TestRC01FullDisk(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	l := open(t, dir, Options{Segment: 4096, Now: func() time.Time { return now }})
	ends := gate.Note(now, "gateway", strings.Repeat("x", 100))
	begins := append([]byte{8, byte(gate.EventCommand)}, make([]byte, 200)...)
	add := func(b []byte) error { return l.Append(context.Background(), b, false) }
	if err := add(begins); err != nil {
		t.Fatal(err)
	}
	l.allocate = func(*os.File, int64) error { return unix.ENOSPC }
	for l.full == nil { // the segment that has been allocated is used up to its beginning
		if err := add(begins); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(begins); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a command on a full disk: %v", err)
	}
	if l.TryAppend(begins, time.Now()) {
		t.Error("TryAppend lets it through")
	}
	for range 10 {
		if err := add(ends); err != nil {
			t.Errorf("what ends is not recorded: %v", err)
		}
	}
	l.allocate = allocate
	now = now.Add(time.Second)
	if err := add(begins); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	for range 40 {
		if err := add(begins); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(dir, "", ""); err != nil || len(rep.Torn) > 0 {
		t.Errorf("%+v %v", rep, err)
	}
}
