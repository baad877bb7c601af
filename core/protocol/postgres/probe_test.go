package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// probing is a gateway at whose resource the server is asked what texts read.
func probing(t *testing.T, analyze func(*sql.Context, string) (*sql.Analysis, error)) *gateway {
	t.Helper()
	guard := &rules{allow: func(c *abi.Command) bool { return true }}
	g := serve(t, guard)
	g.protocol.analyze = analyze
	g.options(guard, TaskOptions{Introspect: true}, ResourceOptions{Probe: true}, "probe")
	return g
}

// TestProbe: what the server itself makes of texts is what was judged, so that
// they pass; once a text, and nothing of it stays.
func TestProbe(t *testing.T) {
	g := probing(t, nil)
	c := g.connect(t)
	before := uint64(0)
	asked := func(text string, times uint64) {
		t.Helper()
		if n := g.protocol.Probes().Agreed; n != before+times {
			t.Errorf("%s: the server was asked %d times, not %d", text, n-before, times)
		} else {
			before = n
		}
	}
	for _, text := range []string{"select id, status from orders where id = $1", "select o.*, c.name from orders o join customers c on c.id = o.customer_id where o.id = $1", "select count(*) from orders where id = $1 and exists (select from items i where i.order_id = orders.id)",
		"with w as (update orders set note = 'x' where id = $1 returning id, note) select w.* from w", "insert into items (order_id, sku, quantity, price) values ($1, 'a', 1, 2.5)", "select x from generate_series(1, $1::int) x", "select 'orders'::regclass::text where $1 > 0",
		"select relname from pg_class where oid = 'public.orders'::regclass and $1 > 0", "select o from orders o where id = $1", "select id, customer_id, name from orders join customers using (id) where id = $1"} {
		for range 2 {
			if _, err := c.Exec(t.Context(), text, 1); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
		asked(text, 1)
	}
	for text, times := range map[string]uint64{"explain select name from customers": 1, "copy (select id, sku from items) to stdout": 1, "declare d cursor with hold for select id from payments; fetch d": 1, "prepare p as select card from customers where id = $1; execute p(1)": 1,
		"values (1), (2)": 1, "table payments; table items": 2, "begin; commit": 0, "show search_path": 0, "explain analyze select name from customers": 0, "select purge()": 0} {
		if _, err := c.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		asked(text, times)
	}
	if n := g.protocol.Probes(); n.Disagreed != 0 || n.Failed != 0 || n.Left == 0 {
		t.Errorf("%+v", n)
	}
	if out, err := server.Psql(g.db, "select count(*) from pg_proc where proname like 'taskgate%'"); err != nil || strings.TrimSpace(out) != "0" {
		t.Error(out, err)
	}
	// The server's own words for what is wrong are the client's.
	for text, want := range map[string]string{"select id + name from customers": "42883", "select id, count(*) from customers": "42803", "select nope from customers": "42703"} {
		if _, err := c.Exec(t.Context(), text); code(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	if !g.log.has(func(e *gate.Event) bool { return strings.Contains(fmt.Sprint(*e), "asks the server what a text reads") }) {
		t.Error("the log does not know of it")
	}
}

// blinkered is an analysis that has missed something: a column, a relation, or
// where a column of the result comes from.
func blinkered(miss func(*abi.Statement)) func(*sql.Context, string) (*sql.Analysis, error) {
	return func(c *sql.Context, text string) (*sql.Analysis, error) {
		a, err := sql.Analyze(c, text)
		if err == nil {
			miss(a.Statement)
			for i := range a.Parts {
				if in := a.Parts[i].Inner; in != nil {
					miss(in.Statement)
				}
			}
		}
		return a, err
	}
}

// without takes a column out of all that is known of a text.
func without(column string) func(*abi.Statement) {
	return func(st *abi.Statement) {
		for i := range st.Operations {
			o := &st.Operations[i]
			o.Columns = slices.DeleteFunc(o.Columns, func(c abi.Column) bool { return c.Name == column })
		}
		for i := range st.Outputs {
			of := func(s abi.Source) bool { return s.Column == column }
			st.Outputs[i].Copies, st.Outputs[i].Computed = slices.DeleteFunc(st.Outputs[i].Copies, of), slices.DeleteFunc(st.Outputs[i].Computed, of)
		}
	}
}

// TestProbeCatches: with an analysis that is wrong on purpose, a text whose
// reading differs is refused on every path, and the operator is told.
func TestProbeCatches(t *testing.T) {
	relation := func(st *abi.Statement) {
		st.Operations = slices.DeleteFunc(st.Operations, func(o abi.Operation) bool { return slices.Contains(o.Object, "customers") })
	}
	source := func(st *abi.Statement) { // the column is known to be read, and not to be shown
		for i := range st.Outputs {
			st.Outputs[i].Copies, st.Outputs[i].Computed = nil, nil
		}
	}
	for _, k := range []struct {
		name  string
		miss  func(*abi.Statement)
		what  string
		texts []string
	}{
		{"column", without("card"), "the column public.customers.card", []string{"select name, card from customers", "select id from orders o where exists (select from customers c where c.card like '4111%')", "copy (select card from customers) to stdout", "prepare p as select card from customers",
			"declare c cursor with hold for select card from customers", "explain select card from customers", "select upper(x) from (select * from customers) c (a, b, c, x)", "update customers set name = card", "insert into customers (name, email) select card, id from customers", "with x as (select card from customers) select count(*) from x",
			"select id from customers order by card", "insert into customers (name, email, card) values ('a', 'b', 'c')", "merge into orders using customers c on c.id = customer_id when matched and c.card > '4' then update set note = 'x'"}},
		{"relation", relation, "the relation public.customers", []string{"select count(*) from customers", "select 1 from orders where exists (select from customers)", "select o.id from orders o, customers"}},
		{"source", source, "in its column", []string{"select card from customers", "select id, case when card > '5' then 1 else 0 end from customers", "copy (select card from customers) to stdout"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			g := probing(t, blinkered(k.miss))
			c := g.connect(t)
			for i, text := range k.texts {
				var errs []error
				_, err := c.PgConn().Exec(t.Context(), text).ReadAll()
				errs = append(errs, err)
				if !strings.HasPrefix(text, "copy") {
					_, err = c.PgConn().Prepare(t.Context(), "", text, nil)
					errs = append(errs, err)
				}
				for _, err := range errs {
					if code(err) != "42501" || !strings.Contains(err.Error(), k.what) {
						t.Errorf("%s: %v", text, err)
					}
				}
				if n := strings.Count(g.said(), "alarm: alarm: the server reads a text otherwise than it was judged"); n < i+1 {
					t.Errorf("%s: %d alarms", text, n)
				}
			}
			if n := g.protocol.Probes(); n.Disagreed < uint64(len(k.texts)) || n.Agreed != 0 {
				t.Errorf("%+v", n)
			}
			if _, err := c.PgConn().Exec(t.Context(), "select id from orders").ReadAll(); err != nil && k.name != "source" {
				t.Errorf("the session does not go on: %v", err)
			}
			g.options(&rules{allow: func(*abi.Command) bool { return true }}, TaskOptions{Introspect: true}, ResourceOptions{}, "trusting")
			d := g.connect(t)
			for _, text := range k.texts { // or this test would show nothing
				if _, err := d.PgConn().Exec(t.Context(), "begin; "+text).ReadAll(); err != nil && code(err) != "23505" {
					t.Errorf("%s, where the server is not asked: %v", text, err)
				}
				_, _ = d.PgConn().Exec(t.Context(), "rollback").ReadAll()
			}
		})
	}
}

// TestProbeFailsClosed: a server that cannot be asked is no reason to let a text
// through.
func TestProbeFailsClosed(t *testing.T) {
	g := probing(t, nil)
	c := g.connect(t)
	if _, err := c.Exec(t.Context(), "select id from orders where id = 1"); err != nil {
		t.Fatal(err)
	}
	if out, err := server.Psql(g.db, "REVOKE TEMPORARY ON DATABASE "+g.db+" FROM PUBLIC"); err != nil {
		t.Fatal(out, err)
	}
	for _, text := range []string{"select id from orders where id = 2", "update orders set note = 'x'"} {
		if _, err := c.Exec(t.Context(), text); code(err) != "42501" || !strings.Contains(err.Error(), "probe: on") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := c.Exec(t.Context(), "select id from orders where id = 1"); err != nil {
		t.Errorf("what is known: %v", err)
	}
	if n := g.protocol.Probes(); n.Failed != 2 || !strings.Contains(g.said(), "probe: ERROR: permission denied") {
		t.Errorf("%+v %s", n, g.said())
	}
}
