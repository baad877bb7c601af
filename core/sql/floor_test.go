package sql_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/grants"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// floors are beside the twins what the server reads with a role's own rights,
// where the task has listed only what stands before it.
const floors = `CREATE SEQUENCE "an odd'one"; CREATE TABLE counted (id serial, a int DEFAULT nextval('"an odd''one"'), b int GENERATED ALWAYS AS IDENTITY, c int, d int);
	CREATE VIEW below WITH (security_invoker) AS SELECT id, a AS b, b AS a, c, d FROM p WHERE c > 0; CREATE VIEW invoked WITH (security_invoker) AS SELECT z.id, x.a, z.b, z.c, x.d FROM below z JOIN a y ON y.id = z.id JOIN r x ON x.id = z.id;
	CREATE TABLE policed (LIKE p INCLUDING ALL); INSERT INTO policed TABLE p; ALTER TABLE policed ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON policed USING (EXISTS (SELECT FROM below z WHERE z.id = policed.id OR z.a > policed.b)) WITH CHECK (true);
	CREATE VIEW counting AS SELECT id, a, b, c, d FROM counted; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
	CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'select 2 * $1'; CREATE FUNCTION twice(int, VARIADIC "of" text[]) RETURNS int LANGUAGE sql AS 'select 2 * $1'; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;`

// floored are the tables of floors, all with the columns of the twins.
var floored = []string{"counted", "below", "invoked", "policed", "counting"}

// floor is a role that `taskgate compile` has made of a task, and the task.
type floor struct {
	c     *sql.Context
	conn  *pgx.Conn
	rules policy.Config
}

// lay makes the role of a task file, and logs in as it.
func lay(t *testing.T, c *sql.Context, database, text string) *floor {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "n.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := grants.Of(cat.Tasks["n"], "r", "narrow-1", c)
	for range 2 { // whoever runs it twice has the same
		if out, err := server.Psql(database, g.Script+`ALTER ROLE "narrow-1" PASSWORD '`+server.Password+`';`); err != nil {
			t.Fatal(err, out, g.Script)
		}
	}
	f := &floor{c: c, rules: policy.Config{Tasks: map[string]*policy.Task{"n": {Rules: cat.Tasks["n"].Rules}}}}
	if f.conn, err = pgx.Connect(context.Background(), server.URL("narrow-1", database)); err != nil {
		t.Fatal(err)
	}
	return f
}

// said is what both say of a text.
type said struct {
	a         *sql.Analysis
	decision  abi.Decision
	canonical string
	why       string // of a refusal here
	err       error  // of the role's server
	refused   bool   // by the role's rights
}

func (f *floor) ask(text string) said {
	s := said{decision: abi.Deny, canonical: text}
	v := abi.Verdict{Decision: abi.Deny}
	var err error
	if s.a, err = sql.Analyze(f.c, text); err == nil {
		f.rules.Judge(&abi.Command{Session: &abi.Session{Task: "n"}, Statement: s.a.Statement}, &v)
		s.decision, s.canonical, s.why = v.Decision, s.a.Statement.Canonical, v.Reason.Message
	} else {
		s.why = err.Error()
	}
	ctx := context.Background()
	_, s.err = f.conn.PgConn().Exec(ctx, "begin; set local statement_timeout = 2000; "+s.canonical).ReadAll()
	_, _ = f.conn.PgConn().Exec(ctx, "rollback").ReadAll()
	var e *pgconn.PgError
	s.refused = errors.As(s.err, &e) && e.Code == "42501"
	return s
}

// written gives a task file for what may be done, in rules of every form.
func written(g generator, may map[string]map[string][]string) string {
	text := "task: n\nresources: [r]\nallow:\n  - {verbs: [call], functions: [public.twice]}\n"
	var held []string
	for _, table := range slices.Sorted(maps.Keys(may)) {
		for _, verb := range slices.Sorted(maps.Keys(may[table])) {
			columns := may[table][verb]
			rule := fmt.Sprintf("{verbs: [%s], tables: [public.%s]", verb, table)
			switch {
			case verb == "delete" || verb == "truncate" || verb == "lock":
			case len(columns) == len(twinColumns) && g.odds(2):
				rule += ", columns: all"
			default:
				rule += ", columns: [" + strings.Join(columns, ", ") + "]"
			}
			if (verb == "update" || verb == "delete") && g.odds(4) {
				rule += ", where: " + pick(g, "key", "required")
			}
			if verb != "lock" && g.odds(6) {
				held = append(held, "  - "+rule+", by: {groups: [dba]}}\n")
				continue
			}
			text += "  - " + rule + "}\n"
		}
	}
	if len(held) > 0 {
		text += "review:\n" + strings.Join(held, "")
	}
	return text
}

