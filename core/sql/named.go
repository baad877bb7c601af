package sql

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// Names is what earlier texts of a session have named. nil and no error is a
// name that is not known.
type Names interface {
	Prepared(name string) (*Analysis, error) // by PREPARE, or by the protocol
	Cursor(name string) (*Analysis, error)
}

// named are the statements that make names and use them. What EXECUTE and
// FETCH do is what their name stands for: Resolve fills it in.
func (a *analyzer) named(n int32) (Part, bool) {
	switch a.name(n) {
	case "PrepareStmt":
		if ts := a.find(a.kid(n, "prep_type_clause"), "type_list"); ts != 0 {
			for _, t := range a.list(ts, "Typename") {
				a.typeName(t)
			}
		}
		before := len(a.guesses)
		p := Part{Kind: Prepare, Name: a.ident(a.kid(n, "name")), Inner: a.inner(a.kid(n, "PreparableStmt"))}
		a.unasked += len(a.guesses) - before
		return p, true
	case "DeclareCursorStmt":
		hold := a.kid(n, "opt_hold")
		return Part{Kind: Declare, Name: a.cursorName(n), Hold: !a.empty(hold) && a.kid(hold, "WITH") != 0, Inner: a.inner(a.kid(n, "SelectStmt"))}, true
	case "ExecuteStmt":
		if a.rule(n)[1] != "EXECUTE" {
			a.refuse("CREATE TABLE … AS EXECUTE")
		}
		return Part{Kind: Execute, Name: a.ident(a.kid(n, "name")), Rows: true, Args: a.constants(a.kid(n, "execute_param_clause"))}, true
	case "FetchStmt":
		return Part{Kind: Fetch, Name: a.cursorName(n), Rows: a.rule(n)[1] == "FETCH"}, true
	case "ClosePortalStmt":
		a.other(abi.Operation{Verb: "close", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor})
		p := Part{Kind: CloseCursor, All: a.kid(n, "ALL") != 0}
		if !p.All {
			p.Name = a.cursorName(n)
		}
		return p, true
	case "DeallocateStmt":
		a.other(abi.Operation{Verb: "deallocate", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor})
		p := Part{Kind: Deallocate, All: a.kid(n, "ALL") != 0}
		if !p.All {
			p.Name = a.ident(a.kid(n, "name"))
		}
		return p, true
	}
	return Part{}, false
}

func (a *analyzer) cursorName(n int32) string { return a.ident(a.find(n, "cursor_name")) }

// inner judges the statement that a name is given to, and gives it as a text
// of its own, which is what is judged again when the name is used.
func (a *analyzer) inner(n int32) *Analysis {
	outputs := len(a.outputs)
	a.printed(n)
	a.output(a.query(nil, n))
	a.outputs = a.outputs[:outputs]
	from, to := a.t.Tokens[a.t.Nodes[n].From].Start, a.t.Tokens[a.t.Nodes[n].To-1].End
	c := *a.c
	c.SearchPath, c.Anywhere = a.given, a.anywhere
	in, err := Analyze(&c, strings.Clone(a.t.Text[from:to])) // it is kept, and the rest of the text need not be
	if e, ok := err.(*Error); ok {                           //nolint:errorlint // Analyze makes it
		if e.Offset >= 0 {
			e.Offset += int(from)
		}
		panic(e)
	}
	if in.Statement.Incomplete != "" {
		a.refuse("%s", in.Statement.Incomplete)
	}
	return in
}

// constants gives the arguments of EXECUTE as a guard sees parameters. One
// that is no constant has no value before it runs, and is refused.
func (a *analyzer) constants(n int32) (out []abi.Param) {
	list := a.kid(n, "expr_list")
	if list == 0 {
		return nil
	}
	for _, e := range a.list(list, "a_expr") {
		a.expr(&scope{}, e, abi.UseComputed)
		p, ok := a.constant(e)
		if !ok {
			a.refuse("EXECUTE with an argument that is no constant")
		}
		out = append(out, p)
	}
	return out
}

