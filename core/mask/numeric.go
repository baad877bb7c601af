package mask

import (
	"encoding/binary"
	"math"
	"strconv"
)

var powers = [...]int64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// floorNumeric reads a numeric and rounds it down to scale decimals: it gives
// the value times 10^scale. What does not fit is not ok.
func floorNumeric(cell []byte, scale int, bin bool) (int64, bool) {
	var m magnitude
	var neg, ok bool
	if bin {
		neg, ok = m.binary(cell, scale)
	} else {
		neg, ok = m.text(cell, scale)
	}
	switch {
	case !ok || m.over:
		return 0, false
	case neg && m.rest:
		return -m.n - 1, true
	case neg:
		return -m.n, true
	}
	return m.n, true
}

// magnitude is a number without its sign, as far as it is read.
type magnitude struct {
	n    int64
	rest bool // something is behind the last decimal that counts
	over bool // it does not fit
}

func (m *magnitude) add(by, digit int64) {
	if m.n > (math.MaxInt64-digit)/by {
		m.over = true
		return
	}
	m.n = m.n*by + digit
}

// text reads -123.450; NaN and infinities are none.
func (m *magnitude) text(cell []byte, scale int) (neg, ok bool) {
	if neg = len(cell) > 0 && cell[0] == '-'; neg {
		cell = cell[1:]
	}
	decimals, digits := -1, 0 // decimals so far, -1 before the point
	for _, c := range cell {
		switch {
		case c == '.' && decimals < 0 && digits > 0:
			decimals, digits = 0, 0
			continue
		case c < '0' || c > '9':
			return neg, false
		case decimals == scale:
			m.rest = m.rest || c != '0'
		default:
			m.add(10, int64(c-'0'))
			if decimals >= 0 {
				decimals++
			}
		}
		digits++
	}
	for range scale - max(decimals, 0) {
		m.add(10, 0)
	}
	return neg, digits > 0
}

// binary reads digits to the base 10000: how many, the weight of the first, the
// sign, how many decimals are shown, and the digits.
func (m *magnitude) binary(cell []byte, scale int) (neg, ok bool) {
	if len(cell) < 8 {
		return false, false
	}
	count := int(binary.BigEndian.Uint16(cell))
	weight := int(int16(binary.BigEndian.Uint16(cell[2:])))
	sign := binary.BigEndian.Uint16(cell[4:])
	digits := cell[8:]
	if len(digits) != 2*count || sign != 0 && sign != numericNegative {
		return false, false
	}
	for i := range count {
		if binary.BigEndian.Uint16(digits[2*i:]) > 9999 {
			return false, false
		}
	}
	at := 0
	next := func(place int) int64 { // the digit at a place, counted from the point
		if at == count || place > weight-at {
			return 0
		}
		at++
		return int64(binary.BigEndian.Uint16(digits[2*(at-1):]))
	}
	for place := weight; place >= 0 && !m.over; place-- {
		m.add(1e4, next(place))
	}
	place := -1
	for ; scale >= 4; scale -= 4 {
		m.add(1e4, next(place))
		place--
	}
	if scale > 0 {
		digit, cut := next(place), powers[4-scale]
		m.add(powers[scale], digit/cut)
		m.rest = digit%cut != 0
	}
	for ; at < count; at++ {
		m.rest = m.rest || digits[2*at] != 0 || digits[2*at+1] != 0
	}
	return sign == numericNegative, true
}

const numericNegative = 0x4000

// appendNumeric writes n / 10^scale, scale at most mostDigits.
func appendNumeric(dst []byte, n int64, scale int, bin bool) []byte {
	size := uint64(n)
	if n < 0 {
		size = -size
	}
	unit := uint64(powers[scale])
	whole, part := size/unit, size%unit
	if bin {
		return appendNumericBinary(dst, whole, part, scale, n < 0)
	}
	if n < 0 {
		dst = append(dst, '-')
	}
	dst = strconv.AppendUint(dst, whole, 10)
	if scale == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit /= 10; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+part/unit%10))
	}
	return dst
}

func appendNumericBinary(dst []byte, whole, part uint64, scale int, neg bool) []byte {
	var digits [10]uint16 // five before the point hold every uint64, four behind it every scale
	point := 5
	for i := point - 1; i >= 0; i-- {
		digits[i] = uint16(whole % 1e4)
		whole /= 1e4
	}
	decimals := (scale + 3) / 4
	part *= uint64(powers[4*decimals-scale])
	for i := point + decimals - 1; i >= point; i-- {
		digits[i] = uint16(part % 1e4)
		part /= 1e4
	}
	first, end := 0, point+decimals
	for first < end && digits[first] == 0 {
		first++
	}
	for end > first && digits[end-1] == 0 {
		end--
	}
	weight, sign := point-1-first, uint16(0)
	if first == end {
		weight = 0
	}
	if neg {
		sign = numericNegative
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(end-first))
	dst = binary.BigEndian.AppendUint16(dst, uint16(weight))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(scale))
	for _, d := range digits[first:end] {
		dst = binary.BigEndian.AppendUint16(dst, d)
	}
	return dst
}
