package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
)

// The bounds of what a client may do before it is known.
const (
	maxTries  = 6 // logins that fail, of one connection
	loginTime = 30 * time.Second
	askTime   = 2 * time.Minute // where somebody logs in by a browser meanwhile
)

// Protocol serves clients of one listener. It implements gate.Protocol.
type Protocol struct {
	Settings func() *Settings
	// Ask begins a login in a browser. nil is no keyboard-interactive login.
	Ask func(ctx context.Context, task, resource, address string) (*Asked, error)
	Log func(session, what string, err error)
	// Ended is told of each connection, one of Reasons; may be nil.
	Ended func(reason string)

	door    door.Door
	mu      sync.Mutex
	unasked unasked

	patience time.Duration // until a client is known; 0 is loginTime
	alive    time.Duration // between two questions whether a peer is there; 0 is aliveTime
}

func (p *Protocol) log(session, what string, err error) {
	if p.Log != nil && err != nil {
		p.Log(session, what, err)
	}
}

// contain makes a panic in f an error: a fault in one connection ends that one
// connection.
func (p *Protocol) contain(session string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errPanic, v)
			p.log(session, "panic", fmt.Errorf("%v\n%s", v, debug.Stack()))
		}
	}()
	return f()
}

// Serve implements gate.Protocol.
func (p *Protocol) Serve(ctx context.Context, nc net.Conn, g *gate.Gate) error {
	c := &conn{p: p, gate: g, nc: nc}
	err := c.serve(ctx)
	if p.Ended != nil {
		p.Ended(c.reason(err))
	}
	return err
}

// serve meets a client and serves it until it leaves or has to.
func (c *conn) serve(ctx context.Context) error {
	defer c.nc.Close()
	guest := c.p.door.Enter(c.nc)
	if guest == nil {
		return errCrowded
	}
	defer guest.Leave()
	patience := c.p.patience
	if patience == 0 {
		patience = loginTime
	}
	until := time.Now().Add(patience)
	_ = c.nc.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Now()) })
	defer stop()
	var chans <-chan ssh.NewChannel
	var reqs <-chan *ssh.Request
	err := c.p.contain("", func() (err error) {
		chans, reqs, err = c.login(ctx, until)
		return err
	})
	switch {
	case guest.Leave() && !errors.Is(err, errPanic):
		if err == nil {
			c.client.Close()
		}
		err = errCrowded
	case err == nil:
		c.known = true
		_ = c.nc.SetDeadline(time.Time{})
		stop()
		err = c.run(chans, reqs)
	}
	if c.session != nil {
		if e := c.session.Close(err); err == nil {
			err = e
		}
	}
	return err
}
