// Package grants says what a task says in PostgreSQL's own words: a role and
// its GRANTs. What GRANTs cannot say they leave open, so that the role may do
// whatever the task may, and the gateway keeps the rest.
package grants

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/count"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// Grants are what one role is given at one resource.
type Grants struct {
	Task     string   `json:"task"`
	Resource string   `json:"resource"`
	Role     string   `json:"role"`
	Grants   []Grant  `json:"grants"`
	Open     []string `json:"open"`            // what the GRANTs leave open, and the gateway keeps
	Needs    []string `json:"needs,omitempty"` // what the role may lack, and only a person can know
	Script   string   `json:"sql"`             // all of it, to be run

	schemas []string // whose earlier GRANTs are taken back
}

// Grant is one of them.
type Grant struct {
	Privilege string   `json:"privilege"`
	Columns   []string `json:"columns,omitempty"` // none is all of it, also what comes later
	On        string   `json:"on"`                // TABLE "public"."orders"
	Why       []string `json:"why"`               // the rules, or what stands between
}

var roleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$`)

// Role says why a role may not be called that.
func Role(name string) error {
	switch low := strings.ToLower(name); {
	case !roleName.MatchString(name):
		return fmt.Errorf("the role %q: up to 63 letters, digits, _ and - are expected", name)
	case strings.HasPrefix(low, "pg_") || low == "public" || low == "none":
		return fmt.Errorf("the role %q: the server keeps that name for itself", name)
	}
	return nil
}

// Of compiles a task for one of its resources, as its database is now.
func Of(t *catalog.Task, resource, role string, s *sql.Context) *Grants {
	c := &compiler{s: s, out: &Grants{Task: t.Name, Resource: resource, Role: role, Grants: []Grant{}, Open: []string{}}, done: map[string]bool{}}
	for i := range t.Rules {
		c.rule(&t.Rules[i])
	}
	for i := range t.Masks {
		m := &t.Masks[i]
		c.open("the mask of %s with %s: the role reads the column as it is", m.Name(), m.Rule)
	}
	if t.Rows > 0 {
		c.open("an answer has at most %s", count.Of(t.Rows, "row"))
	}
	if t.Timeout > 0 {
		c.open("a statement takes at most %s", t.Timeout)
	}
	if t.Session > 0 {
		c.open("a session lasts at most %s", t.Session)
	}
	if !t.Introspect {
		c.open("introspect: false: the role reads the names in the system catalogs")
	}
	if t.Listed {
		c.open("introspect: listed: the role reads the names of all tables in the system catalogs")
	}
	if !t.ShowErrors {
		c.open("show_errors: false: the server's errors print rows")
	}
	if t.Oracle != "" {
		c.open("oracle: %s", t.Oracle)
	}
	for name := range s.Schema.Namespaces {
		if !strings.HasPrefix(name, "pg_") && name != "information_schema" {
			c.out.schemas = append(c.out.schemas, name)
		}
	}
	slices.Sort(c.out.schemas)
	slices.SortStableFunc(c.out.Grants, func(a, b Grant) int { return strings.Compare(order(&a), order(&b)) })
	c.out.Script = c.out.script()
	return c.out
}

// order puts schemas before what is in them.
func order(g *Grant) string {
	if strings.HasPrefix(g.On, "SCHEMA ") {
		return " " + g.On
	}
	return g.On
}

type compiler struct {
	s    *sql.Context
	out  *Grants
	done map[string]bool // what the server reads by itself, and has been looked at
}

func (c *compiler) open(format string, args ...any) {
	c.out.Open = append(c.out.Open, fmt.Sprintf(format, args...))
}

func (c *compiler) needs(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(c.out.Needs, line) {
		c.out.Needs = append(c.out.Needs, line)
	}
}

func (c *compiler) rule(r *policy.Rule) {
	why := "rule " + r.At
	if r.Where != "" {
		c.open("%s: where: %s", why, r.Where)
	}
	if r.Rows > 0 {
		c.open("%s: writes at most %s", why, count.Of(r.Rows, "row"))
	}
	if r.Review != nil {
		c.open("%s: only after the approval of %d of %s", why, r.Review.People, strings.Join(r.Review.Groups, " or "))
	}
	for _, e := range r.Effects {
		if trigger, ok := strings.CutPrefix(e, "trigger "); ok {
			c.open("%s: the source of the trigger %s", why, trigger)
		}
	}
	for _, name := range r.Channels {
		c.open("%s: the channel %s: a role may listen to and notify any", why, name)
	}
	for _, name := range r.Functions {
		c.function(named(name), why)
	}
	for _, verb := range r.Verbs {
		if len(r.In) > 0 {
			c.defines(verb, r.In, why)
		}
	}
	for _, name := range r.Tables {
		n := named(name)
		rel := c.s.Schema.RelationByName[n]
		if rel == nil {
			c.needs("%s: there is no %s at %s", why, name, c.out.Resource)
			continue
		}
		for _, verb := range r.Verbs {
			c.verb(rel, verb, r.Columns, why)
		}
	}
}

// defines gives what a rule says of changing tables, which whoever owns them may, and
// of keeping them in order, for which there is a GRANT since PostgreSQL 17.
func (c *compiler) defines(verb string, in []string, why string) {
	if !slices.ContainsFunc(in, func(name string) bool { return !strings.HasPrefix(name, schema.Temporary+".") }) {
		c.needs("%s: %s in %s: TEMPORARY on the database, which everybody has until it is revoked", why, verb, strings.Join(in, ", "))
		return
	}
	if !sql.Maintains(verb) || c.s.Schema.Major < 17 {
		c.needs("%s: %s in %s: whoever owns a table may, and no GRANT allows it to anybody else", why, verb, strings.Join(in, ", "))
		return
	}
	for _, oid := range slices.Sorted(maps.Keys(c.s.Schema.Relations)) {
		r := c.s.Schema.Relations[oid]
		if strings.IndexByte("rpm", r.Kind) < 0 || r.System || !slices.Contains(in, r.Name.Namespace+"."+r.Name.Name) && !slices.Contains(in, r.Name.Namespace+".*") {
			continue
		}
		c.maintain(r, why)
		c.usage(r.Name.Namespace, why)
	}
}

// maintain gives what LOCK, VACUUM and their like want.
func (c *compiler) maintain(r *schema.Relation, why string) {
	c.give("MAINTAIN", nil, table(r), why)
	line := fmt.Sprintf("%s: MAINTAIN is to lock, vacuum, analyze, cluster, reindex and refresh %s.%s, all of it", why, r.Name.Namespace, r.Name.Name)
	if !slices.Contains(c.out.Open, line) {
		c.out.Open = append(c.out.Open, line)
	}
}

func named(name string) schema.Name {
	namespace, rest, _ := strings.Cut(name, ".")
	return schema.Name{Namespace: namespace, Name: rest}
}

// verb gives what a rule says of one table.
func (c *compiler) verb(r *schema.Relation, verb string, columns []string, why string) {
	switch verb {
	case "select", "insert", "update":
		c.columns(strings.ToUpper(verb), r, columns, why)
	case "delete", "truncate":
		c.give(strings.ToUpper(verb), nil, table(r), why)
	case "lock":
		if c.s.Schema.Major < 17 {
			c.needs("%s: LOCK of %s.%s: before PostgreSQL 17 no GRANT allows it that does not allow to read or write the whole table, so the role may not", why, r.Name.Namespace, r.Name.Name)
			return
		}
		c.maintain(r, why)
	}
	if c.usage(r.Name.Namespace, why); verb == "truncate" || verb == "lock" {
		return
	}
	c.beneath(r, verb, columns)
	event := map[string]byte{"insert": 'i', "update": 'u', "delete": 'd'}[verb]
	for i := range r.Triggers {
		t := &r.Triggers[i]
		f := c.s.Schema.Functions[t.Function]
		if event != 0 && t.On(event) && (f == nil || !f.Definer) {
			c.needs("what the trigger %s.%s.%s does, which it does as the role", r.Name.Namespace, r.Name.Name, t.Name)
		}
	}
	if verb == "insert" || verb == "update" {
		c.sequences(r, verb, columns)
	}
}

func (c *compiler) columns(privilege string, r *schema.Relation, columns []string, why string) {
	if slices.Contains(columns, "*") {
		c.give(privilege, nil, table(r), why)
		return
	}
	var there []string
	for _, name := range columns {
		if r.Column(name) != nil {
			there = append(there, name)
		}
	}
	if len(there) > 0 {
		c.give(privilege, there, table(r), why)
	}
}

// give adds a privilege, to those of the same kind on the same thing.
func (c *compiler) give(privilege string, columns []string, on, why string) {
	for i := range c.out.Grants {
		g := &c.out.Grants[i]
		if g.On != on || g.Privilege != privilege {
			continue
		}
		if !slices.Contains(g.Why, why) {
			g.Why = append(g.Why, why)
		}
		if g.Columns == nil || columns == nil {
			g.Columns = nil
			return
		}
		for _, name := range columns {
			if !slices.Contains(g.Columns, name) {
				g.Columns = append(g.Columns, name)
			}
		}
		return
	}
	c.out.Grants = append(c.out.Grants, Grant{privilege, slices.Clone(columns), on, []string{why}})
}

func (c *compiler) usage(namespace, why string) {
	c.give("USAGE", nil, "SCHEMA "+quote(namespace), why)
}

func (c *compiler) function(n schema.Name, why string) {
	found := false
	for _, f := range c.s.Schema.FunctionsNamed[n.Name] {
		if f.Name != n {
			continue
		}
		var args []string
		for _, oid := range f.Args {
			t := c.s.Schema.Types[oid]
			if t == nil {
				c.needs("%s: %s.%s, of whose arguments one has a type that is not known", why, n.Namespace, n.Name)
				return
			}
			args = append(args, quote(t.Name.Namespace)+"."+quote(t.Name.Name))
		}
		found = true
		c.give("EXECUTE", nil, "ROUTINE "+quote(n.Namespace)+"."+quote(n.Name)+" ("+strings.Join(args, ", ")+")", why)
		if !f.Definer {
			c.needs("what the function %s.%s does, which it does as the role", n.Namespace, n.Name)
		}
	}
	if c.usage(n.Namespace, why); !found {
		c.needs("%s: there is no function %s.%s at %s", why, n.Namespace, n.Name, c.out.Resource)
	}
}

// beneath gives what the server does with the role's own rights where the task
// has listed what stands before it: beneath a view that says security_invoker,
// and in the policies of row-level security. What stands beneath any other view
// is done with the rights of the view's owner.
func (c *compiler) beneath(r *schema.Relation, verb string, columns []string) {
	if key := fmt.Sprint(r.OID, verb, columns); c.done[key] {
		return
	} else {
		c.done[key] = true
	}
	if r.Invoker {
		why := "beneath the view " + r.Name.Namespace + "." + r.Name.Name
		for _, below := range c.reads(r.View, why) {
			if verb == "update" { // which is also the right to lock rows, of all that is beneath
				c.columns("UPDATE", below, []string{below.Columns[0].Name}, why)
				c.beneath(below, "update", nil)
			}
		}
		if verb != "select" {
			c.writes(r, verb, columns, why)
		}
	}
	if !r.RowLevel {
		return
	}
	c.needs("a policy of %s.%s that lets the role's rows through", r.Name.Namespace, r.Name.Name)
	for _, p := range r.Policies {
		for _, text := range []string{p.Using, p.Check} {
			if text != "" {
				c.reads("SELECT FROM ONLY "+quote(r.Name.Namespace)+"."+quote(r.Name.Name)+" WHERE "+text, "the policy "+r.Name.Namespace+"."+r.Name.Name+"."+p.Name)
			}
		}
	}
}

// reads gives what a text of the server's own reads, and which relations these
// are.
func (c *compiler) reads(text, why string) (list []*schema.Relation) {
	under := *c.s
	under.SearchPath, under.Introspect = []string{}, true
	a, err := sql.Analyze(&under, text)
	if err != nil || a.Statement.Incomplete != "" {
		c.needs("what is read %s, which is not understood", why)
		return nil
	}
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		r := c.relation(o)
		if o.Via != "" || o.Verb != "select" || r == nil || r.System || len(r.Columns) == 0 {
			continue
		}
		var columns []string
		for _, col := range o.Columns {
			columns = append(columns, col.Name)
		}
		if len(columns) == 0 { // counted: any column will do
			columns = []string{r.Columns[0].Name}
		}
		c.columns("SELECT", r, columns, why)
		c.usage(r.Name.Namespace, why)
		c.beneath(r, "select", nil)
		list = append(list, r)
	}
	return list
}

// writes gives what a write through a view writes beneath it.
func (c *compiler) writes(r *schema.Relation, verb string, columns []string, why string) {
	if len(columns) == 0 && verb != "delete" { // no more than a lock
		return
	}
	if slices.Contains(columns, "*") {
		columns = nil
		for i := range r.Columns {
			columns = append(columns, r.Columns[i].Name)
		}
	}
	var list, set, values []string
	for _, name := range columns {
		list, set, values = append(list, quote(name)), append(set, quote(name)+" = NULL"), append(values, "NULL")
	}
	view := quote(r.Name.Namespace) + "." + quote(r.Name.Name)
	a, err := sql.Analyze(c.s, map[string]string{"delete": "DELETE FROM " + view, "update": "UPDATE " + view + " SET " + strings.Join(set, ", "),
		"insert": "INSERT INTO " + view + " (" + strings.Join(list, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"}[verb])
	if err != nil {
		return // nothing can be written through it
	}
	if a.Statement.Incomplete != "" {
		c.needs("what is written %s, which is not understood", why)
	}
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		below := c.relation(o)
		if o.Verb != verb || o.Via != "view "+r.Name.Namespace+"."+r.Name.Name || below == nil {
			continue
		}
		var written []string
		for _, col := range o.Columns {
			if col.Use&abi.UseWritten != 0 {
				written = append(written, col.Name)
			}
		}
		if verb == "delete" {
			c.give("DELETE", nil, table(below), why)
		} else {
			c.columns(strings.ToUpper(verb), below, written, why)
		}
		c.usage(below.Name.Namespace, why)
		c.beneath(below, verb, written)
	}
}

// relation is what an operation is on, nil where that is no relation.
func (c *compiler) relation(o *abi.Operation) *schema.Relation {
	if o.Kind != abi.KindRelation || len(o.Object) != 2 {
		return nil
	}
	return c.s.Schema.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]
}

// next is how a default asks a sequence for its next value.
var next = regexp.MustCompile(`nextval\('((?:[^']|'')*)'::regclass\)`)

