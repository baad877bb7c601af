package sftp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// TestSF05Handles: a handle is one channel's, until it is closed.
func TestSF05Handles(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/f", "content")
	one, two := l.connect(t), l.connect(t)
	h := one.open("f", flagRead)
	for what, a := range map[string]answer{
		"another channel's": two.do(typeRead, h, uint64(0), 100),
		"the host's own":    one.do(typeRead, "\x00\x00\x00\x00", uint64(0), 100),
		"empty":             one.do(typeRead, "", uint64(0), 100),
		"long":              one.do(typeRead, strings.Repeat("x", 256), uint64(0), 100),
		"CLOSE":             two.do(typeClose, h),
		"FSETSTAT":          two.do(typeFsetstat, h, attrs{}),
		"READDIR":           two.do(typeReaddir, h),
		"FSTAT":             two.do(typeFstat, h),
	} {
		want(t, what, a, "status 4")
	}
	want(t, "its own", one.do(typeRead, h, uint64(0), 100), "data content")
	want(t, "CLOSE", one.do(typeClose, h), "status 0")
	want(t, "after it", one.do(typeRead, h, uint64(0), 100), "status 4")
	want(t, "CLOSE again", one.do(typeClose, h), "status 4")
	a := one.do(typeOpendir, ".")
	f := fields{b: a.body}
	d := f.bytes()
	want(t, "READ of a directory", one.do(typeRead, d, uint64(0), 100), "status 3")
	want(t, "READDIR", one.do(typeReaddir, d), "3 names")
	want(t, "READDIR", one.do(typeReaddir, d), "status 1")
}

// TestSF05Many: ten thousand opens leave a bounded number of handles, and the
// channel goes on.
func TestSF05Many(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	go func() {
		for range 10000 {
			c.send(typeOpen, "f", flagRead, attrs{})
		}
	}()
	var first []byte
	opened := 0
	for range 10000 {
		if a := c.answer(); a.typ == typeHandle {
			f := fields{b: a.body}
			if opened++; first == nil {
				first = f.bytes()
			}
		} else if a.code != codeFailure {
			t.Fatal(a)
		}
	}
	if opened == 0 || opened > maxHandles {
		t.Errorf("%d are open", opened)
	}
	want(t, "CLOSE", c.do(typeClose, first), "status 0")
	want(t, "OPEN", c.do(typeOpen, "f", flagRead, attrs{}), "type 102")
}

// TestSF06Lengths: a length that cannot be ends the channel, and no other.
func TestSF06Lengths(t *testing.T) {
	l := newLab(t, every(anything))
	other := l.connect(t)
	for _, b := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff\x05", "\x00\x04\x00\x01\x05", "\x00\x00\x00\x03\x05\x00\x00", "\x00\x00\x00\x05\x01\x00\x00\x00\x02"} {
		c := l.raw(t)
		if b[3] != 5 {
			c.write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3})
		}
		c.write([]byte(b))
		if err := <-c.done; err == nil {
			t.Errorf("%x is taken", b)
		}
	}
	for name, ask := range map[string]func(c *client) answer{
		"OPEN":    func(c *client) answer { return c.do(typeOpen, "f") },
		"STAT":    func(c *client) answer { return c.do(typeStat) },
		"READ":    func(c *client) answer { return c.do(typeRead, "h") },
		"WRITE":   func(c *client) answer { return c.do(typeWrite, "h", uint64(0), 100) },
		"long":    func(c *client) answer { return c.do(typeStat, math.MaxInt32) },
		"SETSTAT": func(c *client) answer { return c.do(typeSetstat, "f", 0x10) },
		"more":    func(c *client) answer { return c.do(typeSetstat, "f", attrExtended, math.MaxInt32) },
	} {
		want(t, name, ask(other), "status 5")
	}
	want(t, "another channel", other.do(typeStat, "."), "type 105")
}

// TestSF06Versions: the version is 3 with every client that knows it.
func TestSF06Versions(t *testing.T) {
	l := newLab(t, every(anything))
	for v := range byte(8) {
		c := l.raw(t)
		c.write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, v})
		if v < 3 {
			if err := <-c.done; err == nil {
				t.Errorf("version %d is taken", v)
			}
			continue
		}
		typ, b := c.read()
		if typ != typeVersion || binary.BigEndian.Uint32(b) != 3 {
			t.Errorf("version %d is answered with %d %x", v, typ, b)
		}
	}
	c := l.connect(t)
	c.write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3})
	if a := c.answer(); a.code != codeUnsupported {
		t.Errorf("a second INIT: %s", a)
	}
}

