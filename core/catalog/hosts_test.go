package catalog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/shell"
	"github.com/taskgate/taskgate/core/strict/stricttest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// compiled is the tasks guard's configuration as it reads it.
func compiled(t *testing.T, c *Catalog) (config policy.Config) {
	t.Helper()
	b, _, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

const host = `task: x
description: a task on hosts
resources: [web-1]
limits: {session: 4h}
allow:
  - {exec: [[systemctl, restart, web-*], [uptime] ]}
  - {exec: [[tee, /srv/app/in]], stdin: allow}
  - files:
      read: [/var/log/web/**, /etc/hostname]
      list: [/srv]
      stat: [/]
      write: [/srv/app/*.conf]
      remove: [/srv/app/**]
      rename: [/srv/app/**/x]
      mkdir: [/srv/app/*]
      setstat: [/srv/app/*]
      link: [/srv/app/*]
      persist: [/home/deploy/.ssh/authorized_keys]
  - {rsync: {read: [/srv/app], write: [/srv/app, /srv/in], remove: [/srv/app], link: [/srv/app]}}
  - {exec: [[rsync, --server, --sender, -re., ".", /srv/nightly/]], stdin: allow}
  - {forward: ['db-1:5432', '[::1]:8080', /run/app.sock]}
  - {bind: ['127.0.0.1:8080', 'localhost:0', '*:0', /run/back.sock]}
  - {env: [LANG, LC_*]}
  - {signals: [TERM, INT]}
  - {agent: allow}
  - {x11: allow}
  - {shell: command}
review:
  - {opaque: allow, by: {groups: [sre], people: 2, justify: true}, summary: anything}
  - {files: {write: [/srv/app/**]}, by: {groups: [sre]}, payload: unseen}
`

func TestHosts(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": host})
	if err != nil {
		t.Fatal(err)
	}
	x := c.Tasks["x"]
	if x.Protocol() != "ssh" || !x.CommandShell || len(x.Rules) != 14 {
		t.Errorf("%+v", x)
	}
	var list []string
	for i := range x.compiled().Rules {
		list = append(list, x.Rules[i].String())
	}
	if got := strings.Join(list, "\n"); got != `exec: systemctl restart web-*, uptime
exec: tee /srv/app/in with its standard input
files: read /var/log/web/**, /etc/hostname, list /srv, stat /, write /srv/app/*.conf, remove /srv/app/**, rename /srv/app/**/x, mkdir /srv/app/*, …
rsync: read /srv/app, write /srv/app, /srv/in, remove /srv/app, link /srv/app
exec: rsync --server --sender -re. . /srv/nightly/ with its standard input
forward: db-1:5432, [::1]:8080, /run/app.sock
bind: 127.0.0.1:8080, localhost:0, *:0, /run/back.sock
env: LANG, LC_*
signals: TERM, INT
agent: allow
x11: allow
shell: command
opaque: allow after approval
files: write /srv/app/** after approval` {
		t.Error(got)
	}
	digests := map[string]string{x.Digest(): "as it is"}
	for from, to := range map[string]string{"web-*]": "web-1]", ", stdin: allow": "", "LC_*": "LC_ALL", "TERM": "HUP", "db-1:5432": "db-2:5432", "agent: allow": "agent: allow, by: {groups: [sre]}", "shell: command": "shell: allow", "read: [/var": "list: [/var"} {
		text := strings.Replace(host, from, to, 1)
		if strings.Contains(to, "by:") {
			text = strings.Replace(strings.Replace(host, "  - {"+from+"}\n", "", 1), "review:\n", "review:\n  - {"+to+"}\n", 1)
		} else if strings.HasPrefix(to, "list:") {
			text = strings.Replace(text, "      list: [/srv]\n", "", 1)
		}
		c, err := load(t, map[string]string{"x.yaml": text})
		if err != nil {
			t.Error(to, err)
			continue
		}
		d := c.Tasks["x"].Digest()
		if was, ok := digests[d]; ok {
			t.Errorf("%s has the digest of %s", to, was)
		}
		digests[d] = to
	}
	a, one, _ := c.Compile()
	b, two, _ := c.Compile()
	if string(a) != string(b) || one != two || !strings.Contains(string(a), `"exec":[["systemctl","restart","web-*"],["uptime"]]`) {
		t.Errorf("%s", a)
	}
	if c, err := load(t, map[string]string{"x.yaml": strings.Replace(host, "shell: command", "shell: allow", 1)}); err != nil || c.Tasks["x"].CommandShell {
		t.Error("the host's shell is taken for the gateway's", err)
	}
}

// TestX17Hosts: each fault of a rule for hosts, with its place.
func TestX17Hosts(t *testing.T) {
	for rule, want := range map[string]string{
		`exec: [[systemctl, restart, web-*], "df -h"]`:                `x.yaml:4:42: allow[0].exec[1]: a command is the list of its words: [df, -h]`,
		`exec: [systemctl, restart]`:                                  `x.yaml:4:13: allow[0].exec[0]: a command is the list of its words: [systemctl]`,
		`exec: uptime`:                                                `a list is expected: [uptime]`,
		`exec: []`:                                                    `x.yaml:4:12: allow[0].exec: no command is listed, so the rule can never match`,
		`exec: [[]]`:                                                  `a command has at least one word`,
		`exec:`:                                                       `nothing stands here`,
		`exec: [[kill, -9]]`:                                          `allow[0].exec[0][1]: a text is expected, not a number: quote it`,
		`exec: [[sys*, x]]`:                                           `"sys*": no pattern stands for a program: name each`,
		`exec: [["", x]]`:                                             `begins with the name of its program`,
		`exec: [["systemctl restart"]]`:                               `each word stands by itself: [systemctl, restart]`,
		`exec: [[systemctl, " web"]]`:                                 `" web": a word has no blanks at its ends`,
		`exec: [[cat, "a\tb"]]`:                                       `a character that cannot be seen`,
		`exec: [[cat, "/var/**"]]`:                                    `** says no more`,
		`exec: [[cat, "/srv/../*"]]`:                                  `a pattern never stands for a path with . or .. in it`,
		`exec: [[cat, x, "|", wc]]`:                                   `of a pipeline each program is a command of its own here`,
		`exec: [[cat, x, ">", /tmp/y]]`:                               `what is redirected stands under files`,
		`exec: [[systemctl, ...]]`:                                    `nothing stands for the rest of the words`,
		`exec: [[cat]], stdin: yes`:                                   `"yes": one of allow is expected`,
		`exec: [[cat]], stdin: alow`:                                  `did you mean "allow"?`,
		`files: {raed: [/x]}`:                                         `x.yaml:4:20: allow[0].files.raed: unknown key (did you mean "read"?)`,
		`files: {}`:                                                   `nothing is listed, so the rule can never match`,
		`files: [/x]`:                                                 `a mapping is expected, not a list`,
		`files: {read: []}`:                                           `no path is listed, so it can never match`,
		`files: {read: /x}`:                                           `a list is expected: [/x]`,
		`files: {read: [var/log]}`:                                    `allow[0].files.read[0]: "var/log": an absolute path is expected`,
		`files: {read: ['~/x']}`:                                      `an absolute path is expected`,
		`files: {read: ['/x ']}`:                                      `a path has no blanks at its ends`,
		`files: {read: [/var/log/]}`:                                  `without a slash at the end, so this can never match`,
		`files: {read: [/var//log]}`:                                  `paths are judged without //`,
		`files: {read: [/var/../*]}`:                                  `paths are judged without //`,
		`files: {read: [/var/log**]}`:                                 `** is a part by itself`,
		`files: {read: [/var/***]}`:                                   `** is a part by itself`,
		`files: {read: ["/x\u202e"]}`:                                 `a character that cannot be seen`,
		`files: {read: [/x]}, stdin: allow`:                           `allow[0].stdin: it is for exec and opaque`,
		`files: {persist: [/etc/cron.d/*]}`:                           `no pattern stands for it: name each path`,
		`files: {persist: [/srv/app/x]}`:                              `nothing that is known takes effect by itself there: list it under write`,
		`files: {write: [/home/deploy/.bashrc]}`:                      `only persist lists it, path by path`,
		`files: {write: [/etc/cron.d/*]}`:                             `only persist lists it, path by path`,
		`files: {mkdir: [/home/*/.ssh/**]}`:                           `only persist lists it, path by path`,
		`rsync: {}`:                                                   `nothing is listed, so the rule can never match: rsync: {read: [/srv/app]}`,
		`rsync: [/srv/app]`:                                           `a mapping is expected, not a list`,
		`rsync: {read: []}`:                                           `no directory is listed`,
		`rsync: {list: [/srv/app]}`:                                   `unknown key`,
		`rsync: {read: [srv]}`:                                        `an absolute path is expected`,
		`rsync: {read: [/]}`:                                          `rrsync keeps nothing back in /`,
		`rsync: {read: [/srv/app/]}`:                                  `without a slash at the end`,
		`rsync: {read: [/srv/../etc]}`:                                `paths are judged without //`,
		`rsync: {read: [/srv/*]}`:                                     `no pattern stands for it: name each`,
		`rsync: {read: [/srv/**]}`:                                    `no pattern stands for it: name each`,
		`rsync: {write: [/etc]}`:                                      `takes effect by itself`,
		`rsync: {write: [/home/deploy]}`:                              `takes effect by itself`,
		`rsync: {write: [/home/deploy/.ssh]}`:                         `takes effect by itself`,
		`rsync: {write: [/home/deploy/.config]}`:                      `may take effect by itself: name a directory further down`,
		`rsync: {write: [/var/spool]}`:                                `may take effect by itself: name a directory further down`,
		`rsync: {write: [/srv/app.git]}`:                              `may take effect by itself: name a directory further down`,
		`rsync: {remove: [/srv/app]}`:                                 `list it under write as well`,
		`rsync: {write: [/srv/a], link: [/srv/app]}`:                  `list it under write as well`,
		`rsync: {read: [/srv/app]}, stdin: allow`:                     `it is for exec and opaque`,
		`rsync: {read: [/srv/app]}, exec: [[a]]`:                      `each stands in a rule of its own`,
		`exec: [[rsync, --server, -re., ., /srv/a*]], stdin: allow`:   `no pattern stands for its words`,
		`exec: [[rsync, --serv, "*"]], stdin: allow`:                  `no pattern stands for its words`,
		`exec: [[rsync, --server, -re., ., /srv/a]]`:                  `rsync's server listens to its client: stdin: allow`,
		"rsync: {read: [/srv/a/b], write: [/srv/a], link: [/srv/a]}":  `rsync in /srv/a/b would follow a link in its place or above it, and link /srv/a of the rule at x.yaml:4`,
		"rsync: {write: [/srv/a, /srv/a/b/c], link: [/srv/a]}":        `rsync in /srv/a/b/c would follow a link`,
		"rsync: {read: [/srv/a/b]}}\n  - {files: {link: [/srv/a/*]}":  `and link /srv/a/* of the rule at x.yaml:5 lets one be put there`,
		"rsync: {write: [/srv/a/b]}}\n  - {files: {rename: [/srv/a]}": `and rename /srv/a of the rule at x.yaml:5`,
		"rsync: {read: [/srv/a/b]}}\nreview:\n  - {files: {link: [/srv/**]}, by: {groups: [g]}":              `and link /srv/** of the rule at x.yaml:6`,
		"rsync: {read: [/srv/app]}}\nmask:\n  - {files: [/srv/app/*.ini], lines: x, with: hash":              `rsync in /srv/app could carry what is masked there by x.yaml:6`,
		"rsync: {write: [/srv/app]}}\n  - {exec: [[a]]}\nmask:\n  - {files: [/srv/**], lines: x, with: hash": `rsync in /srv/app could carry what is masked there`,
		`forward: [db-1]`:                        `"db-1": host and port are expected: db-1:5432`,
		`forward: db-1`:                          `a list is expected: [db-1]`,
		`forward: []`:                            `nothing is listed, so the rule can never match`,
		`forward: ["db-1:0"]`:                    `a port from 1 to 65535 is expected`,
		`forward: ["db-1:65536"]`:                `a port from 1 to 65535 is expected`,
		`forward: ["db-1:05432"]`:                `a port from 1 to 65535 is expected`,
		`forward: ["db-1:http"]`:                 `a port from 1 to 65535 is expected`,
		`forward: ["*:22"]`:                      `a host stands for itself alone: list them`,
		`forward: ["db-*:22"]`:                   `a host stands for itself alone: list them`,
		`forward: [":22"]`:                       `the name of a host and a port are expected`,
		`forward: ["DB-1:22"]`:                   `hosts are compared in small letters: db-1:22`,
		`forward: ["::1:22"]`:                    `only an address of IPv6 stands in brackets`,
		`forward: ["[127.0.0.1]:22"]`:            `only an address of IPv6 stands in brackets`,
		`forward: ["[::1:22"]`:                   `a ] is missing`,
		`forward: ["[db-1]:22"]`:                 `an address of IPv6 is expected in brackets`,
		`forward: ["[::ffff:127.0.0.1]:22"]`:     `an address is written plainly, as 127.0.0.1`,
		`forward: ["[0:0::1]:22"]`:               `an address is written plainly, as ::1`,
		`forward: ["0.0.0.0:22"]`:                `nothing can be reached at it`,
		`forward: ["0x7f.1:22"]`:                 `an address is written plainly`,
		`forward: ["127.1:22"]`:                  `an address is written plainly`,
		`forward: ["2130706433:22"]`:             `an address is written plainly`,
		`forward: ["127.0.0.0x1:22"]`:            `an address is written plainly`,
		`forward: ["http://db-1:80"]`:            `the name of a host and a port are expected`,
		`forward: ["db-1.:80"]`:                  `the name of a host and a port are expected`,
		`forward: [/run/../x.sock]`:              `the path of a socket is expected`,
		`forward: [/run/*.sock]`:                 `the path of a socket is expected`,
		`bind: [":80"]`:                          `*:80 is on every address`,
		`bind: ["127.0.0.1:x"]`:                  `a port from 0 to 65535 is expected`,
		`env: [LC-*]`:                            `"LC-*": the name of a variable is expected`,
		`env: ['*']`:                             `the name of a variable is expected`,
		`env: ['A*B']`:                           `the name of a variable is expected`,
		`env: [1A]`:                              `the name of a variable is expected`,
		`env: ['A=B']`:                           `the name of a variable is expected`,
		`env: [LD_*]`:                            `no pattern stands for them: name each`,
		`env: []`:                                `no variable is listed`,
		`signals: [SIGTERM]`:                     `one of ABRT`,
		`signals: [TREM]`:                        `did you mean "TERM"?`,
		`signals: []`:                            `no signal is listed`,
		`agent: true`:                            `a text is expected, not true or false`,
		`x11: deny`:                              `"deny": one of allow is expected`,
		`shell: comand`:                          `did you mean "command"?`,
		`opaque: alow`:                           `did you mean "allow"?`,
		`opaqe: allow`:                           `unknown key (did you mean "opaque"?)`,
		`stdin: allow`:                           `it is for exec and opaque`,
		`exec: [[a]], files: {read: [/x]}`:       `x.yaml:4:26: allow[0].files: beside exec: each stands in a rule of its own`,
		`exec: [[a]], agent: allow, x11: allow`:  `allow[0].x11: beside exec`,
		`exec: [[a]], verbs: [select]`:           `allow[0].verbs: it is for databases, and the rule is for hosts, by its exec`,
		`exec: [[a]], tables: [a.b], where: key`: `allow[0].where: it is for databases`,
		`exec: [[a]], by: {groups: [x]}`:         `by: only a review rule says by whom`,
		`exec: [[a]], summary: x`:                `it is for rules that are held`,
		`exec: [[a]], kube: x`:                   `this version has no clusters yet`,
		"exec: [[a]]}\n  - {shell: allow}\n  - {shell: command":                     `x.yaml:6:5: allow[2]: a task's shell is the host's (allow) or the gateway's own (command), not both`,
		"exec: [[a]]}\n  - {verbs: [delete], tables: [a.b]":                         `x.yaml:5:5: allow[1]: the rule is for databases, and the one at x.yaml:4 for hosts`,
		"exec: [[a]]}\nreview:\n  - {exec: [[b]]":                                   `x.yaml:6:5: review[0]: a review rule says by whom`,
		"exec: [[a]]}\nreview:\n  - {exec: [[b]], on_hold: keep, by: {groups: [x]}": `review[0].on_hold: it is for databases`,
		"exec: [[a]]}\nreview:\n  - {shell: command, by: {groups: [x]}":             `review[0].shell: shell: command stands under allow`,
		"exec: [[a]]}\nlimits: {rows: 3":                                            `limits.rows: it is for databases, and the rules are for hosts`,
		"exec: [[a]]}\nlimits: {statement_timeout: 3s":                              `limits.statement_timeout: it is for databases`,
	} {
		_, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [web-1]\nallow:\n  - {" + rule + "}\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", rule, err, want)
		}
	}
	for line, want := range map[string]string{
		"introspect: false":                        "x.yaml:3:13: introspect: it is for databases, and the rules are for hosts",
		"show_errors: false":                       "show_errors: it is for databases",
		"settings: [x]":                            "settings: it is for databases",
		"oracle: accept":                           "oracle: it is for databases",
		"mask: [{column: public.c.a, with: hash}]": "mask[0].column: it is for databases",
		"exec: [[uptime]]":                         "x.yaml:3:7: exec: it stands in a rule: allow: [{exec: ...}]",
	} {
		_, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [web-1]\n" + line + "\nallow:\n  - {exec: [[uptime]]}\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

// TestSC23Against: a rule for hosts is for hosts, and a forward leads to no
// resource of the gateway.
func TestSC23Against(t *testing.T) {
	const exec = "allow:\n  - {exec: [[uptime]]}\n"
	c, err := load(t, map[string]string{
		"a.yaml": "task: a\nresources: [web-1, shop]\n" + exec,
		"b.yaml": "task: b\nresources: [shop, web-1]\nallow:\n  - {verbs: [delete], tables: [public.o]}\n",
		"c.yaml": "task: c\nresources: [web-1]\nallow:\n  - {exec: [[uptime]]}\n  - {forward: ['db-1:5432', 'db-2:5432']}\n",
		"d.yaml": "task: d\nresources: [web-1, wbe-2, web-2]\n" + exec,
		"e.yaml": "task: e\nresources: [web-2]\nlogin: root\n" + exec,
		"f.yaml": "task: f\nresources: [web-1, web-2]\nallow:\n  - {rsync: {read: [/srv/app]}}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Against(map[string]Resource{"shop": {Protocol: "postgres", Address: "db-1:5432", Logins: []string{"app"}},
		"web-1": {Protocol: "ssh", Address: "web-1:22", Logins: []string{"deploy"}, Posix: true}, "web-2": {Protocol: "ssh", Address: "web-2:22", Logins: []string{"deploy"}}}).Err()
	got := ""
	for line := range strings.Lines(err.Error()) {
		got += filepath.Base(line)
	}
	if got != `a.yaml:2:20: resources[1]: the rules are for a host, and the resource "shop" is a database
b.yaml:2:19: resources[1]: the rules are for a database, and the resource "web-1" is a host
c.yaml:5:5: allow[1]: forward: db-1:5432 is the resource "shop" of this gateway, and is reached as that, by a task that lists it
d.yaml:2:20: resources[1]: the resource "wbe-2" is not in the configuration (did you mean "web-2"?)
e.yaml:3:8: login: the resource "web-2" has no login "root" (known are deploy)
f.yaml:4:5: allow[0]: rsync in a directory needs quotes, and how the shell of the resource "web-2" reads them is not known: say shell: posix there, if it is so` {
		t.Error(got)
	}
}

// TestHostOverlaps: a rule for hosts that adds nothing is told of.
func TestHostOverlaps(t *testing.T) {
	for rules, want := range map[string]string{
		"  - {exec: [[cat, a*], [df]]}\n  - {exec: [[cat, ab]]}\n":                                          "x.yaml:5:5: allow[1]: the rule adds nothing: x.yaml:4 allows all of it",
		"  - {exec: [[cat, a*]]}\n  - {exec: [[cat, ab]], stdin: allow}\n":                                  "",
		"  - {exec: [[cat, a*]], stdin: allow}\n  - {exec: [[cat, a*]]}\n":                                  "x.yaml:5:5",
		"  - {exec: [[cat, a*]]}\n  - {exec: [[cat, b]]}\n":                                                 "",
		"  - {exec: [[cat, a*]]}\n  - {exec: [[cat, a*c]]}\n":                                               "",
		"  - {files: {read: [/a/**]}}\n  - {files: {read: [/a/b]}}\n":                                       "x.yaml:5:5",
		"  - {files: {read: [/a/**]}}\n  - {files: {write: [/a/b]}}\n":                                      "",
		"  - {files: {read: [/a/**]}}\n  - {files: {read: [/a/b], write: [/a/b]}}\n":                        "",
		"  - {rsync: {write: [/a/app]}}\nreview:\n  - {rsync: {write: [/a/app/live]}, by: {groups: [g]}}\n": "x.yaml:6:5: review[0]: the rule holds nothing: x.yaml:4 allows all of it without approval",
		"  - {rsync: {write: [/a/app]}}\nreview:\n  - {rsync: {write: [/a/apple]}, by: {groups: [g]}}\n":    "",
		"  - {rsync: {read: [/a, /b]}}\n  - {rsync: {read: [/a]}}\n":                                        "x.yaml:5:5",
		"  - {rsync: {read: [/a]}}\n  - {rsync: {write: [/a]}}\n":                                           "",
		"  - {rsync: {write: [/a]}}\n  - {rsync: {write: [/a], remove: [/a]}}\n":                            "x.yaml:4:5",
		"  - {rsync: {read: [/a]}}\n  - {files: {read: [/a]}}\n":                                            "",
		"  - {forward: ['a:1', 'b:1']}\n  - {forward: ['a:1']}\n":                                           "x.yaml:5:5",
		"  - {forward: ['127.0.0.1:1']}\n  - {bind: ['127.0.0.1:1']}\n":                                     "",
		"  - {env: [LANG, TZ]}\n  - {env: [TZ]}\n":                                                          "x.yaml:5:5",
		"  - {signals: [INT]}\n  - {signals: [INT, TERM]}\n":                                                "x.yaml:4:5",
		"  - {agent: allow}\n  - {x11: allow}\n":                                                            "",
		"  - {agent: allow}\n  - {agent: allow}\n":                                                          "x.yaml:5:5",
		"  - {exec: [[df]]}\nreview:\n  - {exec: [[df]], by: {groups: [g]}}\n":                              "x.yaml:6:5: review[0]: the rule holds nothing: x.yaml:4 allows all of it without approval",
		"  - {exec: [[df, a]]}\nreview:\n  - {exec: [[df, '*']], by: {groups: [g]}}\n":                      "",
		"  - {files: {write: [/a/b]}}\nreview:\n  - {files: {write: [/a/**]}, by: {groups: [g]}}\n":         "",
		"  - {exec: [[df]]}\nreview:\n  - {opaque: allow, by: {groups: [g]}}\n":                             "",
	} {
		c, err := load(t, map[string]string{"x.yaml": "task: x\nresources: [r]\nallow:\n" + rules})
		if err != nil {
			t.Fatal(rules, err)
		}
		if got := c.Warnings.Error(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", rules, got, want)
		}
	}
}

// TestTasksGuide: each task that docs/tasks.md and docs/ssh.md show is one, and the former names every
// field of a rule for hosts and everything that may be done with a file.
func TestTasksGuide(t *testing.T) {
	b, err := os.ReadFile("../../docs/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := os.ReadFile("../../docs/ssh.md")
	if err != nil {
		t.Fatal(err)
	}
	guide, found := string(b), 0
	for rest := guide + string(hosts); ; found++ {
		_, after, ok := strings.Cut(rest, "```yaml\n")
		if !ok {
			break
		}
		text, after, _ := strings.Cut(after, "```")
		rest = after
		if !strings.HasPrefix(text, "task: ") {
			continue // of the gateway
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "task: "), "\n")
		c, err := load(t, map[string]string{name + ".yaml": text})
		if err == nil {
			err = c.Warnings.Err()
		}
		if err == nil {
			err = stricttest.Validate(t, stricttest.Schema(t, Schema), text)
		}
		if err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	for _, word := range slices.Concat(hostFields, policy.FileVerbs, policy.RsyncVerbs, []string{"stdin"}) {
		if !strings.Contains(guide, "`"+word) {
			t.Errorf("the guide does not name %s", word)
		}
	}
	if found == 0 {
		t.Error("the guide shows no task")
	}
}

// TestSC22RsyncTasks: what a task file lists of rsync is what the reader of words
// makes and the guard lets through: by directory and by words, and nothing else.
func TestSC22RsyncTasks(t *testing.T) {
	c, err := load(t, map[string]string{"web.yaml": `task: web
resources: [web-1]
allow:
  - {rsync: {read: [/srv/app], write: [/srv/in]}}
  - {exec: [[rsync, --server, --sender, -re., ".", /srv/nightly/]], stdin: allow}
  - {exec: [[rsync, -a, /srv/a, "/srv/b*"], [env, "*", rrsync, -ro, /srv/x]]}
review:
  - {rsync: {write: [/srv/in], remove: [/srv/in]}, by: {groups: [sre]}, payload: unseen}
  - {rsync: {write: [/srv/in], link: [/srv/in]}, by: {groups: [sre]}, payload: unseen}
  - {exec: [[rsync, --server, --sender, -re., ".", /srv/held/]], stdin: allow, by: {groups: [sre]}}
`})
	if err != nil {
		t.Fatal(err)
	}
	config := compiled(t, c)
	judge := func(st *abi.Statement) (v abi.Verdict) {
		config.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "web", Protocol: "ssh"}, Statement: st}, &v)
		return v
	}
	options := shell.Options{Posix: true, Rsync: c.Tasks["web"].Rsync()}
	for text, want := range map[string]abi.Decision{
		"rsync --server --sender -re. . /srv/app/":         abi.Allow,
		"rsync --server --sender -lre. . /srv/app/x":       abi.Allow,
		"rsync --server -re. . /srv/in":                    abi.Allow,
		"rsync --server --sender -re. . /srv/nightly/":     abi.Allow,
		"rsync --server -re. --delete . /srv/in":           abi.Review,
		"rsync --server -rle. . /srv/in/x":                 abi.Review,
		"rsync --server --sender -re. . /srv/held/":        abi.Review,
		"rsync --server -rle. --delete . /srv/in":          abi.Deny, // no rule has both
		"rsync --server -re. . /srv/app":                   abi.Deny,
		"rsync --server --sender -re. . /srv/in/":          abi.Deny,
		"rsync --server --sender -re. . /srv/nightly":      abi.Deny,
		"sudo rsync --server --sender -re. . /srv/nightly": abi.Deny,
	} {
		if v := judge(shell.Parse(text, options)); v.Decision != want || v.Stdin != (want != abi.Deny) {
			t.Errorf("%s: %s %t %s", text, v.Decision, v.Stdin, v.Reason.Message)
		}
	}
	if v := judge(shell.Parse("rsync -a /srv/a /srv/b1", options)); v.Decision != abi.Allow || v.Stdin {
		t.Errorf("no server: %+v", v)
	}
	// The guard does not rely on who has read the words.
	told := "SSH_ORIGINAL_COMMAND=rsync --server -re. . x"
	for _, argv := range [][]string{
		{"env", told, "rrsync", "-wo", "-absolute", "/srv/in"}, {"env", told, "rrsync", "-wo", "-absolute", "-munge", "/srv/in"}, {"env", told, "rrsync", "-wo", "-absolute", "-no-del", "-munge", "/srv"}, {"env", told, "rrsync", "-wo", "-no-del", "-munge", "/srv/in"}, {"env", told, "rrsync", "-ro", "-absolute", "/srv/app/x"}, {"env", told, "rrsync", "/srv/in"},
		{"env", told, "rrsync", "-no-del", "-munge", "/srv/in"}, {"env", told, "rrsync", "-ro", "-wo", "/srv/app"}, {"env", told, "rrsync", "-ro", "/srv/app/x"}, {"env", told, "rrsync", "-ro", "/srv/x"}, {"env", told, "rrsync"}, {"env", told, "rrsync", "-ro"},
		{"env", "SSH_ORIGINAL_COMMAND=id", "rrsync", "-ro", "/srv/app"}, {"rsync", "--server", "--sender", "-re.", ".", "/srv/b1"}, {"rsync", "--server"},
	} {
		v := judge(&abi.Statement{Protocol: "ssh", Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: argv}}})
		if v.Decision == abi.Allow {
			t.Errorf("%q is allowed", argv)
		}
	}
}

