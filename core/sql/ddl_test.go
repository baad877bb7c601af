package sql_test

import (
	"context"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// migrated gives a database for what changes the catalog.
func migrated(t *testing.T, name string) *sql.Context {
	t.Helper()
	text, err := os.ReadFile("testdata/ddl.sql")
	if err != nil {
		t.Fatal(err)
	}
	return database(t, name, string(text))
}

// TestDefinitions holds each statement that changes the catalog against the
// operations under it in testdata/ddl.txt.
func TestDefinitions(t *testing.T) { corpus(t, migrated(t, "definitions"), "testdata/ddl.txt") }

// TestDefinitionsAtTheServer runs each of them and compares what is another in
// the catalog then with what was said of it: no relation, type, schema or
// function has changed that no operation names.
func TestDefinitionsAtTheServer(t *testing.T) {
	c := migrated(t, "definitions_run")
	raw, err := os.ReadFile("testdata/ddl.txt")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.URL("postgres", "definitions_run"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	before, err := schema.Load(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	ran, changed := 0, 0
	for _, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		text, _, _ := strings.Cut(block, "\n")
		text = strings.TrimPrefix(text, "> ")
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" || len(a.Parts) != 1 || a.Parts[0].Kind != sql.Define {
			continue
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, strings.Replace(a.Statement.Canonical, "concurrently", "", 1)); err != nil {
			t.Logf("%s: %v", text, err) // as two constraints of one name: nothing has changed
			if err := tx.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if _, err := tx.Exec(ctx, "SELECT set_config('search_path', '', true)"); err != nil {
			t.Fatal(err)
		}
		rows := func(query string, into []any, f func()) error {
			r, err := tx.Query(ctx, query)
			if err != nil {
				return err
			}
			_, err = pgx.ForEachRow(r, into, func() error { f(); return nil })
			return err
		}
		after, err := schema.Within(before, rows)
		if err != nil {
			t.Fatal(err)
		}
		own, err := schema.Own(before, rows)
		if err != nil {
			t.Fatal(err)
		}
		after = schema.Over(after, own)
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		ran++
		for _, what := range differs(before, after, strings.Contains(text, " rename ") || strings.Contains(text, " set schema ")) {
			changed++
			if !slices.ContainsFunc(a.Statement.Operations, func(o abi.Operation) bool {
				if o.Verb == "drop_schema" { // what is in it has operations of its own
					return what == o.Object[0]+"."
				}
				return o.Effect == abi.EffectWrite && o.Kind != abi.KindFunction && strings.HasPrefix(what+".", strings.Join(o.Object, ".")+".")
			}) {
				t.Errorf("%s\n changes %s, and says %s", text, what, render(a, nil))
			}
		}
	}
	if ran < 80 || changed < 80 {
		t.Errorf("%d statements have run and changed %d things: too few to prove anything", ran, changed)
	}
}

// TestDropPublic: public, which the server comes with, goes by what is in it like
// any other schema.
func TestDropPublic(t *testing.T) {
	for i, made := range []string{"", `CREATE COLLATION public.plain FROM "C"`, "CREATE STATISTICS public.s ON n, m FROM t", "CREATE TEXT SEARCH DICTIONARY public.d (TEMPLATE = simple)",
		"CREATE OPERATOR public.## (PROCEDURE = int4pl, LEFTARG = int, RIGHTARG = int)"} {
		c := database(t, "public_"+string(rune('a'+i)), "CREATE TABLE public.t (n int, m int); "+made)
		a, err := sql.Analyze(c, "drop schema public cascade")
		if err != nil || (a.Statement.Incomplete != "") != (made != "") {
			t.Errorf("%s: %v %+v", made, err, a)
		}
	}
}

// differs names what is not the same in two schemas. Where something has got
// another name, texts that print it do not count.
func differs(a, b *schema.Schema, renamed bool) (list []string) {
	add := func(n schema.Name) {
		if s := n.Namespace + "." + n.Name; !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, pair := range [][2]*schema.Schema{{a, b}, {b, a}} {
		for oid, r := range pair[0].Relations {
			o := pair[1].Relations[oid]
			if o != nil {
				x, y := *r, *o
				x.Views, y.Views, x.Defaults, y.Defaults, x.Needed, y.Needed = nil, nil, nil, nil, false, false // of others
				x.Referenced, y.Referenced = nil, nil
				if renamed {
					x.View, y.View = "", ""
					x.Columns, y.Columns = textless(x.Columns), textless(y.Columns)
				}
				if reflect.DeepEqual(x, y) {
					continue
				}
			}
			if r.Kind == 'S' && owned(pair[0], r) { // it comes and goes with a column, whose table is named
				continue
			}
			add(r.Name)
		}
		for oid, x := range pair[0].Types {
			if o := pair[1].Types[oid]; (o == nil || !reflect.DeepEqual(x, o)) && (x.Kind == 'e' || x.Kind == 'd') {
				add(x.Name)
			}
		}
		for oid, x := range pair[0].Functions {
			if o := pair[1].Functions[oid]; o == nil || !reflect.DeepEqual(x, o) {
				add(x.Name)
			}
		}
		for name := range pair[0].Namespaces {
			if _, ok := pair[1].Namespaces[name]; !ok {
				add(schema.Name{Namespace: name})
			}
		}
	}
	return list
}

func textless(columns []schema.Column) []schema.Column {
	columns = slices.Clone(columns)
	for i := range columns {
		columns[i].Default = ""
	}
	return columns
}

// owned says whether a sequence is the default of a column.
func owned(s *schema.Schema, seq *schema.Relation) bool {
	for _, r := range s.Relations {
		for _, c := range r.Columns {
			if c.Identity != 0 && r.Name.Name+"_"+c.Name+"_seq" == seq.Name.Name || strings.Contains(c.Default, "nextval('"+seq.Name.Namespace+"."+seq.Name.Name+"'") ||
				seq.Name.Namespace == schema.Temporary && strings.Contains(c.Default, "nextval('"+seq.Name.Name+"'") {
				return true
			}
		}
	}
	return false
}

// TestEventTriggers: what runs with each change of the catalog is an operation
// of it.
func TestEventTriggers(t *testing.T) {
	c := database(t, "event_triggers", `CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS 'begin raise notice ''x''; end';
		CREATE EVENT TRIGGER teller ON ddl_command_end EXECUTE FUNCTION tell();
		CREATE EVENT TRIGGER quiet ON ddl_command_end EXECUTE FUNCTION tell(); ALTER EVENT TRIGGER quiet DISABLE`)
	a, err := sql.Analyze(c, "create table t (id int)")
	if err != nil {
		t.Fatal(err)
	}
	if ops := a.Statement.Operations; len(ops) != 2 || ops[1].Kind != abi.KindFunction || ops[1].Via != "event trigger teller" || ops[1].Object[1] != "tell" || ops[1].Value == "" {
		t.Errorf("%+v", ops)
	}
	if a, err = sql.Analyze(c, "create temp table t (id int)"); err != nil || a.Parts[0].Temporary { // what it runs may do anything
		t.Errorf("%+v, %v", a, err)
	}
}

// TestSelectInto: SELECT … INTO is forwarded as the CREATE TABLE … AS that it is.
func TestSelectInto(t *testing.T) {
	c := loaded(t)
	for text, want := range map[string]string{
		"select 1 as n into t":                `CREATE TABLE "public"."t" AS`,
		"select 1 as n into unlogged table t": `CREATE UNLOGGED TABLE "public"."t" AS`,
		"select 1 as n into temp t":           `CREATE TEMP TABLE "pg_temp"."t" AS`,
		"select 1 as n into pg_temp.t":        `CREATE TEMP TABLE "pg_temp"."t" AS`,
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || !strings.HasPrefix(a.Statement.Canonical, want) || strings.Contains(strings.ToLower(a.Statement.Canonical), "into") {
			t.Errorf("%s: %v %+v", text, err, a)
		}
	}
}
