package gate

import (
	"sync/atomic"

	"github.com/taskgate/taskgate/abi"
)

// Generation is one immutable set of guards, tasks and resources. A reload
// makes the next. A generation without guards refuses everything.
type Generation struct {
	Number    uint64
	Digest    string // over the catalog, the settings and the modules
	Guards    []Guard
	Tasks     map[string]*Task
	Resources map[string]*Resource
	Close     func() // frees the modules, once nothing uses them; may be nil

	refs    atomic.Int64 // exchanges and hooks that still use it, and one for being current
	inputs  abi.Inputs   // that any guard asks for
	results bool         // any guard looks at results
}

// use takes a reference; false where the generation has been closed already.
func (gen *Generation) use() bool {
	for {
		n := gen.refs.Load()
		if n <= 0 {
			return false
		}
		if gen.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (gen *Generation) release() {
	if gen.refs.Add(-1) == 0 && gen.Close != nil {
		gen.Close()
	}
}

// Swap makes next the generation that judges from the next command on, in live
// sessions too, and closes the old one when its last exchange is done. A
// session whose task or resource is gone ends.
func (g *Gate) Swap(next *Generation) {
	next.Number = g.number.Add(1)
	for _, guard := range next.Guards {
		next.inputs |= guard.Inputs()
		next.results = next.results || guard.Results()
	}
	next.refs.Store(1)
	old := g.current.Swap(next)
	for _, s := range g.Sessions() {
		if err := next.permits(s.abi.Task, s.abi.Resource, s.abi.Groups); err != nil {
			s.End(&Ended{Reason: err.Error()})
		}
	}
	if old != nil {
		old.release()
	}
}

// Current gives the present generation for looking at, nil before the first.
func (g *Gate) Current() *Generation { return g.current.Load() }

// acquire gives the present generation with a reference on it.
func (g *Gate) acquire() *Generation {
	for {
		gen := g.current.Load()
		if gen == nil || gen.use() {
			return gen
		}
	}
}

// permits says why a subject with these groups may not do the task on the
// resource, nil where it may.
func (gen *Generation) permits(task, resource string, groups []string) error {
	t := gen.Tasks[task]
	if t == nil {
		return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-task", Message: "no such task for you: " + quote(task)}}
	}
	member := false
	for _, want := range t.Groups {
		for _, have := range groups {
			member = member || want == have
		}
	}
	if !member { // the same words as for a task that does not exist
		return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-task", Message: "no such task for you: " + quote(task)}}
	}
	for _, r := range t.Resources {
		if r == resource && gen.Resources[r] != nil {
			return nil
		}
	}
	return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-resource", Message: "task " + quote(task) + " does not cover the resource " + quote(resource)}}
}
