package mask

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/taskgate/taskgate/abi"
)

// readFloat reads a finite number.
func readFloat(cell []byte, c abi.Class, bin bool) (float64, bool) {
	var v float64
	switch {
	case bin && c == abi.ClassFloat4 && len(cell) == 4:
		v = float64(math.Float32frombits(binary.BigEndian.Uint32(cell)))
	case bin && c == abi.ClassFloat8 && len(cell) == 8:
		v = math.Float64frombits(binary.BigEndian.Uint64(cell))
	case bin || len(cell) > 32:
		return 0, false
	default:
		for _, b := range cell {
			if (b < '0' || b > '9') && b != '-' && b != '+' && b != '.' && b != 'e' {
				return 0, false
			}
		}
		var err error
		if v, err = strconv.ParseFloat(string(cell), floatBits(c)); err != nil {
			return 0, false
		}
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

func floatBits(c abi.Class) int {
	if c == abi.ClassFloat4 {
		return 32
	}
	return 64
}

// appendFloat writes as PostgreSQL does: the shortest digits that give the
// number again.
func appendFloat(dst []byte, v float64, c abi.Class, bin bool) []byte {
	switch {
	case bin && c == abi.ClassFloat4:
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(v)))
	case bin:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
	}
	form, plain := byte('f'), 1e15
	if c == abi.ClassFloat4 {
		plain = 1e6
	}
	if size := math.Abs(v); size != 0 && size < 1e-4 || size >= plain {
		form = 'e'
	}
	return strconv.AppendFloat(dst, v, form, -1, floatBits(c))
}
