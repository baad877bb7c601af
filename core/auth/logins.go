package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// How logins through the gateway are kept.
const (
	tokenPrefix   = "tg_"
	loginLasts    = 12 * time.Hour
	controlLasts  = 15 * time.Minute // a control token, and how fresh the login is that gives one
	groupsFresh   = 5 * time.Minute  // older groups are asked for again
	groupsOld     = 30 * time.Minute // older ones count no more where the provider does not answer
	maxPending    = 1000             // logins under way
	maxPendingOne = 10               // of one address

	abandonedCounts = time.Minute // as under way: who gives up and asks again, again and again, has the provider asked each time
)

// What a login or a token can be refused for. Their texts are for the client.
var (
	ErrPending  = errors.New("the login has not been confirmed yet")
	ErrIssuer   = errors.New("no such issuer")
	ErrNoDevice = errors.New("the provider offers no device flow")
	ErrStore    = errors.New("the store does not answer")
	ErrBusy     = errors.New("too many logins are under way: try again later")
	ErrStale    = errors.New("this needs a login that is fresh")
	ErrToken    = errors.New("the token is not valid, or over: log in again")
)

// Logins runs logins by the device flow (RFC 8628) through the gateway, keeps
// what the provider gives, and hands out tokens of its own. It is a
// gate.Identity that takes those, and leaves other secrets to its Authority.
type Logins struct {
	*Authority
	store   Store
	seal    cipher.AEAD
	flights singleflight.Group
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	over    sync.Map // logins that were ended while the store could not write that down
	ca      atomic.Pointer[CA]

	mu      sync.Mutex
	pending map[string]*pending
}

// pending is a login that its user has not confirmed yet.
type pending struct {
	address string
	purpose Audience
	done    chan struct{}
	login   *Record
	token   string
	err     error
	browser *browser // where it is not by a device's code; nothing waits on done then
	leave   context.CancelFunc
	gone    bool // nobody waits for it any more
}

// NewLogins makes them. Key is the file of the key that refresh tokens are
// sealed with, made where it is missing.
func NewLogins(a *Authority, s Store, key string) (*Logins, error) {
	secret, err := sealKey(key)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", key, err)
	}
	l := &Logins{Authority: a, store: s, pending: map[string]*pending{}}
	if l.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// Close ends the logins that are under way.
func (l *Logins) Close() {
	l.stop()
	l.running.Wait()
}

func sealKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == 32:
		return b, nil
	case err == nil:
		return nil, fmt.Errorf("%s: 32 bytes are expected, it has %d", path, len(b))
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	b = make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	return b, errors.Join(err, f.Sync(), f.Close())
}

// Device is what a user is shown to confirm a login.
type Device struct {
	ID          string    `json:"id"` // for Wait; whoever has it gets the token
	Code        string    `json:"code"`
	URL         string    `json:"url"`
	URLWithCode string    `json:"url_with_code,omitempty"`
	Expires     time.Time `json:"expires"`
}

// Begin starts a login at an issuer, the only one where its name is empty. Its
// token is for that purpose.
func (l *Logins) Begin(ctx context.Context, issuerURL, address string, purpose Audience) (*Device, error) {
	i, err := l.issuer(issuerURL)
	if err != nil {
		return nil, err
	}
	cfg, err := i.oauth(ctx, l.now)
	if err != nil {
		return nil, err
	}
	if cfg.Endpoint.DeviceAuthURL == "" {
		return nil, ErrNoDevice
	}
	p, id := &pending{address: address, purpose: purpose, done: make(chan struct{})}, random()
	if err := l.add(id, p); err != nil {
		return nil, err
	}
	d, err := cfg.DeviceAuth(oidc.ClientContext(ctx, i.client))
	if err != nil {
		l.forget(id)
		return nil, fmt.Errorf("auth: %s: device flow: %w", i.URL, err)
	}
	if limit := time.Now().Add(15 * time.Minute); d.Expiry.IsZero() || d.Expiry.After(limit) {
		d.Expiry = limit
	}
	asking, leave := context.WithDeadline(l.ctx, d.Expiry)
	l.mu.Lock()
	p.leave = leave
	l.mu.Unlock()
	l.running.Go(func() {
		defer leave()
		p.login, p.token, p.err = l.confirm(asking, i, cfg, d, purpose)
		close(p.done)
		time.AfterFunc(2*time.Minute, func() { l.forget(id) }) // for whom never comes back
	})
	return &Device{ID: id, Code: d.UserCode, URL: d.VerificationURI, URLWithCode: d.VerificationURIComplete, Expires: d.Expiry}, nil
}

