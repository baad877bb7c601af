package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// shape is a guard written in machine code: nothing but what the ABI asks for,
// and what a test wants to be wrong with it.
type shape struct {
	imports [][3]string // module, name, one of the types below
	call    []byte      // the code of taskgate_v1_call
	init    []byte      // of _initialize
	start   []byte      // of a start function, none where nil
	reply   []byte      // at replyAt
	pages   int         // of memory, 1 where 0
	names   [5]string   // exports, where they are not what they should be; "-" leaves one out
}

const (
	bufferAt = 1024
	replyAt  = 8192
)

// The function types by number, as check.go writes them.
var typeWords = []string{"() -> ()", "(i32) -> (i32)", "(i32 i32) -> (i64)", "(i32 i32) -> ()", "(i32 i32) -> (i32)", "(i32 i32 i32) -> ()", "(i32) -> (i64)"}

func types7() []byte {
	return []byte{7, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e, 0x60, 2, 0x7f, 0x7f, 0,
		0x60, 2, 0x7f, 0x7f, 1, 0x7f, 0x60, 3, 0x7f, 0x7f, 0x7f, 0, 0x60, 1, 0x7f, 1, 0x7e}
}

func word(s string) []byte { return append(appendLEB(nil, len(s)), s...) }

func (s shape) bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(appendLEB(append(out, id), len(body)), body...) }
	section(1, types7())
	n := byte(len(s.imports))
	if n > 0 {
		b := []byte{n}
		for _, im := range s.imports {
			b = append(append(b, word(im[0])...), word(im[1])...)
			for i, w := range typeWords {
				if w == im[2] {
					b = append(b, 0, byte(i))
				}
			}
		}
		section(2, b)
	}
	section(3, []byte{5, 0, 1, 2, 0, 0})
	section(5, appendLEB([]byte{1, 0}, max(1, s.pages)))
	exports, count := []byte(nil), byte(0)
	for i, name := range []string{"taskgate_abi_v1", "taskgate_v1_buffer", "taskgate_v1_call", "_initialize", "memory"} {
		if s.names[i] != "" {
			name = s.names[i]
		}
		if name == "-" {
			continue
		}
		count++
		exports = append(exports, word(name)...)
		if i == 4 {
			exports = append(exports, 2, 0)
		} else {
			exports = append(exports, 0, n+byte(i))
		}
	}
	section(7, append([]byte{count}, exports...))
	if s.start != nil {
		section(8, []byte{n + 4})
	}
	call := s.call
	if call == nil {
		call = answer(replyAt, len(s.reply))
	}
	code := []byte{5}
	for _, body := range [][]byte{nil, {0x41, 0x80, 0x08}, call, s.init, s.start} {
		body = append(append([]byte{0}, body...), 0x0b)
		code = append(appendLEB(code, len(body)), body...)
	}
	section(10, code)
	data := append([]byte{1, 0, 0x41, 0x80, 0xc0, 0, 0x0b}, appendLEB(nil, len(s.reply))...)
	section(11, append(data, s.reply...))
	return out
}

// answer is the code that gives a reply.
func answer(at, n int) []byte { return i64(int64(at)<<32 | int64(uint32(n))) }

func i64(v int64) []byte {
	out := []byte{0x42}
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}

func i32(v int32) []byte {
	b := i64(int64(v))
	b[0] = 0x41
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var (
	endless = []byte{0x03, 0x40, 0x0c, 0, 0x0b}
	small   = Manifest{Name: "small", Kind: "guard", ABI: ABI{Major: 1}, Hooks: []string{"command"}, Inputs: []string{"text"}}
	allow   = (&abi.Verdict{Decision: abi.Allow}).AppendTo(nil)
)

// try loads a shape.
func try(t testing.TB, h *Host, s shape, m Manifest, change func(*Source)) (*Module, error) {
	t.Helper()
	b, err := AppendManifest(s.bytes(), &m)
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Name: "small", Path: filepath.Join(t.TempDir(), "small.wasm"), May: abi.May{Allow: true}}
	if err := os.WriteFile(src.Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&src)
	}
	set, err := h.Load(t.Context(), []Source{src})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	return set.Modules[0], nil
}

