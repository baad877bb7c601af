package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestCall: a procedure that the task lists runs, answers and may commit; any
// other does not.
func TestCall(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		for _, o := range c.Statement.Operations {
			if o.Verb == "call" && strings.Join(o.Object, ".") != "public.bump" {
				return false
			}
		}
		return c.Statement.Incomplete == ""
	}})
	if _, err := server.Psql(g.db, `CREATE PROCEDURE bump(INOUT n int, OUT m text) LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE orders SET note = 'bumped' WHERE id = n; COMMIT; n := n + 1; m := 'done'; END $$;
		ALTER PROCEDURE bump SECURITY INVOKER; CREATE PROCEDURE wipe() LANGUAGE sql AS 'DELETE FROM items'; GRANT UPDATE ON orders TO app`); err != nil {
		t.Fatal(err)
	}
	out := g.psql(t, "call bump(3, null);\nselect note from orders where id = 3;\ncall wipe();\nselect count(*) > 0 from items;\nbegin;\ncall bump(4, null);\nrollback;\nselect 'on';\n")
	for _, want := range []string{"4|done", "bumped", "not in the task", "t\n", "ROLLBACK", "on"} {
		i := strings.Index(out, want)
		if i < 0 {
			t.Fatalf("no %q (in order) in\n%s", want, out)
		}
		out = out[i:]
	}
	c := g.connect(t)
	var n int
	var m string
	if err := c.QueryRow(context.Background(), "call bump($1, null)", 7).Scan(&n, &m); err != nil || n != 8 || m != "done" {
		t.Errorf("%d %q %v", n, m, err)
	}
	if _, err := c.Exec(context.Background(), "call wipe()"); code(err) != "42501" {
		t.Error(err)
	}
}

// TestThroughViewsByPsql: writes through views, rows as they were, plans of
// prepared statements and refusals that say what to do, in a real client.
func TestThroughViewsByPsql(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if _, err := server.Psql(g.db, `CREATE VIEW mine AS SELECT id, status, note FROM orders WHERE id < 100 WITH CHECK OPTION; GRANT ALL ON mine TO app`); err != nil {
		t.Fatal(err)
	}
	out := g.psql(t, `update mine set note = 'v' where id = 5 returning id, note;
prepare p(int) as select status from mine where id = $1;
explain (costs off) execute p(5);
execute p(5);
select table_name, view_definition is null from information_schema.views where table_name = 'mine';
select * from information_schema.columns where table_name = 'mine' and column_name = 'note' \gx
create temp table x as select 1;
select * from x;
select (o).status from orders o where id = 5;
`)
	for _, want := range []string{"5|v", "UPDATE 1", "PREPARE", "Scan", "shipped", "mine|t", "column_default|", "is_updatable|YES", "SELECT 1", "1", "shipped"} {
		i := strings.Index(out, want)
		if i < 0 {
			t.Fatalf("no %q (in order) in\n%s", want, out)
		}
		out = out[i:]
	}
}
