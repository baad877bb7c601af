package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// attack is one that BenchmarkHostile makes.
type attack struct {
	name string
	tls  bool // at a listener with a certificate
	ssh  bool // the others are at a host
	once bool // whether a loop carries sessions changes nothing
	run  func(a *attacker)
}

// attacks are what a stranger, somebody who has logged in, and a resource do.
var attacks = []attack{
	{name: "nothing", run: func(*attacker) {}},
	{name: "10,000 that say nothing", once: true, run: func(a *attacker) { a.open(a.Postgres, 10_000, nil) }},
	{name: "10,000 with half of a start-up", once: true, run: func(a *attacker) { a.open(a.Postgres, 10_000, startup("look", "shop")[:9]) }},
	{name: "1,000 of the others' own address", once: true, run: func(a *attacker) {
		for range 1000 {
			a.keep(net.Dial("tcp", a.Postgres))
		}
	}},
	{name: "1,000 that send a byte a second", once: true, run: func(a *attacker) {
		all := append(startup("look", "shop"), message('p', "token\x00")...)
		for i, nc := range a.open(a.Postgres, 1000, nil) {
			a.goes(func() {
				for n := i; a.sleep(time.Second); n++ {
					_, _ = nc.Write(all[n%len(all) : n%len(all)+1])
				}
			})
		}
	}},
	{name: "10,000 TLS handshakes left half way", tls: true, once: true, run: func(a *attacker) {
		a.open(a.Postgres, 10_000, append(request(80877103), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"...))
	}},
	{name: "connections, one after another", once: true, run: func(a *attacker) {
		a.again(4, func() { a.does(a.Postgres, nil) })
	}},
	{name: "logins that fail", once: true, run: func(a *attacker) {
		a.again(4, func() { a.does(a.Postgres, append(startup("look", "shop"), message('p', "wrong\x00")...)) })
	}},
	{name: "cancel requests", once: true, run: func(a *attacker) {
		a.again(4, func() { a.does(a.Postgres, request(80877102, 1, 2)) })
	}},
	{name: "20 with a Parse that never ends", run: func(a *attacker) {
		a.sessions(20, "look", "shop", func(nc net.Conn) { a.half(nc, 'P', 1<<20) })
	}},
	{name: "20 with a Bind of 60 MB that never ends", run: func(a *attacker) {
		a.sessions(20, "look", "shop", func(nc net.Conn) { a.half(nc, 'B', 60<<20) })
	}},
	{name: "8 that ask and do not read", run: func(a *attacker) {
		a.sessions(8, "look", "shop", func(nc net.Conn) { a.pours(nc, asking("select repeat('x', 1000)")) })
	}},
	{name: "8 that ask without end", run: func(a *attacker) {
		a.sessions(8, "look", "shop", func(nc net.Conn) {
			a.goes(func() { _, _ = io.Copy(io.Discard, nc) })
			a.pours(nc, asking("select id from orders where id = 1"))
		})
	}},
	{name: "4 that ask something new without end", run: func(a *attacker) {
		a.sessions(4, "look", "shop", func(nc net.Conn) {
			a.goes(func() { _, _ = io.Copy(io.Discard, nc) })
			var b []byte
			for n := 0; a.on(); n++ {
				if b = append(b, asking(fmt.Sprintf("select id, status from orders where id = %d and total > %d order by id", n, n))...); n%100 == 0 {
					if _, err := nc.Write(b); err != nil {
						return
					}
					b = b[:0]
				}
			}
		})
	}},
	{name: "8 slow readers of what is large", run: func(a *attacker) {
		a.sessions(8, "look", "shop", func(nc net.Conn) {
			_, _ = nc.Write(asking("select repeat('x', 1000) from generate_series(1, 1000000)"))
			for a.sleep(10 * time.Millisecond) {
				if _, err := nc.Read(make([]byte, 10)); err != nil {
					return
				}
			}
		})
	}},
	{name: "4 with a COPY of nothing without end", run: func(a *attacker) {
		a.sessions(4, "look", "shop", func(nc net.Conn) {
			_, _ = nc.Write(asking("copy junk (m) from stdin"))
			a.pours(nc, message('d', ""))
		})
	}},
	{name: "4 servers of endless notices, read", run: func(a *attacker) { a.rude("notices", true) }},
	{name: "4 servers of endless notices, unread", run: func(a *attacker) { a.rude("notices", false) }},
	{name: "4 servers that change parameters without end", run: func(a *attacker) { a.rude("parameters", true) }},
	{name: "4 servers that notify without end", run: func(a *attacker) { a.rude("notifications", true) }},
	{name: "4 servers of endless rows", run: func(a *attacker) { a.rude("rows", true) }},
	{name: "4 servers of endless rows, masked", run: func(a *attacker) { a.rude("masked", true) }},
	{name: "8 servers of a masked row that never ends", run: func(a *attacker) { a.rude("huge", true) }},
	{name: "servers of wider rows, again and again", run: func(a *attacker) {
		a.again(4, func() { a.asks("masked", "wide", true) })
	}},
	{name: "servers of negative lengths, again and again", run: func(a *attacker) {
		a.again(4, func() { a.asks("look", "negative", true) })
	}},
	{name: "SSH: nothing", ssh: true, once: true, run: func(*attacker) {}},
	{name: "SSH: 10,000 that say nothing", ssh: true, once: true, run: func(a *attacker) { a.open(a.SSH, 10_000, nil) }},
	{name: "SSH: 10,000 that name themselves alone", ssh: true, once: true, run: func(a *attacker) { a.open(a.SSH, 10_000, []byte("SSH-2.0-x\r\n")) }},
	{name: "SSH: connections, one after another", ssh: true, once: true, run: func(a *attacker) {
		a.again(4, func() { a.does(a.SSH, []byte("SSH-2.0-x\r\n\r\n\r\n\r\n\r\n")) })
	}},
	{name: "SSH: 4 that open channels without end", ssh: true, once: true, run: func(a *attacker) {
		a.hosts(4, func(c *ssh.Client) {
			if _, reqs, err := c.OpenChannel("session", nil); err == nil {
				go ssh.DiscardRequests(reqs) // ends with the connection
			}
		})
	}},
	{name: "SSH: 4 that ask for nothing without end", ssh: true, once: true, run: func(a *attacker) {
		a.hosts(4, func(c *ssh.Client) { _, _, _ = c.SendRequest("keepalive@openssh.com", true, nil) })
	}},
}

// attacker is the process that makes one attack, apart from who is measured and
// after everybody else in turn for the processors.
type attacker struct {
	Attack, Postgres, SSH string
	Tokens                map[string]string // by task and resource

	count  atomic.Int64
	stop   chan struct{}
	group  sync.WaitGroup
	mu     sync.Mutex
	opened []net.Conn
}

// hostile is that process: it says how many connections it has opened once they
// are, and again at the end, which is that of its input.
func hostile() {
	a := &attacker{stop: make(chan struct{})}
	if os.Args[1] == "server" {
		rudeServer(os.Args[2])
		return
	}
	if err := json.Unmarshal([]byte(os.Args[1]), a); err != nil {
		panic(err)
	}
	for _, k := range attacks {
		if k.name == a.Attack {
			k.run(a)
		}
	}
	fmt.Println(a.count.Load())
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println(a.count.Load())
	close(a.stop)
	a.mu.Lock()
	for _, nc := range a.opened {
		nc.Close()
	}
	a.mu.Unlock()
}

func (a *attacker) goes(do func()) { a.group.Go(do) }

func (a *attacker) on() bool {
	select {
	case <-a.stop:
		return false
	default:
		return true
	}
}

func (a *attacker) sleep(d time.Duration) bool {
	select {
	case <-a.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (a *attacker) keep(nc net.Conn, err error) net.Conn {
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		return nil
	}
	a.count.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened = append(a.opened, nc)
	return nc
}

// open makes connections that begin with those bytes, of a hundred addresses of
// loopback.
func (a *attacker) open(to string, n int, first []byte) []net.Conn {
	const at = 10 // a time
	var all sync.WaitGroup
	for w := range at {
		all.Go(func() {
			for i := range n / at {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+w), byte(1+i%10))}, Timeout: 10 * time.Second}
				nc := a.keep(d.Dial("tcp", to))
				if nc == nil {
					return
				}
				_, _ = nc.Write(first)
			}
		})
	}
	all.Wait()
	return a.opened
}

