package sftp

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// review holds what writes, and allows all else.
func review(terms abi.Terms) func(*abi.Command) abi.Verdict {
	return func(c *abi.Command) abi.Verdict {
		if c.Statement.Writes() {
			return abi.Verdict{Decision: abi.Review, Terms: terms, Review: abi.Requirement{Groups: []string{"ops"}, People: 1, Summary: "changes files"}}
		}
		return abi.Verdict{Decision: abi.Allow}
	}
}

// TestSF10Spool: what is written to a file that people have to approve is kept,
// shown to them at its CLOSE, and only then goes to the host; the answer to that
// CLOSE tells how it came out. Nothing else waits.
func TestSF10Spool(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/other", "other")
	c := l.connect(t)
	content := strings.Repeat("0123456789", 9000)
	h := c.open("f", flagWrite|flagCreate|flagTrunc)
	for at := 0; at < len(content); at += 30000 {
		want(t, "WRITE", c.do(typeWrite, h, uint64(at), content[at:at+30000]), "status 0")
	}
	a := c.do(typeFstat, h)
	f := fields{b: a.body}
	if s := f.attrs(); s.size != uint64(len(content)) {
		t.Errorf("its size is %d", s.size)
	}
	want(t, "READ", c.do(typeRead, h, uint64(0), 10), "status 3")
	want(t, "fsync", c.do(typeExtended, extFsync, h), "status 8")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrMode, mode: 0o600}), "status 0")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrTimes, mtime: 12345}), "status 0")
	want(t, "FSETSTAT of a size", c.do(typeFsetstat, h, attrs{flags: attrSize, size: 1}), "status 8")
	if got := sshtest.Tree(t, l.dir); strings.Contains(got, `"f"`) {
		t.Fatal("it is there before anybody was asked")
	}
	closing := c.send(typeClose, h)
	r := l.asked(t)
	sum := sha256.Sum256([]byte(content))
	if r.Input.Kind != abi.InputSpooled || r.Input.Size != uint64(len(content)) || string(r.Input.Digest) != string(sum[:]) || string(r.Input.Head) != content[:4096] {
		t.Errorf("people see %+v", r.Input)
	}
	if got, w := fmt.Sprint(r.Operations), fmt.Sprintf("[write %s/f setstat %[1]s/f = mode=0600 atime=0 mtime=12345]", l.dir); got != w {
		t.Errorf("people see %s, want %s", got, w)
	}
	want(t, "another", c.do(typeRead, c.open("other", flagRead), uint64(0), 10), "data other")
	want(t, "the handle", c.do(typeWrite, h, uint64(0), "x"), "status 4")
	if got := get(t, l.dir+"/f"); !strings.HasPrefix(got, "none") {
		t.Fatal("it is there before it is approved")
	}
	l.decide(r, gate.Approved)
	if a := c.answer(); a.id != closing || a.code != codeOK || a.typ != typeStatus {
		t.Errorf("CLOSE: %d %s", a.id, a)
	}
	if got := get(t, l.dir+"/f"); got != content {
		t.Errorf("the file is %d bytes", len(got))
	}
	if got := sshtest.Tree(t, l.dir); !strings.Contains(got, `"f" -rw------- `) {
		t.Error(got)
	}
	if got := l.ended(); !strings.HasSuffix(got[len(got)-1], fmt.Sprintf("completed  wrote %d bytes sha256:%x", len(content), sum)) {
		t.Errorf("the log says %q", got)
	}
	if got := l.lines(); !strings.Contains(got, "waiting for approval: request "+r.ID+": changes files (sftp open write") || !strings.Contains(got, "It needs 1 of ops, until ") || !strings.Contains(got, "taskgate approve "+r.ID) {
		t.Errorf("the person reads %q", got)
	}
}

// TestSF10Denied: what is not approved leaves no trace at the host, and the
// client learns it.
func TestSF10Denied(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	for _, ask := range []func() uint32{
		func() uint32 {
			h := c.open("f", flagWrite|flagTrunc)
			c.do(typeWrite, h, uint64(0), "x")
			return c.send(typeClose, h)
		},
		func() uint32 { return c.send(typeRemove, "f") },
		func() uint32 { return c.send(typeRename, "f", "g") },
		func() uint32 { return c.send(typeSetstat, "f", attrs{flags: attrSize}) },
		func() uint32 { return c.send(typeExtended, extHardlink, "f", "g") },
	} {
		id := ask()
		r := l.asked(t)
		want(t, "STAT", c.do(typeStat, "f"), "type 105")
		l.decide(r, gate.Refused)
		if a := c.answer(); a.id != id || !strings.HasPrefix(a.String(), "status 3 taskgate: denied: denied by bob") {
			t.Errorf("%d: %s", a.id, a)
		}
	}
	if got := sshtest.Tree(t, l.dir); get(t, l.dir+"/f") != "content" || strings.Contains(got, `"g"`) {
		t.Error(got)
	}
}

