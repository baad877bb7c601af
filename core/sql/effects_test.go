package sql_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// oracle is a twin of a database in which everything that a text does says so.
type oracle struct {
	c    *sql.Context
	conn *pgx.Conn
}

func watch(t *testing.T, name string) *oracle {
	t.Helper()
	effects, err := os.ReadFile("testdata/effects.sql")
	if err != nil {
		t.Fatal(err)
	}
	watched, err := os.ReadFile("testdata/watch.sql")
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{c: database(t, name, string(effects))}
	database(t, name+"_watched", string(effects)+string(watched))
	if o.conn, err = pgx.Connect(context.Background(), server.URL("postgres", name+"_watched")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.conn.Close(context.Background()) })
	return o
}

// does runs a text and gives what it has really done; nothing of it stays.
func (o *oracle) does(text string) ([]string, error) {
	ctx := context.Background()
	defer o.conn.Exec(ctx, "rollback")
	if _, err := o.conn.PgConn().Exec(ctx, "begin; set local oracle.log = ''").ReadAll(); err != nil {
		return nil, err
	}
	before, err := o.files()
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(text, " from stdin") {
		_, err = o.conn.PgConn().CopyFrom(ctx, strings.NewReader("1\n50\n\\N\n"), text)
	} else {
		_, err = o.conn.PgConn().Exec(ctx, text).ReadAll()
	}
	if err == nil {
		_, err = o.conn.PgConn().Exec(ctx, "set constraints all immediate").ReadAll()
	}
	if err != nil {
		return nil, err
	}
	var log string
	if err = o.conn.QueryRow(ctx, "select current_setting('oracle.log')").Scan(&log); err != nil {
		return nil, err
	}
	after, err := o.files()
	for name, file := range before {
		if after[name] != file {
			log += "alter_sequence public." + name + ";"
		}
	}
	return strings.Split(strings.TrimSuffix(log, ";"), ";"), err
}

// files gives the file that each sequence is in: one that is started anew has another.
func (o *oracle) files() (map[string]uint32, error) {
	files := map[string]uint32{}
	rows, err := o.conn.Query(context.Background(), "select relname::text, relfilenode from pg_class where relkind = 'S'")
	if err != nil {
		return nil, err
	}
	var name string
	var file uint32
	_, err = pgx.ForEachRow(rows, []any{&name, &file}, func() error { files[name] = file; return nil })
	return files, err
}

// missing gives what a text has done and its analysis does not say.
func missing(a *sql.Analysis, done []string) (out []string) {
	said := map[string]bool{"": true}
	clones := map[string]bool{} // a partitioned table's trigger fires as its partition's
	for i := range a.Statement.Operations {
		op := &a.Statement.Operations[i]
		name := strings.Join(op.Object, ".")
		said[op.Verb+" "+name] = true
		switch how, what, _ := strings.Cut(op.Via, " "); {
		case how == "trigger":
			said[op.Via] = true
			clones[what[strings.LastIndexByte(what, '.'):]] = true
		case op.Kind == abi.KindFunction:
			said["function "+name] = true
		}
	}
	for _, d := range done {
		if strings.HasPrefix(d, "trigger public.root_") && clones[".cloned"] && strings.HasSuffix(d, ".cloned") {
			continue
		}
		if !said[d] {
			out = append(out, d)
		}
	}
	return out
}

