package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestTemporary: what a session makes for itself is answered as the server answers
// it, for as long as it has it, and by a login that owns no tables.
func TestTemporary(t *testing.T) {
	guard := &rules{allow: understood}
	g := serve(t, guard)
	direct := shop(t)
	for _, db := range []string{g.db, direct} {
		g.askOf(t, db, "create table notes (id int primary key, v text); insert into notes values (1, 'a'), (2, 'b'); grant all on notes to app")
	}
	for _, texts := range [][]string{
		{"create temp table a1 (id int)", "insert into a1 values (1), (2)", "select * from a1", "update a1 set id = id + 1 returning id", "delete from a1 where id = 2", "select id from pg_temp.a1", "drop table a1", "select 1 from a1"},
		{"create temp table a1 (id serial primary key, v text default 'x' unique, check (v <> 'y'))", "insert into a1 default values", "insert into a1 (v) values ('x')", "insert into a1 (v) values ('y')", "select * from a1"},
		{"create local temporary table if not exists a1 as select id, v from notes", "create temp table if not exists a1 (id int)", "select * from a1 order by id", "truncate a1", "select count(*) from a1"},
		{"begin", "create temp table a1 (id int) on commit drop", "insert into a1 values (1)", "select * from a1", "commit", "select * from a1"},
		{"create temp table a1 (id int) on commit delete rows; insert into a1 values (1); select * from a1", "select * from a1", "begin; insert into a1 values (2); select * from a1; commit", "select * from a1"},
		{"begin", "create temp table a1 (id int)", "rollback", "select * from a1"},
		{"begin; savepoint s; create temp table a1 (id int); rollback to s; select 1 from a1", "rollback", "select 1 from a1"},
		{"create temp table a1 (id int)", "begin; drop table a1; rollback", "select * from a1", "begin; savepoint s", "alter table a1 add v text", "select v from a1", "rollback to s", "select v from a1", "rollback", "select * from a1"},
		{"create temp table a1 (id int)", "select 1/0", "insert into a1 values (3); select 1/0", "select * from a1", "begin", "insert into a1 values (3)", "select nothing from a1", "rollback", "select * from a1"},
		{"select id, v into temp a1 from notes where id < 2 union select 7, 'c' order by 1", "select * from a1 order by id", "with n as (select id from notes) select n.* into temporary table a2 from n order by id limit 1", "select * from a2"},
		{"begin isolation level serializable", "create temp table a1 (id int)", "insert into a1 select id from notes", "select sum(id) from a1", "commit", "select sum(id) from a1"},
		{"create temp table a1 (id int)", "prepare p as select id from a1", "insert into a1 values (4)", "execute p", "drop table a1", "create temp table a1 (id int)", "insert into a1 values (5)", "execute p", "deallocate p"},
		{"create temp table a1 (id int); insert into a1 values (1), (2); create index on a1 (id); analyze a1", "create index a1_id on a1 (id)", "explain (costs off) select * from a1", "drop index a1_id", "copy a1 to stdout", "copy a1 from stdin"},
		{"create temp table a1 (id int)", "discard temp", "select * from a1", "create temp table a1 (id int, v text)", "select * from a1", "discard all", "select * from a1"},
		{"create temp table a1 (like notes including all, more int)", "insert into a1 values (1, 'x', 2)", "insert into a1 values (1, 'x', 2)", "select * from a1", "alter table a1 rename to a3", "select * from a3", "select * from a1", "alter table a3 rename column more to less", "select less from a3"},
		{"begin; create temp table a1 (id int) on commit drop; commit and chain", "select * from a1", "rollback"},
		{"begin; create temp table a1 (id int)", "prepare transaction 'x'", "select * from a1"},
		{"create temp table a1 (id int) on commit drop; insert into a1 values (1); select * from a1", "select * from a1"},
		{"begin", "create temp table a1 as select 1/0 as id", "select 1", "create temp table a1 (id int)", "rollback", "select * from a1"},
		{"create temp table a1 (id int, v text)", "insert into a1 values (1, 'x')", "select (a1).v, a1::text from a1", "select to_json(a) from a1 a"},
		{"create temp sequence s1", "select nextval('s1'), currval('s1')", "drop sequence s1"},
		{"begin; declare k cursor for select 1; create temp table a1 (id int); fetch k; commit"},
		{"create temp table a1 (id int) inherits (a2)", "create temp table a1 (id int, id int)", "drop table if exists pg_temp.a1"},
		{"create temp table a1 (id int primary key)", "create temp table a2 (id int references a1)", "insert into a2 values (1)", "insert into a1 values (1); insert into a2 values (1)", "select * from a1 join a2 using (id)", "drop table a1", "drop table a1 cascade", "insert into a2 values (9); select * from a2 order by 1"},
		{"set search_path = public, \"it's \\a\"", "create temp table a1 (id int)", "insert into a1 values (1)", "select * from a1", "show search_path"},
		{"set search_path = pg_catalog", "create temp table a1 (id int)", "insert into a1 values (1)", "select * from a1", "reset search_path", "select * from a1"},
	} {
		out := [][]string{g.says(t, texts, "app", direct), g.says(t, texts, "app", "")}
		if !slices.Equal(out[0], out[1]) {
			t.Errorf("%q:\n the server: %q\nthe gateway: %q", texts, out[0], out[1])
		}
	}
}

