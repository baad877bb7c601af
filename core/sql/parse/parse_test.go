package parse

import (
	"errors"
	"strings"
	"testing"
)

func grammar(t testing.TB, major int) *Grammar {
	t.Helper()
	g, err := ForServer(major)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Accepted and refused by both majors, unless the row says since which.
var texts = []struct {
	sql   string
	since int // first major that accepts it; 0 none
}{
	{"", 15}, {";;;", 15}, {"-- only a comment", 15}, {"/* a /* nested */ comment */", 15}, {"/* open /* ", 0}, // PS20, PS01
	{"SELECT 1", 15}, {"SELECT 1;", 15}, {"SELECT", 15}, {"SELCT 1", 0}, {"SELECT 1 +", 0},
	{"SELECT id, e.email AS x FROM public.customers e WHERE id = $1 AND NOT id IN (2,3) ORDER BY id NULLS FIRST", 15},
	{"WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", 15},
	{"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", 15},
	{"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE RETURNING *", 17},
	{"SELECT * FROM JSON_TABLE(j, '$[*]' COLUMNS (a int)) x", 17},
	{"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE RETURNING merge_action(), t.*", 17}, {"SELECT * FROM json_table('[]', '$[*]' COLUMNS (a int)) x", 17},
	{"INSERT INTO t VALUES (1) RETURNING WITH (OLD AS o) o.a", 18},
	{"SELECT 0x1F", 16}, {"SELECT 1_000", 16}, {"SELECT 123abc", 0}, {"SELECT 1e5$1", 0}, {"SELECT 1.e", 0}, {"SELECT a[1..2]", 0},
	{"SELECT\v1", 17}, {"SELECT 1 @-1, 2*-3", 15},
	{"SELECT U&'d\\0061t\\+000061', U&\"d!0061\" UESCAPE '!'", 15}, {"SELECT U&'\\00zz'", 0},
	{"SELECT N'x', B'01', X'1F', E'a\\'b', $$it's$$, $q$ $$ $q$", 15}, {"SELECT $q$ open $$", 0}, {"SELECT 'open", 0}, // PS02
	{"SELECT 'a'\n'b'", 15}, {"SELECT 'a' 'b'", 0}, {"SELECT \"\"", 0}, {"SELECT 1\x00", 0}, {"SELECT '\xff'", 0}, // PS17
	{"COMMIT; DROP TABLE orders", 15}, {"SELECT has_table_privilege('t','delete') AS delete", 15}, // PS21, PS13
	{"SET TIME ZONE 'UTC'", 15}, {"SELECT a::timestamp WITH TIME ZONE", 15}, {"\\d", 0},
}

func TestPS15Texts(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		g := grammar(t, major)
		for _, c := range texts {
			_, err := g.Parse(c.sql)
			if want := c.since != 0 && c.since <= major; (err == nil) != want {
				t.Errorf("%d: %q: %v, want accepted %v", major, c.sql, err, want)
			}
		}
	}
}

func TestPS02Literals(t *testing.T) {
	g := grammar(t, 18)
	long := strings.Repeat("é", 40)
	for sql, want := range map[string]string{
		"'it''s'":                           "it's",
		`E'a\tb\x41\101\u00e9\\\q'`:         "a\tbAAé\\q",
		`E'\ud83d\ude00'`:                   "😀",
		"'a' -- comment\n 'b'":              "ab",
		"'a\\'":                             "a\\",
		`U&'\0061\+01F600\\'`:               "a😀\\",
		`U&'d!0061!!' UESCAPE '!'`:          "da!",
		"$x$a$$b$x$":                        "a$$b",
		`"A""b"`:                            `A"b`,
		"ABC":                               "abc",
		"ÄBC":                               "Äbc",
		long:                                strings.Repeat("é", 31),
		`"` + strings.Repeat("x", 70) + `"`: strings.Repeat("x", 63),
	} {
		toks, err := g.Lex(sql)
		if err != nil || len(toks) != 1 || toks[0].Value != want {
			t.Errorf("%s: %+v %v, want %q", sql, toks, err, want)
		}
	}
}

func TestPS32Position(t *testing.T) {
	g := grammar(t, 15)
	_, err := g.Parse("SELECT 1; SELCT 2")
	var e *SyntaxError
	if !errors.As(err, &e) || e.Offset != 10 || e.Near != "SELCT" {
		t.Errorf("%#v", err)
	}
}

