package sql

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// plain are the productions of an expression that mean nothing but their
// parts. What is neither here nor handled by expr is refused.
var plain = set(`a_expr b_expr c_expr func_expr func_expr_windowless func_expr_common_subexpr func_arg_list func_arg_list_opt func_arg_expr
	param_name type_function_name type_func_name_keyword AexprConst Iconst Sconst I_or_F_const expr_list array_expr array_expr_list case_expr case_arg when_clause_list when_clause case_default
	in_expr row explicit_row implicit_row filter_clause within_group_clause over_clause window_specification opt_existing_window_name
	opt_partition_clause opt_sort_clause sort_clause sortby_list sortby opt_asc_desc opt_nulls_order opt_frame_clause frame_extent frame_bound
	opt_window_exclusion_clause window_clause window_definition_list window_definition extract_list extract_arg overlay_list position_list
	substr_list trim_list sub_type opt_asymmetric opt_slice_bound ColId ColLabel opt_interval interval_second select_limit opt_select_limit
	limit_clause offset_clause select_limit_value select_offset_value select_fetch_first_value first_or_next row_or_rows
	group_by_item group_by_list empty_grouping_set cube_clause rollup_clause grouping_sets_clause unreserved_keyword unicode_normal_form
	opt_existing_window_name ConstInterval document_or_content`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// symbols are what the analysis knows of a grammar's symbols by their numbers.
type symbols struct {
	briefs                                           []brief
	harmless                                         []bool // those in plain or tables: they mean nothing but their parts
	operator                                         []bool // terminals that stand for operators
	columnref, dot, star, colonEquals, equalsGreater parse.Symbol
	name                                             []bool // what is a name of one part or more: parts reads them as they stand
}

func symbolsOf(g *parse.Grammar) *symbols {
	if known, ok := symbolsIn.Load(g); ok {
		return known.(*symbols)
	}
	s := &symbols{briefs: make([]brief, len(g.Names)), harmless: make([]bool, len(g.Names)), operator: make([]bool, len(g.Names)), name: make([]bool, len(g.Names))}
	for i, name := range g.Names {
		s.briefs[i] = briefOf(name)
		s.harmless[i], s.operator[i] = plain[name] || tables[name], operatorTokens[name]
		s.name[i] = name == "columnref" || name == "func_name" || name == "qualified_name"
	}
	s.columnref, _ = g.Symbol("columnref")
	s.star, _ = g.Symbol("'*'")
	s.dot, _ = g.Symbol("'.'")
	s.colonEquals, _ = g.Symbol("COLON_EQUALS")
	s.equalsGreater, _ = g.Symbol("EQUALS_GREATER")
	known, _ := symbolsIn.LoadOrStore(g, s)
	return known.(*symbols)
}

var symbolsIn sync.Map // by grammar

// expr marks everything that an expression reads.
func (a *analyzer) expr(s *scope, n int32, u abi.Use) {
	node := &a.t.Nodes[n]
	for a.symbols.harmless[node.Sym] && node.First != 0 && a.t.Nodes[node.First].Next == 0 { // its only part is all that it means
		n = node.First
		node = &a.t.Nodes[n]
	}
	if node.Rule == 0 {
		if a.symbols.operator[node.Sym] {
			a.operatorToken(a.g.Names[node.Sym], a.token(n).Value)
		}
		return
	}
	if a.cast(s, n, u) {
		return
	}
	switch name := a.name(n); name {
	case "columnref":
		a.use(a.reference(s, n), u)
		return
	case "select_with_parens", "select_no_parens":
		for _, c := range a.query(s, n) {
			a.use(c, max(u, abi.UseComputed))
		}
		return
	case "func_expr":
		if w := a.kid(n, "within_group_clause"); w != 0 && !a.empty(w) { // its arguments too are the function's
			a.within = len(a.list(a.find(w, "sortby_list"), "sortby"))
		}
	case "func_application":
		within := a.within
		if a.within = 0; a.function(s, n, within) {
			return
		}
	case "Typename", "SimpleTypename", "ConstTypename", "Numeric", "ConstDatetime", "Character", "Bit", "ConstBit", "ConstCharacter":
		a.typeName(n)
		return
	case "any_name": // a collation only orders: which one a path leads to is no matter
		return
	case "func_name":
		return // judged with its arguments
	case "c_expr":
		if a.fielded(n) {
			a.use(a.composite(s, n), u)
			return
		}
	case "opt_indirection", "indirection": // elements of arrays
		for _, el := range a.list(n, "indirection_el") {
			a.kids(el, func(c int32) { a.expr(s, c, u) })
		}
		return
	case "qual_Op", "qual_all_Op", "all_Op", "subquery_Op", "MathOp":
		a.operators(n)
		return
	case "func_expr_common_subexpr":
		if a.rule(n)[1] == "TREAT" {
			a.refuse("TREAT")
		}
	case "AexprConst":
		if f := a.kid(n, "func_name"); f != 0 { // type 'constant'
			a.typeOf(f, a.t.Nodes[f].From, a.t.Nodes[f].To)
		}
	case "opt_sort_clause", "sort_clause":
	default:
		if !a.symbols.harmless[node.Sym] {
			a.refuse("%s in an expression", name)
		}
	}
	for c := node.First; c != 0; c = a.t.Nodes[c].Next {
		a.expr(s, c, u)
	}
}

// reference gives the column behind a columnref, whole rows included.
func (a *analyzer) reference(s *scope, n int32) column {
	names, star, plain := a.parts(n)
	var subscripts []source
	if !plain {
		before := a.snapshot()
		a.kids(n, func(c int32) {
			if a.name(c) == "indirection" {
				for _, el := range a.list(c, "indirection_el") {
					a.kids(el, func(e int32) {
						if a.name(e) == "a_expr" || a.name(e) == "opt_slice_bound" {
							a.expr(s, e, abi.UseComputed)
						}
					})
				}
			}
		})
		subscripts = a.since(before)
	}
	if star {
		return a.wholeRow(a.originOf(s, n, names))
	}
	if len(names) > 3 {
		a.refuse("a column name of more than three parts")
	}
	c := a.lookup(s, n, names)
	c.unsure, c.apart = false, everyStar
	if null, ok := a.nulledColumn(s, n, names, c); ok {
		return null
	}
	if !plain { // an element of an array is computed
		c.computed, c.copies, c.other = union(union(c.computed, c.copies), subscripts), nil, true
	}
	return c
}

// value gives what an expression is made of: a bare column is a copy, all else
// is computed.
func (a *analyzer) value(s *scope, n int32) column {
	leaf := a.through(n)
	switch a.name(leaf) {
	case "columnref":
		return a.reference(s, leaf)
	case "c_expr": // a column or subquery in parentheses
		if a.fielded(leaf) {
			return a.composite(s, leaf)
		}
		if in := a.kid(leaf, "a_expr"); in != 0 && len(a.rule(leaf)) == 5 && a.empty(a.kid(leaf, "opt_indirection")) {
			return a.value(s, in)
		}
	case "select_with_parens":
		cols := a.query(s, leaf)
		if len(cols) != 1 {
			a.fail("42601", leaf, "subquery must return only one column")
		}
		return cols[0]
	}
	// What it reads is collected under the marks of the expression itself.
	before := a.snapshot()
	a.expr(s, n, abi.UseComputed)
	c := column{other: true, computed: a.since(before)}
	if p, ok := a.constant(n); ok && p.Null {
		c.other = false
	}
	if call := a.kid(leaf, "func_application"); call != 0 {
		c.fields = a.outputsOf(call, c.computed)
	} else if a.name(leaf) == "func_application" {
		c.fields = a.outputsOf(leaf, c.computed)
	}
	return c
}

// snapshot and since find which table columns an expression has read, for its
// lineage. Everything that it touched counts, read before or not.
func (a *analyzer) snapshot() *few[source] {
	old := a.trace
	if n := len(a.traces); n > 0 {
		a.trace, a.traces = a.traces[n-1], a.traces[:n-1]
	} else {
		a.trace = new(few[source])
	}
	return old
}

func (a *analyzer) since(old *few[source]) []source {
	list := a.sources.take(len(a.trace.list))
	copy(list, a.trace.list)
	if old != nil {
		for _, s := range list {
			old.add(s)
		}
	}
	a.trace.empty()
	a.traces = append(a.traces, a.trace)
	a.trace = old
	slices.SortFunc(list, func(x, y source) int {
		if x.relation == y.relation && x.via == "" && y.via == "" {
			return strings.Compare(x.column, y.column)
		}
		return strings.Compare(x.relation.Name.Namespace+"."+x.relation.Name.Name+"."+x.column+x.via, y.relation.Name.Namespace+"."+y.relation.Name.Name+"."+y.column+y.via)
	})
	return list
}

// firstUser is the first OID that the server gives to what users make.
const firstUser = 16384

// callCost is what a call costs to read, in tokens: all functions of its name
// are looked at, more than once.
const callCost = 250

// function judges a call by all functions that it could be. It says whether NULL is
// put in its place, so that its arguments are never read.
func (a *analyzer) function(s *scope, n int32, within int) bool {
	a.spend(callCost)
	f := a.kid(n, "func_name")
	parts, star, ok := a.parts(f)
	if star || !ok || len(parts) > 2 {
		a.refuse("a function name of that form")
	}
	if a.nulledCall(n, parts) {
		return true
	}
	given := a.list(a.kid(n, "func_arg_list"), "func_arg_expr")
	args := len(given) + within
	if a.kid(n, "VARIADIC") != 0 || slices.ContainsFunc(given, a.byItsName) {
		args = -1 // an array of them, or by name: every number of arguments counts
	}
	accept := a.settingCall(s, n, parts)
	if a.asked(n, parts, given) {
		accept = func(f *schema.Function) bool {
			return f.System && f.Name.Name == parts[len(parts)-1] && (a.tells(f) || a.accepts(f))
		}
	}
	if a.namesOnly(n, parts) {
		accept = func(f *schema.Function) bool { return f.System && f.Name.Name == parts[len(parts)-1] }
	}
	if a.via == "default" || a.defaulting { // the next value of a sequence, as a default asks for it, is part of the insert
		accept = func(f *schema.Function) bool { return f.System && f.Name.Name == "nextval" }
	}
	a.candidates(f, parts, args, accept)
	return false
}

// byItsName says whether an argument is given as name => value.
func (a *analyzer) byItsName(arg int32) bool {
	second := a.t.Nodes[a.t.Nodes[arg].First].Next
	return second != 0 && (a.t.Nodes[second].Sym == a.symbols.colonEquals || a.t.Nodes[second].Sym == a.symbols.equalsGreater)
}

// candidates adds an operation for each function of that name that is not
// known to be harmless. args is the number of arguments, -1 for any.
func (a *analyzer) candidates(n int32, parts []string, args int, accept func(*schema.Function) bool) {
	name := parts[len(parts)-1]
	found, exact, cast := false, false, false
	reached := func(ns string) bool { return len(parts) == 2 && ns == parts[0] || len(parts) == 1 && a.searched(ns) }
	if args == 1 || args < 0 { // f(x) is a cast as well, where f is a type
		schemas := a.path
		if len(parts) == 2 {
			schemas = parts[:1]
		} else if a.anywhere {
			schemas = slices.Collect(maps.Keys(a.c.Schema.Namespaces))
		}
		for _, ns := range schemas {
			if t := a.c.Schema.TypeByName[schema.Name{Namespace: ns, Name: name}]; t != nil && ns != "pg_catalog" && t.Kind != 'c' {
				if a.typeByName(t.Name) == nil && !slices.ContainsFunc(a.c.Schema.FunctionsNamed[name], func(f *schema.Function) bool { return reached(f.Name.Namespace) && a.callable(f) }) {
					continue // it is to the task as one that is not there
				}
				if a.typeByName(t.Name) == nil || !a.plainType(t.OID) || a.rowsOf(t.OID) || a.seeing() != nil && identity(a.c.Schema, t.OID, 0) {
					a.refuse("%s, which is a type that users have made", name)
				}
				a.casts(t.OID)
				a.checks(t.OID)
				cast = true
			}
		}
	}
	for _, f := range a.c.Schema.FunctionsNamed[name] {
		if !reached(f.Name.Namespace) || !a.callable(f) {
			continue
		}
		found = true
		if args >= 0 && f.Variadic == 0 && (args > len(f.Args) || args < len(f.Args)-f.Defaults) {
			continue
		}
		exact = true
		if accept != nil && accept(f) {
			continue
		}
		if a.accepts(f) || a.c.Introspect && a.tells(f) {
			a.untellable(f)
			continue
		}
		a.other(abi.Operation{Verb: "call", Kind: abi.KindFunction, Object: f.Name.Parts(), Via: a.via, Effect: abi.EffectWrite, Value: f.SourceHash})
	}
	if !found || !exact {
		if cast || a.typeNamed(parts) { // a cast in the form of a call
			return
		}
		a.fail("42883", n, "function %s does not exist", strings.Join(parts, "."))
	}
}

// searched says whether an unqualified function or operator can be that
// schema's.
func (a *analyzer) searched(namespace string) bool {
	return namespace == "pg_catalog" || a.anywhere || slices.Contains(a.path, namespace)
}

func (a *analyzer) typeNamed(parts []string) bool {
	if len(parts) != 1 {
		return false
	}
	t := a.c.Schema.TypeByName[schema.Name{Namespace: "pg_catalog", Name: parts[0]}]
	if t != nil && a.seeing() != nil && identity(a.c.Schema, t.OID, 0) {
		a.refuse("a call of %s, which is a cast: write it as one", parts[0])
	}
	return t != nil
}

// operators judges the operators that a qual_Op and its like name.
func (a *analyzer) operators(n int32) {
	if q := a.find(n, "any_operator"); q != 0 && a.find(n, "OPERATOR") != 0 {
		id, last := a.kid(q, "ColId"), a.kid(q, "any_operator")
		if id == 0 || a.kid(last, "ColId") != 0 {
			a.refuse("an operator that is not named by its schema")
		}
		for _, o := range a.c.Schema.OperatorsNamed[a.token(last).Value] {
			if o.Name.Namespace == a.ident(id) {
				a.judge(o)
			}
		}
		return
	}
	for i := a.t.Nodes[n].From; i < a.t.Nodes[n].To; i++ { // NOT LIKE is two
		a.operatorToken(a.g.Names[a.t.Tokens[i].Kind], a.t.Tokens[i].Value)
	}
}

// operatorTokens are the terminals that operatorToken knows.
var operatorTokens = set(`Op '+' '-' '*' '/' '%' '^' '<' '>' '=' LESS_EQUALS GREATER_EQUALS NOT_EQUALS LIKE ILIKE SIMILAR BETWEEN IN_P DISTINCT CASE NULLIF`)

// operatorToken judges the operator behind a token of the grammar.
func (a *analyzer) operatorToken(kind, value string) {
	switch kind {
	case "Op":
		a.operator(value)
	case "'+'", "'-'", "'*'", "'/'", "'%'", "'^'", "'<'", "'>'", "'='":
		a.operator(kind[1:2])
	case "LESS_EQUALS", "GREATER_EQUALS":
		a.operator(value)
	case "NOT_EQUALS":
		a.operator("<>")
	case "LIKE":
		a.operator("~~")
		a.operator("!~~")
	case "ILIKE":
		a.operator("~~*")
		a.operator("!~~*")
	case "SIMILAR":
		a.operator("~")
		a.operator("!~")
	case "BETWEEN":
		for _, o := range []string{"<=", ">=", "<", ">"} { // the last two where it is NOT
			a.operator(o)
		}
	case "IN_P", "DISTINCT", "CASE", "NULLIF":
		a.operator("=")
		a.operator("<>")
	}
}

// operator refuses a symbol for which users have made an operator that the
// path reaches and that could be meant: which one runs is the server's choice.
func (a *analyzer) operator(symbol string) {
	for _, o := range a.c.Schema.OperatorsNamed[symbol] {
		if a.searched(o.Name.Namespace) && (a.occurs(o.Left) || a.occurs(o.Right)) {
			a.judge(o)
		}
	}
}

func (a *analyzer) judge(o *schema.Operator) {
	if f := a.c.Schema.Functions[o.Function]; o.Name.Namespace != "pg_catalog" && (f == nil || !a.accepts(f)) {
		a.other(abi.Operation{Verb: "call", Kind: abi.KindFunction, Object: o.Name.Parts(), Via: a.via, Effect: abi.EffectWrite})
	}
}

// occurs says whether an expression that passes can have a value of that type: of
// those that users make, what texts may compute with.
func (a *analyzer) occurs(oid schema.OID) bool {
	return oid != 0 && (a.c.Schema.Types[oid] == nil || a.plainType(oid))
}

// typeName judges a type: the server's own, or one whose functions are known.
func (a *analyzer) typeName(n int32) {
	g := a.find(n, "GenericType")
	if g == 0 {
		return // one that has its own words in the grammar
	}
	if m := a.kid(g, "opt_type_modifiers"); m != 0 && !a.empty(m) {
		a.kids(m, func(c int32) {
			if a.name(c) == "expr_list" {
				a.expr(&scope{}, c, abi.UseComputed)
			}
		})
	}
	to := a.t.Nodes[g].To
	if m := a.kid(g, "opt_type_modifiers"); m != 0 {
		to = a.t.Nodes[m].From
	}
	a.typeOf(g, a.t.Nodes[g].From, to)
}

func (a *analyzer) typeOf(n, from, to int32) {
	t := a.typeFound(from, to)
	if t != nil && a.seeing() != nil && identity(a.c.Schema, t.OID, 0) {
		a.refuse("the type %s other than in a cast", t.Name.Name)
	}
	if t == nil {
		a.fail("42704", n, "type %q does not exist", strings.Join(a.typeParts(from, to), "."))
	}
	switch {
	case t.Name.Namespace == "pg_catalog", t.Name.Namespace == "information_schema" && t.OID < firstUser:
	case a.plainType(t.OID) && (a.via != "" || !a.rowsOf(t.OID)), a.via == "default":
		if a.casts(t.OID); a.via != "default" { // whose conditions are a written value's
			a.checks(t.OID)
		}
		if a.via == "" {
			a.edits = append(a.edits, edit{from, to, t.Name.Quoted()})
		}
	default:
		a.refuse("the type %s is made by users, and its functions could run anything", t.Name.Name)
	}
}

// typeParts gives the names that a type is written with.
func (a *analyzer) typeParts(from, to int32) (parts []string) {
	for i := from; i < to; i++ {
		if v := a.t.Tokens[i].Value; v != "." {
			parts = append(parts, v)
		}
	}
	return parts
}

// typeFound gives the type of that name, as the server would find it; nil is none.
func (a *analyzer) typeFound(from, to int32) *schema.Type {
	switch parts := a.typeParts(from, to); len(parts) {
	case 1:
		for _, ns := range a.places() {
			if t := a.typeByName(schema.Name{Namespace: ns, Name: parts[0]}); t != nil {
				return t
			}
		}
	case 2:
		return a.typeByName(schema.Name{Namespace: parts[0], Name: parts[1]})
	}
	return nil
}

// rowsOf says whether values of a type have rows of a table in them: the name of
// such a type would tell which columns there are.
func (a *analyzer) rowsOf(oid schema.OID) (found bool) {
	a.eachWithin(oid, 0, func(t *schema.Type) {
		r := a.c.Schema.Relations[t.Relation]
		found = found || t.Kind == 'c' && (r == nil || r.Kind != 'c')
	})
	return found
}

// tautology says whether a condition is known to hold for every row, or may
// be: constants, x = x, a table joined to itself by one column, and anything
// OR such.
func (a *analyzer) tautology(s *scope, n int32) bool {
	leaf := a.through(n)
	if a.find(leaf, "columnref") == 0 && a.find(leaf, "select_with_parens") == 0 {
		return true // no column is in it
	}
	if a.name(leaf) == "c_expr" {
		if in := a.kid(leaf, "a_expr"); in != 0 {
			return a.tautology(s, in)
		}
		return false
	}
	if a.name(leaf) != "a_expr" {
		return false
	}
	r := a.rule(leaf)
	first := a.t.Nodes[leaf].First
	switch {
	case len(r) == 4 && r[2] == "OR":
		last := a.t.Nodes[a.t.Nodes[first].Next].Next
		return a.tautology(s, first) || a.tautology(s, last)
	case len(r) == 4 && r[2] == "AND":
		last := a.t.Nodes[a.t.Nodes[first].Next].Next
		return a.tautology(s, first) && a.tautology(s, last)
	case len(r) == 4 && r[1] == "a_expr" && r[3] == "a_expr":
		last := a.t.Nodes[a.t.Nodes[first].Next].Next
		return a.sameText(first, last) || a.sameColumn(s, first, last)
	case len(r) == 5 && r[4] == "NULL_P": // x IS NOT NULL holds for most
		return true
	}
	return false
}

// sameColumn says whether two expressions are one column of one table, whoever
// names it.
func (a *analyzer) sameColumn(s *scope, x, y int32) bool {
	var cols [2]column
	for i, n := range []int32{x, y} {
		leaf := a.bare(n)
		if in := a.kid(leaf, "a_expr"); in != 0 && a.fielded(leaf) && a.name(a.bare(in)) == "columnref" { // (t).id is t.id
			cols[i] = a.composite(s, leaf)
			continue
		}
		if a.name(leaf) != "columnref" {
			return false
		}
		names, star, plain := a.parts(leaf)
		if star || !plain {
			return false
		}
		cols[i] = a.lookup(s, leaf, names)
	}
	for _, l := range cols[0].copies {
		for _, r := range cols[1].copies {
			if l.relation == r.relation && l.column == r.column {
				return true
			}
		}
	}
	return false
}

// sameText says whether two nodes are the same tokens.
func (a *analyzer) sameText(x, y int32) bool {
	l, r := &a.t.Nodes[x], &a.t.Nodes[y]
	return slices.EqualFunc(a.t.Tokens[l.From:l.To], a.t.Tokens[r.From:r.To], func(l, r parse.Token) bool { return l.Kind == r.Kind && l.Value == r.Value })
}

func (a *analyzer) text(n int32) string { return a.emit(a.t.Nodes[n].From, a.t.Nodes[n].To, nil) }
