package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// A temporary relation is one session's own, in a schema that the server looks
// into before all others: it is written pg_temp here, as texts may write it.

// makes gives the name under which the server would make the relation q that the
// statement n makes, and writes it out in full.
func (a *analyzer) makes(n, q int32) schema.Name {
	how, names := a.kid(n, "OptTemp"), a.qualified(q, "a name")
	temp := !a.empty(how) && a.kid(how, "UNLOGGED") == 0
	switch {
	case len(names) == 2 && names[0] == schema.Temporary:
	case !temp:
		return a.creation(q)
	case len(names) == 2:
		a.fail("42P16", q, "cannot create temporary relation in non-temporary schema")
	}
	name := schema.Name{Namespace: schema.Temporary, Name: names[len(names)-1]}
	a.unlike(name.Name)
	a.spellOut(q, name)
	if k := a.kid(n, "EXISTS"); k != 0 && a.c.Schema.RelationByName[name] == nil {
		// One that is there all the same a function has made, and what is in it nobody has judged: the server says so.
		a.edits = append(a.edits, edit{a.t.Nodes[k].From - 2, a.t.Nodes[k].To, ""})
	}
	return name
}

// temporaryView says whether a relation is a view of the session's own.
func temporaryView(r *schema.Relation) bool {
	return r.Kind == 'v' && r.Name.Namespace == schema.Temporary
}

// openly gives what stands between a text and what it reaches. A temporary view is
// the session's own words: what it reads needs the rules that it needs without the
// view, each time, whatever has become of them since it was made.
func (a *analyzer) openly(via string) string {
	if a.c.Schema.HasTemporary && strings.HasPrefix(via, "view "+schema.Temporary+".") {
		return ""
	}
	return via
}

// asWritten refuses what a temporary view reads of the catalogs where the task is told
// less than is there. What was put in its place when the view was made stands in its
// query, if it was: the task may have been told more then, or a function has made it.
func (a *analyzer) asWritten(what string) {
	if a.via != "" && a.openly(a.via) == "" {
		a.refuse("%s through a temporary view: write the query in its place", what)
	}
}

// unlike refuses a temporary relation that is called as another relation or type
// is: functions and triggers that do not write its schema would find this one.
func (a *analyzer) unlike(name string) {
	for ns := range a.c.Schema.Namespaces {
		if full := (schema.Name{Namespace: ns, Name: name}); a.c.Schema.RelationByName[full] != nil || a.c.Schema.TypeByName[full] != nil {
			a.refuse("a temporary relation that is called %s, as one of the schema %s is, which functions and triggers could take it for", name, ns)
		}
	}
	if a.c.Schema.Looked[name] {
		a.refuse("a temporary relation that is called %s, by which a function of the database looks for one: give it another name", name)
	}
}

// renamed is unlike for what gets another name.
func (a *analyzer) renamed(namespace, name string) {
	if namespace == schema.Temporary {
		a.unlike(name)
	}
}

// childOf refuses a temporary child of a table that all see: what is known of that
// one does not have it.
func (a *analyzer) childOf(child schema.Name, parent *schema.Relation) {
	if child.Namespace == schema.Temporary && parent.Name.Namespace != schema.Temporary {
		a.refuse("a temporary table that is part of %s, which is none", parent.Name.Name)
	}
}

// places are the schemas that relations and types are looked up in, in the
// server's order.
func (a *analyzer) places() []string {
	places := make([]string, 0, len(a.path)+2)
	if a.c.Schema.HasTemporary {
		places = append(places, schema.Temporary)
	}
	return append(append(places, "pg_catalog"), a.path...)
}

// temporary says whether all that changes the catalog is the session's own.
func (a *analyzer) temporary(list []*operation) bool {
	defines := func(o *operation) bool { minor, known := abi.VerbMinor(o.Verb); return known && minor == 2 }
	return len(a.c.Schema.EventTriggers) == 0 && slices.ContainsFunc(list, defines) &&
		!slices.ContainsFunc(list, func(o *operation) bool {
			return defines(o) && (o.Kind != abi.KindRelation || o.Object[0] != schema.Temporary)
		})
}

// intoOf finds the INTO of a query that makes a table of its rows; the leftmost
// SELECT has it.
func (a *analyzer) intoOf(n int32) int32 {
	for n = a.kid(n, "select_no_parens"); n != 0; {
		if into := a.kid(n, "into_clause"); into != 0 {
			if a.empty(into) {
				return 0
			}
			return into
		}
		n = a.core(n)
	}
	return 0
}

// selectInto takes SELECT … INTO, which is forwarded as CREATE TABLE … AS.
func (a *analyzer) selectInto(n int32) []schema.Name {
	target := a.kid(a.into, "OptTempTableName")
	q := a.kid(target, "qualified_name")
	how := ""
	names := a.qualified(q, "a name")
	name := schema.Name{Namespace: schema.Temporary, Name: names[len(names)-1]}
	switch temp := a.kid(target, "TEMP") != 0 || a.kid(target, "TEMPORARY") != 0; {
	case temp && len(names) == 2 && names[0] != schema.Temporary:
		a.fail("42P16", q, "cannot create temporary relation in non-temporary schema")
	case temp, len(names) == 2 && names[0] == schema.Temporary:
		how = "TEMP "
		a.unlike(name.Name)
	default:
		name = a.creation(q)
		a.edits = a.edits[:len(a.edits)-1] // it is not written there
		if a.kid(target, "UNLOGGED") != 0 {
			how = "UNLOGGED "
		}
	}
	a.on("create_table", abi.KindRelation, name.Parts(), "")
	a.edits = append(a.edits, edit{a.t.Nodes[n].From, a.t.Nodes[n].From, "CREATE " + how + "TABLE " + name.Quoted() + " AS"},
		edit{a.t.Nodes[a.into].From, a.t.Nodes[a.into].To, ""})
	a.keep(n)
	return []schema.Name{name}
}
