package sql

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// analyzer holds the state of one analysis.
type analyzer struct {
	c *Context
	g *parse.Grammar
	t *parse.Tree

	symbols *symbols

	given     []string // the search path, nil where it is the login's own
	path      []string // schemas of unqualified names
	anywhere  bool     // the path may be another one: a function or operator can be any schema's
	moved     bool     // this text has changed the path
	unsure    bool     // and it may or may not have been taken back since
	via       string   // what stands between the text and this part of it
	statement int
	changes   int // counts the commands that change rows
	depth     int // of views within views

	*memory
	ops        *operations
	outputs    []abi.Output
	edits      []edit
	notice     string // what the client is told of this statement
	params     int
	work       *int          // what the reading has cost so far, of all texts within texts
	within     int           // of the function at hand, how many arguments stand in WITHIN GROUP
	trace      *few[source]  // what an expression reads, where somebody asks
	quiet      bool          // what is read is only traced: it is not known yet whether it is used
	lazy       int32         // the SELECT whose columns are read only where somebody uses them, 0 for none
	defaulting bool          // an expression is a column's default
	cascading  bool          // what depends on what is dropped goes with it
	beyond     bool          // something runs that is an extension's, and not the server's own
	nested     bool          // a WITH of this statement changes rows
	inside     int32         // the query or change of this statement, 0 for none
	blind      []abi.Protect // the masks that the text has been given
	shaded     map[*schema.Relation]map[string]*abi.Protect
	guesses    map[int32]bool // values that masked columns are compared with, by their tokens
	guessed    []abi.Guess    // and where they stand
	unasked    int            // how many of them wait for an EXECUTE
	keeping    bool           // what is read is kept, or its text is
	into       int32          // the INTO of a SELECT that makes a table, 0 for none
	outer      int32          // the change of rows that is the statement itself, 0 for none
	current    string         // the cursor whose row that changes
	printing   map[int32]bool // expressions that are printed, under a listing
}

// maxViews bounds views within views.
const maxViews = 32

