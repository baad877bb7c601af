package postgres

import (
	"errors"
	"io"
	"net"
	"strings"
)

// Reasons are the words for why connections end, as Protocol.Ended has them.
var Reasons = []string{"left", "crowded", "late", "rude", "refused", "limit", "ended", "resource", "fault"}

var (
	errCrowded  = errors.New("postgres: too many connections that have not logged in")
	errLate     = errors.New("postgres: no login in time")
	errPanic    = errors.New("postgres: panic")
	errUpstream = errors.New("upstream") // the resource is to blame
	errTell     = errors.New("postgres: client")
)

// reason puts the end of a connection into one word. known says whether its
// client had logged in.
func reason(err error, known bool) string {
	var f *fatal
	if errors.As(err, &f) {
		switch {
		case f.code == "XX000":
			err = f.cause
		case f.code == "08P01" || f.code == "0A000":
			return "rude" // it spoke another protocol, or broke this one
		case f.code == "08006":
			return "resource"
		case f.code == "54000" || f.code == "53200":
			return "limit"
		case strings.HasPrefix(f.code, "57P"):
			return "ended" // by an operator, a policy, a clock or a shutdown
		case !known:
			return "refused"
		}
	}
	switch {
	case errors.Is(err, errLate):
		return "late"
	case errors.Is(err, errCrowded):
		return "crowded"
	case errors.Is(err, errPanic):
		return "fault"
	case errors.Is(err, errTell):
		return "left"
	case errors.Is(err, errUpstream):
		return "resource"
	case err == nil, errors.Is(err, errGoodbye), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, new(*net.OpError)):
		return "left"
	case !known:
		return "rude"
	}
	return "fault"
}
