package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"math/bits"
	"math/rand/v2"
	"unicode"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// keyed is a masker that needs a key. It does without none: whoever can guess
// a value could then know it again.
type keyed interface{ unlock(key []byte) bool }

// What the HMAC is made over begins with one of these, so that no value can
// have the HMAC of another use, nor that of NULL.
const (
	hashed     = "h"
	hashedNull = "H"
	tokened    = "t"
	tokenNull  = "T"
	intTokened = "i"
)

// digest is HMAC-SHA256 with its room, so that a cell needs none of its own.
type digest struct {
	mac  hash.Hash
	use  [1]byte
	sum  [sha256.Size]byte
	room [256]byte
}

func (d *digest) unlock(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	d.mac = hmac.New(sha256.New, key)
	return true
}

func (d *digest) begin(use string) {
	d.mac.Reset()
	d.use[0] = use[0]
	d.mac.Write(d.use[:])
}

func (d *digest) end() { d.mac.Sum(d.sum[:0]) }

func (d *digest) of(use string, b []byte) {
	d.begin(use)
	d.mac.Write(b)
	d.end()
}

// hashes shows whether two values are equal, and nothing else of them.
type hashes struct {
	class abi.Class
	digest
}

func (h *hashes) mask(dst, cell []byte, binary bool) ([]byte, bool) {
	switch {
	case binary && h.class == abi.ClassUUID && len(cell) != 16, !binary && !h.bytes(cell):
		return dst, false
	case binary:
		h.of(hashed, cell)
	}
	return h.show(dst, binary), true
}

// bytes makes the digest of what a cell in text form stands for.
func (h *hashes) bytes(cell []byte) bool {
	h.begin(hashed)
	switch h.class {
	case abi.ClassUUID:
		if !readUUID(h.room[:16], cell) {
			return false
		}
		h.mac.Write(h.room[:16])
	case abi.ClassBytea:
		if len(cell) < 2 || cell[0] != '\\' || cell[1] != 'x' || len(cell)%2 != 0 { // bytea_output is escape
			return false
		}
		for rest := cell[2:]; len(rest) > 0; {
			n := min(len(rest), 2*len(h.room))
			if _, err := hex.Decode(h.room[:], rest[:n]); err != nil {
				return false
			}
			h.mac.Write(h.room[:n/2])
			rest = rest[n:]
		}
	default:
		h.mac.Write(cell)
	}
	h.end()
	return true
}

func (h *hashes) blank(dst []byte, binary bool) []byte {
	h.of(hashedNull, nil)
	return h.show(dst, binary)
}

func (h *hashes) show(dst []byte, binary bool) []byte {
	short := h.sum[:16]
	switch {
	case h.class == abi.ClassText:
		return hex.AppendEncode(dst, short)
	case h.class == abi.ClassUUID:
		short[6] = short[6]&0x0f | 0x80 // version 8 is free for what it is made of
		short[8] = short[8]&0x3f | 0x80
		if !binary {
			return appendUUID(dst, short)
		}
	case !binary:
		return hex.AppendEncode(append(dst, `\x`...), short)
	}
	return append(dst, short...)
}

// readUUID reads the form that PostgreSQL writes.
func readUUID(to, text []byte) bool {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return false
	}
	for _, part := range [...][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
		n, err := hex.Decode(to, text[part[0]:part[1]])
		if err != nil {
			return false
		}
		to = to[n:]
	}
	return true
}

func appendUUID(dst, id []byte) []byte {
	for i, part := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, id[part[0]:part[1]])
	}
	return dst
}

// tokens puts something of the same shape in a value's place. It is no
// permutation: two values can have one token.
type tokens struct {
	class abi.Class
	digest
	random rand.ChaCha8
	word   uint64 // of random, not used up
}

func (t *tokens) mask(dst, cell []byte, binary bool) ([]byte, bool) {
	if t.class == abi.ClassText {
		return t.text(dst, cell)
	}
	v, ok := readInt(cell, t.class, binary)
	if !ok {
		return dst, false
	}
	return appendInt(dst, t.int(v), t.class, binary), true
}

func (t *tokens) blank(dst []byte, bin bool) []byte {
	t.of(tokenNull, nil)
	if t.class != abi.ClassText {
		return appendInt(dst, int64(1000+binary.BigEndian.Uint64(t.sum[:])%9000), t.class, bin)
	}
	t.seed()
	for range 8 {
		dst = append(dst, 'a'+t.below(26))
	}
	return dst
}

// text leaves ASCII that is neither letter nor digit. Whatever is beyond ASCII
// becomes a letter: in most scripts it is one, and it would show.
func (t *tokens) text(dst, cell []byte) ([]byte, bool) {
	if !utf8.Valid(cell) {
		return dst, false
	}
	t.of(tokened, cell)
	t.seed()
	hidden := len(cell) == 0
	for i := 0; i < len(cell); {
		c, n := rune(cell[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRune(cell[i:])
		}
		i += n
		switch {
		case unicode.IsDigit(c):
			dst = append(dst, '0'+t.below(10))
		case unicode.IsUpper(c):
			dst = append(dst, 'A'+t.below(26))
		case c >= utf8.RuneSelf || 'a' <= c && c <= 'z':
			dst = append(dst, 'a'+t.below(26))
		default:
			dst = append(dst, byte(c))
			continue
		}
		hidden = true
	}
	return dst, hidden
}

func (t *tokens) seed() {
	t.random.Seed(t.sum)
	t.word = 0
}

// below gives a number under n: 32 bits of random make the bias of no account.
func (t *tokens) below(n uint64) byte {
	if t.word == 0 {
		t.word = t.random.Uint64()
	}
	b := (t.word & math.MaxUint32) * n >> 32
	t.word >>= 32
	return byte(b)
}

// int keeps the sign and the number of digits.
func (t *tokens) int(v int64) int64 {
	size := uint64(v)
	if v < 0 {
		size = -size
	}
	most := uint64(1)<<(intSize(t.class)*8-1) - 1
	low, high := uint64(0), uint64(9)
	for size > high {
		low = high + 1
		if high = high*10 + 9; high >= most {
			high = most
			break
		}
	}
	if v < 0 {
		low = max(low, 1)
	}
	binary.BigEndian.PutUint64(t.room[:], uint64(v))
	t.of(intTokened, t.room[:8])
	n, _ := bits.Mul64(binary.BigEndian.Uint64(t.sum[:]), high-low+1)
	if v < 0 {
		return -int64(low + n)
	}
	return int64(low + n)
}
