package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// protection is what comes of the guards' protect and of a statement's
// lineage. The core alone derives it: a guard names columns, and what that
// means for a statement it cannot get wrong.
type protection struct {
	outputs []masked
	texts   []mask.Lines // of the answer's text
	modules []Guard      // that mask it themselves, by the number of the lines
	reached bool         // the statement reaches what is protected: errors say nothing until the transaction ends
	oracle  bool         // a constraint may tell of a masked column, as the task accepts
	filters []string     // masked columns that are compared with values, as the task accepts
}

// masked is an output that is masked.
type masked struct {
	statement, index int
	column           string // whose mask it is, for the record
	rule             mask.Rule
	guard            Guard // that does a CUSTOM mask
}

// shield is what protects one column.
type shield struct {
	name     string
	rule     mask.Rule
	masked   bool
	unlisted bool
	filter   bool // all that mask it let it be compared with values
	sighted  bool // one of the guards that mask it has not said that texts may see it masked (Terms.Blind)
	guard    Guard
}

// shields are those of a command, by relation, then column.
type shields map[string]map[string]*shield

func key(relation []string) string { return strings.Join(relation, ".") }

// collect joins what all guards protect.
func collect(all []asked) shields {
	var list shields
	for i := range all {
		for j := range all[i].verdict.Protect {
			p := &all[i].verdict.Protect[j]
			if p.Kind == abi.MaskPass && !p.Filter && !p.Unlisted || p.Text() {
				continue
			}
			if list == nil {
				list = shields{}
			}
			k := key(p.Relation)
			if list[k] == nil {
				list[k] = map[string]*shield{}
			}
			s := list[k][p.Column]
			if s == nil {
				s = &shield{name: k + "." + p.Column}
				list[k][p.Column] = s
			}
			s.add(p, all[i].guard)
			s.sighted = s.sighted || !all[i].verdict.Terms.Blind
		}
	}
	return list
}

func (s *shield) add(p *abi.Protect, guard Guard) {
	if p.Unlisted {
		s.unlisted = true
		return
	}
	r := mask.Rule{Kind: p.Kind, Arg: p.Arg, Nulls: p.Nulls}
	if r.Kind == abi.MaskUnset || r.Kind > abi.MaskCustom || r.Kind == abi.MaskPass {
		r = mask.Rule{Kind: abi.MaskNull}
	}
	s.filter = p.Filter && (s.filter || !s.masked)
	switch {
	case !s.masked:
		s.rule, s.masked, s.guard = r, true, guard
	case r.Kind == abi.MaskCustom && s.guard != guard: // two modules' masks differ whatever their arguments
		s.rule = mask.Rule{Kind: abi.MaskNull}
	default:
		s.rule = mask.Join(s.rule, r)
	}
}

// of gives what protects a column, through all relations that share it.
func (list shields) of(st *abi.Statement, relation []string, column string) *shield {
	k := key(relation)
	s := list[k][column]
	for _, kin := range st.Kin[k] {
		o := list[key(kin)][column]
		switch {
		case o == nil:
		case s == nil || !s.masked:
			s = o
		case o.masked:
			both := *s
			both.rule, both.sighted, both.filter = mask.Join(s.rule, o.rule), s.sighted || o.sighted, s.filter && o.filter
			if s.guard != o.guard && both.rule.Kind == abi.MaskCustom {
				both.rule = mask.Rule{Kind: abi.MaskNull}
			}
			s = &both
		}
	}
	return s
}

// any says whether anything of a relation is protected.
func (list shields) any(st *abi.Statement, relation []string) bool {
	k := key(relation)
	return len(list[k]) > 0 || slices.ContainsFunc(st.Kin[k], func(kin []string) bool { return len(list[key(kin)]) > 0 })
}

// computed are the uses by which more than a copy of a value could be learned,
// each with its word.
var computed = []struct {
	use  abi.Use
	word string
}{
	{abi.UseComputed, "computed with"}, {abi.UseCondition, "used in a condition"}, {abi.UseOrder, "sorted by"}, {abi.UseGroup, "grouped by or compared"},
}

// maxGuesses is how many values one text may compare with masked columns: each
// tells of every row whether it holds that value.
const maxGuesses = 10

// filters says whether a condition may compare the column with values. A mask
// that gives equal values an equal look would put the value beside it.
func (s *shield) filters() bool { return s.filter && !s.rule.Pure() }

