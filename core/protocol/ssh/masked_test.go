package ssh

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// TestMaskedOutput: what a program shows is masked line by line, on both of its
// outputs, however it was cut on its way; and so is what is written down.
func TestMaskedOutput(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		return &abi.Verdict{Decision: abi.Allow, Stdin: true, Protect: []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}}
	})
	const in = "one\nuser password=Zoë-1 rest\npassword=Zoë-2"
	const want = "one\nuser password=*** rest\npassword=***"
	for text, errs := range map[string]bool{"tee": false, "tee /dev/stderr": true} {
		r := run(t, g.ssh(who, text), in)
		if r.code != 0 || r.out != want || errs != (strings.TrimSpace(r.err) == want) {
			t.Errorf("%s: %d %q %q", text, r.code, r.out, r.err)
		}
	}
	// Each byte in a packet of its own.
	c := g.connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.Stdout = &out
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	for i := range len(in) {
		if _, err := w.Write([]byte{in[i]}); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if err := s.Wait(); err != nil || out.String() != want {
		t.Errorf("%q %v", out.String(), err)
	}
	e := g.log.wait(t, "the end of cat", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Command == 1 && len(e.Masked) == 1 })
	if e.Masked[0].Cells == 0 {
		t.Errorf("%+v", e.Masked)
	}
	if kept := g.log.frames(FrameOut) + g.log.frames(FrameErr); strings.Contains(kept, "Zo") || !strings.Contains(kept, want) {
		t.Errorf("recorded: %q", kept)
	}
}

// hidden masks what stands behind password= in whatever is answered.
func hidden(*abi.Command) *abi.Verdict {
	return &abi.Verdict{Decision: abi.Allow, Stdin: true, Protect: []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}}
}

const apart = "taskgate: note: what this command shows is masked line by line, so it runs without a terminal\r\n"

