// Package approval keeps the requests that wait for people, hears what they
// decide, and counts them. It implements gate.Approver. The order of truth is
// the audit log, then the store, then whoever waits.
package approval

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// The bounds of what may wait.
const (
	MaxWaiting    = 1000 // in all
	MaxWaitingOne = 8    // of one subject
	MaxReason     = 1000 // characters
	MaxListed     = 200  // requests of a list, the newest
	maxChanges    = 1000 // ended requests whose change a watcher can still be told of
)

// How long requests that have ended stay, and how many.
const (
	Keep    = 30 * 24 * time.Hour
	MaxKept = 5000
)

// Store keeps requests. What a call that returned nil has written is on disk.
type Store interface {
	// AddRequest adds one that waits.
	AddRequest(ctx context.Context, c *Card) error
	// Forget takes out requests that ended before a time, and the oldest of more
	// that have ended than so many.
	Forget(ctx context.Context, before time.Time, most int) error
	// Request gives one with its voices, ErrUnknown where there is none.
	Request(ctx context.Context, id string) (*Card, error)
	// Requests gives the newest of them, slim and with their voices, at most n;
	// those that wait or are approved and not used where open is set.
	Requests(ctx context.Context, open bool, n int) ([]*Card, error)
	// AddVoice adds what a person has said to a request that waits, and makes it
	// next, in one: ErrOver where it does not wait or its time is over, ErrTwice
	// where that person has spoken. The request ends with it where next is an end.
	AddVoice(ctx context.Context, id, person string, v Voice, next State) error
	// Move makes a request next where it is one of from and, where next is
	// gate.Used, its time is not over: ErrOver otherwise.
	Move(ctx context.Context, id string, from []State, next State, why string, at time.Time) error
	// Ran notes which command used a request and how it ended.
	Ran(ctx context.Context, id string, command uint64, outcome string) error
	// Act keeps the id of a signed action until a time, and forgets those that are
	// over by now: ErrTwice where it is there, ErrMany where so many are. Unact
	// forgets one that came to nothing.
	Act(ctx context.Context, id string, now, until time.Time, most int) error
	Unact(ctx context.Context, id string) error
	// Forsake makes unknown what became of the commands of which nobody will be
	// told any more: those of an earlier run.
	Forsake(ctx context.Context) error
}

// What a Store says of a request or an action.
var (
	ErrUnknown = errors.New("approval: no such request")
	ErrOver    = errors.New("approval: the request is over")
	ErrTwice   = errors.New("approval: that person has spoken")
	ErrMany    = errors.New("approval: too many at once")
)

// Event is told to Notify and to watchers.
type Event struct {
	Seq  uint64
	What string // asked, approve, deny: what somebody said; or the state it came to
	Card *Card  // as it is then; it must not be changed
}

// Service keeps requests and hears people. Its fields are set before it is used.
type Service struct {
	Store Store
	Log   gate.Log
	Now   func() time.Time // nil is time.Now

	// Groups gives the groups that a person has now, asked anew; an error where
	// that cannot be found out. Those who cannot be confirmed do not count.
	Groups func(ctx context.Context, issuer, subject string) ([]string, error)
	// Directory names the people that an issuer's subjects are of: equal subjects
	// of two issuers with one name are one person. Nil is one for all.
	Directory func(issuer string) string
	// Notify is told of what happens, in order. It must not wait. It may be nil.
	Notify func(Event)

	mu      sync.Mutex
	live    map[string]*live // by id
	seq     uint64           // of the last change
	changes []change         // newest last
	changed chan struct{}    // closed with each change
	ended   map[State]uint64
}

// Counts are what the service has counted since it was made.
type Counts struct {
	Waiting int
	Ended   map[State]uint64
}

func (s *Service) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Kind tells why a decision does not count.
type Kind string

// The kinds.
const (
	Unknown Kind = "unknown" // there is none, or none that this person may see
	Over    Kind = "over"    // it has been decided, is over, or was withdrawn
	Self    Kind = "self"    // nobody decides what they ask for themselves
	Group   Kind = "group"   // no requirement counts this person
	Code    Kind = "code"    // it is not the card's
	Reason  Kind = "reason"  // there is none, or it cannot be taken
	Twice   Kind = "twice"   // this person has spoken
	Failed  Kind = "failed"  // it could not be written down
)

// Error is why a decision does not count, and what helps.
type Error struct {
	Kind    Kind
	Message string
	Hint    string
	Err     error // for the log; may be nil
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }
