package gate

import (
	"slices"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// Explained is what would be done with a command, for whoever asks beforehand.
type Explained struct {
	Verdict abi.Verdict    // with the strictest limits of all guards
	Said    []abi.Decision // by each guard, as far as it may
	Masks   []Masking
	Texts   []TextMasking // of each line of the answer's text
	Filters []string      // masked columns that it compares with values, as the task accepts
	Needs   []Need        // who has to approve it, where it is held
	Oracle  bool          // a constraint may tell of a masked column, as the task accepts
	Refused *Denied       // what the gate itself refuses of what the guards let through
}

// Masking is one output that is masked.
type Masking struct {
	Statement, Index int
	Column           string // because of which
	Rule             mask.Rule
	Of               []ColumnMask // all that come together in it
}

// ColumnMask is a column and what masks it by itself.
type ColumnMask struct {
	Column string
	Rule   mask.Rule
}

// TextMasking is what is masked in the text of an answer, and by what.
type TextMasking struct{ What, By string }

// opaque says whether a statement is one text for a host's shell, which a guard
// may let through as it is.
func opaque(st *abi.Statement) bool {
	return len(st.Operations) == 1 && st.Operations[0].Kind == abi.KindOpaque
}

// Explain joins what guards have said of a command, one verdict each, as judging
// it in a session would, and derives what protects it.
func Explain(st *abi.Statement, guards []Guard, said []*abi.Verdict) *Explained {
	all, read := make([]asked, len(guards)), make([]abi.Decision, len(guards))
	var may *Denied
	for i, g := range guards {
		all[i] = asked{guard: g, verdict: said[i], read: g.May().Limit(said[i].Decision)}
		if d := unmaskable(g, said[i]); d != nil {
			all[i].verdict, all[i].read = d, abi.Deny
			may = &Denied{Decision: abi.Deny, Guard: g.Name(), Reason: d.Reason}
		}
		read[i] = all[i].read
	}
	decision, who := combine(all)
	switch {
	case st.Incomplete != "" && !opaque(st): // no protocol carries out half a text
		return &Explained{Verdict: abi.Verdict{Decision: abi.Deny}, Said: read}
	case who < 0:
		return &Explained{Verdict: abi.Verdict{Decision: abi.Deny}, Said: read, Refused: denied("gate.nobody", "no guard allows it", "ask your operator for a task that covers it")}
	}
	e := &Explained{Verdict: *all[who].verdict, Said: read}
	e.Verdict.Decision = decision
	if decision != abi.Allow && decision != abi.Review {
		e.Refused = may
		return e
	}
	p, d := protect(st, all)
	if d != nil {
		e.Verdict.Decision, e.Verdict.Reason, e.Refused = abi.Deny, d.Reason, d
		return e
	}
	e.Verdict = tighten(e.Verdict, all)
	e.Verdict.Decision = decision
	if decision == abi.Review {
		e.Needs = needs(all)
		for i := range e.Needs {
			if n := &e.Needs[i]; n.Within == 0 {
				n.Within = uint32(within / time.Second)
			}
		}
	}
	if p == nil {
		return e
	}
	e.Oracle, e.Texts, e.Filters = p.oracle, p.labels(), p.filters
	list := collect(all)
	for i := range p.outputs {
		m := &p.outputs[i]
		e.Masks = append(e.Masks, Masking{m.statement, m.index, m.column, m.rule, list.together(st, m)})
	}
	return e
}

// together gives the masked columns that come together in an output.
func (list shields) together(st *abi.Statement, m *masked) (of []ColumnMask) {
	for i := range st.Outputs {
		o := &st.Outputs[i]
		if o.Statement != m.statement || o.Index != m.index {
			continue
		}
		for _, c := range o.Copies {
			if s := list.of(st, c.Relation, c.Column); s != nil && s.masked && !c.Blind && !slices.Contains(of, ColumnMask{s.name, s.rule}) {
				of = append(of, ColumnMask{s.name, s.rule})
			}
		}
	}
	return of
}
