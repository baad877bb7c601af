package auth_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/gate"
)

// AP23: a control token comes of a fresh login, decides for a quarter of an hour,
// and is good for nothing else.
func TestAP23ControlTokens(t *testing.T) {
	for name, c := range map[string]struct {
		shown   any // auth_time, in seconds before now; nil is none
		control bool
		data    bool
	}{
		"just now":        {0.0, true, true},
		"a while ago":     {890.0, true, true},
		"the limit":       {900.0, true, true},
		"too long ago":    {902.0, false, true},
		"yesterday":       {86400.0, false, true},
		"not said":        {nil, true, true},
		"no number":       {"now", false, false},
		"not known":       {-1.0, true, true}, // written as 0
		"years ago, in 1": {1e9, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := auth.NewScripted(t)
			at := time.Now().Truncate(time.Second)
			l := scriptedLogins(t, s, &at)
			s.Answer = func(path string, form url.Values) (int, any) {
				if path == "/device" {
					return 200, device(s, 60)
				}
				claims := s.Claims(at, "task:x")
				switch shown := c.shown.(type) {
				case float64:
					claims["auth_time"] = at.Unix() - int64(shown)
					if shown < 0 {
						claims["auth_time"] = 0
					}
				case string:
					claims["auth_time"] = shown
				}
				return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, claims), "r")
			}
			login := func(purpose auth.Audience) (string, error) {
				d, err := l.Begin(t.Context(), "", "192.0.2.1", purpose)
				if err != nil {
					t.Fatal(err)
				}
				_, token, err := l.Wait(t.Context(), d.ID)
				return token, err
			}
			if _, err := login(auth.Data); (err == nil) != c.data {
				t.Errorf("to connect: %v", err)
			}
			token, err := login(auth.Control)
			if (err == nil) != c.control || err != nil && c.data && !errors.Is(err, auth.ErrStale) {
				t.Fatalf("to decide: %v", err)
			}
			if err != nil {
				return
			}
			k, r, err := l.Lookup(t.Context(), token, "192.0.2.1")
			if err != nil || k.Audience != auth.Control || !k.Expires.Equal(at.Add(15*time.Minute)) {
				t.Fatalf("%+v %v", k, err)
			}
			g, err := l.Authenticate(t.Context(), as(token))
			if d := new(gate.Denied); !errors.As(err, &d) || d.Reason.Code != "auth.audience" || g.Login != "" || len(g.Groups) != 0 {
				t.Errorf("it connects: %+v %v", g, err)
			}
			if narrow, _, err := l.Narrow(t.Context(), token, "192.0.2.1", "x", "r", time.Minute, nil); err == nil {
				t.Errorf("it makes others: %q", narrow)
			}
			at = at.Add(15 * time.Minute)
			if _, _, err := l.Lookup(t.Context(), token, "192.0.2.1"); !errors.Is(err, auth.ErrToken) {
				t.Errorf("it is good for longer: %v", err)
			}
			// What its person may can still be found out, when what they approved is released.
			if groups, err := l.Groups(t.Context(), r.Issuer, r.Subject); err != nil || !slices.Equal(groups, []string{"task:x"}) {
				t.Errorf("%v %v", groups, err)
			}
			if _, err := l.Groups(t.Context(), r.Issuer, "bob"); !errors.Is(err, auth.ErrToken) {
				t.Errorf("of nobody: %v", err)
			}
		})
	}
}

// A data token, narrow or not, has no other audience than its own.
func TestAP23NarrowTokensDoNotDecide(t *testing.T) {
	b := logins(t, false)
	_, token := b.login(t)
	narrow, _, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{token, narrow} {
		if got, _, err := b.Lookup(t.Context(), k, "192.0.2.1"); err != nil || got.Audience != auth.Data {
			t.Errorf("%+v %v", got, err)
		}
	}
}

// The browser's provider is asked to ask again whom it has not for so long.
func TestAP23BrowserAsksAgain(t *testing.T) {
	s := auth.NewScripted(t)
	at := time.Now()
	l := scriptedLogins(t, s, &at)
	for purpose, want := range map[auth.Audience]string{auth.Control: "900", auth.Data: ""} {
		b, err := l.BeginBrowser(t.Context(), "", "192.0.2.1", "http://127.0.0.1:8250/callback", purpose)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(b.URL)
		if err != nil || u.Query().Get("max_age") != want {
			t.Errorf("%q: %s %v", purpose, b.URL, err)
		}
		s.Answer = func(string, url.Values) (int, any) {
			c := s.Claims(at, "task:x")
			c["nonce"] = u.Query().Get("nonce")
			c["auth_time"] = at.Add(-time.Hour).Unix()
			return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r")
		}
		if _, _, err := l.Redeem(t.Context(), b.ID, u.Query().Get("state"), "good"); (purpose == auth.Control) != errors.Is(err, auth.ErrStale) {
			t.Errorf("%q: %v", purpose, err)
		}
	}
}

