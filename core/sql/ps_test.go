package sql_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// judged is the tasks guard's verdict on a text, and why.
func judged(c *sql.Context, rules []policy.Rule, text string) (abi.Decision, string) {
	a, err := sql.Analyze(c, text)
	if err == nil {
		a, err = a.Resolve(sql.NoNames{})
	}
	if err != nil {
		return abi.Deny, err.Error()
	}
	v := abi.Verdict{}
	task := policy.Config{Tasks: map[string]*policy.Task{"x": {Rules: rules}}}
	task.Judge(&abi.Command{Session: &abi.Session{Task: "x"}, Statement: a.Statement}, &v)
	return v.Decision, v.Reason.Message
}

// wide lists everything on every table, but no function.
func wide(c *sql.Context) []policy.Rule {
	var tables []string
	for name := range c.Schema.RelationByName {
		tables = append(tables, name.Namespace+"."+name.Name)
	}
	return []policy.Rule{{Verbs: []string{"select", "insert", "update", "delete", "truncate", "lock"}, Tables: tables, Columns: []string{"*"}, Effects: tables}}
}

// reader may read orders and nothing else.
var reader = []policy.Rule{{Verbs: []string{"select"}, Tables: []string{"public.orders"}, Columns: []string{"*"}}}

// denied holds texts that the rules have to refuse, and words of the reason.
func denied(t *testing.T, c *sql.Context, rules []policy.Rule, texts map[string]string) {
	t.Helper()
	for text, want := range texts {
		if d, why := judged(c, rules, text); d == abi.Allow || !strings.Contains(why, want) {
			t.Errorf("%s: %v, %s; want %q", text, d, why, want)
		}
	}
}

func allowed(t *testing.T, c *sql.Context, rules []policy.Rule, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if d, why := judged(c, rules, text); d != abi.Allow {
			t.Errorf("%s: %v, %s", text, d, why)
		}
	}
}

// TestPS03WithAtAnyDepth: a command that changes rows is seen wherever it
// stands, and one of them does not speak for another.
func TestPS03WithAtAnyDepth(t *testing.T) {
	c := loaded(t)
	changes := map[string]string{"insert into orders (customer_id, total) values (1, 1) returning id": "insert", "update orders set note = 'x' returning id": "update", "delete from orders returning id": "delete"}
	if pgtest.Major() >= 17 {
		changes["merge into orders using (select 1 as i) s on id = i when matched then delete returning id"] = "delete"
	}
	for change, verb := range changes {
		for _, frame := range []string{
			"with d as (%s) select * from d", "with d as (%s) select 1", "with a as (select 1), d as (%s), b as (select * from d) select * from b", "with recursive d as (%s) select * from d",
			"with d as materialized (%s) select (select id from d limit 1)", "with d as (with e as (select 1) %s) select 1", "prepare p as with d as (%s) select 1", "prepare p as %s",
			"explain with d as (%s) select * from d", "explain analyze with d as (%s) select * from d", "copy (with d as (%s) select * from d) to stdout", "copy (%s) to stdout",
			"select 1; with d as (%s) select 1; select 2", "with d as (%s) insert into items (order_id) select id from d", "(with d as (%s) select * from d)", "with d as (%s) table d",
			"with d as (%s) values (1)", "declare c cursor for with d as (%s) select 1",
		} {
			text := fmt.Sprintf(frame, change)
			if d, why := judged(c, reader, text); d == abi.Allow || !strings.Contains(why, verb) && !strings.Contains(why, "syntax") {
				t.Errorf("%s: %v %s", text, d, why)
			}
		}
	}
	keyed := []policy.Rule{{Verbs: []string{"update"}, Tables: []string{"public.orders"}, Columns: []string{"note"}, Where: "key"}, {Verbs: []string{"select", "insert"}, Tables: []string{"public.orders"}, Columns: []string{"*"}}}
	denied(t, c, keyed, map[string]string{
		"with a as (update orders set note = 'x' where id = 1) update orders set note = 'y'":                                                                           "unique key",
		"with a as (update orders set note = 'x') update orders set note = 'y' where id = 1":                                                                           "unique key",
		"with a as (update orders set note = 'x' where id = 1) insert into orders (id, customer_id, total) values (1, 1, 1) on conflict (id) do update set note = 'y'": "unique key",
		"update orders set note = 'x' where id = 1; update orders set note = 'y'":                                                                                      "unique key",
	})
	allowed(t, c, keyed, "with a as (update orders set note = 'x' where id = 1 returning id) update orders set note = 'y' where id = 2", "update orders set note = 'x' where id = 1; update orders set note = 'y' where id = 2")
}

