package loop

import (
	"cmp"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Group spreads connections over loops, each of which runs as long as it has
// some. The zero value is ready for use.
type Group struct {
	mu      sync.Mutex
	loops   []*loop // one for each processor, while it has connections
	err     error   // why there are none
	entries uint32  // of a queue of requests, where they are not the usual

	regrouped time.Time
}

// ErrNone is that this machine has no loops: the kernel is too old, or forbids
// them, or there is one processor alone.
var ErrNone = errors.New("loop: none here")

// Adopt takes over two connected sockets, the client's end of a session and the
// server's. The given
// connections are closed then, and what it gives stands for them. Where it
// fails they are as they were.
func (g *Group) Adopt(a, b net.Conn) (*Conn, *Conn, error) {
	x, err := take(a)
	if err != nil {
		return nil, nil, err
	}
	y, err := take(b)
	if err != nil {
		return nil, nil, errors.Join(err, unix.Close(x))
	}
	l, err := g.enter() // last: where descriptors are few, a new loop is what can be done without
	if err != nil {
		return nil, nil, errors.Join(err, unix.Close(x), unix.Close(y))
	}
	ca, cb := newConn(a, x), newConn(b, y)
	ca.other = cb
	l.add(cb) // first: regroup finds a session by its client's end
	l.add(ca)
	a.Close()
	b.Close()
	_ = errors.Join(unix.SetNonblock(x, false), unix.SetNonblock(y, false)) // the kernel waits only where it may
	return ca, cb, nil
}

// take gives a descriptor of the same socket, which Go's poller knows nothing of.
func take(nc net.Conn) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, ErrNone
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return 0, e
	}
	return fd, err
}

func (g *Group) enter() (*loop, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := processors(); g.loops == nil && n > 1 {
		g.loops = make([]*loop, n)
	}
	if g.err != nil || len(g.loops) == 0 {
		return nil, errors.Join(ErrNone, g.err)
	}
	l := g.running()
	if at := slices.Index(g.loops, nil); at >= 0 {
		fresh, err := newLoop(g, cmp.Or(g.entries, entries))
		switch {
		case err == nil:
			more()
			l, g.loops[at] = fresh, fresh
		case l == nil:
			if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOMEM) {
				g.err = err // it stays so
			}
			return nil, errors.Join(ErrNone, err)
		}
	}
	if l.users+2 > most {
		return nil, ErrNone
	}
	l.users += 2
	return l, nil
}

// processors gives how many Go had at first.
var processors = sync.OnceValue(func() int { return runtime.GOMAXPROCS(0) })

// more gives Go as many processors again, where there are loops. A loop's thread
// keeps one of them while it waits, of which Go does not hear: all else has what it
// had.
var more = sync.OnceFunc(func() { runtime.GOMAXPROCS(2 * processors()) })

// running gives the loop with the fewest connections of those that there are.
func (g *Group) running() (fewest *loop) {
	for _, l := range g.loops {
		if l != nil && (fewest == nil || l.users < fewest.users) {
			fewest = l
		}
	}
	return fewest
}

func (g *Group) leave(l *loop, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.users -= n; l.users > 0 {
		return
	}
	for i := range g.loops {
		if g.loops[i] == l {
			g.loops[i] = nil
		}
	}
	l.end()
}
