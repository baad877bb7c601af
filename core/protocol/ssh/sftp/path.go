package sftp

import (
	"context"
	"errors"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

const (
	maxPath  = 4096
	maxParts = 256
	maxLinks = 40 // as Linux has it
)

// refused is a refusal of ours, about which no guard is asked.
func refused(code, message, hint string) *gate.Denied {
	return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: code, Message: message, Hint: hint}}
}

// readPath refuses a path that different programs would read differently.
func readPath(p string) error {
	switch {
	case len(p) > maxPath:
		return refused("ssh.path", "a path has at most 4096 bytes", "")
	case strings.IndexByte(p, 0) >= 0:
		return refused("ssh.path", "a path has no NUL", "")
	case !utf8.ValidString(p):
		return refused("ssh.path", "a path that is not UTF-8 cannot be shown to who decides", "rename it on the host")
	case strings.IndexByte(p, '\\') >= 0:
		return refused("ssh.path", `a path with \ means one thing here and another there`, "use /")
	case strings.Count(p, "/") > maxParts:
		return refused("ssh.path", "a path has at most 256 parts", "")
	}
	return nil
}

// place is where a path leads at the host.
type place struct {
	asked string // absolute, as its words have it
	path  string // with no link in it, but the last part where it is not followed
	mode  uint32 // of what is there
	there bool
	links int    // that were followed
	gone  uint32 // the code by which the host says that nothing can be there; 0 is none
}

func (p *place) link() bool { return p.there && p.mode&modeType == modeLink }

// absolute gives a path from the root, with its .. still in it.
func (r *relay) absolute(ctx context.Context, p string) (string, error) {
	if strings.HasPrefix(p, "/") {
		return p, nil
	}
	home, err := r.home(ctx)
	return home + "/" + p, err
}

// home is where the host's server begins.
func (r *relay) home(ctx context.Context) (string, error) {
	r.mu.Lock()
	home := r.began
	r.mu.Unlock()
	if home != "" {
		return home, nil
	}
	p, err := r.ask(ctx, typeRealpath, appendString(nil, "."))
	if err != nil {
		return "", err
	}
	f := fields{b: p.body}
	n := f.u32()
	home = string(f.bytes())
	if p.typ != typeName || f.bad || n != 1 || !strings.HasPrefix(home, "/") || readPath(home) != nil {
		return "", refused("ssh.path", "the host does not say where relative paths begin", "give the whole path")
	}
	home = path.Clean(home)
	r.mu.Lock()
	r.began = home
	r.mu.Unlock()
	return home, nil
}

var errLink = errors.New("sftp: the host does not say what is a link")

// resolve follows the links of a path, part by part and by the host's own
// answers, so that what is judged is what it stands for. All the parts are
// looked at in one go, and again behind each link. follow is for the last one.
func (r *relay) resolve(ctx context.Context, asked string, follow bool) (place, error) {
	p := place{asked: path.Clean(asked), path: "/"}
	rest := strings.Split(asked, "/")
	for {
		for len(rest) > 0 && (rest[0] == "" || rest[0] == "." || rest[0] == "..") {
			if rest[0] == ".." {
				p.path = path.Dir(p.path) // no link is left in it
			}
			rest = rest[1:]
		}
		if len(rest) > 2*maxParts {
			return p, refused("ssh.path", "the links of this path lead too far", "")
		}
		if len(rest) == 0 {
			if p.path == "/" {
				p.there, p.mode = true, 0o040000
			}
			return p, nil
		}
		run := 0
		for run < len(rest) && rest[run] != ".." {
			run++
		}
		next, err := r.look(ctx, &p, rest, run, follow)
		if err != nil || next == nil {
			return p, err
		}
		rest = next
	}
}

// look goes along the first parts of rest, up to run or to a link. It gives what
// is left to go, nil where that is the end.
func (r *relay) look(ctx context.Context, p *place, rest []string, run int, follow bool) ([]string, error) {
	var a asked
	at := p.path
	for _, part := range rest[:run] {
		at = path.Join(at, part)
		if err := r.addPath(&a, typeLstat, at); err != nil {
			return nil, err
		}
	}
	if err := r.send(&a); err != nil {
		return nil, err
	}
	if err := r.wait(ctx, &a); err != nil {
		return nil, err
	}
	for i, part := range rest[:run] {
		if part == "" || part == "." {
			continue
		}
		here := path.Join(p.path, part)
		left := rest[i+1:]
		last := !hasParts(left)
		code, no := a.answers[i].status()
		if no {
			p.there = false
			if p.path = here; !last || code != codeNoSuchFile { // beyond it nothing can be known
				p.path, p.gone = path.Join(append([]string{here}, left...)...), code
			}
			return nil, nil
		}
		f := fields{b: a.answers[i].body}
		is := f.attrs()
		if a.answers[i].typ != typeAttrs || f.bad || is.flags&attrMode == 0 {
			return nil, errLink
		}
		if is.mode&modeType != modeLink || last && !follow {
			p.path, p.mode, p.there = here, is.mode, last
			continue
		}
		if p.links++; p.links > maxLinks {
			p.path, p.gone = path.Join(append([]string{here}, left...)...), codeNoSuchFile
			return nil, nil
		}
		to, err := r.readlink(ctx, here)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(to, "/") {
			p.path = "/"
		}
		p.there = false
		return append(strings.Split(to, "/"), left...), nil
	}
	return rest[run:], nil
}

func hasParts(rest []string) bool {
	for _, part := range rest {
		if part != "" && part != "." {
			return true
		}
	}
	return false
}

func (r *relay) readlink(ctx context.Context, at string) (string, error) {
	p, err := r.ask(ctx, typeReadlink, appendString(nil, at))
	if err != nil {
		return "", err
	}
	f := fields{b: p.body}
	n := f.u32()
	to := string(f.bytes())
	if p.typ != typeName || f.bad || n != 1 || to == "" {
		return "", refused("ssh.path", "the host does not say where a link of this path leads", "")
	}
	return to, readPath(to)
}
