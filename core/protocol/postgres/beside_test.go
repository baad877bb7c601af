package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// Temporary tables beside approvals, closed tasks, event triggers and the memory of
// all.

// asksOthers is the tasks guard whose rules may want approval.
type asksOthers struct{ judge }

func (*asksOthers) May() abi.May { return abi.May{Allow: true, Mask: true, Review: true} }

// TestTemporaryHeld: what is approved is what it was over: where the table behind
// the name is another the next time, it is another act. Nobody can be told how many
// rows it would change, as only the session has the table.
func TestTemporaryHeld(t *testing.T) {
	held := func(r policy.Rule) policy.Rule {
		r.Review = &policy.Review{Groups: []string{"dba"}, People: 1, Within: 900, OnHold: "keep"}
		return r
	}
	task := policy.Task{ShowErrors: true, Rules: []policy.Rule{
		ddl("pg_temp.*", "create_table", "drop_table"), all("select", "public.notes"),
		held(policy.Rule{At: "x.yaml:3", Verbs: []string{"update"}, Tables: []string{"public.notes"}, Columns: []string{"v"}}),
	}}
	g := serve(t, &asksOthers{judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}})
	p := newCrowd()
	g.Approver = p
	g.askOf(t, g.db, "create table notes (id int primary key, v text); insert into notes values (1, 'a'), (2, 'b'); grant all on notes to app")
	nc := g.in(t)
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	const made, write = "create temp table mine as select id, 'x' as v from notes", "update notes n set v = m.v from mine m where m.id = n.id"
	asked := func(answer string, meanwhile string, b ...[]byte) string {
		t.Helper()
		send(t, nc, b...)
		r := p.next(t)
		if r.Rows != (abi.Rows{Estimated: -1, Counted: -1}) {
			t.Errorf("%+v", r.Rows)
		}
		if meanwhile != "" {
			g.askOf(t, g.db, meanwhile)
		}
		p.approve(r)
		want(t, nc, 1, answer)
		return fmt.Sprintf("%x", r.Binding)
	}
	send(t, nc, query(made), parseMsg("u", write), sync_())
	want(t, nc, 2, "C ZI 1 ZI")
	first, again := asked("C ZI", "", query(write)), asked("C ZI", "", query(write))
	if first != again {
		t.Error("the same is another act")
	}
	bound := asked("2 C ZI", "", bindMsg("", "u"), executeMsg(""), sync_())
	send(t, nc, query("drop table mine"), query(made))
	want(t, nc, 2, "C ZI C ZI")
	if asked("C ZI", "", query(write)) == first || asked("2 C ZI", "", bindMsg("", "u"), executeMsg(""), sync_()) == bound {
		t.Error("another table is the same act")
	}
	// An owner can take it away meanwhile. No other takes its place.
	asked("E42P01 ZI", "create table mine (id int, v text); grant all on mine to app; do $$ begin execute (select format('drop table %I.mine', relnamespace::regnamespace) from pg_class where relname = 'mine' and relpersistence = 't'); end $$", query(write))
	if strings.Contains(g.said(), "preview") {
		t.Error(g.said())
	}
}

