package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
)

// certified is how long a certificate holds that opens a host: one is made for
// each connection, which outlives it.
const (
	certified = 5 * time.Minute
	skew      = time.Minute // between the gateway's clock and the host's
)

// The algorithms of host keys that prove something. A host that shows one of
// the keys that it is known by is only asked for that type.
var (
	rsaAlgorithms  = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	keyAlgorithms  = append([]string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521}, rsaAlgorithms...)
	certAlgorithms = []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
)

// hostTarget is what the dialer needs of a host.
type hostTarget struct {
	name        string          // of its address, which a certificate has to be for
	keys        map[string]bool // fingerprints
	authorities map[string]bool // the same of who signs its certificate
	algorithms  []string
	logins      map[string]*config.Login
}

func hostResource(r *config.Resource) (*gate.Resource, error) {
	name, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, err
	}
	h := &hostTarget{name: strings.ToLower(name), keys: map[string]bool{}, authorities: map[string]bool{}, logins: r.Logins}
	for _, text := range r.HostKeys {
		if strings.HasPrefix(text, "SHA256:") { // which does not say what key it is
			h.keys[text] = true
			h.algorithms = keyAlgorithms
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, err
		}
		h.keys[ssh.FingerprintSHA256(key)] = true
		for _, a := range algorithms(key) {
			if !slices.Contains(h.algorithms, a) {
				h.algorithms = append(slices.Clip(h.algorithms), a)
			}
		}
	}
	if r.HostCA != "" {
		if h.authorities, err = authorities(r.HostCA); err != nil {
			return nil, fmt.Errorf("host_ca: %w", err)
		}
		h.algorithms = certAlgorithms
	}
	return &gate.Resource{Name: r.Name, Protocol: "ssh", Address: r.Address, Options: &sshproto.ResourceOptions{Posix: r.Posix, Dial: h},
		Digest: fmt.Sprintf("%s %q", r.Digest(), slices.Sorted(maps.Keys(h.authorities)))}, nil // who is in the file counts, not its name alone
}

func algorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return rsaAlgorithms
	}
	return []string{key.Type()}
}

// authorities reads public keys, a line each. A file without any trusts nobody,
// and says so: it is not one to be skipped (SA18).
func authorities(from string) (map[string]bool, error) {
	text := []byte(from)
	path, file := strings.CutPrefix(from, "file:")
	if file {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	keys := map[string]bool{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(options) > 0 {
			return nil, fmt.Errorf("%s:%d: the line of a public key is expected, as \"ssh-ed25519 AAAA…\"", path, n)
		}
		keys[ssh.FingerprintSHA256(key)] = true
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key, and an unknown host is never taken", path)
	}
	return keys, nil
}

// known is the callback that says whether a host is the one that is meant. It
// goes by the address of the configuration, whatever the caller dialed.
func (h *hostTarget) known(_ string, _ net.Addr, key ssh.PublicKey) error {
	cert, signed := key.(*ssh.Certificate)
	switch {
	case len(h.authorities) == 0 && (signed || !h.keys[ssh.FingerprintSHA256(key)]):
		return fmt.Errorf("this %s key came, and host_key has %s: another host answers, or it has new keys (`ssh-keygen -lf` on the host shows them); where host_key is of another type, write its whole line instead", key.Type(), strings.Join(slices.Sorted(maps.Keys(h.keys)), ", "))
	case len(h.authorities) == 0:
		return nil
	case !signed:
		return errors.New("host_ca is set, and this is no certificate")
	case cert.CertType != ssh.HostCert:
		return errors.New("this is no host's certificate")
	case !h.authorities[ssh.FingerprintSHA256(cert.SignatureKey)]:
		return fmt.Errorf("the certificate is signed by %s, which is not in host_ca", ssh.FingerprintSHA256(cert.SignatureKey))
	}
	c := &ssh.CertChecker{}
	return c.CheckCert(h.name, cert)
}

// open reads what opens the host for a login, anew for each connection: a key
// that was changed in its file counts from the next one on.
func (h *hostTarget) open(resource string, l *config.Login, foreign func(ssh.PublicKey) bool) (*sshproto.Auth, error) {
	secret := l.Key
	if l.CA.Given() {
		secret = l.CA
	}
	signer, err := privateKey(secret)
	if err != nil {
		return nil, err
	}
	if foreign != nil && foreign(signer.PublicKey()) {
		return nil, errOneKey
	}
	if l.CA.Given() {
		if signer, err = certify(signer, resource, l.User); err != nil {
			return nil, err
		}
	}
	return &sshproto.Auth{Methods: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKey: h.known, HostKeyAlgorithms: h.algorithms}, nil
}

// opens says what a host has to have, that a login may be let in.
func opens(o *sshproto.ResourceOptions, login, account string) string {
	h, ok := o.Dial.(*hostTarget)
	if !ok || h.logins[login] == nil {
		return "it has no such login"
	}
	secret, where := h.logins[login].Key, "~"+account+"/.ssh/authorized_keys"
	if h.logins[login].CA.Given() {
		secret, where = h.logins[login].CA, "the file of its TrustedUserCAKeys"
	}
	signer, err := privateKey(secret)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("there, %s has to have the line %q, and sshd to allow %s", where, line(signer.PublicKey()), account)
}

var errOneKey = errors.New("it is the key that signs what opens the gateway (listeners.ssh.user_ca): who opens the one could open the other: they have to be two keys")

// privateKey reads one from where it is kept.
func privateKey(from config.Secret) (ssh.Signer, error) {
	text, err := from.Resolve()
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey([]byte(text))
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, fmt.Errorf("%s: the key has a passphrase, and nobody is there to type it: `ssh-keygen -p -N ''` takes it off", from)
	}
	if err != nil { // what the library says may have some of the text
		return nil, fmt.Errorf("%s: no private key as ssh-keygen writes it", from)
	}
	return signer, nil
}