func must(t testing.TB, s shape) *Module {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	m, err := try(t, h, s, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWM07Shape: what is missing or wrong is named, with what it should be.
func TestWM07Shape(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    shape
		want string
	}{
		"good":              {shape{reply: allow}, ""},
		"newer too":         {shape{names: [5]string{3: "taskgate_abi_v2"}}, ""},
		"no marker":         {shape{names: [5]string{0: "-"}}, "does not export taskgate_abi_v1 () -> ()"},
		"only newer":        {shape{names: [5]string{0: "taskgate_abi_v2"}}, "does not export taskgate_abi_v1"},
		"no buffer":         {shape{names: [5]string{1: "-"}}, "does not export taskgate_v1_buffer (i32) -> (i32)"},
		"no call":           {shape{names: [5]string{2: "x"}}, "does not export taskgate_v1_call (i32 i32) -> (i64)"},
		"wrong signature":   {shape{names: [5]string{1: "taskgate_v1_call", 2: "taskgate_v1_buffer"}}, "exports taskgate_v1_buffer as (i32 i32) -> (i64): it should be (i32) -> (i32)"},
		"memory as a call":  {shape{names: [5]string{2: "memory", 4: "taskgate_v1_call"}}, "not as a function"},
		"no memory":         {shape{names: [5]string{4: "mem"}}, "memory"},
		"a command":         {shape{names: [5]string{3: "_start"}}, "-buildmode=c-shared"},
		"wrong initialize":  {shape{names: [5]string{1: "_initialize", 3: "taskgate_v1_buffer"}}, "it should be"},
		"unknown feature":   {shape{names: [5]string{3: "taskgate_requires_wings"}}, `requires the feature "wings"`},
		"reserved":          {shape{names: [5]string{3: "taskgate_v1_buffer2"}}, "reserved"},
		"reserved marker":   {shape{names: [5]string{3: "taskgate_abi_vx"}}, "reserved"},
		"the counter":       {shape{names: [5]string{3: "taskgate_fuel"}}, "reserved"},
		"unknown function":  {shape{imports: [][3]string{{coreModule, "open", "() -> ()"}}}, "imports open of taskgate:core/v1, which has no such function"},
		"unknown module":    {shape{imports: [][3]string{{"taskgate:core/v2", "log", "() -> ()"}}}, "does not have"},
		"import signature":  {shape{imports: [][3]string{{coreModule, "take", "(i32) -> (i32)"}}}, "imports take of taskgate:core/v1 as (i32) -> (i32): it is (i32 i32) -> (i32)"},
		"kv":                {shape{imports: [][3]string{{"taskgate:kv/v1", "get", "(i32 i32) -> (i32)"}}}, "does not offer yet"},
		"WM04 clock":        {shape{imports: [][3]string{{clockModule, "now", "(i32) -> (i64)"}}}, `without the capability "clock"`},
		"WM04 random":       {shape{imports: [][3]string{{randomModule, "fill", "(i32 i32) -> (i32)"}}}, `without the capability "random"`},
		"WM04 files":        {shape{imports: [][3]string{{wasiModule, "path_open", "(i32) -> (i32)"}}}, "no such function"},
		"too much memory":   {shape{pages: MemoryPages + 1}, "compile"},
		"WM01 start loops":  {shape{start: endless}, errBudget.Error()},
		"WM01 init loops":   {shape{init: endless}, "_initialize: " + errBudget.Error()},
		"WM02 init traps":   {shape{init: []byte{0}}, "_initialize: trapped"},
		"WM02 start traps":  {shape{start: []byte{0}}, "instantiate: trapped"},
		"symbol is exact":   {shape{imports: [][3]string{{coreModule, "symbol", "(i32 i32) -> (i32)"}}, init: join(i32(0), i32(513), []byte{0x10, 0, 0x1a})}, "over 512 bytes"},
		"symbol while init": {shape{imports: [][3]string{{coreModule, "symbol", "(i32 i32) -> (i32)"}}, init: join(i32(0), i32(512), []byte{0x10, 0, 0x1a})}, ""},
	} {
		_, err := try(t, h, c.s, small, nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: an error of several lines: %q", name, err)
		}
	}
}

// TestWM06Replies: what does not parse is an error, what is not known refuses.
func TestWM06Replies(t *testing.T) {
	for name, c := range map[string]struct {
		s    shape
		want abi.Decision // Unset: an error
		text string
	}{
		"allow":            {shape{reply: allow}, abi.Allow, ""},
		"nothing to say":   {shape{call: i64(0)}, 0, errSilent.Error()},
		"WM19 empty reply": {shape{call: answer(replyAt, 0)}, abi.Deny, ""},
		"unknown decision": {shape{reply: abi.AppendUint(nil, 1, 77)}, abi.Deny, ""},
		"huge decision":    {shape{reply: abi.AppendUint(nil, 1, 257)}, abi.Deny, ""},
		"cut":              {shape{reply: []byte{0x12, 0x7f}}, 0, "does not parse"},
		"not UTF-8":        {shape{reply: append(bytes.Clone(allow), 0x12, 4, 0x12, 2, 0xff, 0xfe)}, 0, "not UTF-8"},
		"NUL":              {shape{reply: (&abi.Verdict{Decision: abi.Allow, Tags: []string{"a\x00b"}}).AppendTo(nil)}, 0, "not UTF-8"},
		"too long":         {shape{call: answer(replyAt, maxReply+1)}, 0, "at most"},
		"outside":          {shape{call: answer(65536-4, 8)}, 0, "outside"},
		"far outside":      {shape{call: i64(-1)}, 0, "at most"},
		"not implemented":  {shape{call: i64(1)}, 0, "not implemented"},
		"bad input":        {shape{call: i64(2)}, 0, "bad input"},
		"no resources":     {shape{call: i64(4)}, 0, "out of resources"},
		"unknown status":   {shape{call: i64(99)}, 0, "internal"},
		"trap":             {shape{call: []byte{0}}, 0, "trapped"},
		"loop":             {shape{call: append(bytes.Clone(endless), 0x00)}, 0, errBudget.Error()},
	} {
		m := must(t, c.s)
		v, err := m.Command(t.Context(), ask("ada", "x"))
		switch {
		case c.want == abi.Unset && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: %v %v", name, v, err)
		case c.want != abi.Unset && (err != nil || v.Decision.Normal() != c.want):
			t.Errorf("%s: %v %v", name, v, err)
		}
	}
}

// TestWM03Imports: pointers and lengths that lie, and imports without end.
func TestWM03Imports(t *testing.T) {
	logs := [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}}
	fails := [][3]string{{coreModule, "fail", "(i32 i32) -> ()"}}
	takes := [][3]string{{coreModule, "take", "(i32 i32) -> (i32)"}}
	symbols := [][3]string{{coreModule, "symbol", "(i32 i32) -> (i32)"}}
	forever := func(body []byte) []byte { return join([]byte{0x03, 0x40}, body, []byte{0x0c, 0, 0x0b, 0x00}) }
	for name, c := range map[string]struct {
		imports [][3]string
		code    []byte
		want    string // "": the call goes on
	}{
		"outside":       {logs, join(i32(1), i32(65535), i32(2), []byte{0x10, 0}), "outside the guest's memory"},
		"length -1":     {logs, join(i32(1), i32(4096), i32(-1), []byte{0x10, 0}), "outside the guest's memory"},
		"pointer -1":    {fails, join(i32(-1), i32(1), []byte{0x10, 0}), "outside the guest's memory"},
		"at the end":    {logs, join(i32(1), i32(65535), i32(1), []byte{0x10, 0}), ""},
		"take nothing":  {takes, join(i32(-1), i32(-1), []byte{0x10, 0, 0x1a}), ""},
		"logs for ever": {logs, forever(join(i32(1), i32(0), i32(65535), []byte{0x10, 0})), errBudget.Error()},
		"fails forever": {fails, forever(join(i32(0), i32(65535), []byte{0x10, 0})), errBudget.Error()},
		"symbol later":  {symbols, join(i32(0), i32(1), []byte{0x10, 0, 0x1a}), "outside CONFIGURE"},
	} {
		m := must(t, shape{imports: c.imports, call: join(c.code, answer(replyAt, len(allow))), reply: allow})
		v, err := m.Command(t.Context(), ask("ada", "x"))
		if c.want == "" && (err != nil || v.Decision != abi.Allow) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v %v", name, v, err)
		}
	}
	lines := 0
	h := &Host{cache: must(t, shape{}).set.host.cache, Log: func(_, line string) { lines += len(line) + 1 }}
	m, err := try(t, h, shape{imports: logs, call: forever(join(i32(1), i32(0), i32(1000), []byte{0x10, 0}))}, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Command(t.Context(), ask("ada", "x")); !errors.Is(err, errBudget) {
		t.Error(err)
	}
	if lines == 0 || lines > maxLog {
		t.Errorf("%d bytes were logged by one call", lines)
	}
}

