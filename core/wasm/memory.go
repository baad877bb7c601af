package wasm

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// mapping is the linear memory of one instance, by mmap: pages that it never
// touches cost nothing, growing copies nothing, the garbage collector does not
// count it, and closing gives all of it back at once.
type mapping struct{ all []byte }

// Allocate implements experimental.MemoryAllocator. A mapping that cannot be
// had has no room, and so the instantiation fails.
func (m *mapping) Allocate(_, most uint64) experimental.LinearMemory {
	if b, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE); err == nil {
		m.all = b
	}
	return m
}

// Reallocate implements experimental.LinearMemory.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	return m.all[:size:size]
}

// Free implements experimental.LinearMemory. It may be called twice: the
// engine does not free the memory of every instantiation that fails.
func (m *mapping) Free() {
	if m.all != nil {
		_ = unix.Munmap(m.all)
		m.all = nil
	}
}
