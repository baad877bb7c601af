package sql

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// What changes the database's own catalog is understood statement by statement,
// each form by its production: what is not named here is refused. Each gives an
// operation for every object that it makes, changes or drops; what computes
// with rows that are there, gives them another name or takes them out of what
// protects them, reads them besides, and needs what a SELECT of them would.

// define takes a statement that changes the catalog. ok is false where it is
// none that a task can list: triggers, rules and policies, which run or filter
// by themselves, owners and rights, and what the database's owner sets up.
func (a *analyzer) define(n int32) (p Part, ok bool) {
	p.Kind = Define
	before := len(a.ops.list)
	a.cascading = false
	defer func() { p.Temporary, p.Cascades = ok && a.temporary(a.ops.list[before:]), a.cascading }()
	switch name, form := a.name(n), a.form(n); {
	case form == "ALTER INDEX qualified_name index_partition_cmd":
		a.attachIndex(n)
		a.eventTriggers()
		return p, true
	case name == "AlterTableStmt" && (!strings.HasPrefix(form, "ALTER TABLE") || strings.Contains(form, "ALL IN_P")), name == "DefineStmt" && a.kid(n, "ENUM_P") == 0 && a.kid(n, "OptTableFuncElementList") == 0:
		return p, false
	}
	switch a.name(n) {
	case "CreateStmt":
		p.Makes = a.createTable(n)
	case "CreateAsStmt":
		p.Makes = a.createTableAs(n)
	case "SelectStmt":
		p.Makes = a.selectInto(n)
	case "AlterTableStmt":
		a.alterTable(n)
	case "RenameStmt":
		a.rename(n)
	case "AlterObjectSchemaStmt":
		a.setSchema(n)
	case "DropStmt":
		a.drop(n)
	case "IndexStmt":
		a.createIndex(n)
	case "ViewStmt":
		p.Makes = a.createView(n)
	case "CreateMatViewStmt":
		p.Makes = a.createMaterialized(n)
	case "RefreshMatViewStmt":
		a.refresh(n)
	case "CreateSeqStmt":
		p.Makes = a.createSequence(n)
	case "AlterSeqStmt":
		a.alterSequence(n)
	case "CreateSchemaStmt":
		a.createSchema(n)
	case "DefineStmt":
		a.createType(n)
	case "CreateDomainStmt":
		a.createDomain(n)
	case "AlterDomainStmt":
		a.alterDomain(n)
	case "AlterEnumStmt":
		a.alterEnum(n)
	case "CommentStmt":
		a.comment(n)
	case "CreateFunctionStmt":
		a.createFunction(n)
	case "RemoveFuncStmt":
		a.dropFunction(n)
	default:
		return p, false
	}
	a.eventTriggers()
	return p, true
}

// eventTriggers adds the functions that the server runs with each such statement.
func (a *analyzer) eventTriggers() {
	for _, t := range a.c.Schema.EventTriggers {
		op := abi.Operation{Verb: "call", Kind: abi.KindFunction, Effect: abi.EffectWrite, Value: t.SourceHash, Via: "event trigger " + t.Name}
		if f := a.c.Schema.Functions[t.Function]; f != nil {
			op.Object = f.Name.Parts()
		}
		a.other(op)
	}
}

// form is the right side of a node's production, words apart by one space.
func (a *analyzer) form(n int32) string { return strings.Join(a.rule(n)[1:], " ") }

// on adds the operation of a verb on an object of the catalog.
func (a *analyzer) on(verb, kind string, object []string, via string) *operation {
	if kind == abi.KindRelation && len(object) == 2 {
		if r := a.c.Schema.RelationByName[schema.Name{Namespace: object[0], Name: object[1]}]; r != nil {
			a.unlocked(r)
		}
	}
	key := opKey{statement: a.statement, verb: verb, object: kind + "\x00" + strings.Join(object, "\x00"), via: via}
	return a.operation(key, abi.Operation{Statement: a.statement, Verb: verb, Kind: kind, Object: object, Via: via, Effect: abi.EffectWrite})
}

// alters is on for a relation that is there.
func (a *analyzer) alters(verb string, r *schema.Relation) *operation {
	if r.System {
		a.refuse("changing %s, which is the server's own", r.Name.Name)
	}
	return a.touch(verb, r, "", abi.EffectWrite)
}

