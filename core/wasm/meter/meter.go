// Package meter rewrites a WebAssembly module so that it cannot run for longer
// than its host wants: it adds a fuel counter that loops, calls and bulk
// operations draw from, and a call into the host when the counter is spent.
//
// The engine's own interruption costs eight to thirteen times the guest's
// running time, and without any an endless loop stops the whole process at the
// next garbage collection; see docs/rationale.md.
package meter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Names that the rewritten module gets and that no module may bring along.
const (
	ImportModule = "taskgate:meter" // of the function that is called when fuel is spent
	ImportName   = "tick"           // () -> (); returns to go on, traps to stop
	FuelExport   = "taskgate_fuel"  // the counter, a mutable i64
)

// Costs of what does more work than an instruction.
const (
	bytesPerFuel   = 64   // of memory.fill, copy and init, table.copy and init
	fuelPerPage    = 1024 // of memory.grow
	instrPerFuel   = 256  // of a loop's or function's body
	instrPerCall   = 16   // what a call counts for: it may be of a leaf, which draws nothing
	freeLeaf       = 64   // instructions of a function without calls that draws nothing when entered
	maxTable       = 1 << 17
	maxBody        = 1 << 26
	sectionsNumber = 13
)

// What a module may have, since nothing ends the engine while it compiles: the
// time that it takes grows with these, and with the square of the branches of
// one function. A guard in Go has a hundredth of it.
const (
	maxFunctions = 1 << 17
	maxValues    = 1000    // parameters and results of one function
	maxLocals    = 50000   // of one function
	allLocals    = 1 << 22 // of all of them
	maxNesting   = 1 << 13
	maxWork      = 1 << 30 // squares of branches, over all functions
	loopBranches = 4       // what a loop counts for
)

// Report says what was found and done.
type Report struct {
	Functions int // defined
	Loops     int // that were charged
	Entries   int // of functions that were charged
	Bulk      int // bulk operations that were charged
	Imports   []Import
	Exports   []Export
	MinPages  uint32 // of the memory
}

// Import is one import of the original module.
type Import struct {
	Module, Name string
	Kind         byte   // 0 function, 1 table, 2 memory, 3 global
	Type         string // of a function: "(i32 i64) -> (i32)"
}

// Export is one export of the original module.
type Export struct {
	Name string
	Kind byte
	Type string // of a function
}

// ErrModule is wrapped by everything that Inject refuses.
var ErrModule = errors.New("not a module that can be metered")

// Inject gives the module with fuel bytes of initial fuel. What it does not
// understand it refuses, so that no unmetered instruction gets through.
func Inject(module []byte, fuel int64) (out []byte, rep Report, err error) {
	m := &injector{fuel: fuel}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case fault:
			out, err = nil, fmt.Errorf("meter: %w: %s", ErrModule, string(f))
		default:
			panic(f)
		}
	}()
	out = m.run(module)
	return out, m.rep, nil
}

// fault unwinds the parser; Inject turns it into an error.
type fault string

func failf(format string, args ...any) { panic(fault(fmt.Sprintf(format, args...))) }

type funcType struct{ params, results []byte }

func (t funcType) String() string {
	return "(" + words(t.params) + ") -> (" + words(t.results) + ")"
}

func words(types []byte) string {
	var list []string
	for _, t := range types {
		switch t {
		case 0x7f:
			list = append(list, "i32")
		case 0x7e:
			list = append(list, "i64")
		case 0x7d:
			list = append(list, "f32")
		case 0x7c:
			list = append(list, "f64")
		default:
			list = append(list, "ref")
		}
	}
	return strings.Join(list, " ")
}

type injector struct {
	fuel     int64
	rep      Report
	sections [sectionsNumber][]byte
	types    []funcType
	funcs    []uint32 // type of each function, imported ones first
	imported uint32   // functions
	globals  uint32   // original, imported ones included
	tables   uint32
	memories uint32
	tick     uint32 // type of the tick function

	locals, work uint64 // what the bounds of a module are held against
}

func (m *injector) run(module []byte) []byte {
	r := &reader{b: module}
	if string(r.take(8)) != "\x00asm\x01\x00\x00\x00" {
		failf("no WebAssembly 1 header")
	}
	seen := -1
	order := [sectionsNumber]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 12: 10, 10: 11, 11: 12}
	for !r.end() {
		id := r.byte()
		body := r.take(int(r.u32()))
		if id == 0 {
			continue // custom sections name functions by their old places; nothing needs them
		}
		if int(id) >= sectionsNumber {
			failf("section %d is of a feature that is not allowed", id)
		}
		if order[id] <= seen {
			failf("section %d is out of order", id)
		}
		seen = order[id]
		m.sections[id] = body
	}
	m.readTypes()
	m.readImports()
	m.readFunctions()
	m.readTables()
	m.readMemories()
	m.sections[6] = m.rewriteGlobals()
	m.sections[7] = m.rewriteExports()
	m.rewriteStart()
	m.sections[9] = m.rewriteElements()
	m.sections[10] = m.rewriteCode()
	m.checkData()
	out := append(make([]byte, 0, len(module)+len(module)/4), module[:8]...)
	for _, id := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if s := m.sections[id]; s != nil {
			out = append(out, byte(id))
			out = append(appendU32(out, uint32(len(s))), s...)
		}
	}
	return out
}

