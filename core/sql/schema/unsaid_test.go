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
