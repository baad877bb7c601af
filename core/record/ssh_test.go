package record

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// host is a script of what a host's programs do, by a clock of its own.
type host struct {
	*script
	at time.Duration
}

func startHost(t *testing.T, head int) *host {
	t.Helper()
	h := &host{}
	h.script = startFor(t, head, "ssh")
	began := h.s.Started()
	h.g.Now = func() time.Time { return began.Add(h.at) }
	return h
}

// does submits one operation; nil is a refusal.
func (h *host) does(verb, kind, text string) *gate.Exchange {
	h.t.Helper()
	ex, err := h.s.Submit(h.t.Context(), &abi.Command{Phase: abi.Execute, Statement: &abi.Statement{Protocol: "ssh", Text: text, Operations: []abi.Operation{{Verb: verb, Kind: kind, Object: []string{text}}}}}, nil)
	if _, denied := err.(*gate.Denied); err != nil && !denied {
		h.t.Fatal(err)
	}
	return ex
}

// after lets time pass, and then what is in the frames come.
func (h *host) after(d time.Duration, ex *gate.Exchange, frames ...[]byte) {
	h.t.Helper()
	h.at += d
	if err := ex.Result(h.t.Context(), &abi.Result{Frames: bytes.Join(frames, nil)}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) typed(ex *gate.Exchange, text string) {
	h.t.Helper()
	if err := ex.Input(frame(frameIn, text)); err != nil {
		h.t.Fatal(err)
	}
}

func frame(kind byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text))), text...)
}

func sized(cols, rows uint16) []byte {
	return frame(frameResize, string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, cols), rows)))
}

// cast gives the header and the events of the recording, which have to be
// valid, and the screen: all output in one.
func (h *host) cast(only uint64) (header map[string]any, events []string, screen string) {
	h.t.Helper()
	var b bytes.Buffer
	if err := Cast(&b, h.path, only); err != nil {
		h.t.Fatal(err)
	}
	return readCast(h.t, b.Bytes())
}

func readCast(t *testing.T, b []byte) (header map[string]any, events []string, screen string) {
	t.Helper()
	if !utf8.Valid(b) {
		t.Fatalf("not UTF-8: %q", b)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 64<<20)
	lines.Scan()
	if err := json.Unmarshal(lines.Bytes(), &header); err != nil || header["version"] != 3.0 {
		t.Fatal(err, lines.Text())
	}
	for lines.Scan() {
		var e []any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || len(e) != 3 {
			t.Fatal(err, lines.Text())
		}
		interval, number := e[0].(float64)
		kind, text := e[1].(string)
		data, also := e[2].(string)
		if !number || !text || !also || interval < 0 || !strings.Contains("oimrx", kind) {
			t.Fatal(lines.Text())
		}
		if kind == "o" {
			screen += data
		}
		events = append(events, fmt.Sprintf("%.3f %s %s", interval, kind, data))
	}
	return header, events, screen
}

// played gives what reaches a terminal, and when something did.
func (h *host) played(o Playing) (screen string, at []time.Duration) {
	h.t.Helper()
	o.wait = func(_ context.Context, d time.Duration) error { at = append(at, d); return nil }
	var b bytes.Buffer
	if err := Play(h.t.Context(), &b, h.path, o); err != nil {
		h.t.Fatal(err)
	}
	return b.String(), at
}

