//go:build !wasip1

package guard

import "hash/fnv"

// Symbol stands in for the host where a guard is tested outside a sandbox: an
// id that is the same for the same name.
func Symbol(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32() | 1
}

// Log drops the line outside a sandbox.
func Log(string) {}