// again does something over and over, as so many at a time.
func (a *attacker) again(n int, do func()) {
	for range n {
		a.goes(func() {
			for a.on() {
				do()
			}
		})
	}
}

// does connects, says that and reads what there is.
func (a *attacker) does(to string, b []byte) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 20, 1)}, Timeout: time.Second}
	nc, err := d.Dial("tcp", to)
	if err != nil {
		return
	}
	defer nc.Close()
	a.count.Add(1)
	_ = nc.(*net.TCPConn).SetLinger(0)
	if len(b) > 0 {
		_, _ = nc.Write(b)
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, nc)
	}
}

// sessions logs in so many times, and has each do something.
func (a *attacker) sessions(n int, task, resource string, do func(net.Conn)) {
	for range n {
		nc, err := a.enter(task, resource)
		if a.keep(nc, err) != nil {
			a.goes(func() { do(nc) })
		}
	}
}

func (a *attacker) enter(task, resource string) (net.Conn, error) {
	nc, err := net.Dial("tcp", a.Postgres)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	_ = nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	_, _ = nc.Write(append(startup(task, resource), message('p', a.Tokens[task+" "+resource]+"\x00")...))
	for {
		kind, body, err := receive(nc)
		if err == nil && kind == 'E' {
			err = fmt.Errorf("%q", body)
		}
		if err != nil {
			nc.Close()
			return nil, err
		}
		if kind == 'Z' {
			_ = nc.SetDeadline(time.Time{})
			return nc, nil
		}
	}
}

