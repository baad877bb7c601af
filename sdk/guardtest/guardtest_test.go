package guardtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestOurGuards: the guards that are shipped keep the laws, in the sandbox.
func TestOurGuards(t *testing.T) {
	freeze := Build(t, "../../examples/guards/freeze", map[string]any{"tables": []string{"public.orders"}})
	Laws(t, freeze, nil)
	if v := Ask(t, freeze, Command("look", Relation("update", "public.orders", "status"))); v.Decision != abi.Deny {
		t.Errorf("%+v", v)
	}
	if v := Ask(t, freeze, Command("look", Relation("select", "public.orders", "status"))); v.Decision != abi.Abstain {
		t.Errorf("%+v", v)
	}
	rules := []map[string]any{{"at": "look.yaml:1", "verbs": []string{"select", "update"}, "tables": []string{"public.orders"}, "columns": []string{"*"}}}
	for i := range 50 { // as many rules as a large task has
		rules = append(rules, map[string]any{"at": "look.yaml:2", "verbs": []string{"select"}, "tables": []string{fmt.Sprintf("public.t%d", i*40)}, "columns": []string{"id"}})
	}
	tasks := Build(t, "../../plugins/tasks", map[string]any{"tasks": map[string]any{"look": map[string]any{"rules": rules}}})
	Laws(t, tasks, []string{"look", "other"}, Command("look", Relation("update", "public.orders", "note")))
	if v := Ask(t, tasks, Command("look", Relation("select", "public.orders", "status"))); v.Decision != abi.Allow {
		t.Errorf("%+v", v)
	}
}

// bad is a guard that breaks a law.
type bad struct {
	asked   int
	answer  func(b *bad, c *abi.Command) (*abi.Verdict, error)
	plan    func(columns int) (*abi.MaskPlan, error)
	mask    func(in, out *abi.Batch) error
	approve func(a *abi.Approval) (*abi.Verdict, error)
}

func (b *bad) Name() string       { return "bad" }
func (b *bad) Digest() string     { return "native" }
func (b *bad) May() abi.May       { return abi.May{Allow: true} }
func (b *bad) Inputs() abi.Inputs { return abi.InputOperations }
func (b *bad) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (b *bad) SessionClose(*abi.Session) {}
func (b *bad) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	b.asked++
	return b.answer(b, c)
}
func (b *bad) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (b *bad) Results() bool                                { return b.plan != nil }
func (b *bad) ResultSchema(_ context.Context, _ *abi.Command, s *abi.ResultSchema) (*abi.MaskPlan, error) {
	return b.plan(len(s.Columns))
}
func (b *bad) ResultBatch(_ context.Context, _ *abi.Session, asked *abi.Batch) (*abi.Batch, error) {
	out := asked.Answer()
	err := b.mask(asked, out)
	return out, err
}
func (b *bad) Approvals() bool                                                   { return b.approve != nil }
func (b *bad) Approval(_ context.Context, a *abi.Approval) (*abi.Verdict, error) { return b.approve(a) }

type said []string

func (s *said) Helper()                           {}
func (s *said) Errorf(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

// TestLawsFind: each law is broken by a guard, and found.
func TestLawsFind(t *testing.T) {
	allow, deny := &abi.Verdict{Decision: abi.Allow}, &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "x", Message: "y"}}
	known := func(c *abi.Command, kinds bool) bool {
		for _, o := range c.Statement.Operations {
			if kinds && o.Kind != abi.KindRelation || !strings.Contains("select update delete insert", o.Verb) || o.Verb == "" {
				return false
			}
		}
		return true
	}
	for want, answer := range map[string]func(b *bad, c *abi.Command) (*abi.Verdict, error){
		"a text that was not understood": func(_ *bad, c *abi.Command) (*abi.Verdict, error) {
			if known(c, true) {
				return allow, nil
			}
			return deny, nil
		},
		"a kind that does not exist yet": func(_ *bad, c *abi.Command) (*abi.Verdict, error) {
			if c.Statement.Incomplete == "" && known(c, false) {
				return allow, nil
			}
			return deny, nil
		},
		"a verb that does not exist yet": func(_ *bad, c *abi.Command) (*abi.Verdict, error) {
			if c.Statement.Incomplete == "" && (len(c.Statement.Operations) == 0 || c.Statement.Operations[len(c.Statement.Operations)-1].Verb == "select") {
				return allow, nil
			}
			return deny, nil
		},
		"otherwise the second time": func(b *bad, _ *abi.Command) (*abi.Verdict, error) {
			if b.asked > 20 {
				return &abi.Verdict{Decision: abi.Abstain}, nil
			}
			return deny, nil
		},
		"does not say why": func(*bad, *abi.Command) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil },
		"fails on": func(_ *bad, c *abi.Command) (*abi.Verdict, error) {
			if len(c.Statement.Operations) > 1000 {
				return nil, fmt.Errorf("out of budget")
			}
			return deny, nil
		},
	} {
		var s said
		Laws(&s, &bad{answer: answer}, nil)
		if !strings.Contains(strings.Join(s, "\n"), want) {
			t.Errorf("%s is not found: %q", want, s)
		}
	}
	var s said
	Laws(&s, &bad{answer: func(_ *bad, c *abi.Command) (*abi.Verdict, error) {
		if c.Statement.Incomplete == "" && known(c, true) {
			return allow, nil
		}
		return deny, nil
	}}, nil)
	if len(s) > 0 {
		t.Errorf("a guard that keeps the laws: %q", s)
	}
}

