package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// The words of the probe are all that shells quote in ways of their own: fish
// reads a backslash within quotes, csh an exclamation mark and the end of a line.
const (
	probe  = `printf %s 'a\\b'\''c $d ` + "`e`" + ` !f "g" * ~` + "\nh'"
	answer = `a\\b'c $d ` + "`e`" + ` !f "g" * ~` + "\nh"
)

// notPosix is a login shell that reads words in a way of its own, or that could
// not be asked.
type notPosix struct{ why error }

func (n *notPosix) Error() string { return "shell: posix: " + n.why.Error() }
func (n *notPosix) Unwrap() error { return n.why }

// ask sees once for each account that its login shell is posix where it is said
// to be: what is quoted would be read otherwise than it was judged.
func (o *ResourceOptions) ask(account string, host ssh.Conn) error {
	if o == nil || !o.Posix {
		return nil
	}
	if _, done := o.asked.Load(account); done {
		return nil
	}
	if err := posix(host); err != nil {
		return &notPosix{err}
	}
	o.asked.Store(account, true)
	return nil
}

func posix(host ssh.Conn) error {
	ch, reqs, err := host.OpenChannel("session", nil)
	if err != nil {
		return fmt.Errorf("the login shell cannot be asked: %w", err)
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	go func() { _, _ = io.Copy(io.Discard, ch.Stderr()) }()
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{probe}))
	if err == nil && !ok {
		err = errors.New("the host runs no commands for this account")
	}
	if err != nil {
		return fmt.Errorf("the login shell cannot be asked: %w", err)
	}
	_ = ch.CloseWrite() // fails where it is over already: what it has printed tells
	got, err := io.ReadAll(io.LimitReader(ch, 4*int64(len(answer))))
	if err != nil {
		return fmt.Errorf("the login shell cannot be asked: %w", err)
	}
	if !bytes.Equal(got, []byte(answer)) {
		return fmt.Errorf("the login shell does not read words as POSIX has it: printf gave %q, not %q", got, answer)
	}
	return nil
}