// TestSF10Sparse: what is written in pieces is bound with where they go.
func TestSF10Sparse(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "0123456789")
	c := l.connect(t)
	var bindings []string
	for _, at := range []uint64{2, 3} {
		h := c.open("f", flagWrite)
		want(t, "WRITE", c.do(typeWrite, h, uint64(8), "b"), "status 0")
		want(t, "WRITE", c.do(typeWrite, h, at, "a"), "status 0")
		id := c.send(typeClose, h)
		r := l.asked(t)
		bindings = append(bindings, fmt.Sprintf("%x", r.Binding))
		l.decide(r, gate.Approved)
		if a := c.answer(); a.id != id || a.code != codeOK {
			t.Errorf("CLOSE: %s", a)
		}
	}
	if got := get(t, l.dir+"/f"); got != "01aa4567b9" || bindings[0] == bindings[1] {
		t.Errorf("the file is %q, the bindings are %q", got, bindings)
	}
}

// TestSF10Runs: many small pieces are written as they were sent.
func TestSF10Runs(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	c := l.connect(t)
	h := c.open("f", flagWrite|flagCreate)
	content := make([]byte, 2*maxRuns)
	for i := range maxRuns {
		content[2*i] = byte(i)
		want(t, "WRITE", c.do(typeWrite, h, uint64(2*i), content[2*i:2*i+1]), "status 0")
	}
	want(t, "WRITE", c.do(typeWrite, h, uint64(2*maxRuns-1), "\x00"), "status 0")
	c.send(typeClose, h)
	l.decide(l.asked(t), gate.Approved)
	want(t, "CLOSE", c.answer(), "status 0")
	if get(t, l.dir+"/f") != string(content) {
		t.Error("it is not what was sent")
	}
}

// TestSF10Failed: what the host refuses after it was approved is told as such.
func TestSF10Failed(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	c := l.connect(t)
	h := c.open("none/f", flagWrite|flagCreate)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 0")
	c.send(typeClose, h)
	l.decide(l.asked(t), gate.Approved)
	if a := c.answer(); a.code != codeNoSuchFile {
		t.Errorf("CLOSE: %s", a)
	}
	put(t, l.dir+"/d/f", "")
	h = c.open("d", flagWrite)
	c.send(typeClose, h)
	l.decide(l.asked(t), gate.Approved)
	if a := c.answer(); a.code != codeFailure {
		t.Errorf("CLOSE: %s", a)
	}
	for _, line := range l.ended() {
		if !strings.Contains(line, ": failed") {
			t.Errorf("the log says %q", line)
		}
	}
}

// TestSF10Ends: a file that is written over ends where scp says, also at the host,
// and people see it.
func TestSF10Ends(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "what was there before")
	c := l.connect(t)
	h := c.open("f", flagWrite|flagCreate)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "new"), "status 0")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrSize, size: 4}), "status 8")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrSize, size: 3}), "status 0")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrMode, mode: 0o600}), "status 0")
	want(t, "WRITE behind its end", c.do(typeWrite, h, uint64(3), "er"), "status 8")
	closing := c.send(typeClose, h)
	r := l.asked(t)
	if !strings.HasPrefix(r.Text, "sftp open write create size=3 mode=0600 ") {
		t.Errorf("people see %s", r.Text)
	}
	l.decide(r, gate.Approved)
	if a := c.answer(); a.id != closing || a.code != codeOK {
		t.Errorf("CLOSE: %d %s", a.id, a)
	}
	if got := get(t, l.dir+"/f"); got != "new" {
		t.Errorf("the file is %q", got)
	}
}

