package sql_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// twins are tables whose columns are all called the same and are numbers, so
// that most texts are valid, and one that is resolved to the wrong table is
// judged by the wrong list. granted says what the task, and the role that
// stands for it, may do.
const twins = `CREATE TABLE p (id int PRIMARY KEY, a int, b int, c int, d int); CREATE TABLE q (LIKE p INCLUDING ALL); CREATE TABLE r (LIKE p INCLUDING ALL);
	CREATE TABLE kid () INHERITS (q); CREATE VIEW v AS SELECT id, a AS c, c AS a FROM p; CREATE TABLE part (id int, a int, b int, c int, d int) PARTITION BY LIST (id);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1, 2); CREATE TABLE part_2 PARTITION OF part DEFAULT; CREATE TABLE a (id int, p int, x int, d int);
	INSERT INTO p SELECT i, i, i % 2, 7, -i FROM generate_series(1, 5) i; INSERT INTO q SELECT id + 1, b, a, d, c FROM p; INSERT INTO r TABLE q; INSERT INTO kid SELECT 9, 1, 2, 3, 4;
	INSERT INTO part TABLE p; INSERT INTO a SELECT id, a, b, c FROM p;`

var granted = map[string]map[string][]string{
	"p": {"select": {"id", "a"}, "update": {"b"}, "insert": {"id", "a", "b"}},
	"q": {"select": {"id", "b"}, "update": {"a", "b"}, "delete": nil},
	"r": {"select": {"id", "c", "d"}, "insert": {"id", "c"}, "update": {"c", "d"}}, "part": {"select": {"a", "id", "b"}, "update": {"id"}, "insert": {"id", "a"}},
	"v": {"select": {"id", "a"}}, "kid": {"select": {"id", "c"}}, "a": {"select": {"id", "x"}, "insert": {"id", "x"}},
}

var twinColumns = []string{"id", "a", "b", "c", "d"}

// generator makes texts over the twins that are mostly valid.
type generator struct {
	*rand.Rand
	major int
	nice  bool // mostly what the task lists

	may  map[string]map[string][]string // what it lists: by table and verb the columns; nil is granted
	more []string                       // further tables, with the columns of the twins
}

func (g generator) lists(table string) map[string][]string {
	if g.may != nil {
		return g.may[table]
	}
	return granted[table]
}

// src is what a FROM has brought into reach.
type src struct {
	alias   string
	columns []string
	listed  []string // of them, those that the task lists
}

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) odds(n int) bool { return g.IntN(n) == 0 }

func (g generator) name() string { return pick(g, "p", "q", "r", "x", "y", "z", "a", "b", "v") }

// named gives an element of FROM an alias, and mostly other names to some of
// its columns.
func (g generator) named(alias string, cols, listed []string) (string, src) {
	if !g.odds(3) || len(cols) == 0 {
		return alias, src{alias, cols, listed}
	}
	out, used, list, ok := append([]string(nil), cols...), map[string]bool{}, []string{}, []string{}
	for i := range 1 + g.IntN(len(cols)) {
		name := pick(g, "a", "b", "c", "d", "x", "p", "id")
		if used[name] && !g.odds(8) {
			name += fmt.Sprint(i)
		}
		used[name] = true
		out[i] = name
		list = append(list, name)
	}
	for i, c := range cols {
		if slices.Contains(listed, c) {
			ok = append(ok, out[i])
		}
	}
	return alias + " (" + strings.Join(list, ", ") + ")", src{alias, out, ok}
}

func (g generator) table() (string, []string, []string) {
	t := pick(g, append(g.more, "p", "q", "r", "p", "q", "r", "v", "kid", "part", "a")...)
	cols := map[string][]string{"v": {"id", "c", "a"}, "a": {"id", "p", "x", "d"}}[t]
	if cols == nil {
		cols = twinColumns
	}
	return pick(g, "", "", "only ", "public.") + t, cols, g.lists(t)["select"]
}

