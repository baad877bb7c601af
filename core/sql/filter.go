package sql

import (
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// Filter are the masked columns that a task may compare with values that a text
// names: `filter: eq`. Such a comparison is forwarded as the server's own
// equality of the column's own type, so that nothing else can be meant by it.
type Filter struct{ columns map[schema.Name][]string }

// NewFilter makes it of the columns of a task that have it; nil where none has.
func NewFilter(columns []abi.Source) *Filter {
	f := &Filter{columns: map[schema.Name][]string{}}
	for _, c := range columns {
		if len(c.Relation) == 2 {
			n := schema.Name{Namespace: c.Relation[0], Name: c.Relation[1]}
			f.columns[n] = append(f.columns[n], c.Column)
		}
	}
	if len(f.columns) == 0 {
		return nil
	}
	return f
}

// filtered stands beside UseCondition, within this package: the condition is
// such a comparison.
const filtered abi.Use = 1 << 31

// restrict reads the condition of a WHERE. Along its ANDs a comparison with a
// column of the filter is one; whatever else it holds is a condition like any
// other. Neither false nor NULL lets a row through there: what a row that is left
// out tells is that it has not this value, and not that it has none.
func (a *analyzer) restrict(s *scope, n int32) {
	if a.c.Filter == nil || a.via != "" || a.keeping {
		a.expr(s, n, abi.UseCondition)
		return
	}
	leaf := a.through(n)
	r, first := a.rule(leaf), a.t.Nodes[leaf].First
	switch {
	case a.name(leaf) == "c_expr" && len(r) == 5 && r[1] == "'('" && a.empty(a.kid(leaf, "opt_indirection")):
		a.restrict(s, a.kid(leaf, "a_expr"))
	case a.name(leaf) == "a_expr" && len(r) == 4 && r[2] == "AND":
		a.restrict(s, first)
		a.restrict(s, a.t.Nodes[a.t.Nodes[first].Next].Next)
	case !a.filters(s, leaf):
		a.expr(s, n, abi.UseCondition)
	}
}

// filters takes COLUMN = VALUE, VALUE = COLUMN and COLUMN IN (VALUE, …).
func (a *analyzer) filters(s *scope, n int32) bool {
	r := a.rule(n)
	if a.name(n) != "a_expr" || len(r) < 4 {
		return false
	}
	first := a.t.Nodes[n].First
	mid := a.t.Nodes[first].Next
	switch {
	case len(r) == 4 && r[2] == "'='":
		last := a.t.Nodes[mid].Next
		return a.filter(s, first, []int32{last}, a.t.Nodes[mid].From, a.t.Nodes[mid].To) || a.filter(s, last, []int32{first}, a.t.Nodes[mid].From, a.t.Nodes[mid].To)
	case r[2] == "IN_P":
		in := n // 18 has the list here
		if k := a.kid(n, "in_expr"); k != 0 {
			in = k
		}
		list := a.list(a.kid(in, "expr_list"), "a_expr")
		return len(list) > 0 && a.filter(s, first, list, a.t.Nodes[mid].From, a.t.Nodes[n].To)
	}
	return false
}

// filter takes one comparison, of which [from, to) are the tokens of the operator,
// with the values where it is IN.
func (a *analyzer) filter(s *scope, col int32, values []int32, from, to int32) bool {
	ref := a.bare(col)
	if a.name(ref) != "columnref" {
		return false
	}
	names, star, plain := a.parts(ref)
	if star || !plain || len(names) > 3 {
		return false
	}
	for _, v := range values { // a column on either side is found here, and not looked up yet
		if _, ok := a.guess(v, nil); !ok {
			return false
		}
	}
	c := a.lookup(s, ref, names)
	t, listed := a.compared(c, nil)
	if t == nil || !listed || c.unsure {
		return false
	}
	operator := a.equality(t)
	if operator == "" {
		return false
	}
	texts, guesses := make([]string, len(values)), make([]abi.Guess, len(values))
	for i, v := range values {
		g, ok := a.guess(v, t)
		if !ok {
			return false
		}
		guesses[i], texts[i] = g, "("+g.Forwarded+"::"+castName(t)+")"
	}
	a.spend(len(values))
	for i, v := range values {
		if at := a.t.Nodes[v].From; !a.guesses[at] {
			a.guesses[at], a.guessed = true, append(a.guessed, guesses[i])
		}
	}
	if a.t.Nodes[values[0]].From < to && a.t.Nodes[values[0]].From > from {
		a.rewrite(edit{from, to, operator + " ANY (ARRAY[" + strings.Join(texts, ", ") + "])"})
	} else {
		a.rewrite(edit{from, to, operator})
		a.rewrite(edit{a.t.Nodes[values[0]].From, a.t.Nodes[values[0]].To, texts[0]})
	}
	a.use(c, abi.UseCondition|filtered)
	return true
}

// rewrite writes once what is read twice.
func (a *analyzer) rewrite(e edit) {
	if a.spend(1 + len(a.edits)/64); !slices.Contains(a.edits, e) {
		a.edits = append(a.edits, e)
	}
}

// edited says whether an edit stands within one that is there.
func (a *analyzer) edited(e edit) bool {
	return slices.ContainsFunc(a.edits, func(o edit) bool { return o.from < o.to && o.from <= e.from && e.to <= o.to })
}

// compared gives the type of what a bare copy compares as, nil where it is none
// or is not of one type all the way down, and whether the filter lists any of it.
func (a *analyzer) compared(c column, t *schema.Type) (typ *schema.Type, listed bool) {
	if len(c.copies) == 0 || len(c.computed) > 0 || c.other {
		return nil, false
	}
	for _, s := range c.copies {
		a.spend(1)
		col := s.relation.Column(s.column)
		if col == nil || s.blind || s.picked != 0 {
			return nil, false
		}
		base := a.c.Schema.Compared(col.Type)
		if base == nil || t != nil && t != base {
			return nil, false
		}
		t = base
		listed = listed || slices.ContainsFunc(a.family(s.relation), func(k *schema.Relation) bool { return slices.Contains(a.c.Filter.columns[k.Name], s.column) })
		if s.behind != nil {
			under, also := a.compared(*s.behind, t)
			if under == nil {
				return nil, false
			}
			listed = listed || also
		}
	}
	return t, listed
}

// equality names the operator = of a type by its schema: the server's own, or
// that of the type's extension.
func (a *analyzer) equality(t *schema.Type) string {
	if t.Extension == "" {
		return `OPERATOR("pg_catalog".=)`
	}
	for _, o := range a.c.Schema.OperatorsNamed["="] {
		if o.Left == t.OID && o.Right == t.OID && o.Extension == t.Extension {
			return "OPERATOR(" + quoteIdent(o.Name.Namespace) + ".=)"
		}
	}
	return ""
}

// guess gives a constant or parameter as a value of type t; of any type where t
// is nil. A cast of the text's own has to be to that type: the value alone goes on.
func (a *analyzer) guess(n int32, t *schema.Type) (g abi.Guess, ok bool) {
	sign := ""
	for {
		n = a.bare(n)
		r := a.rule(n)
		from := a.t.Nodes[n].From
		typ := int32(0)
		switch name := a.name(n); {
		case name == "a_expr" && len(r) == 3 && (r[1] == "'-'" || r[1] == "'+'") && sign == "":
			sign = strings.Trim(r[1], "'")
			n = a.kid(n, "a_expr")
		case name == "c_expr" && len(r) == 3 && r[1] == "PARAM" && a.empty(a.kid(n, "opt_indirection")) && sign == "":
			g.Forwarded = a.t.Text[a.t.Tokens[from].Start:a.t.Tokens[from].End]
			g.Param, _ = strconv.Atoi(a.token(n).Value) // Analyze has read it
			return g, true
		case name == "a_expr" && a.kid(n, "TYPECAST") != 0, name == "func_expr_common_subexpr" && r[1] == "CAST":
			typ, n = a.kid(n, "Typename"), a.kid(n, "a_expr")
		case name == "AexprConst" && len(r) == 3 && r[2] == "Sconst": // date '2026-01-01'
			typ, n = a.t.Nodes[n].First, a.kid(n, "Sconst")
		case a.t.Nodes[n].To != from+1:
			return g, false
		default:
			v := a.token(n).Value
			switch a.g.Names[a.token(n).Kind] {
			case "SCONST":
				ok = sign == ""
			case "ICONST":
				v, ok = decimal(v), t == nil || a.number(t, true)
			case "FCONST": // it would be rounded to an integer, unless it is a long one
				ok = t == nil || a.number(t, whole(v))
			}
			return abi.Guess{From: int(a.t.Tokens[from].Start), To: int(a.t.Tokens[from].End), Forwarded: quoteLiteral(sign + v)}, ok
		}
		if typ != 0 && t != nil && !sameKind(a.text(typ), t) {
			return g, false
		}
	}
}

// number says whether a constant that is a number can be of type t.
func (a *analyzer) number(t *schema.Type, whole bool) bool {
	switch a.c.Schema.Class(t.OID) {
	case abi.ClassInt2, abi.ClassInt4, abi.ClassInt8:
		return whole
	case abi.ClassNumeric:
		return true
	}
	return false
}

func whole(number string) bool { return strings.Trim(number, "0123456789") == "" }
