package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// namesOf are texts that name things, and use the names.
var namesOf = map[string]conversation{
	"PW28 prepare and execute":                    {join(query("prepare p as select id from orders where id = $1"), query("execute p(1)"), query("deallocate p"), query("execute p(1)")), 4, "C ZI T D C ZI C ZI E26000 ZI"},
	"PW28 in one text":                            {query("prepare p as select 1; execute p; deallocate p"), 1, "C T D C C ZI"},
	"PW28 judged when executed":                   {join(query("prepare p as delete from orders"), query("execute p")), 2, "E42501 ZI E26000 ZI"},
	"PW28 of the protocol":                        {join(parseMsg("p", "select 1"), sync_(), query("execute p"), query("deallocate p"), bindMsg("", "p"), sync_()), 4, "1 ZI T D C ZI C ZI E26000 ZI"},
	"PW28 by the protocol":                        {join(query("prepare p as select 1"), bindMsg("", "p"), executeMsg(""), sync_()), 2, "C ZI 2 D C ZI"},
	"PW28 in a pipeline":                          {join(parseMsg("", "prepare p as select 1"), bindMsg("", ""), executeMsg(""), parseMsg("", "execute p"), bindMsg("", ""), executeMsg(""), sync_()), 1, "1 2 C 1 2 D C ZI"},
	"a name that changes under a portal":          {join(query("prepare p as select 1"), query("begin"), parseMsg("s", "execute p"), bindMsg("x", "s"), sync_(), query("deallocate p"), query("prepare p as select 2"), executeMsg("x"), sync_(), query("rollback")), 7, "C ZI C ZT 1 2 ZT C ZT C ZT E34000 ZE C ZI"},
	"an argument that is none, of no name":        {join(parseMsg("", "execute nope(1 + 1)"), sync_(), parseMsg("", "execute nope(1)"), sync_()), 2, "E42501 ZI 1 ZI"},
	"a prepare that fails":                        {join(query("prepare p as select 1"), query("begin"), query("select 1/0"), query("deallocate p"), query("rollback"), query("execute p")), 6, "C ZI C ZT E22012 ZE E25P02 ZE C ZI T D C ZI"},
	"half of a text":                              {join(query("prepare p as select 1; select 1/0; deallocate p"), query("execute p")), 2, "C E22012 ZI T D C ZI"},
	"a name twice":                                {join(query("prepare p as select 1"), query("prepare p as select 2"), parseMsg("p", "select 3"), sync_()), 3, "C ZI E42P05 ZI E42P05 ZI"},
	"PW28 discard all":                            {join(parseMsg("p", "select 1"), sync_(), query("discard all"), query("execute p"), query("prepare p as select 2"), query("execute p")), 5, "1 ZI C ZI E26000 ZI C ZI T D C ZI"},
	"PW31 a cursor":                               {join(query("begin"), query("declare c cursor for select id from orders order by id"), query("fetch 2 from c"), query("move 1 in c"), query("fetch c"), query("close c"), query("fetch c"), query("rollback")), 8, "C ZT C ZT T D D C ZT C ZT T D C ZT C ZT E34000 ZE C ZI"},
	"PW31 in pg_cursors":                          {query("begin; declare c cursor for select 1; select name from pg_cursors where name = 'c' and statement is null; commit"), 1, "C C T D C C ZI"},
	"PW31 in one text":                            {query("begin; declare c cursor for select 1; fetch c; commit"), 1, "C C T D C C ZI"},
	"PW31 a cursor ends with its transaction":     {join(query("begin"), query("declare c cursor for select 1"), query("commit"), query("fetch c")), 4, "C ZT C ZT C ZI E34000 ZI"},
	"PW31 with hold":                              {join(query("begin"), query("declare c cursor with hold for select id from orders"), query("commit"), query("fetch c"), query("begin"), query("rollback"), query("fetch c"), query("close all"), query("fetch c")), 9, "C ZT C ZT C ZI T D C ZI C ZT C ZI T D C ZI C ZI E34000 ZI"},
	"PW31 with hold, rolled back":                 {join(query("begin"), query("declare c cursor with hold for select 1"), query("rollback"), query("fetch c")), 4, "C ZT C ZT C ZI E34000 ZI"},
	"PW31 savepoints":                             {join(query("begin"), query("savepoint s"), query("declare c cursor for select 1"), query("rollback to s"), query("declare c cursor for select 2"), query("fetch c"), query("rollback")), 7, "C ZT C ZT C ZT C ZT C ZT T D C ZT C ZI"},
	"PW31 in a pipeline":                          {join(parseMsg("", "begin"), bindMsg("", ""), executeMsg(""), parseMsg("", "declare c cursor for select 1"), bindMsg("", ""), executeMsg(""), parseMsg("", "fetch c"), bindMsg("", ""), executeMsg(""), sync_(), query("rollback")), 2, "1 2 C 1 2 C 1 2 D C ZT C ZI"},
	"a cursor's name for a portal":                {join(query("begin"), query("declare c cursor for select 1"), parseMsg("", "select 2"), bindMsg("c", ""), sync_(), query("rollback")), 4, "C ZT C ZT 1 E42P03 ZE C ZI"},
	"a portal twice, behind a savepoint":          {join(query("begin"), parseMsg("a", "select 1"), parseMsg("b", "select id from orders"), bindMsg("x", "a"), sync_(), query("savepoint s"), bindMsg("x", "b"), sync_(), query("rollback to s"), executeMsg("x"), sync_(), query("rollback")), 7, "C ZT 1 1 2 ZT C ZT E42P03 ZE C ZT D C ZT C ZI"},
	"a bind that fails, then again":               {join(query("begin"), query("savepoint s"), parseMsg("a", "select 1/0"), bindMsg("x", "a"), executeMsg("x"), sync_(), query("rollback to s"), parseMsg("b", "select 1"), bindMsg("x", "b"), executeMsg("x"), sync_(), query("rollback")), 6, "C ZT C ZT 1 E22012 ZE C ZT 1 2 D C ZT C ZI"},
	"a cursor of a portal of the protocol":        {join(query("begin"), parseMsg("", "select 1"), bindMsg("x", ""), sync_(), query("fetch x"), query("rollback")), 4, "C ZT 1 2 ZT E0A000 ZE C ZI"},
	"PW31 closed by the protocol":                 {join(query("begin"), query("declare c cursor for select 1"), frame('C', []byte("Pc\x00")), sync_(), query("declare c cursor for select 2"), query("fetch c"), query("rollback")), 6, "C ZT C ZT 3 ZT C ZT T D C ZT C ZI"},
	"PW28 closed by the protocol":                 {join(parseMsg("", "prepare p as select 1"), bindMsg("", ""), executeMsg(""), frame('C', []byte("Sp\x00")), parseMsg("p", "select 2"), sync_()), 1, "1 2 C 3 1 ZI"},
	"PW24 a name that is too long":                {join(parseMsg(long, "select 1"), sync_(), query("select 1")), 2, "E42622 ZI T D C ZI"},
	"PW25 search_path":                            {join(query("set search_path = app"), query("select id from orders"), query("set search_path = public"), query("select 1 from orders limit 0"), query("reset search_path")), 5, "C ZI E42P01 ZI C ZI T C ZI C ZI"},
	"PW25 search_path in a transaction":           {join(query("begin"), query("set local search_path = app"), query("savepoint s"), query("set search_path = public"), query("select 1 from orders limit 0"), query("rollback to s"), query("select id from orders"), query("rollback"), query("select 1 from orders limit 0")), 9, "C ZT C ZT C ZT C ZT T C ZT C ZT E42P01 ZE C ZI T C ZI"},
	"PW25 search_path in a failed text":           {join(query("set search_path = app; select 1/0"), query("select 1 from orders limit 0")), 2, "C E22012 ZI T C ZI"},
	"PW25 search_path in a pipeline":              {join(parseMsg("", "set search_path = app"), bindMsg("", ""), executeMsg(""), parseMsg("", "select id from orders"), sync_(), query("select 1 from orders limit 0")), 2, "1 2 C E42P01 ZI T C ZI"},
	"PW25 search_path, rolled back in a pipeline": {join(query("set search_path = app"), query("begin"), parseMsg("a", "set search_path = public"), bindMsg("", "a"), executeMsg(""), parseMsg("b", "rollback"), bindMsg("", "b"), executeMsg(""), parseMsg("", "select id from orders"), sync_()), 3, "C ZI C ZT 1 2 C 1 2 C E42P01 ZI"},
	"lock":             {join(query("begin"), query("lock orders in access share mode"), query("rollback")), 3, "C ZT C ZT C ZI"},
	"PW32 listen":      {join(query("listen x"), query("notify x, 'secret'"), query("unlisten *")), 3, "C ZI C A ZI C ZI"},
	"poolers clean up": {join(query("reset all; close all; unlisten *; deallocate all"), query("discard all")), 2, "C C C C ZI C ZI"},
}

