package approval_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
)

func TestAP12Visible(t *testing.T) {
	for in, want := range map[string]string{
		"select 'ü€😀'\n\tfrom t":   "select 'ü€😀'\n\tfrom t",
		"a\x1b[2K\rb\x07":          "a<U+001B>[2K<U+000D>b<U+0007>",
		"a\u202eb\u2066c\u200fd":   "a<U+202E>b<U+2066>c<U+200F>d",
		"a\u200bb\u200d\ufeff":     "a<U+200B>b<U+200D><U+FEFF>",
		"a\u00a0b\u3000\u2028":     "a<U+00A0>b<U+3000><U+2028>",
		"\u3164\u115f\uffa0\u2800": "<U+3164><U+115F><U+FFA0><U+2800>",
		"\ufe0f\u034f\u00ad":       "<U+FE0F><U+034F><U+00AD>",
		"\U000e0041\u0085\x7f":     "<U+E0041><U+0085><U+007F>",
		"a\xff\xc0b\ufffd":         "a<0xFF><0xC0>b\ufffd",
		"<U+202E>":                 "<U+202E>",
		"":                         "",
	} {
		if got := approval.Visible(in); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
		if got := approval.Visible(approval.Visible(in)); got != want {
			t.Errorf("%q is not shown as what it is: %q", want, got)
		}
	}
}

// A card has all of it, whole.
func TestAP12Card(t *testing.T) {
	w := newWorld(t)
	r := request("card", 2, "dba", "lead")
	r.Text = "delete from orders -- \u202e" + strings.Repeat("x", 1<<20) + " end"
	r.Canonical = "DELETE FROM public.orders"
	r.Earlier, r.Open = []string{"update orders set status = 'x'"}, true
	r.Rows = abi.Rows{Estimated: 12, Counted: -1}
	r.Input = abi.Input{Kind: abi.InputSpooled, Size: 9, Digest: []byte{0xab}, Head: []byte("1\tx\n\x1b[31m")}
	w.ask(r)
	c, err := w.Card(t.Context(), "card", w.person("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Text != r.Text || c.Canonical != r.Canonical || !slices.Equal(c.Strange, []string{"U+202E"}) || !c.Open || !slices.Equal(c.Earlier, r.Earlier) || !slices.Equal(c.Params, r.Params) ||
		*c.Estimated != 12 || c.Counted != nil || c.Code != r.Code || c.Subject != "ada" || c.Task != "fix" || c.Resource != "shop" || c.Address != "192.0.2.1:5" || c.Session != "session" ||
		!c.Since.Equal(r.Since) || !c.Until.Equal(r.Until) || !strings.HasPrefix(c.Binding, "010203") || c.State != gate.Waiting || c.Needs[0].People != 2 || c.Needs[0].Summary != "delete from orders" || c.Needs[0].Met {
		t.Errorf("%+v", c)
	}
	if p := c.Payload; p == nil || p.Size != 9 || p.Digest != "ab" || p.Head != "1\tx\n<U+001B>[31m" || !p.Whole || p.Unseen {
		t.Errorf("%+v", p)
	}
	list, err := w.List(t.Context(), w.person("bob"), false)
	if err != nil || len(list) != 1 || !list[0].Cut || !strings.HasPrefix(list[0].Text, "delete from orders -- <U+202E>xxx") || len(list[0].Text) > 300 || !list[0].MayVote || list[0].Own {
		t.Errorf("%+v %v", list, err)
	}
	if b, err := json.Marshal(list); err != nil || strings.Contains(string(b), r.Code) {
		t.Errorf("a list has the code, so that what is cut short could be approved: %s %v", b, err)
	}
	for _, in := range []abi.Input{{Kind: abi.InputStream}, {Kind: 77}} {
		r := request("stream"+string('a'+rune(in.Kind)), 1, "dba")
		r.Input = in
		w.ask(r)
		if c, err := w.Card(t.Context(), r.ID, w.person("bob")); err != nil || !c.Payload.Unseen || c.Payload.Whole {
			t.Errorf("%+v %v", c, err)
		}
	}
	// A text that is not UTF-8 is not made another by JSON.
	r = request("bytes", 1, "dba")
	r.Text = "select '\xff'"
	w.ask(r)
	if c, err := w.Card(t.Context(), "bytes", w.person("bob")); err != nil || c.Text != "select '<0xFF>'" || len(c.Strange) == 0 {
		t.Errorf("%+v %v", c, err)
	}
}

// WB01: who may see a request, in a list, by its id and by watching.
func TestWhoSees(t *testing.T) {
	w := newWorld(t)
	w.ask(request("seen", 2, "dba"))
	if w.say("seen", "eve", true) != "" {
		t.Fatal()
	}
	for _, c := range []struct {
		who          approval.Person
		sees, own, v bool
	}{
		{approval.Person{Issuer: "https://idp", Subject: "ada"}, true, true, false},
		{approval.Person{Issuer: "https://idp", Subject: "ada", Groups: []string{"dba"}}, true, true, false},
		{approval.Person{Issuer: "https://else", Subject: "ada"}, false, false, false},
		{approval.Person{Issuer: "https://idp", Subject: "bob", Groups: []string{"dba"}}, true, false, true},
		{approval.Person{Issuer: "https://idp", Subject: "eve", Groups: []string{"dba"}}, true, false, false},
		{approval.Person{Issuer: "https://idp", Subject: "eve"}, true, false, false}, // has decided
		{approval.Person{Issuer: "https://idp", Subject: "tom", Groups: []string{"staff", ""}}, false, false, false},
		{approval.Person{Issuer: "https://idp", Subject: "tom", All: true}, true, false, false},
	} {
		list, err := w.List(t.Context(), c.who, true)
		if err != nil || (len(list) == 1) != c.sees || c.sees && (list[0].Own != c.own || list[0].MayVote != c.v) {
			t.Errorf("%+v: %+v %v", c.who, list, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, list := w.Watch(ctx, c.who, 0); (len(list) == 1) != c.sees || c.sees && (list[0].Own != c.own || list[0].MayVote != c.v) {
			t.Errorf("%+v watches %+v", c.who, list)
		}
		_, err = w.Card(t.Context(), "seen", c.who)
		if (err == nil) != c.sees || !c.sees && w.kind(nil, err) != approval.Unknown {
			t.Errorf("%+v: %v", c.who, err)
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWorld(t)
	bob := w.person("bob")
	type answer struct {
		seq  uint64
		list []approval.Brief
	}
	got := make(chan answer)
	watch := func(after uint64) {
		go func() {
			seq, list := w.Watch(t.Context(), bob, after)
			got <- answer{seq, list}
		}()
	}
	watch(0)
	hidden := request("hidden", 1, "lead") // not bob's
	w.ask(hidden)
	w.ask(request("shown", 1, "dba"))
	a := <-got
	if len(a.list) != 1 || a.list[0].ID != "shown" || a.list[0].State != gate.Waiting {
		t.Fatalf("%+v", a)
	}
	watch(a.seq)
	if w.say("shown", "eve", false) != "" {
		t.Fatal()
	}
	b := <-got
	if len(b.list) != 1 || b.list[0].State != gate.Refused || b.seq <= a.seq || b.list[0].Why != "as agreed" {
		t.Fatalf("%+v", b)
	}
	watch(1 << 62) // of a run whose clock was ahead
	if c := <-got; len(c.list) != 1 || c.seq != b.seq {
		t.Errorf("%+v", c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.events, []string{"asked hidden waiting", "asked shown waiting", "deny shown denied"}) {
		t.Errorf("%q", w.events)
	}
}
