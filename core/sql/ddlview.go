package sql

import (
	"maps"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// createMaterialized takes CREATE MATERIALIZED VIEW, which keeps rows as a table
// does.
func (a *analyzer) createMaterialized(n int32) []schema.Name {
	if !a.empty(a.kid(n, "OptNoLog")) {
		a.refuse("CREATE UNLOGGED MATERIALIZED VIEW")
	}
	target := a.kid(n, "create_mv_target")
	a.only(target, "CREATE MATERIALIZED VIEW", "qualified_name", "opt_column_list", "opt_reloptions")
	name := a.creation(a.kid(target, "qualified_name"))
	a.on("create_view", abi.KindRelation, name.Parts(), "")
	a.keep(a.kid(n, "SelectStmt"))
	return []schema.Name{name}
}

// refresh takes REFRESH MATERIALIZED VIEW: its query runs anew, and what it reads is
// kept.
func (a *analyzer) refresh(n int32) {
	q := a.kid(n, "qualified_name")
	r := a.relation(q)
	if r.Kind != 'm' {
		a.fail("0A000", q, "%q is not a materialized view", r.Name.Name)
	}
	a.alters("create_view", r)
	a.takes(r)
}

// viewOf finds the view that ALTER VIEW or ALTER MATERIALIZED VIEW names.
func (a *analyzer) viewOf(n int32) *schema.Relation {
	q := a.kid(n, "qualified_name")
	r, kind := a.relation(q), byte('v')
	if a.kid(n, "MATERIALIZED") != 0 {
		kind = 'm'
	}
	if r.Kind != kind {
		a.fail("42809", q, "%q is not a view of that kind", r.Name.Name)
	}
	return r
}

// renameView takes RENAME of views and of their columns: the name that was is gone,
// and what it showed is shown by another.
func (a *analyzer) renameView(n int32, missing bool) {
	if missing {
		a.refuse("%s IF EXISTS", a.words(n))
	}
	r := a.viewOf(n)
	op := a.alters("drop_view", r)
	if a.kid(n, "opt_column") == 0 {
		a.takes(r)
		a.loses(op, r)
		a.renamed(r.Name.Namespace, a.newName(n))
		a.on("create_view", abi.KindRelation, []string{r.Name.Namespace, a.newName(n)}, "")
		return
	}
	first := a.kid(n, "name")
	a.known(r, first, a.ident(first))
	a.takes(r, a.ident(first))
	a.loses(op, r, a.ident(first))
	a.alters("create_view", r)
}

// schemaName gives the schema behind SET SCHEMA.
func (a *analyzer) schemaName(n int32) string {
	to := a.newName(n)
	switch {
	case strings.HasPrefix(to, "pg_") || to == "information_schema":
		a.refuse("moving something into %s", to)
	case !a.namespace(to):
		a.fail("3F000", n, "schema %q does not exist", to)
	}
	return to
}

// domain finds the domain that n names.
func (a *analyzer) domain(n int32) *schema.Type {
	name := a.ownType(n, false)
	t := a.c.Schema.TypeByName[name]
	if t == nil || t.Kind != 'd' {
		a.fail("42809", n, "%q is not a domain", name.Name)
	}
	return t
}

// alterDomain takes ALTER DOMAIN. A new condition looks at every column of that
// type: whether it holds tells of them.
func (a *analyzer) alterDomain(n int32) {
	d := a.domain(a.kid(n, "any_name"))
	a.on("alter_type", abi.KindType, d.Name.Parts(), "")
	form := strings.TrimPrefix(a.form(n), "ALTER DOMAIN_P any_name ")
	switch {
	case form == "alter_column_default":
		e := a.find(n, "a_expr")
		if e != 0 {
			a.defaultOf(e)
		}
		a.columnsOf(d, func(r *schema.Relation, nums []int16) {
			a.alters("alter_table", r)
			for _, num := range nums { // which have no default of their own
				if c := r.ColumnAt(num); c != nil && e != 0 {
					a.gives(r, "default", c.Name)
				}
			}
		})
	case form == "DROP NOT NULL_P", strings.HasPrefix(form, "DROP CONSTRAINT"):
	case form == "SET NOT NULL_P", strings.HasPrefix(form, "VALIDATE"):
		a.testDomain(d)
	case strings.HasPrefix(form, "ADD_P"):
		s := &scope{origins: []*origin{{columns: []column{{name: "value", other: true}}}}}
		e := a.find(n, "ConstraintElem")
		if e == 0 {
			e = a.find(n, "DomainConstraintElem")
		}
		switch form := a.form(e); {
		case strings.HasPrefix(form, "CHECK"):
			a.expr(s, a.kid(e, "a_expr"), abi.UseCondition)
		case strings.HasPrefix(form, "NOT NULL_P"):
		default:
			a.refuse("a domain with %s", strings.ToLower(form))
		}
		a.testDomain(d)
	default:
		a.refuse("ALTER DOMAIN … %s", strings.ToLower(form))
	}
}

// testDomain marks all columns in which values of a domain are.
func (a *analyzer) testDomain(d *schema.Type) {
	a.columnsOf(d, func(r *schema.Relation, nums []int16) {
		a.test(a.touch("test", r, "domain "+d.Name.Namespace+"."+d.Name.Name, abi.EffectRead), r, nums)
	})
}

func (a *analyzer) columnsOf(d *schema.Type, f func(*schema.Relation, []int16)) {
	for _, oid := range slices.Sorted(maps.Keys(a.c.Schema.Relations)) {
		r := a.c.Schema.Relations[oid]
		if r.System || r.Kind == 'v' || r.Kind == 'c' || r.Kind == 'S' {
			continue
		}
		var nums []int16
		for _, c := range r.Columns {
			a.spend(1)
			if a.holds(c.Type, d.OID, 0) {
				nums = append(nums, c.Num)
			}
		}
		if len(nums) > 0 {
			f(r, nums)
		}
	}
}

// holds says whether values of a type are, or have in them, ones of a domain.
func (a *analyzer) holds(oid, domain schema.OID, depth int) bool {
	t := a.c.Schema.Types[oid]
	switch {
	case oid == domain:
		return true
	case t == nil || t.OID < firstUser || depth > 8:
		return depth > 8
	case t.Kind == 'd':
		return a.holds(t.Base, domain, depth+1)
	case t.Kind == 'b' && t.Element != 0:
		return a.holds(t.Element, domain, depth+1)
	case t.Kind == 'c':
		r := a.c.Schema.Relations[t.Relation]
		return r == nil || slices.ContainsFunc(r.Columns, func(c schema.Column) bool { return a.holds(c.Type, domain, depth+1) })
	}
	return false
}
