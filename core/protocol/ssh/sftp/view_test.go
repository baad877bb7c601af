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

// TestSF09Names: a name that would be masked is not shown, even where no other
// stands beside it; nor is where a link leads.
func TestSF09Names(t *testing.T) {
	l := newLab(t, hides)
	for i := range 300 { // more than one answer
		put(t, fmt.Sprintf("%s/d/password=%d", l.dir, i), "")
	}
	put(t, l.dir+"/d/plain", "")
	for link, to := range map[string]string{"a": "plain", "b": "password=1"} {
		if err := os.Symlink(to, l.dir+"/d/"+link); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	a := c.do(typeOpendir, "d")
	f := fields{b: a.body}
	h := f.bytes()
	names := map[string]bool{}
	for {
		a := c.do(typeReaddir, h)
		if a.typ != typeName {
			want(t, "the end", a, "status 1")
			break
		}
		f := fields{b: a.body}
		n := f.u32()
		if n == 0 {
			t.Error("an answer with no name")
		}
		for range n {
			names[string(f.bytes())] = true
			f.bytes()
			f.attrs()
		}
		if f.bad || len(f.b) > 0 {
			t.Fatal("the names are damaged")
		}
	}
	if got := fmt.Sprint(names); got != "map[.:true ..:true a:true b:true plain:true]" {
		t.Errorf("shown: %s", got)
	}
	want(t, "READLINK", c.do(typeReadlink, "d/a"), "1 names, first plain")
	want(t, "READLINK", c.do(typeReadlink, "d/b"), "status 3")
}
