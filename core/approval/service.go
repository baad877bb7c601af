package approval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// live is a request that is not over and that somebody of this process waits for.
type live struct {
	mu       sync.Mutex           // one outcome at a time: it is held over log and store
	woken    chan struct{}        // closed when the request has come to something
	approved atomic.Pointer[Card] // what this process has put in the store, so that it need not be read again
	who      string
	timer    *time.Timer
	over     atomic.Bool // withdrawn, whatever the store could be told
}

// Start ends what an earlier run has left open. It comes before anything is asked.
func (s *Service) Start(ctx context.Context) error {
	const why = "the gateway was restarted"
	if err := s.Store.Forsake(ctx); err != nil {
		return fmt.Errorf("approval: %w", err)
	}
	open, err := s.Store.Requests(ctx, true, 1<<30)
	if err != nil {
		return fmt.Errorf("approval: %w", err)
	}
	for _, c := range open {
		now := s.now()
		if err := s.Log.Append(ctx, gate.Settled(now, c.Session, c.ID, gate.Withdrawn, why), true); err != nil {
			return fmt.Errorf("approval: %w", err)
		}
		if err := s.Store.Move(ctx, c.ID, []State{gate.Waiting, gate.Approved}, gate.Withdrawn, why, now); err != nil {
			return fmt.Errorf("approval: %w", err)
		}
		s.tell(string(gate.Withdrawn), c.moved(gate.Withdrawn, why, now))
	}
	return nil
}

// moved is the card once it has come to a state.
func (c *Card) moved(next State, why string, at time.Time) *Card {
	n := *c
	n.State = next
	if next != gate.Waiting && next != gate.Approved {
		n.Why = why
		at = at.UTC()
		n.Ended = &at
	}
	return &n
}

// begun gives the maps; s.mu is held.
func (s *Service) begun() {
	if s.live == nil {
		s.live, s.changed, s.ended = map[string]*live{}, make(chan struct{}), map[State]uint64{}
		s.seq = uint64(s.now().UnixMilli()) // so that no number of an earlier run is ahead
	}
}

// of gives the live request, nil where nobody waits for it here.
func (s *Service) of(id string) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}

// alone holds off every other outcome of a request. Those that nobody waits for
// here have none to race with but in the store.
func (s *Service) alone(id string) (*live, func()) {
	l := s.of(id)
	if l == nil {
		l = &live{}
	}
	l.mu.Lock()
	return l, l.mu.Unlock
}

// Ask implements gate.Approver: the request is in the store, and whoever may
// decide is told, when it returns.
func (s *Service) Ask(ctx context.Context, r *gate.Request) error {
	c := newCard(r)
	l := &live{woken: make(chan struct{}), who: s.key(c.Issuer, c.Subject)}
	if err := s.admit(c.ID, l); err != nil {
		return err
	}
	if err := s.Store.AddRequest(ctx, c); err != nil {
		s.mu.Lock()
		delete(s.live, c.ID)
		s.mu.Unlock()
		return fmt.Errorf("approval: %w", err)
	}
	s.tell("asked", c)
	s.mu.Lock()
	if s.live[c.ID] == l {
		l.timer = time.AfterFunc(c.Until.Sub(s.now()), func() { s.expire(c.ID) })
	}
	s.mu.Unlock()
	_ = s.Store.Forget(ctx, s.now().Add(-Keep), MaxKept) // what could not go now goes with the next
	return nil
}

// admit bounds what waits.
func (s *Service) admit(id string, l *live) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun()
	of := 0
	for _, x := range s.live {
		if x.who == l.who {
			of++
		}
	}
	full := func(message, hint string) error {
		return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.hold", Message: message, Hint: hint}}
	}
	switch {
	case of >= MaxWaitingOne:
		return full(fmt.Sprintf("%d of your commands wait for approval already", of), "cancel one, or wait until one is decided")
	case len(s.live) >= MaxWaiting:
		return full("too many commands wait for approval", "try again later")
	case s.live[id] != nil:
		return fmt.Errorf("approval: request %s has been asked already", id)
	}
	s.live[id] = l
	return nil
}

