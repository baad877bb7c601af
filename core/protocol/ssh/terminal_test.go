package ssh

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// screenOf collects what a session shows, and waits for what should come.
type screenOf struct {
	t   testing.TB
	got chan string
	all string
}

func watch(t testing.TB, r io.Reader) *screenOf {
	s := &screenOf{t: t, got: make(chan string, 1000)}
	go func() {
		defer close(s.got)
		b := make([]byte, 4096)
		for {
			n, err := r.Read(b)
			if n > 0 {
				s.got <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screenOf) expect(want string) {
	s.t.Helper()
	timer := time.After(15 * time.Second)
	for !strings.Contains(s.all, want) {
		select {
		case more, ok := <-s.got:
			if !ok {
				s.t.Fatalf("it ends before %q:\n%s", want, s.all)
			}
			s.all += more
		case <-timer:
			s.t.Fatalf("no %q in:\n%s", want, s.all)
		}
	}
	_, s.all, _ = strings.Cut(s.all, want)
}

// session opens a session with a terminal, whose two outputs come as one.
func (g *gateway) terminal(t testing.TB, user string) (*ssh.Session, io.WriteCloser, *screenOf) {
	t.Helper()
	c, err := g.client(t, user)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close(); r.Close() })
	s.Stdout, s.Stderr = w, w
	return s, in, watch(t, r)
}

// A shell that a task allows is piped as it is, with its size and its changes.
// What is typed is recorded as far as the host shows it.
func TestSC08Shell(t *testing.T) {
	g := serve(t, all)
	s, in, show := g.terminal(t, "x+web-1")
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "stty size; echo my$((1+1))\n")
	show.expect("24 80")
	show.expect("my2")
	if err := s.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "stty size\n")
	show.expect("50 132")
	io.WriteString(in, "exit 4\n")
	var e *ssh.ExitError
	if err := s.Wait(); !asExit(err, &e) || e.ExitStatus() != 4 {
		t.Errorf("%v", err)
	}
	if f := g.log.frames(FrameIn); f != "" { // RC08
		t.Errorf("what is typed is recorded: %q", f)
	}
	if f := g.log.frames(FrameResize); f != "\x00\x50\x00\x18\x00\x84\x00\x32" {
		t.Errorf("sizes recorded: %x", f)
	}
}

func asExit(err error, e **ssh.ExitError) (ok bool) {
	*e, ok = err.(*ssh.ExitError)
	return ok
}

// A terminal is no right to a shell, and a shell no right by itself.
func TestSC05ShellIsRefused(t *testing.T) {
	g := serve(t, but("shell"))
	got := run(t, g.ssh("-tt", who), "")
	if got.code != 126 || !strings.Contains(got.out+got.err, "taskgate: denied: not in the task") {
		t.Errorf("%+v", got)
	}
	if got := run(t, g.ssh("-tt", who, "tty; echo $TERM"), ""); got.code != 0 || !strings.Contains(got.out, "/dev/pts/") {
		t.Errorf("%+v", got)
	}
}

// The command shell judges line by line, and nothing that is typed reaches the
// host in another way.
func TestSC08CommandShell(t *testing.T) {
	g := serve(t, but("forbidden"))
	s, in, show := g.terminal(t, "lines+web-1")
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	show.expect("web-1> ")
	io.WriteString(in, "echo one; echo two\r")
	show.expect("one\r\ntwo\r\n")
	show.expect("web-1> ")
	io.WriteString(in, "forbidden\r")
	show.expect("taskgate: denied: not in the task\r\n")
	io.WriteString(in, "sh -c 'exit 3'\r")
	show.expect("taskgate: exit 3\r\n")
	io.WriteString(in, "forgotten\x03echo rather\r")
	show.expect("\nrather\r\n")
	io.WriteString(in, "cat\r") // has no input
	show.expect("web-1> ")
	io.WriteString(in, "echo begun; sleep 100\r")
	show.expect("\r\nbegun\r\n")
	io.WriteString(in, "\x03")
	show.expect("taken back")
	io.WriteString(in, "exit\r")
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventText && strings.Contains(e.Text, "forgotten") {
			t.Error("what was given up was submitted")
		}
	}
}

// A script is a command shell's input as well.
func TestSC08CommandShellScript(t *testing.T) {
	g := serve(t, but("forbidden"))
	got := run(t, g.ssh("-T", "lines+web-1@127.0.0.1"), "echo 1\nforbidden\necho 2\n")
	if got.out != "1\n2\n" || got.code != 0 || !strings.Contains(got.err, "denied") {
		t.Errorf("%+v", got)
	}
}

// What the task gives no input reads its end at once.
func TestStdinIsRefused(t *testing.T) {
	g := serve(t, func(*abi.Command) *abi.Verdict { return &abi.Verdict{Decision: abi.Allow} })
	got := run(t, g.ssh(who, "cat; echo end"), "secret\n")
	if got.out != "end\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	s, in, show := g.terminal(t, "x+web-1")
	if err := s.Start("cat; echo end; sleep 100"); err != nil {
		t.Fatal(err)
	}
	show.expect("end\r\n")
	io.WriteString(in, "typed\x03") // not passed, but it ends the command
	show.expect("taken back")
	if err := s.Wait(); err == nil {
		t.Error("no status")
	}
	if f := g.log.frames(FrameIn); f != "" {
		t.Errorf("passed: %q", f)
	}
}
