package ssh

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// maxBound bounds what one connection has its host listen for.
const maxBound = 32

// bound is what the host listens for on behalf of the client. Its exchange is
// open for as long: all that comes by it is its answer.
type bound struct {
	tap  *tap
	once sync.Once
}

func (b *bound) done() {
	b.once.Do(func() {
		_ = b.tap.exchange.Done(context.Background(), gate.Outcome{State: gate.Completed})
	})
}

// listened is what a client wants the host to listen for.
type listened struct {
	object []string
	key    string // by which the host names it when something comes
	wire   []byte
}

// forwarded reads a request to listen, or to stop.
func forwarded(r *ssh.Request) (*listened, error) {
	if strings.Contains(r.Type, "streamlocal") {
		var m struct{ Path string }
		if err := ssh.Unmarshal(r.Payload, &m); err != nil {
			return nil, err
		}
		return &listened{[]string{m.Path}, "unix " + m.Path, ssh.Marshal(&m)}, plainPath(m.Path)
	}
	var m struct {
		Address string
		Port    uint32
	}
	if err := ssh.Unmarshal(r.Payload, &m); err != nil {
		return nil, err
	}
	m.Address = strings.ToLower(m.Address)
	l := &listened{object: []string{m.Address, strconv.Itoa(int(m.Port))}, key: tcpKey(m.Address, m.Port), wire: ssh.Marshal(&m)}
	switch {
	case m.Port > 65535:
		return nil, errors.New("not a port")
	case m.Address == "": // as the host has it, all of them
		l.object[0] = "*"
		return l, nil
	case m.Address == "*" || m.Address == "0.0.0.0" || m.Address == "::":
		return l, nil
	}
	return l, plainHost(m.Address)
}

func tcpKey(address string, port uint32) string {
	return "tcp " + strconv.Itoa(int(port)) + " " + address
}

