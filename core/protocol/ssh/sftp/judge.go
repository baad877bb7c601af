package sftp

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/shell"
)

// The flags of OPEN.
const (
	flagRead   = 1
	flagWrite  = 2
	flagAppend = 4
	flagCreate = 8
	flagTrunc  = 16
	flagExcl   = 32
)

const (
	maxHeld       = 64  // that wait for people at once
	maxStatements = 256 // that are kept, so that the gate knows them again
	maxKept       = 1 << 10
)

// act is a request that is judged by itself.
type act struct {
	id        uint32 // the client's
	typ       byte
	extension string
	flags     uint32
	attrs     attrs
	paths     []string // as sent
	handle    *handle  // of FSETSTAT
	spooled   *handle  // that is closed, of what is kept until then
	later     attrs    // of that

	places []place
	leads  string // where a link that goes to another directory would lead from there; empty is as before
	held   bool
	locked bool // it has the names to itself
	went   chan struct{}
}

// goOn lets the client's next request be looked at.
func (a *act) goOn(r *relay) {
	if a.locked {
		a.locked = false
		r.names.Unlock()
	}
	select {
	case <-a.went:
	default:
		close(a.went)
	}
}

// changes says whether it changes what names stand for: what comes after it is
// looked up when it is done.
func (a *act) changes() bool {
	switch a.typ {
	case typeRemove, typeRmdir, typeMkdir, typeRename, typeSymlink:
		return true
	}
	return a.extension == extPosixRename || a.extension == extHardlink
}

// follows says whether the host would follow a link that a path ends in.
func (a *act) follows() bool {
	switch a.typ {
	case typeOpen:
		return a.flags&(flagCreate|flagExcl) != flagCreate|flagExcl
	case typeOpendir, typeStat, typeSetstat, typeRealpath:
		return true
	case typeLstat:
		return strings.HasSuffix(a.paths[0], "/")
	}
	return a.extension == extStatvfs || a.extension == extExpandPath
}

// reads and writes say what an OPEN is for. Without either flag a file is opened
// for reading.
func (a *act) reads() bool  { return a.flags&flagRead != 0 || a.flags&flagWrite == 0 }
func (a *act) writes() bool { return a.flags&^uint32(flagRead) != 0 }

// locate finds where the paths lead now.
func (r *relay) locate(ctx context.Context, a *act) error {
	a.places = make([]place, len(a.paths))
	if a.typ == typeSymlink { // the target begins where the link is
		if err := r.locateOne(ctx, a, 1, ""); err != nil {
			return err
		}
		return r.locateOne(ctx, a, 0, path.Dir(a.places[1].path))
	}
	for i := range a.paths {
		if err := r.locateOne(ctx, a, i, ""); err != nil {
			return err
		}
	}
	return r.locateLink(ctx, a)
}

// locateLink finds where a link leads once it has got a name in another directory:
// one that is not absolute means something else there.
func (r *relay) locateLink(ctx context.Context, a *act) error {
	a.leads = ""
	if a.typ != typeRename && a.extension != extPosixRename && a.extension != extHardlink || !a.places[0].link() {
		return nil
	}
	dir := path.Dir(a.places[1].path)
	if dir == path.Dir(a.places[0].path) {
		return nil
	}
	to, err := r.readlink(ctx, a.places[0].path)
	if err != nil || strings.HasPrefix(to, "/") {
		return err
	}
	p, err := r.resolve(ctx, dir+"/"+to, true)
	if err == nil {
		err = readPath(p.path)
	}
	a.leads = p.path
	return err
}

func (r *relay) locateOne(ctx context.Context, a *act, i int, base string) (err error) {
	p := a.paths[i]
	switch {
	case strings.HasPrefix(p, "/"):
	case base != "":
		p = base + "/" + p
	default:
		if p, err = r.absolute(ctx, p); err != nil {
			return err
		}
	}
	a.places[i], err = r.resolve(ctx, p, a.follows() || base != "")
	if err == nil {
		err = readPath(a.places[i].path)
	}
	return err
}

// moved says whether paths lead elsewhere than before.
func moved(before, now []place) bool {
	for i := range before {
		if before[i].path != now[i].path {
			return true
		}
	}
	return false
}

func operation(verb, path string) abi.Operation {
	o := abi.Operation{Verb: verb, Kind: abi.KindFile, Object: []string{path}, Effect: abi.EffectWrite}
	switch verb {
	case "stat", "list", "read":
		o.Effect = abi.EffectRead
	}
	return o
}

