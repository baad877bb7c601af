package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/wasm/meter"
)

// outcome loads a module's bytes and asks it about a command. Whatever it is,
// it is refused, or answers, or fails: it never takes the process with it.
func outcome(t *testing.T, h *Host, path string, b []byte) (v *abi.Verdict, loaded bool, err error) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := h.Load(t.Context(), []Source{{Name: "m", Path: path, May: abi.May{Allow: true}}})
	if err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("an error of several lines: %q", err)
		}
		return nil, false, err
	}
	v, err = set.Modules[0].Command(t.Context(), ask("ada", "x"))
	if e := set.Close(); e != nil {
		t.Error(e)
	}
	if set.live != 0 {
		t.Error("an instance is left")
	}
	return v, true, err
}

func named(t *testing.T, module []byte) []byte {
	t.Helper()
	b, err := AppendManifest(module, &small)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// program writes functions at random, but so that they are valid: a guest's
// author with nothing good in mind.
type program struct {
	*rand.Rand
	out   []byte
	depth int // of blocks
	fuel  int
}

// ops that take i32s from the stack and put one there, by how many they take.
var ops = [3][][]byte{
	{{0x41, 0}, {0x41, 0x7f}, {0x41, 0x80, 0x80, 0x04}, {0x41, 0xff, 0xff, 0xff, 0xff, 0x07}, {0x20, 0}, {0x20, 1}, {0x3f, 0}, {0x23, 0, 0xa7}},
	{{0x2d, 0, 0}, {0x28, 2, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0x40, 0}, {0x45}, {0x67}, {0x10, 0}, {0x10, 9}, {0xc0}},
	{{0x6a}, {0x6b}, {0x6c}, {0x6d}, {0x6e}, {0x70}, {0x46}, {0x4c}, {0x74}, {0x71}},
}

// value puts one i32 on the stack.
func (p *program) value(deep int) {
	n := p.IntN(3)
	if deep <= 0 {
		n = 0
	}
	for range n {
		p.value(deep - 1)
	}
	p.out = append(p.out, ops[n][p.IntN(len(ops[n]))]...)
}

// statement leaves the stack as it was.
func (p *program) statement() {
	if p.fuel--; p.fuel < 0 {
		return
	}
	block := func(head ...byte) {
		p.out = append(p.out, head...)
		p.depth++
		for range p.IntN(4) {
			p.statement()
		}
		p.depth--
		p.out = append(p.out, 0x0b)
	}
	switch p.IntN(15) {
	case 0, 1:
		block(0x02, 0x40)
	case 2, 3:
		block(0x03, 0x40)
	case 4:
		p.value(2)
		block(0x04, 0x40)
	case 5, 6:
		p.value(3)
		p.out = append(p.out, 0x0d, byte(p.IntN(max(1, p.depth))))
		if p.depth == 0 { // the function's own block has a value: go round it
			p.out = p.out[:len(p.out)-2]
			p.out = append(p.out, 0x1a)
		}
	case 7:
		p.value(2)
		if p.depth == 0 {
			p.out = append(p.out, 0x1a)
			return
		}
		p.out = append(p.out, 0x02, 0x7f) // a block that gives what br_table would choose by
		p.value(1)
		p.out = append(p.out, 0x0b, 0x6a, 0x1a)
	case 8:
		p.value(2)
		p.value(2)
		p.out = append(p.out, 0x36, 2, byte(p.IntN(128)))
	case 9: // memory.fill, copy
		p.value(1)
		p.value(1)
		p.value(1)
		p.out = append(p.out, [][]byte{{0xfc, 11, 0}, {0xfc, 10, 0, 0}}[p.IntN(2)]...)
	case 10: // call_indirect, by any number
		p.value(1)
		p.value(2)
		p.out = append(p.out, 0x11, 1, 0, 0x1a)
	case 11: // table.copy, init
		p.value(1)
		p.value(1)
		p.value(1)
		p.out = append(p.out, [][]byte{{0xfc, 14, 0, 0}, {0xfc, 12, 0, 0}}[p.IntN(2)]...)
	case 12: // log whatever is there
		p.value(1)
		p.value(2)
		p.value(2)
		p.out = append(p.out, 0x10, 2)
	case 13:
		p.out = append(p.out, 0x42, byte(p.IntN(64)), 0x24, 0)
	default:
		p.value(3)
		p.out = append(p.out, 0x21, byte(p.IntN(2)))
	}
}

// body is a function (i32) -> (i32) with one local more.
func (p *program) body() []byte {
	p.out, p.fuel, p.depth = []byte{1, 1, 0x7f}, 60, 0
	for range 1 + p.IntN(8) {
		p.statement()
	}
	p.value(3)
	return append(p.out, 0x0b)
}

// crafted is a module of nine such functions, that imports, has a table, a
// passive segment and a global, and answers what the last of them says.
func crafted(p *program) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(appendLEB(append(out, id), len(body)), body...) }
	section(1, types7())
	section(2, join([]byte{3}, word(wasiModule), word("fd_close"), []byte{0, 1}, word(coreModule), word("take"), []byte{0, 4}, word(coreModule), word("log"), []byte{0, 5}))
	section(3, []byte{13, 0, 1, 2, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1}) // functions 3 to 15
	section(4, []byte{1, 0x70, 0, 8})
	section(5, []byte{1, 0, 1})
	section(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b})
	exports := []byte{5}
	for i, name := range []string{"taskgate_abi_v1", "taskgate_v1_buffer", "taskgate_v1_call", "_initialize"} {
		exports = append(append(exports, word(name)...), 0, byte(3+i))
	}
	section(7, append(append(exports, word("memory")...), 2, 0))
	section(9, []byte{1, 1, 0, 4, 0, 7, 9, 15}) // passive: imports and functions
	code := []byte{13}
	add := func(b []byte) { code = append(appendLEB(code, len(b)), b...) }
	add([]byte{0, 0x0b})
	add([]byte{0, 0x41, 0x80, 0x08, 0x0b})
	add(join([]byte{0}, i32(int32(p.Uint32())), []byte{0x10, 15, 0xac}, i64(int64(p.Uint64()>>p.IntN(64))), []byte{0x7c, 0x0b}))
	if p.IntN(4) == 0 { // bad from the start
		add(join([]byte{0}, i32(1), []byte{0x10, 14, 0x1a, 0x0b}))
	} else {
		add([]byte{0, 0x0b})
	}
	for range 9 {
		add(p.body())
	}
	section(10, code)
	return out
}

