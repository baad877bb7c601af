package postgres

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestScripts: a text that changes tables among other statements is answered as
// the server answers it, and leaves the same.
func TestScripts(t *testing.T) {
	guard := &rules{allow: understood}
	g := serve(t, guard)
	g.Dialer = asOwner{dialer{database: g.db}}
	g.options(guard, TaskOptions{Introspect: true}, ResourceOptions{Privileged: map[string]bool{"": true}}, "owner")
	direct := shop(t)
	for _, db := range []string{g.db, direct} {
		g.askOf(t, db, "grant create on schema public to owner; create table notes (id int primary key, v text); alter table notes owner to owner; insert into notes values (1, 'a'); create table late (id int references notes deferrable initially deferred); alter table late owner to owner")
	}
	for _, texts := range [][]string{
		{"create table a1 (id int); insert into a1 values (1), (2); select * from a1", "select count(*) from a1"},
		{"begin; create table a1 (id int); commit", "insert into a1 values (7)"},
		{"begin; create table a1 (id int); insert into a1 values (1); rollback; select 1 as x", "select 1 from a1"},
		{"create table a1 (id int); begin; insert into a1 values (1); commit; select id from a1"},
		{"begin", "create table a1 (id int); insert into a1 values (1); select id from a1", "commit"},
		{"begin; create table a1 (id int)", "insert into a1 values (1); alter table a1 add w int; select * from a1; end"},
		{"create table a1 (id int); select 1/0; create table a2 (id int)", "select count(*) from pg_class where relname in ('a1', 'a2')"},
		{"begin; create table a1 (id int); select 1/0; commit", "commit", "select count(*) from pg_class where relname = 'a1'"},
		{"begin; create table a1 (id int); commit; insert into a1 values (1); select x from a1", "select count(*) from a1"},
		{"create table a1 (id int);\n-- a comment\n select nothing from a1; ;"},
		{"create table a1 (é int); insert into a1 values (1); select é, missing from a1"},
		{"create table a1 (id int); select 1 +"},
		{"create table a1 (id int); insert into notes values (1, 'twice')", "select count(*) from pg_class where relname = 'a1'"},
		{"create table a1 (id int); insert into late values (99); select 1 as x", "select count(*) from late"},
		{"create index notes_v on notes (v); analyze notes; comment on table notes is 'x'; select 1"},
		{"alter table notes add w int default 5; update notes set w = 6; alter table notes rename w to x; select x from notes", "select x from notes"},
		{"create table a1 (id int); drop table a1; create table a1 (other text); select other from a1"},
		{"create type mood as enum ('sad', 'ok'); create table a1 (m mood); insert into a1 values ('ok') returning m::text"},
		{"create view a1 as select v from notes; select * from a1; drop view a1; select * from a1"},
		{"begin; savepoint s; create table a1 (id int); rollback to s; create table a2 (id int); commit; select 1 from a1"},
		{"set search_path = pg_catalog, public; create table public.a1 (id int); show search_path; reset search_path"},
		{"create table a1 (id int); prepare p as select id from a1; execute p; deallocate p"},
		{"create table a1 (id int); begin; declare k cursor for select 1; fetch 1 from k; commit"},
		{"create table a1 (id int); begin; begin; commit; commit"},
		{"create table a1 (id int); copy a1 to stdout", "select 1"},
		{"create table a1 (id int); explain (costs off) select * from a1; select $1"},
		{"begin; create table a1 (id int)", "commit; begin isolation level serializable; select 1 as x; commit"},
		{"begin; create table a1 (id int); commit; begin; set transaction isolation level repeatable read; select id from a1; commit"},
		{"begin; create table a1 (id int); savepoint s; drop table a1; rollback to s; select id from a1; rollback; begin; select 1 from a1"},
		{"create table a1 (id int); prepare p as select $1::int; execute p(4)"},
		{";; create table a1 (id int);; ; select 3;;"},
	} {
		var out [2][]string
		var left [2]string
		for i, db := range []string{direct, g.db} {
			g.askOf(t, db, "drop table if exists a1, a2, kept; drop view if exists a1")
			out[i] = g.says(t, texts, "owner", []string{direct, ""}[i])
			g.quiet(t)
			left[i] = remains(t, db)
			g.askOf(t, db, "alter table notes drop column if exists x; drop index if exists notes_v; drop table if exists a1, a2; drop type if exists mood; truncate late; comment on table notes is null")
		}
		if !slices.Equal(out[0], out[1]) {
			t.Errorf("%q:\n the server: %q\nthe gateway: %q", texts, out[0], out[1])
		}
		if left[0] != left[1] {
			t.Errorf("%q leaves something else", texts)
		}
	}
}

