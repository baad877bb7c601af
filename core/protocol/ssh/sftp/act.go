package sftp

import (
	"encoding/binary"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// begin looks at a request that is judged by itself, and comes back when the
// next one may be looked at: when it has gone on, is answered, or is held.
func (r *relay) begin(a *act) error {
	for _, p := range a.paths {
		if err := readPath(p); err != nil {
			return r.refuse(a.id, err)
		}
		if p == "" && a.typ != typeRealpath {
			return r.down.to.write(plainStatus(nil, a.id, codeNoSuchFile))
		}
	}
	if err := r.up.flush(); err != nil {
		return err
	}
	a.went = make(chan struct{})
	r.mu.Lock()
	r.acts++
	r.mu.Unlock()
	go func() {
		defer func() {
			a.goOn(r)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.acts--
			r.free.Broadcast()
		}()
		err := contain(func() error { return r.do(a) })
		if errors.Is(err, errLeft) || errors.Is(err, errGone) { // it ends by itself
			return
		}
		if err != nil {
			err = r.refuse(a.id, err)
		}
		if err != nil {
			r.fail(err)
		}
	}()
	<-a.went
	return nil
}

// do does one act and answers it. An error that it gives is the answer, or ends
// the channel.
func (r *relay) do(a *act) error {
	if err := r.prepare(a); err != nil {
		return err
	}
	switch {
	case a.spooled != nil:
		return r.closeSpool(a)
	case a.typ == typeRealpath || a.extension == extExpandPath:
		return r.realpath(a)
	case a.typ == typeOpen || a.typ == typeOpendir:
		return r.doOpen(a)
	case a.attrs.flags&attrSize != 0 && a.attrs.size > 0 && (a.typ == typeSetstat || a.extension == extLsetstat) && r.covered(a.places[0].path):
		return errPart
	}
	x, err := r.judge(a, &abi.Command{Phase: abi.Execute, Statement: r.statement(a)})
	if err != nil {
		return err
	}
	return r.forward(a, x)
}

// prepare has the names to itself, and finds where the paths lead.
func (r *relay) prepare(a *act) error {
	r.names.Lock()
	a.locked = true
	if a.handle != nil {
		return nil
	}
	return r.locate(r.ctx, a)
}

// judge asks the gate. What was held is looked up again: what runs is what was
// approved.
func (r *relay) judge(a *act, cmd *abi.Command) (*running, error) {
	x, err := r.submit(a, cmd)
	if err != nil {
		return nil, err
	}
	err = r.unchanged(a)
	if err == nil {
		err = a.possible()
	}
	if err != nil {
		o := gate.Outcome{State: gate.Failed}
		var s hostStatus
		if errors.As(err, &s) {
			o.Code = s.word()
		}
		return nil, errors.Join(err, r.done(x, o))
	}
	return x, nil
}

// unchanged finds the paths of what was held anew.
func (r *relay) unchanged(a *act) error {
	if !a.held {
		return nil
	}
	r.names.Lock()
	a.locked = true
	if a.handle != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if a.handle.closed {
			return refused("ssh.handle", "this file was closed meanwhile", "")
		}
		return nil
	}
	before, led := a.places, a.leads
	if err := r.locate(r.ctx, a); err != nil {
		return err
	}
	if moved(before, a.places) || led != a.leads {
		return refused("gate.changed", "the path leads elsewhere than when this was asked: it would do something else than was approved", "ask again")
	}
	return nil
}

// possible gives the host's answer to a path that it cannot reach. What a link
// points to need not be there.
func (a *act) possible() error {
	for i := range a.places {
		if a.places[i].gone != 0 && (a.typ != typeSymlink || i == 1) {
			return hostStatus(a.places[i].gone)
		}
	}
	return nil
}

// realpath answers where a path leads. One in which there is no link is answered
// by its words alone, and tells nothing of the host but where its server begins.
func (r *relay) realpath(a *act) error {
	to := a.places[0].asked
	if a.places[0].links > 0 {
		x, err := r.judge(a, &abi.Command{Phase: abi.Execute, Statement: r.statement(a)})
		if err != nil {
			return err
		}
		err = x.result(r.ctx, 1)
		if err := errors.Join(err, r.done(x, gate.Outcome{State: gate.Completed})); err != nil {
			return err
		}
		to = a.places[0].path
	}
	b := binary.BigEndian.AppendUint32(begin(nil, typeName, a.id), 1)
	b = binary.BigEndian.AppendUint32(appendString(appendString(b, to), to), 0)
	return r.down.to.write(finish(b, 0))
}

// rest is what stands behind the id of the request that goes to the host.
func (a *act) rest() []byte {
	var b []byte
	if a.typ == typeExtended {
		b = appendString(b, a.extension)
	}
	switch a.typ {
	case typeFsetstat:
		b = appendString(b, a.handle.upstream)
	case typeSymlink: // a relative target stays one, unless it goes back: from elsewhere that would lead elsewhere
		to := a.paths[0]
		if slices.Contains(strings.Split(to, "/"), "..") {
			to = a.places[0].path
		}
		b = appendString(appendString(b, to), a.places[1].path)
	default:
		for i := range a.places {
			b = appendString(b, a.places[i].path)
		}
	}
	switch {
	case a.typ == typeMkdir:
		b = a.attrs.only(attrMode).append(b)
	case a.typ == typeSetstat, a.typ == typeFsetstat, a.extension == extLsetstat:
		b = a.attrs.append(b)
	}
	return b
}

// answer is the type of what the host answers an act with, beside a status.
func (a *act) answer() byte {
	switch {
	case a.typ == typeStat, a.typ == typeLstat:
		return typeAttrs
	case a.typ == typeReadlink:
		return typeName
	case a.extension == extStatvfs:
		return typeReply
	}
	return typeStatus
}

// forward sends an act on, and its answer back.
func (r *relay) forward(a *act, x *running) error {
	var q asked
	err := r.add(&q, a.typ, a.rest())
	if err == nil {
		err = r.send(&q)
	}
	if err == nil && !a.changes() {
		a.goOn(r)
	}
	if err == nil {
		err = r.wait(r.ctx, &q)
	}
	if err != nil {
		return errors.Join(err, r.done(x, gate.Outcome{State: gate.Lost}))
	}
	p := &q.answers[0]
	code, isStatus := p.status()
	switch {
	case isStatus && (code != codeOK || a.answer() == typeStatus):
		return r.close(a, x, code)
	case isStatus || p.typ != a.answer():
		return errors.Join(errPacket, r.done(x, gate.Outcome{State: gate.Lost}))
	}
	body := p.body
	if p.typ == typeAttrs && x.ex.MasksText() {
		if body, err = sizeless(body); err != nil {
			return errors.Join(err, r.done(x, gate.Outcome{State: gate.Lost}))
		}
	}
	if err := x.result(r.ctx, 1); err != nil {
		return errors.Join(err, r.done(x, gate.Outcome{State: gate.Failed}))
	}
	if err := r.done(x, gate.Outcome{State: gate.Completed}); err != nil {
		return err
	}
	return r.down.to.write(finish(append(begin(nil, p.typ, a.id), body...), 0))
}

// close ends an act by the host's status.
func (r *relay) close(a *act, x *running, code uint32) error {
	o := gate.Outcome{State: gate.Completed}
	if code != codeOK {
		o = gate.Outcome{State: gate.Failed, Code: hostStatus(code).word()}
	}
	if err := r.done(x, o); err != nil {
		return err
	}
	return r.down.to.write(plainStatus(nil, a.id, code))
}

// doOpen opens a file or a directory.
func (r *relay) doOpen(a *act) error {
	r.mu.Lock()
	full := len(r.handles)+r.opening >= maxHandles
	if !full {
		r.opening++
	}
	r.mu.Unlock()
	if full {
		return r.down.to.write(appendStatus(nil, a.id, codeFailure, "taskgate: too many open files"))
	}
	defer func() { r.mu.Lock(); r.opening--; r.mu.Unlock() }()
	cmd := &abi.Command{Phase: abi.Execute, Statement: r.statement(a)}
	if !a.reads() && r.inPlace(a) {
		if a.flags&flagAppend != 0 {
			return errPart
		}
		if d, _ := r.session.Would(r.ctx, cmd.Statement); d == abi.Allow { // else it is refused, or kept anyway
			return r.openSpool(a, true)
		}
	}
	unseen := false
	if a.typ == typeOpen && a.writes() {
		cmd.Held = func(v *abi.Verdict) error {
			if v.Terms.Payload == "unseen" {
				unseen = true
			}
			return errSpool
		}
	}
	x, err := r.judge(a, cmd)
	if errors.Is(err, errSpool) && !unseen {
		return r.openSpool(a, false)
	}
	if errors.Is(err, errSpool) { // people are told that they see none of it
		cmd.Held, cmd.Input = nil, abi.Input{Kind: abi.InputStream}
		x, err = r.judge(a, cmd)
	}
	if err != nil {
		return err
	}
	if err := r.masked(a, cmd, x.ex); err != nil {
		return errors.Join(err, r.done(x, gate.Outcome{State: gate.Failed}))
	}
	h, err := r.openAt(a, x)
	if err == nil && h.reads && x.ex.MasksText() {
		if err = r.readView(h); err != nil {
			r.unview(h)
			if _, e := r.ask(r.ctx, typeClose, appendString(nil, h.upstream)); e != nil {
				err = e
			}
		}
	}
	if err != nil {
		o := gate.Outcome{State: gate.Failed}
		var s hostStatus
		if errors.As(err, &s) {
			o.Code = s.word()
		}
		return errors.Join(err, r.done(x, o))
	}
	x.mu.Lock()
	x.told = func() gate.Outcome { return h.outcome(gate.Lost) }
	x.mu.Unlock()
	if err := r.enter(h); err != nil {
		return err
	}
	return r.down.to.write(finish(appendString(begin(nil, typeHandle, a.id), h.name[:]), 0))
}

