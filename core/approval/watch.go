package approval

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/gate"
)

// change is the last that happened to a request.
type change struct {
	seq  uint64
	card *Card // a slim one
}

// tell notes what happened, for watchers and Notify.
func (s *Service) tell(what string, c *Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun()
	s.count(c)
	s.seq++
	switch c.State {
	case gate.Waiting, gate.Approved:
	default:
		if what == string(c.State) || c.State == gate.Refused {
			s.ended[c.State]++
		}
	}
	s.changes = slices.DeleteFunc(s.changes, func(x change) bool { return x.card.ID == c.ID })
	if len(s.changes) >= maxChanges {
		s.changes = slices.Delete(s.changes, 0, 1)
	}
	s.changes = append(s.changes, change{s.seq, c.Slim()})
	close(s.changed)
	s.changed = make(chan struct{})
	if s.Notify != nil {
		s.Notify(Event{s.seq, what, c})
	}
}

// Slim is what a list needs of a card.
func (c *Card) Slim() *Card {
	n := *c
	n.Canonical, n.Operations, n.Params, n.Earlier, n.Payload = "", nil, nil, nil, nil
	if len(n.Text) > 4*(briefly+1) {
		n.Text = strings.Clone(n.Text[:4*(briefly+1)]) // cut within a character, where it is not shown
	}
	return &n
}

// sees says whether a person may know of a request: who asked for it, may
// decide it or has, or has the role.
func (s *Service) sees(c *Card, who *Person) bool {
	return who.All || who.is(c.Issuer, c.Subject) ||
		slices.ContainsFunc(c.Needs, func(n Need) bool { return who.in(n.Groups) }) ||
		slices.ContainsFunc(c.Voices, func(v Voice) bool { return who.is(v.Issuer, v.Subject) })
}

// card reads a request for a person. Its time is over by our own clock, whatever
// the store has been told.
func (s *Service) card(ctx context.Context, id string, who *Person) (*Card, error) {
	c, err := s.Store.Request(ctx, id)
	switch {
	case err != nil && !errors.Is(err, ErrUnknown):
		return nil, &Error{Kind: Failed, Message: "the request cannot be read now", Hint: "try again later", Err: err}
	case err != nil || !s.sees(c, who):
		return nil, &Error{Kind: Unknown, Message: "no such request, or none that you may see", Hint: "`taskgate approvals --all` lists those that you may see"}
	}
	s.present(c)
	return c, nil
}

func (s *Service) present(c *Card) {
	s.count(c)
	if l := s.of(c.ID); l != nil && l.over.Load() {
		c.State = gate.Withdrawn
	}
	if (c.State == gate.Waiting || c.State == gate.Approved) && !s.now().Before(c.Until) {
		c.State, c.Why = gate.Expired, "its time was over"
	}
}

// Card gives a request in full.
func (s *Service) Card(ctx context.Context, id string, who Person) (*Card, error) {
	return s.card(ctx, id, &who)
}

// List gives the newest requests that a person may see: those that are not over,
// or all.
func (s *Service) List(ctx context.Context, who Person, all bool) ([]Brief, error) {
	cards, err := s.Store.Requests(ctx, !all, MaxWaiting+MaxListed)
	if err != nil {
		return nil, &Error{Kind: Failed, Message: "the requests cannot be read now", Hint: "try again later", Err: err}
	}
	out := []Brief{}
	for _, c := range cards {
		if s.present(c); s.sees(c, &who) && (all || c.State != gate.Expired) && len(out) < MaxListed {
			out = append(out, s.brief(c, &who))
		}
	}
	return out, nil
}

// brief is a card in a list for a person.
func (s *Service) brief(c *Card, who *Person) Brief {
	b := c.brief()
	b.Own = s.key(who.Issuer, who.Subject) == s.key(c.Issuer, c.Subject)
	b.MayVote = c.State == gate.Waiting && !b.Own && slices.ContainsFunc(c.Needs, func(n Need) bool { return who.in(n.Groups) }) &&
		!slices.ContainsFunc(c.Voices, func(v Voice) bool { return s.key(v.Issuer, v.Subject) == s.key(who.Issuer, who.Subject) })
	return b
}

// Watch gives what has changed, that a person may see, since a number that an
// earlier Watch gave: as soon as there is something, and nothing with the end of
// ctx. The number 0 is the beginning of this process.
func (s *Service) Watch(ctx context.Context, who Person, after uint64) (seq uint64, changed []Brief) {
	changed = []Brief{}
	for {
		s.mu.Lock()
		s.begun()
		if after > s.seq { // of another run
			after = 0
		}
		var cards []Card
		for _, x := range s.changes {
			if x.seq > after {
				cards = append(cards, *x.card)
			}
		}
		next := s.changed
		seq = s.seq
		s.mu.Unlock()
		for i := range cards {
			if c := &cards[i]; s.sees(c, &who) {
				s.present(c)
				changed = append(changed, s.brief(c, &who))
			}
		}
		if len(changed) > 0 {
			return seq, changed
		}
		select {
		case <-next:
			after = seq
		case <-ctx.Done():
			return seq, changed
		}
	}
}
