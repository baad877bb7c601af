package record

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/core/gate"
)

// The frames of an SSH session (package ssh, options.go): a kind, a length of
// four bytes, and what came. The last of an answer may be cut short, where only
// its head was kept.
const (
	frameOut    = 'o' // standard output, or what a terminal showed
	frameErr    = 'e' // standard error
	frameIn     = 'i' // what the client sent
	frameResize = 'r' // columns and rows of its terminal, two bytes each
	frameHead   = 5
)

// streams read the frames of SSH, cut anywhere between one event and the next,
// and keep none of them: a frame may be larger than memory.
type streams map[run]*stream

// stream is where one command's frames have got to.
type stream struct {
	head [frameHead]byte
	n    int    // bytes of head that are there
	left uint32 // bytes of the frame that are still to come
	size [4]byte
}

// each gives what came, piece by piece; a size comes whole. It tells how many
// bytes of e belong to the frames themselves.
func (l streams) each(e *gate.Event, f func(kind byte, b []byte)) (framing int) {
	key := run{e.Command, e.Kind}
	s := l[key]
	if s == nil {
		s = &stream{}
		l[key] = s
	}
	for b := e.Frame; len(b) > 0; {
		if s.n < frameHead {
			n := copy(s.head[s.n:], b)
			s.n, framing, b = s.n+n, framing+n, b[n:]
			s.left = binary.BigEndian.Uint32(s.head[1:])
			s.begin()
			continue
		}
		n := int(min(uint64(s.left), uint64(len(b))))
		if kind := s.head[0]; kind != frameResize {
			f(kind, b[:n])
		} else if binary.BigEndian.Uint32(s.head[1:]) == uint32(len(s.size)) {
			if copy(s.size[len(s.size)-int(s.left):], b[:n]); uint32(n) == s.left {
				f(kind, s.size[:])
			}
		}
		b = b[n:]
		s.left -= uint32(n)
		s.begin()
	}
	return framing
}

// begin looks for the next frame once there is no more of this one.
func (s *stream) begin() {
	if s.n == frameHead && s.left == 0 {
		s.n = 0
	}
}

// messages gives the same for programs.
func (l streams) messages(e *gate.Event) (list []message) {
	l.each(e, func(kind byte, b []byte) {
		switch c := (&cell{value: b}); kind {
		case frameOut:
			list = append(list, message{Out: c})
		case frameErr:
			list = append(list, message{Err: c})
		case frameIn:
			list = append(list, message{In: c})
		case frameResize:
			list = append(list, message{Size: size(b)})
		}
	})
	return list
}

// end forgets a command, and says whether a frame of it was cut short.
func (l streams) end(command uint64) (cut bool) {
	for _, kind := range []gate.EventKind{gate.EventResult, gate.EventInput} {
		key := run{command, kind}
		if s := l[key]; s != nil && s.n > 0 {
			cut = true
		}
		delete(l, key)
	}
	return cut
}

// streamed is one of a command's streams.
type streamed struct {
	command uint64
	kind    byte
}

// split makes text of a stream whose code points may be cut anywhere: what is
// not valid becomes U+FFFD, byte by byte, so that it does not matter where.
type split struct{ rest []byte }

func (s *split) text(b []byte) string {
	if len(s.rest) > 0 {
		b = append(s.rest, b...)
	}
	n := len(b) - unfinished(b)
	s.rest = append([]byte(nil), b[n:]...)
	return valid(b[:n])
}

// end gives what was left of a code point that nothing completes any more.
func (s *split) end() string {
	defer func() { s.rest = nil }()
	return valid(s.rest)
}

func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}

// unfinished is how many bytes at the end of b begin a code point.
func unfinished(b []byte) int {
	for i := 1; i <= min(utf8.UTFMax-1, len(b)); i++ {
		if c := b[len(b)-i:]; utf8.RuneStart(c[0]) {
			if !utf8.FullRune(c) {
				return i
			}
			break
		}
	}
	return 0
}

// programs says whether the operations of a text run a program, and whether that
// is a terminal. What comes of files and forwards is not for a screen.
func programs(operations []string) (program, terminal bool) {
	for _, o := range operations {
		verb, _, _ := strings.Cut(o, " ")
		program = program || verb == "exec" || verb == "shell"
		terminal = terminal || verb == "shell"
	}
	return program, terminal
}
