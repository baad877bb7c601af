package sql_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
)

var (
	start  sync.Once
	server *pgtest.Server
	shop   *schema.Schema
	failed error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}

// loaded gives the schema of the shop, read from a real server.
func loaded(t testing.TB) *sql.Context {
	t.Helper()
	start.Do(func() {
		if server, failed = pgtest.Start(pgtest.Major()); failed != nil {
			return
		}
		if failed = server.Database("shop", pgtest.Shop); failed != nil {
			return
		}
		var conn *pgx.Conn
		if conn, failed = pgx.Connect(context.Background(), server.URL("app", "shop")); failed != nil {
			return
		}
		defer conn.Close(context.Background())
		shop, failed = schema.Load(context.Background(), conn)
	})
	if failed != nil {
		t.Fatal(failed)
	}
	g, err := parse.ForServer(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	return &sql.Context{Schema: shop, Grammar: g, Introspect: true}
}

// render writes an analysis as the corpus has it: one operation a line.
func render(a *sql.Analysis, err error) string {
	var e *sql.Error
	if errors.As(err, &e) {
		return "error " + e.Code + " " + e.Message + "\n"
	}
	var b strings.Builder
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		b.WriteString(o.String())
		if o.Effect.Writes() {
			b.WriteString(" !")
		}
		b.WriteByte('\n')
	}
	if slices.ContainsFunc(a.Parts, func(p sql.Part) bool { return p.Temporary }) {
		b.WriteString("temporary\n")
	}
	if a.Statement.Incomplete != "" {
		b.WriteString("incomplete: " + a.Statement.Incomplete + "\n")
	}
	return b.String()
}

// TestCorpus holds each text of testdata/analysis.txt against what is written
// under it: it hides no write and invents none. UPDATE_CORPUS=1 rewrites it,
// for a person to read the difference.
func TestCorpus(t *testing.T) { corpus(t, loaded(t), "testdata/analysis.txt") }

