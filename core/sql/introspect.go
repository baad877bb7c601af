package sql

import (
	"maps"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// introspection are the functions of pg_catalog that a task with introspection
// may call: they tell names, and nothing that a table holds.
var introspection = set(`format_type pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_operator_is_visible pg_get_userbyid
	pg_encoding_to_char pg_char_to_encoding pg_client_encoding getdatabaseencoding quote_ident array_to_string current_schema current_schemas pg_relation_is_publishable
	has_schema_privilege has_table_privilege has_column_privilege has_any_column_privilege has_database_privilege has_function_privilege has_sequence_privilege
	has_type_privilege has_language_privilege has_tablespace_privilege pg_has_role row_security_active aclexplode acldefault
	pg_get_function_identity_arguments pg_get_function_result pg_my_temp_schema pg_is_other_temp_schema pg_get_serial_sequence pg_get_keywords
	to_regclass to_regtype to_regnamespace to_regproc to_regprocedure to_regoper to_regoperator to_regrole to_regcollation
	pg_partition_ancestors pg_partition_root pg_partition_tree pg_collation_is_visible pg_statistics_obj_is_visible
	pg_conversion_is_visible pg_opclass_is_visible pg_opfamily_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
	pg_get_partkeydef pg_size_pretty pg_is_in_recovery pg_backend_pid pg_postmaster_start_time pg_conf_load_time pg_jit_available pg_available_extensions ts_token_type pg_options_to_table pg_typeof pg_column_is_updatable pg_relation_is_updatable`)

// standardFunctions are those of information_schema.
var standardFunctions = set(`_pg_expandarray _pg_index_position _pg_truetypid _pg_truetypmod _pg_char_max_length _pg_char_octet_length
	_pg_numeric_precision _pg_numeric_precision_radix _pg_numeric_scale _pg_datetime_precision _pg_interval_type`)

// tells says whether a task with introspection may call a function.
func (a *analyzer) tells(f *schema.Function) bool {
	switch f.Name.Namespace {
	case "pg_catalog":
		return introspection[f.Name.Name] || a.c.Definitions != nil && f.OID < firstUser && defining[f.Name.Name]
	case "information_schema":
		return f.OID < firstUser && standardFunctions[f.Name.Name]
	}
	return false
}

// nulled are the functions that could print data or somebody's text: a task
// with introspection may ask for them and is answered NULL, of their type.
var nulled = map[string]string{
	"pg_get_expr": "text", "pg_get_indexdef": "text", "pg_get_viewdef": "text", "pg_get_triggerdef": "text",
	"pg_get_ruledef": "text", "pg_get_functiondef": "text", "pg_get_function_arguments": "text", "pg_get_function_arg_default": "text", "pg_get_function_sqlbody": "text",
	"pg_get_statisticsobjdef_columns": "text", "pg_get_statisticsobjdef": "text", "pg_get_partition_constraintdef": "text",
	"obj_description": "text", "col_description": "text", "shobj_description": "text", "pg_table_size": "int8", "pg_relation_size": "int8",
	"pg_total_relation_size": "int8", "pg_database_size": "int8", "pg_indexes_size": "int8", "pg_tablespace_size": "int8", "pg_sequence_last_value": "int8", "pg_tablespace_location": "text",
}

// catalogs are the relations of pg_catalog that such a task may read, and the
// columns of them that hold data or text with data in it: those are NULL. What
// columns there are, testdata/catalogs.txt has: a new one has to be looked at.
var catalogs = map[string]map[string]bool{
	"pg_class": set("relpartbound reloptions relacl relpages reltuples relallvisible relallfrozen"), "pg_namespace": set("nspacl"), "pg_attribute": set("attmissingval attoptions attfdwoptions attacl"),
	"pg_type": set("typdefault typdefaultbin typacl"), "pg_am": {}, "pg_index": set("indexprs indpred"), "pg_constraint": set("conbin"), "pg_inherits": {},
	"pg_collation": {}, "pg_enum": {}, "pg_range": {}, "pg_extension": set("extconfig extcondition"), "pg_language": set("lanacl"), "pg_tablespace": set("spcoptions spcacl"),
	"pg_roles": set("rolpassword rolconfig"), "pg_user": set("passwd useconfig"), "pg_group": {}, "pg_proc": set("prosrc probin prosqlbody proargdefaults proconfig proacl"),
	"pg_attrdef": set("adbin"), "pg_policy": set("polqual polwithcheck"), "pg_statistic_ext": set("stxexprs"), "pg_publication": {}, "pg_publication_rel": set("prqual"),
	"pg_publication_namespace": {}, "pg_trigger": set("tgargs tgqual"), "pg_rewrite": set("ev_qual ev_action"), "pg_sequence": {}, "pg_depend": {}, "pg_database": set("datacl"),
	"pg_auth_members": {}, "pg_foreign_table": set("ftoptions"), "pg_foreign_server": set("srvoptions srvacl"), "pg_foreign_data_wrapper": set("fdwoptions fdwacl"), "pg_partitioned_table": set("partexprs"),
	"pg_description": set("description"), "pg_shdescription": set("description"), "pg_operator": {}, "pg_opclass": {}, "pg_opfamily": {}, "pg_amop": {}, "pg_amproc": {}, "pg_cast": {}, "pg_conversion": {}, "pg_event_trigger": {},
	"pg_ts_config": {}, "pg_ts_dict": set("dictinitoption"), "pg_ts_parser": {}, "pg_ts_template": {}, "pg_aggregate": set("agginitval aggminitval"), "pg_default_acl": set("defaclacl"), "pg_subscription": set("subconninfo"),
	"pg_tables": {}, "pg_views": set("definition"), "pg_matviews": set("definition"), "pg_indexes": set("indexdef"), "pg_sequences": set("last_value"), "pg_policies": set("qual with_check"), "pg_rules": set("definition"),
	"pg_available_extensions": {}, "pg_available_extension_versions": {}, "pg_ts_config_map": {}, "pg_publication_tables": set("rowfilter"),
	"pg_timezone_names": {}, "pg_timezone_abbrevs": {}, "pg_settings": set("setting boot_val reset_val sourcefile sourceline"),
	"pg_statio_all_tables": set("heap_blks_read heap_blks_hit idx_blks_read idx_blks_hit toast_blks_read toast_blks_hit tidx_blks_read tidx_blks_hit"), // Sequelize finds comments by its names
	"pg_cursors":           set("statement"),                                                                                                           // of this session alone: psycopg2, psycopg 3 and Django ask whether theirs is open
}

// standard are the views of information_schema, likewise. Those that are not
// here hold options, which may be passwords.
var standard = map[string]map[string]bool{
	"information_schema_catalog_name": {}, "schemata": {}, "tables": {}, "columns": set("column_default generation_expression"), "views": set("view_definition"),
	"table_constraints": {}, "key_column_usage": {}, "constraint_column_usage": {}, "constraint_table_usage": {}, "referential_constraints": {},
	"check_constraints": set("check_clause"), "check_constraint_routine_usage": {}, "domain_constraints": {}, "domains": set("domain_default"), "domain_udt_usage": {},
	"column_column_usage": {}, "column_domain_usage": {}, "column_udt_usage": {}, "data_type_privileges": {}, "element_types": set("domain_default"),
	"attributes": set("attribute_default"), "user_defined_types": {}, "routines": set("routine_definition external_name"), "parameters": set("parameter_default"),
	"routine_column_usage": {}, "routine_routine_usage": {}, "routine_sequence_usage": {}, "routine_table_usage": {}, "sequences": {},
	"triggers": set("action_condition action_statement"), "triggered_update_columns": {}, "view_column_usage": {}, "view_routine_usage": {}, "view_table_usage": {},
	"character_sets": {}, "collations": {}, "collation_character_set_applicability": {},
	"applicable_roles": {}, "administrable_role_authorizations": {}, "enabled_roles": {}, "column_privileges": {}, "table_privileges": {}, "routine_privileges": {},
	"udt_privileges": {}, "usage_privileges": {}, "role_column_grants": {}, "role_table_grants": {}, "role_routine_grants": {}, "role_udt_grants": {}, "role_usage_grants": {},
	"foreign_data_wrappers": {}, "foreign_servers": {}, "foreign_tables": {},
	"sql_features": {}, "sql_implementation_info": {}, "sql_parts": {}, "sql_sizing": {},
}

// told gives the columns of a system relation that are NULL to a task with
// introspection; false is a relation that it may not read.
func told(n schema.Name) (hidden map[string]bool, ok bool) {
	switch n.Namespace {
	case "pg_catalog":
		hidden, ok = catalogs[n.Name]
	case "information_schema":
		hidden, ok = standard[n.Name]
	}
	return hidden, ok
}

// hides says whether a source is a column of a system relation that may hold data,
// or gives away other relations to a task that is told of what it lists alone.
func (a *analyzer) hides(s source) bool {
	if !s.relation.System {
		return false
	}
	hidden, ok := a.told(s.relation.Name)
	return !ok || hidden[s.column] || a.c.Listed != nil && (a.identified(s) || s.column == "partdefid")
}

// null writes a NULL of a type in place of a node, in the text that is forwarded.
func (a *analyzer) null(n int32, namespace, typ string) column {
	a.asWritten("what may hold data in the catalogs")
	if a.via == "" {
		a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].To, nullOf(namespace, typ)})
	}
	return column{name: typ, other: true}
}

