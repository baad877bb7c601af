package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/core/strict"
)

// Live is what a catalog is against the resources as they are.
type Live struct {
	Faults strict.Faults // what the tasks name and no resource has, or what can never match
	Lock   *catalog.Lock // as the resources are now
	Drift  []string      // in which they differ from the lock
	Asked  []string      // resources, by name
}

// CheckLive asks every resource that a task names. The error is of those that do
// not answer, or are not what they should be.
func CheckLive(ctx context.Context, c *config.Config, cat *catalog.Catalog) (*Live, error) {
	l := &live{schemas: map[string]*schema.Schema{}, logins: map[string]bool{}, out: &Live{Lock: &catalog.Lock{Resources: map[string]*catalog.Locked{}}}}
	var failed []error
	asked := map[string]bool{}
	for _, t := range cat.Tasks {
		for _, name := range t.Resources {
			r := c.Resources[name]
			if r == nil {
				continue // Build names it
			}
			asked[name] = true
			if err := l.read(ctx, r, t); err != nil {
				failed = append(failed, fmt.Errorf("resource %s at %s: %w", name, r.Address, err))
			}
		}
		for _, w := range t.Written {
			l.rule(t, w)
		}
		for i := range t.Masks {
			l.mask(t, &t.Masks[i])
		}
	}
	if len(failed) > 0 {
		sort.Slice(failed, func(i, j int) bool { return failed[i].Error() < failed[j].Error() })
		return nil, errors.Join(failed...)
	}
	l.out.Asked = slices.Sorted(maps.Keys(asked))
	l.out.Drift = cat.Lock.Drift(l.out.Lock)
	return l.out, nil
}

type live struct {
	schemas map[string]*schema.Schema // by resource; the tables are the same for every login
	logins  map[string]bool           // by resource and login: those that have been looked at
	out     *Live
}

func (l *live) read(ctx context.Context, r *config.Resource, t *catalog.Task) error {
	login := loginOf(r, t)
	if l.logins[r.Name+"\x00"+login] {
		return nil
	}
	l.logins[r.Name+"\x00"+login] = true
	res, err := resource(r)
	if err != nil {
		return err
	}
	if r.Protocol == "ssh" {
		return reachHost(ctx, res, login)
	}
	s, err := schemaOf(ctx, res, login)
	if err != nil {
		return err
	}
	if err := postgres.Fit(s, res, login); err != nil {
		l.out.Faults = append(l.out.Faults, strict.Fault{File: t.File, Line: 1, Column: 1, Path: "login", Message: err.Error()})
	}
	l.schemas[r.Name] = s
	return nil
}

// loginOf is the login of a task at one of its resources.
func loginOf(r *config.Resource, t *catalog.Task) string {
	login := t.Login
	if login == "" {
		for login = range r.Logins {
			break
		}
	}
	return login
}

func schemaOf(ctx context.Context, res *gate.Resource, login string) (*schema.Schema, error) {
	return postgres.LoadSchema(ctx, func(ctx context.Context) (gate.Upstream, error) { return Dialer{}.Dial(ctx, res, login) })
}

// Schema asks a database for its tables, by the login that a task has there.
func Schema(ctx context.Context, r *config.Resource, t *catalog.Task) (*schema.Schema, error) {
	res, err := resource(r)
	if err != nil {
		return nil, err
	}
	s, err := schemaOf(ctx, res, loginOf(r, t))
	if err != nil {
		return nil, fmt.Errorf("resource %s at %s: %w", r.Name, r.Address, err)
	}
	return s, nil
}

func qualify(name string) schema.Name {
	namespace, table, _ := strings.Cut(name, ".")
	return schema.Name{Namespace: namespace, Name: table}
}

// rule holds one rule against the resources of its task.
func (l *live) rule(t *catalog.Task, w catalog.Written) {
	fault := func(format string, args ...any) { l.out.Faults = append(l.out.Faults, w.Wrong(format, args...)) }
	where := strings.Join(t.Resources, " or ")
	columns := map[string]bool{}
	for _, table := range w.Rule.Tables {
		found, key := false, false
		for _, name := range t.Resources {
			s := l.schemas[name]
			if s == nil {
				continue
			}
			r := s.RelationByName[qualify(table)]
			if r == nil {
				continue
			}
			found = true
			for i := range r.Indexes {
				key = key || r.Indexes[i].Unique && !r.Indexes[i].Partial && !r.Indexes[i].Expression
			}
			for i := range r.Columns {
				columns[r.Columns[i].Name] = true
			}
			if w.Star {
				l.lock(name, table, s, r)
			}
		}
		switch {
		case !found:
			fault("tables: there is no %s in %s", table, where)
		case w.Rule.Where == "key" && !key:
			fault("where: key: %s has no unique key, so the rule can never match", table)
		}
	}
	for _, c := range w.Rule.Columns {
		if c != "*" && !columns[c] && len(columns) > 0 {
			fault("columns: none of %s has a column %s", strings.Join(w.Rule.Tables, ", "), c)
		}
	}
	for _, f := range w.Rule.Functions {
		if !l.any(t, func(s *schema.Schema) bool {
			return slices.ContainsFunc(s.FunctionsNamed[qualify(f).Name], func(g *schema.Function) bool { return g.Name == qualify(f) })
		}) {
			fault("functions: there is no %s in %s", f, where)
		}
	}
	for _, e := range w.Rule.Effects {
		trigger, is := strings.CutPrefix(e, "trigger ")
		if !is {
			if !l.any(t, func(s *schema.Schema) bool { return s.RelationByName[qualify(e)] != nil }) {
				fault("effects: there is no %s in %s", e, where)
			}
			continue
		}
		if !l.trigger(t, trigger) {
			fault("effects: there is no trigger %s in %s", trigger, where)
		}
	}
}

func (l *live) any(t *catalog.Task, f func(*schema.Schema) bool) bool {
	return slices.ContainsFunc(t.Resources, func(name string) bool { return l.schemas[name] != nil && f(l.schemas[name]) })
}

// lock notes the columns of a relation that is listed with '*'.
func (l *live) lock(resource, table string, s *schema.Schema, r *schema.Relation) {
	columns := map[string]string{}
	for _, c := range r.Columns {
		columns[c.Name] = typeName(s, c.Type)
	}
	l.out.Lock.Resource(resource).Relations[table] = columns
}

func typeName(s *schema.Schema, oid schema.OID) string {
	switch t := s.Types[oid]; {
	case t == nil:
		return fmt.Sprintf("type %d", oid)
	case t.Name.Namespace == "pg_catalog":
		return t.Name.Name
	default:
		return t.Name.Namespace + "." + t.Name.Name
	}
}

// trigger notes the source of schema.table.name, and says whether there is one.
func (l *live) trigger(t *catalog.Task, name string) bool {
	parts := strings.SplitN(name, ".", 3)
	found := false
	for _, resource := range t.Resources {
		if s := l.schemas[resource]; s != nil && len(parts) == 3 {
			if r := s.RelationByName[schema.Name{Namespace: parts[0], Name: parts[1]}]; r != nil {
				for i := range r.Triggers {
					if r.Triggers[i].Name == parts[2] {
						l.out.Lock.Resource(resource).Triggers[name] = r.Triggers[i].SourceHash
						found = true
					}
				}
			}
		}
	}
	return found
}
