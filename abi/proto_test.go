package abi

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// messages reads abi.proto as far as that file goes: messages and enums of one
// level, fields, comments.
func messages(t *testing.T) protoreflect.MessageDescriptors {
	t.Helper()
	b, err := os.ReadFile("abi.proto")
	if err != nil {
		t.Fatal(err)
	}
	fd := &descriptorpb.FileDescriptorProto{Name: proto.String("abi.proto"), Syntax: proto.String("proto3")}
	enums := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "enum "); ok {
			enums[strings.Fields(name)[0]] = true
		}
	}
	scalar := map[string]descriptorpb.FieldDescriptorProto_Type{"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "bytes": descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		"bool": descriptorpb.FieldDescriptorProto_TYPE_BOOL, "uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32, "uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64, "int64": descriptorpb.FieldDescriptorProto_TYPE_INT64}
	var message *descriptorpb.DescriptorProto
	var enum *descriptorpb.EnumDescriptorProto
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		f := strings.Fields(strings.TrimSuffix(line, ";"))
		switch {
		case line == "" || f[0] == "syntax":
		case f[0] == "package":
			fd.Package = proto.String(f[1])
		case f[0] == "message":
			message, enum = &descriptorpb.DescriptorProto{Name: proto.String(f[1])}, nil
			fd.MessageType = append(fd.MessageType, message)
		case f[0] == "enum":
			enum, message = &descriptorpb.EnumDescriptorProto{Name: proto.String(f[1])}, nil
			fd.EnumType = append(fd.EnumType, enum)
		case line == "}" || f[0] == "reserved":
		case enum != nil:
			v, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatalf("abi.proto:%d: %v", n, err)
			}
			enum.Value = append(enum.Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String(f[0]), Number: proto.Int32(int32(v))})
		default:
			label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
			if f[0] == "repeated" {
				label, f = descriptorpb.FieldDescriptorProto_LABEL_REPEATED, f[1:]
			}
			if len(f) != 4 || f[2] != "=" {
				t.Fatalf("abi.proto:%d: %q", n, line)
			}
			v, err := strconv.Atoi(f[3])
			if err != nil {
				t.Fatalf("abi.proto:%d: %v", n, err)
			}
			field := &descriptorpb.FieldDescriptorProto{Name: proto.String(f[1]), Number: proto.Int32(int32(v)), Label: label.Enum(), JsonName: proto.String(f[1])}
			switch typ, known := scalar[f[0]]; {
			case known:
				field.Type = typ.Enum()
			case enums[f[0]]:
				field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), proto.String("."+fd.GetPackage()+"."+f[0])
			default:
				field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+fd.GetPackage()+"."+f[0])
			}
			message.Field = append(message.Field, field)
		}
	}
	file, err := protodesc.NewFile(fd, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages()
}

// fill sets every field of a message, each to something of its own.
func fill(m protoreflect.Message, next *int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		value := func() protoreflect.Value {
			*next++
			switch f.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(fmt.Sprint("s", *next))
			case protoreflect.BytesKind:
				return protoreflect.ValueOfBytes(fmt.Append(nil, "b", *next))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			case protoreflect.Uint32Kind:
				return protoreflect.ValueOfUint32(uint32(*next))
			case protoreflect.Uint64Kind:
				return protoreflect.ValueOfUint64(uint64(*next) << 33)
			case protoreflect.Int64Kind:
				return protoreflect.ValueOfInt64(int64(*next) << 33)
			case protoreflect.EnumKind:
				known := f.Enum().Values()
				n := known.Get(known.Len() - 1 - *next%(known.Len()-1)).Number()
				if f.Enum().Name() == "Decision" {
					n = 3 // the one whose verdict has a requirement
				}
				return protoreflect.ValueOfEnum(n)
			}
			sub := dynamicpb.NewMessage(f.Message())
			fill(sub, next)
			return protoreflect.ValueOfMessage(sub)
		}
		if f.IsList() {
			list := m.Mutable(f).List()
			list.Append(value())
			list.Append(value())
			continue
		}
		m.Set(f, value())
	}
	if m.Descriptor().Name() == "Batch" { // its columns are of a kind: three rows
		m.Set(fields.ByName("rows"), protoreflect.ValueOfUint32(3))
		columns := m.Get(fields.ByName("columns")).List()
		for i := range columns.Len() {
			c := columns.Get(i).Message()
			of := c.Descriptor().Fields()
			c.Set(of.ByName("valid"), protoreflect.ValueOfBytes([]byte{0b101}))
			c.Set(of.ByName("offsets"), protoreflect.ValueOfBytes([]byte{0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}))
			c.Set(of.ByName("bytes"), protoreflect.ValueOfBytes([]byte("abc")))
		}
	}
}