// from gives one element of a FROM clause. near is what LATERAL can see.
func (g generator) from(depth int, ctes, outer, near []src) (string, []src) {
	alias := g.name()
	switch k := g.IntN(14); {
	case k == 0 && depth > 0:
		lateral, see := "", outer
		if g.odds(2) {
			lateral, see = "lateral ", near
		}
		text, cols := g.query(depth-1, ctes, see)
		al, s := g.named(alias, cols, cols)
		return lateral + "(" + text + ") " + pick(g, "", "as ") + al, []src{s}
	case k <= 2 && depth > 0:
		return g.join(depth, ctes, outer, near)
	case k == 3:
		al, s := g.named(alias, []string{alias}, []string{alias})
		return fmt.Sprintf(pick(g, "generate_series(1, %s) ", "unnest(array[1, %s]) "), g.expr(0, ctes, near)) + al, []src{s}
	case k == 4:
		al, s := g.named(alias, []string{"column1", "column2"}, []string{"column1", "column2"})
		return "(values (1, " + g.expr(0, ctes, outer) + ")) " + al, []src{s}
	case k <= 6 && len(ctes) > 0:
		c := pick(g, ctes...)
		if g.odds(2) {
			return c.alias, []src{c}
		}
		al, s := g.named(alias, c.columns, c.listed)
		return c.alias + " " + al, []src{s}
	}
	t, cols, listed := g.table()
	if g.odds(3) && !strings.HasPrefix(t, "only ") {
		return t, []src{{strings.TrimPrefix(t, "public."), cols, listed}}
	}
	al, s := g.named(alias, cols, listed)
	return t + pick(g, " ", " as ") + al, []src{s}
}

func with(x []src, y ...src) []src { return append(append([]src(nil), x...), y...) }

func (g generator) join(depth int, ctes, outer, near []src) (string, []src) {
	left, ls := g.from(depth-1, ctes, outer, near)
	right, rs := g.from(depth-1, ctes, outer, with(near, ls...))
	both := with(ls, rs...)
	kind := pick(g, "join", "left join", "right join", "full join", "inner join")
	text := left + " " + kind + " " + right
	var all, listed, shared []string
	for _, s := range both {
		all, listed = append(all, s.columns...), append(listed, s.listed...)
	}
	for _, c := range ls[len(ls)-1].listed {
		if slices.Contains(rs[len(rs)-1].listed, c) || !g.nice && slices.Contains(rs[len(rs)-1].columns, c) {
			shared = append(shared, c)
		}
	}
	using := ""
	switch k := g.IntN(6); {
	case k <= 2 && len(shared) > 0:
		using = pick(g, shared...)
		text += " using (" + using + ")"
		if g.major >= 14 && g.odds(3) {
			text += " as j"
			both = with(both, src{"j", []string{using}, []string{using}})
		}
	case k == 3 && !g.nice:
		text = left + " natural " + kind + " " + right
	case k == 4:
		text = left + " cross join " + right
	default:
		text += " on " + g.cond(0, ctes, with(outer, both...))
	}
	if g.odds(3) {
		if using != "" { // it comes first, and once
			all = append([]string{using}, slices.DeleteFunc(all, func(c string) bool { return c == using })...)
		}
		al, s := g.named(g.name(), all, listed)
		return "(" + text + ") " + al, []src{s}
	}
	return text, both
}

func (g generator) column(srcs []src) string {
	if len(srcs) == 0 && !g.odds(20) {
		return "1"
	}
	if len(srcs) == 0 || g.odds(60) {
		return pick(g, "id", "a", "b", "c", "d", "x", "p", "1", "2", "3", "ctid::text::int")
	}
	s := srcs[len(srcs)-1-g.IntN(min(len(srcs), 1+g.IntN(3)))]
	list := s.columns
	if g.nice && !g.odds(30) {
		list = s.listed
	}
	if len(list) == 0 {
		return "1"
	}
	c := pick(g, list...)
	if g.odds(10) {
		return c
	}
	return s.alias + "." + c
}

