package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// Pending is what a held command's client is told.
type Pending struct {
	ID      string
	Summary string
	Needs   []Need
	Since   time.Time
	Until   time.Time
}

// Need is what one guard asks for: all of a request's have to be met, each by
// as many people as it says.
type Need struct {
	Guard string `json:"guard"`
	abi.Requirement
}

// String is "1 of dba".
func (n Need) String() string {
	people, groups := max(n.People, 1), strings.Join(n.Groups, " or ")
	if groups == "" {
		groups = "nobody: no group is named"
	}
	return fmt.Sprintf("%d of %s", people, groups)
}

// Request asks people to approve one command. It is immutable; what it is
// about waits until Approver says what they have decided.
type Request struct {
	ID      string
	Code    string // short, of what is bound: who approves types it from the card
	Session *abi.Session
	Needs   []Need
	Since   time.Time
	Until   time.Time

	Text       string
	Canonical  string
	Operations []string
	Params     []string // as the record has them
	Input      abi.Input
	Earlier    []string // what the open transaction has written before
	Open       bool     // it runs in a transaction that is open
	Rows       abi.Rows
	Binding    [32]byte // SHA-256 over everything that an approval holds for
}

// RequestState is how a request stands.
type RequestState string

// The states of a request.
const (
	Waiting   RequestState = "waiting"
	Approved  RequestState = "approved" // and not yet used
	Used      RequestState = "used"
	Refused   RequestState = "denied"
	Expired   RequestState = "expired"
	Withdrawn RequestState = "withdrawn"
)

// Decided is what came of a request.
type Decided struct {
	State  RequestState // Approved, Refused or Expired
	Voices []abi.Voice
	Reason string
}

// An Approver keeps requests and hears people. It counts them itself: nobody
// approves what they ask for, and nobody counts twice. What it answers is in
// its store and, before that, in the log.
type Approver interface {
	Ask(ctx context.Context, r *Request) error
	// Wait gives what was decided, or ctx's error where nothing is yet.
	Wait(ctx context.Context, id string) (Decided, error)
	// Spend makes an approved request used, if it is still approved by people who
	// may: it succeeds once. Withdraw ends one that is not used.
	Spend(ctx context.Context, id string) (Decided, error)
	Withdraw(ctx context.Context, id, why string) error
}

// ErrCancelled is why a held command's context was cancelled where the client
// itself wants it to end.
var ErrCancelled = errors.New("cancelled by the client")

const (
	maxEarlier = 64               // writes of a transaction that a card shows
	reminder   = 15 * time.Second // between two notices to a client that waits
	lastWord   = 5 * time.Second  // to write down how a hold ended, whatever ended it
)

func denied(code, message, hint string) *Denied {
	return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: code, Message: message, Hint: hint}}
}

