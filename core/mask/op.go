package mask

import (
	"errors"
	"fmt"

	"github.com/taskgate/taskgate/abi"
)

// Keys gives the key of a name; the empty name is the task's own.
type Keys func(name string) []byte

// Op is a rule for one class of types. One goroutine uses it at a time.
type Op struct {
	masks masker // nil gives NULL
	nulls bool   // NULL stays NULL
}

// masker makes what stands in a cell's place. It appends to dst, and where it
// says false what it appended does not count: NULL stands there. A cell that
// does not parse as its type is one of these, so that nothing of it shows.
type masker interface {
	mask(dst, cell []byte, binary bool) ([]byte, bool)
	blank(dst []byte, binary bool) []byte // in place of NULL
}

// Check says why a rule does nothing for a class of types but give NULL.
func Check(r Rule, c abi.Class) error {
	if err := fits(r, c); err != nil {
		return err
	}
	_, err := build(r, c)
	return err
}

// Compile makes the Op. A pair that is not in the table of abi/SPEC.md makes
// one that gives NULL, and so does an argument that is not in its form, or a
// key that is not there; Check says so beforehand.
func Compile(r Rule, c abi.Class, keys Keys) *Op {
	o := &Op{nulls: r.Nulls}
	if fits(r, c) != nil {
		return o
	}
	m, err := build(r, c)
	if err != nil {
		return o
	}
	if k, ok := m.(keyed); ok && (keys == nil || !k.unlock(keys(r.Arg))) {
		return o
	}
	o.masks = m
	return o
}

// Append appends what stands in the cell's place, and says whether that is
// NULL. Neither part of cell is kept.
func (o *Op) Append(dst, cell []byte, null, binary bool) ([]byte, bool) {
	if o.masks == nil || null && o.nulls {
		return dst, true
	}
	if null {
		return o.masks.blank(dst, binary), false
	}
	out, ok := o.masks.mask(dst, cell, binary)
	if !ok {
		return out[:len(dst)], true
	}
	return out, false
}

// classes are the names of abi/SPEC.md.
var classes = [...]string{"other", "text", "int2", "int4", "int8", "numeric", "float4", "float8", "bool", "date", "timestamp", "timestamptz", "uuid", "bytea", "json", "jsonb", "enum"}

// table has the classes that each mask works on; abi/SPEC.md has it too.
var table = [...][]abi.Class{
	abi.MaskFixed: {abi.ClassText, abi.ClassInt2, abi.ClassInt4, abi.ClassInt8, abi.ClassNumeric, abi.ClassFloat4, abi.ClassFloat8, abi.ClassBool, abi.ClassDate,
		abi.ClassTimestamp, abi.ClassTimestampTZ, abi.ClassUUID, abi.ClassBytea, abi.ClassJSON, abi.ClassJSONB, abi.ClassEnum},
	abi.MaskKeep:      {abi.ClassText},
	abi.MaskHash:      {abi.ClassText, abi.ClassUUID, abi.ClassBytea},
	abi.MaskTokenize:  {abi.ClassText, abi.ClassInt2, abi.ClassInt4, abi.ClassInt8},
	abi.MaskBucket:    {abi.ClassInt2, abi.ClassInt4, abi.ClassInt8, abi.ClassNumeric, abi.ClassFloat4, abi.ClassFloat8},
	abi.MaskTruncDate: {abi.ClassDate, abi.ClassTimestamp, abi.ClassTimestampTZ},
}

func fits(r Rule, c abi.Class) error {
	k := r.Kind
	if k == abi.MaskNull || k == abi.MaskCustom { // a module knows what it masks
		return nil
	}
	if int(k) >= len(table) || len(table[k]) == 0 {
		return fmt.Errorf("%d is no mask", k)
	}
	var names string
	for i, works := range table[k] {
		if works == c {
			return nil
		}
		switch {
		case i > 0 && i == len(table[k])-1:
			names += " and "
		case i > 0:
			names += ", "
		}
		names += classes[works]
	}
	mask := r.word()
	if c == abi.ClassOther || int(c) >= len(classes) {
		return fmt.Errorf("%s does not work on this type: it works on %s; null works on every type", mask, names)
	}
	return fmt.Errorf("%s does not work on %s: it works on %s; null works on every type", mask, classes[c], names)
}

// build makes what masks, for a pair that is in the table. The key comes later.
func build(r Rule, c abi.Class) (masker, error) {
	switch r.Kind {
	case abi.MaskFixed:
		return buildFixed(r.Arg, c)
	case abi.MaskKeep:
		if first, last, ok := keepArg(r.Arg); ok {
			return &keep{first, last}, nil
		}
		if sep, ok := fromArg(r.Arg); ok {
			return &keepTail{[]byte(sep)}, nil
		}
		return nil, malformed(r)
	case abi.MaskHash:
		return &hashes{class: c}, nil
	case abi.MaskTokenize:
		return &tokens{class: c}, nil
	case abi.MaskBucket:
		return buildBucket(r, c)
	case abi.MaskTruncDate:
		return buildTrunc(r, c)
	}
	return nil, nil // NULL, and CUSTOM, which is the module's
}

// malformed says what the argument of a rule should be.
func malformed(r Rule) error {
	for _, w := range words {
		if w.kind == r.Kind {
			return errors.New(w.name + ": " + w.wants)
		}
	}
	return nil
}
