package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
)

// people are an Approver whose answer is known before anybody asks.
type people struct{ answer gate.Decided }

func (p *people) Ask(context.Context, *gate.Request) error { return nil }
func (p *people) Wait(context.Context, string) (gate.Decided, error) {
	return p.answer, nil
}
func (p *people) Spend(context.Context, string) (gate.Decided, error) {
	return gate.Decided{State: gate.Used, Voices: p.answer.Voices}, nil
}
func (p *people) Withdraw(context.Context, string, string) error { return nil }

// holding is a guard that wants a person for what begins with "whold", and
// masks the first column of every result.
type holding struct{ guard }

func (holding) May() abi.May { return abi.May{Allow: true, Review: true, Mask: true} }
func (holding) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	if strings.HasPrefix(c.Statement.Text, "whold") {
		return &abi.Verdict{Decision: abi.Review, Review: abi.Requirement{Groups: []string{"dba\x1b[2J"}, People: 1, Within: 900}}, nil
	}
	return &abi.Verdict{Decision: abi.Allow}, nil
}

// held submits a text that is held.
func (p *script) held(text string) (*gate.Exchange, error) {
	return p.s.Submit(p.t.Context(), &abi.Command{Phase: abi.Execute, Open: true, Statement: &abi.Statement{Text: text, Operations: []abi.Operation{{Verb: "x", Effect: abi.EffectWrite}}},
		Params: []abi.Param{{Value: []byte("\x1b[31m7")}}, Input: abi.Input{Kind: abi.InputSpooled, Size: 12, Digest: []byte{0xab, 0xcd}},
		Rows: func() abi.Rows { return abi.Rows{Estimated: 3, Counted: 2} }}, func(gate.Pending) error { return nil })
}

