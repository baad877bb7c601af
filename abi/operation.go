package abi

import (
	"strconv"
	"strings"
	"unicode"
)

var attrWords = []struct {
	bit  Attr
	word string
}{
	{HasWhere, "where"}, {WhereKey, "where:key"}, {HasLimit, "limit"}, {RowLock, "row-lock"}, {Returning, "returning"},
	{CopyOut, "copy-out"}, {CopyIn, "copy-in"}, {Dynamic, "dynamic"}, {Explain, "explain"}, {Own, "own"}, {Blind, "blind"},
}

// String renders the operation on one line for people:
// "update public.orders(status) where:key via …", "exec systemctl restart web-1".
func (o *Operation) String() string {
	var b strings.Builder
	b.WriteString(o.Verb)
	if minor, known := KindMinor(o.Kind); known && minor == 1 {
		for _, p := range o.Object {
			b.WriteByte(' ')
			b.WriteString(word(p))
		}
	} else if len(o.Object) > 0 {
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

// word shows one of several words of a host so that nobody takes it for two, or
// for another.
func word(s string) string {
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == '"' || r == unicode.ReplacementChar {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
