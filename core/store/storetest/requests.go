package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/approval"
)

// Requests tries a store of requests for approval. Open gives the same store
// anew each time, as after a restart, and closes it when its test ends.
func Requests(t *testing.T, open func(t *testing.T) approval.Store) {
	ctx := t.Context()
	now := time.Unix(1_800_000_000, 5).UTC()
	const waiting, approved, used, denied, expired, withdrawn = approval.State("waiting"), approval.State("approved"), approval.State("used"), approval.State("denied"), approval.State("expired"), approval.State("withdrawn")
	rows := int64(3)
	card := func(id string) *approval.Card {
		return &approval.Card{ID: id, State: waiting, Code: "abcd", Issuer: "https://idp", Subject: "ädä' --", Groups: []string{"task:a"}, Task: "a", Resource: "r", Session: "s",
			Since: now, Until: now.Add(time.Minute), Text: "select '\u202e\x00\n", Canonical: "c", Strange: []string{"U+202E"}, Operations: []string{"o"}, Params: []string{`"1"`}, Earlier: []string{},
			Payload: &approval.Payload{Size: 3, Whole: true}, Counted: &rows, Binding: "00", Needs: []approval.Need{{Guard: "tasks", Groups: []string{"dba"}, People: 2}}, Voices: []approval.Voice{}}
	}
	voice := func(who string, approve bool) approval.Voice {
		return approval.Voice{Issuer: "https://idp", Subject: who, Groups: []string{"dba"}, Approve: approve, Reason: "so it is", At: now.Add(time.Second)}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, not %v", err, want)
		}
	}
	state := func(s approval.Store, id string, want approval.State) *approval.Card {
		t.Helper()
		c, err := s.Request(ctx, id)
		must(err)
		if c.State != want {
			t.Errorf("request %s is %s, not %s", id, c.State, want)
		}
		return c
	}
	t.Run("a request and its voices stay as they were put", func(t *testing.T) {
		s := open(t)
		must(s.AddRequest(ctx, card("one")))
		must(s.AddVoice(ctx, "one", "bob", voice("bob", true), waiting))
		must(s.AddVoice(ctx, "one", "eve", voice("eve", true), approved))
		must(s.Move(ctx, "one", []approval.State{approved}, used, "", now.Add(time.Second)))
		must(s.Ran(ctx, "one", 7, "pending"))
		want := card("one")
		at := now.Add(time.Second)
		want.State, want.Ended, want.Command, want.Outcome = used, &at, 7, "pending"
		want.Voices = []approval.Voice{voice("bob", true), voice("eve", true)}
		if c := state(open(t), "one", used); !reflect.DeepEqual(c, want) {
			t.Errorf("%+v\nnot\n%+v", c, want)
		}
		if s.AddRequest(ctx, card("one")) == nil {
			t.Error("it was put twice")
		}
	})
	t.Run("what is not there is unknown", func(t *testing.T) {
		s := open(t)
		_, err := s.Request(ctx, "none")
		is(err, approval.ErrUnknown)
		for _, err := range []error{s.AddVoice(ctx, "none", "bob", voice("bob", true), approved), s.Move(ctx, "none", []approval.State{waiting}, expired, "", now), s.Ran(ctx, "none", 1, "x")} {
			is(err, approval.ErrOver)
		}
	})
	t.Run("a person speaks once, whatever they say", func(t *testing.T) {
		s := open(t)
		must(s.AddRequest(ctx, card("two")))
		must(s.AddVoice(ctx, "two", "bob", voice("bob", true), waiting))
		is(s.AddVoice(ctx, "two", "bob", voice("Bob", true), approved), approval.ErrTwice)
		is(s.AddVoice(ctx, "two", "bob", voice("bob", false), denied), approval.ErrTwice)
		if c := state(s, "two", waiting); len(c.Voices) != 1 || c.Ended != nil {
			t.Errorf("half of a voice was kept: %+v", c)
		}
	})
	t.Run("what is over stays over", func(t *testing.T) {
		s := open(t)
		for i, end := range []approval.State{denied, expired, withdrawn, used} {
			id := fmt.Sprint("over", i)
			must(s.AddRequest(ctx, card(id)))
			if end == used {
				is(s.Move(ctx, id, []approval.State{approved}, used, "", now), approval.ErrOver) // nobody has approved it
				must(s.AddVoice(ctx, id, "bob", voice("bob", true), approved))
			}
			must(s.Move(ctx, id, []approval.State{waiting, approved}, end, "why", now))
			is(s.AddVoice(ctx, id, "eve", voice("eve", true), approved), approval.ErrOver)
			for _, next := range []approval.State{waiting, approved, used, denied, expired, withdrawn} {
				is(s.Move(ctx, id, []approval.State{waiting, approved}, next, "again", now), approval.ErrOver)
			}
			if c := state(open(t), id, end); c.Why != "why" || c.Ended == nil || !c.Ended.Equal(now) {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("AP11 its time is a condition of the store", func(t *testing.T) {
		s := open(t)
		must(s.AddRequest(ctx, card("late")))
		v := voice("bob", true)
		v.At = now.Add(time.Minute) // the first moment that is too late
		is(s.AddVoice(ctx, "late", "bob", v, approved), approval.ErrOver)
		v.At = v.At.Add(-1)
		must(s.AddVoice(ctx, "late", "bob", v, approved))
		is(s.Move(ctx, "late", []approval.State{approved}, used, "", now.Add(time.Minute)), approval.ErrOver)
		must(s.Move(ctx, "late", []approval.State{approved}, used, "", now.Add(time.Minute-1)))
	})
	t.Run("AP10 one outcome of many", func(t *testing.T) {
		first, second := open(t), open(t) // two replicas
		for round := range 8 {
			id := fmt.Sprint("race", round)
			must(first.AddRequest(ctx, card(id)))
			var wg sync.WaitGroup
			var won atomic.Int32
			for i, s := range []approval.Store{first, second, first, second} {
				for _, f := range []func() error{
					func() error { return s.AddVoice(ctx, id, fmt.Sprint("yes", i), voice("yes", true), approved) },
					func() error { return s.AddVoice(ctx, id, fmt.Sprint("no", i), voice("no", false), denied) },
					func() error { return s.Move(ctx, id, []approval.State{waiting}, expired, "", now) },
				} {
					wg.Go(func() {
						if err := f(); err == nil {
							won.Add(1)
						} else if !errors.Is(err, approval.ErrOver) {
							t.Error(err)
						}
					})
				}
			}
			wg.Wait()
			c, err := second.Request(ctx, id)
			must(err)
			if won.Load() != 1 || c.State == waiting || len(c.Voices) > 1 || (len(c.Voices) == 1) == (c.State == expired) {
				t.Errorf("%d have won: %+v", won.Load(), c)
			}
		}
	})
	t.Run("AP06 it is used once", func(t *testing.T) {
		first, second := open(t), open(t)
		must(first.AddRequest(ctx, card("once")))
		must(first.AddVoice(ctx, "once", "bob", voice("bob", true), approved))
		var wg sync.WaitGroup
		var won atomic.Int32
		for i := range 16 {
			wg.Go(func() {
				switch err := []approval.Store{first, second}[i%2].Move(ctx, "once", []approval.State{approved}, used, "", now); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, approval.ErrOver):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("it was used %d times", won.Load())
		}
	})
	t.Run("lists have the newest first, and end", func(t *testing.T) {
		s := open(t)
		for i := range 4 {
			c := card(fmt.Sprint("list", i))
			c.Since = now.Add(time.Duration(i+1) * time.Hour)
			c.Until = c.Since.Add(time.Hour)
			c.Text = strings.Repeat("ü", 5000)
			must(s.AddRequest(ctx, c))
		}
		must(s.Move(ctx, "list3", []approval.State{waiting}, withdrawn, "gone", now.Add(10*time.Hour)))
		v := voice("bob", true)
		must(s.AddVoice(ctx, "list2", "bob", v, approved))
		ids := func(open bool, n int) (out []string) {
			t.Helper()
			list, err := s.Requests(ctx, open, n)
			must(err)
			for _, c := range list {
				out = append(out, c.ID)
				if c.Canonical != "" || c.Payload != nil || len(c.Text) > 1000 || !strings.HasPrefix(c.Text, "üüü") || c.Needs[0].People != 2 {
					t.Errorf("%s is not slim: %+v", c.ID, c)
				}
				if c.ID == "list2" && (len(c.Voices) != 1 || !reflect.DeepEqual(c.Voices[0], v)) {
					t.Errorf("%+v", c.Voices)
				}
			}
			return out
		}
		if got := ids(false, 3); !reflect.DeepEqual(got, []string{"list3", "list2", "list1"}) {
			t.Error(got)
		}
		if got := ids(true, 2); !reflect.DeepEqual(got, []string{"list2", "list1"}) {
			t.Error(got)
		}
	})
	t.Run("what ended long ago is forgotten, what is open is not", func(t *testing.T) {
		s := open(t)
		old, open := card("old"), card("open")
		must(s.AddRequest(ctx, old))
		must(s.AddRequest(ctx, open))
		must(s.AddVoice(ctx, "old", "bob", voice("bob", false), denied))
		must(s.Forget(ctx, now.Add(time.Hour), 1000))
		_, err := s.Request(ctx, "old")
		is(err, approval.ErrUnknown)
		state(s, "open", waiting)
	})
	t.Run("the oldest of more than so many that ended are forgotten", func(t *testing.T) {
		s := open(t)
		late := now.Add(1000 * time.Hour)
		for i := range 4 {
			c := card(fmt.Sprint("most", i))
			must(s.AddRequest(ctx, c))
			if i != 2 {
				must(s.Move(ctx, c.ID, []approval.State{waiting}, expired, "", late.Add(time.Duration(i))))
			}
		}
		must(s.Forget(ctx, now, 2))
		for id, there := range map[string]bool{"most0": false, "most1": true, "most2": true, "most3": true} {
			if _, err := s.Request(ctx, id); (err == nil) != there {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
	t.Run("AP24 what nobody will tell of is unknown", func(t *testing.T) {
		s := open(t)
		for id, outcome := range map[string]string{"silent": "", "pending": "pending", "committed": "committed"} {
			must(s.AddRequest(ctx, card(id)))
			is(s.Ran(ctx, id, 1, "completed"), approval.ErrOver) // it is not used
			must(s.AddVoice(ctx, id, "bob", voice("bob", true), approved))
			must(s.Move(ctx, id, []approval.State{approved}, used, "", now))
			if outcome != "" {
				must(s.Ran(ctx, id, 1, outcome))
			}
		}
		must(s.Forsake(ctx))
		for id, want := range map[string]string{"silent": "unknown", "pending": "unknown", "committed": "committed"} {
			if c := state(s, id, used); c.Outcome != want {
				t.Errorf("%s: %q", id, c.Outcome)
			}
		}
	})
	t.Run("who does not wait has written nothing", func(t *testing.T) {
		s := open(t)
		must(s.AddRequest(ctx, card("still")))
		gone, stop := context.WithCancel(ctx)
		stop()
		_, err := s.Request(gone, "still")
		_, err2 := s.Requests(gone, false, 1)
		for _, err := range []error{err, err2, s.AddRequest(gone, card("never")), s.AddVoice(gone, "still", "bob", voice("bob", true), approved), s.Move(gone, "still", []approval.State{waiting}, expired, "", now), s.Forget(gone, now, 1), s.Forsake(gone), s.Act(gone, "x", now, now, 1), s.Unact(gone, "x")} {
			if err == nil || errors.Is(err, approval.ErrUnknown) || errors.Is(err, approval.ErrOver) {
				t.Errorf("%v", err)
			}
		}
		if c := state(s, "still", waiting); len(c.Voices) != 0 {
			t.Errorf("%+v", c)
		}
		_, err = s.Request(ctx, "never")
		is(err, approval.ErrUnknown)
	})
	t.Run("AP19 an action is taken once, until its time is over", func(t *testing.T) {
		s := open(t)
		until := now.Add(10 * time.Minute)
		must(s.Act(ctx, "a 1", now, until, 2))
		is(s.Act(ctx, "a 1", now, until, 2), approval.ErrTwice)
		is(s.Act(ctx, "a 1", until, until, 2), approval.ErrTwice) // and at its end
		must(s.Act(ctx, "a 2", now, until, 2))
		is(s.Act(ctx, "a 3", now, until, 2), approval.ErrMany)
		must(s.Unact(ctx, "a 2"))
		must(s.Unact(ctx, "a 2")) // that is not there
		must(s.Act(ctx, "a 3", now, until, 2))
		again := open(t) // after a restart
		is(again.Act(ctx, "a 3", now, until, 2), approval.ErrTwice)
		is(again.Act(ctx, "a 1", now, until, 2), approval.ErrTwice)
		must(again.Act(ctx, "a 1", until.Add(1), until.Add(time.Hour), 2))
		var once atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				switch err := []approval.Store{s, again}[i%2].Act(ctx, "b", until.Add(1), until.Add(time.Hour), 100); {
				case err == nil:
					once.Add(1)
				case !errors.Is(err, approval.ErrTwice):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := once.Load(); n != 1 {
			t.Errorf("it was taken %d times", n)
		}
	})
}
