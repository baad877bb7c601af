package sftp

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Frames of the recording: a kind, a length of four bytes, and what came. They
// are those of core/protocol/ssh, which imports this package.
const (
	frameOut = 'o'
	frameIn  = 'i'
)

// fromClient takes what the client asks, in order.
func (r *relay) fromClient() error {
	start, end, err := r.up.next()
	if err != nil {
		return err
	}
	f := fields{b: r.up.buf[start+5 : end]}
	if v := f.u32(); r.up.buf[start+4] != typeInit || f.bad || v < 3 {
		r.tell("this is SFTP version 3, which the client does not speak")
		return fmt.Errorf("%w: it does not begin with INIT of version 3", errPacket)
	}
	if err := r.up.put([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3}); err != nil {
		return err
	}
	for {
		start, end, err := r.up.next()
		if err != nil {
			return err
		}
		if err := r.asks(start, end); err != nil {
			return err
		}
	}
}

// asks takes one request.
func (r *relay) asks(start, end int) error {
	p := r.up.buf[start:end]
	if len(p) < 9 {
		return fmt.Errorf("%w: of type %d, with no id", errPacket, p[4])
	}
	id, f := binary.BigEndian.Uint32(p[5:]), fields{b: p[9:]}
	switch typ := p[4]; typ {
	case typeRead, typeWrite, typeFstat, typeReaddir, typeClose:
		return r.onHandle(typ, id, start, end)
	}
	a := &act{id: id, typ: p[4]}
	switch a.typ {
	case typeFsetstat:
		return r.fsetstat(id, f)
	case typeExtended:
		return r.extended(id, f)
	case typeOpen:
		a.paths, a.flags, a.attrs = f.paths(1), f.u32(), f.wish()
		if a.flags&^uint32(flagRead|flagWrite|flagAppend|flagCreate|flagTrunc|flagExcl) != 0 {
			return r.malformed(id)
		}
	case typeOpendir, typeStat, typeLstat, typeReadlink, typeRealpath, typeRemove, typeRmdir:
		a.paths = f.paths(1)
	case typeMkdir, typeSetstat:
		a.paths, a.attrs = f.paths(1), f.wish()
	case typeRename, typeSymlink: // of SYMLINK OpenSSH has the target first, whatever the draft says
		a.paths = f.paths(2)
	default:
		return r.down.to.write(plainStatus(nil, id, codeUnsupported))
	}
	if f.bad {
		return r.malformed(id)
	}
	return r.begin(a)
}

func (f *fields) paths(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = string(f.bytes())
	}
	return list
}

func (r *relay) malformed(id uint32) error {
	return r.down.to.write(plainStatus(nil, id, codeBadMessage))
}

func (r *relay) noHandle(id uint32) error {
	return r.down.to.write(appendStatus(nil, id, codeFailure, "taskgate: this handle is not open"))
}

// onHandle takes a request whose first field is a handle, and sends it on from
// where it is: only the handle and the id become the host's.
func (r *relay) onHandle(typ byte, id uint32, start, end int) error {
	f := fields{b: r.up.buf[start+9 : end]}
	hb := f.bytes()
	q := request{typ: typ, from: id}
	var data []byte
	switch typ {
	case typeRead:
		q.offset, q.n = f.u64(), min(f.u32(), maxData)
	case typeWrite:
		q.offset = f.u64()
		data = f.bytes()
		q.n = uint32(len(data))
	}
	if f.bad || len(f.b) > 0 {
		return r.malformed(id)
	}
	r.mu.Lock()
	h := r.find(hb)
	r.mu.Unlock()
	if h == nil {
		return r.noHandle(id)
	}
	if h.spool != nil {
		return r.onSpool(h, q, data)
	}
	if err := h.may(q); err != nil {
		return r.refuse(id, err)
	}
	if q.offset > math.MaxInt64-uint64(q.n) {
		return r.down.to.write(plainStatus(nil, id, codeFailure))
	}
	if h.view != nil && typ == typeRead {
		return r.onView(h, q)
	}
	if h.view != nil && typ == typeClose {
		r.unread(h)
	}
	from := start + len(hb) - len(h.upstream) // so that its head ends where the rest begins
	if end-from > maxPacket+4 {
		return r.malformed(id)
	}
	if typ == typeWrite {
		if err := h.input(r.up.buf[end-len(data)-5:end], q.offset, data); err != nil {
			return err
		}
	}
	if typ == typeFstat && !h.reads && !h.dir { // it was judged for what is written
		q.sizeless = r.session.Hides(r.ctx, stat(h.path))
	}
	q.handle = h
	if r.full() {
		if err := r.up.flush(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	up, err := r.take(q)
	if err == nil && typ == typeClose {
		h.closed = true
		delete(r.handles, h.name)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if from < r.up.b { // what waits stands where the head has to be
		if err := r.up.flush(); err != nil {
			return err
		}
	}
	b := r.up.buf[from:end]
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	b[4] = typ
	binary.BigEndian.PutUint32(b[5:], up)
	binary.BigEndian.PutUint32(b[9:], uint32(len(h.upstream)))
	copy(b[13:], h.upstream)
	if typ == typeRead {
		binary.BigEndian.PutUint32(b[len(b)-4:], q.n)
	}
	return r.up.pass(from, end)
}

// full says whether the next request has to wait for an answer.
func (r *relay) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live >= maxRequests
}

// may refuses what a handle was not judged for.
func (h *handle) may(q request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.refused != nil && q.typ != typeClose:
		return h.refused
	case q.typ == typeRead && !h.reads:
		return refused("ssh.handle", "this file was not opened for reading", "")
	case q.typ == typeWrite && !h.writes:
		return refused("ssh.handle", "this file was not opened for writing", "")
	case q.typ == typeReaddir && !h.dir:
		return refused("ssh.handle", "this is no directory", "")
	}
	return nil
}

// input hands what is written to the gate. frame has five bytes before the data,
// which are the request's own.
func (h *handle) input(frame []byte, offset uint64, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return errOver
	}
	kept := frame[0]
	frame[0] = frameIn
	err := h.ex.Input(frame)
	frame[0] = kept
	h.written.add(offset, data)
	return err
}

