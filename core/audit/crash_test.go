package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/gate"
)

// disk is what would be left after the power went: the content that a file had
// when it was last synced, under the names that its directory had when that was.
type disk struct {
	t       *testing.T
	fail    int // of the syncs, counted from 1, the one that fails
	syncs   int
	names   map[string]uint64
	content map[uint64][]byte
}

func inode(st os.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Ino }

func (d *disk) sync(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if d.syncs++; d.syncs == d.fail {
		return &os.PathError{Op: "sync", Path: f.Name(), Err: unix.EIO}
	}
	if !st.IsDir() {
		if d.content[inode(st)], err = os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil {
			d.t.Error(err)
		}
		return nil
	}
	entries, err := os.ReadDir(f.Name())
	if err != nil {
		d.t.Error(err)
	}
	clear(d.names)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			d.t.Error(err)
		}
		d.names[e.Name()] = inode(st)
	}
	return nil
}

// after writes what is left to a directory of its own. Of what was written since
// the last sync some sectors have arrived and others have not, as chance has it.
func (d *disk) after(now string, chance *rand.Rand) string {
	dir := d.t.TempDir()
	for name, ino := range d.names {
		b := bytes.Clone(d.content[ino])
		if live, err := os.ReadFile(filepath.Join(now, name)); err == nil && strings.HasSuffix(name, ".log") {
			for at := 0; at < min(len(live), len(b)); at += 512 {
				if chance.IntN(2) == 0 {
					copy(b[at:min(at+512, len(b))], live[at:])
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(now, "checkpoints")); err == nil { // synced line by line
		if err := os.WriteFile(filepath.Join(dir, "checkpoints"), b, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	return dir
}

// TestRC01PowerCut: the power goes after every sync, and every sync fails once:
// whatever Append called durable is there afterwards, and the chain verifies, or
// has a torn tail that is reported.
func TestRC01PowerCut(t *testing.T) {
	for k := 1; ; k++ {
		dir, d := t.TempDir(), &disk{t: t, fail: k, names: map[string]uint64{}, content: map[uint64][]byte{}}
		chance := rand.New(rand.NewPCG(uint64(k), 1))
		l, _, err := begin(dir, Options{Segment: 2048}, d.sync)
		kept := map[string]bool{}
		var failed error
		for i := 0; err == nil && i < 60; i++ {
			text := fmt.Sprintf("record %d of some length %0*d", i, i%40, 0)
			e := l.Append(context.Background(), []byte(text), i%3 == 0)
			switch {
			case e == nil && failed != nil:
				t.Fatalf("sync %d failed, and record %d was still taken", k, i)
			case e != nil:
				failed = e
			case i%3 == 0:
				kept[text] = true
			}
			if i%20 == 19 {
				if e := l.checkpoint(); e != nil {
					failed = e
				}
			}
		}
		if k <= d.syncs && err == nil && failed == nil {
			t.Errorf("sync %d failed and nobody was told", k)
		}
		cut := d.after(dir, chance)
		if l != nil {
			_ = l.Close()
		}
		found := map[string]bool{}
		again, _, err := Open(cut, Options{Segment: 2048})
		if err != nil {
			t.Fatalf("sync %d: %v", k, err)
		}
		fill(t, again, 3)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		if _, err := Verify(cut, "", ""); err != nil {
			t.Errorf("sync %d: %v", k, err)
		}
		if err := Read(cut, func(r Record) error { found[string(r.Payload)] = true; return nil }); err != nil {
			t.Error(err)
		}
		for text := range kept {
			if !found[text] {
				t.Errorf("sync %d: %q was durable and is gone", k, text)
			}
		}
		if k > d.syncs {
			return
		}
	}
}

// TestRC01EveryStore: the process is killed after each byte of a record that it
// writes. What there is verifies, or is a torn tail of exactly those bytes.
func TestRC01EveryStore(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Segment: 1024})
	fill(t, l, 3)
	end := l.at
	fill(t, l, 1)
	b := bytes.Clone(l.mem)
	n := l.at - end
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key, pub := read(t, dir, "key"), read(t, dir, "key.pub")
	for stored := range n + 1 {
		image := bytes.Clone(b)
		if stored < 4 { // the length comes last
			clear(image[end+stored:])
		}
		clear(image[end:])
		if stored < n {
			copy(image[end+4:min(end+4+stored, end+n)], b[end+4:])
		} else {
			copy(image[end:], b[end:])
		}
		cut := t.TempDir()
		write(t, cut, "key", key)
		write(t, cut, "key.pub", pub)
		write(t, cut, "00000001.log", image)
		bytesLeft := len(bytes.TrimRight(image[end:], "\x00"))
		whole := binary.LittleEndian.Uint32(image[end:]) != 0
		if _, err := Verify(cut, "", ""); (err == nil) != (whole || bytesLeft == 0) {
			t.Errorf("after %d bytes: %v", stored, err)
		}
		l, rec, err := Open(cut, Options{Segment: 1024})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case whole && (rec.Torn != nil || rec.Records != 4), !whole && rec.Records != 3, !whole && bytesLeft == 0 && rec.Torn != nil:
			t.Errorf("after %d bytes: %+v", stored, rec)
		case !whole && bytesLeft > 0 && (rec.Torn == nil || rec.Torn.Offset != end || rec.Torn.Bytes != bytesLeft || rec.Torn.After != 3):
			t.Errorf("after %d bytes: %+v", stored, rec.Torn)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := Verify(cut, "", ""); err != nil {
			t.Errorf("after %d bytes: %v", stored, err)
		}
	}
}

// TestRC01Checkpoints: no checkpoint, nothing begins; what ends is recorded, and
// it goes on by itself. One that was cut short is reported and hurts nothing.
func TestRC01Checkpoints(t *testing.T) {
	dir := t.TempDir()
	witness := filepath.Join(t.TempDir(), "witness")
	l := open(t, dir, Options{Witness: "/dev/full", Checkpoint: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	begins := []byte{8, byte(gate.EventCommand)}
	var err error
	for err == nil {
		err = l.Append(t.Context(), begins, false)
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, unix.ENOSPC) || l.TryAppend(begins, time.Now()) {
		t.Error("something begins without a checkpoint:", err)
	}
	if err := l.Append(t.Context(), gate.Note(time.Now(), "gateway", "x"), true); err != nil {
		t.Error("what ends is not recorded:", err)
	}
	l.mu.Lock()
	l.opt.Witness = witness
	l.mu.Unlock()
	for err != nil {
		err = l.Append(t.Context(), begins, false)
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{filepath.Join(dir, "checkpoints"), witness} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[:len(b)-40], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if rep, err := Verify(dir, "", witness); err != nil || len(rep.TornLines) != 2 {
		t.Errorf("%+v %v", rep, err)
	}
	l = open(t, dir, Options{Witness: witness})
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(dir, "", witness); err != nil || len(rep.TornLines) != 2 || rep.Signed != rep.Records {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestRC01Key: a crash while the key is made leaves a log that starts.
func TestRC01Key(t *testing.T) {
	whole := t.TempDir()
	if err := open(t, whole, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, left := range [][]string{{}, {"key.pub"}, {"key.pub", "key.new"}, {"key.pub.new"}} {
		dir := t.TempDir()
		for _, name := range left {
			write(t, dir, name, []byte("half"))
		}
		l := open(t, dir, Options{})
		fill(t, l, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if rep, err := Verify(dir, "", ""); err != nil || rep.Signed != 1 {
			t.Errorf("%v: %+v %v", left, rep, err)
		}
	}
}

// TestRC01FinishFails: whoever waits for a record in a segment that is ended
// meanwhile hears that it could not be synced.
func TestRC01FinishFails(t *testing.T) {
	l := open(t, t.TempDir(), Options{Segment: 1024})
	if err := l.Append(t.Context(), []byte("x"), false); err != nil {
		t.Fatal(err)
	}
	l.sync = func(f *os.File) error {
		l.sync = func(*os.File) error { return unix.EIO } // of the segment's end
		l.mu.Lock()
		_ = l.rotate()
		l.mu.Unlock()
		return os.ErrClosed
	}
	if err := l.flush(1); !errors.Is(err, unix.EIO) {
		t.Error("a record that is not on disk counts as durable:", err)
	}
	_ = l.Close()
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
