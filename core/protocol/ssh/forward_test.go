package ssh

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// echo answers each connection with what it was sent, until it is over.
func echo(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer nc.Close(); _, _ = io.Copy(nc, nc) }()
		}
	}()
	return l
}

func says(t testing.TB, nc net.Conn, text string) {
	t.Helper()
	defer nc.Close()
	if _, err := fmt.Fprintln(nc, text); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(nc).ReadString('\n'); err != nil || line != text+"\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// only is all operations of these kinds and objects.
func only(objects ...string) func(*abi.Command) *abi.Verdict {
	return func(c *abi.Command) *abi.Verdict {
		o := c.Statement.Operations[0]
		for _, want := range objects {
			if o.Verb+" "+strings.Join(o.Object, ":") == want {
				return all(c)
			}
		}
		return nil
	}
}

// Every kind of forward is refused unless it is listed; what is goes by way of
// the host, and is recorded.
func TestSC01SC02Forwards(t *testing.T) {
	dir := t.TempDir()
	sock, mine := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	tcp := echo(t, "tcp", "127.0.0.1:0")
	echo(t, "unix", sock)
	g := serve(t, only("connect "+tcp.Addr().String(), "connect "+sock, "bind 127.0.0.1:0", "bind "+mine))
	c := g.connect(t) // has no session channel
	nc, err := c.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	says(t, nc, "by tcp")
	if nc, err = c.Dial("unix", sock); err != nil {
		t.Fatal(err)
	}
	says(t, nc, "by a socket")
	g.log.wait(t, "its end", done("sent 7, received 7"))
	other := echo(t, "tcp", "127.0.0.1:0")
	for _, to := range []string{other.Addr().String(), "localhost:1", "169.254.169.254:80"} {
		if _, err := c.Dial("tcp", to); err == nil || !strings.Contains(err.Error(), "denied: not in the task") {
			t.Errorf("%s: %v", to, err)
		}
	}
	l, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.ListenUnix(mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{l, u} {
		go func() {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			_, _ = io.Copy(nc, nc)
		}()
		nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		says(t, nc, "by the host")
	}
	for _, address := range []string{"0.0.0.0:0", "127.0.0.1:1", ":0"} {
		if _, err := c.Listen("tcp", address); err == nil {
			t.Errorf("the host listens on %s", address)
		}
	}
	// SC04: what another connection has bound is not this one's to end.
	d := g.connect(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var n uint32
	fmt.Sscan(port, &n)
	if ok, _, err := d.SendRequest("cancel-tcpip-forward", true, ssh.Marshal(struct {
		A string
		P uint32
	}{"127.0.0.1", n})); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	if nc, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Error("the forward is gone")
	} else {
		nc.Close()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if nc, err = net.Dial("tcp", l.Addr().String()); err == nil {
		nc.Close()
		t.Error("the host still listens")
	}
}

// An address means what it looks like, or nothing.
func TestSC03Targets(t *testing.T) {
	for _, host := range []string{"db", "db-1.example.org", "127.0.0.1", "::1", "2001:db8::1", "a_b", "169.254.169.254", "1a"} {
		if err := plainHost(host); err != nil {
			t.Error(err)
		}
	}
	for _, host := range []string{"", "0", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "::ffff:127.0.0.1", "::", "0.0.0.0", "fe80::1%eth0", "db.", ".db", "a..b", "-db", "db\n", "DB", "[::1]", "127.0.0.1.",
		"2001:DB8::1", "0:0:0:0:0:0:0:1", "db/x", "a b", "1.0x7f", "db.1", "dé", strings.Repeat("a", 64), strings.Repeat("a.", 200) + "a"} {
		if plainHost(host) == nil {
			t.Errorf("%q is plain", host)
		}
	}
	for _, p := range []string{"", "a", "/a/../b", "/a/", "/a//b", "/a\x00b", "/a\nb"} {
		if plainPath(p) == nil {
			t.Errorf("%q is plain", p)
		}
	}
	g := serve(t, all)
	c := g.connect(t)
	_, port, _ := net.SplitHostPort(g.host.Address)
	for to, want := range map[string]string{"0x7f.1:80": "plainly", "127.0.0.1:0": "not a port", g.addr: "the gateway itself", // SC23
		g.host.Address: "ssh TASK+web-1@GATEWAY", "localhost:" + port: "ssh TASK+web-1@GATEWAY", "DB-1:5432": "that is the resource shop"} {
		host, p, _ := net.SplitHostPort(to)
		var n uint32
		fmt.Sscan(p, &n)
		_, _, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			H string
			P uint32
			O string
			F uint32
		}{host, n, "127.0.0.1", 1}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", to, err)
		}
	}
	if n := g.log.count(func(e *gate.Event) bool { return e.Kind == gate.EventNote }); n != 6 {
		t.Errorf("%d notes", n)
	}
}

// SC23: no forward leads to the gateway, by whatever name the host has of it.
func TestSC23TheGatewayItself(t *testing.T) {
	g := serve(t, all, func(g *gateway) {
		settings := g.protocol.Settings
		g.protocol.Settings = func() *Settings {
			s := settings()
			s.Own = []string{"127.0.0.1:6432", "[::]:8443", "gw.example:2222", "/srv/taskgate/admin.sock"}
			return s
		}
	})
	c := g.connect(t)
	names := []string{"localhost:6432", "x.localhost:6432", "ip6-localhost:8443", "127.9.9.9:6432", "127.0.0.1:8443", "[::1]:8443", "GW.Example:2222"}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name+":6432")
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil {
			names = append(names, net.JoinHostPort(ip.String(), "8443"))
		}
	}
	for _, to := range names {
		if _, err := c.Dial("tcp", to); err == nil || !strings.Contains(err.Error(), "that is the gateway itself") {
			t.Errorf("%s: %v", to, err)
		}
	}
	if _, err := c.Dial("unix", "/srv/taskgate/admin.sock"); err == nil || !strings.Contains(err.Error(), "that is the gateway itself") {
		t.Error(err)
	}
	l := echo(t, "tcp", "127.0.0.1:0")
	nc, err := c.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	says(t, nc, "to something else")
	for host, want := range map[string]bool{"192.0.2.1": false, "gw.example": false, "2001:db8::1": false, "::": true, "127.1.2.3": true} {
		if onMachine(host) != want {
			t.Error(host)
		}
	}
}

