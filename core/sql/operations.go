package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// operation is one that is being put together.
type operation struct {
	abi.Operation
	key              opKey
	at               map[string]int // where the columns are, once there are many
	refs, conditions int            // how often a FROM names the relation, and how many of them have a condition
}

func (a *analyzer) add(o *operation, column string, u abi.Use) {
	filter := u&filtered != 0
	u &^= filtered
	if i := o.column(column); i >= 0 {
		if c := &o.Columns[i]; u&abi.UseCondition != 0 {
			c.Filter = filter && (c.Filter || c.Use&abi.UseCondition == 0)
		}
		o.Columns[i].Use |= u
		return
	}
	if o.Columns == nil {
		o.Columns = a.listed.take(8)[:0]
	}
	if o.Columns = append(o.Columns, abi.Column{Name: column, Use: u, Filter: filter}); o.at != nil {
		o.at[column] = len(o.Columns) - 1
	}
}

// column says where a column is, -1 where it is not.
func (o *operation) column(name string) int {
	const most = 16
	if len(o.Columns) <= most {
		return slices.IndexFunc(o.Columns, func(c abi.Column) bool { return c.Name == name })
	}
	if o.at == nil {
		o.at = map[string]int{}
		for i := range o.Columns {
			o.at[o.Columns[i].Name] = i
		}
	}
	if i, ok := o.at[name]; ok {
		return i
	}
	return -1
}

// operations are those of a text, in order.
type operations struct {
	list  []*operation
	keys  map[opKey]*operation // once there are many
	known []touched            // the first ones of relations, which most are
}

type touched struct {
	statement int
	verb      string
	relation  *schema.Relation
	via       string
	blind     bool
	op        *operation
}

// get finds an operation by its key.
func (o *operations) get(k opKey) *operation {
	const most = 16
	if len(o.list) <= most {
		for _, op := range o.list {
			if op.key == k {
				return op
			}
		}
		return nil
	}
	if o.keys == nil {
		o.keys = map[opKey]*operation{}
		for _, op := range o.list {
			o.keys[op.key] = op
		}
	}
	return o.keys[k]
}

func (o *operations) find(statement int, verb string, r *schema.Relation, via string, blind bool) *operation {
	for i := range o.known {
		if k := &o.known[i]; k.relation == r && k.statement == statement && k.blind == blind && k.verb == verb && k.via == via {
			return k.op
		}
	}
	return nil
}

func (o *operations) keep(t touched, op *operation) *operation {
	if t.op = op; len(o.known) < 32 {
		o.known = append(o.known, t)
	}
	return op
}

type opKey struct {
	statement int
	verb      string
	relation  schema.Name // or else
	object    string
	via       string
	nth       int // of the commands that change rows: what is said of one is not said of another
}

// change gives the operation of a command that changes rows, of which a
// statement can have several.
func (a *analyzer) change(verb string, r *schema.Relation, via string) *operation {
	a.unlocked(r)
	a.changes++
	return a.operation(opKey{statement: a.statement, verb: verb, relation: r.Name, via: via, nth: a.changes}, abi.Operation{Statement: a.statement, Verb: verb, Kind: abi.KindRelation, Object: r.Parts(), Via: via, Effect: abi.EffectWrite, Attrs: a.ownership(r)})
}

// ownership gives the attribute of what the open transaction has made, with all that
// shares its rows.
func (a *analyzer) ownership(r *schema.Relation) abi.Attr {
	if len(a.c.Made) == 0 || !a.mine(r, 0) {
		return 0
	}
	return abi.Own
}

func (a *analyzer) mine(r *schema.Relation, depth int) bool {
	foreign := func(oid schema.OID) bool {
		k := a.c.Schema.Relations[oid]
		return k == nil || !a.c.Made[oid]
	}
	return depth < maxViews && a.c.Made[r.OID] && !slices.ContainsFunc(r.Parents, foreign) && !slices.ContainsFunc(r.Children, func(oid schema.OID) bool {
		return foreign(oid) || !a.mine(a.c.Schema.Relations[oid], depth+1)
	})
}

// touch gives the operation of that verb on that relation, making it once.
func (a *analyzer) touch(verb string, r *schema.Relation, via string, effect abi.Effect) *operation {
	via = a.openly(via)
	if o := a.ops.find(a.statement, verb, r, via, false); o != nil {
		return o
	}
	a.unlocked(r)
	op := abi.Operation{Statement: a.statement, Verb: verb, Kind: abi.KindRelation, Object: r.Parts(), Via: via, Effect: effect}
	if op.Attrs = a.ownership(r); r.System {
		op.Kind, op.Attrs = abi.KindSystem, abi.Floor
	}
	return a.ops.keep(touched{statement: a.statement, verb: verb, relation: r, via: via}, a.operation(opKey{statement: a.statement, verb: verb, relation: r.Name, via: via}, op))
}

// unlocked fails where what a relation is made of could not be read. It is not named:
// the text may not have either.
func (a *analyzer) unlocked(r *schema.Relation) {
	if r.Locked {
		panic(&Error{Code: locked, Message: "something that this reaches is locked by another transaction, which may be changing it", Hint: "try again when that has ended", Offset: -1})
	}
}

const locked = "55P03"

// seen gives the operation of reading a relation through a veil.
func (a *analyzer) seen(r *schema.Relation, via string) *operation {
	via = a.openly(via)
	if o := a.ops.find(a.statement, "select", r, via, true); o != nil {
		return o
	}
	a.unlocked(r)
	return a.ops.keep(touched{statement: a.statement, verb: "select", relation: r, via: via, blind: true}, a.operation(opKey{statement: a.statement, verb: "select\x00blind", relation: r.Name, via: via}, abi.Operation{Statement: a.statement, Verb: "select", Kind: abi.KindRelation, Object: r.Parts(), Via: via, Effect: abi.EffectRead, Attrs: abi.Blind}))
}

func (a *analyzer) operation(key opKey, op abi.Operation) *operation {
	if o := a.ops.get(key); o != nil {
		return o
	}
	o := a.making.next()
	*o = operation{Operation: op, key: key}
	if a.ops.list = append(a.ops.list, o); a.ops.keys != nil {
		a.ops.keys[key] = o
	}
	return o
}

// other adds an operation that is on no relation.
func (a *analyzer) other(op abi.Operation) {
	op.Statement, op.Via = a.statement, a.openly(op.Via)
	object := ""
	for _, p := range op.Object {
		object += p + "\x00"
	}
	a.operation(opKey{statement: a.statement, verb: op.Verb + "\x00" + op.Kind, object: object, via: op.Via + "\x00" + op.Value}, op)
}
