package server

import (
	"slices"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// mask holds one mask against each resource of its task: where its column is
// not there, the task is closed at run time.
func (l *live) mask(t *catalog.Task, m *catalog.Mask) {
	for _, name := range t.Resources {
		s := l.schemas[name]
		if s == nil {
			continue
		}
		fault := func(format string, args ...any) { l.out.Faults = append(l.out.Faults, m.Wrong(format, args...)) }
		r := s.RelationByName[schema.Name{Namespace: m.Relation[0], Name: m.Relation[1]}]
		if r == nil {
			fault("there is no %s in %s, and while a mask has no column, nobody can do the task", m.Table(), name)
			continue
		}
		c := r.Column(m.Column)
		switch {
		case r.Kind == 'v':
			fault("%s is a view in %s: mask the table's column, what protects it goes through views", m.Table(), name)
		case r.Kind == 'S':
			fault("%s is a sequence in %s: masks are for a table's columns", m.Table(), name)
		case c == nil:
			fault("%s has no column %s in %s, and while a mask has no column, nobody can do the task", m.Table(), m.Column, name)
		default:
			if err := mask.Check(m.Rule, s.Class(c.Type)); err != nil {
				fault("%s is of type %s in %s: %v", m.Name(), typeName(s, c.Type), name, err)
			} else if _, err := mask.Express(m.Rule, s.Class(c.Type), s.TypeName(c.Type), "v"); err != nil && t.Blind {
				fault("%s is of type %s in %s, and the task is blind: %v", m.Name(), typeName(s, c.Type), name, err)
			}
			if m.Filter && s.Compared(c.Type) == nil {
				fault("%s is of type %s in %s, which `filter: eq` is not for: it is for text, integers, numeric, dates, timestamps, uuid and domains over them", m.Name(), typeName(s, c.Type), name)
			}
			l.kin(t, m, s, r)
		}
	}
}

// kin holds a mask that tells equal values apart against the rules that write
// its column through a partition, or what it is one of.
func (l *live) kin(t *catalog.Task, m *catalog.Mask, s *schema.Schema, r *schema.Relation) {
	if !m.Rule.Pure() {
		return
	}
	seen := []*schema.Relation{r}
	for i := 0; i < len(seen); i++ {
		for _, oid := range slices.Concat(seen[i].Parents, seen[i].Children) {
			if k := s.Relations[oid]; k != nil && !slices.Contains(seen, k) {
				seen = append(seen, k)
			}
		}
	}
	for _, k := range seen[1:] {
		if at := t.Writes(k.Name.Namespace+"."+k.Name.Name, m.Column); at != "" {
			l.out.Faults = append(l.out.Faults, m.Wrong("%s", m.Written(at)))
			return
		}
	}
}
