package sftp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

const (
	maxSpool  = 1 << 20 // bytes of one file
	maxSpools = 4 << 20 // of a connection's
	maxRuns   = 1024    // of bytes that follow one another
	spoolHead = 4 << 10 // that people are shown
	writeSize = 32 << 10
)

// errSpool says that what is to be written has to be taken first.
var errSpool = errors.New("sftp: the data first")

// spool is a file for writing that people have to approve. The client has a
// handle of it that nothing stands behind: what it writes is kept, and people are
// asked when it closes it, so that they see what they approve. The answer to that
// CLOSE tells how it came out.
type spool struct {
	open   act // as it was asked for
	data   []byte
	runs   []stretch
	later  attrs // set before it is closed
	failed *gate.Denied

	inPlace bool // it is kept so that no part of what is masked is left
}

// stretch is a piece of data that follows one another.
type stretch struct{ offset, n uint64 }

// openSpool gives the client a handle to write to.
func (r *relay) openSpool(a *act, inPlace bool) error {
	h := &handle{running: &running{}, path: a.places[0].path, writes: true, spool: &spool{open: act{typ: a.typ, flags: a.flags, attrs: a.attrs, paths: a.paths, places: a.places}, inPlace: inPlace}}
	if err := r.enter(h); err != nil {
		return err
	}
	return r.down.to.write(finish(appendString(begin(nil, typeHandle, a.id), h.name[:]), 0))
}

// onSpool takes a request on such a handle.
func (r *relay) onSpool(h *handle, q request, data []byte) error {
	h.mu.Lock()
	sp := h.spool
	var err error
	var answer []byte
	switch q.typ {
	case typeWrite:
		if err = r.keep(sp, q.offset, data); err == nil {
			answer = plainStatus(nil, q.from, codeOK)
		}
	case typeFstat:
		is := attrs{flags: attrSize | attrMode, size: sp.size(), mode: 0o100000 | sp.open.attrs.mode&modeBits}
		if sp.inPlace {
			is = is.only(attrMode)
		}
		answer = finish(is.append(begin(nil, typeAttrs, q.from)), 0)
	case typeClose:
	default:
		err = refused("ssh.spool", "what is written to this file is kept until it is closed, and cannot be read before", "close it first")
	}
	h.mu.Unlock()
	switch {
	case err != nil:
		return r.refuse(q.from, err)
	case answer != nil:
		return r.down.to.write(answer)
	}
	r.mu.Lock()
	delete(r.handles, h.name)
	h.closed = true
	r.mu.Unlock()
	a := sp.open
	a.id, a.spooled, a.attrs.flags = q.from, h, a.attrs.flags&attrMode
	a.later = sp.later
	return r.begin(&a)
}

// whole says whether it is all that the file is to hold, as scp has it, which
// writes in place and then says where it ends.
func (s *spool) whole() bool {
	return s.later.flags&attrSize != 0 && (len(s.runs) == 0 || len(s.runs) == 1 && s.runs[0].offset == 0)
}

func (s *spool) size() (n uint64) {
	for _, p := range s.runs {
		n = max(n, p.offset+p.n)
	}
	return n
}

var errLarge = refused("gate.payload", "this needs the approval of other people, who cannot be shown more than 1 MB of what is written", "write less, or have the operator say payload: unseen")

// keep takes a piece of data. What is too much to be shown fails as a whole.
func (r *relay) keep(s *spool, offset uint64, data []byte) error {
	if s.failed != nil {
		return s.failed
	}
	n := uint64(len(data))
	if offset > math.MaxInt64-n {
		return hostStatus(codeFailure)
	}
	if s.later.flags&attrSize != 0 && offset+n > s.later.size { // it was said to end there
		return hostStatus(codeUnsupported)
	}
	full := !r.grow(&r.spooled, &r.room.spooled, len(data), maxSpools)
	last := len(s.runs) - 1
	follows := last >= 0 && s.runs[last].offset+s.runs[last].n == offset
	if full || len(s.data)+len(data) > maxSpool || !follows && len(s.runs) >= maxRuns {
		if !full {
			r.unspool(len(data))
		}
		s.failed = errLarge
		if s.inPlace {
			s.failed = errPart
		}
		return s.failed
	}
	s.data = append(s.data, data...)
	if follows {
		s.runs[last].n += n
	} else {
		s.runs = append(s.runs, stretch{offset, n})
	}
	return nil
}

func (r *relay) unspool(n int) {
	r.shrink(&r.spooled, &r.room.spooled, n)
}

// spoolAttrs takes FSETSTAT of a file that is kept. As for its size it may end
// where it ends, which scp says of each file.
func (r *relay) spoolAttrs(h *handle, id uint32, at attrs) error {
	h.mu.Lock()
	if at.flags&attrSize != 0 && at.size != h.spool.size() {
		h.mu.Unlock()
		return r.down.to.write(plainStatus(nil, id, codeUnsupported))
	}
	was := h.spool.later
	if was.flags&^at.flags&attrSize != 0 {
		at.size = was.size
	}
	if was.flags&^at.flags&attrMode != 0 {
		at.mode = was.mode
	}
	if was.flags&^at.flags&attrOwner != 0 {
		at.uid, at.gid = was.uid, was.gid
	}
	if was.flags&^at.flags&attrTimes != 0 {
		at.atime, at.mtime = was.atime, was.mtime
	}
	at.flags |= was.flags
	h.spool.later = at
	h.mu.Unlock()
	return r.down.to.write(plainStatus(nil, id, codeOK))
}

