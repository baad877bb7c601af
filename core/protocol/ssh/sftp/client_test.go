package sftp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/internal/sshtest"
)

// listen serves real clients, and gives the variable that leads them here.
func (l *lab) listen(t testing.TB) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			if err := l.serve(t, ctx, nc); err != nil {
				t.Logf("serve: %v", err)
			}
			nc.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); cancel(); <-over })
	return "TASKGATE_TEST_SOCKET=" + at
}

// run runs a client, and gives how it ended and what it said.
func run(t testing.TB, dir, env, stdin string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatalf("%v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// site makes what clients work on: files of several sizes here and at the host.
func site(t testing.TB, dir string) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	for i, n := range []int{0, 1, 32768, 32769, 300000, 2 << 20} {
		b := make([]byte, n)
		_, _ = rng.Read(b)
		put(t, filepath.Join(dir, "data", fmt.Sprintf("f%d", i)), string(b))
	}
	put(t, filepath.Join(dir, "data/sub dir/a\x1b[31mb"), "red")
	put(t, filepath.Join(dir, "data/sub dir/ü"), "umlaut")
	if err := os.Symlink("f1", filepath.Join(dir, "data", "link")); err != nil {
		t.Fatal(err)
	}
}

// TestSF09Clients: stock clients do through the relay what they do without it:
// the same files, exit codes and words.
func TestSF09Clients(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, batch string }{
		{"get", "get data/f4\nget data/f5 other\nlcd .\nget data/f0\n"},
		{"get -r", "get -r data\n"},
		{"get -p", "get -p data/f3\n"},
		{"get -a", "!head -c 1000 ../host/data/f4 > f4\nreget data/f4\n"},
		{"get missing", "get data/none\n"},
		{"put", "put here/data/f5 up\nput here/data/f0 zero\nput here/data/f1\n"},
		{"put -r", "mkdir new\nput -r here/data new\n"},
		{"put -p", "put -p here/data/f3 p\n"},
		{"put -a", "!head -c 1000 here/data/f4 > ../host/part\nreput here/data/f4 part\n"},
		{"put -f", "put -f here/data/f1 synced\n"},
		{"put into nothing", "put here/data/f1 none/x\n"},
		{"names", "mkdir d\nrename data/f1 d/g\nln -s d/g s\nln d/g h\nrm data/f2\nrmdir d\n"},
		{"rmdir", "mkdir e\nrmdir e\nrmdir data\n"},
		{"attributes", "chmod 600 data/f1\nchmod 4755 data/f2\nls -l data/f1\n"},
		{"lists", "ls -1 data\nls -la\ncd data\npwd\nls -1\ncd ..\nls -1 data/f*\n"},
		{"through a link", "ln -s data d\ncd d\npwd\nls -1\nget f1\nget link\n"},
		{"dots", "cd data/../data/./sub\\ dir/..\npwd\nget ../data//f1\nls -1 ././\n"},
		{"df", "df data\n"},
		{"unknown user", "cd ~nobody-here\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var trees, words [2]string
			var exits [2]int
			for i := range 2 {
				l := newLab(t, every(anything))
				root := l.dir
				l.dir = filepath.Join(root, "host")
				site(t, l.dir)
				site(t, filepath.Join(root, "local/here"))
				local := filepath.Join(root, "local")
				put(t, filepath.Join(root, "batch"), c.batch)
				server, env := serverPath, ""
				if i == 1 {
					server, env = self, l.listen(t)
				} else { // begins in a directory of its own
					put(t, filepath.Join(root, "server"), "#!/bin/sh\ncd '"+l.dir+"' && exec "+serverPath+"\n")
					server = filepath.Join(root, "server")
					_ = os.Chmod(server, 0o755)
				}
				exits[i], words[i] = run(t, local, env, "", "sftp", "-q", "-b", filepath.Join(root, "batch"), "-D", server)
				trees[i] = sshtest.Tree(t, root+"/host") + sshtest.Tree(t, local)
				words[i] = strings.ReplaceAll(words[i], root, "ROOT")
				if i == 1 {
					for _, line := range l.ended() {
						if strings.Contains(line, ": unknown ") {
							t.Errorf("not ended: %s", line)
						}
					}
				}
			}
			if exits[0] != exits[1] {
				t.Errorf("exit code %d direct, %d through", exits[0], exits[1])
			}
			if trees[0] != trees[1] {
				t.Errorf("files differ: direct\n%s\nthrough\n%s", trees[0], trees[1])
			}
			if c.name != "lists" && c.name != "attributes" && c.name != "df" && words[0] != words[1] { // those show times, and users by name
				t.Errorf("words differ: direct\n%s\nthrough\n%s", words[0], words[1])
			}
			if exits[1] > 1 {
				t.Errorf("exit code %d: %s", exits[1], words[1])
			}
		})
	}
}

// TestSF09Scp: scp copies by SFTP, with ssh's place taken.
func TestSF09Scp(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, every(func(verb, path string) bool { return !strings.Contains(path, "secret") }))
	site(t, l.dir)
	put(t, l.dir+"/secret", "s")
	if err := os.Remove(l.dir + "/data/link"); err != nil { // which scp would copy as a file
		t.Fatal(err)
	}
	env, local := l.listen(t), t.TempDir()
	if code, out := run(t, local, env, "", "scp", "-S", self, "-rp", "h:"+l.dir+"/data", "data"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if a, b := sshtest.Tree(t, l.dir+"/data"), sshtest.Tree(t, local+"/data"); a != b {
		t.Errorf("files differ: at the host\n%s\nhere\n%s", a, b)
	}
	if code, out := run(t, local, env, "", "scp", "-S", self, "data/f5", "h:up"); code != 0 || get(t, l.dir+"/up") != get(t, l.dir+"/data/f5") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if code, out := run(t, local, env, "", "scp", "-S", self, "h:~/data/f1", "h:data/f3", "."); code != 0 || get(t, local+"/f3") != get(t, l.dir+"/data/f3") {
		t.Errorf("exit code %d: %s", code, out)
	}
	code, out := run(t, local, env, "", "scp", "-S", self, "h:secret", ".")
	if code == 0 || get(t, local+"/secret") == "s" {
		t.Errorf("exit code %d: %s", code, out)
	}
	if got := l.lines(); !strings.Contains(got, "denied: not in the task; hint: ask?[31m?your operator") {
		t.Errorf("the person reads %q", got)
	}
}
