package wasm

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errBroken is what a subject gets whose input broke the module again and again.
var errBroken = errors.New("the guard failed too often for you and rests for a while")

// who is a subject of an issuer.
type who struct{ issuer, subject string }

// breaker refuses without a call where a module traps again and again: for one
// subject, so that its poisonous input does not close the gateway to others;
// for a task where several of its subjects rest; and for everyone only where
// many do. A call that goes well forgives nothing, or a subject could mix good
// calls with bad ones for ever: only time does.
type breaker struct {
	now   func() time.Time // nil is time.Now
	until atomic.Int64     // Unix ns at which the last rest ends, so that who is well pays nothing

	mu    sync.Mutex
	by    map[who]*trips
	tasks map[string]time.Time
	all   time.Time
}

type trips struct {
	count int
	task  string // where it happened last
	last  time.Time
	until time.Time
}

const (
	tripsAllowed = 3
	tripsTask    = 4 // subjects of a task that rest at the same time
	tripsMany    = 8 // subjects of any task
	maxRest      = time.Minute
	forgiven     = 10 * time.Minute // since the last trap
	maxSubjects  = 1024
)

func (b *breaker) time() time.Time {
	if b.now != nil {
		return b.now()
	}
	return time.Now()
}

func (b *breaker) check(w who, task string) error {
	until := b.until.Load()
	if until == 0 {
		return nil
	}
	now := b.time()
	if now.UnixNano() >= until {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.by[w]; t != nil && now.Before(t.until) || now.Before(b.tasks[task]) || now.Before(b.all) {
		return errBroken
	}
	return nil
}

func (b *breaker) trapped(w who, task string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.time()
	if b.by == nil {
		b.by, b.tasks = map[who]*trips{}, map[string]time.Time{}
	}
	t := b.by[w]
	if t == nil {
		b.forget(now)
		t = &trips{}
		b.by[w] = t
	}
	if now.Sub(t.last) > forgiven {
		t.count = 0
	}
	t.count++
	t.task, t.last = task, now
	if t.count < tripsAllowed {
		return
	}
	t.until = now.Add(min(maxRest, time.Second<<min(t.count-tripsAllowed, 6)))
	inTask, resting := 0, 0
	for _, other := range b.by {
		if now.Before(other.until) {
			if resting++; other.task == task {
				inTask++
			}
		}
	}
	if inTask >= tripsTask {
		b.tasks[task] = t.until
	}
	if resting >= tripsMany {
		b.all = t.until
	}
	b.until.Store(max(b.until.Load(), t.until.UnixNano()))
}

// forget makes room for one subject more.
func (b *breaker) forget(now time.Time) {
	if len(b.by) < maxSubjects {
		return
	}
	for w, t := range b.by {
		if now.Sub(t.last) > forgiven {
			delete(b.by, w)
		}
	}
	for task, until := range b.tasks {
		if !now.Before(until) {
			delete(b.tasks, task)
		}
	}
	if len(b.by) >= maxSubjects { // so many at once: everyone rests, and all start anew
		b.all = now.Add(maxRest)
		b.until.Store(b.all.UnixNano())
		clear(b.by)
	}
}
