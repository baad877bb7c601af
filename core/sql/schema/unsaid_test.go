package schema

import "testing"

// TestUnsaid: which printed expressions may call what users have made.
func TestUnsaid(t *testing.T) {
	domain, checked, mood := &Type{OID: 20001, Name: Name{"public", "plain"}, Kind: 'd', Base: 25}, &Type{OID: 20002, Name: Name{"public", `a"b`}, Kind: 'd', Base: 25, Checks: []Check{{Text: "CHECK (public.f(VALUE))"}}}, &Type{OID: 20003, Name: Name{"s", "mood"}, Kind: 'e'}
	s := empty()
	for _, y := range []*Type{domain, checked, mood} {
		s.Types[y.OID], s.TypeByName[y.Name] = y, y
	}
	s.Functions[30001], s.Functions[30002] = &Function{OID: 30001}, &Function{OID: 30002, Extension: "citext"}
	may := func(text string, casts ...Cast) bool {
		s.Casts = casts
		return s.Unsaid(&Relation{Checks: []Check{{Text: text}}}, nil)
	}
	for _, text := range []string{"CHECK (public.f(v))", `CHECK (s."F g"(v))`, `CHECK ("s""t"."f""g"(v))`, "CHECK ((v OPERATOR(public.===) 'x'::text))", `CHECK (((v)::public."a""b" IS NOT NULL))`, "CHECK ((v)::public.unknown IS NULL)"} {
		if !may(text) {
			t.Errorf("%s calls nothing", text)
		}
	}
	const harmless = "CHECK (((v)::public.plain > 'a'::text) AND (m = 'x'::s.mood) AND (length(v) > 1))"
	if may(harmless) || may(harmless, Cast{Function: 30002}, Cast{Function: 100}, Cast{}) {
		t.Errorf("%s calls something", harmless)
	}
	if !may(harmless, Cast{Function: 30001}) || !may(harmless, Cast{Function: 30003}) {
		t.Errorf("%s calls nothing, where users have made a cast", harmless)
	}
	if may("", Cast{Function: 30001}) {
		t.Error("there is no expression")
	}
}

// TestUnsaidParts: it may stand in each part of a relation and of its types, before
// others that call nothing.
func TestUnsaidParts(t *testing.T) {
	const calls, plain = "public.f(v)", "(length(v) > 1)"
	s := empty()
	s.Relations[20100] = &Relation{Columns: []Column{{Type: 20001}, {Type: 25}}}
	s.Relations[20101] = &Relation{Columns: []Column{{Type: 25}, {Type: 20000}}}
	for _, y := range []*Type{
		{OID: 20000, Kind: 'd', Base: 25, Checks: []Check{{Text: plain}}},
		{OID: 20001, Kind: 'd', Base: 25, Checks: []Check{{Text: calls}, {Text: plain}}},
		{OID: 20002, Kind: 'd', Base: 20001, Checks: []Check{{Text: plain}}}, {OID: 20003, Kind: 'b', Element: 20001},
		{OID: 20004, Kind: 'c', Relation: 20100}, {OID: 20005, Kind: 'c', Relation: 20101},
		{OID: 20006, Kind: 'r'}, {OID: 20007, Kind: 'm'},
		{OID: 3904, Kind: 'r'}, {OID: 25, Kind: 'b'},
	} {
		s.Types[y.OID] = y
	}
	of := func(types ...OID) *Relation {
		r := &Relation{}
		for _, oid := range types {
			r.Columns = append(r.Columns, Column{Type: oid})
		}
		return r
	}
	for name, r := range map[string]*Relation{
		"a partition's key":     {PartitionExprs: calls, Checks: []Check{{Text: plain}}},
		"a condition":           {Checks: []Check{{Text: calls}, {Text: plain}}},
		"an index's expression": {Indexes: []Index{{Exprs: calls}, {Exprs: plain}}},
		"an index's condition":  {Indexes: []Index{{Exprs: plain, Predicate: calls}, {}}},
		"a policy":              {Policies: []Policy{{Using: calls, Check: plain}, {}}},
		"a policy of writes":    {Policies: []Policy{{Using: plain, Check: calls}, {}}},
		"a domain":              of(20001, 25),
		"a domain of a domain":  of(20002),
		"an array":              of(20003),
		"a row":                 of(20004, 25),
		"a range":               of(20006),
		"ranges":                of(20007),
	} {
		if !s.Unsaid(r, nil) {
			t.Errorf("%s calls nothing", name)
		}
	}
	harmless := of(25, 3904, 20000, 20005, 29999)
	harmless.Checks, harmless.Indexes, harmless.Policies = []Check{{Text: plain}}, []Index{{Exprs: plain}}, []Policy{{Using: plain}}
	if s.Unsaid(harmless, nil) {
		t.Error("it calls something")
	}
	if !s.ofUsers(Cast{Function: firstUser}) {
		t.Error("the first function of users is not theirs")
	}
}
