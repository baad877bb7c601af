package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/strict"
)

const masked = `task: x
resources: [shop]
oracle: accept
allow:
  - {verbs: [select], tables: [public.customers], columns: [id, name, email, born]}
  - {verbs: [update], tables: [public.customers], columns: [name], where: key, rows: 3}
mask:
  - {column: public.customers.email, with: keep_from("@")}
  - {column: public.customers.born, with: 'null', nulls: hide}
  - {column: public.customers.name, with: bucket(10), nulls: show}
review:
  - {verbs: [insert], tables: [public.orders], columns: [id], by: {groups: [dba], people: 2, justify: true}, summary: new orders, on_hold: keep, payload: unseen}
`

func TestMasks(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": masked})
	if err != nil {
		t.Fatal(err)
	}
	x := c.Tasks["x"]
	if got := fmt.Sprint(x.Masked()); got != "[{[public customers] email false false} {[public customers] born false false} {[public customers] name false false}]" {
		t.Error(got)
	}
	p := x.compiled()
	if m := p.Masks[0]; p.Oracle != "accept" || !slices.Equal(m.Relation, []string{"public", "customers"}) || m.Column != "email" || m.Kind != abi.MaskKeep || m.Nulls || p.Masks[1].Kind != abi.MaskNull || p.Masks[1].Nulls || !p.Masks[2].Nulls || p.Masks[2].Kind != abi.MaskBucket {
		t.Errorf("%+v", p)
	}
	if r := x.Rules[1]; r.Rows != 3 {
		t.Errorf("%+v", r)
	}
	if r := x.Rules[2].Review; r.People != 2 || !r.Justify || r.Summary != "new orders" || r.OnHold != "keep" || r.Payload != "unseen" || r.Within != 900 {
		t.Errorf("%+v", r)
	}
	if c.Warnings != nil {
		t.Error(c.Warnings)
	}
	was := x.Digest()
	for from, to := range map[string]string{`"@"`: `"."`, "nulls: show": "nulls: hide", "oracle: accept": "oracle: refuse", "rows: 3": "rows: 4", "on_hold: keep": "on_hold: refuse", "summary: new": "summary: old", "customers.born": "customers.id"} {
		if c, err := load(t, map[string]string{"x.yaml": strings.Replace(masked, from, to, 1)}); err != nil || c.Tasks["x"].Digest() == was {
			t.Errorf("%s: the same digest, %v", to, err)
		}
	}
}

