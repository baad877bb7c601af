package gate

import (
	"errors"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

func secretLines(kind abi.MaskKind, arg string) []abi.Protect {
	return []abi.Protect{{Pattern: `password=(\S+)`, Kind: kind, Arg: arg}}
}

// TestTextMasked: where a guard has the text of an answer masked, what has not
// been masked does not pass, and the log says how much was.
func TestTextMasked(t *testing.T) {
	a := &guard{name: "a", may: all, answer: func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Protect: secretLines(abi.MaskFixed, "***")}, nil
	}}
	g, log := newGate(t, a)
	s := open(t, g)
	ex, err := s.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "ssh", Text: "cat f", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: []string{"cat", "f"}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !ex.MasksText() {
		t.Fatal("it is not masked")
	}
	var alarm *Alarm
	if err := ex.Result(t.Context(), &abi.Result{Frames: []byte("password=x\n")}); !errors.As(err, &alarm) {
		t.Errorf("what is not masked: %v", err)
	}
	text := ex.Text()
	out := text.End(text.Append(nil, []byte("password=x\n")))
	if string(out) != "password=***\n" {
		t.Errorf("%q", out)
	}
	if err := ex.Result(t.Context(), &abi.Result{Frames: out, Masked: true}); err != nil {
		t.Error(err)
	}
	if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
		t.Fatal(err)
	}
	events := log.log
	if e := events[len(events)-1]; len(e.Masked) != 1 || e.Masked[0].Cells != 1 || e.Masked[0].Column != `text: password=(\S+)` {
		t.Errorf("%+v", e)
	}
}

// TestTextRefused: what cannot be masked as a guard wants is refused.
func TestTextRefused(t *testing.T) {
	host := &abi.Statement{Protocol: "ssh"}
	for name, c := range map[string]struct {
		st      *abi.Statement
		protect []abi.Protect
	}{
		"rows":           {&abi.Statement{Protocol: "postgres"}, secretLines(abi.MaskNull, "")},
		"no expression":  {host, []abi.Protect{{Pattern: "(", Kind: abi.MaskNull}}},
		"a custom mask":  {host, secretLines(abi.MaskCustom, "")},
		"an argument":    {host, secretLines(abi.MaskKeep, "x")},
		"of other types": {host, secretLines(abi.MaskTruncDate, "day")},
	} {
		if _, d := protect(c.st, []asked{{guard: &guard{name: "a", may: all}, verdict: &abi.Verdict{Protect: c.protect}}}); d == nil || d.Reason.Hint == "" {
			t.Errorf("%s: %v", name, d)
		}
	}
	if p, d := protect(host, []asked{{guard: &guard{name: "a", may: all}, verdict: &abi.Verdict{Protect: secretLines(99, "")}}}); d != nil || p.texts[0].Rule.Kind != abi.MaskNull {
		t.Errorf("an unknown mask: %v %v", p, d)
	}
}
