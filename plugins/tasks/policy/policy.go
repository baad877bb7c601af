// Package policy decides whether what a command does is in its task. It is
// the logic of the tasks guard in plain Go: the guest compiles it, the catalog
// writes its configuration, tests run it outside a sandbox.
package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// Config is the compiled catalog.
type Config struct {
	Tasks map[string]*Task `json:"tasks"`
}

// Task is one task's rules.
type Task struct {
	Rules      []Rule   `json:"rules"`
	Rows       uint64   `json:"rows,omitempty"`    // returned by one command, 0 is no limit
	Timeout    uint32   `json:"timeout,omitempty"` // of one command, in ms
	ShowErrors bool     `json:"show_errors,omitempty"`
	Settings   []string `json:"settings,omitempty"`

	Masks  []abi.Protect `json:"masks,omitempty"`
	Texts  []Text        `json:"texts,omitempty"`
	Oracle string        `json:"oracle,omitempty"` // accept, refuse
	Blind  bool          `json:"blind,omitempty"`  // texts may see masked values
}

// Rule lists operations that a task may do, or may do once approved.
type Rule struct {
	At        string              `json:"at"` // file:line, for the hint
	Verbs     []string            `json:"verbs"`
	Tables    []string            `json:"tables,omitempty"`  // schema.name
	Columns   []string            `json:"columns,omitempty"` // "*" is every column
	Functions []string            `json:"functions,omitempty"`
	Channels  []string            `json:"channels,omitempty"` // of LISTEN and NOTIFY
	In        []string            `json:"in,omitempty"`       // of verbs that change the catalog: names, or all of a schema as in public.*
	Where     string              `json:"where,omitempty"`    // key, required
	Rows      uint64              `json:"rows,omitempty"`     // written by one command, 0 is no limit
	Effects   []string            `json:"effects,omitempty"`
	Pinned    map[string][]string `json:"pinned,omitempty"` // of triggers in Effects: the sources that are accepted
	Review    *Review             `json:"review,omitempty"`
	Host      *Host               `json:"host,omitempty"` // of a host; then nothing of a database is set
}

// Review is who has to approve.
type Review struct {
	Groups []string `json:"groups"`
	People uint32   `json:"people"`
	Within uint32   `json:"within"` // seconds

	Justify bool   `json:"justify,omitempty"`
	Summary string `json:"summary,omitempty"` // empty is the task and the rule
	OnHold  string `json:"on_hold,omitempty"` // refuse, keep
	Payload string `json:"payload,omitempty"` // unseen
}

// same says whether two rules ask the same of the same people.
func (r *Review) same(o *Review) bool {
	has := func(a, b []string) bool {
		return !slices.ContainsFunc(b, func(g string) bool { return !slices.Contains(a, g) })
	}
	return r == o || r.People == o.People && r.Within == o.Within && r.Justify == o.Justify && has(r.Groups, o.Groups) && has(o.Groups, r.Groups)
}

func (r *Rule) conditional() bool { return r.Where != "" || r.Rows > 0 || r.Review != nil }

func (r *Rule) holds(o *abi.Operation) bool {
	switch r.Where {
	case "":
		return true
	case "key":
		return o.Attrs&abi.WhereKey != 0
	case "required":
		return o.Attrs&abi.HasWhere != 0
	}
	return false
}

func (r *Rule) lists(column string) bool {
	return slices.Contains(r.Columns, "*") || slices.Contains(r.Columns, column)
}

// String renders the rule as a hint shows it.
func (r *Rule) String() string {
	s := strings.Join(r.Verbs, ", ")
	if r.Host != nil {
		s = r.Host.String()
	}
	if len(r.Tables) > 0 {
		s += " " + strings.Join(r.Tables, ", ")
	}
	if len(r.Columns) > 0 {
		s += "(" + strings.Join(r.Columns, ", ") + ")"
	}
	if len(r.Functions) > 0 {
		s += " " + strings.Join(r.Functions, ", ")
	}
	if len(r.Channels) > 0 {
		s += " " + strings.Join(r.Channels, ", ")
	}
	if len(r.In) > 0 {
		s += " in " + strings.Join(r.In, ", ")
	}
	switch r.Where {
	case "key":
		s += " where a key is given"
	case "required":
		s += " with a condition"
	}
	if r.Rows > 0 {
		s += ", at most " + strconv.FormatUint(r.Rows, 10) + " rows"
	}
	if r.Review != nil {
		s += " after approval"
	}
	return s
}

