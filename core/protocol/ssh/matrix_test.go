package ssh

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// matrix is what stock clients are asked to do, as scripts: $SSH is ssh as it
// gets to the host, $DEST the host, $HOST a directory there, $PWD one here.
var matrix = []struct{ name, script string }{
	{"both outputs and a status", `"$SSH" "$DEST" 'echo out; echo err >&2; exit 3'`},
	{"a status of 255", `"$SSH" "$DEST" 'exit 255'`},
	{"words that need quotes", `"$SSH" "$DEST" "printf '%s|' 'a b' \"it's\" '\$HOME' '*' ''"`},
	{"what is not there", `"$SSH" "$DEST" no-such-program-here 2>&1 | sed 's/.*no-such/no-such/'; "$SSH" "$DEST" no-such-program-here 2>/dev/null`},
	{"a signal", `"$SSH" "$DEST" 'kill -KILL $$' 2>/dev/null`},
	{"much input", `"$SSH" "$DEST" "cat > '$HOST/in'" <big`},
	{"much output", `"$SSH" "$DEST" "cat '$HOST/big'" | sha256sum`},
	{"both at once", `"$SSH" "$DEST" 'tee /dev/stderr' <big 2>err | sha256sum; sha256sum <err`},
	{"who reads only the beginning", `"$SSH" "$DEST" "cat '$HOST/big'" | head -c 1000 | sha256sum`},
	{"a program that does not read", `"$SSH" "$DEST" 'exec 0<&-; echo done' <big`},
	{"no input", `"$SSH" -n "$DEST" 'cat; echo end'`},
	{"a terminal", `"$SSH" -tt "$DEST" 'test -t 0 && test -t 1 && echo yes; exit 7' </dev/null 2>/dev/null`},
	{"a script on the standard input", `echo 'echo $0; exit 4' | "$SSH" "$DEST" sh -s`},
	{"a shell without a terminal", `echo 'echo hi; exit 5' | "$SSH" -T "$DEST" 2>/dev/null | grep -c hi`},
	{"variables", `"$SSH" -o SetEnv=LC_TASKGATE=x "$DEST" 'echo "<$LC_TASKGATE>"'`},
	{"one connection for many", `"$SSH" -o ControlMaster=yes -o ControlPath=cm -o ControlPersist=60 "$DEST" true
for i in 1 2 3 4 5 6; do "$SSH" -o ControlPath=cm "$DEST" "sleep 0.1; echo $i >'$HOST/cm-$i'; exit $i"; echo $?; done
"$SSH" -o ControlPath=cm "$DEST" 'sleep 0.2; echo slow' >slow & "$SSH" -o ControlPath=cm "$DEST" 'echo fast' >fast; wait; cat fast slow
"$SSH" -o ControlPath=cm -O exit "$DEST" 2>/dev/null
while [ -S cm ]; do sleep 0.05; done # the master takes it away as it ends`},
	{"sftp", `cat >batch <<END
cd $HOST
mkdir d
put big d/big
put -p tree/a d/a
-mkdir d
rename d/a d/b
chmod 600 d/b
ln -s b d/l
get d/l got
get -p big big2
-get none
-rm none
reput big d/big
ls -1 d
df
rm d/l
rmdir tree/empty
END
sed -i /^df/d batch
sftp -q -S "$SSH" -b batch "$DEST" 2>&1 | grep -v '^sftp>' ; rm batch`},
	{"scp up", `scp -q -S "$SSH" -rp tree big "$DEST:$HOST/"`},
	{"scp down", `scp -q -S "$SSH" -rp "$DEST:$HOST/tree" "$DEST:$HOST/big" .`},
	{"scp of nothing", `scp -q -S "$SSH" "$DEST:$HOST/none" . 2>/dev/null`},
	{"scp of old, up", `scp -O -q -S "$SSH" -rp tree "$DEST:$HOST/old"`},
	{"scp of old, down", `scp -O -q -S "$SSH" -rp "$DEST:$HOST/tree" old`},
	{"rsync up", `rsync -a --delete -e "$SSH" tree/ "$DEST:$HOST/r"`},
	{"rsync down", `rsync -a -e "$SSH" "$DEST:$HOST/tree/" r; rsync -a -e "$SSH" "$DEST:$HOST/tree/" r`},
	{"git", `export GIT_SSH="$SSH" GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_DATE=@0+0000 GIT_COMMITTER_DATE=@0+0000
"$SSH" "$DEST" "git init -q --bare '$HOST/repo.git'" 2>/dev/null
git clone -q "$DEST:$HOST/repo.git" clone 2>/dev/null && cd clone && echo x >f && git add f && git -c user.name=a -c user.email=a@b commit -qm one && git push -q origin HEAD:main
cd .. && git clone -q -b main "$DEST:$HOST/repo.git" again && cat again/f; rm -rf clone again; "$SSH" "$DEST" "rm -rf '$HOST/repo.git'"`},
	{"Ansible", ansible("ANSIBLE_PIPELINING=0 ANSIBLE_SSH_TRANSFER_METHOD=sftp")},
	{"Ansible, pipelined, by scp", ansible("ANSIBLE_PIPELINING=1 ANSIBLE_SSH_TRANSFER_METHOD=scp")},
}

