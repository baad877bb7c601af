package ssh

import (
	"fmt"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/shell"
)

// exec gives what the text of an exec does, as the host's shell reads it.
func (c *conn) exec(text string) *abi.Statement {
	o := shell.Options{Posix: c.options != nil && c.options.Posix}
	key := fmt.Sprintf("exec %t %d\x00%s", o.Posix, c.session.Generation(), text) // before the task, which may be of a later one
	if t := c.task(); t != nil {
		o.Rsync = t.Rsync
	}
	return c.statement(key, func() *abi.Statement { return shell.Parse(text, o) })
}

// subsystem gives what opening a subsystem does. That of files does nothing by
// itself: each of its operations is judged.
func (c *conn) subsystem(name string) *abi.Statement {
	o := abi.Operation{Verb: "subsystem", Kind: abi.KindProgram, Object: []string{name}, Effect: abi.EffectWrite}
	if name == filesName {
		o.Attrs, o.Effect = abi.Floor, abi.EffectRead
	}
	return c.operation("subsystem "+name, o)
}

// commandShell says whether a shell is the gateway's own.
func (c *conn) commandShell() bool {
	t := c.task()
	return t != nil && t.CommandShell
}

// task is what the task has beside its rules, nil is nothing.
func (c *conn) task() *TaskOptions {
	_, t := c.session.Resource()
	if t == nil {
		return nil
	}
	o, _ := t.Options.(*TaskOptions)
	return o
}
