package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/gate"
)

// stranger is a host that is not who it should be.
type stranger struct {
	key string // its fingerprint
	why error
}

func (s *stranger) Error() string { return "host key " + s.key + ": " + s.why.Error() }
func (s *stranger) Unwrap() error { return s.why }

// ErrShut is a host that takes nothing of what the gateway has to open it.
var ErrShut = errors.New("the host does not let the gateway in")

// reach connects to the host while the client still says what it wants, and
// serves what the host asks for, until one of them leaves.
func (c *conn) reach(ctx context.Context) error {
	host, chans, reqs, err := c.enter(ctx)
	c.mu.Lock()
	c.host, c.hostErr = host, err
	c.mu.Unlock()
	close(c.hosted)
	if err != nil {
		if ctx.Err() == nil {
			c.p.log(c.session.ID(), "session of "+c.session.About().Resource, err)
		}
		return nil // each channel is told
	}
	stop := context.AfterFunc(ctx, func() { host.Close() })
	defer stop()
	c.goes(func() error {
		for r := range reqs { // nothing that a host says of itself reaches the client: the keys that it has are not the gateway's
			_ = r.Reply(r.Type == keepalive, nil)
		}
		return nil
	})
	c.goes(func() error {
		var open atomic.Int32
		for nc := range chans {
			if open.Add(1) > maxChannels {
				open.Add(-1)
				_ = nc.Reject(ssh.ResourceShortage, "too many channels")
				continue
			}
			c.goes(func() error {
				defer open.Add(-1)
				return c.giveBack(ctx, nc)
			})
		}
		return nil
	})
	c.goes(func() error { // the client may have left before the host was there
		_ = c.client.Wait()
		c.leave()
		host.Close()
		return nil
	})
	c.goes(func() error { c.watch(host); return nil })
	err = host.Wait()
	select {
	case <-c.left:
		return nil
	default:
		if errors.Is(err, io.EOF) { // says nothing more
			err = nil
		}
		return &said{line: "the host closed the connection", cause: err}
	}
}

// enter dials the host and logs in there.
func (c *conn) enter(ctx context.Context) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	up, err := c.session.Dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	address := c.nc.LocalAddr().String()
	if r, _ := c.session.Resource(); r != nil {
		address = r.Address
	}
	return Reach(ctx, up, address, c.options)
}

// Reach logs in to a host over a connection that has been made to it, and sees
// that its shell is what it is said to be. Where it fails the connection is closed.
func Reach(ctx context.Context, up gate.Upstream, address string, o *ResourceOptions) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	auth, ok := up.Auth.(*Auth)
	if !ok || auth.HostKey == nil {
		up.Conn.Close()
		return nil, nil, nil, &gate.Credential{Err: errors.New("ssh: nothing that opens the host")}
	}
	stop := context.AfterFunc(ctx, func() { up.Conn.Close() })
	defer stop()
	_ = up.Conn.SetDeadline(time.Now().Add(loginTime))
	var wrong *stranger
	config := &ssh.ClientConfig{
		Config: ssh.Config{KeyExchanges: slices.Concat(keyExchanges, older), Ciphers: append(ciphers(""), ssh.CipherChaCha20Poly1305), MACs: macs},
		User:   up.User,
		Auth:   auth.Methods,
		HostKeyCallback: func(name string, from net.Addr, key ssh.PublicKey) error {
			err := auth.HostKey(name, from, key)
			if err != nil {
				wrong = &stranger{ssh.FingerprintSHA256(key), err}
				return wrong
			}
			return nil
		},
		HostKeyAlgorithms: auth.HostKeyAlgorithms,
		ClientVersion:     "SSH-2.0-taskgate",
	}
	if config.HostKeyAlgorithms == nil {
		config.HostKeyAlgorithms = ssh.SupportedAlgorithms().HostKeys
	}
	host, chans, reqs, err := ssh.NewClientConn(up.Conn, address, config)
	if err != nil {
		up.Conn.Close()
		switch {
		case wrong != nil:
			err = wrong
		case strings.Contains(err.Error(), "unable to authenticate"): // the library has no other sign of it
			err = fmt.Errorf("%w: %w", ErrShut, err)
		}
		return nil, nil, nil, err
	}
	if err := o.ask(up.User, host); err != nil {
		host.Close()
		return nil, nil, nil, err
	}
	_ = up.Conn.SetDeadline(time.Time{})
	return host, chans, reqs, nil
}

// there gives the host once it is reached. What it gives instead is for the client.
func (c *conn) there(ctx context.Context) (ssh.Conn, error) {
	select {
	case <-c.hosted:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.hostErr == nil {
		return c.host, nil
	}
	resource := c.session.About().Resource
	line := fmt.Sprintf("the host %s cannot be reached (session %s)", resource, c.session.ID())
	var wrong *stranger
	var own *gate.Credential
	var shell *notPosix
	switch {
	case errors.As(c.hostErr, &wrong):
		line = fmt.Sprintf("the host %s is not who it should be: nobody vouches for its key %s (session %s): tell your operator", resource, wrong.key, c.session.ID())
	case errors.As(c.hostErr, &shell):
		line = fmt.Sprintf("the login shell of the host %s is not what the gateway is told it is (session %s): tell your operator", resource, c.session.ID())
	case errors.As(c.hostErr, &own), errors.Is(c.hostErr, ErrShut):
		line = fmt.Sprintf("the gateway could not log in to the host %s (session %s): tell your operator", resource, c.session.ID())
	}
	return nil, &said{line: line, cause: c.hostErr}
}
