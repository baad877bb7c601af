package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// judge is the tasks guard by itself.
type judge struct {
	rules
	config policy.Config
}

func (*judge) May() abi.May { return abi.May{Allow: true, Mask: true} }
func (j *judge) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	v := &abi.Verdict{}
	j.config.Judge(c, v)
	return v, nil
}

// asOwner logs in at the server as who owns the database.
type asOwner struct{ dialer }

func (d asOwner) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := d.dialer.Dial(ctx, r, login)
	up.User = "owner"
	return up, err
}

func ddl(in string, verbs ...string) policy.Rule {
	return policy.Rule{At: "x.yaml:1", Verbs: verbs, In: []string{in}}
}

var tableVerbs = []string{"create_table", "alter_table", "drop_table", "create_index", "drop_index", "create_view", "drop_view", "create_sequence", "alter_sequence", "drop_sequence", "create_type", "alter_type", "drop_type", "comment"}

// migrate gives a gateway for a task that may change tables.
func migrate(t *testing.T, task policy.Task) *gateway {
	t.Helper()
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.Dialer = asOwner{dialer{database: g.db}}
	options := TaskOptions{Introspect: true}
	for _, m := range task.Masks {
		options.Masked = append(options.Masked, abi.Source{Relation: m.Relation, Column: m.Column})
	}
	g.options(guard, options, ResourceOptions{Privileged: map[string]bool{"": true}}, "owner")
	return g
}

func all(verb string, tables ...string) policy.Rule {
	return policy.Rule{At: "x.yaml:2", Verbs: []string{verb}, Tables: tables, Columns: []string{"*"}}
}

// TestMigrations: what Rails, Django, Flyway and pg_dump send runs whole through
// a task, by psql and as one Query, and leaves the same as without the gateway.
func TestMigrations(t *testing.T) {
	history := func(tables ...string) (rules []policy.Rule) {
		for _, verb := range []string{"select", "insert", "lock"} {
			rules = append(rules, all(verb, tables...))
		}
		return rules
	}
	call := func(functions ...string) policy.Rule {
		return policy.Rule{At: "x.yaml:3", Verbs: []string{"call"}, Functions: functions}
	}
	every := func(tables ...string) []policy.Rule {
		return append(history(tables...), all("update", tables...))
	}
	for name, m := range map[string]struct {
		task policy.Task
		args []string
	}{
		"rails":   {policy.Task{Rules: append(every("public.schema_migrations", "public.ar_internal_metadata", "public.articles", "public.authors"), call("pg_catalog.pg_try_advisory_lock", "pg_catalog.pg_advisory_unlock"))}, nil},
		"django":  {policy.Task{Rules: every("public.django_migrations", "public.polls_choice", "public.polls_question")}, nil},
		"flyway":  {policy.Task{Rules: append(history("shop.flyway_schema_history"), ddl("shop.*", tableVerbs...), ddl("shop", "create_schema"))}, nil},
		"pg_dump": {policy.Task{Rules: []policy.Rule{call("pg_catalog.setval")}, Settings: []string{"default_tablespace", "default_table_access_method"}}, []string{"--single-transaction"}},
	} {
		m.task.Rules = append(m.task.Rules, ddl("public.*", tableVerbs...))
		text, err := os.ReadFile("testdata/migrations/" + name + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			g := migrate(t, m.task)
			if out := g.psql(t, string(text), append([]string{"-v", "ON_ERROR_STOP=1"}, m.args...)...); strings.Contains(out, "ERROR") || strings.Contains(out, "FATAL") || strings.Contains(out, "connection") {
				t.Fatal(out)
			}
			leavesTheSame(t, g, string(text))
		})
		if name == "pg_dump" { // has data for COPY in it
			continue
		}
		t.Run(name+" as one Query", func(t *testing.T) {
			g := migrate(t, m.task)
			text := strings.ReplaceAll(string(text), " CONCURRENTLY", "") // not among other statements
			if _, err := g.connect(t).PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
				t.Fatal(err)
			}
			leavesTheSame(t, g, text)
		})
	}
}

