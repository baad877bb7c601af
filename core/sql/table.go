package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// funcTable takes a function, or ROWS FROM several, in FROM.
func (a *analyzer) funcTable(s *scope, n int32) *origin {
	ft := a.kid(n, "func_table")
	o := &origin{}
	a.ancestors(n)
	var names []string
	defs := int32(0)
	if al := a.kid(n, "func_alias_clause"); !a.empty(al) {
		defs = a.find(al, "TableFuncElementList")
		if c := a.kid(al, "alias_clause"); c != 0 {
			o.alias, names = a.alias(c)
		} else if c := a.kid(al, "ColId"); c != 0 {
			o.alias = a.ident(c)
		}
	}
	var list []called
	if f := a.kid(ft, "func_expr_windowless"); f != 0 {
		list = a.called(s, f, defs)
	}
	for _, item := range a.list(a.kid(ft, "rowsfrom_list"), "rowsfrom_item") {
		list = append(list, a.called(s, a.kid(item, "func_expr_windowless"), a.find(a.kid(item, "opt_col_def_list"), "TableFuncElementList"))...)
	}
	if o.alias == "" {
		o.alias = list[0].name
	}
	if len(list) == 1 { // the only column of the only function is called as the alias
		list[0].name = o.alias
	}
	ordinality := !a.empty(a.kid(ft, "opt_ordinality"))
	if slices.ContainsFunc(list, func(f called) bool { return len(f.shapes) != 1 }) {
		o.columns = a.choice(list, names, ordinality)
		return o
	}
	for _, f := range list {
		for _, name := range f.shapes[0] {
			if name == only {
				name = f.name
			}
			o.columns = append(o.columns, column{name: name, computed: f.in, other: true})
		}
	}
	if ordinality {
		o.columns = append(o.columns, column{name: "ordinality", other: true})
	}
	o.columns = rename(o.columns, names)
	return o
}

// called is one function in FROM: what its columns can be called, and what went
// into it.
type called struct {
	name   string     // of its only column, where it has no other
	shapes [][]string // nil is a row of any type
	in     []source
}

// only is the only column of a function, which is called as its alias is.
const only = ""

// choice gives the columns where which functions run, and so what their columns
// are called, is the server's choice: a name that not all have there is not
// sure, and each column can be made of everything.
func (a *analyzer) choice(list []called, names []string, ordinality bool) (cols []column) {
	var in []source
	shapes := [][]string{nil}
	for _, f := range list {
		in = union(in, f.in)
		var next [][]string
		for _, before := range shapes {
			for _, shape := range f.shapes {
				next = append(next, append(slices.Clone(before), shape...))
				for i, name := range next[len(next)-1] {
					if name == only {
						next[len(next)-1][i] = f.name
					}
				}
			}
		}
		if shapes = next; len(shapes) > 64 {
			a.refuse("functions in FROM whose columns are the server's choice")
		}
	}
	for _, name := range names {
		cols = append(cols, column{name: name, computed: in, other: true})
	}
	for i := range shapes {
		if ordinality {
			shapes[i] = append(shapes[i], "ordinality")
		}
	}
	for _, shape := range shapes {
		for i, name := range shape {
			if i < len(names) || slices.ContainsFunc(cols[len(names):], func(c column) bool { return c.name == name }) {
				continue
			}
			cols = append(cols, column{name: name, computed: in, other: true, unsure: slices.ContainsFunc(shapes, func(s []string) bool { return i >= len(s) || s[i] != name })})
		}
	}
	return cols
}

// called takes one function in FROM. defs is the list that describes its columns
// where it does not itself.
func (a *analyzer) called(s *scope, f, defs int32) []called {
	call := a.t.Nodes[f].First
	if a.name(call) != "func_application" {
		a.refuse("a function of that form in FROM")
	}
	parts, _, _ := a.parts(a.kid(call, "func_name"))
	one := called{name: parts[len(parts)-1]}
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	before := a.snapshot()
	if len(parts) == 1 && parts[0] == "unnest" && len(args) > 1 && defs == 0 && a.kid(call, "VARIADIC") == 0 { // each argument is a call of its own
		a.candidates(call, parts, 1, nil)
		a.kids(call, func(c int32) { a.expr(s, c, abi.UseComputed) })
		one.in = a.since(before)
		list := slices.Repeat([]called{one}, len(args))
		for i := range list {
			list[i].shapes = a.unnested(s, parts, args[i])
		}
		return list
	}
	a.expr(s, f, abi.UseComputed)
	one.in = a.since(before)
	switch {
	case defs != 0:
		var shape []string
		for _, d := range a.list(defs, "TableFuncElement") {
			a.typeName(a.kid(d, "Typename"))
			shape = append(shape, a.ident(a.kid(d, "ColId")))
		}
		one.shapes = [][]string{shape}
	case len(parts) == 1 && parts[0] == "unnest" && len(args) == 1:
		one.shapes = a.unnested(s, parts, args[0])
	default:
		one.shapes = a.shapes(a.overloads(s, call, parts))
	}
	return []called{one}
}

