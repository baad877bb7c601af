package auth_test

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// bench is a provider, a store and logins between them, with a clock that a
// test moves.
type bench struct {
	*auth.Logins
	p     *devidp.Provider
	store *store.Store
	path  string // of the store
	down  func()
	clock func(time.Duration)
}

func logins(t *testing.T, noRaw bool) *bench {
	t.Helper()
	b := &bench{p: &devidp.Provider{ClientID: "taskgate"}}
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace", Groups: []string{"task:x", "other"}}})
	l, url, err := b.p.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.p.Run(ctx, l) }()
	b.down = sync.OnceFunc(func() { cancel(); <-done })
	dir := t.TempDir()
	b.path = filepath.Join(dir, "x.db")
	if b.store, err = store.Open(t.Context(), b.path); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ahead time.Duration
	a := auth.New([]auth.Issuer{{URL: url, ClientID: "taskgate", MayAssert: []string{"task:*"}, NoRaw: noRaw}})
	a.SetClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) })
	b.clock = func(d time.Duration) { mu.Lock(); defer mu.Unlock(); ahead += d }
	if b.Logins, err = auth.NewLogins(a, b.store, filepath.Join(dir, "keys", "seal")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); b.down(); b.store.Close() })
	return b
}

// login goes through the device flow as its user does.
func (b *bench) login(t *testing.T) (*auth.Record, string) {
	t.Helper()
	d, err := b.Begin(t.Context(), "", "192.0.2.1", auth.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "lovelace"); err != nil {
		t.Fatal(err)
	}
	r, token, err := b.Wait(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Wait(t.Context(), d.ID); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("ID13: a second one got the token: %v", err)
	}
	return r, token
}

func as(token string) gate.Login { return gate.Login{Task: "x", Resource: "r", Secret: token} }

func TestLogin(t *testing.T) {
	b := logins(t, true)
	r, token := b.login(t)
	if r.Subject != "ada" || strings.Join(r.Groups, " ") != "task:x" {
		t.Errorf("ID27: %+v", r)
	}
	g, err := b.Authenticate(t.Context(), as(token))
	if err != nil || g.Subject != "ada" || g.Login != r.ID || !g.Expires.Equal(r.Expires) {
		t.Fatalf("%+v %v", g, err)
	}
	for name, bad := range map[string]string{"another": token[:len(token)-1] + "!", "prefix": "tg_", "empty": "", "long": "tg_" + strings.Repeat("x", 1<<16)} {
		if _, err := b.Authenticate(t.Context(), as(bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, off := range []bool{true, false} {
		b := logins(t, off)
		raw, err := b.p.Token("ada", []string{"task:x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Authenticate(t.Context(), as(raw)); (err != nil) != off {
			t.Errorf("a token of the provider, switched off %v: %v", off, err)
		}
	}
}

// ID10, ID28: a token is for what it was narrowed to, for as long as that, and
// none outlives its login.
func TestNarrowAndEnd(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	narrow, end, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", 10*time.Minute, nil)
	if err != nil || time.Until(end) > 10*time.Minute {
		t.Fatal(end, err)
	}
	g, err := b.Authenticate(t.Context(), as(narrow))
	if err != nil || !g.Expires.Before(end.Add(time.Second)) {
		t.Error(g, err)
	}
	for _, l := range []gate.Login{{Task: "y", Resource: "r", Secret: narrow}, {Task: "x", Resource: "s", Secret: narrow}} {
		if _, err := b.Authenticate(t.Context(), l); err == nil {
			t.Errorf("ID28: taken for %s", l)
		}
	}
	if _, _, err := b.Narrow(t.Context(), narrow, "192.0.2.1", "x", "", time.Hour, nil); err == nil {
		t.Error("ID28: a narrow token made a wider one")
	}
	if _, err := b.End(t.Context(), narrow); err == nil {
		t.Error("a narrow token ended the login")
	}
	if _, far, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", 1000*time.Hour, nil); err != nil || time.Until(far) > 13*time.Hour {
		t.Errorf("it outlives its login: %v %v", far, err)
	}
	b.clock(11 * time.Minute)
	if _, err := b.Authenticate(t.Context(), as(narrow)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("ID28 after its minutes: %v", err)
	}
	short, _, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.End(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{token, short} {
		if _, err := b.Authenticate(t.Context(), as(s)); !errors.Is(err, auth.ErrToken) {
			t.Errorf("ID10 after logout: %v", err)
		}
	}
	_, token = b.login(t)
	b.clock(13 * time.Hour)
	if _, err := b.Authenticate(t.Context(), as(token)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("after the login's end: %v", err)
	}
}

// ID10, ID21: a token that was narrowed to addresses counts from nowhere else,
// and the end of its minutes is the end of it.
func TestID21From(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	from := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::7/128")}
	narrow, _, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", time.Hour, from)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"192.0.2.9:5000": true, "192.0.2.9": true, "[::ffff:192.0.2.9]:5000": true, "[2001:db8::7]:5000": true, "[2001:db8::7%eth0]:1": true,
		"192.0.3.9:5000": false, "[2001:db8::8]:5000": false, "127.0.0.1:1": false, "": false, "@": false, "192.0.2.9:x": false, "192.0.2": false,
	} {
		l := as(narrow)
		l.Address = address
		if _, err := b.Authenticate(t.Context(), l); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
		if _, _, err := b.Lookup(t.Context(), narrow, address); (err == nil) != want {
			t.Errorf("the API from %q: %v", address, err)
		}
		l.Secret = token
		if _, err := b.Authenticate(t.Context(), l); err != nil {
			t.Errorf("one for everywhere, from %q: %v", address, err)
		}
	}
	l := as(narrow)
	l.Address = "192.0.2.9:5000"
	b.clock(time.Hour - 2*time.Second)
	if _, err := b.Authenticate(t.Context(), l); err != nil {
		t.Error(err)
	}
	b.clock(2 * time.Second)
	if _, err := b.Authenticate(t.Context(), l); !errors.Is(err, auth.ErrToken) {
		t.Errorf("at the end of its hour: %v", err)
	}
}

// ID15: of all who wait for one login, one gets its token.
func TestID15OneGetsTheToken(t *testing.T) {
	b := logins(t, true)
	d, err := b.Begin(t.Context(), "", "192.0.2.1", auth.Data)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]int{}
	for range 16 {
		wg.Go(func() {
			_, token, err := b.Wait(t.Context(), d.ID)
			if err != nil && !errors.Is(err, auth.ErrUnknown) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			tokens[token]++
		})
	}
	if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "lovelace"); err != nil {
		t.Fatal(err)
	}
	if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "lovelace"); err == nil {
		t.Error("a code was confirmed twice")
	}
	wg.Wait()
	if len(tokens) != 2 || tokens[""] != 15 {
		t.Errorf("%v", tokens)
	}
}

