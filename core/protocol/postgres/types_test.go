package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestTypesOfParameters: a client gives a parameter no type by its number that
// no text may name: its operators would run.
func TestTypesOfParameters(t *testing.T) {
	g := serve(t, tasked(0, policy.Rule{Verbs: []string{"select"}, Tables: []string{"public.orders"}, Columns: []string{"id"}}))
	if _, err := server.Psql(g.db, `create type pair as (a int, b int);
create table hits (what text);
create function pair_add(pair, pair) returns int language plpgsql security definer as $$ begin insert into hits values ('operator'); return 1; end $$;
create operator + (function = pair_add, leftarg = pair, rightarg = pair);
create function asks(int) returns bool language plpgsql security definer as $$ begin insert into hits values ('condition'); return true; end $$;
create domain few as int check (value < 10);
create domain asked as few check (asks(value));
create type held as (a asked);
create type spans as range (subtype = int);
create type cast_state as enum ('new');
create function as_int(cast_state) returns int language plpgsql security definer as $$ begin insert into hits values ('cast'); return 1; end $$;
create cast (cast_state as int) with function as_int(cast_state)`); err != nil {
		t.Fatal(err)
	}
	c := g.connect(t)
	for _, k := range []struct{ text, typ, value, code string }{{"select $1 + $1", "pair", "(1,2)", "42501"}, {"select $1::int", "cast_state", "new", "42501"}, {"select $1", "pair[]", "{}", ""}, {"select $1[1] + $1[1]", "pair[]", "{}", "42501"},
		{"select $1", "asked", "1", "42501"}, {"select $1", "held", "(1)", "42501"}, {"select $1", "few", "1", ""}, {"select $1", "few", "11", "23514"}, {"select $1", "spans", "[1,2)", "42501"},
		{"select $1", "order_state", "new", ""}, {"select $1", "order_state[]", "{new}", ""}, {"select $1", "int", "1", ""}} {
		var oid uint32
		if _, err := fmt.Sscan(g.counted(t, "select '"+k.typ+"'::regtype::oid"), &oid); err != nil {
			t.Fatal(err)
		}
		r := c.PgConn().ExecParams(context.Background(), k.text, [][]byte{[]byte(k.value)}, []uint32{oid}, nil, nil).Read()
		if r.Err == nil && k.code != "" || r.Err != nil && code(r.Err) != k.code {
			t.Errorf("%s of %s: %v", k.text, k.typ, r.Err)
		}
	}
	if n := g.counted(t, "select count(*) from hits"); n != "0" {
		t.Errorf("%s functions ran", n)
	}
}
