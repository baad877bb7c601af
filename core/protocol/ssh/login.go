package ssh

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"

	"github.com/taskgate/taskgate/core/gate"
)

// CriticalOption stands in every certificate that opens the gateway: an sshd
// does not know it, and so takes none of them.
const CriticalOption = "gateway@taskgate"

// Principal is what a certificate has among its principals for each task that
// it is a login for.
func Principal(task string) string { return "taskgate:" + task }

const sourceAddress = "source-address"

// The algorithms: what OpenSSH 10 offers of its own accord, as far as the
// library has it. The client's order counts, so a cipher that would be slower
// is not there at all.
var (
	keyExchanges = []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521}
	older        = []string{ssh.KeyExchangeDH16SHA512, ssh.KeyExchangeDH14SHA256} // of hosts that have nothing better
	macs         = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512}
)

func ciphers(ident string) []string {
	if aes := cpu.X86.HasAES || cpu.ARM64.HasAES; aes && prefersSlow(ident) {
		return []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	}
	list := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR}
	if !cpu.X86.HasAES && !cpu.ARM64.HasAES {
		list = slices.Insert(list, 0, ssh.CipherChaCha20Poly1305)
	}
	return list
}

// minRSA and maxRSA bound the keys of clients, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

// maxUser bounds a user name, in bytes.
const maxUser = 256

// taskOf reads a user name: TASK+RESOURCE.
func taskOf(user string) (task, resource string) {
	i := strings.LastIndexByte(user, '+')
	if i < 0 {
		return user, ""
	}
	return user[:i], user[i+1:]
}

// login brings the connection to the point where the client is known.
func (c *conn) login(ctx context.Context, until time.Time) (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	s := c.p.Settings()
	ident, nc := identify(c.nc, until)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	config := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers(ident), MACs: macs},
		PublicKeyAuthAlgorithms: ssh.SupportedAlgorithms().PublicKeyAuths,
		MaxAuthTries:            maxTries,
		ServerVersion:           "SSH-2.0-taskgate",
		PasswordCallback: func(m ssh.ConnMetadata, secret []byte) (*ssh.Permissions, error) {
			return nil, c.admit(ctx, m, string(secret), nil)
		},
	}
	if s.Authority != nil {
		config.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return c.certificate(s, m, key)
		}
		// The key that is looked at last is not always the one that is used, and
		// an offer proves nothing: only what has signed is a login (SA01, SA02).
		config.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			perms, err := c.certificate(s, m, key)
			if err != nil {
				return nil, err
			}
			return perms, c.admit(ctx, m, "", key.Marshal())
		}
	}
	if c.p.Ask != nil {
		config.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return nil, c.askFor(ctx, m, ask)
		}
	}
	for _, k := range s.HostKeys {
		if a, ok := k.(ssh.AlgorithmSigner); ok && k.PublicKey().Type() == ssh.KeyAlgoRSA {
			if m, err := ssh.NewSignerWithAlgorithms(a, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err == nil {
				k = m
			}
		}
		config.AddHostKey(k)
	}
	client, chans, reqs, err := ssh.NewServerConn(nc, config)
	if err != nil {
		return nil, nil, fmt.Errorf("ssh: login: %w", err)
	}
	c.client = client
	if c.session == nil { // no way leads here
		client.Close()
		return nil, nil, errors.New("ssh: login: nobody is known")
	}
	return chans, reqs, nil
}

// admit is a login that has been shown, by a secret or a certificate.
func (c *conn) admit(ctx context.Context, m ssh.ConnMetadata, secret string, certificate []byte) error {
	task, resource := taskOf(m.User())
	if c.session != nil || len(m.User()) > maxUser || secret == "" && certificate == nil {
		c.turned = true
		return told(gate.ErrLogin)
	}
	s, err := c.gate.Open(ctx, gate.Login{Protocol: "ssh", Task: task, Resource: resource, Secret: secret, Certificate: certificate, Address: c.nc.RemoteAddr().String()})
	if err != nil {
		c.turned = true
		return told(err)
	}
	c.session = s
	return nil
}

// told gives a failed login with what its client reads of it.
func told(err error) error {
	line := "taskgate: login refused: the user is TASK+RESOURCE, the password a token that holds here and now (`taskgate token --task TASK --on RESOURCE`)"
	var d *gate.Denied
	var e *gate.Ended
	switch {
	case errors.As(err, &d):
		line = "taskgate: denied: " + readable(d.Error())
		if d.Reason.Hint != "" {
			line += "\r\ntaskgate: hint: " + readable(d.Reason.Hint)
		}
	case errors.As(err, &e) && e.Shutdown:
		line = "taskgate: the gateway is shutting down"
	}
	return &ssh.BannerError{Err: err, Message: line + "\r\n"}
}

// certificate says whether a key is a certificate that may be a login for what
// the user name says. Whose it is, and whether it still holds, Identity says.
func (c *conn) certificate(s *Settings, m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("ssh: a key without a certificate")
	}
	if k, ok := cert.Key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && (r.N.BitLen() < minRSA || r.N.BitLen() > maxRSA) {
			return nil, errors.New("ssh: an RSA key of that size is not taken")
		}
	}
	if cert.CertType != ssh.UserCert || cert.SignatureKey == nil || !s.Authority(cert.SignatureKey) {
		return nil, errors.New("ssh: not a user certificate of this gateway")
	}
	if _, ok := cert.CriticalOptions[CriticalOption]; !ok {
		return nil, errors.New("ssh: a certificate that is not for the gateway")
	}
	if _, ok := cert.Extensions["no-touch-required"]; ok { // the gateway signs none of these: a token is touched (SA04)
		return nil, errors.New("ssh: a certificate for a token that nobody touches")
	}
	task, _ := taskOf(m.User())
	check := &ssh.CertChecker{SupportedCriticalOptions: []string{CriticalOption, sourceAddress}}
	if err := check.CheckCert(Principal(task), cert); err != nil {
		return nil, err
	}
	// The library holds the connection to source-address, and to that alone.
	perms := &ssh.Permissions{}
	if from, ok := cert.CriticalOptions[sourceAddress]; ok {
		perms.CriticalOptions = map[string]string{sourceAddress: from}
	}
	return perms, nil
}

// askFor takes a token by keyboard-interactive, or begins a login in a browser
// where none is given: so that nobody who merely knocks begins one, and who has
// a token can use it whatever method their client tries first.
func (c *conn) askFor(ctx context.Context, m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) error {
	answers, err := ask("", "", []string{"taskgate token (empty to log in by a browser): "}, []bool{false})
	if err != nil {
		return err
	}
	if len(answers) != 1 {
		return told(gate.ErrLogin)
	}
	if answers[0] != "" {
		return c.admit(ctx, m, answers[0], nil)
	}
	if c.asked { // once for a connection
		return told(gate.ErrLogin)
	}
	c.asked = true
	_ = c.nc.SetDeadline(time.Now().Add(askTime))
	asking, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	task, resource := taskOf(m.User())
	a, err := c.p.Ask(asking, task, resource, c.nc.RemoteAddr().String())
	if err != nil {
		c.p.log("", "login by a browser", err)
		return &ssh.BannerError{Err: err, Message: "taskgate: a login by a browser is not possible now\r\n"}
	}
	if _, err := ask("taskgate", fmt.Sprintf("Open %s and confirm the code %s.", readable(a.URL), readable(a.Code)), nil, nil); err != nil {
		return err
	}
	secret, err := a.Wait()
	if err != nil {
		return told(fmt.Errorf("%w: %w", gate.ErrLogin, err))
	}
	return c.admit(ctx, m, secret, nil)
}
