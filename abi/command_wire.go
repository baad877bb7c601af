package abi

import "unsafe"

// Symbols are the ids that the guards of a generation asked for, by name: a
// column's name, or an object's parts joined by NUL. nil has none.
type Symbols map[string]uint32

// ObjectKey joins an object's parts to the name under which its symbol stands.
// No PostgreSQL name can hold the NUL between them.
func ObjectKey(b []byte, parts []string) []byte {
	for i, p := range parts {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, p...)
	}
	return b
}

// AppendTo appends the command as a module that asks for those inputs is sent
// it. Equal bytes are what a module cannot tell apart.
func (c *Command) AppendTo(b []byte, in Inputs, sym Symbols) []byte {
	b = AppendUint(b, 1, uint64(c.Phase))
	if in&InputTime != 0 {
		b = AppendUint(b, 2, uint64(c.Time))
	}
	if c.Session != nil && in&(InputSession|InputTask) != 0 {
		var at int
		b, at = begin(b, 3)
		b = end(c.Session.AppendTo(b, in), at)
	}
	if c.Statement != nil {
		var at int
		b, at = begin(b, 4)
		b = end(c.Statement.appendTo(b, in, sym), at)
	}
	if in&InputParams != 0 {
		for i := range c.Params {
			var at int
			b, at = begin(b, 5)
			p := &c.Params[i]
			b = AppendUint(b, 1, uint64(p.Type))
			b = AppendUint(b, 2, bit(p.Binary))
			b = AppendUint(b, 3, bit(p.Null))
			b = end(AppendString(b, 4, p.Value), at)
		}
	}
	if in&InputInput != 0 && c.Input.Kind != InputNone {
		var at int
		b, at = begin(b, 6)
		b = AppendUint(b, 1, uint64(c.Input.Kind))
		b = AppendUint(b, 2, c.Input.Size)
		b = AppendString(b, 3, c.Input.Digest)
		b = end(AppendString(b, 4, c.Input.Head), at)
	}
	return b
}

// AppendTo appends the parts of the session that a module asks for.
func (s *Session) AppendTo(b []byte, in Inputs) []byte {
	if in&InputSession != 0 {
		b = AppendString(b, 1, s.ID)
		b = AppendString(b, 2, s.Issuer)
		b = AppendString(b, 3, s.Subject)
		for _, g := range s.Groups {
			b = AppendElement(b, 4, g)
		}
		b = AppendString(b, 5, s.Address)
	}
	if in&InputTask != 0 {
		b = AppendString(b, 6, s.Task)
		b = AppendString(b, 7, s.Resource)
		b = AppendString(b, 8, s.Login)
	}
	return AppendString(b, 9, s.Protocol)
}

func (s *Statement) appendTo(b []byte, in Inputs, sym Symbols) []byte {
	b = AppendString(b, 1, s.Protocol)
	if in&InputText != 0 {
		b = AppendString(b, 2, s.Text)
		b = AppendString(b, 3, s.Fingerprint)
	}
	if in&InputOperations != 0 {
		for i := range s.Operations {
			var at int
			b, at = begin(b, 4)
			b = end(s.Operations[i].AppendTo(b, sym), at)
		}
	}
	if in&InputOutputs != 0 {
		for i := range s.Outputs {
			var at int
			b, at = begin(b, 5)
			b = end(s.Outputs[i].AppendTo(b), at)
		}
	}
	return AppendString(b, 6, s.Incomplete) // always: a module must never take half for the whole
}

// AppendTo appends the operation, with the ids of its names.
func (o *Operation) AppendTo(b []byte, sym Symbols) []byte {
	b = AppendUint(b, 1, uint64(o.Statement))
	b = AppendString(b, 2, o.Verb)
	b = AppendString(b, 3, o.Kind)
	for _, p := range o.Object {
		b = AppendElement(b, 4, p)
	}
	for i := range o.Columns {
		var at int
		b, at = begin(b, 5)
		c := &o.Columns[i]
		b = AppendString(b, 1, c.Name)
		b = AppendUint(b, 2, uint64(c.Use))
		b = end(AppendUint(b, 3, uint64(sym[c.Name])), at)
	}
	b = AppendString(b, 6, o.Via)
	b = AppendUint(b, 7, uint64(o.Effect))
	b = AppendUint(b, 8, uint64(o.Attrs))
	b = AppendString(b, 9, o.Value)
	if len(sym) > 0 {
		var key [128]byte
		b = AppendUint(b, 10, uint64(sym[string(ObjectKey(key[:0], o.Object))]))
	}
	return b
}

// AppendTo appends the output's lineage.
func (o *Output) AppendTo(b []byte) []byte {
	b = AppendUint(b, 1, uint64(o.Statement))
	b = AppendUint(b, 2, uint64(o.Index))
	b = AppendString(b, 3, o.Name)
	b = appendSources(b, 4, o.Copies)
	b = appendSources(b, 5, o.Computed)
	return AppendUint(b, 6, bit(o.Other))
}