func (g generator) expr(depth int, ctes, srcs []src) string {
	if depth <= 0 {
		return pick(g, g.column(srcs), g.column(srcs), g.column(srcs), g.column(srcs), "1")
	}
	e := func() string { return g.expr(depth-1, ctes, srcs) }
	switch g.IntN(26) {
	case 0:
		return "coalesce(" + e() + ", " + e() + ")"
	case 1:
		return "(case when " + g.cond(depth-1, ctes, srcs) + " then " + e() + " else 0 end)"
	case 2, 3:
		text, _ := g.scalar(depth-1, ctes, srcs)
		return "(" + text + ")"
	case 4:
		if len(srcs) > 0 && (!g.nice || g.odds(10)) {
			s := pick(g, srcs...)
			return pick(g, "(to_jsonb("+s.alias+") ->> 'a')::int", "length("+s.alias+"::text)", "num_nulls("+s.alias+".*)", "length(row("+s.alias+".*)::text)", "count("+s.alias+") over ()")
		}
	case 5:
		return "(" + e() + " + " + e() + ")"
	case 6:
		return "(array[" + e() + ", " + e() + "])[" + pick(g, "1", e()) + "]"
	case 7:
		return "sum(" + e() + ") over (partition by " + e() + " order by " + e() + ")"
	case 8:
		return "abs(" + e() + ")"
	case 9:
		return "nullif(" + e() + ", " + e() + ")::int"
	case 10:
		return "pg_catalog.abs(" + e() + ") OPERATOR(pg_catalog.+) " + e()
	}
	return g.column(srcs)
}

// scalar is a query of one column and at most one row.
func (g generator) scalar(depth int, ctes, outer []src) (string, []string) {
	from, srcs := g.from(depth, ctes, outer, outer)
	in := with(outer, srcs...)
	text := "select " + g.expr(depth, ctes, in) + " from " + from
	if g.odds(2) {
		text += " where " + g.cond(depth, ctes, in)
	}
	switch g.IntN(4) {
	case 0:
		text += " order by " + g.expr(0, ctes, in)
	case 1:
		text = "(" + text + ") order by " + pick(g, "1", g.expr(0, ctes, in), g.column(in))
	}
	return text + " limit 1", nil
}

func (g generator) cond(depth int, ctes, srcs []src) string {
	e := func() string { return g.expr(depth-1, ctes, srcs) }
	switch g.IntN(8) {
	case 0:
		text, _ := g.scalar(depth-1, ctes, srcs)
		return e() + pick(g, " in (", " = any (", " not in (", " >= all (") + text + ")"
	case 1:
		from, in := g.from(depth-1, ctes, srcs, srcs)
		return "exists (select from " + from + " where " + g.cond(0, ctes, with(srcs, in...)) + ")"
	case 2:
		return e() + " is null"
	case 3:
		return "(" + e() + ", 1) = (" + e() + ", " + e() + ")"
	case 4:
		return e() + " between " + e() + " and " + e()
	case 5:
		return "true"
	}
	return e() + pick(g, " = ", " < ", " <> ") + e()
}

