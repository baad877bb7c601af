// Package parse reads PostgreSQL text with PostgreSQL's own grammar: the LALR
// automaton that bison makes of each major's gram.y, packed by .ci/grammar,
// and a lexer written from the chapter "Lexical Structure" of the manual.
package parse

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
)

//go:embed tab15.bin.gz
var table15 []byte

//go:embed tab17.bin.gz
var table17 []byte

//go:embed tab18.bin.gz
var table18 []byte

var load15 = sync.OnceValues(func() (*Grammar, error) { return unpack(15, table15) })
var load17 = sync.OnceValues(func() (*Grammar, error) { return unpack(17, table17) })
var load18 = sync.OnceValues(func() (*Grammar, error) { return unpack(18, table18) })

// ForServer gives the grammar of a server's major version, or the table of the
// next newer one there is with that major's keywords; the server has the last
// word on what it does not know yet.
func ForServer(major int) (*Grammar, error) {
	switch major {
	case 13:
		return load13()
	case 14:
		return load14()
	case 15:
		return load15()
	case 16:
		return load16()
	case 17:
		return load17()
	case 18:
		return load18()
	}
	return nil, fmt.Errorf("parse: no grammar for PostgreSQL %d", major)
}

// What is no keyword yet for a server that is judged by a newer table. As one,
// json_value(…) would be judged as the special form that it is for 17, and be a
// call of somebody's function for 16.
const (
	newIn14 = "asensitive atomic breadth compression depth finalize return"
	newIn15 = "matched merge parameter"
	newIn17 = "conditional empty error json_exists json_query json_scalar json_serialize json_table json_value keep merge_action nested omit path plan quotes source string target unconditional"
)

var load13 = sync.OnceValues(func() (*Grammar, error) { return older(13, load15, newIn14+" "+newIn15) })
var load14 = sync.OnceValues(func() (*Grammar, error) { return older(14, load15, newIn15) })
var load16 = sync.OnceValues(func() (*Grammar, error) { return older(16, load17, newIn17) })

// older is a newer grammar's table without the keywords that came later.
func older(major int, newer func() (*Grammar, error), without string) (*Grammar, error) {
	n, err := newer()
	if err != nil {
		return nil, err
	}
	g := *n
	g.Major, g.keywords = major, maps.Clone(n.keywords)
	for word := range strings.FieldsSeq(without) {
		delete(g.keywords, word)
	}
	g.words = hashed(g.keywords)
	return &g, nil
}

// Grammar is one major version's automaton. It is immutable.
type Grammar struct {
	Major int        // of the server, which may be older than the table
	Names []string   // of terminals and non-terminals, by Symbol
	Rules [][]string // left side and right side; rule n of a Node is Rules[n-1]

	terminals, tableNone int32

	// What a text is read with: what is looked at together stands together.
	states  []state
	gotos   []target // by non-terminal
	actions []action
	rules   []production // by a Node's Rule
	climbs  *climbs

	symbols  map[string]Symbol
	keywords map[string]keyword
	words    *words      // the same, for the lexer
	single   [128]Symbol // terminals of one character; 0 where there is none
	kinds    kinds
	merges   [][]merge // by the first terminal
	looks    []bool    // the terminals that what follows them may change
	values   Symbol    // of expr_list, of values_clause and of stmtmulti
	rows     Symbol
	list     Symbol
	classes  []Class // by terminal
}

// state says where the actions of a state begin, and by which rule it reduces
// where they have none for the terminal at hand.
type state struct {
	base, reduce int32
	shifts       bool // it has actions
	climbs       bool // a rule of one symbol is among them
}

// target likewise says to which state a non-terminal leads.
type target struct{ base, usual int32 }

// action is what to do, and for whom it is.
type action struct{ check, to int16 }

// production is the left side of a rule, and how many symbols its right side has.
type production struct{ left, length Symbol }

// Class tells the terminals apart that stand for more than their own name.
type Class uint8

// The classes of terminals.
const (
	Word Class = iota // a keyword or a sign
	Ident
	String
	Bits
	Hex
	Number
	Param
	National // N before a string
)

// Class gives what kind of terminal a token is.
func (g *Grammar) Class(t *Token) Class { return g.classes[t.Kind] }

// keyword is a word of the grammar in small letters.
type keyword struct {
	kind Symbol
	word string
}

// words are keywords by a sum over their letters, that of a word that the lexer
// has read anyway. A slot that is taken sends on to the next.
type words [1 << 11]*keyword

// mix goes on with a sum by one small letter.
func mix(sum uint32, c byte) uint32 { return (sum ^ uint32(c)) * 0x01000193 }

func (w *words) at(sum uint32) int { return int((sum ^ sum>>16) % uint32(len(w))) }

func hashed(keywords map[string]keyword) *words {
	w := new(words)
	for _, k := range keywords {
		sum := uint32(0)
		for i := range len(k.word) {
			sum = mix(sum, k.word[i])
		}
		i := w.at(sum)
		for ; w[i] != nil; i = (i + 1) % len(w) {
		}
		w[i] = &k
	}
	return w
}

// find gives the keyword that a word is, in letters of any size; sum is over its
// small ones.
func (w *words) find(sum uint32, word string) *keyword {
	for i := w.at(sum); w[i] != nil; i = (i + 1) % len(w) {
		if k := w[i]; len(k.word) == len(word) && isWord(k.word, word) {
			return k
		}
	}
	return nil
}

func isWord(small, word string) bool {
	for i := range len(small) {
		if smallCont[word[i]] != small[i] {
			return false
		}
	}
	return true
}

// kinds are the terminals that the lexer makes of anything but words.
type kinds struct {
	ident, uident, sconst, usconst, bconst, xconst, iconst, fconst, param, op, uescape, nchar, json Symbol
	typecast, colonEquals, dotDot, equalsGreater, greaterEquals, lessEquals, notEquals              Symbol
}

