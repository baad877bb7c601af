package catalog

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/core/shell"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/internal/nearest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// hostFields are those of a rule for hosts, of which it has one.
var hostFields = []string{"exec", "files", "rsync", "forward", "bind", "env", "signals", "agent", "x11", "shell", "opaque"}

// sqlFields are those of a rule for databases that one for hosts cannot have.
var sqlFields = []string{"verbs", "tables", "columns", "functions", "channels", "where", "effects", "rows", "on_hold"}

// sqlOnly are fields of a task that mean nothing for hosts.
var sqlOnly = []string{"introspect", "show_errors", "settings", "oracle", "blind", "rows", "statement_timeout"}

// signals are those that RFC 4254 names, and a break.
var signals = []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2", "BREAK"}

// hosts are the fields of a rule for hosts.
func hosts(h *policy.Host) map[string]func(strict.Node) {
	fields := map[string]func(strict.Node){
		"exec": func(v strict.Node) {
			for _, c := range v.List() {
				if t := template(c); t != nil {
					h.Exec = append(h.Exec, t)
				}
			}
			if v.IsEmpty() {
				v.Fault("no command is listed, so the rule can never match: exec: [[uptime]]")
			}
		},
		"files": func(v strict.Node) {
			h.Files = map[string][]string{}
			fields := map[string]func(strict.Node){}
			for _, verb := range policy.FileVerbs {
				fields[verb] = func(v strict.Node) {
					for _, p := range v.List() {
						if s := path(p, verb); s != "" {
							h.Files[verb] = append(h.Files[verb], s)
						}
					}
					if v.IsEmpty() {
						v.Fault("no path is listed, so it can never match")
					}
				}
			}
			if v.Fields(fields); empty(v) {
				v.Fault("nothing is listed, so the rule can never match: files: {read: [/var/log/web/**]}")
			}
		},
		"rsync":   func(v strict.Node) { rsync(v, h) },
		"forward": func(v strict.Node) { h.Forward = ends(v, false) },
		"bind":    func(v strict.Node) { h.Bind = ends(v, true) },
		"env": func(v strict.Node) {
			for _, e := range v.List() {
				if s := variable(e); s != "" {
					h.Env = append(h.Env, s)
				}
			}
			if v.IsEmpty() {
				v.Fault("no variable is listed, so the rule can never match: env: [LANG, LC_*]")
			}
		},
		"signals": func(v strict.Node) {
			for _, e := range v.List() {
				if s := e.One(signals...); s != "" {
					h.Signals = append(h.Signals, s)
				}
			}
			if v.IsEmpty() {
				v.Fault("no signal is listed, so the rule can never match: signals: [TERM, INT]")
			}
		},
		"stdin": func(v strict.Node) { h.Stdin = v.One("allow") != "" },
		"shell": func(v strict.Node) {
			if h.May = "shell"; v.One("allow", "command") == "command" {
				h.May = "command"
			}
		},
	}
	for _, name := range []string{"agent", "x11", "opaque"} {
		fields[name] = func(v strict.Node) {
			v.One("allow")
			h.May = name
		}
	}
	return fields
}

// rsync reads the directories that rrsync keeps rsync in, by what is done there.
func rsync(n strict.Node, h *policy.Host) {
	h.Rsync = map[string][]string{}
	fields := map[string]func(strict.Node){}
	var beside []strict.Node
	for _, verb := range policy.RsyncVerbs {
		fields[verb] = func(v strict.Node) {
			for _, p := range v.List() {
				s := path(p, verb)
				switch {
				case s == "": // it has its fault
				case s == "/":
					p.Fault("rrsync keeps nothing back in /: name a directory")
				case strings.Contains(s, "*"):
					p.Fault("%q: rrsync keeps rsync in one directory, and no pattern stands for it: name each", s)
				case verb == "write" && shell.PersistsIn(s):
					p.Fault("%q: what is written in there may take effect by itself: name a directory further down", s)
				default:
					if h.Rsync[verb] = append(h.Rsync[verb], s); verb == "remove" || verb == "link" {
						beside = append(beside, p)
					}
				}
			}
			if v.IsEmpty() {
				v.Fault("no directory is listed, so it can never match")
			}
		}
	}
	n.Fields(fields)
	for _, p := range beside {
		if !slices.Contains(h.Rsync["write"], p.String()) {
			p.Fault("%q: rsync does that where it writes: list it under write as well", p.String())
		}
	}
	if empty(n) {
		n.Fault("nothing is listed, so the rule can never match: rsync: {read: [/srv/app]}")
	}
}

// empty says whether a mapping has no key.
func empty(n strict.Node) bool {
	none := true
	n.Each(func(string, strict.Node) { none = false })
	return none
}