// anew is an operation that gives a path new content.
func anew(verb, path string) abi.Operation {
	if shell.Persists(path) {
		verb = "persist"
	}
	return operation(verb, path)
}

// beneath are names of directories that something looks for in another.
var beneath = []string{"systemd", "bin", "system", "user", "services", "autostart", "hooks"}

// whole is an operation that makes a path stand for what may be a directory, with
// all that is in it.
func whole(verb, path string) abi.Operation {
	for _, name := range beneath {
		if shell.Persists(path + "/" + name) {
			verb = "persist"
		}
	}
	return anew(verb, path)
}

func setstat(path string, a attrs) abi.Operation {
	o := operation("setstat", path)
	o.Value = a.String()
	return o
}

// means gives what an act does, in words and as operations.
func (a *act) means() (words string, ops []abi.Operation) {
	if words, ops = a.does(); a.leads != "" {
		words, ops = words+" link to "+show(a.leads), append(ops, operation("link", a.leads))
	}
	return words, ops
}

func (a *act) does() (words string, ops []abi.Operation) {
	at := func(i int) string { return a.places[i].path }
	switch a.typ {
	case typeOpen:
		words = "open"
		if a.reads() {
			words += " read"
			ops = append(ops, operation("read", at(0)))
		}
		for _, f := range []struct {
			bit  uint32
			word string
		}{{flagWrite, "write"}, {flagAppend, "append"}, {flagCreate, "create"}, {flagTrunc, "truncate"}, {flagExcl, "exclusive"}} {
			if a.flags&f.bit != 0 {
				words += " " + f.word
			}
		}
		if a.writes() {
			ops = append(ops, anew("write", at(0)))
		}
		if m := a.attrs.only(attrMode); a.flags&flagCreate != 0 && m.special() {
			words += " " + m.String()
			ops = append(ops, setstat(at(0), m))
		}
		if a.later.flags&attrSize != 0 {
			words += fmt.Sprintf(" size=%d", a.later.size)
		}
		if rest := a.later.String(); rest != "" {
			words += " " + rest
			ops = append(ops, setstat(at(0), a.later))
		}
	case typeOpendir:
		return "list", []abi.Operation{operation("list", at(0))}
	case typeStat:
		return "stat", []abi.Operation{operation("stat", at(0))}
	case typeLstat:
		return "lstat", []abi.Operation{operation("stat", at(0))}
	case typeReadlink:
		return "readlink", []abi.Operation{operation("stat", at(0))}
	case typeRealpath:
		return "realpath", []abi.Operation{operation("stat", at(0))}
	case typeRemove:
		return "remove", []abi.Operation{operation("remove", at(0))}
	case typeRmdir:
		return "rmdir", []abi.Operation{operation("remove", at(0))}
	case typeMkdir:
		words, ops = "mkdir", []abi.Operation{anew("mkdir", at(0))}
		if m := a.attrs.only(attrMode); m.special() {
			words += " " + m.String()
			ops = append(ops, setstat(at(0), m))
		}
	case typeRename:
		return "rename", []abi.Operation{operation("rename", at(0)), whole("write", at(1))}
	case typeSymlink:
		return "symlink", []abi.Operation{whole("link", at(1)), operation("link", at(0))}
	case typeSetstat, typeFsetstat:
		return a.sets(at(0))
	}
	switch a.extension {
	case extPosixRename:
		return "posix-rename", []abi.Operation{operation("rename", at(0)), whole("write", at(1))}
	case extHardlink: // what is done by one name is done to both
		return "hardlink", []abi.Operation{anew("link", at(1)), operation("read", at(0)), anew("write", at(0))}
	case extStatvfs:
		return "statvfs", []abi.Operation{operation("stat", at(0))}
	case extLsetstat:
		return a.sets(at(0))
	}
	return words, ops
}

// sets gives what setting attributes does: a size is content.
func (a *act) sets(path string) (words string, ops []abi.Operation) {
	words = "setstat"
	if a.attrs.flags&attrSize != 0 {
		words += fmt.Sprintf(" size=%d", a.attrs.size)
		ops = append(ops, anew("write", path))
	}
	if rest := a.attrs.String(); rest != "" || len(ops) == 0 {
		words += " " + rest
		ops = append(ops, setstat(path, a.attrs))
	}
	return strings.TrimSpace(words), ops
}

