package guardtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// T is what Laws reports to: a *testing.T, or a command.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Laws holds a guard to what every guard owes the gateway, native or in the
// sandbox, whatever it decides:
//
//   - it answers every command, within its budget of instructions and memory;
//   - it answers the same to the same, whatever it was asked in between;
//   - it allows nothing that it cannot know: a text that was not understood,
//     an object of a kind that it has never heard of, a verb that is new;
//   - it allows no command for one of its operations alone;
//   - it says why it refuses, with a code for programs and a sentence for people;
//   - its plan for a result has an entry for each column;
//   - cells that it masks itself it answers with as many of the same type and
//     format, of at most four times the size, text as text; what it makes of one
//     depends on that one alone, not on what else is in the batch;
//   - of a request it says whether it keeps or ends it, whoever spoke first.
//
// tasks are names of tasks that the guard may know; more commands of the
// author's own may be given.
func Laws(t T, g gate.Guard, tasks []string, more ...*abi.Command) {
	t.Helper()
	if len(tasks) == 0 {
		tasks = []string{"look"}
	}
	l := laws{t, g, map[string]bool{}}
	for _, task := range tasks {
		l.task(task, more)
	}
	if g.Results() {
		l.plan(nil)
		for _, typ := range types {
			l.plan([]abi.ResultColumn{{Name: "c", Type: typ, Relation: []string{"public", "customers"}, Column: "c"}, {Name: "?column?", Type: typ}})
		}
		l.plan(make([]abi.ResultColumn, 1664)) // as many as PostgreSQL has
	}
	for arg := range l.args {
		for _, typ := range types {
			l.cells(abi.BatchColumn{Name: "c", Type: typ, Arg: arg})
			l.cells(abi.BatchColumn{Name: "c", Type: typ, Arg: arg, Binary: true})
		}
	}
	if g.Approvals() {
		l.approvals()
	}
}

// types are types of PostgreSQL by their oid, and one that is nobody's.
var types = []uint32{25, 1043, 20, 23, 1700, 701, 16, 1082, 1114, 2950, 17, 114, 3802, 1009, 2249, 0, 1<<32 - 1}

func (l *laws) plan(columns []abi.ResultColumn) {
	l.t.Helper()
	var first []byte
	for range 2 {
		p, err := l.g.ResultSchema(context.Background(), Command("look"), &abi.ResultSchema{Columns: columns})
		switch {
		case err != nil:
			l.t.Errorf("%s fails on a result of %d columns: %v", l.g.Name(), len(columns), err)
			return
		case p == nil || len(p.Kinds) != len(columns):
			l.t.Errorf("%s gives no plan that has an entry for each of %d columns", l.g.Name(), len(columns))
			return
		case first != nil && !bytes.Equal(p.AppendTo([]byte{0}), first):
			l.t.Errorf("%s plans a result of %d columns otherwise the second time", l.g.Name(), len(columns))
		}
		first = p.AppendTo([]byte{0})
		for i, k := range p.Kinds {
			if k == abi.MaskCustom {
				arg := ""
				if i < len(p.Args) {
					arg = p.Args[i]
				}
				l.args[arg] = true
			}
		}
		if p.Default == abi.MaskCustom {
			l.args[""] = true
		}
	}
}

