// Package audit keeps the chained record of decisions: segment files of
// records, each with the SHA-256 of itself and everything before, and signed
// checkpoints over the chain. Verify finds what was changed, removed, added or
// torn.
//
// A segment is preallocated and mapped into memory, so that handing a record
// over is a copy into pages that belong to the system: they survive the end of
// the process. A durable append waits for the disk; those that wait together
// share one fsync.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/count"
)

// Sync says when a record has to be on disk.
type Sync string

// The modes of audit.sync.
const (
	SyncWrites   Sync = "writes"   // what the caller calls durable; everything else within 10 ms, or what the disk needs for five syncs
	SyncAlways   Sync = "always"   // every record, before Append returns
	SyncInterval Sync = "interval" // none waits, a timer syncs
)

// Options of a log. The zero value is usable.
type Options struct {
	Sync       Sync                     // default SyncWrites
	Segment    int                      // bytes of a segment file, default 16 MiB
	Witness    string                   // a file elsewhere that takes a copy of each checkpoint
	Checkpoint time.Duration            // between two checkpoints, default one minute
	Now        func() time.Time         // default time.Now
	Synced     func(took time.Duration) // is told of each sync to disk; may be nil
}

// The layout of a segment: a head of 64 bytes, then records of a head of 20
// bytes, the payload and 32 bytes of hash. Numbers are little-endian.
const (
	magic      = "taskgate-audit-1"
	segHead    = 64
	recHead    = 20 // u32 length, u64 sequence, u64 Unix ns
	recLength  = 4  // of it, the length
	hashSize   = sha256.Size
	maxPayload = 4 << 20
	fewBytes   = 512 // of most records, with the hash before them
	within     = 10 * time.Millisecond
	patience   = 10_000 // looks at a lock that is taken: some 5 µs
	slow       = 9      // times what a sync took is at least between two that nobody waits for
)

// Log appends records. It is safe for concurrent use.
type Log struct {
	dir    string
	opt    Options
	signer note.Signer
	lock   *os.File

	mu       sync.Mutex
	file     *os.File
	mem      []byte
	at       int
	unmapped int // up to here, of mem
	seq      uint64
	last     [hashSize]byte
	clock    int64
	err      error // sticky: a log that lost a record takes no more
	full     error // why there is no next segment: nothing may begin
	blind    error // why there is no checkpoint where one is due: nothing may begin
	tried    time.Time

	allocate func(f *os.File, size int64) error
	sync     func(f *os.File) error
	signed   uint64
	segment  int

	syncing sync.Mutex
	synced  uint64
}

// Recovery is what Open found of an earlier run.
type Recovery struct {
	Records uint64 // good ones
	Torn    *Torn  // nil where the log ended whole
}

// Torn is the tail that a crash of the machine left behind.
type Torn struct {
	Segment string
	Offset  int // of the first byte that is no whole record
	Bytes   int // up to the last that is not zero
	After   uint64
}

func (t *Torn) String() string {
	return fmt.Sprintf("%s: at offset %d no whole record follows, but %s; the last good one is %d", t.Segment, t.Offset, count.Of(t.Bytes, "byte"), t.After)
}

// ErrClosed is what a closed log answers.
var ErrClosed = errors.New("audit: the log is closed")

// Open opens the log in dir, making it and its signing key where there is
// none. A second process that opens it is refused.
func Open(dir string, opt Options) (*Log, Recovery, error) {
	return begin(dir, opt, datasync)
}

func begin(dir string, opt Options, sync func(*os.File) error) (*Log, Recovery, error) {
	l := &Log{dir: dir, opt: opt, allocate: allocate, sync: sync}
	if l.opt.Sync == "" {
		l.opt.Sync = SyncWrites
	}
	if l.opt.Segment == 0 {
		l.opt.Segment = 16 << 20
	}
	if l.opt.Checkpoint == 0 {
		l.opt.Checkpoint = time.Minute
	}
	if l.opt.Now == nil {
		l.opt.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Recovery{}, fmt.Errorf("audit: %w", err)
	}
	var err error
	if l.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, Recovery{}, fmt.Errorf("audit: %w", err)
	}
	for tries := 0; ; tries++ { // a verifier that looks whether it is in use holds it for a moment
		if err = unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || tries == 5 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		l.lock.Close()
		return nil, Recovery{}, fmt.Errorf("audit: %s is in use by another process", dir)
	}
	rec, err := l.recover()
	if err == nil {
		l.signer, err = l.key()
	}
	if err == nil {
		err = l.prepare()
	}
	if err == nil {
		err = l.rotate()
	}
	if err == nil && rec.Torn != nil {
		err = l.Append(context.Background(), recovered(rec.Torn), true)
	}
	if err != nil {
		l.lock.Close()
		return nil, rec, err
	}
	return l, rec, nil
}

