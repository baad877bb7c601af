package ssh

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// talkative puts a host in the place of the real one whose programs never stop
// to write, and never answer a break. It counts what they have got rid of.
func (g *gateway) talkative(t testing.TB) *atomic.Int64 {
	var n atomic.Int64
	g.bare(t, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range reqs {
					if r.Type != "break" {
						_ = r.Reply(true, nil)
					}
					if r.Type == "exec" {
						go func() {
							b := make([]byte, 32<<10)
							for {
								m, err := ch.Write(b)
								if n.Add(int64(m)); err != nil {
									return
								}
							}
						}()
					}
				}
			}()
		}
	})
	return &n
}

// deaf begins a program, and reads none of what it writes until nothing more fits.
func deaf(t testing.TB, c *ssh.Client, wrote *atomic.Int64) ssh.Channel {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"x"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for last := int64(-1); last < 3<<20 || last != wrote.Load(); {
		last = wrote.Load()
		time.Sleep(200 * time.Millisecond)
	}
	return ch
}

// ended fails where a session does not end, and its Serve with it.
func (g *gateway) ended(t testing.TB) {
	t.Helper()
	g.log.wait(t, "the end of the session", func(e *gate.Event) bool { return e.Kind == gate.EventClose })
}

// TestDeafClient: who reads nothing of what it is told, and asks for more, ends as
// everybody does.
func TestDeafClient(t *testing.T) {
	signal := func(name string) func(*ssh.Client, ssh.Channel) error {
		return func(_ *ssh.Client, ch ssh.Channel) error {
			_, err := ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
			return err
		}
	}
	for what, ask := range map[string]func(*ssh.Client, ssh.Channel) error{
		"signals that are refused": signal("USR1"),
		"breaks that nobody answers": func(_ *ssh.Client, ch ssh.Channel) error {
			_, err := ch.SendRequest("break", false, []byte{0, 0, 0, 0})
			return err
		},
		"forwards that are refused": func(c *ssh.Client, _ ssh.Channel) error {
			_, _, err := c.SendRequest("tcpip-forward", false, ssh.Marshal(struct {
				A string
				P uint32
			}{"127.0.0.1", 4000}))
			return err
		},
	} {
		for how, end := range map[string]func(*gateway, *ssh.Client){
			"leaves":    func(_ *gateway, c *ssh.Client) { c.Close() },
			"is killed": func(g *gateway, _ *ssh.Client) { g.Kill("enough", func(*gate.Session) bool { return true }) },
		} {
			t.Run(what+" "+how, func(t *testing.T) {
				g := serve(t, but("USR1", "bind"))
				wrote := g.talkative(t)
				c := g.connect(t)
				ch := deaf(t, c, wrote)
				for range 100 {
					if err := ask(c, ch); err != nil {
						t.Fatal(err)
					}
				}
				end(g, c)
				g.ended(t)
			})
		}
	}
}

// TestTypedBehindTheEnd: what is typed ahead of a command that ends the shell
// holds nothing up.
func TestTypedBehindTheEnd(t *testing.T) {
	g := serve(t, all)
	s, in, show := g.terminal(t, "lines+web-1")
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	show.expect("web-1> ")
	if _, err := io.WriteString(in, "exit\r"+strings.Repeat("x", 64<<10)); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	g.Kill("enough", func(*gate.Session) bool { return true })
	g.ended(t)
}

// TestTypedWhileHeld: so it is with what is typed before a command that cannot
// begin.
func TestTypedWhileHeld(t *testing.T) {
	g := serve(t, reviewing("secret", abi.Verdict{Stdin: true, Terms: abi.Terms{Payload: "unseen"}}))
	g.bare(t, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "no sessions")
		}
	})
	s, in, show := g.terminal(t, "x+web-1")
	if err := s.Start("cat secret"); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	show.expect("waiting for approval")
	if _, err := io.WriteString(in, strings.Repeat("x", 4*maxEarly)); err != nil {
		t.Fatal(err)
	}
	g.log.decided <- gate.Decided{State: gate.Approved}
	show.expect("the host opens no session")
	if err := s.Wait(); err == nil {
		t.Error("it has run")
	}
	g.Kill("enough", func(*gate.Session) bool { return true })
	g.ended(t)
}
