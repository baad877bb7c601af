package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// rules is a guard that says what a function says.
type rules struct {
	verdict func(*abi.Command) *abi.Verdict
	batch   func(*abi.Batch) (*abi.Batch, error)
}

func (r *rules) Name() string       { return "rules" }
func (r *rules) Digest() string     { return "native" }
func (r *rules) May() abi.May       { return abi.May{Allow: true, Review: true, Mask: true} }
func (r *rules) Inputs() abi.Inputs { return abi.InputOperations }
func (r *rules) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (r *rules) SessionClose(*abi.Session) {}
func (r *rules) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	if v := r.verdict(c); v != nil {
		return v, nil
	}
	return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Message: "not in the task", Closest: "rule 1 of task x", Hint: "ask"}}, nil
}
func (r *rules) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (r *rules) Results() bool                                { return false }
func (r *rules) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return nil, nil
}

func (r *rules) ResultBatch(_ context.Context, _ *abi.Session, b *abi.Batch) (*abi.Batch, error) {
	if r.batch == nil {
		return nil, nil
	}
	return r.batch(b)
}
func (*rules) Approvals() bool                                               { return false }
func (*rules) Approval(context.Context, *abi.Approval) (*abi.Verdict, error) { return nil, nil }

// all allows everything, standard input too.
func all(*abi.Command) *abi.Verdict { return &abi.Verdict{Decision: abi.Allow, Stdin: true} }

// but is all without what has a word in its text.
func but(words ...string) func(*abi.Command) *abi.Verdict {
	return func(c *abi.Command) *abi.Verdict {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c.Statement.Text, w) }) {
			return nil
		}
		return all(c)
	}
}

// memory is a log, a recorder and who knows logins and hosts.
type memory struct {
	mu       sync.Mutex
	events   []*gate.Event
	recorded []*gate.Event
	logins   []gate.Login
	host     *sshtest.Server
	hostKey  ssh.HostKeyCallback
	bare     string // a host's address, in place of the server's
	decided  chan gate.Decided
	asked    chan *gate.Request
}

func (m *memory) Append(_ context.Context, b []byte, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := gate.ReadEvent(b)
	m.events = append(m.events, e)
	return err
}
func (m *memory) TryAppend(b []byte, _ time.Time) bool {
	return m.Append(context.Background(), b, false) == nil
}
func (m *memory) Record(string) (gate.Recording, error) { return tape{m}, nil }
func (m *memory) Authenticate(_ context.Context, l gate.Login) (gate.Grant, error) {
	m.mu.Lock()
	m.logins = append(m.logins, l)
	m.mu.Unlock()
	if l.Secret != "token" && l.Certificate == nil {
		return gate.Grant{}, errors.New("bad token")
	}
	return gate.Grant{Subject: "ada", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}, nil
}

func (m *memory) Dial(ctx context.Context, r *gate.Resource, _ string) (gate.Upstream, error) {
	m.mu.Lock()
	address, check := r.Address, m.hostKey
	if m.bare != "" {
		address = m.bare
	}
	m.mu.Unlock()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return gate.Upstream{}, err
	}
	if check == nil {
		check = ssh.FixedHostKey(m.host.HostKey)
	}
	return gate.Upstream{Conn: nc, User: m.host.User, Auth: &Auth{Methods: []ssh.AuthMethod{ssh.PublicKeys(m.host.ClientKey)}, HostKey: check}}, nil
}

func (m *memory) Ask(_ context.Context, r *gate.Request) error { m.asked <- r; return nil }
func (m *memory) Wait(ctx context.Context, _ string) (gate.Decided, error) {
	select {
	case d := <-m.decided:
		return d, nil
	case <-ctx.Done():
		return gate.Decided{}, ctx.Err()
	}
}
func (m *memory) Spend(context.Context, string) (gate.Decided, error) {
	return gate.Decided{State: gate.Used}, nil
}
func (m *memory) Withdraw(context.Context, string, string) error { return nil }

