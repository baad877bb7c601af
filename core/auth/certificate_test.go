package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
)

// pair makes a key and the text of its private file.
func pair(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, pem.EncodeToMemory(block)
}

// authority gives logins an authority that the test can sign with too.
func (b *bench) authority(t *testing.T) ssh.Signer {
	t.Helper()
	signer, text := pair(t)
	ca, err := auth.NewCA(text)
	if err != nil {
		t.Fatal(err)
	}
	b.SetCA(ca)
	return signer
}

// certify makes a certificate of a token, as the API does.
func (b *bench) certify(t *testing.T, secret string, want auth.Certified) *ssh.Certificate {
	t.Helper()
	token, record, err := b.Lookup(t.Context(), secret, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Certify(token, record, want)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func by(c ssh.PublicKey) gate.Login {
	return gate.Login{Protocol: "ssh", Task: "x", Resource: "r", Certificate: c.Marshal(), Address: "192.0.2.1:5000"}
}

func TestCertificate(t *testing.T) {
	b := logins(t, true)
	b.authority(t)
	r, token := b.login(t)
	key, _ := pair(t)
	want := auth.Certified{Key: key.PublicKey(), Tasks: []string{"y", "x"}, Lasts: auth.CertificateLasts}
	c := b.certify(t, token, want)
	g, err := b.Authenticate(t.Context(), by(c))
	if err != nil || g.Subject != "ada" || g.Issuer != r.Issuer || g.Login != r.ID || g.Source != "certificate" || !g.Expires.Equal(r.Expires) || strings.Join(g.Groups, " ") != "task:x" {
		t.Fatalf("%+v %v", g, err)
	}
	if c.KeyId != "ada" || strings.Join(c.ValidPrincipals, " ") != "taskgate:x taskgate:y" || c.ValidBefore-c.ValidAfter != 600 {
		t.Errorf("%+v", c)
	}
	both := by(c)
	both.Secret = token
	if _, err := b.Authenticate(t.Context(), both); err == nil {
		t.Error("a certificate beside a token is taken")
	}
	b.clock(11 * time.Minute) // the session goes on; another does not begin
	if _, err := b.Authenticate(t.Context(), by(c)); err == nil {
		t.Error("SA04: taken after its end")
	}
	fresh := b.certify(t, token, want)
	b.SetCA(nil)
	if _, err := b.Authenticate(t.Context(), by(fresh)); err == nil {
		t.Error("taken without an authority")
	}
	other, text := pair(t)
	ca, err := auth.NewCA(text)
	if err != nil {
		t.Fatal(err)
	}
	b.SetCA(ca) // the old one is revoked by that
	if _, err := b.Authenticate(t.Context(), by(fresh)); err == nil {
		t.Error("SA04: taken of the authority of before")
	}
	if !ca.Authority(other.PublicKey()) || ca.Authority(key.PublicKey()) || ca.Authority(nil) {
		t.Error("the authority does not know itself")
	}
}

// SA04: what is wrong with a certificate that our own authority has signed, or
// another, is the end of it.
func TestSA04BadCertificates(t *testing.T) {
	b := logins(t, true)
	signer := b.authority(t)
	stranger, _ := pair(t)
	key, _ := pair(t)
	_, token := b.login(t)
	good := func() *ssh.Certificate {
		return b.certify(t, token, auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: auth.CertificateLasts})
	}
	now := uint64(time.Now().Unix())
	for name, change := range map[string]func(c *ssh.Certificate) ssh.Signer{
		"expired":         func(c *ssh.Certificate) ssh.Signer { c.ValidAfter, c.ValidBefore = now-60, now-1; return signer },
		"at its very end": func(c *ssh.Certificate) ssh.Signer { c.ValidAfter, c.ValidBefore = now-60, now; return signer },
		"not yet":         func(c *ssh.Certificate) ssh.Signer { c.ValidAfter, c.ValidBefore = now+60, now+120; return signer },
		"for ever": func(c *ssh.Certificate) ssh.Signer {
			c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity
			return signer
		},
		"for two hours":       func(c *ssh.Certificate) ssh.Signer { c.ValidBefore = c.ValidAfter + 7200; return signer },
		"backwards":           func(c *ssh.Certificate) ssh.Signer { c.ValidAfter = c.ValidBefore + 1; return signer },
		"another principal":   func(c *ssh.Certificate) ssh.Signer { c.ValidPrincipals = []string{"taskgate:y"}; return signer },
		"a longer principal":  func(c *ssh.Certificate) ssh.Signer { c.ValidPrincipals = []string{"taskgate:xx"}; return signer },
		"a bare principal":    func(c *ssh.Certificate) ssh.Signer { c.ValidPrincipals = []string{"x"}; return signer },
		"a principal of all":  func(c *ssh.Certificate) ssh.Signer { c.ValidPrincipals = []string{"taskgate:*", "*"}; return signer },
		"a host's":            func(c *ssh.Certificate) ssh.Signer { c.CertType = ssh.HostCert; return signer },
		"of no type":          func(c *ssh.Certificate) ssh.Signer { c.CertType = 3; return signer },
		"an unknown option":   func(c *ssh.Certificate) ssh.Signer { c.CriticalOptions["force-command"] = "id"; return signer },
		"verify-required":     func(c *ssh.Certificate) ssh.Signer { c.CriticalOptions["verify-required"] = ""; return signer },
		"not for the gateway": func(c *ssh.Certificate) ssh.Signer { delete(c.CriticalOptions, "gateway@taskgate"); return signer },
		"for it with a value": func(c *ssh.Certificate) ssh.Signer { c.CriticalOptions["gateway@taskgate"] = "x"; return signer },
		"for it as an extension": func(c *ssh.Certificate) ssh.Signer {
			delete(c.CriticalOptions, "gateway@taskgate")
			c.Extensions["gateway@taskgate"] = ""
			return signer
		},
		"another address": func(c *ssh.Certificate) ssh.Signer {
			c.CriticalOptions["source-address"] = "198.51.100.0/24"
			return signer
		},
		"no address": func(c *ssh.Certificate) ssh.Signer { c.CriticalOptions["source-address"] = ""; return signer },
		"a bad address": func(c *ssh.Certificate) ssh.Signer {
			c.CriticalOptions["source-address"] = "192.0.2.0/24,x"
			return signer
		},
		"no address but this one": func(c *ssh.Certificate) ssh.Signer {
			c.CriticalOptions["source-address"] = "!198.51.100.0/24"
			return signer
		},
		"no token": func(c *ssh.Certificate) ssh.Signer { delete(c.Extensions, "token@taskgate"); return signer },
		"half a token": func(c *ssh.Certificate) ssh.Signer {
			c.Extensions["token@taskgate"] = c.Extensions["token@taskgate"][:32]
			return signer
		},
		"another token": func(c *ssh.Certificate) ssh.Signer {
			c.Extensions["token@taskgate"] = strings.Repeat("ab", 32)
			return signer
		},
		"another login":               func(c *ssh.Certificate) ssh.Signer { c.Extensions["login@taskgate"] += "x"; return signer },
		"no login":                    func(c *ssh.Certificate) ssh.Signer { delete(c.Extensions, "login@taskgate"); return signer },
		"another subject":             func(c *ssh.Certificate) ssh.Signer { c.KeyId = "bob"; return signer },
		"another resource":            func(c *ssh.Certificate) ssh.Signer { c.Extensions["resource@taskgate"] = "s"; return signer },
		"no resource at all":          func(c *ssh.Certificate) ssh.Signer { c.Extensions["resource@taskgate"] = ""; return signer },
		"another authority":           func(c *ssh.Certificate) ssh.Signer { return stranger },
		"signed by its own key":       func(c *ssh.Certificate) ssh.Signer { return key },
		"changed after it was signed": func(c *ssh.Certificate) ssh.Signer { return nil },
	} {
		c := good()
		if by := change(c); by == nil {
			c.Serial++
		} else if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		if g, err := b.Authenticate(t.Context(), by(c)); err == nil {
			t.Errorf("%s: taken: %+v", name, g)
		}
	}
	// No principal at all: x/crypto signs no such thing, so that its bytes are made here.
	none := good()
	none.ValidPrincipals = nil
	raw := none.Marshal()
	wire := map[string][]byte{"no principal": raw[:len(raw)-len(ssh.Marshal(none.Signature))-4], "empty": {}, "garbage": []byte("garbage"), "zeros": make([]byte, 4096),
		"a bare key": key.PublicKey().Marshal(), "cut": good().Marshal()[:200], "more behind it": append(good().Marshal(), 0), "a long length": bytes.Repeat([]byte{0xff}, 64)}
	s, err := signer.Sign(rand.Reader, wire["no principal"])
	if err != nil {
		t.Fatal(err)
	}
	sig := ssh.Marshal(s)
	wire["no principal"] = append(wire["no principal"], append([]byte{0, 0, 0, byte(len(sig))}, sig...)...)
	// A certificate in the place of the authority's key.
	inner := good()
	nested := good()
	nested.SignatureKey = inner
	wire["nested"] = nested.Marshal()
	for name, cert := range wire {
		l := by(key.PublicKey())
		l.Certificate = cert
		if _, err := b.Authenticate(t.Context(), l); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// And what all of them were made from is good.
	if _, err := b.Authenticate(t.Context(), by(good())); err != nil {
		t.Error(err)
	}
	ours := good()
	ours.CriticalOptions["source-address"] = "198.51.100.0/24,192.0.2.0/24"
	if err := ours.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Authenticate(t.Context(), by(ours)); err != nil {
		t.Error(err)
	}
}

// SA04: no byte of a certificate can be another, and none can be left out.
func TestSA04EveryByteCounts(t *testing.T) {
	b := logins(t, true)
	b.authority(t)
	key, _ := pair(t)
	_, token := b.login(t)
	good := by(b.certify(t, token, auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: auth.CertificateLasts}))
	if _, err := b.Authenticate(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for i := range good.Certificate {
		bad := good
		bad.Certificate = bytes.Clone(good.Certificate)
		bad.Certificate[i] ^= 1
		if _, err := b.Authenticate(t.Context(), bad); err == nil {
			t.Errorf("byte %d of %d changed: taken", i, len(good.Certificate))
		}
		bad.Certificate = good.Certificate[:i]
		if _, err := b.Authenticate(t.Context(), bad); err == nil {
			t.Errorf("cut at %d of %d: taken", i, len(good.Certificate))
		}
	}
}

// A certificate is good for what its token is, and no longer.
func TestCertificateOfNarrowToken(t *testing.T) {
	b := logins(t, true)
	b.authority(t)
	key, _ := pair(t)
	_, token := b.login(t)
	from := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	narrow, end, err := b.Narrow(t.Context(), token, "192.0.2.1", "x", "r", 5*time.Minute, from)
	if err != nil {
		t.Fatal(err)
	}
	c := b.certify(t, narrow, auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: auth.CertificateAtMost})
	if c.ValidBefore != uint64(end.Unix()) || c.CriticalOptions["source-address"] != "192.0.2.0/24,2001:db8::/32" || c.Extensions["resource@taskgate"] != "r" {
		t.Errorf("%+v", c)
	}
	g, err := b.Authenticate(t.Context(), by(c))
	if err != nil || g.Expires.After(end) {
		t.Errorf("%+v %v", g, err)
	}
	for name, change := range map[string]func(l *gate.Login){
		"another address":  func(l *gate.Login) { l.Address = "198.51.100.1:1" },
		"no address":       func(l *gate.Login) { l.Address = "" },
		"another task":     func(l *gate.Login) { l.Task = "y" },
		"another resource": func(l *gate.Login) { l.Resource = "s" },
		"no resource":      func(l *gate.Login) { l.Resource = "" },
	} {
		l := by(c)
		change(&l)
		if _, err := b.Authenticate(t.Context(), l); err == nil {
			t.Errorf("ID28 %s: taken", name)
		}
	}
	rec, r, err := b.Lookup(t.Context(), narrow, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ssh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]auth.Certified{
		"another task":     {Key: key.PublicKey(), Tasks: []string{"y"}, Lasts: time.Minute},
		"more tasks":       {Key: key.PublicKey(), Tasks: []string{"x", "y"}, Lasts: time.Minute},
		"no task":          {Key: key.PublicKey(), Lasts: time.Minute},
		"another resource": {Key: key.PublicKey(), Tasks: []string{"x"}, Resource: "s", Lasts: time.Minute},
		"too long":         {Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: time.Hour + time.Second},
		"no time":          {Key: key.PublicKey(), Tasks: []string{"x"}},
		"SA05 1024 bits":   {Key: small, Tasks: []string{"x"}, Lasts: time.Minute},
		"SA04 nested":      {Key: c, Tasks: []string{"x"}, Lasts: time.Minute},
	} {
		if c, err := b.Certify(rec, r, want); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	wide, wr, err := b.Lookup(t.Context(), token, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for i := range 257 {
		many = append(many, fmt.Sprintf("t%d", i))
	}
	if _, err := b.Certify(wide, wr, auth.Certified{Key: key.PublicKey(), Tasks: many, Lasts: time.Minute}); err == nil || !strings.Contains(err.Error(), "name one") {
		t.Errorf("257 tasks: %v", err)
	}
	if _, err := b.Certify(wide, wr, auth.Certified{Key: key.PublicKey(), Tasks: many[1:], Lasts: time.Minute}); err != nil {
		t.Errorf("256 tasks: %v", err)
	}
	b.clock(5 * time.Minute)
	if _, err := b.Certify(rec, r, auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: time.Minute}); !errors.Is(err, auth.ErrToken) {
		t.Errorf("of a token that is over: %v", err)
	}
}

// ID09, ID10, ID20: what ends a login ends what its certificates open; lost groups
// are seen as they are for its tokens.
func TestID09CertificateOfALostLogin(t *testing.T) {
	b := logins(t, true)
	b.authority(t)
	key, _ := pair(t)
	_, token := b.login(t)
	want := auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: auth.CertificateAtMost}
	c := b.certify(t, token, want)
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace", Groups: []string{"task:y"}}})
	b.clock(6 * time.Minute)
	g, err := b.Authenticate(t.Context(), by(c))
	if err != nil || strings.Join(g.Groups, " ") != "task:y" { // gate.Permits says no to those
		t.Errorf("%+v %v", g, err)
	}
	if r, err := b.Current(t.Context(), g.Login); err != nil || strings.Join(r.Groups, " ") != "task:y" {
		t.Errorf("%+v %v", r, err)
	}
	b.p.SetUsers(nil)
	b.clock(6 * time.Minute)
	if _, err := b.Authenticate(t.Context(), by(c)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a user who is gone: %v", err)
	}
	b.p.SetUsers(map[string]devidp.User{"ada": {Password: "lovelace", Groups: []string{"task:x"}}})
	_, token = b.login(t)
	c = b.certify(t, token, want)
	if _, err := b.End(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Authenticate(t.Context(), by(c)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("ID10 after logout: %v", err)
	}
	b.store.Close()
	if _, err := b.Authenticate(t.Context(), by(c)); err == nil || errors.Is(err, auth.ErrToken) {
		t.Errorf("ID31 without a store: %v", err)
	}
}

// A login that nobody waits for is nobody's, whether it is confirmed then or was
// just before.
func TestAbandon(t *testing.T) {
	b := logins(t, true)
	var busy error
	for range 30 { // who gives up and asks again does not have the provider asked without end
		d, err := b.Begin(t.Context(), "", "192.0.2.7", auth.Data)
		if busy = err; err != nil {
			break
		}
		b.Abandon(d.ID)
		if _, _, err := b.Wait(t.Context(), d.ID); !errors.Is(err, auth.ErrUnknown) {
			t.Fatal(err)
		}
		b.Abandon(d.ID)
	}
	if !errors.Is(busy, auth.ErrBusy) {
		t.Error(busy)
	}
	d, err := b.Begin(t.Context(), "", "192.0.2.1", auth.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "lovelace"); err != nil {
		t.Fatal(err)
	}
	b.Abandon(d.ID)
	r, _ := b.login(t)
	ids, err := b.store.LoginsOf(t.Context(), r.Issuer, "ada", time.Now())
	if err != nil || len(ids) != 1 || ids[0] != r.ID {
		t.Errorf("logins that are left: %q, not %q: %v", ids, r.ID, err)
	}
}

func TestOpenCA(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "ssh-ca")
	first, err := auth.OpenCA(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := auth.OpenCA(path)
	if err != nil || !again.Authority(first.PublicKey()) {
		t.Fatalf("another key the second time: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenCA(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "garbage": "no key", "a public key": string(ssh.MarshalAuthorizedKey(first.PublicKey()))} {
		bad := filepath.Join(t.TempDir(), "ca")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.OpenCA(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	given := filepath.Join(t.TempDir(), "ca")
	for _, c := range []struct {
		args []string
		want string
	}{{[]string{"-t", "ed25519", "-N", ""}, ""}, {[]string{"-t", "ecdsa", "-N", ""}, ""}, {[]string{"-t", "rsa", "-b", "3072", "-N", ""}, ""},
		{[]string{"-t", "ed25519", "-N", "secret"}, "passphrase"}, {[]string{"-t", "rsa", "-b", "1024", "-N", ""}, ""}} {
		_ = os.Remove(given)
		if out, err := exec.Command("ssh-keygen", append(c.args, "-q", "-f", given)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, err := auth.OpenCA(given)
		small := slices.Contains(c.args, "1024")
		if (err != nil) != (c.want != "" || small) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

// ID30: the certificate that opens the gateway opens no host, even where one
// trusts our authority: sshd does not know the critical option. ssh-keygen reads it.
func TestID30StockServerRefuses(t *testing.T) {
	b := logins(t, true)
	signer := b.authority(t)
	_, token := b.login(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	_, hostText := pair(t)
	host := write("host", hostText)
	ca := write("ca.pub", ssh.MarshalAuthorizedKey(signer.PublicKey()))
	principals := write("principals", []byte("taskgate:x\n"))
	key, keyText := pair(t)
	id := write("id", keyText)
	c := b.certify(t, token, auth.Certified{Key: key.PublicKey(), Tasks: []string{"x"}, Lasts: auth.CertificateLasts})
	// -i serves one connection on its standard input.
	config := write("sshd_config", fmt.Appendf(nil, "HostKey %s\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\nAuthorizedKeysFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nLogLevel DEBUG\n", host, ca, principals))
	if os.Getuid() == 0 { // its directory for privilege separation
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	try := func(c *ssh.Certificate) (string, error) {
		t.Helper()
		cert := write("id-cert.pub", ssh.MarshalAuthorizedKey(c))
		cmd := exec.Command("ssh", "-F", "none", "-o", "ProxyCommand=/usr/sbin/sshd -i -f "+config+" -E "+filepath.Join(dir, "log"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-i", id, "-o", "CertificateFile="+cert, me.Username+"@x", "echo in")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := try(c)
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	if err == nil || !strings.Contains(out, "Permission denied") || !bytes.Contains(log, []byte("gateway@taskgate")) {
		t.Errorf("a stock sshd took it, or refused it for another reason: %v %s\n%s", err, out, log)
	}
	show, err := exec.Command("ssh-keygen", "-L", "-f", filepath.Join(dir, "id-cert.pub")).CombinedOutput()
	for _, want := range []string{"user certificate", "Key ID: \"ada\"", "taskgate:x", "gateway@taskgate UNKNOWN", "permit-pty", "Signing CA: ED25519 " + ssh.FingerprintSHA256(signer.PublicKey())} {
		if err != nil || !strings.Contains(string(show), want) {
			t.Errorf("ssh-keygen -L: %v, no %q in\n%s", err, want, show)
		}
	}
	// It is that option alone: without it the same server lets the same key in.
	delete(c.CriticalOptions, "gateway@taskgate")
	if err := c.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	if out, err := try(c); err != nil || !strings.Contains(out, "in\n") {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Errorf("%v %s\n%s", err, out, log)
	}
}

// All kinds of keys that clients have are certified, and known again.
func TestCertifiedKeys(t *testing.T) {
	b := logins(t, true)
	b.authority(t)
	_, token := b.login(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := []ssh.PublicKey{}
	for _, k := range []any{&ec.PublicKey, &big.PublicKey} {
		p, err := ssh.NewPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, p)
	}
	// Keys on a token (FIDO): their form alone, since there is no token here.
	point, err := ec.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	ed, _ := pair(t)
	raw := ed.PublicKey().(ssh.CryptoPublicKey).CryptoPublicKey().(ed25519.PublicKey)
	for _, wire := range [][]byte{
		ssh.Marshal(struct {
			Type, Curve string
			Point       []byte
			App         string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point.Bytes(), "ssh:"}),
		ssh.Marshal(struct {
			Type string
			Key  []byte
			App  string
		}{ssh.KeyAlgoSKED25519, raw, "ssh:"}),
	} {
		p, err := ssh.ParsePublicKey(wire)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, p)
	}
	for _, k := range keys {
		c := b.certify(t, token, auth.Certified{Key: k, Tasks: []string{"x"}, Lasts: time.Minute})
		if _, err := b.Authenticate(t.Context(), by(c)); err != nil {
			t.Errorf("%s: %v", k.Type(), err)
		}
		if _, needless := c.Extensions["no-touch-required"]; needless {
			t.Errorf("SA04 %s: without a touch", k.Type())
		}
	}
}
