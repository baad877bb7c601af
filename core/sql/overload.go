package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/sql/schema"
)

// Which function of several runs is the server's choice. Some of it is sure: which
// ones do not take as many arguments, or none of that type, and what a bare constant
// between quotes is taken for (the server's func_select_candidate).

const (
	unknownType schema.OID = 705 // of a constant between quotes, and of NULL
	textType    schema.OID = 25
)

// overloads are the functions that a call in FROM can be.
func (a *analyzer) overloads(s *scope, call int32, parts []string) []*schema.Function {
	list := a.reached(parts)
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	if a.kid(call, "VARIADIC") != 0 || slices.ContainsFunc(args, a.byItsName) {
		return list
	}
	types := make([]schema.OID, len(args))
	for i, arg := range args {
		types[i] = a.typeGiven(s, arg)
	}
	list = slices.DeleteFunc(list, func(f *schema.Function) bool {
		if f.Variadic != 0 {
			return false
		}
		if len(args) > len(f.Args) || len(args) < len(f.Args)-f.Defaults {
			return true
		}
		for i, t := range types {
			if t != 0 && t != unknownType && a.wantsMade(f.Args[i]) {
				return true
			}
		}
		return false
	})
	// Of constants alone: where one function that is sure to be seen takes texts
	// throughout, only those can be meant that take strings there.
	texts := func(f *schema.Function) bool {
		return (f.System || len(parts) == 2) && f.Variadic == 0 && len(f.Args) == len(args) && !slices.ContainsFunc(f.Args, func(t schema.OID) bool { return t != textType })
	}
	if len(args) == 0 || slices.ContainsFunc(types, func(t schema.OID) bool { return t != unknownType }) || !slices.ContainsFunc(list, texts) {
		return list
	}
	return slices.DeleteFunc(list, func(f *schema.Function) bool {
		return f.Variadic == 0 && slices.ContainsFunc(f.Args[:len(args)], func(oid schema.OID) bool {
			t := a.c.Schema.Types[oid]
			for depth := 0; t != nil && t.Kind == 'd' && depth < maxWithin; depth++ {
				t = a.c.Schema.Types[t.Base]
			}
			return t != nil && t.Kind != 'd' && t.Category != 'S' && oid != unknownType
		})
	})
}

// wantsMade says whether a parameter takes values alone of a type that is made of
// another one, as arrays and ranges are, or of labels.
func (a *analyzer) wantsMade(oid schema.OID) bool {
	t := a.c.Schema.Types[oid]
	return t != nil && t.Kind == 'p' && t.Name.Namespace == "pg_catalog" && madeTypes[t.Name.Name]
}

// madeTypes are the polymorphic types that stand for no row, and for none of the plain
// types that typeGiven knows.
var madeTypes = set(`anyarray anyenum anyrange anymultirange anycompatiblearray anycompatiblerange anycompatiblemultirange`)

// typeGiven gives the type of an argument where it is sure to be one of the server's own
// that is no array, range or row, unknownType for a bare constant or NULL; else 0.
func (a *analyzer) typeGiven(s *scope, n int32) schema.OID {
	leaf := a.bare(n)
	switch r := a.rule(leaf); {
	case a.name(leaf) == "columnref":
		if names, star, plain := a.parts(leaf); !star && plain && len(names) < 4 {
			return a.simply(a.copiedType(a.lookup(s, leaf, names)))
		}
		return 0
	case a.name(leaf) == "a_expr" && a.kid(leaf, "TYPECAST") != 0, a.name(leaf) == "func_expr_common_subexpr" && r[1] == "CAST":
		return a.typeCast(a.kid(leaf, "Typename"))
	}
	if a.t.Nodes[leaf].To != a.t.Nodes[leaf].From+1 {
		return 0
	}
	switch a.g.Names[a.token(leaf).Kind] {
	case "SCONST", "NULL_P":
		return unknownType
	case "ICONST":
		return 23
	case "FCONST":
		return 1700
	case "TRUE_P", "FALSE_P":
		return 16
	}
	return 0
}

// typeCast is typeGiven for a cast, by the type's name.
func (a *analyzer) typeCast(n int32) schema.OID {
	if b := a.kid(n, "opt_array_bounds"); b == 0 || !a.empty(b) || a.kid(n, "ARRAY") != 0 || a.kid(n, "SETOF") != 0 {
		return 0
	}
	g := a.find(n, "GenericType")
	if g == 0 { // one that has its own words in the grammar: none of them is made of another
		return textType
	}
	to := a.t.Nodes[g].To
	if m := a.kid(g, "opt_type_modifiers"); m != 0 {
		to = a.t.Nodes[m].From
	}
	if t := a.typeFound(a.t.Nodes[g].From, to); t != nil {
		return a.simply(t.OID)
	}
	return 0
}

// simply gives a type back where it is one of the server's own and made of no other.
func (a *analyzer) simply(oid schema.OID) schema.OID {
	if t := a.c.Schema.Types[oid]; t != nil && oid < firstDomain && t.Kind == 'b' && t.Category != 'A' && !strings.HasPrefix(t.Name.Name, "_") {
		return oid
	}
	return 0
}
