package policy

import (
	"path"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// Text masks what a program answers, or what a file holds, line by line.
type Text struct {
	At    string      `json:"at"`
	Exec  [][]string  `json:"exec,omitempty"`  // templates: see Words
	Files []string    `json:"files,omitempty"` // see Over
	Mask  abi.Protect `json:"mask"`
}

// Over says whether the pattern of a mask lies over a path: a * is any run of
// one part, ** any number of parts. It covers more than the same pattern allows:
// a dot at the beginning is nothing special.
func Over(pattern, path string) bool {
	return over(strings.Split(pattern, "/"), strings.Split(path, "/"))
}

func over(pattern, path []string) bool {
	for len(pattern) > 0 && pattern[0] != "**" {
		if len(path) == 0 || !star(pattern[0], path[0]) {
			return false
		}
		pattern, path = pattern[1:], path[1:]
	}
	if len(pattern) == 0 {
		return len(path) == 0
	}
	for i := len(path); i >= 0; i-- {
		if over(pattern[1:], path[i:]) {
			return true
		}
	}
	return false
}

// star says whether a part with * in it stands for a part of a path.
func star(pattern, s string) bool {
	first, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	for {
		next, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, next)
		}
		i := strings.Index(s, next)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(next):], after
	}
}

// over says whether any mask of files lies over a path.
func (x *Text) over(path string) bool {
	for _, p := range x.Files {
		if Over(p, path) {
			return true
		}
	}
	return false
}

// Reaches says whether any mask of files lies over a path, or what may be beneath.
func (x *Text) Reaches(path string) bool { return x.over(path) || x.beneath(path) }

// within says whether any mask of files lies over what may be in a directory.
func (x *Text) within(dir string) bool {
	if dir == "/" {
		dir = ""
	}
	for _, p := range x.Files {
		if i := strings.LastIndexByte(p, '/'); Over(p[:i], dir) || strings.Contains(p, "**") && Over(p, dir+"/x") {
			return true
		}
	}
	return false
}

// beneath says whether any mask of files lies over what may be in a directory, or
// in one within it.
func (x *Text) beneath(dir string) bool {
	parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	for _, p := range x.Files {
		pattern, rest := strings.Split(p, "/"), parts
		for len(pattern) > 0 && len(rest) > 0 && pattern[0] != "**" && star(pattern[0], rest[0]) {
			pattern, rest = pattern[1:], rest[1:]
		}
		if len(pattern) > 0 && (len(rest) == 0 || pattern[0] == "**") {
			return true
		}
	}
	return false
}

// shows says whether a program shows what it reads as it is, so that the mask of
// a file knows its lines.
func shows(argv []string) bool {
	return len(argv) == 1 && (argv[0] == "cat" || argv[0] == "/bin/cat" || argv[0] == "/usr/bin/cat")
}

// texts adds the masks of what a host answers, or says why what is masked could
// get out another way.
func (t *Task) texts(st *abi.Statement, v *abi.Verdict) *miss {
	if len(t.Texts) == 0 || st.Protocol != "ssh" {
		return nil
	}
	programs, writes := 0, false
	at, unlike := "", "" // a program that no mask is of
	for i := range st.Operations {
		o := &st.Operations[i]
		switch o.Kind {
		case abi.KindOpaque:
			return &miss{what: "this task masks what some files and programs show, and a command that is not understood could show it"}
		case abi.KindTerminal:
			if len(o.Object) > 0 || !t.commands() {
				return &miss{what: "this task masks what some files and programs show, and a shell could show it"}
			}
		case abi.KindProgram:
			programs++
			found, why := t.program(o, v, &at)
			if why != nil {
				return why
			}
			if !found && !shows(o.Object) {
				unlike = show(o.Object)
			}
		case abi.KindFile:
			writes = writes || o.Effect.Writes()
			if why := t.file(o, v, &at); why != nil {
				return why
			}
		}
	}
	if at != "" && programs == 1 && unlike != "" {
		return &miss{what: unlike + " reads what is masked in this task, and no mask says how in what this program shows", closest: "the mask at " + at}
	}
	if at != "" && (programs > 1 || writes) {
		return &miss{what: "what it shows is masked in this task, and may not go into another program or file", closest: "the mask at " + at}
	}
	return nil
}

// program adds the masks of a program, and sees that it names no file that only
// a mask of its own could hide.
func (t *Task) program(o *abi.Operation, v *abi.Verdict, at *string) (found bool, _ *miss) {
	for i := range t.Texts {
		x := &t.Texts[i]
		for _, template := range x.Exec {
			if Words(template, o.Object) {
				v.Protect = append(v.Protect[:len(v.Protect):len(v.Protect)], x.Mask)
				*at, found = x.At, true
				break
			}
		}
	}
	if found {
		return true, nil
	}
	if dir, _, ok := confined(o.Object); ok {
		for i := range t.Texts {
			if x := &t.Texts[i]; x.Reaches(dir) {
				return false, &miss{what: "rsync in " + show([]string{dir}) + " could carry what is masked in this task", closest: "the mask at " + x.At}
			}
		}
		return false, nil
	}
	for i := range t.Texts {
		if x := &t.Texts[i]; x.Files != nil && ServesRsync(o.Object) {
			return false, &miss{what: "rsync's server reads which files it is for out of its stream, and this task masks some", closest: "the mask at " + x.At}
		}
	}
	for _, w := range o.Object {
		for i := strings.IndexByte(w, '/'); i >= 0; {
			p := path.Clean(w[i:])
			root := p == "/" && i > 0 && !strings.ContainsRune("=:,@", rune(w[i-1])) // what a word ends in
			for j := range t.Texts {
				switch x := &t.Texts[j]; {
				case x.over(p):
					return false, &miss{what: show(o.Object) + " names " + show([]string{p}) + ", which is masked in this task, and no mask says how in what this program shows", closest: "the mask at " + x.At}
				case !root && x.beneath(p):
					return false, &miss{what: show(o.Object) + " names " + show([]string{p}) + ", in which there may be what is masked in this task, and no mask says how in what this program shows", closest: "the mask at " + x.At}
				}
			}
			next := strings.IndexByte(w[i+1:], '/')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	return false, nil
}

// file adds the masks of a file that is read, and keeps it where it is.
func (t *Task) file(o *abi.Operation, v *abi.Verdict, at *string) *miss {
	if len(o.Object) != 1 {
		return nil
	}
	for i := range t.Texts {
		x := &t.Texts[i]
		over := x.over(o.Object[0])
		if !over && (o.Verb == "rename" || o.Verb == "link") && x.beneath(o.Object[0]) {
			return &miss{what: said(o) + ": what may be in there is masked in this task, and under another name it would not be", closest: "the mask at " + x.At}
		}
		if !over && (o.Verb != "list" || !x.within(o.Object[0])) {
			continue
		}
		switch o.Verb {
		case "read":
			v.Protect = append(v.Protect[:len(v.Protect):len(v.Protect)], x.Mask)
			*at = x.At
		case "stat", "list": // its size is that of what is not shown
			v.Protect = append(v.Protect[:len(v.Protect):len(v.Protect)], x.Mask)
		case "rename", "link":
			return &miss{what: said(o) + ": it is masked in this task, and under another name it would not be", closest: "the mask at " + x.At}
		}
	}
	return nil
}

// commands says whether the task's shell is the gateway's own.
func (t *Task) commands() bool {
	for i := range t.Rules {
		if h := t.Rules[i].Host; h != nil && h.May == "shell" {
			return false
		}
	}
	return true
}
