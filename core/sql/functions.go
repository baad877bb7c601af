package sql

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// acceptedText lists the functions that any text may call: of pg_catalog,
// immutable or stable or named by hand, reading no tables, files or other
// sessions and writing nothing. One a line: OID, name. Made by
// .ci/functions/accepted.sql on real servers of 15 and 18, joined.
//
//go:embed accepted.txt
var acceptedText string

var accepted = sync.OnceValue(func() map[schema.OID]bool {
	m := map[schema.OID]bool{}
	for line := range strings.Lines(acceptedText) {
		oid, _, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(oid, 10, 32); err == nil {
			m[schema.OID(n)] = true
		}
	}
	return m
})

// accepts says whether any text may call f: one of the server's own on the
// list, or an immutable one of an extension that the resource accepts.
func (a *analyzer) accepts(f *schema.Function) bool {
	return f.System && accepted()[f.OID] || f.Volatility == 'i' && !f.Definer && a.extended(f.Extension)
}

// extended says whether the resource accepts an extension.
func (a *analyzer) extended(extension string) bool {
	return extension != "" && slices.Contains(a.c.Extensions, extension)
}

// extendedType says whether values of a type may be computed with because its
// extension is accepted.
func (a *analyzer) extendedType(oid schema.OID) bool {
	t := a.c.Schema.Types[oid]
	return t != nil && (a.extended(t.Extension) || t.Element != 0 && t.Element != oid && a.extendedType(t.Element))
}

// foreignCast finds a cast between types that texts may compute with whose
// function is not known to be harmless, since it could run anywhere.
func (a *analyzer) foreignCast() bool {
	usable := func(oid schema.OID) bool { return oid < firstUser || a.extendedType(oid) }
	return slices.ContainsFunc(a.c.Schema.Casts, func(k schema.Cast) bool {
		if k.Function < firstUser || !usable(k.Source) || !usable(k.Target) {
			return false
		}
		f := a.c.Schema.Functions[k.Function]
		return f == nil || !a.accepts(f)
	})
}

// introspection are the functions that a task with introspection may call:
// they tell names, and nothing that a table holds.
var introspection = set(`format_type pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_operator_is_visible pg_get_userbyid
	pg_encoding_to_char quote_ident array_to_string current_schema current_schemas pg_relation_is_publishable has_schema_privilege
	has_table_privilege has_column_privilege pg_get_function_identity_arguments pg_get_function_result pg_my_temp_schema
	to_regclass to_regtype to_regnamespace pg_partition_ancestors pg_partition_root pg_collation_is_visible pg_statistics_obj_is_visible
	pg_get_partkeydef pg_size_pretty pg_get_publication_tables`)

// nulled are the functions that could print data or somebody's text: a task
// with introspection may ask for them and is answered NULL, of their type.
var nulled = map[string]string{
	"pg_get_expr": "text", "pg_get_constraintdef": "text", "pg_get_indexdef": "text", "pg_get_viewdef": "text", "pg_get_triggerdef": "text",
	"pg_get_ruledef": "text", "pg_get_functiondef": "text", "pg_get_function_arguments": "text", "pg_get_function_sqlbody": "text", "pg_get_statisticsobjdef_columns": "text", "pg_get_statisticsobjdef": "text",
	"obj_description": "text", "col_description": "text", "shobj_description": "text", "pg_table_size": "int8", "pg_relation_size": "int8",
	"pg_total_relation_size": "int8", "pg_database_size": "int8", "pg_indexes_size": "int8", "pg_tablespace_size": "int8", "pg_get_serial_sequence": "text",
}

// catalogs are the system relations that such a task may read, and the columns
// of them that hold data or text with data in it: those are NULL.
var catalogs = map[string]map[string]bool{
	"pg_class": set("relpartbound reloptions relacl"), "pg_namespace": set("nspacl"), "pg_attribute": set("attmissingval attoptions attfdwoptions attacl"),
	"pg_type": set("typdefault typdefaultbin typacl"), "pg_am": {}, "pg_index": set("indexprs indpred"), "pg_constraint": set("conbin"), "pg_inherits": {},
	"pg_collation": {}, "pg_enum": {}, "pg_range": {}, "pg_extension": set("extconfig extcondition"), "pg_language": set("lanacl"), "pg_tablespace": set("spcoptions spcacl"),
	"pg_roles": set("rolpassword rolconfig"), "pg_proc": set("prosrc probin prosqlbody proargdefaults proconfig proacl"),
	"pg_attrdef": set("adbin"), "pg_policy": set("polqual polwithcheck"), "pg_statistic_ext": set("stxexprs"), "pg_publication": {}, "pg_publication_rel": set("prqual"),
	"pg_publication_namespace": {}, "pg_trigger": set("tgargs tgqual"), "pg_rewrite": set("ev_qual ev_action"), "pg_sequence": {}, "pg_depend": {}, "pg_database": set("datacl"),
	"pg_auth_members": {}, "pg_foreign_table": set("ftoptions"), "pg_foreign_server": set("srvoptions srvacl"), "pg_partitioned_table": set("partexprs"),
	"pg_description": set("description"), "pg_operator": {}, "pg_opclass": {}, "pg_opfamily": {}, "pg_cast": {}, "pg_conversion": {}, "pg_event_trigger": {},
	"pg_ts_config": {}, "pg_ts_dict": set("dictinitoption"), "pg_aggregate": set("agginitval aggminitval"), "pg_default_acl": set("defaclacl"), "pg_subscription": set("subconninfo"),
}

// null writes a NULL of a type in place of a node, in the text that is forwarded.
func (a *analyzer) null(n int32, typ string) column {
	if a.via == "" {
		a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].To, "(NULL::pg_catalog." + quoteIdent(typ) + ")"})
	}
	return column{name: typ, other: true}
}

// nulledCall replaces a call that is answered NULL. What its arguments read is
// never read.
func (a *analyzer) nulledCall(n int32) bool {
	if !a.c.Introspect {
		return false
	}
	parts, _, ok := a.parts(a.kid(n, "func_name"))
	if !ok || len(parts) == 2 && parts[0] != "pg_catalog" || len(parts) > 2 {
		return false
	}
	typ := nulled[parts[len(parts)-1]]
	if typ == "" {
		return false
	}
	for _, f := range a.c.Schema.FunctionsNamed[parts[len(parts)-1]] {
		if !f.System && len(parts) == 1 {
			return false // the path may lead to another one
		}
	}
	a.null(n, typ)
	return true
}

// nulledColumn replaces a column of a system relation that may hold data.
func (a *analyzer) nulledColumn(n int32, c column) (column, bool) {
	if len(c.copies) != 1 || !a.c.Introspect {
		return c, false
	}
	s := c.copies[0]
	if !s.relation.System || !catalogs[s.relation.Name.Name][s.column] {
		return c, false
	}
	typ := "text"
	if t := a.c.Schema.Types[s.relation.Column(s.column).Type]; t != nil {
		typ = t.Name.Name
	}
	a.touch("select", s.relation, s.via, abi.EffectRead)
	out := a.null(n, typ)
	out.name, out.nulled = c.name, true
	return out, true
}

// system lets a task with introspection read a system relation, and refuses
// every other.
func (a *analyzer) system(r *schema.Relation) {
	if !a.c.Introspect {
		a.refuse("the system relation %s: this task has no introspection", r.Name.Name)
	}
	if r.Name.Namespace != "pg_catalog" || catalogs[r.Name.Name] == nil {
		a.refuse("the system relation %s may hold what others do", r.Name.Name)
	}
}
