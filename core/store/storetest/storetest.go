// Package storetest is what every store has to hold, whatever keeps its rows.
package storetest

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/auth"
)

// Run tries a store. Open gives the same store anew each time, as after a
// restart, and closes it when its test ends.
func Run(t *testing.T, open func(t *testing.T) auth.Store) {
	ctx := t.Context()
	now := time.Unix(1_800_000_000, 0)
	login := func(id string) *auth.Record {
		return &auth.Record{ID: id, Issuer: "https://idp", Subject: "ada", Groups: []string{"task:a", "dba"}, Asserted: now.Add(-time.Second), Sealed: []byte{0, 1, 255}, Refreshed: now, Started: now, Expires: now.Add(time.Hour)}
	}
	token := func(b byte, login string) *auth.Token {
		return &auth.Token{Hash: [32]byte{b}, Login: login, Audience: auth.Control, Task: "a", Resource: "r", Expires: now.Add(time.Minute),
			From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a login and its tokens stay as they were put", func(t *testing.T) {
		must(open(t).AddLogin(ctx, login("one"), token(1, "one")))
		s := open(t)
		l, err := s.Login(ctx, "one")
		must(err)
		if !reflect.DeepEqual(l, login("one")) {
			t.Errorf("%+v", l)
		}
		got, err := s.Token(ctx, [32]byte{1})
		must(err)
		if !reflect.DeepEqual(got, token(1, "one")) {
			t.Errorf("%+v", got)
		}
		must(s.AddToken(ctx, token(2, "one")))
		if _, err := open(t).Token(ctx, [32]byte{2}); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is not there is unknown", func(t *testing.T) {
		s := open(t)
		_, err1 := s.Login(ctx, "none")
		_, err2 := s.Token(ctx, [32]byte{99})
		for _, err := range []error{err1, err2, s.AddToken(ctx, token(9, "none")), s.Refreshed(ctx, login("none")), s.AddLogin(ctx, login("x"), token(9, "y"))} {
			if !errors.Is(err, auth.ErrUnknown) {
				t.Error(err)
			}
		}
		if _, err := s.Login(ctx, "x"); !errors.Is(err, auth.ErrUnknown) {
			t.Errorf("half of a login was kept: %v", err)
		}
	})
	t.Run("neither a login nor a token is put twice", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("two"), token(20, "two")))
		if s.AddLogin(ctx, login("two"), token(21, "two")) == nil || s.AddToken(ctx, token(20, "two")) == nil {
			t.Error("it was")
		}
		if _, err := s.Token(ctx, [32]byte{21}); !errors.Is(err, auth.ErrUnknown) {
			t.Error("half of it was")
		}
	})
	t.Run("a refresh replaces groups and secret", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("three"), token(30, "three")))
		want := login("three")
		want.Groups, want.Sealed, want.Asserted, want.Refreshed = []string{"task:b"}, []byte("new"), now.Add(time.Second), now.Add(time.Minute)
		other := *want
		other.Subject, other.Issuer, other.Expires = "eve", "https://else", now.Add(time.Hour*1000)
		must(s.Refreshed(ctx, &other))
		l, err := open(t).Login(ctx, "three")
		must(err)
		if !reflect.DeepEqual(l, want) {
			t.Errorf("a refresh changes groups and secret alone: %+v", l)
		}
	})
	t.Run("an ended login stays ended", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("four"), token(40, "four")))
		must(s.EndLogin(ctx, "four", "logout", now))
		must(s.EndLogin(ctx, "four", "again", now))
		for _, err := range []error{s.AddToken(ctx, token(41, "four")), s.Refreshed(ctx, login("four"))} {
			if !errors.Is(err, auth.ErrUnknown) {
				t.Error(err)
			}
		}
		l, err := open(t).Login(ctx, "four")
		must(err)
		if l.Ended != "logout" || l.Sealed != nil {
			t.Errorf("%+v", l)
		}
	})
	t.Run("the logins of a subject, newest first, without what is over", func(t *testing.T) {
		s := open(t)
		for i, id := range []string{"of1", "of2", "of3", "of4"} {
			l := login(id)
			l.Subject, l.Started = "many", now.Add(time.Duration(i)*time.Second)
			if id == "of4" {
				l.Expires = now.Add(time.Second)
			}
			must(s.AddLogin(ctx, l, token(byte(46+i), id)))
		}
		must(s.EndLogin(ctx, "of3", "logout", now))
		ids, err := s.LoginsOf(ctx, "https://idp", "many", now.Add(time.Second))
		must(err)
		if !reflect.DeepEqual(ids, []string{"of2", "of1"}) {
			t.Error(ids)
		}
		for _, who := range [][2]string{{"https://else", "many"}, {"https://idp", "MANY"}, {"https://idp", "'"}} {
			if ids, err := s.LoginsOf(ctx, who[0], who[1], now); err != nil || len(ids) != 0 {
				t.Errorf("%q: %v %v", who, ids, err)
			}
		}
	})
	t.Run("nothing is nothing, whatever keeps it", func(t *testing.T) {
		s := open(t)
		l, k := login("bare"), token(45, "bare")
		l.Groups, l.Sealed, k.Audience, k.Task, k.Resource, k.From = []string{}, nil, auth.Data, "", "", nil
		must(s.AddLogin(ctx, l, k))
		got, err := open(t).Login(ctx, "bare")
		must(err)
		if len(got.Groups) != 0 || got.Sealed != nil || got.Ended != "" {
			t.Errorf("%+v", got)
		}
		token, err := open(t).Token(ctx, k.Hash)
		must(err)
		if !reflect.DeepEqual(token, k) {
			t.Errorf("%+v", token)
		}
	})
	t.Run("names are texts, and are never part of a statement", func(t *testing.T) {
		s := open(t)
		l, k := login("it's; DROP TABLE logins --"), token(56, "it's; DROP TABLE logins --")
		l.Subject, l.Groups, k.Task, k.Resource = "ädä\" ' \\ %", []string{"task:'", "a,b", "[\"", "ü"}, "'", "\\"
		must(s.AddLogin(ctx, l, k))
		got, err := open(t).Login(ctx, l.ID)
		must(err)
		token, err := open(t).Token(ctx, k.Hash)
		must(err)
		if !reflect.DeepEqual(got, l) || !reflect.DeepEqual(token, k) {
			t.Errorf("%+v %+v", got, token)
		}
	})
	t.Run("who does not wait has written nothing", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("eight"), token(70, "eight")))
		gone, stop := context.WithCancel(ctx)
		stop()
		changed := login("eight")
		changed.Groups = []string{"task:z"}
		for _, err := range []error{s.AddLogin(gone, login("nine"), token(71, "nine")), s.AddToken(gone, token(72, "eight")), s.Refreshed(gone, changed), s.EndLogin(gone, "eight", "x", now)} {
			if err == nil || errors.Is(err, auth.ErrUnknown) {
				t.Errorf("%v", err)
			}
		}
		if _, err := s.Login(gone, "eight"); err == nil || errors.Is(err, auth.ErrUnknown) {
			t.Errorf("what could not be read is not unknown: %v", err)
		}
		l, err := s.Login(ctx, "eight")
		must(err)
		if !reflect.DeepEqual(l, login("eight")) {
			t.Errorf("%+v", l)
		}
		for _, b := range []byte{71, 72} {
			if _, err := s.Token(ctx, [32]byte{b}); !errors.Is(err, auth.ErrUnknown) {
				t.Errorf("%d: %v", b, err)
			}
		}
	})
	t.Run("no token comes after the end", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("ten"), token(80, "ten")))
		var wg sync.WaitGroup
		var late atomic.Bool
		for i := range byte(16) {
			wg.Go(func() {
				before := late.Load()
				if err := s.AddToken(ctx, token(150+i, "ten")); err == nil && before || err != nil && !errors.Is(err, auth.ErrUnknown) {
					t.Errorf("after the end %v: %v", before, err)
				}
			})
		}
		must(s.EndLogin(ctx, "ten", "logout", now))
		late.Store(true)
		wg.Wait()
		if err := s.AddToken(ctx, token(99, "ten")); !errors.Is(err, auth.ErrUnknown) {
			t.Error(err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("five"), token(50, "five")))
		var wg sync.WaitGroup
		for i := range byte(32) {
			wg.Go(func() {
				if err := s.AddToken(ctx, token(100+i, "five")); err != nil {
					t.Error(err)
				}
				if _, err := s.Token(ctx, [32]byte{100 + i}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a login of long ago is forgotten with its tokens", func(t *testing.T) {
		s := open(t)
		must(s.AddLogin(ctx, login("six"), token(60, "six")))
		late := login("seven")
		late.Started = now.Add(60 * 24 * time.Hour)
		must(s.AddLogin(ctx, late, token(61, "seven")))
		if _, err := s.Token(ctx, [32]byte{60}); !errors.Is(err, auth.ErrUnknown) {
			t.Error(err)
		}
	})
}
