package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

const serverPath = "/usr/lib/openssh/sftp-server"

// TestMain is, where it is asked to, what stands in the place of ssh for the
// clients: a pipe to the test that runs them.
func TestMain(m *testing.M) {
	if at := os.Getenv("TASKGATE_TEST_SOCKET"); at != "" {
		nc, err := net.Dial("unix", at)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			_, _ = io.Copy(nc, os.Stdin)
			_ = nc.(*net.UnixConn).CloseWrite()
		}()
		_, _ = io.Copy(os.Stdout, nc)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rules is a guard of one function.
type rules struct {
	mu    sync.Mutex
	say   func(*abi.Command) abi.Verdict
	batch func(*abi.Batch) (*abi.Batch, error)
	seen  []string // the operations of every command
}

func (*rules) Name() string       { return "rules" }
func (*rules) Digest() string     { return "native" }
func (*rules) May() abi.May       { return abi.May{Allow: true, Review: true, Mask: true} }
func (*rules) Inputs() abi.Inputs { return abi.InputOperations }
func (*rules) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (*rules) SessionClose(*abi.Session) {}
func (r *rules) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ops []string
	for i := range c.Statement.Operations {
		ops = append(ops, c.Statement.Operations[i].String())
	}
	r.seen = append(r.seen, strings.Join(ops, "; "))
	v := r.say(c)
	return &v, nil
}
func (*rules) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (*rules) Results() bool                                { return false }
func (*rules) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return nil, nil
}
func (r *rules) ResultBatch(_ context.Context, _ *abi.Session, b *abi.Batch) (*abi.Batch, error) {
	if r.batch == nil {
		return nil, nil
	}
	return r.batch(b)
}
func (*rules) Approvals() bool                                               { return false }
func (*rules) Approval(context.Context, *abi.Approval) (*abi.Verdict, error) { return nil, nil }

// judged gives the operations that were judged since it was last called.
func (r *rules) judged() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.seen
	r.seen = nil
	return list
}

var deny = abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Message: "not in the task", Hint: "ask\x1b[31m\nyour operator"}}

// every allows what a function says of each operation.
func every(may func(verb, path string) bool) func(*abi.Command) abi.Verdict {
	return func(c *abi.Command) abi.Verdict {
		for _, o := range c.Statement.Operations {
			if o.Kind != abi.KindFile || len(o.Object) != 1 || !may(o.Verb, o.Object[0]) {
				return deny
			}
		}
		return abi.Verdict{Decision: abi.Allow}
	}
}

func anything(string, string) bool { return true }

// memory is a log, recordings, an identity and people, all at once.
type memory struct {
	mu     sync.Mutex
	events []*gate.Event
	taped  []*gate.Event
	broken bool
	all    map[string]*asking
	next   chan *gate.Request
}

type asking struct {
	decided chan gate.Decided
	state   gate.RequestState
	why     string
}

func (m *memory) Append(_ context.Context, b []byte, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("disk full")
	}
	e, err := gate.ReadEvent(bytes.Clone(b))
	m.events = append(m.events, e)
	return err
}
func (m *memory) TryAppend(b []byte, _ time.Time) bool {
	return m.Append(context.Background(), b, false) == nil
}
func (m *memory) Record(string) (gate.Recording, error) { return tape{m}, nil }
func (m *memory) Authenticate(context.Context, gate.Login) (gate.Grant, error) {
	return gate.Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}, nil
}

type tape struct{ m *memory }

func (t tape) Append(b []byte) error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	e, err := gate.ReadEvent(bytes.Clone(b))
	t.m.taped = append(t.m.taped, e)
	return err
}
func (tape) Head() int    { return 1 << 10 }
func (tape) Close() error { return nil }

func (m *memory) of(id string) *asking { m.mu.Lock(); defer m.mu.Unlock(); return m.all[id] }

func (m *memory) Ask(_ context.Context, r *gate.Request) error {
	m.mu.Lock()
	m.all[r.ID] = &asking{decided: make(chan gate.Decided, 1), state: gate.Waiting}
	m.mu.Unlock()
	m.next <- r
	return nil
}

