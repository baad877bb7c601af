package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// built is the rogue guard, built once.
var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "taskgate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "rogue.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, "./testdata/rogue")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New(string(text))
	}
	return os.ReadFile(out)
})

var manifest = Manifest{Name: "rogue", Kind: "guard", ABI: ABI{Major: 1}, Hooks: []string{"configure", "session_open", "command"}, Inputs: []string{"text", "operations", "task"}}

// shared is a host that has a generation open for as long as the tests run, so
// that its cache keeps the code that they have in common.
var shared = sync.OnceValues(func() (*Host, error) {
	h, err := Open("")
	if err != nil {
		return nil, err
	}
	h.Deadline = time.Minute // what is looked at is the budget, on machines of any speed
	raw, err := built()
	if err != nil {
		return nil, err
	}
	b, err := AppendManifest(raw, &manifest)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "*.wasm")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return nil, err
	}
	_, err = h.Load(context.Background(), []Source{{Name: "rogue", Path: f.Name()}})
	return h, err
})

func writeModule(t testing.TB, m Manifest) string {
	t.Helper()
	raw, err := built()
	if err != nil {
		t.Fatal(err)
	}
	b, err := AppendManifest(raw, &m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rogue.wasm")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, m Manifest, change func(*Source)) *Module {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Name: "rogue", Path: writeModule(t, m), May: abi.May{Allow: true}}
	if change != nil {
		change(&src)
	}
	s, err := h.Load(context.Background(), []Source{src})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Modules[0]
}

func ask(subject, text string) *abi.Command {
	return &abi.Command{Phase: abi.Execute, Time: 77, Session: &abi.Session{Subject: subject, Task: "x"}, Statement: &abi.Statement{Text: text,
		Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "orders"}}}}}
}

func TestGuard(t *testing.T) {
	m := load(t, manifest, nil)
	v, err := m.Command(t.Context(), ask("ada", "fine"))
	if err != nil || v.Decision != abi.Allow {
		t.Fatal(v, err)
	}
	if v, err = m.Command(t.Context(), ask("ada", "deny")); err != nil || v.Decision != abi.Deny || v.Reason.Message != "because" {
		t.Error(v, err)
	}
	if v, err = m.Command(t.Context(), ask("ada", "symbol")); err != nil || v.Reason.Detail != "true" {
		t.Error("the symbol did not arrive", v, err)
	}
	if v, err = m.SessionOpen(t.Context(), &abi.Session{Subject: "ada"}); err != nil || v.Decision != abi.Deny && v.Decision != abi.Allow {
		t.Error(v, err)
	}
	if v, err = m.Command(t.Context(), ask("ada", "unset")); err != nil || v.Decision.Normal() != abi.Deny {
		t.Error("WM19: a forgotten decision", v, err)
	}
}

// TestWM01WM02: whatever a guest does, the call ends with an error and the
// next call, of another subject, is answered by a fresh instance.
func TestWM01WM02Misbehaviour(t *testing.T) {
	m := load(t, manifest, nil)
	for _, text := range []string{"loop", "recursion", "panic", "bomb", "sleep", "log", "huge"} {
		began := time.Now()
		v, err := m.Command(t.Context(), ask("eve "+text, text))
		if err == nil {
			t.Errorf("%s: %v", text, v)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: an error of several lines: %v", text, err)
		}
		if text == "panic" && !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("a panic's own words are lost: %v", err)
		}
		if d := time.Since(began); d > startTime {
			t.Errorf("%s: took %v", text, d)
		}
		if v, err := m.Command(t.Context(), ask("ada", "fine")); err != nil || v.Decision != abi.Allow {
			t.Errorf("after %s: %v %v", text, v, err)
		}
	}
}

// TestWM05Fresh: an instance that trapped is not used again.
func TestWM05Fresh(t *testing.T) {
	m := load(t, manifest, nil)
	detail := func() string {
		v, err := m.Command(t.Context(), ask("ada", "count"))
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason.Detail
	}
	if a, b := detail(), detail(); a != "1" || b != "2" {
		t.Fatal(a, b)
	}
	if _, err := m.Command(t.Context(), ask("eve", "panic")); err == nil {
		t.Fatal("no error")
	}
	if d := detail(); d != "1" {
		t.Error("a broken instance went on: call", d)
	}
}

