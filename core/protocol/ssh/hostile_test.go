package ssh

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
)

// What is no SSH, or too much of it before anybody is known, ends that one
// connection.
func TestSA09SA10SA12SA17Strangers(t *testing.T) {
	g := serve(t, all, func(g *gateway) { g.protocol.patience = 2 * time.Second })
	for name, first := range map[string]string{"HTTP": "GET / HTTP/1.1\r\n\r\n", "64 KB": "SSH-2.0-" + strings.Repeat("x", 64<<10) + "\r\n", "PROXY": "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "SSH-1": "SSH-1.5-old\r\n", "nothing": "",
		"never reads": "SSH-2.0-x\r\n" + strings.Repeat("\x00\x00\x7f\xfc\x04\x02"+strings.Repeat("x", 0x7ffa), 200), "one": "SSH-2.0-x\r\n\x00\x00\x00\x01\x00", "35001": "SSH-2.0-x\r\n\x00\x00\x88\xb9\x04" + strings.Repeat("x", 35000), "no padding": "SSH-2.0-x\r\n\x00\x00\x00\x0c\x00" + strings.Repeat("x", 11),
		"packet": "SSH-2.0-x\r\n\xff\xff\xff\xff\x00", "zero": "SSH-2.0-x\r\n\x00\x00\x00\x00\x00", "padding": "SSH-2.0-x\r\n\x00\x00\x00\x0c\xff" + strings.Repeat("x", 11)} {
		nc, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(15 * time.Second))
		_, _ = io.WriteString(nc, first)
		if _, err := io.ReadAll(nc); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
		nc.Close()
	}
	for range 500 {
		if g.protocol.door.Waiting() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left := g.protocol.door.Waiting(); left != 0 {
		t.Errorf("%d are still counted", left)
	}
	// So many from one address wait at once; the oldest is out then, not who comes.
	var first net.Conn
	for i := range door.One + 1 {
		nc, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if i == 0 {
			first = nc
		}
	}
	g.connect(t)
	_ = first.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.ReadAll(first); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the first of too many stays")
	}
}

// A client that floods channels, or leaves them open, costs itself alone.
func TestSA14Channels(t *testing.T) {
	g := serve(t, all)
	c, err := g.client(t, "x+web-1")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range maxSessions + 10 {
		if _, reqs, err := c.OpenChannel("session", nil); err != nil {
			refused++
		} else {
			go ssh.DiscardRequests(reqs)
		}
	}
	if refused != 10 {
		t.Errorf("%d refused", refused)
	}
	for range 2000 {
		if _, _, err := c.OpenChannel("nothing", nil); err == nil {
			t.Fatal("taken")
		}
	}
	if got := output(t, g.connect(t), "echo on"); got.out != "on\n" {
		t.Errorf("%+v", got)
	}
}

// A host that says too much, too little, or in the wrong order is put up with.
func TestSC12HostileHost(t *testing.T) {
	status := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, c := range map[string]struct {
		host func(ch ssh.Channel)
		want ran
		ends gate.State
	}{
		"status first": {func(ch ssh.Channel) {
			ch.SendRequest("exit-status", false, status(3))
			io.WriteString(ch, "late")
			ch.Close()
		}, ran{"late", "", 3}, gate.Completed},
		"two statuses": {func(ch ssh.Channel) {
			ch.SendRequest("exit-status", false, status(3))
			ch.SendRequest("exit-status", false, status(0))
			ch.Close()
		}, ran{"", "", 3}, gate.Completed},
		"no status":     {func(ch ssh.Channel) { io.WriteString(ch, "out"); ch.Close() }, ran{"out", "", -1}, gate.Lost},
		"half a status": {func(ch ssh.Channel) { ch.SendRequest("exit-status", false, []byte{1}); ch.Close() }, ran{"", "", -1}, gate.Lost},
		"requests": {func(ch ssh.Channel) {
			ch.SendRequest("shell", true, nil)
			ch.SendRequest("hostkeys-00@openssh.com", true, nil)
			ch.SendRequest("exit-status", false, status(0))
			ch.Close()
		}, ran{"", "", 0}, gate.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, all)
			g.bare(t, func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
				_, _, _ = conn.SendRequest("hostkeys-00@openssh.com", false, []byte("x"))
				nc, ok := <-chans
				if !ok {
					return
				}
				ch, reqs, _ := nc.Accept()
				for r := range reqs {
					_ = r.Reply(true, nil)
					if r.Type == "exec" {
						c.host(ch)
					}
				}
			})
			client := g.connect(t)
			ch, reqs, err := client.OpenChannel("session", nil)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"x"})); !ok || err != nil {
				t.Fatal(ok, err)
			}
			out, _ := io.ReadAll(ch)
			errs, _ := io.ReadAll(ch.Stderr())
			got := ran{string(out), string(errs), -1}
			for r := range reqs {
				if r.Type != "exit-status" {
					t.Errorf("the client is sent %s", r.Type)
				} else if got.code = int(r.Payload[3]); len(r.Payload) != 4 {
					t.Error(r.Payload)
				}
			}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			g.log.wait(t, "the end", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.State == c.ends.String() })
		})
	}
}