// AP03: before something is released the groups are those of now, or there are
// none. Whoever asks beside it uses the same answer: the refresh token is good once.
func TestAP03Anew(t *testing.T) {
	s := auth.NewScripted(t)
	at := time.Now()
	l := scriptedLogins(t, s, &at)
	turn, groups, silent := 0, []string{"task:x"}, false
	s.Answer = func(path string, form url.Values) (int, any) {
		switch {
		case path == "/device":
			return 200, device(s, 60)
		case silent:
			return 503, "later"
		case form.Get("grant_type") == "refresh_token" && form.Get("refresh_token") != fmt.Sprint("r", turn):
			return 400, refusal("invalid_grant")
		}
		turn++
		at := at.Add(time.Duration(turn) * time.Second / 10)
		return 200, idToken(s.Token(at, groups...), fmt.Sprint("r", turn))
	}
	d, err := l.Begin(t.Context(), "", "192.0.2.1", auth.Data)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := l.Wait(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(func() { groups = []string{"task:y"} })
	if got, err := l.Current(t.Context(), r.ID); err != nil || !slices.Equal(got.Groups, []string{"task:x"}) {
		t.Errorf("fresh enough: %v %v", got, err)
	}
	if got, err := l.Anew(t.Context(), r.ID); err != nil || !slices.Equal(got.Groups, []string{"task:y"}) {
		t.Errorf("anew: %v %v", got, err)
	}
	at = at.Add(auth.GroupsFresh + time.Minute)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			f := l.Current
			if i%2 == 0 {
				f = l.Anew
			}
			if got, err := f(t.Context(), r.ID); err != nil || !slices.Equal(got.Groups, []string{"task:y"}) {
				t.Errorf("%v %v", got, err)
			}
		})
	}
	wg.Wait()
	s.Set(func() { silent = true })
	if got, err := l.Anew(t.Context(), r.ID); err == nil || errors.Is(err, auth.ErrToken) || !strings.Contains(err.Error(), "could not be asked") {
		t.Errorf("nobody has said so: %+v %v", got, err)
	}
	at = at.Add(auth.GroupsFresh + time.Minute)
	if got, err := l.Current(t.Context(), r.ID); err != nil || !slices.Equal(got.Groups, []string{"task:y"}) {
		t.Errorf("for a while it stands: %v %v", got, err)
	}
	if _, err := l.Groups(t.Context(), r.Issuer, r.Subject); err == nil {
		t.Error("whoever cannot be confirmed has groups")
	}
}

// AP03: a login that nobody can be asked of does not stand in for one that the
// provider has withdrawn.
func TestAP03GroupsOfSeveralLogins(t *testing.T) {
	s := auth.NewScripted(t)
	at := time.Now().Truncate(time.Second)
	l := scriptedLogins(t, s, &at)
	refresh, withdrawn := "", false
	s.Answer = func(path string, form url.Values) (int, any) {
		switch {
		case path == "/device":
			return 200, device(s, 60)
		case form.Get("grant_type") == "refresh_token" && withdrawn:
			return 400, refusal("invalid_grant")
		}
		return 200, idToken(s.Token(at, "task:x"), refresh)
	}
	login := func(with string) {
		t.Helper()
		s.Set(func() { refresh = with })
		d, err := l.Begin(t.Context(), "", "192.0.2.1", auth.Data)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Wait(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
	}
	login("")
	if groups, err := l.Groups(t.Context(), s.URL, "ada"); err != nil || len(groups) != 1 {
		t.Errorf("%v %v", groups, err)
	}
	login("r")
	s.Set(func() { withdrawn = true })
	if groups, err := l.Groups(t.Context(), s.URL, "ada"); !errors.Is(err, auth.ErrToken) {
		t.Errorf("%v %v", groups, err)
	}
}

func TestRoles(t *testing.T) {
	a := auth.New([]auth.Issuer{{URL: "https://one", Roles: map[string][]string{"approver": {"dba"}}}, {URL: "https://two", People: "partner"}})
	for _, c := range []struct {
		url, role string
		groups    []string
		has       bool
	}{{"https://one", "approver", []string{"x", "dba"}, true}, {"https://one", "approver", []string{"x"}, false}, {"https://one", "approver", nil, false}, {"https://one", "operator", []string{"dba"}, false},
		{"https://two", "approver", []string{"dba"}, false}, {"https://none", "approver", []string{"dba"}, false}} {
		if a.Has(c.url, c.role, c.groups) != c.has {
			t.Errorf("%+v", c)
		}
	}
	if a.Directory("https://one") != "" || a.Directory("https://two") != "partner" || a.Directory("https://none") != "" {
		t.Error("people")
	}
}
