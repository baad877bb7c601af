package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/gate"
)

func initial(data string) []byte {
	return frame('p', append(binary.BigEndian.AppendUint32([]byte("OAUTHBEARER\x00"), uint32(len(data))), data...))
}

// TestOAuthBearer works with pgx, which shows its token by SASL where it is asked to.
func TestOAuthBearer(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	connect := func(token, url, options string) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(url + options)
		if err != nil {
			t.Fatal(err)
		}
		config.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
		return pgx.ConnectConfig(t.Context(), config)
	}
	url := strings.Replace(g.url(), ":token@", "@", 1)
	for _, options := range []string{"&taskgate.auth=oauthbearer", "&require_auth=oauth&taskgate.auth=OAUTHBEARER", "&options=-c%20taskgate.auth%3Doauthbearer%20-c%20datestyle%3DISO"} {
		c, err := connect("token", url, options)
		if err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		var n int
		if err := c.QueryRow(t.Context(), "select count(*) from orders").Scan(&n); err != nil || n != 200 {
			t.Errorf("%s: %d %v", options, n, err)
		}
		if _, err := c.Exec(t.Context(), "delete from orders"); code(err) != "42501" {
			t.Errorf("%s: %v", options, err)
		}
		_ = c.Close(t.Context())
	}
	if n := g.Counts().LoginsRefused; n != 0 {
		t.Errorf("%d logins were refused", n)
	}
	for name, c := range map[string]struct{ token, url, options, want string }{
		"a wrong token":          {"wrong", url, "&taskgate.auth=oauthbearer", "invalid_token"},
		"ID17 another task":      {"token", strings.Replace(url, "x@", "y@", 1), "&taskgate.auth=oauthbearer", "no such task for you"},
		"ID17 another resource":  {"token", strings.Replace(url, "/shop", "/else", 1), "&taskgate.auth=oauthbearer", "does not cover the resource"},
		"another way":            {"token", url, "&taskgate.auth=trust", "password or oauthbearer is expected"},
		"not asked for, refused": {"token", url, "&require_auth=oauth", "require_auth"},
	} {
		if conn, err := connect(c.token, c.url, c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			if conn != nil {
				_ = conn.Close(t.Context())
			}
		}
	}
	if n := g.Counts().LoginsRefused; n != 3 {
		t.Errorf("%d logins were refused, not 3", n)
	}
	if out := g.psql(t, "select 'psql as ever'"); !strings.Contains(out, "psql as ever") {
		t.Error(out)
	}
}

