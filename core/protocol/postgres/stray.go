package postgres

import (
	"context"
	"slices"
)

// While the server takes data it ignores a Sync; where the COPY has failed by
// then it answers it. Which of the two it is, is not known when the Sync is sent
// on, nor whether anything else that comes in a COPY would end the session or be
// carried out. So before the next message that is not data, the gateway asks: by
// a Sync, a Close of a portal that there is not, and a Sync. In a COPY, Close ends
// the session, as whatever the client sent there would have.

// strays are the Syncs that a client has sent while the server took data.
type strays struct {
	sent     int // and neither answered nor ignored yet
	answered int
	group    uint64 // of the COPY
	held     bool   // a ReadyForQuery is held back: the gateway's own, or a stray's
}

// stray sends a Sync in the middle of a COPY.
func (c *conn) stray(m []byte) {
	c.mu.Lock()
	c.strays.sent++
	c.mu.Unlock()
	c.out = append(c.out, m...)
}

// straying says whether it is not known where the server stands.
func (c *conn) straying() bool {
	if !c.feeds {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	strays := c.copying || c.strays.sent > 0
	c.feeds = strays || len(c.queue) > 0
	return strays
}

// afterCopy finds out where the server stands.
func (c *conn) afterCopy() error {
	answered := func() bool { return len(c.queue) == 0 }
	if !c.inCopy() {
		if err := c.await(answered); err != nil {
			return err
		}
		if !c.straying() { // the COPY has not failed
			return nil
		}
	}
	extended := c.unsynced
	c.endGroup(entry{kind: 'S', own: true, swallow: true})
	c.out = append(c.out, frame('S', nil)...)
	c.ask('C', append([]byte{'P'}, ownName+"\x00"...))
	c.ask('S', nil)
	c.group++
	if err := c.await(answered); err != nil {
		return err
	}
	c.catchUp()
	c.mu.Lock()
	skips := extended && c.strays.answered == 0
	c.strays = strays{}
	c.mu.Unlock()
	if !skips {
		return nil
	}
	c.push(entry{kind: 'E', own: true, swallow: true}) // the server skips to the client's own Sync, as it did before
	c.out = append(c.out, frame('E', append([]byte(ownName), 0, 0, 0, 0, 0))...)
	return c.await(answered)
}

// strayed takes what answers a stray or what the gateway has sent to find out.
func (c *conn) strayed(ctx context.Context, e *entry, kind byte, m []byte) (bool, error) {
	own := e != nil && e.own && e.swallow
	switch {
	case kind == 'Z' && (e == nil && c.pendingStrays() || own && c.strays.held):
		c.mu.Lock()
		c.queue = slices.Insert(c.queue, 0, entry{kind: 'S', group: c.strays.group})
		c.strays.sent--
		c.strays.answered++
		c.skipping = false
		c.mu.Unlock()
		return true, c.ready(ctx, c.top(), m)
	case kind == 'Z' && own && e.kind == 'S':
		c.mu.Lock()
		defer c.mu.Unlock()
		c.strays.held = true
		return true, nil
	case kind == '3' && own && e.kind == 'S':
		if err := c.ready(ctx, e, []byte{'Z', 0, 0, 0, 5, c.status}); err != nil {
			return true, err
		}
		return false, nil // and it is the answer to Close
	case kind == 'E' && own && e.kind == 'E' && !last(m):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pop()
		c.skipping = true
		return true, nil
	}
	return false, nil
}

func (c *conn) pendingStrays() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strays.sent > 0
}
