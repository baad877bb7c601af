package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// made is the tasks guard and where its compiled form is kept, once for all
// tests: compiling takes the longest of all that most of them do.
var made struct {
	once sync.Once
	dir  string
	err  error
}

// tests are all tests, after which what they share is removed.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer func() { _ = os.RemoveAll(made.dir) }()
	return m.M.Run()
}

// built gives the guard's file and the directory for a gateway's data/modules.
func built(t testing.TB) (guard, modules string) {
	t.Helper()
	made.once.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "taskgate-guard"); made.err == nil {
			made.err = errors.Join(os.Mkdir(filepath.Join(made.dir, "modules"), 0o700), buildPlugin("../../plugins/tasks", filepath.Join(made.dir, "tasks.wasm")))
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return filepath.Join(made.dir, "tasks.wasm"), filepath.Join(made.dir, "modules")
}

// gatewayWorld is the real program, serving, with an identity provider of its
// own whose users all have one password.
type gatewayWorld struct {
	dir, bin  string
	addresses map[string]string
}

const userPassword = "lovelace"

// startGateway builds and starts the gateway with these files in its
// directory; tasks/NAME.yaml are tasks, which all users may do. resources goes
// into gateway.yaml.
func startGateway(t testing.TB, users []string, files map[string]string, resources string) *gatewayWorld {
	t.Helper()
	dir := t.TempDir()
	w := &gatewayWorld{dir: dir, bin: filepath.Join(dir, "bin")}
	if out, err := exec.Command("go", "build", "-o", w.bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	guard, modules := built(t)
	type person struct {
		Password string   `json:"password"`
		Groups   []string `json:"groups"`
	}
	people := map[string]person{}
	var groups []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if task, ok := strings.CutPrefix(name, "tasks/"); ok {
			groups = append(groups, "task:"+strings.TrimSuffix(task, ".yaml"))
		}
	}
	for _, u := range users {
		people[u] = person{userPassword, groups}
	}
	known, err := json.Marshal(people)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "users.json", string(known))
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "data"), 0o700), os.Symlink(modules, filepath.Join(dir, "data", "modules"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		w.write(t, name, text)
	}
	issuer := w.start(t, "dev-idp", "--address", "127.0.0.1:0", "--users", "users.json")
	w.write(t, "gateway.yaml", fmt.Sprintf(`
data: ./data
listeners:
  postgres: {address: "127.0.0.1:0", plain: true}
  api: {address: "127.0.0.1:0", plain: true}
issuers:
  - {url: %q, client_id: taskgate}
resources:
%s
catalog: ./tasks
record: {results: full}
plugins:
  - {name: tasks, path: %q, may: [allow, deny, review, mask], isolation: shared, cache: true}
`, issuer, resources, guard))
	return w
}

func (w *gatewayWorld) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func (w *gatewayWorld) command(user string, args ...string) *exec.Cmd {
	cmd := exec.Command(w.bin, args...)
	home := filepath.Join(w.dir, "home", user)
	cmd.Dir, cmd.Env, cmd.Stderr = w.dir, append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home), os.Stderr
	return cmd
}

// start runs what stays, and gives the first line that it prints.
func (w *gatewayWorld) start(t testing.TB, args ...string) string {
	t.Helper()
	cmd := w.command("operator", args...)
	log, err := os.OpenFile(filepath.Join(w.dir, "data", "stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("%v: %v: %s", args, err, said)
	}
	return strings.TrimSpace(line)
}

func (w *gatewayWorld) run(t testing.TB, user string, args ...string) string {
	t.Helper()
	out, err := w.command(user, args...).Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// written gives all that the gateway has written: log, recordings, store, and
// what it says of itself.
func (w *gatewayWorld) written(t *testing.T, look func(path string, b []byte)) {
	t.Helper()
	data, files := filepath.Join(w.dir, "data"), 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(data, "modules")) {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil {
			files++
			look(path, b)
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files of the gateway: %v", files, err)
	}
}

func (w *gatewayWorld) serve(t testing.TB) {
	t.Helper()
	if err := json.Unmarshal([]byte(w.start(t, "serve")), &w.addresses); err != nil {
		t.Fatal(err)
	}
}

// login logs a user in, as the program and a browser would.
func (w *gatewayWorld) login(t testing.TB, user string) {
	t.Helper()
	login := w.command(user, "login", "--gateway", "http://"+w.addresses["api"])
	out, err := login.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	url := ""
	for s := bufio.NewScanner(out); s.Scan(); {
		if u, ok := strings.CutPrefix(s.Text(), "open  "); ok {
			url = u
		}
		if code, ok := strings.CutPrefix(s.Text(), "code  "); ok {
			w.run(t, user, "dev-confirm", url, code, "--user", user, "--password", userPassword)
		}
	}
	if err := login.Wait(); err != nil {
		t.Fatal(err)
	}
}

// token is what a user who is logged in connects with.
func (w *gatewayWorld) token(t testing.TB, user, task, resource string) string {
	t.Helper()
	return w.run(t, user, "token", "--task", task, "--on", resource, "--for", "2h")
}
