package policy

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestDefinitions: what changes the catalog needs its own verb and a name that
// is listed; what a transaction has made is listed for whoever may make things.
func TestDefinitions(t *testing.T) {
	held := &Review{Groups: []string{"dba"}, People: 1}
	migrate := []Rule{
		{Verbs: []string{"create_table", "alter_table", "comment"}, In: []string{"public.*"}},
		{Verbs: []string{"create_schema", "comment"}, In: []string{"app"}},
		{Verbs: []string{"create_function"}, In: []string{"public.f"}},
		{Verbs: []string{"drop_table"}, In: []string{"public.old"}, Review: held},
		{Verbs: []string{"vacuum", "analyze"}, In: []string{"public.*"}},
		{Verbs: []string{"cluster"}, In: []string{"public.old"}, Review: held},
		{Verbs: []string{"select"}, Tables: []string{"public.t"}, Columns: []string{"id"}},
	}
	op := func(verb, kind string, object ...string) abi.Operation {
		return abi.Operation{Verb: verb, Kind: kind, Object: object, Effect: abi.EffectWrite}
	}
	own := func(o abi.Operation) abi.Operation { o.Attrs |= abi.Own; return o }
	for _, c := range []struct {
		op    abi.Operation
		rules []Rule
		want  abi.Decision
	}{
		{op("create_table", abi.KindRelation, "public", "t"), migrate, abi.Allow},
		{op("create_table", abi.KindRelation, "app", "t"), migrate, abi.Deny},
		{op("create_table", abi.KindRelation, "public.x", "t"), migrate, abi.Deny},
		{op("create_index", abi.KindRelation, "public", "t"), migrate, abi.Deny},
		{op("drop_table", abi.KindRelation, "public", "t"), migrate, abi.Deny},
		{op("drop_table", abi.KindRelation, "public", "old"), migrate, abi.Review},
		{op("create_schema", abi.KindSchema, "app"), migrate, abi.Allow},
		{op("create_schema", abi.KindSchema, "public"), migrate, abi.Deny},
		{op("create_schema", abi.KindRelation, "app"), migrate, abi.Deny},
		{op("comment", abi.KindSchema, "app"), migrate, abi.Allow},
		{op("comment", abi.KindRelation, "public", "t"), migrate, abi.Allow},
		{op("comment", abi.KindRelation, "app", "t"), migrate, abi.Deny},
		{op("create_function", abi.KindRoutine, "public", "f"), migrate, abi.Allow},
		{op("create_function", abi.KindRoutine, "public", "g"), migrate, abi.Deny},
		{op("create_table", abi.KindRoutine, "public", "g"), migrate, abi.Deny},
		{op("grant", abi.KindStatement), migrate, abi.Deny},
		{op("vacuum", abi.KindRelation, "public", "t"), migrate, abi.Allow},
		{op("vacuum", abi.KindRelation, "app", "t"), migrate, abi.Deny},
		{op("reindex", abi.KindRelation, "public", "t"), migrate, abi.Deny},
		{op("cluster", abi.KindRelation, "public", "old"), migrate, abi.Review},
		{op("analyze", abi.KindStatement), migrate, abi.Deny},
		{own(op("cluster", abi.KindRelation, "public", "made")), migrate, abi.Allow},
		{op("create_table", abi.KindRelation, "public", "t"), migrate[6:], abi.Deny},
		{op("delete", abi.KindRelation, "public", "made"), migrate, abi.Deny},
		{own(op("delete", abi.KindRelation, "public", "made")), migrate, abi.Allow},
		{own(op("drop_table", abi.KindRelation, "public", "made")), migrate, abi.Allow},
		{own(op("delete", abi.KindRelation, "public", "made")), migrate[6:], abi.Deny},
		{own(op("call", abi.KindFunction, "public", "made")), migrate, abi.Deny},
	} {
		config := Config{Tasks: map[string]*Task{"x": {Rules: c.rules}}}
		var v abi.Verdict
		config.Judge(&abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Operations: []abi.Operation{c.op}}}, &v)
		if v.Decision != c.want {
			t.Errorf("%s: %d, not %d (%s)", c.op.String(), v.Decision, c.want, v.Reason.Message)
		}
	}
}
