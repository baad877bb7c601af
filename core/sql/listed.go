package sql

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// A task with `introspect: listed` is told of what it lists alone: any other
// relation is to it as one that is not there. A system relation is forwarded as
// a subselect without the rows of others; what takes or gives an object's
// identity (regclass and its like, to_regclass, has_table_privilege) looks it up
// among those that may be seen, and gives NULL where it is not one of them; and
// no value of these types is ever in the text, since a literal beside one would be
// read as one: an OID or the name, as text, stands for it.

// Listing is what such a task may be told of. It is made once a generation.
type Listing struct {
	lists func(kind string, object []string) bool

	mu   sync.Mutex
	of   *schema.Schema
	last *sight
}

// NewListing makes it of what says whether a rule names a relation or function.
func NewListing(lists func(kind string, object []string) bool) *Listing {
	return &Listing{lists: lists}
}

// sight is what a listing comes to in one schema.
type sight struct {
	relations, types, functions, namespaces map[schema.OID]bool // of what users have made
	called                                  map[schema.OID]bool // functions that a rule lists, whatever they are made of

	relationList, typeList, functionList, namespaceList, specific string // as constants
}

func (l *Listing) in(s *schema.Schema) *sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != s {
		l.of, l.last = s, l.see(s)
	}
	return l.last
}

func (l *Listing) see(s *schema.Schema) *sight {
	v := &sight{relations: map[schema.OID]bool{}, types: map[schema.OID]bool{}, functions: map[schema.OID]bool{}, namespaces: map[schema.OID]bool{}, called: map[schema.OID]bool{}}
	for oid, r := range s.Relations {
		if !r.System && r.Kind != 'c' && l.lists(abi.KindRelation, r.Name.Parts()) {
			v.relations[oid] = true
		}
	}
	for oid := range v.relations {
		r := s.Relations[oid]
		v.namespaces[s.Namespaces[r.Name.Namespace]] = true
		v.meets(s, r.RowType)
		for _, c := range r.Columns {
			v.meets(s, c.Type)
		}
	}
	var specific []string
	for oid, f := range s.Functions {
		if oid < firstUser || !l.lists(abi.KindFunction, f.Name.Parts()) {
			continue
		}
		v.called[oid] = true
		all := slices.Concat(f.Args, f.OutTypes, []schema.OID{f.Result})
		if slices.ContainsFunc(all, func(t schema.OID) bool { return !v.meets(s, t) }) {
			continue
		}
		v.functions[oid], v.namespaces[s.Namespaces[f.Name.Namespace]] = true, true
		specific = append(specific, f.Name.Name+"_"+strconv.FormatUint(uint64(oid), 10))
	}
	for oid := range v.types {
		v.namespaces[s.Namespaces[s.Types[oid].Name.Namespace]] = true
	}
	v.relationList, v.typeList, v.functionList, v.namespaceList = oids(v.relations), oids(v.types), oids(v.functions), oids(v.namespaces)
	slices.Sort(specific)
	for i, n := range specific {
		specific[i] = quoteLiteral(n)
	}
	v.specific = `ARRAY[` + strings.Join(specific, ", ") + `]::"pg_catalog"."text"[]`
	return v
}

// meets adds a type that something visible has, with what it is made of. A row of
// a relation that is not listed would tell of it: false.
func (v *sight) meets(s *schema.Schema, oid schema.OID) bool {
	t := s.Types[oid]
	if oid < firstUser || t == nil || v.types[oid] {
		return oid < firstUser || t != nil
	}
	ok := true
	switch {
	case t.Kind == 'd':
		ok = v.meets(s, t.Base)
	case t.Kind == 'b' && t.Element != 0:
		ok = v.meets(s, t.Element)
	case t.Kind == 'c':
		if r := s.Relations[t.Relation]; r == nil || r.Kind != 'c' {
			ok = v.relations[t.Relation]
		} else {
			v.types[oid] = true // it may have itself in an array
			for _, c := range r.Columns {
				ok = v.meets(s, c.Type) && ok
			}
			if v.relations[r.OID] = ok; !ok {
				delete(v.types, oid)
			}
		}
	}
	if v.types[oid] = ok; !ok {
		delete(v.types, oid)
		delete(v.relations, t.Relation)
		return false
	}
	if t.Array != 0 && s.Types[t.Array] != nil {
		v.types[t.Array] = true
	}
	return true
}

func oids(set map[schema.OID]bool) string {
	list := make([]schema.OID, 0, len(set))
	for oid := range set {
		list = append(list, oid)
	}
	slices.Sort(list)
	var b strings.Builder
	b.WriteString(`'{`)
	for i, oid := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(oid), 10))
	}
	b.WriteString(`}'::"pg_catalog"."oid"[]`)
	return b.String()
}

