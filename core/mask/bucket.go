package mask

import (
	"fmt"
	"math"

	"github.com/taskgate/taskgate/abi"
)

func buildBucket(r Rule, c abi.Class) (masker, error) {
	width, ok := widthArg(r.Arg)
	if !ok {
		return nil, malformed(r)
	}
	switch c {
	case abi.ClassNumeric:
		return &bucketNumeric{width}, nil
	case abi.ClassFloat4:
		return &bucketFloat{c, float64(width.n), float64(powers[width.scale]), 1 << 24}, nil
	case abi.ClassFloat8:
		return &bucketFloat{c, float64(width.n), float64(powers[width.scale]), 1 << 53}, nil
	}
	if width.scale > 0 || width.n < 2 || !fitsInt(width.n, c) {
		return nil, fmt.Errorf("bucket: a whole number from 2 on is expected, as far as %s goes: %s would hide nothing, or everything", classes[c], r.Arg)
	}
	return &bucketInt{c, width.n}, nil
}

// floor gives the multiple of width that is not above v.
func floor(v, width int64) (int64, bool) {
	above := v % width
	if above < 0 {
		above += width
	}
	return v - above, v >= math.MinInt64+above
}

type bucketInt struct {
	class abi.Class
	width int64
}

func (b *bucketInt) mask(dst, cell []byte, bin bool) ([]byte, bool) {
	v, ok := readInt(cell, b.class, bin)
	if !ok {
		return dst, false
	}
	if v, ok = floor(v, b.width); !ok || !fitsInt(v, b.class) {
		return dst, false
	}
	return appendInt(dst, v, b.class, bin), true
}

func (b *bucketInt) blank(dst []byte, bin bool) []byte { return appendInt(dst, 0, b.class, bin) }

type bucketNumeric struct{ width decimal }

// mask shows as many decimals as the width has: those of the cell would tell
// something of it.
func (b *bucketNumeric) mask(dst, cell []byte, bin bool) ([]byte, bool) {
	v, ok := floorNumeric(cell, b.width.scale, bin)
	if !ok {
		return dst, false
	}
	if v, ok = floor(v, b.width.n); !ok {
		return dst, false
	}
	return appendNumeric(dst, v, b.width.scale, bin), true
}

func (b *bucketNumeric) blank(dst []byte, bin bool) []byte {
	return appendNumeric(dst, 0, b.width.scale, bin)
}

// bucketFloat has a width of by / unit, both whole, so that a width of 0.1
// gives 0.3 and not 0.30000000000000004.
type bucketFloat struct {
	class    abi.Class
	by, unit float64
	most     float64 // buckets: beyond them a number is as coarse as the width, and would show
}

func (b *bucketFloat) mask(dst, cell []byte, bin bool) ([]byte, bool) {
	v, ok := readFloat(cell, b.class, bin)
	if !ok {
		return dst, false
	}
	bucket := math.Floor(v * b.unit / b.by)
	switch { // a quotient is rounded: the bucket is the one whose start is not above v
	case b.start(bucket+1) <= v:
		bucket++
	case b.start(bucket) > v:
		bucket--
	}
	if math.Abs(bucket) >= b.most {
		return dst, false
	}
	return appendFloat(dst, b.start(bucket), b.class, bin), true
}

// start is where a bucket begins, as the type can have it; never -0.
func (b *bucketFloat) start(bucket float64) float64 {
	v := bucket*b.by/b.unit + 0
	if b.class == abi.ClassFloat4 {
		return float64(float32(v))
	}
	return v
}

func (b *bucketFloat) blank(dst []byte, bin bool) []byte { return appendFloat(dst, 0, b.class, bin) }
