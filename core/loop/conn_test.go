package loop

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestSlowPeer: of what is for who does not read, little is kept, and the other
// end is not read on.
func TestSlowPeer(t *testing.T) {
	if !needLoop(t) {
		return
	}
	var g Group
	client, server, ca, _ := relay(t, &g, nil)
	_ = server.SetWriteDeadline(time.Now().Add(time.Second))
	for {
		if _, err := server.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	ca.mu.Lock()
	kept := len(ca.out) + len(ca.flying)
	ca.mu.Unlock()
	if kept == 0 || kept > much+64<<10 {
		t.Errorf("%d bytes are kept", kept)
	}
	_ = client.CloseWrite() // the other direction is carried all the same
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

// TestWriteWaits: who waits to write, since much is kept, goes on once that is on its
// way, though the kernel takes all of it at once, of which it says nothing.
func TestWriteWaits(t *testing.T) {
	if !needLoop(t) {
		return
	}
	large := make([]byte, toomuch+1)
	client, server, _, _ := relay(t, new(Group), func(c *Conn, _ []byte) error {
		_, err := c.gate.Write(large) // and what has come follows it
		return err
	})
	_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, len(large)+1)
	for i := range 300 {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(server, b); err != nil || b[len(large)] != 'x' {
			t.Fatalf("%d: %d bytes: %v", i, n, err)
		}
	}
}

// TestDeadlines: a reading ends at once when it is told to, a writing at its
// deadline, and what was written before is not lost.
func TestDeadlines(t *testing.T) {
	if !needLoop(t) {
		return
	}
	var g Group
	far, near := pipe(t)
	other, nearer := pipe(t)
	a, b, err := g.Adopt(near, nearer)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for _, c := range []*Conn{a, b} {
		go func() {
			ended <- c.Carry(a, func() []byte { return make([]byte, 10) }, func(_ int, err error) error { return err })
		}()
	}
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	_ = a.SetReadDeadline(time.Now())
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = b.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := a.Finish(); err != nil {
		t.Error(err)
	}
	if _, err := a.Write([]byte("!")); err != nil {
		t.Error(err)
	}
	words := make([]byte, 11)
	if _, err := io.ReadFull(far, words); err != nil || string(words) != "last words!" {
		t.Errorf("%q %v", words, err)
	}
	if _, err := b.Write(make([]byte, 32<<20)); err != nil { // more than the kernel takes
		t.Fatal(err)
	}
	_ = b.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if err := b.Finish(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	a.Release()
	b.Release()
	if n, err := other.Read(words); n == 0 && err == nil {
		t.Error("nothing had been sent")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.loops {
		if l != nil {
			t.Error("a loop runs that carries nothing")
		}
	}
}

// TestFullPeer: who writes last words to a client that does not read them keeps
// neither the loop nor the group waiting.
func TestFullPeer(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	far, near := pipe(t)
	_, nearer := pipe(t)
	a, b, err := g.Adopt(near, nearer)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for _, c := range []*Conn{a, b} {
		go func() {
			ended <- c.Carry(a, func() []byte { return make([]byte, 1) }, func(n int, err error) error {
				if err == nil {
					err = io.EOF
				}
				return err
			})
		}()
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	<-ended
	<-ended
	_ = a.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if err := a.Finish(); err != nil {
		t.Fatal(err)
	}
	var others [][2]*net.TCPConn // in each loop
	for range 2 * processors() {
		client, server, _, _ := relay(t, g, nil)
		others = append(others, [2]*net.TCPConn{client, server})
	}
	words := make([]byte, 32<<20) // more than the kernel takes
	wrote := make(chan error, 1)
	go func() {
		_, err := a.Write(words)
		wrote <- err
	}()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	a.look()
	g.regroup()
	for _, o := range others {
		if _, err := o[0].Write([]byte("go on")); err != nil {
			t.Fatal(err)
		}
		echoes(t, o[1], o[0], "go on")
	}
	select {
	case err := <-wrote:
		t.Error("others had to wait until it was written:", err)
	default:
		if _, err := io.ReadFull(far, make([]byte, len(words)-1)); err != nil {
			t.Error(err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	}
	a.Release()
	b.Release()
}
