package gate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// people is an Approver that decides as it is told.
type people struct {
	mu      sync.Mutex
	asked   []*Request
	decided chan Decided
	spent   int
	ended   string
	fail    string // the step that fails: ask, wait, spend, withdraw
	log     *sink
	inLog   bool // the request was in the log when it was asked
}

func (p *people) err(step string) error {
	if p.fail == step {
		return errors.New("the store is gone")
	}
	return nil
}

func (p *people) Ask(_ context.Context, r *Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r)
	p.log.mu.Lock()
	last := len(p.log.log) - 1
	p.inLog = p.log.log[last].Kind == EventRequest && p.log.durable[last]
	p.log.mu.Unlock()
	return p.err("ask")
}

func (p *people) Wait(ctx context.Context, _ string) (Decided, error) {
	if err := p.err("wait"); err != nil {
		return Decided{}, err
	}
	select {
	case d := <-p.decided:
		return d, nil
	case <-ctx.Done():
		return Decided{}, ctx.Err()
	}
}

func (p *people) Spend(context.Context, string) (Decided, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent++
	return Decided{State: Used, Voices: []abi.Voice{{Subject: "grace", Approve: true, Reason: "fine"}}}, p.err("spend")
}

func (p *people) Withdraw(_ context.Context, _, why string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = why
	return p.err("withdraw")
}

func review(*abi.Command) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Review, Review: abi.Requirement{Groups: []string{"dba"}, People: 1, Within: 60}}, nil
}

func holding(t *testing.T, guards ...Guard) (*Gate, *Session, *people, *sink) {
	t.Helper()
	if guards == nil {
		guards = []Guard{&guard{name: "a", may: all, answer: review}}
	}
	g, log := newGate(t, guards...)
	p := &people{decided: make(chan Decided, 1), log: log}
	g.Approver = p
	return g, open(t, g), p, log
}

func waits(Pending) error { return nil }

func kinds(log *sink) (list []string) {
	for _, e := range log.log {
		list = append(list, e.Name)
	}
	return list
}

// TestApproved follows a command that people approve: asked when it is on disk,
// released when they have, bound, used once, and all of it in the log.
func TestApproved(t *testing.T) {
	_, s, p, log := holding(t)
	p.decided <- Decided{State: Approved}
	c := command("delete", abi.EffectWrite)
	c.Params = []abi.Param{{Value: []byte("7")}}
	c.Rows = func() abi.Rows { return abi.Rows{Estimated: 5, Counted: 3} }
	var told []Pending
	ex, err := s.Submit(t.Context(), c, func(p Pending) error { told = append(told, p); return nil })
	if err != nil {
		t.Fatal(err)
	}
	r := p.asked[0]
	if !p.inLog || p.spent != 1 || len(told) != 1 || told[0].ID != r.ID || len(r.Code) != 4 || r.Needs[0].Groups[0] != "dba" || r.Params[0] != `"7"` || r.Text != "delete" || r.Until.Sub(r.Since) != time.Minute {
		t.Errorf("%+v, told %+v, in the log first: %v", r, told, p.inLog)
	}
	if n, bound := ex.RowsWritten(); !bound || n != 3 {
		t.Errorf("it may write %d rows, bound %v", n, bound)
	}
	last := len(log.log) - 1
	if e := log.log[last]; e.Kind != EventCommand || e.Request != r.ID || len(e.Voices) != 1 || e.Voices[0].Subject != "grace" || e.Binding == "" || !log.durable[last] {
		t.Errorf("the log has %+v", e)
	}
	_ = ex.Done(t.Context(), Outcome{State: RolledBack})
	if e := log.log[len(log.log)-1]; e.Request != r.ID || e.State != "rolled back" {
		t.Errorf("how it ended is not with the request: %+v", e)
	}
	if again, ok := s.TrySubmit(c); ok || again != nil {
		t.Error("an approval was used twice")
	}
}

