package sql_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/sql"
)

// TestMaintenance holds what keeps tables in order against the operations under it
// in testdata/maintain.txt, and runs it: what the gateway forwards is the server's
// own grammar, whichever its version.
func TestMaintenance(t *testing.T) {
	text, err := os.ReadFile("testdata/maintain.sql")
	if err != nil {
		t.Fatal(err)
	}
	c := database(t, "maintain", string(text))
	corpus(t, c, "testdata/maintain.txt")
	raw, err := os.ReadFile("testdata/maintain.txt")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.URL("postgres", "maintain"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	ran := 0
	for _, block := range strings.Split(string(raw), "\n\n") {
		text, _, _ := strings.Cut(block, "\n")
		a, err := sql.Analyze(c, strings.TrimPrefix(text, "> "))
		if err != nil || a.Statement.Incomplete != "" || len(a.Parts) != 1 {
			continue
		}
		_, err = conn.Exec(ctx, a.Statement.Canonical)
		var e *pgconn.PgError
		switch {
		case err == nil:
			ran++
		case !errors.As(err, &e) || e.Code == "42601" && c.Schema.Major >= 15:
			t.Errorf("%s\n as %s: %v", text, a.Statement.Canonical, err)
		default:
			t.Logf("%s: %v", text, err)
		}
	}
	if ran < 25 {
		t.Errorf("%d statements have run", ran)
	}
}
