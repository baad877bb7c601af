package sql

import (
	"slices"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// write is one INSERT, UPDATE or DELETE on a relation, as the statement has it
// or as what stands before the relation makes of it.
type write struct {
	op        *operation
	event     byte // i, u, d
	relation  *schema.Relation
	columns   []string // that are assigned
	parts     []string // those of them that keep a part of what they held
	attrs     abi.Attr // of its condition
	word      bool     // the word DEFAULT is in it, for some column
	returning bool     // rows come back
}

// effects adds what the server does besides: by rules, by what lies beneath a
// view, by triggers, foreign keys, defaults and partitions.
func (a *analyzer) effects(n int32, w write) {
	r := w.relation
	a.policed(r)
	if w.event == 'i' && (r.Kind != 'v' || len(r.Rules) > 0) {
		a.defaults(r, w.columns, w.word)
	}
	if a.rules(n, w) {
		return
	}
	a.follows(w.op, r, w.event, w.columns, nil)
	a.keeps(w.op, r, w.parts)
	switch {
	case r.Kind != 'v':
	case !slices.ContainsFunc(r.Triggers, func(t schema.Trigger) bool { return t.InsteadOf && t.On(w.event) }):
		a.beneath(n, w)
	case w.event != 'i':
		a.shown(r)
	}
}

// shown marks what a view's rows are made of as read.
func (a *analyzer) shown(r *schema.Relation) {
	for _, c := range a.view(r) {
		a.use(c, abi.UseCopied)
	}
}

// beneath adds the same write on the relation beneath a view that the server
// updates by itself.
func (a *analyzer) beneath(n int32, w write) {
	r, verb := w.relation, verbs[w.event]
	base, names := a.base(r)
	if base == nil {
		a.fail("55000", n, "cannot %s view %q: it is not automatically updatable", verb, r.Name.Name)
	}
	if base.System || base.Kind != 'r' && base.Kind != 'p' && base.Kind != 'f' && base.Kind != 'v' {
		a.refuse("writing through the view %s to what is no table", r.Name.Name)
	}
	a.view(r) // its condition is read, and checked if it says so
	for _, c := range r.Columns {
		if w.event == 'i' && c.Default != "" && (w.word || !slices.Contains(w.columns, c.Name)) {
			a.expression(r, c.Default)
			w.columns = append(slices.Clone(w.columns), c.Name)
		}
	}
	op := a.change(verb, base, "view "+r.Name.Namespace+"."+r.Name.Name)
	op.Attrs |= w.attrs
	below := w
	below.op, below.relation, below.columns, below.parts = op, base, nil, nil
	for _, name := range w.columns {
		column := names[name]
		if column == "" {
			a.fail("0A000", n, "cannot %s column %q of view %q", verb, name, r.Name.Name)
		}
		a.writes(op, base, column)
		below.columns = append(below.columns, column)
		if slices.Contains(w.parts, name) {
			below.parts = append(below.parts, column)
		}
		if w.event == 'u' && w.word { // SET column = DEFAULT
			a.expression(base, base.Column(column).Default)
		}
	}
	if a.depth++; a.depth > maxViews {
		a.refuse("views within views over %d deep", maxViews)
	}
	defer func() { a.depth-- }()
	a.effects(n, below)
	for _, c := range r.Columns { // what tells of the table tells of what the view shows of it
		if i := op.column(names[c.Name]); i >= 0 && op.Columns[i].Use&abi.UseTested != 0 {
			a.add(w.op, c.Name, abi.UseTested)
		}
	}
}

// base gives the relation that a simple view is over, and which of its columns
// each of the view's is; nil where the server would not write through it.
func (a *analyzer) base(r *schema.Relation) (*schema.Relation, map[string]string) {
	a.unlocked(r)
	t, err := a.g.Parse(r.View)
	if err != nil {
		a.refuse("the text of the view %s is not understood", r.Name.Name)
	}
	in := *a
	in.t = t
	query := in.find(t.Root, "select_no_parens")
	if query == 0 || in.kid(query, "with_clause") != 0 || in.find(query, "select_limit") != 0 {
		return nil, nil
	}
	s := in.find(query, "simple_select")
	if s == 0 || in.rule(s)[1] != "SELECT" || in.kid(s, "distinct_clause") != 0 {
		return nil, nil
	}
	for _, clause := range []string{"into_clause", "group_clause", "having_clause", "window_clause"} {
		if !in.empty(in.kid(s, clause)) {
			return nil, nil
		}
	}
	from := in.kid(s, "from_clause")
	if in.empty(from) {
		return nil, nil
	}
	refs := in.list(in.kid(from, "from_list"), "table_ref")
	if len(refs) != 1 || in.kid(refs[0], "relation_expr") == 0 || in.kid(refs[0], "tablesample_clause") != 0 {
		return nil, nil
	}
	parts, _, plain := in.parts(in.find(refs[0], "qualified_name"))
	if !plain || len(parts) != 2 {
		return nil, nil
	}
	base := a.c.Schema.RelationByName[schema.Name{Namespace: parts[0], Name: parts[1]}]
	if base == nil {
		return nil, nil
	}
	els := in.list(in.kid(in.kid(s, "opt_target_list"), "target_list"), "target_el")
	if len(els) != len(r.Columns) {
		return nil, nil
	}
	names := map[string]string{}
	for i, el := range els {
		ref := in.through(in.t.Nodes[el].First)
		if in.name(ref) != "columnref" {
			continue
		}
		if parts, star, plain := in.parts(ref); plain && !star && base.Column(parts[len(parts)-1]) != nil {
			names[r.Columns[i].Name] = parts[len(parts)-1]
		}
	}
	return base, names
}

// keyed says whether columns that are fixed to one value hold a unique key. Of
// a parent, each child has a row for the key of its own.
func (a *analyzer) keyed(r *schema.Relation, only bool, fixed map[string]bool) bool {
	if r.Kind == 'v' {
		base, names := a.base(r)
		if base == nil {
			return false
		}
		below := map[string]bool{}
		for view, column := range names {
			below[column] = below[column] || fixed[view]
		}
		return a.keyed(base, false, below)
	}
	return (only || r.Kind == 'p' || len(r.Children) == 0) && slices.ContainsFunc(r.Indexes, func(i schema.Index) bool {
		return i.Unique && !i.Partial && !i.Expression && len(i.Columns) > 0 && !i.Nulls && !slices.ContainsFunc(i.Columns, func(num int16) bool {
			c := r.ColumnAt(num)
			return c == nil || !fixed[c.Name]
		})
	})
}

var ruleEvents = map[byte]byte{'u': 2, 'i': 3, 'd': 4}

// rules adds what the rules of a relation do, and says whether that is instead
// of the write: their own statements are read as any other, with the rows of the
// write as old and new.
func (a *analyzer) rules(n int32, w write) (instead bool) {
	r := w.relation
	for _, rule := range r.Rules {
		if rule.Event != ruleEvents[w.event] {
			continue
		}
		if a.depth++; a.depth > maxViews {
			a.refuse("rules within rules over %d deep", maxViews)
		}
		if rule.Instead && w.returning {
			a.refuse("RETURNING from %s, where the rule %s answers instead", r.Name.Name, rule.Name)
		}
		t, err := a.g.Parse(rule.Text)
		if err != nil {
			a.refuse("the rule %s of %s is not understood", rule.Name, r.Name.Name)
		}
		via := "rule " + r.Name.Namespace + "." + r.Name.Name + "." + rule.Name
		s := &scope{}
		before, after := &origin{}, &origin{alias: "new", relation: r, via: via}
		if w.event != 'i' {
			before = a.own(r, "old", via)
			s.origins = append(s.origins, before)
		}
		for i, c := range r.Columns {
			var had column // nothing before an insert
			if w.event != 'i' {
				had = before.columns[i]
			}
			after.columns = append(after.columns, w.given(c.Name, had))
		}
		if w.event != 'd' {
			s.origins = append(s.origins, after)
		}
		instead = a.rule_(t, s, via) && rule.Instead || instead
		a.depth--
	}
	return instead
}

// rule_ reads one rule, and says whether it has no condition.
func (a *analyzer) rule_(t *parse.Tree, s *scope, via string) bool {
	in := *a
	in.t, in.path, in.via, in.edits, in.lazy = t, nil, via, nil, 0
	rule := in.find(t.Root, "RuleStmt")
	if rule == 0 {
		a.refuse("the %s is not understood", via)
	}
	where := in.kid(rule, "where_clause")
	if !in.empty(where) {
		in.expr(s, in.kid(where, "a_expr"), abi.UseCondition)
	}
	var walk func(n int32)
	walk = func(n int32) {
		switch name := in.name(n); name {
		case "InsertStmt", "UpdateStmt", "DeleteStmt":
			in.dml(s, n)
		case "SelectStmt", "NotifyStmt":
			a.refuse("the %s, which answers with rows or a notification", via)
		default:
			in.kids(n, walk)
		}
	}
	walk(in.kid(rule, "RuleActionList"))
	a.changes = in.changes
	return in.empty(where)
}

// changed gives what RETURNING calls old and new, by these names or by those
// that WITH gives them, as a scope behind that of the statement.
func (a *analyzer) changed(s *scope, with int32, r *schema.Relation) *scope {
	if a.g.Major < 18 {
		return s
	}
	names := map[string]string{"OLD": "old", "NEW": "new"}
	for _, o := range a.list(a.kid(with, "returning_options"), "returning_option") {
		names[a.rule(a.kid(o, "returning_option_kind"))[1]] = a.ident(a.kid(o, "ColId"))
	}
	rows := &scope{parent: s.parent, ctes: s.ctes, origins: []*origin{a.own(r, names["OLD"], a.via), a.own(r, names["NEW"], a.via)}}
	return &scope{parent: rows, ctes: s.ctes, origins: s.origins}
}
