package postgres

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/gate"
)

// became gives what the log says became of each text that ran, in order, as who
// reads it sums it up.
func (g *gateway) became() string {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	var order []uint64
	state := map[uint64]string{}
	for _, e := range g.log.events {
		switch e.Kind {
		case gate.EventCommand:
			if e.Phase == "execute" {
				order = append(order, e.Command)
				state[e.Command] = "nothing"
			}
		case gate.EventDone:
			if state[e.Command] == "nothing" {
				state[e.Command] = e.State
			}
			for n, s := range state {
				if s == "pending" && e.Settles != "" && n >= e.First && n <= e.Last {
					state[n] = e.Settles
				}
			}
		}
	}
	var list []string
	for _, n := range order {
		list = append(list, state[n])
	}
	return strings.Join(list, ", ")
}

// forget drops the events so far.
func (m *memory) forget() { m.mu.Lock(); defer m.mu.Unlock(); m.events = nil }

// TestOutcomesByExecute: what a savepoint is set before, and what behind it, is in
// the order of Execute, whatever was bound first.
func TestOutcomesByExecute(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	run := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = join(b, parseMsg("", text), bindMsg("", ""), executeMsg(""))
		}
		return b
	}
	save := join(parseMsg("", "savepoint s"), bindMsg("save", ""))
	write := join(parseMsg("", "update items set quantity = 91 where id = 1"), bindMsg("write", ""))
	before := join(save, write, executeMsg("write"), executeMsg("save"))
	behind := join(write, save, executeMsg("save"), executeMsg("write"))
	for name, k := range map[string]struct {
		sent     [][]byte
		want, is string
	}{
		"before it":               {[][]byte{query("begin"), join(before, sync_()), query("rollback to s"), query("commit")}, "committed, committed, committed, committed, completed", "91"},
		"before it, in one group": {[][]byte{join(run("begin"), before, run("rollback to s", "commit"), sync_())}, "completed, completed, completed, completed, completed", "91"},
		"behind it":               {[][]byte{query("begin"), join(behind, sync_()), query("rollback to s"), query("commit")}, "committed, unknown, committed, committed, completed", "2"},
		"behind it, in one group": {[][]byte{join(run("begin"), behind, run("rollback to s", "commit"), sync_())}, "completed, rolled back, completed, completed, completed", "2"},
		"behind what is released": {[][]byte{query("begin"), query("savepoint r"), join(before, sync_()), join(run("release s"), run("rollback to r", "commit"), sync_())}, "committed, committed, rolled back, rolled back, rolled back, completed, completed", "2"},
		"both":                    {[][]byte{query("begin"), join(save, write, parseMsg("", "update items set quantity = 92 where id = 2"), bindMsg("other", ""), executeMsg("other"), executeMsg("save"), executeMsg("write"), sync_()), query("rollback to s"), query("commit")}, "committed, committed, unknown, committed, committed, completed", "2"},
		"not written before it":   {[][]byte{query("begin"), query("savepoint s; update items set quantity = 91 where id = 1"), query("rollback to s"), query("commit")}, "committed, rolled back, committed, completed", "2"},
	} {
		g.ask(t, "update items set quantity = id + 1")
		g.log.forget()
		c := g.in(t)
		for _, b := range k.sent {
			send(t, c, b)
			kinds(t, c, 1)
		}
		c.Close()
		g.quiet(t)
		if got := g.became(); got != k.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, k.want)
		}
		if got := g.ask(t, "select quantity from items where id = 1"); got != k.is {
			t.Errorf("%s: the server has %s, not %s", name, got, k.is)
		}
	}
}

