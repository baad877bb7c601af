package ssh

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/gate"
)

func done(tag string) func(*gate.Event) bool {
	return func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Tag == tag }
}

// TestExec: what a program says and how it ends reaches the client, and the log.
func TestSC12Exec(t *testing.T) {
	g := serve(t, but("forbidden"))
	for _, c := range []struct {
		text string
		want ran
		tag  string
	}{
		{"echo hello; echo bad >&2; exit 3", ran{"hello\n", "bad\n", 3}, "exit 3"},
		{"true", ran{"", "", 0}, "exit 0"},
		{"kill -KILL $$", ran{"", "", 255}, "signal KILL"},
		{"seq 1 200000 | tail -1", ran{"200000\n", "", 0}, ""},
	} {
		if got := run(t, g.ssh(who, c.text), ""); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.text, got, c.want)
		}
		if c.tag != "" {
			g.log.wait(t, c.tag, done(c.tag))
		}
	}
	got := run(t, g.ssh(who, "forbidden thing"), "")
	want := "taskgate: denied: not in the task\ntaskgate: closest: rule 1 of task x\ntaskgate: hint: ask\n"
	if got.code != 126 || got.err != want || got.out != "" {
		t.Errorf("%+v", got)
	}
	if got := run(t, g.ssh(who, "cat"), strings.Repeat("x", 1<<20)); got.out != strings.Repeat("x", 1<<20) || got.code != 0 {
		t.Errorf("%d bytes, %q, %d", len(got.out), got.err, got.code)
	}
	if f := g.log.frames(FrameOut); !strings.Contains(f, "hello\n") {
		t.Errorf("recorded: %.100q", f)
	}
	if f := g.log.frames(FrameErr); !strings.Contains(f, "bad\n") {
		t.Errorf("recorded: %.100q", f)
	}
	if f := g.log.frames(FrameIn); !strings.HasPrefix(f, "xxx") {
		t.Errorf("recorded: %.100q", f)
	}
}
