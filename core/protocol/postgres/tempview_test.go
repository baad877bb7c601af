package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestTemporaryViews: a session's own views are answered as the server answers them.
func TestTemporaryViews(t *testing.T) {
	guard := &rules{allow: understood}
	g := serve(t, guard)
	direct := shop(t)
	for _, db := range []string{g.db, direct} {
		g.askOf(t, db, "create table notes (id int primary key, v text); insert into notes values (1, 'a'), (2, 'b'); grant all on notes to app")
	}
	for _, texts := range [][]string{
		{"create temp view v1 as select id, v from notes where id > 1", "select * from v1", "select n.v, v1.* from notes n join v1 using (id)", "drop view v1", "select 1 from v1"},
		{"create or replace temp view v1 (a) as select id from notes", "create or replace temp view v1 (a) as select id + 1 from notes", "select a from v1 order by a", "create temp view v1 as select 1", "alter view v1 rename to v2", "select sum(a) from v2"},
		{"create temp table a1 (id int); create temp view v1 as select id from a1; insert into a1 values (4); select * from v1", "create temp view v2 as select * from v1", "select * from v2", "drop table a1", "drop view v1, v2", "drop table a1"},
		{"begin", "create view pg_temp.v1 as select count(*) from notes", "select * from v1", "rollback", "select * from v1"},
		{"create temp view v1 as select id from notes", "prepare p as select * from v1 order by 1", "execute p", "create or replace temp view v1 as select -id as id from notes", "execute p", "copy (select * from v1 order by 1) to stdout", "explain (costs off) select * from v1"},
		{"create temp view v1 as select nothing from notes", "drop view if exists pg_temp.v1", "discard temp"},
		{"create temp view v1 as select id from notes", "discard temp", "select * from v1"},
	} {
		out := [][]string{g.says(t, texts, "app", direct), g.says(t, texts, "app", "")}
		if !slices.Equal(out[0], out[1]) {
			t.Errorf("%q:\n the server: %q\nthe gateway: %q", texts, out[0], out[1])
		}
	}
}

// TestTemporaryViewsAreJudged: whatever a session's own view reads needs its rules
// each time, also when somebody else has changed what that is.
func TestTemporaryViewsAreJudged(t *testing.T) {
	task := policy.Task{Masks: masks(abi.MaskNull, "", "people.ssn"), Rules: []policy.Rule{
		ddl("pg_temp.*", "create_view", "drop_view", "create_table"),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn"}},
		{At: "x.yaml:3", Verbs: []string{"call"}, Functions: []string{"public.replaces", "public.makes"}},
	}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	options := TaskOptions{Introspect: true, Masked: []abi.Source{{Relation: []string{"public", "people"}, Column: "ssn"}}}
	g.options(guard, options, ResourceOptions{}, "app")
	g.askOf(t, g.db, `CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, secret text); INSERT INTO people VALUES (1, 'Ada', '123-45', 'hidden'); GRANT SELECT, UPDATE ON people TO app;
		CREATE FUNCTION replaces() RETURNS void LANGUAGE plpgsql AS 'begin execute ''create or replace temp view mi'' || ''ne as select id, secret as name from people''; end';
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'begin execute ''create temp view oth'' || ''er as select secret from people''; end'`)
	c := g.in(t)
	ask := func(text, want, code string) {
		t.Helper()
		if got, was := guarded(t, c, text); got != want || code != "" && was != code {
			t.Errorf("%s: %s %s, not %s %s", text, got, was, want, code)
		}
	}
	for _, k := range []struct{ text, want, code string }{
		{"create temp view mine as select id, name from people", "C", ""},
		{"select * from mine", "TDC", ""},
		{"select name from mine where id = 1 order by name", "TDC", ""},
		{"create temp view more as select secret from people", "E", "42501"},
		{"create temp view more as select id from people where secret = 'x'", "E", "42501"},
		{"create temp view more as select ssn from people", "E", "42501"},
		{"create temp view people as select 1", "E", "42501"},
		{"create temp view more as select pg_sleep(1)", "E", "42501"},
		{"select id from mine for update", "E", "42501"},
		{"update mine set name = 'x'", "E", "42501"},
		{"delete from mine", "E", "42501"},
		{"insert into mine values (2, 'x')", "E", "42501"},
		{"create view public.lasting as select id from people", "E", "42501"},
		{"select makes()", "TDC", ""},
		{"select * from other", "E", "42501"},
		{"prepare p as select name from mine", "C", ""},
		{"begin; declare k cursor for select name from mine; fetch k", "CCTDC", ""},
		{"commit", "C", ""},
		{"execute p", "TDC", ""},
		{"select replaces()", "TDC", ""},
		{"execute p", "E", "42501"},
		{"select name from mine", "E", "42501"},
		{"create or replace temp view mine as select id, name from people", "C", ""},
		{"execute p", "TDC", ""},
		{"select replaces(); execute p", "TDCE", "42501"},
		{"create or replace temp view mine as select id, name from people", "C", ""},
		{"select name from mine", "TDC", ""},
	} {
		ask(k.text, k.want, k.code)
	}
	// Somebody else gives a column another's name.
	g.askOf(t, g.db, "ALTER TABLE people RENAME name TO was; ALTER TABLE people RENAME secret TO name; ALTER TABLE people RENAME was TO secret")
	time.Sleep(2 * poll)
	ask("select name from mine", "E", "42501")
	// And the task loses a column.
	g.askOf(t, g.db, "ALTER TABLE people RENAME name TO was; ALTER TABLE people RENAME secret TO name; ALTER TABLE people RENAME was TO secret")
	time.Sleep(2 * poll)
	ask("select name from mine", "TDC", "")
	less := task
	less.Rules = slices.Clone(task.Rules)
	less.Rules[1].Columns = []string{"id"}
	lessGuard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &less}}}
	g.options(lessGuard, options, ResourceOptions{}, "app")
	ask("select name from mine", "E", "42501")
	ask("select id from mine", "TDC", "")
}