// recovered is the payload that tells of a torn tail: a note in the form of
// the gate's events.
func recovered(t *Torn) []byte {
	return noteEvent("gateway", "audit: recovered: "+t.String())
}

// recover finds where the chain ends.
func (l *Log) recover() (rec Recovery, err error) {
	names, err := segments(l.dir)
	if err != nil {
		return rec, err
	}
	for i, name := range names {
		s, err := openSegment(filepath.Join(l.dir, name))
		if err != nil {
			return rec, err
		}
		if s.first != l.seq+1 || s.prev != l.last {
			return rec, fmt.Errorf("audit: %s does not follow the segment before it: run `taskgate audit verify`", name)
		}
		for s.next() {
			l.seq, l.last, l.clock = s.seq, s.sum, s.nanos
			rec.Records++
		}
		if s.fault != nil && i == len(names)-1 { // an earlier one has been reported by an earlier start
			rec.Torn = &Torn{Segment: name, Offset: s.at, Bytes: s.tail(), After: l.seq}
		}
	}
	l.synced, l.signed, l.segment = l.seq, l.seq, len(names)
	return rec, nil
}

// ahead is the next segment's file, whose blocks are allocated beforehand.
const ahead = "next"

// prepare allocates the next segment, so that a full disk is known of while
// there is a whole segment left: from then on only what ends is taken. The
// caller holds mu, or is Open.
func (l *Log) prepare() (err error) {
	defer func() {
		if l.full = err; err != nil {
			l.tried = l.opt.Now()
		}
	}()
	path := filepath.Join(l.dir, ahead)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	if err := l.allocate(f, int64(l.opt.Segment)); err != nil {
		os.Remove(path)
		return fmt.Errorf("audit: %s: %w", path, err)
	}
	return nil
}

// allocate gives a file its blocks.
func allocate(f *os.File, size int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, size) }

// datasync puts on disk what a file holds and what is needed to find it again.
// When it was written does not wait for a disk: its blocks are there already.
func datasync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if raw.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Fdatasync(int(fd))
		}
	}) != nil {
		return os.ErrClosed
	}
	if err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// rotate ends the present segment and goes on in the next. It gets its name
// once its head is on disk: a segment without one does not exist. The caller
// holds mu, or is Open.
func (l *Log) rotate() error {
	if l.full != nil {
		if err := l.prepare(); err != nil {
			return err
		}
	}
	next := filepath.Join(l.dir, ahead)
	f, err := os.OpenFile(next, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, l.opt.Segment, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return fmt.Errorf("audit: %s: %w", next, err)
	}
	if l.file != nil {
		if err := l.finish(); err != nil {
			l.err = err
			return err
		}
	}
	copy(mem, magic)
	binary.LittleEndian.PutUint64(mem[16:], l.seq+1)
	copy(mem[24:], l.last[:])
	l.segment++
	l.file, l.mem, l.at, l.unmapped = f, mem, segHead, 0
	if err = l.sync(f); err == nil {
		if err = os.Rename(next, filepath.Join(l.dir, fmt.Sprintf("%08d.log", l.segment))); err == nil {
			err = l.syncDir()
		}
	}
	if err != nil {
		l.err = fmt.Errorf("audit: %w", err)
		return l.err
	}
	_ = l.prepare() // a full disk is noticed now, and stops what begins
	return nil
}

