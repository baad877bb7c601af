package schema_test

import (
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// TestFingerprint: what a change of one catalog alone is seen by, and what comes
// and goes with other sessions is not. What is read again where the server's own part
// is as it was is what is read from nothing.
func TestFingerprint(t *testing.T) {
	server, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := server.Database("marked", ""); err != nil {
		t.Fatal(err)
	}
	if out, err := server.Psql("marked", `CREATE ROLE between NOINHERIT; GRANT owner TO between; GRANT between TO app;
		CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'a', CONSTRAINT named CHECK (v <> '')); CREATE UNIQUE INDEX x ON t (v);
		CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end'; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
		CREATE POLICY p ON t USING (true); CREATE RULE r AS ON DELETE TO t DO ALSO NOTHING; CREATE VIEW w AS SELECT id FROM t; CREATE DOMAIN d AS int; CREATE TYPE y AS (a int); CREATE SCHEMA s; CREATE SEQUENCE of;
		CREATE TABLE parent (); CREATE TABLE one () INHERITS (parent); CREATE TABLE two (); CREATE TABLE parts (id int) PARTITION BY LIST (id);
		CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end'; CREATE EVENT TRIGGER k ON sql_drop EXECUTE FUNCTION e();
		ALTER TABLE parts OWNER TO owner`); err != nil {
		t.Fatal(out, err)
	}
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, server.URL("app", "marked"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	other, err := pgx.Connect(ctx, server.URL("postgres", "marked"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	mark, err := schema.Fingerprint(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	marks := map[schema.Mark]bool{mark: true}
	known, err := schema.Load(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	type change struct {
		text string
		seen bool
	}
	changes := []change{
		{"select 1", false},
		{"create temp table own (id serial primary key, v text default 'x' check (v <> 'y'), parent int references own)", false},
		{"create index on own (v); alter table own add w text default 'x'", false},
		{"create temp table owned () inherits (own)", false},
		{"create trigger g before insert on own for each row execute function f(); create rule r as on delete to own do also nothing", false},
		{"create policy p on own using (true)", false},
		{"create temp view seen as select id from own", false},
		{"insert into own (v) select g::text from generate_series(1, 100) g; analyze own", false},
		{"drop table own cascade", false},
		{"insert into t select g, g::text from generate_series(1, 1000) g; analyze t", false},
		{"alter table t enable row level security", true},                                                     // pg_class
		{"alter table t rename v to u", true},                                                                 // pg_attribute
		{"alter table t alter u set default 'b'", true},                                                       // pg_attrdef
		{"create or replace function f() returns trigger language plpgsql as 'begin return null; end'", true}, // pg_proc
		{"alter table t rename constraint named to called", true},                                             // pg_constraint, of a table
		{"alter domain d add constraint low check (value < 9)", true},                                         // and of a type
		{"alter table t disable trigger g", true},                                                             // pg_trigger
		{"create or replace view w as select id + 0 as id from t", true},                                      // pg_rewrite
		{"alter rule r on t rename to q", true},
		{"alter type y rename to z", true}, // pg_type
		{"alter domain d set default 1", true},
		{"alter schema s rename to r", true},                                             // pg_namespace
		{"alter table t cluster on x", true},                                             // pg_index
		{"alter table two inherit parent", true},                                         // pg_inherits
		{"alter policy p on t using (false)", true},                                      // pg_policy
		{"create operator === (function = int4eq, leftarg = int, rightarg = int)", true}, // pg_operator
		{"create cast (z as int) with inout as implicit", true},                          // pg_cast
		{"update pg_extension set extversion = '9'", true},                               // as its update does that changes nothing else
		{"alter event trigger k disable", true},                                          // pg_event_trigger
		{"revoke between from app", true},                                                // pg_auth_members
		{"grant between to app", true},
		{"alter role between inherit", true}, // pg_authid
		{"alter role app bypassrls", true},
		{"alter role between rename to middle", true},
		{"alter extension plpgsql add function e()", true}, // pg_depend
		{"alter sequence of owned by t.id", true},
		{"alter policy p on t using (true)", true}, // and back to where its row was
		{"vacuum pg_policy", false},
		{"alter policy p on t using (false)", true},
		{"vacuum pg_policy", false},
		{"alter policy p on t using (true)", true},
		{"alter function pg_catalog.lower(text) volatile", true}, // the server's own
		{"alter extension plpgsql add function pg_catalog.upper(text)", true},
		{"alter view information_schema.tables set (security_barrier)", true},
		{"create table last (id int references t, v d, w z) partition by list (id); create table of_last partition of last default", true},
		{"create statistics public.of_t on id, v from last", true}, // in public, which is made with the server
		{"create function h(text) returns text language sql as 'select lower($1)'; create operator @@@ (function = h, rightarg = text)", true},
	}
	own := 0
	if pgtest.Major() >= 16 {
		changes = append(changes, change{"grant middle to app with inherit false", true}) // pg_auth_members alone
	}
	for _, k := range changes {
		if _, err := other.Exec(ctx, k.text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%s: %v", k.text, err)
		}
		now, err := schema.Fingerprint(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		if marks[now] == k.seen {
			t.Errorf("%s: seen %v, not %v", k.text, !k.seen, k.seen)
		}
		marks[now] = true
		whole, err := schema.Load(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		if now.Server != mark.Server {
			own++
		} else if again, err := schema.Reload(ctx, conn, known); err != nil || !reflect.DeepEqual(again, whole) {
			t.Errorf("%s: what users have made is read as something else: %v", k.text, err)
		}
		known, mark = whole, now
	}
	if own != 3 {
		t.Errorf("the server's own part has changed %d times", own)
	}
}