var long = strings.Repeat("a", 70)

// pathTricks are conversations that end in a call of evil.lower, which no task
// here allows: behind the server's function of that name, by a search path
// that the gateway does not see coming. None may answer with the card.
var pathTricks = map[string]struct {
	send  []byte
	ready int
}{
	"the path itself":         {join(query("set search_path = evil"), query("select lower(5)")), 2},
	"by a call":               {join(query("select set_config('search_path', 'evil', false)"), query("select lower(5)")), 2},
	"by a call, half fetched": {join(parseMsg("", "select set_config('search_path', 'evil', false)"), bindMsg("", ""), frame('E', []byte{0, 0, 0, 0, 1}), sync_(), query("select lower(5)")), 2},
	"by a call, unfinished":   {join(query("begin"), parseMsg("", "select pg_catalog.set_config('search_path', 'evil', true)"), bindMsg("p", ""), frame('E', []byte{'p', 0, 0, 0, 0, 1}), parseMsg("", "select lower(5)"), bindMsg("", ""), executeMsg(""), sync_(), query("rollback")), 3},
	"by a call, prepared":     {join(query("prepare p as select set_config('search_path', 'evil', false)"), query("execute p"), query("select lower(5)")), 3},
	"by a call, declared":     {join(query("begin"), query("declare c cursor for select set_config('search_path', 'evil', false)"), query("fetch c"), query("select lower(5)"), query("rollback")), 5},
	"by a call, explained":    {join(query("explain analyze select set_config('search_path', 'evil', false)"), query("select lower(5)")), 2},
	"by a call, within":       {join(query("with x as (select set_config('search_path', 'evil', false)) select * from x"), query("select lower(5)")), 2},
	"by a call, copied":       {join(query("copy (select set_config('search_path', 'evil', false)) to stdout"), query("select lower(5)")), 2},
	"by a call, in one text":  {query("select set_config('search_path', 'evil', false); select lower(5)"), 1},
	"behind a commit":         {join(query("set search_path = evil"), query("begin"), query("set local search_path = default"), query("commit; select lower(5)")), 4},
	"behind a rollback":       {join(query("set search_path = evil"), query("begin"), query("set local search_path = default"), parseMsg("a", "rollback"), bindMsg("", "a"), executeMsg(""), parseMsg("", "select lower(5)"), bindMsg("", ""), executeMsg(""), sync_()), 4},
	"behind a savepoint":      {join(query("set search_path = evil"), query("begin"), query("savepoint s"), query("set search_path = default"), query("rollback to s; select lower(5)")), 5},
	"behind a limit":          {join(parseMsg("a", "set search_path = evil"), bindMsg("", "a"), executeMsg(""), parseMsg("b", "select id from orders"), bindMsg("", "b"), executeMsg(""), sync_(), query("select lower(5)")), 2},
	"prepared before":         {join(parseMsg("s", "select lower('5'::name)"), sync_(), query("set search_path = evil"), bindMsg("", "s"), executeMsg(""), sync_()), 3},
	"PREPARE before":          {join(query("prepare p as select lower('5'::name)"), query("set search_path = evil"), query("execute p")), 3},
	"declared before":         {join(query("begin"), parseMsg("s", "declare c cursor with hold for select lower('5'::name)"), sync_(), query("set search_path = evil"), bindMsg("", "s"), executeMsg(""), sync_(), query("fetch c"), query("commit"), query("fetch c")), 7},
	"bound before":            {join(query("begin"), parseMsg("s", "declare c cursor for select lower('5'::name)"), bindMsg("p", "s"), sync_(), query("set search_path = evil"), executeMsg("p"), sync_(), query("fetch c")), 5},
	"COPY, bound before":      {join(query("begin"), parseMsg("s", "copy (select lower('5'::name)) to stdout"), bindMsg("p", "s"), sync_(), query("set search_path = evil"), executeMsg("p"), sync_()), 4},
	"EXPLAIN, bound before":   {join(query("begin"), parseMsg("s", "explain verbose select lower('5'::name)"), bindMsg("p", "s"), sync_(), query("set search_path = evil"), executeMsg("p"), sync_()), 4},
	"a statement's long name": {join(parseMsg(long, "select 1"), sync_(), bindMsg("", long), executeMsg(""), sync_()), 2},
	"a portal's long name":    {join(query("begin"), parseMsg("s", "select 1"), bindMsg(long, "s"), executeMsg(long), sync_()), 2},
}