// chosen lists something at random.
func chosen(g generator) map[string]map[string][]string {
	may := map[string]map[string][]string{}
	for _, table := range append([]string{"p", "q", "r", "v", "kid", "part", "a"}, floored...) {
		columns := map[string][]string{"v": {"id", "c", "a"}, "a": {"id", "p", "x", "d"}}[table]
		if columns == nil {
			columns = twinColumns
		}
		may[table] = map[string][]string{}
		for _, verb := range []string{"select", "select", "insert", "update", "delete", "truncate", "lock"} {
			if g.odds(3) || verb == "lock" && g.major < 17 || verb == "truncate" && strings.HasSuffix("p v below invoked counting", table) {
				continue
			}
			some := slices.Clone(columns)
			g.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			may[table][verb] = some[:1+g.IntN(len(some))]
		}
	}
	return may
}

// utility is what generator.statement has none of. Of LOCK it has no ACCESS
// SHARE: that takes a right on the whole table, and tells and stops nothing.
func (g generator) utility() string {
	t, cols, _ := g.table()
	name := strings.TrimPrefix(t, "only ")
	list := cols[:1+g.IntN(len(cols))]
	query, _ := g.query(1, nil, nil)
	return pick(g, "truncate "+t, "lock table "+t+" in "+pick(g, "row share", "row exclusive", "share", "exclusive", "access exclusive")+" mode", "copy (table "+name+") to stdout", "copy ("+query+") to stdout", "copy "+name+" ("+strings.Join(list, ", ")+") to stdout",
		"select id from "+t+" for "+pick(g, "update", "no key update", "share", "key share"), "select twice("+pick(g, cols...)+") from "+t, "insert into "+name+" default values", "insert into "+name+" ("+strings.Join(list, ", ")+") values ("+strings.Repeat("default, ", len(list)-1)+"default)",
		"update "+t+" set "+pick(g, cols...)+" = default", "with w as (delete from "+t+" returning 1) select 1", "delete from "+t, "select from "+t, "select count(*) from "+t, "declare c cursor for select "+pick(g, cols...)+" from "+t, "prepare s as "+query)
}

// TestNativeFloor: a role with the GRANTs that `taskgate compile` prints of a
// task. Whatever that role is refused, the analysis must not have allowed, nor
// held for approval.
func TestNativeFloor(t *testing.T) {
	c := database(t, "twins", twins+floors)
	texts, seed := 800, uint64(2)
	if n, err := strconv.Atoi(os.Getenv("TASKGATE_FLOOR")); err == nil { // a long run by hand: how many texts
		texts, seed = n, rand.Uint64()
		t.Log("seed ", seed)
	}
	g := generator{Rand: rand.New(rand.NewPCG(1, seed)), major: pgtest.Major()}
	allowed, refusedBoth, strict, wrong := 0, 0, 0, 0
	reasons := map[string]int{}
	var f *floor
	for i := range 2 * texts {
		switch {
		case i == 0:
			f = lay(t, c, "twins", written(g, granted))
			defer func() { _ = f.conn.Close(context.Background()) }()
		case i >= texts && i%100 == 0: // others at random, with what stands beneath
			_ = f.conn.Close(context.Background())
			g.more, g.may = floored, chosen(g)
			f = lay(t, c, "twins", written(g, g.may))
		}
		text := ""
		if i < texts || g.odds(3) {
			text = g.statement()
		} else {
			text = g.utility()
		}
		switch s := f.ask(text); {
		case s.decision != abi.Deny && s.refused:
			t.Fatalf("%v, and the role is refused: %s\n%s\n%s\n%v", s.decision, text, s.canonical, render(s.a, nil), s.err)
		case s.decision != abi.Deny && s.err == nil:
			allowed++
			same(t, c, text, s.a)
		case s.refused:
			refusedBoth++
		case s.err == nil:
			strict++
			reasons[s.why]++
		default:
			wrong++
		}
	}
	if allowed < texts/20 || refusedBoth < texts/4 {
		t.Error(fmt.Sprint("too few cases say anything: ", allowed, " ran, ", refusedBoth, " were refused by both"))
	}
	t.Log(allowed, "allowed and ran,", refusedBoth, "refused by both,", strict, "refused here alone,", wrong, "errors of the server")
	if testing.Verbose() {
		t.Log(reasons)
	}
}

// same holds what is forwarded against what was judged (PS18).
func same(t *testing.T, c *sql.Context, text string, a *sql.Analysis) {
	t.Helper()
	b, err := sql.Analyze(c, a.Statement.Canonical)
	if again := render(b, err); again != render(a, nil) || b.Statement.Canonical != a.Statement.Canonical {
		t.Errorf("%s\nforwarded as %s\nmeans\n%sinstead of\n%s", text, a.Statement.Canonical, again, render(a, nil))
	}
}