// TestRC12Hosts: programs, files, forwards and what was refused are replayed as
// text, whoever spoke marked, while several of them run at once.
func TestRC12Hosts(t *testing.T) {
	h := startHost(t, 1000)
	one := h.does("exec", abi.KindProgram, "systemctl restart web-1")
	h.after(time.Second, one, frame(frameOut, "restarting\nhalf a "), frame(frameErr, "warning: \x1b]52;c;aGk=\a\r\n"))
	two := h.does("read", abi.KindFile, "/var/log/web")
	h.after(time.Second, two, frame(frameOut, "404 /\n"))
	h.after(0, one, frame(frameOut, "line\nno end"))
	h.typed(one, "yes\n")
	if h.does("remove", abi.KindFile, "drop /etc/passwd") != nil {
		t.Fatal("it was allowed")
	}
	h.done(two, gate.Outcome{State: gate.Completed, Tag: "read 6 bytes sha256:beef"})
	h.done(one, gate.Outcome{State: gate.Completed, Tag: "exit 3"})
	h.close()
	out := h.replay()
	for _, want := range []string{
		"3 commands: 2 completed, 1 refused; 58 bytes\n",
		"#1 allow by judge, completed: systemctl restart web-1\n" + indent + "| restarting\n" + indent + `! warning: \u001b]52;c;aGk=\u0007\r` + "\n",
		"#2 allow by judge, completed: /var/log/web\n" + indent + "| 404 /\n    2.000s    #1\n" + indent + "| half a line\n" + indent + "< yes\n",
		"#3 deny by judge: drop /etc/passwd\n",
		"#2 completed read 6 bytes sha256:beef (6 bytes, 1s)\n    2.000s    #1\n" + indent + "| no end\n    2.000s    #1 completed exit 3 (52 bytes, 2s)\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	s, err := Summarize(h.path)
	if err != nil || s.Bytes != 58 || s.Terminal || s.Outcomes[Completed] != 2 {
		t.Errorf("%+v %v", s, err)
	}
	var js bytes.Buffer
	if err := JSON(&js, h.path); err != nil || !strings.Contains(js.String(), `"shown":[{"out":"restarting\nhalf a "},{"err":"warning: \u001b]52;c;aGk=\u0007\r\n"}]`) || !strings.Contains(js.String(), `"shown":[{"in":"yes\n"}]`) {
		t.Error(err, js.String())
	}
	header, events, screen := h.cast(0)
	if screen != "restarting\r\nhalf a warning: \x1b]52;c;aGk=\a\r\nline\r\nno end" {
		t.Errorf("files are on the screen, or programs are not: %q", screen)
	}
	want := []string{"0.000 m allow: systemctl restart web-1", "1.000 o restarting\r\nhalf a ", "0.000 o warning: \x1b]52;c;aGk=\a\r\n", "0.000 m allow: /var/log/web", "1.000 o line\r\nno end", "0.000 i yes\n", "0.000 m deny: drop /etc/passwd", "0.000 x 3"}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		t.Errorf("%q", events)
	}
	if fmt.Sprint(header["term"]) != "map[cols:80 rows:24]" || header["title"] != `ada\u001b[2J for x on shop` || header["timestamp"] != float64(h.s.Started().Unix()) {
		t.Error(header)
	}
}

// TestRC10Terminal: a terminal is replayed as it was seen, wherever frames and
// code points were cut; its sizes and decisions are to be found.
func TestRC10Terminal(t *testing.T) {
	text := "$ vi naïve✓🙂\r\n\x1b[?1049h\x1b[2J~\xff\xc3\r\n\x1b[?1049lbye\r\n"
	seen := "$ vi naïve✓🙂\r\n\x1b[?1049h\x1b[2J~\ufffd\ufffd\r\n\x1b[?1049lbye\r\n"
	for cut := range len(text) {
		h := startHost(t, 100)
		ex := h.does("shell", abi.KindTerminal, "shell")
		ex.Whole()
		h.after(0, ex, sized(120, 40))
		h.typed(ex, "vi\r")
		h.after(time.Second, ex, frame(frameOut, text[:cut]))
		h.after(time.Second, ex, sized(90, 30), frame(frameOut, text[cut:]))
		h.after(time.Hour, ex, frame(frameOut, strings.Repeat("x", 200)))
		h.done(ex, gate.Outcome{State: gate.Completed, Tag: "exit 0"})
		h.close()
		header, events, screen := h.cast(0)
		if screen != seen+strings.Repeat("x", 200) {
			t.Fatalf("cut at %d: %q", cut, screen)
		}
		if all := strings.Join(events, "\n"); fmt.Sprint(header["term"]) != "map[cols:120 rows:40]" || !strings.Contains(all, " r 90x30") || !strings.Contains(all, "m allow: shell") || !strings.Contains(all, "3600.000 o xxx") || !strings.HasSuffix(all, "0.000 x 0") {
			t.Fatalf("cut at %d: %v %q", cut, header, events)
		}
		played, _ := h.played(Playing{Speed: 1})
		if want := screen + new(tame).reset(); played != want {
			t.Fatalf("cut at %d: %q", cut, played)
		}
		if out := h.replay(); !strings.Contains(out, "terminal of 120x40\n") || !strings.Contains(out, "< vi\n") || !strings.Contains(out, "| $ vi naïve✓🙂\n") || !strings.Contains(out, `| \u001b[?1049h\u001b[2J~\xff\xc3`+"\n") {
			t.Fatalf("cut at %d: %s", cut, out)
		}
		s, err := Summarize(h.path)
		if err != nil || !s.Terminal {
			t.Error("a terminal is not noticed:", err)
		}
	}
}

