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

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// Options are what a channel is served with.
type Options struct {
	Say func(line string) // tells the person, beside the protocol; may be nil
}

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

	names   sync.Mutex // while a path is looked up, judged and used
	judging sync.WaitGroup

	mu         sync.Mutex
	free       sync.Cond // a place for a request is free
	requests   []request
	holes      []uint32
	live       int
	wanting    int // wait for a place
	handles    map[name]*handle
	opening    int
	open       map[*running]bool
	statements map[string]*abi.Statement
	began      string // the directory in which the host's server begins
	held       int
	spooled    int // bytes
	viewed     int // the same
	over       bool

	told    map[string]bool // refusals that the person has read
	frames  abi.Result      // of what is read
	scratch [64]byte
}

// errLeft is why what waits for people ends: its client is no longer there.
var errLeft = errors.New("the client has left")

var errAnswered = errors.New("sftp: all is answered")

// Serve relays between a client and the host's server until either ends, or ctx
// or the session does. The caller closes both sides after it: what then still
// waits to read or to write ends with that, and does nothing more. An error that
// is io.EOF's is none.
func Serve(ctx context.Context, s *gate.Session, client, server io.ReadWriter, o Options) error {
	r := newRelay(ctx, s, client, server)
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
				err, open, fromClient = r.halfClose(server), true, nil
				if err != nil {
					open = false
				}
			}
		case err = <-fromServer:
			if errors.Is(err, io.EOF) {
				err = nil
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
	r := &relay{session: s, handles: map[name]*handle{}, open: map[*running]bool{}, statements: map[string]*abi.Statement{}, told: map[string]bool{}, said: make(chan string, 64)}
	r.free.L = &r.mu
	r.ctx, r.fail = context.WithCancelCause(ctx)
	r.waiting, r.leave = context.WithCancelCause(r.ctx)
	r.up, r.down = newStream(client, &sink{w: server}), newStream(server, &sink{w: client})
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

// halfClose tells the host that no more requests come. A side that cannot be
// told ends the channel once all is answered.
func (r *relay) halfClose(server io.ReadWriter) error {
	if c, ok := server.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	go func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for r.live > 0 && !r.over {
			r.waitFree()
		}
		r.fail(errAnswered)
	}()
	return nil
}

// stop ends what is open. Nothing of the channel touches an exchange after it.
func (r *relay) stop(why error) error {
	r.mu.Lock()
	r.over = true
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
