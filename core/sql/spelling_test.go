package sql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// reading is a server that says in its own words what it has read.
type reading struct{ conn *pgconn.PgConn }

func reads(t *testing.T, database string) reading {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), server.URL("postgres", database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return reading{conn.PgConn()}
}

// of gives the tree of a text as the server has it, with every name's schema. It
// runs nothing.
func (r reading) of(text string) (string, error) {
	ctx := context.Background()
	out, err := r.conn.Exec(ctx, "begin; create function pg_temp.f() returns void language sql begin atomic "+text+"\n; end; set local search_path = ''; select pg_catalog.pg_get_function_sqlbody('pg_temp.f'::pg_catalog.regproc); rollback").ReadAll()
	if err != nil {
		_, _ = r.conn.Exec(ctx, "rollback").ReadAll()
		return "", err
	}
	return string(out[3].Rows[0][0]), nil
}

// space is what may stand between two tokens.
func (g generator) space() string {
	return " " + pick(g, "", "", "", "\n", "\t", "\f", "\r\n", "/* a /* b */ ' */", "--'\"\n", "--x\r", "/**/ ")
}

var folded = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// text spells a string constant in one of the ways that there are.
func (g generator) text(s string) string {
	plain := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	switch g.IntN(6) {
	case 0:
		var b strings.Builder
		for _, r := range s {
			switch {
			case r == '\'' || r == '\\':
				b.WriteString("\\" + string(r))
			case r > 0xffff:
				fmt.Fprintf(&b, "\\U%08x", r)
			case g.odds(2):
				fmt.Fprintf(&b, "\\u%04x", r)
			case r < 0x80:
				fmt.Fprintf(&b, pick(g, "\\x%02X", "\\%03o"), r)
			default:
				b.WriteRune(r)
			}
		}
		return pick(g, "E'", "e'") + b.String() + "'"
	case 1:
		var b strings.Builder
		for _, r := range s {
			switch {
			case r == '!' || r == '\'':
				b.WriteString(string(r) + string(r))
			case g.odds(2):
				fmt.Fprintf(&b, "!+%06x", r)
			default:
				b.WriteRune(r)
			}
		}
		return pick(g, "U&'", "u&'") + b.String() + "'" + g.space() + "UESCAPE" + g.space() + "'!'"
	case 2:
		if tag := pick(g, "$$", "$a$", "$_é1$"); !strings.Contains(s+"$", tag) && !strings.HasSuffix(s, "$") {
			return tag + s + tag
		}
	case 3:
		if at := strings.IndexByte(s, ' '); at > 0 {
			return "'" + strings.ReplaceAll(s[:at], "'", "''") + "'" + pick(g, "\n", " --x\n ", "\r\t") + "'" + strings.ReplaceAll(s[at:], "'", "''") + "'"
		}
	}
	return plain
}

// spell writes a text in other letters, of which the server makes the same.
func (g generator) spell(t *testing.T, c *sql.Context, text string) string {
	t.Helper()
	tokens, err := c.Grammar.Lex(text)
	if err != nil {
		t.Fatal(text, err)
	}
	var b strings.Builder
	for _, tok := range tokens {
		raw := text[tok.Start:tok.End]
		b.WriteString(g.space())
		switch name := c.Grammar.Names[tok.Kind]; {
		case name == "IDENT" && folded.MatchString(tok.Value):
			forms := []string{`"` + tok.Value + `"`, fmt.Sprintf(`U&"\%04x%s"`, tok.Value[0], tok.Value[1:])}
			if raw[0]|0x20 == tok.Value[0] { // it may be a keyword else
				forms = append(forms, tok.Value, strings.ToUpper(tok.Value))
			}
			b.WriteString(pick(g, forms...))
		case name == "SCONST":
			b.WriteString(g.text(tok.Value))
		case name == "NCHAR": // N'…' is two
			b.WriteString(pick(g, "nchar", "NCHAR"))
		case name == "ICONST" && g.major >= 16 && !strings.ContainsAny(raw, "_xXoObB"):
			var n int
			_, _ = fmt.Sscan(raw, &n)
			b.WriteString(pick(g, raw, fmt.Sprintf("0x%X", n), fmt.Sprintf("0b_%b", n), fmt.Sprintf("0O%o", n)))
		case folded.MatchString(strings.ToLower(raw)) && name != "IDENT": // a keyword
			b.WriteString(pick(g, strings.ToUpper(raw), strings.ToLower(raw), strings.ToUpper(raw[:1])+raw[1:]))
		default:
			b.WriteString(raw)
		}
	}
	return b.String() + g.space()
}

