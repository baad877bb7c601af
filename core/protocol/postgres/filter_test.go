package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// finding serves a gateway under which people are found by what is masked of
// them; those of `except` are masked alone.
func finding(t *testing.T, resource ResourceOptions, except ...string) (*gateway, *protector, *people) {
	t.Helper()
	guard := &protector{protect: masks(abi.MaskNull, "", secrets...)}
	var list []abi.Source
	for i := range guard.protect {
		m := &guard.protect[i]
		if m.Filter = !strings.Contains(" "+strings.Join(except, " ")+" ", " "+m.Column+" "); m.Filter {
			list = append(list, abi.Source{Relation: m.Relation, Column: m.Column})
		}
	}
	g := serve(t, guard)
	p := g.people(t, 5)
	g.options(guard, TaskOptions{Introspect: true, Filter: Filter(list)}, resource, "finding")
	return g, guard, p
}

// TestPM13RC18FilterFinds: whoever knows a value finds its row, in every way that
// a text can be sent; what is shown is masked, and what is written down has not
// the value. Nothing else comes through.
func TestPM13RC18FilterFinds(t *testing.T) {
	g, _, p := finding(t, ResourceOptions{}, "raw")
	quoted := "'" + p.text + "'"
	for name, way := range ways {
		c, got := g.tapped(t, g.url())
		for _, text := range append([]string{"select id, ssn, name from people where ssn = " + quoted, "select name from people where ssn in (" + quoted + ", 'x') and id > 0", "select name, ssn from faces where ssn = " + quoted,
			"copy (select name from people where ssn = " + quoted + ") to stdout", "update people set note = 'x' where ssn = " + quoted + " returning name, ssn",
			"begin; declare c cursor for select name, ssn from people where ssn = " + quoted + "; fetch all from c; commit", "prepare q (text) as select name, ssn from people where ssn = $1; execute q (" + quoted + "); deallocate q"}, shown...) {
			if name == "prepared" && strings.Contains(text, "; ") {
				continue
			}
			before := got.got.Len()
			if err := way(t.Context(), c, text); err != nil {
				t.Errorf("%s: %s: %v", name, text, err)
			}
			if strings.Contains(text, quoted) && !strings.Contains(string(got.got.Bytes()[before:]), "n1") {
				t.Errorf("%s: %s finds nothing", name, text)
			}
			if c.TxStatus() != 'I' {
				_, _ = c.Exec(t.Context(), "rollback").ReadAll()
			}
		}
		for _, text := range []string{"select name from people where not ssn = " + quoted, "select name from people where ssn > " + quoted, "select name from people where ssn = " + quoted + " or true", "select name from people where ssn = lower(" + quoted + ")",
			"select name from people where raw = '\\x00'", "explain select name from people where ssn = " + quoted} {
			var e *pgconn.PgError
			if err := way(t.Context(), c, text); !errors.As(err, &e) || e.Code != "42501" || strings.Contains(text, "ssn") && !strings.Contains(e.Message, "can only be compared with values") || e.Hint == "" {
				t.Errorf("%s: %s: %v", name, text, err)
			}
		}
		if n := p.found(got.got.Bytes()); n != "" {
			t.Errorf("%s: %s came through", name, n)
		}
	}
	c, got := g.tapped(t, g.url())
	direct := g.direct(t)
	var tag, pay, dom string
	if err := direct.QueryRow(t.Context(), "select tag::text, pay::text, dom from people where id = 1").Scan(&tag, &pay, &dom); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		where string
		typ   uint32
		value string
		want  int
	}{
		{"ssn = $1", 0, p.text, 1}, {"$1 = ssn", 25, p.text, 1}, {"ssn = $1", 1043, p.text, 1}, {"ssn in ($1, 'b')", 25, p.text, 1}, {"ssn = $1", 25, "nobody", 0}, {"tag = $1", 0, tag, 1}, {"tag = $1", 25, tag, 1},
		{"pay = $1", 0, pay, 1}, {"pay = $1", 25, pay, 1}, {"dom = $1", 0, dom, 1}, {"dom = $1 and ssn is not null", 0, dom, -1}, {"ssn = any ($1)", 1009, "{a,b}", -1},
	} {
		r := c.ExecParams(t.Context(), "select name, ssn from people where "+k.where, [][]byte{[]byte(k.value)}, []uint32{k.typ}, nil, nil).Read()
		if k.want < 0 != (r.Err != nil) || k.want >= 0 && len(r.Rows) != k.want {
			t.Errorf("%s by type %d: %d rows, %v", k.where, k.typ, len(r.Rows), r.Err)
		}
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
	if said := g.said(); said != "" {
		t.Error(said)
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	guesses := uint64(0)
	for _, e := range g.log.events {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if n := p.found(b); n != "" || strings.Contains(string(b), dom) || strings.Contains(string(b), strings.Trim(fmt.Sprintf("%q", p.text), `"`)) {
			t.Errorf("the log has the value: %s", b)
		}
		if e.Kind == gate.EventCommand && e.Decision == "allow" {
			guesses += e.Guesses
		}
	}
	if guesses < 30 {
		t.Errorf("the log counts %d values", guesses)
	}
}

// TestFilterByPsql: in a real client, with what it is told where a text does more.
func TestFilterByPsql(t *testing.T) {
	g, _, _ := finding(t, ResourceOptions{})
	if out, err := server.Psql(g.db, "update people set ssn = 'known' where id = 3"); err != nil {
		t.Fatal(out)
	}
	out := g.psql(t, `select id, ssn is not distinct from 'x' from people where ssn = 'known';
select id, ssn from people where ssn = 'known';
update people set note = 'found' where ssn = 'known' returning id, note;
prepare p(text) as select id, name from people where ssn = $1;
execute p('unknown');
execute p('known');
\set who known
select name from faces where ssn = :'who' \g
select count(*) from people where ssn in ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'known');
`)
	for _, want := range []string{"cannot be computed with", "3|\n", "3|found", "UPDATE 1", "PREPARE", "3|n3", "n3", "11 values are compared with masked columns here, and one text may name 10"} {
		i := strings.Index(out, want)
		if i < 0 {
			t.Fatalf("no %q (in order) in\n%s", want, out)
		}
		out = out[i:]
	}
}

// TestFilterReload: what was prepared under a filter is refused when its task has
// it no longer, or when another guard masks the column and has it not.
func TestFilterReload(t *testing.T) {
	g, guard, p := finding(t, ResourceOptions{})
	c := g.connect(t).PgConn()
	found := func() string {
		r := c.ExecPrepared(t.Context(), "x", [][]byte{[]byte(p.text)}, nil, nil).Read()
		var e *pgconn.PgError
		if errors.As(r.Err, &e) {
			return e.Code
		}
		return fmt.Sprintf("%s %v", r.Rows, r.Err)
	}
	if _, err := c.Prepare(t.Context(), "x", "select name from people where ssn = $1", nil); err != nil {
		t.Fatal(err)
	}
	if got := found(); got != "[[n1]] <nil>" {
		t.Error(got)
	}
	more := &protector{protect: masks(abi.MaskNull, "", "people.ssn")}
	gen := generation(guard)
	gen.Guards = append(gen.Guards, gate.Guard(more))
	gen.Tasks["x"].Options = g.Current().Tasks["x"].Options
	gen.Resources["shop"].Options, gen.Resources["shop"].Digest = &ResourceOptions{}, "finding"
	g.Swap(gen)
	if got := found(); got != "42501" {
		t.Errorf("another guard masks it: %s", got)
	}
	g.options(&protector{protect: masks(abi.MaskNull, "", "people.ssn")}, TaskOptions{}, ResourceOptions{}, "finding")
	if got := found(); got != "0A000" { // it would be forwarded otherwise, and has to be prepared anew
		t.Errorf("the task has it no longer: %s", got)
	}
	var e *pgconn.PgError
	if _, err := c.Prepare(t.Context(), "y", "select name from people where ssn = $1", nil); !errors.As(err, &e) || e.Code != "42501" {
		t.Errorf("the task has it no longer: %v", err)
	}
}

// TestFilterProbe: what the server itself makes of what is forwarded is what was
// judged.
func TestFilterProbe(t *testing.T) {
	g, _, p := finding(t, ResourceOptions{Probe: true})
	c, got := g.tapped(t, g.url())
	for _, text := range []string{"select id, ssn from people where ssn = 'x'", "select id from people where ssn in ('x', 'y') and pay = 3", "select name from faces where ssn = 'x'", "update people set note = 'x' where tag = '00000000-0000-0000-0000-000000000000'"} {
		if _, err := c.Exec(t.Context(), text).ReadAll(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if n := g.protocol.Probes(); n.Disagreed != 0 || n.Failed != 0 || n.Agreed < 4 {
		t.Errorf("%+v", n)
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}