// held asks people, waits, and lets the command go once they have approved
// what it still is. hold tells the client, now and at each reminder.
func (s *Session) held(ctx context.Context, gen *Generation, c *abi.Command, v abi.Verdict, all []asked, guarded *protection, hold func(Pending) error) (*Exchange, error) {
	if c.Held != nil && hold != nil {
		err := c.Held(&v)
		var d *Denied
		if errors.As(err, &d) {
			return nil, s.refuse(ctx, gen, c, all, d)
		}
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	wrote := s.wrote && c.Open
	earlier := slices.Clone(s.earlier)
	s.mu.Unlock()
	s.gate.held.Add(1)
	if hold == nil {
		return nil, s.refuse(ctx, gen, c, all, denied("gate.hold", "this needs the approval of other people, and cannot wait here", v.Reason.Hint))
	}
	if wrote && v.Terms.OnHold != "keep" {
		return nil, s.refuse(ctx, gen, c, all, denied("gate.on-hold", "this needs the approval of other people, and the open transaction has written: its locks would wait as well", "COMMIT or ROLLBACK first, or have the operator say on_hold: keep"))
	}
	if wrote && len(earlier) > maxEarlier {
		return nil, s.refuse(ctx, gen, c, all, denied("gate.on-hold", fmt.Sprintf("this needs the approval of other people, who cannot be shown the more than %d writes of the open transaction before it", maxEarlier), "COMMIT or ROLLBACK first, or write less in one transaction"))
	}
	if c.Input.Kind == abi.InputStream && v.Terms.Payload != "unseen" {
		return nil, s.refuse(ctx, gen, c, all, denied("gate.payload", "this needs the approval of other people, who cannot see what would be sent into it", "send less at a time, or have the operator say payload: unseen"))
	}
	r, err := s.request(ctx, c, all, earlier)
	if err != nil {
		return nil, err
	}
	if c.Rows != nil {
		r.Rows = c.Rows()
	}
	if err := s.writeRequest(ctx, gen, c, r, all); err != nil {
		return nil, err
	}
	if err := s.gate.Approver.Ask(ctx, r); err != nil {
		why := fmt.Errorf("%w: %w", denied("gate.hold", "this needs the approval of other people, who cannot be asked now", "try again later"), err)
		switch {
		case ctx.Err() != nil:
			why = context.Cause(ctx)
		case errors.As(err, new(*Denied)): // too much of its subject's waits
			why = err
		}
		return nil, s.withdraw(r, Decided{}, why)
	}
	h := &waiting{command: c, verdict: v, needs: r.Needs, guarded: guarded}
	ctx, h.end = context.WithCancelCause(ctx)
	defer h.end(nil)
	s.mu.Lock()
	s.waiting = append(s.waiting, h)
	s.mu.Unlock()
	decided, err := s.wait(ctx, r, v, hold)
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(o *waiting) bool { return o == h })
	s.mu.Unlock()
	if err == nil && decided.State == Approved {
		var ex *Exchange
		if ex, err = s.release(ctx, gen, h, r, all); err == nil {
			return ex, nil
		}
		if ctx.Err() != nil { // called off in that moment, which other errors may come of
			err = context.Cause(ctx)
		}
	}
	if err == nil {
		err = outcome(r, decided)
	}
	return nil, s.withdraw(r, decided, err)
}

// waiting is a command that is held.
type waiting struct {
	command *abi.Command
	verdict abi.Verdict
	needs   []Need
	guarded *protection
	end     context.CancelCauseFunc
}

// errChanged ends a hold whose policy is another than was asked about.
var errChanged = denied("gate.changed", "the policy has changed since this was asked: the request is withdrawn", "ask again")

// still says whether a generation asks the same of a held command.
func (s *Session) still(ctx context.Context, gen *Generation, h *waiting) bool {
	again, _, said, guarded := s.judge(ctx, gen, h.command)
	return again.Decision == abi.Review && equal(h.verdict, again) && h.guarded.same(guarded) &&
		slices.EqualFunc(h.needs, needs(said), func(a, b Need) bool { return reflect.DeepEqual(a, b) })
}

// outcome is what a client is told of a request that was not approved.
func outcome(r *Request, d Decided) *Denied {
	if d.State == Expired {
		return denied("gate.expired", "nobody approved it in time (request "+r.ID+")", "ask again when somebody can look")
	}
	who := ""
	for _, v := range d.Voices {
		if !v.Approve {
			who = " by " + v.Subject
		}
	}
	why := ""
	if d.Reason != "" {
		why = ": " + d.Reason
	}
	return denied("gate.denied", "denied"+who+why+" (request "+r.ID+")", "")
}

// withdraw ends a request that is not used, and gives what the command is told.
func (s *Session) withdraw(r *Request, d Decided, why error) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(s.ctx), lastWord)
	defer stop()
	state := Withdrawn
	if d.State == Refused || d.State == Expired {
		state = d.State
	}
	err := s.settle(r, state, why.Error())
	if state == Withdrawn {
		if e := s.gate.Approver.Withdraw(ctx, r.ID, why.Error()); e != nil && err == nil && !errors.As(why, new(*Denied)) {
			err = e
		}
	}
	s.mu.Lock()
	s.denied++
	s.refused(len(r.Text)) // who asks and takes it back, again and again, fills the log as well
	s.mu.Unlock()
	if err != nil {
		return errors.Join(why, err)
	}
	return why
}