// query gives a text and what its columns are called.
func (g generator) query(depth int, ctes, outer []src) (string, []string) {
	head := ""
	if g.odds(5) && depth > 0 {
		name := pick(g, "p", "q", "w", "a", "v")
		text, cols := g.query(depth-1, ctes, outer)
		al, s := g.named(name, cols, cols)
		head = "with " + pick(g, "", "", "recursive ") + al + " as " + pick(g, "", "", "materialized ") + "(" + text + ") "
		ctes = with(ctes, s)
	}
	if g.odds(14) && !g.nice {
		t, cols, _ := g.table()
		return head + "table " + t + pick(g, "", " order by "+pick(g, cols...), " limit 1"), cols
	}
	from, srcs := g.from(depth, ctes, outer, outer)
	if g.odds(3) && depth > 0 {
		more, ms := g.from(depth-1, ctes, outer, with(outer, srcs...))
		from += ", " + more
		srcs = append(srcs, ms...)
	}
	in := with(outer, srcs...)
	var list, cols []string
	for range 1 + g.IntN(3) {
		switch s := pick(g, srcs...); {
		case g.odds(8) && (!g.nice || g.odds(8) || len(s.listed) == len(s.columns)):
			list, cols = append(list, s.alias+".*"), append(cols, s.columns...)
		case g.odds(8) && !g.nice:
			list = append(list, "*")
			for _, s := range srcs {
				cols = append(cols, s.columns...)
			}
		default:
			e := g.expr(depth, ctes, in)
			if _, c, ok := strings.Cut(e, "."); ok && g.odds(2) && len(c) <= 2 {
				list, cols = append(list, e), append(cols, c)
				continue
			}
			name := pick(g, "a", "b", "c", "d", "x", "p", "id")
			list, cols = append(list, e+" as "+name), append(cols, name)
		}
	}
	text := "select " + pick(g, "", "", "", "", "", "", "distinct ") + strings.Join(list, ", ") + " from " + from
	if g.odds(2) {
		text += " where " + g.cond(depth, ctes, in)
	}
	grouped := g.odds(7)
	if grouped {
		by := g.column(in)
		k := pick(g, "a", "b", "c", "d", "x")
		text = "select " + pick(g, "count(*)", "max("+g.column(in)+")", "sum("+g.column(in)+") filter (where "+g.cond(0, ctes, in)+")",
			"percentile_disc(0.5) within group (order by "+g.column(in)+")", "array_length(array_agg("+g.column(in)+" order by "+g.column(in)+"), 1)", by) + " as " + k +
			" from " + from + pick(g, " group by "+by, " group by 1", " group by "+k, " group by rollup ("+by+")", " group by grouping sets ((), ("+by+"))", " group by "+by+" having "+g.cond(0, ctes, in))
		cols = []string{k}
	}
	ended := false
	end := func(t string) string {
		if ended {
			return t
		}
		ended = true
		switch g.IntN(9) {
		case 0:
			return t + " order by " + pick(g, "1", g.column(in), g.expr(0, ctes, in), pick(g, append(cols, "1")...))
		case 1:
			s, _ := g.scalar(0, ctes, outer)
			return t + " limit " + pick(g, "1", "("+s+")")
		case 2:
			if !grouped && !strings.HasPrefix(t, "(") {
				return t + " for update" + pick(g, "", " of "+pick(g, srcs...).alias)
			}
		}
		ended = false
		return t
	}
	switch g.IntN(9) {
	case 0:
		text = end("(" + text + ")")
	case 1:
		if n := len(cols); n > 0 {
			text += pick(g, " union all ", " union ", " except ", " intersect ") + "select " + strings.TrimSuffix(strings.Repeat(g.one()+", ", n), ", ")
		}
	case 2:
		return head + "select " + pick(g, "*", "z.*", "1", "z") + " from (" + end(text) + ") z", cols
	case 3:
		if head == "" {
			return end("(" + end(text) + ")"), cols
		}
	case 4:
		text = "select distinct on (" + g.column(in) + ") " + strings.Join(list, ", ") + " from " + from
		return head + text, cols
	default:
		text = end(text)
	}
	return head + text, cols
}

func (g generator) one() string { return pick(g, "1", "null", "2") }

