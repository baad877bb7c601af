package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/devidp"
)

// TestReloadListeners: one that is new opens, one that is gone takes nobody and
// its sessions go on, one that cannot be opened changes nothing.
func TestReloadListeners(t *testing.T) {
	w := newWorld(t, nil)
	first := w.in()
	old, api, next := w.listener("postgres"), w.listener("api"), w.free()
	pgLine, apiLine := `postgres: {address: "127.0.0.1:0"`, "  api: {address: \"127.0.0.1:0\", plain: true}\n"

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	// What else is wrong, and what else would open, makes no difference.
	w.edit(pgLine, fmt.Sprintf("postgres: {address: %q", taken.Addr()), apiLine, fmt.Sprintf("  api: {address: %q, plain: true}\n", next))
	w.write("tasks/look.yaml", strings.Replace(lookTask, "[id, status]", "[id, status, note]", 1))
	if why := w.refused(); !strings.Contains(why, "listeners.postgres: it cannot move from 127.0.0.1:0 to "+taken.Addr().String()) || !strings.Contains(why, "address already in use") {
		t.Error(why)
	}
	if got := code(first, "select note from orders"); got != "42501" {
		t.Errorf("a part of a bad reload counts: %q", got)
	}
	if nc, err := net.Dial("tcp", next); err == nil {
		nc.Close()
		t.Error("a listener of a bad reload is open")
	}
	w.write("tasks/look.yaml", lookTask)

	w.edit(pgLine, fmt.Sprintf("postgres: {address: %q", next), apiLine, "")
	if got := w.reload(); got != fmt.Sprintf("listener api closed\nlistener postgres moved from %s to %s", old, next) {
		t.Error(got)
	}
	for _, gone := range []string{old, api} {
		if nc, err := net.Dial("tcp", gone); err == nil {
			nc.Close()
			t.Errorf("%s is still open", gone)
		}
	}
	if got := code(first, "select id from orders"); got != "" {
		t.Errorf("a session of a listener that is gone: %q", got)
	}
	second := w.in()
	if got := code(second, "select id from orders"); got != "" {
		t.Error(got)
	}
	if got := w.reload(); got != "nothing has changed" {
		t.Error(got)
	}
	w.edit(pgLine, fmt.Sprintf("postgres: {address: %q", next))
	if got := w.reload(); !strings.HasPrefix(got, "listener api opened at 127.0.0.1:") {
		t.Error(got)
	}
	resp, err := http.Get("http://" + w.listener("api") + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	// What a running gateway cannot take is said.
	w.edit("resources:", "audit: {sync: always}\nrecord: {results: none}\nresources:", pgLine, fmt.Sprintf("postgres: {address: %q", next))
	if got := w.reload(); got != "audit differs: that counts after a restart\nrecord differs: that counts after a restart" {
		t.Error(got)
	}
}

// TestReloadNothing: where every file is what it was the generation stays; any
// byte of one that a reload reads makes the next, and is named.
func TestReloadNothing(t *testing.T) {
	w := newWorld(t, nil)
	generation := uint64(1)
	said := func(what, want string) {
		t.Helper()
		if got := strings.ReplaceAll(w.reload(), w.dir+"/", ""); got != want && (!strings.HasSuffix(want, "…") || !strings.HasPrefix(got, strings.TrimSuffix(want, "…"))) {
			t.Errorf("%s: %q, not %q", what, got, want)
		}
		if n := w.s.gate.Current().Number; n != generation {
			t.Errorf("%s: generation %d, not %d", what, n, generation)
		}
	}
	stays := func(what string) {
		t.Helper()
		said(what, "nothing has changed")
	}
	changes := func(what, want string) {
		t.Helper()
		generation++
		said(what, want)
		stays("after " + what)
	}
	stays("at first")
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	ca, module := read(shared.pg.CA), read(shared.guard)
	w.write("ca.pem", ca)
	w.write("tasks.wasm", module)
	w.certificate("cert.pem", "key.pem")
	w.yaml = strings.NewReplacer(shared.pg.CA, "ca.pem", shared.guard, "tasks.wasm", "plain: true}\n", "tls: {cert: \"file:cert.pem\", key: \"file:key.pem\"}}\n").Replace(w.yaml)
	w.write("gateway.yaml", w.yaml)
	changes("paths", "resource shop changed\nlistener api: TLS from now on\nlistener postgres: TLS from now on")

	w.write("ca.pem", "more\n"+ca)
	changes("an authority", "ca.pem changed")
	w.write("tasks.wasm", module+"\x00\x02\x01x")
	changes("a module", "guard tasks changed")
	w.write("tasks/"+catalog.LockFile, "shop: {relations: {public.orders: {id: bigint}}}\n")
	changes("the lock", "tasks/"+catalog.LockFile+" changed")
	w.write("tasks/look.yaml", lookTask+"# more\n")
	changes("a task's remark", "tasks/look.yaml changed")
	w.write("tasks/look.yaml", strings.Replace(lookTask, "[id, status]", "[id]", 1))
	changes("a task", "task look changed")
	w.write("cert.pem", "more\n"+read(filepath.Join(w.dir, "cert.pem")))
	changes("what stands beside a certificate", "cert.pem changed")
	w.edit("cert: ", `cert:  `)
	changes("gateway.yaml's blanks", "gateway.yaml changed")
	w.edit("postgres: {", `postgres: {public: "db.example:6432", `)
	changes("where clients come", "listener postgres changed")
	w.yaml = read(filepath.Join(w.dir, "gateway.yaml"))
	w.edit("  api: {", "  ssh: {address: \"127.0.0.1:0\"}\n  api: {")
	changes("SSH", "listener ssh opened at 127.0.0.1:…")

	// Files that no reload reads, and secrets, which are read when they are needed.
	w.write("tasks/.look.yaml.swp", "x")
	w.write("tasks/.hidden.yaml", "x")
	w.write("password", shared.pg.Password+"\n")
	stays("others")
	// A key that is gone is made anew.
	if err := os.Remove(filepath.Join(w.dir, "data/keys/ssh-host")); err != nil {
		t.Fatal(err)
	}
	changes("a host key", "listener ssh: another host key, SHA256:…")
	// What was refused changes nothing, and is not taken for what runs.
	good := read(filepath.Join(w.dir, "tasks/look.yaml"))
	w.write("tasks/look.yaml", "task: look\n")
	w.refused()
	w.write("tasks/look.yaml", good)
	stays("after a refusal")
	if !strings.Contains(w.log.String(), `"changes":["nothing has changed"],"generation":1,`) {
		t.Error(w.log.String())
	}
}

// TestX08CertificateRotation: a certificate that has changed counts from the
// next handshake, sessions of the old one go on, and a bad one changes nothing.
func TestX08CertificateRotation(t *testing.T) {
	w := newWorld(t, nil)
	one, trustOne := w.certificate("cert.pem", "key.pem")
	secure := `tls: {cert: "file:cert.pem", key: "file:key.pem"}`
	w.edit("plain: true", secure)
	plain := w.in()
	if got := w.reload(); got != "listener api: TLS from now on\nlistener postgres: TLS from now on" {
		t.Error(got)
	}
	if got := code(plain, "select id from orders"); got != "" {
		t.Errorf("a session from before TLS: %q", got)
	}
	if _, err := w.connect(w.listener("postgres"), w.token(w.idp), "sslmode=disable"); err == nil || !strings.Contains(err.Error(), "no password without TLS") {
		t.Errorf("a password in the clear: %v", err)
	}
	live, err := w.connect(w.listener("postgres"), w.token(w.idp), "sslmode=verify-full&sslrootcert="+filepath.Join(w.dir, "ca-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	presented := func(name string, trust *tls.Config) string {
		nc, err := tls.Dial("tcp", w.listener(name), trust)
		if err != nil {
			return err.Error()
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	direct := func(trust *tls.Config) *tls.Config {
		c := trust.Clone()
		c.NextProtos = []string{"postgresql"}
		return c
	}
	trust := &tls.Config{RootCAs: trustOne}
	if a, b := presented("api", trust), presented("postgres", direct(trust)); a != one.SerialNumber.String() || b != a {
		t.Errorf("%s %s", a, b)
	}
	// X06: a client of another protocol is refused in the handshake.
	for name, offers := range map[string]string{"api": "postgresql", "postgres": "http/1.1"} {
		c := trust.Clone()
		c.NextProtos = []string{offers}
		if got := presented(name, c); !strings.Contains(got, "no application protocol") {
			t.Errorf("%s on %s: %s", offers, name, got)
		}
	}

	good, err := os.ReadFile(filepath.Join(w.dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("cert.pem", "not a certificate")
	if why := w.refused(); !strings.Contains(why, "listeners.postgres.tls: ") || !strings.Contains(why, "listeners.api.tls: ") {
		t.Error(why)
	}
	if got := presented("api", trust); got != one.SerialNumber.String() {
		t.Errorf("after a bad reload: %s", got)
	}
	w.write("cert.pem", string(good))
	if got := w.reload(); got != "nothing has changed" {
		t.Error(got)
	}

	two, trustTwo := w.certificate("cert.pem", "key.pem")
	if got := presented("api", trust); got != one.SerialNumber.String() {
		t.Errorf("before the reload: %s", got)
	}
	if got := w.reload(); !strings.Contains(got, "listener api: another certificate, good until ") || !strings.Contains(got, "listener postgres: another certificate") {
		t.Error(got)
	}
	trust = &tls.Config{RootCAs: trustTwo}
	if a, b := presented("api", trust), presented("postgres", direct(trust)); a != two.SerialNumber.String() || b != a {
		t.Errorf("%s %s", a, b)
	}
	if got := code(live, "select id from orders"); got != "" {
		t.Errorf("a session of the old certificate: %q", got)
	}
	for _, l := range w.s.Status().Listeners {
		if !l.TLS || !l.Expires.Equal(two.NotAfter) {
			t.Errorf("%+v", l)
		}
	}
}

// TestReloadIssuers: one that is new lets in, one that is gone lets nobody in
// and ends its sessions, told why; groups that it may not assert any more are gone.
func TestReloadIssuers(t *testing.T) {
	w := newWorld(t, nil)
	other := &devidp.Provider{ClientID: "taskgate"}
	url := w.issuer(other)
	if _, err := w.connect(w.listener("postgres"), w.token(other), "sslmode=disable"); err == nil {
		t.Fatal("an issuer that is not ours")
	}
	mine := w.in()
	w.edit("issuers:\n", fmt.Sprintf("issuers:\n  - {url: %q, client_id: taskgate}\n", url))
	if got := w.reload(); got != "issuer "+url+" added" {
		t.Error(got)
	}
	theirs, err := w.connect(w.listener("postgres"), w.token(other), "sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if got := code(theirs, "begin"); got != "" {
		t.Error(got)
	}
	if got := code(theirs, "update orders set status = 'lost' where id = 1"); got != "" {
		t.Error(got)
	}
	w.write("gateway.yaml", w.yaml)
	if got := w.reload(); got != "issuer "+url+" removed\n1 session ended, whose task, resource or issuer is gone" {
		t.Error(got)
	}
	if _, err := theirs.Exec(t.Context(), "commit"); err == nil || !strings.Contains(err.Error(), "the issuer that your login is from is no longer trusted (SQLSTATE 57P01)") {
		t.Errorf("%v", err)
	}
	if out, err := shared.pg.Psql(w.database, "select count(*) from orders where status = 'lost'"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("invariant 9: %q %v", out, err)
	}
	if _, err := w.connect(w.listener("postgres"), w.token(other), "sslmode=disable"); err == nil {
		t.Error("an issuer that is gone lets in")
	}
	if got := code(mine, "select id from orders"); got != "" {
		t.Errorf("a session of another issuer: %q", got)
	}
	w.edit("client_id: taskgate", `client_id: taskgate, may_assert: ["team:*"]`)
	if got := w.reload(); !strings.Contains(got, "changed\n1 session ended") {
		t.Error(got)
	}
	if _, err := mine.Exec(t.Context(), "select 1"); err == nil || !strings.Contains(err.Error(), "no such task for you") {
		t.Errorf("%v", err)
	}
}

// TestReloadKeepsKeys: an issuer that is down at a reload, and stays, is known
// as before.
func TestReloadKeepsKeys(t *testing.T) {
	idp := &devidp.Provider{ClientID: "taskgate"}
	l, url, err := idp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- idp.Run(ctx, l) }()
	w := newWorld(t, func(yaml string) string {
		return strings.Replace(yaml, "issuers:\n", fmt.Sprintf("issuers:\n  - {url: %q, client_id: taskgate}\n", url), 1)
	})
	token := w.token(idp)
	if _, err := w.connect(w.listener("postgres"), token, "sslmode=disable"); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	w.edit(url+`", client_id: taskgate`, url+`", client_id: taskgate, raw_tokens: true, scopes: [groups]`)
	if got := w.reload(); got != "issuer "+url+" changed" {
		t.Error(got)
	}
	if _, err := w.connect(w.listener("postgres"), token, "sslmode=disable"); err != nil {
		t.Error(err)
	}
}

// TestX14Drain: while sessions end, newcomers are told in their protocol's
// words, and what has not logged in does not hold anybody up.
func TestX14Drain(t *testing.T) {
	w := newWorld(t, nil)
	c := w.in()
	half, err := net.Dial("tcp", w.listener("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	w.s.Grace = 1 << 40 // the session ends by itself
	w.stop()
	for !strings.Contains(w.log.String(), "shutting down") {
		time.Sleep(time.Millisecond)
	}
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + w.addr["api"] + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	if n, b := get("/readyz"); n != 503 || b != "not ready: draining" {
		t.Error(n, b)
	}
	if n, b := get("/healthz"); n != 200 || b != "ok" {
		t.Error(n, b)
	}
	if _, err := w.s.Reload(t.Context(), "test"); err == nil || err.Error() != "the gateway is shutting down" {
		t.Error(err)
	}
	if _, err := w.connect(w.addr["postgres"], w.token(w.idp), "sslmode=disable"); err == nil || !strings.Contains(err.Error(), "57P03") {
		t.Errorf("a newcomer: %v", err)
	}
	if got := code(c, "select id from orders"); got != "" {
		t.Errorf("who is in: %q", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.end()
}
