package gate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// Session is one subject, one task, one resource, one client connection.
type Session struct {
	gate     *Gate
	abi      *abi.Session
	grant    Grant
	started  time.Time
	deadline time.Time
	ctx      context.Context
	end      context.CancelCauseFunc
	rec      Recording
	stop     []func() bool
	waits    func()

	mu        sync.Mutex
	buf       []byte // an event being written
	seq       uint64 // of the last command
	spoke     uint64 // the last command when something came outside of commands
	denied    uint64
	guesses   uint64           // values that masked columns were compared with
	wrote     bool             // an open transaction has writes that no COMMIT has settled
	earlier   []*abi.Statement // those writes
	open      *Exchange        // the open exchanges, newest first
	waiting   []*waiting       // the held commands
	opened    uint64           // the generation whose SESSION_OPEN was asked
	judged    map[act]*judged
	texts     map[*abi.Statement]*written
	textBytes int   // of those
	unsettled []ran // held commands that ran in a transaction that is open
	broken    error // the log or the recording failed: nothing passes any more
	closed    bool
	ambient   Exchange

	use      *use          // of the generation that judged what was seen before
	commands atomic.Uint64 // how many there were

	place atomic.Pointer[place] // where it was last
}

// place is what a session's names stood for in one generation.
type place struct {
	generation *Generation
	resource   *Resource
	task       *Task
}

// act is what a verdict is kept for.
type act struct {
	statement *abi.Statement
	phase     abi.Phase
}

// judged is what the guards of one generation said of a statement, kept where
// none of them was told anything that differs from one execution to the next.
type judged struct {
	generation uint64
	until      time.Time // the zero time is no end
	verdict    abi.Verdict
	guarded    *protection
	record     []byte // the part of the command's event that does not change
	hidden     []int  // parameters that are not written down
}

// maxJudged bounds what one session remembers of verdicts and texts, and
// maxRemembered the bytes of those.
const (
	maxJudged     = 512
	maxRemembered = 16 << 20
)

// ID names the session in logs, recordings and messages.
func (s *Session) ID() string { return s.abi.ID }

// About is who the session is for. It must not be changed.
func (s *Session) About() *abi.Session { return s.abi }

// Login names the login that the session came by, or is empty (Grant.Login).
func (s *Session) Login() string { return s.grant.Login }

// Started is when.
func (s *Session) Started() time.Time { return s.started }

// Counts gives how many commands were submitted and how many were refused.
func (s *Session) Counts() (commands, denied uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq, s.denied
}

// Notice is what the client should be told at login, or empty.
func (s *Session) Notice() string { return s.grant.Notice }

// Context is cancelled when the session has to end; its cause is an *Ended or
// what went wrong.
func (s *Session) Context() context.Context { return s.ctx }

// End makes the session end for that reason, as soon as its protocol notices.
func (s *Session) End(why error) { s.end(why) }

// Resource gives what the session's resource and task are in the present
// generation. They are nil where a reload has just taken them away.
func (s *Session) Resource() (*Resource, *Task) {
	gen := s.gate.Current()
	if gen == nil {
		return nil, nil
	}
	p := s.place.Load()
	if p == nil || p.generation != gen {
		p = &place{gen, gen.Resources[s.abi.Resource], gen.Tasks[s.abi.Task]}
		s.place.Store(p)
	}
	return p.resource, p.task
}

// BeforeWaiting has f called by Submit and Done, in the goroutine of their
// caller, before they wait for people, a disk, or another of the session's
// commands. What guards take is work, not waiting. It comes before the session's
// first command.
func (s *Session) BeforeWaiting(f func()) { s.waits = f }

func (s *Session) mayWait() {
	if s.waits != nil {
		s.waits()
	}
}

// lock is for a command's way: whoever has mu may be writing to a disk.
func (s *Session) lock() {
	if !s.mu.TryLock() {
		s.mayWait()
		s.mu.Lock()
	}
}

// Generation is the number of the generation that judges the next command.
func (s *Session) Generation() uint64 {
	if gen := s.gate.Current(); gen != nil {
		return gen.Number
	}
	return 0
}

