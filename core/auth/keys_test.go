package auth

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/go-jose/go-jose/v4"

	"github.com/taskgate/taskgate/core/gate"
)

func authority(s *Scripted, at *time.Time) *Authority {
	a := New([]Issuer{{URL: s.URL, ClientID: "taskgate", MayAssert: []string{"task:*"}}})
	a.now = func() time.Time { return *at }
	return a
}

// ID01: a token is checked with a key of its issuer and in no other way. The
// forgeries are real ones: each is signed, with what its forger has.
func TestID01Forgeries(t *testing.T) {
	s := NewScripted(t)
	at := time.Now()
	a := authority(s, &at)
	eve := NewScripted(t)
	claims := s.Claims(at, "task:x")
	der, err := x509.MarshalPKIXPublicKey(s.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	own := jose.JSONWebKey{Key: eve.Key.Public(), KeyID: "first", Algorithm: "RS256"}
	body := strings.Split(s.Token(at, "task:x"), ".")[1]
	enc := base64.RawURLEncoding.EncodeToString
	kid := func(k any) map[string]any { return map[string]any{"kid": k} }
	with := func(h map[string]any, k string, v any) map[string]any { h[k] = v; return h }
	for name, raw := range map[string]string{
		"alg none":                            enc([]byte(`{"alg":"none"}`)) + "." + body + ".",
		"alg None, with a key id":             enc([]byte(`{"alg":"None","kid":"first"}`)) + "." + body + "." + enc([]byte("x")),
		"HS256 with the PEM of the RSA key":   Sign(jose.HS256, public, kid("first"), claims),
		"HS256 with the DER of the RSA key":   Sign(jose.HS256, der, kid("first"), claims),
		"HS512 with the modulus":              Sign(jose.HS512, s.Key.N.Bytes(), kid("first"), claims),
		"another's key under the right id":    Sign(jose.RS256, eve.Key, kid("first"), claims),
		"another's key without an id":         Sign(jose.RS256, eve.Key, nil, claims),
		"another's key, id is a path":         Sign(jose.RS256, eve.Key, kid("../../keys"), claims),
		"another's key, id is a URL":          Sign(jose.RS256, eve.Key, kid(eve.URL+"/keys"), claims),
		"another's key by jku":                Sign(jose.RS256, eve.Key, with(kid("first"), "jku", eve.URL+"/keys"), claims),
		"another's key by x5u":                Sign(jose.RS256, eve.Key, with(kid("first"), "x5u", eve.URL+"/keys"), claims),
		"another's key by jwk":                Sign(jose.RS256, eve.Key, with(kid("first"), "jwk", own), claims),
		"the right key and a jku":             Sign(jose.RS256, s.Key, with(kid("first"), "jku", s.URL+"/keys"), claims),
		"the right key and an x5u":            Sign(jose.RS256, s.Key, with(kid("first"), "x5u", s.URL+"/keys"), claims),
		"the right key and an x5c":            Sign(jose.RS256, s.Key, with(kid("first"), "x5c", []string{enc(der)}), claims),
		"the right key, critical header":      Sign(jose.RS256, s.Key, map[string]any{"kid": "first", "crit": []string{"x"}, "x": 1}, claims),
		"the right key, another algorithm":    Sign(jose.PS256, s.Key, kid("first"), claims), // the key says RS256
		"the right key, id is a number":       Sign(jose.RS256, s.Key, kid(7), claims),
		"JSON serialisation, two signatures":  `{"payload":"` + body + `","signatures":[]}`,
		"the right token with one more part":  s.Token(at, "task:x") + ".",
		"the right token, signature cut off":  strings.Join(strings.Split(s.Token(at, "task:x"), ".")[:2], ".") + ".",
		"the right token behind white space":  " " + s.Token(at, "task:x"),
		"encrypted, five parts":               strings.Repeat(body+".", 4) + body,
		"header is no object":                 enc([]byte(`[]`)) + "." + body + ".x",
		"nested a thousand deep":              enc([]byte(strings.Repeat("[", 5000))) + "." + body + ".x",
		"right issuer last, another's before": Sign(jose.RS256, eve.Key, kid("first"), map[string]any{"ISS": eve.URL, "iss": s.URL, "aud": "taskgate", "sub": "ada"}),
	} {
		if g, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err == nil {
			t.Errorf("%s: taken as %+v", name, g)
		} else if len(raw) > 100 && strings.Contains(err.Error(), raw[len(raw)-40:]) {
			t.Errorf("ID11 %s: the token is in the error", name)
		}
	}
	if n := eve.fetches(); n != 0 {
		t.Errorf("ID25: the forger was asked for keys %d times", n)
	}
	for name, raw := range map[string]string{"right": s.Token(at, "task:x"), "right, no key id": Sign(jose.RS256, s.Key, nil, claims)} {
		if _, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ID07: keys come and go. Whoever makes up key ids or signatures has the issuer
// asked once in a while, and keeps nobody out.
func TestID07KeysRotate(t *testing.T) {
	s := NewScripted(t)
	at := time.Now()
	a := authority(s, &at)
	next, eve := newKey(t), newKey(t)
	old := s.Token(at, "task:x")
	fresh := Sign(jose.RS256, next, map[string]any{"kid": "second"}, s.Claims(at, "task:x"))
	take := func(what, raw string, want bool) {
		t.Helper()
		if _, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	take("the first key", old, true)
	take("a key that is not there yet", fresh, false)
	junk := func() {
		for i := range 30 {
			take("junk", Sign(jose.RS256, eve, map[string]any{"kid": fmt.Sprint("junk", i)}, s.Claims(at)), false)
			take("junk under a right id", Sign(jose.RS256, eve, map[string]any{"kid": "first"}, s.Claims(at)), false)
			take("junk without an id", Sign(jose.RS256, eve, nil, s.Claims(at)), false)
		}
	}
	before := s.fetches()
	junk()
	if n := s.fetches() - before; n != 0 {
		t.Errorf("junk had the issuer asked %d times in a moment", n)
	}
	s.Set(func() {
		s.keys = append(s.keys, oidctest.PublicKey{PublicKey: next.Public(), KeyID: "second", Algorithm: "RS256"})
	})
	at = at.Add(unknownWait)
	junk() // it is first in turn, and that helps who comes next
	if n := s.fetches() - before; n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	take("the new key", fresh, true)
	take("the first key beside it", old, true)
	s.Set(func() { s.keys = s.keys[1:] })
	at = at.Add(keysEvery + time.Second)
	take("a key that is gone", old, false)
	take("the new key alone", fresh, true)
}

// ID07: keys that cannot be had anew count for a while, and then no more. It is
// no matter which part of the issuer is down.
func TestID07KeysDown(t *testing.T) {
	for _, path := range []string{"/keys", "/.well-known/openid-configuration"} {
		s := NewScripted(t)
		at := time.Now()
		a := authority(s, &at)
		claims := s.Claims(at, "task:x")
		claims["exp"] = at.Add(10 * time.Hour).Unix()
		raw := Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, claims)
		try := func() error {
			_, err := a.Authenticate(t.Context(), gate.Login{Secret: raw})
			return err
		}
		if err := try(); err != nil {
			t.Fatal(err)
		}
		s.Set(func() { s.broken = path })
		at = at.Add(keysEvery + time.Second)
		if err := try(); err != nil {
			t.Errorf("%s: fresh enough: %v", path, err)
		}
		at = at.Add(keysOld)
		if try() == nil {
			t.Errorf("%s: keys of long ago are trusted", path)
		}
		s.Set(func() { s.broken = "" })
		at = at.Add(failedWait)
		if err := try(); err != nil {
			t.Errorf("%s: up again: %v", path, err)
		}
	}
}

// A key set may hold what cannot be used: keys for encryption, shared secrets,
// kinds of a later day.
func TestKeySet(t *testing.T) {
	s := NewScripted(t)
	at := time.Now()
	for name, c := range map[string]struct {
		keys string
		ok   bool
	}{
		"strange keys beside": {`{"keys":[{"kty":"QUANTUM","kid":"first"},7,{"kty":"oct","kid":"first","k":"c2VjcmV0"},KEY]}`, true},
		"a shared secret":     {`{"keys":[{"kty":"oct","kid":"first","k":"c2VjcmV0"}]}`, false},
		"none":                {`{"keys":[]}`, false},
		"for encryption":      {`{"keys":[ENC]}`, false},
		"a page":              {`<html>`, false},
		"huge":                {`{"keys":[KEY],"x":"` + strings.Repeat("x", maxKeys) + `"}`, false},
	} {
		key, err := json.Marshal(jose.JSONWebKey{Key: s.Key.Public(), KeyID: "first", Algorithm: "RS256", Use: "sig"})
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("KEY", string(key), "ENC", strings.Replace(string(key), `"sig"`, `"enc"`, 1)).Replace(c.keys)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_, _ = w.Write([]byte(text))
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": "http://" + r.Host, "jwks_uri": "http://" + r.Host + "/keys"})
		}))
		claims := s.Claims(at, "task:x")
		claims["iss"] = front.URL
		raw := Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, claims)
		_, err = New([]Issuer{{URL: front.URL, ClientID: "taskgate"}}).Authenticate(t.Context(), gate.Login{Secret: raw})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		front.Close()
	}
}

