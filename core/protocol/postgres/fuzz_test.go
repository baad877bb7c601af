package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// wholeMessages cuts what a client was sent into messages. It fails where that
// cannot be, or where one is of a kind that no client gets.
func wholeMessages(t *testing.T, b []byte) (list [][]byte) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 5 || strings.IndexByte("123CDEGHIKNRSTVZAcdnst", b[0]) < 0 || uint64(binary.BigEndian.Uint32(b[1:]))+1 > uint64(len(b)) {
			t.Fatalf("the client is sent %.200q", b)
		}
		n := binary.BigEndian.Uint32(b[1:]) + 1
		list, b = append(list, b[:n]), b[n:]
	}
	return list
}

// fuzzing is a gateway for a fuzzer, in whose target nothing else may log.
func fuzzing(f *testing.F, guard gate.Guard) *gateway {
	g := serve(f, guard)
	said := &memoryLog{}
	g.protocol.Log, g.said = said.add, said.String
	g.Identity = &strangers{Identity: g.Identity}
	return g
}

// strangers has somebody new come each time: one alone would soon be refused
// for all that was refused to them.
type strangers struct {
	gate.Identity
	n atomic.Int64
}

func (s *strangers) Authenticate(ctx context.Context, l gate.Login) (gate.Grant, error) {
	g, err := s.Identity.Authenticate(ctx, l)
	g.Subject = fmt.Sprint(g.Subject, s.n.Add(1))
	return g, err
}

type memoryLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *memoryLog) add(_, what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.b, "%s: %v\n", what, err)
}

func (l *memoryLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fuzzed sends a client's bytes over a new session and gives all that it is
// sent. It fails where the session stays open.
func (g *gateway) fuzzed(t *testing.T, sent []byte) []byte {
	t.Helper()
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	done := make(chan []byte, 1)
	go func() {
		b, err := io.ReadAll(nc)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("the session hangs")
		}
		done <- b
	}()
	_, _ = nc.Write(sent)
	_ = nc.(*net.TCPConn).CloseWrite()
	got := <-done
	nc.Close()
	g.quiet(t)
	if strings.Contains(g.said(), "panic") {
		t.Fatal(g.said())
	}
	return got
}

// FuzzClient: whatever a client sends once it is in, nothing hangs or falls
// over, what was refused does not run, and what the client is sent can be read.
func FuzzClient(f *testing.F) {
	g := fuzzing(f, &rules{allow: noDelete})
	owner, err := pgx.Connect(f.Context(), server.URL("postgres", g.db))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = owner.Close(context.Background()) })
	for _, b := range [][]byte{
		query("select id from orders; delete from orders"),
		join(parseMsg("s", "select $1::int"), bindMsg("p", "s"), frame('D', []byte("Pp\x00")), executeMsg("p"), sync_()),
		join(query("begin"), parseMsg("", "declare c cursor for select id from orders"), bindMsg("", ""), executeMsg(""), sync_(), query("fetch 5 from c"), query("commit")),
		join(query("copy items (order_id, sku) from stdin"), frame('d', []byte("1\tx\n")), frame('c', nil), query("copy orders (id) to stdout")),
		join(query("copy items (order_id, sku) from stdin"), frame('d', []byte("x")), frame('f', []byte("no\x00")), frame('H', nil), frame('X', nil)),
		join(parseMsg("s", "delete from orders"), bindMsg("", "s"), executeMsg(""), frame('C', []byte("Ss\x00")), sync_()),
		join(frame('F', []byte("\x00\x00\x00\x01")), frame('p', []byte("x\x00")), frame('B', []byte("\x00\x00\x00\x01\x00\x01\x00\x01\xff\xff\xff\xff\x00\x00"))),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		wholeMessages(t, g.fuzzed(t, sent))
		var n int
		if err := owner.QueryRow(t.Context(), "select count(*) from orders").Scan(&n); err != nil || n != 200 {
			t.Fatalf("%d %v: what was refused has run", n, err)
		}
	})
}

// FuzzServer: whatever a server answers, nothing hangs or falls over, and what
// the client is sent can be read and has no cell of a masked column.
func FuzzServer(f *testing.F) {
	row := frame('D', []byte("\x00\x02\x00\x00\x00\x01\x31\x00\x00\x00\x06secret"))
	desc := frame('T', []byte("\x00\x02id\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00name\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"))
	end := join(frame('C', []byte("SELECT 1\x00")), frame('Z', []byte("I")))
	for _, b := range [][]byte{
		join(desc, row, end), join(desc, desc, row, end), join(row, end), join(desc, frame('D', []byte("\x00\x03\x00\x00\x00\x01\x31\x00\x00\x00\x06secret\xff\xff\xff\xff")), end),
		join(desc, frame('D', []byte("\x00\x02\x80\x00\x00\x00\x31\x00\x00\x00\x06secret")), end), join(desc, row[:12]),
		join(frame('N', []byte("SNOTICE\x00C00000\x00Msecret\x00\x00")), frame('E', []byte("SERROR\x00C22P02\x00Msecret\x00\x00")), frame('Z', []byte("I"))),
		join(frame('S', []byte("client_encoding\x00SJIS\x00")), end), join(frame('G', []byte("\x00\x00\x00")), end), join(frame('H', []byte("\x00\x00\x01\x00\x00")), frame('d', []byte("secret\n")), frame('c', nil), end),
		join(frame('A', []byte("\x00\x00\x00\x01c\x00secret\x00")), end), join(frame('I', nil), frame('Z', []byte("E"))), join(frame('1', nil), frame('2', nil), frame('s', nil), frame('n', nil)),
		[]byte("D\xff\xff\xff\xff"), []byte("Z\x00\x00\x00\x03"),
	} {
		f.Add(false, b)
		f.Add(true, b)
	}
	g := fuzzing(f, &protector{protect: masks(abi.MaskFixed, "hidden", "customers.name")})
	const text = "select id, name from customers where id = 1"
	real := g.described(f, text)
	f.Fuzz(func(t *testing.T, described bool, answer []byte) {
		if described { // as it has to be, so that what follows is looked at
			answer = join(real, answer)
		}
		g.Dialer = &rude{dialer: dialer{database: g.db}, answer: answer, hangUp: true}
		got := g.fuzzed(t, query(text))
		g.Dialer = dialer{database: g.db}
		for rest := wholeMessages(t, got); len(rest) > 0; rest = rest[1:] {
			if strings.IndexByte("DdEN", rest[0][0]) >= 0 && bytes.Contains(rest[0], []byte("secret")) {
				t.Fatalf("the client sees %q", rest[0])
			}
		}
	})
}

// described gives the server's own description of what a text answers.
func (g *gateway) described(t testing.TB, text string) []byte {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), server.URL("app", g.db))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	d, err := c.Prepare(t.Context(), "", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return encode(&pgproto3.RowDescription{Fields: fields(d.Fields)})
}

func fields(list []pgconn.FieldDescription) (all []pgproto3.FieldDescription) {
	for _, d := range list {
		all = append(all, pgproto3.FieldDescription{Name: []byte(d.Name), TableOID: d.TableOID, TableAttributeNumber: d.TableAttributeNumber, DataTypeOID: d.DataTypeOID, DataTypeSize: d.DataTypeSize, TypeModifier: d.TypeModifier})
	}
	return all
}
