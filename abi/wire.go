package abi

import (
	"errors"
)

// The wire types of protobuf that the ABI uses (Protocol Buffers encoding
// specification, "Message Structure"). Groups and the 32-bit type are refused.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

// ErrWire says that a message is not well-formed: truncated, a varint over 64
// bits, field number 0 or over 2^29-1, or a wire type that the ABI does not use.
var ErrWire = errors.New("abi: malformed message")

// AppendUint appends field num with a varint value; the zero value is left out.
func AppendUint(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendVarint(appendVarint(b, uint64(num)<<3|wireVarint), v)
}

// AppendString appends field num with its bytes; an empty one is left out.
func AppendString[T ~string | ~[]byte](b []byte, num int, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return AppendElement(b, num, v)
}

// AppendElement appends one element of a repeated field, empty ones too.
func AppendElement[T ~string | ~[]byte](b []byte, num int, v T) []byte {
	b = appendVarint(b, uint64(num)<<3|wireBytes)
	b = appendVarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// Reader walks the fields of one message without copying it. What Bytes gives
// is valid as long as the message is. The zero value is an empty message.
type Reader struct {
	rest []byte
	err  error

	Num   int    // of the field that Next found
	Uint  uint64 // its value where it is a number, else 0
	Bytes []byte // its value where it is bytes, else nil
}

// Read starts at the first field of message.
func Read(message []byte) Reader { return Reader{rest: message} }

// Next moves to the next field. It reports false at the end of the message and
// at the first fault, which Err then names.
func (r *Reader) Next() bool {
	r.Num, r.Uint, r.Bytes = 0, 0, nil
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	tag, ok := r.varint()
	num := tag >> 3
	if !ok || num == 0 || num > 1<<29-1 {
		return r.fail()
	}
	switch tag & 7 {
	case wireVarint:
		if r.Uint, ok = r.varint(); !ok {
			return r.fail()
		}
	case wireFixed64:
		if len(r.rest) < 8 {
			return r.fail()
		}
		for i := range 8 {
			r.Uint |= uint64(r.rest[i]) << (8 * i)
		}
		r.rest = r.rest[8:]
	case wireBytes:
		n, ok := r.varint()
		if !ok || n > uint64(len(r.rest)) {
			return r.fail()
		}
		r.Bytes = r.rest[:n:n]
		r.rest = r.rest[n:]
	default:
		return r.fail()
	}
	r.Num = int(num)
	return true
}

// Err is nil as long as everything read was well-formed.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail() bool {
	r.Uint, r.Bytes, r.err = 0, nil, ErrWire
	return false
}

func (r *Reader) varint() (uint64, bool) {
	var v uint64
	for i, c := range r.rest {
		if i == 9 && c > 1 || i > 9 {
			return 0, false
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.rest = r.rest[i+1:]
			return v, true
		}
	}
	return 0, false
}
