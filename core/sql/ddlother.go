package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// operatorClasses are those of the server that migrations name. A name without
// a schema is looked up in pg_catalog first.
var operatorClasses = set(`text_ops varchar_ops bpchar_ops text_pattern_ops varchar_pattern_ops bpchar_pattern_ops int2_ops int4_ops int8_ops numeric_ops float4_ops float8_ops
	bool_ops date_ops timestamp_ops timestamptz_ops time_ops timetz_ops interval_ops uuid_ops inet_ops cidr_ops macaddr_ops bytea_ops oid_ops name_ops
	array_ops jsonb_ops jsonb_path_ops tsvector_ops tsquery_ops range_ops multirange_ops enum_ops record_ops
	int4_minmax_ops int8_minmax_ops date_minmax_ops timestamp_minmax_ops timestamptz_minmax_ops point_ops box_ops circle_ops poly_ops quad_point_ops kd_point_ops network_ops`)

// createIndex takes CREATE INDEX. The operation is on the table.
func (a *analyzer) createIndex(n int32) {
	a.only(n, "CREATE INDEX", "opt_unique", "opt_concurrently", "opt_index_name", "opt_single_name", "name", "relation_expr", "access_method_clause", "index_params", "opt_include", "opt_unique_null_treatment", "opt_reloptions", "where_clause")
	rel := a.kid(n, "relation_expr")
	r := a.relation(a.find(rel, "qualified_name"))
	if r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'm' {
		a.refuse("CREATE INDEX on %s, which is no table", r.Name.Name)
	}
	op := a.alters("create_index", r)
	for _, name := range []string{"opt_index_name", "opt_single_name", "name"} {
		if k := a.kid(n, name); k != 0 && !a.empty(k) {
			a.renamed(r.Name.Namespace, a.ident(k))
		}
	}
	if a.find(rel, "ONLY") == 0 {
		a.descend("create_index", r, abi.EffectWrite)
	}
	mine := a.own(r, "", "")
	s := &scope{origins: []*origin{mine}}
	var nums []int16
	for _, e := range append(a.list(a.kid(n, "index_params"), "index_elem"), a.list(a.find(a.kid(n, "opt_include"), "index_including_params"), "index_elem")...) {
		if o := a.kid(e, "index_elem_options"); o != 0 {
			a.indexOptions(o)
		}
		if c := a.kid(e, "ColId"); c != 0 {
			a.known(r, c, a.ident(c))
			nums = append(nums, r.Column(a.ident(c)).Num)
			continue
		}
		before := a.snapshot()
		a.expr(s, a.t.Nodes[e].First, abi.UseComputed)
		a.kids(e, func(c int32) {
			if a.name(c) == "a_expr" {
				a.expr(s, c, abi.UseComputed)
			}
		})
		for _, src := range a.since(before) {
			if c := r.Column(src.column); c != nil {
				nums = append(nums, c.Num)
			}
		}
	}
	if w := a.find(a.kid(n, "where_clause"), "a_expr"); w != 0 {
		a.expr(s, w, abi.UseCondition)
	}
	if a.kid(n, "opt_unique") != 0 && !a.empty(a.kid(n, "opt_unique")) {
		a.test(op, r, nums)
		for _, num := range nums {
			if c := r.ColumnAt(num); c != nil && r.Kind == 'm' { // what stands behind it is tested
				a.takes(r, c.Name)
			}
		}
	}
}

// indexOptions refuses operator classes that are not the server's: they run
// functions of their own.
func (a *analyzer) indexOptions(n int32) {
	a.kids(n, func(c int32) {
		switch name := a.name(c); {
		case a.t.Nodes[c].Rule == 0 || a.empty(c) || name == "opt_collate" || name == "opt_asc_desc" || name == "opt_nulls_order" || name == "reloptions":
		case name == "opt_class", name == "opt_qualified_name", name == "any_name":
			k := c
			if name != "any_name" {
				k = a.kid(c, "any_name")
			}
			parts, _, _ := a.parts(k)
			class := parts[len(parts)-1]
			own := operatorClasses[class] && (len(parts) == 1 || parts[0] == "pg_catalog")
			if !own && !(strings.HasSuffix(class, "_trgm_ops") && slices.Contains(a.c.Extensions, "pg_trgm")) {
				a.refuse("the operator class %s", class)
			}
		default:
			a.refuse("an index with %s", strings.ToLower(a.text(c)))
		}
	})
}