// TestRC10Time: speed, seek and the cutting of idle time; what was before seek
// is there at once.
func TestRC10Time(t *testing.T) {
	h := startHost(t, 1000)
	ex := h.does("exec", abi.KindProgram, "top")
	h.after(0, ex, sized(80, 24))
	for _, d := range []time.Duration{1, 2, 60, 3} {
		h.after(d*time.Second, ex, frame(frameOut, fmt.Sprintf("%d;", d)))
	}
	h.at += time.Hour // nobody waits for the end
	h.done(ex, gate.Outcome{State: gate.Completed, Tag: "exit 0"})
	h.close()
	for want, o := range map[string]Playing{
		"[1s 3s 1m3s 1m6s]":       {Speed: 1},
		"[500ms 1.5s 31.5s 33s]":  {Speed: 2},
		"[1s 3s 5s 7s]":           {Speed: 1, Idle: 2 * time.Second},
		"[1s 1m1s 1m4s]":          {Speed: 1, Seek: 2 * time.Second},
		"[2s 3.5s]":               {Speed: 2, Seek: 10 * time.Second, Idle: 4 * time.Second},
		"[]":                      {Speed: 1, Seek: 2 * time.Hour},
		"[100ms 300ms 6.3s 6.6s]": {Speed: 10, Only: 1},
	} {
		screen, at := h.played(o)
		if got := fmt.Sprint(at); got != want {
			t.Errorf("%+v: %s", o, got)
		}
		if screen != "1;2;60;3;"+new(tame).reset() {
			t.Errorf("%+v: %q", o, screen)
		}
	}
}

// TestRC10Interrupted: whoever ends it gets their terminal back.
func TestRC10Interrupted(t *testing.T) {
	h := startHost(t, 1000)
	ex := h.does("exec", abi.KindProgram, "vi")
	h.after(0, ex, sized(80, 24), frame(frameOut, "\x1b[?1049h\x1b[?25l\x1b]0;never ends"))
	h.after(time.Hour, ex, frame(frameOut, "late"))
	h.close()
	ctx, cancel := context.WithCancel(t.Context())
	seen := &watched{f: cancel}
	if err := Play(ctx, seen, h.path, Playing{Speed: 1}); err != nil {
		t.Fatal(err)
	}
	if got := seen.seen.String(); !strings.HasPrefix(got, "\x1b[?1049h\x1b[?25l\x1b[?1049l") || !strings.Contains(got, "\x1b[?7;25h") || strings.Contains(got, "late") || strings.Contains(got, "never") {
		t.Errorf("%q", got)
	}
}

// watched calls f at the first thing that is written.
type watched struct {
	seen strings.Builder
	f    func()
}

func (w *watched) Write(b []byte) (int, error) {
	w.f()
	return w.seen.Write(b)
}

