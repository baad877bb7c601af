package meter

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

func section(id byte, body ...byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(body))), body...)
}

// module has one exported function "f" (i32) -> (i32) with that code, a
// memory of one page, a table of two entries and one i64 global.
func module(code ...byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(b, section(1, 1, 0x60, 1, 0x7f, 1, 0x7f)...)
	b = append(b, section(3, 1, 0)...)
	b = append(b, section(4, 1, 0x70, 0, 2)...)
	b = append(b, section(5, 1, 0, 1)...)
	b = append(b, section(6, 1, 0x7e, 1, 0x42, 5, 0x0b)...)
	b = append(b, section(7, 1, 1, 'f', 0, 0)...)
	b = append(b, section(9, 1, 0, 0x41, 0, 0x0b, 1, 0)...)
	body := append([]byte{0}, append(code, 0x0b)...)
	return append(b, section(10, append(appendU32([]byte{1}, uint32(len(body))), body...)...)...)
}

// run calls f(arg) in the metered module with so much fuel, and gives what was
// drawn.
func run(t *testing.T, b []byte, arg uint64, fuel int64) (uint64, int64, error) {
	t.Helper()
	out, _, err := Inject(b, fuel)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer r.Close(ctx)
	spent := errors.New("spent")
	_, err = r.NewHostModuleBuilder(ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) { panic(spent) }), nil, nil).Export(ImportName).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := r.Instantiate(ctx, out)
	if err != nil {
		t.Fatal(err)
	}
	res, err := mod.ExportedFunction("f").Call(ctx, arg)
	left := int64(mod.ExportedGlobal(FuelExport).Get())
	if err != nil {
		if !errors.Is(err, spent) {
			t.Fatal(err)
		}
		return 0, fuel - left, err
	}
	return res[0], fuel - left, nil
}

func TestCharges(t *testing.T) {
	countdown := module(0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 0) // loop: i--; br_if
	for name, c := range map[string]struct {
		b     []byte
		arg   uint64
		want  uint64
		drawn int64
	}{
		"straight": {module(0x20, 0, 0x41, 7, 0x6a), 1, 8, 0},
		"loop":     {countdown, 100, 0, 100},
		"call":     {module(0x20, 0, 0x45, 0x04, 0x7f, 0x41, 42, 0x05, 0x20, 0, 0x41, 1, 0x6b, 0x10, 0, 0x0b), 9, 42, 10},
		"indirect": {module(0x20, 0, 0x45, 0x04, 0x7f, 0x41, 42, 0x05, 0x20, 0, 0x41, 1, 0x6b, 0x41, 0, 0x11, 0, 0, 0x0b), 9, 42, 10},
		"grow":     {module(0x20, 0, 0x40, 0), 2, 1, 2 * fuelPerPage},
		"fill":     {module(0x41, 0, 0x41, 1, 0x20, 0, 0xfc, 11, 0, 0x41, 3, 0x2d, 0, 0), 6400, 1, 100},
		"copy":     {module(0x41, 0, 0x41, 8, 0x20, 0, 0xfc, 10, 0, 0, 0x20, 0), 640, 640, 10},
		"global":   {module(0x23, 0, 0xa7), 1, 5, 0},
	} {
		got, drawn, err := run(t, c.b, c.arg, 1<<40)
		if err != nil || got != c.want || drawn != c.drawn {
			t.Errorf("%s: %d, drew %d, %v; want %d, %d", name, got, drawn, err, c.want, c.drawn)
		}
	}
	if _, _, err := run(t, module(0x03, 0x40, 0x0c, 0, 0x0b, 0x00), 0, 1000); err == nil {
		t.Error("an endless loop ended by itself")
	}
}

