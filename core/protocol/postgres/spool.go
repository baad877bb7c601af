package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// spool is a COPY FROM STDIN that people have to approve. The gateway takes its
// data itself, and asks when it has all of it, so that they see what they
// approve; what goes upstream after that are the bytes that were kept.
type spool struct {
	text     string
	analysis *sql.Analysis
	command  *abi.Command
	data     []byte
	off      atomic.Pointer[error] // why it was called off
}

const (
	maxSpool  = 1 << 20 // bytes
	spoolHead = 4 << 10 // of them, that people are shown
)

// errSpool says that a command's data has to be taken first.
var errSpool = errors.New("postgres: the data first")

// beginSpool tells the client that its data is wanted, as the server would.
func (c *conn) beginSpool(ctx context.Context, s *spool) error {
	if err := c.allAnswered(); err != nil {
		return err
	}
	s.command.Open = c.open
	c.mu.Lock()
	failed, over := c.status == 'E', c.over
	c.held = func(why error) { s.off.Store(&why) }
	c.mu.Unlock()
	c.spool = s
	if over {
		return errOver
	}
	if failed {
		return c.dropSpool(ctx, &refusal{code: aborted.code, message: aborted.message})
	}
	from, format := s.analysis.Parts[0].Copy, byte(0)
	if from.Format == "binary" {
		format = 1
	}
	m := binary.BigEndian.AppendUint16([]byte{format}, uint16(from.Columns))
	for range from.Columns {
		m = append(m, 0, format)
	}
	return c.tell(frame('G', m))
}

// spooled takes a piece of data. Where there is more than can be kept, the gate
// decides whether it may go unseen.
func (c *conn) spooled(ctx context.Context, piece []byte) error {
	s := c.spool
	if s.off.Load() != nil {
		return c.dropSpool(ctx, cancelled)
	}
	if len(s.data)+len(piece) <= maxSpool {
		s.data = append(s.data, piece...)
		return nil
	}
	s.data = append(s.data, piece...)
	s.command.Input = abi.Input{Kind: abi.InputStream, Size: uint64(len(s.data)), Head: s.data[:spoolHead]}
	ex, err := c.askSpool(ctx)
	if ex == nil {
		return err
	}
	if c.inCopy() && c.dataLeft > 0 { // the rest of the message as one of its own
		c.dataPass, c.dataInto = true, ex
		c.out = binary.BigEndian.AppendUint32(append(c.out, 'd'), uint32(c.dataLeft+4))
	}
	return nil
}

// endSpool takes CopyDone or CopyFail.
func (c *conn) endSpool(ctx context.Context, m []byte) error {
	s := c.spool
	if s.off.Load() != nil {
		return c.dropSpool(ctx, cancelled)
	}
	if m[0] == 'f' {
		why, _, _ := cutString(m[5:])
		return c.dropSpool(ctx, &refusal{code: "57014", message: readable("COPY from stdin failed: " + why)})
	}
	sum := sha256.Sum256(s.data)
	s.command.Input = abi.Input{Kind: abi.InputSpooled, Size: uint64(len(s.data)), Digest: sum[:], Head: s.data[:min(len(s.data), spoolHead)]}
	ex, err := c.askSpool(ctx)
	if ex == nil || !c.inCopy() {
		return err
	}
	return c.endCopy(m)
}

// askSpool asks for what is spooled. It gives the exchange where the data is on
// its way to the server, or the server has refused it.
func (c *conn) askSpool(ctx context.Context) (*gate.Exchange, error) {
	s := c.spool
	ex, err := c.submit(ctx, s.command, s.analysis, false, func() (*sql.Analysis, error) { return c.reread(s.text) })
	c.endTaking()
	var n *tally
	if err == nil {
		if n, err = limited(s.analysis, ex); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err != nil {
		r, ok := refuse(s.text, err)
		if !ok {
			return nil, err
		}
		c.refuseQuery(r)
		return nil, nil
	}
	if err := c.carry(s.analysis, ex, s.command, n, true); err != nil {
		return nil, err
	}
	if c.inCopy() && len(s.data) > 0 {
		c.out = binary.BigEndian.AppendUint32(append(c.out, 'd'), uint32(len(s.data)+4))
		at := len(c.out) - 5
		c.out = append(c.out, s.data...)
		if err := ex.Input(c.out[at:]); err != nil {
			return nil, err
		}
	}
	return ex, nil
}

// cancelled is the server's answer to a COPY that is called off while it takes
// data. As there, it comes with the next message.
var cancelled = &refusal{code: "57014", message: "canceling statement due to user request"}

func (c *conn) endTaking() {
	c.spool = nil
	c.mu.Lock()
	c.held = nil
	c.mu.Unlock()
}

// dropSpool ends a COPY that nobody is asked about. The gate writes it down.
func (c *conn) dropSpool(ctx context.Context, r *refusal) error {
	s := c.spool
	c.endTaking()
	ex, err := c.session.Submit(ctx, s.command, nil)
	var denied *gate.Denied
	if err == nil {
		err = ex.Done(ctx, gate.Outcome{State: gate.Failed, Code: r.code})
	}
	if err != nil && !errors.As(err, &denied) {
		return err
	}
	c.refuseQuery(r)
	return nil
}