// codecs decode a message by the codec of this package and encode it again.
func codecs() map[protoreflect.Name]func([]byte) ([]byte, error) {
	return map[protoreflect.Name]func([]byte) ([]byte, error){
		"Command": func(b []byte) ([]byte, error) {
			var c Command
			err := c.Decode(b)
			sym := Symbols{}
			if c.Statement != nil { // a symbol is written where its name has one
				for i := range c.Statement.Operations {
					o := &c.Statement.Operations[i]
					sym[string(ObjectKey(nil, o.Object))] = o.Symbol
					for _, col := range o.Columns {
						sym[col.Name] = col.Symbol
					}
				}
			}
			return c.AppendTo(nil, allInputs, sym), err
		},
		"Session": func(b []byte) ([]byte, error) {
			var s Session
			err := s.Decode(b)
			return s.AppendTo(nil, allInputs), err
		},
		"Verdict":      func(b []byte) ([]byte, error) { var v Verdict; err := v.Decode(b); return v.AppendTo(nil), err },
		"ResultSchema": func(b []byte) ([]byte, error) { var s ResultSchema; err := s.Decode(b); return s.AppendTo(nil), err },
		"MaskPlan":     func(b []byte) ([]byte, error) { var p MaskPlan; err := p.Decode(b); return p.AppendTo(nil), err },
		"Batch":        func(b []byte) ([]byte, error) { var v Batch; err := v.Copy(b); return v.AppendTo(nil), err },
		"Approval": func(b []byte) ([]byte, error) {
			var a Approval
			err := a.Decode(b)
			return a.AppendTo(nil, allInputs), err
		},
		"Configure": func(b []byte) ([]byte, error) { var c Configure; err := c.Decode(b); return c.AppendTo(nil), err },
	}
}

// TestProto holds abi.proto and the codec against each other: a message with
// every field set goes through the codec and comes back with every field, and
// the codec knows no field that is not in the file.
func TestProto(t *testing.T) {
	all := messages(t)
	for name, through := range codecs() {
		d := all.ByName(name)
		if d == nil {
			t.Errorf("%s is not in abi.proto", name)
			continue
		}
		want, next := dynamicpb.NewMessage(d), 0
		fill(want, &next)
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := through(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := dynamicpb.NewMessage(d)
		if err := proto.Unmarshal(again, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v\n got %v\nwant %v", name, err, got, want)
		}
		if !bytes.Equal(b, again) {
			t.Errorf("%s: the bytes are not canonical:\n got %x\nwant %x", name, again, b)
		}
		unknown(t, got)
	}
}

// unknown fails where a message has a field that abi.proto does not.
func unknown(t *testing.T, m protoreflect.Message) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Errorf("%s: the codec writes a field that abi.proto does not have: %x", m.Descriptor().Name(), m.GetUnknown())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				unknown(t, v.List().Get(i).Message())
			}
		default:
			unknown(t, v.Message())
		}
		return true
	})
}

// TestEnums: the numbers of the file are the numbers of the code, and what
// stands one past them is none.
func TestEnums(t *testing.T) {
	d := messages(t)
	values := func(message, field protoreflect.Name) protoreflect.EnumValueDescriptors {
		return d.ByName(message).Fields().ByName(field).Enum().Values()
	}
	for i := range values("Verdict", "decision").Len() {
		v := values("Verdict", "decision").Get(i)
		if want := strings.ToLower(string(v.Name())); want != "decision_unset" && Decision(v.Number()).String() != want {
			t.Errorf("%s is %s", v.Name(), Decision(v.Number()))
		}
	}
	for name, c := range map[string]struct {
		values protoreflect.EnumValueDescriptors
		last   int
	}{
		"Phase": {values("Command", "phase"), int(Execute)}, "Effect": {values("Operation", "effect"), int(EffectWrite)},
		"InputKind": {values("Input", "kind"), int(InputSpooled)}, "MaskKind": {values("Mask", "kind"), int(MaskCustom)}, "Decision": {values("Verdict", "decision"), int(Abstain)},
	} {
		if last := c.values.Get(c.values.Len() - 1); int(last.Number()) != c.last {
			t.Errorf("%s ends with %d in abi.proto, with %d in the code", name, last.Number(), c.last)
		}
	}
}

