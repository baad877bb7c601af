// Package loop carries the bytes of many connections with few system calls. What
// is to be read and written on all of them the kernel is told in one call, in
// which it is waited for as well (io_uring(7), Linux 5.19); what has come is
// handled right there, by the goroutine that waited. A handler that has to wait
// leaves the loop to another goroutine first (Leave), and one that takes long
// without having said so is left behind. There is a loop for each processor;
// sessions go from one to another where they come into better company (regroup).
package loop

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is one queue and who serves it.
type loop struct {
	group *Group
	users int // connections that it has or was promised, under the group's mu
	ring  *ring

	thread atomic.Int64 // of who serves

	// state counts what is handled. It is odd while something is; whoever
	// makes it even by a larger step has taken the loop over.
	state  atomic.Uint64
	asleep atomic.Bool // the server waits, or is about to
	dozes  atomic.Bool // the watch waits for something to happen
	alarm  chan struct{}
	bell   int
	rung   [8]byte
	rings  sync.RWMutex // who rings
	silent bool         // the bell's descriptor may be another's, under rings

	mu    sync.Mutex
	todo  []*Conn
	conns []*Conn // by slot
	free  []uint32
	down  bool
	all   sync.WaitGroup

	// Of the server's.
	spare  []*Conn
	again  []*Conn // whose handlers go on
	sends  []*Conn // what they send is taken if no answer says otherwise
	others []*Conn // the room of the sends before
}

const (
	// most is how many connections there are at the most. Each may wait for the
	// answers to a reading, a sending and an end of each: the queue of answers is
	// never full, so that none is left out, of which taken would make that all
	// was sent.
	most     = answers/4 - 1
	takeOver = 1<<32 + 1 // the step by which the loop is taken over
	patience = 5 * time.Millisecond
	doze     = 200 // so many times without anything
)

func newLoop(g *Group, entries uint32) (*loop, error) {
	r, err := newRing(entries)
	if err != nil {
		return nil, err
	}
	l := &loop{group: g, ring: r, alarm: make(chan struct{}, 1), conns: []*Conn{nil}}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), r.close())
	}
	if err := l.listen(); err != nil {
		return nil, errors.Join(err, r.close(), unix.Close(l.bell))
	}
	l.all.Add(2)
	go l.serve(0, make(chan struct{}))
	go l.watch()
	return l, nil
}

// end stops a loop that carries nothing any more.
func (l *loop) end() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.wake()
	l.alert()
	go func() { // ends with those that served
		l.all.Wait()
		_ = l.ring.close()
		l.rings.Lock() // who was about to ring when another did may be late
		defer l.rings.Unlock()
		l.silent = true
		_ = unix.Close(l.bell)
	}()
}

// listen asks for the bell to be heard.
func (l *loop) listen() error {
	return l.ring.push(request{op: opRead, fd: int32(l.bell), addr: pointer(l.rung[:]), len: uint32(len(l.rung)), off: ^uint64(0)})
}

// wake has the server look at what there is to do.
func (l *loop) wake() {
	if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
		l.rings.RLock()
		defer l.rings.RUnlock()
		if l.silent {
			return
		}
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.bell, one[:])
	}
}

func (l *loop) alert() {
	if l.dozes.Load() && l.dozes.CompareAndSwap(true, false) {
		select {
		case l.alarm <- struct{}{}:
		default:
		}
	}
}

// enqueue has the server look at a connection. False is that nobody serves any
// more.
func (l *loop) enqueue(c *Conn) bool {
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return false
	}
	l.todo = append(l.todo, c)
	l.mu.Unlock()
	l.wake()
	return true
}

// add takes a connection, which no loop has.
func (l *loop) add(c *Conn) {
	l.mu.Lock()
	c.loop.Store(l) // first: an answer that came late for the slot finds it there
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
		l.conns[c.slot] = c
	} else {
		c.slot = uint32(len(l.conns))
		l.conns = append(l.conns, c)
	}
	l.mu.Unlock()
	c.known = l.ring.know(c.slot, c.fd)
}

func (l *loop) drop(slot uint32) {
	l.ring.know(slot, -1) // before it is another's, and before the socket is closed, of which the peer is to hear
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[slot] = nil
	l.free = append(l.free, slot)
}