// half sends all but the end of a message.
func (a *attacker) half(nc net.Conn, kind byte, size int) {
	_, _ = nc.Write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(size)))
	_, _ = nc.Write(bytes.Repeat([]byte("x"), size-100))
}

// pours sends the same until nobody takes it.
func (a *attacker) pours(nc net.Conn, b []byte) {
	for b = bytes.Repeat(b, 1+(64<<10)/len(b)); a.on(); {
		if _, err := nc.Write(b); err != nil {
			return
		}
	}
}

// rude asks four servers for what makes them rude; where it is read, without end.
func (a *attacker) rude(what string, read bool) {
	task, n := "look", 4
	if what == "masked" || what == "huge" {
		task = "masked"
	}
	if what == "huge" {
		n = 8
	}
	a.sessions(n, task, "rude", func(nc net.Conn) { a.meets(nc, what, read) })
}

func (a *attacker) meets(nc net.Conn, what string, read bool) {
	_, _ = nc.Write(asking("select card from customers where name = 'rude:" + what + "'"))
	if read {
		_, _ = io.Copy(io.Discard, nc)
	}
}

func (a *attacker) asks(task, what string, read bool) {
	nc, err := a.enter(task, "rude")
	if err != nil {
		return
	}
	defer nc.Close()
	a.count.Add(1)
	a.meets(nc, what, read)
}

func (a *attacker) hosts(n int, do func(*ssh.Client)) {
	for range n {
		c, err := ssh.Dial("tcp", a.SSH, &ssh.ClientConfig{User: "run+web", Auth: []ssh.AuthMethod{ssh.Password(a.Tokens["run web"])}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			fmt.Fprintln(os.Stderr, "attack:", err)
			return
		}
		a.count.Add(1)
		a.again(1, func() { do(c) })
	}
}

func request(words ...uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+4*len(words)))
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func startup(task, resource string) []byte {
	body := "\x00\x03\x00\x00user\x00" + task + "\x00database\x00" + resource + "\x00\x00"
	return append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...)
}

func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

func asking(text string) []byte { return message('Q', text+"\x00") }

// receive reads one whole message.
func receive(r io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err := io.ReadFull(r, body)
	return head[0], body, err
}

// rudeServer stands before a real server until it is asked for 'rude:WHAT'. Then
// it says that without end.
func rudeServer(behind string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer nc.Close()
			real, err := net.Dial("tcp", behind)
			if err != nil {
				return
			}
			defer real.Close()
			if err := behave(nc, real); err != nil {
				return
			}
		}()
	}
}

// behave passes everything on until it is asked to be rude.
func behave(nc, real net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		return err
	}
	if _, err := real.Write(size[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(real, nc, int64(binary.BigEndian.Uint32(size[:]))-4); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() { // ends with the real server's connection
		_, _ = io.Copy(nc, real)
		close(over)
	}()
	for {
		kind, body, err := receive(nc)
		if err != nil {
			return err
		}
		if _, what, ok := strings.Cut(string(body), "rude:"); ok {
			real.Close()
			<-over
			return beRude(nc, what[:strings.IndexByte(what, '\'')])
		}
		if _, err := real.Write(message(kind, string(body))); err != nil {
			return err
		}
	}
}

func beRude(nc net.Conn, what string) error {
	const shape = "\x00\x01card\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"
	card := "\x00\x01\x00\x00\x00\x104111-0000-0000-1"
	var first, rest []byte
	switch what {
	case "notices":
		rest = message('N', "SNOTICE\x00VNOTICE\x00C00000\x00Mx\x00\x00")
	case "parameters":
		rest = append(message('S', "application_name\x00a\x00"), message('S', "application_name\x00b\x00")...)
	case "notifications":
		rest = message('A', "\x00\x00\x00\x01x\x00y\x00")
	case "rows", "masked":
		first, rest = message('T', shape), message('D', card)
	case "huge":
		first = append(message('T', shape), binary.BigEndian.AppendUint32([]byte{'D'}, 60<<20)...)
		first = append(append(first, 0, 1), binary.BigEndian.AppendUint32(nil, 60<<20-10)...)
		first = append(first, bytes.Repeat([]byte("x"), 60<<20-100)...)
	case "wide":
		first = append(message('T', shape), message('D', "\x00\x02"+card[2:]+card[2:])...)
	case "negative":
		first = []byte("N\xff\xff\xff\xff")
	}
	if _, err := nc.Write(first); err != nil {
		return err
	}
	if len(rest) == 0 {
		_, err := io.Copy(io.Discard, nc)
		return err
	}
	for rest = bytes.Repeat(rest, 1+(64<<10)/len(rest)); ; {
		if _, err := nc.Write(rest); err != nil {
			return err
		}
	}
}