// TestWM01Memory: memory grows to the limit and not beyond.
func TestWM01Memory(t *testing.T) {
	grow := func(pages int32) []byte { // allow where memory.grow succeeds, else deny
		return join(i32(pages), []byte{0x40, 0}, i32(-1), []byte{0x46, 0x04, 0x7e}, i64(replyAt<<32), []byte{0x05}, answer(replyAt, len(allow)), []byte{0x0b})
	}
	for pages, want := range map[int32]abi.Decision{MemoryPages - 1: abi.Allow, MemoryPages: abi.Deny} {
		v, err := must(t, shape{call: grow(pages), reply: allow}).Command(t.Context(), ask("ada", "x"))
		if err != nil || v.Decision.Normal() != want {
			t.Errorf("%d pages: %v %v", pages, v, err)
		}
	}
	if _, err := must(t, shape{call: grow(-1), reply: allow}).Command(t.Context(), ask("ada", "x")); !errors.Is(err, errBudget) {
		t.Error("four billion pages for nothing:", err)
	}
}

// TestWM08CloseWaits: memory is not taken from under a call that runs.
func TestWM08CloseWaits(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan bool, 1)
	h = &Host{cache: h.cache, Log: func(string, string) { entered <- true }}
	m, err := try(t, h, shape{imports: [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}},
		call: join(i32(1), i32(0), i32(1), []byte{0x10, 0}, endless, []byte{0})}, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := m.Command(context.Background(), ask("ada", "x"))
		failed <- err
	}()
	<-entered
	if err := m.set.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, errBudget) {
		t.Error("the call did not end by itself:", err)
	}
	if m.set.live != 0 || m.pools.live.Load() != 0 {
		t.Error("instances are left:", m.set.live, m.pools.live.Load())
	}
	if _, err := m.Command(t.Context(), ask("ada", "x")); !errors.Is(err, errClosed) {
		t.Error("a closed generation answers:", err)
	}
}

