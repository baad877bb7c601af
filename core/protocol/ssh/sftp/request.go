package sftp

import (
	"context"
	"errors"
	"fmt"
)

const (
	maxRequests = 4096 // of the client's that wait for the host; more are not read
	maxReply    = 64 << 10
	indexBits   = 13 // of an id, which hold its place in the table
)

// request is what was asked of the host and is not answered.
type request struct {
	live   bool
	typ    byte   // of the packet
	from   uint32 // the client's id
	turn   uint32 // how often its place was used: no answer fits twice
	n      uint32 // bytes of a READ, at most
	offset uint64
	handle *handle
	asked  *asked // where the gateway itself asks
	place  int    // its answer's among those

	sizeless bool // of an FSTAT: its answer tells no size
}

// reply is an answer to the gateway's own request.
type reply struct {
	typ  byte
	body []byte // behind the id
}

// status gives the code of a STATUS, and false where it is another packet.
func (p *reply) status() (uint32, bool) {
	f := fields{b: p.body}
	code := f.u32()
	return code, p.typ == typeStatus && !f.bad
}

// asked are requests of the gateway's own, which go out in one write.
type asked struct {
	out     []byte
	answers []reply
	left    int
	done    chan struct{}
}

var errOver = errors.New("sftp: the channel is over")

// take gives a free place for a request, and its id. It waits while too many are
// out. The caller holds mu.
func (r *relay) take(q request) (uint32, error) {
	most := maxRequests
	if q.asked != nil { // which the client's must not hold up
		most = 1 << indexBits
	}
	for r.live >= most && !r.over {
		r.waitFree()
	}
	if r.over {
		return 0, errOver
	}
	var i uint32
	if n := len(r.holes); n > 0 {
		i = r.holes[n-1]
		r.holes = r.holes[:n-1]
	} else {
		i = uint32(len(r.requests))
		r.requests = append(r.requests, request{})
	}
	q.live, q.turn = true, r.requests[i].turn+1
	r.requests[i] = q
	r.live++
	if q.handle != nil {
		q.handle.pending++
	}
	return q.turn<<indexBits | i, nil
}

// waitFree waits until a place may be free. The caller holds mu.
func (r *relay) waitFree() {
	r.wanting++
	r.free.Wait()
	r.wanting--
}

// answered gives the request of an answer's id, and frees its place.
func (r *relay) answered(id uint32) (request, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := id & (1<<indexBits - 1)
	if int(i) >= len(r.requests) || !r.requests[i].live || r.requests[i].turn<<indexBits|i != id {
		return request{}, fmt.Errorf("sftp: the host answers what was not asked (id %d)", id)
	}
	q := r.requests[i]
	r.requests[i] = request{turn: q.turn}
	r.busy = true
	r.holes = append(r.holes, i)
	if r.live--; r.wanting > 0 {
		r.free.Broadcast()
	}
	if q.handle != nil {
		q.handle.pending--
	}
	return q, nil
}

// add appends a request of the gateway's own. rest is what stands behind its id.
func (r *relay) add(a *asked, typ byte, rest []byte) error {
	r.mu.Lock()
	id, err := r.take(request{typ: typ, asked: a, place: len(a.answers)})
	if a.done == nil {
		a.done = make(chan struct{})
	}
	a.answers = append(a.answers, reply{})
	a.left++ // nothing is answered before all are sent
	r.mu.Unlock()
	if err != nil {
		return err
	}
	at := len(a.out)
	a.out = finish(append(begin(a.out, typ, id), rest...), at)
	return nil
}

func (r *relay) addPath(a *asked, typ byte, path string) error {
	return r.add(a, typ, appendString(nil, path))
}

// send sends them.
func (r *relay) send(a *asked) error { return r.up.to.write(a.out) }

// wait waits for all their answers, as far as the host is there.
func (r *relay) wait(ctx context.Context, a *asked) error {
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
	case <-r.gone:
	}
	select {
	case <-a.done: // it came before that
		return nil
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errGone
}

// ask sends one request and gives its answer.
func (r *relay) ask(ctx context.Context, typ byte, rest []byte) (reply, error) {
	var a asked
	if err := r.add(&a, typ, rest); err != nil {
		return reply{}, err
	}
	if err := r.send(&a); err != nil {
		return reply{}, err
	}
	if err := r.wait(ctx, &a); err != nil {
		return reply{}, err
	}
	return a.answers[0], nil
}

// deliver hands an answer to the one of the gateway that asked.
func (r *relay) deliver(q request, p []byte) error {
	if len(p) > maxReply {
		return fmt.Errorf("%w: an answer of %d bytes", errPacket, len(p))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q.asked.answers[q.place] = reply{p[4], append([]byte(nil), p[9:]...)}
	if q.asked.left--; q.asked.left == 0 {
		close(q.asked.done)
	}
	return nil
}