// creation gives the name under which the server would make what n names, and
// writes it out in full.
func (a *analyzer) creation(n int32) schema.Name {
	names := a.qualified(n, "a name")
	name := schema.Name{Name: names[len(names)-1]}
	if len(names) == 2 {
		name.Namespace = names[0]
	} else {
		i := slices.IndexFunc(a.path, a.namespace)
		if i < 0 {
			a.fail("3F000", n, "no schema has been selected to create in")
		}
		name.Namespace = a.path[i]
	}
	switch ns := name.Namespace; {
	case ns == "information_schema" || strings.HasPrefix(ns, "pg_"):
		a.refuse("making something in %s", ns)
	case !a.namespace(ns):
		a.fail("3F000", n, "schema %q does not exist", ns)
	}
	a.spellOut(n, name)
	return name
}

func (a *analyzer) namespace(name string) bool {
	_, ok := a.c.Schema.Namespaces[name]
	return ok
}

func (a *analyzer) spellOut(n int32, name schema.Name) {
	a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].To, name.Quoted()})
}

// newName gives the name behind RENAME TO.
func (a *analyzer) newName(n int32) (last string) {
	a.kids(n, func(c int32) {
		if a.name(c) == "name" {
			last = a.ident(c)
		}
	})
	return last
}

// there finds what n names where it may be missing, as with IF EXISTS: then it
// gives nil and the name under which nothing will be found.
func (a *analyzer) there(n int32, maybe bool, find func(schema.Name) bool) (schema.Name, bool) {
	names, star, plain := a.parts(n)
	if star || !plain || len(names) > 2 {
		a.refuse("a name of that form")
	}
	where := a.places()
	if len(names) == 2 {
		where = names[:1]
	}
	name := schema.Name{Name: names[len(names)-1]}
	for _, name.Namespace = range where {
		if find(name) {
			a.spellOut(n, name)
			return name, true
		}
	}
	if !maybe {
		a.fail("42704", n, "%q does not exist", strings.Join(names, "."))
	}
	if len(names) == 2 && !a.namespace(names[0]) { // the server will find none either
		return name, false
	}
	return a.creation(n), false
}

// maybe finds a relation that may be missing.
func (a *analyzer) maybe(n int32, missing bool) (*schema.Relation, schema.Name) {
	var r *schema.Relation
	find := func(name schema.Name) bool {
		r = a.c.Schema.RelationByName[name]
		return r != nil
	}
	if !missing {
		r = a.relation(n)
		return r, r.Name
	}
	name, _ := a.there(n, true, find)
	return r, name
}

// index finds an index by its name, and the table that it is of.
func (a *analyzer) index(n int32, missing bool) (*schema.Relation, *schema.Index, schema.Name) {
	var r *schema.Relation
	var x *schema.Index
	name, ok := a.there(n, missing, func(name schema.Name) bool {
		for _, t := range a.c.Schema.Relations {
			if t.Name.Namespace != name.Namespace {
				continue
			}
			for i := range t.Indexes {
				if t.Indexes[i].Name == name.Name {
					r, x = t, &t.Indexes[i]
					return true
				}
			}
		}
		return false
	})
	if !ok {
		return nil, nil, name
	}
	return r, x, name
}

// takes marks columns of a relation as read: what is done to them shows what
// they hold to whoever looks afterwards. None is all.
func (a *analyzer) takes(r *schema.Relation, columns ...string) {
	for _, c := range a.own(r, "", "").columns {
		if len(columns) == 0 || slices.Contains(columns, c.name) {
			a.use(c, abi.UseComputed)
		}
	}
	a.descend("select", r, abi.EffectRead)
}

// loses marks columns that will not be there by their name any more. None is
// all.
func (a *analyzer) loses(op *operation, r *schema.Relation, columns ...string) {
	for _, c := range r.Columns {
		if len(columns) == 0 || slices.Contains(columns, c.Name) {
			a.add(op, c.Name, abi.UseWritten)
		}
	}
}

// gives marks columns of a relation as given values, by a default or as another
// table's rows: by what mask they are shown, others can be compared with them.
// None is all. why is what gives them.
func (a *analyzer) gives(r *schema.Relation, why string, columns ...string) {
	op := a.touch("alter_table", r, why+" "+r.Name.Namespace+"."+r.Name.Name, abi.EffectWrite)
	for _, c := range r.Columns {
		if len(columns) == 0 || slices.Contains(columns, c.Name) {
			a.add(op, c.Name, abi.UseWritten)
		}
	}
}

