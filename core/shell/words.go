package shell

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// command is a simple command whose words are known.
type command struct {
	assigns   []assign
	argv      []string
	redirects []redirect
}

type assign struct{ name, value string }

// redirect is a redirection to a file, or of one descriptor to another.
type redirect struct {
	fd   string // as written, mostly empty
	op   string
	path string // cleaned, or empty
	dup  string // a descriptor, or empty
}

func (d *redirect) reads() bool  { return d.op[0] == '<' }
func (d *redirect) writes() bool { return d.op != "<" }

// commands gives the simple commands of a flat text that is one pipeline. It
// knows what it takes, and refuses every node that it does not.
func commands(text string) (list []command, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser is not ours: what it cannot read is not understood
			list, err = nil, errors.New("the command could not be read: write it in simpler words")
		}
	}()
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	var fault syntax.ParseError
	switch {
	case errors.As(err, &fault):
		return nil, fmt.Errorf("the command could not be read: %s", show(fault.Text))
	case err != nil:
		return nil, errors.New("the command could not be read: write it in simpler words")
	case len(file.Stmts) == 0:
		return nil, errors.New("the command is empty: name a program")
	case len(file.Stmts) > 1:
		return nil, errors.New("there are several commands: send one at a time")
	}
	if list, err = pipeline(nil, file.Stmts[0]); err != nil {
		return nil, err
	}
	words := 0
	for i := range list {
		words += len(list[i].argv) + len(list[i].assigns) + len(list[i].redirects)
	}
	if words > maxWords {
		return nil, fmt.Errorf("the command has more than %d words: do it in several steps", maxWords)
	}
	return list, nil
}

func pipeline(list []command, s *syntax.Stmt) ([]command, error) {
	if s.Negated || s.Background || s.Coprocess || s.Disown || s.Semicolon.IsValid() {
		return nil, errPlain
	}
	switch c := s.Cmd.(type) {
	case nil:
		return nil, errors.New("a redirection stands without a command: name the program whose output it takes")
	case *syntax.BinaryCmd:
		if c.Op != syntax.Pipe || len(s.Redirs) > 0 {
			return nil, errPlain
		}
		list, err := pipeline(list, c.X)
		if err != nil {
			return nil, err
		}
		return pipeline(list, c.Y)
	case *syntax.CallExpr:
		one, err := simple(c, s.Redirs)
		return append(list, one), err
	}
	return nil, errPlain
}

var errPlain = errors.New("it is more than a pipeline of plain commands: send one command at a time")

func simple(c *syntax.CallExpr, redirs []*syntax.Redirect) (one command, err error) {
	for _, a := range c.Assigns {
		if a.Append || a.Naked || a.Name == nil || a.Index != nil || a.Array != nil {
			return one, errors.New("an assignment is more than NAME=VALUE: leave it out")
		}
		value := ""
		if a.Value != nil {
			if value, err = static(a.Value); err != nil {
				return one, err
			}
		}
		one.assigns = append(one.assigns, assign{a.Name.Value, value})
	}
	if len(c.Args) == 0 {
		return one, errors.New("an assignment stands without a command: it would be lost")
	}
	for _, w := range c.Args {
		word, err := static(w)
		if err != nil {
			return one, err
		}
		one.argv = append(one.argv, word)
	}
	for _, r := range redirs {
		d, err := redirected(r)
		if err != nil {
			return one, err
		}
		one.redirects = append(one.redirects, d)
	}
	return one, nil
}

func redirected(r *syntax.Redirect) (d redirect, err error) {
	if r.N != nil {
		d.fd = r.N.Value
	}
	if len(d.fd) > 1 || digits(d.fd) != len(d.fd) {
		return d, fmt.Errorf("the descriptor %s is not read alike by all shells: use one of 0 to 9", show(d.fd))
	}
	if r.Word == nil || r.Hdoc != nil {
		return d, errPlain
	}
	word, err := static(r.Word)
	if err != nil {
		return d, err
	}
	switch r.Op {
	case syntax.RdrOut:
		d.op = ">"
	case syntax.AppOut:
		d.op = ">>"
	case syntax.RdrClob:
		d.op = ">|"
	case syntax.RdrIn:
		d.op = "<"
	case syntax.RdrInOut:
		d.op = "<>"
	case syntax.DplOut, syntax.DplIn:
		if d.op = ">&"; r.Op == syntax.DplIn {
			d.op = "<&"
		}
		if len(word) != 1 || digits(word) != 1 {
			return d, fmt.Errorf("%s%s is no copy of a descriptor: write > FILE 2>&1", d.op, show(word))
		}
		d.dup = word
		return d, nil
	default:
		return d, fmt.Errorf("the redirection %s is not read alike by all shells: use > or <", r.Op)
	}
	d.path, err = absolute(word)
	return d, err
}

// absolute gives the path of a redirection, cleaned. What it means may not hang
// on where the shell stands, nor on where a link leads that .. would go back from.
func absolute(word string) (string, error) {
	if !strings.HasPrefix(word, "/") {
		return "", fmt.Errorf("where %s is depends on the directory in which the host runs it: write the whole path", show(word))
	}
	for part := range strings.SplitSeq(word, "/") {
		if part == ".." {
			return "", fmt.Errorf("%s goes back by ..: write the path without it", show(word))
		}
	}
	clean := path.Clean(word)
	if strings.HasPrefix(clean, "/dev/tcp/") || strings.HasPrefix(clean, "/dev/udp/") {
		return "", fmt.Errorf("%s is a connection to some shells, not a file: ask for a forward", show(clean))
	}
	return clean, nil
}

// static gives the one word that w stands for.
func static(w *syntax.Word) (string, error) {
	if len(w.Parts) == 1 {
		if lit, ok := w.Parts[0].(*syntax.Lit); ok && strings.IndexByte(lit.Value, '\\') < 0 {
			return lit.Value, nil
		}
	}
	var b []byte
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			b = unescape(b, p.Value, "")
		case *syntax.SglQuoted:
			if !p.Dollar {
				b = append(b, p.Value...)
				continue
			}
			var err error
			if b, err = ansi(b, p.Value); err != nil {
				return "", err
			}
		case *syntax.DblQuoted:
			if p.Dollar {
				return "", errWord
			}
			for _, inner := range p.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok {
					return "", errWord
				}
				b = unescape(b, lit.Value, "$`\"\\")
			}
		default:
			return "", errWord
		}
	}
	return string(b), nil
}

var errWord = errors.New("a word is not known before the host's shell has read it: write what it stands for, or quote it with '…'")

// unescape drops backslashes, in double quotes only those before one of these.
func unescape(b []byte, s, only string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (only == "" || strings.IndexByte(only, s[i+1]) >= 0) {
			i++
		}
		b = append(b, s[i])
	}
	return b
}

// ansi reads what stands in $'…', as far as all shells that have it agree.
func ansi(b []byte, s string) ([]byte, error) {
	const from, to = `\'"?abefnrtv`, "\\'\"?\a\b\x1b\f\n\r\t\v"
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			n := -1
			if i < len(s) {
				n = strings.IndexByte(from, s[i])
			}
			if n < 0 {
				return nil, errors.New("$'…' has an escape that is not read alike by all shells: write the character itself")
			}
			b = append(b, to[n])
			continue
		}
		b = append(b, s[i])
	}
	return b, nil
}
