// Package auth turns a token of an identity provider into a grant: who it is,
// and which groups it has. It fails closed: a token that is not understood in
// full gives nothing.
package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/taskgate/taskgate/core/gate"
)

// Issuer is an OpenID provider that is trusted, and for what.
type Issuer struct {
	URL       string
	ClientID  string
	Subject   string   // claim, default sub
	Groups    string   // claim, default groups
	MayAssert []string // groups that count; a * at the end stands for anything

	NoRaw bool // its tokens are not taken as passwords

	// For logins through the gateway.
	Scopes []string               // besides openid and offline_access
	Secret func() (string, error) // of the client; nil for a public one
}

// The limits of what a token may say.
const (
	maxToken  = 16 << 10
	maxGroups = 200
	maxGroup  = 256
	leeway    = 30 * time.Second // between two clocks, for nbf and iat; exp has none
)

// How the keys of an issuer are kept.
const (
	keysEvery   = 5 * time.Minute  // a key that was removed is trusted no longer than this
	keysOld     = 30 * time.Minute // without an answer of the issuer
	unknownWait = 10 * time.Second // between two fetches for key ids that are not known
)

// Authority checks tokens of its issuers. It implements gate.Identity.
type Authority struct {
	issuers map[string]*issuer
	now     func() time.Time
}

type issuer struct {
	Issuer
	client *http.Client

	mu      sync.Mutex
	config  *oidc.Provider
	keys    *oidc.RemoteKeySet
	fetched time.Time // when keys was made anew
	known   map[string]bool
	asked   time.Time // when a key id that is not known was last asked for
}

// New makes an authority. It opens nothing: an issuer that cannot be reached
// now may be reached when the first token comes.
func New(issuers []Issuer) *Authority {
	a := &Authority{issuers: map[string]*issuer{}, now: time.Now}
	for _, i := range issuers {
		if i.Subject == "" {
			i.Subject = "sub"
		}
		if i.Groups == "" {
			i.Groups = "groups"
		}
		a.issuers[i.URL] = &issuer{Issuer: i, client: &http.Client{Timeout: 10 * time.Second}, known: map[string]bool{}}
	}
	return a
}

// SetClock gives it another clock, before it is used.
func (a *Authority) SetClock(now func() time.Time) { a.now = now }

// Authenticate implements gate.Identity: the secret is an ID token. Its error
// is for the log; it never holds the token.
func (a *Authority) Authenticate(ctx context.Context, l gate.Login) (gate.Grant, error) {
	raw := l.Secret
	if len(raw) > maxToken {
		return gate.Grant{}, fmt.Errorf("auth: a token of %d bytes", len(raw))
	}
	head, body, err := peek(raw)
	if err != nil {
		return gate.Grant{}, err
	}
	i := a.issuers[body.Issuer]
	if i == nil {
		return gate.Grant{}, fmt.Errorf("auth: the issuer %q is not one of ours", body.Issuer)
	}
	verifier, err := i.verifier(ctx, head.KeyID, a.now)
	if err != nil {
		return gate.Grant{}, fmt.Errorf("auth: %s: %w", i.URL, err)
	}
	token, err := verifier.Verify(oidc.ClientContext(ctx, i.client), raw)
	if err != nil {
		return gate.Grant{}, fmt.Errorf("auth: %w", err)
	}
	i.mu.Lock()
	i.known[head.KeyID] = true
	i.mu.Unlock()
	return a.grant(i, token)
}

// header and claims are what is read before the signature is known to hold, to
// find the key; nothing else is made of them.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

type claims struct {
	Issuer string `json:"iss"`
}

func peek(raw string) (h header, c claims, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return h, c, errors.New("auth: not a token: three parts are expected")
	}
	if err = decode(parts[0], &h); err == nil {
		err = decode(parts[1], &c)
	}
	if err != nil {
		return h, c, errors.New("auth: not a token")
	}
	return h, c, nil
}

// verifier gives what checks tokens of this issuer, with keys that are fresh
// enough. A key id that is not known costs a fetch, and so waits its turn.
func (i *issuer) verifier(ctx context.Context, kid string, now func() time.Time) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at := now()
	if err := i.discover(ctx, at); err != nil {
		return nil, err
	}
	if !i.known[kid] {
		if at.Sub(i.asked) < unknownWait && len(i.known) > 0 {
			return nil, errors.New("the key of the token is not known, and the keys were asked for a moment ago")
		}
		i.asked = at
	}
	return oidc.NewVerifier(i.URL, i.keys, &oidc.Config{ClientID: i.ClientID, Now: now, SupportedSigningAlgs: []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.ES256, oidc.ES384, oidc.EdDSA}}), nil
}

