package gate

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// linesOf gives how the text of a command's answer is masked, by all guards
// together, or why that cannot be.
func linesOf(st *abi.Statement, all []asked) ([]mask.Lines, *Denied) {
	var list []mask.Lines
	for i := range all {
		for j := range all[i].verdict.Protect {
			p := &all[i].verdict.Protect[j]
			if !p.Text() || p.Kind == abi.MaskPass {
				continue
			}
			kind := p.Kind
			if kind == abi.MaskUnset || kind > abi.MaskCustom {
				kind = abi.MaskNull
			}
			l := mask.Lines{Pattern: p.Pattern, Field: int(p.Field), Separator: p.Separator, Rule: mask.Rule{Kind: kind, Arg: p.Arg}}
			if err := l.Check(); err != nil {
				return nil, protected("the guard "+quote(all[i].guard.Name())+" wants the answer masked in a way that is not known: "+err.Error(), "tell your operator")
			}
			if !slices.Contains(list, l) {
				list = append(list, l)
			}
		}
	}
	if list != nil && st.Protocol != "ssh" {
		return nil, protected("the answer of this command is rows, and it is to be masked as text", "tell your operator")
	}
	return list, nil
}

// MasksText says whether the text of the answer is masked. Then what the
// program writes has to go through a Text, one for each stream.
func (e *Exchange) MasksText() bool { return e.guarded != nil && len(e.guarded.texts) > 0 }

// Text gives what masks one stream of the answer. It is used by one goroutine at
// a time, and ended before Done.
func (e *Exchange) Text() *mask.Text {
	t := mask.NewText(e.guarded.texts, func(name string) []byte { return e.s.maskKey(name) })
	e.s.mu.Lock()
	e.streams = append(e.streams, t)
	e.s.mu.Unlock()
	return t
}

// countText notes what was masked of the streams.
func (e *Exchange) countText() {
	var n uint64
	for _, t := range e.streams {
		n += t.Cells
	}
	if n == 0 {
		return
	}
	var what, by []string
	for _, l := range e.guarded.texts {
		what, by = append(what, l.String()), append(by, l.Rule.String())
	}
	e.cells = append(e.cells, hiding{"text: " + strings.Join(what, ", "), strings.Join(slices.Compact(by), ", "), n})
}
