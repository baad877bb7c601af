package ssh

import (
	"time"

	"golang.org/x/crypto/ssh"
)

const keepalive = "keepalive@openssh.com"

// Peers are asked whether they are there, so that what lies between does not
// forget the connection. A host has to answer within so many times as long. A
// client does not: one that its user has stopped (ctrl-Z) is still there, and
// one that is not the kernel finds out.
const (
	aliveTime = 30 * time.Second
	aliveMost = 3
)

func (c *conn) every() time.Duration {
	if c.p.alive > 0 {
		return c.p.alive
	}
	return aliveTime
}

// each asks a peer again and again until the client has left. False from ask
// ends it.
func (c *conn) each(ask func() bool) {
	tick := time.NewTicker(c.every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !ask() {
				return
			}
		case <-c.left:
			return
		}
	}
}

// greet keeps the client's connection in use.
func (c *conn) greet() {
	c.each(func() bool {
		_, _, err := c.client.SendRequest(keepalive, true, nil)
		return err == nil
	})
}

// watch ends the connection where the host does not answer.
func (c *conn) watch(host ssh.Conn) {
	c.each(func() bool {
		late := time.NewTimer(aliveMost * c.every())
		defer late.Stop()
		answered := make(chan bool, 1)
		c.goes(func() error { answered <- there(host); return nil })
		select {
		case ok := <-answered:
			return ok
		case <-late.C:
			c.over(&said{line: "the host no longer answers"})
		case <-c.left:
		}
		return false
	})
}

// there asks a host whether it is there. Any answer says so.
func there(host ssh.Conn) bool {
	_, _, err := host.SendRequest(keepalive, true, nil)
	return err == nil
}
