package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// withProvider is a gateway with the development provider, for users whose
// password is x.
func withProvider(t *testing.T, pg *pgtest.Server, users map[string][]string, options, listener string) (*identity, *devidp.Provider) {
	t.Helper()
	idp := &devidp.Provider{ClientID: "taskgate"}
	l, issuer, err := idp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- idp.Run(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	list := map[string]devidp.User{}
	for name, groups := range users {
		list[name] = devidp.User{Password: "x", Groups: groups}
	}
	idp.SetUsers(list)
	return withIdentity(t, pg, fmt.Sprintf(`{url: "%s", client_id: taskgate%s}`, issuer, options), listener), idp
}

func (g *identity) as(t *testing.T, user string) string {
	t.Helper()
	return g.login(t, func(page, code string) error { return devidp.Confirm(t.Context(), page, code, user, "x") })
}

// refused connects, and gives what it is told instead of a session.
func (g *identity) refused(t *testing.T, url string) *pgconn.PgError {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err == nil {
		_ = c.Close(t.Context())
		t.Fatalf("let in: %s", url)
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		t.Fatalf("no answer in the protocol's words: %v", err)
	}
	return e
}

func TestIdentity(t *testing.T) {
	pg := withPostgres(t)
	g, idp := withProvider(t, pg, map[string][]string{"ada": {"task:look", "task:other"}, "bob": {"task:look"}, "eve": {}}, "", "")
	at := func(user, database, token string) string {
		return (&url.URL{Scheme: "postgres", User: url.UserPassword(user, token), Host: g.addr["postgres"], Path: "/" + database, RawQuery: "sslmode=disable"}).String()
	}
	ada, bob, eve := g.as(t, "ada"), g.as(t, "bob"), g.as(t, "eve")

	t.Run("ID20 kill", func(t *testing.T) {
		admin := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(g.dir, "data", "admin.sock"))
		}}}
		kill := func(form url.Values, want int) {
			t.Helper()
			resp, err := admin.PostForm("http://x/kill", form)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%v: %s", form, resp.Status)
			}
		}
		one := g.write(t, ada)
		id := g.gate.Sessions()[0].ID()
		other, err := pgx.Connect(t.Context(), g.url(bob))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close(t.Context())
		alive := func(what string) {
			t.Helper()
			if _, err := other.Exec(t.Context(), "select id from orders where id = 2"); err != nil {
				t.Errorf("%s ended another session: %v", what, err)
			}
		}
		kill(url.Values{}, http.StatusBadRequest)
		kill(url.Values{"session": {"no-such"}}, http.StatusOK)
		alive("a kill of nothing")
		kill(url.Values{"session": {id}}, http.StatusOK)
		g.ended(t, one, "ended by the operator")
		alive("a kill by id")
		two := g.write(t, ada)
		kill(url.Values{"subject": {"ada"}}, http.StatusOK)
		g.ended(t, two, "ended by the operator")
		alive("a kill by subject")
	})

	t.Run("ID20 logout while a statement runs", func(t *testing.T) {
		token := g.as(t, "ada")
		c := g.write(t, token)
		blocker, err := pgx.Connect(t.Context(), pg.URL("postgres", "shop"))
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close(t.Context())
		if _, err := blocker.Exec(t.Context(), "begin; select from orders where id = 2 for update"); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() {
			_, err := c.Exec(context.Background(), "update orders set status = 'lost' where id = 2")
			waits <- err
		}()
		for n := uint64(0); n < 3; { // begin, the first update, and this one
			for _, s := range g.gate.Sessions() {
				n, _ = s.Counts()
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := g.call(t, "/v1/logout", token, "{}", &struct{}{}); n != 200 {
			t.Error(n)
		}
		if err := <-waits; err == nil || !strings.Contains(err.Error(), "logout") {
			t.Errorf("%v", err)
		}
		if _, err := blocker.Exec(t.Context(), "rollback"); err != nil {
			t.Error(err)
		}
		g.ended(t, c, "conn closed")
		if e := g.refused(t, g.url(token)); e.Code != "28P01" { // ID10
			t.Errorf("%+v", e)
		}
	})

	t.Run("ID22 ID23 whoever is not named gets nothing", func(t *testing.T) {
		for name, c := range map[string]struct{ url, code, hint string }{
			"a task of another":     {at("other", "shop", bob), "42501", `your tasks for the resource "shop": look`},
			"no task at all":        {at("look", "shop", eve), "42501", "none of your tasks"},
			"no such task":          {at("none", "shop", ada), "42501", `your tasks for the resource "shop": look, other`},
			"the subject as user":   {at("ada", "shop", ada), "42501", "look, other"},
			"the database's user":   {at("app", "shop", ada), "42501", "look, other"},
			"postgres":              {at("postgres", "shop", ada), "42501", "look, other"},
			"user and task":         {at("ada+look", "shop", ada), "42501", "look, other"},
			"task and target":       {at("look@shop", "shop", ada), "42501", "look, other"},
			"all at once":           {at("ada+look@shop+x@y", "shop", ada), "42501", "look, other"},
			"two tasks":             {at("look,other", "shop", ada), "42501", "look, other"},
			"in capitals":           {at("LOOK", "shop", ada), "42501", "look, other"},
			"with a space":          {at("look ", "shop", ada), "42501", "look, other"},
			"no such resource":      {at("look", "template1", ada), "42501", "none of your tasks covers"},
			"no database":           {at("look", "", ada), "42501", "none of your tasks covers"},
			"no user's token":       {at("look", "shop", "tg_none"), "28P01", "taskgate login"},
			"a password":            {at("look", "shop", "x"), "28P01", "taskgate login"},
			"the resource's secret": {at("look", "shop", pg.Password), "28P01", "taskgate login"},
			"a token as the user":   {at(ada, "shop", ada), "42501", "look, other"},
			"a token as database":   {at("look", ada, ada), "42501", "none of your tasks"},
			"no login, token there": {at(ada, ada, "x"), "28P01", "taskgate login"},
		} {
			if e := g.refused(t, c.url); e.Code != c.code || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%s: %s %q %q", name, e.Code, e.Message, e.Hint)
			} else if strings.Contains(e.Message+e.Detail+e.Hint, ada) {
				t.Errorf("ID11 %s: the token is in %q", name, e.Message)
			}
		}
	})

	t.Run("ID21 a token for some addresses", func(t *testing.T) {
		var narrow Token
		for from, ok := range map[string]bool{`["127.0.0.1"]`: true, `["192.0.2.0/24", "::1", "127.0.0.0/8"]`: true, `["192.0.2.0/24"]`: false} {
			if n := g.call(t, "/v1/tokens", ada, `{"task": "look", "resource": "shop", "seconds": 600, "from": `+from+`}`, &narrow); n != 200 {
				t.Fatal(n)
			}
			c, err := pgx.Connect(t.Context(), g.url(narrow.Token))
			if (err == nil) != ok {
				t.Errorf("%s: %v", from, err)
			}
			if err == nil {
				_ = c.Close(t.Context())
			}
			want := http.StatusUnauthorized
			if ok {
				want = http.StatusOK
			}
			if n := g.call(t, "/v1/me", narrow.Token, "", &map[string]any{}); n != want {
				t.Errorf("%s: the API says %d", from, n)
			}
		}
		for _, from := range []string{`["x"]`, `["127.0.0.1/99"]`, `["fe80::1%eth0"]`, `[""]`, `"127.0.0.1"`, `[1]`, `["` + strings.Repeat(`1.1.1.1", "`, 20) + `1.1.1.1"]`} {
			if n := g.call(t, "/v1/tokens", ada, `{"task": "look", "resource": "shop", "seconds": 600, "from": `+from+`}`, &map[string]any{}); n != http.StatusBadRequest {
				t.Errorf("%s: %d", from, n)
			}
		}
	})

	t.Run("ID17 a narrow token by SASL", func(t *testing.T) {
		var narrow Token
		if n := g.call(t, "/v1/tokens", ada, `{"task": "look", "resource": "shop", "seconds": 600}`, &narrow); n != 200 {
			t.Fatal(n)
		}
		raw, err := idp.Token("ada", []string{"task:look"})
		if err != nil {
			t.Fatal(err)
		}
		elsewhere, err := idp.Sign(map[string]any{"iss": "https://else.example", "sub": "ada", "aud": "taskgate", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"task:look"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ token, task, want string }{
			{narrow.Token, "look", ""}, {narrow.Token, "other", `this token is for task "look" on "shop"`},
			{ada, "look", ""}, {ada, "other", ""},
			{raw, "look", ""}, {raw, "other", "no such task for you"},
			{elsewhere, "look", "invalid_token"},
		} {
			config, err := pgx.ParseConfig(at(c.task, "shop", "") + "&require_auth=oauth&taskgate.auth=oauthbearer")
			if err != nil {
				t.Fatal(err)
			}
			config.OAuthTokenProvider = func(context.Context) (string, error) { return c.token, nil }
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("task %s: %v, not %q", c.task, err, c.want)
			}
			if err == nil {
				if _, err := conn.Exec(t.Context(), "select id from orders where id = 1"); err != nil {
					t.Error(err)
				}
				_ = conn.Close(t.Context())
			}
		}
	})

	t.Run("ID24 a session ends with its token", func(t *testing.T) {
		var narrow Token
		idp.Lifetime = 3 * time.Second
		for name, mint := range map[string]func() (string, error){
			"the gateway's": func() (string, error) {
				if n := g.call(t, "/v1/tokens", ada, `{"task": "look", "resource": "shop", "seconds": 3}`, &narrow); n != 200 {
					return "", fmt.Errorf("status %d", n)
				}
				return narrow.Token, nil
			},
			"the provider's": func() (string, error) { return idp.Token("ada", []string{"task:look"}) },
		} {
			token, err := mint()
			if err != nil {
				t.Fatal(err)
			}
			c := g.write(t, token)
			for i := 0; ; i++ { // until it is over
				_, err := c.Exec(t.Context(), "select id from orders where id = 2")
				if err != nil {
					if !strings.Contains(err.Error(), "is over") {
						t.Errorf("%s: %v", name, err)
					}
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			g.ended(t, c, "conn closed")
			if e := g.refused(t, g.url(token)); e.Code != "28P01" {
				t.Errorf("%s, after its end: %+v", name, e)
			}
		}
	})
	leaks(t, g, ada, bob, eve)
}
