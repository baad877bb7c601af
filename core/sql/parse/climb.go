package parse

import "sync/atomic"

// Half of all nodes have one child: an expression that is a column is 10 rules,
// each of one symbol. By which of them the automaton goes up hangs on the state
// beneath, the one on top and the next terminal alone, and is kept.

// climbs are ways that were gone before, by a sum over what they hang on. One takes
// the place of another that has the same sum.
type climbs [1 << 12]atomic.Pointer[climb]

// climb is a way up, as far as it has room for: the automaton goes on from there.
type climb struct {
	top, from, kind int32
	state           int32    // in the end
	steps           [12]step // up to one of no rule
}

// step is a rule of one symbol, and its left side.
type step struct {
	sym  Symbol
	rule int16
}

// climb reduces made, which stands on the state top, by rules of one symbol, as far
// as the terminal kind has it do.
func (g *Grammar) climb(nodes []Node, top int32, made entry, kind int32) (entry, []Node) {
	if !g.states[made.state].climbs {
		return made, nodes
	}
	slot := &g.climbs[(uint32(top)*0x9E3779B1^uint32(made.state)*0x85EBCA77^uint32(kind)*0xC2B2AE3D)>>20]
	w := slot.Load()
	if w == nil || w.top != top || w.from != made.state || w.kind != kind {
		w = g.way(top, made.state, kind)
		slot.Store(w)
	}
	below := nodes[made.value]
	for _, s := range w.steps {
		if s.rule == 0 {
			break
		}
		made.last, made.value = made.value, int32(len(nodes))
		below.Sym, below.Rule, below.First, below.Depth = s.sym, s.rule, made.last, below.Depth+1
		nodes = append(nodes, below)
	}
	made.state = w.state
	return made, nodes
}

// way finds a climb.
func (g *Grammar) way(top, from, kind int32) *climb {
	w := &climb{top: top, from: from, kind: kind, state: from}
	for i := range w.steps {
		state := &g.states[w.state]
		rule := state.reduce
		if state.shifts {
			if n := state.base + kind; n >= 0 && n < int32(len(g.actions)) && int32(g.actions[n].check) == kind {
				rule = -int32(g.actions[n].to)
			}
		}
		if rule <= 0 || rule == -g.tableNone || g.rules[rule].length != 1 {
			return w
		}
		w.steps[i] = step{g.rules[rule].left, int16(rule)}
		w.state = g.follow(top, w.steps[i].sym)
	}
	return w
}

// climbing says whether a state has a rule of one symbol.
func (g *Grammar) climbing(s *state) bool {
	if s.reduce > 0 && g.rules[s.reduce].length == 1 {
		return true
	}
	for kind := int32(0); s.shifts && kind < g.terminals; kind++ {
		if n := s.base + kind; n >= 0 && n < int32(len(g.actions)) && int32(g.actions[n].check) == kind {
			if rule := -int32(g.actions[n].to); rule > 0 && rule != -g.tableNone && g.rules[rule].length == 1 {
				return true
			}
		}
	}
	return false
}
