// Package schema is what the gateway knows of a database's own catalog: an
// immutable snapshot, by OID, that the analysis of SQL reads names, lineage
// and effects from. Load reads it, Watch notices that it has changed.
package schema

import (
	"fmt"
	"strings"
	"sync"
)

// OID is PostgreSQL's object identifier.
type OID = uint32

// Schema is one snapshot. It is immutable once made and may be shared.
type Schema struct {
	Version    uint64 // counts the snapshots of one resource
	Mark       Mark   // what Fingerprint gave before it was read
	Major      int    // of the server: 13 to 18
	Database   string
	Role       Role
	SearchPath []string // the login's default, "$user" resolved or dropped

	Namespaces map[string]OID
	Relations  map[OID]*Relation
	Functions  map[OID]*Function
	Operators  map[OID]*Operator
	Types      map[OID]*Type
	Casts      []Cast
	Extensions []Extension

	EventTriggers []EventTrigger // of statements that change the catalog

	Tied map[string]bool // namespaces in which there is more than relations, types and functions, or of which something else needs a type or function

	Looked map[string]bool // names without a schema by which the sources of functions look for relations

	HasTemporary bool // the session has relations of its own, in Temporary
	HasPolicies  bool // some relation has
	HasLocked    bool // some relation is Locked

	unsaid *sync.Map // by relation what Unsaid has found

	// By name, for resolution. A name in two namespaces is two entries.
	RelationByName map[Name]*Relation
	TypeByName     map[Name]*Type
	FunctionsNamed map[string][]*Function // in every namespace
	OperatorsNamed map[string][]*Operator // in every namespace but pg_catalog, whose every operator is harmless
}

// Name is a qualified name, unquoted.
type Name struct{ Namespace, Name string }

// Parts gives the name as an operation's object.
func (n Name) Parts() []string { return []string{n.Namespace, n.Name} }

// Quoted gives the name as a text has it, in double quotes.
func (n Name) Quoted() string {
	double := strings.NewReplacer(`"`, `""`)
	return `"` + double.Replace(n.Namespace) + `"."` + double.Replace(n.Name) + `"`
}

// Role is who the gateway's login is at the server.
type Role struct {
	Name      string
	Itself    bool // the login's own: no setting has put another in its place
	Superuser bool
	BypassRLS bool
	Owns      []Name // tables and views that it owns, itself or by membership
}

// Privileged says what lets the role pass by what the server would hold others
// to, or is empty.
func (r *Role) Privileged() string {
	switch {
	case r.Superuser:
		return "is a superuser"
	case r.BypassRLS:
		return "bypasses row-level security"
	case len(r.Owns) == 1:
		return "owns " + r.Owns[0].Namespace + "." + r.Owns[0].Name
	case len(r.Owns) > 1:
		return fmt.Sprintf("owns %s.%s and %d more", r.Owns[0].Namespace, r.Owns[0].Name, len(r.Owns)-1)
	}
	return ""
}

// Relation is a row of pg_class that a FROM clause can name.
type Relation struct {
	OID            OID
	Name           Name
	Kind           byte // relkind: r table, p partitioned, v view, m materialised view, f foreign, S sequence, c composite type (by OID alone)
	Owner          OID
	Columns        []Column // by attnum, dropped ones left out
	View           string   // pg_get_viewdef under an empty search_path, of a materialised one too, else empty
	Parents        []OID    // what it inherits from or is a partition of
	Children       []OID
	PartitionKey   []int16 // of a partitioned table; 0 stands for an expression
	PartitionExprs string  // those among the key, with commas between
	Checks         []Check
	Indexes        []Index
	References     []ForeignKey // from this relation
	Referenced     []ForeignKey // to this relation
	Triggers       []Trigger
	Rules          []Rule // other than a view's own
	RowLevel       bool   // row-level security is on
	Policies       []Policy
	Persistent     bool // neither temporary nor unlogged
	System         bool // in pg_catalog or information_schema
	RowType        OID
	Extension      string  // that it belongs to
	Invoker        bool    // a view whose reader needs rights on what is beneath it
	Views          []OID   // that depend on it
	Sequences      []OID   // that belong to its columns: they restart and go with it
	Defaults       []OID   // whose defaults depend on it, a sequence
	Bound          []int16 // columns that its own policies, triggers and rules need
	Watched        bool    // a constraint trigger of another table goes with it, whatever is said
	Needed         bool    // something else depends on it than views, foreign keys and what is its own
	Locked         bool    // another transaction has locked it, or what it shares rows with, against everybody: what the server prints of it is not here

	said said
}

// said is a relation's name in the forms in which every text that names it has it.
type said struct {
	of     Name
	parts  []string
	quoted string
}

func (r *Relation) say() { r.said = said{r.Name, r.Name.Parts(), r.Name.Quoted()} }

// Parts gives the relation's name as an operation's object: not to be written to.
func (r *Relation) Parts() []string {
	if r.said.of == r.Name {
		return r.said.parts
	}
	return r.Name.Parts()
}

