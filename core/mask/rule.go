package mask

import (
	"fmt"

	"github.com/taskgate/taskgate/abi"
)

// Join gives what masks a column that two rules mask: NULL > FIXED > TOKENIZE
// > HASH, and of any other two that differ NULL.
func Join(a, b Rule) Rule {
	nulls := a.Nulls && b.Nulls
	a.Nulls, b.Nulls = nulls, nulls
	if a == b {
		return a
	}
	return Rule{Kind: abi.MaskNull}
}

// Pure says whether what stands in a cell's place tells whether two cells are
// equal: no other value may come beside them, and none be chosen.
func (r Rule) Pure() bool {
	return r.Kind == abi.MaskHash || r.Kind == abi.MaskTokenize || r.Kind == abi.MaskCustom
}

// String is the rule as a task file writes it.
func (r Rule) String() string { return fmt.Sprint(r.Kind, "(", r.Arg, ")") }

// Keys gives the key of a name; the empty name is the task's own.
type Keys func(name string) []byte

// Op is a rule for one class of types.
type Op struct{}

// Compile makes the Op. A pair that is not in the table of abi/SPEC.md makes
// one that gives NULL; Check says so beforehand.
func Compile(r Rule, c abi.Class, keys Keys) *Op { return &Op{} }

// Append appends what stands in the cell's place, and says whether that is
// NULL.
func (o *Op) Append(dst, cell []byte, null, binary bool) ([]byte, bool) { return dst, true }
