package sql_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

const layered = `CREATE TABLE u (id int PRIMARY KEY, name text NOT NULL, ssn text, mail varchar(80) UNIQUE, tags text[], span int4range);
	CREATE TYPE place AS (town text, zip text); CREATE DOMAIN code AS varchar CHECK (VALUE <> '');
	CREATE TABLE t (id int PRIMARY KEY, at place, code code, n int, m int, twice int GENERATED ALWAYS AS (n * 2) STORED, CHECK (n > 0 OR m > 0), EXCLUDE USING btree (n WITH =));
	CREATE UNIQUE INDEX ON t (abs(m)) WHERE n > 3; CREATE UNIQUE INDEX ON t (twice);
	CREATE TABLE pair (a int, b int, note text, UNIQUE (a, b), FOREIGN KEY (b) REFERENCES t ON UPDATE SET NULL);
	CREATE TABLE must (id int PRIMARY KEY, u int NOT NULL REFERENCES u ON DELETE SET NULL);
	CREATE VIEW v AS SELECT id, ssn AS tax, 'x' || ssn AS label, name, (SELECT max(m) FROM t WHERE t.n = u.id) AS most FROM u WHERE mail <> '';
	CREATE VIEW vv AS SELECT tax AS s, label AS l, id, most FROM v;
	CREATE VIEW rows AS SELECT id, unnest(tags) AS tag FROM u;
	CREATE VIEW sorted AS SELECT DISTINCT name, ssn FROM u ORDER BY ssn;
	CREATE VIEW plain AS SELECT id, name, ssn FROM u;
	CREATE MATERIALIZED VIEW mv AS SELECT id, ssn AS s FROM plain;
	CREATE TABLE old () INHERITS (u); CREATE TABLE older (more int) INHERITS (old);
	CREATE TABLE log (at int, what text) PARTITION BY RANGE (at); CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (9);
	CREATE TABLE own (id int PRIMARY KEY, who text, ssn text, note text); ALTER TABLE own ENABLE ROW LEVEL SECURITY;
	CREATE POLICY mine ON own USING (who = current_user AND EXISTS (SELECT FROM u WHERE u.mail = own.note));
	CREATE TABLE fenced (id int, note text); ALTER TABLE fenced ENABLE ROW LEVEL SECURITY; CREATE POLICY reads ON fenced FOR SELECT USING (true);
	CREATE POLICY adds ON fenced FOR INSERT WITH CHECK (EXISTS (SELECT FROM u WHERE u.ssn = fenced.note));
	CREATE TYPE turns AS RANGE (SUBTYPE = int); CREATE TABLE odd (id int, at turns, note text); ALTER TABLE odd ENABLE ROW LEVEL SECURITY; CREATE POLICY odds ON odd USING (at IS DISTINCT FROM '[1,2)');
	CREATE DOMAIN longer AS code; CREATE TABLE slips (id int, code longer, kind text, note text, twin text GENERATED ALWAYS AS (upper(kind)) STORED, CHECK (slips IS NOT NULL)); CREATE TABLE half (a int, b int, c int); CREATE UNIQUE INDEX ON half (a) WHERE c > 3;
	CREATE TABLE empty (id int, v text, w text, UNIQUE NULLS NOT DISTINCT (v, w)); CREATE TABLE doubled (id int, n int, twice int GENERATED ALWAYS AS (n * 2) STORED UNIQUE);
	CREATE TABLE whole (id int PRIMARY KEY); CREATE TABLE refers (id int, u int REFERENCES whole) PARTITION BY LIST (id); CREATE TABLE refers_1 PARTITION OF refers DEFAULT;
	CREATE TABLE named (id int, code longer); CREATE TABLE preset (id int, code text UNIQUE DEFAULT 'x');
	CREATE FUNCTION mine(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
	CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER told AFTER UPDATE ON pair FOR EACH ROW EXECUTE FUNCTION logged();
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app`

var useNames = []string{"copied", "computed", "condition", "order", "group", "written", "tested"}

