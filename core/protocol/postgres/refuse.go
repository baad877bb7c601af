package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

// refusal is what a client reads in place of an answer.
type refusal struct {
	code, message, detail, hint string
	position                    int  // in characters from 1, 0 is none
	late                        bool // the server finds it only where the transaction is not aborted
}

// aborted is what the server says to everything but the end of a transaction
// in which something has failed.
var aborted = &refusal{code: "25P02", message: sentences["25P02"]}

func (r *refusal) encode() []byte {
	return encode(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: r.code, Message: r.message,
		Detail: r.detail, Hint: r.hint, Position: int32(r.position)})
}

// refuse puts why a command may not run into PostgreSQL's words. ok is false
// for what is no refusal: the session cannot go on.
func refuse(text string, err error) (r *refusal, ok bool) {
	var d *gate.Denied
	var e *sql.Error
	switch {
	case errors.As(err, &d):
		return &refusal{code: "42501", message: readable(d.Error()), detail: readable(d.Reason.Closest), hint: readable(d.Reason.Hint)}, true
	case errors.As(err, &e):
		r := &refusal{code: e.Code, message: e.Message, hint: e.Hint, late: e.Code != "42601"}
		if e.Near != "" {
			r.message += ` at or near "` + e.Near + `"`
		}
		if e.Offset >= 0 && e.Offset <= len(text) {
			r.position = len([]rune(text[:e.Offset])) + 1
		}
		return r, true
	case errors.As(err, new(*noSchema)):
		return &refusal{code: "58000", message: "the gateway cannot look at the resource's schema at the moment, and so has not judged this", hint: "nothing of it has run: try again"}, true
	}
	return nil, false
}

// placeholder is a text outside the server's grammar that fails in the place
// of a refused one. It names the session, so that whoever reads the server's
// log finds the refusal in the gateway's.
func (c *conn) placeholder() string {
	commands, _ := c.session.Counts()
	return fmt.Sprintf("taskgate refused command %d of session %s", commands, c.session.ID())
}

// placeholderName is a reserved statement: a failing Parse of the unnamed one
// would destroy the client's.
const placeholderName = "taskgate_refused"

func (c *conn) failingQuery() {
	c.out = append(c.out, frame('Q', append([]byte(c.placeholder()), 0))...)
}

func (c *conn) failingParse() {
	b := append([]byte(placeholderName), 0)
	b = append(append(b, c.placeholder()...), 0, 0, 0)
	c.out = append(c.out, frame('P', b)...)
}

// sentences are what is left of an upstream's error where its own text could
// show values: the general meaning of its code (PostgreSQL documentation,
// appendix "Error Codes").
var sentences = map[string]string{
	"22001": "value too long for its column's type", "22003": "numeric value out of range", "22007": "invalid date or time format",
	"22008": "date or time out of range", "22012": "division by zero", "22P02": "invalid text representation of a value",
	"22021": "character not in the repertoire of the encoding", "22023": "invalid parameter value",
	"23502": "null value violates a not-null constraint", "23503": "foreign key constraint violated", "23505": "unique constraint violated",
	"23514": "check constraint violated", "23P01": "exclusion constraint violated", "25001": "a transaction is already in progress",
	"25006": "cannot execute in a read-only transaction", "25P01": "there is no transaction in progress",
	"25P02": "current transaction is aborted, commands ignored until end of transaction block", "26000": "prepared statement does not exist",
	"34000": "portal does not exist", "40001": "could not serialize access, try again", "40P01": "deadlock detected",
	"53100": "the server's disk is full", "53300": "too many connections", "54000": "a limit of the server is exceeded",
	"55P03": "lock not available", "57014": "canceling statement due to user request or a timeout",
	"57P01": "the server is shutting down", "57P02": "the server crashed", "57P03": "the server cannot connect now", "P0001": "raised by a function",
}

var classes = map[string]string{
	"01": "warning", "08": "connection failure", "0A": "feature not supported", "21": "cardinality violation", "22": "invalid data",
	"23": "integrity constraint violated", "25": "invalid transaction state", "28": "not authorized at the server", "40": "transaction rolled back",
	"42": "syntax error or access rule violation", "53": "insufficient resources", "54": "a limit of the server is exceeded",
	"55": "object not in the state that is needed", "57": "operator intervention", "58": "system error", "P0": "error in a function", "XX": "internal error of the server",
}

