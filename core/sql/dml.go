package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// dml takes INSERT, UPDATE, DELETE or MERGE and gives the columns of its RETURNING.
func (a *analyzer) dml(parent *scope, n int32) []column {
	s := &scope{parent: parent}
	if w := a.kid(n, "opt_with_clause"); w != 0 && !a.empty(w) {
		a.with(s, a.kid(w, "with_clause"))
	}
	switch a.name(n) {
	case "InsertStmt":
		return a.insert(s, n)
	case "UpdateStmt":
		return a.update(s, n)
	case "DeleteStmt":
		return a.delete(s, n)
	case "MergeStmt":
		return a.merge(s, n)
	}
	a.refuse("%s", a.name(n))
	return nil
}

// target resolves the table or view that a command writes.
func (a *analyzer) target(q int32) *schema.Relation {
	r := a.queried(q)
	switch {
	case r.System:
		a.refuse("writing to a system catalog")
	case r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'f' && r.Kind != 'v':
		a.fail("42809", q, "cannot change %q", r.Name.Name)
	case temporaryView(r):
		a.refuse("writing through %s, which is a temporary view: name the table", r.Name.Name)
	}
	return r
}

// table is a target of a command that takes no view. No rule rewrites it.
func (a *analyzer) table(q int32) *schema.Relation {
	r := a.target(q)
	if r.Kind == 'v' {
		a.fail("42809", q, "%q is a view", r.Name.Name)
	}
	return r
}

func (a *analyzer) own(r *schema.Relation, alias, via string) *origin {
	o := &origin{alias: alias, relation: r, via: via, columns: a.copies(r, via)}
	if alias == "" {
		o.alias, o.schema = r.Name.Name, r.Name.Namespace
	}
	return o
}

// returns says whether a command has RETURNING.
func (a *analyzer) returns(n int32) bool {
	k := a.kid(n, "returning_clause")
	return k != 0 && !a.empty(k)
}

func (a *analyzer) returning(s *scope, n int32, r *schema.Relation, op *operation) []column {
	if !a.returns(n) {
		return nil
	}
	k := a.kid(n, "returning_clause")
	op.Attrs |= abi.Returning
	return a.targets(a.changed(s, a.kid(k, "returning_with_clause"), r), a.kid(k, "target_list"), false)
}

func (a *analyzer) insert(s *scope, n int32) []column {
	t := a.kid(n, "insert_target")
	r := a.target(a.kid(t, "qualified_name"))
	alias := ""
	if c := a.kid(t, "ColId"); c != 0 {
		alias = a.ident(c)
	}
	op := a.change("insert", r, a.via)
	rest := a.kid(n, "insert_rest")
	listed := a.insertColumns(rest, r)
	width := 0
	if q := a.kid(rest, "SelectStmt"); q != 0 {
		cols := a.query(s, q)
		width = len(cols)
		for _, c := range cols {
			a.use(c, abi.UseComputed)
		}
		if width > len(listed) {
			a.fail("42601", rest, "INSERT has more expressions than target columns")
		}
	}
	if a.kid(rest, "insert_column_list") == 0 && width > 0 {
		listed = listed[:width]
	} else if width == 0 {
		listed = nil // DEFAULT VALUES
	}
	for _, name := range listed {
		a.writes(op, r, name)
	}
	var mine *origin
	c := a.kid(n, "opt_on_conflict")
	if !a.empty(c) || a.returns(n) {
		mine = a.own(r, alias, a.via)
	}
	if !a.empty(c) {
		a.conflict(s, c, r, mine, a.returns(n))
	}
	a.effects(t, write{op: op, event: 'i', relation: r, columns: listed, word: a.find(rest, "DEFAULT") != 0, returning: a.returns(n)})
	s.origins = []*origin{mine}
	return a.returning(s, n, r, op)
}

// insertColumns gives the columns that an insert lists; all where it lists none.
func (a *analyzer) insertColumns(n int32, r *schema.Relation) (names []string) {
	l := a.kid(n, "insert_column_list")
	if l == 0 {
		for _, c := range r.Columns {
			names = append(names, c.Name)
		}
		return names
	}
	for _, item := range a.list(l, "insert_column_item") {
		name := a.ident(a.kid(item, "ColId"))
		a.known(r, item, name)
		a.partOf(&scope{}, item, r, name)
		names = append(names, name)
	}
	return names
}