// TestMaskedTerminal: the terminal in front of a client does not change the
// lines that are masked, however narrow it is: the program has none.
func TestMaskedTerminal(t *testing.T) {
	g := serve(t, hidden)
	for _, name := range []string{"a-password=Zoe-1", "b-password=Zoe-2", "c-password=Zoe-3"} {
		g.write(t, name, "name password=Zoe-4 of a long line that a narrow terminal would have broken in two\n")
	}
	files := g.dir + "/a-password=Zoe-1 " + g.dir + "/b-password=Zoe-2"
	for what, text := range map[string]string{
		"ls":             "ls " + g.dir,
		"colours":        "ls --color=auto -C " + g.dir,
		"grep":           "grep --color=always password " + files,
		"column":         "column -t " + files,
		"a table":        "pr -m -t -w 200 " + files,
		"one that looks": `perl -e 'print -t STDOUT ? qq(password\n=Zoe-5\n) : qq(password=Zoe-5\n)'`,
		"one that wraps": `perl -e '$w = $ENV{COLUMNS} || 80; $_ = q(a long name: password=Zoe-6); while (s/^(.{1,$w})//) { print qq($1\n) }'`,
	} {
		for _, pty := range []bool{false, true} {
			s, err := g.connect(t).NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Setenv("COLUMNS", "12"); err != nil {
				t.Fatal(err)
			}
			if pty {
				if err := s.RequestPty("xterm", 4, 12, ssh.TerminalModes{ssh.OPOST: 1, ssh.OLCUC: 1, ssh.ECHO: 1}); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs strings.Builder
			s.Stdout, s.Stderr = &out, &errs
			if err := s.Run(text); err != nil {
				t.Fatalf("%s: %v %s", what, err, errs.String())
			}
			if strings.Contains(out.String(), "Zoe") || !strings.Contains(out.String(), "password") {
				t.Errorf("%s, with a terminal %v: %q", what, pty, out.String())
			}
			if pty != strings.Contains(errs.String(), apart) || !strings.Contains(errs.String(), "COLUMNS is not passed on") {
				t.Errorf("%s: %q", what, errs.String())
			}
			if n := strings.Count(out.String(), "\n"); pty && n != strings.Count(out.String(), "\r\n") {
				t.Errorf("%s: the ends of its lines: %q", what, out.String())
			}
		}
	}
	if strings.Contains(g.log.frames(FrameOut), "Zoe") {
		t.Error("it is recorded")
	}
}

// TestMaskedKeys: who types for a program that has no terminal types lines, an
// end, and ctrl-C.
func TestMaskedKeys(t *testing.T) {
	g := serve(t, hidden)
	begin := func(text string) (*ssh.Session, io.Writer, *bufio.Reader) {
		s, err := g.connect(t).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		w, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(text); err != nil {
			t.Fatal(err)
		}
		at := bufio.NewReader(r)
		if line, err := at.ReadString('\n'); err != nil || line != "begin\r\n" {
			t.Fatalf("%q %v", line, err)
		}
		return s, w, at
	}
	const copies = `perl -e '$|=1; print qq(begin\n); while (<STDIN>) { print }'`
	// Between the two halves of the line somebody types another.
	s, w, at := begin("perl -e '$|=1; print qq(begin\\npassword=); <STDIN>; print qq(Zoe-1\\n)'")
	if err := s.WindowChange(30, 20); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "\r")
	if rest, _ := io.ReadAll(at); string(rest) != "password=***\r\n" {
		t.Errorf("%q", rest)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	s, w, at = begin(copies)
	io.WriteString(w, "one\rpassword=Zoe-2\r\x04lost")
	if rest, _ := io.ReadAll(at); string(rest) != "one\r\npassword=***\r\n" {
		t.Errorf("%q", rest)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	s, w, _ = begin(copies)
	io.WriteString(w, "\x03")
	var e *ssh.ExitError
	if err := s.Wait(); !asExit(err, &e) || e.ExitStatus() != exitCalled {
		t.Errorf("ctrl-C: %v", err)
	}
}

// TestMaskedCopies: what copies files by a text that is not understood does not
// run beside a mask, and sftp's way shows what is masked.
func TestMaskedCopies(t *testing.T) {
	g := serve(t, hidden)
	from := g.write(t, "from", "password=geheim\n")
	sh := "ssh " + strings.Join(g.options(), " ")
	for _, words := range [][]string{
		{"scp", "-O", "-q", "-S", g.write(t, "sh", "#!/bin/sh\nexec "+sh+" \"$@\"\n"), who + ":" + from, "to"},
		{"rsync", "-a", "-e", sh, who + ":" + from, "to"},
		{"rsync", "-z", "-e", sh, who + ":" + from, "to"},
	} {
		if err := os.Chmod(g.dir+"/sh", 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env, cmd.Dir = g.env(), t.TempDir()
		r := run(t, cmd, "")
		if _, err := os.Stat(cmd.Dir + "/to"); r.code == 0 || err == nil || !strings.Contains(r.err, "what this command shows is to be masked") {
			t.Errorf("%s: %+v", words, r)
		}
	}
	cmd := exec.Command("scp", append(append([]string{"-q", "-P", g.port}, g.options()[4:]...), who+":"+from, g.dir+"/to")...)
	cmd.Env = g.env()
	r := run(t, cmd, "")
	if b, err := os.ReadFile(g.dir + "/to"); err != nil || string(b) != "password=***\n" {
		t.Errorf("%+v: %q %v", r, b, err)
	}
}

// capitals answers every cell in capitals, and fails at one.
func capitals(b *abi.Batch) (*abi.Batch, error) {
	out := b.Answer()
	for i := range b.Rows {
		cell, _ := b.Columns[0].Cell(i)
		if string(cell) == "trap" {
			return nil, errors.New("it has trapped")
		}
		out.Columns[0].Add(bytes.ToUpper(cell), false)
	}
	return out, nil
}

// TestMaskedCustom: a guard masks the lines of a program itself, on both of its
// outputs; where it fails, the command ends with a refusal.
func TestMaskedCustom(t *testing.T) {
	g := serve(t, func(*abi.Command) *abi.Verdict {
		return &abi.Verdict{Decision: abi.Allow, Stdin: true, Protect: []abi.Protect{{Pattern: ".+", Kind: abi.MaskCustom}, {Pattern: "[0-9]+", Kind: abi.MaskFixed, Arg: "n"}}}
	}, func(g *gateway) { g.guard.batch = capitals })
	if r := run(t, g.ssh(who, "tee /dev/stderr"), "one 12\n\nzoë"); r.code != 0 || r.out != "ONE N\n\nZOË" || r.err != r.out {
		t.Errorf("%d %q %q", r.code, r.out, r.err)
	}
	r := run(t, g.ssh(who, "cat"), "fine\ntrap\nsecret\n"+strings.Repeat("more\n", 100000))
	if r.code != 126 || strings.Contains(strings.ToLower(r.out+r.err), "secret") || !strings.Contains(r.err, `taskgate: denied: the guard "rules" failed to mask`) {
		t.Errorf("%d %q %q", r.code, r.out, r.err)
	}
	g.log.wait(t, "how it ended", func(e *gate.Event) bool { return e.Kind == gate.EventDone && e.Code == "gate.guard-failed" })
	if kept := strings.ToLower(g.log.frames(FrameOut)); strings.Contains(kept, "secret") || strings.Contains(kept, "trap") {
		t.Errorf("recorded: %q", kept)
	}
	g.guard.batch = nil // it says CUSTOM, and has nothing that does it
	if r := run(t, g.ssh(who, "touch "+g.dir+"/ran"), ""); r.code != 126 || !strings.Contains(r.err, "wants to mask the answer itself, and does not") {
		t.Errorf("%d %q %q", r.code, r.out, r.err)
	}
	if _, err := os.Stat(g.dir + "/ran"); err == nil {
		t.Error("it has run")
	}
}

// TestMaskedConversation: a program that speaks to a program does not begin where
// its client would wait for the end of a line that has none.
func TestMaskedConversation(t *testing.T) {
	g := serve(t, func(c *abi.Command) *abi.Verdict {
		v := hidden(c)
		if strings.Contains(c.Statement.Text, "held") {
			v.Decision, v.Review = abi.Review, abi.Requirement{Groups: []string{"ops"}, People: 1, Within: 60}
		}
		return v
	})
	if out, err := exec.Command("git", "init", "-q", "--bare", g.dir+"/held").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(g.dir+"/held", g.dir+"/repo"); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"repo", "held"} {
		cmd := exec.Command("git", "clone", "-q", who+":"+g.dir+"/"+repo, t.TempDir()+"/to")
		cmd.Env = append(g.env(), "GIT_SSH_COMMAND=ssh "+strings.Join(g.options(), " "))
		if r := run(t, cmd, ""); r.code == 0 || !strings.Contains(r.err, "taskgate: denied: this program speaks to a program") || !strings.Contains(r.err, "taskgate: hint: files that are masked") {
			t.Errorf("%s: %+v", repo, r)
		}
	}
	if len(g.log.asked) > 0 {
		t.Error("people were asked")
	}
}
