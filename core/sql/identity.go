package sql

import (
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// kin is a kind of object that has a type of its own for its identity.
type kin struct {
	catalog string                      // where it stands
	find    string                      // gives it by name, or NULL; without it only OIDs are read
	strip   string                      // what a name is given without before
	seen    func(*sight, string) string // whether it may be seen
}

var identities = map[string]kin{
	"regclass":     {catalog: "pg_class", find: "to_regclass", seen: (*sight).relation},
	"regtype":      {catalog: "pg_type", find: "to_regtype", strip: `\([^)]*\)`, seen: (*sight).typ}, // a modifier is an error where the type is there alone
	"regproc":      {catalog: "pg_proc", find: "to_regproc", seen: (*sight).function},
	"regprocedure": {catalog: "pg_proc", seen: (*sight).function},
	"regoper":      {catalog: "pg_operator", seen: func(_ *sight, x string) string { return x + below }},
	"regoperator":  {catalog: "pg_operator", seen: func(_ *sight, x string) string { return x + below }},
	"regnamespace": {catalog: "pg_namespace", find: "to_regnamespace", seen: (*sight).namespace},
}

// lookedUp is what stands before and behind an expression, to make of an OID or
// name the OID of what may be seen, or its name as text.
func (v *sight) lookedUp(typ string, shown bool) (before, behind string) {
	k := identities[typ]
	out, as, which := `"k"."oid"`, "oid", `"x"."o"`
	if shown {
		out = `CAST(CAST("k"."oid" AS "pg_catalog"."` + typ + `") AS "pg_catalog"."text")`
	}
	if k.find != "" {
		name := which
		if k.strip != "" {
			name = `"pg_catalog"."regexp_replace"(` + which + `, '` + k.strip + `', '', 'g')`
		}
		as, which = "text", `CASE WHEN `+which+` OPERATOR("pg_catalog".~) '^[0-9]+$' THEN CAST(CAST(`+which+` AS "pg_catalog"."int8") AS "pg_catalog"."oid") ELSE CAST("pg_catalog"."`+k.find+`"(`+name+`) AS "pg_catalog"."oid") END`
	}
	return `(SELECT ` + out + ` FROM (SELECT CAST((`, `) AS "pg_catalog"."` + as + `") AS "o" OFFSET 0) "x", "pg_catalog"."` + k.catalog + `" "k" WHERE "k"."oid"` + is + which + ` AND ` + k.seen(v, `"k"."oid"`) + `)`
}

// asks are the functions that take an object's identity, the place of it among
// their arguments (from the end where below 0), and of which kind it is. Shown is
// one that takes a name.
var asks = map[string]struct {
	at    int
	typ   string
	shown bool
}{
	"format_type": {0, "regtype", false}, "has_table_privilege": {-2, "regclass", false}, "has_any_column_privilege": {-2, "regclass", false},
	"has_sequence_privilege": {-2, "regclass", false}, "has_column_privilege": {-3, "regclass", false}, "has_type_privilege": {-2, "regtype", false},
	"has_function_privilege": {-2, "regprocedure", false}, "has_schema_privilege": {-2, "regnamespace", false}, "pg_get_serial_sequence": {0, "regclass", true},
	"row_security_active": {0, "regclass", false}, "pg_relation_is_updatable": {0, "regclass", false}, "pg_column_is_updatable": {0, "regclass", false},
	"pg_relation_is_publishable": {0, "regclass", false}, "pg_get_partkeydef": {0, "regclass", false}, "pg_table_is_visible": {0, "regclass", false},
	"pg_type_is_visible": {0, "regtype", false}, "pg_function_is_visible": {0, "regprocedure", false}, "pg_get_function_result": {0, "regprocedure", false},
	"pg_get_function_identity_arguments": {0, "regprocedure", false}, "pg_partition_ancestors": {0, "regclass", false}, "pg_partition_root": {0, "regclass", false},
}

// closed are functions of the server's own that would tell of others and that no
// listing can hold.
var closed = set(`oidvectortypes satisfies_hash_partition _pg_index_position jsonb_populate_record jsonb_populate_recordset json_populate_record json_populate_recordset`)

// identity says whether a type is one whose values are names of objects, or is made
// of such.
func identity(s *schema.Schema, oid schema.OID, depth int) bool {
	t := s.Types[oid]
	if t == nil || depth > 8 {
		return oid != 0
	}
	if _, ok := identities[t.Name.Name]; ok && t.Name.Namespace == "pg_catalog" {
		return true
	}
	switch r := s.Relations[t.Relation]; {
	case t.Kind == 'd':
		return identity(s, t.Base, depth+1)
	case t.Kind == 'b' && t.Element != 0:
		return identity(s, t.Element, depth+1)
	case t.Kind == 'c' && r != nil:
		return slices.ContainsFunc(r.Columns, func(c schema.Column) bool { return identity(s, c.Type, depth+1) })
	}
	return false
}

// identified says whether a column of a relation is of such a type. Of a system
// relation those that name functions are read: they are the server's own.
func (a *analyzer) identified(s source) bool {
	if a.c.Listed == nil {
		return false
	}
	c := s.relation.Column(s.column)
	if c == nil || !identity(a.c.Schema, c.Type, 0) {
		return false
	}
	t := a.c.Schema.Types[c.Type]
	return !s.relation.System || t == nil || t.Name.Name != "regproc"
}

// stranger says whether a column names a relation, by its OID, that may be another.
func (a *analyzer) stranger(o *origin, name string) bool {
	v := a.seeing()
	if v == nil || o.relation == nil || name != "tableoid" {
		return false
	}
	var other func(r *schema.Relation, depth int) bool
	other = func(r *schema.Relation, depth int) bool {
		return depth > maxViews || slices.ContainsFunc(r.Children, func(oid schema.OID) bool {
			k := a.c.Schema.Relations[oid]
			return k == nil || !v.relations[oid] || other(k, depth+1)
		})
	}
	return other(o.relation, 0)
}

// castTo gives the type of that kind that a Typename or func_name is, or an array
// of which it is, or nothing.
func (a *analyzer) castTo(n int32) (typ string, array bool) {
	parts := a.spelling(n)
	if len(parts) > 2 && parts[len(parts)-2] == "[" {
		parts, array = parts[:len(parts)-2], true
	}
	if len(parts) == 2 && parts[0] == "pg_catalog" {
		parts = parts[1:]
	}
	if len(parts) != 1 {
		return "", false
	}
	if _, ok := identities[parts[0]]; ok {
		return parts[0], array
	}
	return "", false
}

func (a *analyzer) spelling(n int32) (parts []string) {
	for i := a.t.Nodes[n].From; i < a.t.Nodes[n].To; i++ {
		if v := a.t.Tokens[i].Value; v != "." {
			if v == "" {
				v = a.t.Text[a.t.Tokens[i].Start:a.t.Tokens[i].End]
			}
			parts = append(parts, v)
		}
	}
	return parts
}

// procedure gives the function of the server's own that a constant names with its
// arguments, by names of types that stand in the catalog: 0 where it is none.
func (a *analyzer) procedure(n int32) schema.OID {
	p, ok := a.constant(n)
	name, rest, call := strings.Cut(string(p.Value), "(")
	if args, whole := strings.CutSuffix(rest, ")"); ok && call && whole {
		for _, f := range a.c.Schema.FunctionsNamed[strings.TrimPrefix(name, "pg_catalog.")] {
			var types []string
			for _, oid := range f.Args {
				if t := a.c.Schema.Types[oid]; t != nil {
					types = append(types, t.Name.Name)
				}
			}
			given := strings.Split(args, ",")
			for i, g := range given {
				if given[i] = strings.TrimSpace(g); typeWords[given[i]] != "" {
					given[i] = typeWords[given[i]]
				}
			}
			if f.System && slices.Equal(types, given) {
				return f.OID
			}
		}
	}
	return 0
}

// textual says whether a Typename is one that prints what is cast to it.
func (a *analyzer) textual(n int32) bool {
	parts := a.spelling(n)
	if l := len(parts); l > 2 && parts[l-2] == "[" {
		parts = parts[:l-2]
	}
	last := parts[len(parts)-1]
	return last == "text" || last == "name" || last == "varchar"
}

// cast forwards a cast to an object's identity as a look among what may be seen.
func (a *analyzer) cast(s *scope, n int32, u abi.Use) bool {
	v := a.seeing()
	if v == nil {
		return false
	}
	node := a.t.Nodes[n]
	var what, typ int32
	switch name := a.name(n); {
	case (name == "a_expr" || name == "b_expr") && a.kid(n, "TYPECAST") != 0:
		what, typ = node.First, a.kid(n, "Typename")
	case name == "func_expr_common_subexpr" && a.rule(n)[1] == "CAST":
		what, typ = a.kid(n, "a_expr"), a.kid(n, "Typename")
	case name == "AexprConst" && a.kid(n, "func_name") != 0 && len(a.rule(n)) == 3:
		what, typ = a.kid(n, "Sconst"), a.kid(n, "func_name")
	default:
		return false
	}
	to, array := a.castTo(typ)
	if to == "" {
		if a.textual(typ) {
			a.prints(what)
		}
		return false
	}
	before, behind := v.lookedUp(to, a.printing[n])
	switch oid := a.procedure(what); {
	case array && a.printing[n]:
		before = `(SELECT CASE WHEN "a"."v" IS NOT NULL THEN ARRAY(SELECT ` + before + `"e"."o"` + behind + ` FROM "pg_catalog"."unnest"("a"."v") WITH ORDINALITY "e" ("o", "n") ORDER BY "e"."n") END FROM (SELECT CAST((`
		behind = `) AS "pg_catalog"."oid"[]) AS "v" OFFSET 0) "a")`
	case array:
		before, behind = `CAST((`, `) AS "pg_catalog"."oid"[])`
	case to == "regprocedure" && oid != 0:
		a.edits = append(a.edits, edit{node.From, node.To, before + "'" + strconv.FormatUint(uint64(oid), 10) + "'" + behind})
		return true
	}
	a.edits = append(a.edits, edit{node.From, a.t.Nodes[what].From, before})
	a.expr(s, what, u)
	a.edits = append(a.edits, edit{a.t.Nodes[what].To, node.To, behind})
	return true
}

// prints notes that what an expression gives is printed: its name is, not its OID.
func (a *analyzer) prints(n int32) {
	if a.printing == nil {
		a.printing = map[int32]bool{}
	}
	for {
		a.printing[n] = true
		first := a.t.Nodes[n].First
		switch {
		case first == 0 || a.name(n) == "columnref":
			return
		case a.t.Nodes[first].Next == 0:
			n = first
		case a.name(n) == "c_expr" && len(a.rule(n)) == 5 && a.rule(n)[1] == "'('" && a.empty(a.kid(n, "opt_indirection")):
			n = a.kid(n, "a_expr")
		case a.name(n) == "func_expr_common_subexpr" && a.rule(n)[1] == "COALESCE":
			for _, e := range a.list(a.kid(n, "expr_list"), "a_expr") {
				a.prints(e)
			}
			return
		default:
			return
		}
	}
}

// printed notes what a query of the text itself prints, and sorts or groups by.
func (a *analyzer) printed(n int32) {
	if a.seeing() == nil {
		return
	}
	switch a.name(n) {
	case "a_expr":
		a.prints(n)
	case "SelectStmt", "select_no_parens", "select_with_parens", "select_clause", "simple_select", "opt_target_list", "target_list", "target_el",
		"opt_sort_clause", "sort_clause", "sortby_list", "sortby", "group_clause", "group_by_list", "group_by_item", "distinct_clause", "expr_list":
		a.kids(n, a.printed)
	}
}

// asked forwards a call that takes or gives an object's identity. ok is false
// where it is none.
func (a *analyzer) asked(n int32, parts []string, args []int32) bool {
	v := a.seeing()
	name := parts[len(parts)-1]
	if v == nil || len(parts) == 2 && parts[0] != "pg_catalog" {
		return false
	}
	node := a.t.Nodes[n]
	simple := func() {
		if a.kid(n, "VARIADIC") != 0 || a.kid(n, "DISTINCT") != 0 || a.find(n, "COLON_EQUALS") != 0 || a.find(n, "EQUALS_GREATER") != 0 {
			a.refuse("%s in that form", name)
		}
	}
	for typ, k := range identities {
		if name != k.find || k.find == "" || len(args) != 1 {
			continue
		}
		simple()
		before, behind := v.lookedUp(typ, a.printing[n])
		a.edits = append(a.edits, edit{node.From, a.t.Nodes[args[0]].From, before}, edit{a.t.Nodes[args[0]].To, node.To, behind})
		return true
	}
	ask, ok := asks[name]
	if ok {
		at := ask.at
		if at < 0 {
			at += len(args)
		}
		if at < 0 || at >= len(args) {
			return false // there is no such function
		}
		simple()
		before, behind := v.lookedUp(ask.typ, ask.shown)
		arg := a.t.Nodes[args[at]]
		from, to := arg.From, arg.To
		switch name {
		case "pg_partition_ancestors", "pg_partition_root": // which give relations: others, it may be
			from, to = node.From, node.To
			before = `(SELECT "z"."z" FROM (SELECT CAST("pg_catalog"."` + name + `"(` + before
			behind += `) AS "pg_catalog"."oid") AS "z") "z" WHERE ` + v.relation(`"z"."z"`) + `)`
			if name == "pg_partition_ancestors" {
				before, behind = `"pg_catalog"."unnest"(ARRAY`+before, behind+`)`
			}
		}
		a.edits = append(a.edits, edit{from, arg.From, before}, edit{arg.To, to, behind})
		return true
	}
	if name == "pg_typeof" && len(args) == 1 {
		simple()
		arg := a.t.Nodes[args[0]]
		a.edits = append(a.edits, edit{node.From, arg.From, `CAST("pg_catalog"."pg_typeof"(`}, edit{arg.To, node.To, `) AS "pg_catalog"."text")`})
		return true
	}
	return false
}

// untellable refuses a call of a function of the server's own that takes or gives
// an object's identity otherwise.
func (a *analyzer) untellable(f *schema.Function) {
	if a.seeing() == nil || f.OID >= firstUser {
		return
	}
	all := slices.Concat(f.Args, f.OutTypes, []schema.OID{f.Result})
	if closed[f.Name.Name] || slices.ContainsFunc(all, func(t schema.OID) bool { return identity(a.c.Schema, t, 0) }) {
		a.refuse("%s, which can tell of what this task does not list", f.Name.Name)
	}
}
