package sql

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/core/sql/schema"
)

// acceptedText lists the functions that any text may call: of pg_catalog,
// immutable or stable or named by hand, reading no tables, files or other
// sessions and writing nothing. One a line: OID, name. Made by
// .ci/functions/accepted.sql on a real server.
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

// Accepted says whether any text may call f.
func Accepted(f *schema.Function) bool { return f.System && accepted()[f.OID] }

// introspection are the functions that a task with introspection may call:
// they tell names, and nothing that a table holds.
var introspection = set(`format_type pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_operator_is_visible pg_get_userbyid
	pg_encoding_to_char quote_ident array_to_string current_schema current_schemas pg_relation_is_publishable has_schema_privilege
	has_table_privilege has_column_privilege pg_get_function_identity_arguments pg_get_function_result pg_my_temp_schema
	to_regclass to_regtype to_regnamespace`)

// catalogs are the system relations that such a task may read, and the columns
// of them that it may not: those hold data or text with data in it.
var catalogs = map[string]map[string]bool{
	"pg_class": set("relpartbound reloptions relacl"), "pg_namespace": set("nspacl"), "pg_attribute": set("attmissingval attoptions attfdwoptions attacl"),
	"pg_type": set("typdefault typdefaultbin typacl"), "pg_am": {}, "pg_index": set("indexprs indpred"), "pg_constraint": set("conbin"), "pg_inherits": {},
	"pg_collation": {}, "pg_enum": {}, "pg_range": {}, "pg_extension": set("extconfig extcondition"), "pg_language": set("lanacl"), "pg_tablespace": set("spcoptions spcacl"),
	"pg_roles": set("rolpassword rolconfig"), "pg_proc": set("prosrc probin prosqlbody proargdefaults proconfig proacl"),
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
