package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// table is one that is being made or changed.
type table struct {
	op   *operation
	name schema.Name
	is   *schema.Relation // nil while it is being made
	s    *scope           // its columns, for expressions
	new  *origin          // those that are new
	only bool             // and not those that inherit from it
}

// has adds a column that is new.
func (t *table) has(name string) {
	if !slices.ContainsFunc(t.new.columns, func(c column) bool { return c.name == name }) {
		t.new.columns = append(t.new.columns, column{name: name, other: true})
	}
}

// createTable takes CREATE TABLE.
func (a *analyzer) createTable(n int32) []schema.Name {
	if a.kid(n, "OF") != 0 && a.kid(n, "PARTITION") == 0 {
		a.refuse("CREATE TABLE … OF a type")
	}
	a.only(n, "CREATE TABLE", "OptTemp", "qualified_name", "OptTableElementList", "OptInherit", "OptPartitionSpec", "OptWith", "OnCommitOption", "PartitionBoundSpec")
	var parent int32
	q := a.kid(n, "qualified_name")
	t := &table{name: a.makes(n, q), new: &origin{}}
	if a.kid(n, "PARTITION") != 0 && a.kid(n, "PartitionBoundSpec") != 0 {
		for c := a.t.Nodes[q].Next; c != 0; c = a.t.Nodes[c].Next {
			if a.name(c) == "qualified_name" {
				parent = c
			}
		}
	}
	t.op = a.on("create_table", abi.KindRelation, t.name.Parts(), "")
	t.new.alias, t.new.schema = t.name.Name, t.name.Namespace
	t.s = &scope{origins: []*origin{t.new}}
	parents := a.list(a.find(a.kid(n, "OptInherit"), "qualified_name_list"), "qualified_name")
	if parent != 0 {
		parents = append(parents, parent)
	}
	for _, q := range parents {
		p := a.relation(q)
		a.childOf(t.name, p)
		a.alters("alter_table", p)
		for _, c := range p.Columns {
			t.has(c.Name)
		}
		if parent != 0 { // rows of the default partition are looked at
			a.keyOf(p)
			a.bounds(a.kid(n, "PartitionBoundSpec"))
		}
	}
	elements := a.list(a.find(a.kid(n, "OptTableElementList"), "TableElementList"), "TableElement")
	for _, e := range elements {
		if d := a.kid(e, "columnDef"); d != 0 {
			t.has(a.ident(a.kid(d, "ColId")))
		}
	}
	for _, e := range elements {
		switch k := a.t.Nodes[e].First; a.name(k) {
		case "columnDef":
			a.columnDef(t, k)
		case "TableConstraint":
			a.constraint(t, k)
		case "TableLikeClause":
			a.like(t, k)
		default:
			a.refuse("%s in CREATE TABLE", strings.ToLower(a.text(k)))
		}
	}
	if spec := a.find(a.kid(n, "OptPartitionSpec"), "PartitionSpec"); spec != 0 {
		for _, e := range a.list(a.kid(spec, "part_params"), "part_elem") {
			if a.kid(e, "ColId") == 0 {
				a.refuse("PARTITION BY an expression")
			}
			a.only(e, "PARTITION BY", "ColId", "opt_collate")
		}
	}
	return []schema.Name{t.name}
}

// like takes LIKE, which copies how a table is made. What the copy would compute
// with its rows is refused, since nobody has written it there to be judged.
func (a *analyzer) like(t *table, n int32) {
	r := a.queried(a.kid(n, "qualified_name"))
	if r.Kind != 'r' && r.Kind != 'p' {
		a.refuse("CREATE TABLE (LIKE %s), which is no table", r.Name.Name)
	}
	a.touch("select", r, "", abi.EffectRead)
	var defaults []string
	for _, c := range r.Columns {
		if t.has(c.Name); !a.plainType(c.Type) {
			a.refuse("CREATE TABLE (LIKE %s): the type of its column %s is made by users", r.Name.Name, c.Name)
		}
		a.casts(c.Type)
		if c.Identity != 0 {
			a.numbered(t, c.Name)
		}
		if c.Default != "" && c.Generated == 0 && !strings.HasPrefix(c.Default, "nextval(") && a.includes(n, "all", "defaults") != "" { // a row of the copy shows it
			defaults = append(defaults, c.Name)
		}
		if c.Generated != 0 && a.kid(n, "TableLikeOptionList") != 0 {
			a.unlikely(n, r, "all", "generated")
		}
	}
	for _, c := range a.own(r, "", "").columns {
		if slices.Contains(defaults, c.name) {
			a.use(c, abi.UseComputed)
		}
	}
	if len(r.Checks) > 0 {
		a.unlikely(n, r, "all", "constraints")
	}
	if slices.ContainsFunc(r.Indexes, func(x schema.Index) bool { return x.Exprs != "" || x.Predicate != "" }) {
		a.unlikely(n, r, "all", "indexes")
	}
}

