package sftp

import (
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/sshtest"
)

// TestSF01Paths: what is judged is the path that the host would take, cleaned and
// with its links followed; what could be read in two ways is refused.
func TestSF01Paths(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/a/f", "content")
	for link, to := range map[string]string{"abs": l.dir + "/a", "rel": "a", "a/up": "../a/f", "loop": "loop", "dangling": "none", "chain": "rel/up"} {
		if err := os.Symlink(to, l.dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	for _, p := range []struct{ sent, judged, answer string }{
		{"a/f", "/a/f", "type 105"},
		{"DIR//a/.//f", "/a/f", "type 105"},
		{"DIR/a/../a/f/", "/a/f", "type 105"},
		{"./a/f/.", "/a/f", "type 105"},
		{"DIR/../../../../../../../../DIR/a/f", "/a/f", "type 105"},
		{"abs/f", "/a/f", "type 105"},
		{"rel/../a/f", "/a/f", "type 105"},
		{"chain", "/a/f", "type 105"},
		{"abs/up", "/a/f", "type 105"},
		{".", "", "type 105"},
		{"dangling", "/none", "status 2"},
		{"none/x", "/none/x", "status 2"},
		{"a/f/x", "/a/f/x", "status 2"},
		{"loop", "/loop", "status 2"},
		{"", "-", "status 2"},
		{"a\x00b", "-", "status 3 taskgate: denied: a path has no NUL"},
		{strings.Repeat("a/", 2100), "-", "status 3 taskgate: denied: a path has at most 4096 bytes"},
		{"a/\xff", "-", "status 3 taskgate: denied: a path that is not UTF-8"},
		{`a\..\f`, "-", "status 3 taskgate: denied: a path with \\"},
		{"C:/a", "/C:/a", "status 2"},
	} {
		before := len(l.ended())
		want(t, p.sent, c.do(typeStat, strings.ReplaceAll(p.sent, "DIR", l.dir)), p.answer)
		got := strings.Join(l.ended()[before:], "|")
		if judged := strings.HasPrefix(got, "sftp stat "+l.dir+p.judged+": "); judged == (p.judged == "-") || !judged && got != "" {
			t.Errorf("%q is judged as %q, want %q", p.sent, got, p.judged)
		}
	}
}

// TestSF01Lasts: the last part of a path is followed where the host would.
func TestSF01Lasts(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/d/f", "content")
	for link, to := range map[string]string{"link": "d/f", "dir": "d"} {
		if err := os.Symlink(to, l.dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	for _, p := range []struct {
		typ    byte
		args   []any
		judged string
		answer string
	}{
		{typeLstat, []any{"link"}, "stat /link", "type 105"},
		{typeLstat, []any{"dir/"}, "stat /d", "type 105"},
		{typeStat, []any{"link"}, "stat /d/f", "type 105"},
		{typeReadlink, []any{"link"}, "stat /link", "1 names, first d/f"},
		{typeSetstat, []any{"link", attrs{flags: attrMode, mode: 0o100600}}, "setstat /d/f = mode=0600", "status 0"},
		{typeExtended, []any{extLsetstat, "link", attrs{flags: attrTimes, mtime: 1}}, "setstat /link = atime=0 mtime=1", "status 0"},
		{typeOpendir, []any{"dir"}, "list /d", "type 102"},
		{typeExtended, []any{extStatvfs, "dir"}, "stat /d", "type 201"},
		{typeOpen, []any{"link", flagRead, attrs{}}, "read /d/f", "type 102"},
		{typeOpen, []any{"link", flagWrite | flagCreate | flagExcl, attrs{}}, "write /link", "status 4"},
		{typeRename, []any{"link", "dir/moved"}, "rename /link; write /d/moved; link /d/d/f", "status 0"},
		{typeRemove, []any{"dir/moved"}, "remove /d/moved", "status 0"},
		{typeRmdir, []any{"dir"}, "remove /dir", "status 2"},
		{typeMkdir, []any{"dir/new", attrs{}}, "mkdir /d/new", "status 0"},
	} {
		l.judged()
		want(t, p.judged, c.do(p.typ, p.args...), p.answer)
		if got := strings.ReplaceAll(strings.Join(l.judged(), "|"), l.dir, ""); got != p.judged {
			t.Errorf("%d %v is judged as %q, want %q", p.typ, p.args, got, p.judged)
		}
	}
	if got := get(t, l.dir+"/d/f"); got != "content" {
		t.Errorf("the file is %q", got)
	}
}

// TestSF01Realpath: a path's own words tell nothing of the host; links do, and
// are judged.
func TestSF01Realpath(t *testing.T) {
	l := newLab(t, every(func(_, path string) bool { return !strings.Contains(path, "secret") }))
	put(t, l.dir+"/secret/f", "")
	put(t, l.dir+"/d/f", "")
	for link, to := range map[string]string{"link": "d", "trap": "secret"} {
		if err := os.Symlink(to, l.dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	for sent, answer := range map[string]string{".": "", "": "", "d/../d//f": "/d/f", "none/x/..": "/none", "secret/f": "/secret/f", "link/f": "/d/f"} {
		want(t, sent, c.do(typeRealpath, sent), "1 names, first "+l.dir+answer)
	}
	want(t, "trap", c.do(typeRealpath, "trap/f"), "status 3")
	want(t, "~", c.do(typeExtended, extExpandPath, "~/d"), "1 names, first "+l.dir+"/d")
	want(t, "~root", c.do(typeExtended, extExpandPath, "~root/d"), "status 3")
	if got := l.judged(); len(got) != 2 {
		t.Errorf("judged: %q", got)
	}
}

// inside allows what is in one directory.
func inside(dir *string) func(*abi.Command) abi.Verdict {
	return every(func(_, path string) bool { return path == *dir || strings.HasPrefix(path, *dir+"/") })
}

// TestSF02Links: a link leads nowhere that its target may not be.
func TestSF02Links(t *testing.T) {
	var dir string
	l := newLab(t, inside(&dir))
	root := l.dir
	l.dir, dir = root+"/in", root+"/in"
	put(t, dir+"/f", "mine")
	put(t, root+"/inside/f", "theirs")
	put(t, root+"/out/f", "theirs")
	for link, to := range map[string]string{"there": "../out", "file": "../out/f", "new": "../out/new"} {
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	before := sshtest.Tree(t, root)
	c := l.connect(t)
	for what, ask := range map[string][]any{
		"read":              {typeOpen, "file", flagRead, attrs{}},
		"read through":      {typeOpen, "there/f", flagRead, attrs{}},
		"write":             {typeOpen, "file", flagWrite | flagTrunc, attrs{}},
		"create":            {typeOpen, "new", flagWrite | flagCreate, attrs{}},
		"list":              {typeOpendir, "there"},
		"setstat":           {typeSetstat, "file", attrs{flags: attrMode}},
		"remove":            {typeRemove, "there/f"},
		"rename away":       {typeRename, "f", "there/g"},
		"rename here":       {typeRename, "there/f", "g"},
		"mkdir":             {typeMkdir, "there/d", attrs{}},
		"link to it":        {typeSymlink, "../out/f", "l1"},
		"link to absolute":  {typeSymlink, root + "/out/f", "l2"},
		"link to a link":    {typeSymlink, "file", "l3"},
		"link there":        {typeSymlink, "f", "there/l4"},
		"hard link":         {typeExtended, extHardlink, root + "/out/f", "l5"},
		"hard link there":   {typeExtended, extHardlink, "f", "there/l6"},
		"posix-rename":      {typeExtended, extPosixRename, "f", "../inside/f"},
		"same beginning":    {typeOpen, "../inside/f", flagRead, attrs{}},
		"same, absolute":    {typeOpen, root + "/inside/f", flagRead, attrs{}},
		"parent by dots":    {typeOpen, "../out/f", flagRead, attrs{}},
		"out by link and..": {typeOpen, "there/../out/f", flagRead, attrs{}},
	} {
		want(t, what, c.do(byte(ask[0].(int)), ask[1:]...), "status 3 taskgate: denied: not in the task")
	}
	if after := sshtest.Tree(t, root); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	want(t, "a link inside", c.do(typeSymlink, "f", "ok"), "status 0")
	if to, err := os.Readlink(dir + "/ok"); to != "f" || err != nil {
		t.Errorf("the link leads to %q: %v", to, err)
	}
	want(t, "a link to nothing yet", c.do(typeSymlink, "later/x", "ok2"), "status 0")
}

// TestLinksThatMove: a link that means something else from where it goes is judged
// by what it then leads to, and one that goes back by .. stays what it was judged as.
func TestLinksThatMove(t *testing.T) {
	var dir string
	l := newLab(t, inside(&dir))
	root := l.dir
	l.dir, dir = root+"/in", root+"/in"
	put(t, dir+"/a/b/f", "mine")
	put(t, root+"/f", "theirs")
	for link, to := range map[string]string{"old": "../f", "beside": "f", "whole": dir + "/a/f"} {
		if err := os.Symlink(to, dir+"/a/b/"+link); err != nil {
			t.Fatal(err)
		}
	}
	c := l.connect(t)
	for _, p := range []struct {
		what, begins string
		ask          []any
	}{
		{"made", "status 0", []any{typeSymlink, "../../f", "a/b/new"}},
		{"made by dots in between", "status 0", []any{typeSymlink, "x/y/../../f", "a/b/dots"}},
		{"and moved up", "status 0", []any{typeRename, "a/b/new", "new"}},
		{"moved beside", "status 0", []any{typeRename, "a/b/old", "a/b/older"}},
		{"moved to where it leads out", "status 3 taskgate: denied: not in the task", []any{typeRename, "a/b/older", "old"}},
		{"the same by posix-rename", "status 3 taskgate: denied: not in the task", []any{typeExtended, extPosixRename, "a/b/older", "old"}},
		{"the same by a hard link", "status 3 taskgate: denied: not in the task", []any{typeExtended, extHardlink, "a/b/older", "old"}},
		{"moved to where it leads in", "status 0", []any{typeRename, "a/b/older", "a/old"}},
		{"moved with what is beside it", "status 0", []any{typeRename, "a/b/beside", "beside"}},
		{"moved, and absolute", "status 0", []any{typeRename, "a/b/whole", "whole"}},
	} {
		want(t, p.what, c.do(byte(p.ask[0].(int)), p.ask[1:]...), p.begins)
	}
	for link, to := range map[string]string{"new": dir + "/f", "a/b/dots": dir + "/a/b/f", "beside": "f"} {
		if got, err := os.Readlink(dir + "/" + link); got != to || err != nil {
			t.Errorf("%s leads to %q, not %q: %v", link, got, to, err)
		}
	}
	if got := l.lines() + strings.Join(l.ended(), "\n"); !strings.Contains(got, "link to "+dir+"/f") {
		t.Errorf("it is not told where it would lead:\n%s", got)
	}
}

// swap is a host where somebody else changes a name at the worst moment: right
// before the request of one type is done.
type swap struct {
	io.ReadWriter
	typ byte
	do  func()
	one bool
}

func (s *swap) CloseWrite() error { return s.ReadWriter.(host).CloseWrite() }
func (s *swap) Write(b []byte) (int, error) {
	for p := b; len(p) > 4; p = p[4+binary.BigEndian.Uint32(p):] {
		if p[4] == s.typ && !s.one {
			s.one = true
			s.do()
		}
	}
	return s.ReadWriter.Write(b)
}

// TestSF02Race: a name that has become a link between the look and the open gives
// nothing away.
func TestSF02Race(t *testing.T) {
	for _, flags := range []int{flagRead, flagWrite} {
		var dir string
		l := newLab(t, inside(&dir))
		root := l.dir
		l.dir, dir = root+"/in", root+"/in"
		put(t, dir+"/d/f", "mine")
		put(t, root+"/out/f", "theirs")
		start := l.host
		l.host = func() (io.ReadWriter, func()) {
			h, stop := start()
			return &swap{ReadWriter: h, typ: typeOpen, do: func() {
				if err := os.Rename(dir+"/d", dir+"/was"); err != nil {
					t.Error(err)
				}
				if err := os.Symlink("../out", dir+"/d"); err != nil {
					t.Error(err)
				}
			}}, stop
		}
		c := l.connect(t)
		want(t, "the race", c.do(typeOpen, "d/f", flags, attrs{}), "status 3 taskgate: denied: the path leads elsewhere than when this was judged")
		if got := get(t, root+"/out/f"); got != "theirs" {
			t.Errorf("the file outside is %q", got)
		}
		if got := l.ended(); len(got) != 1 || !strings.Contains(got[0], ": failed") {
			t.Errorf("the log says %q", got)
		}
	}
}

// TestSF03Extensions: the client is told of what is judged, and of nothing else.
func TestSF03Extensions(t *testing.T) {
	l := newLab(t, every(func(verb, _ string) bool { return verb == "stat" || verb == "write" || verb == "read" }))
	put(t, l.dir+"/f", "content")
	c := l.raw(t)
	c.write([]byte{0, 0, 0, 5, typeInit, 0, 0, 0, 6})
	typ, b := c.read()
	f := fields{b: b}
	if v := f.u32(); typ != typeVersion || v != 3 {
		t.Fatalf("%d says version %d", typ, v)
	}
	var names []string
	for len(f.b) > 0 {
		names = append(names, string(f.bytes()))
		f.bytes()
	}
	slices.Sort(names)
	if all := []string{extExpandPath, extFstatvfs, extFsync, extHardlink, extLimits, extLsetstat, extPosixRename, extStatvfs}; !slices.Equal(names, all) {
		t.Errorf("the client is told of %q", names)
	}
	h := c.open("f", flagRead|flagWrite)
	for what, ask := range map[string]struct {
		args   []any
		answer string
	}{
		"posix-rename":    {[]any{extPosixRename, "f", "g"}, "status 3"},
		"hardlink":        {[]any{extHardlink, "f", "g"}, "status 3"},
		"lsetstat":        {[]any{extLsetstat, "f", attrs{flags: attrMode}}, "status 3"},
		"statvfs":         {[]any{extStatvfs, "."}, "type 201"},
		"fstatvfs":        {[]any{extFstatvfs, h}, "type 201"},
		"fsync":           {[]any{extFsync, h}, "status 0"},
		"fsync nothing":   {[]any{extFsync, "none"}, "status 4"},
		"copy-data":       {[]any{"copy-data", h, uint64(0), uint64(0), h, uint64(0)}, "status 8"},
		"home-directory":  {[]any{"home-directory", "root"}, "status 8"},
		"users-groups":    {[]any{"users-groups-by-id@openssh.com", "\x00\x00\x00\x00", ""}, "status 8"},
		"unknown":         {[]any{"exec@example.org", "id"}, "status 8"},
		"malformed":       {[]any{extPosixRename, "f"}, "status 5"},
		"no name at all":  {nil, "status 8"},
		"not from a user": {[]any{extFstatvfs}, "status 5"},
	} {
		want(t, what, c.do(typeExtended, ask.args...), ask.answer)
	}
	a := c.do(typeExtended, extLimits)
	n := fields{b: a.body}
	if a.typ != typeReply || n.u64() != maxPacket || n.u64() > maxData || n.u64() > maxData || n.u64() > maxHandles {
		t.Errorf("the limits are %x", a.body)
	}
	want(t, "an unknown type", c.do(77, "x"), "status 8")
}

// TestSF04Flags: what a file is opened for is what is judged, and all that its
// handle can do.
func TestSF04Flags(t *testing.T) {
	l := newLab(t, every(anything))
	put(t, l.dir+"/.ssh/authorized_keys", "")
	c := l.connect(t)
	for i := range 64 {
		flags := (i + 1) % 64 // 0 is the same as 1
		put(t, l.dir+"/f", "content")
		if flags&flagExcl != 0 {
			_ = os.Remove(l.dir + "/f")
		}
		l.judged()
		a := c.do(typeOpen, "f", flags, attrs{})
		reads, writes := flags&flagRead != 0 || flags&flagWrite == 0, flags&^flagRead != 0
		var ops []string
		if reads {
			ops = append(ops, "read "+l.dir+"/f")
		}
		if writes {
			ops = append(ops, "write "+l.dir+"/f")
		}
		if got := l.judged(); flags != 0 && got[len(got)-1] != strings.Join(ops, "; ") { // before it, whether it may be read
			t.Errorf("flags %b are judged as %q", flags, got)
		}
		if a.typ != typeHandle {
			continue // the host has its own mind about some
		}
		f := fields{b: a.body}
		h := f.bytes()
		answer := c.do(typeRead, h, uint64(0), 100)
		if (answer.code == codeDenied) == reads {
			t.Errorf("flags %b: READ: %s", flags, answer)
		}
		answer = c.do(typeWrite, h, uint64(0), "x")
		if (answer.code == codeDenied) == (flags&flagWrite != 0) {
			t.Errorf("flags %b: WRITE: %s", flags, answer)
		}
		answer = c.do(typeFsetstat, h, attrs{flags: attrSize})
		if (answer.code == codeDenied) == (flags&flagWrite != 0) {
			t.Errorf("flags %b: FSETSTAT: %s", flags, answer)
		}
		want(t, "CLOSE", c.do(typeClose, h), "status 0")
	}
	want(t, "unknown flags", c.do(typeOpen, "f", 64, attrs{}), "status 5")
	l.judged()
	h := c.open("f", flagWrite|flagCreate)
	for _, p := range []struct {
		typ    byte
		args   []any
		judged string
	}{
		{typeOpen, []any{"s", flagWrite | flagCreate, attrs{flags: attrMode, mode: 0o104755}}, "write /s; setstat /s = mode=4755"},
		{typeOpen, []any{"s", flagWrite, attrs{flags: attrMode | attrOwner, mode: 0o644}}, "write /s"},
		{typeMkdir, []any{"d", attrs{flags: attrMode, mode: 0o2755}}, "mkdir /d; setstat /d = mode=2755"},
		{typeSetstat, []any{"f", attrs{flags: attrSize, size: 3}}, "write /f"},
		{typeSetstat, []any{"f", attrs{flags: attrSize | attrOwner | attrMode | attrTimes, mode: 0o6755, uid: 7, gid: 8, atime: 9}}, "write /f; setstat /f = mode=6755 uid=7 gid=8 atime=9 mtime=0"},
		{typeFsetstat, []any{h, attrs{flags: attrMode, mode: 0o4711}}, "setstat /f = mode=4711"},
		{typeOpen, []any{".ssh/authorized_keys", flagRead, attrs{}}, "read /.ssh/authorized_keys"},
		{typeOpen, []any{".ssh/authorized_keys", flagWrite, attrs{}}, "persist /.ssh/authorized_keys"},
		{typeRename, []any{"f", ".ssh/authorized_keys"}, "rename /f; persist /.ssh/authorized_keys"},
		{typeSymlink, []any{"f", ".ssh/rc"}, "persist /.ssh/rc; link /.ssh/f"},
		{typeExtended, []any{extHardlink, ".ssh/authorized_keys", "k"}, "link /k; read /.ssh/authorized_keys; persist /.ssh/authorized_keys"},
		{typeMkdir, []any{"e/.ssh", attrs{}}, "persist /e/.ssh"},
		{typeRename, []any{"d", ".config"}, "rename /d; persist /.config"},
		{typeSymlink, []any{"d", ".local"}, "persist /.local; link /d"},
		{typeMkdir, []any{".config", attrs{}}, "mkdir /.config"},
	} {
		c.do(p.typ, p.args...)
		if got := strings.ReplaceAll(strings.Join(l.judged(), "|"), l.dir, ""); !strings.HasSuffix(got, p.judged) {
			t.Errorf("%d %v is judged as %q, want %q", p.typ, p.args, got, p.judged)
		}
	}
}

// TestSF04Denied: an open for writing that is refused leaves the file alone.
func TestSF04Denied(t *testing.T) {
	l := newLab(t, every(func(verb, _ string) bool { return verb == "read" }))
	put(t, l.dir+"/f", "content")
	c := l.connect(t)
	for _, flags := range []int{flagWrite, flagAppend, flagCreate, flagTrunc, flagRead | flagTrunc, flagRead | flagWrite} {
		want(t, "OPEN", c.do(typeOpen, "f", flags, attrs{}), "status 3 taskgate: denied: not in the task; hint: ask?[31m?your operator")
	}
	h := c.open("f", flagRead)
	want(t, "WRITE", c.do(typeWrite, h, uint64(0), "x"), "status 3")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrSize}), "status 3")
	want(t, "FSETSTAT", c.do(typeFsetstat, h, attrs{flags: attrMode}), "status 3")
	want(t, "READ", c.do(typeRead, h, uint64(0), 100), "data content")
	if get(t, l.dir+"/f") != "content" {
		t.Error("it was written")
	}
	if got := l.lines(); strings.Count(got, "denied: not in the task") != 1 {
		t.Errorf("the person reads %q", got)
	}
}
