package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// Name implements gate.Guard.
func (m *Module) Name() string { return m.source.Name }

// Digest implements gate.Guard.
func (m *Module) Digest() string { return m.digest }

// May implements gate.Guard.
func (m *Module) May() abi.May { return m.source.May }

// Inputs implements gate.Guard. A module whose verdicts may not be kept, or
// that can tell the time or draw lots, counts as one that depends on
// everything.
func (m *Module) Inputs() abi.Inputs {
	if !m.source.Cache || m.impure {
		return m.inputs | abi.InputTime
	}
	return m.inputs
}

// MaxInput bounds what a call is given, in bytes.
const MaxInput = 16 << 20

var (
	errSilent  = errors.New("the guard said nothing")
	errInput   = fmt.Errorf("the command has more than the %d bytes that a guard can be given", MaxInput)
	errNobody  = errors.New("a call for nobody")
	errNoBatch = errors.New("the guard wants to mask cells itself (CUSTOM), and its manifest does not name the hook result_batch")
	errCells   = fmt.Errorf("the rows have more cells than a guard can be given at once: %d bytes, %d rows", MaxInput, abi.MaxRows)
	errUneven  = errors.New("the rows have not as many cells as they should")
	errBatch   = errors.New("the reply has not the rows, columns, types and formats of what was asked, or over four times its bytes")
)

// SessionOpen implements gate.Guard.
func (m *Module) SessionOpen(ctx context.Context, s *abi.Session) (*abi.Verdict, error) {
	if !m.hooks[abi.HookSessionOpen] {
		return m.abstain, nil
	}
	c, err := m.enter(ctx, s, abi.HookSessionOpen)
	if err != nil {
		return nil, m.named(err)
	}
	reply, err := c.in.run(abi.HookSessionOpen, s.AppendTo(nil, m.inputs), callFuel, c.deadline, 0)
	v := &abi.Verdict{}
	if err == nil {
		err = decode(v, reply)
	}
	m.leave(c, err)
	if err != nil {
		return nil, m.named(err)
	}
	return v, nil
}

// SessionClose implements gate.Guard. What the module says to it is ignored.
func (m *Module) SessionClose(s *abi.Session) {
	if !m.hooks[abi.HookSessionClose] {
		return
	}
	c, err := m.enter(context.Background(), s, abi.HookSessionClose)
	if err != nil {
		return
	}
	_, err = c.in.run(abi.HookSessionClose, s.AppendTo(nil, m.inputs), callFuel, c.deadline, 0)
	m.leave(c, err)
}

// Command implements gate.Guard.
func (m *Module) Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error) {
	if !m.hooks[abi.HookCommand] {
		return m.abstain, nil
	}
	if m.Manifest.skips(c.Statement) {
		return m.skipped, nil
	}
	buf := m.buffer()
	defer m.release(buf)
	*buf = c.AppendTo((*buf)[:0], m.inputs, m.set.symbols)
	if c.Session == nil {
		return nil, m.named(errNobody)
	}
	if len(*buf) > MaxInput {
		return nil, m.named(errInput)
	}
	part := m.partition(c.Session)
	if m.keeps {
		if v := m.cache.get(*buf, part); v != nil {
			return v, nil
		}
	}
	wall := int64(0)
	if m.inputs&abi.InputTime != 0 {
		wall = c.Time
	}
	in, err := m.enter(ctx, c.Session, abi.HookCommand)
	if err != nil {
		return nil, m.named(err)
	}
	reply, err := in.in.run(abi.HookCommand, *buf, fuelFor(*buf), in.deadline, wall)
	v, pure, n := &abi.Verdict{}, !in.in.impure, len(reply)
	if err == nil {
		err = decode(v, reply)
	}
	m.leave(in, err)
	if err != nil {
		return nil, m.named(err)
	}
	if m.keeps && pure && v.Decision != abi.Review && v.Decision != abi.Need {
		m.cache.put(*buf, part, v, n)
	}
	return v, nil
}

