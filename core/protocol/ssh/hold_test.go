package ssh

import (
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// reviewing holds what has a word in its text, and allows all else.
func reviewing(word string, v abi.Verdict) func(*abi.Command) *abi.Verdict {
	v.Decision, v.Review = abi.Review, abi.Requirement{Groups: []string{"ops"}, People: 1, Within: 60, Summary: "restart\x1b[2J"}
	return func(c *abi.Command) *abi.Verdict {
		if strings.Contains(c.Statement.Text, word) {
			return &v
		}
		return all(c)
	}
}

// A command that has to be approved waits and says where; other channels go on,
// each judged by itself; a denial is an answer.
func TestHold(t *testing.T) {
	g := serve(t, reviewing("secret", abi.Verdict{}))
	c := g.connect(t)
	begin := func(text string) (wait func() error, show *screenOf) {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		r, w := io.Pipe()
		s.Stdout, s.Stderr = w, w
		show = watch(t, r)
		if err := s.Start(text); err != nil {
			t.Fatal(err)
		}
		return s.Wait, show
	}
	wait, show := begin("echo secret")
	r := <-g.log.asked
	show.expect("taskgate: waiting for approval: request " + r.ID + ": restart?[2J\ntaskgate: it needs 1 of ops, until ")
	show.expect("`taskgate approve " + r.ID + "`; ctrl-C takes it back\n")
	if got := output(t, c, "echo meanwhile"); got.out != "meanwhile\n" {
		t.Errorf("%+v", got)
	}
	other, show2 := begin("echo secret") // is another request, not the same
	if r2 := <-g.log.asked; r2.ID == r.ID {
		t.Error("one request for two commands")
	}
	show2.expect("waiting for approval")
	g.log.decided <- gate.Decided{State: gate.Refused, Reason: "no"}
	g.log.decided <- gate.Decided{State: gate.Approved}
	e1, e2 := wait(), other()
	if (e1 == nil) == (e2 == nil) {
		t.Errorf("one was approved: %v, %v", e1, e2)
	}
	if e1 == nil {
		show.expect("approved\nsecret\n")
		show2.expect("denied: denied: no")
	} else {
		show2.expect("approved\nsecret\n")
		show.expect("denied: denied: no")
	}
	g.log.wait(t, "it ran", func(e *gate.Event) bool { return e.Kind == gate.EventCommand && e.Request != "" })
}

// Ctrl-C takes a held command back, as a signal or as what a terminal sends; so
// does leaving. None of it runs.
func TestHoldIsTakenBack(t *testing.T) {
	g := serve(t, reviewing("touch", abi.Verdict{Stdin: true, Terms: abi.Terms{Payload: "unseen"}}))
	mark := g.dir + "/mark"
	settled := func(n int) {
		t.Helper()
		for range 500 {
			if g.log.count(func(e *gate.Event) bool { return e.Kind == gate.EventSettled }) == n {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("not %d requests are withdrawn", n)
	}
	s, in, show := g.terminal(t, "x+web-1")
	if err := s.Start("touch " + mark); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	show.expect("ctrl-C takes it back\r\n")
	io.WriteString(in, "typed ahead\x03")
	show.expect("taken back")
	if err := s.Wait(); err == nil || !strings.Contains(err.Error(), "130") {
		t.Error(err)
	}
	settled(1)
	c := g.connect(t)
	s2, _ := c.NewSession()
	s2.Stdin = strings.NewReader("")
	if err := s2.Start("touch " + mark); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	if err := s2.Signal("INT"); err != nil {
		t.Fatal(err)
	}
	if err := s2.Wait(); err == nil || !strings.Contains(err.Error(), "130") {
		t.Error(err)
	}
	settled(2)
	s3, _ := c.NewSession()
	s3.Stdin = strings.NewReader("")
	if err := s3.Start("touch " + mark); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	s3.Close()
	settled(3)
	s4, _ := g.connect(t).NewSession()
	s4.Stdin = strings.NewReader("")
	if err := s4.Start("touch " + mark); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	g.Kill("the group is gone", func(*gate.Session) bool { return true })
	_ = s4.Wait()
	settled(4)
	g.log.decided <- gate.Decided{State: gate.Approved}
	if got := output(t, g.connect(t), "ls "+mark); got.code == 0 {
		t.Error("it has run")
	}
}

// Who approves a command with an input sees the input, and that is what runs.
func TestSC16HoldWithInput(t *testing.T) {
	g := serve(t, reviewing("cat", abi.Verdict{Stdin: true}))
	in := strings.Repeat("line\n", 40_000)
	c := g.connect(t)
	s, _ := c.NewSession()
	var out, errs strings.Builder
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(in), &out, &errs
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	r := <-g.log.asked
	sum := sha256.Sum256([]byte(in))
	if r.Input.Kind != abi.InputSpooled || r.Input.Size != uint64(len(in)) || string(r.Input.Digest) != string(sum[:]) || len(r.Input.Head) != spoolHead {
		t.Errorf("%d %d %x", r.Input.Kind, r.Input.Size, r.Input.Digest)
	}
	if g.log.frames(FrameIn) != "" {
		t.Error("the input is on its way")
	}
	g.log.decided <- gate.Decided{State: gate.Approved}
	if err := s.Wait(); err != nil || out.String() != in {
		t.Errorf("%v, %d bytes, %s", err, out.Len(), errs.String())
	}
	// More than can be shown is refused, unless it may go unseen.
	s2, _ := c.NewSession()
	s2.Stdin, s2.Stderr = strings.NewReader(strings.Repeat("x", 2*maxSpool)), &errs
	if err := s2.Run("cat"); err == nil || !strings.Contains(errs.String(), "cannot see what would be sent") {
		t.Errorf("%v, %s", err, errs.String())
	}
	// What gets no input needs none to be read.
	g.guard.verdict = reviewing("cat", abi.Verdict{})
	g.Swap(g.generation())
	s3, _ := c.NewSession()
	r3, w3 := io.Pipe()
	defer w3.Close()
	s3.Stdin = r3 // never ends
	if err := s3.Start("cat"); err != nil {
		t.Fatal(err)
	}
	<-g.log.asked
	g.log.decided <- gate.Decided{State: gate.Approved}
	w3.Close()
	if err := s3.Wait(); err != nil {
		t.Error(err)
	}
}

// A held scp says what it waits for, ends well once that is approved, and says
// nothing of what it did not get.
func TestHoldOfScp(t *testing.T) {
	g := serve(t, reviewing("sftp open write", abi.Verdict{}))
	from, to := g.write(t, "from", "new"), g.write(t, "to", "what was there")
	args := append([]string{"-F", "none", "-q", "-P", g.port}, g.options()[4:]...)
	cmd := exec.Command("scp", append(args, from, who+":"+to)...)
	cmd.Env = g.env()
	go func() {
		<-g.log.asked
		g.log.decided <- gate.Decided{State: gate.Approved}
	}()
	got := run(t, cmd, "")
	if got.code != 0 || !strings.Contains(got.err, "waiting for approval: request ") || strings.Contains(got.err, "remote") {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(to); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestHoldOfSubsystem: a guard may hold sftp itself, which is approved before its
// client has anything to say.
func TestHoldOfSubsystem(t *testing.T) {
	g := serve(t, reviewing("subsystem sftp", abi.Verdict{Stdin: true}))
	g.write(t, "f", "content")
	g.log.decided <- gate.Decided{State: gate.Approved}
	cmd := exec.Command("sftp", append(append([]string{"-F", "none", "-q", "-P", g.port}, g.options()[4:]...), who)...)
	cmd.Env = g.env()
	if r := run(t, cmd, "get "+g.dir+"/f "+g.dir+"/to\n"); r.code != 0 || !strings.Contains(r.err, "approved") {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(g.dir + "/to"); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
}