// Conditions are written so that no operator or name of the session's path is in
// them.
const (
	is     = ` OPERATOR("pg_catalog".=) `
	isAny  = ` OPERATOR("pg_catalog".=) ANY `
	below  = ` OPERATOR("pg_catalog".<) '16384'::"pg_catalog"."oid"`
	class  = `'1259'::"pg_catalog"."oid"` // pg_class, everywhere
	noName = `'0'::"pg_catalog"."oid"`
)

func one(x, list string) string { return "(" + x + below + " OR " + x + isAny + "(" + list + "))" }

// The conditions under which what x names may be seen. What belongs to a relation
// (its indexes, and sequences that number its columns) is seen with it.
func (v *sight) relation(x string) string {
	return "(" + one(x, v.relationList) +
		` OR EXISTS (SELECT FROM "pg_catalog"."pg_index" "i" WHERE "i"."indexrelid"` + is + x + ` AND "i"."indrelid"` + isAny + "(" + v.relationList + "))" +
		` OR EXISTS (SELECT FROM "pg_catalog"."pg_depend" "d" WHERE "d"."classid"` + is + class + ` AND "d"."objid"` + is + x + ` AND "d"."refclassid"` + is + class +
		` AND "d"."refobjid"` + isAny + "(" + v.relationList + `) AND "d"."refobjsubid" OPERATOR("pg_catalog".>) 0 AND "d"."deptype"` + isAny + `('{a,i}'::"pg_catalog"."char"[])))`
}

func (v *sight) typ(x string) string       { return one(x, v.typeList) }
func (v *sight) function(x string) string  { return one(x, v.functionList) }
func (v *sight) namespace(x string) string { return one(x, v.namespaceList) }

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

// seeing gives what the text at hand may see, nil where it is all or somebody
// else's text.
func (a *analyzer) seeing() *sight {
	if a.c.Listed == nil || a.via != "" {
		return nil
	}
	return a.c.Listed.in(a.c.Schema)
}

// relationByName gives the relation of that name that the text may name, or nil.
func (a *analyzer) relationByName(n schema.Name) *schema.Relation {
	r := a.c.Schema.RelationByName[n]
	if v := a.seeing(); r != nil && v != nil && !r.System && !v.relations[r.OID] {
		return nil
	}
	return r
}

// typeByName likewise.
func (a *analyzer) typeByName(n schema.Name) *schema.Type {
	t := a.c.Schema.TypeByName[n]
	if v := a.seeing(); t != nil && v != nil && t.OID >= firstUser && !v.types[t.OID] {
		return nil
	}
	return t
}

// callable says whether a function may be named.
func (a *analyzer) callable(f *schema.Function) bool {
	v := a.seeing()
	return v == nil || f.OID < firstUser || v.called[f.OID] || a.accepts(f)
}

// reaches says whether what the text does reaches relations that it may not be
// told of: behind views, as children, by cascades.
func (a *analyzer) reaches() bool {
	return a.c.Listed != nil && a.c.Listed.Reaches(a.c.Schema, a.finish())
}

// Reaches says whether operations are on relations that the task is not told of.
func (l *Listing) Reaches(s *schema.Schema, ops []abi.Operation) bool {
	v := l.in(s)
	return slices.ContainsFunc(ops, func(o abi.Operation) bool {
		if o.Kind != abi.KindRelation || len(o.Object) != 2 {
			return false
		}
		r := s.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]
		return r == nil || !v.relations[r.OID]
	})
}

