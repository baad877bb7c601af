package gate

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/internal/count"
)

// Exchange is one allowed command and its answer. Only Submit makes one.
type Exchange struct {
	s       *Session
	gen     *Generation
	use     *use // of the generation, nil where the exchange has a reference of its own
	seq     uint64
	verdict *abi.Verdict
	guarded *protection  // nil where nothing is protected
	plan    *Plan        // of the result at hand, fixed by Schema
	cells   []hiding     // what was masked so far
	streams []*mask.Text // of the answer
	held    string       // the request by which it was approved
	written int64        // how many rows it may change, -1 is no limit
	began   time.Time
	ambient bool
	done    bool
	whole   bool // the recording keeps all of it

	statement *abi.Statement
	phase     abi.Phase
	before    *Exchange // of the session's open ones
	after     *Exchange
	resting   atomic.Bool // nothing of it runs just now

	rows  uint64
	bytes uint64
	past  struct{ rows, bytes uint64 } // of the exchanges that this one goes on from
	kept  int                          // bytes of the answer that the recording has
	sent  int                          // bytes of the input that it has
}

// Ambient is the exchange of what comes outside a command: notices,
// notifications, parameters, goodbyes.
func (s *Session) Ambient() *Exchange { return &s.ambient }

// Number is the command's place in its session, from 1.
func (e *Exchange) Number() uint64 { return e.seq }

// Verdict is what the command was allowed under. It must not be changed. It is
// nil for Ambient.
func (e *Exchange) Verdict() *abi.Verdict { return e.verdict }

// Generation is the number of the generation that judged it.
func (e *Exchange) Generation() uint64 {
	if e.gen == nil {
		return 0
	}
	return e.gen.Number
}

// WantsSchema says whether Schema has to be called before the first row: a
// column is masked, a guard looks at results, or the answer has to be held
// against what was judged.
func (e *Exchange) WantsSchema() bool {
	return e.gen != nil && (e.gen.results || e.guarded != nil && e.guarded.reached)
}

// Masks says whether any output of the command is masked.
func (e *Exchange) Masks() bool { return e.guarded != nil && len(e.guarded.outputs) > 0 }

// Guarded says whether the command reaches what is protected: until the
// transaction ends, errors and notices may show nothing of it.
func (e *Exchange) Guarded() bool { return e.guarded != nil && e.guarded.reached }

// OneCode says whether integrity violations (SQLSTATE class 23) have to look
// alike.
func (e *Exchange) OneCode() bool { return e.guarded != nil && e.guarded.oracle }

// RowsWritten is how many rows the command may change: the protocol sees to it
// before they are committed. False is no limit.
func (e *Exchange) RowsWritten() (uint64, bool) { return uint64(max(e.written, 0)), e.written >= 0 }

// WantsParams says whether a guard that judged it looks at parameters.
func (e *Exchange) WantsParams() bool { return e.gen != nil && e.gen.inputs&abi.InputParams != 0 }

// CountOn makes the limits count on from another exchange: what is fetched
// from one cursor, or from one portal under two generations, is one answer. It
// must be called before the first Result.
func (e *Exchange) CountOn(before *Exchange) {
	e.past.rows += before.past.rows + before.rows
	e.past.bytes += before.past.bytes + before.bytes
}

// Schema fixes what happens to a result of that shape: it asks the guards that
// look at results. An error means that no row of it may reach the client.
func (e *Exchange) Schema(ctx context.Context, c *abi.Command, schema *abi.ResultSchema) error {
	if e.ambient {
		return nil
	}
	p := &Plan{verdict: e.verdict, columns: make([]planned, len(schema.Columns))}
	for i := range p.columns {
		p.columns[i].name, p.columns[i].typ = schema.Columns[i].Name, schema.Columns[i].Type
	}
	if e.guarded != nil {
		if err := e.guarded.check(c.Statement, schema); err != nil {
			return err
		}
		for _, m := range e.guarded.outputs {
			if m.statement == schema.Statement && m.index < len(p.columns) {
				p.columns[m.index].mask(m.rule, m.guard, m.column)
			}
		}
	}
	for _, guard := range e.gen.Guards {
		if !guard.Results() {
			continue
		}
		said, err := guard.ResultSchema(ctx, c, schema)
		if err != nil {
			return &Denied{Decision: abi.Deny, Guard: guard.Name(), Reason: abi.Reason{Code: "gate.guard-failed", Message: "the guard " + quote(guard.Name()) + " failed on the result", Detail: err.Error()}}
		}
		p.add(said, guard, schema)
	}
	p.compile(schema, func(name string) []byte { return e.s.maskKey(name) })
	e.plan = p
	return nil
}

// hiding is what was masked in one column of an answer.
type hiding struct {
	column, rule string
	cells        uint64
}

// count notes how many cells of a column were masked.
func (e *Exchange) count(p *planned) {
	for i := range e.cells {
		if e.cells[i].column == p.source && e.cells[i].rule == p.label {
			e.cells[i].cells += p.cells
			return
		}
	}
	e.cells = append(e.cells, hiding{p.source, p.label, p.cells})
}

// Fixed gives the plan that Schema has fixed, nil before it.
func (e *Exchange) Fixed() *Plan { return e.plan }

// Again uses a plan that was fixed for another execution of the same prepared
// statement, and says whether it may: the verdict is the same, and no guard
// looks at results.
func (e *Exchange) Again(p *Plan) bool {
	if p == nil || e.gen == nil || e.gen.results || p.verdict != e.verdict {
		return false
	}
	e.plan = p
	return true
}