func (m *injector) readTypes() {
	n := uint32(0)
	if m.sections[1] != nil {
		r := &reader{b: m.sections[1]}
		n = r.count()
		for range n {
			if r.byte() != 0x60 {
				failf("a type that is not a function")
			}
			t := funcType{r.take(int(r.u32())), r.take(int(r.u32()))}
			if n := len(t.params) + len(t.results); n > maxValues {
				failf("a function with %d parameters and results: at most %d", n, maxValues)
			}
			for _, v := range slices.Concat(t.params, t.results) {
				if !number(v) {
					failf("a function with a value of the type %#x, which is not allowed", v)
				}
			}
			m.types = append(m.types, t)
		}
		r.done("type")
		r = &reader{b: m.sections[1]}
		r.u32()
		m.sections[1] = append(appendU32(nil, n+1), r.b[r.i:]...)
	} else {
		m.sections[1] = []byte{1}
	}
	m.sections[1] = append(m.sections[1], 0x60, 0, 0)
	m.tick = n
}

func (m *injector) readImports() {
	var rest []byte
	n := uint32(0)
	if s := m.sections[2]; s != nil {
		r := &reader{b: s}
		n = r.count()
		rest = s[r.i:]
		for range n {
			im := Import{Module: r.name(), Name: r.name(), Kind: r.byte()}
			switch im.Kind {
			case 0:
				t := m.typeAt(r.u32())
				im.Type = m.types[t].String()
				m.funcs = append(m.funcs, t)
			case 3:
				if t := r.byte(); !number(t) {
					failf("import %q is a global of the type %#x, which is not allowed", im.Name, t)
				}
				if r.byte() > 1 {
					failf("import %q has an unknown mutability", im.Name)
				}
				m.globals++
			default:
				failf("import %q of %q is a table or a memory: a module brings its own", im.Name, im.Module)
			}
			if im.Module == ImportModule {
				failf("import module %q is reserved", ImportModule)
			}
			m.rep.Imports = append(m.rep.Imports, im)
		}
		r.done("import")
	}
	m.imported = uint32(len(m.funcs))
	s := append(appendU32(nil, n+1), rest...)
	s = appendName(appendName(s, ImportModule), ImportName)
	m.sections[2] = appendU32(append(s, 0), m.tick)
}

func (m *injector) typeAt(i uint32) uint32 {
	if i >= uint32(len(m.types)) {
		failf("type %d does not exist", i)
	}
	return i
}

func (m *injector) readFunctions() {
	if m.sections[3] == nil {
		return
	}
	r := &reader{b: m.sections[3]}
	n := r.count()
	if n > maxFunctions {
		failf("%d functions: at most %d", n, maxFunctions)
	}
	for range n {
		m.funcs = append(m.funcs, m.typeAt(r.u32()))
	}
	r.done("function")
	m.rep.Functions = len(m.funcs) - int(m.imported)
}

func (m *injector) readTables() {
	if m.sections[4] == nil {
		return
	}
	r := &reader{b: m.sections[4]}
	if m.tables = r.count(); m.tables > 1 {
		failf("%d tables: at most one", m.tables)
	}
	for range m.tables {
		if r.byte() != 0x70 {
			failf("a table of something else than functions")
		}
		if least, _ := r.limits(); least > maxTable {
			failf("a table of %d entries: at most %d", least, maxTable)
		}
	}
	r.done("table")
}

func (m *injector) readMemories() {
	if m.sections[5] == nil {
		return
	}
	r := &reader{b: m.sections[5]}
	if m.memories = r.count(); m.memories > 1 {
		failf("%d memories: at most one", m.memories)
	}
	for range m.memories {
		m.rep.MinPages, _ = r.limits()
	}
	r.done("memory")
}

// shift moves a function's index past the tick import.
func (m *injector) shift(i uint32) uint32 {
	if i >= uint32(len(m.funcs)) {
		failf("function %d does not exist", i)
	}
	if i >= m.imported {
		return i + 1
	}
	return i
}