// miss is why an operation is not in the task.
type miss struct {
	what    string
	closest string
	score   int
}

// Judge decides on a command for the task that its session names.
func (c *Config) Judge(cmd *abi.Command, v *abi.Verdict) {
	v.Decision = abi.Deny
	name := cmd.Session.Task
	t := c.Tasks[name]
	if t == nil {
		v.Reason = abi.Reason{Code: "tasks.no-task", Message: "the catalog has no task " + strconv.Quote(name)}
		return
	}
	st := cmd.Statement
	ops := st.Operations
	var first [8]*Rule
	used := first[:0]
	var program *Rule // of the first, which is the one that reads what the client sends
	if st.Incomplete != "" {
		if program = t.opaque(st); program == nil {
			v.Reason = abi.Reason{Code: "tasks.incomplete", Message: "not understood, and so refused: " + st.Incomplete, Hint: t.hint(name, nil)}
			return
		}
		used, ops = append(used, program), nil // it stands for all that there is
	}
	for i := range ops {
		if o := &ops[i]; o.Via == "" || ofHost(o.Kind) {
			r, m := t.match(o)
			if m != nil {
				v.Reason = abi.Reason{Code: "tasks.not-allowed", Message: m.what, Closest: m.closest, Hint: t.hint(name, o)}
				return
			}
			if r != nil && !slices.Contains(used, r) {
				used = append(used, r)
			}
			if o.Kind == abi.KindProgram && program == nil && r != nil {
				program = r
			}
		}
	}
	for i := range ops {
		if o := &ops[i]; o.Via != "" && !ofHost(o.Kind) {
			if what := t.effect(o, used); what != "" {
				v.Reason = abi.Reason{Code: "tasks.effect", Message: what, Hint: "list it, or accept it with effects: [" + accepted(o) + "] on the rule"}
				return
			}
		}
	}
	v.Decision = abi.Allow
	v.ShowErrors = t.ShowErrors
	v.Stdin = program != nil && program.Host.reads()
	v.Terms.RowsReturned, v.Limits.StatementTimeout = t.Rows, t.Timeout
	for _, r := range used {
		v.Terms.RowsWritten = abi.Tighten(v.Terms.RowsWritten, r.Rows)
	}
	t.protect(st, v)
	if m := t.texts(st, v); m != nil {
		*v = abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "tasks.masked", Message: m.what, Closest: m.closest, Hint: t.hint(name, nil)}}
		return
	}
	t.review(name, used, v)
}

// review says who has to approve what the rules hold. There is one requirement
// a guard, so that two which differ cannot both be asked for.
func (t *Task) review(name string, used []*Rule, v *abi.Verdict) {
	var first *Rule
	keep, unseen := true, true
	summary := ""
	for _, r := range used {
		if r.Review == nil {
			continue
		}
		if first == nil {
			first = r
		}
		if !r.Review.same(first.Review) {
			*v = abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "tasks.two-reviews",
				Message: "this needs two approvals that differ, by rule " + first.At + " and rule " + r.At + ", and one command asks for one",
				Closest: "rule " + r.At + ": " + r.String(), Hint: "do it in commands of their own, each of which one rule holds"}}
			return
		}
		keep, unseen = keep && r.Review.OnHold == "keep", unseen && r.Review.Payload == "unseen"
		said := r.Review.Summary
		if said == "" {
			said = name + ": " + r.String()
		}
		if summary != "" {
			summary += "; "
		}
		summary += said
	}
	if first == nil {
		return
	}
	w := first.Review
	v.Decision = abi.Review
	v.Review = abi.Requirement{Groups: w.Groups, People: w.People, Within: w.Within, Justify: w.Justify, Summary: summary}
	if keep {
		v.Terms.OnHold = "keep"
	}
	if unseen {
		v.Terms.Payload = "unseen"
	}
	v.Reason = abi.Reason{Code: "tasks.review", Message: "held: this needs the approval of " + strings.Join(w.Groups, " or "), Closest: "rule " + first.At + ": " + first.String()}
}

