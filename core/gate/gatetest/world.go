package gatetest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// world is a gate with everything around it that a law has to look at: what
// was logged, what went upstream, what the guard says.
type world struct {
	p    Protocol
	gate *gate.Gate
	addr string
	tap  net.Listener

	mu       sync.Mutex
	events   []*gate.Event
	texts    map[string]string // of a digest
	logFails bool
	dialled  int
	sent     bytes.Buffer // to the upstream, of all connections
	watch    func()       // is called when something has gone upstream
	conns    []net.Conn   // the upstream's, of all connections
	open     int          // how many of them
	asked    string       // the request that waits
	decided  chan gate.Decided
}

// judge is the guard: what it says is set by the law.
type judge struct {
	verdict func(c *abi.Command) (*abi.Verdict, error)
}

func (j *judge) Name() string       { return "judge" }
func (j *judge) Digest() string     { return "native" }
func (j *judge) May() abi.May       { return abi.May{Allow: true, Review: true} }
func (j *judge) Inputs() abi.Inputs { return abi.InputOperations | abi.InputText }
func (j *judge) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (j *judge) SessionClose(*abi.Session) {}
func (j *judge) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	return j.verdict(c)
}
func (j *judge) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (j *judge) Results() bool                                { return false }
func (j *judge) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return nil, nil
}

func (*judge) ResultBatch(context.Context, *abi.Session, *abi.Batch) (*abi.Batch, error) {
	return nil, nil
}
func (*judge) Approvals() bool                                               { return false }
func (*judge) Approval(context.Context, *abi.Approval) (*abi.Verdict, error) { return nil, nil }

func allow(*abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Allow}, nil }

// denying refuses every text that has the mark in it.
func denying(mark string) func(c *abi.Command) (*abi.Verdict, error) {
	return func(c *abi.Command) (*abi.Verdict, error) {
		if strings.Contains(c.Statement.Text, mark) {
			return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "judge.no", Message: "no", Hint: "ask"}}, nil
		}
		return allow(c)
	}
}

// reviewing wants every text held that has the mark in it.
func reviewing(mark string) func(c *abi.Command) (*abi.Verdict, error) {
	return func(c *abi.Command) (*abi.Verdict, error) {
		if strings.Contains(c.Statement.Text, mark) {
			return &abi.Verdict{Decision: abi.Review, Review: abi.Requirement{Groups: []string{"dba"}, People: 1, Within: 60}}, nil
		}
		return allow(c)
	}
}

func start(t testing.TB, p Protocol) *world {
	t.Helper()
	w := &world{p: p, texts: map[string]string{}, decided: make(chan gate.Decided, 1)}
	w.gate = &gate.Gate{Identity: w, Log: w, Recorder: w, Dialer: w, Approver: w}
	w.judge(allow)
	var err error
	if w.tap, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if p.Run != nil {
		wg.Go(func() { _ = p.Run(ctx) })
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = p.Serve(ctx, nc, w.gate) })
		}
	})
	wg.Go(func() { w.relay(&wg) })
	t.Cleanup(func() {
		l.Close()
		w.gate.Kill("the law is over", func(*gate.Session) bool { return true })
		cancel()
		w.tap.Close()
		w.hangUp()
		wg.Wait()
	})
	return w
}

// judge makes a new generation with that guard.
func (w *world) judge(verdict func(c *abi.Command) (*abi.Verdict, error)) {
	w.gate.Swap(&gate.Generation{Guards: []gate.Guard{&judge{verdict}},
		Tasks:     map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"r"}, Options: w.p.Options}},
		Resources: map[string]*gate.Resource{"r": {Name: "r", Protocol: w.p.Name}}})
}