// template reads the words of a command.
func template(n strict.Node) (out []string) {
	if n.IsText() {
		n.Fault("a command is the list of its words: [%s]", strings.Join(strings.Fields(n.String()), ", "))
		return nil
	}
	list, ok := n.List(), true
	for i, w := range list {
		s := w.String()
		switch {
		case !w.IsText():
			ok = false // it has its fault
			continue
		case i == 0 && s == "":
			w.Fault("a command begins with the name of its program")
		case i == 0 && strings.Contains(s, "*"):
			w.Fault("%q: no pattern stands for a program: name each", s)
		case i == 0 && strings.Contains(s, " "):
			w.Fault("%q: each word stands by itself: [%s]", s, strings.Join(strings.Fields(s), ", "))
		case strings.Trim(s, " ") != s:
			w.Fault("%q: a word has no blanks at its ends", s)
		case unprintable(s):
			w.Fault("%q: a character that cannot be seen", s)
		case strings.Contains(s, "**"):
			w.Fault("%q: a * stays within one word, and within one part of a path: ** says no more", s)
		case strings.Contains(s, "*") && dots(s):
			w.Fault("%q: a pattern never stands for a path with . or .. in it", s)
		case slices.Contains([]string{"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"}, s):
			w.Fault("%q: of a pipeline each program is a command of its own here, and what is redirected stands under files", s)
		case s == "..." || s == "…":
			w.Fault("%q: nothing stands for the rest of the words: list each form of the command", s)
		default:
			out = append(out, s)
			continue
		}
		ok = false
	}
	if n.IsEmpty() {
		n.Fault("a command has at least one word")
	}
	if !ok {
		return nil
	}
	return out
}

// path reads a path, or a pattern for some.
func path(n strict.Node, verb string) string {
	s := n.String()
	switch {
	case !n.IsText(): // it has its fault
	case strings.Trim(s, " ") != s:
		n.Fault("%q: a path has no blanks at its ends", s)
	case !strings.HasPrefix(s, "/"):
		n.Fault("%q: an absolute path is expected: it begins with /", s)
	case unprintable(s):
		n.Fault("%q: a character that cannot be seen", s)
	case !policy.Clean(s):
		n.Fault("%q: paths are judged without //, . and .., and without a slash at the end, so this can never match", s)
	case verb == "persist" && strings.Contains(s, "*"):
		n.Fault("%q: what is there runs again by itself, so no pattern stands for it: name each path", s)
	case verb == "persist" && !shell.Persists(s):
		n.Fault("%q: nothing that is known takes effect by itself there: list it under write", s)
	case (verb == "write" || verb == "mkdir") && shell.Persists(strings.ReplaceAll(strings.ReplaceAll(s, "**", "x"), "*", "x")):
		n.Fault("%q: what is written there takes effect by itself, so that only persist lists it, path by path", s)
	case slices.ContainsFunc(strings.Split(s, "/"), func(p string) bool { return p != "**" && strings.Contains(p, "**") }):
		n.Fault("%q: ** is a part by itself: /var/log/**", s)
	default:
		return s
	}
	return ""
}

// ends reads what may be connected to, or listened on.
func ends(n strict.Node, bind bool) (out []string) {
	for _, v := range n.List() {
		s := v.String()
		why := ""
		switch {
		case !v.IsText(): // it has its fault
			continue
		case strings.HasPrefix(s, "/"):
			if s == "/" || !policy.Clean(s) || strings.Contains(s, "*") || unprintable(s) {
				why = "the path of a socket is expected, which stands for itself alone"
			}
		default:
			why = end(s, bind)
		}
		if why != "" {
			v.Fault("%q: %s", s, why)
			continue
		}
		out = append(out, s)
	}
	if n.IsEmpty() {
		n.Fault(`nothing is listed, so the rule can never match: ["db-1:5432"]`)
	}
	return out
}

// end says what is wrong with a host and port.
func end(s string, bind bool) string {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "host and port are expected: db-1:5432"
	}
	host, port := s[:i], s[i+1:]
	least := 1
	if bind {
		least = 0 // the host chooses
	}
	if n, err := strconv.Atoi(port); err != nil || n < least || n > 65535 || strconv.Itoa(n) != port {
		return fmt.Sprintf("a port from %d to 65535 is expected", least)
	}
	inner, brackets := strings.CutPrefix(host, "[")
	if brackets {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return "a ] is missing"
		}
	}
	switch a, err := netip.ParseAddr(inner); {
	case err == nil && a.Is6() != brackets:
		return "only an address of IPv6 stands in brackets: [::1]:8080"
	case err == nil && (a.String() != inner || a.Is4In6() || a.Zone() != ""):
		return "an address is written plainly, as " + a.Unmap().WithZone("").String()
	case err == nil && a.IsUnspecified() && !bind:
		return "nothing can be reached at it: name the host, or 127.0.0.1"
	case err == nil, bind && host == "*":
		return ""
	case brackets:
		return "an address of IPv6 is expected in brackets: [::1]:8080"
	case bind && host == "":
		return "*:" + port + " is on every address"
	case strings.Contains(host, "*"):
		return "a host stands for itself alone: list them"
	case strings.ToLower(host) != host:
		return "hosts are compared in small letters: " + strings.ToLower(s)
	case strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.HasPrefix(host, "-") || strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") || strings.Contains(host, "..") || host == "":
		return "the name of a host and a port are expected: db-1:5432"
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return "an address is written plainly, as 127.0.0.1"
	}
	return ""
}