// TestHeldNeverRuns goes through everything that ends a held command, failures
// at every step among them: it does not run, the client is told, and the log says why.
func TestHeldNeverRuns(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(g *Gate, s *Session, p *people, stop context.CancelCauseFunc)
		hold func(Pending) error
		told string
		log  string // the state of the request in the log
	}{
		"denied": {func(_ *Gate, _ *Session, p *people, _ context.CancelCauseFunc) {
			p.decided <- Decided{State: Refused, Reason: "not today", Voices: []abi.Voice{{Subject: "grace"}}}
		}, waits, "denied by grace: not today", "denied"},
		"expired":   {func(_ *Gate, _ *Session, p *people, _ context.CancelCauseFunc) { p.decided <- Decided{State: Expired} }, waits, "nobody approved it in time", "expired"},
		"cancelled": {func(_ *Gate, _ *Session, _ *people, stop context.CancelCauseFunc) { stop(ErrCancelled) }, waits, "cancelled by the client", "withdrawn"},
		"killed": {func(_ *Gate, s *Session, _ *people, _ context.CancelCauseFunc) {
			s.End(&Ended{Reason: "ended by an operator"})
		}, waits, "ended by an operator", "withdrawn"},
		"the client cannot be told": {func(*Gate, *Session, *people, context.CancelCauseFunc) {}, func(Pending) error { return errors.New("the client is gone") }, "the client is gone", "withdrawn"},
		"cannot be asked":           {func(_ *Gate, _ *Session, p *people, _ context.CancelCauseFunc) { p.fail = "ask" }, waits, "cannot be asked now", "withdrawn"},
		"cannot be read":            {func(_ *Gate, _ *Session, p *people, _ context.CancelCauseFunc) { p.fail = "wait" }, waits, "the approval cannot be read", "withdrawn"},
		"cannot be used": {func(_ *Gate, _ *Session, p *people, _ context.CancelCauseFunc) {
			p.fail = "spend"
			p.decided <- Decided{State: Approved}
		}, waits, "the approval cannot be used", "withdrawn"},
		"a lost right": {func(g *Gate, s *Session, p *people, _ context.CancelCauseFunc) {
			s.grant.Login = "l"
			g.Refresh = func(context.Context, string) error { g.Regroup("l", nil, nil); return nil }
			p.decided <- Decided{State: Approved}
		}, waits, "the right to task", "withdrawn"},
		"a right that nobody knows": {func(g *Gate, s *Session, p *people, _ context.CancelCauseFunc) {
			s.grant.Login = "l"
			g.Refresh = func(context.Context, string) error { return errors.New("the provider is down") }
			p.decided <- Decided{State: Approved}
		}, waits, "cannot be found out", "withdrawn"},
		"leaves as it is approved": {func(g *Gate, s *Session, p *people, stop context.CancelCauseFunc) {
			s.grant.Login = "l"
			g.Refresh = func(context.Context, string) error { stop(ErrCancelled); return nil }
			p.decided <- Decided{State: Approved}
		}, waits, "cancelled by the client", "withdrawn"},
		"another policy": {func(g *Gate, _ *Session, p *people, _ context.CancelCauseFunc) {
			g.Swap(generation(&guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: func(*abi.Command) (*abi.Verdict, error) {
				v, _ := review(nil)
				v.Review.People = 2
				return v, nil
			}}))
		}, waits, "the policy has changed", "withdrawn"},
		"a policy that denies": {func(g *Gate, _ *Session, p *people, _ context.CancelCauseFunc) {
			g.Swap(generation(&guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: func(*abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil }}))
			p.decided <- Decided{State: Approved}
		}, waits, "the policy has changed", "withdrawn"},
	} {
		g, s, p, log := holding(t)
		ctx, stop := context.WithCancelCause(t.Context())
		first := name == "cannot be asked"
		if first {
			c.do(g, s, p, stop)
		}
		_, err := s.Submit(ctx, command("delete", abi.EffectWrite), func(x Pending) error {
			if !first {
				first = true
				c.do(g, s, p, stop)
			}
			return c.hold(x)
		})
		stop(nil)
		if err == nil || !strings.Contains(err.Error(), c.told) {
			t.Errorf("%s: %v", name, err)
		}
		var state []string
		for _, e := range log.log {
			switch {
			case e.Kind == EventSettled:
				state = append(state, e.State)
			case e.Kind == EventCommand && e.Decision != "deny":
				t.Errorf("%s: it ran: %+v", name, e)
			}
		}
		if len(state) != 1 || state[0] != c.log {
			t.Errorf("%s: the log has %v: %v", name, state, kinds(log))
		}
		if c.log == "withdrawn" && p.ended == "" {
			t.Errorf("%s: nobody told the approver", name)
		}
	}
}

