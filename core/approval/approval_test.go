package approval_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
)

// Nobody decides what they ask for, by whatever name and from wherever.
func TestAP01AP23OneselfIsNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.Directory = func(issuer string) string {
		if issuer == "https://partner" {
			return "partner"
		}
		return ""
	}
	w.ask(request("own", 1, "dba"))
	for _, who := range []approval.Person{
		{Issuer: "https://idp", Subject: "ada"}, {Issuer: "https://idp", Subject: "ADA"}, {Issuer: "https://idp", Subject: "Ａｄａ"}, {Issuer: "https://idp", Subject: "a\u200bda"},
		{Issuer: "https://idp", Subject: "ad\ufe0fa"}, {Issuer: "https://other", Subject: "ada"}, {Issuer: "https://IDP", Subject: "ada"}, {Issuer: "https://idp", Subject: "ada", All: true},
	} {
		for _, approve := range []bool{true, false} {
			who.Groups = []string{"dba"}
			if k := w.kind(w.Decide(t.Context(), "own", who, approve, "mine", "k7qa")); k != approval.Self {
				t.Errorf("%+v: %q", who, k)
			}
		}
	}
	if got := w.logged("own"); len(got) != 0 {
		t.Errorf("a decision that does not count is in the log: %q", got)
	}
	w.state("own", gate.Waiting)
	// An issuer of other people has an ada of its own.
	if _, err := w.Decide(t.Context(), "own", approval.Person{Issuer: "https://partner", Subject: "ada", Groups: []string{"dba"}}, true, "another", "k7qa"); err != nil {
		t.Error(err)
	}
	w.state("own", gate.Approved)
}

func TestAP02CountsPeople(t *testing.T) {
	w := newWorld(t)
	w.ask(request("two", 2, "dba", "lead"))
	if k := w.say("two", "eve", true); k != "" { // of both groups
		t.Fatal(k)
	}
	for _, again := range []string{"eve", "Eve", "ｅｖｅ"} {
		who := approval.Person{Issuer: "https://idp", Subject: again, Groups: []string{"dba", "lead"}}
		for _, approve := range []bool{true, false} {
			if k := w.kind(w.Decide(t.Context(), "two", who, approve, "again", "k7qa")); k != approval.Twice {
				t.Errorf("%s: %q", again, k)
			}
		}
	}
	if c := w.state("two", gate.Waiting); len(c.Voices) != 1 {
		t.Errorf("%+v", c.Voices)
	}
	if k := w.say("two", "tom", true); k != approval.Unknown { // in none of the groups: it is nothing to him
		t.Error(k)
	}
	if _, err := w.Decide(t.Context(), "two", approval.Person{Issuer: "https://idp", Subject: "max", Groups: []string{"staff", ""}, All: true}, true, "x", "k7qa"); w.kind(nil, err) != approval.Group {
		t.Errorf("the role decides: %v", err)
	}
	c, err := w.Decide(t.Context(), "two", w.person("bob"), true, "looks right", "k7qa")
	if err != nil || c.State != gate.Approved || c.Needs[0].Have != 2 || !c.Needs[0].Met || len(c.Voices) != 2 || c.Voices[1].Reason != "looks right" {
		t.Fatalf("%+v %v", c, err)
	}
	if k := w.say("two", "joe", true); k != approval.Over {
		t.Error(k)
	}
	d := w.spend("two")
	if d.State != gate.Used || len(d.Voices) != 2 || d.Voices[0].Subject != "eve" || d.Voices[1].Subject != "bob" {
		t.Errorf("%+v", d)
	}
	if got := w.logged("two"); !slices.Equal(got, []string{"approve eve", "approve bob"}) {
		t.Errorf("%q", got)
	}
}

