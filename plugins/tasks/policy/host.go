package policy

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// Host is what a rule lists of a host: one of its fields.
type Host struct {
	Exec    [][]string          `json:"exec,omitempty"`    // templates: see Words
	Files   map[string][]string `json:"files,omitempty"`   // by verb: see Path
	Rsync   map[string][]string `json:"rsync,omitempty"`   // directories under rrsync, by RsyncVerbs
	Forward []string            `json:"forward,omitempty"` // host:port, or the path of a socket
	Bind    []string            `json:"bind,omitempty"`
	Env     []string            `json:"env,omitempty"` // names, or the beginning of some and a *
	Signals []string            `json:"signals,omitempty"`
	May     string              `json:"may,omitempty"`   // agent, x11, shell, opaque; command is the shell that is the gateway's own
	Stdin   bool                `json:"stdin,omitempty"` // beside exec, and opaque
}

// FileVerbs are what may be done with a file, in the order in which a hint has
// them.
var FileVerbs = []string{"read", "list", "stat", "write", "remove", "rename", "mkdir", "setstat", "link", "persist"}

// RsyncVerbs are what may be done by rsync in a directory.
var RsyncVerbs = []string{"read", "write", "remove", "link"}

// ofHost says whether a kind of object is a host's.
func ofHost(kind string) bool {
	switch kind {
	case abi.KindProgram, abi.KindTerminal, abi.KindOpaque, abi.KindFile, abi.KindForward, abi.KindEnvironment, abi.KindSignal, abi.KindAgent, abi.KindX11:
		return true
	}
	return false
}

// covers says whether the rule lists an operation.
func (h *Host) covers(o *abi.Operation) bool {
	name := ""
	if len(o.Object) == 1 {
		name = o.Object[0]
	}
	switch o.Kind {
	case abi.KindProgram:
		return o.Verb == "exec" && h.program(o.Object)
	case abi.KindTerminal:
		return o.Verb == "shell" && (h.May == "shell" || h.May == "command" && len(o.Object) == 0)
	case abi.KindFile:
		return h.file(o.Verb, name)
	case abi.KindForward:
		switch o.Verb {
		case "connect":
			return slices.ContainsFunc(h.Forward, func(s string) bool { return end(s, o.Object) })
		case "bind":
			return slices.ContainsFunc(h.Bind, func(s string) bool { return end(s, o.Object) })
		}
	case abi.KindEnvironment:
		return o.Verb == "setenv" && slices.ContainsFunc(h.Env, func(s string) bool { return Variable(s, name) })
	case abi.KindSignal:
		return o.Verb == "signal" && name != "" && slices.Contains(h.Signals, name)
	case abi.KindAgent, abi.KindX11:
		return o.Verb == "forward" && h.May == o.Kind
	}
	return false // opaque stands alone
}

// program says whether the rule lists the words of a program. No pattern stands for
// those of rsync's server.
func (h *Host) program(argv []string) bool {
	if dir, verbs, ok := confined(argv); ok {
		return !slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(h.Rsync[v], dir) })
	}
	serves := ServesRsync(argv)
	return slices.ContainsFunc(h.Exec, func(t []string) bool { return Words(t, argv) && (!serves || slices.Equal(t, argv)) })
}

// confined gives the directory that rrsync keeps rsync's server in, and what it may
// do there, by the words that the gateway makes of it. No client can send them.
func confined(argv []string) (dir string, verbs []string, ok bool) {
	if len(argv) < 5 || argv[0] != "env" || !strings.HasPrefix(argv[1], "SSH_ORIGINAL_COMMAND=rsync --server ") || argv[2] != "rrsync" {
		return "", nil, false
	}
	switch may := argv[3 : len(argv)-1]; {
	case slices.Equal(may, []string{"-ro", "-absolute"}):
		verbs = []string{"read"}
	case len(may) > 1 && may[0] == "-wo" && may[1] == "-absolute":
		verbs = []string{"write"}
		if !slices.Contains(may, "-no-del") {
			verbs = append(verbs, "remove")
		}
		if !slices.Contains(may, "-munge") {
			verbs = append(verbs, "link")
		}
	default:
		verbs = []string{""} // which nobody lists
	}
	return argv[len(argv)-1], verbs, true
}

