package sql

import (
	"strings"

	"github.com/taskgate/taskgate/core/sql/schema"
)

// key is what a condition fixes of the table that is written.
type key struct {
	mine  *origin
	alone bool            // no other table is in reach of a bare name
	fixed map[string]bool // columns that equal one constant
	edits []edit
}

// equalities finds the columns of the target that the condition fixes to a
// constant or parameter, along its ANDs.
func (a *analyzer) equalities(n int32, k *key) {
	leaf := a.through(n)
	r := a.rule(leaf)
	first := a.t.Nodes[leaf].First
	switch {
	case a.name(leaf) == "c_expr" && a.kid(leaf, "a_expr") != 0:
		a.equalities(a.kid(leaf, "a_expr"), k)
	case a.name(leaf) == "a_expr" && len(r) > 3 && r[2] == "IN_P":
		in := leaf // 18 has the list here
		if k := a.kid(leaf, "in_expr"); k != 0 {
			in = k
		}
		if list := a.list(a.kid(in, "expr_list"), "a_expr"); len(list) == 1 {
			a.fix(first, list[0], k)
		}
	case a.name(leaf) != "a_expr" || len(r) != 4:
	case r[2] == "AND":
		a.equalities(first, k)
		a.equalities(a.t.Nodes[a.t.Nodes[first].Next].Next, k)
	case r[2] == "'='":
		right := a.t.Nodes[a.t.Nodes[first].Next].Next
		a.fix(first, right, k)
		a.fix(right, first, k)
	}
}

// fix notes that a column equals a constant of its own type: another type could
// round, and so hit several.
func (a *analyzer) fix(col, value int32, k *key) {
	ref := a.bare(col)
	if a.name(ref) != "columnref" {
		return
	}
	names, star, plain := a.parts(ref)
	name := names[len(names)-1]
	if !plain || star || len(names) > 2 || len(names) == 1 && !k.alone || len(names) == 2 && names[0] != k.mine.alias {
		return
	}
	c := k.mine.relation.Column(name)
	if c == nil {
		return
	}
	t := a.c.Schema.Types[c.Type]
	for t != nil && t.Kind == 'd' {
		t = a.c.Schema.Types[t.Base]
	}
	if t == nil || !a.one(value, t, k) {
		return
	}
	k.fixed[name] = true
}

// one says whether an expression is a constant or parameter of type t. Of a
// parameter the client says the type, so it is cast in what is forwarded.
func (a *analyzer) one(n int32, t *schema.Type, k *key) bool {
	for {
		n = a.bare(n)
		r := a.rule(n)
		switch name := a.name(n); {
		case name == "a_expr" && len(r) == 3 && (r[1] == "'-'" || r[1] == "'+'"):
			n = a.kid(n, "a_expr")
		case name == "c_expr" && len(r) == 3 && r[1] == "PARAM" && a.empty(a.kid(n, "opt_indirection")):
			from := a.t.Nodes[n].From
			k.edits = append(k.edits, edit{from, from + 1, "(" + a.t.Text[a.t.Tokens[from].Start:a.t.Tokens[from].End] + "::" + castName(t) + ")"})
			return true
		case name == "a_expr" && a.kid(n, "TYPECAST") != 0, name == "func_expr_common_subexpr" && r[1] == "CAST":
			if !sameKind(a.text(a.kid(n, "Typename")), t) {
				return false
			}
			n = a.kid(n, "a_expr")
		case a.t.Nodes[n].To != a.t.Nodes[n].From+1:
			return false
		default:
			switch a.g.Names[a.token(n).Kind] {
			case "ICONST", "FCONST", "SCONST", "TRUE_P", "FALSE_P":
				return true
			}
			return false
		}
	}
}

// castName names a type as a cast to it does: varchar is text, which is what the
// server takes it for.
func castName(t *schema.Type) string {
	name := t.Name
	if name == (schema.Name{Namespace: "pg_catalog", Name: "varchar"}) {
		name.Name = "text"
	}
	return name.Quoted()
}

// sameKind says whether a type, as a text names it, is t or holds no other
// values than t can tell apart.
func sameKind(text string, t *schema.Type) bool {
	text = strings.TrimPrefix(strings.NewReplacer(`"`, "", " . ", ".").Replace(strings.ToLower(text)), "pg_catalog.")
	names := map[string]string{"int": "int", "integer": "int", "bigint": "int", "smallint": "int", "int2": "int", "int4": "int", "int8": "int",
		"varchar": "text", "character varying": "text", "boolean": "bool"}
	kind := func(s string) string {
		if k := names[s]; k != "" {
			return k
		}
		return s
	}
	return t.Name.Namespace == "pg_catalog" && kind(text) == kind(t.Name.Name)
}
