package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// tasked is a guard that judges as the tasks guard does.
func tasked(rows uint64, list ...policy.Rule) *rules {
	task := policy.Config{Tasks: map[string]*policy.Task{"x": {Rules: list}}}
	return &rules{limit: rows, allow: func(c *abi.Command) bool {
		v := abi.Verdict{}
		task.Judge(c, &v)
		return v.Decision == abi.Allow
	}}
}

var everything = []policy.Rule{{Verbs: []string{"select", "insert", "update", "delete", "truncate", "lock"}, Tables: []string{"public.orders", "public.items", "public.customers", "public.payments", "public.events", "public.open_orders"},
	Columns: []string{"*"}, Effects: []string{"public.items", "public.orders"}}}

// counted is what a query says directly at the server.
func (g *gateway) counted(t *testing.T, query string) string {
	t.Helper()
	out, err := server.Psql(g.db, query)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestPS02BitStringsThroughTheGateway: no string ends where the gateway does
// not see it end.
func TestPS02BitStringsThroughTheGateway(t *testing.T) {
	g := serve(t, tasked(0, policy.Rule{Verbs: []string{"select"}, Tables: []string{"public.items"}, Columns: []string{"*"}}))
	c := g.connect(t)
	for _, text := range []string{`select B'1''; delete from items; --'`, `select X'1''; drop table items; --'`, `select b'0'';truncate items;select b'''`, `select U&'\0027; delete from items; --'`, `select E'\'; delete from items; --'`,
		`select 'a\'; delete from items; --'`, `select N'''; delete from items; --'`, `select $a$'; delete from items; --$a$`, `select "a""; delete from items; --" from items`, "select 1 as \"\"\"; delete from items; --\"", "select /* /* */ '*/; delete from items; --' */ 1"} {
		_, _ = c.PgConn().Exec(context.Background(), text).ReadAll()
		if n := g.counted(t, "select count(*) from items"); n != "600" {
			t.Fatalf("%s: %s items are left", text, n)
		}
	}
	var v string
	if err := c.QueryRow(context.Background(), "select N'x' || B'101'::text || X'1F'::text").Scan(&v); err != nil || v != "x10100011111" {
		t.Error(v, err)
	}
}

// TestPS14KeyOfAnotherType: what the client says of a parameter's type does not
// make one key match the values around it.
func TestPS14KeyOfAnotherType(t *testing.T) {
	g := serve(t, tasked(0, policy.Rule{Verbs: []string{"delete", "update"}, Tables: []string{"public.big"}, Columns: []string{"*"}, Where: "key"}, policy.Rule{Verbs: []string{"select"}, Tables: []string{"public.big"}, Columns: []string{"*"}}))
	const float8, bpchar = 701, 1042
	if _, err := server.Psql(g.db, `create table big (id bigint primary key, code varchar unique); insert into big select 1000000000000000000 + i, 'x' || repeat(' ', i) from generate_series(1, 9) i; grant all on big to app`); err != nil {
		t.Fatal(err)
	}
	c := g.connect(t)
	ctx := context.Background()
	for _, k := range []struct {
		text  string
		oid   uint32
		value string
	}{{"delete from big where id = $1", float8, "1e18"}, {"delete from big where id = $1", 0, "1000000000000000001"}, {"update big set code = code || 'y' where code = $1", bpchar, "x"}} {
		tag := c.PgConn().ExecParams(ctx, k.text, [][]byte{[]byte(k.value)}, []uint32{k.oid}, nil, nil).Read()
		if n := tag.CommandTag.RowsAffected(); n > 1 {
			t.Errorf("%s with a parameter of type %d changed %d rows", k.text, k.oid, n)
		}
	}
	if n := g.counted(t, "select count(*) from big"); n != "8" {
		t.Errorf("%s rows are left", n)
	}
	if _, err := c.Exec(ctx, "prepare p(float8) as delete from big where id = $1"); err != nil {
		t.Fatal(err)
	}
	tag, _ := c.Exec(ctx, "execute p(1e18)")
	if tag.RowsAffected() > 1 {
		t.Errorf("EXECUTE deleted %d rows", tag.RowsAffected())
	}
}

// TestPS27OwnDDL: a session makes nothing of its own that a later name could
// mean: by no text, in no transaction, in no message of several.
func TestPS27OwnDDL(t *testing.T) {
	g := serve(t, tasked(0, everything...))
	if _, err := server.Psql(g.db, "grant create on schema public to app; grant temporary on database "+g.db+" to app"); err != nil {
		t.Fatal(err)
	}
	before := g.counted(t, "select count(*), sum(relnatts) from pg_class")
	for _, ddl := range []string{"create view v as select card as id from customers", "create temp view orders as select card as id from customers", "create temp table orders as select card as id from customers", "create table pg_temp.orders (id text)", "select card as id into temp orders from customers",
		"alter table orders rename column note to id2", "alter view open_orders rename column email to x", "create or replace view open_orders as select id, status, card as name, email from customers", "drop view open_orders", "create rule r as on insert to items do also select card from customers",
		"create function length(varchar) returns int language sql as 'select 1'", "alter table customers disable row level security", "create cast (int as text) with inout as implicit", "comment on table orders is 'x'"} {
		for _, text := range []string{ddl, "begin; " + ddl + "; select id from orders", "begin; savepoint s; " + ddl + "; commit", "select 1; " + ddl, "prepare p as " + ddl, "explain analyze " + ddl, "do $$ begin " + ddl + "; end $$"} {
			c := g.connect(t)
			_, err := c.PgConn().Exec(context.Background(), text).ReadAll()
			if k := code(err); k != "42501" && k != "42601" && k != "0A000" {
				t.Errorf("%s: %v", text, err)
			}
			_, _ = c.PgConn().Exec(context.Background(), "rollback").ReadAll()
			_ = c.Close(context.Background())
		}
		c := g.connect(t) // and in a transaction that goes on, text by text
		for i, text := range []string{"begin", ddl, "select id from orders limit 1", "commit"} {
			_, err := c.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol)
			if want := []string{"", "42501", "25P02", ""}[i]; want != "" && code(err) != want && (i != 1 || code(err) != "0A000") {
				t.Errorf("%s in the transaction of %s: %v", text, ddl, err)
			}
		}
	}
	if after := g.counted(t, "select count(*), sum(relnatts) from pg_class"); after != before {
		t.Errorf("the catalog is another: %s, %s", before, after)
	}
}

