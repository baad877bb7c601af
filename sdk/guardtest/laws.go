package guardtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"

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
//   - it says why it refuses, with a code for programs and a sentence for people.
//
// tasks are names of tasks that the guard may know; more commands of the
// author's own may be given.
func Laws(t T, g gate.Guard, tasks []string, more ...*abi.Command) {
	t.Helper()
	if len(tasks) == 0 {
		tasks = []string{"look"}
	}
	l := laws{t, g}
	for _, task := range tasks {
		l.task(task, more)
	}
}

type laws struct {
	t T
	g gate.Guard
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
