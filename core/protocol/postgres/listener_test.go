package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// from connects from an address of loopback.
func (g *gateway) from(t *testing.T, host byte) net.Conn {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}).Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

// TestX02Flood: connections that say nothing are bounded in all, whatever they
// come from, keep nobody out, are cut off when their time is over, and leave
// nothing behind.
func TestX02Flood(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	live := g.connect(t)
	var idle []net.Conn
	for i := range door.Most + 100 {
		idle = append(idle, g.from(t, byte(10+i/(door.One-10))))
	}
	waiting := g.protocol.door.Waiting
	for waiting() < door.Most {
		time.Sleep(time.Millisecond)
	}
	if _, err := idle[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("the first of them, with more than there may be: %v", err)
	}
	if out := g.psql(t, "select 'let in';\n"); !strings.Contains(out, "let in") {
		t.Errorf("who comes then: %s", out)
	}
	if _, err := live.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("who is in: %v", err)
	}
	for _, nc := range idle {
		nc.Close()
	}
	for waiting() > 0 {
		time.Sleep(time.Millisecond)
	}
	g.patient(50 * time.Millisecond)
	for name, said := range map[string][]byte{"nothing": nil, "half a startup": packet(v30 + "user\x00x\x00\x00")[:9], "no password": packet(v30 + "user\x00x\x00database\x00shop\x00\x00")} {
		if _, err := io.Copy(io.Discard, g.raw(t, said)); err != nil && !isReset(err) {
			t.Errorf("%s: is not cut off: %v", name, err)
		}
	}
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset") }

// TestX03ProxyHeader: the PROXY protocol is not spoken. Its header is refused
// like any other that PostgreSQL does not begin with (X04, X05), and the
// address that counts is the one that the connection has.
func TestX03ProxyHeader(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	startup := packet(v30 + "user\x00x\x00database\x00shop\x00\x00")
	for name, head := range map[string][]byte{
		"X03 PROXY 1":               []byte("PROXY TCP4 192.0.2.7 192.0.2.1 1234 6432\r\n"),
		"X03 PROXY 2":               []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x04\xd2\x19\x20"),
		"X04 PROXY behind N":        join(packet("\x04\xd2\x16\x2f"), []byte("PROXY TCP4 192.0.2.7 192.0.2.1 1234 6432\r\n")),
		"X05 HTTP":                  []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"X05 SSH":                   []byte("SSH-2.0-OpenSSH_9.2\r\n"),
		"X05 TLS, and none here":    []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"),
		"X05 MySQL says nothing":    {0},
		"X05 zeros":                 make([]byte, 100),
		"X05 Redis":                 []byte("*1\r\n$4\r\nPING\r\n"),
		"X05 a length that is ours": append(packet("nope\x00"), 0, 0),
	} {
		nc := g.raw(t, join(head, startup))
		all, err := io.ReadAll(nc)
		if err != nil && !isReset(err) {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.ContainsAny(all, "RZ") && !strings.Contains(string(all), "FATAL") {
			t.Errorf("%s: goes on: %q", name, all)
		}
	}
	if out := g.psql(t, "select 'in';\n"); !strings.Contains(out, "in") {
		t.Error(out)
	}
}

// secured makes the gateway's listener one with a certificate.
func (g *gateway) secured(t *testing.T) *tls.Config {
	t.Helper()
	ca, caKey, err := pgtest.Certificate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key, err := pgtest.Certificate(ca, caKey)
	if err != nil {
		t.Fatal(err)
	}
	g.protocol.Secure(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}, false, OAuth{})
	return &tls.Config{InsecureSkipVerify: true} // who it is, is not what these tests are about
}