// TestPS02SpellingsAtTheServer: however a text is spelled, what is forwarded is
// one text, and of that the server makes what it makes of the client's own.
func TestPS02SpellingsAtTheServer(t *testing.T) {
	c := database(t, "spelled", twins)
	r := reads(t, "spelled")
	g := generator{Rand: rand.New(rand.NewPCG(11, 3)), major: pgtest.Major()}
	texts := []string{"select 'it''s' || e'\\n' as x, b'01', x'1F', n'y', 1.5e3, .5, 5., date '2026-01-31', interval '1' day, 'a'::bpchar, cast('x y z' as varchar(3)), '{1,2}'::int[], '😀 é \\ $$ !'",
		"select p.a -1, a- -1, - - a, a!=1, a<>-1, @ a, a %2, a>=-1, a is not distinct from 1, not a in (1, 2), a not between 1 and 2, 'x' not like 'y%' escape '!', 'a' similar to 'b', ('x') collate \"C\" from p", "select a::text, (a)::int::text, array[a][1], (array[a])[1:2], array[[1],[2]], row(a, b), (a, b) = (1, 2), a at time zone 'utc' from (select now() as a, 1 as b) x",
		"select extract(year from now()), substring('abc' from 2 for 1), position('a' in 'b'), trim(both 'x' from 'y'), overlay('abc' placing 'x' from 1), coalesce(a, 1), nullif(a, 1), greatest(a, 2), case a when 1 then 2 else 3 end from p", "select count(*) filter (where a > 1) over (partition by b order by a desc nulls last rows between 1 preceding and current row) from p window w as (order by a)",
		"select * from p natural join q left join r using (id) where p.id in (select id from r union all select 1 except select 2) order by 1 using < limit 3 offset 1", "select * from p order by a fetch first 2 rows with ties", "with recursive x(n) as (values (1) union all select n + 1 from x where n < 3) select * from x", "select * from generate_series(1, 2) with ordinality as z(a, b), lateral (select z.a) y, rows from (unnest(array[1]), unnest(array[2])) u",
		"insert into p (id, a) values (1, default), (2, 3) on conflict (id) where id > 0 do update set a = excluded.a + p.a returning *", "insert into p as z (id, a) values (1, 2) on conflict (abs(z.a), (z.id + 1) int4_ops) where z.a > 1 do nothing", "update only p as z set (a, b) = (select 1, 2), c = default from q where z.id = q.id", "delete from p using q where p.id = q.id returning p.*, q.a as x", "merge into p using q on p.id = q.id when matched and q.a > 1 then update set a = 1 when not matched then insert (id) values (q.id)",
		"select a from p tablesample system (10) repeatable (1) group by grouping sets ((a), ()) having count(*) > 1 for update of p nowait", "values (1, 'a'), (2, null)", "table p", `select "select"."from" as "A""b", "from" "ünï" from (select 1 as "from") "select"`}
	for i, n := 0, len(texts); i < n; i++ {
		texts = append(texts, texts[i], texts[i])
	}
	for range 250 {
		texts = append(texts, strings.TrimPrefix(g.statement(), "explain "))
	}
	held := 0
	for _, text := range texts {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			continue
		}
		want, err := r.of(text)
		if err != nil {
			continue // names, types or forms that the server refuses
		}
		other := g.spell(t, c, text)
		for name, spelled := range map[string]string{"spelled": other, "forwarded": a.Statement.Canonical} {
			if got, err := r.of(spelled); err != nil || got != want {
				t.Errorf("%s: %s\n%q\n%v\n%s\ninstead of\n%s", name, text, spelled, err, got, want)
			}
		}
		if b, err := sql.Analyze(c, other); err != nil {
			t.Errorf("%q: %v", other, err)
		} else if unspelled(b.Statement.Canonical) != unspelled(a.Statement.Canonical) {
			t.Errorf("%q\n%s\ninstead of\n%s", other, b.Statement.Canonical, a.Statement.Canonical)
		}
		held++
	}
	if held < 150 {
		t.Errorf("of %d texts only %d say anything", len(texts), held)
	}
	t.Log(held, "texts, each in three spellings")
}

var number = regexp.MustCompile(`\b0(x[0-9A-F]+|b_[01]+|O[0-7]+)\b`)

// unspelled leaves out what is forwarded as the client wrote it: keywords' case
// and the form of numbers.
func unspelled(canonical string) string {
	return strings.ToLower(number.ReplaceAllStringFunc(canonical, func(s string) string {
		var n int
		if _, err := fmt.Sscan(s, &n); err != nil {
			return s
		}
		return fmt.Sprint(n)
	}))
}