// A body that is long without a loop is charged too: a loop over calls of it
// would otherwise be nearly free.
func TestLongBodyIsCharged(t *testing.T) {
	code := []byte{0x20, 0}
	for range 5000 {
		code = append(code, 0x41, 1, 0x6a)
	}
	if _, drawn, err := run(t, module(code...), 1, 1<<40); err != nil || drawn < 10000/instrPerFuel {
		t.Errorf("drew %d, %v", drawn, err)
	}
}

func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                     {},
		"the counter read":          module(0x23, 1, 0xa7),
		"the counter written":       module(0x42, 1, 0x24, 1, 0x41, 0),
		"the tick called":           module(0x10, 1, 0x41, 0),
		"SIMD":                      module(0xfd, 12),
		"atomics":                   module(0xfe, 3, 0),
		"tail call":                 module(0x12, 0),
		"exceptions":                module(0x06, 0x40),
		"table.grow":                module(0xd0, 0x70, 0x41, 1, 0xfc, 15, 0),
		"table.fill":                module(0x41, 0, 0xd0, 0x70, 0x41, 1, 0xfc, 17, 0),
		"ref.func":                  module(0xd2, 0, 0x1a, 0x41, 0),
		"a second memory":           module(0x41, 0, 0x40, 1),
		"reserved export":           bytes.Replace(module(0x20, 0), section(7, 1, 1, 'f', 0, 0), section(7, append(append([]byte{1}, appendName(nil, FuelExport)...), 0, 0)...), 1),
		"exported global beyond":    bytes.Replace(module(0x20, 0), section(7, 1, 1, 'f', 0, 0), section(7, 1, 1, 'f', 3, 1), 1),
		"exported function beyond":  bytes.Replace(module(0x20, 0), section(7, 1, 1, 'f', 0, 0), section(7, 1, 1, 'f', 0, 1), 1),
		"element beyond":            bytes.Replace(module(0x20, 0), section(9, 1, 0, 0x41, 0, 0x0b, 1, 0), section(9, 1, 0, 0x41, 0, 0x0b, 1, 1), 1),
		"imported memory":           append([]byte("\x00asm\x01\x00\x00\x00"), section(2, 1, 1, 'e', 1, 'm', 2, 0, 1)...),
		"imported tick":             append(append([]byte("\x00asm\x01\x00\x00\x00"), section(1, 1, 0x60, 0, 0)...), section(2, append(append([]byte{1}, appendName(appendName(nil, ImportModule), ImportName)...), 0, 0)...)...),
		"reference parameter":       bytes.Replace(module(0x20, 0), section(1, 1, 0x60, 1, 0x7f, 1, 0x7f), section(1, 1, 0x60, 1, 0x6f, 1, 0x7f), 1),
		"vector global":             bytes.Replace(module(0x20, 0), section(6, 1, 0x7e, 1, 0x42, 5, 0x0b), section(6, 1, 0x7b, 1, 0x42, 5, 0x0b), 1),
		"counter in a constant":     bytes.Replace(module(0x20, 0), section(6, 1, 0x7e, 1, 0x42, 5, 0x0b), section(6, 1, 0x7e, 1, 0x23, 1, 0x0b), 1),
		"counter as an offset":      bytes.Replace(module(0x20, 0), section(9, 1, 0, 0x41, 0, 0x0b, 1, 0), section(9, 1, 0, 0x23, 1, 0x0b, 1, 0), 1),
		"shared memory":             bytes.Replace(module(0x20, 0), section(5, 1, 0, 1), section(5, 1, 3, 1, 1), 1),
		"64-bit memory":             bytes.Replace(module(0x20, 0), section(5, 1, 0, 1), section(5, 1, 4, 1), 1),
		"two memories":              bytes.Replace(module(0x20, 0), section(5, 1, 0, 1), section(5, 2, 0, 1, 0, 1), 1),
		"two tables":                bytes.Replace(module(0x20, 0), section(4, 1, 0x70, 0, 2), section(4, 2, 0x70, 0, 2, 0x70, 0, 2), 1),
		"exception section":         append(module(0x20, 0), section(13, 0)...),
		"huge table":                bytes.Replace(module(0x20, 0), section(4, 1, 0x70, 0, 2), section(4, 1, 0x70, 0, 0xff, 0xff, 0xff, 0x7f), 1),
		"sections out of order":     append(module(0x20, 0), section(1, 0)...),
		"body longer than it says":  module(0x0b, 0x0b),
		"block of a reference type": module(0x02, 0x70, 0x0b),
		"WM12 too many branches":    module(bytes.Repeat([]byte{0x02, 0x40, 0x0b}, 40000)...),
		"WM12 too many loops":       module(bytes.Repeat([]byte{0x03, 0x40, 0x0b}, 9000)...),
		"WM12 nested too deep":      module(append(bytes.Repeat([]byte{0x02, 0x40}, 9000), bytes.Repeat([]byte{0x0b}, 9000)...)...),
		"WM12 too many functions":   bytes.Replace(module(0x20, 0), section(3, 1, 0), section(3, append(appendU32(nil, maxFunctions+1), make([]byte, maxFunctions+1)...)...), 1),
	} {
		if _, _, err := Inject(b, 1); !errors.Is(err, ErrModule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCallsOfLeaves: a loop over calls of functions that draw nothing draws for
// them.
func TestCallsOfLeaves(t *testing.T) {
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(b, section(1, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0)...)
	b = append(b, section(3, 2, 0, 1)...)
	b = append(b, section(7, 1, 1, 'f', 0, 0)...)
	code := []byte{0, 0x03, 0x40} // loop: 256 calls; i--; br_if
	for range 256 {
		code = append(code, 0x10, 1)
	}
	code = append(code, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 0, 0x0b)
	leaf := append([]byte{0}, bytes.Repeat([]byte{0x01}, freeLeaf-1)...)
	leaf = append(leaf, 0x0b)
	body := append(appendU32([]byte{2}, uint32(len(code))), code...)
	body = append(appendU32(body, uint32(len(leaf))), leaf...)
	b = append(b, section(10, body...)...)
	const times = 100
	_, drawn, err := run(t, b, times, 1<<40)
	if run := int64(times * 256 * freeLeaf); err != nil || drawn*4*instrPerFuel < run {
		t.Errorf("drew %d for %d instructions: %v", drawn, run, err)
	}
}

// wide is a module with one of everything: "f", and "g", its sum.
func wide() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(b, section(1, 3, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0, 0x60, 2, 0x7f, 0x7f, 2, 0x7f, 0x7f)...)
	b = append(b, section(2, 1, 1, 'e', 1, 'd', 0, 0)...) // d doubles
	b = append(b, section(3, 3, 0, 1, 0)...)
	b = append(b, section(4, 1, 0x70, 0, 4)...)
	b = append(b, section(5, 1, 1, 1, 2)...)
	b = append(b, section(6, 2, 0x7f, 1, 0x41, 3, 0x0b, 0x7f, 0, 0x41, 2, 0x0b)...)
	b = append(b, section(7, 2, 1, 'f', 0, 1, 1, 'g', 3, 0)...)
	b = append(b, section(8, 2)...)
	b = append(b, section(9, 2, 0, 0x41, 0, 0x0b, 2, 0, 3, 5, 0x70, 1, 0xd2, 3, 0x0b)...) // table: d, h; passive: h
	b = append(b, section(12, 1)...)
	f := []byte{0, // global0 += d(x) by table; for i = x; i > 0; i--: global0 += 3; copy; result global0 + load8(9)
		0x23, 0, 0x20, 0, 0x41, 0, 0x11, 0, 0, 0x6a, 0x24, 0,
		0x41, 0, 0x20, 0, 0x03, 2, 0x23, 0, 0x41, 3, 0x6a, 0x24, 0, 0x41, 1, 0x6b, 0x22, 0, 0x20, 0, 0x0d, 0, 0x0b, 0x1a, 0x1a,
		0x41, 3, 0x41, 0, 0x41, 1, 0xfc, 12, 1, 0, // table.init
		0x41, 9, 0x41, 0, 0x41, 2, 0xfc, 10, 0, 0, // memory.copy
		0x23, 0, 0x41, 9, 0x2d, 0, 0, 0x6a, 0x41, 3, 0x11, 0, 0, 0x0b}
	start := []byte{0, 0x41, 0, 0x41, 0, 0x41, 3, 0xfc, 8, 0, 0, 0x41, 5, 0x10, 0, 0x24, 0, 0x0b} // memory.init; global0 = d(5)
	h := []byte{0, 0x20, 0, 0x10, 0, 0x41, 1, 0x6a, 0x0b}                                         // d(x) + 1
	body := []byte{3}
	for _, c := range [][]byte{f, start, h} {
		body = append(appendU32(body, uint32(len(c))), c...)
	}
	b = append(b, section(10, body...)...)
	b = append(b, section(11, 1, 1, 3, 7, 8, 9)...)
	b = append(b, section(0, 4, 'n', 'a', 'm', 'e', 1, 4, 1, 0, 1, 'd')...)
	return b
}

// TestSameMeaning: with an import, a start function, globals that refer to
// functions by table and multi-value loops, a module does what it did before.
func TestSameMeaning(t *testing.T) {
	b := wide()
	out, rep, err := Inject(b, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Functions != 3 || rep.Loops != 1 || rep.Bulk != 3 || len(rep.Imports) != 1 || len(rep.Exports) != 2 || rep.Exports[0].Type != "(i32) -> (i32)" {
		t.Errorf("%+v", rep)
	}
	if _, _, err := Inject(out, 1); !errors.Is(err, ErrModule) {
		t.Error("a metered module was metered again:", err)
	}
	ctx := context.Background()
	call := func(b []byte, x uint64) []uint64 {
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		for module, fn := range map[string]func(uint32) uint32{"e": func(x uint32) uint32 { return 2 * x }} {
			if _, err := r.NewHostModuleBuilder(module).NewFunctionBuilder().WithFunc(fn).Export("d").Instantiate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.NewHostModuleBuilder(ImportModule).NewFunctionBuilder().WithFunc(func() {}).Export(ImportName).Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		m, err := r.Instantiate(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		var all []uint64
		for range 3 {
			res, err := m.ExportedFunction("f").Call(ctx, x)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, res[0], m.ExportedGlobal("g").Get())
		}
		return all
	}
	for _, x := range []uint64{1, 2, 1000} {
		before, after := call(b, x), call(out, x)
		if !slices.Equal(before, after) {
			t.Errorf("f(%d): %v before, %v after", x, before, after)
		}
		if x == 1 && before[0] != 2*(10+2+3+7)+1 {
			t.Errorf("f(1) is %d", before[0])
		}
	}
}

// FuzzInject: whatever comes, an error or, where the module was valid, one that
// still is; never a panic.
func FuzzInject(f *testing.F) {
	f.Add(module(0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 0))
	f.Add(module(0x41, 0, 0x41, 8, 0x20, 0, 0xfc, 10, 0, 0, 0x20, 0))
	f.Add(module(0x0e, 1, 0, 0, 0x20, 0))
	f.Add(wide())
	f.Fuzz(func(t *testing.T, b []byte) {
		out, _, err := Inject(b, 1)
		if err != nil {
			return
		}
		ctx := context.Background()
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
		defer r.Close(ctx)
		_, before := r.CompileModule(ctx, b)
		_, after := r.CompileModule(ctx, out)
		if (before == nil) && after != nil {
			t.Fatalf("valid before, not after: %v", after)
		}
		// What was added must not be what makes it valid: it would be in reach.
		if before != nil && after == nil && !strings.Contains(before.Error(), "custom") {
			t.Fatalf("valid after, not before: %v", before)
		}
	})
}
