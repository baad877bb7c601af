package main

import (
	"os"
	"strings"
	"testing"
)

// TestPM11PM12PM14PM15PM17PM24PM25PM32Around takes the ways around a column that
// is masked by HASH: what plans, statistics and other sessions show, sleeping,
// copies under another name, rows added to it, large objects, and guesses that
// are hashed beside it. What passes shows no value; the rest is refused.
func TestPM11PM12PM14PM15PM17PM24PM25PM32Around(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../core/sql/testdata/pg_bypass_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	hashed := strings.NewReplacer(`users.ssn, with: fixed("masked")`, "users.ssn, with: hash", "[id, name, email, ssn]", "[id, name, email, ssn, ctid, xmin, tableoid]", "mask:\n", `
  - {verbs: [insert, update, delete], tables: [public.users, public.users_eu], columns: [id, name, email]}
  - ddl: [{verbs: [create_table, create_view, alter_table], in: [public.*]}]
mask:
`).Replace(bypassTask)
	w := newBypassWorld(t, string(schema), hashed)
	guess := "guess-0815"
	for _, c := range []struct {
		text   string
		passes bool
	}{
		// PM11: plans print conditions and, with ANALYZE, run.
		{"EXPLAIN SELECT id, name FROM users", true},
		{"EXPLAIN (VERBOSE, GENERIC_PLAN off) SELECT id, ssn FROM users", false},
		{"EXPLAIN SELECT id FROM users WHERE ssn > '5'", false},
		{"EXPLAIN (ANALYZE) SELECT id FROM users WHERE ssn = '" + guess + "'", false},
		{"LOAD 'auto_explain'", false},
		{"SET auto_explain.log_min_duration = 0", false},
		{"SET debug_print_plan = on", false},
		// PM12: statistics, and what other sessions ask.
		{"SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'users'", false},
		{"SELECT stavalues1 FROM pg_statistic", false},
		{"SELECT query FROM pg_stat_activity", false},
		{"SELECT * FROM pg_stat_get_activity(NULL)", false},
		{"SELECT statement FROM pg_prepared_statements", false},
		{"SELECT statement FROM pg_cursors", true}, // NULL, also of one's own
		{"SELECT * FROM pg_locks", false},
		{"SELECT query FROM pg_stat_statements", false},
		{"SELECT n_live_tup FROM pg_stat_user_tables", false},
		{"SELECT column_name FROM information_schema.columns WHERE table_name = 'users'", true},
		{"SELECT column_default FROM information_schema.columns WHERE table_name = 'audit'", true},
		// PM14: what takes long for a value.
		{"SELECT pg_sleep(CASE WHEN ssn > '5' THEN 1 ELSE 0 END) FROM users", false},
		{"SELECT id FROM users, pg_sleep(0.01) WHERE left(ssn, 1) = '5'", false},
		{"SELECT count(*) FROM generate_series(1, (SELECT length(ssn) FROM users WHERE id = 1))", false},
		// PM15: copies under a name that nobody masks.
		{"CREATE TABLE mine AS SELECT id, ssn FROM users", false},
		{"CREATE TEMP TABLE mine AS SELECT id, ssn FROM users", false},
		{"SELECT id, ssn INTO mine FROM users", false},
		{"CREATE MATERIALIZED VIEW mine AS SELECT id, ssn FROM users", false},
		{"ALTER TABLE users RENAME COLUMN ssn TO free", false},
		{"ALTER TABLE users RENAME TO free", false},
		{"ALTER TABLE users ALTER COLUMN name SET DEFAULT (SELECT ssn FROM users)", false},
		{"ALTER TABLE users ADD COLUMN twice text GENERATED ALWAYS AS (ssn || ssn) STORED", false},
		{"INSERT INTO notes (user_id, body) SELECT id, ssn FROM users", false},
		{"INSERT INTO notes (user_id, body) VALUES (1, (SELECT ssn FROM users WHERE id = 1))", false},
		{"UPDATE payments SET card = (SELECT ssn FROM users WHERE id = 1) WHERE id = 1", false},
		{"WITH r AS (DELETE FROM users WHERE id = 5 RETURNING ssn) INSERT INTO notes (user_id, body) SELECT 1, ssn FROM r", false},
		{"MERGE INTO notes USING users ON notes.id = users.id WHEN NOT MATCHED THEN INSERT (user_id, body) VALUES (users.id, users.ssn)", false},
		// PM17: a row of one's own in the place of a header; PM32: or of a guess.
		{"SELECT 'ssn' UNION ALL SELECT ssn FROM users", false},
		{"SELECT ssn FROM users UNION ALL SELECT '" + guess + "'", false},
		{"SELECT ssn FROM users UNION SELECT '" + guess + "'", false},
		{"SELECT coalesce(ssn, '" + guess + "') FROM users", false},
		{"SELECT CASE WHEN id = 1 THEN ssn ELSE '" + guess + "' END FROM users", false},
		{"SELECT x.v FROM (VALUES ('" + guess + "')) x(v) UNION ALL SELECT ssn FROM users", false},
		{"INSERT INTO users (id, name, ssn) VALUES (100, 'x', '" + guess + "') RETURNING ssn", false},
		{"UPDATE users SET ssn = '" + guess + "' WHERE id = 1 RETURNING ssn", false},
		{"BEGIN; INSERT INTO users (id, name, ssn) VALUES (100, 'x', '" + guess + "'); SELECT ssn FROM users WHERE id = 100; ROLLBACK", false},
		{"INSERT INTO users_eu (id, name, ssn) VALUES (100, 'x', '" + guess + "') RETURNING ssn", false},
		// PM24: values in large objects, and as bytes.
		{"SELECT lo_from_bytea(0, ssn::bytea) FROM users", false},
		{"SELECT lo_get(1)", false},
		{"SELECT loid, data FROM pg_largeobject", false},
		{"SELECT encode(ssn::bytea, 'hex') FROM users", false},
		// PM25: what tells nothing.
		{"SELECT ctid, xmin, tableoid, ssn FROM users", true},
	} {
		k := &bypass{ID: "around", SQL: lines{c.text}}
		seen := w.through(t, k)
		if c.passes == (seen.errors > 0) {
			t.Errorf("%s: %d errors\n%s", c.text, seen.errors, seen.transcript.String())
		}
		if s := w.shows(seen.got.Bytes()); s != "" {
			t.Errorf("%s leaks %s\n%s", c.text, s, seen.transcript.String())
		}
	}
	w.disk(t)
}
