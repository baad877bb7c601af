package postgres

import (
	"crypto/tls"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/loop"
)

// The system calls of the fast path do not tell the scheduler. The sockets
// never block, so a call takes as long as the kernel works; but that includes
// whoever it wakes on this core. A scheduler that is told sees a call that
// takes long, hands the processor to another thread, and looks for more of
// them every 20 µs.

func rawRead(fd uintptr, b []byte) (int, error) { return raw(unix.SYS_READ, fd, b) }

func raw(call, fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// output writes whole buffers to a connection. Only one may write at a time.
type output struct {
	nc   net.Conn
	raw  syscall.RawConn // nil where there is none
	tls  *beneath        // nil where it is no TLS
	step func(fd uintptr) bool
	b    []byte
	n    int
	err  error
}

func newOutput(nc net.Conn) *output {
	o := &output{nc: nc}
	if t, ok := nc.(*tls.Conn); ok {
		o.tls = socketOf(t)
	}
	if _, ok := nc.(*loop.Conn); ok { // which has buffers of its own
		return o
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			o.raw, o.step = raw, o.write
		}
	}
	return o
}

// Write implements io.Writer. It waits, as far as the write deadline, until all
// of b is written.
func (o *output) Write(b []byte) (int, error) {
	if o.tls != nil {
		o.tls.cork()
		n, err := o.nc.Write(b)
		if e := o.tls.flush(); err == nil {
			err = e
		}
		return n, err
	}
	if o.raw == nil {
		return o.nc.Write(b)
	}
	o.b, o.n, o.err = b, 0, nil
	err := o.raw.Write(o.step)
	if o.b = nil; o.err != nil {
		err = o.err
	}
	return o.n, err
}

func (o *output) write(fd uintptr) bool {
	for o.n < len(o.b) {
		n, err := raw(unix.SYS_WRITE, fd, o.b[o.n:])
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			o.err = os.NewSyscallError("write", err)
			return true
		}
		o.n += n
	}
	return true
}
