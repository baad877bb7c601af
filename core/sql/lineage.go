package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// copies gives a relation's columns as bare copies, each with what stands
// behind it: of a view and a materialised one what its text shows, of a
// generated column what it is made of.
func (a *analyzer) copies(r *schema.Relation, via string) []column {
	a.unlocked(r)
	a.policed(r)
	cols, all := a.columnLot.take(len(r.Columns)), a.sources.take(len(r.Columns))
	var shown []column
	if isView(r) {
		if shown = a.view(r); len(shown) != len(cols) {
			a.refuse("the view %s does not have the columns that its text has", r.Name.Name)
		}
	}
	for i := range r.Columns {
		c, s := &r.Columns[i], &all[i]
		*s = source{relation: r, column: c.Name, via: via}
		switch {
		case shown != nil:
			s.behind = a.standing(r, c.Name, func() column { return shown[i] })
		case c.Generated != 0:
			s.behind = a.standing(r, c.Name, func() column { return column{computed: a.made(r, c.Name), other: true} })
		}
		cols[i].name, cols[i].copies = c.Name, all[i:i+1:i+1]
	}
	return cols
}

// isView says whether a relation shows what others hold. Those of the server's
// own show what is in no table.
func isView(r *schema.Relation) bool { return (r.Kind == 'v' || r.Kind == 'm') && !r.System }

// standing keeps what stands behind a column, so that it is one and the same
// however often the relation is read.
func (a *analyzer) standing(r *schema.Relation, name string, find func() column) *column {
	k := r.Name.Namespace + "\x00" + r.Name.Name + "\x00" + name
	if a.shows[k] == nil {
		c := find()
		if a.shows == nil {
			a.shows = map[string]*column{}
		}
		a.shows[k] = &c
	}
	return a.shows[k]
}

// made gives the columns that a generated one is made of. A child's can be made
// in another way, and is read with its parent's.
func (a *analyzer) made(r *schema.Relation, name string) []source {
	c := r.Column(name)
	if c == nil {
		return nil
	}
	var list []source
	if c.Generated != 0 {
		list = a.reads(r, c.Default, "generated "+r.Name.Namespace+"."+r.Name.Name+"."+name)
	}
	for _, oid := range r.Children {
		if child := a.c.Schema.Relations[oid]; child != nil {
			list = union(list, a.made(child, name))
		}
	}
	return list
}

// within_ is an analysis of a text of the server's own, whose operations and
// edits are not the statement's.
func (a *analyzer) within_(t *parse.Tree, via string) *analyzer {
	in := *a
	in.t, in.path, in.via, in.edits, in.trace, in.lazy = t, nil, via, nil, nil, 0
	in.ops = new(operations)
	return &in
}

// evaluate reads the expressions of a SELECT over one row of a table.
func (a *analyzer) evaluate(r *schema.Relation) {
	o := &origin{alias: r.Name.Name, schema: r.Name.Namespace, relation: r, via: a.via}
	for _, c := range r.Columns {
		o.columns = append(o.columns, column{name: c.Name, copies: []source{{relation: r, column: c.Name, via: a.via}}})
	}
	s := &scope{origins: []*origin{o}}
	for _, el := range a.list(a.find(a.t.Root, "target_list"), "target_el") {
		a.expr(s, a.kid(el, "a_expr"), abi.UseComputed)
	}
}

// reads gives the columns that a text of the server's own reads for a row of a
// table: all of the table's where it is not understood.
func (a *analyzer) reads(r *schema.Relation, text, via string) (list []source) {
	all := func() {
		list = nil
		for _, c := range r.Columns {
			list = append(list, source{relation: r, column: c.Name, via: via})
		}
	}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case refuse, *Error:
			all()
		default:
			panic(f)
		}
	}()
	t, err := a.g.Parse("SELECT " + text)
	if err != nil {
		all()
		return list
	}
	in := a.within_(t, "default")
	in.quiet, in.trace = true, new(few[source])
	in.evaluate(r)
	for _, s := range in.since(nil) {
		list = append(list, source{relation: s.relation, column: s.column, via: via, behind: s.behind})
	}
	return list
}

// policed marks what row-level security reads: which rows there are, and
// whether one may be written, depends on it.
func (a *analyzer) policed(r *schema.Relation) {
	if !r.RowLevel {
		return
	}
	if a.depth++; a.depth > maxViews {
		a.refuse("policies within views and policies over %d deep", maxViews)
	}
	defer func() { a.depth-- }()
	for _, p := range r.Policies {
		for _, text := range []string{p.Using, p.Check} {
			if text == "" {
				continue
			}
			for _, s := range a.reads(r, text, "policy "+r.Name.Namespace+"."+r.Name.Name+"."+p.Name) {
				a.mark(s, abi.UseCondition)
			}
		}
	}
}

// alone gives the SELECT that a text is, 0 where it is made of several or of
// something else: the server computes what a view's SELECT shows only where
// somebody uses it.
func (a *analyzer) alone(n int32) int32 {
	for n != 0 {
		switch a.name(n) {
		case "simple_select":
			if a.rule(n)[1] == "SELECT" {
				return n
			}
			return 0
		case "select_no_parens":
			n = a.core(n)
		default:
			n = a.t.Nodes[n].First
		}
	}
	return 0
}

