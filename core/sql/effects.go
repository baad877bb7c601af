package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

var verbs = map[byte]string{'i': "insert", 'u': "update", 'd': "delete", 't': "truncate"}

// follows adds what the server does beside changing the rows of a table:
// triggers, generated columns and foreign keys, of r and of what is behind it.
// event is i, u, d or t, seen are the foreign keys on the way. op is the write
// itself.
func (a *analyzer) follows(op *operation, r *schema.Relation, event byte, written []string, seen []string) {
	written = a.generated(r, event, written)
	a.tests(op, r, event, written)
	a.triggers(r, event, written, func(*schema.Trigger) bool { return true })
	a.cascade(r, event, written, seen)
	moves := event == 'u' && a.moves(r, written)
	if moves { // a row that goes to another partition is deleted and inserted
		row := func(t *schema.Trigger) bool { return t.Row }
		a.triggers(r, 'd', nil, row)
		a.triggers(r, 'i', nil, row)
	}
	a.behind(r, event, written, seen, moves)
}

// behind goes on with the children of a parent or partitioned table. Their
// statement triggers do not fire, but with TRUNCATE.
func (a *analyzer) behind(r *schema.Relation, event byte, written []string, seen []string, moves bool) {
	for _, oid := range r.Children {
		child := a.c.Schema.Relations[oid]
		if child == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		if event == 'i' && r.Kind != 'p' {
			continue // an insert stays in the table that it names
		}
		op := a.touch(verbs[event], child, "parent "+r.Name.Namespace+"."+r.Name.Name, abi.EffectWrite)
		own := func(t *schema.Trigger) bool { // a clone of the parent's is the parent's
			return (t.Row || event == 't') && !(t.Clone && slices.ContainsFunc(r.Triggers, func(p schema.Trigger) bool { return p.Name == t.Name && p.Function == t.Function }))
		}
		all := a.generated(child, event, written)
		a.tests(op, child, event, all)
		a.triggers(child, event, all, own)
		a.cascade(child, event, all, seen)
		if moves {
			via := "parent " + r.Name.Namespace + "." + r.Name.Name
			a.touch("delete", child, via, abi.EffectWrite)
			a.tests(a.touch("insert", child, via, abi.EffectWrite), child, 'i', columnNames(child))
			a.cascade(child, 'd', nil, seen) // of a key that leads to the partition itself
			a.triggers(child, 'd', nil, own)
			a.triggers(child, 'i', nil, own)
		}
		a.behind(child, event, all, seen, moves)
	}
}

// generated reads the expressions of generated columns, which an insert or
// update computes anew, and gives them among what is written.
func (a *analyzer) generated(r *schema.Relation, event byte, written []string) []string {
	if event != 'i' && event != 'u' {
		return written
	}
	written = slices.Clone(written)
	for _, c := range r.Columns {
		if c.Generated != 0 {
			a.expression(r, c.Default)
			written = append(written, c.Name)
		}
	}
	return written
}

// moves says whether an update can take a row to another partition.
func (a *analyzer) moves(r *schema.Relation, written []string) bool {
	return r.Kind == 'p' && slices.ContainsFunc(r.PartitionKey, func(num int16) bool {
		c := r.ColumnAt(num) // none where the key is an expression
		return c == nil || slices.Contains(written, c.Name)
	}) || r.Kind == 'p' && slices.ContainsFunc(r.Children, func(oid schema.OID) bool {
		child := a.c.Schema.Relations[oid]
		return child != nil && (a.moves(child, written) || slices.ContainsFunc(child.Triggers, func(t schema.Trigger) bool { return t.Update && t.Row }))
	})
}

// triggers adds what triggers run: their functions may do anything.
func (a *analyzer) triggers(r *schema.Relation, event byte, columns []string, which func(*schema.Trigger) bool) {
	for i := range r.Triggers {
		t := &r.Triggers[i]
		fires := t.On(event)
		if event == 'u' && t.Update {
			fires = len(t.Columns) == 0
			for _, num := range t.Columns {
				c := r.ColumnAt(num)
				fires = fires || c == nil || slices.Contains(columns, c.Name)
			}
			// A BEFORE trigger may change what an UPDATE OF watches.
			fires = fires || len(t.Columns) > 0 && len(r.Triggers) > 1
		}
		if !fires || !which(t) {
			continue
		}
		op := abi.Operation{Verb: "call", Kind: abi.KindFunction, Effect: abi.EffectWrite, Value: t.SourceHash,
			Via: "trigger " + r.Name.Namespace + "." + r.Name.Name + "." + t.Name}
		if f := a.c.Schema.Functions[t.Function]; f != nil {
			op.Object = f.Name.Parts()
		}
		a.other(op)
	}
}

// cascade adds what foreign keys make the server do to other tables, and what
// that does in turn.
func (a *analyzer) cascade(r *schema.Relation, event byte, written []string, seen []string) {
	if event != 'd' && event != 'u' {
		return
	}
	for _, f := range r.Referenced {
		if f.Partition {
			continue // the key of the partitioned table that it is part of stands for it
		}
		from := a.c.Schema.Relations[f.From]
		action := f.OnDelete
		if event == 'u' {
			action = f.OnUpdate
			touched := false
			for _, num := range f.ToColumns {
				c := r.ColumnAt(num)
				touched = touched || c == nil || slices.Contains(written, c.Name)
			}
			if !touched {
				continue
			}
		}
		if from == nil {
			a.refuse("a foreign key of a table that is not known")
		}
		if action == 'a' || action == 'r' {
			a.keyTest(&f, from, f.FromColumns)
			continue
		}
		if len(from.Rules) > 0 {
			a.refuse("a foreign key of %s, which has rules that rewrite what it does", from.Name.Name)
		}
		via := viaKey(&f, from)
		if slices.Contains(seen, via+string(event)) {
			continue
		}
		next := append(slices.Clone(seen), via+string(event))
		if action == 'c' && event == 'd' {
			a.follows(a.touch("delete", from, via, abi.EffectWrite), from, 'd', nil, next)
			continue
		}
		op := a.touch("update", from, via, abi.EffectWrite)
		var changed []string
		for _, num := range f.FromColumns {
			if c := from.ColumnAt(num); c != nil {
				a.add(op, c.Name, abi.UseWritten)
				if action == 'n' && c.NotNull { // it fails where there is a row
					a.add(op, c.Name, abi.UseTested)
				}
				changed = append(changed, c.Name)
				if action == 'd' {
					a.expression(from, c.Default)
				}
			}
		}
		a.follows(op, from, 'u', changed, next)
	}
}