// TestOutcomes: the log says of each command what became of it, wherever in a
// text or group its transaction ends.
func TestOutcomes(t *testing.T) {
	const one, two = "update items set quantity = 91 where id = 1", "update items set quantity = 92 where id = 2"
	const both = "91, 92"
	g := serve(t, &rules{allow: anything})
	g.ask(t, "create table late (id int references items deferrable initially deferred); grant all on late to app; delete from items where id > 2")
	for name, k := range map[string]struct {
		sent []string // a group is divided by |
		want string
		is   string // quantities of the two afterwards
	}{
		"back to a savepoint":                 {[]string{"begin", one, "savepoint s", two, "rollback to s", "select 1", "commit"}, "committed, committed, committed, rolled back, committed, committed, completed", "91, 3"},
		"back twice":                          {[]string{"begin", "savepoint s", one, "savepoint s", two, "rollback to s", "release s", "rollback to s", "commit"}, "committed, committed, rolled back, rolled back, rolled back, rolled back, rolled back, committed, completed", "2, 3"},
		"back in one text":                    {[]string{"begin; savepoint s; " + one + "; rollback to s; commit"}, "rolled back", "2, 3"},
		"before a savepoint in one text":      {[]string{"begin; " + one + "; savepoint s; " + two + "; rollback to s; commit"}, "completed", "91, 3"},
		"back in a group":                     {[]string{"begin|" + one + "|savepoint s|" + two + "|rollback to s|commit"}, "completed, completed, completed, rolled back, completed, completed", "91, 3"},
		"back across groups":                  {[]string{"begin|" + one + "|savepoint s|" + two, two + "|rollback to s|commit"}, "committed, committed, committed, rolled back, rolled back, completed, completed", "91, 3"},
		"commit behind another":               {[]string{"begin", one, two + "; commit"}, "committed, committed, completed", both},
		"commit before another":               {[]string{"begin", one, "commit; " + two}, "committed, committed, completed", both},
		"rollback behind another":             {[]string{"begin", one, two + "; rollback"}, "rolled back, rolled back, rolled back", "2, 3"},
		"rollback before another":             {[]string{"begin", one, "rollback; " + two}, "rolled back, rolled back, completed", "2, 92"},
		"all in one text, rolled back":        {[]string{"begin; " + one + "; rollback"}, "rolled back", "2, 3"},
		"all in one text, then a select":      {[]string{"begin; " + one + "; rollback; select 1"}, "rolled back", "2, 3"},
		"all in one text":                     {[]string{"begin; " + one + "; commit"}, "completed", "91, 3"},
		"half of a text":                      {[]string{"begin; " + one + "; commit; begin; " + two + "; rollback"}, "completed", "91, 3"},
		"all in one group, rolled back":       {[]string{"begin|" + one + "|rollback"}, "rolled back, rolled back, completed", "2, 3"},
		"all in one group":                    {[]string{"begin|" + one + "|commit|" + two}, "completed, completed, completed, completed", both},
		"a failure behind commit":             {[]string{"begin|" + one + "|commit|" + two + "|select 1/0"}, "completed, completed, completed, rolled back, failed", "91, 3"},
		"a failure in a text behind commit":   {[]string{"begin; " + one + "; commit; select 1/0"}, "unknown", "91, 3"},
		"a failure in a text":                 {[]string{one + "; select 1/0"}, "failed", "2, 3"},
		"a failure in an open transaction":    {[]string{"begin", one + "|select 1/0", "commit"}, "rolled back, rolled back, failed, completed", "2, 3"},
		"commit fails":                        {[]string{"begin", "insert into late values (999)", "commit"}, "rolled back, rolled back, failed", "2, 3"},
		"commit fails in a group":             {[]string{"begin|insert into late values (999)|commit"}, "rolled back, rolled back, failed", "2, 3"},
		"a group's end fails":                 {[]string{one + "|insert into late values (999)"}, "rolled back, rolled back", "2, 3"},
		"what a name stands for, rolled back": {[]string{"prepare p as " + one, "begin; execute p; rollback"}, "rolled back", "2, 3"},
		"commit and chain":                    {[]string{"begin", one, "commit and chain", two, "rollback"}, "committed, committed, completed, rolled back, completed", "91, 3"},
	} {
		t.Run(name, func(t *testing.T) {
			g.ask(t, "update items set quantity = id + 1")
			g.log.forget()
			c := g.in(t)
			for _, s := range k.sent {
				b := query(s)
				if strings.Contains(s, "|") {
					b = nil
					for one := range strings.SplitSeq(s, "|") {
						b = join(b, parseMsg("", one), bindMsg("", ""), executeMsg(""))
					}
					b = join(b, sync_())
				}
				send(t, c, b)
				kinds(t, c, 1)
			}
			c.Close()
			g.quiet(t)
			if got := g.became(); got != k.want {
				t.Errorf("\n got %s\nwant %s", got, k.want)
			}
			if got := g.ask(t, "select string_agg(quantity::text, ', ' order by id) from items"); got != k.is {
				t.Errorf("the server has %s, not %s", got, k.is)
			}
		})
	}
}
