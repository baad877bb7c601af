package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
)

func provider(t *testing.T) (*devidp.Provider, string, context.CancelFunc) {
	t.Helper()
	p := &devidp.Provider{ClientID: "taskgate"}
	l, url, err := p.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return p, url, func() { cancel(); done <- <-done }
}

func TestTokens(t *testing.T) {
	p, url, _ := provider(t)
	a := New([]Issuer{{URL: url, ClientID: "taskgate", MayAssert: []string{"task:*", "dba"}}})
	now := time.Now()
	good := func() map[string]any {
		return map[string]any{"iss": url, "sub": "ada", "aud": "taskgate", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "groups": []string{"task:x", "other", "dba"}}
	}
	with := func(k string, v any) map[string]any {
		c := good()
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
		return c
	}
	many := make([]string, maxGroups+1)
	for i := range many {
		many[i] = fmt.Sprint("task:", i)
	}
	for name, c := range map[string]struct {
		claims map[string]any
		ok     bool
	}{
		"good":                     {good(), true},
		"ID02 issuer":              {with("iss", "https://else"), false},
		"ID02 audience":            {with("aud", "else"), false},
		"ID02 audience missing":    {with("aud", nil), false},
		"ID04 other client":        {with("azp", "else"), false},
		"ID02 several, no azp":     {with("aud", []string{"taskgate", "else"}), false},
		"ID03 expired":             {with("exp", now.Add(-time.Second).Unix()), false},
		"ID03 no exp":              {with("exp", nil), false},
		"ID03 future":              {with("iat", now.Add(time.Hour).Unix()), false},
		"ID03 not before":          {with("nbf", now.Add(time.Hour).Unix()), false},
		"ID03 within the leeway":   {with("nbf", now.Add(10*time.Second).Unix()), true},
		"ID05 groups missing":      {with("groups", nil), false},
		"ID05 groups a text":       {with("groups", "task:x"), false},
		"ID05 groups too many":     {with("groups", many), false},
		"ID05 groups elsewhere":    {with("_claim_names", map[string]string{"groups": "src1"}), false},
		"ID06 group with NUL":      {with("groups", []string{"task:x\x00"}), false},
		"ID06 group of a megabyte": {with("groups", []string{strings.Repeat("x", 1<<20)}), false},
		"no subject":               {with("sub", nil), false},
		"subject a number":         {with("sub", 7), false},
		"an access token":          {with("token_use", "access"), false},
	} {
		raw, err := p.Sign(c.claims)
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.Authenticate(t.Context(), gate.Login{Secret: raw})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), raw[len(raw)-20:]) {
			t.Errorf("ID11 %s: the token is in the error", name)
		}
		if c.ok && (g.Subject != "ada" || len(g.Groups) != 2 || !g.Expires.After(now)) {
			t.Errorf("ID27 %s: %+v", name, g)
		}
	}
	raw, _ := p.Sign(good())
	parts := strings.Split(raw, ".")
	enc := base64.RawURLEncoding.EncodeToString
	for name, bad := range map[string]string{
		"ID01 alg none":    enc([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"ID01 alg HS256":   enc([]byte(`{"alg":"HS256","kid":"dev"}`)) + "." + parts[1] + "." + parts[2],
		"ID01 another kid": enc([]byte(`{"alg":"ES256","kid":"../dev"}`)) + "." + parts[1] + "." + parts[2],
		"changed":          parts[0] + "." + enc([]byte(`{"iss":"`+url+`","sub":"eve","aud":"taskgate","exp":9999999999,"groups":["task:x"]}`)) + "." + parts[2],
		"empty":            "",
		"two parts":        "a.b",
		"huge":             strings.Repeat("a", maxToken+1),
	} {
		if _, err := a.Authenticate(t.Context(), gate.Login{Secret: bad}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// ID07: without its issuer a token is taken for as long as the keys are fresh
// enough, and then no more; an issuer that was never reached gives nothing.
func TestID07IssuerDown(t *testing.T) {
	p, url, stop := provider(t)
	a := New([]Issuer{{URL: url, ClientID: "taskgate", MayAssert: []string{"*"}}})
	p.Lifetime = 24 * time.Hour
	raw, err := p.Token("ada", []string{"task:x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err != nil {
		t.Fatal(err)
	}
	stop()
	at := time.Now()
	a.now = func() time.Time { return at }
	at = at.Add(keysEvery + time.Minute)
	if _, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err != nil {
		t.Errorf("with keys that are fresh enough: %v", err)
	}
	at = at.Add(keysOld)
	if _, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err == nil {
		t.Error("keys of long ago are trusted")
	}
	if _, err := New([]Issuer{{URL: url, ClientID: "taskgate"}}).Authenticate(t.Context(), gate.Login{Secret: raw}); err == nil {
		t.Error("an issuer that was never reached")
	}
}

func TestLoopbackOnly(t *testing.T) {
	p := &devidp.Provider{}
	if _, _, err := p.Listen("0.0.0.0:0"); err == nil {
		t.Error("the development provider listens everywhere")
	}
}
