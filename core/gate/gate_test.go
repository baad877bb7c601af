package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

type guard struct {
	name    string
	may     abi.May
	inputs  abi.Inputs
	open    abi.Verdict
	answer  func(*abi.Command) (*abi.Verdict, error)
	plan    *abi.MaskPlan
	calls   int
	openErr error
	batch   func(*abi.Batch) (*abi.Batch, error)
	agrees  func(*abi.Approval) (*abi.Verdict, error)
}

func (g *guard) Name() string       { return g.name }
func (g *guard) Digest() string     { return "d-" + g.name }
func (g *guard) May() abi.May       { return g.may }
func (g *guard) Inputs() abi.Inputs { return g.inputs }
func (g *guard) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &g.open, g.openErr
}
func (g *guard) Results() bool             { return g.plan != nil }
func (g *guard) SessionClose(*abi.Session) {}
func (g *guard) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	g.calls++
	return g.answer(c)
}
func (g *guard) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (g *guard) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return g.plan, nil
}

func (g *guard) ResultBatch(_ context.Context, _ *abi.Session, b *abi.Batch) (*abi.Batch, error) {
	if g.batch == nil {
		return nil, nil
	}
	return g.batch(b)
}
func (g *guard) Approvals() bool { return g.agrees != nil }
func (g *guard) Approval(_ context.Context, a *abi.Approval) (*abi.Verdict, error) {
	return g.agrees(a)
}

// sink is both log and recorder; it can fail.
type sink struct {
	mu      sync.Mutex
	log     []*Event
	durable []bool
	rec     []*Event
	fail    error
	wait    bool // TryAppend has no room
}

func (s *sink) Append(_ context.Context, b []byte, durable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	e, err := ReadEvent(b)
	s.log, s.durable = append(s.log, e), append(s.durable, durable)
	return err
}

func (s *sink) TryAppend(b []byte, _ time.Time) bool {
	if s.wait {
		return false
	}
	return s.Append(context.Background(), b, false) == nil
}

func (s *sink) Record(string) (Recording, error) { return (*tape)(s), nil }

type tape sink

func (t *tape) Append(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := ReadEvent(b)
	t.rec = append(t.rec, e)
	return err
}
func (t *tape) Head() int    { return 10 }
func (t *tape) Close() error { return nil }

type who struct{ grant Grant }

func (w who) Authenticate(context.Context, Login) (Grant, error) {
	if w.grant.Subject == "nobody" {
		return Grant{}, errors.New("unknown")
	}
	return w.grant, nil
}

func allow(*abi.Command) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow, ShowErrors: true}, nil
}

var all = abi.May{Allow: true, Review: true, Mask: true}

func newGate(t *testing.T, guards ...Guard) (*Gate, *sink) {
	t.Helper()
	for _, gd := range guards {
		if gd := gd.(*guard); gd.open.Decision == abi.Unset {
			gd.open.Decision = abi.Abstain
		}
	}
	s := &sink{}
	g := &Gate{Log: s, Recorder: s, Identity: who{Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}}}
	g.Swap(generation(guards...))
	return g, s
}

func generation(guards ...Guard) *Generation {
	return &Generation{Guards: guards, Tasks: map[string]*Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"shop"}}},
		Resources: map[string]*Resource{"shop": {Name: "shop", Protocol: "postgres"}}}
}

var login = Login{Protocol: "postgres", Task: "x", Resource: "shop", Secret: "hunter2", Address: "127.0.0.1:1"}

func open(t *testing.T, g *Gate) *Session {
	t.Helper()
	s, err := g.Open(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	return s
}

func command(text string, effect abi.Effect) *abi.Command {
	return &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "postgres", Text: text,
		Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "t"}, Effect: effect}}}}
}

