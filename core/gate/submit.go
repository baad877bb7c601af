package gate

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// Submit asks every guard of the present generation about c, writes down what
// they said, and gives an Exchange where c may go upstream. It returns *Denied
// where it may not; any other error ends the session. It is safe for
// concurrent use; the order in which it is called is the order in the log.
//
// hold is called before waiting for approval and at each reminder; a cancelled
// ctx withdraws the request.
func (s *Session) Submit(ctx context.Context, c *abi.Command, hold func(Pending) error) (*Exchange, error) {
	if err := s.alive(s.gate.now()); err != nil {
		return nil, err
	}
	gen := s.gate.acquire()
	if gen == nil {
		return nil, &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.closed", Message: "the gateway has no policy"}}
	}
	ex, err := s.submit(ctx, gen, c, hold)
	if err != nil {
		gen.release()
		return nil, err
	}
	return ex, nil
}

// TrySubmit is Submit where nothing has to be waited for: the guards have said
// it all already. It gives false where Submit has to be called, refusals
// included. It never waits for a guard, the disk or a new segment of the log.
func (s *Session) TrySubmit(c *abi.Command) (*Exchange, bool) {
	ex := s.trySubmit(c)
	return ex, ex != nil
}

func (s *Session) alive(now time.Time) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if !now.Before(s.deadline) { // the timer may be late after a jump of the clock
		err := &Ended{Reason: "the grant of task " + quote(s.abi.Task) + " is over"}
		s.end(err)
		return err
	}
	return nil
}

func (s *Session) trySubmit(c *abi.Command) *Exchange {
	s.lock()
	defer s.mu.Unlock()
	if !s.uses() {
		return nil
	}
	gen := s.use.generation
	if gen.inputs&(abi.InputParams|abi.InputTime|abi.InputInput) != 0 {
		return nil
	}
	now := s.gate.now()
	if s.alive(now) != nil {
		return nil
	}
	j := s.judged[act{c.Statement, c.Phase}]
	if j == nil || j.generation != gen.Number || s.opened != gen.Number || s.broken != nil ||
		!j.until.IsZero() && now.After(j.until) || s.durable(c) {
		return nil
	}
	c.Time, c.Session = now.UnixNano(), s.abi
	s.buf = appendCommand(s.buf[:0], s, s.seq+1, c, j.record, j.hidden)
	if !s.gate.Log.TryAppend(s.buf, now) {
		return nil
	}
	if err := s.rec.Append(s.buf); err != nil {
		s.broken = err
		s.end(fmt.Errorf("gate: record: %w", err))
		return nil
	}
	s.number()
	s.note(c)
	e := s.exchange(gen, c, &j.verdict, j.guarded, now)
	e.use = s.use
	e.use.n++
	return e
}

// number gives a command the next number. The caller holds mu.
func (s *Session) number() {
	s.seq++
	s.commands.Store(s.seq)
}

// exchange makes the exchange of the command that was written last, which runs
// until the protocol says otherwise. The caller holds mu.
func (s *Session) exchange(gen *Generation, c *abi.Command, v *abi.Verdict, p *protection, now time.Time) *Exchange {
	e := &Exchange{s: s, gen: gen, seq: s.seq, verdict: v, guarded: p, written: -1, began: now, statement: c.Statement, phase: c.Phase}
	if n := v.Terms.RowsWritten; n > 0 {
		e.written = int64(min(n, math.MaxInt64))
	}
	if e.after = s.open; e.after != nil {
		e.after.before = e
	}
	s.open = e
	if c.Phase == abi.Execute {
		s.guesses += uint64(c.Statement.Guesses)
	}
	return e
}

// unlink takes an exchange off the list of open ones. The caller holds mu.
func (s *Session) unlink(e *Exchange) {
	switch {
	case e.before != nil:
		e.before.after = e.after
	case s.open == e:
		s.open = e.after
	}
	if e.after != nil {
		e.after.before = e.before
	}
	e.before, e.after = nil, nil
}

// durable says whether the decision must be on disk before c goes upstream:
// what it does lasts, or it makes earlier writes last.
func (s *Session) durable(c *abi.Command) bool {
	if c.Phase != abi.Execute {
		return false
	}
	if c.Statement.Writes() && !c.Open {
		return true
	}
	return s.wrote && commits(c.Statement)
}

// note remembers whether an open transaction holds writes.
func (s *Session) note(c *abi.Command) {
	switch {
	case c.Phase != abi.Execute:
	case !c.Open || commits(c.Statement):
		s.wrote, s.earlier = false, s.earlier[:0]
	case c.Statement.Writes():
		s.wrote = true
		if len(s.earlier) <= maxEarlier { // one more, to tell that there are more
			s.earlier = append(s.earlier, c.Statement)
		}
	}
}

