package shell

import (
	"errors"
	"fmt"
	"strings"
)

// flat refuses a text in which anything stands beside words, redirections and
// pipes. It goes before the parser, which is recursive: a text that is flat
// cannot exhaust its stack. It only has to be right up to the first thing that
// it refuses, and the parser is asked again about all that it lets pass.
func flat(text string) error {
	if strings.Contains(text, "\r\n") {
		return errors.New("a line ends with carriage return and newline: send one line, without them")
	}
	var (
		word    bool // within a word
		begun   bool // a command has begun
		named   bool // its first word has been met
		target  bool // the next word is a redirection's
		pipes   int
		newline bool // a line has ended
	)
	for i := 0; i < len(text); {
		c := text[i]
		rest := text[i:]
		switch c {
		case ' ', '\t':
			word = false
			i++
			continue
		case '\n':
			word = false
			newline = begun
			i++
			continue
		case '#':
			if !word {
				if n := strings.IndexByte(rest, '\n'); n >= 0 {
					i += n
				} else {
					i = len(text)
				}
				continue
			}
		case '\\':
			if strings.HasPrefix(rest, "\\\n") {
				if i += 2; word && i < len(text) && strings.IndexByte(" \t\n", text[i]) < 0 {
					return errors.New("a line is continued within a word: write the word in one line")
				}
				continue
			}
		}
		if newline {
			return errors.New("a new line would run another command: send one command at a time")
		}
		begun = true
		switch c {
		case '|':
			if err := pipe(rest); err != nil {
				return err
			}
			if pipes++; pipes >= maxCommands {
				return fmt.Errorf("the pipeline has more than %d commands: send fewer", maxCommands)
			}
			word, named, target = false, false, false
			i++
			continue
		case '<', '>':
			n, err := redirection(rest)
			if err != nil {
				return err
			}
			word, target = false, true
			i += n
			continue
		}
		if !word {
			word = true
			if n := digits(rest); n > 0 && n < len(rest) && (rest[n] == '<' || rest[n] == '>') {
				i += n
				continue
			}
			if target {
				target = false
			} else if !named {
				named = true
				if w := bare(rest); reserved[w] {
					return fmt.Errorf("%s belongs to the shell's own language: send one plain command, or a pipeline of such, at a time", show(w))
				}
			}
			if c == '[' && len(bare(rest)) == 1 {
				i++
				continue
			}
			if c == '~' {
				return errTilde
			}
		}
		n, err := element(text, i)
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

var errTilde = errors.New("a ~ would become a home directory: write the whole path, or quote it")

// element gives the length of what begins at i within a word.
func element(text string, i int) (int, error) {
	rest := text[i:]
	switch c := rest[0]; c {
	case '\\':
		if len(rest) == 1 {
			return 0, errors.New("the command ends with a backslash: leave it out, or quote it")
		}
		return 2, nil
	case '\'':
		n := strings.IndexByte(rest[1:], '\'')
		if n < 0 {
			return 0, errors.New("a ' is not closed: close it, or write \\'")
		}
		return n + 2, nil
	case '"':
		return double(rest)
	case '$':
		if strings.HasPrefix(rest, "$'") {
			for n := 2; n < len(rest); n++ {
				switch rest[n] {
				case '\\':
					n++
				case '\'':
					return n + 1, nil
				}
			}
			return 0, errors.New("a $' is not closed: close it with '")
		}
		if strings.HasPrefix(rest, `$"`) {
			return 0, errors.New(`$"…" is translated by some shells: write "…"`)
		}
		return 1, dollar(rest)
	case '`':
		return 0, errBackquote
	case '(', ')':
		return 0, fmt.Errorf("%c is for subshells, functions and lists: send one plain command at a time, or quote it", c)
	case '{', '}':
		return 0, fmt.Errorf("%c may be expanded: quote the word, as '{…}'", c)
	case '*', '?', '[':
		return 0, fmt.Errorf("%c is a pattern, and which files it names is not known: name them, or quote it", c)
	case '~':
		if p := text[i-1]; p == '=' || p == ':' {
			return 0, errTilde
		}
	case ';':
		return 0, errors.New("; would run another command: send one command at a time, or quote it")
	case '&':
		switch {
		case strings.HasPrefix(rest, "&&"):
			return 0, errors.New("&& would run another command: send one command at a time, or quote it")
		case strings.HasPrefix(rest, "&>"):
			return 0, errors.New("&> is not read alike by all shells: write > FILE 2>&1")
		}
		return 0, errors.New("& would leave a command running: send it without, or quote it")
	case '\r':
		return 0, errors.New("a carriage return stands in the command: leave it out, or quote it")
	}
	return 1, nil
}

var errBackquote = errors.New("`…` runs a command whose output is not known: run that by itself first, or quote it with '…'")

func double(rest string) (int, error) {
	for n := 1; n < len(rest); n++ {
		switch rest[n] {
		case '\\':
			n++
		case '"':
			return n + 1, nil
		case '`':
			return 0, errBackquote
		case '$':
			if err := dollar(rest[n:]); err != nil {
				return 0, err
			}
		}
	}
	return 0, errors.New(`a " is not closed: close it, or write \"`)
}

// dollar refuses every $ that stands for something else.
func dollar(rest string) error {
	if len(rest) == 1 {
		return nil
	}
	switch c := rest[1]; {
	case strings.HasPrefix(rest, "$\\\n"):
		return errors.New("a line is continued behind $: write it in one line")
	case strings.HasPrefix(rest, "$(("), c == '[':
		return errors.New("arithmetic is not known beforehand: write its result, or quote it with '…'")
	case c == '(':
		return errors.New("$(…) runs a command whose output is not known: run that by itself first, or quote it with '…'")
	case c == '{', c == '_', c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', strings.IndexByte("*@#?-$!", c) >= 0:
		return errors.New("what a variable ($) holds on the host is not known: write the value, or quote it with '…'")
	}
	return nil
}

func pipe(rest string) error {
	switch {
	case strings.HasPrefix(rest, "||"):
		return errors.New("|| would run another command: send one command at a time, or quote it")
	case strings.HasPrefix(rest, "|&"):
		return errors.New("|& is not read alike by all shells: write 2>&1 |")
	}
	return nil
}

// redirection gives the length of the operator that begins there.
func redirection(rest string) (int, error) {
	switch {
	case strings.HasPrefix(rest, "<<<"):
		return 0, errors.New("a here-string is not forwarded: send what it holds as standard input")
	case strings.HasPrefix(rest, "<<"):
		return 0, errors.New("a here-document is not forwarded: send what it holds as standard input")
	case strings.HasPrefix(rest, "<("), strings.HasPrefix(rest, ">("):
		return 0, fmt.Errorf("%s…) runs another command: run it by itself", rest[:2])
	}
	if len(rest) > 1 && strings.IndexByte("<>&|", rest[1]) >= 0 {
		return 2, nil
	}
	return 1, nil
}

// bare gives the characters of a word up to the first that is quoted or ends it.
func bare(rest string) string {
	if n := strings.IndexAny(rest, " \t\r\n;&|<>()'\"\\$`"); n >= 0 {
		return rest[:n]
	}
	return rest
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
