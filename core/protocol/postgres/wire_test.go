package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
)

func packet(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

const v30 = "\x00\x03\x00\x00"

// raw opens a bare connection to the gateway and sends bytes.
func (g *gateway) raw(t *testing.T, b []byte) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	return nc
}

// in logs in and gives a connection that is ready.
func (g *gateway) in(t *testing.T) net.Conn {
	t.Helper()
	version := v30
	if g.newer {
		version = "\x00\x03\x00\x02"
	}
	hello := packet(version + "user\x00x\x00database\x00shop\x00\x00")
	var nc net.Conn
	if g.overTLS {
		nc = g.tls(t, false)
		if _, err := nc.Write(hello); err != nil {
			t.Fatal(err)
		}
	} else {
		nc = g.raw(t, hello)
	}
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case 'R':
			if binary.BigEndian.Uint32(body) == 3 {
				if _, err := nc.Write(frame('p', []byte("token\x00"))); err != nil {
					t.Fatal(err)
				}
			}
		case 'E':
			t.Fatalf("%q", body)
		case 'Z':
			return nc
		}
	}
}

// kinds reads messages up to and with so many ReadyForQuery and gives their
// kinds; errors as their code.
func kinds(t *testing.T, nc net.Conn, ready int) string {
	t.Helper()
	var out []string
	for ready > 0 {
		kind, body, err := readMessage(nc)
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		switch kind {
		case 'Z':
			ready--
			out = append(out, "Z"+string(body))
		case 'E':
			_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
			out = append(out, "E"+code[:5])
		case 'N', 'S':
		default:
			out = append(out, string(kind))
		}
	}
	return strings.Join(out, " ")
}

func query(s string) []byte { return frame('Q', append([]byte(s), 0)) }
func parseMsg(name, s string) []byte {
	return frame('P', []byte(name+"\x00"+s+"\x00\x00\x00"))
}
func bindMsg(portal, name string) []byte {
	return frame('B', []byte(portal+"\x00"+name+"\x00\x00\x00\x00\x00\x00\x00"))
}
func executeMsg(portal string) []byte { return frame('E', []byte(portal+"\x00\x00\x00\x00\x00")) }
func sync_() []byte                   { return frame('S', nil) }

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// conversation is what is sent, all at once, and the kinds of what comes back,
// up to so many ReadyForQuery.
type conversation struct {
	send  []byte
	ready int
	want  string
}

