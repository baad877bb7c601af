package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// room has real approvals, in a store on disk: bob decides what ada asks for.
func room(t *testing.T, g *gateway) *approval.Service {
	t.Helper()
	rows, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rows.Close() })
	s := &approval.Service{Store: rows, Log: g.log, Groups: func(context.Context, string, string) ([]string, error) { return []string{"dba"}, nil }}
	g.Approver = s
	g.Ran = func(id string, command uint64, how gate.State) {
		_ = s.Ran(context.Background(), id, command, how.String())
	}
	return s
}

var bob = approval.Person{Issuer: "https://idp", Subject: "bob", Groups: []string{"dba"}}

// asked gives the request that waits, once one does.
func asked(t *testing.T, s *approval.Service) *approval.Card {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if list, err := s.Store.Requests(t.Context(), true, 1); err != nil {
			t.Fatal(err)
		} else if len(list) == 1 && list[0].State == gate.Waiting {
			return list[0]
		}
	}
	t.Fatal("nobody is asked")
	return nil
}

// reachable is a connection with a way to cancel what it runs.
func reachable(t *testing.T, url string) (net.Conn, func()) {
	t.Helper()
	p, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SyncConn(t.Context()); err != nil { // as in twins.run
		t.Fatal(err)
	}
	h, err := p.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Conn.Close() })
	_ = h.Conn.SetDeadline(time.Now().Add(time.Minute))
	again, err := pgconn.Construct(h)
	if err != nil {
		t.Fatal(err)
	}
	return h.Conn, func() {
		if err := again.CancelRequest(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestAP06Races: whatever ends a hold in the moment in which it is approved, one
// of the two counts: what is withdrawn has not run, and what has run was approved
// and used, in store and log. Who is told is told the truth.
func TestAP06Races(t *testing.T) {
	h := &holds{holds: deletes}
	g, _ := review(t, h)
	s := room(t, g)
	g.ask(t, "create table marks (id int primary key); insert into marks select generate_series(1, 400); grant all on marks to app")
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	n, ran, not := 0, 0, 0
	for name, end := range map[string]func(net.Conn, func()){
		"ctrl-C": func(_ net.Conn, cancel func()) { cancel() },
		"kill":   func(net.Conn, func()) { g.Kill("enough", func(*gate.Session) bool { return true }) },
		"leave":  func(nc net.Conn, _ func()) { _ = nc.Close() },
		"reload": func(net.Conn, func()) { g.Swap(generation(&rules{allow: noDelete})) },
		"deny":   nil,
	} {
		for i := range 6 {
			n++
			g.Swap(generation(h))
			nc, cancel := reachable(t, g.url())
			send(t, nc, query(fmt.Sprintf("delete from marks where id = %d", n)))
			c := asked(t, s)
			done := make(chan struct{})
			pause := time.Duration(rand.IntN(30)) * time.Millisecond
			go func() {
				defer close(done)
				if i%2 == 0 {
					time.Sleep(pause)
				}
				if end != nil {
					end(nc, cancel)
				} else {
					_, _ = s.Decide(context.Background(), c.ID, approval.Person{Issuer: bob.Issuer, Subject: "eve", Groups: bob.Groups}, false, "no", c.Code)
				}
			}()
			if i%2 == 1 {
				time.Sleep(pause)
			}
			_, _ = s.Decide(t.Context(), c.ID, bob, true, "yes", c.Code)
			<-done
			told := ""
			for name != "leave" && !strings.HasSuffix(told, "Z") {
				kind, body, err := readMessage(nc)
				if err != nil {
					break
				}
				if kind == 'E' {
					_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
					told += code[:5]
				} else if kind != 'N' {
					told += string(kind)
				}
			}
			_ = nc.Close()
			g.quiet(t)
			card, err := s.Store.Request(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			gone := g.ask(t, fmt.Sprintf("select count(*) from marks where id = %d", n)) == "0"
			if gone {
				ran++
			} else {
				not++
			}
			switch {
			case card.State == gate.Waiting || card.State == gate.Approved:
				t.Errorf("%s: it is over, and the request is %s", name, card.State)
			case gone && card.State != gate.Used:
				t.Errorf("%s: it has run, and the request is %s (%s)", name, card.State, card.Why)
			case gone && strings.HasPrefix(told, "4") || gone && strings.HasPrefix(told, "57014"), !gone && strings.HasPrefix(told, "C"):
				t.Errorf("%s: gone is %t, and the client was told %s", name, gone, told)
			case card.State == gate.Used && card.Outcome == "":
				t.Errorf("%s: nobody knows what became of what was approved", name)
			case !gone && card.Outcome == "completed":
				t.Errorf("%s: it has not run, and the record says so", name)
			}
			spent := 0
			g.log.mu.Lock()
			for _, e := range g.log.events {
				if e.Kind == gate.EventCommand && e.Request == c.ID {
					spent++
				}
			}
			g.log.mu.Unlock()
			if want := map[bool]int{true: 1}[gone]; spent < want || spent > 1 || card.State == gate.Withdrawn && spent > 0 {
				t.Errorf("%s: %s, gone is %t, %d times in the log", name, card.State, gone, spent)
			}
		}
	}
	t.Logf("%d ran, %d did not", ran, not)
	if ran == 0 || not == 0 {
		t.Error("there was no race")
	}
}

// TestAP13Reminder: who waits is told again and again, and nothing else comes of it.
func TestAP13Reminder(t *testing.T) {
	g, p := review(t, &holds{})
	g.Remind = 10 * time.Millisecond
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	send(t, nc, query(heldText))
	r := p.next(t)
	for i := range 5 {
		kind, body, err := readMessage(nc)
		if err != nil || kind != 'N' || !strings.Contains(string(body), "waiting for approval: request "+r.ID+": removes orders") {
			t.Fatalf("%d: %c %q %v", i, kind, body, err)
		}
	}
	p.approve(r)
	want(t, nc, 1, "C ZI")
}

// TestAP13ServerEnds: a server that ends idle transactions ends one that waits.
// The client is told, and nothing runs.
func TestAP13ServerEnds(t *testing.T) {
	g, p := review(t, &holds{})
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	send(t, nc, query("set idle_in_transaction_session_timeout = '3s'"), query("begin; select 1"), query(heldText))
	want(t, nc, 2, "C ZI C T D C ZT")
	r := p.next(t)
	if state, why := p.settled(t, r); state != gate.Withdrawn {
		t.Error(state, why)
	}
	p.approve(r)
	var last string
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			break
		}
		if kind == 'E' {
			_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
			last = code[:5]
		}
	}
	if last != "25P03" {
		t.Errorf("the client is told %q", last)
	}
	g.quiet(t)
	if n := g.ask(t, "select count(*) from items where id = 1"); n != "1" {
		t.Error("it has run")
	}
}

// TestAP08SpoolCalledOff: a cancel reaches a COPY whose data is being kept, as it
// reaches one at the server: with the next message. Nobody is asked.
func TestAP08SpoolCalledOff(t *testing.T) {
	g, p := review(t, &holds{})
	for _, db := range []string{g.db, shop(t)} {
		if _, err := server.Psql(db, "create table lines (t text); grant all on lines to app"); err != nil {
			t.Fatal(err)
		}
		url := g.url()
		if db != g.db {
			url = server.URL("app", db)
		}
		for _, next := range [][]byte{join(frame('d', []byte("two\n")), frame('d', []byte("three\n")), frame('c', nil)), frame('c', nil), frame('f', []byte("enough\x00"))} {
			if db != g.db && len(next) < 40 { // without a row to take the server sees a cancel or the end, as it comes
				continue
			}
			nc, cancel := reachable(t, url)
			send(t, nc, query("copy lines from stdin"), frame('d', []byte("one\n")))
			if kind, _, err := readMessage(nc); err != nil || kind != 'G' {
				t.Fatalf("%c %v", kind, err)
			}
			cancel()
			send(t, nc, next, query("select 1"))
			want(t, nc, 2, "E57014 ZI T D C ZI")
			nc.Close()
		}
	}
	// In a transaction it has failed.
	nc, cancel := reachable(t, g.url())
	send(t, nc, query("begin"), query("copy lines from stdin"))
	want(t, nc, 1, "C ZT")
	if kind, _, err := readMessage(nc); err != nil || kind != 'G' {
		t.Fatalf("%c %v", kind, err)
	}
	cancel()
	send(t, nc, frame('d', []byte("one\n")), frame('c', nil), query("select 1"), query("rollback"), query("copy lines from stdin"), frame('d', []byte("kept\n")), frame('c', nil))
	want(t, nc, 3, "E57014 ZE E25P02 ZE C ZI")
	p.approve(p.next(t)) // and the next COPY is another
	want(t, nc, 1, "G C ZI")
	select {
	case r := <-p.waiter:
		t.Errorf("asked about %s", r.Text)
	default:
	}
	if n := g.ask(t, "select string_agg(t, ' ') from lines"); n != "kept" {
		t.Error(n)
	}
}

// TestAP21PayloadRaces: what is sent while a COPY waits is no part of what was
// approved, and cannot end it.
func TestAP21PayloadRaces(t *testing.T) {
	g, p := review(t, &holds{})
	g.ask(t, "create table lines (t text); grant all on lines to app")
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	more := join(frame('d', []byte("more\n")), frame('c', nil), frame('f', []byte("no\x00")), frame('d', []byte("still\n")), query("select 1"))
	for i, act := range []func(*gate.Request){p.approve, func(r *gate.Request) { p.decide(r, gate.Decided{State: gate.Refused}) }} {
		text := fmt.Sprintf("seen %d\n", i)
		send(t, nc, query("copy lines from stdin"), frame('d', []byte(text)), frame('c', nil), more)
		r := p.next(t)
		if string(r.Input.Head) != text || r.Input.Size != uint64(len(text)) {
			t.Errorf("%q", r.Input.Head)
		}
		send(t, nc, frame('f', []byte("late\x00")), query("select 2"))
		act(r)
		want(t, nc, 3, map[int]string{0: "G C ZI T D C ZI T D C ZI", 1: "G E42501 ZI T D C ZI T D C ZI"}[i])
	}
	// Too large to be seen, let through unseen, and called off by the client in the middle.
	g.Swap(generation(&holds{holds: deletes, terms: abi.Terms{Payload: "unseen"}}))
	big := frame('d', []byte(strings.Repeat(strings.Repeat("x", 1023)+"\n", 1025)))
	send(t, nc, query("copy lines from stdin"), big, frame('f', []byte("no\x00")), query("select 1"))
	p.approve(p.next(t))
	want(t, nc, 2, "G E57014 ZI T D C ZI")
	// The client leaves while its data waits.
	g.Swap(generation(&holds{holds: deletes}))
	send(t, nc, query("copy lines from stdin"), frame('d', []byte("left\n")), frame('c', nil))
	r := p.next(t)
	nc.Close()
	if state, why := p.settled(t, r); state != gate.Withdrawn {
		t.Error(state, why)
	}
	p.approve(r)
	g.quiet(t)
	if n := g.ask(t, "select string_agg(t, ' ') from lines"); n != "seen 0" {
		t.Error(n)
	}
}

// TestAP22Rules: what a rule writes is in no count of the server's, so no limit
// lets it pass; what a trigger does instead is counted by the rows of the view.
func TestAP22Rules(t *testing.T) {
	h := &holds{holds: nobody, terms: abi.Terms{RowsWritten: 2}}
	g, p := review(t, h)
	g.ask(t, `create table marks (id int primary key, v text); insert into marks select g, 'old' from generate_series(1, 9) g;
		create table ruled (id int primary key); insert into ruled select generate_series(1, 9);
		create rule wide as on delete to ruled do instead update marks set v = 'wide';
		create table noted (id int primary key); insert into noted values (1);
		create rule also as on update to noted do also delete from marks;
		create view shown as select id, v from marks where id > 0 offset 0;
		create function instead() returns trigger language plpgsql as 'begin update marks set v = new.v where id = new.id; return new; end';
		create trigger t instead of update on shown for each row execute function instead();
		grant all on all tables in schema public to app`)
	if err := serverSees(g); err != nil {
		t.Fatal(err)
	}
	nc := g.in(t)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	for _, text := range []string{"delete from ruled where id = 1", "update noted set id = 2 where id = 1", "update shown set v = 'three' where id < 4"} {
		send(t, nc, query(text))
		want(t, nc, 1, "E42501 ZI")
		send(t, nc, parseMsg("", text), bindMsg("", ""), executeMsg(""), sync_())
		got := kinds(t, nc, 1)
		if !strings.HasSuffix(got, "E42501 ZI") {
			t.Errorf("%s: %s", text, got)
		}
	}
	if n := g.ask(t, "select count(*) from marks where v = 'old'"); n != "9" {
		t.Errorf("%s rows are as they were", n)
	}
	send(t, nc, query("update shown set v = 'two' where id < 3"))
	want(t, nc, 1, "C ZI")
	// Approved without a limit it runs, and the card does not say that it counted.
	g.Swap(generation(&holds{holds: deletes}))
	send(t, nc, query("delete from ruled where id = 1"))
	r := p.next(t)
	if r.Rows.Counted >= 0 {
		t.Errorf("%+v", r.Rows)
	}
	p.approve(r)
	want(t, nc, 1, "C ZI")
	if n := g.ask(t, "select count(*) from marks where v = 'wide'"); n != "9" {
		t.Error(n)
	}
}
