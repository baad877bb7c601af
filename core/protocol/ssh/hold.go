package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// ask submits a command, and waits where people have to approve. Meanwhile other
// channels of the connection go on: each is judged by itself.
func (ch *channel) ask(ctx context.Context, c *command) (*gate.Exchange, error) {
	cmd := &abi.Command{Phase: abi.Execute, Statement: c.statement}
	if ex, ok := ch.c.session.TrySubmit(cmd); ok {
		return ex, nil
	}
	cmd.Bound = ch.surroundings()
	cmd.Held = func(v *abi.Verdict) error {
		if c.converses() { // before people are asked
			if _, masked := ch.c.session.Would(ctx, c.statement); masked {
				return errConverses
			}
		}
		return ch.spool(ctx, c, cmd, v)
	}
	waited := false
	ex, err := ch.c.session.Submit(ctx, cmd, func(p gate.Pending) error {
		if !waited && c.terminal != nil && c.input != nil {
			c.input.begin() // or ctrl-C would not be seen
		}
		ch.say(waits(p, waited)...)
		waited = true
		return nil
	})
	if err == nil && ctx.Err() != nil { // it was approved, and called off before a byte of it went
		_ = ex.Done(ctx, gate.Outcome{State: gate.Skipped})
		return nil, context.Cause(ctx)
	}
	if err == nil && waited {
		ch.say("approved")
	}
	if err != nil && errors.Is(context.Cause(ctx), gate.ErrCancelled) {
		err = gate.ErrCancelled
	}
	return ex, err
}

// spool takes what the client sends before people are asked, so that they see
// what they approve. What is typed into a terminal nobody can see beforehand.
func (ch *channel) spool(ctx context.Context, c *command, cmd *abi.Command, v *abi.Verdict) (err error) {
	switch {
	case c.interactive() || !c.reads(v), c.kind == "subsystem" && c.text == filesName: // what is done with files is judged by itself
		return nil
	case c.converses() && !c.statement.Writes(): // what it is told only says what to read
		return nil
	case c.terminal != nil, c.kind == "subsystem", c.converses(): // whose client speaks once it is answered
		cmd.Input = abi.Input{Kind: abi.InputStream}
		return nil
	}
	ch.say("this has to be approved, with its input: that is read to its end first (ssh -n gives none)")
	cmd.Input, err = c.input.spool(ctx)
	return err
}

// surroundings are what an approval holds for beside the command itself.
func (ch *channel) surroundings() string {
	var b strings.Builder
	for _, e := range ch.env {
		fmt.Fprintf(&b, "%q=%q ", e.name, e.value)
	}
	fmt.Fprintf(&b, "terminal=%t agent=%t x11=%t", ch.pty != nil, ch.agent != nil, ch.x11 != nil)
	return b.String()
}

// waits is what a client reads whose command is held.
func waits(p gate.Pending, again bool) []string {
	if again {
		return []string{"still waiting for approval: request " + p.ID}
	}
	needs := make([]string, len(p.Needs))
	for i := range needs {
		needs[i] = p.Needs[i].String()
	}
	first := "waiting for approval: request " + p.ID
	if p.Summary != "" {
		first += ": " + p.Summary
	}
	return []string{first, fmt.Sprintf("it needs %s, until %s: `taskgate approve %s`; ctrl-C takes it back", strings.Join(needs, " and "), p.Until.UTC().Format("2006-01-02 15:04:05 UTC"), p.ID)}
}
