package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// partOf takes what stands behind a column that is assigned, an element
// (col[1]), a slice or a field (col.f), and says whether anything does. What is
// computed within it is read.
func (a *analyzer) partOf(s *scope, target int32, r *schema.Relation, column string) bool {
	i := a.kid(target, "opt_indirection")
	if i == 0 || a.empty(i) {
		return false
	}
	typ, element := r.Column(column).Type, false
	for _, el := range a.list(i, "indirection_el") {
		t := a.c.Schema.Types[typ]
		for t != nil && t.Kind == 'd' {
			t = a.c.Schema.Types[t.Base]
		}
		if t == nil {
			a.refuse("an assignment to a part of a column whose type is not known")
		}
		at, again := a.kid(el, "attr_name"), element
		element = at == 0
		switch {
		case at != 0:
			fields := a.c.Schema.Relations[t.Relation]
			if t.Relation == 0 || fields == nil {
				a.fail("42804", at, "cannot assign to field %q of column %q because its type %s is not a composite type", a.ident(at), column, t.Name.Name)
			}
			f := fields.Column(a.ident(at))
			if f == nil {
				a.fail("42703", at, "cannot assign to field %q of column %q because there is no such column in data type %s", a.ident(at), column, t.Name.Name)
			}
			typ = f.Type
		case a.rule(el)[1] == "'.'":
			a.refuse("an assignment to all fields of a column")
		default:
			a.kids(el, func(k int32) { a.expr(s, k, abi.UseComputed) })
			if e := a.elementOf(t); again { // one more of the same array
			} else if e != 0 {
				typ = e
			} else if t.OID >= firstUser && !a.extended(t.Extension) { // its own function takes the element apart
				a.refuse("an assignment to a part of a column of the type %s", t.Name.Name)
			} // jsonb and its like are made of themselves
		}
	}
	return true
}

// keeps marks columns of which an update keeps a part: whether it succeeds hangs
// on what they hold, as where an array has such an element. So it does in the
// tables behind a parent.
func (a *analyzer) keeps(op *operation, r *schema.Relation, parts []string) {
	for _, name := range parts {
		a.add(op, name, abi.UseTested)
	}
	for _, oid := range r.Children {
		if child := a.c.Schema.Relations[oid]; child != nil && len(parts) > 0 {
			a.keeps(a.touch("update", child, "parent "+r.Name.Namespace+"."+r.Name.Name, abi.EffectWrite), child, parts)
		}
	}
}

// given gives what a rule sees as new: what the statement gives, what the row
// has, or of a column of which it assigns a part, both.
func (w *write) given(name string, before column) column {
	switch {
	case slices.Contains(w.parts, name):
		return column{name: name, computed: union(before.copies, before.computed), other: true}
	case w.event == 'i', slices.Contains(w.columns, name):
		return column{name: name, other: true}
	}
	return before
}
