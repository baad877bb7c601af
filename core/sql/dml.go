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
	r := a.relation(q)
	switch {
	case r.System:
		a.refuse("writing to a system catalog")
	case r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'f' && r.Kind != 'v':
		a.fail("42809", q, "cannot change %q", r.Name.Name)
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

func own(r *schema.Relation, alias, via string) *origin {
	o := &origin{alias: alias}
	if alias == "" {
		o.alias, o.schema = r.Name.Name, r.Name.Namespace
	}
	for _, c := range r.Columns {
		o.columns = append(o.columns, column{name: c.Name, copies: []source{{r, c.Name, via, false}}})
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
	if r.Kind == 'v' {
		a.behind(r)
	}
	return a.targets(a.changed(s, a.kid(k, "returning_with_clause"), r), a.kid(k, "target_list"))
}

func (a *analyzer) insert(s *scope, n int32) []column {
	t := a.kid(n, "insert_target")
	r := a.target(a.kid(t, "qualified_name"))
	alias := ""
	if c := a.kid(t, "ColId"); c != 0 {
		alias = a.ident(c)
	}
	op := a.touch("insert", r, a.via, abi.EffectWrite)
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
		op.add(name, abi.UseWritten|a.tested(r, name))
	}
	own_ := own(r, alias, a.via)
	if c := a.kid(n, "opt_on_conflict"); !a.empty(c) {
		a.conflict(s, c, r, own_, a.returns(n))
	}
	a.effects(t, write{event: 'i', relation: r, columns: listed, word: a.find(rest, "DEFAULT") != 0, returning: a.returns(n)})
	s.origins = []*origin{own_}
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
		if i := a.kid(item, "opt_indirection"); i != 0 && !a.empty(i) {
			a.refuse("an insert into a part of a column")
		}
		name := a.ident(a.kid(item, "ColId"))
		a.known(r, item, name)
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
				c := a.kid(el, "ColId")
				if c == 0 {
					a.refuse("ON CONFLICT over an expression")
				}
				a.known(r, el, a.ident(c))
				a.read(source{r, a.ident(c), a.via, false}, abi.UseCondition)
			}
			if w := a.kid(e, "where_clause"); w != 0 && !a.empty(w) {
				a.expr(at, a.kid(w, "a_expr"), abi.UseCondition)
			}
		}
	}
	if a.kid(n, "set_clause_list") == 0 {
		return
	}
	excluded := &origin{alias: "excluded"}
	for _, c := range r.Columns {
		excluded.columns = append(excluded.columns, column{name: c.Name, other: true})
	}
	at.origins = append(at.origins, excluded)
	op := a.touch("update", r, a.via, abi.EffectWrite)
	written := a.assign(at, a.kid(n, "set_clause_list"), r, op)
	if w := a.kid(n, "where_clause"); w != 0 && !a.empty(w) {
		a.expr(at, a.kid(w, "a_expr"), abi.UseCondition)
	}
	a.effects(n, write{event: 'u', relation: r, columns: written, word: a.find(n, "DEFAULT") != 0, returning: returning})
}

func (a *analyzer) known(r *schema.Relation, n int32, column string) {
	if r.Column(column) == nil {
		a.fail("42703", n, "column %q of relation %q does not exist", column, r.Name.Name)
	}
}

