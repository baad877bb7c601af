package sql

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
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

	given     []string // the search path, nil where it is the login's own
	path      []string // schemas of unqualified names
	anywhere  bool     // the path may be another one: a function or operator can be any schema's
	moved     bool     // this text has changed the path
	unsure    bool     // and it may or may not have been taken back since
	via       string   // what stands between the text and this part of it
	statement int
	changes   int // counts the commands that change rows
	depth     int // of views within views

	ops        map[opKey]*operation
	order      []*operation
	outputs    []abi.Output
	edits      []edit
	notice     string // what the client is told of this statement
	params     int
	work       *int               // what the reading has cost so far, of all texts within texts
	within     int                // of the function at hand, how many arguments stand in WITHIN GROUP
	trace      map[source]bool    // what an expression reads, where somebody asks
	quiet      bool               // what is read is only traced: it is not known yet whether it is used
	lazy       int32              // the SELECT whose columns are read only where somebody uses them, 0 for none
	shows      map[string]*column // what columns of views show and generated ones are made of, by their names
	defaulting bool               // an expression is a column's default
	beyond     bool               // something runs that is an extension's, and not the server's own
	nested     bool               // a WITH of this statement changes rows
	inside     int32              // the query or change of this statement, 0 for none
	blind      []abi.Protect      // the masks that the text has been given
	shaded     map[*schema.Relation]map[string]*abi.Protect
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
	var syntax *parse.SyntaxError
	if errors.As(err, &syntax) {
		return nil, &Error{Code: "42601", Message: syntax.Message, Offset: syntax.Offset}
	}
	if err != nil {
		return nil, &Error{Code: "54001", Message: err.Error(), Offset: -1}
	}
	a := &analyzer{c: c, g: c.Grammar, t: t, ops: map[opKey]*operation{}, work: new(int), shows: map[string]*column{}}
	a.searching(c.SearchPath)
	an = &Analysis{Statement: &abi.Statement{Protocol: "postgres", Text: text}}
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
	for i := range t.Tokens {
		if a.g.Names[t.Tokens[i].Kind] == "PARAM" {
			var n int
			if _, err := fmt.Sscan(t.Tokens[i].Value, &n); err != nil || n < 1 || n > 65535 {
				return nil, &Error{Code: "42P02", Message: "there is no parameter $" + t.Tokens[i].Value, Offset: int(t.Tokens[i].Start)}
			}
			a.params = max(a.params, n)
		}
	}
	if a.foreignCast() {
		a.refuse("this database has casts of its own between the server's types, which could run anywhere")
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
		before := len(a.order)
		part := a.top(inner)
		if part.Kind == Define && t.Statements() > 1 { // what the others mean depends on whether it runs
			a.refuse("%s among other statements: send each in a text of its own, as psql -f does", a.words(inner))
		}
		for _, o := range a.order[before:] {
			part.Writes = part.Writes || o.Effect.Writes()
		}
		sort.SliceStable(a.edits, func(i, j int) bool { return a.edits[i].from < a.edits[j].from })
		part.Canonical = emit(t, t.Nodes[inner].From, t.Nodes[inner].To, a.edits)
		if part.Plain = part.Kind != Define && a.plain(a.order[before:]); part.Plain {
			part.Count = a.count(inner)
		}
		if part.Notice, part.Nested = a.notice, a.nested; a.inside != 0 {
			part.Body = a.emitted(a.inside)
		}
		whole = append(whole, part.Canonical)
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
	st.Kin, st.Blind = a.kin(st), a.blind
	if an.Named() {
		st.Incomplete = unresolved
	}
	fp := sha256.Sum256([]byte(fingerprint(t)))
	st.Fingerprint = fmt.Sprintf("%x", fp[:8])
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

// fingerprint is the text without its constants.
func fingerprint(t *parse.Tree) string {
	var b strings.Builder
	for i := range t.Tokens {
		switch t.Grammar.Names[t.Tokens[i].Kind] {
		case "ICONST", "FCONST", "SCONST", "BCONST", "XCONST":
			b.WriteByte('?')
		default:
			b.WriteString(t.Tokens[i].Value)
		}
		b.WriteByte(' ')
	}
	return b.String()
}

func (a *analyzer) finish() []abi.Operation {
	list := make([]abi.Operation, len(a.order))
	for i, o := range a.order {
		if o.refs > 0 && o.conditions >= o.refs {
			o.Attrs |= abi.HasWhere
		}
		list[i] = o.Operation
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

// top takes one statement.
func (a *analyzer) top(n int32) Part {
	switch a.name(n) {
	case "SelectStmt":
		if p, ok := a.movesPath(n); ok {
			return p
		}
		a.printed(n)
		cols := a.query(nil, n)
		a.output(cols)
		a.inside = n
		return Part{Kind: Query, Rows: true}
	case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
		cols := a.dml(nil, n)
		a.output(cols)
		a.inside = n
		return Part{Kind: Write, Rows: len(cols) > 0}
	}
	return a.utility(n)
}

// output fixes the lineage of a result.
func (a *analyzer) output(cols []column) {
	for i, c := range cols {
		a.use(c, abi.UseCopied)
		o := abi.Output{Statement: a.statement, Index: i, Name: c.name, Type: a.copiedType(c)}
		l := lineage{a: a, out: &o, seen: map[lineageKey]bool{}}
		l.column(c, false)
		a.outputs = append(a.outputs, o)
	}
}
