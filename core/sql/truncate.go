package sql

import (
	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// truncate takes TRUNCATE. With CASCADE it is as if all tables were named that
// have a foreign key to one of them, as the server wants the right to truncate each.
// With RESTART IDENTITY it alters the sequences of all of them, as ALTER SEQUENCE …
// RESTART does and as the server wants them owned for: no rule for a table covers that.
func (a *analyzer) truncate(n int32) Part {
	var list []*schema.Relation
	for _, re := range a.list(a.kid(n, "relation_expr_list"), "relation_expr") {
		list = append(list, a.table(a.find(re, "qualified_name")))
	}
	cascade, restart := a.find(n, "CASCADE") != 0, a.find(n, "RESTART") != 0
	seen := map[schema.OID]bool{}
	for len(list) > 0 {
		r := list[0]
		if list = list[1:]; seen[r.OID] {
			continue
		}
		seen[r.OID] = true
		a.follows(a.touch("truncate", r, "", abi.EffectWrite), r, 't', nil, nil)
		if cascade {
			list = append(list, a.referring(r)...)
		}
		if restart {
			a.restart(r)
		}
	}
	return Part{Kind: Write, Cascades: cascade}
}

// restart alters the sequences that columns of a table, or of what is behind it, own.
func (a *analyzer) restart(r *schema.Relation) {
	for _, oid := range r.Sequences {
		s := a.c.Schema.Relations[oid]
		if s == nil {
			a.refuse("a sequence of %s that is not known", r.Name.Name)
		}
		a.alters("alter_sequence", s)
	}
	for _, oid := range r.Children {
		child := a.c.Schema.Relations[oid]
		if child == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		a.restart(child)
	}
}

// referring gives the tables with a foreign key to a table or to what is behind it.
func (a *analyzer) referring(r *schema.Relation) (list []*schema.Relation) {
	for i := range r.Referenced {
		from := a.c.Schema.Relations[r.Referenced[i].From]
		if from == nil {
			a.refuse("a foreign key of a table that is not known")
		}
		list = append(list, from)
	}
	for _, oid := range r.Children {
		child := a.c.Schema.Relations[oid]
		if child == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		list = append(list, a.referring(child)...)
	}
	return list
}
