package gate

import (
	"context"
	"slices"

	"github.com/taskgate/taskgate/abi"
)

// Rest says that nothing of the exchange runs until Run: a portal is bound, or
// suspended.
func (e *Exchange) Rest() { e.resting.Store(true) }

// Run says that it runs again.
func (e *Exchange) Run() { e.resting.Store(false) }

// rejudge holds what runs or waits in a session against a new generation: an
// equal verdict lets it go on. Another one ends a hold, and the session where
// something runs, since what has begun cannot be refused any more.
func (s *Session) rejudge(gen *Generation) {
	type running struct {
		e *Exchange
		c abi.Command
	}
	var list []running
	s.mu.Lock()
	for e := s.open; e != nil; e = e.after {
		if e.gen != gen && e.phase == abi.Execute && !e.resting.Load() {
			list = append(list, running{e, abi.Command{Phase: e.phase, Statement: e.statement, Time: s.gate.now().UnixNano(), Session: s.abi}})
		}
	}
	held := slices.Clone(s.waiting)
	s.mu.Unlock()
	for _, h := range held {
		if !s.still(context.WithoutCancel(s.ctx), gen, h) {
			h.end(errChanged)
		}
	}
	for i := range list {
		r := &list[i]
		v, _, _, guarded := s.judge(context.WithoutCancel(s.ctx), gen, &r.c)
		allowed := v.Decision == abi.Allow || v.Decision == abi.Review && r.e.held != ""
		v.Decision = r.e.verdict.Decision
		if gen.inputs&abi.InputParams == 0 && allowed && equal(v, *r.e.verdict) && guarded.same(r.e.guarded) {
			continue
		}
		s.mu.Lock()
		over := r.e.done
		s.mu.Unlock()
		if !over {
			s.End(&Ended{Reason: "the policy has changed, and what was running is not allowed as it was"})
			return
		}
	}
}
