package ssh

import (
	"bytes"
	"context"
	"crypto/sha256"

	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

const (
	maxEarly  = 64 << 10 // bytes that are kept of who types while a command waits
	maxSpool  = 1 << 20  // bytes that are kept of an input that people have to approve
	spoolHead = 4 << 10  // of them, that people are shown
	interrupt = 0x03     // ctrl-C, where a terminal sends it
	endOfText = 0x04     // ctrl-D
)

// input is what a client sends into one command. One goroutine reads it; what
// comes before it is known whether it may pass is kept, and nothing is done with
// it.
type input struct {
	ch *channel

	mu    sync.Mutex
	moved *sync.Cond
	began bool
	kept  []byte
	most  int // bytes that may be kept
	ended bool
	state inputState
	tap   *tap
	host  ssh.Channel
	told  bool
}

type inputState byte

const (
	inputWaits inputState = iota
	inputPasses
	inputDropped
)

func newInput(ch *channel) *input {
	in := &input{ch: ch, most: maxEarly}
	in.moved = sync.NewCond(&in.mu)
	return in
}

// begin starts reading. A second call does nothing.
func (in *input) begin() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.began {
		in.began = true
		in.ch.goes(in.read)
	}
}

func (in *input) read() error {
	r := newReading()
	defer r.end()
	for {
		b, n, err := r.from(in.ch.client)
		if e := in.take(b, n, err != nil); e != nil {
			return e
		}
		if err != nil {
			return nil
		}
		r.grow(n)
	}
}

// take does with a piece what is done with it now.
func (in *input) take(b []byte, n int, last bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if (in.state != inputPasses || in.tap.apart) && in.ch.pty != nil && bytes.IndexByte(b[FrameHead:FrameHead+n], interrupt) >= 0 {
		in.ch.cancel(gate.ErrCancelled)
	}
	for in.state == inputWaits && len(in.kept)+n > in.most {
		in.moved.Broadcast() // a spool is full
		in.moved.Wait()
	}
	switch in.state {
	case inputWaits:
		in.kept = append(in.kept, b[FrameHead:FrameHead+n]...)
	case inputPasses:
		if err := in.pass(b, n); err != nil {
			return err
		}
	case inputDropped:
		if n > 0 && !in.told && in.ch.pty == nil {
			in.told = true
			in.ch.say("note: what you send is not passed on: the task gives this command no standard input")
		}
	}
	if last {
		in.ended = true
		in.moved.Broadcast()
		if in.state == inputPasses {
			_ = in.host.CloseWrite()
		}
	}
	return nil
}

// pass hands a piece to the host. What is typed for a program without a terminal
// is made of it what a terminal would. The caller holds mu.
func (in *input) pass(b []byte, n int) error {
	if n == 0 {
		return nil
	}
	if in.ch.pty == nil { // a terminal shows what may be seen of it; the rest is passwords
		if err := in.tap.input(frame(b, FrameIn, n)); err != nil {
			return err
		}
	}
	keys := b[FrameHead : FrameHead+n]
	if !in.tap.apart {
		_, _ = in.host.Write(keys) // one that takes no more has said so
		return nil
	}
	keys, _, ended := bytes.Cut(keys, []byte{endOfText})
	_, _ = in.host.Write(bytes.ReplaceAll(keys, []byte{'\r'}, []byte{'\n'}))
	if ended {
		_ = in.host.CloseWrite()
		in.state = inputDropped
	}
	return nil
}

// to lets the input pass to the host, what was kept first.
func (in *input) to(t *tap, host ssh.Channel) error {
	in.begin()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.tap, in.host, in.state = t, host, inputPasses
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	for len(in.kept) > 0 {
		n := copy((*p)[FrameHead:], in.kept)
		in.kept = in.kept[n:]
		if err := in.pass(*p, n); err != nil {
			return err
		}
	}
	in.kept = nil
	in.moved.Broadcast()
	if in.ended {
		_ = host.CloseWrite()
	}
	return nil
}

// drop gives the host the end of its input, and reads on to nowhere. A terminal
// of its own has no end: who waits for one is told by the key that means it.
func (in *input) drop(host ssh.Channel, apart bool) {
	in.begin()
	in.mu.Lock()
	in.state, in.told = inputDropped, in.told || in.ch.pty != nil
	in.kept = nil
	in.moved.Broadcast()
	in.mu.Unlock()
	if host != nil && in.ch.pty != nil && !apart {
		_, _ = host.Write([]byte{endOfText})
	} else if host != nil {
		_ = host.CloseWrite()
	}
}

// end lets nobody wait any more to keep what comes: it was for nothing.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state == inputWaits {
		in.state, in.told, in.kept = inputDropped, true, nil
	}
	in.moved.Broadcast()
}

// spool reads all of the input, as far as people can be shown it. More than that
// is a stream.
func (in *input) spool(ctx context.Context) (abi.Input, error) {
	stop := context.AfterFunc(ctx, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.moved.Broadcast()
	})
	defer stop()
	in.mu.Lock()
	in.most = maxSpool
	in.mu.Unlock()
	in.begin()
	in.mu.Lock()
	defer in.mu.Unlock()
	for !in.ended && len(in.kept)+pieceSize <= in.most && ctx.Err() == nil {
		in.moved.Wait()
	}
	if ctx.Err() != nil {
		return abi.Input{}, context.Cause(ctx)
	}
	if !in.ended {
		return abi.Input{Kind: abi.InputStream, Size: uint64(len(in.kept)), Head: in.kept[:min(len(in.kept), spoolHead)]}, nil
	}
	sum := sha256.Sum256(in.kept)
	return abi.Input{Kind: abi.InputSpooled, Size: uint64(len(in.kept)), Digest: sum[:], Head: in.kept[:min(len(in.kept), spoolHead)]}, nil
}
