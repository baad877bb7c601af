package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// fielded says whether an expression takes a field of a composite value:
// (value).field, however many.
func (a *analyzer) fielded(n int32) bool {
	if a.name(n) != "c_expr" {
		return false
	}
	return slices.ContainsFunc(a.list(a.indirection(n), "indirection_el"), func(el int32) bool { return a.rule(el)[1] == "'.'" })
}

func (a *analyzer) indirection(n int32) int32 {
	if i := a.kid(n, "indirection"); i != 0 {
		return i
	}
	return a.kid(n, "opt_indirection")
}

// composite gives what (value).field stands for. A field of a whole row is that
// column; where the value's fields are not known nothing is. Picking one runs
// no code, but `(value).name` is a call of name where there is no such field.
func (a *analyzer) composite(s *scope, n int32) column {
	return a.picked(s, n, a.list(a.indirection(n), "indirection_el"))
}

func (a *analyzer) lastElement(n int32) int32 {
	els := a.list(a.indirection(n), "indirection_el")
	return els[len(els)-1]
}

// allFields gives what (value).* stands for in a list of results.
func (a *analyzer) allFields(s *scope, n int32) []column {
	els := a.list(a.indirection(n), "indirection_el")
	fields := a.fields(a.picked(s, n, els[:len(els)-1]))
	if fields == nil {
		a.refuse("all fields of a value whose type is not known")
	}
	if slices.ContainsFunc(fields, a.hidden) {
		a.refuse("all fields of a row that may hold data: name them")
	}
	return a.star(fields)
}

// picked follows an indirection from the value before it.
func (a *analyzer) picked(s *scope, n int32, els []int32) (c column) {
	switch {
	case a.kid(n, "select_with_parens") != 0:
		c = a.value(s, a.kid(n, "select_with_parens"))
	case a.kid(n, "a_expr") != 0:
		c = a.value(s, a.kid(n, "a_expr"))
	default:
		a.refuse("a field of a parameter, whose type is not known")
	}
	for _, el := range els {
		at := a.kid(el, "attr_name")
		switch {
		case at != 0:
			fields := a.fields(c)
			i := slices.IndexFunc(fields, func(f column) bool { return f.name == a.ident(at) })
			if fields == nil {
				a.refuse("the field %s of a value whose type is not known", a.ident(at))
			}
			if i < 0 {
				a.fail("42703", at, "column %q not found in data type", a.ident(at))
			}
			if fields[i].unsure {
				a.refuse("the field %s, which is a function's column or a call", a.ident(at))
			}
			c = fields[i]
			c.apart = everyStar
		case a.rule(el)[1] == "'.'":
			a.refuse("all fields of a value, anywhere but in a list of results")
		default: // an element of an array
			before := a.snapshot()
			a.kids(el, func(k int32) { a.expr(s, k, abi.UseComputed) })
			c = column{name: c.name, computed: union(union(c.computed, c.copies), a.since(before)), other: true}
		}
	}
	return c
}

// fields gives the fields of a value, nil where they are not known.
func (a *analyzer) fields(c column) []column {
	if c.fields != nil {
		return c.fields
	}
	if len(c.copies) != 1 || len(c.computed) > 0 {
		return nil
	}
	src := c.copies[0]
	col := src.relation.Column(src.column)
	if col == nil || a.hides(src) {
		return nil
	}
	return a.fieldsOf(col.Type, src)
}

// fieldsOf gives the fields of a composite type, as picked from a source. One
// that is of a type that users have made in turn cannot be computed with.
func (a *analyzer) fieldsOf(typ schema.OID, from source) (list []column) {
	t := a.c.Schema.Types[typ]
	for t != nil && t.Kind == 'd' {
		t = a.c.Schema.Types[t.Base]
	}
	if t == nil || t.Relation == 0 || a.c.Schema.Relations[t.Relation] == nil {
		return nil
	}
	for _, f := range a.c.Schema.Relations[t.Relation].Columns {
		src := from
		src.picked = f.Type
		list = append(list, column{name: f.Name, computed: []source{src}, other: true})
	}
	return list
}

// plainType says whether texts may compute with values of a type: its
// operators, casts and functions are the server's own, or accepted. What is made
// of other types (domains, arrays, composite ones) has the functions of those.
func (a *analyzer) plainType(oid schema.OID) bool { return a.plainWithin(oid, 0) }

