package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// options puts a generation in force whose task and resource have options.
func (g *gateway) options(guard gate.Guard, task TaskOptions, resource ResourceOptions, digest string) {
	gen := generation(guard)
	gen.Tasks["x"].Options = &task
	gen.Resources["shop"].Options, gen.Resources["shop"].Digest = &resource, digest
	g.Swap(gen)
}

// between is a guard that does something once it has judged, before the command
// goes to the server.
type between struct {
	protector
	mu   sync.Mutex
	at   abi.Phase // a Parse locks what it reads until the Sync
	then func()
}

func (b *between) Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.then != nil && c.Phase == b.at {
		b.then()
		b.then = nil
	}
	return b.protector.Command(ctx, c)
}

// TestPM16DriftStrict: another session replaces a view after the verdict and
// before the server reads it. With `drift: strict` the answer is not shown and
// the session ends; a change of something else disturbs nobody.
func TestPM16DriftStrict(t *testing.T) {
	guard := &between{protector: protector{protect: masks(abi.MaskNull, "", "people.ssn", "people.raw")}}
	g := serve(t, guard)
	g.options(guard, TaskOptions{}, ResourceOptions{DriftStrict: true}, "strict")
	p := g.people(t, 3)
	if out, err := server.Psql(g.db, "CREATE VIEW pv AS SELECT id, name AS n FROM people; GRANT SELECT ON pv TO app"); err != nil {
		t.Fatal(out, err)
	}
	replace := func(text string) func() {
		return func() {
			if out, err := server.Psql(g.db, text); err != nil {
				t.Error(out, err)
			}
		}
	}
	for name, way := range ways {
		c, got := g.tapped(t, g.url())
		guard.mu.Lock()
		if guard.at = abi.Execute; name != "simple" {
			guard.at = abi.Prepare
		}
		guard.then = replace("CREATE TABLE other" + random(4) + " (id int)")
		guard.mu.Unlock()
		if err := way(t.Context(), c, "select n from pv"); err != nil {
			t.Errorf("%s: a change of something else: %v", name, err)
		}
		other, _ := g.tapped(t, g.url())
		if err := way(t.Context(), other, "select n from pv where id > 0"); err != nil { // what it means is remembered from then on
			t.Errorf("%s: %v", name, err)
		}
		guard.mu.Lock()
		guard.then = replace("CREATE OR REPLACE VIEW pv AS SELECT id, ssn AS n FROM people")
		guard.mu.Unlock()
		err := way(t.Context(), c, "select n from pv where id > 0")
		if err == nil || !strings.Contains(err.Error(), "internal error, session") {
			t.Errorf("%s: %v", name, err)
		}
		if n := p.found(got.got.Bytes()); n != "" {
			t.Errorf("%s: %s came through", name, n)
		}
		if !strings.Contains(g.said(), "alarm: alarm: the schema has changed") {
			t.Errorf("%s: %q", name, g.said())
		}
		replace("CREATE OR REPLACE VIEW pv AS SELECT id, name AS n FROM people")()
		g.protocol.schemas.Range(func(_, v any) bool {
			if err := v.(*resourceState).refresh(t.Context(), 0); err != nil {
				t.Error(err)
			}
			return true
		})
	}
}

// TestPM16DriftBehindAName: so it is of what a name stands for.
func TestPM16DriftBehindAName(t *testing.T) {
	guard := &between{protector: protector{protect: masks(abi.MaskNull, "", "people.ssn")}}
	g := serve(t, guard)
	g.options(guard, TaskOptions{}, ResourceOptions{DriftStrict: true}, "strict")
	p := g.people(t, 3)
	g.askOf(t, g.db, "CREATE VIEW pv AS SELECT id, name AS n FROM people; GRANT SELECT ON pv TO app")
	c, got := g.tapped(t, g.url())
	if _, err := c.Exec(t.Context(), "prepare q as select n from pv").ReadAll(); err != nil {
		t.Fatal(err)
	}
	guard.mu.Lock()
	guard.at, guard.then = abi.Execute, func() {
		if out, err := server.Psql(g.db, "CREATE OR REPLACE VIEW pv AS SELECT id, ssn AS n FROM people"); err != nil {
			t.Error(out, err)
		}
	}
	guard.mu.Unlock()
	if _, err := c.Exec(t.Context(), "execute q").ReadAll(); err == nil || !strings.Contains(err.Error(), "internal error, session") {
		t.Error(err)
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}

// TestTaskIsClosedByAnyMask: each of a task's masks is looked for, and all that are
// missing are named.
func TestTaskIsClosedByAnyMask(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskNull, "", "people.ssn")}
	g := serve(t, guard)
	g.people(t, 1)
	mask := func(table, column string) abi.Source {
		return abi.Source{Relation: []string{"public", table}, Column: column}
	}
	g.options(guard, TaskOptions{Masked: []abi.Source{mask("people", "ssn"), mask("people", "gone"), mask("people", "id"), mask("nowhere", "ssn")}}, ResourceOptions{}, "")
	if out := g.psql(t, "select id from people"); !strings.Contains(out, "it masks public.people.gone, public.nowhere.ssn, which") {
		t.Error(out)
	}
}

