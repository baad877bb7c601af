package wasm

import (
	"hash/maphash"
	"sync"

	"github.com/taskgate/taskgate/abi"
)

// cache keeps verdicts by exactly the bytes that the module was sent, and the
// partition that it was asked for. It is bounded by bytes; a shard that is
// full starts again.
type cache struct {
	once   sync.Once
	seed   maphash.Seed
	shards [16]shard
}

type shard struct {
	mu   sync.RWMutex
	by   map[string]map[string]*abi.Verdict
	size int
}

// shardBytes bounds the keys of one shard.
const shardBytes = 1 << 20

func (c *cache) shard(key []byte) *shard {
	c.once.Do(func() { c.seed = maphash.MakeSeed() })
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

func (c *cache) get(key []byte, partition string) *abi.Verdict {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[partition][string(key)]
}

func (c *cache) put(key []byte, partition string, v *abi.Verdict) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size += len(key) + 256; s.size > shardBytes || s.by == nil {
		s.by, s.size = map[string]map[string]*abi.Verdict{}, len(key)+256
	}
	if s.by[partition] == nil {
		s.by[partition] = map[string]*abi.Verdict{}
	}
	s.by[partition][string(key)] = v
}