// What a side sends and then closes behind reaches the other as a whole, however
// slowly that one reads.
func TestForwardCloseBehindData(t *testing.T) {
	g := serve(t, all)
	data := bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	received := make(chan int, 1)
	g.bare(t, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			if nc.ChannelType() == "direct-tcpip" {
				_, _ = ch.Write(data)
				_ = ch.CloseWrite()
				_ = ch.Close()
				continue
			}
			time.Sleep(50 * time.Millisecond)
			b, _ := io.ReadAll(ch)
			received <- len(b)
			ch.Close()
		}
	})
	c := g.connect(t)
	open := func(kind string, extra []byte) ssh.Channel {
		ch, reqs, err := c.OpenChannel(kind, extra)
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(reqs)
		return ch
	}
	for range 20 {
		ch := open("direct-tcpip", ssh.Marshal(struct {
			H string
			P uint32
			O string
			F uint32
		}{"10.0.0.1", 80, "127.0.0.1", 1}))
		time.Sleep(20 * time.Millisecond) // the end is there before what came before it is read
		if b, err := io.ReadAll(ch); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%d of %d bytes, %v", len(b), len(data), err)
		}
		ch.Close()
		ch = open("direct-streamlocal@openssh.com", ssh.Marshal(struct {
			P, R string
			Z    uint32
		}{"/run/x", "", 0}))
		if _, err := ch.Write(data); err != nil {
			t.Fatal(err)
		}
		ch.Close()
		if n := <-received; n != len(data) {
			t.Fatalf("the host got %d of %d bytes", n, len(data))
		}
	}
}

// OpenSSH's own forwards: -L, -W and -D.
func TestOpenSSHForwards(t *testing.T) {
	tcp := echo(t, "tcp", "127.0.0.1:0")
	g := serve(t, only("connect "+tcp.Addr().String()))
	got := run(t, g.ssh("-W", tcp.Addr().String(), who), "hello\n")
	if got.out != "hello\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	got = run(t, g.ssh("-W", "127.0.0.1:1", who), "hello\n")
	if got.code == 0 || !strings.Contains(got.err, "taskgate: denied: not in the task") {
		t.Errorf("%+v", got)
	}
}