var conversations = map[string]conversation{
	"PW19 a refusal, then on":          {join(query("delete from orders"), query("select 1")), 2, "E42501 ZI T D C ZI"},
	"PW20 extended":                    {join(parseMsg("", "select 1"), bindMsg("", ""), executeMsg(""), parseMsg("", "delete from orders"), bindMsg("", ""), executeMsg(""), parseMsg("", "select 2"), sync_(), query("select 3")), 2, "1 2 D C E42501 ZI T D C ZI"},
	"PW21 a refusal in a transaction":  {join(query("begin"), query("delete from orders"), query("select 1"), query("rollback"), query("select 1")), 5, "C ZT E42501 ZE E25P02 ZE C ZI T D C ZI"},
	"PW18 several statements":          {query("select 1; delete from orders; select 2"), 1, "E42501 ZI"},
	"PS20 empty":                       {join(query(""), query(";;"), query("-- nothing")), 3, "I ZI I ZI I ZI"},
	"PW24 a name twice":                {join(parseMsg("s", "select 1"), sync_(), parseMsg("s", "select 2"), sync_(), bindMsg("", "s"), executeMsg(""), sync_()), 3, "1 ZI E42P05 ZI 2 D C ZI"},
	"PW24 closed and made anew":        {join(parseMsg("s", "select 1"), frame('C', []byte("Ss\x00")), parseMsg("s", "select 2"), bindMsg("", "s"), executeMsg(""), sync_()), 1, "1 3 1 2 D C ZI"},
	"a close that was skipped":         {join(parseMsg("s", "select 1"), sync_(), parseMsg("", "selct"), frame('C', []byte("Ss\x00")), sync_(), parseMsg("s", "select count(*) from orders"), sync_(), bindMsg("", "s"), executeMsg(""), sync_()), 4, "1 ZI E42601 ZI E42P05 ZI 2 D C ZI"},
	"a parse that was skipped":         {join(parseMsg("", "select 1"), sync_(), bindMsg("", "nope"), parseMsg("", "select count(*) from orders"), sync_(), bindMsg("", ""), executeMsg(""), sync_()), 3, "1 ZI E26000 ZI 2 D C ZI"},
	"no such statement":                {join(bindMsg("", "nope"), executeMsg(""), sync_()), 1, "E26000 ZI"},
	"no such portal":                   {join(executeMsg("nope"), sync_()), 1, "E34000 ZI"},
	"PW29 function call":               {join(frame('F', []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00")), query("select 1")), 2, "E0A000 ZI T D C ZI"},
	"PW27 a portal in parts":           {join(query("begin"), parseMsg("", "select id from orders"), bindMsg("p", ""), frame('E', []byte("p\x00\x00\x00\x00\x02")), frame('E', []byte("p\x00\x00\x00\x00\x01")), sync_(), query("commit")), 3, "C ZT 1 2 D D s D s ZT C ZI"},
	"a portal after its transaction":   {join(parseMsg("", "select 1"), bindMsg("p", ""), sync_(), executeMsg("p"), sync_()), 2, "1 2 ZI E34000 ZI"},
	"PW30 copy that fails":             {join(query("copy items from stdin"), frame('f', []byte("no\x00")), query("select 1")), 2, "G E57014 ZI T D C ZI"},
	"PW30 sync and flush in a copy":    {join(query("copy items from stdin"), sync_(), frame('H', nil), frame('c', nil), query("select 1")), 2, "G C ZI T D C ZI"},
	"PW30 copy that is refused":        {join(query("copy items from '/etc/passwd'"), query("copy items from program 'id'"), query("select 1")), 3, "E42501 ZI E42501 ZI T D C ZI"},
	"copy data out of place":           {join(frame('d', []byte("x")), frame('c', nil), query("select 1")), 1, "T D C ZI"},
	"the reserved name":                {join(parseMsg(placeholderName, "select 1"), sync_()), 1, "E42P05 ZI"},
	"PS32 words of the server":         {join(query("selct"), query("select * from nowhere"), query("select nothing from orders"), query("select nofunc()")), 4, "E42601 ZI E42P01 ZI E42703 ZI E42883 ZI"},
	"a batch that fails does not last": {join(parseMsg("", "update orders set status = 'zz' where id = 9"), bindMsg("", ""), executeMsg(""), parseMsg("", "delete from orders"), sync_(), query("select 1 from orders where status = 'zz'")), 2, "1 2 C E42501 ZI T C ZI"},
	"aborted, then what is refused":    {join(query("begin"), query("select 1/0"), query("select * from nowhere"), query("selct"), query("delete from orders"), query("rollback")), 6, "C ZT E22012 ZE E25P02 ZE E42601 ZE E42501 ZE C ZI"},
	"an error at the server":           {join(query("begin"), query("select 1/0"), query("rollback")), 3, "C ZT E22012 ZE C ZI"},
}

// TestConversations holds the order of answers against what a server would
// send, with everything sent at once.
func TestConversations(t *testing.T) { converse(t, conversations) }

func converse(t *testing.T, list map[string]conversation) {
	t.Helper()
	g := serve(t, &rules{allow: noDelete})
	for _, tls := range []bool{false, true} {
		if g.overTLS = tls; tls {
			g.secured(t)
		}
		for _, loop := range []bool{false, true} {
			g.protocol.Loop(loop)
			g.converses(t, list)
		}
	}
}

func (g *gateway) converses(t *testing.T, list map[string]conversation) {
	t.Helper()
	for name, c := range list {
		nc := g.in(t)
		if _, err := nc.Write(c.send); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, nc, c.ready); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		nc.Close()
	}
}

// TestPW16SplitReads: the same, cut at every byte.
func TestPW16SplitReads(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for _, g.overTLS = range []bool{false, true} {
		if g.overTLS {
			g.secured(t)
		}
		for name, c := range conversations {
			nc := g.in(t)
			for i := range c.send {
				if _, err := nc.Write(c.send[i : i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if got := kinds(t, nc, c.ready); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
			}
			nc.Close()
		}
	}
}

// TestPW22 sends a hundred commands with one refused in the middle.
func TestPW22LongPipeline(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	nc := g.in(t)
	var b []byte
	want := ""
	for i := range 100 {
		text := "select 1"
		if i == 50 {
			text = "delete from orders"
			want += "E42501 "
		}
		b = append(b, join(parseMsg("", text), bindMsg("", ""), executeMsg(""))...)
		if i < 50 {
			want += "1 2 D C "
		}
	}
	if _, err := nc.Write(append(b, sync_()...)); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 1); got != want+"ZI" {
		t.Errorf("%s", got)
	}
}

// TestStartup: what may be said before the gateway knows who it is.
func TestStartup(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for name, b := range map[string][]byte{
		"PW07 length 0":         {0, 0, 0, 0, 0, 0, 0, 0},
		"PW07 length 7":         {0, 0, 0, 7, 0, 3, 0, 0},
		"PW07 huge":             {0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0},
		"PW07 no end":           packet(v30 + "user\x00x\x00database\x00shop"),
		"PW07 behind the end":   packet(v30 + "user\x00x\x00\x00more"),
		"PW07 twice":            packet(v30 + "user\x00x\x00user\x00y\x00\x00"),
		"PW10 version 2":        packet("\x00\x02\x00\x00user\x00x\x00\x00"),
		"PW09 replication":      packet(v30 + "user\x00x\x00database\x00shop\x00replication\x00true\x00\x00"),
		"PW08 options":          packet(v30 + "user\x00x\x00database\x00shop\x00options\x00-c role=postgres\x00\x00"),
		"PW08 escaped":          packet(v30 + "user\x00x\x00database\x00shop\x00options\x00-c session\\_authorization=x\x00\x00"),
		"PW08 no value":         packet(v30 + "user\x00x\x00database\x00shop\x00options\x00-c=\x00\x00"),
		"PW13 a query":          join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), query("select 1")),
		"PW06 a second startup": join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), packet(v30+"user\x00x\x00database\x00shop\x00\x00")),
		"X05 HTTP":              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"PW03 TLS twice":        join(packet("\x04\xd2\x16\x2f"), packet("\x04\xd2\x16\x2f")),
		"PW12 another key":      packet("\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02"),
	} {
		nc := g.raw(t, b)
		all, err := io.ReadAll(nc)
		if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(string(all), "Z\x00\x00\x00\x05") {
			t.Errorf("%s: is in: %q", name, all)
		}
	}
	// PW10: a version that is newer is negotiated down.
	nc := g.raw(t, packet("\x00\x03\x27\x0fuser\x00x\x00database\x00shop\x00_pq_.x\x00y\x00\x00"))
	kind, body, err := readMessage(nc)
	if err != nil || kind != 'v' || binary.BigEndian.Uint32(body) != version32 || !strings.Contains(string(body), "_pq_.x") {
		t.Errorf("PW10: %q %q %v", kind, body, err)
	}
}

