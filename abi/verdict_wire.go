package abi

import "errors"

// ErrVerdict says that a reply is well-formed but says something that no
// verdict may: a cookie over 4 KiB, a text that is too long, or too many of
// something.
var ErrVerdict = errors.New("abi: not a verdict")

// The bounds of a verdict, in bytes and entries.
const (
	MaxCookie = 4 << 10
	MaxReason = 8 << 10
	MaxList   = 4096
	maxParts  = 16 // of a relation's name
)

// AppendTo appends the verdict.
func (v *Verdict) AppendTo(b []byte) []byte {
	var at int
	b = AppendUint(b, 1, uint64(v.Decision))
	if v.Reason != (Reason{}) {
		b, at = begin(b, 2)
		b = AppendString(b, 1, v.Reason.Code)
		b = AppendString(b, 2, v.Reason.Message)
		b = AppendString(b, 3, v.Reason.Closest)
		b = AppendString(b, 4, v.Reason.Hint)
		b = AppendString(b, 5, v.Reason.Detail)
		b = end(AppendString(b, 6, v.Reason.URL), at)
	}
	for i := range v.Protect {
		p := &v.Protect[i]
		b, at = begin(b, 3)
		for _, part := range p.Relation {
			b = AppendElement(b, 1, part)
		}
		b = AppendString(b, 2, p.Column)
		b = AppendUint(b, 3, uint64(p.Kind))
		b = AppendString(b, 4, p.Arg)
		b = AppendUint(b, 5, bit(p.Filter))
		b = AppendUint(b, 6, bit(p.Unlisted))
		b = AppendUint(b, 7, bit(p.Nulls))
		b = AppendString(b, 8, p.Pattern)
		b = AppendUint(b, 9, uint64(p.Field))
		b = end(AppendString(b, 10, p.Separator), at)
	}
	if v.Decision == Review {
		b, at = begin(b, 4)
		for _, g := range v.Review.Groups {
			b = AppendElement(b, 1, g)
		}
		b = AppendUint(b, 2, uint64(v.Review.People))
		b = AppendUint(b, 3, uint64(v.Review.Within))
		b = AppendString(b, 4, v.Review.Summary)
		b = end(AppendUint(b, 5, bit(v.Review.Justify)), at)
	}
	b, at = begin(b, 5)
	b = AppendUint(b, 1, v.Terms.RowsReturned)
	b = AppendUint(b, 2, v.Terms.RowsWritten)
	b = AppendString(b, 3, v.Terms.OnHold)
	b = AppendString(b, 4, v.Terms.Payload)
	b = AppendUint(b, 5, bit(v.Terms.Blind))
	for _, o := range v.Terms.Oracle {
		b = AppendElement(b, 6, o)
	}
	b = end(b, at)
	for _, n := range v.Needs {
		b = AppendElement(b, 6, n)
	}
	b = AppendUint(b, 7, bit(v.ShowErrors))
	b, at = begin(b, 8)
	b = AppendUint(b, 1, v.Limits.Bytes)
	b = end(AppendUint(b, 2, uint64(v.Limits.StatementTimeout)), at)
	b = AppendUint(b, 9, uint64(v.CacheFor))
	b = AppendString(b, 10, v.Cookie)
	for _, t := range v.Tags {
		b = AppendElement(b, 11, t)
	}
	b = AppendUint(b, 12, uint64(v.Risk))
	return AppendUint(b, 13, bit(v.Stdin))
}

// Decode reads a verdict, copying what it keeps. A missing decision stays
// Unset, an unknown one becomes Deny; a malformed message or one over the
// bounds is an error, and then v is the zero Verdict, which refuses.
func (v *Verdict) Decode(message []byte) error {
	*v = Verdict{}
	if err := v.decode(message); err != nil {
		*v = Verdict{}
		return err
	}
	return nil
}

func (v *Verdict) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		var err error
		switch r.Num {
		case 1:
			v.Decision = Deny
			if r.Uint <= 255 {
				v.Decision = Decision(r.Uint).Normal()
			}
		case 2:
			err = v.Reason.decode(r.Bytes)
		case 3:
			var p Protect
			err = p.decode(r.Bytes)
			v.Protect = append(v.Protect, p)
		case 4:
			err = v.Review.decode(r.Bytes)
		case 5:
			err = v.Terms.decode(r.Bytes)
		case 6:
			v.Needs = append(v.Needs, string(r.Bytes))
		case 7:
			v.ShowErrors = r.Uint != 0
		case 8:
			l := Read(r.Bytes)
			for l.Next() {
				switch l.Num {
				case 1:
					v.Limits.Bytes = l.Uint
				case 2:
					v.Limits.StatementTimeout = clamp(l.Uint)
				}
			}
			err = l.Err()
		case 9:
			v.CacheFor = clamp(r.Uint)
		case 10:
			v.Cookie = append([]byte(nil), r.Bytes...)
		case 11:
			v.Tags = append(v.Tags, string(r.Bytes))
		case 12:
			v.Risk = clamp(r.Uint)
		case 13:
			v.Stdin = r.Uint != 0
		}
		if err != nil {
			return err
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	for _, n := range [...]int{len(v.Protect), len(v.Needs), len(v.Tags), len(v.Review.Groups), len(v.Terms.Oracle)} {
		if n > MaxList {
			return ErrVerdict
		}
	}
	if len(v.Cookie) > MaxCookie {
		return ErrVerdict
	}
	return nil
}