// custom plans every column as the guard's own.
func custom(columns int) (*abi.MaskPlan, error) {
	p := &abi.MaskPlan{Default: abi.MaskPass}
	for range columns {
		p.Kinds = append(p.Kinds, abi.MaskCustom)
	}
	return p, nil
}

// copied answers with what each gives for a cell.
func copied(each func(cell []byte, row int) []byte) func(in, out *abi.Batch) error {
	return func(in, out *abi.Batch) error {
		for i := range in.Columns {
			for row := range in.Rows {
				if cell, ok := in.Columns[i].Cell(row); ok {
					out.Columns[i].Add(each(cell, row), false)
				} else {
					out.Columns[i].Add(nil, true)
				}
			}
		}
		return nil
	}
}

// TestLawsOfMasks: so are the laws about results and requests.
func TestLawsOfMasks(t *testing.T) {
	deny := func(*bad, *abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "x", Message: "y"}}, nil
	}
	same := copied(func(cell []byte, _ int) []byte { return cell })
	calls := 0
	for name, c := range map[string]struct {
		g    bad
		want string // "" is none
	}{
		"keeps them": {bad{plan: custom, mask: same, approve: func(*abi.Approval) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Abstain}, nil }}, ""},
		"short plan": {bad{plan: func(n int) (*abi.MaskPlan, error) { return custom(n / 2) }, mask: same}, "an entry for each of 2 columns"},
		"no plan":    {bad{plan: func(int) (*abi.MaskPlan, error) { return nil, nil }}, "no plan"},
		"plan fails": {bad{plan: func(int) (*abi.MaskPlan, error) { return nil, fmt.Errorf("no") }}, "fails on a result of 0 columns"},
		"other plan": {bad{plan: func(n int) (*abi.MaskPlan, error) {
			calls++
			p, _ := custom(n)
			p.Args = []string{fmt.Sprint(calls)}
			return p, nil
		}, mask: same}, "otherwise the second time"},
		"fails":        {bad{plan: custom, mask: func(_, _ *abi.Batch) error { return fmt.Errorf("out of budget") }}, "fails on"},
		"fewer rows":   {bad{plan: custom, mask: func(_, _ *abi.Batch) error { return nil }}, "as many of the same type"},
		"another type": {bad{plan: custom, mask: func(in, out *abi.Batch) error { out.Columns[0].Type++; return same(in, out) }}, "as many of the same type"},
		"much more":    {bad{plan: custom, mask: copied(func([]byte, int) []byte { return make([]byte, 5000) })}, "four times the bytes"},
		"no text":      {bad{plan: custom, mask: copied(func(cell []byte, _ int) []byte { return cell[:min(len(cell), 1)] })}, "what is no text"},
		"NUL":          {bad{plan: custom, mask: copied(func([]byte, int) []byte { return []byte{0} })}, "what is no text"},
		"by its place": {bad{plan: custom, mask: copied(func(cell []byte, row int) []byte { return []byte(fmt.Sprint(row)) })}, "where others stand beside it"},
		"by protect": {bad{answer: func(*bad, *abi.Command) (*abi.Verdict, error) {
			return &abi.Verdict{Decision: abi.Abstain, Protect: []abi.Protect{{Column: "c", Kind: abi.MaskCustom}}}, nil
		}, mask: func(_, _ *abi.Batch) error { return fmt.Errorf("out of budget") }}, "fails on"},
		"agreeing fails": {bad{approve: func(*abi.Approval) (*abi.Verdict, error) { return nil, fmt.Errorf("no") }}, "fails on a request"},
		"asks again":     {bad{approve: func(*abi.Approval) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Review}, nil }}, "kept with allow or abstain"},
		"forgets":        {bad{approve: func(*abi.Approval) (*abi.Verdict, error) { return &abi.Verdict{}, nil }}, "kept with allow or abstain"},
		"does not say":   {bad{approve: func(*abi.Approval) (*abi.Verdict, error) { return &abi.Verdict{Decision: abi.Deny}, nil }}, "does not say why"},
		"by who was first": {bad{approve: func(a *abi.Approval) (*abi.Verdict, error) {
			if len(a.Voices) > 1 && a.Voices[0].Approve {
				return &abi.Verdict{Decision: abi.Allow}, nil
			}
			return deny(nil, nil)
		}}, "in another order"},
	} {
		if c.g.answer == nil {
			c.g.answer = deny
		}
		var s said
		Laws(&s, &c.g, nil)
		if c.want == "" && len(s) > 0 || c.want != "" && !strings.Contains(strings.Join(s, "\n"), c.want) {
			t.Errorf("%s: %q", name, s)
		}
	}
}
