package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
)

var batching = Manifest{Name: "rogue", Kind: "guard", ABI: ABI{Major: 1}, Hooks: []string{"configure", "command", "result_schema", "result_batch", "approval"}, Inputs: []string{"text", "operations", "task"}}

func mayMask(s *Source) { s.May.Mask = true }

const canary = "4111-canary-1111"

// world is a gate around a guard, that keeps every byte of its log and its
// recording, and what guards log.
type world struct {
	gate *gate.Gate
	mu   sync.Mutex
	kept bytes.Buffer
}

func (w *world) Append(_ context.Context, b []byte, _ bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept.Write(b)
	return nil
}
func (w *world) TryAppend(b []byte, _ time.Time) bool {
	return w.Append(context.Background(), b, false) == nil
}
func (w *world) Record(string) (gate.Recording, error) { return tape{w}, nil }
func (w *world) Authenticate(_ context.Context, l gate.Login) (gate.Grant, error) {
	return gate.Grant{Subject: l.Secret, Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}, nil
}
func (w *world) said(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.kept.Bytes(), []byte(text))
}

type tape struct{ w *world }

func (t tape) Append(b []byte) error { return t.w.Append(context.Background(), b, false) }
func (tape) Head() int               { return 1 << 16 }
func (tape) Close() error            { return nil }

// around puts a module that load gives into a gate.
func around(t *testing.T, load func(h *Host) *Module) (*world, *Module) {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{}
	m := load(&Host{cache: h.cache, Deadline: h.Deadline, Log: func(_, line string) { _ = w.Append(context.Background(), []byte(line), false) }})
	w.gate = &gate.Gate{Identity: w, Log: w, Recorder: w}
	w.gate.Swap(&gate.Generation{Guards: []gate.Guard{m}, Tasks: map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"shop"}}},
		Resources: map[string]*gate.Resource{"shop": {Name: "shop", Protocol: "postgres"}}})
	return w, m
}

func aroundRogue(t *testing.T, change func(*Source)) (*world, *Module) {
	return around(t, func(h *Host) *Module {
		src := Source{Name: "rogue", Path: writeModule(t, batching), May: abi.May{Allow: true, Review: true, Mask: true}}
		if change != nil {
			change(&src)
		}
		set, err := h.Load(t.Context(), []Source{src})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := set.Close(); err != nil {
				t.Error(err)
			}
		})
		return set.Modules[0]
	})
}

func (w *world) open(t *testing.T, subject string) *gate.Session {
	t.Helper()
	s, err := w.gate.Open(t.Context(), gate.Login{Protocol: "postgres", Task: "x", Resource: "shop", Secret: subject})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	return s
}

// lines frames a row as its cells with a | behind each, NULL as ~.
type lines struct{}

func (lines) Rewrite(dst, frames []byte, c mask.Cells) ([]byte, error) {
	for len(frames) > 0 {
		for i := range c.Columns() {
			cell, rest, ok := bytes.Cut(frames, []byte("|"))
			if !ok {
				return nil, errors.New("half a row")
			}
			frames = rest
			if !c.Masked(i) {
				dst = append(append(dst, cell...), '|')
				continue
			}
			null := false
			if dst, null = c.Append(dst, cell, i, string(cell) == "~", false); null {
				dst = append(dst, '~')
			}
			dst = append(dst, '|')
		}
	}
	return dst, nil
}

// show runs a command whose result has the named columns of text, and gives
// what of its rows may reach the client.
func show(t *testing.T, s *gate.Session, rows string, columns ...string) (string, error) {
	t.Helper()
	c := &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "postgres", Text: "show", Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "t"}, Effect: abi.EffectRead}}}}
	e, err := s.Submit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	schema := &abi.ResultSchema{}
	for _, name := range columns {
		schema.Columns = append(schema.Columns, abi.ResultColumn{Name: name, Type: 25, Relation: []string{"public", "t"}, Column: name})
	}
	if err := e.Schema(t.Context(), c, schema); err != nil {
		return "", err
	}
	r := &abi.Result{Frames: []byte(rows), Rows: strings.Count(rows, "|") / len(columns)}
	if err := e.Rows(t.Context(), r, lines{}); err != nil {
		if e := e.Done(t.Context(), gate.Outcome{State: gate.Failed}); e != nil {
			t.Error(e)
		}
		return "", err
	}
	return string(r.Frames), e.Done(t.Context(), gate.Outcome{State: gate.Completed})
}