func (m *memory) Wait(ctx context.Context, id string) (gate.Decided, error) {
	select {
	case d := <-m.of(id).decided:
		return d, nil
	case <-ctx.Done():
		return gate.Decided{}, ctx.Err()
	}
}

func (m *memory) Spend(_ context.Context, id string) (gate.Decided, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[id].state = gate.Used
	return gate.Decided{State: gate.Used, Voices: []abi.Voice{{Subject: "bob", Approve: true}}}, nil
}

func (m *memory) Withdraw(_ context.Context, id, why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[id].state, m.all[id].why = gate.Withdrawn, why
	return nil
}

func (m *memory) asked(t testing.TB) *gate.Request {
	t.Helper()
	select {
	case r := <-m.next:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nobody is asked")
	}
	return nil
}

func (m *memory) decide(r *gate.Request, s gate.RequestState) {
	m.of(r.ID).decided <- gate.Decided{State: s, Voices: []abi.Voice{{Subject: "bob", Approve: s == gate.Approved}}}
}

// ended gives what the log says of the commands that have ended: their texts,
// states, codes and tags.
func (m *memory) ended() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	texts, commands := map[string]string{}, map[uint64]string{}
	for _, e := range m.events {
		switch e.Kind {
		case gate.EventText:
			texts[e.Digest] = e.Canonical
			if e.Canonical == "" {
				texts[e.Digest] = e.Text
			}
		case gate.EventCommand:
			commands[e.Command] = texts[e.Digest]
		case gate.EventDone:
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", commands[e.Command], e.State, e.Code, e.Tag)))
		}
	}
	return list
}

// host is the other end: OpenSSH's own server, or what a test makes of it.
type host struct {
	io.Reader
	io.WriteCloser
}

func (h host) CloseWrite() error { return h.WriteCloser.Close() }

// lab is a directory, a gate, and a relay between them for each client.
type lab struct {
	*memory
	*rules
	gate *gate.Gate
	dir  string // of the host, in which its server begins
	host func() (io.ReadWriter, func())

	room  *Room
	plain bool // what a client sends is relayed as it is
	told  struct {
		sync.Mutex
		lines []string
	}
}

func newLab(t testing.TB, say func(*abi.Command) abi.Verdict) *lab {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{memory: &memory{all: map[string]*asking{}, next: make(chan *gate.Request, 100)}, rules: &rules{say: say}, dir: dir}
	l.renew()
	l.host = func() (io.ReadWriter, func()) {
		cmd := exec.Command(serverPath, "-e")
		cmd.Dir = l.dir
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return host{out, in}, func() { in.Close(); _ = cmd.Wait() }
	}
	return l
}

// renew makes the gate one that has met nobody.
func (l *lab) renew() {
	l.gate = &gate.Gate{Identity: l.memory, Log: l.memory, Recorder: l.memory, Approver: l.memory}
	l.guard(l.rules)
}

// guard makes another guard decide from now on.
func (l *lab) guard(g gate.Guard) {
	l.gate.Swap(&gate.Generation{Guards: []gate.Guard{g},
		Tasks:     map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"web"}}},
		Resources: map[string]*gate.Resource{"web": {Name: "web", Protocol: "ssh"}}})
}

// serve relays one client until it leaves, and gives what Serve gave.
func (l *lab) serve(t testing.TB, ctx context.Context, client io.ReadWriter) error {
	s, err := l.gate.Open(ctx, gate.Login{Protocol: "ssh", Task: "x", Resource: "web", Address: "192.0.2.1:1"})
	if err != nil {
		t.Error(err)
		return err
	}
	up, stop := l.host()
	if l.plain {
		go func() { _, _ = io.Copy(client, up); client.(io.Closer).Close() }()
		_, err = io.Copy(up, client)
		stop()
		return err
	}
	err = Serve(ctx, s, client, up, Options{Room: l.room, Say: func(line string) {
		l.told.Lock()
		defer l.told.Unlock()
		l.told.lines = append(l.told.lines, line)
	}})
	stop()
	if e := s.Close(err); e != nil && !l.memory.broken {
		t.Error(e)
	}
	return err
}