// TestAP24Replay: approved and committed, approved and rolled back, approved
// and lost, and not approved: a replay, a summary and their JSON tell them apart.
func TestAP24Replay(t *testing.T) {
	p := start(t, 1000)
	who := &people{}
	p.g.Approver = who
	p.g.Swap(&gate.Generation{Number: 2, Guards: []gate.Guard{holding{}}, Tasks: p.g.Current().Tasks, Resources: p.g.Current().Resources})
	yes := gate.Decided{State: gate.Approved, Voices: []abi.Voice{{Issuer: "https://idp", Subject: "bob\u202e", Groups: []string{"dba"}, Approve: true, Reason: "looked\x1b[2J", At: time.Unix(1800000000, 0).UnixNano()}}}
	no := gate.Decided{State: gate.Refused, Voices: []abi.Voice{{Issuer: "https://idp", Subject: "bob", Reason: "too many"}}, Reason: "too many"}
	run := func(text string, answer gate.Decided, o gate.Outcome) {
		who.answer = answer
		ex, err := p.held(text)
		if err != nil {
			t.Fatal(err)
		}
		p.done(ex, o)
	}
	run("whold one", yes, gate.Outcome{State: gate.Open, Tag: "UPDATE 2"})
	p.done(p.run("commit"), gate.Outcome{State: gate.Completed, Tag: "COMMIT", Settles: gate.Committed, First: 1, Last: 1})
	run("whold two", yes, gate.Outcome{State: gate.Open, Tag: "UPDATE 2"})
	p.done(p.run("rollback"), gate.Outcome{State: gate.Completed, Tag: "ROLLBACK", Settles: gate.RolledBack, First: 3, Last: 3})
	run("whold three", yes, gate.Outcome{State: gate.Open})
	p.done(p.run("commit"), gate.Outcome{State: gate.Lost, Settles: gate.Lost, First: 5, Last: 5})
	who.answer = no
	var d *gate.Denied
	if _, err := p.held("whold four"); !errors.As(err, &d) {
		t.Fatal(err)
	}
	p.close()

	s, err := Summarize(p.path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range s.Reviews {
		got = append(got, r.State+" "+r.Outcome)
		if len(r.Binding) != 64 || len(r.Needs) != 1 {
			t.Errorf("%+v", r)
		}
	}
	if all := strings.Join(got, ", "); all != "used committed, used rolled back, used unknown, denied " {
		t.Error(all)
	}
	if s.Commands != 7 || s.Denied != 1 || s.Outcomes[Refused] != 1 {
		t.Errorf("%+v", s)
	}
	out := p.replay()
	id := func(i int) string { return s.Reviews[i].ID }
	for _, want := range []string{
		"request " + id(0) + " of judge, needs 1 of dba\\u001b[2J, until 20", ": whold one\n", "about 3 rows by the planner\n", "2 rows counted\n", "payload of 12 bytes, sha256 abcd\n", "bound to sha256 " + s.Reviews[0].Binding,
		"#1 review by judge, committed by #2: whold one", "held as request " + id(0) + ", bound to", "approved by bob\\u202e (https://idp) at 2027-01-15T08:00:00Z: looked\\u001b[2J\n", "as dba\n",
		"#3 review by judge, rolled back by #4", "request " + id(1) + ": what it approved was rolled back\n",
		"request " + id(2) + ": what it approved was begun, and nobody knows how it ended\n",
		"request " + id(3) + " denied, nothing ran: ", "too many",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	var b bytes.Buffer
	if err := JSON(&b, p.path); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(b.String()) {
		var e struct {
			Event, Request, Binding, Until, State, Why, Outcome string
			Voices                                              []gate.Voice
			Estimated                                           int64 `json:"estimated_rows"`
			Payload                                             *gate.Payload
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Event == "request" && e.Until != "" && len(e.Binding) == 64 && e.Estimated == 3 && e.Payload.Digest == "abcd",
			e.Event == "command" && e.Request != "" && e.Voices[0].Reason == "looked\x1b[2J" && e.Outcome != "",
			e.Event == "settled" && e.Request == id(3) && e.State == "denied" && strings.Contains(e.Why, "too many"):
			seen[e.Event]++
		}
	}
	if seen["request"] != 4 || seen["command"] != 3 || seen["settled"] != 1 {
		t.Errorf("%v in\n%s", seen, b.String())
	}
}

// rows are a Rewriter for DataRows of one column.
type rows struct{}

func (rows) Rewrite(dst, frames []byte, c mask.Cells) ([]byte, error) {
	for len(frames) > 0 {
		cell := frames[11 : 11+int(frames[10])]
		frames = frames[11+len(cell):]
		out, null := c.Append(nil, cell, 0, false, false)
		if !null {
			return nil, errors.New("not masked")
		}
		dst = append(append(dst, 'D', 0, 0, 0, byte(10+len(out)), 0, 1), 0xff, 0xff, 0xff, 0xff)
	}
	return dst, nil
}

// looking is a guard that masks every result.
type looking struct{ guard }

func (looking) Results() bool { return true }
func (looking) May() abi.May  { return abi.May{Allow: true, Mask: true} }
func (looking) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return &abi.MaskPlan{Kinds: []abi.MaskKind{abi.MaskNull}}, nil
}

// TestReplayMasked: what was masked is told by column, rule and count, and the
// recording has what the client saw alone.
func TestReplayMasked(t *testing.T) {
	p := start(t, 1000)
	p.g.Swap(&gate.Generation{Number: 2, Guards: []gate.Guard{looking{}}, Tasks: p.g.Current().Tasks, Resources: p.g.Current().Resources})
	c := &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Text: "select email", Operations: []abi.Operation{{Verb: "x", Effect: abi.EffectRead}}}}
	ex, err := p.s.Submit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ex.Schema(t.Context(), c, &abi.ResultSchema{Columns: []abi.ResultColumn{{Name: "email\x1b", Type: 25, Relation: []string{"public", "customers"}, Column: "email", Class: abi.ClassText}}}); err != nil {
		t.Fatal(err)
	}
	row := append([]byte{'D', 0, 0, 0, 16, 0, 1, 0, 0, 0, 6}, "secret"...)
	if err := ex.Rows(t.Context(), &abi.Result{Frames: bytes.Repeat(row, 2), Rows: 2}, rows{}); err != nil {
		t.Fatal(err)
	}
	p.done(ex, gate.Outcome{State: gate.Completed, Tag: "SELECT 2"})
	p.close()
	out := p.replay()
	for _, want := range []string{"| NULL\n", "masked the result's email\\u001b by ", ", 2 cells\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	raw, err := os.ReadFile(p.path)
	if err != nil || bytes.Contains(raw, []byte("secret")) {
		t.Errorf("%v %q", err, raw)
	}
	s, err := Summarize(p.path)
	if err != nil || s.Masked != 2 {
		t.Errorf("%v %+v", err, s)
	}
	var b bytes.Buffer
	if err := JSON(&b, p.path); err != nil || !strings.Contains(b.String(), `"masked":[{"column":"the result's email\u001b","rule":"`) || !strings.Contains(b.String(), `"cells":2}]`) {
		t.Errorf("%v %s", err, b.String())
	}
}
