package gate

import (
	"errors"
	"slices"
	"strings"
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

// use is one session's reference on a generation, so that processors do not take
// the count from each other with each command. It is under the session's mu.
type use struct {
	generation *Generation
	n          int // exchanges, and one for being the session's present
}

// end takes one off and says whether the reference is to be released.
func (u *use) end() bool {
	u.n--
	return u.n == 0
}

// uses makes the session's present use one of the present generation, and says
// whether there is one. The caller holds mu.
func (s *Session) uses() bool {
	if s.closed {
		return false
	}
	gen := s.gate.Current()
	if s.use != nil && s.use.generation == gen {
		return true
	}
	if s.use != nil || gen == nil || !gen.use() { // who has another is about to be told to forget it
		return false
	}
	s.use = &use{gen, 1}
	return true
}

// forget ends the session's use of any generation but the present.
func (s *Session) forget(present *Generation) {
	s.mu.Lock()
	u := s.use
	last := false
	if u != nil && u.generation != present {
		s.use, last = nil, u.end()
	}
	s.mu.Unlock()
	if last {
		u.generation.release()
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
		s.forget(next)
		if err := next.Permits(s.abi.Task, s.abi.Resource, s.abi.Groups); err != nil {
			s.End(&Ended{Reason: err.Error()})
			continue
		}
		s.rejudge(next)
	}
	if old != nil {
		old.release()
	}
}

// Regroup tells the sessions of a login which groups its subject has now, or
// why the login is over. A session whose task no group gives any more ends; one
// that lost any other group ends where a guard is shown the groups, since it was
// let in with them. It returns how many ended.
func (g *Gate) Regroup(login string, groups []string, over error) int {
	gen, n := g.Current(), 0
	for _, s := range g.Sessions() {
		if s.grant.Login != login {
			continue
		}
		why := over
		if why == nil {
			why = gen.Permits(s.abi.Task, s.abi.Resource, groups)
		}
		if why == nil && gen.inputs&abi.InputSession != 0 && !subset(s.abi.Groups, groups) {
			why = errors.New("your groups have changed: connect again")
		}
		if why != nil {
			s.End(&Ended{Reason: "the right to task " + quote(s.abi.Task) + " has ended: " + why.Error()})
			n++
		}
	}
	return n
}

func subset(a, of []string) bool {
	for _, x := range a {
		if !slices.Contains(of, x) {
			return false
		}
	}
	return true
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

// Allowed gives the tasks that these groups give, by name.
func (gen *Generation) Allowed(groups []string) []*Task {
	var list []*Task
	for _, t := range gen.Tasks {
		if slices.ContainsFunc(t.Groups, func(g string) bool { return slices.Contains(groups, g) }) {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *Task) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// choice says which tasks these groups give on a resource: who has several
// names one, and nobody is given one that was not named.
func (gen *Generation) choice(resource string, groups []string) string {
	var names []string
	for _, t := range gen.Allowed(groups) {
		if gen.Resources[resource] != nil && slices.Contains(t.Resources, resource) {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return "none of your tasks covers the resource " + quote(resource) + ": `taskgate whoami` lists them"
	}
	return "your tasks for the resource " + quote(resource) + ": " + strings.Join(names, ", ")
}

// Permits says why a subject with these groups may not do the task on the
// resource, nil where it may.
func (gen *Generation) Permits(task, resource string, groups []string) error {
	t := gen.Tasks[task]
	if t == nil {
		return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-task", Message: "no such task for you: " + quote(task)}}
	}
	if !slices.ContainsFunc(t.Groups, func(g string) bool { return slices.Contains(groups, g) }) { // the same words as for a task that does not exist
		return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-task", Message: "no such task for you: " + quote(task)}}
	}
	for _, r := range t.Resources {
		if r == resource && gen.Resources[r] != nil {
			return nil
		}
	}
	return &Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.no-resource", Message: "task " + quote(task) + " does not cover the resource " + quote(resource)}}
}
