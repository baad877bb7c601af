package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// doubles are two databases behind the same task, equal but for what it protects: the
// values of people.ssn (masked) and people.secret (not listed), how long they are and
// whether there are any, and the rows of the schema hidden. What is sent to both is
// answered alike, byte for byte.
type doubles [2]*gateway

const doubledData = `SET ROLE owner; CREATE SCHEMA hidden;
	CREATE TABLE people (id int PRIMARY KEY, name text, ssn text UNIQUE, secret text, grp int DEFAULT 1);
	CREATE TABLE notes (id int PRIMARY KEY, person int REFERENCES people, body text, tag text UNIQUE);
	CREATE TABLE hidden.vault (id int PRIMARY KEY, note int REFERENCES notes ON DELETE CASCADE, what text);
	CREATE VIEW hidden.seen_people AS SELECT name, secret FROM people;
	CREATE VIEW names AS SELECT id, name FROM people;
	CREATE TABLE pets (id int PRIMARY KEY, name text, owner_ssn text);
	CREATE TABLE twice (id int PRIMARY KEY, v text, m text, n int, w text);
	INSERT INTO twice SELECT n, %[5]s || 'twice', %[5]s || 'masked', 1, %[5]s || n FROM generate_series(1, 4) n;
	INSERT INTO people VALUES (1, 'Ada', %[1]s), (2, 'Bob', %[2]s), (3, 'Cy', %[3]s);
	INSERT INTO notes VALUES (1, 1, 'one', 'a'), (2, 2, 'two', 'b'), (3, 3, 'three', 'c');
	CREATE TABLE plain (v text); INSERT INTO plain VALUES (%[5]s);
	INSERT INTO pets VALUES (1, 'Rex', 'zq');
	INSERT INTO hidden.vault SELECT n, 1 + n %% 3, 'what' || n || repeat('v', %[4]d) FROM generate_series(1, %[4]d) n;
	GRANT USAGE ON SCHEMA hidden TO app; GRANT ALL ON ALL TABLES IN SCHEMA public, hidden TO app; GRANT CREATE ON SCHEMA public TO app;`

func doubled(t *testing.T, task policy.Task, user string, probe bool) doubles {
	t.Helper()
	var w doubles
	for i, values := range [][]any{{"'zq-1-zq', 'zq1'", "'zq-2-zq', 'zq2'", "'zq-3-zq', NULL", 3, "'zq'"}, {"'xw-31-and-longer', 'xw9 longer'", "NULL, 'xw2'", "'xw-11', 'xw3'", 90, "repeat('xw', 40)"}} {
		guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
		g := serve(t, guard)
		options, resource := TaskOptions{Introspect: true}, ResourceOptions{Probe: probe}
		for _, m := range task.Masks {
			options.Masked = append(options.Masked, abi.Source{Relation: m.Relation, Column: m.Column})
		}
		if task.Blind {
			options.Blind, options.Masked = Blind(task.Masks, func(r []string, c string) bool { return r[0] == "public" && c != "secret" }), nil
		}
		if user == "owner" {
			g.Dialer, resource.Privileged = asOwner{dialer{database: g.db}}, map[string]bool{"": true}
		}
		g.options(guard, options, resource, t.Name())
		g.askOf(t, g.db, fmt.Sprintf(doubledData, values...)+doubledTables)
		w[i] = g
	}
	return w
}

var ownIDs = regexp.MustCompile(`[0-9a-f]{16,}|session [^ )]*`)

// messages makes what lines say, a message each: Q and a text; P name text; B portal
// name|values; E portal rows; D and C with S or P and a name; d, c, S and H. A dash is
// an empty name, and X and a text are all messages of an unnamed statement.
func messages(t *testing.T, lines string) (b []byte, ready int) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		f := strings.SplitN(line, " ", 3)
		for i := range f {
			if i < 2 && f[i] == "-" {
				f[i] = ""
			}
		}
		for len(f) < 3 {
			f = append(f, "")
		}
		switch f[0] {
		case "Q":
			b, ready = append(b, query(strings.TrimPrefix(line, "Q "))...), ready+1
		case "P":
			b = append(b, parseMsg(f[1], f[2])...)
		case "B":
			g := strings.Split(f[2], "|")
			if g[0] == "-" {
				g[0] = ""
			}
			body := []byte(f[1] + "\x00" + g[0] + "\x00\x00\x00")
			body = binary.BigEndian.AppendUint16(body, uint16(len(g)-1))
			for _, v := range g[1:] {
				body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...)
			}
			b = append(b, frame('B', append(body, 0, 0))...)
		case "E":
			n, _ := strconv.Atoi(f[2])
			b = append(b, frame('E', binary.BigEndian.AppendUint32([]byte(f[1]+"\x00"), uint32(n)))...)
		case "X": // a whole one, unnamed
			b = append(b, join(parseMsg("", strings.TrimPrefix(line, "X ")), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""))...)
		case "D", "C":
			if f[2] == "-" {
				f[2] = ""
			}
			b = append(b, frame(f[0][0], []byte(f[1]+f[2]+"\x00"))...)
		case "d":
			b = append(b, frame('d', []byte(strings.ReplaceAll(strings.TrimPrefix(line, "d "), `\n`, "\n")+"\n"))...)
		case "c", "H":
			b = append(b, frame(f[0][0], nil)...)
		case "S":
			b, ready = append(b, sync_()...), ready+1
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return b, ready
}

// heardOf sends batches, divided by lines of three dashes, and gives what comes back.
func heardOf(t *testing.T, nc net.Conn, script string) string {
	t.Helper()
	var out strings.Builder
	for _, batch := range strings.Split(script, "---") {
		b, ready := messages(t, batch)
		if _, err := nc.Write(b); err != nil {
			fmt.Fprintln(&out, "ended")
			return out.String()
		}
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		for ready > 0 {
			kind, body, err := readMessage(nc)
			if err != nil {
				fmt.Fprintln(&out, "ended")
				return out.String()
			}
			switch kind {
			case 'Z':
				ready--
			case 'A': // without the process that it comes from
				body = body[4:]
			case 'T': // names, without OIDs
				n, rest := int(binary.BigEndian.Uint16(body)), body[2:]
				body = nil
				for range n {
					name, after, _ := bytes.Cut(rest, []byte{0})
					body, rest = append(append(body, name...), ' '), after[18:]
				}
			}
			fmt.Fprintf(&out, "%c %q\n", kind, ownIDs.ReplaceAllString(string(bytes.Map(func(r rune) rune {
				if r == 0 {
					return '~'
				}
				return r
			}, body)), "#"))
		}
	}
	return out.String()
}

