package sftp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// framed fails where what was written is not whole packets.
func framed(t *testing.T, what string, b []byte) {
	for len(b) > 0 {
		if len(b) < 5 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			t.Fatalf("%s is sent %x", what, b)
		}
		b = b[4+binary.BigEndian.Uint32(b):]
	}
}

// FuzzClient: whatever a client sends, the host is asked to do nothing with what
// was refused, and is sent whole packets.
func FuzzClient(f *testing.F) {
	l := newLab(f, every(func(_, path string) bool { return !strings.Contains(path, "no") }))
	one := func(typ byte, args ...any) []byte {
		var b bytes.Buffer
		c := &client{t: f, nc: memoryConn{w: &b}}
		c.send(typ, args...)
		return b.Bytes()
	}
	f.Add(bytes.Join([][]byte{one(typeOpen, "/f", 1, attrs{}), one(typeStat, "no"), one(typeRename, "a", "no"), one(typeExtended, extHardlink, "a", "no")}, nil))
	f.Add(bytes.Join([][]byte{one(typeSymlink, "no", "b"), one(typeSetstat, "a", attrs{flags: 15}), one(typeRead, "12345678", uint64(1), 2), one(typeWrite, "12345678", uint64(1), "x")}, nil))
	f.Add(bytes.Join([][]byte{one(typeMkdir, "a/../no", attrs{}), one(typeRealpath, "."), one(typeExtended, extLimits), one(typeOpendir, "."), one(typeFsetstat, "x", attrs{flags: 1})}, nil))
	f.Fuzz(func(t *testing.T, sent []byte) {
		l.renew()
		s, err := l.gate.Open(t.Context(), gate.Login{Protocol: "ssh", Task: "x", Resource: "web"})
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		over := make(chan struct{})
		go func() {
			defer close(over)
			c := &client{t: t, nc: b}
			c.seen = func(typ byte, rest []byte) {
				switch typ {
				case typeLstat, typeReadlink, typeRead, typeWrite:
				default:
					if bytes.Contains(rest, []byte("no")) {
						t.Errorf("the host is asked for %d %q", typ, rest)
					}
				}
			}
			script("h", func(c *client, id uint32, _ uint64, _ uint32) { c.data(id, "x") })(c)
		}()
		var out bytes.Buffer
		in := append([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3}, sent...)
		err = Serve(t.Context(), s, &readWriter{bytes.NewReader(in), &out}, a, Options{})
		a.Close()
		b.Close()
		<-over
		_ = s.Close(err)
		if err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
		l.judged()
		l.mu1(func() { l.events, l.taped = nil, nil })
		framed(t, "the client", out.Bytes())
	})
}

// memoryConn is a connection of which only what is written counts.
type memoryConn struct {
	net.Conn
	w io.Writer
}

func (c memoryConn) Write(b []byte) (int, error) { return c.w.Write(b) }

// FuzzHost: whatever a host answers, the client is sent whole packets.
func FuzzHost(f *testing.F) {
	l := newLab(f, func(*abi.Command) abi.Verdict { return abi.Verdict{Decision: abi.Allow} })
	f.Add(attrs{flags: attrMode, mode: 0o040000}.append(begin([]byte{}, typeAttrs, 1<<indexBits)))
	f.Add(finish(attrs{flags: attrMode, mode: modeLink}.append(begin(nil, typeAttrs, 1<<indexBits)), 0))
	f.Add(append(plainStatus(nil, 1<<indexBits, 2), plainStatus(nil, 2<<indexBits, 0)...))
	f.Add(finish(appendString(begin(nil, typeHandle, 2<<indexBits), "h"), 0))
	f.Fuzz(func(t *testing.T, sent []byte) {
		l.renew()
		s, err := l.gate.Open(t.Context(), gate.Login{Protocol: "ssh", Task: "x", Resource: "web"})
		if err != nil {
			t.Fatal(err)
		}
		in, out := bytes.Buffer{}, bytes.Buffer{}
		in.Write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3})
		c := &client{t: t, nc: memoryConn{w: &in}}
		c.send(typeStat, "/f")
		c.send(typeOpen, "/f", 1, attrs{})
		c.send(typeExtended, extLimits)
		c.send(typeReadlink, "/f")
		host := io.MultiReader(bytes.NewReader([]byte{0, 0, 0, 5, typeVersion, 0, 0, 0, 3}), bytes.NewReader(sent))
		err = Serve(t.Context(), s, &readWriter{&in, &out}, &readWriter{host, io.Discard}, Options{})
		_ = s.Close(err)
		if err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
		l.judged()
		l.mu1(func() { l.events, l.taped = nil, nil })
	})
}
