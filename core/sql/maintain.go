package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// What keeps tables in order changes no row: it looks at them for statistics, or
// lays them and their indexes out anew. Each table that is named is an operation of
// its own. What runs meanwhile are the functions of its indexes, and what shows is
// the order in which rows lie, and whether it fails.

// Maintains says whether a verb is one of these.
func Maintains(verb string) bool {
	return verb == "analyze" || verb == "vacuum" || verb == "reindex" || verb == "cluster"
}

// maintain takes ANALYZE, VACUUM, REINDEX and CLUSTER. None of them goes without
// naming what it is for: all of a database is no task's.
func (a *analyzer) maintain(n int32) (Part, bool) {
	switch a.name(n) {
	case "AnalyzeStmt":
		a.chosen(n, nil, "verbose", "skip_locked", "buffer_usage_limit")
		a.tables(n, "ANALYZE", func(r *schema.Relation) { a.samples(r) })
	case "VacuumStmt":
		a.vacuum(n)
	case "ReindexStmt":
		a.reindex(n)
	case "ClusterStmt":
		a.cluster(n)
	default:
		return Part{}, false
	}
	return Part{Kind: Utility}, true
}

// vacuum takes VACUUM. With FULL it writes the table anew, as CLUSTER does, and is
// that verb.
func (a *analyzer) vacuum(n int32) {
	on := map[string]bool{"full": a.said(n, "opt_full"), "analyze": a.said(n, "opt_analyze")}
	a.chosen(n, on, "full", "analyze", "freeze", "verbose", "disable_page_skipping", "skip_locked", "index_cleanup", "process_main", "process_toast", "truncate", "parallel", "skip_database_stats", "buffer_usage_limit")
	a.tables(n, "VACUUM", func(r *schema.Relation) {
		if on["full"] {
			a.rewrites("cluster", r)
		} else {
			a.upkeep("vacuum", r)
		}
		if on["analyze"] {
			a.samples(r)
		}
	})
}

func (a *analyzer) reindex(n int32) {
	a.chosen(n, nil, "verbose", "concurrently")
	q := a.kid(n, "qualified_name")
	what := a.kid(n, "reindex_target_type")
	if what == 0 {
		what = a.kid(n, "reindex_target_relation")
	}
	switch {
	case q == 0 || what == 0:
		a.refuse("REINDEX of all of a schema or database: name the tables")
	case a.kid(what, "INDEX") != 0:
		r, x, name := a.index(q, true)
		if r == nil {
			a.failAnywhere("42P01", "relation %q does not exist", name.Name)
		}
		op := a.upkeep("reindex", r)
		op.Value = x.Name
		a.indexes(op, r, x.Name, true)
	default:
		a.rewrites("reindex", a.tended(q, "REINDEX"))
	}
	a.eventTriggers() // since 17
}

// cluster takes CLUSTER. Whoever reads the rows afterwards without sorting them sees
// them in the order of that index. Where the text names none it is the one that was
// named before, which may have been a moment ago: it counts as any of them.
func (a *analyzer) cluster(n int32) {
	a.chosen(n, nil, "verbose")
	q := a.kid(n, "qualified_name")
	if q == 0 {
		a.refuse("CLUSTER without a table, which takes all of the database: name the tables")
	}
	r := a.tended(q, "CLUSTER")
	a.rewrites("cluster", r)
	by := a.kid(n, "name")
	if k := a.kid(n, "cluster_index_specification"); by == 0 && k != 0 {
		by = a.kid(k, "name")
	}
	if by != 0 {
		a.ordered(r, a.ident(by))
		return
	}
	for i := range r.Indexes {
		a.ordered(r, r.Indexes[i].Name)
	}
}

// ordered marks the columns of an index as what rows are sorted by.
func (a *analyzer) ordered(r *schema.Relation, index string) {
	i := slices.IndexFunc(r.Indexes, func(x schema.Index) bool { return x.Name == index })
	if i < 0 {
		a.failAnywhere("42704", "index %q for table %q does not exist", index, r.Name.Name)
	}
	nums := a.indexed(r, &r.Indexes[i])
	for _, c := range a.own(r, "", "").columns {
		if k := r.Column(c.name); k != nil && slices.Contains(nums, k.Num) {
			a.use(c, abi.UseOrder)
		}
	}
	a.descend("select", r, abi.EffectRead)
}

