package schema

import "unsafe"

// OverWeight is about how many bytes Over gives that no other session shares: the
// names of both, in its four maps, and what own has.
func OverWeight(s, own *Schema) int {
	const entry = 160 // in the two maps that a relation or a type is in
	n := entry * (len(s.Relations) + len(s.Types) + len(own.Relations) + len(own.Types))
	for _, r := range own.Relations {
		n += int(unsafe.Sizeof(*r)) + len(r.Name.Name) + len(r.PartitionExprs) + room(r.Columns) + room(r.Indexes) + room(r.Checks) + room(r.References) + room(r.Referenced)
		for i := range r.Columns {
			n += len(r.Columns[i].Name) + len(r.Columns[i].Default)
		}
		for i := range r.Indexes {
			x := &r.Indexes[i]
			n += len(x.Name) + 2*len(x.Columns) + len(x.Exprs) + len(x.Predicate)
		}
		for i := range r.Checks {
			n += len(r.Checks[i].Name) + 2*len(r.Checks[i].Columns) + len(r.Checks[i].Text)
		}
		for i := range r.References {
			n += len(r.References[i].Name) + 4*len(r.References[i].FromColumns)
		}
	}
	for _, t := range own.Types {
		n += int(unsafe.Sizeof(*t)) + len(t.Name.Name)
	}
	return n
}

// room is what the elements of a list take, and those that it has room for.
func room[T any](list []T) int {
	var one T
	return cap(list) * int(unsafe.Sizeof(one))
}
