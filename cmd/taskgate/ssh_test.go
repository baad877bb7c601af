package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/server"
)

// What `taskgate ssh-config` writes is what the real ssh understands: it runs our
// command for our names alone, and what stands behind our block stays as it was.
func TestSSHConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%c") // a blank, and what ssh would expand
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", dir)
	called := filepath.Join(t.TempDir(), "called")
	program := filepath.Join(dir, "task gate")
	script := func(status int) {
		t.Helper()
		if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >>%s\necho taskgate: told >&2\nexit %d\n", called, status), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script(0)
	k := &kept{Gateway: "https://gw.example:8443"}
	m := &server.Me{Tasks: []server.TaskStatus{{Name: "look", SSH: []string{"web-1", "web-2"}}, {Name: "other", Resources: []string{"shop"}, SSH: []string{"web-2", "*", "-oProxyCommand=x", "a b"}}}}
	hosts, err := k.sshHosts(m, &server.SSH{Address: "[::]:2222"})
	if err != nil {
		t.Fatal(err)
	}
	block, err := sshConfig(program, hosts)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	mine := "User me\nHost theirs\n  Port 99\n"
	for range 2 { // the second time in the place of the first
		if err := os.WriteFile(config, []byte(mine), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := writeBlock(config, block); err != nil {
			t.Fatal(err)
		}
		if err := writeBlock(config, block); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(config); err != nil || string(b) != block+mine {
		t.Errorf("%v %s", err, b)
	}
	if st, err := os.Stat(config); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	show := func(host string) string {
		t.Helper()
		_ = os.Remove(called)
		out, err := exec.Command("ssh", "-F", config, "-G", host).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return "\n" + string(out)
	}
	ran := func() string {
		b, _ := os.ReadFile(called)
		return string(b)
	}
	for host, want := range map[string][2]string{"web-1": {"look", "web-1"}, "look+web-1": {"look", "web-1"}, "look+web-2": {"look", "web-2"}, "other+web-2": {"other", "web-2"}} {
		out := show(host)
		for _, line := range []string{"hostname gw.example", "port 2222", "user " + want[0] + "+" + want[1], "certificatefile " + dir + "/taskgate/ssh/" + want[0] + "-cert.pub", "hostkeyalias taskgate", "identitiesonly yes", "stricthostkeychecking true"} {
			if got := strings.ReplaceAll(out, "%%", "%"); !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("%s: no %q in %s", host, line, out)
			}
		}
		if got := ran(); got != "ssh-certificate "+want[0]+"\n" {
			t.Errorf("%s: ran %q", host, got)
		}
	}
	for _, host := range []string{"web-2", "theirs", "web-11", "gw.example"} { // of two tasks, and not ours
		if out := show(host); ran() != "" || strings.Contains(out, "certificatefile") || !strings.Contains(out, "\nuser me\n") {
			t.Errorf("%s: %q %s", host, ran(), out)
		}
	}
	if out := show("theirs"); !strings.Contains(out, "\nport 99\n") {
		t.Error(out)
	}
	script(1) // no certificate to be had: it says why, and ssh goes on with what else there is
	if out := show("web-1"); strings.Contains(out, "certificatefile") || !strings.Contains(out, "taskgate: told") || !strings.Contains(out, "\nuser look+web-1\n") {
		t.Error(out)
	}
	for _, broken := range []string{sshBlock, block + block, sshBlock + sshBlock + sshBlockEnds} {
		if err := os.WriteFile(config, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeBlock(config, block); err == nil {
			t.Errorf("taken: %q", broken)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(config, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(config, link); err != nil {
		t.Fatal(err)
	}
	if err := writeBlock(link, block); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", st.Mode(), err)
	}
}

// A certificate is kept while it lasts, and by whom it is for.
func TestFreshCertificate(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	now := uint64(time.Now().Unix())
	c := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"taskgate:look"}, ValidAfter: now + 7200, ValidBefore: now + 7800} // by a clock two hours ahead
	if err := c.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "look-cert.pub")
	if freshCertificate(path, signer.PublicKey()) != nil {
		t.Error("one that is not there")
	}
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(c), 0o600); err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]bool{0: true, 8 * time.Minute: true, 9*time.Minute + time.Second: false, time.Hour: false, -time.Hour: false} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if got := freshCertificate(path, signer.PublicKey()) != nil; got != want {
			t.Errorf("%s old: %v", age, got)
		}
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(c), 0o600); err != nil {
		t.Fatal(err)
	}
	if freshCertificate(path, key) != nil {
		t.Error("another key's")
	}
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(key), 0o600); err != nil {
		t.Fatal(err)
	}
	if freshCertificate(path, key) != nil {
		t.Error("a bare key")
	}
}