// expire ends a request whose time is over.
func (s *Service) expire(id string) {
	l, done := s.alone(id)
	defer done()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	c, err := s.Store.Request(ctx, id)
	if err != nil || l.over.Load() || c.State != gate.Waiting && c.State != gate.Approved {
		s.forget(id) // what waits is told by the gate's own clock
		return
	}
	if left := c.Until.Sub(s.now()); left > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.timer != nil {
			l.timer.Reset(left)
		}
		return
	}
	_ = s.move(ctx, c, []State{gate.Waiting, gate.Approved}, gate.Expired, "its time was over")
}

// patience is how long log and store may take once something has been decided,
// whoever has gone away meanwhile.
const patience = 15 * time.Second

// move brings a request to its end, in the store and for whoever waits.
func (s *Service) move(ctx context.Context, c *Card, from []State, next State, why string) error {
	now := s.now()
	if err := s.Store.Move(ctx, c.ID, from, next, why, now); err != nil {
		return err
	}
	s.forget(c.ID)
	s.tell(string(next), c.moved(next, why, now))
	return nil
}

// forget is of a request that nothing more comes of.
func (s *Service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.live[id]; l != nil {
		if l.timer != nil {
			l.timer.Stop()
		}
		delete(s.live, id)
		l.wake()
	}
}

// wake is called under the service's mutex.
func (l *live) wake() {
	select {
	case <-l.woken:
	default:
		close(l.woken)
	}
}

// Wait implements gate.Approver. While the store cannot be read the request
// stays held.
func (s *Service) Wait(ctx context.Context, id string) (gate.Decided, error) {
	for {
		l := s.of(id)
		c, err := s.current(ctx, l, id)
		switch {
		case errors.Is(err, ErrUnknown) || err != nil && l == nil:
			return gate.Decided{}, fmt.Errorf("approval: request %s: %w", id, err)
		case err != nil: // it is asked again with the next wait
			<-ctx.Done()
			return gate.Decided{}, ctx.Err()
		case c.State != gate.Waiting:
			return c.decided(), nil
		case !s.now().Before(c.Until):
			return gate.Decided{State: gate.Expired}, nil
		case l == nil:
			return gate.Decided{}, fmt.Errorf("approval: request %s: nobody waits for it here", id)
		}
		select {
		case <-l.woken:
		case <-ctx.Done():
			return gate.Decided{}, ctx.Err()
		}
	}
}

// current is the request as it stands. What came of an approval that another
// service has ended meanwhile, Move finds.
func (s *Service) current(ctx context.Context, l *live, id string) (*Card, error) {
	if l != nil {
		if c := l.approved.Load(); c != nil {
			return c, nil
		}
	}
	return s.Store.Request(ctx, id)
}

func (c *Card) decided() gate.Decided {
	d := gate.Decided{State: c.State, Reason: c.Why}
	for i := range c.Voices {
		d.Voices = append(d.Voices, voice(&c.Voices[i], c.Voices[i].Groups))
	}
	return d
}

func voice(v *Voice, groups []string) abi.Voice {
	return abi.Voice{Issuer: v.Issuer, Subject: v.Subject, Groups: groups, Approve: v.Approve, Reason: v.Reason, At: v.At.UnixNano()}
}

// Spend implements gate.Approver.
func (s *Service) Spend(ctx context.Context, id string) (gate.Decided, error) {
	l, done := s.alone(id)
	defer done()
	d, err := s.spend(ctx, l, id)
	if errors.Is(err, ErrOver) && l.approved.Swap(nil) != nil { // another service was first
		d, err = s.spend(ctx, l, id)
	}
	return d, err
}

