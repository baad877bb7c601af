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
		"columns: id":                "x.yaml:5:15: allow[0].columns: a list is expected: [id], or '*', or all",
		"columns: *":                 "needs quotes: '*'",
		"tables: public.o":           "a list is expected: [public.o]",
		"mask: x":                    `x.yaml:5:12: allow[0].mask: it stands beside allow, for the whole task: mask: [{column: public.customers.email, with: keep_from("@")}]`,
		"oracle: accept":             "it stands beside allow, for the whole task: oracle: accept",
		"blind: true":                "it stands beside allow, for the whole task: blind: true",
		"rows: 3":                    "x.yaml:5:5: allow[0]: rows is for insert, update and delete",
		"rows: 0":                    "x.yaml:5:12: allow[0].rows: at least 1 is expected",
		"rows: many":                 "a number is expected",
		"by: {groups: [dba]}":        "x.yaml:5:5: allow[0]: by: only a review rule",
		"summary: x":                 "x.yaml:5:15: allow[0].summary: it is for rules that are held: list the rule under review",
		"on_hold: keep":              "allow[0].on_hold: it is for rules that are held",
		"on_hold: kep":               `did you mean "keep"?`,
		"payload: unseen":            "allow[0].payload: it is for rules that are held",
		"columns: []":                "no column is listed, so the rule can never match",
		"tables: [public.*]":         `x.yaml:5:15: allow[0].tables[0]: "public.*": a name stands for itself alone, so this can never match`,
		"effects: [trigger a.b]":     "trigger SCHEMA.TABLE.NAME is expected",
		"effects: [items]":           "a table with its schema",
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

