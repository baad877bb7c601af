package loop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain has two processors at least: how many there are is asked once.
func TestMain(m *testing.M) {
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	os.Exit(m.Run())
}

// pipe gives both ends of a connection over loopback.
func pipe(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// relay carries a session whose ends it gives, and waits at the end of the test
// until both directions have ended.
func relay(t testing.TB, g *Group, arrived func(c *Conn, b []byte) error) (client, server *net.TCPConn, ca, cb *Conn) {
	t.Helper()
	client, a := pipe(t)
	server, b := pipe(t)
	ca, cb, err := g.Adopt(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	one := func(from, to *Conn) {
		defer both.Done()
		var buf [32 << 10]byte
		err := from.Carry(to, func() []byte { return buf[:] }, func(n int, err error) error {
			if err != nil {
				return err
			}
			if arrived != nil {
				if err := arrived(from, buf[:n]); err != nil {
					return err
				}
			}
			_, err = to.Write(buf[:n])
			return err
		})
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
		} else {
			t.Log(err)
		}
	}
	both.Add(2)
	go one(ca, cb)
	go one(cb, ca)
	done := make(chan struct{})
	go func() {
		both.Wait()
		_ = ca.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_ = cb.SetWriteDeadline(time.Now().Add(10 * time.Second))
		ca.Release()
		cb.Release()
		close(done)
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-done
	})
	return client, server, ca, cb
}

