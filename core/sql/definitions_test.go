package sql_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// secrets are in places of a database that hold more than definitions.
const withSecrets = `CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'zz-host'); CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'u', password 'zz-password');
	CREATE FOREIGN TABLE away (a int OPTIONS (column_name 'zz-column')) SERVER far OPTIONS (table_name 'zz-table');
	CREATE TABLE masked (id int, region text, note text) PARTITION BY LIST (region); CREATE TABLE masked_n PARTITION OF masked FOR VALUES IN ('zz-north');
	CREATE TABLE unlisted (id int, region text) PARTITION BY LIST (region); CREATE TABLE unlisted_n PARTITION OF unlisted FOR VALUES IN ('zz-unlisted');
	CREATE TABLE deep (id int, region text, note text) PARTITION BY RANGE (id); CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM (1) TO (4711) PARTITION BY LIST (lower(region));
	CREATE TABLE deep_1n PARTITION OF deep_1 FOR VALUES IN ('zz-deep');
	CREATE TABLE grown (id int); INSERT INTO grown VALUES (1); ALTER TABLE grown ADD late text DEFAULT 'zz-missing'; ALTER TABLE grown ALTER late DROP DEFAULT;
	ALTER ROLE app SET application_name = 'zz-role'; COMMENT ON ROLE app IS 'zz-comment';
	CREATE TABLE seen (id serial PRIMARY KEY, note text DEFAULT 'told default' CHECK (note <> 'told check')); CREATE INDEX seen_part ON seen (lower(note)) WHERE note > 'told index';
	CREATE VIEW shown AS SELECT id FROM seen WHERE note = 'told view'; COMMENT ON TABLE seen IS 'told comment';
	CREATE FUNCTION f(a text DEFAULT 'told argument') RETURNS text LANGUAGE sql AS 'SELECT ''told body'''; CREATE POLICY p ON seen USING (note <> 'told policy');
	CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER tr AFTER INSERT ON seen FOR EACH ROW WHEN (NEW.note = 'told trigger') EXECUTE FUNCTION t('told word');
	CREATE RULE r AS ON DELETE TO seen WHERE OLD.note = 'told rule' DO INSTEAD NOTHING; CREATE STATISTICS st ON (note || 'told statistics'), id FROM seen;
	INSERT INTO seen (note) VALUES ('zz-row'); ANALYZE seen; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;`

