package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

func (a *analyzer) originOf(s *scope, n int32, names []string) *origin {
	for at := s; at != nil; at = at.parent {
		for _, o := range at.origins {
			if o.alias == names[len(names)-1] && (len(names) == 1 || o.schema == names[0]) {
				a.unqualify(n, o, len(names)+1)
				return o
			}
		}
	}
	a.fail("42P01", n, "missing FROM-clause entry for table %q", names[len(names)-1])
	return nil
}

// from takes a list of FROM elements.
func (a *analyzer) from(s *scope, list int32) {
	for _, ref := range a.list(list, "table_ref") {
		if all := a.tableRef(s, ref); s.origins == nil {
			s.origins = slices.Clip(all)
		} else {
			s.origins = append(s.origins, all...)
		}
	}
}

func (a *analyzer) tableRef(s *scope, n int32) []*origin {
	alias := ""
	var names []string
	if al := a.kid(n, "opt_alias_clause"); al != 0 && !a.empty(al) {
		alias, names = a.alias(a.kid(al, "alias_clause"))
	}
	switch {
	case a.kid(n, "relation_expr") != 0:
		t := a.kid(n, "tablesample_clause")
		if t != 0 {
			a.sample(s, t)
		}
		o := a.rangeVar(s, a.kid(n, "relation_expr"), alias, names)
		if t != 0 {
			a.clear(o, "TABLESAMPLE")
		}
		list := a.refs.take(1)
		list[0] = o
		return list
	case a.kid(n, "select_with_parens") != 0:
		at := a.scope(s)
		if a.kid(n, "LATERAL_P") == 0 {
			at.parent, at.ctes = s.parent, s.ctes
		}
		cols, inner := a.body(at, a.kid(n, "select_with_parens"))
		return []*origin{{alias: alias, columns: rename(a.all(a.kept(cols)), names), under: inner.origins}}
	case a.kid(n, "func_table") != 0:
		return []*origin{a.funcTable(s, n)}
	case a.kid(n, "xmltable") != 0 || a.kid(n, "json_table") != 0:
		in := a.kid(n, "xmltable")
		if in == 0 {
			in = a.kid(n, "json_table")
		}
		o := a.tableExpr(s, in)
		if alias != "" {
			o.alias = alias
		}
		o.columns = rename(o.columns, names)
		return []*origin{o}
	case a.kid(n, "joined_table") != 0:
		origins := a.join(s, a.kid(n, "joined_table"))
		if al := a.kid(n, "alias_clause"); al != 0 {
			alias, names = a.alias(al)
			cols := a.kept(a.visible(origins))
			if slices.ContainsFunc(cols, func(c column) bool { return c.apart != 0 }) {
				a.refuse("a JOIN with an alias over what SEARCH or CYCLE adds")
			}
			return []*origin{{alias: alias, columns: rename(a.star(cols), names), under: origins}}
		}
		return origins
	}
	a.refuse("%s in FROM", a.name(a.t.Nodes[n].First))
	return nil
}

// sample takes TABLESAMPLE by the server's own methods.
func (a *analyzer) sample(s *scope, n int32) {
	parts, _, plain := a.parts(a.kid(n, "func_name"))
	if name := strings.TrimPrefix(strings.Join(parts, "."), "pg_catalog."); !plain || name != "bernoulli" && name != "system" || len(a.c.Schema.FunctionsNamed[name]) > 1 {
		a.refuse("TABLESAMPLE by a method that is not the server's own")
	}
	at := &scope{parent: s.parent, ctes: s.ctes}
	for _, e := range a.list(a.kid(n, "expr_list"), "a_expr") {
		a.expr(at, e, abi.UseCondition)
	}
	if r := a.kid(n, "opt_repeatable_clause"); !a.empty(r) {
		a.expr(at, a.kid(r, "a_expr"), abi.UseCondition)
	}
}

func (a *analyzer) alias(n int32) (string, []string) {
	if a.kid(n, "name_list") == 0 {
		return a.ident(a.kid(n, "ColId")), nil
	}
	return a.ident(a.kid(n, "ColId")), a.names(n)
}

func (a *analyzer) join(s *scope, n int32) []*origin {
	if k := a.kid(n, "joined_table"); k != 0 {
		return a.join(s, k)
	}
	var sides []int32
	a.kids(n, func(c int32) {
		if a.name(c) == "table_ref" {
			sides = append(sides, c)
		}
	})
	left := a.tableRef(s, sides[0])
	// The right side may be LATERAL: it sees the left.
	lateral := a.scope(s.parent)
	lateral.ctes, lateral.origins, lateral.query = s.ctes, a.joined(s.origins, left), s.query
	right := a.tableRef(lateral, sides[1])
	both := a.joined(left, right)
	join := a.origins.next()
	join.columns = a.visible(both)
	a.kept(join.columns)
	ours, theirs := join.columns[:width(left)], join.columns[width(left):]
	var merged []string
	using := ""
	if a.kid(n, "NATURAL") != 0 {
		a.spend(len(ours) * len(theirs) / 8)
		for _, c := range ours {
			if slices.ContainsFunc(theirs, func(t column) bool { return t.name == c.name }) {
				merged = append(merged, c.name)
			}
		}
	}
	if q := a.kid(n, "join_qual"); q != 0 {
		if e := a.kid(q, "a_expr"); e != 0 {
			on := a.scope(s.parent)
			on.ctes, on.origins = s.ctes, both
			a.expr(on, e, abi.UseCondition)
		} else {
			if u := a.kid(q, "opt_alias_clause_for_join_using"); u != 0 && !a.empty(u) {
				using = a.ident(a.kid(u, "ColId"))
			}
			merged = a.names(q)
		}
	}
	// The columns that are merged come first, and can be either side's.
	var first []column
	for _, name := range merged {
		l, r := a.common(n, ours, name), a.common(n, theirs, name)
		if a.operator("="); l.apart != everyStar || r.apart != everyStar {
			a.refuse("USING of what SEARCH or CYCLE adds")
		}
		first = append(first, column{name: name, copies: union(l.copies, r.copies), computed: union(l.computed, r.computed), other: l.other || r.other})
	}
	if len(merged) > 0 {
		join.columns = append(first, slices.DeleteFunc(join.columns, func(c column) bool { return slices.Contains(merged, c.name) })...)
	}
	for _, o := range both {
		o.joined = true
	}
	if using != "" { // an alias of what is merged, beside those of the sides
		both = append(both, &origin{alias: using, columns: slices.Clone(first), joined: true})
	}
	return append(both, join)
}