// variable reads the name of a variable, or the beginning of some with a *.
func variable(n strict.Node) string {
	s := n.String()
	name, pattern := strings.CutSuffix(s, "*")
	switch {
	case !n.IsText(): // it has its fault
	case name == "" || name[0] >= '0' && name[0] <= '9' || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "":
		n.Fault("%q: the name of a variable is expected, or the beginning of some and a *: LC_*", s)
	case pattern && policy.Loads(name+"X"):
		n.Fault("%q: such variables make programs run what is not in their words, so no pattern stands for them: name each", s)
	default:
		return s
	}
	return ""
}

func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

// dots says whether a part of a path is . or ..
func dots(s string) bool {
	return slices.ContainsFunc(strings.Split(s, "/"), func(p string) bool { return p == "." || p == ".." })
}

// ofHost holds what a rule for hosts has against what it may have.
func ofHost(h *policy.Host, seen map[string]strict.Node, review bool) {
	first := ""
	for _, name := range hostFields {
		if _, ok := seen[name]; ok && first == "" {
			first = name
		} else if ok {
			seen[name].Fault("beside %s: each stands in a rule of its own", first)
		}
	}
	for _, name := range sqlFields {
		if v, ok := seen[name]; ok {
			v.Fault("it is for databases, and the rule is for hosts, by its %s: each has rules of its own", first)
		}
	}
	if v, ok := seen["stdin"]; ok && first != "exec" && first != "opaque" {
		v.Fault("it is for exec and opaque: what the client sends to a program")
	}
	for _, t := range h.Exec {
		switch {
		case !policy.ServesRsync(t):
		case pattern(t):
			seen["exec"].Fault("%s: rsync's server reads which files it is for out of its stream, so no pattern stands for its words: list them as they are, or a directory: rsync: {read: [/srv/app]}", strings.Join(t, " "))
		case !h.Stdin:
			seen["exec"].Fault("%s: rsync's server listens to its client: stdin: allow", strings.Join(t, " "))
		}
	}
	if v := seen["shell"]; h.May == "command" && review {
		v.Fault("shell: command stands under allow: each of its lines is a command, which is held by its own rule")
	}
}

// Protocol is that of the resources that the task is for.
func (t *Task) Protocol() string {
	for i := range t.Written {
		if t.Written[i].Rule.Host != nil {
			return "ssh"
		}
	}
	return "postgres"
}

// protocols finds what is for another protocol than the rest of the task.
func (t *Task) protocols(seen map[string]strict.Node) {
	if t.Protocol() != "ssh" {
		return
	}
	first, shell := "", ""
	for i := range t.Written {
		if r := &t.Written[i].Rule; r.Host != nil && first == "" {
			first = r.At
		}
	}
	for i := range t.Written {
		w := &t.Written[i]
		switch {
		case w.Rule.Host == nil:
			w.Fault("the rule is for databases, and the one at %s for hosts: a task is for one of them", first)
		case w.Rule.Host.May != "shell" && w.Rule.Host.May != "command":
		case shell != "" && shell != w.Rule.Host.May:
			w.Fault("a task's shell is the host's (allow) or the gateway's own (command), not both")
		default:
			shell = w.Rule.Host.May
		}
	}
	t.CommandShell = shell == "command"
	t.replaced()
	for _, name := range sqlOnly {
		if v, ok := seen[name]; ok {
			v.Fault("it is for databases, and the rules are for hosts")
		}
	}
}

// Rsync is what the task lists of rsync's server, for whoever reads its words.
func (t *Task) Rsync() *shell.Rsync {
	r := &shell.Rsync{}
	for i := range t.Rules {
		h := t.Rules[i].Host
		if h == nil {
			continue
		}
		if h.Rsync != nil {
			r.Dirs = append(r.Dirs, h.Rsync)
		}
		for _, words := range h.Exec {
			if policy.ServesRsync(words) {
				r.Words = append(r.Words, words)
			}
		}
	}
	return r
}

