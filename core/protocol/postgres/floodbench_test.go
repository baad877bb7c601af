package postgres

import (
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkFlood is what another session's select costs while somebody floods
// the gateway, against the same moments before, and the memory that gateway and
// flooder hold then; both are this process. docs/perf/hostile.md is made of it.
func BenchmarkFlood(b *testing.B) {
	for _, f := range []struct {
		name  string
		start func(*flooding)
	}{
		{"nothing", func(*flooding) {}},
		{"1000_half-open", func(f *flooding) { f.open(1000, packet(v30 + "user\x00x\x00\x00")[:9]) }},
		{"500_a_byte_a_second", func(f *flooding) {
			login := join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), frame('p', []byte("token\x00")))
			for i, nc := range f.open(500, nil) {
				f.goes(func() {
					for n := i; f.sleep(time.Second); n++ {
						_, _ = nc.Write(login[n%len(login) : n%len(login)+1])
					}
				})
			}
		}},
		{"10000_before_login", func(f *flooding) { f.open(10_000, nil) }},
		{"8_that_do_not_read", func(f *flooding) {
			for range 8 {
				nc := f.enter()
				_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
				f.goes(func() {
					for f.sleep(0) {
						flood(nc, query("select repeat('x', 1000)"), 1<<20)
					}
				})
			}
		}},
		{"cancel_requests", func(f *flooding) {
			for range 2 {
				f.goes(func() {
					for f.sleep(0) {
						if nc, err := net.Dial("tcp", f.addr); err == nil {
							_, _ = nc.Write(packet("\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02"))
							_, _ = io.Copy(io.Discard, nc)
							nc.Close()
						}
					}
				})
			}
		}},
		{"upstreams_of_endless_notices", func(f *flooding) {
			f.Dialer = &endless{answer: frame('N', []byte("SNOTICE\x00C00000\x00Mx\x00\x00"))}
			for range 2 {
				f.goes(func() {
					for f.sleep(0) {
						if nc, err := net.Dial("tcp", f.addr); err == nil {
							_, _ = nc.Write(join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), frame('p', []byte("token\x00"))))
							_, _ = io.Copy(io.Discard, nc)
							nc.Close()
						}
					}
				})
			}
		}},
	} {
		b.Run(f.name, func(b *testing.B) {
			g := serve(b, &rules{allow: anything})
			g.Log, g.protocol.Log = unlogged{}, func(string, string, error) {}
			c := g.connect(b).PgConn()
			took := func() (p50, p99 float64) {
				var all []float64
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
					start := time.Now()
					if _, err := c.Exec(b.Context(), "select id from orders where id = 1").ReadAll(); err != nil {
						b.Fatal(err)
					}
					all = append(all, float64(time.Since(start).Microseconds()))
				}
				slices.Sort(all)
				return all[len(all)/2], all[len(all)*99/100]
			}
			took()
			for range b.N {
				before50, before99 := took()
				memory := held()
				run := &flooding{gateway: g, b: b, stop: make(chan struct{})}
				dial := g.Dialer
				f.start(run)
				p50, p99 := took()
				b.ReportMetric(p50, "p50-µs")
				b.ReportMetric(p99, "p99-µs")
				b.ReportMetric(p50/before50, "p50-ratio")
				b.ReportMetric(p99/before99, "p99-ratio")
				b.ReportMetric(float64(held()-memory)/(1<<20), "MB")
				b.ReportMetric(float64(run.opened.Load()), "opened")
				run.end()
				g.Dialer = dial
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// held is what the process holds after a collection, stacks included.
func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// flooding is one flood that runs.
type flooding struct {
	*gateway
	b      *testing.B
	stop   chan struct{}
	group  sync.WaitGroup
	opened atomic.Int64
	conns  []net.Conn
}

func (f *flooding) goes(do func()) { f.group.Go(do) }

// sleep waits, and says whether the flood goes on.
func (f *flooding) sleep(d time.Duration) bool {
	select {
	case <-f.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// open makes connections that begin with those bytes, from many addresses of
// loopback. Where the process may not open so many files, it is as many as it may.
func (f *flooding) open(n int, first []byte) (list []net.Conn) {
	for i := range n {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/5000), byte(1+i/20%250))}, Timeout: time.Second}
		nc, err := d.Dial("tcp", f.addr)
		if err != nil {
			break
		}
		_, _ = nc.Write(first)
		list = append(list, nc)
		f.opened.Add(1)
	}
	f.conns = append(f.conns, list...)
	return list
}

// enter logs in.
func (f *flooding) enter() net.Conn {
	nc := f.open(1, packet(v30+"user\x00x\x00database\x00shop\x00\x00"))[0]
	for kind := byte(0); kind != 'Z'; {
		var err error
		if kind, _, err = readMessage(nc); err != nil {
			f.b.Fatal(err)
		}
		if kind == 'R' {
			_, _ = nc.Write(frame('p', []byte("token\x00")))
		}
	}
	return nc
}

func (f *flooding) end() {
	close(f.stop)
	for _, nc := range f.conns {
		nc.Close()
	}
	f.group.Wait()
}
