package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
)

func sshKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withHosts gives a gateway hosts for its tasks, and what the SSH listener tells.
func withHosts(t *testing.T, g *identity) ssh.PublicKey {
	t.Helper()
	ca, err := auth.OpenCA(filepath.Join(g.dir, "data", "keys", "ssh-ca"))
	if err != nil {
		t.Fatal(err)
	}
	g.logins.SetCA(ca)
	g.ssh.front.Store(&SSH{Address: "gw.example:2222", HostKeys: []string{line(sshKey(t).PublicKey())}, UserCA: line(ca.PublicKey())})
	now := g.gate.Current()
	next := &gate.Generation{Number: now.Number + 1, Guards: now.Guards,
		Resources: map[string]*gate.Resource{"web-1": {Name: "web-1", Protocol: "ssh"}, "web-2": {Name: "web-2", Protocol: "ssh"}, "shop": now.Resources["shop"]},
		Tasks: map[string]*gate.Task{
			"look":  {Name: "look", Groups: []string{"task:look"}, Resources: []string{"shop", "web-1"}},
			"other": {Name: "other", Groups: []string{"task:other"}, Resources: []string{"web-1", "web-2"}},
			"sql":   {Name: "sql", Groups: []string{"task:look"}, Resources: []string{"shop"}},
		}}
	g.gate.Swap(next)
	return ca.PublicKey()
}

func TestSSHCertificates(t *testing.T) {
	pg := withPostgres(t)
	g, _ := withProvider(t, pg, map[string][]string{"ada": {"task:look", "task:other"}, "eve": {}}, "", "")
	doc := newDocument(t)
	ada := g.as(t, "ada")
	key := sshKey(t)
	public := line(key.PublicKey())
	ask := func(token, body string, want int, into any) {
		t.Helper()
		var raw map[string]any
		if into == nil {
			into = &raw
		}
		if n := g.call(t, "/v1/ssh/certificate", token, body, into); n != want {
			t.Errorf("%s: %d, not %d: %v", body, n, want, into)
		}
	}
	ask(ada, `{"public_key": "`+public+`"}`, http.StatusNotFound, nil) // no listener
	if n := g.call(t, "/v1/ssh", "", "", &map[string]any{}); n != http.StatusNotFound {
		t.Error(n)
	}
	ca := withHosts(t, g)
	var front SSH
	if n := g.call(t, "/v1/ssh", "", "", &front); n != 200 || front.Address != "gw.example:2222" || front.UserCA != line(ca) || len(front.HostKeys) != 1 {
		t.Errorf("%d %+v", n, front)
	}
	get := func(token, body string) *ssh.Certificate {
		t.Helper()
		var got Certificate
		ask(token, body, 200, &got)
		k, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(got.Certificate))
		c, ok := k.(*ssh.Certificate)
		if err != nil || !ok || len(rest) > 0 || int64(c.ValidBefore) != got.Expires.Unix() {
			t.Fatalf("%+v %v", got, err)
		}
		return c
	}
	for body, want := range map[string]string{
		``:                      "taskgate:look taskgate:other", // sql has no host
		`, "task": "look"`:      "taskgate:look",
		`, "resource": "web-2"`: "taskgate:other",
		`, "minutes": 60`:       "taskgate:look taskgate:other",
	} {
		c := get(ada, `{"public_key": "`+public+` ada@laptop"`+body+`}`)
		if strings.Join(c.ValidPrincipals, " ") != want || c.KeyId != "ada" || !bytes.Equal(c.Key.Marshal(), key.PublicKey().Marshal()) {
			t.Errorf("%s: %+v", body, c)
		}
		l := gate.Login{Protocol: "ssh", Task: strings.TrimPrefix(c.ValidPrincipals[0], "taskgate:"), Resource: "web-2", Certificate: c.Marshal(), Address: "127.0.0.1:1"}
		if grant, err := g.logins.Authenticate(t.Context(), l); err != nil || grant.Subject != "ada" {
			t.Errorf("%s: %v", body, err)
		}
	}
	var narrow Token
	if n := g.call(t, "/v1/tokens", ada, `{"task": "other", "resource": "web-2", "seconds": 600, "from": ["127.0.0.0/8"]}`, &narrow); n != 200 {
		t.Fatal(n)
	}
	if c := get(narrow.Token, `{"public_key": "`+public+`"}`); strings.Join(c.ValidPrincipals, " ") != "taskgate:other" || c.CriticalOptions["source-address"] != "127.0.0.0/8" || c.Extensions["resource@taskgate"] != "web-2" {
		t.Errorf("%+v", c)
	}
	self := get(ada, `{"public_key": "`+public+`"}`)
	for body, want := range map[string]int{
		`{}`: 400, `{"public_key": ""}`: 400, `{"public_key": "ssh-ed25519 AAAA"}`: 400, `{"public_key": 1}`: 400, `{"key": ""}`: 400,
		`{"public_key": "` + public + `\n` + public + `"}`:                      400,
		`{"public_key": "command=\"id\" ` + public + `"}`:                       400,
		`{"public_key": "` + line(self) + `"}`:                                  400, // SA04: nested
		`{"public_key": "` + strings.Repeat("x", 17<<10) + `"}`:                 400,
		`{"public_key": "` + public + `", "minutes": 61}`:                       400,
		`{"public_key": "` + public + `", "minutes": -1}`:                       400,
		`{"public_key": "` + public + `", "task": "sql"}`:                       403,
		`{"public_key": "` + public + `", "task": "none"}`:                      403,
		`{"public_key": "` + public + `", "resource": "shop"}`:                  403,
		`{"public_key": "` + public + `", "task": "look", "resource": "web-2"}`: 403,
	} {
		ask(ada, body, want, nil)
	}
	ask(narrow.Token, `{"public_key": "`+public+`", "task": "look"}`, 403, nil)
	ask(narrow.Token, `{"public_key": "`+public+`", "resource": "web-1"}`, 400, nil)
	ask(g.as(t, "eve"), `{"public_key": "`+public+`"}`, 403, nil)
	ask("tg_none", `{"public_key": "`+public+`"}`, 401, nil)
	ask("", `{"public_key": "`+public+`"}`, 401, nil)
	var d struct{ ID, URL, Code string }
	if n := g.call(t, "/v1/login", "", `{"for": "control"}`, &d); n != 200 {
		t.Fatal(n)
	}
	if err := devidp.Confirm(t.Context(), d.URL, d.Code, "ada", "x"); err != nil {
		t.Fatal(err)
	}
	var control Token
	if n := g.call(t, "/v1/login/wait", "", `{"id": "`+d.ID+`"}`, &control); n != 200 {
		t.Fatal(n)
	}
	ask(control.Token, `{"public_key": "`+public+`"}`, 403, nil)
	for path, token := range map[string]string{"/v1/ssh": "", "/v1/me": ada} {
		resp, b := fetch(t, g, path, token)
		doc.holds("GET", path, resp.StatusCode, b)
	}
	if _, b := fetch(t, g, "/v1/me", ada); !strings.Contains(b, `"ssh":["web-1","web-2"]`) {
		t.Error(b)
	}
	leaks(t, g, ada, narrow.Token)
}

