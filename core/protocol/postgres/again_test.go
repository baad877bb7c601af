package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestLookedUpAgain: what others have just made is there for the next text that
// names it, though the schema is looked at once a second.
func TestLookedUpAgain(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	c, other := g.connect(t), g.direct(t)
	for i := range 3 {
		for _, step := range [][2]string{
			{"CREATE TABLE fresh%[1]d (id int); GRANT ALL ON fresh%[1]d TO app", "insert into fresh%d values (1)"},
			{"ALTER TABLE fresh%d ADD v text", "update fresh%d set v = 'a' returning v"},
			{"ALTER TABLE fresh%d ADD w text", "select * from fresh%d order by 3"},
			{"CREATE FUNCTION sum%d(int) RETURNS int LANGUAGE sql AS 'select $1'", "select sum%d(1)"},
			{"CREATE SCHEMA s%[1]d; GRANT USAGE ON SCHEMA s%[1]d TO app; CREATE VIEW s%[1]d.v AS SELECT 1; GRANT SELECT ON s%[1]d.v TO app", "select 1 from s%d.v"},
			{"CREATE TYPE mood%d AS ENUM ('glad')", "select 'glad'::mood%d"},
			{"CREATE UNIQUE INDEX ON fresh%d (id)", "insert into fresh%d values (1) on conflict (id) do nothing"},
		} {
			make, use := fmt.Sprintf(step[0], i), fmt.Sprintf(step[1], i)
			if _, err := other.Exec(t.Context(), make, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(make, err)
			}
			mode := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec}[i]
			if _, err := c.Exec(t.Context(), use, mode); err != nil {
				t.Errorf("%s: %v", use, err)
			}
		}
	}
	if _, err := c.Exec(t.Context(), "select 1 from nowhere"); code(err) != "42P01" {
		t.Error(err)
	}
}

// TestSchemaLookedUpAgain: so is a schema to make something in.
func TestSchemaLookedUpAgain(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("fresh.*", "create_table")}})
	c := g.connect(t)
	g.askOf(t, g.db, "SET ROLE owner; CREATE SCHEMA fresh")
	if _, err := c.Exec(t.Context(), "create table fresh.made (id int)"); err != nil {
		t.Error(err)
	}
}

// TestLongErrors: an error or a notice that holds a large value is told like any
// other.
func TestLongErrors(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	if out, err := server.Psql(g.db, "CREATE FUNCTION tell(text) RETURNS int LANGUAGE plpgsql AS 'begin raise notice ''%'', $1; return 1; end'"); err != nil {
		t.Fatal(out, err)
	}
	c := g.connect(t)
	for text, want := range map[string]string{"select repeat('x', 3000000)::int": "22P02", "select tell(repeat('x', 12000000))": "<nil>"} {
		var e *pgconn.PgError
		_, err := c.Exec(t.Context(), text)
		if errors.As(err, &e); code(err) != want || err != nil && len(e.Message) < 3_000_000 {
			t.Errorf("%s: %.80v", text, err)
		}
	}
	if _, err := c.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
}

// TestTurn: however many ask for names that are missing, one look is taken for all
// who wait, and between two there is a pause.
func TestTurn(t *testing.T) {
	now := time.Now()
	s := &resourceState{took: 10 * time.Millisecond}
	s.known.Store(&looked{at: now.Add(-time.Hour)})
	at := func(after, want time.Duration) {
		t.Helper()
		if got := s.turn(now.Add(after)).Sub(now); got != want {
			t.Errorf("asked after %s the look is at %s, not %s", after, got, want)
		}
	}
	const ms = time.Millisecond
	at(0, 0)
	at(1*ms, 50*ms) // while the first is taken
	at(2*ms, 50*ms)
	at(49*ms, 50*ms)
	at(51*ms, 100*ms)
	s.known.Store(&looked{at: now.Add(120 * ms)}) // the pause is from then on, where that is later
	at(150*ms, 160*ms)
	s.took = time.Hour
	at(160*ms, 160*ms+2*poll)
}

