// Package sftp stands between a client's SFTP and a host's (version 3,
// draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL): what names a path is a
// command of its own, and what uses a handle is part of the command that opened
// it.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// Options are what a channel is served with.
type Options struct {
	Say  func(line string) // tells the person, beside the protocol; may be nil
	Room *Room             // of the channel's connection; nil is one of its own
}

// Room is what all the channels of one connection keep of files, in bytes.
type Room struct{ viewed, spooled atomic.Int64 }

// relay is one channel.
type relay struct {
	session *gate.Session
	ctx     context.Context // of the channel
	fail    context.CancelCauseFunc
	waiting context.Context // of what people have to approve: it ends when the client leaves
	leave   context.CancelCauseFunc

	up   stream // from the client to the host; the client's side reads it
	down stream // from the host to the client
	said chan string
	gone chan struct{} // is closed when the host has left

	names   sync.Mutex // while a path is looked up, judged and used
	judging sync.WaitGroup

	mu         sync.Mutex
	free       sync.Cond // a place for a request is free
	requests   []request
	holes      []uint32
	live       int
	wanting    int  // wait for a place
	acts       int  // that are not answered
	busy       bool // an answer of the host is being passed on
	handles    map[name]*handle
	opening    int
	open       map[*running]bool
	statements map[string]*abi.Statement
	began      string // the directory in which the host's server begins
	held       int
	spooled    int // bytes, which are in room as well
	viewed     int // the same
	room       *Room
	over       bool

	told    map[string]bool // refusals that the person has read
	frames  abi.Result      // of what is read
	scratch [64]byte
}

// Why what waits for people ends: one of the two is no longer there.
var (
	errLeft = errors.New("the client has left")
	errGone = errors.New("the host has left")
)

var errAnswered = errors.New("sftp: all is answered")

// Serve relays between a client and the host's server until either ends, or ctx
// or the session does. The caller closes both sides after it: what then still
// waits to read or to write ends with that, and does nothing more. An error that
// is io.EOF's is none.
func Serve(ctx context.Context, s *gate.Session, client, server io.ReadWriter, o Options) error {
	r := newRelay(ctx, s, client, server)
	if o.Room != nil {
		r.room = o.Room
	}
	fromClient, fromServer := make(chan error, 1), make(chan error, 1)
	go func() { fromClient <- contain(r.fromClient) }()
	go func() { fromServer <- contain(r.fromServer) }()
	go r.talk(o.Say)
	var err error
	for open := true; open; {
		open = false
		select {
		case err = <-fromClient:
			if errors.Is(err, io.EOF) { // the host has what was asked before, and answers it
				r.leave(errLeft)
				go r.halfClose(server)
				err, open, fromClient = nil, true, nil
			}
		case err = <-fromServer:
			if errors.Is(err, io.EOF) { // what it has answered reaches the client
				err = nil
				r.leave(errGone)
				close(r.gone)
				r.settle(func() bool { return r.acts == 0 })
			}
		case <-r.ctx.Done():
			if err = context.Cause(r.ctx); errors.Is(err, errAnswered) {
				err = nil
			}
		case <-s.Context().Done():
			err = context.Cause(s.Context())
		}
	}
	if e := r.stop(err); err == nil {
		err = e
	}
	return err
}

func newRelay(ctx context.Context, s *gate.Session, client, server io.ReadWriter) *relay {
	r := &relay{session: s, handles: map[name]*handle{}, open: map[*running]bool{}, statements: map[string]*abi.Statement{}, told: map[string]bool{}, said: make(chan string, 64), gone: make(chan struct{}), room: &Room{}}
	r.free.L = &r.mu
	r.ctx, r.fail = context.WithCancelCause(ctx)
	r.waiting, r.leave = context.WithCancelCause(r.ctx)
	r.up, r.down = newStream(client, &sink{w: server}), newStream(server, &sink{w: client})
	r.down.idle = r.idle
	return r
}

// contain makes a panic an error: it ends this channel alone.
func contain(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("sftp: panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// halfClose tells the host that no more requests come, once all is sent. A host
// that cannot be told ends with the last answer.
func (r *relay) halfClose(server io.ReadWriter) {
	if c, ok := server.(interface{ CloseWrite() error }); ok {
		r.settle(func() bool { return r.acts == 0 })
		_ = c.CloseWrite() // one that is gone ends what is read from it
		return
	}
	r.settle(func() bool { return r.live == 0 && r.acts == 0 && !r.busy })
	r.fail(errAnswered)
}

// settle waits until something is so, or the channel has to end. It is asked
// with mu.
func (r *relay) settle(so func() bool) {
	wake := func() { r.mu.Lock(); defer r.mu.Unlock(); r.free.Broadcast() }
	defer context.AfterFunc(r.ctx, wake)()
	defer context.AfterFunc(r.session.Context(), wake)()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !so() && !r.over && r.ctx.Err() == nil && r.session.Context().Err() == nil {
		r.waitFree()
	}
}

// idle says that all that the host has answered has been passed on.
func (r *relay) idle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy = false; r.wanting > 0 {
		r.free.Broadcast()
	}
}

// stop ends what is open. Nothing of the channel touches an exchange after it.
func (r *relay) stop(why error) error {
	r.mu.Lock()
	r.over = true
	r.room.viewed.Add(-int64(r.viewed))
	r.room.spooled.Add(-int64(r.spooled))
	r.free.Broadcast()
	r.mu.Unlock()
	r.fail(why)
	r.judging.Wait() // none begins any more
	r.mu.Lock()
	left := slices.Collect(maps.Keys(r.open))
	var kept []*handle
	for _, h := range r.handles {
		if h.spool != nil {
			kept = append(kept, h)
		}
	}
	r.mu.Unlock()
	var err error
	for _, x := range left {
		o := gate.Outcome{State: gate.Lost}
		x.mu.Lock()
		if x.told != nil {
			o = x.told()
		}
		x.mu.Unlock()
		err = errors.Join(err, x.end(context.WithoutCancel(r.ctx), o))
	}
	for _, h := range kept {
		err = errors.Join(err, r.drop(h, abi.InputSpooled))
	}
	return err
}

// grow counts n bytes more that are kept, where there is room for them.
func (r *relay) grow(own *int, all *atomic.Int64, n, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	if all.Add(int64(n)) > int64(most) {
		all.Add(-int64(n))
		return false
	}
	*own += n
	return true
}

func (r *relay) shrink(own *int, all *atomic.Int64, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		*own -= n
		all.Add(-int64(n))
	}
}

// talk says what the person is to read, beside all else: a client that does not
// read it holds nothing up.
func (r *relay) talk(say func(string)) {
	for {
		select {
		case line := <-r.said:
			if say != nil {
				say(line)
			}
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *relay) say(line string) {
	select {
	case r.said <- line:
	default:
	}
}

// maxTold bounds the refusals that are told beside the protocol.
const maxTold = 32

// tell says a refusal once.
func (r *relay) tell(line string) {
	r.mu.Lock()
	again := r.told[line] || len(r.told) >= maxTold
	if !again {
		r.told[line] = true
	}
	r.mu.Unlock()
	if !again {
		r.say(line)
	}
}
