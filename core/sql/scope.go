package sql

import (
	"fmt"
	"slices"
	"strings"

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
	unsure   bool     // there may be no such column: which function runs is the server's choice
	apart    stars    // what SEARCH or CYCLE adds
	of       *origin  // behind whose alias it can be named, in a list of many; nil is its name alone
}

// stars says what a star makes of a column that SEARCH or CYCLE adds to a WITH
// query: it stands for it in the query whose WITH that is, and in no query within.
type stars int8

const (
	everyStar stars = iota
	maybeStar
	noStar
)

// source is a table column and the operation under which it is read.
type source struct {
	relation *schema.Relation
	column   string
	via      string
	picked   schema.OID // the type of the field of it that is taken, 0 where it is taken whole
	behind   *column    // what it shows, of a view, or is made of, where it is generated; else nil
	blind    bool       // it is read through a veil
}

// origin is one element of a FROM clause, or what a JOIN makes of two: that one
// has no name, and the columns of its sides are found through it alone.
type origin struct {
	alias    string
	schema   string // of a relation that was named with it
	columns  []column
	relation *schema.Relation // a table or view
	via      string           // what stands between it and the text
	joined   bool             // a side of a JOIN: only a qualified name finds its columns
	read     *operation       // that reads the relation
	under    []*origin        // what a subquery or a JOIN with an alias is made of
	veil     *veiled          // through which it is read; then it has no relation
	sifted   bool             // it is a system relation, read through a subselect
	setting  string           // the only one that the query reads, of pg_settings
}

func (o *origin) isSettings() bool {
	return o.relation != nil && o.relation.System && o.relation.Name.Name == "pg_settings"
}

// find says how many columns there are of that name, and which is the first;
// that is -1 for a system column, which every table has.
func (o *origin) find(name string) (first, n int) {
	for i := range o.columns {
		if o.columns[i].name == name {
			if n++; n == 1 {
				first = i
			}
		}
	}
	if r := o.relation; n == 0 && r != nil && r.Kind != 'v' && systemColumns[name] {
		return -1, 1
	}
	return first, n
}

// at gives the column that find has found.
func (o *origin) at(i int, name string) column {
	if i >= 0 {
		return o.columns[i]
	}
	return column{name: name, computed: []source{{relation: o.relation, column: name, via: o.via}}, other: true}
}

// named gives a column that is known to be there.
func (o *origin) named(name string) column {
	i, n := o.find(name)
	if n == 0 {
		panic("no column " + name)
	}
	return o.at(i, name)
}

// visible gives the columns of a FROM clause, as the star does.
func (a *analyzer) visible(origins []*origin) []column {
	cols := a.columnLot.take(width(origins))[:0]
	for _, o := range origins {
		if !o.joined {
			cols = o.all(cols)
		}
	}
	return cols
}

// width is how many columns are visible.
func width(origins []*origin) (n int) {
	for _, o := range origins {
		if !o.joined {
			n += len(o.columns)
		}
	}
	return n
}

// all adds the columns of one element, each with where it is found.
func (o *origin) all(cols []column) []column {
	n := len(cols)
	cols = append(cols, o.columns...)
	for i := n; i < len(cols) && o.alias != ""; i++ {
		cols[i].of = o
	}
	return cols
}

// scope is what names mean at one place. Its parent is the query around it.
type scope struct {
	parent  *scope
	origins []*origin
	ctes    map[string][]column
	later   map[string]bool // WITH queries that are named further on
	query   int32           // the SELECT that it is of; of a WITH, the one that it is before
	aliases []column        // of the output, for ORDER BY and GROUP BY
}

// scope makes one within another.
func (a *analyzer) scope(parent *scope) *scope {
	s := a.scopes.next()
	s.parent = parent
	return s
}

// cte finds a WITH query, and the scope that it is of.
func (a *analyzer) cte(s *scope, name string) ([]column, *scope, bool) {
	for ; s != nil; s = s.parent {
		if c, ok := s.ctes[name]; ok {
			return c, s, true
		}
		if s.later[name] {
			a.refuse("%s, which a recursive WITH names further on", name)
		}
	}
	return nil, nil, false
}

