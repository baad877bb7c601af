package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
)

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// flood writes the same bytes until nobody takes them any more, or the end.
func flood(nc net.Conn, b []byte, most int) (sent int) {
	b = bytes.Repeat(b, 1+(64<<10)/len(b))
	for sent < most {
		_ = nc.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := nc.Write(b)
		if sent += n; err != nil {
			break
		}
	}
	return sent
}

type unlogged struct{}

func (unlogged) Append(context.Context, []byte, bool) error { return nil }
func (unlogged) TryAppend([]byte, time.Time) bool           { return true }

// TestX02NotReading: a client that asks and asks and never reads an answer is
// held up, and costs a bounded piece of memory; another session is unharmed.
func TestX02NotReading(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	g.Log = unlogged{} // what a test's log keeps would count
	other := g.connect(t)
	var one int
	for name, c := range map[string]struct{ first, again []byte }{
		"queries":       {nil, query("select 1")},
		"large answers": {nil, query("select repeat('x', 100000)")},
		"Sync":          {nil, sync_()},
		"Describe":      {join(parseMsg("s", "select 1"), sync_()), join(frame('D', []byte("Ss\x00")), sync_())},
		"Bind, Execute": {join(parseMsg("s", "select id from orders"), sync_()), join(bindMsg("", "s"), executeMsg(""), sync_())},
	} {
		before := heap()
		nc := g.in(t)
		_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := nc.Write(c.first); err != nil {
			t.Fatal(err)
		}
		sent := flood(nc, c.again, 64<<20)
		if sent >= 64<<20 {
			t.Errorf("%s: %d bytes are taken without an answer being read", name, sent)
		}
		if now := heap(); now > before+32<<20 {
			t.Errorf("%s: %d MB after %d bytes", name, (now-before)>>20, sent)
		}
		if err := other.QueryRow(t.Context(), "select 1").Scan(&one); err != nil {
			t.Errorf("%s: another session: %v", name, err)
		}
		_ = nc.(*net.TCPConn).SetLinger(0)
		nc.Close()
	}
	_ = other.Close(t.Context())
	g.quiet(t)
}

// TestX02WithoutEnd: what a client makes the gateway remember has a bound: it
// is told, and where it goes on ended.
func TestX02WithoutEnd(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	// Everything is answered and read, and no Sync ever comes.
	nc := g.in(t)
	told := make(chan bool)
	go func() {
		all, last := make([]byte, 64<<10), []byte(nil)
		for {
			n, err := nc.Read(all)
			last = append(last[max(0, len(last)-4096):], all[:n]...)
			if err != nil {
				told <- bytes.Contains(last, []byte("54000"))
				return
			}
		}
	}()
	_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := nc.Write(parseMsg("s", "select 1")); err != nil {
		t.Fatal(err)
	}
	steps := append(bytes.Repeat(join(bindMsg("", "s"), executeMsg("")), 100), frame('H', nil)...)
	for range 2 * maxGrouped / (perCommand + perExecute) / 100 {
		if _, err := nc.Write(steps); err != nil {
			break
		}
	}
	if !<-told {
		t.Error("a group without a Sync has no bound")
	}
	g.quiet(t)
	// Who reads only when all is sent hears of it all the same.
	g.secured(t)
	g.protocol.Plain = true
	for _, tls := range []bool{false, true} {
		for _, loop := range []bool{false, true} {
			g.protocol.Loop(loop)
			g.overTLS = tls
			nc := g.in(t)
			_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
			_, err := nc.Write(frame('B', make([]byte, maxBind+1)))
			if b, _ := io.ReadAll(nc); !bytes.Contains(b, []byte("54000")) {
				t.Errorf("tls %t, loop %t: a message that is too large is answered with %q, %v", tls, loop, b, err)
			}
			nc.Close()
		}
	}
	g.overTLS = false
	g.quiet(t)
	// Names.
	for name, make := range map[string]func(i int) []byte{
		"statements": func(i int) []byte { return parseMsg(fmt.Sprint("s", i), "select 1") },
		"portals":    func(i int) []byte { return join(parseMsg("", "select 1"), bindMsg(fmt.Sprint("p", i), "")) },
	} {
		nc := g.in(t)
		_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
		go func() {
			b := query("begin")
			for i := range maxNames + 10 {
				b = append(b, make(i)...)
			}
			_, _ = nc.Write(append(b, join(sync_(), query("rollback"))...))
		}()
		if got := kinds(t, nc, 3); !strings.HasSuffix(got, "E54000 ZE C ZI") {
			t.Errorf("%s: …%s", name, got[max(0, len(got)-60):])
		}
		nc.Close()
	}
	g.quiet(t)
}

// TestX02Slow: a byte at a time, before and after the login, is a client like
// any other; one that stops in the middle keeps nobody.
func TestX02Slow(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	nc := g.raw(t, nil)
	all := join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), frame('p', []byte("token\x00")), query("select count(*) from orders"), frame('X', nil))
	for i := range all {
		if _, err := nc.Write(all[i : i+1]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if b, err := io.ReadAll(nc); err != nil || !bytes.Contains(b, []byte("200")) {
		t.Errorf("%q %v", b, err)
	}
	var halves []net.Conn
	for range 20 {
		nc := g.in(t)
		if _, err := nc.Write(query("select 1")[:7]); err != nil {
			t.Fatal(err)
		}
		halves = append(halves, nc)
	}
	if out := g.psql(t, "select 'in';\n"); !strings.Contains(out, "in") {
		t.Error(out)
	}
	for _, nc := range halves {
		nc.Close()
	}
	g.quiet(t)
}

// TestPW12Floods: cancel requests by the thousand, with wrong keys and with the
// right one: the session whose key it is stays usable, another is unharmed, and
// a command that comes after them is not hit.
func TestPW12Floods(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool { return true }})
	victim, other := g.connect(t), g.connect(t)
	g.protocol.mu.Lock()
	var keys []string
	for key := range g.protocol.keys {
		keys = append(keys, key)
	}
	g.protocol.mu.Unlock()
	stop := atomic.Bool{}
	done := make(chan int)
	for i := range 4 {
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				key := "\x00\x00\x00\x01\x00\x00\x00\x02"
				if i == 0 { // the right ones, one after another
					key = keys[n%2]
				}
				if nc, err := net.Dial("tcp", g.addr); err == nil {
					_, _ = nc.Write(packet("\x04\xd2\x16\x2e" + key))
					if i < 2 {
						_, _ = io.Copy(io.Discard, nc)
					}
					nc.Close()
				}
			}
			done <- n
		}()
	}
	for i := range 200 {
		var n int
		if err := other.QueryRow(t.Context(), "select $1::int", i).Scan(&n); err != nil && code(err) != "57014" || err == nil && n != i {
			t.Fatal(n, err)
		}
	}
	stop.Store(true)
	for range 4 {
		if n := <-done; n == 0 {
			t.Error("nothing was sent")
		}
	}
	for _, c := range []*pgx.Conn{victim, other} { // what comes after the last of them is not hit
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
