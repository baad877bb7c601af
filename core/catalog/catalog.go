// Package catalog reads the task files: what tasks there are, who may do
// them, and what each may do. Load reports every fault of every file at once;
// Compile writes what the tasks guard is configured with.
package catalog

import (
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// Schema is the JSON Schema of a task file, for editors. Load has the last
// word.
//
//go:embed task.schema.json
var Schema []byte

// Catalog is the tasks by name.
type Catalog struct {
	Dir      string
	Tasks    map[string]*Task
	Lock     *Lock
	Missing  strict.Faults // what needs the lock and is not in it
	Warnings strict.Faults
}

// Task is one task file.
type Task struct {
	Name        string
	Description string
	Resources   []string
	Groups      []string // any of them gives the task; task:<name> unless set
	Login       string
	Session     time.Duration
	Rows        int64
	Timeout     time.Duration
	Introspect  bool
	Listed      bool // introspection tells of what the rules name alone
	Definitions bool // it tells how things are made as well
	ShowErrors  bool
	Settings    []string
	Channels    []string // those that it may listen to, whose payloads it sees
	Rules       []policy.Rule
	Written     []Written // the rules as the file has them
	Masks       []Mask
	Blind       bool          // texts see masked values, and of each table the listed columns alone
	Texts       []policy.Text // masks of a task for hosts
	Oracle      string        // accept, refuse, or empty
	File        string

	CommandShell bool // an interactive shell is the gateway's own

	resources []strict.Node
	login     strict.Node
}

// Written is a rule as its file has it, before the lock says what '*' means.
type Written struct {
	strict.Node
	Rule policy.Rule
	Star bool // columns: '*'
}

// verbs are all that a rule may list, with what they are for.
var verbs = []string{"select", "insert", "update", "delete", "truncate", "lock", "call", "listen", "notify"}

const (
	maxTimeout = 24 * 24 * time.Hour // the longest that PostgreSQL knows of
	maxWithin  = 7 * 24 * time.Hour  // the longest that the gateway holds a command
)

// later are fields of the format that this version does not carry out. They
// are refused rather than ignored: a rule that is not kept is a hole.
var later = map[string]string{
	"budget": "budgets", "kube": "clusters",
}

// Load reads every *.yaml file of a directory, and the lock. The error holds all
// faults.
func Load(dir string) (*Catalog, error) {
	c, err := Read(dir)
	if err == nil {
		err = c.Missing.Err()
	}
	return c, err
}

// Read is Load for whoever makes the lock: what is not in it yet is no fault,
// but stands in Missing, and its rules allow nothing.
func Read(dir string) (*Catalog, error) {
	c := &Catalog{Dir: dir, Tasks: map[string]*Task{}}
	entries, err := os.ReadDir(dir) // in order
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	var faults strict.Faults
	c.Lock = readLock(dir, &faults)
	found := false
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if other := strings.ToLower(filepath.Ext(path)); other == ".yml" || other == ".yaml" && filepath.Ext(path) != ".yaml" {
			faults = append(faults, strict.Fault{File: path, Line: 1, Column: 1, Message: "a task file ends in .yaml: this one would not be read"})
		}
		if filepath.Ext(path) != ".yaml" || strings.HasPrefix(e.Name(), ".") { // an editor's own are hidden
			continue
		}
		found = true
		b, err := strict.ReadFile(path)
		if err != nil {
			if p := (*fs.PathError)(nil); errors.As(err, &p) {
				err = p.Err
			}
			faults = append(faults, strict.Fault{File: path, Line: 1, Column: 1, Message: "it cannot be read: " + err.Error()})
			continue
		}
		n := strict.Parse(path, b, &faults)
		if !n.Exists() {
			continue
		}
		t := c.task(path, n)
		if t.Name != "" && c.Tasks[t.Name] == nil {
			c.Tasks[t.Name] = t
		}
		c.Warnings = append(append(c.Warnings, t.overlaps()...), append(t.pointless(), t.idle()...)...)
	}
	if !found && len(faults) == 0 {
		return nil, fmt.Errorf("catalog: no task files (*.yaml) in %s", dir)
	}
	return c, faults.Err()
}

// Resource is what the tasks are held against of a resource.
type Resource struct {
	Protocol string // postgres, ssh
	Address  string // host:port
	Logins   []string
	Posix    bool // its shell reads quotes as POSIX has it
}

