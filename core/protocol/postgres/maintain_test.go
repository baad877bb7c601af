package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

var upkeepVerbs = []string{"analyze", "vacuum", "reindex", "cluster"}

const tended = `SET ROLE owner; CREATE TABLE people (id int PRIMARY KEY, name text, ssn text); CREATE UNIQUE INDEX people_ssn ON people (ssn); CREATE INDEX people_name ON people (name);
	INSERT INTO people VALUES (1, 'Bob', 'S-2'), (2, 'Ada', 'S-1'); CREATE TABLE other (id int); CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM other;`

// TestMaintained: what keeps tables in order is answered as the server answers it,
// in transactions and among others too.
func TestMaintained(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", append(upkeepVerbs, tableVerbs...)...), ddl("pg_temp.*", append(upkeepVerbs, tableVerbs...)...), all("select", "public.people", "public.other", "public.sums")}})
	direct := shop(t)
	for _, db := range []string{g.db, direct} {
		g.askOf(t, db, tended)
	}
	for _, texts := range [][]string{
		{"analyze people", "analyze people (id, name), other", "analyze (skip_locked) people", "vacuum people", "vacuum (analyze, freeze) people, other", "vacuum full people", "select id from people"},
		{"reindex table people", "reindex index people_name", "reindex (verbose) index concurrently people_name", "reindex table concurrently people"},
		{"cluster other", "cluster people using people_name", "select id from people", "cluster people", "cluster people_pkey on people", "cluster people", "select id from people", "refresh materialized view sums", "vacuum sums"},
		{"begin", "analyze people", "reindex table people", "cluster people using people_pkey", "commit"},
		{"begin", "vacuum people", "rollback"},
		{"begin", "reindex table concurrently people", "select 1", "rollback"},
		{"analyze people; select 1; analyze other"}, {"select 1; vacuum people"}, {"vacuum nothing", "analyze people (nothing)", "reindex index nothing", "cluster people using nothing"},
		{"create table fresh (id int primary key); analyze fresh; reindex table fresh; select 1 from fresh", "vacuum fresh", "drop table fresh"},
		{"create table fresh (id int); vacuum fresh"},
		{"create temp table a1 (id int primary key)", "analyze a1", "vacuum a1", "vacuum full a1", "reindex table a1", "cluster a1 using a1_pkey", "cluster a1", "drop table a1"},
	} {
		out := [][]string{g.says(t, texts, "owner", direct), g.says(t, texts, "owner", "")}
		if !slices.Equal(out[0], out[1]) {
			t.Errorf("%q:\n the server: %q\nthe gateway: %q", texts, out[0], out[1])
		}
	}
	// By the extended protocol too, where VACUUM is a group of its own.
	c := g.connect(t)
	for _, text := range []string{"vacuum people", "analyze people", "reindex table people", "cluster people using people_pkey"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMaintenanceIsJudged: each verb is listed by itself; none of them sorts rows by
// what is masked, nor says what it has seen.
func TestMaintenanceIsJudged(t *testing.T) {
	task := policy.Task{Masks: append(masks(abi.MaskNull, "", "people.ssn"), masks(abi.MaskNull, "", "pairs.ssn")...), Rules: []policy.Rule{
		ddl("public.people", append(upkeepVerbs, "alter_table")...), ddl("public.other", "analyze"), ddl("public.pairs", upkeepVerbs...), ddl("public.doubles", "reindex"),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn"}},
	}}
	g := migrate(t, task)
	g.askOf(t, g.db, tended+`CREATE TABLE pairs (ssn text); CREATE UNIQUE INDEX pairs_ssn ON pairs (ssn); CREATE INDEX pairs_other ON pairs (ssn); CREATE TABLE doubles (v text); CREATE INDEX doubles_v ON doubles (v);
		INSERT INTO doubles VALUES ('S-9'), ('S-9'); RESET ROLE; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pairs_ssn'::regclass; UPDATE pg_index SET indisunique = true WHERE indexrelid = 'doubles_v'::regclass`)
	for text, code := range map[string]string{
		"analyze verbose people, other": "", "vacuum (verbose) people": "", "reindex table people": "", "reindex index people_ssn": "", "cluster people using people_name": "", "vacuum full people": "",
		"vacuum other": "42501", "vacuum (analyze) other": "42501", "reindex table other": "42501", "analyze other, doubles": "42501", "vacuum": "42501", "analyze": "42501", "cluster": "42501", "reindex schema public": "42501",
		"cluster people using people_ssn": "42501", "cluster people": "42501", "alter table people cluster on people_ssn": "42501", "alter table people cluster on people_pkey": "", // in whose order rows would lie
		"vacuum pairs": "", "analyze pairs": "", "reindex index pairs_other": "",
		"reindex table pairs": "42501", "reindex index pairs_ssn": "42501", "vacuum full pairs": "42501", // whether rows are unique that need not be
		"reindex table doubles": "23505", // the server puts a row into that message
	} {
		out := g.psql(t, text, "-v", "VERBOSITY=verbose")
		if said := strings.Contains(out, "ERROR"); said != (code != "") || !strings.Contains(out, code) || strings.Contains(out, "S-") || strings.Contains(out, "live row") || strings.Contains(out, "DETAIL") && code != "42501" {
			t.Errorf("%s:\n%s", text, out)
		}
	}
}

// TestMaintainers: vacuumdb, reindexdb and clusterdb for tables that are named.
func TestMaintainers(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", upkeepVerbs...), all("select", "public.sorted")}})
	g.askOf(t, g.db, tended+"CREATE TABLE sorted (id int PRIMARY KEY); CLUSTER sorted USING sorted_pkey")
	for _, args := range [][]string{{"vacuumdb", "-t", "people", "-t", "other"}, {"vacuumdb", "-z", "-f", "-t", "people"}, {"vacuumdb", "-Z", "-t", "people(id)"}, {"reindexdb", "-t", "people", "-i", "people_ssn"}, {"clusterdb", "-t", "sorted"}} {
		if out, err := g.output(t, "", "/usr/lib/postgresql/15/bin/"+args[0], append(args[1:], "-d", g.url())...); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := g.output(t, "", "/usr/lib/postgresql/15/bin/vacuumdb", "-d", g.url()); err == nil || !strings.Contains(out, "the server's own") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMaintainedByOthers: who does not own a table is told by the server's warning,
// in the gateway's words; from 17 on MAINTAIN is enough.
func TestMaintainedByOthers(t *testing.T) {
	task := policy.Task{Rules: []policy.Rule{ddl("public.*", upkeepVerbs...), all("select", "public.people")}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.options(guard, TaskOptions{Introspect: true}, ResourceOptions{}, "app")
	g.askOf(t, g.db, tended)
	for text, want := range map[string]string{"vacuum people": "left out a table", "analyze people": "left out a table", "vacuum full people": "left out a table", "reindex table people": "42501", "cluster people using people_pkey": "42501"} {
		if out := g.psql(t, text, "-v", "VERBOSITY=verbose"); !strings.Contains(out, want) {
			t.Errorf("%s:\n%s", text, out)
		}
	}
	if pgtest.Major() < 17 {
		return
	}
	g.askOf(t, g.db, "GRANT MAINTAIN ON people TO app")
	for _, text := range []string{"vacuum people", "analyze people", "vacuum full people", "reindex table people", "cluster people using people_pkey"} {
		if out := g.psql(t, text); strings.Contains(out, "WARNING") || strings.Contains(out, "ERROR") {
			t.Errorf("%s:\n%s", text, out)
		}
	}
}

// TestMaintenanceIsHeld: VACUUM waits for people as anything else does.
func TestMaintenanceIsHeld(t *testing.T) {
	g, p := review(t, &holds{holds: func(c *abi.Command) bool {
		return slices.ContainsFunc(c.Statement.Operations, func(o abi.Operation) bool { return o.Verb == "vacuum" })
	}})
	inOrder(t, g.asPsql(t, "vacuum items;\nanalyze items;\n", func(*psql) { p.approve(p.next(t)) }), "NOTICE:  waiting for approval: request ", "VACUUM", "ANALYZE")
}