// protect names what is masked, and what the task does not list for reading
// where errors or constraints could tell of it. What that means for the
// command the core derives.
func (t *Task) protect(st *abi.Statement, v *abi.Verdict) {
	closed := t.Oracle == "refuse"
	v.Terms.Blind = t.Blind
	for i := range st.Operations {
		o := &st.Operations[i]
		if o.Kind != abi.KindRelation && o.Kind != abi.KindFunction { // which may read anything
			continue
		}
		if v.Protect == nil && len(t.Masks) > 0 {
			v.Protect = t.Masks[:len(t.Masks):len(t.Masks)] // what is added gets a place of its own
		}
		if o.Kind == abi.KindFunction {
			continue
		}
		if o.Attrs&abi.Own != 0 {
			continue // whoever has made it has seen all of it
		}
		if t.ShowErrors && !t.reads(o, "*") { // an error prints the whole row
			v.Protect = unlisted(v.Protect, o, "*")
		}
		for j := range o.Columns {
			if c := &o.Columns[j]; closed && c.Use&abi.UseTested != 0 && !t.reads(o, c.Name) {
				v.Protect = unlisted(v.Protect, o, c.Name)
			}
		}
	}
	switch t.Oracle {
	case "accept":
		v.Terms.Oracle = accept
	case "refuse":
		v.Terms.Oracle = refuse
	}
}

var accept, refuse = []string{"accept"}, []string{"refuse"}

// reads says whether a rule without condition lists a column for reading; "*"
// is every one.
func (t *Task) reads(o *abi.Operation, column string) bool {
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.conditional() || !slices.Contains(r.Verbs, "select") || !r.lists(column) {
			continue
		}
		for _, name := range r.Tables {
			if called(o, name) {
				return true
			}
		}
	}
	return false
}

// called says whether an operation is on schema.name, without joining it.
func called(o *abi.Operation, name string) bool {
	schema, rest, _ := strings.Cut(name, ".")
	return len(o.Object) == 2 && o.Object[0] == schema && o.Object[1] == rest
}

func unlisted(list []abi.Protect, o *abi.Operation, column string) []abi.Protect {
	for i := range list {
		if p := &list[i]; p.Unlisted && p.Column == column && slices.Equal(p.Relation, o.Object) {
			return list
		}
	}
	return append(list, abi.Protect{Relation: o.Object, Column: column, Unlisted: true})
}

func table(o *abi.Operation) string { return strings.Join(o.Object, ".") }

// is says whether table gives this name, without making it.
func is(o *abi.Operation, name string) bool {
	if len(o.Object) != 2 {
		return table(o) == name
	}
	a, b := o.Object[0], o.Object[1]
	return len(name) == len(a)+1+len(b) && name[len(a)] == '.' && name[:len(a)] == a && name[len(a)+1:] == b
}

// has says whether the rule lists the verb and the table of an operation.
func (r *Rule) has(o *abi.Operation) bool {
	if !slices.Contains(r.Verbs, o.Verb) {
		return false
	}
	for _, name := range r.Tables {
		if is(o, name) {
			return true
		}
	}
	return false
}

