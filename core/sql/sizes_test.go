package sql_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/taskgate/taskgate/core/sql"
)

// each writes a list of that many elements, in which %d stands for the number.
func each(n int, element, between string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(strings.ReplaceAll(element, "%d", fmt.Sprint(i+1)))
	}
	return b.String()
}

// sizes are texts that are large or deep, and whether they are judged: what is
// not is refused by a bound on its tokens, its depth or the work of reading it.
var sizes = []struct {
	name, text string
	judged     bool
}{
	{"1 MB of brackets", "select " + strings.Repeat("(", 1<<20-10), false},
	{"100,000 operands", "select id" + strings.Repeat("+id", 99_990) + " from orders", false},
	{"4000 operands", "select id" + strings.Repeat("+id", 4000) + " from orders", true},
	{"100,000 signs", "select 1 " + strings.Repeat("+", 100_000) + " 1", false},
	{"a AND b, 33,000 times", "select 1 from orders where id = 1" + strings.Repeat(" and id = 1", 33_000), false},
	{"a AND b, 4000 times", "select 1 from orders where id = 1" + strings.Repeat(" and id = 1", 4000), true},
	{"a OR b, 4000 times", "select 1 from orders where id = 1" + strings.Repeat(" or id = 1", 4000), true},
	{"IN of 50,000 constants", "select 1 from orders where id in (" + each(50_000, "%d", ",") + ")", true},
	{"IN of 50,000 parameters", "select 1 from orders where id in (" + each(50_000, "$%d", ",") + ")", true},
	{"ARRAY of 50,000 constants", "select id from orders where id = any (array[" + each(50_000, "%d", ",") + "])", true},
	{"INSERT of 20,000 rows", "insert into items (order_id, sku) values " + each(20_000, "(%d, 'x')", ","), true},
	{"VALUES of 65,535 parameters", "values " + each(65_535, "($%d::text)", ", "), true},
	{"a list of 65,535 parameters", "select coalesce(" + each(65_535, "$%d::text", ",") + ")", true},
	{"IN of 150,000 constants", "select 1 from orders where id in (" + each(150_000, "%d", ",") + ")", true},
	{"INSERT of 60,000 rows", "insert into items (order_id, sku) values " + each(60_000, "(%d,'x')", ","), true},
	{"400,000 brackets", "select " + strings.Repeat("(", 399_990), false},
	{"199,000 brackets that close", "select " + strings.Repeat("(", 199_000) + "1" + strings.Repeat(")", 199_000), false},
	{"130,000 casts in a row", "select 1" + strings.Repeat("::int", 130_000), false},
	{"130,000 statements", strings.Repeat("begin;", 130_000), false},
	{"100,000 parameters", "select coalesce(" + each(100_000, "$%d", ",") + ")", false},
	{"30,000 calls", "select coalesce(" + each(30_000, "abs(id)", ",") + ") from orders", false},
	{"600 calls within calls", "select " + strings.Repeat("abs(", 600) + "id" + strings.Repeat(")", 600) + " from orders", true},
	{"10,000 CTEs", "with " + each(10_000, "a%d as (select 1)", ",") + " select 1", false},
	{"2000 CTEs, each of the one before", "with a0 as (select id from orders)" + each(2000, ", b%d as (select id from a0)", "") + " select 1 from b2000", true},
	{"10,000 columns", "select " + each(10_000, "id", ",") + " from orders", false},
	{"1600 columns", "select " + each(1600, "id as c%d", ",") + " from orders", true},
	{"UNION of 10,000", "select id from orders" + strings.Repeat(" union select id from orders", 9999), false},
	{"10,000 CASE within CASE", "select " + strings.Repeat("case when true then ", 10_000) + "1" + strings.Repeat(" end", 10_000), false},
	{"800 CASE within CASE", "select " + strings.Repeat("case when id = 1 then ", 800) + "1" + strings.Repeat(" end", 800) + " from orders", true},
	{"a string of 1 MB", "select '" + strings.Repeat("x", 1<<20-20) + "'", true},
	{"a string of 500,000 quotes", "select '" + strings.Repeat("''", 1<<19-20) + "'", true},
	{"100,000 pieces of a string", "select 'a'" + strings.Repeat("\n'a'", 100_000), true},
	{"60,000 strings", "select array[" + each(60_000, "'%d'", ",") + "]", true},
	{"100,000 statements", strings.Repeat("select 1;", 100_000), false},
	{"names of 60 KB", `select "` + strings.Repeat("x", 60_000) + `" from "` + strings.Repeat("y", 60_000) + `"`, false},
	{"900 joins", "select 1 from orders o" + each(900, " join orders o%d on o%d.id = o.id", ""), false},
	{"300 subqueries within subqueries", "select 1 from " + strings.Repeat("(select * from ", 300) + "orders" + strings.Repeat(") x", 300), true},
	{"500,000 comments that open", strings.Repeat("/*", 500_000), false},
}

// TestSizes: what is large or deep is judged or refused within 100 MB, by a
// bound and not by a clock.
func TestSizes(t *testing.T) {
	c := loaded(t)
	for _, k := range sizes {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a, err := sql.Analyze(c, k.text)
		runtime.ReadMemStats(&after)
		var e *sql.Error
		if judged := err == nil && a.Statement.Incomplete == ""; judged != k.judged || err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %v", k.name, err)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 100 {
			t.Errorf("%s: %d MB", k.name, mb)
		}
	}
}

// TestSize: what a remembered text is taken to need is what it keeps, within
// twice and half of it.
func TestSize(t *testing.T) {
	c := loaded(t)
	live := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, k := range sizes {
		if !k.judged || len(k.text) < 20_000 {
			continue
		}
		const each = 8
		before := live()
		kept := make([]*sql.Analysis, each)
		for i := range kept {
			kept[i], _ = sql.Analyze(c, k.text+strings.Repeat(" ", i+1))
		}
		heap, size := (live()-before)/each, kept[0].Size()
		runtime.KeepAlive(kept)
		if heap > 2*size || size > 2*heap {
			t.Errorf("%s: keeps %d KB, counted are %d KB", k.name, heap>>10, size>>10)
		}
	}
}

// TestInnerText: what a PREPARE gives a name to does not keep the text around it.
func TestInnerText(t *testing.T) {
	a, err := sql.Analyze(loaded(t), "prepare s as select 1 /* "+strings.Repeat("x", 1000)+" */")
	if err != nil {
		t.Fatal(err)
	}
	in, out := a.Parts[0].Inner.Statement.Text, a.Statement.Text
	if at := strings.Index(out, in); unsafe.StringData(in) == unsafe.StringData(out[at:]) {
		t.Error("it is a part of it")
	}
}

// BenchmarkSizes gives docs/perf/analysis.md its second table.
func BenchmarkSizes(b *testing.B) {
	c := loaded(b)
	for _, k := range sizes {
		b.Run(strings.ReplaceAll(k.name, " ", "_"), func(b *testing.B) {
			cpu(b, func() { _, _ = sql.Analyze(c, k.text) })
		})
	}
}
