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

	"github.com/taskgate/taskgate/core/gate"
)

// The bounds of what a client may do before it is known.
const (
	maxPreAuth = 1000 // connections that are not yet known, for the whole listener
	maxFromOne = 250  // and of one address
	maxTries   = 6    // logins that fail, of one connection
	loginTime  = 30 * time.Second
	askTime    = 2 * time.Minute // where somebody logs in by a browser meanwhile
)

// Protocol serves clients of one listener. It implements gate.Protocol.
type Protocol struct {
	Settings func() *Settings
	// Ask begins a login in a browser. nil is no keyboard-interactive login.
	Ask func(ctx context.Context, task, resource, address string) (*Asked, error)
	Log func(session, what string, err error)

	mu      sync.Mutex
	unknown int            // connections that are not yet known
	waiting map[string]int // the same by address
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
			err = fmt.Errorf("ssh: panic: %v", v)
			p.log(session, "panic", fmt.Errorf("%v\n%s", v, debug.Stack()))
		}
	}()
	return f()
}

// enter counts a connection that is not yet known, and gives what counts it off.
func (p *Protocol) enter(from string) (known func(), full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[string]int{}
	}
	p.unknown++
	p.waiting[from]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unknown--
		if p.waiting[from]--; p.waiting[from] == 0 {
			delete(p.waiting, from)
		}
	}), p.unknown > maxPreAuth || p.waiting[from] > maxFromOne
}

// network is what counts as one address: whoever has one of IPv6 has the whole
// of its /64.
func network(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if v4 := t.IP.To4(); v4 != nil {
		return v4.String()
	}
	return t.IP.Mask(net.CIDRMask(64, 128)).String()
}

// Serve implements gate.Protocol.
func (p *Protocol) Serve(ctx context.Context, nc net.Conn, g *gate.Gate) error {
	defer nc.Close()
	known, full := p.enter(network(nc.RemoteAddr()))
	defer known()
	if full {
		return errors.New("ssh: too many connections that have not logged in")
	}
	patience := p.patience
	if patience == 0 {
		patience = loginTime
	}
	until := time.Now().Add(patience)
	_ = nc.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })
	defer stop()
	c := &conn{p: p, gate: g, nc: nc}
	var chans <-chan ssh.NewChannel
	var reqs <-chan *ssh.Request
	err := p.contain("", func() (err error) {
		chans, reqs, err = c.login(ctx, until)
		return err
	})
	known()
	if err == nil {
		_ = nc.SetDeadline(time.Time{})
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