// later reads an expression for what it is made of, and leaves it to who uses
// the column to mark that as used.
func (a *analyzer) later(s *scope, n int32) column {
	quiet, trace := a.quiet, a.snapshot()
	a.quiet = true
	c := a.value(s, n)
	c.computed = union(c.computed, a.since(nil))
	a.quiet, a.trace = quiet, trace
	if a.multiplies(n) {
		a.use(c, abi.UseComputed)
	}
	return c
}

// multiplies says whether an expression may make several rows of one, whether
// or not anybody uses it.
func (a *analyzer) multiplies(n int32) bool {
	if a.name(n) == "func_application" {
		if parts, _, ok := a.parts(a.kid(n, "func_name")); !ok || slices.ContainsFunc(a.reached(parts), func(f *schema.Function) bool { return f.ReturnsSet }) {
			return true
		}
	}
	for k := a.t.Nodes[n].First; k != 0; k = a.t.Nodes[k].Next {
		if a.multiplies(k) {
			return true
		}
	}
	return false
}

// lineage fills in what outputs are made of, views and what they show alike.
type lineage struct {
	a   *analyzer
	out *abi.Output
	*tracing

	of    *schema.Relation // the last one, and its name
	parts []string
}

// tracing is what it is done with, of one output and of all.
type tracing struct {
	seen                  few[lineageKey]
	copies, computed, all []abi.Source
	sizes                 [][2]int // how many of each an output has in all
}

// output puts what an output is made of behind that of those before.
func (l *lineage) output(out *abi.Output, c column) {
	l.out, l.copies, l.computed = out, l.copies[:0], l.computed[:0]
	l.seen.empty()
	l.column(c, false)
	l.all, l.sizes = append(append(l.all, l.copies...), l.computed...), append(l.sizes, [2]int{len(l.copies), len(l.computed)})
}

// settle gives outputs their own copies.
func (l *lineage) settle(outputs []abi.Output) {
	all := slices.Clone(l.all)
	take := func(n int) (list []abi.Source) {
		if n > 0 {
			list, all = all[:n:n], all[n:]
		}
		return list
	}
	for i, n := range l.sizes {
		outputs[i].Copies, outputs[i].Computed = take(n[0]), take(n[1])
	}
	l.seen.empty()
}

type lineageKey struct {
	relation *schema.Relation
	column   string
	computed bool
	blind    bool
}

func (l *lineage) column(c column, computed bool) {
	l.out.Other = l.out.Other || c.other
	for _, s := range c.copies {
		l.source(s, computed)
	}
	for _, s := range c.computed {
		l.source(s, true)
	}
}

func (l *lineage) source(s source, computed bool) {
	if l.a.spend(1); !l.seen.add(lineageKey{s.relation, s.column, computed, s.blind}) {
		return
	}
	if l.of != s.relation {
		l.of, l.parts = s.relation, s.relation.Parts()
	}
	from := abi.Source{Relation: l.parts, Column: s.column, View: isView(s.relation), Blind: s.blind}
	if computed {
		l.computed = append(l.computed, from)
	} else {
		l.copies = append(l.copies, from)
	}
	switch {
	case s.behind == nil:
	case s.blind:
		l.column(behindVeil(*s.behind), computed)
	default:
		l.column(*s.behind, computed)
	}
}

// firstDomain is the first OID that is not the server's own by hand (PostgreSQL's
// FirstGenbkiObjectId): a type below is no domain.
const firstDomain = 10000

// copiedType gives the type of a bare copy as the protocol has it, for a domain
// what it is over; 0 where the server chooses.
func (a *analyzer) copiedType(c column) (oid schema.OID) {
	if len(c.computed) > 0 || c.other {
		return 0
	}
	for _, s := range c.copies {
		col := s.relation.Column(s.column)
		if col == nil {
			return 0
		}
		base := col.Type
		for base >= firstDomain {
			t := a.c.Schema.Types[base]
			if t == nil || t.Kind != 'd' {
				break
			}
			base = t.Base
		}
		if oid != 0 && oid != base {
			return 0
		}
		oid = base
	}
	return oid
}

// kin gives the relations that share columns with those of a statement, by
// inheritance or as partitions, however far.
func (a *analyzer) kin(st *abi.Statement) map[string][][]string {
	var all map[string][][]string
	var last []string
	add := func(parts []string) {
		if len(parts) != 2 || last != nil && &parts[0] == &last[0] { // most stand beside another of the same
			return
		}
		last = parts
		r := a.c.Schema.RelationByName[schema.Name{Namespace: parts[0], Name: parts[1]}]
		if r == nil || len(r.Parents)+len(r.Children) == 0 {
			return
		}
		k := strings.Join(parts, ".")
		if all[k] != nil {
			return
		}
		if all == nil {
			all = map[string][][]string{}
		}
		all[k] = [][]string{}
		for _, o := range a.family(r)[1:] {
			all[k] = append(all[k], o.Name.Parts())
		}
	}
	for i := range st.Operations {
		if o := &st.Operations[i]; o.Kind == abi.KindRelation {
			add(o.Object)
		}
	}
	for i := range st.Outputs {
		for _, s := range st.Outputs[i].Copies {
			add(s.Relation)
		}
		for _, s := range st.Outputs[i].Computed {
			add(s.Relation)
		}
	}
	return all
}