// columnType judges the type of a column: the server's own, an enumeration, a
// domain, what an accepted extension has, and arrays of them. serial says that
// a sequence is made beside it.
func (a *analyzer) columnType(n int32, column bool) {
	g := a.find(n, "GenericType")
	if g == 0 {
		return
	}
	to := a.t.Nodes[g].To
	if m := a.kid(g, "opt_type_modifiers"); m != 0 {
		to = a.t.Nodes[m].From
	}
	var parts []string
	for i := a.t.Nodes[g].From; i < to; i++ {
		if v := a.t.Tokens[i].Value; v != "." {
			parts = append(parts, v)
		}
	}
	if column && len(parts) == 1 && slices.Contains([]string{"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial"}, parts[0]) {
		return
	}
	if t := a.typeAt(parts); t != nil && t.Kind == 'd' {
		a.casts(t.OID)
		for d := t; d != nil && d.Kind == 'd'; d = a.c.Schema.Types[d.Base] {
			if b := a.c.Schema.Types[d.Base]; b != nil && b.Kind != 'd' && !a.plainType(b.OID) {
				a.refuse("the type %s is made by users, and its functions could run anything", b.Name.Name)
			}
		}
		a.edits = append(a.edits, edit{a.t.Nodes[g].From, to, t.Name.Quoted()})
		return
	}
	a.typeName(n)
}

// typeAt finds a type as the server would along the path.
func (a *analyzer) typeAt(parts []string) *schema.Type {
	switch len(parts) {
	case 1:
		for _, ns := range a.places() {
			if t := a.c.Schema.TypeByName[schema.Name{Namespace: ns, Name: parts[0]}]; t != nil {
				return t
			}
		}
	case 2:
		return a.c.Schema.TypeByName[schema.Name{Namespace: parts[0], Name: parts[1]}]
	}
	return nil
}

// defaultOf reads the expression of a default, which may take the next value of a
// sequence.
func (a *analyzer) defaultOf(n int32) {
	a.defaulting = true
	a.expr(&scope{}, n, abi.UseComputed)
	a.defaulting = false
}

// only refuses all clauses of a statement that are there and not among those
// that are understood.
func (a *analyzer) only(n int32, what string, known ...string) {
	a.kids(n, func(c int32) {
		if a.t.Nodes[c].Rule != 0 && !a.empty(c) && !slices.Contains(known, a.name(c)) {
			a.refuse("%s with %s", what, strings.ToLower(a.text(c)))
		}
	})
}

// rewritten is a table whose rows are written anew: what its constraints,
// indexes and generated columns compute is computed again.
func (a *analyzer) rewritten(r *schema.Relation) {
	for _, c := range r.Columns {
		if c.Generated != 0 {
			a.expression(r, c.Default)
		}
	}
	for _, x := range r.Indexes {
		a.expression(r, x.Exprs)
		a.expression(r, x.Predicate)
	}
	for _, oid := range r.Children {
		if child := a.c.Schema.Relations[oid]; child != nil {
			a.rewritten(child)
		}
	}
}

// closure adds what DROP … CASCADE takes along: views over it, foreign keys to
// it, tables that inherit, the sequences of its columns, and defaults that take their
// values from one. What else depends on it is not known.
func (a *analyzer) closure(r *schema.Relation, seen map[schema.OID]bool) {
	if seen[r.OID] {
		return
	}
	seen[r.OID] = true
	a.unwatched(r)
	if r.Needed {
		a.refuse("CASCADE on %s, on which more than tables, views, foreign keys and defaults depends: drop that first", r.Name.Name)
	}
	a.along(r, seen)
}

// unwatched refuses to drop what a trigger of another table would go with: no rule
// is for triggers.
func (a *analyzer) unwatched(r *schema.Relation) {
	if r.Watched {
		a.refuse("dropping %s, with which a constraint trigger of another table would go: whoever has made that drops it first", r.Name.Name)
	}
}

// along is closure without the relation itself. Nothing happens to what has been
// seen but that it is dropped.
func (a *analyzer) along(r *schema.Relation, seen map[schema.OID]bool) {
	for _, oid := range r.Views {
		v := a.c.Schema.Relations[oid]
		if v == nil {
			a.refuse("CASCADE on %s, on which a view depends that is not known", r.Name.Name)
		}
		if !seen[oid] {
			a.loses(a.alters("drop_view", v), v)
			a.closure(v, seen)
		}
	}
	for _, f := range r.Referenced {
		from := a.c.Schema.Relations[f.From]
		if from == nil {
			a.refuse("CASCADE on %s, to which a foreign key leads that is not known", r.Name.Name)
		}
		if !seen[from.OID] {
			a.alters("alter_table", from)
		}
	}
	for _, oid := range r.Sequences {
		s := a.c.Schema.Relations[oid]
		if s == nil {
			a.refuse("CASCADE on %s, of which a sequence is not known", r.Name.Name)
		}
		a.closure(s, seen)
	}
	for _, oid := range r.Defaults {
		of := a.c.Schema.Relations[oid]
		if of == nil {
			a.refuse("CASCADE on %s, from which a default takes its values that is not known", r.Name.Name)
		}
		if !seen[oid] {
			a.alters("alter_table", of)
		}
	}
	a.partitions(r, seen)
}

