package postgres

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// crowd are people who decide when a test tells them to.
type crowd struct {
	mu     sync.Mutex
	all    map[string]*asking
	waiter chan *gate.Request // each request, as it is asked
}

type asking struct {
	request *gate.Request
	decided chan gate.Decided
	state   gate.RequestState
	why     string
}

func newCrowd() *crowd {
	return &crowd{all: map[string]*asking{}, waiter: make(chan *gate.Request, 1000)}
}

func (p *crowd) of(id string) *asking {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[id]
}

func (p *crowd) Ask(_ context.Context, r *gate.Request) error {
	p.mu.Lock()
	p.all[r.ID] = &asking{request: r, decided: make(chan gate.Decided, 1), state: gate.Waiting}
	p.mu.Unlock()
	p.waiter <- r
	return nil
}

func (p *crowd) Wait(ctx context.Context, id string) (gate.Decided, error) {
	select {
	case d := <-p.of(id).decided:
		return d, nil
	case <-ctx.Done():
		return gate.Decided{}, ctx.Err()
	}
}

func (p *crowd) Spend(_ context.Context, id string) (gate.Decided, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[id].state != gate.Waiting {
		return gate.Decided{}, errors.New("it is used, or withdrawn")
	}
	p.all[id].state = gate.Used
	return gate.Decided{State: gate.Used, Voices: []abi.Voice{{Subject: "bob", Approve: true}}}, nil
}

func (p *crowd) Withdraw(_ context.Context, id, why string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[id].state, p.all[id].why = gate.Withdrawn, why
	return nil
}

// next gives the request that is asked next.
func (p *crowd) next(t testing.TB) *gate.Request {
	t.Helper()
	select {
	case r := <-p.waiter:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nobody is asked")
	}
	return nil
}

func (p *crowd) decide(r *gate.Request, d gate.Decided) { p.of(r.ID).decided <- d }
func (p *crowd) approve(r *gate.Request)                { p.decide(r, gate.Decided{State: gate.Approved}) }

// settled gives how a request stands, once it no longer waits.
func (p *crowd) settled(t testing.TB, r *gate.Request) (gate.RequestState, string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		state, why := p.all[r.ID].state, p.all[r.ID].why
		p.mu.Unlock()
		if state != gate.Waiting {
			return state, why
		}
	}
	t.Fatal("the request goes on waiting")
	return "", ""
}

// holds is a guard under which deletes have to be approved, and so has COPY.
type holds struct {
	rules
	terms  abi.Terms
	within uint32
	holds  func(*abi.Command) bool
}

func (h *holds) May() abi.May { return abi.May{Allow: true, Review: true} }
func (h *holds) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	v := &abi.Verdict{Decision: abi.Allow, Terms: h.terms, ShowErrors: h.errors}
	if h.holds(c) {
		v.Decision = abi.Review
		v.Review = abi.Requirement{Groups: []string{"dba"}, People: 1, Within: h.within, Summary: "removes orders"}
	}
	return v, nil
}

func deletes(c *abi.Command) bool {
	for _, o := range c.Statement.Operations {
		if o.Verb == "delete" || o.Attrs&abi.CopyIn != 0 {
			return true
		}
	}
	return false
}

// review serves with people who have to approve what deletes.
func review(t testing.TB, h *holds) (*gateway, *crowd) {
	t.Helper()
	if h.holds == nil {
		h.holds = deletes
	}
	g := serve(t, h)
	p := newCrowd()
	g.Approver = p
	return g, p
}

// want holds what comes up to so many ReadyForQuery against kinds.
func want(t *testing.T, nc net.Conn, ready int, want string) {
	t.Helper()
	if got := kinds(t, nc, ready); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func send(t *testing.T, nc net.Conn, b ...[]byte) {
	t.Helper()
	if _, err := nc.Write(join(b...)); err != nil {
		t.Fatal(err)
	}
}
