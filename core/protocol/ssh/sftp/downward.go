package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/taskgate/taskgate/core/gate"
)

// fromServer takes what the host answers.
func (r *relay) fromServer() error {
	start, end, err := r.down.next()
	if err != nil {
		return err
	}
	if p := r.down.buf[start:end]; p[4] != typeVersion {
		return fmt.Errorf("%w: the host does not begin with VERSION", errPacket)
	} else if v, ok := version(p); !ok {
		return fmt.Errorf("%w: the host does not speak version 3", errPacket)
	} else if err := r.down.put(v); err != nil {
		return err
	}
	for {
		start, end, err := r.down.next()
		if err != nil {
			return err
		}
		if end-start < 9 {
			return fmt.Errorf("%w: of type %d, with no id", errPacket, r.down.buf[start+4])
		}
		if err := r.answers(start, end); err != nil {
			return err
		}
	}
}

// answers takes one answer.
func (r *relay) answers(start, end int) error {
	p := r.down.buf[start:end]
	q, err := r.answered(binary.BigEndian.Uint32(p[5:]))
	if err != nil {
		return err
	}
	if q.asked != nil {
		return r.deliver(q, p)
	}
	h := q.handle
	f := fields{b: p[9:]}
	switch typ := p[4]; {
	case typ == typeStatus:
		code := f.u32()
		if f.bad {
			return errPacket
		}
		return r.status(q, code)
	case typ == typeData && q.typ == typeRead:
		if data := f.bytes(); f.bad || len(f.b) > 0 || len(data) > int(q.n) {
			return fmt.Errorf("%w: DATA of another length than was asked", errPacket)
		} else if err := h.output(r, q, p[8:], data); err != nil {
			return r.ended(q, err)
		}
	case typ == typeName && q.typ == typeReaddir:
		n := f.u32()
		if f.bad || int64(n)*12 > int64(len(f.b)) {
			return errPacket
		}
		h.mu.Lock()
		h.entries += uint64(n)
		h.mu.Unlock()
		if err := h.result(r.ctx, int(n)); err != nil {
			return r.ended(q, err)
		}
		if h.ex.MasksText() {
			b, err := r.sizes(h, q.from, p[9:])
			if err == nil {
				err = r.last(h)
			}
			if err != nil {
				return err
			}
			return r.down.put(b)
		}
	case typ == typeAttrs && q.typ == typeFstat, typ == typeReply && q.typ == typeExtended && h != nil:
		if err := h.result(r.ctx, 1); err != nil {
			return r.ended(q, err)
		}
		if q.sizeless {
			body, err := sizeless(p[9:])
			if err == nil {
				err = r.last(h)
			}
			if err != nil {
				return err
			}
			return r.down.put(finish(append(begin(nil, typeAttrs, q.from), body...), 0))
		}
	case typ == typeReply && q.typ == typeExtended:
		b, ok := limits(r.scratch[:0], q.from, p)
		if !ok {
			return errPacket
		}
		return r.down.put(b)
	default:
		return fmt.Errorf("%w: the host answers %d with %d", errPacket, q.typ, typ)
	}
	if err := r.last(h); err != nil {
		return err
	}
	if q.typ == typeFstat && h.view != nil && f.u32()&attrSize != 0 && len(f.b) >= 8 {
		binary.BigEndian.PutUint64(f.b, uint64(len(h.view)))
	}
	binary.BigEndian.PutUint32(p[5:], q.from)
	return r.down.pass(start, end)
}

// output hands the content of a file to the gate, before it goes on. frame has
// five bytes before it, which are the answer's own.
func (h *handle) output(r *relay, q request, frame, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended:
		return errOver
	case h.refused != nil:
		return h.refused
	}
	frame[0] = frameOut // of the id, which is written anew
	r.frames.Frames = frame
	if err := h.ex.Result(r.ctx, &r.frames); err != nil {
		return err
	}
	h.read.add(q.offset, data)
	return nil
}

// ended refuses an answer that may not go on, and all that would come after it.
func (r *relay) ended(q request, err error) error {
	var d *gate.Denied
	if !errors.As(err, &d) {
		return err
	}
	q.handle.mu.Lock()
	q.handle.refused = d
	q.handle.mu.Unlock()
	if err := r.last(q.handle); err != nil {
		return err
	}
	return r.refuse(q.from, d)
}

// status takes an answer that is a status.
func (r *relay) status(q request, code uint32) error {
	h := q.handle
	switch q.typ {
	case typeWrite, typeFsetstat:
		if code != codeOK {
			h.mu.Lock()
			h.failed++
			h.mu.Unlock()
		}
	case typeClose:
		r.mu.Lock()
		h.over = true
		r.mu.Unlock()
		r.unview(h)
		h.mu.Lock()
		h.unclean = code
		h.mu.Unlock()
	}
	if h != nil {
		if err := r.last(h); err != nil {
			return err
		}
	}
	return r.down.put(plainStatus(r.scratch[:0], q.from, code))
}

// last ends the exchange of a handle that is closed, once all is answered.
func (r *relay) last(h *handle) error {
	r.mu.Lock()
	over := h.over && h.pending == 0
	r.mu.Unlock()
	if !over {
		return nil
	}
	h.mu.Lock()
	o := h.outcome(gate.Completed)
	h.mu.Unlock()
	return r.done(h.running, o)
}
