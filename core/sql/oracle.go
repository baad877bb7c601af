package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// tests marks the columns of which a write tells, by whether it succeeds, what
// other rows or other columns hold: those of unique and exclusion constraints
// and indexes, of CHECKs, of foreign keys both ways and of domains. NOT NULL
// tells nothing but what is written.
func (a *analyzer) tests(op *operation, r *schema.Relation, event byte, written []string) {
	if event != 'i' && event != 'u' {
		return
	}
	given := map[int16]bool{}
	for i := range r.Columns {
		c := &r.Columns[i]
		// An insert also gives what has a default. That of a sequence nobody chooses.
		given[c.Num] = slices.Contains(written, c.Name) || event == 'i' && c.Default != "" && !strings.HasPrefix(c.Default, "nextval(")
		if c.Generated != 0 && event == 'u' { // it changes with what it is made of
			given[c.Num] = slices.ContainsFunc(a.made(r, c.Name), func(s source) bool { return slices.Contains(written, s.column) })
		}
		if given[c.Num] && a.checked(c.Type) {
			a.add(op, c.Name, abi.UseTested)
		}
	}
	has := func(num int16) bool { return given[num] }
	for i := range r.Indexes {
		x := &r.Indexes[i]
		if !x.Enforced {
			continue
		}
		nums := a.indexed(r, x)
		hit := slices.ContainsFunc(nums, has)
		if event == 'i' { // what is not given is NULL, and that is like nothing
			hit = x.Nulls || x.Expression || !slices.ContainsFunc(x.Columns, func(num int16) bool { return !given[num] })
		}
		if hit {
			a.test(op, r, nums)
		}
	}
	for i := range r.Checks {
		nums := r.Checks[i].Columns
		if slices.Contains(nums, 0) { // the whole row
			nums = nil
			for _, c := range r.Columns {
				nums = append(nums, c.Num)
			}
		}
		if slices.ContainsFunc(nums, has) {
			a.test(op, r, nums)
		}
	}
	for i := range r.References {
		f := &r.References[i]
		if !slices.ContainsFunc(f.FromColumns, has) || f.Partition && strings.HasPrefix(op.Via, "parent ") { // the partitioned table's key stands for it
			continue
		}
		to := a.c.Schema.Relations[f.To]
		if to == nil {
			a.refuse("a foreign key to a table that is not known")
		}
		a.test(op, r, f.FromColumns)
		via := viaKey(f, r)
		a.test(a.touch("test", to, via, abi.EffectRead), to, f.ToColumns)
	}
}

// keyTest is a foreign key that a change of what it leads to may break: an
// error tells whether there are rows that refer to it.
func (a *analyzer) keyTest(f *schema.ForeignKey, from *schema.Relation, nums []int16) {
	a.test(a.touch("test", from, viaKey(f, from), abi.EffectRead), from, nums)
}

func viaKey(f *schema.ForeignKey, from *schema.Relation) string {
	return "fk " + from.Name.Namespace + "." + from.Name.Name + "." + f.Name
}

// test marks columns as tested, and with a generated one those that it is made
// of.
func (a *analyzer) test(op *operation, r *schema.Relation, nums []int16) {
	for _, num := range nums {
		c := r.ColumnAt(num)
		if c == nil {
			continue // an expression, or what every row has
		}
		a.add(op, c.Name, abi.UseTested)
		if c.Generated != 0 {
			for _, s := range a.made(r, c.Name) {
				a.add(op, s.column, abi.UseTested)
			}
		}
	}
}

// indexed gives all columns that an index depends on: keys, those of its
// expressions and of its predicate.
func (a *analyzer) indexed(r *schema.Relation, x *schema.Index) []int16 {
	nums := slices.Clone(x.Columns)
	for _, text := range []string{x.Exprs, x.Predicate} {
		if text == "" {
			continue
		}
		for _, s := range a.reads(r, text, "") {
			if c := r.Column(s.column); c != nil {
				nums = append(nums, c.Num)
			}
		}
	}
	return nums
}

// checked says whether a type is a domain that takes only some values.
func (a *analyzer) checked(oid schema.OID) bool {
	for t := a.c.Schema.Types[oid]; t != nil && t.Kind == 'd'; t = a.c.Schema.Types[t.Base] {
		if len(t.Checks) > 0 {
			return true
		}
	}
	return false
}

func columnNames(r *schema.Relation) (names []string) {
	for _, c := range r.Columns {
		names = append(names, c.Name)
	}
	return names
}