// watch takes the loop from a handler that has not come back.
func (l *loop) watch() {
	defer l.all.Done()
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for last, quiet, busy := uint64(0), 0, 0; ; <-tick.C {
		state := l.state.Load()
		switch {
		case state != last:
			quiet = 0
			if busy++; busy%often == 0 {
				l.group.regroup()
			}
		case state%2 == 1:
			l.take(state)
		default:
			quiet++
		}
		last = state
		l.mu.Lock()
		down := l.down
		l.mu.Unlock()
		if down {
			return
		}
		if quiet > doze {
			tick.Stop()
			l.dozes.Store(true)
			if l.state.Load() == state && !l.isDown() {
				<-l.alarm
			}
			l.dozes.Store(false)
			quiet = 0
			tick.Reset(patience)
		}
	}
}

func (l *loop) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// take makes another goroutine serve the loop, if a handler still has it, and
// gives what is closed once that does.
func (l *loop) take(state uint64) (served chan struct{}) {
	if state%2 == 0 || !l.state.CompareAndSwap(state, state+takeOver) {
		return nil
	}
	l.all.Add(1)
	served = make(chan struct{})
	go l.serve(state+takeOver, served)
	return served
}

// serve carries bytes until the loop ends or is taken over. It keeps its
// thread: what a thread has asked for, the kernel finishes in that thread.
func (l *loop) serve(state uint64, served chan struct{}) {
	defer l.all.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.thread.Store(int64(unix.Gettid()))
	close(served)
	runtime.Gosched() // who has left goes on in another thread, before this one waits in the kernel
	for {
		l.mu.Lock()
		todo := l.todo
		l.todo = l.spare[:0]
		down := l.down
		l.mu.Unlock()
		for i, c := range todo {
			c.queued.Store(false)
			l.settle(c) // of a loop that has ended: what is another's by now
			todo[i] = nil
		}
		if down {
			return
		}
		l.spare = todo
		for range len(l.again) {
			c := l.again[0]
			l.again = l.again[1:]
			var ok bool
			if state, ok = l.goOn(c, state); !ok {
				return
			}
		}
		if err := l.wait(); err != nil {
			panic(err) // the kernel's queue itself: nothing can be carried any more
		}
		l.taken()
		// What comes meanwhile is left for the next round: it may be the answer to
		// a sending of this one.
		for range l.ring.come() {
			var ok bool
			if state, ok = l.answer(l.ring.next(), state); !ok {
				return
			}
		}
	}
}

func (l *loop) wait() error {
	if l.ring.answered() {
		return l.ring.enter(false)
	}
	l.asleep.Store(true)
	l.mu.Lock()
	more := len(l.todo) > 0 || len(l.again) > 0 || l.down
	l.mu.Unlock()
	for _, c := range l.sends {
		more = more || c.goesOn()
	}
	err := l.ring.enter(!more)
	l.asleep.Store(false)
	return err
}

// taken notes what the kernel took at once of what was to be sent.
func (l *loop) taken() {
	if len(l.sends) == 0 {
		return
	}
	l.mu.Lock()
	l.ring.each(func(a answer) {
		if a.user%kinds == aSending && a.user >= kinds {
			l.conns[a.user/kinds].short = true
		}
	})
	l.mu.Unlock()
	sends := l.sends
	l.sends, l.others = l.others[:0], sends
	for i, c := range sends {
		if c.short {
			c.short = false
		} else {
			c.sent(len(c.flying))
			l.settle(c) // it may be another loop's then
		}
		sends[i] = nil
	}
}

// The kinds of answers, beside the number of the connection.
const (
	aReading = iota
	aSending
	aCancel
	kinds
)

func (l *loop) answer(a answer, state uint64) (uint64, bool) {
	slot, kind := a.user/kinds, a.user%kinds
	if slot == 0 {
		if kind == aReading {
			if err := l.listen(); err != nil {
				panic(err)
			}
		}
		return state, true
	}
	l.mu.Lock()
	c := l.conns[slot]
	l.mu.Unlock()
	if c == nil {
		return state, true // a cancellation that came late
	}
	switch kind {
	case aSending:
		c.sent(int(a.res))
	case aReading:
		c.reading = false
		return l.handle(c, int(a.res), state)
	}
	l.settle(c)
	return state, true
}