// Against holds the tasks against the resources that there are.
func (c *Catalog) Against(resources map[string]Resource) (faults strict.Faults) {
	for _, t := range c.Tasks {
		login := t.LoginAt(resources)
		for i, r := range t.Resources {
			is, ok := resources[r]
			logins := is.Logins
			known := strings.Join(slices.Sorted(slices.Values(logins)), ", ")
			switch {
			case !ok:
				faults = append(faults, t.resources[i].Wrong("the resource %q is not in the configuration (%s)", r, near(r, slices.Sorted(maps.Keys(resources)))))
			case t.fits(r, is) != "":
				faults = append(faults, t.resources[i].Wrong("%s", t.fits(r, is)))
			case slices.Contains(logins, login) || len(logins) == 0:
			case t.Login != "":
				faults = append(faults, t.login.Wrong("the resource %q has no login %q (known are %s)", r, t.Login, known))
			default:
				faults = append(faults, t.resources[i].Wrong("which login of the resource %q? login: NAME says it, of %s", r, known))
			}
		}
		faults = append(append(faults, t.roundabout(resources)...), t.unquoted(resources)...)
	}
	return faults
}

// LoginAt gives the login that the task uses: the one it names, or the only one
// that its first resource has.
func (t *Task) LoginAt(resources map[string]Resource) string {
	if t.Login == "" && len(t.Resources) > 0 && len(resources[t.Resources[0]].Logins) == 1 {
		return resources[t.Resources[0]].Logins[0]
	}
	return t.Login
}

// overlaps says which rules add nothing to another of their task.
func (t *Task) overlaps() (warnings strict.Faults) {
	for i, w := range t.Written {
		for j, o := range t.Written {
			if i == j || !o.covers(&w) || o.covers(&o) && w.covers(&o) && i < j { // of two that are the same the later
				continue
			}
			what := "the rule adds nothing: %s allows all of it"
			if w.Rule.Review != nil {
				what = "the rule holds nothing: %s allows all of it without approval"
			}
			warnings = append(warnings, w.Wrong(what, o.Rule.At))
			break
		}
	}
	return warnings
}

// covers says whether whatever w allows, or holds, o allows.
func (o *Written) covers(w *Written) bool {
	a, b := &o.Rule, &w.Rule
	all := func(of, in []string) bool {
		return !slices.ContainsFunc(of, func(s string) bool { return !slices.Contains(in, s) })
	}
	if a.Host != nil || b.Host != nil {
		return a.Review == nil && wider(a.Host, b.Host)
	}
	if a.Review != nil || a.Where != "" && a.Where != b.Where || a.Rows > 0 && (b.Rows == 0 || b.Rows > a.Rows) || len(b.Verbs) == 0 {
		return false
	}
	every := slices.Contains(a.Columns, "*")
	columns := every || !slices.Contains(b.Columns, "*") && (o.Star && w.Star || !w.Star && all(b.Columns, a.Columns))
	return columns && all(b.Verbs, a.Verbs) && all(b.Tables, a.Tables) && all(b.Functions, a.Functions) && all(b.Channels, a.Channels) && all(b.Effects, a.Effects) && all(b.In, a.In)
}

