package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// plain says whether a statement runs nothing but what is on the committed
// list. What triggers run is not in its plan, nor in a count.
func (a *analyzer) plain(ops []*operation) bool {
	return !a.beyond && !slices.ContainsFunc(ops, func(o *operation) bool {
		switch o.Kind {
		case abi.KindRelation, abi.KindSystem:
			return false
		case abi.KindFunction:
			return !strings.HasPrefix(o.Via, "trigger ")
		}
		return true
	})
}

// count gives the text that counts what an UPDATE or DELETE of one table would
// change, empty where it is none. a.edits are in order.
func (a *analyzer) count(n int32) string {
	switch a.name(n) {
	case "UpdateStmt":
		if !a.empty(a.kid(n, "from_clause")) {
			return ""
		}
	case "DeleteStmt":
		if !a.empty(a.kid(n, "using_clause")) {
			return ""
		}
	default:
		return ""
	}
	if w := a.kid(n, "opt_with_clause"); !a.empty(w) {
		return ""
	}
	text := "SELECT pg_catalog.count(*) FROM " + a.emitted(a.kid(n, "relation_expr_opt_alias"))
	if w := a.kid(n, "where_or_current_clause"); !a.empty(w) {
		text += " WHERE " + a.emitted(a.kid(w, "a_expr"))
	}
	return text
}

// emitted gives a part of a statement as it is forwarded.
func (a *analyzer) emitted(n int32) string {
	from, to := a.t.Nodes[n].From, a.t.Nodes[n].To
	var edits []edit
	for _, e := range a.edits {
		if e.from >= from && e.to <= to && e.from < to {
			edits = append(edits, e)
		}
	}
	return a.emit(from, to, edits)
}
