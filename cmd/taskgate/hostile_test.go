package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// How long others are looked at without an attack and with it.
const calm, attacked = 1500 * time.Millisecond, 2500 * time.Millisecond

// carriers are how the gateway is run.
var carriers = []struct {
	name  string
	tls   bool
	again bool // for what does not hang on the way all the same
	set   []string
}{
	{name: "two goroutines", again: true, set: []string{"listeners.postgres={address: '127.0.0.1:0', plain: true, loop: false}"}},
	{name: "a loop", set: []string{"listeners.postgres={address: '127.0.0.1:0', plain: true, loop: true}"}},
	{name: "TLS", tls: true, again: true},
}

// BenchmarkHostile is what attacks cost others: a session that is in and asks
// one thing after another, and people who log in meanwhile, before each attack
// and under it. The gateway is the real program. docs/perf/hostile.md is made of
// it where TASKGATE_WRITE_DOCS is set.
func BenchmarkHostile(b *testing.B) {
	h := newHostiles(b)
	for range b.N {
		for _, way := range carriers {
			b.Run(way.name, func(b *testing.B) {
				v := h.start(b, way.tls, way.set)
				for _, k := range attacks {
					if k.tls == way.tls && (way.again || !k.once) {
						b.Run(k.name, func(b *testing.B) { h.rows = append(h.rows, v.under(b, k, way.name)) })
					}
				}
			})
		}
	}
	text := hostileHead + "\n" + strings.Join(h.rows, "\n") + "\n"
	fmt.Fprint(os.Stderr, text)
	if os.Getenv("TASKGATE_WRITE_DOCS") != "" {
		if err := os.WriteFile("../../docs/perf/hostile.md", []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

const hostileHead = `# What attacks cost others

Made by ` + "`.ci/bench-hostile`" + ` (` + "`BenchmarkHostile`" + ` of cmd/taskgate): a session that is in asks one thing after another, and every quarter of a second somebody logs in, before each
attack and while it lasts. The gateway is the real program, the attackers are another one at the lowest priority, on the same machine. Memory is what the gateway has at its
most of the attack, above what it had before, CPU the share of one processor that it takes. Opened are the attackers' connections; ends are how the gateway counted theirs (` + "`taskgate_postgres_ends_total`, `taskgate_ssh_ends_total`" + `).

| attack | carried by | p50 µs | attacked | p99 µs | attacked | login ms | attacked | CPU % | attacked | memory MB | opened | ends |
|---|---|---|---|---|---|---|---|---|---|---|---|---|`

// hostiles is what all attacks share.
type hostiles struct {
	*gatewayWorld
	pg   *pgtest.Server
	host *sshtest.Server
	rows []string
}

const hostileTasks = `
task: look
resources: [shop, rude]
allow:
  - {verbs: [select], tables: [public.orders], columns: [id, status, total]}
  - {verbs: [select], tables: [public.customers], columns: [name, card]}
  - {verbs: [insert], tables: [public.junk], columns: [m]}
`

func newHostiles(b *testing.B) *hostiles {
	b.Helper()
	pg, err := pgtest.Start(15)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = pg.Stop() })
	if err := pg.Database("shop", pgtest.Shop+"create table junk (m text);"); err != nil {
		b.Fatal(err)
	}
	h := &hostiles{pg: pg, host: sshtest.Start(b, sshtest.Options{})}
	rude := exec.Command("nice", "-n", "19", "hostile", "server", pg.Addr())
	rude.Stderr = os.Stderr
	in, err := rude.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := rude.StdoutPipe()
	if err == nil {
		err = rude.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = rude.Wait() })
	at, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	key, err := os.ReadFile(h.host.ClientKeyFile)
	if err != nil {
		b.Fatal(err)
	}
	h.gatewayWorld = startGateway(b, []string{"ada"}, map[string]string{
		"password": pg.Password, "key": string(key), "tasks/look.yaml": hostileTasks,
		"tasks/masked.yaml": "task: masked\nresources: [shop, rude]\nallow:\n  - {verbs: [select], tables: [public.customers], columns: [name, card]}\nmask:\n  - {column: public.customers.card, with: \"keep(0, 4)\"}\n",
		"tasks/run.yaml":    "task: run\nresources: [web]\nallow:\n  - {exec: [[\"true\"]]}\n",
	}, fmt.Sprintf(`  shop: {address: %q, database: shop, tls: disable, logins: {app: {user: app, password: "file:password"}}}
  rude: {address: %q, database: shop, tls: disable, logins: {app: {user: app, password: "file:password"}}}
  web: {protocol: ssh, address: %q, host_key: %q, login: %q, key: "file:key"}`,
		pg.Addr(), strings.TrimSpace(at), h.host.Address, ssh.FingerprintSHA256(h.host.HostKey), h.host.User))
	return h
}