// uses gives how columns are used, "s.t.c computed order", one a line.
func uses(st *abi.Statement) (out []string) {
	all := map[string]abi.Use{}
	for i := range st.Operations {
		for _, c := range st.Operations[i].Columns {
			all[st.Operations[i].Object[1]+"."+c.Name] |= c.Use
		}
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		how := ""
		for i, name := range useNames {
			if all[k]&(1<<i) != 0 {
				how += " " + name
			}
		}
		out = append(out, k+how)
	}
	return out
}

// shown gives an output as "copies | computed | other".
func shown(o *abi.Output) string {
	list := func(from []abi.Source) string {
		var names []string
		for _, s := range from {
			name := s.Relation[1] + "." + s.Column
			if s.View {
				name += "*"
			}
			names = append(names, name)
		}
		return strings.Join(names, " ")
	}
	s := fmt.Sprintf("%s|%s|%d", list(o.Copies), list(o.Computed), o.Type)
	if o.Other {
		s += "|other"
	}
	return s
}

// TestPM01Lineage: what an output copies and is computed from, and how columns
// are used, through views, materialised ones and generated columns.
func TestPM01Lineage(t *testing.T) {
	c := newer(t, database(t, "lineage", layered))
	for text, want := range map[string]struct {
		uses, outputs string
	}{
		"select tax from v":                                     {"u.mail condition, u.ssn copied, v.tax copied", "v.tax* u.ssn||25"},
		"select label from v":                                   {"u.mail condition, u.ssn computed, v.label copied", "v.label*|u.ssn|25|other"},
		"select id from v":                                      {"u.id copied, u.mail condition, v.id copied", "v.id* u.id||23"},
		"select s from vv":                                      {"u.mail condition, u.ssn copied, v.tax copied, vv.s copied", "vv.s* v.tax* u.ssn||25"},
		"select id from vv where l = 'x'":                       {"u.id copied, u.mail condition, u.ssn condition, v.id copied, v.label condition, vv.id copied, vv.l condition", "vv.id* v.id* u.id||23"},
		"select id from vv order by s":                          {"u.id copied, u.mail condition, u.ssn order, v.id copied, v.tax order, vv.id copied, vv.s order", "vv.id* v.id* u.id||23"},
		"select most from vv":                                   {"t.m computed, t.n computed, u.id computed, u.mail condition, v.most copied, vv.most copied", "vv.most* v.most*|t.m t.n u.id|23|other"},
		"select id from rows":                                   {"rows.id copied, u.id copied, u.tags computed", "rows.id* u.id||23"},
		"select name from sorted":                               {"sorted.name copied, u.name copied group, u.ssn order group", "sorted.name* u.name||25"},
		"select s from mv":                                      {"mv.s copied, plain.ssn copied, u.ssn copied", "mv.s* plain.ssn* u.ssn||25"},
		"select id from mv where s = 'x'":                       {"mv.id copied, mv.s condition, plain.id copied, plain.ssn condition, u.id copied, u.ssn condition", "mv.id* plain.id* u.id||23"},
		"select twice from t":                                   {"t.n computed, t.twice copied", "t.twice|t.n|23|other"},
		"select x from (select tax as x from v) y":              {"u.mail condition, u.ssn copied, v.tax copied", "v.tax* u.ssn||25"},
		"select (select max(l) from vv) as x":                   {"u.mail condition, u.ssn computed, v.label computed, vv.l computed", "|u.ssn v.label* vv.l*|0|other"},
		"select plain from plain":                               {"plain.id computed, plain.name computed, plain.ssn computed, u.id computed, u.name computed, u.ssn computed", "|plain.id* u.id plain.name* u.name plain.ssn* u.ssn|0|other"},
		"select tags, span, mail from u":                        {"u.mail copied, u.span copied, u.tags copied", "u.tags||1009, u.span||3904, u.mail||1043"},
		"select at, code from t":                                {"t.at copied, t.code copied", "t.at||place, t.code||1043"},
		"select (at).zip from t":                                {"t.at computed", "|t.at|0|other"},
		"select tags[1] from u":                                 {"u.tags computed", "|u.tags|0|other"},
		"select ssn from u union all select null":               {"u.ssn copied", "u.ssn||25"},
		"select ssn from u union all select 'x'":                {"u.ssn copied", "u.ssn||0|other"},
		"select ssn from u union all values ($1)":               {"u.ssn copied", "u.ssn||0|other"},
		"select ssn from u union all select mail from u":        {"u.mail copied, u.ssn copied", "u.ssn u.mail||0"},
		"select (select ssn from u where id = 1)":               {"u.id condition, u.ssn copied", "u.ssn||25"},
		"select x.ssn from t left join u x on x.id = t.id":      {"t.id condition, u.id condition, u.ssn copied", "u.ssn||25"},
		"select (select y.x from u, (select id as x) y) from t": {"t.id copied", "t.id||23"}, // without LATERAL it does not see u
		"select k from (select 1 as k) a full join (select length(ssn) as k from u) b using (k)": {"u.ssn computed condition", "|u.ssn|0|other"},
		"copy (select tax, 1 from v) to stdout":                                                  {"u.mail condition, u.ssn copied, v.tax copied", "v.tax* u.ssn||25, ||0|other"},
		"copy u (ssn, id) to stdout":                                                             {"u.id copied, u.ssn copied", "u.ssn||25, u.id||23"},
		"copy t to stdout":                                                                       {"t.at copied, t.code copied, t.id copied, t.m copied, t.n copied", "t.id||23, t.at||place, t.code||1043, t.n||23, t.m||23"},
		"explain select ssn from u":                                                              {"u.ssn computed", ""},
		"update plain set name = 'y' where id = 1":                                               {"plain.id condition, plain.name written, u.id condition, u.name written", ""},
		"update plain set name = 'y' where ssn = 'x' returning ssn":                              {"plain.name written, plain.ssn copied condition, u.name written, u.ssn copied condition", "plain.ssn* u.ssn||25"},
		"insert into u (id, ssn) values (1, 'x') returning ssn":                                  {"u.id written tested, u.ssn copied written", "u.ssn||25"},
		"select id from own":                                                                     {"own.id copied, own.note condition, own.who condition, u.mail condition", "own.id||23"},
		"insert into own (id) values (1)":                                                        {"own.id written tested, own.note condition, own.who condition, u.mail condition", ""},
		"insert into fenced (id) values (1)":                                                     {"fenced.id written, fenced.note condition, u.ssn condition", ""},
		"select id from odd":                                                                     {"odd.at condition, odd.id copied condition, odd.note condition", "odd.id||23"}, // a policy that is not understood reads all
		"select more from older":                                                                 {"older.more copied", "older.more||23"},
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		var outs []string
		for i := range a.Statement.Outputs {
			outs = append(outs, strings.ReplaceAll(shown(&a.Statement.Outputs[i]), fmt.Sprint(c.Schema.TypeByName[schema.Name{Namespace: "public", Name: "place"}].OID), "place"))
		}
		if got := strings.Join(uses(a.Statement), ", "); got != want.uses {
			t.Errorf("%s: uses\n%s, not\n%s", text, got, want.uses)
		}
		if got := strings.Join(outs, ", "); got != want.outputs {
			t.Errorf("%s: outputs\n%s, not\n%s", text, got, want.outputs)
		}
	}
}

