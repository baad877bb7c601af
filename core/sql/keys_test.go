package sql_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// TestPM30KeysAreTold: a task with introspection reads the definitions of keys,
// which are names, and of no other constraint, which may hold data.
func TestPM30KeysAreTold(t *testing.T) {
	c := database(t, "keys", `CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE); CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE, v text CHECK (v <> 'secret'), EXCLUDE USING btree (v WITH =) WHERE (v <> 'secret'));
		CREATE FUNCTION mine(oid) RETURNS oid LANGUAGE sql AS 'SELECT $1'; GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	conn, err := pgx.Connect(context.Background(), server.URL("app", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for text, want := range map[string]string{
		"select pg_get_constraintdef(oid) from pg_constraint":                                                                             "REFERENCES parent(id)",
		"select pg_catalog.pg_get_constraintdef(k.oid, true) from pg_constraint k order by 1":                                             "REFERENCES parent(id)",
		"select pg_get_constraintdef(k.oid) as o from pg_constraint k, (select 1 as oid) x where pg_get_constraintdef(k.oid) is not null": "REFERENCES parent(id)",
		"select pg_get_constraintdef((select max(oid) from pg_constraint where contype = 'p' and conrelid = 'parent'::regclass)) x":       "PRIMARY KEY (id)",
		"select pg_get_constraintdef(oid), count(*) from pg_constraint group by oid":                                                      "REFERENCES parent(id)",
		"select distinct pg_get_constraintdef(oid::int8::oid) from pg_constraint k group by pg_get_constraintdef(oid::int8::oid)":         "REFERENCES parent(id)",
		"select x from pg_constraint k, pg_get_constraintdef(k.oid) x":                                                                    "REFERENCES parent(id)",
		"select coalesce(pg_get_constraintdef(oid, false), contype::text) from pg_constraint where conrelid = 'child'::regclass":          "REFERENCES parent(id)",
		"select pg_get_constraintdef('0')": "",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" || a.Statement.Writes() {
			t.Errorf("%s\n%s", text, render(a, err))
			continue
		}
		res, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll()
		var out strings.Builder
		for _, r := range res {
			for _, row := range r.Rows {
				out.Write(row[0])
				out.WriteByte('\n')
			}
		}
		if err != nil || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "secret") || strings.Contains(out.String(), "CHECK") || strings.Contains(out.String(), "EXCLUDE") {
			t.Errorf("%s\n%s\n%s%v", text, a.Statement.Canonical, &out, err)
		}
	}
	off := *c
	off.Introspect = false
	for _, k := range []struct {
		c    *sql.Context
		text string
	}{{&off, "select pg_get_constraintdef(1)"}, {c, "select pg_get_constraintdef(variadic array[1])"}, {c, "select pg_get_constraintdef(a => 1)"}, {c, "select pg_get_constraintdef(mine(1))"}} {
		if d, _ := judged(k.c, wide(c), k.text); d == abi.Allow {
			t.Errorf("%s is allowed", k.text)
		}
	}
}