func (g generator) statement() string {
	g.nice = !g.odds(4)
	head := ""
	var ctes []src
	if g.odds(4) {
		name := pick(g, "w", "p", "q")
		text, cols := g.query(1, nil, nil)
		if g.odds(3) {
			text, cols = g.change(nil, g.major >= 17)+" returning id as a, 1 as b", []string{"a", "b"}
		}
		al, s := g.named(name, cols, cols)
		head = "with " + al + " as (" + text + ") "
		ctes = []src{s}
	}
	switch g.IntN(10) {
	case 0, 1, 2:
		text := g.change(ctes, true)
		if g.major >= 17 || !strings.HasPrefix(text, "merge") {
			text += pick(g, "", "", " returning *", " returning 1", " returning id, a")
		}
		return pick(g, "", "", "", "explain ") + head + text
	case 3:
		text, _ := g.query(1, ctes, nil)
		return "explain " + text
	}
	text, _ := g.query(pick(g, 1, 1, 2), ctes, nil)
	if strings.HasPrefix(text, "with ") {
		return text
	}
	return head + text
}

// change is a command that changes rows, with room for a RETURNING.
func (g generator) change(ctes []src, merge bool) string {
	t := pick(g, "p", "q", "r", "part")
	alias := pick(g, t, t, "x", "z")
	as := ""
	if alias != t {
		as = " as " + alias
	}
	can := g.lists(t)
	in := []src{{alias, twinColumns, can["select"]}}
	targets := twinColumns
	if g.nice && len(can["update"]) > 0 {
		targets = can["update"]
	}
	set := func(in []src) string { return pick(g, targets...) + " = " + g.expr(1, ctes, in) }
	f, s := g.from(1, ctes, nil, nil)
	if s[0].alias == alias {
		f, s = "(select 1 as a, 2 as id) y", []src{{"y", []string{"a", "id"}, []string{"a", "id"}}}
	}
	all := with(in, s...)
	kinds := 3
	if merge {
		kinds = 4
	}
	switch g.IntN(kinds) {
	case 0:
		cols := pick(g, []string{"id", "a"}, []string{"id", "c"}, []string{"id", "a", "b"}, twinColumns)
		if g.nice && len(can["insert"]) > 0 {
			cols = can["insert"]
		}
		values := []string{}
		for range cols {
			values = append(values, fmt.Sprint(100+g.IntN(10)))
		}
		from := " values (" + strings.Join(values, ", ") + ")"
		if g.odds(2) {
			for i := range values {
				values[i] = g.expr(1, ctes, s)
			}
			from = " select " + strings.Join(values, ", ") + " from " + f + pick(g, "", " where "+g.cond(1, ctes, s))
		}
		return "insert into " + t + as + " (" + strings.Join(cols, ", ") + ")" + from + pick(g, "", "", " on conflict do nothing", " on conflict (id) do nothing", " on conflict on constraint "+t+"_pkey do nothing",
			" on conflict (id) do update set "+set(with(in, src{"excluded", twinColumns, twinColumns}))+pick(g, "", " where "+g.cond(0, ctes, in)))
	case 1:
		if g.odds(2) {
			return "update " + pick(g, "", "only ") + t + as + " set " + set(all) + " from " + f + " where " + g.cond(1, ctes, all)
		}
		return "update " + t + as + " set " + pick(g, set(in), "("+strings.Join(targets, ", ")+") = (select "+strings.Repeat(g.expr(0, ctes, in)+", ", len(targets)-1)+"1)") + pick(g, "", " where "+g.cond(1, ctes, in))
	case 2:
		if g.odds(2) {
			return "delete from " + t + as + " using " + f + " where " + g.cond(1, ctes, all)
		}
		return "delete from " + t + as + pick(g, "", " where "+g.cond(1, ctes, in))
	}
	if len(s) > 1 {
		f, s = "(select 1 as a, 2 as id) y", []src{{"y", []string{"a", "id"}, []string{"a", "id"}}}
		all = with(in, s...)
	}
	text := "merge into " + pick(g, "", "only ") + t + as + " using " + f + " on " + g.cond(0, ctes, all)
	return text + pick(g, " when matched and "+g.cond(0, ctes, all)+" then update set "+set(all), " when matched then delete", " when matched then do nothing", "") +
		pick(g, " when not matched then insert (id, a) values ("+g.expr(0, ctes, s)+", 1)", " when not matched then insert values ("+s[0].alias+".*)", " when not matched then do nothing")
}