// conflict takes ON CONFLICT, which reads the key's columns, and DO UPDATE,
// which is an update of its own.
func (a *analyzer) conflict(s *scope, n int32, r *schema.Relation, mine *origin, returning bool) {
	at := &scope{parent: s, origins: []*origin{mine}}
	if e := a.kid(n, "opt_conf_expr"); !a.empty(e) {
		if p := a.kid(e, "index_params"); p != 0 {
			for _, el := range a.list(p, "index_elem") {
				switch c := a.kid(el, "ColId"); {
				case c != 0:
					a.known(r, el, a.ident(c))
					a.use(mine.named(a.ident(c)), abi.UseCondition)
				case a.kid(el, "a_expr") != 0:
					a.expr(at, a.kid(el, "a_expr"), abi.UseCondition)
				default:
					a.expr(at, a.kid(el, "func_expr_windowless"), abi.UseCondition)
				}
			}
			if w := a.kid(e, "where_clause"); w != 0 && !a.empty(w) {
				a.expr(at, a.kid(w, "a_expr"), abi.UseCondition)
			}
		} else {
			a.arbiter(e, r, mine)
		}
	}
	if a.kid(n, "set_clause_list") == 0 {
		return
	}
	excluded := &origin{alias: "excluded"}
	for _, c := range mine.columns {
		// The server asks for the right to read the column that it stands for.
		excluded.columns = append(excluded.columns, column{name: c.name, computed: c.copies, other: true})
	}
	at.origins = append(at.origins, excluded)
	op := a.change("update", r, a.via)
	written, parts := a.assign(at, a.kid(n, "set_clause_list"), r, op)
	if w := a.kid(n, "where_clause"); w != 0 && !a.empty(w) {
		a.expr(at, a.kid(w, "a_expr"), abi.UseCondition)
	}
	a.effects(n, write{op: op, event: 'u', relation: r, columns: written, parts: parts, word: a.find(n, "DEFAULT") != 0, returning: returning})
}

// arbiter takes ON CONFLICT ON CONSTRAINT, which reads its columns too.
func (a *analyzer) arbiter(n int32, r *schema.Relation, mine *origin) {
	name := a.ident(a.kid(n, "name"))
	for _, i := range r.Indexes {
		if i.Name != name {
			continue
		}
		for _, num := range i.Columns {
			if c := r.ColumnAt(num); c != nil {
				a.use(mine.named(c.Name), abi.UseCondition)
			}
		}
		return
	}
	a.fail("42704", n, "constraint %q for table %q does not exist", name, r.Name.Name)
}

// writes notes that a column is written, and what its type makes of a value.
func (a *analyzer) writes(op *operation, r *schema.Relation, name string) {
	a.add(op, name, abi.UseWritten)
	a.casts(r.Column(name).Type)
}

func (a *analyzer) known(r *schema.Relation, n int32, column string) {
	if r.Column(column) == nil {
		a.fail("42703", n, "column %q of relation %q does not exist", column, r.Name.Name)
	}
}

// assign takes the SET list and gives the columns that are written, and those of
// them of which a part is.
func (a *analyzer) assign(s *scope, list int32, r *schema.Relation, op *operation) (written, parts []string) {
	mark := func(t int32) {
		name := a.ident(a.kid(t, "ColId"))
		a.known(r, t, name)
		a.writes(op, r, name)
		if a.partOf(s, t, r, name) {
			parts = append(parts, name)
		}
		written = append(written, name)
	}
	for _, c := range a.list(list, "set_clause") {
		if t := a.kid(c, "set_target"); t != 0 {
			mark(t)
		} else {
			for _, t := range a.list(a.kid(c, "set_target_list"), "set_target") {
				mark(t)
			}
		}
		a.expr(s, a.kid(c, "a_expr"), abi.UseComputed)
	}
	if a.find(list, "DEFAULT") != 0 { // SET column = DEFAULT
		for _, name := range written {
			a.expression(r, r.Column(name).Default)
		}
	}
	return written, parts
}

func (a *analyzer) targetAlias(n int32) (q int32, alias string) {
	re := a.kid(n, "relation_expr_opt_alias")
	if c := a.kid(re, "ColId"); c != 0 {
		alias = a.ident(c)
	}
	return a.find(re, "qualified_name"), alias
}

func (a *analyzer) update(s *scope, n int32) []column {
	q, alias := a.targetAlias(n)
	r := a.target(q)
	op := a.change("update", r, a.via)
	mine := a.own(r, alias, a.via)
	s.origins = []*origin{mine}
	if f := a.kid(n, "from_clause"); !a.empty(f) {
		a.from(s, a.kid(f, "from_list"))
	}
	written, parts := a.assign(s, a.kid(n, "set_clause_list"), r, op)
	a.where(s, n, r, mine, op)
	a.effects(q, write{op: op, event: 'u', relation: r, columns: written, parts: parts, attrs: op.Attrs & (abi.HasWhere | abi.WhereKey), word: a.find(a.kid(n, "set_clause_list"), "DEFAULT") != 0, returning: a.returns(n)})
	return a.returning(s, n, r, op)
}

func (a *analyzer) delete(s *scope, n int32) []column {
	q, alias := a.targetAlias(n)
	r := a.target(q)
	op := a.change("delete", r, a.via)
	mine := a.own(r, alias, a.via)
	s.origins = []*origin{mine}
	if u := a.kid(n, "using_clause"); !a.empty(u) {
		a.from(s, a.kid(u, "from_list"))
	}
	a.where(s, n, r, mine, op)
	a.effects(q, write{op: op, event: 'd', relation: r, attrs: op.Attrs & (abi.HasWhere | abi.WhereKey), returning: a.returns(n)})
	return a.returning(s, n, r, op)
}

