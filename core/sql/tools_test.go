package sql_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// TestTools: what drivers, ORMs and tools ask to learn a schema is understood,
// writes nothing, and what is forwarded in its place runs on the server and
// has the columns that were asked for.
func TestTools(t *testing.T) {
	c := loaded(t)
	raw, err := os.ReadFile("testdata/tools.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), server.URL("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	columns := func(text string) (out []string) {
		d, err := conn.PgConn().Prepare(context.Background(), "", text, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			return nil
		}
		for _, f := range d.Fields {
			out = append(out, f.Name)
		}
		return out
	}
	seen := 0
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		var text, refused string
		min := 0
		for line := range strings.Lines(block) {
			if comment, ok := strings.CutPrefix(line, "-- "); !ok {
				text += line
			} else if why, ok := strings.CutPrefix(comment, "refused: "); ok {
				refused = strings.TrimSpace(why)
			} else if n, _, ok := strings.Cut(comment, ":"); ok {
				if v, err := strconv.Atoi(n); err == nil {
					min = v
				}
			}
		}
		if text = strings.TrimSpace(text); text == "" || min > pgtest.Major() {
			continue
		}
		seen++
		a, err := sql.Analyze(c, text)
		if refused != "" {
			if err != nil || a.Statement.Incomplete != refused {
				t.Errorf("%s\n%s", text, render(a, err))
			}
			continue
		}
		if err != nil || a.Statement.Incomplete != "" || a.Statement.Writes() {
			t.Errorf("%s\n%s", text, render(a, err))
			continue
		}
		if want, got := columns(text), columns(a.Statement.Canonical); !slices.Equal(want, got) {
			t.Errorf("%s\n%s\nhas %q, not %q", text, a.Statement.Canonical, got, want)
		}
		if _, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil {
			t.Errorf("%v\n%s", err, a.Statement.Canonical)
		}
	}
	if seen < 120 {
		t.Errorf("only %d texts", seen)
	}
}
