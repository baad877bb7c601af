package postgres

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/taskgate/taskgate/core/loop"
)

// adopt has a loop carry both connections, where this machine has loops and
// both are sockets.
func (c *conn) adopt() {
	client, server := socketUnder(c.client), socketUnder(c.upstream)
	if client == nil || server == nil || c.p.apart.Load() {
		return
	}
	a, b, err := c.p.loops.Adopt(client, server)
	if err != nil {
		c.p.slower.Do(func() { c.p.log("", "loop", err) })
		return
	}
	c.carried = [2]*loop.Conn{a, b}
	c.session.BeforeWaiting(c.leaveLoop)
	c.client, c.upstream = over(c.client, a), over(c.upstream, b)
}

// leaveLoop comes before whatever one of the two sides waits for.
func (c *conn) leaveLoop() {
	if c.carried[0] != nil {
		c.carried[0].Leave()
	}
}

func (c *conn) contain(f func() error) error { return c.p.contain(c.session.ID(), f) }

// socketUnder gives the socket that a connection is spoken over, nil where it
// is none.
func socketUnder(nc net.Conn) net.Conn {
	switch v := nc.(type) {
	case *tls.Conn:
		if b := socketOf(v); b != nil {
			return socketUnder(b.Conn)
		}
	case *prefixed:
		return socketUnder(v.Conn)
	case *net.TCPConn, *net.UnixConn:
		return nc
	}
	return nil
}

// over puts a carried connection beneath TLS, where there is TLS.
func over(nc net.Conn, carried *loop.Conn) net.Conn {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return carried
	}
	b := socketOf(t)
	b.Conn, b.carried = carried, true
	b.raw, _ = carried.SyscallConn()
	b.out = newOutput(carried)
	return nc
}

// carry is run where a loop reads and writes.
func (f *frames) carry(process func() error) error {
	carried, room := f.conn, func() []byte { f.room(); return f.buf[f.w:] }
	var came int
	var ended error
	step := func() error {
		if ended != nil {
			return ended
		}
		f.w += came
		return process()
	}
	t, secure := f.conn.(*tls.Conn)
	if secure {
		b := socketOf(t)
		carried, room = b.Conn, b.room
		step = func() error {
			b.w, b.ended, b.running = b.w+came, ended, true
			defer func() { b.running = false }()
			return f.decrypt(t, process)
		}
	}
	arrived := func(n int, err error) error { // a panic ends this session alone
		came, ended = n, err
		return f.contain(step)
	}
	if secure { // what has come with the end of the handshake
		err := loop.ErrMore
		for errors.Is(err, loop.ErrMore) {
			err = arrived(0, nil)
		}
		if err != nil {
			return err
		}
	}
	return carried.(*loop.Conn).Carry(f.to, room, arrived)
}

// decrypt takes all that has come over TLS.
func (f *frames) decrypt(t *tls.Conn, process func() error) error {
	if f.have() > 0 { // of the last turn
		if err := process(); err != nil {
			return err
		}
	}
	for {
		n := 0
		var fault error
		for fault == nil && n < largeBuffer { // all that has come, for one answer
			f.room()
			var m int
			m, fault = t.Read(f.buf[f.w:])
			f.w += m
			n += m
		}
		if n > 0 {
			if err := process(); err != nil {
				return err
			}
		}
		if errors.Is(fault, errDry) {
			return nil
		}
		if fault != nil {
			return fault
		}
	}
}
