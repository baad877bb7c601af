package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
)

const heldText = "delete from items where id = 1"

// TestAP14Psql: what psql shows of a command that waits, and of how it ends.
func TestAP14Psql(t *testing.T) {
	g, p := review(t, &holds{})
	out := g.asPsql(t, `select 'before';
delete from items where id = 1;
delete from items where id = 2;
delete from items where id = 3;
`, func(psql *psql) {
		p.approve(p.next(t))
		p.decide(p.next(t), gate.Decided{State: gate.Refused, Reason: "not \x1b[2J\u009b2Jto\x7fday", Voices: []abi.Voice{{Subject: "bob"}}})
		r := p.next(t)
		psql.told(t, "HINT:  who may approve it runs: taskgate approve "+r.ID)
		_ = psql.Process.Signal(os.Interrupt) // ctrl-C
		if state, _ := p.settled(t, r); state != gate.Withdrawn {
			t.Errorf("ctrl-C: %s", state)
		}
	})
	inOrder(t, out, "before", "NOTICE:  waiting for approval: request ", ": removes orders", "DETAIL:  It needs 1 of dba, until 2", "HINT:  who may approve it runs: taskgate approve ", "DELETE 1",
		"NOTICE:", "ERROR:  denied by bob: not ?[2J?2Jto?day (request ", "NOTICE:", "ERROR:  canceling statement due to user request")
	if out := g.asPsql(t, heldText+";\n", func(psql *psql) {
		r := p.next(t)
		_ = psql.Process.Kill()
		if state, why := p.settled(t, r); state != gate.Withdrawn || !strings.Contains(why, "the client has left") {
			t.Errorf("killed: %s %s", state, why)
		}
	}); strings.Contains(out, "DELETE") {
		t.Error(out)
	}
	for _, e := range []string{"1", "3"} {
		if n := g.ask(t, "select count(*) from items where id = "+e); n != map[string]string{"1": "0", "3": "1"}[e] {
			t.Errorf("item %s: %s", e, n)
		}
	}
}

