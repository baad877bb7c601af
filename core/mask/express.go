package mask

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
)

// Expressible says why a rule cannot be an expression at the server: the keys
// of HASH and TOKENIZE stay with the gateway, and CUSTOM is a module's.
func Expressible(r Rule) error {
	switch r.Kind {
	case abi.MaskHash, abi.MaskTokenize:
		return fmt.Errorf("%s needs a key, which the server does not have: blind works with null, fixed, keep, keep_from, bucket and trunc", r.word())
	case abi.MaskCustom:
		return fmt.Errorf("what a module masks itself the server cannot: blind works with null, fixed, keep, keep_from, bucket and trunc")
	}
	return nil
}

// Express gives an expression of PostgreSQL's that is what an Op of the rule
// makes of value, which names a column of that class; typ is its type, or its
// domain's base, qualified. The expression is of that type and names everything
// by its schema. It is total: it fails, if at all, whatever the value is.
func Express(r Rule, c abi.Class, typ, value string) (string, error) {
	if err := Expressible(r); err != nil {
		return "", err
	}
	null := "NULL::" + typ
	if r.Kind == abi.MaskNull {
		return "(" + null + ")", nil
	}
	if err := Check(r, c); err != nil {
		return "", err
	}
	if typ == `"pg_catalog"."name"` {
		return "", fmt.Errorf("%s of the type name, which holds 63 bytes: blind has null alone for it", r.word())
	}
	e := expression{class: c, typ: typ, v: value}
	shown, blank := "", ""
	switch r.Kind {
	case abi.MaskFixed:
		f, _ := readFixed(r.Arg, c)
		shown = e.literal(string(f.text))
		blank = shown
	case abi.MaskKeep:
		blank = e.literal(stars)
		if first, last, ok := keepArg(r.Arg); ok {
			shown = e.keep(first, last)
		} else if sep, ok := fromArg(r.Arg); ok {
			shown = e.keepTail(sep)
		}
	case abi.MaskBucket:
		width, _ := widthArg(r.Arg)
		switch c {
		case abi.ClassNumeric:
			blank = e.literal(string(appendNumeric(nil, 0, width.scale, false)))
			shown = e.bucketNumeric(width)
		case abi.ClassFloat4, abi.ClassFloat8:
			blank = e.literal("0")
			shown = e.bucketFloat(width)
		default:
			blank = e.literal("0")
			shown = e.bucketInt(width.n)
		}
	case abi.MaskTruncDate:
		blank = e.literal(string(appendMoment(nil, moment{sec: epoch}, c, false)))
		shown = e.trunc(r.Arg)
	default:
		return "(" + null + ")", nil
	}
	if r.Nulls {
		blank = null
	}
	if r.Kind == abi.MaskFixed && !r.Nulls {
		return "(" + shown + ")", nil
	}
	return "(CASE WHEN " + value + " IS NULL THEN " + blank + " ELSE " + shown + " END)", nil
}

// expression writes what a mask makes of the column v, which is not NULL.
type expression struct {
	class  abi.Class
	typ, v string
}

// op names an operator of the server's own.
func op(left, symbol, right string) string {
	return "(" + left + " OPERATOR(pg_catalog." + symbol + ") " + right + ")"
}

// call names a function of the server's own.
func call(name string, args ...string) string {
	return "pg_catalog." + name + "(" + strings.Join(args, ", ") + ")"
}