// TestMaskFaults: each with its line and column, all of them at once.
func TestMaskFaults(t *testing.T) {
	const head = "task: x\nresources: [shop]\nallow:\n  - {verbs: [select], tables: [public.c], columns: [id, a, b]}\n  - {verbs: [update], tables: [public.c], columns: [b], where: key}\nmask:\n"
	for line, want := range map[string]string{
		`{column: public.c.a, with: 'kep(1, 2)'}`:                                          `x.yaml:7:32: mask[0].with: "kep(1, 2)" is no mask (did you mean "keep"?): one of null, fixed, keep,`,
		`{column: public.c.a, with: keep(1)}`:                                              `x.yaml:7:32: mask[0].with: keep(1): how many characters stay`,
		`{column: public.c.a, with: 'trunc("mont")'}`:                                      `did you mean "month"?`,
		`{column: public.c.a, with: keep(1, 2)}`:                                           `x.yaml:7:32: mask[0].with: "keep(1": what has a comma in it needs quotes here: with: 'keep(2, 4)'`,
		`{column: public.c.a, with: null, nulls: show}`:                                    `the word null needs quotes: with: 'null'`,
		`{column: public.c.a, with: null}`:                                                 `x.yaml:7:32: mask[0].with: nothing stands here`,
		`{column: public.c.a, with: ''}`:                                                   `x.yaml:7:32: mask[0].with: nothing stands here`,
		`{column: public.c.a, with: 7}`:                                                    `a text is expected, not a number`,
		`{column: public.c.a, with: custom}`:                                               `a custom mask is a guard's own`,
		`{column: c.a, with: hash}`:                                                        `x.yaml:7:14: mask[0].column: "c.a": a column with its table and schema is expected`,
		`{column: public.c., with: hash}`:                                                  `a column with its table and schema is expected`,
		`{column: public.c.*, with: hash}`:                                                 `mask each column`,
		`{column: 7, with: hash}`:                                                          `a text is expected`,
		`{with: hash}`:                                                                     `x.yaml:7:5: mask[0]: which column?`,
		`{column: public.c.a}`:                                                             `x.yaml:7:5: mask[0]: with what?`,
		`{colum: public.c.a, with: hash}`:                                                  `did you mean "column"?`,
		`{column: public.c.a, with: hash, nulls: shown}`:                                   `one of hide, show is expected (did you mean "show"?)`,
		`{column: public.c.b, with: hash}`:                                                 `x.yaml:7:5: mask[0]: the rule at x.yaml:5 writes public.c.b, which the gateway would refuse`,
		`{column: public.c.b, with: 'tokenize("k")'}`:                                      `beside tokenize("k") a value`,
		`{column: public.c.a, with: hash, oracle: accept}`:                                 `unknown key`,
		"{column: public.c.a, with: hash}\n  - {column: public.c.a, with: 'fixed(\"x\")'}": `x.yaml:8:5: mask[1]: public.c.a has a mask already, at `,
	} {
		_, err := load(t, map[string]string{"x.yaml": head + "  - " + line + "\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	_, err := load(t, map[string]string{"x.yaml": head + "  - {column: a, with: b}\n  - {column: public.c.b, with: hash}\n  - {column: public.c.a, with: bucket(0)}\n  - x\n"})
	var faults strict.Faults
	if !errors.As(err, &faults) || len(faults) < 5 {
		t.Errorf("at once: %v", err)
	}
	var many strings.Builder
	for i := range maxMasks + 1 {
		fmt.Fprintf(&many, "  - {column: public.c.c%d, with: hash}\n", i)
	}
	if _, err := load(t, map[string]string{"x.yaml": head + many.String()}); err == nil || !strings.Contains(err.Error(), "x.yaml:2007:5: mask[2000]: at most 2000 masks") {
		t.Error(err)
	}
	if _, err := load(t, map[string]string{"x.yaml": head + "  - {column: public.c.a, with: hash}\n  - {column: public.c.b, with: 'keep(1, 2)'}\n"}); err != nil {
		t.Errorf("a mask that may be written: %v", err)
	}
}

// TestMaskWarnings: what stops nobody and is probably not meant.
func TestMaskWarnings(t *testing.T) {
	for text, want := range map[string]string{
		"allow:\n  - {verbs: [select], tables: [public.c], columns: [id]}\nmask: [{column: public.c.a, with: hash}]\n":                                                     "x.yaml:5:8: mask[0]: no select rule lists public.c.a: it masks nothing but what a view or a parent table shows of it",
		"allow:\n  - {verbs: [update], tables: [public.c], columns: [id], where: key}\nmask: [{column: public.c.id, with: 'keep(1, 1)'}]\n":                                "",
		"allow:\n  - {verbs: [select], tables: [public.c], columns: all}\nmask: [{column: public.c.a, with: hash}]\n":                                                      "x.yaml:4:5: allow[0]: columns: all of public.c, of which the task masks columns",
		"oracle: accept\nallow:\n  - {verbs: [select], tables: [public.c], columns: [id]}\n":                                                                               "oracle: it accepts nothing",
		"allow:\n  - {verbs: [select], tables: [public.c], columns: [a]}\nmask: [{column: public.c.a, with: hash}]\n":                                                      "",
		"allow:\n  - {verbs: [delete], tables: [public.c], rows: 3}\n  - {verbs: [delete], tables: [public.c], rows: 2}\n":                                                 "x.yaml:5:5: allow[1]: the rule adds nothing",
		"allow:\n  - {verbs: [delete], tables: [public.c], rows: 3}\n  - {verbs: [delete], tables: [public.c], where: key}\n":                                              "",
		"allow:\n  - {verbs: [delete], tables: [public.c]}\nreview:\n  - {verbs: [delete], tables: [public.c], rows: 2, by: {groups: [g]}, summary: s, on_hold: refuse}\n": "the rule holds nothing",
	} {
		c, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [r]\n" + text})
		if err != nil {
			t.Fatal(text, err)
		}
		if got := c.Warnings.Error(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