// TryCommand implements gate.Guard: it answers from what is known.
func (m *Module) TryCommand(c *abi.Command) (*abi.Verdict, bool) {
	switch {
	case !m.hooks[abi.HookCommand]:
		return m.abstain, true
	case m.Manifest.skips(c.Statement):
		return m.skipped, true
	case !m.keeps || c.Session == nil:
		return nil, false
	}
	buf := m.buffer()
	defer m.release(buf)
	*buf = c.AppendTo((*buf)[:0], m.inputs, m.set.symbols)
	v := m.cache.get(*buf, m.partition(c.Session))
	return v, v != nil
}

// Results implements gate.Guard.
func (m *Module) Results() bool { return m.hooks[abi.HookResultSchema] }

// ResultSchema implements gate.Guard.
func (m *Module) ResultSchema(ctx context.Context, c *abi.Command, s *abi.ResultSchema) (*abi.MaskPlan, error) {
	if !m.hooks[abi.HookResultSchema] {
		return nil, nil
	}
	input := s.AppendTo(nil)
	if len(input) > MaxInput {
		return nil, m.named(errInput)
	}
	in, err := m.enter(ctx, c.Session, abi.HookResultSchema)
	if err != nil {
		return nil, m.named(err)
	}
	reply, err := in.in.run(abi.HookResultSchema, input, fuelFor(input), in.deadline, 0)
	p := &abi.MaskPlan{}
	if err == nil {
		err = p.Decode(reply)
	}
	if err == nil && slices.ContainsFunc(p.Args, func(arg string) bool { return !plain(arg) }) {
		err = errText
	}
	m.leave(in, err)
	if err != nil {
		return nil, m.named(err)
	}
	return p, nil
}

// ResultBatch implements gate.Guard. The instances that are given cells serve
// no other hook: what they remember reaches no verdict and no log.
func (m *Module) ResultBatch(ctx context.Context, s *abi.Session, b *abi.Batch) (*abi.Batch, error) {
	if !m.hooks[abi.HookResultBatch] {
		return nil, m.named(errNoBatch)
	}
	out := b.Answer()
	if b.Rows == 0 {
		return out, nil
	}
	buf := m.buffer()
	defer m.release(buf)
	*buf = b.AppendTo((*buf)[:0])
	switch {
	case len(*buf) > MaxInput || b.Rows > abi.MaxRows:
		return nil, m.named(errCells)
	case !b.Fits(b):
		return nil, m.named(errUneven)
	}
	in, err := m.enter(ctx, s, abi.HookResultBatch)
	if err != nil {
		return nil, m.named(err)
	}
	reply, err := in.in.run(abi.HookResultBatch, *buf, fuelFor(*buf), in.deadline, 0)
	switch {
	case err != nil:
	case reply == nil:
		err = errSilent
	case out.Copy(reply) != nil || !out.Fits(b):
		err = errBatch
	}
	m.leave(in, err)
	if err != nil {
		return nil, m.named(err)
	}
	return out, nil
}

// Approvals implements gate.Guard.
func (m *Module) Approvals() bool { return m.hooks[abi.HookApproval] }

// Approval implements gate.Guard.
func (m *Module) Approval(ctx context.Context, a *abi.Approval) (*abi.Verdict, error) {
	if !m.hooks[abi.HookApproval] {
		return m.abstain, nil
	}
	input := a.AppendTo(nil, m.inputs)
	if len(input) > MaxInput {
		return nil, m.named(errInput)
	}
	in, err := m.enter(ctx, a.Session, abi.HookApproval)
	if err != nil {
		return nil, m.named(err)
	}
	reply, err := in.in.run(abi.HookApproval, input, fuelFor(input), in.deadline, 0)
	v := &abi.Verdict{}
	if err == nil {
		err = decode(v, reply)
	}
	m.leave(in, err)
	if err != nil {
		return nil, m.named(err)
	}
	return v, nil
}

