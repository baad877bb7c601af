package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// puts is a task that may call what puts something else in the place of the
// session's own table, at once and later.
func puts(t *testing.T) *gateway {
	t.Helper()
	task := policy.Task{ShowErrors: true, Rules: []policy.Rule{
		ddl("pg_temp.*", "create_table", "drop_table"),
		{At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.puts"}},
		{At: "x.yaml:3", Verbs: []string{"insert"}, Tables: []string{"public.kept"}, Columns: []string{"id"}, Effects: []string{"trigger public.kept.later"}},
		{At: "x.yaml:4", Verbs: []string{"prepare transaction", "commit and chain"}},
	}}
	g := serve(t, &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}})
	g.askOf(t, g.db, `CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden'); CREATE TABLE kept (id int); GRANT SELECT ON people TO app; GRANT INSERT ON kept TO app;
		CREATE FUNCTION puts() RETURNS int LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create temp table mi'' || ''ne as select secret as v from people''; return 1; end';
		CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'begin perform puts(); perform set_config(''statement_timeout'', ''0'', false); return null; end';
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON kept DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later()`)
	task.Rules[2].Pinned = map[string][]string{"trigger public.kept.later": {g.ask(t, "select encode(sha256(convert_to(prosrc, 'UTF8')), 'hex') from pg_proc where proname = 'later'")}}
	return g
}