// victims are a gateway that runs, and who is there beside the attackers.
type victims struct {
	*hostiles
	pid    int
	tls    bool
	tokens map[string]string
}

func (h *hostiles) start(b *testing.B, secure bool, set []string) *victims {
	b.Helper()
	if secure {
		set = []string{fmt.Sprintf("listeners.postgres={address: '127.0.0.1:0', tls: {cert: 'file:%s/server.crt', key: 'file:%s/server.key'}}", h.dir, h.dir)}
		if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
			"-keyout", h.dir+"/server.key", "-out", h.dir+"/server.crt").CombinedOutput(); err != nil {
			b.Fatal(err, string(out))
		}
	}
	args := []string{"--set", "record.results=head", "--set", "listeners.ssh={address: '127.0.0.1:0'}"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	cmd := h.command("operator", append(args, "serve", "--grace", "0s")...)
	cmd.Stderr = nil // who floods, floods the log as well
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &h.addresses)
	}
	if err != nil {
		b.Fatal(err)
	}
	h.login(b, "ada")
	v := &victims{hostiles: h, pid: cmd.Process.Pid, tls: secure, tokens: map[string]string{}}
	for _, pair := range []string{"look shop", "look rude", "masked shop", "masked rude", "run web"} {
		task, resource, _ := strings.Cut(pair, " ")
		v.tokens[pair] = h.token(b, "ada", task, resource)
	}
	return v
}

func (v *victims) connect() (*pgconn.PgConn, error) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	mode := "disable"
	if v.tls {
		mode = "require"
	}
	return pgconn.Connect(ctx, fmt.Sprintf("postgres://look:%s@%s/shop?sslmode=%s", v.tokens["look shop"], v.addresses["postgres"], mode))
}

func (v *victims) dial() (*ssh.Client, error) {
	return ssh.Dial("tcp", v.addresses["ssh"], &ssh.ClientConfig{User: "run+web", Auth: []ssh.AuthMethod{ssh.Password(v.tokens["run web"])}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
}

// asker gives what somebody who is in does again and again, and how they leave.
func (v *victims) asker(b *testing.B, host bool) (ask func() error, leave func()) {
	if host {
		c, err := v.dial()
		if err != nil {
			b.Fatal(err)
		}
		return func() error {
			s, err := c.NewSession()
			if err != nil {
				return err
			}
			defer s.Close()
			return s.Run("true")
		}, func() { c.Close() }
	}
	c, err := v.connect()
	if err != nil {
		b.Fatal(err)
	}
	return func() error {
		_, err := c.Exec(context.Background(), "select id from orders where id = 1").ReadAll()
		return err
	}, func() { _ = c.Close(context.Background()) }
}

// enter logs in and leaves.
func (v *victims) enter(host bool) error {
	if host {
		c, err := v.dial()
		if err != nil {
			return err
		}
		return c.Close()
	}
	c, err := v.connect()
	if err != nil {
		return err
	}
	return c.Close(context.Background())
}

// seen are times that others have met, in µs.
type seen struct{ asked, logins []float64 }

func at(list []float64, percent int) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)*percent/100]
}

// look has others work for a while.
func (v *victims) look(b *testing.B, k attack, ask func() error, d time.Duration) (s seen) {
	b.Helper()
	until := time.Now().Add(d)
	var group sync.WaitGroup
	group.Go(func() {
		for ; time.Now().Before(until); time.Sleep(250 * time.Millisecond) {
			start := time.Now()
			if err := v.enter(k.ssh); err != nil {
				b.Errorf("%s: a login: %v", k.name, err)
			}
			s.logins = append(s.logins, float64(time.Since(start).Microseconds()))
		}
	})
	for time.Now().Before(until) {
		start := time.Now()
		if err := ask(); err != nil {
			b.Errorf("%s: who is in: %v", k.name, err)
			break
		}
		s.asked = append(s.asked, float64(time.Since(start).Microseconds()))
	}
	group.Wait()
	return s
}