func peopleRule() policy.Rule {
	return policy.Rule{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn", "grp"}}
}

func doubledRules() []policy.Rule {
	return []policy.Rule{peopleRule(), all("select", "public.notes", "public.names", "public.plain"), all("insert", "public.notes"), all("update", "public.notes"), all("delete", "public.notes"),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.twice"}, Columns: []string{"id", "m"}}, {At: "x.yaml:2", Verbs: []string{"select", "insert"}, Tables: []string{"public.pets"}, Columns: []string{"id", "name"}},
		{At: "x.yaml:2", Verbs: []string{"insert", "update"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "grp"}}, {At: "x.yaml:2", Verbs: []string{"insert", "update"}, Tables: []string{"public.twice"}, Columns: []string{"id", "n"}},
		{At: "x.yaml:2", Verbs: []string{"select", "insert", "update"}, Tables: []string{"public.gen"}, Columns: []string{"id", "a", "g", "name"}},
		{At: "x.yaml:2", Verbs: []string{"select", "insert", "update", "delete"}, Tables: []string{"public.strict"}, Columns: []string{"id", "a"}}, all("delete", "public.gen"),
		{At: "x.yaml:2", Verbs: []string{"listen", "notify"}, Channels: []string{"news"}},
		ddl("pg_temp.*", append(upkeepVerbs, tableVerbs...)...)}
}

const doubledTables = `CREATE TABLE gen (id int PRIMARY KEY, a int, secret text, ssn text, g text GENERATED ALWAYS AS (ssn || 'x') STORED, name text);
	INSERT INTO gen (id, a, secret, ssn, name) SELECT id, id, secret, ssn, name FROM people;
	CREATE DOMAIN short AS text CHECK (length(VALUE) < 60);
	CREATE TABLE strict (id int PRIMARY KEY, a int NOT NULL, secret short, ssn text, CHECK (a < 1000), CHECK (length(secret) > a - 100), UNIQUE (a, secret));
	INSERT INTO strict SELECT id, id, secret, ssn FROM people; GRANT ALL ON gen, strict TO app;`

// alike runs each script, a session each, at both, and wants so many of the answers to
// be no refusals: a script that is refused from its beginning shows nothing.
func (w doubles) alike(t *testing.T, scripts []string, least int) {
	t.Helper()
	run := func(script string) (out [2]string) {
		for i, g := range w {
			nc := g.in(t)
			out[i] = heardOf(t, nc, script)
			nc.Close()
		}
		return out
	}
	if out := run("Q select v from plain"); out[0] == out[1] || !strings.Contains(out[0], "zq") {
		t.Fatalf("what is listed is not shown: %s", out[0])
	}
	done := 0
	for _, script := range scripts {
		out := run(script)
		if out[0] != out[1] {
			t.Errorf("%s\n%s\nis not\n%s", script, out[0], out[1])
		} else if strings.Contains(out[0], "zq") && !strings.Contains(script, "zq") || strings.Contains(out[0], "ended") {
			t.Errorf("%s\n%s", script, out[0])
		}
		done += strings.Count("\n"+out[0], "\nC ")
	}
	if done < least {
		t.Errorf("%d commands were carried out, want %d: the others were refused, and say nothing", done, least)
	}
}

func doubledMasks() []abi.Protect {
	return append(masks(abi.MaskNull, "", "people.ssn", "gen.ssn", "strict.ssn"), masks(abi.MaskNull, "", "twice.m")...)
}

// TestMeaning: names that mean something else once their turn comes: cursors, portals,
// statements, views, temporary tables and paths, in pipelines, in what is rolled back
// and in what is skipped after an error.
func TestMeaning(t *testing.T) {
	task := policy.Task{ShowErrors: true, Masks: doubledMasks(), Settings: []string{"search_path", "application_name", "datestyle", "standard_conforming_strings", "row_security"}, Rules: append(doubledRules(),
		ddl("public.*", tableVerbs...), all("select", "public.pets"), all("truncate", "public.notes"), all("select", "public.v1", "public.v2"))}
	doubled(t, task, "owner", false).alike(t, meanings, 200)
}

// TestUpkeepTellsNothing: what keeps tables and changes them, in errors, notices and
// what they take along.
func TestUpkeepTellsNothing(t *testing.T) {
	task := policy.Task{ShowErrors: true, Masks: doubledMasks(), Rules: append(doubledRules(), ddl("public.*", append(upkeepVerbs, tableVerbs...)...), all("truncate", "public.notes", "public.people", "public.twice"), all("delete", "public.people"))}
	doubled(t, task, "owner", false).alike(t, upkeep, 60)
}

// TestEnforcedLater: a foreign key that is enforced from now on (18) tells whether what
// it refers to has the values of all rows, as one that is added or validated does.
func TestEnforcedLater(t *testing.T) {
	task := policy.Task{Masks: doubledMasks(), Rules: append(doubledRules(), ddl("public.*", tableVerbs...), all("select", "public.guess"))}
	w := doubled(t, task, "owner", false)
	if pgtest.Major() >= 18 {
		for _, g := range w {
			g.askOf(t, g.db, "SET ROLE owner; CREATE TABLE guess (v text CONSTRAINT f REFERENCES people (ssn) NOT ENFORCED, n int CONSTRAINT g REFERENCES people NOT ENFORCED); INSERT INTO guess VALUES ('zq-1-zq', 1)")
		}
	}
	w.alike(t, []string{"Q alter table guess alter constraint f enforced", "X alter table guess alter constraint f deferrable enforced\nS", "Q alter table guess alter constraint f deferrable", "Q alter table guess alter constraint g enforced"}, 0)
}

// TestDirections: COPY's options, RETURNING, MERGE, EXPLAIN, JSON, what a session
// makes for itself, under every kind of task.
func TestDirections(t *testing.T) {
	for name, c := range map[string]struct {
		task  policy.Task
		probe bool
	}{"errors cut": {}, "errors shown": {policy.Task{ShowErrors: true, Oracle: "accept"}, false}, "blind": {policy.Task{ShowErrors: true, Blind: true}, false}, "probe": {policy.Task{ShowErrors: true}, true}} {
		t.Run(name, func(t *testing.T) {
			c.task.Masks, c.task.Rules = doubledMasks(), doubledRules()
			doubled(t, c.task, "app", c.probe).alike(t, directions, 25)
		})
	}
}

var meanings = []string{
	// cursors
	`Q begin; declare c cursor for select name from people order by id; savepoint s; close c; declare c cursor for select ssn from people order by id; rollback to s; fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor for select ssn from people order by id
	Q savepoint s
	Q close c
	Q declare c cursor for select name from people order by id
	Q rollback to s
	Q fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor for select ssn from people order by id
	Q declare c cursor for select name from people order by id
	Q fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor with hold for select ssn, name from people order by id
	Q commit
	Q begin
	Q close c
	Q declare c cursor for select name, name from people order by id
	Q rollback
	Q fetch 1 from c
	Q close all`,
	`Q begin
	Q declare c cursor with hold for select ssn, name from people order by id
	Q commit
	Q fetch 1 from c
	Q begin; close c; declare c cursor with hold for select name, name from people order by id; select 1/0
	Q rollback
	Q fetch 1 from c
	Q discard all
	Q fetch 1 from c`,
	`X begin
	X declare c cursor for select ssn from people order by id
	X close c
	X select 1/0
	X declare c cursor for select name from people
	S
	X fetch 1 from c
	S
	Q rollback`,
	`X begin
	X declare c cursor for select ssn from people order by id
	B c -
	S
	Q rollback`,
	`Q begin
	P - select ssn from people order by id
	B c -
	X close c
	X declare c cursor for select name from people order by id
	E c 1
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c a
	C P c
	B c b
	E c 1
	X fetch 1 from c
	C P c
	B c a
	E c 1
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c b
	S
	B c a
	E c 1
	S
	X fetch 1 from c
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c b
	H
	E c 1
	Q savepoint s
	Q close c
	B c a
	E c 1
	Q rollback to s
	E c 1
	S
	Q rollback`,
	// prepared
	`P p select ssn from people order by id
	S
	---
	X select 1/0
	C S p
	P p select name from people order by id
	S
	B - p
	E -
	S`,
	`P p select name from people order by id
	S
	C S p
	P p select ssn from people order by id
	X select 1/0
	S
	B - p
	E -
	S`,
	`P p select name from people order by id
	S
	C S p
	P p select ssn from people order by id
	P p select name from people order by id
	S
	B - p
	E -
	S`,
	`Q prepare p as select name from people order by id
	Q deallocate p; prepare p as select ssn from people order by id; select 1/0
	Q execute p
	B - p
	E -
	S`,
	`Q prepare p as select ssn from people order by id
	Q begin; deallocate p; prepare p as select name from people order by id; rollback
	Q execute p`,
	`Q prepare p as select ssn from people order by id
	Q begin; deallocate all; select 1/0; prepare p as select name from people order by id
	Q rollback
	Q execute p`,
	`P p select ssn from people order by id
	S
	X discard all
	P p select name from people order by id
	B - p
	E -
	S`,
	`X begin
	X discard all
	P p select name from people order by id
	S
	Q rollback
	B - p
	E -
	S`,
	`P p select ssn from people order by id
	X deallocate all
	P p select name from people order by id
	X select 1/0
	S
	B - p
	E -
	S`,
	`P - select ssn from people order by id
	S
	Q select 1
	B - -
	E -
	S`,
	`P - select ssn from people order by id
	P bad select nothing from nowhere
	S
	B - -
	E -
	S`,
	`P - select ssn from people order by id
	P - selec
	S
	B - -
	E -
	S`,
	`P p select name from people where id = $1
	B a p|1
	C S p
	P p select ssn from people where id = $1
	B b p|1
	E a
	E b
	E a
	S`,
	// views
	`Q create view v1 as select id, name as v from people
	P p select v from v1 order by id
	S
	Q begin; drop view v1; create view v1 as select id, ssn as v from people
	B - p
	E -
	S
	Q rollback
	B - p
	E -
	S`,
	`Q create view v1 as select id, name as v from people
	P p select v from v1 order by id
	B - p
	E -
	X create or replace view v1 as select id, grp::text as v from people
	B - p
	E -
	S
	Q drop view v1`,
	`Q begin
	X create table v1 as select id, name as v from people
	P p select v from v1 order by id
	B - p
	E -
	X drop table v1
	X create view v1 as select id, secret as v from people
	S
	B - p
	E -
	S
	Q rollback`,
	`Q begin
	Q savepoint s
	Q create temp table t1 (id int, v text)
	Q prepare p as select v from t1
	Q rollback to s
	Q create temp view t1 as select id, ssn as v from people
	Q execute p
	Q rollback
	Q execute p`,
	`Q begin; savepoint s; create temp table t1 (id int, v text); prepare p as select v from t1; rollback to s; create temp view t1 as select id, name as v from people; execute p
	Q rollback`,
	`Q create temp table t1 (id int, v text)
	P p insert into t1 select id, v from t1
	P q select * from t1
	S
	Q begin; drop table t1; savepoint s; create temp table t1 (id int, v text, w text); rollback to s
	B - q
	E -
	S
	Q rollback
	B - q
	E -
	S`,
	`Q create temp table t1 as select id, name as v from people
	Q alter table t1 rename to t2
	Q begin; alter table t2 rename to t3; rollback; select * from t3
	Q select * from t2 order by id
	Q begin; savepoint s; alter table t2 rename column v to w; rollback to s; select w from t2
	Q rollback`,
	// hiding hidden's names
	`Q set search_path = hidden, public
	Q select * from vault
	Q select * from seen_people`,
	`Q begin; set local search_path = hidden; select count(*) from vault
	Q rollback`,
	`X begin
	X savepoint s
	X set search_path = public
	X rollback to s
	X select name from people order by id
	S
	Q rollback`,
	`Q create schema sx
	Q create temp table t1 (id int)
	Q set search_path = pg_temp, public
	X begin
	X set search_path = public, hidden
	X select 1/0
	X select count(*) from vault
	S
	Q select count(*) from vault
	Q rollback
	Q select count(*) from vault`,
	`P p select count(*) from vault
	S
	Q set search_path = hidden
	P p select count(*) from vault
	S
	B - p
	E -
	S`,
	`Q create temp table vault (id int)
	Q create temp table seen_people (name text)
	Q select * from vault`,
	`Q create table public.vault (id int)
	P p select count(*) from vault
	S
	Q set search_path = hidden, public
	B - p
	E -
	S
	Q reset search_path
	Q drop table public.vault`,
	`Q create table public.vault (id int)
	P p select count(*) from vault
	S
	X begin
	X set search_path = hidden, public
	B - p
	E -
	S
	Q rollback
	Q drop table public.vault`,
	`Q prepare p as select count(*) from people
	Q begin; set local search_path = hidden, public; execute p; rollback`,
	// strings
	`Q set standard_conforming_strings = off
	Q select 'a\' || ssn || ''b' from people
	Q set escape_string_warning = off`,
	`Q begin; set local standard_conforming_strings = off; select '\'', ssn, '\'' from people; rollback`,
	`X set standard_conforming_strings = off
	X select 'x\', ssn, ''' from people
	S`,
	`Q set role app
	Q set session authorization app
	Q set row_security = off
	Q set local row_security = off
	Q set backslash_quote = on
	Q set client_encoding = sjis
	Q set default_transaction_isolation = 'serializable'
	Q set transform_null_equals = on
	Q set constraints all deferred
	Q set session characteristics as transaction read only
	Q set datestyle = 'german'
	Q set application_name = 'x'
	Q reset all
	Q set lc_messages = 'C'
	Q set debug_print_parse = on
	Q set client_min_messages = debug5
	Q set log_min_messages = debug5
	Q set plan_cache_mode = force_generic_plan
	Q set enable_seqscan = off
	Q select set_config('search_path', ssn, false) from people
	Q select set_config('application_name', ssn, false) from people
	Q select set_config('application_name', name, false) from people where id = 1`,
	// errors half-way
	`X insert into notes values (10, 1, 'x', 'x')
	X insert into notes values (10, 1, 'x', 'x')
	X select ssn from people
	S
	Q select count(*) from notes`,
	`X select id from people order by ssn
	X select name from people order by id
	S
	Q select 1; select id from people order by ssn; select 2
	Q select 1; select 1/0; select ssn from people`,
	`Q begin; insert into notes values (10, 1, 'x', 'x'); commit; insert into notes values (10, 1, 'x', 'x')
	Q delete from notes where id = 10`,
	`Q insert into notes values (10, 1, 'x', 'x'); begin; savepoint s; rollback to s; rollback; select count(*) from notes
	Q delete from notes where id = 10`,
	`Q begin; select 1; commit and chain; select ssn from people; rollback and chain; select name from people where id = 1; end
	Q commit`,
	// explain, plan caches
	`P p select ssn from people where id = $1
	B - p|1
	D P -
	E - 1
	E - 1
	S
	Q explain (costs off) execute p(1)
	Q execute p(1)`,
	`Q create temp table t1 as execute p
	Q prepare p as select name from people
	Q create temp table t1 as execute p
	Q deallocate p
	Q prepare p as select ssn from people
	Q create temp table t2 as execute p
	Q select * from t1 order by 1`,
	`Q begin; prepare p as select name as v from people; deallocate p; prepare p as select ssn as v from people; create temp table t2 as execute p; select * from t2
	Q rollback`,
	`Q begin
	X create temp table t1 (v text) on commit drop
	X insert into t1 select name from people
	X rollback
	X create temp view t1 as select ssn as v from people
	X select v from t1 order by v
	S`,
	`Q create temp view t1 as select ssn as v from people
	Q create temp table t1 (v text)
	Q select v from t1 order by 1
	Q drop view t1
	Q begin; create temp table t1 (v text); create temp view t2 as select v from t1; alter table t1 rename to t3; create temp view t1 as select ssn as v from people; select v from t2 order by 1
	Q rollback`,
	// cursors with hold over masked, current of
	`Q begin
	Q declare c cursor for select ssn, id from people order by id for update
	Q fetch 1 from c
	Q update people set name = ssn where current of c
	Q update people set name = name where current of c
	Q delete from people where current of c
	Q rollback`,
	`Q begin
	Q declare c cursor for select id from notes order by id
	Q fetch 1 from c
	Q update notes set body = 'z' where current of c returning body
	Q savepoint s
	Q close c
	Q declare c cursor for select id from people order by id
	Q update notes set body = 'z' where current of c returning body
	Q rollback`,
	`Q begin
	P a select ssn from people order by id
	B c a
	E c 1
	Q move 1 in c
	Q fetch relative 1 from c
	Q fetch absolute -1 from c
	Q fetch all from c
	Q rollback`,
	`Q copy (select ssn, name from people order by id) to stdout; select name from people where id = 1; copy people (id, ssn) to stdout
	Q copy people to stdout
	Q copy (select secret from people) to stdout
	X copy (select ssn, name from people order by id) to stdout
	X select name from people where id = 1
	S`,
}

var upkeep = []string{
	`Q create unique index on twice (v)
	Q create unique index on twice (m)
	Q create unique index on twice (n)
	Q create unique index on twice (n) include (v)
	Q create unique index on twice (n, m)
	Q create unique index on twice (n, v)
	Q create unique index on twice (n) where v is not null
	Q create unique index on twice (n) where m is not null
	Q create unique index on twice ((v || 'x'))
	Q create unique index concurrently tw on twice (v)
	Q reindex index tw
	Q reindex index concurrently tw
	Q drop index tw
	X create unique index on twice (v)
	S`,
	`Q begin; create unique index on twice (v)
	Q rollback
	Q begin; create unique index on twice (v); rollback
	Q begin; savepoint s
	Q create unique index on twice (v)
	Q rollback to s
	Q select 1/0
	Q rollback`,
	`Q alter table twice add unique (v)
	Q alter table twice add constraint u unique (n, v)
	Q alter table twice add unique (n, v) deferrable initially deferred
	Q alter table twice add primary key (v)
	Q alter table twice drop constraint twice_pkey, add primary key (v)
	Q alter table twice drop constraint twice_pkey, add primary key (n)
	Q alter table twice add constraint ck check (v = 'x')
	Q alter table twice add constraint ck check (n > 5)
	Q alter table twice add constraint ck check (n > 5) not valid
	Q alter table twice validate constraint ck
	Q alter table twice drop constraint ck
	Q alter table twice alter v type int using v::int
	Q alter table twice alter v type int
	Q alter table twice alter v type int using 1 / 0
	Q alter table twice alter w type varchar(2)
	Q alter table twice alter v type varchar(200)
	Q alter table twice alter n type text using v
	Q alter table twice alter n type text using m
	Q alter table twice add foreign key (v) references people (ssn)
	Q alter table twice add foreign key (n) references people (id)
	Q alter table twice add foreign key (n) references hidden.vault (id)
	Q alter table twice add foreign key (v) references notes (tag)
	Q alter table twice add foreign key (v) references notes (tag) not valid
	Q alter table twice alter v set not null
	Q alter table twice alter n set not null
	Q alter table twice add e text not null
	Q alter table twice add exclude (v with =)
	Q alter table twice add g text generated always as (v) stored
	Q alter table twice add g text generated always as (m) stored
	Q alter table twice add g int default 1/0
	Q alter table twice add g int generated by default as identity
	Q alter table twice drop g
	Q alter table twice alter n add generated always as identity
	Q alter table twice alter v set default 'x'
	Q alter table twice alter v set storage external
	Q alter table twice alter v set compression pglz
	Q alter table twice alter v set statistics 10
	Q alter table twice alter v set (n_distinct = 3)
	Q alter table twice rename v to id2
	Q alter table twice rename m to m2
	Q alter table twice set logged
	Q alter table twice set unlogged
	Q alter table twice set without oids
	Q alter table twice cluster on twice_pkey
	Q alter table twice replica identity full
	Q alter table twice set (fillfactor = 10)
	Q alter table twice set schema hidden
	Q alter table twice owner to app
	Q alter table twice inherit pets
	Q alter table twice of app`,
	`Q vacuum (verbose) twice
	Q vacuum verbose people
	Q analyze verbose people
	Q vacuum (verbose, analyze) people
	Q vacuum full verbose people
	Q reindex (verbose) table people
	Q reindex (verbose) index concurrently people_ssn_key
	Q reindex (verbose) table twice
	Q cluster verbose people using people_pkey
	Q cluster (verbose) people using people_ssn_key
	Q analyze verbose twice (v)
	Q analyze verbose hidden.vault
	Q vacuum (verbose, buffer_usage_limit '1MB', index_cleanup off) twice
	Q vacuum (verbose, only_database_stats)
	Q vacuum (verbose, skip_database_stats) twice
	Q analyze (verbose, buffer_usage_limit '1MB') twice
	Q vacuum verbose only twice
	Q cluster twice using twice_pkey
	Q select id from twice`,
	`Q truncate people
	Q truncate people cascade
	Q truncate notes cascade
	Q truncate notes
	Q truncate twice, notes, people
	Q truncate twice restart identity cascade
	Q truncate only twice
	Q drop table people
	Q drop table people cascade
	Q drop table notes cascade
	Q drop table notes
	Q drop table pets cascade
	Q alter table people drop column secret
	Q alter table people drop column secret cascade
	Q alter table people drop column name cascade
	Q alter table people drop column name
	Q alter table people drop constraint people_pkey cascade
	Q alter table people drop constraint people_pkey
	Q alter table notes drop constraint notes_pkey
	Q alter table notes drop constraint notes_pkey cascade
	Q drop view names
	Q drop view names cascade
	Q drop index people_pkey
	Q drop index people_pkey cascade
	Q drop index people_ssn_key
	Q drop schema hidden
	Q drop schema hidden cascade
	Q drop schema public cascade
	Q drop owned by owner
	Q drop type people
	Q drop type people cascade
	Q drop table if exists hidden.vault
	Q drop table if exists hidden.nothing
	Q drop table if exists hidden.vault, nothing
	Q drop table hidden.vault cascade
	Q drop view if exists hidden.seen_people
	Q drop view if exists people
	Q drop table if exists hidden.seen_people
	Q drop sequence if exists people
	Q create table if not exists people (id int)
	Q create table if not exists hidden.vault (id int)
	Q create table hidden.vault (id int)
	Q create index if not exists people_pkey on people (name)
	Q create index if not exists vault_pkey on people (name)
	Q create view names as select 1
	Q create table dept (id int references hidden.vault)
	Q create table dept (like hidden.vault)
	Q create table dept (like people including all)
	Q create table dept () inherits (people)
	Q create table dept () inherits (hidden.vault)`,
	`Q create domain d1 as int check (value > 5)
	Q alter table twice alter n type d1
	Q create domain d2 as text
	Q alter table twice alter v type d2
	Q alter domain d2 add check (value = 'x')
	Q alter domain d2 add constraint k check (value = 'x') not valid
	Q alter domain d2 validate constraint k
	Q alter domain d2 set not null
	Q create type e1 as enum ('a')
	Q alter table twice alter v type e1 using v::e1
	Q alter table twice alter v type e1 using 'a'
	Q create table parts (id int, v text) partition by list (v)
	Q create table parts1 partition of parts for values in ('a')
	Q alter table parts attach partition twice for values in ('b')
	Q create table fresh (id int primary key, v text)
	Q insert into fresh select id, 'x' from twice
	Q alter table fresh add foreign key (v) references people (ssn)
	Q alter table fresh add foreign key (id) references people (id)
	Q alter table fresh add constraint z foreign key (id) references twice
	Q alter table fresh alter v type int using v::int
	Q create unique index on fresh (v)
	Q alter table fresh add column q d1
	Q alter table fresh add column q d1 default 1
	Q create materialized view mv as select id, name from people
	Q create materialized view mw as select id, ssn from people
	Q create unique index on mv (id)
	Q refresh materialized view concurrently mv
	Q create index on people using gist (name)
	Q create index on people (name collate "C")
	Q create index on people (lower(secret))
	Q create index on people (secret)
	Q create index on people (ssn, name)
	Q create index on people using hash (secret)
	Q create index on people using brin (secret)
	Q create index on people (grp) include (ssn)
	Q create index on people (grp) where secret is null
	Q create index on people (grp) where ssn is null
	Q create statistics on name, secret from people
	Q explain select id from people where grp = 1
	Q explain (analyze, timing off, summary off, costs off) select id from people where grp = 1
	Q comment on column people.secret is 'x'
	Q comment on column people.ssn is 'x'`,
	`Q create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)
	Q create operator === (function = texteq, leftarg = text, rightarg = text)
	Q create function f(text) returns text language sql as 'select $1'
	Q create aggregate a1 (text) (sfunc = textcat, stype = text)
	Q create cast (text as int) with inout
	Q create rule r as on insert to notes do also select 1
	Q create trigger t1 after insert on notes execute function f()
	Q create policy p on people using (true)
	Q alter table people enable row level security
	Q create event trigger e on ddl_command_start execute function f()
	Q create publication p for table people
	Q create extension pg_trgm
	Q create foreign data wrapper w
	Q create operator class oc default for type text using btree as operator 1 <
	Q create conversion c for 'utf8' to 'latin1' from f
	Q create type r1 as range (subtype = text)
	Q create type c1 as (a int, b text)
	Q create text search configuration tc (copy = simple)
	Q create table tp (id int, v c1)
	Q create transform for text language sql (from sql with function f(internal))`,
	`Q alter table people alter ssn set not null
	Q alter table people add constraint nn not null ssn not valid
	Q alter table people validate constraint nn
	Q alter table people add primary key (ssn)
	Q alter table people drop constraint people_pkey cascade, add primary key (ssn)
	Q alter table people add primary key using index people_ssn_key
	Q alter table people add constraint q unique using index people_ssn_key
	Q alter table people add constraint q unique nulls not distinct (ssn)
	Q create unique index on people (ssn) nulls not distinct
	Q create unique index on people (grp) where ssn is not null
	Q create unique index on people (grp) include (ssn)
	Q alter table people alter column ssn type text collate "C"
	Q alter table people alter column ssn drop not null
	Q alter table people alter column ssn set default 'x'
	Q alter table people alter column name add generated always as identity
	Q alter table people drop column ssn
	Q alter table people add column v text generated always as (ssn || 'x') virtual
	Q alter table people add column v text generated always as (name || 'x') virtual
	Q alter table people alter column v set expression as (ssn || 'x')
	Q alter table people alter column v set expression as (secret)
	Q select v from people order by id
	Q alter table people add constraint ce check (ssn <> 'x') not enforced
	Q alter table people add constraint cf check (name <> 'Ada') not enforced
	Q alter table people alter constraint cf enforced
	Q alter table notes alter constraint notes_person_fkey not enforced
	Q alter table notes alter constraint notes_person_fkey enforced
	Q create table per (id int, r int4range, primary key (id, r without overlaps))
	Q insert into per values (1, '[1,3)'), (1, '[2,4)')
	Q create table per2 (id int, r int4range, foreign key (id, period r) references per (id, period r))
	Q alter table people rename to persons
	Q create table kid () inherits (people)
	Q create table kid (like people including generated including constraints)
	Q create table kid2 (name text, ssn text) inherits (people)
	Q create view vv as table people
	Q create view vv as select id, name from people with check option
	Q create view vs with (security_invoker) as select id, name from people
	Q create or replace view names as select id, secret as name from people
	Q create or replace view names as select id, ssn as name from people
	Q alter view names alter column name set default 'x'
	Q create materialized view mz as select id, m from twice
	Q create table ctas as select m from twice
	Q create table ctas as select id from twice with no data
	Q alter table twice add foreign key (m) references people (ssn)
	Q alter table twice add foreign key (m) references people (ssn) not valid
	Q alter table twice add constraint fk foreign key (v) references people (ssn) not valid not enforced
	Q alter table twice alter m set storage plain
	Q alter table twice alter m set statistics 0`,
}

var directions = []string{
	`Q copy notes from stdin
	d 1\t1\tx\ty
	c
	Q copy notes from stdin with (on_error ignore, log_verbosity verbose)
	d aa\t1\tx\ty
	c
	Q copy notes from stdin with (on_error ignore, log_verbosity verbose, reject_limit 1)
	d aa\t1\tx\ty
	d bb\t1\tx\ty
	c
	Q copy notes from stdin with (format csv, force_null *)
	d 9,1,"",
	c
	Q copy notes from stdin with (format csv, force_not_null *)
	d 9,1,"",
	c
	Q copy notes from stdin with (default '\D')
	d \D\t1\tx\ty
	c
	Q copy notes (id, person) from stdin where person > 5
	d 9\t1
	c
	Q copy strict (id, a) from stdin
	d 70\t2000
	c
	Q copy strict (id, a) from stdin with (on_error ignore, log_verbosity verbose)
	d 70\tzz
	d 1\t3
	c
	Q copy gen (id, a) from stdin
	d 1\t3
	c
	Q copy people (id, name) from stdin
	d 1\t3
	c
	Q copy people from stdin
	d 1\t3
	c
	Q copy people (id, name) from stdin with (format csv, header match)
	d id,secret
	c
	Q copy notes to stdout with (format csv, header, force_quote *)
	Q copy (select id, ssn, name from people order by id) to stdout with (format csv, header, force_quote *, null 'N')
	Q copy (select id, ssn from people order by id) to stdout (format json)
	Q copy people (id, ssn) to stdout with (format csv, force_quote (ssn))
	Q copy people (id, ssn) to stdout with (encoding 'latin1')
	Q copy people (id, ssn) to stdout with (freeze)
	Q copy gen (id, g) to stdout
	Q copy gen (id, a) to stdout where a > 1`,
	`Q insert into strict (id, a) values (71, 20000)
	Q insert into strict (id, a) values (1, 2)
	Q insert into strict (id, a) values (72, null)
	Q update strict set a = null where id = 1
	Q update strict set a = 2000 where id = 1
	Q update strict set a = a where id = 1 returning old.a, new.a
	Q update strict set a = a where id = 1 returning old.secret
	Q update strict set a = a where id = 1 returning old.ssn, new.ssn
	Q update strict set a = a where id = 1 returning old, new
	Q update strict set a = a where id = 1 returning old.*
	Q update people set name = name where id = 1 returning old.ssn, new.ssn, ssn
	Q update people set name = name where id = 1 returning with (old as o, new as n) o.ssn, n.secret
	Q update people set name = name where id = 1 returning with (old as o, new as n) o.ssn, n.ssn as name
	Q update people set name = name where id = 1 returning old.ssn is null
	Q update people set name = name where id = 1 returning old is null, (new).name
	Q update people set name = name where id = 1 returning to_json(old)
	Q update people set name = name where id = 1 returning (select old.ssn)
	Q update people set name = name where id = 1 returning old.name || new.name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = people.name returning old.ssn, new.name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = people.secret returning name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = excluded.name where people.ssn is null
	Q insert into people (id, name) values (1, 'x') on conflict do nothing
	Q insert into people (id, name) values (1, 'x') on conflict (ssn) do nothing
	Q insert into people (id, name, ssn) values (8, 'x', 'zq-1-zq') on conflict do nothing
	Q delete from gen where id = 2 returning old.ssn, new.ssn`,
	`Q merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning merge_action(), n.id, p.ssn
	Q merge into notes n using people p on n.id = p.id when matched then update set body = p.ssn returning merge_action()
	Q merge into notes n using people p on n.id = p.id and p.ssn is null when matched then do nothing
	Q merge into notes n using people p on n.id = p.id when matched and p.secret is null then update set body = 'x'
	Q merge into notes n using people p on n.id = p.id when not matched by source then update set body = 'x' returning merge_action(), n.*
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning *
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning p
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning old.body, new.body, merge_action() || p.ssn
	Q with m as (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn as s) select s from m order by 1
	Q with m as (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn as s) select s, 1 from m
	Q merge into people p using notes n on n.id = p.id when not matched then insert (id, name) values (77, 'x') returning p.ssn
	Q merge into people p using (values (1)) v (i) on p.id = v.i when matched then update set name = name returning p.ssn, old.ssn, new.secret
	Q copy (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn) to stdout`,
	`Q explain (serialize, analyze, timing off, summary off, costs off) select ssn, name from people
	Q explain (serialize text, analyze, timing off, summary off, costs off, buffers off) select ssn, name from people
	Q explain (serialize binary, analyze, timing off, summary off, costs off, buffers off) select m from twice
	Q explain (serialize text, analyze, timing off, summary off, costs off, buffers off, format json) select m from twice
	Q explain (generic_plan) select ssn from people where id = $1
	Q explain (generic_plan) select id from people where name = $1
	Q explain (settings, verbose) select ssn from people
	Q explain (settings, verbose) select id, name from people where id = 1
	Q explain (buffers, analyze, timing off, summary off, costs off) select id from twice
	Q explain (buffers, analyze, timing off, summary off, costs off) select ssn from people where name = 'Ada'
	Q explain (verbose, costs off) select g from gen
	Q explain (verbose, costs off) insert into gen (id, a) values (88, 1)
	Q explain (wal, analyze, timing off, summary off, costs off) update people set name = name where id = 1
	Q explain (wal, analyze, timing off, summary off, costs off) update gen set a = a where id = 1
	Q explain (wal, analyze, timing off, summary off, costs off) select id from people
	Q explain (format xml) select ssn from people
	Q explain select m from twice
	Q explain select id from twice order by id
	Q explain (analyze, timing off, summary off) select id, m from twice order by id
	Q explain (analyze, timing off, summary off, costs off) select id, m from twice order by id limit 2
	Q explain (analyze, timing off, summary off, costs off) with x as materialized (select id, m from twice) select id from x
	Q explain (analyze, timing off, summary off, costs off) select a.id, b.m from people a join twice b on a.id = b.id`,
	`Q listen news
	Q notify news, 'x'
	Q select pg_notify('news', 'x')
	Q select pg_notify('news', ssn) from people
	Q listen zqother
	Q unlisten *
	Q select pg_listening_channels()
	Q select current_setting('application_name')
	Q select current_setting(name) from people where id = 1
	Q set application_name to default
	Q select pg_notification_queue_usage()
	Q show all
	Q show search_path
	Q show lc_messages`,
	`Q select j.* from people p, json_table(jsonb_build_object('a', p.name), '$' columns (x text path '$.a')) j order by 1
	Q select j.* from people p, json_table(jsonb_build_object('a', p.ssn), '$' columns (x text path '$.a')) j
	Q select p.ssn, j.x from people p, json_table('[1]'::jsonb, '$[*]' columns (x int path '$')) j order by p.id
	Q select j.* from people p, json_table('[1]'::jsonb, '$[*]' passing p.ssn as s columns (x text path '$s')) j
	Q select j.* from people p, json_table('{"a":1}'::jsonb, '$' columns (x text path '$.b' default p.ssn on empty)) j
	Q select j.* from people p, json_table('{"a":1}'::jsonb, '$' columns (x int path '$.a' default 3 on empty, e int exists path '$.b', nested path '$.a' columns (y int path '$'))) j
	Q select j.* from json_table('{"a":"zz"}'::jsonb, '$' columns (x int path '$.a' error on error)) j
	Q select json_value('{"a":1}', '$.b' default ssn on empty) from people
	Q select json_query('{"a":1}', '$.b' default (select secret from people limit 1) on empty)
	Q select json_exists('{"a":1}'::jsonb, '$.a ? (@ == $x)' passing ssn as x) from people
	Q select json_object('k': ssn) from people
	Q select json_object('k' value p) from people p
	Q select json_array(select ssn from people)
	Q select json_array(select name from people order by id)
	Q select json_scalar(ssn) from people
	Q select json(ssn) from people
	Q select json_arrayagg(secret) from people
	Q select ssn is json from people
	Q select json_objectagg(name: ssn) from people
	Q select json_serialize(json_object('k': name)) from people order by id
	Q select any_value(ssn) from people
	Q select any_value(name) from people where id = 1
	Q select greatest(ssn, 'x') from people
	Q select xmltable.* from people, xmltable('/a' passing ('<a>' || ssn || '</a>')::xml columns x text path '.')
	Q select system_user, session_user
	Q select random(1, 2) is null, array_shuffle(array[1]), array_sample(array[1], 1)
	Q select array_sort(array[3, 1]), reverse('abc'::bytea), casefold('A')
	Q select pg_column_size(ssn) from people
	Q select pg_column_size(p) from people p
	Q select pg_column_toast_chunk_id(ssn) from people
	Q select ctid, xmin from people
	Q select tableoid::regclass, id from people where id = 1
	Q select * from people tablesample system (100)
	Q select id, ssn from people tablesample bernoulli (100) repeatable (1) order by id
	Q select id from people order by id fetch first 1 rows with ties
	Q select id from people order by ssn fetch first 1 rows with ties
	Q select * from pg_stat_user_tables
	Q select pg_relation_size('people')
	Q select pg_indexes_size('people'), pg_total_relation_size('hidden.vault')
	Q select has_table_privilege('hidden.vault', 'select')
	Q select 'hidden.vault'::regclass
	Q select to_regclass('hidden.vault')
	Q select reltuples, relpages from pg_class where relname = 'people'
	Q select count(*) from hidden.vault`,
	`Q create temp table mine as select id, ssn from people
	Q create temp table mine as select id, name from people
	Q create temp table refs (id int references people)
	Q create temp table refs (id int references mine)
	Q create temp table gens (id int, name text, v text generated always as (name || 'x') stored)
	Q create temp table virt (id int, name text, v text generated always as (name || 'x') virtual)
	Q insert into virt (id, name) select id, name from people
	Q select * from virt order by id
	Q insert into virt (id, name) select id, ssn from people
	Q create temp table ranges (id int, r int4range, primary key (id, r without overlaps))
	Q create temp table idn (id int generated always as identity, v text)
	Q insert into idn (v) select name from people order by id returning id
	Q insert into idn overriding system value values (1, 'x')
	Q create temp table ne (id int, check (id > 5) not enforced)
	Q insert into ne values (1)
	Q alter table ne alter constraint ne_id_check enforced
	Q create temp table likes (like people)
	Q create temp table likes2 (like people including all)
	Q create temp table inh () inherits (people)
	Q create temp table part partition of people for values in (1)
	Q insert into likes select * from people
	Q insert into likes select id, name, null, null, grp from people
	Q select * from likes order by id
	Q begin; declare c cursor with hold for select p.ssn, l.name from people p join likes l using (id) order by p.id; commit
	Q fetch 2 from c
	Q create temp table l3 as select * from likes; drop table likes cascade; fetch 1 from c
	Q update mine set name = p.ssn from people p where p.id = mine.id
	Q update mine set name = p.name from people p where p.id = mine.id returning p.ssn, mine.name
	Q merge into mine m using people p on m.id = p.id when matched then update set name = p.ssn
	Q delete from mine using people p where p.ssn is null
	Q copy mine to stdout
	Q create temp view tv as select name, id from people
	Q create temp view tv2 as select * from tv
	Q select * from tv2 order by id
	Q create temp sequence sq owned by mine.id
	Q select nextval('sq'), lastval()
	Q create unique index on mine (name)
	Q alter table mine add column p people
	Q update mine set p = q from people q where q.id = mine.id
	Q select id, (p).ssn from mine
	Q alter table mine add constraint u unique (id)
	Q insert into mine (id, name) select id, name from people on conflict (id) do update set name = excluded.name returning *`,
	`P - select id, ssn from people where id = $1
	B - -|1
	E -
	B - -|zq
	E -
	S
	P - select id from people where ssn = $1
	B - -|zq-1-zq
	E -
	S
	P - select $1::text from people where id = 1
	B - -|abc
	E -
	S
	P - select coalesce($1, ssn) from people
	B - -|abc
	E -
	S
	P - insert into strict (id, a) values ($1, $2)
	B - -|1|2
	E -
	S
	P - update strict set a = $1 where id = 1 returning ssn, a
	B - -|3
	E -
	B - -|3000
	E -
	S`,
	`Q begin; set constraints all deferred; insert into notes values (50, 9999, 'x', 'x'); commit
	Q begin; insert into notes values (50, 1, 'x', 'x'); savepoint s; update notes set id = 1 where id = 50; rollback to s; select * from notes where id = 50; rollback
	Q delete from notes where id = 1
	Q update notes set id = 100 where id = 1
	Q update people set id = 100 where id = 1
	Q insert into twice (id, n) values (1, 1)
	Q insert into people (id, name) values (1, 'x')
	Q insert into people (id, name) values (101, null) returning ssn, name
	Q insert into people (id, name) values (102, repeat('y', 1000)) returning id
	Q select * from notes for update
	Q select id from people for key share
	Q insert into names values (200, 'q') returning id, name
	Q update names set name = 'x'
	Q insert into people (id, name) values (103, (select secret from people where id = 1))
	Q insert into people (id, name) select id + 300, ssn from people
	Q insert into people (id, name, ssn) select id + 300, name, ssn from people
	Q select 1/(id-1) from people order by id
	Q select name::int from people where id = 1
	Q select (name || id)::date from people where id = 1
	Q select id from people where name::int = 1
	Q select id from people where case when ssn is null then 1/0 else 1 end = 1`,
}