// TestHeldUnderTheSamePolicy holds that a reload to an equal policy lets a held
// command go on.
func TestHeldUnderTheSamePolicy(t *testing.T) {
	g, s, p, _ := holding(t)
	ex, err := s.Submit(t.Context(), command("delete", abi.EffectWrite), func(Pending) error {
		g.Swap(generation(&guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: review}))
		p.decided <- Decided{State: Approved}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if ex.Generation() != g.Current().Number {
		t.Errorf("it is of generation %d", ex.Generation())
	}
	if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
		t.Error(err)
	}
}

// TestAP13OpenTransactions holds that a hold in a transaction that has written
// is refused, unless the rule keeps it; the card then has what was written.
func TestAP13OpenTransactions(t *testing.T) {
	for _, keep := range []string{"", "keep"} {
		answer := func(c *abi.Command) (*abi.Verdict, error) {
			if c.Statement.Text == "write" {
				return &abi.Verdict{Decision: abi.Allow}, nil
			}
			v, err := review(c)
			v.Terms.OnHold = keep
			return v, err
		}
		_, s, p, _ := holding(t, &guard{name: "a", may: all, answer: answer})
		w := command("write", abi.EffectWrite)
		w.Open = true
		ex, err := s.Submit(t.Context(), w, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = ex.Done(t.Context(), Outcome{State: Open})
		p.decided <- Decided{State: Approved}
		c := command("delete", abi.EffectWrite)
		c.Open = true
		_, err = s.Submit(t.Context(), c, waits)
		if keep == "" && (err == nil || !strings.Contains(err.Error(), "the open transaction has written") || len(p.asked) != 0) {
			t.Errorf("refuse: %v", err)
		}
		if keep == "keep" && (err != nil || len(p.asked[0].Earlier) != 1 || p.asked[0].Earlier[0] != "write") {
			t.Errorf("keep: %v %+v", err, p.asked)
		}
	}
}

// TestAP12EarlierIsWhole holds that a card which cannot have all that an open
// transaction has written is never made.
func TestAP12EarlierIsWhole(t *testing.T) {
	_, s, p, _ := holding(t, &guard{name: "a", may: all, answer: func(c *abi.Command) (*abi.Verdict, error) {
		if c.Statement.Text == "write" {
			return &abi.Verdict{Decision: abi.Allow}, nil
		}
		v, err := review(c)
		v.Terms.OnHold = "keep"
		return v, err
	}})
	submit := func(text string) error {
		c := command(text, abi.EffectWrite)
		c.Open = true
		ex, err := s.Submit(t.Context(), c, waits)
		if err == nil {
			err = ex.Done(t.Context(), Outcome{State: Open})
		}
		return err
	}
	for range maxEarlier {
		if err := submit("write"); err != nil {
			t.Fatal(err)
		}
	}
	p.decided <- Decided{State: Approved}
	if err := submit("delete"); err != nil || len(p.asked) != 1 || len(p.asked[0].Earlier) != maxEarlier { // and is a write itself
		t.Fatalf("%v %d", err, len(p.asked))
	}
	if err := submit("delete"); err == nil || !strings.Contains(err.Error(), "cannot be shown") || len(p.asked) != 1 {
		t.Errorf("%v %d", err, len(p.asked))
	}
}

// TestAP16AskedInVain holds that who asks again and again in vain counts as one
// who is refused: each request is in the log.
func TestAP16AskedInVain(t *testing.T) {
	_, s, p, _ := holding(t)
	for i := range maxDenials + 1 {
		if err := s.Context().Err(); err != nil {
			t.Fatalf("ended by request %d: %v", i, context.Cause(s.Context()))
		}
		p.decided <- Decided{State: Refused}
		if _, err := s.Submit(t.Context(), command("delete", abi.EffectWrite), waits); err == nil {
			t.Fatal("it ran")
		}
	}
	if err := context.Cause(s.Context()); err == nil || !strings.Contains(err.Error(), "too many refused commands") {
		t.Errorf("%v", err)
	}
}

// TestAP24HowItEnded holds that whoever keeps requests is told how a held
// command ended, and again when its transaction did.
func TestAP24HowItEnded(t *testing.T) {
	g, s, p, _ := holding(t)
	var told []string
	g.Ran = func(request string, command uint64, how State) {
		if request != p.asked[command-1].ID {
			t.Errorf("%s is told of command %d", request, command)
		}
		told = append(told, how.String())
	}
	run := func(o Outcome) {
		t.Helper()
		p.decided <- Decided{State: Approved}
		c := command("delete", abi.EffectWrite)
		ex, err := s.Submit(t.Context(), c, waits)
		if err != nil {
			t.Fatal(err)
		}
		if err := ex.Done(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
	run(Outcome{State: Open})
	run(Outcome{State: Failed})
	run(Outcome{State: Completed, Settles: Committed, First: 2, Last: 3}) // not the first
	run(Outcome{State: Completed, Settles: RolledBack, First: 1, Last: 1})
	run(Outcome{State: Open})
	if err := s.Close(nil); err != nil {
		t.Error(err)
	}
	if got := strings.Join(told, ", "); got != "pending, failed, completed, completed, rolled back, pending, unknown" {
		t.Error(got)
	}
}

// TestAP25Guards holds that each guard's review is a requirement of its own and
// that its APPROVAL can end a request, not loosen it.
func TestAP25Guards(t *testing.T) {
	agree := &abi.Verdict{Decision: abi.Allow}
	second := &guard{name: "b", may: all, agrees: func(a *abi.Approval) (*abi.Verdict, error) { return agree, nil }, answer: func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Review, Review: abi.Requirement{Groups: []string{"security"}, People: 2, Within: 30}, Cookie: []byte("c")}, nil
	}}
	_, s, p, _ := holding(t, &guard{name: "a", may: all, answer: review}, second)
	p.decided <- Decided{State: Approved}
	ex, err := s.Submit(t.Context(), command("delete", abi.EffectWrite), waits)
	if err != nil || len(p.asked[0].Needs) != 2 || p.asked[0].Until.Sub(p.asked[0].Since) != 30*time.Second {
		t.Fatalf("%v %+v", err, p.asked)
	}
	_ = ex.Done(t.Context(), Outcome{})
	for _, d := range []abi.Decision{abi.Deny, abi.Review, abi.Unset, 99} {
		agree = &abi.Verdict{Decision: d}
		p.decided <- Decided{State: Approved}
		if _, err := s.Submit(t.Context(), command("delete", abi.EffectWrite), waits); err == nil {
			t.Errorf("a guard's %v let it run", d)
		}
	}
}

// TestAP05Binding holds that whatever an approval depends on is in its binding.
func TestAP05Binding(t *testing.T) {
	_, s, _, _ := holding(t)
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(c *abi.Command){
		"as it is":     func(*abi.Command) {},
		"text":         func(c *abi.Command) { c.Statement.Text = "delete " },
		"canonical":    func(c *abi.Command) { c.Statement.Canonical = "x" },
		"parameter":    func(c *abi.Command) { c.Params[0].Value = []byte("2") },
		"NULL":         func(c *abi.Command) { c.Params[0].Null = true },
		"its format":   func(c *abi.Command) { c.Params[0].Binary = true },
		"its type":     func(c *abi.Command) { c.Params[0].Type = 25 },
		"one more":     func(c *abi.Command) { c.Params = append(c.Params, abi.Param{}) },
		"context":      func(c *abi.Command) { c.Bound = "search_path evil" },
		"transaction":  func(c *abi.Command) { c.Open = true },
		"payload":      func(c *abi.Command) { c.Input = abi.Input{Kind: abi.InputSpooled, Size: 1, Digest: []byte("d")} },
		"its size":     func(c *abi.Command) { c.Input = abi.Input{Kind: abi.InputSpooled, Size: 2, Digest: []byte("d")} },
		"its digest":   func(c *abi.Command) { c.Input = abi.Input{Kind: abi.InputSpooled, Size: 1, Digest: []byte("e")} },
		"another user": func(*abi.Command) { s.abi.Subject = "eve" },
	} {
		c := command("delete", abi.EffectWrite)
		c.Params = []abi.Param{{Value: []byte("1")}}
		before := *s.abi
		change(c)
		sum := s.binding(c)
		*s.abi = before
		if seen[sum] != "" {
			t.Errorf("%s is bound as %s", name, seen[sum])
		}
		seen[sum] = name
	}
}

// TestReloadEndsWhatRuns holds what runs against a new policy: an equal one
// lets it run on, a narrower one ends its session, and what rests is left to
// its next execution.
func TestReloadEndsWhatRuns(t *testing.T) {
	deny := func(*abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil }
	limited := func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, ShowErrors: true, Terms: abi.Terms{RowsReturned: 5}}, nil
	}
	for name, c := range map[string]struct {
		next  func(*abi.Command) (*abi.Verdict, error)
		rests bool
		ends  bool
	}{
		"equal":          {allow, false, false},
		"denied":         {deny, false, true},
		"a limit":        {limited, false, true},
		"a mask":         {says(abi.MaskNull, ""), false, true},
		"denied at rest": {deny, true, false},
	} {
		g, _ := newGate(t, &guard{name: "a", may: all, answer: allow})
		s := open(t, g)
		ex, err := s.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Text: "copy", Operations: []abi.Operation{read()}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.rests {
			ex.Rest()
		}
		g.Swap(generation(&guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: c.next}))
		if ended := s.Context().Err() != nil; ended != c.ends {
			t.Errorf("%s: ended is %v", name, ended)
		}
		_ = ex.Done(t.Context(), Outcome{})
	}
}

// TestHeldPrepares holds that a command can refuse its own hold before anybody
// is asked, which is written down, and can say where it runs.
func TestHeldPrepares(t *testing.T) {
	_, s, p, log := holding(t)
	c := command("delete", abi.EffectWrite)
	c.Held = func(*abi.Verdict) error { return denied("gate.aborted", "not here", "") }
	if _, err := s.Submit(t.Context(), c, waits); err == nil || err.Error() != "not here" || len(p.asked) != 0 {
		t.Errorf("%v, asked %d", err, len(p.asked))
	}
	if list := kinds(log); list[len(list)-1] != EventCommand.String() {
		t.Errorf("it is not written down: %v", list)
	}
	c.Held = func(*abi.Verdict) error { c.Open = true; return nil }
	p.decided <- Decided{State: Approved}
	if _, err := s.Submit(t.Context(), c, waits); err != nil || !p.asked[0].Open {
		t.Errorf("%v", err)
	}
}
