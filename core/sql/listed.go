package sql

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// A task with `introspect: listed` is told of what it lists alone (system relations in
// sift.go, names and numbers of objects in identity.go): any other
// relation is to it as one that is not there. A system relation is forwarded as
// a subselect without the rows of others; what takes or gives an object's
// identity (regclass and its like, to_regclass, has_table_privilege) looks it up
// among those that may be seen, and gives NULL where it is not one of them; and
// no value of these types is ever in the text, since a literal beside one would be
// read as one: an OID or the name, as text, stands for it.

// Listing is what such a task may be told of. It is made once a generation.
type Listing struct {
	lists func(kind string, object []string) bool

	mu   sync.Mutex
	of   *schema.Schema
	last *sight
}

// NewListing makes it of what says whether a rule names a relation or function.
func NewListing(lists func(kind string, object []string) bool) *Listing {
	return &Listing{lists: lists}
}

// sight is what a listing comes to in one schema.
type sight struct {
	relations, types, functions, namespaces map[schema.OID]bool // of what users have made
	called                                  map[schema.OID]bool // functions that a rule lists, whatever they are made of

	relationList, typeList, functionList, namespaceList, specific string // as constants
}

func (l *Listing) in(s *schema.Schema) *sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != s {
		l.of, l.last = s, l.see(s)
	}
	return l.last
}

func (l *Listing) see(s *schema.Schema) *sight {
	v := &sight{relations: map[schema.OID]bool{}, types: map[schema.OID]bool{}, functions: map[schema.OID]bool{}, namespaces: map[schema.OID]bool{}, called: map[schema.OID]bool{}}
	for oid, r := range s.Relations {
		if !r.System && r.Kind != 'c' && l.lists(abi.KindRelation, r.Parts()) {
			v.relations[oid] = true
		}
	}
	for oid := range v.relations {
		r := s.Relations[oid]
		v.namespaces[s.Namespaces[r.Name.Namespace]] = true
		v.meets(s, r.RowType)
		for _, c := range r.Columns {
			v.meets(s, c.Type)
		}
	}
	var specific []string
	for oid, f := range s.Functions {
		if oid < firstUser || !l.lists(abi.KindFunction, f.Name.Parts()) {
			continue
		}
		v.called[oid] = true
		all := slices.Concat(f.Args, f.OutTypes, []schema.OID{f.Result})
		if slices.ContainsFunc(all, func(t schema.OID) bool { return !v.meets(s, t) }) {
			continue
		}
		v.functions[oid], v.namespaces[s.Namespaces[f.Name.Namespace]] = true, true
		specific = append(specific, f.Name.Name+"_"+strconv.FormatUint(uint64(oid), 10))
	}
	for oid := range v.types {
		v.namespaces[s.Namespaces[s.Types[oid].Name.Namespace]] = true
	}
	v.relationList, v.typeList, v.functionList, v.namespaceList = oids(v.relations), oids(v.types), oids(v.functions), oids(v.namespaces)
	slices.Sort(specific)
	for i, n := range specific {
		specific[i] = quoteLiteral(n)
	}
	v.specific = `ARRAY[` + strings.Join(specific, ", ") + `]::"pg_catalog"."text"[]`
	return v
}

// meets adds a type that something visible has, with what it is made of. A row of
// a relation that is not listed would tell of it: false.
func (v *sight) meets(s *schema.Schema, oid schema.OID) bool {
	t := s.Types[oid]
	if oid < firstUser || t == nil || v.types[oid] {
		return oid < firstUser || t != nil
	}
	ok := true
	switch {
	case t.Kind == 'd':
		ok = v.meets(s, t.Base)
	case t.Kind == 'b' && t.Element != 0:
		ok = v.meets(s, t.Element)
	case t.Kind == 'c':
		if r := s.Relations[t.Relation]; r == nil || r.Kind != 'c' {
			ok = v.relations[t.Relation]
		} else {
			v.types[oid] = true // it may have itself in an array
			for _, c := range r.Columns {
				ok = v.meets(s, c.Type) && ok
			}
			if v.relations[r.OID] = ok; !ok {
				delete(v.types, oid)
			}
		}
	}
	if v.types[oid] = ok; !ok {
		delete(v.types, oid)
		delete(v.relations, t.Relation)
		return false
	}
	if t.Array != 0 && s.Types[t.Array] != nil {
		v.types[t.Array] = true
	}
	return true
}