// full is everything that an error says, to the client and to the log.
func full(err error) string {
	if d, ok := errors.AsType[*gate.Denied](err); ok {
		return fmt.Sprintf("%+v", *d)
	}
	return err.Error()
}

// TestCustomCells: a plan's CUSTOM columns go through the guard, the others do
// not, and rows and NULLs stay where they were.
func TestCustomCells(t *testing.T) {
	w, _ := aroundRogue(t, nil)
	s := w.open(t, "ada")
	for range 2 {
		if got, err := show(t, s, "ada|x|one|~|y|two|bob||~|", "upper", "plain", "too"); err != nil || got != "ADA|x|ONE|~|y|TWO|BOB||~|" {
			t.Errorf("%q %v", got, err)
		}
	}
	if got, err := show(t, s, "x|", "plain"); err != nil || got != "x|" {
		t.Errorf("%q %v", got, err)
	}
	if got, err := show(t, s, "", "upper"); err != nil || got != "" {
		t.Errorf("no rows: %q %v", got, err)
	}
	many := strings.Repeat("a|b|c|~|", 5000)
	if got, err := show(t, s, many, "upper", "too"); err != nil || got != strings.ToUpper(many) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := show(t, s, "a|b|c|", "forget"); err != nil || got != "x|~|~|" {
		t.Errorf("WM19: what the guard forgot: %q %v", got, err)
	}
}

// TestPM23Misbehaviour: whatever a guard does while it has cells, the rows are
// not shown, the instance is gone, the next one is served, and nothing of the
// cells is in an error, a log, a recording or what is said later (PM22).
func TestPM23Misbehaviour(t *testing.T) {
	w, m := aroundRogue(t, nil)
	for i, what := range []string{"panic", "index", "loop", "recursion", "bomb", "sleep", "fewer rows", "more rows", "no columns", "more columns",
		"another column", "another type", "another format", "not UTF-8", "NUL", "huge", "bitmap", "back"} {
		s := w.open(t, fmt.Sprint("eve", i))
		got, err := show(t, s, canary+"|b|c|", what)
		if err == nil {
			t.Errorf("%s: %q is shown", what, got)
			continue
		}
		if d, ok := errors.AsType[*gate.Denied](err); !ok || d.Reason.Code != "gate.guard-failed" {
			t.Errorf("%s: %v", what, err)
		}
		if text := full(err); strings.Contains(text, "canary") || strings.Contains(text, "CANARY") || strings.Contains(text, "\n") {
			t.Errorf("%s: PM22: the error says %q", what, text)
		}
		if got, err := show(t, w.open(t, "ada"), "fine|", "upper"); err != nil || got != "FINE|" {
			t.Errorf("after %s: %q %v", what, got, err)
		}
	}
	s := w.open(t, "ada")
	if got, err := show(t, s, "canary|", "print"); err != nil || got != "CANARY|" {
		t.Errorf("%q %v", got, err)
	}
	v, err := m.Command(t.Context(), ask("ada", "recall"))
	if err != nil || strings.Contains(v.Reason.Message, "canary") {
		t.Errorf("WM17: what was a cell is in a verdict: %+v %v", v, err)
	}
	if w.said("canary") || w.said("4111-") {
		t.Error("PM22: a cell stands in a log or a recording")
	}
	if n := m.pools.live.Load(); n > 3 || int(n) != m.set.live {
		t.Errorf("%d instances, %d counted", n, m.set.live)
	}
}