// replaced finds the directories of rsync that the task lets a link be put in the place
// of, or above: rrsync would keep rsync in what that link leads to.
func (t *Task) replaced() {
	for i := range t.Written {
		w := &t.Written[i]
		if w.Rule.Host == nil {
			continue
		}
		for _, dir := range append(slices.Clone(w.Rule.Host.Rsync["read"]), w.Rule.Host.Rsync["write"]...) {
			if by := t.replaces(dir); by != "" {
				w.Fault("rsync in %s would follow a link in its place or above it, and %s lets one be put there: list a directory that nothing here links or renames", dir, by)
				break
			}
		}
	}
}

// replaces names the entry by which a directory may become a link.
func (t *Task) replaces(dir string) string {
	for i := range t.Written {
		r := &t.Written[i].Rule
		if r.Host == nil {
			continue
		}
		for _, above := range r.Host.Rsync["link"] {
			if strings.HasPrefix(dir, above+"/") {
				return fmt.Sprintf("link %s of the rule at %s", above, r.At)
			}
		}
		for _, verb := range []string{"link", "rename"} {
			for _, p := range r.Host.Files[verb] {
				for at := dir; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
					if policy.Path(p, at) {
						return fmt.Sprintf("%s %s of the rule at %s", verb, p, r.At)
					}
				}
			}
		}
	}
	return ""
}

// protocolNames are protocols in words.
var protocolNames = map[string]string{"postgres": "a database", "ssh": "a host"}

// fits says what is wrong with a resource for the task's rules.
func (t *Task) fits(name string, r Resource) string {
	if want := t.Protocol(); r.Protocol != want {
		return fmt.Sprintf("the rules are for %s, and the resource %q is %s", protocolNames[want], name, protocolNames[r.Protocol])
	}
	return ""
}

// roundabout finds forwards that would go round the gateway: what is a resource
// of its own is reached as one.
func (t *Task) roundabout(resources map[string]Resource) (faults strict.Faults) {
	for i := range t.Written {
		w := &t.Written[i]
		if w.Rule.Host == nil {
			continue
		}
		for _, entry := range w.Rule.Host.Forward {
			for _, name := range slices.Sorted(maps.Keys(resources)) {
				if strings.EqualFold(resources[name].Address, entry) {
					faults = append(faults, w.Wrong("forward: %s is the resource %q of this gateway, and is reached as that, by a task that lists it", entry, name))
				}
			}
		}
	}
	return faults
}

// unquoted finds hosts at which rsync in a directory can never run: rrsync is told
// its words in one, which needs quotes.
func (t *Task) unquoted(resources map[string]Resource) (faults strict.Faults) {
	for i := range t.Written {
		w := &t.Written[i]
		if w.Rule.Host == nil || w.Rule.Host.Rsync == nil {
			continue
		}
		for _, name := range t.Resources {
			if r := resources[name]; r.Protocol == "ssh" && !r.Posix {
				faults = append(faults, w.Wrong("rsync in a directory needs quotes, and how the shell of the resource %q reads them is not known: say shell: posix there, if it is so", name))
			}
		}
	}
	return faults
}

// wider says whether a rule for hosts lists all that another does.
func wider(a, b *policy.Host) bool {
	if a == nil || b == nil || a.May != b.May || b.Stdin && !a.Stdin {
		return false
	}
	all := func(of, in []string) bool {
		return !slices.ContainsFunc(of, func(s string) bool { return !slices.Contains(in, s) })
	}
	for _, t := range b.Exec {
		if !slices.ContainsFunc(a.Exec, func(o []string) bool { return slices.Equal(o, t) || !pattern(t) && policy.Words(o, t) }) {
			return false
		}
	}
	for verb, list := range b.Files {
		for _, p := range list {
			if !slices.ContainsFunc(a.Files[verb], func(o string) bool {
				return o == p || !strings.Contains(p, "*") && verb != "persist" && policy.Path(o, p)
			}) {
				return false
			}
		}
	}
	for verb, list := range b.Rsync {
		for _, dir := range list {
			if !slices.ContainsFunc(a.Rsync[verb], func(o string) bool { return o == dir || strings.HasPrefix(dir, o+"/") }) {
				return false
			}
		}
	}
	return all(b.Forward, a.Forward) && all(b.Bind, a.Bind) && all(b.Env, a.Env) && all(b.Signals, a.Signals)
}

// pattern says whether a template stands for more than itself.
func pattern(t []string) bool {
	return slices.ContainsFunc(t, func(w string) bool { return strings.Contains(w, "*") })
}

// near says which of some words was probably meant.
func near(word string, words []string) string {
	if w := nearest.Word(word, slices.Values(words)); w != "" {
		return fmt.Sprintf("did you mean %q?", w)
	}
	return "known are " + strings.Join(words, ", ")
}
