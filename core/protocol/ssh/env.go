package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// The bounds of what a client sets before a command.
const (
	maxEnv   = 64
	maxValue = 4 << 10
)

// setting is a variable that the host may be given.
type setting struct {
	name, value string
	exchange    *gate.Exchange
}

// setenv judges one variable. A refused one is answered so and nothing else:
// clients send some that nobody has asked for, and the command runs without.
func (ch *channel) setenv(ctx context.Context, payload []byte) (bool, error) {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(payload, &m) != nil || !variable(m.Name) || len(m.Value) > maxValue || strings.ContainsAny(m.Value, "\x00\n\r") {
		return false, nil
	}
	ch.mu.Lock()
	late := ch.running
	ch.mu.Unlock()
	if ch.asked++; late || ch.asked > maxEnv {
		return false, nil
	}
	c := ch.c
	known := ""
	if unbidden(m.Name) {
		a := c.session.About()
		known = fmt.Sprintf("%d %q %q %q %q", c.session.Generation(), a.Issuer, a.Subject, a.Task, m.Name) // of all its hosts: who goes to many is refused once
		if c.p.wasRefused(known, time.Now()) {
			return false, nil
		}
	}
	st := c.operation("setenv "+m.Name+"="+m.Value, abi.Operation{Verb: "setenv", Kind: abi.KindEnvironment, Object: []string{m.Name}, Value: m.Value, Effect: abi.EffectWrite})
	ex, err := c.submit(ctx, st, "", nil)
	var d *gate.Denied
	if errors.As(err, &d) {
		if known != "" {
			c.p.noteRefused(known, time.Now())
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ch.env = append(ch.env, setting{m.Name, m.Value, ex})
	return true, nil
}

// variable says whether a name is one that every system has as a whole.
func variable(name string) bool {
	if name == "" || len(name) > 128 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b == '_', b >= '0' && b <= '9', b >= 'A' && b <= 'Z', b >= 'a' && b <= 'z':
		default:
			return false
		}
	}
	return true
}

// unbidden says whether clients send a variable of their own accord, as OpenSSH
// does in most distributions.
func unbidden(name string) bool {
	return name == "LANG" || name == "LANGUAGE" || strings.HasPrefix(name, "LC_") || name == "COLORTERM" || name == "NO_COLOR"
}

// unasked remembers for a minute which of those a task was refused, so that one
// record tells of it: a tool that connects to a thousand hosts would otherwise
// use up what its subject may be refused, by what it does not even know of.
type unasked map[string]time.Time

const (
	unaskedTime = time.Minute
	maxUnasked  = 4096
)

func (p *Protocol) wasRefused(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.unasked[key])
}

func (p *Protocol) noteRefused(key string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unasked == nil || len(p.unasked) >= maxUnasked {
		p.unasked = unasked{}
	}
	p.unasked[key] = now.Add(unaskedTime)
}