func TestPathTricks(t *testing.T) {
	g := serve(t, &rules{allow: noDelete, limit: 10})
	if out, err := server.Psql(g.db, `CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO app;
		CREATE FUNCTION evil.lower(int) RETURNS text LANGUAGE sql SECURITY DEFINER STABLE AS 'select card from public.customers where id = $1';
		CREATE FUNCTION evil.lower(name) RETURNS text LANGUAGE sql SECURITY DEFINER STABLE AS 'select card from public.customers where id = 5'`); err != nil {
		t.Fatal(err, out)
	}
	for name, c := range pathTricks {
		nc := g.in(t)
		if _, err := nc.Write(c.send); err != nil {
			t.Fatal(err)
		}
		refused := false
		for ready := c.ready; ready > 0; {
			kind, body, err := readMessage(nc)
			if err != nil {
				break
			}
			if kind == 'Z' {
				ready--
			}
			refused = refused || kind == 'E'
			if bytes.Contains(body, []byte("4111")) {
				t.Errorf("%s: the card came out: %q", name, body)
			}
		}
		if !refused {
			t.Errorf("%s: nothing is refused", name)
		}
		nc.Close()
	}
	// PS31: a function that the task names may move the path itself.
	if out, err := server.Psql(g.db, `CREATE FUNCTION public.move() RETURNS int LANGUAGE plpgsql AS 'begin perform set_config(''search_path'', ''evil'', false); return 1; end'`); err != nil {
		t.Fatal(err, out)
	}
	moving := serve(t, &rules{allow: func(c *abi.Command) bool {
		for _, o := range c.Statement.Operations {
			if o.Verb == "call" && o.Object[0] != "public" {
				return false
			}
		}
		return c.Statement.Incomplete == ""
	}})
	moving.Dialer = dialer{database: g.db}
	if out := moving.psql(t, "prepare p as select lower('5'::name);\nselect move();\nselect lower(5);\nexecute p;\n"); strings.Contains(out, "4111") || strings.Count(out, "not in the task") != 2 {
		t.Error(out)
	}
	// A function of that name elsewhere is in nobody's way whose path is the login's own.
	if out := g.psql(t, "begin; declare c cursor for select lower('A'::name); fetch c; commit;\nselect lower('B'::name);\n"); !strings.Contains(out, "\na\n") || !strings.Contains(out, "\nb\n") {
		t.Error(out)
	}
}