// wait gives the first event that f is true of, once it is there.
func (m *memory) wait(t testing.TB, what string, f func(*gate.Event) bool) *gate.Event {
	t.Helper()
	for range 500 {
		m.mu.Lock()
		i := slices.IndexFunc(m.events, f)
		var e *gate.Event
		if i >= 0 {
			e = m.events[i]
		}
		m.mu.Unlock()
		if e != nil {
			return e
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log does not have: %s", what)
	return nil
}

// frames are the answers and inputs that were recorded, by kind.
func (m *memory) frames(kind byte) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []byte
	for _, e := range m.recorded {
		for b := e.Frame; len(b) > FrameHead; {
			n := min(int(b[1])<<24|int(b[2])<<16|int(b[3])<<8|int(b[4]), len(b)-FrameHead)
			if b[0] == kind {
				out = append(out, b[FrameHead:FrameHead+n]...)
			}
			b = b[FrameHead+n:]
		}
	}
	return string(out)
}

type tape struct{ m *memory }

func (r tape) Append(b []byte) error {
	e, err := gate.ReadEvent(b)
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.recorded = append(r.m.recorded, e)
	return err
}
func (tape) Head() int    { return 1 << 16 }
func (tape) Close() error { return nil }

// gateway is one running listener in front of a host.
type gateway struct {
	*gate.Gate
	log      *memory
	addr     string
	port     string
	host     *sshtest.Server
	protocol *Protocol
	ca       ssh.Signer
	known    string // a known_hosts file with the gateway's key
	dir      string
	guard    *rules
}

func newSigner(t testing.TB) ssh.Signer {
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

func (g *gateway) generation() *gate.Generation {
	return &gate.Generation{Guards: []gate.Guard{g.guard},
		Tasks: map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"web-1"}, Options: &TaskOptions{}},
			"lines": {Name: "lines", Groups: []string{"task:x"}, Resources: []string{"web-1"}, Options: &TaskOptions{CommandShell: true}}},
		Resources: map[string]*gate.Resource{"web-1": {Name: "web-1", Protocol: "ssh", Address: g.host.Address, Options: &ResourceOptions{Posix: g.log.bare == ""}},
			"shop": {Name: "shop", Protocol: "postgres", Address: "db-1:5432"}}}
}

// serve starts a gateway in front of a real sshd.
func serve(t testing.TB, verdict func(*abi.Command) *abi.Verdict, before ...func(*gateway)) *gateway {
	t.Helper()
	g := &gateway{log: &memory{decided: make(chan gate.Decided, 1), asked: make(chan *gate.Request, 8)}, ca: newSigner(t), dir: t.TempDir(), guard: &rules{verdict: verdict}}
	g.host = sshtest.Start(t, sshtest.Options{})
	g.log.host = g.host
	g.Gate = &gate.Gate{Identity: g.log, Log: g.log, Recorder: g.log, Dialer: g.log, Approver: g.log}
	g.Swap(g.generation())
	key := newSigner(t)
	authority := g.ca.PublicKey().Marshal()
	g.protocol = &Protocol{
		Settings: func() *Settings {
			return &Settings{HostKeys: []ssh.Signer{key}, Authority: func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), authority) }}
		},
		Log: func(s, what string, err error) { t.Logf("%s: %s: %v", s, what, err) },
	}
	for _, f := range before {
		f(g)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				if err := g.protocol.Serve(ctx, nc, g.Gate); err != nil && testing.Verbose() {
					t.Logf("serve: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); g.Kill("test over", func(*gate.Session) bool { return true }); wg.Wait() })
	g.addr = l.Addr().String()
	_, g.port, _ = net.SplitHostPort(g.addr)
	g.known = filepath.Join(g.dir, "known_hosts")
	g.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", g.port, ssh.MarshalAuthorizedKey(key.PublicKey())))
	g.write(t, "askpass", "#!/bin/sh\necho token\n")
	if err := os.Chmod(filepath.Join(g.dir, "askpass"), 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

// bare puts another host in the place of the real one: what a good one never does.
func (g *gateway) bare(t testing.TB, serve func(*ssh.ServerConn, <-chan ssh.NewChannel)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.log.mu.Lock()
	g.log.bare, g.log.hostKey = l.Addr().String(), ssh.InsecureIgnoreHostKey()
	g.log.mu.Unlock()
	g.Swap(g.generation()) // nobody asks what its shell is
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(newSigner(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c, chans, reqs, err := ssh.NewServerConn(nc, config)
				if err != nil {
					return
				}
				wg.Go(func() { ssh.DiscardRequests(reqs) })
				serve(c, chans)
				for nc := range chans {
					_ = nc.Reject(ssh.Prohibited, "no more")
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); g.Kill("test over", func(*gate.Session) bool { return true }); wg.Wait() })
}

func (g *gateway) write(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// options are those of the OpenSSH client with a token as password.
func (g *gateway) options() []string {
	return []string{"-F", "none", "-p", g.port, "-o", "UserKnownHostsFile=" + g.known, "-o", "StrictHostKeyChecking=yes", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1", "-o", "IdentityFile=none", "-o", "IdentityAgent=none"}
}

func (g *gateway) env() []string {
	return append(os.Environ(), "SSH_ASKPASS="+filepath.Join(g.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=")
}

// ssh makes the OpenSSH client with these arguments, the destination first.
func (g *gateway) ssh(args ...string) *exec.Cmd {
	cmd := exec.Command("ssh", append(g.options(), args...)...)
	cmd.Env = g.env()
	return cmd
}

type ran struct {
	out, err string
	code     int
}

// run runs a program to its end, but not for ever.
func run(t testing.TB, cmd *exec.Cmd, in string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return ran{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

const who = "x+web-1@127.0.0.1"

// client logs in with the library.
func (g *gateway) client(t testing.TB, user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	t.Helper()
	if auth == nil {
		auth = []ssh.AuthMethod{ssh.Password("token")}
	}
	c, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func (g *gateway) connect(t testing.TB) *ssh.Client {
	t.Helper()
	c, err := g.client(t, "x+web-1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
