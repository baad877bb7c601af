package parse

import (
	"slices"
	"sync/atomic"
)

// Half of all nodes have one child: an expression that is a column is 10 rules,
// each of one symbol. By which of them the automaton goes up hangs on the state
// beneath, the one on top and the next terminal alone, and is kept.

// climbs are ways that were gone before, by a sum over what they hang on. Two may
// have the same sum; one more takes the place of the older.
type climbs [1 << 12][2]atomic.Pointer[climb]

// climb is a way up, as far as it has room for: the automaton goes on from there.
type climb struct {
	top, from, kind int32
	state           int16 // in the end
	length          int16
	next            int32 // what that does at kind
	steps           [12]step
}

// step is a rule of one symbol, and its left side.
type step struct {
	sym  Symbol
	rule int16
}

// climb reduces made, which stands on the state top, by rules of one symbol, as far
// as the terminal kind has it do, and gives what comes then.
func (g *Grammar) climb(nodes []Node, top int32, made entry, kind int32) (entry, []Node, int32) {
	slots := &g.climbs[(uint32(top)*0x9E3779B1^uint32(made.state)*0x85EBCA77^uint32(kind)*0xC2B2AE3D)>>20]
	w := slots[0].Load()
	if w == nil || w.top != top || w.from != made.state || w.kind != kind {
		older := w
		if w = slots[1].Load(); w == nil || w.top != top || w.from != made.state || w.kind != kind {
			w = g.way(top, made.state, kind)
			slots[1].Store(older)
			slots[0].Store(w)
		}
	}
	steps := w.steps[:w.length]
	at, below := int32(len(nodes)), &nodes[made.value]
	from, to, depth := below.From, below.To, below.Depth
	nodes = slices.Grow(nodes, len(steps))[:int(at)+len(steps)]
	up := nodes[at:]
	for i := range steps {
		n := &up[i] // field by field: a literal is put together elsewhere and copied
		n.Sym, n.Rule, n.From, n.To, n.First, n.Next, n.Depth = steps[i].sym, steps[i].rule, from, to, made.value, 0, depth+int32(i)+1
		made.last, made.value = made.value, at+int32(i)
	}
	made.state = int32(w.state)
	return made, nodes, w.next
}

// way finds a climb.
func (g *Grammar) way(top, from, kind int32) *climb {
	w := &climb{top: top, from: from, kind: kind, state: int16(from), next: g.action(from, kind)}
	for i := range w.steps {
		rule := -w.next
		if rule <= 0 || g.rules[rule].length != 1 {
			return w
		}
		w.steps[i] = step{g.rules[rule].left, int16(rule)}
		w.state, w.length = int16(g.follow(top, w.steps[i].sym)), int16(i+1)
		w.next = g.action(int32(w.state), kind)
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