// Invariant 1: what is let through has been written down before, and what
// cannot be written down is not let through.
func TestRecordedBeforeItGoes(t *testing.T) {
	g, log := newGate(t, &guard{name: "a", may: all, answer: allow})
	s := open(t, g)
	c := command("select 1", abi.EffectRead)
	ex, err := s.Submit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(log.log); n != 3 || log.log[1].Kind != EventText || log.log[2].Kind != EventCommand || log.log[2].Decision != "allow" || log.log[2].Guard != "a" {
		t.Fatalf("log has %d events", n)
	}
	_ = ex.Done(t.Context(), Outcome{State: Completed})
	if ex, ok := s.TrySubmit(c); !ok || len(log.log) != 5 || log.log[4].Kind != EventCommand {
		t.Fatalf("a repeat: %v, %d events", ok, len(log.log))
	} else {
		_ = ex.Done(t.Context(), Outcome{State: Completed})
	}
	log.fail = errors.New("disk full")
	if _, ok := s.TrySubmit(c); ok {
		t.Error("let through without a record")
	}
	if _, err := s.Submit(t.Context(), command("select 2", abi.EffectRead), nil); err == nil {
		t.Error("let through without a record")
	}
	if s.Context().Err() == nil {
		t.Error("the session goes on without a record")
	}
	log.fail = nil
	if _, err := s.Submit(t.Context(), command("select 3", abi.EffectRead), nil); err == nil {
		t.Error("a session that lost a record goes on")
	}
}

// The price list of sql.md: what lasts is on disk first.
func TestDurable(t *testing.T) {
	g, log := newGate(t, &guard{name: "a", may: all, answer: allow})
	s := open(t, g)
	submit := func(c *abi.Command) bool {
		t.Helper()
		ex, err := s.Submit(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = ex.Done(t.Context(), Outcome{State: Completed})
		return log.durable[len(log.durable)-2]
	}
	read, write := command("r", abi.EffectRead), command("w", abi.EffectWrite)
	unknown := command("u", abi.EffectUnknown)
	inside := command("i", abi.EffectWrite)
	inside.Open = true
	commit := command("commit", abi.EffectRead)
	commit.Statement.Operations[0] = abi.Operation{Verb: "commit", Kind: abi.KindTransaction, Effect: abi.EffectRead}
	commit.Open = true
	for i, step := range []struct {
		c    *abi.Command
		want bool
	}{{read, false}, {write, true}, {unknown, true}, {commit, false}, {inside, false}, {read, false}} {
		step.c.Open = step.c == inside || step.c == commit || i == 5
		if got := submit(step.c); got != step.want {
			t.Errorf("%d %s: durable %v", i, step.c.Statement.Text, got)
		}
	}
	if _, ok := s.TrySubmit(commit); ok {
		t.Error("TrySubmit took a COMMIT of writes, which has to wait for the disk")
	}
	if n := g.Counts(); n.Commands != 6 || n.Denied != 0 {
		t.Errorf("%+v", n)
	}
	if !submit(commit) || submit(commit) {
		t.Error("a COMMIT of writes is durable, one without is not")
	}
	if _, ok := s.TrySubmit(write); ok {
		t.Error("TrySubmit took a write, which has to wait for the disk")
	}
}

func TestCombined(t *testing.T) {
	say := func(d abi.Decision) func(*abi.Command) (*abi.Verdict, error) {
		return func(*abi.Command) (*abi.Verdict, error) {
			return &abi.Verdict{Decision: d, Reason: abi.Reason{Message: d.String()}}, nil
		}
	}
	fail := func(*abi.Command) (*abi.Verdict, error) { return nil, errors.New("trap") }
	protect := func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Protect: []abi.Protect{{Column: "ssn"}}}, nil
	}
	closed := abi.May{Review: true}
	for name, c := range map[string]struct {
		guards []Guard
		want   abi.Decision
		phase  abi.Phase
	}{
		"no guard":                     {nil, abi.Deny, abi.Execute},
		"WM14 allow without the grant": {[]Guard{&guard{name: "a", may: closed, answer: say(abi.Allow)}}, abi.Deny, abi.Execute},
		"WM02 a trap beside an allow":  {[]Guard{&guard{name: "a", may: all, answer: allow}, &guard{name: "b", may: all, answer: fail}}, abi.Deny, abi.Execute},
		"WM10 deny wins":               {[]Guard{&guard{name: "a", may: all, answer: allow}, &guard{name: "b", answer: say(abi.Deny)}}, abi.Deny, abi.Execute},
		"all abstain":                  {[]Guard{&guard{name: "a", may: all, answer: say(abi.Abstain)}}, abi.Deny, abi.Execute},
		"one allows":                   {[]Guard{&guard{name: "a", may: all, answer: allow}, &guard{name: "b", answer: say(abi.Abstain)}}, abi.Allow, abi.Execute},
		"held":                         {[]Guard{&guard{name: "a", may: all, answer: allow}, &guard{name: "b", may: closed, answer: say(abi.Review)}}, abi.Review, abi.Execute},
		"held at prepare":              {[]Guard{&guard{name: "a", may: all, answer: allow}, &guard{name: "b", may: closed, answer: say(abi.Review)}}, abi.Allow, abi.Prepare},
		"need":                         {[]Guard{&guard{name: "a", may: all, answer: say(abi.Need)}}, abi.Deny, abi.Execute},
		"protect without the grant":    {[]Guard{&guard{name: "a", may: abi.May{Allow: true, Review: true}, answer: protect}}, abi.Deny, abi.Execute},
		"unknown phase":                {[]Guard{&guard{name: "a", may: all, answer: allow}}, abi.Deny, 9},
	} {
		g, log := newGate(t, c.guards...)
		s := open(t, g)
		cmd := command("x", abi.EffectRead)
		cmd.Phase = c.phase
		ex, err := s.Submit(t.Context(), cmd, nil)
		var d *Denied
		if c.want == abi.Allow {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			_ = ex.Done(t.Context(), Outcome{})
		} else if !errors.As(err, &d) || d.Decision != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if last := log.log[2]; last.Kind != EventCommand || len(last.Verdicts) != len(c.guards) && c.phase == abi.Execute {
			t.Errorf("%s: the log has not every guard's verdict: %+v", name, last)
		}
	}
}