// relay stands between the gateway and the upstream, and sees every byte.
func (w *world) relay(wg *sync.WaitGroup) {
	for {
		nc, err := w.tap.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", w.p.Upstream.Addr)
		if err != nil {
			nc.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, nc, up)
		w.open++
		w.mu.Unlock()
		wg.Go(func() {
			defer up.Close()
			b := make([]byte, 64<<10)
			for {
				n, err := nc.Read(b)
				if n > 0 {
					w.mu.Lock()
					w.sent.Write(b[:n])
					if w.watch != nil {
						w.watch()
					}
					w.mu.Unlock()
					if _, e := up.Write(b[:n]); e != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			defer func() {
				nc.Close()
				w.mu.Lock()
				w.open--
				w.mu.Unlock()
			}()
			b := make([]byte, 64<<10)
			for {
				n, err := up.Read(b)
				if n > 0 {
					if _, e := nc.Write(b[:n]); e != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
}

// hangUp ends every connection to the upstream.
func (w *world) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// went says whether the mark has gone upstream.
func (w *world) went(mark string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.sent.Bytes(), []byte(mark))
}

// allowed says whether a command with the mark in its text stands in the log as
// one that may run. The caller holds mu.
func (w *world) allowed(mark string) bool {
	for _, e := range w.events {
		if runs(e) && strings.Contains(w.texts[e.Digest], mark) {
			return true
		}
	}
	return false
}

// runs says whether an event is of a command that may go: allowed, or approved,
// or made ready for people to look at.
func runs(e *gate.Event) bool {
	held := e.Decision == abi.Review.String()
	return e.Kind == gate.EventCommand && (e.Decision == abi.Allow.String() || held && (e.Request != "" || e.Phase == "prepare"))
}

func (w *world) count(kind gate.EventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// wait waits for what comes in its own time, and says whether it came.
func wait(f func() bool) bool {
	for range 300 {
		if f() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// Append implements gate.Log.
func (w *world) Append(_ context.Context, b []byte, _ bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.logFails {
		return errors.New("no space left on device")
	}
	e, err := gate.ReadEvent(b)
	if err != nil {
		return err
	}
	if e.Kind == gate.EventText {
		w.texts[e.Digest] = e.Text
	}
	w.events = append(w.events, e)
	return nil
}

// TryAppend implements gate.Log.
func (w *world) TryAppend(b []byte, _ time.Time) bool {
	return w.Append(context.Background(), b, false) == nil
}

// Record implements gate.Recorder.
func (w *world) Record(string) (gate.Recording, error) { return tape{}, nil }

// Authenticate implements gate.Identity.
func (w *world) Authenticate(_ context.Context, l gate.Login) (gate.Grant, error) {
	if l.Secret != Secret {
		return gate.Grant{}, errors.New("not the secret")
	}
	return gate.Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}, nil
}

// Dial implements gate.Dialer.
func (w *world) Dial(ctx context.Context, _ *gate.Resource, _ string) (gate.Upstream, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.tap.Addr().String())
	if err != nil {
		return gate.Upstream{}, err
	}
	w.mu.Lock()
	w.dialled++
	w.mu.Unlock()
	u := w.p.Upstream
	return gate.Upstream{Conn: nc, User: u.User, Password: u.Password, Database: u.Database, Auth: u.Auth}, nil
}

// Ask implements gate.Approver.
func (w *world) Ask(_ context.Context, r *gate.Request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = r.ID
	return nil
}

// Wait implements gate.Approver.
func (w *world) Wait(ctx context.Context, _ string) (gate.Decided, error) {
	select {
	case d := <-w.decided:
		return d, nil
	case <-ctx.Done():
		return gate.Decided{}, ctx.Err()
	}
}

// Spend implements gate.Approver.
func (w *world) Spend(context.Context, string) (gate.Decided, error) {
	return gate.Decided{State: gate.Used}, nil
}

// Withdraw implements gate.Approver.
func (w *world) Withdraw(context.Context, string, string) error { return nil }

// waits says whether a request has been made.
func (w *world) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked != ""
}

type tape struct{}

func (tape) Append([]byte) error { return nil }
func (tape) Head() int           { return 1 << 16 }
func (tape) Close() error        { return nil }