// attachIndex takes ALTER INDEX … ATTACH PARTITION: the index of a partition
// becomes part of its table's.
func (a *analyzer) attachIndex(n int32) {
	for _, q := range []int32{a.kid(n, "qualified_name"), a.kid(a.kid(n, "index_partition_cmd"), "qualified_name")} {
		r, _, name := a.index(q, true)
		if r == nil {
			a.failAnywhere("42P01", "relation %q does not exist", name.Name)
		}
		a.alters("alter_table", r)
	}
}

// rename takes RENAME of tables, columns, constraints, indexes and sequences.
// Rows that get another name are read: a rule may list that name.
func (a *analyzer) rename(n int32) {
	form := a.form(n)
	missing := strings.Contains(form, "IF_P EXISTS")
	form = strings.Replace(form, "IF_P EXISTS ", "", 1)
	switch form {
	case "ALTER TABLE relation_expr RENAME CONSTRAINT name TO name", "ALTER TABLE relation_expr RENAME TO name", "ALTER TABLE relation_expr RENAME opt_column name TO name":
		r, name := a.maybe(a.find(a.kid(n, "relation_expr"), "qualified_name"), missing)
		if r == nil {
			a.refuse("ALTER TABLE IF EXISTS of %s, which does not exist", name.Name)
		}
		if r.Kind == 'S' && !strings.Contains(form, "CONSTRAINT") && !strings.Contains(form, "opt_column") { // the server takes it for ALTER SEQUENCE
			a.renameSequence(n, name)
			return
		}
		if r.Kind != 'r' && r.Kind != 'p' {
			a.refuse("ALTER TABLE … RENAME of %s, which is no table", r.Name.Name)
		}
		op := a.alters("alter_table", r)
		switch {
		case strings.Contains(form, "CONSTRAINT"): // its index is called as it is
			a.renamed(r.Name.Namespace, a.newName(n))
		case strings.Contains(form, "opt_column"):
			first := a.kid(n, "name")
			a.known(r, first, a.ident(first))
			a.takes(r, a.ident(first))
			a.loses(op, r, a.ident(first))
			a.descend("alter_table", r, abi.EffectWrite)
		default:
			a.takes(r)
			a.loses(op, r)
			a.renamed(r.Name.Namespace, a.newName(n))
			a.on("alter_table", abi.KindRelation, []string{r.Name.Namespace, a.newName(n)}, "")
		}
	case "ALTER INDEX qualified_name RENAME TO name":
		r, _, name := a.index(a.kid(n, "qualified_name"), missing)
		if r == nil {
			a.refuse("ALTER INDEX IF EXISTS of %s, which does not exist", name.Name)
		}
		a.renamed(r.Name.Namespace, a.newName(n))
		a.alters("alter_table", r)
	case "ALTER SEQUENCE qualified_name RENAME TO name":
		r, name := a.maybe(a.kid(n, "qualified_name"), missing)
		if r != nil && r.Kind != 'S' {
			a.refuse("ALTER SEQUENCE of %s, which is no sequence", r.Name.Name)
		}
		a.renameSequence(n, name)
	case "ALTER VIEW qualified_name RENAME TO name", "ALTER VIEW qualified_name RENAME opt_column name TO name",
		"ALTER MATERIALIZED VIEW qualified_name RENAME TO name", "ALTER MATERIALIZED VIEW qualified_name RENAME opt_column name TO name":
		a.renameView(n, missing)
	case "ALTER DOMAIN_P any_name RENAME CONSTRAINT name TO name":
		a.on("alter_type", abi.KindType, a.domain(a.kid(n, "any_name")).Name.Parts(), "")
	case "ALTER TYPE_P any_name RENAME TO name", "ALTER DOMAIN_P any_name RENAME TO name":
		name := a.ownType(a.kid(n, "any_name"), false)
		a.on("alter_type", abi.KindType, name.Parts(), "")
		a.on("alter_type", abi.KindType, []string{name.Namespace, a.newName(n)}, "")
	default:
		a.refuse("%s … RENAME", a.words(n))
	}
}

func (a *analyzer) renameSequence(n int32, name schema.Name) {
	a.renamed(name.Namespace, a.newName(n))
	a.on("alter_sequence", abi.KindRelation, name.Parts(), "")
	a.on("alter_sequence", abi.KindRelation, []string{name.Namespace, a.newName(n)}, "")
}