func (a *analyzer) plainWithin(oid schema.OID, depth int) bool {
	if oid < firstUser {
		return oid != 0
	}
	t := a.c.Schema.Types[oid]
	if t == nil || depth > maxWithin {
		return false
	}
	switch {
	case t.Kind == 'e', a.extended(t.Extension):
		return true
	case t.Kind == 'd':
		return a.plainWithin(t.Base, depth+1)
	case a.elementOf(t) != 0:
		return a.plainWithin(t.Element, depth+1)
	case t.Kind == 'c':
		r := a.c.Schema.Relations[t.Relation]
		return r != nil && !slices.ContainsFunc(r.Columns, func(c schema.Column) bool { return !a.plainWithin(c.Type, depth+1) })
	}
	return false
}

// maxWithin bounds types within types: one can have itself in an array.
const maxWithin = 8

// elementOf gives what an array is of, as the server makes one of each type.
// A type that users have made with an element is none.
func (a *analyzer) elementOf(t *schema.Type) schema.OID {
	if e := a.c.Schema.Types[t.Element]; t.Kind == 'b' && e != nil && e.Array == t.OID {
		return t.Element
	}
	return 0
}

// eachWithin calls f with a type that users have made, and those that it is made of.
func (a *analyzer) eachWithin(oid schema.OID, depth int, f func(*schema.Type)) {
	if oid < firstUser {
		return
	}
	t := a.c.Schema.Types[oid]
	if t == nil || depth > maxWithin {
		return
	}
	a.spend(1)
	switch f(t); {
	case t.Kind == 'd':
		a.eachWithin(t.Base, depth+1, f)
	case a.elementOf(t) != 0:
		a.eachWithin(t.Element, depth+1, f)
	case t.Kind == 'c' && a.c.Schema.Relations[t.Relation] != nil:
		for _, c := range a.c.Schema.Relations[t.Relation].Columns {
			a.eachWithin(c.Type, depth+1, f)
		}
	}
}

// GivenType says whether a client may give a parameter a type by its number, as
// a text may name it: one whose operators, casts and functions are known.
func GivenType(c *Context, oid schema.OID) bool {
	spent := 0
	a := &analyzer{c: c, memory: new(memory), work: &spent, ops: new(operations)}
	if t := c.Schema.Types[oid]; c.Listed != nil && (identity(c.Schema, oid, 0) || t != nil && oid >= firstUser && a.typeByName(t.Name) == nil) {
		return false
	}
	if oid < firstUser {
		return true
	}
	g, err := parse.ForServer(c.Schema.Major)
	if err != nil || !a.plainType(oid) {
		return false
	}
	return a.runs(g, oid)
}

// runs says that neither casts nor conditions of a type run what is not accepted.
func (a *analyzer) runs(g *parse.Grammar, oid schema.OID) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			ok = false
		}
	}()
	a.g, a.symbols = g, symbolsOf(g)
	a.casts(oid)
	a.checks(oid)
	return len(a.ops.list) == 0
}

// outputs gives the columns that a call of the server's own returns by their
// names, each computed from what went in; nil where it has none.
func (a *analyzer) outputsOf(call int32, in []source) (list []column) {
	parts, _, ok := a.parts(a.kid(call, "func_name"))
	if !ok {
		return nil
	}
	rows := func(f *schema.Function) bool { return len(f.Out) > 1 }
	if !slices.ContainsFunc(a.c.Schema.FunctionsNamed[parts[len(parts)-1]], rows) {
		return nil
	}
	fs := a.reached(parts)
	for _, f := range fs {
		if len(f.Out) < 2 {
			continue
		}
		for i, name := range f.Out {
			if i >= len(f.OutTypes) || !a.plainType(f.OutTypes[i]) {
				return nil
			}
			if !slices.ContainsFunc(list, func(c column) bool { return c.name == name }) {
				// Where another function of that name runs, a name that is no field is a call.
				unsure := slices.ContainsFunc(fs, func(f *schema.Function) bool { return len(f.Out) < 2 || !slices.Contains(f.Out, name) })
				list = append(list, column{name: name, computed: in, other: true, unsure: unsure})
			}
		}
	}
	return list
}

// reached are the functions of that name that the path can lead to.
func (a *analyzer) reached(parts []string) (list []*schema.Function) {
	for _, f := range a.c.Schema.FunctionsNamed[parts[len(parts)-1]] {
		if len(parts) == 2 && f.Name.Namespace == parts[0] || len(parts) == 1 && a.searched(f.Name.Namespace) {
			list = append(list, f)
		}
	}
	return list
}
