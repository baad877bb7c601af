package gate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

var users = []string{"public", "users"}

func read(cols ...abi.Column) abi.Operation {
	return abi.Operation{Verb: "select", Kind: abi.KindRelation, Object: users, Effect: abi.EffectRead, Columns: cols}
}

func copied(index int, copies ...abi.Source) abi.Output {
	return abi.Output{Index: index, Copies: copies}
}

func ssn(kind abi.MaskKind, arg string) []abi.Protect {
	return []abi.Protect{{Relation: users, Column: "ssn", Kind: kind, Arg: arg}}
}

// found is ssn with a filter.
func found(kind abi.MaskKind, arg string) []abi.Protect {
	list := ssn(kind, arg)
	list[0].Filter = true
	return list
}

func compared(filter bool) abi.Column {
	return abi.Column{Name: "ssn", Use: abi.UseCopied | abi.UseCondition, Filter: filter}
}

// TestProtect derives what protects a statement from what guards say: what is
// masked, and which uses are refused.
func TestProtect(t *testing.T) {
	from := abi.Source{Relation: users, Column: "ssn"}
	other := abi.Source{Relation: users, Column: "name"}
	for name, c := range map[string]struct {
		st      abi.Statement
		protect []abi.Protect
		terms   []string
		refused string // part of the message
		masked  string
	}{
		"a copy":              {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCopied})}, Outputs: []abi.Output{copied(1, from)}}, ssn(abi.MaskNull, ""), nil, "", "1 null"},
		"nothing protected":   {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCondition})}}, nil, nil, "", ""},
		"another column":      {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "name", Use: abi.UseComputed})}, Outputs: []abi.Output{copied(0, other)}}, ssn(abi.MaskNull, ""), nil, "", ""},
		"computed":            {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseComputed})}}, ssn(abi.MaskNull, ""), nil, "computed with", ""},
		"condition":           {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCopied | abi.UseCondition})}}, ssn(abi.MaskNull, ""), nil, "in a condition", ""},
		"order":               {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseOrder})}}, ssn(abi.MaskNull, ""), nil, "sorted by", ""},
		"group":               {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseGroup})}}, ssn(abi.MaskNull, ""), nil, "grouped by", ""},
		"an output's sources": {abi.Statement{Outputs: []abi.Output{{Computed: []abi.Source{from}}}}, ssn(abi.MaskNull, ""), nil, "computed with", ""},
		"behind a view": {abi.Statement{Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: users, Via: "view public.v", Columns: []abi.Column{{Name: "ssn", Use: abi.UseCondition}}}}},
			ssn(abi.MaskNull, ""), nil, "(view public.v does)", ""},
		"kin": {abi.Statement{Kin: map[string][][]string{"public.users_eu": {users}},
			Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "users_eu"}, Columns: []abi.Column{{Name: "ssn", Use: abi.UseCopied}}}},
			Outputs:    []abi.Output{copied(0, abi.Source{Relation: []string{"public", "users_eu"}, Column: "ssn"})}}, ssn(abi.MaskNull, ""), nil, "", "0 null"},
		"kin computed": {abi.Statement{Kin: map[string][][]string{"public.users_eu": {users}},
			Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "users_eu"}, Columns: []abi.Column{{Name: "ssn", Use: abi.UseOrder}}}}}, ssn(abi.MaskNull, ""), nil, "sorted by", ""},
		"beside another, natively": {abi.Statement{Outputs: []abi.Output{copied(0, from, other)}}, ssn(abi.MaskNull, ""), nil, "", "0 null"},
		"beside another, by hash":  {abi.Statement{Outputs: []abi.Output{{Name: "x", Copies: []abi.Source{from, other}}}}, ssn(abi.MaskHash, ""), nil, "puts other values beside", ""},
		"beside a constant":        {abi.Statement{Outputs: []abi.Output{{Copies: []abi.Source{from}, Other: true}}}, ssn(abi.MaskTokenize, ""), nil, "puts other values beside", ""},
		"through a view by hash":   {abi.Statement{Outputs: []abi.Output{copied(0, from, abi.Source{Relation: []string{"public", "v"}, Column: "tax_no", View: true})}}, ssn(abi.MaskHash, ""), nil, "", "0 hash"},
		"written under a hash":     {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseWritten}}}}}, ssn(abi.MaskHash, ""), nil, "cannot be written", ""},
		"written":                  {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseWritten}}}}}, ssn(abi.MaskNull, ""), nil, "", ""},
		"returned under a hash": {abi.Statement{Operations: []abi.Operation{{Verb: "update", Kind: abi.KindRelation, Object: users, Attrs: abi.Returning}}, Outputs: []abi.Output{copied(0, from)}},
			ssn(abi.MaskHash, ""), nil, "cannot be returned", ""},
		"tested":                          {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseWritten | abi.UseTested}}}}}, ssn(abi.MaskNull, ""), nil, "tells what other rows hold", ""},
		"tested, accepted":                {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseWritten | abi.UseTested}}}}}, ssn(abi.MaskNull, ""), []string{"accept"}, "", "oracle"},
		"unlisted, tested":                {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseTested}}}}}, []abi.Protect{{Relation: users, Column: "*", Unlisted: true}}, nil, "", ""},
		"unlisted, refused":               {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseTested}}}}}, []abi.Protect{{Relation: users, Column: "*", Unlisted: true}}, []string{"refuse"}, "tells what other rows hold", ""},
		"an unknown kind":                 {abi.Statement{Outputs: []abi.Output{copied(0, from)}}, ssn(77, ""), nil, "", "0 null"},
		"unset":                           {abi.Statement{Outputs: []abi.Output{copied(0, from)}}, ssn(abi.MaskUnset, ""), nil, "", "0 null"},
		"two that differ":                 {abi.Statement{Outputs: []abi.Output{copied(0, from)}}, append(ssn(abi.MaskKeep, "0,4"), ssn(abi.MaskTokenize, "")...), nil, "", "0 null"},
		"pass is no mask":                 {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseOrder})}}, ssn(abi.MaskPass, ""), nil, "", ""},
		"compared":                        {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: maxGuesses}, found(abi.MaskKeep, "0,4"), nil, "", "found public.users.ssn"},
		"compared otherwise":              {abi.Statement{Operations: []abi.Operation{read(compared(false))}, Guesses: 1}, found(abi.MaskNull, ""), nil, "can only be compared with values", ""},
		"compared, without a filter":      {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, ssn(abi.MaskNull, ""), nil, "used in a condition", ""},
		"compared, one has no filter":     {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, append(found(abi.MaskNull, ""), ssn(abi.MaskNull, "")...), nil, "used in a condition", ""},
		"compared, the other has none":    {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, append(ssn(abi.MaskNull, ""), found(abi.MaskNull, "")...), nil, "used in a condition", ""},
		"compared under a hash":           {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, found(abi.MaskHash, ""), nil, "used in a condition", ""},
		"compared under a guard's own":    {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, found(abi.MaskCustom, ""), nil, "used in a condition", ""},
		"compared, masks that differ":     {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: 1}, append(found(abi.MaskHash, ""), found(abi.MaskTokenize, "")...), nil, "used in a condition", ""},
		"compared, a filter and no mask":  {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Outputs: []abi.Output{copied(0, from)}, Guesses: 1}, found(abi.MaskPass, ""), nil, "", "0 nullfound public.users.ssn"},
		"compared and sorted":             {abi.Statement{Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCondition | abi.UseOrder, Filter: true})}, Guesses: 1}, found(abi.MaskNull, ""), nil, "sorted by", ""},
		"compared with too many":          {abi.Statement{Operations: []abi.Operation{read(compared(true))}, Guesses: maxGuesses + 1}, found(abi.MaskNull, ""), nil, "11 values are compared with masked columns here, and one text may name 10", ""},
		"compared, of kin":                {abi.Statement{Kin: map[string][][]string{"public.users_eu": {users}}, Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "users_eu"}, Columns: []abi.Column{compared(true)}}}, Guesses: 1}, found(abi.MaskNull, ""), nil, "", "found public.users_eu.ssn"},
		"compared, of kin with no filter": {abi.Statement{Kin: map[string][][]string{"public.users_eu": {users}}, Operations: []abi.Operation{{Verb: "select", Kind: abi.KindRelation, Object: []string{"public", "users_eu"}, Columns: []abi.Column{compared(true)}}}, Guesses: 1}, append(ssn(abi.MaskNull, ""), abi.Protect{Relation: []string{"public", "users_eu"}, Column: "ssn", Kind: abi.MaskNull, Filter: true}), nil, "used in a condition", ""},
		"two beside each other, by hash": {abi.Statement{Outputs: []abi.Output{{Name: "x", Copies: []abi.Source{from, other}}}},
			append(ssn(abi.MaskHash, ""), abi.Protect{Relation: users, Column: "name", Kind: abi.MaskHash}), nil, "puts other values beside", ""},
		"unlisted itself, tested":      {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseTested}}}}}, []abi.Protect{{Relation: users, Column: "ssn", Unlisted: true}}, nil, "", ""},
		"unlisted itself, refused":     {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseTested}}}}}, []abi.Protect{{Relation: users, Column: "ssn", Unlisted: true}}, []string{"refuse"}, "tells what other rows hold", ""},
		"tested, accepted and refused": {abi.Statement{Operations: []abi.Operation{{Verb: "insert", Kind: abi.KindRelation, Object: users, Columns: []abi.Column{{Name: "ssn", Use: abi.UseTested}}}}}, ssn(abi.MaskNull, ""), []string{"accept", "refuse"}, "tells what other rows hold", ""},
		"a function":                   {abi.Statement{Operations: []abi.Operation{{Verb: "call", Kind: abi.KindFunction, Object: []string{"public", "f"}}}}, ssn(abi.MaskNull, ""), nil, "", ""},
		"a relation touched":           {abi.Statement{Operations: []abi.Operation{{Verb: "update", Kind: abi.KindRelation, Object: users}}}, ssn(abi.MaskNull, ""), nil, "", ""},
	} {
		p, d := protect(&c.st, []asked{{guard: &guard{name: "a", may: all}, verdict: &abi.Verdict{Protect: c.protect, Terms: abi.Terms{Oracle: c.terms}}}})
		if d != nil || c.refused != "" {
			if d == nil || c.refused == "" || !strings.Contains(d.Reason.Message, c.refused) || d.Reason.Hint == "" {
				t.Errorf("%s: %v, not %q", name, d, c.refused)
			}
			continue
		}
		got := ""
		if p != nil {
			for _, m := range p.outputs {
				got += fmt.Sprintf("%d %s", m.index, m.rule)
			}
			if p.oracle {
				got += "oracle"
			}
			for _, f := range p.filters {
				got += "found " + f
			}
		}
		if got != c.masked {
			t.Errorf("%s: masked is %q, not %q", name, got, c.masked)
		}
		if touched := len(c.st.Operations) > 0 && len(c.protect) > 0 && name != "pass is no mask"; touched != (p != nil && p.reached) {
			t.Errorf("%s: reached is %v", name, !touched)
		}
	}
}