// Every guard's requirement has to be met, by people of its own groups.
func TestAP25TwoRequirements(t *testing.T) {
	w := newWorld(t)
	r := request("both", 1, "dba")
	r.Needs = append(r.Needs, gate.Need{Guard: "freeze", Requirement: abi.Requirement{Groups: []string{"lead"}, People: 1}})
	w.ask(r)
	if w.say("both", "bob", true) != "" {
		t.Fatal()
	}
	if c := w.state("both", gate.Waiting); len(c.Voices) != 1 {
		t.Error(c.Voices)
	}
	if w.say("both", "joe", true) != "" {
		t.Fatal()
	}
	w.state("both", gate.Approved)
	// One person of both groups counts once towards each.
	r = request("one", 1, "dba")
	r.Needs = append(r.Needs, gate.Need{Guard: "freeze", Requirement: abi.Requirement{Groups: []string{"lead"}}})
	w.ask(r)
	if w.say("one", "eve", true) != "" {
		t.Fatal()
	}
	w.state("one", gate.Approved)
	// A requirement of no group is met by nobody, and neither is none at all.
	w.ask(request("nobody", 1))
	w.ask(request("empty", 1, ""))
	none := request("none", 1)
	none.Needs = nil
	w.ask(none)
	for _, id := range []string{"nobody", "empty", "none"} {
		if k := w.kind(w.Decide(t.Context(), id, approval.Person{Issuer: "https://idp", Subject: "eve", Groups: []string{"dba", ""}, All: true}, true, "x", "k7qa")); k != approval.Group {
			t.Errorf("%s: %q", id, k)
		}
	}
	// One person's no ends it, whatever others have said.
	r = request("no", 1, "dba")
	r.Needs = append(r.Needs, gate.Need{Guard: "freeze", Requirement: abi.Requirement{Groups: []string{"lead"}, People: 1}})
	w.ask(r)
	waits := w.wait("no")
	if w.say("no", "bob", true) != "" || w.say("no", "joe", false) != "" {
		t.Fatal()
	}
	if d := <-waits; d.State != gate.Refused || d.Reason != "as agreed" || len(d.Voices) != 2 || d.Voices[1].Approve {
		t.Errorf("%+v", d)
	}
}

func TestAP03WhoMayNoLonger(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"the group is gone":   func(w *world) { w.groups["bob"] = []string{"staff"} },
		"nobody can say":      func(w *world) { delete(w.groups, "bob") },
		"nobody can be asked": func(w *world) { w.Groups = nil },
		"it is the requester": func(w *world) { // told by a reload that both speak of the same people
			w.Directory = func(string) string { return "" }
		},
		"both are one person": func(w *world) { w.Directory = func(string) string { return "" } },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Directory = func(issuer string) string { return issuer }
			people, second := uint32(2), approval.Person{Issuer: "https://idp", Subject: "eve", Groups: []string{"dba"}}
			switch name {
			case "it is the requester":
				second = approval.Person{Issuer: "https://two", Subject: "Ada", Groups: []string{"dba"}}
				w.groups["Ada"] = []string{"dba"}
			case "both are one person":
				second = approval.Person{Issuer: "https://two", Subject: "bob", Groups: []string{"dba"}}
			}
			w.ask(request("lost", people, "dba"))
			if k := w.say("lost", "bob", true); k != "" {
				t.Fatal(k)
			}
			if _, err := w.Decide(t.Context(), "lost", second, true, "yes", "k7qa"); err != nil {
				t.Fatal(err)
			}
			w.state("lost", gate.Approved)
			lose(w)
			if d := w.spend("lost"); d.State == gate.Used || d.State == gate.Approved || d.Reason == "" {
				t.Errorf("%+v", d)
			}
			w.state("lost", gate.Withdrawn)
		})
	}
	// More than enough had approved: those who are left are enough.
	w := newWorld(t)
	r := request("more", 1, "dba")
	r.Needs = append(r.Needs, gate.Need{Guard: "freeze", Requirement: abi.Requirement{Groups: []string{"lead"}}})
	w.ask(r)
	if w.say("more", "bob", true) != "" || w.say("more", "eve", true) != "" {
		t.Fatal()
	}
	w.groups["bob"] = nil
	if d := w.spend("more"); d.State != gate.Used || len(d.Voices) != 1 || d.Voices[0].Subject != "eve" {
		t.Errorf("%+v", d)
	}
}