func commits(st *abi.Statement) bool {
	for i := range st.Operations {
		if o := &st.Operations[i]; o.Kind == abi.KindTransaction && o.Verb == "commit" {
			return true
		}
	}
	return false
}

// takesBack says whether a statement does nothing but end a transaction without
// trace. That is refused to nobody: its locks would stay.
func takesBack(st *abi.Statement) bool {
	return st.Incomplete == "" && len(st.Operations) == 1 && st.Operations[0].Kind == abi.KindTransaction && st.Operations[0].Verb == "rollback" &&
		!strings.Contains(st.Canonical, ";") // nothing beside it, not even what needs no operation
}

func (s *Session) submit(ctx context.Context, gen *Generation, c *abi.Command, hold func(Pending) error) (*Exchange, error) {
	now := s.gate.now()
	c.Time, c.Session = now.UnixNano(), s.abi
	verdict, guard, asked, guarded := s.judge(ctx, gen, c)
	if verdict.Decision == abi.Review && s.gate.Approver != nil {
		s.mayWait()
		return s.held(ctx, gen, c, verdict, asked, guarded, hold)
	}
	s.lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	text, err := s.writeText(ctx, c.Statement, verdict.Decision == abi.Deny && verdict.Reason.Code == codeProtected)
	if err != nil {
		return nil, err
	}
	decision, who := combine(asked)
	record := appendVerdicts(nil, text.sum, gen, decision, who, asked)
	s.number()
	s.buf = appendCommand(s.buf[:0], s, s.seq, c, record, text.hides(c))
	allowed := verdict.Decision == abi.Allow
	if err := s.writeLocked(ctx, s.buf, allowed && s.durable(c)); err != nil {
		return nil, err
	}
	if !allowed {
		s.denied++
		if verdict.Decision == abi.Review {
			s.gate.held.Add(1)
		} else {
			s.gate.denied.Add(1)
		}
		s.refused(len(c.Statement.Text))
		return nil, &Denied{Decision: verdict.Decision, Guard: guard, Reason: verdict.Reason}
	}
	s.note(c)
	j := &judged{generation: gen.Number, verdict: verdict, guarded: guarded, record: record, hidden: text.hides(c)}
	if verdict.CacheFor > 0 {
		j.until = now.Add(time.Duration(verdict.CacheFor) * time.Second)
	}
	if decision == abi.Allow {
		if len(s.judged) >= maxJudged {
			clear(s.judged)
		}
		s.judged[act{c.Statement, c.Phase}] = j
	}
	return s.exchange(gen, c, &j.verdict, guarded, now), nil
}

// writeText writes a statement's text and operations the first time it is met,
// and again where it was blank and is not refused any more.
func (s *Session) writeText(ctx context.Context, st *abi.Statement, refused bool) (*written, error) {
	if w := s.texts[st]; w != nil && (refused || !w.blank) {
		return w, nil
	}
	if len(s.texts) >= maxJudged || s.textBytes > maxRemembered {
		clear(s.texts)
		clear(s.judged)
		s.textBytes = 0
	}
	w := write(st, refused)
	s.textBytes += len(w.text) + len(w.canonical)
	s.buf = appendText(s.buf[:0], s, w, st)
	if err := s.writeLocked(ctx, s.buf, false); err != nil {
		return nil, err
	}
	s.texts[st] = w
	return w, nil
}

// asked is one guard's answer, under its grant.
type asked struct {
	guard   Guard
	verdict *abi.Verdict
	read    abi.Decision // what the verdict counts as
	err     error
}

func combine(all []asked) (abi.Decision, int) {
	list := make([]abi.Decision, len(all))
	for i := range all {
		list[i] = all[i].read
	}
	return abi.Combine(list)
}

