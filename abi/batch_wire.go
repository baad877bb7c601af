package abi

import "errors"

// ErrBatch says that a message is well-formed but no batch: too many rows or
// columns, or a column whose bitmap, offsets and bytes do not belong together.
var ErrBatch = errors.New("abi: not a batch")

// AppendTo appends the batch.
func (b *Batch) AppendTo(dst []byte) []byte {
	dst = AppendUint(dst, 1, uint64(b.Rows))
	for i := range b.Columns {
		var at int
		c := &b.Columns[i]
		dst, at = begin(dst, 2)
		dst = AppendUint(dst, 1, uint64(c.Index))
		dst = AppendString(dst, 2, c.Name)
		dst = AppendUint(dst, 3, uint64(c.Type))
		dst = AppendUint(dst, 4, bit(c.Binary))
		dst = AppendString(dst, 5, c.Arg)
		dst = AppendString(dst, 6, c.Valid)
		if len(c.Offsets) > 0 {
			dst = appendVarint(appendVarint(dst, 7<<3|wireBytes), uint64(4*len(c.Offsets)))
			for _, o := range c.Offsets {
				dst = append(dst, byte(o), byte(o>>8), byte(o>>16), byte(o>>24))
			}
		}
		dst = end(AppendString(dst, 8, c.Bytes), at)
	}
	return dst
}

// Decode reads a batch into b, which may be used again and again. Texts,
// bitmaps and bytes alias the message and are valid as long as it is; offsets
// are checked, and so every cell of every row is there. After an error b is
// empty.
func (b *Batch) Decode(message []byte) error {
	b.Rows, b.Columns = 0, b.Columns[:0]
	err := b.decode(message)
	if err != nil {
		b.Rows, b.Columns = 0, b.Columns[:0]
	}
	return err
}

// Copy is Decode for a message that does not last.
func (b *Batch) Copy(message []byte) error {
	if cap(b.message) > 1<<20 { // one huge row does not stay in memory
		b.message = nil
	}
	b.message = append(b.message[:0], message...)
	return b.Decode(b.message)
}

func (b *Batch) decode(message []byte) error {
	rows := uint64(0)
	r := Read(message)
	for r.Next() { // the columns are read by how many rows there are, wherever that stands
		if r.Num == 1 {
			rows = r.Uint
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	if rows > MaxRows {
		return ErrBatch
	}
	b.Rows = int(rows)
	for r = Read(message); r.Next(); {
		if r.Num != 2 {
			continue
		}
		if len(b.Columns) == MaxColumns {
			return ErrBatch
		}
		var c *BatchColumn
		b.Columns, c = grow(b.Columns)
		if err := c.decode(r.Bytes, b.Rows); err != nil {
			return err
		}
	}
	return nil
}

func (c *BatchColumn) decode(message []byte, rows int) error {
	*c = BatchColumn{Offsets: c.Offsets[:0]}
	var offsets []byte
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			c.Index = int(min(r.Uint, 1<<31-1))
		case 2:
			c.Name = view(r.Bytes)
		case 3:
			c.Type = clamp(r.Uint)
		case 4:
			c.Binary = r.Uint != 0
		case 5:
			c.Arg = view(r.Bytes)
		case 6:
			c.Valid = r.Bytes
		case 7:
			offsets = r.Bytes
		case 8:
			c.Bytes = r.Bytes
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	if len(c.Valid) != (rows+7)/8 || len(offsets) != 4*(rows+1) {
		return ErrBatch
	}
	if cap(c.Offsets) <= rows {
		c.Offsets = make([]uint32, 0, rows+1)
	}
	c.Offsets = c.Offsets[:rows+1]
	last := uint32(0)
	for i := range c.Offsets {
		o := uint32(offsets[4*i]) | uint32(offsets[4*i+1])<<8 | uint32(offsets[4*i+2])<<16 | uint32(offsets[4*i+3])<<24
		if o < last {
			return ErrBatch
		}
		c.Offsets[i], last = o, o
	}
	if c.Offsets[0] != 0 || int64(last) != int64(len(c.Bytes)) {
		return ErrBatch
	}
	return nil
}

// AppendTo appends how a request stands, with the parts of the session that a
// module asks for.
func (a *Approval) AppendTo(b []byte, in Inputs) []byte {
	var at int
	b = AppendString(b, 1, a.ID)
	if a.Session != nil {
		b, at = begin(b, 2)
		b = end(a.Session.AppendTo(b, in), at)
	}
	b = AppendString(b, 3, a.Cookie)
	for i := range a.Voices {
		v := &a.Voices[i]
		b, at = begin(b, 4)
		b = AppendString(b, 1, v.Issuer)
		b = AppendString(b, 2, v.Subject)
		for _, g := range v.Groups {
			b = AppendElement(b, 3, g)
		}
		b = AppendUint(b, 4, bit(v.Approve))
		b = AppendString(b, 5, v.Reason)
		b = end(AppendUint(b, 6, uint64(v.At)), at)
	}
	return AppendUint(b, 5, bit(a.Met))
}

// Decode reads how a request stands into a, which may be used again and again;
// what it holds aliases the message.
func (a *Approval) Decode(message []byte) error {
	s := a.Session
	if s == nil {
		s = new(Session)
	}
	*s = Session{Groups: s.Groups[:0]}
	*a = Approval{Session: s, Voices: a.Voices[:0]}
	r := Read(message)
	for r.Next() {
		var err error
		switch r.Num {
		case 1:
			a.ID = view(r.Bytes)
		case 2:
			err = s.Decode(r.Bytes)
		case 3:
			a.Cookie = r.Bytes
		case 4:
			var v *Voice
			a.Voices, v = grow(a.Voices)
			err = v.decode(r.Bytes)
		case 5:
			a.Met = r.Uint != 0
		}
		if err != nil {
			return err
		}
	}
	return r.Err()
}

func (v *Voice) decode(message []byte) error {
	*v = Voice{Groups: v.Groups[:0]}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			v.Issuer = view(r.Bytes)
		case 2:
			v.Subject = view(r.Bytes)
		case 3:
			v.Groups = append(v.Groups, view(r.Bytes))
		case 4:
			v.Approve = r.Uint != 0
		case 5:
			v.Reason = view(r.Bytes)
		case 6:
			v.At = int64(r.Uint)
		}
	}
	return r.Err()
}
