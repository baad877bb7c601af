package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/sql"
)

// The formats of COPY.
const (
	formatText   = "text"
	formatCSV    = "csv"
	formatBinary = "binary"
)

// copyRows rewrites the CopyData messages of COPY TO STDOUT, of which the server
// sends one for each row (documentation, "COPY Operations" of the protocol, and
// "File Formats" of COPY).
type copyRows struct {
	how    *sql.CopyFormat // nil where nothing is masked
	began  bool            // the header is behind us
	ended  bool            // and so is the trailer
	masked []bool
	cell   []byte
	out    []byte
}

var errCopy = errors.New("COPY data that is not of the form that was asked for")

// copyShape tells the gate the columns of a COPY, which the server does not
// describe: they are those that were judged.
func (c *conn) copyShape(ctx context.Context, e *entry, m []byte) error {
	c.copied.how = nil
	if e.exchange == nil || !e.exchange.WantsSchema() {
		return nil
	}
	i := c.statement(e)
	if e.analysis == nil || i >= len(e.analysis.Parts) || e.analysis.Parts[i].Kind != sql.CopyOut {
		return c.alarm(&gate.Alarm{What: "a COPY came that was not judged as one"})
	}
	s := &abi.ResultSchema{Statement: i}
	now := c.judging()
	outs := e.analysis.Statement.Outputs
	for j := range outs {
		o := &outs[j]
		if o.Statement != i {
			continue
		}
		col := abi.ResultColumn{Name: o.Name, Type: o.Type, Class: now.Class(o.Type)}
		if len(o.Copies) > 0 {
			col.Relation, col.Column = o.Copies[0].Relation, o.Copies[0].Column
		}
		s.Columns = append(s.Columns, col)
	}
	how := &e.analysis.Parts[i].Copy
	body := cursor{b: m[5:]}
	format, n := body.bytes(1), body.uint16()
	if body.bad || n != len(s.Columns) {
		return c.alarm(&gate.Alarm{What: fmt.Sprintf("a COPY has %d columns where %d were judged", n, len(s.Columns))})
	}
	want := 0
	if how.Format == formatBinary {
		want = 1
	}
	same := int(format[0]) == want
	for range n {
		same = same && body.uint16() == want
	}
	if !body.end() || !same {
		return c.alarm(&gate.Alarm{What: "a COPY comes in another format than was judged"})
	}
	if err := c.fix(ctx, e, s); err != nil {
		return err
	}
	c.copied.how, c.copied.began, c.copied.ended = how, false, false
	return nil
}

// copyable refuses a COPY whose columns are not known, where somebody wants to
// know them.
func (c *conn) copyable(ctx context.Context, a *sql.Analysis, ex *gate.Exchange) (*gate.Exchange, error) {
	if !ex.WantsSchema() {
		return ex, nil
	}
	for i := range a.Parts {
		p := &a.Parts[i]
		if p.Kind != sql.CopyOut || p.Copy.Columns > 0 && p.Copy.Columns == outputs(a.Statement, i) && utf8Name(p.Copy.Encoding) && toldNull(&p.Copy) {
			continue
		}
		if err := ex.Done(ctx, gate.Outcome{State: gate.Failed}); err != nil {
			return nil, err
		}
		return nil, &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.copy", Message: "this COPY cannot be masked, and something of it is protected", Hint: "leave out its encoding and NULL, or SELECT it"}}
	}
	return ex, nil
}

// outputs counts what a statement shows.
func outputs(st *abi.Statement, statement int) (n int) {
	for i := range st.Outputs {
		if st.Outputs[i].Statement == statement {
			n++
		}
	}
	return n
}

// toldNull says whether the data tells NULL from every value. In text it does
// for \\N alone, since a value's backslash is doubled: a value that is as another
// string that stands for NULL is written as NULL is.
func toldNull(f *sql.CopyFormat) bool {
	return f.Format != formatText || f.Null == `\N`
}

// utf8Name says whether copy data is in UTF-8, of which alone a mask can make
// sense. Empty is the session's encoding.
func utf8Name(s string) bool {
	return s == "" || strings.EqualFold(s, "UTF8") || strings.EqualFold(s, "UTF-8") || strings.EqualFold(s, "UNICODE")
}