// ServesRsync says whether the words are of rsync's server, or may be.
func ServesRsync(argv []string) bool {
	return len(argv) > 0 && base(argv[0]) == "rsync" && slices.ContainsFunc(argv[1:], func(a string) bool {
		long, ok := strings.CutPrefix(a, "--")
		long, _, _ = strings.Cut(long, "=")
		return ok && long != "" && (strings.HasPrefix("server", long) || strings.HasPrefix("sender", long) || strings.HasPrefix("daemon", long))
	})
}

// reads says whether what the client sends may pass to the program.
func (h *Host) reads() bool { return h.Stdin || h.Rsync != nil }

// named says whether the rule names the verb of an operation, so that it is not
// only implied by another.
func (h *Host) named(o *abi.Operation) bool {
	return o.Verb != "stat" && o.Verb != "list" || slices.ContainsFunc(h.Files[o.Verb], func(p string) bool { return Path(p, o.Object[0]) })
}

// file says whether the rule lists what is done with a path.
func (h *Host) file(verb, path string) bool {
	if h.Files == nil || !Clean(path) {
		return false
	}
	listed := func(verb string) bool {
		return slices.ContainsFunc(h.Files[verb], func(p string) bool { return Path(p, path) })
	}
	switch verb {
	case "persist": // what runs again by itself is named, or refused
		return slices.Contains(h.Files[verb], path)
	case "list":
		return listed("list") || listed("read") || h.around(path, true, "list", "read")
	case "stat":
		return slices.ContainsFunc(FileVerbs, listed) || h.around(path, false, FileVerbs...)
	case "read", "write", "remove", "rename", "mkdir", "setstat", "link":
		return listed(verb)
	}
	return false
}

// around says whether a path is a directory in which a pattern of these verbs
// stands; whole asks for one that stands for all that is in there.
func (h *Host) around(path string, whole bool, verbs ...string) bool {
	for _, v := range verbs {
		for _, p := range h.Files[v] {
			if is, all := within(p, path); is && (all || !whole) {
				return true
			}
		}
	}
	return false
}

// end says whether an entry names the end of a forward: host and port, or the
// path of a socket. Both stand for themselves alone.
func end(entry string, object []string) bool {
	switch len(object) {
	case 1:
		return strings.HasPrefix(entry, "/") && entry == object[0]
	case 2:
		i := strings.LastIndexByte(entry, ':')
		if i < 0 || entry[0] == '/' || entry[i+1:] != object[1] {
			return false
		}
		host := entry[:i]
		if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
			host = host[1 : len(host)-1]
		}
		return host == object[0]
	}
	return false
}

// Variable says whether an entry names a variable of the environment. One that
// ends in a * names all that begin so, but those that Loads.
func Variable(entry, name string) bool {
	begin, pattern := strings.CutSuffix(entry, "*")
	if !pattern {
		return name != "" && entry == name
	}
	return begin != "" && len(name) > len(begin) && strings.HasPrefix(name, begin) && plain(name) && !Loads(name)
}

// plain says whether a name is one that shells can use.
func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Loads says whether a variable is known to make a program run, or find, what
// is not in its words. Such are named one by one. No list of them is whole.
func Loads(name string) bool {
	for _, begin := range []string{"LD_", "DYLD_", "BASH", "GIT_", "SSH_", "SUDO_", "PYTHON", "PERL", "RUBY", "NODE_", "JAVA_", "_JAVA", "JDK_", "MALLOC_", "GLIBC_", "GCONV", "LESS", "TERMINFO"} {
		if strings.HasPrefix(name, begin) {
			return true
		}
	}
	for _, last := range []string{"PATH", "PAGER", "EDITOR", "SHELL"} {
		if strings.HasSuffix(name, last) {
			return true
		}
	}
	switch name {
	case "ENV", "IFS", "PS4", "PROMPT_COMMAND", "SHELLOPTS", "HOME", "ZDOTDIR", "INPUTRC", "VISUAL", "BROWSER", "HOSTALIASES", "TERMCAP", "TMPDIR":
		return true
	}
	return false
}

