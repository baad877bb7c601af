package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// secure starts a gateway whose listener has a certificate, and gives the file
// of who signed it.
func secure(t *testing.T, guard gate.Guard) (g *gateway, ca string) {
	t.Helper()
	db := shop(t)
	log := &memory{}
	g = &gateway{Gate: &gate.Gate{Identity: log, Log: log, Recorder: log, Dialer: dialer{database: db}}, log: log, db: db}
	g.Swap(generation(guard))
	root, rootKey, err := pgtest.Certificate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key, err := pgtest.Certificate(root, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Protocol{TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}}
	g.protocol = p
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = p.Serve(ctx, nc, g.Gate) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); g.Kill("test over", func(*gate.Session) bool { return true }); wg.Wait() })
	g.addr = l.Addr().String()
	_, g.port, _ = net.SplitHostPort(g.addr)
	return g, ca
}

// psql18 is psql with the library of PostgreSQL 18, which .ci/install fetches.
func psql18(t *testing.T, url string, commands ...string) *exec.Cmd {
	t.Helper()
	bin, err := pgtest.Bin(18)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, "/usr/lib/postgresql/15/bin/psql", "-XAt", url)
	for _, c := range commands {
		cmd.Args = append(cmd.Args, "-c", c)
	}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(filepath.Dir(bin), "lib"), "PSQL_PAGER=")
	return cmd
}

// TestLibpq18: protocol 3.2 as the library of PostgreSQL 18 speaks it, in the
// clear and over TLS of both kinds: psql works, and Ctrl-C with the long key
// ends what runs, over TLS as well.
func TestLibpq18(t *testing.T) {
	plain := serve(t, &rules{allow: anything})
	safe, ca := secure(t, &rules{allow: anything})
	for name, c := range map[string]struct {
		g     *gateway
		url   string
		bytes int
	}{
		"3.0":                    {plain, plain.url() + "&max_protocol_version=3.0", 8},
		"3.2":                    {plain, plain.url() + "&max_protocol_version=3.2&min_protocol_version=3.2", 36},
		"latest":                 {plain, plain.url() + "&max_protocol_version=latest", 36},
		"TLS":                    {safe, "postgres://x:token@localhost:" + safe.port + "/shop?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=" + ca + "&min_protocol_version=3.2&max_protocol_version=3.2", 36},
		"TLS from the beginning": {safe, "postgres://x:token@localhost:" + safe.port + "/shop?hostaddr=127.0.0.1&sslmode=verify-full&sslnegotiation=direct&sslrootcert=" + ca + "&min_protocol_version=3.2&max_protocol_version=3.2", 36},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := psql18(t, c.url, "select count(*) from orders", "select nothing from orders", `\d items`).CombinedOutput()
			for _, want := range []string{"\n200\n", "nothing", "order_id|integer"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in %s%v", want, out, err)
				}
			}
			cmd := psql18(t, c.url, "select pg_sleep(60)")
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for running := ""; running != "1"; time.Sleep(20 * time.Millisecond) { // psql without a query would end itself
				out, err := server.Psql(c.g.db, "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and query like '%pg_sleep%60%' and pid <> pg_backend_pid()")
				if err != nil {
					t.Fatal(err)
				}
				running = strings.TrimSpace(out)
			}
			c.g.protocol.mu.Lock()
			for key := range c.g.protocol.keys {
				if len(key) != c.bytes {
					t.Errorf("a key of %d bytes, want %d", len(key), c.bytes)
				}
			}
			c.g.protocol.mu.Unlock()
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
			if !strings.Contains(said.String(), "Cancel request sent") || !strings.Contains(said.String(), "canceling") {
				t.Error(said.String())
			}
			c.g.quiet(t)
		})
	}
}
