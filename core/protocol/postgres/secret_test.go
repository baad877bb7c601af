package postgres

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
)

// leaks makes what says values of people where nobody looks for them.
const leaks = `
	CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		RAISE NOTICE 'ssn %', (SELECT string_agg(ssn, ' ') FROM people);
		PERFORM set_config('application_name', (SELECT left(ssn, 17) FROM people WHERE id = 1), false), pg_notify('news', (SELECT string_agg(ssn, ' ') FROM people));
		IF NEW.id = 77 THEN RAISE EXCEPTION 'ssn %', (SELECT string_agg(ssn, ' ') FROM people) USING ERRCODE = '42501', HINT = (SELECT ssn FROM people WHERE id = 1); END IF;
		IF NEW.id = 78 THEN RAISE EXCEPTION 'ssn %', (SELECT string_agg(ssn, ' ') FROM people) USING SCHEMA = 'public', TABLE = 'badges', COLUMN = (SELECT ssn FROM people WHERE id = 1); END IF;
		RETURN NULL; END $$;
	CREATE TABLE logged (id int PRIMARY KEY, note text);
	CREATE TRIGGER tells AFTER INSERT ON badges FOR EACH ROW EXECUTE FUNCTION tell();
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON logged DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
	CREATE FUNCTION loud(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1::int; END $$;
	CREATE FUNCTION louder(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'ssn %', $1 USING ERRCODE = '42501'; END $$;
	ALTER TABLE people ADD CONSTRAINT louder CHECK (name <> 'loud' OR louder(ssn)), ADD CONSTRAINT lately UNIQUE (dom) DEFERRABLE INITIALLY DEFERRED;
	CREATE VIEW parsed AS SELECT id, name FROM people WHERE note::text <> '' OR loud(ssn) > 0;
	GRANT SELECT, INSERT, UPDATE, DELETE ON logged TO app; GRANT SELECT ON parsed TO app;`

// TestPM07PM08PM09PM10PM30PM31PM33Said: what the server says in errors, notices,
// parameters and notifications, at once and at the end of a transaction, shows
// nothing of what is protected, though every guard shows errors.
func TestPM07PM08PM09PM10PM30PM31PM33Said(t *testing.T) {
	guard := &protector{protect: append(masks(abi.MaskNull, "", secrets...), abi.Protect{Relation: []string{"public", "badges"}, Column: "*", Unlisted: true}), oracle: []string{"accept"}}
	g := serve(t, guard)
	p := g.people(t, 5)
	if out, err := server.Psql(g.db, leaks); err != nil {
		t.Fatal(out, err)
	}
	taken := strings.ReplaceAll(p.text, "'", "''")
	for _, c := range []struct {
		text, code string // of the last error
		show       bool   // the server's own words pass
	}{
		{"listen news; insert into badges values (5, 1, 'a', 'b')", "", false},
		{"update people set name = ssn_ where id = 1", "42703", true},
		{"update people set id = 1 where id = 2", "23505", false},
		{"update people set id = null where id = 1", "23502", false},
		{"update people set name = '" + taken + "' where id = 1", "23000", false},
		{"insert into people (id, ssn, name) values (50, '" + taken + "', 'x')", "23000", false},
		{"begin; insert into people (id, name, dom) values (60, 'x', 'same'), (61, 'y', 'same'); commit", "23000", false}, // when it is committed
		{"update people set name = 'loud' where id = 1", "42501", false},
		{"insert into badges values (1, 1, 'a', null)", "23502", false},
		{"insert into badges values (77, 1, 'a', 'b')", "42501", false},
		{"insert into badges values (78, 1, 'a', 'b')", "P0001", false},
		{"begin; insert into badges values (1, 999, 'a', 'b'); select 1; commit", "23503", false},
		{"begin; insert into badges values (1, 1, 'a', 'b'), (2, 1, 'a', 'b'); set constraints all immediate; commit", "23505", false},
		{"begin; select ssn from people; select 1 / 0; commit", "22012", false},
		{"begin; select ssn from people; select 'abc' || note, 'x'::int from logged; rollback", "22P02", false},
		{"begin; insert into logged values (77, 'x'); select 1; commit", "42501", false},
		{"begin; insert into logged values (78, 'x'); commit", "P0001", false},
		{"begin; insert into logged values (78, 'x'); select 1", "P0001", false},
		{"begin; declare c cursor with hold for select id, name from people where id / 0 = 1; commit", "22012", false},
	} {
		for name, way := range ways {
			if name == "prepared" {
				continue
			}
			conn, got := g.tapped(t, g.url())
			err := way(t.Context(), conn, c.text)
			if c.code == "" {
				_, err = conn.Exec(t.Context(), "select 1; delete from badges; listen nothing").ReadAll() // what comes later
				if n := p.found(got.got.Bytes()); n != "" || err != nil || !bytes.Contains(got.got.Bytes(), []byte("news\x00\x00")) {
					t.Errorf("%s: %s: %s came through, %v\n%q", name, c.text, n, err, got.got.Bytes())
				}
				_ = conn.Close(t.Context())
				continue
			}
			var e *pgconn.PgError
			if !errors.As(err, &e) && conn.TxStatus() != 'I' { // it failed before the end
				_, err = conn.Exec(t.Context(), "select 1 from badges; commit").ReadAll() // with a name that RAISE has given
			}
			if !errors.As(err, &e) {
				t.Errorf("%s: %s: %v", name, c.text, err)
				continue
			}
			if e.Code != c.code || e.Detail != "" || e.Where != "" || c.show != strings.Contains(e.Message, "ssn_") || !c.show && e.Position != 0 {
				t.Errorf("%s: %s: %+v", name, c.text, e)
			}
			if c.code == "23000" && (e.ConstraintName != "" || e.TableName != "" || e.ColumnName != "" || e.Message != classes["23"]) {
				t.Errorf("%s: %s: constraints can be told apart: %+v", name, c.text, e)
			}
			if n := p.found(got.got.Bytes()); n != "" {
				t.Errorf("%s: %s: %s came through", name, c.text, n)
			}
			_ = conn.Close(t.Context())
		}
	}
}