// tables takes the tables that ANALYZE and VACUUM name, and the columns of them.
func (a *analyzer) tables(n int32, what string, f func(*schema.Relation)) {
	list := a.list(a.find(n, "vacuum_relation_list"), "vacuum_relation")
	if len(list) == 0 {
		a.refuse("%s without a table, which takes all of the database: name the tables", what)
	}
	for _, e := range list {
		r := a.tended(a.find(e, "qualified_name"), what)
		for _, c := range a.list(a.find(a.kid(e, "opt_name_list"), "name_list"), "name") {
			if r.Column(a.ident(c)) == nil {
				a.failAnywhere("42703", "column %q of relation %q does not exist", a.ident(c), r.Name.Name)
			}
		}
		f(r)
	}
}

// tended finds the table, or what keeps rows as one does, that a text names.
func (a *analyzer) tended(q int32, what string) *schema.Relation {
	r := a.relation(q)
	switch {
	case r.System:
		a.refuse("%s of %s, which is the server's own", what, r.Name.Name)
	case r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'm':
		a.refuse("%s of %s, which is no table", what, r.Name.Name)
	}
	return r
}

// upkeep adds the operation on a table and on all that is behind it: whether the
// server goes on to children hangs on its version.
func (a *analyzer) upkeep(verb string, r *schema.Relation) *operation {
	op := a.alters(verb, r)
	a.descend(verb, r, abi.EffectWrite)
	return op
}

// samples is ANALYZE of a table: the server computes what its indexes are made of,
// for the rows that it looks at.
func (a *analyzer) samples(r *schema.Relation) {
	a.indexes(a.upkeep("analyze", r), r, "", false)
}

// rewrites is what makes the indexes of a table anew, and so computes what they are
// made of for all rows.
func (a *analyzer) rewrites(verb string, r *schema.Relation) {
	a.indexes(a.upkeep(verb, r), r, "", true)
}

// indexes adds what is run for the indexes of a table and of what is behind it. All
// rows fit into one that is valid. One that is not, as CREATE INDEX CONCURRENTLY
// leaves where it fails, may fail again: that tells of its columns. name is the one
// that it is about; parts of a table have others by other names.
func (a *analyzer) indexes(op *operation, r *schema.Relation, name string, unique bool) {
	for i := range r.Indexes {
		x := &r.Indexes[i]
		if name != "" && x.Name != name {
			continue
		}
		a.expression(r, x.Exprs)
		a.expression(r, x.Predicate)
		if x.Invalid && (unique && x.Enforced || x.Exprs != "" || x.Predicate != "") {
			nums := a.indexed(r, x)
			a.test(op, r, nums)
			for _, num := range nums {
				if c := r.ColumnAt(num); c != nil && r.Kind == 'm' { // what stands behind it is tested
					a.takes(r, c.Name)
				}
			}
		}
	}
	for _, oid := range r.Children {
		child := a.c.Schema.Relations[oid]
		if child == nil {
			a.refuse("a partition of %s that is not known", r.Name.Name)
		}
		a.indexes(a.touch(op.Verb, child, "parent "+r.Name.Namespace+"."+r.Name.Name, abi.EffectWrite), child, "", unique)
	}
}

// said says whether an optional word stands there.
func (a *analyzer) said(n int32, name string) bool {
	k := a.kid(n, name)
	return k != 0 && !a.empty(k)
}

// chosen reads the options in brackets. One that is not known, that comes twice or
// has a value by which the server may take it for the opposite is refused. on gets
// those that a caller asks about and that are on.
func (a *analyzer) chosen(n int32, on map[string]bool, known ...string) {
	list := a.find(n, "utility_option_list")
	seen := map[string]bool{}
	for _, e := range a.list(list, "utility_option_elem") {
		name := strings.ToLower(a.ident(a.kid(e, "utility_option_name")))
		if name == "analyse" {
			name = "analyze"
		}
		what := strings.ToUpper(a.words(n))
		switch {
		case !slices.Contains(known, name):
			a.refuse("%s with the option %s", what, name)
		case seen[name]:
			a.refuse("%s with the option %s twice", what, name)
		}
		seen[name] = true
		if _, asked := on[name]; !asked {
			continue
		}
		arg := a.kid(e, "utility_option_arg")
		switch word := a.text(arg); {
		case arg == 0 || a.empty(arg) || slices.Contains([]string{"on", "true", "1"}, strings.ToLower(a.ident(arg))) && a.t.Nodes[arg].To == a.t.Nodes[arg].From+1:
			on[name] = true
		case a.t.Nodes[arg].To == a.t.Nodes[arg].From+1 && isOff(strings.ToLower(a.ident(arg))):
		default:
			a.refuse("%s with %s %s: write on or off", what, name, word)
		}
	}
}
