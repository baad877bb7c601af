package ssh

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// TestMaskedOutput: what a program shows is masked line by line, on both of its
// outputs, however it was cut on its way; and so is what is written down.
func TestMaskedOutput(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		return &abi.Verdict{Decision: abi.Allow, Stdin: true, Protect: []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}}
	})
	const in = "one\nuser password=Zoë-1 rest\npassword=Zoë-2"
	const want = "one\nuser password=*** rest\npassword=***"
	for text, errs := range map[string]bool{"tee": false, "tee /dev/stderr": true} {
		r := run(t, g.ssh(who, text), in)
		if r.code != 0 || r.out != want || errs != (strings.TrimSpace(r.err) == want) {
			t.Errorf("%s: %d %q %q", text, r.code, r.out, r.err)
		}
	}
	// Each byte in a packet of its own.
	c := g.connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.Stdout = &out
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	for i := range len(in) {
		if _, err := w.Write([]byte{in[i]}); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if err := s.Wait(); err != nil || out.String() != want {
		t.Errorf("%q %v", out.String(), err)
	}
	e := g.log.wait(t, "the end of cat", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Command == 1 && len(e.Masked) == 1 })
	if e.Masked[0].Cells == 0 {
		t.Errorf("%+v", e.Masked)
	}
	if kept := g.log.frames(FrameOut) + g.log.frames(FrameErr); strings.Contains(kept, "Zo") || !strings.Contains(kept, want) {
		t.Errorf("recorded: %q", kept)
	}
}

// TestMaskedTerminal: what a client wants of its terminal does not change the
// lines that are masked.
func TestMaskedTerminal(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		return &abi.Verdict{Decision: abi.Allow, Stdin: true, Protect: []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}}
	})
	for name, modes := range map[string]ssh.TerminalModes{
		"capitals": {ssh.OPOST: 1, ssh.OLCUC: 1},
		"an echo":  {ssh.ECHO: 1},
	} {
		s, err := g.connect(t).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RequestPty("xterm", 24, 80, modes); err != nil {
			t.Fatal(err)
		}
		w, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		// Between the two halves of the line somebody types another.
		if err := s.Start("perl -e '$|=1; print qq(begin\\npassword=); <STDIN>; print qq(Zoe-1\\n)'"); err != nil {
			t.Fatal(err)
		}
		at := bufio.NewReader(r)
		if line, err := at.ReadString('\n'); err != nil {
			t.Fatal(name, line, err)
		}
		if _, err := w.Write([]byte("\r")); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(at)
		if got := strings.TrimSpace(string(rest)); got != "password=***" {
			t.Errorf("%s: %q", name, got)
		}
		s.Close()
	}
}
