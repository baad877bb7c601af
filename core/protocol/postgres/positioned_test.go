package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestPositioned: WHERE CURRENT OF, EXPLAIN of what makes a table, DROP … CASCADE of
// what nothing depends on, and SHOW ALL are answered as the server answers them.
func TestPositioned(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{
		ddl("public.*", append(slices.Clone(tableVerbs), "create_type", "drop_type")...), ddl("pg_temp.*", tableVerbs...), ddl("public.f", "create_function", "drop_function"),
		all("select", "public.notes"), all("update", "public.notes"), all("delete", "public.notes"),
	}})
	direct := shop(t)
	for _, db := range []string{g.db, direct} {
		g.askOf(t, db, "set role owner; create table notes (id int primary key, v text); insert into notes values (1, 'a'), (2, 'b'), (3, 'c')")
	}
	for _, texts := range [][]string{
		{"begin", "declare c cursor for select * from notes order by id for update", "fetch c", "fetch c", "update notes set v = 'x' where current of c returning id, v", "delete from notes where current of c", "update notes set v = 'y' where current of c", "rollback"},
		{"begin; declare c cursor for select id from notes where id = 3; fetch c; update notes set v = 'z' where current of c; commit", "select * from notes order by id"},
		{"begin", "declare c cursor for select 1", "update notes set v = 'x' where current of c", "rollback"},
		{"begin", "update notes set v = 'x' where current of nothing", "rollback"},
		{"begin", "declare c cursor for select id from notes", "update notes set v = 'x' where current of c", "rollback"},
		{"begin", "declare c cursor for select id from notes for update", "move 2 in c", "delete from notes where current of c", "close c", "delete from notes where current of c", "rollback"},
		{"explain (costs off) create table t1 as select id from notes", "select 1 from t1", "explain (costs off) select id into t1 from notes", "explain (costs off) create temp table notes1 as select 1", "explain (costs off) create table notes as select 1", "explain (costs off) create table if not exists notes as select 1", "explain (costs off) create materialized view t1 as select v from notes"},
		{"begin; declare c cursor for select 1; commit", "explain (costs off) declare c cursor for select id from notes", "prepare p as select v from notes", "explain (costs off) execute p"},
		{"create type kind as enum ('a')", "create table kinds (k kind)", "drop type kind cascade", "drop table kinds", "drop type if exists kind cascade", "create function f(int) returns int language sql as 'select 1'", "drop function f(int) cascade", "drop function if exists f cascade"},
		{"create index notes_v on notes (v)", "drop index notes_v cascade"},
	} {
		out := [][]string{g.says(t, texts, "owner", direct), g.says(t, texts, "owner", "")}
		if slices.Contains(texts, "drop type kind cascade") { // here it takes the column along, there it is told what depends on it
			if !slices.Contains(out[1], "E ERROR 2BP01") {
				t.Errorf("%q", out[1])
			}
			continue
		}
		if !slices.Equal(out[0], out[1]) {
			t.Errorf("%q:\n the server: %q\nthe gateway: %q", texts, out[0], out[1])
		}
	}
	if out := g.psql(t, "show all"); strings.Count(out, "\n") < 200 || !strings.Contains(out, "work_mem|4MB|") {
		t.Errorf("%s", out)
	}
	// By the extended protocol it is the cursor that stands at Bind.
	c := g.connect(t)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"declare c cursor for select id from notes where id = 2 for update", "fetch c"} {
		if _, err := tx.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"p", "q"} {
		if tag, err := tx.Exec(t.Context(), "update notes set v = $1 where current of c", want); err != nil || tag.RowsAffected() != 1 {
			t.Errorf("%v %v", tag, err)
		}
	}
	if _, err := tx.Exec(t.Context(), "close c"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "update notes set v = $1 where current of c", "r"); code(err) != "34000" {
		t.Errorf("%v", err)
	}
}

// TestPositionedIsJudged: the row of a cursor is no key, what the cursor reads needs
// its rules, and nobody approves a row that they cannot see.
func TestPositionedIsJudged(t *testing.T) {
	rule := func(verb, where string) policy.Rule {
		return policy.Rule{At: "x.yaml:1", Verbs: []string{verb}, Tables: []string{"public.notes"}, Columns: []string{"v"}, Where: where}
	}
	read := policy.Rule{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.notes"}, Columns: []string{"id", "ssn"}}
	const setup = "begin; declare c cursor for select id from notes; fetch c; "
	for name, k := range map[string]struct {
		rules []policy.Rule
		text  string
		want  string
	}{
		"with a condition": {[]policy.Rule{read, rule("update", "required")}, setup + "update notes set v = 'x' where current of c", "UPDATE 1"},
		"by a key":         {[]policy.Rule{read, rule("update", "key")}, setup + "update notes set v = 'x' where current of c", "fixes a unique key"},
		"not listed":       {[]policy.Rule{read, rule("update", "")}, setup + "delete from notes where current of c", "delete on public.notes is not in this task"},
		"within":           {[]policy.Rule{read, rule("update", "")}, setup + "with w as (update notes set v = 'x' where current of c returning id) select 1", "within another statement"},
		"explained":        {[]policy.Rule{read, rule("update", "")}, setup + "explain update notes set v = 'x' where current of c", "within another statement"},
		"prepared":         {[]policy.Rule{read, rule("update", "")}, setup + "prepare p as update notes set v = 'x' where current of c", "within another statement"},
		"through a view":   {[]policy.Rule{read, rule("update", ""), all("update", "public.seen"), all("select", "public.seen")}, setup + "update seen set id = 1 where current of c", "no plain table"},
		"a masked cell":    {[]policy.Rule{read, rule("update", "")}, "begin; declare c cursor for select id, ssn from notes; fetch c; update notes set v = 'x' where current of c", "UPDATE 1"},
		"no such cursor":   {[]policy.Rule{read, rule("update", "")}, "begin; update notes set v = 'x' where current of c", `cursor "c" does not exist`},
		"several":          {[]policy.Rule{read, rule("update", ""), {At: "x.yaml:3", Verbs: []string{"update"}, Tables: []string{"public.notes"}, Columns: []string{"v"}, Rows: 1}}, setup + "update notes set v = 'x' where current of c", "UPDATE 1"},
	} {
		g := migrate(t, policy.Task{Masks: masks(abi.MaskNull, "", "notes.ssn"), Rules: k.rules})
		g.askOf(t, g.db, "set role owner; create table notes (id int primary key, v text, ssn text); insert into notes values (1, 'a', 'S-1'); create view seen as select id from notes")
		if out := g.psql(t, k.text); !strings.Contains(out, k.want) || strings.Contains(out, "S-1") {
			t.Errorf("%s: %s", name, out)
		}
	}
	g, _ := review(t, &holds{})
	if out := g.psql(t, "begin; declare c cursor for select id from items; fetch c; delete from items where current of c"); !strings.Contains(out, "which row the cursor stands on") {
		t.Error(out)
	}
}