// TestSF10Large: what is too much to be shown is refused, unless the rule says
// that it may go unseen: then its OPEN waits, and nothing is kept.
func TestSF10Large(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	c := l.connect(t)
	piece := strings.Repeat("x", 200000)
	h := c.open("f", flagWrite|flagCreate)
	for i := range 6 {
		w := "status 0"
		if i == 5 {
			w = "status 3 taskgate: denied: this needs the approval of other people, who cannot be shown"
		}
		want(t, "WRITE", c.do(typeWrite, h, uint64(i*len(piece)), piece), w)
	}
	want(t, "CLOSE", c.do(typeClose, h), "status 3")
	var open [][]byte
	for range 3 { // a channel keeps no more than so much
		h := c.open("g", flagWrite|flagCreate)
		open = append(open, h)
		for i := range 5 {
			want(t, "WRITE", c.do(typeWrite, h, uint64(i*len(piece)), piece), "status 0")
		}
	}
	last := c.open("g", flagWrite|flagCreate)
	for i := range 6 {
		c.do(typeWrite, last, uint64(i*len(piece)), piece)
	}
	want(t, "CLOSE", c.do(typeClose, last), "status 3")
	if got := sshtest.Tree(t, l.dir); strings.Contains(got, "g") && strings.Contains(got, `"f"`) {
		t.Error(got)
	}
	_ = open
	l2 := newLab(t, review(abi.Terms{Payload: "unseen"}))
	c = l2.connect(t)
	id := c.send(typeOpen, "f", flagWrite|flagCreate, attrs{})
	r := l2.asked(t)
	if r.Input.Kind != abi.InputStream {
		t.Errorf("people see %+v", r.Input)
	}
	l2.decide(r, gate.Approved)
	a := c.answer()
	if a.id != id || a.typ != typeHandle {
		t.Fatalf("OPEN: %s", a)
	}
	f := fields{b: a.body}
	h = f.bytes()
	for i := range 10 {
		want(t, "WRITE", c.do(typeWrite, h, uint64(i*len(piece)), piece), "status 0")
	}
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	if got := get(t, l2.dir+"/f"); len(got) != 10*len(piece) {
		t.Errorf("the file is %d bytes", len(got))
	}
}

// TestSF10Changed: a path that leads elsewhere by the time it is approved is not
// what was approved.
func TestSF10Changed(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/a/f", "a")
	put(t, l.dir+"/b/f", "b")
	other := newLab(t, every(anything))
	other.dir = l.dir
	c, o := l.connect(t), other.connect(t)
	want(t, "SYMLINK", o.do(typeSymlink, "a", "d"), "status 0")
	c.send(typeRemove, "d/f")
	r := l.asked(t)
	want(t, "REMOVE", o.do(typeRemove, "d"), "status 0")
	want(t, "SYMLINK", o.do(typeSymlink, "b", "d"), "status 0")
	l.decide(r, gate.Approved)
	want(t, "REMOVE", c.answer(), "status 3 taskgate: denied: the path leads elsewhere")
	if get(t, l.dir+"/a/f") != "a" || get(t, l.dir+"/b/f") != "b" {
		t.Error(sshtest.Tree(t, l.dir))
	}
}

// TestSF10Leaves: a client that leaves takes back what waits, and what it had
// begun to write.
func TestSF10Leaves(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	h := c.open("g", flagWrite|flagCreate)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 0")
	c.send(typeRemove, "f")
	r := l.asked(t)
	c.nc.Close()
	if err := <-c.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	a := l.of(r.ID)
	l.mu1(func() {
		if a.state != gate.Withdrawn || !strings.Contains(a.why, "left") {
			t.Errorf("the request is %s: %s", a.state, a.why)
		}
		refused := 0
		for _, e := range l.events {
			if e.Kind == gate.EventCommand && e.Decision == "deny" {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d refusals are written down, one file was kept", refused)
		}
	})
	if got := sshtest.Tree(t, l.dir); !strings.Contains(got, `"f"`) || strings.Contains(got, `"g"`) {
		t.Error(got)
	}
}

// TestSF10Many: what waits is bounded.
func TestSF10Many(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	for range maxHeld {
		c.send(typeRemove, "f")
		l.asked(t)
	}
	want(t, "one more", c.do(typeRemove, "f"), "status 3 taskgate: denied: too much of this channel waits")
	want(t, "another", c.do(typeStat, "f"), "type 105")
}

// TestSF10Killed: a session that ends ends its channel, whatever waits.
func TestSF10Killed(t *testing.T) {
	l := newLab(t, review(abi.Terms{}))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	c.open("f", flagRead)
	c.send(typeRemove, "f")
	l.asked(t)
	l.gate.Kill("enough", func(*gate.Session) bool { return true })
	select {
	case err := <-c.done:
		if err == nil || err.Error() != "enough" {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if got := l.ended(); len(got) != 1 || !strings.Contains(got[0], ": unknown  read 0 bytes") {
		t.Errorf("the log says %q", got)
	}
}

// TestSF09Masked: a file whose content is masked is not shown as it is.
func TestSF09Masked(t *testing.T) {
	l := newLab(t, func(*abi.Command) abi.Verdict { return abi.Verdict{Decision: abi.Allow} })
	l.guard(&masker{rules: l.rules})
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	want(t, "OPEN", c.do(typeOpen, "f", flagRead, attrs{}), "status 3 taskgate: denied: what is in this file is masked")
	want(t, "OPEN", c.do(typeOpen, "f", flagWrite, attrs{}), "type 102")
	want(t, "STAT", c.do(typeStat, "f"), "type 105")
}
