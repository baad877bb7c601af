package meter

func (m *injector) rewriteCode() []byte {
	defined := m.funcs[m.imported:]
	if m.sections[10] == nil {
		if len(defined) > 0 {
			failf("%d functions without code", len(defined))
		}
		return nil
	}
	r := &reader{b: m.sections[10]}
	n := r.count()
	if int(n) != len(defined) {
		failf("%d functions, %d bodies", len(defined), n)
	}
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/4), n)
	f := &function{m: m}
	for i := range n {
		size := r.u32()
		if size > maxBody {
			failf("a function of %d bytes", size)
		}
		body := f.rewrite(r.take(int(size)), m.types[defined[i]])
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	r.done("code")
	return out
}

// function rewrites one body at a time; its slices are used again.
type function struct {
	m     *injector
	out   []byte
	loops []int // instructions in the body of each loop, in the order of their headers
	open  []int // index into loops of each open block, -1 for one that is no loop
}

// number is true of the four types of MVP.
func number(t byte) bool { return t >= 0x7c && t <= 0x7f }

// survey is what the first pass over a body finds.
type survey struct {
	instructions int
	branches     uint64
	calls, bulk  bool
}

// rewrite gives the body with its charges: the first pass counts what every
// loop holds, the second copies and charges.
func (f *function) rewrite(body []byte, t funcType) []byte {
	r := &reader{b: body}
	groups := r.count()
	locals := uint64(len(t.params))
	for range groups {
		locals += uint64(r.u32())
		if t := r.byte(); !number(t) {
			failf("a local of the type %#x, which is not allowed", t)
		}
	}
	if locals > maxLocals {
		failf("a function with %d locals", locals)
	}
	header, code := body[:r.i], body[r.i:]
	if f.m.locals += locals; f.m.locals > allLocals {
		failf("more than %d locals in all functions together", allLocals)
	}
	s := f.survey(&reader{b: code})
	if f.m.work += s.branches * s.branches; f.m.work > maxWork {
		failf("functions with so many branches that compiling them would take too long: split the largest, of %d branches", s.branches)
	}

	f.out = f.out[:0]
	if s.bulk { // one i32 more, for the length of a bulk operation
		h := &reader{b: header}
		h.u32()
		f.out = append(appendU32(f.out, groups+1), header[h.i:]...)
		f.out = append(f.out, 1, 0x7f)
	} else {
		f.out = append(f.out, header...)
	}
	if s.calls || s.instructions > freeLeaf {
		f.m.rep.Entries++
		f.charge(s.instructions)
	}
	f.copy(&reader{b: code}, uint32(locals))
	return f.out
}

func (f *function) survey(r *reader) (s survey) {
	f.loops, f.open = f.loops[:0], append(f.open[:0], -1)
	for len(f.open) > 0 {
		s.instructions++
		at := r.i
		op, bulk := f.instruction(r)
		if op == 0x10 || op == 0x11 {
			s.instructions += instrPerCall
		}
		switch op {
		case 0x02, 0x04:
			s.branches++
			f.open = append(f.open, -1)
		case 0x0d:
			s.branches++
		case 0x0e:
			s.branches += uint64(r.i-at) / 4 // a target costs a tenth or so of what others do
		case 0x03:
			s.branches += loopBranches
			f.open = append(f.open, len(f.loops))
			f.loops = append(f.loops, -s.instructions)
		case 0x0b:
			if l := f.open[len(f.open)-1]; l >= 0 {
				f.loops[l] += s.instructions
			}
			f.open = f.open[:len(f.open)-1]
		case 0x10, 0x11:
			s.calls = true
		}
		s.bulk = s.bulk || bulk
		if len(f.open) > maxNesting {
			failf("blocks nested over %d deep", maxNesting)
		}
	}
	r.done("body")
	return s
}

func (f *function) copy(r *reader, local uint32) {
	depth, loop := 1, 0
	for depth > 0 {
		at := r.i
		op, bulk := f.instruction(r)
		raw := r.b[at:r.i]
		switch {
		case op == 0x10:
			i := &reader{b: raw[1:]}
			f.out = appendU32(append(f.out, op), f.m.shift(i.u32()))
			continue
		case bulk:
			f.m.rep.Bulk++
			f.chargeLength(local, op == 0x40)
		}
		f.out = append(f.out, raw...)
		switch op {
		case 0x02, 0x04:
			depth++
		case 0x03:
			depth++
			f.m.rep.Loops++
			f.charge(f.loops[loop])
			loop++
		case 0x0b:
			depth--
		}
	}
}

