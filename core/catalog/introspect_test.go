package catalog

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/strict/stricttest"
)

// TestIntrospect: how much of the system catalogs a task is told, and what cannot
// stand beside `introspect: listed`.
func TestIntrospect(t *testing.T) {
	const file = `task: x
resources: [shop]
introspect: QQ
allow:
  - {verbs: [select], tables: [public.orders], columns: all}
  - {verbs: [delete], tables: [public.orders], effects: [public.items]}
  - {verbs: [call], functions: [public.twice]}
review:
  - {verbs: [select], tables: [public.customers], columns: [id], by: {groups: [dba]}}
`
	s := stricttest.Schema(t, Schema)
	digests := map[string]bool{}
	for word, want := range map[string][3]bool{"true": {true, false, false}, "false": {false, false, false}, "listed": {true, true, false}, "definitions": {true, false, true}} {
		text := strings.Replace(file, "QQ", word, 1)
		c, err := load(t, map[string]string{"x.yaml": text})
		if err != nil {
			t.Fatal(word, err)
		}
		x := c.Tasks["x"]
		if got := [3]bool{x.Introspect, x.Listed, x.Definitions}; got != want {
			t.Errorf("%s: %v", word, got)
		}
		digests[x.Digest()] = true
		if err := stricttest.Validate(t, s, text); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
	if len(digests) != 4 {
		t.Error("two of them are one task")
	}
	c, err := load(t, map[string]string{"x.yaml": strings.Replace(file, "QQ", "listed", 1)})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"public.orders": true, "public.items": true, "public.customers": true, "public.payments": false, "public.twice": false, "public.orders.audit": false} {
		if c.Tasks["x"].Lists(abi.KindRelation, strings.Split(name, ".")) != want {
			t.Errorf("the relation %s: not %v", name, want)
		}
	}
	for name, want := range map[string]bool{"public.twice": true, "public.orders": false} {
		if c.Tasks["x"].Lists(abi.KindFunction, strings.Split(name, ".")) != want {
			t.Errorf("the function %s: not %v", name, want)
		}
	}
	for name, want := range map[string][2]bool{"public.orders.total": {true, false}, "public.orders.note": {true, true}, "public.items.id": {false, false}, "public.customers.id": {false, false}} { // the last one needs an approval
		parts := strings.Split(name, ".")
		masked := *c.Tasks["x"]
		masked.Masks = []Mask{{Relation: [2]string{"public", "orders"}, Column: "note"}}
		if got := [2]bool{masked.Opens(parts[:2], parts[2]), masked.Hides(parts[:2], parts[2])}; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(file, "QQ", "listd", 1):                     `x.yaml:3:13: introspect: "listd": one of true, false, listed, definitions is expected (did you mean "listed"?)`,
		strings.Replace(file, "QQ", "3", 1):                         "x.yaml:3:13: introspect: true or false is expected, not a number",
		strings.Replace(file, "QQ", "listed\nshow_errors: true", 1): "x.yaml:3:13: introspect: listed hides the names of what is not listed, and show_errors: true shows texts in which they are",
		strings.Replace(file, "QQ", "listed", 1) + "  - {ddl: [{verbs: [drop_table], in: [public.*]}], by: {groups: [dba]}}\n": "x.yaml:3:13: introspect: listed hides what is not listed, and whoever changes tables (x.yaml:10) finds out what is there",
	} {
		if _, err := load(t, map[string]string{"x.yaml": text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
