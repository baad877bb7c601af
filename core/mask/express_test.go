package mask

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
)

// based gives a type, for a domain what it is made of, as an expression names it.
func based(t *testing.T, conn *pgconn.PgConn, typ string) string {
	t.Helper()
	r := conn.ExecParams(context.Background(), `select format('"%s"."%s"', nspname, b.typname) from pg_type t join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid) join pg_namespace n on n.oid = b.typnamespace where t.oid = $1::regtype`,
		[][]byte{[]byte(typ)}, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(typ, r.Err)
	}
	return string(r.Rows[0][0])
}

// same holds an expression against the Op of the same rule, over a column of
// values, and gives how many are NULL.
func same(t *testing.T, conn *pgconn.PgConn, r Rule, class abi.Class, typ string, values []string) (nulls int) {
	t.Helper()
	e, err := Express(r, class, based(t, conn, typ), `"v"`)
	if err != nil {
		t.Errorf("%s of %s: %v", r, typ, err)
		return 0
	}
	got := conn.ExecParams(context.Background(), "select m::text from (select "+e+` as m, n from (select v::`+typ+` as "v", n from unnest($1::text[]) with ordinality as u(v, n)) c) u order by n`,
		[][]byte{[]byte("{" + strings.Join(values, ",") + "}")}, nil, nil, nil).Read()
	if got.Err != nil {
		t.Errorf("%s of %s: %v\n%s", r, typ, got.Err, e)
		return 0
	}
	want := read(t, conn, based(t, conn, typ), all(r, class, cells(t, conn, typ, values, true), true), true)
	for i := range values {
		is := none
		if got.Rows[i][0] != nil {
			is = string(got.Rows[i][0])
		} else {
			nulls++
		}
		if is != want[i] {
			t.Errorf("%s of %s %.60s is %q, by the server %q", r, typ, values[i], want[i], is)
		}
	}
	return nulls
}

// TestBlindTheServerMasksTheSame: what a mask shows under blind, by an expression
// at the server, is what it shows elsewhere, for every mask, type and corner.
// That no value of them makes it fail is a part of it.
func TestBlindTheServerMasksTheSame(t *testing.T) {
	conn := connect(t, "timezone to 'Asia/Kathmandu'", "standard_conforming_strings to off", "search_path to public")
	tried := map[abi.MaskKind]int{}
	for _, k := range kept {
		for _, r := range rules(k.class) {
			if Expressible(r) != nil {
				continue
			}
			if k.typ == "name" && r.Kind != abi.MaskNull {
				if _, err := Express(r, k.class, `"pg_catalog"."name"`, "v"); err == nil {
					t.Errorf("%s of a name is not refused, which the type may cut", r)
				}
				continue
			}
			tried[r.Kind]++
			same(t, conn, r, k.class, k.typ, k.values)
		}
	}
	for _, kind := range []abi.MaskKind{abi.MaskNull, abi.MaskFixed, abi.MaskKeep, abi.MaskBucket, abi.MaskTruncDate} {
		if tried[kind] < 6 {
			t.Errorf("mask %d was tried %d times", kind, tried[kind])
		}
	}
	for _, r := range []Rule{{Kind: abi.MaskHash}, {Kind: abi.MaskTokenize}, {Kind: abi.MaskCustom}} {
		if e, err := Express(r, abi.ClassText, `"pg_catalog"."text"`, "v"); err == nil {
			t.Errorf("%s is %s", r, e)
		}
	}
}

// TestBlindTheServerMasksTheSameAtRandom does so over random values, most of
// which lie where a mask does something.
func TestBlindTheServerMasksTheSameAtRandom(t *testing.T) {
	conn := connect(t, "timezone to 'America/St_Johns'")
	random := rand.New(rand.NewPCG(6, 7))
	digits := func(most int) string {
		b := make([]byte, 1+random.IntN(most))
		for i := range b {
			b[i] = byte('0' + random.IntN(10)*random.IntN(2))
		}
		return string(b)
	}
	number := func() string {
		return []string{"", "-"}[random.IntN(2)] + digits(19) + "." + digits(19) + []string{"", "e-3", "e-300", "e3"}[random.IntN(4)]
	}
	float := func() string {
		return strconv.FormatFloat((random.Float64()-0.5)*[]float64{1e-300, 1e-3, 1, 10, 1e6, 1e17, 1e300}[random.IntN(7)], 'g', -1, 64)
	}
	letters := []rune(" a@@éb日\\'")
	text := func() string {
		b := make([]rune, random.IntN(9))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	moment := func() string {
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%s+00%s", 1+random.IntN(4713), 1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(60), digits(6), []string{"", " BC"}[random.IntN(2)])
	}
	for _, c := range []struct {
		typ   string
		class abi.Class
		value func() string
		rules []string
	}{
		{"int8", abi.ClassInt8, func() string { return strconv.FormatInt(int64(random.Uint64())>>random.IntN(64), 10) }, []string{"bucket(7)", "bucket(9223372036854)"}},
		{"int2", abi.ClassInt2, func() string { return strconv.FormatInt(int64(int16(random.Uint32())), 10) }, []string{"bucket(100)", "bucket(32767)"}},
		{"numeric", abi.ClassNumeric, number, []string{"bucket(7)", "bucket(0.25)", "bucket(0.00000000000001)", "bucket(123456789.5)"}},
		{"float8", abi.ClassFloat8, float, []string{"bucket(0.1)", "bucket(7)", "bucket(0.00000000000001)", "bucket(999999999999999)"}},
		{"float4", abi.ClassFloat4, func() string { f, _ := strconv.ParseFloat(float(), 32); return strconv.FormatFloat(f, 'g', -1, 32) }, []string{"bucket(0.1)", "bucket(7)"}},
		{"text", abi.ClassText, text, []string{"keep(1, 2)", "keep(0, 1)", "keep(2, 0)", `keep_from("@")`, `keep_from("@@")`, `keep_from("é")`, `keep_from("' ")`, `keep_from("\\")`}},
		{"date", abi.ClassDate, moment, []string{`trunc("year")`, `trunc("month")`}},
		{"timestamp", abi.ClassTimestamp, moment, []string{`trunc("year")`, `trunc("month")`, `trunc("day")`, `trunc("hour")`}},
		{"timestamptz", abi.ClassTimestampTZ, moment, []string{`trunc("year")`, `trunc("month")`, `trunc("day")`, `trunc("hour")`}},
	} {
		var values []string
		for range 300 {
			values = append(values, c.value())
		}
		values = quoted(values...)
		for _, name := range c.rules {
			r, err := ParseRule(name)
			if err != nil {
				t.Fatal(err)
			}
			if nulls := same(t, conn, r, c.class, c.typ, values); nulls == len(values) {
				t.Errorf("%s of %s is NULL for all values", name, c.typ)
			}
		}
	}
}
