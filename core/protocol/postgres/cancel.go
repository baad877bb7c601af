package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// register gives the session a cancel key of the gateway's own and tells it as
// a BackendKeyData message: 4 bytes in protocol 3.0, 32 in 3.2. The upstream's
// own key never leaves the gateway.
func (p *Protocol) register(c *conn) []byte {
	n := 4
	if c.version >= version32 {
		n = 32
	}
	key := make([]byte, 4+n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[string]*conn{}
	}
	for {
		_, _ = rand.Read(key) // never fails
		key[0] &= 0x7f        // a process number is positive
		if p.keys[string(key)] == nil {
			break
		}
	}
	c.key = string(key)
	p.keys[c.key] = c
	m := append([]byte{'K'}, binary.BigEndian.AppendUint32(nil, uint32(4+len(key)))...)
	return append(m, key...)
}

func (p *Protocol) unregister(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, c.key)
}

// conns gives the sessions that are logged in.
func (p *Protocol) conns() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*conn, 0, len(p.keys))
	for _, c := range p.keys {
		list = append(list, c)
	}
	return list
}

// cancel carries a cancel request to the session whose key it has. One with
// another key does nothing and is told nothing. The key is looked up in a map
// by its 8 to 36 random bytes; how long that takes says nothing about them.
func (p *Protocol) cancel(key []byte) {
	p.mu.Lock()
	c := p.keys[string(key)]
	p.mu.Unlock()
	if c != nil {
		c.cancel()
	}
}

// cancelTime bounds how long a cancel holds up the session's next command.
const cancelTime = 10 * time.Second

// cancel ends the command that runs now, if one does, or that waits for people.
// Nothing is sent upstream until the server has taken the request, so that it
// cannot meet the next one.
func (c *conn) cancel() {
	if c.callOff(gate.ErrCancelled) {
		return
	}
	c.mu.Lock()
	c.stopping = c.stepping // between two statements the server has nothing to cancel
	c.mu.Unlock()
	if !c.cancelling.TryLock() {
		return // one is on its way
	}
	defer c.cancelling.Unlock()
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.idle() || c.session.Context().Err() != nil {
		return
	}
	ctx, stop := context.WithTimeout(c.session.Context(), cancelTime)
	defer stop()
	up, err := c.session.Dial(ctx)
	if err != nil {
		c.p.log(c.session.ID(), "cancel", err)
		return
	}
	nc, err := secureUpstream(ctx, up)
	if err != nil {
		c.p.log(c.session.ID(), "cancel", err)
		return
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(cancelTime))
	m := binary.BigEndian.AppendUint32(nil, uint32(8+len(c.upstreamKey)))
	m = binary.BigEndian.AppendUint32(m, codeCancel)
	if _, err := nc.Write(append(m, c.upstreamKey...)); err != nil {
		c.p.log(c.session.ID(), "cancel", err)
		return
	}
	_, _ = io.Copy(io.Discard, nc) // the server closes once it has sent the signal
}

func (p *Protocol) log(session, what string, err error) {
	if p.Log != nil {
		p.Log(session, what, err)
	}
}
