package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// cutOff ends the connection by which the gateway looks at the schema, and says
// how many there were. It does so between two looks: each meets one end at most.
func (g *gateway) cutOff(t *testing.T) string {
	g.protocol.schemas.Range(func(_, v any) bool {
		v.(*resourceState).reading.Lock()
		return true
	})
	defer g.protocol.schemas.Range(func(_, v any) bool {
		v.(*resourceState).reading.Unlock()
		return true
	})
	const from = " FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskgate'"
	ask := func(text string) string {
		out, err := server.Psql(g.db, text+from)
		if err != nil {
			t.Error(out, err)
		}
		return strings.TrimSpace(out)
	}
	n := ask("SELECT count(pg_terminate_backend(pid))")
	for end := time.Now().Add(10 * time.Second); ask("SELECT count(*)") != "0"; time.Sleep(time.Millisecond) { // 13 cannot wait for it itself
		if time.Now().After(end) {
			t.Error("the connection does not end")
			break
		}
	}
	return n
}

// aged has every schema be looked at before it is used again.
func (g *gateway) aged() {
	g.protocol.schemas.Range(func(_, v any) bool {
		s := v.(*resourceState)
		s.mu.Lock()
		defer s.mu.Unlock()
		if l := s.known.Load(); l != nil {
			s.known.Store(&looked{l.schema, l.at.Add(-2 * schemaAge)})
		}
		return true
	})
}

// TestNobodyThere: what became of a schema while no session was at the resource, the
// next one knows from its first text on.
func TestNobodyThere(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		return understood(c) && !slices.ContainsFunc(c.Statement.Operations, func(o abi.Operation) bool { return o.Verb == "call" })
	}})
	owner := g.direct(t)
	ddl := func(text string) {
		if _, err := owner.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	ddl("CREATE TABLE kept (id int); CREATE TABLE beside (id int); GRANT ALL ON kept, beside TO app")
	for i, mode := range modes {
		name := fmt.Sprintf("aside%d", i)
		c := g.connect(t)
		if _, err := c.Exec(t.Context(), "insert into kept values ($1)", mode, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.protocol.schemas.Range(func(_, v any) bool {
			s := v.(*resourceState)
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				s.mu.Lock()
				users := s.users
				if l := s.known.Load(); users == 0 && l != nil { // as after a second
					s.known.Store(&looked{l.schema, l.at.Add(-poll)})
				}
				s.mu.Unlock()
				if users == 0 {
					return true
				}
				if time.Now().After(end) {
					t.Fatal("the session does not end")
				}
			}
		})
		ddl("CREATE FUNCTION " + name + "() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO beside VALUES (1); RETURN NEW; END $$; CREATE TRIGGER " + name + " BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION " + name + "()")
		c = g.connect(t)
		if _, err := c.Exec(t.Context(), "insert into kept values ($1)", mode, 2); code(err) != "42501" {
			t.Errorf("%v: %v, with a trigger that nobody has seen yet", mode, err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		ddl("DROP TRIGGER " + name + " ON kept")
		g.aged()
	}
	var n int
	if err := owner.QueryRow(t.Context(), "SELECT count(*) FROM beside").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows beside, %v", n, err)
	}
}

// gateDialer refuses to connect while it is shut.
type gateDialer struct {
	gate.Dialer
	shut atomic.Bool
}

func (d *gateDialer) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	if d.shut.Load() {
		return gate.Upstream{}, errors.New("no connection to spare")
	}
	return d.Dialer.Dial(ctx, r, login)
}

var modes = []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec}

// TestSchemaConnectionEnds: whoever ends the gateway's own connection at the
// server disturbs no session: a new one is made for the look that needs it.
func TestSchemaConnectionEnds(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	c, other := g.connect(t), g.direct(t)
	for i, mode := range modes {
		name := "cut" + string(rune('a'+i))
		g.protocol.schemas.Range(func(_, v any) bool { // so that there is one
			if err := v.(*resourceState).refresh(t.Context(), 0); err != nil {
				t.Error(err)
			}
			return true
		})
		if n := g.cutOff(t); n != "1" {
			t.Fatalf("%s connections were ended", n)
		}
		if _, err := other.Exec(t.Context(), "CREATE TABLE "+name+" (id int); GRANT ALL ON "+name+" TO app", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(t.Context(), "insert into "+name+" values ($1)", mode, 1); err != nil { // is not known yet
			t.Errorf("%v, a new name: %v", mode, err)
		}
		g.cutOff(t)
		g.aged()
		if _, err := c.Exec(t.Context(), "select id from "+name+" where id = $1", mode, 1); err != nil {
			t.Errorf("%v, an old schema: %v", mode, err)
		}
		tx, err := c.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "create temporary table own"+name+" (id int) on commit drop", mode); err != nil {
			t.Fatal(err)
		}
		g.cutOff(t)
		if err := tx.Commit(t.Context()); err != nil {
			t.Errorf("%v, at a COMMIT: %v", mode, err)
		}
		if _, err := c.Exec(t.Context(), "select count(*) from "+name+" where id = $1", mode, 1); err != nil {
			t.Errorf("%v, behind a COMMIT: %v", mode, err)
		}
	}
	if said := g.said(); said != "" {
		t.Errorf("the operator was told: %s", said)
	}
}

