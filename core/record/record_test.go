package record

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

func TestRecordReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	r, err := Open(dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	rec, err := r.Record("ab12")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := rec.Append(gate.Note(time.Unix(5, 0), "ada", "x\x1b[2J\ny")); err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	path, _ := Path(dir, "ab12")
	n := 0
	if err := Read(path, func(e *gate.Event) error {
		if n++; e.Kind != gate.EventNote || e.Subject != "ada" {
			t.Errorf("%+v", e)
		}
		return nil
	}); err != nil || n != 1000 {
		t.Error(n, err)
	}
	var out bytes.Buffer
	if err := JSON(&out, path); err != nil || strings.Count(out.String(), "\n") != 1001 {
		t.Error(err)
	}
	b, _ := os.ReadFile(path)
	_ = os.WriteFile(path, b[:len(b)-3], 0o600)
	n = 0
	if err := Read(path, func(*gate.Event) error { n++; return nil }); !errors.Is(err, ErrTorn) || n != 999 {
		t.Errorf("RC01: %d events, %v", n, err)
	}
	if err := rec.Append([]byte("x")); err == nil {
		t.Error("a closed recording took an event")
	}
}

func TestRC11Names(t *testing.T) {
	for _, id := range []string{"", "../x", "a/b", "A", "x\x00", strings.Repeat("a", 65)} {
		if _, err := Path("d", id); err == nil {
			t.Errorf("%q is taken as an id", id)
		}
	}
	dir := filepath.Join(t.TempDir(), "recordings")
	r, _ := Open(dir, 0)
	rec, err := r.Record("aa")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if _, err := r.Record("aa"); err == nil {
		t.Error("RC05: two writers of one recording")
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(elsewhere, filepath.Join(dir, "bb"+Extension)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Record("bb"); err == nil {
		t.Error("a recording was written through a link")
	}
}

func TestX18Escape(t *testing.T) {
	if got := Escape("a\x1b[2J\r\n\u202eé\xff"); strings.ContainsAny(got, "\x1b\r\n\u202e") || !strings.Contains(got, "é") {
		t.Errorf("%q", got)
	}
	seen := map[string]string{}
	for _, s := range []string{"a\x1b", `a\u001b`, "a\n", `a\n`, "\xff", `\xff`, "\ufffd", "é", "\u202e", "", "NULL"} {
		if other, ok := seen[Escape(s)]; ok {
			t.Errorf("%q and %q look the same", s, other)
		}
		seen[Escape(s)] = s
	}
}

func TestDiskError(t *testing.T) {
	r, _ := Open(filepath.Join(t.TempDir(), "recordings"), 0)
	rec, err := r.Record("aa")
	if err != nil {
		t.Fatal(err)
	}
	_ = rec.(*Recording).f.Close() // every write fails from here on
	_ = rec.Append([]byte("x"))
	r.flush()
	if rec.Append([]byte("x")) == nil {
		t.Error("RC02: the session is not told that its recording fails")
	}
}

func BenchmarkAppend(b *testing.B) {
	r, _ := Open(filepath.Join(b.TempDir(), "recordings"), 0)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	rec, err := r.Record("aa")
	if err != nil {
		b.Fatal(err)
	}
	event := make([]byte, 90)
	b.ReportAllocs()
	for b.Loop() {
		if err := rec.Append(event); err != nil {
			b.Fatal(err)
		}
	}
	_ = rec.Close()
	cancel()
	<-done
}