// TestSC22RsyncMasked: rsync carries nothing out of where something is masked, and
// its server by its words, which may be asked for any path, runs beside no such mask.
func TestSC22RsyncMasked(t *testing.T) {
	c, err := load(t, map[string]string{"web.yaml": `task: web
resources: [web-1]
allow:
  - {rsync: {read: [/srv/app/public]}}
  - {exec: [[rsync, --server, --sender, -re., ".", app/], [rsync, --server, --sender, -re., ".", /srv/other/]], stdin: allow}
  - {files: {read: [/srv/app/*]}}
mask:
  - {files: [/srv/app/*.ini], lines: x, with: hash}
`})
	if err != nil {
		t.Fatal(err)
	}
	task := c.Tasks["web"].compiled()
	options := shell.Options{Posix: true, Rsync: c.Tasks["web"].Rsync()}
	// The directory above, which the file could not list: the guard refuses it by itself.
	options.Rsync.Dirs = append(options.Rsync.Dirs, map[string][]string{"read": {"/srv/app"}, "write": {"/srv/app"}})
	task.Rules = append(task.Rules, policy.Rule{At: "web.yaml:9", Host: &policy.Host{Rsync: options.Rsync.Dirs[1]}})
	config := policy.Config{Tasks: map[string]*policy.Task{"web": task}}
	for text, want := range map[string]string{
		"rsync --server --sender -re. . /srv/app/public/": "",
		"rsync --server --sender -re. . /srv/app/":        "rsync in /srv/app could carry what is masked",
		"rsync --server --sender -re. . /srv/app/x":       "rsync in /srv/app could carry what is masked",
		"rsync --server -re. . /srv/app":                  "rsync in /srv/app could carry what is masked",
		"rsync --server --sender -re. . app/":             "rsync's server reads which files it is for out of its stream",
		"rsync --server --sender -re. . /srv/other/":      "rsync's server reads which files it is for out of its stream",
	} {
		var v abi.Verdict
		config.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "web", Protocol: "ssh"}, Statement: shell.Parse(text, options)}, &v)
		if allowed := v.Decision == abi.Allow; allowed != (want == "") || !strings.Contains(v.Reason.Message, want) {
			t.Errorf("%s: %s %s", text, v.Decision, v.Reason.Message)
		}
	}
}