// cells holds a guard to what it owes a column that it masks itself.
func (l *laws) cells(column abi.BatchColumn) {
	l.t.Helper()
	list := [][]byte{[]byte("4111 1111 1111 1111"), nil, {}, []byte("1"), []byte("ada@example.org"), []byte("2026-01-31 10:00:00+00"), []byte("Ünïcode \u202e✓"), {0, 0, 0, 42}, {255, 254, 0},
		bytes.Repeat([]byte("long "), 20_000), nil, []byte("{\"a\": [1, 2]}"), []byte("-12.50"), bytes.Repeat([]byte("9"), 300)}
	if !column.Binary { // what a server sends as text is text
		list[7], list[8] = []byte("t"), []byte("\\xfffe00")
	}
	for i := range 500 {
		list = append(list, fmt.Appendf(nil, "%d", i*i))
	}
	all := l.mask(column, list)
	if all == nil {
		return
	}
	for i, cell := range all {
		if !column.Binary && (!utf8.Valid(cell) || bytes.IndexByte(cell, 0) >= 0) {
			l.t.Errorf("%s answers with what is no text for a cell of type %d", l.g.Name(), column.Type)
			return
		}
		if i >= 20 {
			continue
		}
		for _, alone := range [][][]byte{{list[i]}, {nil, list[i], list[0]}} {
			got := l.mask(column, alone)
			if got != nil && !same(got[len(got)/2], cell) {
				l.t.Errorf("%s masks a cell of type %d otherwise where others stand beside it", l.g.Name(), column.Type)
				return
			}
		}
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func (l *laws) mask(column abi.BatchColumn, cells [][]byte) [][]byte {
	l.t.Helper()
	b := batch(column, cells)
	out, err := l.g.ResultBatch(context.Background(), Command("look").Session, b)
	switch {
	case err != nil:
		l.t.Errorf("%s fails on %d cells of type %d: %v", l.g.Name(), len(cells), column.Type, err)
	case out == nil || !out.Fits(b):
		l.t.Errorf("%s does not answer %d cells of type %d with as many of the same type and format, or with over four times the bytes", l.g.Name(), len(cells), column.Type)
	default:
		return answers(out)
	}
	return nil
}

func (l *laws) approvals() {
	l.t.Helper()
	voice := func(subject string, yes bool, groups ...string) abi.Voice {
		return abi.Voice{Issuer: "https://idp", Subject: subject, Groups: groups, Approve: yes, Reason: "looked at it", At: 1}
	}
	crowd := make([]abi.Voice, 100)
	for i := range crowd {
		crowd[i] = voice(fmt.Sprint("subject", i), i%2 == 0, fmt.Sprint("group", i))
	}
	for _, voices := range [][]abi.Voice{nil, {voice("bob", true, "dba")}, {voice("bob", true, "dba"), voice("eve", false, "owners")}, {{}}, crowd} {
		back := slices.Clone(voices)
		slices.Reverse(back)
		for _, cookie := range [][]byte{nil, []byte("k"), bytes.Repeat([]byte{255}, abi.MaxCookie)} {
			for _, met := range []bool{false, true} {
				a := &abi.Approval{ID: "r1", Session: Command("look").Session, Cookie: cookie, Voices: voices, Met: met}
				v := l.approval(a)
				if v == nil {
					return
				}
				a.Voices = back
				if again := l.approval(a); again != nil && again.Decision.Normal() != v.Decision.Normal() {
					l.t.Errorf("%s says %v of a request, and %v where the same people spoke in another order", l.g.Name(), v.Decision.Normal(), again.Decision.Normal())
				}
			}
		}
	}
}

func (l *laws) approval(a *abi.Approval) *abi.Verdict {
	l.t.Helper()
	v, err := l.g.Approval(context.Background(), a)
	switch {
	case err != nil || v == nil:
		l.t.Errorf("%s fails on a request: %v", l.g.Name(), err)
		return nil
	case v.Decision != abi.Allow && v.Decision != abi.Abstain && v.Decision != abi.Deny:
		l.t.Errorf("%s answers a request with %v: it is kept with allow or abstain, and ended with deny", l.g.Name(), v.Decision)
	case v.Decision == abi.Deny && (v.Reason.Code == "" || v.Reason.Message == ""):
		l.t.Errorf("%s ends a request and does not say why: a code and a message are owed", l.g.Name())
	}
	return v
}

type laws struct {
	t    T
	g    gate.Guard
	args map[string]bool // of CUSTOM masks that it has asked for
}

// operations are what a protocol may ask about.
func operations() []abi.Operation {
	return []abi.Operation{
		Relation("select", "public.orders", "id", "status"), Relation("select", "public.orders"),
		Relation("update", "public.orders", "status"), Relation("delete", "public.orders"), Relation("insert", "public.orders", "id"),
		Relation("truncate", "public.orders"), Call("public.purge"),
		{Verb: "begin", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor},
		{Verb: "commit", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor},
		{Verb: "set", Kind: abi.KindSetting, Object: []string{"timezone"}, Value: "UTC", Effect: abi.EffectRead, Attrs: abi.Floor},
		{Verb: "drop table", Kind: abi.KindStatement},
		{Verb: "listen", Kind: abi.KindChannel, Object: []string{"orders"}, Effect: abi.EffectWrite},
		{Verb: "delete", Kind: abi.KindRelation, Object: []string{"public", "items"}, Via: "fk public.items.items_order_id_fkey", Effect: abi.EffectWrite},
		{Verb: "select", Kind: abi.KindRelation, Object: []string{"pü\u202eblic", strings.Repeat("long", 500)}, Columns: []abi.Column{{Name: "ναι"}}, Effect: abi.EffectRead},
		{Verb: "", Kind: "", Effect: abi.EffectUnknown},
	}
}

func (l *laws) task(task string, more []*abi.Command) {
	l.t.Helper()
	commands := []*abi.Command{Command(task)}
	for _, o := range operations() {
		commands = append(commands, Command(task, o))
	}
	many := make([]abi.Operation, 2000)
	for i := range many {
		many[i] = Relation("select", fmt.Sprintf("public.t%d", i), "id")
	}
	commands = append(append(commands, Command(task, many...)), more...)

	first := make([][]byte, len(commands))
	for i, c := range commands {
		v := l.ask(c)
		if v == nil {
			continue
		}
		first[i] = v.AppendTo(nil)
		for _, p := range v.Protect {
			if p.Kind == abi.MaskCustom {
				l.args[p.Arg] = true
			}
		}
		if v.Decision == abi.Deny && (v.Reason.Code == "" || v.Reason.Message == "") {
			l.t.Errorf("%s refuses %s and does not say why: a code and a message are owed", l.g.Name(), describe(c))
		}
		if v.Decision == abi.Allow {
			l.unknown(c)
		}
	}
	for i := len(commands) - 1; i >= 0; i-- {
		if v := l.ask(commands[i]); v != nil && first[i] != nil && !bytes.Equal(v.AppendTo(nil), first[i]) {
			l.t.Errorf("%s answers %s otherwise the second time", l.g.Name(), describe(commands[i]))
		}
	}
}

// unknown adds to a command that is allowed what no guard can know.
func (l *laws) unknown(c *abi.Command) {
	l.t.Helper()
	st := *c.Statement
	st.Incomplete = "something that nobody has understood"
	l.refuses(&abi.Command{Phase: c.Phase, Session: c.Session, Statement: &st}, "a text that was not understood")
	for what, o := range map[string]abi.Operation{
		"an object of a kind that does not exist yet": {Verb: "select", Kind: "hologram", Object: []string{"public", "orders"}, Effect: abi.EffectRead},
		"a verb that does not exist yet":              {Verb: "teleport", Kind: abi.KindRelation, Object: []string{"public", "orders"}, Effect: abi.EffectWrite},
		"an operation of which nothing is known":      {},
	} {
		for _, front := range []bool{true, false} {
			st := *c.Statement
			if front {
				st.Operations = append([]abi.Operation{o}, c.Statement.Operations...)
			} else {
				st.Operations = append(append([]abi.Operation{}, c.Statement.Operations...), o)
			}
			l.refuses(&abi.Command{Phase: c.Phase, Session: c.Session, Statement: &st}, what)
		}
	}
}

func (l *laws) refuses(c *abi.Command, what string) {
	l.t.Helper()
	if v := l.ask(c); v != nil && v.Decision == abi.Allow {
		l.t.Errorf("%s allows %s beside what it allows (%s)", l.g.Name(), what, describe(c))
	}
}

func (l *laws) ask(c *abi.Command) *abi.Verdict {
	l.t.Helper()
	v, err := l.g.Command(context.Background(), c)
	if err != nil {
		l.t.Errorf("%s fails on %s: %v", l.g.Name(), describe(c), err)
		return nil
	}
	return v
}

func describe(c *abi.Command) string {
	if len(c.Statement.Operations) == 0 {
		return "a command without operations"
	}
	s := fmt.Sprintf("%q", c.Statement.Operations[0].String())
	if n := len(c.Statement.Operations); n > 1 {
		s += fmt.Sprintf(" and %d more", n-1)
	}
	return s
}
