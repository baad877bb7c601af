package auth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/taskgate/taskgate/core/auth"
)

// ID18: a browser is sent back to its own host and to no other.
func TestID18Redirect(t *testing.T) {
	s := auth.NewScripted(t)
	at := time.Now()
	l := scriptedLogins(t, s, &at)
	for redirect, ok := range map[string]bool{
		"http://127.0.0.1:8250/callback": true, "http://[::1]:8250/callback": true,
		"": false, "http://127.0.0.1/callback": false, "http://127.0.0.1:0/callback": false, "https://127.0.0.1:8250/callback": false,
		"http://localhost:8250/callback": false, "http://127.0.0.1.evil.example:8250/callback": false, "http://evil.example:8250/callback": false,
		"http://127.0.0.1:8250@evil.example/callback": false, "http://evil.example@127.0.0.1:8250/callback": false, "http://127.0.0.1:8250/callback/../x": false,
		"http://127.0.0.1:8250/callback?x=1": false, "http://127.0.0.1:8250/callback#x": false, "http://127.0.0.1:8250/": false, "http://192.0.2.1:8250/callback": false,
		"http://0.0.0.0:8250/callback": false, "http://[::]:8250/callback": false, "http://127.0.0.1:8250\\@evil.example/callback": false, "//127.0.0.1:8250/callback": false,
		"http://0x7f.1:8250/callback": false, "http://127.0.0.1:08250/callback": false, "HTTP://127.0.0.1:8250/callback": false, " http://127.0.0.1:8250/callback": false,
	} {
		b, err := l.BeginBrowser(t.Context(), "", redirect, redirect, auth.Data)
		if (err == nil) != ok || !ok && !errors.Is(err, auth.ErrRedirect) {
			t.Errorf("%q: %v", redirect, err)
		}
		if b != nil {
			if u, err := url.Parse(b.URL); err != nil || u.Query().Get("redirect_uri") != redirect || !strings.HasPrefix(b.URL, s.URL+"/auth?") {
				t.Errorf("%q: %s", redirect, b.URL)
			}
		}
	}
	if _, err := l.BeginBrowser(t.Context(), "https://else.example", "192.0.2.1", "http://127.0.0.1:8250/callback", auth.Data); !errors.Is(err, auth.ErrIssuer) {
		t.Errorf("ID25: an issuer of the client's choice: %v", err)
	}
}

// ID18: the answer is bound to the login that it is for: by state, by nonce, by
// the verifier that only the gateway has; and it counts once.
func TestID18Bound(t *testing.T) {
	s := auth.NewScripted(t)
	at := time.Now()
	l := scriptedLogins(t, s, &at)
	var mu sync.Mutex
	nonce, asked := "", url.Values(nil)
	s.Answer = func(_ string, form url.Values) (int, any) {
		mu.Lock()
		defer mu.Unlock()
		asked = form
		if form.Get("code") != "good" {
			return 400, refusal("invalid_grant")
		}
		c := s.Claims(at, "task:x")
		if c["nonce"] = nonce; nonce == "" {
			delete(c, "nonce")
		}
		return 200, idToken(auth.Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c), "r")
	}
	begin := func() (*auth.Browser, url.Values) {
		t.Helper()
		b, err := l.BeginBrowser(t.Context(), "", "192.0.2.1", "http://127.0.0.1:8250/callback", auth.Data)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(b.URL)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		nonce = u.Query().Get("nonce")
		return b, u.Query()
	}
	seen := map[string]bool{}
	b, q := begin()
	r, token, err := l.Redeem(t.Context(), b.ID, q.Get("state"), "good")
	if err != nil || r.Subject != "ada" || token == "" {
		t.Fatal(r, err)
	}
	mu.Lock()
	sum := sha256.Sum256([]byte(asked.Get("code_verifier")))
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || asked.Get("redirect_uri") != "http://127.0.0.1:8250/callback" || q.Get("response_type") != "code" {
		t.Errorf("PKCE: %v %v", q, asked)
	}
	if strings.Contains(b.URL, asked.Get("code_verifier")) {
		t.Error("the verifier went through the browser")
	}
	mu.Unlock()
	if _, _, err := l.Redeem(t.Context(), b.ID, q.Get("state"), "good"); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	for _, k := range []string{"state", "nonce", "code_challenge"} {
		seen[q.Get(k)] = true
	}
	for name, c := range map[string]struct {
		state, code string // S is the login's own
		change      func()
		want        string
	}{
		"another state":       {"x", "good", nil, "state"},
		"no state":            {"", "good", nil, "state"},
		"the state of before": {q.Get("state"), "good", nil, "state"},
		"no code":             {"S", "", nil, "state"},
		"another code":        {"S", "bad", nil, "invalid_grant"},
		"another nonce":       {"S", "good", func() { nonce = q.Get("nonce") }, "nonce"},
		"no nonce":            {"S", "good", func() { nonce = "" }, "nonce"},
	} {
		b, q := begin()
		for _, k := range []string{"state", "nonce", "code_challenge"} {
			if len(q.Get(k)) < 20 || seen[q.Get(k)] {
				t.Errorf("%s: %s %q", name, k, q.Get(k))
			}
			seen[q.Get(k)] = true
		}
		if c.change != nil {
			mu.Lock()
			c.change()
			mu.Unlock()
		}
		if _, token, err := l.Redeem(t.Context(), b.ID, strings.Replace(c.state, "S", q.Get("state"), 1), c.code); err == nil || !strings.Contains(err.Error(), c.want) || token != "" {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := l.Redeem(t.Context(), b.ID, q.Get("state"), "good"); !errors.Is(err, auth.ErrUnknown) {
			t.Errorf("%s: a second try: %v", name, err)
		}
	}
	// ID15: of all who have a code, one gets the token; who waits as for a device gets none.
	b, q = begin()
	if _, _, err := l.Wait(t.Context(), b.ID); !errors.Is(err, auth.ErrUnknown) {
		t.Error(err)
	}
	var wg sync.WaitGroup
	got := 0
	for range 8 {
		wg.Go(func() {
			_, _, err := l.Redeem(t.Context(), b.ID, q.Get("state"), "good")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got++
			}
		})
	}
	wg.Wait()
	if got != 1 {
		t.Errorf("%d got it", got)
	}
}
