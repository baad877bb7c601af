package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// with puts an sshd with these lines of configuration in the place of the usual one.
func with(t testing.TB, config ...string) func(*gateway) {
	return func(g *gateway) {
		g.host.Stop()
		g.host = sshtest.Start(t, sshtest.Options{Config: config})
		g.log.host = g.host
		g.Swap(g.generation())
	}
}

// noise is data that shows what is lost, doubled or out of order.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// SA11: keys that change all the time, on both connections and by both of their
// sides, cost no byte of any channel.
func TestSA11RekeyUnderLoad(t *testing.T) {
	var toHost, toGateway atomic.Int64
	g := serve(t, all, with(t, "RekeyLimit 300K"), func(g *gateway) {
		g.log.hostKey = func(string, net.Addr, ssh.PublicKey) error { toHost.Add(1); return nil }
	})
	c, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{Config: ssh.Config{RekeyThreshold: 200 << 10}, User: "x+web-1", Auth: []ssh.AuthMethod{ssh.Password("token")},
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { toGateway.Add(1); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var work sync.WaitGroup
	for i := range 12 {
		work.Go(func() {
			s, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			data := noise(700_000+i, uint64(i))
			var got bytes.Buffer
			s.Stdin, s.Stdout = bytes.NewReader(data), &got
			err = s.Run(fmt.Sprintf("cat; exit %d", i))
			var e *ssh.ExitError
			if i > 0 && (!asExit(err, &e) || e.ExitStatus() != i) || i == 0 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d: other bytes: %d of %d", i, got.Len(), len(data))
			}
		})
	}
	work.Wait()
	if toHost.Load() < 5 || toGateway.Load() < 5 {
		t.Errorf("keys were made %d times with the host, %d with the client", toHost.Load(), toGateway.Load())
	}
}

// SA11: the same by OpenSSH's client, which asks for new keys itself.
func TestSA11RekeyOfOpenSSH(t *testing.T) {
	g := serve(t, all, with(t, "RekeyLimit 300K"))
	data := noise(2<<20, 7)
	got := run(t, g.ssh("-v", "-o", "RekeyLimit=200K", who, "cat; exit 5"), string(data))
	if got.code != 5 || sha256.Sum256([]byte(got.out)) != sha256.Sum256(data) {
		t.Errorf("status %d, %d bytes of %d", got.code, len(got.out), len(data))
	}
	if n := strings.Count(got.err, "SSH2_MSG_NEWKEYS received"); n < 5 {
		t.Errorf("new keys %d times", n)
	}
}

// SC12: 200 programs at once, eight on a connection, and none of them loses its
// status or the end of its output.
func TestSC12StatusUnderLoad(t *testing.T) {
	g := serve(t, all)
	var work sync.WaitGroup
	for i := range 5 {
		c := g.connect(t)
		for j := range 8 {
			work.Go(func() {
				for k := range 5 {
					n, status := 1000*(i+j+1)+k, 1+(i*40+j*5+k)%250
					s, err := c.NewSession()
					if err != nil {
						t.Error(err)
						return
					}
					var out, errs bytes.Buffer
					s.Stdout, s.Stderr = &out, &errs
					err = s.Run(fmt.Sprintf("head -c %d /dev/zero; head -c %d /dev/zero >&2; exit %d", n, n, status))
					var e *ssh.ExitError
					if !asExit(err, &e) || e.ExitStatus() != status || out.Len() != n || errs.Len() != n {
						t.Errorf("%v, %d and %d bytes of %d, not %d", err, out.Len(), errs.Len(), n, status)
					}
				}
			})
		}
	}
	work.Wait()
	if n := g.log.count(func(e *gate.Event) bool { return e.Kind == gate.EventDone && strings.HasPrefix(e.Tag, "exit ") }); n != 200 {
		t.Errorf("the log has %d statuses", n)
	}
}

// What is answered to keyboard-interactive, wrongly, too often and by many at
// once, lets nobody in but who has a token, and begins no login of its own.
func TestKeyboardInteractive(t *testing.T) {
	var begun atomic.Int64
	g := serve(t, all, func(g *gateway) {
		g.protocol.Ask = func(context.Context, string, string, string) (*Asked, error) {
			begun.Add(1)
			return nil, errors.New("not now")
		}
	})
	answer := func(tries *atomic.Int64, give func(n int64) []string) ssh.AuthMethod {
		return ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			return give(tries.Add(1)), nil
		}), 100)
	}
	for name, a := range map[string][]string{"wrong": {"wrong"}, "long": {strings.Repeat("x", 200_000)}, "NUL": {"token\x00"}, "blank": {" token"}, "line": {"token\n"}} {
		var tries atomic.Int64
		if _, err := g.client(t, "x+web-1", answer(&tries, func(int64) []string { return a })); err == nil || tries.Load() > maxTries {
			t.Errorf("%s: %v after %d tries", name, err, tries.Load())
		}
	}
	var work sync.WaitGroup
	var in, tried atomic.Int64
	for i := range 30 {
		work.Go(func() {
			// Every third knows the token, at its third try.
			c, err := g.client(t, "x+web-1", answer(&tried, func() func(int64) []string {
				mine := 0
				return func(int64) []string {
					if mine++; mine == 3 && i%3 == 0 {
						return []string{"token"}
					}
					return []string{fmt.Sprint("no", mine)}
				}
			}()))
			if (err == nil) != (i%3 == 0) {
				t.Errorf("%d: %v", i, err)
			}
			if err == nil {
				in.Add(1)
				if got := output(t, c, "echo in"); got.out != "in\n" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
	work.Wait()
	if in.Load() != 10 || tried.Load() > 10*3+20*maxTries || begun.Load() != 0 {
		t.Errorf("%d let in, %d tries, %d logins begun", in.Load(), tried.Load(), begun.Load())
	}
	var tries atomic.Int64 // one that is begun is begun once for a connection
	if _, err := g.client(t, "x+web-1", answer(&tries, func(int64) []string { return []string{""} })); err == nil || begun.Load() != 1 {
		t.Errorf("%v, %d logins begun", err, begun.Load())
	}
}

// card is a key of a security token, as its signatures look.
type card struct {
	public  ssh.PublicKey
	private ed25519.PrivateKey
	touched bool
}

func newCard(t testing.TB) *card {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, public, "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	return &card{key, private, true}
}

func (c *card) PublicKey() ssh.PublicKey { return c.public }

func (c *card) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := []byte{0, 0, 0, 0, 7} // flags, and a counter
	if c.touched {
		rest[0] = 1
	}
	signed := bytes.Join([][]byte{app[:], rest, message[:]}, nil)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(c.private, signed), Rest: rest}, nil
}

// SA04: a security token is a login with a certificate, as any key is, and only
// if somebody has touched it, whatever the certificate says.
func TestSA04SecurityToken(t *testing.T) {
	g := serve(t, all)
	for name, c := range map[string]struct {
		touched bool
		change  func(*ssh.Certificate)
		in      bool
	}{
		"touched":     {true, nil, true},
		"not touched": {false, nil, false},
		"needless":    {false, func(c *ssh.Certificate) { c.Extensions = map[string]string{"no-touch-required": ""} }, false},
		"expired":     {true, func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Second).Unix()) }, false},
	} {
		key := newCard(t)
		key.touched = c.touched
		if err := g.byCertificate(t, "x+web-1", key, c.change); (err == nil) != c.in {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := g.client(t, "x+web-1", ssh.PublicKeys(newCard(t))); err == nil {
		t.Error("a key without a certificate is let in")
	}
}

// dam stands between the gateway and the host, and can be shut: then all is
// there, and nothing is said any more.
type dam struct {
	net.Listener
	shut atomic.Bool
}

func newDam(t testing.TB, to string) *dam {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dam{Listener: l}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				return
			}
			for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
				work.Go(func() {
					defer way[1].Close()
					p := make([]byte, 4096)
					for {
						n, err := way[0].Read(p)
						if err != nil {
							return
						}
						if !d.shut.Load() {
							_, _ = way[1].Write(p[:n])
						}
					}
				})
			}
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return d
}

