package gate

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// EventKind is what an event of the log or of a recording tells. The numbers
// are frozen.
type EventKind uint8

// The events.
const (
	EventOpen       EventKind = 1  // a session begins
	EventRefused    EventKind = 2  // a login failed
	EventGeneration EventKind = 3  // the session's next commands are judged by another generation
	EventText       EventKind = 4  // a text and its operations, before the first command that refers to it
	EventCommand    EventKind = 5  // a command and what every guard said
	EventResult     EventKind = 6  // part of an answer, in recordings alone
	EventDone       EventKind = 7  // how a command ended
	EventClose      EventKind = 8  // a session ended
	EventNote       EventKind = 9  // something an operator did, or the gateway itself
	EventInput      EventKind = 10 // part of what a client sends into a command, in recordings alone
	EventRequest    EventKind = 11 // people are asked to approve a command
	EventDecision   EventKind = 12 // what one of them said
	EventSettled    EventKind = 13 // how a request ended that was not used
)

// String gives the event's word.
func (k EventKind) String() string {
	names := [...]string{"unknown", "open", "refused", "generation", "text", "command", "result", "done", "close", "note", "input", "request", "decision", "settled"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Event is one event, read back. Fields that its kind does not have are zero.
// The wire form is the ABI's: protobuf, by the numbers in the append functions.
type Event struct {
	Kind    EventKind `json:"-"`
	Name    string    `json:"event"`
	Time    time.Time `json:"time"`
	Session string    `json:"session,omitempty"`
	Command uint64    `json:"command,omitempty"`

	Issuer     string   `json:"issuer,omitempty"`
	Subject    string   `json:"subject,omitempty"`
	Groups     []string `json:"groups,omitempty"`
	Task       string   `json:"task,omitempty"`
	Resource   string   `json:"resource,omitempty"`
	Address    string   `json:"address,omitempty"`
	Protocol   string   `json:"protocol,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Policy     string   `json:"policy,omitempty"` // digest of the generation
	Modules    []Module `json:"modules,omitempty"`

	Digest     string   `json:"digest,omitempty"` // of text and canonical text
	Text       string   `json:"text,omitempty"`
	Canonical  string   `json:"canonical,omitempty"`
	Operations []string `json:"operations,omitempty"`
	Writes     bool     `json:"writes,omitempty"` // not all of it is known to read
	Incomplete string   `json:"incomplete,omitempty"`

	Phase    string         `json:"phase,omitempty"`
	Decision string         `json:"decision,omitempty"`
	Guard    string         `json:"guard,omitempty"` // the deciding one
	Verdicts []GuardVerdict `json:"verdicts,omitempty"`
	Params   []string       `json:"params,omitempty"`
	Guesses  uint64         `json:"guesses,omitempty"` // values that masked columns are compared with; of a session that has ended, in all

	State   string        `json:"state,omitempty"`
	Code    string        `json:"code,omitempty"`
	Tag     string        `json:"tag,omitempty"`
	Rows    uint64        `json:"rows,omitempty"`
	Bytes   uint64        `json:"bytes,omitempty"`
	Took    time.Duration `json:"took_ns,omitempty"`
	Settles string        `json:"settles,omitempty"`
	First   uint64        `json:"first,omitempty"`
	Last    uint64        `json:"last,omitempty"`

	Masked []Masked `json:"masked,omitempty"`

	Request   string   `json:"request,omitempty"` // the id of an approval request
	Needs     []string `json:"needs,omitempty"`   // what its guards ask for
	Voices    []Voice  `json:"voices,omitempty"`
	Binding   string   `json:"binding,omitempty"`
	Until     string   `json:"until,omitempty"`
	Estimated *int64   `json:"estimated_rows,omitempty"`
	Counted   *int64   `json:"counted_rows,omitempty"`
	Payload   *Payload `json:"payload,omitempty"`

	Why   string `json:"why,omitempty"`
	Frame []byte `json:"-"` // of a result or input: frames of the protocol
}

// Module is a guard of a generation.
type Module struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// GuardVerdict is what one guard said.
type GuardVerdict struct {
	Guard    string `json:"guard"`
	Decision string `json:"decision"`
	Code     string `json:"code,omitempty"`
	Message  string `json:"message,omitempty"`
	Closest  string `json:"closest,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Masked is what was masked in one column of an answer.
type Masked struct {
	Column string `json:"column"`
	Rule   string `json:"rule"`
	Cells  uint64 `json:"cells"`
}

// Voice is what one person said to a request.
type Voice struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Groups  []string  `json:"groups,omitempty"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
}

// Payload is a stream that was spooled before people were asked.
type Payload struct {
	Size   uint64 `json:"size"`
	Digest string `json:"sha256"`
}

// maxParam bounds what a recording keeps of one parameter, in bytes.
const maxParam = 4 << 10

func appendHead(b []byte, kind EventKind, session string, at time.Time) []byte {
	b = abi.AppendUint(b, 1, uint64(kind))
	b = abi.AppendUint(b, 2, uint64(at.UnixNano()))
	return abi.AppendString(b, 3, session)
}

func appendWho(b []byte, s *abi.Session) []byte {
	b = abi.AppendString(b, 5, s.Issuer)
	b = abi.AppendString(b, 6, s.Subject)
	for _, g := range s.Groups {
		b = abi.AppendElement(b, 7, g)
	}
	b = abi.AppendString(b, 8, s.Task)
	b = abi.AppendString(b, 9, s.Resource)
	b = abi.AppendString(b, 10, s.Address)
	return abi.AppendString(b, 11, s.Protocol)
}

func appendModules(b []byte, gen *Generation) []byte {
	b = abi.AppendUint(b, 12, gen.Number)
	b = abi.AppendString(b, 13, gen.Digest)
	for _, g := range gen.Guards {
		b = abi.AppendElement(b, 14, g.Name()+" "+g.Digest())
	}
	return b
}

func appendOpen(b []byte, s *Session, gen *Generation) []byte {
	return appendModules(appendWho(appendHead(b, EventOpen, s.abi.ID, s.started), s.abi), gen)
}

func appendGeneration(b []byte, s *Session, gen *Generation) []byte {
	return appendModules(appendHead(b, EventGeneration, s.abi.ID, s.gate.now()), gen)
}

func appendRefused(b []byte, at time.Time, l Login, grant Grant, why error) []byte {
	b = appendHead(b, EventRefused, "", at)
	b = appendWho(b, &abi.Session{Issuer: grant.Issuer, Subject: grant.Subject, Groups: grant.Groups, Task: clip(l.Task), Resource: clip(l.Resource), Address: l.Address, Protocol: l.Protocol})
	return abi.AppendString(b, 15, why.Error())
}

// clip bounds what an unauthenticated client can make the log hold.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}

func appendText(b []byte, s *Session, w *written, st *abi.Statement) []byte {
	b = appendHead(b, EventText, s.abi.ID, s.gate.now())
	b = abi.AppendString(b, 16, w.sum[:])
	b = abi.AppendString(b, 17, w.text)
	if w.canonical != w.text {
		b = abi.AppendString(b, 18, w.canonical)
	}
	for i := range st.Operations {
		o := st.Operations[i]
		if o.Value != "" && slices.ContainsFunc(o.Object, secretName) {
			o.Value = redacted
		}
		b = abi.AppendElement(b, 19, o.AppendTo(nil, nil))
	}
	incomplete, _ := redact(st.Incomplete)
	return abi.AppendString(b, 20, incomplete)
}

// appendVerdicts writes the part of a command's event that is the same for
// each execution under one verdict.
func appendVerdicts(b []byte, text [16]byte, gen *Generation, d abi.Decision, who int, all []asked) []byte {
	b = abi.AppendUint(b, 12, gen.Number)
	b = abi.AppendString(b, 16, text[:])
	b = abi.AppendUint(b, 21, uint64(d))
	b = abi.AppendUint(b, 22, uint64(who+1))
	for i := range all {
		a, name := &all[i], "gate"
		if a.guard != nil {
			name = a.guard.Name()
		}
		v := abi.AppendString(nil, 1, name)
		v = abi.AppendUint(v, 2, uint64(a.read))
		r := &a.verdict.Reason
		detail := r.Detail
		if a.err != nil {
			detail = a.err.Error()
		}
		for i, text := range [...]string{r.Code, r.Message, r.Closest, r.Hint, detail} {
			text, _ = redact(text) // a guard may quote what it was given
			v = abi.AppendString(v, 3+i, text)
		}
		b = abi.AppendElement(b, 23, v)
	}
	return b
}

// hidden are the parameters whose values are not written.
func appendCommand(b []byte, s *Session, seq uint64, c *abi.Command, verdicts []byte, hidden []int) []byte {
	return appendAct(b, EventCommand, s, seq, c, verdicts, hidden)
}

func appendAct(b []byte, kind EventKind, s *Session, seq uint64, c *abi.Command, verdicts []byte, hidden []int) []byte {
	b = abi.AppendUint(b, 1, uint64(kind))
	b = abi.AppendUint(b, 2, uint64(c.Time))
	b = abi.AppendString(b, 3, s.abi.ID)
	b = abi.AppendUint(b, 4, seq)
	b = abi.AppendUint(b, 24, uint64(c.Phase))
	b = append(b, verdicts...)
	if c.Phase == abi.Execute && c.Statement.Guesses > 0 {
		b = abi.AppendUint(b, 46, uint64(c.Statement.Guesses))
	}
	for i := range c.Params {
		p := &c.Params[i]
		form := byte('t')
		switch {
		case p.Null:
			form = 'n'
		case len(hidden) > 0 && slices.Contains(hidden, i+1):
			b = appendParam(b, 'h', nil)
			continue
		case len(p.Value) > maxParam:
			form = 'c' // cut
		case p.Binary:
			form = 'b'
		}
		b = appendParam(b, form, p.Value[:min(len(p.Value), maxParam)])
	}
	return b
}

// appendParam writes field 25: a letter for the form, then the bytes.
func appendParam(b []byte, form byte, v []byte) []byte {
	const tag = 25<<3 | 2
	b = append(b, tag&0x7f|0x80, tag>>7)
	n := uint64(len(v) + 1)
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(append(b, byte(n), form), v...)
}

func appendFrames(b []byte, kind EventKind, e *Exchange, frames []byte) []byte {
	b = appendHead(b, kind, e.s.abi.ID, e.s.gate.now())
	b = abi.AppendUint(b, 4, e.seq)
	return abi.AppendString(b, 26, frames)
}

func appendDone(b []byte, e *Exchange, o Outcome, now time.Time) []byte {
	b = appendHead(b, EventDone, e.s.abi.ID, now)
	b = abi.AppendUint(b, 4, e.seq)
	b = abi.AppendUint(b, 27, uint64(o.State))
	b = abi.AppendString(b, 28, o.Code)
	b = abi.AppendString(b, 29, o.Tag)
	b = abi.AppendUint(b, 30, e.rows)
	b = abi.AppendUint(b, 31, e.bytes)
	b = abi.AppendUint(b, 32, uint64(max(0, now.Sub(e.began))))
	b = abi.AppendUint(b, 33, uint64(o.Settles))
	b = abi.AppendUint(b, 34, o.First)
	b = abi.AppendUint(b, 35, o.Last)
	for i := range e.cells {
		m := abi.AppendString(nil, 1, e.cells[i].column)
		m = abi.AppendString(m, 2, e.cells[i].rule)
		b = abi.AppendElement(b, 42, abi.AppendUint(m, 3, e.cells[i].cells))
	}
	return abi.AppendString(b, 36, e.held)
}

// appendRequest writes what people are asked: the command as it would run, and
// what an approval is bound to.
func appendRequest(b []byte, s *Session, r *Request, c *abi.Command, verdicts []byte, hidden []int) []byte {
	b = appendAct(b, EventRequest, s, s.seq, c, verdicts, hidden)
	b = abi.AppendString(b, 36, r.ID)
	for i := range r.Needs {
		b = abi.AppendElement(b, 38, r.Needs[i].String())
	}
	b = abi.AppendString(b, 40, r.Binding[:])
	b = abi.AppendUint(b, 41, uint64(r.Until.UnixNano()))
	b = abi.AppendUint(b, 43, uint64(r.Rows.Estimated+1))
	b = abi.AppendUint(b, 44, uint64(r.Rows.Counted+1))
	if c.Input.Kind == abi.InputSpooled {
		p := abi.AppendUint(nil, 1, c.Input.Size)
		b = abi.AppendElement(b, 45, abi.AppendString(p, 2, c.Input.Digest))
	}
	return b
}

// appendApproved writes by whom a command was approved.
func appendApproved(b []byte, r *Request, d Decided) []byte {
	b = abi.AppendString(b, 36, r.ID)
	for i := range d.Voices {
		b = abi.AppendElement(b, 39, appendVoice(nil, &d.Voices[i]))
	}
	return abi.AppendString(b, 40, r.Binding[:])
}

func appendVoice(b []byte, v *abi.Voice) []byte {
	b = abi.AppendString(b, 1, v.Issuer)
	b = abi.AppendString(b, 2, v.Subject)
	for _, g := range v.Groups {
		b = abi.AppendElement(b, 3, g)
	}
	b = abi.AppendUint(b, 4, bit(v.Approve))
	b = abi.AppendString(b, 5, v.Reason)
	return abi.AppendUint(b, 6, uint64(v.At))
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// Decision gives the bytes of what one person said, for the log.
func Decision(at time.Time, r *Request, v *abi.Voice) []byte {
	b := appendHead(nil, EventDecision, r.Session.ID, at)
	b = abi.AppendString(b, 36, r.ID)
	b = abi.AppendElement(b, 39, appendVoice(nil, v))
	return abi.AppendString(b, 40, r.Binding[:])
}

func appendSettled(b []byte, session string, at time.Time, request string, state RequestState, why string) []byte {
	b = appendHead(b, EventSettled, session, at)
	b = abi.AppendString(b, 15, why)
	b = abi.AppendString(b, 36, request)
	return abi.AppendString(b, 37, string(state))
}

// Settled gives the bytes of how a request ended whose session is no more.
func Settled(at time.Time, session, request string, state RequestState, why string) []byte {
	return appendSettled(nil, session, at, request, state, why)
}

func appendClose(b []byte, s *Session, at time.Time, why error) []byte {
	b = appendHead(b, EventClose, s.abi.ID, at)
	b = abi.AppendUint(b, 4, s.seq)
	b = abi.AppendUint(b, 46, s.guesses)
	if why != nil {
		b = abi.AppendString(b, 15, why.Error())
	}
	return b
}

// Note gives the bytes of a note for the log: what an operator did, or what
// the gateway did of itself.
func Note(at time.Time, who, what string) []byte {
	b := appendHead(nil, EventNote, "", at)
	b = abi.AppendString(b, 6, who)
	return abi.AppendString(b, 15, what)
}

// Ends says whether a record tells of something that ends, or of what an
// operator did: what has to be kept when there is no room for more to begin.
func Ends(record []byte) bool {
	r := abi.Read(record)
	if !r.Next() || r.Num != 1 {
		return false
	}
	switch EventKind(min(r.Uint, 255)) {
	case EventDone, EventClose, EventNote, EventSettled:
		return true
	}
	return false
}

// ReadEvent reads an event back. It keeps nothing of record.
func ReadEvent(record []byte) (*Event, error) {
	e := &Event{}
	r := abi.Read(record)
	for r.Next() {
		s := string(r.Bytes)
		switch r.Num {
		case 1:
			e.Kind = EventKind(min(r.Uint, 255))
		case 2:
			e.Time = time.Unix(0, int64(r.Uint)).UTC()
		case 3:
			e.Session = s
		case 4:
			e.Command = r.Uint
		case 5:
			e.Issuer = s
		case 6:
			e.Subject = s
		case 7:
			e.Groups = append(e.Groups, s)
		case 8:
			e.Task = s
		case 9:
			e.Resource = s
		case 10:
			e.Address = s
		case 11:
			e.Protocol = s
		case 12:
			e.Generation = r.Uint
		case 13:
			e.Policy = s
		case 14:
			var m Module
			for i := range s {
				if s[i] == ' ' {
					m = Module{Name: s[:i], Digest: s[i+1:]}
				}
			}
			e.Modules = append(e.Modules, m)
		case 15:
			e.Why = s
		case 16:
			e.Digest = hex.EncodeToString(r.Bytes)
		case 17:
			e.Text = s
		case 18:
			e.Canonical = s
		case 19:
			var o abi.Operation
			if err := o.Decode([]byte(s)); err != nil {
				return nil, fmt.Errorf("gate: event: operation: %w", err)
			}
			e.Operations = append(e.Operations, o.String())
			e.Writes = e.Writes || o.Effect.Writes()
		case 20:
			e.Incomplete, e.Writes = s, true
		case 21:
			e.Decision = abi.Decision(min(r.Uint, 255)).String()
		case 22:
			e.Last = r.Uint // the deciding guard's place, until the verdicts are known
		case 23:
			v, err := readVerdict(r.Bytes)
			if err != nil {
				return nil, err
			}
			e.Verdicts = append(e.Verdicts, v)
		case 24:
			e.Phase = "execute"
			if abi.Phase(r.Uint) == abi.Prepare {
				e.Phase = "prepare"
			}
		case 25:
			e.Params = append(e.Params, readParam(r.Bytes))
		case 26:
			e.Frame = []byte(s)
		case 27:
			e.State = State(min(r.Uint, 255)).String()
		case 28:
			e.Code = s
		case 29:
			e.Tag = s
		case 30:
			e.Rows = r.Uint
		case 31:
			e.Bytes = r.Uint
		case 32:
			e.Took = time.Duration(r.Uint)
		case 33:
			e.Settles = State(min(r.Uint, 255)).String()
		case 34:
			e.First = r.Uint
		case 35:
			e.Last = r.Uint
		case 36:
			e.Request = s
		case 37:
			e.State = s
		case 38:
			e.Needs = append(e.Needs, s)
		case 39:
			v, err := readVoice(r.Bytes)
			if err != nil {
				return nil, err
			}
			e.Voices = append(e.Voices, v)
		case 40:
			e.Binding = hex.EncodeToString(r.Bytes)
		case 41:
			e.Until = time.Unix(0, int64(r.Uint)).UTC().Format(time.RFC3339)
		case 42:
			var m Masked
			in := abi.Read(r.Bytes)
			for in.Next() {
				switch in.Num {
				case 1:
					m.Column = string(in.Bytes)
				case 2:
					m.Rule = string(in.Bytes)
				case 3:
					m.Cells = in.Uint
				}
			}
			if in.Err() != nil {
				return nil, fmt.Errorf("gate: event: %w", in.Err())
			}
			e.Masked = append(e.Masked, m)
		case 43:
			e.Estimated = known(r.Uint)
		case 44:
			e.Counted = known(r.Uint)
		case 45:
			e.Payload = &Payload{}
			in := abi.Read(r.Bytes)
			for in.Next() {
				switch in.Num {
				case 1:
					e.Payload.Size = in.Uint
				case 2:
					e.Payload.Digest = hex.EncodeToString(in.Bytes)
				}
			}
		case 46:
			e.Guesses = r.Uint
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("gate: event: %w", err)
	}
	if e.Kind == EventCommand || e.Kind == EventRequest {
		e.Guard = "gate"
		if n := int(e.Last); n > 0 && n <= len(e.Verdicts) {
			e.Guard = e.Verdicts[n-1].Guard
		}
		e.Last = 0
	}
	e.Name = e.Kind.String()
	return e, nil
}

// known reads a number that is written one higher, so that none is none.
func known(n uint64) *int64 {
	v := int64(n) - 1
	if v < 0 {
		return nil
	}
	return &v
}

func readVoice(b []byte) (v Voice, err error) {
	r := abi.Read(b)
	for r.Next() {
		s := string(r.Bytes)
		switch r.Num {
		case 1:
			v.Issuer = s
		case 2:
			v.Subject = s
		case 3:
			v.Groups = append(v.Groups, s)
		case 4:
			v.Approve = r.Uint != 0
		case 5:
			v.Reason = s
		case 6:
			v.At = time.Unix(0, int64(r.Uint)).UTC()
		}
	}
	return v, r.Err()
}

func readVerdict(b []byte) (v GuardVerdict, err error) {
	r := abi.Read(b)
	for r.Next() {
		s := string(r.Bytes)
		switch r.Num {
		case 1:
			v.Guard = s
		case 2:
			v.Decision = abi.Decision(min(r.Uint, 255)).String()
		case 3:
			v.Code = s
		case 4:
			v.Message = s
		case 5:
			v.Closest = s
		case 6:
			v.Hint = s
		case 7:
			v.Detail = s
		}
	}
	return v, r.Err()
}

func readParam(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	switch v := b[1:]; b[0] {
	case 'n':
		return "NULL"
	case 'h':
		return redacted
	case 'b':
		return "\\x" + hex.EncodeToString(v)
	case 'c':
		return quote(string(v)) + "…"
	default:
		return quote(string(v))
	}
}
