package loop

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a socket that a loop carries. What is written is kept until the
// kernel has it; Write waits only where much is kept. As a net.Conn it cannot
// be read from: Carry does that.
type Conn struct {
	loop          atomic.Pointer[loop] // another's from one request to the kernel to the next, under mu
	fd            int
	slot          uint32 // of the loop's
	known         bool   // the kernel knows the socket by its slot
	local, remote net.Addr
	queued        atomic.Bool   // the loop will look at it
	turn          atomic.Uint64 // of the loop, when its handler was called last
	other         *Conn         // of a client's end, the server's

	// Of regroup, under the group's mu.
	spoke, answered uint64 // the turns of both ends at the last look
	processor       int    // from which the client speaks

	// How it is read, from Carry on.
	room    func() []byte
	arrived func(n int, err error) error
	gate    *Conn

	handling atomic.Bool
	kept     atomic.Int64         // bytes of out and flying
	waiting  atomic.Pointer[Conn] // is not read until less is kept

	mu      sync.Mutex
	moved   *sync.Cond
	over    chan error // what Carry waits for, nil where it does not
	fault   error      // of the handler
	stopped error      // why it is not to be read any more
	out     []byte
	failed  error // of sending
	until   time.Time
	timer   *time.Timer
	half    bool  // nothing will follow what is kept
	ended   bool  // nothing may follow
	awaited bool  // somebody waits until nothing is kept
	more    bool  // the handler has not finished with what has come
	direct  bool  // the loop is done with it
	goal    *loop // where it is to go on
	closed  bool

	// Of whoever serves the loop, and under mu.
	reading, stopping, sending, asked, calledOff, short, full, again bool
	flying                                                           []byte
	done                                                             int // of flying
}

func newConn(nc net.Conn, fd int) *Conn {
	c := &Conn{fd: fd, local: nc.LocalAddr(), remote: nc.RemoteAddr()}
	c.moved = sync.NewCond(&c.mu)
	return c
}

// The bounds of what is kept of what was written, in bytes.
const (
	much    = 256 << 10 // where the other end is not read any more
	toomuch = 1 << 20   // where Write waits
	spare   = 128 << 10 // a buffer that is not kept
)

// ErrMore is what a handler returns that goes on after others have had their turn:
// it is called again, told of no bytes.
var ErrMore = errors.New("loop: more to handle")

// Carry reads until the end of the stream, an error, or one of arrived. room
// gives where the next bytes may go; arrived is told how many came, or the
// error with which the stream ended. It is called by the loop: it has to call
// Leave before it waits for anything. While much of what was written to gate is
// still kept, nothing is read.
func (c *Conn) Carry(gate *Conn, room func() []byte, arrived func(n int, err error) error) error {
	over := make(chan error, 1)
	c.mu.Lock()
	if c.stopped != nil {
		c.mu.Unlock()
		return c.stopped
	}
	c.gate, c.room, c.arrived, c.over = gate, room, arrived, over
	c.mu.Unlock()
	c.look()
	err := <-over
	c.mu.Lock()
	c.room, c.arrived = nil, nil // with what they keep
	c.mu.Unlock()
	return err
}

// Leave has another goroutine serve the loop, if c's handler or that of the
// other end does. The thread stays with the loop: who leaves goes on in another,
// so that where it waits in the kernel, for a disk, nothing that the loop has
// asked for waits with it. Go runs next in a thread what was started last there;
// now and then it does not, and then that is merely slower.
func (c *Conn) Leave() {
	c.mu.Lock()
	other := c.gate
	c.mu.Unlock()
	if other == nil {
		other = c.other // which may be carried already
	}
	served := []chan struct{}{c.loop.Load().take(c.turn.Load()), nil}
	if other != nil { // in another loop both may be handled, and either leaves
		served[1] = other.loop.Load().take(other.turn.Load())
	}
	runtime.UnlockOSThread()
	for _, s := range served {
		if s != nil {
			<-s
		}
	}
}

// request is what the kernel is asked to do with b. The caller holds mu.
func (c *Conn) request(op uint8, kind uint64, b []byte) request {
	q := request{op: op, fd: int32(c.fd), addr: pointer(b), len: uint32(len(b)), user: uint64(c.slot)*kinds + kind}
	if c.known {
		q.fd, q.flags = int32(c.slot), fixedFile
	}
	return q
}

// look has the loop look at it.
func (c *Conn) look() {
	if !c.queued.CompareAndSwap(false, true) {
		return
	}
	for l := c.loop.Load(); !l.enqueue(c) && c.loop.Load() != l; l = c.loop.Load() {
	}
}

// crowded says whether so much is kept for c that the one who asks has to wait.
// That one is locked, c need not be: two ends ask each other, in two loops.
func (c *Conn) crowded(who *Conn) bool {
	if c.kept.Load() <= much {
		return false
	}
	c.waiting.Store(who)
	if c.kept.Load() > much {
		c.look() // its loop may sleep, and not have heard that all was sent
		return true
	}
	c.waiting.Store(nil)
	return false
}

// counts notes how much is kept. The caller holds mu.
func (c *Conn) counts() { c.kept.Store(int64(len(c.out) + len(c.flying) - c.done)) }

// goesOn says whether something is to be done once a sending is through, of
// whose success the kernel says nothing.
func (c *Conn) goesOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out) > 0 || c.half || c.waiting.Load() != nil || c.awaited
}