// constant gives the value of a constant, whatever it is cast to.
func (a *analyzer) constant(n int32) (p abi.Param, ok bool) {
	sign := ""
	for {
		n = a.through(n)
		r := a.rule(n)
		switch name := a.name(n); {
		case name == "c_expr" && len(r) == 3 && r[2] == "array_expr" && sign == "":
			text, ok := a.constantArray(a.kid(n, "array_expr"))
			return abi.Param{Value: []byte(text)}, ok
		case name == "a_expr" && a.kid(n, "TYPECAST") != 0: // '1'::int
			n = a.kid(n, "a_expr")
		case name == "c_expr" && len(r) == 5 && r[1] == "'('" && a.empty(a.kid(n, "opt_indirection")):
			n = a.kid(n, "a_expr")
		case name == "func_expr_common_subexpr" && r[1] == "CAST":
			n = a.kid(n, "a_expr")
		case name == "a_expr" && len(r) == 3 && (r[1] == "'-'" || r[1] == "'+'") && sign == "":
			sign = strings.Trim(r[1], "'")
			n = a.kid(n, "a_expr")
		case name == "AexprConst" && len(r) == 3 && r[2] == "Sconst": // int '1'
			n = a.kid(n, "Sconst")
		default:
			if a.t.Nodes[n].To != a.t.Nodes[n].From+1 {
				return p, false
			}
			t := a.token(n)
			switch a.g.Names[t.Kind] {
			case "NULL_P":
				return abi.Param{Null: true}, true
			case "ICONST":
				return abi.Param{Value: []byte(strings.TrimPrefix(sign, "+") + decimal(t.Value))}, true
			case "FCONST", "SCONST", "TRUE_P", "FALSE_P":
				return abi.Param{Value: []byte(strings.TrimPrefix(sign, "+") + t.Value)}, true
			}
			return p, false
		}
	}
}