// What the client lends reaches the host where a task says so, and a host opens
// nothing that was not lent (SC20).
func TestSA19SC20Agent(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		g := serve(t, func(c *abi.Command) *abi.Verdict {
			if k := c.Statement.Operations[0].Kind; !allowed && (k == abi.KindAgent || k == abi.KindX11) {
				return nil
			}
			return all(c)
		})
		type try struct {
			kind  string
			extra []byte
		}
		tries := make(chan string, 10)
		g.bare(t, func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
			nc, ok := <-chans
			if !ok {
				return
			}
			ch, reqs, _ := nc.Accept()
			for r := range reqs {
				if r.Type == "auth-agent-req@openssh.com" || r.Type == "x11-req" {
					tries <- r.Type
				}
				_ = r.Reply(true, nil)
				if r.Type != "exec" {
					continue
				}
				tcp := ssh.Marshal(struct {
					A string
					P uint32
					O string
					F uint32
				}{"127.0.0.1", 80, "127.0.0.1", 1})
				for _, x := range []try{{"session", nil}, {"auth-agent@openssh.com", nil}, {"x11", ssh.Marshal(struct {
					O string
					P uint32
				}{"127.0.0.1", 1})}, {"forwarded-tcpip", tcp}, {"direct-tcpip", tcp}, {"forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ P, R string }{"/x", ""})}, {"", nil}} {
					if c, reqs, err := conn.OpenChannel(x.kind, x.extra); err == nil {
						go ssh.DiscardRequests(reqs)
						tries <- x.kind
						c.Close()
					}
				}
				ch.Close()
			}
			close(tries)
		})
		c := g.connect(t)
		for _, kind := range []string{"auth-agent@openssh.com", "x11", "session", "forwarded-tcpip"} {
			in := c.HandleChannelOpen(kind)
			go func() {
				for nc := range in {
					if ch, reqs, err := nc.Accept(); err == nil {
						go ssh.DiscardRequests(reqs)
						ch.Close()
					}
				}
			}()
		}
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); ok != allowed || err != nil {
			t.Error(ok, err)
		}
		if ok, err := s.SendRequest("x11-req", true, ssh.Marshal(struct {
			S    bool
			P, C string
			N    uint32
		}{false, "MIT-MAGIC-COOKIE-1", "abcd", 0})); ok != allowed || err != nil {
			t.Error(ok, err)
		}
		_ = s.Run("x")
		var got []string
		for x := range tries {
			got = append(got, x)
		}
		want := ""
		if allowed {
			want = "auth-agent-req@openssh.com x11-req auth-agent@openssh.com x11"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("allowed %t: the host has %q", allowed, got)
		}
	}
}

// TestLentIsGivenBack: what a client lends for one channel the host has no longer
// than that channel is open.
func TestLentIsGivenBack(t *testing.T) {
	g := serve(t, all)
	ask, began := make(chan func() (ssh.Channel, error), 1), make(chan bool, 2)
	g.bare(t, func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		ask <- func() (ssh.Channel, error) {
			ch, reqs, err := conn.OpenChannel("auth-agent@openssh.com", nil)
			if err == nil {
				go ssh.DiscardRequests(reqs)
			}
			return ch, err
		}
		for nc := range chans {
			_, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range reqs {
					_ = r.Reply(true, nil)
					if r.Type == "exec" {
						began <- true
					}
				}
			}()
		}
	})
	c := g.connect(t)
	in := c.HandleChannelOpen("auth-agent@openssh.com")
	go func() {
		for nc := range in {
			if ch, reqs, err := nc.Accept(); err == nil {
				go ssh.DiscardRequests(reqs)
				go func() { _, _ = io.Copy(ch, ch) }()
			}
		}
	}()
	lend := func() *ssh.Session {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := s.Start("x"); err != nil {
			t.Fatal(err)
		}
		<-began
		return s
	}
	one, two := lend(), lend()
	open := <-ask
	say := func(ch ssh.Channel) error {
		if _, err := io.WriteString(ch, "hello"); err != nil {
			return err
		}
		_, err := io.ReadFull(ch, make([]byte, 5))
		return err
	}
	keys, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := say(keys); err != nil {
		t.Fatal(err)
	}
	two.Close() // it was the last that lent
	if _, err := io.ReadAll(keys); err != nil {
		t.Error(err)
	}
	if keys, err = open(); err != nil { // the other one still lends
		t.Fatal(err)
	}
	if err := say(keys); err != nil {
		t.Error(err)
	}
	one.Close()
	if _, err := io.ReadAll(keys); err != nil {
		t.Error(err)
	}
	if _, err := open(); err == nil {
		t.Error("the host has the keys of a channel that is closed")
	}
}

// TestRefusedForwardsCount: what is refused before it is a command counts as one
// that was refused, and is written down in short.
func TestRefusedForwardsCount(t *testing.T) {
	g := serve(t, all)
	c := g.connect(t)
	long := strings.Repeat("0", 200<<10)
	var err error
	for n := 0; n < 1100 && (err == nil || strings.Contains(err.Error(), "denied")); n++ {
		host := "0x7f.1"
		if n == 0 {
			host = long
		}
		_, _, err = c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			H string
			P uint32
			O string
			F uint32
		}{host, 80, "", 0}))
	}
	g.log.wait(t, "the end of the session", func(e *gate.Event) bool {
		return e.Kind == gate.EventClose && strings.Contains(fmt.Sprintf("%+v", e), "too many refused commands")
	})
	if n := g.log.count(func(e *gate.Event) bool { return len(fmt.Sprintf("%+v", e)) > 4<<10 }); n > 0 {
		t.Errorf("%d long events", n)
	}
}
