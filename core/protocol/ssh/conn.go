package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/ssh/sftp"
)

// The bounds of one connection.
const (
	maxChannels = 256         // open at once from either side, each of which may keep 4 MB in the library
	maxSessions = 64          // of them, that are sessions; of an sshd's own accord it takes 10
	maxText     = 64 << 10    // bytes of a command
	maxTexts    = 512         // statements that are remembered
	maxTextSize = 1 << 20     // bytes of their texts
	lastWrite   = time.Second // for what a client is told at the end
)

// conn is one client's connection and its host's.
type conn struct {
	p       *Protocol
	gate    *gate.Gate
	nc      net.Conn
	client  *ssh.ServerConn
	session *gate.Session
	asked   bool // a login by a browser was begun
	turned  bool // a login was refused
	known   bool // one was not

	options *ResourceOptions // of the host, as it was met: what a reload says of its shell nobody has seen here

	left    chan struct{} // closed once the client has left, or is about to be hung up on
	leave   func()        // closes it
	hosted  chan struct{} // closed once host or hostErr is set
	host    ssh.Conn
	hostErr error
	work    sync.WaitGroup // every goroutine of the connection
	ending  sync.Once
	why     error // it ended, where not by its client
	whyMu   sync.Mutex

	mu         sync.Mutex
	statements map[string]*abi.Statement
	texts      int // bytes, of their keys
	channels   map[*channel]bool
	open       int                // channels, of every kind
	sessions   int                // of them, that are sessions
	closed     bool               // no session channel is taken any more
	bound      map[string]*bound  // what the host listens for, by its kind and name
	back       map[string][]*lent // what the client lends to the host, by the kind of its channels

	room sftp.Room // of all its channels
}

// errGone is why what is under way ends with its client.
var errGone = errors.New("ssh: the client has left")

// goes runs f as a goroutine of the connection. A fault in it ends the connection.
func (c *conn) goes(f func() error) {
	c.work.Go(func() {
		if err := c.p.contain(c.session.ID(), f); err != nil {
			c.over(err)
		}
	})
}

// run serves the client until it leaves or has to.
func (c *conn) run(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) error {
	ctx := c.session.Context()
	if r, _ := c.session.Resource(); r != nil {
		c.options, _ = r.Options.(*ResourceOptions)
	}
	c.hosted, c.left = make(chan struct{}), make(chan struct{})
	c.leave = sync.OnceFunc(func() { close(c.left) })
	c.statements, c.channels = map[string]*abi.Statement{}, map[*channel]bool{}
	c.bound, c.back = map[string]*bound{}, map[string][]*lent{}
	stop := context.AfterFunc(ctx, func() { c.over(context.Cause(ctx)) })
	defer stop()
	c.goes(func() error { return c.reach(ctx) })
	c.goes(func() error { return c.globals(ctx, reqs) })
	c.goes(func() error { c.greet(); return nil })
	for nc := range chans {
		c.mu.Lock()
		session := nc.ChannelType() == "session"
		full := c.open >= maxChannels || session && c.sessions >= maxSessions
		if !full {
			c.open++
		}
		if !full && session {
			c.sessions++
		}
		c.mu.Unlock()
		if full {
			_ = nc.Reject(ssh.ResourceShortage, "taskgate: too many channels")
			continue
		}
		c.goes(func() error {
			defer func() {
				c.mu.Lock()
				c.open--
				if session {
					c.sessions--
				}
				c.mu.Unlock()
			}()
			return c.take(ctx, nc)
		})
	}
	c.hangUp()
	c.work.Wait()
	c.whyMu.Lock()
	defer c.whyMu.Unlock()
	return c.why
}

// hangUp ends the host's connection, now or as soon as it is there.
func (c *conn) hangUp() {
	c.leave()
	c.client.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.host != nil {
		c.host.Close()
	}
	for _, b := range c.bound {
		b.done()
	}
}

