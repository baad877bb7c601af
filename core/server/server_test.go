package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/devidp"
)

// TestGateway runs a whole gateway: login by a real token, reload under a live
// session, kill, metrics, and the end of it all with a session open.
func TestGateway(t *testing.T) {
	w := newWorld(t, nil)
	s, dir, write, addr, idp, gatewayYAML := w.s, w.dir, w.write, w.addr, w.idp, w.yaml
	token, err := idp.Token("ada", []string{"task:look"})
	if err != nil {
		t.Fatal(err)
	}
	url := "postgres://look:" + token + "@" + addr["postgres"] + "/shop?sslmode=disable"
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	code := func(text string) string {
		_, err := c.Exec(t.Context(), text)
		var e *pgconn.PgError
		if errors.As(err, &e) {
			return e.Code
		}
		return fmt.Sprint(err)
	}
	if got := code("select id, status from orders where id = 1"); got != "<nil>" {
		t.Error(got)
	}
	if got := code("select note from orders"); got != "42501" {
		t.Error(got)
	}
	write("tasks/look.yaml", strings.Replace(lookTask, "[id, status]", "[id, status, note]", 1))
	if _, err := s.Reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if got := code("select note from orders"); got != "<nil>" {
		t.Errorf("the new rules do not count: %s", got)
	}
	for name, text := range map[string]string{"tasks/look.yaml": "task: look\n", "gateway.yaml": gatewayYAML + "plugin: x\n"} {
		good, _ := os.ReadFile(filepath.Join(dir, name))
		write(name, text)
		if _, err := s.Reload(t.Context(), "test"); err == nil {
			t.Errorf("a faulty %s was taken", name)
		}
		write(name, string(good))
		if got := code("select note from orders"); got != "<nil>" {
			t.Errorf("a bad reload changed something: %s", got)
		}
	}
	get := func(client *http.Client, url string) string {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	if b := get(http.DefaultClient, "http://"+addr["api"]+"/readyz"); !strings.Contains(b, "ready") {
		t.Error(b)
	}
	if b := get(http.DefaultClient, "http://"+addr["api"]+"/metrics"); !strings.Contains(b, "taskgate_commands_total{verdict=\"deny\"} 1") || !strings.Contains(b, "taskgate_sessions 1") {
		t.Error(b)
	}
	socket := filepath.Join(dir, "data", "admin.sock")
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket: %v %v", st.Mode(), err)
	}
	admin := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	if b := get(admin, "http://x/status"); !strings.Contains(b, `"subject":"ada"`) || strings.Contains(b, token) {
		t.Error(b)
	}
	// ID09: a task that is gone from the catalog ends its sessions.
	write("tasks/other.yaml", strings.Replace(lookTask, "task: look", "task: other", 1))
	if err := os.Remove(filepath.Join(dir, "tasks/look.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if got := code("select 1"); got == "<nil>" {
		t.Error("a session of a task that is gone goes on")
	}
	write("tasks/look.yaml", lookTask)
	if _, err := s.Reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	loginOverAPI(t, s, idp, addr, w.database, &w.ahead)
	// X14: the gateway stops; what is left is told so.
	if c, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "begin"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "update orders set status = 'lost' where id = 1"); err != nil {
		t.Fatal(err)
	}
	w.end()
	if got := code("commit"); got != "57P01" {
		t.Errorf("the client is told %s", got)
	}
	if out, err := shared.pg.Psql(w.database, "select status from orders where id = 1"); err != nil || strings.TrimSpace(out) == "lost" {
		t.Errorf("%q %v", out, err)
	}
	if rep, err := audit.Verify(filepath.Join(dir, "data", "audit"), "", ""); err != nil || rep.Signed != rep.Records {
		t.Errorf("%+v %v", rep, err)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "data", "audit", "00000001.log"))
	if strings.Contains(string(log), token) || strings.Contains(string(log), shared.pg.Password) {
		t.Error("RC08: a secret is in the audit log")
	}
}