// partitions are dropped with their parent.
func (a *analyzer) partitions(r *schema.Relation, seen map[schema.OID]bool) {
	a.cascading = true
	for _, oid := range r.Children {
		child := a.c.Schema.Relations[oid]
		if child == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		if seen[oid] {
			continue
		}
		a.loses(a.alters("drop_table", child), child)
		if seen == nil {
			a.unwatched(child)
			a.partitions(child, nil)
		} else {
			a.closure(child, seen)
		}
	}
}

// drop takes DROP of tables, views, sequences, indexes, types and schemas.
func (a *analyzer) drop(n int32) {
	form := a.form(n)
	missing := strings.Contains(form, "IF_P EXISTS")
	cascade := a.find(a.kid(n, "opt_drop_behavior"), "CASCADE") != 0
	what := ""
	if k := a.kid(n, "object_type_any_name"); k != 0 {
		what = a.form(k)
	} else if k := a.kid(n, "drop_type_name"); k != 0 {
		what = a.form(k)
	} else if strings.HasPrefix(form, "DROP INDEX") {
		what = "INDEX"
	} else if a.kid(n, "type_name_list") != 0 {
		what = "TYPE"
	}
	names := a.list(a.kid(n, "any_name_list"), "any_name")
	switch what {
	case "TABLE", "VIEW", "SEQUENCE", "MATERIALIZED VIEW":
		verb, kinds := "drop_"+strings.ToLower(strings.TrimPrefix(what, "MATERIALIZED ")), map[string]string{"TABLE": "rp", "VIEW": "v", "SEQUENCE": "S", "MATERIALIZED VIEW": "m"}[what]
		for _, q := range names {
			r, name := a.maybe(q, missing)
			if r == nil {
				a.on(verb, abi.KindRelation, name.Parts(), "")
				continue
			}
			if strings.IndexByte(kinds, r.Kind) < 0 {
				a.fail("42809", q, "%q is not a %s", r.Name.Name, strings.ToLower(what))
			}
			a.unwatched(r)
			a.loses(a.alters(verb, r), r)
			if cascade {
				a.closure(r, map[schema.OID]bool{})
			} else if r.Kind == 'p' {
				a.partitions(r, nil)
			}
		}
	case "INDEX":
		a.restricted(n)
		for _, q := range names {
			r, _, name := a.index(q, missing)
			switch {
			case r == nil:
				a.on("drop_index", abi.KindRelation, name.Parts(), "").Value = name.Name
			default:
				a.alters("drop_index", r).Value = name.Name
				if r.Kind == 'p' {
					a.descend("drop_index", r, abi.EffectWrite)
				}
			}
		}
	case "TYPE":
		a.restricted(n)
		for _, t := range a.list(a.kid(n, "type_name_list"), "Typename") {
			a.on("drop_type", abi.KindType, a.ownType(t, missing).Parts(), "")
		}
	case "SCHEMA":
		var names []string
		for _, s := range a.list(a.kid(n, "name_list"), "name") {
			names = append(names, a.ident(s))
		}
		if a.cascading = cascade; cascade && a.c.Listed == nil && slices.ContainsFunc(names, a.filled) {
			a.contents(names)
		} else {
			a.restricted(n) // whatever else is there the server finds
		}
		for _, name := range names {
			a.on("drop_schema", abi.KindSchema, []string{name}, "")
		}
	default:
		a.refuse("%s", a.words(n))
	}
}

// filled says whether a namespace is known to have something in it.
func (a *analyzer) filled(namespace string) bool {
	s := a.c.Schema
	in := func(n schema.Name) bool { return n.Namespace == namespace }
	for _, r := range s.Relations {
		if in(r.Name) {
			return true
		}
	}
	for _, t := range s.Types {
		if in(t.Name) {
			return true
		}
	}
	for _, f := range s.Functions {
		if in(f.Name) {
			return true
		}
	}
	return false
}