// rewriteGlobals appends the counter, last, so that no index changes.
func (m *injector) rewriteGlobals() []byte {
	var body []byte
	n := uint32(0)
	if s := m.sections[6]; s != nil {
		r := &reader{b: s}
		n = r.count()
		for range n {
			head := r.take(2)
			if !number(head[0]) {
				failf("a global of the type %#x, which is not allowed", head[0])
			}
			body = append(body, head...)
			body = m.constant(r, body)
			m.globals++
		}
		r.done("global")
	}
	s := append(appendU32(nil, n+1), body...)
	s = appendI64(append(s, 0x7e, 1, 0x42), m.fuel)
	return append(s, 0x0b)
}

// constant copies a constant expression.
func (m *injector) constant(r *reader, out []byte) []byte {
	for {
		at := r.i
		op := r.byte()
		switch op {
		case 0x0b:
			return append(out, op)
		case 0x41, 0x42:
			r.leb()
		case 0x43:
			r.take(4)
		case 0x44:
			r.take(8)
		case 0x23:
			if i := r.u32(); i >= m.globals {
				failf("global %d does not exist here", i)
			}
		case 0xd0:
			r.byte()
		case 0xd2:
			out = appendU32(append(out, op), m.shift(r.u32()))
			continue
		default:
			failf("instruction %#x in a constant expression", op)
		}
		out = append(out, r.b[at:r.i]...)
	}
}

func (m *injector) rewriteExports() []byte {
	var body []byte
	n := uint32(0)
	if s := m.sections[7]; s != nil {
		r := &reader{b: s}
		n = r.count()
		for range n {
			name, kind, i := r.name(), r.byte(), r.u32()
			if strings.HasPrefix(name, "taskgate") && !ours(name) {
				failf("export %q: the prefix taskgate is reserved", name)
			}
			e := Export{Name: name, Kind: kind}
			switch kind {
			case 0:
				to := m.shift(i)
				e.Type = m.types[m.funcs[i]].String()
				i = to
			case 1, 2:
			case 3:
				if i >= m.globals {
					failf("export %q: global %d does not exist", name, i)
				}
			default:
				failf("export %q is of an unknown kind", name)
			}
			m.rep.Exports = append(m.rep.Exports, e)
			body = appendU32(append(appendName(body, name), kind), i)
		}
		r.done("export")
	}
	s := append(appendU32(nil, n+1), body...)
	return appendU32(append(appendName(s, FuelExport), 3), m.globals)
}

// ours are the exports of the reserved prefix that a module may have.
func ours(name string) bool {
	if v, ok := strings.CutPrefix(name, "taskgate_abi_v"); ok {
		return v != "" && strings.Trim(v, "0123456789") == ""
	}
	return name == "taskgate_v1_buffer" || name == "taskgate_v1_call" || strings.HasPrefix(name, "taskgate_requires_")
}

func (m *injector) rewriteStart() {
	if m.sections[8] == nil {
		return
	}
	r := &reader{b: m.sections[8]}
	i := m.shift(r.u32())
	r.done("start")
	m.sections[8] = appendU32(nil, i)
}

func (m *injector) rewriteElements() []byte {
	if m.sections[9] == nil {
		return nil
	}
	r := &reader{b: m.sections[9]}
	n := r.count()
	out := appendU32(nil, n)
	for range n {
		flag := r.u32()
		if flag > 7 {
			failf("an element segment of kind %d", flag)
		}
		out = appendU32(out, flag)
		if flag&1 == 0 { // active
			if flag&2 != 0 {
				out = appendU32(out, r.u32())
			}
			out = m.constant(r, out)
		}
		if flag&3 != 0 {
			kind := r.byte()
			if flag&4 == 0 && kind != 0 || flag&4 != 0 && kind != 0x70 {
				failf("an element segment of something else than functions")
			}
			out = append(out, kind)
		}
		count := r.count()
		out = appendU32(out, count)
		for range count {
			if flag&4 == 0 {
				out = appendU32(out, m.shift(r.u32()))
			} else {
				out = m.constant(r, out)
			}
		}
	}
	r.done("element")
	return out
}

func (m *injector) checkData() {
	if m.sections[12] != nil {
		r := &reader{b: m.sections[12]}
		r.u32()
		r.done("data count")
	}
	if m.sections[11] == nil {
		return
	}
	r := &reader{b: m.sections[11]}
	for range r.count() {
		switch flag := r.u32(); flag {
		case 0:
			m.constant(r, nil)
		case 1:
		case 2:
			if r.u32() != 0 {
				failf("data for a second memory")
			}
			m.constant(r, nil)
		default:
			failf("a data segment of kind %d", flag)
		}
		r.take(int(r.u32()))
	}
	r.done("data")
}
