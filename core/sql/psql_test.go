package sql_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// withheld are what psql asks about and no task is told: by the word in its text.
var withheld = []string{"pg_user_mappings", "pg_parameter_acl", "pg_largeobject_metadata", "pg_db_role_setting", "pg_catalog.current_setting(s.name)", "pg_describe_object"}

// TestPsql: what psql 15 and 18 ask for \d and its kin is understood, writes nothing, calls nothing that a
// task has to list, and what is forwarded in its place runs on the server. The OIDs in the texts are another
// server's: they find nothing here.
func TestPsql(t *testing.T) {
	for _, file := range []string{"testdata/psql15.sql", "testdata/psql18.sql"} {
		t.Run(file, func(t *testing.T) { asks(t, file) })
	}
}

func asks(t *testing.T, file string) {
	c := loaded(t)
	raw, err := os.ReadFile(file)
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
		refused := a.Statement.Incomplete != "" || slices.ContainsFunc(a.Statement.Operations, func(o abi.Operation) bool { return o.Kind == abi.KindFunction })
		if refused && slices.ContainsFunc(withheld, func(what string) bool { return strings.Contains(text, what) }) {
			continue
		}
		if refused || a.Statement.Writes() {
			t.Errorf("%s\n%s", render(a, nil), text)
			continue
		}
		if _, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil && !strings.Contains(err.Error(), "permission denied") { // of pg_toast, as without the gateway
			t.Errorf("%v\n%s", err, a.Statement.Canonical)
		}
	}
}