// TestTemporaryIsJudged: a session's own table gives nobody more than was listed
// when it was filled, is taken for no other, and is nobody else's.
func TestTemporaryIsJudged(t *testing.T) {
	task := policy.Task{Masks: masks(abi.MaskNull, "", "people.ssn"), Rules: []policy.Rule{
		ddl("pg_temp.*", "create_table", "drop_table", "alter_table", "create_index", "alter_sequence", "comment"), ddl("pg_temp", "drop_schema"),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn"}},
		{At: "x.yaml:3", Verbs: []string{"call"}, Functions: []string{"public.makes", "public.drops", "public.hides"}},
	}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	options := TaskOptions{Introspect: true, Masked: []abi.Source{{Relation: []string{"public", "people"}, Column: "ssn"}}}
	g.options(guard, options, ResourceOptions{}, "app")
	g.askOf(t, g.db, `CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, secret text DEFAULT 'hidden'); INSERT INTO people VALUES (1, 'Ada', '123-45', 'hidden');
		CREATE TABLE audit (what text); GRANT SELECT ON people, audit TO app;
		CREATE FUNCTION hides() RETURNS void LANGUAGE sql AS 'create temp table pg_class as select * from pg_catalog.pg_class limit 0';
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS 'begin execute ''create temp table if not exists spo'' || ''ils as select secret from people''; end';
		CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create temp table mi'' || ''ne as select secret as v from people''; end';
		CREATE FUNCTION works() RETURNS void LANGUAGE plpgsql AS 'begin create temp table if not exists work (v text); insert into work select secret from people; end'`)
	for _, session := range [][]struct{ text, want, code string }{
		{
			{"create temp table mine as select id, name from people", "C", ""},
			{"select * from mine", "TDC", ""},
			{"comment on table mine is 'x'", "C", ""},
			{"comment on type mine is 'x'", "E", "42501"},
			{"drop schema pg_temp", "E", "42501"},
			{"create temp table more as select ssn from people", "E", "42501"},
			{"create temp table more as select secret from people", "E", "42501"},
			{"select secret into temp more from people", "E", "42501"},
			{"insert into mine select 2, secret from people", "E", "42501"},
			{"insert into mine select 2, ssn from people", "E", "42501"},
			{"insert into mine select 2, name from people", "C", ""},
			{"update mine set name = (select secret from people)", "E", "42501"},
			{"create temp table people (id int)", "E", "42501"},
			{"create temp table audit (what text)", "E", "42501"},
			{"create temp table pg_class (oid oid)", "E", "42501"},
			{"create temp table int4 (v text)", "E", "42501"},
			{"alter table mine rename to audit", "E", "42501"},
			{"alter table mine rename to its", "C", ""},
			{"select ssn, name from people", "TDC", ""},
			{"create temp view seen as select name from people", "E", "42501"},
			{"create table public.lasting (id int)", "E", "42501"},
			{"select secret from people", "E", "42501"},
			{"create temp sequence s", "E", "42501"},
			{"create temp table work (v text)", "E", "42501"}, // as a function calls its own
			{"select name into temp work from people", "E", "42501"},
			{"alter table its rename to work", "E", "42501"},
			{"create index people on its (id)", "E", "42501"},
			{"create temp table its2 (id int, constraint people primary key (id))", "E", "42501"},
			{"create temp table its2 (id int constraint people unique)", "E", "42501"},
			{"create index fine on its (id)", "C", ""},
			{"alter index fine rename to audit", "E", "42501"},
			{"create temp table its2 (like people including defaults)", "E", "42501"}, // of what is not listed
			{"create temp table its2 (like people)", "C", ""},
			{"create temp table numbered (id serial)", "C", ""},
			{"alter sequence numbered_id_seq rename to audit", "E", "42501"},
			{"alter sequence numbered_id_seq rename to its_number", "C", ""},
			{"select last_value from its_number", "TDC", ""},
		},
		{
			{"select hides()", "TDC", ""},
			{"create temp table mine (v text)", "C", ""},
			{"select * from mine", "TC", ""},
		},
		{
			{"select name from mine", "E", "42P01"}, // another session's
			{"select makes()", "TDC", ""},
			{"select * from spoils", "E", ""},
			{"create temp table if not exists spoils (secret text)", "E", "42P07"},
			{"select * from spoils", "E", ""},
			{"create temp table mine (v text)", "C", ""},
			{"select * from mine", "TC", ""},
			{"select drops()", "TDC", ""},
			{"select * from mine", "E", "42501"},
			{"insert into mine values ('x')", "E", "42501"},
			{"drop table mine", "C", ""}, // that it may drop_table
			{"create temp table mine (v text); insert into mine values ('x'); select * from mine", "CCTDC", ""},
		},
	} {
		c := g.in(t)
		for _, k := range session {
			got, code := guarded(t, c, k.text)
			if got != k.want || k.code != "" && code != k.code {
				t.Errorf("%s: %s %s, not %s %s", k.text, got, code, k.want, k.code)
			}
		}
		c.Close()
	}
	for _, o := range []ResourceOptions{{DriftStrict: true}, {Probe: true}} {
		g.options(guard, options, o, "app")
		if out := g.psql(t, "create temp table mine (id int)"); !strings.Contains(out, "the resource says") {
			t.Error(out)
		}
	}
}

// TestTemporaryBehindFunctions: what a function makes in the place of the session's
// own is not taken for that, whatever was bound before it ran.
func TestTemporaryBehindFunctions(t *testing.T) {
	task := policy.Task{Rules: []policy.Rule{
		ddl("pg_temp.*", "create_table"),
		{At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.makes", "public.drops"}},
	}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.options(guard, TaskOptions{}, ResourceOptions{}, "app")
	g.askOf(t, g.db, `CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden'); GRANT SELECT ON people TO app;
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'begin execute ''create temp table spo'' || ''ils as select secret from people''; end';
		CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create temp table mi'' || ''ne as select secret from people''; end'`)
	for _, steps := range [][][]byte{
		{query("create temp table mine (v text)"), query("select drops(); select * from mine")},
		{query("create temp table mine (v text)"), query("prepare d as select drops()"), query("execute d; select * from mine")},
		{query("select drops()"), query("begin"), join(parseMsg("m", "select makes()"), parseMsg("s", "savepoint s"), parseMsg("c", "create temp table spoils (v text)"), sync_()),
			join(bindMsg("m", "m"), bindMsg("s", "s"), bindMsg("c", "c"), executeMsg("m"), executeMsg("s"), executeMsg("c"), sync_()), query("rollback to s"), query("select * from spoils")},
		{query("select drops()"), query("begin"), join(parseMsg("m", "select makes()"), bindMsg("m", "m"), sync_()), query("savepoint s"),
			query("create temp table spoils (v text default 1/0) partition by list (v) with (fillfactor = 1)"), query("rollback to s"), join(executeMsg("m"), sync_()), query("select * from spoils")},
	} {
		c := g.in(t)
		kinds, said := "", ""
		for _, b := range steps {
			for send(t, c, b); ; {
				kind, body, err := readMessage(c)
				if err != nil {
					t.Fatal(err)
				}
				if kind == 'Z' {
					break
				}
				kinds, said = kinds+string(rune(kind)), said+string(body)
			}
		}
		if strings.Contains(said, "hidden") || !strings.Contains(said, "select on pg_temp.") || !strings.HasSuffix(kinds, "E") {
			t.Errorf("%s: %q", kinds, said)
		}
		c.Close()
	}
}

// TestTemporaryOfAFunction: what a function puts in the place of a session's own
// table, or has made before that was to be, is not the session's own work.
func TestTemporaryOfAFunction(t *testing.T) {
	task := policy.Task{ShowErrors: true, Rules: []policy.Rule{
		ddl("pg_temp.*", "create_table", "drop_table"),
		{At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.makes"}},
	}}
	g := serve(t, &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}})
	g.askOf(t, g.db, `CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden'); GRANT SELECT ON people TO app;
		CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create temp table mi'' || ''ne as select secret as v from people''; return 1; end'`)
	bound := join(query("begin"), parseMsg("c", "create temp table mine (v text)"), parseMsg("f", "select makes()"), bindMsg("c", "c"), bindMsg("f", "f"), sync_())
	read := query("select v from mine")
	for name, session := range map[string][][]byte{
		"while both are bound":  {bound, join(executeMsg("c"), executeMsg("f"), sync_()), read},
		"one after the other":   {bound, join(executeMsg("c"), sync_()), join(executeMsg("f"), sync_()), read},
		"before":                {bound, join(executeMsg("f"), sync_()), query("savepoint s"), join(executeMsg("c"), sync_()), query("rollback to s"), read},
		"before, called again":  {query("select makes()"), query("create temp table other (id int)"), query("drop table mine"), bound, join(executeMsg("f"), sync_()), query("savepoint s"), join(executeMsg("c"), sync_()), query("rollback to s"), read},
		"in a later statement":  {query("create temp table mine (v text)"), query("create temp table other as select makes()"), read},
		"once known":            {query("select makes()"), query("create temp table other (id int)"), query("create temp table if not exists mine (v text)"), read},
		"where nothing can run": {query("select makes()"), query("begin; select 1/0"), query("create temp table if not exists mine (v text)"), query("rollback"), read},
		"prepared before": {query("select makes()"), query("create temp table other (id int)"), query("drop table mine"), query("create temp table mine (v text)"), join(parseMsg("p", "select v from mine"), bindMsg("", "p"), executeMsg(""), sync_()),
			query("select makes()"), join(bindMsg("", "p"), executeMsg(""), sync_())},
	} {
		nc := g.in(t)
		var got []string
		for _, b := range session {
			if _, err := nc.Write(b); err != nil {
				t.Fatal(err)
			}
			n := 1
			if &b[0] == &bound[0] {
				n = 2
			}
			got = append(got, kinds(t, nc, n))
		}
		nc.Close()
		if last := got[len(got)-1]; !strings.HasPrefix(last, "E42501") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestTemporaryOfAnOwner: a statement that changes what all share may take a
// session's own with it, and its answers are those of the server.
func TestTemporaryOfAnOwner(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...), ddl("pg_temp.*", tableVerbs...), all("select", "public.mine")}})
	g.walk(t, []stage{{"create table lasting (id int)", ""}, {"create temp table mine (id int)", ""}, {"alter table mine inherit lasting", "part of lasting"}, {"create temp table its () inherits (lasting)", "part of lasting"}, {"drop table mine, lasting", ""}, {"create table mine (id int, v int)", ""}, {"select count(v) from mine", "=0"}, {"drop table mine", ""},
		{"begin", ""}, {"create table fresh (id int)", ""}, {"create temp table mine (id int)", ""}, {"insert into mine values (1)", ""}, {"insert into fresh select id from mine", ""}, {"select * from fresh join mine using (id)", "=1"}, {"rollback", ""}})
}

