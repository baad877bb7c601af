package catalog

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// exampleText is how a mask of a task for hosts is written.
const exampleText = `mask: [{files: [/etc/app/*.conf], lines: 'password=(\S+)', with: fixed("***")}]`

// texts reads what a task for hosts masks: lines of what programs show and of
// what files hold. The rules are there by now.
func (t *Task) texts(list []strict.Node) {
	if len(list) > maxMasks {
		list[maxMasks].Fault("at most %d masks", maxMasks)
		return
	}
	for _, n := range list {
		x := policy.Text{At: filepath.Base(n.At())}
		l := mask.Lines{}
		with, of, ok := false, 0, true
		n.Fields(map[string]func(strict.Node){
			"exec": func(v strict.Node) {
				of++
				for _, c := range v.List() {
					words := template(c)
					if words == nil {
						ok = false
						continue
					}
					x.Exec = append(x.Exec, words)
				}
				if v.IsEmpty() {
					v.Fault("no command is listed: exec: [[app, show]]")
				}
			},
			"files": func(v strict.Node) {
				of++
				for _, p := range v.List() {
					s := path(p, "read")
					if s == "" {
						ok = false
						continue
					}
					x.Files = append(x.Files, s)
				}
				if v.IsEmpty() {
					v.Fault("no path is listed: files: [/etc/app/*.conf]")
				}
			},
			"lines": func(v strict.Node) {
				if l.Pattern = v.String(); l.Pattern == "" && v.IsText() {
					v.Fault("an expression is expected, what whose groups match is masked")
				}
			},
			"field": func(v strict.Node) {
				if l.Field = int(v.Int(10000)); l.Field == 0 {
					v.Fault("a number from 1 is expected")
				}
			},
			"column": func(v strict.Node) {
				ok, of = false, 1
				v.Fault("it is for databases, and the rules are for hosts: %s", exampleText)
			},
			"separator": func(v strict.Node) { l.Separator = v.String() },
			"with": func(v strict.Node) {
				with = true
				s := v.String()
				r, err := mask.ParseRule(s)
				switch {
				case s == "":
					ok = false
					if v.IsText() {
						v.Fault("nothing stands here: give it a value, or leave the key out")
					}
				case err != nil:
					ok = false
					v.Fault("%v", err)
				case r.Kind == abi.MaskCustom:
					ok = false
					v.Fault("a custom mask is a guard's own, and this is the task's: a plugin with may: [mask] says itself what of a text it masks")
				}
				l.Rule = r
			},
		})
		switch {
		case !ok: // it has its fault
		case of != 1:
			n.Fault("either of programs or of files: %s", exampleText)
		case !with:
			n.Fault("with what? %s", exampleText)
		case l.Pattern == "" && l.Field == 0:
			n.Fault("which part of a line? lines: an expression, or field: a number from 1")
		case l.Separator != "" && l.Field == 0:
			n.Fault("separator is for field: the part between two of them")
		default:
			if err := l.Check(); err != nil {
				n.Fault("%s", strings.TrimPrefix(err.Error(), "mask: "))
				continue
			}
			x.Mask = abi.Protect{Kind: l.Rule.Kind, Arg: l.Rule.Arg, Pattern: l.Pattern, Field: uint32(l.Field), Separator: l.Separator}
			t.Texts = append(t.Texts, x)
		}
	}
	t.open()
}

// open finds the rules that a mask would be no mask beside.
func (t *Task) open() {
	if len(t.Texts) == 0 {
		return
	}
	for i := range t.Written {
		w := &t.Written[i]
		h := w.Rule.Host
		switch {
		case h == nil:
		case h.May == "shell":
			w.Fault("shell: allow shows everything, and the task masks what some files and programs show: shell: command is judged line by line")
		case h.May == "opaque":
			w.Fault("opaque: allow lets everything be shown, and the task masks what some files and programs show")
		}
		t.carried(w)
	}
}

// carried finds the directories of a rule out of which rsync would carry what is masked.
func (t *Task) carried(w *Written) {
	if w.Rule.Host == nil {
		return
	}
	for _, verb := range policy.RsyncVerbs {
		for _, dir := range w.Rule.Host.Rsync[verb] {
			if i := slices.IndexFunc(t.Texts, func(x policy.Text) bool { return x.Reaches(dir) }); i >= 0 {
				w.Fault("rsync in %s could carry what is masked there by %s: list a directory beside it", dir, t.Texts[i].At)
				return
			}
		}
	}
}

// idle says which masks of a task for hosts mask nothing.
func (t *Task) idle() (warnings strict.Faults) {
	for i := range t.Texts {
		x := &t.Texts[i]
		used := false
		for j := range t.Rules {
			h := t.Rules[j].Host
			if h == nil {
				continue
			}
			for _, template := range x.Exec {
				used = used || slices.ContainsFunc(h.Exec, func(o []string) bool {
					return slices.Equal(o, template) || policy.Words(o, template) || policy.Words(template, o)
				})
			}
			for _, p := range x.Files {
				used = used || slices.ContainsFunc(h.Files["read"], func(o string) bool { return o == p || policy.Over(o, p) || policy.Over(p, o) })
			}
		}
		if !used {
			warnings = append(warnings, strict.Fault{File: t.File, Line: 1, Column: 1, Path: "mask", Message: "the mask at " + x.At + " masks nothing: no rule lists what it is of"})
		}
	}
	return warnings
}
