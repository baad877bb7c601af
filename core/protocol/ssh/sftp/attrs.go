package sftp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// The parts that attributes may have.
const (
	attrSize     = 1
	attrOwner    = 2
	attrMode     = 4
	attrTimes    = 8
	attrExtended = 1 << 31
)

const (
	modeType    = 0o170000
	modeLink    = 0o120000
	modeSpecial = 0o7000 // setuid, setgid, sticky
	modeBits    = 0o7777
)

// attrs are the attributes of a file. What is extended is left out: nobody says
// what it means.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32
	atime, mtime uint32
}

func (f *fields) attrs() (a attrs) {
	a.flags = f.u32()
	if a.flags&attrSize != 0 {
		a.size = f.u64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = f.u32(), f.u32()
	}
	if a.flags&attrMode != 0 {
		a.mode = f.u32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = f.u32(), f.u32()
	}
	if a.flags&^(attrSize|attrOwner|attrMode|attrTimes|attrExtended) != 0 {
		f.bad = true
	}
	if a.flags&attrExtended != 0 {
		n := f.u32()
		for range n {
			f.bytes()
			f.bytes()
			if f.bad {
				break
			}
		}
		a.flags &^= attrExtended
	}
	return a
}

// wish reads attributes that somebody wants a file to have: its type is none.
func (f *fields) wish() attrs {
	a := f.attrs()
	a.mode &= modeBits
	return a
}

func (a attrs) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, a.flags)
	if a.flags&attrSize != 0 {
		b = binary.BigEndian.AppendUint64(b, a.size)
	}
	if a.flags&attrOwner != 0 {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, a.uid), a.gid)
	}
	if a.flags&attrMode != 0 {
		b = binary.BigEndian.AppendUint32(b, a.mode)
	}
	if a.flags&attrTimes != 0 {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, a.atime), a.mtime)
	}
	return b
}

// only leaves the parts that are in flags.
func (a attrs) only(flags uint32) attrs {
	a.flags &= flags
	return a
}

// special says whether the mode has a bit by which a program runs as another.
func (a attrs) special() bool { return a.flags&attrMode != 0 && a.mode&modeSpecial != 0 }

// String is "mode=0644 uid=0 gid=0": all but the size.
func (a attrs) String() string {
	var parts []string
	if a.flags&attrMode != 0 {
		parts = append(parts, fmt.Sprintf("mode=%04o", a.mode&modeBits))
	}
	if a.flags&attrOwner != 0 {
		parts = append(parts, fmt.Sprintf("uid=%d gid=%d", a.uid, a.gid))
	}
	if a.flags&attrTimes != 0 {
		parts = append(parts, fmt.Sprintf("atime=%d mtime=%d", a.atime, a.mtime))
	}
	return strings.Join(parts, " ")
}
