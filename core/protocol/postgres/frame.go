package postgres

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/loop"
)

// frames finds whole messages in what is read from a connection. The buffer is
// small while nothing is on its way and grows with what comes.
type frames struct {
	conn net.Conn
	to   *loop.Conn // the other end's, where a loop carries both
	// contain has a panic of what it runs end as an error.
	contain func(func() error) error
	held    holding // while the buffer is large
	buf     []byte
	r, w    int
}

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// run reads again and again and calls process after each reading, until one of
// them fails. process never reads itself.
//
// On a TCP or Unix connection all of it happens inside one RawConn.Read: a
// short reading has emptied the socket, so the next thing to do is to wait, and
// the reading that would only find nothing is saved. That is one system call of
// three. process may wait there, since the ends of a session are told by
// deadlines, which wake it, and connections are closed only after run has
// returned. What it can miss is an end that came together with the last data:
// hungUp finds it.
func (f *frames) run(process func() error) error {
	if f.to != nil {
		return f.carry(process)
	}
	if t, ok := f.conn.(*tls.Conn); ok {
		if b := socketOf(t); b != nil {
			return f.secure(t, b, process)
		}
	}
	sc, ok := f.conn.(syscall.Conn)
	if !ok {
		return f.plain(process)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return f.plain(process)
	}
	var fault error
	err = raw.Read(func(fd uintptr) bool {
		for {
			f.room()
			n, err := rawRead(fd, f.buf[f.w:])
			switch {
			case err == unix.EAGAIN:
				return false
			case err != nil:
				fault = os.NewSyscallError("read", err)
				return true
			case n == 0:
				fault = io.EOF
				return true
			}
			full := n == len(f.buf)-f.w
			f.w += n
			if fault = process(); fault != nil {
				return true
			}
			if !full {
				return false
			}
		}
	})
	if fault != nil {
		return fault
	}
	return err
}

// hungUp says of a TCP connection whether the peer has ended it and everything
// that it had sent has been read, and whether it is closed. The latter may be a
// reset, or the peer's end of what we have ended before: what came in time is
// still to be read then.
func hungUp(nc net.Conn) (ended, closed bool) {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, false
	}
	const tcpClose, tcpCloseWait = 7, 8 // of <netinet/tcp.h>
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		closed = info.State == tcpClose
		if closed || info.State == tcpCloseWait {
			left, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
			ended = err == nil && left == 0
		}
	})
	return ended, closed
}

// plain is run for every other connection.
func (f *frames) plain(process func() error) error {
	for {
		f.room()
		n, err := f.conn.Read(f.buf[f.w:])
		f.w += n
		if n > 0 {
			if err := process(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// room makes room to read into: what is left moves to the front, and a buffer
// that is full is exchanged for a larger one.
func (f *frames) room() {
	if f.r == f.w {
		f.r, f.w = 0, 0
		if len(f.buf) > largeBuffer {
			f.buf = nil // a single large message is over
			f.held.drop()
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
	b    []byte
	bad  bool
	long bool // a name is longer than the server keeps apart
}

func (c *cursor) string() string { return string(c.text()) }

// text is string without a copy.
func (c *cursor) text() []byte {
	for i, ch := range c.b {
		if ch == 0 {
			text := c.b[:i]
			c.b = c.b[i+1:]
			return text
		}
	}
	c.bad = true
	return nil
}

func (c *cursor) name() string { return string(c.shown()) }

// shown is name without a copy.
func (c *cursor) shown() []byte {
	b := c.text()
	c.long = c.long || len(b) > maxName
	return b
}

// maxName is NAMEDATALEN-1 of PostgreSQL: of longer names the server compares
// only the beginning, so that two are one.
const maxName = 63

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
