package mask

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/pgtest"
)

var (
	start  sync.Once
	server *pgtest.Server
	failed error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// connect gives a session of its own at a real server, with settings.
func connect(t *testing.T, settings ...string) *pgconn.PgConn {
	t.Helper()
	start.Do(func() {
		if server, failed = pgtest.Start(pgtest.Major()); failed != nil {
			return
		}
		failed = server.Database("masks", "create type mood as enum ('sad', 'fine', 'größer'); create domain note as text; create domain small as int2 check (value < 32767);")
	})
	if failed != nil {
		t.Fatal(failed)
	}
	conn, err := pgconn.Connect(context.Background(), server.URL("app", "masks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, s := range settings {
		if _, err := conn.Exec(context.Background(), "set "+s).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// cells asks the server for values of a type, in text or binary form. NULL is
// nil.
func cells(t *testing.T, conn *pgconn.PgConn, typ string, values []string, bin bool) [][]byte {
	t.Helper()
	params := [][]byte{[]byte("{" + strings.Join(values, ",") + "}")}
	r := conn.ExecParams(context.Background(), "select v::"+typ+" from unnest($1::text[]) with ordinality as u(v, n) order by n", params, nil, nil, []int16{format(bin)}).Read()
	if r.Err != nil {
		t.Fatal(typ, r.Err)
	}
	var out [][]byte
	for _, row := range r.Rows {
		out = append(out, row[0])
	}
	return out
}

func format(bin bool) int16 {
	if bin {
		return 1
	}
	return 0
}

// read has the server read cells as a type, and gives each as its text. What
// it cannot read is a fault.
func read(t *testing.T, conn *pgconn.PgConn, typ string, cells [][]byte, bin bool) []string {
	t.Helper()
	b := &pgconn.Batch{}
	for _, c := range cells {
		b.ExecParams("select $1::"+typ+"::text", [][]byte{c}, nil, []int16{format(bin)}, nil)
	}
	rs, err := conn.ExecBatch(context.Background(), b).ReadAll()
	if err != nil {
		t.Fatalf("%s: the server cannot read %q: %v", typ, cells[min(len(rs), len(cells))-1], err)
	}
	var out []string
	for _, r := range rs {
		if r.Rows[0][0] == nil {
			out = append(out, none)
			continue
		}
		out = append(out, string(r.Rows[0][0]))
	}
	return out
}

// quoted writes values as elements of an array; none is NULL.
func quoted(values ...string) []string {
	for i, v := range values {
		if v == none {
			values[i] = "NULL"
			continue
		}
		values[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
	}
	return values
}

// kept are types with values from all corners.
var kept = []struct {
	typ    string
	class  abi.Class
	values []string
}{
	{"text", abi.ClassText, quoted("", "a", "ab", "ada@example.com", "@", "a@", "@a", "a@b@c", "4111 1111 1111 1111", "äöüßÄ", "日本語のテキスト", "e\u0301e\u0301e\u0301e\u0301", "👩‍👩‍👧", "--- ---", "tab\there", "new\nline", `back\slash "quote"`, strings.Repeat("long ü ", 2000), none)},
	{"varchar(40)", abi.ClassText, quoted("", "ada@example.com", "äöüßÄäöüßÄäöüßÄäöüßÄäöüßÄäöüßÄäöüßÄäöüßÄ", none)},
	{"char(12)", abi.ClassText, quoted("", "ada", "ada@example", none)},
	{"name", abi.ClassText, quoted("", "ada", strings.Repeat("n", 63), none)},
	{"note", abi.ClassText, quoted("", "a note of ada's", none)},
	{"int2", abi.ClassInt2, quoted("0", "1", "-1", "9", "10", "-10", "11", "-11", "99", "12345", "-12345", "32767", "-32768", "-32760", none)},
	{"small", abi.ClassInt2, quoted("0", "-1", "12345", "-32768", none)},
	{"int4", abi.ClassInt4, quoted("0", "5", "-5", "123456", "-123456", "2147483647", "-2147483648", "-2147483640", none)},
	{"int8", abi.ClassInt8, quoted("0", "5", "-5", "1234567890123", "9223372036854775807", "-9223372036854775808", "-9223372036854775800", none)},
	{"numeric", abi.ClassNumeric, quoted("0", "0.00", "-0.5", "9.99", "10", "-10", "-10.0000000000000000000000001", "12345678.87654321", "0.0001", "10000", "99999999", "-100000000.00010001", "9223372036854775807", "-9223372036854775807.5",
		"9223372036854775808", "1e400", "-1e-400", "1e-16383", "NaN", "Infinity", "-Infinity", none)},
	{"numeric(18,2)", abi.ClassNumeric, quoted("0", "1.5", "-1.005", "1234567890.12", none)},
	{"float4", abi.ClassFloat4, quoted("0", "-0", "0.1", "-0.1", "1.5", "16777215", "16777217", "1e6", "999999.9", "3.4028235e38", "-3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", none)},
	{"float8", abi.ClassFloat8, quoted("0", "-0", "0.1", "0.30000000000000004", "-12345.678", "1e15", "1e-5", "123456789012345678", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "NaN", "Infinity", "-Infinity", none)},
	{"bool", abi.ClassBool, quoted("true", "false", none)},
	{"date", abi.ClassDate, quoted("2000-01-01", "1999-12-31", "2024-02-29", "1900-03-01", "0001-01-01", "0001-12-31 BC", "0044-03-15 BC", "4714-11-24 BC", "4713-01-01 BC", "9999-12-31", "10000-01-01", "5874897-12-31", "infinity", "-infinity", none)},
	{"timestamp", abi.ClassTimestamp, quoted("2000-01-01", "1999-12-31 23:59:59.999999", "1999-12-31 23:59:59.000001", "2024-02-29 12:34:56.5", "0001-12-31 23:59:59 BC", "4714-11-24 BC", "4714-12-24 01:02:03 BC", "294276-12-31 23:59:59.999999",
		"infinity", "-infinity", none)},
	{"timestamptz", abi.ClassTimestampTZ, quoted("2000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999+00", "2024-03-31 01:30:00+00", "2024-02-29 12:34:56.5-11", "1880-01-01 00:00:00+00", "0001-12-31 23:59:59 BC", "4714-11-24 00:00:00+00 BC",
		"4714-12-24 01:02:03+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity", none)},
	{"uuid", abi.ClassUUID, quoted("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "550e8400-e29b-41d4-a716-446655440000", none)},
	{"bytea", abi.ClassBytea, quoted("", `\x00`, `\x5c7830304646`, `\x`+strings.Repeat("00ff", 700), none)},
	{"json", abi.ClassJSON, quoted("null", `{"a": [1, "ü"]}`, none)},
	{"jsonb", abi.ClassJSONB, quoted("null", `{"a": [1, "ü"]}`, none)},
	{"mood", abi.ClassEnum, quoted("sad", "größer", none)},
	{"int4[]", abi.ClassOther, quoted("{}", "{1,NULL}", none)},
	{"interval", abi.ClassOther, quoted("1 day", none)},
	{"inet", abi.ClassOther, quoted("10.0.0.1", none)},
}

// rules are all that are tried on a class.
func rules(c abi.Class) []Rule {
	list := []Rule{{Kind: abi.MaskKeep, Arg: "from:@"}, {Kind: abi.MaskBucket, Arg: "7"}, {Kind: abi.MaskBucket, Arg: "30000"}, {Kind: abi.MaskBucket, Arg: "0.25"}, {Kind: abi.MaskBucket, Arg: "0.00001"}, {Kind: abi.MaskBucket, Arg: "123456789012345"}}
	for kind := abi.MaskNull; kind < abi.MaskCustom; kind++ {
		list = append(list, rule(kind, c))
	}
	for _, unit := range units {
		list = append(list, Rule{Kind: abi.MaskTruncDate, Arg: unit})
	}
	for _, r := range slices.Clone(list) {
		r.Nulls = true
		list = append(list, r)
	}
	return slices.DeleteFunc(list, func(r Rule) bool { return Check(r, c) != nil })
}

func all(r Rule, c abi.Class, cells [][]byte, bin bool) [][]byte {
	op := Compile(r, c, keys)
	out := make([][]byte, len(cells))
	for i, cell := range cells {
		if masked, null := op.Append([]byte{}, cell, cell == nil, bin); !null {
			out[i] = masked
		}
	}
	return out
}

// TestPM04PM35TheServerReadsWhatMasksGive takes values of every type in text
// and binary from a real server, and has it read what each mask makes of them:
// a value of the type, the same one from text and binary.
func TestPM04PM35TheServerReadsWhatMasksGive(t *testing.T) {
	conn := connect(t, "timezone to 'Asia/Kathmandu'", "datestyle to 'ISO, DMY'")
	for _, k := range kept {
		text, bin := cells(t, conn, k.typ, k.values, false), cells(t, conn, k.typ, k.values, true)
		for _, r := range rules(k.class) {
			fromText, fromBin := read(t, conn, k.typ, all(r, k.class, text, false), false), read(t, conn, k.typ, all(r, k.class, bin, true), true)
			for i := range k.values {
				if fromText[i] != fromBin[i] {
					t.Errorf("%s of %s %.50s is %q from text and %q from binary", r, k.typ, k.values[i], fromText[i], fromBin[i])
				}
				if k.values[i] == "NULL" && r.Nulls != (fromText[i] == none) && r.Kind != abi.MaskNull {
					t.Errorf("%s of NULL of %s is %q", r, k.typ, fromText[i])
				}
			}
		}
	}
}

// TestPM35TheServerWouldSayTheSame holds the masks that have a meaning in SQL
// against what the server works out, over random values.
func TestPM35TheServerWouldSayTheSame(t *testing.T) {
	conn := connect(t, "timezone to 'America/St_Johns'", "extra_float_digits to 1")
	random := rand.New(rand.NewPCG(4, 35))
	digits := func(most int) string {
		b := make([]byte, 1+random.IntN(most))
		for i := range b {
			b[i] = byte('0' + random.IntN(10)*random.IntN(2))
		}
		return string(b)
	}
	sign := func() string { return []string{"", "-"}[random.IntN(2)] }
	integer := func(bits int) func() string {
		return func() string { return strconv.FormatInt(int64(random.Uint64())>>(64-bits+random.IntN(bits)), 10) }
	}
	date := func() string {
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%s%s", 1+random.IntN(4713), 1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(60), digits(6), []string{"", " BC"}[random.IntN(2)])
	}
	numeric := func() string { return sign() + digits(18) + "." + digits(30) }
	letters := []rune("abcXYZ019 @@-_äß日本👩")
	text := func() string {
		b := make([]rune, random.IntN(12))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	for _, c := range []struct {
		rule  string
		typ   string
		class abi.Class
		value func() string
		same  string // of v
	}{
		{"bucket(7)", "int2", abi.ClassInt2, integer(15), "(floor(v::numeric / 7) * 7)::int2"},
		{"bucket(1000)", "int4", abi.ClassInt4, integer(31), "(floor(v::numeric / 1000) * 1000)::int4"},
		{"bucket(10)", "int8", abi.ClassInt8, integer(62), "(v::numeric - mod(mod(v::numeric, 10) + 10, 10))::int8"},
		{"bucket(10)", "numeric", abi.ClassNumeric, numeric, "trim_scale(v - mod(mod(v, 10) + 10, 10))"},
		{"bucket(0.025)", "numeric", abi.ClassNumeric, func() string { return sign() + digits(14) + "." + digits(30) }, "trim_scale(v - mod(mod(v, 0.025) + 0.025, 0.025))"},
		{"bucket(0.00001)", "numeric", abi.ClassNumeric, func() string { return sign() + digits(12) + "." + digits(9) }, "trim_scale(v - mod(mod(v, 0.00001) + 0.00001, 0.00001))"},
		{"bucket(12345)", "numeric", abi.ClassNumeric, numeric, "trim_scale(v - mod(mod(v, 12345) + 12345, 12345))"},
		{"bucket(8)", "float8", abi.ClassFloat8, func() string { return sign() + digits(15) + "." + digits(9) }, "floor(v / 8) * 8 + 0"},
		{"bucket(8)", "float4", abi.ClassFloat4, func() string { return sign() + digits(6) + "." + digits(3) }, "(floor(v / 8) * 8 + 0)::float4"},
		{`trunc("year")`, "date", abi.ClassDate, date, "date_trunc('year', v::timestamp)::date"},
		{`trunc("month")`, "date", abi.ClassDate, date, "date_trunc('month', v::timestamp)::date"},
		{`trunc("year")`, "timestamp", abi.ClassTimestamp, date, "date_trunc('year', v)"},
		{`trunc("month")`, "timestamp", abi.ClassTimestamp, date, "date_trunc('month', v)"},
		{`trunc("day")`, "timestamp", abi.ClassTimestamp, date, "date_trunc('day', v)"},
		{`trunc("hour")`, "timestamp", abi.ClassTimestamp, date, "date_trunc('hour', v)"},
		{`trunc("year")`, "timestamptz", abi.ClassTimestampTZ, date, "date_trunc('year', v, 'UTC')"},
		{`trunc("month")`, "timestamptz", abi.ClassTimestampTZ, date, "date_trunc('month', v, 'UTC')"},
		{`trunc("day")`, "timestamptz", abi.ClassTimestampTZ, date, "date_trunc('day', v, 'UTC')"},
		{`trunc("hour")`, "timestamptz", abi.ClassTimestampTZ, date, "date_trunc('hour', v, 'UTC')"},
		{"keep(2, 3)", "text", abi.ClassText, text, "case when length(rtrim(v)) <= 5 or substr(rtrim(v), 3, length(rtrim(v)) - 5) ~ '^ *$' then '***' else left(rtrim(v), 2) || '***' || right(rtrim(v), 3) end"},
		{`keep_from("@")`, "text", abi.ClassText, text, "'***' || coalesce(substring(rtrim(v) from '^.*[^ ].*(@[^@]*)$'), '')"},
	} {
		r, err := ParseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		var values []string
		for range 300 {
			values = append(values, c.value())
		}
		values = quoted(values...)
		want := conn.ExecParams(context.Background(), "select ("+c.same+")::text from (select v::"+c.typ+" v, n from unnest($1::text[]) with ordinality as u(v, n)) u order by n",
			[][]byte{[]byte("{" + strings.Join(values, ",") + "}")}, nil, nil, nil).Read()
		if want.Err != nil {
			t.Fatal(c.typ, want.Err)
		}
		nulls := 0
		for _, bin := range []bool{false, true} {
			got := read(t, conn, c.typ, all(r, c.class, cells(t, conn, c.typ, values, bin), bin), bin)
			for i := range values {
				same := string(want.Rows[i][0])
				if strings.Contains(got[i], ".") { // it shows as many decimals as the width has
					got[i] = strings.TrimRight(strings.TrimRight(got[i], "0"), ".")
				}
				if got[i] == none {
					nulls++
				} else if got[i] != same {
					t.Errorf("%s of %s %s is %s (binary: %v), the server says %s", r, c.typ, values[i], got[i], bin, same)
				}
			}
		}
		if nulls > len(values)/4 {
			t.Errorf("%s of %s is NULL for %d of %d values", r, c.typ, nulls/2, len(values))
		}
	}
}

// TestPM35SettingsOfText: a text that comes in another style, encoding or
// number of digits than is expected is never shown.
func TestPM35SettingsOfText(t *testing.T) {
	for _, style := range []string{"German", "SQL, DMY", "SQL, MDY", "Postgres, DMY", "Postgres, MDY"} {
		conn := connect(t, "datestyle to '"+style+"'")
		for _, k := range kept {
			if k.class != abi.ClassDate && k.class != abi.ClassTimestamp && k.class != abi.ClassTimestampTZ {
				continue
			}
			text := cells(t, conn, k.typ, k.values, false)
			for _, r := range rules(k.class) {
				if r.Kind != abi.MaskTruncDate {
					continue
				}
				for i, got := range all(r, k.class, text, false) {
					if text[i] != nil && got != nil {
						t.Errorf("%s: %s of %s %q is %q", style, r, k.typ, text[i], got)
					}
				}
			}
		}
	}
	shown := func(conn *pgconn.PgConn, typ string, c abi.Class, r Rule, values ...string) {
		t.Helper()
		text := cells(t, conn, typ, quoted(values...), false)
		for i, got := range all(r, c, text, false) {
			if got != nil {
				t.Errorf("%s of %s %q is %q", r, typ, text[i], got)
			}
		}
	}
	shown(connect(t, "bytea_output to escape"), "bytea", abi.ClassBytea, Rule{Kind: abi.MaskHash}, "", "abc", `\x00`, `\x5c7830304646`, `\x5c5c`)
	latin := connect(t, "client_encoding to latin1")
	for _, r := range []Rule{{Kind: abi.MaskKeep, Arg: "1,1"}, {Kind: abi.MaskKeep, Arg: "from:x"}, {Kind: abi.MaskTokenize}} {
		shown(latin, "text", abi.ClassText, r, "gr\xf6\xdfer", "ax\xe4\xf6\xfc")
	}
	conn := connect(t, "extra_float_digits to -15")
	for _, typ := range []string{"float4", "float8"} {
		values := []string{"123.456", "-0.001", "1e30", "-9.99e5"}
		read(t, conn, typ, all(Rule{Kind: abi.MaskBucket, Arg: "10"}, map[string]abi.Class{"float4": abi.ClassFloat4, "float8": abi.ClassFloat8}[typ], cells(t, conn, typ, values, false), false), false)
	}
}