// starred says what a star makes of the columns of a WITH query, as s names it.
func starred(cols []column, s, with *scope) []column {
	if !slices.ContainsFunc(cols, func(c column) bool { return c.apart != everyStar }) {
		return cols
	}
	cols = slices.Clone(cols)
	for i := range cols {
		switch {
		case cols[i].apart == everyStar, s.query == 0:
		case s.query == with.query:
			cols[i].apart = everyStar
		default:
			cols[i].apart = noStar
		}
	}
	return cols
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

// failAnywhere is fail where the server does not say at which place.
func (a *analyzer) failAnywhere(code, format string, args ...any) {
	panic(&Error{Code: code, Message: fmt.Sprintf(format, args...), Offset: -1})
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
		var where *origin
		index, found, matched := 0, 0, false
		for _, o := range at.origins {
			if qualifier == "" && o.joined || qualifier != "" && (o.alias != qualifier || namespace != "" && o.schema != namespace) {
				continue
			}
			matched = true
			a.spend(1 + len(o.columns)/8)
			if i, n := o.find(col); n > 0 {
				index, found, where = i, found+n, o
			}
		}
		switch {
		case found > 1:
			a.fail("42702", n, "column reference %q is ambiguous", col)
		case found == 1:
			c := where.at(index, col)
			if index < 0 && col == "tableoid" {
				c.computed = union(c.computed, a.routes(where.relation, where.via, nil))
			}
			switch a.unqualify(n, where, len(names)); {
			case a.stranger(where, col), where.sifted && systemColumns[col]:
				a.refuse("the system column %s of %s, which this task is not told", col, where.alias)
			case !c.unsure:
			case qualifier == "":
				a.certain(s, where, col)
			case slices.ContainsFunc(a.reached([]string{col}), func(f *schema.Function) bool { return !a.accepts(f) }):
				a.refuse("%s.%s, which is a function's column or a call", qualifier, col)
			}
			return c
		case qualifier != "" && matched:
			a.noSystem(at, qualifier, col)
			if a.takesRows(at, qualifier, col) {
				a.refuse("%s.%s, which is no column but a call: write it as %s(%s)", qualifier, col, col, qualifier)
			}
			a.fail("42703", n, "column %s.%s does not exist", qualifier, col)
		}
	}
	if qualifier == "" { // a whole row, named by its table
		for at := s; at != nil; at = at.parent {
			for _, o := range at.origins {
				if o.alias == col {
					return a.wholeRow(o)
				}
			}
		}
		for at := s; at != nil; at = at.parent {
			a.noSystem(at, "", col)
		}
		a.fail("42703", n, "column %q does not exist", col)
	}
	a.fail("42P01", n, "missing FROM-clause entry for table %q", qualifier)
	return column{}
}

// routes gives the columns of a partitioned table that say in which of its parts
// a row lies, which tableoid tells.
func (a *analyzer) routes(r *schema.Relation, via string, list []source) []source {
	if r.Kind != 'p' {
		return list
	}
	names := a.plainly(r, r.PartitionExprs)
	for _, num := range r.PartitionKey {
		if c := r.ColumnAt(num); c != nil {
			names = append(names, c.Name)
		}
	}
	for _, name := range names {
		list = append(list, source{relation: r, column: name, via: via})
	}
	for _, oid := range r.Children {
		part := a.c.Schema.Relations[oid]
		if part == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		for _, s := range a.routes(part, via, nil) {
			list = append(list, source{relation: r, column: s.column, via: via})
		}
	}
	return list
}

// certain refuses a name that would mean something else if a function has no
// column of that name after all.
func (a *analyzer) certain(s *scope, where *origin, name string) {
	for ; s != nil; s = s.parent {
		for _, o := range s.origins {
			_, found := o.find(name)
			if o != where && (found > 0 && !o.joined || found == 0 && o.alias == name) {
				a.refuse("the name %s, which is a function's column or something else: qualify it", name)
			}
		}
	}
}

