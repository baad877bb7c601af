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

const writes = `
CREATE TABLE base (id int PRIMARY KEY, name text UNIQUE, secret text DEFAULT 'x', state text DEFAULT 'new');
CREATE TABLE child (id int PRIMARY KEY, base_id int REFERENCES base ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE log (what text, at int);
CREATE TABLE other (id int PRIMARY KEY, note text);
INSERT INTO base SELECT i, 'n' || i FROM generate_series(1, 5) i; INSERT INTO child SELECT i, i FROM generate_series(1, 5) i; INSERT INTO other VALUES (1, 'a');
CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_OP, 1); RETURN COALESCE(NEW, OLD); END $$;
CREATE VIEW v AS SELECT id, name AS title, state, upper(name) AS loud FROM base WHERE state <> 'gone';
CREATE VIEW vv AS SELECT title, id FROM v WHERE id < 100 WITH CASCADED CHECK OPTION;
CREATE VIEW d AS SELECT id, name FROM base; ALTER VIEW d ALTER COLUMN name SET DEFAULT 'by the view';
CREATE VIEW counted AS SELECT state, count(*) FROM base GROUP BY state;
CREATE VIEW joined AS SELECT b.id, b.name, o.note FROM base b JOIN other o ON o.id = b.id;
CREATE VIEW listed AS SELECT feature_name FROM information_schema.sql_features;
CREATE VIEW distincted AS SELECT DISTINCT name FROM base;
CREATE VIEW few AS SELECT id FROM base ORDER BY id LIMIT 1;
CREATE VIEW two AS SELECT id FROM base UNION ALL SELECT id FROM other;
CREATE VIEW whole AS SELECT id, base AS row FROM base;
CREATE VIEW instead AS SELECT b.id, b.name, o.note FROM base b JOIN other o ON o.id = b.id;
CREATE TRIGGER t INSTEAD OF INSERT OR UPDATE OR DELETE ON instead FOR EACH ROW EXECUTE FUNCTION logged();
CREATE VIEW ruled AS SELECT b.id, b.name, o.note FROM base b JOIN other o ON o.id = b.id;
CREATE RULE ins AS ON INSERT TO ruled DO INSTEAD (INSERT INTO base (id, name) VALUES (new.id, new.name); INSERT INTO other (id, note) VALUES (new.id, new.note));
CREATE RULE upd AS ON UPDATE TO ruled DO INSTEAD UPDATE other SET note = new.note WHERE other.id = old.id;
CREATE RULE del AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE watched (id int PRIMARY KEY, v text, w text DEFAULT 'w');
INSERT INTO watched VALUES (1, 'a');
CREATE RULE also AS ON INSERT TO watched DO ALSO INSERT INTO log VALUES (new.w, new.id);
CREATE RULE maybe AS ON UPDATE TO watched WHERE old.v <> new.v DO ALSO INSERT INTO log VALUES (old.w, old.id);
CREATE RULE keep AS ON DELETE TO watched WHERE old.id = 1 DO INSTEAD UPDATE watched SET v = 'kept' WHERE id = old.id;
CREATE TABLE answering (id int); CREATE RULE r AS ON INSERT TO answering DO INSTEAD SELECT secret FROM base;
CREATE TABLE telling (id int); CREATE RULE r AS ON INSERT TO telling DO ALSO NOTIFY told;
CREATE TABLE circle (id int); CREATE RULE r AS ON INSERT TO circle DO ALSO INSERT INTO circle VALUES (new.id + 1);
CREATE TABLE ring (id int PRIMARY KEY, v text); INSERT INTO ring VALUES (1, 'x'); CREATE TABLE ringed (id int REFERENCES ring ON DELETE CASCADE); CREATE RULE r AS ON DELETE TO ringed DO ALSO DELETE FROM other;
CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TRIGGER own AFTER INSERT OR UPDATE OR DELETE ON parts_1 FOR EACH ROW EXECUTE FUNCTION logged();
CREATE VIEW vparts AS SELECT id, v FROM parts; INSERT INTO parts VALUES (1, 'x'); DELETE FROM log;
CREATE TABLE off (id int); CREATE RULE r AS ON INSERT TO off DO INSTEAD NOTHING; ALTER TABLE off DISABLE RULE r;
CREATE TRIGGER t AFTER INSERT ON off FOR EACH ROW EXECUTE FUNCTION logged();
CREATE TABLE top (id int PRIMARY KEY); INSERT INTO top VALUES (1); CREATE TABLE under (k int, top_id int REFERENCES top ON DELETE CASCADE) PARTITION BY RANGE (k);
CREATE TABLE under_1 PARTITION OF under FOR VALUES FROM (0) TO (9); INSERT INTO under VALUES (1, 1);
CREATE TRIGGER own AFTER DELETE ON under_1 FOR EACH ROW EXECUTE FUNCTION logged();
CREATE TRIGGER every BEFORE INSERT ON under FOR EACH ROW EXECUTE FUNCTION logged();
GRANT ALL ON ALL TABLES IN SCHEMA public TO app`