func TestAP06Once(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Spend(t.Context(), "none"); !errors.Is(err, approval.ErrUnknown) {
		t.Error(err)
	}
	w.ask(request("once", 1, "dba"))
	if d := w.spend("once"); d.State != gate.Waiting {
		t.Errorf("nobody has approved it: %+v", d)
	}
	if w.say("once", "bob", true) != "" {
		t.Fatal()
	}
	if err := w.Ask(t.Context(), request("once", 1, "dba")); err == nil {
		t.Error("the same request was asked twice")
	}
	other := w.service() // of another replica
	var wg sync.WaitGroup
	used := make(chan gate.Decided, 16)
	for i := range 16 {
		wg.Go(func() {
			d, err := []*approval.Service{w.Service, other}[i%2].Spend(t.Context(), "once")
			if err != nil && !errors.Is(err, approval.ErrOver) {
				t.Error(err)
			}
			if d.State == gate.Used {
				used <- d
			}
		})
	}
	wg.Wait()
	if len(used) != 1 {
		t.Errorf("it was used %d times", len(used))
	}
	if d := w.spend("once"); d.State == gate.Used || d.Reason == "" {
		t.Errorf("%+v", d)
	}
	w.state("once", gate.Used)
	if err := w.Ran(t.Context(), "once", 4, "rolled back"); err != nil { // AP24
		t.Fatal(err)
	}
	if c := w.state("once", gate.Used); c.Command != 4 || c.Outcome != "rolled back" {
		t.Errorf("%+v", c)
	}
}

// What an earlier run has left is withdrawn, in the log and in the store.
func TestAP09Restart(t *testing.T) {
	w := newWorld(t)
	w.ask(request("waits", 1, "dba"))
	w.ask(request("agreed", 1, "dba"))
	w.ask(request("denied", 1, "dba"))
	if w.say("agreed", "bob", true) != "" || w.say("denied", "bob", false) != "" {
		t.Fatal()
	}
	next := w.service()
	w.log.logs.Store(true)
	if err := next.Start(t.Context()); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	w.state("waits", gate.Waiting) // the log comes first
	w.log.logs.Store(false)
	w.log.writes.Store(true)
	if err := next.Start(t.Context()); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	w.log.writes.Store(false)
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"waits", "agreed"} {
		if c := w.state(id, gate.Withdrawn); c.Why != "the gateway was restarted" {
			t.Error(c.Why)
		}
		if got := w.logged(id); got[len(got)-1] != "withdrawn: the gateway was restarted" {
			t.Errorf("%q", got)
		}
		if d, err := next.Spend(t.Context(), id); err != nil || d.State != gate.Withdrawn {
			t.Errorf("%+v %v", d, err)
		}
		if _, err := next.Decide(t.Context(), id, w.person("eve"), true, "late", "k7qa"); w.kind(nil, err) != approval.Over {
			t.Error(err)
		}
	}
	if c := w.state("denied", gate.Refused); c.Why != "as agreed" {
		t.Error(c.Why)
	}
}