// ID25: an issuer with TLS is not left for an address without.
func TestID25NoWayOutOfTLS(t *testing.T) {
	var front *httptest.Server
	front = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": front.URL, "jwks_uri": front.URL + "/keys", "token_endpoint": "http://idp.example/token"})
	}))
	defer front.Close()
	away := httptest.NewTLSServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer away.Close()
	for url, want := range map[string]string{front.URL: "without TLS", away.URL: "redirect"} {
		a := New([]Issuer{{URL: url, ClientID: "taskgate"}})
		a.issuers[url].client.Transport = front.Client().Transport
		if _, err := a.issuers[url].oauth(t.Context(), time.Now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// ID27: an issuer says who its own subjects are, in the groups that it may name.
func TestID27SecondIssuer(t *testing.T) {
	one, two := NewScripted(t), NewScripted(t)
	a := New([]Issuer{{URL: one.URL, ClientID: "taskgate", MayAssert: []string{"task:*", "dba"}}, {URL: two.URL, ClientID: "taskgate", MayAssert: []string{"task:b-*", "task:a*b"}}})
	at := time.Now()
	g, err := a.Authenticate(t.Context(), gate.Login{Secret: two.Token(at, "task:x", "dba", "task:b-1", "task:b", "operator", "task:a*b", "task:azb")})
	if err != nil || g.Issuer != two.URL || strings.Join(g.Groups, " ") != "task:b-1 task:a*b" {
		t.Errorf("%+v %v", g, err)
	}
	posing := two.Claims(at, "task:x")
	posing["iss"] = one.URL
	for name, raw := range map[string]string{
		"as the other":             Sign(jose.RS256, two.Key, map[string]any{"kid": "first"}, posing),
		"as the other, own key id": Sign(jose.RS256, two.Key, map[string]any{"kid": "second"}, posing),
		"as the other with a /":    Sign(jose.RS256, one.Key, map[string]any{"kid": "first"}, func() map[string]any { c := one.Claims(at, "task:x"); c["iss"] = one.URL + "/"; return c }()),
	} {
		if g, err := a.Authenticate(t.Context(), gate.Login{Secret: raw}); err == nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// ID29: where a provider gives each client another sub, the claim that is the
// subject is one that does not differ.
func TestID29PairwiseSubject(t *testing.T) {
	s := NewScripted(t)
	at := time.Now()
	of := func(claim, client string, verified any) (gate.Grant, error) {
		c := s.Claims(at, "task:x")
		c["aud"], c["sub"], c["oid"], c["email"] = client, "pairwise-of-"+client, "7f3", "ada@example.com"
		if verified != nil {
			c["email_verified"] = verified
		}
		return New([]Issuer{{URL: s.URL, ClientID: client, Subject: claim, MayAssert: []string{"*"}}}).Authenticate(t.Context(), gate.Login{Secret: Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, c)})
	}
	for claim, same := range map[string]bool{"sub": false, "oid": true, "email": true} {
		one, err1 := of(claim, "taskgate", true)
		two, err2 := of(claim, "another", true)
		if err1 != nil || err2 != nil || (one.Subject == two.Subject) != same {
			t.Errorf("%s: %q %q %v %v", claim, one.Subject, two.Subject, err1, err2)
		}
	}
	for _, verified := range []any{nil, false, "true", 1} { // whoever types an address is not its owner
		if _, err := of("email", "taskgate", verified); err == nil {
			t.Errorf("an address that is verified %v", verified)
		}
	}
}