// Unseen stands for why a text is refused that reaches what its task is not told
// of.
const Unseen = "it reaches, behind what this task lists, what the task does not list"

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
	c := s.relation.Column(s.column)
	if a.c.Listed == nil || c == nil || !identity(a.c.Schema, c.Type, 0) {
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

// sift forwards a reference in FROM to a system relation without the rows of what
// the task does not list. n is the relation_expr; the edit of the name is the last.
func (a *analyzer) sift(n int32, o *origin, alias bool) {
	v := a.seeing()
	if v == nil || !o.relation.System {
		return
	}
	all, ok := siftCatalogs[o.relation.Name.Name]
	if o.relation.Name.Namespace == "information_schema" {
		all, ok = siftStandard[o.relation.Name.Name]
	}
	if !ok {
		a.refuse("%s, which tells of more than this task lists", o.relation.Name.Name)
	}
	if a.find(n, "ONLY") != 0 {
		a.refuse("ONLY %s", o.relation.Name.Name)
	}
	if len(all) == 0 {
		return
	}
	o.sifted = true
	text := `( SELECT "s".* FROM ` + a.edits[len(a.edits)-1].text + ` "s" WHERE `
	for i, w := range all {
		if i > 0 {
			text += " AND "
		}
		text += v.condition(strings.Fields(w))
	}
	text += " )"
	if !alias {
		text += " AS " + quoteIdent(o.relation.Name.Name)
	}
	node := a.t.Nodes[n]
	a.edits[len(a.edits)-1] = edit{node.From, node.To, text}
	a.spend(len(text) / 8)
}

// condition writes one of those that stand beside a system relation.
func (v *sight) condition(w []string) string {
	col := func(i int) string { return `"s".` + quoteIdent(w[i]) }
	zero := func(i int, c string) string { return "(" + col(i) + is + noName + " OR " + c + ")" }
	of := func(catalog, name, namespace, at string, seen func(string) string) string { // by name
		return `EXISTS (SELECT FROM "pg_catalog"."` + catalog + `" "k", "pg_catalog"."pg_namespace" "m" WHERE "m"."oid"` + is + `"k"."` + namespace + `" AND "m"."nspname"` + is + col(1) +
			` AND "k"."` + name + `"` + is + col(2) + ` AND ` + at + seen(`"k"."oid"`) + `)`
	}
	switch w[0] {
	case "relation":
		return v.relation(col(1))
	case "relation0":
		return zero(1, v.relation(col(1)))
	case "type":
		return v.typ(col(1))
	case "type0":
		return zero(1, v.typ(col(1)))
	case "function":
		return v.function(`CAST(` + col(1) + ` AS "pg_catalog"."oid")`)
	case "namespace":
		return v.namespace(col(1))
	case "namespace0":
		return zero(1, v.namespace(col(1)))
	case "own": // the server's
		return col(1) + below
	case "object": // of a class
		return "(" + col(2) + below + " OR " + col(1) + is + class + " AND " + v.relation(col(2)) + ")"
	case "table": // by schema and name
		return of("pg_class", "relname", "relnamespace", "", v.relation)
	case "notype": // none of that name is hidden
		return "NOT " + of("pg_type", "typname", "typnamespace", "NOT ", v.typ)
	case "schema":
		return `EXISTS (SELECT FROM "pg_catalog"."pg_namespace" "m" WHERE "m"."nspname"` + is + col(1) + ` AND ` + v.namespace(`"m"."oid"`) + `)`
	case "constraint": // of what may be seen, and to it
		return `EXISTS (SELECT FROM "pg_catalog"."pg_constraint" "k" WHERE "k"."conname"` + is + col(1) + ` AND ("k"."conrelid"` + is + noName + ` OR ` + v.relation(`"k"."conrelid"`) +
			`) AND ("k"."confrelid"` + is + noName + ` OR ` + v.relation(`"k"."confrelid"`) + `))`
	case "check":
		return `(` + col(1) + is + `'CHECK' OR ` + v.condition([]string{"constraint", w[2]}) + `)`
	case "routine":
		return `(` + col(1) + isAny + `('{pg_catalog,information_schema}'::"pg_catalog"."text"[]) OR CAST(` + col(2) + ` AS "pg_catalog"."text")` + isAny + `(` + v.specific + `))`
	}
	panic("a condition that is not known: " + w[0])
}

// siftCatalogs are the relations of pg_catalog that a task with `introspect:
// listed` may read, and which of their rows: all conditions have to hold.
var siftCatalogs = map[string][]string{
	"pg_class": {"relation oid"}, "pg_namespace": {"namespace oid"}, "pg_attribute": {"relation attrelid"}, "pg_type": {"type oid"}, "pg_am": {}, "pg_index": {"relation indrelid"},
	"pg_constraint": {"relation0 conrelid", "relation0 confrelid", "type0 contypid"}, "pg_inherits": {"relation inhrelid", "relation inhparent"}, "pg_collation": {},
	"pg_enum": {"type enumtypid"}, "pg_range": {"type rngtypid"}, "pg_extension": {}, "pg_language": {}, "pg_tablespace": {}, "pg_roles": {}, "pg_user": {}, "pg_group": {},
	"pg_proc": {"function oid"}, "pg_attrdef": {"relation adrelid"}, "pg_policy": {"relation polrelid"}, "pg_statistic_ext": {"relation stxrelid"}, "pg_publication": {},
	"pg_publication_rel": {"relation prrelid"}, "pg_publication_namespace": {"namespace pnnspid"}, "pg_trigger": {"relation tgrelid", "relation0 tgconstrrelid"},
	"pg_rewrite": {"relation ev_class"}, "pg_sequence": {"relation seqrelid"}, "pg_depend": {"object classid objid", "object refclassid refobjid"}, "pg_database": {}, "pg_auth_members": {},
	"pg_foreign_table": {"relation ftrelid"}, "pg_foreign_server": {}, "pg_foreign_data_wrapper": {}, "pg_partitioned_table": {"relation partrelid"},
	"pg_description": {"object classoid objoid"}, "pg_shdescription": {"own objoid"}, "pg_operator": {"own oid"}, "pg_opclass": {"own oid"}, "pg_opfamily": {"own oid"}, "pg_amop": {"own oid"},
	"pg_amproc": {"own oid"}, "pg_cast": {"own oid"}, "pg_conversion": {"own oid"}, "pg_event_trigger": {"own oid"}, "pg_ts_config": {}, "pg_ts_dict": {}, "pg_ts_parser": {}, "pg_ts_template": {},
	"pg_aggregate": {"function aggfnoid"}, "pg_default_acl": {"namespace0 defaclnamespace"}, "pg_subscription": {},
	"pg_tables": {"table schemaname tablename"}, "pg_views": {"table schemaname viewname"}, "pg_matviews": {"table schemaname matviewname"}, "pg_indexes": {"table schemaname tablename"},
	"pg_sequences": {"table schemaname sequencename"}, "pg_policies": {"table schemaname tablename"}, "pg_rules": {"table schemaname tablename"},
	"pg_timezone_names": {}, "pg_timezone_abbrevs": {},
}

// siftStandard are the views of information_schema, likewise.
var siftStandard = map[string][]string{
	"information_schema_catalog_name": {}, "schemata": {"schema schema_name"}, "tables": {"table table_schema table_name"},
	"columns": {"table table_schema table_name", "notype udt_schema udt_name", "notype domain_schema domain_name"}, "views": {"table table_schema table_name"},
	"table_constraints": {"table table_schema table_name", "check constraint_type constraint_name"}, "key_column_usage": {"table table_schema table_name", "constraint constraint_name"},
	"constraint_column_usage": {"table table_schema table_name", "constraint constraint_name"}, "constraint_table_usage": {"table table_schema table_name", "constraint constraint_name"},
	"referential_constraints": {"constraint constraint_name", "constraint unique_constraint_name"}, "check_constraints": {"constraint constraint_name"},
	"domains": {"notype domain_schema domain_name", "notype udt_schema udt_name"}, "column_column_usage": {"table table_schema table_name"},
	"column_domain_usage": {"table table_schema table_name", "notype domain_schema domain_name"}, "column_udt_usage": {"table table_schema table_name", "notype udt_schema udt_name"},
	"element_types": {"table object_schema object_name", "notype udt_schema udt_name"}, "attributes": {"notype udt_schema udt_name", "notype attribute_udt_schema attribute_udt_name"},
	"user_defined_types": {"notype user_defined_type_schema user_defined_type_name"}, "routines": {"routine specific_schema specific_name"}, "parameters": {"routine specific_schema specific_name"},
	"sequences": {"table sequence_schema sequence_name"}, "triggers": {"table event_object_schema event_object_table"}, "triggered_update_columns": {"table event_object_schema event_object_table"},
	"view_column_usage": {"table view_schema view_name", "table table_schema table_name"}, "view_table_usage": {"table view_schema view_name", "table table_schema table_name"},
	"character_sets": {}, "collations": {}, "collation_character_set_applicability": {}, "applicable_roles": {}, "administrable_role_authorizations": {}, "enabled_roles": {},
	"column_privileges": {"table table_schema table_name"}, "table_privileges": {"table table_schema table_name"}, "routine_privileges": {"routine specific_schema specific_name"},
	"udt_privileges": {"notype udt_schema udt_name"}, "role_column_grants": {"table table_schema table_name"}, "role_table_grants": {"table table_schema table_name"},
	"role_routine_grants": {"routine specific_schema specific_name"}, "role_udt_grants": {"notype udt_schema udt_name"},
	"foreign_data_wrappers": {}, "foreign_servers": {}, "foreign_tables": {"table foreign_table_schema foreign_table_name"},
	"sql_features": {}, "sql_implementation_info": {}, "sql_parts": {}, "sql_sizing": {},
}

// ancestors gives the column of pg_partition_ancestors in FROM the name that it
// has at the server: what is forwarded in its place has another.
func (a *analyzer) ancestors(n int32) {
	ft, at := a.kid(n, "func_table"), a.kid(n, "func_alias_clause")
	f := a.kid(ft, "func_expr_windowless")
	if a.seeing() == nil || f == 0 {
		return
	}
	call := a.t.Nodes[f].First
	if name := a.kid(call, "func_name"); name == 0 || a.t.Tokens[a.t.Nodes[name].To-1].Value != "pg_partition_ancestors" {
		return
	}
	end, alias := a.t.Nodes[ft].To, ` AS "pg_partition_ancestors" ("relid")`
	if at != 0 && !a.empty(at) {
		if a.find(at, "name_list") != 0 {
			return
		}
		end, alias = a.t.Nodes[at].To, ` ("relid")`
	}
	a.edits = append(a.edits, edit{end, end, alias})
}
