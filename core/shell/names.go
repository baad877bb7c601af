package shell

import (
	"errors"
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

// reserved are words that the shell's grammar is made of where they begin a command.
var reserved = set("! { } [[ ]] ]] case coproc do done elif else esac fi for function if select then time until while")

// builtins are done by a shell itself and run text, change what later words mean,
// or compute what they are given, in sh, bash, ksh, zsh, csh or fish. Quotes do
// not take that from them.
var builtins = set(`
	. source eval exec command builtin - noglob nocorrect
	alias unalias abbr function functions autoload emulate enable zmodload hash rehash unhash whence where
	set unset setopt unsetopt shopt setenv unsetenv export readonly declare typeset local integer float nameref private let @
	read readarray mapfile getopts vared print
	hist hup universe glob zpty zsystem
	cd chdir pushd popd pushln trap wait jobs fg bg disown suspend stop notify onintr sched logout
	bind bindkey complete compgen compopt compctl zle zstyle zparseopts zformat zregexparse zcompile
	fc history r repeat foreach goto return break continue shift ulimit umask limit unlimit times
	and or not begin end block emit switch breaksw endsw endif default in always
`)

// own refuses a first word that is the shell's own rather than a program's.
func own(argv []string) error {
	name := argv[0]
	switch {
	case name == "":
		return errors.New("the first word is empty: name a program")
	case reserved[name] || builtins[name]:
		return fmt.Errorf("%s is done by the shell itself and can change what runs: name a program, or its whole path", show(name))
	case name == "test" || name == "[":
		return tested(argv)
	case name == "printf":
		return printed(argv)
	case name == "exit":
		if len(argv) > 2 || len(argv) == 2 && (argv[1] == "" || digits(argv[1]) != len(argv[1])) {
			return errors.New("exit with something else than a number may be computed by the shell: give a number")
		}
	}
	return nil
}

// tested refuses what shells compute in a test: a name, and so the text in a
// variable, and so any command in it.
func tested(argv []string) error {
	for i, w := range argv {
		switch w {
		case "-v", "-R", "-o", "-t":
			if w != "-t" || i+1 >= len(argv) || len(argv[i+1]) != 1 || digits(argv[i+1]) != 1 {
				return fmt.Errorf("%s of %s may compute what it is given: use /usr/bin/test, or another test", w, show(argv[0]))
			}
		case "-eq", "-ne", "-lt", "-le", "-gt", "-ge":
			if i == 0 || i+1 >= len(argv) || !number(argv[i-1]) || !number(argv[i+1]) {
				return fmt.Errorf("%s of %s may compute what it is given: give it numbers, or use /usr/bin/test", w, show(argv[0]))
			}
		}
	}
	return nil
}

// printed refuses a printf of more than texts, for the same reason.
func printed(argv []string) error {
	if len(argv) < 2 {
		return nil
	}
	format, rest := argv[1], argv[2:]
	if strings.HasPrefix(format, "-") {
		return errors.New("an option of printf may set a variable: give the format first, or use /usr/bin/printf")
	}
	texts := true
	for i := 0; i < len(format); i++ {
		if format[i] == '%' {
			for i++; i < len(format) && strings.IndexByte("-.0123456789", format[i]) >= 0; i++ {
			}
			texts = texts && i < len(format) && strings.IndexByte("s%b", format[i]) >= 0
		}
	}
	for _, w := range rest {
		if !texts && !number(w) {
			return fmt.Errorf("printf may compute %s: use %%s for texts, or /usr/bin/printf", show(w))
		}
	}
	return nil
}

func number(w string) bool {
	w = strings.TrimPrefix(w, "-")
	return w != "" && digits(w) == len(w)
}

// assignable says whether a variable may be set before a command: it chooses a
// language or a time zone, and names no file.
func assignable(a assign) error {
	switch n := a.name; {
	case n == "LANG", n == "LANGUAGE", n == "TZ", n == "LC_ALL", n == "LC_ADDRESS", n == "LC_COLLATE", n == "LC_CTYPE", n == "LC_IDENTIFICATION", n == "LC_MEASUREMENT",
		n == "LC_MESSAGES", n == "LC_MONETARY", n == "LC_NAME", n == "LC_NUMERIC", n == "LC_PAPER", n == "LC_TELEPHONE", n == "LC_TIME":
	default:
		return fmt.Errorf("the variable %s may change what runs: leave it out, or set it by env (env %s=… COMMAND), which the task has to list", show(n), n)
	}
	if strings.HasPrefix(a.value, "/") || strings.HasPrefix(a.value, ":") || strings.Contains(a.value, "..") || a.value != "" && !plain(a.value, true) {
		return fmt.Errorf("the value of %s is not that of a language or time zone: use one like C.UTF-8 or Europe/Berlin", a.name)
	}
	return nil
}

// loader is true of variables by which other code is loaded or run. No task can list
// them on a command: what they name would run, not what the command says.
func loader(name string) bool {
	switch name {
	case "PATH", "ENV", "BASH_ENV", "ZDOTDIR", "IFS", "CDPATH", "GLOBIGNORE", "SHELLOPTS", "BASHOPTS", "PS1", "PS2", "PS4", "PROMPT_COMMAND", "FPATH", "SHELL", "HOME",
		"GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "NLSPATH", "MALLOC_CHECK_", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "XDG_CONFIG_DIRS",
		"LESSOPEN", "LESSCLOSE", "LESS", "PAGER", "MANPAGER", "EDITOR", "VISUAL", "BROWSER", "SUDO_EDITOR", "SUDO_ASKPASS", "SSH_ASKPASS", "TAR_OPTIONS", "RSYNC_RSH", "RSYNC_CONNECT_PROG",
		"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "NODE_OPTIONS", "NODE_PATH", "RUBYOPT", "RUBYLIB", "R_PROFILE", "CLASSPATH", "OPENSSL_CONF", "OPENSSL_MODULES", "SSH_ORIGINAL_COMMAND":
		return true
	}
	for _, p := range [...]string{"LD_", "DYLD_", "BASH_FUNC_", "GIT_", "PYTHON", "PERL", "LUA_", "PHP", "SYSTEMD_", "ANSIBLE_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// environment adds NAME=VALUE as a program sets it for another.
func (r *reader) environment(word string) error {
	name, value, _ := strings.Cut(word, "=")
	for i := 0; i < len(name); i++ {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			name = ""
		}
	}
	if name == "" {
		return fmt.Errorf("%s sets a variable whose name is none to a shell: use letters, digits and _", show(word))
	}
	if loader(name) {
		return fmt.Errorf("the variable %s may load or run other code: leave it out", name)
	}
	r.setenv(assign{name, value})
	return nil
}

// program adds the operations of a program that is run with these words.
func (r *reader) program(argv []string) error {
	if r.depth++; r.depth > maxDepth {
		return fmt.Errorf("programs run programs more than %d deep: name the last one", maxDepth)
	}
	defer func() { r.depth-- }()
	if done, err := r.shell(argv); done || err != nil {
		return err
	}
	if !r.listed(argv) {
		if err := opaque(argv); err != nil {
			return err
		}
	}
	r.operations = append(r.operations, abi.Operation{Verb: "exec", Kind: abi.KindProgram, Object: argv, Effect: abi.EffectUnknown})
	return r.wrapped(argv)
}