// TestPS04Explain: with ANALYZE, however it is said, it runs; without, what is
// planned is judged as if it ran, since planning folds functions.
func TestPS04Explain(t *testing.T) {
	c := loaded(t)
	for option, analyzes := range map[string]bool{"": false, "verbose": false, "analyze": true, "analyse": true, "ANALYZE VERBOSE": true, "(analyze)": true, "(ANALYZE true)": true, "(analyze 1)": true,
		"(analyze on)": true, "(analyze 'on')": true, "(analyze off)": false, "(analyze false)": false, "(analyze 0)": false, "(costs off, analyze)": true, "(analyze off, analyze on)": true,
		"(analyze on, analyze off)": true, "(costs, timing off)": false, "(\"analyze\")": true, "(format json, analyze 't')": true} {
		for text, verb := range map[string]string{"delete from orders": "delete", "select * from customers": "select", "select purge()": "call", "update orders set note = 'x'": "update"} {
			a, err := sql.Analyze(c, "explain "+option+" "+text)
			if err != nil {
				if option == "(\"analyze\")" || strings.Contains(option, "'on'") {
					continue
				}
				t.Errorf("explain %s %s: %v", option, text, err)
				continue
			}
			saw, ran := false, false
			for _, o := range a.Statement.Operations {
				saw = saw || o.Verb == verb
				ran = ran || o.Verb == "explain analyze"
			}
			if kind := a.Parts[0].Kind == sql.ExplainAnalyze; !saw || ran != analyzes || kind != analyzes {
				t.Errorf("explain %s %s: %v %v\n%s", option, text, ran, kind, render(a, nil))
			}
			if d, _ := judged(c, reader, "explain "+option+" "+text); d == abi.Allow {
				t.Errorf("explain %s %s is allowed", option, text)
			}
		}
	}
	allowed(t, c, reader, "explain select * from orders", "explain (costs off, verbose) select note from orders where id = 1", "explain declare c cursor for select note from orders")
	for _, text := range []string{"explain execute p", "explain declare c cursor for select purge()", "explain create table x as select * from orders", "explain refresh materialized view x", "explain (generic_plan) select purge()"} {
		if d, _ := judged(c, wide(c), text); d == abi.Allow {
			t.Errorf("%s is allowed", text)
		}
	}
}

// TestPS05Branches: what a MERGE, COPY or ON CONFLICT may do are operations.
func TestPS05Branches(t *testing.T) {
	c := loaded(t)
	rules := append(slices.Clone(reader), policy.Rule{Verbs: []string{"insert"}, Tables: []string{"public.orders"}, Columns: []string{"id", "customer_id"}})
	denied(t, c, rules, map[string]string{
		"merge into orders o using orders s on o.id = s.id when matched then update set note = 'x'":                               "update on public.orders",
		"merge into orders o using orders s on o.id = s.id when matched then delete":                                              "delete on public.orders",
		"merge into orders o using orders s on o.id = s.id when matched and s.total > 1 then do nothing when matched then delete": "delete on public.orders",
		"merge into orders o using orders s on o.id = s.id when not matched then insert (id, note) values (1, 'x')":               "column note",
		"merge into orders o using orders s on o.id = s.id when not matched then insert values (1, 2, 'x')":                       "column status",
		"merge into orders o using orders s on o.id = s.id when not matched then insert values (s.*)":                             "column status",
		"merge into orders o using customers s on o.id = s.id when not matched then do nothing":                                   "public.customers",
		"merge into orders o using orders s on o.id = (select max(id) from customers) when not matched then do nothing":           "public.customers",
		"merge into orders o using orders s on o.id = s.id when not matched then insert (id) values ((select id from customers))": "public.customers",
		"copy (delete from orders returning *) to stdout":                                                                         "delete on public.orders",
		"copy (insert into items (order_id) values (1) returning *) to stdout":                                                    "insert on public.items",
		"copy customers to stdout":                    "public.customers",
		"copy orders (id, note) from stdin":           "column note",
		"copy orders from stdin":                      "",
		"copy (select card from customers) to stdout": "public.customers",
		"insert into orders (id) values (1) on conflict (id) do update set customer_id = 2":                         "update on public.orders",
		"insert into orders (id) select id from customers":                                                          "public.customers",
		"insert into orders (id) values (1) on conflict (id) do update set note = (select card from customers)":     "update on public.orders",
		"insert into orders (id) values (1) on conflict (id) where (select true from customers limit 1) do nothing": "public.customers",
	})
	allowed(t, c, rules, "insert into orders (id, customer_id) values (1, 2) on conflict do nothing", "copy orders (id, customer_id) from stdin", "copy orders (id) to stdout",
		"merge into orders o using orders s on o.id = s.id when not matched then insert (id) values (s.id)", "copy (select note from orders) to stdout")
	denied(t, c, []policy.Rule{{Verbs: []string{"insert"}, Tables: []string{"public.customers"}, Columns: []string{"*"}}}, map[string]string{
		"insert into customers (name, email) values ('a', 'b') on conflict on constraint customers_email_key do nothing": "select on public.customers",
		"insert into customers (name, email) values ('a', 'b') on conflict (email) do nothing":                           "select on public.customers",
		"insert into customers (name, email) values ('a', 'b') on conflict (lower(email)) do nothing":                    "select on public.customers",
		"insert into customers as c (name, email) values ('a', 'b') on conflict ((c.email || 'x')) do nothing":           "select on public.customers",
		"insert into customers (name, email) values ('a', 'b') on conflict (coalesce(email, 'x') text_ops) do nothing":   "select on public.customers",
	})
}

