package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/internal/sshtest"
)

const fixTask = "task: fix\nresources: [web-1]\nallow:\n  - {exec: [[pwd]]}\n"

// hostLine is web-1 as gateway.yaml has it.
func hostLine(s *sshtest.Server, more string) string {
	return fmt.Sprintf("  web-1: {protocol: ssh, address: %q, login: %s, key: \"file:%s\"%s}\n", s.Address, s.User, s.ClientKeyFile, more)
}

// ssh comes to a host for the task fix.
func (w *world) ssh() (*ssh.Client, error) {
	w.Helper()
	token, err := w.idp.Token("ada", []string{"task:fix"})
	if err != nil {
		w.Fatal(err)
	}
	var address, print string
	for _, l := range w.s.Listeners() {
		if l.Name == "ssh" {
			address, print = l.Address, l.HostKey
		}
	}
	c, err := ssh.Dial("tcp", address, &ssh.ClientConfig{User: "fix+web-1", Auth: []ssh.AuthMethod{ssh.Password(token)}, HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if got := ssh.FingerprintSHA256(key); got != print {
			return errors.New("the gateway shows " + got + ", not " + print)
		}
		return nil
	}})
	if err == nil {
		w.Cleanup(func() { c.Close() })
	}
	return c, err
}

// ran runs a text, and gives what came with its status.
func ran(t *testing.T, c *ssh.Client, text string) string {
	t.Helper()
	x, err := c.NewSession()
	if err != nil {
		return err.Error()
	}
	defer x.Close()
	var said, complained strings.Builder
	x.Stdout, x.Stderr = &said, &complained
	status := 0
	if err := x.Run(text); err != nil {
		e, ok := err.(*ssh.ExitError)
		if !ok {
			return err.Error() + " " + complained.String()
		}
		status = e.ExitStatus()
	}
	return fmt.Sprintf("%d %s%s", status, said.String(), complained.String())
}