// assign takes the SET list and gives the columns that are written.
func (a *analyzer) assign(s *scope, list int32, r *schema.Relation, op *operation) (written []string) {
	mark := func(t int32) {
		if i := a.kid(t, "opt_indirection"); i != 0 && !a.empty(i) {
			a.refuse("an assignment to a part of a column")
		}
		name := a.ident(a.kid(t, "ColId"))
		a.known(r, t, name)
		op.add(name, abi.UseWritten|a.tested(r, name))
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
	a.filled(r, written, a.find(list, "DEFAULT") != 0)
	return written
}

// filled reads what the server computes by itself in an update: generated
// columns, and the default of a column where the word says so.
func (a *analyzer) filled(r *schema.Relation, written []string, word bool) {
	for _, c := range r.Columns {
		if c.Generated != 0 || word && c.Default != "" && slices.Contains(written, c.Name) {
			a.expression(c.Default)
		}
	}
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
	op := a.touch("update", r, a.via, abi.EffectWrite)
	mine := own(r, alias, a.via)
	s.origins = []*origin{mine}
	if f := a.kid(n, "from_clause"); !a.empty(f) {
		s.star = mine.star()
		a.from(s, a.kid(f, "from_list"))
	}
	written := a.assign(s, a.kid(n, "set_clause_list"), r, op)
	a.where(s, a.kid(n, "where_or_current_clause"), r, mine, op)
	a.effects(q, write{event: 'u', relation: r, columns: written, attrs: op.Attrs & (abi.HasWhere | abi.WhereKey), word: a.find(a.kid(n, "set_clause_list"), "DEFAULT") != 0, returning: a.returns(n)})
	return a.returning(s, n, r, op)
}

func (a *analyzer) delete(s *scope, n int32) []column {
	q, alias := a.targetAlias(n)
	r := a.target(q)
	op := a.touch("delete", r, a.via, abi.EffectWrite)
	mine := own(r, alias, a.via)
	s.origins = []*origin{mine}
	if u := a.kid(n, "using_clause"); !a.empty(u) {
		s.star = mine.star()
		a.from(s, a.kid(u, "from_list"))
	}
	a.where(s, a.kid(n, "where_or_current_clause"), r, mine, op)
	a.effects(q, write{event: 'd', relation: r, attrs: op.Attrs & (abi.HasWhere | abi.WhereKey), returning: a.returns(n)})
	return a.returning(s, n, r, op)
}

// merge takes MERGE as the insert, update and delete that it may do. None of
// them has a condition of its own: how many rows the join hits is not known.
func (a *analyzer) merge(s *scope, n int32) []column {
	q, alias := a.targetAlias(n)
	r := a.target(q)
	mine := own(r, alias, a.via)
	from, star := a.tableRef(s, a.kid(n, "table_ref"))
	s.origins = append([]*origin{mine}, from...)
	a.expr(s, a.kid(n, "a_expr"), abi.UseCondition)
	var ops []*operation
	for _, w := range a.list(a.kid(n, "merge_when_list"), "merge_when_clause") {
		if c := a.kid(w, "opt_merge_when_condition"); !a.empty(c) {
			a.expr(s, a.kid(c, "a_expr"), abi.UseCondition)
		}
		if k := a.kid(w, "merge_update"); k != 0 {
			op := a.touch("update", r, a.via, abi.EffectWrite)
			written := a.assign(s, a.kid(k, "set_clause_list"), r, op)
			a.effects(q, write{event: 'u', relation: r, columns: written, word: a.find(k, "DEFAULT") != 0, returning: a.returns(n)})
			ops = append(ops, op)
		}
		if a.kid(w, "merge_delete") != 0 {
			ops = append(ops, a.touch("delete", r, a.via, abi.EffectWrite))
			a.effects(q, write{event: 'd', relation: r, returning: a.returns(n)})
		}
		if k := a.kid(w, "merge_insert"); k != 0 {
			op := a.touch("insert", r, a.via, abi.EffectWrite)
			var values []int32 // none with DEFAULT VALUES
			if v := a.kid(k, "merge_values_clause"); v != 0 {
				values = a.list(a.kid(v, "expr_list"), "a_expr")
			}
			for _, e := range values {
				a.expr(s, e, abi.UseComputed)
			}
			listed := a.insertColumns(k, r)
			listed = listed[:min(len(values), len(listed))]
			for _, name := range listed {
				op.add(name, abi.UseWritten|a.tested(r, name))
			}
			a.effects(q, write{event: 'i', relation: r, columns: listed, word: a.find(k, "DEFAULT") != 0, returning: a.returns(n)})
			ops = append(ops, op)
		}
	}
	if len(ops) == 0 { // DO NOTHING alone only reads
		ops = append(ops, a.touch("select", r, a.via, abi.EffectRead))
	}
	s.star = append(star, mine.star()...) // the order in which RETURNING * has them
	return a.returning(s, n, r, ops[0])
}

// where takes the condition of an UPDATE or DELETE.
func (a *analyzer) where(s *scope, n int32, r *schema.Relation, mine *origin, op *operation) {
	if a.empty(n) {
		return
	}
	e := a.kid(n, "a_expr")
	if e == 0 {
		a.refuse("WHERE CURRENT OF")
	}
	a.expr(s, e, abi.UseCondition)
	if a.tautology(e) {
		return
	}
	op.Attrs |= abi.HasWhere
	fixed := map[string]bool{}
	a.equalities(e, mine, s, fixed)
	if a.keyed(r, fixed) {
		op.Attrs |= abi.WhereKey
	}
}

// equalities finds the columns of the target that the condition fixes to a
// constant or parameter, along its ANDs.
func (a *analyzer) equalities(n int32, mine *origin, s *scope, fixed map[string]bool) {
	leaf := a.through(n)
	switch r := a.rule(leaf); {
	case a.name(leaf) == "c_expr" && a.kid(leaf, "a_expr") != 0:
		a.equalities(a.kid(leaf, "a_expr"), mine, s, fixed)
	case a.name(leaf) != "a_expr" || len(r) != 4:
	case r[2] == "AND":
		first := a.t.Nodes[leaf].First
		a.equalities(first, mine, s, fixed)
		a.equalities(a.t.Nodes[a.t.Nodes[first].Next].Next, mine, s, fixed)
	case r[2] == "'='":
		left := a.t.Nodes[leaf].First
		right := a.t.Nodes[a.t.Nodes[left].Next].Next
		for range 2 {
			ref := a.through(left)
			if a.name(ref) == "columnref" && a.find(right, "COLLATE") == 0 && a.find(right, "columnref") == 0 && a.find(right, "select_with_parens") == 0 && a.find(right, "func_application") == 0 {
				names, star, plain := a.parts(ref)
				if plain && !star && len(names) <= 2 && (len(names) == 1 && len(s.origins) == 1 || len(names) == 2 && names[0] == mine.alias) {
					fixed[names[len(names)-1]] = true
				}
			}
			left, right = right, left
		}
	}
}

// tested says whether the success of writing a column depends on other rows.
func (a *analyzer) tested(r *schema.Relation, name string) abi.Use {
	if r.Kind == 'v' {
		if base, names := a.base(r); base != nil && names[name] != "" {
			return a.tested(base, names[name])
		}
		return 0
	}
	c := r.Column(name)
	for _, i := range r.Indexes {
		if (i.Unique || i.Exclusion) && (i.Expression || slices.Contains(i.Columns, c.Num)) {
			return abi.UseTested
		}
	}
	for _, f := range r.References {
		if slices.Contains(f.FromColumns, c.Num) {
			return abi.UseTested
		}
	}
	return 0
}

// defaults reads the expressions that the server fills in by itself: those of
// columns that are not given, and of all where the word DEFAULT is in the text.
func (a *analyzer) defaults(r *schema.Relation, given []string, word bool) {
	for _, c := range r.Columns {
		if c.Generated != 0 || c.Default != "" && (word || !slices.Contains(given, c.Name)) {
			a.expression(c.Default)
		}
	}
}

// expression reads a text of the server's own for the functions it calls. The
// next value of a sequence, as a default asks for it, is part of the insert.
func (a *analyzer) expression(text string) {
	t, err := a.g.Parse("SELECT " + text)
	if err != nil {
		a.refuse("a default that is not understood: %s", text)
	}
	for i := range t.Nodes {
		if i == 0 || a.g.Names[t.Nodes[i].Sym] != "func_application" {
			continue
		}
		inner := *a
		inner.t, inner.path, inner.via, inner.edits = t, nil, "default", nil
		parts, _, _ := inner.parts(inner.kid(int32(i), "func_name"))
		inner.candidates(int32(i), parts, -1, func(f *schema.Function) bool { return f.System && f.Name.Name == "nextval" })
		a.order = inner.order
	}
}

// triggers adds what triggers run: their functions may do anything.
func (a *analyzer) triggers(r *schema.Relation, event byte, columns []string) {
	for _, t := range r.Triggers {
		fires := t.On(event)
		if event == 'u' && t.Update {
			fires = len(t.Columns) == 0
			for _, num := range t.Columns {
				c := r.ColumnAt(num)
				fires = fires || c == nil || slices.Contains(columns, c.Name)
			}
			// A BEFORE trigger may change what an UPDATE OF watches.
			fires = fires || len(t.Columns) > 0 && len(r.Triggers) > 1
		}
		if !fires {
			continue
		}
		op := abi.Operation{Verb: "call", Kind: abi.KindFunction, Effect: abi.EffectWrite, Value: t.SourceHash,
			Via: "trigger " + r.Name.Namespace + "." + r.Name.Name + "." + t.Name}
		if f := a.c.Schema.Functions[t.Function]; f != nil {
			op.Object = f.Name.Parts()
		}
		a.other(op)
	}
}

// cascade adds what foreign keys make the server do to other tables, and what
// that does in turn.
func (a *analyzer) cascade(r *schema.Relation, event byte, written []string, seen []string) {
	for _, f := range r.Referenced {
		from := a.c.Schema.Relations[f.From]
		action := f.OnDelete
		if event == 'u' {
			action = f.OnUpdate
			touched := false
			for _, num := range f.ToColumns {
				c := r.ColumnAt(num)
				touched = touched || c == nil || slices.Contains(written, c.Name)
			}
			if !touched {
				continue
			}
		}
		if action == 'a' || action == 'r' {
			continue
		}
		if from == nil {
			a.refuse("a foreign key of a table that is not known")
		}
		via := "fk " + from.Name.Namespace + "." + from.Name.Name + "." + f.Name
		if slices.Contains(seen, via+string(event)) {
			continue
		}
		next := append(slices.Clone(seen), via+string(event))
		if len(from.Rules) > 0 {
			a.refuse("a foreign key of %s, which has rules", from.Name.Name)
		}
		if action == 'c' && event == 'd' {
			a.touch("delete", from, via, abi.EffectWrite)
			a.triggers(from, 'd', nil)
			a.cascade(from, 'd', nil, next)
			a.children(from, 'd', nil, next)
			continue
		}
		op := a.touch("update", from, via, abi.EffectWrite)
		var changed []string
		for _, num := range f.FromColumns {
			if c := from.ColumnAt(num); c != nil {
				op.add(c.Name, abi.UseWritten)
				changed = append(changed, c.Name)
			}
		}
		a.filled(from, changed, action == 'd')
		a.triggers(from, 'u', changed)
		a.cascade(from, 'u', changed, next)
		a.children(from, 'u', changed, next)
	}
}
