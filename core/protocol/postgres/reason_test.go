package postgres

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
)

// TestEndsAreCounted: each way in which a connection can end is told of by one
// word, once.
func TestEndsAreCounted(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	ended := make(chan string, 2*door.One)
	g.protocol.Ended = func(reason string) { ended <- reason }
	rest := func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc); nc.Close() }
	hello := packet(v30 + "user\x00x\x00database\x00shop\x00\x00")
	for _, c := range []struct {
		what, reason string
		do           func()
	}{
		{"Terminate", "left", func() { nc := g.in(t); _, _ = nc.Write(frame('X', nil)); rest(nc) }},
		{"gone", "left", func() { g.in(t).Close() }},
		{"gone by a reset", "left", func() { nc := g.in(t); _ = nc.(*net.TCPConn).SetLinger(0); nc.Close() }},
		{"gone before the login", "left", func() { g.raw(t, hello).Close() }},
		{"gone within a startup packet", "left", func() { g.raw(t, hello[:6]).Close() }},
		{"a cancel request", "left", func() { rest(g.raw(t, packet("\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02"))) }},
		{"HTTP", "rude", func() { rest(g.raw(t, []byte("GET / HTTP/1.1\r\n\r\n"))) }},
		{"a message that does not exist", "rude", func() { nc := g.in(t); _, _ = nc.Write(frame('?', nil)); rest(nc) }},
		{"a length that cannot be", "rude", func() { nc := g.in(t); _, _ = nc.Write([]byte("Q\x00\x00\x00\x03")); rest(nc) }},
		{"a wrong token", "refused", func() {
			nc := g.raw(t, hello)
			_, _ = nc.Write(frame('p', []byte("no\x00")))
			rest(nc)
		}},
		{"too large", "limit", func() { nc := g.in(t); _, _ = nc.Write([]byte("D\x3f\xff\xff\xff")); rest(nc) }},
		{"killed", "ended", func() { nc := g.in(t); g.Kill("test", func(*gate.Session) bool { return true }); rest(nc) }},
		{"a server that makes no sense", "resource", func() {
			g.Dialer = &rude{dialer: dialer{database: g.db}, answer: frame('?', nil)}
			nc := g.in(t)
			_, _ = nc.Write(query("select 1"))
			rest(nc)
			g.Dialer = dialer{database: g.db}
		}},
		{"a server that is gone", "resource", func() {
			g.Dialer = &rude{dialer: dialer{database: g.db}, hangUp: true}
			nc := g.in(t)
			_, _ = nc.Write(query("select 1"))
			rest(nc)
			g.Dialer = dialer{database: g.db}
		}},
		{"a log that takes nothing", "fault", func() {
			nc := g.in(t)
			g.log.mu.Lock()
			g.log.failed = true
			g.log.mu.Unlock()
			_, _ = nc.Write(query("select 1"))
			rest(nc)
			g.log.mu.Lock()
			g.log.failed = false
			g.log.mu.Unlock()
		}},
		{"nothing in time", "late", func() {
			g.patient(20 * time.Millisecond)
			rest(g.raw(t, hello))
			g.patient(0)
		}},
		{"one too many, and those who were let wait", "left", func() {
			var held []net.Conn
			for range door.One + 1 {
				held = append(held, g.raw(t, nil))
			}
			if got := <-ended; got != "crowded" {
				t.Errorf("one too many: %s", got)
			}
			for _, nc := range held {
				nc.Close()
			}
			for range door.One - 1 {
				if got := <-ended; got != "left" {
					t.Errorf("one that was let wait: %s", got)
				}
			}
		}},
	} {
		c.do()
		if got := <-ended; got != c.reason {
			t.Errorf("%s: %s, not %s", c.what, got, c.reason)
		}
		if !slices.Contains(Reasons, c.reason) {
			t.Errorf("%s is no reason", c.reason)
		}
	}
}
