package catalog

import (
	"maps"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// A rule for what changes a database's own catalog:
// {ddl: [{verbs: [create_table, alter_table], in: [public.*]}]}.

// definitions reads the list of such a rule: one rule for each of its elements.
func definitions(n strict.Node) (rules []policy.Rule) {
	for _, e := range n.List() {
		r := policy.Rule{}
		var in strict.Node
		verbless := true
		e.Fields(map[string]func(strict.Node){
			"verbs": func(v strict.Node) {
				verbless = v.IsEmpty()
				for _, w := range v.List() {
					if s := w.One(slices.Sorted(maps.Keys(policy.DDL))...); s != "" {
						r.Verbs = append(r.Verbs, s)
					}
				}
			},
			"in": func(v strict.Node) { in, r.In = v, v.Strings() },
		})
		switch {
		case verbless:
			e.Fault("ddl names what may be done: verbs: [create_table, alter_table]")
		case !in.Exists() || len(r.In) == 0:
			e.Fault("ddl names what it may be done to: in: [public.*], or single names: in: [public.orders]")
		case len(r.Verbs) > 0:
			names(in, r.Verbs)
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 && n.IsEmpty() {
		n.Fault("a list is expected: ddl: [{verbs: [create_table], in: [public.*]}]")
	}
	return rules
}

// names holds what a rule lists against what its verbs are for.
func names(in strict.Node, verbs []string) {
	is := func(kind string) func(string) bool {
		return func(verb string) bool { return slices.Contains(policy.DDL[verb], kind) }
	}
	schemas, functions := slices.ContainsFunc(verbs, is(abi.KindSchema)), slices.ContainsFunc(verbs, is(abi.KindRoutine))
	others := slices.ContainsFunc(verbs, func(v string) bool { return is(abi.KindRelation)(v) || is(abi.KindType)(v) })
	only := func(kind string) bool {
		return !slices.ContainsFunc(verbs, func(v string) bool { return v != "comment" && !is(kind)(v) })
	}
	switch {
	case functions && !only(abi.KindRoutine):
		in.Fault("create_function and drop_function stand in an element of their own: who makes a function may make it do anything")
		return
	case schemas && others && !slices.ContainsFunc(verbs, func(v string) bool { return v != "comment" && is(abi.KindSchema)(v) }): // comment alone is for all
	case schemas && !only(abi.KindSchema):
		in.Fault("create_schema and drop_schema stand in an element of their own, with the names of schemas: in: [app]")
		return
	}
	for _, v := range in.List() {
		s := v.String()
		schema, name, qualified := strings.Cut(s, ".")
		switch {
		case s == "": // it has its fault
		case strings.Contains(schema, "*") || strings.Contains(name, "*") && (name != "*" || functions):
			if functions {
				v.Fault("%q: functions are listed one by one, each may do anything", s)
			} else {
				v.Fault("%q: a name, or all of a schema as in public.*, is expected", s)
			}
		case schema == "information_schema" || strings.HasPrefix(schema, "pg_") && schema != "pg_temp":
			v.Fault("%q: what is the server's own cannot be changed", s)
		case schemas && !others && qualified:
			v.Fault("%q: the name of a schema is expected", s)
		case !qualified && !schemas || qualified && (schema == "" || name == ""):
			v.Fault("%q: a name with its schema is expected: public.%s", s, strings.TrimPrefix(s, "."))
		}
	}
}