// Analyze finds out what a text would do. The error is *Error where the text
// is outside the grammar or names what does not exist; what is merely not
// understood is said in Statement.Incomplete, and may not run.
func Analyze(c *Context, text string) (an *Analysis, err error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, &Error{Code: "22021", Message: "a zero byte in the text", Offset: -1}
	}
	t, err := c.Grammar.Parse(text)
	if err != nil {
		var syntax *parse.SyntaxError
		if errors.As(err, &syntax) {
			return nil, &Error{Code: "42601", Message: syntax.Message, Near: syntax.Near, Offset: syntax.Offset}
		}
		return nil, &Error{Code: "54001", Message: err.Error(), Offset: -1}
	}
	defer t.Release()
	m := memories.Get().(*memory)
	defer m.release()
	a := &m.root
	*a = analyzer{c: c, g: c.Grammar, t: t, memory: m, ops: &m.found, work: &m.spent, edits: m.written, symbols: symbolsOf(c.Grammar)}
	if c.Filter != nil {
		a.guesses = map[int32]bool{}
	}
	a.searching(c.SearchPath)
	made := &struct { // one piece of memory for what most texts give
		an   Analysis
		st   abi.Statement
		part [1]Part
	}{st: abi.Statement{Protocol: "postgres", Text: text}}
	an = &made.an
	an.Statement = &made.st
	defer func() {
		switch f := recover().(type) {
		case nil:
		case *Error:
			if an, err = nil, f; f.Offset < 0 && a.reaches() { // of another text
				err = &Error{Code: "42501", Message: Unseen, Offset: -1}
			}
		case refuse:
			an.Parts, an.Statement.Incomplete = nil, string(f)
			if a.reaches() {
				an.Statement.Incomplete = Unseen
			}
			an.Statement.Operations = a.finish()
		default: // a fault of the analysis is a refusal, never a pass
			an.Parts, an.Statement.Incomplete = nil, fmt.Sprintf("the analysis failed: %v", f)
			an.Statement.Operations = nil
		}
	}()
	fp, err := a.skim()
	if err != nil {
		return nil, err
	}
	an.Statement.Fingerprint = fp
	if a.foreignCast() {
		a.refuse("this database has casts of its own between the server's types, which could run anywhere")
	}
	several := t.Statements() > 1
	if several {
		an.Pieces = a.apart()
	}
	var whole []string
	for _, top := range a.statements() {
		inner := a.t.Nodes[top].First
		if a.name(inner) == "stmt" {
			inner = a.t.Nodes[inner].First
		}
		if inner == 0 {
			continue
		}
		if a.unsure && !strings.HasPrefix(a.name(inner), "TransactionStmt") {
			a.refuse("what follows the end of a transaction that may have moved search_path: send it by itself")
		}
		a.edits, a.notice, a.beyond, a.nested, a.inside = a.edits[:0], "", false, false, 0
		before := len(a.ops.list)
		part := a.top(inner)
		if part.Kind == Define && several {
			an.Apart = true
			a.refuse("%s among other statements, each of which is judged once those before have run: ask about one at a time", a.words(inner))
		}
		for _, o := range a.ops.list[before:] {
			part.Writes = part.Writes || o.Effect.Writes()
			part.Unsaid = part.Unsaid || part.Kind != Prepare && a.callsUnsaid(&o.Operation)
		}
		slices.SortStableFunc(a.edits, func(x, y edit) int { return cmp.Compare(x.from, y.from) })
		part.Canonical = a.emit(t.Nodes[inner].From, t.Nodes[inner].To, a.edits)
		if part.Plain = part.Kind != Define && a.plain(a.ops.list[before:]); part.Plain {
			part.Count = a.count(inner)
		}
		if part.Notice, part.Nested = a.notice, a.nested; a.inside == inner && (len(a.edits) == 0 || a.edits[len(a.edits)-1].from < t.Nodes[inner].To) {
			part.Body = part.Canonical
		} else if a.inside != 0 {
			part.Body = a.emitted(a.inside)
		}
		whole = append(whole, part.Canonical)
		if an.Parts == nil {
			an.Parts = made.part[:0]
		}
		an.Parts = append(an.Parts, part)
		a.follow(&part)
		a.statement++
	}
	if an.Beneath = a.reaches(); an.Beneath && slices.ContainsFunc(an.Parts, func(p Part) bool { return p.Kind == ExplainPlan || p.Kind == ExplainAnalyze }) {
		a.refuse("EXPLAIN, which names what is read")
	}
	an.Params = a.params
	st := an.Statement
	st.Canonical = strings.Join(whole, " ; ")
	st.Operations, st.Outputs = a.finish(), a.outputs
	st.Kin, st.Blind, st.Guesses = a.kin(st), a.blind, len(a.guesses)-a.unasked
	st.Guessed = a.guessed
	if an.Named() {
		st.Incomplete = unresolved
	}
	return an, nil
}

// maxWork bounds what reading one text may cost: a short text can stand for
// billions of columns, or ask for one part of it to be read over and over.
const maxWork = 4_000_000

// maxTargets is how many columns the server lets a query have.
const maxTargets = 1664

// spend counts the cost of a step: a token that is read is 1, a column that is
// kept 8.
func (a *analyzer) spend(n int) {
	if *a.work += n; *a.work > maxWork {
		a.refuse("a text that takes too long to understand")
	}
}

// kept counts columns that are kept.
func (a *analyzer) kept(cols []column) []column {
	a.spend(8 * len(cols))
	return cols
}

// fits holds a list of results to what the server takes.
func (a *analyzer) fits(n int32, cols []column) []column {
	if len(cols) > maxTargets {
		a.fail("54011", n, "target lists can have at most %d entries", maxTargets)
	}
	return cols
}

// searching makes path the one that names are looked up along. Relations and
// types are forwarded with the schema that was found, so that another path
// cannot change what was judged. Functions and operators are not: once a
// session has moved its path, every schema's are candidates.
func (a *analyzer) searching(path []string) {
	if path == nil {
		path = a.c.Login
	}
	a.given, a.path = path, path
	a.anywhere = a.anywhere || a.c.Anywhere || a.moved || path != nil
	if path == nil {
		a.path = a.c.Schema.SearchPath
	}
}

