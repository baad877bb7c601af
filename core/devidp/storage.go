package devidp

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// login is one device that waits for its user.
type login struct {
	op.DeviceAuthorizationState
	code string // the user's
}

// refreshable is what a refresh token stands for. It implements
// op.RefreshTokenRequest.
type refreshable struct {
	subject, client string
	scopes          []string
	at              time.Time
}

func (r *refreshable) GetAMR() []string          { return []string{"pwd"} }
func (r *refreshable) GetAudience() []string     { return []string{r.client} }
func (r *refreshable) GetAuthTime() time.Time    { return r.at }
func (r *refreshable) GetClientID() string       { return r.client }
func (r *refreshable) GetScopes() []string       { return r.scopes }
func (r *refreshable) GetSubject() string        { return r.subject }
func (r *refreshable) SetCurrentScopes([]string) {}

// storage is a Provider as the library wants it. What a device flow does not
// need is refused.
type storage struct{ p *Provider }

var (
	_      op.Storage                    = storage{}
	_      op.DeviceAuthorizationStorage = storage{}
	_      op.CanSetUserinfoFromRequest  = storage{}
	errNot                               = errors.New("this provider does not do that")
)

func (s storage) StoreDeviceAuthorization(_ context.Context, client, device, code string, expires time.Time, scopes []string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, l := range s.p.logins {
		if l.code == code {
			return op.ErrDuplicateUserCode
		}
	}
	s.p.logins[device] = &login{op.DeviceAuthorizationState{ClientID: client, Audience: []string{client}, Scopes: scopes, Expires: expires, AMR: []string{"pwd"}}, code}
	return nil
}

// GetDeviceAuthorizatonState gives a state that is done once.
func (s storage) GetDeviceAuthorizatonState(_ context.Context, client, device string) (*op.DeviceAuthorizationState, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	l := s.p.logins[device]
	if l == nil || l.ClientID != client {
		return nil, errors.New("no such device code")
	}
	if l.Done || l.Denied {
		delete(s.p.logins, device)
	}
	state := l.DeviceAuthorizationState
	return &state, nil
}

func (s storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(s.p.lifetime()), nil
}

// CreateAccessAndRefreshTokens makes each refresh token good for one use.
func (s storage) CreateAccessAndRefreshTokens(_ context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	delete(s.p.fresh, current)
	next := rand.Text()
	s.p.fresh[next] = &refreshable{r.GetSubject(), s.p.ClientID, r.GetScopes(), time.Now()}
	return rand.Text(), next, time.Now().Add(s.p.lifetime()), nil
}

func (s storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	r := s.p.fresh[token]
	if r == nil {
		return nil, op.ErrInvalidRefreshToken
	}
	if _, ok := s.p.users[r.subject]; !ok {
		return nil, op.ErrInvalidRefreshToken
	}
	return r, nil
}

func (s storage) GetRefreshTokenInfo(_ context.Context, _, token string) (string, string, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if r := s.p.fresh[token]; r != nil {
		return r.subject, token, nil
	}
	return "", "", op.ErrInvalidRefreshToken
}

func (s storage) RevokeToken(_ context.Context, token, _, _ string) *oidc.Error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	delete(s.p.fresh, token)
	return nil
}

func (s storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	info.Subject = r.GetSubject()
	groups := s.p.users[info.Subject].Groups
	if groups == nil {
		groups = []string{}
	}
	info.AppendClaims("groups", groups)
	return nil
}

type key struct{ p *Provider }

func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k key) Algorithm() jose.SignatureAlgorithm          { return jose.ES256 }
func (k key) Key() any                                    { return k.p.key }
func (k key) ID() string                                  { return k.p.keyID }
func (k key) Use() string                                 { return "sig" }

type public struct{ key }

func (k public) Key() any { return &k.p.key.PublicKey }

func (s storage) SigningKey(context.Context) (op.SigningKey, error) { return key(s), nil }
func (s storage) KeySet(context.Context) ([]op.Key, error)          { return []op.Key{public{key(s)}}, nil }
func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.p.ClientID {
		return nil, oidc.ErrInvalidClient()
	}
	return client(s), nil
}

func (s storage) AuthorizeClientIDSecret(context.Context, string, string) error { return errNot }
func (s storage) Health(context.Context) error                                  { return nil }
func (s storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}
func (s storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errNot
}
func (s storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNot
}
func (s storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}
func (s storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNot
}
func (s storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNot
}
func (s storage) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, oidc.ErrInvalidRequest().WithDescription("only the device flow is offered here")
}
func (s storage) AuthRequestByID(context.Context, string) (op.AuthRequest, error) { return nil, errNot }
func (s storage) AuthRequestByCode(context.Context, string) (op.AuthRequest, error) {
	return nil, errNot
}
func (s storage) SaveAuthCode(context.Context, string, string) error     { return errNot }
func (s storage) DeleteAuthRequest(context.Context, string) error        { return errNot }
func (s storage) TerminateSession(context.Context, string, string) error { return nil }

// client is the one client of a Provider: public, as a program on a device is.
type client struct{ p *Provider }

func (c client) GetID() string                        { return c.p.ClientID }
func (c client) RedirectURIs() []string               { return nil }
func (c client) PostLogoutRedirectURIs() []string     { return nil }
func (c client) ApplicationType() op.ApplicationType  { return op.ApplicationTypeNative }
func (c client) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethodNone }
func (c client) ResponseTypes() []oidc.ResponseType   { return nil }
func (c client) LoginURL(string) string               { return "" }
func (c client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c client) IDTokenLifetime() time.Duration       { return c.p.lifetime() }
func (c client) DevMode() bool                        { return true }
func (c client) IsScopeAllowed(string) bool           { return false }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c client) ClockSkew() time.Duration             { return 0 }
func (c client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
}
func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
