// Package ssh speaks SSH to clients and to hosts: each program, file, forward
// and signal is a command of its own (RFC 4251 to 4254, and OpenSSH's PROTOCOL).
package ssh

import (
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/shell"
)

// ResourceOptions are what a host has beside its address (gate.Resource.Options).
type ResourceOptions struct {
	Posix bool // its login shell reads words as POSIX has it, so that any word may be quoted
	Dial  any  // of the dialer

	asked sync.Map // accounts whose shell has been seen to be posix
}

// TaskOptions are what a task has beside its rules (gate.Task.Options).
type TaskOptions struct {
	CommandShell bool         // a shell is the gateway's own, which submits each line as a command
	Rsync        *shell.Rsync // what it lists of rsync's server
}

// Auth is what opens a host (gate.Upstream.Auth). It is made anew for each
// connection, and never shown.
type Auth struct {
	Methods           []ssh.AuthMethod
	HostKey           ssh.HostKeyCallback
	HostKeyAlgorithms []string
}

// String shows nothing of it.
func (Auth) String() string { return "ssh" }

// The frames of a recording: a kind, a length of four bytes, and what came.
// Those of one exchange are in the order in which they passed. The last may be
// cut short, where the recording keeps only the head of an answer.
const (
	FrameOut    = 'o' // what the program wrote to its standard output, or a terminal showed
	FrameErr    = 'e' // to its standard error
	FrameIn     = 'i' // what the client sent it
	FrameResize = 'r' // the terminal's columns and rows, two bytes each
)

// FrameHead is how many bytes stand before what came.
const FrameHead = 5

// Settings are what the listener is met with. They are read for each
// connection, so that a reload counts from the next one on.
type Settings struct {
	HostKeys  []ssh.Signer
	Authority func(ssh.PublicKey) bool // signs the certificates that are taken as logins
	Own       []string                 // where the gateway itself is reached: HOST:PORT, or the path of a socket
}

// Asked is a login that is under way elsewhere, in a browser.
type Asked struct {
	URL, Code string
	Wait      func() (secret string, err error) // gives what stands in the place of a password
}
