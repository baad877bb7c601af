package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
)

// maxRow bounds a row that has to be whole before it can be masked, in bytes.
const maxRow = 64 << 20

// dataRows rewrites DataRow messages ("Message Formats"): the number of
// columns, then each one's length, -1 for NULL, and bytes.
type dataRows struct {
	formats []byte // as Bind has them, two bytes each: none, one for all, or one a column
	masked  []bool
}

// Rewrite implements mask.Rewriter. What is not masked is copied as it is, from
// one masked cell to the next in one go.
func (d *dataRows) Rewrite(dst, run []byte, c mask.Cells) ([]byte, error) {
	n := c.Columns()
	if err := d.begin(n, c); err != nil {
		return dst, err
	}
	from := 0 // what is before it is in dst
	for at := 0; at < len(run); {
		end, err := messageEnd(run, at, 'D')
		if err != nil {
			return dst, err
		}
		if end-at < 7 || int(binary.BigEndian.Uint16(run[at+5:])) != n {
			return dst, errors.New("a row with another number of columns than its result")
		}
		row := len(dst) + at - from // where it is going to begin
		p := at + 7
		for i := range n {
			if end-p < 4 {
				return dst, errRow
			}
			size := int32(binary.BigEndian.Uint32(run[p:]))
			null := size == -1
			if null {
				size = 0
			}
			if size < 0 || int(size) > end-p-4 {
				return dst, errRow
			}
			next := p + 4 + int(size)
			if d.masked[i] {
				dst = append(dst, run[from:p]...)
				if dst, err = appendCell(dst, c, run[p+4:next], i, null, d.binary(i)); err != nil {
					return dst, err
				}
				from = next
			}
			p = next
		}
		if p != end {
			return dst, errRow
		}
		if from > at {
			binary.BigEndian.PutUint32(dst[row+1:], uint32(len(dst)-row+end-from-1))
		}
		at = end
	}
	return append(dst, run[from:]...), nil
}

var errRow = errors.New("a row whose cells are longer or shorter than it is")

// messageEnd is where a message ends that begins at a place of a run.
func messageEnd(run []byte, at int, kind byte) (int, error) {
	if len(run)-at < 5 || run[at] != kind {
		return 0, unasked(run[at])
	}
	size := int(binary.BigEndian.Uint32(run[at+1:])) + 1
	if size < 5 || size > len(run)-at {
		return 0, errRow
	}
	return at + size, nil
}

// appendCell appends a length and what stands in a cell's place.
func appendCell(dst []byte, c mask.Cells, cell []byte, i int, null, inBinary bool) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0xff, 0xff, 0xff, 0xff)
	dst, null = c.Append(dst, cell, i, null, inBinary)
	size := len(dst) - at - 4
	switch {
	case null:
		return dst[:at+4], nil
	case size < 0 || size > maxRow:
		return dst, errors.New("a masked cell that is too large")
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(size))
	return dst, nil
}

func (d *dataRows) begin(n int, c mask.Cells) error {
	if k := len(d.formats) / 2; k > 1 && k != n {
		return fmt.Errorf("%d formats for %d columns", k, n)
	}
	d.masked = d.masked[:0]
	for i := range n {
		d.masked = append(d.masked, c.Masked(i))
	}
	return nil
}

func (d *dataRows) binary(i int) bool {
	switch len(d.formats) {
	case 0:
		return false
	case 2:
		return d.formats[1] == 1
	}
	return d.formats[2*i+1] == 1
}

var allBinary = []byte{0, 1}

// keepFormats keeps a Bind's formats, which point into a buffer that is read
// into next. The usual ones need no copy.
func keepFormats(formats []byte) []byte {
	ones := 0
	for i := 0; i+1 < len(formats); i += 2 {
		if formats[i] == 0 && formats[i+1] == 1 {
			ones++
		} else if formats[i] != 0 || formats[i+1] != 0 {
			return append([]byte(nil), formats...)
		}
	}
	switch ones {
	case 0:
		return nil
	case len(formats) / 2:
		return allBinary
	}
	return append([]byte(nil), formats...)
}