// setSchema takes SET SCHEMA of tables, views and types.
func (a *analyzer) setSchema(n int32) {
	form := a.form(n)
	switch form {
	case "ALTER TABLE relation_expr SET SCHEMA name":
	case "ALTER VIEW qualified_name SET SCHEMA name", "ALTER MATERIALIZED VIEW qualified_name SET SCHEMA name":
		r := a.viewOf(n)
		a.loses(a.alters("drop_view", r), r)
		a.takes(r)
		a.on("create_view", abi.KindRelation, []string{a.schemaName(n), r.Name.Name}, "")
		return
	case "ALTER TYPE_P any_name SET SCHEMA name", "ALTER DOMAIN_P any_name SET SCHEMA name":
		name := a.ownType(a.kid(n, "any_name"), false)
		a.on("alter_type", abi.KindType, name.Parts(), "")
		a.on("alter_type", abi.KindType, []string{a.schemaName(n), name.Name}, "")
		return
	default:
		a.refuse("%s … SET SCHEMA", a.words(n))
	}
	r := a.relation(a.find(a.kid(n, "relation_expr"), "qualified_name"))
	if r.Kind != 'r' && r.Kind != 'p' {
		a.refuse("ALTER TABLE … SET SCHEMA of %s, which is no table", r.Name.Name)
	}
	to := a.schemaName(n)
	a.loses(a.alters("alter_table", r), r)
	a.takes(r)
	a.on("alter_table", abi.KindRelation, []string{to, r.Name.Name}, "")
}

func (a *analyzer) createSequence(n int32) []schema.Name {
	name := a.makes(n, a.kid(n, "qualified_name"))
	a.on("create_sequence", abi.KindRelation, name.Parts(), "")
	a.sequenceOptions(a.find(a.kid(n, "OptSeqOptList"), "SeqOptList"))
	return []schema.Name{name}
}

func (a *analyzer) alterSequence(n int32) {
	r, name := a.maybe(a.kid(n, "qualified_name"), strings.Contains(a.form(n), "IF_P EXISTS"))
	if r != nil && r.Kind != 'S' {
		a.refuse("ALTER SEQUENCE of %s, which is no sequence", r.Name.Name)
	}
	a.on("alter_sequence", abi.KindRelation, name.Parts(), "")
	a.sequenceOptions(a.kid(n, "SeqOptList"))
}

// sequenceOptions takes the options of a sequence: numbers, but for the column
// that owns it.
func (a *analyzer) sequenceOptions(list int32) {
	for _, o := range a.list(list, "SeqOptElem") {
		switch form := a.form(o); {
		case strings.HasPrefix(form, "OWNED"):
			a.ownedBy(a.kid(o, "any_name"))
		case strings.HasPrefix(form, "SEQUENCE NAME_P"):
			a.on("create_sequence", abi.KindRelation, a.creation(a.kid(o, "any_name")).Parts(), "")
		case form == "LOGGED", form == "UNLOGGED":
			a.refuse("a sequence with %s", strings.ToLower(form))
		}
	}
}

// ownedBy takes the column that a sequence goes with.
func (a *analyzer) ownedBy(n int32) {
	parts, _, _ := a.parts(n)
	if len(parts) == 1 {
		return // NONE
	}
	if len(parts) > 3 {
		a.refuse("a column name of that form")
	}
	r, column := a.tableOf(parts), parts[len(parts)-1]
	if r == nil || r.Column(column) == nil {
		a.fail("42P01", n, "there is no column %s", strings.Join(parts, "."))
	}
	a.alters("alter_table", r)
	a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].To, r.Quoted() + "." + quoteIdent(column)})
}

// tableOf finds the relation of a column's name, nil where there is none.
func (a *analyzer) tableOf(parts []string) *schema.Relation {
	where := a.places()
	if len(parts) == 3 {
		where = parts[:1]
	}
	for _, ns := range where {
		if r := a.c.Schema.RelationByName[schema.Name{Namespace: ns, Name: parts[len(parts)-2]}]; r != nil {
			return r
		}
	}
	return nil
}

func (a *analyzer) createSchema(n int32) {
	if k := a.kid(n, "OptSchemaEltList"); a.kid(n, "AUTHORIZATION") != 0 || k != 0 && !a.empty(k) {
		a.refuse("CREATE SCHEMA with an owner or with what is in it")
	}
	name := a.ident(a.kid(n, "ColId"))
	if strings.HasPrefix(name, "pg_") {
		a.refuse("the schema name %s", name)
	}
	a.on("create_schema", abi.KindSchema, []string{name}, "")
}

// createType takes CREATE TYPE … AS ENUM, and of columns.
func (a *analyzer) createType(n int32) {
	a.on("create_type", abi.KindType, a.creation(a.kid(n, "any_name")).Parts(), "")
	for _, e := range a.list(a.find(a.kid(n, "OptTableFuncElementList"), "TableFuncElementList"), "TableFuncElement") {
		a.columnType(a.kid(e, "Typename"), false)
	}
}