// Rows is Result for a run of rows: it masks them as the plan says, and leaves
// in r.Frames what may reach the client, valid until the next call. rw knows how
// they are framed.
func (e *Exchange) Rows(ctx context.Context, r *abi.Result, rw mask.Rewriter) error {
	if e.plan == nil && e.WantsSchema() {
		return &Alarm{"rows came before the columns that they have"}
	}
	if e.plan != nil && e.plan.masks > 0 {
		if err := e.plan.rewrite(ctx, e, r, rw); err != nil {
			return err
		}
	}
	return e.result(r)
}

// Result takes a run of the answer before it goes to the client: it counts
// rows and bytes against the verdict's limits and keeps the head for the
// recording. *Denied means that a limit is passed and that nothing of this run
// may reach the client. What r points to is not kept.
func (e *Exchange) Result(ctx context.Context, r *abi.Result) error {
	if r.Rows > 0 && (e.Masks() || e.plan != nil && e.plan.masks > 0) {
		return &Alarm{"rows that have to be masked came as if they had not"}
	}
	if e.MasksText() && !r.Masked && len(r.Frames) > 0 {
		return &Alarm{"text that has to be masked came as it was"}
	}
	return e.result(r)
}

func (e *Exchange) result(r *abi.Result) error {
	e.rows += uint64(r.Rows)
	e.bytes += uint64(len(r.Frames))
	if v := e.verdict; v != nil {
		if n := v.Terms.RowsReturned; n > 0 && e.past.rows+e.rows > n {
			return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.rows", Message: "the answer has more than the " + count.Of(n, "row") + " that the task allows", Hint: "narrow the condition or add a LIMIT"}}
		}
		if n := v.Limits.Bytes; n > 0 && e.past.bytes+e.bytes > n {
			return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.bytes", Message: "the answer is larger than the " + count.Of(n, "byte") + " that the task allows", Hint: "narrow the condition or add a LIMIT"}}
		}
	}
	return e.keep(EventResult, &e.kept, r.Frames)
}

// Whole makes the recording keep all that passes rather than its head, unless
// it keeps nothing: half of what a terminal showed proves nothing. It must be
// called before the first Result and Input.
func (e *Exchange) Whole() { e.whole = true }

// Input keeps the head of what the client sends into the command while it runs.
// It may be called beside Result. What frames points to is not kept.
func (e *Exchange) Input(frames []byte) error { return e.keep(EventInput, &e.sent, frames) }

// keep hands frames to the recording, as far as it wants them.
func (e *Exchange) keep(kind EventKind, kept *int, frames []byte) error {
	s, most := e.s, e.s.rec.Head()
	if e.whole && most > 0 {
		most = math.MaxInt
	}
	if *kept >= most && !e.ambient || most == 0 || len(frames) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.ambient && s.spoke != s.seq { // what comes outside of commands has a head for each of them
		s.spoke, *kept = s.seq, 0
	}
	head := frames[:max(0, min(most-*kept, len(frames)))]
	if *kept += len(head); len(head) == 0 {
		return nil
	}
	if s.broken != nil {
		return s.broken
	}
	s.buf = appendFrames(s.buf[:0], kind, e, head)
	if err := s.rec.Append(s.buf); err != nil {
		s.broken = err
		s.end(fmt.Errorf("gate: record: %w", err))
		return err
	}
	return nil
}

// State is how a command ended.
type State uint8

// The states of an outcome.
const (
	Completed  State = 1
	Failed     State = 2 // the server refused it or it failed there
	Skipped    State = 3 // the server never ran it: something before it failed
	Open       State = 4 // completed, inside a transaction that is still open
	Committed  State = 5 // for what Settles names
	RolledBack State = 6
	Lost       State = 7 // the connection ended before its outcome was known
)

// String gives the word of the recording.
func (s State) String() string {
	switch s {
	case Completed:
		return "completed"
	case Failed:
		return "failed"
	case Skipped:
		return "skipped"
	case Open:
		return "pending"
	case Committed:
		return "committed"
	case RolledBack:
		return "rolled back"
	}
	return "unknown"
}

// Outcome closes an exchange.
type Outcome struct {
	State State
	Code  string // the upstream's error code
	Tag   string // what the upstream said it did

	// Settles says that this command ended a transaction: what the commands
	// First to Last of the session wrote in it was committed, rolled back or
	// is unknown.
	Settles     State
	First, Last uint64
}

// Done closes the exchange in the log. It may be called once; a second call
// does nothing.
func (e *Exchange) Done(ctx context.Context, o Outcome) error {
	if e.done || e.ambient {
		return nil
	}
	e.done = true
	s := e.s
	s.lock()
	s.unlink(e)
	e.countText()
	ran := s.ranLocked(e, o)
	now := s.gate.now()
	s.buf = appendDone(s.buf[:0], e, o, now)
	var err error
	if s.broken == nil && s.gate.Log.TryAppend(s.buf, now) {
		if err = s.rec.Append(s.buf); err != nil {
			s.broken = err
			s.end(fmt.Errorf("gate: record: %w", err))
		}
	} else {
		err = s.endLocked(context.WithoutCancel(ctx), s.buf)
	}
	last := e.use == nil || e.use.end()
	s.mu.Unlock()
	if last {
		e.gen.release()
	}
	s.tellRan(ran)
	return err
}