// TestPM23TextMisbehaviour: whatever a guard does while it has lines of a text,
// none of them is shown, and nothing of them is said.
func TestPM23TextMisbehaviour(t *testing.T) {
	w, _ := aroundRogue(t, nil)
	mask := func(subject, what, text string) (string, error) {
		c := &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "ssh", Text: "mask " + what, Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: []string{"x"}, Effect: abi.EffectRead}}}}
		e, err := w.open(t, subject).Submit(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := e.Text(t.Context()).Append(nil, []byte(text))
		if err == nil {
			err = e.Result(t.Context(), &abi.Result{Frames: out, Masked: true})
		}
		return string(out), errors.Join(err, e.Done(t.Context(), gate.Outcome{State: gate.Completed}))
	}
	for i, what := range []string{"panic", "index", "loop", "recursion", "bomb", "sleep", "fewer rows", "more rows", "no columns", "more columns",
		"another column", "another type", "another format", "not UTF-8", "NUL", "huge", "bitmap", "back"} {
		got, err := mask(fmt.Sprint("eve", i), what, "one\n"+canary+"\n")
		if d, ok := errors.AsType[*gate.Denied](err); got != "" || !ok || d.Reason.Code != "gate.guard-failed" || strings.Contains(strings.ToLower(full(d)), "canary") {
			t.Errorf("%s: %q %v", what, got, err)
		}
		if got, err := mask("ada", "upper", "one\n\ntwo\n"); err != nil || got != "ONE\n\nTWO\n" {
			t.Errorf("after %s: %q %v", what, got, err)
		}
	}
	if got, err := mask("ada", "forget", "one\ntwo\n"); err != nil || got != "x\n\n" {
		t.Errorf("WM19: what the guard forgot: %q %v", got, err)
	}
	if w.said("canary") || w.said("CANARY") {
		t.Error("PM22: a line stands in a log or a recording")
	}
	m := load(t, Manifest{Name: "rogue", Kind: "guard", ABI: ABI{Major: 1}, Hooks: []string{"command"}, Inputs: []string{"text"}}, mayMask)
	if e := gate.Explain(&abi.Statement{Protocol: "ssh"}, []gate.Guard{m}, []*abi.Verdict{{Decision: abi.Allow, Protect: []abi.Protect{{Pattern: ".", Kind: abi.MaskCustom}}}}); e.Refused == nil {
		t.Error("a guard without the hook masks lines")
	}
}

// TestWM17CellsApart: also where the operator lets a module serve everyone with
// the same instances, those that were given cells judge nothing.
func TestWM17CellsApart(t *testing.T) {
	for _, of := range []Isolation{ByTask, BySubject, Shared} {
		m := load(t, batching, func(s *Source) { s.May.Mask, s.Isolation = true, of })
		b := &abi.Batch{Rows: 1, Columns: []abi.BatchColumn{{Type: 25}}}
		b.Columns[0].Add([]byte(canary), false)
		for range 2 {
			if _, err := m.ResultBatch(t.Context(), ask("ada", "").Session, b); err != nil {
				t.Fatal(err)
			}
		}
		if v, err := m.Command(t.Context(), ask("ada", "recall")); err != nil || v.Reason.Message != "1 " {
			t.Errorf("%s: %q %v", of, v.Reason.Message, err)
		}
	}
}

