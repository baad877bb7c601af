// Package strict reads YAML without forgiving anything: unknown keys, keys
// that come twice and wrong types are faults, all of them reported at once,
// each with file, line and column.
package strict

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"` // of the field: allow[0].columns
	Message string `json:"message"`
}

func (f Fault) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Path != "" {
		s += f.Path + ": "
	}
	return s + f.Message
}

// Faults are all that was found. The zero value is none.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Err gives the faults as an error, nil where there are none, in the order of
// the files' lines.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	sort.SliceStable(f, func(i, j int) bool {
		if f[i].File != f[j].File {
			return f[i].File < f[j].File
		}
		return f[i].Line < f[j].Line
	})
	return f
}

// MaxBytes bounds a file.
const MaxBytes = 4 << 20

// Node is one value of a file.
type Node struct {
	file   string
	path   string
	node   ast.Node
	faults *Faults
	over   []Layer
}

// Layer is a value from elsewhere, an environment variable or a flag, that
// takes the place of the one in the file.
type Layer struct {
	Origin string   // for faults: "TASKGATE_DATA", "--set data"
	Path   []string // keys, and indexes of lists
	Value  string   // YAML
	Fold   bool     // Path is the same in capitals and small letters
}

// under says whether the layer lies at or under a key.
func (l *Layer) under(key string) bool {
	return l.Path[0] == key || l.Fold && strings.EqualFold(l.Path[0], key)
}

// Parse reads one document. Its faults, and those of everything read from the
// node that it returns, go to faults.
func Parse(file string, b []byte, faults *Faults) Node {
	n := Node{file: file, faults: faults}
	if len(b) > MaxBytes {
		n.Fault("%d bytes: at most %d", len(b), MaxBytes)
		return n
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		text := err.Error()
		line, column := 1, 1
		if _, e := fmt.Sscanf(text, "[%d:%d]", &line, &column); e == nil {
			_, text, _ = strings.Cut(text, "] ")
		}
		text, _, _ = strings.Cut(text, "\n")
		*faults = append(*faults, Fault{File: file, Line: line, Column: column, Message: text})
		return n
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		n.Fault("%d documents: exactly one is expected", len(f.Docs))
		return n
	}
	n.node = f.Docs[0].Body
	return n
}

// With lays values from elsewhere over the file's. Of two for one place the
// later counts.
func (n Node) With(layers []Layer) Node {
	n.over = layers
	return n
}

// beneath gives the layers that lie at or under a child. One that is the child
// itself replaces it, and counts from there on.
func (n Node) beneath(step string, c Node) Node {
	for _, l := range n.over {
		if !l.under(step) {
			continue
		}
		if len(l.Path) > 1 {
			c.over = append(c.over, Layer{l.Origin, l.Path[1:], l.Value, l.Fold})
			continue
		}
		v := Parse(l.Origin, []byte(l.Value), n.faults)
		if v.node == nil && strings.TrimSpace(l.Value) == "" {
			v.Fault("empty")
		}
		c = Node{file: l.Origin, path: c.path, node: v.node, faults: n.faults}
	}
	if len(c.over) > 0 && c.node != nil {
		switch c.node.(type) {
		case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		default:
			o := Node{file: c.over[0].Origin, path: c.path, faults: n.faults}
			o.Fault("%q has no place in %s", strings.Join(c.over[0].Path, "."), kind(c.node))
			c.over = nil
		}
	}
	return c
}

// Exists says whether there is a value.
func (n Node) Exists() bool { return n.node != nil || len(n.over) > 0 }

// Line is where the value stands, from 1.
func (n Node) Line() int {
	if n.node == nil || n.node.GetToken() == nil {
		return 1
	}
	return n.node.GetToken().Position.Line
}

// At is "file:line".
func (n Node) At() string { return n.file + ":" + strconv.Itoa(n.Line()) }

// Fault reports what is wrong with the value.
func (n Node) Fault(format string, args ...any) {
	*n.faults = append(*n.faults, n.Wrong(format, args...))
}

// Wrong is a fault of the value that is found after the file was read.
func (n Node) Wrong(format string, args ...any) Fault {
	f := Fault{File: n.file, Line: 1, Column: 1, Path: n.path, Message: fmt.Sprintf(format, args...)}
	if n.node != nil && n.node.GetToken() != nil {
		f.Line, f.Column = n.node.GetToken().Position.Line, n.node.GetToken().Position.Column
	}
	return f
}

func (n Node) child(step string, v ast.Node) Node {
	path := step
	if n.path != "" && !strings.HasPrefix(step, "[") {
		path = n.path + "." + step
	} else if n.path != "" {
		path = n.path + step
	}
	switch v.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		c := Node{file: n.file, path: path, node: v, faults: n.faults}
		c.Fault("anchors, aliases and tags are not allowed")
		v = nil
	}
	return n.beneath(strings.Trim(step, "[]"), Node{file: n.file, path: path, node: v, faults: n.faults})
}

