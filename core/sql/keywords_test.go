package sql_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// TestPS15Keywords: a word is a keyword here exactly where it is one for the
// server, and of the same kind. A server of 16 that is judged by the table of 17
// would else call a user's function json_value where the special form was judged.
func TestPS15Keywords(t *testing.T) {
	loaded(t)
	g, err := parse.ForServer(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"unreserved_keyword": "U", "col_name_keyword": "C", "type_func_name_keyword": "T", "reserved_keyword": "R"}
	here := map[string]string{}
	for _, r := range g.Rules {
		kind := kinds[r[0]]
		if kind == "" || len(r) != 2 {
			continue
		}
		word := strings.ToLower(strings.TrimSuffix(r[1], "_P"))
		toks, err := g.Lex(word)
		if err != nil || len(toks) != 1 {
			t.Fatal(word, toks, err)
		}
		if g.Names[toks[0].Kind] == r[1] {
			here[word] = kind
		}
	}
	conn, err := pgx.Connect(context.Background(), server.URL("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), "select word, catcode::text from pg_get_keywords()")
	if err != nil {
		t.Fatal(err)
	}
	var word, kind string
	if _, err := pgx.ForEachRow(rows, []any{&word, &kind}, func() error {
		if pgtest.Major() == 16 && word == "json" { // a function's name as well: TestPS08OlderForms
			kind = "C"
		}
		if here[word] != kind {
			t.Errorf("%s is %q, and %q for the server", word, here[word], kind)
		}
		delete(here, word)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for word, kind := range here {
		t.Errorf("%s is %q, and none of the server's", word, kind)
	}
}

// TestPS08OlderForms: what is a special form for the table that judges a server
// is a call of somebody's function for a server that does not have it yet, and
// judged as that.
func TestPS08OlderForms(t *testing.T) {
	c := database(t, "older", `CREATE TABLE t (id int, x jsonb, merge int, json int);
		CREATE FUNCTION public.json_value(jsonb, text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'; CREATE FUNCTION public.json(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
		CREATE FUNCTION public.json_scalar(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'; CREATE FUNCTION public.merge_action() RETURNS text LANGUAGE sql AS 'SELECT 1::text'`)
	for text, function := range map[string]string{"select json_value(x, '$.a') from t": "json_value", "select json('1')": "json", "select * from json('1')": "json", "select json_scalar('a')": "json_scalar", "select merge_action()": "merge_action"} {
		a, err := sql.Analyze(c, text)
		if got := render(a, err); strings.Contains(got, "call public."+function) != (pgtest.Major() < 17) && err == nil {
			t.Errorf("%s\n%s", text, got)
		}
	}
	for _, text := range []string{"select json from t", "select '1'::json", "select x::json from t", "select t.json, x as json from t", "select merge from t"} {
		if a, err := sql.Analyze(c, text); err != nil || a.Statement.Incomplete != "" || strings.Contains(render(a, err), "call") {
			t.Errorf("%s\n%s", text, render(a, err))
		}
	}
}