// passCopy is pass for copy data of which something is masked. Header and
// trailer are no rows, and pass as they are.
func (c *conn) passCopy(ctx context.Context, e *entry, r *abi.Result) error {
	run := r.Frames
	for r.Frames = nil; len(run) > 0 && c.stopped == nil; {
		n, rows := 0, 0
		bare := false
		for n < len(run) {
			end, err := messageEnd(run, n, 'd')
			if err != nil {
				return err
			}
			row, err := c.copied.row(run[n+5 : end])
			if err != nil {
				return err
			}
			if !row && n > 0 {
				break
			}
			n = end
			if !row {
				bare = true
				break
			}
			rows++
			c.copied.began = c.copied.began || c.copied.how.Format != formatBinary
			if !c.copied.began { // the header stands before the first row
				break
			}
		}
		part := abi.Result{Frames: run[:n], Rows: rows}
		run = run[n:]
		if bare {
			if err := e.exchange.Result(ctx, &part); err != nil {
				return err
			}
		} else if err := c.pass(ctx, e, &part); err != nil || c.stopped != nil {
			return err
		}
		c.copied.began = true
		c.copied.ended = bare && c.copied.how.Format == formatBinary && part.Frames[n-1] == 0xff
		c.in = append(c.in, part.Frames...)
	}
	return nil
}

// signature begins binary copy data; flags and an extension that is empty
// follow.
const signature = "PGCOPY\n\xff\r\n\x00"

// row says whether a message carries a row; false is a header, a trailer or
// both.
func (r *copyRows) row(b []byte) (bool, error) {
	if r.ended {
		return false, errCopy
	}
	if r.how.Format != formatBinary {
		return r.began || !r.how.Header, nil
	}
	if !r.began {
		n, err := binaryHeader(b)
		if err != nil {
			return false, err
		}
		b = b[n:]
	}
	switch {
	case len(b) == 0 && !r.began:
		return false, nil
	case len(b) == 2 && b[0] == 0xff && b[1] == 0xff: // the trailer
		return false, nil
	}
	return true, nil
}

// binaryHeader gives the length of the header. Flags that it does not know,
// the one for OIDs among them, are refused.
func binaryHeader(b []byte) (int, error) {
	n := len(signature) + 8
	if len(b) < n || string(b[:len(signature)]) != signature || binary.BigEndian.Uint32(b[len(signature):]) != 0 || binary.BigEndian.Uint32(b[n-4:]) != 0 {
		return 0, errCopy
	}
	return n, nil
}

// end takes CopyDone.
func (r *copyRows) end() error {
	if r.how != nil && r.how.Format == formatBinary && r.began && !r.ended {
		return errCopy
	}
	return nil
}

// Rewrite implements mask.Rewriter for messages that carry rows.
func (r *copyRows) Rewrite(dst, run []byte, c mask.Cells) ([]byte, error) {
	if r.how == nil {
		return dst, errCopy
	}
	r.masked = r.masked[:0]
	for i := range c.Columns() {
		r.masked = append(r.masked, c.Masked(i))
	}
	for at := 0; at < len(run); {
		end, err := messageEnd(run, at, 'd')
		if err != nil {
			return dst, err
		}
		head := len(dst)
		dst = append(dst, run[at:at+5]...)
		switch body := run[at+5 : end]; r.how.Format {
		case formatText:
			dst, err = r.text(dst, body, c)
		case formatCSV:
			dst, err = r.csv(dst, body, c)
		case formatBinary:
			dst, err = r.binary(dst, body, c)
		default:
			err = errCopy
		}
		if err != nil {
			return dst, err
		}
		binary.BigEndian.PutUint32(dst[head+1:], uint32(len(dst)-head-1))
		at = end
	}
	return dst, nil
}

// text rewrites a row of the text format: cells between delimiters, with
// backslashes before what would end them.
func (r *copyRows) text(dst, b []byte, c mask.Cells) ([]byte, error) {
	n := len(r.masked)
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return dst, errCopy
	}
	b = b[:len(b)-1]
	for i := range n {
		end := 0
		for end < len(b) && b[end] != r.how.Delimiter {
			if b[end] == '\n' || b[end] == '\r' {
				return dst, errCopy
			}
			if b[end] == '\\' {
				end++
			}
			end++
		}
		if end > len(b) || (end == len(b)) != (i == n-1) {
			return dst, errCopy
		}
		if cell := b[:end]; !r.masked[i] {
			dst = append(dst, cell...)
		} else {
			null := string(cell) == r.how.Null
			if r.cell = r.cell[:0]; !null {
				r.cell = unescape(r.cell, cell)
			}
			if r.out, null = c.Append(r.out[:0], r.cell, i, null, false); null {
				dst = append(dst, r.how.Null...)
			} else {
				dst = r.escape(dst, r.out)
			}
		}
		if i < n-1 {
			dst, b = append(dst, r.how.Delimiter), b[end+1:]
		}
	}
	return append(dst, '\n'), nil
}

// letters are those that COPY writes behind a backslash, by what they stand for.
var letters = [256]byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v', '\\': '\\'}

