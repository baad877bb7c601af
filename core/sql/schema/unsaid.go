package schema

import "regexp"

// calls finds a function or operator that is not the server's own in what the
// server prints of an expression while pg_catalog alone is on its path: it is
// qualified. What looks like one in a constant is taken for one.
var calls = regexp.MustCompile(`[\p{L}\p{N}_$"]\.([\p{L}\p{N}_$]+|"[^"]+")\(|OPERATOR\(`)

// Unsaid says whether the server may call functions of users for a relation that no
// text names: in its conditions and policies, the expressions of its indexes and of
// its partition key, and the conditions of its domains.
func (s *Schema) Unsaid(r *Relation) bool {
	found := calls.MatchString(r.PartitionExprs)
	for i := range r.Checks {
		found = found || calls.MatchString(r.Checks[i].Text)
	}
	for i := range r.Indexes {
		found = found || calls.MatchString(r.Indexes[i].Exprs) || calls.MatchString(r.Indexes[i].Predicate)
	}
	for i := range r.Policies {
		found = found || calls.MatchString(r.Policies[i].Using) || calls.MatchString(r.Policies[i].Check)
	}
	seen := map[OID]bool{}
	for i := range r.Columns {
		found = found || s.unsaidOf(r.Columns[i].Type, seen)
	}
	return found
}

// unsaidOf is Unsaid for a type, and what it is made of.
func (s *Schema) unsaidOf(oid OID, seen map[OID]bool) bool {
	t := s.Types[oid]
	if t == nil || oid < firstUser || seen[oid] {
		return false
	}
	seen[oid] = true
	found := s.unsaidOf(t.Element, seen) || s.unsaidOf(t.Base, seen)
	for i := range t.Checks {
		found = found || calls.MatchString(t.Checks[i].Text)
	}
	if r := s.Relations[t.Relation]; r != nil {
		for i := range r.Columns {
			found = found || s.unsaidOf(r.Columns[i].Type, seen)
		}
	}
	return found
}