// TestPS06Forms: what reads without SELECT is a read, what makes a table needs
// a rule of its own.
func TestPS06Forms(t *testing.T) {
	c := loaded(t)
	denied(t, c, reader, map[string]string{
		"table customers": "public.customers", "table only customers": "public.customers", "values ((select card from customers limit 1))": "public.customers", "(table customers) limit 1": "public.customers",
		"select * into x from orders": "create_table of public.x", "select * into temp x from orders": "create_table of pg_temp.x", "create table x as select * from orders": "create_table of public.x", "create table x as table orders": "create_table of public.x",
		"create temp table x as select 1": "create_table of pg_temp.x", "create materialized view x as select * from orders": "create_view of public.x",
		"create table x as execute p": "", "with w as (select 1) select * into x from w": "create_table of public.x", "create table x (like orders)": "create_table of public.x", "select id from orders union table customers": "",
		"select 1 where exists (table customers)": "public.customers", "select * from (table customers) c": "public.customers", "insert into orders table orders": "insert on public.orders",
	})
	allowed(t, c, reader, "table orders", "table only orders order by note limit 2", "values (1), (2)", "values ((select note from orders limit 1))", "(select 1) union (values (2))")
}

// kindsOf are statements that no task can list.
var kindsOf = map[string]string{
	"do $$ begin end $$": "do", "do language plpgsql 'begin end'": "do", "create rule r as on insert to orders do nothing": "create rule",
	"create trigger t before insert on orders execute function f()": "create trigger", "create event trigger e on ddl_command_end execute function f()": "create event", "create extension dblink": "create extension",
	"create subscription s connection '' publication p": "create subscription", "create publication p for all tables": "create publication", "alter system set x = 1": "alter system",
	"security label on table orders is 'x'": "security label", "create server s foreign data wrapper w": "create server", "create user mapping for app server s": "create user", "import foreign schema x from server s into public": "import foreign",
	"create role r": "create role", "alter role app set search_path = x": "alter role", "grant select on orders to public": "grant", "revoke select on orders from app": "revoke", "grant app to x": "grant",
	"alter default privileges grant select on tables to public": "alter default", "reassign owned by app to x": "reassign owned", "drop owned by app": "drop owned", "create policy p on orders": "create policy", "alter view open_orders owner to app": "alter view", "create type t as range (subtype = int4)": "create type", "create cast (int as text) without function": "create cast", "create operator #### (rightarg = int, function = f)": "create operator", "create aggregate a (int) (sfunc = f, stype = int)": "create aggregate",
	"create language plx": "create language", "create collation c from \"C\"": "create collation", "create text search configuration x (copy = english)": "create text", "create database d": "create database",
	"drop database shop": "drop database", "create tablespace t location '/x'": "create tablespace", "load 'x'": "load", "create access method m type table handler h": "create access", "create statistics s on id, note from orders": "create statistics",
	"create transform for int language plpgsql (from sql with function f(internal))": "create transform", "alter database shop set x = 1": "alter database", "create foreign table f (a int) server s": "create foreign",
}

// TestPS07Kinds: each kind of statement is one of its own, which no task lists.
func TestPS07Kinds(t *testing.T) {
	c := loaded(t)
	for text, verb := range kindsOf {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if ops := a.Statement.Operations; len(ops) != 1 || ops[0].Kind != abi.KindStatement || ops[0].Verb != verb || !ops[0].Effect.Writes() {
			t.Errorf("%s: %s", text, render(a, nil))
		}
		if d, _ := judged(c, wide(c), text); d == abi.Allow {
			t.Errorf("%s is allowed", text)
		}
	}
	denied(t, c, wide(c), map[string]string{"call purge()": "public.purge", "call purge(1, 2)": "public.purge", "call nope()": "does not exist"})
}