// TestPM29ConstraintOracles: what a write tells by whether it succeeds, in its
// own table and in others.
func TestPM29ConstraintOracles(t *testing.T) {
	c := newer(t, database(t, "oracles", layered))
	for text, want := range map[string]string{
		"update u set name = 'x' where id = 1":                            "",
		"update u set mail = 'x' where id = 1":                            "u.mail",
		"insert into u (id, name) values (1, 'x')":                        "u.id",
		"insert into u (id, mail) values (1, 'x') on conflict do nothing": "u.id u.mail",
		"update t set at = null":                                          "",
		"update t set m = 1":                                              "t.m t.n",
		"update t set n = 1":                                              "t.m t.n t.twice",
		"update t set code = 'x'":                                         "t.code",
		"insert into t (id) values (1)":                                   "t.id t.m t.n t.twice",
		"update pair set note = 'x'":                                      "",
		"update pair set a = 1":                                           "pair.a pair.b",
		"insert into pair (a) values (1)":                                 "",
		"insert into pair (a, b) values (1, 2)":                           "pair.a pair.b t.id",
		"delete from t where id = 1":                                      "pair.b",
		"update t set id = 2 where id = 1":                                "pair.a pair.b t.id",
		"delete from u where id = 1":                                      "must.u u.id",
		"insert into must values (1, 1)":                                  "must.id must.u u.id",
		"copy u (id, mail) from stdin":                                    "u.id u.mail",
		"update plain set id = 2 where id = 1":                            "must.u plain.id u.id",
		"merge into u using t on u.id = t.id when not matched then insert (id, mail) values (1, 'x')": "u.id u.mail",
		"truncate log":                       "",
		"update named set code = 'x'":        "named.code",
		"insert into empty (v) values ('x')": "empty.v empty.w",
		"update doubled set n = 1":           "doubled.n doubled.twice",
		"insert into refers_1 values (1, 1)": "refers_1.u whole.id",
		"update half set c = 1":              "half.a half.c",
		"update slips set note = 'x'":        "slips.code slips.id slips.kind slips.note slips.twin",
		"insert into preset (id) values (1)": "preset.code",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		if got := tested(a.Statement); got != want {
			t.Errorf("%s: %s, not %s\n%s", text, got, want, render(a, nil))
		}
		for _, o := range a.Statement.Operations {
			if o.Verb == "test" && (o.Effect != abi.EffectRead || o.Kind != abi.KindRelation || !strings.HasPrefix(o.Via, "fk public.")) {
				t.Errorf("%s: %+v", text, o)
			}
		}
	}
}

