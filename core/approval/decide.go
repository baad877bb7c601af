package approval

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// Decide takes what a person says to a request: it counts once it is in the log
// and in the store. It gives the card as it is then. Its error is an *Error.
func (s *Service) Decide(ctx context.Context, id string, who Person, approve bool, reason, code string) (*Card, error) {
	_, done := s.alone(id)
	defer done()
	c, err := s.card(ctx, id, &who)
	if err != nil {
		return nil, err
	}
	at := s.now()
	reason = strings.TrimSpace(reason)
	if err := s.may(c, &who, at, reason, code); err != nil {
		return nil, err
	}
	v := Voice{Issuer: who.Issuer, Subject: who.Subject, Groups: list(who.Groups), Approve: approve, Reason: reason, At: at.UTC()}
	next := c.moved(gate.Waiting, "", at)
	next.Voices = append(slices.Clone(c.Voices), v)
	switch met := s.count(next); {
	case !approve:
		next = next.moved(gate.Refused, reason, at)
	case met:
		next = next.moved(gate.Approved, "", at)
	}
	// From here on whoever decides may go away: it is carried through.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer stop()
	if err := s.write(ctx, c, &v, next.State); err != nil {
		return nil, err
	}
	s.tell(map[bool]string{true: "approve", false: "deny"}[approve], next)
	switch next.State {
	case gate.Refused:
		s.forget(id)
	case gate.Approved:
		s.mu.Lock()
		if l := s.live[id]; l != nil {
			l.approved.Store(next)
			l.wake()
		}
		s.mu.Unlock()
	}
	return next, nil
}

// may holds a decision against all that it has to keep.
func (s *Service) may(c *Card, who *Person, at time.Time, reason, code string) error {
	counts := slices.ContainsFunc(c.Needs, func(n Need) bool { return who.in(n.Groups) })
	switch {
	case c.State != gate.Waiting:
		return &Error{Kind: Over, Message: "the request is over: " + string(c.State), Hint: "what runs now needs a request of its own"}
	case !at.Before(c.Until):
		return &Error{Kind: Over, Message: "the request's time is over since " + c.Until.UTC().Format(time.RFC3339), Hint: "its session can ask again"}
	case s.key(who.Issuer, who.Subject) == s.key(c.Issuer, c.Subject):
		return &Error{Kind: Self, Message: "it is your own request", Hint: "somebody else has to decide it: it needs " + c.asked()}
	case !counts:
		return &Error{Kind: Group, Message: "you are in none of the groups that it asks", Hint: "it asks " + c.asked()}
	case subtle.ConstantTimeCompare([]byte(strings.ToLower(strings.TrimSpace(code))), []byte(c.Code)) != 1:
		return &Error{Kind: Code, Message: "the code is not that of the card", Hint: "open the card, read what would run, and give the code that it shows"}
	}
	if err := readable(reason); err != nil {
		return err
	}
	if slices.ContainsFunc(c.Voices, func(v Voice) bool { return s.key(v.Issuer, v.Subject) == s.key(who.Issuer, who.Subject) }) {
		return &Error{Kind: Twice, Message: "you have decided already", Hint: "each person counts once"}
	}
	return nil
}

// asked says in words whom a request asks.
func (c *Card) asked() string {
	var all []string
	for _, n := range c.Needs {
		all = append(all, gate.Need{Requirement: abi.Requirement{Groups: n.Groups, People: uint32(n.People)}}.String())
	}
	return strings.Join(all, ", and ")
}

// readable says whether a reason can be taken.
func readable(reason string) error {
	n := utf8.RuneCountInString(reason)
	found := strange(reason)
	switch {
	case reason == "":
		return &Error{Kind: Reason, Message: "there is no reason", Hint: "say in a few words why"}
	case n > MaxReason:
		return &Error{Kind: Reason, Message: fmt.Sprintf("a reason of %d characters", n), Hint: fmt.Sprintf("at most %d", MaxReason)}
	case strings.ContainsAny(reason, "\n\t"):
		return &Error{Kind: Reason, Message: "the reason has more than one line, or tabs", Hint: "write it as one line"}
	case len(found) > 0:
		return &Error{Kind: Reason, Message: "the reason holds characters that are not seen: " + strings.Join(found, " "), Hint: "leave them out"}
	}
	return nil
}

// write puts a decision in the log, on disk, and then in the store.
func (s *Service) write(ctx context.Context, c *Card, v *Voice, next State) error {
	said := voice(v, v.Groups)
	r := &gate.Request{ID: c.ID, Session: &abi.Session{ID: c.Session}}
	if _, err := hex.Decode(r.Binding[:], []byte(c.Binding)); err != nil {
		return &Error{Kind: Failed, Message: "the request cannot be read", Err: err}
	}
	if err := s.Log.Append(ctx, gate.Decision(v.At, r, &said), true); err != nil {
		return &Error{Kind: Failed, Message: "it cannot be recorded, and does not count", Hint: "try again later, and tell the operator", Err: err}
	}
	err := ErrOver
	if s.now().Before(c.Until) { // the disk may have taken its time
		err = s.Store.AddVoice(ctx, c.ID, s.key(v.Issuer, v.Subject), *v, next)
	}
	if err == nil {
		return nil
	}
	_ = s.Log.Append(ctx, gate.Note(s.now(), "gateway", fmt.Sprintf("what %s said to request %s does not count: %v", v.Subject, c.ID, err)), false)
	switch {
	case errors.Is(err, ErrOver):
		return &Error{Kind: Over, Message: "the request was over first", Hint: "open it to see how it ended", Err: err}
	case errors.Is(err, ErrTwice):
		return &Error{Kind: Twice, Message: "you have decided already", Hint: "each person counts once", Err: err}
	}
	return &Error{Kind: Failed, Message: "it cannot be kept, and does not count", Hint: "try again later, and tell the operator", Err: err}
}