// masked refuses to read what cannot be masked.
func (r *relay) masked(a *act, cmd *abi.Command, ex *gate.Exchange) error {
	if a.typ != typeOpen || !a.reads() {
		return nil
	}
	if ex.MasksText() && a.writes() {
		return refused("ssh.masked", "what is in this file is masked: it cannot be written by who reads it", "open it for one of the two")
	}
	if !ex.WantsSchema() {
		return nil
	}
	err := ex.Schema(r.ctx, cmd, &abi.ResultSchema{Columns: []abi.ResultColumn{{Name: "content", Relation: []string{a.places[0].path}, Column: "content"}}})
	if err == nil && (ex.Guarded() || !ex.Fixed().Clean()) {
		err = refused("ssh.masked", "what is in this file is masked, and SFTP shows it as it is", "")
	}
	return err
}

// openAt opens what was judged. Right behind it the path is looked at again: if
// a part of it has become a link meanwhile, something else may have been opened,
// and is closed.
func (r *relay) openAt(a *act, x *running) (*handle, error) {
	at := a.places[0].path
	if a.places[0].link() { // exclusive: there is something already
		return nil, hostStatus(codeFailure)
	}
	var q asked
	rest := appendString(nil, at)
	if a.typ == typeOpen {
		rest = binary.BigEndian.AppendUint32(rest, a.flags)
		rest = a.attrs.only(attrMode).append(rest)
	}
	err := r.add(&q, a.typ, rest)
	for p := at; err == nil && p != "/"; p = path.Dir(p) {
		err = r.addPath(&q, typeLstat, p)
	}
	if err == nil {
		err = r.send(&q)
	}
	if err != nil {
		return nil, err
	}
	a.goOn(r)
	if err := r.wait(r.ctx, &q); err != nil {
		return nil, err
	}
	p := &q.answers[0]
	if code, no := p.status(); no {
		return nil, hostStatus(max(code, codeEOF))
	}
	f := fields{b: p.body}
	h := &handle{running: x, upstream: slices.Clone(f.bytes()), path: at, dir: a.typ == typeOpendir}
	if p.typ != typeHandle || f.bad || len(h.upstream) == 0 || len(h.upstream) > 256 {
		return nil, errPacket
	}
	if a.typ == typeOpen {
		h.reads, h.writes = a.reads(), a.flags&flagWrite != 0
	}
	for i := range q.answers[1:] {
		p := &q.answers[1+i]
		f := fields{b: p.body}
		is := f.attrs()
		if p.typ != typeAttrs || f.bad || is.flags&attrMode == 0 || is.mode&modeType == modeLink {
			if _, err := r.ask(r.ctx, typeClose, appendString(nil, h.upstream)); err != nil {
				return nil, err
			}
			return nil, refused("gate.changed", "the path leads elsewhere than when this was judged", "try again")
		}
	}
	return h, nil
}

// expand gives what a path of expand-path stands for: one that begins with ~ is
// where the host's server begins.
func expand(p string) (string, error) {
	rest, tilde := strings.CutPrefix(p, "~")
	switch {
	case !tilde:
		return p, nil
	case rest == "" || rest[0] == '/':
		return "." + rest, nil
	}
	return "", refused("ssh.path", "whose home this is only the host knows", "give the whole path")
}