// TestLookOutlivesWhoAsked: a session that ends while it waits for a look takes it
// from nobody else.
func TestLookOutlivesWhoAsked(t *testing.T) {
	g := serve(t, &rules{allow: understood})
	g.connect(t)
	g.protocol.schemas.Range(func(_, v any) bool {
		s := v.(*resourceState)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for range 10 {
			s.mu.Lock()
			s.known.Store(&looked{s.fresh(0), time.Now().Add(-time.Hour)})
			s.next = time.Time{}
			s.mu.Unlock()
			s.again(ctx, time.Now())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.failed.IsZero() {
			t.Error("nobody else is looked for")
		}
		return true
	})
}

// TestMeaningsApart: what a text means is remembered for those alone who would have it
// read alike.
func TestMeaningsApart(t *testing.T) {
	guard := &rules{allow: anything}
	g := serve(t, guard)
	const text = "select id from items where id = $1"
	says := func([]string, string) bool { return true }
	seen := 0
	for _, k := range []struct {
		what     string
		task     TaskOptions
		resource ResourceOptions
		url      string
		before   string
		types    []uint32
		more     bool
	}{
		{"the first", TaskOptions{}, ResourceOptions{}, "", "", nil, true},
		{"the same", TaskOptions{}, ResourceOptions{}, "", "", []uint32{20}, false},
		{"introspect", TaskOptions{Introspect: true}, ResourceOptions{}, "", "", nil, true},
		{"a time", TaskOptions{StatementTimeout: time.Minute}, ResourceOptions{}, "", "", nil, true},
		{"blind", TaskOptions{Blind: Blind(nil, says)}, ResourceOptions{}, "", "", nil, true},
		{"another that is blind", TaskOptions{Blind: Blind(nil, says)}, ResourceOptions{}, "", "", nil, true},
		{"filter", TaskOptions{Filter: Filter([]abi.Source{{Relation: []string{"public", "items"}, Column: "sku"}})}, ResourceOptions{}, "", "", nil, true},
		{"listed", TaskOptions{Listed: Listing(func(string, []string) bool { return true })}, ResourceOptions{}, "", "", nil, true},
		{"definitions", TaskOptions{Definitions: Definitions(says, says)}, ResourceOptions{}, "", "", nil, true},
		{"extensions", TaskOptions{}, ResourceOptions{Extensions: []string{"citext"}}, "", "", nil, true},
		{"a path", TaskOptions{}, ResourceOptions{}, "", "set search_path = public, app", nil, true},
		{"a path at login", TaskOptions{}, ResourceOptions{}, "&search_path=public,app", "", nil, true},
		{"the server is asked", TaskOptions{}, ResourceOptions{Probe: true}, "", "", []uint32{20}, true},
		{"of another type", TaskOptions{}, ResourceOptions{Probe: true}, "", "", []uint32{23}, true},
		{"the first again", TaskOptions{}, ResourceOptions{}, "", "", nil, false},
	} {
		g.options(guard, k.task, k.resource, "one")
		c, err := pgconn.Connect(t.Context(), g.url()+k.url)
		if err != nil {
			t.Fatal(k.what, err)
		}
		if k.before != "" {
			if _, err := c.Exec(t.Context(), k.before).ReadAll(); err != nil {
				t.Fatal(k.what, err)
			}
		}
		if _, err := c.Prepare(t.Context(), "", text, k.types); err != nil {
			t.Errorf("%s: %v", k.what, err)
		}
		n := 0
		g.protocol.schemas.Range(func(_, v any) bool {
			s := v.(*resourceState)
			s.mu.Lock()
			defer s.mu.Unlock()
			for key := range s.texts {
				if key.text == text {
					n++
				}
			}
			return true
		})
		if more := n > seen; more != k.more {
			t.Errorf("%s: read anew %t", k.what, more)
		}
		seen = n
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