// decimal gives a whole number as every server writes it: newer ones also read
// 0x1F and 1_000.
func decimal(number string) string {
	number = strings.ReplaceAll(number, "_", "")
	if len(number) > 2 && number[0] == '0' && number[1] > '9' {
		if n, err := strconv.ParseUint(number, 0, 64); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	return number
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// constantArray gives an array of constants as the server writes it.
func (a *analyzer) constantArray(n int32) (text string, ok bool) {
	var parts []string
	for _, in := range a.list(a.kid(n, "array_expr_list"), "array_expr") {
		part, ok := a.constantArray(in)
		if !ok {
			return "", false
		}
		parts = append(parts, part)
	}
	for _, e := range a.list(a.kid(n, "expr_list"), "a_expr") {
		p, ok := a.constant(e)
		switch leaf := a.through(e); {
		case !ok:
			return "", false
		case p.Null:
			parts = append(parts, "NULL")
		case a.name(leaf) == "c_expr" && a.kid(leaf, "array_expr") != 0: // ARRAY within ARRAY
			parts = append(parts, string(p.Value))
		default:
			parts = append(parts, `"`+escapes.Replace(string(p.Value))+`"`)
		}
	}
	return "{" + strings.Join(parts, ",") + "}", true
}

// unresolved stands in a statement that uses names until Resolve has filled
// in what they stand for: whoever forgets to call it runs nothing.
const unresolved = "a name of this session that has not been looked up"

// Later gives a text of one statement that uses a name as it may be prepared
// where the name stands for nothing yet: the server looks it up when it carries
// the statement out. It tells nothing of what that will do: whoever carries it out
// has Resolve say it. nil is a text that has to wait for its name.
func (an *Analysis) Later() *Analysis {
	if len(an.Parts) != 1 || an.Parts[0].Kind != Execute && an.Parts[0].Kind != Fetch && an.Parts[0].Current == "" {
		return nil
	}
	st := *an.Statement
	if st.Incomplete == unresolved {
		st.Incomplete = ""
	}
	return &Analysis{Statement: &st, Parts: an.Parts, Params: an.Params, Beneath: an.Beneath}
}

func (p *Part) usesNames() bool {
	switch p.Kind {
	case Prepare, Declare, Execute, Fetch, Deallocate, CloseCursor:
		return true
	}
	return p.Current != ""
}

// Named says whether a text makes or uses names, and so means what its session
// makes of it.
func (an *Analysis) Named() bool {
	return slices.ContainsFunc(an.Parts, func(p Part) bool { return p.usesNames() })
}

// Resolve fills in what the names stand for that a text uses: EXECUTE and
// FETCH do what their statement does. A text without names is given back as it
// is. Part by part, names that the text makes itself come before the session's.
func (an *Analysis) Resolve(names Names) (*Analysis, error) {
	if !an.Named() {
		return an, nil
	}
	st := *an.Statement
	out := &Analysis{Statement: &st, Parts: slices.Clone(an.Parts), Params: an.Params, Beneath: an.Beneath}
	if st.Incomplete == unresolved {
		st.Incomplete = ""
	}
	st.Operations, st.Outputs, st.Kin = slices.Clone(st.Operations), slices.Clone(st.Outputs), maps.Clone(st.Kin)
	l := local{names: names, prepared: map[string]*Analysis{}, cursors: map[string]*Analysis{}}
	for i := range out.Parts {
		p := &out.Parts[i]
		var in *Analysis
		var err error
		switch p.Kind {
		case Prepare:
			if in, err = l.statement(p.Name); err == nil && in != nil {
				err = &Error{Code: "42P05", Message: fmt.Sprintf("prepared statement %q already exists", p.Name), Offset: -1}
			}
			l.prepared[p.Name], in = p.Inner, nil
		case Declare:
			if in, err = l.cursor(p.Name); err == nil && in != nil {
				err = &Error{Code: "42P03", Message: fmt.Sprintf("cursor %q already exists", p.Name), Offset: -1}
			}
			l.cursors[p.Name], in = p.Inner, nil
		case Deallocate:
			l.prepared[p.Name], l.noPrepared = nil, l.noPrepared || p.All
			if p.All {
				clear(l.prepared)
			}
		case CloseCursor:
			l.cursors[p.Name], l.noCursors = nil, l.noCursors || p.All
			if p.All {
				clear(l.cursors)
			}
		case Execute:
			if in, err = l.statement(p.Name); err == nil && in == nil {
				err = &Error{Code: "26000", Message: fmt.Sprintf("prepared statement %q does not exist", p.Name), Offset: -1}
			}
			if err == nil && (len(in.Parts) != 1 || in.Parts[0].Kind != Query && in.Parts[0].Kind != Write) {
				err = &Error{Code: "0A000", Message: fmt.Sprintf("EXECUTE of %q, which is no query and changes no rows", p.Name), Hint: "execute it by the protocol, or write it out", Offset: -1}
			}
		case Fetch:
			if in, err = l.cursor(p.Name); err == nil && in == nil {
				err = &Error{Code: "34000", Message: fmt.Sprintf("cursor %q does not exist", p.Name), Hint: "only a cursor that DECLARE has made can be fetched from", Offset: -1}
			}
		case Write:
			if p.Current == "" {
				break
			}
			if in, err = l.cursor(p.Current); err == nil && in == nil {
				err = &Error{Code: "34000", Message: fmt.Sprintf("cursor %q does not exist", p.Current), Hint: "WHERE CURRENT OF takes a cursor that DECLARE has made", Offset: -1}
			}
		}
		if err != nil {
			return nil, err
		}
		if in != nil {
			if p.Current == "" {
				p.Writes, p.Rows = in.Parts[0].Writes, p.Explain != Runs || p.Rows && in.Parts[0].Rows
				p.Nested = in.Parts[0].Nested
			}
			if out.Beneath = out.Beneath || in.Beneath; in.Beneath && p.Explain != Runs {
				st.Incomplete = Unseen
			}
			p.Unsaid = p.Unsaid || in.Parts[0].Unsaid
			p.Plain = p.Plain && in.Parts[0].Plain
			for name, kin := range in.Statement.Kin {
				if st.Kin == nil {
					st.Kin = map[string][][]string{}
				}
				st.Kin[name] = kin
			}
			st.Blind = append(slices.Clip(st.Blind), in.Statement.Blind...)
			if p.Kind == Execute && in.Statement.Guesses > 0 { // its arguments are, or may be
				st.Guesses, st.Guessed = st.Guesses+in.Statement.Guesses, nil
			}
			for _, op := range in.Statement.Operations {
				op.Statement = i
				if why := untold(op.Columns, &op, st.Blind); why != "" && p.Explain != Runs {
					st.Incomplete = why
				}
				if p.Explain != Runs {
					op.Columns = slices.Clone(op.Columns)
					measured(op.Columns)
				}
				if p.Explain == Planned {
					op.Attrs |= abi.Explain
				}
				st.Operations = append(st.Operations, op)
			}
			for _, o := range in.Statement.Outputs {
				if o.Statement = i; p.Rows && p.Explain == Runs && p.Current == "" {
					st.Outputs = append(st.Outputs, o)
				}
			}
		}
	}
	return out, nil
}

// local are the names as they stand between two parts of one text.
type local struct {
	names                 Names
	prepared, cursors     map[string]*Analysis // nil is one that is gone
	noPrepared, noCursors bool                 // those of the session are gone
}

func (l *local) statement(name string) (*Analysis, error) {
	if in, ok := l.prepared[name]; ok || l.noPrepared {
		return in, nil
	}
	return l.names.Prepared(name)
}

func (l *local) cursor(name string) (*Analysis, error) {
	if in, ok := l.cursors[name]; ok || l.noCursors {
		return in, nil
	}
	return l.names.Cursor(name)
}

// NoNames is a session that has named nothing.
type NoNames struct{}

// Prepared knows no name.
func (NoNames) Prepared(string) (*Analysis, error) { return nil, nil }

// Cursor knows no name.
func (NoNames) Cursor(string) (*Analysis, error) { return nil, nil }
