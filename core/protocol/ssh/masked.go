package ssh

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/taskgate/taskgate/core/mask"
)

// masked is answers for a program whose text is masked: what is shown comes in
// whole lines, and is written down as it is shown.
func (t *tap) masked(ctx context.Context, client io.Writer, host io.Reader, kind byte) (total int64, err error) {
	text := t.exchange.Text(ctx)
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	in := *p
	var out [FrameHead]byte
	shown := out[:]
	for ended := false; !ended; {
		n, err := host.Read(in)
		total += int64(n)
		ended = err != nil
		if shown, err = t.mask(ctx, text, shown[:0], in[:n], ended, kind); err != nil {
			return total, err
		}
		if len(shown) == FrameHead {
			continue
		}
		if _, err := client.Write(shown[FrameHead:]); err != nil {
			return total, errGone
		}
	}
	return total, nil
}

// mask makes of a run what is shown of it, and writes that down, as a frame. It
// is one with that, so that no guard masks what has ended.
func (t *tap) mask(ctx context.Context, text *mask.Text, dst, run []byte, last bool, kind byte) (_ []byte, err error) {
	t.out.Lock()
	defer t.out.Unlock()
	if t.over {
		return nil, errGone
	}
	dst = append(dst, kind, 0, 0, 0, 0)
	if dst, err = text.Append(dst, run); err == nil && last {
		dst, err = text.End(dst)
	}
	if err != nil || len(dst) == FrameHead {
		return dst, err
	}
	if t.apart {
		dst = returned(dst)
	}
	binary.BigEndian.PutUint32(dst[1:], uint32(len(dst)-FrameHead))
	t.result.Frames, t.result.Masked = dst, true
	return dst, t.exchange.Result(ctx, &t.result)
}

// returned ends the lines of a frame as a terminal wants them. Its head has no
// length yet.
func returned(frame []byte) []byte {
	n := bytes.Count(frame, []byte{'\n'})
	frame = append(frame, make([]byte, n)...)
	for to, from := len(frame)-1, len(frame)-1-n; to > from; to, from = to-1, from-1 {
		if frame[to] = frame[from]; frame[from] == '\n' {
			to--
			frame[to] = '\r'
		}
	}
	return frame
}