// TestPS28TwoPhase: no transaction outlives its session, nobody ends another's,
// and none begins unseen behind COMMIT.
func TestPS28TwoPhase(t *testing.T) {
	g := serve(t, tasked(0, everything...))
	c := g.connect(t)
	ctx := context.Background()
	simple := func(text string) string {
		_, err := c.PgConn().Exec(ctx, text).ReadAll()
		return code(err)
	}
	for _, end := range []string{"prepare transaction 'x'", "commit prepared 'x'", "rollback prepared 'x'", "commit and chain", "rollback and chain", "end and chain", "abort and chain"} {
		for _, frame := range []string{"begin; update orders set note = 'held' where id = 1; %s", "begin; savepoint a; update orders set note = 'held' where id = 1; select 1; %s; select 2", "%s", "select 1; %s"} {
			if got := simple(fmt.Sprintf(frame, end)); got != "42501" {
				t.Errorf(frame+": %s", end, got)
			}
			_ = simple("rollback")
		}
		_ = simple("begin")
		_ = simple("update orders set note = 'held' where id = 1")
		if got := simple(end); got != "42501" {
			t.Errorf("%s in a transaction: %s", end, got)
		}
		if got := c.PgConn().TxStatus(); got != 'E' {
			t.Errorf("%s leaves the transaction %c", end, got)
		}
		_ = simple("commit") // of a transaction that has failed
		if n := g.counted(t, "select (select count(*) from orders where note = 'held') + (select count(*) from pg_prepared_xacts)"); n != "0" {
			t.Errorf("%s: %s", end, n)
		}
	}
	if got := simple("commit and no chain"); strings.HasPrefix(got, "42") {
		t.Error(got)
	}
}

// TestPS29RowLimit: however they are asked for, no more rows are shown than the
// limit says, and the client is told. (That the rows of a RETURNING are
// changed by then is in docs/limits.md.)
func TestPS29RowLimit(t *testing.T) {
	g := serve(t, tasked(5, everything...))
	ctx := context.Background()
	for name, texts := range map[string][]string{
		"one message":       {"begin; update orders set note = 'over' returning id; commit"},
		"text by text":      {"begin", "update orders set note = 'over' returning id", "commit"},
		"WITH":              {"with u as (update orders set note = 'over' returning id) select * from u"},
		"by itself":         {"update orders set note = 'over' returning id"},
		"a cursor":          {"begin; declare k cursor for select id from orders", "fetch 4 from k", "fetch 4 from k"},
		"a cursor, at once": {"begin; declare k cursor for select id from orders; fetch 4 from k; fetch 4 from k; commit"},
		"two statements":    {"select id from orders where id < 4; select id from orders where id < 5"},
		"a prepared one":    {"prepare p as select id from orders", "execute p"},
		"insert":            {"insert into orders (customer_id, total) select customer_id, total from orders returning id"},
	} {
		c := g.connect(t)
		shown, told := 0, ""
		for _, text := range texts {
			results, err := c.PgConn().Exec(ctx, text).ReadAll()
			for _, r := range results {
				shown += len(r.Rows)
			}
			if err != nil && told == "" {
				told = code(err)
			}
		}
		if told != "42501" || shown > 5 {
			t.Errorf("%s: %d rows, %s", name, shown, told)
		}
		_ = c.Close(ctx)
	}
	var out strings.Builder
	if _, err := g.connect(t).PgConn().CopyTo(ctx, &out, "copy (select id from orders) to stdout"); code(err) != "42501" || strings.Count(out.String(), "\n") > 5 {
		t.Errorf("COPY: %v %q", err, out.String())
	}
	b := &pgx.Batch{}
	b.Queue("select 1")
	b.Queue("update orders set note = 'over' where id < 100 returning id")
	b.Queue("select 1")
	if err := g.connect(t).SendBatch(ctx, b).Close(); code(err) != "42501" {
		t.Errorf("a pipeline: %v", err)
	}
}

