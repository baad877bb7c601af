package sql

import (
	"fmt"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// column is one column that a query can name: of a relation, or what a
// subquery computes, with the table columns behind it.
type column struct {
	name     string
	copies   []source // it is a bare copy of one of these
	computed []source // these went into it otherwise
	other    bool     // constants, parameters or expressions went into it
	vague    bool     // the server may call it otherwise
	fields   []column // of a composite value, where they are known
}

// source is a table column and the operation under which it is read.
type source struct {
	relation *schema.Relation
	column   string
	via      string
	picked   bool // a field of it that texts may compute with
}

// origin is one element of a FROM clause.
type origin struct {
	alias   string
	schema  string // of a relation that was named with it
	columns []column
	hidden  map[string]bool // merged into one by USING or NATURAL
	merged  map[string]bool // and the one that they are merged into
}

// ref is one column of an element of FROM.
type ref struct {
	origin *origin
	index  int
}

func (r ref) column() column { return r.origin.columns[r.index] }

// star gives all columns of an element, in order.
func (o *origin) star() []ref {
	list := make([]ref, len(o.columns))
	for i := range list {
		list[i] = ref{o, i}
	}
	return list
}

// scope is what names mean at one place. Its parent is the query around it.
type scope struct {
	parent  *scope
	origins []*origin
	star    []ref // what * stands for, in order; nil is all of origins
	ctes    map[string][]column
	aliases []column // of the output, for ORDER BY and GROUP BY
}

func (s *scope) cte(name string) ([]column, bool) {
	for ; s != nil; s = s.parent {
		if c, ok := s.ctes[name]; ok {
			return c, true
		}
	}
	return nil, false
}

// systemColumns exist on every table.
var systemColumns = map[string]bool{"ctid": true, "xmin": true, "xmax": true, "cmin": true, "cmax": true, "tableoid": true}

// refuse unwinds the analysis: the text is not understood.
type refuse string

func (a *analyzer) refuse(format string, args ...any) { panic(refuse(fmt.Sprintf(format, args...))) }

// fail unwinds the analysis with an answer in PostgreSQL's words.
func (a *analyzer) fail(code string, n int32, format string, args ...any) {
	offset := -1
	if a.via == "" && int(a.t.Nodes[n].From) < len(a.t.Tokens) {
		offset = int(a.token(n).Start)
	}
	panic(&Error{Code: code, Message: fmt.Sprintf(format, args...), Offset: offset})
}

// lookup resolves a column reference of one to three names.
func (a *analyzer) lookup(s *scope, n int32, names []string) column {
	col := names[len(names)-1]
	qualifier, namespace := "", ""
	switch len(names) {
	case 2:
		qualifier = names[0]
	case 3:
		namespace, qualifier = names[0], names[1]
	}
	for at := s; at != nil; at = at.parent {
		var found []column
		matched := false
		for _, o := range at.origins {
			if qualifier != "" && (o.alias != qualifier || namespace != "" && o.schema != namespace) {
				continue
			}
			matched = true
			if qualifier == "" && o.hidden[col] {
				continue
			}
			for _, c := range o.columns {
				if c.name == col {
					found = append(found, c)
				}
			}
			if len(found) == 0 && systemColumns[col] && len(o.columns) > 0 && len(o.columns[0].copies) == 1 {
				src := o.columns[0].copies[0]
				found = append(found, column{name: col, computed: []source{{src.relation, col, src.via, false}}, other: true})
			}
		}
		switch {
		case len(found) > 1:
			a.fail("42702", n, "column reference %q is ambiguous", col)
		case len(found) == 1:
			return found[0]
		case qualifier != "" && matched:
			a.fail("42703", n, "column %s.%s does not exist", qualifier, col)
		}
	}
	if qualifier == "" { // a whole row, named by its table
		for at := s; at != nil; at = at.parent {
			for _, o := range at.origins {
				if o.alias == col {
					return wholeRow(o)
				}
			}
		}
		a.fail("42703", n, "column %q does not exist", col)
	}
	a.fail("42P01", n, "missing FROM-clause entry for table %q", qualifier)
	return column{}
}

func wholeRow(o *origin) column {
	c := column{name: o.alias, other: true, fields: o.columns}
	for _, k := range o.columns {
		c.computed = append(append(c.computed, k.copies...), k.computed...)
	}
	return c
}

// use notes how the table columns behind c are used.
func (a *analyzer) use(c column, u abi.Use) {
	for _, s := range c.copies {
		a.read(s, u)
	}
	if u == abi.UseCopied {
		u = abi.UseComputed
	}
	for _, s := range c.computed {
		a.read(s, u)
	}
}

func (a *analyzer) read(s source, u abi.Use) {
	if a.trace != nil {
		a.trace[s] = true
	}
	if u&^abi.UseCopied != 0 {
		a.computable(s)
	}
	if s.hides() {
		a.refuse("the column %s of %s may hold data", s.column, s.relation.Name.Name)
	}
	a.touch("select", s.relation, s.via, abi.EffectRead).add(s.column, u)
}

// computable refuses to compute with a value of a type that users have made:
// its operators, casts and functions could run anything. Enumerations and
// domains have none of their own.
func (a *analyzer) computable(s source) {
	if c := s.relation.Column(s.column); c != nil && !s.picked && !a.plainType(c.Type) {
		a.refuse("computing with %s, whose type is made by users", s.column)
	}
}

// operation is one that is being put together.
type operation struct {
	abi.Operation
	at map[string]int
}

func (o *operation) add(column string, u abi.Use) {
	if i, ok := o.at[column]; ok {
		o.Columns[i].Use |= u
		return
	}
	if o.at == nil {
		o.at = map[string]int{}
	}
	o.at[column] = len(o.Columns)
	o.Columns = append(o.Columns, abi.Column{Name: column, Use: u})
}

type opKey struct {
	statement int
	verb      string
	object    string
	via       string
}

// touch gives the operation of that verb on that relation, making it once.
func (a *analyzer) touch(verb string, r *schema.Relation, via string, effect abi.Effect) *operation {
	if r.System {
		return a.operation(opKey{a.statement, verb, r.Name.Namespace + "\x00" + r.Name.Name, via}, abi.Operation{Statement: a.statement, Verb: verb, Kind: abi.KindSystem, Object: r.Name.Parts(), Via: via, Effect: effect, Attrs: abi.Floor})
	}
	return a.operation(opKey{a.statement, verb, r.Name.Namespace + "\x00" + r.Name.Name, via}, abi.Operation{Statement: a.statement, Verb: verb, Kind: abi.KindRelation, Object: r.Name.Parts(), Via: via, Effect: effect})
}

func (a *analyzer) operation(key opKey, op abi.Operation) *operation {
	if o := a.ops[key]; o != nil {
		return o
	}
	o := &operation{Operation: op}
	a.ops[key] = o
	a.order = append(a.order, o)
	return o
}

// other adds an operation that is on no relation.
func (a *analyzer) other(op abi.Operation) {
	op.Statement = a.statement
	object := ""
	for _, p := range op.Object {
		object += p + "\x00"
	}
	a.operation(opKey{a.statement, op.Verb + "\x00" + op.Kind, object, op.Via + "\x00" + op.Value}, op)
}

// relation resolves a name as the server would along the search path.
func (a *analyzer) relation(n int32) *schema.Relation {
	names, star, plain := a.parts(n)
	if star || !plain || len(names) > 3 {
		a.refuse("a table name of that form")
	}
	if len(names) == 3 {
		if names[0] != a.c.Schema.Database {
			a.fail("0A000", n, "cross-database references are not implemented")
		}
		names = names[1:]
	}
	var r *schema.Relation
	if len(names) == 2 {
		r = a.c.Schema.RelationByName[schema.Name{Namespace: names[0], Name: names[1]}]
	} else {
		for _, ns := range append([]string{"pg_catalog"}, a.path...) {
			if r = a.c.Schema.RelationByName[schema.Name{Namespace: ns, Name: names[0]}]; r != nil {
				break
			}
		}
	}
	if r == nil {
		label := names[0]
		if len(names) == 2 {
			label += "." + names[1]
		}
		a.fail("42P01", n, "relation %q does not exist", label)
	}
	if a.c.Dirty[r.Name] {
		a.refuse("%s was changed in this transaction: it is unknown until the transaction ends", r.Name.Name)
	}
	if a.via == "" {
		node := a.t.Nodes[n]
		a.edits = append(a.edits, edit{node.From, node.To, quoteIdent(r.Name.Namespace) + "." + quoteIdent(r.Name.Name)})
	}
	return r
}