// SC15: a host that is there and says nothing ends the session within a bounded
// time, and its client is told. A client is asked too, and need not answer.
func TestSC15Keepalives(t *testing.T) {
	var d *dam
	g := serve(t, all, func(g *gateway) {
		d = newDam(t, g.host.Address)
		g.log.bare = d.Addr().String()
		g.protocol.alive = time.Second
	})
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, chans, reqs, err := ssh.NewClientConn(nc, g.addr, &ssh.ClientConfig{User: "x+web-1", Auth: []ssh.AuthMethod{ssh.Password("token")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(conn, chans, nil)
	defer c.Close()
	asked := make(chan *ssh.Request, 100)
	go func() {
		for r := range reqs { // and is not answered
			asked <- r
		}
	}()
	if r := <-asked; r.Type != keepalive || !r.WantReply {
		t.Errorf("the client is asked %s", r.Type)
	}
	if got := output(t, c, "echo there"); got.out != "there\n" {
		t.Errorf("%+v", got)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var errs bytes.Buffer
	s.Stderr = &errs
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo on; sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	d.shut.Store(true)
	err = s.Wait()
	var e *ssh.ExitError
	if !asExit(err, &e) || e.ExitStatus() != exitNotThere || !strings.Contains(errs.String(), "taskgate: ended: the host no longer answers") {
		t.Errorf("%v, %q", err, errs.String())
	}
	g.log.wait(t, "close", func(e *gate.Event) bool {
		return e.Kind == gate.EventClose && strings.Contains(e.Why, "the host no longer answers")
	})
}

// A client that leaves is why its session ends, not the host that is hung up on.
func TestCloseSaysNothing(t *testing.T) {
	g := serve(t, all)
	const n = 8
	for range n {
		c, err := g.client(t, "x+web-1")
		if err != nil {
			t.Fatal(err)
		}
		if got := output(t, c, "true"); got.code != 0 {
			t.Errorf("%+v", got)
		}
		c.Close()
	}
	closed := func(e *gate.Event) bool { return e.Kind == gate.EventClose }
	for i := 0; i < 500 && g.log.count(closed) < n; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if all, quiet := g.log.count(closed), g.log.count(func(e *gate.Event) bool { return closed(e) && e.Why == "" }); all != n || quiet != n {
		t.Errorf("%d closed, %d of them without a reason", all, quiet)
	}
}
