package auth

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// How long certificates last, and how many tasks OpenSSH takes in one.
const (
	CertificateLasts  = 10 * time.Minute
	CertificateAtMost = time.Hour
	maxPrincipals     = 256
)

// What a certificate says. A host that trusts our authority by mistake refuses
// all of them: it does not know the critical option (ID30). All else refers to
// the token that it was made from, whose end is the certificate's.
const (
	principal      = "taskgate:" // before a task
	optionGateway  = "gateway@taskgate"
	optionSource   = "source-address"
	extendLogin    = "login@taskgate"
	extendToken    = "token@taskgate" // the token's hash
	extendResource = "resource@taskgate"
)

// Certified is what a certificate is to be for.
type Certified struct {
	Key      ssh.PublicKey // the client's
	Tasks    []string      // that its subject may do now
	Resource string        // the only one; empty is any
	Lasts    time.Duration
}

// SetCA sets the authority whose certificates are taken. Without one none is.
func (l *Logins) SetCA(c *CA) { l.ca.Store(c) }

// CA gives it, nil where there is none.
func (l *Logins) CA() *CA { return l.ca.Load() }

// Certify makes a certificate of a token that Lookup gave, with its login. It
// holds no longer and for nothing else than the token.
func (l *Logins) Certify(t *Token, r *Record, want Certified) (*ssh.Certificate, error) {
	ca := l.ca.Load()
	switch {
	case ca == nil:
		return nil, errors.New("this gateway has no certificate authority")
	case t.Audience != Data:
		return nil, errors.New("a token for decisions opens no host")
	case want.Lasts <= 0 || want.Lasts > CertificateAtMost:
		return nil, fmt.Errorf("a certificate lasts up to %s, not %s", CertificateAtMost, want.Lasts)
	case t.Resource != "" && want.Resource != "" && t.Resource != want.Resource:
		return nil, fmt.Errorf("this token is for %q alone", t.Resource)
	case t.Task != "" && (len(want.Tasks) != 1 || want.Tasks[0] != t.Task):
		return nil, fmt.Errorf("this token is for task %q alone", t.Task)
	case len(want.Tasks) == 0:
		return nil, errors.New("you have no task")
	case len(want.Tasks) > maxPrincipals:
		return nil, fmt.Errorf("you have %d tasks, and a certificate takes %d: name one", len(want.Tasks), maxPrincipals)
	}
	if err := strong(want.Key); err != nil {
		return nil, err
	}
	now := l.now()
	end := now.Add(want.Lasts)
	for _, other := range []time.Time{t.Expires, r.Expires} {
		if other.Before(end) {
			end = other
		}
	}
	if end.Unix() <= now.Unix() {
		return nil, ErrToken
	}
	var serial [8]byte
	_, _ = rand.Read(serial[:]) // never fails
	c := &ssh.Certificate{Key: want.Key, Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert, KeyId: r.Subject,
		ValidAfter: uint64(now.Unix()), ValidBefore: uint64(end.Unix()),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{optionGateway: ""}, Extensions: map[string]string{
			// What a host would want; here the task decides.
			"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "", "permit-X11-forwarding": "",
			extendLogin: r.ID, extendToken: hex.EncodeToString(t.Hash[:]),
		}}}
	for _, task := range want.Tasks {
		if task == "" {
			return nil, errors.New("a task without a name")
		}
		c.ValidPrincipals = append(c.ValidPrincipals, principal+task)
	}
	slices.Sort(c.ValidPrincipals)
	if only := want.Resource; only != "" || t.Resource != "" {
		if only == "" {
			only = t.Resource
		}
		c.Extensions[extendResource] = only
	}
	if len(t.From) > 0 {
		var from []string
		for _, p := range t.From {
			from = append(from, p.String())
		}
		c.CriticalOptions[optionSource] = strings.Join(from, ",")
	}
	if err := c.SignCert(rand.Reader, ca.signer); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return c, nil
}

// certified authenticates by a certificate: it has to be good in itself, and
// the token and the login behind it still have to be.
func (l *Logins) certified(ctx context.Context, in gate.Login) (gate.Grant, error) {
	c, err := l.certificate(in)
	if err != nil {
		return gate.Grant{}, fmt.Errorf("auth: certificate: %w", err)
	}
	hash, err := hex.DecodeString(c.Extensions[extendToken])
	if err != nil || len(hash) != 32 {
		return gate.Grant{}, errors.New("auth: certificate: it does not say which token it is from")
	}
	t, r, err := l.lookup(ctx, [32]byte(hash), in.Address)
	if err != nil {
		return gate.Grant{}, err
	}
	if r.ID != c.Extensions[extendLogin] || r.Subject != c.KeyId {
		return gate.Grant{}, errors.New("auth: certificate: it is from another login than its token")
	}
	known := gate.Grant{Issuer: r.Issuer, Subject: r.Subject}
	if !slices.Contains(c.ValidPrincipals, principal+in.Task) {
		return known, &gate.Denied{Guard: "gate", Reason: abi.Reason{Code: "auth.principal", Message: fmt.Sprintf("this certificate is not for task %q", in.Task),
			Hint: "taskgate ssh-certificate gets one for the tasks that you have now"}}
	}
	if only, narrow := c.Extensions[extendResource]; narrow && only != in.Resource {
		return known, &gate.Denied{Guard: "gate", Reason: abi.Reason{Code: "auth.narrow", Message: fmt.Sprintf("this certificate is for %q alone", only)}}
	}
	return l.granted(t, r, in, "certificate")
}

// certificate checks a certificate by itself: ours, for a user of the gateway,
// now, from there. Whatever else it demands is refused.
func (l *Logins) certificate(in gate.Login) (*ssh.Certificate, error) {
	ca := l.ca.Load()
	if ca == nil {
		return nil, errors.New("none is taken")
	}
	key, err := ssh.ParsePublicKey(in.Certificate)
	if err != nil {
		return nil, err
	}
	c, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return nil, errors.New("it is a bare key")
	case c.CertType != ssh.UserCert:
		return nil, errors.New("it is not a user's")
	case !ca.Authority(c.SignatureKey):
		return nil, errors.New("it is signed by another authority")
	case len(c.ValidPrincipals) == 0:
		return nil, errors.New("it has no principal")
	case c.ValidBefore < c.ValidAfter || c.ValidBefore-c.ValidAfter > uint64(CertificateAtMost/time.Second):
		return nil, errors.New("it lasts longer than any that the gateway makes")
	}
	if v, there := c.CriticalOptions[optionGateway]; !there || v != "" {
		return nil, errors.New("it is not for the gateway")
	}
	if err := strong(c.Key); err != nil {
		return nil, err
	}
	check := &ssh.CertChecker{SupportedCriticalOptions: []string{optionGateway, optionSource}, Clock: l.now}
	if err := check.CheckCert(c.ValidPrincipals[0], c); err != nil { // which task is asked for is looked at once it is known whose it is
		return nil, err
	}
	if list, there := c.CriticalOptions[optionSource]; there {
		from := Token{}
		for text := range strings.SplitSeq(list, ",") {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", optionSource, err)
			}
			from.From = append(from.From, p)
		}
		if !from.from(in.Address) {
			return nil, fmt.Errorf("not from %s", in.Address)
		}
	}
	return c, nil
}
