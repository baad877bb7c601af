package policy

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// What changes a database's own catalog, or keeps its tables in order, is listed by
// verb and by the names that it may make, change and drop.

// DDL are the verbs of such rules, by the kinds of objects that they are for.
var DDL = map[string][]string{
	"create_table": {abi.KindRelation}, "alter_table": {abi.KindRelation}, "drop_table": {abi.KindRelation},
	"create_index": {abi.KindRelation}, "drop_index": {abi.KindRelation},
	"create_view": {abi.KindRelation}, "drop_view": {abi.KindRelation},
	"create_sequence": {abi.KindRelation}, "alter_sequence": {abi.KindRelation}, "drop_sequence": {abi.KindRelation},
	"create_type": {abi.KindType}, "alter_type": {abi.KindType}, "drop_type": {abi.KindType},
	"create_schema": {abi.KindSchema}, "drop_schema": {abi.KindSchema},
	"create_function": {abi.KindRoutine}, "drop_function": {abi.KindRoutine},
	"analyze": {abi.KindRelation}, "vacuum": {abi.KindRelation}, "reindex": {abi.KindRelation}, "cluster": {abi.KindRelation},
	"comment": {abi.KindRelation, abi.KindType, abi.KindSchema},
}

// defines finds the rule under which an operation on the catalog may be done.
// ok is false where it is none.
func (t *Task) defines(o *abi.Operation) (r *Rule, m *miss, ok bool) {
	kinds := DDL[o.Verb]
	if !slices.Contains(kinds, o.Kind) {
		return nil, nil, false
	}
	var held *Rule
	m = &miss{what: o.Verb + " of " + table(o) + " is not in this task"}
	for i := range t.Rules {
		r := &t.Rules[i]
		switch {
		case len(r.In) == 0:
		case !slices.ContainsFunc(r.In, func(in string) bool { return inside(o.Object, in) }):
		case !slices.Contains(r.Verbs, o.Verb):
			m.closest = "closest is rule " + r.At + ": " + r.String()
		case r.Review == nil:
			return r, nil, true
		case held == nil:
			held = r
		}
	}
	if held != nil {
		return held, nil, true
	}
	return nil, m, true
}

// inside says whether a name is one that a rule lists: itself, or all of its
// schema.
func inside(object []string, in string) bool {
	if all, ok := strings.CutSuffix(in, ".*"); ok && len(object) == 2 {
		return object[0] == all
	}
	return strings.Join(object, ".") == in
}

// own says whether an operation is on what the open transaction has made, in a
// task that may make things: until the end of the transaction it is listed.
func (t *Task) own(o *abi.Operation) bool {
	return o.Attrs&abi.Own != 0 && o.Kind == abi.KindRelation && slices.ContainsFunc(t.Rules, func(r Rule) bool { return len(r.In) > 0 })
}
