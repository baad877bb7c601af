package auth_test

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// scriptedLogins are logins at a scripted provider, with a clock.
func scriptedLogins(t *testing.T, s *auth.Scripted, at *time.Time) *auth.Logins {
	t.Helper()
	dir := t.TempDir()
	rows, err := store.Open(t.Context(), filepath.Join(dir, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New([]auth.Issuer{{URL: s.URL, ClientID: "taskgate", MayAssert: []string{"task:*"}}})
	a.SetClock(func() time.Time { return *at })
	l, err := auth.NewLogins(a, rows, filepath.Join(dir, "seal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); rows.Close() })
	return l
}

// device is what the Scripted provider says to who begins a login.
func device(s *auth.Scripted, seconds int) map[string]any {
	return map[string]any{"device_code": "d", "user_code": "ABCD", "verification_uri": s.URL + "/page", "expires_in": seconds, "interval": 1}
}

func refusal(code string) map[string]any { return map[string]any{"error": code} }

func idToken(raw, refresh string) map[string]any {
	return map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": raw, "refresh_token": refresh, "expires_in": 60}
}

// ID13: what a provider may answer to who waits for a login.
func TestID13Answers(t *testing.T) {
	at := time.Now()
	with := func(change func(map[string]any)) func(*auth.Scripted) any {
		return func(s *auth.Scripted) any {
			c := s.Claims(at, "task:x")
			change(c)
			return idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r")
		}
	}
	good := with(func(map[string]any) {})
	just := func(a any) func(*auth.Scripted) any { return func(*auth.Scripted) any { return a } }
	pending, slow := just(refusal("authorization_pending")), just(refusal("slow_down"))
	for name, c := range map[string]struct {
		answers []func(*auth.Scripted) any // the last one again and again
		seconds int
		want    string // the subject, or part of the error
	}{
		"confirmed":            {[]func(*auth.Scripted) any{pending, good}, 60, "ada"},
		"slow down, confirmed": {[]func(*auth.Scripted) any{slow, good}, 60, "ada"},
		"denied":               {[]func(*auth.Scripted) any{pending, just(refusal("access_denied")), good}, 60, "refused: access_denied"},
		"expired there":        {[]func(*auth.Scripted) any{just(refusal("expired_token")), good}, 60, "refused: expired_token"},
		"expired here":         {[]func(*auth.Scripted) any{pending}, 2, "not confirmed in time"},
		"no ID token":          {[]func(*auth.Scripted) any{just(idToken("", "r"))}, 60, "no ID token"},
		"of another client":    {[]func(*auth.Scripted) any{with(func(c map[string]any) { c["aud"] = "else" })}, 60, "audience"},
		"without groups":       {[]func(*auth.Scripted) any{with(func(c map[string]any) { delete(c, "groups") })}, 60, "no task"},
		"a page":               {[]func(*auth.Scripted) any{just("<html>")}, 60, "did not answer"},
		"an unknown refusal":   {[]func(*auth.Scripted) any{just(refusal("teapot"))}, 60, "refused: teapot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := auth.NewScripted(t)
			answers := c.answers
			s.Answer = func(path string, form url.Values) (int, any) {
				if path == "/device" {
					return 200, device(s, c.seconds)
				}
				if form.Get("device_code") != "d" || form.Get("client_id") != "taskgate" {
					return 400, refusal("invalid_request")
				}
				a := answers[0](s)
				if len(answers) > 1 {
					answers = answers[1:]
				}
				if m, ok := a.(map[string]any); ok && m["error"] != nil {
					return 400, a
				}
				return 200, a
			}
			l := scriptedLogins(t, s, &at)
			d, err := l.Begin(t.Context(), s.URL, "192.0.2.1", auth.Data)
			if err != nil {
				t.Fatal(err)
			}
			r, token, err := l.Wait(t.Context(), d.ID)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || token != "" || r != nil {
					t.Errorf("%v %q %v", r, token, err)
				}
				return
			}
			if r.Subject != c.want || token == "" {
				t.Errorf("%+v %q", r, token)
			}
		})
	}
}

// ID08, ID19: what a provider answers to who asks for the groups again. Nothing
// but a newer answer changes them, and none but a newer one can add to them.
func TestID19Refreshes(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(s *auth.Scripted, at time.Time) (int, any)
		want   string // the groups, or a part of the error after "over: "
	}{
		"fewer": {func(s *auth.Scripted, at time.Time) (int, any) { return 200, idToken(s.Token(at), "r2") }, ""},
		"more": {func(s *auth.Scripted, at time.Time) (int, any) {
			return 200, idToken(s.Token(at, "task:x", "task:y"), "r2")
		}, "task:x task:y"},
		"ID19 older, with more": {func(s *auth.Scripted, at time.Time) (int, any) {
			return 200, idToken(s.Token(at.Add(-50*time.Minute), "task:x", "task:y", "task:z"), "r2")
		}, "task:x"},
		"ID08 no groups": {func(s *auth.Scripted, at time.Time) (int, any) {
			c := s.Claims(at)
			delete(c, "groups")
			return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r2")
		}, "over: claim \"groups\" is missing"},
		"groups a text": {func(s *auth.Scripted, at time.Time) (int, any) {
			c := s.Claims(at)
			c["groups"] = "task:x"
			return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r2")
		}, "over: no list of texts"},
		"another subject": {func(s *auth.Scripted, at time.Time) (int, any) {
			c := s.Claims(at, "task:x")
			c["sub"] = "eve"
			return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r2")
		}, "over: another subject"},
		"expired": {func(s *auth.Scripted, at time.Time) (int, any) {
			return 200, idToken(s.Token(at.Add(-2*time.Hour), "task:x"), "r2")
		}, "over: expired"},
		"no ID token":             {func(*auth.Scripted, time.Time) (int, any) { return 200, idToken("", "r2") }, "over: no ID token"},
		"withdrawn":               {func(*auth.Scripted, time.Time) (int, any) { return 400, refusal("invalid_grant") }, "over: withdrawn"},
		"as Dex says it":          {func(*auth.Scripted, time.Time) (int, any) { return 400, refusal("invalid_request") }, "over: withdrawn"},
		"login again":             {func(*auth.Scripted, time.Time) (int, any) { return 403, refusal("login_required") }, "over: withdrawn"},
		"our secret is not right": {func(*auth.Scripted, time.Time) (int, any) { return 401, refusal("invalid_client") }, "task:x"},
		"out of order":            {func(*auth.Scripted, time.Time) (int, any) { return 500, "hunter2" }, "task:x"},
		"asked too much":          {func(*auth.Scripted, time.Time) (int, any) { return 429, refusal("slow_down") }, "task:x"},
		"a page":                  {func(*auth.Scripted, time.Time) (int, any) { return 200, "<html>" }, "task:x"},
		"a new key": {func(s *auth.Scripted, at time.Time) (int, any) { // the keys were asked for a moment ago: later will do
			return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "third"}, s.Claims(at, "task:y")), "r2")
		}, "task:x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := auth.NewScripted(t)
			at := time.Now()
			l := scriptedLogins(t, s, &at)
			had := []string{}
			s.Answer = func(path string, form url.Values) (int, any) {
				switch {
				case path == "/device":
					return 200, device(s, 60)
				case form.Get("grant_type") != "refresh_token":
					return 200, idToken(s.Token(at, "task:x"), "r1")
				}
				had = append(had, form.Get("refresh_token"))
				return c.answer(s, at)
			}
			d, err := l.Begin(t.Context(), "", "192.0.2.1", auth.Data)
			if err != nil {
				t.Fatal(err)
			}
			_, token, err := l.Wait(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			ask := func() string {
				g, err := l.Authenticate(t.Context(), gate.Login{Task: "x", Resource: "r", Secret: token})
				if errors.Is(err, auth.ErrToken) {
					return "over: " + err.Error()
				} else if err != nil {
					return err.Error()
				}
				return strings.Join(g.Groups, " ")
			}
			at = at.Add(auth.GroupsFresh + time.Second)
			got := ask()
			if over, is := strings.CutPrefix(c.want, "over: "); is && (!strings.HasPrefix(got, "over: ") || !strings.Contains(got, over)) || !is && got != c.want {
				t.Errorf("%q, not %q", got, c.want)
			}
			if strings.HasPrefix(c.want, "over: ") { // ended for good, whatever the provider says then
				s.Set(func() {
					s.Answer = func(string, url.Values) (int, any) { return 200, idToken(s.Token(at, "task:x"), "r3") }
				})
				if again := ask(); !strings.HasPrefix(again, "over: ") {
					t.Errorf("it came back: %q", again)
				}
				return
			}
			at = at.Add(auth.SilentWait + auth.GroupsFresh)
			_ = ask()
			if fmt.Sprint(had) != "[r1 r1]" && fmt.Sprint(had) != "[r1 r2]" {
				t.Errorf("refresh tokens: %v", had)
			}
			if name == "a new key" && had[1] != "r2" {
				t.Errorf("the new refresh token was lost: %v", had)
			}
			if strings.HasPrefix(name, "ID19") || strings.Contains("out of order asked too much a page our secret is not right", name) {
				at = at.Add(auth.GroupsOld)
				if got := ask(); got == c.want || strings.Contains(got, "hunter2") {
					t.Errorf("groups of long ago count: %q", got)
				}
			}
		})
	}
}