// joined gives the elements of two lists, with room for what a JOIN makes of them.
func (a *analyzer) joined(x, y []*origin) []*origin {
	return append(append(a.refs.take(len(x) + len(y) + 1)[:0], x...), y...)
}

// common finds a column that a join compares.
func (a *analyzer) common(n int32, cols []column, name string) column {
	i := slices.IndexFunc(cols, func(c column) bool { return c.name == name })
	if i < 0 {
		a.fail("42703", n, "column %q specified in USING clause does not exist in one of the tables", name)
	}
	if slices.ContainsFunc(cols[i+1:], func(c column) bool { return c.name == name }) || cols[i].unsure {
		a.fail("42702", n, "common column name %q appears more than once", name)
	}
	a.use(cols[i], abi.UseCondition)
	return cols[i]
}

// rangeVar takes a table, view or WITH query that FROM names.
func (a *analyzer) rangeVar(s *scope, n int32, alias string, names []string) *origin {
	q := a.find(n, "qualified_name")
	parts, _, _ := a.parts(q)
	if len(parts) == 1 {
		if cols, at, ok := a.cte(s, parts[0]); ok {
			if alias == "" {
				alias = parts[0]
			}
			return &origin{alias: alias, columns: rename(a.kept(starred(cols, s, at)), names)}
		}
	}
	r := a.queried(q)
	if a.c.Blind == nil { // comes before what stands beneath it
		a.touch("select", r, a.via, abi.EffectRead)
	}
	o := a.origins.next()
	*o = origin{alias: alias, relation: r, via: a.via, columns: a.kept(a.showing(r))}
	if v := a.veil(r, o.columns); v != nil {
		o.relation, o.veil, o.columns, o.read = nil, v, v.columns, a.seen(r, a.via)
		a.veilRange(n, v, alias != "")
	} else {
		o.read = a.touch("select", r, a.via, abi.EffectRead)
		a.sift(n, o, alias != "")
	}
	o.columns = rename(o.columns, names)
	o.read.refs++
	if alias == "" {
		o.alias, o.schema = r.Name.Name, r.Name.Namespace
		if len(parts) > 1 && a.via == "" { // `s.t.c` still reads as before: the alias is the bare name
			o.schema = parts[len(parts)-2]
		}
	}
	if a.kid(n, "ONLY") == 0 && a.find(n, "ONLY") == 0 {
		a.descend("select", r, abi.EffectRead)
	}
	return o
}

// columns gives a relation's columns, reading through a view's definition.
func (a *analyzer) columns(r *schema.Relation) []column {
	a.touch("select", r, a.via, abi.EffectRead)
	return a.showing(r)
}

func (a *analyzer) showing(r *schema.Relation) []column {
	if r.System {
		a.system(r)
	}
	return a.copies(r, a.via)
}

// view reads a view's own text, with names as the server resolves them there.
func (a *analyzer) view(r *schema.Relation) []column {
	a.unlocked(r)
	if a.depth++; a.depth > maxViews {
		a.refuse("views within views over %d deep", maxViews)
	}
	defer func() { a.depth-- }()
	t, err := a.g.Parse(r.View)
	if err != nil {
		a.refuse("the text of the view %s is not understood", r.Name.Name)
	}
	defer t.Release()
	inner := *a
	inner.t, inner.path, inner.via, inner.edits = t, nil, "view "+r.Name.Namespace+"."+r.Name.Name, nil
	inner.lazy = inner.alone(t.Root)
	var cols []column
	for _, top := range inner.statements() {
		if inner.empty(top) {
			continue
		}
		stmt := inner.find(top, "SelectStmt")
		if stmt == 0 {
			a.refuse("the text of the view %s is no query", r.Name.Name)
		}
		cols = inner.query(nil, stmt)
	}
	a.outputs = inner.outputs
	return cols
}

// descend adds what a parent's or partitioned table's children see.
func (a *analyzer) descend(verb string, r *schema.Relation, effect abi.Effect) {
	for _, oid := range r.Children {
		if child := a.c.Schema.Relations[oid]; child != nil {
			a.touch(verb, child, "parent "+r.Name.Namespace+"."+r.Name.Name, effect)
			a.descend(verb, child, effect)
		}
	}
}
