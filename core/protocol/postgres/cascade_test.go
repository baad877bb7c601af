package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestDropSchema: a schema goes with all that is in it where each of that may be
// dropped, and nothing else goes.
func TestDropSchema(t *testing.T) {
	task := policy.Task{ShowErrors: true, Masks: masks(abi.MaskNull, "", "people.ssn"), Rules: []policy.Rule{
		ddl("ware.*", append([]string{"create_function", "drop_function"}, tableVerbs...)...), ddl("ware", "create_schema", "drop_schema"),
		ddl("part.items", "drop_table"), ddl("part.v", "drop_view"), ddl("part", "drop_schema"),
		ddl("safe.*", "drop_table"), ddl("safe", "drop_schema"),
	}}
	task.Masks[0].Relation = []string{"safe", "people"}
	g := migrate(t, task)
	const ware = `create schema ware; create type ware.size as enum ('s'); create table ware.items (id serial primary key, size ware.size);
		create view ware.sizes as select size from ware.items; create function ware.one() returns int language sql as 'select 1'`
	g.askOf(t, g.db, `GRANT CREATE ON DATABASE `+g.db+` TO owner; SET ROLE owner; `+ware+`; CREATE SCHEMA part; CREATE TABLE part.items (id int); CREATE VIEW part.v AS SELECT id FROM part.items;
		CREATE SCHEMA safe; CREATE TABLE safe.people (ssn text)`)
	c, other := g.connect(t), g.direct(t)
	for _, s := range []stage{
		{"drop schema ware", "2BP01"},
		{"drop schema ware cascade", ""},
		{"select 1 from ware.items", "42P01"},
		{"begin", ""}, {ware, ""}, {"drop schema ware cascade", ""}, {"create schema ware", ""}, {"rollback", ""},
		{ware, ""},
		{"drop schema ware, part cascade", ""},
		{"drop schema safe cascade", "42501"},
	} {
		if _, err := c.Exec(t.Context(), s.text, pgx.QueryExecModeSimpleProtocol); err == nil != (s.want == "") || err != nil && code(err) != s.want {
			t.Errorf("%s: %v, not %s", s.text, err, s.want)
		}
	}
	for _, made := range []string{"CREATE TABLE part.other (id int)", "CREATE TYPE part.kind AS ENUM ('x')", "CREATE TEXT SEARCH DICTIONARY part.words (TEMPLATE = simple)",
		"CREATE VIEW public.above AS SELECT id FROM part.items", "CREATE TABLE public.leads (id int REFERENCES part.items)", "CREATE STATISTICS part.both ON id, n FROM part.items",
		"CREATE FUNCTION public.items() RETURNS SETOF part.items LANGUAGE sql AS 'select * from part.items'"} {
		for _, text := range []string{"CREATE SCHEMA part AUTHORIZATION owner; CREATE TABLE part.items (id int PRIMARY KEY, n int); ALTER TABLE part.items OWNER TO owner", made} { // nobody has looked since
			if _, err := other.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
				t.Fatal(text, err)
			}
		}
		if _, err := c.Exec(t.Context(), "drop schema part cascade"); code(err) != "42501" {
			t.Errorf("%s: %v", made, err)
		}
		if _, err := other.Exec(t.Context(), "DROP SCHEMA part CASCADE; DROP TABLE IF EXISTS public.leads", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDropWhatOthersMake: what goes along is what there is when a DROP is run, not
// when it was prepared or the transaction looked at the catalog last.
func TestDropWhatOthersMake(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{
		ddl("part.items", "drop_table", "alter_table"), ddl("part", "drop_schema"), ddl("public.own", "create_table"), ddl("public.days", "drop_table"), ddl("public.d1", "drop_table"),
		{At: "x.yaml:9", Verbs: []string{"truncate"}, Tables: []string{"part.items"}},
	}})
	const part = "CREATE SCHEMA part AUTHORIZATION owner; CREATE TABLE part.items (id int PRIMARY KEY); ALTER TABLE part.items OWNER TO owner; CREATE TABLE days (n int) PARTITION BY LIST (n); CREATE TABLE d1 PARTITION OF days FOR VALUES IN (1); ALTER TABLE days OWNER TO owner"
	other := g.direct(t)
	direct := func(text string) {
		t.Helper()
		if _, err := other.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
			t.Fatal(text, err)
		}
	}
	for _, d := range []struct{ drop, made string }{
		{"drop schema part cascade", "CREATE TABLE part.other (id int)"},
		{"drop table part.items cascade", "CREATE VIEW public.above AS SELECT id FROM part.items"},
		{"truncate part.items cascade", "CREATE TABLE public.leads (id int REFERENCES part.items); ALTER TABLE public.leads OWNER TO owner"},
		{"drop table days", "CREATE TABLE d2 PARTITION OF days FOR VALUES IN (2)"},
	} {
		for name, run := range map[string]func(c *pgx.Conn) error{
			"prepared": func(c *pgx.Conn) error {
				if _, err := c.PgConn().Prepare(t.Context(), "p", d.drop, nil); err != nil {
					t.Fatal(err)
				}
				direct(d.made)
				return c.PgConn().ExecPrepared(t.Context(), "p", nil, nil, nil).Read().Err
			},
			"bound": func(c *pgx.Conn) error {
				f := c.PgConn().Frontend()
				f.Send(&pgproto3.Parse{Query: d.drop})
				f.Send(&pgproto3.Bind{})
				f.Send(&pgproto3.Flush{})
				if err := f.Flush(); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if _, err := f.Receive(); err != nil {
						t.Fatal(err)
					}
				}
				direct(d.made)
				f.Send(&pgproto3.Execute{})
				f.Send(&pgproto3.Sync{})
				if err := f.Flush(); err != nil {
					t.Fatal(err)
				}
				var failed error
				for {
					m, err := f.Receive()
					if err != nil {
						t.Fatal(err)
					}
					switch m := m.(type) {
					case *pgproto3.ErrorResponse:
						failed = pgconn.ErrorResponseToPgError(m)
					case *pgproto3.ReadyForQuery:
						return failed
					}
				}
			},
			"in a transaction": func(c *pgx.Conn) error {
				for _, text := range []string{"begin", "create table own (id int)", "select 1"} {
					if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
						t.Fatal(err)
					}
				}
				direct(d.made)
				_, err := c.Exec(t.Context(), d.drop, pgx.QueryExecModeSimpleProtocol)
				return err
			},
			"prepared in a transaction": func(c *pgx.Conn) error {
				for _, text := range []string{"begin", "create table own (id int)", "select 1"} {
					if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := c.PgConn().Prepare(t.Context(), "p", d.drop, nil); err != nil {
					t.Fatal(err)
				}
				direct(d.made)
				return c.PgConn().ExecPrepared(t.Context(), "p", nil, nil, nil).Read().Err
			},
			"in a script": func(c *pgx.Conn) error {
				direct(d.made)
				_, err := c.PgConn().Exec(t.Context(), "select 1; "+d.drop).ReadAll()
				return err
			},
			"alone": func(c *pgx.Conn) error {
				direct(d.made)
				return c.PgConn().ExecParams(t.Context(), d.drop, nil, nil, nil, nil).Read().Err
			},
		} {
			direct(part)
			c := g.connect(t)
			for _, text := range []string{"alter table part.items add x int", "select 1"} { // what is known of it is what it is now
				if _, err := c.Exec(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			if err := run(c); code(err) != map[bool]string{true: "34000", false: "42501"}[name == "bound"] { // it may be bound again
				t.Errorf("%s, %s: %v", d.drop, name, err)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			direct("DROP SCHEMA IF EXISTS part CASCADE; DROP TABLE IF EXISTS days, leads")
		}
	}
}

// TestDropUnlooked: where what goes along cannot be looked at, nothing goes.
func TestDropUnlooked(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("part.items", "drop_table"), ddl("part", "drop_schema")}})
	g.askOf(t, g.db, "CREATE SCHEMA part AUTHORIZATION owner; CREATE TABLE part.items (id int)")
	d := &gateDialer{Dialer: g.Dialer}
	g.Dialer = d
	for _, text := range []string{"drop table part.items cascade", "drop schema part cascade"} {
		c := g.connect(t)
		d.shut.Store(true)
		g.cutOff(t)
		for range 2 {
			if _, err := c.Exec(t.Context(), text); code(err) != "58000" {
				t.Errorf("%s: %v", text, err)
			}
		}
		d.shut.Store(false)
		if _, err := c.Exec(t.Context(), "select 1"); err != nil {
			t.Error(err)
		}
	}
	if n := g.ask(t, "select count(*) from pg_class where relname = 'items' and relnamespace = 'part'::regnamespace"); n != "1" {
		t.Error("it has gone")
	}
}

