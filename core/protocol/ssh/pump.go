package ssh

import (
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// pieceSize is what is read at once: what one packet of SSH carries.
const pieceSize = 32 << 10

// buffers are read buffers with room for a frame's head in front.
var buffers = sync.Pool{New: func() any { b := make([]byte, FrameHead+pieceSize); return &b }}

// littleSize is what is read at once until more comes: most channels say little
// most of the time, and each has three that are read.
const littleSize = 2 << 10

var littles = sync.Pool{New: func() any { b := make([]byte, FrameHead+littleSize); return &b }}

// reading is a buffer that is as large as what comes asks for.
type reading struct {
	b    *[]byte
	pool *sync.Pool
}

func newReading() *reading { return &reading{littles.Get().(*[]byte), &littles} }

// from reads a piece, behind room for a frame's head.
func (r *reading) from(src io.Reader) (b []byte, n int, err error) {
	b = *r.b
	n, err = src.Read(b[FrameHead:])
	return b, n, err
}

// grow sees to a larger buffer where a piece of n bytes has filled this one, which
// is given back.
func (r *reading) grow(n int) {
	if n == littleSize && r.pool == &littles {
		r.end()
		r.b, r.pool = buffers.Get().(*[]byte), &buffers
	}
}

func (r *reading) end() { r.pool.Put(r.b) }

// frame writes the head of a frame whose n bytes are behind it in b.
func frame(b []byte, kind byte, n int) []byte {
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	return b[:FrameHead+n]
}

// tap is where what passes in a command is written down, from several
// goroutines at once: the program's two outputs, or the channels of one forward.
type tap struct {
	exchange *gate.Exchange
	apart    bool // the client has a terminal, and the program has none

	out    sync.Mutex
	result abi.Result
	over   bool // nothing passes any more
	in     sync.Mutex
}

func (t *tap) answer(ctx context.Context, frames []byte) error {
	t.out.Lock()
	defer t.out.Unlock()
	if t.over {
		return errGone
	}
	t.result.Frames, t.result.Masked = frames, frames[0] == FrameResize // which has no text to mask
	return t.exchange.Result(ctx, &t.result)
}

// end lets nothing pass any more: the command's end is about to be written down.
func (t *tap) end() {
	t.out.Lock()
	defer t.out.Unlock()
	t.over = true
}

func (t *tap) input(frames []byte) error {
	t.in.Lock()
	defer t.in.Unlock()
	return t.exchange.Input(frames)
}

// resized writes down a terminal's size.
func (t *tap) resized(ctx context.Context, columns, rows uint32) error {
	var b [FrameHead + 4]byte
	binary.BigEndian.PutUint16(b[FrameHead:], uint16(columns))
	binary.BigEndian.PutUint16(b[FrameHead+2:], uint16(rows))
	return t.answer(ctx, frame(b[:], FrameResize, 4))
}

// answers carries what a host says to its client until it ends. What the tap
// refuses does not reach the client, and is given back.
func (t *tap) answers(ctx context.Context, client io.Writer, host io.Reader, kind byte) (total int64, err error) {
	if t.exchange.MasksText() {
		return t.masked(ctx, client, host, kind)
	}
	r := newReading()
	defer r.end()
	for {
		b, n, err := r.from(host)
		if n > 0 {
			if err := t.answer(ctx, frame(b, kind, n)); err != nil {
				return total, err
			}
			if _, err := client.Write(b[FrameHead : FrameHead+n]); err != nil {
				return total, errGone
			}
			total += int64(n)
			r.grow(n)
		}
		if err != nil {
			return total, nil
		}
	}
}

// inputs carries what a client sends to its host until it ends.
func (t *tap) inputs(host io.Writer, client io.Reader) (total int64, err error) {
	r := newReading()
	defer r.end()
	for {
		b, n, err := r.from(client)
		if n > 0 {
			if err := t.input(frame(b, FrameIn, n)); err != nil {
				return total, err
			}
			if _, err := host.Write(b[FrameHead : FrameHead+n]); err != nil {
				return total, nil // it takes no more: what it has said still counts
			}
			total += int64(n)
			r.grow(n)
		}
		if err != nil {
			return total, nil
		}
	}
}