// effectsOf are texts, and what has to be among what they do.
var effectsOf = map[string]string{
	"update seen set v = 3": "update public.kid", "delete from seen_twice where id = 1": "delete public.toy", "insert into seen (id) values (8)": "function public.in_default", "update joined set v = 3": "trigger public.joined.instead", "insert into joined (id) values (1)": "trigger public.joined.instead",
	"insert into kept values (7, 7)": "insert public.kept_log", "update kept set v = 7": "delete public.kept_log", "delete from kept": "update public.parent", "insert into kept values (8, 8)": "trigger public.kept.keeps", "update kept set v = 9": "trigger public.kept.keeps", "insert into written values (1, 5)": "insert public.root_1", "insert into written (id) values (1)": "function public.in_default", "delete from written": "delete public.kept_log",
	"delete from base where id = 1": "delete public.gone", "delete from gone where id = 1": "trigger public.gone.a_del", "delete from base where id < 4": "delete public.grand",
	"delete from base where id in (1, 2)":                                          "update public.nulled",
	"delete from base where id = 3":                                                "update public.defaulted",
	"update base set other = other + 1":                                            "update public.renumbered",
	"update base set v = 7":                                                        "trigger public.base.of_gen",
	"insert into base (id) values (9)":                                             "function public.in_domain",
	"insert into base (id, dom) values (9, 1)":                                     "function public.#+#",
	"insert into base values (9, 1, 1, 1, 1, 1)":                                   "function public.in_generated",
	"update base set op = default":                                                 "function public.#+#",
	"update base set dom = default where id = 1":                                   "function public.in_domain",
	"delete from tree where id = 1":                                                "delete public.hung_1",
	"delete from tree where id = 2":                                                "trigger public.hung_2.hung_del",
	"insert into root values (4, 4)":                                               "trigger public.root_2.own_ins",
	"insert into root_2 values (4, 4)":                                             "trigger public.root_2.cloned",
	"delete from root":                                                             "trigger public.root_1.own_del",
	"delete from root where id = 1":                                                "delete public.leaf",
	"update root set id = 9 where id = 1":                                          "insert public.root_2",
	"update root set v = 9 where id = 3":                                           "update public.root_2",
	"update root_1 set v = v":                                                      "trigger public.root_1.stmt",
	"update deep set v = 50 where id = 1":                                          "insert public.deep_1_2",
	"update two set v = 3":                                                         "trigger public.two.of_two",
	"update duo set a = 3":                                                         "update public.follower",
	"update made set v = 3":                                                        "insert public.made_1",
	"update deep set v = 8":                                                        "trigger public.deep_1_1.own_upd",
	"update deep set id = 300 where id = 1":                                        "insert public.deep_2",
	"delete from parent":                                                           "delete public.toy",
	"update parent set v = 2 where id = 1":                                         "trigger public.kid.kid_upd",
	"update parent set v = 3 where id = 1":                                         "trigger public.kid.twin",
	"update only parent set v = 2 where id = 1":                                    "update public.parent",
	"insert into feeling (id, m) values (1, 3)":                                    "function public.in_cast",
	"update feeling set m = 3":                                                     "function public.in_cast",
	"insert into feeling (t) select m from feeling":                                "function public.out_cast",
	"select substr(m, 1) from feeling":                                             "function public.out_cast",
	"select lower(m) from feeling":                                                 "function public.out_cast",
	"update base set op = 1 operator(public.#+#) 2":                                "function public.#+#",
	"select id from feeling where m = 'sad'":                                       "function public.=",
	"select 1 from feeling f join feeling g using (m)":                             "function public.=",
	"select case m when 'sad' then 1 end from feeling":                             "function public.=",
	"select 'glad'::mood::text":                                                    "function public.out_cast",
	"select nullif(m, 'glad') from feeling":                                        "function public.=",
	"with d as (delete from base where id = 1 returning 1) select 1":               "delete public.grand",
	"explain analyze delete from tree where id = 1":                                "delete public.hung_2",
	"copy (delete from parent returning id) to stdout":                             "delete public.toy",
	"insert into base (id) values (1) on conflict (id) do update set v = 1":        "trigger public.base.of_gen",
	"merge into base using (select 1 as i) s on s.i = id when matched then delete": "delete public.gone",
	"merge into root using (select 1 as i) s on s.i = id when matched then update set id = 7":           "insert public.root_2",
	"merge into base using (select 77 as i) s on s.i = id when not matched then insert (id) values (i)": "function public.in_default",
	"truncate parent, toy": "trigger public.kid.trunc", "truncate kid cascade": "truncate public.toy", "truncate only parent, kid cascade": "truncate public.toy", "truncate parent cascade": "truncate public.toy", "truncate root cascade": "truncate public.leaf", "truncate root_1 cascade": "truncate public.leaf", "truncate base cascade": "truncate public.grand", "truncate tree cascade": "truncate public.hung_1", "truncate deep": "truncate public.deep_1_1",
	"delete from only_ruled":                     "",
	"truncate numbered restart identity cascade": "alter_sequence public.numbers_id_seq", "truncate numbered, numbers restart identity": "alter_sequence public.numbered_w_seq", "truncate numbers restart identity": "alter_sequence public.of_numbers_1",
	"truncate base restart identity cascade": "alter_sequence public.of_grand", "truncate tree restart identity cascade": "alter_sequence public.of_hung_2", "truncate parent, toy restart identity": "alter_sequence public.of_kid",
	"truncate kid restart identity cascade": "alter_sequence public.twice", "truncate only deep_1_2 restart identity": "alter_sequence public.of_deep", "truncate numbers continue identity": "truncate public.numbers_1",
}

