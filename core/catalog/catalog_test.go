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
		"columns: ['*']":             "those that are accepted say columns: '*'",
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

// TestLock: '*' is what the lock has, a trigger is accepted with its source,
// and what is not in the lock is a fault.
func TestLock(t *testing.T) {
	const star = "task: x\nresources: [a, b]\nallow:\n  - {verbs: [select], tables: [public.o, public.p], columns: '*'}\n  - {verbs: [update], tables: [public.o], columns: [v], effects: [trigger public.o.log]}\n"
	_, err := load(t, map[string]string{"x.yaml": star})
	for _, want := range []string{"x.yaml:4:5: allow[0]: columns: '*' means those of public.o in taskgate.lock, which has none", "public.p", "x.yaml:5:5: allow[1]: effects: the source of the trigger public.o.log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	l := &Lock{Resources: map[string]*Locked{}}
	l.Resource("a").Relations["public.o"] = map[string]string{"id": "int4", "v": "text", "only a": "text"}
	l.Resource("b").Relations["public.o"] = map[string]string{"id": "int4", "v": "text"}
	l.Resource("b").Relations["public.p"] = map[string]string{"id": "int4"}
	l.Resource("a").Triggers["public.o.log"] = "abc"
	c, err := load(t, map[string]string{"x.yaml": star, LockFile: l.String()})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Tasks["x"].Rules
	if len(r) != 3 || strings.Join(r[0].Columns, ",") != "id,v" || r[0].Tables[0] != "public.o" || strings.Join(r[1].Columns, ",") != "id" || r[2].Pinned["trigger public.o.log"][0] != "abc" {
		t.Errorf("%+v", r)
	}
	if c.Lock.String() != l.String() || len(c.Lock.Drift(l)) != 0 {
		t.Errorf("read back:\n%s", c.Lock)
	}
	next := &Lock{Resources: map[string]*Locked{}}
	next.Resource("a").Relations["public.o"] = map[string]string{"id": "int8", "w": "text"}
	next.Resource("a").Triggers["public.o.log"] = "def"
	if got := strings.Join(l.Drift(next), "\n"); got != `a: public.o.id was of type int4 and is of type int8
a: public.o.only a is gone
a: public.o.v is gone
a: public.o.w is new, of type text
a: the source of the trigger public.o.log has changed
b: public.o is gone, or no task lists it with '*' any longer
b: public.p is gone, or no task lists it with '*' any longer` {
		t.Error(got)
	}
	dir := t.TempDir()
	if err := l.Write(dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, LockFile)); err != nil || string(b) != l.String() {
		t.Error(err, string(b))
	}
	if _, err := load(t, map[string]string{"x.yaml": good, LockFile: "a: {relatons: {}}\n"}); err == nil || !strings.Contains(err.Error(), "taskgate.lock:1:") {
		t.Error(err)
	}
}
