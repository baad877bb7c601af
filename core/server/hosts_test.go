package server

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// keyFile writes a private key and gives its signer.
func keyFile(t *testing.T, path string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostsOf reads a configuration whose resources are hosts.
func hostsOf(t *testing.T, dir, resources string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(dir, "gateway.yaml"), []byte("listeners: {ssh: {address: \"127.0.0.1:0\"}}\nissuers: [{url: \"https://idp.example\", client_id: x}]\nplugins: [{name: tasks, path: x.wasm, may: [allow]}]\nresources:\n"+resources))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reach says how it goes to log in to a host of a configuration.
func reach(t *testing.T, r *config.Resource) error {
	t.Helper()
	res, err := resource(r)
	if err != nil {
		return err
	}
	for login := range r.Logins {
		return reachHost(t.Context(), res, login)
	}
	return nil
}

// TestSA18HostKeys: a host is known by what the configuration says of it, and
// by nothing else; it is bound to the address that is meant.
func TestSA18HostKeys(t *testing.T) {
	dir := t.TempDir()
	ca, other := keyFile(t, filepath.Join(dir, "ca")), keyFile(t, filepath.Join(dir, "other"))
	plain := sshtest.Start(t, sshtest.Options{})
	named := sshtest.Start(t, sshtest.Options{HostCA: ca, HostNames: []string{"localhost"}})
	key := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cas", "# those of the hosts\n"+key(other.PublicKey())+"\n\n"+key(ca.PublicKey())+" of hosts\n")
	write("none", "\n# nobody\n")
	write("bad", key(ca.PublicKey())+"\n@cert-authority * "+key(ca.PublicKey())+"\n")
	port := func(s *sshtest.Server) string { _, p, _ := net.SplitHostPort(s.Address); return p }
	for _, c := range []struct {
		at   *sshtest.Server
		host string
		by   string
		want string
	}{
		{plain, "127.0.0.1", `host_key: "` + ssh.FingerprintSHA256(plain.HostKey) + `"`, ""},
		{plain, "127.0.0.1", `host_key: "` + key(plain.HostKey) + `"`, ""},
		{plain, "localhost", `host_key: ["` + key(other.PublicKey()) + `", "` + ssh.FingerprintSHA256(plain.HostKey) + `"]`, ""},
		{named, "127.0.0.1", `host_key: "` + key(named.HostKey) + `"`, ""}, // it has a certificate besides
		{named, "localhost", `host_ca: "` + key(ca.PublicKey()) + `"`, ""},
		{named, "LOCALHOST", `host_ca: "file:cas"`, ""},
		{plain, "127.0.0.1", `host_key: "` + ssh.FingerprintSHA256(other.PublicKey()) + `"`, "host key " + ssh.FingerprintSHA256(plain.HostKey) + ": this ssh-ed25519 key came, and host_key has " + ssh.FingerprintSHA256(other.PublicKey())},
		{plain, "127.0.0.1", `host_key: "` + key(other.PublicKey()) + `"`, "and host_key has " + ssh.FingerprintSHA256(other.PublicKey())},
		{plain, "127.0.0.1", `host_key: "` + ssh.FingerprintSHA256(named.HostKey) + `"`, "and host_key has"},                                   // of another host that is ours
		{named, "127.0.0.1", `host_ca: "` + key(ca.PublicKey()) + `"`, `principal "127.0.0.1" not in the set of valid principals`},             // good for another name
		{named, "localhost", `host_ca: "` + key(other.PublicKey()) + `"`, "is signed by " + ssh.FingerprintSHA256(ca.PublicKey()) + ", which"}, // by somebody
		{plain, "127.0.0.1", `host_ca: "file:cas"`, "no common algorithm for host key"},                                                        // it shows no certificate
		{named, "localhost", `host_ca: "file:none"`, "none holds no key, and an unknown host is never taken"},                                  // empty is not "skip"
		{named, "localhost", `host_ca: "file:bad"`, "bad:2: the line of a public key is expected"},
	} {
		cfg := hostsOf(t, dir, fmt.Sprintf("  web-1: {protocol: ssh, address: %q, %s, login: %s, key: \"file:%s\"}\n", c.host+":"+port(c.at), c.by, c.at.User, c.at.ClientKeyFile))
		err := reach(t, cfg.Resources["web-1"])
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v", c.host, c.by, err)
		}
	}
	// Certificates that a server would not have been given: held against the target itself.
	h, err := hostResource(hostsOf(t, dir, `  web-1: {protocol: ssh, address: "web-1:22", host_ca: "file:cas", login: a, key: "file:id"}`+"\n").Resources["web-1"])
	if err != nil {
		t.Fatal(err)
	}
	write("cas", key(ca.PublicKey())+"\n")
	if again, err := hostResource(hostsOf(t, dir, `  web-1: {protocol: ssh, address: "web-1:22", host_ca: "file:cas", login: a, key: "file:id"}`+"\n").Resources["web-1"]); err != nil || again.Digest == h.Digest {
		t.Errorf("%v: a reload would not see that an authority is gone", err)
	}
	known := h.Options.(*sshproto.ResourceOptions).Dial.(*hostTarget).known
	now := uint64(time.Now().Unix())
	for name, c := range map[string]*ssh.Certificate{
		"":                  {CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"}, ValidAfter: now - 60, ValidBefore: now + 60},
		"no host's":         {CertType: ssh.UserCert, ValidPrincipals: []string{"web-1"}, ValidAfter: now - 60, ValidBefore: now + 60},
		"expired":           {CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"}, ValidAfter: now - 60, ValidBefore: now - 1},
		"critical option":   {CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"}, ValidAfter: now - 60, ValidBefore: now + 60, Permissions: ssh.Permissions{CriticalOptions: map[string]string{"x": ""}}},
		"not yet valid":     {CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"}, ValidAfter: now + 60, ValidBefore: now + 120},
		`principal "web-1"`: {CertType: ssh.HostCert, ValidPrincipals: []string{"*", "jump"}, ValidAfter: now - 60, ValidBefore: now + 60},
	} {
		c.Key = other.PublicKey()
		if err := c.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		// Whoever asks, and over whatever it was reached: the address of the configuration counts.
		if err := known("jump:22", nil, c); name == "" && err != nil || name != "" && (err == nil || !strings.Contains(err.Error(), name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if known("web-1:22", nil, ca.PublicKey()) == nil {
		t.Error("the authority's own key is taken for a host's")
	}
}

// TestHostLogins: what opens a host is read for each connection, and what it
// lacks is told without what it is.
func TestHostLogins(t *testing.T) {
	dir := t.TempDir()
	ca := keyFile(t, filepath.Join(dir, "ca"))
	host := sshtest.Start(t, sshtest.Options{TrustedUserCA: ca.PublicKey()})
	r := func(opens string) *config.Resource {
		t.Helper()
		return hostsOf(t, dir, fmt.Sprintf("  web-1: {protocol: ssh, address: %q, host_key: %q, shell: posix, login: %s, %s}\n", host.Address, ssh.FingerprintSHA256(host.HostKey), host.User, opens)).Resources["web-1"]
	}
	id := filepath.Join(dir, "id")
	first := keyFile(t, id)
	if err := host.Authorize(first.PublicKey()); err != nil {
		t.Fatal(err)
	}
	by := r(`key: "file:id"`)
	if err := reach(t, by); err != nil {
		t.Error(err)
	}
	second := keyFile(t, id) // rotated
	if err := reach(t, by); err == nil || !strings.Contains(err.Error(), "login "+host.User+" (account "+host.User+"): the host does not let the gateway in: ssh: handshake failed: ssh: unable to authenticate") {
		t.Errorf("a key that the host does not know: %v", err)
	}
	if err := host.Authorize(second.PublicKey()); err != nil {
		t.Fatal(err)
	}
	if err := reach(t, by); err != nil {
		t.Errorf("the next connection after a rotation: %v", err)
	}
	text, err := os.ReadFile(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TASKGATE_TEST_ID", string(text))
	for _, opens := range []string{`key: "env:TASKGATE_TEST_ID"`, `key: "command:cat ` + id + `"`, `user_ca: "file:ca"`, `user_ca: "command:cat ` + filepath.Join(dir, "ca") + `"`} {
		if err := reach(t, r(opens)); err != nil {
			t.Errorf("%s: %v", opens, err)
		}
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter2", "-f", filepath.Join(dir, "sealed")).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	if err := os.WriteFile(filepath.Join(dir, "junk"), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for opens, want := range map[string]string{`key: "file:sealed"`: "has a passphrase, and nobody is there to type it", `key: "file:junk"`: "junk: no private key as ssh-keygen writes it", `user_ca: "file:gone"`: "gone: no such file", `user_ca: "file:id"`: "unable to authenticate"} {
		err := reach(t, r(opens))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", opens, err)
		}
	}
	bad := hostsOf(t, dir, fmt.Sprintf("  a: {protocol: ssh, address: %q, host_key: %q, logins: {x: {user: x, key: \"file:sealed\"}, y: {user: y, user_ca: \"file:gone\"}, z: {user: z, key: \"file:id\"}}}\n", host.Address, ssh.FingerprintSHA256(host.HostKey)))
	if got := Secrets(bad); len(got) != 2 || !strings.Contains(got[0], "login x: ") || !strings.Contains(got[1], "login y: ") {
		t.Errorf("%q", got)
	}

	// The certificate itself: of minutes, for one account, without what would run by itself.
	res, err := hostResource(r(`user_ca: "file:ca"`))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := certify(ca, res.Name, "deploy")
	if err != nil {
		t.Fatal(err)
	}
	c, ok := signer.PublicKey().(*ssh.Certificate)
	if !ok || len(c.ValidPrincipals) != 1 || c.ValidPrincipals[0] != "deploy" || time.Until(time.Unix(int64(c.ValidBefore), 0)) > certified || c.CertType != ssh.UserCert || !bytes.Equal(c.SignatureKey.Marshal(), ca.PublicKey().Marshal()) {
		t.Errorf("%+v", c)
	}
	if _, rc := c.Extensions["permit-user-rc"]; rc || c.Serial == 0 {
		t.Errorf("%+v", c)
	}
	up, err := Dialer{}.Dial(t.Context(), res, host.User)
	if err != nil {
		t.Fatal(err)
	}
	up.Conn.Close()
	if text := fmt.Sprintf("%v %+v", up, up.Auth); strings.Contains(text, "PRIVATE") || !strings.Contains(text, host.User) {
		t.Error(text)
	}
	// The key that opens the gateway opens no host, also where it came to be it later.
	_, err = Dialer{Foreign: func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), ca.PublicKey().Marshal()) }}.Dial(t.Context(), res, host.User)
	if _, own := err.(*gate.Credential); !own || !strings.Contains(err.Error(), "they have to be two keys") {
		t.Error(err)
	}
}

// TestPosixShell: a login shell that is said to be posix is asked, once.
func TestPosixShell(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := filepath.Join(dir, "shell")
	// It runs what it is given after it has noted that, and reads a backslash in quotes as fish does where it is told.
	text := "#!/bin/sh\necho x >>" + log + "\n[ -e " + dir + "/odd ] && SSH_ORIGINAL_COMMAND=$(printf %s \"$SSH_ORIGINAL_COMMAND\" | sed 's/\\\\\\\\/\\\\/g')\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	host := sshtest.Start(t, sshtest.Options{Config: []string{"ForceCommand " + script}})
	res := func(shell string) *gate.Resource {
		t.Helper()
		r, err := resource(hostsOf(t, dir, fmt.Sprintf("  web-1: {protocol: ssh, address: %q, host_key: %q, login: %s, key: \"file:%s\"%s}\n", host.Address, ssh.FingerprintSHA256(host.HostKey), host.User, host.ClientKeyFile, shell)).Resources["web-1"])
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	asked := func() int { b, _ := os.ReadFile(log); return bytes.Count(b, []byte("x")) }
	if err := reachHost(t.Context(), res(""), host.User); err != nil || asked() != 0 {
		t.Errorf("%v, asked %d times", err, asked())
	}
	r := res(", shell: posix")
	for range 2 {
		if err := reachHost(t.Context(), r, host.User); err != nil {
			t.Error(err)
		}
	}
	if asked() != 1 {
		t.Errorf("asked %d times", asked())
	}
	if err := os.WriteFile(filepath.Join(dir, "odd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is wrong is not taken the next time either
		if err := reachHost(t.Context(), res(", shell: posix"), host.User); err == nil || !strings.Contains(err.Error(), "the login shell does not read words as POSIX has it") {
			t.Error(err)
		}
	}
}

// TestCheckLiveHosts: each host that a task names is asked, and what is wrong
// with any of them is told of all.
func TestCheckLiveHosts(t *testing.T) {
	dir := t.TempDir()
	one, two := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{Config: []string{"ForceCommand echo no"}})
	if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte("task: x\nresources: [good, bad, odd, shut]\nlogin: me\nallow:\n  - {exec: [[pwd]]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	host := func(name string, s, key *sshtest.Server, more string) string {
		return fmt.Sprintf("  %s: {protocol: ssh, address: %q, host_key: %q, logins: {me: {user: %s, key: \"file:%s\"}}, %s}\n", name, s.Address, ssh.FingerprintSHA256(key.HostKey), s.User, s.ClientKeyFile, more)
	}
	good := host("good", one, one, "shell: posix")
	if live, err := CheckLive(t.Context(), hostsOf(t, dir, good), cat); err != nil || len(live.Faults) > 0 || len(live.Drift) > 0 {
		t.Errorf("%+v %v", live, err)
	}
	shut := strings.Replace(host("shut", one, one, "shell: posix"), one.ClientKeyFile, two.ClientKeyFile, 1)
	_, err = CheckLive(t.Context(), hostsOf(t, dir, good+host("bad", one, two, "shell: posix")+host("odd", two, two, "shell: posix")+shut), cat)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"resource bad at " + one.Address + ": login me (account " + one.User + "): host key SHA256:", "resource odd at " + two.Address + ": login me (account " + two.User + "): shell: posix: the login shell does not read words as POSIX has it", "resource shut at " + one.Address + ": login me (account " + one.User + "): the host does not let the gateway in: "} {
		if len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q: %s", lines, want)
			break
		}
	}
	for i, want := range []string{ssh.FingerprintSHA256(two.HostKey), "printf gave", "~" + one.User + "/.ssh/authorized_keys has to have the line \"" + line(two.ClientKey.PublicKey()) + "\""} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("no %s in %s", want, lines[i])
		}
	}
	if !strings.Contains(lines[0], "host key "+ssh.FingerprintSHA256(one.HostKey)+": ") {
		t.Error(lines[0])
	}
}
