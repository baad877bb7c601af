package wasm

import (
	"hash/maphash"
	"sync"
	"time"

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
	by   map[partition]map[string]kept
	size int
}

type kept struct {
	verdict *abi.Verdict
	until   time.Time // the zero time is as long as the generation
}

const (
	shardBytes = 1 << 20 // of keys and replies in one shard
	entryBytes = 512     // what an entry takes beyond them, about
)

func (c *cache) shard(key []byte) *shard {
	c.once.Do(func() { c.seed = maphash.MakeSeed() })
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

func (c *cache) get(key []byte, p partition) *abi.Verdict {
	s := c.shard(key)
	s.mu.RLock()
	k := s.by[p][string(key)]
	s.mu.RUnlock()
	if !k.until.IsZero() && time.Now().After(k.until) {
		return nil
	}
	return k.verdict
}

// put keeps the verdict that a reply of so many bytes gave.
func (c *cache) put(key []byte, p partition, v *abi.Verdict, reply int) {
	k := kept{verdict: v}
	if v.CacheFor > 0 {
		k.until = time.Now().Add(time.Duration(v.CacheFor) * time.Second)
	}
	size := len(key) + 2*reply + entryBytes // a decoded reply takes more than its bytes, above all where it has lists
	size += 16*(len(v.Needs)+len(v.Tags)+len(v.Review.Groups)+len(v.Terms.Oracle)) + 400*len(v.Protect)
	if size > shardBytes {
		return
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size += size; s.size > shardBytes || s.by == nil {
		s.by, s.size = map[partition]map[string]kept{}, size
	}
	if s.by[p] == nil {
		s.by[p] = map[string]kept{}
	}
	s.by[p][string(key)] = k
}
