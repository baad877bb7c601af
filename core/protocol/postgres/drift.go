package postgres

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// A schema that others change is looked at every second. Where the resource
// says `drift: strict`, each answer is held besides: by its first message the
// server has locked what the statement reads, so a look from then on tells what
// it has run on.

// judged is a text, what it was read under, and what it was found to do.
type judged struct {
	under    *sql.Context
	analysis *sql.Analysis
}

// judgedBy notes a text that the command at hand is judged by.
func (c *conn) judgedBy(a *sql.Analysis, path []string, s *schema.Schema) {
	if !c.strict {
		return
	}
	if under, err := c.context(path, s); err == nil {
		c.texts = append(c.texts, judged{under, a})
	}
}

// drifted ends the session where a statement no longer does what was judged.
func (c *conn) drifted(ctx context.Context, e *entry) error {
	if !c.strict || c.compared || len(e.judged) == 0 {
		return nil
	}
	if err := c.state.since(ctx, c.arrived); err != nil {
		if err = c.unlooked(ctx, err); ctx.Err() != nil {
			return err
		}
		return &fatal{code: "08006", message: fmt.Sprintf("the schema cannot be looked at, and so the answer is not shown (session %s)", c.session.ID()), hint: "it may have run: look, once you have connected again", cause: err}
	}
	now := c.state.fresh(0)
	for i := range e.judged {
		j := &e.judged[i]
		if j.under.Schema.Version == now.Version {
			continue
		}
		under := *j.under
		under.Schema = now
		again, err := sql.Analyze(&under, j.analysis.Statement.Text)
		if err != nil || !reflect.DeepEqual(again.Statement, j.analysis.Statement) {
			return c.alarm(&gate.Alarm{What: "the schema has changed since a statement was judged, and its answer is not shown"})
		}
	}
	c.compared = true
	return nil
}

// closedTask is whether a task was closed, and what that was found by.
type closedTask struct {
	schema *schema.Schema
	task   *gate.Task
	why    *gate.Denied
}

// taskOpen refuses everything of a task whose masks no longer resolve: what is
// to be masked may be there by another name. A rollback passes.
func (c *conn) taskOpen(a *sql.Analysis) error {
	_, task := c.session.Resource()
	o, ok := taskOptions(task)
	if !ok || len(o.Masked) == 0 {
		return nil
	}
	s, err := c.schema(c.session.Context())
	if err != nil {
		return err
	}
	if k := &c.closed; k.schema != s || k.task != task {
		k.schema, k.task, k.why = s, task, nil
		missing := unresolved(s, o.Masked)
		if len(missing) > 0 {
			k.why = &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.closed-task",
				Message: fmt.Sprintf("the task %s is closed: it masks %s, which %s does not have", task.Name, strings.Join(missing, ", "), c.session.About().Resource),
				Hint:    "your operator names the column as it is called now in the task's masks, or takes it out"}}
		}
		if !c.inside.active() && c.state.closes(task.Name, len(missing) > 0) {
			c.p.log(c.session.ID(), "alarm", k.why)
		}
	}
	if c.closed.why == nil || a != nil && len(a.Parts) == 1 && a.Parts[0].Kind == sql.Rollback {
		return nil
	}
	return c.closed.why
}

// unresolved are the columns that a schema does not have.
func unresolved(s *schema.Schema, masked []abi.Source) (list []string) {
	for _, m := range masked {
		if len(m.Relation) == 2 {
			if r := s.RelationByName[schema.Name{Namespace: m.Relation[0], Name: m.Relation[1]}]; r != nil && r.Column(m.Column) != nil {
				continue
			}
		}
		list = append(list, strings.Join(append(slices.Clone(m.Relation), m.Column), "."))
	}
	return list
}

// closes notes whether a task is closed here, and says whether that is news.
func (s *resourceState) closes(task string, closed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed[task] == closed {
		return false
	}
	if s.closed == nil {
		s.closed = map[string]bool{}
	}
	s.closed[task] = closed
	return closed
}
