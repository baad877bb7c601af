package abi

import "strings"

var attrWords = []struct {
	bit  Attr
	word string
}{
	{HasWhere, "where"}, {WhereKey, "where:key"}, {HasLimit, "limit"}, {RowLock, "row-lock"}, {Returning, "returning"},
	{CopyOut, "copy-out"}, {CopyIn, "copy-in"}, {Dynamic, "dynamic"}, {Explain, "explain"},
}

// String renders the operation on one line for people:
// "update public.orders(status) where:key via …".
func (o *Operation) String() string {
	var b strings.Builder
	b.WriteString(o.Verb)
	if len(o.Object) > 0 {
		b.WriteByte(' ')
		b.WriteString(strings.Join(o.Object, "."))
	}
	sep := "("
	for i := range o.Columns {
		if o.Columns[i].Use == UseTested && o.Verb != "test" {
			continue // it is neither read nor written
		}
		b.WriteString(sep)
		b.WriteString(o.Columns[i].Name)
		sep = ", "
	}
	if sep != "(" {
		b.WriteByte(')')
	}
	for _, a := range attrWords {
		if a.bit == HasWhere && o.Attrs&WhereKey != 0 {
			continue // said by where:key
		}
		if o.Attrs&a.bit != 0 {
			b.WriteByte(' ')
			b.WriteString(a.word)
		}
	}
	if o.Value != "" {
		b.WriteString(" = ")
		b.WriteString(o.Value)
	}
	if o.Via != "" {
		b.WriteString(" via ")
		b.WriteString(o.Via)
	}
	return b.String()
}
