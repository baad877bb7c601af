package server

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/x509"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// shared are what all tests of this package use, made once.
var shared struct {
	once  sync.Once
	err   error
	pg    *pgtest.Server
	dir   string
	guard string
	next  atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.pg != nil {
		if err := shared.pg.Stop(); err != nil {
			code = 1
		}
	}
	os.RemoveAll(shared.dir)
	os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("taskgate-modules-%d", os.Getpid())))
	os.Exit(code)
}

// tasksModule builds the tasks guard.
func tasksModule(out string) error {
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, "../../plugins/tasks")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if b, err := cmd.CombinedOutput(); err != nil {
		return errors.New(string(b))
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	text, err := os.ReadFile("../../plugins/tasks/manifest.json")
	if err != nil {
		return err
	}
	m := &wasm.Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return err
	}
	if raw, err = wasm.AppendManifest(raw, m); err != nil {
		return err
	}
	return os.WriteFile(out, raw, 0o600)
}

// compiled gives a gateway's data directory the modules that others have
// compiled already, which takes the longest of all that a test does.
func compiled(t *testing.T, data string) {
	t.Helper()
	modules := filepath.Join(os.TempDir(), fmt.Sprintf("taskgate-modules-%d", os.Getpid()))
	err := os.MkdirAll(modules, 0o700)
	if err == nil {
		if err = os.MkdirAll(data, 0o700); err == nil {
			err = os.Symlink(modules, filepath.Join(data, "modules"))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

const lookTask = "task: look\nresources: [shop]\nallow:\n  - {verbs: [select], tables: [public.orders], columns: [id, status]}\n  - {verbs: [update], tables: [public.orders], columns: [status], where: key}\n"

// world is one gateway with its files, a real database and a real identity provider.
type world struct {
	*testing.T
	s        *Server
	dir      string
	database string
	idp      *devidp.Provider
	yaml     string            // gateway.yaml as it was at first
	addr     map[string]string // of the listeners at the start
	log      lines
	ahead    atomic.Int64 // what the clock of logins is ahead by
	stop     context.CancelFunc
	ended    bool
	done     chan error
}

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, b...)
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// newWorld starts a gateway. Edit may change its gateway.yaml.
func newWorld(t *testing.T, edit func(yaml string) string) *world {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "taskgate-server"); shared.err != nil {
			return
		}
		shared.guard = filepath.Join(shared.dir, "tasks.wasm")
		if shared.err = tasksModule(shared.guard); shared.err == nil {
			shared.pg, shared.err = pgtest.Start(pgtest.Major())
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	w := &world{T: t, dir: t.TempDir(), database: fmt.Sprintf("shop%d", shared.next.Add(1)), idp: &devidp.Provider{ClientID: "taskgate"}, done: make(chan error, 1)}
	if err := shared.pg.Database(w.database, pgtest.Shop); err != nil {
		t.Fatal(err)
	}
	issuer := w.issuer(w.idp)
	if err := os.Mkdir(filepath.Join(w.dir, "tasks"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("tasks/look.yaml", lookTask)
	w.write("password", shared.pg.Password)
	w.yaml = fmt.Sprintf(`listeners:
  postgres: {address: "127.0.0.1:0", plain: true}
  api: {address: "127.0.0.1:0", plain: true}
issuers:
  - {url: "%s", client_id: taskgate}
resources:
  shop: {protocol: postgres, address: "localhost:%d", database: %s, ca: "file:%s", logins: {app: {user: app, password: "file:password"}}}
plugins:
  - {name: tasks, path: "%s", may: [allow, deny], isolation: shared, cache: true}
`, issuer, shared.pg.Port, w.database, shared.pg.CA, shared.guard)
	if edit != nil {
		w.yaml = edit(w.yaml)
	}
	w.write("gateway.yaml", w.yaml)
	compiled(t, filepath.Join(w.dir, "data"))
	ready := make(chan map[string]string, 1)
	w.s = &Server{Config: config.Source{Path: filepath.Join(w.dir, "gateway.yaml")}, Version: "test", Log: zerolog.New(&w.log), Grace: 200 * time.Millisecond, Ready: func(a map[string]string) { ready <- a }}
	w.s.clock = func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	go func() { w.done <- w.s.Run(ctx) }()
	select {
	case w.addr = <-ready:
	case err := <-w.done:
		w.stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.end()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

// end stops the gateway, once, and sees that nothing of it is left (X13).
func (w *world) end() {
	w.Helper()
	if w.ended {
		return
	}
	w.ended = true
	w.stop()
	if err := <-w.done; err != nil {
		w.Error(err)
	}
	noneLeft(w.T)
}

// noneLeft waits until no goroutine runs the gateway's code.
func noneLeft(t *testing.T) {
	t.Helper()
	var left []string
	for range 200 {
		left = nil
		buf := make([]byte, 1<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "taskgate/core/") && !strings.Contains(g, "_test.go") && !strings.Contains(g, "core/devidp") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("X13: %d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// issuer lets an identity provider answer until the test is over.
func (w *world) issuer(p *devidp.Provider) string {
	w.Helper()
	l, issuer, err := p.Listen("127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, l) }()
	w.Cleanup(func() { cancel(); <-done })
	return issuer
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// edit replaces something in gateway.yaml.
func (w *world) edit(pairs ...string) {
	w.Helper()
	text := strings.NewReplacer(pairs...).Replace(w.yaml)
	if text == w.yaml {
		w.Fatalf("%q is not in gateway.yaml", pairs)
	}
	w.write("gateway.yaml", text)
}

// reload reloads and gives what changed, as one text.
func (w *world) reload() string {
	w.Helper()
	changes, err := w.s.Reload(w.Context(), "test")
	if err != nil {
		w.Fatal(err)
	}
	return strings.Join(changes, "\n")
}

// refused reloads and gives why that is refused.
func (w *world) refused() string {
	w.Helper()
	generation := w.s.gate.Current().Number
	changes, err := w.s.Reload(w.Context(), "test")
	if err == nil {
		w.Errorf("a bad reload was taken: %v", changes)
		return ""
	}
	if w.s.gate.Current().Number != generation {
		w.Error("a bad reload made a generation")
	}
	return err.Error()
}

// listener gives where a listener is now, or nothing.
func (w *world) listener(name string) string {
	for _, l := range w.s.Listeners() {
		if l.Name == name {
			return l.Address
		}
	}
	return ""
}

func (w *world) token(p *devidp.Provider) string {
	w.Helper()
	token, err := p.Token("ada", []string{"task:look"})
	if err != nil {
		w.Fatal(err)
	}
	return token
}

// connect opens a session for the task look with a token. Query is of the URL.
func (w *world) connect(address, token, query string) (*pgx.Conn, error) {
	c, err := pgx.Connect(w.Context(), "postgres://look:"+token+"@"+address+"/shop?"+query)
	if err == nil {
		w.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// in is connect that has to work, on the plain listener.
func (w *world) in() *pgx.Conn {
	w.Helper()
	c, err := w.connect(w.listener("postgres"), w.token(w.idp), "sslmode=disable")
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// code runs a text and gives its SQLSTATE, or "" where it worked.
func code(c *pgx.Conn, text string) string {
	_, err := c.Exec(context.Background(), text)
	var e *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return err.Error()
}

// certificate writes a certificate for localhost and its key, and gives the
// pool that trusts it.
func (w *world) certificate(cert, key string) (*x509.Certificate, *x509.CertPool) {
	w.Helper()
	ca, caKey, err := pgtest.Certificate(nil, nil)
	if err != nil {
		w.Fatal(err)
	}
	leaf, leafKey, err := pgtest.Certificate(ca, caKey)
	if err != nil {
		w.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		w.Fatal(err)
	}
	w.write(cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})))
	w.write(key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	w.write("ca-"+cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})))
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return leaf, pool
}

// free gives an address that nothing listens on.
func (w *world) free() string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