// clamp reads a number of 32 bits; one that is larger is the largest.
func clamp(v uint64) uint32 { return uint32(min(v, 1<<32-1)) }

func (s *Reason) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		if len(r.Bytes) > MaxReason {
			return ErrVerdict
		}
		v := string(r.Bytes)
		switch r.Num {
		case 1:
			s.Code = v
		case 2:
			s.Message = v
		case 3:
			s.Closest = v
		case 4:
			s.Hint = v
		case 5:
			s.Detail = v
		case 6:
			s.URL = v
		}
	}
	return r.Err()
}

func (p *Protect) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			if len(p.Relation) == maxParts {
				return ErrVerdict
			}
			p.Relation = append(p.Relation, string(r.Bytes))
		case 2:
			p.Column = string(r.Bytes)
		case 3:
			p.Kind = maskKind(r.Uint)
		case 4:
			p.Arg = string(r.Bytes)
		case 5:
			p.Filter = r.Uint != 0
		case 6:
			p.Unlisted = r.Uint != 0
		case 7:
			p.Nulls = r.Uint != 0
		case 8:
			p.Pattern = string(r.Bytes)
		case 9:
			p.Field = clamp(r.Uint)
		case 10:
			p.Separator = string(r.Bytes)
		}
	}
	return r.Err()
}

func maskKind(v uint64) MaskKind {
	if v == 0 || v > uint64(MaskCustom) {
		return MaskNull
	}
	return MaskKind(v)
}

func (w *Requirement) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			w.Groups = append(w.Groups, string(r.Bytes))
		case 2:
			w.People = clamp(r.Uint)
		case 3:
			w.Within = clamp(r.Uint)
		case 4:
			w.Summary = string(r.Bytes)
		case 5:
			w.Justify = r.Uint != 0
		}
	}
	return r.Err()
}

func (t *Terms) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			t.RowsReturned = r.Uint
		case 2:
			t.RowsWritten = r.Uint
		case 3:
			t.OnHold = string(r.Bytes)
		case 4:
			t.Payload = string(r.Bytes)
		case 5:
			t.Blind = r.Uint != 0
		case 6:
			t.Oracle = append(t.Oracle, string(r.Bytes))
		}
	}
	return r.Err()
}

// AppendTo appends the columns of a result.
func (s *ResultSchema) AppendTo(b []byte) []byte {
	for i := range s.Columns {
		var at int
		c := &s.Columns[i]
		b, at = begin(b, 1)
		b = AppendString(b, 1, c.Name)
		b = AppendUint(b, 2, uint64(c.Type))
		for _, p := range c.Relation {
			b = AppendElement(b, 3, p)
		}
		b = end(AppendString(b, 4, c.Column), at)
	}
	return b
}

// Decode reads the columns of a result; strings alias the message.
func (s *ResultSchema) Decode(message []byte) error {
	s.Columns = s.Columns[:0]
	r := Read(message)
	for r.Next() {
		if r.Num != 1 {
			continue
		}
		var c *ResultColumn
		s.Columns, c = grow(s.Columns)
		*c = ResultColumn{Relation: c.Relation[:0]}
		f := Read(r.Bytes)
		for f.Next() {
			switch f.Num {
			case 1:
				c.Name = view(f.Bytes)
			case 2:
				c.Type = uint32(f.Uint)
			case 3:
				c.Relation = append(c.Relation, view(f.Bytes))
			case 4:
				c.Column = view(f.Bytes)
			}
		}
		if f.Err() != nil {
			return f.Err()
		}
	}
	return r.Err()
}

// AppendTo appends the plan.
func (p *MaskPlan) AppendTo(b []byte) []byte {
	for i, k := range p.Kinds {
		var at int
		b, at = begin(b, 1)
		b = AppendUint(b, 1, uint64(k))
		if i < len(p.Args) {
			b = AppendString(b, 2, p.Args[i])
		}
		b = end(b, at)
	}
	return AppendUint(b, 2, uint64(p.Default))
}

// Decode reads a plan; unset and unknown kinds become MaskNull.
func (p *MaskPlan) Decode(message []byte) error {
	*p = MaskPlan{Default: MaskNull}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			kind, arg := MaskNull, ""
			f := Read(r.Bytes)
			for f.Next() {
				switch f.Num {
				case 1:
					kind = maskKind(f.Uint)
				case 2:
					arg = string(f.Bytes)
				}
			}
			err := f.Err()
			if len(p.Kinds) == MaxColumns || len(arg) > MaxReason {
				err = ErrVerdict
			}
			if err != nil {
				*p = MaskPlan{Default: MaskNull}
				return err
			}
			p.Kinds, p.Args = append(p.Kinds, kind), append(p.Args, arg)
		case 2:
			p.Default = maskKind(r.Uint)
		}
	}
	if r.Err() != nil {
		*p = MaskPlan{Default: MaskNull}
	}
	return r.Err()
}

// AppendTo appends what a module is configured with.
func (c *Configure) AppendTo(b []byte) []byte {
	b = AppendString(b, 1, c.Config)
	b = AppendString(b, 2, c.Host)
	for _, k := range c.Capabilities {
		b = AppendElement(b, 3, k)
	}
	return b
}

// Decode reads what a module is configured with; it aliases the message.
func (c *Configure) Decode(message []byte) error {
	*c = Configure{}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			c.Config = r.Bytes
		case 2:
			c.Host = view(r.Bytes)
		case 3:
			c.Capabilities = append(c.Capabilities, view(r.Bytes))
		}
	}
	return r.Err()
}
