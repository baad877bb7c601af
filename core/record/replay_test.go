package record

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// script is everything beside a gate; it makes a recording of what it is told.
type script struct {
	t    *testing.T
	r    *Recorder
	g    *gate.Gate
	s    *gate.Session
	path string
}

func (script) Append(context.Context, []byte, bool) error { return nil }
func (script) TryAppend([]byte, time.Time) bool           { return true }
func (script) Authenticate(context.Context, gate.Login) (gate.Grant, error) {
	return gate.Grant{Issuer: "https://idp", Subject: "ada\x1b[2J", Groups: []string{"task:x"}, Expires: time.Now().Add(time.Hour)}, nil
}

type guard struct{}

func (guard) Name() string       { return "judge" }
func (guard) Digest() string     { return "0123abcd" }
func (guard) May() abi.May       { return abi.May{Allow: true} }
func (guard) Inputs() abi.Inputs { return abi.InputText }
func (guard) SessionOpen(context.Context, *abi.Session) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (guard) SessionClose(*abi.Session) {}
func (guard) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	if strings.HasPrefix(c.Statement.Text, "drop") {
		return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "no", Message: "not that", Hint: "ask"}}, nil
	}
	return &abi.Verdict{Decision: abi.Allow}, nil
}
func (guard) TryCommand(*abi.Command) (*abi.Verdict, bool) { return nil, false }
func (guard) Results() bool                                { return false }
func (guard) ResultSchema(context.Context, *abi.Command, *abi.ResultSchema) (*abi.MaskPlan, error) {
	return nil, nil
}

func (guard) ResultBatch(context.Context, *abi.Session, *abi.Batch) (*abi.Batch, error) {
	return nil, nil
}
func (guard) Approvals() bool                                               { return false }
func (guard) Approval(context.Context, *abi.Approval) (*abi.Verdict, error) { return nil, nil }

func start(t *testing.T, head int) *script { return startFor(t, head, "postgres") }

func startFor(t *testing.T, head int, protocol string) *script {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "recordings")
	r, err := Open(dir, head)
	if err != nil {
		t.Fatal(err)
	}
	p := &script{t: t, r: r}
	g := &gate.Gate{Identity: p, Log: p, Recorder: r}
	p.g = g
	g.Swap(&gate.Generation{Guards: []gate.Guard{guard{}}, Tasks: map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"shop"}}},
		Resources: map[string]*gate.Resource{"shop": {Name: "shop", Protocol: protocol}}})
	if p.s, err = g.Open(t.Context(), gate.Login{Protocol: protocol, Task: "x", Resource: "shop", Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	p.path, _ = Path(dir, p.s.ID())
	return p
}

// run submits a text; verbs that begin with "w" write.
func (p *script) run(text string) *gate.Exchange {
	p.t.Helper()
	effect := abi.EffectRead
	if text[0] == 'w' {
		effect = abi.EffectWrite
	}
	ex, err := p.s.Submit(p.t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Text: text, Operations: []abi.Operation{{Verb: "x", Effect: effect}}}}, nil)
	if _, denied := err.(*gate.Denied); err != nil && !denied {
		p.t.Fatal(err)
	}
	return ex
}