// unlikely refuses the options by which LIKE would copy what computes.
func (a *analyzer) unlikely(n int32, r *schema.Relation, options ...string) {
	if w := a.includes(n, options...); w != "" {
		a.refuse("CREATE TABLE (LIKE %s INCLUDING %s), whose rows compute something: write it out", r.Name.Name, strings.ToUpper(w))
	}
}

// includes gives the first of some options that a LIKE names.
func (a *analyzer) includes(n int32, options ...string) string {
	for i := a.t.Nodes[n].From; i < a.t.Nodes[n].To; i++ {
		if w := strings.ToLower(a.t.Tokens[i].Value); slices.Contains(options, w) {
			return w
		}
	}
	return ""
}

// bounds reads the constants of FOR VALUES.
func (a *analyzer) bounds(n int32) {
	for c := a.t.Nodes[n].First; c != 0; c = a.t.Nodes[c].Next {
		for _, e := range a.list(c, "a_expr") {
			leaf := a.through(e)
			if a.name(leaf) == "columnref" { // MINVALUE and MAXVALUE
				if names, _, _ := a.parts(leaf); len(names) == 1 && (strings.EqualFold(names[0], "minvalue") || strings.EqualFold(names[0], "maxvalue")) {
					continue
				}
			}
			a.expr(&scope{}, e, abi.UseComputed)
		}
	}
}

// keyOf marks the partition key of a table as tested: whether rows fit tells of
// them.
func (a *analyzer) keyOf(r *schema.Relation) {
	op := a.alters("alter_table", r)
	nums := r.PartitionKey
	if slices.Contains(nums, 0) {
		nums = nil
		for _, c := range r.Columns {
			nums = append(nums, c.Num)
		}
	}
	a.test(op, r, nums)
}

// createTableAs takes CREATE TABLE … AS: what is copied into a table is no
// longer what a mask is for.
func (a *analyzer) createTableAs(n int32) []schema.Name {
	target := a.kid(n, "create_as_target")
	a.only(target, "CREATE TABLE … AS", "qualified_name", "opt_column_list", "OptWith", "OnCommitOption")
	name := a.makes(n, a.kid(target, "qualified_name"))
	a.on("create_table", abi.KindRelation, name.Parts(), "")
	a.keep(a.kid(n, "SelectStmt"))
	return []schema.Name{name}
}

// keep reads a query whose rows, or whose text, are kept.
func (a *analyzer) keep(q int32) {
	a.keeping = true
	defer func() { a.keeping = false }()
	for _, c := range a.query(nil, q) {
		a.use(c, abi.UseComputed)
	}
}

// createView takes CREATE VIEW.
func (a *analyzer) createView(n int32) []schema.Name {
	if a.kid(n, "RECURSIVE") != 0 {
		a.refuse("CREATE RECURSIVE VIEW: write WITH RECURSIVE in its query")
	}
	name := a.makes(n, a.kid(n, "qualified_name"))
	op := a.on("create_view", abi.KindRelation, name.Parts(), "")
	if r := a.c.Schema.RelationByName[name]; r != nil && a.kid(n, "REPLACE") != 0 {
		a.loses(op, r)
	}
	a.keep(a.kid(n, "SelectStmt"))
	return []schema.Name{name}
}

