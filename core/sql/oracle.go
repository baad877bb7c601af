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
	a.anew(op, r, event, written)
}

// anew marks the columns of which a write tells by what the server computes anew
// for a row: generated columns, the keys and the condition of an index that is no
// constraint, and the key by which a row finds its partition. Where that takes
// what is written together with what is not, whether it fails hangs on the latter.
func (a *analyzer) anew(op *operation, r *schema.Relation, event byte, written []string) {
	// others gives what of these columns the statement does not give, and nothing
	// where it gives none of them. An insert leaves NULL, but for defaults.
	others := func(names []string) (list []string) {
		given := false
		for _, name := range names {
			switch c := r.Column(name); {
			case c == nil:
			case slices.Contains(written, name):
				given = true
			case event == 'u' || c.Default != "" && !strings.HasPrefix(c.Default, "nextval("):
				list = append(list, name)
			}
		}
		if !given {
			return nil
		}
		return list
	}
	mark := func(names []string) {
		for _, name := range names {
			a.add(op, name, abi.UseTested)
		}
	}
	for i := range r.Columns {
		c := &r.Columns[i]
		if c.Generated == 0 {
			continue
		}
		list := others(a.plainly(r, c.Default))
		if len(list) == 0 {
			continue
		}
		fails := !a.total(r, c.Default, c.Type)
		if c.NotNull { // it can be told by NULL as well, unless all that it is made of is there, and none is made of it on purpose
			fails = fails || strings.Contains(c.Default, "NULLIF") || strings.Contains(c.Default, "CASE") ||
				slices.ContainsFunc(list, func(name string) bool { return !r.Column(name).NotNull })
		}
		if fails {
			mark(list)
		}
	}
	for i := range r.Indexes {
		x := &r.Indexes[i]
		for _, text := range []string{x.Exprs, x.Predicate} {
			if text != "" && !a.total(r, text, 0) {
				mark(others(a.plainly(r, text)))
			}
		}
	}
	for _, p := range a.partitioned(r) {
		names := a.plainly(r, p.PartitionExprs)
		for _, num := range p.PartitionKey {
			if c := p.ColumnAt(num); c != nil {
				names = append(names, c.Name)
			}
		}
		mark(others(names))
	}
}

// plainly gives the columns that a text of the server's own reads for a row of a
// table, and in the place of generated ones those that they are made of.
func (a *analyzer) plainly(r *schema.Relation, text string) (names []string) {
	if text == "" {
		return nil
	}
	for _, s := range a.reads(r, text, "") {
		if c := r.Column(s.column); c != nil && c.Generated != 0 {
			for _, m := range a.made(r, c.Name) {
				names = append(names, m.column)
			}
			continue
		}
		names = append(names, s.column)
	}
	return names
}

// partitioned gives the tables whose keys say where a row of r lies: its own, and
// those of what it is a part of.
func (a *analyzer) partitioned(r *schema.Relation) (list []*schema.Relation) {
	for r != nil && len(list) < maxViews {
		if r.Kind == 'p' {
			list = append(list, r)
		}
		var up *schema.Relation
		for _, oid := range r.Parents {
			up = a.c.Schema.Relations[oid]
		}
		r = up
	}
	return list
}

var (
	// scalars are types whose values can be compared without a failure, texts those
	// of strings.
	scalars = map[schema.OID]bool{16: true, 20: true, 21: true, 23: true, 25: true, 700: true, 701: true, 1042: true, 1043: true, 1082: true, 1083: true, 1114: true, 1184: true, 1700: true, 2950: true}
	texts   = map[schema.OID]bool{25: true, 1042: true, 1043: true}
	// results are types as which whatever passes total is stored as it is.
	results = map[schema.OID]bool{16: true, 25: true, 3614: true}

	totalFunctions = set("lower upper initcap btrim ltrim rtrim length char_length replace md5 to_tsvector setweight")
	totalTokens    = set("'(' ')' ',' '=' '<' '>' LESS_EQUALS GREATER_EQUALS NOT_EQUALS AND OR NOT IS NULL_P TRUE_P FALSE_P COALESCE NULLIF GREATEST LEAST CASE WHEN THEN ELSE END_P SCONST ICONST FCONST ANY ARRAY")
)

// total says whether an expression, as the server prints it, fails for no row but
// for its size: it compares, and makes texts of texts. kind is the type as which
// it is stored, 0 for none: what becomes another type may not fit.
func (a *analyzer) total(r *schema.Relation, text string, kind schema.OID) bool {
	if kind != 0 && !results[kind] {
		return false
	}
	t, err := a.g.Parse("SELECT " + text)
	if err != nil {
		return false
	}
	types := scalars
	var columns []schema.OID
	name := func(i int) string { // of a token, empty behind the end
		if i < len(t.Tokens) {
			return a.g.Names[t.Tokens[i].Kind]
		}
		return ""
	}
	for i := 1; i < len(t.Tokens); i++ {
		token, kind := &t.Tokens[i], name(i)
		switch {
		case token.Start == token.End: // the end
		case kind == "Op" && token.Value == "||":
			types = texts
		case kind == "TYPECAST":
			constant := name(i-1) == "SCONST" || name(i-1) == "ICONST" || name(i-1) == "FCONST"
			if i++; !constant && (name(i) != "TEXT_P" || name(i+1) == "'['") {
				return false
			}
			for constant && i+1 < len(t.Tokens) && !totalTokens[name(i+1)] && r.Column(t.Tokens[i+1].Value) == nil && name(i+1) != "Op" && name(i+1) != "TYPECAST" { // character varying, public.state
				i++
			}
		case kind == "'['" && name(i-1) == "ARRAY", kind == "']'", totalTokens[kind]:
		case name(i+1) == "'('":
			if types = texts; !totalFunctions[token.Value] {
				return false
			}
		default:
			c := r.Column(token.Value)
			if c == nil {
				return false
			}
			if name(i+1) != "IS" {
				columns = append(columns, c.Type)
			}
		}
	}
	return !slices.ContainsFunc(columns, func(oid schema.OID) bool { return !types[oid] })
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