// TestWM12Crafted: modules at random that are valid, and modules at random that
// are not, are refused or metered.
func TestWM12Crafted(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Rand: rand.New(rand.NewPCG(12, 12))}
	path := filepath.Join(t.TempDir(), "m.wasm")
	loaded := 0
	for range 150 {
		b := crafted(p)
		if _, _, err := meter.Inject(b, 1); err != nil {
			t.Fatalf("%v\n%x", err, b)
		}
		began := time.Now()
		_, ok, err := outcome(t, h, path, named(t, b))
		if ok {
			loaded++
		} else if strings.Contains(err.Error(), "compile:") {
			t.Errorf("the engine does not take it: %v\n%x", err, b)
		}
		if d := time.Since(began); d > startTime+callDeadline {
			t.Errorf("took %v\n%x", d, b)
		}
	}
	if loaded < 20 {
		t.Errorf("only %d were loaded", loaded)
	}
	whole := shape{reply: allow, imports: [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}}}.bytes()
	for range 1000 {
		b := bytes.Clone(whole)
		for range 1 + p.IntN(4) {
			switch at := 8 + p.IntN(len(b)-8); p.IntN(4) {
			case 0:
				b[at] = byte(p.Uint32())
			case 1:
				b[at] ^= 1 << p.IntN(8)
			case 2: // a piece of it twice, or not at all
				n := p.IntN(len(b) - at)
				b = bytes.Join([][]byte{b[:at], b[at:][:n], b[at:]}, nil)
			default:
				b = binary.AppendUvarint(b[:at:at], p.Uint64())
				b = append(b, whole[min(len(whole), at):]...)
			}
		}
		manifest, err := AppendManifest(b, &small)
		if err != nil {
			continue // not even sections
		}
		_, _, _ = outcome(t, h, path, manifest)
	}
}

