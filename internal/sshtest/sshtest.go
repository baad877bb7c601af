// Package sshtest starts real, throw-away OpenSSH servers for tests, the
// demonstration and the bench. Nothing of theirs outlives them.
package sshtest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	program = "/usr/sbin/sshd"
	sftp    = "/usr/lib/openssh/sftp-server"
)

// Options are what a server has beside the ordinary.
type Options struct {
	TrustedUserCA ssh.PublicKey // whose user certificates it takes
	HostCA        ssh.Signer    // signs a certificate of its host key
	HostNames     []string      // that the certificate is for; 127.0.0.1 unless set
	Config        []string      // lines of sshd_config; they stand first, and so have the say
}

// Server is one sshd. It logs in the user who runs it and nobody else, by
// ClientKey, with that user's own home and shell.
type Server struct {
	Address   string // 127.0.0.1:port
	Dir       string // its files; tests may put theirs under it
	User      string
	HostKey   ssh.PublicKey
	ClientKey ssh.Signer

	ClientKeyFile string // for ssh -i
	KnownHosts    string // file that has the host key

	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a server until the test is over.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Run(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("sshd:\n%s", s.Log())
		}
	})
	return s
}

// Run starts a server that keeps its files in dir, which is the caller's.
func Run(dir string, o Options) (*Server, error) {
	s := &Server{Dir: dir}
	if err := s.prepare(o); err != nil {
		return nil, fmt.Errorf("sshtest: %w", err)
	}
	for range 20 { // sshd takes no port 0, and somebody may be faster
		up, err := s.start(o)
		if err != nil {
			return nil, fmt.Errorf("sshtest: %w", err)
		}
		if up {
			return s, nil
		}
		if !strings.Contains(s.Log(), "already in use") {
			break
		}
	}
	return nil, fmt.Errorf("sshtest: the server does not come up: %s", s.Log())
}

// prepare makes keys and checks what sshd needs of the machine.
func (s *Server) prepare(o Options) error {
	for _, p := range []string{program, sftp} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%s is not there: run `.ci/install test`", p)
		}
	}
	who, err := user.Current()
	if err != nil {
		return err
	}
	s.User = who.Username
	if os.Getuid() == 0 {
		// It separates itself into an empty directory, and turns locked accounts away.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
		shadow, err := os.ReadFile("/etc/shadow")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(shadow)) {
			if strings.HasPrefix(line, s.User+":!") {
				return fmt.Errorf("the account %s is locked, and sshd lets nobody in: usermod -p '*' %s", s.User, s.User)
			}
		}
	}
	host, err := s.Key("host_key")
	if err != nil {
		return err
	}
	s.HostKey = host.PublicKey()
	if s.ClientKey, err = s.Key("client_key"); err != nil {
		return err
	}
	s.ClientKeyFile = s.path("client_key")
	if err := s.Authorize(s.ClientKey.PublicKey()); err != nil {
		return err
	}
	if o.TrustedUserCA != nil {
		if err := os.WriteFile(s.path("user_ca"), ssh.MarshalAuthorizedKey(o.TrustedUserCA), 0o600); err != nil {
			return err
		}
	}
	if o.HostCA == nil {
		return nil
	}
	names := o.HostNames
	if names == nil {
		names = []string{"127.0.0.1"}
	}
	cert := &ssh.Certificate{Key: s.HostKey, CertType: ssh.HostCert, KeyId: "sshtest", ValidPrincipals: names,
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
	if err := cert.SignCert(rand.Reader, o.HostCA); err != nil {
		return err
	}
	return os.WriteFile(s.path("host_key-cert.pub"), ssh.MarshalAuthorizedKey(cert), 0o600)
}

// start runs sshd on a port that was free just now, and says whether it answers.
func (s *Server) start(o Options) (bool, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	s.Address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(s.Address)
	lines := append([]string{}, o.Config...)
	lines = append(lines, "Port "+port, "ListenAddress 127.0.0.1", "HostKey "+s.path("host_key"), "PidFile none",
		"AuthorizedKeysFile "+s.path("authorized_keys"), "AllowUsers "+s.User, "PermitRootLogin prohibit-password", "StrictModes no", "UsePAM no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UseDNS no", "PrintMotd no", "PrintLastLog no", "LogLevel VERBOSE",
		"MaxStartups 500", "MaxSessions 500", "SetEnv SHLVL=2", // bash reads no start files of whoever runs the tests
		"AcceptEnv LANG LC_* TG_*", "X11Forwarding yes", "Subsystem sftp "+sftp)
	if o.TrustedUserCA != nil {
		lines = append(lines, "TrustedUserCAKeys "+s.path("user_ca"))
	}
	if o.HostCA != nil {
		lines = append(lines, "HostCertificate "+s.path("host_key-cert.pub"))
	}
	if err := os.WriteFile(s.path("sshd_config"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return false, err
	}
	// The name under which it is a known host has to have the port.
	s.KnownHosts = s.path("known_hosts")
	known := fmt.Sprintf("[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(s.HostKey))
	if err := os.WriteFile(s.KnownHosts, []byte(known), 0o600); err != nil {
		return false, err
	}
	_ = os.Remove(s.path("log"))
	s.cmd = exec.Command(program, "-D", "-f", s.path("sshd_config"), "-E", s.path("log"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	said, err := os.Create(s.path("stderr")) // what is wrong in its configuration; a file, since a pipe would wait for what sessions leave
	if err != nil {
		return false, err
	}
	defer said.Close()
	s.cmd.Stderr = said
	if err := s.cmd.Start(); err != nil {
		return false, err
	}
	s.done = make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	for range 400 {
		select {
		case <-s.done:
			if b, _ := os.ReadFile(s.path("stderr")); len(b) > 0 {
				return false, errors.New(strings.TrimSpace(string(b)))
			}
			return false, nil
		case <-time.After(25 * time.Millisecond):
		}
		if !strings.Contains(s.Log(), "Server listening on") {
			continue
		}
		return true, nil
	}
	s.Stop()
	return false, nil
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// Log is what sshd has logged so far.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.path("log"))
	return string(b)
}

// Authorize makes these the keys that may log in, from the next login on.
func (s *Server) Authorize(keys ...ssh.PublicKey) error {
	var b []byte
	for _, k := range keys {
		b = append(b, ssh.MarshalAuthorizedKey(k)...)
	}
	return os.WriteFile(s.path("authorized_keys"), b, 0o600)
}

// Key makes an ed25519 key in a file of the server's directory, which has mode
// 0600 and OpenSSH's own format.
func (s *Server) Key(name string) (ssh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(crypto.PrivateKey(key), "sshtest")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.path(name), pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// Client logs in directly.
func (s *Server) Client() (*ssh.Client, error) {
	return ssh.Dial("tcp", s.Address, &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.ClientKey)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey), HostKeyAlgorithms: []string{s.HostKey.Type()}})
}

// Stop ends the server with what its sessions still run.
func (s *Server) Stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	for _, pid := range children(s.cmd.Process.Pid) { // while it is there to be their parent
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// children gives the processes below one.
func children(pid int) (list []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for text := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(text); err == nil {
				list = append(append(list, n), children(n)...)
			}
		}
	}
	return list
}