// Each calls f with each key and value of a mapping, in order.
func (n Node) Each(f func(key string, v Node)) {
	var values []*ast.MappingValueNode
	switch m := n.node.(type) {
	case nil:
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		n.Fault("a mapping is expected, not %s", kind(n.node))
		return
	}
	seen := map[string]bool{}
	for _, v := range values {
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.MappingKeyNode, *ast.MergeKeyNode:
			n.child("<<", v).Fault("merge keys are not allowed")
			continue
		default:
			key = v.Key.String()
		}
		c := n.child(key, v.Value)
		if seen[key] {
			c.Fault("the key comes twice")
			continue
		}
		seen[key] = true
		f(key, c)
	}
	for _, l := range n.over { // what the file does not have
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), l.under) {
			key := l.Path[0]
			seen[key] = true
			f(key, n.child(key, nil))
		}
	}
}

// Fields reads a mapping with known keys; any other is a fault, with the
// nearest known one as a hint.
func (n Node) Fields(fields map[string]func(Node)) {
	n.Each(func(key string, v Node) {
		if f := fields[key]; f != nil {
			f(v)
			return
		}
		hint := " (known are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ") + ")"
		if near := nearest(key, fields); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		v.Fault("unknown key%s", hint)
	})
}

func nearest(key string, fields map[string]func(Node)) string {
	best, most := "", 3
	for name := range fields {
		if d := distance(key, name); d < most || d == most && name < best && best != "" {
			best, most = name, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, last+cost)
			last, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// List gives the elements of a sequence.
func (n Node) List() (out []Node) {
	if !n.Exists() {
		return nil
	}
	s, ok := n.node.(*ast.SequenceNode)
	if !ok && n.node == nil {
		s, ok = &ast.SequenceNode{}, true
	}
	if !ok {
		n.Fault("a list is expected, not %s", kind(n.node))
		return nil
	}
	for i, v := range s.Values {
		out = append(out, n.child("["+strconv.Itoa(i)+"]", v))
	}
	for _, l := range n.over {
		if i, err := strconv.Atoi(l.Path[0]); err != nil || i > len(out) || i < 0 {
			n.child(l.Path[0], nil).Fault("%q: an index from 0 to %d is expected", l.Path[0], len(out))
		} else if i == len(out) {
			out = append(out, n.child("["+l.Path[0]+"]", nil))
		}
	}
	return out
}

// IsList says whether the value is a sequence.
func (n Node) IsList() bool { _, ok := n.node.(*ast.SequenceNode); return ok }

// String reads a text. A number or a boolean is not one: quote it.
func (n Node) String() string {
	switch v := n.node.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		if strings.ContainsRune(v.Value, 0) {
			n.Fault("a text with a zero byte")
			return ""
		}
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	}
	n.Fault("a text is expected, not %s: quote it", kind(n.node))
	return ""
}

// Strings reads a list of texts.
func (n Node) Strings() (out []string) {
	for _, v := range n.List() {
		out = append(out, v.String())
	}
	return out
}

// Bool reads true or false.
func (n Node) Bool() bool {
	if v, ok := n.node.(*ast.BoolNode); ok {
		return v.Value
	}
	if n.node != nil {
		n.Fault("true or false is expected, not %s", kind(n.node))
	}
	return false
}

// Int reads a number from 0 to most.
func (n Node) Int(most int64) int64 {
	v, ok := n.node.(*ast.IntegerNode)
	if !ok {
		if n.node != nil {
			n.Fault("a number is expected, not %s", kind(n.node))
		}
		return 0
	}
	i, err := strconv.ParseInt(v.GetToken().Value, 10, 64)
	if err != nil || i < 0 || i > most {
		n.Fault("a number from 0 to %d is expected", most)
		return 0
	}
	return i
}

// Duration reads a time with its unit: 30s, 15m, 4h.
func (n Node) Duration() time.Duration {
	s := n.String()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		n.Fault("a duration like 30s, 15m or 4h is expected, not %q", s)
		return 0
	}
	return d
}

// One reads a text that is one of words.
func (n Node) One(words ...string) string {
	s := n.String()
	for _, w := range words {
		if s == w {
			return s
		}
	}
	if n.node != nil {
		n.Fault("%q: one of %s is expected", s, strings.Join(words, ", "))
	}
	return ""
}

// JSON gives the value as encoding/json would read it.
func (n Node) JSON() any {
	switch v := n.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		m := map[string]any{}
		n.Each(func(k string, c Node) { m[k] = c.JSON() })
		return m
	case *ast.SequenceNode:
		list := []any{}
		for _, c := range n.List() {
			list = append(list, c.JSON())
		}
		return list
	case *ast.BoolNode:
		return v.Value
	case *ast.IntegerNode:
		return v.Value
	case *ast.FloatNode:
		return v.Value
	case *ast.NullNode, nil:
		return nil
	default:
		return n.String()
	}
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.NullNode:
		return "nothing"
	}
	return "something else"
}
