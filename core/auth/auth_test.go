package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
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
	now := time.Unix(time.Now().Unix(), 0)
	a.now = func() time.Time { return now }
	good := func() map[string]any {
		return map[string]any{"iss": url, "sub": "ada", "aud": "taskgate", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "groups": []string{"task:x", "other", "dba"}}
	}
	with := func(kv ...any) map[string]any {
		c := good()
		for i := 0; i < len(kv); i += 2 {
			if c[kv[i].(string)] = kv[i+1]; kv[i+1] == nil {
				delete(c, kv[i].(string))
			}
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
		"good":                           {good(), true},
		"ID02 issuer":                    {with("iss", "https://else"), false},
		"ID02 issuer missing":            {with("iss", nil), false},
		"ID02 issuer with a slash":       {with("iss", url+"/"), false},
		"ID02 audience":                  {with("aud", "else"), false},
		"ID02 audience missing":          {with("aud", nil), false},
		"ID02 audience empty":            {with("aud", []string{}), false},
		"ID02 audience a list without":   {with("aud", []string{"else", "taskgate2"}), false},
		"ID02 audience a number":         {with("aud", 7), false},
		"ID02 audience in capitals":      {with("aud", "TASKGATE"), false},
		"ID02 audience a list of one":    {with("aud", []string{"taskgate"}), true},
		"ID02 several, no azp":           {with("aud", []string{"taskgate", "else"}), false},
		"ID02 several, azp":              {with("aud", []string{"taskgate", "else"}, "azp", "taskgate"), true},
		"ID02 several, another's azp":    {with("aud", []string{"taskgate", "else"}, "azp", "else"), false},
		"ID04 other client":              {with("azp", "else"), false},
		"ID04 other client, its aud":     {with("azp", "else", "aud", "else"), false},
		"ID02 azp a list":                {with("azp", []string{"taskgate"}), false},
		"ID03 expired":                   {with("exp", now.Add(-time.Second).Unix()), false},
		"ID03 ends now":                  {with("exp", now.Unix()), false},
		"ID03 ends in a second":          {with("exp", now.Add(time.Second).Unix()), true},
		"ID03 no exp":                    {with("exp", nil), false},
		"ID03 exp a text":                {with("exp", "tomorrow"), false},
		"ID03 exp beyond all numbers":    {with("exp", json.RawMessage("1e400")), false},
		"ID03 exp zero":                  {with("exp", 0), false},
		"ID03 no iat":                    {with("iat", nil), false},
		"ID03 future":                    {with("iat", now.Add(leeway+time.Second).Unix()), false},
		"ID03 future within the leeway":  {with("iat", now.Add(leeway).Unix()), true},
		"ID03 milliseconds":              {with("iat", now.UnixMilli()), false},
		"ID03 not before":                {with("nbf", now.Add(leeway+time.Second).Unix()), false},
		"ID03 within the leeway":         {with("nbf", now.Add(leeway).Unix()), true},
		"ID03 nbf a text":                {with("nbf", "now"), false},
		"ID05 groups missing":            {with("groups", nil), false},
		"ID05 groups null":               {with("groups", json.RawMessage("null")), false},
		"ID05 groups a text":             {with("groups", "task:x"), false},
		"ID05 groups an object":          {with("groups", map[string]bool{"task:x": true}), false},
		"ID05 groups with a number":      {with("groups", []any{"task:x", 7}), false},
		"ID05 groups with null":          {with("groups", []any{"task:x", nil}), false},
		"ID05 groups in a list":          {with("groups", []any{[]string{"task:x"}}), false},
		"ID05 groups too many":           {with("groups", many), false},
		"ID05 groups elsewhere":          {with("_claim_names", map[string]string{"groups": "src1"}), false},
		"ID05 groups elsewhere, no list": {with("_claim_names", map[string]string{"groups": "src1"}, "groups", nil, "_claim_sources", map[string]any{"src1": map[string]string{"endpoint": url}}), false},
		"ID05 a pointer of another kind": {with("_claim_names", "groups"), false},
		"ID06 group with NUL":            {with("groups", []string{"task:x\x00"}), false},
		"ID06 group with a line":         {with("groups", []string{"task:x\n"}), false},
		"ID06 group that runs backwards": {with("groups", []string{"task:\u202ex"}), false},
		"ID06 group that is not seen":    {with("groups", []string{"task:x\u200b"}), false},
		"ID06 group that is empty":       {with("groups", []string{""}), false},
		"ID06 group of a megabyte":       {with("groups", []string{strings.Repeat("x", 1<<20)}), false},
		"ID06 a list of a megabyte":      {with("groups", strings.Split(strings.Repeat("task:x ", 1<<17), " ")), false},
		"no subject":                     {with("sub", nil), false},
		"subject empty":                  {with("sub", ""), false},
		"subject a number":               {with("sub", 7), false},
		"subject with NUL":               {with("sub", "ada\x00eve"), false},
		"subject with a line":            {with("sub", "ada\nlogout of eve"), false},
		"an access token":                {with("token_use", "access"), false},
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
		"changed":   parts[0] + "." + enc([]byte(`{"iss":"`+url+`","sub":"eve","aud":"taskgate","exp":9999999999,"groups":["task:x"]}`)) + "." + parts[2],
		"empty":     "",
		"two parts": "a.b",
		"huge":      strings.Repeat("a", maxToken+1),
	} {
		if _, err := a.Authenticate(t.Context(), gate.Login{Secret: bad}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// ID05, ID06: groups that are there and give nothing, and names that mean
// nothing but themselves: no path, no pattern, no prefix of another.
func TestID06GroupNames(t *testing.T) {
	p, url, _ := provider(t)
	a := New([]Issuer{{URL: url, ClientID: "taskgate", MayAssert: []string{"task:*", "team/*", "*.dba"}}})
	for _, c := range []struct{ have, want []string }{
		{[]string{}, nil},
		{[]string{"other"}, nil},
		{[]string{"task:*", "task:../x", "task:a.b", "task:a:b", "team/a/b"}, []string{"task:*", "task:../x", "task:a.b", "task:a:b", "team/a/b"}},
		{[]string{"*", "task", "TASK:x", "task", " task:x", "team", "x.dba", "é"}, nil},
		{[]string{"*.dba"}, []string{"*.dba"}}, // a * at the end alone stands for anything
	} {
		raw, err := p.Token("ada", c.have)
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.Authenticate(t.Context(), gate.Login{Secret: raw})
		if err != nil || !slices.Equal(g.Groups, c.want) {
			t.Errorf("%q: %q %v", c.have, g.Groups, err)
		}
		gen := &gate.Generation{Resources: map[string]*gate.Resource{"r": {}}, Tasks: map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"r"}}}}
		if len(gen.Allowed(g.Groups)) != 0 || gen.Permits("x", "r", g.Groups) == nil {
			t.Errorf("%q gives the task x", c.have)
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
