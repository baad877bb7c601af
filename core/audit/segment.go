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
	"time"

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
	if len(b) < segHead || string(b[:16]) != magic {
		return nil, fmt.Errorf("audit: %s has no head of a segment", filepath.Base(path))
	}
	s := &segment{b: b, at: segHead, first: binary.LittleEndian.Uint64(b[16:])}
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

// Read calls f with each record in order, without holding the log.
func Read(dir string, f func(Record) error) error {
	names, err := segments(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		s, err := openSegment(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		for at := s.at; s.next(); at = s.at {
			if err := f(Record{Segment: name, Offset: at, Seq: s.seq, Time: time.Unix(0, s.nanos).UTC(), Payload: s.payload}); err != nil {
				return err
			}
		}
	}
	return nil
}

func noteEvent(who, what string) []byte { return gate.Note(time.Now(), who, what) }
