// Package guard is what a guard in Go is written with:
//
//	func init() { guard.Register(&mine{}) }
//
//	type mine struct{}
//
//	func (m *mine) Command(c *abi.Command, v *abi.Verdict) { v.Decision = abi.Abstain }
//
//	func main() {}
//
// Build it with `taskgate plugin build`. A reactor runs no main, so a guard
// registers itself in init. What a method is given is valid until it returns:
// copy what is kept. A guard keeps nothing from one call to the next but its
// configuration, since its verdicts may be kept and reused.
package guard

import (
	"errors"

	"github.com/taskgate/taskgate/abi"
)

// Guard decides on commands. The verdict it is given is the zero one, which
// refuses.
type Guard interface {
	Command(c *abi.Command, v *abi.Verdict)
}

// Configurer is a guard that takes a configuration: JSON that has passed the
// schema of its manifest. An error refuses the load.
type Configurer interface {
	Configure(config []byte) error
}

// SessionOpener is a guard that decides whether a session may be.
type SessionOpener interface {
	SessionOpen(s *abi.Session, v *abi.Verdict)
}

// SessionCloser is a guard that is told of the end of a session.
type SessionCloser interface {
	SessionClose(s *abi.Session)
}

// ResultSchemer is a guard that looks at the columns of results. The plan it
// is given passes nothing: it takes a kind for each column, and Default for
// those whose origin is not known.
type ResultSchemer interface {
	ResultSchema(s *abi.ResultSchema, p *abi.MaskPlan)
}

// ResultBatcher is a guard that masks cells itself, those of the columns that
// it has called CUSTOM. out has the columns of in and takes a cell for each row,
// by Add, or appended to Bytes and ended with End; what is missing is NULL. What
// stands in a cell's place may depend on that cell and its column alone, since
// where one batch ends and the next begins is chance. While it runs Log is mute.
type ResultBatcher interface {
	ResultBatch(in, out *abi.Batch)
}

// Approver is a guard that looks at who has approved before a command runs that
// it wanted reviewed: it keeps the request with Allow or Abstain and ends it with
// Deny.
type Approver interface {
	Approval(a *abi.Approval, v *abi.Verdict)
}

var (
	registered Guard
	command    abi.Command
	session    abi.Session
	verdict    abi.Verdict
	schema     abi.ResultSchema
	batch      abi.Batch
	approval   abi.Approval
	output     []byte
)

// Register makes g the guard of this module.
func Register(g Guard) { registered = g }

var errNone = errors.New("the module registers no guard")

// Call runs one hook over its input, as the host does. It gives the reply, or
// a status without one and what to say about it. Tests outside a sandbox may
// call it too.
func Call(hook abi.Hook, input []byte) (reply []byte, status abi.Status, err error) {
	if registered == nil {
		return nil, abi.StatusInternal, errNone
	}
	verdict = abi.Verdict{}
	switch hook {
	case abi.HookConfigure:
		return nil, abi.StatusNothing, configure(input)
	case abi.HookCommand:
		if err := command.Decode(input); err != nil {
			return nil, abi.StatusBadInput, err
		}
		registered.Command(&command, &verdict)
	case abi.HookSessionOpen:
		o, ok := registered.(SessionOpener)
		if !ok {
			return nil, abi.StatusNotImplemented, nil
		}
		if err := session.Decode(input); err != nil {
			return nil, abi.StatusBadInput, err
		}
		o.SessionOpen(&session, &verdict)
	case abi.HookSessionClose:
		if c, ok := registered.(SessionCloser); ok && session.Decode(input) == nil {
			c.SessionClose(&session)
		}
		return nil, abi.StatusNothing, nil
	case abi.HookResultSchema:
		r, ok := registered.(ResultSchemer)
		if !ok {
			return nil, abi.StatusNotImplemented, nil
		}
		if err := schema.Decode(input); err != nil {
			return nil, abi.StatusBadInput, err
		}
		var p abi.MaskPlan
		r.ResultSchema(&schema, &p)
		output = p.AppendTo(output[:0])
		return output, abi.StatusNothing, nil
	case abi.HookResultBatch:
		r, ok := registered.(ResultBatcher)
		if !ok {
			return nil, abi.StatusNotImplemented, nil
		}
		if err := batch.Decode(input); err != nil {
			return nil, abi.StatusBadInput, err
		}
		out := batch.Answer()
		r.ResultBatch(&batch, out)
		out.Fill()
		output = out.AppendTo(output[:0])
		return output, abi.StatusNothing, nil
	case abi.HookApproval:
		a, ok := registered.(Approver)
		if !ok {
			return nil, abi.StatusNotImplemented, nil
		}
		if err := approval.Decode(input); err != nil {
			return nil, abi.StatusBadInput, err
		}
		a.Approval(&approval, &verdict)
	default:
		return nil, abi.StatusNotImplemented, nil
	}
	output = verdict.AppendTo(output[:0])
	return output, abi.StatusNothing, nil
}

func configure(input []byte) error {
	var c abi.Configure
	if err := c.Decode(input); err != nil {
		return err
	}
	if g, ok := registered.(Configurer); ok {
		return g.Configure(c.Config)
	}
	return nil
}
