package sql_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
)

// TestOutputNames: output columns are called as the server calls them, as
// written and as forwarded, so that a query around them finds them.
func TestOutputNames(t *testing.T) {
	c := loaded(t)
	conn, err := pgx.Connect(context.Background(), server.URL("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	names := func(text string) (out []string) {
		d, err := conn.PgConn().Prepare(context.Background(), "", text, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, f := range d.Fields {
			out = append(out, f.Name)
		}
		return out
	}
	for _, text := range []string{
		"select id, o.status, (note), total::text, cast(total as numeric(4,1)), note collate \"C\", upper(note), pg_catalog.lower(note) from orders o",
		"select 1, '1'::int, int '1', 1::integer, 1::character varying, 'now'::timestamp with time zone, true, null, 'x' || 'y', -1, 2::double precision, interval '1 day', '1'::bit varying, 'x'::pg_catalog.text, '{1}'::int[]",
		"select case when true then 1 end, case when true then 1 else total end from orders",
		"select (select max(id) from orders), (select id as x from orders limit 1), exists (select 1), array(select 1), array[1], row(1, 2), (1, 2), (array[1])[1]",
		"select coalesce(note, 'x'), nullif(1, 2), greatest(1, 2), least(1, 2), extract(day from created), substring(note from 1 for 2), trim(note), trim(leading from note), trim(trailing 'x' from note), position('a' in note), overlay(note placing 'x' from 1) from orders",
		"select current_date, current_user, session_user, localtimestamp, current_schema, now() at time zone 'utc', count(*), count(*) over (), sum(total) filter (where true) from orders group by id, created, note, total",
		"select proname, prosrc, (proargdefaults), proconfig::text, pg_get_expr(proargdefaults, 0), pg_get_function_arguments(oid) as x, coalesce(prosrc, 'y') from pg_proc order by prosrc", "select (select prosrc from pg_proc limit 1), (select (prosrc)::varchar from pg_proc limit 1)",
		"select * from pg_namespace", "select p.*, 1 from pg_proc p join pg_namespace n on true", "select * from pg_class left join (select oid, 1 as k from pg_am) a using (oid)", "select * from orders join items using (id)", "select * from items i natural join (select 1 as quantity, 'x' as sku, 1 as z) x", "select * from (orders o join (select 'x' as status, 2 as y) p using (status)) join (select 1 as y) q using (y)", "select * from (items join orders using (id)) as j",
		"select * from information_schema.columns", "select pg_constraint.* from pg_constraint", "select * from pg_catalog.pg_class natural join pg_am", "select x.* from pg_type as x(a, b)",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		want, sent := names(text), names(a.Statement.Canonical)
		for i := range max(len(want), len(sent), len(a.Statement.Outputs)) {
			if i >= len(want) || i >= len(sent) || i >= len(a.Statement.Outputs) || sent[i] != want[i] || a.Statement.Outputs[i].Name != want[i] {
				t.Errorf("%s\n%s\nserver: %q\nforwarded: %q\nread: %+v", text, a.Statement.Canonical, want, sent, a.Statement.Outputs)
				break
			}
		}
	}
}