func (s *Service) spend(ctx context.Context, l *live, id string) (gate.Decided, error) {
	c, err := s.current(ctx, l, id)
	switch {
	case err != nil:
		return gate.Decided{}, fmt.Errorf("approval: request %s: %w", id, err)
	case l.over.Load():
		return gate.Decided{State: gate.Withdrawn, Reason: "it was withdrawn"}, nil
	case c.State == gate.Used:
		return gate.Decided{State: gate.Withdrawn, Reason: "its approval has been used"}, nil
	case c.State != gate.Approved:
		return c.decided(), nil
	}
	voices, why := s.confirm(ctx, c)
	if !s.now().Before(c.Until) { // asking may have taken its time
		if err := s.move(ctx, c, []State{gate.Approved}, gate.Expired, "its time was over"); err != nil && !errors.Is(err, ErrOver) {
			return gate.Decided{}, fmt.Errorf("approval: request %s: %w", id, err)
		}
		return gate.Decided{State: gate.Expired}, nil
	}
	if why != "" {
		if err := s.move(ctx, c, []State{gate.Approved}, gate.Withdrawn, why); err != nil && !errors.Is(err, ErrOver) {
			return gate.Decided{}, fmt.Errorf("approval: request %s: %w", id, err)
		}
		return gate.Decided{State: gate.Withdrawn, Reason: why}, nil
	}
	if err := s.move(ctx, c, []State{gate.Approved}, gate.Used, ""); err != nil {
		return gate.Decided{}, fmt.Errorf("approval: request %s: %w", id, err)
	}
	return gate.Decided{State: gate.Used, Voices: voices}, nil
}

// confirm asks anew for the groups of all who have approved, and gives the
// voices that still count; why is empty where they are enough.
func (s *Service) confirm(ctx context.Context, c *Card) (voices []abi.Voice, why string) {
	now := *c
	now.Voices = nil
	for _, v := range c.Voices {
		if !v.Approve {
			continue
		}
		var groups []string
		err := errors.New("nobody can be asked")
		if s.Groups != nil {
			groups, err = s.Groups(ctx, v.Issuer, v.Subject)
		}
		if err != nil {
			why = fmt.Sprintf("whether %s may still approve cannot be found out", v.Subject)
			continue
		}
		v.Groups = groups
		if !slices.ContainsFunc(c.Needs, func(n Need) bool { return (&Person{Groups: groups}).in(n.Groups) }) {
			why = fmt.Sprintf("%s may no longer approve it", v.Subject)
			continue
		}
		now.Voices = append(now.Voices, v)
		voices = append(voices, voice(&v, groups))
	}
	if s.count(&now) {
		return voices, ""
	}
	if why == "" {
		why = "those who have approved it are no longer enough"
	}
	return nil, why
}

// count counts people, and says whether every need is met: each of them once for
// each need, and never who asks.
func (s *Service) count(c *Card) bool {
	all := len(c.Needs) > 0
	c.Needs = slices.Clone(c.Needs)
	self := s.key(c.Issuer, c.Subject)
	for i := range c.Needs {
		n := &c.Needs[i]
		people := map[string]bool{}
		for _, v := range c.Voices {
			if k := s.key(v.Issuer, v.Subject); v.Approve && k != self && (&Person{Groups: v.Groups}).in(n.Groups) {
				people[k] = true
			}
		}
		n.Have = len(people)
		n.Met = n.Have >= max(n.People, 1)
		all = all && n.Met
	}
	return all
}

// Withdraw implements gate.Approver. What was approved and then not let go is
// withdrawn as well; what is over stays as it is.
func (s *Service) Withdraw(ctx context.Context, id, why string) error {
	l, done := s.alone(id)
	defer done()
	l.over.Store(true)
	c, err := s.Store.Request(ctx, id)
	if err == nil {
		err = s.move(ctx, c, []State{gate.Waiting, gate.Approved, gate.Used}, gate.Withdrawn, why)
	}
	if errors.Is(err, ErrOver) { // another service may have ended it
		s.forget(id)
		return nil
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("approval: request %s: %w", id, err)
}

// Ran notes which command used a request, and how it ended.
func (s *Service) Ran(ctx context.Context, id string, command uint64, outcome string) error {
	_, done := s.alone(id)
	defer done()
	if err := s.Store.Ran(ctx, id, command, outcome); err != nil {
		return fmt.Errorf("approval: request %s: %w", id, err)
	}
	c, err := s.Store.Request(ctx, id)
	if err != nil {
		return fmt.Errorf("approval: request %s: %w", id, err)
	}
	s.tell(outcome, c)
	return nil
}

// Counts gives them.
func (s *Service) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{Waiting: len(s.live), Ended: map[State]uint64{}}
	for state, n := range s.ended {
		c.Ended[state] = n
	}
	return c
}
