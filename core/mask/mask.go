// Package mask is what native masks do to the cells of a result: a rule and the
// class of a type make an Op, which takes cells in text and binary form and
// allocates nothing. abi/SPEC.md has the table of what works on what.
package mask

import "github.com/taskgate/taskgate/abi"

// Rule is what masks a column. Arg is in the form that abi/SPEC.md gives, and
// no other.
type Rule struct {
	Kind  abi.MaskKind
	Arg   string
	Nulls bool // NULL stays NULL
}

// Cells masks the cells of one run of a result. The columns are asked for in
// the order of the rows.
type Cells interface {
	Columns() int // of the result
	Masked(i int) bool
	// Append appends what stands in the cell's place, and says whether that is
	// NULL. It does not keep cell, which may be anything where null is true.
	Append(dst, cell []byte, i int, null, binary bool) (out []byte, isNull bool)
}

// A Rewriter knows how a protocol frames rows. Rewrite appends frames to dst
// with every cell of a masked column replaced, and everything else as it was.
// An error means that nothing of them may reach the client.
type Rewriter interface {
	Rewrite(dst, frames []byte, c Cells) ([]byte, error)
}
