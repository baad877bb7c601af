package sql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// blind is what a task that is blind sees: all columns but those that are not
// listed, as schema.table.column, through what the keeper protects.
func blind(k *keeper, unlisted []string) *sql.Blind {
	return sql.NewBlind(k.protect, func(relation []string, column string) bool {
		return !slices.Contains(unlisted, strings.Join(relation, ".")+"."+column)
	}, func(p *abi.Protect, c abi.Class, typ, value string) (string, error) {
		return mask.Express(mask.Rule{Kind: p.Kind, Arg: p.Arg, Nulls: p.Nulls}, c, typ, value)
	})
}

// masks reads "schema.table.column mask".
func masks(t *testing.T, list ...string) (out []abi.Protect) {
	t.Helper()
	for _, text := range list {
		name, with, _ := strings.Cut(text, " ")
		r, err := mask.ParseRule(with)
		if err != nil {
			t.Fatal(err)
		}
		p := strings.Split(name, ".")
		out = append(out, abi.Protect{Relation: p[:2], Column: p[2], Kind: r.Kind, Arg: r.Arg})
	}
	return out
}

// TestBlindNonInterference: whatever a text does with masked values, it learns
// nothing that they do not show. Most of what is made passes.
func TestBlindNonInterference(t *testing.T) {
	k := &keeper{terms: abi.Terms{Blind: true}, protect: masks(t, "public.p.c null", "public.q.d bucket(100)", `public.r.d fixed("3")`, "public.part.c bucket(1000)", `public.a.d fixed("1")`)}
	interference(t, "unseeing", k)
}

// clinic is what the tests of texts under a blind task run on.
const clinic = `CREATE TYPE mood AS ENUM ('fine', 'sad'); CREATE DOMAIN code AS text CHECK (length(VALUE) < 30); CREATE TYPE address AS (street text, town text);
	CREATE TABLE patients (id int PRIMARY KEY, name text NOT NULL, email varchar(60) UNIQUE, born date, weight numeric(6,2), ward int, pin int, code code, mood mood, secret text);
	CREATE TABLE visits (id int PRIMARY KEY, patient int REFERENCES patients, day date, fee numeric, note text, ward int); CREATE INDEX ON visits (patient); CREATE INDEX ON patients (ward);
	CREATE TABLE stays (id int, patient int, days int, bill numeric) PARTITION BY RANGE (id); CREATE TABLE stays_1 PARTITION OF stays FOR VALUES FROM (0) TO (50); CREATE TABLE stays_2 PARTITION OF stays DEFAULT;
	CREATE TABLE homes (id int, home address); INSERT INTO homes VALUES (1, ROW('street 1', 'town'));
	CREATE VIEW people AS SELECT id, name, email AS mail, ward FROM patients; CREATE VIEW loud AS SELECT id, upper(email) AS mail FROM patients;
	CREATE VIEW known AS SELECT id, ward FROM patients WHERE email IS NOT NULL; CREATE VIEW both_ AS SELECT id, email AS x FROM patients UNION ALL SELECT id, note FROM visits;
	INSERT INTO patients SELECT i, 'name ' || i, 'patient' || i || '@clinic.example', date '1950-03-04' + 400 * i, 50.5 + i, i % 4, i - 5, 'code' || i, 'sad', 'secret ' || i FROM generate_series(1, 40) i;
	INSERT INTO visits SELECT i, 1 + i % 40, date '2025-01-01' + i, 10 * (i % 7), 'note ' || i, i % 4 FROM generate_series(1, 200) i;
	INSERT INTO stays SELECT i, 1 + i % 40, i % 9, 100 * i FROM generate_series(1, 100) i; ANALYZE; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;`

var clinicMasks = []string{`public.patients.email keep_from("@")`, `public.patients.born trunc("year")`, "public.patients.weight bucket(10)", "public.patients.pin null", "public.patients.code keep(1, 0)", "public.homes.home null",
	`public.patients.mood fixed("fine")`, "public.stays.bill bucket(1000)"}