// tested names the columns of which a statement tells by whether it succeeds.
func tested(st *abi.Statement) string {
	var list []string
	for _, u := range uses(st) {
		if name, how, _ := strings.Cut(u, " "); strings.Contains(how, "tested") {
			list = append(list, name)
		}
	}
	return strings.Join(list, " ")
}

// anew are tables with what the server computes of several columns at once.
const anew = `
CREATE DOMAIN few AS text CHECK (length(VALUE) < 9);
CREATE TABLE contact (id int, phone text, mail text, here text NOT NULL, whole text GENERATED ALWAYS AS (coalesce(phone, mail)) STORED NOT NULL);
CREATE TABLE ratio (id int, q int, pin int, share int GENERATED ALWAYS AS (100 / (q - pin)) STORED, half int GENERATED ALWAYS AS (q / 2) STORED);
CREATE TABLE joined (id int, first text, last varchar(9), at timestamptz, body tsvector GENERATED ALWAYS AS (to_tsvector('simple', first || ' ' || coalesce(last, ''))) STORED,
    both_ text GENERATED ALWAYS AS (lower(first) || CASE WHEN at IS NULL THEN last ELSE 'x' END) STORED, big boolean GENERATED ALWAYS AS (first > last AND at IS NOT NULL) STORED);
CREATE TABLE tight (id int, a text, b text, c text, d text, fits varchar(4) GENERATED ALWAYS AS (a || b) STORED, dom few GENERATED ALWAYS AS (c || d) STORED);
CREATE TABLE firm (id int, a text, b text NOT NULL, all_ text GENERATED ALWAYS AS (coalesce(a, b)) STORED NOT NULL, none text GENERATED ALWAYS AS (nullif(a, 'x')) STORED NOT NULL, pick text GENERATED ALWAYS AS (CASE WHEN b = 'x' THEN a ELSE b END) STORED NOT NULL);
CREATE TABLE keyless (id int, q int, pin int, n int, a text, b text, at timestamptz);
CREATE INDEX keyless_expr ON keyless ((100 / (q - pin)));
CREATE INDEX keyless_pred ON keyless (id) WHERE 100 / (n - pin) > 0;
CREATE INDEX keyless_total ON keyless ((a || b)) WHERE at IS NULL AND a = 'x' AND b <> 'y'::text;
CREATE INDEX keyless_plain ON keyless (a, b);
CREATE TABLE routed (id int, region int, code int, note text) PARTITION BY RANGE (region, code);
CREATE TABLE routed_1 PARTITION OF routed FOR VALUES FROM (1, 0) TO (1, 100) PARTITION BY LIST (note);
CREATE TABLE routed_1_a PARTITION OF routed_1 FOR VALUES IN ('a');
CREATE TABLE figured (id int, x int, y int, note text) PARTITION BY RANGE ((100 / (x - y)));
CREATE TABLE figured_1 PARTITION OF figured DEFAULT;
CREATE TABLE lone (id int, region int DEFAULT 1, code int) PARTITION BY RANGE (region, code);`