// TestPS08FunctionsOfTheServer: whatever runs text, reads what is no column or
// touches the world is a call of its own; of all the server's functions, each
// that is not on the list is one.
func TestPS08FunctionsOfTheServer(t *testing.T) {
	c := database(t, "functions", "CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw; CREATE SEQUENCE s; CREATE TABLE t (id int, x xml)")
	for _, call := range []string{"query_to_xml('select 1', true, true, '')", "cursor_to_xml('c', 1, true, true, '')", "table_to_xml('t', true, true, '')", "database_to_xml(true, true, '')", "schema_to_xml('public', true, true, '')",
		"query_to_xmlschema('select 1', true, true, '')", "ts_stat('select 1')", "ts_rewrite('a', 'select 1')", "dblink('select 1')", "dblink_exec('x')", "dblink_connect('x')", "postgres_fdw_disconnect_all()",
		"lo_import('/etc/passwd')", "lo_export(1, '/x')", "lo_get(1)", "lo_create(1)", "loread(1, 1)", "lowrite(1, '')", "lo_from_bytea(1, '')", "pg_read_file('x')", "pg_read_binary_file('x')", "pg_ls_dir('.')", "pg_stat_file('x')",
		"pg_ls_logdir()", "pg_ls_waldir()", "set_config('role', 'x', true)", "set_config(upper('x'), 'x', true)", "current_setting(upper('x'))", "pg_terminate_backend(1)", "pg_cancel_backend(1)", "pg_reload_conf()", "pg_rotate_logfile()", "pg_logical_emit_message(true, 'x', 'y')", "pg_sleep(1)",
		"pg_sleep_for('1 s')", "nextval('s')", "setval('s', 1)", "currval('s')", "lastval()", "pg_notify('x', 'y')", "pg_advisory_lock(1)", "pg_try_advisory_lock(1)", "pg_export_snapshot()", "txid_current()",
		"pg_current_xact_id()", "pg_stat_reset()", "pg_create_restore_point('x')", "pg_switch_wal()", "pg_promote()", "pg_import_system_collations('public')", "pg_relation_filepath('t')", "pg_get_viewdef('v')",
		"pg_stat_get_activity(null)", "pg_show_all_settings()", "pg_prepared_xact()", "pg_cursor()", "pg_lock_status()", "brin_summarize_new_values('x')", "gin_clean_pending_list('x')", "pg_current_snapshot()", "regclassin('t')", "setseed(0.5)",
		"pg_input_is_valid('x', 'int')", "to_regclass('t')", "has_table_privilege('t', 'select')", "array_in('{}', 23, -1)", "domain_in('x', 23, -1)", "record_in('()', 2249, -1)"} {
		off := *c
		off.Introspect = false
		a, err := sql.Analyze(&off, "select "+call)
		if err != nil && strings.Contains(err.Error(), "does not exist") && pgtest.Major() < 16 {
			continue // a newer server's
		}
		if got := render(a, err); !strings.Contains(got, "call ") && !strings.HasPrefix(got, "set ") || !strings.Contains(got, " !") {
			t.Errorf("%s: %s", call, got)
		}
		for _, frame := range []string{"select * from %s x", "select 1 where %s is null", "select 1 order by %s", "select count(*) over (order by %s)", "select 1 limit (select 1 from t where %s is null)", "select (%s)::text", "select coalesce(null, %s)::text", "select case when %s is null then 1 end", "explain select %s"} {
			if d, _ := judged(&off, wide(c), fmt.Sprintf(frame, call)); d == abi.Allow {
				t.Errorf(frame+" is allowed", call)
			}
		}
	}
	listed, calls := 0, 0
	for name, fs := range c.Schema.FunctionsNamed {
		accepted := true
		for _, f := range fs {
			text := "select pg_catalog." + `"` + name + `"(` + strings.TrimSuffix(strings.Repeat("null,", len(f.Args)), ",") + ")"
			if f.Kind == 'p' || f.Name.Namespace != "pg_catalog" {
				continue
			}
			off := *c
			off.Introspect = false
			a, err := sql.Analyze(&off, text)
			calls++
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if accepted = len(a.Statement.Operations) == 0; accepted {
				listed++
				if slices.ContainsFunc(fs, func(f *schema.Function) bool { return f.Volatility == 'v' }) && !slices.Contains([]string{"random", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "random_normal", "pg_advisory_unlock_all", "timezone" /* up to 14 */}, name) {
					t.Errorf("%s is volatile, and any text may call it", text)
				}
			}
		}
	}
	if listed < 1500 || calls-listed < 700 {
		t.Errorf("%d of %d are on the list", listed, calls)
	}
}
