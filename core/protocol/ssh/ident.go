package ssh

import (
	"bytes"
	"net"
	"strings"
	"time"
)

// The line by which a client names itself: its length, and how long it is waited
// for before the gateway speaks first.
const (
	maxIdent  = 255
	identTime = 200 * time.Millisecond
)

// identify gives how a client names itself, empty where it does not at once, and
// the connection as if that had not been read.
func identify(nc net.Conn, until time.Time) (string, net.Conn) {
	var b [maxIdent]byte
	n := 0
	_ = nc.SetReadDeadline(time.Now().Add(identTime))
	for n < len(b) && bytes.IndexByte(b[:n], '\n') < 0 {
		more, err := nc.Read(b[n:])
		n += more
		if err != nil { // whatever it is, the handshake meets it again
			break
		}
	}
	_ = nc.SetReadDeadline(until)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return line, &identified{nc, append([]byte(nil), b[:n]...)}
}

// identified gives back what was read to look at it.
type identified struct {
	net.Conn
	first []byte
}

func (i *identified) Read(b []byte) (int, error) {
	if len(i.first) > 0 {
		n := copy(b, i.first)
		i.first = i.first[n:]
		return n, nil
	}
	return i.Conn.Read(b)
}

// prefersSlow says whether a client would choose a slower cipher although it has
// AES-GCM: OpenSSH puts CTR before it, and the client's order counts.
func prefersSlow(ident string) bool {
	version, ok := strings.CutPrefix(ident, "SSH-2.0-OpenSSH_")
	return ok && len(version) > 1 && (version[0] >= '7' && version[0] <= '9' || version[1] >= '0' && version[1] <= '9')
}