// TestTemporaryBound: what is read after each change is bounded.
func TestTemporaryBound(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	g.askOf(t, g.db, `create function many() returns void language plpgsql as 'begin for i in 1 .. 1000 loop execute ''create temp table m'' || i || '' (id int)''; end loop; end'`)
	out := g.psql(t, "create temp table one (id int); select many(); create temp table two (id int); drop table m1, m2; create temp table two (id int); insert into two values (7) returning id")
	if !strings.Contains(out, "this session has 1001 temporary relations already") || !strings.HasSuffix(strings.TrimSpace(out), "7\nINSERT 0 1") {
		t.Error(out)
	}
}

// TestTemporaryInAPipeline: what the gateway asks besides ends nothing that the
// client has not ended.
func TestTemporaryInAPipeline(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	g.askOf(t, g.db, "create table notes (id int); grant all on notes to app")
	nc := g.in(t)
	defer nc.Close()
	var b []byte
	for _, text := range []string{"insert into notes values (1)", "create temp table a1 (id int) on commit drop", "insert into a1 values (1)", "select * from a1", "select 1/0"} {
		b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
	}
	if _, err := nc.Write(join(b, sync_(), query("select * from notes"), query("select * from a1"))); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 3); got != "1 2 C 1 2 C 1 2 C 1 2 D C 1 E22012 ZI T C ZI E42P01 ZI" {
		t.Error(got)
	}
}

// TestTemporaryOfOthers: nobody hears of what another session has of its own.
func TestTemporaryOfOthers(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	c := g.connect(t)
	if _, err := c.Exec(t.Context(), "create temp table mine (id int)"); err != nil {
		t.Fatal(err)
	}
	g.askOf(t, g.db, "create table made (id int); grant select on made to app") // and so all is read again
	other := g.connect(t)
	if _, err := other.Exec(t.Context(), "select id from made"); err != nil {
		t.Error(err)
	}
}