// host finds the rule that lists an operation of a host: one that needs no
// approval before one that does, one with a standard input before others.
func (t *Task) host(o *abi.Operation) (*Rule, *miss) {
	if o.Kind == abi.KindProgram && o.Verb == "subsystem" && len(o.Object) == 1 && o.Object[0] == "sftp" && o.Attrs&abi.Floor != 0 && o.Effect == abi.EffectRead {
		for i := range t.Rules {
			if h := t.Rules[i].Host; h != nil && h.Files != nil {
				return nil, nil // each of its operations is judged
			}
		}
		return nil, &miss{what: "no files are in this task, and so sftp is not"}
	}
	if r := t.listing(func(h *Host) bool { return h.covers(o) }); r != nil {
		if r.Review != nil && o.Kind == abi.KindFile && !r.Host.named(o) {
			return nil, nil // clients look before they ask for what is held: to look needs nobody
		}
		return r, nil
	}
	return nil, t.missed(o)
}

// opaque finds the rule for a text that is not understood, and nothing else.
func (t *Task) opaque(st *abi.Statement) *Rule {
	if st.Protocol != "ssh" || len(st.Operations) != 1 {
		return nil
	}
	if o := &st.Operations[0]; o.Kind != abi.KindOpaque || o.Verb != "exec" || o.Via != "" {
		return nil
	}
	return t.listing(func(h *Host) bool { return h.May == "opaque" })
}

func (t *Task) listing(lists func(*Host) bool) *Rule {
	var allow, review *Rule
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.Host == nil || !lists(r.Host) {
			continue
		}
		switch {
		case r.Review != nil:
			if review == nil {
				review = r
			}
		case allow == nil || r.Host.reads() && !allow.Host.reads():
			allow = r
		}
	}
	if allow != nil {
		return allow
	}
	return review
}

// missed says why an operation is refused, and what comes closest.
func (t *Task) missed(o *abi.Operation) *miss {
	m := &miss{what: said(o) + " is not in this task"}
	switch {
	case o.Kind == abi.KindFile && (len(o.Object) != 1 || !Clean(o.Object[0])):
		m.what = said(o) + " is refused: a path is absolute, with no part that is empty, . or .."
		return m
	case o.Verb == "persist":
		m.what = said(o) + " is not in this task: what stands there runs again by itself, and only an entry of its own under persist lists it"
	case o.Kind == abi.KindFile && strings.Contains(o.Object[0], "/."):
		m.what += ": no pattern stands for a name that begins with a dot"
	}
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.Host == nil {
			continue
		}
		if entry, score := r.Host.closest(o); score > m.score {
			m.score, m.closest = score, "closest is rule "+r.At+": "+entry
		}
	}
	return m
}

// closest gives the entry that is most like an operation, and how much.
func (h *Host) closest(o *abi.Operation) (entry string, score int) {
	better := func(s string, n int) {
		if n > score {
			entry, score = s, n
		}
	}
	switch o.Kind {
	case abi.KindProgram:
		for _, t := range h.Exec {
			n := 0
			for n < len(t) && n < len(o.Object) && (t[n] == o.Object[n] || n > 0 && word(t[n], o.Object[n])) {
				n++
			}
			if n == 0 && len(t) > 0 && len(o.Object) > 0 && base(t[0]) == base(o.Object[0]) {
				n = 1
			}
			if len(t) == len(o.Object) {
				n *= 2
			}
			better("exec: "+show(t), n)
		}
	case abi.KindFile:
		if len(o.Object) != 1 {
			break
		}
		for _, v := range FileVerbs {
			for _, p := range h.Files[v] {
				switch {
				case Path(p, o.Object[0]):
					better("files: "+v+" "+p, 3)
				case v == o.Verb && strings.HasPrefix(o.Object[0], fixed(p)) && fixed(p) != "/":
					better("files: "+v+" "+p, 2)
				case v == o.Verb:
					better("files: "+v+" "+p, 1)
				}
			}
		}
	case abi.KindForward:
		what, list := "forward: ", h.Forward
		if o.Verb == "bind" {
			what, list = "bind: ", h.Bind
		}
		for _, e := range list {
			if len(o.Object) == 2 && strings.HasPrefix(e, o.Object[0]+":") {
				better(what+e, 2)
			} else if len(o.Object) == 2 && strings.HasSuffix(e, ":"+o.Object[1]) {
				better(what+e, 1)
			}
		}
	case abi.KindTerminal:
		if h.May == "command" {
			better("shell: command, which is the gateway's own and takes no words", 1)
		}
	}
	return entry, score
}