// TestWM17Partition: two tasks do not share an instance.
func TestWM17Partition(t *testing.T) {
	m := load(t, manifest, nil)
	for _, task := range []string{"a", "b", "a"} {
		c := ask("ada", "count")
		c.Session.Task = task
		v, err := m.Command(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if task == "b" && v.Reason.Detail != "1" {
			t.Error("task b met an instance that had served task a")
		}
	}
}

func TestWM15Cache(t *testing.T) {
	m := load(t, manifest, func(s *Source) { s.Cache = true })
	get := func(subject, task, text string) string {
		c := ask(subject, text)
		c.Session.Task = task
		v, err := m.Command(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason.Detail
	}
	one := get("ada", "x", "count")
	if get("ada", "x", "count") != one {
		t.Error("the same bytes were asked again")
	}
	if _, ok := m.TryCommand(ask("ada", "count")); !ok {
		t.Error("TryCommand does not know it")
	}
	if v, ok := m.TryCommand(ask("ada", "count ")); ok {
		t.Error("another text got", v)
	}
	if c := ask("ada", "count"); c.Session != nil {
		c.Session.Task = "y"
		if _, ok := m.TryCommand(c); ok {
			t.Error("another task got the verdict")
		}
	}
	session := manifest
	session.Inputs = append([]string{"session"}, session.Inputs...)
	m = load(t, session, func(s *Source) { s.Cache = true })
	get("ada", "x", "count")
	if _, ok := m.TryCommand(ask("eve", "count")); ok {
		t.Error("another subject got the verdict")
	}
	m = load(t, manifest, nil)
	get("ada", "x", "count")
	if _, ok := m.TryCommand(ask("ada", "count")); ok {
		t.Error("a module whose verdicts may not be kept was not asked")
	}
	if m.Inputs()&abi.InputTime == 0 {
		t.Error("the gate would keep its verdicts")
	}
}

// TestWM16Clock: the wall clock is the command's, and only where it is asked for.
func TestWM16Clock(t *testing.T) {
	m := load(t, manifest, nil)
	if v, err := m.Command(t.Context(), ask("ada", "time")); err != nil || v.Reason.Detail != "0" {
		t.Error(v, err)
	}
	timed := manifest
	timed.Inputs = append([]string{"time"}, timed.Inputs...)
	m = load(t, timed, nil)
	if v, err := m.Command(t.Context(), ask("ada", "time")); err != nil || v.Reason.Detail != "77" {
		t.Error(v, err)
	}
	for range 2000 { // the guest's collector runs, and its memory stays bounded
		if _, err := m.Command(t.Context(), ask("ada", "work")); err != nil {
			t.Fatal(err)
		}
	}
	p := m.pools.of(partition{name: "x"}, time.Now())
	in := p.try(0)
	if size := in.memory.Size(); size > 16<<20 {
		t.Errorf("the guest has grown to %d bytes", size)
	}
	p.put(in, 0)
}

// TestWM18Breaker: who breaks the guard rests, others do not.
func TestWM18Breaker(t *testing.T) {
	m := load(t, manifest, nil)
	now := time.Now()
	m.breaker.now = func() time.Time { return now }
	for range tripsAllowed {
		_, _ = m.Command(t.Context(), ask("eve", "panic"))
	}
	if _, err := m.Command(t.Context(), ask("eve", "fine")); !errors.Is(err, errBroken) {
		t.Error("no rest:", err)
	}
	if v, err := m.Command(t.Context(), ask("ada", "fine")); err != nil || v.Decision != abi.Allow {
		t.Error("another subject is refused:", err)
	}
	now = now.Add(2 * time.Second)
	if _, err := m.Command(t.Context(), ask("eve", "fine")); err != nil {
		t.Error("the rest does not end:", err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	m := load(t, manifest, nil)
	var wg sync.WaitGroup
	for range 3 * poolSize {
		wg.Go(func() {
			for n := 0; n < 50; {
				v, err := m.Command(context.Background(), ask("ada", "work"))
				if errors.Is(err, errBusy) { // on a slow machine all are, for longer than a call waits
					continue
				}
				if n++; err != nil || v.Risk != 2000 {
					t.Errorf("%v %v", v, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := m.pools.of(partition{name: "x"}, time.Now()).made.Load(); n > poolSize {
		t.Errorf("%d instances", n)
	}
}

func TestWM07WM09LoadRefused(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := built()
	if err != nil {
		t.Fatal(err)
	}
	good, err := AppendManifest(raw, &manifest)
	if err != nil {
		t.Fatal(err)
	}
	second, err := AppendManifest(raw[:8], &manifest)
	if err != nil {
		t.Fatal(err)
	}
	schema := manifest
	schema.ConfigSchema = json.RawMessage(`{"type":"object","required":["until"]}`)
	withSchema, err := AppendManifest(raw, &schema)
	if err != nil {
		t.Fatal(err)
	}
	clock := manifest
	clock.Capabilities = []Capability{{"clock", "why not"}}
	withClock, err := AppendManifest(raw, &clock)
	if err != nil {
		t.Fatal(err)
	}
	patch := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatal(from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}
	for name, c := range map[string]struct {
		module []byte
		change func(*Source)
		want   string
	}{
		"no module":     {[]byte("hello"), nil, "not a WebAssembly"},
		"cut":           {good[:len(good)/2], nil, "cut short"},
		"no manifest":   {raw, nil, "taskgate plugin build"},
		"digest":        {good, func(s *Source) { s.SHA256 = strings.Repeat("0", 64) }, "its sha256 is"},
		"no marker":     {patch("taskgate_abi_v1", "taskgate_abi_v9"), nil, "does not export taskgate_abi_v1"},
		"command":       {patch("_initialize", "_start\x00\x00\x00\x00\x00"), nil, "_initialize"},
		"feature":       {patch("taskgate_abi_v1", "taskgate_requi9"), nil, "reserved"},
		"import":        {patch("random_get", "random_git"), nil, "no such function"},
		"foreign":       {patch("taskgate:core/v1", "taskgate:core/v7"), nil, "does not have"},
		"configure":     {good, func(s *Source) { s.Config = json.RawMessage(`"refuse"`) }, "not to my taste"},
		"schema":        {withSchema, func(s *Source) { s.Config = json.RawMessage(`{}`) }, "until"},
		"capability":    {withClock, nil, "not granted"},
		"missing":       {nil, func(s *Source) { s.Path += "x" }, "no such file"},
		"two manifests": {append(append([]byte(nil), good...), second[8:]...), nil, "two manifests"},
	} {
		path := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(path, c.module, 0o600); err != nil {
			t.Fatal(err)
		}
		src := Source{Name: "m", Path: path}
		if c.change != nil {
			c.change(&src)
		}
		s, err := h.Load(t.Context(), []Source{src})
		if err == nil {
			t.Errorf("%s: loaded", name)
			_ = s.Close()
			continue
		}
		if name != "command" && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(func() string { d := t.TempDir(); _ = os.Chmod(d, 0o777); return d }()); err == nil {
		t.Error("WM11: a cache that everyone can write to was taken")
	}
}

// TestWM08Reloads: generations come and go and leave nothing behind.
func TestWM08Reloads(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Name: "rogue", Path: writeModule(t, manifest), May: abi.May{Allow: true}}
	for range 10 {
		s, err := h.Load(t.Context(), []Source{src})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Modules[0].Command(t.Context(), ask("ada", "fine")); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkCommand(b *testing.B) {
	m := load(b, manifest, nil)
	c := ask("ada", strings.Repeat("x", 200))
	if _, err := m.Command(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Command(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	m := load(b, manifest, func(s *Source) { s.Cache = true })
	c := ask("ada", strings.Repeat("x", 200))
	if _, err := m.Command(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := m.TryCommand(c); !ok {
			b.Fatal("not known")
		}
	}
}
