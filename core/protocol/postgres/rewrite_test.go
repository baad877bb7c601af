package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/core/sql"
)

// cover is a mask of its own: what it puts in place of a cell, by column; a
// column that it has nothing for is clean.
type cover map[int]func(cell []byte, null, binary bool) ([]byte, bool)

type cells struct {
	n int
	cover
}

func (c cells) Columns() int      { return c.n }
func (c cells) Masked(i int) bool { return c.cover[i] != nil }
func (c cells) Append(dst, cell []byte, i int, null, binary bool) ([]byte, bool) {
	out, null := c.cover[i](cell, null, binary)
	return append(dst, out...), null
}

func stars(n int) func([]byte, bool, bool) ([]byte, bool) {
	return func(_ []byte, null, _ bool) ([]byte, bool) { return bytes.Repeat([]byte("*"), n), null }
}

func row(cells ...[]byte) []byte { return encode(&pgproto3.DataRow{Values: cells}) }

// TestPM06PM26Rewrite: cells grow, shrink, stay NULL or become it, and all that
// is not masked is what it was, byte for byte.
func TestPM06PM26Rewrite(t *testing.T) {
	c := cells{4, cover{1: stars(9), 3: func(cell []byte, null, _ bool) ([]byte, bool) { return nil, !null }}}
	run := join(row([]byte("a"), []byte("secret"), nil, nil), row(nil, nil, nil, []byte("x")), row([]byte{}, []byte{}, []byte("z"), []byte("longer than that")))
	want := join(row([]byte("a"), []byte("*********"), nil, []byte{}), row(nil, nil, nil, nil), row([]byte{}, []byte("*********"), []byte("z"), nil))
	var d dataRows
	got, err := d.Rewrite([]byte("before"), run, c)
	if err != nil || string(got) != "before"+string(want) {
		t.Errorf("%v\n got %q\nwant %q", err, got, want)
	}
	// Formats: none, one for all, one a column; another number ends the session.
	for formats, want := range map[string]string{"": "tt", "\x00\x00": "tt", "\x00\x01": "bb", "\x00\x00\x00\x00\x00\x00\x00\x01": "tb", "\x00\x01\x00\x01\x00\x01": "", "\x00\x00\x00\x01\x00\x00\x00\x00": "bt"} {
		said := ""
		tell := func(_ []byte, _, binary bool) ([]byte, bool) {
			said += map[bool]string{false: "t", true: "b"}[binary]
			return nil, true
		}
		d := dataRows{formats: []byte(formats)}
		if _, err := d.Rewrite(nil, row(nil, nil, nil, nil), cells{4, cover{1: tell, 3: tell}}); said != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s %v", formats, said, err)
		}
	}
	// A thousand random rows, masked by columns at random, against what pgproto3 reads.
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := r.IntN(6)
		if seed%50 == 0 {
			n = 1600
		}
		c := cells{n, cover{}}
		for i := range n {
			if r.IntN(2) == 0 {
				c.cover[i] = stars(r.IntN(5))
			}
		}
		var run, want []byte
		for range r.IntN(8) {
			in, out := make([][]byte, n), make([][]byte, n)
			for i := range n {
				if r.IntN(4) > 0 {
					in[i] = bytes.Repeat([]byte{byte('a' + i%26)}, r.IntN(6))
				}
				if out[i] = in[i]; c.cover[i] != nil && in[i] != nil {
					out[i], _ = c.cover[i](nil, false, false)
					out[i] = append([]byte{}, out[i]...)
				}
			}
			run, want = append(run, row(in...)...), append(want, row(out...)...)
		}
		var d dataRows
		if got, err := d.Rewrite(nil, run, c); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %v\n got %q\nwant %q", seed, err, got, want)
		}
	}
}

