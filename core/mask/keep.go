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
	dst = append(dst, cell[:head]...)
	dst = append(dst, stars...)
	return append(dst, cell[tail:]...), true
}

func (k *keep) blank(dst []byte, _ bool) []byte { return append(dst, stars...) }

// keepTail shows what comes from the last separator on.
type keepTail struct{ sep []byte }

func (k *keepTail) mask(dst, cell []byte, _ bool) ([]byte, bool) {
	if !utf8.Valid(cell) {
		return dst, false
	}
	dst = append(dst, stars...)
	if at := bytes.LastIndex(cell, k.sep); at > 0 { // at the beginning it would hide nothing
		dst = append(dst, cell[at:]...)
	}
	return dst, true
}

func (k *keepTail) blank(dst []byte, _ bool) []byte { return append(dst, stars...) }