// fsetstat takes FSETSTAT. A size is content, which the handle was opened for;
// other attributes are a command of their own.
func (r *relay) fsetstat(id uint32, f fields) error {
	hb, at := f.bytes(), f.wish()
	if f.bad {
		return r.malformed(id)
	}
	r.mu.Lock()
	h := r.find(hb)
	r.mu.Unlock()
	if h == nil {
		return r.noHandle(id)
	}
	if h.spool != nil {
		return r.spoolAttrs(h, id, at)
	}
	if at.flags&attrSize != 0 {
		if err := h.may(request{typ: typeWrite}); err != nil {
			return r.refuse(id, err)
		}
	}
	if at.flags&^uint32(attrSize) != 0 {
		return r.begin(&act{id: id, typ: typeFsetstat, attrs: at, handle: h, places: []place{{asked: h.path, path: h.path}}})
	}
	h.mu.Lock()
	h.sized = true
	h.mu.Unlock()
	return r.passOn(request{typ: typeFsetstat, from: id, handle: h}, typeFsetstat, func(b []byte) []byte { return at.append(appendString(b, h.upstream)) })
}

// passOn sends a request on that is written anew.
func (r *relay) passOn(q request, typ byte, rest func([]byte) []byte) error {
	if err := r.up.flush(); err != nil {
		return err
	}
	r.mu.Lock()
	id, err := r.take(q)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return r.up.put(finish(rest(begin(nil, typ, id)), 0))
}

// extended takes an extended request.
func (r *relay) extended(id uint32, f fields) error {
	ext := string(f.bytes())
	a := &act{id: id, typ: typeExtended, extension: ext}
	switch ext {
	case extPosixRename, extHardlink:
		a.paths = f.paths(2)
	case extStatvfs, extExpandPath:
		a.paths = f.paths(1)
	case extLsetstat:
		a.paths, a.attrs = f.paths(1), f.wish()
	case extLimits:
		return r.passOn(request{typ: typeExtended, from: id}, typeExtended, func(b []byte) []byte { return appendString(b, ext) })
	case extFsync, extFstatvfs:
		hb := f.bytes()
		if f.bad {
			return r.malformed(id)
		}
		r.mu.Lock()
		h := r.find(hb)
		r.mu.Unlock()
		switch {
		case h == nil:
			return r.noHandle(id)
		case h.spool != nil: // nothing of it is at the host
			return r.down.to.write(plainStatus(nil, id, codeUnsupported))
		}
		if err := h.may(request{}); err != nil {
			return r.refuse(id, err)
		}
		return r.passOn(request{typ: typeExtended, from: id, handle: h}, typeExtended, func(b []byte) []byte { return appendString(appendString(b, ext), h.upstream) })
	default:
		return r.down.to.write(plainStatus(nil, id, codeUnsupported))
	}
	if f.bad {
		return r.malformed(id)
	}
	if ext == extExpandPath {
		var err error
		if a.paths[0], err = expand(a.paths[0]); err != nil {
			return r.refuse(id, err)
		}
	}
	return r.begin(a)
}
