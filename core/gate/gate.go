// Package gate is the waist of taskgate. A protocol reaches its upstream
// through Open, Dial, Ambient, Submit (or TrySubmit), Result and Done, and in
// no other way; so what those hold, holds for every protocol.
package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// A Protocol speaks to one client until it leaves. Serve owns conn and closes
// it. It returns nil where the client said goodbye.
type Protocol interface {
	Serve(ctx context.Context, conn net.Conn, g *Gate) error
}

// A Guard judges commands. It is safe for concurrent use. A verdict that it
// hands out is immutable; an error means Deny.
type Guard interface {
	Name() string
	Digest() string // SHA-256 of the module, hexadecimal
	May() abi.May
	Inputs() abi.Inputs
	SessionOpen(ctx context.Context, s *abi.Session) (*abi.Verdict, error)
	SessionClose(s *abi.Session)
	Command(ctx context.Context, c *abi.Command) (*abi.Verdict, error)
	// TryCommand is Command where nothing has to be waited for; false leaves it to Command.
	TryCommand(c *abi.Command) (*abi.Verdict, bool)
	// Results says whether the guard looks at results; ResultSchema gives its plan for one.
	Results() bool
	ResultSchema(ctx context.Context, c *abi.Command, s *abi.ResultSchema) (*abi.MaskPlan, error)
	// ResultBatch masks the cells of the columns that a plan of its own calls
	// CUSTOM. What it answers is valid until it is called again. A batch of no rows
	// asks whether it does that at all.
	ResultBatch(ctx context.Context, s *abi.Session, b *abi.Batch) (*abi.Batch, error)
	// Approvals says whether the guard wants to be asked about requests that its
	// REVIEW is a part of; Approval gives Deny where such a one has to end.
	Approvals() bool
	Approval(ctx context.Context, a *abi.Approval) (*abi.Verdict, error)
}

// A Log keeps the chained record of decisions. The record has been handed to
// the operating system when Append returns, and is on disk where durable is
// set. An error means that nothing more may be let through.
type Log interface {
	Append(ctx context.Context, record []byte, durable bool) error
	// TryAppend never waits for the disk or a new segment; false leaves it to Append.
	// now is what the clock says.
	TryAppend(record []byte, now time.Time) bool
}

// A Recorder keeps recordings, one for each session.
type Recorder interface {
	Record(session string) (Recording, error)
}

// A Recording takes the events of one session in order. Append copies the
// event and does not wait for the disk unless too much is outstanding. Head is
// how many bytes of each result it wants to keep.
type Recording interface {
	Append(event []byte) error
	Head() int
	Close() error
}

// A Dialer connects to a resource.
type Dialer interface {
	Dial(ctx context.Context, r *Resource, login string) (Upstream, error)
}

// Identity turns a login into a grant. A *Denied that comes with a grant is told
// to the client, who has shown that subject; any other error is for the log.
type Identity interface {
	Authenticate(ctx context.Context, l Login) (Grant, error)
}

// Login is what a client's handshake tells.
type Login struct {
	Protocol string
	Task     string
	Resource string
	Secret   string // a token; never logged

	// Certificate is an SSH certificate in its wire form whose private key the
	// client has shown to have. It stands in the place of the secret.
	Certificate []byte

	Address string // the client's
}

// String leaves the secret out.
func (l Login) String() string {
	return fmt.Sprintf("%s task %q on %q from %s", l.Protocol, l.Task, l.Resource, l.Address)
}

// Grant is the present right of a subject to the tasks of its groups.
type Grant struct {
	Issuer  string
	Subject string
	Groups  []string
	Expires time.Time // the zero time is no right at all
	Source  string    // "token", "login", …
	Login   string    // names the login whose groups may change while connected (Regroup), may be empty
	Notice  string    // for the client at login, may be empty
}

// Credential is an error of the gateway's own login at a resource: it cannot be
// had, or is not taken there.
type Credential struct{ Err error }

func (c *Credential) Error() string { return c.Err.Error() }
func (c *Credential) Unwrap() error { return c.Err }

