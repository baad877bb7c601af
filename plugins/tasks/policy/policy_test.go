package policy

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

var shop = Config{Tasks: map[string]*Task{"x": {Rows: 10, Timeout: 500, Rules: []Rule{
	{At: "x.yaml:5", Verbs: []string{"select"}, Tables: []string{"public.orders"}, Columns: []string{"id", "status"}},
	{At: "x.yaml:6", Verbs: []string{"select"}, Tables: []string{"public.orders", "public.v"}, Columns: []string{"total"}},
	{At: "x.yaml:7", Verbs: []string{"update"}, Tables: []string{"public.orders"}, Columns: []string{"status"}, Where: "key"},
	{At: "x.yaml:8", Verbs: []string{"update"}, Tables: []string{"public.orders"}, Columns: []string{"status"}, Review: &Review{Groups: []string{"dba"}, People: 1}, Where: "required"},
	{At: "x.yaml:9", Verbs: []string{"delete"}, Tables: []string{"public.orders"}, Where: "required", Effects: []string{"public.items", "trigger public.items.log"}, Pinned: map[string][]string{"trigger public.items.log": {"abc"}}},
	{At: "x.yaml:10", Verbs: []string{"call"}, Functions: []string{"public.purge"}},
	{At: "x.yaml:11", Verbs: []string{"insert"}, Tables: []string{"public.notes"}, Columns: []string{"*"}},
	{At: "x.yaml:12", Verbs: []string{"delete"}, Tables: []string{"public.notes"}},
}}}}

func op(verb, object string, attrs abi.Attr, via string, columns ...string) abi.Operation {
	o := abi.Operation{Verb: verb, Kind: abi.KindRelation, Object: strings.Split(object, "."), Attrs: attrs, Via: via, Effect: abi.EffectWrite}
	use := abi.UseWritten
	if verb == "select" {
		o.Effect, use = abi.EffectRead, abi.UseCopied
	}
	for _, c := range columns {
		o.Columns = append(o.Columns, abi.Column{Name: c, Use: use})
	}
	return o
}