// Open authenticates a login and opens its session, recorded. Every failure is
// recorded as well; what it returns is *Denied where the subject is known and
// may be told, else ErrLogin.
func (g *Gate) Open(ctx context.Context, l Login) (*Session, error) {
	l.Task, l.Resource = nameOf(l.Task), nameOf(l.Resource)
	gen := g.acquire()
	if gen == nil {
		return nil, fmt.Errorf("gate: no generation: %w", ErrLogin)
	}
	defer gen.release()
	g.mu.Lock()
	draining := g.draining
	g.mu.Unlock()
	if draining != nil {
		return nil, draining
	}
	grant, err := g.Identity.Authenticate(ctx, l)
	if err != nil {
		if _, told := err.(*Denied); !told {
			grant = Grant{} // whoever it is, they have not shown it
		}
		return nil, g.refuseLogin(ctx, l, grant, err)
	}
	s := &Session{gate: g, grant: grant, started: g.now(), judged: map[act]*judged{}, texts: map[*abi.Statement]*written{}}
	s.abi = &abi.Session{ID: newID(), Issuer: grant.Issuer, Subject: grant.Subject, Groups: grant.Groups, Task: l.Task, Resource: l.Resource, Address: l.Address, Protocol: l.Protocol}
	if grant.Subject == "" || !grant.Expires.After(s.started) {
		return nil, g.refuseLogin(ctx, l, grant, fmt.Errorf("the grant is empty or over"))
	}
	if err := gen.Permits(l.Task, l.Resource, grant.Groups); err != nil {
		if d, ok := err.(*Denied); ok {
			d.Reason.Hint = gen.choice(l.Resource, grant.Groups)
		}
		return nil, g.refuseLogin(ctx, l, grant, err)
	}
	if g.denials.over(grant.Issuer+"\x00"+grant.Subject, s.started) {
		return nil, g.refuseLogin(ctx, l, grant, &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.budget", Message: "too many of your commands were refused", Hint: "come back in a minute"}})
	}
	task := gen.Tasks[l.Task]
	s.abi.Login = task.Login
	s.ambient = Exchange{s: s, ambient: true}
	if r := gen.Resources[l.Resource]; r.Protocol != l.Protocol {
		return nil, g.refuseLogin(ctx, l, grant, &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-resource", Message: "the resource " + quote(l.Resource) + " is reached by " + r.Protocol}})
	}
	if err := s.askOpen(ctx, gen); err != nil {
		return nil, g.refuseLogin(ctx, l, grant, err)
	}
	if s.rec, err = g.Recorder.Record(s.abi.ID); err != nil {
		return nil, g.refuseLogin(ctx, l, grant, fmt.Errorf("gate: recording: %w", err))
	}
	s.buf = appendOpen(s.buf[:0], s, gen)
	if err := s.write(ctx, s.buf, false); err != nil {
		_ = s.rec.Close()
		return nil, fmt.Errorf("gate: open: %w", err)
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.deadline = grant.Expires
	what := "the grant of task " + quote(l.Task) + " is over"
	if end := s.started.Add(task.Session); task.Session > 0 && end.Before(s.deadline) {
		s.deadline, what = end, "a session of task "+quote(l.Task)+" lasts at most "+task.Session.String()
	}
	timer := time.AfterFunc(s.deadline.Sub(s.started), func() { s.end(&Ended{Reason: what}) })
	s.stop = append(s.stop, timer.Stop)
	g.mu.Lock()
	if g.sessions == nil {
		g.sessions = map[string]*Session{}
	}
	g.sessions[s.abi.ID] = s
	g.mu.Unlock()
	g.opened.Add(1)
	// A generation that came while this session was not yet in the list did not see it.
	if now := g.Current(); now != gen {
		if err := now.Permits(l.Task, l.Resource, grant.Groups); err != nil {
			s.End(&Ended{Reason: err.Error()})
		}
	}
	return s, nil
}

// nameOf is a name as it may be recorded: a token that was pasted into the wrong
// field is none (of ours, or of a provider as base64 of a JSON object begins).
func nameOf(name string) string {
	if len(name) >= 32 && (strings.HasPrefix(name, "tg_") || strings.HasPrefix(name, "eyJ")) {
		return "(a token)"
	}
	return name
}

// refuseLogin records a failed login and gives what its client may be told.
func (g *Gate) refuseLogin(ctx context.Context, l Login, grant Grant, why error) error {
	g.refused.Add(1)
	now := g.now()
	have, ended := g.failed.take(host(l.Address), 0, now)
	for address, e := range ended {
		if e.n <= maxRefusals {
			continue
		}
		what := fmt.Sprintf("%d more logins from %s failed in the minute from %s", e.n-maxRefusals, address, e.since.UTC().Format(time.RFC3339))
		if err := g.Log.Append(ctx, Note(now, "gateway", what), false); err != nil {
			return fmt.Errorf("gate: %w", err)
		}
	}
	if have.n <= maxRefusals { // more are counted, and told of as one
		if err := g.Log.Append(ctx, appendRefused(nil, now, l, grant, why), false); err != nil {
			return fmt.Errorf("gate: %w", err)
		}
		if g.Refused != nil {
			g.Refused(l, why)
		}
	}
	if d, ok := why.(*Denied); ok && grant.Subject != "" {
		return d
	}
	return ErrLogin
}

// askOpen asks every guard whether the session may be.
func (s *Session) askOpen(ctx context.Context, gen *Generation) error {
	for _, guard := range gen.Guards {
		v, err := guard.SessionOpen(ctx, s.abi)
		if err != nil {
			return &Denied{Decision: abi.Deny, Guard: guard.Name(), Reason: abi.Reason{Code: "gate.guard-failed", Message: "a guard failed", Detail: err.Error()}}
		}
		if d := v.Decision.Normal(); d != abi.Allow && d != abi.Abstain {
			return &Denied{Decision: abi.Deny, Guard: guard.Name(), Reason: v.Reason}
		}
	}
	s.opened = gen.Number
	return nil
}

// Dial connects to the session's resource. It may be called again, as a cancel
// needs it.
func (s *Session) Dial(ctx context.Context) (Upstream, error) {
	r, _ := s.Resource()
	if r == nil {
		return Upstream{}, fmt.Errorf("gate: resource %s is gone", quote(s.abi.Resource))
	}
	return s.gate.Dialer.Dial(ctx, r, s.abi.Login)
}

// Close ends the session in the log and in the recording. Its protocol calls
// it last.
func (s *Session) Close(why error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.buf = appendClose(s.buf[:0], s, s.gate.now(), why)
	err := s.endLocked(context.WithoutCancel(s.ctx), s.buf)
	left := s.unsettled
	s.unsettled = nil
	s.mu.Unlock()
	s.forget(nil)
	for i := range left {
		left[i].how = Lost
	}
	s.tellRan(left)
	for _, stop := range s.stop {
		stop()
	}
	s.end(context.Canceled)
	s.gate.mu.Lock()
	delete(s.gate.sessions, s.abi.ID)
	s.gate.past += s.commands.Load()
	s.gate.mu.Unlock()
	if gen := s.gate.acquire(); gen != nil {
		for _, guard := range gen.Guards {
			guard.SessionClose(s.abi)
		}
		gen.release()
	}
	if e := s.rec.Close(); err == nil && e != nil {
		err = fmt.Errorf("gate: recording: %w", e)
	}
	return err
}

// Note writes down what the gateway does of its own accord for the session,
// before it does it.
func (s *Session) Note(ctx context.Context, what string) error {
	return s.gate.Log.Append(ctx, Note(s.gate.now(), "gateway", "session "+s.abi.ID+": "+what), false)
}

// Refused notes what is refused before it is a command, and counts it as one: who is
// refused on purpose writes no more of these than of others.
func (s *Session) Refused(ctx context.Context, what string) error {
	err := s.Note(ctx, what)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied++
	s.refused(len(what))
	return err
}

// write appends an event to the log and to the recording.
func (s *Session) write(ctx context.Context, event []byte, durable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(ctx, event, durable)
}

// endLocked writes that something has ended. A session that is broken because
// nothing more may begin still tries: the log may have kept room for that.
func (s *Session) endLocked(ctx context.Context, event []byte) error {
	if s.broken == nil {
		return s.writeLocked(ctx, event, false)
	}
	s.mayWait()
	_ = s.gate.Log.Append(ctx, event, false)
	_ = s.rec.Append(event)
	return s.broken
}

func (s *Session) writeLocked(ctx context.Context, event []byte, durable bool) error {
	if s.broken != nil {
		return s.broken
	}
	var err error
	if durable || !s.gate.Log.TryAppend(event, s.gate.now()) {
		s.mayWait()
		err = s.gate.Log.Append(ctx, event, durable)
	}
	if err == nil {
		err = s.rec.Append(event)
	}
	if err != nil {
		s.broken = err
		if s.end != nil {
			s.end(fmt.Errorf("gate: record: %w", err))
		}
	}
	return err
}

func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func quote(s string) string { return strconv.Quote(s) }

func digest(text, canonical string) [16]byte {
	h := sha256.New()
	var n [8]byte
	for i := range 8 {
		n[i] = byte(len(text) >> (8 * i))
	}
	h.Write(n[:])
	h.Write([]byte(text))
	h.Write([]byte(canonical))
	return [16]byte(h.Sum(nil)[:16])
}
