package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
)

const (
	maxView  = 64 << 20 // bytes of a connection's views, and of the file behind one
	readSize = 32 << 10
	readings = 16 // READs at once
)

// errView says that a file is too large to be masked.
var errView = refused("ssh.masked", fmt.Sprintf("what is in this file is masked, and that can be done of at most %d MB at a time", maxView>>20), "read a part of it by a command")

// readView reads a file whose content is masked, as a whole: what the client
// reads of it is what has come of that.
func (r *relay) readView(h *handle) error {
	h.view = []byte{}
	p, err := r.ask(r.ctx, typeFstat, appendString(nil, h.upstream))
	if err != nil {
		return err
	}
	f := fields{b: p.body}
	if is := f.attrs(); p.typ == typeAttrs && is.size > maxView {
		return errView
	}
	text, offset := h.ex.Text(r.ctx), uint64(0)
	for {
		data, end, err := r.readSome(h, offset)
		if err != nil {
			return err
		}
		offset += uint64(len(data))
		had := len(h.view)
		if err := h.mask(text, data, end); err != nil {
			return err
		}
		n := len(h.view) - had
		if offset > maxView || !r.grow(&r.viewed, &r.room.viewed, n, maxView) {
			return errView
		}
		if h.viewed += n; end {
			return nil
		}
	}
}

// mask adds to a handle's view what is shown of a run of its file.
func (h *handle) mask(text *mask.Text, run []byte, last bool) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return errOver
	}
	if h.view, err = text.Append(h.view, run); err == nil && last {
		h.view, err = text.End(h.view)
	}
	return err
}

// readSome reads what comes at an offset, as far as it comes in one piece.
func (r *relay) readSome(h *handle, offset uint64) (data []byte, end bool, err error) {
	var q asked
	for i := range uint64(readings) {
		rest := binary.BigEndian.AppendUint64(appendString(nil, h.upstream), offset+i*readSize)
		if err := r.add(&q, typeRead, binary.BigEndian.AppendUint32(rest, readSize)); err != nil {
			return nil, false, err
		}
	}
	if err := r.send(&q); err != nil {
		return nil, false, err
	}
	if err := r.wait(r.ctx, &q); err != nil {
		return nil, false, err
	}
	for i := range q.answers {
		p := &q.answers[i]
		if code, is := p.status(); is {
			if code != codeEOF {
				return nil, false, hostStatus(max(code, codeEOF))
			}
			return data, true, nil
		}
		f := fields{b: p.body}
		piece := f.bytes()
		if p.typ != typeData || f.bad || len(piece) > readSize {
			return nil, false, errPacket
		}
		data = append(data, piece...)
		if len(piece) < readSize { // the rest of it does not follow what came
			return data, false, nil
		}
	}
	return data, false, nil
}

// onView answers a READ.
func (r *relay) onView(h *handle, q request) error {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return errOver
	}
	if q.offset >= uint64(len(h.view)) || q.n == 0 {
		h.mu.Unlock()
		return r.down.to.write(plainStatus(nil, q.from, codeEOF))
	}
	data := h.view[q.offset:]
	data = data[:min(len(data), int(q.n))]
	b := finish(appendString(begin(nil, typeData, q.from), data), 0)
	kept := b[8]
	b[8] = frameOut
	err := h.ex.Result(r.ctx, &abi.Result{Frames: b[8:], Masked: true})
	b[8] = kept
	if err == nil {
		h.read.add(q.offset, data)
	}
	var d *gate.Denied
	if errors.As(err, &d) {
		h.refused = d
	}
	h.mu.Unlock()
	switch {
	case d != nil:
		return r.refuse(q.from, d)
	case err != nil:
		return err
	}
	return r.down.to.write(b)
}

// unread tells a person whose client has opened a masked file and read none of it,
// as one does that wants to go on where it stopped and is told no size.
func (r *relay) unread(h *handle) {
	h.mu.Lock()
	none := h.read.bytes == 0 && len(h.view) > 0
	h.mu.Unlock()
	if none {
		r.tell("note: " + show(h.path) + " is masked, and so its size is not told: a part of it cannot be completed (reget, get -a); get fetches the whole")
	}
}

// unview forgets what a handle's view takes.
func (r *relay) unview(h *handle) {
	r.shrink(&r.viewed, &r.room.viewed, h.viewed)
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

// stat is the question what a path has for attributes.
func stat(path string) *abi.Statement { return question("stat", "stat", path) }

func question(words, verb, path string) *abi.Statement {
	text := "sftp " + words + " " + show(path)
	return &abi.Statement{Protocol: "ssh", Text: text, Canonical: text, Fingerprint: "sftp " + words, Operations: []abi.Operation{operation(verb, path)}}
}

// errPart refuses what would leave a part of a file that is masked.
var errPart = refused("ssh.masked", "what is in this file is masked, and a part of it cannot be changed: what is left could be told no longer from what may be shown", "write the whole of it, as sftp's put does, or remove it first")

// covered says whether a file is masked for who reads it here.
func (r *relay) covered(path string) bool {
	d, masked := r.session.Would(r.ctx, question("open read", "read", path))
	return masked && d != abi.Deny
}

// inPlace says whether an OPEN leaves what is in a file that is masked for who
// reads it: with a key written over its value would be shown.
func (r *relay) inPlace(a *act) bool {
	return a.typ == typeOpen && a.writes() && a.flags&flagTrunc == 0 && a.flags&(flagCreate|flagExcl) != flagCreate|flagExcl && a.places[0].there && r.covered(a.places[0].path)
}

// maxEntries bounds the entries of one directory about which guards are asked.
const maxEntries = 10000

// hides says whether the size of an entry may not be told: who asks for that alone
// would not be told it. Where a link leads is not looked up.
func (r *relay) hides(h *handle, name string, a attrs) bool {
	if name == "" || strings.Contains(name, "/") || a.flags&attrMode == 0 || a.mode&modeType == modeLink {
		return true
	}
	at := path.Join(h.path, name)
	if h.looked++; h.looked > maxEntries || readPath(at) != nil {
		return true
	}
	return r.session.Hides(r.ctx, stat(at))
}

// sizes leaves out the sizes of those entries of a directory that may not be told,
// also in their long form.
func (r *relay) sizes(h *handle, id uint32, body []byte) ([]byte, error) {
	f := fields{b: body}
	n := f.u32()
	b := binary.BigEndian.AppendUint32(begin(nil, typeName, id), n)
	for range n {
		file, long := f.bytes(), f.bytes()
		a := f.attrs()
		if f.bad {
			return nil, errPacket
		}
		if r.hides(h, string(file), a) {
			a, long = a.only(^uint32(attrSize)), file
		}
		b = a.append(appendString(appendString(b, file), long))
	}
	return finish(b, 0), nil
}