// sequences gives those that defaults ask, which the server does with the role's
// own rights.
func (c *compiler) sequences(r *schema.Relation, verb string, columns []string) {
	if r.Kind == 'v' { // whatever table is beneath it
		a, err := sql.Analyze(c.s, "INSERT INTO "+quote(r.Name.Namespace)+"."+quote(r.Name.Name)+" DEFAULT VALUES")
		if err != nil {
			return // nothing can be written through it
		}
		for i := range a.Statement.Operations {
			o := &a.Statement.Operations[i]
			if below := c.relation(o); o.Verb == "insert" && o.Via != "" && below != nil && below.Kind != 'v' {
				c.sequences(below, verb, []string{"*"})
			}
		}
	}
	for i := range r.Columns {
		col := &r.Columns[i]
		if verb == "update" && !slices.Contains(columns, col.Name) && !slices.Contains(columns, "*") {
			continue
		}
		for _, m := range next.FindAllStringSubmatch(col.Default, -1) {
			why := "the default of " + r.Name.Namespace + "." + r.Name.Name + "." + col.Name
			c.give("USAGE", nil, "SEQUENCE "+strings.ReplaceAll(m[1], "''", "'"), why)
		}
	}
}

func table(r *schema.Relation) string {
	return "TABLE " + quote(r.Name.Namespace) + "." + quote(r.Name.Name)
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
