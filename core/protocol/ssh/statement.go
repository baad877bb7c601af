package ssh

import (
	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/shell"
)

// exec gives what the text of an exec does, as the host's shell reads it.
func (c *conn) exec(text string) *abi.Statement {
	posix := c.options != nil && c.options.Posix
	key := "exec\x00" + text
	if posix {
		key = "posix\x00" + text
	}
	return c.statement(key, func() *abi.Statement { return shell.Parse(text, shell.Options{Posix: posix}) })
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
	_, t := c.session.Resource()
	if t == nil {
		return false
	}
	o, ok := t.Options.(*TaskOptions)
	return ok && o.CommandShell
}