// judge asks all guards, none left out, and joins what they say. The verdict
// it gives is either Allow with the strictest of all limits, or a refusal.
func (s *Session) judge(ctx context.Context, gen *Generation, c *abi.Command) (abi.Verdict, string, []asked, *protection) {
	s.lock()
	reopened := s.opened == gen.Number
	s.mu.Unlock()
	if !reopened {
		if err := s.reopen(ctx, gen); err != nil {
			d := err.(*Denied)
			v := &abi.Verdict{Decision: abi.Deny, Reason: d.Reason}
			return *v, d.Guard, []asked{{verdict: v, read: abi.Deny}}, nil
		}
	}
	if c.Statement == nil || c.Phase != abi.Prepare && c.Phase != abi.Execute {
		return abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "gate.unknown", Message: "not a command that is known"}}, "gate", nil, nil
	}
	if takesBack(c.Statement) {
		v := abi.Verdict{Decision: abi.Allow}
		return v, "gate", []asked{{verdict: &v, read: abi.Allow}}, nil
	}
	all := make([]asked, len(gen.Guards))
	for i, guard := range gen.Guards {
		began := time.Now()
		v, err := guard.Command(ctx, c)
		all[i] = asked{guard: guard, verdict: v, err: err, read: abi.Deny}
		if s.gate.Judged != nil {
			s.gate.Judged(guard.Name(), decisionOf(v), time.Since(began), err)
		}
		switch {
		case err != nil || v == nil:
			all[i].verdict = &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "gate.guard-failed", Message: "the guard " + quote(guard.Name()) + " failed, and what cannot be judged is refused"}}
		default:
			all[i].read = guard.May().Limit(v.Decision)
			if d := unmaskable(guard, v); d != nil {
				all[i].verdict, all[i].read = d, abi.Deny
			}
		}
	}
	decision, who := combine(all)
	if who < 0 {
		return abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "gate.nobody", Message: "no guard allows it", Hint: "ask your operator for a task that covers it"}}, "gate", all, nil
	}
	v := *all[who].verdict
	name := all[who].guard.Name()
	switch {
	case decision == abi.Allow, decision == abi.Review, c.Phase == abi.Prepare && decision == abi.Need:
		guarded, denied := protect(c.Statement, all)
		if denied != nil {
			v.Decision, v.Reason = abi.Deny, denied.Reason
			return v, denied.Guard, append(all, asked{verdict: &abi.Verdict{Decision: abi.Deny, Reason: denied.Reason}, read: abi.Deny}), nil
		}
		v = tighten(v, all)
		if decision == abi.Review && c.Phase != abi.Prepare {
			v.Decision = abi.Review
			if v.Reason.Message == "" {
				v.Reason.Message = "held: this needs the approval of other people"
			}
		}
		return v, name, all, guarded
	case decision == abi.Need:
		v.Decision = abi.Deny
		v.Reason = abi.Reason{Code: "gate.need", Message: "the guard " + quote(name) + " needs facts that this gateway cannot fetch"}
	default:
		v.Decision = abi.Deny
	}
	return v, name, all, nil
}

// unmaskable gives the refusal of a guard that protects what it may not.
func unmaskable(guard Guard, v *abi.Verdict) *abi.Verdict {
	if len(v.Protect) == 0 || guard.May().Mask {
		return nil
	}
	return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "gate.protect", Message: "the guard " + quote(guard.Name()) + " wants columns protected, which it may not", Hint: "your operator gives it that: may: [mask]"}}
}

func decisionOf(v *abi.Verdict) abi.Decision {
	if v == nil {
		return abi.Deny
	}
	return v.Decision.Normal()
}

// reopen asks the guards of a new generation whether the session may go on.
func (s *Session) reopen(ctx context.Context, gen *Generation) error {
	err := gen.Permits(s.abi.Task, s.abi.Resource, s.abi.Groups)
	s.lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.askOpen(ctx, gen)
	}
	if err != nil {
		s.end(&Ended{Reason: err.Error()})
		return err
	}
	s.buf = appendGeneration(s.buf[:0], s, gen)
	if err := s.writeLocked(ctx, s.buf, false); err != nil {
		return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.record", Message: "it could not be recorded"}}
	}
	return nil
}

// tighten gives the verdict that holds for an allowed command: the strictest
// limits of all guards, and upstream errors in full or a standard input only if
// every guard that allows says so.
func tighten(v abi.Verdict, all []asked) abi.Verdict {
	v.Decision = abi.Allow
	v.ShowErrors, v.Stdin = true, true
	for i := range all {
		a := all[i].verdict
		v.Terms.RowsReturned = abi.Tighten(v.Terms.RowsReturned, a.Terms.RowsReturned)
		v.Terms.RowsWritten = abi.Tighten(v.Terms.RowsWritten, a.Terms.RowsWritten)
		v.Limits.Bytes = abi.Tighten(v.Limits.Bytes, a.Limits.Bytes)
		v.Limits.StatementTimeout = abi.Tighten(v.Limits.StatementTimeout, a.Limits.StatementTimeout)
		v.CacheFor = abi.Tighten(v.CacheFor, a.CacheFor)
		if all[i].guard.May().Allow && all[i].read != abi.Abstain {
			v.ShowErrors, v.Stdin = v.ShowErrors && a.ShowErrors, v.Stdin && a.Stdin
		}
	}
	return v
}