func TestJudge(t *testing.T) {
	call := func(f, via string) abi.Operation {
		return abi.Operation{Verb: "call", Kind: abi.KindFunction, Object: strings.Split(f, "."), Via: via, Effect: abi.EffectWrite}
	}
	sourced := func(hash, f, via string) abi.Operation {
		o := call(f, via)
		o.Value = hash
		return o
	}
	const key = abi.HasWhere | abi.WhereKey
	for name, c := range map[string]struct {
		ops  []abi.Operation
		want abi.Decision
		says string
	}{
		"nothing":                    {nil, abi.Allow, ""},
		"listed":                     {[]abi.Operation{op("select", "public.orders", 0, "", "id", "status")}, abi.Allow, ""},
		"the union of two rules":     {[]abi.Operation{op("select", "public.orders", 0, "", "id", "total")}, abi.Allow, ""},
		"no column at all":           {[]abi.Operation{op("select", "public.orders", 0, "")}, abi.Allow, ""},
		"an unlisted column":         {[]abi.Operation{op("select", "public.orders", 0, "", "id", "note")}, abi.Deny, "column note of public.orders"},
		"an unlisted table":          {[]abi.Operation{op("select", "public.customers", 0, "", "id")}, abi.Deny, "select on public.customers"},
		"another schema":             {[]abi.Operation{op("select", "private.orders", 0, "", "id")}, abi.Deny, ""},
		"by key":                     {[]abi.Operation{op("update", "public.orders", key, "", "status")}, abi.Allow, ""},
		"by a condition: held":       {[]abi.Operation{op("update", "public.orders", abi.HasWhere, "", "status")}, abi.Review, "approval of dba"},
		"without a condition":        {[]abi.Operation{op("update", "public.orders", 0, "", "status")}, abi.Deny, "needs a condition"},
		"another column":             {[]abi.Operation{op("update", "public.orders", key, "", "total")}, abi.Deny, "column total"},
		"one of two is not allowed":  {[]abi.Operation{op("select", "public.orders", 0, "", "id"), op("delete", "public.notes2", 0, "")}, abi.Deny, ""},
		"beneath a view, listed":     {[]abi.Operation{op("insert", "public.notes", 0, ""), op("insert", "public.notes", 0, "view public.v", "x")}, abi.Allow, ""},
		"beneath a view, accepted":   {[]abi.Operation{op("delete", "public.orders", key, ""), op("update", "public.items", 0, "view public.v", "x")}, abi.Allow, ""},
		"beneath a view, unlisted":   {[]abi.Operation{op("delete", "public.notes", 0, ""), op("update", "public.items", 0, "view public.v", "x")}, abi.Deny, "also update rows of public.items by the view public.v"},
		"beneath a view, by its own": {[]abi.Operation{op("delete", "public.notes", 0, ""), op("update", "public.orders", key, "view public.v", "status")}, abi.Deny, "by the view"},
		"by a rule, accepted":        {[]abi.Operation{op("delete", "public.orders", key, ""), op("insert", "public.items", 0, "rule public.orders.r", "x")}, abi.Allow, ""},
		"by a rule, unlisted":        {[]abi.Operation{op("delete", "public.notes", 0, ""), op("insert", "public.items", 0, "rule public.notes.r")}, abi.Deny, "by the rule public.notes.r"},
		"read by a rule":             {[]abi.Operation{op("delete", "public.notes", 0, ""), op("select", "public.customers", 0, "rule public.notes.r", "card")}, abi.Deny, "by the rule public.notes.r"},
		"a function by a rule":       {[]abi.Operation{op("delete", "public.notes", 0, ""), call("public.boom", "rule public.notes.r")}, abi.Deny, "the server would also"},
		"a cascade, accepted":        {[]abi.Operation{op("delete", "public.orders", key, ""), op("delete", "public.items", 0, "fk public.items.f")}, abi.Allow, ""},
		"a cascade, not accepted":    {[]abi.Operation{op("delete", "public.orders", key, ""), op("delete", "public.other", 0, "fk public.other.f")}, abi.Deny, "foreign key public.other.f"},
		"a cascade of another rule":  {[]abi.Operation{op("delete", "public.notes", 0, ""), op("delete", "public.items", 0, "fk public.items.f")}, abi.Deny, ""},
		"a trigger, accepted":        {[]abi.Operation{op("delete", "public.orders", key, ""), sourced("abc", "public.log", "trigger public.items.log")}, abi.Allow, ""},
		"a trigger that has changed": {[]abi.Operation{op("delete", "public.orders", key, ""), sourced("def", "public.log", "trigger public.items.log")}, abi.Deny, "is not the one that was accepted"},
		"a trigger, not accepted":    {[]abi.Operation{op("delete", "public.orders", key, ""), call("public.log", "trigger public.items.other")}, abi.Deny, "trigger public.items.other"},
		"behind a listed view":       {[]abi.Operation{op("select", "public.v", 0, "", "total"), op("select", "public.secret", 0, "view public.v", "x")}, abi.Allow, ""},
		"a function in a view":       {[]abi.Operation{op("select", "public.v", 0, "", "total"), call("public.evil", "view public.v")}, abi.Deny, ""},
		"a listed function":          {[]abi.Operation{call("public.purge", "")}, abi.Allow, ""},
		"an unlisted function":       {[]abi.Operation{call("pg_catalog.pg_read_file", "")}, abi.Deny, "pg_read_file"},
		"PS07 a statement":           {[]abi.Operation{{Verb: "drop table", Kind: abi.KindStatement}}, abi.Deny, "drop table"},
		"an unknown kind":            {[]abi.Operation{{Verb: "select", Kind: "galaxy", Effect: abi.EffectRead, Attrs: abi.Floor}}, abi.Deny, ""},
		"the floor":                  {[]abi.Operation{{Verb: "commit", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor}}, abi.Allow, ""},
		"not the floor":              {[]abi.Operation{{Verb: "commit prepared", Kind: abi.KindTransaction, Effect: abi.EffectWrite}}, abi.Deny, ""},
		"PS10 set role":              {[]abi.Operation{{Verb: "set", Kind: abi.KindSetting, Object: []string{"role"}, Effect: abi.EffectWrite}}, abi.Deny, "the setting role may not be changed in this task"},
		"rows locked, updatable":     {[]abi.Operation{op("select", "public.orders", abi.RowLock, "", "id")}, abi.Allow, ""},
		"rows locked, deletable":     {[]abi.Operation{op("select", "public.notes", abi.RowLock, "", "a")}, abi.Deny, "locking rows"},
		"insert, every column":       {[]abi.Operation{op("insert", "public.notes", 0, "", "a", "b")}, abi.Allow, ""},
	} {
		v := abi.Verdict{}
		shop.Judge(&abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Operations: c.ops}}, &v)
		if v.Decision != c.want || !strings.Contains(v.Reason.Message, c.says) {
			t.Errorf("%s: %v %+v", name, v.Decision, v.Reason)
		}
		if v.Decision == abi.Allow && (v.Terms.RowsReturned != 10 || v.Limits.StatementTimeout != 500 || v.ShowErrors) {
			t.Errorf("%s: the limits are lost: %+v", name, v)
		}
	}
	var v abi.Verdict
	shop.Judge(&abi.Command{Session: &abi.Session{Task: "y"}, Statement: &abi.Statement{}}, &v)
	if v.Decision != abi.Deny {
		t.Error("a task that the catalog does not have")
	}
	shop.Judge(&abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Incomplete: "?"}}, &v)
	if v.Decision != abi.Deny {
		t.Error("what is not understood is allowed")
	}
}

func BenchmarkJudge(b *testing.B) {
	cmd := &abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Operations: []abi.Operation{op("select", "public.orders", 0, "", "id", "status", "total")}}}
	b.ReportAllocs()
	for b.Loop() {
		var v abi.Verdict
		shop.Judge(cmd, &v)
	}
}

// TestIs: a name is compared as if it were made.
func TestIs(t *testing.T) {
	objects := [][]string{nil, {"a"}, {"a.b"}, {"a", "b"}, {"a", "b.c"}, {"a.b", "c"}, {"", "a"}, {"a", ""}, {"", ""}, {"a", "b", "c"}, {"ab", ""}, {"a", "bb"}}
	for _, o := range objects {
		for _, name := range []string{"", ".", "a", "a.b", "a.b.c", ".a", "a.", "ab", "ab.", "a.bb", "a.b.", "b.a", "aab"} {
			op := &abi.Operation{Object: o}
			if got := is(op, name); got != (table(op) == name) {
				t.Errorf("%q %q: %v", o, name, got)
			}
		}
	}
}
