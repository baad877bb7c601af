package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// clients are those that docs/clients.md names, each with a test that has it
// work, and be refused, through a gateway.
var clients = map[string]func(*testing.T){
	"psql": testPsqlCommands, "pgbench": testPgbench, "pg_dump": testDump, "pg_restore": testRestore, "pgx": TestExtended, "lib/pq": testPq,
	"node-postgres": testNodePostgres, "postgres.js": testPostgresJS, "psycopg2": testPsycopg2, "psycopg 3": testPsycopg3, "JDBC": testJDBC, "SQLAlchemy": testSQLAlchemy,
}

// TestClients runs programs as their users write them. .ci/install has what they need.
func TestClients(t *testing.T) {
	for name, run := range clients {
		t.Run(name, run)
	}
}

// TestClientsAreListed holds that docs/clients.md names the clients that are
// tested, and no others.
func TestClientsAreListed(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(line, "| **"); ok {
			name, _, _ = strings.Cut(name, "**")
			listed = append(listed, name)
			if clients[name] == nil {
				t.Errorf("no test has %s", name)
			}
		}
	}
	for name := range clients {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not listed", name)
		}
	}
}

// output runs a program in front of a gateway, and gives all that it printed.
func (g *gateway) output(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	modules, err := filepath.Abs("../../../.cache/node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "DATABASE_URL="+g.url(), "PGOPTIONS=", "PSQL_PAGER=", "PSQLRC=/dev/null")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// hears lists a channel, whose notifications come with what they say then.
func (g *gateway) hears(channel string) {
	g.hearing(channel, &rules{allow: noDelete})
}

func (g *gateway) hearing(channel string, guard *rules) {
	next := generation(guard)
	next.Tasks["x"].Options = &TaskOptions{Introspect: true, Channels: []string{channel}}
	g.Swap(next)
}

// prints holds what a program of testdata/clients prints.
func prints(t *testing.T, want, name string, args ...string) {
	t.Helper()
	g := serve(t, &rules{allow: noDelete})
	g.hears("news")
	got, err := g.output(t, "", name, args...)
	got = strings.ReplaceAll(got, "NOTICE:  good until later\n", "")
	if err != nil || got != want {
		t.Errorf("%v\ngot\n%swant\n%s(.ci/install test has what it needs)", err, got, want)
	}
}

func testNodePostgres(t *testing.T) {
	prints(t, "connected\nrow 3 new\nnamed 3 new\nnamed 4 paid\nupdated 1\nrefused 42501 not in the task | rule 1 of task x | ask\nstill in: 25P02\nback new\nnull true\npool 1,2,3,4,5\ndone\n",
		"node", "testdata/clients/pg.js")
}

func testPostgresJS(t *testing.T) {
	prints(t, "row 3 new\ntypes {\"a\":[1,2],\"n\":true,\"j\":{\"a\":1}}\nupdated 1\nrefused 42501 | not in the task | rule 1 of task x | ask\nback new\ninserted a,b\ncursor 200\ncopied \"1\\n2\\n3\\n\"\npipelined 1,2,3,4,5\nsimple 1,2\nheard hello\n",
		"node", "testdata/clients/postgres.js")
}

func testPsycopg2(t *testing.T) {
	prints(t, "row 3 new\nrefused | 42501 | not in the task | rule 1 of task x | ask\nstill in 25P02\nback new\ncursor 20100\ncopied '1\\tpaid\\n2\\tshipped\\n'\ncopied in 2\ntypes [1, 2] {'a': 1} None True\nserializable\n",
		"/usr/bin/python3", "testdata/clients/with_psycopg2.py")
}

func testSQLAlchemy(t *testing.T) {
	prints(t, "tables customers events events_2026 items orders payments\ncolumns id customer_id status total note created\nkey id\nforeign order_id>orders\nunique customers_email_key\nindexes customers_email_key\nviews open_orders\nreflected 6\nrow 3 new\nupdated 1\ninserted True\nrefused 42501 not in the task\nrefused 42501 who makes or changes tables owns them, and this task's login may own none\n",
		"/usr/bin/python3", "testdata/clients/with_sqlalchemy.py")
}

// testPsqlCommands: what psql does by itself: copies, texts made of results, watching, completion.
func testPsqlCommands(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	file := filepath.Join(t.TempDir(), "out.csv")
	out, _ := g.output(t, `\set ON_ERROR_STOP 1
\copy (select id, status from orders where id < 3 order by id) to `+file+` csv
\copy items (order_id, sku, quantity, price) from stdin
1	z	1	1
\.
select format('select %L', 'made of ' || status) from orders where id = 3 \gexec
select id, status, 1 as n from orders where id < 3 \crosstabview
select 7 as x \gset
select id, status from orders \gdesc
\echo :x
\set FETCH_COUNT 30
select 'last ' || max(id) from orders;
select id from orders where id > 190;
\unset FETCH_COUNT
\d items
\dp orders
\dt+
\ds
\dv
\dx
\df purge
\sv open_orders
`, "psql", "-X", g.url())
	for _, want := range []string{"COPY 2", "COPY 1", "made of new", "| paid | shipped", "\n7\n", "status | text", "last 200", "\"items_pkey\" PRIMARY KEY, btree (id)", "FOREIGN KEY (order_id) REFERENCES orders(id)", "public | orders ", "customers_id_seq", "open_orders", "plpgsql", "purge"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "1,paid\n2,shipped\n" {
		t.Errorf("%q %v", raw, err)
	}
	if out, _ := g.output(t, "select id from orders where id = 3 \\watch 0.1\n", "timeout", "--signal=INT", "5", "psql", "-XAt", g.url()); strings.Count(out, "\n3\n") < 2 {
		t.Errorf("\\watch: %s", out)
	}
}

// testPgbench: every mode, and pipelines. A task that lists it makes its tables, fills
// and vacuums them; to any other that is refused, which says why.
func testPgbench(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if out, err := server.Psql(g.db, `CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)); CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
		CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)); CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
		INSERT INTO pgbench_branches VALUES (1, 0); INSERT INTO pgbench_tellers SELECT i, 1, 0 FROM generate_series(1, 10) i; INSERT INTO pgbench_accounts SELECT i, 1, 0 FROM generate_series(1, 100000) i;
		GRANT ALL ON pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history TO app`); err != nil {
		t.Fatal(out, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe.sql")
	if err := os.WriteFile(pipe, []byte("\\startpipeline\nselect abalance from pgbench_accounts where aid = 1;\nupdate pgbench_tellers set tbalance = 1 where tid = 1;\n\\endpipeline\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, how := range [][]string{{"-M", "simple"}, {"-M", "extended"}, {"-M", "prepared"}, {"-M", "prepared", "-f", pipe}, {"-M", "extended", "-C"}} {
		out, err := g.output(t, "", "/usr/lib/postgresql/15/bin/pgbench", append(how, "-n", "-c", "2", "-t", "5", g.url())...)
		if err != nil || !strings.Contains(out, "actually processed: 10/10") || !strings.Contains(out, "failed transactions: 0 ") {
			t.Errorf("%v: %v\n%s", how, err, out)
		}
	}
	if out, err := g.output(t, "", "/usr/lib/postgresql/15/bin/pgbench", "-i", g.url()); err == nil || !strings.Contains(out, "this task's login may own none") || !strings.Contains(out, "privileged: accepted") {
		t.Errorf("%v\n%s", err, out)
	}
	tables := []string{"public.pgbench_accounts", "public.pgbench_branches", "public.pgbench_history", "public.pgbench_tellers"}
	rules := []policy.Rule{ddl("public.*", "create_table", "drop_table", "alter_table", "vacuum", "analyze")}
	for _, verb := range []string{"select", "insert", "update", "truncate"} {
		rules = append(rules, all(verb, tables...))
	}
	g = migrate(t, policy.Task{Rules: rules})
	for _, how := range [][]string{{"-i"}, {"-i", "-I", "dtGvp"}, {"-i", "-I", "dtgpfv"}, {"-i", "--partitions=2"}, {"-c", "2", "-t", "5"}} {
		if out, err := g.output(t, "", "/usr/lib/postgresql/15/bin/pgbench", append(how, g.url())...); err != nil || strings.Contains(out, "ERROR") {
			t.Errorf("%v: %v\n%s", how, err, out)
		}
	}
}

const dumper = "/usr/lib/postgresql/15/bin/pg_dump"

func testPq(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	g.hears("news")
	db, err := sql.Open("postgres", g.url())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(2)
	var status string
	if err := db.QueryRow("select status from orders where id = $1", 3).Scan(&status); err != nil || status != "new" {
		t.Fatal(status, err)
	}
	var refused *pq.Error
	if _, err := db.Exec("delete from orders where id = $1", 3); !errors.As(err, &refused) || refused.Code != "42501" || refused.Hint != "ask" {
		t.Errorf("%v", err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	in, err := tx.Prepare(pq.CopyIn("items", "order_id", "sku", "quantity", "price"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := in.Exec(1, "pq", i, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.Exec(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow("select count(*) from items where sku = 'pq' and id = any (select id from items where quantity = any ($1))", pq.Array([]int{1, 2, 3})).Scan(&n); err != nil || n != 3 {
		t.Error(n, err)
	}
	l := pq.NewListener(g.url(), time.Second, time.Minute, nil)
	defer l.Close()
	if err := l.Listen("news"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("notify news, 'hello'"); err != nil {
		t.Fatal(err)
	}
	if got := <-l.Notify; got == nil || got.Extra != "hello" {
		t.Error(got)
	}
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := db.ExecContext(ctx, "select pg_sleep(60)"); code(err) == "<nil>" {
		t.Error("not cancelled")
	}
}

func testPsycopg3(t *testing.T) {
	prints(t, "row {'id': 3, 'status': 'new'}\nbinary True\nrefused | 42501 | not in the task | rule 1 of task x | ask\nstill in 25P02\nnote outer\nat 13\npipelined 0 1 2 3 4\nrefused in it 42501\ncursor 20100\n"+
		"copied [('1', 'paid'), ('2', 'shipped')]\ncopied in 3\ncopied in 3\nnot copied 22P02\nmany 0 True 1\nenum State.new\nheard news hello\n",
		"/usr/bin/python3", "testdata/clients/with_psycopg3.py")
}

// testJDBC runs its source with the driver that Debian has.
func testJDBC(t *testing.T) {
	each := "row 4 paid true\nrow 3 new true\nrefused 42501 | not in the task | rule 1 of task x | ask\nat 12\nbatch 10 10\nby and by 20100\nseveral 1 (1) 2\nheard hello\ncopied 2 1,paid;2,shipped;\ncopied in 2\nnot copied 22P02\ncancelled 57014\n"
	prints(t, strings.Repeat(each, 3)+"tables orders\nviews open_orders\ncolumns created customer_id id note status total\nkey id\nforeign orders\nreferred items payments\nindexes customers_email_key customers_pkey\n"+
		"schemas information_schema pg_catalog public\ntypes true\nfunctions purge\nprivileges orders\nkeywords true, 2, true\n", "java", "-cp", "/usr/share/java/postgresql.jar", "testdata/clients/Jdbc.java")
}
