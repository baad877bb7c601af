package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

const (
	askTLS = "\x04\xd2\x16\x2f"
	askGSS = "\x04\xd2\x16\x30"
)

// firstWords gives the first messages' kinds, an error as its code, until the
// connection waits for the client or ends.
func firstWords(nc net.Conn) string {
	var out []string
	for {
		kind, body, err := readMessage(nc)
		switch {
		case err != nil:
			return strings.Join(append(out, "."), " ")
		case kind == 'E':
			_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
			out = append(out, "E"+code[:5])
		case kind == 'v':
			out = append(out, fmt.Sprintf("v%d.%d", binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])))
		default:
			out = append(out, string(kind))
		}
		if kind == 'R' && binary.BigEndian.Uint32(body) == 3 {
			return strings.Join(out, " ")
		}
	}
}

// TestPW07StartupMatrix: every length and form of the first packet, versions
// (PW10), settings (PW08), and a second one at each step (PW06).
func TestPW07StartupMatrix(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	const who = "user\x00x\x00database\x00shop\x00"
	length := func(n uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), v30+who+"\x00"...)
	}
	version := func(major, minor uint16) []byte {
		return packet(string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, major), minor)) + who + "\x00")
	}
	option := func(s string) []byte { return packet(v30 + who + "options\x00" + s + "\x00\x00") }
	many := v30 + who
	for i := range 10000 {
		many += fmt.Sprintf("p%d\x00v\x00", i)
	}
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"length 0": {length(0), "."}, "length 3": {length(3), "."}, "length 4": {length(4), "."}, "length 7": {length(7), "."},
		"length 2^31-1": {length(1<<31 - 1), "."}, "length 2^31": {length(1 << 31), "."}, "length 2^32-1": {length(1<<32 - 1), "."},
		"length 8": {packet(v30), "E08P01 ."}, "nothing in it": {packet(v30 + "\x00"), "E28000 ."}, "no user": {packet(v30 + "database\x00shop\x00\x00"), "E28000 ."},
		"ten thousand parameters": {packet(many + "\x00"), "."}, "no end": {packet(v30 + who), "E08P01 ."}, "a key without a value": {packet(v30 + who + "x\x00\x00"), "E08P01 ."},
		"a zero byte in a value": {packet(v30 + "user\x00x\x00y\x00database\x00shop\x00\x00"), "E08P01 ."}, "user twice": {packet(v30 + who + "user\x00y\x00\x00"), "E08P01 ."},
		"no database":     {packet(v30 + "user\x00x\x00\x00"), "R"},
		"as it should be": {packet(v30 + who + "\x00"), "R"},

		"PW10 2.0": {version(2, 0), "E0A000 ."}, "PW10 3.0": {version(3, 0), "R"}, "PW10 3.1": {version(3, 1), "v3.0 R"}, "PW10 3.2": {version(3, 2), "R"},
		"PW10 3.3": {version(3, 3), "v3.2 R"}, "PW10 3.9999": {version(3, 9999), "v3.2 R"}, "PW10 4.0": {version(4, 0), "E0A000 ."}, "PW10 0.0": {version(0, 0), "E0A000 ."},
		"PW10 an option": {packet(v30 + who + "_pq_.x\x00y\x00\x00"), "v3.0 R"}, "PW10 an option of 3.2": {packet("\x00\x03\x00\x02" + who + "_pq_.x\x00y\x00\x00"), "v3.2 R"},

		// What a SET may say too is judged once it is known who asks: startup_test.go.
		"PW08 a role": {option("-c role=owner"), "E42501 ."}, "PW08 long": {option("--role=owner"), "E42501 ."}, "PW08 dashes": {option("--session-authorization=x"), "E42501 ."},

		"PW08 a letter": {option("-d 5"), "E42501 ."}, "PW08 no name": {option("-c =x"), "E42501 ."},
		"PW08 -c alone": {option("-c"), "E42501 ."},
		"PW08 allowed":  {option("-c timezone=UTC --extra-float-digits=2"), "R"}, "PW08 strings": {option("-c standard_conforming_strings=off"), "E42501 ."}, "PW08 strings, short": {option("-c standard_conforming_strings=of"), "E42501 ."},
		"PW09 replication": {packet(v30 + who + "replication\x00database\x00\x00"), "E0A000 ."},

		"PW06 a second one": {join(packet(v30+who+"\x00"), packet(v30+who+"\x00")), "R E08P01 ."}, "PW13 a query": {join(packet(v30+who+"\x00"), query("select 1")), "R E08P01 ."},
		"PW06 TLS asked for late": {join(packet(v30+who+"\x00"), packet(askTLS)), "R E08P01 ."}, "PW13 a password first": {frame('p', []byte("token\x00")), "."},
	} {
		nc := g.raw(t, c.send)
		got := firstWords(nc)
		if strings.HasPrefix(name, "PW06") || name == "PW13 a query" {
			got += " " + firstWords(nc)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		nc.Close()
	}
	g.quiet(t)
}