func nullOf(namespace, typ string) string {
	return "(NULL::" + quoteIdent(namespace) + "." + quoteIdent(typ) + ")"
}

// nulledCall replaces a call that is answered NULL. What its arguments read is
// never read.
func (a *analyzer) nulledCall(n int32, parts []string) bool {
	if !a.c.Introspect || len(parts) == 2 && parts[0] != "pg_catalog" {
		return false
	}
	name := parts[len(parts)-1]
	typ := nulled[name]
	if typ == "" || a.c.Definitions != nil && defining[name] || plainly[name] != "" && a.via == "" {
		return false
	}
	for _, f := range a.c.Schema.FunctionsNamed[parts[len(parts)-1]] {
		if !f.System && len(parts) == 1 {
			return false // the path may lead to another one
		}
	}
	a.null(n, "pg_catalog", typ)
	return true
}

// plainly are functions that print names alone of some objects, and of others what
// could hold data: of which ones each is asked, beside what the argument gives.
var plainly = map[string]string{
	"pg_get_constraintdef": ` "x", "pg_catalog"."pg_constraint" "k" WHERE "k"."oid"` + is + `"x"."o" AND "k"."contype"` + isAny + `('{p,u,f}'::"pg_catalog"."char"[])`,
	"pg_get_indexdef": ` "x", "pg_catalog"."pg_index" "k" WHERE "k"."indexrelid"` + is + `"x"."o" AND "k"."indexprs" IS NULL AND "k"."indpred" IS NULL AND NOT EXISTS (SELECT FROM "pg_catalog"."pg_class" "c" WHERE "c"."oid"` + is +
		`"x"."o" AND "c"."reloptions" IS NOT NULL) AND NOT EXISTS (SELECT FROM "pg_catalog"."pg_attribute" "c" WHERE "c"."attrelid"` + is + `"x"."o" AND "c"."attoptions" IS NOT NULL)`,
}