// decode reads a verdict where there has to be one.
func decode(v *abi.Verdict, reply []byte) error {
	if reply == nil {
		return errSilent
	}
	if err := v.Decode(reply); err != nil {
		return fmt.Errorf("the reply does not parse: %w", err)
	}
	return checkText(v)
}

var errText = errors.New("the reply does not parse: a text that is not UTF-8, or holds control characters")

// checkText refuses what a protocol could not pass on as text: NUL would end
// it early in a PostgreSQL message, an escape does things to a terminal.
func checkText(v *abi.Verdict) error {
	r := &v.Reason
	for _, s := range [...]string{r.Code, r.Message, r.Closest, r.Hint, r.Detail, r.URL, v.Review.Summary, v.Terms.OnHold, v.Terms.Payload} {
		if !plain(s) {
			return errText
		}
	}
	for _, list := range [...][]string{v.Tags, v.Needs, v.Review.Groups, v.Terms.Oracle} {
		for _, s := range list {
			if !plain(s) {
				return errText
			}
		}
	}
	for i := range v.Protect {
		p := &v.Protect[i]
		for _, s := range p.Relation {
			if !plain(s) {
				return errText
			}
		}
		if !plain(p.Column) || !plain(p.Arg) || !plain(p.Pattern) || !plain(p.Separator) {
			return errText
		}
	}
	return nil
}

func plain(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }) < 0
}

func (m *Module) named(err error) error { return fmt.Errorf("wasm: %s: %w", m.source.Name, err) }

func (m *Module) partition(s *abi.Session) partition {
	switch m.source.Isolation {
	case Shared:
		return partition{}
	case BySubject:
		return partition{issuer: s.Issuer, name: s.Subject}
	}
	return partition{name: s.Task}
}

// buffer gives room for a projected command, release takes it back.
func (m *Module) buffer() *[]byte {
	if b, ok := m.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4096)
	return &b
}

func (m *Module) release(b *[]byte) {
	if cap(*b) <= 1<<20 { // one huge statement does not stay in memory
		m.buffers.Put(b)
	}
}

// call is an instance that has been checked out for a session.
type call struct {
	in       *instance
	pool     *pool
	hint     uint32
	who      who
	task     string
	deadline time.Time
}

// enter checks an instance of the right partition out; leave gives it back.
func (m *Module) enter(ctx context.Context, s *abi.Session, hook abi.Hook) (call, error) {
	if s == nil {
		return call{}, errNobody
	}
	c := call{who: who{s.Issuer, s.Subject}, task: s.Task}
	if err := m.breaker.check(c.who, c.task); err != nil {
		return c, err
	}
	for i := max(0, len(s.ID)-4); i < len(s.ID); i++ {
		c.hint = c.hint*31 + uint32(s.ID[i])
	}
	if ctx.Err() != nil { // once it runs, its own deadline ends it: who gives up is no reason to break an instance
		return c, context.Cause(ctx)
	}
	now := time.Now()
	c.deadline = now.Add(cmp.Or(m.set.host.Deadline, callDeadline))
	part := m.partition(s)
	part.cells = hook == abi.HookResultBatch
	c.pool = m.pools.of(part, now)
	var err error
	if c.in, err = c.pool.take(ctx, c.hint, c.deadline); err != nil {
		if !errors.Is(err, errBusy) && !errors.Is(err, errClosed) && ctx.Err() == nil {
			m.breaker.trapped(c.who, c.task) // it cannot even be made
		}
		return c, err
	}
	return c, nil
}

// leave puts the instance back, unless anything at all went wrong in it. A
// status is the guest's own word: it is whole.
func (m *Module) leave(c call, err error) {
	if err != nil {
		if _, whole := errors.AsType[*Failed](err); !whole {
			c.pool.discard(c.in)
			m.breaker.trapped(c.who, c.task)
			return
		}
	}
	c.pool.put(c.in, c.hint)
}
