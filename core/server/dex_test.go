package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/internal/dextest"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// identity is a whole gateway with one resource shop and the task look, a clock
// for its logins and its log.
type identity struct {
	*Server
	pg    *pgtest.Server
	dir   string
	addr  map[string]string
	ahead atomic.Int64
	log   buffer
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func withPostgres(t *testing.T) *pgtest.Server {
	t.Helper()
	pg, err := pgtest.Start(15)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	if err := pg.Database("shop", pgtest.Shop); err != nil {
		t.Fatal(err)
	}
	return pg
}

func withIdentity(t *testing.T, pg *pgtest.Server, issuer, listener string) *identity {
	t.Helper()
	g := &identity{pg: pg, dir: t.TempDir()}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tasksModule(filepath.Join(g.dir, "tasks.wasm")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(g.dir, "tasks"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("tasks/look.yaml", lookTask)
	write("tasks/other.yaml", strings.Replace(lookTask, "task: look", "task: other", 1))
	write("password", pg.Password)
	write("gateway.yaml", fmt.Sprintf(`listeners:
  postgres: {address: "127.0.0.1:0", plain: true%s}
  api: {address: "127.0.0.1:0", plain: true}
issuers:
  - %s
resources:
  shop: {protocol: postgres, address: "localhost:%d", database: shop, ca: "file:%s", logins: {app: {user: app, password: "file:password"}}}
plugins:
  - {name: tasks, path: tasks.wasm, may: [allow, deny], isolation: shared, cache: true}
`, listener, issuer, pg.Port, pg.CA))
	compiled(t, filepath.Join(g.dir, "data"))
	ready := make(chan map[string]string, 1)
	g.Server = &Server{Config: config.Source{Path: filepath.Join(g.dir, "gateway.yaml")}, Version: "test", Log: zerolog.New(&g.log), Grace: 200 * time.Millisecond, Ready: func(a map[string]string) { ready <- a }}
	g.clock = func() time.Time { return time.Now().Add(time.Duration(g.ahead.Load())) }
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(run) }()
	select {
	case g.addr = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *identity) call(t *testing.T, path, bearer, body string, into any) int {
	t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr["api"]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// login logs in through the gateway; confirm does what its user does.
func (g *identity) login(t *testing.T, confirm func(page, code string) error) string {
	t.Helper()
	var d struct{ ID, URL, Code string }
	if n := g.call(t, "/v1/login", "", "{}", &d); n != 200 {
		t.Fatal(n, g.log.String())
	}
	if err := confirm(d.URL, d.Code); err != nil {
		t.Fatal(err)
	}
	var got Token
	if n := g.call(t, "/v1/login/wait", "", `{"id": "`+d.ID+`"}`, &got); n != 200 {
		t.Fatal(n, g.log.String())
	}
	return got.Token
}

func (g *identity) url(token string) string {
	return "postgres://look:" + token + "@" + g.addr["postgres"] + "/shop?sslmode=disable"
}

// write opens a session and in it a transaction that has written.
func (g *identity) write(t *testing.T, token string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), g.url(token))
	if err != nil {
		t.Fatal(err, g.log.String())
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	for _, text := range []string{"begin", "update orders set status = 'lost' where id = 1"} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// ended waits for the end of a session: its client was told why, and what it
// wrote is gone (invariant 9).
func (g *identity) ended(t *testing.T, c *pgx.Conn, why string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), "commit"); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, not %q", err, why)
	}
	if out, err := g.pg.Psql("shop", "select count(*) from orders where status = 'lost'"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("invariant 9: %q %v", out, err)
	}
}

// later moves the clock and looks after the groups of open sessions.
func (g *identity) later(t *testing.T, d time.Duration) {
	t.Helper()
	g.ahead.Add(int64(d))
	for _, x := range g.gate.Sessions() {
		g.regroupOne(t.Context(), x.Login())
	}
}

// TestDex works with a real identity provider that is a program of its own:
// logins, groups that come and go, keys that change, and the provider away.
func TestDex(t *testing.T) {
	pg := withPostgres(t)
	users := map[string][]string{"ada": {"task:look", "dba"}, "bob": {"staff"}}
	dex, err := dextest.Start(t.TempDir(), pg, users, "http://127.0.0.1/callback")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dex.Stop)
	g := withIdentity(t, pg, fmt.Sprintf(`{url: "%s", client_id: taskgate, subject: email, scopes: [groups, email]}`, dex.URL), "")
	confirm := func(user string) func(string, string) error {
		return func(page, code string) error { return dex.Confirm(t.Context(), page, code, user) }
	}
	token := g.login(t, confirm("ada"))
	var me Me
	if n := g.call(t, "/v1/me", token, "", &me); n != 200 || me.Subject != "ada@example.com" || fmt.Sprint(me.Groups) != "[task:look]" || len(me.Tasks) != 1 || me.Tasks[0].Name != "look" {
		t.Errorf("%d %+v", n, me)
	}
	c := g.write(t, token)
	g.later(t, 6*time.Minute) // the groups are asked for again, and are the same
	if _, err := c.Exec(t.Context(), "select id from orders where id = 1"); err != nil {
		t.Errorf("a refresh that changes nothing: %v", err)
	}

	// Who has no group has no task; who is not known has nothing.
	none := g.login(t, confirm("bob"))
	if _, err := pgx.Connect(t.Context(), g.url(none)); err == nil || !strings.Contains(err.Error(), "no such task for you") {
		t.Errorf("%v", err)
	}

	// ID07: it signs with another key after this; what the old one has signed holds.
	before, err := dex.IDToken(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if err := dex.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := dex.Restart(users); err != nil {
		t.Fatal(err)
	}
	after, err := dex.IDToken(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if head(before) == head(after) {
		t.Error("the key is the same")
	}
	g.ahead.Add(int64(30 * time.Second)) // whom the change of keys meets within ten seconds is asked to try again
	for name, raw := range map[string]string{"signed by the old key": before, "signed by the new key": after} {
		r, err := pgx.Connect(t.Context(), g.url(raw))
		if err != nil {
			t.Errorf("%s: %v %s", name, err, g.log.String())
			continue
		}
		if _, err := r.Exec(t.Context(), "select id from orders where id = 2"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = r.Close(t.Context())
	}
	g.later(t, 6*time.Minute)
	if _, err := c.Exec(t.Context(), "select id from orders where id = 1"); err != nil {
		t.Errorf("after the provider's restart: %v %s", err, g.log.String())
	}

	// ID09: the group is gone.
	if err := dex.Restart(map[string][]string{"ada": {"dba"}, "bob": {"task:look"}}); err != nil {
		t.Fatal(err)
	}
	g.later(t, 6*time.Minute)
	g.ended(t, c, "no such task for you")
	if c, err := pgx.Connect(t.Context(), g.url(none)); err != nil { // and bob has it now
		t.Error(err)
	} else {
		_ = c.Close(t.Context())
	}
	// The user is gone. Dex says no more than that something failed: that is taken
	// for an outage, and so lasts half an hour and no longer.
	c = g.write(t, none)
	if err := dex.Restart(map[string][]string{"ada": {"dba"}}); err != nil {
		t.Fatal(err)
	}
	g.later(t, 6*time.Minute)
	if _, err := c.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	g.later(t, 25*time.Minute)
	g.ended(t, c, "your login cannot be checked now")

	// ID24: a token of the provider is over when it says so.
	g.ahead.Add(int64(2 * time.Hour))
	if _, err := pgx.Connect(t.Context(), g.url(after)); err == nil || strings.Contains(err.Error(), "no such task") {
		t.Errorf("a token of the provider after its end: %v", err)
	}
	leaks(t, g, token, none, before, after)
}

// leaks is ID11: no secret is in a log, a record or anything else that is kept.
func leaks(t *testing.T, g *identity, secrets ...string) {
	t.Helper()
	kept := map[string]string{"the log": g.log.String()}
	err := filepath.WalkDir(filepath.Join(g.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		kept[path] = string(b)
		return err
	})
	if err != nil || len(kept) < 4 {
		t.Errorf("%d files: %v", len(kept), err)
	}
	for name, text := range kept {
		for _, s := range append(secrets, g.pg.Password) {
			if strings.Contains(text, s) || len(s) > 200 && strings.Contains(text, s[len(s)-100:]) {
				t.Errorf("ID11: a secret is in %s", name)
			}
		}
	}
}

func head(token string) string {
	h, _, _ := strings.Cut(token, ".")
	return h
}