// over ends the connection and tells its client why.
func (c *conn) over(why error) {
	c.ending.Do(func() {
		c.whyMu.Lock()
		c.why = why
		c.whyMu.Unlock()
		line := fmt.Sprintf("ended: internal error, session %s", c.session.ID())
		var e *gate.Ended
		var s *said
		switch {
		case errors.As(why, &e):
			line = "ended: " + e.Reason
		case errors.As(why, &s):
			line = "ended: " + s.line
		default:
			c.p.log(c.session.ID(), "session of "+c.session.About().Resource, why)
		}
		_ = c.nc.SetWriteDeadline(time.Now().Add(lastWrite))
		c.mu.Lock()
		open := make([]*channel, 0, len(c.channels))
		for ch := range c.channels {
			open = append(open, ch)
		}
		c.mu.Unlock()
		late := time.AfterFunc(lastWrite, c.hangUp) // whoever waits for one of the two waits no longer
		var telling sync.WaitGroup
		for _, ch := range open { // one that does not read keeps the others from nothing
			telling.Go(func() {
				ch.say(line)
				ch.exit(exitNotThere)
				<-ch.gone // it has been read, or the connection is over
			})
		}
		telling.Wait()
		late.Stop()
		c.hangUp()
	})
}

// said is an error that the client is told word for word.
type said struct {
	line  string
	cause error
}

func (s *said) Error() string {
	if s.cause != nil {
		return s.line + ": " + s.cause.Error()
	}
	return s.line
}

func (s *said) Unwrap() error { return s.cause }

// take serves one channel that the client opens.
func (c *conn) take(ctx context.Context, nc ssh.NewChannel) error {
	switch nc.ChannelType() {
	case "session":
		return c.takeSession(ctx, nc)
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		return c.connect(ctx, nc)
	}
	return ignoreGone(nc.Reject(ssh.UnknownChannelType, "taskgate: not a channel that is known"))
}

// ignoreGone makes nothing of what only says that the peer has left: the end of
// its connection says so as well.
func ignoreGone(err error) error {
	var n net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &n) {
		return nil
	}
	return err
}

// statement gives the one statement of a text, so that what was said of it once
// counts again.
func (c *conn) statement(key string, read func() *abi.Statement) *abi.Statement {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.statements[key]; st != nil {
		return st
	}
	if c.texts += len(key); len(c.statements) >= maxTexts || c.texts > maxTextSize {
		clear(c.statements)
		c.texts = len(key)
	}
	st := read()
	c.statements[key] = st
	return st
}

// operation gives the statement of a text that does one thing.
func (c *conn) operation(text string, o abi.Operation) *abi.Statement {
	return c.statement("\x00"+text, func() *abi.Statement {
		return &abi.Statement{Protocol: "ssh", Text: text, Canonical: text, Operations: []abi.Operation{o}}
	})
}

// submit asks the gate. What has to be approved waits where hold is given.
func (c *conn) submit(ctx context.Context, st *abi.Statement, bound string, hold func(gate.Pending) error) (*gate.Exchange, error) {
	cmd := &abi.Command{Phase: abi.Execute, Statement: st, Bound: bound}
	if ex, ok := c.session.TrySubmit(cmd); ok {
		return ex, nil
	}
	return c.session.Submit(ctx, cmd, hold)
}

// globals answers what the client asks of the connection as a whole, in order, and
// takes all of it: the library reads on only behind that.
func (c *conn) globals(ctx context.Context, reqs <-chan *ssh.Request) error {
	for r := range reqs {
		ok, answer, err := c.global(ctx, r)
		if err == nil {
			err = ignoreGone(r.Reply(ok, answer))
		}
		if err != nil {
			c.goes(func() error { return err })
			for range reqs {
			}
		}
	}
	return nil
}

func (c *conn) global(ctx context.Context, r *ssh.Request) (bool, []byte, error) {
	switch r.Type {
	case keepalive:
		return true, nil, nil
	case "no-more-sessions@openssh.com":
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		return true, nil, nil
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		return c.bind(ctx, r)
	case "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
		return c.unbind(ctx, r)
	}
	return false, nil, nil
}
