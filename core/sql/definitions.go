package sql

import (
	"slices"
	"sync"

	"github.com/taskgate/taskgate/core/sql/schema"
)

// A task with `introspect: definitions` is told besides what its database is made
// of, as pg_dump reads it: texts of views, functions, constraints, indexes,
// triggers, policies and defaults, comments, options and rights. What holds rows,
// passwords or what others do stays as it is for any other task.

// Definitions is what such a task may be told. It is made once a generation.
type Definitions struct {
	reads  func(relation []string, column string) bool
	masked func(relation []string, column string) bool

	mu   sync.Mutex
	of   *schema.Schema
	list string
}

// NewDefinitions makes it of what says whether a task reads a column, whatever
// stands in it, and whether it masks one.
func NewDefinitions(reads, masked func(relation []string, column string) bool) *Definitions {
	return &Definitions{reads: reads, masked: masked}
}

// defining are the functions that give definitions.
var defining = set(`pg_get_expr pg_get_indexdef pg_get_viewdef pg_get_triggerdef pg_get_ruledef pg_get_constraintdef pg_get_functiondef pg_get_function_arguments
	pg_get_function_arg_default pg_get_function_sqlbody pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions obj_description col_description pg_options_to_table`)

// withheld are the columns of system relations that hold more than definitions,
// and so are NULL to such a task as well: values of rows, passwords, what others
// have set. What bounds a partition is read where its key is.
var withheld = map[string]map[string]bool{
	"pg_class": set("relpartbound relpages reltuples relallvisible relallfrozen"), "pg_attribute": set("attmissingval attfdwoptions"), "pg_tablespace": set("spcoptions spcacl"), "pg_roles": set("rolpassword rolconfig"), "pg_user": set("passwd useconfig"),
	"pg_database": set("datacl"), "pg_foreign_table": set("ftoptions"), "pg_foreign_server": set("srvoptions"), "pg_foreign_data_wrapper": set("fdwoptions"), "pg_shdescription": set("description"),
	"pg_subscription": set("subconninfo"), "pg_sequences": set("last_value"), "pg_settings": set("setting boot_val reset_val sourcefile sourceline"), "pg_cursors": set("statement"),
	"pg_statio_all_tables": set("heap_blks_read heap_blks_hit idx_blks_read idx_blks_hit toast_blks_read toast_blks_hit tidx_blks_read tidx_blks_hit"),
	// These no other task reads.
	"pg_init_privs": {}, "pg_transform": {}, "pg_largeobject_metadata": {}, "pg_seclabels": {}, "pg_shseclabel": {}, "pg_user_mappings": set("umoptions"), "pg_db_role_setting": set("setconfig"),
}

// described gives the columns of a system relation that are NULL to a task that is
// told definitions; false is a relation that it may not read.
func described(n schema.Name) (hidden map[string]bool, ok bool) {
	if _, ok = told(n); n.Namespace == "pg_catalog" {
		hidden = withheld[n.Name]
	}
	return hidden, ok || hidden != nil
}

// told says it for the task at hand.
func (a *analyzer) told(n schema.Name) (hidden map[string]bool, ok bool) {
	if a.c.Definitions != nil {
		return described(n)
	}
	return told(n)
}

// bounded gives the partitions whose bounds the task may be told, as a constant:
// those that it would find by reading the keys.
func (d *Definitions) bounded(s *schema.Schema) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == s {
		return d.list
	}
	open := map[schema.OID]bool{}
	for _, parent := range s.Relations {
		if len(parent.PartitionKey) == 0 {
			continue
		}
		kin := s.Family(parent)
		key := parent.Columns // of an expression each may be
		if !slices.Contains(parent.PartitionKey, 0) {
			key = slices.DeleteFunc(slices.Clone(key), func(c schema.Column) bool { return !slices.Contains(parent.PartitionKey, c.Num) })
		}
		if slices.ContainsFunc(key, func(c schema.Column) bool {
			return slices.ContainsFunc(kin, func(k *schema.Relation) bool { return d.masked(k.Name.Parts(), c.Name) })
		}) {
			continue
		}
		for _, oid := range parent.Children {
			child := s.Relations[oid]
			if child != nil && !slices.ContainsFunc(key, func(c schema.Column) bool {
				return !d.reads(parent.Name.Parts(), c.Name) && !d.reads(child.Name.Parts(), c.Name)
			}) {
				open[oid] = true
			}
		}
	}
	d.of, d.list = s, oids(open)
	return d.list
}

// bound has a partition's bounds be read where the task reads the key.
func (a *analyzer) bound(n int32, c column) column {
	return a.either(n, c.name, "relpartbound", `"oid"`+isAny+`(`+a.c.Definitions.bounded(a.c.Schema)+`)`)
}