// TestWM12Bombs: what is small and makes much of itself.
func TestWM12Bombs(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rep := func(n int, b ...byte) []byte { return bytes.Repeat(b, n) }
	call := func(code ...[]byte) shape {
		return shape{call: join(join(code...), answer(replyAt, len(allow))), reply: allow}
	}
	swap := func(s shape, id byte, body []byte) []byte { // another section in place of that, or beside
		b, out := s.bytes(), []byte("\x00asm\x01\x00\x00\x00")
		order, done := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11}, false
		put := func() { out, done = append(appendLEB(append(out, id), len(body)), body...), true }
		err := sections(b, func(sid byte, old []byte) error {
			if !done && bytes.IndexByte(order, sid) >= bytes.IndexByte(order, id) {
				put()
			}
			if sid != id {
				out = append(appendLEB(append(out, sid), len(old)), old...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	far := join([]byte{1, 0}, i32(MemoryPages<<16-1), []byte{0x0b, 2, 'x', 'x'})
	for name, c := range map[string]struct {
		b    []byte
		want string // of the error; "" is a verdict
	}{
		"nothing wrong":         {call().bytes(), ""},
		"deep blocks":           {call(rep(8000, 0x02, 0x40), rep(8000, 0x0b)).bytes(), ""},
		"deeper blocks":         {call(rep(9000, 0x02, 0x40), rep(9000, 0x0b)).bytes(), "nested"},
		"loops side by side":    {call(rep(9000, 0x03, 0x40, 0x0b)).bytes(), "branches"},
		"ifs side by side":      {call(rep(40000, 0x41, 1, 0x04, 0x40, 0x0b)).bytes(), "branches"},
		"many br_if":            {call([]byte{0x02, 0x40}, rep(40000, 0x41, 0, 0x0d, 0), []byte{0x0b}).bytes(), "branches"},
		"a huge br_table":       {call([]byte{0x02, 0x40, 0x41, 0, 0x0e}, appendLEB(nil, 1<<20), rep(1<<20+1, 0), []byte{0x0b}).bytes(), "branches"},
		"a table without end":   {swap(call(), 4, []byte{1, 0x70, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}), "a table of"},
		"data beyond memory":    {swap(call(), 11, far), "instantiate"},
		"data where -1 is":      {swap(call(), 11, join([]byte{1, 0}, i32(-1), []byte{0x0b, 1, 'x'})), "instantiate"},
		"elements beyond":       {swap(shape{call: call().call, reply: allow}, 9, []byte{1, 0, 0x41, 0, 0x0b, 1, 0}), "table"},
		"memory of 4 GB":        {swap(call(), 5, []byte{1, 1, 1, 0x80, 0x80, 4}), ""}, // the host's limit is lower, and holds
		"too many values":       {swap(call(), 1, join([]byte{8}, types7()[1:], []byte{0x60}, appendLEB(nil, 2000), rep(2000, 0x7f), []byte{0})), "parameters and results"},
		"many types":            {swap(call(), 1, join(appendLEB(nil, 7+100_000), types7()[1:], rep(100_000, 0x60, 0, 0))), ""},
		"globals":               {swap(call(), 6, join(appendLEB(nil, 100_000), rep(100_000, 0x7f, 1, 0x41, 0, 0x0b))), ""},
		"more types than bytes": {swap(call(), 1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}), "bytes are left"},
		"a long way":            {call(join(i32(1), rep(300_000, 0x41, 1, 0x6a), []byte{0x1a})).bytes(), ""},
		"a deep expression":     {call(join(rep(100_000, 0x41, 1), rep(99_999, 0x6a), []byte{0x1a})).bytes(), ""},
		"two starts":            {append(call().bytes(), 8, 1, 0), "out of order"},
	} {
		v, _, err := outcome(t, h, filepath.Join(dir, "m.wasm"), named(t, c.b))
		switch {
		case c.want == "" && (err != nil || v.Decision != abi.Allow):
			t.Errorf("%s: %v %v", name, v, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWM03Reexport: an import that a module exports as its own is called like
// a function of the guest, and does no more than that.
func TestWM03Reexport(t *testing.T) {
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	s := shape{reply: allow, imports: [][3]string{{wasiModule, "fd_close", "(i32) -> (i32)"}}}
	b := bytes.Replace(s.bytes(), append(word("taskgate_v1_buffer"), 0, 2), append(word("taskgate_v1_buffer"), 0, 0), 1)
	if v, loaded, err := outcome(t, h, filepath.Join(t.TempDir(), "m.wasm"), named(t, b)); !loaded || err != nil || v.Decision != abi.Allow {
		t.Error(v, loaded, err) // EBADF is a buffer at 8
	}
}

// TestWM06Absurd: verdicts of a form that is right and a size that is not.
func TestWM06Absurd(t *testing.T) {
	list := func(n int) []string { return make([]string, n) }
	for name, v := range map[string]*abi.Verdict{
		"tags":      {Decision: abi.Allow, Tags: list(abi.MaxList + 1)},
		"needs":     {Decision: abi.Allow, Needs: list(abi.MaxList + 1)},
		"oracle":    {Decision: abi.Allow, Terms: abi.Terms{Oracle: list(abi.MaxList + 1)}},
		"groups":    {Decision: abi.Review, Review: abi.Requirement{Groups: list(abi.MaxList + 1)}},
		"a name":    {Decision: abi.Allow, Protect: []abi.Protect{{Relation: list(100)}}},
		"cookie":    {Decision: abi.Allow, Cookie: make([]byte, abi.MaxCookie+1)},
		"reason":    {Decision: abi.Deny, Reason: abi.Reason{Message: strings.Repeat("x", abi.MaxReason+1)}},
		"an escape": {Decision: abi.Deny, Reason: abi.Reason{Message: "\x1b]0;pwned\a"}},
		"a C1":      {Decision: abi.Deny, Reason: abi.Reason{Hint: "\u009b2J"}},
	} {
		reply := v.AppendTo(nil)
		if got, err := must(t, shape{reply: reply, pages: 2 + len(reply)>>16}).Command(t.Context(), ask("ada", "x")); err == nil {
			t.Errorf("%s: %v", name, got.Decision)
		}
	}
	if v, err := must(t, shape{reply: (&abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Message: "two\nlines\tand é"}}).AppendTo(nil)}).Command(t.Context(), ask("ada", "x")); err != nil || v.Decision != abi.Deny {
		t.Error(v, err)
	}
	told := shape{imports: [][3]string{{coreModule, "fail", "(i32 i32) -> ()"}}, reply: []byte("a\x1b[2Jb"), call: join(i32(replyAt), i32(6), []byte{0x10, 0}, i64(3))}
	if _, err := must(t, told).Command(t.Context(), ask("ada", "x")); err == nil || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "[2Jb") {
		t.Errorf("X18: %q", err)
	}
}

// TestWM03LogFlood: over many calls and instances, a module's log is bounded.
func TestWM03LogFlood(t *testing.T) {
	now := time.Unix(1000, 0)
	var l logs
	kept := 0
	for range 10_000 {
		if ok, dropped := l.take(1000, now); ok {
			kept += 1000
		} else if dropped != 0 {
			t.Error("told too early")
		}
	}
	if kept == 0 || kept > logsBytes {
		t.Errorf("%d bytes in one second", kept)
	}
	if ok, dropped := l.take(1, now.Add(time.Second)); !ok || dropped != 10_000_000-kept {
		t.Error("what was dropped is not told:", ok, dropped)
	}
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	h = &Host{cache: h.cache, Log: func(_, line string) { total += len(line) }}
	m, err := try(t, h, shape{reply: allow, imports: [][3]string{{coreModule, "log", "(i32 i32 i32) -> ()"}}, call: join(i32(1), i32(0), i32(60000), []byte{0x10, 0}, answer(replyAt, len(allow)))}, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 100 {
		if _, err := m.Command(t.Context(), ask("ada", "x")); err != nil {
			t.Fatal(err)
		}
	}
	if most := int(1+time.Since(began)/time.Second) * 2 * logsBytes; total == 0 || total > most {
		t.Errorf("%d bytes were logged", total)
	}
}

// BenchmarkWM13Hooks is what each hook costs with ten thousand sessions open, that
// is, with verdicts asked for by many: the median and the slowest hundredth
// (WM13). GC pressure is allocs/op.
func BenchmarkWM13Hooks(b *testing.B) {
	m := load(b, manifest, nil)
	for name, hook := range map[string]func(s *abi.Session) error{
		"session_open": func(s *abi.Session) error { _, err := m.SessionOpen(b.Context(), s); return err },
		"command": func(s *abi.Session) error {
			c := ask(s.Subject, "select 1")
			c.Session = s
			_, err := m.Command(b.Context(), c)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			sessions := make([]*abi.Session, 10_000)
			for i := range sessions {
				sessions[i] = &abi.Session{ID: fmt.Sprintf("%020x", i), Subject: fmt.Sprint("subject", i), Task: fmt.Sprint("task", i%8)}
			}
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				if err := hook(sessions[i%len(sessions)]); err != nil && !errors.Is(err, errBusy) {
					b.Fatal(err)
				}
				if len(took) < cap(took) {
					took = append(took, time.Since(began))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
	}
}
