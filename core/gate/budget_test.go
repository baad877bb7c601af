package gate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// TestRC17Refusals: who is refused on purpose loses the session and fills the
// log with no more than a window's worth.
func TestRC17Refusals(t *testing.T) {
	deny := func(*abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil }
	for name, c := range map[string]struct {
		text string
		most int
	}{"many": {"x", maxDenials}, "large": {strings.Repeat("x", 1<<20), maxDenialSize >> 20}} {
		g, _ := newGate(t, &guard{name: "a", may: all, answer: deny})
		now := time.Now()
		g.Now = func() time.Time { return now }
		s := open(t, g)
		n := 0
		for s.Context().Err() == nil && n < 5000 {
			var d *Denied
			if _, err := s.Submit(t.Context(), command(c.text, abi.EffectRead), nil); !errors.As(err, &d) {
				t.Fatal(err)
			}
			n++
		}
		if n != c.most+1 {
			t.Errorf("%s: %d refusals, then the session ends; %d are allowed", name, n, c.most)
		}
		if _, err := g.Open(t.Context(), login); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%s: in again at once: %v", name, err)
		}
		now = now.Add(window)
		open(t, g)
	}
}

// TestRC17Logins: failed logins are recorded one by one up to a bound, then as
// a number.
func TestRC17Logins(t *testing.T) {
	g, log := newGate(t, &guard{name: "a", may: all, answer: allow})
	now := time.Now()
	g.Now = func() time.Time { return now }
	g.Identity = who{Grant{Subject: "nobody"}}
	for range 10_000 {
		if _, err := g.Open(t.Context(), login); !errors.Is(err, ErrLogin) {
			t.Fatal(err)
		}
	}
	if n := len(log.log); n != maxRefusals {
		t.Errorf("%d records", n)
	}
	if n := g.Counts().LoginsRefused; n != 10_000 {
		t.Errorf("%d are counted", n)
	}
	now = now.Add(window)
	other := login
	other.Address = "192.0.2.1:5"
	_, _ = g.Open(t.Context(), other)
	if e := log.log[maxRefusals]; e.Kind != EventNote || !strings.Contains(e.Why, "9900 more logins from 127.0.0.1 failed") {
		t.Errorf("%+v", e)
	}
	if e := log.log[maxRefusals+1]; e.Kind != EventRefused {
		t.Errorf("%+v", e)
	}
}

// TestBrokenSessionEnds: a session whose command could not be recorded is still
// closed in the log, where the log takes that.
func TestBrokenSessionEnds(t *testing.T) {
	g, log := newGate(t, &guard{name: "a", may: all, answer: allow})
	s := open(t, g)
	ex, err := s.Submit(t.Context(), command("x", abi.EffectRead), nil)
	if err != nil {
		t.Fatal(err)
	}
	log.fail = errors.New("disk full")
	if _, err := s.Submit(t.Context(), command("y", abi.EffectRead), nil); err == nil {
		t.Fatal("no record, no command")
	}
	log.fail = nil // there is room for what ends
	if err := ex.Done(t.Context(), Outcome{State: Completed}); err == nil {
		t.Error("a broken session says nothing")
	}
	_ = s.Close(nil)
	if n := len(log.log); log.log[n-1].Kind != EventClose || log.log[n-2].Kind != EventDone {
		t.Errorf("%v %v", log.log[n-2].Kind, log.log[n-1].Kind)
	}
}
