package schema

import (
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// classes are those of PostgreSQL's own types, whose numbers never change.
// "char" is in none: its binary form is a byte of any kind.
var classes = map[OID]abi.Class{
	16: abi.ClassBool, 17: abi.ClassBytea, 19: abi.ClassText /* name */, 20: abi.ClassInt8, 21: abi.ClassInt2, 23: abi.ClassInt4,
	25: abi.ClassText, 114: abi.ClassJSON, 700: abi.ClassFloat4, 701: abi.ClassFloat8, 1042: abi.ClassText /* char(n) */, 1043: abi.ClassText, /* varchar */
	1082: abi.ClassDate, 1114: abi.ClassTimestamp, 1184: abi.ClassTimestampTZ, 1700: abi.ClassNumeric, 2950: abi.ClassUUID, 3802: abi.ClassJSONB,
}

// Class says what masks can do with a type: that of a domain is its base's. Of
// a type that nobody knows it is ClassOther.
func (s *Schema) Class(oid OID) abi.Class {
	if c, ok := classes[oid]; ok {
		return c
	}
	for range 64 { // domains over domains end long before
		t := s.Types[oid]
		switch {
		case t == nil:
			return abi.ClassOther
		case t.Kind == 'e':
			return abi.ClassEnum
		case t.Extension == "citext" && t.Name.Name == "citext":
			return abi.ClassText
		case t.Kind != 'd':
			return classes[t.OID]
		}
		oid = t.Base
	}
	return abi.ClassOther
}

// Compared gives the type as which a masked column may be compared with a value
// that a text names (`filter: eq`), nil where it may not: of a domain what it is
// made of. A bool or an enumeration is known by one comparison, and where equality
// is not that of what is shown (floats, JSON) nothing would be said by it.
func (s *Schema) Compared(oid OID) *Type {
	t := s.Types[oid]
	for range 64 {
		if t == nil || t.Kind != 'd' {
			break
		}
		t = s.Types[t.Base]
	}
	if t == nil || t.OID == 19 { // name, which cuts what it is given
		return nil
	}
	switch s.Class(t.OID) {
	case abi.ClassText, abi.ClassInt2, abi.ClassInt4, abi.ClassInt8, abi.ClassNumeric, abi.ClassDate, abi.ClassTimestamp, abi.ClassTimestampTZ, abi.ClassUUID:
		return t
	}
	return nil
}

// TypeName gives the name of a type as a text can have it, of a domain that of
// what it is made of; it is empty where the type is not known.
func (s *Schema) TypeName(oid OID) string {
	t := s.Types[oid]
	for t != nil && t.Kind == 'd' {
		t = s.Types[t.Base]
	}
	if t == nil {
		return ""
	}
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	return quote(t.Name.Namespace) + "." + quote(t.Name.Name)
}