// sent takes the kernel's answer to a sending.
func (c *Conn) sent(n int) {
	c.mu.Lock()
	c.asked = false
	switch {
	case n == -int(unix.EINTR) || n == -int(unix.EAGAIN):
		c.full = true
	case n < 0:
		if c.failed == nil {
			c.failed = os.NewSyscallError("send", syscall.Errno(-n))
		}
		c.sending = false
	default:
		c.done += n
		c.full = c.done < len(c.flying)
		c.sending = c.full
	}
	if c.failed != nil {
		c.sending, c.out = false, nil
	}
	if !c.sending {
		if c.flying, c.done = c.flying[:0], 0; cap(c.flying) > spare {
			c.flying = nil
		}
	}
	c.counts()
	c.moved.Broadcast()
	c.mu.Unlock()
	if c.kept.Load() <= much && c.waiting.Load() != nil {
		if waiting := c.waiting.Swap(nil); waiting != nil {
			c.loop.Load().settle(waiting)
		}
	}
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	for len(c.out) > toomuch && c.failed == nil && !c.direct && !c.late() {
		c.mu.Unlock()
		c.Leave()
		c.mu.Lock()
		if len(c.out) > toomuch && c.failed == nil && !c.direct && !c.late() {
			c.moved.Wait()
		}
	}
	switch {
	case c.failed != nil:
		defer c.mu.Unlock()
		return 0, c.failed
	case c.closed || c.half || c.ended:
		defer c.mu.Unlock()
		return 0, net.ErrClosed
	case c.direct:
		defer c.mu.Unlock()
		return c.write(b)
	case len(c.out) > toomuch:
		defer c.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	c.out = append(c.out, b...)
	c.counts()
	c.mu.Unlock()
	c.look()
	return len(b), nil
}

func (c *Conn) late() bool { return !c.until.IsZero() && !time.Now().Before(c.until) }

// write is Write when the loop is done with the socket. The caller holds mu, which
// is free while it waits: a loop, and regroup, which all loops wait for, may ask.
func (c *Conn) write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.SendmsgN(c.fd, b[n:], nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			n += m
		case err == unix.EINTR:
		case err != unix.EAGAIN:
			return n, os.NewSyscallError("send", err)
		case c.until.IsZero() || c.late():
			return n, os.ErrDeadlineExceeded
		default:
			fds, wait := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, int(time.Until(c.until)/time.Millisecond)+1
			c.mu.Unlock()
			_, err := unix.Poll(fds, wait)
			c.mu.Lock()
			switch {
			case c.closed:
				return n, net.ErrClosed
			case err != nil && err != unix.EINTR:
				return n, os.NewSyscallError("poll", err)
			}
		}
	}
	return n, nil
}

// Finish waits until everything that was written is with the kernel, or the
// write deadline, which then has to be set, has passed, and says which. After
// it, which comes after Carry, Write does not keep anything.
func (c *Conn) Finish() error {
	c.mu.Lock()
	c.awaited = true
	c.mu.Unlock()
	c.look()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.direct && (len(c.out) > 0 || c.sending || c.half) {
		if c.failed == nil && c.late() {
			c.failed, c.out = os.ErrDeadlineExceeded, nil
			c.counts()
			c.mu.Unlock()
			c.look()
			c.mu.Lock()
			continue
		}
		c.moved.Wait()
	}
	c.direct = true
	return c.failed
}

// Read implements net.Conn.
func (c *Conn) Read([]byte) (int, error) { return 0, net.ErrClosed }

// Close implements net.Conn: Carry returns, and nobody waits to write any more.
// Release gives the socket back.
func (c *Conn) Close() error {
	c.stop(net.ErrClosed)
	return c.SetWriteDeadline(time.Now())
}

// Release gives everything back. It comes after Carry.
func (c *Conn) Release() {
	_ = c.Finish()
	c.mu.Lock()
	was, goal := c.closed, c.goal
	c.closed, c.goal = true, nil
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if was {
		return
	}
	l := c.loop.Load()
	l.drop(c.slot)
	_ = unix.Close(c.fd)
	if l.group.leave(l, 1); goal != nil {
		l.group.leave(goal, 1)
	}
}

// CloseWrite tells the peer that nothing more comes, behind what is kept.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	c.half = true
	c.mu.Unlock()
	c.look()
	return nil
}

func (c *Conn) stop(why error) {
	c.mu.Lock()
	if c.stopped == nil {
		c.stopped = why
	}
	c.mu.Unlock()
	c.look()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// SetReadDeadline implements net.Conn as far as it ends a reading now.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() || time.Now().Before(t) {
		return os.ErrNoDeadline
	}
	c.stop(os.ErrDeadlineExceeded)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.timer = nil; !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.moved.Broadcast()
		})
	}
	return nil
}

// SyscallConn implements syscall.Conn, for a look at the socket's state.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return socket{c}, nil }

type socket struct{ c *Conn }

// Control implements syscall.RawConn.
func (s socket) Control(f func(fd uintptr)) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.closed {
		return net.ErrClosed
	}
	f(uintptr(s.c.fd))
	return nil
}

// Read implements syscall.RawConn.
func (s socket) Read(func(fd uintptr) bool) error { return net.ErrClosed }

// Write implements syscall.RawConn.
func (s socket) Write(func(fd uintptr) bool) error { return net.ErrClosed }