// shape tells the gate the columns of a result before its first row.
func (c *conn) shape(ctx context.Context, e *entry, m []byte) error {
	if e.kind == 'Q' {
		c.answered = c.answered[:0]
	}
	if e.exchange == nil || !e.exchange.WantsSchema() {
		return nil
	}
	if e.kind == 'D' && e.exchange.Fixed() != nil {
		return nil
	}
	var d pgproto3.RowDescription
	if err := d.Decode(m[5:]); err != nil {
		return fmt.Errorf("postgres: %w: %w", errUpstream, err)
	}
	s := &abi.ResultSchema{Statement: c.statement(e), Columns: make([]abi.ResultColumn, len(d.Fields))}
	now := c.judging()
	for i, f := range d.Fields {
		s.Columns[i] = abi.ResultColumn{Name: string(f.Name), Type: f.DataTypeOID, Class: now.Class(f.DataTypeOID)}
		s.Columns[i].Relation, s.Columns[i].Column = c.origin(f.TableOID, f.TableAttributeNumber)
		if e.kind == 'Q' { // of a BINARY cursor's FETCH the server says so here
			c.answered = binary.BigEndian.AppendUint16(c.answered, uint16(f.Format))
		}
	}
	err := c.fix(ctx, e, s)
	if err == nil && e.kind == 'D' && e.portal.refused == nil {
		e.portal.statement.plan.Store(e.exchange.Fixed())
	}
	return err
}

// statement is which statement of its text the first promise is at.
func (c *conn) statement(e *entry) int {
	if e.kind == 'Q' {
		return c.part
	}
	return 0
}

// fix has the gate decide what happens to a result. Where it may not be shown,
// its rows are dropped and the refusal stands where they would end.
func (c *conn) fix(ctx context.Context, e *entry, s *abi.ResultSchema) error {
	err := e.exchange.Schema(ctx, e.command, s)
	if err == nil {
		return nil
	}
	r, ok := refuse("", err)
	switch {
	case !ok:
		return c.alarm(err)
	case e.portal != nil:
		e.portal.refused = r
	default:
		c.stopped = r
	}
	return nil
}

// alarm tells the operator of what must not be. The session ends, and its
// client is told no more than that.
func (c *conn) alarm(err error) error {
	var a *gate.Alarm
	if errors.As(err, &a) {
		c.p.log(c.session.ID(), "alarm", a)
	}
	return err
}

// masks says whether a row of the first promise must be whole before it may go
// on. Rows whose columns nobody has told the gate of are an alarm.
func (c *conn) masks(e *entry) (bool, error) {
	if e.portal != nil && e.portal.refused != nil && c.stopped == nil {
		c.stopped = e.portal.refused
	}
	if c.stopped != nil {
		return false, nil
	}
	plan := e.exchange.Fixed()
	if plan == nil && e.exchange.WantsSchema() {
		return false, c.alarm(&gate.Alarm{What: "rows came before the columns that they have"})
	}
	return !plan.Clean(), nil
}

// pass gives a run of an answer to the gate, which leaves in it what the client
// may see. Over a limit, or where it cannot be masked, the rest of the answer is
// dropped and ends with the refusal.
func (c *conn) pass(ctx context.Context, e *entry, r *abi.Result) error {
	if c.stopped != nil {
		return nil
	}
	if c.rewrite.formats = c.answered; e.kind == 'E' {
		c.rewrite.formats = e.portal.formats
	}
	var rw mask.Rewriter = &c.rewrite
	if c.shaped == 'H' {
		rw = &c.copied
	}
	err := e.exchange.Rows(ctx, r, rw)
	if err == nil {
		return nil
	}
	refusal, ok := refuse("", err)
	if !ok {
		return c.alarm(err)
	}
	c.stopped = refusal
	return nil
}