// hospital is a blind task over the clinic; patients.secret and visits.note are
// not listed.
func hospital(t *testing.T, name string) (*sql.Context, *gate.Session, *pgx.Conn) {
	t.Helper()
	c := database(t, name, clinic)
	k := &keeper{terms: abi.Terms{Blind: true}, protect: masks(t, clinicMasks...), task: &policy.Config{Tasks: map[string]*policy.Task{"app": {Rules: []policy.Rule{
		{Verbs: []string{"select"}, Tables: []string{"public.patients"}, Columns: []string{"id", "name", "email", "born", "weight", "ward", "pin", "code", "mood"}},
		{Verbs: []string{"select"}, Tables: []string{"public.visits"}, Columns: []string{"id", "patient", "day", "fee", "ward"}},
		{Verbs: []string{"select"}, Tables: []string{"public.stays", "public.homes", "public.people", "public.loud", "public.known", "public.both_"}, Columns: []string{"*"}},
		{Verbs: []string{"insert"}, Tables: []string{"public.visits"}, Columns: []string{"id", "patient", "day", "fee", "note", "ward"}},
		{Verbs: []string{"update"}, Tables: []string{"public.visits"}, Columns: []string{"fee", "note"}},
		{Verbs: []string{"update"}, Tables: []string{"public.patients"}, Columns: []string{"ward"}},
		{Verbs: []string{"delete"}, Tables: []string{"public.visits"}},
	}}}}}
	c.Blind = blind(k, []string{"public.patients.secret", "public.visits.note"})
	s := kept(t, k)
	conn, err := pgx.Connect(context.Background(), server.URL("app", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return c, s, conn
}

// TestBlindBehindViews: what a view shows masked is held against what masks the
// table that stands behind it: where a guard lets no text see that, none does.
func TestBlindBehindViews(t *testing.T) {
	c := database(t, "blind_behind", clinic)
	k := &keeper{protect: masks(t, clinicMasks...)}
	c.Blind = blind(k, nil)
	s := kept(t, k)
	for _, text := range []string{"select mail from people", "select id from people where mail is null", "select x from both_ order by x", "select bill from stays_1 where bill > 1000"} {
		a, err := sql.Analyze(newer(t, c), text)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, why := verdict(t, s, a.Statement); !strings.Contains(why, "a guard that lets no text see it masked") {
			t.Errorf("%s: %q", text, why)
		}
	}
}

// asked judges a text and runs what is forwarded. It gives all cells of what
// comes back, masked ones as ***, and the error, or why it is refused.
func asked(t *testing.T, c *sql.Context, s *gate.Session, conn *pgx.Conn, text string) (told, refused string) {
	t.Helper()
	a, err := sql.Analyze(newer(t, c), text)
	if err == nil {
		a, err = a.Resolve(sql.NoNames{})
	}
	if err != nil {
		return "", err.Error()
	}
	if a.Statement.Incomplete != "" {
		return "", a.Statement.Incomplete
	}
	cmd, e, why := verdict(t, s, a.Statement)
	if e == nil {
		return "", why
	}
	results, err := conn.PgConn().Exec(context.Background(), "begin; set local statement_timeout = 10000; "+a.Statement.Canonical).ReadAll()
	for i, r := range results[min(2, len(results)):] {
		if len(r.FieldDescriptions) == 0 {
			continue
		}
		hide := masked(t, c.Schema, cmd, e, i, r)
		for _, row := range r.Rows {
			for j, cell := range row {
				if hide[j] {
					cell = []byte("***")
				}
				told += string(cell) + "|"
			}
			told += "\n"
		}
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		told += pg.Code + " " + pg.Message + " " + pg.Detail
	}
	_, _ = conn.PgConn().Exec(context.Background(), "rollback").ReadAll()
	if err := e.Done(context.Background(), gate.Outcome{}); err != nil {
		t.Fatal(err)
	}
	return told, ""
}

// TestBlindTexts has what texts are told under a blind task, and what is refused.
func TestBlindTexts(t *testing.T) {
	c, s, conn := hospital(t, "clinic_texts")
	for _, k := range []struct{ text, told, refused string }{
		{"select email, born, weight, pin, code, mood from patients where id = 3", "***@clinic.example|1953-01-01|50||c***|fine|\n", ""},
		{"select count(*) from patients where email = 'patient3@clinic.example'", "0|\n", ""},
		{"select count(*) from patients where email = '***@clinic.example'", "40|\n", ""},
		{"select count(*) from patients where pin is null", "40|\n", ""},
		{"select upper(email) || code from patients where id = 3", "***@CLINIC.EXAMPLEc***|\n", ""},
		{"select email, count(*) from patients group by email order by email", "***@clinic.example|40|\n", ""},
		{"select distinct mood from patients", "fine|\n", ""},
		{"select extract(year from born), max(weight) from public.patients where public.patients.id < 3 group by 1 order by 1", "1951|50|\n1952|50|\n", ""},
		{"select p from patients p where id = 1", "(1,\"name 1\",***@clinic.example,1951-01-01,50,1,,c***,fine)|\n", ""},
		{"select to_json(patients) from patients where id = 1", `{"id":1,"name":"name 1","email":"***@clinic.example","born":"1951-01-01","weight":50,"ward":1,"pin":null,"code":"c***","mood":"fine"}` + "|\n", ""},
		{"select public.patients.*, 1 from public.patients where id = 1", "1|name 1|***@clinic.example|1951-01-01|50|1||c***|fine|1|\n", ""},
		{"table patients limit 0", "", ""},
		{"select * from only (patients) as q (a, b, c) where c like '%@%' and a = 2", "2|name 2|***@clinic.example|1952-01-01|50|2||c***|fine|\n", ""},
		{"select home from homes", "|\n", ""},
		{"select h from homes h", "(1,)|\n", ""},
		{"select id from homes where home is not null", "", ""},
		{"select count(*) from patients a join patients b on a.email = b.email where a.id = 1", "40|\n", ""},
		{"select count(*) from patients a join patients b using (email, id)", "40|\n", ""},
		{"select p.id, v.fee from patients p left join lateral (select fee from visits where patient = p.id and p.weight > 40 order by id limit 1) v on true where p.id = 2", "2|10|\n", ""},
		{"select mail, count(*) from people group by mail", "***@clinic.example|40|\n", ""},
		{"select count(*) from people where mail like 'patient%'", "0|\n", ""},
		{"select bill, count(*) from stays where bill < 2000 group by bill order by bill", "0|9|\n1000|10|\n", ""},
		{"select id from stays_1 where bill = 1000 and id < 12 order by id", "", "select on public.stays_1 is not in this task"},
		{"with recursive r (n, e) as (select 1, email from patients where id = 1 union select n + 1, e from r where n < 3) select * from r", "1|***@clinic.example|\n2|***@clinic.example|\n3|***@clinic.example|\n", ""},
		{"select 1 / (weight - 50) from patients where id = 1", "22012 division by zero ", ""},
		{"select email::int from patients where id = 7", `22P02 invalid input syntax for type integer: "***@clinic.example" `, ""},
		{"copy (select email from patients where id < 3 order by lower(email), id) to stdout", "", ""},
		{"select * from visits where id = 1", "1|2|2025-01-02|10|1|\n", ""},
		{"update visits set fee = 1 from patients p where p.id = patient and p.email = 'patient3@clinic.example' returning visits.id", "", ""},
		{"update patients set ward = 1 where id = 3 returning id, email", "3|***|\n", ""},
		{"insert into visits (id, patient, note) select 900, id, email from patients where id = 1", "", ""},
		{"select id from visits where id = 1 for update", "1|\n", ""},
		{"prepare x as select email from patients where email = $1", "", ""},
		{"select pg_typeof(email), pg_typeof(born), pg_typeof(weight), pg_typeof(pin), pg_typeof(code), pg_typeof(mood) from patients where id = 1", "character varying|date|numeric|integer|text|mood|\n", ""},

		{"update patients set ward = 1 where email = 'patient3@clinic.example'", "", "the column public.patients.email is masked in this task and cannot be used in a condition"},
		{"update patients set ward = length(email)", "", "the column public.patients.email is masked in this task and cannot be computed with"},
		{"select id from patients for update", "", "locking rows of patients, which this task sees through a subselect that masks (blind)"},
		{"select ctid from patients", "", "the system column ctid of patients, which this task sees through a subselect that masks (blind)"},
		{"select patients.xmin from patients", "", "the system column xmin of patients, which this task sees through a subselect that masks (blind)"},
		{"select id from patients tablesample system (10)", "", "TABLESAMPLE of patients, which this task sees through a subselect that masks (blind)"},
		{"select secret from patients", "", `column "secret" does not exist (SQLSTATE 42703)`},
		{"select mail from loud", "", "the column public.patients.email is masked in this task and cannot be computed with (view public.loud does)"},
		{"select id from known", "", "the column public.patients.email is masked in this task and cannot be used in a condition (view public.known does)"},
		{"explain select * from patients", "", "EXPLAIN of a text that reads the masked column email, of which estimates would tell"},
		{"explain select id from patients where born < '2000-01-01'", "", "EXPLAIN of a text that reads the masked column born, of which estimates would tell"},
		{"prepare y as select id from patients where pin = 3; explain execute y", "", "EXPLAIN of a text that reads the masked column pin, of which estimates would tell"},
	} {
		told, refused := asked(t, c, s, conn, k.text)
		if refused != k.refused || told != k.told {
			t.Errorf("%s\n%q %q, not\n%q %q", k.text, told, refused, k.told, k.refused)
		}
	}
	if told, refused := asked(t, c, s, conn, "explain select id from patients where ward = 2"); refused != "" || strings.Contains(told, "email") {
		t.Error(told, refused)
	}
	if told, refused := asked(t, c, s, conn, "select x from both_ where id = 1 order by x"); refused != "" || told != "***|\n***@clinic.example|\n" {
		t.Error(told, refused)
	}
}

// TestBlindMasksDiffer: what two masks are on, of a UNION's sides or of a parent
// and its child, is shown as NULL where they differ, and NULL as it is where both
// show that.
func TestBlindMasksDiffer(t *testing.T) {
	c := database(t, "blind_differ", `CREATE TABLE a (id int, x numeric); CREATE TABLE b (id int, x numeric); CREATE TABLE c (id int, x numeric); CREATE TABLE d () INHERITS (c);
		CREATE VIEW ab AS SELECT id, x FROM a UNION ALL SELECT id, x FROM b; INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (2, 34); INSERT INTO c VALUES (1, NULL); INSERT INTO d VALUES (2, 34);
		GRANT SELECT ON ALL TABLES IN SCHEMA public TO app`)
	conn, err := pgx.Connect(context.Background(), server.URL("app", "blind_differ"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, k := range []struct {
		one, two abi.Protect
		told     string
	}{
		{abi.Protect{Kind: abi.MaskBucket, Arg: "10"}, abi.Protect{Kind: abi.MaskBucket, Arg: "10"}, "0|\n30|\n"},
		{abi.Protect{Kind: abi.MaskBucket, Arg: "10"}, abi.Protect{Kind: abi.MaskBucket, Arg: "7"}, "|\n|\n"},
		{abi.Protect{Kind: abi.MaskBucket, Arg: "10"}, abi.Protect{Kind: abi.MaskFixed, Arg: "10"}, "|\n|\n"},
		{abi.Protect{Kind: abi.MaskFixed, Arg: "7", Nulls: true}, abi.Protect{Kind: abi.MaskFixed, Arg: "7", Nulls: true}, "|\n7|\n"},
		{abi.Protect{Kind: abi.MaskFixed, Arg: "7", Nulls: true}, abi.Protect{Kind: abi.MaskFixed, Arg: "7"}, "7|\n7|\n"},
	} {
		for _, both := range [][2]abi.Protect{{k.one, k.two}, {k.two, k.one}} {
			guard := &keeper{terms: abi.Terms{Blind: true}}
			for _, pair := range [][2]string{{"a", "b"}, {"c", "d"}} {
				for j, name := range pair {
					p := both[j]
					p.Relation, p.Column = []string{"public", name}, "x"
					guard.protect = append(guard.protect, p)
				}
			}
			c.Blind = blind(guard, nil)
			s := kept(t, guard)
			for _, text := range []string{"select x::text || '' from ab order by id", "select x::text || '' from c order by id"} {
				if told, refused := asked(t, c, s, conn, text); refused != "" || told != k.told {
					t.Errorf("%s, %+v: %q %q, not %q", text, both, told, refused, k.told)
				}
			}
		}
	}
}

// TestBlindKeepsIndexes: what a condition says of other columns is found by
// their indexes, as without masks, in joins too.
func TestBlindKeepsIndexes(t *testing.T) {
	c, _, _ := hospital(t, "clinic_indexes")
	super, err := pgx.Connect(context.Background(), server.URL("postgres", "clinic_indexes"))
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.Background())
	for text, want := range map[string]string{
		"select email from patients where id = 3":                                                                               "Index Scan using patients_pkey",
		"select weight, born from patients where ward = 2 and email like '%x'":                                                  "patients_ward_idx",
		"select p.email, v.fee from patients p join visits v on v.patient = p.id where p.id = 3":                                "visits_patient_idx",
		"select mail from people where id = 3":                                                                                  "Index Scan using patients_pkey",
		"select p.id, (select max(fee) from visits where patient = p.id) from patients p where p.id = 4 and p.born is not null": "Index Scan using patients_pkey",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(text, err)
		}
		var plan strings.Builder
		results, err := super.PgConn().Exec(context.Background(), "set enable_seqscan = off; set enable_bitmapscan = off; explain (costs off) "+a.Statement.Canonical).ReadAll()
		if err != nil {
			t.Fatal(text, err)
		}
		for _, row := range results[len(results)-1].Rows {
			fmt.Fprintf(&plan, "%s\n", row[0])
		}
		if !strings.Contains(plan.String(), want) || strings.Contains(plan.String(), "Subquery Scan") {
			t.Errorf("%s:\n%s", text, plan.String())
		}
	}
}

// TestBlindLeaky: what is pushed below the subselect sees masked values: a
// function that says what it is given, and is cheaper than anything, is given
// no other.
func TestBlindLeaky(t *testing.T) {
	c, _, _ := hospital(t, "clinic_leaky")
	if out, err := server.Psql("clinic_leaky", `CREATE FUNCTION leak(anyelement) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leak: %', $1; RETURN true; END $$;
		CREATE FUNCTION fails(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 IMMUTABLE AS $$ BEGIN RETURN $1::int > 0; END $$`); err != nil {
		t.Fatal(err, out)
	}
	var said strings.Builder
	config, err := pgx.ParseConfig(server.URL("app", "clinic_leaky"))
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said.WriteString(n.Message + "\n") }
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if c.Schema, err = schema.Load(context.Background(), conn); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"select id from patients where leak(email) and leak(born) and leak(weight) and leak(pin) and leak(code::text) and leak(mood) and id = 3",
		"select p.id from patients p join visits v on v.patient = p.id and leak(p.email) where p.ward = 1 and leak(p)",
		"select id from people where leak(mail) and id < 4",
		"select count(*) filter (where leak(bill)) from stays where leak(stays)",
		"select fails(email) from patients where id = 3",
	} {
		a, err := sql.Analyze(newer(t, c), text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Fatal(text, err, a)
		}
		if _, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil {
			said.WriteString(err.Error() + "\n")
		}
	}
	for _, shown := range []string{"leak: ***@clinic.example", "leak: 1953-01-01", "leak: 50\n", "leak: c***", "leak: fine", `invalid input syntax for type integer: "***@clinic.example"`, "leak: 9000"} {
		if !strings.Contains(said.String(), shown) {
			t.Errorf("it does not say %q", shown)
		}
	}
	for _, raw := range []string{"patient3@", "patient1@", "53.50", "code3", "sad", "secret", "street", "1953-06", "9900"} {
		if strings.Contains(said.String(), raw) {
			t.Errorf("it says %q", raw)
		}
	}
}

