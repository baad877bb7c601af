package wasm

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// poolSize is how many instances of a module one partition may have.
const poolSize = 8

// errBusy says that no instance became free in time.
var errBusy = errors.New("every instance of the guard is busy")

// pool keeps the idle instances of one module for one partition. Slots rather
// than a channel: two callers on two cores do not meet.
type pool struct {
	m       *Module
	slots   [poolSize]atomic.Pointer[instance]
	made    atomic.Int32
	waiting atomic.Int32
	wake    chan struct{}
	closed  atomic.Bool
	used    atomic.Int64 // Unix ns of the last use
}

func newPool(m *Module) *pool { return &pool{m: m, wake: make(chan struct{}, poolSize)} }

// try gives an idle instance, or nil.
func (p *pool) try() *instance {
	for i := range p.slots {
		if p.slots[i].Load() == nil {
			continue
		}
		if in := p.slots[i].Swap(nil); in != nil {
			return in
		}
	}
	return nil
}

// take gives an instance: an idle one, a new one where there may be more, or
// the next that comes back before the deadline.
func (p *pool) take(ctx context.Context, deadline time.Time) (*instance, error) {
	if in := p.try(); in != nil {
		return in, nil
	}
	if p.made.Add(1) <= poolSize {
		in, err := p.m.instantiate(ctx)
		if err != nil {
			p.made.Add(-1)
			return nil, err
		}
		return in, nil
	}
	p.made.Add(-1)
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		if in := p.try(); in != nil {
			return in, nil
		}
		if p.made.Load() < poolSize { // one was discarded
			return p.take(ctx, deadline)
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return nil, errBusy
		}
	}
}

// put gives an instance back; discard ends one that is broken.
func (p *pool) put(in *instance) {
	for i := range p.slots {
		if p.slots[i].CompareAndSwap(nil, in) {
			if p.closed.Load() {
				p.drain()
			} else if p.waiting.Load() > 0 {
				p.signal()
			}
			return
		}
	}
	p.discard(in) // cannot be: there are as many slots as instances
}

func (p *pool) discard(in *instance) {
	in.close()
	p.made.Add(-1)
	p.signal()
}

func (p *pool) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close ends the idle instances; those in use end when they come back.
func (p *pool) close() {
	p.closed.Store(true)
	p.drain()
}

func (p *pool) drain() {
	for i := range p.slots {
		if in := p.slots[i].Swap(nil); in != nil {
			in.close()
			p.made.Add(-1)
		}
	}
}
