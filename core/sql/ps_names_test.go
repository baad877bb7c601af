package sql_test

import (
	"context"

	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestPS09UserFunctions: whatever users have made is a call that a rule must
// name, whatever it says of itself, and by whatever way it is called.
func TestPS09UserFunctions(t *testing.T) {
	c := database(t, "callable", functionsText)
	for text, want := range map[string]string{
		"select vol()": "public.vol", "select stab()": "public.stab", "select imm()": "public.imm", "select def()": "public.def", "select * from all_t()": "public.all_t", "select * from all_t() x (a, b)": "public.all_t",
		"select public.vol()": "public.vol", `select "vol"()`: "public.vol", "select other.vol()": "other.vol", "select more(1)": "public.more", "select more(1, 2)": "public.more", "select more(b := 1, a := 2)": "public.more",
		"select more(a => 1)": "public.more", "select many(1, 2, 3)": "public.many", "select label(t) from t": "public.label", "select (select vol())": "public.vol", "select 1 where vol() = 1": "public.vol", "select agg(id) from t": "public.agg",
		"select agg(id) over () from t": "public.agg", "select agg(id) filter (where true) from t": "public.agg", "select max(0.5) within group (order by id) from t": "public.max", "select length(name) from t": "public.length",
		"select id not like 1 from t": "public.!~~", "select id not like all (array[1]) from t": "public.!~~", "select id not between 'a' and 'b' from t": "public.<", "select 1 from t order by id using <": "public.<",
		"select id operator(public.<) name from t": "public.<", "select count(*) from t group by vol()": "public.vol", "select 1 from t limit vol()": "public.vol", "update t set id = vol()": "public.vol", "delete from t where id = vol()": "public.vol",
		"insert into t values (vol())": "public.vol", "insert into t values (1) returning vol()": "public.vol", "select array[vol()]": "public.vol", "select coalesce(vol(), 1)": "public.vol", "select cast(vol() as text)": "public.vol",
		"explain select vol()": "public.vol", "explain select imm()": "public.imm", "prepare p as select imm()": "public.imm", "select * from t, lateral (select vol()) x": "public.vol", "with recursive w as (select vol() union all select 1 from w) select 1 from w": "public.vol",
		"select lower('x')": "lower", "select initcap('x')": "public.dom", "select 'x'::initcap": "public.dom", "select null::held": "public.dom", "select '{}'::initcap[]": "public.dom", "values (vol())": "public.vol", "select case when true then vol() end": "public.vol",
	} {
		if d, why := judged(c, wide(c), text); d == abi.Allow || !strings.Contains(why, want) {
			t.Errorf("%s: %v %s", text, d, why)
		}
		if want == "lower" {
			continue // refused whatever is listed
		}
		if d, why := judged(c, append(wide(c), policy.Rule{Verbs: []string{"call"}, Functions: []string{want}}), text); d != abi.Allow {
			t.Errorf("%s: with %s listed: %v %s", text, want, d, why)
		}
	}
	denied(t, c, wide(c), map[string]string{
		"select many(variadic array[1])": "public.many", "select t.label from t": "write it as label(t)", "select (t).label from t": "not found", "select nofunc()": "does not exist", "select 1 from t where (t).label = 'x'": "not found",
		"select vol(1)": "does not exist",
	})
	allowed(t, c, wide(c), "select abs(id), upper(name), percentile_disc(0.5) within group (order by id) from t group by id, name", "select rank(1) within group (order by id) from t", "select max(id), count(*), min(name) from t", "select 1 from t where (t).name = 'x'")
}

const functionsText = `CREATE TABLE t (id int, name text, mixed int); CREATE SCHEMA other; CREATE TYPE lower AS RANGE (SUBTYPE = int); CREATE FUNCTION dom(text) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE DOMAIN initcap AS text CHECK (dom(VALUE)); CREATE TYPE held AS (a int, b initcap);
	CREATE FUNCTION vol() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION stab() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION imm() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
	CREATE FUNCTION def() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION all_t() RETURNS SETOF t LANGUAGE sql AS 'SELECT * FROM t'; CREATE FUNCTION more(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE FUNCTION many(VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION label(t) RETURNS text LANGUAGE sql AS 'SELECT $1.name'; CREATE FUNCTION other.vol() RETURNS int LANGUAGE sql AS 'SELECT 2';
	CREATE AGGREGATE agg(int) (SFUNC = int4pl, STYPE = int); CREATE AGGREGATE max(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
	CREATE FUNCTION length(varchar) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION ints(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR !~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = ints);
	CREATE FUNCTION mixed(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR < (LEFTARG = int, RIGHTARG = text, FUNCTION = mixed);`

// TestPS09Operators: whichever words the grammar has for an operator, and over
// whatever an expression can hold, one that users have made is a call.
func TestPS09Operators(t *testing.T) {
	c := database(t, "symbols", `CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN number AS int; CREATE TABLE t (id int, name text, n number, m mood);
		CREATE FUNCTION ints(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR <> (LEFTARG = int, RIGHTARG = int, FUNCTION = ints);
		CREATE FUNCTION texts(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR !~~* (LEFTARG = text, RIGHTARG = text, FUNCTION = texts); CREATE OPERATOR ~ (LEFTARG = text, RIGHTARG = text, FUNCTION = texts);
		CREATE FUNCTION numbers(number, number) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR > (LEFTARG = number, RIGHTARG = number, FUNCTION = numbers);
		CREATE FUNCTION rows(t, t) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR < (LEFTARG = t, RIGHTARG = t, FUNCTION = rows);
		CREATE FUNCTION moods(mood, mood) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR >= (LEFTARG = mood, RIGHTARG = mood, FUNCTION = moods);
		CREATE FUNCTION lists(mood[], mood[]) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR && (LEFTARG = mood[], RIGHTARG = mood[], FUNCTION = lists);`)
	denied(t, c, wide(c), map[string]string{
		"select id not in (1) from t": "public.<>", "select id <> 1 from t": "public.<>", "select name not ilike 'x' from t": "public.!~~*", "select name similar to 'x' from t": "public.~", "select name ~ 'x' from t": "public.~",
		"select n > 1 from t": "public.>", "select a < b from t a, t b": "public.<", "select m >= 'sad' from t": "public.>=", "select array[m] && array['sad'::mood] from t": "public.&&",
		"select id operator(symbols.public.<>) 1 from t": "an operator that is not named by its schema", "select id operator(<>) 1 from t": "an operator that is not named by its schema", "select id operator(public.<>) 1 from t": "public.<>",
	})
	if a, err := sql.Analyze(c, "select 'sad'::mood, mood 'sad'"); err != nil || strings.Count(a.Statement.Canonical, `"public"."mood"`) != 2 {
		t.Errorf("a type goes on without its schema: %v %s", err, render(a, err))
	}
	allowed(t, c, wide(c), "select id + 1, name || 'x', id operator(pg_catalog.<>) 1 from t where id = 1")
}

// TestPS09Casts: a cast that users have made is a call too where a value is of a
// domain over its type, or an array of it.
func TestPS09Casts(t *testing.T) {
	c := database(t, "casts", `CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE tone AS ENUM ('low'); CREATE DOMAIN feeling AS mood; CREATE TABLE t (id int, m mood, f feeling, n tone);
		CREATE FUNCTION said(mood) RETURNS text LANGUAGE sql AS 'SELECT 1'; CREATE CAST (mood AS text) WITH FUNCTION said(mood) AS IMPLICIT;
		CREATE FUNCTION sung(tone[]) RETURNS text LANGUAGE sql AS 'SELECT 1'; CREATE CAST (tone[] AS text) WITH FUNCTION sung(tone[]) AS IMPLICIT`)
	denied(t, c, wide(c), map[string]string{
		"select m || 'x' from t": "public.said", "select f || 'x' from t": "public.said", "select f from t union select 'x' from t": "public.said", "select array_agg(n) || 'x' from t": "public.sung", "select array[n]::text from t": "public.sung", "select t from t": "public.s",
	})
	allowed(t, c, wide(c), "select id, m, f, n from t")
}

// TestPS09Domains: what a domain's condition calls is called too where a value of
// it is computed with: constants beside it are taken for values of the domain.
func TestPS09Domains(t *testing.T) {
	c := database(t, "domains", `CREATE TABLE seen (v text); CREATE FUNCTION note(v text) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.seen VALUES (v); RETURN true; END $$;
		CREATE DOMAIN noted AS text CHECK (note(VALUE)); CREATE DOMAIN over AS noted CHECK (VALUE <> ''); CREATE DOMAIN fine AS text CHECK (upper(VALUE) <> 'X'); CREATE TABLE t (id int, d noted, o over, f fine); GRANT SELECT ON t TO app`)
	calls := []string{"select lag(d, 1, 'x') over () from t", "select array_append(array_agg(o), 'x') from t", "select array_position(array_agg(d), 'x') from t", "select lag(t, 1, '(1,x,x,)') over () from t", "select array_append(array_agg(d), $1) from t"}
	want := map[string]string{}
	for _, text := range calls {
		want[text] = "public.note"
	}
	denied(t, c, wide(c), want)
	allowed(t, c, wide(c), "select id, d, o, f from t", "select lag(f, 1, 'y') over () from t")
	conn, err := pgx.Connect(t.Context(), server.URL("postgres", "domains"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "insert into t (id) values (1)"); err != nil {
		t.Fatal(err)
	}
	for _, text := range calls { // that they are calls
		if _, err := conn.Exec(t.Context(), "truncate seen"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(text, "$1", "'x'")); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := conn.QueryRow(t.Context(), "select count(*) from seen").Scan(&n); err != nil || n == 0 {
			t.Errorf("%s: %d %v", text, n, err)
		}
	}
}

// TestPS11Shadows: a name means what the server makes of it, and is forwarded
// so that it goes on meaning that.
func TestPS11Shadows(t *testing.T) {
	long := strings.Repeat("ä", 31) + "x"
	c := database(t, "shadows", `CREATE SCHEMA side; CREATE SCHEMA "a.b"; CREATE TABLE t (id int, secret int); CREATE TABLE side.t (id int, secret int); CREATE TABLE "T" (id int); CREATE TABLE "t " (id int); CREATE TABLE "a.b".c (id int); CREATE TABLE "a.b.c" (id int);
		CREATE TABLE "`+long+`" (id int); CREATE TABLE "naïve" (id int); CREATE TABLE side.pg_class (relname int); CREATE TABLE "select" (id int, "from" int); CREATE TABLE pg_temp_t (id int); CREATE TABLE "quo""te" (id int);`)
	for text, want := range map[string]string{
		"select id from t": "public.t", `select id from "t"`: "public.t", "select id from T": "public.t", `select id from "T"`: "public.T", `select id from "t "`: "public.t ", `select id from public."t "`: "public.t ",
		`select id from "a.b".c`: "a.b.c", `select id from "a.b.c"`: "public.a.b.c", `select id from u&"\0074"`: "public.t", `select id from u&"!0054" uescape '!'`: "public.T", "select id from " + strings.Repeat("ä", 31) + "xyz": "public." + long,
		"select id from naïve": "public.naïve", "select id from shadows.public.t": "public.t", "select id from side.t": "side.t", `select "from" from "select"`: "public.select", `select id from "quo""te"`: "public.quo\"te", "select relname from pg_class": "pg_catalog.pg_class",
		"select relname from side.pg_class": "side.pg_class", "set search_path = side; select id from t": "side.t", "set search_path = side, public; select relname from pg_class": "pg_catalog.pg_class", "set local search_path to 'side'; select id from t": "side.t",
		"select id from public.t as side": "public.t", "select side.id from t as side": "public.t", "select public.t.id from t": "public.t", "with t as (select 1 as id) select id from public.t": "public.t", "select id from only t": "public.t", "select id from t *": "public.t",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		ops := slices.DeleteFunc(slices.Clone(a.Statement.Operations), func(o abi.Operation) bool { return o.Verb == "set" })
		if len(ops) != 1 || strings.Join(ops[0].Object, ".") != want {
			t.Errorf("%s: %s, want %s", text, render(a, nil), want)
			continue
		}
		name := `"` + strings.ReplaceAll(ops[0].Object[0], `"`, `""`) + `"."` + strings.ReplaceAll(ops[0].Object[1], `"`, `""`) + `"`
		if !strings.Contains(a.Statement.Canonical, name) {
			t.Errorf("%s is forwarded as %s", text, a.Statement.Canonical)
		}
	}
	for text, want := range map[string]string{
		"select id from pg_temp.t": "42P01", "select id from pg_temp_3.t": "42P01", `select id from "Public".t`: "42P01", `select id from "public.t"`: "42P01", "select id from other.public.t": "0A000", "select public.t.id from side.t": "42P01",
		"select t.id from t as x": "42P01", "select side.t.id from t": "42P01", "with t as (select 1 as id) select secret from t": "42703", `select "ID" from t`: "42703", "select id from naive": "42P01",
		"set search_path = pg_temp, public; select id from nope": "42P01",
	} {
		a, err := sql.Analyze(c, text)
		if got := render(a, err); !strings.HasPrefix(got, "error "+want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	denied(t, c, wide(c), map[string]string{"set search_path = pg_temp": "search_path", "set search_path = pg_toast": "search_path", "set search_path = side, pg_catalog": "search_path", `set "Search_Path" = pg_temp`: "search_path", "set search_path from current": "", "set schema 'pg_temp'": "search_path",
		"with recursive a as (select * from t), t as (select 1) select * from a": "further on", "select 1::pg_temp.x": "42704", "select pg_temp.f()": "does not exist"})
	// A name of WITH hides a table where the server lets it, and only there.
	narrow := []policy.Rule{{Verbs: []string{"select"}, Tables: []string{"public.t"}, Columns: []string{"id"}}}
	allowed(t, c, narrow, "with t as (select 1 as secret) select secret from t", "with t as (select 1 as secret) select * from t limit (select secret from t)", "with t as (select 1 as secret) (select * from t) order by (select max(secret) from t)",
		"with x as (select 1 as secret) select (with t as (select * from x) select secret from t)")
	denied(t, c, narrow, map[string]string{"with t as (select secret from t) select 1": "column secret", "with t as (select 1 as secret) select secret from public.t": "column secret", "select (with t as (select 1 as secret) select secret from t), secret from t": "column secret",
		"with a as (select secret from t), t as (select 1 as secret) select * from a": "column secret", "select id from t where exists (with t as (select 1 as secret) select 1 from public.t where secret = 1)": "column secret"})
}

// TestPS12Objects: what stands behind each kind of object, and each place that
// can name a row or a column.
func TestPS12Objects(t *testing.T) {
	c := database(t, "objects", `CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE far (id int, secret int) SERVER s; CREATE TABLE t (id int PRIMARY KEY, a int, secret int, arr int[]);
		CREATE VIEW v AS SELECT id, secret AS a FROM t; CREATE VIEW w AS SELECT a FROM v; CREATE MATERIALIZED VIEW m AS SELECT id, secret FROM t; CREATE SEQUENCE sq; CREATE TABLE parent (id int, secret int); CREATE TABLE kid (more int) INHERITS (parent);
		CREATE TABLE part (id int, secret int) PARTITION BY LIST (id); CREATE TABLE part_1 PARTITION OF part DEFAULT; CREATE TABLE u (id int, secret int, positions int, name int, unnest int); CREATE VIEW locking AS SELECT id FROM t FOR UPDATE; GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	narrow := []policy.Rule{{Verbs: []string{"select"}, Tables: []string{"public.t"}, Columns: []string{"id", "a"}}, {Verbs: []string{"select"}, Tables: []string{"public.w"}, Columns: []string{"a"}}, {Verbs: []string{"select"}, Tables: []string{"public.u", "public.part", "public.parent", "public.far", "public.m", "public.v"}, Columns: []string{"id"}}}
	secret := []string{}
	for _, place := range []string{
		"select %s from t", "select 1 from t where %s = 1", "select count(*) from t group by %s", "select 1 from t group by rollup (%s)", "select 1 from t group by grouping sets ((), (%s))", "select id from t order by %s", "select id from t order by %s using <",
		"select count(*) over (partition by %s) from t", "select count(*) over (order by %s) from t", "select count(*) over w from t window w as (partition by %s)", "select count(*) filter (where %s = 1) from t", "select percentile_disc(0.5) within group (order by %s) from t",
		"select string_agg('x', 'y' order by %s) from t", "select array_agg(distinct %s) from t", "select distinct on (%s) 1 from t", "select 1 from t having max(%s) > 1", "select (array[1, 2])[%s] from t", "select array[%s] from t", "select row(%s) from t", "select (%s, 1) = (1, 1) from t",
		"select case %s when 1 then 1 end from t", "select case when true then %s end from t", "select coalesce(%s, 1) from t", "select greatest(%s, 1) from t", "select nullif(1, %s) from t", "select %s::text from t", "select cast(%s as text) from t", "select -(%s) from t", "select %s is null from t",
		"select %s is distinct from 1 from t", "select %s between 1 and 2 from t", "select %s in (1) from t", "select 1 = any (array[%s]) from t", "select 1 in (select %s) from t", "select exists (select 1 where %s = 1) from t", "select (select %s) from t", "select x from t, lateral (select %s as x) y",
		"select x from t, lateral (values (%s)) y (x)", "select x from t, generate_series(1, %s) x", "select x from t cross join generate_series(1, %s) x", "select 1 from t join u on %s = u.id", "select 1 from t left join lateral (select %s) x on true", "select 1 from u where exists (select 1 from t where %s = u.id)",
		"(select id from t) order by %s", "((select id from t)) order by %s limit 1", "select to_jsonb(%s) from t", "select extract(epoch from make_interval(days => %s)) from t", "select substring('x' from %s) from t", "select overlay('x' placing 'y' from %s) from t", "select format('%%s', %s) from t",
		"select timezone('utc', to_timestamp(%s)) from t", "explain select %s from t", "prepare p as select %s from t", "declare c cursor for select %s from t", "copy (select %s from t) to stdout", "with w as (select %s from t) select 1", "select 1 from (select %s from t) x", "select 1 union select %s from t",
		"select 1 except all select %s from t", "values ((select max(%s) from t))", "select q.x from (select t.* from t) z, lateral (select %s from t) q (x)", "with recursive r as (select id from t union all select %s from t, r) select 1 from r", "select 1 from t where id = $1 and %s = $2",
		"select t.id from t order by (select %s)", "select id from t limit (select max(%s) from t)", "select id from t offset (select max(%s) from t)", "select id from t fetch first (select max(%s) from t) rows only", "select id from t tablesample system ((select max(%s) from t))",
	} {
		for _, name := range []string{"secret", "t.secret", "public.t.secret", `"secret"`, `t."secret"`, "(secret)", "(t).secret", "arr[1]", "t.arr[1]"} {
			secret = append(secret, fmt.Sprintf(place, name))
		}
	}
	for _, text := range append(secret, "select * from t", "select t.* from t", "select public.t.* from t", "table t", "select t from t", "select t::text from t", "select row(t.*) from t", "select row_to_json(t) from t", "select count(t) from t", "select count(t.*) from t", "select 1 from t where t is null", "select 1 from t where t = t",
		"select 1 from t x where x is not null", "select x from t x", "select distinct t from t", "select 1 from t group by t", "select id from t order by t", "select (select t) from t", "select y from t, lateral (select t) y", "select a from t x (a, b, c)  where c = 1", "select c from t x (a, b, c)", "select x.c from t as x (a, b, c)",
		"select id from t natural join u", "select 1 from t join u using (secret)", "select j.c from (t join u using (id)) j (a, b, c, d)", "select c from (t join u using (id)) j (a, b, c, d, e)", "select f from (select * from t) x (d, e, f)", "select 1 from t cross join lateral (select t.*) x",
		"select ctid from t", "select t.xmin from t", "select tableoid from t", "select 1 from t where ctid = '(0,1)'", "select 1 as ctid from t group by ctid", "select (select ctid from (select 1) x) from t", "select (select ctid from v) from t", "select (select tableoid from t x join t y on true limit 1) from u",
		"select (select positions from unnest(array[1]) x limit 1) from u", "select (select name from coalesce(name('a'), 'b') limit 1) from u", "select unnest from u, unnest(array[1]) x where unnest = 1", "select (select secret from generate_series(1, 1) x) from u",
		"select * from v", "select a from v", "select last_value from sq", "select * from m", "select secret from m", "select secret from far", "select secret from parent", "select id from kid", "select secret from part", "select id from part_1", "select secret from only parent", "select kid.id from parent, kid",
		"select id from locking", "select id from t for update", "(select id from t) for share", "select id from t for no key update of t", "select * from rows from (generate_series(1, 2), unnest(array[secret])) x, t", "select * from rows from (unnest((select array_agg(t) from t)), generate_series(1, 2)) x (a, b)", "select x.* from t, xmltable('/a' passing secret::text::xml columns b int) x", "select xmlelement(name a, secret) from t",
		"select * from t tablesample nope (1)", "select (null::t).secret", "select ('(1,2,3)'::t).secret", "select (array_agg(t))[1] from t", "select json_populate_record(null::t, '{}')", "select x.c from unnest((select array_agg(t) from t)) x (a, b, c)", "select t.secret.x from t", "select (t.*).secret from t", "select secret(t) from t") {
		if d, why := judged(c, narrow, text); d == abi.Allow {
			t.Errorf("%s is allowed (%s)", text, why)
		}
	}
	allowed(t, c, narrow, "select id, a from t", "select t.id from t x join t on x.a = t.a", "select a from w", "select id from v", "select id from m", "select id from far", "select id from parent", "select id from part", "select count(*) from t", "select x.id from t x (id, b)", "select j.z from (t join u using (id)) j (z)",
		"select id from t tablesample system (1)", "select x from unnest(array[1, 2]) x", "select * from unnest('{1,2}'::int[]) with ordinality as x (v, n)", "select key, value from jsonb_each('{}')", "select id from t join u using (id)", "select 1 as secret from t order by secret", "select a as secret from t order by secret",
		"select secret from (select a as secret from t) x", "select (select a from t limit 1) from u", "with secret as (select a from t) select secret.a from secret", "select id from t where id in (select id from u)", "select g from generate_series(1, 3) g", "select * from rows from (generate_series(1, 2), unnest(array[1])) x", "select * from xmltable('/a' passing '<a/>' columns b int) x", "select xmlelement(name a)")
	if pgtest.Major() >= 17 {
		for _, text := range []string{"select x.a from t, json_table(secret::text::jsonb, '$[*]' columns (a int)) x", "select json_query(secret::text::jsonb, '$') from t", "select json_value('{}', '$' passing secret as s) from t"} {
			if d, _ := judged(c, narrow, text); d == abi.Allow {
				t.Errorf("%s is allowed", text)
			}
		}
	}
}