// TestSF06SameIDs: requests of the same id are answered each by their own.
func TestSF06SameIDs(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/a", "A")
	put(t, l.dir+"/b", "B")
	c := l.connect(t)
	a, b := c.open("a", flagRead), c.open("b", flagRead)
	for _, h := range [][]byte{a, b, a} {
		c.next = 6
		c.send(typeRead, h, uint64(0), 10)
	}
	got := ""
	for range 3 {
		x := c.answer()
		if x.id != 7 {
			t.Errorf("id %d", x.id)
		}
		got += x.String()
	}
	if got != "data Adata Bdata A" {
		t.Errorf("%q", got)
	}
}

// fake is a host of a test's own: it answers as it is told.
func (l *lab) fake(t testing.TB, serve func(nc *client)) {
	l.host = func() (io.ReadWriter, func()) {
		a, b := socketpair(t)
		over := make(chan struct{})
		go func() { defer close(over); serve(&client{t: t, nc: b}) }()
		return a, func() { a.(*net.UnixConn).Close(); <-over; b.Close() }
	}
}

// request reads one request as the host does. It gives false at the end.
func (c *client) request() (typ byte, id uint32, f fields, ok bool) {
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return 0, 0, fields{}, false
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		return 0, 0, fields{}, false
	}
	f = fields{b: b[1:]}
	id = f.u32()
	if c.seen != nil {
		c.seen(b[0], f.b)
	}
	return b[0], id, f, true
}

// script is a host on which everything is a file, and whose READs are answered
// by a function.
func script(handle string, read func(c *client, id uint32, offset uint64, n uint32)) func(*client) {
	return func(c *client) {
		for {
			typ, id, f, ok := c.request()
			if !ok {
				return
			}
			b := begin(nil, typeStatus, id)
			switch typ {
			case typeInit:
				b = []byte{0, 0, 0, 0, typeVersion, 0, 0, 0, 3}
			case typeRealpath:
				b = binary.BigEndian.AppendUint32(begin(nil, typeName, id), 1)
				b = binary.BigEndian.AppendUint32(appendString(appendString(b, "/"), "/"), 0)
			case typeLstat:
				b = attrs{flags: attrMode, mode: 0o100644}.append(begin(nil, typeAttrs, id))
			case typeOpen:
				b = appendString(begin(nil, typeHandle, id), handle)
			case typeRead:
				f.bytes()
				read(c, id, f.u64(), f.u32())
				continue
			default:
				b = appendString(appendString(binary.BigEndian.AppendUint32(b, codeOK), "as \x1b[31mit likes"), "")
			}
			if _, err := c.nc.Write(finish(b, 0)); err != nil {
				return
			}
		}
	}
}

func (c *client) data(id uint32, b string) {
	_, _ = c.nc.Write(finish(appendString(begin(nil, typeData, id), b), 0))
}

// TestSF06OutOfOrder: answers find their requests, in whatever order they come;
// the digest is of the extents as they came. The host's handle is longer than
// ours.
func TestSF06OutOfOrder(t *testing.T) {
	l := newLab(t, every(anything))
	var ids []uint32
	l.fake(t, script(strings.Repeat("H", 256), func(c *client, id uint32, _ uint64, _ uint32) {
		if ids = append(ids, id); len(ids) == 3 {
			for i, s := range []string{"ccc", "aaa", "bbb"} {
				c.data(ids[[]int{2, 0, 1}[i]], s)
			}
		}
	}))
	c := l.connect(t)
	h := c.open("/f", flagRead)
	at := c.next
	for i := range 3 {
		c.send(typeRead, h, uint64(3*i), 3)
	}
	for _, w := range []struct {
		id   uint32
		data string
	}{{3, "ccc"}, {1, "aaa"}, {2, "bbb"}} {
		if a := c.answer(); a.id != at+w.id || a.String() != "data "+w.data {
			t.Errorf("%d: %s", a.id-at, a)
		}
	}
	if a := c.do(typeClose, h); a.String() != "status 0 Success" {
		t.Errorf("CLOSE: %q: the host's own words pass", a)
	}
	tag := fmt.Sprintf("read 9 bytes in 2 extents: 6+3 sha256:%x, 0+6 sha256:%x", sha256.Sum256([]byte("ccc")), sha256.Sum256([]byte("aaabbb")))
	if got := l.ended(); len(got) != 1 || !strings.HasSuffix(got[0], tag) {
		t.Errorf("%q, want %q", got, tag)
	}
}