// under measures one attack, and gives its row.
func (v *victims) under(b *testing.B, k attack, way string) string {
	ask, leave := v.asker(b, k.ssh)
	defer leave()
	worked, since := v.worked(b), time.Now()
	before := v.look(b, k, ask, calm)
	share0 := 100 * float64(v.worked(b)-worked) / float64(time.Since(since))
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", v.pid), []byte("5"), 0o600) // the most is that from here on
	had, ended := v.memory(b, "VmRSS"), v.ends(b)
	order, err := json.Marshal(attacker{Attack: k.name, Postgres: v.addresses["postgres"], SSH: v.addresses["ssh"], Tokens: v.tokens})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", "hostile", string(order))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if _, err := out.ReadString('\n'); err != nil {
		b.Fatal(k.name, err)
	}
	time.Sleep(200 * time.Millisecond)
	worked, since = v.worked(b), time.Now()
	s := v.look(b, k, ask, attacked)
	share := 100 * float64(v.worked(b)-worked) / float64(time.Since(since))
	most := v.memory(b, "VmHWM")
	in.Close()
	opened, _ := out.ReadString('\n')
	_ = cmd.Wait()
	for until := time.Now().Add(10 * time.Second); v.open(b) > 1 && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	now := v.ends(b)
	protocol := "postgres "
	if k.ssh {
		protocol = "ssh "
	}
	now[protocol+"left"] -= len(s.logins)
	var ends []string
	for _, reason := range slices.Sorted(maps.Keys(now)) {
		if n := now[reason] - ended[reason]; n != 0 {
			ends = append(ends, fmt.Sprintf("%s %d", strings.TrimPrefix(reason, protocol), n))
		}
	}
	if k.once && !v.tls {
		way = "any"
	}
	return fmt.Sprintf("| %s | %s | %.0f | %.0f | %.0f | %.0f | %.1f | %.1f | %.0f | %.0f | %d | %s | %s |", k.name, way, at(before.asked, 50), at(s.asked, 50), at(before.asked, 99), at(s.asked, 99),
		at(before.logins, 50)/1000, at(s.logins, 50)/1000, share0, share, max(0, most-had)>>10, strings.TrimSpace(opened), strings.Join(ends, ", "))
}

// worked is how much of the processors the gateway has had.
func (v *victims) worked(b *testing.B) time.Duration {
	b.Helper()
	all, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(all[bytes.LastIndexByte(all, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// memory gives a figure of the gateway's, in KB.
func (v *victims) memory(b *testing.B, what string) int {
	b.Helper()
	all, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if err != nil {
		b.Fatal(err)
	}
	m := regexp.MustCompile(what + `:\s+(\d+)`).FindSubmatch(all)
	if m == nil {
		b.Fatal(what, syscall.ENOENT)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

func (v *victims) metrics(b *testing.B) string {
	b.Helper()
	r, err := http.Get("http://" + v.addresses["api"] + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	all, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		b.Fatal(errors.Join(err, errors.New(r.Status)))
	}
	return string(all)
}

var (
	endsLine = regexp.MustCompile(`(?m)^taskgate_(\w+)_ends_total\{reason="(\w+)"\} (\S+)$`)
	openLine = regexp.MustCompile(`(?m)^taskgate_sessions (\d+)$`)
)

// ends gives the ends of connections that were counted, by protocol and reason.
func (v *victims) ends(b *testing.B) map[string]int {
	b.Helper()
	list := map[string]int{}
	for _, m := range endsLine.FindAllStringSubmatch(v.metrics(b), -1) {
		n, _ := strconv.ParseFloat(m[3], 64)
		list[m[1]+" "+m[2]] = int(n)
	}
	return list
}

func (v *victims) open(b *testing.B) int {
	b.Helper()
	m := openLine.FindStringSubmatch(v.metrics(b))
	if m == nil {
		b.Fatal("the gateway does not say how many sessions there are")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
