package ssh

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
)

// certify makes a certificate for a key as the gateway does, changed by f.
func (g *gateway) certify(t testing.TB, key ssh.PublicKey, f func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{Key: key, CertType: ssh.UserCert, KeyId: "ada", ValidPrincipals: []string{"taskgate:x"},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(10 * time.Minute).Unix()),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{CriticalOption: ""}}}
	by := g.ca
	if f != nil {
		f(c)
	}
	if c.SignatureKey != nil { // a test wants another
		by = newSigner(t)
	}
	if err := c.SignCert(rand.Reader, by); err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *gateway) byCertificate(t testing.TB, user string, key ssh.Signer, f func(*ssh.Certificate)) error {
	t.Helper()
	s, err := ssh.NewCertSigner(g.certify(t, key.PublicKey(), f), key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.client(t, user, ssh.PublicKeys(s))
	return err
}

// A certificate opens what it is for, as long as it lasts, and nothing else does.
func TestSA04Certificates(t *testing.T) {
	g := serve(t, all)
	key := newSigner(t)
	if err := g.byCertificate(t, "x+web-1", key, nil); err != nil {
		t.Error(err)
	}
	g.log.mu.Lock()
	l := g.log.logins[len(g.log.logins)-1]
	known := len(g.log.logins)
	g.log.mu.Unlock()
	if l.Secret != "" || l.Task != "x" || l.Resource != "web-1" || len(l.Certificate) == 0 {
		t.Errorf("%+v", l)
	}
	if err := g.byCertificate(t, "x+web-1", key, func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "127.0.0.0/8" }); err != nil {
		t.Error(err)
	}
	known++
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewSignerFromKey(small)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*ssh.Certificate){
		"expired":           func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Second).Unix()) },
		"not yet":           func(c *ssh.Certificate) { c.ValidAfter = uint64(time.Now().Add(time.Minute).Unix()) },
		"another task":      func(c *ssh.Certificate) { c.ValidPrincipals = []string{"taskgate:y"} },
		"the user":          func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x+web-1", "x", "root"} },
		"of a host":         func(c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"not for the gate":  func(c *ssh.Certificate) { delete(c.CriticalOptions, CriticalOption) },
		"an unknown option": func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "true" },
		"another address":   func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "10.0.0.0/8" },
		"no address":        func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "" },
		"another authority": func(c *ssh.Certificate) { c.SignatureKey = c.Key },
	} {
		if err := g.byCertificate(t, "x+web-1", key, f); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	if err := g.byCertificate(t, "x+web-1", weak, nil); err == nil {
		t.Error("SA05: 1024 bits are let in")
	}
	if _, err := g.client(t, "x+web-1", ssh.PublicKeys(key)); err == nil {
		t.Error("a key without a certificate is let in")
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if len(g.log.logins) != known {
		t.Errorf("%d logins, want %d: what the certificate itself forbids needs nobody", len(g.log.logins), known)
	}
}

// What counts is the key that has signed: one that was offered, or whose
// signature does not verify, is no login (CVE-2024-45337).
func TestSA01SA02OfferedKeys(t *testing.T) {
	g := serve(t, all)
	mine, theirs := newSigner(t), newSigner(t)
	good := g.certify(t, theirs.PublicKey(), nil) // a certificate of somebody else's key
	liar := &liarSigner{good, mine}
	if _, err := g.client(t, "x+web-1", ssh.PublicKeys(liar)); err == nil {
		t.Error("let in by a certificate of another's key")
	}
	g.log.mu.Lock()
	n := len(g.log.logins)
	g.log.mu.Unlock()
	if n != 0 {
		t.Error("an offer was a login")
	}
	// Both are offered, the second signs.
	first, err := ssh.NewCertSigner(g.certify(t, mine.PublicKey(), func(c *ssh.Certificate) { c.KeyId = "mine" }), mine)
	if err != nil {
		t.Fatal(err)
	}
	offered := &refusing{first}
	second, err := ssh.NewCertSigner(g.certify(t, theirs.PublicKey(), func(c *ssh.Certificate) { c.KeyId = "theirs" }), theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.client(t, "x+web-1", ssh.PublicKeys(second)); err != nil {
		t.Fatal(err)
	}
	_, _ = g.client(t, "x+web-1", ssh.PublicKeys(offered, second))
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, l := range g.log.logins {
		k, err := ssh.ParsePublicKey(l.Certificate)
		if err != nil || k.(*ssh.Certificate).KeyId != "theirs" {
			t.Errorf("login by %v, %v", k, err)
		}
	}
}

type liarSigner struct {
	pub ssh.PublicKey
	ssh.Signer
}

func (l *liarSigner) PublicKey() ssh.PublicKey { return l.pub }

type refusing struct{ ssh.Signer }

func (refusing) Sign(io.Reader, []byte) (*ssh.Signature, error) {
	return nil, errors.New("the card is gone")
}

// A password is a token, an empty one is none, and everybody who is not known
// reads the same.
func TestSA03SA16Passwords(t *testing.T) {
	g := serve(t, all)
	say := func(user, secret string) string {
		banner := ""
		_, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(secret)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), BannerCallback: func(m string) error { banner += m; return nil }})
		return fmt.Sprint(banner, err)
	}
	want := say("x+web-1", "wrong")
	if !strings.Contains(want, "login refused") {
		t.Error(want)
	}
	for _, user := range []string{"x", "x+nowhere", "nothing+web-1", "+", "", "x+web-1+web-1", "x\n+web-1", strings.Repeat("x", 5000), "-oProxyCommand=x", "`id`+web-1"} {
		if got := say(user, "wrong"); got != want {
			t.Errorf("%q: %s", user, got)
		}
	}
	if got := say("x+web-1", ""); got != want {
		t.Error(got)
	}
	// Who is known is told why.
	if got := say("nothing+web-1", "token"); !strings.Contains(got, "denied") || !strings.Contains(got, "taskgate: hint:") {
		t.Error(got)
	}
	if _, err := g.client(t, "x+web-1", ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil })); err == nil {
		t.Error("keyboard-interactive, where nobody asks")
	}
	if _, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{User: "x+web-1", HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil {
		t.Error("none is let in")
	}
}