// TestRewriteMalformed: a row that is not what it says is an error, wherever it
// is cut or changed, and never a panic.
func TestRewriteMalformed(t *testing.T) {
	c := cells{3, cover{0: stars(3), 2: stars(1)}}
	good := row([]byte("abc"), []byte("de"), nil)
	for name, bad := range map[string][]byte{
		"columns": row([]byte("a")), "more": row(nil, nil, nil, nil), "another message": frame('d', good[5:]),
		"longer": frame('D', append(slices.Clone(good[5:]), 0)), "cell": frame('D', []byte("\x00\x03\x00\x00\x00\x09a")),
		"negative": frame('D', []byte("\x00\x03\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff")), "nothing": frame('D', nil),
	} {
		var d dataRows
		if _, err := d.Rewrite(nil, join(good, bad), c); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	for i := 1; i < len(good); i++ {
		var d dataRows
		cut := slices.Clone(good[:i])
		if _, err := d.Rewrite(nil, cut, c); err == nil {
			t.Errorf("cut at %d", i)
		}
		if i >= 5 {
			binary.BigEndian.PutUint32(cut[1:], uint32(i-1))
			if _, err := d.Rewrite(nil, cut, c); err == nil {
				t.Errorf("cut at %d, and says so", i)
			}
		}
	}
}

func data(lines ...string) (b []byte) {
	for _, l := range lines {
		b = append(b, frame('d', []byte(l))...)
	}
	return b
}

// TestPM05PM06CopyRewrite: rows of COPY in every format.
func TestPM05PM06CopyRewrite(t *testing.T) {
	text := sql.CopyFormat{Format: formatText, Delimiter: '\t', Null: `\N`}
	csv := sql.CopyFormat{Format: formatCSV, Delimiter: ',', Quote: '"', Escape: '"'}
	odd := sql.CopyFormat{Format: formatCSV, Delimiter: ';', Quote: '\'', Escape: '\\', Null: "NULL", ForceQuote: []bool{false, true, false}}
	for name, c := range map[string]struct {
		how      sql.CopyFormat
		in, want string
		seen     string // the masked cell, as the mask gets it; "NULL" for that
		gives    string
	}{
		"text":              {text, "a\tb\tc\n", "a\t*\tc\n", "b", "*"},
		"text, escapes in":  {text, "a\\tb\t\\b\\f\\n\\r\\t\\v\\\\\\q\tc\\\\\n", "a\\tb\tx\tc\\\\\n", "\b\f\n\r\t\v\\q", "x"},
		"text, escapes out": {text, "a\tb\tc\n", "a\t\\b\\f\\n\\r\\t\\v\\\\N\tc\n", "b", "\b\f\n\r\t\v\\N"},
		"text, NULL":        {text, "a\t\\N\tc\n", "a\t\\N\tc\n", "NULL", "NULL"},
		"text, like NULL":   {text, "a\t\\\\N\tc\n", "a\t\\N\tc\n", "\\N", "NULL"},
		"text, empty":       {text, "\t\t\n", "\t*\t\n", "", "*"},
		"csv":               {csv, "a,b,c\n", "a,*,c\n", "b", "*"},
		"csv, quoted":       {csv, "\"a,\"\"\",\"b\n\"\",\",\"c\nd\"\n", "\"a,\"\"\",*,\"c\nd\"\n", "b\n\",", "*"},
		"csv, needs quotes": {csv, "a,b,c\n", "a,\"\"\"x,\n\",c\n", "b", "\"x,\n"},
		"csv, NULL":         {csv, "a,,c\n", "a,,c\n", "NULL", "NULL"},
		"csv, empty":        {csv, "a,\"\",c\n", "a,\"\",c\n", "", ""},
		"csv, others":       {odd, "a;'b\\'\\\\;';c\n", "a;'\\'\\\\';c\n", "b'\\;", "'\\"},
		"csv, forced":       {odd, "a;'b';NULL\n", "a;'*';NULL\n", "b", "*"},
		"csv, other NULL":   {odd, "a;NULL;c\n", "a;'*';c\n", "NULL", "*"},
		"csv, not NULL":     {odd, "a;'NULL';c\n", "a;'NULL';c\n", "'NULL'", "'NULL'"},
	} {
		seen := ""
		r := copyRows{how: &c.how, began: true}
		got, err := r.Rewrite(nil, data(c.in), cells{3, cover{1: func(cell []byte, null, binary bool) ([]byte, bool) {
			if seen = string(cell); null {
				seen = "NULL"
			} else if seen == "NULL" {
				seen = "'NULL'"
			}
			return []byte(strings.Trim(c.gives, map[bool]string{true: "'"}[c.gives == "'NULL'"])), c.gives == "NULL"
		}}})
		if err != nil || string(got) != string(data(c.want)) || seen != c.seen {
			t.Errorf("%s: %v\n got %q\nwant %q, the mask saw %q", name, err, got, data(c.want), seen)
		}
		for i := range c.in { // cut short it has another number of cells, or none that ends
			r := copyRows{how: &c.how, began: true}
			if got, err := r.Rewrite(nil, data(c.in[:i]), cells{3, cover{1: stars(1)}}); err == nil {
				t.Errorf("%s: cut at %d: %q", name, i, got)
			}
		}
	}
	for _, bad := range []string{"a,b\n", "a,b,c,d\n", "a,\"b,c\n", "a,\"b\"x,c\n", "a,b\"b,c\n", "a,b\nb,c\n"} {
		r := copyRows{how: &csv, began: true}
		if got, err := r.Rewrite(nil, data(bad), cells{3, cover{1: stars(1)}}); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
	bin := copyRows{how: &sql.CopyFormat{Format: formatBinary}}
	head := signature + "\x00\x00\x00\x00\x00\x00\x00\x00"
	one := "\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bc"
	got, err := bin.Rewrite(nil, data(head+one), cells{2, cover{1: stars(3)}})
	if err != nil || string(got) != string(data(head+"\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x03***")) {
		t.Errorf("%q %v", got, err)
	}
	for name, bad := range map[string]string{"no header": one, "OIDs": signature + "\x00\x01\x00\x00\x00\x00\x00\x00" + one, "an extension": signature + "\x00\x00\x00\x00\x00\x00\x00\x01x" + one, "columns": head + "\x00\x01\xff\xff\xff\xff", "short": head + one[:9], "long": head + one + "x"} {
		if got, err := bin.Rewrite(nil, data(bad), cells{2, cover{1: stars(3)}}); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestPM26NoAllocations: nothing is allocated per row, whatever the format.
func TestPM26NoAllocations(t *testing.T) {
	for name, b := range rewrites() {
		dst := make([]byte, 0, 1<<20)
		if n := testing.AllocsPerRun(10, func() { dst = b(dst[:0]) }); n > 1 {
			t.Errorf("%s: %.0f allocations for 1000 rows", name, n)
		}
	}
}

func rewrites() map[string]func([]byte) []byte {
	var rows, text, csv []byte
	for i := range 1000 {
		rows = append(rows, row(fmt.Append(nil, i), []byte("4111-0000-0000-1234"), []byte("Grace Hopper"), nil)...)
		text = append(text, data(fmt.Sprintf("%d\t4111-0000\\t0000-1234\tGrace Hopper\t\\N\n", i))...)
		csv = append(csv, data(fmt.Sprintf("%d,\"4111,0000-0000-1234\",Grace Hopper,\n", i))...)
	}
	c := &cells{4, cover{1: func(cell []byte, null, _ bool) ([]byte, bool) { return cell[len(cell)/2:], false }}}
	d := &dataRows{}
	how := map[string]*copyRows{"copy text": {began: true, how: &sql.CopyFormat{Format: formatText, Delimiter: '\t', Null: `\N`}}, "copy csv": {began: true, how: &sql.CopyFormat{Format: formatCSV, Delimiter: ',', Quote: '"', Escape: '"'}}}
	must := func(b []byte, err error) []byte {
		if err != nil {
			panic(err)
		}
		return b
	}
	return map[string]func([]byte) []byte{
		"clean":     func(dst []byte) []byte { return append(dst, rows...) },
		"rows":      func(dst []byte) []byte { return must(d.Rewrite(dst, rows, c)) },
		"copy text": func(dst []byte) []byte { return must(how["copy text"].Rewrite(dst, text, c)) },
		"copy csv":  func(dst []byte) []byte { return must(how["copy csv"].Rewrite(dst, csv, c)) },
	}
}

// BenchmarkRewrite is a thousand rows of four columns, one of them masked,
// beside the copy that the clean path makes of them.
func BenchmarkRewrite(b *testing.B) {
	for name, f := range rewrites() {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				dst = f(dst[:0])
			}
		})
	}
}