// merge is what a terminal becomes before another.
type merge struct{ next, into Symbol }

// Symbol numbers a terminal or a non-terminal of one Grammar; 0 is the end.
type Symbol int16

// Symbol finds a name of the grammar.
func (g *Grammar) Symbol(name string) (Symbol, bool) {
	s, ok := g.symbols[name]
	return s, ok
}

var errTable = errors.New("parse: grammar table cut short")

func unpack(major int, packed []byte) (*Grammar, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("parse: table %d: %w", major, err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("parse: table %d: %w", major, err)
	}
	g := &Grammar{Major: major, symbols: map[string]Symbol{}, keywords: map[string]keyword{}, climbs: new(climbs)}
	var sizes, pact, defact, pgoto, defgoto, table, check, left, length []int32
	for i, into := range []*[]int32{&sizes, &pact, &defact, &pgoto, &defgoto, &table, &check, &left, &length} {
		bits := 32
		if i > 4 {
			bits = 16
		}
		if *into, b, err = array(b, bits); err != nil {
			return nil, err
		}
	}
	if len(sizes) != 5 || len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)-4) {
		return nil, errTable
	}
	last, pactNone := int(sizes[1]), sizes[3]
	if g.terminals, g.tableNone = sizes[2], sizes[4]; len(pact) != len(defact) || len(pgoto) != len(defgoto) || len(left) != len(length) || len(table) != last+1 || len(check) != last+1 {
		return nil, errTable
	}
	for i := range pact {
		g.states = append(g.states, state{base: pact[i], reduce: defact[i], shifts: pact[i] != pactNone})
	}
	for i := range pgoto {
		g.gotos = append(g.gotos, target{pgoto[i], defgoto[i]})
	}
	for i := range table {
		g.actions = append(g.actions, action{int16(check[i]), int16(table[i])})
	}
	for i := range left {
		g.rules = append(g.rules, production{Symbol(left[i]), Symbol(length[i])})
	}
	for i := range g.states {
		g.states[i].climbs = g.climbing(&g.states[i])
	}
	var text struct {
		Names    []string
		Rules    [][]string
		Keywords [][3]string
	}
	if err := json.Unmarshal(b[4:], &text); err != nil {
		return nil, fmt.Errorf("parse: table %d: %w", major, err)
	}
	g.Names, g.Rules = text.Names, text.Rules
	for i, n := range g.Names {
		g.symbols[n] = Symbol(i)
		if len(n) == 3 && n[0] == '\'' && n[1] < 128 {
			g.single[n[1]] = Symbol(i)
		}
	}
	for _, k := range text.Keywords {
		g.keywords[k[0]] = keyword{g.symbols[k[1]], k[0]}
	}
	g.words = hashed(g.keywords)
	for name, into := range map[string]*Symbol{"IDENT": &g.kinds.ident, "UIDENT": &g.kinds.uident, "SCONST": &g.kinds.sconst, "USCONST": &g.kinds.usconst,
		"BCONST": &g.kinds.bconst, "XCONST": &g.kinds.xconst, "ICONST": &g.kinds.iconst, "FCONST": &g.kinds.fconst, "PARAM": &g.kinds.param, "Op": &g.kinds.op,
		"UESCAPE": &g.kinds.uescape, "NCHAR": &g.kinds.nchar, "TYPECAST": &g.kinds.typecast, "COLON_EQUALS": &g.kinds.colonEquals, "DOT_DOT": &g.kinds.dotDot,
		"EQUALS_GREATER": &g.kinds.equalsGreater, "GREATER_EQUALS": &g.kinds.greaterEquals, "LESS_EQUALS": &g.kinds.lessEquals, "NOT_EQUALS": &g.kinds.notEquals} {
		s, ok := g.symbols[name]
		if !ok {
			return nil, fmt.Errorf("parse: table %d has no %s", major, name)
		}
		*into = s
	}
	g.values, g.rows, g.list = g.symbols["expr_list"], g.symbols["values_clause"], g.symbols["stmtmulti"]
	g.kinds.json = g.symbols["JSON"] // which older ones have not
	g.classes = make([]Class, len(g.Names))
	for kind, class := range map[Symbol]Class{g.kinds.ident: Ident, g.kinds.sconst: String, g.kinds.bconst: Bits, g.kinds.xconst: Hex,
		g.kinds.iconst: Number, g.kinds.fconst: Number, g.kinds.param: Param, g.kinds.nchar: National} {
		g.classes[kind] = class
	}
	g.merges, g.looks = make([][]merge, len(g.Names)), make([]bool, len(g.Names))
	for _, kind := range []Symbol{g.kinds.uident, g.kinds.usconst, g.kinds.json} {
		g.looks[kind] = true
	}
	for _, f := range followers {
		into, known := g.symbols[f.merged]
		for _, next := range f.next {
			if s, ok := g.symbols[next]; ok && known {
				first := g.symbols[f.token]
				g.merges[first], g.looks[first] = append(g.merges[first], merge{s, into}), true
			}
		}
	}
	return g, nil
}

// array reads numbers that have to fit into so many bits.
func array(b []byte, bits int) ([]int32, []byte, error) {
	if len(b) < 4 {
		return nil, nil, errTable
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if n*4 > uint64(len(b)) {
		return nil, nil, errTable
	}
	out := make([]int32, n)
	for i := range out {
		if out[i] = int32(binary.LittleEndian.Uint32(b[4*i:])); out[i] < -1<<(bits-1) || out[i] > 1<<(bits-1)-1 {
			return nil, nil, errTable
		}
	}
	return out, b[4*n:], nil
}
