package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

func nobody(*abi.Command) bool { return false }

// TestLimitTransparent: a write that a limit holds for, and keeps, is answered
// as the server answers it, message by message.
func TestLimitTransparent(t *testing.T) {
	w := makeTwins(t)
	w.g.Swap(generation(&holds{holds: nobody, terms: abi.Terms{RowsWritten: 1 << 40, RowsReturned: 1 << 40}}))
	texts := []string{
		"insert into t values (9, 'nine', 9)", "insert into t values (1, 'twice', 1)", "update t set v = 'x' where id = 1 returning id, v", "update t set n = n + 1",
		"delete from t where id = 2 returning *", "insert into u values (1, 99, 'dangling')", "insert into u values (1, 99, 'dangling') returning w", "insert into t select id + 100, v, n from t",
		"merge into t using (values (1), (77)) as s(k) on t.id = s.k when matched then update set v = 'merged' when not matched then insert values (s.k, 'new', 0)",
		"update t set v = 1/(id - 3) returning id", "insert into t values ($1, 'a', 1)", "insert into nowhere values (1)", "update t set v = 'x' where false returning id",
		"delete from t where id = 4; ", "insert into t values (1, 'a', 1) on conflict (id) do update set v = 'again' returning v",
	}
	var list [][]step
	for _, text := range texts {
		q := step{"Query " + text, query(text)}
		ext := step{"extended " + text, join(parseMsg("", text), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""))}
		on, end := step{"begin", query("begin")}, step{"commit", query("commit")}
		one := step{"select", query("select 1")}
		left := func(portal string) []step { // what a Query ends, and what it leaves
			return []step{{"bound", join(parseMsg("", "select 7"), parseMsg("s", "select 8"), bindMsg("", ""), bindMsg("p", "s"), sync_())}, q, {"bind again", join(bindMsg("", ""), executeMsg(""), sync_())}, {"end", query("rollback")},
				{"begin", query("begin")}, {"bound in it", join(parseMsg("", "select 7"), bindMsg("", ""), bindMsg("p", "s"), sync_())}, q, {"execute again", join(executeMsg(portal), sync_())}, {"end", query("rollback")}}
		}
		list = append(list, left(""), left("p"), []step{q, one, on, q, one, end, one}, []step{ext, {"Sync", sync_()}, one, on, ext, ext, {"Sync", sync_()}, end}, []step{ext, q, one})
	}
	for _, text := range []string{"copy t from stdin", "copy t (id, v) from stdin"} {
		q, on, end := step{text, query(text)}, step{"begin", query("begin")}, step{"commit", query("commit")}
		for _, data := range [][]byte{frame('d', []byte("60\tx\t1\n61\ty\t1\n")), frame('d', []byte("60\tx\n")), frame('d', []byte("no\n")), nil} {
			for _, done := range [][]byte{frame('c', nil), frame('f', []byte("enough\x00"))} {
				d := step{"data", join(data, done)}
				list = append(list, []step{q, d, {"select", query("select 1")}, on, q, d, end})
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 0))
	for range 5 {
		steps := make([]step, 30)
		for i := range steps {
			steps[i] = twinStep(r)
		}
		list = append(list, steps)
	}
	for _, steps := range list {
		direct, through := w.run(t, steps, 1<<20)
		if n := slices.Index(direct, "E FATAL 08P01"); n > 0 && direct[n-1] == "E ERROR 08P01" && !slices.Contains(through, direct[n-1]) {
			direct = slices.Delete(direct, n-1, n) // the gateway, which has the data then, ends the session and says so once
		}
		for i := range min(len(direct), len(through)) { // the gateway looks for the portal first, of which the server has another by then
			if direct[i] == "E ERROR 25P02" && through[i] == `E ERROR 34000 portal "" does not exist` {
				direct[i] = through[i]
			}
		}
		if !slices.Equal(direct, through) && !own(direct, through) {
			t.Errorf("%v\ndirect\n%s\nthrough\n%s", steps, strings.Join(direct, "\n"), strings.Join(through, "\n"))
		}
	}
}

