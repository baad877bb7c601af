package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

var email = abi.Protect{Relation: []string{"public", "customers"}, Column: "email", Kind: abi.MaskKeep, Arg: "2,2"}

func judged(t *Task, ops ...abi.Operation) *abi.Verdict {
	v := &abi.Verdict{}
	(&Config{Tasks: map[string]*Task{"x": t}}).Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Operations: ops}}, v)
	return v
}

func protects(v *abi.Verdict) string {
	var list []string
	for _, p := range v.Protect {
		s := strings.Join(p.Relation, ".") + "." + p.Column
		if p.Unlisted {
			s += "?"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

// TestProtect: whatever is on a relation carries every mask; what is not listed
// for reading is told of where errors or constraints could tell of it.
func TestProtect(t *testing.T) {
	rules := []Rule{
		{At: "1", Verbs: []string{"select"}, Tables: []string{"public.orders"}, Columns: []string{"id"}},
		{At: "2", Verbs: []string{"select"}, Tables: []string{"public.free"}, Columns: []string{"*"}},
		{At: "3", Verbs: []string{"select"}, Tables: []string{"public.held"}, Columns: []string{"*"}, Review: &Review{Groups: []string{"dba"}, People: 1}},
		{At: "4", Verbs: []string{"insert"}, Tables: []string{"public.notes"}, Columns: []string{"*"}},
		{At: "5", Verbs: []string{"select"}, Tables: []string{"public.v"}, Columns: []string{"*"}},
	}
	tested := op("insert", "public.notes", 0, "", "id")
	tested.Columns[0].Use |= abi.UseTested
	listed := op("insert", "public.notes", 0, "", "id")
	other := op("test", "public.other", 0, "fk public.notes.f", "id")
	other.Effect, other.Columns[0].Use = abi.EffectRead, abi.UseTested
	known := append([]Rule{{At: "0", Verbs: []string{"select"}, Tables: []string{"public.notes"}, Columns: []string{"id"}}}, rules...)
	floor := abi.Operation{Verb: "commit", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor}
	for name, c := range map[string]struct {
		task *Task
		ops  []abi.Operation
		want string
	}{
		"no relation":                  {&Task{Rules: rules, Masks: []abi.Protect{email}, ShowErrors: true}, []abi.Operation{floor}, ""},
		"another relation":             {&Task{Rules: rules, Masks: []abi.Protect{email}}, []abi.Operation{op("select", "public.orders", 0, "", "id")}, "public.customers.email"},
		"no mask":                      {&Task{Rules: rules}, []abi.Operation{op("select", "public.orders", 0, "", "id")}, ""},
		"errors, a part":               {&Task{Rules: rules, ShowErrors: true}, []abi.Operation{op("select", "public.orders", 0, "", "id")}, "public.orders.*?"},
		"errors, all of it":            {&Task{Rules: rules, ShowErrors: true}, []abi.Operation{op("select", "public.free", 0, "", "id")}, ""},
		"errors, all of it once held":  {&Task{Rules: rules, ShowErrors: true}, []abi.Operation{op("select", "public.held", 0, "", "id")}, "public.held.*?"},
		"errors, written only":         {&Task{Rules: rules, ShowErrors: true}, []abi.Operation{op("insert", "public.notes", 0, "", "id"), op("insert", "public.notes", 0, "", "v")}, "public.notes.*?"},
		"errors, behind a view":        {&Task{Rules: rules, ShowErrors: true, Masks: []abi.Protect{email}}, []abi.Operation{op("select", "public.v", 0, "", "id"), op("select", "public.t", 0, "view public.v", "id")}, "public.customers.email public.t.*?"},
		"oracle, unset":                {&Task{Rules: rules}, []abi.Operation{tested}, ""},
		"oracle, refused":              {&Task{Rules: rules, Oracle: "refuse"}, []abi.Operation{tested}, "public.notes.id?"},
		"oracle, refused, not tested":  {&Task{Rules: rules, Oracle: "refuse"}, []abi.Operation{listed}, ""},
		"oracle, refused, but listed":  {&Task{Rules: known, Oracle: "refuse"}, []abi.Operation{tested}, ""},
		"oracle, accepted":             {&Task{Rules: rules, Oracle: "accept", Masks: []abi.Protect{email}}, []abi.Operation{tested}, "public.customers.email"},
		"a key of another table":       {&Task{Rules: rules}, []abi.Operation{listed, other}, ""},
		"a key, refused":               {&Task{Rules: rules, Oracle: "refuse"}, []abi.Operation{listed, other}, "public.other.id?"},
		"a key, errors":                {&Task{Rules: append([]Rule{{Verbs: []string{"select"}, Tables: []string{"public.notes"}, Columns: []string{"*"}}}, rules...), ShowErrors: true}, []abi.Operation{listed, other}, "public.other.*?"},
		"a schema with a dot is other": {&Task{Rules: []Rule{{Verbs: []string{"select"}, Tables: []string{"a.b.c"}, Columns: []string{"*"}}}, ShowErrors: true}, []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"a.b", "c"}, Effect: abi.EffectRead}}, "a.b.c.*?"},
	} {
		v := judged(c.task, c.ops...)
		if got := protects(v); v.Decision == abi.Deny || got != c.want {
			t.Errorf("%s: %v %q, want %q", name, v.Decision, got, c.want)
		}
		if got := strings.Join(v.Terms.Oracle, ","); got != c.task.Oracle {
			t.Errorf("%s: oracle %q", name, got)
		}
	}
	many := &Task{Rules: rules, ShowErrors: true, Masks: append(make([]abi.Protect, 0, 8), email)}
	for range 2 { // one verdict's does not get into another's, or into the task
		if got := protects(judged(many, op("select", "public.orders", 0, "", "id"))); got != "public.customers.email public.orders.*?" || len(many.Masks) != 1 || many.Masks[:2][1].Column != "" {
			t.Errorf("%q, %v", got, many.Masks[:2])
		}
	}
}

