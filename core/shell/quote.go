package shell

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// style is how words are written for a shell.
type style uint8

const (
	quoted  style = iota // each in quotes: nothing of a shell's own is left, aliases included
	sparing              // in quotes where they need it: for the text of sh -c, which a task's author has to write as it is judged
	raw                  // as they are, or not at all
)

// Quote writes words so that a POSIX shell reads just them. They hold no NUL.
func Quote(words []string) string {
	var b []byte
	for i, w := range words {
		if i > 0 {
			b = append(b, ' ')
		}
		b = quote(b, w)
	}
	return string(b)
}

func quote(b []byte, w string) []byte {
	b = append(b, '\'')
	for i := 0; i < len(w); i++ {
		if w[i] == '\'' {
			b = append(b, `'\''`...)
			continue
		}
		b = append(b, w[i])
	}
	return append(b, '\'')
}

// pipeline writes commands joined by pipes.
func (s style) pipeline(list []command) (string, error) {
	var b []byte
	var err error
	for i := range list {
		if i > 0 {
			b = append(b, " | "...)
		}
		if b, err = s.command(b, &list[i]); err != nil {
			return "", err
		}
	}
	if len(b) >= maxCanonical {
		return "", errors.New("the command is too long once it is quoted: copy it to the host as a file and run that")
	}
	return string(b), nil
}

func (s style) command(b []byte, c *command) (_ []byte, err error) {
	for _, a := range c.assigns {
		if s == raw {
			return nil, errors.New("an assignment is not read alike by all shells: leave it out, or have your operator say shell: posix for this host")
		}
		b = append(append(b, a.name...), '=')
		b = append(quote(b, a.value), ' ')
	}
	for i, w := range c.argv {
		if i > 0 {
			b = append(b, ' ')
		}
		if b, err = s.word(b, w, i == 0); err != nil {
			return nil, err
		}
	}
	for i := range c.redirects {
		d := &c.redirects[i]
		if s == raw && (d.fd != "" || d.dup != "" || d.op == ">|" || d.op == "<>") {
			return nil, fmt.Errorf("the redirection %s%s is not read alike by all shells: leave it out, or have your operator say shell: posix for this host", d.fd, d.op)
		}
		b = append(append(append(b, ' '), d.fd...), d.op...)
		if d.dup != "" {
			b = append(b, d.dup...)
			continue
		}
		if b, err = s.word(b, d.path, false); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (s style) word(b []byte, w string, first bool) ([]byte, error) {
	switch {
	case s == quoted:
		return quote(b, w), nil
	case plain(w, first):
		return append(b, w...), nil
	case s == sparing:
		return quote(b, w), nil
	}
	return nil, fmt.Errorf("the word %s needs quotes, and how this host's shell reads those is not known: use words of letters, digits and _@%%+=:,./- alone, or have your operator say shell: posix for this host", show(w))
}

// plain is true of words that all shells read as they are: a first one with = is
// an assignment, and zsh, csh or fish know = and % before a word.
func plain(w string, first bool) bool {
	if w == "" || w[0] == '=' || w[0] == '%' {
		return false
	}
	for i := 0; i < len(w); i++ {
		switch c := w[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+:,./-", c) >= 0:
		case strings.IndexByte("@%=", c) >= 0 && !first:
		default:
			return false
		}
	}
	return true
}

// show gives a word as it may stand in a message.
func show(w string) string {
	const most = 60
	if len(w) > most {
		w = strings.ToValidUTF8(w[:most], "") + "…"
	}
	return strconv.Quote(w)
}