func (l *lab) lines() string {
	l.told.Lock()
	defer l.told.Unlock()
	return strings.Join(l.told.lines, "\n")
}

// client speaks to a relay by hand.
type client struct {
	t    testing.TB
	nc   net.Conn
	next uint32
	done chan error // what Serve gave

	seen func(typ byte, rest []byte) // of a host: is shown each request
}

// raw connects one that has not said INIT.
func (l *lab) raw(t testing.TB) *client {
	t.Helper()
	ours, theirs := socketpair(t)
	c := &client{t: t, nc: ours, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		err := l.serve(t, ctx, theirs)
		theirs.Close()
		c.done <- err
		close(c.done)
	}()
	t.Cleanup(func() {
		ours.Close()
		cancel()
		for range c.done {
		}
	})
	return c
}

func (l *lab) connect(t testing.TB) *client {
	t.Helper()
	c := l.raw(t)
	c.write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3})
	if typ, _ := c.read(); typ != typeVersion {
		t.Fatalf("INIT is answered with %d", typ)
	}
	return c
}

func socketpair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() { nc, _ := l.Accept(); got <- nc }()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return a, <-got
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() (typ byte, body []byte) {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.t.Fatalf("half an answer: %v", err)
	}
	return b[0], b[1:]
}

// send sends a request whose fields are strings, bytes, numbers and attributes.
func (c *client) send(typ byte, args ...any) uint32 {
	c.t.Helper()
	c.next++
	b := begin(nil, typ, c.next)
	for _, a := range args {
		switch v := a.(type) {
		case string:
			b = appendString(b, v)
		case []byte:
			b = appendString(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case attrs:
			b = v.append(b)
		default:
			c.t.Fatalf("a field of %T", a)
		}
	}
	c.write(finish(b, 0))
	return c.next
}

// answer is one that was read.
type answer struct {
	typ  byte
	id   uint32
	code uint32 // of a status
	text string
	body []byte
}

func (a answer) String() string {
	switch a.typ {
	case typeStatus:
		return fmt.Sprintf("status %d %s", a.code, a.text)
	case typeData:
		return "data " + string(a.body[4:])
	case typeName:
		f := fields{b: a.body}
		n := f.u32()
		return fmt.Sprintf("%d names, first %s", n, f.bytes())
	}
	return fmt.Sprint("type ", a.typ)
}

func (c *client) answer() answer {
	c.t.Helper()
	typ, b := c.read()
	f := fields{b: b}
	a := answer{typ: typ, id: f.u32(), body: f.b}
	if typ == typeStatus {
		a.code, a.text = f.u32(), string(f.bytes())
	}
	return a
}

func (c *client) do(typ byte, args ...any) answer {
	c.t.Helper()
	id := c.send(typ, args...)
	a := c.answer()
	if a.id != id {
		c.t.Fatalf("request %d is answered as %d", id, a.id)
	}
	return a
}

// open opens a file, and gives its handle.
func (c *client) open(path string, flags int) []byte {
	c.t.Helper()
	a := c.do(typeOpen, path, flags, attrs{})
	if a.typ != typeHandle {
		c.t.Fatalf("OPEN %s: %s", path, a)
	}
	f := fields{b: a.body}
	return f.bytes()
}

// want holds an answer against how it has to begin.
func want(t testing.TB, what string, a answer, begins string) {
	t.Helper()
	if !strings.HasPrefix(a.String(), begins) {
		t.Errorf("%s: %s, want %s", what, a, begins)
	}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return "none: " + err.Error()
	}
	return string(b)
}

// masker is a guard that masks every result that it is shown.
type masker struct{ *rules }

func (masker) Results() bool { return true }
func (masker) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return &abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskFixed}, Default: abi.MaskFixed}, nil
}
