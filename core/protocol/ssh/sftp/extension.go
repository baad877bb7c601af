package sftp

import (
	"encoding/binary"
)

// The extensions that the host's server may have for the client, as OpenSSH's
// PROTOCOL has them. What is not here the client is not told of, and is refused:
// copy-data, whose content would not pass here; home-directory and
// users-groups-by-id@openssh.com, which tell of other people.
const (
	extPosixRename = "posix-rename@openssh.com"
	extHardlink    = "hardlink@openssh.com"
	extFsync       = "fsync@openssh.com"
	extStatvfs     = "statvfs@openssh.com"
	extFstatvfs    = "fstatvfs@openssh.com"
	extLsetstat    = "lsetstat@openssh.com"
	extLimits      = "limits@openssh.com"
	extExpandPath  = "expand-path@openssh.com"
)

// versions are those of the extensions that are known.
var versions = map[string]string{
	extPosixRename: "1", extHardlink: "1", extFsync: "1", extStatvfs: "2", extFstatvfs: "2", extLsetstat: "1", extLimits: "1", extExpandPath: "1",
}

// version makes the VERSION that the client is told of the host's. False is
// none that can be spoken.
func version(p []byte) ([]byte, bool) {
	f := fields{b: p[5:]}
	if f.u32() != 3 || f.bad {
		return nil, false
	}
	out := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, typeVersion}, 3)
	for len(f.b) > 0 {
		name, data := f.bytes(), f.bytes()
		if f.bad {
			return nil, false
		}
		if v, known := versions[string(name)]; known && v == string(data) {
			out = appendString(appendString(out, name), data)
		}
	}
	return finish(out, 0), true
}

// limits makes the host's answer to limits@openssh.com one that holds here too.
func limits(b []byte, id uint32, p []byte) ([]byte, bool) {
	f := fields{b: p[9:]}
	at := len(b)
	b = begin(b, typeReply, id)
	for _, most := range []uint64{maxPacket, maxData, maxData, maxHandles} {
		n := f.u64()
		if n == 0 || n > most { // 0 is no limit
			n = most
		}
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return finish(b, at), !f.bad
}
