package ssh

import (
	"errors"
	"strings"

	"github.com/taskgate/taskgate/core/gate"
)

// How a command ends that did not run, as a shell would have it.
const (
	exitUsage     = 1 // said by rrsync, and by rsync
	exitDenied    = 126
	exitNoProgram = 127 // said by the host
	exitCalled    = 130 // taken back by its client
	exitNotThere  = 255 // the host cannot be had
)

// readable takes out of a text what other people or modules have written what
// would end a line or move a terminal.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// refusal is what a client reads of a refused command. False is no refusal: the
// session cannot go on.
func refusal(err error) ([]string, bool) {
	var d *gate.Denied
	if !errors.As(err, &d) {
		return nil, false
	}
	lines := []string{"denied: " + d.Error()}
	if d.Reason.Closest != "" {
		lines = append(lines, "closest: "+d.Reason.Closest)
	}
	if d.Reason.Hint != "" {
		lines = append(lines, "hint: "+d.Reason.Hint)
	}
	return lines, true
}