// ask asks the server itself.
func (g *gateway) ask(t *testing.T, text string) string {
	t.Helper()
	out, err := server.Psql(g.db, text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestAP09Ends: whatever ends the session while a command waits, it does not run.
func TestAP09Ends(t *testing.T) {
	g, p := review(t, &holds{})
	for name, end := range map[string]func(net.Conn){
		"the client leaves":     func(nc net.Conn) { nc.Close() },
		"the client is cut off": func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); nc.Close() },
		"with more to be read":  func(nc net.Conn) { _, _ = nc.Write(query("select 1")); nc.Close() },
		"the session is killed": func(net.Conn) { g.Kill("enough", func(*gate.Session) bool { return true }) },
		"the server ends it": func(net.Conn) {
			g.ask(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'app'")
		},
		"the client says goodbye": func(nc net.Conn) { _, _ = nc.Write(frame('X', nil)); nc.Close() },
	} {
		nc := g.in(t)
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		send(t, nc, query(heldText))
		r := p.next(t)
		end(nc)
		if state, why := p.settled(t, r); state != gate.Withdrawn {
			t.Errorf("%s: %s %s", name, state, why)
		}
		nc.Close()
		g.quiet(t)
	}
	if n := g.ask(t, "select count(*) from items where id = 1"); n != "1" {
		t.Error("it has run")
	}
	if state, _ := p.settled(t, expire(t, g, p)); state != gate.Withdrawn && state != gate.Expired {
		t.Error(state)
	}
}

// expire lets a request run out.
func expire(t *testing.T, g *gateway, p *crowd) *gate.Request {
	t.Helper()
	g.Swap(generation(&holds{holds: deletes, within: 1}))
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	send(t, nc, query(heldText), query("select 1"))
	r := p.next(t)
	want(t, nc, 2, "E42501 ZI T D C ZI")
	_ = p.Withdraw(t.Context(), r.ID, "it ran out")
	return r
}

// TestAP06Pipelined: what comes before is answered first, what comes behind waits
// unread, and each Bind is a request of its own.
func TestAP06Pipelined(t *testing.T) {
	g, p := review(t, &holds{})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	send(t, nc, query("select 1"), query("delete from items where id = 1"), query("update items set sku = 'x' where id = 2"), query("select 2"))
	want(t, nc, 1, "T D C ZI")
	r := p.next(t)
	if n := g.ask(t, "select sku = 'x' from items where id = 2"); n != "f" {
		t.Error("what is behind a held command has run")
	}
	p.approve(r)
	want(t, nc, 3, "C ZI C ZI T D C ZI")
	bound := join(bindMsg("", "s"), executeMsg(""))
	send(t, nc, parseMsg("s", "delete from items where id = 2"), sync_())
	want(t, nc, 1, "1 ZI") // nobody is asked at Parse
	send(t, nc, parseMsg("", "update items set sku = 'y' where id = 3"), bindMsg("", ""), executeMsg(""), sync_(), bound, sync_(), bound, sync_(), bound, sync_())
	want(t, nc, 1, "1 2 C ZI")
	first := p.next(t)
	p.decide(first, gate.Decided{State: gate.Refused})
	want(t, nc, 1, "E42501 ZI")
	second := p.next(t)
	if first.ID == second.ID || first.Binding != second.Binding {
		t.Error("two executions: one request, or not the same act")
	}
	p.approve(second)
	want(t, nc, 1, "2 C ZI")
	p.approve(p.next(t))
	want(t, nc, 1, "2 C ZI")
	// What the server skips, or has aborted, nobody is asked about.
	send(t, nc, parseMsg("", "select 1/0"), bindMsg("", ""), executeMsg(""), bound, sync_(), query("begin"), query("select 1/0"), query(heldText), query("rollback"))
	want(t, nc, 5, "1 E22012 ZI C ZT E22012 ZE E25P02 ZE C ZI")
	select {
	case r := <-p.waiter:
		t.Errorf("asked about %s", r.Text)
	default:
	}
}

// TestAP13InTransaction: a hold keeps nobody's locks waiting unless the operator
// says so.
func TestAP13InTransaction(t *testing.T) {
	h := &holds{}
	g, p := review(t, h)
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	write := "update items set sku = 'w' where id = 5"
	send(t, nc, query("begin"), query(write), query(heldText), query("rollback"))
	want(t, nc, 4, "C ZT C ZT E42501 ZE C ZI")
	send(t, nc, parseMsg("", write), bindMsg("", ""), executeMsg(""), parseMsg("", heldText), bindMsg("", ""), executeMsg(""), sync_())
	want(t, nc, 1, "1 2 C 1 E42501 ZI")
	if n := g.ask(t, "select sku = 'w' from items where id = 5"); n != "f" {
		t.Error("it lasts")
	}
	g.Swap(generation(&holds{holds: deletes, terms: abi.Terms{OnHold: "keep"}}))
	send(t, nc, query("begin"), query(write), query(heldText), query("commit"))
	want(t, nc, 2, "C ZT C ZT")
	r := p.next(t)
	if !r.Open || len(r.Earlier) != 1 || !strings.Contains(r.Earlier[0], "'w'") {
		t.Errorf("%+v", r)
	}
	p.approve(r)
	want(t, nc, 2, "C ZT C ZI")
	send(t, nc, parseMsg("", write), bindMsg("", ""), executeMsg(""), parseMsg("", "delete from items where id = 5"), bindMsg("", ""), executeMsg(""), sync_())
	p.approve(p.next(t))
	want(t, nc, 1, "1 2 C 1 2 C ZI")
	if n := g.ask(t, "select count(*) from items where id in (1, 5)"); n != "0" {
		t.Error(n)
	}
}

// TestAP05Changed: what was approved is what runs: not under another policy, nor
// where a name has come to mean something else.
func TestAP05Changed(t *testing.T) {
	g, p := review(t, &holds{})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	for i, change := range []struct {
		want string
		do   func()
	}{
		{"C ZI", func() { g.Swap(generation(&holds{holds: deletes})) }},
		{"E42501 ZI", func() { g.Swap(generation(&holds{holds: deletes, terms: abi.Terms{RowsWritten: 5}})) }},
		{"E42501 ZI", func() { g.Swap(generation(&rules{allow: noDelete})) }},
	} {
		send(t, nc, query(fmt.Sprintf("delete from items where id = %d", i+1)))
		r := p.next(t)
		change.do()
		p.approve(r)
		want(t, nc, 1, change.want)
	}
	g.Swap(generation(&holds{holds: deletes}))
	send(t, nc, query("delete from items where id = 9"))
	r := p.next(t)
	g.ask(t, "alter table items rename to former; create table items as select * from former; grant all on items, former to app; create rule r as on delete to items do also delete from former")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	p.approve(r)
	want(t, nc, 1, "E42501 ZI")
	if n := g.ask(t, "select count(*) from former where id = 9"); n != "1" {
		t.Error("the rule has run")
	}
	// A table of the same shape under the same name is another one.
	g.ask(t, "create table one (id int primary key); insert into one values (1); grant all on one to app")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	send(t, nc, query("delete from one where id = 1"))
	r = p.next(t)
	g.ask(t, "alter table one rename to two; create table one (like two including all); insert into one values (1); grant all on one to app")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	p.approve(r)
	want(t, nc, 1, "E42501 ZI")
	// So it is by the extended protocol, whose Parse locks what it reads until the Sync.
	for name, change := range map[string]string{
		"renamed": "alter table one rename to three; create table one (like two including all); insert into one values (1); grant all on one to app",
		"ruled":   "create rule r as on delete to one do also delete from two",
	} {
		send(t, nc, parseMsg(name, "delete from one where id = 1"), sync_(), bindMsg("", name), executeMsg(""), sync_())
		want(t, nc, 1, "1 ZI")
		r = p.next(t)
		g.ask(t, change)
		if err := serverSees(g); err != nil {
			t.Fatal(err)
		}
		p.approve(r)
		want(t, nc, 1, "E42501 ZI")
	}
}

// TestAP09CancelledLater: a cancel reaches what runs once it is approved.
func TestAP09CancelledLater(t *testing.T) {
	g, p := review(t, &holds{})
	c := g.connect(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.PgConn().Exec(context.Background(), "delete from items where id = 1 and pg_sleep(60) is not null").ReadAll()
		done <- err
	}()
	p.approve(p.next(t))
	for end := time.Now().Add(20 * time.Second); g.ask(t, "select count(*) from pg_stat_activity where datname = current_database() and usename = 'app' and state = 'active' and query like 'delete%pg_sleep%'") == "0"; {
		if time.Now().After(end) {
			t.Fatal("it does not run")
		}
	}
	if err := c.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if code(err) != "57014" {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it runs on")
	}
}

// TestAP07OneSession: what is approved for one session runs in no other of the
// same person, whatever is the same in both.
func TestAP07OneSession(t *testing.T) {
	g, p := review(t, &holds{})
	one, two := g.in(t), g.in(t)
	_ = one.SetDeadline(time.Now().Add(time.Minute))
	_ = two.SetDeadline(time.Now().Add(time.Minute))
	text := query("delete from items where id = 3")
	send(t, one, text)
	first := p.next(t)
	send(t, two, text)
	second := p.next(t)
	if first.ID == second.ID || first.Binding == second.Binding || first.Code == second.Code {
		t.Errorf("two sessions have one request: %+v %+v", first, second)
	}
	p.approve(second)
	want(t, two, 1, "C ZI")
	if n := g.ask(t, "select count(*) from items where id = 3"); n != "0" {
		t.Error(n)
	}
	one.Close() // who has left uses nothing, not even later
	send(t, two, text)
	third := p.next(t)
	if third.ID == first.ID {
		t.Error("the request of a session that has left is used")
	}
	p.approve(third)
	want(t, two, 1, "C ZI")
}

// TestAP05Meaning: the same bytes are another act, with another binding, once
// anything has changed that their meaning hangs on, and the same act until then.
func TestAP05Meaning(t *testing.T) {
	g, p := review(t, &holds{holds: func(c *abi.Command) bool {
		return c.Phase == abi.Execute && (deletes(c) || strings.HasPrefix(c.Statement.Text, "fetch"))
	}})
	g.ask(t, "create schema other; grant usage on schema other to app")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	seen := map[[32]byte]string{}
	for _, c := range []struct {
		text, first string // what comes before it, a Query each
		want        string // the answers to that
		same        bool   // it is the act that was asked before
	}{
		{heldText, "", "", false},
		{heldText, "", "", true},
		{heldText, "select 1", "T D C ZI ", true},
		{heldText, "set timezone to 'Asia/Tokyo'", "C ZI ", false},
		{heldText, "set search_path to public, other", "C ZI ", false},
		{heldText, "set search_path to other, public", "C ZI ", false},
		{heldText, "begin", "C ZT ", false},
		{"execute p", "rollback; prepare p as delete from items where id = 2", "C ZI C ZI ", false},
		{"execute p", "", "", true},
		{"execute p", "deallocate p; prepare p as delete from items where id = 3", "C ZI C ZI ", false},
		{"fetch c", "begin; declare c cursor for select id from items", "C ZT C ZT ", false},
		{"fetch c", "rollback; begin; declare c cursor for select id from items", "C ZI C ZT C ZT ", true},
		{"fetch c", "rollback; begin; declare c cursor for select sku from items", "C ZI C ZT C ZT ", false},
		{heldText, "rollback", "C ZI ", true},
		{heldText, "alter", "", false},
	} {
		status := "ZI"
		switch {
		case c.first == "alter": // by another session
			g.ask(t, "alter table customers add column more int")
			if err := serverSees(g); err != nil {
				t.Fatal(err)
			}
		case c.first != "":
			for one := range strings.SplitSeq(c.first, "; ") {
				send(t, nc, query(one))
			}
		}
		if strings.HasSuffix(c.want, "ZT ") {
			status = "ZE"
		}
		send(t, nc, query(c.text))
		r := p.next(t)
		if before, ok := seen[r.Binding]; ok != c.same {
			t.Errorf("%s, after %q: the same act is %t, as after %q", c.text, c.first, ok, before)
		}
		seen[r.Binding] = c.first
		p.decide(r, gate.Decided{State: gate.Refused})
		want(t, nc, 1+strings.Count(c.want, "Z"), c.want+"E42501 "+status)
	}
}

// serverSees has the gateway look at the schema now.
func serverSees(g *gateway) (err error) {
	g.protocol.schemas.Range(func(_, v any) bool {
		err = v.(*resourceState).refresh(context.Background(), time.Nanosecond)
		return err == nil
	})
	return err
}

// TestAP24Outcomes: what the log says became of what was approved.
func TestAP24Outcomes(t *testing.T) {
	g, p := review(t, &holds{})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	send(t, nc, query("begin"), query(heldText), query("rollback"), query("delete from customers"))
	p.approve(p.next(t))
	want(t, nc, 3, "C ZT C ZT C ZI")
	p.approve(p.next(t))
	want(t, nc, 1, "E23503 ZI")
	nc.Close()
	g.quiet(t)
	var got []string
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.State != "" {
			got = append(got, strings.TrimSpace(e.State+" "+e.Settles+" "+e.Code))
		}
	}
	inOrder(t, strings.Join(got, ", "), "pending", "pending", "completed rolled back", "failed  23503")
}

