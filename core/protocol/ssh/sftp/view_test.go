package sftp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// hides masks what stands behind password= in whatever is answered.
func hides(*abi.Command) abi.Verdict {
	return abi.Verdict{Decision: abi.Allow, Protect: []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}}
}

// TestSF09View: a file whose content is masked is read as a whole, and what is
// read of it is what has come of that, wherever it is cut.
func TestSF09View(t *testing.T) {
	l := newLab(t, hides)
	var content, masked strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&content, "%d password=geheim%d end\n", i, i)
		fmt.Fprintf(&masked, "%d password=*** end\n", i)
	}
	content.WriteString("password=last")
	masked.WriteString("password=***")
	put(t, l.dir+"/f", content.String())
	put(t, l.dir+"/empty", "")
	c := l.connect(t)
	h := c.open("f", flagRead)
	a := c.do(typeFstat, h)
	f := fields{b: a.body}
	if s := f.attrs(); s.size != uint64(masked.Len()) {
		t.Errorf("its size is %d, want %d", s.size, masked.Len())
	}
	var got strings.Builder
	for {
		a := c.do(typeRead, h, uint64(got.Len()), 31007)
		if a.typ != typeData {
			want(t, "the end", a, "status 1")
			break
		}
		got.Write(a.body[4:])
	}
	if got.String() != masked.String() {
		t.Errorf("%d bytes are read, want %d", got.Len(), masked.Len())
	}
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 3")
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	want(t, "READ", c.do(typeRead, h, uint64(0), 1), "status 4")
	want(t, "OPEN for both", c.do(typeOpen, "f", flagRead|flagWrite, attrs{}), "status 3")
	h = c.open("empty", flagRead)
	want(t, "READ", c.do(typeRead, h, uint64(0), 1), "status 1")
	want(t, "CLOSE", c.do(typeClose, h), "status 0")
	h = c.open("f", flagWrite)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 0")
	if err := os.Truncate(l.dir+"/f", maxView+1); err != nil {
		t.Fatal(err)
	}
	want(t, "OPEN of a large one", c.do(typeOpen, "f", flagRead, attrs{}), "status 3 taskgate: denied: what is in this file is masked, and that can be done of at most 64 MB")
	l.mu1(func() {
		for _, e := range append(l.events, l.taped...) {
			if strings.Contains(string(e.Frame), "geheim") {
				t.Fatal("the recording has what is masked")
			}
		}
	})
}

