package shell

import (
	"fmt"
	"path"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// wrapper is a program that runs the one that its words name, and the options
// of it that are understood.
type wrapper struct {
	flags   string // short options without a value
	valued  string // short options with one
	long    string // long options without a value, and those with one, which end in =
	words   int    // words before the program
	assigns bool   // NAME=VALUE before the program
	number  bool   // -5 is an option
}

var wrappers = map[string]wrapper{
	"env":     {flags: "iv", valued: "u", long: "--ignore-environment --unset= --debug", assigns: true},
	"ionice":  {flags: "t", valued: "cn", long: "--class= --classdata= --ignore"},
	"nice":    {valued: "n", long: "--adjustment=", number: true},
	"nohup":   {},
	"setsid":  {flags: "cfw", long: "--ctty --fork --wait"},
	"stdbuf":  {valued: "ioe", long: "--input= --output= --error="},
	"sudo":    {flags: "nHS", valued: "ug", long: "--non-interactive --set-home --stdin --user= --group=", assigns: true},
	"time":    {flags: "pvq", valued: "f", long: "--portability --verbose --quiet --format="},
	"timeout": {flags: "v", valued: "ks", long: "--kill-after= --signal= --preserve-status --foreground --verbose", words: 1},
}

// wrapped adds what a wrapper runs.
func (r *reader) wrapped(argv []string) error {
	name := path.Base(argv[0])
	w, ok := wrappers[name]
	if !ok {
		return nil
	}
	rest, err := w.options(name, argv[1:])
	if err != nil {
		return err
	}
	if name == "env" && len(rest) > 0 && rest[0] == "-" {
		rest = rest[1:]
	}
	if len(rest) < w.words {
		return nil // it says how it is used
	}
	rest = rest[w.words:]
	if n := len(argv) - len(rest) - 1; name == "sudo" && argv[n] == "--" && len(rest) > 0 && strings.Contains(rest[0], "=") {
		return fmt.Errorf("behind -- sudo takes %s for a program: name one", show(rest[0]))
	}
	for w.assigns && len(rest) > 0 && strings.Contains(rest[0], "=") {
		if err := r.environment(rest[0]); err != nil {
			return err
		}
		rest = rest[1:]
	}
	switch {
	case len(rest) == 0:
		return nil // env prints what is set
	case rest[0] == "" || rest[0][0] == '-':
		return fmt.Errorf("%s is to run %s: name a program", name, show(rest[0]))
	}
	return r.program(rest)
}

// options gives what stands behind the options.
func (w *wrapper) options(name string, args []string) ([]string, error) {
	for len(args) > 0 {
		a := args[0]
		switch {
		case a == "--":
			return args[1:], nil
		case len(a) < 2 || a[0] != '-':
			return args, nil
		}
		takes, ok := false, true
		switch {
		case a[1] == '-':
			long, _, given := strings.Cut(a, "=")
			flag, valued := false, false
			for l := range strings.FieldsSeq(w.long) {
				flag = flag || l == long
				valued = valued || l == long+"="
			}
			ok, takes = flag && !given || valued, valued && !given
		case w.number && digits(a[1:]) == len(a)-1:
		default:
			for i := 1; i < len(a); i++ {
				if strings.IndexByte(w.valued, a[i]) >= 0 {
					takes = i == len(a)-1
					break
				}
				ok = ok && strings.IndexByte(w.flags, a[i]) >= 0
			}
		}
		if !ok {
			return nil, fmt.Errorf("what %s does with the option %s is not known: leave it out", name, show(a))
		}
		args = args[1:]
		if takes {
			if len(args) == 0 {
				return nil, fmt.Errorf("the option %s of %s has no value: give it one", show(a), name)
			}
			args = args[1:]
		}
	}
	return nil, nil
}

var shells = set("sh bash dash rbash ash zsh rzsh ksh ksh93 rksh mksh lksh pdksh yash posh csh tcsh fish elvish nu xonsh pwsh powershell rc es oil osh ysh")

// shell adds what a shell does, if argv is one: the text of sh -c is read as any
// other, and written anew in its place. It says whether there is more to add.
func (r *reader) shell(argv []string) (done bool, err error) {
	name := path.Base(argv[0])
	if !shells[strings.ToLower(name)] {
		return false, nil
	}
	args := argv[1:]
	if len(args) == 0 {
		r.terminal(argv)
		return true, nil
	}
	if args[0] == "-c" && len(args) == 2 && readable(argv[0]) {
		// The shell stays: a wrapper around it has to run something, and a
		// redirection of it counts before those within.
		if argv[2], err = r.script(args[1], sparing); err != nil {
			return true, fmt.Errorf("within %s -c: %w", name, err)
		}
		return true, nil
	}
	options := false
	for _, a := range args {
		if a == "--" || a == "" || a[0] != '-' && a[0] != '+' {
			break
		}
		options = true
		if a[0] == '-' && !strings.HasPrefix(a, "--") && strings.ContainsAny(a, "cC") {
			return true, fmt.Errorf("what %s runs by %s is not read: only sh, bash or dash with -c TEXT and nothing else is", show(argv[0]), show(a))
		}
		if strings.HasPrefix(a, "--c") || strings.HasPrefix(a, "--init-c") {
			return true, fmt.Errorf("what %s runs by %s is not read: only sh, bash or dash with -c TEXT and nothing else is", show(argv[0]), show(a))
		}
	}
	if f := "/" + args[0]; options || f == "/" || f == "/--" || strings.Contains(f, "/dev/") || strings.Contains(f, "/proc/") {
		r.terminal(argv) // it may read what to do from the client
		return true, nil
	}
	return false, nil // a script, by its path
}

// readable is true of a shell whose -c is read here and which is the system's.
func readable(name string) bool {
	switch path.Base(name) {
	case "sh", "bash", "dash":
	default:
		return false
	}
	switch strings.TrimSuffix(name, path.Base(name)) {
	case "", "/bin/", "/usr/bin/", "/usr/local/bin/":
		return true
	}
	return false
}

func (r *reader) terminal(argv []string) {
	r.operations = append(r.operations, abi.Operation{Verb: "shell", Kind: abi.KindTerminal, Object: argv, Effect: abi.EffectUnknown})
}
