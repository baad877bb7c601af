package sftp

import (
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// hiding masks passwords in all files that have secret in their names.
func hiding(c *abi.Command) abi.Verdict {
	v := abi.Verdict{Decision: abi.Allow}
	for _, o := range c.Statement.Operations {
		if o.Kind == abi.KindFile && (strings.Contains(o.Object[0], "secret") || o.Verb == "list") {
			v.Protect = []abi.Protect{{Pattern: `password=(\S+)`, Kind: abi.MaskFixed, Arg: "***"}}
		}
	}
	return v
}

// TestMaskedView: a file that is masked is read as it is shown, in any order and
// by stock clients; its own size stands nowhere.
func TestMaskedView(t *testing.T) {
	l := newLab(t, hiding)
	content := strings.Repeat("user=ada password=Zoë7 x\n", 5000) + "password=Zoë7"
	shown := strings.ReplaceAll(content, "Zoë7", "***")
	put(t, l.dir+"/secret.conf", content)
	put(t, l.dir+"/plain", "password=y\n")
	c := l.connect(t)
	h := c.open(l.dir+"/secret.conf", flagRead)
	f := fields{b: c.do(typeFstat, h).body}
	if a := f.attrs(); a.flags&attrSize == 0 || a.size != uint64(len(shown)) {
		t.Errorf("FSTAT: %+v, want a size of %d", a, len(shown))
	}
	at := len(shown) - 20
	f = fields{b: c.do(typeRead, h, uint64(at), uint32(100)).body}
	if got := string(f.bytes()); got != shown[at:] {
		t.Errorf("the end: %q, want %q", got, shown[at:])
	}
	want(t, "behind the end", c.do(typeRead, h, uint64(len(shown)), uint32(1)), "status 1")
	for _, typ := range []byte{typeStat, typeLstat} {
		f = fields{b: c.do(typ, l.dir+"/secret.conf").body}
		if a := f.attrs(); a.flags&attrSize != 0 || a.flags&attrMode == 0 {
			t.Errorf("%d tells %+v", typ, a)
		}
	}
	d := c.do(typeOpendir, l.dir)
	f = fields{b: d.body}
	list := c.do(typeReaddir, f.bytes())
	f = fields{b: list.body}
	for n := f.u32(); n > 0; n-- {
		name, long := string(f.bytes()), string(f.bytes())
		if a := f.attrs(); a.flags&attrSize != 0 || long != name {
			t.Errorf("READDIR: %q %+v", long, a)
		}
	}
	want(t, "to read and write", c.do(typeOpen, l.dir+"/secret.conf", flagRead|flagWrite, attrs{}), "status 3 taskgate: denied: what is in this file is masked")
	want(t, "closed", c.do(typeClose, h), "status 0")

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env, local := l.listen(t), t.TempDir()
	if code, out := run(t, local, env, "", "scp", "-S", self, "h:"+l.dir+"/secret.conf", "h:"+l.dir+"/plain", "."); code != 0 {
		t.Fatalf("scp: %d %s", code, out)
	}
	if got := get(t, local+"/secret.conf"); got != shown {
		t.Errorf("scp: %d bytes of %d: %.100q", len(got), len(shown), got)
	}
	if get(t, local+"/plain") != "password=y\n" {
		t.Error("another file is not as it was")
	}
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	for _, e := range l.memory.taped {
		if strings.Contains(string(e.Frame), "Zo") {
			t.Errorf("recorded: %.60q", e.Frame)
		}
	}
}

// TestMaskedViewLarge: what cannot be held whole is not shown at all.
func TestMaskedViewLarge(t *testing.T) {
	l := newLab(t, hiding)
	put(t, l.dir+"/secret.big", strings.Repeat(strings.Repeat("x", 99)+"\n", maxView/100+1))
	c := l.connect(t)
	want(t, "OPEN", c.do(typeOpen, l.dir+"/secret.big", flagRead, attrs{}), "status 3 taskgate: denied: what is in this file is masked")
	put(t, l.dir+"/secret.small", "password=x")
	h := c.open(l.dir+"/secret.small", flagRead)
	f := fields{b: c.do(typeRead, h, uint64(0), uint32(100)).body}
	if got := string(f.bytes()); got != "password=***" {
		t.Errorf("%q", got)
	}
}
