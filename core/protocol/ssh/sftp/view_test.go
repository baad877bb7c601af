package sftp

import (
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
