package ssh

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

func (m *memory) count(f func(*gate.Event) bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if f(e) {
			n++
		}
	}
	return n
}

// output runs a text in a session of its own.
func output(t testing.TB, c *ssh.Client, text string, env ...string) ran {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := 0; i+1 < len(env); i += 2 {
		_ = s.Setenv(env[i], env[i+1])
	}
	var out, errs strings.Builder
	s.Stdout, s.Stderr = &out, &errs
	r := ran{}
	if err := s.Run(text); err != nil {
		var e *ssh.ExitError
		if !asExit(err, &e) {
			t.Fatalf("%s: %v, %s", text, err, errs.String())
		}
		r.code = e.ExitStatus()
	}
	r.out, r.err = out.String(), errs.String()
	return r
}

// Of what a client sets the host gets what the task lists, and the command runs
// without the rest.
func TestSC06Env(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		if o := c.Statement.Operations[0]; o.Kind == abi.KindEnvironment && (o.Object[0] != "TG_A" || o.Value != "1") {
			return nil
		}
		return all(c)
	})
	gen := g.generation()
	gen.Resources["web-2"], gen.Tasks["x"].Resources = gen.Resources["web-1"], []string{"web-1", "web-2"}
	g.Swap(gen)
	c := g.connect(t)
	env := []string{"TG_A", "1", "LD_PRELOAD", "/tmp/x", "TG=B", "2", "TG_C\nTG_D", "3", "LANG", "C", "LC_ALL", "C", "TG_A", "2", "TG_E", "a\nb", "", "x"}
	got := output(t, c, "env | grep -c -e ^TG -e LD_PRELOAD; echo $TG_A", env...)
	if got.out != "1\n1\n" || got.err != "" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	set := func(word string) func(*gate.Event) bool {
		return func(e *gate.Event) bool { return e.Kind == gate.EventCommand && e.Decision == word }
	}
	before := g.log.count(set("deny"))
	if before != 4 { // LD_PRELOAD, LANG, LC_ALL, TG_A=2; what is no name is not asked about
		t.Errorf("%d refusals", before)
	}
	for i := range 4 { // what nobody has asked for is refused once, at however many hosts, and eats up nothing
		c, err := g.client(t, fmt.Sprintf("x+web-%d", 1+i%2))
		if err != nil {
			t.Fatal(err)
		}
		output(t, c, "true", "LANG", "C", "LC_ALL", "de_DE")
	}
	if n := g.log.count(set("deny")); n != before {
		t.Errorf("%d more refusals", n-before)
	}
	many := make([]string, 0, 400)
	for i := range 200 {
		many = append(many, fmt.Sprintf("TG_X%d", i), "x")
	}
	output(t, c, "true", many...)
	if n := g.log.count(set("deny")); n != before+maxEnv {
		t.Errorf("%d refusals of 200", n-before)
	}
}

// Signals are commands; one that a task does not list does not arrive, and one
// that nobody knows is none. (An sshd passes none to a program of its own user.)
func TestSC11Signals(t *testing.T) {
	g := serve(t, but("signal USR1"))
	got := make(chan string, 10)
	g.bare(t, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		nc, ok := <-chans
		if !ok {
			return
		}
		ch, reqs, _ := nc.Accept()
		for r := range reqs {
			_ = r.Reply(true, nil)
			switch r.Type {
			case "exec":
				_, _ = io.WriteString(ch, "ready\n")
			case "signal":
				got <- string(r.Payload[4:])
			case "break":
				got <- "break"
				_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{"TERM", true, "bye\x1b[2J", "en"}))
				ch.Close()
			}
		}
	})
	c := g.connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	s.Stdout, s.Stderr = w, w
	show := watch(t, r)
	if err := s.Start("sleep"); err != nil {
		t.Fatal(err)
	}
	show.expect("ready\n")
	for _, name := range []ssh.Signal{"USR1", "NOTHING", "USR2", "TERM"} {
		if err := s.Signal(name); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := s.SendRequest("break", true, []byte{0, 0, 0, 9}); !ok || err != nil {
		t.Error(ok, err)
	}
	show.expect("denied: not in the task")
	for _, want := range []string{"USR2", "TERM", "break"} {
		if g := <-got; g != want {
			t.Errorf("%s, want %s", g, want)
		}
	}
	var e *ssh.ExitError
	if err := s.Wait(); !asExit(err, &e) || e.Signal() != "TERM" || e.Msg() != "bye?[2J" {
		t.Errorf("%#v", err)
	}
	g.log.wait(t, "its end", done("signal TERM"))
}

