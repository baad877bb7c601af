package sql

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// TestCatalogColumns: each column that introspection reads somebody has looked
// at: it stands in testdata/catalogs.txt, with a ! where it is NULL, and !! where it is
// so to a task with `introspect: definitions` too. What
// another server has beside them fails here. UPDATE_CORPUS=1 adds it, for a
// person to read.
func TestCatalogColumns(t *testing.T) {
	s, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := pgx.Connect(context.Background(), s.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	loaded, err := schema.Load(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]string{} // relation -> column -> its mark
	raw, err := os.ReadFile("testdata/catalogs.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		known[words[0]] = map[string]string{}
		for _, w := range words[1:] {
			name := strings.TrimRight(w, "!")
			known[words[0]][name] = w[len(name):]
		}
	}
	read := map[string]map[string]map[string]bool{"pg_catalog": maps.Clone(catalogs), "information_schema": standard}
	for name, hidden := range withheld {
		for c := range hidden {
			if of, ok := catalogs[name]; ok && !of[c] {
				t.Errorf("%s.%s is told to any task but one with definitions", name, c)
			}
		}
		if _, ok := catalogs[name]; !ok {
			read["pg_catalog"][name] = hidden
		}
	}
	for namespace, list := range read {
		for name, hidden := range list {
			full := namespace + "." + name
			if known[full] == nil {
				t.Errorf("%s is new", full)
				known[full] = map[string]string{}
			}
			r := loaded.RelationByName[schema.Name{Namespace: namespace, Name: name}]
			if r == nil && name != "sql_parts" && pgtest.Major() >= 15 {
				t.Errorf("there is no %s", full)
				continue
			}
			if r != nil {
				for _, c := range r.Columns {
					mark := map[bool]string{true: "!"}[hidden[c.Name]]
					if of, ok := described(r.Name); ok && of[c.Name] {
						mark = "!!"
					}
					if was, ok := known[full][c.Name]; !ok || was != mark {
						t.Errorf("%s.%s is new, or hidden otherwise than it was (%q)", full, c.Name, mark)
						known[full][c.Name] = mark
					}
				}
			}
			for c := range hidden {
				if _, ok := known[full][c]; !ok {
					t.Errorf("%s has no column %s to hide", full, c)
				}
			}
		}
	}
	if os.Getenv("UPDATE_CORPUS") == "" {
		return
	}
	var b strings.Builder
	for _, full := range slices.Sorted(maps.Keys(known)) {
		b.WriteString(full)
		for _, c := range slices.Sorted(maps.Keys(known[full])) {
			b.WriteString(" " + c + known[full][c])
		}
		b.WriteByte('\n')
	}
	if err := os.WriteFile("testdata/catalogs.txt", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
