package sql

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// acceptedText lists the functions that any text may call: of pg_catalog,
// immutable or stable or named by hand, reading no tables, files or other
// sessions and writing nothing. One a line: OID, name. Made by
// .ci/functions/accepted.sql on real servers of 15 and 18, joined. Both count:
// an OID that is free again is given to another function.
//
//go:embed accepted.txt
var acceptedText string

// accepted gives their names by OID.
var accepted = sync.OnceValue(func() []string {
	names := make([]string, firstUser)
	for line := range strings.Lines(acceptedText) {
		oid, name, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "(")
		if n, err := strconv.ParseUint(oid, 10, 32); err == nil && n < firstUser {
			names[n] = name
		}
	}
	return names
})

// accepts says whether any text may call f: one of the server's own on the
// list, the one that gives up what locks the session has taken, as pools do, or
// an immutable one of an extension that the resource accepts.
func (a *analyzer) accepts(f *schema.Function) bool {
	if f.System && f.OID < firstUser && accepted()[f.OID] == f.Name.Name {
		return true
	}
	ok := f.System && f.Name.Name == "pg_advisory_unlock_all" || f.Volatility == 'i' && !f.Definer && a.extended(f.Extension)
	a.beyond = a.beyond || ok
	return ok
}

// extended says whether the resource accepts an extension.
func (a *analyzer) extended(extension string) bool {
	return extension != "" && slices.Contains(a.c.Extensions, extension)
}

// extendedType says whether values of a type may be computed with because its
// extension is accepted.
func (a *analyzer) extendedType(oid schema.OID) bool {
	t := a.c.Schema.Types[oid]
	return t != nil && (a.extended(t.Extension) || a.elementOf(t) != 0 && a.extendedType(t.Element))
}

// foreignCast finds a cast between types that texts may compute with whose
// function is not known to be harmless, since it could run anywhere.
func (a *analyzer) foreignCast() bool {
	usable := func(oid schema.OID) bool { return oid < firstUser || a.extendedType(oid) }
	return slices.ContainsFunc(a.c.Schema.Casts, func(k schema.Cast) bool {
		if k.Function < firstUser || !usable(k.Source) || !usable(k.Target) {
			return false
		}
		f := a.c.Schema.Functions[k.Function]
		return f == nil || !a.accepts(f)
	})
}

// callsUnsaid says whether what is done with a relation may call functions of users
// that no operation names, as its conditions do.
func (a *analyzer) callsUnsaid(o *abi.Operation) bool {
	if o.Kind != abi.KindRelation || len(o.Object) != 2 || o.Verb == "select" && !a.c.Schema.HasPolicies {
		return false
	}
	r := a.c.Schema.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]
	if r == nil {
		return false
	}
	beyond := a.beyond // which is of what the text says
	defer func() { a.beyond = beyond }()
	if o.Verb == "select" {
		return a.c.Schema.UnsaidReading(r, a.accepts)
	}
	return a.c.Schema.Unsaid(r, a.accepts)
}
