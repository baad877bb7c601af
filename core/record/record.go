// Package record keeps recordings: one file a session, the gate's events in
// order, each behind its length. Sessions append to memory; one flusher writes
// for all of them.
package record

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

const (
	magic   = "taskgate-recording-1\n"
	every   = 50 * time.Millisecond
	enough  = 64 << 10 // buffered bytes that wake the flusher
	most    = 4 << 20  // buffered bytes at which a session waits for the disk
	maxSize = 16 << 20 // of one event
)

// Extension ends a recording's name.
const Extension = ".tgr"

// Recorder keeps recordings in a directory. Run has to run while sessions do.
type Recorder struct {
	dir  string
	head int

	mu    sync.Mutex
	dirty []*Recording
	wake  chan struct{}
}

// Open makes the directory, mode 0700. head is how many bytes of each result
// are kept.
func Open(dir string, head int) (*Recorder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	} else if st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("record: others can read %s, and so what every session saw: chmod o= it", dir)
	}
	return &Recorder{dir: dir, head: head, wake: make(chan struct{}, 1)}, nil
}

// Path gives the file of a session's recording. An id that is not one that the
// gate makes is refused, so that no name leaves the directory.
func Path(dir, session string) (string, error) {
	if session == "" || len(session) > 64 {
		return "", fmt.Errorf("record: %q is not the id of a session", session)
	}
	for _, c := range session {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("record: %q is not the id of a session", session)
		}
	}
	return filepath.Join(dir, session+Extension), nil
}

// Record implements gate.Recorder.
func (r *Recorder) Record(session string) (gate.Recording, error) {
	path, err := Path(r.dir, session)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if _, err := f.WriteString(magic); err != nil {
		f.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &Recording{r: r, f: f}, nil
}

// Run writes what sessions have appended, until ctx is done; then it writes
// what is left.
func (r *Recorder) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			r.flush()
			return nil
		case <-t.C:
		case <-r.wake:
		}
		r.flush()
	}
}

func (r *Recorder) flush() {
	r.mu.Lock()
	list := r.dirty
	r.dirty = nil
	r.mu.Unlock()
	for _, rec := range list {
		rec.flush()
	}
}

// Recording is one session's. It implements gate.Recording.
type Recording struct {
	r *Recorder

	mu     sync.Mutex
	f      *os.File
	buf    []byte
	queued bool
	err    error // what the flusher met; the session ends with it

	writing sync.Mutex
	spare   []byte
}

// Head implements gate.Recording.
func (c *Recording) Head() int { return c.r.head }

// Append implements gate.Recording.
func (c *Recording) Append(event []byte) error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.buf = binary.AppendUvarint(c.buf, uint64(len(event)))
	c.buf = append(c.buf, event...)
	n, queued := len(c.buf), c.queued
	c.queued = true
	c.mu.Unlock()
	if !queued {
		c.r.mu.Lock()
		c.r.dirty = append(c.r.dirty, c)
		c.r.mu.Unlock()
	}
	if n > enough {
		select {
		case c.r.wake <- struct{}{}:
		default:
		}
	}
	if n > most { // the disk is slower than the session: it waits for the disk itself
		c.flush()
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	}
	return nil
}

func (c *Recording) flush() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	out := c.buf
	c.buf, c.queued = c.spare[:0], false
	f, err := c.f, c.err
	c.mu.Unlock()
	c.spare = nil
	if len(out) > 0 && f != nil && err == nil { // behind a write that failed half-way nothing more can be read
		if _, err := f.Write(out); err != nil {
			c.mu.Lock()
			c.err = fmt.Errorf("record: %w", err)
			c.mu.Unlock()
		}
	}
	if cap(out) <= 8*enough {
		c.spare = out[:0]
	}
}

// Close implements gate.Recording.
func (c *Recording) Close() error {
	c.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return c.err
	}
	err := c.f.Close()
	c.f = nil
	if c.err == nil {
		c.err = errors.New("record: the recording is closed")
		return err
	}
	return c.err
}

// ErrTorn says that a recording ends in the middle of an event: its gateway was
// killed, or its session goes on.
var ErrTorn = errors.New("the recording ends in the middle of an event")

// Read calls f with each event of a recording, in order. A torn end is
// reported as ErrTorn after everything before it.
func Read(path string, f func(*gate.Event) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 64<<10)
	head := make([]byte, len(magic))
	n, err := io.ReadFull(r, head)
	if string(head[:n]) != magic[:n] {
		return fmt.Errorf("record: %s is not a recording", path)
	}
	at, torn := int64(n), fmt.Errorf("record: %s: offset %d: %w", path, n, ErrTorn)
	if err != nil {
		return torn
	}
	var event []byte
	for {
		size, err := binary.ReadUvarint(r)
		switch {
		case err == io.EOF:
			return nil
		case err == io.ErrUnexpectedEOF:
			return torn
		case err != nil:
			return fmt.Errorf("record: %s: offset %d: %w", path, at, err)
		case size > maxSize:
			return fmt.Errorf("record: %s: offset %d: an event of %d bytes", path, at, size)
		}
		event = append(event[:0], make([]byte, size)...)
		if _, err := io.ReadFull(r, event); err == io.EOF || err == io.ErrUnexpectedEOF {
			return torn
		} else if err != nil {
			return fmt.Errorf("record: %s: offset %d: %w", path, at, err)
		}
		e, err := gate.ReadEvent(event)
		if err != nil {
			return fmt.Errorf("record: %s: offset %d: %w", path, at, err)
		}
		if err := f(e); err != nil {
			return err
		}
		at += int64(len(binary.AppendUvarint(nil, size))) + int64(size)
		torn = fmt.Errorf("record: %s: offset %d: %w", path, at, ErrTorn)
	}
}
