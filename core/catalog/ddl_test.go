package catalog

import (
	"strings"
	"testing"
)

const migrating = `task: x
resources: [shop]
allow:
  - ddl:
      - {verbs: [create_table, alter_table], in: [public.*]}
      - {verbs: [create_index, drop_index], in: [public.orders]}
      - {verbs: [create_schema], in: [app]}
      - {verbs: [create_function], in: [public.f]}
review:
  - {ddl: [{verbs: [drop_table], in: [public.*]}], on_hold: keep, by: {groups: [dba]}}
`

// TestDefinitions: each element of a ddl rule is a rule of its own, and what
// none could match is a fault at its place.
func TestDefinitions(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": migrating})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Tasks["x"].Rules
	if len(r) != 5 || len(c.Warnings) > 0 || r[0].In[0] != "public.*" || r[0].Verbs[1] != "alter_table" || r[0].At != "x.yaml:4" || r[1].Review != nil || r[4].Review == nil || r[4].Review.OnHold != "keep" {
		t.Fatalf("%+v %v", r, c.Warnings)
	}
	for text, want := range map[string]string{
		"ddl: []": "a list is expected",
		"ddl: [{verbs: [create_tabel], in: [a.b]}]":                    `x.yaml:4:21: allow[0].ddl[0].verbs[0]: "create_tabel": one of`,
		"ddl: [{verbs: [], in: [a.b]}]":                                "ddl names what may be done",
		"ddl: [{in: [a.b]}]":                                           "ddl names what may be done",
		"ddl: [{verbs: [comment]}]":                                    "ddl names what it may be done to",
		"ddl: [{verbs: [comment], in: []}]":                            "ddl names what it may be done to",
		"ddl: [{verbs: [create_table], in: [t]}]":                      `x.yaml:4:41: allow[0].ddl[0].in[0]: "t": a name with its schema is expected: public.t`,
		"ddl: [{verbs: [create_table], in: ['*']}]":                    "a name, or all of a schema",
		"ddl: [{verbs: [create_table], in: ['*.t']}]":                  "a name, or all of a schema",
		"ddl: [{verbs: [create_table], in: ['public.t_*']}]":           "a name, or all of a schema",
		"ddl: [{verbs: [create_table], in: [pg_catalog.*]}]":           "cannot be changed",
		"ddl: [{verbs: [create_schema], in: [a.b]}]":                   "the name of a schema is expected",
		"ddl: [{verbs: [create_schema, create_table], in: [a]}]":       "in an element of their own, with the names of schemas",
		"ddl: [{verbs: [create_function], in: [public.*]}]":            "functions are listed one by one",
		"ddl: [{verbs: [create_function, create_table], in: [a.b]}]":   "who makes a function may make it do anything",
		"ddl: [{verbs: [create_table], in: [a.*], columns: [b]}]":      `unknown key`,
		"ddl: [{verbs: [create_table], in: [a.*]}], tables: [a.b]":     "it does not go with ddl",
		"ddl: [{verbs: [create_table], in: [a.*]}], verbs: [select]":   "it does not go with ddl",
		"ddl: [{verbs: [create_table], in: [a.*]}], by: {groups: [x]}": "only a review rule",
		"ddl: [{verbs: [create_table], in: [a.*]}], exec: [[ls]]":      "ddl",
		"verbs: [create_table], tables: [a.b]":                         "one of",
	} {
		_, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [shop]\nallow:\n  - {" + text + "}\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v", text, err)
		}
	}
}
