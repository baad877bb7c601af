package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

//go:embed testdata/dumped.sql
var dumped string

// as logs in at the server as a role of its own.
type as struct {
	dialer
	user string
}

func (d as) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := d.dialer.Dial(ctx, r, login)
	up.User = d.user
	return up, err
}

// made gives a database of its own.
func made(t *testing.T, text string) string {
	t.Helper()
	shop(t) // starts the server
	databases.Lock()
	databases.n++
	name := fmt.Sprintf("made%d", databases.n)
	databases.Unlock()
	if err := server.Database(name, text); err != nil {
		t.Fatal(err)
	}
	return name
}

// inFront gives a gateway for a task in front of a database, logged in as a role.
func inFront(t *testing.T, database, user string, task policy.Task, options TaskOptions) *gateway {
	t.Helper()
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.db, g.Dialer = database, as{dialer{database: database}, user}
	g.options(guard, options, ResourceOptions{Privileged: map[string]bool{"": user == "owner"}}, database)
	return g
}

// defining are the options of a task that is told of definitions.
func defining(task *policy.Task) TaskOptions {
	o := TaskOptions{Introspect: true}
	for _, m := range task.Masks {
		o.Masked = append(o.Masked, abi.Source{Relation: m.Relation, Column: m.Column})
	}
	is := func(relation []string) func(name string) bool {
		return func(name string) bool { return name == strings.Join(relation, ".") }
	}
	o.Definitions = Definitions(
		func(relation []string, _ string) bool {
			return slices.ContainsFunc(task.Rules, func(r policy.Rule) bool { return slices.ContainsFunc(r.Tables, is(relation)) })
		},
		func(relation []string, column string) bool {
			return slices.ContainsFunc(o.Masked, func(m abi.Source) bool { return slices.Equal(m.Relation, relation) && m.Column == column })
		})
	return o
}

// written is what a program wrote, without the gateway's greeting.
func (g *gateway) written(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := g.output(t, "", name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.ReplaceAll(out, "NOTICE:  good until later\n", "")
}

// equal holds two dumps against each other.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("%s: from line %d on\n%s\ninstead of\n%s", what, i, strings.Join(a[min(i, len(a)):min(i+6, len(a))], "\n"), strings.Join(b[min(i, len(b)):min(i+6, len(b))], "\n"))
		}
	}
}

const restorer = "/usr/lib/postgresql/15/bin/pg_restore"

