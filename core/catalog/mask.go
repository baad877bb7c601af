package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// Mask is what a task masks.
type Mask struct {
	strict.Node
	Relation [2]string // schema, name
	Column   string
	Rule     mask.Rule
	Filter   bool // it may be compared with values that a text names
}

// Name is the column as the file has it.
func (m *Mask) Name() string { return m.Table() + "." + m.Column }

// Table is the relation as rules name it.
func (m *Mask) Table() string { return m.Relation[0] + "." + m.Relation[1] }

// maxMasks bounds what a verdict carries.
const maxMasks = 2000

// example is how what stands in the wrong place is written.
var example = map[string]string{
	"mask":   `mask: [{column: public.customers.email, with: keep_from("@")}]`,
	"oracle": "oracle: accept",
	"blind":  "blind: true",
	"filter": `mask: [{column: public.customers.email, with: keep_from("@"), filter: eq}]`,
}

// mask reads what the task masks. The rules are there by now.
func (t *Task) mask(list []strict.Node) {
	if len(list) > maxMasks {
		list[maxMasks].Fault("at most %d masks", maxMasks)
		return
	}
	named := map[string]string{}
	for _, n := range list {
		m, ok := Mask{Node: n}, true
		column, with := false, false
		var filter strict.Node
		n.Fields(map[string]func(strict.Node){
			"column": func(v strict.Node) { column = true; ok = m.column(v) && ok },
			"with": func(v strict.Node) {
				with = true
				s := v.String()
				r, err := mask.ParseRule(s)
				switch {
				case s == "" && v.IsText():
					v.Fault("nothing stands here: give it a value, or leave the key out")
				case s == "": // it has its fault
				case strings.Contains(s, "(") && !strings.Contains(s, ")"): // the comma ended the value
					v.Fault("%q: what has a comma in it needs quotes here: with: 'keep(2, 4)'", s)
				case err != nil:
					v.Fault("%v", err)
				case r.Kind == abi.MaskCustom:
					v.Fault("a custom mask is a guard's own, and this is the task's: a plugin with may: [mask] names the column itself")
				}
				ok = ok && s != "" && err == nil && r.Kind != abi.MaskCustom
				m.Rule.Kind, m.Rule.Arg = r.Kind, r.Arg
			},
			"filter": func(v strict.Node) { filter, m.Filter = v, v.One("eq") != "" },
			"nulls":  func(v strict.Node) { m.Rule.Nulls = v.One("hide", "show") == "show" },
		})
		switch {
		case !column:
			n.Fault("which column? %s", example["mask"])
		case !with:
			n.Fault("with what? %s; the word null needs quotes: with: 'null'", example["mask"])
		case !ok:
		case named[m.Name()] != "":
			n.Fault("%s has a mask already, at %s", m.Name(), named[m.Name()])
		default:
			named[m.Name()] = n.At()
			t.Masks = append(t.Masks, m)
			if err := mask.Expressible(m.Rule); err != nil && t.Blind {
				n.Fault("the task is blind: the server itself masks %s, and %v", m.Name(), err)
			}
			switch {
			case !m.Filter:
			case t.Blind:
				filter.Fault("the task is blind: its conditions meet what the masks show, and nothing else: leave filter out, or blind")
			case m.Rule.Pure():
				filter.Fault("%s shows equal values as equal, and a value that is found would stand beside what shows it everywhere: mask the column with keep, fixed or null", m.Rule)
			}
			if at := t.Writes(m.Table(), m.Column); at != "" && m.Rule.Pure() {
				n.Fault("%s", m.Written(at))
			}
		}
	}
}

// column reads schema.table.column: the first part and the last are one name
// each, as in rules.
func (m *Mask) column(v strict.Node) bool {
	s := v.String()
	if s == "" && !v.IsText() {
		return false
	}
	schema, rest, _ := strings.Cut(s, ".")
	i := strings.LastIndexByte(rest, '.')
	if schema == "" || i <= 0 || i == len(rest)-1 {
		v.Fault("%q: a column with its table and schema is expected: public.customers.email", s)
		return false
	}
	if strings.Contains(s, "*") {
		v.Fault("%q: a name stands for itself alone: mask each column", s)
		return false
	}
	m.Relation, m.Column = [2]string{schema, rest[:i]}, rest[i+1:]
	return true
}

