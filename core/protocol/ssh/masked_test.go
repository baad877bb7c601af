package ssh

import (
	"strings"
	"testing"

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
