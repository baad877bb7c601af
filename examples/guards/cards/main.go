// The cards guard hides card numbers wherever a result shows text: runs of 13 to
// 19 digits, single spaces and dashes between them allowed, whose check digit is
// right keep their last four. It is a net under what a task lists, and no
// boundary: whoever computes with a column can take a number apart. What must
// not be seen at all, a task masks by name.
package main

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&cards{}) }

// The types of PostgreSQL, by what they can hold.
var (
	texts   = []uint32{25, 1043, 1042, 19, 705}                                            // text, varchar, char, name, unknown: searched, digits become *
	numbers = []uint32{20, 1700}                                                           // int8, numeric: a whole value that is a card number becomes NULL
	small   = []uint32{16, 18, 21, 23, 26, 1082, 1083, 1266, 1114, 1184, 1186, 2950, 2278} // bool, "char", int2, int4, oid, dates and times, uuid, void: no room for one
)

type cards struct {
	Pass []uint32 `json:"pass"` // further types that hold none, by their oid
}

// Configure implements guard.Configurer.
func (c *cards) Configure(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	return json.Unmarshal(config, c)
}

// Command has no opinion.
func (c *cards) Command(_ *abi.Command, v *abi.Verdict) { v.Decision = abi.Abstain }

// ResultSchema sends what can be searched to ResultBatch. What can hold a number
// and cannot be searched, arrays, rows and JSON among it, is NULL.
func (c *cards) ResultSchema(s *abi.ResultSchema, p *abi.MaskPlan) {
	p.Default = abi.MaskPass // wherever it comes from, the type decides
	for i := range s.Columns {
		kind := abi.MaskNull
		switch t := s.Columns[i].Type; {
		case slices.Contains(texts, t), slices.Contains(numbers, t):
			kind = abi.MaskCustom
		case slices.Contains(small, t), slices.Contains(c.Pass, t):
			kind = abi.MaskPass
		}
		p.Kinds = append(p.Kinds, kind)
	}
}

// ResultBatch implements guard.ResultBatcher.
func (c *cards) ResultBatch(in, out *abi.Batch) {
	var digits [20]byte
	for i := range in.Columns {
		from, to := &in.Columns[i], &out.Columns[i]
		text := slices.Contains(texts, from.Type)
		for row := range in.Rows {
			cell, ok := from.Cell(row)
			at := len(to.Bytes)
			to.Bytes = append(to.Bytes, cell...)
			switch {
			case !ok:
			case text:
				hide(to.Bytes[at:])
			case !from.Binary:
				ok = !hide(to.Bytes[at:])
			case from.Type == 20 && len(cell) == 8:
				ok = !hide(strconv.AppendInt(digits[:0], int64(binary.BigEndian.Uint64(cell)), 10))
			default:
				ok = false // a numeric in binary is not read here
			}
			to.End(!ok)
		}
	}
}

// hide puts * for the digits of every card number in b but their last four.
func hide(b []byte) (found bool) {
	for i := 0; i < len(b); i++ {
		if b[i] < '0' || b[i] > '9' {
			continue
		}
		n, end := run(b[i:])
		if n >= 13 && n <= 19 && luhn(b[i:i+end]) {
			found = true
			for j := i; n > 4; j++ {
				if b[j] >= '0' && b[j] <= '9' {
					b[j] = '*'
					n--
				}
			}
		}
		i += end
	}
	return found
}

// run gives how many digits b begins with, and where they end.
func run(b []byte) (n, end int) {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] >= '0' && b[i] <= '9':
			n, end = n+1, i+1
		case (b[i] == ' ' || b[i] == '-') && i == end:
		default:
			return n, end
		}
	}
	return n, end
}

// luhn says whether the last digit is right.
func luhn(b []byte) bool {
	sum, double := 0, false
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < '0' || b[i] > '9' {
			continue
		}
		d := int(b[i] - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double = sum+d, !double
	}
	return sum%10 == 0
}

func main() {}
