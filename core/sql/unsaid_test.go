package sql_test

import (
	"testing"

	"github.com/taskgate/taskgate/core/sql"
)

// TestUnsaidParts: which statements may call functions of users that no operation
// names. What an accepted extension has is none of them.
func TestUnsaidParts(t *testing.T) {
	c := database(t, "unsaidparts", `CREATE EXTENSION citext; CREATE FUNCTION f(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE DOMAIN dom AS text CHECK (f(value)); CREATE DOMAIN plain AS text CHECK (length(value) < 9);
		CREATE TABLE checked (v text CHECK (f(v)), w text); CREATE TABLE typed (v dom[]); CREATE TABLE plain_ (id int PRIMARY KEY, v plain CHECK (v <> 'a.f(x)')); CREATE TABLE folded (v citext CHECK (v <> 'x' AND replace(v, 'a', 'b') <> 'y'));
		CREATE TABLE guarded (v text); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (f(v)); CREATE VIEW behind AS SELECT * FROM guarded;
		CREATE TABLE referring (id int REFERENCES plain_ ON DELETE CASCADE, v text CHECK (f(v)));
		GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	accepting := *c
	accepting.Extensions = []string{"citext"}
	for text, want := range map[string]bool{
		"insert into checked (w) values ('x')": true, "update checked set w = 'x'": true, "copy checked from stdin": true, "select v from checked": false, "delete from checked where false": true,
		"insert into typed values ('{}')": true, "select v from typed": false, "insert into plain_ values (1, 'x')": true, "select v from plain_": false,
		"select v from guarded": true, "select v from behind": true, "select 1 where exists (select from guarded)": true, "explain select v from guarded": true,
		"delete from plain_ where id = 1": true, "with w as (insert into checked (w) values ('x') returning w) select * from w": true,
		"insert into folded values ('z')": false, "declare k cursor for select v from guarded": true, "prepare p as insert into checked (w) values ('x')": false, "select 1": false,
	} {
		a, err := sql.Analyze(&accepting, text)
		if err != nil || len(a.Parts) != 1 {
			t.Errorf("%s: %s", text, render(a, err))
		} else if a.Parts[0].Unsaid != want {
			t.Errorf("%s: %t, not %t", text, a.Parts[0].Unsaid, want)
		}
	}
	if a, err := sql.Analyze(c, "delete from folded where false"); err != nil || len(a.Parts) != 1 || !a.Parts[0].Unsaid {
		t.Errorf("an extension that is not accepted: %s", render(a, err))
	}
}
