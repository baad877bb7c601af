package sql

import "strings"

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
	"pg_available_extensions": {}, "pg_available_extension_versions": {}, "pg_ts_config_map": {}, "pg_publication_tables": {"table schemaname tablename"},
	"pg_timezone_names": {}, "pg_timezone_abbrevs": {}, "pg_settings": {}, "pg_cursors": {}, "pg_statio_all_tables": {"table schemaname relname"},
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