// TestPW03Requests: the requests before the first packet, in every order, on a
// listener with and without a certificate. What is answered is one byte each.
func TestPW03Requests(t *testing.T) {
	plain := serve(t, &rules{allow: noDelete})
	safe, _ := secure(t, &rules{allow: noDelete})
	startup := packet(v30 + "user\x00x\x00database\x00shop\x00\x00")
	for name, c := range map[string]struct {
		g    *gateway
		send []byte
		want string // how what comes back begins
		end  bool   // and that nothing more does
	}{
		"GSS, TLS, plain":                {plain, join(packet(askGSS), packet(askTLS), startup), "NNR", false},
		"TLS, GSS, plain":                {plain, join(packet(askTLS), packet(askGSS), startup), "NNR", false},
		"TLS twice":                      {plain, join(packet(askTLS), packet(askTLS)), "NE", true},
		"GSS twice":                      {plain, join(packet(askGSS), packet(askGSS)), "NE", true},
		"with something in it":           {plain, packet(askTLS + "x"), "E", true},
		"direct TLS where there is none": {plain, []byte("\x16\x03\x01\x00\x05hello"), "", true},
		"GSS, then plain":                {safe, join(packet(askGSS), startup), "NE", true},
		"plain":                          {safe, startup, "E", true},
		"TLS, then plain":                {safe, join(packet(askTLS), startup), "S", true},
		"TLS twice, in the clear":        {safe, join(packet(askTLS), packet(askTLS)), "S", true},
		"GSS, then direct TLS":           {safe, join(packet(askGSS), []byte("\x16\x03\x01\x00\x05hello")), "N", true},
		"direct TLS that is none":        {safe, []byte("\x16\x03\x01\x00\x05hello"), "", true},
	} {
		nc := c.g.raw(t, c.send)
		if !c.end {
			b := make([]byte, len(c.want))
			if _, err := io.ReadFull(nc, b); err != nil || string(b) != c.want {
				t.Errorf("%s: %q %v", name, b, err)
			}
			nc.Close()
			continue
		}
		b, _ := io.ReadAll(nc)
		if !strings.HasPrefix(string(b), c.want) || bytes.Contains(b, []byte("R\x00\x00\x00\x08")) {
			t.Errorf("%s: %q", name, b)
		}
	}
	// Inside TLS nothing is negotiated again.
	for _, again := range []string{askTLS, askGSS} {
		nc := safe.tls(t, false)
		if _, err := nc.Write(packet(again)); err != nil {
			t.Fatal(err)
		}
		if got := firstWords(nc); got != "E0A000 ." {
			t.Errorf("again inside TLS: %s", got)
		}
	}
}