// Invariant 6, and: a verdict that was kept does not outlive its generation.
func TestReload(t *testing.T) {
	first := &guard{name: "a", may: all, answer: allow}
	g, _ := newGate(t, first)
	s := open(t, g)
	c := command("select 1", abi.EffectRead)
	ex, err := s.Submit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	var closed bool
	g.Current().Close = func() { closed = true }
	second := &guard{name: "b", may: all, open: abi.Verdict{Decision: abi.Abstain}, answer: func(*abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil }}
	g.Swap(generation(second))
	if closed {
		t.Error("closed under an open exchange")
	}
	if _, ok := s.TrySubmit(c); ok {
		t.Error("the old verdict went on")
	}
	if _, err := s.Submit(t.Context(), c, nil); err == nil || second.calls != 1 {
		t.Errorf("the new generation was not asked: %v", err)
	}
	_ = ex.Done(t.Context(), Outcome{State: Completed})
	_ = ex.Done(t.Context(), Outcome{State: Completed})
	if !closed {
		t.Error("the old generation was not closed")
	}
	gone := generation(first)
	delete(gone.Tasks, "x")
	g.Swap(gone)
	var ended *Ended
	if !errors.As(context.Cause(s.Context()), &ended) {
		t.Error("a session whose task is gone goes on")
	}
}

// What was seen before is judged under the session's own reference on a
// generation: it is not released before the last command is done, and no session
// that rests keeps it.
func TestSeenKeepsGeneration(t *testing.T) {
	for _, how := range []string{"reload", "close", "rests"} {
		g, _ := newGate(t, &guard{name: "a", may: all, answer: allow})
		s := open(t, g)
		c := command("select 1", abi.EffectRead)
		var open []*Exchange
		ex, err := s.Submit(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = ex.Done(t.Context(), Outcome{State: Completed})
		for range 3 {
			ex, ok := s.TrySubmit(c)
			if !ok {
				t.Fatal("not seen before")
			}
			open = append(open, ex)
		}
		closed := 0
		g.Current().Close = func() { closed++ }
		if how == "rests" {
			for _, ex := range open {
				_ = ex.Done(t.Context(), Outcome{State: Completed})
			}
			open = nil
		}
		if how == "close" {
			_ = s.Close(nil)
		}
		if closed != 0 {
			t.Fatalf("%s: closed before there is another", how)
		}
		g.Swap(generation(&guard{name: "b", may: all, open: abi.Verdict{Decision: abi.Abstain}, answer: allow}))
		for i, ex := range open {
			if closed != 0 {
				t.Fatalf("%s: closed with %d commands open", how, len(open)-i)
			}
			_ = ex.Done(t.Context(), Outcome{State: Completed})
			_ = ex.Done(t.Context(), Outcome{State: Completed})
		}
		if closed != 1 {
			t.Errorf("%s: closed %d times", how, closed)
		}
		if _, ok := s.TrySubmit(c); ok {
			t.Errorf("%s: a verdict of another generation, or of a session that is closed, went on", how)
		}
	}
}

// uncounted is a guard that several may ask at once.
type uncounted struct{ *guard }

func (uncounted) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) { return allow(c) }