// certify makes a key and a certificate of it, for one account and some minutes.
func certify(authority ssh.Signer, resource, account string) (ssh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	own, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	var serial [8]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, err
	}
	now := time.Now()
	// No permit-user-rc: ~/.ssh/rc would run before every command, unjudged.
	c := &ssh.Certificate{Key: own.PublicKey(), CertType: ssh.UserCert, Serial: binary.BigEndian.Uint64(serial[:]), KeyId: "taskgate for " + resource, ValidPrincipals: []string{account},
		ValidAfter: uint64(now.Add(-skew).Unix()), ValidBefore: uint64(now.Add(certified).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "", "permit-X11-forwarding": ""}}}
	if err := c.SignCert(rand.Reader, authority); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(c, own)
}

// dialHost connects to a host, and reads what opens it.
func (d Dialer) dialHost(ctx context.Context, r *gate.Resource, login string, o *sshproto.ResourceOptions) (gate.Upstream, error) {
	h, ok := o.Dial.(*hostTarget)
	if !ok || h.logins[login] == nil {
		return gate.Upstream{}, noLogin(r, login)
	}
	l := h.logins[login]
	auth, err := h.open(r.Name, l, d.Foreign)
	if err != nil {
		return gate.Upstream{}, &gate.Credential{Err: fmt.Errorf("server: resource %s: login %s: %w", r.Name, login, err)}
	}
	nc, err := connect(ctx, r)
	if err != nil {
		return gate.Upstream{}, err
	}
	return gate.Upstream{Conn: nc, User: l.User, Auth: auth}, nil
}

// reachHost sees that a host is the one that is meant, that the gateway gets in,
// and that its shell is what it is said to be.
func reachHost(ctx context.Context, r *gate.Resource, login string) error {
	up, err := Dialer{}.Dial(ctx, r, login)
	if err != nil {
		return err
	}
	o, _ := r.Options.(*sshproto.ResourceOptions)
	conn, chans, reqs, err := sshproto.Reach(ctx, up, r.Address, o)
	if errors.Is(err, sshproto.ErrShut) {
		err = fmt.Errorf("%w: %s", err, opens(o, login, up.User))
	}
	if err != nil {
		return fmt.Errorf("login %s (account %s): %w", login, up.User, err)
	}
	defer conn.Close()
	go ssh.DiscardRequests(reqs)
	go func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "not here")
		}
	}()
	return nil
}