// match finds the rule under which an operation may be done; nil and nil is
// the floor, which every task has.
func (t *Task) match(o *abi.Operation) (*Rule, *miss) {
	if t.own(o) {
		return nil, nil
	}
	if o.Kind == abi.KindRelation && DDL[o.Verb] == nil { // what most are
		return t.relation(o)
	}
	if r, m, ok := t.defines(o); ok {
		return r, m
	}
	switch o.Kind {
	case abi.KindTransaction, abi.KindSystem:
		if o.Attrs&abi.Floor != 0 && o.Effect == abi.EffectRead {
			return nil, nil
		}
	case abi.KindSetting:
		if o.Attrs&abi.Floor != 0 && o.Effect == abi.EffectRead || slices.Contains(t.Settings, table(o)) {
			return nil, nil
		}
		to := ""
		if o.Value != "" {
			to = " to " + strconv.Quote(o.Value)
		}
		return nil, &miss{what: "the setting " + table(o) + " may not be changed" + to + " in this task"}
	case abi.KindFunction:
		for i := range t.Rules {
			if r := &t.Rules[i]; slices.Contains(r.Verbs, "call") && slices.Contains(r.Functions, table(o)) {
				return r, nil
			}
		}
		return nil, &miss{what: "the function " + table(o) + " is not in this task: it may do more than compute"}
	case abi.KindChannel:
		for i := range t.Rules {
			if r := &t.Rules[i]; slices.Contains(r.Verbs, o.Verb) && slices.Contains(r.Channels, table(o)) {
				return r, nil
			}
		}
	case abi.KindProgram, abi.KindTerminal, abi.KindOpaque, abi.KindFile, abi.KindForward, abi.KindEnvironment, abi.KindSignal, abi.KindAgent, abi.KindX11:
		return t.host(o)
	}
	return nil, &miss{what: strings.TrimSpace(o.Verb+" "+table(o)) + " is not in this task"}
}