func (a *analyzer) createDomain(n int32) {
	a.on("create_type", abi.KindType, a.creation(a.kid(n, "any_name")).Parts(), "")
	a.columnType(a.kid(n, "Typename"), false)
	s := &scope{origins: []*origin{{columns: []column{{name: "value", other: true}}}}}
	for _, c := range a.list(a.kid(n, "ColQualList"), "ColConstraint") {
		e := a.kid(c, "ColConstraintElem")
		if e == 0 {
			continue
		}
		switch form := a.form(e); {
		case strings.HasPrefix(form, "NOT NULL_P"), form == "NULL_P":
		case strings.HasPrefix(form, "CHECK"):
			a.expr(s, a.kid(e, "a_expr"), abi.UseCondition)
		case strings.HasPrefix(form, "DEFAULT"):
			a.defaultOf(a.kid(e, "b_expr"))
		default:
			a.refuse("a domain with %s", strings.ToLower(form))
		}
	}
}

// alterEnum takes ALTER TYPE … ADD VALUE and RENAME VALUE.
func (a *analyzer) alterEnum(n int32) {
	a.on("alter_type", abi.KindType, a.ownType(a.kid(n, "any_name"), false).Parts(), "")
}

// comment takes COMMENT ON what a task can make.
func (a *analyzer) comment(n int32) {
	relation := func(r *schema.Relation) { a.alters("comment", r) }
	q := a.kid(n, "any_name")
	switch form := strings.TrimPrefix(a.form(n), "COMMENT ON "); form {
	case "COLUMN any_name IS comment_text":
		parts, _, _ := a.parts(q)
		if len(parts) < 2 || len(parts) > 3 {
			a.fail("42601", q, "column name must be qualified")
		}
		r := a.tableOf(parts)
		if r == nil || r.Column(parts[len(parts)-1]) == nil {
			a.fail("42703", q, "there is no column %s", strings.Join(parts, "."))
		}
		relation(r)
		a.edits = append(a.edits, edit{a.t.Nodes[q].From, a.t.Nodes[q].To, r.Quoted() + "." + quoteIdent(parts[len(parts)-1])})
	case "CONSTRAINT name ON any_name IS comment_text":
		relation(a.relation(q))
	case "DOMAIN_P Typename IS comment_text", "TYPE_P Typename IS comment_text":
		a.on("comment", abi.KindType, a.ownType(a.kid(n, "Typename"), false).Parts(), "")
	case "object_type_any_name any_name IS comment_text":
		switch a.form(a.kid(n, "object_type_any_name")) {
		case "TABLE", "VIEW", "SEQUENCE", "MATERIALIZED VIEW":
			relation(a.relation(q))
		case "INDEX":
			r, _, _ := a.index(q, false)
			relation(r)
		default:
			a.refuse("%s", a.words(n))
		}
	case "object_type_name name IS comment_text":
		if k := a.kid(a.kid(n, "object_type_name"), "drop_type_name"); k == 0 || a.form(k) != "SCHEMA" {
			a.refuse("COMMENT ON %s", strings.ToLower(a.text(a.kid(n, "object_type_name"))))
		}
		a.on("comment", abi.KindSchema, []string{a.ident(a.kid(n, "name"))}, "")
	default:
		a.refuse("%s", a.words(n))
	}
}

// createFunction takes CREATE FUNCTION and PROCEDURE. What it does is not read:
// who may make it by that name may make it do anything, for whoever calls it.
func (a *analyzer) createFunction(n int32) {
	a.on("create_function", abi.KindRoutine, a.creation(a.kid(n, "func_name")).Parts(), "")
}

// restricted forwards a DROP … CASCADE without that word, of what nobody has looked
// into for what depends on it: the server refuses it where something does.
func (a *analyzer) restricted(n int32) {
	if k := a.kid(n, "opt_drop_behavior"); k != 0 && a.find(k, "CASCADE") != 0 {
		a.edits = append(a.edits, edit{a.t.Nodes[k].From, a.t.Nodes[k].To, ""})
	}
}

func (a *analyzer) dropFunction(n int32) {
	a.restricted(n)
	for _, f := range a.list(a.kid(n, "function_with_argtypes_list"), "function_with_argtypes") {
		q := a.kid(f, "func_name")
		if q == 0 { // a name without arguments, which the server takes where there is one such function
			q = f
		}
		name, _ := a.there(q, a.kid(n, "IF_P") != 0, func(name schema.Name) bool {
			return slices.ContainsFunc(a.c.Schema.FunctionsNamed[name.Name], func(f *schema.Function) bool { return f.Name == name })
		})
		if name.Namespace == "pg_catalog" {
			a.refuse("changing a function of the server's own")
		}
		a.on("drop_function", abi.KindRoutine, name.Parts(), "")
	}
}