// TestSC19Escapes: a recording draws on the terminal of who looks at it, and
// does nothing else there.
func TestSC19Escapes(t *testing.T) {
	harmless := []string{"plain ✓\t\r\n\a\b", "\x1b[31mred\x1b[0m", "\x1b[38:2::1:2:3m", "\x1b[2J\x1b[H", "\x1b[10;20H\x1b[K", "\x1b[?25l\x1b[?25h", "\x1b[?1049h\x1b[?1049l", "\x1b(0lqk\x1b(B", "\x1b7\x1b8\x1bM", "\x1b[1;24r\x1b[3S", "\x1b[2 q", "\x1b[!p", "\x1b#8", "\x1b[4h\x1b[4l", "\x1b[?2K"}
	harmful := []string{"\x1b]0;title\a", "\x1b]52;c;cm0gLXJm\x1b\\", "\x1b]8;;http://x\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_Gf=24;\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x1bktitle\x1b\\",
		"\x1b[c", "\x1b[>c", "\x1b[=c", "\x1bZ", "\x05", "\x1b[5n", "\x1b[6n", "\x1b[?6n", "\x1b[21t", "\x1b[14t", "\x1b[8;1;1t", "\x1b[x", "\x1b[?1$p", "\x1b[i", "\x1b[5i", "\x1b[?4i",
		"\x1b[?1000h", "\x1b[?1003;1006h", "\x1b[?2004h", "\x1b[?1004h", "\x1b[?1h", "\x1b=", "\x1b[>4;1m", "\x1b[>1u", "\x1b[?u", "\x1b[>q", "\x1b%@", "\x1b G", "\x1b[12l", "\x1b[2h", "\x1b[1;2;3;4;5T", "\x1b[g", "\x1bH", "\u009b6n", "\u009d0;t\u009c", "\u0090q\u009c", "\x00\x7f\x11\x13", "\x1b[?0;1000h", "\x1b[?3h"}
	for _, s := range harmless {
		if got := new(tame).text(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, s := range harmful {
		for cut := range len([]rune(s)) { // wherever it is cut, and whatever stands before it
			runes := []rune("a" + s + "b")
			tame := &tame{}
			got := tame.text(string(runes[:cut+1])) + tame.text(string(runes[cut+1:]))
			if strings.ContainsAny(got, "\x1b\x05\x00\x7f\x11\x13\u009b\u009d\u0090\u009c") || !strings.HasPrefix(got, "a") || !strings.HasSuffix(got, "b") {
				t.Errorf("%q became %q", s, got)
			}
		}
	}
	if got := new(tame).text("\x1b[?25;1000;1049h"); got != "\x1b[?25;1049h" {
		t.Errorf("%q", got)
	}
	if got := new(tame).text("\x1b]0;x\x1b[5n\x1b[31mred"); got != "\x1b[31mred" {
		t.Errorf("a string that another sequence ends: %q", got)
	}
	if got := new(tame).text("\x1b[" + strings.Repeat("1;", 1000) + "m"); len(got) > 1000*2 || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}

// TestWB02Cast: what a host wrote is data in an asciicast, wherever that is
// shown, and a size that no terminal has is none.
func TestWB02Cast(t *testing.T) {
	h := startHost(t, 1<<20)
	ex := h.does("exec", abi.KindProgram, "echo '</script>\x1b[2J\u202e'\n"+strings.Repeat("é", 300))
	h.after(0, ex, sized(65535, 65535), frame(frameOut, "</script><!--\x00\u2028"), sized(0, 0))
	h.done(ex, gate.Outcome{State: gate.Completed, Tag: "signal TERM"})
	h.close()
	var b bytes.Buffer
	if err := Cast(&b, h.path, 0); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<", "\x00", "\x1b", "\u2028", "\u202e"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("%q in %s", bad, b.String())
		}
	}
	header, events, screen := readCast(t, b.Bytes())
	if screen != "</script><!--\x00\u2028" || fmt.Sprint(header["term"]) != "map[cols:1000 rows:1000]" || !strings.Contains(strings.Join(events, "\n"), "r 80x24") || strings.Contains(strings.Join(events, "\n"), " x ") {
		t.Errorf("%v %q", header, events)
	}
	if !strings.HasPrefix(events[0], `0.000 m allow: echo '</script>\u001b[2J\u202e'\n`) || !strings.HasSuffix(events[0], "é…") || len(events[0]) > 400 {
		t.Errorf("%q", events[0])
	}
}

