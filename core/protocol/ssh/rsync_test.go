package ssh

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/sshtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// tasked starts a gateway that judges by a task file, in which $HOST is a directory
// of the host.
func tasked(t *testing.T, task string, before ...func(*gateway)) (g *gateway, there string) {
	t.Helper()
	there = t.TempDir()
	for _, d := range []string{"app/sub dir", "in", "log", "out", "conf"} {
		if err := os.MkdirAll(filepath.Join(there, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"app/a": "a\n", "app/sub dir/ü b": "b\n", "log/l": "l\n", "out/secret": "geheim\n", "conf/app.ini": "password=geheim\n", "conf/more": "more\n"} {
		if err := os.WriteFile(filepath.Join(there, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var rules policy.Config
	g = serve(t, func(cmd *abi.Command) *abi.Verdict {
		var v abi.Verdict
		rules.Judge(cmd, &v)
		return &v
	}, before...)
	gen := g.generation()
	rules, gen.Tasks["x"].Options = listed(t, strings.ReplaceAll(task, "$HOST", there))
	g.Swap(gen)
	return g, there
}

// listed is a task for web-1 as the guard and the listener have it.
func listed(t *testing.T, task string) (rules policy.Config, _ *TaskOptions) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte("task: x\nresources: [web-1]\n"+task), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	return rules, &TaskOptions{Rsync: c.Tasks["x"].Rsync()}
}

// rsync is a script in which rsync goes through the gateway, $DEST is the host and
// $HOST the directory there. It is done in $PWD.
func (g *gateway) rsync(t *testing.T, there, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = t.TempDir()
	lay(t, cmd.Dir)
	cmd.Env = append(g.env(), "RSYNC_RSH="+wrap(t, g.options()), "DEST="+who, "HOST="+there)
	return cmd
}

// ends runs it to its end.
func ends(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%s does not end:\n%s", cmd.Args[2], out.String())
	}
	return out.String()
}

const confined = `allow:
  - {rsync: {read: [$HOST/app, $HOST/log], write: [$HOST/app, $HOST/in], remove: [$HOST/app], link: [$HOST/app]}}
`

// TestSC22Rsync: rsync copies into and out of the directories that a task lists,
// under rrsync, and nothing else.
func TestSC22Rsync(t *testing.T) {
	g, there := tasked(t, confined)
	cmd := g.rsync(t, there, `rsync -a --delete tree/ "$DEST:$HOST/app/" && rsync -az "$DEST:$HOST/app/" back && rsync -ai --no-links --partial --stats tree/a "tree/sub dir" "$DEST:$HOST/in/n w/" && rsync -rt "$DEST:$HOST/log" itself`)
	said := ends(t, cmd)
	tree := sshtest.Tree(t, cmd.Dir+"/tree")
	if got := sshtest.Tree(t, there+"/app"); got != tree {
		t.Errorf("up: %s\n%s\nnot\n%s", said, got, tree)
	}
	if got := sshtest.Tree(t, cmd.Dir+"/back"); got != tree {
		t.Errorf("down: %s\n%s\nnot\n%s", said, got, tree)
	}
	for _, name := range []string{"a", "sub dir/ü b"} {
		want, err1 := os.ReadFile(filepath.Join(cmd.Dir, "tree", name))
		if got, err := os.ReadFile(filepath.Join(there, "in/n w", name)); err != nil || err1 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q %v %s", name, got, err, said)
		}
	}
	if !strings.Contains(said, "rrsync shows what is in") || !strings.Contains(said, "write a slash behind it") {
		t.Errorf("a directory itself: %s", said)
	}
	g.log.wait(t, "how a copy ended", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Tag == "exit 0" && e.Bytes > 0 })
	ran := g.log.wait(t, "what has run", func(e *gate.Event) bool {
		return e.Kind == gate.EventText && strings.Contains(strings.Join(e.Operations, " "), "rrsync -wo -absolute -no-del -munge "+there+"/in")
	})
	if ran.Digest == "" || !strings.HasPrefix(ran.Text, "rsync --server ") {
		t.Errorf("%+v", ran)
	}

	before := sshtest.Tree(t, there)
	for script, want := range map[string]string{
		`rsync -a "$DEST:$HOST/out/" got`:                                         "lists no directory in which rsync may read",
		`rsync -a "$DEST:$HOST/log/../out/" got`:                                  "has a part that is empty, . or ..",
		`rsync -a "$DEST:$HOST/log/l" "$DEST:$HOST/out/secret" got`:               "lists no directory in which rsync may read",
		`rsync -rt tree/ "$DEST:$HOST/log/"`:                                      "lists no directory in which rsync may write",
		`rsync -a tree/ "$DEST:$HOST/in/"`:                                        "add --no-links",
		`rsync -rt --delete tree/ "$DEST:$HOST/in/"`:                              "leave out --delete",
		`rsync -a --rsync-path=/bin/rsync "$DEST:$HOST/log/" got`:                 "rsync's server hides which files are meant",
		`rsync -a --rsync-path="rsync --log-file=$HOST/x" "$DEST:$HOST/log/" got`: "does not begin with --server",
		`rsync -a --rsync-path="touch $HOST/x; rsync" "$DEST:$HOST/log/" got`:     "not understood",
		`rsync -a -M--log-file=$HOST/x "$DEST:$HOST/log/" got`:                    "--log-file",
		`rsync -a -M-eid "$DEST:$HOST/log/" got`:                                  "none that rsync sends",
		`rsync -r --no-R --files-from=:/etc/passwd "$DEST:$HOST/log/" got`:        "--files-from",
		`rsync -rt --link-dest=$HOST/out tree/ "$DEST:$HOST/in/"`:                 "--link-dest",
	} {
		cmd := g.rsync(t, there, script)
		said := ends(t, cmd)
		if !strings.Contains(said, "taskgate: denied: ") || !strings.Contains(said, want) || cmd.ProcessState.Success() {
			t.Errorf("%s: %s", script, said)
		}
		if _, err := os.Stat(cmd.Dir + "/got"); err == nil {
			t.Errorf("%s: something came", script)
		}
	}
	if after := sshtest.Tree(t, there); after != before {
		t.Errorf("the host has changed:\n%s\nbefore\n%s", after, before)
	}
}

// TestSC22RsyncLinks: links that lead out of a directory are kept back by Debian's
// rrsync and rsync: they are shown as links, and neither read nor written through.
func TestSC22RsyncLinks(t *testing.T) {
	g, there := tasked(t, confined)
	for name, to := range map[string]string{"log/out": "../out", "log/secret": "../out/secret", "app/out": "../out", "app/new": "../out/secret"} {
		if err := os.Symlink(to, filepath.Join(there, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := g.rsync(t, there, `mkdir -p up/out; echo new >up/out/x; echo new >up/new
rsync -a "$DEST:$HOST/log/" got; ls -l got
for path in log/out/ log/secret; do rsync -a "$DEST:$HOST/$path" none; done
for path in app/out/x app/new; do rsync -rt --inplace up/new "$DEST:$HOST/$path"; done
rsync -rt --filter=": $HOST/out/secret" "$DEST:$HOST/log/" got2
rsync -rt --inplace --append up/ "$DEST:$HOST/app/"`)
	said := ends(t, cmd)
	if !strings.Contains(said, "secret -> ../out/secret") || strings.Count(said, "rrsync error: unsafe arg") != 4 {
		t.Error(said)
	}
	if strings.Contains(said, "geheim") {
		t.Errorf("it was told: %s", said)
	}
	if _, err := os.Stat(cmd.Dir + "/none"); err == nil {
		t.Error("something came by a link")
	}
	if got := sshtest.Tree(t, there+"/out"); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"secret" -rw-r----- 7 `) {
		t.Errorf("it wrote through a link: %s", got)
	}
	if i, err := os.Lstat(there + "/app/out"); err != nil || !i.IsDir() {
		t.Errorf("a directory does not take the place of a link: %v %v", i, err)
	}
}

// TestSC18RsyncWordsRun: the words of a refusal, listed, let that copy through and
// none beside it.
func TestSC18RsyncWordsRun(t *testing.T) {
	g, there := tasked(t, "allow: [{exec: [[uptime]]}]\n")
	script := `rsync -a "$DEST:$HOST/log/" got`
	said := ends(t, g.rsync(t, there, script))
	_, rule, ok := strings.Cut(said, "or its very words, ")
	rule, _, _ = strings.Cut(rule, "\n")
	if !ok {
		t.Fatal(said)
	}
	g, _ = tasked(t, "allow:\n  - "+rule+"\n")
	cmd := g.rsync(t, there, script)
	said = ends(t, cmd)
	if b, err := os.ReadFile(cmd.Dir + "/got/l"); err != nil || string(b) != "l\n" {
		t.Errorf("%s\n%s", rule, said)
	}
	for _, script := range []string{`rsync -aH "$DEST:$HOST/log/" got`, `rsync -a "$DEST:$HOST/out/" got`, `rsync -a tree/ "$DEST:$HOST/log/"`} {
		if said := ends(t, g.rsync(t, there, script)); !strings.Contains(said, "taskgate: denied: ") {
			t.Errorf("%s: %s", script, said)
		}
	}
}

// TestSC22RsyncMaskedFiles: what a task masks rsync does not carry, neither way.
func TestSC22RsyncMaskedFiles(t *testing.T) {
	g, there := tasked(t, `allow:
  - {rsync: {read: [$HOST/log]}}
  - {files: {read: [$HOST/conf/*]}}
mask:
  - {files: [$HOST/conf/*.ini], lines: 'password=(.*)', with: fixed("***")}
`)
	cmd := g.rsync(t, there, `rsync -a "$DEST:$HOST/log/" got; rsync -a "$DEST:$HOST/conf/" none; rsync -a "$DEST:$HOST/conf/app.ini" none`)
	said := ends(t, cmd)
	if strings.Count(said, "taskgate: denied: ") != 2 {
		t.Error(said)
	}
	if _, err := os.Stat(cmd.Dir + "/none"); err == nil {
		t.Error("what is masked came")
	}
	if b, err := os.ReadFile(cmd.Dir + "/got/l"); err != nil || string(b) != "l\n" {
		t.Errorf("what is not: %v %s", err, said)
	}
}

// TestSC22RsyncHeld: what has to be approved waits before rsync's server begins, and
// is not read to its end before that: its client says nothing until it is answered.
func TestSC22RsyncHeld(t *testing.T) {
	g, there := tasked(t, `review:
  - {rsync: {write: [$HOST/app]}, by: {groups: [sre]}, payload: unseen}
  - {rsync: {write: [$HOST/in], read: [$HOST/log]}, by: {groups: [sre]}}
`)
	for _, c := range []struct{ script, file string }{{`rsync -rt tree/a "$DEST:$HOST/app/new"`, "HOST/app/new"}, {`rsync -rt "$DEST:$HOST/log/l" got`, "got"}} {
		cmd := g.rsync(t, there, c.script)
		file := strings.Replace(filepath.Join(cmd.Dir, c.file), cmd.Dir+"/HOST", there, 1)
		go func() {
			r := <-g.log.asked
			if _, err := os.Stat(file); err == nil {
				t.Errorf("%s has begun before %s", c.script, r.ID)
			}
			g.log.decided <- gate.Decided{State: gate.Approved}
		}()
		said := ends(t, cmd)
		if _, err := os.Stat(file); err != nil || !strings.Contains(said, "taskgate: waiting for approval") || !strings.Contains(said, "taskgate: approved") {
			t.Errorf("%s: %v %s", c.script, err, said)
		}
	}
	if said := ends(t, g.rsync(t, there, `rsync -rt tree/a "$DEST:$HOST/in/new"`)); !strings.Contains(said, "have the operator say payload: unseen") {
		t.Error(said)
	}
}

// TestSC22RsyncWithoutRrsync: a host that has no rrsync runs nothing in its place.
func TestSC22RsyncWithoutRrsync(t *testing.T) {
	programs := t.TempDir()
	for _, name := range []string{"env", "rsync"} {
		file, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(file, filepath.Join(programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	g, there := tasked(t, confined, func(g *gateway) {
		g.host = sshtest.Start(t, sshtest.Options{Config: []string{"SetEnv PATH=" + programs}})
		g.log.host = g.host
	})
	cmd := g.rsync(t, there, `rsync -a "$DEST:$HOST/log/" got`)
	if said := ends(t, cmd); !strings.Contains(said, "taskgate: hint: the host has no rrsync") {
		t.Error(said)
	}
	if _, err := os.Stat(cmd.Dir + "/got"); err == nil {
		t.Error("something came")
	}
	if r := run(t, g.ssh(who, "rsync --server --sender -re. . "+there+"/log/"), ""); r.code != 127 {
		t.Errorf("%+v", r)
	}
}