func (p *script) result(ex *gate.Exchange, frames ...byte) {
	p.t.Helper()
	if err := ex.Result(p.t.Context(), &abi.Result{Frames: frames, Rows: 1}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *script) done(ex *gate.Exchange, o gate.Outcome) {
	p.t.Helper()
	if err := ex.Done(p.t.Context(), o); err != nil {
		p.t.Fatal(err)
	}
}

func (p *script) close() {
	p.t.Helper()
	if err := p.s.Close(nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p *script) replay() string {
	p.t.Helper()
	var out bytes.Buffer
	if err := Replay(&out, p.path); err != nil {
		p.t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r\x00") {
		p.t.Errorf("X18: %q", out.String())
	}
	return out.String()
}

// TestRC19Outcomes: every command ends as what became of it.
func TestRC19Outcomes(t *testing.T) {
	p := start(t, 1000)
	p.done(p.run("read"), gate.Outcome{State: gate.Completed, Tag: "SELECT 1"})
	p.done(p.run("write alone"), gate.Outcome{State: gate.Completed, Tag: "UPDATE 1"})
	p.run("drop it")
	p.done(p.run("fails"), gate.Outcome{State: gate.Failed, Code: "22012"})
	p.done(p.run("never ran"), gate.Outcome{State: gate.Skipped})
	p.done(p.run("write one"), gate.Outcome{State: gate.Open})             // 6
	p.done(p.run("skipped in between"), gate.Outcome{State: gate.Skipped}) // 7
	p.done(p.run("write two"), gate.Outcome{State: gate.Open})             // 8
	p.done(p.run("commit"), gate.Outcome{State: gate.Completed, Tag: "COMMIT", Settles: gate.Committed, First: 6, Last: 8})
	p.done(p.run("write three"), gate.Outcome{State: gate.Open}) // 10
	p.done(p.run("rollback"), gate.Outcome{State: gate.Completed, Tag: "ROLLBACK", Settles: gate.RolledBack, First: 10, Last: 10})
	p.done(p.run("write four"), gate.Outcome{State: gate.RolledBack})
	p.done(p.run("write five"), gate.Outcome{State: gate.Open}) // 13: never settled
	p.done(p.run("write lost"), gate.Outcome{State: gate.Lost})
	p.run("write unanswered") // 15
	p.close()
	s, err := Summarize(p.path)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{1: Completed, Committed, Refused, Failed, Skipped, Committed, Skipped, Committed, Completed, RolledBack, Completed, RolledBack, Unknown, Unknown, Unknown} {
		if n > 0 && s.ends[uint64(n)].outcome != want {
			t.Errorf("command %d is %s, not %s", n, s.ends[uint64(n)].outcome, want)
		}
	}
	if got := s.Outcomes.String(); got != "3 completed, 3 committed, 2 rolled back, 1 failed, 2 skipped, 1 refused, 3 unknown" {
		t.Error(got)
	}
	if s.Commands != 15 || s.Denied != 1 || s.State != "ended" || len(s.Modules) != 1 || s.Modules[0].Digest != "0123abcd" {
		t.Errorf("%+v", s)
	}
	out := p.replay()
	for _, want := range []string{"ada\\u001b[2J for task x", "judged by judge, sha256 0123abcd", "#6 allow by judge, committed by #9: write one", "#10 allow by judge, rolled back by #11",
		"#3 deny by judge: drop it", "judge: deny not that", "  ask\n", "#4 failed SQLSTATE 22012", "#13 allow by judge, unknown"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// willing is a guard that allows everything.
type willing struct{ guard }

func (willing) Name() string { return "willing" }
func (willing) Command(context.Context, *abi.Command) (*abi.Verdict, error) {
	return &abi.Verdict{Decision: abi.Allow}, nil
}

// TestReplayOne: one of something is one, and no line ends with a blank.
func TestReplayOne(t *testing.T) {
	p := start(t, 1000)
	p.g.Swap(&gate.Generation{Number: 2, Guards: []gate.Guard{guard{}, willing{}}, Tasks: p.g.Current().Tasks, Resources: p.g.Current().Resources})
	p.run("drop it")
	p.close()
	out := p.replay()
	for _, want := range []string{" 1 command: 1 refused; 0 rows, 0 bytes\n", "judge: deny not that\n", "willing: allow\n", "  closed after 1 command"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, " \n") {
		t.Errorf("a line ends with a blank:\n%q", out)
	}
}

// TestRC10Fidelity: what replay prints is what the client saw, wherever it was
// cut, and nothing looks like what it is not.
func TestRC10Fidelity(t *testing.T) {
	row := func(values ...string) []byte {
		b := []byte{0, byte(len(values))}
		for _, v := range values {
			if v == "\x00" {
				b = append(b, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			b = append(append(b, 0, 0, 0, byte(len(v))), v...)
		}
		return append([]byte{'D', 0, 0, 0, byte(len(b) + 4)}, b...)
	}
	copyData := func(v string) []byte { return append([]byte{'d', 0, 0, 0, byte(len(v) + 4)}, v...) }
	frames := bytes.Join([][]byte{row("naïve ✓", "\x00", "NULL", ""), row("a|b", "\xff\xfe", `\`, "\x1b[2J"), copyData("1\tzoë\n")}, nil)
	for cut := range len(frames) {
		p := start(t, 1000)
		ex := p.run("select *\nfrom t")
		p.result(ex, frames[:cut]...)
		if err := p.s.Ambient().Result(t.Context(), &abi.Result{Frames: append([]byte{'N', 0, 0, 0, 35}, "SNOTICE\x00C00000\x00Mbetween\x00Dd\x00Hh\x00\x00"...)}); err != nil {
			t.Fatal(err)
		}
		p.result(ex, frames[cut:]...)
		p.done(ex, gate.Outcome{State: gate.Completed})
		p.close()
		out := p.replay()
		for _, want := range []string{`| naïve ✓ | NULL | "NULL" | ` + "\n", `| "a|b" | \xff\xfe | \\ | \u001b[2J` + "\n", `| 1\tzoë` + "\n", "| NOTICE 00000: between; d; h\n", ": select *\n" + indent + "  from t\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("cut at %d: %q is missing in\n%s", cut, want, out)
			}
		}
		var js bytes.Buffer
		if err := JSON(&js, p.path); err != nil {
			t.Fatal(err)
		}
		var raw []byte
		var shown []message
		for line := range strings.Lines(js.String()) {
			var e struct {
				Event   string
				Command uint64
				Frames  string
				Shown   []json.RawMessage
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if e.Event == "result" && e.Command == 1 {
				b, _ := base64.StdEncoding.DecodeString(e.Frames)
				raw = append(raw, b...)
				shown = append(shown, make([]message, len(e.Shown))...)
			}
		}
		if !bytes.Equal(raw, frames) || len(shown) != 3 || !strings.Contains(js.String(), `{"row":["naïve ✓",null,"NULL",""]}`) || !strings.Contains(js.String(), `{"base64":"//4="}`) {
			t.Errorf("cut at %d: %s", cut, js.String())
		}
	}
}

// TestRC10Head: what was not kept is said to be missing.
func TestRC10Head(t *testing.T) {
	p := start(t, 20)
	ex := p.run("select")
	p.result(ex, 'D', 0, 0, 0, 30, 0, 1, 0, 0, 0, 20, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't')
	p.done(ex, gate.Outcome{State: gate.Completed})
	p.close()
	if out := p.replay(); !strings.Contains(out, "20 of 31 bytes were kept") || strings.Contains(out, "cdef") {
		t.Error(out)
	}
}

// TestRC12Copy: what a client sends into a COPY is kept as far as answers are.
func TestRC12Copy(t *testing.T) {
	p := start(t, 30)
	ex := p.run("write copy from stdin")
	for _, b := range [][]byte{{'d', 0, 0}, {0, 10, '1', '\t', 'a', 'b', 'c', '\n'}, append([]byte{'d', 0, 0, 0, 99}, bytes.Repeat([]byte("x"), 94)...), []byte("more")} {
		if err := ex.Input(b); err != nil {
			t.Fatal(err)
		}
	}
	p.done(ex, gate.Outcome{State: gate.Completed, Tag: "COPY 1"})
	p.close()
	if out := p.replay(); !strings.Contains(out, `< 1\tabc`) || !strings.Contains(out, "the rest was not kept") {
		t.Error(out)
	}
}

// TestRC14Mode: a recording, and what it stands in, is its owner's alone.
func TestRC14Mode(t *testing.T) {
	p := start(t, 1)
	p.close()
	for path, want := range map[string]os.FileMode{p.path: 0o600, filepath.Dir(p.path): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, 0); err == nil || !strings.Contains(err.Error(), "chmod o=") {
		t.Error("a directory that others can read was taken:", err)
	}
}

// TestRC09Bounds: a session waits for a slow disk, and buffers no more than so
// much, whatever the size or number of what it appends.
func TestRC09Bounds(t *testing.T) {
	for name, size := range map[string]int{"large": 3 << 20, "tiny": 20} {
		p := start(t, 1<<30)
		rec, err := p.r.Record("ab")
		if err != nil {
			t.Fatal(err)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := rec.(*Recording)
		_ = c.f.Close()
		c.f = w // a disk as slow as whoever reads from it
		read := make(chan int, 1)
		go func() {
			n := 0
			b := make([]byte, 64<<10)
			for {
				k, err := r.Read(b)
				if n += k; err != nil {
					read <- n
					return
				}
			}
		}()
		event := make([]byte, size)
		written := 0
		for written < 5*most { // and no flusher runs
			if err := c.Append(event); err != nil {
				t.Fatal(err)
			}
			written += size
			if n := len(c.buf); n > most+size+8 {
				t.Fatalf("%s: %d bytes are buffered", name, n)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := <-read; n < written {
			t.Errorf("%s: %d of %d bytes arrived", name, n, written)
		}
		if n := cap(c.spare) + cap(c.buf); n > 8*enough {
			t.Errorf("%s: an idle recording keeps %d bytes", name, n)
		}
		p.close()
	}
}

// TestRC01ShortWrite: behind an event that was written half nothing more comes.
func TestRC01ShortWrite(t *testing.T) {
	p := start(t, 0)
	rec, _ := p.r.Record("ab")
	c := rec.(*Recording)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.f.Close()
	c.f = w
	if err := c.Append(gate.Note(time.Unix(1, 0), "ada", strings.Repeat("x", 1<<20))); err != nil {
		t.Fatal(err)
	}
	flushed := make(chan bool)
	go func() { c.flush(); close(flushed) }()
	for n := 0; n < 64<<10; { // as much as a pipe takes, and then the disk fails
		if n, err = unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	<-flushed
	c.mu.Lock()
	c.buf = append(c.buf, "appended while it was written"...)
	c.mu.Unlock()
	_ = w.SetWriteDeadline(time.Time{})
	done := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(r)
		done <- b.String()
	}()
	if err := c.Append(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the session is not told:", err)
	}
	if err := c.Close(); err == nil {
		t.Error("the end of the session is not told")
	}
	half := <-done
	if strings.Contains(half, "appended") || len(half) == 0 {
		t.Errorf("%d bytes, and something behind the half event", len(half))
	}
	path := filepath.Join(t.TempDir(), "half")
	for n := range len(magic) + 1 { // and every way in which even the beginning is cut
		if err := os.WriteFile(path, []byte(magic[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Read(path, nil); n < len(magic) && !errors.Is(err, ErrTorn) || n == len(magic) && err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := os.WriteFile(path, []byte(magic+half), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Read(path, nil); !errors.Is(err, ErrTorn) {
		t.Error(err)
	}
}