// protect derives what protects a statement, or why it may not run.
func protect(st *abi.Statement, all []asked) (*protection, *Denied) {
	lines, modules, denied := linesOf(st, all)
	if denied != nil {
		return nil, denied
	}
	list := collect(all)
	if list == nil && lines == nil {
		return nil, nil
	}
	accepted, closed := false, false
	for i := range all {
		accepted = accepted || slices.Contains(all[i].verdict.Terms.Oracle, "accept")
		closed = closed || slices.Contains(all[i].verdict.Terms.Oracle, "refuse")
	}
	accepted = accepted && !closed
	p := &protection{texts: lines, modules: modules}
	for i := range st.Operations {
		o := &st.Operations[i]
		if o.Kind == abi.KindFunction { // what it reads nobody knows
			p.reached = true
		}
		if o.Kind != abi.KindRelation {
			continue
		}
		p.reached = p.reached || list.any(st, o.Object)
		for _, c := range o.Columns {
			s := list.of(st, o.Object, c.Name)
			if s == nil {
				if closed && c.Use&abi.UseTested != 0 && list.of(st, o.Object, "*") != nil {
					return nil, refuseOracle(o, c.Name)
				}
				continue
			}
			if !s.masked {
				if closed && c.Use&abi.UseTested != 0 {
					return nil, refuseOracle(o, c.Name)
				}
				continue
			}
			name := key(o.Object) + "." + c.Name
			if o.Attrs&abi.Blind != 0 {
				if d := s.veiled(st, o.Object, c.Name); d != nil {
					return nil, d
				}
				continue
			}
			for _, u := range computed {
				switch {
				case c.Use&u.use == 0:
				case u.use == abi.UseCondition && s.filters() && c.Filter:
					if p.filters = append(p.filters, name); st.Guesses > maxGuesses {
						return nil, protected(fmt.Sprintf("%d values are compared with masked columns here, and one text may name %d: each tells whether it is right", st.Guesses, maxGuesses), "ask for fewer at a time; each is counted")
					}
				case u.use == abi.UseCondition && s.filters():
					return nil, protected("the column "+name+" is masked in this task and can only be compared with values"+behind(o), "column = value, or column IN (values), by itself or beside other conditions with AND, in the WHERE of a query, UPDATE or DELETE, not in EXPLAIN; a value is a constant of the column's type or a parameter")
				default:
					hint := "select it as it is, by name, alias or *; conditions, sorting and computing work on the other columns"
					if u.use == abi.UseCondition && o.Via == "" && !s.rule.Pure() {
						hint += "; to find rows by a value that you know, ask your operator for filter: eq"
					}
					return nil, protected("the column "+name+" is masked in this task and cannot be "+u.word+behind(o), hint)
				}
			}
			if c.Use&abi.UseTested != 0 {
				if !accepted {
					return nil, refuseOracle(o, c.Name)
				}
				p.oracle = true
			}
			if c.Use&abi.UseWritten != 0 && s.rule.Pure() {
				return nil, protected("the column "+name+" is masked by "+s.rule.String()+" in this task and cannot be written: what is written could be compared with what others have", "leave the column out")
			}
		}
	}
	for i := range st.Outputs {
		m, d := list.output(st, &st.Outputs[i])
		if d != nil {
			return nil, d
		}
		if m != nil {
			p.outputs = append(p.outputs, *m)
		}
	}
	return p, nil
}

