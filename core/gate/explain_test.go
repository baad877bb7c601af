package gate

import (
	"fmt"
	"slices"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestExplain: what is told beforehand is what all guards' answers come to.
func TestExplain(t *testing.T) {
	st := &abi.Statement{
		Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "c"}, Effect: abi.EffectRead, Columns: []abi.Column{{Name: "email", Use: abi.UseCopied}}}},
		Outputs:    []abi.Output{{Index: 1, Name: "mail", Copies: []abi.Source{{Relation: []string{"public", "c"}, Column: "email"}}}},
	}
	tasks := &guard{name: "tasks", may: abi.May{Allow: true, Mask: true}}
	second := &guard{name: "second", may: abi.May{Review: true}}
	email := []abi.Protect{{Relation: []string{"public", "c"}, Column: "email", Kind: abi.MaskKeep, Arg: "1,1"}}
	allow := &abi.Verdict{Decision: abi.Allow, Protect: email, Terms: abi.Terms{RowsReturned: 10, RowsWritten: 7}}
	review := &abi.Verdict{Decision: abi.Review, Review: abi.Requirement{Groups: []string{"dba"}, People: 2}, Terms: abi.Terms{RowsWritten: 3}}
	abstain := &abi.Verdict{Decision: abi.Abstain}

	e := Explain(st, []Guard{tasks, second}, []*abi.Verdict{allow, review})
	if e.Verdict.Decision != abi.Review || e.Refused != nil || e.Verdict.Terms.RowsWritten != 3 || e.Verdict.Terms.RowsReturned != 10 {
		t.Errorf("%+v", e.Verdict)
	}
	if len(e.Needs) != 1 || e.Needs[0].Guard != "second" || e.Needs[0].Within != 900 || e.Needs[0].String() != "2 of dba" {
		t.Errorf("%+v", e.Needs)
	}
	if len(e.Masks) != 1 || e.Masks[0].Index != 1 || e.Masks[0].Column != "public.c.email" || e.Masks[0].Rule.String() != "keep(1, 1)" {
		t.Errorf("%+v", e.Masks)
	}
	if len(e.Masks[0].Of) != 1 || !slices.Equal(e.Said, []abi.Decision{abi.Allow, abi.Review}) {
		t.Errorf("%+v %v", e.Masks, e.Said)
	}
	if review.Review.Within != 0 {
		t.Error("a guard's answer is changed")
	}

	both := *st
	both.Outputs = []abi.Output{{Name: "mail", Copies: []abi.Source{{Relation: []string{"public", "c"}, Column: "email"}, {Relation: []string{"public", "c"}, Column: "card"}, {Relation: []string{"public", "c"}, Column: "email"}, {Relation: []string{"public", "c"}, Column: "id"}}}}
	e = Explain(&both, []Guard{tasks}, []*abi.Verdict{{Decision: abi.Allow, Protect: append(slices.Clip(email), abi.Protect{Relation: []string{"public", "c"}, Column: "card", Kind: abi.MaskKeep, Arg: "0,4"})}})
	if got := fmt.Sprint(e.Masks); got != "[{0 0 public.c.email null [{public.c.email keep(1, 1)} {public.c.card keep(0, 4)}]}]" {
		t.Errorf("two masks in one output: %s", got)
	}

	computed := *st
	computed.Operations = []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "c"}, Effect: abi.EffectRead, Columns: []abi.Column{{Name: "email", Use: abi.UseOrder}}}}
	for want, e := range map[string]*Explained{
		"gate.protected": Explain(&computed, []Guard{tasks}, []*abi.Verdict{allow}),
		"gate.protect":   Explain(st, []Guard{tasks, second}, []*abi.Verdict{{Decision: abi.Allow}, {Decision: abi.Abstain, Protect: email}}),
		"gate.nobody":    Explain(st, []Guard{tasks, second}, []*abi.Verdict{abstain, abstain}),
	} {
		if e.Verdict.Decision != abi.Deny || e.Refused == nil || e.Refused.Reason.Code != want || len(e.Masks) > 0 || len(e.Needs) > 0 {
			t.Errorf("%s: %+v", want, e)
		}
	}
	incomplete := *st
	incomplete.Incomplete = "?"
	if e := Explain(st, []Guard{tasks, second}, []*abi.Verdict{{Decision: abi.Abstain}, {Decision: abi.Allow}}); !slices.Equal(e.Said, []abi.Decision{abi.Abstain, abi.Abstain}) {
		t.Errorf("what a guard may not say counts: %v", e.Said)
	}
	for name, e := range map[string]*Explained{
		"a guard that denies": Explain(st, []Guard{tasks, second}, []*abi.Verdict{allow, {Decision: abi.Deny}}),
		"allow without grant": Explain(st, []Guard{second}, []*abi.Verdict{allow}),
		"what is incomplete":  Explain(&incomplete, []Guard{tasks}, []*abi.Verdict{allow}),
	} {
		if e.Verdict.Decision != abi.Deny || len(e.Masks) > 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	text := &abi.Statement{Protocol: "ssh", Incomplete: "?", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindOpaque, Object: []string{"x"}}}}
	if e := Explain(text, []Guard{tasks}, []*abi.Verdict{{Decision: abi.Allow, Stdin: true}}); e.Verdict.Decision != abi.Allow || !e.Verdict.Stdin {
		t.Errorf("a text for a host's shell: %+v", e)
	}
	if e := Explain(text, []Guard{tasks, second}, []*abi.Verdict{allow, {Decision: abi.Deny}}); e.Verdict.Decision != abi.Deny {
		t.Errorf("a text for a host's shell, refused: %+v", e)
	}
}
