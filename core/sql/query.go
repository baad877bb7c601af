package sql

import (
	"slices"
	"strconv"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// query takes a SelectStmt or anything inside it and gives its output columns.
// Columns of its own output are not yet marked as used: whoever asked knows
// what for.
func (a *analyzer) query(parent *scope, n int32) []column {
	cols, _ := a.body(parent, n)
	return cols
}

// body gives the scope as well in which an ORDER BY behind it is read: one
// behind brackets means what stands within them.
func (a *analyzer) body(parent *scope, n int32) ([]column, *scope) {
	a.spend(int(a.t.Nodes[n].To - a.t.Nodes[n].From))
	switch a.name(n) {
	case "SelectStmt", "select_clause", "PreparableStmt":
		inner := a.t.Nodes[n].First
		switch a.name(inner) {
		case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
			return a.dml(parent, inner), &scope{parent: parent}
		}
		return a.body(parent, inner)
	case "select_with_parens":
		if k := a.kid(n, "select_no_parens"); k != 0 {
			return a.selectNoParens(parent, k)
		}
		return a.body(parent, a.kid(n, "select_with_parens"))
	case "select_no_parens":
		return a.selectNoParens(parent, n)
	case "simple_select":
		return a.simple(parent, n)
	}
	a.refuse("a query of the form %s", a.name(n))
	return nil, nil
}

// core gives what a select_no_parens has between its WITH and its ORDER BY, 0
// where n is none.
func (a *analyzer) core(n int32) int32 {
	if k := a.kid(n, "simple_select"); k != 0 {
		return k
	}
	return a.kid(n, "select_clause")
}

func (a *analyzer) selectNoParens(parent *scope, n int32) ([]column, *scope) {
	s := a.scope(parent)
	body := a.core(n)
	if w := a.kid(n, "with_clause"); w != 0 {
		s.query = a.bodyOf(body)
		a.with(s, w)
	}
	cols, inner := a.body(s, body)
	at := a.scope(inner.parent)
	at.ctes, at.origins, at.aliases = inner.ctes, inner.origins, cols
	a.kids(n, func(c int32) {
		switch a.name(c) {
		case "sort_clause", "opt_sort_clause":
			a.order_(at, c, abi.UseOrder)
		case "select_limit", "opt_select_limit":
			limit := a.scope(inner.parent)
			limit.ctes = inner.ctes
			a.expr(limit, c, abi.UseCondition)
		case "for_locking_clause", "opt_for_locking_clause":
			if k := a.find(c, "for_locking_items"); k != 0 {
				a.lock(at.origins)
			}
		case "simple_select", "select_clause", "with_clause":
		default:
			a.refuse("%s in a query", a.name(c))
		}
	})
	return cols, inner
}

// bodyOf gives the SELECT or TABLE that a WITH stands before, whatever brackets are
// around it, 0 where it is something else.
func (a *analyzer) bodyOf(n int32) int32 {
	for n != 0 {
		switch a.name(n) {
		case "simple_select":
			if r := a.rule(n); r[1] == "SELECT" || r[1] == "TABLE" {
				return n
			}
			return 0
		case "select_clause":
			n = a.t.Nodes[n].First
		case "select_with_parens":
			if k := a.kid(n, "select_no_parens"); k != 0 {
				n = k
			} else {
				n = a.kid(n, "select_with_parens")
			}
		case "select_no_parens":
			n = a.core(n)
		default:
			return 0
		}
	}
	return 0
}

// lock marks every relation of the query as locked: that is a write. It goes
// through subqueries, whatever they show of it.
func (a *analyzer) lock(origins []*origin) {
	for _, o := range origins {
		if o.veil != nil && o.veil.masked {
			a.clear(o, "locking rows")
		}
		if o.relation != nil && temporaryView(o.relation) {
			a.refuse("locking rows of %s, which is a temporary view: name the table", o.relation.Name.Name)
		}
		if a.lock(o.under); o.read != nil {
			o.read.Effect, o.read.Attrs = abi.EffectWrite, o.read.Attrs|abi.RowLock
		}
		for _, c := range o.columns {
			for _, src := range append(c.copies, c.computed...) {
				op := a.touch("select", src.relation, src.via, abi.EffectRead)
				if src.blind {
					op = a.seen(src.relation, src.via)
				}
				op.Effect, op.Attrs = abi.EffectWrite, op.Attrs|abi.RowLock
			}
		}
	}
}

// order_ takes ORDER BY: a bare name or number means a column of the output.
func (a *analyzer) order_(s *scope, n int32, u abi.Use) {
	list := a.find(n, "sortby_list")
	if list == 0 {
		return
	}
	for _, by := range a.list(list, "sortby") {
		if o := a.find(by, "qual_all_Op"); o != 0 {
			a.operators(o)
		}
		a.byOutput(s, a.kid(by, "a_expr"), u, true)
	}
}

// byOutput takes an expression that can be the name or number of a column of
// the output. GROUP BY alone prefers the column of a table: both are marked.
func (a *analyzer) byOutput(s *scope, e int32, u abi.Use, first bool) {
	switch leaf := a.through(e); {
	case a.name(leaf) == "columnref":
		if names, star, ok := a.parts(leaf); ok && !star && len(names) == 1 {
			matched, vague := false, false
			for _, c := range s.aliases {
				if c.name == names[0] {
					a.use(c, u)
					matched, vague = true, c.vague
					break
				}
			}
			if matched && (first && !vague || !a.hasColumn(s, names[0])) {
				return
			}
		}
	case a.t.Nodes[leaf].Rule == 0 && a.g.Names[a.token(leaf).Kind] == "ICONST":
		i, err := strconv.Atoi(decimal(a.token(leaf).Value))
		if err != nil || i < 1 || i > len(s.aliases) {
			a.fail("42P10", e, "position %s is not in select list", a.token(leaf).Value)
		}
		a.use(s.aliases[i-1], u)
		return
	}
	a.expr(s, e, u)
}

// all marks every column of a subquery as read, whether or not the query around
// it uses them, as the server's own privileges see it.
func (a *analyzer) all(cols []column) []column {
	for _, c := range cols {
		a.use(c, abi.UseCopied)
	}
	return cols
}

func (a *analyzer) hasColumn(s *scope, name string) bool {
	return slices.ContainsFunc(s.origins, func(o *origin) bool {
		_, n := o.find(name)
		return !o.joined && n > 0
	})
}

func (a *analyzer) with(s *scope, n int32) {
	if s.ctes == nil {
		s.ctes = map[string][]column{}
	}
	recursive := a.kid(n, "RECURSIVE") != 0
	list := a.list(a.kid(n, "cte_list"), "common_table_expr")
	if recursive {
		s.later = map[string]bool{}
		for _, c := range list {
			s.later[a.ident(a.kid(c, "name"))] = true
		}
	}
	before := a.changes
	defer func() { a.nested = a.nested || a.via == "" && a.changes > before }()
	for _, c := range list {
		name := a.ident(a.kid(c, "name"))
		q := a.kid(c, "PreparableStmt")
		delete(s.later, name)
		if recursive {
			a.recursive(s, name, c)
			continue
		}
		if a.added(c, nil) != nil {
			a.fail("42601", c, "WITH query is not recursive")
		}
		cols := a.all(a.query(s, q))
		s.ctes[name] = rename(cols, a.names(a.kid(c, "opt_name_list")))
	}
}

// recursive finds the columns of a recursive query by reading it until its
// lineage no longer grows.
func (a *analyzer) recursive(s *scope, name string, n int32) {
	q, names := a.kid(n, "PreparableStmt"), a.names(a.kid(n, "opt_name_list"))
	settled := func(cols []column) { s.ctes[name] = append(slices.Clip(cols), a.added(n, cols)...) }
	defer func() { a.all(s.ctes[name]) }()
	union := int32(0)
	if a.name(a.t.Nodes[q].First) == "SelectStmt" {
		union = a.find(q, "simple_select")
	}
	if union == 0 || a.kid(union, "UNION") == 0 {
		settled(rename(a.query(s, q), names))
		return
	}
	first := a.t.Nodes[union].First
	edits := len(a.edits)
	cols := rename(a.query(s, first), names)
	a.edits = a.edits[:edits]
	for range 4 {
		settled(cols)
		edits := len(a.edits)
		next := rename(a.query(s, q), names)
		grown := len(next) != len(cols)
		for i := range next {
			if i < len(cols) && (len(next[i].copies) > len(cols[i].copies) || len(next[i].computed) > len(cols[i].computed)) {
				grown = true
			}
		}
		cols = next
		settled(cols)
		if !grown {
			return
		}
		a.edits = a.edits[:edits]
	}
	a.refuse("a recursive query whose lineage does not settle")
}

// added gives the columns that SEARCH and CYCLE add to those of a WITH query: each
// is made of the columns that it names, and CYCLE compares them. cols is nil where
// only whether there are any is asked.
func (a *analyzer) added(n int32, cols []column) (list []column) {
	for _, c := range []int32{a.kid(n, "opt_search_clause"), a.kid(n, "opt_cycle_clause")} {
		if c == 0 || a.empty(c) {
			continue
		}
		made := column{other: true, apart: maybeStar}
		cycle := a.name(c) == "opt_cycle_clause"
		for _, el := range a.list(a.kid(c, "columnList"), "columnElem") {
			i := slices.IndexFunc(cols, func(k column) bool { return k.name == a.ident(el) })
			if cols == nil {
				continue
			}
			if i < 0 {
				a.fail("42601", el, "column %q not in WITH query column list", a.ident(el))
			}
			if made.computed = union(made.computed, union(cols[i].copies, cols[i].computed)); cycle {
				a.operator("=")
				a.use(cols[i], abi.UseCondition)
			}
		}
		a.kids(c, func(k int32) {
			switch a.name(k) {
			case "ColId":
				made.name = a.ident(k)
				list = append(list, made)
			case "AexprConst":
				a.expr(&scope{}, k, abi.UseComputed)
			}
		})
	}
	return list
}

func (a *analyzer) names(n int32) (out []string) {
	if n == 0 || a.empty(n) {
		return nil
	}
	list := a.find(n, "name_list")
	for _, k := range a.list(list, "name") {
		out = append(out, a.ident(k))
	}
	return out
}

func rename(cols []column, names []string) []column {
	if len(names) == 0 {
		return slices.Clip(cols)
	}
	out := slices.Clone(cols)
	for i := range names {
		if i < len(out) {
			out[i].name = names[i]
		}
	}
	return out
}

// simple takes one SELECT, VALUES, TABLE or set operation.
func (a *analyzer) simple(parent *scope, n int32) ([]column, *scope) {
	switch r := a.rule(n); r[1] {
	case "SELECT":
		return a.selectList(parent, n)
	case "values_clause":
		return a.values(parent, a.t.Nodes[n].First), &scope{parent: parent}
	case "TABLE":
		s := a.scope(parent)
		s.query = n
		s.origins = []*origin{a.rangeVar(s, a.kid(n, "relation_expr"), "", nil)}
		if s.origins[0].veil != nil {
			from := a.t.Nodes[n].From
			a.edits = append(a.edits, edit{from, from + 1, "SELECT * FROM"})
		}
		return a.kept(a.fits(n, a.star(a.visible(s.origins)))), s
	case "select_clause":
		return a.combine(parent, n, r[2]), &scope{parent: parent}
	}
	a.refuse("a query of an unknown form")
	return nil, nil
}

// combine takes UNION, INTERSECT and EXCEPT. All but UNION ALL compare.
func (a *analyzer) combine(parent *scope, n int32, kind string) []column {
	first := a.t.Nodes[n].First
	last := first
	a.kids(n, func(c int32) { last = c })
	left, right := a.query(parent, first), a.query(parent, last)
	if len(left) != len(right) {
		a.fail("42601", n, "each %s query must have the same number of columns", kind)
	}
	all := a.kid(a.kid(n, "set_quantifier"), "ALL") != 0
	if kind != "UNION" || !all {
		for i := range left {
			a.comparedRows(left[i])
			a.comparedRows(right[i])
		}
	}
	out := make([]column, len(left))
	for i := range left {
		if !alike(left[i], right[i]) {
			a.blend(left[i])
			a.blend(right[i])
		}
		out[i] = column{name: left[i].name, copies: union(left[i].copies, right[i].copies), computed: union(left[i].computed, right[i].computed), other: left[i].other || right[i].other}
	}
	return out
}

// comparedRows notes that rows are compared by a column as it is: by the operators of
// its own type, which no cast leads to.
func (a *analyzer) comparedRows(c column) {
	a.spend(1)
	for _, s := range c.copies {
		if typ := typeOfSource(s); typ != 0 && !a.plainType(typ) {
			a.refuse("computing with %s, whose type is made by users", s.column)
		}
		a.shownTo(s)
		a.mark(s, abi.UseGroup)
	}
	for _, s := range c.computed {
		a.read(s, abi.UseGroup)
	}
}

// alike says whether two columns are bare ones of one type.
func alike(x, y column) bool {
	typ := schema.OID(0)
	for _, c := range []column{x, y} {
		if c.other || len(c.computed) > 0 || len(c.copies) == 0 {
			return false
		}
		for _, s := range c.copies {
			t := typeOfSource(s)
			if t == 0 || typ != 0 && t != typ {
				return false
			}
			typ = t
		}
	}
	return true
}

// blend notes that a bare column may be cast to what another one is.
func (a *analyzer) blend(c column) {
	for _, s := range c.copies {
		if c := s.relation.Column(s.column); c != nil {
			a.casts(c.Type)
		}
	}
}

func union(x, y []source) []source {
	if len(y) == 0 {
		return slices.Clip(x)
	}
	if len(x) == 0 && len(y) == 1 {
		return slices.Clip(y)
	}
	out := append([]source(nil), x...)
next:
	for _, s := range y {
		for _, t := range out {
			if s == t {
				continue next
			}
		}
		out = append(out, s)
	}
	return out
}

func (a *analyzer) values(parent *scope, n int32) []column {
	var cols []column
	for n != 0 {
		for i, c := range a.row(&scope{parent: parent}, a.kid(n, "expr_list")) {
			if i == len(cols) {
				cols = append(cols, column{name: "column" + itoa(i+1)})
			}
			a.blend(c)
			cols[i].copies, cols[i].computed, cols[i].other = union(cols[i].copies, c.copies), union(cols[i].computed, c.computed), cols[i].other || c.other
		}
		n = a.kid(n, "values_clause")
	}
	return cols
}

// row takes a list of values, in which a star stands for many.
func (a *analyzer) row(s *scope, list int32) (cols []column) {
	for _, e := range a.list(list, "a_expr") {
		a.fits(list, cols)
		if ref := a.through(e); a.name(ref) == "columnref" && a.has(ref, a.symbols.star) {
			if names, star, plain := a.parts(ref); star && plain {
				cols = append(cols, a.kept(a.star(a.originOf(s, ref, names).columns))...)
				continue
			}
		}
		cols = append(cols, a.value(s, e))
	}
	return cols
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}

func (a *analyzer) selectList(parent *scope, n int32) ([]column, *scope) {
	s := a.scope(parent)
	s.query = n
	if into := a.kid(n, "into_clause"); !a.empty(into) && into != a.into {
		a.refuse("SELECT INTO within another statement")
	}
	if f := a.kid(n, "from_clause"); !a.empty(f) {
		a.from(s, a.kid(f, "from_list"))
	}
	if w := a.kid(n, "window_clause"); !a.empty(w) {
		defer a.expr(s, w, abi.UseOrder)
	}
	if w := a.kid(n, "where_clause"); !a.empty(w) {
		a.restrict(s, a.kid(w, "a_expr"))
		a.condition(s, a.kid(w, "a_expr"))
		a.selects(s, a.kid(w, "a_expr"))
	}
	var cols []column
	list := a.kid(n, "target_list")
	if o := a.kid(n, "opt_target_list"); o != 0 {
		list = a.kid(o, "target_list")
	}
	if list != 0 {
		cols = a.targets(s, list, n == a.lazy)
	}
	s.aliases = cols
	if d := a.kid(n, "distinct_clause"); d != 0 {
		if e := a.kid(d, "expr_list"); e != 0 {
			for _, x := range a.list(e, "a_expr") {
				a.byOutput(s, x, abi.UseGroup, true)
			}
		} else {
			for _, c := range cols {
				a.comparedRows(c)
			}
		}
	}
	if g := a.kid(n, "group_clause"); !a.empty(g) {
		for _, item := range a.list(a.kid(g, "group_by_list"), "group_by_item") {
			if e := a.kid(item, "a_expr"); e != 0 {
				a.byOutput(s, e, abi.UseGroup, false)
			} else {
				a.expr(s, item, abi.UseGroup)
			}
		}
	}
	if h := a.kid(n, "having_clause"); !a.empty(h) {
		a.expr(s, a.kid(h, "a_expr"), abi.UseCondition)
	}
	return cols, s
}

// targets takes a target list.
func (a *analyzer) targets(s *scope, list int32, lazy bool) (cols []column) {
	defer func() { a.fits(list, cols) }()
	els := a.list(list, "target_el")
	cols = a.columnLot.take(min(len(els), maxTargets))[:0]
	for _, el := range els {
		a.fits(list, cols)
		first := a.t.Nodes[el].First
		if a.name(first) != "a_expr" { // *
			if len(s.origins) == 0 {
				a.fail("42601", el, "SELECT * with no tables specified is not valid")
			}
			cols = append(cols, a.spelled(el, a.kept(a.visible(s.origins)))...)
			continue
		}
		if ref := a.through(first); a.name(ref) == "columnref" && a.has(ref, a.symbols.star) {
			if names, star, plain := a.parts(ref); star && plain {
				cols = append(cols, a.spelled(ref, a.kept(a.originOf(s, ref, names).all(nil)))...)
				continue
			}
		}
		if all := a.through(first); a.fielded(all) && a.rule(a.lastElement(all))[2] == "'*'" {
			cols = append(cols, a.allFields(s, all)...)
			continue
		}
		before := len(a.edits)
		var c column
		if lazy {
			c = a.later(s, first)
		} else {
			c = a.value(s, first)
		}
		if c.name = a.label(el); c.name == "" {
			var sure bool
			c.name, sure = a.figure(first)
			c.vague = !sure
			if len(a.edits) > before && slices.ContainsFunc(a.edits[before:], func(e edit) bool { return e.null() || a.c.Listed != nil && e.lookup() }) { // the server would call it by its type
				at := a.t.Nodes[el].To
				a.edits = append(a.edits, edit{at, at, "AS " + quoteIdent(c.name)})
			}
		}
		cols = append(cols, c)
	}
	return cols
}

// star gives those of a list of columns that a star stands for, and refuses
// columns of which nobody knows how many there are: what comes behind them would
// be taken for another.
func (a *analyzer) star(cols []column) []column {
	if slices.ContainsFunc(cols, func(c column) bool { return c.unsure }) {
		a.refuse("every column of a function whose columns are the server's choice: name them behind its alias")
	}
	if slices.ContainsFunc(cols, func(c column) bool { return c.apart != everyStar }) {
		cols = slices.Clone(cols)
		if cols = slices.DeleteFunc(cols, func(c column) bool { return c.apart == noStar }); slices.ContainsFunc(cols, func(c column) bool { return c.apart != everyStar }) {
			a.refuse("every column of a WITH query to which SEARCH or CYCLE adds some: name them")
		}
	}
	return cols
}

// condition notes that the relations of a FROM have a condition.
func (a *analyzer) condition(s *scope, e int32) {
	if a.tautology(s, e) {
		return
	}
	for _, o := range s.origins {
		if o.read != nil {
			o.read.conditions++
		}
	}
}