// ansible is a playbook that pings, copies and runs.
func ansible(settings string) string {
	return `cat >play.yaml <<END
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - copy: {src: big, dest: $HOST/copied, mode: "0640"}
    - command: {argv: [sh, -c, "wc -c <$HOST/copied; echo 'it''s'"]}
      register: ran
    - debug: {var: ran.stdout_lines}
    - command: {argv: [sh, -c, "exit 3"]}
      register: bad
      failed_when: false
    - debug: {var: bad.rc}
END
printf '#!/bin/sh\nexec scp -S "$SSH" "$@"\n' >scp; printf '#!/bin/sh\nexec sftp -S "$SSH" "$@"\n' >sftp; chmod +x scp sftp; : >ansible.cfg
export ANSIBLE_HOME=$PWD/.ansible ANSIBLE_REMOTE_TEMP=$HOST/.tmp ANSIBLE_SSH_CONTROL_PATH_DIR=$PWD/cm ANSIBLE_NOCOLOR=1 ANSIBLE_CONFIG=$PWD/ansible.cfg ` + settings + `
ansible-playbook -i host, -e ansible_host="${DEST#*@}" -e ansible_user="${DEST%@*}" -e ansible_ssh_executable="$SSH" -e ansible_scp_executable="$PWD/scp" -e ansible_sftp_executable="$PWD/sftp" -e ansible_python_interpreter=/usr/bin/python3 play.yaml
status=$?
for c in cm/*; do "$SSH" -o ControlPath="$c" -O exit "$DEST" 2>/dev/null; done
rm -rf .ansible ansible.cfg cm scp sftp play.yaml
exit $status`
}

// side is a way to the host.
type side struct {
	name, dest string
	ssh        string // a program that is ssh
	env        []string
}

// lay puts what the scripts work with into a directory.
func lay(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"tree/sub dir", "tree/empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	long := bytes.Repeat([]byte("all that passes, passes as it is\x00\r\n\xff"), 60000)
	old := time.Unix(1700000000, 0)
	for name, b := range map[string][]byte{"big": long, "tree/a": []byte("a\n"), "tree/sub dir/ü b": []byte("b"), "tree/sub dir/none": nil} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "tree/link")); err != nil {
		t.Fatal(err)
	}
}

// run runs a script, and says all that came of it.
func (s *side) run(t *testing.T, script string) string {
	t.Helper()
	here, there := t.TempDir(), t.TempDir()
	lay(t, here)
	lay(t, there)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = here
	cmd.Env = append(s.env, "SSH="+s.ssh, "DEST="+s.dest, "HOST="+there)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	_ = cmd.Run()
	said := fmt.Sprintf("exit %d\nout %q\nerr %q\nhere\n%sthere\n%s", cmd.ProcessState.ExitCode(), out.String(), errs.String(), sshtest.Tree(t, here), sshtest.Tree(t, there))
	for from, to := range map[string]string{here: "HERE", there: "HOST", s.dest: "DEST"} {
		said = strings.ReplaceAll(said, from, to)
	}
	return said
}

// wrap makes a program that is ssh with options.
func wrap(t *testing.T, options []string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ssh")
	script := "#!/bin/sh\nexec ssh"
	for _, o := range options {
		script += " '" + o + "'"
	}
	if err := os.WriteFile(file, []byte(script+" \"$@\"\n"), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	return file
}

// TestMatrix: what stock clients do through the gateway comes out as it does
// without it: what they print, how they end, and what is in the files on both
// sides.
func TestMatrix(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		for i := range c.Statement.Operations {
			if c.Statement.Operations[i].Kind == abi.KindFile && c.Statement.Operations[i].Verb == "" {
				return nil
			}
		}
		return all(c)
	})
	host, port, _ := strings.Cut(g.host.Address, ":")
	direct := &side{"direct", g.host.User + "@" + host, wrap(t, []string{"-F", "none", "-p", port, "-i", g.host.ClientKeyFile, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + g.host.KnownHosts, "-o", "StrictHostKeyChecking=yes"}), os.Environ()}
	through := &side{"through", who, wrap(t, append(g.options(), "-o", "BatchMode=no", "-o", "PasswordAuthentication=yes")), g.env()} // sftp -b and Ansible would leave the password out
	for _, m := range matrix {
		if only := os.Getenv("TASKGATE_TEST_MATRIX"); only != "" && only != m.name {
			continue
		}
		want, got := direct.run(t, m.script), through.run(t, m.script)
		if strings.HasPrefix(m.name, "Ansible") && !strings.Contains(want, "ok=6    changed=3    unreachable=0    failed=0") {
			t.Errorf("%s does not do what it should: %s", m.name, want)
		}
		if want != got {
			t.Errorf("%s:\n--- direct\n%s\n--- through the gateway\n%s", m.name, want, got)
		}
	}
}