// ID08, ID09: groups are asked for again, and what is gone is gone.
func TestGroupsAreRefreshed(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	groups := func() string {
		t.Helper()
		var wg sync.WaitGroup
		for range 8 { // a refresh token is good for one use: they must not race for it
			wg.Go(func() {
				if _, err := b.Authenticate(t.Context(), as(token)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		g, err := b.Authenticate(t.Context(), as(token))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(g.Groups, " ")
	}
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace", Groups: []string{"task:y"}}})
	if g := groups(); g != "task:x" {
		t.Errorf("asked too soon: %s", g)
	}
	for range 3 {
		b.clock(6 * time.Minute)
		if g := groups(); g != "task:y" {
			t.Errorf("ID09: %s", g)
		}
	}
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace"}})
	b.clock(6 * time.Minute)
	if g := groups(); g != "" {
		t.Errorf("ID08: %s", g)
	}
	b.p.SetUsers(nil)
	b.clock(6 * time.Minute)
	if _, err := b.Authenticate(t.Context(), as(token)); !errors.Is(err, auth.ErrToken) || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("a user who is gone: %v", err)
	}
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace", Groups: []string{"task:x"}}})
	if _, err := b.Authenticate(t.Context(), as(token)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a withdrawn login came back: %v", err)
	}
}

// Without its provider a login holds for as long as its groups are not too old.
func TestProviderDown(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	b.down()
	b.clock(6 * time.Minute)
	if _, err := b.Authenticate(t.Context(), as(token)); err != nil {
		t.Error(err)
	}
	b.clock(25 * time.Minute)
	if _, err := b.Authenticate(t.Context(), as(token)); err == nil {
		t.Error("groups of long ago count")
	}
	if _, err := b.Begin(t.Context(), "", "192.0.2.1", auth.Data); err == nil {
		t.Error("a login without a provider")
	}
}

// ID20: a logout counts although the store cannot write it down.
func TestID20LogoutWhileLocked(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	other, err := sql.Open("sqlite", b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil { // who writes waits, and gives up
		t.Fatal(err)
	}
	if _, err := b.Authenticate(t.Context(), as(token)); err != nil {
		t.Error(err)
	}
	if r, err := b.End(t.Context(), token); r == nil || !errors.Is(err, auth.ErrStore) {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := b.Authenticate(t.Context(), as(token)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("%v", err)
	}
}

// ID31, in part: a store that cannot be read gives nothing.
func TestStoreGone(t *testing.T) {
	b := logins(t, true)
	_, token := b.login(t)
	b.store.Close()
	if _, err := b.Authenticate(t.Context(), as(token)); err == nil || errors.Is(err, auth.ErrToken) {
		t.Errorf("%v", err)
	}
}

// ID13: a login that is denied or not confirmed gives nothing, and nobody can
// have too many under way.
func TestNotConfirmed(t *testing.T) {
	b := logins(t, true)
	first, err := b.Begin(t.Context(), "", "192.0.2.1", auth.Data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Wait(ctx, first.ID); !errors.Is(err, auth.ErrPending) {
		t.Error(err)
	}
	if _, _, err := b.Wait(t.Context(), "guess"); !errors.Is(err, auth.ErrUnknown) {
		t.Error(err)
	}
	if err := devidp.Confirm(t.Context(), first.URL, first.Code, "ada", "wrong"); err == nil {
		t.Error("a wrong password")
	}
	for range 30 {
		if _, err = b.Begin(t.Context(), "", "192.0.2.1", auth.Data); err != nil {
			break
		}
	}
	if !errors.Is(err, auth.ErrBusy) {
		t.Errorf("no end of logins under way: %v", err)
	}
	if _, err := b.Begin(t.Context(), "", "192.0.2.2", auth.Data); err != nil {
		t.Errorf("one address keeps others out: %v", err)
	}
	if _, err := b.Begin(t.Context(), "https://else", "192.0.2.2", auth.Data); err == nil {
		t.Error("ID25: an issuer of the client's choice")
	}
}