// TestTaskCloses: while a column that the task masks is not there, every command
// of it is refused, others go on, and the operator hears of it once.
func TestTaskCloses(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskNull, "", "people.ssn")}
	g := serve(t, guard)
	p := g.people(t, 3)
	g.options(guard, TaskOptions{Masked: []abi.Source{{Relation: []string{"public", "people"}, Column: "ssn"}, {Relation: []string{"public", "faces"}, Column: "ssn"}}}, ResourceOptions{}, "")
	c, got := g.tapped(t, g.url())
	ctx := t.Context()
	if _, err := c.Prepare(ctx, "p", "select 1", nil); err != nil {
		t.Fatal(err)
	}
	all := func(want string) {
		t.Helper()
		for _, err := range []error{
			func() error { _, err := c.Exec(ctx, "select ssn from faces").ReadAll(); return err }(),
			c.ExecParams(ctx, "select ssn from people limit 1", nil, nil, nil, nil).Read().Err,
			c.ExecPrepared(ctx, "p", nil, nil, nil).Read().Err,
		} {
			if want == "" && err != nil && strings.Contains(err.Error(), "does not exist") {
				continue
			}
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	change := func(text string) {
		t.Helper()
		if out, err := server.Psql(g.db, text); err != nil {
			t.Fatal(out, err)
		}
		for _, one := range g.protocol.conns() {
			if err := one.state.refresh(ctx, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	all("")
	if _, err := c.Exec(ctx, "begin").ReadAll(); err != nil {
		t.Fatal(err)
	}
	raw := g.in(t) // with a portal that is open
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	send(t, raw, query("begin"), parseMsg("", "select 2"), bindMsg("open", ""), sync_())
	want(t, raw, 2, "C ZT 1 2 ZT")
	change("ALTER TABLE people RENAME ssn TO number")
	send(t, raw, executeMsg("open"), sync_())
	want(t, raw, 1, "E34000 ZE")
	if _, err := c.Exec(ctx, "select 1").ReadAll(); code(err) != "42501" {
		t.Error(err)
	}
	if _, err := c.Exec(ctx, "rollback").ReadAll(); err != nil {
		t.Errorf("a rollback: %v", err)
	}
	for _, text := range []string{"rollback; select number from people", "select number from people; rollback"} {
		if _, err := c.Exec(ctx, text).ReadAll(); code(err) != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
	all("the task x is closed: it masks public.people.ssn, which shop does not have")
	for _, text := range []string{"select ssn from faces", "select ssn from people limit 1", "select 1", "select 2"} {
		if !g.log.has(func(e *gate.Event) bool { return e.Text == text && strings.Contains(e.Incomplete, "is closed") }) {
			t.Errorf("the log does not know of %q", text)
		}
	}
	another, _ := g.tapped(t, g.url())
	if _, err := another.Exec(ctx, "select 1").ReadAll(); code(err) != "42501" {
		t.Error(err)
	}
	if n := strings.Count(g.said(), "the task x is closed"); n != 1 {
		t.Errorf("the operator heard of it %d times: %s", n, g.said())
	}
	change("ALTER TABLE people RENAME number TO ssn")
	all("")
	if n := strings.Count(g.said(), "alarm: "); n != 1 {
		t.Errorf("the operator heard that it is open: %s", g.said())
	}
	// A reload may close it under the schema that is known already.
	g.options(guard, TaskOptions{Masked: []abi.Source{{Relation: []string{"public", "people"}, Column: "nothing"}}}, ResourceOptions{}, "")
	if _, err := c.Exec(ctx, "select 1").ReadAll(); code(err) != "42501" {
		t.Error(err)
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}

// TestAlarm: an answer that has other columns than were judged ends the session,
// and its rows do not come.
func TestAlarm(t *testing.T) {
	for name, change := range map[string]func(*abi.Statement){
		"fewer columns": func(st *abi.Statement) { st.Outputs = st.Outputs[:1] },
		"another origin": func(st *abi.Statement) {
			for i := range st.Outputs {
				st.Outputs[i].Copies = []abi.Source{{Relation: []string{"public", "people"}, Column: "name"}}
			}
		},
	} {
		g := serve(t, &protector{protect: masks(abi.MaskNull, "", "people.raw")})
		p := g.people(t, 3)
		for way, ask := range ways {
			c, got := g.tapped(t, g.url())
			text := "select name, ssn from people limit " + fmt.Sprint(100+len(way))
			if r := c.ExecParams(t.Context(), text, nil, nil, nil, nil).Read(); r.Err != nil {
				t.Fatal(r.Err)
			}
			got.got.Reset()
			for _, one := range g.protocol.conns() { // what the analysis would have to be wrong about
				one.state.mu.Lock()
				for k, a := range one.state.texts {
					if k.text == text {
						wrong, st := *a, *a.Statement
						st.Outputs = append([]abi.Output(nil), st.Outputs...)
						change(&st)
						wrong.Statement = &st
						one.state.texts[k] = &wrong
					}
				}
				one.state.mu.Unlock()
			}
			err := ask(t.Context(), c, text)
			if err == nil || !strings.Contains(err.Error(), "internal error, session") || !strings.Contains(g.said(), "alarm") {
				t.Errorf("%s, %s: %v, the log has %q", name, way, err, g.said())
			}
			if n := p.found(got.got.Bytes()); n != "" {
				t.Errorf("%s, %s: %s came through", name, way, n)
			}
		}
	}
}

// TestPM06PM23Batch: cells that a guard masks itself grow, shrink and become
// NULL; where it fails, the answer ends with an error and none of its rows.
func TestPM06PM23Batch(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskCustom, "arg", "people.ssn")}
	g := serve(t, guard)
	p := g.people(t, 5)
	c, got := g.tapped(t, g.url())
	for _, grown := range []string{"", "short", strings.Repeat("longer ", 10)} {
		guard.batches(func(b *abi.Batch) (*abi.Batch, error) {
			return each(b, func(cell []byte, null bool) ([]byte, bool) {
				return []byte(grown), null || len(grown) == 5 && cell[1] < '8'
			}), nil
		})
		for _, format := range []int16{0, 1} {
			r := c.ExecParams(t.Context(), "select id, ssn, note from people order by id", nil, nil, nil, []int16{0, format, 0}).Read()
			if r.Err != nil || len(r.Rows) != 5 {
				t.Fatal(r.Err, len(r.Rows))
			}
			for i, row := range r.Rows {
				if string(row[0]) != string(rune('1'+i)) || string(row[2]) != "note "+string(row[0]) || row[1] != nil && string(row[1]) != grown || row[1] == nil && len(grown) != 5 {
					t.Errorf("row %d: %q", i, row)
				}
			}
		}
		var b bytes.Buffer
		if tag, err := c.CopyTo(t.Context(), &b, "copy people (id, ssn) to stdout csv header"); err != nil || tag.RowsAffected() != 5 || strings.Count(b.String(), "\n") != 6 || !strings.HasPrefix(b.String(), "id,ssn\n1,") {
			t.Error(tag, err, b.String())
		}
	}
	for name, fails := range map[string]func(*abi.Batch) (*abi.Batch, error){
		"an error": func(*abi.Batch) (*abi.Batch, error) { return nil, errOver },
		"nothing":  func(*abi.Batch) (*abi.Batch, error) { return nil, nil },
		"too few":  func(b *abi.Batch) (*abi.Batch, error) { return &abi.Batch{Rows: b.Rows - 1, Columns: b.Columns}, nil },
	} {
		guard.batches(fails)
		for way, ask := range ways {
			if err := ask(t.Context(), c, "select ssn from people -- "+name); code(err) != "42501" {
				t.Errorf("%s, %s: %v", name, way, err)
			}
		}
		if _, err := c.CopyTo(t.Context(), &bytes.Buffer{}, "copy people to stdout"); code(err) != "42501" {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.ExecParams(t.Context(), "select 1", nil, nil, nil, nil).Read().Err; err != nil {
			t.Errorf("%s: the session does not go on: %v", name, err)
		}
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}

// TestPM06LargeRows: a row that is larger than the buffer is masked as a whole,
// up to a bound.
func TestPM06LargeRows(t *testing.T) {
	g := serve(t, &protector{protect: masks(abi.MaskNull, "", "people.ssn", "people.note")})
	p := g.people(t, 3)
	if out, err := server.Psql(g.db, "UPDATE people SET note = repeat('secret ', 1000000) WHERE id = 1; ALTER TABLE people DROP COLUMN pay; ALTER TABLE people ADD COLUMN big text; UPDATE people SET big = repeat('b', 70000000) WHERE id = 3"); err != nil {
		t.Fatal(out, err)
	}
	p.needles = append(p.needles, []byte("secret secret"))
	c, got := g.tapped(t, g.url())
	for _, format := range []int16{0, 1} {
		r := c.ExecParams(t.Context(), "select id, note, ssn from people where id < 3 order by id", nil, nil, nil, []int16{format}).Read()
		if r.Err != nil || len(r.Rows) != 2 || r.Rows[0][1] != nil {
			t.Fatal(r.Err, len(r.Rows))
		}
	}
	if tag, err := c.CopyTo(t.Context(), &bytes.Buffer{}, "copy (select note, ssn, id from people where id < 3) to stdout"); err != nil || tag.RowsAffected() != 2 {
		t.Error(tag, err)
	}
	if r := c.ExecParams(t.Context(), "select id, big, ssn from people where id = 3", nil, nil, nil, nil).Read(); code(r.Err) != "54000" {
		t.Error(r.Err)
	}
	if r := c.ExecParams(t.Context(), "select 1", nil, nil, nil, nil).Read(); r.Err != nil {
		t.Errorf("the session does not go on: %v", r.Err)
	}
	if n := p.found(got.got.Bytes()); n != "" {
		t.Errorf("%s came through", n)
	}
}

// has says whether one of the events is such a one.
func (m *memory) has(such func(*gate.Event) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.events, such)
}