// add notes a login that is under way.
func (l *Logins) add(id string, p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := 0
	for _, x := range l.pending {
		if x.address == p.address {
			of++
		}
	}
	if len(l.pending) >= maxPending || of >= maxPendingOne {
		return ErrBusy
	}
	l.pending[id] = p
	return nil
}

func (l *Logins) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, id)
}

// confirm waits until the user has confirmed and makes the login.
func (l *Logins) confirm(ctx context.Context, i *issuer, cfg *oauth2.Config, d *oauth2.DeviceAuthResponse, purpose Audience) (*Record, string, error) {
	t, err := cfg.DeviceAccessToken(oidc.ClientContext(ctx, i.client), d)
	if err != nil {
		if ctx.Err() != nil || !time.Now().Before(d.Expiry) {
			return nil, "", errors.New("the login was not confirmed in time")
		}
		if e := new(oauth2.RetrieveError); errors.As(err, &e) && e.ErrorCode != "" {
			return nil, "", fmt.Errorf("the provider refused: %s", e.ErrorCode)
		}
		return nil, "", errors.New("the provider did not answer")
	}
	grant, err := l.identify(ctx, t)
	if err != nil {
		return nil, "", err
	}
	return l.begun(ctx, grant, t, purpose)
}

// begun makes a login of what the provider has said. Of a provider that says when
// its user has shown who they are, that has to be fresh for a control token; of
// others the confirmation counts, which has just come.
func (l *Logins) begun(ctx context.Context, grant said, t *oauth2.Token, purpose Audience) (*Record, string, error) {
	now := l.now().Truncate(time.Second) // as the store keeps it
	if purpose == Control && !grant.shown.IsZero() && now.Sub(grant.shown) > controlLasts {
		return nil, "", fmt.Errorf("%w: the provider has asked you %s ago", ErrStale, now.Sub(grant.shown).Round(time.Minute))
	}
	r := &Record{ID: random(), Issuer: grant.Issuer, Subject: grant.Subject, Groups: grant.Groups, Asserted: grant.issued, Refreshed: now, Started: now, Expires: now.Add(loginLasts)}
	if t.RefreshToken == "" { // nobody to ask later: what was said holds for as long as it said
		r.Expires = grant.Expires
	} else {
		r.Sealed = l.seal.Seal(nil, nil, []byte(t.RefreshToken), []byte(r.ID))
	}
	secret := tokenPrefix + random()
	token := &Token{Hash: sha256.Sum256([]byte(secret)), Login: r.ID, Audience: purpose, Expires: r.Expires}
	if end := now.Add(controlLasts); purpose == Control && end.Before(token.Expires) {
		token.Expires = end
	}
	if err := l.store.AddLogin(ctx, r, token); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrStore, err)
	}
	return r, secret, nil
}

// identify checks the ID token that came with an answer of the provider.
func (l *Logins) identify(ctx context.Context, t *oauth2.Token) (said, error) {
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return said{}, errors.New("auth: the provider gave no ID token")
	}
	return l.verify(ctx, raw)
}

