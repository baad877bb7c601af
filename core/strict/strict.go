// Package strict reads YAML without forgiving anything: unknown keys, keys
// that come twice and wrong types are faults, all of them reported at once,
// each with file, line and column.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/taskgate/taskgate/internal/nearest"
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
	s := ""
	if f.File != "" {
		s = fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	}
	if f.Path != "" {
		s += f.Path + ": "
	}
	return printable(s + f.Message)
}

// printable keeps what a file holds from steering the terminal that its faults
// are read on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError
		}
		return r
	}, s)
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
		if f[i].Line != f[j].Line {
			return f[i].Line < f[j].Line
		}
		return f[i].Column < f[j].Column
	})
	return f
}

// Of gives the faults that an error is made of. What is none itself becomes one
// that stands nowhere.
func Of(err error) (all Faults) {
	if err == nil {
		return nil
	}
	if f, ok := err.(Faults); ok {
		return f
	}
	if f, ok := err.(Fault); ok {
		return Faults{f}
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, Of(e)...)
		}
		return all
	}
	return Faults{{Message: strings.TrimSpace(err.Error())}}
}

// The bounds of a file.
const (
	MaxBytes = 1 << 20
	maxDepth = 100 // of brackets
)

// ReadFile reads a file that is to be parsed. What is no file, or too large for
// one of ours, is not read at all: a pipe would never end.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no file")}
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err == nil && len(b) > MaxBytes {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%d bytes: at most %d", st.Size(), MaxBytes)}
	}
	return b, err
}

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
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // an editor's mark that this is UTF-8
	if f := unreadable(b); f != nil {
		f.File = file
		*faults = append(*faults, *f)
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
		*faults = append(*faults, Fault{File: file, Line: line, Column: column, Message: strings.Replace(text, "character '\t'", "a tab", 1) + advice(text)})
		return n
	}
	var docs []ast.Node
	for _, d := range f.Docs {
		switch d.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
		default:
			docs = append(docs, d.Body)
		}
	}
	switch len(docs) {
	case 0:
		n.Fault("the file is empty")
		return n
	case 1:
	default:
		Node{file: file, node: docs[1], faults: faults}.Fault("a second document: exactly one is expected")
		return n
	}
	if n.node = docs[0]; n.marked() {
		n.Fault("anchors, aliases and tags are not allowed")
		n.node = nil
	}
	return n
}

// unreadable gives the fault of a file that is no text of ours.
func unreadable(b []byte) *Fault {
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return &Fault{Line: 1, Column: 1, Message: "this is UTF-16: save the file as UTF-8"}
	}
	line, column, depth := 1, 1, 0
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return &Fault{Line: line, Column: column, Message: "this is no UTF-8: save the file as UTF-8"}
		case r == '\n':
			line, column = line+1, 0
		case r == '[' || r == '{':
			depth++
		case (r == ']' || r == '}') && depth > 0:
			depth--
		}
		if depth > maxDepth {
			return &Fault{Line: line, Column: column, Message: fmt.Sprintf("brackets nested more than %d deep", maxDepth)}
		}
		i += size
		column++
	}
	return nil
}

// advice is what helps against the usual slips.
func advice(text string) string {
	for _, a := range [][2]string{
		{"found character '\t'", " (indent with spaces, not with tabs)"},
		{"mapping value is not allowed", " (a text with a colon in it needs quotes)"},
		{"value is not allowed in this", " (is the indentation that of the lines above?)"},
		{"unexpected scalar value type", " (a text that begins with * needs quotes: '*')"},
		{"undefined alias", " (a text that begins with * needs quotes)"},
		{"is a reserved character", " (a text that begins with it needs quotes)"},
		{"unexpected directive value", " (a text that begins with % needs quotes)"},
		{"must be specified", " (is a bracket or a brace not closed?)"},
		{"could not find end character", " (is a quote not closed?)"},
		{"found an invalid key for this map", " (keys are plain texts)"},
	} {
		if strings.Contains(text, a[0]) {
			return a[1]
		}
	}
	return ""
}

// marked says whether the value is what this format does without.
func (n Node) marked() bool {
	switch n.node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return true
	}
	return false
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
	if t := n.token(); t != nil {
		return t.Position.Line
	}
	return 1
}

// token is where the value begins: a mapping in lines at its first key.
func (n Node) token() *token.Token {
	switch m := n.node.(type) {
	case nil:
		return nil
	case *ast.MappingValueNode:
		return m.Key.GetToken()
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key.GetToken()
		}
	}
	return n.node.GetToken()
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
	if t := n.token(); t != nil {
		f.Line, f.Column = t.Position.Line, t.Position.Column
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
	c := Node{file: n.file, path: path, node: v, faults: n.faults}
	if c.marked() {
		c.Fault("anchors, aliases and tags are not allowed")
		c.node = nil
	}
	return n.beneath(strings.Trim(step, "[]"), c)
}

// Under gives the value at a path of keys and indexes, or the nearest above it
// that the file has.
func (n Node) Under(path []string) Node {
	if len(path) == 0 {
		return n
	}
	found := n
	if n.IsList() {
		for i, v := range n.List() {
			if strconv.Itoa(i) == path[0] {
				found = v.Under(path[1:])
			}
		}
		return found
	}
	switch n.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		n.Each(func(key string, v Node) {
			if key == path[0] {
				found = v.Under(path[1:])
			}
		})
	}
	return found
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
			if _, nothing := v.node.(*ast.NullNode); nothing {
				v.Fault("nothing stands here: give it a value, or leave the key out")
				return
			}
			f(v)
			return
		}
		hint := " (known are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ") + ")"
		if near := nearest.Word(key, maps.Keys(fields)); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		v.Fault("unknown key%s", hint)
	})
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
		if n.IsText() {
			n.Fault("a list is expected: [%s]", n.String())
			return nil
		}
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

// IsEmpty says whether the value is a sequence without elements.
func (n Node) IsEmpty() bool { s, ok := n.node.(*ast.SequenceNode); return ok && len(s.Values) == 0 }

// IsText says whether the value is a text.
func (n Node) IsText() bool { _, ok := n.node.(*ast.StringNode); return ok }

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
	switch n.node.(type) {
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		n.Fault("a text is expected, not %s: quote it", kind(n.node))
	default:
		n.Fault("a text is expected, not %s", kind(n.node))
	}
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
	if _, text := n.node.(*ast.StringNode); text { // else it has its fault already
		hint := ""
		if near := nearest.Word(s, slices.Values(words)); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		n.Fault("%q: one of %s is expected%s", s, strings.Join(words, ", "), hint)
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