// TestLimitInAPipeline: what came before in the group is committed by the
// server, so the client is not left with an error alone, and the log has it as
// committed.
func TestLimitInAPipeline(t *testing.T) {
	g := serve(t, &rules{allow: noDelete, limit: 10})
	over := join(parseMsg("", "select id from orders"), bindMsg("", ""), executeMsg(""))
	for name, b := range map[string][]byte{
		"the update before lasts": join(parseMsg("a", "update orders set status = 'zz' where id = 9"), bindMsg("", "a"), executeMsg(""), over, sync_()),
		"what follows is run":     join(over, parseMsg("", "select 1"), bindMsg("", ""), executeMsg(""), sync_()),
	} {
		nc := g.in(t)
		send(t, nc, b)
		fatal := false
		for {
			kind, body, err := readMessage(nc)
			if err != nil {
				break
			}
			fatal = fatal || kind == 'E' && bytes.Contains(body, []byte("FATAL"))
		}
		if !fatal {
			t.Errorf("the client is told of an error, and %s", name)
		}
	}
	g.quiet(t)
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventDone && e.State == "rolled back" {
			t.Errorf("the log says %+v", e)
		}
	}
}

func TestPW28Names(t *testing.T) { converse(t, namesOf) }

// TestPW31FetchIsOneAnswer: a limit on rows cannot be walked round in steps.
func TestPW31FetchIsOneAnswer(t *testing.T) {
	g := serve(t, &rules{allow: noDelete, limit: 10})
	out := g.psql(t, "begin; declare c cursor for select id from orders;\nfetch 6 from c;\nfetch 6 from c;\n")
	if !strings.Contains(out, "more than the 10 rows") {
		t.Error(out)
	}
	out = g.psql(t, "begin; declare c cursor for select id from orders;\nfetch 6 from c;\nfetch 4 from c;\n")
	if strings.Contains(out, "more than the 10 rows") {
		t.Error(out)
	}
	nc := g.in(t)
	fetch := join(parseMsg("", "fetch 6 from c"), bindMsg("", ""), executeMsg(""), sync_())
	send(t, nc, query("begin"), query("declare c cursor for select id from orders"), fetch, fetch)
	want(t, nc, 4, "C ZT C ZT 1 2 D D D D D D C ZT 1 2 E42501 ZT")
}