// TestX06ALPN: TLS from the first byte on is for the name postgresql alone; TLS
// that was asked for does without a name, but takes no other.
func TestX06ALPN(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	base := g.secured(t)
	for name, c := range map[string]struct {
		offers []string
		asked  bool
		ok     bool
	}{
		"direct":               {[]string{"postgresql"}, false, true},
		"direct, among others": {[]string{"h2", "postgresql"}, false, true},
		"direct, no name":      {nil, false, false},
		"direct, another":      {[]string{"http/1.1"}, false, false},
		"direct, one like it":  {[]string{"POSTGRESQL"}, false, false},
		"asked":                {nil, true, true},
		"asked, with the name": {[]string{"postgresql"}, true, true},
		"asked, with another":  {[]string{"http/1.1"}, true, false},
	} {
		nc := g.raw(t, nil)
		if c.asked {
			if _, err := nc.Write(packet("\x04\xd2\x16\x2f")); err != nil {
				t.Fatal(err)
			}
			if b := make([]byte, 1); func() bool { _, err := io.ReadFull(nc, b); return err != nil || b[0] != 'S' }() {
				t.Fatalf("%s: %q", name, b)
			}
		}
		config := base.Clone()
		config.NextProtos = c.offers
		client := tls.Client(nc, config)
		kind := byte(0)
		_, err := client.Write(packet(v30 + "user\x00x\x00database\x00shop\x00\x00"))
		if err == nil {
			kind, _, err = readMessage(client)
		}
		if got := err == nil && kind == 'R'; got != c.ok {
			t.Errorf("%s: %c %v", name, kind, err)
		}
	}
}

// TestX07Resumption: a session of TLS that is resumed is asked for its password
// as any other, and a certificate that has changed is met anew.
func TestX07Resumption(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	config := g.secured(t)
	config.NextProtos, config.ClientSessionCache, config.ServerName = []string{"postgresql"}, tls.NewLRUClientSessionCache(4), "localhost"
	enter := func(password string) (resumed bool, kind byte) {
		t.Helper()
		client := tls.Client(g.raw(t, nil), config)
		if _, err := client.Write(packet(v30 + "user\x00x\x00database\x00shop\x00\x00")); err != nil {
			t.Fatal(err)
		}
		kind, body, err := readMessage(client)
		if err != nil || kind != 'R' || body[3] != 3 {
			t.Fatalf("no password is asked for: %c %q %v", kind, body, err)
		}
		if _, err := client.Write(frame('p', []byte(password+"\x00"))); err != nil {
			t.Fatal(err)
		}
		if kind, _, err = readMessage(client); err != nil {
			t.Fatal(err)
		}
		return client.ConnectionState().DidResume, kind
	}
	if resumed, kind := enter("token"); resumed || kind != 'R' {
		t.Errorf("first: %t %c", resumed, kind)
	}
	if resumed, kind := enter("token"); !resumed || kind != 'R' {
		t.Errorf("again: %t %c", resumed, kind)
	}
	if resumed, kind := enter("wrong"); !resumed || kind != 'E' {
		t.Errorf("with a wrong password: %t %c", resumed, kind)
	}
	g.secured(t)
	if resumed, kind := enter("token"); resumed || kind != 'R' {
		t.Errorf("another certificate: %t %c", resumed, kind)
	}
}