// wholeRow is a row as a value. Where it is a table's, its type is one that
// users have made.
func (a *analyzer) wholeRow(o *origin) column {
	if o.relation != nil {
		a.casts(o.relation.RowType)
	}
	c := column{name: o.alias, other: true, fields: o.columns}
	var all few[source]
	for _, k := range o.columns {
		a.spend(1 + len(k.copies) + len(k.computed))
		for _, s := range k.copies {
			all.add(s)
		}
		for _, s := range k.computed {
			all.add(s)
		}
	}
	c.computed = all.list
	return c
}

// takesRows says whether a function of that name can be called with a row of what the
// qualifier names, as the server does for a column that is not there.
func (a *analyzer) takesRows(s *scope, qualifier, name string) bool {
	var row schema.OID
	for _, o := range s.origins {
		if o.alias == qualifier && o.relation != nil {
			row = o.relation.RowType
		}
	}
	return slices.ContainsFunc(a.reached([]string{name}), func(f *schema.Function) bool {
		if !a.callable(f) || len(f.Args) == 0 || len(f.Args)-f.Defaults > 1 {
			return false
		}
		arg := f.Args[0]
		return slices.Contains(anyRow, arg) || row != 0 && arg == row
	})
}

// anyRow are record and the pseudotypes that stand for it: "any", anyelement,
// anynonarray, anycompatible, anycompatiblenonarray.
var anyRow = []schema.OID{2249, 2276, 2283, 2776, 5077, 5079}

// use notes how the table columns behind c are used.
func (a *analyzer) use(c column, u abi.Use) {
	a.spend(1)
	for _, s := range c.copies {
		a.read(s, u)
	}
	if u == abi.UseCopied {
		u = abi.UseComputed
	}
	for _, s := range c.computed {
		a.read(s, u&^filtered)
	}
}

func (a *analyzer) read(s source, u abi.Use) {
	if u&^abi.UseCopied != 0 {
		a.computable(s)
	}
	a.shownTo(s)
	a.mark(s, u)
}

// shownTo refuses a column of a system relation that the task is not told.
func (a *analyzer) shownTo(s source) {
	if a.hides(s) {
		a.refuse("the column %s of %s may hold data", s.column, s.relation.Name.Name)
	}
	if a.identified(s) {
		a.refuse("the column %s of %s, whose values are names of what the database has", s.column, s.relation.Name.Name)
	}
}

func (a *analyzer) mark(s source, u abi.Use) {
	if a.trace != nil {
		a.trace.add(s)
	}
	if a.quiet {
		return
	}
	if !s.blind {
		a.add(a.touch("select", s.relation, s.via, abi.EffectRead), s.column, u)
		if s.behind != nil {
			a.use(*s.behind, u)
		}
		return
	}
	a.add(a.seen(s.relation, s.via), s.column, u)
	if s.behind != nil {
		a.use(behindVeil(*s.behind), u)
	}
}

// typeOfSource gives the type of what is taken, 0 for a system column.
func typeOfSource(s source) schema.OID {
	if c := s.relation.Column(s.column); s.picked == 0 && c != nil {
		return c.Type
	}
	return s.picked
}

// computable refuses to compute with a value of a type that users have made, unless
// what its operators, casts and functions are is known: of an enumeration, and of
// what is made of other types (plainType).
func (a *analyzer) computable(s source) {
	typ := typeOfSource(s)
	if typ != 0 && !a.plainType(typ) {
		a.refuse("computing with %s, whose type is made by users", s.column)
	}
	a.casts(typ)
	a.checks(typ)
}

// checks adds the functions that a domain's conditions call: beside a value of it
// a constant is taken for one (lag(d, 1, 'x'), array_append(array_agg(d), 'x')), and
// so given to them.
func (a *analyzer) checks(oid schema.OID) {
	a.eachWithin(oid, 0, func(t *schema.Type) {
		for _, c := range t.Checks {
			a.domainCheck(c)
		}
	})
}