// Upstream is a connection to a resource and what opens it. Its String is
// redacted.
type Upstream struct {
	Conn     net.Conn
	TLS      any // of the protocol; nil is plain
	Auth     any // what else opens it, of the protocol
	User     string
	Password string
	Database string
}

// String leaves the password out.
func (u Upstream) String() string { return fmt.Sprintf("%s@%s", u.User, u.Database) }

// Resource is something behind the gateway.
type Resource struct {
	Name     string
	Protocol string
	Address  string
	Database string
	Options  any    // of the protocol
	Digest   string // of all that was written of it
}

// Task is what the gate itself has to know of a task: who may do it, where and
// how long. Its rules are the guards' matter.
type Task struct {
	Name      string
	Groups    []string // any of them gives the task
	Resources []string
	Login     string
	Session   time.Duration // longest session; 0 is no limit
	Options   any           // of the protocol
	Digest    string        // of all that was written of it: two that are equal have not changed
}

// Denied is the refusal of a command, and the one error that a protocol shows
// its client word for word. Everything else is "internal error, session <id>".
type Denied struct {
	Decision abi.Decision
	Guard    string
	Reason   abi.Reason
}

func (d *Denied) Error() string {
	m := d.Reason.Message
	if m == "" {
		m = "not allowed"
	}
	return m
}

// ErrLogin is what an unauthenticated client is told of a failed login; the
// log knows more.
var ErrLogin = errors.New("login refused")

// Gate is what a listener hands each protocol.
type Gate struct {
	Identity Identity
	Dialer   Dialer
	Log      Log
	Recorder Recorder
	Now      func() time.Time                                                  // nil is time.Now
	Judged   func(guard string, d abi.Decision, took time.Duration, err error) // is told what each guard said; may be nil
	Refused  func(l Login, why error)                                          // is told of each failed login that is recorded singly; may be nil
	Approver Approver                                                          // nil refuses what has to be approved
	Remind   time.Duration                                                     // between two notices to a client that waits; 0 is 15 s
	Refresh  func(ctx context.Context, login string) error                     // asks for the groups of a login now, and tells Regroup; may be nil
	Ran      func(request string, command uint64, how State)                   // is told how a held command ended, again once its transaction did; may be nil
	MaskKey  func(task, name string) []byte                                    // the key of a mask by name, of the task where that is empty

	current  atomic.Pointer[Generation]
	number   atomic.Uint64
	mu       sync.Mutex
	sessions map[string]*Session
	draining error

	past                          uint64 // commands of sessions that have ended, under mu
	denied, held, opened, refused atomic.Uint64

	denials budget // refused commands, by subject
	failed  budget // failed logins, by address
}

// Counts are what the gate has counted since it was made.
type Counts struct{ Commands, Denied, Held, Opened, LoginsRefused uint64 }

// Counts gives them.
func (g *Gate) Counts() Counts {
	denied, held := g.denied.Load(), g.held.Load() // before the commands, of which they are a part
	g.mu.Lock()
	defer g.mu.Unlock()
	commands := g.past
	for _, s := range g.sessions {
		commands += s.commands.Load()
	}
	return Counts{commands, denied, held, g.opened.Load(), g.refused.Load()}
}

func (g *Gate) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// Sessions gives the open sessions, in no order.
func (g *Gate) Sessions() []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		list = append(list, s)
	}
	return list
}

// Kill ends the sessions that match, telling each client why. It returns how
// many there were.
func (g *Gate) Kill(why string, match func(*Session) bool) int {
	n := 0
	for _, s := range g.Sessions() {
		if match(s) {
			s.End(&Ended{Reason: why})
			n++
		}
	}
	return n
}

// Drain refuses new sessions from now on.
func (g *Gate) Drain(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = why
}

// Ended is why a session had to end: its client is told in its protocol's
// words, and an open transaction is rolled back.
type Ended struct {
	Reason   string
	Shutdown bool // the gateway itself is going away
}

func (e *Ended) Error() string { return e.Reason }
