package sftp

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
)

// maxExtents bounds how many extents of a file are told one by one.
const maxExtents = 16

// digest is what was read from a file, or written to it: SHA-256 of each run of
// bytes that follow one another. One that begins at 0 and is alone is the file,
// as far as it went.
type digest struct {
	sum        hash.Hash // of the run at hand, nil before there is any
	from, next uint64
	bytes      uint64
	ended      []extent
	more       int       // runs that are not told one by one
	rest       hash.Hash // over those
}

type extent struct {
	from, n uint64
	sum     [sha256.Size]byte
}

func (d *digest) add(offset uint64, b []byte) {
	if len(b) == 0 {
		return
	}
	if d.sum == nil {
		d.sum, d.from, d.next = sha256.New(), offset, offset
	} else if offset != d.next {
		d.end()
		d.from, d.next = offset, offset
	}
	_, _ = d.sum.Write(b) // never fails
	d.next += uint64(len(b))
	d.bytes += uint64(len(b))
}

func (d *digest) run() (e extent) {
	e.from, e.n = d.from, d.next-d.from
	d.sum.Sum(e.sum[:0])
	return e
}

func (d *digest) end() {
	e := d.run()
	d.sum.Reset()
	if len(d.ended) < maxExtents {
		d.ended = append(d.ended, e)
		return
	}
	if d.rest == nil {
		d.rest = sha256.New()
	}
	d.more++
	d.rest.Write(e.append(nil))
}

func (e extent) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.from)
	b = binary.BigEndian.AppendUint64(b, e.n)
	return append(b, e.sum[:]...)
}

// String is "1234 bytes sha256:…", or names the runs that they came in.
func (d *digest) String() string {
	if d.sum == nil {
		return fmt.Sprintf("0 bytes sha256:%x", sha256.Sum256(nil))
	}
	last := d.run()
	if len(d.ended) == 0 && last.from == 0 {
		return fmt.Sprintf("%d bytes sha256:%x", d.bytes, last.sum)
	}
	all := append(d.ended[:len(d.ended):len(d.ended)], last)
	var b strings.Builder
	fmt.Fprintf(&b, "%d bytes in %d extents:", d.bytes, len(all)+d.more)
	for i := range all {
		if i == len(all)-1 && d.more > 0 {
			fmt.Fprintf(&b, " %d more sha256:%x,", d.more, d.rest.Sum(nil))
		}
		fmt.Fprintf(&b, " %d+%d sha256:%x", all[i].from, all[i].n, all[i].sum)
		if i < len(all)-1 {
			b.WriteByte(',')
		}
	}
	return b.String()
}