// TestSC07Texts: texts that get round rules for words elsewhere, read as a
// host's shell would and judged by a task file.
func TestSC07Texts(t *testing.T) {
	c, err := load(t, map[string]string{"web.yaml": `task: web
resources: [web-1]
allow:
  - {exec: [[systemctl, restart, web-*], [uptime], [uniq, -c], [cat], [cat, "*"], [cat, /var/log/web/*], [sudo, systemctl, restart, nginx], [systemctl, restart, nginx]]}
  - {exec: [[sort]], stdin: allow}
  - {files: {write: [/tmp/out, /srv/**], read: [/var/log/web/**]}}
  - {env: [LANG]}
review:
  - {exec: [[systemctl, stop, web-*]], by: {groups: [sre]}}
`})
	if err != nil {
		t.Fatal(err)
	}
	config := compiled(t, c)
	for want, texts := range map[string][]string{
		"allow": {
			`systemctl restart web-1`, `  "systemctl"  restart w'eb'-1 `, `uptime | uniq -c`, `uptime > /tmp/out`, `LANG=C uptime`, `cat notes`, `cat 'web-*'`, `cat < /var/log/web/a`,
			`cat /var/log/web/access.log | sort | uniq -c > /srv/count`, `sh -c 'uptime'`, `sudo systemctl restart nginx`, `uptime 2>/dev/null`, `uptime # id`,
		},
		"allow with its standard input": {`sort`, `sort | uniq -c > /tmp/out`},
		"review":                        {`systemctl stop web-1`, `systemctl stop web-1 | sort`},
		"deny": {
			`systemctl restart db-1`, `systemctl restart`, `systemctl restart web-1 db-1`, `systemctl restart web-1; id`, `systemctl restart web-1 && id`, `systemctl restart web-1 || id`,
			`systemctl restart web-1 & id`, `systemctl restart web-1 | id`, "systemctl restart web-1\nid", `systemctl restart web-$(id)`, "systemctl restart web-`id`", `systemctl restart web-$HOME`,
			`systemctl restart web-${IFS}x`, `systemctl restart web-*`, `systemctl restart web-?`, `systemctl restart web-{1,2}`, `systemctl restart ~/web-1`, `systemctl restart "web-1 db-1"`,
			`systemctl restart 'web-1	db-1'`, `systemctl restart web-1/../db-1`, `systemctl --host=db-1 restart web-1`, `systemctl restart --host=db-1 web-1`, `/usr/bin/systemctl restart web-1`,
			`./systemctl restart web-1`, `\systemctl restart web-1 x`, `command systemctl restart web-1`, `eval systemctl restart web-1`, `exec uptime`, `. /tmp/x`, `source /tmp/x`,
			`PATH=/tmp uptime`, `LD_PRELOAD=/tmp/x uptime`, `LC_ALL=C uptime`, `env LANG=C uptime`, `env -S uptime`, `X=1`, `cat -x`, `cat --`, `cat ..`, `cat .`, `cat .env`, `cat ''`, `cat a/b`, `cat /etc/shadow`,
			`cat /var/log/web/../../../etc/shadow`, `cat /var/log/web/.x`, `sudo uptime`, `sudo -u root uptime`, `sudo systemctl restart web-1`, `timeout 5 uptime`, `nice uptime`, `xargs uptime`, `busybox uptime`, `find / -exec uptime ;`,
			`sh -c 'id'`, `sh -c "uptime; id"`, `sh -c 'sh -c id'`, `bash`, `sh`, `bash -i`, `bash --rcfile /tmp/x`, `echo aWQ= | base64 -d | sh`, `vim -c :!id`, `ssh db-1 id`, `scp -S /tmp/x a b`, `rsync -e /tmp/x a b`,
			`tar --checkpoint-action=exec=id`, `git -c core.pager=id log`, `rsync --server --sender . /srv`, `scp -t /srv`, `scp -f /etc/shadow`, `git-upload-pack /srv/x.git`, `git-shell`, `internal-sftp`, `/usr/lib/openssh/sftp-server`,
			`uptime > /tmp/other`, `uptime >> /etc/passwd`, `uptime > /etc/cron.d/x`, `uptime > /srv/.ssh/authorized_keys`, `uptime > /srv/../etc/x`, `uptime > out`, `uptime > ~/.bashrc`, `uptime > $HOME/x`, `sort < /etc/shadow`,
			`cat < /var/log/web/../x`, `cat <<< x`, "cat << E\nx\nE", `cat <(id)`, `uptime 2>&1 >(id)`, `if true; then uptime; fi`, `for i in 1; do uptime; done`, `f() { uptime; }`, `(uptime)`, `{ uptime; }`, `! uptime`, ``, `#`, "uptime\x00",
		},
	} {
		for _, text := range texts {
			var v abi.Verdict
			config.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "web", Protocol: "ssh"}, Statement: shell.Parse(text, shell.Options{Posix: true})}, &v)
			got := v.Decision.String()
			if v.Stdin {
				got += " with its standard input"
			}
			if got != want {
				t.Errorf("%q: %s, want %s: %s", text, got, want, v.Reason.Message)
			}
		}
	}
}