// columnDef takes the definition of one column.
func (a *analyzer) columnDef(t *table, n int32) (writes bool) {
	a.only(n, "a column", "ColId", "Typename", "opt_column_compression", "opt_column_storage", "ColQualList")
	a.columnType(a.kid(n, "Typename"), true)
	name := a.ident(a.kid(n, "ColId"))
	a.numbered(t, name)
	for _, c := range a.list(a.kid(n, "ColQualList"), "ColConstraint") {
		e := a.kid(c, "ColConstraintElem")
		if k := a.kid(c, "name"); k != 0 && a.rule(c)[1] == "CONSTRAINT" {
			a.renamed(t.name.Namespace, a.ident(k))
		}
		if e == 0 {
			continue // COLLATE, DEFERRABLE and their like
		}
		switch form := a.form(e); {
		case strings.HasPrefix(form, "NOT NULL_P"), form == "NULL_P":
		case strings.HasPrefix(form, "UNIQUE"), strings.HasPrefix(form, "PRIMARY KEY"):
			a.only(e, "a constraint", "opt_unique_null_treatment", "opt_definition")
		case strings.HasPrefix(form, "CHECK"):
			a.expr(t.s, a.kid(e, "a_expr"), abi.UseCondition)
		case strings.HasPrefix(form, "DEFAULT"):
			writes = true
			a.defaultOf(a.kid(e, "b_expr"))
		case strings.Contains(form, "IDENTITY_P"):
			writes = true
			a.sequenceOptions(a.find(e, "SeqOptList"))
		case strings.HasPrefix(form, "GENERATED"):
			writes = true
			a.expr(t.s, a.kid(e, "a_expr"), abi.UseComputed)
		case strings.HasPrefix(form, "REFERENCES"):
			a.references(t, e, []string{name})
		default:
			a.refuse("a constraint of the form %s", strings.ToLower(form))
		}
	}
	return writes
}

// numbered refuses a temporary table the sequence of whose column, if it numbers
// itself, would be called as something else.
func (a *analyzer) numbered(t *table, column string) {
	a.renamed(t.name.Namespace, t.name.Name+"_"+column+"_seq")
}

// constraint takes one that is written for a table.
func (a *analyzer) constraint(t *table, n int32) {
	e := a.kid(n, "ConstraintElem")
	if k := a.kid(n, "name"); k != 0 {
		a.renamed(t.name.Namespace, a.ident(k))
	}
	test := func(columns []string) {
		if t.is == nil {
			return
		}
		var nums []int16
		for _, name := range columns {
			if c := t.is.Column(name); c != nil {
				nums = append(nums, c.Num)
			}
		}
		a.test(t.op, t.is, nums)
	}
	switch form := a.form(e); {
	case strings.HasPrefix(form, "CHECK"):
		a.expr(t.s, a.kid(e, "a_expr"), abi.UseCondition)
	case strings.HasPrefix(form, "NOT NULL_P"):
		test([]string{a.ident(a.kid(e, "ColId"))})
	case strings.HasSuffix(form, "ExistingIndex ConstraintAttributeSpec"):
		if t.is == nil {
			a.refuse("a constraint by an index, of a table that is being made")
		}
		name := a.newName(a.kid(e, "ExistingIndex"))
		for i := range t.is.Indexes {
			if x := &t.is.Indexes[i]; x.Name == name {
				a.test(t.op, t.is, a.indexed(t.is, x))
			}
		}
	case strings.HasPrefix(form, "UNIQUE"), strings.HasPrefix(form, "PRIMARY KEY"):
		a.only(e, "a constraint", "columnList", "opt_unique_null_treatment", "opt_c_include", "opt_definition", "ConstraintAttributeSpec")
		test(a.columnList(a.kid(e, "columnList")))
	case strings.HasPrefix(form, "FOREIGN KEY"):
		columns := a.columnList(a.kid(e, "columnList"))
		test(columns)
		a.references(t, e, columns)
	default:
		a.refuse("a constraint of the form %s", strings.ToLower(form))
	}
}

func (a *analyzer) columnList(n int32) (names []string) {
	for _, c := range a.list(n, "columnElem") {
		names = append(names, a.ident(c))
	}
	return names
}

// references takes what a foreign key leads to: that table gets triggers of the
// server's own, and whether its rows can be removed depends on another from
// then on.
func (a *analyzer) references(t *table, n int32, columns []string) {
	if k := a.kid(n, "optionalPeriodName"); k != 0 && !a.empty(k) {
		a.refuse("a foreign key of a period")
	}
	q := a.kid(n, "qualified_name")
	if parts, _, plain := a.parts(q); plain && t.is == nil {
		name := schema.Name{Namespace: t.name.Namespace, Name: parts[len(parts)-1]}
		if name == t.name && (len(parts) == 1 || parts[len(parts)-2] == name.Namespace) && a.c.Schema.RelationByName[name] == nil {
			a.spellOut(q, name) // to itself
			return
		}
	}
	to := a.relation(q)
	if to.Kind != 'r' && to.Kind != 'p' {
		a.fail("42809", q, "referenced relation %q is not a table", to.Name.Name)
	}
	a.alters("alter_table", to)
	var nums []int16
	var named []string
	if list := a.kid(n, "opt_column_list"); list != 0 {
		named = a.columnList(a.kid(list, "columnList"))
	} else if list := a.kid(n, "opt_column_and_period_list"); list != 0 {
		named = a.columnList(a.kid(list, "columnList"))
	}
	for _, c := range to.Columns {
		if len(named) == 0 || slices.Contains(named, c.Name) {
			nums = append(nums, c.Num)
		}
	}
	if len(named) == 0 { // the primary key, which is one of its unique ones
		nums = nil
		for i := range to.Indexes {
			if x := &to.Indexes[i]; x.Unique && !x.Partial && !x.Expression && len(x.Columns) == len(columns) {
				nums = append(nums, x.Columns...)
			}
		}
	}
	a.test(a.touch("test", to, "fk "+t.name.Namespace+"."+t.name.Name, abi.EffectRead), to, nums)
}

