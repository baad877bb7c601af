// Package sqlgen makes random statements, by every way to send them, over a
// schema in which some of what is stored is protected.
package sqlgen

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strings"
)

//go:embed schema.sql
var schema string

//go:embed schema18.sql
var schema18 string

// Schema gives the text that makes the tables, empty, on a server of that major.
func Schema(major int) string {
	if major >= 18 {
		return schema + schema18
	}
	return schema
}

// Marker stands in each protected text that Fill writes: wherever it shows, a value
// does.
const Marker = "zqxj"

// Fill gives the text that empties the tables and fills them. What tasks list is
// the same for each own; protected values are own's, except for what their
// masks show: beginnings and ends, steps and months, and which are equal.
// How many rows stand in unlisted tables is own's as well.
func Fill(shared, own *rand.Rand, major int) string {
	var b strings.Builder
	// Not waiting for long keeps it out of deadlocks with whoever looks at the schema.
	b.WriteString("BEGIN; SET LOCAL lock_timeout = '100ms'; SET LOCAL session_replication_role = replica; TRUNCATE hidden, trail, guarded, log, people, keyed, grp, sales, base, derived, docs, made, papers, pinned, spot, perched, perch, vault, slots, ledger RESTART IDENTITY; ALTER SEQUENCE counter RESTART;\n")
	if major >= 18 {
		b.WriteString("TRUNCATE stays;\n")
	}
	row := func(table string, values ...string) {
		fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, strings.Join(values, ", "))
	}
	// known are values that texts name as well, so that a guess can be right.
	known := []string{"'x'", "'eu'", "'ann1'", "'12'", "'nick'"}
	// text is NULL, empty, short, long, or one of these.
	text := func() string {
		switch own.IntN(6) {
		case 0:
			return "NULL"
		case 1:
			return "''"
		case 2:
			return pick(own, known...)
		}
		return quote(Marker + letters(own, own.IntN(9)))
	}
	num := func(n int) string {
		if own.IntN(4) == 0 {
			return "NULL"
		}
		return fmt.Sprint(own.IntN(n))
	}
	// ends keeps two characters before and four behind, which keep(2, 4) shows.
	ends := func() string {
		if shared.IntN(3) == 0 { // all of it is hidden
			return pick(own, "NULL", "''", quote(letters(own, own.IntN(7))))
		}
		a, z := letters(shared, 2), letters(shared, 4)
		return quote(a + Marker + letters(own, own.IntN(9)) + z)
	}
	for i := 1; i <= 4; i++ {
		row("grp", fmt.Sprint(i), quote("group "+fmt.Sprint(i)), fmt.Sprint(10-i))
	}
	for i := 1; i <= 7; i++ { // few and short: all versions of a round have room on a page
		step, month := shared.IntN(4), shared.IntN(12)
		pay, score := fmt.Sprint(step*100+own.IntN(100)), fmt.Sprintf("%d.%02d", step*10+own.IntN(10), own.IntN(100))
		born, seen := fmt.Sprintf("'19%02d-%02d-%02d'", 70+i, month+1, 1+own.IntN(28)), fmt.Sprintf("'2024-%02d-11 10:%02d:%02d.%d+00'", month+1, own.IntN(60), own.IntN(60), own.IntN(1000))
		if step == 0 && own.IntN(2) == 0 { // NULL lies on step 0
			pay, score = "NULL", "NULL"
		}
		b.WriteString("INSERT INTO people (id, name, grp, mood, nick, age, joined, amount, tags, ssn, email, card, pay, born, seen, score, raw, uid, doc, note, extra) VALUES (")
		fmt.Fprintf(&b, "%d, %s, %s, '%s', %s, %s, '2021-03-%02d', %d.%02d, '{%s,b}', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);\n", i, quote(pick(shared, "ann", "bob", "cy", "dora")+fmt.Sprint(i)),
			pick(shared, "1", "2", "3", "NULL"), pick(shared, "low", "mid", "high"), pick(shared, "NULL", "'nick'", "'12'", "''"), pick(shared, "NULL", "7", "18", "40", "99"), i, shared.IntN(50), shared.IntN(100), letters(shared, 2),
			text(), text(), ends(), pay, born, seen, score, pick(own, "NULL", `'\x00ff'`, `'\x'`, `'\xdeadbeef01'`), pick(own, "NULL", "gen_random_uuid()"),
			pick(own, "NULL", `'{}'`, `'{"a": 1, "`+Marker+`": [1, 2]}'`), text(), num(100))
	}
	b.WriteString("SELECT setval(pg_get_serial_sequence('people', 'id'), 20);\n")
	// Equal where equal is shown: five values over eight rows.
	hs, tok := make([]string, 5), make([]string, 5)
	for i := range hs {
		if hs[i] = quote(fmt.Sprint(i) + Marker + letters(own, own.IntN(30))); own.IntN(3) == 0 {
			hs[i] = known[i]
		}
		tok[i] = quote(fmt.Sprintf("%c%c%c-%04d-%s", 'A'+own.IntN(26), 'a'+own.IntN(26), 'a'+own.IntN(26), own.IntN(2000)*5+i, letters(own, 3)))
	}
	for i := 1; i <= 8; i++ {
		at := shared.IntN(5)
		row("keyed", fmt.Sprint(i), fmt.Sprint(shared.IntN(3)), hs[at], tok[(at+i)%5], quote("k"+fmt.Sprint(i)))
	}
	for i := 1; i <= 6; i++ {
		fmt.Fprintf(&b, "INSERT INTO log (person, body, at) VALUES (%d, %s, %d);\n", 1+shared.IntN(7), pick(shared, "'one'", "'two'", "NULL"), i)
	}
	for i := 1; i <= 3+own.IntN(12); i++ {
		row("hidden", fmt.Sprint(i), text(), num(1000), fmt.Sprint(1+own.IntN(7)))
	}
	for i := 1; i <= 5; i++ {
		low := i*20 + own.IntN(5)
		row("guarded", fmt.Sprint(i), quote("label "+fmt.Sprint(i)), pick(own, known[i-1], quote(fmt.Sprint(i)+Marker+letters(own, own.IntN(9)))), num(9), fmt.Sprint(1+own.IntN(3)), pick(own, "NULL", fmt.Sprintf("'[%d,%d)'", low, low+1+own.IntN(9))), fmt.Sprint(shared.IntN(9)), pick(own, "NULL", quote(Marker)))
	}
	for i := 1; i <= 8; i++ {
		row("sales", fmt.Sprint(i), quote(pick(shared, "eu", "us", "asia")), fmt.Sprint(shared.IntN(100)), text(), num(50), text())
	}
	for i := 1; i <= 4; i++ {
		row("base", fmt.Sprint(i), quote(pick(shared, "x", "y")), ends(), text())
		row("derived", fmt.Sprint(i+10), quote(pick(shared, "x", "z")), ends(), text(), fmt.Sprint(shared.IntN(9)))
		row("docs", fmt.Sprint(i), quote(pick(shared, "app", "ann")), text(), fmt.Sprint(shared.IntN(5)))
		row("vault", fmt.Sprint(i), text(), text())
		fmt.Fprintf(&b, "INSERT INTO made (id, label, level, place, k, j, arr, spare) VALUES (%d, 'd%d', %d, %d, %s, %s, %s, %s);\n", i, i, i*10, i, pick(own, known[i-1], "NULL", quote(fmt.Sprint(i)+Marker+letters(own, own.IntN(5)))), pick(own, "NULL", text()), pick(own, "NULL", "'{}'", "'{"+Marker+",b}'"), pick(own, "NULL", text()))
		row("papers", fmt.Sprint(i), quote("paper "+fmt.Sprint(i)), text())
		row("spot", fmt.Sprint(i), quote("spot "+fmt.Sprint(i)))
		fmt.Fprintf(&b, "INSERT INTO ledger (label, secret) VALUES ('entry %d', %s);\n", i, text())
		row("perch", fmt.Sprint(i), quote("perch "+fmt.Sprint(i)))
		row("pinned", fmt.Sprint(i), pick(own, "NULL", fmt.Sprint(1+own.IntN(4))))
		row("perched", fmt.Sprint(i), fmt.Sprint(1+own.IntN(4)))
		if major >= 18 {
			row("stays", fmt.Sprintf("'[%d,%d]'", i, i), fmt.Sprintf("'[2024-0%d-01,2024-0%d-20)'", i, i), quote("room "+fmt.Sprint(i)), text())
		}
	}
	nulls, spread := own.IntN(10), 1+own.IntN(90)
	for i := 1; i <= 20; i++ {
		code := "NULL"
		if i > nulls {
			code = pick(own, append(known, quote(Marker+letters(own, 3)))...)
		}
		row("slots", fmt.Sprint(i), quote("slot "+fmt.Sprint(i)), code, fmt.Sprint(i%3*100+own.IntN(spread)))
	}
	b.WriteString("ANALYZE slots; REFRESH MATERIALIZED VIEW m_people; COMMIT")
	return b.String()
}

func quote(s string) string { return "'" + s + "'" }

func letters(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }
