package sftp

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/count"
)

// maxHandles bounds the open handles of one channel.
const maxHandles = 1000

// name is a handle as the client has it. It is made up, so that it is nothing to
// another channel, and nothing once it is closed.
type name [8]byte

// handle is an open file or directory: what its OPEN was judged for is all that
// it can do.
type handle struct {
	*running
	name     name
	upstream []byte
	path     string
	dir      bool
	reads    bool
	writes   bool
	spool    *spool // of one that is not open yet at the host
	view     []byte // of a file whose content is masked, else nil
	viewed   int    // bytes of it that are counted
	looked   int    // entries about which guards were asked; of the host's side

	pending int  // requests that are not answered; with the relay's mu
	closed  bool // the client has closed it; with the relay's mu
	over    bool // and the host has said so; the same

	// With running.mu.
	read    digest
	written digest
	failed  int    // writes that the host refused
	entries uint64 // of a directory
	sized   bool   // its size was set
	unclean uint32 // the code by which the host failed to close it
	refused *gate.Denied
}

// running is an exchange that both sides may touch, and that ends once.
type running struct {
	mu    sync.Mutex
	ex    *gate.Exchange
	ended bool
	told  func() gate.Outcome // how it stands, where the channel ends before it; with mu
}

// end closes the exchange.
func (x *running) end(ctx context.Context, o gate.Outcome) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return nil
	}
	x.ended = true
	return x.ex.Done(ctx, o)
}

// outcome is how a handle ends. The caller holds running.mu.
func (h *handle) outcome(state gate.State) gate.Outcome {
	o := gate.Outcome{State: state}
	var tags []string
	if h.dir {
		tags = append(tags, "listed "+count.Of(h.entries, "entry"))
	}
	if h.reads && (!h.writes || h.read.bytes > 0) {
		tags = append(tags, "read "+h.read.String())
	}
	if h.writes {
		tags = append(tags, "wrote "+h.written.String())
	}
	if h.sized {
		tags = append(tags, "set its size")
	}
	if h.failed > 0 {
		tags = append(tags, count.Of(h.failed, "write")+" failed")
		o.State, o.Code = gate.Failed, codes[codeFailure]
	}
	if h.unclean != codeOK {
		o.State, o.Code = gate.Failed, hostStatus(h.unclean).word()
	}
	if h.refused != nil {
		tags = append(tags, "ended by "+h.refused.Reason.Code)
		o.State = gate.Failed
	}
	o.Tag = strings.Join(tags, ", ")
	return o
}

// enter makes a handle known, and gives it its name.
func (r *relay) enter(h *handle) error {
	_, _ = rand.Read(h.name[:]) // never fails
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errOver
	}
	r.handles[h.name] = h
	return nil
}

// find gives the handle of a name. The caller holds mu.
func (r *relay) find(b []byte) *handle {
	if len(b) != len(name{}) {
		return nil
	}
	return r.handles[name(b)]
}

// track keeps an exchange among those that end with the channel.
func (r *relay) track(ex *gate.Exchange) *running {
	x := &running{ex: ex}
	r.mu.Lock()
	r.open[x] = true
	r.mu.Unlock()
	return x
}

// done ends an exchange. An error of it ends the session: it is not on record.
func (r *relay) done(x *running, o gate.Outcome) error {
	err := x.end(context.WithoutCancel(r.ctx), o)
	r.mu.Lock()
	delete(r.open, x)
	r.mu.Unlock()
	return err
}

// result hands what is not the content of a file to the gate.
func (x *running) result(ctx context.Context, rows int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return errOver
	}
	return x.ex.Result(ctx, &abi.Result{Rows: rows})
}
