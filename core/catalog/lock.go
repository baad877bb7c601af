package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/strict"
)

// LockFile is the name of the lock, beside the task files.
const LockFile = "taskgate.lock"

// Lock is what a person has accepted of the resources as they are: the columns
// that '*' means, and the source of the triggers that effects name.
type Lock struct {
	Resources map[string]*Locked
}

// Locked is what is accepted of one resource.
type Locked struct {
	Relations map[string]map[string]string // schema.name -> column -> type
	Triggers  map[string]string            // schema.table.trigger -> SHA-256 of its function's source
}

func readLock(dir string, faults *strict.Faults) *Lock {
	l := &Lock{Resources: map[string]*Locked{}}
	path := filepath.Join(dir, LockFile)
	b, err := strict.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l
	}
	if err != nil {
		*faults = append(*faults, strict.Fault{File: path, Line: 1, Column: 1, Message: err.Error()})
		return l
	}
	strict.Parse(path, b, faults).Each(func(name string, n strict.Node) {
		r := l.Resource(name)
		n.Fields(map[string]func(strict.Node){
			"relations": func(n strict.Node) {
				n.Each(func(name string, n strict.Node) {
					r.Relations[name] = map[string]string{}
					n.Each(func(column string, n strict.Node) { r.Relations[name][column] = n.String() })
				})
			},
			"triggers": func(n strict.Node) {
				n.Each(func(name string, n strict.Node) { r.Triggers[name] = n.String() })
			},
		})
	})
	return l
}

// Resource gives what is accepted of a resource, making it where there is none.
func (l *Lock) Resource(name string) *Locked {
	if l.Resources[name] == nil {
		l.Resources[name] = &Locked{Relations: map[string]map[string]string{}, Triggers: map[string]string{}}
	}
	return l.Resources[name]
}

// String gives the lock as the file has it: the same content is the same text.
func (l *Lock) String() string {
	var b strings.Builder
	b.WriteString("# What '*' means, and which triggers effects accept. Written by `taskgate check --live --accept`: read what changes.\n")
	for _, name := range slices.Sorted(maps.Keys(l.Resources)) {
		r := l.Resources[name]
		fmt.Fprintf(&b, "%q:\n", name)
		if len(r.Relations) > 0 {
			b.WriteString("  relations:\n")
		}
		for _, rel := range slices.Sorted(maps.Keys(r.Relations)) {
			fmt.Fprintf(&b, "    %q:\n", rel)
			for _, column := range slices.Sorted(maps.Keys(r.Relations[rel])) {
				fmt.Fprintf(&b, "      %q: %q\n", column, r.Relations[rel][column])
			}
		}
		if len(r.Triggers) > 0 {
			b.WriteString("  triggers:\n")
		}
		for _, trigger := range slices.Sorted(maps.Keys(r.Triggers)) {
			fmt.Fprintf(&b, "    %q: %q\n", trigger, r.Triggers[trigger])
		}
	}
	return b.String()
}

// Write replaces the lock of a catalog, whole or not at all.
func (l *Lock) Write(dir string) error {
	f, err := os.CreateTemp(dir, LockFile+".*")
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(l.String())
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, LockFile))
	}
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

// Drift says what next has otherwise, a line for each difference.
func (l *Lock) Drift(next *Lock) (lines []string) {
	for name, n := range next.Resources {
		was := l.Resources[name]
		if was == nil {
			was = &Locked{}
		}
		for rel, columns := range n.Relations {
			if was.Relations[rel] == nil {
				lines = append(lines, fmt.Sprintf("%s: %s is new, with %s", name, rel, strings.Join(slices.Sorted(maps.Keys(columns)), ", ")))
				continue
			}
			for c, t := range columns {
				switch old, ok := was.Relations[rel][c]; {
				case !ok:
					lines = append(lines, fmt.Sprintf("%s: %s.%s is new, of type %s", name, rel, c, t))
				case old != t:
					lines = append(lines, fmt.Sprintf("%s: %s.%s was of type %s and is of type %s", name, rel, c, old, t))
				}
			}
		}
		for trigger, sum := range n.Triggers {
			if old, ok := was.Triggers[trigger]; !ok {
				lines = append(lines, fmt.Sprintf("%s: the trigger %s is new", name, trigger))
			} else if old != sum {
				lines = append(lines, fmt.Sprintf("%s: the source of the trigger %s has changed", name, trigger))
			}
		}
	}
	for name, was := range l.Resources {
		n := next.Resources[name]
		if n == nil {
			n = &Locked{}
		}
		for rel, columns := range was.Relations {
			if n.Relations[rel] == nil {
				lines = append(lines, fmt.Sprintf("%s: %s is gone, or no task lists it with '*' any longer", name, rel))
				continue
			}
			for c := range columns {
				if _, ok := n.Relations[rel][c]; !ok {
					lines = append(lines, fmt.Sprintf("%s: %s.%s is gone", name, rel, c))
				}
			}
		}
		for trigger := range was.Triggers {
			if _, ok := n.Triggers[trigger]; !ok {
				lines = append(lines, fmt.Sprintf("%s: the trigger %s is gone, or no task accepts it any longer", name, trigger))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// columns gives what '*' means for a relation: what is accepted of it at every
// resource of the task that has it.
func (l *Lock) columns(resources []string, relation string) (columns []string, ok bool) {
	for _, name := range resources {
		r := l.Resources[name]
		if r == nil || r.Relations[relation] == nil {
			continue
		}
		here := slices.Sorted(maps.Keys(r.Relations[relation]))
		if !ok {
			columns, ok = here, true
			continue
		}
		columns = slices.DeleteFunc(columns, func(c string) bool { return !slices.Contains(here, c) })
	}
	return columns, ok
}