// finish syncs, cuts and closes the present segment.
func (l *Log) finish() error {
	err := l.sync(l.file)
	if e := unix.Munmap(l.mem); err == nil {
		err = e
	}
	if e := l.file.Truncate(int64(l.at)); err == nil {
		err = e
	}
	if e := l.file.Close(); err == nil {
		err = e
	}
	l.file, l.mem = nil, nil
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Append implements gate.Log.
func (l *Log) Append(_ context.Context, payload []byte, durable bool) error {
	l.mu.Lock()
	err := l.fits(len(payload))
	if err == nil && (l.full != nil || l.blind != nil) && !gate.Ends(payload) {
		err = l.short()
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	if l.at+recHead+len(payload)+hashSize > len(l.mem) {
		if err := l.rotate(); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	seq := l.put(payload, l.opt.Now())
	l.mu.Unlock()
	if durable && l.opt.Sync != SyncInterval || l.opt.Sync == SyncAlways {
		return l.flush(seq)
	}
	return nil
}

// TryAppend implements gate.Log.
func (l *Log) TryAppend(payload []byte, now time.Time) bool {
	if l.opt.Sync == SyncAlways {
		return false
	}
	l.acquire()
	defer l.mu.Unlock()
	if l.fits(len(payload)) != nil || l.full != nil || l.blind != nil || l.at+recHead+len(payload)+hashSize > len(l.mem) {
		return false
	}
	l.put(payload, now)
	return true
}

// acquire locks mu, for which others wait for a few µs at the most. Whoever carries
// bytes has a thread of its own, and one that sleeps for a lock is woken by another
// that is woken for that.
func (l *Log) acquire() {
	for range patience {
		if l.mu.TryLock() {
			return
		}
	}
	l.mu.Lock()
}

// short looks, once a second, whether there is room for another segment again.
func (l *Log) short() error {
	if l.full != nil && l.opt.Now().Sub(l.tried) >= time.Second {
		_ = l.prepare()
	}
	switch {
	case l.full != nil:
		return fmt.Errorf("audit: no room for another segment, so that only what ends is recorded: %w", l.full)
	case l.blind != nil:
		return fmt.Errorf("audit: no checkpoint can be written, so that only what ends is recorded: %w", l.blind)
	}
	return nil
}

// Err says why nothing that begins can be recorded, nil where it can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && l.full != nil {
		return l.short()
	}
	return l.err
}

func (l *Log) fits(n int) error {
	if l.err != nil {
		return l.err
	}
	if n == 0 || n > maxPayload || segHead+recHead+n+hashSize > l.opt.Segment {
		return fmt.Errorf("audit: a record of %d bytes", n)
	}
	return nil
}

func (l *Log) put(payload []byte, now time.Time) uint64 {
	l.seq++
	// The clock never goes back in the chain, whatever the machine's does.
	l.clock = max(l.clock, now.UnixNano())
	var h [recHead]byte
	binary.LittleEndian.PutUint32(h[:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(h[recLength:], l.seq)
	binary.LittleEndian.PutUint64(h[recLength+8:], uint64(l.clock))
	l.last = chain(&l.last, &h, payload)
	m := l.mem[l.at:]
	copy(m[recLength:], h[recLength:])
	copy(m[recHead:], payload)
	copy(m[recHead+len(payload):], l.last[:])
	// The length last: until it is there, the record is not.
	copy(m, h[:recLength])
	l.at += recHead + len(payload) + hashSize
	return l.seq
}

// chain gives the hash of a record and of everything before.
func chain(last *[hashSize]byte, head *[recHead]byte, payload []byte) [hashSize]byte {
	var room [fewBytes]byte // here and not in the log, whose memory is another processor's as often as not
	if b := append(append(room[:0], last[:]...), head[:]...); len(b)+len(payload) <= len(room) {
		return sha256.Sum256(append(b, payload...))
	}
	h := sha256.New()
	h.Write(last[:])
	h.Write(head[:])
	h.Write(payload)
	return [hashSize]byte(h.Sum(nil))
}

// flush returns once record seq is on disk. Whoever comes while another
// flushes finds, more often than not, that its own record went with it.
func (l *Log) flush(seq uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= seq {
		return nil
	}
	l.mu.Lock()
	f, upto, err := l.file, l.seq, l.err
	if err == nil {
		l.unmap()
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	began := time.Now()
	err = l.sync(f)
	if l.opt.Synced != nil {
		l.opt.Synced(time.Since(began))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrClosed) {
		l.err = fmt.Errorf("audit: %w", err)
	}
	if l.err != nil { // a segment that was ended meanwhile has been synced, or that is the error
		return l.err
	}
	l.synced = upto
	return nil
}

// unmap takes what was written since the last time out of the memory map at once;
// it stays in the file's pages. A sync would take each page out of it by itself,
// with an interrupt for every other processor. The caller holds mu.
func (l *Log) unmap() {
	page := os.Getpagesize()
	from, to := l.unmapped/page*page, min((l.at+page-1)/page*page, len(l.mem))
	l.unmapped = l.at
	_ = unix.Madvise(l.mem[from:to], unix.MADV_DONTNEED) // it merely costs more where the system does not
}

// Run syncs what nobody waits for and signs checkpoints, until ctx is done. A
// checkpoint that cannot be written is tried again every second; until then
// nothing may begin.
func (l *Log) Run(ctx context.Context) error {
	wait := time.NewTimer(within)
	defer wait.Stop()
	next := l.opt.Now().Add(l.opt.Checkpoint)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		l.mu.Lock()
		seq := l.seq
		l.mu.Unlock()
		began := time.Now()
		if err := l.flush(seq); err != nil {
			return err
		}
		wait.Reset(max(within, slow*time.Since(began)))
		if now := l.opt.Now(); now.After(next) {
			next = now.Add(l.opt.Checkpoint)
			err := l.checkpoint()
			if err != nil {
				next = now.Add(min(time.Second, l.opt.Checkpoint))
			}
			l.mu.Lock()
			l.blind = err
			l.mu.Unlock()
		}
	}
}

// Close signs a last checkpoint and ends the log.
func (l *Log) Close() error {
	err := l.checkpoint()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		if e := l.finish(); err == nil {
			err = e
		}
	}
	l.err = ErrClosed
	if e := l.lock.Close(); err == nil {
		err = e
	}
	return err
}

// syncDir makes the names in the log's directory last.
func (l *Log) syncDir() error {
	d, err := os.Open(l.dir)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer d.Close()
	if err := l.sync(d); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