// needLoop says whether there are loops here. Where the kernel has none, or is
// not let, it holds that this is said and that connections stay as they were.
func needLoop(t testing.TB) bool {
	t.Helper()
	r, err := newRing(entries)
	if err == nil {
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	t.Log("no loops here: ", err)
	stays(t, new(Group))
	return false
}

// stays holds that a group takes no connections, and leaves them as they were.
func stays(t testing.TB, g *Group) {
	t.Helper()
	far, near := pipe(t)
	_, other := pipe(t)
	if _, _, err := g.Adopt(near, other); !errors.Is(err, ErrNone) {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// TestCarry: whatever both ends send, in whatever pieces and however slowly it
// is read, arrives whole and in order, up to the end of both streams.
func TestCarry(t *testing.T) {
	if !needLoop(t) {
		return
	}
	var g Group
	var all sync.WaitGroup
	for s := range 20 {
		client, server, _, _ := relay(t, &g, nil)
		for i, pair := range [][2]*net.TCPConn{{client, server}, {server, client}} {
			r := rand.New(rand.NewPCG(uint64(s), uint64(i)))
			size := r.IntN(4 << 20)
			said := sha256.New()
			all.Go(func() {
				for size > 0 {
					b := make([]byte, min(size, 1+r.IntN([]int{10, 2000, 300_000}[r.IntN(3)])))
					for i := range b {
						b[i] = byte(r.Uint32())
					}
					said.Write(b)
					if _, err := pair[0].Write(b); err != nil {
						t.Error(err)
						return
					}
					size -= len(b)
				}
				_ = pair[0].CloseWrite()
			})
			heard := sha256.New()
			all.Go(func() {
				b := make([]byte, 100_000)
				for {
					n, err := pair[1].Read(b[:1+rand.IntN(len(b))])
					heard.Write(b[:n])
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					if rand.IntN(20) == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			})
			t.Cleanup(func() {
				if !bytes.Equal(said.Sum(nil), heard.Sum(nil)) {
					t.Errorf("session %d, direction %d: it is not what was sent", s, i)
				}
			})
		}
	}
	all.Wait()
}

// TestLeave: who waits in a handler, having left the loop or not, keeps nobody
// else from being carried.
func TestLeave(t *testing.T) {
	if !needLoop(t) {
		return
	}
	for _, leaves := range []bool{true, false} {
		var g Group
		release := make(chan struct{})
		waits := func(c *Conn, b []byte) error {
			if b[0] == 'w' {
				if leaves {
					c.Leave()
				}
				<-release
			}
			return nil
		}
		var all sync.WaitGroup
		for range 5 {
			client, server, _, _ := relay(t, &g, waits)
			if _, err := client.Write([]byte("wait")); err != nil {
				t.Fatal(err)
			}
			all.Go(func() { echoes(t, server, client, "wait") })
		}
		for range 5 {
			client, server, _, _ := relay(t, &g, waits)
			for range 50 {
				if _, err := client.Write([]byte("go on")); err != nil {
					t.Fatal(err)
				}
				echoes(t, server, client, "go on")
			}
		}
		close(release)
		all.Wait()
	}
}

// TestLeftThread: the thread stays with the loop, and what has left it waits for
// a disk in another.
func TestLeftThread(t *testing.T) {
	if !needLoop(t) {
		return
	}
	var g Group
	var other atomic.Int32
	client, server, _, _ := relay(t, &g, func(c *Conn, _ []byte) error {
		before := unix.Gettid()
		if c.Leave(); unix.Gettid() != before {
			other.Add(1)
		}
		return nil
	})
	const times = 200
	for range times {
		if _, err := client.Write([]byte("leaves")); err != nil {
			t.Fatal(err)
		}
		echoes(t, server, client, "leaves")
	}
	t.Logf("%d of %d", other.Load(), 2*times)
	if other.Load() < times {
		t.Errorf("%d of %d went on in another thread", other.Load(), 2*times)
	}
}

// echoes reads what is expected and has the other end read an answer.
func echoes(t *testing.T, server, client *net.TCPConn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(server, b); err != nil || string(b) != want {
		t.Errorf("%q %v", b, err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	b = make([]byte, 6)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "answer" {
		t.Errorf("%q %v", b, err)
	}
}

// TestMore: who has more to handle than a turn allows, for ever if need be, keeps
// nobody else from being carried, is called until it has finished and then reads
// on, and can be ended in between.
func TestMore(t *testing.T) {
	if !needLoop(t) {
		return
	}
	for _, leaves := range []bool{false, true} {
		var g Group
		var turns atomic.Int64
		var enough atomic.Bool
		greedy := func(c *Conn, b []byte) error {
			if len(b) > 0 && b[0] != 'm' || enough.Load() {
				return nil
			}
			if turns.Add(1)%3 == 0 && leaves {
				c.Leave()
			}
			return ErrMore
		}
		client, server, _, _ := relay(t, &g, greedy)
		other, end, carried, _ := relay(t, &g, greedy)
		for _, nc := range []*net.TCPConn{client, other} {
			if _, err := nc.Write([]byte("more")); err != nil {
				t.Fatal(err)
			}
		}
		patient, far, _, _ := relay(t, &g, greedy)
		for range 50 {
			if _, err := patient.Write([]byte("go on")); err != nil {
				t.Fatal(err)
			}
			echoes(t, far, patient, "go on")
		}
		if err := carried.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := carried.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		end.Close()
		if was := turns.Load(); was < 10 {
			t.Errorf("%d turns", was)
		}
		enough.Store(true)
		if _, err := client.Write([]byte("and on")); err != nil {
			t.Fatal(err)
		}
		echoes(t, server, client, "and on")
	}
}

// TestShortSends: a sending that had to wait and one that did not, answered
// together, are told apart: who reads slowly gets all of it. So it is where the
// kernel has to be told in between what to do, since the queue is full.
func TestShortSends(t *testing.T) {
	if !needLoop(t) {
		return
	}
	for _, n := range []uint32{entries, 1} {
		t.Run(strconv.Itoa(int(n)), func(t *testing.T) { shortSends(t, &Group{entries: n}) })
	}
}

func shortSends(t *testing.T, g *Group) {
	client, server, _, _ := relay(t, g, nil)
	for range 8 {
		c, s, _, _ := relay(t, g, nil)
		go func() { _, _ = io.Copy(s, s) }()
		go func() {
			for b := make([]byte, 100); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
			}
		}()
	}
	const total = 64 << 20 // more than the sockets' buffers
	source := func() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{}) }
	go func() {
		if n, err := io.CopyBuffer(struct{ io.Writer }{server}, io.LimitReader(source(), total), make([]byte, 64<<10)); err != nil {
			t.Error(n, err)
		}
	}()
	_ = client.SetReadDeadline(time.Now().Add(time.Minute))
	for from, got, b, want := source(), 0, make([]byte, 256<<10), make([]byte, 256<<10); got < total; {
		n, err := client.Read(b)
		_, _ = from.Read(want[:n])
		if !bytes.Equal(b[:n], want[:n]) {
			t.Fatalf("at %d of the stream something else came", got)
		}
		if got += n; err != nil {
			t.Fatal(got, err)
		}
		if got%(1<<20) < len(b) {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// TestLateBell: who is about to wake a loop and comes to it when the loop has ended,
// as a kill may that meets the end of both its sessions, writes into nothing else's
// descriptor.
func TestLateBell(t *testing.T) {
	if !needLoop(t) {
		return
	}
	l, err := newLoop(&Group{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	l.end()
	for {
		if _, err := unix.FcntlInt(uintptr(l.bell), unix.F_GETFD, 0); err == unix.EBADF {
			break
		}
		time.Sleep(time.Millisecond)
	}
	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if other != l.bell { // what is opened next has the lowest number that is free
		if err := unix.Dup3(other, l.bell, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(l.bell)
	}
	l.asleep.Store(true) // as who is late has found it
	l.wake()
	if n, err := unix.Read(other, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("%d bytes are in what has the bell's number now: %v", n, err)
	}
}

// BenchmarkRelay has eight sessions ask and answer, by a loop and by a
// goroutine for each direction.
func BenchmarkRelay(b *testing.B) {
	const sessions = 8
	for _, by := range []string{"loop", "goroutines"} {
		b.Run(by, func(b *testing.B) {
			if by == "loop" && !needLoop(b) {
				return
			}
			var g Group
			var all sync.WaitGroup
			for range sessions {
				var client, server *net.TCPConn
				if by == "loop" {
					client, server, _, _ = relay(b, &g, nil)
				} else {
					var x, y *net.TCPConn
					client, x = pipe(b)
					server, y = pipe(b)
					for _, p := range [][2]*net.TCPConn{{x, y}, {y, x}} {
						go func() {
							buf := make([]byte, 32<<10)
							for {
								n, err := p[0].Read(buf)
								if err != nil {
									return
								}
								if _, err := p[1].Write(buf[:n]); err != nil {
									return
								}
							}
						}()
					}
				}
				go func() { _, _ = io.Copy(server, server) }()
				all.Go(func() {
					m := make([]byte, 100)
					for range b.N / sessions {
						if _, err := client.Write(m); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(client, m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