func appendSources(b []byte, num int, list []Source) []byte {
	for i := range list {
		var at int
		b, at = begin(b, num)
		for _, p := range list[i].Relation {
			b = AppendElement(b, 1, p)
		}
		b = AppendString(b, 2, list[i].Column)
		b = end(AppendUint(b, 3, bit(list[i].View)), at)
	}
	return b
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// view gives the bytes as a string without a copy: it is valid as long as they
// are.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// grow lengthens list by one element, keeping what the freed ones had allocated.
func grow[T any](list []T) ([]T, *T) {
	if len(list) < cap(list) {
		list = list[:len(list)+1]
	} else {
		var zero T
		list = append(list, zero)
	}
	return list, &list[len(list)-1]
}

// Decode reads a message into c, which may be used again and again: its slices
// are kept. Strings and bytes alias the message and are valid as long as it is.
func (c *Command) Decode(message []byte) error {
	if c.Session == nil {
		c.Session = new(Session)
	}
	if c.Statement == nil {
		c.Statement = new(Statement)
	}
	s, st := c.Session, c.Statement
	*c = Command{Session: s, Statement: st, Params: c.Params[:0]}
	*s = Session{Groups: s.Groups[:0]}
	*st = Statement{Operations: st.Operations[:0], Outputs: st.Outputs[:0]}
	r := Read(message)
	for r.Next() {
		var err error
		switch r.Num {
		case 1:
			c.Phase = Phase(min(r.Uint, 255))
		case 2:
			c.Time = int64(r.Uint)
		case 3:
			err = s.Decode(r.Bytes)
		case 4:
			err = st.decode(r.Bytes)
		case 5:
			var p *Param
			c.Params, p = grow(c.Params)
			err = p.decode(r.Bytes)
		case 6:
			err = c.Input.decode(r.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return r.Err()
}

func (p *Param) decode(message []byte) error {
	*p = Param{}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			p.Type = uint32(r.Uint)
		case 2:
			p.Binary = r.Uint != 0
		case 3:
			p.Null = r.Uint != 0
		case 4:
			p.Value = r.Bytes
		}
	}
	return r.Err()
}

func (i *Input) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			i.Kind = InputKind(min(r.Uint, 255))
		case 2:
			i.Size = r.Uint
		case 3:
			i.Digest = r.Bytes
		case 4:
			i.Head = r.Bytes
		}
	}
	return r.Err()
}

// Decode reads the session; see (*Command).Decode for what it aliases.
func (s *Session) Decode(message []byte) error {
	*s = Session{Groups: s.Groups[:0]}
	r := Read(message)
	for r.Next() {
		v := view(r.Bytes)
		switch r.Num {
		case 1:
			s.ID = v
		case 2:
			s.Issuer = v
		case 3:
			s.Subject = v
		case 4:
			s.Groups = append(s.Groups, v)
		case 5:
			s.Address = v
		case 6:
			s.Task = v
		case 7:
			s.Resource = v
		case 8:
			s.Login = v
		case 9:
			s.Protocol = v
		}
	}
	return r.Err()
}

func (s *Statement) decode(message []byte) error {
	r := Read(message)
	for r.Next() {
		var err error
		switch r.Num {
		case 1:
			s.Protocol = view(r.Bytes)
		case 2:
			s.Text = view(r.Bytes)
		case 3:
			s.Fingerprint = view(r.Bytes)
		case 4:
			var o *Operation
			s.Operations, o = grow(s.Operations)
			err = o.Decode(r.Bytes)
		case 5:
			var o *Output
			s.Outputs, o = grow(s.Outputs)
			err = o.decode(r.Bytes)
		case 6:
			s.Incomplete = view(r.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return r.Err()
}

// Decode reads the operation; see (*Command).Decode for what it aliases.
func (o *Operation) Decode(message []byte) error {
	*o = Operation{Object: o.Object[:0], Columns: o.Columns[:0]}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			o.Statement = int(r.Uint)
		case 2:
			o.Verb = view(r.Bytes)
		case 3:
			o.Kind = view(r.Bytes)
		case 4:
			o.Object = append(o.Object, view(r.Bytes))
		case 5:
			var c *Column
			o.Columns, c = grow(o.Columns)
			if err := c.decode(r.Bytes); err != nil {
				return err
			}
		case 6:
			o.Via = view(r.Bytes)
		case 7:
			if o.Effect = EffectUnknown; r.Uint <= uint64(EffectWrite) {
				o.Effect = Effect(r.Uint)
			}
		case 8:
			o.Attrs = Attr(r.Uint)
		case 9:
			o.Value = view(r.Bytes)
		case 10:
			o.Symbol = uint32(r.Uint)
		}
	}
	return r.Err()
}

func (c *Column) decode(message []byte) error {
	*c = Column{}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			c.Name = view(r.Bytes)
		case 2:
			c.Use = Use(r.Uint)
		case 3:
			c.Symbol = uint32(r.Uint)
		}
	}
	return r.Err()
}

func (o *Output) decode(message []byte) error {
	*o = Output{Copies: o.Copies[:0], Computed: o.Computed[:0]}
	r := Read(message)
	for r.Next() {
		var err error
		switch r.Num {
		case 1:
			o.Statement = int(r.Uint)
		case 2:
			o.Index = int(r.Uint)
		case 3:
			o.Name = view(r.Bytes)
		case 4:
			var s *Source
			o.Copies, s = grow(o.Copies)
			err = s.decode(r.Bytes)
		case 5:
			var s *Source
			o.Computed, s = grow(o.Computed)
			err = s.decode(r.Bytes)
		case 6:
			o.Other = r.Uint != 0
		}
		if err != nil {
			return err
		}
	}
	return r.Err()
}

func (s *Source) decode(message []byte) error {
	*s = Source{Relation: s.Relation[:0]}
	r := Read(message)
	for r.Next() {
		switch r.Num {
		case 1:
			s.Relation = append(s.Relation, view(r.Bytes))
		case 2:
			s.Column = view(r.Bytes)
		case 3:
			s.View = r.Uint != 0
		}
	}
	return r.Err()
}