// TestDropHeld: what is approved goes, and not what others have put there since.
func TestDropHeld(t *testing.T) {
	guard := &holds{terms: abi.Terms{OnHold: "keep"}, holds: func(c *abi.Command) bool {
		return slices.ContainsFunc(c.Statement.Operations, func(o abi.Operation) bool { return o.Verb == "drop_schema" })
	}}
	g, p := review(t, guard)
	g.Dialer = asOwner{dialer{database: g.db}}
	g.options(guard, TaskOptions{}, ResourceOptions{Privileged: map[string]bool{"": true}}, "owner")
	const drop = "drop schema part cascade"
	bound := join(parseMsg("", drop), bindMsg("", ""), executeMsg(""), sync_())
	for name, s := range map[string]struct {
		before     string
		text       []byte
		want, late string
	}{
		"a query":                {"select 1", query(drop), "C ZI", "E42501 ZI"},
		"bound":                  {"select 1", bound, "1 2 C ZI", "1 E42501 ZI"},
		"in a transaction":       {"begin", query(drop), "C ZT", "E42501 ZE"},
		"bound in a transaction": {"begin", bound, "1 2 C ZT", "1 E42501 ZE"},
	} {
		for made, want := range map[string]string{"": s.want, "CREATE TABLE part.other (id int)": s.late} {
			g.askOf(t, g.db, "CREATE SCHEMA part AUTHORIZATION owner; CREATE TABLE part.items (id int); ALTER TABLE part.items OWNER TO owner")
			nc := g.in(t)
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			send(t, nc, query(s.before), query("create table own (id int)"), query("select 1"))
			kinds(t, nc, 3)
			send(t, nc, s.text)
			r := p.next(t)
			g.askOf(t, g.db, made)
			p.approve(r)
			if got := kinds(t, nc, 1); got != want {
				t.Errorf("%s, %q: %s, not %s", name, made, got, want)
			}
			nc.Close()
			g.quiet(t)
			g.askOf(t, g.db, "DROP SCHEMA IF EXISTS part CASCADE; DROP TABLE IF EXISTS own")
		}
	}
}

// TestDropOfChild: what an ALTER TABLE does to the tables that inherit stands under
// their masks as well.
func TestDropOfChild(t *testing.T) {
	g := migrate(t, policy.Task{Masks: masks(abi.MaskNull, "", "kept_one.m"), Rules: []policy.Rule{
		ddl("public.*", tableVerbs...), all("select", "public.kept", "public.kept_one"),
	}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE kept (n int, m text, k int) PARTITION BY LIST (n); CREATE TABLE kept_one PARTITION OF kept FOR VALUES IN (1); INSERT INTO kept VALUES (1, 'hidden', 1)`)
	const masked = "out of its mask"
	g.walk(t, []stage{
		{"select m from kept", "="}, {"alter table kept drop column m", masked}, {"alter table kept drop column m cascade", masked},
		{"begin", ""}, {"alter table kept drop column k", ""}, {"select m from kept_one", "="}, {"rollback", ""},
	})
}
