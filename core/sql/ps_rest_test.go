package sql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestPS14Conditions: which conditions count for `where: key` and `where:
// required`. The key is exact: at most one row, whatever the values are.
func TestPS14Conditions(t *testing.T) {
	notDistinct := "NULLS NOT DISTINCT"
	if pgtest.Major() < 15 {
		notDistinct = "WHERE nul IS NOT NULL" // which is no key either
	}
	c := database(t, "conditions", `CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE public.date AS ENUM ('d'); CREATE TABLE dated (id public.date PRIMARY KEY, v int); CREATE DOMAIN number AS bigint; CREATE TABLE t (id bigint PRIMARY KEY, code varchar(10) UNIQUE, low text, part int, dead bool, late int, nul int, m mood, n number);
		CREATE UNIQUE INDEX ON t (lower(low)); CREATE UNIQUE INDEX ON t (part) WHERE NOT dead; ALTER TABLE t ADD UNIQUE (late) DEFERRABLE; CREATE UNIQUE INDEX ON t (nul) `+notDistinct+`; CREATE UNIQUE INDEX ON t (m); CREATE UNIQUE INDEX ON t (n);
		CREATE TABLE pair (a int, b int, c int, PRIMARY KEY (a, b)); CREATE TABLE parent (id int PRIMARY KEY, v int); CREATE TABLE kid () INHERITS (parent); CREATE TABLE list (id int, v int, PRIMARY KEY (id)) PARTITION BY LIST (id); CREATE TABLE list_1 PARTITION OF list DEFAULT;
		CREATE TABLE inc (id int, x int); CREATE UNIQUE INDEX ON inc (id) INCLUDE (x); CREATE TABLE plain (id int, v int); CREATE INDEX ON plain (id); CREATE UNIQUE INDEX ON plain (v, abs(id));
		CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE folds (id text COLLATE folded, exact text COLLATE folded, liked text, v int);
		CREATE UNIQUE INDEX ON folds (id); CREATE UNIQUE INDEX ON folds (exact COLLATE "C"); CREATE UNIQUE INDEX ON folds (liked text_pattern_ops); CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT 1'; GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	const none, some, key = "", " where", " where:key"
	for text, want := range map[string]string{
		"t set part = 1": none, "t set part = 1 where true": none, "t set part = 1 where 1 = 1": none, "t set part = 1 where id = id": none, "t set part = 1 where t.id = id": none, "t set part = 1 where public.t.id = t.id": none, "t set part = 1 where (id) = id": none,
		"t set part = 1 where id = 1 or true": none, "t set part = 1 where id = 1 or 1 = 1": none, "t set part = 1 where id is not null": none, "t set part = 1 where id >= id": none, "t set part = 1 where true and 1 = 1": none, "t set part = 1 where $1": none,
		"t set part = 1 from t o where t.id = o.id": none, "t x set part = 1 from t o where o.id = x.id": none, "t set part = 1 from (select id as i from t) o where o.i = t.id": none, "t set part = 1 from t o join t p using (id) where t.id = p.id": none, "t set part = 1 where id = 1 or id = id": none,
		"t set part = 1 where id > 1": some, "t set part = 1 where id >= 1": some, "t set part = 1 where 1 <> id": some, "t set part = 1 where part = 1": some, "t set part = 1 where id = 1 or id = 2": some, "t set part = 1 where id in (1, 2)": some, "t set part = 1 where id = any (array[1])": some, "t set part = 1 where not (id = 1)": some, "t set part = 1 where (id = 1) is not false": some,
		"t set part = 1 where id = (select 1)": some, "t set part = 1 where id = f()": some, "t set part = 1 where id = part": some, "t set part = 1 where id = random()::bigint": some, "t set part = 1 where id = 2 ^ 60": some, "t set part = 1 where id = 1.2e18::float8": some, "t set part = 1 where id = '5'::real": some,
		"t set part = 1 where id = cast(5 as double precision)": some, "t set part = 1 where code = 'x'::char(3)": some, "t set part = 1 where code = 'x'::bpchar": some, "t set part = 1 where id = -(-part)": some, "t set part = 1 where id = $1 + 1": some, "t set part = 1 where id = coalesce($1, id)": some,
		"t set part = 1 where id = case when true then 1 end": some, "t set part = 1 where id = $1 or $2": none, "t set part = 1 where (id, part) = (1, 2)": some, "t set part = 1 where low = 'x'": some, "t set part = 1 where lower(low) = 'x'": some, "t set part = 1 where part = 1 and not dead": some, "t set part = 1 where late = 1": some,
		"t set part = 1 from t o where o.id = 1": some, "t set part = 1 from pair where id = 1": some, "t x set part = 1 from t o where o.id = x.id and o.id = 1": some, "t set part = 1 where id = date '2020-01-01' - current_date": some, "t set part = 1 where id between 1 and 1": some, "t set part = 1 where id = x'1f'::int::bigint": some,
		"t set part = 1 where id = 1": key, "t set part = 1 where 1 = id": key, "t set part = 1 where id = $1": key, "t set part = 1 where id = $1::int": key, "t set part = 1 where id = ('7')": key, "t set part = 1 where id = '7'::bigint": key, "t set part = 1 where (id = 1)": key, "t set part = 1 where id = -1": key,
		"t set part = 1 where id = 1 and part > 2": key, "t set part = 1 where part > 2 and (id = 1 and true)": key, "t set part = 1 where id in (1)": key, "t set part = 1 where id in ($1)": key, "t set part = 1 where code = 'x'": key, "t set part = 1 where code = $1": key, "t set part = 1 where code = 'x'::text": key,
		"t set part = 1 where code = cast($1 as varchar)": key, "t set part = 1 where t.id = 1": key, "t x set part = 1 where x.id = 1": key, "t x set part = 1 from t o where x.id = 1": key, "t set part = 1 where id = 1 or false": none, "t set part = 1 where m = 'sad'": key, "t set part = 1 where m = $1": key, "t set part = 1 where n = $1": key,
		"t set part = 1 where id = 1.0": key, "only t set part = 1 where id = 1": key, "t set part = 1 where id = 1 and id = 2": key, "t set part = 1 where nul = 1": some, "t set part = 1 where id = null": some,
		"pair set c = 1 where a = 1": some, "pair set c = 1 where a = 1 and b > 1": some, "pair set c = 1 where a = 1 and b = a": some, "pair set c = 1 where a = 1 or b = 1": some, "pair set c = 1 where a = 1 and b = $1": key, "parent set v = 1 where id = 1": some, "only parent set v = 1 where id = 1": key, "only (parent) set v = 1 where id = 1": key,
		"list set v = 1 where id = 1": key, "dated set v = 1 where id = 'd'": key, "dated set v = 1 where id = 'd'::date": some, "t set part = 1 where id = 1.5::numeric": some, "t set part = 1 where id not in (1)": some, "plain set v = 1 where v = 1": some, "list_1 set v = 1 where id = 1": key, "inc set x = 1 where id = 1": key, "folds set v = 1 where id = 'a'": key, "folds set v = 1 where exact = 'a'": some, "folds set v = 1 where liked = 'a'": key, "plain set v = 1 where id = 1": some,
	} {
		for _, frame := range []string{"update ", "with w as (select 1) update ", "explain update ", "prepare p as update "} {
			a, err := sql.Analyze(c, frame+text)
			if err != nil {
				t.Errorf("%s%s: %v", frame, text, err)
				break
			}
			i := slices.IndexFunc(a.Statement.Operations, func(o abi.Operation) bool { return o.Verb == "update" })
			if i < 0 {
				t.Errorf("%s%s: %s", frame, text, render(a, nil))
				break
			}
			op := a.Statement.Operations[i]
			op.Columns, op.Object, op.Verb, op.Attrs = nil, nil, "", op.Attrs&^abi.Explain
			if got := op.String(); got != want {
				t.Errorf("%s%s: %q, want %q", frame, text, got, want)
			}
		}
	}
	if pgtest.Major() >= 18 { // periods that may not overlap, nor be empty, are at most one that is equal
		c := database(t, "periods", "CREATE TABLE stay (room int4range, span daterange, v int, PRIMARY KEY (room, span WITHOUT OVERLAPS)); GRANT ALL ON stay TO app")
		for text, one := range map[string]bool{"room = $1": false, "span = $1": false, "room = $1 and span && $2": false, "room = $1 and span = $2": true} {
			a, err := sql.Analyze(c, "update stay set v = 1 where "+text)
			if err != nil || (a.Statement.Operations[0].Attrs&abi.WhereKey != 0) != one {
				t.Errorf("%s: %v %s", text, err, render(a, nil))
			}
		}
	}
	// What the client says of a parameter's type cannot make one key match many.
	for text, want := range map[string]string{"update t set part = $2 where id = $1": `($1::"pg_catalog"."int8")`, "delete from t where code = $1": `($1::"pg_catalog"."text")`, "delete from t where m = $1": `($1::"public"."mood")`, "delete from t where n = $1": `($1::"pg_catalog"."int8")`, "delete from t where part = $1": `"part" = $1`} {
		a, err := sql.Analyze(c, text)
		if err != nil || !strings.Contains(a.Statement.Canonical, want) {
			t.Errorf("%s: %v\n%s", text, err, a.Statement.Canonical)
		}
	}
	keyed := []policy.Rule{{Verbs: []string{"delete"}, Tables: []string{"public.t"}, Where: "key"}, {Verbs: []string{"select"}, Tables: []string{"public.t"}, Columns: []string{"*"}}}
	allowed(t, c, keyed, "delete from t where id = 1", "delete from t where id = $1 returning *")
	denied(t, c, keyed, map[string]string{"delete from t": "unique key", "delete from t where id = 1 or id = 2": "unique key", "delete from t using t o where t.id = o.id": "unique key", "merge into t using (select 1 as i) s on t.id = 1 when matched then delete": "unique key", "truncate t": "truncate", "with d as (delete from t where id = 1) delete from t": "unique key"})
	required := []policy.Rule{{Verbs: []string{"delete"}, Tables: []string{"public.t"}, Where: "required"}, {Verbs: []string{"select"}, Tables: []string{"public.t"}, Columns: []string{"*"}}}
	allowed(t, c, required, "delete from t where part = 1")
	denied(t, c, required, map[string]string{"delete from t": "a condition", "delete from t where t.id = id": "a condition", "delete from t using t o where t.id = o.id": "a condition", "merge into t using (select 1 as i) s on t.id = 1 when matched then delete": "a condition"})
}

// TestPS22Transactions: what begins and ends a transaction of its own passes,
// what reaches further does not.
func TestPS22Transactions(t *testing.T) {
	c := loaded(t)
	for text, kind := range map[string]sql.Kind{"begin": sql.Begin, "begin work": sql.Begin, "begin isolation level serializable, read only, deferrable": sql.Begin, "start transaction read write": sql.Begin, "commit": sql.Commit, "commit work": sql.Commit, "end": sql.Commit, "end transaction": sql.Commit,
		"rollback": sql.Rollback, "abort": sql.Rollback, "abort work": sql.Rollback, "rollback transaction": sql.Rollback, "savepoint a": sql.Savepoint, "release a": sql.Release, "release savepoint a": sql.Release, "rollback to a": sql.RollbackTo, "rollback to savepoint a": sql.RollbackTo, "rollback work to savepoint a": sql.RollbackTo,
		"commit and no chain": sql.Commit, "rollback and no chain": sql.Rollback} {
		a, err := sql.Analyze(c, text)
		if err != nil || len(a.Parts) != 1 || a.Parts[0].Kind != kind || a.Statement.Writes() {
			t.Errorf("%s: %v\n%s", text, err, render(a, err))
		}
		allowed(t, c, nil, text)
	}
	for text, kind := range map[string]sql.Kind{"commit and chain": sql.CommitChain, "rollback and chain": sql.CommitChain, "abort and chain": sql.CommitChain, "end and chain": sql.CommitChain, "prepare transaction 'x'": sql.TwoPhase, "commit prepared 'x'": sql.TwoPhase, "rollback prepared 'x'": sql.TwoPhase} {
		a, err := sql.Analyze(c, text)
		if err != nil || len(a.Parts) != 1 || a.Parts[0].Kind != kind {
			t.Errorf("%s: %v\n%s", text, err, render(a, err))
		}
		denied(t, c, wide(c), map[string]string{text: "not in this task"})
	}
	denied(t, c, wide(c), map[string]string{"set transaction snapshot '1-1'": "", "set session characteristics as transaction read only; drop table orders": "drop table", "commit; drop table orders": "drop table", "begin; delete from nope": "42P01", "rollback; select pg_sleep(1)": "pg_sleep"})
}

// TestPS23Maintenance: what works on the whole database or server is no task's;
// what works on a table has verbs of its own, which these tasks do not list.
func TestPS23Maintenance(t *testing.T) {
	c := loaded(t)
	texts := map[string]string{"vacuum": "VACUUM without a table", "vacuum full orders": "cluster of public.orders", "vacuum (full, analyze) orders": "cluster of public.orders", "analyze": "ANALYZE without a table", "analyze orders (id)": "analyze of", "reindex table orders": "reindex of", "reindex (concurrently) index orders_pkey": "reindex of", "reindex system x": "REINDEX of all",
		"cluster": "CLUSTER without a table", "cluster orders using orders_pkey": "cluster of",
		"checkpoint": "checkpoint", "load 'x'": "load"}
	denied(t, c, wide(c), texts)
	for text := range texts {
		if a, err := sql.Analyze(c, text); err != nil || !a.Statement.Writes() {
			t.Errorf("%s: %s", text, render(a, err))
		}
	}
	for _, mode := range []string{"", " in row share mode", " in row exclusive mode", " in share update exclusive mode", " in share mode", " in share row exclusive mode", " in exclusive mode", " in access exclusive mode", " nowait", " in exclusive mode nowait"} {
		denied(t, c, reader, map[string]string{"lock orders" + mode: "lock on public.orders", "lock table only orders" + mode: "lock on public.orders", "begin; lock orders" + mode: "lock on public.orders"})
		allowed(t, c, wide(c), "lock orders"+mode)
	}
	allowed(t, c, reader, "lock orders in access share mode", "lock only orders in access share mode nowait")
	denied(t, c, reader, map[string]string{"lock orders, customers in access share mode": "public.customers", "lock open_orders": "view", "lock events": "lock on public.events", "truncate orders": "truncate on public.orders", "truncate only orders": "truncate on public.orders"})
	denied(t, c, wide(c), map[string]string{"truncate orders restart identity": "alter_sequence of public.orders_id_seq"})
	allowed(t, c, wide(c), "truncate customers, orders cascade") // what has a foreign key to them is truncated as if it were named
	one := []policy.Rule{{Verbs: []string{"truncate"}, Tables: []string{"public.customers", "public.orders"}, Effects: []string{"public.items", "public.payments"}}}
	denied(t, c, one, map[string]string{"truncate orders cascade": "truncate on public.", "truncate customers cascade": "truncate on public."})
}

// TestPS24Settings: what changes the meaning of texts, or who one is, is not
// among what any task may set.
func TestPS24Settings(t *testing.T) {
	c := loaded(t)
	other, another := *c, *c.Schema // whose role somebody has put in the place of the login's
	another.Role.Itself, other.Schema = false, &another
	for _, text := range []string{"reset session authorization", "set session authorization default"} {
		if a, err := sql.Analyze(&other, text); err != nil || !a.Statement.Writes() {
			t.Errorf("%s\n%s", text, render(a, err))
		}
	}
	for _, name := range []string{"transform_null_equals", "backslash_quote", "session_replication_role", "role", "session_authorization", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries", "dynamic_library_path",
		"default_with_oids", "array_nulls", "lo_compat_privileges", "log_statement", "log_min_messages", "work_mem", "default_text_search_config", "lc_messages", "lc_monetary",
		"search_path.x", "app.user", "plpgsql.variable_conflict", "event_triggers", "allow_system_table_mods", "zero_damaged_pages", "ignore_system_indexes", "debug_print_parse", "client_encoding.x", "createrole_self_grant", "password_encryption", "vacuum_cost_delay", "temp_file_limit", "restrict_nonsystem_relation_kind"} {
		for _, form := range []string{"set ", "set local ", "set session ", "SET \""} {
			text := form + name + " to on"
			if strings.HasSuffix(form, `"`) {
				text = `SET "` + strings.ToUpper(name) + `" = 'on'`
			}
			if d, why := judged(c, wide(c), text); d == abi.Allow {
				t.Errorf("%s is allowed (%s)", text, why)
			}
		}
		for _, text := range []string{"reset " + name, "set " + name + " = default", "select set_config('" + name + "', 'on', false)", "select pg_catalog.set_config('" + name + "', 'on', false)", "select 1; set " + name + " = on", "set " + name + " from current"} {
			if d, why := judged(c, wide(c), text); d == abi.Allow && !strings.HasPrefix(text, "select 1; set search") {
				t.Errorf("%s is allowed (%s)", text, why)
			}
		}
	}
	for _, text := range []string{"set role none", "set role 'app'", "set local role app", "set session authorization 'postgres'", "reset role", "set names 'sjis'", "set client_encoding to latin1", "set standard_conforming_strings = off", "set standard_conforming_strings = 'off'",
		"set local standard_conforming_strings to 0", "set client_min_messages = debug5", "set xmloption to on", "set transaction snapshot 'x'", "set default_tablespace = 'x'", "set local default_tablespace to on", "set default_table_access_method = columnar", "alter role app set role = 'x'", "alter database shop set search_path = x", "set schema 'pg_temp'", "set search_path = 'pg_temp'", "set search_path = public, pg_catalog"} {
		if d, why := judged(c, wide(c), text); d == abi.Allow {
			t.Errorf("%s is allowed (%s)", text, why)
		}
	}
	allowed(t, c, nil, "set application_name = 'x'", "set local timezone to 'utc'", "set time zone 'utc'", "set time zone local", "set datestyle = iso, mdy", "set standard_conforming_strings = on", "set client_encoding = 'UTF8'", "set extra_float_digits = 3", "set session characteristics as transaction isolation level serializable", "reset all", "set transaction read only", "show timezone", "set search_path = public", "set session authorization default", "reset session authorization", "set client_encoding = default", "set standard_conforming_strings to default", "set xml option document", "set jit = off", "set row_security = off")
	allowed(t, c, nil, "show all")
	super, whose := *c, *c.Schema
	whose.Role.Superuser, super.Schema = true, &whose
	denied(t, &super, wide(c), map[string]string{"show all": "SHOW ALL"})
	// Where a text reads another way by a setting, what is forwarded does not.
	for text, want := range map[string]string{`select 'a\'`: `E'a\\'`, `select E'a\'b'`: `'a''b'`, `select "a" from (select 1 as "a") x`: `"a"`, "select N'x'": "nchar 'x'", "select note = null from orders": `"note" = null`} {
		a, err := sql.Analyze(c, text)
		if err != nil || !strings.Contains(a.Statement.Canonical, want) {
			t.Errorf("%s: %v %s", text, err, a.Statement.Canonical)
		}
	}
}
