package parse

import (
	"fmt"
	"sync"
)

// Bounds on one text. Deeper or longer is refused, so that no walk over a tree
// can exhaust the stack.
const (
	MaxBytes  = 1 << 20
	MaxTokens = 200_000
	MaxDepth  = 5000
)

// Token is one terminal: Text[Start:End], and what it stands for: the name of
// an identifier, the characters of a string, the digits of a number.
type Token struct {
	Kind       Symbol
	Start, End int32
	Value      string
}

// Node is one production or one token of the concrete syntax tree. Children
// are linked First, then Next, by index into Tree.Nodes; 0 is none. A list of
// values (expr_list) is one node, of the rule of its first element: programs
// write long ones. Any other list has the list before its last element as its
// first child.
type Node struct {
	Sym         Symbol
	Rule        int16 // 0 for a token
	From, To    int32 // tokens [From, To)
	First, Next int32
	Depth       int32
}

// Tree is a parsed text. Nodes[0] is not used.
type Tree struct {
	Grammar *Grammar
	Text    string
	Tokens  []Token
	Nodes   []Node
	Root    int32

	states, values, lasts []int32 // the stack: a state, the node that it came with, and its last child
}

// SyntaxError is what PostgreSQL answers with SQLSTATE 42601.
type SyntaxError struct {
	Offset  int    // byte in the text
	Near    string // the token at fault, empty at the end of the text
	Message string
}

func (e *SyntaxError) Error() string {
	if e.Near == "" {
		return e.Message
	}
	return fmt.Sprintf("%s at or near %q", e.Message, e.Near)
}

// trees are those that Release has given back.
var trees = sync.Pool{New: func() any { return new(Tree) }}

// maxKept is how many tokens a tree may have had that is used again.
const maxKept = 2048

// Parse reads a text of any number of statements.
func (g *Grammar) Parse(text string) (*Tree, error) {
	t := trees.Get().(*Tree)
	t.Grammar, t.Text = g, text
	var err error
	if t.Tokens, err = g.lex(text, t.Tokens[:0]); err == nil {
		err = t.build()
	}
	if err != nil {
		t.Release()
		return nil, err
	}
	return t, nil
}

// Release gives up a tree, of which nothing may be used any more: the next
// Parse takes its memory. Strings that its tokens had are not part of it.
func (t *Tree) Release() {
	if len(t.Tokens) > maxKept {
		return
	}
	clear(t.Tokens)
	*t = Tree{Tokens: t.Tokens[:0], Nodes: t.Nodes[:0], states: t.states[:0], values: t.values[:0], lasts: t.lasts[:0]}
	trees.Put(t)
}

// build is the shift and reduce loop over bison's compressed tables (Bison
// manual, "The Bison Parser Algorithm").
func (t *Tree) build() error {
	g := t.Grammar
	states, values, lasts := append(t.states[:0], 0), append(t.values[:0], 0), append(t.lasts[:0], 0)
	if len(t.Tokens) > maxKept { // most come to less, and none grows far beyond
		t.Nodes = make([]Node, 0, 10*len(t.Tokens))
	}
	nodes := append(t.Nodes[:0], Node{})
	defer func() { t.Nodes, t.states, t.values, t.lasts = nodes, states, values, lasts }()
	pos := 0
	for {
		state := states[len(states)-1]
		rule := g.defact[state]
		if n := g.pact[state]; n != g.pactNone {
			kind := int32(0)
			if pos < len(t.Tokens) {
				kind = int32(t.Tokens[pos].Kind)
			}
			if n += kind; n >= 0 && n <= g.last && int32(g.check[n]) == kind {
				a := int32(g.table[n])
				if a == 0 || a == g.tableNone {
					return t.fault(pos)
				}
				if a > 0 {
					if pos == len(t.Tokens) { // the end is shifted: accepted
						t.Root = values[len(values)-1]
						return nil
					}
					nodes = append(nodes, Node{Sym: Symbol(kind), From: int32(pos), To: int32(pos + 1)})
					states = append(states, a)
					values, lasts = append(values, int32(len(nodes)-1)), append(lasts, 0)
					pos++
					continue
				}
				rule = -a
			}
		}
		if rule == 0 {
			return t.fault(pos)
		}
		base := len(values) - int(g.length[rule])
		node := Node{Sym: Symbol(g.left[rule]), Rule: int16(rule), From: int32(pos), To: int32(pos)}
		if node.Sym == g.values && len(values)-base == 3 { // and a comma, and one more
			list, comma, next := &nodes[values[base]], values[base+1], values[base+2]
			nodes[lasts[base]].Next, nodes[comma].Next = comma, next
			lasts[base], list.To, list.Depth = next, nodes[next].To, max(list.Depth, nodes[next].Depth+1)
			if list.Depth > MaxDepth {
				return deep(t.offset(pos))
			}
			states, values, lasts = states[:base+1], values[:base+1], lasts[:base+1]
			continue
		}
		prev := int32(0)
		for _, v := range values[base:] {
			k := &nodes[v]
			if prev == 0 {
				node.First, node.From = v, k.From
			} else {
				nodes[prev].Next = v
			}
			prev = v
			node.To = k.To
			node.Depth = max(node.Depth, k.Depth+1)
		}
		if node.Sym == g.rows && nodes[node.First].Sym == g.rows { // one row behind another is not within it
			node.Depth--
		}
		if node.Depth > MaxDepth {
			return deep(t.offset(pos))
		}
		nodes = append(nodes, node)
		states, values, lasts = states[:base], append(values[:base], int32(len(nodes)-1)), append(lasts[:base], prev)
		top := states[base-1]
		l := int32(node.Sym) - g.terminals
		next := g.defgoto[l]
		if i := g.pgoto[l] + top; i >= 0 && i <= g.last && int32(g.check[i]) == top {
			next = int32(g.table[i])
		}
		states = append(states, next)
	}
}

func deep(offset int) error {
	return &SyntaxError{Offset: offset, Message: "statement is nested too deeply"}
}

func (t *Tree) offset(pos int) int {
	if pos < len(t.Tokens) {
		return int(t.Tokens[pos].Start)
	}
	return len(t.Text)
}

func (t *Tree) fault(pos int) error {
	if pos == len(t.Tokens) {
		return &SyntaxError{Offset: len(t.Text), Message: "syntax error at end of input"}
	}
	k := t.Tokens[pos]
	return &SyntaxError{Offset: int(k.Start), Near: t.Text[k.Start:k.End], Message: "syntax error"}
}

// Statements counts the statements of a text; empty ones do not count.
func (t *Tree) Statements() (n int) {
	for i := 1; i < len(t.Nodes); i++ {
		if t.Grammar.Names[t.Nodes[i].Sym] == "toplevel_stmt" && t.Nodes[i].From < t.Nodes[i].To {
			n++
		}
	}
	return n
}