// Writes gives the first rule that writes a column, or nothing.
func (t *Task) Writes(table, column string) string {
	for i := range t.Rules {
		r := &t.Rules[i]
		if (slices.Contains(r.Verbs, "insert") || slices.Contains(r.Verbs, "update")) && lists(r, table, column) {
			return r.At
		}
	}
	return ""
}

// Written says why the mask has no place beside a rule that writes its column.
func (m *Mask) Written(at string) string {
	return fmt.Sprintf("the rule at %s writes %s, which the gateway would refuse: beside %s a value that is chosen could be compared with those that are masked. Leave the column out of the rule, or mask it with keep, fixed or null", at, m.Name(), m.Rule)
}

func lists(r *policy.Rule, table, column string) bool {
	return slices.Contains(r.Tables, table) && (slices.Contains(r.Columns, "*") || slices.Contains(r.Columns, column))
}

// pointless says which masks mask nothing, and what lies beside them.
func (t *Task) pointless() (warnings strict.Faults) {
	for i := range t.Masks {
		m := &t.Masks[i]
		read := t.Writes(m.Table(), m.Column) != "" // it closes an oracle
		for j := range t.Rules {
			r := &t.Rules[j]
			read = read || slices.Contains(r.Verbs, "select") && lists(r, m.Table(), m.Column)
		}
		switch {
		case !read:
			warnings = append(warnings, m.Wrong("no select rule lists %s: it masks nothing but what a view or a parent table shows of it", m.Name()))
		case m.Filter && !t.Reads(m.Relation[:], m.Column):
			warnings = append(warnings, m.Wrong("filter: no select rule lists %s, so that it stands in no condition but through a view or a parent table", m.Name()))
		}
	}
	for _, w := range t.Written {
		for i := range t.Masks {
			if m := &t.Masks[i]; slices.Contains(w.Rule.Verbs, "select") && slices.Contains(w.Rule.Columns, "*") && slices.Contains(w.Rule.Tables, m.Table()) {
				warnings = append(warnings, w.Wrong("columns: all of %s, of which the task masks columns: one that is new is shown as it is. '*' is those that somebody has accepted", m.Table()))
				break
			}
		}
	}
	if t.Oracle == "accept" && len(t.Masks) == 0 {
		warnings = append(warnings, strict.Fault{File: t.File, Line: 1, Column: 1, Path: "oracle", Message: "it accepts nothing: the task masks no column"})
	}
	return warnings
}

// Protects are the masks as a guard names them.
func (t *Task) Protects() (list []abi.Protect) {
	for i := range t.Masks {
		m := &t.Masks[i]
		list = append(list, abi.Protect{Relation: m.Relation[:], Column: m.Column, Kind: m.Rule.Kind, Arg: m.Rule.Arg, Nulls: m.Rule.Nulls, Filter: m.Filter})
	}
	return list
}

// Reads says whether a rule lists a column for reading, under a condition or not.
func (t *Task) Reads(relation []string, column string) bool {
	table := strings.Join(relation, ".")
	for i := range t.Rules {
		if r := &t.Rules[i]; slices.Contains(r.Verbs, "select") && lists(r, table, column) {
			return true
		}
	}
	return false
}

// Masked are the columns that the task masks.
func (t *Task) Masked() (list []abi.Source) {
	for i := range t.Masks {
		m := &t.Masks[i]
		list = append(list, abi.Source{Relation: m.Relation[:], Column: m.Column})
	}
	return list
}

// Filtered are those of them that may be compared with values.
func (t *Task) Filtered() (list []abi.Source) {
	for i := range t.Masks {
		if m := &t.Masks[i]; m.Filter {
			list = append(list, abi.Source{Relation: m.Relation[:], Column: m.Column})
		}
	}
	return list
}
