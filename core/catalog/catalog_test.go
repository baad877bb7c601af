package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/strict"
)

func load(t *testing.T, files map[string]string) (*Catalog, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(dir)
}

const good = `task: x
description: a task
resources: [shop]
limits: {session: 4h, rows: 10, statement_timeout: 30s}
allow:
  - {verbs: [select], tables: [public.orders], columns: [id, status]}
  - {verbs: [update], tables: [public.orders], columns: [status], where: key}
  - {verbs: [call], functions: [public.purge]}
review:
  - {verbs: [delete], tables: [public.orders], where: required, effects: [public.items], by: {groups: [dba], people: 1, within: 15m}}
`

func TestLoad(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": good})
	if err != nil {
		t.Fatal(err)
	}
	x := c.Tasks["x"]
	if x == nil || len(x.Rules) != 4 || x.Groups[0] != "task:x" || x.Rows != 10 || x.Session.Hours() != 4 || !x.Introspect || x.Rules[3].Review.Within != 900 || x.Rules[2].Functions[0] != "public.purge" {
		t.Fatalf("%+v", x)
	}
	a, one, _ := c.Compile()
	b, two, _ := c.Compile()
	if string(a) != string(b) || one != two {
		t.Error("compiled twice, two results")
	}
}

// TestX17Faults: each fault is found, with its line, all of them at once.
func TestX17Faults(t *testing.T) {
	for text, want := range map[string]string{
		"verbs: [selct]":             `x.yaml:5:14: allow[0].verbs[0]: "selct": one of`,
		"verb: [select]":             `x.yaml:5:12: allow[0].verb: unknown key (did you mean "verbs"?)`,
		"tables: [orders]":           `x.yaml:5:15: allow[0].tables[0]: "orders": a name with its schema is expected: public.orders`,
		"where: key":                 "where is for update and delete",
		"columns: ['*']":             "say columns: all",
		"mask: x":                    "no masking yet",
		"rows: 3":                    "cannot limit written rows yet",
		"by: {groups: [dba]}":        "only a review rule",
		"verbs: [select], verbs: []": "already",
	} {
		line := "task: x\nresources: [shop]\n\nallow:\n  - {" + text + ", tables: [public.o], verbs: [select], columns: [a]}\n"
		for _, field := range []string{"verbs: ", "tables: ", "columns: "} {
			if strings.HasPrefix(text, field) {
				line = strings.Replace(line, map[string]string{"verbs: ": ", verbs: [select]", "tables: ": ", tables: [public.o]", "columns: ": ", columns: [a]"}[field], "", 1)
			}
		}
		_, err := load(t, map[string]string{"x.yaml": line})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v", line, err)
		}
	}
	_, err := load(t, map[string]string{
		"a.yaml": "task: b\nresorces: [x]\n", "b.yaml": "task: b\n", "c.yaml": "a: [", "d.yaml": "task: &a d\n",
		"e.yaml": "task: e\nresources: [r]\nallow:\n  - {verbs: [select], tables: [a.b]}\n"})
	var faults strict.Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	for _, want := range []string{"a.yaml:1:7", "a.yaml:2:", "resources", "b.yaml", "c.yaml", "anchors", "columns is required"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if _, err := load(t, nil); err == nil {
		t.Error("an empty catalog")
	}
}
