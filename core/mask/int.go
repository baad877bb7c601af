package mask

import (
	"encoding/binary"
	"strconv"

	"github.com/taskgate/taskgate/abi"
)

func intSize(c abi.Class) int {
	switch c {
	case abi.ClassInt2:
		return 2
	case abi.ClassInt4:
		return 4
	}
	return 8
}

// readInt reads a cell of a class of integers.
func readInt(cell []byte, c abi.Class, bin bool) (int64, bool) {
	size := intSize(c)
	if bin {
		switch {
		case len(cell) != size:
			return 0, false
		case size == 2:
			return int64(int16(binary.BigEndian.Uint16(cell))), true
		case size == 4:
			return int64(int32(binary.BigEndian.Uint32(cell))), true
		}
		return int64(binary.BigEndian.Uint64(cell)), true
	}
	if len(cell) > 20 || len(cell) == 0 || cell[0] == '+' {
		return 0, false
	}
	v, err := strconv.ParseInt(string(cell), 10, size*8)
	return v, err == nil
}

func appendInt(dst []byte, v int64, c abi.Class, bin bool) []byte {
	if !bin {
		return strconv.AppendInt(dst, v, 10)
	}
	switch intSize(c) {
	case 2:
		return binary.BigEndian.AppendUint16(dst, uint16(v))
	case 4:
		return binary.BigEndian.AppendUint32(dst, uint32(v))
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v))
}

// fitsInt says whether a number is in the range of a class of integers.
func fitsInt(v int64, c abi.Class) bool {
	shift := 64 - 8*intSize(c)
	return v<<shift>>shift == v
}
