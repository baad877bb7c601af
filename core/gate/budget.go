package gate

import (
	"net"
	"sync"
	"time"
)

// What one may leave in the log by being refused, in one window. Refusals are
// recorded one by one, and so who is refused on purpose could fill the disk for
// everybody.
const (
	window        = time.Minute
	maxDenials    = 1000    // refused commands of one subject
	maxDenialSize = 8 << 20 // bytes of their texts
	maxRefusals   = 100     // failed logins from one address that are recorded singly
)

// budget counts by key in windows.
type budget struct {
	mu    sync.Mutex
	spent map[string]*spent
	swept time.Time // when windows were last looked at
}

type spent struct {
	since    time.Time
	n, bytes int
}

// take counts one and gives what its key has spent in this window. ended are
// windows that are over, and what was spent in them.
func (b *budget) take(key string, bytes int, now time.Time) (have spent, ended map[string]spent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent == nil {
		b.spent = map[string]*spent{}
	}
	if now.Sub(b.swept) >= window { // the map does not grow with who was here once
		b.swept = now
		for k, s := range b.spent {
			if now.Sub(s.since) < window {
				continue
			}
			if ended == nil {
				ended = map[string]spent{}
			}
			ended[k] = *s
			delete(b.spent, k)
		}
	}
	s := b.spent[key]
	if s == nil || now.Sub(s.since) >= window {
		if s != nil {
			ended = map[string]spent{key: *s}
		}
		s = &spent{since: now}
		b.spent[key] = s
	}
	s.n++
	s.bytes += bytes
	return *s, ended
}

// over says whether a key has spent what it may.
func (b *budget) over(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.spent[key]
	return s != nil && now.Sub(s.since) < window && (s.n > maxDenials || s.bytes > maxDenialSize)
}

// refused counts a refused command of so many bytes, and ends the session whose
// subject is refused too often.
func (s *Session) refused(size int) {
	have, _ := s.gate.denials.take(s.abi.Issuer+"\x00"+s.abi.Subject, size, s.gate.now())
	if have.n > maxDenials || have.bytes > maxDenialSize {
		s.end(&Ended{Reason: "too many refused commands: come back in a minute"})
	}
}

// host is the address without its port: who comes again comes from another.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
