// Package shell reads the text of a command as a shell would, as far as that can
// be known beforehand: words that stand for themselves become operations, and
// everything else is said to be unknown.
//
// What is forwarded is not the text but the words that were read, quoted anew.
// So it does not matter that shells disagree on many texts: what runs is what
// was judged. Shells agree on the quoted form, and no alias, keyword or pattern
// is left in it.
//
// Programs that run code out of their own words (vim, awk, perl, python) are
// their words and no more: a task lists exact words, code included, so nothing
// runs that nobody has listed. Those that run another program, whatever their
// words are (sudo, xargs, find -exec), are looked through or not understood.
package shell

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

const (
	maxText      = 64 << 10  // bytes of a text
	maxCanonical = 128 << 10 // what Linux takes as one argument of a shell
	maxCommands  = 64        // of a pipeline
	maxWords     = 1000      // of a pipeline
	maxDepth     = 8         // programs that run programs, one within the other
)

// Options are what is known of the shell that is given the text.
type Options struct {
	// Posix says that the host's login shell reads words as POSIX has it, so that
	// any word may be quoted. Without it words go as they are, and only those of
	// A-Z a-z 0-9 _ @ % + = : , . / -, which have no quotes to misread.
	Posix bool
	Rsync *Rsync // what the task lists of rsync's server, nil is nothing
}

// Parse gives what a text does. Where that is not known the statement is
// incomplete and its one operation is the opaque text. Canonical is what to
// forward: of an incomplete statement the text itself, for a task that allows
// opaque texts, and empty where nothing may be forwarded at all.
func Parse(text string, o Options) *abi.Statement {
	st := &abi.Statement{Protocol: "ssh", Text: text}
	err := never(text)
	if err == nil {
		r := reader{style: raw, rsync: o.Rsync}
		if o.Posix {
			r.style = quoted
		}
		st.Canonical, err = r.script(text, r.style)
		st.Operations = r.operations
	}
	if err == nil {
		return st
	}
	st.Incomplete = err.Error()
	st.Operations = []abi.Operation{{Verb: "exec", Kind: abi.KindOpaque, Object: []string{text}}}
	if st.Canonical = text; never(text) != nil {
		st.Canonical = ""
	}
	return st
}

// never says why a text is not forwarded, whatever a task allows.
func never(text string) error {
	switch {
	case len(text) > maxText:
		return fmt.Errorf("the command has %d bytes, and at most %d are read: copy it to the host as a file and run that", len(text), maxText)
	case strings.IndexByte(text, 0) >= 0:
		return errors.New("the command has a NUL byte, behind which the host would not read on: leave it out")
	case !utf8.ValidString(text):
		return errors.New("the command is not UTF-8: rename what it names, or reach that by sftp")
	case strings.Trim(text, " \t\n") == "":
		return errors.New("the command is empty: name a program")
	}
	return nil
}

// reader collects what a text does.
type reader struct {
	style      style
	rsync      *Rsync
	depth      int
	operations []abi.Operation
}

// script reads a text and gives it as it is to be forwarded in that style.
func (r *reader) script(text string, s style) (string, error) {
	if err := flat(text); err != nil {
		return "", err
	}
	list, err := commands(text)
	if err != nil {
		return "", err
	}
	if len(list) == 1 && r.depth == 0 {
		if done, err := r.confine(&list[0]); err != nil {
			return "", err
		} else if done {
			return s.pipeline(list)
		}
	}
	for i := range list {
		if err := r.command(&list[i]); err != nil {
			return "", err
		}
	}
	return s.pipeline(list)
}

// command adds the operations of one simple command. What a shell within it is
// given is written anew, in place.
func (r *reader) command(c *command) error {
	if err := own(c.argv); err != nil {
		return err
	}
	for _, a := range c.assigns {
		if err := assignable(a); err != nil {
			return err
		}
		r.setenv(a)
	}
	if err := r.program(c.argv); err != nil {
		return err
	}
	for i := range c.redirects {
		r.redirect(&c.redirects[i])
	}
	return nil
}

func (r *reader) setenv(a assign) {
	r.operations = append(r.operations, abi.Operation{Verb: "setenv", Kind: abi.KindEnvironment, Object: []string{a.name}, Effect: abi.EffectWrite, Value: a.value})
}

func (r *reader) redirect(d *redirect) {
	if d.path == "" || d.path == "/dev/null" {
		return
	}
	if d.reads() {
		r.operations = append(r.operations, abi.Operation{Verb: "read", Kind: abi.KindFile, Object: []string{d.path}, Effect: abi.EffectRead})
	}
	if d.writes() {
		verb := "write"
		if Persists(d.path) {
			verb = "persist"
		}
		r.operations = append(r.operations, abi.Operation{Verb: verb, Kind: abi.KindFile, Object: []string{d.path}, Effect: abi.EffectWrite})
	}
}
