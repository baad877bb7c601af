package sql_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// TestAssignParts: an element, a slice or a field is assigned as its column is,
// and what the column held is tested by that, here and behind views, parents and rules.
func TestAssignParts(t *testing.T) {
	c := newer(t, database(t, "assigned", `
		CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN small AS int CHECK (VALUE < 100); CREATE TYPE pair AS (a int, b text[]); CREATE TYPE deep AS (p pair, q pair[]);
		CREATE TABLE t (id int PRIMARY KEY, a int[], m mood[], j jsonb, p pair, d deep, s small[], n int);
		INSERT INTO t VALUES (1, '{1,2,3}', '{sad,ok}', '{}', '(1,"{x,y}")', NULL, '{1}', 2);
		CREATE VIEW v AS SELECT id AS k, a AS list, p AS pr FROM t; CREATE TABLE parent (id int, a int[]); CREATE TABLE kid () INHERITS (parent); INSERT INTO kid VALUES (1, '{1}');
		CREATE TABLE log (a int[]); CREATE TABLE ruled (id int, a int[]); INSERT INTO ruled VALUES (1, '{1,2}'); CREATE RULE r AS ON UPDATE TO ruled DO ALSO INSERT INTO log VALUES (new.a);
		GRANT ALL ON ALL TABLES IN SCHEMA public TO app`))
	conn, err := pgx.Connect(context.Background(), server.URL("app", "assigned"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, k := range []struct {
		text, tested, reads string
		min                 int
	}{
		{"update t set a[2] = 5 where id = 1", "t.a", "t.id", 0},
		{"update t set a[n] = 5, m[2] = 'sad', n = 7 where id = 1", "t.a t.m", "t.id t.n", 0},
		{"update t set a[1:2] = '{7,8}', a[3] = 9", "t.a", "", 0},
		{"update t set m[:1] = array['ok'::mood]", "t.m", "", 0},
		{"update t set m[1][1] = 'ok' where false", "t.m", "", 0},
		{"update t set s[1] = 9", "t.s", "", 0},
		{`update t set j['a']['b'] = '1', j['c'] = to_jsonb(id)`, "t.j", "t.id", 14},
		{"update t set p.a = 3, p.b[2] = 'z' where (p).a = 1", "t.p", "t.p", 0},
		{"update t set d.p.a = 1, d.q[1].b[2] = upper('x')", "t.d", "", 0},
		{"update t set (a[1], p.a) = (select 1, n)", "t.a t.p", "t.n", 0},
		{"update v set list[1] = 5, pr.a = 1 where k = 1", "t.a t.p v.list v.pr", "t.id v.k", 0},
		{"update parent set a[1] = 5", "kid.a parent.a", "", 0},
		{"update ruled set a[1] = 5", "ruled.a", "ruled.a", 0},
		{"insert into t (id, a[1], a[2], p.a, d.q[1].b[1]) values (3, 1, 2, 3, 'x')", "", "", 0},
		{"insert into t (id) values (1) on conflict (id) do update set a[1] = excluded.id, p.b[1] = 'q'", "t.a t.p", "t.id", 0},
		{"merge into t using (values (1)) x (k) on x.k = id when matched then update set a[x.k] = 4", "t.a", "t.id", 15},
	} {
		a, err := sql.Analyze(c, k.text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s\n%s", k.text, render(a, err))
			continue
		}
		var tested, reads []string
		for _, o := range a.Statement.Operations {
			for _, col := range o.Columns {
				if name := o.Object[1] + "." + col.Name; o.Verb == "update" && col.Use&abi.UseTested != 0 {
					tested = append(tested, name)
				} else if o.Verb == "select" && col.Use&abi.Reads != 0 && (o.Via == "" || strings.HasPrefix(o.Via, "rule ") || strings.HasPrefix(o.Via, "view ")) {
					reads = append(reads, name)
				}
			}
		}
		got := func(names []string) string {
			slices.Sort(names)
			return strings.Join(slices.Compact(names), " ")
		}
		if got(tested) != k.tested || got(reads) != k.reads {
			t.Errorf("%s\ntests %q and reads %q, wanted %q and %q\n%s", k.text, got(tested), got(reads), k.tested, k.reads, render(a, err))
		}
		if pgtest.Major() < k.min {
			continue
		}
		if _, err := conn.PgConn().Exec(context.Background(), "begin; "+a.Statement.Canonical+"; rollback").ReadAll(); err != nil {
			t.Errorf("%s: %v", a.Statement.Canonical, err)
			_, _ = conn.Exec(context.Background(), "rollback")
		}
	}
	for text, want := range map[string]string{
		"update t set t.n = 1":            `error 42703 column "t" of relation "t" does not exist`,
		"update t set n.a = 1":            "error 42804",
		"update t set p.c = 1":            "error 42703",
		"update t set p.* = 1":            "all fields of a column",
		"update t set a[lower(m::text)]":  "error 42601",
		"update t set a[zzz] = 1":         "error 42703",
		"insert into t (a[n]) values (1)": "error 42703",
	} {
		if a, err := sql.Analyze(c, text); !strings.Contains(render(a, err), want) {
			t.Errorf("%s\n%s wants %s", text, render(a, err), want)
		}
	}
	s := kept(t, &keeper{}, "public.t.p", "public.kid.a", "public.ruled.a")
	for text, refused := range map[string]bool{"update t set p.a = 1": true, "update v set pr.a = 1": true, "update parent set a[1] = 1": true, "update ruled set a[1] = 1": true, "update t set a[1] = 1": false,
		"insert into t (id) values (1) on conflict (id) do update set p.b[1] = 'q'": true, "insert into t (id, p.a) values (3, 1)": false} {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, why := verdict(t, s, a.Statement); (why != "") != refused {
			t.Errorf("%s with masks: %q", text, why)
		}
	}
}
