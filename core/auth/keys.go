package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// How what an issuer says of itself, its keys included, is kept.
const (
	keysEvery   = 5 * time.Minute  // a key that was removed is trusted no longer than this
	keysOld     = 30 * time.Minute // without an answer of the issuer
	unknownWait = 10 * time.Second // between two fetches for key ids that are not known
	failedWait  = 2 * time.Second  // after a fetch that failed: the next logins do not wait for it one by one
	silentWait  = 30 * time.Second // after a request for tokens without an answer: many logins do not wait for it one by one
	maxKeys     = 1 << 20          // bytes of a key set
)

// algorithms are those of public keys: with a shared one, whoever can check a
// token can make one.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

type issuer struct {
	Issuer
	client *http.Client

	mu      sync.Mutex
	config  *oidc.Provider
	keys    keySet
	fetched time.Time // when both were last had
	tried   time.Time // when they were last asked for
	failed  error     // what came of that
	silent  time.Time // until when nobody asks it for tokens, since it did not answer
}

func newIssuer(i Issuer) *issuer {
	if i.Subject == "" {
		i.Subject = "sub"
	}
	if i.Groups == "" {
		i.Groups = "groups"
	}
	return &issuer{Issuer: i, client: &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 5 || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return errors.New("a redirect that is not followed")
		}
		return nil
	}}}
}

// fresh gives what the issuer says of itself, no older than it may be. Where
// kid is a key that is not known, the issuer is asked again, in turn: anybody
// can make up a key id, or put a wrong signature under a right one.
func (i *issuer) fresh(ctx context.Context, now func() time.Time, kid string) (*oidc.Provider, keySet, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at := now()
	old := i.config == nil || at.Sub(i.fetched) > keysEvery
	var wait time.Duration
	if i.failed != nil {
		wait = failedWait
	} else if !old {
		wait = unknownWait
	}
	if (old || !i.keys.has(kid)) && at.Sub(i.tried) >= wait {
		i.failed = i.fetch(context.WithoutCancel(ctx), at)
		i.tried = now()
	}
	switch {
	case i.config == nil:
		return nil, nil, i.failed
	case i.failed != nil && at.Sub(i.fetched) > keysOld:
		return nil, nil, fmt.Errorf("its keys are too old: %w", i.failed)
	}
	return i.config, i.keys, nil
}

// fetch asks the issuer. The caller holds the lock.
func (i *issuer) fetch(ctx context.Context, at time.Time) error {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), i.URL)
	if err != nil {
		return err
	}
	var doc struct {
		JWKS          string `json:"jwks_uri"`
		Token         string `json:"token_endpoint"`
		Device        string `json:"device_authorization_endpoint"`
		Authorization string `json:"authorization_endpoint"`
	}
	if err := p.Claims(&doc); err != nil {
		return err
	}
	for _, u := range []string{doc.JWKS, doc.Token, doc.Device, doc.Authorization} {
		if strings.HasPrefix(i.URL, "https:") && u != "" && !strings.HasPrefix(u, "https:") {
			return fmt.Errorf("it names an endpoint without TLS: %q", u)
		}
	}
	keys, err := i.fetchKeys(ctx, doc.JWKS)
	if err != nil {
		return err
	}
	i.config, i.keys, i.fetched = p, keys, at
	return nil
}

func (i *issuer) fetchKeys(ctx context.Context, url string) (keySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err != nil {
		return nil, err
	}
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if resp.StatusCode != http.StatusOK || len(b) > maxKeys || json.Unmarshal(b, &list) != nil {
		return nil, fmt.Errorf("its key set cannot be read: %s", resp.Status)
	}
	keys := keySet{}
	for _, raw := range list.Keys {
		var k jose.JSONWebKey // one of a kind that is not known leaves the others
		if json.Unmarshal(raw, &k) == nil && k.Valid() && k.IsPublic() && k.Use != "enc" {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("its key set has no key that could be used")
	}
	return keys, nil
}

// keySet is what an issuer signs with. It implements oidc.KeySet and never asks
// anybody: whether it is fresh enough has been seen to before.
type keySet []jose.JSONWebKey

func (s keySet) has(kid string) bool {
	for _, k := range s {
		if kid == "" || k.KeyID == kid {
			return true
		}
	}
	return false
}

// VerifySignature implements oidc.KeySet. Nothing in the token says which key
// it is to be checked with but its id.
func (s keySet) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSigned(raw, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("not a signed token")
	}
	h := jws.Signatures[0].Protected
	for i := range s {
		if h.KeyID != "" && s[i].KeyID != h.KeyID || s[i].Algorithm != "" && s[i].Algorithm != h.Algorithm {
			continue
		}
		if payload, err := jws.Verify(&s[i]); err == nil {
			return payload, nil
		}
	}
	if !s.has(h.KeyID) {
		return nil, errors.New("the key of the token is not known")
	}
	return nil, errors.New("the signature does not hold")
}

// oauth gives the client of an issuer for logins and refreshes.
func (i *issuer) oauth(ctx context.Context, now func() time.Time) (*oauth2.Config, error) {
	config, _, err := i.fresh(ctx, now, "")
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", i.URL, err)
	}
	secret := ""
	if i.Secret != nil {
		if secret, err = i.Secret(); err != nil {
			return nil, fmt.Errorf("auth: %s: client secret: %w", i.URL, err)
		}
	}
	endpoint := config.Endpoint()
	if secret == "" { // a public client has nothing to put into a header
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{ClientID: i.ClientID, ClientSecret: secret, Endpoint: endpoint, Scopes: append([]string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess}, i.Scopes...)}, nil
}