// TestProtectBlind: what a text sees masked is held against what masks it for
// this command, by everybody.
func TestProtectBlind(t *testing.T) {
	seen := func(kind abi.MaskKind, arg string) *abi.Statement {
		op := read(abi.Column{Name: "ssn", Use: abi.UseCopied | abi.UseCondition})
		op.Attrs |= abi.Blind
		return &abi.Statement{Operations: []abi.Operation{op}, Blind: ssn(kind, arg), Outputs: []abi.Output{copied(0, abi.Source{Relation: users, Column: "ssn", Blind: true})}}
	}
	beside := seen(abi.MaskFixed, "x")
	beside.Outputs = []abi.Output{copied(0, abi.Source{Relation: users, Column: "ssn", Blind: true}, abi.Source{Relation: users, Column: "name"})}
	unseen := seen(abi.MaskFixed, "x")
	unseen.Blind = nil
	says := func(blind bool, protect ...abi.Protect) asked {
		return asked{guard: &guard{name: "a", may: all}, verdict: &abi.Verdict{Protect: protect, Terms: abi.Terms{Blind: blind}}}
	}
	for name, c := range map[string]struct {
		st      *abi.Statement
		by      []asked
		refused string
	}{
		"as it is masked":          {seen(abi.MaskFixed, "x"), []asked{says(true, ssn(abi.MaskFixed, "x")...)}, ""},
		"as nothing":               {seen(abi.MaskNull, ""), []asked{says(true, ssn(abi.MaskFixed, "x")...)}, ""},
		"as less hides it":         {seen(abi.MaskKeep, "0,4"), []asked{says(true, ssn(abi.MaskFixed, "x")...)}, "would see it masked by"},
		"not at all":               {unseen, []asked{says(true, ssn(abi.MaskFixed, "x")...)}, "not by the task that is blind"},
		"masked by another too":    {seen(abi.MaskFixed, "x"), []asked{says(true, ssn(abi.MaskFixed, "x")...), says(false, ssn(abi.MaskFixed, "x")...)}, "by a guard that lets no text see it masked"},
		"another is no concern":    {seen(abi.MaskFixed, "x"), []asked{says(true, ssn(abi.MaskFixed, "x")...), says(false)}, ""},
		"beside what hashes match": {beside, []asked{says(true, append(ssn(abi.MaskFixed, "x"), abi.Protect{Relation: users, Column: "name", Kind: abi.MaskHash})...)}, "puts other values beside"},
	} {
		_, d := protect(c.st, c.by)
		if (d == nil) != (c.refused == "") || d != nil && !strings.Contains(d.Reason.Message, c.refused) {
			t.Errorf("%s: %v, not %q", name, d, c.refused)
		}
	}
}

