package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// seeing are texts that do more with what is protected than copy it: they pass
// under a blind task alone.
var seeing = []string{
	"select upper(ssn), ssn || name, length(dom), coalesce(raw, ''), pay + 1 from people order by ssn, pay", "select to_jsonb(p), name from people p", "select p from people p",
	"select ssn, max(name), count(*) from people group by ssn having count(*) > 1 order by ssn", "select distinct seen, 'n3' from people", "select ssn from people union select name from people",
	"select min(ssn), max(pay), string_agg(name, ',' order by name) from people where ssn like '%***%' or dom is null", "select id, name from people where seen is null or tag is null order by pay",
	"select a.name from people a join people b on a.ssn = b.ssn and a.id = b.id", "select name, row_number() over (partition by ssn order by pay) from people", "select max(ssn), max(name) from faces",
	"insert into badges (id, note) select 500 + id, ssn from people on conflict (id) do nothing", "update badges set note = 'x' where ssn in (select ssn from people) returning id", "delete from badges where note like '***%'",
	"begin; declare c binary cursor for select lower(ssn), raw, name from people where ssn > '*'; fetch 2 from c; fetch all from c; commit", "prepare q as select name from people where ssn = ssn; execute q; deallocate q",
	"copy (select upper(ssn), name, p from people p) to stdout (format binary)", "copy (select md5(ssn), name from people) to stdout csv",
	"select * from only people where ssn <> ''", "select public.people.ssn, name from public.people where public.people.ssn is not null",
}

// blindTo are the masks of people for a task that is blind.
func blindTo() []abi.Protect {
	return append(masks(abi.MaskNull, "", "people.tag", "people.raw", "people.list", "people.doc"), append(masks(abi.MaskKeep, "0,0", "people.ssn", "people.dom"), append(masks(abi.MaskFixed, "7", "people.pay"), masks(abi.MaskFixed, "2000-01-01", "people.seen")...)...)...)
}

// TestBlindShown asks for what is protected in every way, with all that SQL can
// do with it, and looks for it in every byte that comes.
func TestBlindShown(t *testing.T) {
	guard := &protector{protect: blindTo(), blind: true}
	g := serve(t, guard)
	p := g.people(t, 5)
	g.options(guard, TaskOptions{Introspect: true, Blind: Blind(guard.protect, func([]string, string) bool { return true })}, ResourceOptions{}, "blind")
	for name, way := range ways {
		c, got := g.tapped(t, g.url())
		for _, text := range append(seeing, shown...) {
			if name == "prepared" && bytes.Contains([]byte(text), []byte("; ")) {
				continue
			}
			if err := way(t.Context(), c, text); err != nil {
				t.Errorf("%s: %s: %v", name, text, err)
			}
			if c.TxStatus() != 'I' {
				_, _ = c.Exec(t.Context(), "rollback").ReadAll()
			}
		}
		for _, text := range []string{"select ssn::int from people where id = 1", "select 1 / (pay - 7) from people", "select raw::text::int, (name || ssn)::date from people", "select dom::uuid from people where id = 2", "select generate_series(1, pay::int), 1 / (length(ssn) - 3) from people"} {
			var e *pgconn.PgError
			if err := way(t.Context(), c, text); !errors.As(err, &e) || e.Code[:2] != "22" || e.Message == "" {
				t.Errorf("%s: %s: %v", name, text, err)
			}
		}
		if n := p.found(got.got.Bytes()); n != "" {
			t.Errorf("%s: %s came through", name, n)
		}
		if !bytes.Contains(got.got.Bytes(), []byte("n3")) || !bytes.Contains(got.got.Bytes(), []byte("***")) {
			t.Errorf("%s: what is shown did not come", name)
		}
	}
	if said := g.said(); said != "" {
		t.Error(said)
	}
}

// TestBlindReload: what a session has prepared and opened under masks that are
// no longer those of its task shows nothing more; what it asks anew is masked as
// they are now.
func TestBlindReload(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskKeep, "2,0", "people.ssn"), blind: true}
	g := serve(t, guard)
	p := g.people(t, 3)
	all := func([]string, string) bool { return true }
	g.options(guard, TaskOptions{Blind: Blind(guard.protect, all)}, ResourceOptions{}, "blind")
	c, _ := g.tapped(t, g.url())
	one := func(text string) string {
		t.Helper()
		results, err := c.Exec(t.Context(), text).ReadAll()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s", results[len(results)-1].Rows)
	}
	executed := func() string {
		r := c.ExecPrepared(t.Context(), "x", nil, nil, nil).Read()
		if r.Err != nil {
			return r.Err.Error()
		}
		return fmt.Sprintf("%s", r.Rows)
	}
	if _, err := c.Prepare(t.Context(), "x", "select upper(ssn) from people where id = 1", nil); err != nil {
		t.Fatal(err)
	}
	_ = one("begin; declare c cursor for select upper(ssn) from people order by id; prepare y as select upper(ssn) from people where id = 1; fetch 1 from c")
	loose := "[[" + string(bytes.ToUpper([]byte(p.text[:2]))) + "***]]"
	for _, got := range []string{executed(), one("execute y"), one("select upper(ssn) from people where id = 1")} {
		if got != loose {
			t.Errorf("%s, not %s", got, loose)
		}
	}
	next := &protector{protect: masks(abi.MaskNull, "", "people.ssn"), blind: true}
	g.options(next, TaskOptions{Blind: Blind(next.protect, all)}, ResourceOptions{}, "blind")
	for what, got := range map[string]string{"a cursor": one("fetch 1 from c"), "a prepared statement": executed(), "a prepared text": one("execute y")} {
		if bytes.Contains([]byte(got), []byte("***")) {
			t.Errorf("%s shows %s", what, got)
		}
	}
	if got := one("rollback; select upper(ssn) from people where id = 1"); got != "[[]]" {
		t.Errorf("it is %s now", got)
	}
	// A guard of its own masks more than the task, and says nothing of blind.
	more := &protector{protect: masks(abi.MaskFixed, "x", "people.name")}
	gen := generation(next)
	gen.Guards = append(gen.Guards, gate.Guard(more))
	gen.Tasks["x"].Options = &TaskOptions{Blind: Blind(next.protect, all)}
	gen.Resources["shop"].Options, gen.Resources["shop"].Digest = &ResourceOptions{}, "blind"
	g.Swap(gen)
	for _, text := range []string{"select upper(name) from people", "select ssn from people where name = 'n1'"} {
		var e *pgconn.PgError
		if _, err := c.Exec(context.Background(), text).ReadAll(); !errors.As(err, &e) || e.Code != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestBlindProbe: what the server itself makes of a text that is blind is what
// was judged.
func TestBlindProbe(t *testing.T) {
	guard := &protector{protect: blindTo(), blind: true}
	g := serve(t, guard)
	p := g.people(t, 2)
	unlisted := func(_ []string, column string) bool { return column != "note" }
	g.options(guard, TaskOptions{Blind: Blind(guard.protect, unlisted)}, ResourceOptions{Probe: true}, "probe")
	c, got := g.tapped(t, g.url())
	for _, text := range []string{"select upper(ssn), name from people order by ssn", "select p from people p", "select count(*) from faces where ssn like '*%'", "select id from people where id = 1", "table people", "update badges set ssn = p.name from people p where p.ssn = badges.note"} {
		if _, err := c.Exec(t.Context(), text).ReadAll(); err != nil && !bytes.Contains([]byte(text), []byte("update")) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if n := g.protocol.Probes(); n.Disagreed != 0 || n.Failed != 0 || n.Agreed < 5 {
		t.Errorf("%+v", n)
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}