// guarded sends a text and gives the kinds of its answer, and the code of an error. What
// is protected may not be in it.
func guarded(t *testing.T, c net.Conn, text string) (kinds, code string) {
	t.Helper()
	send(t, c, query(text))
	for {
		kind, body, err := readMessage(c)
		if err != nil {
			t.Fatal(text, err)
		}
		if b := string(body); strings.Contains(b, "hidden") || strings.Contains(b, "123-45") {
			t.Errorf("%s shows %q", text, b)
		}
		if kind == 'Z' {
			return kinds, code
		}
		if kinds += string(rune(kind)); kind == 'E' {
			_, code, _ = strings.Cut("\x00"+string(body), "\x00C")
			code = code[:5]
		}
	}
}

// says gives what each of some texts is answered with, through the gateway or, where
// a database is named, by the server itself.
func (g *gateway) says(t *testing.T, texts []string, user, direct string) []string {
	t.Helper()
	var steps []step
	for _, text := range texts {
		steps = append(steps, step{text, query(text)})
	}
	var nc net.Conn
	if direct == "" {
		nc = g.in(t)
	} else {
		p, err := pgconn.Connect(t.Context(), server.URL(user, direct))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SyncConn(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, err := p.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		nc = h.Conn
	}
	defer nc.Close()
	out, err := transcript(nc, steps, 1<<20)
	if err != nil {
		t.Errorf("%q: %v", texts, err)
	}
	return out
}

// askOf asks the server about a database.
func (g *gateway) askOf(t *testing.T, db, text string) {
	t.Helper()
	if out, err := server.Psql(db, text); err != nil {
		t.Fatal(out, err)
	}
}

// TestScriptsAreJudged: each statement of such a text is judged by what is there
// at its place, and where one is refused nothing of it lasts but what it has
// committed itself.
func TestScriptsAreJudged(t *testing.T) {
	g := migrate(t, policy.Task{Masks: masks(abi.MaskNull, "", "people.ssn"), Rules: []policy.Rule{
		ddl("public.*", tableVerbs...),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn"}},
	}})
	g.askOf(t, g.db, `SET ROLE owner; CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, secret text);
		INSERT INTO people VALUES (1, 'Ada', '123-45', 'hidden'); GRANT SELECT ON ALL TABLES IN SCHEMA public TO app`)
	c := g.in(t)
	for _, k := range []struct{ text, want, code string }{
		{"create table fresh (v text); insert into fresh values ('a'); select v from fresh; drop table fresh", "CCTDCC", ""},
		{"create table fresh (v text); select secret from people", "CE", "42501"},
		{"select 1 from fresh", "E", "42P01"},
		{"create table fresh (v text); insert into fresh select secret from people", "CE", "42501"},
		{"create table fresh (v text); insert into fresh select ssn from people", "CE", "42501"},
		{"alter table people rename ssn to name2; select name2 from people", "E", "42501"},
		{"create table fresh (v text); drop table orders", "CE", "2BP01"},
		{"create view v as select id, name from people; select name from v; select ssn from people; drop view v", "CTDCTDCC", ""},
		{"create table fresh (v text); grant select on people to app", "CE", "42501"},
		{"begin; alter table people drop column name; alter table people rename secret to name; select name from people; commit", "CCE", "42501"},
		{"rollback", "C", ""},
		{"begin", "C", ""}, // what is known to be refused is, before anything runs
		{"commit; select 1; drop table people; select 2", "E", "42501"},
		{"rollback", "C", ""},
		{"set search_path = public; select secret from people; create table fresh (v text)", "CE", "42501"},
		{"begin; create table fresh (v text); commit; select v from fresh", "CCCE", "42501"},
		{"drop table fresh", "C", ""},
		{"begin isolation level repeatable read; create table fresh (v text); commit", "CE", "42501"},
		{"rollback", "C", ""},
		{"create table fresh (v text); copy fresh from stdin", "CE", "0A000"},
		{"set default_transaction_isolation = 'repeatable read'", "C", ""},
		{"create table fresh (v text); select 1", "E", "42501"},
	} {
		got, code := guarded(t, c, k.text)
		if got != k.want || code != k.code {
			t.Errorf("%s: %s %s, not %s %s", k.text, got, code, k.want, k.code)
		}
	}
	if got := g.ask(t, "select string_agg(relname, ' ') from pg_class where relname in ('fresh', 'v')"); got != "" {
		t.Errorf("%s was made", got)
	}
	// By the extended protocol it is what it is without a gateway.
	send(t, c, join(parseMsg("", "create table fresh (v text); select 1"), sync_()))
	if got := kinds(t, c, 1); got != "E42601 ZI" {
		t.Error(got)
	}
	// Behind what has no Sync, servers do not agree.
	send(t, c, join(parseMsg("", "select 1"), query("create table fresh (v text); select 1")))
	if got := kinds(t, c, 1); got != "1 E0A000 ZI" {
		t.Error(got)
	}
}

// TestScriptsWait: a statement of such a text that has to be approved waits where
// it stands, and the log has each by itself.
func TestScriptsWait(t *testing.T) {
	guard := &holds{terms: abi.Terms{OnHold: "keep"}}
	g, p := review(t, guard)
	g.Dialer = asOwner{dialer{database: g.db}}
	g.options(guard, TaskOptions{Introspect: true}, ResourceOptions{Privileged: map[string]bool{"": true}}, "owner")
	for _, k := range []struct {
		decide            gate.Decided
		want, became, has string
	}{
		{gate.Decided{State: gate.Refused, Reason: "no", Voices: []abi.Voice{{Subject: "bob"}}}, "C E42501 ZI", "rolled back", "1"},
		{gate.Decided{State: gate.Approved}, "C C C ZI", "completed, completed, completed", "0"},
	} {
		c := g.in(t)
		g.log.forget()
		send(t, c, query("create table fresh (id int); delete from items where id = 1; drop table fresh"))
		p.decide(p.next(t), k.decide)
		if got := kinds(t, c, 1); got != k.want {
			t.Errorf("%s, not %s", got, k.want)
		}
		c.Close()
		g.quiet(t)
		if got := g.became(); got != k.became {
			t.Errorf("%s, not %s", got, k.became)
		}
		if got := g.ask(t, "select count(*) from items where id = 1"); got != k.has {
			t.Errorf("%s of the row", got)
		}
	}
}

// TestScriptsAreCancelled: a cancel ends such a text wherever it comes, also while
// the gateway looks at the catalog between two statements, and nothing behind it.
func TestScriptsAreCancelled(t *testing.T) {
	g := migrate(t, policy.Task{Rules: []policy.Rule{ddl("public.*", tableVerbs...)}})
	c := g.connect(t).PgConn()
	text := strings.Repeat("create table a1 (id int); drop table a1; ", 100)
	for i := range 5 {
		sent := make(chan error, 1)
		time.AfterFunc(time.Duration(200+7*i)*time.Millisecond, func() { sent <- c.CancelRequest(t.Context()) })
		_, err := c.Exec(t.Context(), text).ReadAll()
		if e := (*pgconn.PgError)(nil); !errors.As(err, &e) || e.Code != "57014" {
			t.Error(err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if _, err := c.Exec(t.Context(), "select 1").ReadAll(); err != nil {
			t.Error(err)
		}
	}
}