// TestRC10HostHead: what was not kept is said to be missing, in each form.
func TestRC10HostHead(t *testing.T) {
	for head, whole := range map[int]string{1: "", 4: "", 5: "", 7: "| he\n", 10: "| hello\n", 13: "| hello\n", 17: "| hello\n"} {
		h := startHost(t, head)
		ex := h.does("exec", abi.KindProgram, "cat")
		h.after(0, ex, frame(frameOut, "hello"), frame(frameErr, "\nworld"))
		h.typed(ex, "unread")
		h.done(ex, gate.Outcome{State: gate.Completed, Tag: "exit 0"})
		h.close()
		out := h.replay()
		if !strings.Contains(out, "bytes were kept)") || !strings.Contains(out, whole) || strings.Contains(out, "world") {
			t.Errorf("%d: %s", head, out)
		}
		if _, events, _ := h.cast(0); !strings.Contains(strings.Join(events, "\n"), "m the rest was not kept") && head != 10 {
			t.Errorf("%d: %q", head, events)
		}
	}
}

// TestRC09HugeFrames: a frame may claim, and have, more than memory holds; a
// line without an end is shown in parts.
func TestRC09HugeFrames(t *testing.T) {
	h := startHost(t, 1<<30)
	ex := h.does("exec", abi.KindProgram, "yes")
	h.after(0, ex, []byte{frameOut, 0xff, 0xff, 0xff, 0xff})
	for range 64 {
		h.after(0, ex, bytes.Repeat([]byte("é"), 32<<10))
	}
	h.done(ex, gate.Outcome{State: gate.Completed})
	other := h.does("exec", abi.KindProgram, "odd")
	h.after(0, other, frame('z', "what"), frame('z', ""), frame(frameResize, "far too long"), frame(frameResize, "x"), frame(frameOut, "seen\n"))
	h.done(other, gate.Outcome{State: gate.Completed})
	h.close()
	out := h.replay()
	if strings.Count(out, "é") != 64*32<<10 || !strings.Contains(out, "é\\\n") || strings.Contains(out, `\x`) {
		t.Error("parts of a line are lost or cut within a character")
	}
	for line := range strings.Lines(out) {
		if len(line) > maxLine+100 {
			t.Fatal("a line of", len(line))
		}
	}
	if !strings.Contains(out, "the rest was not kept") || strings.Count(out, "does not know, 'z'") != 1 || !strings.Contains(out, "| seen\n") || strings.Contains(out, "terminal of") {
		t.Error(out[len(out)-1000:])
	}
}

