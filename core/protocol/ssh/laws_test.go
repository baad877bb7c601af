package ssh

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/gate/gatetest"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// lawClient is the library's client, a session for each text.
type lawClient struct{ c *ssh.Client }

func (l lawClient) Do(text string) (int, error) {
	s, err := l.c.NewSession()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	out, err := s.Output(text)
	return bytes.Count(out, []byte{'\n'}), err
}

func (l lawClient) Close() { l.c.Close() }
func (l lawClient) Drop()  { l.c.Close() }

// TestLaws: what every protocol owes the gate. There are no rows here, and no
// transactions.
func TestLaws(t *testing.T) {
	host := sshtest.Start(t, sshtest.Options{})
	file := filepath.Join(t.TempDir(), "state")
	key := newSigner(t)
	p := gatetest.Protocol{Name: "ssh", Options: &TaskOptions{},
		Serve: (&Protocol{Settings: func() *Settings { return &Settings{HostKeys: []ssh.Signer{key}} }}).Serve,
		Write: func(mark string) string { return "touch " + file + "; echo " + mark + " > " + file },
		State: func(testing.TB) string {
			b, _ := os.ReadFile(file)
			return strings.TrimSpace(string(b))
		},
		Read: "echo one"}
	p.Upstream.Addr, p.Upstream.User = host.Address, host.User
	p.Upstream.Auth = &Auth{Methods: []ssh.AuthMethod{ssh.PublicKeys(host.ClientKey)}, HostKey: ssh.FixedHostKey(host.HostKey)}
	p.Connect = func(addr, secret string) (gatetest.Client, error) {
		c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "x+r", Auth: []ssh.AuthMethod{ssh.Password(secret)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
		return lawClient{c}, err
	}
	p.Refused = func(err error) bool {
		var e *ssh.ExitError
		return errors.As(err, &e) && e.ExitStatus() == exitDenied
	}
	gatetest.Laws(t, p)
}