// alterTable takes ALTER TABLE, all but renaming.
func (a *analyzer) alterTable(n int32) {
	missing := strings.Contains(a.form(n), "IF_P EXISTS")
	q := a.find(a.kid(n, "relation_expr"), "qualified_name")
	r, name := a.maybe(q, missing)
	if r == nil {
		a.refuse("ALTER TABLE IF EXISTS of %s, which does not exist", name.Name)
	}
	if r.Kind != 'r' && r.Kind != 'p' {
		a.refuse("ALTER TABLE of %s, which is no table", r.Name.Name)
	}
	t := &table{op: a.alters("alter_table", r), name: r.Name, is: r}
	mine := a.own(r, "", "")
	mine.columns = slices.Clone(mine.columns)
	t.s, t.new = &scope{origins: []*origin{mine}}, mine
	t.only = a.find(a.kid(n, "relation_expr"), "ONLY") != 0
	a.heirs(r, t.only, func(*operation, *schema.Relation) {})
	if p := a.kid(n, "partition_cmd"); p != 0 {
		a.partitionCommand(t, p)
		return
	}
	commands := a.list(a.kid(n, "alter_table_cmds"), "alter_table_cmd")
	for _, c := range commands {
		if d := a.kid(c, "columnDef"); d != 0 {
			t.has(a.ident(a.kid(d, "ColId")))
		}
	}
	for _, c := range commands {
		a.alterCommand(t, c)
	}
}

// partitionCommand takes ATTACH and DETACH: the rows of the partition are seen
// by another name, or no longer by the one that protects them.
func (a *analyzer) partitionCommand(t *table, n int32) {
	child := a.relation(a.kid(n, "qualified_name"))
	a.alters("alter_table", child)
	a.takes(child)
	if a.kid(n, "ATTACH") != 0 {
		a.gives(t.is, "rows")
		a.keyOf(t.is)
		a.bounds(a.kid(n, "PartitionBoundSpec"))
	}
}