// handle gives what has come to the connection's handler.
func (l *loop) handle(c *Conn, n int, state uint64) (uint64, bool) {
	var why error
	switch {
	case n == 0:
		why = io.EOF
	case n == -int(unix.ECANCELED), n == -int(unix.EINTR), n == -int(unix.EAGAIN):
		l.settle(c)
		return state, true
	case n < 0:
		n, why = 0, os.NewSyscallError("recv", syscall.Errno(-n))
	}
	return l.call(c, n, why, state)
}

// goOn calls a handler again that has not finished.
func (l *loop) goOn(c *Conn, state uint64) (uint64, bool) {
	c.mu.Lock()
	c.again = false
	goes := c.more && c.over != nil && !c.handling.Load() && c.fault == nil
	if goes {
		c.more = false
	}
	c.mu.Unlock()
	if !goes {
		l.settle(c)
		return state, true
	}
	return l.call(c, 0, nil, state)
}

// call calls the connection's handler.
func (l *loop) call(c *Conn, n int, why error, state uint64) (uint64, bool) {
	c.handling.Store(true)
	c.turn.Store(state + 1)
	l.state.Store(state + 1)
	l.alert()
	if err := c.arrived(n, why); err != nil {
		c.mu.Lock()
		if err == ErrMore { //nolint:errorlint // it says what to do
			c.more = true
		} else {
			c.fault = err
		}
		c.mu.Unlock()
	}
	c.handling.Store(false)
	if !l.state.CompareAndSwap(state+1, state+2) {
		c.look() // whoever serves now goes on with it
		return 0, false
	}
	l.settle(c)
	return state + 2, true
}

// settle asks the kernel for whatever a connection needs next, or leaves that to
// the loop that it has gone on to.
func (l *loop) settle(c *Conn) {
	gone := l.ask(c)
	if c.loop.Load() != l {
		c.look()
	}
	if gone {
		l.group.leave(l, 1)
	}
}

// ask says whether it has sent the connection to another loop.
func (l *loop) ask(c *Conn) (gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.loop.Load() != l { // its number may be another's
		return false
	}
	if !c.sending && len(c.out) > 0 && c.failed == nil {
		c.flying, c.out, c.done, c.sending = c.out, c.flying[:0], 0, true
		c.moved.Broadcast() // for Write: of a sending that is through at once the kernel says nothing
	}
	if c.sending && !c.asked {
		c.asked = true
		q := c.request(opSend, aSending, c.flying[c.done:])
		q.how = unix.MSG_NOSIGNAL | unix.MSG_WAITALL
		if !c.full { // first without waiting, which is answered only if not all of it is taken
			q.how |= unix.MSG_DONTWAIT
			q.flags |= skipSuccess
			c.short = false
			l.sends = append(l.sends, c)
		}
		l.must(q)
	}
	if c.sending && c.failed != nil && !c.calledOff {
		c.calledOff = true
		l.must(request{op: opCancel, fd: -1, addr: uint64(c.slot)*kinds + aSending, user: uint64(c.slot)*kinds + aCancel})
	}
	if c.half && !c.sending && len(c.out) == 0 {
		c.half, c.ended = false, true
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
		c.moved.Broadcast()
	}
	switch {
	case c.over == nil || c.handling.Load():
	case c.reading:
		if c.stopped != nil && !c.stopping {
			c.stopping = true
			l.must(request{op: opCancel, fd: -1, addr: uint64(c.slot)*kinds + aReading, user: uint64(c.slot)*kinds + aCancel})
		}
	case c.fault != nil:
		c.over <- c.fault
		c.over = nil
	case c.stopped != nil && !c.more: // what has come is handled first
		c.over <- c.stopped
		c.over = nil
	case c.stopped == nil && c.gate.crowded(c):
	case c.more:
		if !c.again {
			c.again = true
			l.again = append(l.again, c)
		}
	case c.goal != nil && !c.sending && len(c.out) == 0: // the kernel knows nothing of it
		l.drop(c.slot)
		c.goal.add(c)
		c.turn.Store(0)
		c.goal = nil
		return true
	default:
		q := c.request(opRecv, aReading, c.room())
		q.ioprio = pollFirst
		c.reading = true
		l.must(q)
	}
	return false
}

func (l *loop) must(q request) {
	if err := l.ring.push(q); err != nil {
		panic(err)
	}
}

func pointer(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
