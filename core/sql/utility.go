package sql

import (
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// utility takes every statement that is neither a query nor DML. What is not
// named here becomes an operation of its own kind, which no task can list yet.
func (a *analyzer) utility(n int32) Part {
	if p, ok := a.named(n); ok {
		return p
	}
	if p, ok := a.define(n); ok {
		return p
	}
	if p, ok := a.maintain(n); ok {
		return p
	}
	switch a.name(n) {
	case "TransactionStmt", "TransactionStmtLegacy":
		return a.transaction(n)
	case "VariableSetStmt":
		return a.setting(n)
	case "VariableResetStmt":
		return a.reset(n)
	case "VariableShowStmt":
		return a.show(n)
	case "ExplainStmt":
		return a.explain(n)
	case "CopyStmt":
		return a.copy(n)
	case "TruncateStmt":
		return a.truncate(n)
	case "LockStmt":
		return a.lockTable(n)
	case "ListenStmt", "NotifyStmt":
		// Listening shows what other sessions' triggers say.
		a.other(abi.Operation{Verb: a.words(n), Kind: abi.KindChannel, Effect: abi.EffectWrite, Object: []string{a.ident(a.kid(n, "ColId"))}})
		return Part{Kind: Utility}
	case "UnlistenStmt":
		a.floor("unlisten")
		return Part{Kind: Utility}
	case "DiscardStmt":
		if a.kid(n, "ALL") != 0 {
			a.floor("discard all")
			return Part{Kind: Discard, All: true}
		}
		a.floor(strings.ToLower(a.text(n))) // plans, and what the session alone has: its temporary tables, its last values of sequences
		return Part{Kind: Discard}
	case "CallStmt":
		return a.call(n)
	case "ConstraintsSetStmt":
		a.floor("set constraints") // whichever names are meant: all of them may be set
		return Part{Kind: Utility}
	}
	verb := a.words(n)
	a.other(abi.Operation{Verb: verb, Kind: abi.KindStatement, Effect: abi.EffectUnknown})
	return Part{Kind: Utility}
}

// call takes CALL of a procedure: whichever of that name it is, since OUT
// arguments count in no catalog.
func (a *analyzer) call(n int32) Part {
	f := a.kid(n, "func_application")
	name := a.kid(f, "func_name")
	parts, star, plain := a.parts(name)
	if star || !plain || len(parts) > 2 {
		a.refuse("a procedure name of that form")
	}
	a.kids(f, func(c int32) {
		if c != name {
			a.expr(&scope{}, c, abi.UseComputed)
		}
	})
	a.candidates(name, parts, -1, nil)
	return Part{Kind: Utility, Rows: true}
}

// words gives the leading keywords of a statement: "drop table", "do".
func (a *analyzer) words(n int32) string {
	from := a.t.Nodes[n].From
	verb := strings.ToLower(a.t.Tokens[from].Value)
	switch verb {
	case "create", "alter", "drop", "refresh", "comment", "security", "import", "reassign":
		for i := from + 1; i < min(a.t.Nodes[n].To, from+4); i++ {
			switch w := strings.ToLower(a.t.Tokens[i].Value); w {
			case "or", "replace", "unique", "temp", "temporary", "unlogged", "global", "local":
			default:
				return verb + " " + w
			}
		}
	}
	return verb
}

func (a *analyzer) floor(verb string) {
	a.other(abi.Operation{Verb: verb, Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor})
}

func (a *analyzer) transaction(n int32) Part {
	r := a.rule(n)
	if c := a.kid(n, "opt_transaction_chain"); c != 0 && !a.empty(c) && a.kid(c, "NO") == 0 {
		a.other(abi.Operation{Verb: strings.ToLower(a.token(n).Value) + " and chain", Kind: abi.KindTransaction, Effect: abi.EffectWrite})
		return Part{Kind: CommitChain}
	}
	name := func() string {
		if c := a.kid(n, "ColId"); c != 0 {
			return a.ident(c)
		}
		return ""
	}
	switch first := r[1]; {
	case len(r) > 2 && (r[2] == "PREPARED" || first == "PREPARE"):
		a.other(abi.Operation{Verb: strings.ToLower(first + " " + r[2]), Kind: abi.KindTransaction, Effect: abi.EffectWrite})
		return Part{Kind: TwoPhase}
	case first == "BEGIN_P" || first == "START":
		a.floor("begin")
		return Part{Kind: Begin}
	case first == "COMMIT" || first == "END_P":
		a.floor("commit")
		return Part{Kind: Commit}
	case first == "SAVEPOINT":
		a.floor("savepoint")
		return Part{Kind: Savepoint, Name: name()}
	case first == "RELEASE":
		a.floor("release")
		return Part{Kind: Release, Name: name()}
	case first == "ROLLBACK" && name() != "":
		a.floor("rollback to")
		return Part{Kind: RollbackTo, Name: name()}
	case first == "ROLLBACK" || first == "ABORT_P":
		a.floor("rollback")
		return Part{Kind: Rollback}
	}
	a.refuse("a transaction statement of an unknown form")
	return Part{}
}

// setPath takes SET search_path; no list is DEFAULT. Schemas that do not exist
// are skipped, as the server does.
func (a *analyzer) setPath(list int32, local bool) Part {
	if list == 0 {
		return a.searchPath(nil, local)
	}
	names := []string{}
	for _, v := range a.list(list, "var_value") {
		names = append(names, a.ident(v))
	}
	return a.searchPath(names, local)
}

// maxPath bounds a search path, in bytes.
const maxPath = 4 << 10

func (a *analyzer) searchPath(names []string, local bool) Part {
	p := Part{Kind: SetPath, Local: local}
	op := abi.Operation{Verb: "set", Kind: abi.KindSetting, Object: []string{"search_path"}, Value: "default", Effect: abi.EffectRead, Attrs: abi.Floor}
	if names != nil {
		p.Path = []string{}
		for _, name := range names {
			switch {
			case strings.HasPrefix(name, "pg_temp") || strings.HasPrefix(name, "pg_toast"):
				op.Effect, op.Attrs = abi.EffectWrite, 0 // whatever lies there is unknown
			case name == "pg_catalog" && len(p.Path) > 0:
				op.Effect, op.Attrs = abi.EffectWrite, 0 // names of the server's own would mean something else
			case name == "$user":
				name = a.c.Schema.Role.Name
			}
			p.Path = append(p.Path, name)
		}
		if op.Value = strings.Join(p.Path, ", "); len(op.Value) > maxPath { // each text remembers along which it was read
			panic(&Error{Code: "54000", Message: fmt.Sprintf("a search path of more than %d bytes", maxPath), Offset: -1})
		}
	}
	a.other(op)
	return p
}

func (a *analyzer) reset(n int32) Part {
	if v := a.find(n, "var_name"); v != 0 && a.varName(v) == "search_path" {
		return a.setPath(0, false)
	} else if v != 0 {
		return a.set(a.varName(v), "default", 0, false)
	}
	if a.find(n, "TIME") != 0 {
		return a.set("timezone", "default", 0, false)
	}
	if a.find(n, "SESSION") != 0 && a.c.Schema.Role.Itself {
		a.floor("reset session authorization") // nothing can have changed it
		return Part{Kind: Utility}
	}
	if a.find(n, "ALL") != 0 {
		a.floor("reset all") // back to what the session began with: limits are part of that
		return Part{Kind: Reset, All: true}
	}
	a.other(abi.Operation{Verb: "reset", Kind: abi.KindSetting, Object: []string{a.words(n)}, Effect: abi.EffectWrite})
	return Part{Kind: Reset}
}

// explain takes EXPLAIN. Without ANALYZE it does not run what it explains, but
// plans it, and so folds functions: what is inside is judged all the same.
func (a *analyzer) explain(n int32) Part {
	analyze := a.kid(n, "analyze_keyword") != 0
	if o := a.kid(n, "utility_option_list"); o != 0 {
		for i := a.t.Nodes[o].From; i < a.t.Nodes[o].To; i++ {
			switch strings.ToLower(a.t.Tokens[i].Value) {
			case "analyze", "analyse":
				// The last one counts at the server; any one that is on counts here.
				analyze = analyze || !isOff(strings.ToLower(a.t.Tokens[i+1].Value))
			}
		}
	}
	inner := a.t.Nodes[a.kid(n, "ExplainableStmt")].First
	before := len(a.ops.list)
	switch a.name(inner) {
	case "CreateAsStmt", "CreateMatViewStmt":
		a.planned(inner, analyze)
	case "SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "DeclareCursorStmt":
		if a.name(inner) == "SelectStmt" {
			if a.into = a.intoOf(inner); a.into != 0 {
				a.planned(inner, analyze)
				break
			}
		}
		outputs := len(a.outputs)
		if k := a.kid(inner, "SelectStmt"); k != 0 { // DECLARE makes no cursor here
			inner = k
		}
		a.inside = inner
		if a.name(inner) == "SelectStmt" {
			a.output(a.query(nil, inner)) // set_config of a path is a call here: who knows whether it runs
		} else {
			a.output(a.dml(nil, inner))
		}
		a.outputs = a.outputs[:outputs]
	case "ExecuteStmt":
		p, _ := a.named(inner)
		if p.Explain = Planned; analyze {
			a.other(abi.Operation{Verb: "explain analyze", Kind: abi.KindStatement, Effect: abi.EffectRead})
			p.Explain = Analyzed
		}
		return p
	default:
		a.refuse("EXPLAIN of %s", a.words(inner))
	}
	for _, o := range a.ops.list[before:] {
		if why := untold(o.Columns, &o.Operation, a.blind); why != "" {
			a.refuse("%s", why)
		}
		measured(o.Columns)
	}
	if analyze {
		a.other(abi.Operation{Verb: "explain analyze", Kind: abi.KindStatement, Effect: abi.EffectRead})
		return Part{Kind: ExplainAnalyze, Rows: true}
	}
	for _, o := range a.ops.list[before:] {
		o.Attrs |= abi.Explain
	}
	return Part{Kind: ExplainPlan, Rows: true}
}

// planned takes what EXPLAIN explains where that makes a table of a query's rows. It
// makes none, but says whether there is one of that name: whoever may make it is told.
func (a *analyzer) planned(n int32, analyze bool) {
	if analyze {
		a.refuse("EXPLAIN ANALYZE of what makes a table, which makes it: leave ANALYZE out, or explain its query")
	}
	switch a.name(n) {
	case "CreateAsStmt":
		a.createTableAs(n)
	case "CreateMatViewStmt":
		a.createMaterialized(n)
	default:
		a.selectInto(n)
	}
}

// measured are the columns of what EXPLAIN explains: it shows none of them, and
// how wide they are and how often a value comes.
func measured(columns []abi.Column) {
	for i := range columns {
		columns[i].Filter = false
		if c := &columns[i]; c.Use&abi.UseCopied != 0 {
			c.Use = c.Use&^abi.UseCopied | abi.UseComputed
		}
	}
}

// isOff says whether the word behind an option switches it off.
func isOff(word string) bool { return word == "off" || word == "false" || word == "0" }

// lockTable takes LOCK TABLE. ACCESS SHARE is what reading takes anyway.
func (a *analyzer) lockTable(n int32) Part {
	verb, effect := "lock", abi.EffectWrite
	if l := a.kid(n, "opt_lock"); !a.empty(l) {
		if r := a.rule(a.kid(l, "lock_type")); len(r) == 3 && r[1] == "ACCESS" && r[2] == "SHARE" {
			verb, effect = "select", abi.EffectRead
		}
	}
	for _, re := range a.list(a.kid(n, "relation_expr_list"), "relation_expr") {
		r := a.relation(a.find(re, "qualified_name"))
		if r.Kind == 'v' { // it locks what is behind it too
			a.refuse("LOCK of the view %s", r.Name.Name)
		}
		a.touch(verb, r, "", effect)
		a.descend(verb, r, effect)
	}
	return Part{Kind: Utility}
}
