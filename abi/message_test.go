package abi

import (
	"reflect"
	"testing"
)

func sample() *Command {
	return &Command{
		Phase: Execute, Time: 1,
		Session: &Session{ID: "s1", Issuer: "https://idp", Subject: "ada", Groups: []string{"task:x", "dba"}, Task: "x", Resource: "shop", Login: "app", Address: "127.0.0.1:5", Protocol: "postgres"},
		Statement: &Statement{Protocol: "postgres", Text: "update orders set status = 'x' where id = 1", Fingerprint: "f",
			Operations: []Operation{
				{Verb: "update", Kind: KindRelation, Object: []string{"public", "orders"}, Columns: []Column{{Name: "status", Use: UseWritten}}, Effect: EffectWrite, Attrs: HasWhere | WhereKey},
				{Statement: 1, Verb: "select", Kind: KindRelation, Object: []string{"public", "orders"}, Columns: []Column{{Name: "id", Use: UseCondition}}, Via: "view public.v", Effect: EffectRead, Value: "v"},
			},
			Outputs: []Output{{Index: 1, Name: "o", Copies: []Source{{[]string{"public", "orders"}, "id", true, false}}, Computed: []Source{{[]string{"public", "orders"}, "status", false, false}}, Other: true}},
		},
		Params: []Param{{Type: 23, Binary: true, Value: []byte{0, 0, 0, 1}}, {Null: true}},
		Input:  Input{Kind: InputSpooled, Size: 3, Digest: []byte("d"), Head: []byte("abc")},
	}
}

const allInputs = InputSession | InputTask | InputText | InputOperations | InputOutputs | InputParams | InputTime | InputInput

func TestCommandRoundTrip(t *testing.T) {
	want := sample()
	var got Command
	for range 2 { // the second time into what the first left
		if err := got.Decode(want.AppendTo(nil, allInputs, nil)); err != nil {
			t.Fatal(err)
		}
		again := got.AppendTo(nil, allInputs, nil)
		if string(again) != string(want.AppendTo(nil, allInputs, nil)) {
			t.Fatalf("got %+v, want %+v", got.Statement, want.Statement)
		}
	}
	if !reflect.DeepEqual(got.Statement.Outputs, want.Statement.Outputs) || !reflect.DeepEqual(got.Session, want.Session) || !reflect.DeepEqual(got.Input, want.Input) {
		t.Fatalf("got %+v %+v %+v", got.Statement.Outputs, got.Session, got.Input)
	}
}

// TestWM15Projection: what a module did not ask for makes no difference to
// what it is sent.
func TestWM15Projection(t *testing.T) {
	a, b := sample(), sample()
	b.Time, b.Session.Subject, b.Params[0].Value, b.Statement.Text, b.Input.Size = 9, "eve", []byte("other"), "other", 9
	in := InputTask | InputOperations | InputOutputs
	if string(a.AppendTo(nil, in, nil)) != string(b.AppendTo(nil, in, nil)) {
		t.Error("a field that was not asked for is in the message")
	}
	for _, more := range []Inputs{InputTime, InputSession, InputParams, InputText, InputInput} {
		if string(a.AppendTo(nil, in|more, nil)) == string(b.AppendTo(nil, in|more, nil)) {
			t.Errorf("input %b was asked for and is missing", more)
		}
	}
}

func TestSymbolsAreExact(t *testing.T) {
	sym := Symbols{"public\x00orders": 7, "status": 9, "public.orders": 8}
	var got Command
	if err := got.Decode(sample().AppendTo(nil, allInputs, sym)); err != nil {
		t.Fatal(err)
	}
	if o := got.Statement.Operations[0]; o.Symbol != 7 || o.Columns[0].Symbol != 9 {
		t.Errorf("symbols %d %d", o.Symbol, o.Columns[0].Symbol)
	}
	c := sample()
	c.Statement.Operations[0].Object = []string{"public.orders"}
	if err := got.Decode(c.AppendTo(nil, allInputs, sym)); err != nil || got.Statement.Operations[0].Symbol != 8 {
		t.Errorf("a dotted name took another's symbol: %v", err)
	}
}

func TestVerdictRoundTrip(t *testing.T) {
	want := Verdict{Decision: Review, Reason: Reason{"c", "m", "cl", "h", "d", "u"},
		Protect: []Protect{{Relation: []string{"public", "c"}, Column: "email", Kind: MaskKeep, Arg: "@", Filter: true, Unlisted: true, Nulls: true, Pattern: "a(.)", Field: 2, Separator: ":"}},
		Review:  Requirement{Groups: []string{"dba"}, People: 1, Within: 900, Summary: "s", Justify: true},
		Terms:   Terms{RowsReturned: 1, RowsWritten: 2, OnHold: "keep", Payload: "unseen", Blind: true, Oracle: []string{"a"}},
		Needs:   []string{"n"}, ShowErrors: true, Stdin: true, Limits: Limits{1, 2}, CacheFor: 3, Cookie: []byte("k"), Tags: []string{"t"}, Risk: 4}
	var got Verdict
	if err := got.Decode(want.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
	}
}

// TestWM19Forgotten: nothing said is a refusal, and so is nonsense.
func TestWM19Forgotten(t *testing.T) {
	var v Verdict
	if err := v.Decode(nil); err != nil || v.Decision.Normal() != Deny {
		t.Errorf("an empty reply: %v %v", v.Decision, err)
	}
	for _, b := range [][]byte{{8, 77}, {8, 0x81, 2}, {8, 4}, AppendUint(nil, 1, 257), AppendUint(nil, 1, 1<<40|1)} {
		if err := v.Decode(b); err == nil && v.Decision.Normal() != Deny {
			t.Errorf("%x reads as %v", b, v.Decision)
		}
	}
	if err := v.Decode(append(AppendUint(nil, 1, 1), 0x0b)); err == nil || v.Decision.Normal() != Deny {
		t.Error("a reply with a fault behind an ALLOW was taken")
	}
	var p MaskPlan
	if err := p.Decode(nil); err != nil || p.Clean(0) || p.Default != MaskNull {
		t.Error("an empty plan lets something through")
	}
	if err := p.Decode((&MaskPlan{Kinds: []MaskKind{0, 99, MaskPass}, Default: MaskPass}).AppendTo(nil)); err != nil || p.Kinds[0] != MaskNull || p.Kinds[1] != MaskNull || p.Kinds[2] != MaskPass {
		t.Errorf("plan %v %v", p, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().AppendTo(nil, allInputs, nil))
	f.Add((&Approval{ID: "r1", Session: sample().Session, Voices: []Voice{{Subject: "bob", Groups: []string{"dba"}}}, Met: true}).AppendTo(nil, allInputs))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Command
		if c.Decode(b) == nil {
			one := c.AppendTo(nil, allInputs, nil)
			var d Command
			if err := d.Decode(one); err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
		}
		var v Verdict
		if v.Decode(b) != nil && v.Decision != Unset {
			t.Fatal("a failed reply left a decision")
		}
		var p MaskPlan
		var s ResultSchema
		_, _ = p.Decode(b), s.Decode(b)
		var a Approval
		if a.Decode(b) == nil {
			if err := new(Approval).Decode(a.AppendTo(nil, allInputs)); err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
		}
	})
}

func BenchmarkCommandEncode(b *testing.B) {
	c := sample()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = c.AppendTo(buf[:0], allInputs, nil)
	}
}

func BenchmarkCommandDecode(b *testing.B) {
	msg := sample().AppendTo(nil, allInputs, nil)
	var c Command
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Decode(msg); err != nil {
			b.Fatal(err)
		}
	}
}