// stalePlan is what the server says where a table of a prepared statement has been
// changed. Drivers prepare it again and go on (asyncpg, JDBC, Rails), and know it by
// the routine, or pgx by the sentence. It tells of the catalog alone.
var stalePlan = struct{ message, routine string }{"cached plan must not change result type", "RevalidateCachedQuery"}

// skippers are the server's routines that warn that they leave a table out, of ANALYZE,
// VACUUM and CLUSTER.
var skippers = map[string]bool{"vacuum_is_relation_owner": true, "vacuum_is_permitted_for_relation": true, "cluster_is_permitted_for_relation": true}

func sentence(code string) string {
	if s := sentences[code]; s != "" {
		return s
	}
	if len(code) == 5 {
		if s := classes[code[:2]]; s != "" {
			return s
		}
	}
	return "error of the server"
}

// What the server says where a name stands for nothing (exec_execute_message
// and exec_bind_message of its postgres.c). It is the gateway or the server who
// says it, by which of them hears first that a name was not made after all.
func noPortal(name string) string { return `portal "` + name + `" does not exist` }

func noCursor(name string) string { return `cursor "` + name + `" does not exist` }

func noStatement(name string) string {
	if name == "" {
		return "unnamed prepared statement does not exist"
	}
	return `prepared statement "` + name + `" does not exist`
}

// missing says whether an error says no more than that a name of the client's
// own, of its message or in its text, stands for nothing.
func missing(e *entry, r *pgproto3.ErrorResponse) bool {
	if e == nil || r.Code != "26000" && r.Code != "34000" {
		return false
	}
	if r.Message == noPortal(e.name) || r.Message == noStatement(e.name) {
		return true
	}
	return e.analysis != nil && anyOf(e.analysis.Parts, func(p *sql.Part) bool {
		return p.Name != "" && (r.Message == noCursor(p.Name) || r.Message == noStatement(p.Name))
	})
}

// cut gives an error or notice of the server as the client may see it, as the
// answer to what was promised. Unless every guard shows errors, all that could
// print a value goes: PostgreSQL puts whole rows into DETAIL. Class 42 is raised
// before data is read and passes.
func (c *conn) cut(kind byte, body []byte, ex *gate.Exchange, st *abi.Statement, promised *entry) ([]byte, string, error) {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err != nil {
		return nil, "", fmt.Errorf("upstream: %w", err)
	}
	if len(e.Code) != 5 {
		e.Code = "XX000"
	}
	c.reached(ex, st)
	show := ex != nil && ex.Verdict() != nil && ex.Verdict().ShowErrors && !c.secret.reached
	out := pgproto3.ErrorResponse{Severity: e.Severity, SeverityUnlocalized: e.SeverityUnlocalized, Code: e.Code}
	switch {
	case show:
		out = e
	case kind == 'E' && c.secret.oneCode && e.Code[:2] == "23":
		out.Code = "23000"
		out.Message = sentence(out.Code)
	case kind == 'E' && e.Code[:2] == "42" && !c.secret.beneath && !c.secret.called && !called(st) && !(c.secret.reached && st.Writes()):
		out.Message, out.Hint = e.Message, e.Hint
	case missing(promised, &e):
		out.Message = e.Message
	case kind == 'N' && skippers[e.Routine]:
		out.Message = "the server has left out a table that its login does not own, nor may maintain"
	default:
		out.Message = sentence(e.Code)
		if !c.secret.beneath && !c.secret.called && !called(st) && knows(st, e.SchemaName, e.TableName) { // RAISE can give them any
			out.SchemaName, out.TableName, out.ColumnName, out.ConstraintName = e.SchemaName, e.TableName, e.ColumnName, e.ConstraintName
			if e.ConstraintName != "" {
				out.Message += fmt.Sprintf(" %q", e.ConstraintName)
			}
		}
	}
	out.Position, out.InternalPosition, out.InternalQuery, out.Where, out.File, out.Line, out.Routine = 0, 0, "", "", "", 0, ""
	if e.Code == "0A000" && e.Routine == stalePlan.routine { // RAISE has a routine of its own
		out.Message, out.Routine = stalePlan.message, stalePlan.routine
	}
	if st != nil && e.Position > 0 && (!c.secret.reached || out.Message == e.Message) {
		if out.Position = c.place(st, e.Position); out.Position > 0 && promised != nil {
			out.Position += int32(promised.offset)
		}
	}
	b := encode(&out)
	if b != nil {
		b[0] = kind
	}
	return b, e.Code, nil
}

