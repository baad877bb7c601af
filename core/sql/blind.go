package sql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// Blind is what a task that is blind may see of relations. A reference to one
// whose columns are not all listed, or of which one is masked, is forwarded as a
// subselect that shows the listed columns, masked ones through an expression:
// whatever the text does with them, it does with masked values.
type Blind struct {
	masks   map[schema.Name][]abi.Protect // of columns, by their own relations
	lists   func(relation []string, column string) bool
	express Express
}

// Express gives what a mask makes of a value, as an expression of that type.
type Express func(mask *abi.Protect, class abi.Class, typ, value string) (string, error)

// NewBlind makes it of the task's masks, and of what says whether a rule lists
// a column for reading.
func NewBlind(masks []abi.Protect, lists func(relation []string, column string) bool, express Express) *Blind {
	b := &Blind{masks: map[schema.Name][]abi.Protect{}, lists: lists, express: express}
	for _, p := range masks {
		if len(p.Relation) == 2 {
			n := schema.Name{Namespace: p.Relation[0], Name: p.Relation[1]}
			b.masks[n] = append(b.masks[n], p)
		}
	}
	return b
}

// Listed gives the columns of a relation that the task lists for reading, in
// order.
func (b *Blind) Listed(r *schema.Relation) (list []string) {
	for _, c := range r.Columns {
		if b.lists(r.Parts(), c.Name) {
			list = append(list, c.Name)
		}
	}
	return list
}

// veiled is how one relation is shown.
type veiled struct {
	relation *schema.Relation
	columns  []column // those that are listed, in order
	text     string   // of the subselect, but for its FROM
	masked   bool     // one of them is
}

// veil says how a relation is shown where a text reads it, nil where it is shown
// as it is: all of its columns are listed and none is masked, or none is listed
// and the task will refuse it.
func (a *analyzer) veil(r *schema.Relation, cols []column) *veiled {
	b := a.c.Blind
	if b == nil || a.via != "" || r.System {
		return nil
	}
	v := &veiled{relation: r}
	var text strings.Builder
	for i, c := range cols {
		if a.spend(1); !b.lists(r.Parts(), c.name) {
			continue
		}
		shown := quoteIdent(c.name)
		if m := a.shade(c); m != nil {
			typ := r.Columns[i].Type
			called := a.c.Schema.TypeName(typ)
			if called == "" {
				a.refuse("the type of %s.%s is not known, so that it cannot be shown masked", r.Name.Name, c.name)
			}
			e, err := b.express(m, a.c.Schema.Class(typ), called, shown)
			if err != nil {
				a.refuse("%s.%s cannot be shown masked to a condition: %v", r.Name.Name, c.name, err)
			}
			shown, v.masked = e+" AS "+shown, true
		}
		if c.copies = slices.Clone(c.copies); len(v.columns) > 0 {
			text.WriteString(", ")
		}
		for j := range c.copies {
			c.copies[j].blind = true
		}
		text.WriteString(shown)
		v.columns = append(v.columns, c)
	}
	if len(v.columns) == 0 || !v.masked && len(v.columns) == len(cols) {
		return nil
	}
	v.text = "( SELECT " + text.String() + " FROM "
	a.spend(len(v.text) / 8)
	return v
}

// shade gives what masks a column, of its own relation, of those that share it,
// and of what it copies. What it is computed from stays what it is, and the task
// refuses it.
func (a *analyzer) shade(c column) *abi.Protect {
	var all *abi.Protect
	for _, s := range c.copies {
		a.spend(1)
		all = darker(all, a.shades(s.relation)[s.column])
		if s.behind != nil {
			all = darker(all, a.shade(*s.behind))
		}
	}
	if all != nil {
		a.veils(c, all)
	}
	return all
}

// darker joins two masks. Two that differ show nothing, as elsewhere.
func darker(x, y *abi.Protect) *abi.Protect {
	if x == nil || y == nil {
		if x == nil {
			return y
		}
		return x
	}
	both := *x
	if both.Nulls = x.Nulls && y.Nulls; x.Kind != y.Kind || x.Arg != y.Arg {
		both.Kind, both.Arg, both.Nulls = abi.MaskNull, "", false
	}
	return &both
}

