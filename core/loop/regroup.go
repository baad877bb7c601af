package loop

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// regroup has sessions whose clients speak from one processor carried by one
// loop, and has that go on where they are: what a client of many connections sends
// at once is taken at once then, without waking another processor, and it is woken
// once for what it gets. Who connects in turn is spread by chance. Two sessions
// change places where each comes into better company; one is moved alone where its
// loop has two more than another. Those that are silent count for nothing. It is
// called by every loop in which something happens; one of them does it.
func (g *Group) regroup() {
	g.mu.Lock()
	defer g.mu.Unlock()
	running := slices.DeleteFunc(slices.Clone(g.loops), func(l *loop) bool { return l == nil })
	if len(running) < 2 || time.Since(g.regrouped) < often*patience/2 {
		return
	}
	g.regrouped = time.Now()
	active := make([][]*Conn, len(running))
	for i, l := range running {
		active[i] = l.active()
	}
	speaks := processorsOf(active)
	for i, l := range running {
		if speaks[i] != none {
			l.follow(speaks[i])
		}
	}
	from := func(at int, processor int) int {
		return slices.IndexFunc(active[at], func(c *Conn) bool { return c.processor == processor })
	}
	for a := range active {
		for b := a + 1; b < len(active); b++ {
			for speaks[a] != none && speaks[b] != none {
				x, y := from(a, speaks[b]), from(b, speaks[a])
				if x < 0 || y < 0 {
					break
				}
				active[a][x].move(running[b])
				active[b][y].move(running[a])
				active[a][x], active[b][y] = active[b][y], active[a][x]
			}
		}
	}
	for {
		a, b := 0, 0
		for i := range active {
			if len(active[i]) > len(active[a]) {
				a = i
			}
			if len(active[i]) < len(active[b]) {
				b = i
			}
		}
		if len(active[a]) < len(active[b])+2 {
			return
		}
		x := max(0, from(a, speaks[b]))
		active[a][x].move(running[b])
		active[b] = append(active[b], active[a][x])
		active[a] = slices.Delete(active[a], x, x+1)
	}
}

const (
	often = 5  // ticks of the watch in which something happened, between two regroupings
	some  = 64 // sessions of a loop that are asked for the processor
	none  = -1
)

// active gives the client's ends of the sessions in which something has come since
// it was called last, and notes from which processor the client speaks, if it was
// the client who did. The caller holds the group's mu.
func (l *loop) active() []*Conn {
	l.mu.Lock()
	conns := slices.DeleteFunc(slices.Clone(l.conns), func(c *Conn) bool { return c == nil || c.other == nil })
	l.mu.Unlock()
	asked := 0
	return slices.DeleteFunc(conns, func(c *Conn) bool {
		spoke, answered := c.turn.Load(), c.other.turn.Load()
		said := spoke != c.spoke
		silent := !said && answered == c.answered
		c.spoke, c.answered, c.processor = spoke, answered, none
		if silent {
			return true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed || c.goal != nil {
			return true
		}
		if said && asked < some {
			asked++
			if p, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_INCOMING_CPU); err == nil {
				c.processor = p
			}
		}
		return false
	})
}

// follow has the loop's thread go on at that processor, and wherever the kernel
// finds better from there. One that sleeps stays where it is.
func (l *loop) follow(processor int) {
	thread := int(l.thread.Load())
	var may, there unix.CPUSet
	if err := unix.SchedGetaffinity(thread, &may); err != nil || !may.IsSet(processor) {
		return
	}
	there.Set(processor)
	if unix.SchedSetaffinity(thread, &there) == nil {
		_ = unix.SchedSetaffinity(thread, &may) // what may be set may be set again
	}
}

// processorsOf gives for each loop from which processor most of its sessions
// speak, of those that are not an earlier loop's.
func processorsOf(active [][]*Conn) []int {
	speaks := make([]int, len(active))
	for i, conns := range active {
		speaks[i] = none
		counts := map[int]int{}
		for _, c := range conns {
			counts[c.processor]++
		}
		for p, n := range counts {
			best := counts[speaks[i]]
			if p != none && !slices.Contains(speaks[:i], p) && (speaks[i] == none || n > best || n == best && p < speaks[i]) {
				speaks[i] = p
			}
		}
	}
	return speaks
}

// move has both ends of a session go on in another loop, each once the kernel
// knows nothing of it. Where one is still to go, neither is sent elsewhere: they
// would part. The caller holds the group's mu.
func (c *Conn) move(to *loop) {
	if to.users+2 > most || c.underway() || c.other.underway() {
		return
	}
	for _, end := range []*Conn{c, c.other} {
		end.mu.Lock()
		if !end.closed && end.goal == nil && end.loop.Load() != to {
			end.goal = to
			to.users++
		}
		end.mu.Unlock()
	}
}

// underway says whether it is to go on in another loop.
func (c *Conn) underway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goal != nil
}
