package schema

import "unsafe"

// OverWeight is about how many bytes Over gives that no other session shares: the
// names of both, in its four maps, and what own has.
func OverWeight(s, own *Schema) int {
	const entry = 160 // in the two maps that a relation or a type is in
	n := entry * (len(s.Relations) + len(s.Types) + len(own.Relations) + len(own.Types))
	for _, r := range own.Relations {
		n += int(unsafe.Sizeof(*r)) + len(r.Name.Name) + r.texts() + room(r.Columns) + room(r.Indexes) + room(r.Checks) + room(r.References) + room(r.Referenced) + room(r.Sequences) + room(r.Defaults)
		for i := range r.Columns {
			n += len(r.Columns[i].Name)
		}
		for i := range r.Indexes {
			n += len(r.Indexes[i].Name) + 2*len(r.Indexes[i].Columns)
		}
		for i := range r.Checks {
			n += len(r.Checks[i].Name) + 2*len(r.Checks[i].Columns)
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

// Texts is how much text is in the relations of a schema, of views, conditions and
// defaults, in bytes.
func (s *Schema) Texts() (n int) {
	for _, r := range s.Relations {
		n += r.texts()
	}
	return n
}

func (r *Relation) texts() int {
	n := len(r.View) + len(r.PartitionExprs)
	for i := range r.Columns {
		n += len(r.Columns[i].Default)
	}
	for i := range r.Checks {
		n += len(r.Checks[i].Text)
	}
	for i := range r.Indexes {
		n += len(r.Indexes[i].Exprs) + len(r.Indexes[i].Predicate)
	}
	return n
}

// room is what the elements of a list take, and those that it has room for.
func room[T any](list []T) int {
	var one T
	return cap(list) * int(unsafe.Sizeof(one))
}