// output derives what masks one output.
func (list shields) output(st *abi.Statement, o *abi.Output) (*masked, *Denied) {
	for _, c := range o.Computed {
		if s := list.of(st, c.Relation, c.Column); s != nil && s.masked && !c.Blind {
			return nil, protected("the column "+s.name+" is masked in this task and cannot be computed with", "select it as it is")
		}
	}
	var m *masked
	foreign := o.Other
	for _, c := range o.Copies {
		s := list.of(st, c.Relation, c.Column)
		switch {
		case s != nil && s.masked && c.Blind: // the operation that reads it has been held against the mask
			foreign = true
			continue
		case s == nil || !s.masked:
			foreign = foreign || !c.View
			continue
		case m == nil:
			m = &masked{statement: o.Statement, index: o.Index, column: s.name, rule: s.rule, guard: s.guard}
			continue
		}
		if m.rule.Pure() && m.column != s.name {
			foreign = true
		}
		if rule := mask.Join(m.rule, s.rule); rule != m.rule || m.guard != s.guard && rule.Kind == abi.MaskCustom {
			if m.rule = rule; m.guard != s.guard && rule.Kind == abi.MaskCustom {
				m.rule = mask.Rule{Kind: abi.MaskNull}
			}
		}
	}
	if m == nil || !m.rule.Pure() {
		return m, nil
	}
	if foreign {
		return nil, protected("the output "+quote(o.Name)+" puts other values beside those of "+m.column+", which "+m.rule.String()+" masks: they could be compared", "select the column by itself")
	}
	for i := range st.Operations {
		if op := &st.Operations[i]; op.Statement == o.Statement && op.Attrs&abi.Returning != 0 {
			return nil, protected("the column "+m.column+" is masked by "+m.rule.String()+" in this task and cannot be returned by what writes", "leave it out of RETURNING")
		}
	}
	return m, nil
}

// veiled holds what a text that is blind sees of a column against what masks
// it: the mask in the text must hide as much, and all who mask it agree.
func (s *shield) veiled(st *abi.Statement, relation []string, column string) *Denied {
	given := false
	for i := range st.Blind {
		p := &st.Blind[i]
		if p.Column != column || !slices.Equal(p.Relation, relation) {
			continue
		}
		r := mask.Rule{Kind: p.Kind, Arg: p.Arg, Nulls: p.Nulls}
		if given = true; r.Kind != abi.MaskNull && mask.Join(r, s.rule) != r {
			return protected("the column "+s.name+" is masked by "+s.rule.String()+" for this command, and the text would see it masked by "+r.String(), "send it again; if that does not help, leave the column out")
		}
	}
	switch {
	case !given:
		return protected("the column "+s.name+" is masked, and not by the task that is blind: a text cannot see it masked", "leave the column out")
	case s.sighted:
		return protected("the column "+s.name+" is masked by a guard that lets no text see it masked (terms.blind)", "leave the column out")
	}
	return nil
}

func behind(o *abi.Operation) string {
	if o.Via == "" {
		return ""
	}
	return " (" + o.Via + " does)"
}

func refuseOracle(o *abi.Operation, column string) *Denied {
	return protected("whether "+key(o.Object)+"."+column+" can be written tells what other rows hold, and it is protected in this task"+behind(o), "leave the column out, or have the operator accept it: oracle: accept")
}

// codeProtected is of what is refused for what it does with protected columns.
const codeProtected = "gate.protected"

func protected(message, hint string) *Denied {
	return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: codeProtected, Message: message, Hint: hint}}
}

// Alarm is what must not be: the server's answer is not the one that was
// judged. The session ends, and the operator is told.
type Alarm struct{ What string }

func (a *Alarm) Error() string { return "alarm: " + a.What }

// check holds a result's shape against the lineage of the statement.
func (p *protection) check(st *abi.Statement, schema *abi.ResultSchema) error {
	var outs []*abi.Output
	for i := range st.Outputs {
		if st.Outputs[i].Statement == schema.Statement {
			outs = append(outs, &st.Outputs[i])
		}
	}
	if len(outs) == 0 {
		return nil // EXPLAIN, SHOW: it shows no column
	}
	if len(outs) != len(schema.Columns) {
		return &Alarm{fmt.Sprintf("a result has %d columns where %d were judged", len(schema.Columns), len(outs))}
	}
	for i, o := range outs {
		c := &schema.Columns[i]
		if c.Relation == nil {
			continue
		}
		same := func(s abi.Source) bool {
			return s.Column == c.Column && (slices.Equal(s.Relation, c.Relation) || slices.ContainsFunc(st.Kin[key(s.Relation)], func(k []string) bool { return slices.Equal(k, c.Relation) }))
		}
		whole := func(s abi.Source) bool { // a row as a value has a relation and no column
			s.Column = ""
			return c.Column == "" && same(s)
		}
		if !slices.ContainsFunc(o.Copies, same) && !slices.ContainsFunc(o.Computed, same) && !slices.ContainsFunc(o.Computed, whole) {
			return &Alarm{fmt.Sprintf("column %d of a result comes from %s.%s, which was not judged", i+1, key(c.Relation), c.Column)}
		}
	}
	return nil
}