// TestBlindAnalytics: what people ask in reports passes, whole and in bulk.
func TestBlindAnalytics(t *testing.T) {
	c, s, conn := hospital(t, "clinic_reports")
	raw, err := os.ReadFile("testdata/analytics.sql")
	if err != nil {
		t.Fatal(err)
	}
	passed, all := 0, 0
	for text := range strings.SplitSeq(strings.TrimSpace(string(raw)), ";\n") {
		all++
		told, refused := asked(t, c, s, conn, strings.TrimSuffix(text, ";"))
		switch {
		case refused == "" && !strings.Contains(told, "4280"):
			passed++
		default:
			t.Log(text, refused, told)
		}
		for _, raw := range []string{"patient3@", "53.50", "code3", "secret", "street"} {
			if strings.Contains(told, raw) {
				t.Errorf("%s: it says %q", text, raw)
			}
		}
	}
	if all < 40 || passed*100 < all*90 {
		t.Errorf("%d of %d texts pass", passed, all)
	}
	t.Logf("%d of %d texts pass", passed, all)
}

// TestBlindBypass holds the statements that leak from other gateways against a
// blind task: nothing that comes back has what leaks.
func TestBlindBypass(t *testing.T) {
	raw, err := os.ReadFile("testdata/pg_bypass_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	c := database(t, "bypass_blind", strings.ReplaceAll(string(raw), ":DBNAME", "bypass_blind"))
	conn, err := pgx.Connect(context.Background(), server.URL("app", "bypass_blind"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	every := []string{"*"}
	k := &keeper{terms: abi.Terms{Blind: true}, protect: masks(t, "public.users.ssn keep(0, 2)", `public.users.email fixed("x")`, "public.payments.card null", "public.part.ssn null"),
		task: &policy.Config{Tasks: map[string]*policy.Task{"app": {Rules: []policy.Rule{
			{Verbs: []string{"select"}, Tables: []string{"public.users", "public.users_eu", "public.payments", "public.notes", "public.part", "public.part_1", "public.v_users", "public.v_ok", "public.v_nested",
				"public.v_part", "public.mv_users"}, Columns: every},
			{Verbs: []string{"insert"}, Tables: []string{"public.notes", "public.payments"}, Columns: every},
			{Verbs: []string{"update"}, Tables: []string{"public.payments"}, Columns: []string{"amount"}, Where: "key"},
			{Verbs: []string{"update"}, Tables: []string{"public.users"}, Columns: []string{"name"}, Where: "key"},
		}}}}}
	c.Blind = blind(k, nil)
	s := kept(t, k)
	var cases []struct {
		ID, Leaks, Expected string
		Protocol            any
		SQL                 texts
		MinPG               int `json:"min_pg"`
		MaxPG               int `json:"max_pg"`
	}
	if raw, err = os.ReadFile("testdata/pg_bypass.json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	passed, veiled := 0, 0
	for _, k := range cases {
		if k.Protocol != nil || k.MinPG > pgtest.Major() || k.MaxPG > 0 && k.MaxPG < pgtest.Major() || len(k.SQL) == 0 || strings.HasPrefix(k.SQL[0], "@") {
			continue
		}
		names := prepared{}
		for _, text := range k.SQL {
			a, err := sql.Analyze(newer(t, c), text)
			if err == nil {
				a, err = a.Resolve(names)
			}
			if err != nil {
				break
			}
			cmd, e, _ := verdict(t, s, a.Statement)
			if e == nil {
				break
			}
			passed++
			for _, p := range a.Parts {
				switch p.Kind {
				case sql.Prepare:
					names["p "+p.Name] = p.Inner
				case sql.Declare:
					names["c "+p.Name] = p.Inner
				}
			}
			if len(a.Statement.Blind) > 0 {
				veiled++
			}
			results, err := conn.PgConn().Exec(context.Background(), "set statement_timeout = 10000; "+a.Statement.Canonical).ReadAll()
			told := fmt.Sprint(err)
			var pg *pgconn.PgError
			if errors.As(err, &pg) && !veils(a) { // a transaction that touched a table whose errors are cut
				told = pg.Code
			}
			for i, r := range results[min(1, len(results)):] {
				if len(r.FieldDescriptions) == 0 {
					continue
				}
				hide := masked(t, c.Schema, cmd, e, i, r)
				for _, row := range r.Rows {
					for j, cell := range row {
						if !hide[j] {
							told += "\n" + string(cell)
						}
					}
				}
			}
			if len(k.Leaks) > 3 && k.Expected != "allow" && strings.Contains(told, k.Leaks) {
				t.Errorf("%s: %q shows %s", k.ID, text, k.Leaks)
			}
			if err := e.Done(context.Background(), gate.Outcome{}); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = conn.PgConn().Exec(context.Background(), "rollback; deallocate all; reset all").ReadAll()
	}
	if passed < 100 || veiled < 60 {
		t.Errorf("%d passed, %d of them blind: the cases are not read as they should be", passed, veiled)
	}
	t.Log(passed, "passed,", veiled, "of them blind")
}

// veils says whether all that a text reads it reads blind.
func veils(a *sql.Analysis) bool {
	return !slices.ContainsFunc(a.Statement.Operations, func(o abi.Operation) bool { return o.Kind == abi.KindRelation && o.Attrs&abi.Blind == 0 && o.Via == "" })
}
