package postgres

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// answer reads up to and with one ReadyForQuery, and gives the last hint too.
func answer(t *testing.T, nc net.Conn) (kinds, hint string) {
	t.Helper()
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case 'N', 'S':
			continue
		case 'Z':
			return kinds + "Z" + string(body), hint
		case 'E':
			_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
			_, hint, _ = strings.Cut(string(body), "\x00H")
			kinds += "E" + code[:5] + " "
			continue
		}
		kinds += string(kind) + " "
	}
}

// TestPW25PortalJudgedAgain: a portal that is bound is judged again at Execute
// where the policy is another one by then, with the parameters that it has.
func TestPW25PortalJudgedAgain(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	params := func(ok func(*abi.Command) bool) *rules {
		return &rules{inputs: abi.InputParams, allow: func(c *abi.Command) bool {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range c.Params {
				seen = append(seen, string(p.Value))
			}
			return ok(c)
		}}
	}
	g := serve(t, &rules{allow: noDelete})
	for name, c := range map[string]struct {
		text   string
		before *rules
		after  []*rules // one after another, with an Execute of two rows each
		want   []string
		hint   bool
	}{
		"the same again":         {"select id from orders where id > $1", &rules{allow: noDelete}, []*rules{{allow: noDelete}, {allow: noDelete}}, []string{"D D s ZT", "D D s ZT"}, false},
		"no longer":              {"select id from orders where id > $1", &rules{allow: noDelete}, []*rules{{allow: noDelete}, {allow: func(*abi.Command) bool { return false }}}, []string{"D D s ZT", "E34000 ZE"}, true},
		"a limit that counts on": {"select id from orders where id > $1", &rules{allow: noDelete}, []*rules{{allow: noDelete}, {allow: noDelete, limit: 3}}, []string{"D D s ZT", "E42501 ZT"}, false},
		"now by its values":      {"select id from orders where id > $1", &rules{allow: noDelete}, []*rules{{allow: noDelete}, params(noDelete)}, []string{"D D s ZT", "E34000 ZE"}, true},
		"now by its columns":     {"select id from orders where id > $1", &rules{allow: noDelete, plan: &abi.MaskPlan{}}, []*rules{{allow: noDelete, plan: &abi.MaskPlan{}}, {allow: noDelete, plan: &abi.MaskPlan{}}}, []string{"D D s ZT", "D D s ZT"}, false},
		"COPY, the same again":   {"copy (select id from orders where id < 3) to stdout", &rules{allow: noDelete}, []*rules{{allow: noDelete}}, []string{"H d d c C ZT"}, false},
		"COPY, no longer":        {"copy (select id from orders) to stdout", &rules{allow: noDelete}, []*rules{{allow: func(*abi.Command) bool { return false }}}, []string{"E34000 ZE"}, true},
		"its parameters":         {"select id from orders where id > $1", params(noDelete), []*rules{params(noDelete), params(func(c *abi.Command) bool { return len(c.Params) == 1 && string(c.Params[0].Value) != "7" })}, []string{"D D s ZT", "E34000 ZE"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g.Swap(generation(c.before))
			nc := g.in(t)
			session := g.Sessions()[0].ID()
			var values []string
			if strings.Contains(c.text, "$1") {
				values = []string{"7"}
			}
			if _, err := nc.Write(join(query("begin"), parseMsg("", c.text), bindValues("x", "", nil, values, nil), sync_())); err != nil {
				t.Fatal(err)
			}
			if got := kinds(t, nc, 2); got != "C ZT 1 2 ZT" {
				t.Fatal(got)
			}
			if _, err := nc.Write(query("select '" + strings.Repeat("8", 300) + "'")); err != nil { // where Bind was read into
				t.Fatal(err)
			}
			if got := kinds(t, nc, 1); got != "T D C ZT" {
				t.Fatal(got)
			}
			for i, after := range c.after {
				g.Swap(generation(after))
				if _, err := nc.Write(join(executeLimit("x", 2), sync_())); err != nil {
					t.Fatal(err)
				}
				got, hint := answer(t, nc)
				if i == len(c.after)-1 {
					nc.Close()
					g.quiet(t)
					if all := g.log.outcomes(session); strings.Contains(all, "none") {
						t.Errorf("a command without an outcome: %s", all)
					}
				}
				if got != c.want[i] || c.hint && i == len(c.after)-1 && !strings.Contains(hint, "bind it again") {
					t.Errorf("%d: %s, want %s; hint %q", i, got, c.want[i], hint)
				}
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(seen, "") != "777" {
		t.Errorf("the guards saw %q", seen)
	}
}

// TestPW25PolicyWhileRunning: what runs when the policy changes, and is not
// allowed any more, ends with its session. What is only bound waits for Execute.
func TestPW25PolicyWhileRunning(t *testing.T) {
	for name, c := range map[string]struct{ send, run []byte }{
		"by Query":              {query("begin"), query("select pg_sleep(60)")},
		"a portal":              {join(query("begin"), parseMsg("", "select pg_sleep(60)"), bindMsg("", "")), join(executeMsg(""), sync_())},
		"at once":               {query("begin"), join(parseMsg("", "select pg_sleep(60)"), bindMsg("", ""), executeMsg(""), sync_())},
		"once more":             {join(query("begin"), parseMsg("", "select id, pg_sleep(id * 30) from (values (0), (2)) v (id)"), bindMsg("", ""), executeLimit("", 1), frame('H', nil)), join(executeMsg(""), sync_())},
		"killed, another waits": {query("begin"), join(query("set local search_path to public; select pg_sleep(60)"), query("select 1"))},
		"bound only":            {join(query("begin"), parseMsg("", "select pg_sleep(60)"), bindMsg("", ""), sync_()), nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, &rules{allow: anything})
			nc := g.in(t)
			session := g.Sessions()[0].ID()
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			send(t, nc, c.send, c.run)
			at := "state = 'idle in transaction'"
			if c.run != nil { // a portal that has run in part is active too
				at = "wait_event = 'PgSleep'"
			}
			for end := time.Now().Add(10 * time.Second); g.ask(t, "select count(*) from pg_stat_activity where usename = 'app' and datname = current_database() and "+at+" and query like '%pg_sleep%'") == "0"; {
				if time.Now().After(end) {
					t.Fatal("it does not run")
				}
			}
			if name != "killed, another waits" {
				g.Swap(generation(&rules{allow: func(c *abi.Command) bool { return !strings.Contains(c.Statement.Text, "pg_sleep") }}))
			}
			if name == "killed, another waits" {
				g.Kill("enough", func(*gate.Session) bool { return true })
			}
			if c.run == nil {
				send(t, nc, query("select 1"), query("rollback"))
				want(t, nc, 4, "C ZT 1 2 ZT T D C ZT C ZI")
				return
			}
			all, err := io.ReadAll(nc)
			if err != nil || !bytes.Contains(all, []byte("what was running is not allowed as it was")) && !bytes.Contains(all, []byte("enough")) {
				t.Errorf("%q %v", all, err)
			}
			g.quiet(t)
			if all := g.log.outcomes(session); !strings.HasSuffix(all, "unknown") || strings.Contains(all, "none") {
				t.Errorf("nobody knows what became of it, and the log says %s", all)
			}
		})
	}
}

// TestPW25SchemaUnderAPortal: what another session makes of a name between Bind
// and Execute. A query's relations are locked by its Bind; what the server
// looks up at Execute is read again.
func TestPW25SchemaUnderAPortal(t *testing.T) {
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		for _, o := range c.Statement.Operations {
			for _, col := range o.Columns {
				if col.Name == "card" {
					return false
				}
			}
		}
		return noDelete(c)
	}})
	replace := "create or replace view pv as select id, card as n from customers"
	if _, err := server.Psql(g.db, "create view pv as select id, name as n from customers; grant select on pv to app;"); err != nil {
		t.Fatal(err)
	}
	nc := g.in(t)
	if _, err := nc.Write(join(query("begin"), parseMsg("", "select n from pv where id = 7"), bindMsg("x", ""), sync_())); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 2); got != "C ZT 1 2 ZT" {
		t.Fatal(got)
	}
	if _, err := server.Psql(g.db, "set lock_timeout = '100ms'; "+replace); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("the server does not hold what it has bound: %v", err)
	}
	if _, err := nc.Write(join(executeMsg("x"), sync_(), query("rollback"))); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 2); got != "D C ZT C ZI" {
		t.Error(got)
	}
	if _, err := nc.Write(join(query("begin"), parseMsg("c", "copy (select n from pv where id = 7) to stdout"), bindMsg("x", "c"), bindMsg("y", "c"), sync_(), executeMsg("y"), sync_())); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 3); got != "C ZT 1 2 2 ZT H d c C ZT" {
		t.Fatal(got)
	}
	// The transaction has read the view now, and keeps it: another one, that has only bound it, does not.
	other := g.in(t)
	if _, err := other.Write(join(query("begin"), parseMsg("c", "copy (select n from pv where id = 7) to stdout"), bindMsg("x", "c"), sync_())); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, other, 2); got != "C ZT 1 2 ZT" {
		t.Fatal(got)
	}
	nc.Close()
	if _, err := server.Psql(g.db, replace); err != nil {
		t.Fatal(err)
	}
	for state := (*resourceState)(nil); ; time.Sleep(50 * time.Millisecond) {
		g.protocol.schemas.Range(func(_, v any) bool { state = v.(*resourceState); return false })
		s := state.fresh(0)
		if r := s.RelationByName[schema.Name{Namespace: "public", Name: "pv"}]; r != nil && strings.Contains(r.View, "card") {
			break
		}
	}
	if _, err := other.Write(join(executeMsg("x"), sync_())); err != nil {
		t.Fatal(err)
	}
	var all []byte
	got := ""
	for got == "" || !strings.Contains(got, "Z") {
		kind, body, err := readMessage(other)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, body...)
		got += string(kind)
	}
	if bytes.Contains(all, []byte("4111")) || !bytes.Contains(all, []byte("34000")) || !bytes.Contains(all, []byte("bind it again")) {
		t.Errorf("%s %q", got, all)
	}
}
