package schema_test

import (
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