// TestPW14 after the login: what is no message ends the session, and no other.
func TestPW14Unknown(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for name, b := range map[string][]byte{
		"type 0":        {0, 0, 0, 0, 4},
		"type y":        {'y', 0, 0, 0, 4},
		"length 3":      {'Q', 0, 0, 0, 3},
		"length 2^31":   {'Q', 0x80, 0, 0, 0},
		"query no end":  frame('Q', []byte("select 1")),
		"bind short":    frame('B', []byte("\x00\x00\x00\x05")),
		"bind params":   frame('B', []byte("\x00\x00\x00\x00\xff\xff")),
		"bind negative": frame('B', []byte("\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00")),
		"a password":    frame('p', []byte("x\x00")),
		"too long":      append([]byte{'E', 0, 1, 0, 9}, make([]byte, 100)...),
	} {
		nc := g.in(t)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(nc)
		if !strings.Contains(string(all), "FATAL") {
			t.Errorf("%s: %q", name, all)
		}
	}
	g.quiet(t)
}

// TestTLS: with a certificate, and never a password without.
func TestTLS(t *testing.T) {
	db := shop(t)
	log := &memory{}
	g := &gate.Gate{Identity: log, Log: log, Recorder: log, Dialer: dialer{database: db}}
	g.Swap(generation(&rules{allow: noDelete}))
	ca, caKey, err := pgtest.Certificate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key, err := pgtest.Certificate(ca, caKey)
	if err != nil {
		t.Fatal(err)
	}
	p := &Protocol{TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = p.Serve(context.Background(), nc, g) }()
		}
	}()
	defer func() { l.Close(); <-done }()
	for url, ok := range map[string]bool{
		"postgres://x:token@" + l.Addr().String() + "/shop?sslmode=require":                       true,
		"postgres://x:token@" + l.Addr().String() + "/shop?sslmode=require&sslnegotiation=direct": true,
		"postgres://x:token@" + l.Addr().String() + "/shop?sslmode=disable":                       false, // PW04, ID12
	} {
		c, err := pgx.Connect(t.Context(), url)
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil {
			continue
		}
		var n int
		if err := c.QueryRow(t.Context(), "select count(*) from orders").Scan(&n); err != nil || n != 200 {
			t.Error(n, err)
		}
		_ = c.Close(t.Context())
	}
	// PW01: bytes in the clear behind the request for TLS are no part of the session.
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = nc.Write(join(packet("\x04\xd2\x16\x2f"), packet(v30+"user\x00x\x00database\x00shop\x00\x00")))
	all, _ := io.ReadAll(nc)
	if len(all) == 0 || all[0] != 'S' || strings.Contains(string(all), "R\x00\x00\x00") {
		t.Errorf("%q", all)
	}
}