// TestX09SlowReader: a client that does not read holds up its server, and
// nothing is piled up in between.
func TestX09SlowReader(t *testing.T) {
	g := serve(t, &rules{allow: func(*abi.Command) bool { return true }})
	const rows, size = 400_000, 1000
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := nc.Write(query(fmt.Sprintf("select repeat('x', %d) from generate_series(1, %d)", size, rows))); err != nil {
		t.Fatal(err)
	}
	for waits := 0; waits < 5; time.Sleep(20 * time.Millisecond) { // the server waits for us to read, and goes on waiting
		out, err := server.Psql("postgres", "select count(*) from pg_stat_activity where datname = '"+g.db+"' and wait_event = 'ClientWrite'")
		if err != nil {
			t.Fatal(err)
		}
		if waits++; strings.TrimSpace(out) != "1" {
			waits = 0
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MB of %d are held", grown>>20, rows*size>>20)
	}
	if out := g.psql(t, "select 'another session';\n"); !strings.Contains(out, "another session") {
		t.Error(out)
	}
	got, head := 0, make([]byte, 5)
	for {
		if _, err := io.ReadFull(nc, head); err != nil {
			t.Fatal(err)
		}
		n := int64(head[1])<<24 | int64(head[2])<<16 | int64(head[3])<<8 | int64(head[4])
		if _, err := io.CopyN(io.Discard, nc, n-4); err != nil {
			t.Fatal(err)
		}
		if head[0] == 'D' {
			got++
		}
		if head[0] == 'Z' {
			break
		}
	}
	if got != rows {
		t.Errorf("%d rows", got)
	}
	// The other way: who sends and never reads is not read from for ever.
	nc = g.in(t)
	_ = nc.SetWriteDeadline(time.Now().Add(3 * time.Second))
	text := query("select repeat('x', 100000)")
	sent := 0
	for ; sent < 1_000_000; sent++ {
		if _, err := nc.Write(text); err != nil {
			break
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); sent == 1_000_000 || grown > 64<<20 {
		t.Errorf("%d commands are taken, %d MB held", sent, grown>>20)
	}
}

// endless is an upstream that says the same for ever, from the first byte on.
type endless struct {
	answer []byte
	served sync.WaitGroup
}

func (h *endless) Dial(context.Context, *gate.Resource, string) (gate.Upstream, error) {
	ours, theirs := net.Pipe()
	h.served.Go(func() {
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }() // ends with the connection
		for {
			if _, err := theirs.Write(h.answer); err != nil {
				return
			}
		}
	})
	return gate.Upstream{Conn: ours, User: "app", Password: "x", Database: "shop"}, nil
}

// TestX10HostileUpstream: a resource that never comes to the point, or says too
// much, costs its own session and nothing else.
func TestX10HostileUpstream(t *testing.T) {
	ok := encode(&pgproto3.AuthenticationOk{})
	for name, answer := range map[string][]byte{
		"notices":            frame('N', []byte("SNOTICE\x00C00000\x00Mx\x00\x00")),
		"authenticated":      ok,
		"large parameters":   join(ok, frame('S', append([]byte("application_name\x00"), append(bytes.Repeat([]byte("x"), maxMessage/2), 0)...))),
		"a huge length":      []byte("N\x7f\xff\xff\xff"),
		"a length too small": []byte("N\x00\x00\x00\x00"),
		"zeros":              make([]byte, 1000),
		"cleartext":          frame('R', []byte{0, 0, 0, 3}),
		"MD5":                frame('R', []byte("\x00\x00\x00\x05salt")),
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, &rules{allow: noDelete})
			h := &endless{answer: answer}
			good := g.Dialer
			g.Dialer = h
			nc := g.raw(t, packet(v30+"user\x00x\x00database\x00shop\x00\x00"))
			if _, _, err := readMessage(nc); err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Write(frame('p', []byte("token\x00"))); err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			all, err := io.ReadAll(nc)
			if err != nil || !strings.Contains(string(all), "08006") || strings.Contains(string(all), "Z\x00\x00\x00\x05") {
				t.Errorf("%q %v", all, err)
			}
			h.served.Wait()
			g.quiet(t)
			g.Dialer = good
			if out := g.psql(t, "select 'the next one';\n"); !strings.Contains(out, "the next one") {
				t.Error(out)
			}
		})
	}
}

// TestX12Panic: a fault of the gateway ends one connection, is told of, and the
// session is closed.
func TestX12Panic(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		if strings.Contains(c.Statement.Text, "boom") {
			panic("hunter2")
		}
		return true
	}})
	other := g.connect(t)
	c := g.connect(t)
	_, err := c.Exec(t.Context(), "select 'boom'")
	if err == nil || !strings.Contains(err.Error(), "internal error, session ") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if _, err := other.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("another session: %v", err)
	}
	_ = other.Close(t.Context())
	g.quiet(t)
	if said := g.said(); !strings.Contains(said, "panic: hunter2") {
		t.Errorf("nobody is told: %q", said)
	}
}