// TestSSHListenerReload: a reload opens the listener and adds a host; what it is
// known by, what opens it and the gateway's own keys count from the next
// connection on; a fault changes nothing.
func TestSSHListenerReload(t *testing.T) {
	w := newWorld(t, nil)
	host := sshtest.Start(t, sshtest.Options{})
	if _, err := os.Stat(filepath.Join(w.dir, "data", "keys", "ssh-ca")); err == nil {
		t.Error("a gateway without SSH has an authority")
	}
	w.write("tasks/fix.yaml", fixTask)
	pinned := `, host_key: "` + ssh.FingerprintSHA256(host.HostKey) + `"`
	with := func(listener, resource string) {
		w.edit("listeners:\n", "listeners:\n"+listener, "resources:\n", "resources:\n"+resource)
	}
	plain := "  ssh: {address: \"127.0.0.1:0\"}\n"
	with(plain, hostLine(host, pinned))
	if got := w.reload(); !strings.Contains(got, "resource web-1 added\ntask fix added\nlistener ssh opened at 127.0.0.1:") {
		t.Error(got)
	}
	for _, name := range []string{"ssh-ca", "ssh-host"} {
		if st, err := os.Stat(filepath.Join(w.dir, "data", "keys", name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	c, err := w.ssh()
	if err != nil {
		t.Fatal(err)
	}
	home := ran(t, c, "pwd")
	if !strings.HasPrefix(home, "0 /") {
		t.Error(home)
	}
	if got := ran(t, c, "id"); !strings.HasPrefix(got, "126 taskgate: denied: ") {
		t.Error(got)
	}
	if s := w.s.Status().Sessions; len(s) != 1 || s[0].Protocol != "ssh" || s[0].Resource != "web-1" || s[0].Task != "fix" {
		t.Errorf("%+v", s)
	}
	resp, err := http.Get("http://" + w.addr["api"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(b), `taskgate_protocol_sessions{protocol="ssh"} 1`) || !strings.Contains(string(b), `taskgate_protocol_sessions{protocol="postgres"} 0`) {
		t.Error(string(b))
	}

	// What is refused changes nothing.
	w.write("none", "# nobody\n")
	w.write("both", "")
	keyFile(t, filepath.Join(w.dir, "both"))
	own := filepath.Join(w.dir, "data", "keys", "ssh-ca")
	for text, want := range map[string]string{
		plain + "|" + hostLine(host, `, host_ca: "file:none"`): "resource web-1: host_ca: ",
		plain + "|" + hostLine(host, ""):                       "resources.web-1: no host_key and no host_ca",
		plain + "|" + strings.Replace(hostLine(host, pinned), `key: "file:`+host.ClientKeyFile, `user_ca: "file:`+own, 1):                        "they have to be two keys",
		plain + "|" + strings.Replace(hostLine(host, pinned), `key: "file:`+host.ClientKeyFile, `key: "file:`+own, 1):                            "they have to be two keys",
		strings.Replace(plain, "}", `, user_ca: "file:both"}`, 1) + "|" + strings.Replace(hostLine(host, pinned), host.ClientKeyFile, "both", 1): "they have to be two keys",
		strings.Replace(plain, "}", `, host_key: "file:data/keys/ssh-ca"}`, 1) + "|" + hostLine(host, pinned):                                    "host_key and user_ca are one key",
		strings.Replace(plain, "}", `, host_key: "file:none"}`, 1) + "|" + hostLine(host, pinned):                                                "listeners.ssh.host_key: ",
	} {
		listener, resource, _ := strings.Cut(text, "|")
		with(listener, resource)
		if why := w.refused(); !strings.Contains(why, want) {
			t.Errorf("%s: %s", text, why)
		}
	}
	if got := ran(t, c, "pwd"); got != home {
		t.Errorf("after bad reloads: %s", got)
	}

	// Another key of the host: who is in stays, and nobody else gets there.
	with(plain, hostLine(host, `, host_key: "SHA256:uNiVztksCsDhcc0u9e8BrAPOKjY6LcTmXhZxQXzXr7M"`))
	if got := w.reload(); got != "resource web-1 changed" {
		t.Error(got)
	}
	d, err := w.ssh()
	if err != nil {
		t.Fatal(err)
	}
	if got := ran(t, d, "pwd"); !strings.Contains(got, "is not who it should be") || strings.Contains(got, host.Address) {
		t.Error(got)
	}
	if log := w.log.String(); !strings.Contains(log, "this ssh-ed25519 key came, and host_key has SHA256:uNiV") {
		t.Error("the log does not say why")
	}

	// Keys of the gateway's own.
	keyFile(t, filepath.Join(w.dir, "mine"))
	with(strings.Replace(plain, "}", `, host_key: "file:mine", user_ca: "file:both"}`, 1), hostLine(host, pinned))
	if got := w.reload(); !strings.Contains(got, "resource web-1 changed\nlistener ssh: another host key, SHA256:") || !strings.Contains(got, "listener ssh: another authority") {
		t.Error(got)
	}
	if d, err = w.ssh(); err != nil {
		t.Fatal(err)
	}
	if got := ran(t, d, "pwd"); got != home {
		t.Error(got)
	}
	w.write("gateway.yaml", w.yaml)
	if err := os.Remove(filepath.Join(w.dir, "tasks/fix.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := w.reload(); !strings.Contains(got, "listener ssh closed") || w.s.logins.CA() != nil {
		t.Error(got)
	}
}

// TestOnlySSH: a gateway for hosts alone.
func TestOnlySSH(t *testing.T) {
	ca := keyFile(t, filepath.Join(t.TempDir(), "x"))
	host := sshtest.Start(t, sshtest.Options{HostCA: ca, HostNames: []string{"127.0.0.1"}})
	w := newWorld(t, func(yaml string) string {
		lines := strings.Split(yaml, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "  postgres: ") {
				lines[i] = `  ssh: {address: "127.0.0.1:0", public: "gw.example:2222"}`
			}
		}
		return strings.Replace(strings.Join(lines, "\n"), "resources:\n", "resources:\n"+hostLine(host, `, shell: posix, host_ca: "`+line(ca.PublicKey())+`"`), 1)
	})
	w.write("tasks/fix.yaml", fixTask)
	if got := w.reload(); got != "task fix added" {
		t.Error(got)
	}
	c, err := w.ssh()
	if err != nil {
		t.Fatal(err)
	}
	if got := ran(t, c, "pwd"); !strings.HasPrefix(got, "0 /") {
		t.Error(got)
	}
	if f := w.s.front.Load(); f.Address != "" {
		t.Errorf("%+v", f)
	}
	if to := w.s.ssh.front.Load(); to == nil || to.Address != "gw.example:2222" || len(to.HostKeys) != 1 {
		t.Errorf("%+v", to)
	}
	// SC23: whatever a task lists, no forward leads back here.
	admin := filepath.Join(w.dir, "data", "admin.sock")
	_, port, _ := net.SplitHostPort(w.addr["api"])
	forwards := []string{w.listener("ssh"), w.addr["api"], "localhost:" + port, "gw.example:2222", admin}
	w.write("tasks/fix.yaml", fixTask+"  - {forward: [\""+strings.Join(forwards, `", "`)+"\"]}\n")
	if got := w.reload(); got != "task fix changed" {
		t.Error(got)
	}
	for _, to := range forwards {
		network := "tcp"
		if to == admin {
			network = "unix"
		}
		if _, err := c.Dial(network, to); err == nil || !strings.Contains(err.Error(), "that is the gateway itself") {
			t.Errorf("%s: %v", to, err)
		}
	}
	// X14: what is open when the gateway stops ends.
	w.end()
	if err := c.Wait(); err == nil {
		t.Error("the connection goes on")
	}
}