// TestTemporaryHeldOverAnother: while a command waits, another table takes the name of
// what all see: that is noticed in a session that has temporary tables, and in one
// that had.
func TestTemporaryHeldOverAnother(t *testing.T) {
	g, p := review(t, &holds{})
	for name, texts := range map[string][]string{
		"has": {"create temp table mine (id int)", "select * from mine"},
		"had": {"create temp table mine (id int)", "select * from mine", "drop table mine", "select 1"},
	} {
		g.askOf(t, g.db, fmt.Sprintf("create table %s (id int); grant all on %[1]s to app", name))
		nc := g.in(t)
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		for _, text := range texts {
			send(t, nc, query(text))
			if got := kinds(t, nc, 1); strings.Contains(got, "E") {
				t.Fatal(text, got)
			}
		}
		send(t, nc, query("delete from "+name))
		r := p.next(t)
		g.askOf(t, g.db, fmt.Sprintf("alter table %s rename to old_%[1]s; create table %[1]s (id int); grant all on %[1]s to app", name))
		for _, one := range g.protocol.conns() {
			if err := one.state.refresh(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		p.approve(r)
		want(t, nc, 1, "E42501 ZI")
		nc.Close()
	}
}

// TestTemporaryTaskCloses: the operator hears of a mask without its column from a
// session that has temporary tables too.
func TestTemporaryTaskCloses(t *testing.T) {
	task := policy.Task{Masks: masks(abi.MaskNull, "", "people.ssn"), Rules: []policy.Rule{ddl("pg_temp.*", "create_table")}}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.askOf(t, g.db, "create table people (id int, ssn text)")
	g.options(guard, TaskOptions{Masked: []abi.Source{{Relation: []string{"public", "people"}, Column: "ssn"}}}, ResourceOptions{}, "")
	nc := g.in(t)
	defer nc.Close()
	send(t, nc, query("create temp table mine (id int)"), query("select * from mine"))
	want(t, nc, 2, "C ZI T C ZI")
	g.askOf(t, g.db, "alter table people rename ssn to number")
	for _, one := range g.protocol.conns() {
		if err := one.state.refresh(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	send(t, nc, query("select * from mine"), query("select 1"))
	want(t, nc, 2, "E42501 ZI E42501 ZI")
	if n := strings.Count(g.said(), "the task x is closed"); n != 1 {
		t.Errorf("the operator heard of it %d times: %s", n, g.said())
	}
}

// TestTemporaryBesideEventTriggers: what a function may have had a part in is there,
// and not the session's own work.
func TestTemporaryBesideEventTriggers(t *testing.T) {
	g := migrate(t, policy.Task{ShowErrors: true, Rules: []policy.Rule{ddl("pg_temp.*", "create_table", "drop_table"), {At: "x.yaml:2", Verbs: []string{"call"}, Functions: []string{"public.tell"}}}})
	g.askOf(t, g.db, "create function tell() returns event_trigger language plpgsql as 'begin return; end'; create event trigger teller on ddl_command_end execute function tell()")
	g.walk(t, []stage{{"create temp table mine (id int)", ""}, {"select * from mine", "select on pg_temp.mine is not in this task"}, {"drop table mine", ""}, {"select * from mine", "42P01"}})
}

// TestTemporaryForgotten: what a session has dropped counts no longer as its own work:
// the server may give its number to another.
func TestTemporaryForgotten(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	c := g.connect(t)
	for _, text := range []string{"create temp table kept (id int)", "create temp table gone (id serial)", "select * from kept, gone", "drop table gone", "select * from kept"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatal(text, err)
		}
	}
	all := g.protocol.conns()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.quiet(t)
	for _, one := range all {
		if n := len(one.temp.made); n != 1 {
			t.Errorf("%d relations are the session's own work", n)
		}
	}
}

// TestTemporaryCounts: the names that a session has for itself with its temporary
// tables count, for as long as it has them, and are bounded as all that it keeps.
func TestTemporaryCounts(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	g.askOf(t, g.db, "do $$ begin for i in 1 .. 3000 loop execute format('create table many%s (id int)', i); end loop; end $$")
	c := g.connect(t)
	exec := func(text string) error { _, err := c.Exec(t.Context(), text); return err }
	if err := exec("create temp table mine as select 1 / 0 as id"); code(err) != "22012" {
		t.Fatal(err)
	}
	g.holds(t, 0, 0)
	if err := exec("create temp table mine (id int); select * from mine"); err != nil {
		t.Fatal(err)
	}
	g.holds(t, 1<<20, 8<<20)
	one := g.protocol.memory.now()
	other := g.connect(t)
	if _, err := other.Exec(t.Context(), "create temp table mine (id int); select * from mine"); err != nil {
		t.Fatal(err)
	}
	g.holds(t, 2*one-1<<20, 2*one+1<<20)
	if err := exec("drop table mine; select 1"); err != nil {
		t.Fatal(err)
	}
	g.holds(t, one-1<<20, one+1<<20)
	// Others' tables take what there is.
	g.protocol.memory.mu.Lock()
	g.protocol.memory.most = 3 * one
	g.protocol.memory.mu.Unlock()
	if err := exec("create temp table mine (id int)"); code(err) != "53200" {
		t.Errorf("%v", err)
	}
	if err := exec("select 1"); err != nil {
		t.Errorf("the session does not go on: %v", err)
	}
	g.askOf(t, g.db, "do $$ begin for i in 1 .. 3000 loop execute format('create table more%s (id int)', i); end loop; end $$")
	for _, one := range g.protocol.conns() {
		if err := one.state.refresh(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Exec(t.Context(), "select * from mine"); code(err) != "53200" || !other.IsClosed() {
		t.Errorf("%v", err)
	}
	g.holds(t, 0, 0)
}

// TestTemporaryRead: what is known of a temporary table is what is known of others,
// by the server's version.
func TestTemporaryRead(t *testing.T) {
	g := serve(t, &rules{allow: understood, errors: true})
	c := g.connect(t)
	columns := "(id int unique)"
	if pgtest.Major() >= 15 {
		columns = "(id int unique nulls not distinct)"
	}
	for _, text := range []string{"create temp table mine " + columns, "select * from mine"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range g.protocol.conns() {
		r := one.seen.Load().RelationByName[schema.Name{Namespace: schema.Temporary, Name: "mine"}]
		if r == nil || len(r.Columns) != 1 || len(r.Indexes) != 1 || r.Indexes[0].Nulls != (pgtest.Major() >= 15) {
			t.Errorf("%+v", r)
		}
	}
}