// charge draws what a body of so many instructions costs.
func (f *function) charge(instructions int) {
	g := f.m.globals
	b := appendU32(append(f.out, 0x23), g)
	b = appendI64(append(b, 0x42), int64(1+instructions/instrPerFuel))
	b = appendU32(append(b, 0x7d, 0x24), g) // i64.sub, global.set
	f.out = b
	f.check()
}

// chargeLength draws what a bulk operation costs, whose length is on top of
// the stack and stays there.
func (f *function) chargeLength(local uint32, pages bool) {
	g := f.m.globals
	b := appendU32(append(f.out, 0x22), local) // local.tee
	b = append(b, 0x1a)                        // drop
	b = appendU32(append(b, 0x23), g)
	b = appendU32(append(b, 0x20), local)
	b = append(b, 0xad) // i64.extend_i32_u
	if pages {
		b = appendI64(append(b, 0x42), fuelPerPage)
		b = append(b, 0x7e) // i64.mul
	} else {
		b = appendI64(append(b, 0x42), bytesPerFuel)
		b = append(b, 0x80) // i64.div_u
	}
	b = appendU32(append(b, 0x7d, 0x24), g)
	f.out = b
	f.check()
	f.out = appendU32(append(f.out, 0x20), local)
}

// check calls the host when the counter is below zero.
func (f *function) check() {
	b := appendU32(append(f.out, 0x23), f.m.globals)
	b = append(b, 0x42, 0, 0x53, 0x04, 0x40) // i64.const 0, i64.lt_s, if
	f.out = append(appendU32(append(b, 0x10), f.m.imported), 0x0b)
}

// instruction steps over one instruction and gives its opcode, and whether it
// is charged by the length on top of the stack. memory.grow gives 0x40.
func (f *function) instruction(r *reader) (op byte, bulk bool) {
	op = r.byte()
	switch {
	case op == 0x02 || op == 0x03 || op == 0x04:
		f.blockType(r)
	case op == 0x0c || op == 0x0d: // br, br_if
		r.u32()
	case op == 0x0e: // br_table
		for range r.count() {
			r.u32()
		}
		r.u32()
	case op == 0x10: // call
		r.u32()
	case op == 0x11: // call_indirect
		f.m.typeAt(r.u32())
		f.table(r)
	case op <= 0x01 || op == 0x05 || op == 0x0b || op == 0x0f || op == 0x1a || op == 0x1b:
	case op == 0x20 || op == 0x21 || op == 0x22: // local.*
		r.u32()
	case op == 0x23 || op == 0x24: // global.*
		if i := r.u32(); i >= f.m.globals {
			failf("global %d does not exist", i)
		}
	case op >= 0x28 && op <= 0x3e: // loads and stores
		if r.u32() > 31 {
			failf("a memory access with an alignment that is not allowed")
		}
		r.u32()
	case op == 0x3f || op == 0x40: // memory.size, memory.grow
		if r.byte() != 0 {
			failf("a second memory")
		}
		bulk = op == 0x40
	case op == 0x41 || op == 0x42:
		r.leb()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op >= 0x45 && op <= 0xc4: // numeric, sign extension
	case op == 0xfc:
		return op, f.extended(r)
	default:
		failf("instruction %#x is of a feature that is not allowed", op)
	}
	return op, bulk
}

// extended steps over what follows 0xfc: saturating conversions and bulk
// memory.
func (f *function) extended(r *reader) (bulk bool) {
	switch sub := r.u32(); sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		return false
	case 8: // memory.init
		r.u32()
		f.zero(r)
	case 9, 13: // data.drop, elem.drop
		r.u32()
		return false
	case 10: // memory.copy
		f.zero(r)
		f.zero(r)
	case 11: // memory.fill
		f.zero(r)
	case 12: // table.init
		r.u32()
		f.table(r)
	case 14: // table.copy
		f.table(r)
		f.table(r)
	default:
		failf("instruction 0xfc %d is not allowed", sub)
	}
	return true
}

func (f *function) zero(r *reader) {
	if r.byte() != 0 {
		failf("a second memory")
	}
}

func (f *function) table(r *reader) {
	if i := r.u32(); i >= f.m.tables {
		failf("table %d does not exist", i)
	}
}

func (f *function) blockType(r *reader) {
	switch b := r.b[min(r.i, len(r.b)-1)]; {
	case r.end():
		failf("the module ends too early")
	case b == 0x40 || b >= 0x7c && b <= 0x7f:
		r.i++
	case b >= 0x40 && b < 0x80:
		failf("a block of a type that is not allowed")
	default: // a type index, as a signed number that is never negative
		f.m.typeAt(r.u32())
	}
}
