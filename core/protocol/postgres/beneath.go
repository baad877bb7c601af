package postgres

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// beneath is the connection under TLS. Until run it is like any other. Then it
// does not wait: what finds nothing fails with errDry, after which crypto/tls
// goes on where it stopped, so that a session over TLS makes the same system
// calls as one without. Records that are written together leave together.
type beneath struct {
	net.Conn
	raw syscall.RawConn
	out *output

	carried bool // by a loop, which gives what has come
	got     []byte
	r, w    int
	ended   error

	// Of the reading side.
	fd      uintptr
	running bool
	dry     bool // the last reading has emptied the socket

	writing sync.Mutex // a reading may have to answer, as to a change of keys
	corked  bool
	kept    []byte
}

// under gives the connection that TLS is to be spoken over.
func under(nc net.Conn) net.Conn {
	socket := nc
	if p, ok := nc.(*prefixed); ok {
		socket = p.Conn
	}
	out := newOutput(socket)
	if out.raw == nil {
		return nc
	}
	return &beneath{Conn: nc, raw: out.raw, out: out}
}

// socketOf gives what lies beneath TLS, nil where it is no socket.
func socketOf(t *tls.Conn) *beneath {
	b, _ := t.NetConn().(*beneath)
	return b
}

// SyscallConn implements syscall.Conn.
func (b *beneath) SyscallConn() (syscall.RawConn, error) { return b.raw, nil }

// recordSize is the most that a record of TLS has (RFC 8446, section 5.2), in
// bytes.
const recordSize = 5 + 1<<14 + 256

// errDry is what crypto/tls does not remember (net.Error's Temporary).
var errDry error = dry{}

type dry struct{}

func (dry) Error() string   { return "postgres: nothing more has come" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

// Read implements io.Reader.
func (b *beneath) Read(p []byte) (int, error) {
	if !b.running {
		return b.Conn.Read(p)
	}
	if b.carried {
		return b.take(p)
	}
	if b.dry {
		return 0, errDry
	}
	n, err := rawRead(b.fd, p)
	switch {
	case err == unix.EAGAIN:
		b.dry = true
		return 0, errDry
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	b.dry = n < len(p)
	return n, nil
}

// take gives what a loop has brought.
func (b *beneath) take(p []byte) (int, error) {
	if b.r == b.w {
		if b.ended != nil {
			return 0, b.ended
		}
		return 0, errDry
	}
	n := copy(p, b.got[b.r:b.w])
	b.r += n
	return n, nil
}

// room is where a loop puts what comes next.
func (b *beneath) room() []byte {
	if b.r == b.w {
		switch {
		case len(b.got) == 0:
			b.got = make([]byte, smallBuffer)
		case b.w == len(b.got) && b.w < 2*recordSize: // more comes at a time than there is room for
			b.got = make([]byte, 2*recordSize)
		}
		b.r, b.w = 0, 0
	}
	if b.w == len(b.got) {
		bigger := make([]byte, max(2*recordSize, 2*len(b.got)))
		b.w = copy(bigger, b.got[b.r:b.w])
		b.r, b.got = 0, bigger
	}
	return b.got[b.w:]
}

// Write implements io.Writer.
func (b *beneath) Write(p []byte) (int, error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.corked {
		b.kept = append(b.kept, p...)
		return len(p), nil
	}
	return b.out.Write(p)
}

// cork keeps what is written from now on, until flush.
func (b *beneath) cork() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.corked = true
}

func (b *beneath) flush() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.corked = false
	if len(b.kept) == 0 {
		return nil
	}
	_, err := b.out.Write(b.kept)
	if cap(b.kept) > 2*largeBuffer {
		b.kept = nil
	}
	b.kept = b.kept[:0]
	return err
}

// secure is run for TLS.
func (f *frames) secure(t *tls.Conn, b *beneath, process func() error) error {
	var fault error
	err := b.raw.Read(func(fd uintptr) bool {
		b.fd, b.running, b.dry = fd, true, false
		fault = f.decrypt(t, process)
		return fault != nil
	})
	b.running = false
	if fault != nil {
		return fault
	}
	return err
}
