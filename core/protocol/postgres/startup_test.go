package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// dial connects with parameters of the startup packet and keeps the notices.
func (g *gateway) dial(t *testing.T, params map[string]string) (*pgx.Conn, *[]string, error) {
	t.Helper()
	config, err := pgx.ParseConfig(g.url())
	if err != nil {
		t.Fatal(err)
	}
	told := &[]string{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *told = append(*told, n.Message) }
	maps.Copy(config.RuntimeParams, params)
	c, err := pgx.ConnectConfig(context.Background(), config)
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, told, err
}

func (g *gateway) limited(limit time.Duration) {
	next := generation(&rules{allow: noDelete})
	next.Tasks["x"].Options = &TaskOptions{Introspect: true, StatementTimeout: limit}
	g.Swap(next)
}

// one gives the only value that a text answers with.
func one(t *testing.T, c *pgx.Conn, text string) string {
	t.Helper()
	r, err := c.PgConn().Exec(context.Background(), text).ReadAll()
	if err != nil {
		return err.Error()
	}
	for _, result := range slices.Backward(r) {
		if len(result.Rows) > 0 {
			return string(result.Rows[0][0])
		}
	}
	return ""
}

// TestClientsAtConnect: what drivers, ORMs and tools give at connect, and what
// they send before anything of their user's.
func TestClientsAtConnect(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for name, client := range map[string]struct {
		params map[string]string
		first  []string
	}{
		"psql":          {map[string]string{"client_encoding": "UTF8", "application_name": "psql", "DateStyle": "ISO, DMY", "TimeZone": "Europe/Berlin", "geqo": "off"}, []string{"SELECT pg_catalog.pg_is_in_recovery()", "SHOW transaction_read_only"}},
		"JDBC":          {map[string]string{"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "GMT", "extra_float_digits": "3", "search_path": "public"}, []string{"SET extra_float_digits = 3", "SET application_name = 'PostgreSQL JDBC Driver'", "SHOW TRANSACTION ISOLATION LEVEL", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN READ ONLY; ROLLBACK", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "select current_schema()"}},
		"postgres.js":   {map[string]string{"client_encoding": "UTF8", "application_name": "postgres.js"}, []string{"select 1"}},
		"node-postgres": {map[string]string{"client_encoding": "UTF8", "statement_timeout": "5000", "lock_timeout": "1000", "idle_in_transaction_session_timeout": "60000", "options": "-c search_path=public -c geqo=on"}, []string{"SHOW statement_timeout"}},
		"lib/pq":        {map[string]string{"datestyle": "ISO, MDY", "extra_float_digits": "2"}, nil},
		"psycopg":       {map[string]string{"options": "-c statement_timeout=5s"}, []string{"SET datestyle TO 'ISO'", "BEGIN", "SELECT 1", "ROLLBACK", "SHOW default_transaction_isolation", "select pg_catalog.version()", "show standard_conforming_strings", "SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = 'hstore'"}},
		"Django":        {map[string]string{"client_encoding": "UTF8"}, []string{"SELECT set_config('TimeZone', 'UTC', false)", "SELECT pg_catalog.set_config('search_path', 'public', false)"}},
		"Rails":         {nil, []string{"SET client_min_messages TO 'warning'", "SET standard_conforming_strings = on", "SET SESSION timezone TO 'UTC'", "SET SESSION intervalstyle = 'iso_8601'", "SHOW max_identifier_length", "SHOW search_path", "SET client_min_messages TO DEFAULT", "SET statement_timeout TO 1000", "SET lock_timeout = '2s'"}},
		"Hibernate":     {nil, []string{"select current_schema()", "SHOW TRANSACTION ISOLATION LEVEL", "select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ('{a,b}'::text[])"}},
		"Npgsql":        {map[string]string{"client_encoding": "UTF8", "search_path": "public"}, []string{"SELECT version()", "DISCARD ALL", "CLOSE ALL", "UNLISTEN *", "SET SESSION AUTHORIZATION DEFAULT", "RESET ALL", "SELECT pg_advisory_unlock_all()", "DISCARD SEQUENCES", "DISCARD TEMP"}},
		"asyncpg":       {map[string]string{"client_encoding": "'utf-8'", "jit": "off"}, []string{"SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"}},
		"pg_dump": {map[string]string{"application_name": "pg_dump"}, []string{"SELECT pg_catalog.set_config('search_path', '', false)", "SET DATESTYLE = ISO", "SET INTERVALSTYLE = POSTGRES", "SET extra_float_digits TO 3", "SET synchronize_seqscans TO off", "SET statement_timeout = 0", "SET lock_timeout = 0",
			"SET idle_in_transaction_session_timeout = 0", "SET row_security = off", "SET quote_all_identifiers = true", "BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "SELECT oid, rolname FROM pg_catalog.pg_roles ORDER BY 1", "LOCK TABLE public.orders IN ACCESS SHARE MODE", "COPY public.orders (id, status) TO stdout", "COMMIT"}},
		"what pg_dump writes": {nil, []string{"SET statement_timeout = 0", "SET client_encoding = 'UTF8'", "SET standard_conforming_strings = on", "SELECT pg_catalog.set_config('search_path', '', false)", "SET check_function_bodies = false", "SET xmloption = content", "SET client_min_messages = warning", "SET row_security = off"}},
	} {
		c, _, err := g.dial(t, client.params)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range client.first {
			if _, err := c.PgConn().Exec(context.Background(), text).ReadAll(); err != nil {
				t.Errorf("%s: %s: %v", name, text, err)
			}
		}
	}
	// psql itself, by its environment.
	t.Setenv("PGOPTIONS", "-c search_path=public -c statement_timeout=7s")
	t.Setenv("PGTZ", "UTC")
	if out := g.psql(t, "show statement_timeout; show search_path; select count(*) from orders;\n"); out != "NOTICE:  good until later\n7s\npublic\n200\n" && out != "7s\npublic\n200\n" {
		t.Errorf("psql: %q", out)
	}
}

// TestRefusedAtConnect: what changes the meaning of texts is judged as a SET
// of it is, and nothing else is let in by another door.
func TestRefusedAtConnect(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for params, want := range map[[2]string]string{
		{"search_path", "pg_temp, public"}:                         "42501",
		{"search_path", `public, "pg_temp_3"`}:                     "42501",
		{"search_path", "public, pg_catalog"}:                      "42501",
		{"search_path", "public,,app"}:                             "22023",
		{"search_path", `"public`}:                                 "22023",
		{"options", "-c search_path=pg_temp"}:                      "42501",
		{"options", "-csearch_path=public -c search_path=pg_temp"}: "42501",
		{"role", "postgres"}:                                       "42501",
		{"session_authorization", "postgres"}:                      "42501",
		{"session_replication_role", "replica"}:                    "42501",
		{"client_encoding", "LATIN1"}:                              "42501",
		{"standard_conforming_strings", "off"}:                     "42501",
		{"client_min_messages", "debug1"}:                          "42501",
		{"options", "-c role=postgres"}:                            "42501",
		{"options", "-d 5"}:                                        "42501",
		{"work_mem", "1GB"}:                                        "42501",
		{"a'; drop table orders; --", "x"}:                         "42501",
		{"TimeZone", "Nowhere/Land"}:                               "22023",
		{"statement_timeout", "soon"}:                              "22023",
		{"replication", "database"}:                                "0A000",
		{"application_name", strings.Repeat("x", 1025)}:            "42501",
	} {
		if _, _, err := g.dial(t, map[string]string{params[0]: params[1]}); code(err) != want {
			t.Errorf("%s: %v", params, err)
		}
	}
	// What a task may set beside the usual is given at connect as well, and is asked for.
	next := generation(&rules{allow: func(c *abi.Command) bool { return true }})
	g.Swap(next)
	c, _, err := g.dial(t, map[string]string{"work_mem": "5MB"})
	if err != nil || one(t, c, "show work_mem") != "5MB" {
		t.Errorf("a setting of the task's: %v", err)
	}
	if _, _, err := g.dial(t, map[string]string{"work_mem": "a lot"}); code(err) != "22023" {
		t.Errorf("a setting that the server does not take: %v", err)
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for value, state := range map[string]string{"5MB": "completed", "a lot": "failed"} {
		i := slices.IndexFunc(g.log.events, func(e *gate.Event) bool { return e.Text == "SET work_mem TO '"+value+"'" })
		if i < 0 || !slices.ContainsFunc(g.log.events[i:], func(e *gate.Event) bool {
			return e.Kind == gate.EventDone && e.Session == g.log.events[i].Session && e.Command == 1 && e.State == state
		}) {
			t.Errorf("the log does not say that %s has %s", value, state)
		}
	}
	if !slices.ContainsFunc(g.log.events, func(e *gate.Event) bool {
		return strings.Contains(e.Text, "SET work_mem TO '5MB'")
	}) {
		t.Error("the setting does not stand in the log")
	}
}

// TestPathAtConnect: names are looked up along the path that was given, which
// is what RESET and DISCARD go back to.
func TestPathAtConnect(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if _, err := server.Psql(g.db, `CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO app; CREATE TABLE other.orders (id text); INSERT INTO other.orders VALUES ('mine'); GRANT SELECT ON other.orders TO app;
		CREATE FUNCTION other.upper(text) RETURNS text LANGUAGE sql AS 'SELECT ''theirs''::text'`); err != nil {
		t.Fatal(err)
	}
	for _, params := range []map[string]string{{"search_path": `"other", public`}, {"search_path": "OTHER,public"}, {"options": "-c search_path=other,public"}, {"options": `--search-path=other\,\ public`}} {
		c, _, err := g.dial(t, params)
		if err != nil {
			t.Errorf("%v: %v", params, err)
			continue
		}
		for _, k := range [][2]string{
			{"select id from orders", "mine"}, {"show search_path", "other, public"}, {"set search_path = public; select max(id)::text from orders", "200"},
			{"select max(id)::text from orders", "200"}, {"reset search_path; select id from orders", "mine"}, {"select id from orders", "mine"},
			{"set search_path to public", ""}, {"discard all", ""}, {"select id from orders", "mine"}, {"select pg_catalog.set_config('search_path', 'public', false)", "public"},
			{"select max(id)::text from orders", "200"}, {"set search_path to default; select id from orders", "mine"}, {"set search_path to public", ""}, {"reset all; select id from orders", "mine"},
			{"begin; set local search_path to public; select max(id)::text from orders", "200"}, {"commit", ""}, {"select id from orders", "mine"},
		} {
			if got := one(t, c, k[0]); got != k[1] {
				t.Errorf("%v: %s: %q, not %q", params, k[0], got, k[1])
			}
		}
		if got := one(t, c, "select upper('x')"); !strings.Contains(got, "42501") {
			t.Errorf("a function of that schema ran: %s", got)
		}
	}
	c, _, err := g.dial(t, map[string]string{"search_path": ""})
	if err != nil {
		t.Fatal(err)
	}
	if got := one(t, c, "select id from orders"); !strings.Contains(got, "42P01") {
		t.Errorf("an empty path: %s", got)
	}
	if got := one(t, c, "select max(id)::text from public.orders"); got != "200" {
		t.Error(got)
	}
}

// TestStatementTimeout: a client may only lower the task's limit, and is told.
func TestStatementTimeout(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	g.limited(5 * time.Second)
	for given, want := range map[string]string{"": "5s", "0": "5s", "1min": "5s", "4000": "4s", "3s": "3s", "100us": "5s", "360000us": "360ms"} {
		params := map[string]string{}
		if given != "" {
			params["statement_timeout"] = given
		}
		c, told, err := g.dial(t, params)
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		if got := one(t, c, "show statement_timeout"); got != want {
			t.Errorf("given %s at connect: %s", given, got)
		}
		if heard := slices.ContainsFunc(*told, func(s string) bool { return strings.Contains(s, "5s, the limit") }); heard != (want == "5s" && given != "") {
			t.Errorf("given %s at connect: told %q", given, *told)
		}
	}
	c, told, err := g.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		text, want string
		told       bool
	}{
		{"set statement_timeout = 1000", "1s", false}, {"set statement_timeout = 0", "5s", true}, {"set statement_timeout to '6 s'", "5s", true}, {"set statement_timeout to '2s'", "2s", false},
		{"reset statement_timeout", "5s", false}, {"set statement_timeout = default", "5s", false}, {"set local statement_timeout = '1h'", "5s", true}, {"select set_config('statement_timeout', '0', false)", "5s", true},
		{"select set_config('statement_timeout', '900', false), 1", "900ms", false}, {"reset all", "5s", false}, {"set session statement_timeout = 99999999", "5s", true},
	} {
		*told = (*told)[:0]
		if _, err := c.PgConn().Exec(context.Background(), k.text).ReadAll(); err != nil {
			t.Errorf("%s: %v", k.text, err)
		}
		heard := slices.ContainsFunc(*told, func(s string) bool { return strings.Contains(s, "5s, the limit") })
		if got := one(t, c, "show statement_timeout"); got != k.want || heard != k.told {
			t.Errorf("%s: %s, told %q", k.text, got, *told)
		}
	}
	for _, text := range []string{"set statement_timeout = -1", "set statement_timeout = '0x0'", "set statement_timeout = '1e3'", "set statement_timeout = 'x'", "set statement_timeout = '0.0001h'", "select set_config('statement_timeout', now()::text, false)", "select set_config('statement_timeout', null, false)"} {
		if _, err := c.PgConn().Exec(context.Background(), text).ReadAll(); code(err) != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
	var e *pgconn.PgError
	if _, _, err := g.dial(t, map[string]string{"statement_timeout": "1e9"}); !errors.As(err, &e) || e.Code != "22023" {
		t.Errorf("at connect: %v", err)
	}
}

// TestPasswordOfAnySize: who is not known yet gets no room for more than a password.
func TestPasswordOfAnySize(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for _, size := range []uint32{0, 4, maxPassword + 1, 1 << 30, 1<<32 - 1} {
		nc := g.raw(t, join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), binary.BigEndian.AppendUint32([]byte{'p'}, size)))
		for kind := byte('R'); kind == 'R'; {
			var body []byte
			var err error
			if kind, body, err = readMessage(nc); err != nil || kind != 'R' && !bytes.Contains(body, []byte("C08P01")) {
				t.Fatalf("%d: %c %q %v", size, kind, body, err)
			}
		}
	}
}