// TestSF06HostLies: a host that answers what was not asked, or otherwise, ends
// the channel.
func TestSF06HostLies(t *testing.T) {
	for name, read := range map[string]func(c *client, id uint32, offset uint64, n uint32){
		"twice":    func(c *client, id uint32, _ uint64, _ uint32) { c.data(id, "x"); c.data(id, "y") },
		"unasked":  func(c *client, id uint32, _ uint64, _ uint32) { c.data(id+1, "x") },
		"too much": func(c *client, id uint32, _ uint64, n uint32) { c.data(id, strings.Repeat("x", int(n)+1)) },
		"a handle": func(c *client, id uint32, _ uint64, _ uint32) {
			_, _ = c.nc.Write(finish(appendString(begin(nil, typeHandle, id), "x"), 0))
		},
		"half":      func(c *client, id uint32, _ uint64, _ uint32) { _, _ = c.nc.Write(finish(begin(nil, typeData, id), 0)) },
		"no id":     func(c *client, _ uint32, _ uint64, _ uint32) { _, _ = c.nc.Write([]byte{0, 0, 0, 1, typeData}) },
		"no length": func(c *client, _ uint32, _ uint64, _ uint32) { _, _ = c.nc.Write([]byte{0, 0, 0, 0}) },
		"a request": func(c *client, id uint32, _ uint64, _ uint32) { _, _ = c.nc.Write(finish(begin(nil, typeOpen, id), 0)) },
		"much":      func(c *client, id uint32, _ uint64, _ uint32) { _, _ = c.nc.Write([]byte{0xff, 0, 0, 0, typeData}) },
		"it leaves": func(c *client, _ uint32, _ uint64, _ uint32) { c.nc.Close() },
		"half of it": func(c *client, _ uint32, _ uint64, _ uint32) {
			_, _ = c.nc.Write([]byte{0, 0, 1, 0, typeData})
			c.nc.Close()
		},
	} {
		l := newLab(t, every(anything))
		l.fake(t, script("h", read))
		c := l.connect(t)
		c.send(typeRead, c.open("/f", flagRead), uint64(0), 100)
		err := <-c.done
		if (err == nil) != (name == "it leaves") {
			t.Errorf("%s: %v", name, err)
		}
		if got := l.ended(); len(got) != 1 || !strings.Contains(got[0], ": unknown ") {
			t.Errorf("%s: the log says %q", name, got)
		}
	}
}

// TestSF07Offsets: what would overflow is refused; what is sparse is told by its
// extents.
func TestSF07Offsets(t *testing.T) {
	l := newLab(t, every(anything))
	c := l.connect(t)
	h := c.open("f", flagRead|flagWrite|flagCreate)
	for _, at := range []uint64{math.MaxUint64, math.MaxInt64, math.MaxInt64 - 2, 1 << 63} {
		want(t, "WRITE", c.do(typeWrite, h, at, "abc"), "status 4")
		want(t, "READ", c.do(typeRead, h, at, 3), "status 4")
	}
	want(t, "WRITE", c.do(typeWrite, h, uint64(1<<33), "abc"), "status 0")
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 0")
	for i := range 100 {
		want(t, "WRITE", c.do(typeWrite, h, uint64(10+2*i), "y"), "status 0")
	}
	want(t, "READ", c.do(typeRead, h, uint64(1<<33), 10), "data abc")
	c.do(typeClose, h)
	tag := fmt.Sprintf("wrote 104 bytes in 102 extents: 8589934592+3 sha256:%x, 0+1 sha256:%x, 10+1 sha256:", sha256.Sum256([]byte("abc")), sha256.Sum256([]byte("x")))
	if got := l.ended(); len(got) != 1 || !strings.Contains(got[0], tag) || !strings.Contains(got[0], " 85 more sha256:") || !strings.Contains(got[0], "read 3 bytes in 1 extents: 8589934592+3 ") {
		t.Errorf("%q, want %q", got, tag)
	}
}

// TestSF08Flood: more is asked than is ever answered at once, and all of it is
// answered.
func TestSF08Flood(t *testing.T) {
	l := newLab(t, every(anything))
	content := strings.Repeat("0123456789abcdef", 4096)
	put(t, l.dir+"/f", content)
	c := l.connect(t)
	h := c.open("f", flagRead)
	const n = 20000
	go func() {
		var b []byte
		for i := range n {
			at := len(b)
			b = begin(b, typeRead, uint32(i))
			b = binary.BigEndian.AppendUint64(appendString(b, h), uint64(i%4096*16))
			b = finish(binary.BigEndian.AppendUint32(b, 16), at)
		}
		_, _ = c.nc.Write(b)
	}()
	for i := range n {
		if a := c.answer(); a.id != uint32(i) || a.String() != "data 0123456789abcdef" {
			t.Fatalf("%d: %d %s", i, a.id, a)
		}
	}
}

