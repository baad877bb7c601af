package mask

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// fixed is one value for all.
type fixed struct{ text, binary []byte }

func (f *fixed) mask(dst, _ []byte, binary bool) ([]byte, bool) { return f.blank(dst, binary), true }

func (f *fixed) blank(dst []byte, binary bool) []byte {
	if binary {
		return append(dst, f.binary...)
	}
	return append(dst, f.text...)
}

// literals say what is expected of the literal of each class.
var literals = [...]string{
	abi.ClassText:        "UTF-8 without NUL is expected",
	abi.ClassInt2:        "a whole number as far as int2 goes is expected",
	abi.ClassInt4:        "a whole number as far as int4 goes is expected",
	abi.ClassInt8:        "a whole number as far as int8 goes is expected",
	abi.ClassNumeric:     "a number of at most 15 digits is expected, as in 12.50",
	abi.ClassFloat4:      "a finite number is expected",
	abi.ClassFloat8:      "a finite number is expected",
	abi.ClassBool:        "true or false is expected",
	abi.ClassDate:        "a date is expected, as in 2000-01-31",
	abi.ClassTimestamp:   "a date with or without a time is expected, as in 2000-01-31 or 2000-01-31 23:59:59",
	abi.ClassTimestampTZ: "a date with or without a time and an offset is expected, as in 2000-01-31 or 2000-01-31 23:59:59+00",
	abi.ClassUUID:        "a UUID is expected, as in 00000000-0000-0000-0000-000000000000",
	abi.ClassBytea:       `bytes in hex are expected, as in \x00ff`,
	abi.ClassJSON:        "JSON is expected",
	abi.ClassJSONB:       "JSON is expected",
	abi.ClassEnum:        "one of the type's labels is expected",
}

func buildFixed(s string, c abi.Class) (masker, error) {
	f, ok := readFixed(s, c)
	if !ok {
		return nil, fmt.Errorf("fixed(%q): %s", s, literals[c])
	}
	return f, nil
}

func readFixed(s string, c abi.Class) (f *fixed, ok bool) {
	f = &fixed{text: []byte(s), binary: []byte(s)}
	switch c {
	case abi.ClassText:
		return f, plain(s)
	case abi.ClassEnum:
		return f, plain(s) && s != "" && len(s) < 64
	case abi.ClassInt2, abi.ClassInt4, abi.ClassInt8:
		v, ok := readInt(f.text, c, false)
		return &fixed{appendInt(nil, v, c, false), appendInt(nil, v, c, true)}, ok
	case abi.ClassNumeric:
		d, ok := decimalArg(s)
		return &fixed{appendNumeric(nil, d.n, d.scale, false), appendNumeric(nil, d.n, d.scale, true)}, ok
	case abi.ClassFloat4, abi.ClassFloat8:
		v, ok := readFloat(f.text, c, false)
		return &fixed{appendFloat(nil, v, c, false), appendFloat(nil, v, c, true)}, ok
	case abi.ClassBool:
		switch s {
		case "true", "t":
			return &fixed{[]byte("t"), []byte{1}}, true
		case "false", "f":
			return &fixed{[]byte("f"), []byte{0}}, true
		}
	case abi.ClassDate, abi.ClassTimestamp, abi.ClassTimestampTZ:
		for _, rest := range [...]string{"", "+00", " 00:00:00", " 00:00:00+00"} {
			if m, ok := readMoment([]byte(s+rest), c, false); ok {
				return &fixed{appendMoment(nil, m, c, false), appendMoment(nil, m, c, true)}, true
			}
		}
	case abi.ClassUUID:
		var id [16]byte
		if readUUID(id[:], f.text) {
			return &fixed{appendUUID(nil, id[:]), id[:]}, true
		}
	case abi.ClassBytea:
		if digits, ok := strings.CutPrefix(s, `\x`); ok {
			b, err := hex.DecodeString(digits)
			return &fixed{hex.AppendEncode([]byte(`\x`), b), b}, err == nil
		}
	case abi.ClassJSON, abi.ClassJSONB:
		if c == abi.ClassJSONB {
			f.binary = append([]byte{jsonbVersion}, s...)
		}
		return f, plain(s) && json.Valid(f.text)
	}
	return nil, false
}

// jsonbVersion stands before the text of a jsonb in binary form.
const jsonbVersion = 1
