package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// plainHost says whether a host's name can mean one thing alone: a name of a
// network, or an address as it is written. What the resolvers of hosts read in
// other ways (0x7f.1, 2130706433, ::ffff:127.0.0.1, 0) is refused (SC03).
func plainHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.String() != host || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() {
			return fmt.Errorf("%q is not an address as it is written plainly", brief(host))
		}
		return nil
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return fmt.Errorf("%q is not the name of a host", brief(host))
		}
	}
	last := labels[len(labels)-1]
	if _, hex := strings.CutPrefix(last, "0x"); len(host) > 253 || hex || strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("%q is not an address as it is written plainly", brief(host))
	}
	return nil
}

// brief is the beginning of what was sent where a name should be, for a message.
func brief(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// plainPath says whether a socket's path is one that means itself.
func plainPath(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || len(p) > 255 || readable(p) != p {
		return fmt.Errorf("%q is not the plain path of a socket", brief(readable(p)))
	}
	return nil
}

// target is where a forward goes.
type target struct {
	object []string
	text   string // of the statement
	kind   string // of the channel at the host
	extra  []byte // of it
}

// connectTo reads what a client wants to be connected to.
func connectTo(nc ssh.NewChannel) (*target, error) {
	if nc.ChannelType() == "direct-streamlocal@openssh.com" {
		var m struct {
			Path     string
			Reserved string
			Zero     uint32
		}
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			return nil, err
		}
		if err := plainPath(m.Path); err != nil {
			return nil, err
		}
		m.Reserved, m.Zero = "", 0
		return &target{[]string{m.Path}, "connect " + m.Path, nc.ChannelType(), ssh.Marshal(&m)}, nil
	}
	var m struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
		return nil, err
	}
	m.Host = strings.ToLower(m.Host)
	if err := plainHost(m.Host); err != nil {
		return nil, err
	}
	if m.Port == 0 || m.Port > 65535 {
		return nil, fmt.Errorf("%d is not a port", m.Port)
	}
	m.Origin, m.From = "127.0.0.1", 0 // the host learns nothing of where the client is
	port := strconv.Itoa(int(m.Port))
	return &target{[]string{m.Host, port}, "connect " + net.JoinHostPort(m.Host, port), nc.ChannelType(), ssh.Marshal(&m)}, nil
}

// connect opens a connection from the host to where the client wants it. The
// gateway itself never connects to anything that a client names.
func (c *conn) connect(ctx context.Context, nc ssh.NewChannel) error {
	to, err := connectTo(nc)
	if err == nil {
		err = c.elsewhere(ctx, to)
	}
	if err != nil {
		if e := c.session.Refused(ctx, "a forward was refused: "+readable(err.Error())); e != nil {
			return e
		}
		return ignoreGone(nc.Reject(ssh.Prohibited, "taskgate: denied: "+readable(err.Error())))
	}
	st := c.operation(to.text, abi.Operation{Verb: "connect", Kind: abi.KindForward, Object: to.object, Effect: abi.EffectWrite})
	ex, err := c.submit(ctx, st, "", nil)
	if lines, ok := refusal(err); ok {
		return ignoreGone(nc.Reject(ssh.Prohibited, "taskgate: "+readable(strings.Join(lines, "; "))))
	}
	if err != nil {
		return err
	}
	t := &tap{exchange: ex}
	o := gate.Outcome{State: gate.Failed}
	defer func() { _ = ex.Done(ctx, o) }()
	conn, err := c.there(ctx)
	if err != nil {
		var s *said
		line := "the session is over"
		if errors.As(err, &s) {
			line = s.line
		}
		return ignoreGone(nc.Reject(ssh.ConnectionFailed, "taskgate: "+line))
	}
	host, reqs, err := conn.OpenChannel(to.kind, to.extra)
	if err != nil {
		reason := ssh.ConnectionFailed
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			reason = refused.Reason
			o.Code = reason.String()
		}
		return ignoreGone(nc.Reject(reason, "the host does not connect"))
	}
	client, creqs, err := nc.Accept()
	if err != nil {
		_ = host.Close()
		return ignoreGone(err)
	}
	o, err = c.join(ctx, t, client, creqs, host, reqs)
	return err
}

// join carries bytes both ways between two channels until both sides have ended.
func (c *conn) join(ctx context.Context, t *tap, client ssh.Channel, creqs <-chan *ssh.Request, host ssh.Channel, hreqs <-chan *ssh.Request) (gate.Outcome, error) {
	var both sync.WaitGroup
	var why stopping
	var sent, got int64
	end := func() { _ = client.Close(); _ = host.Close() }
	defer context.AfterFunc(ctx, end)() // what is under way in it does not outlast its session
	side := func(f func() error) <-chan struct{} {
		done := make(chan struct{})
		both.Go(func() {
			defer close(done)
			if err := c.p.contain(c.session.ID(), f); err != nil {
				why.set(err)
				end()
			}
		})
		return done
	}
	answered := side(func() (err error) {
		got, err = t.answers(ctx, client, host, FrameOut)
		_ = client.CloseWrite()
		return err
	})
	asked := side(func() (err error) {
		sent, err = t.inputs(host, client)
		_ = host.CloseWrite()
		return err
	})
	// Who closes a channel has no use for the rest, but what it had sent before
	// is still on its way.
	closes := func(reqs <-chan *ssh.Request, passed <-chan struct{}, other ssh.Channel) func() {
		return func() {
			for r := range reqs {
				_ = r.Reply(false, nil)
			}
			<-passed
			_ = other.Close()
		}
	}
	var requests sync.WaitGroup
	requests.Go(closes(creqs, asked, host))
	requests.Go(closes(hreqs, answered, client))
	both.Wait()
	end()
	requests.Wait()
	o := gate.Outcome{State: gate.Completed, Tag: fmt.Sprintf("sent %d, received %d", sent, got)}
	err := why.get()
	var d *gate.Denied
	switch {
	case err == nil, errors.Is(err, errGone):
		return o, nil
	case errors.As(err, &d):
		o.State, o.Code = gate.Failed, d.Reason.Code
		return o, nil
	}
	o.State = gate.Lost
	return o, err
}

// stopping is why a forward was ended by the gateway.
type stopping struct {
	mu  sync.Mutex
	why error
}

func (s *stopping) set(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
	}
}

func (s *stopping) get() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}