// TestIntrospectDefinitions: a task with introspect: definitions is told how things are made,
// and no value of a row, no password and nothing that others do; any other task is
// told neither.
func TestIntrospectDefinitions(t *testing.T) {
	c := database(t, "described", withSecrets)
	conn, err := pgx.Connect(context.Background(), server.URL("postgres", "described"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	told := *c
	told.Definitions = sql.NewDefinitions(func(relation []string, column string) bool {
		return relation[1] != "unlisted" && relation[1] != "unlisted_n"
	},
		func(relation []string, column string) bool { return column == "region" && relation[1] != "deep_1" })
	// run gives what comes of a text, with its columns' names; false is a refusal.
	run := func(c *sql.Context, text string) (string, bool) {
		t.Helper()
		if d, _ := judged(c, wide(c), text); d != abi.Allow {
			return "", false
		}
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(err)
		}
		res, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll()
		if err != nil {
			t.Fatalf("%s\n%s\n%v", text, a.Statement.Canonical, err)
		}
		var out strings.Builder
		for _, r := range res {
			for _, row := range r.Rows {
				for _, cell := range row {
					out.Write(cell)
					out.WriteByte('|')
				}
				out.WriteByte('\n')
			}
		}
		return out.String(), true
	}
	for text, want := range map[string]string{
		"select pg_get_expr(adbin, adrelid) from pg_attrdef":                                                                    "told default",
		"select pg_get_constraintdef(oid) from pg_constraint":                                                                   "told check",
		"select pg_get_indexdef(indexrelid), pg_get_indexdef(indexrelid, 1, true) from pg_index where indexrelid >= 16384":      "told index",
		"select pg_get_expr(indpred, indrelid) from pg_index where indpred is not null":                                         "told index",
		"select pg_get_viewdef('shown'::regclass)":                                                                              "told view",
		"select pg_catalog.pg_get_viewdef(c.oid, true) from pg_class c where relname = 'shown'":                                 "told view",
		"select definition from pg_views where viewname = 'shown'":                                                              "told view",
		"select * from pg_views where viewname = 'shown'":                                                                       "told view",
		"select view_definition from information_schema.views where table_name = 'shown'":                                       "told view",
		"select obj_description('seen'::regclass, 'pg_class')":                                                                  "told comment",
		"select description from pg_description where objoid = 'seen'::regclass":                                                "told comment",
		"select prosrc from pg_proc where proname = 'f'":                                                                        "told body",
		"select pg_get_functiondef('f'::regproc), pg_get_function_arguments('f'::regproc)":                                      "told argument",
		"select pg_get_expr(polqual, polrelid) from pg_policy":                                                                  "told policy",
		"select qual from pg_policies":                                                                                          "told policy",
		"select pg_get_triggerdef(oid) from pg_trigger where tgname = 'tr'":                                                     "told trigger",
		"select tgargs from pg_trigger where tgname = 'tr'":                                                                     "\\x746f6c6420776f726400",
		"select pg_get_ruledef(oid) from pg_rewrite where rulename = 'r'":                                                       "told rule",
		"select pg_get_statisticsobjdef(oid) from pg_statistic_ext":                                                             "told statistics",
		"select check_clause from information_schema.check_constraints where constraint_name = 'seen_note_check'":               "told check",
		"select column_default from information_schema.columns where table_name = 'seen' and column_name = 'note'":              "told default",
		"select relacl from pg_class where relname = 'seen'":                                                                    "app=",
		"select pg_get_expr(relpartbound, oid) from pg_class c where relname = 'deep_1'":                                        "4711",
		"select pg_get_expr(c.relpartbound, c.oid) from pg_class c join pg_inherits i on i.inhrelid = c.oid order by c.relname": "4711",
		"select usename, srvname from pg_user_mappings":                                                                         "app|far",
		"select privtype from pg_init_privs limit 1":                                                                            "",
		"select last_value, is_called from seen_id_seq":                                                                         "1|t",
	} {
		out, ok := run(&told, text)
		if !ok || !strings.Contains(out, want) || strings.Contains(out, "zz-") {
			t.Errorf("%s: %v\n%s", text, ok, out)
		}
		if out, _ := run(c, text); strings.Contains(out, "told") || strings.Contains(out, "zz-") {
			t.Errorf("without definitions: %s\n%s", text, out)
		}
	}
	for text, want := range map[string]string{ // of settings what nobody can set and what every task may
		"select name, setting from pg_settings where name in ('transaction_read_only', 'TimeZone', 'block_size', 'DateStyle') order by lower(name)": "block_size|8192|\nDateStyle|ISO, MDY|\nTimeZone|",
		"select s.setting from pg_catalog.pg_settings s where s.name = 'transaction_read_only'":                                                     "off|\n",
		"select case when setting = 'on' then 'Y' else 'N' end from pg_settings where name = 'quote_all_identifiers'":                               "N|\n",
		"select setting from (select name, setting, 'x' as context from pg_settings) x where name = 'lock_timeout'":                                 "0|\n",
		"select setting from pg_settings x (name, was) where was = '0' limit 1":                                                                     "",
		"select (select setting from (values ('lock_timeout')) v (name)) from pg_settings where name = 'search_path'":                               "|\n",
		"select setting from pg_settings where name = 'search_path'":                                                                                "|\n",
	} {
		for _, c := range []*sql.Context{&told, c} {
			if out, ok := run(c, text); !ok && want != "" || !strings.HasPrefix(out, want) || want == "|\n" && out != want {
				t.Errorf("%s: %v %q, not %q", text, ok, out, want)
			}
		}
	}
	// What stays NULL, and what stays refused.
	for _, text := range []string{
		"select umoptions from pg_user_mappings", "select unnest(setconfig) from pg_db_role_setting", "select setconfig from pg_db_role_setting", "select srvoptions from pg_foreign_server", "select ftoptions from pg_foreign_table", "select attfdwoptions from pg_attribute where attname = 'a'", "select fdwoptions from pg_foreign_data_wrapper",
		"select option_value from pg_foreign_server, pg_options_to_table(srvoptions)", "select array(select option_value from pg_options_to_table(umoptions)) from pg_user_mappings", "select * from pg_user_mappings", "select * from pg_foreign_server",
		"select attmissingval from pg_attribute where attname = 'late'", "select * from pg_attribute where attname = 'late'", "select rolconfig, rolpassword from pg_roles where rolname = 'app'", "select * from pg_roles where rolname = 'app'",
		"select shobj_description(oid, 'pg_authid') from pg_roles where rolname = 'app'", "select description from pg_shdescription", "select last_value from pg_sequences", "select pg_sequence_last_value('seen_id_seq'::regclass)",
		"select setting from pg_settings where name = 'search_path'", "select subconninfo from pg_subscription", "select pg_table_size('seen')", "select relpages, reltuples, relallvisible from pg_class where relname in ('seen', 'masked_n')", "select * from pg_class where relname like '%masked%'",
		"select pg_get_partition_constraintdef('masked_n'::regclass)", "select pg_get_expr(relpartbound, oid) from pg_class where relname in ('masked_n', 'unlisted_n', 'deep_1n')",
		"select pg_get_expr((select relpartbound from (values ('deep_1'::regclass)) v (oid)), oid) from pg_class where relname = 'masked_n'", "select pg_get_expr(x.relpartbound, x.oid) from (select * from pg_class) x where relname = 'masked_n'",
		"select pg_get_expr(b, a) from (select oid as a, relpartbound as b from pg_class where relname = 'masked_n') x", "select pg_get_expr(x.relpartbound, x.oid) from (pg_class c join (values (1)) v (one) on true) x where x.relname = 'masked_n'",
		"select relpartbound from pg_class c (reloid, relname) where relpartbound is not null", "with x as (table pg_class) select pg_get_expr(relpartbound, oid) from x where relname = 'masked_n'",
		"select (select setting from (values ('internal')) v (context)) from pg_settings where name in ('search_path', 'data_directory')",
		"select pg_get_statisticsobjdef_expressions(oid)::text like '%row%' from pg_statistic_ext where false", "select statement from pg_cursors", "select name from pg_cursors where statement like '%zz-%'",
	} {
		for _, c := range []*sql.Context{&told, c} {
			out, ok := run(c, text)
			if strings.Contains(out, "zz-") {
				t.Errorf("%s\n%s", text, out)
			}
			if ok && strings.Trim(strings.NewReplacer("{", "", "}", "").Replace(out), "|\n") != "" && !strings.Contains(text, "*") {
				t.Errorf("%s is not NULL\n%s", text, out)
			}
		}
	}
	for _, text := range []string{"select * from pg_stats", "select * from pg_statistic", "select * from pg_statistic_ext_data", "select * from pg_stats_ext", "select * from pg_stats_ext_exprs", "select query from pg_stat_activity", "select * from pg_authid",
		"select * from pg_shadow", "select umoptions from pg_user_mapping", "select data from pg_largeobject", "select * from pg_file_settings", "select * from pg_hba_file_rules", "select * from pg_prepared_statements", "select * from pg_cursor()", "select lo_get(1)",
		"select pg_export_snapshot()", "select option_value from information_schema.user_mapping_options", "select option_value from information_schema.foreign_server_options", "select * from pg_replication_slots", "select * from pg_stat_subscription"} {
		if _, ok := run(&told, text); ok {
			t.Errorf("%s is allowed", text)
		}
	}
	off := *c
	off.Introspect = false
	for _, text := range []string{"select pg_get_viewdef('shown')", "select * from pg_init_privs", "select pg_get_indexdef(1)"} {
		if _, ok := run(&off, text); ok {
			t.Errorf("%s is allowed", text)
		}
	}
	for _, name := range []string{"pg_init_privs", "pg_transform", "pg_seclabels", "pg_shseclabel", "pg_db_role_setting", "pg_largeobject_metadata", "pg_user_mappings"} {
		if _, ok := run(c, "select * from "+name); ok {
			t.Errorf("%s is allowed without definitions", name)
		}
	}
}
