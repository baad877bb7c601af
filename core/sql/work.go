package sql

import "slices"

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

// lot gives out pieces of larger slices, so that a list costs no allocation of
// its own. What was given out is nobody else's.
type lot[T any] struct{ rest []T }

func (l *lot[T]) take(n int) []T {
	if n > len(l.rest) {
		l.rest = make([]T, max(n, 64))
	}
	out := l.rest[:n:n]
	l.rest = l.rest[n:]
	return out
}

// memory is what an analysis and those within it take their lists from.
type memory struct {
	nodes  lot[int32]
	pieces lot[string]
	out    []byte             // what is being written out
	traces []*few[source]     // that nobody uses
	shows  map[string]*column // what columns of views show and generated ones are made of, by their names
}