// TestProtectTwoGuards: of what two modules mask each in its own way nothing shows.
func TestProtectTwoGuards(t *testing.T) {
	said := &abi.Verdict{Protect: ssn(abi.MaskCustom, "x")}
	one, other := &guard{name: "a", may: all}, &guard{name: "b", may: all}
	st := &abi.Statement{Outputs: []abi.Output{copied(0, abi.Source{Relation: users, Column: "ssn"})}}
	for _, c := range []struct {
		by   []asked
		want abi.MaskKind
	}{{[]asked{{guard: one, verdict: said}}, abi.MaskCustom}, {[]asked{{guard: one, verdict: said}, {guard: one, verdict: said}}, abi.MaskCustom}, {[]asked{{guard: one, verdict: said}, {guard: other, verdict: said}}, abi.MaskNull}} {
		p, d := protect(st, c.by)
		if d != nil || len(p.outputs) != 1 || p.outputs[0].rule.Kind != c.want {
			t.Errorf("%d: %+v %v, not %v", len(c.by), p, d, c.want)
		}
	}
}

// framing is rows as text: cells between commas, a row to a line.
type framing struct{}

func (framing) Rewrite(dst, frames []byte, c mask.Cells) ([]byte, error) {
	for _, row := range strings.Split(strings.TrimSuffix(string(frames), "\n"), "\n") {
		for i, cell := range strings.Split(row, ",") {
			if i >= c.Columns() {
				return nil, errors.New("too many cells")
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			if !c.Masked(i) {
				dst = append(dst, cell...)
				continue
			}
			null := false
			if dst, null = c.Append(dst, []byte(cell), i, cell == "-", false); null {
				dst = append(dst, '-')
			}
		}
		dst = append(dst, '\n')
	}
	return dst, nil
}

func masking(t *testing.T, guards ...Guard) (*Session, *sink, func(frames string) (string, error)) {
	t.Helper()
	g, log := newGate(t, guards...)
	s := open(t, g)
	st := &abi.Statement{Text: "select", Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCopied})}, Outputs: []abi.Output{copied(0, abi.Source{Relation: users, Column: "id"}), copied(1, abi.Source{Relation: users, Column: "ssn"})}}
	c := &abi.Command{Phase: abi.Execute, Statement: st}
	return s, log, func(frames string) (string, error) {
		ex, err := s.Submit(t.Context(), c, nil)
		if err != nil {
			return "", err
		}
		defer func() { _ = ex.Done(t.Context(), Outcome{State: Completed}) }()
		if err := ex.Schema(t.Context(), c, &abi.ResultSchema{Columns: []abi.ResultColumn{{Name: "id", Relation: users, Column: "id", Class: abi.ClassText}, {Name: "ssn", Relation: users, Column: "ssn", Class: abi.ClassText}}}); err != nil {
			return "", err
		}
		r := &abi.Result{Frames: []byte(frames), Rows: strings.Count(frames, "\n")}
		err = ex.Rows(t.Context(), r, framing{})
		return string(r.Frames), err
	}
}

