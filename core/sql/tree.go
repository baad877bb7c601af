package sql

import (
	"slices"

	"github.com/taskgate/taskgate/core/sql/parse"
)

// The tree is PostgreSQL's own, with its production names; these are the few
// ways of looking at it that the analysis needs.

func (a *analyzer) name(n int32) string { return a.g.Names[a.t.Nodes[n].Sym] }

func (a *analyzer) rule(n int32) []string {
	if r := a.t.Nodes[n].Rule; r > 0 {
		return a.g.Rules[r-1]
	}
	return nil
}

func (a *analyzer) empty(n int32) bool { return a.t.Nodes[n].From == a.t.Nodes[n].To }

func (a *analyzer) token(n int32) *parse.Token { return &a.t.Tokens[a.t.Nodes[n].From] }

// kids calls f with each child.
func (a *analyzer) kids(n int32, f func(int32)) {
	for c := a.t.Nodes[n].First; c != 0; c = a.t.Nodes[c].Next {
		f(c)
	}
}

// kid gives the child of that name, 0 where there is none.
func (a *analyzer) kid(n int32, name string) int32 {
	nodes, briefs, is := a.t.Nodes, a.symbols.briefs, briefOf(name)
	for c := nodes[n].First; c != 0; c = nodes[c].Next {
		if sym := nodes[c].Sym; briefs[sym] == is && a.g.Names[sym] == name {
			return c
		}
	}
	return 0
}

// brief tells most names apart: it is what is looked at first.
type brief uint16

func briefOf(name string) brief { return brief(len(name))<<8 | brief(name[0]) }

// find gives the first node of that name in the subtree, 0 where there is none.
func (a *analyzer) find(n int32, name string) int32 {
	if a.name(n) == name {
		return n
	}
	for c := a.t.Nodes[n].First; c != 0; c = a.t.Nodes[c].Next {
		if f := a.find(c, name); f != 0 {
			return f
		}
	}
	return 0
}

// has says whether a terminal is among the tokens of a node.
func (a *analyzer) has(n int32, kind parse.Symbol) bool {
	node := &a.t.Nodes[n]
	return slices.ContainsFunc(a.t.Tokens[node.From:node.To], func(t parse.Token) bool { return t.Kind == kind })
}

// list gives the elements of a list, in order: left-recursive, or in one node.
func (a *analyzer) list(n int32, element string) []int32 {
	nodes, names, sym := a.t.Nodes, a.g.Names, parse.Symbol(0)
	count := 0
	for at := n; at != 0; {
		before := int32(0)
		for c := nodes[at].First; c != 0; c = nodes[c].Next {
			switch k := nodes[c].Sym; {
			case k == sym, sym == 0 && names[k] == element:
				sym = k
				count++
			case k == nodes[at].Sym:
				before = c
			}
		}
		at = before
	}
	if count == 0 {
		return nil
	}
	out := a.nodes.take(count)
	for at := n; count > 0; { // the list before stands before its elements
		before, from := int32(0), count
		for c := nodes[at].First; c != 0; c = nodes[c].Next {
			switch k := nodes[c].Sym; {
			case k == sym:
				count--
				out[count] = c
			case k == nodes[at].Sym:
				before = c
			}
		}
		slices.Reverse(out[count:from])
		at = before
	}
	return out
}

// ident gives the name behind a ColId, ColLabel and their like.
func (a *analyzer) ident(n int32) string { return a.token(n).Value }

// parts gives the names of ColId and the attributes behind it. plain is false
// where there is a subscript; star is true where the last is '*'.
func (a *analyzer) parts(n int32) (names []string, star, plain bool) {
	if names = a.dotted(n); names != nil {
		return names, false, true
	}
	plain = true
	var few [4]string
	all := few[:0]
	for c := a.t.Nodes[n].First; c != 0; c = a.t.Nodes[c].Next {
		switch a.name(c) {
		case "attrs":
			for _, at := range a.list(c, "attr_name") {
				all = append(all, a.ident(at))
			}
		case "indirection", "opt_indirection":
			for _, el := range a.list(c, "indirection_el") {
				switch r := a.rule(el); {
				case r[1] == "." || r[1] == "'.'":
					if at := a.kid(el, "attr_name"); at != 0 {
						all = append(all, a.ident(at))
					} else {
						star = true
					}
				default:
					plain = false
				}
			}
		default:
			all = append(all, a.ident(c))
		}
	}
	names = a.pieces.take(len(all))
	copy(names, all)
	return names, star, plain
}

// dotted gives the parts of a name that is nothing but names with dots between, as
// most are; nil of others.
func (a *analyzer) dotted(n int32) []string {
	node := &a.t.Nodes[n]
	tokens := a.t.Tokens[node.From:node.To]
	if !a.symbols.name[node.Sym] || len(tokens)%2 == 0 {
		return nil
	}
	for i := range tokens {
		if kind := tokens[i].Kind; kind == a.symbols.star || i%2 == 1 && kind != a.symbols.dot {
			return nil
		}
	}
	names := a.pieces.take((len(tokens) + 1) / 2)
	for i := range names {
		names[i] = tokens[2*i].Value
	}
	return names
}

// through steps down while a node has a single child, to what it stands for: a
// column reference, or the first thing that has parts.
func (a *analyzer) through(n int32) int32 {
	for a.t.Nodes[n].Sym != a.symbols.columnref {
		first := a.t.Nodes[n].First
		if first == 0 || a.t.Nodes[first].Next != 0 {
			return n
		}
		n = first
	}
	return n
}

// bare is through that looks into brackets as well.
func (a *analyzer) bare(n int32) int32 {
	for n = a.through(n); a.name(n) == "c_expr" && len(a.rule(n)) == 5 && a.rule(n)[1] == "'('" && a.empty(a.kid(n, "opt_indirection")); {
		n = a.through(a.kid(n, "a_expr"))
	}
	return n
}