// wait gives what people decided; ctx, the session's end and a client that
// cannot be told end it.
func (s *Session) wait(ctx context.Context, r *Request, v abi.Verdict, hold func(Pending) error) (Decided, error) {
	for {
		if err := s.alive(s.gate.now()); err != nil {
			return Decided{}, err
		}
		if err := hold(Pending{ID: r.ID, Summary: v.Review.Summary, Needs: r.Needs, Since: r.Since, Until: r.Until}); err != nil {
			return Decided{}, err
		}
		left := r.Until.Sub(s.gate.now())
		if left <= 0 {
			return Decided{State: Expired}, nil
		}
		remind := reminder
		if s.gate.Remind > 0 {
			remind = s.gate.Remind
		}
		round, stop := context.WithTimeout(ctx, min(remind, left))
		end := context.AfterFunc(s.ctx, stop)
		d, err := s.gate.Approver.Wait(round, r.ID)
		end()
		stop()
		switch {
		case err == nil:
			return d, nil
		case s.ctx.Err() != nil:
			return Decided{}, context.Cause(s.ctx)
		case ctx.Err() != nil:
			return Decided{}, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded):
			return Decided{}, fmt.Errorf("%w: %w", denied("gate.hold", "the approval cannot be read: the request is withdrawn", "try again later"), err)
		}
	}
}

// release lets an approved command go, if it is still what was approved: the
// subject's right, the policy and the guards' agreement are looked at again,
// the log has it on disk, and the store has it used.
func (s *Session) release(ctx context.Context, gen *Generation, h *waiting, r *Request, all []asked) (*Exchange, error) {
	if s.gate.Refresh != nil && s.grant.Login != "" {
		if err := s.gate.Refresh(ctx, s.grant.Login); err != nil {
			return nil, fmt.Errorf("%w: %w", denied("gate.hold", "whether you may still do this task cannot be found out: the request is withdrawn", "try again later"), err)
		}
	}
	if err := s.alive(s.gate.now()); err != nil {
		return nil, err
	}
	now := s.gate.acquire()
	if now == nil {
		return nil, denied("gate.closed", "the gateway has no policy", "")
	}
	use := now
	defer func() { use.release() }() // of the two the exchange has one, or the caller
	if now != gen && !s.still(ctx, now, h) {
		return nil, errChanged
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	d, err := s.gate.Approver.Spend(ctx, r.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", denied("gate.hold", "the approval cannot be used: the request is withdrawn", "ask again"), err)
	}
	if d.State != Used {
		return nil, outcome(r, d)
	}
	if err := s.agree(ctx, r, all, d); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // who asked has gone: it is used, and does not run
		return nil, context.Cause(ctx)
	}
	c, v := h.command, h.verdict
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	decision, who := combine(all)
	text, err := s.writeText(ctx, c.Statement, false)
	if err != nil {
		return nil, err
	}
	s.number()
	s.buf = appendCommand(s.buf[:0], s, s.seq, c, appendVerdicts(nil, text.sum, now, decision, who, all), text.hides(c))
	s.buf = appendApproved(s.buf, r, d)
	if err := s.writeLocked(ctx, s.buf, true); err != nil {
		return nil, err
	}
	s.note(c)
	v.Decision = abi.Allow
	ex := s.exchange(now, c, &v, h.guarded, s.gate.now())
	use = gen
	if ex.held = r.ID; r.Rows.Counted >= 0 && (ex.written < 0 || r.Rows.Counted < ex.written) {
		ex.written = r.Rows.Counted
	}
	return ex, nil
}

