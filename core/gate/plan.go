package gate

import (
	"bytes"
	"context"
	"errors"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// Plan is what happens to the columns of one result. Only Schema makes one. One
// session uses it, for one run of rows at a time.
type Plan struct {
	verdict *abi.Verdict // under which it was made
	columns []planned
	masks   int // how many columns are masked
	batches []*batch
	replay  bool // the batches are answered: their cells are put in
	scratch []byte
}

// Clean says whether it masks nothing, as no plan does.
func (p *Plan) Clean() bool { return p == nil || p.masks == 0 }

// planned is one column of a result.
type planned struct {
	name   string
	typ    uint32
	source string    // whose mask it is, for the record
	label  string    // what masks it, for the record
	native bool      // rule masks it
	rule   mask.Rule //
	op     *mask.Op
	custom Guard // masks what the native mask leaves
	arg    string
	batch  *batch
	in     int // which column of the batch
	cells  uint64
}

// batch is what one guard masks itself.
type batch struct {
	guard  Guard
	asked  abi.Batch
	answer *abi.Batch
	next   []int // the row whose cell comes next, by column
}

func (c *planned) masked() bool { return c.native || c.custom != nil }

func (c *planned) mask(r mask.Rule, guard Guard, source string) {
	if c.source == "" {
		c.source = source
	}
	if r.Kind == abi.MaskCustom && guard != nil && (c.custom == nil || c.custom == guard && c.arg == r.Arg) {
		c.custom, c.arg = guard, r.Arg
		return
	}
	if r.Kind == abi.MaskCustom { // of two masks that differ neither shows anything
		r = mask.Rule{Kind: abi.MaskNull}
	}
	if c.native {
		r = mask.Join(c.rule, r)
	}
	c.native, c.rule = true, r
}

// add joins what a guard says of a result: it can only add. What it leaves
// unset is NULL, and so is everything where it does not fit the result.
func (p *Plan) add(said *abi.MaskPlan, guard Guard, schema *abi.ResultSchema) {
	for i := range p.columns {
		kind, arg := abi.MaskNull, ""
		switch {
		case said == nil || len(said.Kinds) != len(p.columns):
		case schema.Columns[i].Relation == nil && said.Default != abi.MaskPass:
			kind = said.Default
		default:
			if kind = said.Kinds[i]; i < len(said.Args) {
				arg = said.Args[i]
			}
		}
		if kind == abi.MaskPass {
			continue
		}
		if kind == abi.MaskUnset || kind > abi.MaskCustom {
			kind = abi.MaskNull
		}
		p.columns[i].mask(mask.Rule{Kind: kind, Arg: arg}, guard, "the result's "+p.columns[i].name)
	}
}

func (p *Plan) compile(schema *abi.ResultSchema, keys mask.Keys) {
	for i := range p.columns {
		c := &p.columns[i]
		if !c.masked() {
			continue
		}
		p.masks++
		c.label = c.rule.String()
		if c.native {
			c.op = mask.Compile(c.rule, schema.Columns[i].Class, keys)
		}
		if c.custom == nil || c.native && c.rule.Kind == abi.MaskNull && !c.rule.Nulls {
			c.custom = nil // nothing is left to mask
			continue
		}
		c.label = "custom (" + c.custom.Name() + ")"
		for _, b := range p.batches {
			if b.guard == c.custom {
				c.batch = b
			}
		}
		if c.batch == nil {
			c.batch = &batch{guard: c.custom}
			p.batches = append(p.batches, c.batch)
		}
		c.in = len(c.batch.asked.Columns)
		c.batch.asked.Columns = append(c.batch.asked.Columns, abi.BatchColumn{Index: i, Name: c.name, Type: c.typ, Arg: c.arg})
		c.batch.next = append(c.batch.next, 0)
	}
}

// batch has a guard mask cells itself.
func (e *Exchange) batch(ctx context.Context, guard Guard, asked *abi.Batch) (*abi.Batch, error) {
	answer, err := guard.ResultBatch(ctx, e.s.abi, asked)
	if err == nil && (answer == nil || !answer.Fits(asked) || !texts(answer)) {
		err = errors.New("what it answered is not what it was asked")
	}
	if err != nil {
		return nil, errBatch(guard, err)
	}
	return answer, nil
}

// errBatch ends an answer whose cells a guard could not mask.
func errBatch(guard Guard, err error) error {
	return &Denied{Decision: abi.Deny, Guard: guard.Name(), Reason: abi.Reason{Code: "gate.guard-failed", Message: "the guard " + quote(guard.Name()) + " failed to mask the result, and what cannot be masked is not shown", Detail: err.Error()}}
}

// maxScratch is how much room a plan keeps from one run to the next, in bytes.
const maxScratch = 256 << 10

// rewrite masks a run of rows. Columns of a guard's own are gathered first, and
// put in on a second way through.
func (p *Plan) rewrite(ctx context.Context, e *Exchange, r *abi.Result, rw mask.Rewriter) error {
	var err error
	if p.replay = false; cap(p.scratch) > maxScratch {
		p.scratch = nil
	}
	for i := range p.columns {
		p.columns[i].cells = 0
	}
	for _, b := range p.batches {
		b.asked.Rows = r.Rows
		for i := range b.asked.Columns {
			b.asked.Columns[i].Reset()
			b.next[i] = 0
		}
	}
	if len(p.batches) > 0 {
		if p.scratch, err = rw.Rewrite(p.scratch[:0], r.Frames, p); err != nil {
			return err
		}
		for _, b := range p.batches {
			if b.answer, err = e.batch(ctx, b.guard, &b.asked); err != nil {
				return err
			}
		}
		p.replay = true
		for i := range p.columns {
			p.columns[i].cells = 0
		}
	}
	if p.scratch, err = rw.Rewrite(p.scratch[:0], r.Frames, p); err != nil {
		return err
	}
	r.Frames = p.scratch
	for i := range p.columns {
		if c := &p.columns[i]; c.masked() {
			e.count(c)
		}
	}
	return nil
}

// texts says whether what stands as text is text: a NUL or half a character
// would be read as something else.
func texts(b *abi.Batch) bool {
	for i := range b.Columns {
		c := &b.Columns[i]
		for j := 0; !c.Binary && j < b.Rows; j++ {
			if cell, ok := c.Cell(j); ok && (!utf8.Valid(cell) || bytes.IndexByte(cell, 0) >= 0) {
				return false
			}
		}
	}
	return true
}

// Columns implements mask.Cells.
func (p *Plan) Columns() int { return len(p.columns) }

// Masked implements mask.Cells.
func (p *Plan) Masked(i int) bool { return p.columns[i].masked() }

// Append implements mask.Cells.
func (p *Plan) Append(dst, cell []byte, i int, null, binary bool) ([]byte, bool) {
	c := &p.columns[i]
	c.cells++
	if c.batch == nil {
		return c.op.Append(dst, cell, null, binary)
	}
	if p.replay {
		row := c.batch.next[c.in]
		c.batch.next[c.in]++
		cell, ok := c.batch.answer.Columns[c.in].Cell(row)
		return append(dst, cell...), !ok
	}
	ask := &c.batch.asked.Columns[c.in]
	ask.Binary = binary
	if c.op != nil {
		at := len(dst)
		dst, null = c.op.Append(dst, cell, null, binary)
		ask.Add(dst[at:], null)
		return dst[:at], true
	}
	ask.Add(cell, null)
	return dst, true
}
