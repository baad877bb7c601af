package abi

// Batch is what RESULT_BATCH is given and answers: the cells of the columns
// that a plan calls CUSTOM, column by column, as the native masks left them.
type Batch struct {
	Rows    int
	Columns []BatchColumn

	answer  *Batch
	message []byte // what the columns alias where Copy made them
}

// The bounds of a batch.
const (
	MaxRows    = 1 << 20
	MaxColumns = 4096
)

// BatchColumn is one column of a batch. Cell i is Bytes[Offsets[i]:Offsets[i+1]],
// and NULL where bit i of Valid (byte i/8, from the lowest bit) is not set.
type BatchColumn struct {
	Index   int    // of the column in its result
	Name    string // of the result's column
	Type    uint32 // the protocol's number of its type
	Binary  bool
	Arg     string // of the mask
	Valid   []byte
	Offsets []uint32 // Rows + 1
	Bytes   []byte
}

// Cell gives one cell; ok is false for NULL.
func (c *BatchColumn) Cell(i int) (cell []byte, ok bool) {
	if c.Valid[i/8]&(1<<(i%8)) == 0 {
		return nil, false
	}
	return c.Bytes[c.Offsets[i]:c.Offsets[i+1]], true
}

// Add appends a cell as the next row's. The first call makes room.
func (c *BatchColumn) Add(cell []byte, null bool) {
	if !null {
		c.Bytes = append(c.Bytes, cell...)
	}
	c.End(null)
}

// End makes what has been appended to Bytes since the last cell the next row's
// cell.
func (c *BatchColumn) End(null bool) {
	if len(c.Offsets) == 0 {
		c.Offsets = append(c.Offsets, 0)
	}
	i := len(c.Offsets) - 1
	if i/8 == len(c.Valid) {
		c.Valid = append(c.Valid, 0)
	}
	if null {
		c.Bytes = c.Bytes[:c.Offsets[i]]
	} else {
		c.Valid[i/8] |= 1 << (i % 8)
	}
	c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
}

// Reset empties the column and keeps its room.
func (c *BatchColumn) Reset() {
	c.Valid, c.Offsets, c.Bytes = c.Valid[:0], append(c.Offsets[:0], 0), c.Bytes[:0]
}

// Answer gives an answer to b that has its rows and columns, and no cells yet.
// It is the same with every call, so that its room is used again.
func (b *Batch) Answer() *Batch {
	if b.answer == nil {
		b.answer = &Batch{}
	}
	out := b.answer
	out.Rows, out.Columns = b.Rows, out.Columns[:0]
	for i := range b.Columns {
		var c *BatchColumn
		out.Columns, c = grow(out.Columns)
		from := &b.Columns[i]
		c.Index, c.Name, c.Type, c.Binary, c.Arg = from.Index, from.Name, from.Type, from.Binary, from.Arg
		c.Reset()
	}
	return out
}

// Fill makes every cell NULL that has not been added.
func (b *Batch) Fill() {
	for i := range b.Columns {
		for c := &b.Columns[i]; len(c.Offsets) <= b.Rows; {
			c.End(true)
		}
	}
}

// Fits says whether an answer has the rows, columns, types and formats of what
// was asked, is whole, and at most four times as large.
func (b *Batch) Fits(asked *Batch) bool {
	if b.Rows != asked.Rows || len(b.Columns) != len(asked.Columns) {
		return false
	}
	size, most := 0, 64
	for i := range b.Columns {
		c, a := &b.Columns[i], &asked.Columns[i]
		if c.Index != a.Index || c.Type != a.Type || c.Binary != a.Binary || len(c.Valid) != (b.Rows+7)/8 || len(c.Offsets) != b.Rows+1 || c.Offsets[0] != 0 {
			return false
		}
		for j := range b.Rows {
			if c.Offsets[j] > c.Offsets[j+1] {
				return false
			}
		}
		if int(c.Offsets[b.Rows]) != len(c.Bytes) {
			return false
		}
		size, most = size+len(c.Bytes), most+4*(len(a.Bytes)+a.overhead())
	}
	return size <= most
}

func (c *BatchColumn) overhead() int { return len(c.Valid) + 4*len(c.Offsets) }

// Approval is what APPROVAL is given: how a request stands that the guard's
// REVIEW is a part of. A guard keeps it with ALLOW or ABSTAIN and ends it with
// DENY; it cannot loosen it.
type Approval struct {
	ID      string
	Session *Session
	Cookie  []byte // that the guard's verdict left
	Voices  []Voice
	Met     bool // every requirement is met: it is about to be released
}

// Voice is what one person has said.
type Voice struct {
	Issuer  string
	Subject string
	Groups  []string
	Approve bool
	Reason  string
	At      int64 // Unix time in ns
}