// quote writes a constant that reads the same whatever the session's settings are.
func quote(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return "E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}

func constant(s, typ string) string { return quote(s) + "::pg_catalog." + typ }

func (e *expression) literal(s string) string { return quote(s) + "::" + e.typ }

// of makes a text the column's type again.
func (e *expression) of(text string) string { return "(" + text + ")::" + e.typ }

// text is the value without the blanks at its end.
func (e *expression) text() string {
	return call("rtrim", e.v+"::pg_catalog.text", constant(" ", "text"))
}

func count(n int) string { return constant(strconv.Itoa(n), "int4") }

// blankText says whether nothing but blanks is in a text. No collation has a
// say in it.
func blankText(s string) string {
	return op(call("octet_length", call("rtrim", s, constant(" ", "text"))), "=", count(0))
}

func (e *expression) keep(first, last int) string {
	t := e.text()
	middle, shown := t, constant(stars, "text")
	if first > 0 {
		middle, shown = call("right", middle, count(-first)), op(call("left", t, count(first)), "||", shown)
	}
	if last > 0 {
		middle, shown = call("left", middle, count(-last)), op(shown, "||", call("right", t, count(last)))
	}
	return "CASE WHEN " + op(call("char_length", t), "<=", count(first+last)) + " OR " + blankText(middle) + " THEN " + e.literal(stars) + " ELSE " + e.of(shown) + " END"
}

// keepTail looks for the last separator as the first one from behind, by bytes:
// some collations would refuse to look.
func (e *expression) keepTail(sep string) string {
	t := e.text()
	runes := []rune(sep)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	at := call("strpos", call("reverse", t)+` COLLATE pg_catalog."C"`, constant(string(runes), "text"))
	tail := op(at, "+", count(utf8.RuneCountInString(sep)-1)) // in characters
	head := call("left", t, op(count(0), "-", tail))
	return "CASE WHEN " + op(at, "=", count(0)) + " OR " + blankText(head) + " THEN " + e.literal(stars) + " ELSE " + e.of(op(constant(stars, "text"), "||", call("right", t, tail))) + " END"
}

func (e *expression) bucketInt(width int64) string {
	shift := 64 - 8*intSize(e.class)
	least := int64(math.MinInt64) >> shift
	number := func(n int64) string { return constant(strconv.FormatInt(n, 10), "int8") }
	v, w := e.v+"::pg_catalog.int8", number(width)
	rest := op(v, "%", w)
	whole := op(v, "-", rest) // nearer to 0: it fits
	return "CASE WHEN " + op(rest, ">=", number(0)) + " THEN " + e.of(whole) + " WHEN " + op(whole, ">=", number(least+width)) + " THEN " + e.of(op(whole, "-", w)) + " END"
}

// bucketNumeric counts in units of the width's last decimal, which are whole
// and, where they count, within 64 bits: nothing of it can overflow or round.
func (e *expression) bucketNumeric(width decimal) string {
	number := func(s string) string { return constant(s, "numeric") }
	past := new(big.Int).Lsh(big.NewInt(1), 63).String() // 2^63
	edge := past
	if width.scale > 0 {
		edge = past[:len(past)-width.scale] + "." + past[len(past)-width.scale:]
	}
	units, w := e.v, number(strconv.FormatInt(width.n, 10))
	if width.scale > 0 {
		units = op(e.v, "*", number(strconv.FormatInt(powers[width.scale], 10)))
	}
	units = call("floor", units)
	rest := call("mod", units, w)
	whole := op(units, "-", rest)
	back := func(s string) string {
		if width.scale == 0 {
			return s
		}
		return op(s, "*", number("0."+strings.Repeat("0", width.scale-1)+"1"))
	}
	least := new(big.Int).Add(big.NewInt(math.MinInt64), big.NewInt(width.n)).String()
	// NaN and the infinities are on neither side of what is between two numbers.
	return "CASE WHEN NOT (" + op(e.v, ">", number("-"+edge)) + " AND " + op(e.v, "<", number(edge)) + ") THEN NULL WHEN " + op(rest, ">=", number("0")) + " THEN " + back(whole) +
		" WHEN " + op(whole, ">=", number(least)) + " THEN " + back(op(whole, "-", w)) + " END"
}

// bucketFloat works as bucketFloat.mask does. Numbers that are next to nothing
// are told by their sign, as dividing them could underflow; those beyond what
// has a digit left for the width are NULL before they could overflow.
func (e *expression) bucketFloat(width decimal) string {
	number := func(f float64) string { return constant(strconv.FormatFloat(f, 'g', -1, 64), "float8") }
	by, unit := float64(width.n), float64(powers[width.scale])
	most := float64(1 << 53)
	if e.class == abi.ClassFloat4 {
		most = 1 << 24
	}
	v := e.v + "::pg_catalog.float8"
	start := func(bucket string) string {
		s := op(op(op(bucket, "*", number(by)), "/", number(unit)), "+", number(0))
		if e.class == abi.ClassFloat4 {
			s = "(" + s + "::pg_catalog.float4)::pg_catalog.float8"
		}
		return s
	}
	guess := call("floor", op(op(v, "*", number(unit)), "/", number(by)))
	next := op(guess, "+", number(1))
	bucket := "(CASE WHEN " + op(start(next), "<=", v) + " THEN " + next + " WHEN " + op(start(guess), ">", v) + " THEN " + op(guess, "-", number(1)) + " ELSE " + guess + " END)"
	edge := most * 2 * by / unit
	tiny := number(1e-290)
	return "CASE WHEN NOT (" + op(v, ">", number(-edge)) + " AND " + op(v, "<", number(edge)) + ") THEN NULL WHEN " + op(v, ">=", number(0)) + " AND " + op(v, "<", tiny) + " THEN " + e.literal("0") +
		" WHEN " + op(v, "<", number(0)) + " AND " + op(v, ">", op(number(0), "-", tiny)) + " THEN " + e.of(start(number(-1))) +
		" WHEN " + op(call("abs", bucket), "<", number(most)) + " THEN " + e.of(start(bucket)) + " END"
}

// firsts are where the first whole unit of the calendar begins, by unit: what is
// before it would be cut to a time that is none.
var firsts = map[string]string{"year": "4713-01-01", "month": "4714-12-01", "day": "4714-11-24", "hour": "4714-11-24"}

func (e *expression) trunc(unit string) string {
	first := firsts[unit]
	switch e.class {
	case abi.ClassTimestamp:
		first += " 00:00:00"
	case abi.ClassTimestampTZ:
		first += " 00:00:00+00"
	}
	cut := call("date_trunc", constant(unit, "text"), e.v)
	switch {
	case e.class == abi.ClassTimestampTZ:
		cut = call("date_trunc", constant(unit, "text"), e.v, constant("UTC", "text"))
	case e.class == abi.ClassDate:
		field := map[string]string{"year": "doy", "month": "day"}[unit]
		cut = op(e.v, "-", op("EXTRACT("+field+" FROM "+e.v+")::pg_catalog.int4", "-", count(1)))
	}
	return "CASE WHEN " + call("isfinite", e.v) + " AND " + op(e.v, ">=", e.literal(first+" BC")) + " THEN " + cut + " END"
}
