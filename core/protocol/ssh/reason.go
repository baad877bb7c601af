package ssh

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/taskgate/taskgate/core/gate"
)

// Reasons are the words for why connections end, as Protocol.Ended has them.
var Reasons = []string{"left", "crowded", "late", "rude", "refused", "ended", "resource", "fault"}

var (
	errCrowded = errors.New("ssh: too many connections that have not logged in")
	errPanic   = errors.New("ssh: panic")
)

// reason puts the end of a connection into one word.
func (c *conn) reason(err error) string {
	var ended *gate.Ended
	var host *said
	var lost *net.OpError
	switch {
	case errors.Is(err, errCrowded):
		return "crowded"
	case errors.Is(err, errPanic):
		return "fault"
	case errors.As(err, &ended):
		return "ended" // by an operator, a policy, a clock or a shutdown
	case errors.As(err, &host):
		return "resource"
	case !c.known && c.turned:
		return "refused"
	case !c.known && errors.Is(err, os.ErrDeadlineExceeded):
		return "late"
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &lost):
		return "left"
	case !c.known:
		return "rude" // it spoke another protocol, or broke this one
	}
	return "fault"
}
