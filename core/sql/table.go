package sql

import (
	"github.com/taskgate/taskgate/abi"
)

// funcTable takes a function, or ROWS FROM several, in FROM.
func (a *analyzer) funcTable(s *scope, n int32) *origin {
	ft := a.kid(n, "func_table")
	o := &origin{}
	if l := a.kid(ft, "rowsfrom_list"); l != 0 {
		for _, item := range a.list(l, "rowsfrom_item") {
			o.columns = append(o.columns, a.called(s, a.kid(item, "func_expr_windowless"), a.find(a.kid(item, "opt_col_def_list"), "TableFuncElementList"), "")...)
			if o.alias == "" {
				o.alias = o.columns[0].name
			}
		}
	}
	var names []string
	defs, given := int32(0), ""
	if al := a.kid(n, "func_alias_clause"); !a.empty(al) {
		defs = a.find(al, "TableFuncElementList")
		if c := a.kid(al, "alias_clause"); c != 0 {
			given, names = a.alias(c)
		} else if c := a.kid(al, "ColId"); c != 0 {
			given = a.ident(c)
		}
	}
	if f := a.kid(ft, "func_expr_windowless"); f != 0 {
		o.columns = a.called(s, f, defs, given)
		o.alias, _ = a.figure(a.t.Nodes[f].First)
	}
	if given != "" {
		o.alias = given
	}
	if !a.empty(a.kid(ft, "opt_ordinality")) {
		o.columns = append(o.columns, column{name: "ordinality", other: true})
	}
	o.columns = rename(o.columns, names)
	return o
}

// called gives the columns of one function in FROM. defs is the list that
// describes them where the function does not, alias the name of its only one.
func (a *analyzer) called(s *scope, f, defs int32, alias string) (list []column) {
	call := a.kid(f, "func_application")
	if call == 0 {
		a.refuse("a function of that form in FROM")
	}
	parts, _, _ := a.parts(a.kid(call, "func_name"))
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	before := a.snapshot()
	if len(parts) == 1 && parts[0] == "unnest" && len(args) > 1 && a.kid(call, "VARIADIC") == 0 { // each argument is a column of its own
		a.candidates(call, parts, 1, nil)
		a.kids(call, func(c int32) {
			if a.name(c) != "func_name" {
				a.expr(s, c, abi.UseComputed)
			}
		})
		in := a.since(before)
		for range args {
			list = append(list, column{name: "unnest", computed: in, other: true})
		}
		return list
	}
	a.expr(s, f, abi.UseComputed)
	in := a.since(before)
	if defs != 0 {
		for _, d := range a.list(defs, "TableFuncElement") {
			a.typeName(a.kid(d, "Typename"))
			list = append(list, column{name: a.ident(a.kid(d, "ColId")), computed: in, other: true})
		}
		return list
	}
	var out []string
	for _, f := range a.reached(parts) {
		names := f.Out
		if f.System && f.Name.Name == "unnest" && len(names) > 1 && !a.searches(call) {
			continue // of a tsvector
		}
		if len(names) == 0 { // a row of a table, or of a type
			if t := a.c.Schema.Types[f.Result]; t != nil && a.c.Schema.Relations[t.Relation] != nil {
				for _, c := range a.c.Schema.Relations[t.Relation].Columns {
					names = append(names, c.Name)
				}
			}
		}
		if len(names) > len(out) {
			out = names
		}
	}
	if len(out) == 0 {
		if out = []string{alias}; alias == "" {
			out = parts[len(parts)-1:]
		}
	}
	for _, c := range out {
		list = append(list, column{name: c, computed: in, other: true})
	}
	return list
}

// searches says whether a call has to do with tsvectors, by its words.
func (a *analyzer) searches(call int32) bool {
	for i := a.t.Nodes[call].From; i < a.t.Nodes[call].To; i++ {
		for _, f := range a.c.Schema.FunctionsNamed[a.t.Tokens[i].Value] {
			if f.Result == tsvector {
				return true
			}
		}
		if a.t.Tokens[i].Value == "tsvector" {
			return true
		}
	}
	return false
}

// tsvector is the OID of the type.
const tsvector = 3614

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