// leavesTheSame compares what a migration has left with what it leaves without
// the gateway.
func leavesTheSame(t *testing.T, g *gateway, text string) {
	t.Helper()
	direct := shop(t)
	if out, err := server.Psql(direct, "SET ROLE owner;\n"+text); err != nil {
		t.Fatal(out, err)
	}
	a, b := strings.Split(remains(t, g.db), "\n"), strings.Split(remains(t, direct), "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("from line %d on, through the gateway:\n%s\nwithout:\n%s", i, strings.Join(a[min(i, len(a)):min(i+5, len(a))], "\n"), strings.Join(b[min(i, len(b)):min(i+5, len(b))], "\n"))
		}
	}
}

// remains tells what is in a database: its tables, constraints and indexes, and
// all rows of them.
func remains(t *testing.T, database string) string {
	t.Helper()
	out, err := server.Psql(database, `SELECT c.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), c.relkind
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'shop')) AND a.attnum > 0 ORDER BY c.relname, a.attnum;
		SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE oid >= 16384 ORDER BY 1::text, 2;
		SELECT indexdef FROM pg_indexes WHERE schemaname IN ('public', 'shop') ORDER BY indexname;
		SELECT viewname, definition FROM pg_views WHERE schemaname IN ('public', 'shop') ORDER BY viewname;
		SELECT enumtypid::regtype, enumlabel FROM pg_enum ORDER BY 1::text, enumsortorder;
		SELECT sequencename, start_value, last_value FROM pg_sequences ORDER BY sequencename;
		SELECT query_to_xml(format('SELECT * FROM %s t ORDER BY t::text', oid::regclass), false, true, '')::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384
			AND relname IN ('articles', 'authors', 'schema_migrations', 'polls_answer', 'polls_question', 'django_migrations', 'totals', 'events_2026', 'events_old', 'teams') AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'shop')) ORDER BY relname;`)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stage is one text, and a part of what comes of it; the whole where it begins
// with =.
type stage struct{ text, want string }

// TestOverlay: within a transaction that changes tables each text is judged by
// what is there at its place, and nothing comes out that the task may not read.
func TestOverlay(t *testing.T) {
	task := func() policy.Task {
		return policy.Task{Masks: append(masks(abi.MaskNull, "", "people.ssn"), masks(abi.MaskHash, "", "keyed.hs", "keyed.few", "keyparts.hs")...), ShowErrors: false, Rules: []policy.Rule{
			ddl("public.*", tableVerbs...),
			{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn"}},
			{At: "x.yaml:3", Verbs: []string{"select"}, Tables: []string{"public.keyed", "public.keyparts"}, Columns: []string{"id", "hs"}},
			{At: "x.yaml:4", Verbs: []string{"insert"}, Tables: []string{"public.keyed"}, Columns: []string{"id"}},
			all("select", "public.orders", "public.later"),
		}}
	}
	g := migrate(t, task())
	if out, err := server.Psql(g.db, `SET ROLE owner; CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, secret text, region text);
		INSERT INTO people VALUES (1, 'Ada', '123-45', 'hidden', 'north');
		CREATE TABLE parts (id int, secret text, region text) PARTITION BY LIST (region); CREATE TABLE parts_n PARTITION OF parts FOR VALUES IN ('n');
		INSERT INTO parts VALUES (1, 'hidden', 'n');
		CREATE DOMAIN few AS text; CREATE TABLE keyed (id int, hs text, few few); INSERT INTO keyed VALUES (1, 'guess', 'guess'); CREATE TABLE keyparts (id int, hs text) PARTITION BY LIST (id);
		CREATE VIEW shown AS SELECT id, ssn FROM people; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app`); err != nil {
		t.Fatal(out, err)
	}
	for name, steps := range map[string][]stage{
		"made, used, and gone with its transaction": {{"begin", ""}, {"create table fresh (id int, v text)", ""}, {"insert into fresh values (1, 'a')", ""}, {"select v from fresh", "=a"}, {"update fresh set v = 'b'", ""},
			{"alter table fresh rename v to w", ""}, {"select w from fresh", "=b"}, {"select v from fresh", "42703"}, {"rollback", ""}, {"select w from fresh", "42P01"}},
		"made is listed until commit":    {{"begin", ""}, {"create table fresh (id int)", ""}, {"select count(*) from fresh", "=0"}, {"commit", ""}, {"select id from fresh", "42501"}, {"drop table fresh", ""}},
		"a rule lists it before it is":   {{"create table later (id int, v text)", ""}, {"select v from later", "="}, {"begin", ""}, {"alter table later add w text default 'x'", ""}, {"select w from later", "="}, {"commit", ""}, {"drop table later", ""}, {"select v from later", "42P01"}},
		"savepoints":                     {{"begin", ""}, {"create table a1 (id int)", ""}, {"savepoint s", ""}, {"create table a2 (id int)", ""}, {"insert into a2 values (7)", ""}, {"rollback to s", ""}, {"select id from a1", "="}, {"select id from a2", "42P01"}, {"rollback to s", ""}, {"create table a2 (other int)", ""}, {"select other from a2", "="}, {"rollback", ""}},
		"a statement that fails":         {{"begin", ""}, {"create table a1 (id int)", ""}, {"savepoint s", ""}, {"alter table a1 add column id int", "42701"}, {"select id from a1", "25P02"}, {"rollback to s", ""}, {"select id from a1", "="}, {"rollback", ""}},
		"if not exists makes nothing":    {{"begin", ""}, {"create table if not exists people (id int)", ""}, {"select secret from people", "42501"}, {"rollback", ""}},
		"a masked column keeps its name": {{"alter table people rename ssn to number", "mask"}, {"alter table people drop column ssn", "out of its mask"}, {"drop table people", "out of its mask"}, {"alter table people alter ssn type varchar", "mask"}, {"alter table people rename to persons", "42501"}, {"alter table people set schema public", "42501"}},
		"a value is not put beside a hash": {{"alter table keyed alter hs set default 'guess'", "compared with what others have"}, {"alter domain few set default 'guess'", "compared with what others have"}, {"alter table keyed alter hs drop default", ""}, {"alter table keyed alter id set default 7", ""},
			{"insert into keyed default values", ""}, {"alter table keyed alter id drop default", ""}, {"alter table people alter ssn set default 'x'", ""}, {"alter table people alter ssn drop default", ""},
			{"begin", ""}, {"create table mine (id int, hs text, few few)", ""}, {"insert into mine values (9, 'guess', null)", ""}, {"alter table mine inherit keyed", "compared with what others have"}, {"rollback", ""},
			{"begin", ""}, {"create table mine (id int, hs text)", ""}, {"insert into mine values (9, 'guess')", ""}, {"alter table keyparts attach partition mine default", "compared with what others have"}, {"rollback", ""},
			{"begin", ""}, {"create table mine (id int, hs text, few few)", ""}, {"create table yours (id int, hs text, few few)", ""}, {"insert into mine values (9, 'mine', null)", ""}, {"alter table mine inherit yours", ""}, {"select hs from yours", "=mine"}, {"rollback", ""}},
		"a masked column is not copied": {{"create table copy as select ssn from people", "masked"}, {"create view copy as select ssn from people", "masked"}, {"create view copy as select * from shown", "42501"}, {"begin", ""}, {"create table copy (v text)", ""}, {"insert into copy select ssn from people", "masked"}, {"rollback", ""}, {"alter table people add copied text generated always as (ssn) stored", "masked"}, {"create index on people (lower(ssn))", "masked"}, {"alter table people add check (ssn <> '1')", "masked"}, {"create unique index on people (ssn)", "tells"}, {"alter table people alter ssn set not null", "tells"}},
		"an unlisted column stays so": {{"alter table people rename secret to name2", "42501"}, {"create table copy as select secret from people", "42501"}, {"begin", ""}, {"alter table people drop column name", ""}, {"alter table people rename secret to name", "42501"}, {"rollback", ""}, {"alter table people rename to orders2", "42501"},
			{"begin", ""}, {"create view v as select id, name from people", ""}, {"select name from v", "=Ada"}, {"select secret from people", "42501"}, {"rollback", ""}},
		"what follows a rollback in one text":  {{"begin", ""}, {"alter table people rename name to called", ""}, {"rollback; select called from people", "42703"}, {"rollback", ""}, {"select name from people", "=Ada"}, {"begin; alter table people rename name to called; rollback; select name from people", ""}, {"select name from people", "=Ada"}},
		"the same name after a rollback":       {{"begin", ""}, {"alter table parts rename to parts_old", "42501"}, {"rollback", ""}, {"begin", ""}, {"savepoint s", ""}, {"drop table parts", ""}, {"create table parts (secret text)", ""}, {"select secret from parts", "="}, {"rollback to s; select secret from parts", "42501"}, {"rollback to s", ""}, {"select secret from parts", "42501"}, {"rollback", ""}, {"select secret from parts", "42501"}},
		"a partition of what is not one's own": {{"begin", ""}, {"create table parts_s partition of parts for values in ('s')", ""}, {"select secret from parts_s", "42501"}, {"alter table parts detach partition parts_s", "42501"}, {"rollback", ""}},
		"a table into one's own":               {{"begin", ""}, {"create table mine (id int, secret text, region text) partition by list (region)", ""}, {"alter table mine attach partition parts_n default", "42501"}, {"rollback", ""}},
		"a child of what is not one's own":     {{"begin", ""}, {"create table child (more int) inherits (people)", ""}, {"select ssn, secret from child", "42501"}, {"rollback", ""}},
		"another level":                        {{"begin isolation level repeatable read", ""}, {"create table a1 (id int)", "READ COMMITTED"}, {"rollback", ""}},
		"the highest level":                    {{"begin isolation level serializable", ""}, {"create table a1 (id int)", "READ COMMITTED"}, {"rollback", ""}},
		"the path stays":                       {{"begin", ""}, {"set local search_path = public, pg_catalog", "42501"}, {"rollback", ""}, {"begin", ""}, {"set local search_path = nowhere, public", ""}, {"create table a1 (id int)", ""}, {"select count(*) from a1", "=0"}, {"show search_path", "=nowhere, public"}, {"commit", ""}, {"show search_path", `="$user", public`}, {"drop table a1", ""}},
		"what a task may not":                  {{"create function f() returns int language sql as 'select 1'", "42501"}, {"create schema s", "42501"}, {"grant select on people to app", "42501"}, {"alter table people owner to app", "42501"}, {"create trigger t after insert on people execute function f()", "42501"}, {"create extension hstore", "42501"}, {"create temp table x (id int)", "42501"}},
		"materialised views and domains": {{"create materialized view copy as select ssn from people", "masked"}, {"create materialized view copy as select secret from people", "42501"}, {"begin", ""}, {"create materialized view copy as select id, name from people", ""}, {"select name from copy", "=Ada"}, {"refresh materialized view copy", ""},
			{"alter materialized view copy rename name to called", ""}, {"select called from copy", "=Ada"}, {"drop materialized view copy", ""}, {"select called from copy", "42P01"}, {"rollback", ""}, {"alter view shown rename to later", "42501"}, {"alter view shown set schema public", "42501"},
			{"begin", ""}, {"create domain small as int", ""}, {"create table a1 (v small)", ""}, {"insert into a1 values (5)", ""}, {"alter domain small add check (value < 9)", ""}, {"insert into a1 values (10)", "23514"}, {"rollback", ""}},
		"a view's column that is shown masked": {{"begin", ""}, {"create view again as select id, name from people", ""}, {"select * from again", "=1|Ada"}, {"select ssn from people", "="}, {"rollback", ""}},
	} {
		t.Run(name, func(t *testing.T) { g.walk(t, steps) })
	}
}

// walk sends texts one by one, by the simple and by the extended protocol.
func (g *gateway) walk(t *testing.T, steps []stage) {
	t.Helper()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec} {
		c := g.connect(t)
		for _, s := range steps {
			if mode != pgx.QueryExecModeSimpleProtocol && strings.Contains(s.text, ";") {
				continue
			}
			got, err := answered(c, mode, s.text)
			want, exact := strings.CutPrefix(s.want, "=")
			switch {
			case strings.Contains(got, "hidden") || strings.Contains(got, "123-45"):
				t.Errorf("%s shows %q", s.text, got)
			case exact || s.want == "":
				if err != nil || exact && got != want {
					t.Errorf("%s: %q %v", s.text, got, err)
				}
			case err == nil || !strings.Contains(fmt.Sprintf("%v", err), want) && !strings.Contains(hintOf(err), want):
				t.Errorf("%s: %q %v (%s), not %s", s.text, got, err, hintOf(err), want)
			}
		}
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// answered gives the rows of a text.
func answered(c *pgx.Conn, mode pgx.QueryExecMode, text string) (string, error) {
	rows, err := c.Query(context.Background(), text, mode)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var cells []string
		values, err := rows.Values()
		if err != nil {
			return "", err
		}
		for _, v := range values {
			if v == nil {
				v = ""
			}
			cells = append(cells, fmt.Sprint(v))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n"), rows.Err()
}

// TestDefinitionsRefused: a login that may own nothing makes nothing, and where
// each answer is held against the catalog nothing changes it.
func TestDefinitionsRefused(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...)}})
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": {Rules: []policy.Rule{ddl("public.*", tableVerbs...)}}}}}
	g.options(guard, TaskOptions{}, ResourceOptions{Privileged: map[string]bool{"": true}, DriftStrict: true}, "strict")
	g.walk(t, []stage{{"create table t (id int)", "drift: strict"}})
	g.Dialer = dialer{database: g.db}
	g.options(guard, TaskOptions{}, ResourceOptions{}, "poor")
	g.walk(t, []stage{{"create table t (id int)", "privileged: accepted"}, {"select 1", "=1"}})
	g.options(guard, TaskOptions{}, ResourceOptions{Privileged: map[string]bool{"another": true}}, "other")
	g.walk(t, []stage{{"create table t (id int)", "privileged: accepted"}})
}