// discover reads what the issuer says of itself, where that is not fresh. The
// caller holds the lock.
func (i *issuer) discover(ctx context.Context, at time.Time) error {
	if i.config != nil && at.Sub(i.fetched) <= keysEvery {
		return nil
	}
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.client), i.URL)
	if err != nil {
		if i.config == nil || at.Sub(i.fetched) > keysOld {
			return err
		}
		return nil
	}
	var doc struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := p.Claims(&doc); err != nil {
		return err
	}
	i.config, i.fetched, i.known, i.asked = p, at, map[string]bool{}, time.Time{}
	// A key set of its own: the old one would keep keys that were removed.
	i.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), i.client), doc.JWKS)
	return nil
}

// grant reads who the token is for.
func (a *Authority) grant(i *issuer, token *oidc.IDToken) (gate.Grant, error) {
	var all map[string]json.RawMessage
	if err := token.Claims(&all); err != nil {
		return gate.Grant{}, fmt.Errorf("auth: %w", err)
	}
	var times struct {
		IssuedAt  float64 `json:"iat"`
		NotBefore float64 `json:"nbf"`
		Party     string  `json:"azp"`
		Use       string  `json:"token_use"`
	}
	if err := token.Claims(&times); err != nil {
		return gate.Grant{}, fmt.Errorf("auth: %w", err)
	}
	now := a.now()
	switch limit := float64(now.Add(leeway).Unix()); {
	case times.IssuedAt > limit:
		return gate.Grant{}, errors.New("auth: the token was issued in the future")
	case times.NotBefore > limit:
		return gate.Grant{}, errors.New("auth: the token does not hold yet")
	case times.Party != "" && times.Party != i.ClientID:
		return gate.Grant{}, errors.New("auth: the token was issued to another client (azp)")
	case len(token.Audience) > 1 && times.Party == "":
		return gate.Grant{}, errors.New("auth: a token for several audiences without azp")
	case times.Use == "access":
		return gate.Grant{}, errors.New("auth: an access token: an ID token is expected")
	}
	var subject string
	if err := json.Unmarshal(all[i.Subject], &subject); err != nil || subject == "" || len(subject) > maxGroup {
		return gate.Grant{}, fmt.Errorf("auth: the claim %q is missing or no text", i.Subject)
	}
	groups, err := i.groups(all)
	if err != nil {
		return gate.Grant{}, fmt.Errorf("auth: %s: %w: no task", subject, err)
	}
	return gate.Grant{Issuer: i.URL, Subject: subject, Groups: groups, Expires: token.Expiry, Source: "token",
		Notice: "taskgate: this session ends with its token, " + token.Expiry.UTC().Format("2006-01-02 15:04 MST")}, nil
}

// groups reads the groups. Anything but a plain list gives none at all: an
// overflow that points elsewhere is not a list.
func (i *issuer) groups(all map[string]json.RawMessage) ([]string, error) {
	if raw, ok := all["_claim_names"]; ok {
		var names map[string]json.RawMessage
		if json.Unmarshal(raw, &names) != nil || names[i.Groups] != nil {
			return nil, errors.New("the groups are too many for the token and stand elsewhere")
		}
	}
	var list []string
	if raw, ok := all[i.Groups]; !ok {
		return nil, fmt.Errorf("the claim %q is missing", i.Groups)
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the claim %q is no list of texts", i.Groups)
	}
	if len(list) > maxGroups {
		return nil, fmt.Errorf("%d groups: at most %d", len(list), maxGroups)
	}
	var out []string
	for _, g := range list {
		if g == "" || len(g) > maxGroup || strings.ContainsFunc(g, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("a group whose name is empty, too long or not printable")
		}
		if i.may(g) {
			out = append(out, g)
		}
	}
	return out, nil
}

func (i *issuer) may(group string) bool {
	for _, p := range i.MayAssert {
		prefix, star := strings.CutSuffix(p, "*")
		if star && strings.HasPrefix(group, prefix) || p == group {
			return true
		}
	}
	return false
}

func decode(part string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
