package postgres

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// frames finds whole messages in what is read from a connection. The buffer is
// small while nothing is on its way and grows with what comes.
type frames struct {
	conn net.Conn
	buf  []byte
	r, w int
}

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// fill reads once. It makes room first: what is left moves to the front, and a
// buffer that was filled to its end is exchanged for a larger one.
func (f *frames) fill() error {
	if f.r == f.w {
		f.r, f.w = 0, 0
		if len(f.buf) > largeBuffer {
			f.buf = nil // a single large message is over
		}
	}
	if f.r > 0 {
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	if f.w == len(f.buf) {
		size := smallBuffer
		if len(f.buf) > 0 {
			size = max(largeBuffer, 2*len(f.buf))
		}
		b := make([]byte, size)
		copy(b, f.buf[:f.w])
		f.buf = b
	}
	n, err := f.conn.Read(f.buf[f.w:])
	f.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// head gives the next message's kind and whole size, length and kind included.
// A false means that more has to be read.
func (f *frames) head() (kind byte, size int, ok bool, err error) {
	if f.w-f.r < 5 {
		return 0, 0, false, nil
	}
	n := binary.BigEndian.Uint32(f.buf[f.r+1:])
	if n < 4 || n > 1<<30 {
		return 0, 0, false, fmt.Errorf("a message %q of length %d", f.buf[f.r], n)
	}
	return f.buf[f.r], int(n) + 1, true, nil
}

// have is how many bytes of the next message are here.
func (f *frames) have() int { return f.w - f.r }

// take gives n bytes and steps over them. They are valid until the next fill.
func (f *frames) take(n int) []byte {
	f.r += n
	return f.buf[f.r-n : f.r : f.r]
}

// cursor reads the fields of a message's body.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) string() string {
	for i, ch := range c.b {
		if ch == 0 {
			s := string(c.b[:i])
			c.b = c.b[i+1:]
			return s
		}
	}
	c.bad = true
	return ""
}

// name is string without a copy for the empty name, which is the usual one.
func (c *cursor) name() string {
	if len(c.b) > 0 && c.b[0] == 0 {
		c.b = c.b[1:]
		return ""
	}
	return c.string()
}

func (c *cursor) uint16() int {
	if len(c.b) < 2 {
		c.bad = true
		return 0
	}
	v := binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return int(v)
}

func (c *cursor) uint32() uint32 {
	if len(c.b) < 4 {
		c.bad = true
		return 0
	}
	v := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return v
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) end() bool { return !c.bad && len(c.b) == 0 }