func unescape(dst, cell []byte) []byte {
	for {
		i := bytes.IndexByte(cell, '\\')
		if i < 0 || i+1 == len(cell) {
			return append(dst, cell...)
		}
		ch := cell[i+1]
		switch ch {
		case 'b':
			ch = '\b'
		case 'f':
			ch = '\f'
		case 'n':
			ch = '\n'
		case 'r':
			ch = '\r'
		case 't':
			ch = '\t'
		case 'v':
			ch = '\v'
		}
		dst, cell = append(append(dst, cell[:i]...), ch), cell[i+2:]
	}
}

func (r *copyRows) escape(dst, cell []byte) []byte {
	from := 0
	for i, ch := range cell {
		letter := letters[ch]
		if letter == 0 && ch == r.how.Delimiter {
			letter = ch
		}
		if letter != 0 {
			dst = append(append(dst, cell[from:i]...), '\\', letter)
			from = i + 1
		}
	}
	return append(dst, cell[from:]...)
}

// csv rewrites a row of the CSV format: cells between delimiters, in quotes
// where they need them. Whether the masked cell has quotes does not depend on
// what it stands for.
func (r *copyRows) csv(dst, b []byte, c mask.Cells) ([]byte, error) {
	n := len(r.masked)
	quote, escape := r.how.Quote, r.how.Escape
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return dst, errCopy
	}
	b = b[:len(b)-1]
	for i := range n {
		end, quoted := 0, len(b) > 0 && b[0] == quote
		r.cell = r.cell[:0]
		if quoted {
			for end = 1; ; end++ {
				if end >= len(b) {
					return dst, errCopy
				}
				ch := b[end]
				if ch == escape && end+1 < len(b) && (b[end+1] == quote || b[end+1] == escape) {
					end++
					ch = b[end]
				} else if ch == quote {
					break
				}
				r.cell = append(r.cell, ch)
			}
			end++
			if end < len(b) && b[end] != r.how.Delimiter {
				return dst, errCopy
			}
		} else {
			for end < len(b) && b[end] != r.how.Delimiter {
				if b[end] == '\n' || b[end] == '\r' || b[end] == quote {
					return dst, errCopy
				}
				end++
			}
			r.cell = append(r.cell, b[:end]...)
		}
		if (end == len(b)) != (i == n-1) {
			return dst, errCopy
		}
		if cell := b[:end]; !r.masked[i] {
			dst = append(dst, cell...)
		} else {
			null := !quoted && string(cell) == r.how.Null
			if r.out, null = c.Append(r.out[:0], r.cell, i, null, false); null {
				dst = append(dst, r.how.Null...)
			} else {
				dst = r.quote(dst, r.out, i < len(r.how.ForceQuote) && r.how.ForceQuote[i], n == 1)
			}
		}
		if i < n-1 {
			dst, b = append(dst, r.how.Delimiter), b[end+1:]
		}
	}
	return append(dst, '\n'), nil
}

func (r *copyRows) quote(dst, cell []byte, always, alone bool) []byte {
	quote, escape := r.how.Quote, r.how.Escape
	if !always && string(cell) != r.how.Null && !(alone && string(cell) == `\.`) &&
		bytes.IndexByte(cell, quote) < 0 && bytes.IndexByte(cell, r.how.Delimiter) < 0 && bytes.IndexByte(cell, '\n') < 0 && bytes.IndexByte(cell, '\r') < 0 {
		return append(dst, cell...)
	}
	dst = append(dst, quote)
	for _, ch := range cell {
		if ch == quote || ch == escape {
			dst = append(dst, escape)
		}
		dst = append(dst, ch)
	}
	return append(dst, quote)
}

// binary rewrites a row of the binary format, which is that of a DataRow. The
// first has the header before it.
func (r *copyRows) binary(dst, b []byte, c mask.Cells) ([]byte, error) {
	if !r.began {
		n, err := binaryHeader(b)
		if err != nil {
			return dst, err
		}
		dst, b = append(dst, b[:n]...), b[n:]
	}
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(r.masked) {
		return dst, errCopy
	}
	dst, b = append(dst, b[:2]...), b[2:]
	for i := range r.masked {
		if len(b) < 4 {
			return dst, errCopy
		}
		size := int32(binary.BigEndian.Uint32(b))
		null := size == -1
		if null {
			size = 0
		}
		if size < 0 || int(size) > len(b)-4 {
			return dst, errCopy
		}
		end := 4 + int(size)
		if !r.masked[i] {
			dst = append(dst, b[:end]...)
		} else {
			var err error
			if dst, err = appendCell(dst, c, b[4:end], i, null, true); err != nil {
				return dst, err
			}
		}
		b = b[end:]
	}
	if len(b) > 0 {
		return dst, errCopy
	}
	return dst, nil
}