// contents adds what DROP SCHEMA … CASCADE takes along: all that is in these
// namespaces, each by its own rule, and what depends on the relations of them.
func (a *analyzer) contents(namespaces []string) {
	s := a.c.Schema
	for _, ns := range namespaces {
		if _, ok := s.Namespaces[ns]; !ok {
			a.refuse("DROP SCHEMA %s CASCADE, of which nothing is known, with others that have something in them: name it by itself", ns)
		}
		if s.Tied[ns] || strings.HasPrefix(ns, "pg_") || ns == "information_schema" {
			a.refuse("DROP SCHEMA %s CASCADE, where there is, or depends on it, more than tables, views, sequences, types and functions: drop that first", ns)
		}
	}
	in := func(n schema.Name) bool { return slices.Contains(namespaces, n.Namespace) }
	var relations []*schema.Relation
	going, owned := map[schema.OID]bool{}, map[schema.OID]bool{}
	for oid, r := range s.Relations {
		if in(r.Name) {
			relations, going[oid] = append(relations, r), true
			for _, q := range r.Sequences {
				owned[q] = true
			}
		}
	}
	slices.SortFunc(relations, func(x, y *schema.Relation) int { return cmp.Compare(x.OID, y.OID) })
	for _, r := range relations {
		verb := map[byte]string{'r': "drop_table", 'p': "drop_table", 'v': "drop_view", 'm': "drop_view", 'S': "drop_sequence"}[r.Kind]
		switch {
		case r.Kind == 'c': // its type is dropped
		case verb == "":
			a.refuse("DROP SCHEMA … CASCADE with %s in it: drop that first", r.Name.Name)
		case !owned[r.OID]:
			a.loses(a.alters(verb, r), r)
		}
		a.along(r, going)
	}
	for _, t := range sorted(s.Types) {
		switch {
		case !in(t.Name) || s.Types[t.Element] != nil && s.Types[t.Element].Array == t.OID: // what it is an array of goes
		case t.Kind == 'e', t.Kind == 'd', a.composed(t):
			a.on("drop_type", abi.KindType, t.Name.Parts(), "")
		case t.Kind != 'c': // a table's own
			a.refuse("DROP SCHEMA … CASCADE with the type %s in it: drop that first", t.Name.Name)
		}
	}
	for _, f := range sorted(s.Functions) {
		switch {
		case !in(f.Name):
		case f.Kind == 'a':
			a.refuse("DROP SCHEMA … CASCADE with the aggregate %s in it: drop that first", f.Name.Name)
		default:
			a.on("drop_function", abi.KindRoutine, f.Name.Parts(), "")
		}
	}
}

// sorted gives what is in a map in the order in which it was made.
func sorted[T any](m map[schema.OID]T) []T {
	out := make([]T, 0, len(m))
	for _, oid := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[oid])
	}
	return out
}

// composed says whether a type was made by CREATE TYPE … AS (…), and is no
// table's.
func (a *analyzer) composed(t *schema.Type) bool {
	r := a.c.Schema.Relations[t.Relation]
	return t.Kind == 'c' && r != nil && r.Kind == 'c'
}

// ownType finds a type that users have made, an enumeration, a domain or a
// composite one.
func (a *analyzer) ownType(n int32, missing bool) schema.Name {
	if g := a.find(n, "GenericType"); g != 0 {
		if m := a.kid(g, "opt_type_modifiers"); m != 0 && !a.empty(m) || a.t.Nodes[g].To != a.t.Nodes[n].To {
			a.refuse("a type name of that form")
		}
		n = g
	} else if a.name(n) == "Typename" {
		a.refuse("changing a type that is the server's own")
	}
	var parts []string
	for i := a.t.Nodes[n].From; i < a.t.Nodes[n].To; i++ {
		if v := a.t.Tokens[i].Value; v != "." {
			parts = append(parts, v)
		}
	}
	t := a.typeAt(parts)
	switch {
	case t == nil && !missing:
		a.fail("42704", n, "type %q does not exist", strings.Join(parts, "."))
	case t == nil && len(parts) == 2:
		return schema.Name{Namespace: parts[0], Name: parts[1]}
	case t == nil:
		i := slices.IndexFunc(a.path, a.namespace)
		if i < 0 {
			a.fail("3F000", n, "no schema has been selected")
		}
		name := schema.Name{Namespace: a.path[i], Name: parts[0]}
		a.spellOut(n, name)
		return name
	case t.OID < firstUser:
		a.refuse("changing a type that is the server's own")
	case t.Kind != 'e' && t.Kind != 'd' && !a.composed(t):
		a.refuse("changing the type %s, which is neither an enumeration nor a domain nor composite", t.Name.Name)
	}
	a.spellOut(n, t.Name)
	return t.Name
}
