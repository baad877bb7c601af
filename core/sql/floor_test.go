package sql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// generator makes texts over the shop that are mostly valid.
type generator struct{ *rand.Rand }

func (g generator) one(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) column(alias string) string {
	cols := []string{"id", "name", "email", "card", "national_id", "status", "created"}
	if alias == "o" {
		cols = []string{"id", "customer_id", "status", "total", "note", "created"}
	}
	return alias + "." + g.one(cols...)
}

func (g generator) expr(a string, depth int) string {
	if depth <= 0 {
		return g.one(g.column(a), g.column(a), "1", "'x'", "null")
	}
	e := func() string { return g.expr(a, depth-1) }
	switch g.IntN(14) {
	case 0:
		return "lower(" + e() + "::text)"
	case 1:
		return "coalesce(" + e() + "::text, " + e() + "::text)"
	case 2:
		return "(case when " + g.cond(a, depth-1) + " then " + e() + "::text else 'n' end)"
	case 3:
		return "(select " + g.expr("i", 0) + " from " + g.table("i") + " where " + g.cond("i", 0) + " limit 1)"
	case 4:
		return "exists (select from " + g.table("i") + " where i.id = " + a + ".id)"
	case 5:
		return a + "::text"
	case 6:
		return "array[" + e() + "::text]"
	case 7:
		return "row(" + e() + ", 2)::text"
	case 8:
		return "to_jsonb(" + a + ") ->> 'status'"
	}
	return g.column(a)
}

func (g generator) table(alias string) string {
	name := "customers"
	if alias == "o" {
		name = "orders"
	}
	return g.one(name, "public."+name, `"`+name+`"`, "only "+name) + g.one(" ", " as ") + alias
}

func (g generator) cond(a string, depth int) string {
	return g.one(g.column(a)+"::text = 'x'", g.column(a)+" is null", a+".id = "+g.one("1", "2", "$1"), a+".id in (select id from orders)", "true", a+".id = "+a+".id",
		g.column(a)+"::text like '4%'", "not ("+a+".id > 3)", g.expr(a, depth-1)+" is not null")
}

func (g generator) query(depth int) string {
	a := g.one("c", "o")
	from := g.table(a)
	switch g.IntN(5) {
	case 0:
		b := map[string]string{"c": "o", "o": "c"}[a]
		from += g.one(" join ", " left join ", " full join ") + g.table(b) + g.one(" on c.id = o.customer_id", " using (id)", " on true")
	case 1:
		from = "(select * from " + g.table("q") + ") " + a
		if a == "o" {
			from = "(select * from orders) o"
		}
	}
	list := g.one("*", a+".*", g.expr(a, depth), g.expr(a, depth)+" as x, "+g.expr(a, depth), "count(*)", "max("+g.column(a)+"::text)")
	q := "select " + list + " from " + from
	if g.IntN(2) == 0 {
		q += " where " + g.cond(a, depth)
	}
	switch g.IntN(8) {
	case 0:
		q += " order by " + g.expr(a, 1)
	case 1:
		q = "with w as (" + q + ") select " + g.one("*", "count(*)", "1") + " from w"
	case 2:
		q += g.one(" union all ", " union ", " except ") + "select 'k'"
	case 3:
		q = "select * from (" + q + ") z"
	}
	return q
}

func (g generator) statement() string {
	switch g.IntN(6) {
	case 0:
		return "update customers c set status = " + g.expr("c", 1) + "::text where " + g.one("c.id = 1", g.cond("c", 1)) + g.one("", "", " returning "+g.expr("c", 1))
	case 1:
		return "insert into orders as o (customer_id, total, status) values (1, 2, 'x')" + g.one("", " returning "+g.expr("o", 1), " on conflict (id) do nothing", " on conflict (id) do update set status = excluded.status where "+g.cond("o", 0))
	case 2:
		return "insert into orders (customer_id, total) select " + g.one("id", "1") + ", 1 from " + g.table("c") + " where " + g.cond("c", 1)
	}
	return g.query(2)
}

// TestNativeFloor: a role with the column GRANTs that say what the task says.
// Whatever that role is refused, the analysis must not have allowed.
func TestNativeFloor(t *testing.T) {
	base := loaded(t)
	if _, err := server.Psql("shop", `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'narrow') THEN CREATE ROLE narrow LOGIN PASSWORD '`+server.Password+`'; END IF; END $$;
		GRANT USAGE ON SCHEMA public TO narrow; GRANT SELECT (id, name, status), UPDATE (status) ON customers TO narrow;
		GRANT SELECT (id, customer_id, status, total), INSERT (customer_id, total, status), UPDATE (status) ON orders TO narrow; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO narrow;`); err != nil {
		t.Fatal(err)
	}
	task := policy.Config{Tasks: map[string]*policy.Task{"n": {Rules: []policy.Rule{
		{Verbs: []string{"select"}, Tables: []string{"public.customers"}, Columns: []string{"id", "name", "status"}},
		{Verbs: []string{"update"}, Tables: []string{"public.customers"}, Columns: []string{"status"}},
		{Verbs: []string{"select"}, Tables: []string{"public.orders"}, Columns: []string{"id", "customer_id", "status", "total"}},
		{Verbs: []string{"insert"}, Tables: []string{"public.orders"}, Columns: []string{"customer_id", "total", "status"}},
		{Verbs: []string{"update"}, Tables: []string{"public.orders"}, Columns: []string{"status"}},
	}}}}
	conn, err := pgx.Connect(context.Background(), server.URL("narrow", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	g := generator{rand.New(rand.NewPCG(1, 2))}
	allowed, refusedBoth := 0, 0
	for range 4000 {
		text := strings.ReplaceAll(g.statement(), "$1", "1")
		a, err := sql.Analyze(base, text)
		v := abi.Verdict{Decision: abi.Deny}
		canonical := text
		if err == nil {
			task.Judge(&abi.Command{Session: &abi.Session{Task: "n"}, Statement: a.Statement}, &v)
			canonical = a.Statement.Canonical
		}
		_, err = conn.PgConn().Exec(context.Background(), "begin; "+canonical).ReadAll()
		_, _ = conn.PgConn().Exec(context.Background(), "rollback").ReadAll()
		var e *pgconn.PgError
		refused := errors.As(err, &e) && e.Code == "42501"
		switch {
		case v.Decision == abi.Allow && refused:
			t.Fatalf("allowed, and the role is refused: %s\n%s\n%v", text, render(a, nil), err)
		case v.Decision == abi.Allow && err == nil:
			allowed++
		case refused:
			refusedBoth++
		}
	}
	if allowed < 100 || refusedBoth < 500 {
		t.Error(fmt.Sprint("too few cases say anything: ", allowed, " ran, ", refusedBoth, " were refused by both"))
	}
	t.Log(allowed, "allowed and ran,", refusedBoth, "refused by both")
}