// statement gives what an act means to the gate, the same for the same words.
func (r *relay) statement(a *act) *abi.Statement {
	words, ops := a.means()
	text, canonical := "sftp "+words, "sftp "+words
	for i := range a.places {
		text += " " + show(a.places[i].asked)
		canonical += " " + show(a.places[i].path)
	}
	key := text + "\x00" + canonical
	r.mu.Lock()
	defer r.mu.Unlock()
	if st := r.statements[key]; st != nil {
		return st
	}
	if len(r.statements) >= maxStatements {
		clear(r.statements)
	}
	st := &abi.Statement{Protocol: "ssh", Text: text, Canonical: canonical, Fingerprint: "sftp " + words, Operations: ops}
	if len(key) <= maxKept {
		r.statements[key] = st
	}
	return st
}

// show writes a path so that it is one word on one line.
func show(p string) string {
	for _, c := range p {
		if c == ' ' || c == '"' || !unicode.IsPrint(c) {
			return strconv.Quote(p)
		}
	}
	return p
}

// submit asks the gate. Where people have to approve, the client's other
// requests go on meanwhile.
func (r *relay) submit(a *act, cmd *abi.Command) (*running, error) {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return nil, errOver
	}
	r.judging.Add(1)
	r.mu.Unlock()
	defer r.judging.Done()
	if ex, ok := r.session.TrySubmit(cmd); ok {
		return r.track(ex), nil
	}
	first := cmd.Held
	cmd.Held = func(v *abi.Verdict) error {
		if first != nil {
			if err := first(v); err != nil {
				return err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.held >= maxHeld {
			return refused("ssh.held", "too much of this channel waits for approval already", "wait until some of it is decided")
		}
		r.held++
		a.held = true
		return nil
	}
	waited := false
	ex, err := r.session.Submit(r.waiting, cmd, func(p gate.Pending) error {
		a.goOn(r)
		if r.waiting.Err() != nil {
			return context.Cause(r.waiting)
		}
		if waited {
			r.say("still waiting for approval: request " + p.ID)
			return nil
		}
		waited = true
		for _, line := range waits(cmd.Statement.Text, p) {
			r.say(line)
		}
		return nil
	})
	if a.held {
		r.mu.Lock()
		r.held--
		r.mu.Unlock()
	}
	if err == nil && r.waiting.Err() != nil { // it was approved, and its client has gone
		_ = ex.Done(context.WithoutCancel(r.ctx), gate.Outcome{State: gate.Failed})
		return nil, context.Cause(r.waiting)
	}
	if err != nil {
		return nil, err
	}
	return r.track(ex), nil
}

// waits is what a person reads while something is held.
func waits(text string, p gate.Pending) []string {
	needs := make([]string, len(p.Needs))
	for i := range needs {
		needs[i] = p.Needs[i].String()
	}
	what := "waiting for approval: request " + p.ID
	if p.Summary != "" {
		what += ": " + p.Summary
	}
	return []string{
		readable(what + " (" + text + ")"),
		readable(fmt.Sprintf("It needs %s, until %s: taskgate approve %s", strings.Join(needs, " and "), p.Until.UTC().Format("2006-01-02 15:04:05 UTC"), p.ID)),
	}
}

// readable takes out of a text what other people or modules have written what
// would end a line or move a terminal.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

// hostStatus is an answer of the host's that ends an act.
type hostStatus uint32

func (c hostStatus) Error() string { return "sftp: status " + strconv.Itoa(int(c)) }

func (c hostStatus) word() string {
	if int(c) < len(codes) {
		return strings.ToLower(codes[c])
	}
	return strings.ToLower(codes[codeFailure])
}

// refuse answers a request that is not done. An error that is no refusal ends
// the channel.
func (r *relay) refuse(id uint32, err error) error {
	var d *gate.Denied
	var s hostStatus
	switch {
	case errors.As(err, &s):
		return r.down.to.write(plainStatus(nil, id, uint32(s)))
	case errors.As(err, &d):
		text := "denied: " + d.Error()
		if d.Reason.Closest != "" {
			text += "; " + d.Reason.Closest
		}
		if d.Reason.Hint != "" {
			text += "; hint: " + d.Reason.Hint
		}
		text = readable(text)
		r.tell(text)
		return r.down.to.write(appendStatus(nil, id, codeDenied, "taskgate: "+text))
	}
	return err
}