// A limit on what is answered, or on how long it takes, ends the command.
func TestLimits(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		v := all(c)
		switch v.Limits.Bytes = 1000; {
		case strings.Contains(c.Statement.Text, "sleep 1000"):
			v.Limits = abi.Limits{StatementTimeout: 300}
		case strings.Contains(c.Statement.Text, "sleep"):
			v.Limits = abi.Limits{}
		}
		return v
	})
	c := g.connect(t)
	if got := output(t, c, "head -c 100000 /dev/zero; sleep 0"); got.code != 0 || len(got.out) != 100000 {
		t.Errorf("%d, %d bytes, %s", got.code, len(got.out), got.err)
	}
	got := output(t, c, "head -c 100000 /dev/zero")
	if got.code != 126 || len(got.out) > 1000 || !strings.Contains(got.err, "larger than the 1000 bytes") {
		t.Errorf("%d, %d bytes, %s", got.code, len(got.out), got.err)
	}
	if got := output(t, c, "sleep 1000"); got.code != 126 || !strings.Contains(got.err, "longer than the 300ms") {
		t.Errorf("%+v", got)
	}
	g.log.wait(t, "its end", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Code == "gate.timeout" })
	long := ssh.Marshal(struct{ S string }{"echo " + strings.Repeat("x", maxText)})
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("exec", true, long); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if b, _ := io.ReadAll(ch.Stderr()); !bytes.Contains(b, []byte("denied: a command of")) {
		t.Errorf("%s", b)
	}
}

// BenchmarkCat carries 64 MB through a program's input and output, by the gateway
// and by a relay that judges and records nothing.
func BenchmarkCat(b *testing.B) {
	g := serve(b, all)
	relay := bareRelay(b, g)
	for name, address := range map[string]string{"gateway": g.addr, "relay": relay} {
		b.Run(name, func(b *testing.B) {
			c, err := ssh.Dial("tcp", address, &ssh.ClientConfig{User: "x+web-1", Auth: []ssh.AuthMethod{ssh.Password("token")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			data := make([]byte, 1<<20)
			b.SetBytes(64 << 20)
			before, n := processor(b), 0
			for b.Loop() {
				n++
				s, err := c.NewSession()
				if err != nil {
					b.Fatal(err)
				}
				in, _ := s.StdinPipe()
				out, _ := s.StdoutPipe()
				if err := s.Start("cat"); err != nil {
					b.Fatal(err)
				}
				go func() {
					for range 64 {
						_, _ = in.Write(data)
					}
					in.Close()
				}()
				if n, err := io.Copy(io.Discard, out); n != 64<<20 || err != nil {
					b.Fatal(n, err)
				}
				if err := s.Wait(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processor(b)-before).Microseconds())/1000/float64(n*64), "cpu-ms/MB") // of client and gateway, whatever else the machine does
		})
	}
}

// processor is the time that this process has had of one.
func processor(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareRelay stands where a gateway would, with the library and nothing else.
func bareRelay(t testing.TB, g *gateway) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(newSigner(t))
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, chans, reqs, err := ssh.NewServerConn(nc, config)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				host, err := g.host.Client()
				if err != nil {
					fmt.Println(err)
					return
				}
				defer host.Close()
				for nc := range chans {
					client, creqs, _ := nc.Accept()
					up, hreqs, _ := host.OpenChannel("session", nil)
					go func() {
						for r := range creqs {
							ok, _ := up.SendRequest(r.Type, r.WantReply, r.Payload)
							_ = r.Reply(ok, nil)
						}
					}()
					go func() { _, _ = io.Copy(up, client); _ = up.CloseWrite() }()
					go func() {
						_, _ = io.Copy(client, up)
						for r := range hreqs {
							_, _ = client.SendRequest(r.Type, false, r.Payload)
						}
						client.Close()
					}()
				}
			}()
		}
	}()
	return l.Addr().String()
}

// What is read is not copied, and costs no memory (BenchmarkCat has the whole).
func TestPumpAllocatesNothing(t *testing.T) {
	g := serve(t, all)
	s, err := g.Open(t.Context(), gate.Login{Protocol: "ssh", Task: "x", Resource: "web-1", Secret: "token", Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	ex, err := s.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "ssh", Text: "x", Canonical: "x", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: []string{"x"}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := &tap{exchange: ex}
	const pieces = 1000
	few := testing.AllocsPerRun(5, func() { _, _ = out.answers(t.Context(), io.Discard, &endless{n: 10}, FrameOut) })
	many := testing.AllocsPerRun(5, func() { _, _ = out.answers(t.Context(), io.Discard, &endless{n: pieces}, FrameOut) })
	if many > few+1 {
		t.Errorf("%v allocations for %d reads, %v for 10", many, pieces, few)
	}
}

type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	if e.n--; e.n < 0 {
		return 0, io.EOF
	}
	return len(b), nil
}
