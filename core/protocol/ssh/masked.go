package ssh

import (
	"context"
	"encoding/binary"
	"io"
)

// masked is answers for a program whose text is masked: what is shown comes in
// whole lines, and is written down as it is shown.
func (t *tap) masked(ctx context.Context, client io.Writer, host io.Reader, kind byte) (total int64, err error) {
	text := t.exchange.Text()
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	in := *p
	var out [FrameHead]byte
	shown := out[:]
	for ended := false; !ended; {
		n, err := host.Read(in)
		total += int64(n)
		shown = text.Append(shown[:FrameHead], in[:n])
		if ended = err != nil; ended {
			shown = text.End(shown)
		}
		if len(shown) == FrameHead {
			continue
		}
		shown[0] = kind
		binary.BigEndian.PutUint32(shown[1:], uint32(len(shown)-FrameHead))
		if err := t.pass(ctx, shown, true); err != nil {
			return total, err
		}
		if _, err := client.Write(shown[FrameHead:]); err != nil {
			return total, errGone
		}
	}
	return total, nil
}