// TestWM06BatchReplies: replies that lie on the wire, and imports that are
// called with cells in hand.
func TestWM06BatchReplies(t *testing.T) {
	good := &abi.Batch{Rows: 3, Columns: []abi.BatchColumn{{Type: 25}}}
	for range 3 {
		good.Columns[0].Add([]byte("x"), false)
	}
	reply := good.AppendTo(nil)
	plan := (&abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskCustom}, Default: abi.MaskPass}).AppendTo(nil)
	planAt, batchAt := replyAt+len(allow), replyAt+len(allow)+len(plan)
	hooks := func(code []byte) []byte { // COMMAND allows, RESULT_SCHEMA says CUSTOM, RESULT_BATCH is the test's
		is := func(hook int32) []byte { return join([]byte{0x20, 0}, i32(hook), []byte{0x46, 0x04, 0x7e}) }
		return join(is(7), code, []byte{5}, is(6), answer(planAt, len(plan)), []byte{5}, answer(replyAt, len(allow)), []byte{0x0b, 0x0b})
	}
	echo := join(i64(bufferAt<<32), []byte{0x20, 1, 0xad, 0x84}) // the reply is the input, where it stands
	at := func(n int) []byte { return answer(batchAt, n) }
	cells := join(i32(bufferAt), []byte{0x20, 1}) // where the input is, and how long
	logs, fails := [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}}, [][3]string{{coreModule, "fail", "(i32 i32) -> ()"}}
	swap := func(from, to string) []byte { return bytes.Replace(reply, []byte(from), []byte(to), 1) }
	manifest := batching
	manifest.Hooks = []string{"command", "result_schema", "result_batch"}
	for name, c := range map[string]struct {
		imports [][3]string
		reply   []byte
		code    []byte
		want    string // what is shown; "" is an error
		err     string
	}{
		"good":              {nil, reply, at(len(reply)), "x|x|x|", ""},
		"aliases":           {nil, reply, echo, canary + "|b|c|", ""},
		"nothing to say":    {nil, reply, i64(0), "", errSilent.Error()},
		"empty":             {nil, reply, at(0), "", errBatch.Error()},
		"not implemented":   {nil, reply, i64(1), "", "not implemented"},
		"unknown status":    {nil, reply, i64(0x31313134), "", "internal"},
		"cut":               {nil, reply, at(len(reply) - 1), "", errBatch.Error()},
		"no rows":           {nil, reply[2:], at(len(reply) - 2), "", errBatch.Error()},
		"rows without end":  {nil, append([]byte{8, 255, 255, 255, 255, 15}, reply[2:]...), at(len(reply) + 4), "", errBatch.Error()},
		"offsets go back":   {nil, swap("\x02\x00\x00\x00\x03", "\x00\x00\x00\x00\x03"), at(len(reply)), "", errBatch.Error()},
		"offsets beyond":    {nil, swap("\x03\x00\x00\x00B", "\x04\x00\x00\x00B"), at(len(reply)), "", errBatch.Error()},
		"far beyond":        {nil, swap("\x03\x00\x00\x00B", "\xff\xff\xff\xffB"), at(len(reply)), "", errBatch.Error()},
		"too long":          {nil, reply, answer(batchAt, 40_000), "", "at most"},
		"a length of cells": {nil, reply, join(i64(bufferAt<<32), i32(bufferAt+41), []byte{0x28, 0, 0, 0xad, 0x84}), "", "at most"},
		"outside":           {nil, reply, answer(65536-4, 8), "", "outside"},
		"far outside":       {nil, reply, i64(-1), "", "at most"},
		"trap":              {nil, reply, []byte{0}, "", "trapped"},
		"trap with a log":   {logs, reply, join(i32(1), cells, []byte{0x10, 0, 0}), "", "trapped"},
		"log":               {logs, reply, join(i32(1), cells, []byte{0x10, 0}, at(len(reply))), "x|x|x|", ""},
		"trap with words":   {fails, reply, join(cells, []byte{0x10, 0, 0}), "", "trapped"},
		"fail with words":   {fails, reply, join(cells, []byte{0x10, 0}, i64(3)), "", "internal"},
		"logs outside":      {logs, reply, join(i32(1), i32(65535), i32(0x31313134), []byte{0x10, 0, 0}), "", "outside the guest's memory"},
		"loop":              {nil, reply, append(bytes.Clone(endless), 0), "", errBudget.Error()},
	} {
		w, m := around(t, func(h *Host) *Module {
			m, err := try(t, h, shape{imports: c.imports, call: hooks(c.code), reply: join(allow, plan, c.reply)}, manifest, mayMask)
			if err != nil {
				t.Fatal(name, err)
			}
			return m
		})
		got, err := show(t, w.open(t, "ada"), canary+"|b|c|", "card")
		switch {
		case c.want != "" && (err != nil || got != c.want):
			t.Errorf("%s: %q %v", name, got, err)
		case c.want == "" && (err == nil || !strings.Contains(full(err), c.err)):
			t.Errorf("%s: %q %v", name, got, err)
		case err != nil && (strings.Contains(full(err), "canary") || strings.Contains(full(err), "825")): // 825307444 is "4111" read as a number
			t.Errorf("%s: PM22: the error says %q", name, full(err))
		}
		if name != "aliases" && w.said("canary") {
			t.Errorf("%s: PM22: a cell stands in a log or a recording", name)
		}
		want := int32(1) // what is left: the instance that judges, and the one with cells where it is whole
		if c.want != "" || strings.Contains(c.err, "internal") || c.err == "not implemented" {
			want = 2
		}
		if n := m.pools.live.Load(); n != want {
			t.Errorf("%s: %d instances, not %d", name, n, want)
		}
	}
}

// TestBatchesBelongToWhoAsked: what one session is answered stays as it is while
// others are.
func TestBatchesBelongToWhoAsked(t *testing.T) {
	m := load(t, batching, mayMask)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			b := &abi.Batch{Rows: 2, Columns: []abi.BatchColumn{{Type: 25}}}
			for n := range 100 {
				text := fmt.Sprintf("a%d-%d", i, n)
				b.Columns[0].Reset()
				b.Columns[0].Add([]byte(text), false)
				b.Columns[0].Add(nil, true)
				out, err := m.ResultBatch(context.Background(), ask("ada", "").Session, b)
				if errors.Is(err, errBusy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if cell, _ := out.Columns[0].Cell(0); string(cell) != strings.ToUpper(text) {
					t.Errorf("%q for %q", cell, text)
					return
				}
			}
		})
	}
	wg.Wait()
	small := &abi.Batch{Rows: 1, Columns: make([]abi.BatchColumn, 1)}
	small.Columns[0].Add(nil, true)
	big := &abi.Batch{Rows: 1, Columns: []abi.BatchColumn{{Type: 25}}}
	big.Columns[0].Add(make([]byte, MaxInput), false)
	if _, err := m.ResultBatch(t.Context(), ask("ada", "").Session, big); !errors.Is(err, errCells) {
		t.Error(err)
	}
	if _, err := m.ResultBatch(t.Context(), ask("ada", "").Session, &abi.Batch{Rows: 2, Columns: small.Columns}); !errors.Is(err, errUneven) {
		t.Error("cells of one row for two:", err)
	}
	if _, err := m.ResultBatch(t.Context(), nil, small); !errors.Is(err, errNobody) {
		t.Error(err)
	}
}