// Of approve, deny, withdrawal and the end of its time one wins, on two replicas.
func TestAP10OneOutcome(t *testing.T) {
	w := newWorld(t)
	other := w.service()
	for round := range 12 {
		id := fmt.Sprint("race", round)
		w.ask(request(id, 1, "dba"))
		waits := w.wait(id)
		var wg sync.WaitGroup
		wins := make(chan approval.State, 8)
		try := func(state approval.State, f func() error) {
			wg.Go(func() {
				err := f()
				if err == nil {
					wins <- state
				} else if e := new(approval.Error); !errors.As(err, &e) || e.Kind != approval.Over {
					t.Error(err)
				}
			})
		}
		try(gate.Approved, func() error {
			_, err := w.Decide(t.Context(), id, w.person("bob"), true, "yes", "k7qa")
			return err
		})
		try(gate.Refused, func() error {
			_, err := other.Decide(t.Context(), id, w.person("eve"), false, "no", "k7qa")
			return err
		})
		if round%3 == 0 {
			wg.Go(func() {
				if err := w.Withdraw(t.Context(), id, "cancelled by the client"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		close(wins)
		c, err := w.log.Store.Request(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case round%3 == 0: // a withdrawal ends what was approved too
			if c.State != gate.Withdrawn && c.State != gate.Refused {
				t.Errorf("%s: %s", id, c.State)
			}
		case len(wins) != 1 || c.State != <-wins || len(c.Voices) != 1:
			t.Errorf("%s: %+v", id, c)
		case c.State == gate.Approved:
			if d := <-waits; d.State != gate.Approved {
				t.Errorf("%s: %+v", id, d)
			}
		}
		if err := w.Withdraw(t.Context(), id, "nobody used it"); err != nil { // it would count as waiting
			t.Error(err)
		}
	}
}

func TestAP11ItsTime(t *testing.T) {
	w := newWorld(t)
	w.ask(request("late", 1, "dba"))
	w.ask(request("agreed", 1, "dba"))
	if w.say("agreed", "bob", true) != "" {
		t.Fatal()
	}
	w.ahead.Store(int64(time.Minute))
	for _, approve := range []bool{true, false} {
		if k := w.say("late", "bob", approve); k != approval.Over {
			t.Error(k)
		}
	}
	if d, err := w.Wait(t.Context(), "late"); err != nil || d.State != gate.Expired {
		t.Errorf("%+v %v", d, err)
	}
	if d := w.spend("agreed"); d.State != gate.Expired {
		t.Errorf("%+v", d)
	}
	if c, err := w.Card(t.Context(), "late", w.person("bob")); err != nil || c.State != gate.Expired {
		t.Errorf("%+v %v", c, err)
	}
	if list, err := w.List(t.Context(), w.person("bob"), false); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	// By itself, with nobody looking.
	w.ahead.Store(0)
	short := request("short", 1, "dba")
	short.Until = time.Now().Add(20 * time.Millisecond)
	w.ask(short)
	seq := uint64(0)
	for over := false; !over; {
		var list []approval.Brief
		seq, list = w.Watch(t.Context(), w.person("bob"), seq)
		for _, b := range list {
			over = over || b.ID == "short" && b.State == gate.Expired && b.Why != ""
		}
	}
	for c := w.Counts(); c.Ended[gate.Expired] < 2; c = w.Counts() {
		time.Sleep(time.Millisecond)
	}
	w.state("short", gate.Expired)
}

// While the store is down what is held stays held, and nothing is let go.
func TestAP20StoreDown(t *testing.T) {
	w := newWorld(t)
	w.ask(request("held", 1, "dba"))
	w.log.reads.Store(true)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if d, err := w.Wait(ctx, "held"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v %v", d, err)
	}
	if k := w.say("held", "bob", true); k != approval.Failed {
		t.Error(k)
	}
	if _, err := w.List(t.Context(), w.person("bob"), true); w.kind(nil, err) != approval.Failed {
		t.Error(err)
	}
	w.log.reads.Store(false)
	if w.say("held", "bob", true) != "" {
		t.Fatal()
	}
	w.log.writes.Store(true)
	for _, reads := range []bool{true, false} {
		w.log.reads.Store(reads)
		if d, err := w.Spend(t.Context(), "held"); err == nil || d.State == gate.Used {
			t.Errorf("%+v %v", d, err)
		}
	}
	if err := w.Ask(t.Context(), request("new", 1, "dba")); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	// A withdrawal that cannot be kept counts as long as this process runs.
	if err := w.Withdraw(t.Context(), "held", "the client left"); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	w.log.writes.Store(false)
	if d := w.spend("held"); d.State != gate.Withdrawn {
		t.Errorf("%+v", d)
	}
	w.ask(request("left", 1, "dba"))
	w.log.writes.Store(true)
	if err := w.Withdraw(t.Context(), "left", "the client left"); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	w.log.writes.Store(false)
	if k := w.say("left", "bob", true); k != approval.Over {
		t.Error(k)
	}
	if _, err := w.Wait(t.Context(), "new"); !errors.Is(err, approval.ErrUnknown) {
		t.Error(err)
	}
}

// A decision that is not on disk in both places does not count, and says so.
func TestDecisionFailsAtEachStep(t *testing.T) {
	for _, approve := range []bool{true, false} {
		w := newWorld(t)
		w.ask(request("step", 1, "dba"))
		waits := w.wait("step")
		w.log.logs.Store(true)
		if k := w.say("step", "bob", approve); k != approval.Failed {
			t.Error(k)
		}
		w.log.logs.Store(false)
		if c := w.state("step", gate.Waiting); len(c.Voices) != 0 {
			t.Errorf("the store was told before the log: %+v", c)
		}
		w.log.writes.Store(true)
		_, err := w.Decide(t.Context(), "step", w.person("bob"), approve, "yes", "k7qa")
		if w.kind(nil, err) != approval.Failed || !strings.Contains(err.Error(), "does not count") {
			t.Error(err)
		}
		w.log.writes.Store(false)
		if c := w.state("step", gate.Waiting); len(c.Voices) != 0 {
			t.Errorf("%+v", c)
		}
		if got := w.logged("step"); len(got) != 2 || !strings.HasSuffix(got[0], " bob") || !strings.Contains(got[1], "does not count") {
			t.Errorf("%q", got)
		}
		select {
		case d := <-waits:
			t.Errorf("who waits was told: %+v", d)
		default:
		}
		if w.say("step", "bob", approve) != "" { // it can be tried again
			t.Fatal()
		}
		if d := <-waits; (d.State == gate.Approved) != approve {
			t.Errorf("%+v", d)
		}
	}
}

// Whoever decides may hang up: what has begun is carried through.
func TestDecisionOutlivesItsRequest(t *testing.T) {
	w := newWorld(t)
	w.ask(request("gone", 1, "dba"))
	ctx, stop := context.WithCancel(t.Context())
	who := w.person("bob")
	w.log.Log = hangUp{w.log.Log, stop}
	if _, err := w.Decide(ctx, "gone", who, true, "yes", "k7qa"); err != nil {
		t.Fatal(err)
	}
	w.state("gone", gate.Approved)
}

type hangUp struct {
	gate.Log
	stop context.CancelFunc
}

func (h hangUp) Append(ctx context.Context, b []byte, durable bool) error {
	h.stop()
	return h.Log.Append(ctx, b, durable)
}

func TestAP16Bounds(t *testing.T) {
	w := newWorld(t)
	for i := range approval.MaxWaitingOne {
		w.ask(request(fmt.Sprint("flood", i), 1, "dba"))
	}
	refused := func(r *gate.Request) {
		t.Helper()
		err := w.Ask(t.Context(), r)
		if d := new(gate.Denied); !errors.As(err, &d) || d.Reason.Hint == "" {
			t.Errorf("%v", err)
		}
	}
	refused(request("flood", 1, "dba"))
	other := request("upper", 1, "dba")
	other.Session.Subject = "ADA"
	refused(other)
	if w.say("flood0", "bob", false) != "" || w.say("flood1", "bob", true) != "" {
		t.Fatal()
	}
	w.ask(request("next", 1, "dba")) // one is over
	refused(request("flood", 1, "dba"))
	if d := w.spend("flood1"); d.State != gate.Used {
		t.Error(d)
	}
	if err := w.Withdraw(t.Context(), "flood2", "gone"); err != nil {
		t.Error(err)
	}
	w.ask(request("two", 1, "dba"))
	w.ask(request("three", 1, "dba"))
	for i := 0; w.Counts().Waiting < approval.MaxWaiting; i++ {
		r := request(fmt.Sprint("many", i), 1, "dba")
		r.Session.Subject = fmt.Sprint("user", i/approval.MaxWaitingOne)
		w.ask(r)
	}
	other = request("last", 1, "dba")
	other.Session.Subject = "somebody"
	refused(other)
	if list, err := w.List(t.Context(), w.person("bob"), true); err != nil || len(list) != approval.MaxListed {
		t.Errorf("%d %v", len(list), err)
	}
}

func TestAP16Reasons(t *testing.T) {
	w := newWorld(t)
	w.ask(request("why", 1, "dba"))
	for name, reason := range map[string]string{"none": "", "spaces": " \t\n ", "long": strings.Repeat("ü", approval.MaxReason+1), "a control character": "yes\x1b[31m", "a NUL": "a\x00b", "two lines": "a\nb",
		"bidi": "a\u202eb", "zero width": "a\u200bb", "no UTF-8": "a\xffb", "a tag": "a\U000e0041"} {
		for _, approve := range []bool{true, false} {
			if k := w.kind(w.Decide(t.Context(), "why", w.person("bob"), approve, reason, "k7qa")); k != approval.Reason {
				t.Errorf("%s: %q", name, k)
			}
		}
	}
	for _, code := range []string{"", "k7qb", "k7q", "k7qaa", "k7qa k7qa"} {
		if k := w.kind(w.Decide(t.Context(), "why", w.person("bob"), true, "yes", code)); k != approval.Code {
			t.Errorf("%q: %q", code, k)
		}
	}
	if k := w.kind(w.Decide(t.Context(), "none", w.person("bob"), true, "yes", "k7qa")); k != approval.Unknown {
		t.Error(k)
	}
	if c, err := w.Decide(t.Context(), "why", w.person("bob"), true, "  "+strings.Repeat("ü", approval.MaxReason)+" ", "K7QA"); err != nil || len(c.Voices[0].Reason) != 2*approval.MaxReason {
		t.Error(err)
	}
}
