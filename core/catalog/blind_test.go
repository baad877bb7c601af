package catalog

import (
	"strings"
	"testing"
)

// TestBlind: a task that is blind lists its columns for reading under any
// condition, and has no mask that the server cannot carry out.
func TestBlind(t *testing.T) {
	file := strings.Replace(masked, "oracle: accept", "blind: true", 1)
	c, err := load(t, map[string]string{"x.yaml": file})
	if err != nil {
		t.Fatal(err)
	}
	x := c.Tasks["x"]
	if !x.Blind || !x.compiled().Blind || x.Digest() == "" {
		t.Errorf("%+v", x.compiled())
	}
	for column, want := range map[string]bool{"email": true, "id": true, "card": false} {
		if x.Reads([]string{"public", "customers"}, column) != want {
			t.Errorf("%s: not %v", column, want)
		}
	}
	if x.Reads([]string{"public", "orders"}, "id") { // for inserting alone
		t.Error("what is not listed for select is read")
	}
	for with, want := range map[string]string{"hash": `hash needs a key`, `tokenize("people")`: `tokenize needs a key`} {
		_, err := load(t, map[string]string{"x.yaml": strings.Replace(file, `keep_from("@")`, "'"+with+"'", 1)})
		if err == nil || !strings.Contains(err.Error(), "the task is blind: the server itself masks public.customers.email, and "+want) {
			t.Errorf("%s: %v", with, err)
		}
	}
	if _, err := load(t, map[string]string{"x.yaml": strings.Replace(file, "blind: true", "blind: yes please", 1)}); err == nil {
		t.Error("it takes anything")
	}
}
