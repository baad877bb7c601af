package main

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/internal/sqlgen"
)

// smith makes statements by SQLsmith, a generator that knows nothing of masks. It
// sees a database that has what the tasks list and nothing else, so that most of
// what is refused is so for what it computes.
type smith struct {
	target string
	varies *regexp.Regexp // what calls these differs from one time to the next
}

var sample = regexp.MustCompile(`tablesample \w+ \([^)]*\)`)

func newSmith(t *testing.T, w *twins) *smith {
	t.Helper()
	const name = "smith"
	var text strings.Builder
	text.WriteString("CREATE TYPE mood AS ENUM ('low', 'mid', 'high'); CREATE DOMAIN short AS text; CREATE DOMAIN positive AS int;")
	listed := sqlgen.Listed(pgtest.Major())
	for _, table := range slices.Sorted(maps.Keys(listed)) {
		rows, err := w.super[0].Query(t.Context(), "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::regclass AND attname = ANY ($2)", table, listed[table])
		if err != nil {
			t.Fatal(err)
		}
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "\nCREATE TABLE %s (%s);", table, strings.Join(columns, ", "))
	}
	if err := w.pg.Database(name, text.String()); err != nil {
		t.Fatal(err)
	}
	var names string
	if err := w.super[0].QueryRow(t.Context(), "SELECT string_agg(DISTINCT proname, '|') FROM pg_proc WHERE provolatile = 'v'").Scan(&names); err != nil {
		t.Fatal(err)
	}
	return &smith{target: w.pg.URL("owner", name), varies: regexp.MustCompile(`\b(` + names + `|now|statement_timestamp|transaction_timestamp|inet_client_port|pg_(stat|current|conf|postmaster|last|backend)\w+|txid_\w+)\(|current_time|localtime`)}
}

// statements gives some of them.
func (s *smith) statements(t *testing.T, seed uint64) (list []string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sqlsmith", "--target="+s.target, "--dry-run", "--exclude-catalog", fmt.Sprintf("--seed=%d", seed%(1<<31)), "--max-queries=500")
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sqlsmith: %v\n%s\nrun .ci/install test", err, &said)
	}
	for text := range strings.SplitSeq(string(out), ";\n") {
		if text = strings.TrimSpace(sample.ReplaceAllString(text, "")); text != "" && !s.varies.MatchString(text) {
			list = append(list, text)
		}
	}
	return list
}

// TestPM01NonInterferenceSQLsmith is TestPM01NonInterference with the statements
// of another generator.
func TestPM01NonInterferenceSQLsmith(t *testing.T) {
	t.Parallel()
	seed, lasts := measure(t, 0)
	w := newTwins(t, 10)
	s := newSmith(t, w)
	total := make([]share, len(twinTasks))
	differences := 0
	end := time.Now().Add(lasts)
	for round := 0; differences < 5 && (round < len(twinTasks) || time.Now().Before(end)); round++ {
		at := round % len(twinTasks)
		task := twinTasks[at].name
		list := s.statements(t, seed+uint64(round/len(twinTasks)))
		for len(list) > 0 && differences < 5 {
			w.reset(t, seed, round)
			p := w.open(t, task)
			var steps []*sqlgen.Step
			for wrote := 0; len(list) > 0 && len(steps) < 60 && wrote <= most; {
				step := &sqlgen.Step{Text: list[0], Form: "simple", Messages: []pgproto3.FrontendMessage{&pgproto3.Query{String: list[0]}}}
				steps, list = append(steps, step), list[1:]
				out := p.run(step)
				if tell(out) {
					found := w.shrink(t, seed, round, task, steps)
					if at, again := w.differ(t, seed, round, task, found); at >= 0 {
						steps, out = found, again
					}
					for _, s := range steps {
						t.Log(s)
					}
					t.Errorf("TASKGATE_TEST_SEED=%d, task %s:\none side\n%s\nthe other\n%s", seed, task, around(out[0].text, out[1].text), around(out[1].text, out[0].text))
					differences++
					break
				}
				total[at].add(out[0].accepted())
				wrote += out[0].wrote
				if out[0].ended {
					break
				}
			}
			p.close()
		}
	}
	for i, task := range twinTasks {
		t.Logf("seed %d on server %d, %s: %v", seed, pgtest.Major(), task.name, &total[i])
		if total[i].accepted == 0 {
			t.Errorf("%s: %v: nothing is proved", task.name, &total[i])
		}
	}
}
