package loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echo answers with what comes, until the end.
func echo(server *net.TCPConn) {
	go func() { // ends with the session
		_, _ = io.Copy(server, server)
		_ = server.CloseWrite()
	}()
}

// TestRegroup: sessions whose clients speak from one processor come to be carried
// by one loop, without a byte lost.
func TestRegroup(t *testing.T) {
	if !needLoop(t) {
		return
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var cpus []int
	for i := range 1024 {
		if set.IsSet(i) && len(cpus) < 2 {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) < 2 {
		t.Fatal("loops, and yet one processor")
	}
	g := &Group{}
	var clients [2][]*net.TCPConn
	var ends [2][]*Conn
	for i := range 8 { // two of the one, two of the other: half of each in each of two loops
		client, server, ca, _ := relay(t, g, nil)
		echo(server)
		of := i / 2 % 2
		clients[of], ends[of] = append(clients[of], client), append(ends[of], ca)
	}
	if len(g.loops) != 2 { // with more, four of them have two sessions each
		t.Log(len(g.loops), "loops")
	}
	stop := make(chan struct{})
	faults := make(chan error, 2)
	for of, cpu := range cpus {
		go func() {
			runtime.LockOSThread() // for good: the thread ends with it
			var only unix.CPUSet
			only.Set(cpu)
			if err := unix.SchedSetaffinity(0, &only); err != nil {
				faults <- err
				return
			}
			for n := 0; ; n++ {
				select {
				case <-stop:
					faults <- nil
					return
				default:
				}
				said := fmt.Appendf(nil, "%08d", n)
				for _, c := range clients[of] {
					if _, err := c.Write(said); err != nil {
						faults <- err
						return
					}
				}
				heard := make([]byte, len(said))
				for _, c := range clients[of] {
					if _, err := io.ReadFull(c, heard); err != nil || !bytes.Equal(heard, said) {
						faults <- fmt.Errorf("%q for %q: %w", heard, said, err)
						return
					}
				}
			}
		}()
	}
	together := func() bool {
		of := map[*loop]int{}
		for i := range ends {
			for _, c := range ends[i] {
				l := c.loop.Load()
				if was, ok := of[l]; ok && was != i || c.other.loop.Load() != l {
					return false
				}
				of[l] = i
			}
		}
		return true
	}
	late := time.Now().Add(time.Minute)
	for !together() && time.Now().Before(late) {
		time.Sleep(5 * time.Millisecond)
	}
	found := together()
	close(stop)
	for range cpus {
		if err := <-faults; err != nil {
			t.Error(err)
		}
	}
	if !found {
		for i := range ends {
			for _, c := range ends[i] {
				t.Errorf("client %d, by processor %d, is carried by %p and %p", i, c.processor, c.loop.Load(), c.other.loop.Load())
			}
		}
	}
}

// TestBalance: sessions that have something to say are spread over the loops,
// whatever there is beside them that has not, and whichever loop they are in.
func TestBalance(t *testing.T) {
	if !needLoop(t) {
		return
	}
	for of := range 2 {
		g := &Group{}
		var clients []*net.TCPConn
		var ends []*Conn
		for range 12 {
			client, server, ca, _ := relay(t, g, nil)
			echo(server)
			clients, ends = append(clients, client), append(ends, ca)
		}
		busy := ends[of].loop.Load()
		staying := func() (n int) {
			for _, c := range ends {
				if c.loop.Load() == busy {
					n++
				}
			}
			return n
		}
		before, late := staying(), time.Now().Add(time.Minute)
		b := make([]byte, 1)
		for staying() == before && time.Now().Before(late) {
			for i, c := range clients {
				if ends[i].loop.Load() != busy {
					continue
				}
				if _, err := c.Write(b); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, b); err != nil {
					t.Fatal(err)
				}
			}
		}
		if staying() == before {
			t.Errorf("all of the %d sessions that speak stay in loop %d", before, of)
		}
	}
}

// TestMoves: sessions go from loop to loop at any time, those that end among them.
// Nothing is lost, and no loop is left behind.
func TestMoves(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	const sessions, rounds = 12, 150
	var all sync.WaitGroup
	var ends []*Conn
	var clients []*net.TCPConn
	for range sessions {
		client, server, ca, _ := relay(t, g, nil)
		echo(server)
		ends, clients = append(ends, ca), append(clients, client)
	}
	for i, client := range clients {
		all.Go(func() {
			defer client.Close()
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range rounds + 20*i {
				said := make([]byte, 1+rnd.IntN(8)*rnd.IntN(10)*rnd.IntN(20_000))
				for k := range said {
					said[k] = byte(n + k)
				}
				wrote := make(chan error, 1)
				go func() {
					_, err := client.Write(said)
					wrote <- err
				}()
				heard := make([]byte, len(said))
				if _, err := io.ReadFull(client, heard); err != nil || !bytes.Equal(heard, said) {
					t.Errorf("session %d, round %d: %v, or not what was said", i, n, err)
				}
				if err := <-wrote; err != nil {
					t.Error(err)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	seen := map[*loop]bool{}
	for on := true; on; {
		select {
		case <-ended:
			on = false
		case <-time.After(100 * time.Microsecond):
		}
		g.mu.Lock()
		running := slices.DeleteFunc(slices.Clone(g.loops), func(l *loop) bool { return l == nil })
		for _, c := range ends {
			if len(running) > 0 && rand.IntN(3) == 0 {
				seen[c.loop.Load()] = true
				c.move(running[rand.IntN(len(running))])
			}
		}
		g.mu.Unlock()
	}
	if len(seen) < 2 {
		t.Errorf("the sessions were in %d loops", len(seen))
	}
	for late := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		left := 0
		for _, l := range g.loops {
			if l != nil {
				left += l.users
			}
		}
		g.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%d connections are counted when all have ended", left)
		}
	}
}

// TestApart: where the ends of a session are in two loops, what is not read since
// much is kept for the other end is read again, although the loop of that one sleeps
// and has not heard that all was sent.
func TestApart(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	relay(t, g, nil) // the loop that the server's end goes on in
	client, a := pipe(t)
	server, b := pipe(t)
	if err := errors.Join(client.SetReadBuffer(4<<20), a.SetWriteBuffer(4<<20)); err != nil {
		t.Fatal(err)
	}
	ca, cb, err := g.Adopt(a, b)
	if err != nil {
		t.Fatal(err)
	}
	apart(t, g, cb)
	piece, heard := make([]byte, much+1), make([]byte, much+1)
	said := make(chan byte, 20)
	var both sync.WaitGroup
	both.Go(func() {
		var buf [1]byte
		_ = cb.Carry(ca, func() []byte { return buf[:] }, func(n int, err error) error {
			if err != nil {
				return err
			}
			_, err = ca.Write(piece)
			time.Sleep(time.Millisecond) // in which it is sent
			said <- buf[0]
			return err
		})
	})
	both.Go(func() {
		_ = ca.Carry(cb, func() []byte { return make([]byte, 1) }, func(_ int, err error) error { return err })
	})
	defer func() {
		ca.Close()
		cb.Close()
		both.Wait()
		ca.Release()
		cb.Release()
	}()
	for i := range byte(20) {
		if _, err := server.Write([]byte{i}); err != nil {
			t.Fatal(err)
		}
		select {
		case b := <-said:
			if b != i {
				t.Fatalf("%d came for %d", b, i)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("what the server says is not read, with %d bytes kept for the client", ca.kept.Load())
		}
		if _, err := io.ReadFull(client, heard); err != nil {
			t.Fatal(err)
		}
	}
	if ca.loop.Load() == cb.loop.Load() {
		t.Error("both ends are in one loop")
	}
}

// TestUnknown: what the kernel does not know by slots, as where it may not be told,
// it carries by descriptors, and sessions go from one kind of loop to the other.
func TestUnknown(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	for i := range 2 {
		l, err := g.enter()
		if err != nil {
			t.Fatal(err)
		}
		defer g.leave(l, 2)
		if i == 0 {
			l.ring.files = 0
		}
	}
	seen := map[bool]int{}
	for range 4 {
		client, server, ca, _ := relay(t, g, nil)
		echo(server)
		said, heard := []byte("said"), make([]byte, 4)
		for range 4 {
			if _, err := client.Write(said); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, heard); err != nil || !bytes.Equal(said, heard) {
				t.Fatalf("%q, %v", heard, err)
			}
			ca.mu.Lock()
			seen[ca.known]++
			ca.mu.Unlock()
			g.mu.Lock()
			for _, l := range g.loops {
				if l != nil && l != ca.loop.Load() {
					ca.move(l)
					break
				}
			}
			g.mu.Unlock()
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(heard); err != io.EOF {
			t.Errorf("%d bytes at the end, %v", n, err)
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("known by its slot and not: %v", seen)
	}
}

// still gives a loop that nobody serves.
func still(t *testing.T, g *Group) *loop {
	t.Helper()
	r, err := newRing(entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	return &loop{group: g, ring: r, users: 3, alarm: make(chan struct{}, 1), conns: []*Conn{nil}}
}

// socketFor gives a connection that no loop has.
func socketFor(t *testing.T) *Conn {
	t.Helper()
	_, near := pipe(t)
	fd, err := take(near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return newConn(near, fd)
}

// TestAdded: what a loop finds by a slot says that it is the loop's, from the
// beginning: the answer to a cancellation may come when the slot is another's.
func TestAdded(t *testing.T) {
	if !needLoop(t) {
		return
	}
	l := still(t, &Group{})
	of := socketFor(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 20_000 {
			c := &Conn{fd: of.fd}
			l.add(c)
			l.drop(c.slot)
		}
	}()
	for {
		select {
		case <-over:
			return
		default:
		}
		l.mu.Lock()
		for _, c := range l.conns {
			if c != nil && c.loop.Load() != l {
				t.Error("a connection is found that knows no loop")
			}
		}
		l.mu.Unlock()
		if t.Failed() {
			<-over
			return
		}
	}
}

// TestTakenAway: a loop that has sent a connection to another one once its sending
// was through does not touch what the other notes of the next.
func TestTakenAway(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	l, to := still(t, g), still(t, g)
	c, other := socketFor(t), socketFor(t)
	l.add(c)
	c.gate, c.over, c.goal = other, make(chan error, 1), to
	c.flying, c.sending, c.asked = []byte("x"), true, true
	l.sends = []*Conn{c}
	g.mu.Lock() // keeps the loop where it leaves what it has sent on
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.taken()
	}()
	for c.loop.Load() != to {
		runtime.Gosched()
	}
	c.mu.Lock()
	c.short = true // as the other one does of whose sending a part was taken
	c.mu.Unlock()
	g.mu.Unlock()
	<-over
	if !c.short {
		t.Error("a sending of which a part was taken counts as through")
	}
}

// apart has the server's end of a session go on in another loop as soon as it is
// carried.
func apart(t *testing.T, g *Group, cb *Conn) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.loops {
		if l != nil && l != cb.loop.Load() {
			cb.goal = l
			l.users++
			return
		}
	}
	t.Fatal("there is one loop alone")
}

// session adopts a session whose ends are carried once carry is called for each, a
// byte at a time, and ends it with the test.
func session(t *testing.T, g *Group) (client, server *net.TCPConn, ca, cb *Conn, carry func(c, other *Conn, f func(b []byte) error)) {
	t.Helper()
	client, a := pipe(t)
	server, b := pipe(t)
	ca, cb, err := g.Adopt(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	t.Cleanup(func() {
		ca.Close()
		cb.Close()
		both.Wait()
		ca.Release()
		cb.Release()
	})
	return client, server, ca, cb, func(c, other *Conn, f func(b []byte) error) {
		both.Go(func() {
			var buf [1]byte
			_ = c.Carry(other, func() []byte { return buf[:] }, func(n int, err error) error {
				if err != nil {
					return err
				}
				return f(buf[:n])
			})
		})
	}
}

// TestBothHandled: whose handler leaves does not keep its loop waiting, although the
// other end, through which it leaves, is handled in another loop, or is not carried
// yet.
func TestBothHandled(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	relay(t, g, nil) // the loop that the server's end goes on in
	client, server, ca, cb, carry := session(t, g)
	apart(t, g, cb)
	in, left, kept := make(chan struct{}, 1), make(chan struct{}), make(chan bool)
	carry(cb, ca, func([]byte) error {
		<-in
		ca.Leave()
		waits := cb.loop.Load().state.Load() == cb.turn.Load()
		left <- struct{}{}
		kept <- waits
		return nil
	})
	says := func(c *net.TCPConn) {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	in <- struct{}{}
	says(server)
	<-left
	if <-kept {
		t.Error("the loop waits with a handler that has left, before the other end is carried")
	}
	carry(ca, cb, func([]byte) error {
		in <- struct{}{}
		<-left
		return nil
	})
	for range 20 {
		says(client)
		says(server)
		if <-kept {
			t.Fatal("the loop waits with a handler that has left, while the other end is handled")
		}
	}
	if ca.loop.Load() == cb.loop.Load() {
		t.Error("both ends are in one loop")
	}
}

// TestTogether: a session that is on its way to a loop, of which one end has
// arrived, is not sent back without the other.
func TestTogether(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{regrouped: time.Now().Add(time.Hour)}
	relay(t, g, nil)
	client, server, ca, cb, carry := session(t, g)
	to := func(other *Conn) func([]byte) error {
		return func(b []byte) error {
			_, err := other.Write(b)
			return err
		}
	}
	says := func(c, other *net.TCPConn) {
		b := []byte("x")
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(other, b); err != nil {
			t.Fatal(err)
		}
	}
	from := ca.loop.Load()
	g.mu.Lock()
	at := slices.IndexFunc(g.loops, func(l *loop) bool { return l != nil && l != from })
	there := g.loops[at]
	ca.move(there)
	g.mu.Unlock()
	carry(ca, cb, to(cb))
	for ca.loop.Load() != there {
		says(client, server)
	}
	g.mu.Lock()
	ca.move(from) // while the server's end is still there
	g.mu.Unlock()
	carry(cb, ca, to(ca))
	for range 3 { // each has settled after a turn when it has the next
		says(server, client)
		says(client, server)
	}
	if ca.loop.Load() != cb.loop.Load() {
		t.Error("the ends are in two loops")
	}
}

// TestGone: a socket that is released is closed, although another of its loop, which
// is older, waits for something to read.
func TestGone(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	for range 2 * processors() {
		client, server, _, _ := relay(t, g, nil)
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		echoes(t, server, client, "x")
	}
	far, a := pipe(t)
	_, b := pipe(t)
	ca, cb, err := g.Adopt(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("unread")); err != nil { // so that the end is a reset
		t.Fatal(err)
	}
	ca.Release()
	cb.Release()
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const tcpClose = 7 // of <netinet/tcp.h>
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var info *unix.TCPInfo
		if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		if info.State == tcpClose {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("the peer is in state %d", info.State)
		}
	}
}