// TestDefinitionsInAPipeline: a text behind one that changes a table, in the
// same implicit transaction, is judged by what that has made of it.
func TestDefinitionsInAPipeline(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...)}})
	pipeline := func(texts ...string) string {
		nc := g.in(t)
		defer nc.Close()
		var b []byte
		for _, text := range texts {
			b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
		}
		if _, err := nc.Write(join(b, sync_(), query(texts[len(texts)-1]))); err != nil {
			t.Fatal(err)
		}
		return kinds(t, nc, 2)
	}
	if got := pipeline("create table t (id int)", "insert into t values (1)", "alter table t rename id to n", "select n from t"); got != "1 2 C 1 2 C 1 2 C 1 2 D C ZI E42501 ZI" {
		t.Error(got)
	}
	if got := pipeline("create table u (id int)", "select id from nothing", "insert into u values (1)"); got != "1 2 C E42P01 ZI E42P01 ZI" {
		t.Error(got)
	}
}

// TestRolledBackInAPipeline: what follows the end of a failed transaction in one
// group or text is judged by what is there then, not by what the transaction had
// made of it.
func TestRolledBackInAPipeline(t *testing.T) {
	g := migrate(t, policy.Task{Masks: masks(abi.MaskNull, "", "people.secret"), Rules: []policy.Rule{
		ddl("public.*", tableVerbs...),
		all("select", "public.people", "public.v"),
	}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (id int PRIMARY KEY, name text, secret text); INSERT INTO people VALUES (1, 'Ada', 'hidden'); CREATE VIEW v AS SELECT id, secret AS x FROM people`)
	const null = `D "\x00\x01\xff\xff\xff\xff"`
	for name, k := range map[string]struct{ ends, then, want string }{
		"a group":          {"rollback", "select x from v", null},
		"a group's commit": {"commit", "select x from v", null},
		"to a savepoint":   {"rollback to s", "select x from v", null},
		"a text":           {"", "rollback; select x from v", null},
		"a script":         {"", "rollback; select x from v; create table a1 (id int)", null},
		"another column":   {"rollback", "select name from people", `D "\x00\x01\x00\x00\x00\x03Ada"`},
	} {
		c := g.in(t)
		for _, text := range []string{"begin", "savepoint s", "create or replace view v as select id, name as x from people", "select x from v", "select 1/0"} {
			send(t, c, query(text))
			kinds(t, c, 1)
		}
		b := query(k.then)
		if k.ends != "" {
			b = nil
			for _, text := range []string{k.ends, k.then} {
				b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
			}
			b = join(b, sync_())
		}
		send(t, c, b)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		var got []string
		for {
			kind, body, err := readMessage(c)
			if err != nil {
				t.Fatal(name, err)
			}
			if bytes.Contains(body, []byte("hidden")) {
				t.Errorf("%s shows it", name)
			}
			got = append(got, said(kind, body))
			if kind == 'Z' {
				break
			}
		}
		if !slices.Contains(got, k.want) {
			t.Errorf("%s: %q", name, got)
		}
		c.Close()
	}
}

// TestLevelOfAGroup: what changes the catalog is refused under a level that would not
// show what others change, also where a text or a group is the transaction.
func TestLevelOfAGroup(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...)}})
	call := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) }
	converseWith(t, g, map[string]conversation{
		"a text":  {join(query("set default_transaction_isolation = 'serializable'"), query("create table a1 (id int); select 1"), query("select 2")), 3, "C ZI E42501 ZI T D C ZI"},
		"a group": {join(query("set default_transaction_isolation = 'serializable'"), call("select 1"), call("create table a1 (id int)"), sync_(), query("select 2")), 3, "C ZI 1 2 D C 1 E42501 ZI T D C ZI"},
		"alone":   {join(query("set default_transaction_isolation = 'serializable'"), query("create table a1 (id int)"), query("drop table a1")), 3, "C ZI C ZI C ZI"},
	})
}

// TestLevelBehindACommit: what a transaction at another level sees of the catalog
// judges nothing, and no look at it locks what the transaction has not touched, also
// where it follows, in one text or group, one that has changed
// tables.
func TestLevelBehindACommit(t *testing.T) {
	g := migrate(t, policy.Task{Masks: masks(abi.MaskNull, "", "people.secret"), Rules: []policy.Rule{ddl("public.*", tableVerbs...), all("select", "public.people", "public.v")}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (id int PRIMARY KEY, name text, secret text); INSERT INTO people VALUES (1, 'Ada', 'hidden')`)
	var group []byte
	for _, text := range []string{"commit", "begin", "select 1"} {
		group = join(group, parseMsg("", text), bindMsg("", ""), executeMsg(""))
	}
	for name, behind := range map[string][]byte{"a text": query("commit; begin; select 1"), "a group": join(group, sync_())} {
		g.askOf(t, g.db, "SET ROLE owner; create or replace view v as select id, name as x from people")
		c := g.in(t)
		send(t, c, query("set default_transaction_isolation = 'repeatable read'"), query("begin isolation level read committed; create table a1 (id int)"), behind)
		if got := kinds(t, c, 3); !strings.HasSuffix(got, "C ZT") {
			t.Fatal(name, got)
		}
		g.askOf(t, g.db, "SET ROLE owner; SET lock_timeout = 5000; create or replace view v as select id, secret as x from people")
		time.Sleep(poll + poll/2)
		send(t, c, query("select x from v"))
		for {
			kind, body, err := readMessage(c)
			if err != nil {
				t.Fatal(name, err)
			}
			if bytes.Contains(body, []byte("hidden")) || kind == 'E' {
				t.Errorf("%s: %q", name, body)
			}
			if kind == 'Z' {
				break
			}
		}
		c.Close()
		g.quiet(t)
		g.askOf(t, g.db, "drop table a1")
	}
}

func hintOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// TestMadeByAFunction: a table that a function has made in the open transaction is
// not the text's that would have made one of its name.
func TestMadeByAFunction(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{
		ddl("public.*", tableVerbs...),
		{At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.makes"}},
	}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden');
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'begin create table public.spoils as select secret from people; end'`)
	for _, texts := range [][]string{
		{"begin", "select makes()", "create table if not exists spoils (v text)", "select * from spoils"},
		{"begin; select makes(); create table if not exists spoils (v text); select * from spoils"},
	} {
		out := strings.Join(g.says(t, texts, "owner", ""), "\n")
		if strings.Contains(out, "hidden") || !strings.Contains(out, "42501") {
			t.Errorf("%q: %s", texts, out)
		}
	}
}

// TestMadeByOthers: nor is what others have made meanwhile, or what was there by
// another name.
func TestMadeByOthers(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...), all("select", "public.people")}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (id int); INSERT INTO people VALUES (1)`)
	c := g.in(t)
	ask := func(text, want string) {
		t.Helper()
		send(t, c, query(text))
		if got := kinds(t, c, 1); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
	ask("begin", "C ZT")
	ask("create table a1 (id int)", "C ZT")
	ask("select * from a1", "T C ZT") // what there is has been read by now
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE spoils AS SELECT 'hidden' AS v`)
	ask("create table if not exists spoils (v text)", "C ZT")
	ask("select * from spoils", "E42501 ZE")
	ask("rollback", "C ZI")
	ask("begin", "C ZT")
	ask("alter table people rename to others", "C ZT")
	ask("select id from others", "E42501 ZE")
	ask("rollback", "C ZI")
	ask("select id from people", "T D C ZI")
}

// TestRestartIdentity: TRUNCATE … RESTART IDENTITY takes a rule for each sequence
// that it starts anew, of what CASCADE takes along too.
func TestRestartIdentity(t *testing.T) {
	rules := []policy.Rule{{At: "x.yaml:2", Verbs: []string{"truncate"}, Tables: []string{"public.authors", "public.books"}},
		{At: "x.yaml:3", Verbs: []string{"insert"}, Tables: []string{"public.authors"}, Columns: []string{"name"}},
		{At: "x.yaml:4", Verbs: []string{"select"}, Tables: []string{"public.authors"}, Columns: []string{"id"}}}
	setup := `SET ROLE owner; CREATE TABLE authors (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); CREATE TABLE books (id serial, author int REFERENCES authors);
		INSERT INTO authors (name) VALUES ('a'), ('b')`
	for _, x := range []struct {
		sequences []string
		steps     []stage
	}{
		{nil, []stage{{"truncate books restart identity", "42501"}, {"truncate authors restart identity cascade", "42501"}, {"select max(id) from authors", "=2"}, {"truncate books continue identity", ""}}},
		{[]string{"public.authors_id_seq"}, []stage{{"truncate authors restart identity cascade", "42501"}, {"truncate books restart identity", "42501"}, {"select max(id) from authors", "=2"}}},
		{[]string{"public.authors_id_seq", "public.books_id_seq"}, []stage{{"begin", ""}, {"truncate authors restart identity cascade", ""}, {"rollback", ""}, {"select max(id) from authors", "=2"},
			{"truncate authors, books restart identity", ""}, {"insert into authors (name) values ('c')", ""}, {"select max(id) from authors", "=1"}, {"truncate authors restart identity cascade", ""}, {"insert into authors (name) values ('a'), ('b')", ""}, {"select max(id) from authors", "=2"}}},
	} {
		task := policy.Task{Rules: rules}
		for _, s := range x.sequences {
			task.Rules = append(slices.Clone(task.Rules), ddl(s, "alter_sequence"))
		}
		g := migrate(t, task)
		if out, err := server.Psql(g.db, setup); err != nil {
			t.Fatal(out, err)
		}
		g.walk(t, x.steps)
	}
}

// TestCatalogNotTold: where the server does not answer the gateway, as another
// session's lock keeps the catalog, the client hears of it, and the log why.
func TestCatalogNotTold(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...)}})
	other, c := g.direct(t), g.connect(t)
	for _, text := range []string{"begin", "set local lock_timeout = '50ms'", "create table fresh (id int)"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatal(text, err)
		}
	}
	if _, err := other.Exec(t.Context(), "begin; lock table pg_catalog.pg_policy in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Exec(t.Context(), "select id from fresh")
	if _, e := other.Exec(t.Context(), "rollback"); e != nil {
		t.Fatal(e)
	}
	if code(err) != "08006" || !strings.Contains(err.Error(), "does not tell the session's settings or catalog") {
		t.Error(err)
	}
}
