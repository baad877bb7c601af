package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/strict/stricttest"
)

const (
	someKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHURvfyZRFzZ8hDSPnlqRdqJPcCHfq/XhAyCgSVwbw+2"
	someCert  = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIK43KSzXtthTKtbvieIeBoB4rXnZtAbWLSOQlsZ4d7mhAAAAIHUtSDhP6m894OUS1ZsYL0LC/tkKKxZ602la5Y38ziH2AAAAAAAAAAAAAAACAAAAAXgAAAAJAAAABXdlYi0xAAAAAAAAAAD//////////wAAAAAAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgdS1IOE/qbz3g5RLVmxgvQsL+2QorFnrTaVrljfzOIfYAAABTAAAAC3NzaC1lZDI1NTE5AAAAQF4Xp+ZQXEucyPswU5oH8DPt3UnZg/2QQQISCUgpTtAfDwYSOvyKKaxbzJ2hTBRdbOs+L6M0dwUD5K77DV2XNgA="
	somePrint = "SHA256:uNiVztksCsDhcc0u9e8BrAPOKjY6LcTmXhZxQXzXr7M"
)

// withHost is a configuration with one host, and whatever stands in it.
func withHost(host string) string {
	return `listeners: {ssh: {address: "127.0.0.1:0"}}
issuers: [{url: "https://idp.example", client_id: x}]
resources: {web-1: {protocol: ssh, address: "web-1:22", ` + host + `}}
plugins: [{name: tasks, path: tasks.wasm, may: [allow]}]
`
}