// TestPS02ValuesAtTheServer: constants and names made at random have the value
// here that they have there, or are refused on both sides.
func TestPS02ValuesAtTheServer(t *testing.T) {
	c := loaded(t)
	r := reads(t, "shop")
	g := generator{Rand: rand.New(rand.NewPCG(4, 2)), major: pgtest.Major()}
	pieces := []string{"a", "B", " ", "'", "''", "\\", "\\\\", `"`, `""`, "\\'", "\\n", "\\x41", "\\x4", "\\101", "\\0", "\\400", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\U0001F600", "\\0061", "\\+01f600", "\\+110000", "!0061", "é", "😀", "$", "$$", "$a$", "\n", "'\n'", "' --x\n'", "'\r'", "' '", "--", "/*", "*/", "0", "1", "f", "_", "\t", "\v"}
	numbers := []string{"0", "1", "7", "9", "_", ".", "e", "E", "+", "-", "x", "X", "0x", "b", "0b", "o", "0o", "f", "a", "99999999999999999999"}
	open := []string{"'", "E'", "e'", "U&'", "u&'", "N'", "B'", "X'", "$$", "$a$", `"`, `U&"`}
	some := func(list []string, most int) (s string) {
		for range g.IntN(most) {
			s += pick(g, list...)
		}
		return s
	}
	both, neither := 0, 0
	for range 1200 {
		text, name := "", false
		if g.odds(4) {
			text = pick(g, "0", "1", "12", ".", "0x", "0b", "0o") + some(numbers, 4)
		} else {
			o := pick(g, open...)
			text = o + some(pieces, 6)
			name = strings.HasSuffix(o, `"`)
			if close := o; strings.HasPrefix(o, "$") {
				text += close
			} else {
				text += o[len(o)-1:]
			}
			if g.odds(6) {
				text += " UESCAPE " + pick(g, "'!'", "'a'", "'+'", "'\\'", "'''", "'xx'")
			}
		}
		statement := "select " + text
		if name {
			statement = "select 1 as " + text
		}
		a, ours := sql.Analyze(c, statement)
		results, theirs := r.conn.Exec(context.Background(), statement).ReadAll()
		var e *pgconn.PgError
		if theirs != nil && !errors.As(theirs, &e) {
			t.Fatal(theirs)
		}
		switch {
		case theirs != nil && ours != nil:
			neither++
			continue
		case theirs != nil: // what is no fault of the lexer: a value that is too large, a name that is none
			if again, err := r.conn.Exec(context.Background(), a.Statement.Canonical).ReadAll(); err == nil {
				t.Errorf("%q: the server says %v, and gives %q for what would be forwarded: %s", statement, theirs, again[0].Rows, a.Statement.Canonical)
			}
			continue
		case ours != nil:
			t.Errorf("%q is refused: %v", statement, ours)
			continue
		}
		both++
		if a.Statement.Incomplete != "" || len(results) != 1 {
			continue // more than one statement, or a form that is not understood
		}
		again, err := r.conn.Exec(context.Background(), a.Statement.Canonical).ReadAll()
		if err != nil || !sameAnswer(again[0], results[0]) {
			t.Errorf("%q forwarded as %s: %v", statement, a.Statement.Canonical, err)
		}
		tokens, err := c.Grammar.Lex(text)
		if err != nil || len(tokens) != 1 {
			continue
		}
		switch value := tokens[0].Value; {
		case name && value != results[0].FieldDescriptions[0].Name:
			t.Errorf("%q is read as %q, and the server says %q", text, value, results[0].FieldDescriptions[0].Name)
		case !name && c.Grammar.Names[tokens[0].Kind] == "SCONST" && value != string(results[0].Rows[0][0]):
			t.Errorf("%q is read as %q, and the server says %q", text, value, results[0].Rows[0][0])
		}
	}
	if both < 200 || neither < 100 {
		t.Errorf("too few say anything: %d are read by both, %d by neither", both, neither)
	}
	t.Log(both, "read by both,", neither, "refused by both")
}

// sameAnswer says whether two answers have the same names, types and cells.
func sameAnswer(a, b *pgconn.Result) bool {
	return slices.EqualFunc(a.Rows, b.Rows, func(x, y [][]byte) bool {
		return slices.EqualFunc(x, y, func(p, q []byte) bool { return string(p) == string(q) })
	}) &&
		slices.EqualFunc(a.FieldDescriptions, b.FieldDescriptions, func(x, y pgconn.FieldDescription) bool {
			return x.Name == y.Name && x.DataTypeOID == y.DataTypeOID
		})
}

// TestPS02Positions: a number that stands for a column of the result does so in
// every form that the server reads.
func TestPS02Positions(t *testing.T) {
	c := newest(t, loaded(t))
	want := "select public.orders(status, id)"
	for _, n := range []string{"2", "02", "0x2", "0X02", "0b10", "0o_2", "0_2"} {
		for _, text := range []string{"select id, status from orders order by " + n, "select distinct on (" + n + ") id, status from orders"} {
			a, err := sql.Analyze(c, text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if got := a.Statement.Operations[0].String(); got != want {
				t.Errorf("%s: %s", text, got)
			}
			for _, o := range a.Statement.Operations {
				for _, col := range o.Columns {
					if col.Name == "status" && col.Use&^abi.UseCopied == 0 {
						t.Errorf("%s: the column is said to be shown alone", text)
					}
				}
			}
		}
	}
	if a, err := sql.Analyze(c, "prepare p as select $1::int; execute p(0x1F)"); err != nil || string(a.Parts[1].Args[0].Value) != "31" {
		t.Errorf("%+v %v", a, err)
	}
}

// newest reads with the grammar of 18, whatever the server.
func newest(t *testing.T, c *sql.Context) *sql.Context {
	t.Helper()
	later := *c
	var err error
	if later.Grammar, err = parse.ForServer(18); err != nil {
		t.Fatal(err)
	}
	return &later
}
