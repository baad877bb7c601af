package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// browserLasts is how long a user has to log in in the browser.
const browserLasts = 10 * time.Minute

// ErrRedirect is of a redirect that is not the caller's own host.
var ErrRedirect = errors.New("redirect: http://127.0.0.1:PORT/callback is expected, the host of the browser itself")

// Browser is what a user's program needs for a login in the user's browser.
type Browser struct {
	ID      string    `json:"id"`  // for Redeem; whoever has it and the code gets the token
	URL     string    `json:"url"` // to open
	Expires time.Time `json:"expires"`
}

// browser is a login that the user's browser has not come back from yet.
type browser struct {
	issuer                 *issuer
	config                 *oauth2.Config
	state, nonce, verifier string
	expires                time.Time
}

// loopback says whether a redirect leads to the host of the browser itself
// (RFC 8252, section 7.3). So whoever talks a user into opening the page of a
// login that is not the user's own does not get the code.
func loopback(redirect string) bool {
	u, err := url.Parse(redirect)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddrPort(u.Host)
	return err == nil && at.Addr().IsLoopback() && at.Addr().Zone() == "" && at.Port() != 0 && redirect == "http://"+at.String()+"/callback"
}

// BeginBrowser starts a login by authorization code with PKCE (RFC 7636). The
// verifier, and what binds the answer to this login, stay here.
func (l *Logins) BeginBrowser(ctx context.Context, issuerURL, address, redirect string, purpose Audience) (*Browser, error) {
	if !loopback(redirect) {
		return nil, ErrRedirect
	}
	i, err := l.issuer(issuerURL)
	if err != nil {
		return nil, err
	}
	config, err := i.oauth(ctx, l.now)
	if err != nil {
		return nil, err
	}
	if config.Endpoint.AuthURL == "" {
		return nil, fmt.Errorf("auth: %s: no authorization endpoint", i.URL)
	}
	config.RedirectURL = redirect
	b := &browser{issuer: i, config: config, state: random(), nonce: random(), verifier: oauth2.GenerateVerifier(), expires: time.Now().Add(browserLasts)}
	p, id := &pending{address: address, purpose: purpose, browser: b}, random()
	if err := l.add(id, p); err != nil {
		return nil, err
	}
	time.AfterFunc(browserLasts, func() { l.forget(id) })
	options := []oauth2.AuthCodeOption{oidc.Nonce(b.nonce), oauth2.S256ChallengeOption(b.verifier)}
	if purpose == Control { // the provider asks the user again where it has not for so long, and says when it did
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(controlLasts/time.Second))))
	}
	return &Browser{ID: id, URL: config.AuthCodeURL(b.state, options...), Expires: b.expires}, nil
}

// Redeem gives a login and its token for the code that the browser came back
// with, once: a code that fails ends the login that it was for.
func (l *Logins) Redeem(ctx context.Context, id, state, code string) (*Record, string, error) {
	l.mu.Lock()
	p := l.pending[id]
	if p == nil || p.browser == nil {
		l.mu.Unlock()
		return nil, "", ErrUnknown
	}
	delete(l.pending, id)
	l.mu.Unlock()
	b := p.browser
	if !time.Now().Before(b.expires) {
		return nil, "", errors.New("the login was not confirmed in time")
	}
	if subtle.ConstantTimeCompare([]byte(state), []byte(b.state)) != 1 || code == "" {
		return nil, "", errors.New("the answer is not that of this login (state)")
	}
	t, err := b.config.Exchange(oidc.ClientContext(ctx, b.issuer.client), code, oauth2.VerifierOption(b.verifier))
	if err != nil {
		if e := new(oauth2.RetrieveError); errors.As(err, &e) && e.ErrorCode != "" {
			return nil, "", fmt.Errorf("the provider refused: %s", e.ErrorCode)
		}
		return nil, "", errors.New("the provider did not answer")
	}
	who, err := l.identify(ctx, t)
	if err != nil {
		return nil, "", err
	}
	if subtle.ConstantTimeCompare([]byte(who.nonce), []byte(b.nonce)) != 1 || who.Issuer != b.issuer.URL {
		return nil, "", errors.New("the provider's token is not that of this login (nonce)")
	}
	return l.begun(ctx, who, t, p.purpose)
}