// TestAP22RowsWritten: a write over its limit is refused, and has not happened.
func TestAP22RowsWritten(t *testing.T) {
	g := serve(t, &holds{holds: nobody, terms: abi.Terms{RowsWritten: 2}})
	g.ask(t, "create function bump() returns int language sql as $$ update items set sku = 'over' where id < 5; select 1 $$")
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	three := "update items set sku = 'over' where id in (1, 2, 3)"
	two := "update items set sku = 'two' where id in (1, 2)"
	bound := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) }
	for _, c := range []struct {
		what string
		send []byte
		n    int
		want string
	}{
		{"simple", query(three), 1, "E42501 ZI"},
		{"it fits", query(two + " returning id"), 1, "T D D C ZI"},
		{"returning", query(three + " returning id"), 1, "E42501 ZI"},
		{"extended", join(bound(three), sync_()), 1, "1 2 E42501 ZI"},
		{"and what came before it", join(bound("update items set sku = 'over' where id = 9"), bound(three), bound("select 1"), sync_(), query("select 1")), 2, "1 2 C 1 2 E42501 ZI T D C ZI"},
		{"in a transaction", join(query("begin"), query(two), query(three), query("select 1"), query("commit")), 5, "C ZT C ZT E42501 ZE E25P02 ZE C ZI"},
		{"in parts", join(parseMsg("", two+" returning id"), bindMsg("", ""), executeLimit("", 1), sync_()), 1, "1 2 E42501 ZI"},
		{"insert select", query("insert into items (order_id, sku, quantity, price) select order_id, 'over', 1, 1 from items where id < 5"), 1, "E42501 ZI"},
		{"several", query(two + "; select 1"), 1, "E42501 ZI"},
		{"and commit", query("begin; " + two + "; commit"), 1, "E42501 ZI"},
		{"a WITH", query("with d as (update items set sku = 'over' where id = 1 returning id) select * from d"), 1, "E42501 ZI"},
		{"truncate", query("truncate items"), 1, "E42501 ZI"},
		{"a WITH of a write that fits", query("with d as (update items set sku = 'over' where id in (1, 2, 3) returning id) update items set sku = 'two' where id = 4"), 1, "E42501 ZI"},
		{"a function", query("select bump()"), 1, "E42501 ZI"},
		{"explained as it runs", query("explain analyze " + three), 1, "E42501 ZI"},
		{"a block", query("do $$ begin update items set sku = 'over' where id < 5; end $$"), 1, "E42501 ZI"},
		{"a block that calls one", query("do $$ begin perform bump(); end $$"), 1, "E42501 ZI"},
		{"a function in a write that fits", query("update items set sku = bump()::text where id = 9"), 1, "E42501 ZI"},
		{"copy", join(query("copy items (order_id, sku, quantity, price) from stdin"), frame('d', []byte("1\tover\t1\t1\n1\tover\t1\t1\n1\tover\t1\t1\n")), frame('c', nil), query("select 1")), 2, "G E42501 ZI T D C ZI"},
		{"a copy by the extended protocol", join(bound("copy items (order_id, sku, quantity, price) from stdin"), frame('d', []byte("1\tover\t1\t1\n1\tover\t1\t1\n1\tover\t1\t1\n")), frame('c', nil), sync_()), 1, "1 2 G E42501 ZI"},
		{"execute", join(query("prepare p as "+three), query("execute p"), query("deallocate p")), 3, "C ZI E42501 ZI C ZI"},
		{"reads", query("select id from items limit 3"), 1, "T D D D C ZI"},
		{"locks", query("select id from items where id in (1, 2, 3) for update"), 1, "T D D D C ZI"},
		{"explained", query("explain (format json) " + three), 1, "T D C ZI"},
	} {
		send(t, nc, c.send)
		if got := kinds(t, nc, c.n); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.what, got, c.want)
		}
	}
	if n := g.ask(t, "select count(*) from items where sku = 'over'"); n != "0" {
		t.Errorf("%s rows are written", n)
	}
	for text, why := range map[string]string{three: "3 rows are written, of the 2 that are allowed: it was rolled back", "explain analyze " + three: "cannot be counted before it is committed", "truncate items": "TRUNCATE does not count them", two + "; select 1": "which has several statements", "select bump()": "cannot be counted before it is committed"} {
		if out := g.psql(t, text+";\n", "-c", text); !strings.Contains(out, why) {
			t.Errorf("%s: %s", text, out)
		}
	}
}

// TestAP22RowsReturned: a write that returns more than the task shows is undone,
// and so is one whose rows are too large to be kept.
func TestAP22RowsReturned(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool { return c.Statement.Incomplete == "" }, limit: 3})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	big := fmt.Sprintf("update items set sku = repeat('over', %d) where id < 3 returning sku", maxKept/4)
	for text, want := range map[string]string{
		"update items set sku = 'over' where id < 9 returning id":  "E42501 ZI",
		"update items set sku = 'some' where id < 4 returning id":  "T D D D C ZI",
		"update items set sku = 'none' where id between 20 and 40": "C ZI",
		big: "E42501 ZI",
		"select 1; update items set sku = 'over' where id = 1 returning id": "E42501 ZI",
	} {
		send(t, nc, query(text))
		if got := kinds(t, nc, 1); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text[:min(len(text), 80)], got, want)
		}
	}
	if n := g.ask(t, "select count(*) from items where sku like 'over%'"); n != "0" {
		t.Errorf("%s rows are written", n)
	}
}

