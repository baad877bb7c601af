package ssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BenchmarkCopy carries a file of 500 MB (TASKGATE_BENCH_MB) by stock clients, by
// the gateway and by a relay that judges and records nothing, in turn: MB/s of
// each, and ratio, of which 1 is the relay's. What a gateway costs beside is its
// digests and records.
func BenchmarkCopy(b *testing.B) {
	size := 500
	if n, err := strconv.Atoi(os.Getenv("TASKGATE_BENCH_MB")); err == nil {
		size = n
	}
	g := serve(b, all)
	file := g.write(b, "file", "")
	if err := os.Truncate(file, int64(size)<<20); err != nil {
		b.Fatal(err)
	}
	relay := bareRelay(b, g)
	to := map[string]string{"gateway": g.port, "relay": relay[len("127.0.0.1:"):]}
	options := func(port string) []string {
		return append([]string{"-F", "none", "-o", "Port=" + port, "-o", "StrictHostKeyChecking=no", "-o", "Ciphers=aes128-gcm@openssh.com"}, g.options()[4:]...)
	}
	away := filepath.Join(g.dir, "away")
	for name, command := range map[string]func(port string) *exec.Cmd{
		"cat": func(port string) *exec.Cmd {
			return exec.Command("ssh", append(options(port), who, "cat "+file)...)
		},
		"scp from": func(port string) *exec.Cmd {
			return exec.Command("scp", append(options(port), "-q", who+":"+file, away)...)
		},
		"scp to": func(port string) *exec.Cmd {
			return exec.Command("scp", append(options(port), "-q", file, who+":"+away)...)
		},
	} {
		b.Run(name, func(b *testing.B) {
			took, cost := map[string]time.Duration{}, map[string]time.Duration{}
			n := 0
			for b.Loop() {
				n++
				for _, way := range []string{"gateway", "relay"} {
					cmd := command(to[way])
					cmd.Env = g.env()
					began, before := time.Now(), processor(b)
					if err := cmd.Run(); err != nil {
						b.Fatal(way, err)
					}
					took[way] += time.Since(began)
					cost[way] += processor(b) - before
				}
			}
			b.ReportMetric(0, "ns/op")
			for way, t := range took {
				b.ReportMetric(float64(size*n)/t.Seconds(), way+"-MB/s")
			}
			b.ReportMetric(took["relay"].Seconds()/took["gateway"].Seconds(), "ratio")
			b.ReportMetric(cost["relay"].Seconds()/cost["gateway"].Seconds(), "cpu-ratio")
		})
	}
}