// TestPS25Effects: what the server does beside what the text says, against a
// server on which all of it says so. A text with nothing behind it is refused.
func TestPS25Effects(t *testing.T) {
	o := watch(t, "effects")
	for text, want := range effectsOf {
		if pgtest.Major() < 15 && strings.HasPrefix(text, "merge ") {
			continue
		}
		a, err := sql.Analyze(o.c, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want == "" {
			if a.Statement.Incomplete == "" {
				t.Errorf("%s: understood as\n%s", text, render(a, nil))
			}
			continue
		}
		done, err := o.does(a.Statement.Canonical)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if not := missing(a, done); len(not) > 0 || a.Statement.Incomplete != "" {
			t.Errorf("%s: did %v, and the analysis does not say so:\n%s", text, not, render(a, nil))
		}
		if !strings.Contains(strings.Join(done, ";"), want) {
			t.Errorf("%s: says nothing of %s: the server did %v", text, want, done)
		}
	}
}

// TestPS18EffectsAtRandom: texts made at random, as forwarded, do nothing that
// their analysis does not say.
func TestPS18EffectsAtRandom(t *testing.T) {
	o := watch(t, "effects_random")
	g := generator{Rand: rand.New(rand.NewPCG(3, 5)), major: pgtest.Major()}
	tables := map[string][]string{"base": {"id", "v", "other", "note", "dom", "op"}, "gone": {"id", "base"}, "nulled": {"id", "base"}, "renumbered": {"id", "other"}, "tree": {"id", "up"},
		"hung": {"id", "tree"}, "root": {"id", "v"}, "root_1": {"id", "v"}, "deep": {"id", "v"}, "parent": {"id", "v"}, "kid": {"id", "v"}, "feeling": {"id", "m", "t"}, "leaf": {"id", "v"},
		"seen": {"id", "v"}, "numbered": {"id", "v"}, "numbers": {"id", "v"}, "seen_twice": {"id", "v"}, "joined": {"id", "v"}, "kept": {"id", "v"}, "kept_log": {"id", "v"}, "written": {"id", "v"}, "defaulted": {"id", "base"}, "grand": {"id", "gone"}, "deep_1": {"id", "v"}, "hung_2": {"id", "tree"}, "toy": {"id", "kid"}}
	var names []string
	for name := range tables {
		names = append(names, name)
	}
	slices.Sort(names)
	value := func() string { return pick(g, "1", "2", "3", "50", "null", "default") }
	one := func(returning bool) string {
		name := pick(g, names...)
		cols := tables[name]
		where := pick(g, "", " where id = 1", " where id in (2, 3)", " where id > 1 and "+pick(g, cols...)+" is not null")
		list := cols[:1+g.IntN(len(cols))]
		var values []string
		for range list {
			values = append(values, value())
		}
		text := pick(g, "delete from "+name+where, "delete from "+name+" using tree z where z.id = "+name+".id", "update "+name+" set "+pick(g, cols...)+" = "+value()+where,
			"update "+name+" set ("+strings.Join(list, ", ")+") = row("+strings.Join(values, ", ")+")"+where,
			"insert into "+name+" ("+strings.Join(list, ", ")+") values ("+strings.Join(values, ", ")+")"+pick(g, "", " on conflict do nothing", " on conflict (id) do update set "+pick(g, cols...)+" = "+value()))
		if returning {
			text += " returning 1"
		}
		return text
	}
	ran, acted := 0, 0
	kinds := map[string]int{}
	for range 1000 {
		text := one(false)
		switch g.IntN(8) {
		case 0:
			text = "with w as (" + one(true) + ") " + one(false)
		case 2:
			text = "with w (id) as (" + one(true) + "), x as (" + one(true) + ") " + pick(g, "select * from w", "insert into "+pick(g, names...)+" (id) select id + 40 from w", "delete from "+pick(g, "tree", "parent", "seen", "kept")+" where id in (select id from w)")
		case 3:
			name := pick(g, names...)
			text = pick(g, "copy "+name+" ("+pick(g, tables[name]...)+") from stdin", "copy (delete from "+name+" returning 1) to stdout", "copy (with w as ("+one(true)+") select * from w) to stdout", "explain analyze "+one(false), "truncate "+name, "truncate "+name+", "+pick(g, names...), "truncate only "+name, "truncate "+pick(g, names...)+" restart identity"+pick(g, "", " cascade"))
		case 1:
			text = fmt.Sprintf("merge into %s x using tree y on x.id = y.id when matched %s then %s when not matched then insert (id) values (y.id)", pick(g, names...), pick(g, "", "and y.up is null"), pick(g, "delete", "update set id = 9", "do nothing"))
			if g.major >= 17 && g.odds(2) {
				text += " when not matched by source then " + pick(g, "delete", "update set id = x.id + 70")
			}
		}
		a, err := sql.Analyze(o.c, text)
		if err != nil || a.Statement.Incomplete != "" {
			continue
		}
		done, err := o.does(a.Statement.Canonical)
		if err != nil {
			continue
		}
		ran++
		kinds[text[:strings.IndexByte(text, ' ')]]++
		if len(done) > 1 {
			acted++
		}
		if not := missing(a, done); len(not) > 0 {
			t.Errorf("%s: did %v, and the analysis does not say so:\n%s", text, not, render(a, nil))
		}
		same(t, o.c, text, a)
	}
	if ran < 300 || acted < 100 {
		t.Errorf("too few texts say anything: %d ran, %d did more than one thing", ran, acted)
	}
	for _, kind := range []string{"insert", "update", "delete", "merge", "with", "copy", "truncate", "explain"} {
		if kinds[kind] < 5 && (kind != "merge" || pgtest.Major() > 14) {
			t.Errorf("too few say anything: %v", kinds)
		}
	}
	t.Log(ran, "ran,", acted, "did more than one thing", kinds)
}
