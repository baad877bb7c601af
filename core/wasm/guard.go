package wasm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// Name implements gate.Guard.
func (m *Module) Name() string { return m.source.Name }

// Digest implements gate.Guard.
func (m *Module) Digest() string { return m.digest }

// May implements gate.Guard.
func (m *Module) May() abi.May { return m.source.May }

// Inputs implements gate.Guard. A module whose verdicts may not be kept, or
// that can tell the time, counts as one that depends on everything.
func (m *Module) Inputs() abi.Inputs {
	if !m.source.Cache || len(m.source.Capabilities) > 0 {
		return m.inputs | abi.InputTime
	}
	return m.inputs
}

// SessionOpen implements gate.Guard.
func (m *Module) SessionOpen(ctx context.Context, s *abi.Session) (*abi.Verdict, error) {
	if !m.hooks[abi.HookSessionOpen] {
		return &abi.Verdict{Decision: abi.Abstain}, nil
	}
	v := &abi.Verdict{}
	err := m.enter(ctx, s, abi.HookSessionOpen, s.AppendTo(nil, m.inputs), 0, func(reply []byte, _ bool) error { return v.Decode(reply) })
	return v, err
}

// SessionClose implements gate.Guard. What the module says to it is ignored.
func (m *Module) SessionClose(s *abi.Session) {
	if m.hooks[abi.HookSessionClose] {
		_ = m.enter(context.Background(), s, abi.HookSessionClose, s.AppendTo(nil, m.inputs), 0, func([]byte, bool) error { return nil })
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Command implements gate.Guard.
func (m *Module) Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error) {
	if !m.hooks[abi.HookCommand] {
		return &abi.Verdict{Decision: abi.Abstain}, nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = c.AppendTo((*buf)[:0], m.inputs, m.set.symbols)
	key := *buf
	if v := m.cache.get(key, m.partition(c.Session)); v != nil {
		return v, nil
	}
	wall := int64(0)
	if m.inputs&abi.InputTime != 0 {
		wall = c.Time
	}
	v, pure := &abi.Verdict{}, false
	err := m.enter(ctx, c.Session, abi.HookCommand, key, wall, func(reply []byte, impure bool) error {
		pure = !impure
		if reply == nil {
			return errors.New("the guard said nothing")
		}
		return v.Decode(reply)
	})
	if err != nil {
		return nil, fmt.Errorf("wasm: %s: %w", m.source.Name, err)
	}
	if d := v.Decision; m.source.Cache && pure && d != abi.Review && d != abi.Need {
		m.cache.put(key, m.partition(c.Session), v)
	}
	return v, nil
}

// TryCommand implements gate.Guard: it answers from what is known.
func (m *Module) TryCommand(c *abi.Command) (*abi.Verdict, bool) {
	if !m.hooks[abi.HookCommand] {
		return &abi.Verdict{Decision: abi.Abstain}, true
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = c.AppendTo((*buf)[:0], m.inputs, m.set.symbols)
	v := m.cache.get(*buf, m.partition(c.Session))
	return v, v != nil
}

// Results implements gate.Guard.
func (m *Module) Results() bool { return m.hooks[abi.HookResultSchema] }

// ResultSchema implements gate.Guard.
func (m *Module) ResultSchema(ctx context.Context, c *abi.Command, s *abi.ResultSchema) (*abi.MaskPlan, error) {
	p := &abi.MaskPlan{}
	err := m.enter(ctx, c.Session, abi.HookResultSchema, s.AppendTo(nil), 0, func(reply []byte, _ bool) error { return p.Decode(reply) })
	return p, err
}

func (m *Module) partition(s *abi.Session) string {
	switch m.source.Isolation {
	case Shared:
		return ""
	case BySubject:
		return s.Issuer + "\x00" + s.Subject
	}
	return s.Task
}

// enter makes one call on an instance of the right partition. use is given the
// reply while it is valid.
func (m *Module) enter(ctx context.Context, s *abi.Session, hook abi.Hook, input []byte, wall int64, use func(reply []byte, impure bool) error) error {
	who := s.Issuer + "\x00" + s.Subject
	if err := m.breaker.check(who); err != nil {
		return err
	}
	deadline := later(callDeadline)
	p := m.pools.of(m.partition(s))
	in, err := p.take(ctx, deadline)
	if err != nil {
		return err
	}
	reply, err := in.run(hook, input, callFuel, deadline, wall)
	if err == nil {
		err = use(reply, in.impure)
	}
	var failed *Failed
	if err != nil && !errors.As(err, &failed) {
		p.discard(in)
		m.breaker.trapped(who)
		return err
	}
	p.put(in)
	m.breaker.fine(who)
	return err
}

func later(d time.Duration) time.Time { return time.Now().Add(d) }

// pools are the instances of a module, by partition.
type pools struct {
	m    *Module
	mu   sync.Mutex
	by   map[string]*pool
	done bool
}

// maxPartitions bounds how many tasks or subjects have instances of their own
// at a time; the one that was used longest ago makes room.
const maxPartitions = 64

func (ps *pools) of(partition string) *pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now().UnixNano()
	p := ps.by[partition]
	if p == nil {
		if ps.by == nil {
			ps.by = map[string]*pool{}
		}
		// What configured the module has served nobody: it goes to the first.
		if first := ps.by[""]; first != nil && len(ps.by) == 1 {
			p = first
			delete(ps.by, "")
		} else {
			ps.evict()
			p = newPool(ps.m)
		}
		ps.by[partition] = p
	}
	p.used.Store(now)
	return p
}

func (ps *pools) evict() {
	if len(ps.by) < maxPartitions {
		return
	}
	oldest := ""
	for name, p := range ps.by {
		if o := ps.by[oldest]; o == nil || p.used.Load() < o.used.Load() {
			oldest = name
		}
	}
	ps.by[oldest].close()
	delete(ps.by, oldest)
}

func (ps *pools) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.by {
		p.close()
	}
	ps.by = nil
}
