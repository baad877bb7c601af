package sql

import (
	"unsafe"

	"github.com/taskgate/taskgate/abi"
)

// Size is about how many bytes of memory it takes, its text included. What it
// shares with others is counted.
func (a *Analysis) Size() int {
	if a == nil {
		return 0
	}
	st := a.Statement
	n := int(unsafe.Sizeof(*a)+unsafe.Sizeof(*st)) + len(st.Text) + len(st.Canonical) + len(st.Incomplete)
	for i := range st.Operations {
		o := &st.Operations[i]
		n += int(unsafe.Sizeof(*o)) + names(o.Object) + len(o.Columns)*int(unsafe.Sizeof(abi.Column{})) + len(o.Via) + len(o.Value)
	}
	for i := range st.Outputs {
		o := &st.Outputs[i]
		n += int(unsafe.Sizeof(*o)) + len(o.Name) + (len(o.Copies)+len(o.Computed))*int(unsafe.Sizeof(abi.Source{}))
	}
	n += len(a.Pieces) * int(unsafe.Sizeof(Piece{}))
	for i := range a.Parts {
		p := &a.Parts[i]
		n += int(unsafe.Sizeof(*p)) + len(p.Name) + len(p.Current) + len(p.Value) + len(p.Notice) + len(p.Count) + len(p.Body) + names(p.Path)
		if p.Canonical != st.Canonical {
			n += len(p.Canonical)
		}
		for j := range p.Args {
			n += int(unsafe.Sizeof(p.Args[j])) + len(p.Args[j].Value)
		}
		n += p.Inner.Size()
	}
	return n
}

func names(list []string) (n int) {
	for _, s := range list {
		n += int(unsafe.Sizeof(s)) + len(s)
	}
	return n
}