// input is what people are shown, and what their approval holds for. Data that
// is not a file from its beginning is bound with where it goes.
func (s *spool) input(kind abi.InputKind) (in abi.Input, bound string) {
	in = abi.Input{Kind: kind, Size: uint64(len(s.data)), Head: s.data[:min(len(s.data), spoolHead)]}
	if len(s.runs) == 0 || len(s.runs) == 1 && s.runs[0].offset == 0 {
		sum := sha256.Sum256(s.data)
		in.Digest = sum[:]
		return in, ""
	}
	var b strings.Builder
	sum, at := sha256.New(), uint64(0)
	for _, p := range s.runs {
		fmt.Fprintf(&b, " %d+%d", p.offset, p.n)
		sum.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.offset), p.n))
		sum.Write(s.data[at : at+p.n])
		at += p.n
	}
	in.Digest = sum.Sum(nil)
	return in, "extents" + b.String()
}

// closeSpool asks for what is kept, and writes it.
func (r *relay) closeSpool(a *act) error {
	sp := a.spooled.spool
	defer func() { r.unspool(len(sp.data)) }()
	if sp.failed != nil {
		return errors.Join(sp.failed, r.drop(a.spooled, abi.InputStream))
	}
	if r.inPlace(a) {
		if !sp.whole() {
			return errors.Join(errPart, r.drop(a.spooled, abi.InputSpooled))
		}
		a.flags |= flagTrunc
	}
	cmd := &abi.Command{Phase: abi.Execute, Statement: r.statement(a)}
	cmd.Input, cmd.Bound = sp.input(abi.InputSpooled)
	x, err := r.judge(a, cmd)
	if err != nil {
		return err
	}
	h, err := r.openAt(a, x)
	code := uint32(codeOK)
	if err == nil {
		code, err = r.release(h, sp)
	}
	var s hostStatus
	if errors.As(err, &s) {
		code, err = uint32(s), nil
	}
	o := gate.Outcome{State: gate.Failed}
	if h != nil {
		x.mu.Lock()
		o = h.outcome(gate.Completed)
		x.mu.Unlock()
	}
	if err != nil || code != codeOK {
		o.State, o.Code = gate.Failed, hostStatus(code).word()
	}
	if e := r.done(x, o); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	return r.down.to.write(plainStatus(nil, a.id, code))
}

// release writes what is kept to the host's handle, and closes it. It gives the
// first answer that is not a success.
func (r *relay) release(h *handle, sp *spool) (uint32, error) {
	h.reads = false // nothing was
	w := writing{r: r, h: h}
	data := sp.data
	for _, p := range sp.runs {
		for offset, left := p.offset, p.n; left > 0; {
			n := min(left, writeSize)
			piece := appendString([]byte{frameIn}, data[:n])
			h.mu.Lock()
			err := errOver
			if !h.ended {
				err = h.ex.Input(piece)
				h.written.add(offset, data[:n])
			}
			h.mu.Unlock()
			rest := binary.BigEndian.AppendUint64(appendString(nil, h.upstream), offset)
			if err = errors.Join(err, w.add(typeWrite, append(rest, piece[1:]...))); err != nil {
				return 0, err
			}
			data, offset, left = data[n:], offset+n, left-n
		}
	}
	if sp.later.flags != 0 {
		if err := w.add(typeFsetstat, sp.later.append(appendString(nil, h.upstream))); err != nil {
			return 0, err
		}
	}
	if err := w.add(typeClose, appendString(nil, h.upstream)); err != nil {
		return 0, err
	}
	err := w.send()
	return w.code, err
}

// writings is how many requests go to the host at once.
const writings = 32

// writing sends requests, so many at once, and looks at their answers.
type writing struct {
	r    *relay
	h    *handle
	q    asked
	code uint32 // the first that is not a success
}

func (w *writing) add(typ byte, rest []byte) error {
	if err := w.r.add(&w.q, typ, rest); err != nil || len(w.q.answers) < writings {
		return err
	}
	return w.send()
}

func (w *writing) send() error {
	q := &w.q
	if len(q.answers) == 0 {
		return nil
	}
	if err := w.r.send(q); err != nil {
		return err
	}
	if err := w.r.wait(w.r.ctx, q); err != nil {
		return err
	}
	for i := range q.answers {
		c, ok := q.answers[i].status()
		if !ok {
			return errPacket
		}
		if c != codeOK {
			w.h.mu.Lock()
			w.h.failed++
			w.h.mu.Unlock()
			if w.code == codeOK {
				w.code = c
			}
		}
	}
	w.q = asked{}
	return nil
}

// drop ends a file that was kept and that nobody is asked about. The gate writes
// it down.
func (r *relay) drop(h *handle, kind abi.InputKind) error {
	h.mu.Lock()
	a := h.spool.open
	a.later = h.spool.later
	cmd := &abi.Command{Phase: abi.Execute, Statement: r.statement(&a)}
	cmd.Input, cmd.Bound = h.spool.input(kind)
	h.mu.Unlock()
	ctx := context.WithoutCancel(r.ctx)
	ex, err := r.session.Submit(ctx, cmd, nil)
	if err == nil {
		return ex.Done(ctx, gate.Outcome{State: gate.Failed, Tag: "nothing was written"})
	}
	if errors.As(err, new(*gate.Denied)) || r.session.Context().Err() != nil {
		return nil
	}
	return err
}