func (t *Task) relation(o *abi.Operation) (*Rule, *miss) {
	if o.Attrs&abi.RowLock != 0 && !t.any("update", table(o)) { // as the server has it: the right to delete is not enough
		return nil, &miss{what: "locking rows of " + table(o) + " is not in this task"}
	}
	var matching []*Rule
	for i := range t.Rules {
		if r := &t.Rules[i]; r.has(o) {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		return nil, t.nothing(o)
	}
	// The rules without a condition count together.
	var first *Rule
	missing := ""
	for _, c := range o.Columns {
		if !needs(o, c) {
			continue
		}
		listed := false
		for _, r := range matching {
			listed = listed || !r.conditional() && r.lists(c.Name)
		}
		if !listed {
			missing = c.Name
			break
		}
	}
	for _, r := range matching {
		if !r.conditional() && first == nil {
			first = r
		}
	}
	if first != nil && missing == "" {
		return first, nil
	}
	// One with a condition covers an operation whole: allow before review.
	name := table(o)
	var m miss
	if first != nil {
		m = miss{what: "column " + missing + " of " + name + " is not in this task for " + o.Verb, closest: "closest is rule " + first.At + ": " + first.String(), score: 1}
	}
	var allow, review *Rule
	for _, r := range matching {
		if !r.conditional() {
			continue
		}
		lacks := ""
		for _, c := range o.Columns {
			if needs(o, c) && !r.lists(c.Name) {
				lacks = c.Name
				break
			}
		}
		switch {
		case lacks != "":
			if m.score < 2 {
				m = miss{what: "column " + lacks + " of " + name + " is not in this task for " + o.Verb, closest: "closest is rule " + r.At + ": " + r.String(), score: 2}
			}
		case !r.holds(o):
			what := "a condition that is not always true"
			if r.Where == "key" {
				what = "a condition that fixes a unique key to one value"
			}
			if m.score < 3 {
				m = miss{what: o.Verb + " on " + name + " needs " + what, closest: "closest is rule " + r.At + ": " + r.String(), score: 3}
			}
		case r.Review != nil:
			if review == nil {
				review = r
			}
		case allow == nil || allow.Rows > 0 && (r.Rows == 0 || r.Rows > allow.Rows): // any of them is enough
			allow = r
		}
	}
	if allow != nil {
		return allow, nil
	}
	if review != nil {
		return review, nil
	}
	return nil, &m
}

// needs says whether a rule has to list the column for this operation.
func needs(o *abi.Operation, c abi.Column) bool {
	switch o.Verb {
	case "select":
		return true
	case "insert", "update":
		return c.Use&abi.UseWritten != 0
	}
	return false
}

func (t *Task) any(verb, table string) bool {
	for i := range t.Rules {
		if r := &t.Rules[i]; slices.Contains(r.Verbs, verb) && slices.Contains(r.Tables, table) {
			return true
		}
	}
	return false
}

// nothing says what comes closest where no rule has the verb on the table.
func (t *Task) nothing(o *abi.Operation) *miss {
	name := table(o)
	m := &miss{what: o.Verb + " on " + name + " is not in this task"}
	for i := range t.Rules {
		if r := &t.Rules[i]; slices.Contains(r.Tables, name) {
			m.closest = "closest is rule " + r.At + ": " + r.String()
			break
		}
	}
	return m
}

// beneath are the words for what makes a command write elsewhere.
var beneath = map[string]string{"fk": "foreign key", "rule": "rule", "view": "view"}

// effect judges what stands behind a view, a parent, a foreign key, a rule, a
// trigger or a default. It gives why not.
func (t *Task) effect(o *abi.Operation, used []*Rule) string {
	how, what, _ := strings.Cut(o.Via, " ")
	switch {
	case t.own(o):
		return ""
	case (how == "view" || how == "generated" || how == "policy") && o.Effect == abi.EffectRead, how == "parent":
		return "" // whoever lists a view, generated column or parent lists what is behind it, and what its rows depend on
	case (how == "default" || how == "rows") && o.Verb == "alter_table":
		return "" // the rule for the table that is altered has it; that values are given is for the core
	case o.Verb == "test" && o.Kind == abi.KindRelation && o.Effect == abi.EffectRead:
		return "" // as GRANT INSERT would let it: what it may tell of, the core decides
	case beneath[how] != "" && o.Kind == abi.KindRelation:
		if r, m := t.match(&abi.Operation{Verb: o.Verb, Kind: o.Kind, Object: o.Object, Columns: o.Columns, Effect: o.Effect}); m == nil && r != nil && !r.conditional() {
			return ""
		}
		if slices.ContainsFunc(used, func(r *Rule) bool { return slices.Contains(r.Effects, table(o)) }) {
			return ""
		}
		return "the server would also " + o.Verb + " rows of " + table(o) + " by the " + beneath[how] + " " + what
	case how == "trigger":
		how := "the server would also run the trigger " + what
		for _, r := range used {
			if !slices.Contains(r.Effects, accepted(o)) {
				continue
			}
			if slices.Contains(r.Pinned[accepted(o)], o.Value) {
				return ""
			}
			how = "the source of the trigger " + what + " is not the one that was accepted"
		}
		return how
	}
	if o.Kind == abi.KindFunction {
		if _, m := t.match(o); m == nil {
			return ""
		}
	}
	return "the server would also " + o.String()
}

// accepted is how `effects` names what an operation does.
func accepted(o *abi.Operation) string {
	if strings.HasPrefix(o.Via, "trigger ") {
		return o.Via
	}
	return table(o)
}

// hint lists what the task allows, first what is like an operation that it does
// not.
func (t *Task) hint(name string, o *abi.Operation) string {
	var here, there []string
	for i := range t.Rules {
		if r := &t.Rules[i]; o != nil && (slices.Contains(r.Tables, table(o)) || r.Host != nil && r.Host.about(o)) {
			here = append(here, r.String())
		} else {
			there = append(there, r.String())
		}
	}
	all := append(here, there...)
	if len(all) > 6 {
		all = append(all[:6], "…")
	}
	out := ""
	if o != nil && o.Kind == abi.KindRelation && o.Verb == "select" && len(o.Columns) == 0 && len(here) == 0 { // as who locks a table to dump it
		out = "leave " + table(o) + " out (pg_dump -T " + table(o) + "), or name what the task lists (pg_dump -t): "
	}
	if o != nil && o.Verb == "create_table" && len(o.Object) == 2 && o.Object[0] == "pg_temp" {
		out = "name what comes between by WITH … AS MATERIALIZED, keep a result open with DECLARE … WITH HOLD, or take it away with COPY (SELECT …) TO STDOUT: "
	}
	return out + "task " + name + " allows: " + strings.Join(all, "; ") + ". For more, ask for another task or a change of its file"
}