// vectors are messages that are written down: name, message, bytes.
func vectors(t *testing.T) map[string][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "vectors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]byte{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" {
			continue
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	return out
}

// golden are the messages behind the vectors.
func golden() map[string]any {
	verdict := &Verdict{Decision: Review, Reason: Reason{"c", "m", "cl", "h", "d", "u"},
		Protect: []Protect{{Relation: []string{"public", "c"}, Column: "email", Kind: MaskKeep, Arg: "@", Filter: true, Unlisted: true, Nulls: true}},
		Review:  Requirement{Groups: []string{"dba"}, People: 1, Within: 900, Summary: "s", Justify: true},
		Terms:   Terms{RowsReturned: 1, RowsWritten: 2, OnHold: "keep", Payload: "unseen", Blind: true, Oracle: []string{"a"}},
		Needs:   []string{"n"}, ShowErrors: true, Limits: Limits{1, 2}, CacheFor: 3, Cookie: []byte("k"), Tags: []string{"t"}, Risk: 4}
	return map[string]any{
		"command": sample(), "verdict": verdict, "allow": &Verdict{Decision: Allow}, "deny": &Verdict{Decision: Deny, Reason: Reason{Code: "x.y", Message: "no"}},
		"schema": &ResultSchema{Columns: []ResultColumn{{Name: "email", Type: 25, Relation: []string{"public", "customers"}, Column: "email"}, {Name: "n", Type: 20}}},
		"plan":   &MaskPlan{Kinds: []MaskKind{MaskKeep, MaskPass}, Args: []string{"@", ""}, Default: MaskNull},
		"batch":  sampleBatch(),
		"approval": &Approval{ID: "r1", Session: sample().Session, Cookie: []byte("k"), Met: true,
			Voices: []Voice{{Issuer: "https://idp", Subject: "bob", Groups: []string{"dba"}, Approve: true, Reason: "fine", At: 2}, {Subject: "eve", At: 3}}},
		"configure": &Configure{Config: []byte(`{"tables":["public.orders"]}`), Host: "1.0", Capabilities: []string{"clock"}},
	}
}

// TestWM07Vectors: the bytes are what they were, in both directions. Other
// SDKs are held to the same file.
func TestWM07Vectors(t *testing.T) {
	file, all := vectors(t), golden()
	if len(file) != len(all) {
		t.Errorf("%d vectors, %d messages", len(file), len(all))
	}
	for name, m := range all {
		var b []byte
		switch m := m.(type) {
		case *Command:
			b = m.AppendTo(nil, allInputs, Symbols{"public\x00orders": 7, "status": 9})
		case *Approval:
			b = m.AppendTo(nil, allInputs)
		case interface{ AppendTo([]byte) []byte }:
			b = m.AppendTo(nil)
		}
		if !bytes.Equal(b, file[name]) {
			t.Errorf("%s is now\n%s %x", name, name, b)
		}
		through := codecs()[protoreflect.Name(reflect.TypeOf(m).Elem().Name())]
		if again, err := through(file[name]); err != nil || !bytes.Equal(again, file[name]) {
			t.Errorf("%s: %v\n got %x\nwant %x", name, err, again, file[name])
		}
	}
}

// TestWM07Grease: a field, an enum value or an operation that does not exist yet
// is passed over, or means the most restrictive thing.
func TestWM07Grease(t *testing.T) {
	grease := func(b []byte) []byte { // what a later minor may add: each wire type, small numbers and the largest
		for _, num := range []int{13, 200, 1<<29 - 1} {
			b = AppendUint(b, num, 1<<63)
			b = AppendElement(b, num, "\xff\x00 not a message")
			b = append(appendVarint(b, uint64(num)<<3|wireFixed64), 1, 2, 3, 4, 5, 6, 7, 8)
		}
		return b
	}
	all := messages(t)
	for name, through := range codecs() {
		m, next := dynamicpb.NewMessage(all.ByName(name)), 0
		fill(m, &next)
		var wet func(m protoreflect.Message)
		wet = func(m protoreflect.Message) { // every message in it too
			m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				switch {
				case f.Message() == nil:
				case f.IsList():
					for i := range v.List().Len() {
						wet(v.List().Get(i).Message())
					}
				default:
					wet(v.Message())
				}
				return true
			})
			m.SetUnknown(grease(nil))
		}
		dry, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		wet(m)
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := through(b); err != nil || !bytes.Equal(again, dry) {
			t.Errorf("%s: %v\n got %x\nwant %x", name, err, again, dry)
		}
	}
	for _, n := range []uint64{0, 4, 7, 255, 256, 257, 1 << 32, 1<<64 - 1} {
		var v Verdict
		if err := v.Decode(AppendUint(nil, 1, n)); err != nil || v.Decision.Normal() != Deny {
			t.Errorf("the decision %d is %v, %v", n, v.Decision, err)
		}
		if v.Decode(AppendElement(nil, 3, AppendUint(nil, 3, n|1<<40))) != nil || v.Protect[0].Kind != MaskNull {
			t.Errorf("the mask %d is %v", n|1<<40, v.Protect)
		}
		var o Operation
		if err := o.Decode(AppendUint(nil, 7, max(n, 3))); err != nil || !o.Effect.Writes() {
			t.Errorf("the effect %d is %v", n, o.Effect)
		}
		var c Command
		if err := c.Decode(AppendUint(nil, 1, max(n, 3))); err != nil || c.Phase == Prepare || c.Phase == Execute {
			t.Errorf("the phase %d is %d", n, c.Phase)
		}
	}
}