// shades are the masks on a relation's columns and on those of its kin.
func (a *analyzer) shades(r *schema.Relation) map[string]*abi.Protect {
	if known, ok := a.shaded[r]; ok {
		return known
	}
	all := map[string]*abi.Protect{}
	for _, k := range a.family(r) {
		for i := range a.c.Blind.masks[k.Name] {
			p := &a.c.Blind.masks[k.Name][i]
			all[p.Column] = darker(all[p.Column], p)
		}
	}
	if a.shaded == nil {
		a.shaded = map[*schema.Relation]map[string]*abi.Protect{}
	}
	a.shaded[r] = all
	return all
}

// veils notes the mask that the text has been given for a column and all that
// it copies, for the gate to hold against what protects them.
func (a *analyzer) veils(c column, m *abi.Protect) {
	for _, s := range c.copies {
		p := *m
		p.Relation, p.Column = s.relation.Parts(), s.column
		if !slices.ContainsFunc(a.blind, func(o abi.Protect) bool {
			return o.Column == p.Column && o.Kind == p.Kind && o.Arg == p.Arg && o.Nulls == p.Nulls && slices.Equal(o.Relation, p.Relation)
		}) {
			a.blind = append(a.blind, p)
		}
		if a.spend(1 + len(a.blind)/8); s.behind != nil {
			a.veils(*s.behind, m)
		}
	}
}

// behindVeil gives what stands behind a column that is read through a veil:
// what it copies is masked with it.
func behindVeil(c column) column {
	c.copies = slices.Clone(c.copies)
	for i := range c.copies {
		c.copies[i].blind = true
	}
	return c
}

// veilRange forwards a reference in FROM through its veil. n is the
// relation_expr, which may have ONLY or a star; the edit of the name is the last.
func (a *analyzer) veilRange(n int32, v *veiled, alias bool) {
	name := a.edits[len(a.edits)-1].text
	text := v.text + name + " )"
	if a.find(n, "ONLY") != 0 {
		text = v.text + "ONLY " + name + " )"
	}
	if !alias {
		text += " AS " + quoteIdent(v.relation.Name.Name)
	}
	node := a.t.Nodes[n]
	a.edits[len(a.edits)-1] = edit{node.From, node.To, text}
}

// unqualify forwards the name of a column of a veiled relation without its
// schema, under which the subselect is not known.
func (a *analyzer) unqualify(n int32, o *origin, names int) {
	if o.veil == nil && !o.sifted || names != 3 || a.via != "" {
		return
	}
	from := a.t.Nodes[n].From
	e := edit{from, from + 3, quoteIdent(o.alias)}
	if a.spend(1 + len(a.edits)/64); !slices.Contains(a.edits, e) { // what is read twice is written once
		a.edits = append(a.edits, e)
	}
}

// clear refuses what a veiled relation does not have.
func (a *analyzer) clear(o *origin, what string) {
	if o.veil != nil {
		a.refuse("%s of %s, which this task sees through a subselect that masks (blind)", what, o.veil.relation.Name.Name)
	}
	if o.sifted {
		a.refuse("%s of %s, of which this task sees what it lists", what, o.relation.Name.Name)
	}
}

// noSystem refuses the system columns of what is veiled.
func (a *analyzer) noSystem(s *scope, qualifier, name string) {
	for _, o := range s.origins {
		if systemColumns[name] && (qualifier == "" || o.alias == qualifier) {
			a.clear(o, "the system column "+name)
		}
	}
}

// untold refuses EXPLAIN of what reads masked columns: the server's estimates
// are made of the values themselves.
func untold(columns []abi.Column, op *abi.Operation, blind []abi.Protect) string {
	if op.Attrs&abi.Blind == 0 {
		return ""
	}
	for _, c := range columns {
		if slices.ContainsFunc(blind, func(p abi.Protect) bool { return p.Column == c.Name && slices.Equal(p.Relation, op.Object) }) {
			return fmt.Sprintf("EXPLAIN of a text that reads the masked column %s, of which estimates would tell", c.Name)
		}
	}
	return ""
}

// family gives the relations that share columns with one, by inheritance or as
// partitions, itself first.
func (a *analyzer) family(r *schema.Relation) []*schema.Relation {
	all := []*schema.Relation{r}
	for i := 0; i < len(all); i++ {
		for _, oid := range slices.Concat(all[i].Parents, all[i].Children) {
			if a.spend(1); a.c.Schema.Relations[oid] != nil && !slices.Contains(all, a.c.Schema.Relations[oid]) {
				all = append(all, a.c.Schema.Relations[oid])
			}
		}
	}
	return all
}