// SA17: so many tries, and the connection is over.
func TestSA17Tries(t *testing.T) {
	g := serve(t, all)
	n := 0
	_, err := g.client(t, "x+web-1", ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) { n++; return fmt.Sprint(n), nil }), 100))
	if err == nil || n != maxTries {
		t.Errorf("%d tries, %v", n, err)
	}
	if door.Address(&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:3::4")}) != door.Address(&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:ffff::1")}) {
		t.Error("a /64 is many addresses")
	}
}

// A login by a browser is begun for this connection and by nobody who merely
// knocks; a token that is typed instead is taken.
func TestLoginByABrowser(t *testing.T) {
	type question struct{ task, resource, address string }
	var mu sync.Mutex
	var asked []question
	secret := "token"
	g := serve(t, all, func(g *gateway) {
		g.protocol.Ask = func(_ context.Context, task, resource, address string) (*Asked, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, question{task, resource, address})
			return &Asked{URL: "https://gw.example/device\x1b[2J", Code: "ABCD-EFGH", Wait: func() (string, error) {
				mu.Lock()
				defer mu.Unlock()
				if secret == "" {
					return "", errors.New("no")
				}
				return secret, nil
			}}, nil
		}
	})
	shown, answer := "", "token"
	byHand := ssh.KeyboardInteractive(func(name, instruction string, questions []string, echos []bool) ([]string, error) {
		shown += instruction
		if len(questions) == 0 {
			return nil, nil
		}
		return []string{answer}, nil
	})
	if _, err := g.client(t, "x+web-1", byHand); err != nil || len(asked) != 0 {
		t.Error(err, asked)
	}
	answer = ""
	c, err := g.client(t, "x+web-1", byHand)
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, c, "echo in"); got.out != "in\n" {
		t.Errorf("%+v", got)
	}
	if len(asked) != 1 || asked[0].task != "x" || asked[0].resource != "web-1" || asked[0].address != c.LocalAddr().String() {
		t.Errorf("%+v", asked)
	}
	if !strings.Contains(shown, "ABCD-EFGH") || strings.Contains(shown, "\x1b") {
		t.Errorf("%q", shown)
	}
	mu.Lock()
	secret = ""
	mu.Unlock()
	if _, err := g.client(t, "x+web-1", ssh.RetryableAuthMethod(byHand, 5)); err == nil || len(asked) != 2 {
		t.Errorf("%v, begun %d times", err, len(asked))
	}
}

