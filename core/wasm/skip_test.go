package wasm

import (
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestWM14Skip: a guard that does without some verbs is not asked where there
// is nothing else, and always where there is.
func TestWM14Skip(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	deny := (&abi.Verdict{Decision: abi.Deny}).AppendTo(nil)
	op := func(verb, kind string) abi.Operation { return abi.Operation{Verb: verb, Kind: kind} }
	read, write, begin := op("select", abi.KindRelation), op("update", abi.KindRelation), op("begin", abi.KindTransaction)
	dynamic := read
	dynamic.Attrs = abi.Dynamic
	for name, c := range map[string]struct {
		skip       []Skip
		incomplete string
		operations []abi.Operation
		asked      bool
	}{
		"no list":                    {nil, "", []abi.Operation{read}, true},
		"listed":                     {[]Skip{{"postgres", []string{"select"}}}, "", []abi.Operation{read, read}, false},
		"listed in any protocol":     {[]Skip{{"", []string{"select"}}}, "", []abi.Operation{read}, false},
		"by two entries":             {[]Skip{{"postgres", []string{"select"}}, {"", []string{"begin"}}}, "", []abi.Operation{read, begin}, false},
		"mixed":                      {[]Skip{{"postgres", []string{"select"}}}, "", []abi.Operation{read, write}, true},
		"mixed, the other way round": {[]Skip{{"postgres", []string{"select"}}}, "", []abi.Operation{write, read}, true},
		"incomplete":                 {[]Skip{{"postgres", []string{"select"}}}, "something", []abi.Operation{read}, true},
		"nothing at all":             {[]Skip{{"postgres", []string{"select"}}}, "", nil, true},
		"another protocol":           {[]Skip{{"ssh", []string{"select"}}}, "", []abi.Operation{read}, true},
		"a whole protocol":           {[]Skip{{"postgres", nil}}, "", []abi.Operation{read, write, begin}, false},
		"a verb that is new":         {[]Skip{{"postgres", nil}}, "", []abi.Operation{read, op("teleport", abi.KindRelation)}, true},
		"a kind that is new":         {[]Skip{{"postgres", nil}}, "", []abi.Operation{op("select", "hologram")}, true},
		"a statement by its words":   {[]Skip{{"postgres", nil}}, "", []abi.Operation{op("drop table", abi.KindStatement)}, true},
		"what is not known":          {[]Skip{{"postgres", nil}}, "", []abi.Operation{{}}, true},
		"a text that is made":        {[]Skip{{"postgres", nil}}, "", []abi.Operation{dynamic}, true},
	} {
		m := small
		m.Skip = c.skip
		g, err := try(t, h, shape{reply: deny}, m, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		ask := &abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Protocol: "postgres", Incomplete: c.incomplete, Operations: c.operations}}
		v, err := g.Command(t.Context(), ask)
		if err != nil || v.Decision != map[bool]abi.Decision{true: abi.Deny, false: abi.Abstain}[c.asked] {
			t.Errorf("%s: %+v %v", name, v, err)
		}
		if v, ok := g.TryCommand(ask); ok == c.asked || ok && v.Reason.Code != "wasm.skipped" {
			t.Errorf("%s: without waiting: %+v %v", name, v, ok)
		}
	}
	for want, skip := range map[string]Skip{
		"would skip everything": {}, `the verb "teleport" is not one of abi 1.0`: {"postgres", []string{"select", "teleport"}}, `"drop table"`: {"", []string{"drop table"}},
	} {
		m := small
		m.Skip = []Skip{skip}
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", skip, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\x1b[2J", "a/b", strings.Repeat("a", 65)} {
		m := small
		m.Name = bad
		if m.Check() == nil {
			t.Errorf("a module can be called %q", bad)
		}
	}
}

// TestSpec: what the host offers stands in the specification.
func TestSpec(t *testing.T) {
	b, err := os.ReadFile("../../abi/SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	spec := strings.Join(strings.Fields(string(b)), " ")
	want := []string{"32 MiB", "at most 1 MiB", "4,000,000 for a call and 60 more for each byte", "500,000,000 for the start"}
	for module, functions := range imports {
		want = append(want, module)
		for f := range functions {
			want = append(want, f)
		}
	}
	want = append(want, laterModules...)
	for word, hook := range hookNames {
		want = append(want, "`"+word+"`")
		if hook == 0 {
			t.Error(word)
		}
	}
	for _, in := range abi.InputNames {
		want = append(want, in.Word)
	}
	verbs, _, _ := strings.Cut(spec[strings.Index(spec, "- verbs of 1.0:")+len("- verbs of 1.0:"):], " Statements without")
	quoted := strings.Split(strings.TrimSuffix(strings.ReplaceAll(verbs, "·", ""), "."), `"`)
	for i, part := range quoted {
		list := []string{part}
		if i%2 == 0 {
			list = strings.Fields(part)
		}
		for _, v := range list {
			if _, known := abi.VerbMinor(v); !known {
				t.Errorf("the specification has a verb %q", v)
			}
		}
	}
	for _, w := range want {
		if !strings.Contains(spec, w) {
			t.Errorf("%q is not in the specification", w)
		}
	}
}