// Sessions that go on while generations change leave none behind, and close none
// under a command.
func TestSeenWhileReloading(t *testing.T) {
	next := func() *Generation {
		return generation(uncounted{&guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Abstain}}})
	}
	g, _ := newGate(t)
	g.Log, g.Recorder = nothing{}, nothing{}
	var live sync.Map // generations that are not closed
	put := func(gen *Generation) {
		live.Store(gen, true)
		gen.Close = func() { live.Delete(gen) }
		g.Swap(gen)
	}
	put(next())
	var wg sync.WaitGroup
	var over atomic.Bool
	var seen atomic.Int64
	for range 3 {
		s := open(t, g)
		wg.Go(func() {
			c := command("select 1", abi.EffectRead)
			for !over.Load() {
				ex, ok := s.TrySubmit(c)
				if ok {
					seen.Add(1)
				} else if e, err := s.Submit(t.Context(), c, nil); err == nil {
					ex = e
				} else {
					t.Error(err)
					return
				}
				if _, ok := live.Load(ex.gen); !ok {
					t.Error("a command under a generation that is closed")
				}
				_ = ex.Done(t.Context(), Outcome{State: Completed})
			}
		})
	}
	for range 50 {
		put(next())
		time.Sleep(100 * time.Microsecond)
	}
	over.Store(true)
	wg.Wait()
	put(next())
	left := 0
	live.Range(func(any, any) bool { left++; return true })
	if left != 1 || seen.Load() == 0 {
		t.Errorf("%d generations are left, %d commands were seen before", left, seen.Load())
	}
}

// A new generation's SESSION_OPEN is asked in live sessions too.
func TestReloadAsksSessionOpen(t *testing.T) {
	g, _ := newGate(t, &guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Abstain}})
	s := open(t, g)
	g.Swap(generation(&guard{name: "b", may: all, answer: allow})) // its SESSION_OPEN says nothing, which is Deny
	if _, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil); err == nil || s.Context().Err() == nil {
		t.Errorf("went on: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ok := Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}
	for name, c := range map[string]struct {
		grant Grant
		login Login
	}{
		"nobody":               {Grant{Subject: "nobody"}, login},
		"zero grant":           {Grant{}, login},
		"expired":              {Grant{Subject: "ada", Groups: ok.Groups, Expires: time.Now().Add(-time.Second)}, login},
		"no group":             {Grant{Subject: "ada", Expires: ok.Expires}, login},
		"X16 other case":       {Grant{Subject: "ada", Groups: []string{"TASK:X"}, Expires: ok.Expires}, login},
		"X16 homoglyph":        {Grant{Subject: "ada", Groups: []string{"task:\u0445"}, Expires: ok.Expires}, login},
		"X16 marked":           {Grant{Subject: "ada", Groups: []string{"task:x\u0301", "task:x\u200b", "task:x "}, Expires: ok.Expires}, login},
		"X16 wide":             {Grant{Subject: "ada", Groups: []string{"task:\uff58"}, Expires: ok.Expires}, login},
		"X16 task in capitals": {ok, Login{Protocol: "postgres", Task: "X", Resource: "shop"}},
		"X16 task like it":     {ok, Login{Protocol: "postgres", Task: "\u0445", Resource: "shop"}},
		"X16 task with more":   {ok, Login{Protocol: "postgres", Task: "x\u200b", Resource: "shop"}},
		"X16 resource":         {ok, Login{Protocol: "postgres", Task: "x", Resource: "Shop"}},
		"ID22 no such task":    {ok, Login{Protocol: "postgres", Task: "y", Resource: "shop"}},
		"no such resource":     {ok, Login{Protocol: "postgres", Task: "x", Resource: "else"}},
		"of another protocol":  {ok, Login{Protocol: "ssh", Task: "x", Resource: "shop"}},
		"empty task and group": {Grant{Subject: "ada", Groups: []string{""}, Expires: ok.Expires}, Login{Protocol: "postgres", Resource: "shop"}},
	} {
		g, log := newGate(t, &guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Allow}})
		g.Identity = who{c.grant}
		if _, err := g.Open(t.Context(), c.login); err == nil {
			t.Errorf("%s: opened", name)
		} else if c.grant.Subject != "ada" && !errors.Is(err, ErrLogin) {
			t.Errorf("X20 %s: an unknown client is told %v", name, err)
		}
		if len(log.log) != 1 || log.log[0].Kind != EventRefused || strings.Contains(log.log[0].Why, "hunter2") {
			t.Errorf("%s: not recorded", name)
		}
	}
	if strings.Contains(login.String(), "hunter2") {
		t.Error("ID11: the secret is printed")
	}
}