// alterCommand takes one of the commands of an ALTER TABLE.
func (a *analyzer) alterCommand(t *table, n int32) {
	r, form := t.is, a.form(n)
	named := ""
	if c := a.kid(n, "ColId"); c != 0 {
		named = a.ident(c)
		if !strings.Contains(form, "IF_P EXISTS") && !slices.ContainsFunc(t.new.columns, func(c column) bool { return c.name == named }) {
			a.fail("42703", c, "column %q of relation %q does not exist", named, r.Name.Name)
		}
	}
	cascade := a.kid(n, "opt_drop_behavior") != 0 && a.find(n, "CASCADE") != 0
	switch verb, rest, _ := strings.Cut(form, " "); verb {
	case "ADD_P":
		if d := a.kid(n, "columnDef"); d != 0 {
			if a.columnDef(t, d) {
				a.rewritten(r)
			}
			return
		}
		a.constraint(t, a.kid(n, "TableConstraint"))
		return
	case "DROP":
		switch {
		case strings.HasPrefix(rest, "CONSTRAINT"):
		case named != "":
			a.loses(t.op, r, named)
		}
		seen := map[schema.OID]bool{}
		if cascade {
			a.cascades(t.op, r, named, seen)
		}
		a.heirs(r, t.only, func(op *operation, child *schema.Relation) {
			if named != "" && child.Column(named) != nil {
				a.loses(op, child, named)
			}
			if cascade {
				a.cascades(op, child, named, seen)
			}
		})
		return
	case "ALTER":
		rest = strings.TrimPrefix(rest, "opt_column ColId ")
		switch {
		case rest == "alter_column_default":
			if e := a.find(n, "a_expr"); e != 0 {
				a.defaultOf(e)
				a.gives(r, "default", named)
			}
			return
		case rest == "SET NOT NULL_P":
			if c := r.Column(named); c != nil {
				a.test(t.op, r, []int16{c.Num})
			}
			return
		case strings.HasPrefix(rest, "opt_set_data TYPE_P"):
			a.takes(r, named)
			a.loses(t.op, r, named)
			a.columnType(a.kid(n, "Typename"), false)
			if e := a.find(a.kid(n, "alter_using"), "a_expr"); e != 0 {
				a.expr(t.s, e, abi.UseComputed)
			}
			a.rewritten(r)
			return
		case strings.HasPrefix(rest, "DROP EXPRESSION"):
			a.takes(r, named)
			return
		case strings.HasPrefix(rest, "ADD_P GENERATED"):
			a.numbered(t, named)
			a.sequenceOptions(a.find(n, "SeqOptList"))
			return
		case rest == "alter_identity_column_option_list":
			a.sequenceOptions(a.find(n, "SeqOptList"))
			return
		case rest == "DROP NOT NULL_P", strings.HasPrefix(rest, "DROP IDENTITY_P"), strings.HasPrefix(rest, "SET STATISTICS"), strings.HasPrefix(rest, "SET STORAGE"),
			rest == "SET column_storage", rest == "SET column_compression", rest == "SET reloptions", rest == "RESET reloptions":
			return
		case form == "ALTER CONSTRAINT name ConstraintAttributeSpec":
			if strings.Contains(strings.ToUpper(a.text(n)), "ENFORCED") { // the server looks at all rows once it is
				a.validates(t, a.newName(n))
			}
			return
		}
	case "VALIDATE":
		a.validates(t, a.newName(n))
		return
	case "INHERIT", "NO":
		if q := a.kid(n, "qualified_name"); q != 0 {
			parent := a.relation(q)
			a.alters("alter_table", parent)
			a.takes(r)
			if verb == "INHERIT" {
				a.childOf(r.Name, parent)
				a.gives(parent, "rows")
			}
			return
		}
	case "CLUSTER": // whoever clusters it next
		a.ordered(r, a.newName(n))
		return
	}
	switch form {
	case "SET WITHOUT CLUSTER", "SET reloptions", "RESET reloptions":
		return
	}
	a.refuse("ALTER TABLE … %s", strings.ToLower(a.text(n)))
}

// heirs gives the tables that inherit from one that is altered, and the operation that
// this is on each.
func (a *analyzer) heirs(r *schema.Relation, only bool, f func(*operation, *schema.Relation)) {
	for _, oid := range r.Children {
		if child := a.c.Schema.Relations[oid]; child != nil && !only {
			f(a.touch("alter_table", child, "parent "+r.Name.Namespace+"."+r.Name.Name, abi.EffectWrite), child)
			a.heirs(child, false, f)
		}
	}
}

// cascades adds what goes with a column or a constraint: views, foreign keys to
// it, generated columns. Which of them, is not looked into. No rule is for policies,
// triggers and rules.
func (a *analyzer) cascades(op *operation, r *schema.Relation, column string, seen map[schema.OID]bool) {
	for _, c := range r.Columns {
		if column != "" && (c.Name == column || c.Generated != 0) && slices.Contains(r.Bound, c.Num) {
			a.refuse("DROP COLUMN %s CASCADE, with which a policy, a trigger or a rule of %s would go: whoever has made that drops it first", column, r.Name.Name)
		}
		if c.Generated != 0 {
			a.loses(op, r, c.Name)
		}
	}
	partial := *r
	partial.Children, partial.Watched = nil, false
	a.closure(&partial, seen)
}

// validates takes VALIDATE CONSTRAINT, which looks at all rows.
func (a *analyzer) validates(t *table, name string) {
	for _, c := range t.is.Checks {
		if c.Name == name {
			nums := c.Columns
			if slices.Contains(nums, 0) {
				nums = nil
				for _, k := range t.is.Columns {
					nums = append(nums, k.Num)
				}
			}
			a.test(t.op, t.is, nums)
			return
		}
	}
	for i := range t.is.References {
		f := &t.is.References[i]
		if to := a.c.Schema.Relations[f.To]; f.Name == name && to != nil {
			a.test(t.op, t.is, f.FromColumns)
			a.test(a.touch("test", to, viaKey(f, t.is), abi.EffectRead), to, f.ToColumns)
			return
		}
	}
	for _, c := range t.is.Columns { // NOT NULL, or one that is not there
		a.test(t.op, t.is, []int16{c.Num})
	}
}
