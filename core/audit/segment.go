package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/gate"
)

// segments gives the names of the segment files, in order; a gap is a fault.
func segments(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	sort.Strings(paths)
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = filepath.Base(p)
		if want := fmt.Sprintf("%08d.log", i+1); names[i] != want {
			return nil, fmt.Errorf("audit: the segment %s is missing", want)
		}
	}
	return names, nil
}

// segment walks the records of one file.
type segment struct {
	path  string
	b     []byte
	at    int // of the next record
	first uint64
	prev  [hashSize]byte

	seq     uint64 // of the record that next found
	nanos   int64
	payload []byte
	sum     [hashSize]byte
	fault   error // why next stopped, nil at a clean end
}

func openSegment(path string) (*segment, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(b) < segHead || string(b[:16]) != magic || len(bytes.Trim(b[56:segHead], "\x00")) > 0 {
		return nil, fmt.Errorf("audit: %s has no head of a segment", filepath.Base(path))
	}
	s := &segment{path: path, b: b, at: segHead, first: binary.LittleEndian.Uint64(b[16:])}
	s.prev = [hashSize]byte(b[24:])
	s.seq, s.sum = s.first-1, s.prev
	return s, nil
}

// next moves to the next record. It reports false at the end, or at what is no
// whole record that follows the one before, which fault then names.
func (s *segment) next() bool {
	rest := s.b[s.at:]
	if len(bytes.Trim(rest[:min(len(rest), recHead)], "\x00")) == 0 {
		if s.tail() > 0 {
			s.fault = errors.New("there is something behind the end")
		}
		return false
	}
	if len(rest) < recHead {
		s.fault = errors.New("the record is cut short")
		return false
	}
	n := int(binary.LittleEndian.Uint32(rest))
	switch {
	case n == 0 || n > maxPayload || recHead+n+hashSize > len(rest):
		s.fault = errors.New("the record is cut short")
		return false
	case binary.LittleEndian.Uint64(rest[4:]) != s.seq+1:
		s.fault = fmt.Errorf("the record says it is number %d", binary.LittleEndian.Uint64(rest[4:]))
		return false
	}
	h := sha256.New()
	h.Write(s.sum[:])
	h.Write(rest[:recHead+n])
	if sum := h.Sum(nil); !bytes.Equal(sum, rest[recHead+n:recHead+n+hashSize]) {
		s.fault = errors.New("the record does not match its hash")
		return false
	}
	s.seq++
	s.nanos = int64(binary.LittleEndian.Uint64(rest[12:]))
	s.payload = rest[recHead : recHead+n]
	s.sum = [hashSize]byte(rest[recHead+n:])
	s.at += recHead + n + hashSize
	return true
}

// tail is how many bytes follow, without the zeros of a preallocated file.
func (s *segment) tail() int { return len(bytes.TrimRight(s.b[s.at:], "\x00")) }

// Record is one record, read back. Payload is valid until the callback returns.
type Record struct {
	Segment string
	Offset  int
	Seq     uint64
	Time    time.Time
	Payload []byte
}

// Read calls f with each record in order, without holding the log. What is no
// whole log gives what there is before the fault, and then the fault.
func Read(dir string, f func(Record) error) error {
	_, err := walk(dir, func(r Record, _ [hashSize]byte) error { return f(r) })
	return err
}

// walk calls f with each record and the hash of the chain there. It gives the
// torn tails that a later start has reported in the log itself; the error names
// the first record that is not what it was.
func walk(dir string, f func(r Record, sum [hashSize]byte) error) (torn []Torn, err error) {
	names, err := segments(dir)
	if err != nil {
		return nil, err
	}
	live := inUse(dir)
	var seq uint64
	var last [hashSize]byte
	var tail *Torn // that no record has told of yet
	var fault error
	var clock int64
	unreported := func() error {
		return &Bad{tail.Segment, tail.Offset, tail.After + 1, fault.Error() + ", and no start has reported it"}
	}
	for i, name := range names {
		s, err := openSegment(filepath.Join(dir, name))
		if err != nil {
			return torn, err
		}
		if s.first != seq+1 || s.prev != last {
			switch {
			case tail != nil:
				return torn, unreported()
			case s.first > seq+1:
				return torn, &Bad{name, 0, seq + 1, fmt.Sprintf("it is missing: the segment goes on with record %d", s.first)}
			}
			return torn, &Bad{name, 0, s.first, fmt.Sprintf("the segment does not follow record %d", seq)}
		}
		final := i == len(names)-1
		for at := s.at; s.next() || final && live && s.again(); at = s.at {
			if tail != nil {
				e, err := gate.ReadEvent(s.payload)
				if err != nil || e.Kind != gate.EventNote || !strings.Contains(e.Why, tail.String()) {
					return torn, unreported()
				}
				torn, tail = append(torn, *tail), nil
			}
			if s.nanos < clock {
				return torn, &Bad{name, at, s.seq, "its time is before that of the record before it"}
			}
			seq, last, clock = s.seq, s.sum, s.nanos
			if err := f(Record{Segment: name, Offset: at, Seq: seq, Time: time.Unix(0, s.nanos).UTC(), Payload: s.payload}, last); err != nil {
				return torn, err
			}
		}
		if s.fault != nil {
			tail, fault = &Torn{Segment: name, Offset: s.at, Bytes: s.tail(), After: seq}, s.fault
		}
	}
	if tail != nil {
		return torn, unreported()
	}
	return torn, nil
}

// again looks once more at a record that the gateway may be writing just now.
func (s *segment) again() bool {
	for range 20 {
		if s.fault == nil {
			return false
		}
		time.Sleep(5 * time.Millisecond)
		b, err := os.ReadFile(s.path)
		if err != nil || len(b) < s.at {
			return false
		}
		if s.b, s.fault = b, nil; s.next() {
			return true
		}
	}
	return false
}

// inUse says whether a gateway writes the log now.
func inUse(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func noteEvent(who, what string) []byte { return gate.Note(time.Now(), who, what) }
