package sftp

import (
	"encoding/binary"
	"fmt"

	"github.com/taskgate/taskgate/abi"
)

// maxView bounds what one channel holds of files that are shown masked, in
// bytes, and viewPiece is how much of one is asked for at once.
const (
	maxView   = 64 << 20
	viewPiece = 32 << 10
)

// view is a file as it is shown, whole: a mask needs lines, and clients read in
// any order.
type view struct {
	b     []byte
	attrs attrs // the size is that of b
}

// cover reads a file whose content is masked, so that only its view is shown.
func (r *relay) cover(h *handle) (err error) {
	if h.writes {
		return refused("ssh.masked", "what is in this file is masked, and cannot be read and written by one handle", "open it for reading alone")
	}
	v, text := &view{}, h.ex.Text()
	held := 0
	defer func() {
		if err != nil {
			r.hold(-held)
		}
	}()
	for offset := uint64(0); ; {
		rest := binary.BigEndian.AppendUint64(appendString(nil, h.upstream), offset)
		p, err := r.ask(r.ctx, typeRead, binary.BigEndian.AppendUint32(rest, viewPiece))
		if err != nil {
			return err
		}
		if code, is := p.status(); is && code == codeEOF {
			break
		} else if is {
			return hostStatus(max(code, codeEOF))
		}
		f := fields{b: p.body}
		data := f.bytes()
		if p.typ != typeData || f.bad || len(data) == 0 || len(data) > viewPiece {
			return errPacket
		}
		offset += uint64(len(data))
		v.b = text.Append(v.b, data)
		if !r.hold(len(v.b) - held) {
			return refused("ssh.masked", fmt.Sprintf("what is in this file is masked, so it is read whole, and that is more than the %d MB that one channel may hold", maxView>>20), "close other files, or have it made smaller at the host")
		}
		held = len(v.b)
	}
	if v.b = text.End(v.b); !r.hold(len(v.b) - held) {
		return refused("ssh.masked", "what is in this file is masked, and it is too large to be", "")
	}
	held = len(v.b)
	p, err := r.ask(r.ctx, typeFstat, appendString(nil, h.upstream))
	if err != nil {
		return err
	}
	f := fields{b: p.body}
	if v.attrs = f.attrs(); p.typ != typeAttrs || f.bad {
		return errPacket
	}
	v.attrs.flags, v.attrs.size = v.attrs.flags|attrSize, uint64(len(v.b))
	h.view = v
	return nil
}

// hold counts what is held of views, and says whether it may be.
func (r *relay) hold(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.viewed+n > maxView {
		return false
	}
	r.viewed += n
	return true
}

// onView answers from a view.
func (r *relay) onView(h *handle, q request) error {
	if q.typ == typeFstat {
		if err := h.result(r.ctx, 1); err != nil {
			return r.refuse(q.from, err)
		}
		return r.down.to.write(finish(h.view.attrs.append(begin(nil, typeAttrs, q.from)), 0))
	}
	if q.offset >= uint64(len(h.view.b)) {
		return r.down.to.write(plainStatus(nil, q.from, codeEOF))
	}
	data := h.view.b[q.offset:]
	data = data[:min(len(data), int(q.n))]
	b := finish(appendString(begin(make([]byte, 0, 16+len(data)), typeData, q.from), data), 0)
	h.mu.Lock()
	err := errOver
	if !h.ended {
		kept := b[8] // of the id: a frame has five bytes before what it carries
		b[8] = frameOut
		err = h.ex.Result(r.ctx, &abi.Result{Frames: b[8:], Masked: true})
		b[8] = kept
		h.read.add(q.offset, data)
	}
	h.mu.Unlock()
	if err != nil {
		return r.refuse(q.from, err)
	}
	return r.down.to.write(b)
}

// sizeless leaves the size out of what is told of a file that is masked: it is
// the size of what is not shown.
func sizeless(body []byte) ([]byte, error) {
	f := fields{b: body}
	a := f.attrs()
	if f.bad {
		return nil, errPacket
	}
	return a.only(^uint32(attrSize)).append(nil), nil
}

// sizelessNames is the same for the entries of a directory, whose long form has
// the size as well.
func sizelessNames(id uint32, body []byte) ([]byte, error) {
	f := fields{b: body}
	n := f.u32()
	b := binary.BigEndian.AppendUint32(begin(nil, typeName, id), n)
	for range n {
		file := f.bytes()
		f.bytes()
		a := f.attrs()
		if f.bad {
			return nil, errPacket
		}
		b = a.only(^uint32(attrSize)).append(appendString(appendString(b, file), file))
	}
	return finish(b, 0), nil
}