// agree asks the guards whose review it is and that want to know: one that
// denies ends it, none can loosen another's.
func (s *Session) agree(ctx context.Context, r *Request, all []asked, d Decided) error {
	for i := range all {
		a := &all[i]
		if a.guard == nil || a.read != abi.Review || !a.guard.Approvals() {
			continue
		}
		v, err := a.guard.Approval(ctx, &abi.Approval{ID: r.ID, Session: s.abi, Cookie: a.verdict.Cookie, Voices: d.Voices, Met: true})
		if err != nil || v == nil {
			return fmt.Errorf("%w: %w", denied("gate.guard-failed", "the guard "+quote(a.guard.Name())+" failed, and what it cannot agree to does not run", ""), err)
		}
		if n := v.Decision.Normal(); n != abi.Allow && n != abi.Abstain {
			return &Denied{Decision: abi.Deny, Guard: a.guard.Name(), Reason: v.Reason}
		}
	}
	return nil
}

// ran is a command that was held, and how it ended.
type ran struct {
	request string
	command uint64
	how     State
}

// ranLocked gives the held commands of which the end of an exchange tells.
func (s *Session) ranLocked(e *Exchange, o Outcome) (now []ran) {
	if e.held != "" {
		now = append(now, ran{e.held, e.seq, o.State})
		if o.State == Open {
			s.unsettled = append(s.unsettled, now[0])
		}
	}
	s.unsettled = slices.DeleteFunc(s.unsettled, func(r ran) bool {
		settled := o.Settles != 0 && r.command >= o.First && r.command <= o.Last
		if settled {
			now = append(now, ran{r.request, r.command, o.Settles})
		}
		return settled
	})
	return now
}

func (s *Session) tellRan(now []ran) {
	for _, r := range now {
		if s.gate.Ran != nil {
			s.gate.Ran(r.request, r.command, r.how)
		}
	}
}

// equal says whether two verdicts are the same in all that holds for a command.
func equal(a, b abi.Verdict) bool {
	a.Reason, b.Reason = abi.Reason{}, abi.Reason{}
	a.Protect, b.Protect = nil, nil // what comes of them is compared
	a.Tags, b.Tags, a.CacheFor, b.CacheFor = nil, nil, 0, 0
	return reflect.DeepEqual(a, b)
}

// same says whether two protections do the same.
func (p *protection) same(o *protection) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.reached == o.reached && p.oracle == o.oracle && slices.Equal(p.filters, o.filters) && slices.Equal(p.texts, o.texts) && slices.EqualFunc(p.outputs, o.outputs, func(a, b masked) bool {
		return a.statement == b.statement && a.index == b.index && a.rule == b.rule && (a.guard == nil) == (b.guard == nil) && (a.guard == nil || a.guard.Digest() == b.guard.Digest())
	})
}

// needs are what the guards that want a review ask for.
func needs(all []asked) (list []Need) {
	for i := range all {
		if all[i].read == abi.Review {
			list = append(list, Need{Guard: all[i].guard.Name(), Requirement: all[i].verdict.Review})
		}
	}
	return list
}

// shortest and longest time that a request may wait.
const (
	minWithin = time.Second
	maxWithin = 7 * 24 * time.Hour
	within    = 15 * time.Minute // where a guard says nothing
)