// Quoted gives the relation's name as a text has it, in double quotes.
func (r *Relation) Quoted() string {
	if r.said.of == r.Name {
		return r.said.quoted
	}
	return r.Name.Quoted()
}

// Family gives the relations that share columns with one, by inheritance or as
// partitions, however far, itself first.
func (s *Schema) Family(r *Relation) []*Relation {
	all, seen := []*Relation{r}, map[OID]bool{r.OID: true}
	for i := 0; i < len(all); i++ {
		for _, list := range [][]OID{all[i].Parents, all[i].Children} {
			for _, oid := range list {
				if k := s.Relations[oid]; k != nil && !seen[oid] {
					seen[oid] = true
					all = append(all, k)
				}
			}
		}
	}
	return all
}

// Column of a relation by its name, nil where there is none.
func (r *Relation) Column(name string) *Column {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return &r.Columns[i]
		}
	}
	return nil
}

// ColumnAt gives the column with that attnum, nil where there is none.
func (r *Relation) ColumnAt(num int16) *Column {
	for i := range r.Columns {
		if r.Columns[i].Num == num {
			return &r.Columns[i]
		}
	}
	return nil
}

// Column is a row of pg_attribute.
type Column struct {
	Num       int16
	Name      string
	Type      OID
	NotNull   bool
	Identity  byte   // 0, 'a' always, 'd' by default
	Generated byte   // 0, 's' stored, 'v' virtual
	Default   string // pg_get_expr of the default, of its own or its domain's, or generation expression, else empty
}

// Check is a CHECK constraint, or a domain's as seen from a column.
type Check struct {
	Name    string
	Columns []int16 // 0 stands for the whole row
	Text    string  // pg_get_constraintdef
}

// Index is an index or the constraint that it stands for.
type Index struct {
	Name       string
	Unique     bool
	Exclusion  bool
	Enforced   bool    // a write can fail by it, at once or later
	Columns    []int16 // key columns; 0 stands for an expression
	Expression bool    // one of the keys is an expression
	Partial    bool    // it has a predicate
	Nulls      bool    // NULLS NOT DISTINCT
	Invalid    bool    // it may lack rows: making it has failed
	Exprs      string  // the expressions among the keys, with commas between
	Predicate  string
}

// ForeignKey ties From's columns to To's.
type ForeignKey struct {
	Name        string
	From, To    OID
	FromColumns []int16
	ToColumns   []int16
	OnUpdate    byte // a no action, r restrict, c cascade, n set null, d set default
	OnDelete    byte
	Partition   bool // From is a partition, and its parent has the same key
}

// Trigger is a row of pg_trigger that is not internal and not disabled.
type Trigger struct {
	Name       string
	Function   OID
	Insert     bool
	Update     bool
	Delete     bool
	Truncate   bool
	InsteadOf  bool
	Row        bool    // for each row
	Clone      bool    // of the partitioned table's
	Columns    []int16 // UPDATE OF
	Constraint bool
	SourceHash string // SHA-256 of the function's source, hexadecimal
}

// EventTrigger is a row of pg_event_trigger that is not disabled.
type EventTrigger struct {
	Name       string
	Function   OID
	SourceHash string
}

// On says whether it may fire for an event: i insert, u update, d delete,
// t truncate.
func (t *Trigger) On(event byte) bool {
	return event == 'i' && t.Insert || event == 'u' && t.Update || event == 'd' && t.Delete || event == 't' && t.Truncate
}

// Rule is a row of pg_rewrite that is not a view's own.
type Rule struct {
	Name    string
	Event   byte // 1 select, 2 update, 3 insert, 4 delete
	Instead bool
	Text    string // pg_get_ruledef
}

// Policy is a row of pg_policy.
type Policy struct{ Name, Using, Check string }

// Function is a row of pg_proc.
type Function struct {
	OID        OID
	Name       Name
	Args       []OID // input arguments
	Defaults   int   // how many of the last have one
	Variadic   OID   // element type, 0 where not variadic
	Result     OID
	ReturnsSet bool
	Out        []string // names of OUT and TABLE columns
	OutTypes   []OID
	Kind       byte // f function, a aggregate, w window, p procedure
	Volatility byte // i immutable, s stable, v volatile
	Definer    bool // SECURITY DEFINER
	Owner      OID
	Language   string
	SourceHash string
	Extension  string
	System     bool // in pg_catalog
}

// Operator is a row of pg_operator.
type Operator struct {
	OID         OID
	Name        Name
	Left, Right OID // 0 where prefix
	Result      OID
	Function    OID
	Extension   string
}

// Type is a row of pg_type.
type Type struct {
	OID       OID
	Name      Name
	Kind      byte // typtype: b c d e p r m
	Category  byte
	Element   OID // of an array
	Array     OID
	Base      OID // of a domain
	Relation  OID // of a composite
	Input     OID // functions that a literal or a cast runs
	Output    OID
	Checks    []Check // of a domain
	Extension string
}

// Cast is a row of pg_cast.
type Cast struct {
	Source, Target OID
	Function       OID // 0 binary or I/O
	Context        byte
}

// Extension is a row of pg_extension.
type Extension struct{ Name, Version, Namespace string }