// place finds a character of what was forwarded, from 1, in the client's own
// text: the two have the same tokens but for what was put in between. 0 is none.
func (c *conn) place(st *abi.Statement, at int32) int32 {
	s := c.judging()
	if st.Canonical == st.Text || s == nil {
		return at
	}
	g, err := parse.ForServer(s.Major)
	if err != nil {
		return 0
	}
	ours, err := g.Lex(st.Canonical)
	theirs, err2 := g.Lex(st.Text)
	if err != nil || err2 != nil {
		return 0
	}
	n := 0
	for i := range st.Canonical {
		if at--; at == 0 {
			n = i
			break
		}
	}
	i, ok := slices.BinarySearchFunc(ours, int32(n), func(t parse.Token, n int32) int { return int(t.Start - n) })
	same := func(a, b parse.Token) bool { return a.Kind == b.Kind && a.Value == b.Value }
	j := len(theirs) - len(ours) + i // counted from the end
	switch {
	case !ok:
		return 0
	case i < len(theirs) && slices.EqualFunc(ours[:i+1], theirs[:i+1], same):
		j = i
	case j < 0 || !slices.EqualFunc(ours[i:], theirs[j:], same):
		return 0
	}
	return int32(utf8.RuneCountInString(st.Text[:theirs[j].Start])) + 1
}

// secret is what the open transaction has reached. What the server says in it,
// at its end too, may be of that: PostgreSQL checks deferred constraints and
// fills cursors WITH HOLD at COMMIT, and puts their rows into the message.
type secret struct {
	reached bool // what is protected
	oneCode bool // integrity violations have to look alike
	called  bool // a function ran that may say anything
	beneath bool // what its task is not told of
}

// reached notes what a statement has reached.
func (c *conn) reached(ex *gate.Exchange, st *abi.Statement) {
	c.secret.add(ex, st)
	if _, task := c.session.Resource(); !c.secret.beneath && st != nil && reads(task).Listed != nil {
		s := c.judging()
		c.secret.beneath = s == nil || reads(task).Listed.Reaches(s, st.Operations)
	}
}

func (s *secret) add(ex *gate.Exchange, st *abi.Statement) {
	if ex != nil {
		s.reached = s.reached || ex.Guarded()
		s.oneCode = s.oneCode || ex.OneCode()
	}
	s.called = s.called || st != nil && called(st)
}

// free are the parameters whose values a function can make of anything.
var free = map[string]bool{"application_name": true, "search_path": true, "TimeZone": true}

// mayTell says whether a parameter's new value may be told.
func (c *conn) mayTell(e *entry, body []byte) bool {
	if e != nil && e.analysis != nil {
		c.secret.add(e.exchange, e.analysis.Statement)
	}
	name, _, _ := cutString(body)
	return !c.secret.called || !free[name]
}

// called says whether a statement runs a function that is not known to be
// harmless, whose errors may say anything.
func called(st *abi.Statement) bool {
	return st == nil || anyOf(st.Operations, func(o *abi.Operation) bool { return o.Kind == abi.KindFunction })
}

func knows(st *abi.Statement, schema, table string) bool {
	return st != nil && table != "" && anyOf(st.Operations, func(o *abi.Operation) bool {
		return o.Kind == abi.KindRelation && len(o.Object) == 2 && o.Object[0] == schema && o.Object[1] == table
	})
}

var errOver = errors.New("postgres: the upstream has ended")

// ended gives the words for the end of a session.
func ended(ctx context.Context, id string, err error) error {
	var f *fatal
	if errors.As(err, &f) {
		return err
	}
	cause := context.Cause(ctx)
	var e *gate.Ended
	if errors.As(cause, &e) {
		code := "57P01"
		return &fatal{code: code, message: "terminating connection: " + e.Reason, cause: e}
	}
	if errors.Is(err, errGoodbye) {
		return err
	}
	return &fatal{code: "XX000", message: "internal error, session " + id, cause: err}
}
