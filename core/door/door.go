// Package door bounds the connections of a listener whose clients are not yet
// known. Nobody is kept out by those who fill it: where there are too many, the
// one of the address with the most of them that has waited the longest is shown
// out, and who comes is taken.
package door

import (
	"container/heap"
	"container/list"
	"net"
	"sync"
)

// The bounds of what waits.
const (
	Most = 1000 // connections, of the whole listener
	One  = 250  // of them, of one address
)

// Door is what clients of one listener come through. The zero value is ready
// for use.
type Door struct {
	mu        sync.Mutex
	addresses addresses
	of        map[string]*address
	waiting   int
	shown     int    // out, and not gone yet
	came      uint64 // ever
}

// address is one that connections wait of, the oldest first.
type address struct {
	name   string
	guests list.List
	at     int // in the heap
}

// Guest is a connection that waits.
type Guest struct {
	door    *Door
	nc      net.Conn
	address *address
	at      *list.Element // nil where it does not wait any more
	number  uint64
	out     bool
	gone    bool
}

// Enter takes a connection, which another may have to leave for. It gives nil
// where not even that helps: too many who were shown out are still there.
func (d *Door) Enter(nc net.Conn) *Guest {
	name := Address(nc.RemoteAddr())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shown >= Most {
		return nil
	}
	a := d.of[name]
	if a == nil {
		if d.of == nil {
			d.of = map[string]*address{}
		}
		a = &address{name: name, at: -1}
		d.of[name] = a
	}
	d.came++
	g := &Guest{door: d, nc: nc, address: a, number: d.came}
	g.at = a.guests.PushBack(g)
	d.waiting++
	if a.at < 0 {
		heap.Push(&d.addresses, a)
	} else {
		heap.Fix(&d.addresses, a.at)
	}
	switch {
	case a.guests.Len() > One:
		d.show(a)
	case d.waiting > Most:
		d.show(d.addresses[0])
	}
	return g
}

// show ends the connection of an address that has waited the longest.
func (d *Door) show(a *address) {
	g := a.oldest()
	d.drop(g)
	g.out = true
	d.shown++
	_ = g.nc.Close()
}

func (d *Door) drop(g *Guest) {
	a := g.address
	a.guests.Remove(g.at)
	g.at = nil
	d.waiting--
	if a.guests.Len() > 0 {
		heap.Fix(&d.addresses, a.at)
		return
	}
	heap.Remove(&d.addresses, a.at)
	delete(d.of, a.name)
}

// Leave is of a client that is known, or gone. It says whether it was shown out.
func (g *Guest) Leave() (out bool) {
	d := g.door
	d.mu.Lock()
	defer d.mu.Unlock()
	if g.at != nil {
		d.drop(g)
	}
	if g.out && !g.gone {
		d.shown--
	}
	g.gone = true
	return g.out
}

// Waiting is how many wait now.
func (d *Door) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// Address is what counts as one: whoever has an address of IPv6 has the whole of
// its /64.
func Address(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if v4 := t.IP.To4(); v4 != nil {
		return v4.String()
	}
	return t.IP.Mask(net.CIDRMask(64, 128)).String()
}

func (a *address) oldest() *Guest { return a.guests.Front().Value.(*Guest) }

// addresses is a heap of those with most first, among equals the one that
// somebody has waited of for the longest.
type addresses []*address

func (h addresses) Len() int { return len(h) }

func (h addresses) Less(i, j int) bool {
	if a, b := h[i].guests.Len(), h[j].guests.Len(); a != b {
		return a > b
	}
	return h[i].guests.Len() > 0 && h[i].oldest().number < h[j].oldest().number
}

func (h addresses) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *addresses) Push(x any) {
	a := x.(*address)
	a.at = len(*h)
	*h = append(*h, a)
}

// Pop implements heap.Interface.
func (h *addresses) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.at = -1
	return a
}
