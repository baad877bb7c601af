package wasm

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// How many instances a module may have: in one partition, in all of them, and
// how many partitions have instances of their own at a time. The one that was
// used longest ago makes room.
const (
	poolSize      = 8
	maxInstances  = 64
	maxPartitions = 64
)

var (
	// errBusy says that no instance became free in time.
	errBusy = errors.New("every instance of the guard is busy")
	// errClosed says that the generation has been closed.
	errClosed = errors.New("the guard's generation is closed")
)

// partition is whom one instance may serve: a task, a subject, or, where it has
// no name, everyone; with cells of results or without.
type partition struct {
	issuer, name string
	cells        bool
}

// pool keeps the idle instances of one module for one partition. Slots rather
// than a channel: two callers on two cores do not meet.
type pool struct {
	m       *Module
	slots   [poolSize]atomic.Pointer[instance]
	made    atomic.Int32
	waiting atomic.Int32
	wake    chan struct{}
	closed  atomic.Bool
	used    atomic.Int64 // Unix s of the last use
}

func newPool(m *Module) *pool { return &pool{m: m, wake: make(chan struct{}, poolSize)} }

// try gives an idle instance, or nil. It looks first where hint says, which is
// the same for one session.
func (p *pool) try(hint uint32) *instance {
	for i := range uint32(poolSize) {
		slot := &p.slots[(hint+i)%poolSize]
		if slot.Load() == nil {
			continue
		}
		if in := slot.Swap(nil); in != nil {
			return in
		}
	}
	return nil
}

// take gives an instance: an idle one, a new one where there may be more, or
// the next that comes back before the deadline.
func (p *pool) take(ctx context.Context, hint uint32, deadline time.Time) (*instance, error) {
	if in := p.try(hint); in != nil {
		return in, nil
	}
	if in, err := p.grow(); in != nil || err != nil {
		return in, err
	}
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	again := time.NewTicker(20 * time.Millisecond) // other partitions do not wake this one
	defer again.Stop()
	for {
		if in := p.try(hint); in != nil {
			return in, nil
		}
		if in, err := p.grow(); in != nil || err != nil {
			return in, err
		}
		select {
		case <-p.wake:
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return nil, errBusy
		}
	}
}

// grow makes an instance; nil without an error where there may be no more.
func (p *pool) grow() (*instance, error) {
	if p.made.Add(1) > poolSize {
		p.made.Add(-1)
		return nil, nil
	}
	if !p.m.pools.room(p) {
		p.made.Add(-1)
		return nil, nil
	}
	in, err := p.m.instantiate()
	if err != nil {
		p.gone()
		return nil, err
	}
	return in, nil
}

// gone counts an instance out.
func (p *pool) gone() {
	p.made.Add(-1)
	p.m.pools.live.Add(-1)
	p.signal()
}

// put gives an instance back; discard ends one that is broken.
func (p *pool) put(in *instance, hint uint32) {
	for i := range uint32(poolSize) {
		if p.slots[(hint+i)%poolSize].CompareAndSwap(nil, in) {
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
	p.gone()
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
	for {
		in := p.try(0)
		if in == nil {
			return
		}
		p.discard(in)
	}
}

// pools are the instances of a module, by partition.
type pools struct {
	m    *Module
	by   atomic.Pointer[map[partition]*pool] // replaced as a whole
	live atomic.Int32

	mu    sync.Mutex // held while by is replaced
	spare *pool      // of the instance that was made to configure the module, and has served nobody
}

// of gives the pool of a partition.
func (ps *pools) of(part partition, now time.Time) *pool {
	var p *pool
	if by := ps.by.Load(); by != nil {
		p = (*by)[part]
	}
	if p == nil {
		p = ps.add(part)
	}
	if s := now.Unix(); p.used.Load() != s {
		p.used.Store(s)
	}
	return p
}

func (ps *pools) add(part partition) *pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	by := map[partition]*pool{}
	if old := ps.by.Load(); old != nil {
		if p := (*old)[part]; p != nil {
			return p
		}
		maps.Copy(by, *old)
	}
	p := ps.spare
	if ps.spare = nil; p == nil {
		p = newPool(ps.m)
	}
	if len(by) >= maxPartitions {
		oldest := part
		for name, q := range by {
			if oldest == part || q.used.Load() < by[oldest].used.Load() {
				oldest = name
			}
		}
		by[oldest].close()
		delete(by, oldest)
	}
	by[part] = p
	ps.by.Store(&by)
	return p
}

// room counts an instance in for p, at the cost of an idle one of another
// partition where there are too many.
func (ps *pools) room(p *pool) bool {
	if ps.live.Add(1) <= maxInstances {
		return true
	}
	var oldest *pool
	if by := ps.by.Load(); by != nil {
		for _, q := range *by {
			if q != p && q.idle() && (oldest == nil || q.used.Load() < oldest.used.Load()) {
				oldest = q
			}
		}
	}
	if oldest != nil {
		if in := oldest.try(0); in != nil {
			oldest.discard(in)
			return true
		}
	}
	ps.live.Add(-1)
	return false
}

func (p *pool) idle() bool {
	for i := range p.slots {
		if p.slots[i].Load() != nil {
			return true
		}
	}
	return false
}

func (ps *pools) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.spare != nil {
		ps.spare.close()
	}
	if by := ps.by.Load(); by != nil {
		for _, p := range *by {
			p.close()
		}
	}
}