// TestLarge: rows and copy data that are larger than every buffer, both ways.
func TestLarge(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	c := g.connect(t)
	ctx := t.Context()
	for _, n := range []int{largeBuffer - 20, largeBuffer, largeBuffer + 1, 5_000_000} {
		var s string
		if err := c.QueryRow(ctx, "select repeat('x', $1)", n).Scan(&s); err != nil || len(s) != n {
			t.Fatalf("%d: %d %v", n, len(s), err)
		}
		if err := c.QueryRow(ctx, "select length($1::text)", s).Scan(&n); err != nil || n != len(s) {
			t.Fatalf("%d: %v", n, err)
		}
		tag, err := c.PgConn().CopyFrom(ctx, strings.NewReader("1\t"+s+"\t1\t1\n"), "copy items (order_id, sku, quantity, price) from stdin")
		if err != nil || tag.RowsAffected() != 1 {
			t.Fatal(tag, err)
		}
	}
	var out strings.Builder
	if _, err := c.PgConn().CopyTo(ctx, &out, "copy items (sku) to stdout"); err != nil || strings.Count(out.String(), "x") < 5_000_000 {
		t.Error(err)
	}
	rows, err := c.Query(ctx, "select i, repeat('y', 1000) from generate_series(1, 20000) i")
	n := 0
	for err == nil && rows.Next() {
		n++
	}
	if err != nil || rows.Err() != nil || n != 20000 {
		t.Error(n, err, rows.Err())
	}
}

// TestPW37 leaves in every way, with something on its way: the session ends.
func TestPW37Leaving(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool { return true }})
	g.leaving(t)
	g.secured(t)
	g.overTLS = true // and none says goodbye in TLS
	g.leaving(t)
}

func (g *gateway) leaving(t *testing.T) {
	t.Helper()
	for name, b := range map[string][]byte{
		"terminate":              frame('X', nil),
		"nothing":                nil,
		"a query":                query("select 1"),
		"half a message":         query("select 1")[:5],
		"without a sync":         join(parseMsg("", "select 1"), bindMsg("", ""), executeMsg("")),
		"in a transaction":       join(query("begin"), query("update orders set status = 'q' where id = 1")),
		"in COPY":                query("copy items from stdin"),
		"while something sleeps": query("select pg_sleep(0.2)"),
		"while much comes":       query("select repeat('x', 1000) from generate_series(1, 50000)"),
	} {
		nc := g.in(t)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		socket := nc
		if secure, ok := nc.(*tls.Conn); ok {
			socket = secure.NetConn()
		}
		if strings.HasPrefix(name, "w") {
			_ = socket.(*net.TCPConn).SetLinger(0)
		} else {
			_ = socket.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, nc)
		}
		socket.Close()
		for i := 0; len(g.Sessions()) > 0; i++ {
			if time.Sleep(10 * time.Millisecond); i > 500 {
				t.Fatalf("%s: the session stays open", name)
			}
		}
	}
}

// TestGoneInTurns: what a client has sent before it ended its side is answered, also
// if that is noticed between two turns of its messages.
func TestGoneInTurns(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	g.secured(t)
	g.protocol.Plain = true
	for _, g.overTLS = range []bool{false, true} {
		nc := g.in(t)
		b := query("select 0 /*" + strings.Repeat("x", 6000) + "*/") // after which much is read at once
		const n = 2000
		for i := range n {
			b = append(b, query(fmt.Sprintf("select %d as a%d", i, i))...)
		}
		done := make(chan struct{})
		var looking sync.WaitGroup
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				for _, c := range g.protocol.conns() {
					c.look()
				}
			}
		})
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := nc.Write(b); err != nil {
				t.Error(err)
			}
			socket := nc
			if secure, ok := nc.(*tls.Conn); ok {
				socket = secure.NetConn()
			}
			if err := socket.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		ready := 0
		for {
			kind, _, err := readMessage(nc)
			if err != nil {
				break
			}
			if kind == 'Z' {
				ready++
			}
		}
		close(done)
		looking.Wait()
		sending.Wait()
		if ready != n+1 {
			t.Errorf("over TLS %t: %d of %d are answered", g.overTLS, ready, n+1)
		}
	}
}