// TestCounts: what is counted, and who is told.
func TestCounts(t *testing.T) {
	answers := map[string]abi.Decision{"allow": abi.Allow, "deny": abi.Deny, "review": abi.Review}
	g, _ := newGate(t, &guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: func(c *abi.Command) (*abi.Verdict, error) {
		d, ok := answers[c.Statement.Text]
		if !ok {
			return nil, errors.New("it crashed")
		}
		return &abi.Verdict{Decision: d}, nil
	}})
	var judged, refused []string
	g.Judged = func(guard string, d abi.Decision, _ time.Duration, err error) {
		judged = append(judged, fmt.Sprint(guard, " ", d, " ", err))
	}
	g.Refused = func(l Login, why error) { refused = append(refused, l.Task+" "+why.Error()) }
	s := open(t, g)
	for _, text := range []string{"allow", "deny", "review", "crash"} {
		_, _ = s.Submit(t.Context(), command(text, abi.EffectRead), nil)
	}
	_, _ = g.Open(t.Context(), Login{Protocol: "postgres", Task: "y", Resource: "shop"})
	want := Counts{Commands: 4, Denied: 2, Held: 1, Opened: 1, LoginsRefused: 1}
	if got := g.Counts(); got != want {
		t.Errorf("%+v", got)
	}
	_ = s.Close(nil)
	_ = s.Close(nil)
	if got := g.Counts(); got != want {
		t.Errorf("after the session: %+v", got)
	}
	if got := strings.Join(judged, ", "); got != "a allow <nil>, a deny <nil>, a review <nil>, a deny it crashed" {
		t.Error(got)
	}
	if len(refused) != 1 || !strings.Contains(refused[0], "y no such task") {
		t.Error(refused)
	}
}

// Invariant 9: the end of the right ends the session.
func TestRightEnds(t *testing.T) {
	g, _ := newGate(t, &guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Allow}})
	g.Identity = who{Grant{Subject: "ada", Groups: []string{"task:x", "dba"}, Expires: time.Now().Add(time.Hour), Login: "one"}}
	s := open(t, g)
	if g.Regroup("other", nil, nil)+g.Regroup("one", []string{"task:x"}, nil) != 0 || s.Context().Err() != nil {
		t.Error("ended by what does not concern it")
	}
	if g.Regroup("one", []string{"task:y", "dba"}, nil) != 1 {
		t.Error("ID09: goes on without its group")
	}
	<-s.Context().Done()
	if !strings.Contains(context.Cause(s.Context()).Error(), "no such task for you") {
		t.Error(context.Cause(s.Context()))
	}
	over := open(t, g)
	if g.Regroup("one", []string{"task:x", "dba"}, errors.New("logged out")) == 0 || !strings.Contains(context.Cause(over.Context()).Error(), "logged out") {
		t.Error("goes on after its login")
	}
	shown, _ := newGate(t, &guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Allow}, inputs: abi.InputSession})
	shown.Identity = g.Identity
	if open(t, shown); shown.Regroup("one", []string{"task:x"}, nil) != 1 {
		t.Error("a guard that is shown groups goes on with those of before")
	}
	if _, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil); err == nil {
		t.Error("went on")
	}

	// X15: the clock jumps over the end before the timer fires.
	now := time.Now()
	g.Now = func() time.Time { return now }
	g.Identity = who{Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: now.Add(time.Hour)}}
	s = open(t, g)
	now = now.Add(2 * time.Hour)
	if _, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil); err == nil {
		t.Error("X15: went on after its end")
	}
	if n := g.Kill("x", func(*Session) bool { return true }); n == 0 {
		t.Error("no session to kill")
	}
	// X15: the clock is set back: what was left is what is left.
	now = time.Now()
	g.Identity = who{Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: now.Add(50 * time.Millisecond)}}
	s = open(t, g)
	now = now.Add(-time.Hour)
	<-s.Context().Done()
	if _, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil); err == nil {
		t.Error("X15: a clock that is set back lengthens a session")
	}
}

