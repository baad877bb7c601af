package sql

import (
	"slices"
	"sync"

	"github.com/taskgate/taskgate/abi"
)

// few is a set that mostly holds few: those are compared one by one, and a map
// is made where there are more.
type few[K comparable] struct {
	list  []K
	index map[K]bool
}

// add says whether it was not there.
func (f *few[K]) add(k K) bool {
	const most = 16
	if f.index == nil {
		if slices.Contains(f.list, k) {
			return false
		}
		if f.list = append(f.list, k); len(f.list) > most {
			f.index = map[K]bool{}
			for _, k := range f.list {
				f.index[k] = true
			}
		}
		return true
	}
	if f.index[k] {
		return false
	}
	f.index[k] = true
	f.list = append(f.list, k)
	return true
}

func (f *few[K]) empty() {
	clear(f.list)
	f.list, f.index = f.list[:0], nil
}

// lot gives out pieces of a larger slice, so that a list costs no allocation of
// its own. What was given out is nobody else's until the lot is given back.
type lot[T any] struct {
	all  []T
	used int
}

func (l *lot[T]) take(n int) []T {
	if n > len(l.all)-l.used {
		l.all, l.used = make([]T, max(n, 32, 2*len(l.all))), 0
	}
	out := l.all[l.used : l.used+n : l.used+n]
	l.used += n
	return out
}

// next takes one.
func (l *lot[T]) next() *T { return &l.take(1)[0] }

// back makes all of it free again. A large one is not kept.
func (l *lot[T]) back() {
	if clear(l.all[:l.used]); len(l.all) > 4096 {
		l.all = nil
	}
	l.used = 0
}

// memory is what an analysis and those within it take from and leave behind.
// None of it is part of what they give.
type memory struct {
	root      analyzer
	found     operations
	nodes     lot[int32]
	columnLot lot[column]
	sources   lot[source]
	origins   lot[origin]
	refs      lot[*origin]
	scopes    lot[scope]
	making    lot[operation]
	listed    lot[abi.Column] // of operations
	pieces    lot[string]     // of names
	tracing   tracing
	spent     int
	out       []byte // what is being written out
	written   []edit
	traces    []*few[source]     // that nobody uses
	shows     map[string]*column // what columns of views show and generated ones are made of, by their names
}

// kept is a slice that is empty again, but for a large one. What stands behind its
// end, of an earlier statement of the same text, stays until something is written
// over it.
func kept[T any](s []T) []T {
	if cap(s) > 256 {
		return nil
	}
	clear(s)
	return s[:0]
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// release gives the memory to the next analysis.
func (m *memory) release() {
	m.written, m.found = kept(m.root.edits), operations{known: kept(m.found.known), list: kept(m.found.list)}
	m.root, m.shows, m.spent = analyzer{}, nil, 0
	m.tracing = tracing{seen: few[lineageKey]{list: kept(m.tracing.seen.list)}, copies: kept(m.tracing.copies), computed: kept(m.tracing.computed), all: kept(m.tracing.all), sizes: kept(m.tracing.sizes)}
	if len(m.traces) > 16 {
		m.traces = nil
	}
	if cap(m.out) > 1<<16 {
		m.out = nil
	}
	m.nodes.back()
	m.columnLot.back()
	m.sources.back()
	m.origins.back()
	m.refs.back()
	m.scopes.back()
	m.making.back()
	m.listed.back()
	m.pieces.back()
	memories.Put(m)
}
