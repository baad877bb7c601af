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
	asked  int
	answer func(b *bad, c *abi.Command) (*abi.Verdict, error)
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
func (b *bad) Results() bool                                { return false }
func (b *bad) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return nil, nil
}

func (*bad) ResultBatch(context.Context, *abi.Session, *abi.Batch) (*abi.Batch, error) {
	return nil, nil
}
func (*bad) Approvals() bool                                               { return false }
func (*bad) Approval(context.Context, *abi.Approval) (*abi.Verdict, error) { return nil, nil }

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