// TestLate: what a function does that the transaction has put off, until it ends or
// is asked for it, is looked for then as well.
func TestLate(t *testing.T) {
	g := puts(t)
	const made, insert, read = "create temp table mine (v text)", "insert into kept values (1)", "select v from mine"
	piped := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
		}
		return join(b, sync_())
	}
	held := "declare k cursor with hold for select puts()"
	for name, session := range map[string][][]byte{
		"a trigger at COMMIT":                 {query("begin"), query(insert), query("select 1"), query("commit"), query(read)},
		"at COMMIT, in one text with another": {query("begin"), query(insert), query("select 1"), query("select 1; commit"), query(read)},
		"at once, when asked":                 {query("begin"), query(insert), query("select 1"), query("set constraints all immediate"), query(read)},
		"so it is in one text":                {query("begin"), query(insert), query("select 1"), query("set constraints all immediate; " + read)},
		"after a savepoint":                   {query("begin"), query("savepoint s"), query(insert), query("savepoint s2"), query("select 1/0"), query("rollback to s2"), query("commit"), query(read)},
		"after a COMMIT that was skipped":     {query("begin"), query(insert), query("savepoint s"), piped("select 1/0", "commit"), query("rollback to s"), query("select 1"), query("commit"), query(read)},
		"at Sync":                             {piped(insert, "select 1"), query(read)},
		"in a pipeline":                       {piped("begin", insert, "select 1", "commit", read)},
		"a cursor that lasts":                 {query("begin"), query(held), query("select 1"), query("commit"), query(read)},
		"so it is in one Query":               {query("begin; " + held + "; select 1; commit; " + read)},
	} {
		nc := g.in(t)
		send(t, nc, query(made))
		got := kinds(t, nc, 1)
		for _, b := range session {
			send(t, nc, b)
			got += ", " + kinds(t, nc, 1)
		}
		nc.Close()
		if !strings.Contains(got[strings.LastIndex(got, ", "):], "E42501") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestUnsaid: so is what a function does that no text and no rule names, as that of a
// table's condition.
func TestUnsaid(t *testing.T) {
	tables := map[string]string{"checked": "(v text check (puts(v)))", "keyed": "(v text)", "kept": "(v text)", "parts": "(v text) partition by list ((puts(v)))", "typed": "(v dom)", "listed": "(v dom[])", "compound": "(v pair)", "operated": "(v text check (v === 'x'))",
		"quoted": `(v text check ("pu""ts"(v)))`, "converted": "(v text check (v::dom is not null))",
		"ranged": "(v span)", "policed": "(v text)", "computed": "(v text)"}
	task := policy.Task{Oracle: "accept", Rules: []policy.Rule{ddl("pg_temp.*", "create_table", "drop_table"),
		{At: "x.yaml:3", Verbs: []string{"call"}, Functions: []string{"public.span_multirange"}}}} // which servers before 14 do not have
	setup := `CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden'); GRANT SELECT ON people TO app;
		CREATE FUNCTION puts() RETURNS boolean LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create temp table mi'' || ''ne as select secret as v from people''; return true; end';
		CREATE FUNCTION puts(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'begin perform puts(); return true; end';
		CREATE FUNCTION puts(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'begin perform puts(); return true; end'; CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = puts); CREATE FUNCTION "pu""ts"(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'begin perform puts(); return true; end'; CREATE DOMAIN dom AS text CHECK (puts(value)); CREATE TYPE pair AS (id int, v dom); CREATE TYPE span AS RANGE (SUBTYPE = dom);`
	for name, columns := range tables {
		setup += fmt.Sprintf("CREATE TABLE %s %s; GRANT ALL ON %s TO app;", name, columns, name)
		for _, verb := range []string{"select", "insert"} {
			task.Rules = append(task.Rules, policy.Rule{At: "x.yaml:2", Verbs: []string{verb}, Tables: []string{"public." + name}, Columns: []string{"v"}, Effects: []string{"public.every"}})
		}
	}
	g := serve(t, &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}})
	g.askOf(t, g.db, setup+`CREATE INDEX ON keyed (v) WHERE puts(v); CREATE TABLE every PARTITION OF parts DEFAULT; INSERT INTO kept VALUES ('x'); ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON kept USING (puts(v));
		ALTER TABLE policed ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON policed FOR INSERT WITH CHECK (puts(v)); CREATE INDEX ON computed (puts(v)); GRANT ALL ON every TO app`)
	const made, read = "create temp table mine (v text)", "select v from mine"
	for name, texts := range map[string][]string{
		"a condition":            {"insert into checked values ('x')"},
		"an operator":            {"insert into operated values ('x')"},
		"a name with quotes":     {"insert into quoted values ('x')"},
		"a type in a condition":  {"insert into converted values ('x')"},
		"an index":               {"insert into keyed values ('x')"},
		"an index's expression":  {"insert into computed values ('x')"},
		"a policy":               {"select v from kept"},
		"a policy of writes":     {"insert into policed values ('x')"},
		"a partition's key":      {"insert into parts values ('x')"},
		"a domain":               {"insert into typed values ('x')"},
		"a domain in an array":   {"insert into listed values ('{x}')"},
		"a domain in a type":     {"insert into compound values ('(1,x)')"},
		"a domain in a range":    {"insert into ranged values ('[x,y)')"},
		"in one text":            {"insert into checked values ('x'); " + read},
		"in the same pipeline":   nil,
		"by a name":              {"prepare i as insert into checked values ('x')", "execute i"},
		"by a cursor that lasts": {"begin", "declare k cursor with hold for select v from kept", "select 1", "commit"},
	} {
		nc := g.in(t)
		send(t, nc, query(made))
		got := kinds(t, nc, 1)
		for _, text := range texts {
			send(t, nc, query(text))
			got += ", " + kinds(t, nc, 1)
		}
		switch {
		case texts == nil:
			send(t, nc, join(parseMsg("", "insert into checked values ('x')"), bindMsg("", ""), executeMsg(""), parseMsg("", read), bindMsg("", ""), executeMsg(""), sync_()))
			got += ", " + kinds(t, nc, 1)
		case !strings.Contains(texts[0], read):
			send(t, nc, query(read))
			got += ", " + kinds(t, nc, 1)
		}
		nc.Close()
		if n := strings.Count(got, "E42501"); n != 1 || !strings.Contains(got[strings.LastIndex(got, ", "):], "E42501") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestLateSettings: so are the session's settings.
func TestLateSettings(t *testing.T) {
	g := puts(t)
	g.options(&rules{allow: anything}, TaskOptions{StatementTimeout: time.Minute}, ResourceOptions{}, "")
	for _, end := range []string{"commit", "commit and chain", "set constraints all immediate"} {
		c := g.connect(t)
		for _, text := range []string{"begin", "insert into kept values (1)", "select 1", end} {
			if _, err := c.Exec(t.Context(), text); err != nil {
				t.Fatal(text, err)
			}
		}
		if _, err := c.Exec(t.Context(), "select 1"); code(err) != "57P01" {
			t.Errorf("%s: %v", end, err)
		}
	}
}

// TestMadeAndReplaced: what a function puts in the place of a table that the open
// transaction has made is not the transaction's own.
func TestMadeAndReplaced(t *testing.T) {
	g := migrate(t, policy.Task{ShowErrors: true, Rules: []policy.Rule{ddl("public.*", tableVerbs...), {At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.puts"}},
		{At: "x.yaml:3", Verbs: []string{"insert", "select"}, Tables: []string{"public.checked"}, Columns: []string{"v"}}}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden');
		CREATE FUNCTION puts() RETURNS int LANGUAGE plpgsql AS 'begin execute ''drop table if exists mi'' || ''ne''; execute ''create table mi'' || ''ne as select secret as v from people''; return 1; end';
		CREATE FUNCTION checks(text) RETURNS boolean LANGUAGE plpgsql AS 'begin perform puts(); return true; end'; CREATE TABLE checked (v text CHECK (checks(v)))`)
	const made = "create table mine (v text)"
	g.walk(t, []stage{{"begin", ""}, {made, ""}, {"select v from mine", "="}, {"select puts()", "=1"}, {"select v from mine", "42501"}, {"rollback", ""},
		{"begin", ""}, {made, ""}, {"select v from mine", "="}, {"insert into checked values ('x')", ""}, {"select v from mine", "42501"}, {"rollback", ""},
		{"begin; " + made + "; select puts(); select v from mine", "42501"}, {"rollback", ""},
		{"begin", ""}, {made, ""}, {"select v from mine", "="}, {"select puts(); select v from mine", "42501"}, {"rollback", ""}})
}

// TestTemporaryComesBack: what was dropped and comes back is still the session's own.
func TestTemporaryComesBack(t *testing.T) {
	task := policy.Task{ShowErrors: true, Rules: []policy.Rule{ddl("pg_temp.*", "create_table", "drop_table", "alter_table")}}
	g := serve(t, &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}})
	nc := g.in(t)
	defer nc.Close()
	for _, k := range [][2]string{
		{"create temp table mine (v text); insert into mine values ('x')", "C C ZI"}, {"begin", "C ZT"}, {"drop table mine", "C ZT"}, {"select v from mine", "E42P01 ZE"}, {"rollback", "C ZI"}, {"select v from mine", "T D C ZI"},
		{"begin", "C ZT"}, {"savepoint s", "C ZT"}, {"drop table mine", "C ZT"}, {"create temp table mine (w int)", "C ZT"}, {"select w from mine", "T C ZT"}, {"rollback to s", "C ZT"}, {"select v from mine", "T D C ZT"}, {"commit", "C ZI"}, {"select v from mine", "T D C ZI"},
	} {
		send(t, nc, query(k[0]))
		if got := kinds(t, nc, 1); got != k[1] {
			t.Errorf("%s: %s, not %s", k[0], got, k[1])
		}
	}
	send(t, nc, join(parseMsg("", "drop table mine"), bindMsg("", ""), executeMsg(""), parseMsg("", "select 1"), bindMsg("", ""), executeMsg(""), parseMsg("", "select 1/0"), bindMsg("", ""), executeMsg(""), sync_(), query("select v from mine")))
	want(t, nc, 2, "1 2 C 1 2 D C 1 E22012 ZI T D C ZI")
}

// TestUnsaidSettings: what such a function leaves the session is read back before the
// next text goes: another path makes every schema's functions possible, and with another
// role, encoding or limit nothing goes on.
func TestUnsaidSettings(t *testing.T) {
	setup := `CREATE TABLE people (secret text); INSERT INTO people VALUES ('hidden'); GRANT SELECT ON people TO app; CREATE TABLE plain (v text); GRANT ALL ON plain TO app; INSERT INTO plain VALUES ('X');
		CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO app; CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS 'SELECT secret FROM public.people LIMIT 1';
		CREATE FUNCTION sets(text, text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'begin perform set_config($1, $2, false); return true; end';
		CREATE DOMAIN pathed AS text CHECK (sets('search_path', 'evil, pg_catalog', value)); CREATE DOMAIN coded AS text CHECK (sets('client_encoding', 'LATIN1', value));
		CREATE DOMAIN roled AS text CHECK (sets('role', 'other_of_app', value)); CREATE DOMAIN careful AS text CHECK (length(value) < 10);
		DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'other_of_app') THEN CREATE ROLE other_of_app; GRANT other_of_app TO app; END IF; END $$;`
	task := policy.Task{Oracle: "accept", ShowErrors: true}
	list := func(name string, effects ...string) {
		for _, verb := range []string{"select", "insert", "update", "delete"} {
			task.Rules = append(task.Rules, policy.Rule{At: "x.yaml:2", Verbs: []string{verb}, Tables: []string{"public." + name}, Columns: []string{"v"}, Effects: effects})
		}
	}
	for name, columns := range map[string]string{"pathed_": "(v pathed)", "limited_": "(v pathed)", "coded_": "(v coded)", "roled_": "(v roled)", "careful_": "(v careful)", "within": "(v pathed[])", "read": "(v text)", "keyed": "(v text)"} {
		setup += fmt.Sprintf("CREATE TABLE %s %s; GRANT ALL ON %s TO app;", name, columns, name)
		list(name)
	}
	for i := range task.Rules {
		if task.Rules[i].Tables[0] == "public.limited_" && task.Rules[i].Verbs[0] != "select" {
			task.Rules[i].Rows = 5
		}
	}
	list("plain")
	g := serve(t, &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}})
	g.askOf(t, g.db, setup+`INSERT INTO read VALUES ('x'); ALTER TABLE read ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON read USING (sets('search_path', 'evil, pg_catalog', v)); CREATE UNIQUE INDEX ON keyed (v) WHERE sets('search_path', 'evil, pg_catalog', v)`)
	const read = "select lower(v) from plain"
	call := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
		}
		return join(b, sync_())
	}
	for name, w := range map[string]struct {
		session []byte
		answers int
		want    string
	}{
		"a domain":                 {join(query("insert into pathed_ values ('x')"), query(read)), 2, "C ZI E42501 ZI"},
		"where a limit holds":      {join(query("insert into limited_ values ('x')"), query(read)), 2, "C ZI E42501 ZI"},
		"a limit, in a pipeline":   {call("insert into limited_ values ('x')", read), 1, "1 2 C E42501 ZI"},
		"within an array":          {join(query("insert into within values ('{x}')"), query(read)), 2, "C ZI E42501 ZI"},
		"a policy":                 {join(query("select v from read"), query(read)), 2, "T D C ZI E42501 ZI"},
		"an index":                 {join(query("insert into keyed values ('x')"), query(read)), 2, "C ZI E42501 ZI"},
		"in one text":              {query("insert into pathed_ values ('x'); " + read), 1, "C E42501 ZI"},
		"in one text, with others": {query("select 1; insert into pathed_ values ('x'); select 2"), 1, "T D C C T D C ZI"},
		"in a pipeline":            {call("insert into pathed_ values ('x')", read), 1, "1 2 C E42501 ZI"},
		"prepared before":          {join(parseMsg("s", read), sync_(), query("insert into pathed_ values ('x')"), bindMsg("", "s"), executeMsg(""), sync_()), 3, "1 ZI C ZI E42501 ZI"},
		"by a name":                {join(query("prepare i as insert into pathed_ values ('x')"), query("execute i"), query(read)), 3, "C ZI C ZI E42501 ZI"},
		"by a cursor":              {join(query("begin"), query("declare k cursor for select v from read"), query("fetch k"), query(read)), 4, "C ZT C ZT T D C ZT E42501 ZE"},
		"copied in":                {join(query("copy pathed_ from stdin"), frame('d', []byte("x\n")), frame('c', nil), query(read)), 2, "G C ZI E42501 ZI"},
		"by a name in one text":    {join(query("prepare i as insert into pathed_ values ('x')"), query("execute i; "+read)), 2, "C ZI C E42501 ZI"},
		"fetched in one text":      {join(query("begin"), query("declare k cursor for select v from read"), query("fetch k; "+read)), 3, "C ZT C ZT T D C E42501 ZE"},
		"nothing of users":         {join(query("insert into careful_ values ('x')"), query(read)), 2, "C ZI T D C ZI"},
		"read without a policy":    {join(query("select v from pathed_ where false"), query(read)), 2, "T C ZI T D C ZI"},
	} {
		nc := g.in(t)
		send(t, nc, w.session)
		if got := kinds(t, nc, w.answers); w.want != "" && got != w.want {
			t.Errorf("%s: %s, not %s", name, got, w.want)
		}
		nc.Close()
	}
	for name, table := range map[string]string{"the encoding": "coded_", "the role": "roled_"} {
		for how, b := range map[string][]byte{
			"by Query":      join(query("insert into "+table+" values ('x')"), query("update plain set v = 'other'")),
			"in a pipeline": call("insert into "+table+" values ('x')", "update plain set v = 'other'"),
			"in one text":   query("insert into " + table + " values ('x'); update plain set v = 'other'"),
		} {
			nc := g.in(t)
			send(t, nc, b)
			all := untilEnd(nc)
			nc.Close()
			if !strings.Contains(all, "FATAL") || strings.Contains(all, "UPDATE") {
				t.Errorf("%s, %s:\n%s", name, how, all)
			}
		}
	}
	if got := g.ask(t, "select v from plain"); got != "X" {
		t.Error(got)
	}
}
