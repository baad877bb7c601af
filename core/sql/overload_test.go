package sql_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
)

const overloaded = `CREATE TABLE words_of (id int, word text, span int4range, words text[], kind relkind); CREATE TYPE duo AS (a int, b text); CREATE TYPE twice AS RANGE (subtype = duo); CREATE DOMAIN word AS varchar; CREATE DOMAIN spans AS int4range;
	CREATE TABLE others (span twice, d spans, w word); GRANT SELECT ON words_of, others TO app;
	CREATE FUNCTION either(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE FUNCTION either(int) RETURNS TABLE (x int, y int) LANGUAGE sql IMMUTABLE AS 'SELECT 1, 2';
	CREATE FUNCTION strings(word) RETURNS TABLE (p int, q int) LANGUAGE sql IMMUTABLE AS 'SELECT 1, 2'; CREATE FUNCTION strings(int4range) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE FUNCTION strings(text) RETURNS TABLE (r int, s int) LANGUAGE sql IMMUTABLE AS 'SELECT 1, 2';
	CREATE FUNCTION lower(word, int DEFAULT 1) RETURNS duo LANGUAGE sql IMMUTABLE AS 'SELECT 1, ''x''';
	CREATE FUNCTION upper(VARIADIC text[]) RETURNS duo LANGUAGE sql IMMUTABLE AS 'SELECT 1, ''x''';
	CREATE FUNCTION initcap(bytea) RETURNS duo LANGUAGE sql IMMUTABLE AS 'SELECT 1, ''x''';
	CREATE SCHEMA unseen; CREATE FUNCTION unseen.chooses(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
	CREATE FUNCTION chooses(int4range) RETURNS duo LANGUAGE sql IMMUTABLE AS 'SELECT 1, ''x''';`

func withKind(text string) string { return "CREATE TYPE relkind AS ENUM ('r', 'v'); " + text }

// TestOverloads: which of several functions stands in FROM is known where the server
// has no choice, and nothing is said where it has.
func TestOverloads(t *testing.T) {
	c := database(t, "overloads", `CREATE TABLE words_of (id int, word text, span int4range, words text[]); GRANT SELECT ON words_of TO app`)
	hold(t, c, "overloads", []feature{
		{0, "select * from lower('X')", "lower=|", ""},
		{0, "select * from pg_catalog.upper('x') as u", "u=|", ""},
		{0, "select lower from lower('X')", "lower=|", ""},
		{0, "select * from lower(NULL), abs(-1)", "lower=| abs=|", ""},
		{0, "select * from lower(('X')) with ordinality", "lower=| ordinality=|", ""},
		{0, "select * from lower('X'::text)", "lower=|", ""},
		{0, "select * from upper(cast('x' as character varying(3)))", "upper=|", ""},
		{0, "select l.* from words_of, lower(word) as l", "l=|words_of.word", ""},
		{0, "select * from rows from (lower('X'), generate_series(1, 2))", "lower=| generate_series=|", ""},
		{0, "select * from array_append(array[1], 2)", "array_append=|", ""},
		{0, "select * from array_cat('{1}'::int[], '{2}')", "array_cat=|", ""},
		{0, "select lower from words_of, lower(span)", "lower=|words_of.span", ""},
		{0, "select * from lower($1)", "", "the server's choice"},
		{0, "select * from lower(int4range(1, 2))", "", "the server's choice"},
		{0, "select * from words_of, lower(span)", "", "the server's choice"},
		{0, "select * from lower('[1,2)'::int4range)", "", "the server's choice"},
		{0, "select * from lower('{}'::int[]::text)", "lower=|", ""},
	})
}

// TestOverloadsAsTheServer: of each function and each kind of argument, what is said of
// the columns is what the server says.
func TestOverloadsAsTheServer(t *testing.T) {
	c := database(t, "overloadsall", withKind(overloaded))
	conn, err := pgx.Connect(context.Background(), server.URL("app", "overloadsall"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var names []string
	for name, list := range c.Schema.FunctionsNamed {
		shown := func(i int) string { return c.Schema.Types[list[i].Result].Name.Name }
		if len(list) > 1 || len(list[0].Out) > 0 || len(shown(0)) > 3 && shown(0)[:3] == "any" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	args := []string{"'x'", "NULL", "'x', 'y'", "1", "1.5", "'x'::text", "'x'::varchar", "true", "'{x}'", "1, 'x'", "'x', 1", "s.word", "s.id", "s.span", "s.words", "s.kind", "o.span", "o.d", "o.w", "s.word, s.word", "cast(1 as numeric)", "'r'::relkind", "'2020-01-01'::date, '1 day'", "", "'x', 'y', 'z'", "'x'::\"char\"", "'x'::pg_catalog.name", "'1'::word", "null::duo"}
	said, choice := 0, 0
	for _, name := range names {
		for _, a := range args {
			text := "select f.* from words_of s, others o, " + `"` + name + `"(` + a + ") f"
			an, err := sql.Analyze(c, text)
			if err != nil || an.Statement.Incomplete != "" {
				choice++
				continue
			}
			d, err := conn.Prepare(context.Background(), "", text)
			if err != nil { // there is no such function, or none is the best
				continue
			}
			var theirs, ours []string
			for _, f := range d.Fields {
				theirs = append(theirs, f.Name)
			}
			for _, o := range an.Statement.Outputs {
				ours = append(ours, o.Name)
			}
			if said++; !slices.Equal(theirs, ours) {
				t.Errorf("%s\ngives %q, not %q", text, theirs, ours)
			}
		}
	}
	t.Logf("%d functions: %d of which the columns are said, %d refused", len(names), said, choice)
	if said < 300 {
		t.Errorf("only %d are said", said)
	}
}