// TestRows: of rules for one operation the widest counts, over a command the
// narrowest that it needs.
func TestRows(t *testing.T) {
	task := &Task{Rules: []Rule{
		{At: "1", Verbs: []string{"update"}, Tables: []string{"public.a"}, Columns: []string{"v"}, Rows: 5},
		{At: "2", Verbs: []string{"update"}, Tables: []string{"public.a"}, Columns: []string{"v"}, Rows: 50, Where: "required"},
		{At: "3", Verbs: []string{"update"}, Tables: []string{"public.a"}, Columns: []string{"v"}, Where: "key"},
		{At: "4", Verbs: []string{"delete"}, Tables: []string{"public.b"}, Rows: 7},
		{At: "5", Verbs: []string{"delete"}, Tables: []string{"public.c"}, Rows: 3, Review: &Review{Groups: []string{"dba"}, People: 1}},
		{At: "6", Verbs: []string{"insert"}, Tables: []string{"public.a"}, Columns: []string{"v"}},
		{At: "7", Verbs: []string{"insert"}, Tables: []string{"public.a"}, Columns: []string{"w"}, Rows: 2},
	}}
	set := func(attrs abi.Attr) abi.Operation { return op("update", "public.a", attrs, "", "v") }
	for name, c := range map[string]struct {
		ops  []abi.Operation
		want abi.Decision
		rows uint64
	}{
		"all":                    {[]abi.Operation{set(0)}, abi.Allow, 5},
		"a condition":            {[]abi.Operation{set(abi.HasWhere)}, abi.Allow, 50},
		"a key":                  {[]abi.Operation{set(abi.HasWhere | abi.WhereKey)}, abi.Allow, 0},
		"two":                    {[]abi.Operation{set(abi.HasWhere), op("delete", "public.b", 0, "")}, abi.Allow, 7},
		"held":                   {[]abi.Operation{op("delete", "public.c", 0, ""), set(abi.HasWhere)}, abi.Review, 3},
		"without":                {[]abi.Operation{op("insert", "public.a", 0, "", "v")}, abi.Allow, 0},
		"whole, not the union":   {[]abi.Operation{op("insert", "public.a", 0, "", "v", "w")}, abi.Deny, 0},
		"not for what is behind": {[]abi.Operation{set(0), op("delete", "public.b", 0, "fk public.b.f")}, abi.Deny, 0},
	} {
		if v := judged(task, c.ops...); v.Decision != c.want || v.Terms.RowsWritten != c.rows {
			t.Errorf("%s: %v %d %v", name, v.Decision, v.Terms.RowsWritten, v.Reason)
		}
	}
	if got := task.Rules[3].String(); got != "delete public.b, at most 7 rows" {
		t.Error(got)
	}
}

