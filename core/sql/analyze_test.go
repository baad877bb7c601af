package sql_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
)

var (
	start  sync.Once
	server *pgtest.Server
	shop   *schema.Schema
	failed error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}

// loaded gives the schema of the shop, read from a real server.
func loaded(t testing.TB) *sql.Context {
	t.Helper()
	start.Do(func() {
		if server, failed = pgtest.Start(pgtest.Major()); failed != nil {
			return
		}
		if failed = server.Database("shop", pgtest.Shop); failed != nil {
			return
		}
		var conn *pgx.Conn
		if conn, failed = pgx.Connect(context.Background(), server.URL("app", "shop")); failed != nil {
			return
		}
		defer conn.Close(context.Background())
		shop, failed = schema.Load(context.Background(), conn)
	})
	if failed != nil {
		t.Fatal(failed)
	}
	g, err := parse.ForServer(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	return &sql.Context{Schema: shop, Grammar: g, SearchPath: shop.SearchPath, Introspect: true}
}

// render writes an analysis as the corpus has it: one operation a line.
func render(a *sql.Analysis, err error) string {
	var e *sql.Error
	if errors.As(err, &e) {
		return "error " + e.Code + " " + e.Message + "\n"
	}
	var b strings.Builder
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		b.WriteString(o.String())
		if o.Effect.Writes() {
			b.WriteString(" !")
		}
		b.WriteByte('\n')
	}
	if a.Statement.Incomplete != "" {
		b.WriteString("incomplete: " + a.Statement.Incomplete + "\n")
	}
	return b.String()
}

// TestCorpus holds each text of testdata/analysis.txt against what is written
// under it: it hides no write and invents none. UPDATE_CORPUS=1 rewrites it,
// for a person to read the difference.
func TestCorpus(t *testing.T) {
	c := loaded(t)
	raw, err := os.ReadFile("testdata/analysis.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		text, want, _ := strings.Cut(block, "\n")
		if want != "" {
			want += "\n"
		}
		text = strings.TrimPrefix(text, "> ")
		a, err := sql.Analyze(c, text)
		got := render(a, err)
		if got != want && os.Getenv("UPDATE_CORPUS") == "" {
			t.Errorf("%s\n got:\n%s want:\n%s", text, got, want)
		}
		out.WriteString("> " + text + "\n" + got + "\n")
		if err == nil && a.Statement.Incomplete == "" { // what is forwarded means the same
			b, err := sql.Analyze(c, a.Statement.Canonical)
			if again := render(b, err); again != got {
				t.Errorf("%s\n forwarded as %s\n means:\n%s", text, a.Statement.Canonical, again)
			}
		}
	}
	if os.Getenv("UPDATE_CORPUS") != "" {
		if err := os.WriteFile("testdata/analysis.txt", []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkAnalyze(b *testing.B) {
	c := loaded(b)
	for _, text := range []string{"SELECT 1", "SELECT o.id, o.status, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = $1 ORDER BY o.created DESC LIMIT 10"} {
		b.Run(strings.Fields(text)[1], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sql.Analyze(c, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzAnalyze(f *testing.F) {
	c := loaded(f)
	f.Add("select * from orders")
	f.Add("with d as (delete from orders returning *) select * from d")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := sql.Analyze(c, text); err == nil && strings.HasPrefix(a.Statement.Incomplete, "the analysis failed") {
			t.Fatal(a.Statement.Incomplete)
		}
	})
}