// TestPM29ComputedAnew: what a write tells by whether the server can compute
// what it makes of the row: of what is not written.
func TestPM29ComputedAnew(t *testing.T) {
	c := newer(t, database(t, "anew", anew))
	for text, want := range map[string]string{
		"update contact set phone = null":               "contact.mail",
		"update contact set mail = null":                "contact.phone",
		"update contact set phone = null, mail = 'x'":   "",
		"update contact set here = 'x'":                 "",
		"insert into contact (id, here) values (1, '')": "",
		"update ratio set q = 3":                        "ratio.pin",
		"update ratio set id = 3":                       "",
		"insert into ratio (q) values (3)":              "",
		"update joined set first = 'x'":                 "",
		"update joined set at = now()":                  "",
		"update tight set a = 'x'":                      "tight.b",
		"update tight set c = 'x'":                      "tight.d tight.dom",
		"update firm set b = 'x'":                       "firm.a",
		"update firm set a = 'x'":                       "firm.b",
		"update keyless set q = 3":                      "keyless.pin",
		"update keyless set n = 3":                      "keyless.pin",
		"update keyless set a = 'x', at = null":         "",
		"update routed set region = 2":                  "routed.code routed_1.code routed_1_a.code",
		"update routed set note = 'b'":                  "",
		"update routed_1_a set region = 2":              "routed_1_a.code",
		"update routed set region = 2, code = 3":        "",
		"update figured set x = 2":                      "figured.y figured_1.y",
		"update figured set note = 'x'":                 "",
		"insert into lone (code) values (1)":            "lone.region",
		"insert into lone (id) values (1)":              "",
		"merge into ratio using contact on ratio.id = contact.id when matched then update set q = 3": "ratio.pin",
		"with w as (update ratio set q = 3 where id = 1 returning id) select id from w":              "ratio.pin",
		"copy ratio (q, pin) from stdin": "",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		if got := tested(a.Statement); got != want {
			t.Errorf("%s: %s, not %s\n%s", text, got, want, render(a, nil))
		}
	}
}

// TestPM33TableOID: in which part of a table a row lies tells of the columns that
// say so.
func TestPM33TableOID(t *testing.T) {
	c := newer(t, database(t, "tableoid", anew))
	for text, want := range map[string]string{
		"select tableoid from routed":                                     "routed.code computed, routed.note computed, routed.region computed, routed.tableoid computed",
		"select id from routed r where r.tableoid = 5":                    "routed.code condition, routed.id copied, routed.note condition, routed.region condition, routed.tableoid condition",
		"select id from figured order by tableoid::regclass":              "figured.id copied, figured.tableoid order, figured.x order, figured.y order",
		"select tableoid from routed_1":                                   "routed_1.note computed, routed_1.tableoid computed",
		"select tableoid from routed_1_a":                                 "routed_1_a.tableoid computed",
		"select ctid from routed":                                         "routed.ctid computed",
		"delete from routed returning tableoid":                           "routed.code computed, routed.note computed, routed.region computed, routed.tableoid computed",
		"select x from (select tableoid as x from routed_1) y order by x": "routed_1.note computed order, routed_1.tableoid computed order",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		if got := strings.Join(uses(a.Statement), ", "); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
		if k := len(a.Statement.Outputs); k == 1 && strings.HasPrefix(text, "select tableoid from routed") && text != "select tableoid from routed_1_a" && len(a.Statement.Outputs[0].Computed) < 2 {
			t.Errorf("%s: %+v", text, a.Statement.Outputs)
		}
	}
}