// TestSF08Directory: a large directory passes as it is, names that move a
// terminal included; what is written down of it does not.
func TestSF08Directory(t *testing.T) {
	l := newLab(t, every(anything))
	for i := range 3000 {
		put(t, fmt.Sprintf("%s/d/f%04d\x1b[31m", l.dir, i), "")
	}
	c := l.connect(t)
	a := c.do(typeOpendir, "d")
	f := fields{b: a.body}
	h := f.bytes()
	names := map[string]bool{}
	for {
		a := c.do(typeReaddir, h)
		if a.typ != typeName {
			want(t, "the end", a, "status 1")
			break
		}
		f := fields{b: a.body}
		for range f.u32() {
			names[string(f.bytes())] = true
			f.bytes()
			f.attrs()
		}
		if f.bad || len(f.b) > 0 {
			t.Fatal("the names are damaged")
		}
	}
	if len(names) != 3002 || !names["f0000\x1b[31m"] {
		t.Errorf("%d names", len(names))
	}
	c.do(typeClose, h)
	c.do(typeStat, "d/f0001\x1b[31m\nforged")
	if got := strings.Join(l.ended(), "\n"); !strings.Contains(got, "listed 3002 entries") || strings.Contains(got, "\x1b") || !strings.Contains(got, `/f0001\x1b[31m\nforged"`) {
		t.Errorf("the log says %q", got)
	}
	l.mu1(func() {
		for _, e := range l.events {
			if s := strings.Join(e.Operations, ""); strings.ContainsAny(s, "\x1b\n") {
				t.Errorf("the log has %q", s)
			}
		}
	})
}

func (l *lab) mu1(f func()) { l.memory.mu.Lock(); defer l.memory.mu.Unlock(); f() }

// TestSF09Limit: an answer of more bytes than the task allows ends where it would
// pass that, and the handle with it.
func TestSF09Limit(t *testing.T) {
	l := newLab(t, func(*abi.Command) abi.Verdict {
		return abi.Verdict{Decision: abi.Allow, Limits: abi.Limits{Bytes: 1000}}
	})
	put(t, l.dir+"/f", strings.Repeat("x", 5000))
	c := l.connect(t)
	h := c.open("f", flagRead)
	want(t, "READ", c.do(typeRead, h, uint64(0), 600), "data xxx")
	want(t, "READ", c.do(typeRead, h, uint64(600), 600), "status 3 taskgate: denied: the answer is larger than the 1000 bytes")
	want(t, "READ", c.do(typeRead, h, uint64(600), 1), "status 3")
	want(t, "FSTAT", c.do(typeFstat, h), "status 3")
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	tag := fmt.Sprintf("failed  read 600 bytes sha256:%x, ended by gate.bytes", sha256.Sum256([]byte(strings.Repeat("x", 600))))
	if got := l.ended(); len(got) != 1 || !strings.HasSuffix(got[0], tag) {
		t.Errorf("the log says %q", got)
	}
}

// TestSF09Rename: what was written under one name does not come to stand under
// another that is refused.
func TestSF09Rename(t *testing.T) {
	l := newLab(t, every(func(_, path string) bool { return !strings.HasSuffix(path, ".php") }))
	c := l.connect(t)
	h := c.open("up.part", flagWrite|flagCreate)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "<?"), "status 0")
	want(t, "RENAME", c.do(typeRename, "up.part", "up.php"), "status 3")
	want(t, "posix-rename", c.do(typeExtended, extPosixRename, "up.part", "up.php"), "status 3")
	want(t, "SYMLINK", c.do(typeSymlink, "up.part", "up.php"), "status 3")
	want(t, "hardlink", c.do(typeExtended, extHardlink, "up.part", "up.php"), "status 3")
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	if got := get(t, l.dir+"/up.php"); !strings.HasPrefix(got, "none") {
		t.Errorf("it stands there: %q", got)
	}
}

