package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
)

// nasty is what would steer a terminal, hide, reorder, or look like a line of
// the card.
const nasty = "x\x1b[2J\x1b]0;t\x07\u202e\u2066\u200b\u00ad\u2028\ufe0f\x00\x7f\u0085\r\nrequest   zzzz, approved\ncode      zzzz"

// TestAP12Card: whatever a card has is shown, all of it, as what it is; no
// line of a text can be taken for one of the card's own.
func TestAP12Card(t *testing.T) {
	n := int64(7)
	long := strings.Repeat("select 1;\n", 20000) + "drop table orders"
	c := &approval.Card{ID: nasty, State: gate.Waiting, Code: "c0de", Issuer: nasty, Subject: nasty, Groups: []string{nasty}, Task: nasty, Resource: nasty, Login: nasty, Address: nasty, Session: nasty,
		Since: time.Now(), Until: time.Now().Add(time.Hour), Text: nasty + long, Canonical: nasty, Strange: []string{"U+202E"}, Operations: []string{nasty}, Params: []string{nasty}, Earlier: []string{nasty}, Open: true,
		Estimated: &n, Counted: &n, Binding: "ab12", Needs: []approval.Need{{Summary: nasty, Groups: []string{nasty, "ops"}, People: 2, Have: 1}, {People: 1}},
		Payload: &approval.Payload{Size: 9, Digest: "cd34", Head: nasty}, Voices: []approval.Voice{{Subject: nasty, Issuer: nasty, Approve: true, Reason: nasty}}, Why: nasty, Command: 3, Outcome: nasty}
	var b bytes.Buffer
	showCard(&b, c, time.Now())
	out := b.String()
	for _, r := range out {
		if r != '\n' && !unicode.IsPrint(r) || unicode.In(r, unicode.Bidi_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
			t.Fatalf("%U is not seen in\n%.2000q", r, out)
		}
	}
	for l := range strings.Lines(out) {
		if strings.HasPrefix(l, "request   zzzz") || strings.HasPrefix(l, "code      zzzz") {
			t.Errorf("a line that is not the card's: %q", l)
		}
	}
	if strings.Count(out, "  | select 1;\n") != 20000-1 || !strings.Contains(out, "  | drop table orders\n") {
		t.Error("a text is cut")
	}
	for _, want := range []string{"\nneeds     2 of x<U+001B>", " or ops, 1 so far", "1 of nobody: no group is named", "\nruns as\n", "\ncareful   ", "\nparam     $1 = x<U+001B>", "\ndoes      x<U+001B>", "\nafter     this, in the same open transaction\n",
		"about 7, as the planner estimated", "7, as counted when it was asked", "payload   9 bytes, sha256 cd34; its beginning", "\napproved  by x<U+001B>", "used      by command 3 of its session: x<U+001B>", "\nbound to  sha256 ab12\n", "\ncode      c0de\n", "<U+202E>", "<U+200B>", "<U+2028>", "<U+000D>", "<U+000A>request"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	c.Payload, c.Earlier, c.Canonical = &approval.Payload{Unseen: true}, nil, c.Text
	b.Reset()
	showCard(&b, c, time.Now())
	for _, want := range []string{"payload   nobody can see what will be sent into it\n", "after     nothing that writes: its transaction is open\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(b.String(), "runs as") {
		t.Error("a text that runs as it was sent is shown twice")
	}
	line := row(&approval.Brief{ID: "a", Subject: nasty, Own: true, Task: "x", Resource: "shop", State: gate.Waiting, Text: "a\n\tb", Cut: true, Needs: c.Needs})
	if strings.ContainsAny(line, "\n\x1b\u202e") || strings.Count(line, "\t") != 5 || !strings.Contains(line, "a↵→b… (cut)\t1/2 of x<U+001B>") || !strings.Contains(line, "(you)") {
		t.Errorf("%q", line)
	}
}

// confirmed is a command of the scripts: it runs a command and does what USER
// would when it asks for a login. Its output is the script's.
func confirmed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: confirmed USER PASSWORD COMMAND…")
	}
	cmd := command(ts, args[2:]...)
	var out strings.Builder
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines, url, asked := bufio.NewScanner(said), "", false
	for lines.Scan() {
		ts.Logf("%s", lines.Text())
		if u, ok := strings.CutPrefix(lines.Text(), "open  "); ok {
			url = u
		}
		if code, ok := strings.CutPrefix(lines.Text(), "code  "); ok {
			asked = true
			if b, err := command(ts, "taskgate", "dev-confirm", url, code, "--user", args[0], "--password", args[1]).CombinedOutput(); err != nil {
				ts.Logf("%v: %s", err, b)
				_ = cmd.Process.Kill()
			}
		}
	}
	err = cmd.Wait()
	_, _ = fmt.Fprint(ts.Stdout(), out.String())
	ts.Check(err)
	if !asked {
		ts.Fatalf("nobody was asked to log in")
	}
}
