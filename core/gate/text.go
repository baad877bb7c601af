package gate

import (
	"context"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// linesOf gives how the text of a command's answer is masked, by all guards
// together, with those that mask of it themselves, or why that cannot be.
func linesOf(st *abi.Statement, all []asked) (list []mask.Lines, modules []Guard, _ *Denied) {
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
			guard := all[i].guard
			l := mask.Lines{Pattern: p.Pattern, Field: int(p.Field), Separator: p.Separator, Rule: mask.Rule{Kind: kind, Arg: p.Arg}}
			if err := l.Check(); err != nil {
				return nil, nil, protected("the guard "+quote(guard.Name())+" wants the answer masked in a way that is not known: "+err.Error(), "tell your operator")
			}
			if kind == abi.MaskCustom {
				if l.By = slices.Index(modules, guard); l.By < 0 {
					if none, err := guard.ResultBatch(context.Background(), nil, &abi.Batch{}); err != nil || none == nil { // before it runs, not after
						return nil, nil, protected("the guard "+quote(guard.Name())+" wants to mask the answer itself, and does not", "tell your operator")
					}
					l.By, modules = len(modules), append(modules, guard)
				}
			}
			if !slices.Contains(list, l) {
				list = append(list, l)
			}
		}
	}
	if list != nil && st.Protocol != "ssh" {
		return nil, nil, protected("the answer of this command is rows, and it is to be masked as text", "tell your operator")
	}
	if list != nil && (st.Incomplete != "" || opaque(st)) {
		return nil, nil, protected("what this command shows is to be masked, and as it is not understood, nobody knows what it shows and how", "files are copied by sftp, and by scp without -O; a program is run by its words alone")
	}
	return list, modules, nil
}

// labels gives the masks of an answer's text, each with what does it.
func (p *protection) labels() (list []TextMasking) {
	for _, l := range p.texts {
		by := l.Rule.String()
		if l.Rule.Kind == abi.MaskCustom {
			by = "custom (" + p.modules[l.By].Name() + ")"
		}
		list = append(list, TextMasking{l.String(), by})
	}
	return list
}

// MasksText says whether the text of the answer is masked. Then what the
// program writes has to go through a Text, one for each stream.
func (e *Exchange) MasksText() bool { return e.guarded.text() }

func (p *protection) text() bool { return p != nil && len(p.texts) > 0 }

// Text gives what masks one stream of the answer. It is used by one goroutine at
// a time, and ended before Done. An error of it is what Result gives: nothing more
// of the answer may reach the client.
func (e *Exchange) Text(ctx context.Context) *mask.Text {
	t := mask.NewText(e.guarded.texts, e.s.maskKey, func(by int, asked *abi.Batch) (*abi.Batch, error) {
		return e.batch(ctx, e.guarded.modules[by], asked)
	})
	e.s.mu.Lock()
	e.streams = append(e.streams, t)
	e.s.mu.Unlock()
	return t
}

// Would asks the guards about a statement, with nothing done or written down, and
// whether what it would answer is masked as text.
func (s *Session) Would(ctx context.Context, st *abi.Statement) (_ abi.Decision, masked bool) {
	if s.alive(s.gate.now()) != nil {
		return abi.Deny, true
	}
	gen := s.gate.acquire()
	if gen == nil {
		return abi.Deny, true
	}
	defer gen.release()
	c := &abi.Command{Phase: abi.Execute, Statement: st, Time: s.gate.now().UnixNano(), Session: s.abi}
	v, _, _, guarded := s.judge(ctx, gen, c)
	return v.Decision, guarded.text()
}

// Hides says whether what a statement would answer is masked as text. What the
// guards would not just allow counts as masked: it is for what an answer tells
// beside what was asked.
func (s *Session) Hides(ctx context.Context, st *abi.Statement) bool {
	d, masked := s.Would(ctx, st)
	return d != abi.Allow || masked
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
	for _, l := range e.guarded.labels() {
		what, by = append(what, l.What), append(by, l.By)
	}
	e.cells = append(e.cells, hiding{"text: " + strings.Join(what, ", "), strings.Join(slices.Compact(by), ", "), n})
}
