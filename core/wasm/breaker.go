package wasm

import (
	"errors"
	"sync"
	"time"
)

// errBroken is what a subject gets whose input broke the module again and again.
var errBroken = errors.New("the guard failed too often for you and rests for a while")

// breaker refuses without a call where a module traps again and again: for one
// subject, so that its poisonous input does not close the gateway to others,
// and for everyone only where it traps for many.
type breaker struct {
	mu   sync.Mutex
	by   map[string]*trips
	now  func() time.Time // nil is time.Now
	many time.Time        // refuse everyone until then
}

type trips struct {
	count int
	until time.Time
}

const (
	tripsAllowed = 3
	tripsMany    = 8 // subjects that rest at the same time
	maxRest      = time.Minute
	maxSubjects  = 1024
)

func (b *breaker) time() time.Time {
	if b.now != nil {
		return b.now()
	}
	return time.Now()
}

func (b *breaker) check(subject string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		return nil
	}
	now := b.time()
	if t := b.by[subject]; t != nil && now.Before(t.until) || now.Before(b.many) {
		return errBroken
	}
	return nil
}

func (b *breaker) trapped(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil || len(b.by) > maxSubjects {
		b.by = map[string]*trips{}
	}
	t := b.by[subject]
	if t == nil {
		t = &trips{}
		b.by[subject] = t
	}
	now := b.time()
	if t.count++; t.count < tripsAllowed {
		return
	}
	t.until = now.Add(min(maxRest, time.Second<<min(t.count-tripsAllowed, 6)))
	resting := 0
	for _, other := range b.by {
		if now.Before(other.until) {
			resting++
		}
	}
	if resting >= tripsMany {
		b.many = t.until
	}
}

func (b *breaker) fine(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.by, subject)
}
