package meter

// reader walks the binary format (WebAssembly Core Specification, chapter 5).
// It fails by panicking with a fault.
type reader struct {
	b []byte
	i int
}

func (r *reader) end() bool { return r.i >= len(r.b) }

func (r *reader) done(section string) {
	if !r.end() {
		failf("%d bytes behind the end of the %s section", len(r.b)-r.i, section)
	}
}

func (r *reader) byte() byte {
	if r.i >= len(r.b) {
		failf("the module ends too early")
	}
	r.i++
	return r.b[r.i-1]
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b)-r.i {
		failf("a length of %d where %d bytes are left", n, len(r.b)-r.i)
	}
	r.i += n
	return r.b[r.i-n : r.i : r.i]
}

// u32 reads an unsigned LEB128 of 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	failf("a number over 32 bits")
	return 0
}

// leb skips a signed LEB128 of up to 64 bits.
func (r *reader) leb() {
	for range 10 {
		if r.byte() < 0x80 {
			return
		}
	}
	failf("a number over 64 bits")
}

// count reads the length of a list, which cannot be longer than what is left.
func (r *reader) count() uint32 {
	n := r.u32()
	if int64(n) > int64(len(r.b)-r.i) {
		failf("a list of %d entries where %d bytes are left", n, len(r.b)-r.i)
	}
	return n
}

func (r *reader) name() string { return string(r.take(int(r.u32()))) }

func (r *reader) limits() (least, most uint32) {
	switch r.byte() {
	case 0:
		return r.u32(), 0
	case 1:
		return r.u32(), r.u32()
	}
	failf("a shared or 64-bit table or memory")
	return 0, 0
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendI64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
