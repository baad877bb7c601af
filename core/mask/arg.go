package mask

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// keepFrom stands before the separator in the argument of KEEP.
const keepFrom = "from:"

// keepArg reads "2,4".
func keepArg(arg string) (first, last int, ok bool) {
	a, b, two := strings.Cut(arg, ",")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	first, last = int(x), int(y)
	ok = two && err1 == nil && err2 == nil && strconv.Itoa(first) == a && strconv.Itoa(last) == b
	return first, last, ok
}

// fromArg reads "from:@".
func fromArg(arg string) (sep string, ok bool) {
	sep, ok = strings.CutPrefix(arg, keepFrom)
	return sep, ok && sep != "" && plain(sep)
}

// plain says whether a text can be a value of PostgreSQL's.
func plain(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// units are what TRUNC_DATE cuts to, the widest first.
var units = []string{"year", "month", "day", "hour"}

// mostDigits of a number in an argument: as many as a float8 keeps.
const mostDigits = 15

// decimal is a number of at most mostDigits digits: n / 10^scale.
type decimal struct {
	n     int64
	scale int
}

// decimalArg reads "-12.50".
func decimalArg(s string) (d decimal, ok bool) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, part, point := strings.Cut(digits, ".")
	if whole == "" || point && part == "" || len(whole)+len(part) > mostDigits || len(whole) > 1 && whole[0] == '0' {
		return d, false
	}
	n, err := strconv.ParseUint(whole+part, 10, 63)
	if err != nil {
		return d, false
	}
	d = decimal{int64(n), len(part)}
	if neg {
		d.n = -d.n
	}
	return d, true
}

// widthArg reads the width of BUCKET.
func widthArg(s string) (decimal, bool) {
	d, ok := decimalArg(s)
	return d, ok && d.n > 0
}