// follow keeps the search path between the parts of one text.
func (a *analyzer) follow(p *Part) {
	switch p.Kind {
	case SetPath:
		a.moved = true
		a.searching(p.Path)
	case Reset, Discard:
		if p.All {
			a.moved = true
			a.searching(nil)
		}
	case Commit, Rollback, RollbackTo:
		a.unsure = a.moved || a.c.Anywhere // the server knows what became of a change, of this text's or an earlier one's
	}
}

// skim goes once through the tokens: it notes the parameters and gives a sum over
// what is no constant.
func (a *analyzer) skim() (fingerprint string, err error) {
	b := a.out[:0]
	for i := range a.t.Tokens {
		t := &a.t.Tokens[i]
		switch a.g.Class(t) {
		case parse.Number, parse.String, parse.Bits, parse.Hex:
			b = append(b, "? "...)
			continue
		case parse.Param:
			n, err := strconv.Atoi(t.Value)
			if err != nil || n < 1 || n > 65535 {
				return "", &Error{Code: "42P02", Message: "there is no parameter $" + t.Value, Offset: int(t.Start)}
			}
			a.params = max(a.params, n)
		}
		b = append(append(b, t.Value...), ' ')
	}
	a.out = b
	sum := sha256.Sum256(b)
	var digits [16]byte
	hex.Encode(digits[:], sum[:8])
	return string(digits[:]), nil
}

// finish gives the operations, with columns of their own.
func (a *analyzer) finish() []abi.Operation {
	width := 0
	for _, o := range a.ops.list {
		width += len(o.Columns)
	}
	list, columns := make([]abi.Operation, len(a.ops.list)), make([]abi.Column, width)
	for i, o := range a.ops.list {
		if o.refs > 0 && o.conditions >= o.refs {
			o.Attrs |= abi.HasWhere
		}
		list[i] = o.Operation
		if n := copy(columns, o.Columns); n > 0 {
			list[i].Columns, columns = columns[:n:n], columns[n:]
		}
	}
	return list
}

// statements gives the top-level statements.
func (a *analyzer) statements() []int32 {
	multi := a.kid(a.t.Root, "stmtmulti")
	if multi == 0 {
		a.refuse("not a list of statements")
	}
	return a.list(multi, "toplevel_stmt")
}

// apart gives the statements by themselves.
func (a *analyzer) apart() (list []Piece) {
	for _, top := range a.statements() {
		if n := &a.t.Nodes[top]; n.From < n.To {
			from, to := a.t.Tokens[n.From].Start, a.t.Tokens[n.To-1].End
			list = append(list, Piece{a.t.Text[from:to], int(from)})
		}
	}
	return list
}

// top takes one statement.
func (a *analyzer) top(n int32) Part {
	switch a.name(n) {
	case "SelectStmt":
		if p, ok := a.movesPath(n); ok {
			return p
		}
		if a.into = a.intoOf(n); a.into != 0 {
			p, _ := a.define(n)
			return p
		}
		a.printed(n)
		cols := a.query(nil, n)
		a.output(cols)
		a.inside = n
		return Part{Kind: Query, Rows: true}
	case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
		a.outer, a.current = n, ""
		cols := a.dml(nil, n)
		a.output(cols)
		a.inside, a.outer = n, 0
		return Part{Kind: Write, Rows: len(cols) > 0, Current: a.current}
	}
	return a.utility(n)
}

// output fixes the lineage of a result.
func (a *analyzer) output(cols []column) {
	before := len(a.outputs)
	a.outputs = slices.Grow(a.outputs, len(cols))
	l := lineage{a: a, tracing: &a.tracing}
	l.all, l.sizes = l.all[:0], l.sizes[:0]
	for i, c := range cols {
		a.use(c, abi.UseCopied)
		a.outputs = append(a.outputs, abi.Output{Statement: a.statement, Index: i, Name: c.name, Type: a.copiedType(c)})
		l.output(&a.outputs[len(a.outputs)-1], c)
	}
	l.settle(a.outputs[before:])
}
