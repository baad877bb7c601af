package sql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestNativeFloor: a role with the column GRANTs that say what the task says.
// Whatever that role is refused, the analysis must not have allowed.
func TestNativeFloor(t *testing.T) {
	c := database(t, "twins", twins)
	task := policy.Config{Tasks: map[string]*policy.Task{"n": {}}}
	grants := "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'narrow') THEN CREATE ROLE narrow LOGIN PASSWORD '" + server.Password + "'; END IF; END $$; GRANT USAGE ON SCHEMA public TO narrow;"
	for table, verbs := range granted {
		for verb, columns := range verbs {
			task.Tasks["n"].Rules = append(task.Tasks["n"].Rules, policy.Rule{Verbs: []string{verb}, Tables: []string{"public." + table}, Columns: columns})
			grants += "GRANT " + verb
			if columns != nil {
				grants += " (" + strings.Join(columns, ", ") + ")"
			}
			grants += " ON " + table + " TO narrow;"
		}
	}
	if out, err := server.Psql("twins", grants); err != nil {
		t.Fatal(err, out)
	}
	conn, err := pgx.Connect(context.Background(), server.URL("narrow", "twins"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	texts, seed := 1500, uint64(2)
	if n, err := strconv.Atoi(os.Getenv("TASKGATE_FLOOR")); err == nil { // a long run by hand: how many texts
		texts, seed = n, rand.Uint64()
		t.Log("seed ", seed)
	}
	g := generator{rand.New(rand.NewPCG(1, seed)), pgtest.Major(), false}
	allowed, refusedBoth, strict, wrong := 0, 0, 0, 0
	reasons := map[string]int{}
	for range texts {
		text := g.statement()
		a, err := sql.Analyze(c, text)
		v := abi.Verdict{Decision: abi.Deny}
		canonical, why := text, ""
		if err == nil {
			task.Judge(&abi.Command{Session: &abi.Session{Task: "n"}, Statement: a.Statement}, &v)
			canonical, why = a.Statement.Canonical, v.Reason.Message
		} else {
			why = err.Error()
		}
		_, err = conn.PgConn().Exec(context.Background(), "begin; set local statement_timeout = 2000; "+canonical).ReadAll()
		_, _ = conn.PgConn().Exec(context.Background(), "rollback").ReadAll()
		var e *pgconn.PgError
		refused := errors.As(err, &e) && e.Code == "42501"
		switch {
		case v.Decision == abi.Allow && refused:
			t.Fatalf("allowed, and the role is refused: %s\n%s\n%s\n%v", text, canonical, render(a, nil), err)
		case v.Decision == abi.Allow && err == nil:
			allowed++
			same(t, c, text, a)
		case refused:
			refusedBoth++
		case err == nil:
			strict++
			reasons[why]++
		default:
			wrong++
		}
	}
	if allowed < texts/40 || refusedBoth < texts/8 {
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