// namesOnly has such a function print keys, and indexes of columns, alone. What is
// asked for is looked up first, and is NULL where it is none of them. The argument
// goes into a query of its own, so that its names mean what they meant.
func (a *analyzer) namesOnly(n int32, parts []string) bool {
	name := parts[len(parts)-1]
	if plainly[name] == "" || !a.c.Introspect || a.c.Definitions != nil || a.via != "" {
		return false
	}
	args := a.list(a.kid(n, "func_arg_list"), "func_arg_expr")
	if len(args) == 0 || len(a.rule(args[0])) != 2 || a.kid(n, "VARIADIC") != 0 {
		return false
	}
	seen := ""
	switch v := a.seeing(); {
	case v != nil && name == "pg_get_indexdef":
		seen = ` AND ` + v.relation(`"k"."indrelid"`)
	case v != nil:
		seen = ` AND ` + v.relation(`"k"."conrelid"`) + ` AND ("k"."confrelid"` + is + noName + ` OR ` + v.relation(`"k"."confrelid"`) + `)`
	}
	at := a.t.Nodes[args[0]]
	a.edits = append(a.edits, edit{at.From, at.From, `(SELECT "x"."o" FROM (SELECT CAST((`},
		edit{at.To, at.To, `) AS "pg_catalog"."oid") AS "o")` + plainly[name] + seen + `)`})
	return true
}

// nulledColumn replaces a column of a system relation that may hold data.
func (a *analyzer) nulledColumn(s *scope, n int32, names []string, c column) (column, bool) {
	if !a.hidden(c) {
		return c, false
	}
	src := c.copies[0]
	a.touch("select", src.relation, src.via, abi.EffectRead)
	switch of := src.relation.Name.Name + "." + src.column; {
	case of == "pg_settings.setting" && s.beside(names, src, "context"):
		return a.preset(n, c.name, s.beside(names, src, "name")), true
	case of == "pg_class.relpartbound" && a.c.Definitions != nil && s.beside(names, src, "oid"):
		return a.bound(n, c), true
	}
	t := a.typeOfColumn(src)
	out := a.null(n, t.Namespace, t.Name)
	out.name = c.name
	return out, true
}

