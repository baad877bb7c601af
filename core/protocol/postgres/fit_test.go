package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/gate"
)

// plainDialer reaches a server or a pooler without TLS.
type plainDialer struct {
	addr, user, database string
}

func (d plainDialer) Dial(ctx context.Context, _ *gate.Resource, _ string) (gate.Upstream, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	return gate.Upstream{Conn: nc, User: d.user, Password: server.Password, Database: d.database}, err
}

// pooler starts a pgbouncer in front of the server. It refuses to run as root.
func pooler(t *testing.T, mode, more string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "taskgate-pooler")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	files := map[string]string{
		"users": fmt.Sprintf("\"app\" \"%s\"\n", server.Password),
		"ini": fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = %s/users\npool_mode = %s\nserver_tls_sslmode = require\n%s\n",
			server.Port, port, dir, mode, more),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/pgbouncer", filepath.Join(dir, "ini"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("pgbouncer: run .ci/install test (%v)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for range 200 {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return addr
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("pgbouncer does not come up")
	return ""
}

// refused holds that a client is turned away without being told why, and that
// the operator is.
func (g *gateway) refused(t *testing.T, code, why string, secrets ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), g.url())
	if err == nil {
		_ = c.Close(t.Context())
		t.Fatalf("let in, and not refused since %s", why)
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Hint, "operator") {
		t.Errorf("%v, want %s", err, code)
	}
	for _, s := range append(secrets, why, server.Password) {
		if strings.Contains(fmt.Sprintf("%+v", e), s) {
			t.Errorf("the client is told %q: %+v", s, e)
		}
	}
	g.quiet(t)
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventClose && strings.Contains(fmt.Sprintf("%+v", e), why) {
			return
		}
	}
	t.Errorf("the log does not say %q", why)
}

// TestPoolers: one that hands out server processes by transaction is refused
// for what it is; one that keeps a process for each client is a server.
func TestPoolers(t *testing.T) {
	for name, c := range map[string]struct {
		mode, more string
		ok         bool
	}{
		"transaction":              {"transaction", "", false},
		"transaction, in turn":     {"transaction", "server_round_robin = 1\nmin_pool_size = 3", false},
		"transaction, one process": {"transaction", "default_pool_size = 1", false},
		"statement":                {"statement", "", false},
		"session":                  {"session", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, &rules{allow: noDelete})
			g.Dialer = plainDialer{pooler(t, c.mode, c.more), "app", g.db}
			if !c.ok {
				g.refused(t, "08006", "session mode", "pooler", "pgbouncer")
				return
			}
			a, b := g.connect(t), g.connect(t)
			var n int
			if err := a.QueryRow(t.Context(), "select count(*) from orders").Scan(&n); err != nil || n != 200 {
				t.Fatal(n, err)
			}
			if _, err := a.Exec(t.Context(), "set timezone = 'Asia/Tokyo'"); err != nil {
				t.Fatal(err)
			}
			var zone string
			if err := b.QueryRow(t.Context(), "show timezone").Scan(&zone); err != nil || zone == "Asia/Tokyo" {
				t.Error(zone, err)
			}
			// A limit that the pooler would lose is not given up in silence.
			next := generation(&rules{allow: noDelete})
			next.Tasks["x"].Options = &TaskOptions{StatementTimeout: time.Second}
			g.Swap(next)
			_ = a.Close(t.Context())
			_ = b.Close(t.Context())
			g.quiet(t)
			if c, err := pgx.Connect(t.Context(), g.url()); err == nil {
				_ = c.Close(t.Context())
				t.Error("let in without the task's limit")
			}
		})
	}
}

// TestPrivilegedLogins: what the server would hold others to does not hold a
// superuser, one with BYPASSRLS, or an owner.
func TestPrivilegedLogins(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if out, err := server.Psql("postgres", fmt.Sprintf(`DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'passes') THEN
			CREATE ROLE passes LOGIN BYPASSRLS PASSWORD '%[1]s'; CREATE ROLE member LOGIN PASSWORD '%[1]s'; GRANT owner TO member;
		END IF; END $$; GRANT USAGE ON SCHEMA public TO passes, member`, server.Password)); err != nil {
		t.Fatal(err, out)
	}
	for role, why := range map[string]string{"postgres": "superuser", "passes": "row-level security", "owner": "owns public.", "member": "owns public."} {
		t.Run(role, func(t *testing.T) {
			g.Dialer = plainDialer{server.Addr(), role, g.db}
			next := generation(&rules{allow: noDelete})
			next.Resources["shop"].Digest = role // a reload has changed the login
			g.Swap(next)
			g.refused(t, "28000", why, role)
			next = generation(&rules{allow: noDelete})
			next.Tasks["x"].Login, next.Resources["shop"].Options = "special", &ResourceOptions{Privileged: map[string]bool{"special": true}}
			next.Resources["shop"].Digest = role
			g.Swap(next)
			c := g.connect(t)
			var one int
			if err := c.QueryRow(t.Context(), "select 1").Scan(&one); err != nil {
				t.Error(err)
			}
			_ = c.Close(t.Context())
			g.quiet(t)
		})
	}
}

// TestPrivilegedLater: a role that becomes a superuser under a live session.
func TestPrivilegedLater(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if out, err := server.Psql("postgres", fmt.Sprintf("CREATE ROLE riser LOGIN PASSWORD '%s'; GRANT app TO riser", server.Password)); err != nil {
		t.Fatal(err, out)
	}
	g.Dialer = plainDialer{server.Addr(), "riser", g.db}
	c := g.connect(t)
	if _, err := c.Exec(t.Context(), "select id from orders"); err != nil {
		t.Fatal(err)
	}
	if out, err := server.Psql("postgres", "ALTER ROLE riser SUPERUSER"); err != nil {
		t.Fatal(err, out)
	}
	var err error
	for range 100 { // docs/limits.md names the window
		if _, err = c.Exec(t.Context(), "select id from orders"); err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code(err) != "28000" {
		t.Errorf("the session of a superuser goes on: %v", err)
	}
}
