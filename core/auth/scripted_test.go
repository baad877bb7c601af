package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/go-jose/go-jose/v4"
)

// For the tests that stand outside, since the store does.
const (
	GroupsFresh = groupsFresh
	GroupsOld   = groupsOld
	SilentWait  = silentWait
)

// Scripted is an issuer whose keys and answers a test chooses.
type Scripted struct {
	*httptest.Server
	Key *rsa.PrivateKey

	mu     sync.Mutex
	keys   []oidctest.PublicKey
	asked  int    // how often for its keys
	broken string // a path that answers 500
	Answer func(path string, form url.Values) (int, any)
}

func NewScripted(t *testing.T) *Scripted {
	t.Helper()
	s := &Scripted{Key: newKey(t)}
	s.keys = []oidctest.PublicKey{{PublicKey: s.Key.Public(), KeyID: "first", Algorithm: "RS256"}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (s *Scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; {
	case path == s.broken:
		http.Error(w, "broken", http.StatusInternalServerError)
	case path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/auth", "token_endpoint": s.URL + "/token",
			"device_authorization_endpoint": s.URL + "/device", "jwks_uri": s.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	case path == "/keys":
		s.asked++
		o := &oidctest.Server{PublicKeys: s.keys}
		o.ServeHTTP(w, r)
	case s.Answer != nil:
		status, body := s.Answer(path, r.PostForm)
		w.WriteHeader(status)
		if text, ok := body.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(body)
	default:
		http.NotFound(w, r)
	}
}

func (s *Scripted) Set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func (s *Scripted) fetches() int { s.mu.Lock(); defer s.mu.Unlock(); return s.asked }

func (s *Scripted) Claims(at time.Time, groups ...string) map[string]any {
	return map[string]any{"iss": s.URL, "sub": "ada", "aud": "taskgate", "iat": at.Unix(), "exp": at.Add(time.Hour).Unix(), "groups": append([]string{}, groups...)}
}

// Sign signs claims with any key and any header.
func Sign(alg jose.SignatureAlgorithm, key any, header map[string]any, claims map[string]any) string {
	o := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for k, v := range header {
		o.ExtraHeaders[jose.HeaderKey(k)] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(b)
	if err != nil {
		panic(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return raw
}

func (s *Scripted) Token(at time.Time, groups ...string) string {
	return Sign(jose.RS256, s.Key, map[string]any{"kid": "first"}, s.Claims(at, groups...))
}