// TestReviews: what holds a command asks for one approval, or it is refused.
func TestReviews(t *testing.T) {
	held := func(at, table string, r Review) Rule {
		return Rule{At: at, Verbs: []string{"delete"}, Tables: []string{table}, Review: &r}
	}
	task := &Task{Rules: []Rule{
		held("1", "public.a", Review{Groups: []string{"dba", "sre"}, People: 2, Within: 60, Justify: true, Summary: "tidy a", OnHold: "keep", Payload: "unseen"}),
		held("2", "public.b", Review{Groups: []string{"sre", "dba"}, People: 2, Within: 60, Justify: true, OnHold: "keep"}),
		held("3", "public.c", Review{Groups: []string{"dba", "sre"}, People: 2, Within: 60, Justify: true, OnHold: "refuse", Payload: "unseen"}),
		held("4", "public.d", Review{Groups: []string{"dba"}, People: 2, Within: 60, Justify: true}),
		held("5", "public.e", Review{Groups: []string{"dba", "sre"}, People: 1, Within: 60, Justify: true}),
		held("6", "public.f", Review{Groups: []string{"dba", "sre"}, People: 2, Within: 61, Justify: true}),
		held("7", "public.g", Review{Groups: []string{"dba", "sre"}, People: 2, Within: 60}),
		{At: "8", Verbs: []string{"delete"}, Tables: []string{"public.free"}},
	}}
	for tables, want := range map[string]string{
		"a":      "review tidy a keep unseen",
		"a a":    "review tidy a keep unseen",
		"free a": "review tidy a keep unseen",
		"b":      "review x: delete public.b after approval keep ",
		"a b":    "review tidy a; x: delete public.b after approval keep ",
		"a c":    "review tidy a; x: delete public.c after approval  unseen",
		"a d":    "deny", "a e": "deny", "a f": "deny", "g a": "deny", "free d e": "deny",
		"free": "allow",
	} {
		for _, phase := range []abi.Phase{abi.Prepare, abi.Execute} {
			cmd := &abi.Command{Phase: phase, Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{}}
			for _, table := range strings.Fields(tables) {
				cmd.Statement.Operations = append(cmd.Statement.Operations, op("delete", "public."+table, 0, ""))
			}
			v := &abi.Verdict{}
			(&Config{Tasks: map[string]*Task{"x": task}}).Judge(cmd, v)
			got := v.Decision.String()
			switch v.Decision {
			case abi.Review:
				got += fmt.Sprintf(" %s %s %s", v.Review.Summary, v.Terms.OnHold, v.Terms.Payload)
				if v.Review.People != 2 || len(v.Review.Groups) != 2 || v.Review.Within != 60 || !v.Review.Justify {
					t.Errorf("%s: %+v", tables, v.Review)
				}
			case abi.Deny:
				if v.Reason.Code != "tasks.two-reviews" || !strings.Contains(v.Reason.Hint, "commands of their own") || v.Protect != nil {
					t.Errorf("%s: %+v", tables, v)
				}
			}
			if got != want {
				t.Errorf("%s: %q, want %q", tables, got, want)
			}
		}
	}
}

func BenchmarkJudgeMasked(b *testing.B) {
	c := Config{Tasks: map[string]*Task{"x": {Rules: shop.Tasks["x"].Rules, Masks: []abi.Protect{email}}}}
	cmd := &abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Operations: []abi.Operation{op("select", "public.orders", 0, "", "id", "status", "total")}}}
	b.ReportAllocs()
	for b.Loop() {
		var v abi.Verdict
		c.Judge(cmd, &v)
	}
}