// The OpenSSH client logs in by certificate, and what it speaks is current.
func TestOpenSSHCertificate(t *testing.T) {
	g := serve(t, all)
	key := filepath.Join(g.host.Dir, "client_key")
	cert := g.certify(t, g.host.ClientKey.PublicKey(), nil)
	g.write(t, "id", "")
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	id := g.write(t, "id", string(b))
	g.write(t, "id-cert.pub", string(ssh.MarshalAuthorizedKey(cert)))
	cmd := g.ssh("-v", "-i", id, "-o", "PreferredAuthentications=publickey", who, "echo in")
	got := run(t, cmd, "")
	if got.out != "in\n" || got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{"kex: algorithm: curve25519-sha256", "client->server cipher: aes128-gcm@openssh.com", "server->client cipher: aes128-gcm@openssh.com"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("no %q in\n%s", want, got.err)
		}
	}
}

// What is no longer current is not spoken, by whoever has nothing better.
func TestSA05Algorithms(t *testing.T) {
	g := serve(t, all)
	for name, c := range map[string]struct {
		config ssh.Config
		ok     bool
	}{
		"ctr":         {ssh.Config{Ciphers: []string{ssh.CipherAES256CTR}, MACs: []string{ssh.HMACSHA256ETM}}, true},
		"cbc":         {ssh.Config{Ciphers: []string{ssh.InsecureCipherAES128CBC}}, false},
		"sha1 mac":    {ssh.Config{Ciphers: []string{ssh.CipherAES256CTR}, MACs: []string{ssh.HMACSHA1}}, false},
		"group14":     {ssh.Config{KeyExchanges: []string{ssh.InsecureKeyExchangeDH14SHA1}}, false},
		"group14-256": {ssh.Config{KeyExchanges: []string{ssh.KeyExchangeDH14SHA256}}, false},
		"mlkem":       {ssh.Config{KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519}}, true},
	} {
		client, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{Config: c.config, User: "x+web-1", Auth: []ssh.AuthMethod{ssh.Password("token")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			client.Close()
		}
	}
	for ident, want := range map[string]bool{"SSH-2.0-OpenSSH_9.2p1 Debian": true, "SSH-2.0-OpenSSH_10.0": true, "SSH-2.0-OpenSSH_6.0": false, "SSH-2.0-paramiko_3.4": false, "": false, "SSH-2.0-OpenSSH_": false} {
		if prefersSlow(ident) != want {
			t.Error(ident)
		}
	}
	// Who waits for the gateway to speak first is spoken to.
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := make([]byte, 8)
	if _, err := io.ReadFull(nc, b); err != nil || string(b) != "SSH-2.0-" {
		t.Errorf("%q, %v", b, err)
	}
}

// A host whose key nobody vouches for is not spoken to, and the client reads so.
func TestSA18HostKey(t *testing.T) {
	g := serve(t, all, func(g *gateway) {
		g.log.hostKey = func(string, net.Addr, ssh.PublicKey) error { return errors.New("not pinned") }
	})
	got := run(t, g.ssh(who, "echo in"), "")
	if got.code != 255 || !strings.Contains(got.err, "taskgate: the host web-1 is not who it should be") || !strings.Contains(got.err, ssh.FingerprintSHA256(g.host.HostKey)) {
		t.Errorf("%+v", got)
	}
	if strings.Contains(g.host.Log(), "Accepted") {
		t.Error("it was logged in to")
	}
	g.log.mu.Lock()
	g.log.hostKey = nil
	g.log.mu.Unlock()
	if err := g.host.Authorize(newSigner(t).PublicKey()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, g.ssh(who, "echo in"), ""); got.code != 255 || !strings.Contains(got.err, "could not log in to the host web-1") {
		t.Errorf("%+v", got)
	}
	g.host.Stop()
	if got := run(t, g.ssh(who, "echo in"), ""); got.code != 255 || !strings.Contains(got.err, "the host web-1 cannot be reached") {
		t.Errorf("%+v", got)
	}
	if n := g.log.count(func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.State == gate.Failed.String() }); n != 3 {
		t.Errorf("%d failed", n)
	}
}