// TestSF11Recording: the recording has the head of what passed, in the frames of
// SSH; the log has the digest of all of it.
func TestSF11Recording(t *testing.T) {
	l := newLab(t, every(anything))
	content := strings.Repeat("line\n", 1000)
	c := l.connect(t)
	h := c.open("f", flagRead|flagWrite|flagCreate)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), content), "status 0")
	want(t, "READ", c.do(typeRead, h, uint64(0), 10), "data line\nline\n")
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	tag := fmt.Sprintf("completed  read 10 bytes sha256:%x, wrote 5000 bytes sha256:%x", sha256.Sum256([]byte(content[:10])), sha256.Sum256([]byte(content)))
	if got := l.ended(); len(got) != 1 || !strings.HasSuffix(got[0], tag) {
		t.Errorf("the log says %q, want %q", got, tag)
	}
	var in, out []byte
	l.mu1(func() {
		for _, e := range l.taped {
			switch e.Kind {
			case gate.EventInput:
				in = append(in, e.Frame...)
			case gate.EventResult:
				out = append(out, e.Frame...)
			}
		}
	})
	if w := append([]byte{'i', 0, 0, 0x13, 0x88}, content[:1<<10-5]...); !bytes.Equal(in, w) {
		t.Errorf("of the input it has %q", in)
	}
	if w := append([]byte{'o', 0, 0, 0, 10}, content[:10]...); !bytes.Equal(out, w) {
		t.Errorf("of the answer it has %q", out)
	}
	if get(t, l.dir+"/f") != content {
		t.Error("the file is damaged")
	}
}

// TestSF11Closed: what cannot be recorded does not pass.
func TestSF11Closed(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/f", "content")
	for _, ask := range []func(c *client, h []byte){
		func(c *client, _ []byte) { c.send(typeOpen, "g", flagWrite|flagCreate, attrs{}) },
		func(c *client, _ []byte) { c.send(typeRemove, "f") },
		func(c *client, h []byte) { c.send(typeClose, h) },
	} {
		c := l.connect(t)
		h := c.open("f", flagRead)
		l.mu1(func() { l.broken = true })
		ask(c, h)
		if err := <-c.done; err == nil {
			t.Error("it goes on")
		}
		l.mu1(func() { l.broken = false })
	}
	if got := sshtest.Tree(t, l.dir); !strings.Contains(got, `"f"`) || strings.Contains(got, `"g"`) {
		t.Errorf("it happened: %s", got)
	}
}

// TestSF10Stuck: a session that ends ends its channel even where neither side
// reads; nothing of it is left once both are closed.
func TestSF10Stuck(t *testing.T) {
	before := runtime.NumGoroutine()
	l := newLab(t, every(anything))
	l.fake(t, script("h", func(c *client, id uint32, _ uint64, n uint32) { c.data(id, strings.Repeat("x", int(n))) }))
	c := l.connect(t)
	h := c.open("/f", flagRead)
	go func() {
		for range 10000 {
			b := begin(nil, typeRead, 1)
			b = finish(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(appendString(b, h), 0), 32<<10), 0)
			if _, err := c.nc.Write(b); err != nil {
				return
			}
		}
	}()
	for range 3 { // more than the connection holds is under way
		c.answer()
	}
	l.gate.Kill("enough", func(*gate.Session) bool { return true })
	if err := <-c.done; err == nil || err.Error() != "enough" {
		t.Errorf("Serve: %v", err)
	}
	c.nc.Close()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<16)
			t.Fatalf("left running: %s", b[:runtime.Stack(b, true)])
		}
	}
}

// TestSF06HalfClose: a client that says that nothing more comes has the answers
// to all that it has asked, whether or not the host can be told.
func TestSF06HalfClose(t *testing.T) {
	for _, told := range []bool{true, false} {
		for range 20 {
			l := newLab(t, every(anything))
			put(t, l.dir+"/f", "content")
			start := l.host
			l.host = func() (io.ReadWriter, func()) {
				h, stop := start()
				if !told {
					h = readWriter{h, h}
				}
				return h, stop
			}
			c := l.connect(t)
			h := c.open("f", flagRead)
			for range 5 {
				c.send(typeRead, h, uint64(0), 100)
			}
			c.send(typeStat, "f")
			c.send(typeRemove, "f")
			if err := c.nc.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var got []string // an answer is known by its id, not by its place
			for range 7 {
				got = append(got, c.answer().String()[:8])
			}
			slices.Sort(got)
			if g := strings.Join(got, ","); g != strings.Repeat("data con,", 5)+"status 0,type 105" {
				t.Errorf("answers: %s", g)
			}
			if err := <-c.done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	}
}
