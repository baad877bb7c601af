package schema

import (
	"regexp"
	"slices"
	"strings"
)

// What the server prints of an expression while pg_catalog alone is on its path has
// every name of users qualified. What looks like one in a constant is taken for one.
const ident = `([\p{L}\p{N}_$]+|"(?:[^"]|"")+")`

var (
	calls    = regexp.MustCompile(ident + `\.` + ident + `\(`)
	operates = regexp.MustCompile(`OPERATOR\((?:` + ident + `\.)?([^)]*)\)`)
	converts = regexp.MustCompile(`::` + ident + `\.` + ident)
)

// unsaid are functions of users that the server may call for something that no text
// names. unknown says that others may be among them.
type unsaid struct {
	functions []*Function
	unknown   bool
	types     map[OID]bool // that have been looked at
}

// Unsaid says whether the server may call functions of users for a relation that no
// text names: in its conditions and policies, the expressions of its indexes and of
// its partition key, and the conditions of its domains. Those that harmless says are
// do not count; nil says it of none.
func (s *Schema) Unsaid(r *Relation, harmless func(*Function) bool) bool {
	return s.unsaidOf(r).counts(harmless)
}

// UnsaidReading is Unsaid where rows are but read: nothing but policies is asked then.
func (s *Schema) UnsaidReading(r *Relation, harmless func(*Function) bool) bool {
	if len(r.Policies) == 0 {
		return false
	}
	u := unsaid{types: map[OID]bool{}}
	for i := range r.Policies {
		s.gather(r.Policies[i].Using, &u)
	}
	return u.counts(harmless)
}

func (u *unsaid) counts(harmless func(*Function) bool) bool {
	return u.unknown || slices.ContainsFunc(u.functions, func(f *Function) bool { return harmless == nil || !harmless(f) })
}

// unsaidOf finds them once a snapshot, but for what one session has of its own.
func (s *Schema) unsaidOf(r *Relation) *unsaid {
	if s.unsaid != nil {
		if known, ok := s.unsaid.Load(r); ok {
			return known.(*unsaid)
		}
	}
	u := &unsaid{types: map[OID]bool{}}
	s.gather(r.PartitionExprs, u)
	for i := range r.Checks {
		s.gather(r.Checks[i].Text, u)
	}
	for i := range r.Indexes {
		s.gather(r.Indexes[i].Exprs, u)
		s.gather(r.Indexes[i].Predicate, u)
	}
	for i := range r.Policies {
		s.gather(r.Policies[i].Using, u)
		s.gather(r.Policies[i].Check, u)
	}
	for i := range r.Columns {
		s.gatherType(r.Columns[i].Type, u)
	}
	if u.types = nil; s.unsaid != nil && r.Name.Namespace != Temporary {
		s.unsaid.Store(r, u)
	}
	return u
}

// gather finds the functions of users that what is printed of an expression may call.
// Of a cast the server prints the type at most, so that where users have made one by a
// function, any expression may hold it.
func (s *Schema) gather(text string, u *unsaid) {
	if text == "" || u.unknown {
		return
	}
	for _, c := range s.Casts {
		if s.ofUsers(c) {
			u.add(s.Functions[c.Function])
		}
	}
	for _, m := range calls.FindAllStringSubmatch(text, -1) {
		u.named(s.FunctionsNamed[unquoted(m[2])], func(f *Function) bool { return f.Name.Namespace == unquoted(m[1]) })
	}
	for _, m := range operates.FindAllStringSubmatch(text, -1) {
		var functions []*Function
		for _, o := range s.OperatorsNamed[m[2]] {
			if o.Name.Namespace == unquoted(m[1]) {
				functions = append(functions, s.Functions[o.Function])
			}
		}
		u.named(functions, func(*Function) bool { return true })
	}
	for _, m := range converts.FindAllStringSubmatch(text, -1) {
		t := s.TypeByName[Name{Namespace: unquoted(m[1]), Name: unquoted(m[2])}]
		if t == nil {
			u.unknown = true
			return
		}
		s.gatherType(t.OID, u)
	}
}

// add takes a function, nil for one that is not known.
func (u *unsaid) add(f *Function) {
	if f == nil {
		u.unknown = true
	} else if !slices.Contains(u.functions, f) {
		u.functions = append(u.functions, f)
	}
}

// named takes those that are meant, of which there has to be one.
func (u *unsaid) named(list []*Function, meant func(*Function) bool) {
	found := false
	for _, f := range list {
		if f == nil || meant(f) {
			u.add(f)
			found = true
		}
	}
	u.unknown = u.unknown || !found
}

// ofUsers says whether a cast runs a function that users have made, and not an
// extension.
func (s *Schema) ofUsers(c Cast) bool {
	f := s.Functions[c.Function]
	return c.Function >= firstUser && (f == nil || f.Extension == "")
}

func unquoted(name string) string {
	if in, ok := strings.CutPrefix(name, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(in, `"`), `""`, `"`)
	}
	return name
}

// gatherType is gather for a type, and what it is made of.
func (s *Schema) gatherType(oid OID, u *unsaid) {
	t := s.Types[oid]
	if t == nil || oid < firstUser || u.types[oid] {
		return
	}
	u.types[oid], u.unknown = true, u.unknown || t.Kind == 'r' || t.Kind == 'm' // what a range is of is not known here
	s.gatherType(t.Element, u)
	s.gatherType(t.Base, u)
	for i := range t.Checks {
		s.gather(t.Checks[i].Text, u)
	}
	if r := s.Relations[t.Relation]; r != nil {
		for i := range r.Columns {
			s.gatherType(r.Columns[i].Type, u)
		}
	}
}