// TestHosts: what a host may be, and each fault by itself; the schema for
// editors agrees.
func TestHosts(t *testing.T) {
	s := stricttest.Schema(t, Schema)
	pinned := `host_key: "` + somePrint + `", `
	for text, want := range map[string]struct {
		fault  string
		looser bool // the schema lets it pass
	}{
		pinned + `login: deploy, key: "file:id"`: {},
		`host_key: ["` + somePrint + `", "` + someKey + ` root@web-1"], login: deploy, key: "env:ID", shell: posix`:   {},
		`host_ca: "` + someKey + `", login: deploy, user_ca: "command:cat ca"`:                                        {},
		`host_ca: "file:ca.pub", logins: {a: {user: deploy}, b: {user: root, key: "file:other"}}, user_ca: "file:ca"`: {},
		pinned + `logins: {a: {user: deploy, key: "file:id"}}`:                                                        {},
		`login: deploy, key: "file:id"`:                                                                                       {fault: "no host_key and no host_ca, and an unknown host is never taken"},
		pinned + `host_ca: "` + someKey + `", login: deploy, key: "file:id"`:                                                  {fault: "either host_key or host_ca"},
		`host_key: "", login: deploy, key: "file:id"`:                                                                         {fault: "web-1.host_key: no key at all"},
		`host_key: [], login: deploy, key: "file:id"`:                                                                         {fault: "web-1.host_key: no key at all"},
		`host_key: any, login: deploy, key: "file:id"`:                                                                        {fault: "an unknown host is never taken"},
		`host_key: "MD5:aa:bb", login: deploy, key: "file:id"`:                                                                {fault: "an unknown host is never taken"},
		`host_key: "SHA256:abc", login: deploy, key: "file:id"`:                                                               {fault: "a fingerprint is SHA256: and 43 letters"},
		`host_key: "ssh-ed25519 hunter2", login: deploy, key: "file:id"`:                                                      {fault: "the line of a public key", looser: true},
		`host_key: "` + someKey + `\n` + someKey + `", login: deploy, key: "file:id"`:                                         {fault: "the line of a public key", looser: true},
		`host_key: "-----BEGIN OPENSSH PRIVATE KEY-----hunter2", login: deploy, key: "file:id"`:                               {fault: "a private key never stands here"},
		`host_key: {a: b}, login: deploy, key: "file:id"`:                                                                     {fault: "a text is expected"},
		`host_key: "` + someCert + `", login: deploy, key: "file:id"`:                                                         {fault: "this is a certificate", looser: true},
		`host_ca: "` + somePrint + `", login: deploy, key: "file:id"`:                                                         {fault: "a fingerprint is no authority"},
		`host_ca: "", login: deploy, key: "file:id"`:                                                                          {fault: "no authority at all"},
		`host_ca: "file:", login: deploy, key: "file:id"`:                                                                     {fault: "file:PATH is expected"},
		pinned + `login: deploy`:                                                                                              {fault: "web-1.login: nothing opens the host"},
		pinned + `login: deploy, key: "file:id", user_ca: "file:ca"`:                                                          {fault: "either key or user_ca"},
		pinned + `login: deploy, key: hunter2`:                                                                                {fault: "web-1.key: a secret is never written here"},
		pinned + `login: "-oProxyCommand=x", key: "file:id"`:                                                                  {fault: "is no account", looser: true},
		pinned + `login: "a b", key: "file:id"`:                                                                               {fault: "is no account", looser: true},
		pinned + `login: "a;$(x)", key: "file:id"`:                                                                            {fault: "is no account", looser: true},
		pinned + `login: "", key: "file:id"`:                                                                                  {fault: "web-1.login: an account is expected"},
		pinned + `login: a, logins: {b: {user: b}}, key: "file:id"`:                                                           {fault: "either login or logins", looser: true},
		pinned + `key: "file:id"`:                                                                                             {fault: "no login: login: ACCOUNT"},
		pinned + `logins: {a: {user: a}}`:                                                                                     {fault: "web-1.logins.a: nothing opens the host", looser: true},
		pinned + `logins: {a: {key: "file:id"}}`:                                                                              {fault: "the login has no user"},
		pinned + `logins: {a: {user: a, key: "file:id", password: "file:p"}}`:                                                 {fault: "a host has no password"},
		pinned + `logins: {a: {user: a, key: "file:id", privileged: accepted}}`:                                               {fault: "a host has no privileged"},
		pinned + `login: deploy, key: "file:id", shell: fish`:                                                                 {fault: "posix is expected"},
		pinned + `login: deploy, key: "file:id", database: x`:                                                                 {fault: "a host has no database: it is for protocol: postgres"},
		pinned + `login: deploy, key: "file:id", tls: disable`:                                                                {fault: "a host has no tls"},
		pinned + `login: deploy, key: "file:id", known_hosts: x`:                                                              {fault: "unknown key"},
		pinned + `login: deploy, key: "file:id"}, a+b: {protocol: ssh, address: "b:22", ` + pinned + `login: d, key: "env:K"`: {fault: `"a+b" cannot be the name of a host`, looser: true},
		pinned + `login: deploy, key: "file:id"}, db: {address: "db:1", database: d, logins: {a: {user: a, password: "env:P", key: "env:K"}}`: {fault: "a database has no key"},
		pinned + `login: deploy, key: "file:id"}, db: {address: "db:1", database: d, shell: posix, logins: {a: {user: a, password: "env:P"}}`: {fault: "a database has no shell"},
	} {
		c, err := Parse("gateway.yaml", []byte(withHost(text)))
		if want.fault == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			} else if r := c.Resources["web-1"]; r.Protocol != "ssh" || len(r.HostKeys) == 0 && r.HostCA == "" || len(r.Logins) == 0 {
				t.Errorf("%s: %+v", text, r)
			}
		} else if err == nil || !strings.Contains(err.Error(), want.fault) || !strings.HasPrefix(err.Error(), "gateway.yaml:3:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret is in the fault", text)
		}
		if e := stricttest.Validate(t, s, withHost(text)); (e == nil) != (err == nil || want.looser) {
			t.Errorf("%s: the schema says %v, the reader %v", text, e, err)
		}
	}
}