func corpus(t *testing.T, c *sql.Context, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		text, want, _ := strings.Cut(block, "\n")
		if want != "" {
			want += "\n"
		}
		text = strings.TrimPrefix(text, "> ")
		a, err := sql.Analyze(c, text)
		if err == nil {
			a, err = a.Resolve(sql.NoNames{})
		}
		got := render(a, err)
		if got != want && os.Getenv("UPDATE_CORPUS") == "" {
			t.Errorf("%s\n got:\n%s want:\n%s", text, got, want)
		}
		out.WriteString("> " + text + "\n" + got + "\n")
		for _, major := range []int{17, 18} { // and what the newer grammars make of it
			later := *c
			g, e := parse.ForServer(major)
			if e != nil {
				t.Fatal(e)
			}
			later.Grammar = g
			b, err := sql.Analyze(&later, text)
			if err == nil {
				b, err = b.Resolve(sql.NoNames{})
			}
			if again := render(b, err); again != got {
				t.Errorf("%s\n with the grammar of %d:\n%s", text, major, again)
			}
		}
		if err == nil && a.Statement.Incomplete == "" { // what is forwarded means the same
			b, err := sql.Analyze(c, a.Statement.Canonical)
			if err == nil {
				b, err = b.Resolve(sql.NoNames{})
			}
			if again := render(b, err); again != got {
				t.Errorf("%s\n forwarded as %s\n means:\n%s", text, a.Statement.Canonical, again)
			}
		}
	}
	if os.Getenv("UPDATE_CORPUS") != "" {
		if err := os.WriteFile(path, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// names is a session that has prepared a text and opened a cursor.
type names map[string]*sql.Analysis

func (n names) Prepared(name string) (*sql.Analysis, error) { return n[name], nil }
func (n names) Cursor(name string) (*sql.Analysis, error)   { return n["cursor "+name], nil }

// TestPW28Names: what a name stands for is what is judged.
func TestPW28Names(t *testing.T) {
	c := loaded(t)
	analyze := func(text string) *sql.Analysis {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(text, err)
		}
		return a
	}
	known := names{"p": analyze("delete from orders where id = $1"), "q": analyze("select card from customers"), "u": analyze("begin"), "e": analyze(""), "cursor c": analyze("select email from customers")}
	for text, want := range map[string]string{
		"execute p(1)":                                                  "delete public.orders where:key !\nselect public.orders(id)\ndelete public.items via fk public.items.items_order_id_fkey !\ntest public.payments(order_id) via fk public.payments.payments_order_id_fkey\n",
		"execute q; execute q":                                          "select public.customers(card)\nselect public.customers(card)\n",
		"fetch all from c; move 1 from c":                               "select public.customers(email)\nselect public.customers(email)\n",
		"deallocate q; execute q":                                       `error 26000 prepared statement "q" does not exist` + "\n",
		"deallocate all; execute q":                                     `error 26000 prepared statement "q" does not exist` + "\n",
		"prepare q as select 1":                                         `error 42P05 prepared statement "q" already exists` + "\n",
		"prepare x as select id from orders; execute x":                 "select public.orders(id)\nselect public.orders(id)\n",
		"deallocate all; prepare q as select id from orders; execute q": "deallocate\nselect public.orders(id)\nselect public.orders(id)\n",
		"execute nope":                                                  `error 26000 prepared statement "nope" does not exist` + "\n",
		"execute u":                                                     `error 0A000 EXECUTE of "u", which is no query and changes no rows` + "\n",
		"execute e":                                                     `error 0A000 EXECUTE of "e", which is no query and changes no rows` + "\n",
		"prepare x as select 1; deallocate all; execute x":              `error 26000 prepared statement "x" does not exist` + "\n",
		"declare d cursor for select 1; close all; fetch d":             `error 34000 cursor "d" does not exist` + "\n",
		"close all; fetch c":                                            `error 34000 cursor "c" does not exist` + "\n",
		"deallocate q":                                                  "deallocate\n", "close c": "close\n",
		"declare c cursor for select 1": `error 42P03 cursor "c" already exists` + "\n",
		"close c; fetch c":              `error 34000 cursor "c" does not exist` + "\n",
		"close all; declare c cursor for select id from orders; fetch c": "close\nselect public.orders(id)\nselect public.orders(id)\n",
		"explain execute p(1)":                           "delete public.orders where:key explain !\nselect public.orders(id) explain\ndelete public.items explain via fk public.items.items_order_id_fkey !\ntest public.payments(order_id) explain via fk public.payments.payments_order_id_fkey\n",
		"explain analyze execute p(1)":                   "explain analyze\ndelete public.orders where:key !\nselect public.orders(id)\ndelete public.items via fk public.items.items_order_id_fkey !\ntest public.payments(order_id) via fk public.payments.payments_order_id_fkey\n",
		"explain (verbose) execute q":                    "select public.customers(card) explain\n",
		"explain execute nope":                           `error 26000 prepared statement "nope" does not exist` + "\n",
		"explain execute u":                              `error 0A000 EXECUTE of "u", which is no query and changes no rows` + "\n",
		"explain declare d cursor for select 1; fetch d": `error 34000 cursor "d" does not exist` + "\n",
		"fetch p": `error 34000 cursor "p" does not exist` + "\n",
	} {
		raw := analyze(text)
		if raw.Statement.Incomplete == "" {
			t.Errorf("%s can run without its names looked up", text)
		}
		a, err := raw.Resolve(known)
		if got := render(a, err); got != want {
			t.Errorf("%s:\n got %s want %s", text, got, want)
		}
	}
	for arg, want := range map[string]string{"1": "1", "(1)": "1", "-1::int": "-1", "int '1'": "1", "cast('1' as int)": "1", "'a'::text": "a", "+2.5": "2.5", "true": "true", "null": "", "((-(3)))": "-3",
		"array[1, null, 'a\"b\\c']": `{"1",NULL,"a\"b\\c"}`, "array[[1], [2]]::int[]": `{{"1"},{"2"}}`, "array[array['x']]": `{{"x"}}`, "array[]::int[]": "{}",
		"now()": "no", "1 + 1": "no", "(select 1)": "no", "array[now()]": "no", "array(select 1)": "no", "-array[1]": "no", "- - 1": "no"} {
		a := analyze("execute p(" + arg + ")")
		got := "no"
		if len(a.Parts) == 1 {
			got = string(a.Parts[0].Args[0].Value)
		}
		if got != want {
			t.Errorf("%s is taken for %s", arg, got)
		}
	}
	a, err := analyze("execute p(-2)").Resolve(known)
	if err != nil || len(a.Parts[0].Args) != 1 || string(a.Parts[0].Args[0].Value) != "-2" || !a.Parts[0].Writes || a.Parts[0].Rows {
		t.Errorf("%+v %v", a.Parts, err)
	}
	if a, err = analyze("explain execute q").Resolve(known); err != nil || len(a.Statement.Outputs) != 0 {
		t.Errorf("%+v %v", a.Statement.Outputs, err)
	}
	// Behind a path that has moved a name stands for a text that was read so.
	moved := database(t, "moved_names", `CREATE SCHEMA side; GRANT USAGE ON SCHEMA side TO app; CREATE FUNCTION side.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; CREATE DOMAIN side.upper AS text CHECK (side.lower(VALUE) <> '')`)
	moved.Anywhere = true
	if a, err := sql.Analyze(moved, "select upper('x')"); !strings.Contains(render(a, err), "call side.lower") {
		t.Error(render(a, err))
	}
	if a, err = sql.Analyze(moved, "prepare p as select lower('x'); execute p"); err == nil {
		a, err = a.Resolve(sql.NoNames{})
	}
	if got := render(a, err); strings.Count(got, "call side.lower") != 2 {
		t.Error(got)
	}
}

// TestPW25SearchPath: a path of the session's own changes which table a name
// is, and makes every schema's functions candidates.
func TestPW25SearchPath(t *testing.T) {
	c := loaded(t)
	for text, want := range map[string]string{
		"select id from orders":                                   "select public.orders(id)\n",
		"set search_path = app; select id from orders":            `error 42P01 relation "orders" does not exist` + "\n",
		"set search_path = app, public; select id from orders":    "set search_path = app, public\nselect public.orders(id)\n",
		"set search_path = app; reset all; select id from orders": "set search_path = app\nreset all\nselect public.orders(id)\n",
	} {
		if a, err := sql.Analyze(c, text); render(a, err) != want {
			t.Errorf("%s:\n got %s want %s", text, render(a, err), want)
		}
	}
	if a, err := sql.Analyze(c, "set search_path = "+strings.Repeat("public, ", 600)+"public"); !strings.Contains(render(a, err), "error 54000") {
		t.Errorf("a long path: %s", render(a, err))
	}
	// An earlier text has moved the path: where it stands behind a COMMIT, the server knows.
	moved := *c
	moved.Anywhere = true
	for text, sure := range map[string]bool{"commit; update orders set status = 'x' where id = 1": false, "commit; begin": true, "update orders set status = 'x' where id = 1": true} {
		if a, err := sql.Analyze(&moved, text); err != nil || (a.Statement.Incomplete == "") != sure {
			t.Errorf("%s: %s", text, render(a, err))
		}
	}
	own := *c
	own.SearchPath = []string{}
	if a, err := sql.Analyze(&own, "select id from orders"); render(a, err) != `error 42P01 relation "orders" does not exist`+"\n" {
		t.Errorf("an empty path: %s", render(a, err))
	}
}

func BenchmarkAnalyze(b *testing.B) {
	c := loaded(b)
	for _, text := range []string{"SELECT 1", "SELECT o.id, o.status, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = $1 ORDER BY o.created DESC LIMIT 10"} {
		b.Run(strings.Fields(text)[1], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sql.Analyze(c, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzAnalyze(f *testing.F) {
	c := loaded(f)
	f.Add("select * from orders")
	f.Add("with d as (delete from orders returning *) select * from d")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := sql.Analyze(c, text); err == nil && strings.HasPrefix(a.Statement.Incomplete, "the analysis failed") {
			t.Fatal(a.Statement.Incomplete)
		}
	})
}

// database makes a database of its own and gives its schema, as app sees it.
func database(t testing.TB, name, text string) *sql.Context {
	t.Helper()
	c := *loaded(t)
	if _, err := server.Psql("postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	if out, err := server.Psql(name, text); err != nil {
		t.Fatal(err, out)
	}
	conn, err := pgx.Connect(context.Background(), server.URL("app", name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if c.Schema, err = schema.Load(context.Background(), conn); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestDefaultWord: the word DEFAULT runs a column's default, whoever lists the
// column.
func TestDefaultWord(t *testing.T) {
	c := database(t, "defaults", `CREATE FUNCTION boom() RETURNS text LANGUAGE sql AS 'select 1::text';
		CREATE TABLE o (id int PRIMARY KEY, v text, note text DEFAULT boom()); GRANT ALL ON o TO app`)
	for text, runs := range map[string]bool{
		"insert into o values (1, 'x', 'y')":                                               false,
		"insert into o (id) values (1)":                                                    true,
		"insert into o default values":                                                     true,
		"insert into o values (1, 'x', default)":                                           true,
		"insert into o values (1, 'x', 'y'), (2, default, 'y')":                            true, // which one is not looked at
		"update o set v = 'x'":                                                             false,
		"update o set note = default":                                                      true,
		"update o set (v, note) = ('x', default)":                                          true,
		"insert into o values (1, 'x', 'y') on conflict (id) do update set note = default": true,
		"merge into o using (select 1 as i) s on s.i = o.id when matched then update set note = default":           true,
		"merge into o using (select 1 as i) s on s.i = o.id when not matched then insert values (1, 'x', default)": true,
		"merge into o using (select 1 as i) s on s.i = o.id when not matched then insert values (1, 'x', 'y')":     false,
	} {
		a, err := sql.Analyze(c, text)
		if got := strings.Contains(render(a, err), "call public.boom"); err != nil || got != runs || a.Statement.Incomplete != "" {
			t.Errorf("%s\n%s", text, render(a, err))
		}
	}
	// Of the server's own functions a default may call nextval, and that is the server's.
	c = database(t, "default_calls", `CREATE TABLE large (id serial, o oid DEFAULT lo_create(0)); CREATE FUNCTION nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
		CREATE TABLE next (id serial, v bigint DEFAULT nextval('x'::text)); GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	for text, want := range map[string]string{"insert into large default values": "call pg_catalog.lo_create", "insert into next default values": "call public.nextval", "insert into next values (default, 1)": "call public.nextval", "insert into large (o) values (1)": "insert public.large(o) !\n"} {
		if a, err := sql.Analyze(c, text); !strings.Contains(render(a, err), want) || strings.Contains(render(a, err), "call pg_catalog.nextval") {
			t.Errorf("%s\n%s wants %s", text, render(a, err), want)
		}
	}
}

var hashes = regexp.MustCompile(" = [0-9a-f]{64}")

// TestExtensions: what an accepted extension brings is used as the server's
// own, what is not immutable in it is not, and what users add to its types is
// an operation of its own.
func TestExtensions(t *testing.T) {
	c := database(t, "extended", `CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION tablefunc;
		CREATE DOMAIN label AS hstore;
		CREATE TABLE people (id int PRIMARY KEY, email citext, tags hstore, more label);
		CREATE FUNCTION mine(hstore, hstore) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR <<>> (LEFTARG = hstore, RIGHTARG = hstore, FUNCTION = mine);
		GRANT SELECT ON people TO app`)
	for text, want := range map[string][2]string{ // without any, with both
		"select email, tags, more from people":               {"select public.people(email, tags, more)\n", ""},
		"select id from people where email = 'x'":            {"select public.people\nincomplete: computing with email, whose type is made by users\n", "select public.people(email, id) where\n"},
		"select lower(email::text), 'x'::citext from people": {"select public.people\nincomplete: computing with email, whose type is made by users\n", "select public.people(email)\n"},
		"select tags -> 'a' from people order by email":      {"select public.people\nincomplete: computing with tags, whose type is made by users\n", "select public.people(tags, email)\n"},
		"select tags <<>> tags from people":                  {"select public.people\nincomplete: computing with tags, whose type is made by users\n", "select public.people(tags)\ncall public.<<>> !\n"},
		"select more -> 'a' from people":                     {"select public.people\nincomplete: computing with more, whose type is made by users\n", "select public.people(more)\n"},
		"select crosstab('select 1')":                        {"call public.crosstab !\n", ""},
	} {
		for i, extensions := range [][]string{nil, {"citext", "hstore", "tablefunc"}} {
			w := want[i]
			if w == "" {
				w = want[0]
			}
			c.Extensions = extensions
			a, err := sql.Analyze(c, text)
			if got := hashes.ReplaceAllString(render(a, err), ""); got != w {
				t.Errorf("%v: %s\n got %s want %s", extensions, text, got, w)
			}
		}
	}
}