// TestTemporaryViewsOfCatalogs: what a session's own view was told of the catalogs it is
// no longer told once its task is not, nor where a function has made it.
func TestTemporaryViewsOfCatalogs(t *testing.T) {
	task := policy.Task{Rules: []policy.Rule{
		ddl("pg_temp.*", "create_view", "drop_view"),
		{At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.makes"}},
	}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	says := func(v bool) func([]string, string) bool { return func([]string, string) bool { return v } }
	g.options(guard, TaskOptions{Introspect: true, Definitions: Definitions(says(true), says(false))}, ResourceOptions{}, "app")
	g.askOf(t, g.db, `CREATE TABLE elsewhere (id int); CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'select ''a constant''';
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'begin execute ''create or replace temp view sou'' || ''rce as select proname, prosrc from pg_proc where proname = ''''f''''''; end'`)
	c := g.in(t)
	ask := func(text, want, code string) {
		t.Helper()
		if got, was := guarded(t, c, text); got != want || code != "" && was != code {
			t.Errorf("%s: %s %s, not %s %s", text, got, was, want, code)
		}
	}
	views := []string{"source", "whole", "names"}
	for i, as := range []string{"proname, prosrc from pg_proc where proname = 'f'", "pg_get_functiondef(oid) from pg_proc where proname = 'f'", "relname from pg_class where relname = 'elsewhere'"} {
		ask("create temp view "+views[i]+" as select "+as, "C", "")
		ask("select * from "+views[i], "TDC", "")
	}
	g.options(guard, TaskOptions{Introspect: true}, ResourceOptions{}, "app")
	ask("select * from source", "E", "42501")
	ask("select proname from source", "E", "42501")
	ask("select * from whole", "E", "42501")
	ask("select * from names", "TDC", "")
	ask("drop view source", "C", "")
	ask("create temp view source as select proname, prosrc from pg_proc where proname = 'f'", "C", "")
	ask("select * from source", "TDC", "")
	ask("drop view source", "C", "")
	ask("select makes()", "TDC", "")
	ask("select * from source", "E", "42501")
}

// TestTemporaryViewsAreNotApproved: whoever approves sees the text, and not what a
// view in it stands for.
func TestTemporaryViewsAreNotApproved(t *testing.T) {
	g, p := review(t, &holds{})
	out := g.asPsql(t, "create temp view v1 as select id from items where id < 100; create temp table a1 as select 1 as id;\ndelete from items where id in (select id from v1);\ndelete from items where id in (select id from a1);\n",
		func(*psql) { p.approve(p.next(t)) })
	inOrder(t, out, "cannot see what the temporary view v1 reads", "NOTICE:  waiting for approval: request ", "DELETE 1")
}

// TestTemporaryTexts: what a session's own relations say is bounded.
func TestTemporaryTexts(t *testing.T) {
	g := serve(t, &rules{allow: understood})
	c := g.connect(t)
	long := "select '" + strings.Repeat("x", 900_000) + "' as v"
	n := 0
	for ; n < 20; n++ {
		if _, err := c.Exec(t.Context(), fmt.Sprintf("create temp view v%d as %s", n, long)); err != nil {
			if !strings.Contains(err.Error(), "over 8 MB") {
				t.Error(err)
			}
			break
		}
	}
	if n < 8 || n > 12 {
		t.Errorf("%d views", n)
	}
	for _, text := range []string{"drop view v0, v1, v2", "create temp view again as select 1"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Error(err)
		}
	}
}
