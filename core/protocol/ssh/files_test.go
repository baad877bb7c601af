package ssh

import (
	"bytes"
	"io"
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
	g := serve(t, but("forbidden", "netconf"))
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
	cmd = exec.Command("sftp", append(append([]string{"-F", "none"}, args...), "-o", "BatchMode=no", "-b", "-", who)...)
	cmd.Env = g.env()
	back := filepath.Join(g.dir, "back")
	got := run(t, cmd, "get "+to+" "+back+"\nput "+from+" "+g.dir+"/forbidden\n")
	if got.code == 0 || !strings.Contains(got.err+got.out, "denied") {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(back); err != nil || !bytes.Equal(b, data) {
		t.Errorf("%d bytes, %v, %+v", len(b), err, got)
	}
	g.log.wait(t, "the end of the subsystem", done("exit 0"))
	// SC09: other subsystems are programs that a task has to list.
	c := g.connect(t)
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"netconf"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b, _ := io.ReadAll(ch.Stderr())
	status := uint32(0)
	for r := range reqs {
		if r.Type == "exit-status" {
			status = uint32(r.Payload[3])
		}
	}
	if status != exitDenied || !strings.Contains(string(b), "denied") {
		t.Errorf("%d, %s", status, b)
	}
}
