package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// The types of packets of version 3.
const (
	typeInit     = 1
	typeVersion  = 2
	typeOpen     = 3
	typeClose    = 4
	typeRead     = 5
	typeWrite    = 6
	typeLstat    = 7
	typeFstat    = 8
	typeSetstat  = 9
	typeFsetstat = 10
	typeOpendir  = 11
	typeReaddir  = 12
	typeRemove   = 13
	typeMkdir    = 14
	typeRmdir    = 15
	typeRealpath = 16
	typeStat     = 17
	typeRename   = 18
	typeReadlink = 19
	typeSymlink  = 20
	typeStatus   = 101
	typeHandle   = 102
	typeData     = 103
	typeName     = 104
	typeAttrs    = 105
	typeExtended = 200
	typeReply    = 201 // to an extended request
)

// The codes of a status.
const (
	codeOK          = 0
	codeEOF         = 1
	codeNoSuchFile  = 2
	codeDenied      = 3
	codeFailure     = 4
	codeBadMessage  = 5
	codeUnsupported = 8
)

// codes are the words that a status has, as OpenSSH's server says them.
var codes = [...]string{"Success", "End of file", "No such file", "Permission denied", "Failure", "Bad message", "No connection", "Connection lost", "Operation unsupported"}

const (
	maxPacket = 256 << 10 // without its length, as OpenSSH has it
	maxData   = maxPacket - 1024
	headroom  = 512      // before what is read: a handle of the host's may be longer than ours
	firstRoom = 64 << 10 // of a buffer, which grows to the largest packet that comes
	small     = 1 << 10  // what is moved rather than written by itself
	enough    = 32 << 10 // what is written without waiting for more
)

var errPacket = errors.New("sftp: malformed packet")

// sink writes whole packets to one side, from whoever has some.
type sink struct {
	mu sync.Mutex
	w  io.Writer
}

func (k *sink) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.w.Write(b)
	return err
}

// stream reads the packets of one side and hands them to the other, in one
// buffer: what goes on is written from where it was read, and packets that
// follow one another go in one write.
type stream struct {
	from io.Reader
	to   *sink
	buf  []byte
	a, b int    // what waits to be written
	r, w int    // what was read and not yet taken
	idle func() // is told when all of it has been passed on; may be nil
}

func newStream(from io.Reader, to *sink) stream {
	return stream{from: from, to: to, buf: make([]byte, firstRoom), r: headroom, w: headroom}
}

// next gives where the next packet is, its length included. It stays there until
// next is called again. What waits is written before anything is waited for.
func (s *stream) next() (start, end int, err error) {
	for {
		need := 5
		if s.w-s.r >= 4 {
			n := binary.BigEndian.Uint32(s.buf[s.r:])
			if n < 1 || n > maxPacket {
				return 0, 0, fmt.Errorf("%w: its length is %d, of at most %d", errPacket, n, maxPacket)
			}
			need = 4 + int(n)
			if s.w-s.r >= need {
				start, end = s.r, s.r+need
				s.r = end
				return start, end, nil
			}
		}
		if err := s.flush(); err != nil {
			return 0, 0, err
		}
		s.room(need)
		if s.idle != nil {
			s.idle()
		}
		n, err := s.from.Read(s.buf[s.w:])
		s.w += n
		if err != nil && n == 0 {
			if err == io.EOF && s.r != s.w {
				err = io.ErrUnexpectedEOF
			}
			return 0, 0, err
		}
	}
}

// room makes place for a packet of so many bytes. Nothing waits to be written.
func (s *stream) room(need int) {
	buf := s.buf
	if headroom+need > len(buf) {
		buf = make([]byte, headroom+need)
	} else if s.r != s.w && s.r+need <= len(buf) && s.w < len(buf) {
		return
	}
	s.w = headroom + copy(buf[headroom:], s.buf[s.r:s.w])
	s.r, s.buf = headroom, buf
}

// pass makes buf[start:end] go on, behind what waits already. It must be in what
// was taken.
func (s *stream) pass(start, end int) error {
	if start < s.b {
		if err := s.flush(); err != nil {
			return err
		}
	}
	switch {
	case s.a == s.b:
		s.a, s.b = start, end
	case start == s.b:
		s.b = end
	case end-start <= small:
		s.b += copy(s.buf[s.b:], s.buf[start:end])
	default:
		if err := s.flush(); err != nil {
			return err
		}
		s.a, s.b = start, end
	}
	if s.b-s.a >= enough {
		return s.flush()
	}
	return nil
}

// put makes a packet go on that was not read, in the place of the one that was
// taken last.
func (s *stream) put(p []byte) error {
	at := max(s.b, headroom)
	if at+len(p) > s.r {
		if err := s.flush(); err != nil {
			return err
		}
		return s.to.write(p)
	}
	copy(s.buf[at:], p)
	return s.pass(at, at+len(p))
}

func (s *stream) flush() error {
	a, b := s.a, s.b
	s.a, s.b = 0, 0
	return s.to.write(s.buf[a:b])
}

// fields reads the fields of a packet. What it gives aliases the packet.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) bytes() []byte {
	n := f.u32()
	if uint64(n) > uint64(len(f.b)) {
		f.bad = true
		return nil
	}
	return f.take(int(n))
}

// begin appends the head of a packet. close sets its length.
func begin(b []byte, typ byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0, typ), id)
}

func finish(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// appendStatus appends a whole STATUS.
func appendStatus(b []byte, id, code uint32, text string) []byte {
	at := len(b)
	b = begin(b, typeStatus, id)
	b = binary.BigEndian.AppendUint32(b, code)
	b = appendString(b, text)
	return finish(appendString(b, ""), at)
}

// plainStatus is a status of the host's by its code alone: its text is the
// host's own, and may show anything.
func plainStatus(b []byte, id, code uint32) []byte {
	if code >= uint32(len(codes)) {
		code = codeFailure
	}
	return appendStatus(b, id, code, codes[code])
}
