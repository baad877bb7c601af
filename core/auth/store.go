package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Store keeps logins and the tokens that the gateway hands out. What a call
// that returned nil has written is on disk.
type Store interface {
	// AddLogin adds a login with its first token.
	AddLogin(ctx context.Context, l *Record, t *Token) error
	// Login gives a login, ErrUnknown where there is none.
	Login(ctx context.Context, id string) (*Record, error)
	// LoginsOf names the logins of a subject that have not ended, and are not over
	// then, newest first.
	LoginsOf(ctx context.Context, issuer, subject string, at time.Time) ([]string, error)
	// Refreshed replaces Groups, Asserted, Sealed and Refreshed of a login that has not ended.
	Refreshed(ctx context.Context, l *Record) error
	// EndLogin ends a login, and with it its tokens. Ending one twice keeps the first reason.
	EndLogin(ctx context.Context, id, why string, at time.Time) error
	// AddToken adds a token to a login that has not ended.
	AddToken(ctx context.Context, t *Token) error
	// Token gives a token by its hash, ErrUnknown where there is none.
	Token(ctx context.Context, hash [32]byte) (*Token, error)
}

// ErrUnknown is what a Store says of a login or a token that it does not have,
// and of a change to a login that has ended.
var ErrUnknown = errors.New("auth: no such login")

// Record is one login of a subject. Times have whole seconds.
type Record struct {
	ID        string
	Issuer    string
	Subject   string
	Groups    []string
	Asserted  time.Time // when the provider said them, by its own clock
	Sealed    []byte    // the refresh token, sealed; nil where the provider gave none
	Refreshed time.Time // when the groups were last heard of
	Started   time.Time
	Expires   time.Time
	Ended     string // why it ended before that; empty is not
}

// Token is one that the gateway handed out. The token itself is not kept.
type Token struct {
	Hash     [32]byte // SHA-256 of the token
	Login    string
	Audience Audience       // what it is for
	Task     string         // the only task it is for; empty is any
	Resource string         // the only resource; empty is any
	From     []netip.Prefix // the only addresses; none is any
	Expires  time.Time
}

// Audience is what a token is for.
type Audience string

// The audiences. A token is for one of them alone.
const (
	Data    Audience = ""        // to connect
	Control Audience = "control" // to decide requests: of a fresh login, for a quarter of an hour
)

// from says whether the token counts from an address, with a port or without.
func (t *Token) from(address string) bool {
	if len(t.From) == 0 {
		return true
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		with, err := netip.ParseAddrPort(address)
		if err != nil {
			return false
		}
		ip = with.Addr()
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(t.From, func(p netip.Prefix) bool { return p.Contains(ip) })
}