// TestAP21Spool: what a COPY would send is seen before it is approved, and is
// what is sent.
func TestAP21Spool(t *testing.T) {
	g, p := review(t, &holds{})
	if _, err := server.Psql(g.db, "create table lines (t text); grant all on lines to app"); err != nil {
		t.Fatal(err)
	}
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	copyData := func(size int) (all []byte) {
		for n := 0; n < size; {
			m := min(50_000, size-n)
			all = append(all, frame('d', append(bytes.Repeat([]byte("x"), m-1), '\n'))...)
			n += m
		}
		return all
	}
	send(t, nc, query("copy lines from stdin"), copyData(maxSpool), frame('c', nil), query("select 1"))
	r := p.next(t)
	if r.Input.Kind != abi.InputSpooled || r.Input.Size != maxSpool || len(r.Input.Digest) != 32 || len(r.Input.Head) != spoolHead {
		t.Errorf("%d %d %d %d", r.Input.Kind, r.Input.Size, len(r.Input.Digest), len(r.Input.Head))
	}
	p.approve(r)
	want(t, nc, 2, "G C ZI T D C ZI")
	if n := g.ask(t, "select sum(length(t)+1) from lines"); n != fmt.Sprint(maxSpool) {
		t.Error(n)
	}
	for _, size := range []int{maxSpool + 1, 3 * maxSpool} {
		send(t, nc, query("copy lines from stdin"), copyData(size), frame('c', nil), query("select 1"))
		want(t, nc, 2, "G E42501 ZI T D C ZI")
	}
	send(t, nc, query("copy lines from stdin"), copyData(10), frame('f', []byte("no\x00")), query("begin"), query("copy lines from stdin"), copyData(10), frame('c', nil), query("rollback"))
	want(t, nc, 2, "G E57014 ZI C ZT")
	p.decide(p.next(t), gate.Decided{State: gate.Refused})
	want(t, nc, 2, "G E42501 ZE C ZI")
	send(t, nc, parseMsg("", "copy lines from stdin"), bindMsg("", ""), executeMsg(""), sync_(), query("copy items from stdin with (format csv)"), frame('d', []byte("1,2\n")), frame('c', nil))
	want(t, nc, 1, "1 E42501 ZI") // by the extended protocol it cannot be seen
	p.approve(p.next(t))
	want(t, nc, 1, "G E22P04 ZI")
	g.Swap(generation(&holds{holds: deletes, terms: abi.Terms{Payload: "unseen"}}))
	g.ask(t, "truncate lines")
	send(t, nc, query("copy lines from stdin"), copyData(3*maxSpool), frame('c', nil), query("select 1"))
	if r = p.next(t); r.Input.Kind != abi.InputStream {
		t.Error(r.Input.Kind)
	}
	p.approve(r)
	want(t, nc, 2, "G C ZI T D C ZI")
	if n := g.ask(t, "select sum(length(t)+1) from lines"); n != fmt.Sprint(3*maxSpool) {
		t.Error(n)
	}
	for text, said := range map[string]string{"copy lines from stdin": "\x00\x00\x01\x00\x00", "copy items (order_id, sku) from stdin with (format binary)": "\x01\x00\x02\x00\x01\x00\x01", "copy items from stdin csv": "\x00\x00\x05" + strings.Repeat("\x00", 10)} {
		send(t, nc, query(text))
		if kind, body, err := readMessage(nc); err != nil || kind != 'G' || string(body) != said {
			t.Errorf("%s: %c %q %v", text, kind, body, err)
		}
		send(t, nc, frame('f', []byte{0}))
		want(t, nc, 1, "E57014 ZI")
	}
	// With psql, which sends no more than a file has.
	g.Swap(generation(&holds{holds: deletes, terms: abi.Terms{RowsWritten: 2}}))
	for n, want := range map[int]string{2: "COPY 2", 3: "ERROR:  3 rows are written, of the 2 that are allowed"} {
		out := g.asPsql(t, "copy lines from stdin;\n"+strings.Repeat("z\n", n)+"\\.\n", func(*psql) { p.approve(p.next(t)) })
		if !strings.Contains(out, want) {
			t.Errorf("%d lines: %s", n, out)
		}
	}
	if n := g.ask(t, "select count(*) from lines where t = 'z'"); n != "2" {
		t.Error(n)
	}
}

