package abi

// begin opens field num as a nested message; end closes it. Between the two
// the message's own fields are appended. The length is written afterwards and
// the content moved, so that nothing has to be measured or allocated first.
func begin(b []byte, num int) ([]byte, int) {
	b = appendVarint(b, uint64(num)<<3|wireBytes)
	return append(b, 0), len(b) + 1
}

func end(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	var head [10]byte
	h := appendVarint(head[:0], uint64(n))
	for range len(h) - 1 {
		b = append(b, 0)
	}
	copy(b[start-1+len(h):], b[start:start+n])
	copy(b[start-1:], h)
	return b
}