func rowsOf(t *testing.T, db, text string) string {
	t.Helper()
	out, err := server.Psql(db, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPS29WhatIsToldHasNotHappened: rows that a RETURNING shows beyond the limit
// are not kept by the COMMIT that follows, since the session ends with them.
func TestPS29WhatIsToldHasNotHappened(t *testing.T) {
	g := serve(t, tasked(5, everything...))
	ctx := context.Background()
	for _, texts := range [][]string{
		{"begin", "update orders set note = 'over' returning id", "commit"},
		{"begin", "insert into orders (customer_id, total) select customer_id, total from orders returning id", "commit"},
	} {
		before := rowsOf(t, g.db, "select md5(array_agg(o order by id)::text) from orders o")
		c := g.connect(t)
		var told error
		for _, text := range texts {
			if _, err := c.Exec(ctx, text); err != nil && told == nil {
				told = err
			}
		}
		_ = c.Close(ctx)
		if code(told) != "42501" {
			t.Errorf("%s: %v", texts[1], told)
		}
		if after := rowsOf(t, g.db, "select md5(array_agg(o order by id)::text) from orders o"); after != before {
			t.Errorf("%s: it has happened", texts[1])
		}
	}
}

// TestPS30Unrun: nothing that is refused runs a function on the way: not by
// EXPLAIN, by Parse with constants, by Bind alone, nor by Describe.
func TestPS30Unrun(t *testing.T) {
	g := serve(t, tasked(0, everything...))
	if _, err := server.Psql(g.db, `create sequence ran; grant all on ran to app;
		create function vol() returns int volatile language sql as 'select nextval(''ran'')::int'; create function imm(int) returns int immutable language plpgsql as $$ begin return vol(); end $$;
		create function stab() returns int stable language plpgsql as $$ begin return vol(); end $$; create operator ### (rightarg = int, function = imm); create type st as enum ('a');
		create function tost(int) returns st language plpgsql as $$ begin perform vol(); return 'a'; end $$; create cast (int as st) with function tost(int);
		create domain dom as int check (imm(value) > 0); create view w as select imm(1) as id; grant all on w to app; create table def (id int default vol(), g int generated always as (imm(id)) stored); grant all on def to app`); err != nil {
		t.Fatal(err)
	}
	c := g.connect(t)
	ctx := context.Background()
	for _, e := range []string{"imm(1)", "vol()", "stab()", "imm($1::int)", "### 1", "1::st", "cast(1 as st)", "1::dom", "dom(1)", "(select id from w)", "imm(1) over ()", "coalesce(imm(1), 2)"} {
		for _, frame := range []string{"explain select %s", "explain (verbose, costs off) select 1 where %s is null", "explain update orders set total = 1 where %s is null", "explain delete from orders where id = 1 and %s is null", "select %s", "select id from orders where %s is null", "update orders set total = 1 where %s is null",
			"prepare p as select %s", "declare k cursor for select %s", "insert into orders (customer_id, total) values (1, 1) on conflict (id) do update set note = 'x' where %s is null", "explain analyze select %s", "copy (select %s) to stdout"} {
			text := fmt.Sprintf(frame, e)
			_, _ = c.PgConn().Exec(ctx, text).ReadAll()
			if sd, err := c.PgConn().Prepare(ctx, "", text, nil); err == nil {
				_ = c.PgConn().ExecPrepared(ctx, "", make([][]byte, len(sd.ParamOIDs)), nil, nil).Read()
			}
			wire := join(parseMsg("s", text), bindMsg("x", "s"), message('D', "Px\x00"), message('C', "Px\x00"), sync_())
			if _, err := c.PgConn().Conn().Write(wire); err != nil {
				t.Fatal(err)
			}
			for ready := false; !ready; {
				m, err := c.PgConn().ReceiveMessage(ctx)
				if err != nil {
					t.Fatal(text, err)
				}
				ready = fmt.Sprintf("%T", m) == "*pgproto3.ReadyForQuery"
			}
			_, _ = c.PgConn().Exec(ctx, "rollback; deallocate all").ReadAll()
		}
	}
	for _, text := range []string{"insert into def values (1)", "insert into def default values", "explain insert into def (id) values (1)", "copy def from stdin"} {
		_, err := c.PgConn().Exec(ctx, text).ReadAll()
		if code(err) != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
	if out := g.counted(t, "select is_called from ran"); out != "f" {
		t.Error("a function ran that no task lists")
	}
	// The gateway's own looks at the schema run none either.
	if _, err := server.Psql(g.db, "create index on def (imm(id)) where imm(id) > 0; alter table def add check (imm(id) > 0)"); err != nil {
		t.Fatal(err)
	}
	c2 := g.connect(t)
	if _, err := c2.Exec(ctx, "select id from orders limit 1"); err != nil {
		t.Error(err)
	}
	if out := g.counted(t, "select is_called from ran"); out != "f" {
		t.Error("the gateway itself ran one")
	}
}

func message(kind byte, body string) []byte { return frame(kind, []byte(body)) }
