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
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

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

	Roles  map[string][]string // the gateway's own roles, as approver, by the groups that have them; none by itself
	People string              // whose people its subjects are: two issuers with one name the same people alike

	NoRaw bool // its tokens are not taken as passwords

	// For logins through the gateway.
	Scopes []string               // besides openid and offline_access
	Secret func() (string, error) // of the client; nil for a public one
}

// The limits of what a token may say.
const (
	maxToken  = 16 << 10
	maxGroups = 200
	maxName   = 256              // of a group or a subject
	leeway    = 30 * time.Second // between two clocks, for nbf and iat; exp has none
)

// Authority checks tokens of its issuers. It implements gate.Identity.
type Authority struct {
	now func() time.Time

	mu      sync.RWMutex
	issuers map[string]*issuer
}

// New makes an authority. It opens nothing: an issuer that cannot be reached
// now may be reached when the first token comes.
func New(issuers []Issuer) *Authority {
	a := &Authority{now: time.Now}
	a.SetIssuers(issuers)
	return a
}

// SetIssuers makes these the issuers that are trusted from the next login on.
// The keys of one that stays are kept: it may not be there to be asked again.
func (a *Authority) SetIssuers(issuers []Issuer) {
	next := map[string]*issuer{}
	for _, i := range issuers {
		n := newIssuer(i)
		if old := a.trusted(i.URL); old != nil && old.mu.TryLock() { // it is held while the issuer is asked
			n.config, n.keys, n.fetched, n.tried, n.failed = old.config, old.keys, old.fetched, old.tried, old.failed
			old.mu.Unlock()
		}
		next[i.URL] = n
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issuers = next
}

// trusted gives an issuer, nil where it is not one of ours.
func (a *Authority) trusted(url string) *issuer {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.issuers[url]
}

// Asserted gives those of a subject's groups that its issuer may assert now;
// false where it is not one of ours.
func (a *Authority) Asserted(url string, groups []string) (now []string, ours bool) {
	i := a.trusted(url)
	if i == nil {
		return nil, false
	}
	for _, g := range groups {
		if i.May(g) {
			now = append(now, g)
		}
	}
	return now, true
}

// Has says whether the groups of an issuer's subject give one of the gateway's roles.
func (a *Authority) Has(url, role string, groups []string) bool {
	i := a.trusted(url)
	return i != nil && slices.ContainsFunc(i.Roles[role], func(g string) bool { return slices.Contains(groups, g) })
}

// Directory names the people that an issuer's subjects are of, empty where it is
// the one that all issuers share that say nothing.
func (a *Authority) Directory(url string) string {
	if i := a.trusted(url); i != nil {
		return i.Issuer.People
	}
	return ""
}

// SetClock gives it another clock, before it is used.
func (a *Authority) SetClock(now func() time.Time) { a.now = now }

// Authenticate implements gate.Identity: the secret is an ID token. Its error
// is for the log; it never holds the token.
func (a *Authority) Authenticate(ctx context.Context, l gate.Login) (gate.Grant, error) {
	said, err := a.verify(ctx, l.Secret)
	return said.Grant, err
}

// said is what an ID token says that holds.
type said struct {
	gate.Grant
	issued time.Time
	shown  time.Time // when its subject has last shown who they are; zero where the provider does not say
	nonce  string
}

// errLater is of a token that may hold, and that cannot be checked now.
var errLater = errors.New("the token cannot be checked now")

// verify checks an ID token.
func (a *Authority) verify(ctx context.Context, raw string) (said, error) {
	if len(raw) > maxToken {
		return said{}, fmt.Errorf("auth: a token of %d bytes", len(raw))
	}
	kid, url, err := peek(raw)
	if err != nil {
		return said{}, err
	}
	i := a.trusted(url)
	if i == nil {
		return said{}, fmt.Errorf("auth: the issuer %q is not one of ours", url)
	}
	_, keys, err := i.fresh(ctx, a.now, kid)
	if err != nil {
		return said{}, fmt.Errorf("auth: %s: %w: %w", i.URL, errLater, err)
	}
	var names []string
	for _, alg := range algorithms {
		names = append(names, string(alg))
	}
	token, err := oidc.NewVerifier(i.URL, keys, &oidc.Config{ClientID: i.ClientID, Now: a.now, SupportedSigningAlgs: names}).Verify(ctx, raw)
	if err != nil && !keys.has(kid) {
		return said{}, fmt.Errorf("auth: %s: %w: %w", i.URL, errLater, err)
	} else if err != nil {
		return said{}, fmt.Errorf("auth: %w", err)
	}
	grant, err := a.grant(i, token)
	shown, badly := shown(token)
	if err == nil {
		err = badly
	}
	return said{grant, token.IssuedAt, shown, token.Nonce}, err
}

// shown reads auth_time (OpenID Connect Core, section 2).
func shown(token *oidc.IDToken) (time.Time, error) {
	var at struct {
		AuthTime *float64 `json:"auth_time"`
	}
	if err := token.Claims(&at); err != nil {
		return time.Time{}, fmt.Errorf("auth: auth_time: %w", err)
	}
	if at.AuthTime == nil || *at.AuthTime == 0 { // some write 0 where they do not know
		return time.Time{}, nil
	}
	return time.Unix(int64(*at.AuthTime), 0), nil
}

// peek reads, before the signature is known to hold, what finds the key; nothing
// else is made of it. A token that would bring its own key is refused.
func peek(raw string) (kid, issuer string, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", "", errors.New("auth: not a token: three parts are expected")
	}
	var head map[string]json.RawMessage
	var body struct {
		Issuer string `json:"iss"`
	}
	if decode(parts[0], &head) != nil || decode(parts[1], &body) != nil {
		return "", "", errors.New("auth: not a token")
	}
	for _, own := range []string{"jku", "jwk", "x5u", "x5c"} {
		if head[own] != nil {
			return "", "", fmt.Errorf("auth: a token that names its own key (%s)", own)
		}
	}
	if k := head["kid"]; k != nil && json.Unmarshal(k, &kid) != nil {
		return "", "", errors.New("auth: not a token: the key id is no text")
	}
	return kid, body.Issuer, nil
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
	case !token.Expiry.After(now):
		return gate.Grant{}, errors.New("auth: the token is over")
	case times.IssuedAt <= 0:
		return gate.Grant{}, errors.New("auth: the token does not say when it was issued")
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
	if err := json.Unmarshal(all[i.Subject], &subject); err != nil || !plain(subject) {
		return gate.Grant{}, fmt.Errorf("auth: the claim %q is missing, no text, too long or not printable", i.Subject)
	}
	if i.Subject == "email" && string(all["email_verified"]) != "true" { // else whoever types an address is its owner
		return gate.Grant{}, errors.New("auth: the claim \"email\" is the subject, and the token does not say that it is verified")
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
	} else if err := json.Unmarshal(raw, &list); err != nil || list == nil {
		return nil, fmt.Errorf("the claim %q is no list of texts", i.Groups)
	}
	if len(list) > maxGroups {
		return nil, fmt.Errorf("%d groups: at most %d", len(list), maxGroups)
	}
	var out []string
	for _, g := range list {
		if !plain(g) {
			return nil, errors.New("a group whose name is empty, too long or not printable")
		}
		if i.May(g) {
			out = append(out, g)
		}
	}
	return out, nil
}

// plain says whether a name is one that logs and people can be shown.
func plain(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}

// May says whether the issuer may assert a group.
func (i *Issuer) May(group string) bool {
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
