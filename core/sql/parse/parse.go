package parse

import (
	"fmt"
	"slices"
	"sync"
)

// Bounds on one text. Deeper or longer is refused, so that no walk over a tree
// can exhaust the stack.
const (
	MaxBytes  = 1 << 20
	MaxTokens = 400_000
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

	stack []entry
}

// entry is one of the parser's stack.
type entry struct {
	state       int32
	value, last int32 // the node that it came with, and its last child
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
	*t = Tree{Tokens: t.Tokens[:0], Nodes: t.Nodes[:0], stack: t.stack[:0]}
	trees.Put(t)
}

// build is the shift and reduce loop over bison's compressed tables (Bison
// manual, "The Bison Parser Algorithm"). Nodes are written where they stand: a
// copy of one that was just written waits for its parts.
func (t *Tree) build() error {
	g := t.Grammar
	stack := append(t.stack[:0], entry{})
	large := len(t.Tokens) > maxKept
	if large { // many of which are refused soon
		t.Nodes = make([]Node, 0, min(10*len(t.Tokens), 1<<16))
	}
	nodes := append(t.Nodes[:0], Node{})
	defer func() { t.Nodes, t.stack = nodes, stack }()
	pos, kind := 0, t.kind(0)
	next, known := int32(0), false
	for {
		if large && len(nodes) == cap(nodes) { // most go on as they began
			nodes = slices.Grow(nodes, max(len(nodes)/2, len(nodes)*(len(t.Tokens)-pos)/max(pos, 1)+len(nodes)/64))
		}
		if !known {
			next = g.action(stack[len(stack)-1].state, kind)
		}
		known = false
		if next == 0 {
			return t.fault(pos)
		}
		if next > 0 {
			if pos == len(t.Tokens) { // the end is shifted: accepted
				t.Root = stack[len(stack)-1].value
				return nil
			}
			made := entry{state: next, value: int32(len(nodes))}
			nodes = append(nodes, Node{})
			node := &nodes[len(nodes)-1]
			node.Sym, node.From, node.To = Symbol(kind), int32(pos), int32(pos+1)
			pos++
			kind = t.kind(pos)
			if known = g.states[next].climbs; known {
				made, nodes, next = g.climb(nodes, stack[len(stack)-1].state, made, kind)
			}
			stack = append(stack, made)
			continue
		}
		rule := -next
		sym := g.rules[rule].left
		base := len(stack) - int(g.rules[rule].length)
		kids := stack[base:]
		if sym == g.values && len(kids) == 3 { // and a comma, and one more
			list, comma, next := &nodes[kids[0].value], kids[1].value, kids[2].value
			nodes[kids[0].last].Next, nodes[comma].Next = comma, next
			kids[0].last, list.To, list.Depth = next, nodes[next].To, max(list.Depth, nodes[next].Depth+1)
			if list.Depth > MaxDepth {
				return deep(t.offset(pos))
			}
			stack = stack[:base+1]
			continue
		}
		made := entry{value: int32(len(nodes))}
		nodes = append(nodes, Node{})
		node := &nodes[len(nodes)-1]
		node.Sym, node.Rule, node.From, node.To = sym, int16(rule), int32(pos), int32(pos)
		for i := range kids {
			k := &nodes[kids[i].value]
			if made.last == 0 {
				node.First, node.From = kids[i].value, k.From
			} else {
				nodes[made.last].Next = kids[i].value
			}
			made.last, node.To, node.Depth = kids[i].value, k.To, max(node.Depth, k.Depth+1)
		}
		if sym == g.rows && nodes[node.First].Sym == g.rows { // one row behind another is not within it
			node.Depth--
		}
		if node.Depth > MaxDepth {
			return deep(t.offset(pos))
		}
		top := stack[base-1].state
		made.state = g.follow(top, sym)
		if known = g.states[made.state].climbs; known {
			made, nodes, next = g.climb(nodes, top, made, kind)
		}
		stack = append(stack[:base], made)
	}
}

// action gives what a state does at a terminal: the state behind it, the rule to
// reduce by as a negative number, or 0 where it does not go on.
func (g *Grammar) action(state, kind int32) int32 {
	s := &g.states[state]
	if s.shifts {
		if n := s.base + kind; n >= 0 && n < int32(len(g.actions)) && int32(g.actions[n].check) == kind {
			if a := int32(g.actions[n].to); a != g.tableNone {
				return a
			}
			return 0
		}
	}
	return -s.reduce
}

// follow gives the state behind a non-terminal.
func (g *Grammar) follow(top int32, sym Symbol) int32 {
	next := &g.gotos[int32(sym)-g.terminals]
	if i := next.base + top; i >= 0 && i < int32(len(g.actions)) && int32(g.actions[i].check) == top {
		return int32(g.actions[i].to)
	}
	return next.usual
}

// kind gives the terminal at a place, 0 at the end.
func (t *Tree) kind(pos int) int32 {
	if pos == len(t.Tokens) {
		return 0
	}
	return int32(t.Tokens[pos].Kind)
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
	list := t.Grammar.list
	for at := t.Nodes[t.Root].First; at != 0; {
		before := int32(0)
		for k := t.Nodes[at].First; k != 0; k = t.Nodes[k].Next {
			switch node := &t.Nodes[k]; {
			case node.Sym == list:
				before = k
			case node.Rule != 0 && node.From < node.To:
				n++
			}
		}
		at = before
	}
	return n
}