// TestX17Tasks: what would mean something else than it seems to, or nothing.
func TestX17Tasks(t *testing.T) {
	const rule = "allow:\n  - {verbs: [select], tables: [public.o], columns: [id]}\n"
	for line, want := range map[string]string{
		"groups: []":                         "x.yaml:3:9: groups: a list of groups is expected",
		"groups: ['']":                       "a list of groups is expected",
		"limits: {rows: 0}":                  "x.yaml:3:16: limits.rows: at least 1 is expected: a limit that is left out is none",
		"limits: {statement_timeout: 10us}":  "a time from 1ms to",
		"limits: {statement_timeout: 2000h}": "a time from 1ms to",
		"limits: {session: 4}":               "limits.session: a text is expected, not a number: quote it",
		"login:":                             "x.yaml:3:7: login: nothing stands here",
		"descripton: x":                      `did you mean "description"?`,
		"review: [{verbs: [delete], by: {groups: [a], within: 100ms}, tables: [public.o]}]": "a time from 1s to",
		"review: [{verbs: [delete], by: {groups: [a], within: 169h}, tables: [public.o]}]":  "a time from 1s to 168h",
		"review: [{verbs: [delete], by: {groups: ['']}, tables: [public.o]}]":               "by names the groups",
		"review: [{verbs: [delete], tables: [public.o]}]":                                   "a review rule says by whom",
		"review: [{verbs: [truncate], by: {groups: [a]}, rows: 3, tables: [public.o]}]":     "x.yaml:3:10: review[0]: rows is for insert, update and delete",
		"review: [{verbs: [delete], by: {groups: [a]}, payload: see, tables: [public.o]}]":  `"see": one of unseen is expected`,
		"oracle: acept": `x.yaml:3:9: oracle: "acept": one of accept, refuse is expected (did you mean "accept"?)`,
		"mask: x":       "a list is expected: [x]",
	} {
		_, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [shop]\n" + line + "\n" + rule})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	_, err := load(t, map[string]string{"x.yaml": "resources: []\nallow: []\n", "y.yml": "", "z.YAML": "", ".hidden.yaml": "("})
	for _, want := range []string{"x.yaml:1:1: the task has no name", "x.yaml:1:1: the task has no resources", "x.yaml:1:1: the task allows nothing", "y.yml:1:1: a task file ends in .yaml", "z.YAML:1:1: a task file ends"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "hidden") {
		t.Error("an editor's own file is read")
	}
	if _, err := Load(filepath.Join(t.TempDir(), "nowhere")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// TestAgainst: tasks and the resources that there are.
func TestAgainst(t *testing.T) {
	const rule = "allow:\n  - {verbs: [select], tables: [public.o], columns: [id]}\n"
	c, err := load(t, map[string]string{
		"a.yaml": "task: a\nresources: [shop, shp]\n" + rule,
		"b.yaml": "task: b\nresources: [two]\n" + rule,
		"c.yaml": "task: c\nresources: [two]\nlogin: ap\n" + rule,
		"d.yaml": "task: d\nresources: [two, shop]\nlogin: app\n" + rule,
		"e.yaml": "task: e\nresources: [shop, ro]\n" + rule,
	})
	if err != nil {
		t.Fatal(err)
	}
	logins := map[string]Resource{"shop": {Protocol: "postgres", Address: "db-1:5432", Logins: []string{"app"}}, "two": {Protocol: "postgres", Address: "db-2:5432", Logins: []string{"ro", "app"}}, "ro": {Protocol: "postgres", Address: "db-3:5432", Logins: []string{"ro"}}}
	err = c.Against(logins).Err()
	got := ""
	for line := range strings.Lines(err.Error()) {
		got += filepath.Base(line)
	}
	if got != `a.yaml:2:19: resources[1]: the resource "shp" is not in the configuration (did you mean "shop"?)
b.yaml:2:13: resources[0]: which login of the resource "two"? login: NAME says it, of app, ro
c.yaml:3:8: login: the resource "two" has no login "ap" (known are app, ro)
e.yaml:2:19: resources[1]: which login of the resource "ro"? login: NAME says it, of ro` {
		t.Error(got)
	}
	if c.Tasks["d"].LoginAt(logins) != "app" || c.Tasks["a"].LoginAt(logins) != "app" || c.Tasks["b"].LoginAt(logins) != "" {
		t.Error("another login")
	}
}

// TestOverlaps: a rule that adds nothing is told of, one that adds something is not.
func TestOverlaps(t *testing.T) {
	for rules, want := range map[string]string{
		"  - {verbs: [select], tables: [public.o], columns: [id, v]}\n  - {verbs: [select], tables: [public.o], columns: [id]}\n":                           "x.yaml:5:5: allow[1]: the rule adds nothing: x.yaml:4 allows all of it",
		"  - {verbs: [select], tables: [public.o], columns: [id]}\n  - {verbs: [select], tables: [public.o], columns: all}\n":                               "x.yaml:4:5: allow[0]: the rule adds nothing: x.yaml:5",
		"  - {verbs: [select], tables: [public.o], columns: [id]}\n  - {verbs: [select], tables: [public.o], columns: [id]}\n":                              "x.yaml:5:5: allow[1]: the rule adds nothing: x.yaml:4",
		"  - {verbs: [delete], tables: [public.o]}\n  - {verbs: [delete], tables: [public.o], where: key}\n":                                                "x.yaml:5:5: allow[1]: the rule adds nothing",
		"  - {verbs: [delete], tables: [public.o], where: key}\nreview:\n  - {verbs: [delete], tables: [public.o], by: {groups: [g], people: 1}}\n":         "",
		"  - {verbs: [delete], tables: [public.o]}\nreview:\n  - {verbs: [delete], tables: [public.o], where: key, by: {groups: [g], people: 1}}\n":         "x.yaml:6:5: review[0]: the rule holds nothing: x.yaml:4 allows all of it without approval",
		"  - {verbs: [select], tables: [public.o], columns: [id]}\n  - {verbs: [select], tables: [public.p], columns: [id]}\n":                              "",
		"  - {verbs: [delete], tables: [public.o], where: key}\n  - {verbs: [delete], tables: [public.o], where: key, effects: [public.p]}\n":               "x.yaml:4:5",
		"  - {verbs: [update], tables: [public.o], columns: [id], where: key}\n  - {verbs: [update], tables: [public.o], columns: [id], where: required}\n": "",
		"  - {verbs: [call], functions: [public.f]}\n  - {verbs: [call], functions: [public.g]}\n":                                                          "",
		"  - {verbs: [listen], channels: [a]}\n  - {verbs: [listen, notify], channels: [a]}\n":                                                              "x.yaml:4:5",
	} {
		c, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [r]\nallow:\n" + rules})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Warnings.Error(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", rules, got, want)
		}
	}
}