// TestAP22BytesReturned: so is one that returns more bytes than the task shows,
// and one whose rows cannot be masked.
func TestAP22BytesReturned(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskCustom, "", "people.ssn")}
	guard.batch = func(*abi.Batch) (*abi.Batch, error) { return nil, errOver }
	g := serve(t, guard)
	g.people(t, 3)
	few := &bytesShown{rules{allow: anything}}
	nc := g.in(t)
	for _, c := range []struct {
		guard      gate.Guard
		text, want string
	}{
		{guard, "update people set note = 'over' where id = 1 returning ssn", "E42501 ZI"},
		{guard, "update people set note = 'fine' where id = 2 returning id", "T D C ZI"},
		{few, "update people set note = 'over' where id < 3 returning repeat('x', 100)", "E42501 ZI"},
		{few, "update people set note = 'fine' where id = 3 returning 1", "T D C ZI"},
	} {
		g.Swap(generation(c.guard))
		for _, b := range [][]byte{query(c.text), join(parseMsg("", c.text), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""), sync_())} {
			send(t, nc, b)
			if got := strings.TrimPrefix(kinds(t, nc, 1), "1 2 "); got != c.want && got != "T "+c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.text, got, c.want)
			}
		}
	}
	if n := g.ask(t, "select count(*) filter (where note = 'over'), count(*) filter (where note = 'fine') from people"); n != "0|2" {
		t.Error(n)
	}
}

// bytesShown is a guard that shows a few bytes of each answer.
type bytesShown struct{ rules }

func (b *bytesShown) Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error) {
	v, err := b.rules.Command(ctx, c)
	if err == nil {
		v.Limits.Bytes = 100
	}
	return v, err
}

// TestLimitCopyFails: a COPY that a limit holds for and that fails in the middle ends
// as the server ends it, without a Sync where the client knows of none, and the
// session goes on.
func TestLimitCopyFails(t *testing.T) {
	g := serve(t, &holds{holds: nobody, terms: abi.Terms{RowsWritten: 2}})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	const text, two = "copy items (order_id, sku, quantity, price) from stdin", "update items set sku = 'two' where id in (1, 2)"
	bad, rest := frame('d', []byte("none\n")), join(frame('d', []byte("1\tover\t1\t1\n")), frame('c', nil))
	begun := func(b ...[]byte) {
		t.Helper()
		send(t, nc, b...)
		for {
			if kind, body, err := readMessage(nc); err != nil || kind == 'E' {
				t.Fatalf("%q %v", body, err)
			} else if kind == 'G' {
				return
			}
		}
	}
	for _, k := range []struct{ before, failed, after string }{{"select 1", "E22P02 ZI", "C ZI C ZI"}, {"begin", "E22P02 ZE", "E25P02 ZE C ZI"}} {
		send(t, nc, query(k.before))
		kinds(t, nc, 1)
		begun(query(text))
		send(t, nc, bad)
		want(t, nc, 1, k.failed)
		send(t, nc, rest, query(two), query("rollback"))
		want(t, nc, 2, k.after)
	}
	begun(parseMsg("", text), bindMsg("", ""), executeMsg(""))
	send(t, nc, bad)
	if kind, body, err := readMessage(nc); err != nil || kind != 'E' {
		t.Errorf("%c %q %v", kind, body, err)
	}
	send(t, nc, rest, sync_(), query(two))
	want(t, nc, 2, "ZI C ZI")
	if n := g.ask(t, "select count(*) from items where sku = 'over'"); n != "0" {
		t.Errorf("%s rows are written", n)
	}
}

// TestLimitBeside: what the server says beside an answer that is kept comes before it,
// in its order, also where the answer is dropped or is not committed after all.
func TestLimitBeside(t *testing.T) {
	g := serve(t, &holds{rules: rules{errors: true}, holds: nobody, terms: abi.Terms{RowsWritten: 2}})
	g.askOf(t, g.db, `create function tells() returns trigger language plpgsql as 'begin raise notice ''% %'', tg_argv[0], new.id; return new; end';
		create function fails() returns trigger language plpgsql as 'begin raise notice ''late %'', new.id; if new.id > 80 then raise exception ''not this''; end if; return new; end';
		create table told (id int); grant all on told to app; create trigger early before insert on told for each row execute function tells('early');
		create constraint trigger late after insert on told deferrable initially deferred for each row execute function fails()`)
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	for _, k := range []struct{ text, want string }{
		{"insert into told values (1), (2) returning id", "early 1, early 2, late 1, late 2, T, D, D, C, Z"},
		{"insert into told values (3), (4), (5) returning id", "early 3, early 4, early 5, E not-allowed, Z"},
		{"insert into told values (6), (81) returning id", "early 6, early 81, late 6, late 81, T, D, D, E not this, Z"},
		{"insert into told values (7)", "early 7, late 7, C, Z"},
	} {
		var got []string
		for send(t, nc, query(k.text)); len(got) == 0 || got[len(got)-1] != "Z"; {
			kind, body, err := readMessage(nc)
			if err != nil {
				t.Fatal(k.text, err)
			}
			_, said, _ := strings.Cut(string(body), "\x00M")
			said, _, _ = strings.Cut(said, "\x00")
			switch {
			case kind == 'N':
				got = append(got, said)
			case kind == 'E' && strings.Contains(said, "of the 2 that are allowed"):
				got = append(got, "E not-allowed")
			default:
				got = append(got, strings.TrimSpace(string(rune(kind))+" "+said))
			}
		}
		if s := strings.Join(got, ", "); s != k.want {
			t.Errorf("%s:\n got %s\nwant %s", k.text, s, k.want)
		}
	}
	if n := g.ask(t, "select string_agg(id::text, ' ' order by id) from told"); n != "1 2 7" {
		t.Error(n)
	}
}