func (c *Catalog) task(path string, n strict.Node) *Task {
	t := &Task{File: path, Introspect: true}
	var rules []strict.Node
	var masks []strict.Node
	review, named, placed, ruled := map[int]bool{}, false, false, false
	seen := map[string]strict.Node{} // what only a task for databases has
	fields := map[string]func(strict.Node){
		"task": func(v strict.Node) {
			t.Name, named = v.String(), true
			if want := strings.TrimSuffix(filepath.Base(path), ".yaml"); t.Name != want {
				v.Fault("the task of this file is called %q, as the file is", want)
			}
			if t.Name == "" || strings.ContainsFunc(t.Name, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
			}) {
				v.Fault("a name of a-z, 0-9, - and _ is expected")
			}
		},
		"description": func(v strict.Node) { t.Description = v.String() },
		"resources": func(v strict.Node) {
			placed = !v.IsList()
			for _, e := range v.List() {
				t.Resources, t.resources = append(t.Resources, e.String()), append(t.resources, e)
			}
		},
		"groups": func(v strict.Node) {
			if t.Groups = v.Strings(); len(t.Groups) == 0 || slices.Contains(t.Groups, "") {
				v.Fault("a list of groups is expected, any of which gives the task")
			}
		},
		"login":       func(v strict.Node) { t.Login, t.login = v.String(), v },
		"introspect":  func(v strict.Node) { t.introspect(v); seen["introspect"] = v },
		"show_errors": func(v strict.Node) { t.ShowErrors, seen["show_errors"] = v.Bool(), v },
		"settings":    func(v strict.Node) { t.Settings, seen["settings"] = v.Strings(), v },
		"limits": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){
				"session": func(v strict.Node) { t.Session = v.Duration() },
				"rows": func(v strict.Node) {
					seen["rows"] = v
					if t.Rows = v.Int(1 << 40); t.Rows == 0 {
						v.Fault("at least 1 is expected: a limit that is left out is none")
					}
				},
				"statement_timeout": func(v strict.Node) {
					seen["statement_timeout"] = v
					if t.Timeout = v.Duration(); t.Timeout != 0 && (t.Timeout < time.Millisecond || t.Timeout > maxTimeout) {
						v.Fault("a time from 1ms to %s is expected", maxTimeout)
					}
				},
			})
		},
		"allow": func(v strict.Node) {
			ruled = !v.IsList()
			rules = append(rules, v.List()...)
		},
		"review": func(v strict.Node) {
			for _, r := range v.List() {
				review[len(rules)] = true
				rules = append(rules, r)
			}
		},
	}
	fields["mask"] = func(v strict.Node) { masks, seen["mask"] = v.List(), v }
	fields["blind"] = func(v strict.Node) { t.Blind, seen["blind"] = v.Bool(), v }
	fields["oracle"] = func(v strict.Node) { t.Oracle, seen["oracle"] = v.One("accept", "refuse"), v }
	for name, what := range later {
		fields[name] = func(v strict.Node) {
			v.Fault("this version has no %s yet, and does not ignore what it cannot keep", what)
		}
	}
	for _, name := range hostFields {
		fields[name] = func(v strict.Node) { v.Fault("it stands in a rule: allow: [{%s: ...}]", name) }
	}
	n.Fields(fields)
	if !named {
		n.Fault("the task has no name: task: NAME")
	}
	if len(t.Resources) == 0 && !placed {
		n.Fault("the task has no resources, so nobody could do it: resources: [NAME]")
	}
	if len(rules) == 0 && !ruled {
		n.Fault("the task allows nothing: allow: [...]")
	}
	if t.Groups == nil {
		t.Groups = []string{"task:" + t.Name}
	}
	for i, v := range rules {
		w := Written{Node: v}
		var ddl []policy.Rule
		w.Rule, w.Star, ddl = c.rule(v, review[i])
		for _, one := range ddl {
			w.Rule = one
			t.Written, t.Rules = append(t.Written, w), append(t.Rules, one)
		}
		if ddl != nil {
			continue
		}
		t.Written = append(t.Written, w)
		t.Rules = append(t.Rules, c.locked(t, w)...)
		if slices.Contains(w.Rule.Verbs, "listen") && w.Rule.Review == nil {
			t.Channels = append(t.Channels, w.Rule.Channels...)
		}
	}
	if t.Protocol() == "ssh" {
		t.texts(masks)
	} else {
		t.mask(masks)
	}
	t.protocols(seen)
	t.listing(seen)
	return t
}

// locked gives what a rule is with what the lock says: one rule for each table
// where it has columns: '*', and the accepted source of each trigger.
func (c *Catalog) locked(t *Task, w Written) []policy.Rule {
	r := w.Rule
	for _, e := range r.Effects {
		trigger, ok := strings.CutPrefix(e, "trigger ")
		if !ok {
			continue
		}
		found := false
		for _, name := range t.Resources {
			if l := c.Lock.Resources[name]; l != nil && l.Triggers[trigger] != "" {
				if r.Pinned == nil {
					r.Pinned = map[string][]string{}
				}
				r.Pinned[e] = append(r.Pinned[e], l.Triggers[trigger])
				found = true
			}
		}
		if !found {
			c.Missing = append(c.Missing, w.Wrong("effects: the source of the trigger %s is not in %s: taskgate check --live --accept", trigger, LockFile))
		}
	}
	if !w.Star {
		return []policy.Rule{r}
	}
	var out []policy.Rule
	for _, table := range r.Tables {
		columns, ok := c.Lock.columns(t.Resources, table)
		if !ok {
			c.Missing = append(c.Missing, w.Wrong("columns: '*' means those of %s in %s, which has none: taskgate check --live --accept", table, LockFile))
			continue
		}
		one := r
		one.Tables, one.Columns = []string{table}, columns
		out = append(out, one)
	}
	return out
}