// unnested gives the shapes of unnest: one column where its argument is an array
// of the server's own types, by its text or as a column is.
func (a *analyzer) unnested(s *scope, parts []string, arg int32) [][]string {
	leaf := a.through(arg)
	if a.namesRow(leaf) {
		return a.shapes(a.reached(parts))
	}
	if a.name(leaf) == "a_expr" && a.kid(leaf, "TYPECAST") != 0 {
		if b := a.kid(a.kid(leaf, "Typename"), "opt_array_bounds"); b != 0 && !a.empty(b) {
			return [][]string{{only}}
		}
	} else if a.name(leaf) == "columnref" {
		if names, star, plain := a.parts(leaf); !star && plain && len(names) < 4 && a.plainArray(a.lookup(s, leaf, names)) {
			return [][]string{{only}}
		}
	} else if a.kid(leaf, "array_expr") != 0 && a.find(leaf, "columnref") == 0 && a.find(leaf, "select_with_parens") == 0 && a.find(leaf, "row") == 0 && a.find(leaf, "func_expr") == 0 {
		return [][]string{{only}}
	}
	return a.shapes(a.reached(parts))
}

// namesRow says whether a type that is named in an expression can be a row's,
// whichever schema it is looked up in.
func (a *analyzer) namesRow(n int32) bool {
	if name := a.name(n); name == "GenericType" || name == "func_name" {
		to := a.t.Nodes[n].To
		if m := a.kid(n, "opt_type_modifiers"); m != 0 {
			to = a.t.Nodes[m].From
		}
		for ns := range a.c.Schema.Namespaces {
			t := a.c.Schema.TypeByName[schema.Name{Namespace: ns, Name: a.t.Tokens[to-1].Value}]
			for depth := 0; t != nil && depth < maxWithin; depth++ {
				switch {
				case t.Kind == 'c', t.Kind == 'p':
					return true
				case t.Kind == 'd':
					t = a.c.Schema.Types[t.Base]
				default:
					t = a.c.Schema.Types[a.elementOf(t)]
				}
			}
		}
	}
	found := false
	a.kids(n, func(c int32) { found = found || a.namesRow(c) })
	return found
}

// plainArray says whether a column is an array of one of the server's types that
// are no rows.
func (a *analyzer) plainArray(c column) bool {
	if len(c.copies) != 1 || len(c.computed) > 0 || c.other {
		return false
	}
	col := c.copies[0].relation.Column(c.copies[0].column)
	if col == nil || col.Type >= firstUser {
		return false
	}
	t := a.c.Schema.Types[col.Type]
	if t == nil || t.Category != 'A' {
		return false
	}
	e := a.c.Schema.Types[t.Element]
	return e != nil && e.Kind == 'b'
}

// shapes gives what the columns of one of these functions in FROM can be called.
func (a *analyzer) shapes(list []*schema.Function) (shapes [][]string) {
	for _, f := range list {
		var shape []string
		t := a.c.Schema.Types[f.Result]
		for t != nil && t.Kind == 'd' {
			t = a.c.Schema.Types[t.Base]
		}
		switch {
		case len(f.Out) > 0:
			for i, out := range f.Out {
				switch {
				case out != "":
				case len(f.Out) == 1:
					out = only
				default:
					out = "column" + itoa(i+1)
				}
				shape = append(shape, out)
			}
		case t != nil && t.Kind == 'c':
			r := a.c.Schema.Relations[t.Relation]
			if r == nil {
				a.refuse("%s in FROM, which returns a composite type", f.Name.Name)
			}
			for _, c := range r.Columns {
				shape = append(shape, c.Name)
			}
		case t != nil && t.Kind == 'p' && t.Category == 'P' && strings.HasPrefix(t.Name.Name, "any") && !madeTypes[t.Name.Name]: // it can be a row as well
			shapes = append(shapes, nil)
			shape = []string{only}
		default:
			shape = []string{only}
		}
		if !slices.ContainsFunc(shapes, func(s []string) bool { return slices.Equal(s, shape) }) {
			shapes = append(shapes, shape)
		}
	}
	if len(shapes) == 0 {
		shapes = [][]string{{only}}
	}
	return shapes
}

// tableExpr takes XMLTABLE and JSON_TABLE: each column is computed from all
// that goes in.
func (a *analyzer) tableExpr(s *scope, n int32) *origin {
	o := &origin{alias: a.name(n)}
	before := a.snapshot()
	a.expr(s, n, abi.UseComputed)
	in := a.since(before)
	var walk func(n int32)
	walk = func(n int32) {
		switch a.name(n) {
		case "xmltable_column_el", "json_table_column_definition":
			if c := a.kid(n, "ColId"); c != 0 {
				o.columns = append(o.columns, column{name: a.ident(c), computed: in, other: true})
				return
			}
		case "a_expr", "b_expr", "c_expr":
			return
		}
		a.kids(n, walk)
	}
	walk(n)
	return o
}

// tables are the productions of XMLTABLE and JSON_TABLE, of the constructors
// and queries of XML and JSON, and of IS JSON. They compute with what they are
// given: none reads a table, a file or an address.
var tables = set(`xmltable xmltable_column_list xmltable_column_el xmltable_column_option_list xmltable_column_option_el xml_namespace_list xml_namespace_el
	xmlexists_argument xml_passing_mech xml_attributes xml_attribute_list xml_attribute_el xml_root_version opt_xml_root_standalone xml_whitespace_option xml_indent_option
	json_table json_table_path_name_opt json_table_column_definition_list json_table_column_definition json_table_column_path_clause_opt path_opt
	json_passing_clause_opt json_arguments json_argument json_wrapper_behavior json_behavior json_behavior_type json_behavior_clause_opt json_on_error_clause_opt
	json_value_expr json_format_clause json_format_clause_opt json_quotes_clause_opt json_returning_clause_opt json_predicate_type_constraint
	json_key_uniqueness_constraint_opt json_name_and_value_list json_name_and_value json_object_constructor_null_clause_opt json_array_constructor_null_clause_opt
	json_value_expr_list json_aggregate_func json_array_aggregate_order_by_clause_opt name`)