// tls opens a connection with TLS, asked for or from the beginning.
func (g *gateway) tls(t *testing.T, direct bool) net.Conn {
	t.Helper()
	var nc net.Conn
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}} //nolint:gosec // its certificate is not what is tested
	if direct {
		nc = g.raw(t, nil)
	} else {
		nc = g.raw(t, packet(askTLS))
		if b := make([]byte, 1); func() bool { _, err := io.ReadFull(nc, b); return err != nil || b[0] != 'S' }() {
			t.Fatalf("%q", b)
		}
	}
	c := tls.Client(nc, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPW12Matrix: a cancel by every way in and with every key: only the right
// one, whole, and only what runs on its own session.
func TestPW12Matrix(t *testing.T) {
	safe, ca := secure(t, &rules{allow: anything})
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	request := func(nc net.Conn, key string) {
		_, _ = nc.Write(packet("\x04\xd2\x16\x2e" + key))
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	}
	login := func(version string) (nc net.Conn, key string) {
		nc = safe.tls(t, true)
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := nc.Write(join(packet(version+"user\x00x\x00database\x00shop\x00\x00"), frame('p', []byte("token\x00")))); err != nil {
			t.Fatal(err)
		}
		for {
			kind, body, err := readMessage(nc)
			if err != nil {
				t.Fatal(err)
			}
			if kind == 'K' {
				key = string(body)
			}
			if kind == 'Z' {
				return nc, key
			}
		}
	}
	for _, version := range []string{v30, "\x00\x03\x00\x02"} {
		victim, key := login(version)
		other, otherKey := login(version)
		run := func() {
			if _, err := victim.Write(query("select pg_sleep(60)")); err != nil {
				t.Fatal(err)
			}
			for out := ""; strings.TrimSpace(out) != "1"; time.Sleep(10 * time.Millisecond) {
				if out, err = server.Psql(safe.db, "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and query like '%pg_sleep%60%' and pid <> pg_backend_pid()"); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, way := range map[string]func() net.Conn{"in the clear": func() net.Conn { return safe.raw(t, nil) }, "TLS": func() net.Conn { return safe.tls(t, false) }, "direct TLS": func() net.Conn { return safe.tls(t, true) }} {
			run()
			for _, wrong := range []string{"", key[:4], key[:len(key)-1], key + "\x00", otherKey, strings.Repeat("\x00", len(key)), key[:len(key)-1] + string(key[len(key)-1]^1), otherKey[:4] + key[4:]} {
				request(way(), wrong)
			}
			out, err := server.Psql(safe.db, "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and query like '%pg_sleep%60%' and pid <> pg_backend_pid()")
			if err != nil || strings.TrimSpace(out) != "1" {
				t.Errorf("%s: a wrong key has ended it: %s %v", name, out, err)
			}
			request(way(), key)
			if got := kinds(t, victim, 1); got != "T E57014 ZI" && got != "E57014 ZI" {
				t.Errorf("%s: %s", name, got)
			}
			request(way(), key) // a second one finds nothing
			if _, err := victim.Write(query("select 1")); err != nil {
				t.Fatal(err)
			}
			if got := kinds(t, victim, 1); got != "T D C ZI" {
				t.Errorf("%s: the next query: %s", name, got)
			}
		}
		if _, err := other.Write(query("select 1")); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, other, 1); got != "T D C ZI" {
			t.Errorf("another session: %s", got)
		}
		victim.Close()
		other.Close()
		safe.quiet(t)
		request(safe.raw(t, nil), key) // of a session that is over
	}
}

// dribble is an upstream whose answers come a byte at a time, but for the
// schema, which is long.
type dribble struct{ dialer }

func (d dribble) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := plainDialer{server.Addr(), "app", d.database}.Dial(ctx, r, login)
	up.Conn = &drop{Conn: up.Conn}
	return up, err
}

type drop struct {
	net.Conn
	whole, begun bool
}

func (d *drop) Write(b []byte) (int, error) {
	if !d.begun { // the gateway's own connection says who it is
		d.begun, d.whole = true, bytes.Contains(b, []byte("application_name\x00taskgate\x00"))
	}
	return d.Conn.Write(b)
}

func (d *drop) Read(b []byte) (int, error) {
	if d.whole {
		return d.Conn.Read(b)
	}
	return d.Conn.Read(b[:min(1, len(b))])
}

func (d *drop) CloseWrite() error { return d.Conn.(*net.TCPConn).CloseWrite() }

// TestPW16SplitAnswers: the server's answers cut at every byte give the same.
func TestPW16SplitAnswers(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	g.Dialer = dribble{dialer{database: g.db}}
	converseWith(t, g, conversations)
	converseWith(t, g, map[string]conversation{"COPY out": {query("copy (select id from orders where id < 4) to stdout"), 1, "H d d d c C ZI"}})
}

// TestPW30Matrix: the states of COPY, by both protocols.
func TestPW30Matrix(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	const in = "copy items (order_id, sku, quantity, price) from stdin"
	row := func(s string) []byte { return frame('d', []byte("1\t"+s+"\t1\t1\n")) }
	done, fail := frame('c', nil), frame('f', []byte("enough\x00"))
	ext := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) }
	converseWith(t, g, map[string]conversation{
		"in":                          {join(query(in), row("a"), row("b"), done), 1, "G C ZI"},
		"in, by the extended":         {join(ext(in), row("a"), row("b"), done, sync_()), 1, "1 2 G C ZI"},
		"in, a Sync that is too soon": {join(ext(in), sync_(), row("a"), done, sync_()), 1, "1 2 G C ZI"},
		"fails, by the extended":      {join(ext(in), row("a"), fail, sync_(), query("select 1")), 2, "1 2 G E57014 ZI T D C ZI"},
		"bad data, then more":         {join(query(in), frame('d', []byte("x\ty\n")), row("a"), done, query("select 1")), 2, "G E22P02 ZI T D C ZI"},
		"bad data, by the extended":   {join(ext(in), frame('d', []byte("x\ty\n")), row("a"), done, sync_(), query("select 1")), 2, "1 2 G E22P02 ZI T D C ZI"},
		"refused, by the extended":    {join(ext("copy items from '/etc/passwd'"), row("a"), done, sync_(), query("select 1")), 2, "E42501 ZI T D C ZI"},
		"refused, and its data":       {join(query("copy items from program 'id'"), row("a"), done, query("select 1")), 2, "E42501 ZI T D C ZI"},
		"out, by the extended":        {join(ext("copy (select 1) to stdout"), sync_()), 1, "1 2 H d c C ZI"},
		"out of nothing":              {query("copy (select 1 where false) to stdout"), 1, "H c C ZI"},
		"twice in one text":           {join(query(in+"; "+in), row("a"), done, row("b"), done), 1, "G C G C ZI"},
		"in, then out, in one text":   {join(query(in+"; copy (select 1) to stdout"), row("a"), done), 1, "G C H d c C ZI"},
		"the first of two fails":      {join(query(in+"; "+in), row("a"), fail, row("b"), done, query("select 1")), 2, "G E57014 ZI T D C ZI"},
		"in a transaction":            {join(query("begin"), query(in), row("a"), fail, query("select 1"), query("rollback")), 4, "C ZT G E57014 ZE E25P02 ZE C ZI"},
		"in, pipelined behind":        {join(ext("select 1"), ext(in), row("a"), done, ext("select 2"), sync_()), 1, "1 2 D C 1 2 G C 1 2 D C ZI"},
		"described":                   {join(parseMsg("", in), frame('D', []byte("S\x00")), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""), row("a"), done, sync_()), 1, "1 t n 2 n G C ZI"},
		"both ways":                   {query("start_replication 0/0"), 1, "E42601 ZI"},
	})
	// A command in the middle of the data ends the session, as at the server.
	for _, b := range [][]byte{query("select 1"), parseMsg("", "select 1"), executeMsg(""), {'y', 0, 0, 0, 4}} {
		nc := g.in(t)
		if _, err := nc.Write(join(query(in), row("a"), b)); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(nc); err != nil || !bytes.Contains(all, []byte("FATAL")) {
			t.Errorf("%q: %q %v", b[:1], all, err)
		}
	}
	g.quiet(t)
	if out, err := server.Psql(g.db, "select sku, count(*) from items where sku in ('a', 'b') group by 1 order by 1"); err != nil || out != "a|7\nb|3\n" {
		t.Error(out, err)
	}
}