// TestRC01TornHost: a recording is shown as far as it goes, and says so.
func TestRC01TornHost(t *testing.T) {
	h := startHost(t, 1000)
	ex := h.does("shell", abi.KindTerminal, "shell")
	h.after(0, ex, sized(80, 24), frame(frameOut, "$ half a line\xc3"))
	if err := h.s.Ambient().Result(t.Context(), &abi.Result{Frames: frame(frameErr, "a banner that does not fit"+strings.Repeat(".", 2000))}); err != nil {
		t.Fatal(err)
	}
	h.does("exec", abi.KindProgram, "drop")
	if err := h.s.Ambient().Result(t.Context(), &abi.Result{Frames: frame(frameErr, "another\n")}); err != nil {
		t.Fatal(err)
	}
	h.close()
	b, err := os.ReadFile(h.path)
	if err != nil {
		t.Fatal(err)
	}
	if out := h.replay(); !strings.Contains(out, `| $ half a line\xc3`) || !strings.Contains(out, "outside of commands\n"+indent+"! a banner") || !strings.Contains(out, "! another\n") {
		t.Error(out)
	}
	for n := range b {
		if err := os.WriteFile(h.path, b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var cast bytes.Buffer
		for _, err := range []error{Replay(io.Discard, h.path), JSON(io.Discard, h.path), Cast(&cast, h.path, 0), Play(t.Context(), io.Discard, h.path, Playing{Speed: 1000})} {
			if err != nil && !errors.Is(err, ErrNoScreen) {
				t.Fatal(n, err)
			}
		}
		if cast.Len() > 0 {
			readCast(t, cast.Bytes())
		}
	}
	if err := os.WriteFile(h.path, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := h.replay(); !strings.Contains(out, "ends in the middle of an event") {
		t.Error(out)
	}
	if _, events, _ := h.cast(0); !strings.HasSuffix(events[len(events)-1], "m "+ErrTorn.Error()) {
		t.Error(events)
	}
	if played, _ := h.played(Playing{Speed: 1}); !strings.HasSuffix(played, ErrTorn.Error()+": the session goes on, or its gateway was killed\r\n") {
		t.Errorf("%q", played)
	}
}

// TestRC06HostClock: a clock that is set back gives no time below zero.
func TestRC06HostClock(t *testing.T) {
	h := startHost(t, 1000)
	ex := h.does("exec", abi.KindProgram, "date")
	h.after(time.Minute, ex, frame(frameOut, "a"))
	h.after(-time.Hour, ex, frame(frameOut, "b"))
	h.after(time.Hour+time.Second, ex, frame(frameOut, "c"))
	h.close()
	_, events, _ := h.cast(0)
	if got := strings.Join(events, ", "); got != "0.000 m allow: date, 60.000 o a, 0.000 o b, 1.000 o c" {
		t.Error(got)
	}
}

// TestRC10Only: one command alone, which has to be there, of a session on a host.
func TestRC10Only(t *testing.T) {
	h := startHost(t, 1000)
	for _, text := range []string{"one", "two"} {
		ex := h.does("exec", abi.KindProgram, text)
		h.after(0, ex, frame(frameOut, text))
		h.done(ex, gate.Outcome{State: gate.Completed, Tag: "exit 0"})
	}
	h.close()
	if _, events, screen := h.cast(2); screen != "two" || len(events) != 3 {
		t.Errorf("%q", events)
	}
	if err := Cast(io.Discard, h.path, 3); err == nil || !strings.Contains(err.Error(), "no command 3") {
		t.Error(err)
	}
	p := start(t, 10)
	p.close()
	if err := Cast(io.Discard, p.path, 0); !errors.Is(err, ErrNoScreen) {
		t.Error(err)
	}
	if err := Play(t.Context(), io.Discard, p.path, Playing{}); !errors.Is(err, ErrNoScreen) {
		t.Error(err)
	}
}

// FuzzHost: whatever frames a recording has, cut anywhere, every form of it can
// be read, and none speaks to a terminal.
func FuzzHost(f *testing.F) {
	f.Add(append(sized(80, 24), frame(frameOut, "a\x1b]0;b\a\xc3\n")...), uint16(3))
	f.Add([]byte{frameErr, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, uint16(6))
	f.Add(append(frame('z', "x"), frame(frameIn, "\x1b[c\r")...), uint16(0))
	f.Fuzz(func(t *testing.T, frames []byte, cut uint16) {
		h := startHost(t, 1<<20)
		ex := h.does("exec", abi.KindProgram, "x")
		n := min(int(cut), len(frames))
		h.after(1, ex, frames[:n])
		_ = ex.Input(frames[n:])
		h.after(1, ex, frames[n:])
		h.done(ex, gate.Outcome{State: gate.Completed})
		h.close()
		h.replay()
		_, _, screen := h.cast(0)
		played, _ := h.played(Playing{Speed: 1})
		drawn := strings.TrimSuffix(played, "\r\n")
		if len(drawn) > len(screen)+200 || !utf8.ValidString(played) || strings.ContainsAny(played, "\x05\x00\x7f") || strings.Contains(played, "\x1b]") || strings.Contains(played, "\x1b[c") {
			t.Errorf("%q of %q", played, screen)
		}
		if err := JSON(io.Discard, h.path); err != nil {
			t.Error(err)
		}
	})
}