func (c *Catalog) rule(n strict.Node, review bool) (policy.Rule, bool, []policy.Rule) {
	var ddl []policy.Rule
	r := policy.Rule{At: filepath.Base(n.At())} // the engineer is told the file, not where the operator keeps it
	columns, star, verbless, tables, by := false, false, true, false, false
	held := policy.Review{People: 1, Within: 900}
	var asks []strict.Node // what only a review rule has
	fields := map[string]func(strict.Node){
		"verbs": func(v strict.Node) {
			verbless = len(v.List()) == 0
			for _, w := range v.List() {
				if s := w.One(verbs...); s != "" {
					r.Verbs = append(r.Verbs, s)
				}
			}
		},
		"tables": func(v strict.Node) {
			r.Tables = qualified(v)
			tables = len(r.Tables) > 0 || !v.IsEmpty()
		},
		"ddl":       func(v strict.Node) { ddl = definitions(v) },
		"functions": func(v strict.Node) { r.Functions = qualified(v) },
		"channels":  func(v strict.Node) { r.Channels = v.Strings() },
		"columns": func(v strict.Node) {
			columns = true
			if !v.IsList() {
				switch s := v.String(); {
				case s == "all":
					r.Columns = []string{"*"}
				case s == "*":
					star = true
				case v.IsText():
					v.Fault("a list is expected: [%s], or '*', or all", s)
				}
				return
			}
			for _, w := range v.List() {
				s := w.String()
				if s == "*" {
					w.Fault("a list names columns; for those that are accepted say columns: '*', for every one, present and future, columns: all")
				}
				r.Columns = append(r.Columns, s)
			}
			if len(r.Columns) == 0 {
				v.Fault("no column is listed, so the rule can never match")
			}
		},
		"where": func(v strict.Node) { r.Where = v.One("key", "required") },
		"effects": func(v strict.Node) {
			for _, e := range v.List() {
				s := e.String()
				if trigger, is := strings.CutPrefix(s, "trigger "); is && strings.Count(trigger, ".") != 2 {
					e.Fault("%q: trigger SCHEMA.TABLE.NAME is expected", s)
				} else if !is && s != "" && !dotted(s) {
					e.Fault("%q: a table with its schema, or trigger SCHEMA.TABLE.NAME, is expected", s)
				}
				r.Effects = append(r.Effects, s)
			}
		},
		"rows": func(v strict.Node) {
			if r.Rows = uint64(v.Int(1 << 40)); r.Rows == 0 {
				v.Fault("at least 1 is expected: a rule that may write no row can never match")
			}
		},
		"by": func(v strict.Node) {
			by = true
			who(v, &held)
		},
		"summary": func(v strict.Node) { held.Summary, asks = v.String(), append(asks, v) },
		"on_hold": func(v strict.Node) { held.OnHold, asks = v.One("refuse", "keep"), append(asks, v) },
		"payload": func(v strict.Node) { held.Payload, asks = v.One("unseen"), append(asks, v) },
	}
	for name, what := range later {
		fields[name] = func(v strict.Node) { v.Fault("this version has no %s yet", what) }
	}
	for _, name := range []string{"mask", "oracle", "blind"} {
		fields[name] = func(v strict.Node) { v.Fault("it stands beside allow, for the whole task: %s", example[name]) }
	}
	fields["filter"] = func(v strict.Node) { v.Fault("it stands at the column's mask: %s", example["filter"]) }
	var h policy.Host
	maps.Copy(fields, hosts(&h))
	seen := map[string]strict.Node{}
	for name, f := range fields {
		fields[name] = func(v strict.Node) {
			seen[name] = v
			f(v)
		}
	}
	n.Fields(fields)
	switch {
	case review && by:
		r.Review = &held
	case by:
		n.Fault("by: only a review rule says by whom: list the rule under review")
	case !review:
		for _, v := range asks {
			v.Fault("it is for rules that are held: list the rule under review")
		}
	}
	if seen["ddl"].Exists() {
		for name, v := range seen {
			if !slices.Contains([]string{"ddl", "by", "summary", "on_hold"}, name) {
				v.Fault("it does not go with ddl: what changes tables or other objects stands in a rule of its own")
			}
		}
		if review && !by {
			n.Fault(byWhom)
		}
		for i := range ddl {
			ddl[i].At, ddl[i].Review = r.At, r.Review
		}
		return r, false, ddl
	}
	if slices.ContainsFunc(hostFields, func(name string) bool { return seen[name].Exists() }) {
		r.Host, r.Verbs = &h, nil
		ofHost(&h, seen, review)
		if review && !by {
			n.Fault(byWhom)
		}
		return r, false, nil
	}
	if v, ok := seen["stdin"]; ok {
		v.Fault("it is for exec and opaque: what the client sends to a program")
	}
	writes := slices.ContainsFunc(r.Verbs, func(v string) bool { return v == "insert" || v == "update" || v == "delete" })
	reads := slices.ContainsFunc(r.Verbs, func(v string) bool { return v == "select" || v == "insert" || v == "update" })
	call := slices.Contains(r.Verbs, "call")
	channel := slices.ContainsFunc(r.Verbs, func(v string) bool { return v == "listen" || v == "notify" })
	switch {
	case len(r.Verbs) == 0 && verbless:
		n.Fault("the rule has no verbs, and nothing of a host, so it can never match")
	case len(r.Verbs) == 0: // they are at fault themselves
	case call && (len(r.Functions) == 0 || len(r.Verbs) > 1):
		n.Fault("call is for functions, in a rule of its own: {verbs: [call], functions: [public.f]}")
	case channel && (len(r.Channels) == 0 || slices.ContainsFunc(r.Verbs, func(v string) bool { return v != "listen" && v != "notify" })):
		n.Fault("listen and notify are for channels, in a rule of their own: {verbs: [listen], channels: [orders]}")
	case !channel && len(r.Channels) > 0:
		n.Fault("channels are for verbs: [listen, notify]")
	case !call && !channel && !tables:
		n.Fault("the rule has no tables, so it can never match")
	case !call && len(r.Functions) > 0:
		n.Fault("functions are for verbs: [call]")
	case reads && !columns:
		n.Fault("columns is required: name them, or say columns: '*' for those that %s has", LockFile)
	case r.Where != "" && (slices.Contains(r.Verbs, "select") || slices.Contains(r.Verbs, "insert") || slices.Contains(r.Verbs, "truncate") || slices.Contains(r.Verbs, "lock") || call || channel):
		n.Fault("where is for update and delete: no other verb can meet it")
	case r.Rows > 0 && (!writes || slices.ContainsFunc(r.Verbs, func(v string) bool { return v != "insert" && v != "update" && v != "delete" })):
		n.Fault("rows is for insert, update and delete: no other verb says how many rows it has written")
	case review && !by:
		n.Fault(byWhom)
	}
	return r, star, nil
}