// TestPW32Notifications: what other sessions notify comes while nothing is
// asked, without its payload unless the task lists the channel.
func TestPW32Notifications(t *testing.T) {
	for _, listed := range []bool{false, true} {
		g := serve(t, &rules{allow: anything})
		next := generation(&rules{allow: anything})
		if listed {
			next.Tasks["x"].Options = &TaskOptions{Channels: []string{"news"}}
		}
		g.Swap(next)
		nc := g.in(t)
		if _, err := nc.Write(join(query("listen news"), query("listen gossip"))); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, nc, 2); got != "C ZI C ZI" {
			t.Fatal(got)
		}
		if _, err := server.Psql(g.db, "notify news, 'a row'; notify gossip, 'another'"); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"news", "gossip"} {
			kind, body, err := readMessage(nc)
			if err != nil || kind != 'A' {
				t.Fatal(kind, err)
			}
			payload := ""
			if listed && want == "news" {
				payload = "a row"
			}
			if got := string(body[4:]); got != want+"\x00"+payload+"\x00" {
				t.Errorf("%q", got)
			}
		}
		// A task that lists the channel no more listens on, and is told no more.
		g.Swap(generation(&rules{allow: anything}))
		if _, err := server.Psql(g.db, "notify news, 'a row'"); err != nil {
			t.Fatal(err)
		}
		if kind, body, err := readMessage(nc); err != nil || kind != 'A' || string(body[4:]) != "news\x00\x00" {
			t.Errorf("%c %q %v", kind, body, err)
		}
		// In the middle of a transaction they wait for its end, behind what is asked then.
		if _, err := nc.Write(query("begin")); err != nil {
			t.Fatal(err)
		}
		kinds(t, nc, 1)
		if _, err := server.Psql(g.db, "notify news, 'a row'"); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(join(query("select 1"), query("commit"))); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, nc, 2); got != "T D C ZT C A ZI" && got != "T D C ZT C ZI" {
			t.Error(got)
		}
	}
}
