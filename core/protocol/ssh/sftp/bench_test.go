package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// loop is both sides of a relay in memory: a client that asks, and a host that
// answers, without a system call between them.
type loop struct {
	r       *relay
	toHost  bytes.Buffer
	toThem  bytes.Buffer
	h       *handle
	request []byte
}

// quick is a relay with one file open, whose packets a test pushes through.
func quick(t testing.TB) *loop {
	t.Helper()
	l := newLab(t, func(*abi.Command) abi.Verdict { return abi.Verdict{Decision: abi.Allow} })
	s, err := l.gate.Open(t.Context(), gate.Login{Protocol: "ssh", Task: "x", Resource: "web"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	q := &loop{}
	r := newRelay(t.Context(), s, readWriter{nil, &q.toThem}, readWriter{nil, &q.toHost})
	q.r = r
	st := r.statement(&act{typ: typeOpen, flags: flagRead | flagWrite, places: []place{{asked: "/f", path: "/f"}}})
	x, err := r.submit(&act{}, &abi.Command{Phase: abi.Execute, Statement: st})
	if err != nil {
		t.Fatal(err)
	}
	q.h = &handle{running: x, upstream: []byte{0, 0, 0, 7}, path: "/f", reads: true, writes: true}
	if err := r.enter(q.h); err != nil {
		t.Fatal(err)
	}
	return q
}

type readWriter struct {
	io.Reader
	io.Writer
}

// push gives a stream one packet, as if it had been read.
func push(s *stream, p []byte) (start, end int) {
	if len(s.buf) < headroom+len(p) {
		s.buf = make([]byte, headroom+len(p))
	}
	copy(s.buf[headroom:], p)
	s.r, s.w = headroom+len(p), headroom+len(p)
	return headroom, headroom + len(p)
}

// id gives the id of the request that the host was sent last.
func (q *loop) id() uint32 { return binary.BigEndian.Uint32(q.toHost.Bytes()[5:]) }

// read is one READ and its DATA.
func (q *loop) read(t testing.TB, ask, data []byte, offset uint64) {
	binary.BigEndian.PutUint64(ask[21:], offset)
	start, end := push(&q.r.up, ask)
	q.toHost.Reset()
	err := errors.Join(q.r.asks(start, end), q.r.up.flush())
	binary.BigEndian.PutUint32(data[5:], q.id())
	start, end = push(&q.r.down, data)
	q.toThem.Reset()
	if err := errors.Join(err, q.r.answers(start, end), q.r.down.flush()); err != nil {
		t.Fatal(err)
	}
}

// write is one WRITE and its STATUS.
func (q *loop) write(t testing.TB, ask []byte, offset uint64) {
	binary.BigEndian.PutUint64(ask[21:], offset)
	start, end := push(&q.r.up, ask)
	q.toHost.Reset()
	err := errors.Join(q.r.asks(start, end), q.r.up.flush())
	q.request = plainStatus(q.request[:0], q.id(), codeOK)
	start, end = push(&q.r.down, q.request)
	q.toThem.Reset()
	if err := errors.Join(err, q.r.answers(start, end), q.r.down.flush()); err != nil {
		t.Fatal(err)
	}
}

func (q *loop) packets(n int) (read, data, write []byte) {
	head := binary.BigEndian.AppendUint64(appendString(nil, q.h.name[:]), 0)
	read = finish(binary.BigEndian.AppendUint32(append(begin(nil, typeRead, 1), head...), uint32(n)), 0)
	data = finish(appendString(begin(nil, typeData, 1), make([]byte, n)), 0)
	write = finish(appendString(append(begin(nil, typeWrite, 1), head...), make([]byte, n)), 0)
	return read, data, write
}

// TestSF08NoAllocation: what a file's content passes through makes nothing.
func TestSF08NoAllocation(t *testing.T) {
	q := quick(t)
	read, data, write := q.packets(32 << 10)
	offset := uint64(0)
	round := func() {
		q.read(t, read, data, offset)
		q.write(t, write, offset)
		offset += 32 << 10
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations for a READ and a WRITE", n)
	}
	if p := q.toThem.Bytes(); p[4] != typeStatus || binary.BigEndian.Uint32(p[5:]) != 1 {
		t.Errorf("the client is answered %x", p)
	}
	if p := q.toHost.Bytes(); len(p) != len(write)-4 || !bytes.Equal(p[9:17], []byte{0, 0, 0, 4, 0, 0, 0, 7}) {
		t.Errorf("the host is sent %x", p[:17])
	}
}

func BenchmarkRead(b *testing.B) {
	q := quick(b)
	read, data, _ := q.packets(32 << 10)
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.read(b, read, data, uint64(i)<<15)
	}
}

func BenchmarkWrite(b *testing.B) {
	q := quick(b)
	_, _, write := q.packets(32 << 10)
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.write(b, write, uint64(i)<<15)
	}
}

// BenchmarkClient is the sftp client against OpenSSH's server: through a pipe
// alone, and through the relay.
func BenchmarkClient(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	const size = 200 << 20
	for _, way := range []string{"pipe", "relay"} {
		for _, what := range []string{"get", "put"} {
			b.Run(way+"/"+what, func(b *testing.B) {
				l := newLab(b, every(anything))
				f, err := os.Create(l.dir + "/f")
				if err == nil {
					err = errors.Join(f.Truncate(size), f.Close())
				}
				if err != nil {
					b.Fatal(err)
				}
				l.plain = way == "pipe"
				cmds := map[string]string{"get": "get f /dev/null", "put": "put " + l.dir + "/f /dev/null"}
				env := l.listen(b)
				put(b, l.dir+"/batch", cmds[what])
				b.SetBytes(size)
				for b.Loop() {
					cmd := exec.CommandContext(context.Background(), "sftp", "-q", "-b", l.dir+"/batch", "-D", self)
					cmd.Env = append(os.Environ(), env)
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v: %s", err, out)
					}
				}
			})
		}
	}
}
