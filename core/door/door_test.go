package door

import (
	"math/rand/v2"
	"net"
	"testing"
)

// client is a connection that is there or not.
type client struct {
	net.Conn
	from   net.IP
	closed bool
}

func (c *client) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.from, Port: 1} }
func (c *client) Close() error         { c.closed = true; return nil }

func ip(b ...byte) net.IP { return net.IPv4(10, 0, b[0], b[1]) }

// TestX02Fair: whoever floods, from one address, from some or from as many as
// there are connections, who comes then is taken, and is not the next to go.
func TestX02Fair(t *testing.T) {
	for name, from := range map[string]func(i int) net.IP{
		"one address":       func(int) net.IP { return ip(1, 1) },
		"four addresses":    func(i int) net.IP { return ip(1, byte(i%4)) },
		"a hundred":         func(i int) net.IP { return ip(1, byte(i%100)) },
		"each its own":      func(i int) net.IP { return ip(byte(i/250), byte(i%250)) },
		"one network of v6": func(i int) net.IP { return net.IP{0x20, 1, 15: byte(i), 14: byte(i >> 8)} },
	} {
		var d Door
		flood := func(from func(int) net.IP, n int) (list []*Guest) {
			for i := range n {
				g := d.Enter(&client{from: from(i)})
				if g == nil {
					t.Fatalf("%s: not taken", name)
				}
				list = append(list, g)
				for _, g := range list[max(0, len(list)-Most-1):] { // who is shown out goes
					if g.out && !g.gone {
						g.Leave()
					}
				}
			}
			return list
		}
		flood(from, 3*Most)
		if n := d.Waiting(); n > Most || len(d.of) != len(d.addresses) {
			t.Errorf("%s: %d wait, of %d addresses, %d of them in order", name, n, len(d.of), len(d.addresses))
		}
		mine := &client{from: net.IPv4(192, 0, 2, 1)}
		g := d.Enter(mine)
		flood(from, Most/2)
		if g == nil || mine.closed {
			t.Errorf("%s: another is not let in", name)
		} else if g.Leave() {
			t.Errorf("%s: another was shown out", name)
		}
	}
}

// TestX02OwnAddress: who shares an address with a flood is taken as well, and its
// oldest is out.
func TestX02OwnAddress(t *testing.T) {
	var d Door
	var all []*client
	var guests []*Guest
	for range One + 10 {
		c := &client{from: ip(1, 1)}
		all, guests = append(all, c), append(guests, d.Enter(c))
	}
	for i, c := range all {
		if c.closed != (i < 10) || guests[i].Leave() != (i < 10) {
			t.Errorf("connection %d: closed %t", i, c.closed)
		}
	}
	if d.Waiting() != 0 || d.shown != 0 || len(d.of) != 0 || len(d.addresses) != 0 {
		t.Errorf("something is left: %+v", &d)
	}
}

// TestX02Stuck: who was shown out and does not go counts too: there is a bound
// even then, and it is over when they go.
func TestX02Stuck(t *testing.T) {
	var d Door
	var list []*Guest
	for {
		g := d.Enter(&client{from: ip(1, byte(len(list)%200))})
		if g == nil {
			break
		}
		list = append(list, g)
	}
	if len(list) != 2*Most {
		t.Errorf("%d are taken", len(list))
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, g := range list {
		out := g.Leave()
		if g.Leave() != out { // again changes nothing
			t.Error("it was shown out, and was not")
		}
	}
	if d.shown != 0 || d.Waiting() != 0 || d.Enter(&client{from: ip(1, 1)}) == nil {
		t.Errorf("%d are counted, %d wait", d.shown, d.Waiting())
	}
}
