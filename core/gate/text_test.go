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
	out, err := ex.Text(t.Context()).Append(nil, []byte("password=x\n"))
	if err != nil || string(out) != "password=***\n" {
		t.Errorf("%q %v", out, err)
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

// TestTextCustom: a guard that masks parts of the text itself is given them, and
// what it cannot mask is not shown.
func TestTextCustom(t *testing.T) {
	answer := func(b *abi.Batch) (*abi.Batch, error) {
		out := b.Answer()
		for i := range b.Rows {
			cell, _ := b.Columns[0].Cell(i)
			out.Columns[0].Add(append([]byte("x-"), cell...), false)
		}
		return out, nil
	}
	a := &guard{name: "a", may: all, answer: func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Protect: secretLines(abi.MaskCustom, "1")}, nil
	}}
	g, log := newGate(t, a)
	s := open(t, g)
	for _, c := range []struct {
		want   string
		answer func(b *abi.Batch) (*abi.Batch, error)
	}{
		{"password=x-a\npassword=x-b\n", answer},
		{"", func(b *abi.Batch) (*abi.Batch, error) { return nil, errors.New("it has trapped") }},
		{"", func(b *abi.Batch) (*abi.Batch, error) { return nil, nil }},
		{"", func(b *abi.Batch) (*abi.Batch, error) { b.Rows--; defer func() { b.Rows++ }(); return answer(b) }},
		{"", func(b *abi.Batch) (*abi.Batch, error) {
			out := b.Answer()
			out.Columns[0].Add([]byte("a\x00"), false)
			out.Fill()
			return out, nil
		}},
	} {
		a.batch = answer
		ex, err := s.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "ssh", Text: "cat f", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: []string{"cat", "f"}}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.batch = c.answer
		out, err := ex.Text(t.Context()).Append(nil, []byte("password=a\npassword=b\n"))
		var d *Denied
		if string(out) != c.want || (c.want == "") != (errors.As(err, &d) && d.Reason.Code == "gate.guard-failed") {
			t.Errorf("%q %v", out, err)
		}
		if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
			t.Fatal(err)
		}
		if e := log.log[len(log.log)-1]; c.want != "" && (len(e.Masked) != 1 || e.Masked[0].Cells != 2 || e.Masked[0].Rule != "custom (a)") {
			t.Errorf("%+v", e)
		}
	}
	a.batch = answer
	e := Explain(&abi.Statement{Protocol: "ssh"}, []Guard{a}, []*abi.Verdict{{Decision: abi.Allow, Protect: secretLines(abi.MaskCustom, "1")}})
	if len(e.Texts) != 1 || e.Texts[0] != (TextMasking{`password=(\S+)`, "custom (a)"}) {
		t.Errorf("%+v", e)
	}
}

// TestHides: what a guard masks, and what none allows, is hidden; it is asked
// without a trace.
func TestHides(t *testing.T) {
	a := &guard{name: "a", may: all, answer: func(c *abi.Command) (*abi.Verdict, error) {
		switch c.Statement.Text {
		case "masked":
			return &abi.Verdict{Decision: abi.Allow, Protect: secretLines(abi.MaskNull, "")}, nil
		case "held":
			return &abi.Verdict{Decision: abi.Review}, nil
		case "refused":
			return &abi.Verdict{Decision: abi.Deny}, nil
		case "broken":
			return nil, errors.New("it has trapped")
		}
		return &abi.Verdict{Decision: abi.Allow}, nil
	}}
	g, log := newGate(t, a)
	s := open(t, g)
	before := len(log.log)
	for text, want := range map[string]bool{"plain": false, "masked": true, "held": true, "refused": true, "broken": true} {
		if got := s.Hides(t.Context(), &abi.Statement{Protocol: "ssh", Text: text}); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if len(log.log) != before || g.Counts().Denied != 0 {
		t.Errorf("%d events, %+v", len(log.log)-before, g.Counts())
	}
	s.End(&Ended{Reason: "over"})
	if !s.Hides(t.Context(), &abi.Statement{Protocol: "ssh", Text: "plain"}) {
		t.Error("a session that is over tells of it")
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
		"not understood": {&abi.Statement{Protocol: "ssh", Incomplete: "a loop", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindOpaque, Object: []string{"for"}}}}, secretLines(abi.MaskNull, "")},
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
