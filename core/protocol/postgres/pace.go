package postgres

import (
	"context"
	"time"
)

// How much a server may say that nobody has asked for: notices, notifications,
// parameters and errors. Each costs the gateway more than it costs the server,
// and so who says it without end would have a processor for itself. It is not
// refused but read more slowly.
const (
	asideEach  = 100 * time.Microsecond // a message: 10,000 a second
	asideByte  = 100 * time.Nanosecond  // a byte of it: 10 MB a second
	asideAhead = 2 * time.Second        // what may come at once is what is due in that time
	asideRest  = 5 * time.Millisecond   // a waiting is not shorter
)

// pace waits where the server has said too much that nobody has asked for.
func (c *conn) pace(ctx context.Context, size int) error {
	now := time.Now()
	if c.aside.Before(now) {
		c.aside = now
	}
	c.aside = c.aside.Add(asideEach + time.Duration(size)*asideByte)
	ahead := c.aside.Sub(now)
	if ahead <= asideAhead {
		return nil
	}
	if err := c.deliver(); err != nil {
		return err
	}
	c.leaveLoop()
	timer := time.NewTimer(ahead - asideAhead + asideRest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
