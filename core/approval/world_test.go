package approval_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// world is a service with a real log and a real store, each of which can be
// made to fail, and a clock.
type world struct {
	testing.TB
	*approval.Service
	dir   string
	log   *failing
	ahead atomic.Int64

	mu     sync.Mutex
	groups map[string][]string // of people now
	events []string
}

// failing is a log and a store whose next calls can fail.
type failing struct {
	gate.Log
	approval.Store
	logs, reads, writes atomic.Bool
}

var errBroken = errors.New("it is broken")

func (f *failing) Append(ctx context.Context, b []byte, durable bool) error {
	if f.logs.Load() {
		return errBroken
	}
	return f.Log.Append(ctx, b, durable)
}

func (f *failing) AddRequest(ctx context.Context, c *approval.Card) error {
	if f.writes.Load() {
		return errBroken
	}
	return f.Store.AddRequest(ctx, c)
}

func (f *failing) Request(ctx context.Context, id string) (*approval.Card, error) {
	if f.reads.Load() {
		return nil, errBroken
	}
	return f.Store.Request(ctx, id)
}

func (f *failing) Requests(ctx context.Context, open bool, n int) ([]*approval.Card, error) {
	if f.reads.Load() {
		return nil, errBroken
	}
	return f.Store.Requests(ctx, open, n)
}

func (f *failing) AddVoice(ctx context.Context, id, person string, v approval.Voice, next approval.State) error {
	if f.writes.Load() {
		return errBroken
	}
	return f.Store.AddVoice(ctx, id, person, v, next)
}

func (f *failing) Move(ctx context.Context, id string, from []approval.State, next approval.State, why string, at time.Time) error {
	if f.writes.Load() {
		return errBroken
	}
	return f.Store.Move(ctx, id, from, next, why, at)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), groups: map[string][]string{"bob": {"dba"}, "eve": {"dba", "lead"}, "joe": {"lead"}, "tom": {"staff"}}}
	log, _, err := audit.Open(filepath.Join(w.dir, "audit"), audit.Options{Segment: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w.log = &failing{Log: log, Store: w.open()}
	w.Service = w.service()
	return w
}

func (w *world) open() *store.Store {
	w.Helper()
	s, err := store.Open(w.Context(), filepath.Join(w.dir, "store.db"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = s.Close() })
	return s
}

// service is another one over the same log and store: a replica, or the next run.
func (w *world) service() *approval.Service {
	return &approval.Service{Log: w.log, Store: w.log, Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
		Groups: func(_ context.Context, issuer, subject string) ([]string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			g, ok := w.groups[subject]
			if !ok {
				return nil, errors.New("whoever that is")
			}
			return slices.Clone(g), nil
		},
		Notify: func(e approval.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e.What+" "+e.Card.ID+" "+string(e.Card.State))
		}}
}

// request is one of ada's that asks for so many people of some groups.
func request(id string, people uint32, groups ...string) *gate.Request {
	now := time.Now()
	return &gate.Request{ID: id, Code: "k7qa", Session: &abi.Session{ID: "session", Issuer: "https://idp", Subject: "ada", Task: "fix", Resource: "shop", Address: "192.0.2.1:5", Protocol: "postgres"},
		Needs: []gate.Need{{Guard: "tasks", Requirement: abi.Requirement{Groups: groups, People: people, Summary: "delete from orders"}}}, Since: now, Until: now.Add(time.Minute),
		Text: "delete from orders where id = $1", Canonical: "DELETE FROM public.orders WHERE id = $1", Operations: []string{"delete public.orders"}, Params: []string{`"1"`},
		Rows: abi.Rows{Estimated: -1, Counted: 1}, Binding: [32]byte{1, 2, 3}}
}

func (w *world) ask(r *gate.Request) {
	w.Helper()
	if err := w.Ask(w.Context(), r); err != nil {
		w.Fatal(err)
	}
}

func (w *world) person(subject string) approval.Person {
	w.mu.Lock()
	defer w.mu.Unlock()
	return approval.Person{Issuer: "https://idp", Subject: subject, Groups: w.groups[subject]}
}

// say decides as somebody who gets everything right, and gives the kind of error.
func (w *world) say(id, subject string, approve bool) approval.Kind {
	w.Helper()
	return w.kind(w.Decide(w.Context(), id, w.person(subject), approve, "as agreed", " K7QA"))
}

func (w *world) kind(c *approval.Card, err error) approval.Kind {
	w.Helper()
	if err == nil {
		return ""
	}
	e := new(approval.Error)
	if !errors.As(err, &e) || c != nil {
		w.Fatalf("%v %+v", err, c)
	}
	if e.Hint == "" && e.Kind != approval.Unknown {
		w.Errorf("%s: no hint", e.Message)
	}
	return e.Kind
}

func (w *world) state(id string, want approval.State) *approval.Card {
	w.Helper()
	c, err := w.log.Store.Request(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	if c.State != want {
		w.Errorf("request %s is %s (%s), not %s", id, c.State, c.Why, want)
	}
	return c
}

// spend uses a request and gives what came of it.
func (w *world) spend(id string) gate.Decided {
	w.Helper()
	d, err := w.Spend(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// logged gives the events of a request that are in the log, in words.
func (w *world) logged(id string) (all []string) {
	w.Helper()
	err := audit.Read(filepath.Join(w.dir, "audit"), func(r audit.Record) error {
		e, err := gate.ReadEvent(r.Payload)
		if err != nil {
			return err
		}
		switch {
		case e.Request == id && e.Kind == gate.EventDecision:
			all = append(all, map[bool]string{true: "approve ", false: "deny "}[e.Voices[0].Approve]+e.Voices[0].Subject)
		case e.Request == id && e.Kind == gate.EventSettled:
			all = append(all, e.State+": "+e.Why)
		case e.Kind == gate.EventNote:
			all = append(all, "note: "+e.Why)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func (w *world) wait(id string) <-chan gate.Decided {
	out := make(chan gate.Decided, 1)
	go func() {
		d, err := w.Wait(w.Context(), id)
		if err == nil {
			out <- d
		}
		close(out)
	}()
	return out
}