// TestPW31PreparedBefore: a FETCH that is prepared before its cursor is there is
// judged and masked by what the cursor turns out to be, each time it is bound.
func TestPW31PreparedBefore(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskHash, "", "people.ssn")}
	g := serve(t, guard)
	p := g.people(t, 3)
	for _, format := range []byte{0, 1} {
		nc := g.in(t)
		bind := frame('B', []byte{0, 'f', 0, 0, 0, 0, 0, 0, 1, 0, format})
		send(t, nc, parseMsg("f", "fetch all from c"), parseMsg("e", "execute p"), frame('D', []byte("Sf\x00")), sync_(), bind, executeMsg(""), sync_(), query("begin"))
		want(t, nc, 3, "1 1 t n ZI E34000 ZI C ZT")
		fetch := join(bind, executeMsg(""), sync_())
		send(t, nc, query("declare c cursor for select name from people"), fetch, query("close c; declare c cursor for select ssn from people"), fetch)
		want(t, nc, 3, "C ZT 2 D D D C ZT C C ZT")
		shown := 0
		for kind := byte(0); kind != 'Z'; {
			var body []byte
			var err error
			if kind, body, err = readMessage(nc); err != nil {
				t.Fatal(err)
			}
			for _, n := range p.needles {
				if bytes.Contains(body, n) {
					t.Errorf("format %d: %q came out", format, body)
				}
			}
			if kind == 'D' {
				shown++
			}
		}
		if shown != 3 {
			t.Errorf("format %d: %d rows", format, shown)
		}
		nc.Close()
	}
	// Nothing is carried out that was not allowed when it was bound.
	g.Swap(generation(&rules{allow: noDelete}))
	nc := g.in(t)
	send(t, nc, parseMsg("e", "execute p"), sync_(), parseMsg("p", "delete from people"), sync_(), bindMsg("", "e"), executeMsg(""), sync_(), query("select count(*) from people"))
	want(t, nc, 4, "1 ZI E42501 ZI E26000 ZI T D C ZI")
}