// testDump: pg_dump writes the same through a task that is told of definitions as
// without the gateway; cells that the task masks are masked, and what it does not
// list is refused with what to do. A task that is not told is refused.
func testDump(t *testing.T) {
	if pgtest.Major() > 15 { // pg_dump refuses a newer server by itself
		return
	}
	g := serve(t, &rules{allow: noDelete})
	if out, err := g.output(t, "", dumper, "--data-only", "--table=orders", g.url()); err == nil || !strings.Contains(out, "not in the task") || !strings.Contains(out, "HINT:  ask") {
		t.Errorf("%v\n%s", err, out)
	}
	db := made(t, "RESET ROLE;"+dumped)
	task := policy.Task{Rules: []policy.Rule{all("select", dumpedTables...)}}
	g = inFront(t, db, "app", task, defining(&task))
	direct := server.URL("app", db)
	for _, args := range [][]string{nil, {"--schema-only"}, {"--data-only", "-t", "store.people"}, {"--inserts", "-n", "kept"}, {"--no-owner", "--no-acl", "--snapshot=nope"}} {
		args = append([]string{"--restrict-key=x"}, args...)
		if slices.Contains(args, "--snapshot=nope") {
			if out, err := g.output(t, "", dumper, append(args, g.url())...); err == nil || !strings.Contains(out, "SNAPSHOT") {
				t.Errorf("%v\n%s", err, out)
			}
			continue
		}
		equal(t, fmt.Sprint(args), g.written(t, dumper, append(args, g.url())...), g.written(t, dumper, append(args, direct)...))
	}
	// Masked, and in part not listed.
	task.Masks = append(masks(abi.MaskFixed, "***", "people.ssn"), masks(abi.MaskNull, "", "logs.at")...)
	for i := range task.Masks {
		task.Masks[i].Relation[0] = "store"
	}
	task.Rules = []policy.Rule{all("select", slices.DeleteFunc(slices.Clone(dumpedTables), func(s string) bool { return s == "kept.rows" })...)}
	g = inFront(t, db, "app", task, defining(&task))
	out := g.written(t, dumper, "-n", "store", g.url())
	if strings.Contains(out, "SSN-") || strings.Count(out, "\t***\t") != 300 || strings.Contains(out, "2026-05-05") || strings.Contains(out, "'2027-01-01'") || !strings.Contains(out, "CREATE VIEW store.high") {
		t.Errorf("a mask:\n%s", out)
	}
	for _, args := range [][]string{nil, {"-t", "kept.rows"}} {
		out, err := g.output(t, "", dumper, append(args, g.url())...)
		if err == nil || !strings.Contains(out, "kept.rows is not in this task") || !strings.Contains(out, "-T kept.rows") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out := g.written(t, dumper, "-T", "kept.rows", g.url()); !strings.Contains(out, "CREATE AGGREGATE kept.total") || strings.Contains(out, "CREATE TABLE kept.rows") {
		t.Errorf("without a table:\n%s", out)
	}
}

var dumpedTables = []string{"store.teams", "store.people", "store.counted", "store.logs", "store.logs_2026", "store.logs_rest", "store.teams_id_seq", "store.people_id_seq", "store.alone", "kept.rows"}

// testRestore: rows come in by a task with rules for them; a whole dump, plain by
// psql and custom by pg_restore, by one that may make tables, and is then what it
// was. What no task may make is refused, and the rest goes on.
func testRestore(t *testing.T) {
	if pgtest.Major() > 15 {
		return
	}
	call := policy.Rule{At: "x.yaml:3", Verbs: []string{"call"}, Functions: []string{"pg_catalog.setval"}}
	db := made(t, "RESET ROLE;"+dumped)
	task := policy.Task{Rules: []policy.Rule{all("select", dumpedTables...)}}
	from := inFront(t, db, "app", task, defining(&task))
	archive, plain := filepath.Join(t.TempDir(), "dump"), filepath.Join(t.TempDir(), "dump.sql")
	from.written(t, dumper, "--format=custom", "--no-owner", "--no-acl", "-n", "store", "--file="+archive, from.url())
	from.written(t, dumper, "--no-owner", "--no-acl", "-n", "store", "--file="+plain, from.url())
	want := from.written(t, dumper, "--restrict-key=x", "-n", "store", "--no-owner", "--no-acl", server.URL("postgres", db))
	for name, run := range map[string]func(g *gateway) (string, error){
		"psql": func(g *gateway) (string, error) {
			return g.output(t, "", "psql", "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f", plain, g.url())
		},
		"pg_restore": func(g *gateway) (string, error) {
			return g.output(t, "", restorer, "--no-owner", "--no-acl", "--dbname="+g.url(), archive)
		},
	} {
		rules := []policy.Rule{ddl("store.*", tableVerbs...), ddl("store", "create_schema"), ddl("store.twice", "create_function"), call}
		for _, verb := range []string{"select", "insert"} {
			rules = append(rules, all(verb, dumpedTables...))
		}
		g := inFront(t, made(t, "SELECT 1;"), "owner", policy.Task{Rules: rules}, TaskOptions{Introspect: true})
		out, err := run(g)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		equal(t, name, from.written(t, dumper, "--restrict-key=x", "-n", "store", "--no-owner", "--no-acl", server.URL("postgres", g.db)), want)
	}
	// The rows alone.
	g := serve(t, &rules{allow: noDelete})
	count := func() string {
		out, err := server.Psql(g.db, "select count(*), sum(quantity), (select count(*) from items where id > 100000) from items")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	was := count()
	g.written(t, dumper, "--data-only", "--format=custom", "--table=items", "--file="+archive, server.URL("postgres", g.db))
	if out, err := server.Psql(g.db, "truncate items"); err != nil {
		t.Fatal(out, err)
	}
	out, err := g.output(t, "", restorer, "--data-only", "--dbname="+g.url(), archive)
	if got := count(); got != was {
		t.Errorf("%s, not %s: %v\n%s", got, was, err, out)
	}
	if err == nil || !strings.Contains(out, "setval") || !strings.Contains(out, "errors ignored on restore: 1") { // what numbers come next no rule has listed
		t.Errorf("%v\n%s", err, out)
	}
}
