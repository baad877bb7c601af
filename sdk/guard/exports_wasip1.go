package guard

import (
	"unsafe"

	"github.com/taskgate/taskgate/abi"
)

// input is the buffer that the host writes to, of words so that it is aligned.
var input []uint64

//go:wasmexport taskgate_abi_v1
func abiV1() {}

//go:wasmexport taskgate_v1_buffer
func buffer(least int32) int32 {
	if words := (int(least) + 7) / 8; words > len(input) {
		input = make([]uint64, words)
	}
	return int32(uintptr(unsafe.Pointer(unsafe.SliceData(input))))
}

//go:wasmexport taskgate_v1_call
func call(hook, n int32) int64 {
	if int(n) > 8*len(input) {
		return int64(abi.StatusBadInput)
	}
	in := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(input))), n)
	reply, status, err := Call(abi.Hook(hook), in)
	if err != nil {
		text := []byte(err.Error())
		hostFail(unsafe.Pointer(unsafe.SliceData(text)), int32(len(text)))
		if status == abi.StatusNothing {
			status = abi.StatusInternal
		}
		return int64(status)
	}
	if len(reply) == 0 && status != abi.StatusNothing {
		return int64(status)
	}
	if reply == nil {
		return 0
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(reply[:1])))
	return int64(at)<<32 | int64(len(reply))
}

//go:wasmimport taskgate:core/v1 fail
func hostFail(at unsafe.Pointer, n int32)

//go:wasmimport taskgate:core/v1 log
func hostLog(level int32, at unsafe.Pointer, n int32)

//go:wasmimport taskgate:core/v1 symbol
func hostSymbol(at unsafe.Pointer, n int32) int32

// Symbol gives the host's id for a name, or for an object's parts joined by
// NUL (abi.ObjectKey). It may be called in Configure alone; 0 is none.
func Symbol(name string) uint32 {
	return uint32(hostSymbol(unsafe.Pointer(unsafe.StringData(name)), int32(len(name))))
}

// Log writes a line to the gateway's log.
func Log(line string) { hostLog(1, unsafe.Pointer(unsafe.StringData(line)), int32(len(line))) }