// TestHostValues: what was read is what counts, and every part of it is in the
// digest that a reload goes by.
func TestHostValues(t *testing.T) {
	read := func(text string) *Resource {
		t.Helper()
		c, err := Parse("/etc/taskgate/gateway.yaml", []byte(withHost(text)))
		if err != nil {
			t.Fatal(err)
		}
		return c.Resources["web-1"]
	}
	base := `host_key: ["` + somePrint + `", "` + someKey + ` root@web-1"], login: deploy, key: "file:id"`
	r := read(base)
	if r.HostKeys[0] != somePrint || r.HostKeys[1] != someKey || r.Logins["deploy"].User != "deploy" || r.Logins["deploy"].Key.String() != "file:/etc/taskgate/id" || r.Posix {
		t.Errorf("%+v %+v", r, r.Logins["deploy"])
	}
	own := read(`host_ca: "file:ca.pub", logins: {a: {user: deploy}, b: {user: root, key: "file:other"}}, user_ca: "file:ca"`)
	if a, b := own.Logins["a"], own.Logins["b"]; own.HostCA != "file:/etc/taskgate/ca.pub" || a.CA.String() != "file:/etc/taskgate/ca" || a.Key.Given() || b.CA.Given() || b.Key.String() != "file:/etc/taskgate/other" {
		t.Errorf("%+v %+v", a, b)
	}
	seen := map[string]bool{r.Digest(): true}
	for from, to := range map[string]string{somePrint: strings.Replace(somePrint, "u", "v", 1), "login: deploy": "login: other", "key: \"file:id\"": "user_ca: \"file:id\"", "file:id": "file:id2", `"file:id"`: `"file:id", shell: posix`, "web-1\"]": "web-1\", \"" + somePrint + "\"]"} {
		d := read(strings.Replace(base, from, to, 1)).Digest()
		if seen[d] {
			t.Errorf("%s is not in the digest", to)
		}
		seen[d] = true
	}
}

// TestSSHListener: one of the two listeners is enough, and each has a port of
// its own.
func TestSSHListener(t *testing.T) {
	dir := t.TempDir()
	read := func(listeners string) (*Config, error) {
		text := withHost(`host_key: "` + somePrint + `", login: deploy, key: "file:id"`)
		return Parse(filepath.Join(dir, "gateway.yaml"), []byte(strings.Replace(text, `listeners: {ssh: {address: "127.0.0.1:0"}}`, listeners, 1)))
	}
	c, err := read(`listeners: {ssh: {address: "0.0.0.0:2222", public: "gw.example:22", host_key: "file:host", user_ca: "file:ca"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Listeners.SSH; l.Public != "gw.example:22" || l.HostKey != filepath.Join(dir, "host") || l.UserCA != filepath.Join(dir, "ca") || c.Listeners.All()["ssh"].Address != "0.0.0.0:2222" || len(c.Listeners.All()) != 1 {
		t.Errorf("%+v", l)
	}
	if err := os.WriteFile(filepath.Join(dir, "host"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if m := c.Missing().Err(); m == nil || !strings.Contains(m.Error(), "listeners.ssh.user_ca: there is no ") || strings.Contains(m.Error(), "listeners.ssh.host_key") {
		t.Error(m)
	}
	for text, want := range map[string]string{
		`listeners: {api: {address: "127.0.0.1:1", plain: true}}`: "no listener",
		`listeners: {ssh: {}}`:                                                                                                   "listeners.ssh: no address",
		`listeners: {ssh: {address: "x"}}`:                                                                                       "host:port is expected",
		`listeners: {ssh: {address: "127.0.0.1:1", plain: true}}`:                                                                "SSH has its own encryption",
		`listeners: {ssh: {address: "127.0.0.1:1", tls: {}}}`:                                                                    "SSH has its own encryption",
		`listeners: {ssh: {address: "127.0.0.1:1", host_key: id}}`:                                                               "file:PATH is expected",
		`listeners: {ssh: {address: "127.0.0.1:1", host_key: "file:id", user_ca: "file:id"}}`:                                    "they have to be two keys",
		`listeners: {ssh: {address: "127.0.0.1:1"}, postgres: {address: "127.0.0.1:1", plain: true}}`:                            "postgres and ssh have the same address",
		`listeners: {ssh: {address: "127.0.0.1:1"}, api: {address: "127.0.0.1:1", plain: true}, kube: {address: "127.0.0.1:2"}}`: "does not speak to clusters yet",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