// base is a program's name without its directory.
func base(program string) string { return program[strings.LastIndexByte(program, '/')+1:] }

// fixed is the directory above the first * of a pattern, with its slash.
func fixed(pattern string) string {
	if i := strings.IndexByte(pattern, '*'); i >= 0 {
		pattern = pattern[:i]
	}
	return pattern[:strings.LastIndexByte(pattern, '/')+1]
}

// said names an operation in a refusal.
func said(o *abi.Operation) string {
	switch o.Kind {
	case abi.KindTerminal:
		if len(o.Object) > 0 {
			return "the interactive shell " + show(o.Object)
		}
		return "an interactive shell"
	case abi.KindFile:
		return o.Verb + " on " + show(o.Object)
	case abi.KindForward:
		to := show(o.Object)
		if len(o.Object) == 2 {
			to = show([]string{o.Object[0]}) + " port " + show([]string{o.Object[1]})
		}
		if o.Verb == "bind" {
			return "listening on " + to
		}
		return o.Verb + " to " + to
	case abi.KindEnvironment:
		return "the variable " + show(o.Object)
	case abi.KindSignal:
		return "the signal " + show(o.Object)
	case abi.KindAgent:
		return "forwarding the key agent"
	case abi.KindX11:
		return "forwarding the display"
	}
	return o.Verb + " " + show(o.Object)
}

// maxShown bounds what is said of a command in a refusal.
const maxShown = 200

// show joins words so that it can be seen where each ends, and nothing in them
// steers a terminal.
func show(words []string) string {
	s := ""
	for i, w := range words {
		if i > 0 {
			s += " "
		}
		if len(s) > maxShown {
			return s + "…"
		}
		if len(w) > maxShown {
			n := maxShown
			for n > 0 && !utf8.RuneStart(w[n]) {
				n--
			}
			w = w[:n] + "…"
		}
		if w == "" || strings.ContainsAny(w, " '\"\\") || strconv.Quote(w) != `"`+w+`"` {
			w = strconv.Quote(w)
		}
		s += w
	}
	return s
}

// maxEntries bounds what a hint has of one rule.
const maxEntries = 8

// byVerb gives the paths of each verb, the first of them behind its name.
func byVerb(verbs []string, paths map[string][]string) (list []string) {
	for _, v := range verbs {
		for i, p := range paths[v] {
			if i == 0 {
				p = v + " " + p
			}
			list = append(list, p)
		}
	}
	return list
}

// String renders what a rule lists as its file has it, but shorter.
func (h *Host) String() string {
	var field string
	var list []string
	switch {
	case h.Exec != nil:
		field = "exec"
		for _, t := range h.Exec {
			list = append(list, show(t))
		}
	case h.Files != nil:
		field, list = "files", byVerb(FileVerbs, h.Files)
	case h.Rsync != nil:
		field, list = "rsync", byVerb(RsyncVerbs, h.Rsync)
	case h.Forward != nil:
		field, list = "forward", h.Forward
	case h.Bind != nil:
		field, list = "bind", h.Bind
	case h.Env != nil:
		field, list = "env", h.Env
	case h.Signals != nil:
		field, list = "signals", h.Signals
	case h.May == "command":
		field, list = "shell", []string{"command"}
	default:
		field, list = h.May, []string{"allow"}
	}
	if len(list) > maxEntries {
		list = append(slices.Clone(list[:maxEntries]), "…")
	}
	s := field + ": " + strings.Join(list, ", ")
	if h.Stdin {
		s += " with its standard input"
	}
	return s
}

// about says whether a rule is for the kind of an operation.
func (h *Host) about(o *abi.Operation) bool {
	switch o.Kind {
	case abi.KindProgram:
		return h.Exec != nil || h.Rsync != nil || o.Verb == "subsystem" && h.Files != nil
	case abi.KindFile:
		return h.Files != nil
	case abi.KindForward:
		return h.Forward != nil && o.Verb == "connect" || h.Bind != nil && o.Verb == "bind"
	case abi.KindEnvironment:
		return h.Env != nil
	case abi.KindSignal:
		return h.Signals != nil
	case abi.KindTerminal:
		return h.May == "shell" || h.May == "command"
	}
	return h.May == o.Kind
}