// TestWritingThrough: whatever the server does to get at the rows beneath a
// view, a rule or a parent is in the analysis. Each text is run, and what the
// server has counted is held against it.
func TestWritingThrough(t *testing.T) {
	c := database(t, "writes", writes)
	conn, err := pgx.Connect(context.Background(), server.URL("app", "writes"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, k := range []struct {
		text, want string // what it does, without the tables of the server's own
		min        int
	}{
		{"update v set title = 'x' where id = 1", "update public.v(title) where:key !\nselect public.base(state, id) where via view public.v\nselect public.v(id)\nupdate public.base(name) where:key via view public.v !\n", 0},
		{"update v set state = 'y'", "update public.v(state) !\nselect public.base(state) where via view public.v\nupdate public.base(state) via view public.v !\n", 0},
		{"insert into v (id, title) values (9, 'z')", "insert public.v(id, title) !\nselect public.base(state) where via view public.v\ninsert public.base(id, name) via view public.v !\n", 0},
		{"delete from v where title = 'n1'", "delete public.v where:key !\nselect public.base(state, name) where via view public.v\nselect public.v(title)\ndelete public.base where:key via view public.v !\ndelete public.child via fk public.child.child_base_id_fkey !\n", 0},
		{"update vv set id = id + 10 where id = 2", "update public.vv(id) where:key !\nselect public.v(id) where via view public.vv\nselect public.base(state, id) where via view public.v\nselect public.vv(id)\nupdate public.v(id) where:key via view public.vv !\nupdate public.base(id) where:key via view public.v !\nupdate public.child(base_id) via fk public.child.child_base_id_fkey !\ntest public.base(id) via fk public.child.child_base_id_fkey\n", 0},
		{"insert into vv (title, id) values ('q', 50) returning id, title", "insert public.vv(title, id) returning !\nselect public.v(id, title) where via view public.vv\nselect public.base(state, id, name) where via view public.v\ninsert public.v(title, id) via view public.vv !\ninsert public.base(name, id) via view public.v !\nselect public.vv(id, title)\n", 0},
		{"insert into d (id) values (8)", "insert public.d(id) !\nselect public.base via view public.d\ninsert public.base(id, name) via view public.d !\n", 0},
		{"insert into v (id, title) values (1, 'again') on conflict (id) do update set title = excluded.title where v.state = 'new'", "insert public.v(id, title) !\nselect public.base(state, id, name) where via view public.v\nselect public.v(id, title, state)\nupdate public.v(title) !\nupdate public.base(name) via view public.v !\ninsert public.base(id, name) via view public.v !\n", 0},
		{"merge into v using (select 1 as k) s on v.id = s.k when matched then update set title = 'm' when not matched then insert (id, title) values (99, 'mm')", "select public.base(state, id) where via view public.v\nselect public.v(id)\nupdate public.v(title) !\nupdate public.base(name) via view public.v !\ninsert public.v(id, title) !\ninsert public.base(id, name) via view public.v !\n", 17},
		{"with w as (update v set state = 's' where id = 3 returning id) select * from w", "update public.v(state) where:key returning !\nselect public.base(state, id) where via view public.v\nselect public.v(id)\nupdate public.base(state) where:key via view public.v !\n", 0},
		{"insert into instead values (3, 'x', 'y')", "insert public.instead(id, name, note) !\ncall public.logged via trigger public.instead.t !\n", 0},
		{"update instead set note = 'z' where id = 1", "update public.instead(note) where !\nselect public.base(id, name) via view public.instead\nselect public.other(id, note) via view public.instead\nselect public.instead(id)\ncall public.logged via trigger public.instead.t !\n", 0},
		{"delete from instead", "delete public.instead !\nselect public.base(id, name) via view public.instead\nselect public.other(id, note) via view public.instead\ncall public.logged via trigger public.instead.t !\n", 0},
		{"insert into ruled values (7, 'seven', 'n')", "insert public.ruled(id, name, note) !\ninsert public.base(id, name) via rule public.ruled.ins !\ninsert public.other(id, note) via rule public.ruled.ins !\n", 0},
		{"update ruled set note = 'r' where name = 'n1'", "update public.ruled(note) where !\nselect public.base(id, name) via view public.ruled\nselect public.other(id) via view public.ruled\nselect public.ruled(name)\nupdate public.other(note) where via rule public.ruled.upd !\nselect public.other(id) via rule public.ruled.upd\nselect public.ruled(id) via rule public.ruled.upd\n", 0},
		{"delete from ruled", "delete public.ruled !\nselect public.base(id) via view public.ruled\nselect public.other(id) via view public.ruled\n", 0},
		{"insert into watched (id, v) values (2, 'b')", "insert public.watched(id, v) !\ninsert public.log(what, at) via rule public.watched.also !\n", 0},
		{"update watched set v = 'c' where id = 1", "update public.watched(v) where:key !\nselect public.watched(id)\nselect public.watched(v, w, id) via rule public.watched.maybe\ninsert public.log(what, at) via rule public.watched.maybe !\n", 0},
		{"delete from watched where id = 1", "delete public.watched where:key !\nselect public.watched(id)\nselect public.watched(id) via rule public.watched.keep\nupdate public.watched(v) via rule public.watched.keep !\nselect public.watched(v, w, id) via rule public.watched.maybe\ninsert public.log(what, at) via rule public.watched.maybe !\n", 0},
		{"insert into parts values (5, 'p')", "insert public.parts(id, v) !\ninsert public.parts_1 via parent public.parts !\ncall public.logged via trigger public.parts_1.own !\n", 0},
		{"update vparts set v = 'q' where id = 1", "update public.vparts(v) where !\nselect public.parts(id) via view public.vparts\nselect public.parts_1 via parent public.parts\nselect public.vparts(id)\nupdate public.parts(v) where via view public.vparts !\nupdate public.parts_1 via parent public.parts !\ncall public.logged via trigger public.parts_1.own !\ndelete public.parts_1 via parent public.parts !\ninsert public.parts_1 via parent public.parts !\n", 0},
		{"insert into off values (1)", "insert public.off(id) !\ncall public.logged via trigger public.off.t !\n", 0},
		{"delete from top", "delete public.top !\ndelete public.under via fk public.under.under_top_id_fkey !\ndelete public.under_1 via parent public.under !\ncall public.logged via trigger public.under_1.own !\n", 0},
		{"insert into under values (2, 1)", "insert public.under(k, top_id) !\ntest public.top(id) via fk public.under.under_top_id_fkey\ncall public.logged via trigger public.under.every !\ninsert public.under_1 via parent public.under !\n", 0},
		{"delete from parts", "delete public.parts !\ndelete public.parts_1 via parent public.parts !\ncall public.logged via trigger public.parts_1.own !\n", 0},
	} {
		a, err := sql.Analyze(newer(t, c), k.text)
		got := hashes.ReplaceAllString(render(a, err), "")
		if got != k.want {
			t.Errorf("%s\n got:\n%s want:\n%s", k.text, got, k.want)
		}
		if err != nil || a.Statement.Incomplete != "" || k.min > pgtest.Major() {
			continue
		}
		tx, err := conn.Begin(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		// The counters of a session also have what earlier transactions have not yet handed over.
		before := counted(t, tx)
		if _, err := tx.Conn().PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil {
			t.Errorf("%s: %v", k.text, err)
		} else {
			for done, n := range counted(t, tx) {
				if n > before[done] && !slices.ContainsFunc(a.Statement.Operations, func(o abi.Operation) bool {
					return o.Verb == done[0] && o.Object[1] == done[1] || done[1] == "log" && strings.HasPrefix(o.Via, "trigger ")
				}) {
					t.Errorf("%s: the server has done %s, and the analysis says\n%s", k.text, done, got)
				}
			}
		}
		_ = tx.Rollback(context.Background())
	}
	for text, want := range map[string]string{
		"update v set loud = 'x'":                                   `error 0A000 cannot update column "loud" of view "v"`,
		"insert into v values (1, 'a', 'b', 'c')":                   `error 0A000 cannot insert column "loud" of view "v"`,
		"insert into v (id) values (1), (default)":                  "insert public.v(id) !",
		"update counted set state = 'x'":                            "error 55000",
		"delete from joined":                                        "error 55000",
		"delete from distincted":                                    "error 55000",
		"delete from few":                                           "error 55000",
		"delete from two":                                           "error 55000",
		"update listed set feature_name = 'x'":                      "incomplete: writing through the view listed to what is no table",
		"update whole set row = null":                               `error 0A000 cannot update column "row" of view "whole"`,
		"insert into ruled values (1, 'a', 'b') returning *":        "incomplete: RETURNING from ruled",
		"insert into answering values (1)":                          "incomplete: the rule public.answering.r, which answers",
		"insert into telling values (1)":                            "incomplete: the rule public.telling.r, which answers",
		"insert into circle values (1)":                             "incomplete: rules within rules",
		"delete from ring where id = 1":                             "incomplete: a foreign key of ringed, which has rules",
		"truncate v":                                                "error 42809",
		"copy v from stdin":                                         "error 42809",
		"update pg_roles set rolname = 'x'":                         "incomplete: writing to a system catalog",
		"insert into information_schema.sql_features values (null)": "incomplete: writing to a system catalog",
	} {
		if a, err := sql.Analyze(newer(t, c), text); !strings.Contains(render(a, err), want) {
			t.Errorf("%s\n%s wants %s", text, render(a, err), want)
		}
	}
}

// TestWritingExactly: what counts as one row of a table counts so through a
// view, no command speaks for another there, and a field of a row is its column.
func TestWritingExactly(t *testing.T) {
	c := database(t, "exactly", `CREATE TABLE t (id bigint PRIMARY KEY, code varchar UNIQUE, a int, b int); CREATE VIEW v AS SELECT id AS k, code, a FROM t; CREATE VIEW vv AS SELECT k AS kk, a FROM v;
		CREATE TABLE parent (id int PRIMARY KEY, a int); CREATE TABLE kid () INHERITS (parent); CREATE VIEW vp AS SELECT * FROM parent;
		CREATE TABLE list (id int PRIMARY KEY, a int) PARTITION BY LIST (id); CREATE TABLE list_1 PARTITION OF list FOR VALUES IN (1); CREATE TABLE list_2 PARTITION OF list DEFAULT; CREATE VIEW vl AS SELECT * FROM list;
		CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER went AFTER DELETE ON list FOR EACH ROW EXECUTE FUNCTION told(); CREATE TRIGGER came AFTER INSERT ON list FOR EACH ROW EXECUTE FUNCTION told();
		CREATE TABLE r (id int PRIMARY KEY, a int); CREATE RULE twice AS ON UPDATE TO r DO INSTEAD (UPDATE t SET a = 1 WHERE id = 1; UPDATE t SET a = 2);
		CREATE TYPE mood AS ENUM ('sad'); CREATE FUNCTION said(mood) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$; CREATE CAST (mood AS text) WITH FUNCTION said AS IMPLICIT; CREATE TYPE felt AS (m mood, x int); CREATE TABLE f (id int, x felt);
		CREATE FUNCTION ends() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE g (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, d int DEFAULT ends()); CREATE VIEW vg AS SELECT id, a, d FROM g;
		CREATE FUNCTION positions(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE rows (s text, n int); GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	for text, want := range map[string][]string{
		"update v set a = 1 where k = $1":                                {`($1::"pg_catalog"."int8")`, "update public.t(a) where:key via view public.v"},
		"delete from vv where kk = $1":                                   {`($1::"pg_catalog"."int8")`, "delete public.t where:key via view public.v", "delete public.v where:key via view public.vv"},
		"delete from v where code = $1":                                  {`($1::"pg_catalog"."text")`, "delete public.t where:key"},
		"delete from v where k = 1.5::float8":                            {"delete public.v where !", "delete public.t where via"},
		"delete from v where k in (1, 2)":                                {"delete public.t where via"},
		"delete from v where v.k = k":                                    {"delete public.v !", "delete public.t via"},
		"delete from vp where id = 1":                                    {"delete public.vp where !", "delete public.parent where via", "delete public.kid via parent"},
		"update vl set a = 1 where id = 1":                               {"update public.list(a) where:key via", "update public.list_1 via parent", "update public.list_2 via parent"},
		"update vl set id = 2 where id = 1":                              {"delete public.list_1 via parent", "insert public.list_2 via parent", "via trigger public.list.went", "via trigger public.list.came"},
		"with w as (update v set a = 1 where k = 1) update v set a = 2":  {"update public.t(a) where:key via view public.v", "update public.t(a) via view public.v"},
		"with w as (update v set a = 1) update v set a = 2 where k = 1":  {"update public.t(a) where:key via view public.v", "update public.t(a) via view public.v"},
		"update r set a = 1 where id = 1":                                {"update public.t(a) where:key via rule public.r.twice", "update public.t(a) via rule public.r.twice"},
		"with w as (update r set a = 1 where id = 1) update t set a = 3": {"update public.t(a) !"},
		"delete from t where (t).id = id":                                {"delete public.t !"},
		"delete from t where ((t)).id = (t.*).id":                        {"delete public.t !"},
		"delete from t where (t).id = 1":                                 {"delete public.t where !"},
		"delete from t where ctid = '(0,1)'":                             {"delete public.t where !", "select public.t(ctid)"},
		"insert into vg (id) values (1)":                                 {"call public.ends"},
		"update vg set d = default":                                      {"call public.ends", "update public.g(d) via view public.vg"},
		"select upper((x).m::text) from f":                               {"call public.said"},
		"select (x).x + 1 from f":                                        {"select public.f(x)"},
		"select x.b from rows, rows from (unnest(string_to_array(s, ',')), generate_series(1, n)) x (a, b)": {"select public.rows(s, n)"},
	} {
		a, err := sql.Analyze(newer(t, c), text)
		got := render(a, err)
		if err == nil {
			got += a.Statement.Canonical
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s\n%s wants %q", text, got, w)
			}
		}
	}
	for text, want := range map[string]string{
		"select * from rows, rows from (unnest(string_to_array(s, ',')), generate_series(1, n)) x": "server's choice",
		"select * from rows, unnest(string_to_array(s, ','), array[1])":                            "server's choice",
		"select x.positions from rows, unnest(string_to_array(s, ',')) x":                          "function's column or a call",
		"select (x).m from (select x from rows, unnest(string_to_array(s, ',')) x) y":              "not known",
		"select (y.x).lexeme from (select unnest(string_to_array(s, ',')) as x from rows) y":       "function's column or a call",
	} {
		if a, err := sql.Analyze(newer(t, c), text); !strings.Contains(render(a, err), want) {
			t.Errorf("%s\n%s wants %s", text, render(a, err), want)
		}
	}
	if a, err := sql.Analyze(newer(t, c), "with w as (update r set a = 1 where id = 1) update r set a = 2 where id = 2"); strings.Count(render(a, err), "update public.t(a)") != 4 {
		t.Errorf("a rule that runs twice: %s", render(a, err))
	}
	a, err := sql.Analyze(newer(t, c), "select x.b, x.a from rows, rows from (unnest(string_to_array(s, ',')), generate_series(1, n)) x (a, b)")
	if err != nil || lineage(a) != "b=|rows.s,rows.n a=|rows.s,rows.n" {
		t.Errorf("%v\n%s", err, render(a, err))
	}
}

// counted gives how many rows of which table a session has written, by verb.
func counted(t *testing.T, tx pgx.Tx) map[[2]string]int {
	t.Helper()
	rows, err := tx.Query(context.Background(), "SELECT relname::text, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables")
	if err != nil {
		t.Fatal(err)
	}
	out := map[[2]string]int{}
	var name string
	var ins, upd, del int
	if _, err := pgx.ForEachRow(rows, []any{&name, &ins, &upd, &del}, func() error {
		out[[2]string{"insert", name}], out[[2]string{"update", name}], out[[2]string{"delete", name}] = ins, upd, del
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReturningChanged: RETURNING gives rows as they were and as they are, by
// these names or by others.
func TestReturningChanged(t *testing.T) {
	c := newer(t, loaded(t))
	conn, err := pgx.Connect(context.Background(), server.URL("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for text, want := range map[string]string{
		"update customers set status = 'x' where id = 1 returning old.card, new.status, id":                                                                                         "card=customers.card| status=customers.status| id=customers.id|",
		"update customers set status = 'x' where id = 1 returning old.*, upper(new.card) as u":                                                                                      "id=customers.id| name=customers.name| email=customers.email| card=customers.card| national_id=customers.national_id| status=customers.status| created=customers.created| u=|customers.card",
		"delete from items where id = 1 returning old.sku, new.sku is null":                                                                                                         "sku=items.sku| ?column?=|items.sku",
		"insert into customers (name, email) values ('a', 'b@x') on conflict (email) do update set name = excluded.name returning old.name, new.name":                               "name=customers.name| name=customers.name|",
		"update orders o set note = 'x' from customers c where c.id = o.customer_id and o.id = 1 returning with (old as was, new as now) was.note, now.note, c.name, *":             "note=orders.note| note=orders.note| name=customers.name| id=orders.id| customer_id=orders.customer_id| status=orders.status| total=orders.total| note=orders.note| created=orders.created| id=customers.id| name=customers.name| email=customers.email| card=customers.card| national_id=customers.national_id| status=customers.status| created=customers.created|",
		"merge into orders o using customers c on o.customer_id = c.id and o.id = 1 when matched then update set note = 'x' returning merge_action(), old.note, new.status, c.card": "merge_action=| note=orders.note| status=orders.status| card=customers.card|",
		"update customers old set status = 'x' where id = 1 returning old.card, new.name":                                                                                           "card=customers.card| name=customers.name|",
		"update orders set note = 'x' where id = 1 returning old":                                                                                                                   "old=|orders.id,orders.customer_id,orders.status,orders.total,orders.note,orders.created",
		"update orders set note = 'x' where id = 1 returning (new).status":                                                                                                          "status=orders.status|",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s\n%s", text, render(a, err))
			continue
		}
		if got := lineage(a); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
		if pgtest.Major() < 18 {
			continue
		}
		if _, err := conn.PgConn().Exec(context.Background(), "begin; "+a.Statement.Canonical).ReadAll(); err != nil {
			t.Errorf("%s\n%v", a.Statement.Canonical, err)
		}
		_, _ = conn.PgConn().Exec(context.Background(), "rollback").ReadAll()
	}
	for text, want := range map[string]string{
		"update orders set note = 'x' returning older.note":                 "42P01",
		"update orders set note = 'x' returning with (old as was) old.note": "42P01",
		"select old.note from orders":                                       "42P01",
		"update orders set note = old.status":                               "42P01",
		"update orders set note = 'x' returning old.nosuch":                 "42703",
	} {
		if a, err := sql.Analyze(c, text); !strings.Contains(render(a, err), want) {
			t.Errorf("%s\n%s wants %s", text, render(a, err), want)
		}
	}
	if a, err := sql.Analyze(loaded(t), "update orders set note = 'x' returning old.note"); pgtest.Major() < 18 && !strings.Contains(render(a, err), "42P01") {
		t.Errorf("before 18: %s", render(a, err))
	}
}