// Wait gives a login and its token, once, when its user has confirmed it.
// ErrPending comes back with the end of ctx.
func (l *Logins) Wait(ctx context.Context, id string) (*Record, string, error) {
	l.mu.Lock()
	p := l.pending[id]
	l.mu.Unlock()
	if p == nil || p.browser != nil || p.gone {
		return nil, "", ErrUnknown
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, "", ErrPending
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[id] == nil || p.gone { // somebody else was first
		return nil, "", ErrUnknown
	}
	delete(l.pending, id)
	return p.login, p.token, p.err
}

// Abandon gives up a login that nobody waits for any more: who confirms it now
// logs nobody in.
func (l *Logins) Abandon(id string) {
	l.mu.Lock()
	p := l.pending[id]
	if p == nil || p.leave == nil || p.gone {
		l.mu.Unlock()
		return
	}
	p.gone = true
	p.leave()
	l.mu.Unlock()
	time.AfterFunc(abandonedCounts, func() { l.forget(id) })
	<-p.done
	if p.login == nil { // not confirmed, as nearly always
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := l.store.EndLogin(ctx, p.login.ID, "nobody waited for it", l.now()); err != nil {
		l.over.Store(p.login.ID, true)
	}
}

// Authenticate implements gate.Identity.
func (l *Logins) Authenticate(ctx context.Context, in gate.Login) (gate.Grant, error) {
	if in.Certificate != nil {
		if in.Secret != "" {
			return gate.Grant{}, errors.New("auth: a certificate and a token at once")
		}
		return l.certified(ctx, in)
	}
	if !strings.HasPrefix(in.Secret, tokenPrefix) {
		g, err := l.Authority.Authenticate(ctx, in)
		if i := l.trusted(g.Issuer); err == nil && (i == nil || i.NoRaw) {
			return gate.Grant{}, fmt.Errorf("auth: %s: a token of the provider itself, which raw_tokens switches off", g.Subject)
		}
		return g, err
	}
	t, r, err := l.Lookup(ctx, in.Secret, in.Address)
	if err != nil {
		return gate.Grant{}, err
	}
	return l.granted(t, r, in, "login")
}

// granted gives what a token opens, where it is for that.
func (l *Logins) granted(t *Token, r *Record, in gate.Login, source string) (gate.Grant, error) {
	if t.Audience != Data {
		return gate.Grant{Issuer: r.Issuer, Subject: r.Subject}, &gate.Denied{Guard: "gate", Reason: abi.Reason{Code: "auth.audience",
			Message: "this token is for decisions and opens no session", Hint: "taskgate login gives one that does"}}
	}
	if t.Task != "" && t.Task != in.Task || t.Resource != "" && t.Resource != in.Resource {
		return gate.Grant{Issuer: r.Issuer, Subject: r.Subject}, &gate.Denied{Guard: "gate", Reason: abi.Reason{Code: "auth.narrow",
			Message: fmt.Sprintf("this token is for task %q on %q", t.Task, t.Resource), Hint: narrowHint(t, in)}}
	}
	return gate.Grant{Issuer: r.Issuer, Subject: r.Subject, Groups: r.Groups, Expires: t.Expires, Source: source, Login: r.ID}, nil
}

// narrowHint says how a client names what its token is for.
func narrowHint(t *Token, in gate.Login) string {
	if in.Protocol == "ssh" {
		return fmt.Sprintf("ssh %s+%s@…", t.Task, t.Resource)
	}
	return fmt.Sprintf("user=%s dbname=%s", t.Task, t.Resource)
}

// Lookup gives a token that holds now, for who has that address, and its login,
// with groups that are fresh enough.
func (l *Logins) Lookup(ctx context.Context, secret, address string) (*Token, *Record, error) {
	return l.lookup(ctx, sha256.Sum256([]byte(secret)), address)
}

func (l *Logins) lookup(ctx context.Context, hash [32]byte, address string) (*Token, *Record, error) {
	t, err := l.store.Token(ctx, hash)
	if errors.Is(err, ErrUnknown) {
		return nil, nil, ErrToken
	} else if err != nil {
		return nil, nil, err
	}
	if !l.now().Before(t.Expires) {
		return nil, nil, ErrToken
	}
	if !t.from(address) {
		return nil, nil, fmt.Errorf("%w (not from %s)", ErrToken, address)
	}
	r, err := l.Current(ctx, t.Login)
	if err != nil {
		return nil, nil, err
	}
	return t, r, nil
}

// Current gives a login as it is now. It asks the provider where the groups
// are not fresh; its error says why the login is over or cannot be trusted.
func (l *Logins) Current(ctx context.Context, id string) (*Record, error) {
	return l.current(ctx, id, groupsFresh, groupsOld)
}

// Anew is Current for what cannot wait: the provider is asked now, and has to
// answer. A login without a refresh token has what it was told as long as it lasts.
func (l *Logins) Anew(ctx context.Context, id string) (*Record, error) {
	return l.current(ctx, id, 0, 0)
}

// Groups gives the groups that a subject has now, by the newest of its logins
// that is not over and can be asked for.
func (l *Logins) Groups(ctx context.Context, issuer, subject string) ([]string, error) {
	ids, err := l.store.LoginsOf(ctx, issuer, subject, l.now())
	if err != nil {
		return nil, err
	}
	err = nil
	for _, id := range ids {
		r, e := l.Anew(ctx, id)
		switch {
		case e != nil:
			err = e
		case err == nil || r.Sealed != nil: // one that nobody can be asked of says nothing against one that was asked for in vain
			return r.Groups, nil
		}
	}
	if err == nil {
		err = ErrToken
	}
	return nil, err
}

func (l *Logins) current(ctx context.Context, id string, fresh, old time.Duration) (*Record, error) {
	r, err := l.store.Login(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return nil, ErrToken
	} else if err != nil {
		return nil, err
	}
	now := l.now()
	_, over := l.over.Load(id)
	groups, ours := l.Asserted(r.Issuer, r.Groups)
	switch r.Groups = groups; {
	case over:
		return nil, fmt.Errorf("%w (logout)", ErrToken)
	case !ours: // for now: it may come back with the next reload
		return nil, fmt.Errorf("%w (its issuer is no longer trusted)", ErrToken)
	case r.Ended != "":
		return nil, fmt.Errorf("%w (%s)", ErrToken, r.Ended)
	case !now.Before(r.Expires):
		return nil, ErrToken
	case now.Sub(r.Refreshed) < fresh || r.Sealed == nil:
		return r, nil
	}
	// A refresh token may be good for one use: one asks for all.
	v, err, _ := l.flights.Do(id, func() (any, error) { return l.refresh(context.WithoutCancel(ctx), r, fresh) })
	silent := new(unheard)
	if errors.As(err, &silent) && now.Sub(r.Refreshed) < old {
		return r, nil
	} else if err != nil {
		return nil, err
	}
	next := *v.(*Record)
	next.Groups, _ = l.Asserted(next.Issuer, next.Groups)
	return &next, nil
}

// unheard is of groups that could not be asked for now.
type unheard struct {
	subject string
	why     error
}

func (u *unheard) Error() string {
	return fmt.Sprintf("auth: %s: the groups could not be asked for: %v", u.subject, u.why)
}
func (u *unheard) Unwrap() error { return u.why }

// refresh asks the provider for the groups of a login.
func (l *Logins) refresh(ctx context.Context, r *Record, fresh time.Duration) (*Record, error) {
	r, err := l.store.Login(ctx, r.ID)
	switch {
	case err != nil:
		return nil, err
	case r.Ended != "": // while this one waited
		return nil, fmt.Errorf("%w (%s)", ErrToken, r.Ended)
	case l.now().Sub(r.Refreshed) < fresh:
		return r, nil
	}
	end := func(why string) (*Record, error) {
		if err := l.store.EndLogin(ctx, r.ID, why, l.now()); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (%s)", ErrToken, why)
	}
	stale := func(why error) (*Record, error) { return nil, &unheard{r.Subject, why} }
	i := l.trusted(r.Issuer)
	if i == nil {
		return end("its issuer is no longer trusted")
	}
	plain, err := l.seal.Open(nil, nil, r.Sealed, []byte(r.ID))
	if err != nil {
		return end("its refresh token cannot be opened")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	i.mu.Lock()
	silent := l.now().Before(i.silent)
	i.mu.Unlock()
	if silent {
		return stale(errors.New("the provider did not answer a moment ago"))
	}
	cfg, err := i.oauth(ctx, l.now)
	if err != nil {
		return stale(err)
	}
	t, err := cfg.TokenSource(oidc.ClientContext(ctx, i.client), &oauth2.Token{RefreshToken: string(plain)}).Token()
	if e := new(oauth2.RetrieveError); errors.As(err, &e) && refused(e) {
		return end("the provider has withdrawn it")
	} else if errors.As(err, &e) {
		return stale(fmt.Errorf("the provider says %s %q", e.Response.Status, e.ErrorCode)) // its text may say more than a log should have
	} else if err != nil {
		i.mu.Lock()
		i.silent = l.now().Add(silentWait)
		i.mu.Unlock()
		return stale(err)
	}
	now, err := l.identify(ctx, t)
	next := *r
	var kept error // why the groups stay as they were
	switch {
	case errors.Is(err, errLater):
		kept = err
	case err != nil: // no groups, or none that can be read: nothing is left of it
		return end(strings.TrimPrefix(err.Error(), "auth: "))
	case now.Subject != r.Subject || now.Issuer != r.Issuer:
		return end("the provider answered with another subject")
	case now.issued.Before(r.Asserted): // said before what is known already: it must not bring back what is gone
		kept = errors.New("the provider answers with what it said before")
	default:
		next.Groups, next.Asserted, next.Refreshed = now.Groups, now.issued, l.now()
	}
	if t.RefreshToken != "" { // the old one may be of no use any more
		next.Sealed = l.seal.Seal(nil, nil, []byte(t.RefreshToken), []byte(r.ID))
	}
	switch err := l.store.Refreshed(ctx, &next); {
	case errors.Is(err, ErrUnknown): // it ended meanwhile
		return nil, ErrToken
	case err != nil:
		return nil, err
	}
	if kept != nil {
		return stale(kept)
	}
	return &next, nil
}

// refused says whether the provider will not have this login any more. Most say
// invalid_grant, Dex invalid_request; what is the gateway's own fault, as a
// wrong secret, or passes by itself is no answer about the login.
func refused(e *oauth2.RetrieveError) bool {
	switch e.ErrorCode {
	case "", "invalid_client", "slow_down", "temporarily_unavailable", "server_error":
		return false
	}
	return e.Response.StatusCode == http.StatusBadRequest || e.Response.StatusCode == http.StatusForbidden
}

// Narrow hands out a token for a task on a resource that ends sooner than the
// one it is made from and counts from some addresses, all where there are none.
// Only a token that is not narrow itself can make one.
func (l *Logins) Narrow(ctx context.Context, secret, address, task, resource string, lasts time.Duration, from []netip.Prefix) (string, time.Time, error) {
	t, _, err := l.Lookup(ctx, secret, address)
	if err != nil {
		return "", time.Time{}, err
	}
	if t.Audience != Data || t.Task != "" || t.Resource != "" {
		return "", time.Time{}, errors.New("a token for one task, or for decisions, makes no others")
	}
	end := l.now().Add(lasts)
	if end.After(t.Expires) {
		end = t.Expires
	}
	narrow := tokenPrefix + random()
	if err := l.store.AddToken(ctx, &Token{Hash: sha256.Sum256([]byte(narrow)), Login: t.Login, Task: task, Resource: resource, From: from, Expires: end}); err != nil {
		return "", time.Time{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return narrow, end, nil
}

// End ends the login of a token, and gives it. With an error, what it gives is
// ended for as long as this process runs.
func (l *Logins) End(ctx context.Context, secret string) (*Record, error) {
	t, err := l.store.Token(ctx, sha256.Sum256([]byte(secret)))
	if errors.Is(err, ErrUnknown) {
		return nil, ErrToken
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if t.Task != "" || t.Resource != "" {
		return nil, errors.New("a token for one task does not end the login")
	}
	if err := l.store.EndLogin(ctx, t.Login, "logout", l.now()); err != nil {
		l.over.Store(t.Login, true)
		return &Record{ID: t.Login}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return l.store.Login(ctx, t.Login)
}

// issuer gives the issuer of a login.
func (a *Authority) issuer(url string) (*issuer, error) {
	if i := a.trusted(url); i != nil {
		return i, nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	var all []string
	for u, i := range a.issuers {
		if url == "" && len(a.issuers) == 1 {
			return i, nil
		}
		all = append(all, u)
	}
	slices.Sort(all)
	return nil, fmt.Errorf("%w: name one of %s", ErrIssuer, strings.Join(all, ", "))
}

func random() string {
	var b [24]byte
	_, _ = io.ReadFull(rand.Reader, b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