// TestWM08Swaps: under load every command is judged by one generation as a
// whole, and none meets a closed one that still was current when it began.
func TestWM08Swaps(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	next := func(risk uint32) *Set {
		m, err := try(t, h, shape{reply: (&abi.Verdict{Decision: abi.Allow, Risk: risk, Tags: []string{strconv.Itoa(int(risk))}}).AppendTo(nil)}, small, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m.set
	}
	var current atomic.Pointer[Set]
	current.Store(next(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				set := current.Load()
				v, err := set.Modules[0].Command(context.Background(), ask(strconv.Itoa(i), "x"))
				switch {
				case err == nil && (v.Decision != abi.Allow || len(v.Tags) != 1 || v.Tags[0] != strconv.Itoa(int(v.Risk))):
					t.Errorf("half a verdict: %+v", v)
					return
				case err != nil && (!errors.Is(err, errClosed) && !errors.Is(err, errBusy) || current.Load() == set):
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range uint32(30) {
		old := current.Swap(next(i + 1))
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		if old.live != 0 {
			t.Error("instances are left:", old.live)
		}
	}
	close(done)
	wg.Wait()
}

// TestInstancesAreBounded: over all tasks, the idle instances of one make room
// for those of another.
func TestInstancesAreBounded(t *testing.T) {
	m := must(t, shape{reply: allow})
	for i := range 3 * maxPartitions {
		c := ask("ada", "x")
		c.Session.Task = string(binary.AppendUvarint(nil, uint64(i)))
		if _, err := m.Command(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.pools.live.Load(); n > maxInstances || int(n) != m.set.live {
		t.Errorf("%d instances, %d counted", n, m.set.live)
	}
	if n := len(*m.pools.by.Load()); n > maxPartitions {
		t.Errorf("%d partitions", n)
	}
}

// TestWM11Cache: other people's and broken entries of the cache do not run,
// and a machine without a compiler comes to the same verdicts.
func TestWM11Cache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	h, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Error(st, err)
	}
	if _, err := try(t, h, shape{reply: allow}, small, nil); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 0x55
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := try(t, again, shape{reply: allow}, small, nil)
	if err != nil {
		t.Fatal("a broken entry was not compiled anew:", err)
	}
	if v, err := m.Command(t.Context(), ask("ada", "x")); err != nil || v.Decision != abi.Allow {
		t.Error(v, err)
	}

	slow, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	slow.interpret = true
	m, err = try(t, slow, shape{reply: allow, call: join([]byte{0x20, 1, 0x45, 0x04, 0x40}, endless, []byte{0x0b}, answer(replyAt, len(allow)))}, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Command(t.Context(), ask("ada", "x")); err != nil || v.Decision != abi.Allow {
		t.Error(v, err)
	}
	m, err = try(t, slow, shape{call: append(bytes.Clone(endless), 0)}, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Command(t.Context(), ask("ada", "x")); !errors.Is(err, errBudget) && !errors.Is(err, errDeadline) {
		t.Error(v, err)
	}
}

// TestWM04Grants: parameters are a grant, and what is given them has no log.
func TestWM04Grants(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	params := small
	params.Inputs = []string{"text", "params"}
	if _, err := try(t, h, shape{reply: allow}, params, nil); err == nil || !strings.Contains(err.Error(), "not granted") {
		t.Error(err)
	}
	logged := false
	h = &Host{cache: h.cache, Log: func(string, string) { logged = true }}
	m, err := try(t, h, shape{reply: allow, imports: [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}},
		call: join(i32(1), i32(bufferAt), i32(8), []byte{0x10, 0}, answer(replyAt, len(allow)))}, params, func(s *Source) { s.Capabilities = []string{"params"} })
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Command(t.Context(), ask("ada", "x")); err != nil || v.Decision != abi.Allow || logged {
		t.Error("WM17: a guard that is given parameters wrote a log", v, err, logged)
	}
	telling := shape{imports: [][3]string{{coreModule, "fail", "(i32 i32) -> ()"}}, call: join(i32(bufferAt), i32(64), []byte{0x10, 0, 0})}
	m, err = try(t, h, telling, params, func(s *Source) { s.Capabilities = []string{"params"} })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Command(t.Context(), ask("ada", "canary")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error("WM17: what it was given is in its error:", err)
	}
	if _, err := must(t, telling).Command(t.Context(), ask("ada", "canary")); err == nil || !strings.Contains(err.Error(), "canary") {
		t.Error("a guard's own words are lost:", err)
	}
	clocked := small
	clocked.Capabilities = []Capability{{"clock", "tells the time"}}
	m, err = try(t, h, shape{reply: allow, imports: [][3]string{{clockModule, "now", "(i32) -> (i64)"}}}, clocked,
		func(s *Source) { s.Capabilities, s.Cache = []string{"clock"}, true })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Command(t.Context(), ask("ada", "x")); err != nil {
		t.Error(err)
	}
	if _, ok := m.TryCommand(ask("ada", "x")); ok || m.Inputs()&abi.InputTime == 0 {
		t.Error("the verdict of a guard that knows the time was kept")
	}
}

// TestWM09Schema: a module's schema reads no files and fetches nothing.
func TestWM09Schema(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(secret, []byte(`{"const": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"file://" + secret, secret, "http://127.0.0.1:1/x"} {
		schema, err := json.Marshal(map[string]string{"$ref": ref})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkConfig(schema, json.RawMessage(`7`)); err == nil || !strings.Contains(err.Error(), "config_schema") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := checkConfig(json.RawMessage(`{"$defs":{"a":{"const":7}},"$ref":"#/$defs/a"}`), json.RawMessage(`7`)); err != nil {
		t.Error(err)
	}
}

// TestWM15Lifetime: a verdict that says how long it holds is asked for again.
func TestWM15Lifetime(t *testing.T) {
	var c cache
	key, v := []byte("key"), &abi.Verdict{Decision: abi.Allow, CacheFor: 3600}
	c.put(key, partition{}, v, 4)
	if c.get(key, partition{}) != v || c.get(key, partition{name: "x"}) != nil {
		t.Error("not kept, or kept for another")
	}
	c.shard(key).by[partition{}]["key"] = kept{v, time.Now().Add(-time.Second)}
	if c.get(key, partition{}) != nil {
		t.Error("kept for too long")
	}
	for i := range uint64(100_000) {
		c.put(binary.AppendUvarint(nil, i), partition{}, v, 1000)
	}
	for i := range c.shards {
		if c.shards[i].size > shardBytes {
			t.Error("a shard holds", c.shards[i].size)
		}
	}
}

// TestWM18Rests: good calls between bad ones forgive nothing, several
// subjects stop their task and many stop all, and time heals.
func TestWM18Rests(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := &breaker{now: func() time.Time { return now }}
	trip := func(subject, task string) {
		for range tripsAllowed {
			b.trapped(who{"", subject}, task)
		}
	}
	eve, ada := who{"", "eve"}, who{"", "ada"}
	b.trapped(eve, "a")
	b.trapped(eve, "a")
	if b.check(eve, "a") != nil {
		t.Error("rests too early")
	}
	b.trapped(eve, "a")
	if b.check(eve, "b") == nil || b.check(ada, "a") != nil {
		t.Error("the wrong one rests")
	}
	for _, s := range []string{"1", "2", "3"} {
		trip(s, "a")
	}
	if b.check(ada, "a") == nil || b.check(ada, "b") != nil {
		t.Error("the task does not rest, or another does")
	}
	for _, s := range []string{"4", "5", "6", "7"} {
		trip(s, s)
	}
	if b.check(ada, "b") == nil {
		t.Error("nobody else rests")
	}
	now = now.Add(2 * time.Second)
	if b.check(eve, "a") != nil || b.check(ada, "b") != nil {
		t.Error("the rest does not end")
	}
	b.trapped(eve, "a")
	now = now.Add(time.Second + time.Second/2)
	if b.check(eve, "a") == nil {
		t.Error("the second rest is not longer")
	}
	now = now.Add(2 * forgiven)
	b.trapped(eve, "a")
	if b.check(eve, "a") != nil {
		t.Error("nothing is ever forgiven")
	}
}

// BenchmarkCall is the floor: a guard of no instructions, without the cache.
func BenchmarkCall(b *testing.B) {
	m := must(b, shape{reply: allow})
	for name, n := range map[string]int{"empty": 0, "1KB": 1000} {
		c := ask("ada", strings.Repeat("x", n))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v, err := m.Command(b.Context(), c); err != nil || v.Decision != abi.Allow {
					b.Fatal(v, err)
				}
			}
		})
	}
}