// TestPW31JudgedAtFetch: a policy that changes under an open cursor, and the
// parameters that a guard sees.
func TestPW31JudgedAtFetch(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	allowed := true
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range c.Params {
			seen = append(seen, fmt.Sprintf("%s %s", strings.Fields(c.Statement.Text)[0], p.Value))
		}
		return allowed || !strings.HasPrefix(c.Statement.Text, "fetch")
	}})
	ctx := context.Background()
	c := g.connect(t)
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "declare c cursor for select id from orders where id < $1 order by id", pgx.QueryExecModeExec, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select '"+strings.Repeat("8", 500)+"'"); err != nil { // where Bind was read into
		t.Fatal(err)
	}
	var id int
	if err := tx.QueryRow(ctx, "fetch c", pgx.QueryExecModeExec).Scan(&id); err != nil || id != 1 {
		t.Fatal(id, err)
	}
	if _, err := tx.Exec(ctx, "prepare p as select id from orders where id = $1"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "execute p(7)"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if got := strings.Join(seen, ", "); got != "declare 4, fetch 4, fetch 4, execute 7" {
		t.Errorf("the guard saw %s", got)
	}
	allowed = false
	mu.Unlock()
	g.Swap(generation(&rules{allow: func(*abi.Command) bool { return false }}))
	if _, err := tx.Exec(ctx, "fetch c"); code(err) != "42501" {
		t.Error(err)
	}
}

// TestPW28NamesOfAFunction: what a function has named without the gateway hearing
// of it no text uses.
func TestPW28NamesOfAFunction(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	g.askOf(t, g.db, `create function hides() returns int language plpgsql as $$ begin
		execute 'prepare hidden as select 1'; execute 'declare hidden cursor with hold for select 1'; return 1; end $$`)
	nc := g.in(t)
	defer nc.Close()
	send(t, nc, query("select hides()"))
	kinds(t, nc, 1)
	for text, want := range map[string]string{"execute hidden": "E26000 ZI", "fetch hidden": "E34000 ZI"} {
		for b, want := range map[string]string{string(query(text)): want, string(join(parseMsg("", text), bindMsg("", ""), executeMsg(""), sync_())): "1 " + want} {
			send(t, nc, []byte(b))
			if got := kinds(t, nc, 1); got != want {
				t.Errorf("%s: %s, not %s", text, got, want)
			}
		}
	}
}

// TestSkippedParse: a Parse that the server has skipped has changed nothing: the unnamed
// statement is what it was.
func TestSkippedParse(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool { return c.Phase == abi.Prepare || noDelete(c) }})
	skipped := join(parseMsg("z", "select 1/0"), bindMsg("", "z"), executeMsg(""), parseMsg("", "select 1"), sync_())
	call := join(bindMsg("", ""), executeMsg(""), sync_())
	converseWith(t, g, map[string]conversation{
		"it may not run": {join(parseMsg("", "delete from items where id = 1"), sync_(), skipped, call, query("select id from items where id = 1")), 4, "1 ZI 1 E22012 ZI E42501 ZI T D C ZI"},
		"it was made":    {join(parseMsg("", "select generate_series(1, 3)"), sync_(), skipped, call), 3, "1 ZI 1 E22012 ZI 2 D D D C ZI"},
		"there was none": {join(skipped, call), 2, "1 E22012 ZI E26000 ZI"},
	})
}
