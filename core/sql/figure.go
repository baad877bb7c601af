package sql

import "strings"

// figure gives the name that the server gives to an output column without a
// label: that of the column, function or type behind it. sure is false where
// it is only the name of a type or a word, which gives way to a better one.
func (a *analyzer) figure(n int32) (name string, sure bool) {
	n = a.through(n)
	r := a.rule(n)
	switch a.name(n) {
	case "columnref":
		if names, star, _ := a.parts(n); !star {
			return names[len(names)-1], true
		}
	case "func_application":
		names, _, _ := a.parts(a.kid(n, "func_name"))
		return names[len(names)-1], true
	case "func_expr":
		return a.figure(a.t.Nodes[n].First)
	case "c_expr":
		i := a.kid(n, "opt_indirection")
		if i == 0 {
			i = a.kid(n, "indirection")
		}
		if name := a.field(i); name != "" {
			return name, true
		}
		switch {
		case a.kid(n, "a_expr") != 0:
			return a.figure(a.kid(n, "a_expr"))
		case r[1] == "EXISTS" || r[1] == "GROUPING":
			return strings.ToLower(r[1]), true
		case r[1] == "ARRAY":
			return "array", true
		case a.kid(n, "select_with_parens") != 0:
			return a.figure(a.kid(n, "select_with_parens"))
		}
	case "select_with_parens":
		return a.figureQuery(n)
	case "explicit_row", "implicit_row":
		return "row", true
	case "array_expr":
		return "array", true
	case "case_expr":
		if d := a.kid(a.kid(n, "case_default"), "a_expr"); d != 0 {
			if name, sure := a.figure(d); sure {
				return name, true
			}
		}
		return "case", false
	case "a_expr", "b_expr":
		switch {
		case len(r) == 4 && r[2] == "TYPECAST":
			return a.figureCast(a.t.Nodes[n].First, a.kid(n, "Typename"))
		case len(r) == 4 && r[2] == "COLLATE":
			return a.figure(a.t.Nodes[n].First)
		case len(r) > 4 && r[2] == "AT":
			return "timezone", true
		}
	case "AexprConst":
		switch {
		case a.kid(n, "func_name") != 0:
			names, _, _ := a.parts(a.kid(n, "func_name"))
			return names[len(names)-1], false
		case r[1] == "ConstTypename" || r[1] == "ConstInterval":
			return a.figureType(a.t.Nodes[n].First), false
		}
	case "func_expr_common_subexpr":
		switch word := strings.TrimSuffix(strings.ToLower(r[1]), "_p"); word {
		case "cast":
			return a.figureCast(a.kid(n, "a_expr"), a.kid(n, "Typename"))
		case "collation":
			return "pg_collation_for", true
		case "extract":
			if a.g.Major < 14 {
				return "date_part", true
			}
			return word, true
		case "trim":
			return map[string]string{"LEADING": "ltrim", "TRAILING": "rtrim"}[r[3]] + map[bool]string{true: "btrim"}[r[3] != "LEADING" && r[3] != "TRAILING"], true
		default:
			return word, true
		}
	case "json_aggregate_func":
		return strings.ToLower(r[1]), true
	}
	if a.t.Nodes[n].Rule == 0 { // a word that is a function of its own
		if word := strings.ToLower(a.token(n).Value); strings.HasPrefix(word, "current_") || strings.HasPrefix(word, "local") || strings.HasSuffix(word, "user") {
			return word, true
		}
		if kind := a.g.Names[a.t.Nodes[n].Sym]; a.g.Major < 15 && (kind == "TRUE_P" || kind == "FALSE_P") {
			return "bool", false
		}
	}
	return "?column?", false
}

// figureQuery names a scalar subquery as its only column.
func (a *analyzer) figureQuery(n int32) (string, bool) {
	s := a.find(n, "simple_select")
	if s == 0 || a.rule(s)[1] != "SELECT" {
		return "?column?", false
	}
	list := a.kid(s, "target_list")
	if o := a.kid(s, "opt_target_list"); o != 0 {
		list = a.kid(o, "target_list")
	}
	els := a.list(list, "target_el")
	if len(els) != 1 || a.name(a.t.Nodes[els[0]].First) != "a_expr" {
		return "?column?", false
	}
	if l := a.label(els[0]); l != "" {
		return l, true
	}
	return a.figure(a.t.Nodes[els[0]].First)
}

// label gives what AS says, with or without the word.
func (a *analyzer) label(el int32) string {
	for l := a.t.Nodes[a.t.Nodes[el].First].Next; l != 0; l = a.t.Nodes[l].Next { // behind the expression
		if k := a.name(l); k == "ColLabel" || k == "BareColLabel" {
			return a.ident(l)
		}
	}
	return ""
}

func (a *analyzer) figureCast(e, typ int32) (string, bool) {
	if name, sure := a.figure(e); sure {
		return name, true
	}
	return a.figureType(typ), false
}

// typeWords are the types that the grammar has words of its own for.
var typeWords = map[string]string{"int": "int4", "integer": "int4", "smallint": "int2", "bigint": "int8", "real": "float4", "double": "float8", "float": "float8",
	"dec": "numeric", "decimal": "numeric", "boolean": "bool", "char": "bpchar", "character": "bpchar", "national": "bpchar", "nchar": "bpchar"}

func (a *analyzer) figureType(n int32) string {
	if g := a.find(n, "GenericType"); g != 0 {
		if l := a.list(a.kid(g, "attrs"), "attr_name"); len(l) > 0 {
			return a.ident(l[len(l)-1])
		}
		return a.ident(g)
	}
	word := strings.ToLower(a.token(n).Value)
	switch text := " " + strings.ToLower(a.text(n)) + " "; {
	case strings.Contains(text, " varying "):
		return map[string]string{"bit": "varbit"}[word] + map[bool]string{true: "varchar"}[word != "bit"]
	case strings.Contains(text, " with time zone "):
		return word + "tz"
	}
	if name := typeWords[word]; name != "" {
		return name
	}
	return word
}

// field gives the last name of an indirection, empty where it ends otherwise.
func (a *analyzer) field(n int32) (name string) {
	if n == 0 {
		return ""
	}
	for _, el := range a.list(n, "indirection_el") {
		if at := a.kid(el, "attr_name"); at != 0 {
			name = a.ident(at)
		}
	}
	return name
}