// TestSF09Sizes: the size of a file that is masked stands nowhere, and stock
// clients do without it.
func TestSF09Sizes(t *testing.T) {
	l := newLab(t, hides)
	put(t, l.dir+"/d/f", "password=secret\nend")
	c := l.connect(t)
	for _, typ := range []byte{typeStat, typeLstat} {
		f := fields{b: c.do(typ, "d/f").body}
		if a := f.attrs(); a.flags&attrSize != 0 || a.flags&attrMode == 0 {
			t.Errorf("%d tells %+v", typ, a)
		}
	}
	f := fields{b: c.do(typeOpendir, "d").body}
	f = fields{b: c.do(typeReaddir, f.bytes()).body}
	n := f.u32()
	for range n {
		name, long := string(f.bytes()), string(f.bytes())
		if a := f.attrs(); a.flags&attrSize != 0 || long != name {
			t.Errorf("READDIR: %q %+v", long, a)
		}
	}
	if n != 3 || f.bad || len(f.b) > 0 {
		t.Errorf("%d names", n)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env, local := l.listen(t), t.TempDir()
	if code, out := run(t, local, env, "", "scp", "-S", self, "-r", "h:d", "."); code != 0 || get(t, local+"/d/f") != "password=***\nend" {
		t.Errorf("%d %s: %q", code, out, get(t, local+"/d/f"))
	}
}

// listed gives the entries of a directory, each with its attributes and its long
// form.
func (c *client) listed(dir string) (all map[string]attrs, long map[string]string) {
	all, long = map[string]attrs{}, map[string]string{}
	f := fields{b: c.do(typeOpendir, dir).body}
	h := f.bytes()
	for {
		a := c.do(typeReaddir, h)
		if a.typ != typeName {
			want(c.t, "the end", a, "status 1")
			break
		}
		f := fields{b: a.body}
		for range f.u32() {
			name := string(f.bytes())
			long[name] = string(f.bytes())
			all[name] = f.attrs()
		}
	}
	want(c.t, "CLOSE", c.do(typeClose, h), "status 0")
	return all, long
}

// confs masks files whose name ends in .conf, and refuses to look at hidden ones.
func confs(c *abi.Command) abi.Verdict {
	v := abi.Verdict{Decision: abi.Allow}
	for _, o := range c.Statement.Operations {
		if strings.Contains(o.Object[0], "/.") {
			return deny
		}
		if o.Verb == "list" || (o.Verb == "stat" || o.Verb == "read") && strings.HasSuffix(o.Object[0], ".conf") {
			v.Protect = hides(c).Protect
		}
	}
	return v
}

// TestSF09Entries: a list tells the sizes of what is not masked, and of nothing
// that may lead elsewhere.
func TestSF09Entries(t *testing.T) {
	l := newLab(t, confs)
	for _, name := range []string{"a.conf", "b.log", ".dot"} {
		put(t, l.dir+"/d/"+name, "password=secret\nend")
	}
	put(t, l.dir+"/d/sub/x", "")
	for name, to := range map[string]string{"to.log": "b.log", "to.txt": "a.conf"} {
		if err := os.Symlink(to, l.dir+"/d/"+name); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	all, long := c.listed("d")
	for name, told := range map[string]bool{"a.conf": false, "b.log": true, ".dot": false, "to.log": false, "to.txt": false, "sub": true} {
		a, is := all[name]
		if size := a.flags&attrSize != 0; !is || size != told || told == (long[name] == name) {
			t.Errorf("%s: %+v, %q", name, a, long[name])
		}
	}
	if all["b.log"].size != 19 || all["a.conf"].flags&attrMode == 0 {
		t.Errorf("%+v", all)
	}
	if got := l.ended(); len(got) != 1 || !strings.Contains(got[0], "list") {
		t.Errorf("the log has %q", got)
	}
}

// TestSF09WriteOnly: who may write a file that is masked is not told its size.
func TestSF09WriteOnly(t *testing.T) {
	l := newLab(t, confs)
	put(t, l.dir+"/a.conf", "password=secret\nend")
	put(t, l.dir+"/b.log", "password=secret\nend")
	c := l.connect(t)
	for name, told := range map[string]bool{"a.conf": false, "b.log": true} {
		for _, flags := range []int{flagWrite, flagWrite | flagTrunc, flagWrite | flagCreate} {
			put(t, l.dir+"/"+name, "password=secret\nend")
			h := c.open(name, flags)
			f := fields{b: c.do(typeFstat, h).body}
			if a := f.attrs(); f.bad || len(f.b) > 0 || (a.flags&attrSize != 0) != told || a.flags&attrMode == 0 {
				t.Errorf("%s: %+v", name, a)
			}
			want(t, "READ", c.do(typeRead, h, uint64(0), 1), "status 3")
			c.do(typeClose, h)
		}
	}
}

// TestSF09InPlace: who may write a file that is masked, and read it, cannot write
// over what the mask knows its value by.
func TestSF09InPlace(t *testing.T) {
	l := newLab(t, confs)
	const content = "password=secret\nend\n"
	c := l.connect(t)
	part := "status 3 taskgate: denied: what is in this file is masked, and a part of it cannot be changed"
	write := func(flags int, at uint64, data string, later ...attrs) answer {
		put(t, l.dir+"/a.conf", content)
		a := c.do(typeOpen, "a.conf", flags, attrs{})
		if a.typ != typeHandle {
			return a
		}
		f := fields{b: a.body}
		h := f.bytes()
		c.do(typeWrite, h, at, data)
		for _, x := range later {
			c.do(typeFsetstat, h, x)
		}
		return c.do(typeClose, h)
	}
	size := func(n uint64) attrs { return attrs{flags: attrSize, size: n} }
	for what, a := range map[string]answer{
		"over the key":              write(flagWrite, 0, "xxxxxxxx"),
		"a new line before it":      write(flagWrite, 8, "\n"),
		"with create":               write(flagWrite|flagCreate, 0, "xxxxxxxx"),
		"and ends it elsewhere":     write(flagWrite|flagCreate, 0, "xxxxxxxx", size(20)),
		"behind its beginning":      write(flagWrite|flagCreate, 1, "x", size(2)),
		"behind its end":            write(flagWrite|flagAppend, 0, "x"),
		"more than is kept":         write(flagWrite, 0, strings.Repeat("x", 200<<10)),
		"cuts it":                   c.do(typeSetstat, "a.conf", size(9)),
		"cuts it, whatever it is":   c.do(typeExtended, extLsetstat, "a.conf", size(9)),
		"to read and write at once": write(flagRead|flagWrite, 0, "xxxxxxxx"),
	} {
		if what != "to read and write at once" {
			want(t, what, a, part)
		}
		if got := get(t, l.dir+"/a.conf"); got != content {
			t.Errorf("%s: it is %q", what, got)
		}
	}
	want(t, "the whole", write(flagWrite|flagCreate, 0, "new", size(3)), "status 0")
	if got := get(t, l.dir+"/a.conf"); got != "new" {
		t.Errorf("it is %q", got)
	}
	if got := l.ended(); !strings.Contains(strings.Join(got, "\n"), "sftp open write create truncate size=3 "+l.dir+"/a.conf: completed  wrote 3 bytes") {
		t.Errorf("the log has %q", got)
	}
	want(t, "anew", write(flagWrite|flagTrunc, 0, "newer"), "status 0")
	if got := get(t, l.dir+"/a.conf"); got != "newer" {
		t.Errorf("it is %q", got)
	}
	want(t, "to nothing", c.do(typeSetstat, "a.conf", size(0)), "status 0")
	put(t, l.dir+"/b.log", content)
	h := c.open("b.log", flagWrite)
	want(t, "one that is not masked", c.do(typeWrite, h, uint64(0), "xxxxxxxx"), "status 0")

	// Stock clients write the whole, in their ways.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env, local := l.listen(t), t.TempDir()
	put(t, local+"/short", "short")
	for what, cmd := range map[string][]string{"put": {"sftp", "-b", "-", "-S", self, "h"}, "scp": {"scp", "-S", self, "short", "h:a.conf"}} {
		put(t, l.dir+"/a.conf", content)
		if code, out := run(t, local, env, "put short a.conf\n", cmd...); code != 0 || get(t, l.dir+"/a.conf") != "short" {
			t.Errorf("%s: %d %s: %q", what, code, out, get(t, l.dir+"/a.conf"))
		}
	}
	put(t, l.dir+"/a.conf", content)
	if code, out := run(t, local, env, "reput short a.conf\n", "sftp", "-b", "-", "-S", self, "h"); code == 0 || get(t, l.dir+"/a.conf") != content || !strings.Contains(out+l.lines(), "masked") {
		t.Errorf("reput: %d %s: %q", code, out, get(t, l.dir+"/a.conf"))
	}
}

// TestSF09Room: all channels of one connection keep so much together.
func TestSF09Room(t *testing.T) {
	l := newLab(t, hides)
	l.room = &Room{}
	put(t, l.dir+"/f", strings.Repeat("password=geheim "+strings.Repeat("x", 1000)+"\n", 24<<10))
	var open [][]byte
	var last *client
	for i := range 4 {
		last = l.connect(t)
		a := last.do(typeOpen, "f", flagRead, attrs{})
		if i < 2 && a.typ != typeHandle || i >= 2 && a.code != codeDenied {
			t.Fatalf("the %dth: %s", i+1, a)
		}
		if i == 1 {
			f := fields{b: a.body}
			open = append(open, f.bytes())
			want(t, "CLOSE", last.do(typeClose, open[0]), "status 0")
			f = fields{b: last.do(typeOpen, "f", flagRead, attrs{}).body}
			open = append(open, f.bytes())
		}
	}
	if n := l.room.viewed.Load(); n < 40<<20 || n > maxView {
		t.Errorf("%d bytes are counted", n)
	}
}

// TestSF09Custom: a guard masks the lines of a file itself; where it fails the
// file cannot be read.
func TestSF09Custom(t *testing.T) {
	l := newLab(t, func(*abi.Command) abi.Verdict {
		return abi.Verdict{Decision: abi.Allow, Protect: []abi.Protect{{Pattern: ".+", Kind: abi.MaskCustom, Arg: "x"}}}
	})
	var most int
	l.batch = func(b *abi.Batch) (*abi.Batch, error) {
		out := b.Answer()
		most = max(most, b.Rows)
		for i := range b.Rows {
			cell, _ := b.Columns[0].Cell(i)
			if string(cell) == "trap" {
				return nil, errors.New("it has trapped")
			}
			out.Columns[0].Add(bytes.ToUpper(cell), false)
		}
		return out, nil
	}
	put(t, l.dir+"/f", strings.Repeat("a line\n\n", 50000)+"the last")
	masked := strings.Repeat("A LINE\n\n", 50000) + "THE LAST"
	put(t, l.dir+"/trap", strings.Repeat("geheim\n", 50000)+"trap\n")
	c := l.connect(t)
	one, two := c.open("f", flagRead), c.open("f", flagRead)
	put(t, l.dir+"/f", "geheim") // each has what was there
	for _, at := range []int{len(masked) - 5, 0, 399990, 7, len(masked) / 2} {
		for _, h := range []any{one, two} {
			a := c.do(typeRead, h, uint64(at), 100)
			if got := string(a.body[4:]); a.typ != typeData || got != masked[at:min(at+100, len(masked))] {
				t.Errorf("at %d: %q", at, got)
			}
		}
	}
	for _, at := range []uint64{uint64(len(masked)), uint64(len(masked)) + 1, 1 << 40} {
		want(t, "READ beyond the end", c.do(typeRead, one, at, 100), "status 1")
	}
	if most == 0 || most > 16<<10 {
		t.Errorf("it was given %d lines at once", most)
	}
	want(t, "OPEN", c.do(typeOpen, "trap", flagRead, attrs{}), `status 3 taskgate: denied: the guard "rules" failed to mask`)
	l.batch = nil
	put(t, l.dir+"/g", "geheim")
	want(t, "OPEN", c.do(typeOpen, "g", flagRead, attrs{}), "status 3 taskgate: denied: the guard \"rules\" wants to mask the answer itself")
	l.mu1(func() {
		for _, e := range append(l.events, l.taped...) {
			if strings.Contains(strings.ToLower(string(e.Frame)), "geheim") {
				t.Fatal("the recording has what is masked")
			}
		}
	})
}

// TestSF09Resumed: a client that is told no size does not go on with a file that
// it has a part of, and gets the whole.
func TestSF09Resumed(t *testing.T) {
	l := newLab(t, hides)
	put(t, l.dir+"/f", "one password=secret\ntwo password=geheim end\n")
	const masked = "one password=***\ntwo password=*** end\n"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env, local := l.listen(t), t.TempDir()
	put(t, local+"/f", masked[:20])
	if code, out := run(t, local, env, "reget f\n", "sftp", "-b", "-", "-S", self, "h"); code == 0 || get(t, local+"/f") != masked[:20] {
		t.Errorf("%d %s: %q", code, out, get(t, local+"/f"))
	}
	if got := l.lines(); !strings.Contains(got, "its size is not told: a part of it cannot be completed (reget, get -a); get fetches the whole") {
		t.Errorf("the person reads %q", got)
	}
	if code, out := run(t, local, env, "get f\n", "sftp", "-b", "-", "-S", self, "h"); code != 0 || get(t, local+"/f") != masked {
		t.Errorf("%d %s: %q", code, out, get(t, local+"/f"))
	}
}