// TestGoodbyeOverTLS: behind a goodbye comes the end of the stream. The server
// would not read an alert of TLS, and what lies unread when it closes has the
// kernel reset the connection, which its last answers may not survive.
func TestGoodbyeOverTLS(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	d := recording{dialer{database: g.db}, make(chan int, 1)}
	g.Dialer = d
	nc := g.in(t)
	if _, err := nc.Write(join(query("select 1"), frame('X', nil))); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(nc); err != nil || !strings.Contains(string(said), "SELECT 1") {
		t.Errorf("%q %v", said, err)
	}
	const alert = 2 + 1 + 16 // RFC 8446, sections 5.2 and 6
	g.quiet(t)
	select {
	case last := <-d.last:
		if last <= alert {
			t.Errorf("a record of %d bytes comes last, as an alert has", last)
		}
	default:
		t.Error("the stream is not ended behind the goodbye")
	}
}

// recording tells how long the last record of TLS is before a stream's end.
type recording struct {
	dialer
	last chan int
}

func (d recording) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := d.dialer.Dial(ctx, r, login)
	up.Conn = &lastRecord{Conn: up.Conn, told: d.last}
	return up, err
}

type lastRecord struct {
	net.Conn
	told chan int
	last int
}

func (c *lastRecord) Write(b []byte) (int, error) {
	for rest := b; b[0] != 0 && len(rest) > 0; rest = rest[5+c.last:] { // the request for TLS begins with 0
		c.last = int(binary.BigEndian.Uint16(rest[3:]))
	}
	return c.Conn.Write(b)
}

func (c *lastRecord) CloseWrite() error {
	c.told <- c.last
	return c.Conn.(*net.TCPConn).CloseWrite()
}

// TestServerGoes: the server's last words reach the client, and the session ends.
func TestServerGoes(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool { return true }})
	nc := g.in(t)
	if _, err := nc.Write(query("select pg_sleep(30)")); err != nil {
		t.Fatal(err)
	}
	for ended := ""; ended == ""; time.Sleep(20 * time.Millisecond) { // until the query is there to be ended
		var err error
		if ended, err = server.Psql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%30%' and state = 'active' and application_name <> 'psql'"); err != nil {
			t.Fatal(err)
		}
	}
	all, _ := io.ReadAll(nc)
	if !strings.Contains(string(all), "57P01") {
		t.Errorf("%q", all)
	}
	g.quiet(t)
}

// TestX01HalfOpen: clients that connect and say nothing, or half of something,
// keep nobody out.
func TestX01HalfOpen(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	startup := packet(v30 + "user\x00x\x00database\x00shop\x00\x00")
	for i := range 200 {
		g.raw(t, startup[:i%len(startup)])
	}
	for range 5 {
		if out := g.psql(t, "select 'in';\n"); !strings.Contains(out, "in") {
			t.Fatal(out)
		}
	}
	// Over the bound the oldest are shown out, and newcomers of that address let in.
	first := g.raw(t, startup[:10])
	for range door.One {
		g.raw(t, startup[:10])
	}
	if kind, _, err := readMessage(g.raw(t, startup)); err != nil || kind != 'R' {
		t.Errorf("the same address: %c %v", kind, err)
	}
	if _, _, err := readMessage(first); err == nil {
		t.Error("there is no bound on who has not logged in")
	}
	// So is another address.
	other, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Write(startup); err != nil {
		t.Fatal(err)
	}
	if kind, _, err := readMessage(other); err != nil || kind != 'R' {
		t.Errorf("another address: %c %v", kind, err)
	}
}

// TestX19Names: what a client calls itself never becomes part of how the
// upstream is reached.
func TestX19Names(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for _, database := range []string{"shop host=192.0.2.1", "shop' sslmode='disable", "host=192.0.2.1", "shop?host=192.0.2.1", "../shop", "postgres", "SHOP", "shop "} {
		nc := g.raw(t, packet(v30+"user\x00x\x00database\x00"+database+"\x00\x00"))
		if _, _, err := readMessage(nc); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(frame('p', []byte("token\x00"))); err != nil {
			t.Fatal(err)
		}
		if kind, body, err := readMessage(nc); err != nil || kind != 'E' {
			t.Errorf("%q is let in: %c %q %v", database, kind, body, err)
		}
	}
}

// TestHalfARow: a client that has half of a row is told nothing more: it would
// read it as the rest.
func TestHalfARow(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	nc := g.in(t)
	send(t, nc, query("select repeat('x', 60000000)"))
	if _, err := io.ReadFull(nc, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	g.Kill("enough", func(*gate.Session) bool { return true })
	all, _ := io.ReadAll(nc)
	if len(all) > 60_000_000 || bytes.Contains(all, []byte("enough")) {
		t.Errorf("%d bytes, and %q", len(all), all[max(0, len(all)-100):])
	}
}
