package ssh

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// rude is a client that asks for anything in any order, and leaves at any moment.
type rude struct {
	*rand.Rand
	c        *ssh.Client
	channels []*polite
}

// polite keeps what the library asks of who writes: no end beside a Write.
type polite struct {
	ssh.Channel
	mu sync.Mutex
}

// text is what a channel is asked to run.
func (r *rude) text() string {
	all := []string{"true", "cat", "sleep 1000", "cat held", "seq 100000", "echo a; echo b", "no-such-program", "sh", "cat /dev/zero", "masked cat", "", "a\x00b", "\xff", strings.Repeat("x", maxText+1), "git-upload-pack /", "exit 3"}
	return all[r.IntN(len(all))]
}

// bytes are packets of SFTP, or nothing that anybody knows.
func (r *rude) bytes() []byte {
	all := []string{"\x00\x00\x00\x05\x01\x00\x00\x00\x03", "\x00\x00\x00\x0e\x0b\x00\x00\x00\x01\x00\x00\x00\x05/held", "\x00\x00\x00\x12\x03\x00\x00\x00\x02\x00\x00\x00\x04/etc\x00\x00\x00\x01\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x03", "exit\r", "echo on\r", strings.Repeat("x", 100<<10), "\x00"}
	return []byte(all[r.IntN(len(all))])
}

func (r *rude) step() error {
	var ch *polite
	if n := len(r.channels); n > 0 {
		ch = r.channels[r.IntN(n)]
	}
	wants := r.IntN(3) > 0
	ask := func(name string, payload any) error {
		if ch == nil {
			return nil
		}
		b, ok := payload.([]byte)
		if !ok {
			b = ssh.Marshal(payload)
		}
		if r.IntN(30) == 0 {
			b = b[:r.IntN(len(b)+1)]
		}
		done := make(chan struct{})
		go func() { defer close(done); _, _ = ch.SendRequest(name, wants, b) }()
		if r.IntN(2) == 0 {
			select {
			case <-done:
			case <-time.After(time.Second):
			}
		}
		return nil
	}
	type text struct{ S string }
	type forward struct {
		A string
		P uint32
		O string
		F uint32
	}
	switch r.IntN(20) {
	case 0, 1, 2:
		c, reqs, err := r.c.OpenChannel("session", nil)
		if err != nil {
			return err
		}
		if r.IntN(4) > 0 {
			go ssh.DiscardRequests(reqs)
		}
		r.channels = append(r.channels, &polite{Channel: c})
	case 3, 4, 5:
		return ask("exec", text{r.text()})
	case 6:
		return ask("shell", []byte{})
	case 7, 8:
		return ask("subsystem", text{[]string{"sftp", "sftp", "netconf"}[r.IntN(3)]})
	case 9:
		return ask("pty-req", struct {
			N          string
			C, R, W, H uint32
			M          string
		}{"xterm", r.Uint32(), r.Uint32(), 0, 0, "\x00"})
	case 10:
		return ask("window-change", struct{ C, R, W, H uint32 }{r.Uint32N(300), r.Uint32N(300), 0, 0})
	case 11:
		return ask("signal", text{[]string{"INT", "USR1", "KILL", "no"}[r.IntN(4)]})
	case 12:
		return ask([]string{"break", "auth-agent-req@openssh.com", "eow@openssh.com", "exit-status"}[r.IntN(4)], []byte{0, 0, 0, 1})
	case 13:
		return ask("env", struct{ N, V string }{"TG_A", r.text()})
	case 14, 15:
		if ch != nil {
			b := r.bytes()
			go func() {
				ch.mu.Lock()
				defer ch.mu.Unlock()
				_, _ = ch.Write(b)
			}()
		}
	case 16:
		if ch != nil && r.IntN(2) == 0 {
			go func() { // a Write may wait for as long as the host reads nothing
				ch.mu.Lock()
				defer ch.mu.Unlock()
				_ = ch.CloseWrite()
			}()
		} else if ch != nil {
			return ch.Close()
		}
	case 17:
		if ch != nil {
			go func() { _, _ = ch.Read(make([]byte, 64<<10)) }()
		}
	case 18:
		name := []string{"tcpip-forward", "cancel-tcpip-forward", "keepalive@openssh.com", "hostkeys-prove-00@openssh.com"}[r.IntN(4)]
		go func() {
			_, _, _ = r.c.SendRequest(name, wants, ssh.Marshal(struct {
				A string
				P uint32
			}{"127.0.0.1", 0}))
		}()
	case 19:
		go func() {
			if c, reqs, err := r.c.OpenChannel("direct-tcpip", ssh.Marshal(forward{"127.0.0.1", 1, "", 0})); err == nil {
				go ssh.DiscardRequests(reqs)
				c.Close()
			}
		}()
	}
	return nil
}

// TestRudeClients: whatever clients ask for, in whatever order, and whenever they
// leave or are killed: each session ends, all that was begun in it is closed, and
// nothing of it is the gateway's own fault.
func TestRudeClients(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		v := all(c)
		switch text := c.Statement.Text; {
		case strings.Contains(text, "USR1"):
			return nil
		case strings.Contains(text, "masked"), strings.Contains(text, "git"):
			return hidden(c)
		case strings.Contains(text, "held"):
			v.Decision, v.Review = abi.Review, abi.Requirement{Groups: []string{"ops"}, People: 1, Within: 60}
		}
		return v
	})
	var mu sync.Mutex
	g.protocol.Log = func(_, what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if what == "panic" {
			t.Errorf("%s: %v", what, err)
		}
	}
	asked := make(chan struct{})
	defer close(asked)
	go func() {
		for {
			select {
			case <-g.log.asked:
			case <-asked:
				return
			}
		}
	}()
	const clients, seed = 40, 9
	for i := range clients {
		user := "x+web-1"
		if i%4 == 3 {
			user = "lines+web-1"
		}
		c, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password("token")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			t.Fatal(err)
		}
		r := &rude{Rand: rand.New(rand.NewPCG(uint64(i), seed)), c: c}
		for range 3 + r.IntN(25) {
			if r.step() != nil {
				break
			}
		}
		if i%3 == 0 {
			g.Kill("enough", func(*gate.Session) bool { return true })
		}
		c.Close()
	}
	count := func(k gate.EventKind) int { return g.log.count(func(e *gate.Event) bool { return e.Kind == k }) }
	for range 1500 {
		if count(gate.EventClose) == clients {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := count(gate.EventClose); n != clients {
		t.Errorf("%d of %d sessions have ended", n, clients)
	}
	open := map[string]bool{}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		at := fmt.Sprint(e.Session, e.Command)
		switch {
		case e.Kind == gate.EventCommand && e.Decision == "allow":
			open[at] = true
		case e.Kind == gate.EventDone:
			delete(open, at)
		}
	}
	for at := range open {
		t.Errorf("%s has no end", at)
	}
}
