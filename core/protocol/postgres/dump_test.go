package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

//go:embed testdata/dumped.sql
var dumped string

// at is a dialer to another database, as who owns it or as any other.
type at struct {
	dialer
	user string
}

func (d at) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := d.dialer.Dial(ctx, r, login)
	up.User = d.user
	return up, err
}

// fresh makes a database.
func fresh(t *testing.T, text string) string {
	t.Helper()
	shop(t)
	databases.Lock()
	databases.n++
	name := fmt.Sprintf("dumped%d", databases.n)
	databases.Unlock()
	if err := server.Database(name, text); err != nil {
		t.Fatal(err)
	}
	return name
}

// dumping gives a gateway in front of a database, for a task that lists its tables
// and is told of definitions.
func dumping(t *testing.T, database string, task policy.Task) *gateway {
	t.Helper()
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
	g := serve(t, guard)
	g.db, g.Dialer = database, at{dialer{database: database}, "app"}
	masked := func(relation []string, column string) bool {
		for _, m := range task.Masks {
			if strings.Join(m.Relation, ".") == strings.Join(relation, ".") && m.Column == column {
				return true
			}
		}
		return false
	}
	reads := func(relation []string, _ string) bool {
		for _, r := range task.Rules {
			for _, name := range r.Tables {
				if name == strings.Join(relation, ".") {
					return true
				}
			}
		}
		return false
	}
	g.options(guard, TaskOptions{Introspect: true, Definitions: Definitions(reads, masked)}, ResourceOptions{}, "dumped")
	return g
}

var dumpedTables = []string{"public.teams", "public.people", "public.counted", "public.logs", "public.logs_2026", "public.logs_rest", "public.teams_id_seq", "public.people_id_seq", "public.alone", "kept.rows"}

func TestDump(t *testing.T) {
	if pgtest.Major() != 15 {
		return
	}
	db := fresh(t, "RESET ROLE;"+dumped+"GRANT USAGE ON SCHEMA kept TO app; GRANT SELECT ON ALL TABLES IN SCHEMA kept TO app; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO app;")
	g := dumping(t, db, policy.Task{Rules: []policy.Rule{all("select", dumpedTables...)}})
	for _, args := range [][]string{{}, {"--schema-only"}, {"--data-only", "-t", "people"}} {
		args = append([]string{"--restrict-key=x"}, args...)
		direct, err := g.output(t, "", dumper, append(args, server.URL("app", db))...)
		if err != nil {
			t.Fatal(direct)
		}
		through, err := g.output(t, "", dumper, append(args, g.url())...)
		through = strings.ReplaceAll(through, "NOTICE:  good until later\n", "")
		if err != nil || through != direct {
			t.Errorf("%v %v", args, err)
			a, b := strings.Split(direct, "\n"), strings.Split(through, "\n")
			for i := range b {
				if i >= len(a) || a[i] != b[i] {
					t.Fatalf("line %d: %s", i, strings.Join(b[max(0, i-3):min(len(b), i+6)], "\n"))
				}
			}
		}
	}
	_ = abi.Allow
	_ = filepath.Join
}
