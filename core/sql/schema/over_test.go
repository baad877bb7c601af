package schema_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/sql/schema"
)

// TestOver: what one session has of its own does not get into what all share.
func TestOver(t *testing.T) {
	of := func(name schema.Name, oid schema.OID) *schema.Schema {
		r, y := &schema.Relation{OID: oid, Name: name}, &schema.Type{OID: oid + 1, Name: name}
		return &schema.Schema{Relations: map[schema.OID]*schema.Relation{r.OID: r}, RelationByName: map[schema.Name]*schema.Relation{name: r},
			Types: map[schema.OID]*schema.Type{y.OID: y}, TypeByName: map[schema.Name]*schema.Type{name: y}}
	}
	shared, own := of(schema.Name{Namespace: "public", Name: "t"}, 20000), of(schema.Name{Namespace: schema.Temporary, Name: "mine"}, 30000)
	over := schema.Over(shared, own)
	for what, s := range map[string]*schema.Schema{"shared": shared, "own": own} {
		if len(s.Relations) != 1 || len(s.RelationByName) != 1 || len(s.Types) != 1 || len(s.TypeByName) != 1 {
			t.Errorf("%s: %+v", what, s)
		}
	}
	if len(over.Relations) != 2 || len(over.RelationByName) != 2 || len(over.Types) != 2 || len(over.TypeByName) != 2 {
		t.Errorf("%+v", over)
	}
}

// TestOverWeight: what is counted of that is no less than what it takes, and not
// several times as much.
func TestOverWeight(t *testing.T) {
	many := func(n int, namespace string, columns int) *schema.Schema {
		s := &schema.Schema{Relations: map[schema.OID]*schema.Relation{}, RelationByName: map[schema.Name]*schema.Relation{}, Types: map[schema.OID]*schema.Type{}, TypeByName: map[schema.Name]*schema.Type{}}
		for i := range n {
			name := schema.Name{Namespace: namespace, Name: fmt.Sprint("relation_", i)}
			r, y := &schema.Relation{OID: schema.OID(i), Name: name}, &schema.Type{OID: schema.OID(i), Name: name}
			for j := range columns {
				r.Columns = append(r.Columns, schema.Column{Name: fmt.Sprint("column_", j), Default: strings.Repeat("x", 50)})
			}
			r.Indexes = append(r.Indexes, schema.Index{Name: name.Name, Columns: []int16{1, 2}, Predicate: strings.Repeat("x", 80)})
			r.Checks = append(r.Checks, schema.Check{Name: name.Name, Columns: []int16{1, 2}, Text: strings.Repeat("x", 80)})
			s.Relations[r.OID], s.RelationByName[name], s.Types[y.OID], s.TypeByName[name] = r, r, y, y
		}
		return s
	}
	takes := func(f func()) int {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc)
	}
	var own, over *schema.Schema
	for _, n := range []int{100, 1000, 1700, 5000, 14000} {
		s := many(n, "public", 5)
		took := takes(func() { over = schema.Over(s, many(0, "", 0)) })
		if counted := schema.OverWeight(s, many(0, "", 0)); counted < took || counted > 3*took {
			t.Errorf("%d names: %d bytes are counted, and it takes %d", n, counted, took)
		}
	}
	took := takes(func() { own = many(500, "pg_temp", 200) })
	if counted := schema.OverWeight(over, own) - schema.OverWeight(over, many(0, "", 0)); counted < took/3 || counted > 3*took {
		t.Errorf("%d bytes of its own are counted, and it takes %d", counted, took)
	}
}
