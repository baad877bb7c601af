package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestServer: a login of ours and one of OpenSSH's own, certificates both ways,
// lines of the configuration, and an end that leaves no program behind.
func TestServer(t *testing.T) {
	hostCA, userCA := signer(t), signer(t)
	s := Start(t, Options{TrustedUserCA: userCA.PublicKey(), HostCA: hostCA, Config: []string{"MaxAuthTries 3"}})
	c, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := x.Output("id -un"); err != nil || strings.TrimSpace(string(out)) != s.User {
		t.Errorf("%q %v", out, err)
	}
	_, port, _ := strings.Cut(s.Address, ":")
	out, err := exec.Command("ssh", "-F", "none", "-p", port, "-i", s.ClientKeyFile, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile="+s.KnownHosts, "-o", "BatchMode=yes",
		"-o", "HostKeyAlgorithms=ssh-ed25519", s.User+"@127.0.0.1", "echo hello; exit 7").CombinedOutput()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 7 || !strings.HasSuffix(string(out), "hello\n") {
		t.Errorf("%q %v", out, err)
	}

	mine := signer(t)
	cert := &ssh.Certificate{Key: mine.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{s.User}, ValidBefore: uint64(time.Now().Add(time.Minute).Unix())}
	if err := cert.SignCert(rand.Reader, userCA); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, mine)
	if err != nil {
		t.Fatal(err)
	}
	check := &ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
		return string(k.Marshal()) == string(hostCA.PublicKey().Marshal())
	}}
	d, err := ssh.Dial("tcp", s.Address, &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(certified)}, HostKeyCallback: check.CheckHostKey, HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01}})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := s.Authorize(); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Client(); err == nil {
		d.Close()
		t.Error("a key that is gone from authorized_keys logs in")
	}
	left, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	said, err := left.StdoutPipe()
	if err == nil {
		err = left.Start("echo $$; exec sleep 1000")
	}
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(said, &pid); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if left.Wait() == nil {
		t.Error("a session goes on")
	}
	for { // as a zombie it may stay for whoever collects those
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(b) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := Run(t.TempDir(), Options{Config: []string{"NoSuchKeyword yes"}}); err == nil || !strings.Contains(err.Error(), "NoSuchKeyword") {
		t.Errorf("a line that is none: %v", err)
	}
}
