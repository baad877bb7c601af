package catalog

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// introspect reads how much of the system catalogs a task is told.
func (t *Task) introspect(v strict.Node) {
	if !v.IsText() {
		t.Introspect = v.Bool()
		return
	}
	word := v.One("true", "false", "listed", "definitions")
	t.Introspect, t.Listed, t.Definitions = word != "false", word == "listed", word == "definitions"
}

// listing refuses what would tell a task of relations that it does not list, where
// it is not to be told.
func (t *Task) listing(seen map[string]strict.Node) {
	if !t.Listed {
		return
	}
	n := seen["introspect"]
	if t.ShowErrors {
		n.Fault("listed hides the names of what is not listed, and show_errors: true shows texts in which they are: have one of them")
	}
	for i := range t.Rules {
		if len(t.Rules[i].In) > 0 {
			n.Fault("listed hides what is not listed, and whoever changes tables (%s) finds out what is there: have one of them", t.Rules[i].At)
			return
		}
	}
}

// Opens says whether a rule lists a column for reading under no condition.
func (t *Task) Opens(relation []string, column string) bool {
	table := strings.Join(relation, ".")
	return slices.ContainsFunc(t.Rules, func(r policy.Rule) bool {
		return slices.Contains(r.Verbs, "select") && r.Review == nil && lists(&r, table, column)
	})
}

// Hides says whether a column has a mask.
func (t *Task) Hides(relation []string, column string) bool {
	return slices.ContainsFunc(t.Masked(), func(c abi.Source) bool { return c.Column == column && slices.Equal(c.Relation, relation) })
}

// Lists says whether a rule names a relation or a function.
func (t *Task) Lists(kind string, object []string) bool {
	name := strings.Join(object, ".")
	for i := range t.Rules {
		r := &t.Rules[i]
		if kind == abi.KindFunction {
			if slices.Contains(r.Functions, name) {
				return true
			}
		} else if slices.Contains(r.Tables, name) || slices.Contains(r.Effects, name) {
			return true
		}
	}
	return false
}