// One channel has one command; what comes later, or is not known, is refused.
func TestSC10Order(t *testing.T) {
	g := serve(t, all)
	c := g.connect(t)
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	pty := ssh.Marshal(struct {
		T          string
		C, R, W, H uint32
		M          string
	}{"xterm", 80, 24, 0, 0, ""})
	text := func(s string) []byte { return ssh.Marshal(struct{ S string }{s}) }
	size := func(c, r uint32) []byte { return ssh.Marshal(struct{ C, R, W, H uint32 }{c, r, 0, 0}) }
	for i, c := range []struct {
		name    string
		payload []byte
		want    bool
	}{
		{"pty-req", []byte("junk"), false},
		{"pty-req", ssh.Marshal(struct {
			T          string
			C, R, W, H uint32
			M          string
		}{"../../tmp/x", 80, 24, 0, 0, ""}), false},
		{"pty-req", pty, true}, {"pty-req", pty, false}, {"window-change", size(0, 0), true}, {"nothing@example", nil, false},
		{"exec", []byte{0, 0}, false}, {"exec", text("cat; stty size"), true}, {"exec", text("id"), false}, {"shell", nil, false}, {"subsystem", text("sftp"), false},
		{"pty-req", pty, false}, {"env", ssh.Marshal(struct{ N, V string }{"TG_A", "1"}), false}, {"x11-req", nil, false}, {"auth-agent-req@openssh.com", nil, false},
	} {
		if ok, err := ch.SendRequest(c.name, true, c.payload); err != nil || ok != c.want {
			t.Errorf("%d %s: %t, %v", i, c.name, ok, err)
		}
	}
	for i := range 3000 { // a flood is taken as fast as it is passed on
		if _, err := ch.SendRequest("window-change", i == 2999, size(uint32(i), 1<<31)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ch.Write([]byte("\x04")); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(ch)
	if !strings.Contains(string(b), fmt.Sprintf("%d 2999", maxSide)) {
		t.Errorf("%q", b)
	}
	// The connection goes on, and is no further one's where its client said so.
	if got := output(t, c, "echo on"); got.out != "on\n" {
		t.Errorf("%+v", got)
	}
	if ok, _, err := c.SendRequest("no-more-sessions@openssh.com", true, nil); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("one more session")
	}
	for _, name := range []string{"tun@openssh.com", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "nothing"} {
		if _, _, err := c.OpenChannel(name, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, name := range []string{"hostkeys-prove-00@openssh.com", "nothing@example"} {
		if ok, _, err := c.SendRequest(name, true, nil); ok || err != nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); !ok || err != nil {
		t.Error(ok, err)
	}
}

// Exit statuses are not lost under load, by one connection's many channels.
func TestSC14ControlMaster(t *testing.T) {
	g := serve(t, but("forbidden"))
	path := filepath.Join(g.dir, "master")
	master := g.ssh("-M", "-S", path, "-N", "-f", who)
	if got := run(t, master, ""); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	t.Cleanup(func() { run(t, exec.Command("ssh", "-S", path, "-O", "exit", who), "") })
	var wg sync.WaitGroup
	for i := range 40 {
		if i%8 == 0 {
			wg.Wait()
		}
		wg.Go(func() {
			if i%5 == 4 {
				if got := run(t, exec.Command("ssh", "-S", path, who, "forbidden"), ""); got.code != 126 {
					t.Errorf("%+v", got)
				}
				return
			}
			if got := run(t, exec.Command("ssh", "-S", path, who, fmt.Sprintf("cat; echo %d; exit %d", i, i)), "in\n"); got.code != i || got.out != fmt.Sprintf("in\n%d\n", i) {
				t.Errorf("%d: %+v", i, got)
			}
		})
	}
	wg.Wait()
	// The end of the session is told to every channel that is open.
	slow := g.ssh("-S", path, who, "sleep 100")
	time.AfterFunc(0, func() {
		g.log.wait(t, "sleep", func(e *gate.Event) bool { return e.Kind == gate.EventText && e.Text == "sleep 100" })
		g.Kill("the group is gone", func(*gate.Session) bool { return true })
	})
	if got := run(t, slow, ""); got.code == 0 || !strings.Contains(got.err, "taskgate: ended: the group is gone") {
		t.Errorf("%+v", got)
	}
	g.log.wait(t, "close", func(e *gate.Event) bool { return e.Kind == gate.EventClose })
}

// An end of input reaches the host at once, while its answer still comes.
func TestSC12HalfClose(t *testing.T) {
	g := serve(t, all)
	c := g.connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Start("wc -c; sleep 0.2; echo after"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, strings.Repeat("x", 100_000)); err != nil {
		t.Fatal(err)
	}
	in.Close()
	b, err := io.ReadAll(out)
	if err != nil || string(b) != "100000\nafter\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	// Who leaves while a program runs ends it, and the log says that nobody knows how.
	s2, _ := c.NewSession()
	if err := s2.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	g.log.wait(t, "sleep", func(e *gate.Event) bool { return e.Kind == gate.EventText && e.Text == "sleep 1000" })
	s2.Close()
	g.log.wait(t, "its end", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.State == gate.Lost.String() })
}

// TestSC21ReloadSaysPosix: what a reload says of a host's shell counts for the
// connections that have seen it, and for no older ones.
func TestSC21ReloadSaysPosix(t *testing.T) {
	posix := func(g *gateway, is bool) {
		gen := g.generation()
		gen.Resources["web-1"].Options = &ResourceOptions{Posix: is}
		g.Swap(gen)
	}
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		if c.Statement.Incomplete != "" {
			return nil
		}
		return all(c)
	}, func(g *gateway) { posix(g, false) })
	c := g.connect(t)
	if got := output(t, c, "echo a"); got.out != "a\n" {
		t.Fatalf("%+v", got)
	}
	posix(g, true)
	if got := output(t, c, "echo 'a  b'"); got.code != exitDenied {
		t.Errorf("%+v", got)
	}
	if got := output(t, g.connect(t), "echo 'a  b'"); got.out != "a  b\n" {
		t.Errorf("%+v", got)
	}
}
