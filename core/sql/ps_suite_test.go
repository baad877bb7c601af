package sql_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// arbiter is a server that says whether a text is in its grammar. Its
// transaction has failed: nothing is looked up in it, and nothing runs.
type arbiter struct{ conn *pgx.Conn }

func arbitrate(t *testing.T, database string) arbiter {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), server.URL("app", database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, _ = conn.PgConn().Exec(context.Background(), "begin; select 1/0").ReadAll()
	return arbiter{conn}
}

// accepts says whether one statement is in the server's grammar. What the
// grammar takes and its actions refuse is neither: the server has the last word.
func (a arbiter) accepts(t *testing.T, text string) (yes, sure bool) {
	t.Helper()
	_, err := a.conn.PgConn().Prepare(context.Background(), "", text, nil)
	var e *pgconn.PgError
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%s: %v", text, err)
	}
	return err == nil || e.Code == "25P02", err == nil || e.Code == "25P02" || e.Code == "42601" && strings.HasPrefix(e.Message, "syntax error") || e.Code == "42601" && strings.Contains(e.Message, "unterminated")
}

// held holds the parser and the analysis against the server on each text, and
// gives how many both accept, both refuse, and are refused here alone for their size.
func held(t *testing.T, c *sql.Context, a arbiter, texts []string) (both, neither, bounded int) {
	t.Helper()
	older := pgtest.Major() < 15 || pgtest.Major() == 16 // than the table that judges its texts
	for _, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			continue
		}
		tree, err := c.Grammar.Parse(text)
		if err == nil && tree.Statements() != 1 { // the server answers more than one as it answers a fault
			continue
		}
		an, e := sql.Analyze(c, text)
		if e == nil && strings.Contains(an.Statement.Incomplete, "failed") {
			t.Errorf("%s: %s", text, an.Statement.Incomplete)
		}
		switch want, sure := a.accepts(t, text); {
		case !sure, !want && err == nil && (e != nil || an.Statement.Incomplete != ""): // an action refuses it, there as here
		case !want && err == nil && older: // the server has the last word
			neither++
		case want && err == nil:
			both++
		case !want && err != nil:
			neither++
		case want && (strings.Contains(err.Error(), "too") || pgtest.Major() < 15 && strings.Contains(err.Error(), "trailing junk")): // docs/limits.md
			bounded++
		default:
			t.Errorf("%v, and the server says %v: %s", err, want, text)
		}
	}
	return both, neither, bounded
}

// TestPS19Corpus: every text of the tests here, and each cut short and spoilt,
// is read as the server reads it. `make suite` does it with the server's own.
func TestPS19Corpus(t *testing.T) {
	c := loaded(t)
	var texts []string
	raw, err := os.ReadFile("testdata/analysis.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "> "); ok {
			texts = append(texts, text)
		}
	}
	for _, file := range []string{"testdata/psql15.sql", "testdata/psql18.sql"} {
		if raw, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Split(strings.TrimSpace(string(raw)), "\n")...)
	}
	var cases []struct{ SQL any }
	if raw, err = os.ReadFile("testdata/pg_bypass.json"); err == nil {
		err = json.Unmarshal(raw, &cases)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range cases {
		if text, ok := k.SQL.(string); ok {
			texts = append(texts, text)
		}
	}
	texts = append(append(texts, slices.Sorted(maps.Keys(kindsOf))...), slices.Sorted(maps.Keys(effectsOf))...)
	g := generator{Rand: rand.New(rand.NewPCG(7, 7)), major: pgtest.Major()}
	for range 300 {
		texts = append(texts, g.statement())
	}
	junk := []string{"'", `"`, "$$", "(", ")", ",", ".", ";", "--", "/*", "*/", "E'\\", "U&'", "B'", "x'1", "''", "::", ":=", "1e", "0x", "1_0", "$1a", "\v", "\r", "\u00a0", "é", "select", "null", "not", "with", "like", "is", "as", "[1:]", "@>", "!=", "<->", "=>", "||"}
	if pgtest.Major() < 14 { // operators behind their operand, which docs/limits.md names
		junk = slices.DeleteFunc(junk, func(s string) bool { return slices.Contains([]string{"*/", "@>", "<->", "||", "!="}, s) })
	}
	for i, n := 0, len(texts); i < n; i++ {
		words := strings.Fields(texts[i])
		at := g.IntN(len(words) + 1)
		texts = append(texts, strings.Join(words[:at], " "), strings.Join(words[:at], " ")+" "+pick(g, junk...)+" "+strings.Join(words[at:], " "), texts[i][:g.IntN(len(texts[i])+1)]+pick(g, junk...))
	}
	if pgtest.Major() < 14 {
		behind := regexp.MustCompile(`(?i)([-+*/<>=~!@#%^&|]|OPERATOR *\([^)]*\)?)\s*$`)
		statistics := regexp.MustCompile(`(?i)^create statistics\b.* on .*[^\w\s,]`) // any expression can be read there, and all but columns are refused: here as a fault of syntax
		texts = slices.DeleteFunc(texts, func(text string) bool { return behind.MatchString(text) || statistics.MatchString(text) })
	}
	element := regexp.MustCompile(`(?i)^(create statistics|grant|revoke)\b.*\[`) // of a table's name, which an action refuses: of others the analysis does
	texts = slices.DeleteFunc(texts, element.MatchString)
	both, neither, _ := held(t, c, arbitrate(t, "shop"), texts)
	if both < 800 || neither < 800 {
		t.Errorf("of %d texts only %d are accepted and %d refused", len(texts), both, neither)
	}
	t.Log(both, "accepted by both,", neither, "refused by both")
}