func oids(set map[schema.OID]bool) string {
	list := make([]schema.OID, 0, len(set))
	for oid := range set {
		list = append(list, oid)
	}
	slices.Sort(list)
	var b strings.Builder
	b.WriteString(`'{`)
	for i, oid := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(oid), 10))
	}
	b.WriteString(`}'::"pg_catalog"."oid"[]`)
	return b.String()
}

// Conditions are written so that no operator or name of the session's path is in
// them.
const (
	is     = ` OPERATOR("pg_catalog".=) `
	isAny  = ` OPERATOR("pg_catalog".=) ANY `
	below  = ` OPERATOR("pg_catalog".<) '16384'::"pg_catalog"."oid"`
	class  = `'1259'::"pg_catalog"."oid"` // pg_class, everywhere
	noName = `'0'::"pg_catalog"."oid"`
)

func one(x, list string) string { return "(" + x + below + " OR " + x + isAny + "(" + list + "))" }

// The conditions under which what x names may be seen. What belongs to a relation
// (its indexes, and sequences that number its columns) is seen with it.
func (v *sight) relation(x string) string {
	return "(" + one(x, v.relationList) +
		` OR EXISTS (SELECT FROM "pg_catalog"."pg_index" "i" WHERE "i"."indexrelid"` + is + x + ` AND "i"."indrelid"` + isAny + "(" + v.relationList + "))" +
		` OR EXISTS (SELECT FROM "pg_catalog"."pg_depend" "d" WHERE "d"."classid"` + is + class + ` AND "d"."objid"` + is + x + ` AND "d"."refclassid"` + is + class +
		` AND "d"."refobjid"` + isAny + "(" + v.relationList + `) AND "d"."refobjsubid" OPERATOR("pg_catalog".>) 0 AND "d"."deptype"` + isAny + `('{a,i}'::"pg_catalog"."char"[])))`
}

func (v *sight) typ(x string) string       { return one(x, v.typeList) }
func (v *sight) function(x string) string  { return one(x, v.functionList) }
func (v *sight) namespace(x string) string { return one(x, v.namespaceList) }

// seeing gives what the text at hand may see, nil where it is all or somebody
// else's text.
func (a *analyzer) seeing() *sight {
	if a.c.Listed == nil || a.via != "" {
		return nil
	}
	return a.c.Listed.in(a.c.Schema)
}

// relationByName gives the relation of that name that the text may name, or nil.
func (a *analyzer) relationByName(n schema.Name) *schema.Relation {
	r := a.c.Schema.RelationByName[n]
	if v := a.seeing(); r != nil && v != nil && !r.System && !v.relations[r.OID] {
		return nil
	}
	return r
}

// typeByName likewise.
func (a *analyzer) typeByName(n schema.Name) *schema.Type {
	t := a.c.Schema.TypeByName[n]
	if v := a.seeing(); t != nil && v != nil && t.OID >= firstUser && !v.types[t.OID] {
		return nil
	}
	return t
}

// callable says whether a function may be named.
func (a *analyzer) callable(f *schema.Function) bool {
	v := a.seeing()
	return v == nil || f.OID < firstUser || v.called[f.OID] || a.accepts(f)
}

// reaches says whether what the text does reaches relations that it may not be
// told of: behind views, as children, by cascades.
func (a *analyzer) reaches() bool {
	return a.c.Listed != nil && a.c.Listed.Reaches(a.c.Schema, a.finish())
}

// Reaches says whether operations are on relations that the task is not told of.
func (l *Listing) Reaches(s *schema.Schema, ops []abi.Operation) bool {
	v := l.in(s)
	return slices.ContainsFunc(ops, func(o abi.Operation) bool {
		if o.Kind != abi.KindRelation || len(o.Object) != 2 {
			return false
		}
		r := s.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]
		return r == nil || !v.relations[r.OID]
	})
}

// Unseen stands for why a text is refused that reaches what its task is not told
// of.
const Unseen = "it reaches, behind what this task lists, what the task does not list"