// domainCheck adds what a domain's condition calls.
func (a *analyzer) domainCheck(c schema.Check) {
	text := strings.TrimSuffix(strings.TrimPrefix(c.Text, "CHECK "), " NOT VALID")
	a.spend(callCost)
	t, err := a.g.Parse("SELECT " + text)
	if err != nil {
		a.refuse("the condition %s of a domain is not understood", c.Name)
	}
	in := a.within_(t, a.via)
	in.quiet = true
	in.expr(&scope{origins: []*origin{{columns: []column{{name: "value", other: true}}}}}, in.kid(in.find(t.Root, "target_el"), "a_expr"), abi.UseComputed)
	a.beyond = a.beyond || in.beyond
	for _, o := range in.ops.list {
		if o.Kind == abi.KindFunction {
			a.other(o.Operation)
		}
	}
}

// casts adds the functions that users have made to cast from or to a type, or what
// it is made of: a value of it can meet each of them unsaid.
func (a *analyzer) casts(oid schema.OID) {
	if oid < firstUser {
		return
	}
	a.eachWithin(oid, 0, func(t *schema.Type) {
		for _, k := range a.c.Schema.Casts {
			if k.Function < firstUser || k.Source != t.OID && k.Target != t.OID && (t.Array == 0 || k.Source != t.Array && k.Target != t.Array) {
				continue
			}
			f := a.c.Schema.Functions[k.Function]
			if f == nil {
				a.refuse("a cast whose function is not known")
			}
			if !a.accepts(f) {
				a.other(abi.Operation{Verb: "call", Kind: abi.KindFunction, Object: f.Name.Parts(), Via: a.via, Effect: abi.EffectWrite, Value: f.SourceHash})
			}
		}
	})
}

// qualified gives a name with its schema, where it has one; that of the database
// may stand before it. what is the kind of name.
func (a *analyzer) qualified(n int32, what string) []string {
	names, star, plain := a.parts(n)
	if star || !plain || len(names) > 3 {
		a.refuse("%s of that form", what)
	}
	if len(names) == 3 {
		if names[0] != a.c.Schema.Database { // the server's own words
			a.fail("0A000", n, "cross-database references are not implemented")
		}
		names = names[1:]
	}
	return names
}

// relation resolves a name as the server would along the search path, for a
// utility: of one that is missing the server does not say where it stands.
func (a *analyzer) relation(n int32) *schema.Relation {
	r, missing := a.byName(n)
	if r == nil {
		a.failAnywhere("42P01", "%s", missing)
	}
	return r
}

// queried is relation for what queries and changes name.
func (a *analyzer) queried(n int32) *schema.Relation {
	r, missing := a.byName(n)
	if r == nil {
		a.fail("42P01", n, "%s", missing)
	}
	return r
}

func (a *analyzer) byName(n int32) (r *schema.Relation, missing string) {
	names := a.qualified(n, "a table name")
	if len(names) == 2 {
		r = a.relationByName(schema.Name{Namespace: names[0], Name: names[1]})
	} else {
		if a.c.Schema.HasTemporary {
			r = a.relationByName(schema.Name{Namespace: schema.Temporary, Name: names[0]})
		}
		if r == nil {
			r = a.relationByName(schema.Name{Namespace: "pg_catalog", Name: names[0]})
		}
		for i := 0; i < len(a.path) && r == nil; i++ {
			r = a.relationByName(schema.Name{Namespace: a.path[i], Name: names[0]})
		}
	}
	if r == nil {
		return nil, fmt.Sprintf("relation %q does not exist", strings.Join(names, "."))
	}
	a.unlocked(r)
	if a.via == "" {
		node := a.t.Nodes[n]
		a.edits = append(a.edits, edit{node.From, node.To, r.Quoted()})
	}
	return r, ""
}