// TestKin: who shares columns by inheritance, in both directions.
func TestKin(t *testing.T) {
	c := database(t, "kin", layered)
	all := "u:old u:older"
	for text, want := range map[string]string{
		"select id from u": all + " old:u old:older older:old older:u", "select id from only u": all, "select id from older": "older:old older:u", "select id from t": "", "select what from log_1": "log_1:log",
		"select id from plain": all + " old:u old:older older:old older:u", "prepare p as select what from log": "log:log_1 log_1:log",
		"delete from must": "", "insert into must values (1, 1)": all,
	} {
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name, kin := range a.Statement.Kin {
			for _, k := range kin {
				got = append(got, strings.TrimPrefix(name, "public.")+":"+k[1])
			}
		}
		wanted := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: %v, not %v", text, got, wanted)
		}
	}
	in, err := sql.Analyze(c, "select what from log")
	if err != nil {
		t.Fatal(err)
	}
	a, err := sql.Analyze(c, "execute p")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = a.Resolve(prepared{"p p": in}); err != nil || len(a.Statement.Kin) != 2 || len(a.Statement.Outputs) != 1 || a.Statement.Outputs[0].Type != 25 {
		t.Errorf("%+v %v", a.Statement, err)
	}
}

// TestPM05CopyFormat: the options of COPY in both syntaxes, as the server has
// them.
func TestPM05CopyFormat(t *testing.T) {
	c := newer(t, database(t, "copied", layered))
	text := sql.CopyFormat{Columns: 6, Format: "text", Delimiter: '\t', Null: `\N`}
	csv := sql.CopyFormat{Columns: 6, Format: "csv", Delimiter: ',', Quote: '"', Escape: '"'}
	with := func(f sql.CopyFormat, change func(*sql.CopyFormat)) sql.CopyFormat { change(&f); return f }
	for stmt, want := range map[string]sql.CopyFormat{
		"copy u to stdout":                                         text,
		"copy u to stdout with (format text)":                      text,
		"copy u to stdout (FORMAT CSV)":                            csv,
		"copy u to stdout csv":                                     csv,
		"copy u to stdout with csv header":                         with(csv, func(f *sql.CopyFormat) { f.Header = true }),
		"copy u to stdout (format csv, header)":                    with(csv, func(f *sql.CopyFormat) { f.Header = true }),
		"copy u to stdout (format csv, header off)":                csv,
		"copy u to stdout (format csv, header 1)":                  with(csv, func(f *sql.CopyFormat) { f.Header = true }),
		"copy binary u to stdout":                                  {Columns: 6, Format: "binary"},
		"copy u to stdout binary":                                  {Columns: 6, Format: "binary"},
		"copy u to stdout (format 'binary')":                       {Columns: 6, Format: "binary"},
		"copy u to stdout delimiters '|'":                          with(text, func(f *sql.CopyFormat) { f.Delimiter = '|' }),
		"copy u to stdout using delimiters '|' with null as 'nil'": with(text, func(f *sql.CopyFormat) { f.Delimiter, f.Null = '|', "nil" }),
		"copy u to stdout (null '', delimiter E'\\x01')":           with(text, func(f *sql.CopyFormat) { f.Delimiter, f.Null = 1, "" }),
		"copy u to stdout csv quote '~' force quote name, mail": with(csv, func(f *sql.CopyFormat) {
			f.Quote, f.Escape = '~', '~'
			f.ForceQuote = []bool{false, true, false, true, false, false}
		}),
		"copy u to stdout (format csv, quote '~', escape '\\', force_quote *)": with(csv, func(f *sql.CopyFormat) {
			f.Quote, f.Escape = '~', '\\'
			f.ForceQuote = []bool{true, true, true, true, true, true}
		}),
		"copy u (mail, id) to stdout (format csv, force_quote (id), encoding 'LATIN1')": {Columns: 2, Format: "csv", Delimiter: ',', Quote: '"', Escape: '"', ForceQuote: []bool{false, true}, Encoding: "LATIN1"},
		"copy (select id as x, 2 as y from u) to stdout (format csv, force_quote (y))":  {Columns: 2, Format: "csv", Delimiter: ',', Quote: '"', Escape: '"', ForceQuote: []bool{false, true}},
		"copy u from stdin":        text,
		"copy t from stdin binary": {Columns: 5, Format: "binary"},
		"copy u (id, name) from stdin (format csv, force_not_null (name), freeze off)": {Columns: 2, Format: "csv", Delimiter: ',', Quote: '"', Escape: '"'},
	} {
		a, err := sql.Analyze(c, stmt)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", stmt, render(a, err))
			continue
		}
		if got := fmt.Sprintf("%+v", a.Parts[0].Copy); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %s, not %+v", stmt, got, want)
		}
	}
	for stmt, want := range map[string]string{
		"copy u to stdout (format 'CSV')": "22023", "copy u to stdout (format csv, format csv)": "42601", "copy binary u to stdout csv": "42601", "copy u to stdout (colour 'red')": "42601",
		"copy u to stdout (delimiter 'xx')": "0A000", "copy u to stdout (header maybe)": "42601", "copy u to stdout (format csv, force_quote (nope))": "42703", "copy u (id, id) to stdout": "42701",
	} {
		if a, err := sql.Analyze(c, stmt); !strings.Contains(render(a, err), "error "+want) {
			t.Errorf("%s: %s, not %s", stmt, render(a, err), want)
		}
	}
}