// bind has the host listen, where that is allowed.
func (c *conn) bind(ctx context.Context, r *ssh.Request) (bool, []byte, error) {
	l, err := forwarded(r)
	if err != nil {
		return false, nil, c.session.Refused(ctx, "a forward was refused: "+readable(err.Error()))
	}
	c.mu.Lock()
	full := len(c.bound) >= maxBound || c.bound[l.key] != nil
	c.mu.Unlock()
	if full {
		return false, nil, nil
	}
	st := c.operation("bind "+strings.Join(l.object, " "), abi.Operation{Verb: "bind", Kind: abi.KindForward, Object: l.object, Effect: abi.EffectWrite})
	ex, err := c.submit(ctx, st, "", nil)
	if lines, ok := refusal(err); ok {
		c.tellAny(lines...)
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	b := &bound{tap: &tap{exchange: ex}}
	host, err := c.there(ctx)
	if err != nil {
		return false, nil, ex.Done(ctx, gate.Outcome{State: gate.Failed})
	}
	c.mu.Lock()
	c.bound[l.key] = b // what comes may be here before the answer is
	c.mu.Unlock()
	ok, answer, err := host.SendRequest(r.Type, true, l.wire)
	if err != nil || !ok {
		c.mu.Lock()
		delete(c.bound, l.key)
		c.mu.Unlock()
		return false, nil, ex.Done(ctx, gate.Outcome{State: gate.Failed})
	}
	var m struct{ Port uint32 }
	if r.Type == "tcpip-forward" && l.object[1] == "0" {
		if ssh.Unmarshal(answer, &m) != nil || m.Port == 0 || m.Port > 65535 {
			return false, nil, &said{line: "the host answers what it should not"}
		}
		address := l.object[0]
		if address == "*" {
			var asked struct {
				Address string
				Port    uint32
			}
			_ = ssh.Unmarshal(l.wire, &asked) // it was made above
			address = asked.Address
		}
		c.mu.Lock()
		delete(c.bound, l.key)
		c.bound[tcpKey(address, m.Port)] = b
		c.mu.Unlock()
		return true, ssh.Marshal(&m), nil
	}
	return true, nil, nil
}

// unbind ends what this client has had the host listen for, and nothing else.
func (c *conn) unbind(ctx context.Context, r *ssh.Request) (bool, []byte, error) {
	l, err := forwarded(r)
	if err != nil {
		return false, nil, nil
	}
	c.mu.Lock()
	b := c.bound[l.key]
	delete(c.bound, l.key)
	c.mu.Unlock()
	if b == nil {
		return false, nil, nil
	}
	b.done()
	host, err := c.there(ctx)
	if err != nil {
		return false, nil, nil
	}
	ok, _, err := host.SendRequest(r.Type, true, l.wire)
	return ok && err == nil, nil, ignoreGone(err)
}

// tellAny tells the client by whichever of its channels there is: a request of
// the whole connection has none of its own.
func (c *conn) tellAny(lines ...string) {
	c.mu.Lock()
	var any *channel
	for ch := range c.channels {
		any = ch
		break
	}
	c.mu.Unlock()
	if any != nil {
		any.mention(lines...)
	}
}

// lent is what a client has lent to the host for one of its channels: its keys, or
// its display.
type lent struct {
	ch   *channel
	tap  *tap
	ctx  context.Context // what passes by it ends with that
	stop context.CancelFunc
}

// takeBack ends what was lent for a channel.
func (c *conn) takeBack(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, list := range c.back {
		c.back[kind] = slices.DeleteFunc(list, func(l *lent) bool {
			if l.ch == ch {
				l.stop()
			}
			return l.ch == ch
		})
	}
}

// lendAgent judges whether the host may use the client's key agent.
func (ch *channel) lendAgent(ctx context.Context) (bool, error) {
	st := ch.c.operation("forward agent", abi.Operation{Verb: "forward", Kind: abi.KindAgent, Effect: abi.EffectWrite})
	ex, err := ch.c.submit(ctx, st, "", nil)
	if lines, ok := refusal(err); ok {
		ch.mention(lines...)
		return false, nil
	}
	if err != nil || ch.agent != nil {
		return false, err
	}
	ch.agent = ex
	return true, nil
}

// lendX11 judges whether the host may use the client's display.
func (ch *channel) lendX11(ctx context.Context, payload []byte) (bool, error) {
	var m struct {
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}
	if ssh.Unmarshal(payload, &m) != nil || ch.x11 != nil || !termName(m.Protocol) || !termName(m.Cookie[:min(len(m.Cookie), 64)]) || len(m.Cookie) > 256 {
		return false, nil
	}
	st := ch.c.operation("forward x11", abi.Operation{Verb: "forward", Kind: abi.KindX11, Effect: abi.EffectWrite})
	ex, err := ch.c.submit(ctx, st, "", nil)
	if lines, ok := refusal(err); ok {
		ch.mention(lines...)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ch.x11, ch.x11As = ex, ssh.Marshal(&m)
	return true, nil
}

// lend tells the host what the client has lent to it.
func (ch *channel) lend(ctx context.Context, host ssh.Channel) error {
	for _, l := range []struct {
		request, channel string
		payload          []byte
		ex               *gate.Exchange
	}{{"auth-agent-req@openssh.com", "auth-agent@openssh.com", nil, ch.agent}, {"x11-req", "x11", ch.x11As, ch.x11}} {
		if l.ex == nil {
			continue
		}
		given := &lent{ch: ch, tap: &tap{exchange: l.ex}}
		given.ctx, given.stop = context.WithCancel(ctx)
		ch.c.mu.Lock()
		ch.c.back[l.channel] = append(ch.c.back[l.channel], given)
		ch.c.mu.Unlock()
		if _, err := host.SendRequest(l.request, true, l.payload); err != nil {
			return err
		}
	}
	return nil
}

// giveBack takes a channel that the host opens to the client: only what the
// client has asked for, and was allowed.
func (c *conn) giveBack(ctx context.Context, nc ssh.NewChannel) error {
	t, ctx, ok := c.expected(ctx, nc)
	if !ok {
		return ignoreGone(nc.Reject(ssh.Prohibited, "not asked for"))
	}
	client, creqs, err := c.client.OpenChannel(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		return ignoreGone(nc.Reject(ssh.ConnectionFailed, "the client does not take it"))
	}
	host, hreqs, err := nc.Accept()
	if err != nil {
		_ = client.Close()
		return ignoreGone(err)
	}
	_, err = c.join(ctx, t, client, creqs, host, hreqs)
	return err
}

func (c *conn) expected(ctx context.Context, nc ssh.NewChannel) (*tap, context.Context, bool) {
	key := ""
	switch nc.ChannelType() {
	case "forwarded-tcpip":
		var m struct {
			Address string
			Port    uint32
			Origin  string
			From    uint32
		}
		if ssh.Unmarshal(nc.ExtraData(), &m) != nil {
			return nil, nil, false
		}
		key = tcpKey(strings.ToLower(m.Address), m.Port)
	case "forwarded-streamlocal@openssh.com":
		var m struct{ Path, Reserved string }
		if ssh.Unmarshal(nc.ExtraData(), &m) != nil {
			return nil, nil, false
		}
		key = "unix " + m.Path
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.bound[key]; b != nil {
		return b.tap, ctx, true
	}
	for _, l := range slices.Backward(c.back[nc.ChannelType()]) { // for which of them it is the host does not say
		if l.ctx.Err() == nil {
			return l.tap, l.ctx, true
		}
	}
	return nil, nil, false
}