// TestAP22Preview: who has to approve is told how many rows would change, and no
// more are changed than that.
func TestAP22Preview(t *testing.T) {
	g, p := review(t, &holds{holds: func(c *abi.Command) bool { return c.Statement.Writes() }})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	g.ask(t, "create function side() returns int language plpgsql as 'begin return 1; end'")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	for text, counted := range map[string]int64{"delete from items where id < 4": 3, "update items set sku = 'p' where id in (1, 2)": 2, "insert into items (order_id, sku, quantity, price) values (1, 'p', 1, 1)": -1,
		"delete from items where id < side()": -1, "truncate items": -1} {
		send(t, nc, query(text))
		r := p.next(t)
		plain := counted >= 0 || strings.HasPrefix(text, "insert")
		if r.Rows.Counted != counted || (r.Rows.Estimated >= 0) != plain {
			t.Errorf("%s: %+v", text, r.Rows)
		}
		p.decide(r, gate.Decided{State: gate.Refused})
		want(t, nc, 1, "E42501 ZI")
	}
	act := join(parseTyped("", "delete from items where id < $1", 23), bindValues("", "", []uint16{1}, []string{"\x00\x00\x00\x04"}, nil), executeMsg(""), sync_())
	for _, more := range []string{"", "insert into items (id, order_id, sku, quantity, price) values (-1, 1, 'more', 1, 1), (-2, 1, 'more', 1, 1), (-3, 1, 'more', 1, 1), (-4, 1, 'more', 1, 1)"} {
		send(t, nc, act)
		r := p.next(t)
		if more == "" {
			if r.Rows.Counted != 3 || r.Rows.Estimated < 0 {
				t.Errorf("%+v", r.Rows)
			}
			p.approve(r)
			want(t, nc, 1, "1 2 C ZI")
			continue
		}
		g.ask(t, more) // by another session, while people look
		p.approve(r)
		want(t, nc, 1, "1 2 E42501 ZI")
	}
	if n := g.ask(t, "select count(*) from items where id < 4"); n != "4" {
		t.Error(n)
	}
}

// TestLeft: a peer's leaving is seen on every kind of socket, also behind data
// that nobody has read.
func TestLeft(t *testing.T) {
	cert, key, err := pgtest.Certificate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		for _, secure := range []bool{false, true} {
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			peer, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			nc, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			if secure {
				nc = tls.Server(&prefixed{Conn: nc}, config)
			}
			raw := descriptor(nc)
			if raw == nil || left(raw) {
				t.Fatalf("%s: it has not left", network)
			}
			_, _ = peer.Write([]byte("unread"))
			peer.Close()
			for end := time.Now().Add(10 * time.Second); !left(raw); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s, TLS %t: nobody notices", network, secure)
				}
			}
			nc.Close()
		}
	}
}