// merge takes MERGE as the insert, update and delete that it may do. None of
// them has a condition of its own: how many rows the join hits is not known.
func (a *analyzer) merge(s *scope, n int32) []column {
	q, alias := a.targetAlias(n)
	r := a.target(q)
	mine := a.own(r, alias, a.via)
	from := a.tableRef(s, a.kid(n, "table_ref"))
	s.origins = append([]*origin{mine}, from...)
	a.expr(s, a.kid(n, "a_expr"), abi.UseCondition)
	a.touch("select", r, a.via, abi.EffectRead) // which rows there are, whatever the condition names: the server wants the right to read
	var ops []*operation
	for _, w := range a.list(a.kid(n, "merge_when_list"), "merge_when_clause") {
		if c := a.kid(w, "opt_merge_when_condition"); !a.empty(c) {
			a.expr(s, a.kid(c, "a_expr"), abi.UseCondition)
		}
		if k := a.kid(w, "merge_update"); k != 0 {
			op := a.change("update", r, a.via)
			written, parts := a.assign(s, a.kid(k, "set_clause_list"), r, op)
			a.effects(q, write{op: op, event: 'u', relation: r, columns: written, parts: parts, word: a.find(k, "DEFAULT") != 0, returning: a.returns(n)})
			ops = append(ops, op)
		}
		if a.kid(w, "merge_delete") != 0 {
			op := a.change("delete", r, a.via)
			ops = append(ops, op)
			a.effects(q, write{op: op, event: 'd', relation: r, returning: a.returns(n)})
		}
		if k := a.kid(w, "merge_insert"); k != 0 {
			op := a.change("insert", r, a.via)
			var values []column // none with DEFAULT VALUES
			if v := a.kid(k, "merge_values_clause"); v != 0 {
				values = a.row(&scope{parent: s.parent, ctes: s.ctes, origins: from}, a.kid(v, "expr_list"))
			}
			for _, c := range values {
				a.use(c, abi.UseComputed)
			}
			listed := a.insertColumns(k, r)
			listed = listed[:min(len(values), len(listed))]
			for _, name := range listed {
				a.writes(op, r, name)
			}
			a.effects(q, write{op: op, event: 'i', relation: r, columns: listed, word: a.find(k, "DEFAULT") != 0, returning: a.returns(n)})
			ops = append(ops, op)
		}
	}
	if len(ops) == 0 { // DO NOTHING alone only reads
		ops = append(ops, a.touch("select", r, a.via, abi.EffectRead))
	}
	s.origins = append(from, mine) // the order in which RETURNING * has them
	return a.returning(s, n, r, ops[0])
}

// where takes the condition of an UPDATE or DELETE.
func (a *analyzer) where(s *scope, n int32, r *schema.Relation, mine *origin, op *operation) {
	w := a.kid(n, "where_or_current_clause")
	if a.empty(w) {
		return
	}
	e := a.kid(w, "a_expr")
	if e == 0 {
		a.positioned(n, r, a.ident(a.kid(w, "cursor_name")))
		op.Attrs |= abi.HasWhere
		return
	}
	a.restrict(s, e)
	if a.tautology(s, e) {
		return
	}
	op.Attrs |= abi.HasWhere
	k := key{mine: mine, alone: len(s.origins) == 1, fixed: map[string]bool{}}
	a.equalities(e, &k)
	if !a.keyed(r, a.find(a.kid(n, "relation_expr_opt_alias"), "ONLY") != 0, k.fixed) {
		return
	}
	op.Attrs |= abi.WhereKey
	for _, e := range k.edits {
		if a.via == "" && !a.edited(e) {
			a.edits = append(a.edits, e)
		}
	}
}

// positioned takes WHERE CURRENT OF: the row is the one that a cursor stands on, and
// what its query reads is read for this too. It is one row, but none that the text
// names by a key.
func (a *analyzer) positioned(n int32, r *schema.Relation, cursor string) {
	switch {
	case n != a.outer || cursor == "":
		a.refuse("WHERE CURRENT OF within another statement")
	case r.Kind != 'r' && r.Kind != 'p' || len(r.Rules) > 0:
		a.refuse("WHERE CURRENT OF of %s, which is no plain table", r.Name.Name)
	}
	a.current, a.beyond = cursor, true // nobody but the session has the cursor
}

// defaults reads the expressions that the server fills in by itself: those of
// columns that are not given, and of all where the word DEFAULT is in the text.
func (a *analyzer) defaults(r *schema.Relation, given []string, word bool) {
	for _, c := range r.Columns {
		if c.Generated == 0 && (word || !slices.Contains(given, c.Name)) {
			a.expression(r, c.Default)
		}
	}
}

// expression reads a text of the server's own for the functions that it calls.
func (a *analyzer) expression(r *schema.Relation, text string) {
	if text == "" {
		return
	}
	t, err := a.g.Parse("SELECT " + text)
	if err != nil {
		a.refuse("a default that is not understood: %s", text)
	}
	inner := a.within_(t, "default")
	inner.evaluate(r)
	for _, o := range inner.ops.list {
		if o.Kind == abi.KindFunction {
			a.other(o.Operation)
		}
	}
}