func (s *Session) request(ctx context.Context, c *abi.Command, all []asked, earlier []*abi.Statement) (*Request, error) {
	s.mu.Lock()
	text, err := s.writeText(ctx, c.Statement, false)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var id [5]byte
	_, _ = rand.Read(id[:])
	r := &Request{ID: strings.ToLower(base32.StdEncoding.EncodeToString(id[:])), Session: s.abi, Needs: needs(all), Since: s.gate.now(),
		Text: text.text, Canonical: text.canonical, Input: c.Input, Open: c.Open, Rows: abi.Rows{Estimated: -1, Counted: -1}}
	until := maxWithin
	for i := range r.Needs {
		w := time.Duration(r.Needs[i].Within) * time.Second
		if w == 0 {
			w = within
		}
		until = min(until, max(w, minWithin))
	}
	if r.Until = r.Since.Add(until); s.deadline.Before(r.Until) {
		r.Until = s.deadline
	}
	for i := range c.Statement.Operations {
		r.Operations = append(r.Operations, c.Statement.Operations[i].String())
	}
	hidden := text.hides(c)
	for i := range c.Params {
		p := &c.Params[i]
		form := byte('t')
		switch {
		case slices.Contains(hidden, i+1):
			form = 'h'
		case p.Null:
			form = 'n'
		case p.Binary:
			form = 'b'
		}
		r.Params = append(r.Params, readParam(append([]byte{form}, p.Value...)))
	}
	for _, st := range earlier {
		r.Earlier = append(r.Earlier, write(st, false).text)
	}
	r.Binding = s.binding(c)
	r.Code = strings.ToLower(base32.StdEncoding.EncodeToString(r.Binding[:3])[:4])
	return r, nil
}

// binding is a digest of everything that an approval holds for: whose session
// it is, what it runs on, the bytes, the parameters, the payload, and what
// their meaning depends on.
func (s *Session) binding(c *abi.Command) [32]byte {
	var b bytes.Buffer
	put := func(parts ...string) {
		for _, p := range parts {
			_ = binary.Write(&b, binary.BigEndian, uint64(len(p)))
			b.WriteString(p)
		}
	}
	put("taskgate approval 1", s.abi.ID, s.abi.Issuer, s.abi.Subject, s.abi.Task, s.abi.Resource, s.abi.Login, c.Bound, fmt.Sprint(c.Open))
	if r, t := s.Resource(); r != nil && t != nil {
		put(r.Digest, t.Digest)
	}
	put(c.Statement.Text, c.Statement.Canonical)
	for i := range c.Params {
		p := &c.Params[i]
		put(fmt.Sprint(p.Type, p.Binary, p.Null), string(p.Value))
	}
	put(fmt.Sprint(c.Input.Kind, c.Input.Size), string(c.Input.Digest))
	return sha256.Sum256(b.Bytes())
}

// refuse writes a refusal of the gate's own.
func (s *Session) refuse(ctx context.Context, gen *Generation, c *abi.Command, all []asked, d *Denied) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	text, err := s.writeText(ctx, c.Statement, false)
	if err != nil {
		return err
	}
	all = append(slices.Clone(all), asked{verdict: &abi.Verdict{Decision: abi.Deny, Reason: d.Reason}, read: abi.Deny})
	s.number()
	s.gate.denied.Add(1)
	s.denied++
	s.buf = appendCommand(s.buf[:0], s, s.seq, c, appendVerdicts(nil, text.sum, gen, abi.Deny, len(all)-1, all), text.hides(c))
	if err := s.writeLocked(ctx, s.buf, false); err != nil {
		return err
	}
	s.refused(len(c.Statement.Text))
	return d
}

// writeRequest puts a request on disk before anybody is asked.
func (s *Session) writeRequest(ctx context.Context, gen *Generation, c *abi.Command, r *Request, all []asked) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	text, err := s.writeText(ctx, c.Statement, false)
	if err != nil {
		return err
	}
	decision, who := combine(all)
	s.buf = appendRequest(s.buf[:0], s, r, c, appendVerdicts(nil, text.sum, gen, decision, who, all), text.hides(c))
	return s.writeLocked(ctx, s.buf, true)
}

// settle writes how a request ended that was not used.
func (s *Session) settle(r *Request, state RequestState, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = appendSettled(s.buf[:0], s.abi.ID, s.gate.now(), r.ID, state, why)
	return s.endLocked(context.WithoutCancel(s.ctx), s.buf)
}

func (s *Session) maskKey(name string) []byte {
	if s.gate.MaskKey == nil {
		return nil
	}
	return s.gate.MaskKey(s.abi.Task, name)
}