func fetch(t *testing.T, g *identity, path, token string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.addr["api"]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// ID09, ID20: sessions that a certificate has opened end as those of the login's
// own token do, whatever the certificate says.
func TestID09SSHSession(t *testing.T) {
	pg := withPostgres(t)
	g, idp := withProvider(t, pg, map[string][]string{"ada": {"task:look"}}, "", "")
	withHosts(t, g)
	ada := g.as(t, "ada")
	open := func(token string) *gate.Session {
		t.Helper()
		var got Certificate
		if n := g.call(t, "/v1/ssh/certificate", token, `{"public_key": "`+line(sshKey(t).PublicKey())+`"}`, &got); n != 200 {
			t.Fatal(n)
		}
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		s, err := g.gate.Open(context.Background(), gate.Login{Protocol: "ssh", Task: "look", Resource: "web-1", Certificate: k.Marshal(), Address: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err, g.log.String())
		}
		t.Cleanup(func() { _ = s.Close(nil) })
		return s
	}
	ends := func(s *gate.Session, why string) {
		t.Helper()
		if err := context.Cause(s.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, not %q", err, why)
		}
	}
	one := open(ada)
	g.later(t, 20*time.Minute)
	if err := one.Context().Err(); err != nil { // longer than any certificate of it
		t.Errorf("it ended with its certificate: %v", err)
	}
	idp.SetUsers(map[string]devidp.User{"ada": {Password: "x", Groups: []string{"task:other"}}})
	g.later(t, 6*time.Minute)
	ends(one, "no such task for you")
	idp.SetUsers(map[string]devidp.User{"ada": {Password: "x", Groups: []string{"task:look"}}})
	two := open(g.as(t, "ada"))
	if n := g.gate.Kill("ended by the operator", func(s *gate.Session) bool { return s.ID() == two.ID() }); n != 1 {
		t.Error(n)
	}
	ends(two, "ended by the operator")
	last := g.as(t, "ada")
	three := open(last)
	if n := g.call(t, "/v1/logout", last, "{}", &struct{}{}); n != 200 {
		t.Error(n)
	}
	ends(three, "logout")
}

// ID13, ID15: who comes by SSH with nothing is shown a page of the gateway that says
// who asks, and what they get is good for just that, from there.
func TestID13AskBySSH(t *testing.T) {
	pg := withPostgres(t)
	g, _ := withProvider(t, pg, map[string][]string{"ada": {"task:look", "task:other"}}, "", "")
	withHosts(t, g)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	a, err := g.askSSH(ctx, "look", "web-1", "127.0.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(a.URL, "http://"+g.addr["api"])
	if !ok {
		t.Fatal(a.URL)
	}
	resp, body := fetch(t, g, path, "")
	for _, want := range []string{"<td>look", "<td>web-1", "<td>127.0.0.1", a.Code} {
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || strings.Contains(body, "script") {
		t.Errorf("%v", resp.Header)
	}
	to := regexp.MustCompile(`href="([^"]+)"`).FindStringSubmatch(body)
	if to == nil {
		t.Fatal(body)
	}
	if n := g.call(t, "/v1/login/wait", "", `{"id": "`+strings.TrimPrefix(path, askPath)+`"}`, &map[string]any{}); n != http.StatusNotFound {
		t.Errorf("the page's id gets the token: %d", n)
	}
	if err := devidp.Confirm(t.Context(), to[1], a.Code, "ada", "x"); err != nil {
		t.Fatal(err)
	}
	secret, err := a.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Wait(); err == nil {
		t.Errorf("ID15: a second one: %q", again)
	}
	l := gate.Login{Protocol: "ssh", Task: "look", Resource: "web-1", Secret: secret, Address: "127.0.0.1:6000"}
	if grant, err := g.logins.Authenticate(t.Context(), l); err != nil || grant.Subject != "ada" {
		t.Errorf("%v", err)
	}
	for name, change := range map[string]func(l *gate.Login){
		"another task":    func(l *gate.Login) { l.Task = "other" },
		"another host":    func(l *gate.Login) { l.Resource = "web-2" },
		"another address": func(l *gate.Login) { l.Address = "192.0.2.1:1" },
	} {
		l := l
		change(&l)
		if _, err := g.logins.Authenticate(t.Context(), l); err == nil {
			t.Errorf("taken for %s", name)
		}
	}
	if resp, _ := fetch(t, g, path, ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("its page is still there: %d", resp.StatusCode)
	}
	leaks(t, g, secret)

	t.Run("who leaves", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		a, err := g.askSSH(ctx, "look", "web-1", "127.0.0.1:5000")
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if secret, err := a.Wait(); err == nil {
			t.Errorf("%q", secret)
		}
		for range 1000 { // it is dropped beside the one who waits
			if pages(g) == 0 {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Error("a page of nobody is left")
	})
	t.Run("no end of them", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		for range 20 {
			if _, err = g.askSSH(ctx, "look", "web-1", "127.0.0.2:5000"); err != nil {
				break
			}
		}
		if !errors.Is(err, auth.ErrBusy) {
			t.Error(err)
		}
	})
	t.Run("names that cannot be shown", func(t *testing.T) {
		for _, name := range []string{"", "a b", "a\nb", "\u202etxt", strings.Repeat("x", 200), "a\x00", "\xff", "<b> "} {
			if a, err := g.askSSH(t.Context(), name, "web-1", "127.0.0.3:1"); err == nil {
				t.Errorf("%q: %s", name, a.URL)
			}
			if a, err := g.askSSH(t.Context(), "look", name, "127.0.0.3:1"); err == nil {
				t.Errorf("%q: %s", name, a.URL)
			}
		}
		a, err := g.askSSH(t.Context(), `"><script>x</script>`, `javascript:`, "127.0.0.3:1")
		if err != nil {
			t.Fatal(err)
		}
		if _, body := fetch(t, g, strings.TrimPrefix(a.URL, "http://"+g.addr["api"]), ""); strings.Contains(body, "<script") {
			t.Error(body)
		}
	})
	t.Run("an API that only this host reaches", func(t *testing.T) {
		a, err := g.askSSH(t.Context(), "look", "web-1", "192.0.2.1:1")
		if err != nil || strings.Contains(a.URL, askPath) {
			t.Errorf("%+v %v", a, err)
		}
	})
}

func pages(g *identity) int {
	g.ssh.mu.Lock()
	defer g.ssh.mu.Unlock()
	return len(g.ssh.asks)
}
