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
	calls    = regexp.MustCompile(`[\p{L}\p{N}_$"]\.` + ident + `\(|OPERATOR\(`)
	converts = regexp.MustCompile(`::` + ident + `\.` + ident)
)

// Unsaid says whether the server may call functions of users for a relation that no
// text names: in its conditions and policies, the expressions of its indexes and of
// its partition key, and the conditions of its domains.
func (s *Schema) Unsaid(r *Relation) bool {
	seen := map[OID]bool{}
	found := s.mayCall(r.PartitionExprs, seen)
	for i := range r.Checks {
		found = found || s.mayCall(r.Checks[i].Text, seen)
	}
	for i := range r.Indexes {
		found = found || s.mayCall(r.Indexes[i].Exprs, seen) || s.mayCall(r.Indexes[i].Predicate, seen)
	}
	for i := range r.Policies {
		found = found || s.mayCall(r.Policies[i].Using, seen) || s.mayCall(r.Policies[i].Check, seen)
	}
	for i := range r.Columns {
		found = found || s.unsaidOf(r.Columns[i].Type, seen)
	}
	return found
}

// mayCall says whether what is printed of an expression may call a function of
// users. Of a cast the server prints the type at most, so that where users have made
// one by a function, any expression may hold it.
func (s *Schema) mayCall(text string, seen map[OID]bool) bool {
	switch {
	case text == "":
		return false
	case calls.MatchString(text), slices.ContainsFunc(s.Casts, s.ofUsers):
		return true
	}
	for _, m := range converts.FindAllStringSubmatch(text, -1) {
		t := s.TypeByName[Name{Namespace: unquoted(m[1]), Name: unquoted(m[2])}]
		if t == nil || s.unsaidOf(t.OID, seen) {
			return true
		}
	}
	return false
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

// unsaidOf is Unsaid for a type, and what it is made of.
func (s *Schema) unsaidOf(oid OID, seen map[OID]bool) bool {
	t := s.Types[oid]
	if t == nil || oid < firstUser || seen[oid] {
		return false
	}
	seen[oid] = true
	found := t.Kind == 'r' || t.Kind == 'm' // of what is not known here
	found = found || s.unsaidOf(t.Element, seen) || s.unsaidOf(t.Base, seen)
	for i := range t.Checks {
		found = found || s.mayCall(t.Checks[i].Text, seen)
	}
	if r := s.Relations[t.Relation]; r != nil {
		for i := range r.Columns {
			found = found || s.unsaidOf(r.Columns[i].Type, seen)
		}
	}
	return found
}
