package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// rude is an upstream that lets everybody in and then answers whatever it is
// asked with the same bytes. Only the session's own connection meets it: the
// schema is read from the real server.
type rude struct {
	dialer
	answer []byte
	hangUp bool

	mu  sync.Mutex
	met bool
}

func (r *rude) Dial(ctx context.Context, res *gate.Resource, login string) (gate.Upstream, error) {
	r.mu.Lock()
	first := !r.met
	r.met = true
	r.mu.Unlock()
	if !first {
		return r.dialer.Dial(ctx, res, login)
	}
	up, err := r.dialer.Dial(ctx, res, login)
	if err != nil {
		return up, err
	}
	ours, theirs := net.Pipe()
	go r.serve(theirs, up.Conn) // ends with the connection
	up.Conn, up.TLS = ours, nil
	return up, nil
}

// serve lets the real server log the session in, since the gateway has it prove
// who it is, and takes over then.
func (r *rude) serve(nc, real net.Conn) {
	defer nc.Close()
	defer real.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(nc, head); err != nil {
		return
	}
	if _, err := real.Write(head); err != nil {
		return
	}
	if _, err := io.CopyN(real, nc, int64(binary.BigEndian.Uint32(head))-4); err != nil {
		return
	}
	for ready := false; !ready; {
		kind, body, err := readMessage(real)
		if err != nil {
			return
		}
		if _, err := nc.Write(frame(kind, body)); err != nil {
			return
		}
		if ready = kind == 'Z'; kind != 'R' {
			continue
		}
		if n := binary.BigEndian.Uint32(body); n == 10 || n == 11 { // SASL, and SASLContinue
			kind, body, err := readMessage(nc)
			if err != nil {
				return
			}
			if _, err := real.Write(frame(kind, body)); err != nil {
				return
			}
		}
	}
	for {
		if _, _, err := readMessage(nc); err != nil {
			return
		}
		if _, err := nc.Write(r.answer); err != nil || r.hangUp {
			return
		}
	}
}

var rudeness = map[string]struct {
	answer []byte
	hangUp bool
	goesOn bool // it is odd, and harmless
}{
	"a length that cannot be":             {answer: []byte("C\x00\x00\x00\x03")},
	"a length that lies":                  {answer: []byte("T\x7f\xff\xff\xff"), hangUp: true},
	"a message that is too large":         {answer: append([]byte("N\x3f\xff\xff\xff"), make([]byte, 100)...), hangUp: true},
	"a type that does not exist":          {answer: frame('?', nil)},
	"an error without a code":             {answer: join(frame('E', []byte("Mno\x00\x00")), frame('Z', []byte("I"))), goesOn: true},
	"an error that is cut short":          {answer: frame('E', []byte("Mno"))},
	"a description that lies":             {answer: frame('T', []byte("\x00\x09x\x00")), hangUp: true},
	"a row that nobody described, closed": {answer: frame('D', []byte("\x00\x01\x00\x00\x00\x01x")), hangUp: true},
	"closing in the middle of a row":      {answer: []byte("D\x00\x00\x00\x40\x00\x01"), hangUp: true},
	"ready twice":                         {answer: join(frame('C', []byte("SELECT 0\x00")), frame('Z', []byte("I")), frame('Z', []byte("I")), frame('C', []byte("SELECT 0\x00")))},
	"a status that does not exist":        {answer: join(frame('C', []byte("SELECT 0\x00")), frame('Z', []byte("Q")))},
	"more answers than statements":        {answer: join(frame('C', []byte("SELECT 0\x00")), frame('C', []byte("SELECT 0\x00")), frame('Z', []byte("I")))},
	"COPY both ways":                      {answer: frame('W', []byte("\x00\x00\x00"))},
	"authentication again":                {answer: []byte("R\x00\x00\x00\x08\x00\x00\x00\x03")},
	"another encoding":                    {answer: frame('S', []byte("client_encoding\x00SJIS\x00"))},
	"backslashes that quote":              {answer: frame('S', []byte("standard_conforming_strings\x00off\x00"))},
	"bind complete for a query":           {answer: frame('2', nil)},
	"nothing, and gone":                   {hangUp: true},
	"notices without end, then gone":      {answer: bytes.Repeat(frame('N', []byte("SNOTICE\x00C00000\x00Mx\x00\x00")), 2000), hangUp: true},
}

// TestPW35RudeServer: whatever the upstream answers, the client is told or cut
// off, nobody hangs, and the next session works.
func TestPW35RudeServer(t *testing.T) {
	for name, r := range rudeness {
		t.Run(name, func(t *testing.T) {
			g := serve(t, &rules{allow: noDelete})
			g.Dialer = &rude{dialer: dialer{database: g.db}, answer: r.answer, hangUp: r.hangUp}
			nc := g.in(t)
			if _, err := nc.Write(query("select 1")); err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(8 * time.Second))
			if r.goesOn {
				if got := kinds(t, nc, 1); got != "EXX000 ZI" {
					t.Error(got)
				}
				return
			}
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Errorf("the session hangs: %v", err)
			}
			g.quiet(t)
			if out := g.psql(t, "select 'the next one';\n"); !strings.Contains(out, "the next one") {
				t.Errorf("the next session: %q", out)
			}
		})
	}
}

// TestX10Paced: of a server that says much unasked nothing is lost: it is read
// more slowly, and the session goes on.
func TestX10Paced(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	const many = int(asideAhead/asideEach) + 1000
	said := bytes.Repeat(frame('N', []byte("SNOTICE\x00C00000\x00Mx\x00\x00")), many)
	g.Dialer = &rude{dialer: dialer{database: g.db}, answer: join(said, frame('C', []byte("SELECT 0\x00")), frame('Z', []byte("I")))}
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	for range 2 {
		if _, err := nc.Write(query("select 1")); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; {
			kind, _, err := readMessage(nc)
			if err != nil {
				t.Fatal(err)
			}
			if kind == 'N' {
				n++
			}
			if kind == 'Z' {
				if n != many {
					t.Errorf("%d of %d notices", n, many)
				}
				break
			}
		}
	}
}
