package ssh

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// OpenSSH's sftp and scp work, each of their operations judged by itself, and an
// exit status comes of it. (Their cases are tested in sftp.)
func TestOpenSSHFiles(t *testing.T) {
	g := serve(t, but("write "+"/forbidden", "netconf"))
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	from := g.write(t, "from", string(data))
	to := filepath.Join(t.TempDir(), "to")
	args := append([]string{"-P", g.port}, g.options()[4:]...)
	cmd := exec.Command("scp", append(append([]string{"-F", "none"}, args...), from, who+":"+to)...)
	cmd.Env = g.env()
	if got := run(t, cmd, ""); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, data) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	cmd = exec.Command("sftp", append(append([]string{"-F", "none"}, args...), "-b", "-", who)...)
	cmd.Env = g.env()
	back := filepath.Join(g.dir, "back")
	got := run(t, cmd, "get "+to+" "+back+"\nput "+from+" /forbidden\n")
	if got.code == 0 || !strings.Contains(got.err+got.out, "denied") {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(back); err != nil || !bytes.Equal(b, data) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	g.log.wait(t, "the end of the subsystem", done("exit 0"))
	// SC09: other subsystems are programs that a task has to list.
	c := g.connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	s.Stderr = &errs
	if err := s.RequestSubsystem("netconf"); err != nil {
		t.Fatal(err)
	}
	var e *ssh.ExitError
	if err := s.Wait(); !asExit(err, &e) || e.ExitStatus() != 126 || !strings.Contains(errs.String(), "denied") {
		t.Errorf("%v, %s", err, errs.String())
	}
}