// TestSchemaConnectionStrict: so it is where a schema is looked at for an answer,
// and where none can be made, the answer is not shown and the client told why.
func TestSchemaConnectionStrict(t *testing.T) {
	guard := &between{protector: protector{protect: masks(abi.MaskNull, "", "people.ssn")}}
	g := serve(t, guard)
	g.people(t, 3)
	g.options(guard, TaskOptions{}, ResourceOptions{DriftStrict: true}, "strict")
	d := &gateDialer{Dialer: g.Dialer}
	g.Dialer = d
	c := g.connect(t)
	then := func(f func()) {
		guard.mu.Lock()
		guard.at, guard.then = abi.Execute, f
		guard.mu.Unlock()
	}
	for i, mode := range modes {
		fired := false
		then(func() { fired = true; g.cutOff(t) })
		if _, err := c.Exec(t.Context(), fmt.Sprintf("select name from people where id > $1 -- %d", i), mode, 0); err != nil || !fired {
			t.Errorf("%v: %v, the guard was asked: %v", mode, err, fired)
		}
	}
	then(func() { d.shut.Store(true); g.cutOff(t) })
	if _, err := c.Exec(t.Context(), "select name from people"); code(err) != "08006" || !strings.Contains(err.Error(), "is not shown") {
		t.Errorf("with none: %v", err)
	}
}

// TestSchemaCannotBeLookedAt: where no new connection can be made, a statement is
// refused, the session goes on, and so does the work as soon as one can.
func TestSchemaCannotBeLookedAt(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	d := &gateDialer{Dialer: g.Dialer}
	g.Dialer = d
	c := g.connect(t)
	if _, err := c.Prepare(t.Context(), "kept", "select 1 + $1::int"); err != nil {
		t.Fatal(err)
	}
	for _, mode := range modes {
		d.shut.Store(true)
		g.cutOff(t)
		for _, text := range []string{"select 2 + $1::int", "select 3 + $1::int", "kept"} {
			g.aged()
			if _, err := c.Exec(t.Context(), text, mode, 1); code(err) != "58000" || strings.Contains(err.Error(), "spare") {
				t.Errorf("%v, %s: %v", mode, text, err)
			}
		}
		if !strings.Contains(g.said(), "schema of shop: no connection to spare") {
			t.Errorf("%v: the operator was told %q", mode, g.said())
		}
		d.shut.Store(false)
		for _, text := range []string{"select 2 + $1::int", "kept"} {
			if _, err := c.Exec(t.Context(), text, mode, 1); err != nil {
				t.Errorf("%v: the session does not go on: %v", mode, err)
			}
		}
	}
	if !g.log.has(func(e *gate.Event) bool {
		return strings.HasPrefix(e.Text, "select 2") && strings.Contains(e.Incomplete, "no connection to spare")
	}) {
		t.Error("the log does not know of it")
	}
}

// TestLookBlocked: what somebody has locked keeps no look at the schema, and nobody
// but who reaches it; who holds the lock goes on.
func TestLookBlocked(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	g.askOf(t, g.db, `CREATE TABLE held (id serial, v text DEFAULT 'x'); CREATE VIEW over AS SELECT v FROM held; CREATE VIEW above AS SELECT v FROM over; CREATE TABLE beside (v text);
		CREATE TABLE whole (id int) PARTITION BY LIST (id); CREATE TABLE one PARTITION OF whole FOR VALUES IN (1); CREATE TABLE two PARTITION OF whole FOR VALUES IN (2);
		CREATE TABLE kept (v text); ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON kept USING (EXISTS (SELECT FROM held h WHERE h.v = kept.v));
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
		GRANT ALL ON held, over, above, beside, whole, one, two, kept, parent, child TO app; GRANT USAGE ON SEQUENCE held_id_seq TO app; GRANT TRUNCATE ON held TO app`)
	nc, other := g.in(t), g.in(t)
	defer nc.Close()
	defer other.Close()
	send(t, nc, query("select count(*) from held"), query("begin"), query("lock table held, one, child in access exclusive mode"))
	want(t, nc, 3, "T D C ZI C ZT C ZT")
	g.askOf(t, g.db, `CREATE TABLE another (id int); GRANT SELECT ON another TO app`) // there is something to read
	g.aged()
	for text, w := range map[string]string{
		"select v from beside": "T C ZI", "select id from another": "T C ZI", "select id from parent where id = 2": "T C ZI", "insert into parent values (1)": "C ZI", "select nothing from beside": "E42703 ZI",
		"select v from held": "E55P03 ZI", "select v from above": "E55P03 ZI", "select id from whole": "E55P03 ZI", "select id from two": "E55P03 ZI", "select v from kept": "E55P03 ZI",
		"delete from parent": "E55P03 ZI", "update over set v = 'y'": "E55P03 ZI", "alter table held add w int": "E55P03 ZI", "copy held from stdin": "E55P03 ZI", "explain select v from over": "E55P03 ZI",
	} {
		send(t, other, query(text))
		if got := kinds(t, other, 1); got != w {
			t.Errorf("%s: %s, not %s", text, got, w)
		}
	}
	version := func() (v uint64) {
		g.protocol.schemas.Range(func(_, one any) bool {
			v = max(v, one.(*resourceState).fresh(0).Version)
			return true
		})
		return v
	}
	before := version()
	g.aged()
	send(t, other, query("select v from beside"))
	if want(t, other, 1, "T C ZI"); version() != before {
		t.Error("what is read is as it was, and not taken for it")
	}
	send(t, nc, query("insert into held (v) values (default)"), query("select v from above"), query("savepoint s"), query("select nothing from held"), query("rollback to s"),
		query("select id from two"), query("commit"))
	want(t, nc, 7, "C ZT T D C ZT C ZT E42703 ZE C ZT T C ZT C ZI")
	g.aged()
	for _, text := range []string{"select v from above", "select id from whole", "select v from kept"} {
		send(t, other, query(text))
		if got := kinds(t, other, 1); strings.HasPrefix(got, "E") {
			t.Errorf("%s: %s", text, got)
		}
	}
}