func TestPS16Bombs(t *testing.T) {
	g := grammar(t, 18)
	for name, sql := range map[string]string{
		"brackets":       "SELECT " + strings.Repeat("(", 1<<20-10),
		"deep brackets":  "SELECT " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000),
		"operands":       "SELECT 1" + strings.Repeat("+1", 100000),
		"columns":        "SELECT 1" + strings.Repeat(",1", 50000),
		"signs":          "SELECT 1 " + strings.Repeat("+", 150000) + " 1",
		"too many bytes": strings.Repeat(" ", MaxBytes+1),
	} {
		if _, err := g.Parse(sql); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A program writes long lists of values: they are not nested, and the nodes for
// them are as many as their parts.
func TestPS16LongLists(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		g := grammar(t, major)
		for name, sql := range map[string]string{
			"IN":         "SELECT 1 IN (1" + strings.Repeat(",1", 50000) + ")",
			"parameters": "SELECT 1 IN ($1" + strings.Repeat(",$2", 50000) + ")",
			"ARRAY":      "SELECT ARRAY[1" + strings.Repeat(",1", 50000) + "]",
			"rows":       "INSERT INTO t VALUES (1)" + strings.Repeat(",(1)", 40000),
		} {
			tree, err := g.Parse(sql)
			if err != nil {
				t.Errorf("%d: %s: %v", major, name, err)
			} else if len(tree.Nodes) > 10*len(tree.Tokens) {
				t.Errorf("%d: %s: %d nodes", major, name, len(tree.Nodes))
			}
		}
		deep := "1"
		for range 1000 {
			deep = "ARRAY[1, " + deep + "]"
		}
		if _, err := g.Parse("SELECT " + deep + "," + strings.Repeat("(", 3000) + "1" + strings.Repeat(")", 3000)); err == nil {
			t.Errorf("%d: lists within lists have no bound", major)
		}
	}
}

// An operator ends where the manual says, whatever stands around it; a long run
// of signs is read once.
func TestPS15Operators(t *testing.T) {
	for _, major := range []int{15, 18} {
		g := grammar(t, major)
		for sql, want := range map[string]string{"1+-2": "1 + - 2", "1*-2": "1 * - 2", "1@-2": "1 @- 2", "1=+-+2": "1 = + - + 2", "1+*+2": "1 +* + 2", "1@+-/*x*/2": "1 @+- 2",
			"1+--x": "1 +", "1+-*/*x*/-2": "1 +-* - 2", "1<=-1": "1 <= - 1", "1!=-1": "1 !=- 1", "1<>-1": "1 <> - 1", "1=>-1": "1 => - 1", "1-+!2": "1 -+! 2", "1++2+-@-3": "1 + + 2 +-@- 3"} {
			toks, err := g.Lex(sql)
			got := make([]string, len(toks))
			for i := range toks {
				got[i] = toks[i].Value
			}
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%d: %s: %q %v, want %s", major, sql, got, err, want)
			}
		}
	}
}

// The children of each node stand in order and fill its span.
func TestTreeSpans(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		for _, c := range texts {
			tree, err := grammar(t, major).Parse(c.sql)
			if err != nil {
				continue
			}
			for i, n := range tree.Nodes[1:] {
				at := n.From
				for k := n.First; k != 0; k = tree.Nodes[k].Next {
					if tree.Nodes[k].From != at {
						t.Fatalf("%q: node %d has a gap at token %d", c.sql, i+1, at)
					}
					at = tree.Nodes[k].To
				}
				if n.First != 0 && at != n.To {
					t.Fatalf("%q: node %d ends at %d, its children at %d", c.sql, i+1, n.To, at)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range texts {
		f.Add(c.sql)
	}
	g15, g18 := grammar(f, 15), grammar(f, 18)
	f.Fuzz(func(t *testing.T, sql string) {
		g15.Parse(sql)
		g18.Parse(sql)
	})
}

func BenchmarkParse(b *testing.B) {
	g := grammar(b, 15)
	for name, sql := range map[string]string{"1": "SELECT 1", "oltp": texts[10].sql} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Parse(sql); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A bit string has no quote in it: two of them are its end and the beginning
// of another string. Taken for one in it, they would be forwarded as an end.
func TestPS02BitStrings(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		g := grammar(t, major)
		for sql, want := range map[string]int{"B'01'": 1, "x'1f'": 1, "B'0'\n'1'": 1, "B'1'';drop table t;--'": 2, "X'1''; --'": 2, "B'1''": 0} {
			toks, err := g.Lex(sql)
			if want == 0 {
				if err == nil {
					t.Errorf("%d: %s is read as %+v", major, sql, toks)
				}
				continue
			}
			if err != nil || len(toks) != want || strings.Contains(toks[0].Value, "'") {
				t.Errorf("%d: %s: %+v %v", major, sql, toks, err)
			}
		}
	}
}
