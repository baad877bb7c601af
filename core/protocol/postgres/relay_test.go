package postgres

import (
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/record"
)

// away takes whatever is written.
type away struct{ net.Conn }

func (away) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkRelay is a prepared select on its way through both sides, with the
// audit log and the recording, without the system calls of the sockets.
func BenchmarkRelay(b *testing.B) {
	g := serve(b, &rules{allow: noDelete})
	log, _, err := audit.Open(b.TempDir(), audit.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	rec, err := record.Open(filepath.Join(b.TempDir(), "recordings"), 64<<10)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = log.Run(ctx) })
	wg.Go(func() { _ = rec.Run(ctx) })
	defer wg.Wait()
	defer stop()
	g.Log, g.Recorder = log, rec
	pg := g.connect(b)
	if _, err := pg.Prepare(b.Context(), "s", "select name from customers where id = $1"); err != nil {
		b.Fatal(err)
	}
	var name string
	if err := pg.QueryRow(b.Context(), "s", 1).Scan(&name); err != nil {
		b.Fatal(err)
	}
	var c *conn
	g.protocol.mu.Lock()
	for _, one := range g.protocol.keys {
		c = one
	}
	g.protocol.mu.Unlock()
	// The sockets stay as they are; what is read comes from here and what is written goes nowhere.
	client, upstream := c.toClient, c.toUpstream
	c.toClient, c.toUpstream = newOutput(away{}), newOutput(away{})
	defer func() { c.toClient, c.toUpstream = client, upstream }()
	var ask, answer []byte
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{binary.BigEndian.AppendUint32(nil, 1)}, ResultFormatCodes: []int16{0}},
		&pgproto3.Execute{}, &pgproto3.Sync{},
	} {
		if ask, err = m.Encode(ask); err != nil {
			b.Fatal(err)
		}
	}
	for _, m := range []pgproto3.BackendMessage{
		&pgproto3.BindComplete{}, &pgproto3.DataRow{Values: [][]byte{[]byte("Grace Hopper")}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'},
	} {
		answer = append(answer, encode(m)...)
	}
	in, out := &frames{}, &frames{}
	turn := func() {
		in.buf, in.r, in.w = ask, 0, len(ask)
		if err := c.messages(ctx, in); err != nil {
			b.Fatal(err)
		}
		if err := c.flush(); err != nil {
			b.Fatal(err)
		}
		out.buf, out.r, out.w = answer, 0, len(answer)
		if err := c.answers(ctx, out); err != nil {
			b.Fatal(err)
		}
		if err := c.deliver(); err != nil {
			b.Fatal(err)
		}
	}
	turn()
	b.ReportAllocs()
	for b.Loop() {
		turn()
	}
}
