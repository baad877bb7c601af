package mask

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// moment is a date or a point in time, in seconds of Unix and micros behind
// them. It holds all that PostgreSQL can, and time.Time all of that.
type moment struct {
	sec   int64
	micro int64
}

const (
	day      = 24 * 60 * 60
	second   = 1_000_000       // microseconds
	epoch    = 10957 * day     // 2000-01-01, from which PostgreSQL counts
	earliest = -210866803200   // 4714-11-24 BC, where its calendar begins
	pastTime = 9224318016000   // 294277-01-01, where its timestamps end
	pastDate = 185331707078400 // 5874898-01-01, where its dates end
)

func (m moment) in(c abi.Class) bool {
	if c == abi.ClassDate {
		return m.sec >= earliest && m.sec < pastDate
	}
	return m.sec >= earliest && m.sec < pastTime
}

// readMoment reads a cell. Text is what DateStyle ISO gives, and no other.
func readMoment(cell []byte, c abi.Class, bin bool) (m moment, ok bool) {
	switch {
	case bin && c == abi.ClassDate && len(cell) == 4:
		m.sec = int64(int32(binary.BigEndian.Uint32(cell)))*day + epoch
	case bin && c != abi.ClassDate && len(cell) == 8:
		at := int64(binary.BigEndian.Uint64(cell))
		whole, _ := floor(at, second) // what does not fit is out of range
		m = moment{whole/second + epoch, at - whole}
	case bin:
		return m, false
	default:
		if m, ok = parseMoment(cell, c); !ok {
			return m, false
		}
	}
	return m, m.in(c)
}

func appendMoment(dst []byte, m moment, c abi.Class, bin bool) []byte {
	switch {
	case bin && c == abi.ClassDate:
		return binary.BigEndian.AppendUint32(dst, uint32((m.sec-epoch)/day))
	case bin:
		return binary.BigEndian.AppendUint64(dst, uint64((m.sec-epoch)*second+m.micro))
	}
	t := time.Unix(m.sec, m.micro*1000).UTC()
	year := t.Year()
	if year <= 0 {
		year = 1 - year
	}
	dst = appendPadded(dst, year, 4)
	dst = appendPadded(append(dst, '-'), int(t.Month()), 2)
	dst = appendPadded(append(dst, '-'), t.Day(), 2)
	if c != abi.ClassDate {
		dst = appendPadded(append(dst, ' '), t.Hour(), 2)
		dst = appendPadded(append(dst, ':'), t.Minute(), 2)
		dst = appendPadded(append(dst, ':'), t.Second(), 2)
		if m.micro > 0 {
			dst = appendPadded(append(dst, '.'), int(m.micro), 6)
			for dst[len(dst)-1] == '0' {
				dst = dst[:len(dst)-1]
			}
		}
	}
	if c == abi.ClassTimestampTZ {
		dst = append(dst, "+00"...)
	}
	if t.Year() <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

func appendPadded(dst []byte, n, width int) []byte {
	for least := int(powers[width-1]); n < least && least > 1; least /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

// parseMoment reads 2000-01-31, or 2000-01-31 23:59:59.5, or that with an
// offset like +05:30; each may end in BC.
func parseMoment(b []byte, c abi.Class) (moment, bool) {
	p := scanner{b: b}
	year := p.number(4, 7)
	p.bad = p.bad || year == 0
	p.take('-')
	month := p.number(2, 2)
	p.take('-')
	d := p.number(2, 2)
	var hour, minute, sec, micro, offset int
	if c != abi.ClassDate {
		p.take(' ')
		hour = p.number(2, 2)
		p.take(':')
		minute = p.number(2, 2)
		p.take(':')
		sec = p.number(2, 2)
		if p.next('.') {
			start := p.at
			micro = p.number(1, 6)
			micro *= int(powers[6-min(p.at-start, 6)])
		}
	}
	if c == abi.ClassTimestampTZ {
		offset = p.offset()
	}
	if p.next(' ') {
		p.take('B')
		p.take('C')
		year = 1 - year
	}
	if p.bad || p.at != len(b) || hour > 23 || minute > 59 || sec > 59 {
		return moment{}, false
	}
	t := time.Date(year, time.Month(month), d, hour, minute, sec, 0, time.UTC)
	if t.Month() != time.Month(month) || t.Day() != d { // there is no such day
		return moment{}, false
	}
	return moment{t.Unix() - int64(offset), int64(micro)}, true
}

// scanner reads a text from left to right; what does not fit makes it bad.
type scanner struct {
	b   []byte
	at  int
	bad bool
}

// next takes a byte if it is there.
func (s *scanner) next(c byte) bool {
	if s.bad || s.at == len(s.b) || s.b[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) take(c byte) { s.bad = !s.next(c) }

// number reads from least to most digits.
func (s *scanner) number(least, most int) int {
	n, start := 0, s.at
	for s.at < len(s.b) && s.at-start < most && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		n = n*10 + int(s.b[s.at]-'0')
		s.at++
	}
	s.bad = s.bad || s.at-start < least
	return n
}

// offset reads +05, +05:30 or +05:30:15 in seconds.
func (s *scanner) offset() int {
	sign := 1
	if !s.next('+') {
		s.take('-')
		sign = -1
	}
	n := s.number(2, 2) * 3600
	if s.next(':') {
		n += s.number(2, 2) * 60
	}
	if s.next(':') {
		n += s.number(2, 2)
	}
	return sign * n
}

func buildTrunc(r Rule, c abi.Class) (masker, error) {
	unit := slices.Index(units, r.Arg)
	switch {
	case unit < 0:
		return nil, malformed(r)
	case c == abi.ClassDate && unit > 1:
		return nil, fmt.Errorf("trunc: one of \"year\", \"month\" is expected for a date: %q would hide nothing", r.Arg)
	}
	return &truncDate{c, unit}, nil
}

// truncDate cuts to the beginning of a unit, in UTC where the type has a zone:
// the client's own would make text and binary differ.
type truncDate struct {
	class abi.Class
	unit  int
}

func (d *truncDate) mask(dst, cell []byte, bin bool) ([]byte, bool) {
	m, ok := readMoment(cell, d.class, bin)
	if !ok {
		return dst, false
	}
	cut := moment{}
	switch t := time.Unix(m.sec, 0).UTC(); d.unit {
	case 0:
		cut.sec = time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	case 1:
		cut.sec = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Unix()
	case 2:
		cut.sec, _ = floor(m.sec, day)
	case 3:
		cut.sec, _ = floor(m.sec, 60*60)
	}
	if !cut.in(d.class) { // the calendar begins within a year and a month
		return dst, false
	}
	return appendMoment(dst, cut, d.class, bin), true
}

func (d *truncDate) blank(dst []byte, bin bool) []byte {
	return appendMoment(dst, moment{sec: epoch}, d.class, bin)
}