// loginOverAPI logs in by the device flow, works with what that gave, and ends
// it all by losing the group and by a logout, each with a transaction open.
func loginOverAPI(t *testing.T, s *Server, idp *devidp.Provider, addr map[string]string, database string, ahead *atomic.Int64) {
	t.Helper()
	call := func(method, path, bearer, body string, into any) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr["api"]+path, strings.NewReader(body))
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
	login := func() string {
		t.Helper()
		var d struct{ ID, URL, Code string }
		if n := call("POST", "/v1/login", "", "{}", &d); n != 200 {
			t.Fatal(n)
		}
		if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "x"); err != nil {
			t.Fatal(err)
		}
		var got Token
		if n := call("POST", "/v1/login/wait", "", `{"id": "`+d.ID+`"}`, &got); n != 200 {
			t.Fatal(n)
		}
		return got.Token
	}
	open := func(token, id string) *pgx.Conn {
		t.Helper()
		c, err := pgx.Connect(t.Context(), "postgres://look:"+token+"@"+addr["postgres"]+"/shop?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"begin", "update orders set status = 'lost' where id = " + id} {
			if _, err := c.Exec(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	ended := func(c *pgx.Conn, why string) {
		t.Helper()
		_, err := c.Exec(t.Context(), "commit")
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v", err)
		}
		if out, err := shared.pg.Psql(database, "select count(*) from orders where status = 'lost'"); err != nil || strings.TrimSpace(out) != "0" {
			t.Errorf("invariant 9: %q %v", out, err)
		}
	}
	users := func(groups ...string) {
		idp.SetUsers(map[string]devidp.User{"ada": {Password: "x", Groups: groups}})
	}
	var said map[string]any
	users("task:look", "root")
	token := login()
	var me Me
	if n := call("GET", "/v1/me", token, "", &me); n != 200 || me.Subject != "ada" || len(me.Tasks) != 1 || me.Tasks[0].Name != "look" || me.Postgres.Address != addr["postgres"] || me.Postgres.TLS {
		t.Errorf("%d %+v", n, me)
	}
	var narrow Token
	if n := call("POST", "/v1/tokens", token, `{"task": "look", "resource": "shop", "seconds": 600}`, &narrow); n != 200 {
		t.Errorf("%d", n)
	}
	for body, want := range map[string]int{`{"task": "other", "resource": "shop", "seconds": 600}`: 403, `{"task": "look", "resource": "else", "seconds": 600}`: 403,
		`{"task": "look", "resource": "shop", "seconds": 99999999999}`: 400, `{"task": "look", "tsk": 1}`: 400, `{`: 400} {
		if n := call("POST", "/v1/tokens", token, body, &said); n != want {
			t.Errorf("%s: %d %v", body, n, said)
		}
	}
	for path, want := range map[string]int{"/v1/tokens": 403, "/v1/logout": 401} { // ID28
		if n := call("POST", path, narrow.Token, `{"task": "look", "resource": "shop", "seconds": 600}`, &said); n != want {
			t.Errorf("%s with a narrow token: %d %v", path, n, said)
		}
	}
	if n := call("GET", "/v1/me", "tg_wrong", "", &said); n != 401 {
		t.Error(n)
	}
	if n := call("POST", "/v1/login/wait", "", `{"id": "guess"}`, &said); n != 404 {
		t.Error(n)
	}
	c := open(narrow.Token, "1")
	defer c.Close(t.Context())
	other := open(login(), "2") // of a login of its own
	defer other.Close(t.Context())
	if n := call("POST", "/v1/logout", token, "", &said); n != 200 {
		t.Errorf("%d %v", n, said)
	}
	ended(c, "logout")
	if _, err := pgx.Connect(t.Context(), "postgres://look:"+narrow.Token+"@"+addr["postgres"]+"/shop?sslmode=disable"); err == nil {
		t.Error("ID10: the token is good after the logout")
	}
	if err := other.Ping(t.Context()); err != nil {
		t.Errorf("another login ended with it: %v", err)
	}
	// ID09: the group is gone, and the next look of the gateway finds that out.
	users("root")
	ahead.Store(int64(6 * time.Minute))
	for _, x := range s.gate.Sessions() {
		s.regroupOne(t.Context(), x.Login())
	}
	ended(other, "no such task for you")
}