// ID16: what else may come. Nothing of it is let in, and what only asks where to
// get a token is no failed login.
func TestID16OAuthBearer(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	start := packet(v30 + "user\x00x\x00database\x00shop\x00taskgate.auth\x00oauthbearer\x00\x00")
	end := frame('p', []byte{1})
	const invalid = `{"status":"invalid_token","scope":"openid groups","openid-configuration":"https://idp.example/.well-known/openid-configuration"}`
	for name, c := range map[string]struct {
		send    []byte
		want    string // part of what comes back
		refused uint64
	}{
		"let in":                 {initial("n,,\x01auth=Bearer token\x01\x01"), "R\x00\x00\x00\x08\x00\x00\x00\x00", 0},
		"in small letters":       {initial("y,,\x01auth=bearer token\x01\x01"), "R\x00\x00\x00\x08\x00\x00\x00\x00", 0},
		"in capitals, blanks":    {initial("n,,\x01host=gw\x01port=1\x01auth=BEARER   token\x01\x01"), "R\x00\x00\x00\x08\x00\x00\x00\x00", 0},
		"asked first":            {join(frame('p', append([]byte("OAUTHBEARER\x00"), 255, 255, 255, 255)), frame('p', []byte("n,,\x01auth=Bearer token\x01\x01"))), "R\x00\x00\x00\x08\x00\x00\x00\x00", 0},
		"empty first round":      {join(initial("n,,\x01auth=\x01\x01"), end), invalid, 0},
		"and its end":            {join(initial("n,,\x01auth=\x01\x01"), end), "a token is needed", 0},
		"wrong":                  {join(initial("n,,\x01auth=Bearer wrong\x01\x01"), end), invalid, 1},
		"wrong, and its end":     {join(initial("n,,\x01auth=Bearer wrong\x01\x01"), end), "C28000\x00", 1},
		"wrong, then right":      {join(initial("n,,\x01auth=Bearer wrong\x01\x01"), frame('p', []byte("n,,\x01auth=Bearer token\x01\x01"))), "the end of the exchange", 1},
		"empty, then right":      {join(initial("n,,\x01auth=\x01\x01"), frame('p', []byte("n,,\x01auth=Bearer token\x01\x01"))), "the end of the exchange", 0},
		"another scheme":         {join(initial("n,,\x01auth=Basic dG9rZW4=\x01\x01"), end), invalid, 1},
		"no scheme":              {join(initial("n,,\x01auth=token\x01\x01"), end), invalid, 1},
		"Bearer alone":           {join(initial("n,,\x01auth=Bearer \x01\x01"), end), invalid, 1},
		"two tokens":             {join(initial("n,,\x01auth=Bearer token token\x01\x01"), end), invalid, 1},
		"a token with a quote":   {join(initial("n,,\x01auth=Bearer tok\"en\x01\x01"), end), invalid, 1},
		"a tab for the blank":    {join(initial("n,,\x01auth=Bearer\ttoken\x01\x01"), end), invalid, 1},
		"left in the middle":     {initial("n,,\x01auth=Bearer wrong\x01\x01"), invalid, 1},
		"no auth":                {initial("n,,\x01host=gw\x01\x01"), "auth is missing", 0},
		"auth in capitals":       {initial("n,,\x01AUTH=Bearer token\x01\x01"), "auth is missing", 0},
		"nothing":                {initial("n,,\x01\x01"), "auth is missing", 0},
		"auth twice":             {initial("n,,\x01auth=Bearer token\x01auth=Bearer token\x01\x01"), "auth is there twice", 0},
		"auth twice, one empty":  {initial("n,,\x01auth=\x01auth=Bearer token\x01\x01"), "auth is there twice", 0},
		"no separator":           {initial("n,,auth=Bearer token"), "separator is missing", 0},
		"another separator":      {initial("n,,\x02auth=Bearer token\x02\x02"), "separator is missing", 0},
		"one separator short":    {initial("n,,\x01auth=Bearer token\x01"), "it has no end", 0},
		"both short":             {initial("n,,\x01auth=Bearer token"), "it has no end", 0},
		"behind the end":         {initial("n,,\x01auth=Bearer token\x01\x01x"), "behind its end", 0},
		"a key without a value":  {initial("n,,\x01auth\x01\x01"), "a key or its value", 0},
		"a key that is none":     {initial("n,,\x01au th=x\x01auth=Bearer token\x01\x01"), "a key or its value", 0},
		"NUL in a value":         {initial("n,,\x01auth=Bearer tok\x00en\x01\x01"), "a key or its value", 0},
		"authzid of another":     {initial("n,a=eve,\x01auth=Bearer token\x01\x01"), "authorization identity is not supported", 0},
		"authzid of the task":    {initial("n,a=x,\x01auth=Bearer token\x01\x01"), "authorization identity is not supported", 0},
		"channel binding":        {initial("p=tls-server-end-point,,\x01auth=Bearer token\x01\x01"), "channel binding", 0},
		"no header":              {initial("auth=Bearer token\x01\x01"), "does not begin", 0},
		"empty":                  {initial(""), "separator is missing", 0},
		"another mechanism":      {frame('p', append([]byte("SCRAM-SHA-256\x00"), 0, 0, 0, 0)), "expected OAUTHBEARER", 0},
		"a mechanism alone":      {frame('p', []byte("OAUTHBEARER\x00")), "expected OAUTHBEARER", 0},
		"no mechanism":           {frame('p', []byte("x")), "expected OAUTHBEARER", 0},
		"a password":             {frame('p', []byte("token\x00")), "expected OAUTHBEARER", 0},
		"a length too short":     {frame('p', append([]byte("OAUTHBEARER\x00\x00\x00\x00\x03"), "n,,\x01auth=Bearer token\x01\x01"...)), "length is not right", 0},
		"a length too long":      {frame('p', append([]byte("OAUTHBEARER\x00\x7f\xff\xff\xff"), "n,,\x01auth=Bearer token\x01\x01"...)), "length is not right", 0},
		"a length below nothing": {frame('p', append([]byte("OAUTHBEARER\x00\xff\xff\xff\xff"), "n,,\x01auth=Bearer token\x01\x01"...)), "length is not right", 0},
		"a query":                {query("select 1"), "expected a password", 0},
		"too large":              {initial("n,,\x01auth=Bearer " + strings.Repeat("x", maxPassword) + "\x01\x01"), "expected a password", 0},
	} {
		before := g.Counts().LoginsRefused
		nc := g.raw(t, join(start, c.send))
		var all []byte
		buf := make([]byte, 4096)
		for !strings.Contains(string(all), c.want) {
			n, err := nc.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break
			}
		}
		if !strings.Contains(string(all), c.want) || strings.Contains(c.want, "R\x00") != strings.Contains(string(all), "R\x00\x00\x00\x08\x00\x00\x00\x00") {
			t.Errorf("%s: %q, not %q", name, all, c.want)
		}
		if !strings.HasPrefix(string(all), "R\x00\x00\x00\x15\x00\x00\x00\x0aOAUTHBEARER\x00\x00") {
			t.Errorf("%s: it was not offered: %q", name, all)
		}
		if n := g.Counts().LoginsRefused - before; n != c.refused {
			t.Errorf("%s: counted as %d failed logins", name, n)
		}
		if strings.Contains(string(all), "wrong") {
			t.Errorf("ID11 %s: the token comes back: %q", name, all)
		}
		nc.Close()
	}
	// libpq 18 asks on one connection where to get a token and shows it on the next.
	for range 3 {
		nc := g.raw(t, join(start, initial("n,,\x01auth=\x01\x01"), end))
		if b, err := io.ReadAll(nc); err != nil || !strings.Contains(string(b), "openid-configuration") {
			t.Errorf("%q %v", b, err)
		}
		nc.Close()
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventRefused && strings.Contains(fmt.Sprintf("%+v", e), "Bearer") {
			t.Errorf("ID11: recorded: %+v", e)
		}
	}
}
