package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/store"
)

// reviewer is a protector that holds what writes.
type reviewer struct{ *protector }

func (reviewer) May() abi.May { return abi.May{Allow: true, Mask: true, Review: true} }
func (r reviewer) Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error) {
	v, err := r.protector.Command(ctx, c)
	if err == nil && v.Decision == abi.Allow && c.Statement.Writes() {
		v.Decision, v.Review = abi.Review, abi.Requirement{Groups: []string{"dba"}, People: 1}
	}
	return v, err
}

// TestPM22Kept: whatever is asked for, held, fails or crashes a guard that masks
// cells itself: no value of a masked column is in log, recording or store, on no
// card and in nothing that is told, nor in what the gateway logs.
func TestPM22Kept(t *testing.T) {
	guard := &protector{protect: append(masks(abi.MaskKeep, "0,1", "people.ssn"), append(masks(abi.MaskCustom, "", "people.dom"), masks(abi.MaskNull, "", secrets[1:5]...)...)...), oracle: []string{"accept"}}
	guard.protect = append(guard.protect, masks(abi.MaskNull, "", "people.seen", "people.list")...)
	g := serve(t, reviewer{guard})
	p := g.people(t, 5)
	dir := t.TempDir()
	log, _, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := record.Open(filepath.Join(dir, "recordings"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var flusher sync.WaitGroup
	flusher.Go(func() { _ = rec.Run(ctx) })
	rows, err := store.Open(t.Context(), filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	s := &approval.Service{Store: rows, Log: log, Groups: func(context.Context, string, string) ([]string, error) { return []string{"dba"}, nil },
		Notify: func(e approval.Event) { _ = json.NewEncoder(&told).Encode(e) }}
	g.Log, g.Recorder, g.Approver = log, rec, s
	guard.batch = func(b *abi.Batch) (*abi.Batch, error) {
		return each(b, func([]byte, bool) ([]byte, bool) { return []byte("own"), true }), nil
	}
	ask := func(text string) {
		for name, way := range ways {
			c, got := g.tapped(t, g.url())
			_ = way(t.Context(), c, text)
			if n := p.found(got.got.Bytes()); n != "" {
				t.Errorf("%s: %s: %s came through", name, text, n)
			}
			_ = c.Close(t.Context())
		}
	}
	for _, text := range []string{"select id, ssn, dom, pay, raw from people", "copy people to stdout", "copy (select ssn, dom from people) to stdout (format binary)",
		"begin; declare c cursor for select * from people; fetch all from c; commit", "begin; select ssn from people; select 1 / (id - id) from people; commit"} {
		ask(text)
	}
	// Refused, with what is masked written in it.
	guess := "'" + strings.ReplaceAll(p.text, "'", "''") + "'"
	for _, text := range []string{"select id from people where ssn = " + guess, "select ssn || " + guess + " from people", "prepare q as select id from people where ssn = " + guess, "update people set note = 'x' where ssn = " + guess + " returning *"} {
		ask(text)
	}
	// Held: it would print a whole row if it failed, and returns one.
	for i, text := range []string{"update people set note = 'x' where id = 1 returning ssn, pay", "update people set id = null where id = 2", "update people set id = 1 where id = 3"} {
		c, got := g.tapped(t, g.url())
		done := make(chan error, 1)
		go func() { _, err := c.Exec(context.Background(), text).ReadAll(); done <- err }()
		card := asked(t, s)
		full, err := s.Card(t.Context(), card.ID, bob)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&told).Encode(full); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Decide(t.Context(), card.ID, bob, true, "looked at it", card.Code); err != nil {
			t.Fatal(err)
		}
		if err := <-done; (err == nil) != (i == 0) {
			t.Errorf("%s: %v", text, err)
		}
		if n := p.found(got.got.Bytes()); n != "" {
			t.Errorf("%s: %s came through", text, n)
		}
		_ = c.Close(t.Context())
	}
	guard.batches(func(*abi.Batch) (*abi.Batch, error) { return nil, errors.New("unreachable") }) // as a module that traps
	ask("select id, dom from people")
	guard.batches(func(b *abi.Batch) (*abi.Batch, error) { b.Rows--; return b, nil }) // and one that gives back what it got, but a row
	ask("select id, dom from people")
	g.quiet(t)
	if err := errors.Join(rows.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	stop()
	flusher.Wait()
	found, files := 0, 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if n := p.found(b); n != "" {
			t.Errorf("%s has %s", filepath.Base(path), n)
		}
		files++
		found += bytes.Count(b, []byte("own"))
		return err
	})
	if err != nil || files < 10 || found == 0 {
		t.Errorf("%d files, %d masked cells: %v", files, found, err)
	}
	if n := p.found(told.Bytes()); n != "" || !bytes.Contains(told.Bytes(), []byte("returning ssn")) {
		t.Errorf("people are told %s", n)
	}
	if n := p.found([]byte(g.said())); n != "" {
		t.Errorf("the gateway's log has %s", n)
	}
}

// TestPM34Alike: two databases that differ in nothing but in whether values of
// masked columns are NULL, and how long they are, cannot be told apart: every
// byte that comes, with the sizes of messages and the counts, is the same, and
// what would ask is refused.
func TestPM34Alike(t *testing.T) {
	guard := &protector{}
	g := serve(t, guard)
	g.ask(t, `create domain code as text; create table cells (id int primary key, a text, b text, c code, n int, d date); grant select, update on cells to app;
		insert into cells (id) values (1), (2), (3); create table other (id int primary key, a text); grant select on other to app; insert into other values (1, 'x')`)
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	worlds := []string{"a = null, b = null, c = null, n = null, d = null", "a = '', b = 'q', c = '', n = 0, d = '2000-01-01'",
		"a = repeat('long', 5000), b = 'none', c = repeat('x', 70000), n = 7, d = '2000-01-31'", "a = case id when 1 then null else 'v' || id end, b = case id when 2 then null else 'u' end, c = null, n = id, d = null"}
	protect := append(masks(abi.MaskFixed, "shown", "cells.a", "cells.c"), masks(abi.MaskKeep, "2,3", "cells.b")...)
	protect = append(append(protect, masks(abi.MaskBucket, "100", "cells.n")...), masks(abi.MaskTruncDate, "month", "cells.d")...)
	null := masks(abi.MaskNull, "", "cells.a", "cells.b", "cells.c", "cells.n", "cells.d")
	show := []string{"select * from cells order by id", "select a, b, c, n, d from cells", "select o.a, x.a, x.n from cells x left join other o on o.id = x.id", "copy cells to stdout", "copy cells to stdout (format csv)",
		"copy (select a, b, n from cells) to stdout (format binary)", "begin; declare c cursor for select * from cells; fetch 1 from c; fetch all from c; commit", "select count(*) from cells",
		"update cells set id = id returning *", "select a from cells union all select b from cells"}
	for _, one := range [][]abi.Protect{protect, null} {
		guard.protects(one)
		g.Swap(generation(guard))
		for name, way := range ways {
			if name == "prepared" {
				continue
			}
			var first []byte
			for i, set := range worlds {
				g.ask(t, "update cells set "+set)
				c, got := g.tapped(t, g.url())
				got.got.Reset() // what came at connect has keys
				for _, text := range show {
					if err := way(t.Context(), c, text); err != nil {
						t.Fatalf("%s: %s: %v", name, text, err)
					}
				}
				_ = c.Close(t.Context())
				if b := got.got.Bytes(); i == 0 {
					first = slices.Clone(b)
				} else if !bytes.Equal(b, first) {
					at := 0
					for at < min(len(b), len(first)) && b[at] == first[at] {
						at++
					}
					t.Errorf("%s: %s tells itself apart at %d of %d and %d:\n%q\n%q", name, set, at, len(b), len(first), first[at:min(at+60, len(first))], b[at:min(at+60, len(b))])
				}
			}
		}
		for _, ask := range []string{"select a is null from cells", "select count(a) from cells", "select octet_length(a) from cells", "select id from cells where b is not null", "select coalesce(n, 0) from cells",
			"select pg_column_size(c) from cells", "select id from cells order by a nulls first", "select o.id from other o left join cells x on x.a = o.a", "select num_nulls(a, b) from cells", "select x from cells x", "select cells.* is null from cells",
			"select id from cells where (a, b) is null", "select max(d) from cells", "select a from cells union select b from cells", "select distinct n from cells", "select array_agg(a) from cells", "copy (select a || b from cells) to stdout"} {
			c, _ := g.tapped(t, g.url())
			var e *pgconn.PgError
			if _, err := c.Exec(t.Context(), ask).ReadAll(); !errors.As(err, &e) || e.Code != "42501" && e.Code != "0A000" {
				t.Errorf("%s: %v", ask, err)
			}
			_ = c.Close(t.Context())
		}
	}
}

// TestPM18PM35Domains: a domain, and a domain over one, is masked as its base
// type is, by every mask, in text and binary; so is citext.
func TestPM18PM35Domains(t *testing.T) {
	guard := &protector{}
	g := serve(t, guard)
	g.MaskKey = func(task, name string) []byte { return bytes.Repeat([]byte("k"), 32) }
	kinds := []struct {
		base, value, arg string
		kind             abi.MaskKind
	}{
		{"text", "4111-0000-0000-0003", "2,4", abi.MaskKeep}, {"text", "ada@example.com", "from:@", abi.MaskKeep}, {"varchar(40)", "4111-0000", "0,4", abi.MaskKeep}, {"text", "Ada-1815", "", abi.MaskHash}, {"text", "Ada-1815", "", abi.MaskTokenize}, {"text", "secret", "gone", abi.MaskFixed},
		{"int", "1815", "100", abi.MaskBucket}, {"int", "1815", "", abi.MaskTokenize}, {"int", "1815", "7", abi.MaskFixed}, {"bigint", "123456789012", "1000", abi.MaskBucket}, {"numeric", "12.34", "0.5", abi.MaskBucket}, {"numeric(10,2)", "12.34", "0", abi.MaskFixed},
		{"date", "1815-12-10", "month", abi.MaskTruncDate}, {"timestamptz", "2026-03-01 10:20:30+00", "hour", abi.MaskTruncDate}, {"uuid", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "", abi.MaskHash}, {"bytea", `\x4111`, "", abi.MaskNull}, {"jsonb", `{"a": 1}`, "", abi.MaskNull},
	}
	var text strings.Builder
	text.WriteString("create table typed (id int);\n")
	for i, k := range kinds {
		fmt.Fprintf(&text, "create domain d%d as %s; create domain dd%d as d%d check (value is not null or true); alter table typed add b%d %s, add c%d d%d, add e%d dd%d;\n", i, k.base, i, i, i, k.base, i, i, i, i)
		for _, column := range []string{"b", "c", "e"} {
			guard.protect = append(guard.protect, masks(k.kind, k.arg, fmt.Sprintf("typed.%s%d", column, i))...)
		}
	}
	text.WriteString("create extension citext; alter table typed add ci citext, add dci text; create domain ci2 as citext; alter table typed add cid ci2;\n")
	guard.protect = append(guard.protect, masks(abi.MaskKeep, "0,4", "typed.ci", "typed.cid", "typed.dci")...)
	for row := range 3 { // values, NULL, values again
		fmt.Fprintf(&text, "insert into typed (id) values (%d);\n", row)
		for i, k := range kinds {
			if row != 1 {
				fmt.Fprintf(&text, "update typed set b%d = '%s', c%d = '%s', e%d = '%s' where id = %d;\n", i, k.value, i, k.value, i, k.value, row)
			}
		}
		fmt.Fprintf(&text, "update typed set ci = 'Some-0003', cid = 'Some-0003', dci = 'Some-0003' where id = %d;\n", row)
	}
	text.WriteString("grant select on typed to app")
	g.ask(t, text.String())
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	g.Swap(generation(guard))
	c, got := g.tapped(t, g.url())
	for _, format := range []int16{0, 1} {
		read := func(what string, a, b string) {
			r := c.ExecParams(t.Context(), "select "+a+", "+b+" from typed order by id", nil, nil, nil, []int16{format}).Read()
			if r.Err != nil {
				t.Errorf("%s: %v", what, r.Err)
				return
			}
			for i, row := range r.Rows {
				if !bytes.Equal(row[0], row[1]) || (row[0] == nil) != (row[1] == nil) {
					t.Errorf("%s, format %d, row %d: %q as itself, %q as a domain", what, format, i, row[0], row[1])
				}
			}
		}
		for i, k := range kinds {
			what := fmt.Sprintf("%s, %v %s", k.base, k.kind, k.arg)
			read(what, fmt.Sprintf("b%d", i), fmt.Sprintf("c%d", i))
			read(what, fmt.Sprintf("b%d", i), fmt.Sprintf("e%d", i))
		}
		read("citext", "dci", "ci")
		read("a domain of citext", "dci", "cid")
	}
	if _, err := c.CopyTo(t.Context(), &got.got, "copy typed to stdout"); err != nil {
		t.Error(err)
	}
	all := got.got.Bytes()
	for _, k := range kinds {
		for _, value := range [][]byte{[]byte(k.value), []byte(hex.EncodeToString([]byte(k.value)))} {
			if len(value) > 4 && bytes.Contains(all, value) {
				t.Errorf("%s came through", value)
			}
		}
	}
	if !bytes.Contains(all, []byte("***0003")) || !bytes.Contains(all, []byte("***@example.com")) || bytes.Contains(all, []byte("Some-")) {
		t.Errorf("%q", all[max(0, len(all)-1000):])
	}
}
