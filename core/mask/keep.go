package mask

import (
	"bytes"
	"unicode/utf8"
)

// stars stand for whatever is hidden, however long it is.
const stars = "***"

// keep shows the first and the last characters.
type keep struct{ first, last int }

func (k *keep) mask(dst, cell []byte, _ bool) ([]byte, bool) {
	if !utf8.Valid(cell) {
		return dst, false
	}
	cell = trim(cell)
	if utf8.RuneCount(cell) <= k.first+k.last {
		return append(dst, stars...), true
	}
	head, tail := 0, len(cell)
	for range k.first {
		_, n := utf8.DecodeRune(cell[head:])
		head += n
	}
	for range k.last {
		_, n := utf8.DecodeLastRune(cell[:tail])
		tail -= n
	}
	return show(dst, cell, head, tail), true
}

// trim cuts the blanks that pad a char(n): they are no part of the value.
func trim(cell []byte) []byte { return bytes.TrimRight(cell, " ") }

// show hides what is between head and tail. Where that is blank nothing would
// be hidden, and nothing shows.
func show(dst, cell []byte, head, tail int) []byte {
	if len(trim(cell[head:tail])) == 0 {
		return append(dst, stars...)
	}
	dst = append(dst, cell[:head]...)
	dst = append(dst, stars...)
	return append(dst, cell[tail:]...)
}

func (k *keep) blank(dst []byte, _ bool) []byte { return append(dst, stars...) }

// keepTail shows what comes from the last separator on.
type keepTail struct{ sep []byte }

func (k *keepTail) mask(dst, cell []byte, _ bool) ([]byte, bool) {
	if !utf8.Valid(cell) {
		return dst, false
	}
	cell = trim(cell)
	at := bytes.LastIndex(cell, k.sep)
	if at < 0 {
		return append(dst, stars...), true
	}
	return show(dst, cell, 0, at), true
}

func (k *keepTail) blank(dst []byte, _ bool) []byte { return append(dst, stars...) }
