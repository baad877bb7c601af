package catalog

import (
	"fmt"
	"strings"
	"testing"
)

const finding = `task: x
resources: [shop]
allow:
  - {verbs: [select], tables: [public.customers], columns: [id, email, card]}
mask:
  - {column: public.customers.email, with: keep_from("@"), filter: eq}
  - {column: public.customers.card, with: 'keep(0, 4)'}
`

// TestFilter: a mask may let its column be compared with values; the guard and
// the reader of texts are told the same.
func TestFilter(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": finding})
	if err != nil || len(c.Warnings) > 0 {
		t.Fatal(err, c.Warnings)
	}
	x := c.Tasks["x"]
	if got := fmt.Sprint(x.Filtered()); got != "[{[public customers] email false false}]" {
		t.Error(got)
	}
	if p := x.compiled(); !p.Masks[0].Filter || p.Masks[1].Filter {
		t.Errorf("%+v", p.Masks)
	}
	c, err = load(t, map[string]string{"x.yaml": strings.Replace(finding, ", filter: eq", "", 1)})
	if err != nil || c.Tasks["x"].Digest() == x.Digest() || c.Tasks["x"].Filtered() != nil {
		t.Errorf("%v, or the same digest", err)
	}
	if c, err = load(t, map[string]string{"x.yaml": strings.Replace(finding, "verbs: [select]", "verbs: [insert]", 1)}); err != nil || !strings.Contains(c.Warnings.Error(), "x.yaml:6:5: mask[0]: filter: no select rule lists public.customers.email, so that it stands in no condition") {
		t.Errorf("%v %v", err, c.Warnings)
	}
}

// TestFilterFaults: where it says nothing, or says too much.
func TestFilterFaults(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"filter: eq", "filter: like"}:                                           `x.yaml:6:68: mask[0].filter: "like": one of eq is expected`,
		{"filter: eq", "filter: true"}:                                           `x.yaml:6:68: mask[0].filter: `,
		{`keep_from("@")`, "hash"}:                                               `x.yaml:6:58: mask[0].filter: hash shows equal values as equal, and a value that is found would stand beside what shows it everywhere`,
		{`keep_from("@")`, `'tokenize("k")'`}:                                    `x.yaml:6:69: mask[0].filter: tokenize("k") shows`,
		{"resources: [shop]", "resources: [shop]\nblind: true"}:                  `x.yaml:7:68: mask[0].filter: the task is blind: its conditions meet what the masks show`,
		{"columns: [id, email, card]", "columns: [id, email, card], filter: eq"}: `x.yaml:4:87: allow[0].filter: it stands at the column's mask: mask: [{column: public.customers.email, with: keep_from("@"), filter: eq}]`,
		{"allow:", "filter: eq\nallow:"}:                                         `x.yaml:3:9: filter: unknown key`,
	} {
		_, err := load(t, map[string]string{"x.yaml": strings.Replace(finding, change[0], change[1], 1)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %s", change[1], err, want)
		}
	}
}