func says(kind abi.MaskKind, arg string) func(*abi.Command) (*abi.Verdict, error) {
	return func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Protect: ssn(kind, arg)}, nil
	}
}

// TestRowsAreMasked holds that what the client and the recording get is masked,
// and that the log says of which column, by what and how often.
func TestRowsAreMasked(t *testing.T) {
	_, log, run := masking(t, &guard{name: "a", may: all, answer: says(abi.MaskNull, "")})
	got, err := run("1,secret\n2,other\n")
	if err != nil || got != "1,-\n2,-\n" {
		t.Fatalf("%q %v", got, err)
	}
	for _, e := range log.rec {
		if strings.Contains(string(e.Frame), "sec") {
			t.Error("the recording has it")
		}
	}
	if last := log.log[len(log.log)-1]; len(last.Masked) != 1 || last.Masked[0] != (Masked{"public.users.ssn", "null", 2}) {
		t.Errorf("the log says %+v", last.Masked)
	}
}

// TestPM23CustomMasks holds a guard that masks cells itself to what it was
// asked: what is anything else is not shown.
func TestPM23CustomMasks(t *testing.T) {
	stars := func(b *abi.Batch) (*abi.Batch, error) {
		out := &abi.Batch{Rows: b.Rows, Columns: []abi.BatchColumn{{Index: 1, Type: b.Columns[0].Type}}}
		for i := range b.Rows {
			cell, ok := b.Columns[0].Cell(i)
			out.Columns[0].Add([]byte(strings.Repeat("*", len(cell))), !ok)
		}
		return out, nil
	}
	for name, c := range map[string]struct {
		answer func(*abi.Batch) (*abi.Batch, error)
		want   string
	}{
		"stars":  {stars, "1,******\n2,-\n3,\n"},
		"fails":  {func(*abi.Batch) (*abi.Batch, error) { return nil, errors.New("it crashed on secret") }, ""},
		"silent": {func(*abi.Batch) (*abi.Batch, error) { return nil, nil }, ""},
		"short":  {func(b *abi.Batch) (*abi.Batch, error) { o, err := stars(b); o.Rows--; return o, err }, ""},
		"another column": {func(b *abi.Batch) (*abi.Batch, error) {
			o, err := stars(b)
			o.Columns[0].Index = 0
			return o, err
		}, ""},
		"not text": {func(b *abi.Batch) (*abi.Batch, error) {
			o, err := stars(b)
			o.Columns[0].Bytes[0] = 0xff
			return o, err
		}, ""},
		"huge": {func(b *abi.Batch) (*abi.Batch, error) {
			o := &abi.Batch{Rows: b.Rows, Columns: []abi.BatchColumn{{Index: 1}}}
			for range b.Rows {
				o.Columns[0].Add(make([]byte, 1000), false)
			}
			return o, nil
		}, ""},
	} {
		_, _, run := masking(t, &guard{name: "a", may: all, answer: says(abi.MaskCustom, "x"), batch: c.answer})
		got, err := run("1,secret\n2,-\n3,\n")
		var d *Denied
		if c.want == "" && (!errors.As(err, &d) || strings.Contains(d.Reason.Message+d.Reason.Hint, "secret")) || c.want != "" && (err != nil || got != c.want) {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

// TestResultsOfAnotherShape holds the server's answer against what was judged.
func TestResultsOfAnotherShape(t *testing.T) {
	g, _ := newGate(t, &guard{name: "a", may: all, answer: says(abi.MaskNull, "")})
	s := open(t, g)
	st := &abi.Statement{Text: "select", Operations: []abi.Operation{read(abi.Column{Name: "id", Use: abi.UseCopied})}, Outputs: []abi.Output{copied(0, abi.Source{Relation: users, Column: "id"})}}
	c := &abi.Command{Phase: abi.Execute, Statement: st}
	for name, columns := range map[string][]abi.ResultColumn{
		"more columns":        {{Name: "id"}, {Name: "ssn"}},
		"another column":      {{Name: "id", Relation: users, Column: "ssn"}},
		"another's by a name": {{Name: "id", Relation: []string{"public", "payments"}, Column: "id"}},
	} {
		ex, err := s.Submit(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		var alarm *Alarm
		if err := ex.Schema(t.Context(), c, &abi.ResultSchema{Columns: columns}); !errors.As(err, &alarm) {
			t.Errorf("%s: %v", name, err)
		}
		_ = ex.Done(t.Context(), Outcome{})
	}
}

// TestGuardsOnlyAdd holds that a plan of RESULT_SCHEMA adds masks and takes
// none away, and that one that does not fit masks everything.
func TestGuardsOnlyAdd(t *testing.T) {
	for name, c := range map[string]struct {
		plan abi.MaskPlan
		want string
	}{
		"passes":  {abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskPass, abi.MaskPass}, Default: abi.MaskPass}, "1,-\n"},
		"adds":    {abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskNull, abi.MaskPass}, Default: abi.MaskPass}, "-,-\n"},
		"unset":   {abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskUnset, abi.MaskPass}, Default: abi.MaskPass}, "-,-\n"},
		"short":   {abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskPass}, Default: abi.MaskPass}, "-,-\n"},
		"unknown": {abi.MaskPlan{Kinds: []abi.MaskKind{200, abi.MaskPass}, Default: abi.MaskPass}, "-,-\n"},
	} {
		_, _, run := masking(t, &guard{name: "a", may: all, answer: says(abi.MaskNull, ""), plan: &c.plan})
		if got, err := run("1,secret\n"); err != nil || got != c.want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}