func TestResultLimits(t *testing.T) {
	g, log := newGate(t, &guard{name: "a", may: all, open: abi.Verdict{Decision: abi.Allow}, answer: func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Terms: abi.Terms{RowsReturned: 3}}, nil
	}})
	s := open(t, g)
	ex, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ex.Verdict().ShowErrors {
		t.Error("errors are shown though the guard did not say so")
	}
	if err := ex.Result(t.Context(), &abi.Result{Frames: []byte("0123456"), Rows: 3}); err != nil {
		t.Error(err)
	}
	var d *Denied
	if err := ex.Result(t.Context(), &abi.Result{Frames: []byte("789abcdef"), Rows: 1}); !errors.As(err, &d) {
		t.Errorf("a fourth row passed: %v", err)
	}
	_ = ex.Done(t.Context(), Outcome{State: Failed, Code: "42501", Settles: RolledBack, First: 1, Last: 1})
	last := log.rec[len(log.rec)-1]
	if last.Kind != EventDone || last.Rows != 4 || last.Settles != "rolled back" || last.Last != 1 {
		t.Errorf("%+v", last)
	}
	ex, _ = s.Submit(t.Context(), command("y", abi.EffectRead), nil)
	_ = ex.Result(t.Context(), &abi.Result{Frames: []byte("0123456789abc"), Rows: 1})
	if last := log.rec[len(log.rec)-1]; string(last.Frame) != "0123456789" {
		t.Errorf("the head is %q", last.Frame)
	}
	_ = ex.Done(t.Context(), Outcome{State: Completed})
}

func TestResultSchemaCannotBeIgnored(t *testing.T) {
	g, _ := newGate(t, &guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Allow}, plan: &abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskNull}, Default: abi.MaskPass}})
	s := open(t, g)
	c := command("x", abi.EffectRead)
	ex, err := s.Submit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ex.Schema(t.Context(), c, &abi.ResultSchema{Columns: make([]abi.ResultColumn, 1)}); err != nil {
		t.Fatal(err)
	}
	if ex.Result(t.Context(), &abi.Result{Frames: []byte("x"), Rows: 1}) == nil {
		t.Error("a column that a guard wants masked passed in the clear")
	}
	_ = ex.Done(t.Context(), Outcome{})
}

func BenchmarkTrySubmit(b *testing.B) {
	g := &Gate{Log: nothing{}, Recorder: nothing{}, Identity: who{Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}}}
	g.Swap(generation(&guard{name: "a", may: all, answer: allow, open: abi.Verdict{Decision: abi.Allow}}))
	s, err := g.Open(b.Context(), login)
	if err != nil {
		b.Fatal(err)
	}
	c := command("select 1", abi.EffectRead)
	ex, err := s.Submit(b.Context(), c, nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = ex.Done(b.Context(), Outcome{})
	b.ReportAllocs()
	for b.Loop() {
		ex, ok := s.TrySubmit(c)
		if !ok {
			b.Fatal("not taken")
		}
		_ = ex.Done(b.Context(), Outcome{State: Completed, Tag: "SELECT 1"})
	}
}

type nothing struct{}

func (nothing) Append(context.Context, []byte, bool) error { return nil }
func (nothing) TryAppend([]byte, time.Time) bool           { return true }
func (nothing) Record(string) (Recording, error)           { return silent{}, nil }

type silent struct{}

func (silent) Append([]byte) error { return nil }
func (silent) Head() int           { return 0 }
func (silent) Close() error        { return nil }
