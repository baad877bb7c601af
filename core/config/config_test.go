package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestShipped: the gateway.yaml of the repository has no fault.
func TestShipped(t *testing.T) {
	c, err := Load(Source{Path: "../../gateway.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Listeners.Postgres.Plain || c.Resources["shop"].Logins["app"].User != "app" || c.Plugins[0].May[0] != "allow" || c.Audit.Sync != "writes" || c.Record != "head" || !strings.HasSuffix(c.Data, "data") {
		t.Errorf("%+v", c)
	}
}

// TestX17: each fault by itself, on its line.
func TestX17(t *testing.T) {
	raw, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for from, c := range map[string][2]string{
		"data:":                            {"dat:", `unknown key (did you mean "data"?)`},
		`"127.0.0.1:6432", plain: true`:    {`"0.0.0.0:6432", plain: true`, "only on a loopback address"},
		"127.0.0.1:6432":                   {"127.0.0.1", "host:port is expected"},
		"tls: disable":                     {"tls: prefer", "one of verify-full, disable"},
		`"127.0.0.1:5432"`:                 {`"db:5432"`, "tls: disable is for a resource on loopback alone"},
		"env:SHOP_PASSWORD":                {"hunter2", "a secret is never written here"},
		"client_id: taskgate":              {"client_id: ''", "no client_id"},
		"http://127.0.0.1:5556":            {"http://idp.example", "https is expected"},
		"may: [allow, deny, review, mask]": {"may: [alow]", "one of allow, deny, review, mask"},
		"sync: writes":                     {"sync: never", "one of writes, always, interval"},
		"results: head":                    {"results: 7", "a text is expected"},
		"name: tasks":                      {"name: tasks, sha256: abc", "64 hexadecimal digits"},
		"cache: true":                      {"cache: yes", "true or false is expected"},
		"audit: {":                         {"data: x\naudit: {", "already defined"},
		"catalog: ":                        {"catalog: *x # ", ""},
		"http://127.0.0.1:5556\"":          {"http://127.0.0.1:80@idp.example\"", "https is expected"},
		`may_assert: ["task:*", dba]`:      {`may_assert: ["*:x"]`, "a * at the end"},
		`["task:*", dba]`:                  {`[]`, "none of its subjects has a task"},
		"127.0.0.1:8443":                   {"127.0.0.1:6432", "the same address"},
		"127.0.0.1:8443\", plain: true":    {"127.0.0.1:8443\", plain: true, tls: {cert: \"file:c\", key: \"file:k\"}", "not both"},
		"[allow, deny, review, mask]":      {"[deny]", "no plugin that may allow"},
		`, password: "env:SHOP_PASSWORD"`:  {"", "the login has no password"},
		"  - {url:":                        {"  - {url: \"http://127.0.0.1:5556\", client_id: x}\n  - {url:", "another issuer has the url"},
		"record: {results: head}":          {"record:", "nothing stands here"},
		"127.0.0.1:6432\"":                 {"127.0.0.1:postgres\"", "host:port is expected"},
		"{approver: [dba]}":                {"{aprover: [dba]}", `unknown key (did you mean "approver"?)`},
		"approver: [dba]":                  {"approver: []", "a role that is left out nobody has"},
		"approver: [dba]}":                 {"approver: ['d*']}", "issuers[0].roles.approver: a list of groups is expected"},
		"tls: disable, logins":             {"tls: disable, drift: watch, logins", "one of poll, strict is expected"},
		"tls: disable, ":                   {"tls: disable, probe: yes, ", "one of off, on is expected"},
		"record: ":                         {"approvals: {webhooks: [{secret: \"env:X\"}]}\nrecord: ", "approvals.webhooks[0]: no url"},
		"record: {":                        {"approvals: {webhooks: [{url: \"https://h.example\"}]}\nrecord: {", "no secret: whoever gets it could not tell"},
		"record: {r":                       {"approvals: {webhooks: [{url: \"http://h.example\", secret: hunter2}]}\nrecord: {r", "approvals.webhooks[0].url: https is expected"},
		"record: {re":                      {"approvals: {webhooks: [{url: \"https://x:hunter2@h.example\", secret: \"env:X\"}]}\nrecord: {re", "without a password in it"},
		"record: {res":                     {"approvals: {webhooks: [{url: \"https://h\", secret: \"env:X\"}, {url: \"https://h\", secret: \"env:X\"}]}\nrecord: {res", "approvals.webhooks[1].url: another webhook has this url"},
		"record: {resu":                    {"approvals: {webhooks: [{url: \"https://h\", secret: \"env:X\", actions: {issuer: \"http://127.0.0.1:5557\"}}]}\nrecord: {resu", `no issuer has this url, whose people it could speak for (did you mean "http://127.0.0.1:5556"?)`},
		"record: {resul":                   {"approvals: {webhooks: [{url: \"https://h\", secret: \"env:X\", actions: {}}]}\nrecord: {resul", "actions: {issuer: URL}"},
		"record: {result":                  {"approvals: {webhook: []}\nrecord: {result", `did you mean "webhooks"?`},
	} {
		text := strings.Replace(string(raw), from, c[0], 1)
		if text == string(raw) {
			t.Errorf("%q is not in the file", from)
			continue
		}
		_, err := Parse("gateway.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), c[1]) || !strings.HasPrefix(err.Error(), "gateway.yaml:") {
			t.Errorf("%s: %v", c[0], err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Error("a secret is in the fault")
		}
	}
	if _, err := Parse("gateway.yaml", nil); err == nil {
		t.Error("an empty file")
	}
	_, err = Parse("gateway.yaml", []byte("a: 1\nb: 2\nc: 3\n"))
	if n := strings.Count(err.Error(), "unknown key"); n != 3 {
		t.Errorf("%d faults at once: %v", n, err)
	}
}

func TestSecret(t *testing.T) {
	t.Setenv("TASKGATE_TEST_SECRET", "x")
	if v, err := (Secret{"env:TASKGATE_TEST_SECRET"}).Resolve(); err != nil || v != "x" {
		t.Error(v, err)
	}
	if v, err := (Secret{"command:echo a b; true"}).Resolve(); err != nil || v != "a b" {
		t.Error(v, err)
	}
	for _, s := range []Secret{{"env:TASKGATE_TEST_NONE"}, {"file:/does/not/exist"}, {"command:echo hunter2; echo hunter2 >&2; false"}, {}} {
		if _, err := s.Resolve(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// TestLayers: the environment lies over the file, flags over the environment,
// and a fault names where its value came from.
func TestLayers(t *testing.T) {
	t.Setenv("TASKGATE_DATA", "elsewhere")
	t.Setenv("TASKGATE_LISTENERS__POSTGRES__ADDRESS", "127.0.0.1:7000")
	t.Setenv("TASKGATE_ISSUERS__0__MAY_ASSERT", `["team:*"]`)
	load := func(set ...string) (*Config, error) {
		return Load(Source{Path: "../../gateway.yaml", Set: set})
	}
	c, err := load("listeners.postgres.address=127.0.0.1:7001", "resources.shop.database=other", "record.results=none",
		`resources.more={protocol: postgres, address: "db:5432", database: d, logins: {a: {user: a, password: "env:P"}}}`,
		`issuers.1={url: "https://idp.example", client_id: x}`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(c.Data, "elsewhere") || c.Listeners.Postgres.Address != "127.0.0.1:7001" || !c.Listeners.Postgres.Plain || c.Resources["shop"].Database != "other" ||
		c.Resources["shop"].Logins["app"] == nil || c.Resources["more"].TLS != "verify-full" || c.Record != "none" || c.Issuers[0].MayAssert[0] != "team:*" || len(c.Issuers) != 2 {
		t.Errorf("%+v %+v", c, c.Resources["more"])
	}
	for set, want := range map[string]string{
		"dta=x":                            `--set dta:1:1: dta: unknown key (did you mean "data"?)`,
		"listeners.postgres.address=x":     "--set listeners.postgres.address:1:1: listeners.postgres.address: ",
		"listeners.postgres.plain=maybe":   "true or false is expected",
		"audit.sync=[":                     "--set audit.sync:1:",
		"data=":                            "empty",
		"issuers.7.url=x":                  `an index from 0 to 1 is expected`,
		"data.more=x":                      `"more" has no place in a text`,
		"data":                             "KEY.KEY=VALUE is expected",
		"resources.shop.logins.app.pass=x": "unknown key",
	} {
		if _, err := load(set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v, want %s", set, err, want)
		}
	}
	t.Setenv("TASKGATE_AUDIT__SNYC", "always")
	if _, err := load(); err == nil || !strings.Contains(err.Error(), `TASKGATE_AUDIT__SNYC:1:1: audit.snyc: unknown key (did you mean "sync"?)`) {
		t.Error(err)
	}
}

// TestMissing: files that have to be there, each with its line; all are asked
// for without waiting for any.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(filepath.Join(dir, "gateway.yaml"), []byte(`listeners:
  postgres: {address: "127.0.0.1:0", tls: {cert: "file:file", key: "file:nokey"}}
issuers: [{url: "https://idp.example", client_id: x}]
resources: {a: {address: "db:1", database: d, ca: "file:pipe", logins: {a: {user: a, password: "file:later"}}}}
catalog: file
plugins: [{name: tasks, path: ., may: [allow]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(c.Missing().Err().Error(), dir, "DIR")
	if got != `DIR/gateway.yaml:2:68: listeners.postgres.tls.key: there is no DIR/nokey
DIR/gateway.yaml:4:51: resources.a.ca: DIR/pipe is no file
DIR/gateway.yaml:5:10: catalog: DIR/file is no directory
DIR/gateway.yaml:6:31: plugins[0].path: DIR is no file` {
		t.Error(got)
	}
}

// TestOperatingGuide: the configuration that docs/operating.md shows is one.
func TestOperatingGuide(t *testing.T) {
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "```yaml\n")
	text, _, end := strings.Cut(text, "```")
	if c, err := Parse("operating.md", []byte(text)); !ok || !end || err != nil || c.Audit.Witness != "/mnt/elsewhere/witness" || c.Resources["orders"].Drift != "strict" || !c.Resources["orders"].Probe || c.Issuers[0].Roles["approver"][0] != "dba" || c.Approvals.Webhooks[0].Actions != c.Issuers[0].URL {
		t.Errorf("%v", err)
	}
}
