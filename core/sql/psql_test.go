package sql_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
)

// TestPsql: what psql 15 asks for \d and its kin is understood, writes nothing, and what is forwarded in
// its place runs on the server. The OIDs in the texts are another server's: they find nothing here.
func TestPsql(t *testing.T) {
	c := loaded(t)
	raw, err := os.ReadFile("testdata/psql15.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), server.URL("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var orders string
	if err := conn.QueryRow(context.Background(), "select 'orders'::regclass::oid::text").Scan(&orders); err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(raw)) {
		text = regexp.MustCompile(`'[0-9]{5}'`).ReplaceAllString(strings.TrimSpace(text), "'"+orders+"'")
		a, err := sql.Analyze(c, text)
		if err != nil {
			if _, e := conn.PgConn().Exec(context.Background(), text).ReadAll(); e != nil {
				continue // psql 15 asks a newer server for what it no longer has
			}
			t.Errorf("%v\n%s", err, text)
			continue
		}
		if a.Statement.Incomplete != "" || a.Statement.Writes() {
			t.Errorf("%s\n%s", render(a, nil), text)
			continue
		}
		if _, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil {
			t.Errorf("%v\n%s", err, a.Statement.Canonical)
		}
	}
}
