package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

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
