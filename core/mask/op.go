package mask

import "github.com/taskgate/taskgate/abi"

// Keys gives the key of a name; the empty name is the task's own.
type Keys func(name string) []byte

// Check says why a rule does nothing for a class of types but give NULL.
func Check(r Rule, c abi.Class) error { return nil }

// Op is a rule for one class of types. One goroutine uses it at a time.
type Op struct{}

// Compile makes the Op. A pair that is not in the table of abi/SPEC.md makes
// one that gives NULL, and so does an argument that is not in its form, or a
// key that is not there; Check says so beforehand.
func Compile(r Rule, c abi.Class, keys Keys) *Op { return &Op{} }

// Append appends what stands in the cell's place, and says whether that is
// NULL.
func (o *Op) Append(dst, cell []byte, null, binary bool) ([]byte, bool) { return dst, true }