const byWhom = "a review rule says by whom: by: {groups: [dba], people: 1}"

// who reads by whom something is approved.
func who(n strict.Node, r *policy.Review) {
	n.Fields(map[string]func(strict.Node){
		"groups":  func(v strict.Node) { r.Groups = v.Strings() },
		"people":  func(v strict.Node) { r.People = uint32(v.Int(100)) },
		"justify": func(v strict.Node) { r.Justify = v.Bool() },
		"within": func(v strict.Node) {
			d := v.Duration()
			if d != 0 && (d < time.Second || d > maxWithin) {
				v.Fault("a time from 1s to %s is expected", maxWithin)
			}
			r.Within = uint32(d / time.Second)
		},
	})
	if len(r.Groups) == 0 || slices.Contains(r.Groups, "") || r.People == 0 {
		n.Fault("by names the groups and how many people: by: {groups: [dba], people: 1}")
	}
}

// qualified reads names with their schema. Each is one name: there are no
// patterns, and one with a * in it would never match.
func qualified(n strict.Node) (out []string) {
	for _, v := range n.List() {
		s := v.String()
		switch {
		case s == "": // it has its fault
		case strings.Contains(s, "*"):
			v.Fault("%q: a name stands for itself alone, so this can never match: list them", s)
		case !dotted(s):
			v.Fault("%q: a name with its schema is expected: public.%s", s, s)
		default:
			out = append(out, s)
		}
	}
	return out
}

func dotted(s string) bool {
	schema, name, ok := strings.Cut(s, ".")
	return ok && schema != "" && name != ""
}

// compiled is what the tasks guard is told of a task.
func (t *Task) compiled() *policy.Task {
	p := &policy.Task{Rules: t.Rules, Rows: uint64(t.Rows), Timeout: uint32(t.Timeout / time.Millisecond), ShowErrors: t.ShowErrors, Settings: t.Settings, Oracle: t.Oracle, Blind: t.Blind, Texts: t.Texts}
	p.Masks = t.Protects()
	return p
}

// Digest is over all that a task's file says but its description.
func (t *Task) Digest() string {
	b, err := json.Marshal([]any{t.compiled(), t.Resources, t.Groups, t.Login, t.Session, t.Introspect, t.Listed, t.Definitions})
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// Compile writes the configuration of the tasks guard, and a digest over it.
func (c *Catalog) Compile() ([]byte, string, error) {
	p := policy.Config{Tasks: map[string]*policy.Task{}}
	for name, t := range c.Tasks {
		p.Tasks[name] = t.compiled()
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, "", fmt.Errorf("catalog: %w", err)
	}
	return b, fmt.Sprintf("%x", sha256.Sum256(b)), nil
}