// beside says whether a name that stands where a column of a relation does, with
// the same qualifiers, is that of another column of the same row: nothing nearer
// is called so, nor is the relation's own called otherwise.
func (s *scope) beside(names []string, of source, name string) bool {
	qualifiers := names[:len(names)-1]
	for at := s; at != nil; at = at.parent {
		var mine *origin
		found := 0
		for _, o := range at.origins {
			if len(qualifiers) == 0 && o.joined || len(qualifiers) > 0 && o.alias != qualifiers[len(qualifiers)-1] || len(qualifiers) == 2 && o.schema != qualifiers[0] {
				continue
			}
			if i, n := o.find(name); n > 0 {
				found += n
				if n == 1 && i >= 0 && o.relation == of.relation && o.columns[i].is(of, name) {
					mine = o
				}
			}
		}
		if found > 0 {
			i := -1
			if mine != nil && found == 1 {
				i, _ = mine.find(names[len(names)-1])
			}
			return i >= 0 && mine.columns[i].is(of, of.column)
		}
	}
	return false
}

// is says whether a column is a bare copy of one of a relation.
func (c *column) is(of source, name string) bool {
	return len(c.copies) == 1 && len(c.computed) == 0 && !c.other && c.copies[0].relation == of.relation && c.copies[0].column == name
}

const eitherBegins = "(CASE WHEN "

// preset has a setting's value be read where nobody can have set it, how the server
// was built, and where every task may: drivers ask for some of both.
func (a *analyzer) preset(n int32, name string, named bool) column {
	condition := `"context" OPERATOR("pg_catalog".=) 'internal'`
	if named {
		at := a.t.Nodes[n]
		condition += ` OR ` + a.emit(at.From, at.To-1, nil) + `"name" OPERATOR("pg_catalog".=) ANY (` + settable + `)`
	}
	return a.either(n, name, "setting", condition)
}

// settable are the settings that every task may set, as the server stores their names.
var settable = `'{` + strings.Join(slices.Sorted(maps.Keys(settings)), ",") + `,DateStyle,IntervalStyle,TimeZone}'::"pg_catalog"."text"[]`

// either has a column be read where a condition holds that begins with one of the
// same row, and be NULL elsewhere.
func (a *analyzer) either(n int32, name, column_, condition string) column {
	a.asWritten("what may hold data in the catalogs")
	if a.via == "" {
		at := a.t.Nodes[n]
		before := a.emit(at.From, at.To-1, nil)
		a.edits = append(a.edits, edit{at.From, at.To, eitherBegins + before + ` ` + condition + ` THEN ` + before + ` ` + quoteIdent(column_) + ` END)`})
	}
	return column{name: name, other: true}
}

// hidden says whether a column is one that a task with introspection reads as
// NULL.
func (a *analyzer) hidden(c column) bool {
	return len(c.copies) == 1 && a.c.Introspect && a.hides(c.copies[0])
}

func (a *analyzer) typeOfColumn(s source) schema.Name {
	if c := s.relation.Column(s.column); c != nil && !a.identified(s) {
		if t := a.c.Schema.Types[c.Type]; t != nil {
			return t.Name
		}
	}
	return schema.Name{Namespace: "pg_catalog", Name: "text"}
}

// spelled gives the columns that a * stands for. Where one of them is of a
// system relation and may hold data, they are written in its place, that one
// as NULL.
func (a *analyzer) spelled(n int32, cols []column) []column {
	if cols = a.star(cols); a.via != "" || !slices.ContainsFunc(cols, a.hidden) {
		return cols
	}
	text := ""
	for i, c := range cols {
		if i > 0 {
			text += " , "
		}
		o, name := c.of, quoteIdent(c.name)
		switch {
		case a.hidden(c):
			a.touch("select", c.copies[0].relation, c.copies[0].via, abi.EffectRead)
			t := a.typeOfColumn(c.copies[0])
			text += nullOf(t.Namespace, t.Name) + " AS " + name
			cols[i] = column{name: c.name, other: true}
		case o == nil:
			text += name
		case o.schema != "" && !o.sifted:
			text += quoteIdent(o.schema) + "." + quoteIdent(o.alias) + "." + name
		default:
			text += quoteIdent(o.alias) + "." + name
		}
	}
	a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].To, text})
	return cols
}

// system lets a task with introspection read a system relation, and refuses
// every other.
func (a *analyzer) system(r *schema.Relation) {
	if !a.c.Introspect {
		a.refuse("the system relation %s: this task has no introspection", r.Name.Name)
	}
	if _, ok := a.told(r.Name); !ok {
		a.refuse("the system relation %s may hold what others do", r.Name.Name)
	}
}