// TestCount: the text that counts what a write would change gives what the
// write then says.
func TestCount(t *testing.T) {
	c := newer(t, database(t, "counts", layered+`; INSERT INTO u (id, name, mail) SELECT i, 'n', i FROM generate_series(1, 5) i; INSERT INTO pair SELECT i FROM generate_series(1, 3) i`))
	conn, err := pgx.Connect(context.Background(), server.URL("app", "counts"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for text, want := range map[string]string{
		"update u set name = 'x' where id > 2":                  `SELECT pg_catalog.count(*) FROM "public"."u" WHERE "id" > 2`,
		"update only u as x set name = 'x' where x.id in (1,2)": `SELECT pg_catalog.count(*) FROM only "public"."u" as "x" WHERE "x" . "id" in ( 1 , 2 )`,
		"delete from pair": `SELECT pg_catalog.count(*) FROM "public"."pair"`,
		"update pair set note = 'x' where a = (select min(id) from u)": `SELECT pg_catalog.count(*) FROM "public"."pair" WHERE "a" = ( select "min" ( "id" ) from "public"."u" )`,
		"update plain set name = 'x' where id < 3":                     `SELECT pg_catalog.count(*) FROM "public"."plain" WHERE "id" < 3`,
		"update u set name = 'x' from t where t.id = u.id":             "",
		"delete from u using t where t.id = u.id":                      "",
		"with w as (select 1) delete from u":                           "",
		"delete from u where mine(id) = 1":                             "",
		"insert into u (id, name) values (1, 'x')":                     "",
		"select 1": "",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
			continue
		}
		if a.Parts[0].Count != want || a.Parts[0].Plain != !strings.Contains(text, "mine") {
			t.Errorf("%s: %q %v", text, a.Parts[0].Count, a.Parts[0].Plain)
		}
		if a.Parts[0].Count == "" {
			continue
		}
		tx, err := conn.Begin(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		if err := tx.QueryRow(context.Background(), a.Parts[0].Count).Scan(&n); err != nil {
			t.Errorf("%s: %v", a.Parts[0].Count, err)
		}
		if tag, err := tx.Exec(context.Background(), a.Statement.Canonical); err != nil || tag.RowsAffected() != n || n == 0 {
			t.Errorf("%s: %v %v, counted %d", text, tag, err, n)
		}
		_ = tx.Rollback(context.Background())
	}
	if a, err := sql.Analyze(c, "update t set m = $1 where id = $2"); err != nil || a.Parts[0].Count != `SELECT pg_catalog.count(*) FROM "public"."t" WHERE "id" = ($2::"pg_catalog"."int4")` {
		t.Errorf("%s", render(a, err))
	}
	for text, plain := range map[string]bool{"select now()": true, "select pg_advisory_unlock_all()": false, "select mine(1)": false, "explain select mine(1)": false, "set datestyle = iso": false, "select set_config('datestyle', 'iso', true)": false} {
		if a, err := sql.Analyze(c, text); err != nil || a.Parts[0].Plain != plain {
			t.Errorf("%s: not %v\n%s", text, plain, render(a, err))
		}
	}
	for text, plain := range map[string]bool{"prepare p as select now(); execute p": true, "prepare p as select mine(1); execute p": false} {
		a, err := sql.Analyze(c, text)
		if err == nil {
			a, err = a.Resolve(sql.NoNames{})
		}
		if err != nil || a.Parts[1].Plain != plain {
			t.Errorf("%s: not %v\n%s", text, plain, render(a, err))
		}
	}
}