// TestMaskGrant: who is shown results needs the grant to mask, and a plan that
// says CUSTOM the hook for it.
func TestMaskGrant(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	for _, hook := range []string{"result_schema", "result_batch"} {
		m := small
		m.Hooks = []string{"command", hook}
		if _, err := try(t, h, shape{reply: allow}, m, nil); err == nil || !strings.Contains(err.Error(), hook) || !strings.Contains(err.Error(), "may: [deny, mask]") {
			t.Errorf("%s: %v", hook, err)
		}
		if _, err := try(t, h, shape{reply: allow}, m, mayMask); err != nil {
			t.Error(err)
		}
	}
	without := batching
	without.Hooks = []string{"command", "result_schema"}
	w, _ := around(t, func(*Host) *Module { return load(t, without, mayMask) })
	if got, err := show(t, w.open(t, "ada"), "x|", "upper"); err == nil || !strings.Contains(full(err), "result_batch") {
		t.Errorf("%q %v", got, err)
	}
}

// TestWM02Approval: a guard keeps or ends a request; whatever else it does is an
// error, and what it did not ask for it does not get.
func TestWM02Approval(t *testing.T) {
	m := load(t, batching, mayMask)
	state := func(cookie string) *abi.Approval {
		return &abi.Approval{ID: "r7", Session: &abi.Session{Subject: "ada", Task: "x"}, Cookie: []byte(cookie), Met: true, Voices: []abi.Voice{{Subject: "bob", Groups: []string{"dba"}, Approve: true, Reason: "fine"}}}
	}
	if !m.Approvals() {
		t.Fatal("it does not want to be asked")
	}
	for cookie, want := range map[string]abi.Decision{"": abi.Allow, "deny": abi.Deny, "unset": abi.Deny, "session": abi.Allow} {
		v, err := m.Approval(t.Context(), state(cookie))
		if err != nil || v.Decision.Normal() != want {
			t.Errorf("%s: %+v %v", cookie, v, err)
		}
		if cookie == "deny" && v.Reason.Message != "r7: 1 people, the first bob of [dba]" {
			t.Error(v.Reason.Message)
		}
		if cookie == "session" && v.Reason.Detail != "x" {
			t.Error("who asks came along unasked:", v.Reason.Detail)
		}
	}
	for _, cookie := range []string{"panic", "loop"} {
		if v, err := m.Approval(t.Context(), state(cookie)); err == nil {
			t.Errorf("%s: %+v", cookie, v)
		}
	}
	none := state("")
	none.Session = nil
	if _, err := m.Approval(t.Context(), none); !errors.Is(err, errNobody) {
		t.Error(err)
	}
	if m := load(t, manifest, nil); m.Approvals() {
		t.Error("a guard without the hook wants to be asked")
	}
	for name, s := range map[string]shape{"says nothing": {call: i64(0)}, "does not parse": {reply: []byte{0x12, 0x7f}}, "status": {call: i64(1)}} {
		h, err := shared()
		if err != nil {
			t.Fatal(err)
		}
		asked := small
		asked.Hooks = []string{"approval"}
		m, err := try(t, h, s, asked, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := m.Approval(t.Context(), state("")); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// BenchmarkBatch is what a cell costs on its way through a Go guard that does
// nothing with it, so many rows at a time.
func BenchmarkBatch(b *testing.B) {
	m := load(b, batching, mayMask)
	s := ask("ada", "").Session
	for _, rows := range []int{1, 20, 1000} {
		asked := &abi.Batch{Rows: rows, Columns: []abi.BatchColumn{{Type: 25, Arg: "copy"}}}
		for range rows {
			asked.Columns[0].Add([]byte("4111 1111 1111 1111"), false)
		}
		b.Run(fmt.Sprint(rows, " rows"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.ResultBatch(b.Context(), s, asked); err != nil {
					b.Fatal(err)
				}
			}
			cells := float64(b.N * rows)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/cells, "ns/cell")
			b.ReportMetric(cells/b.Elapsed().Seconds(), "cells/s")
		})
	}
}
