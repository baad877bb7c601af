package sqlgen

import (
	"fmt"
	"slices"
	"strings"
)

func with(x []source, y ...source) []source { return append(slices.Clone(x), y...) }

func bare(list []column) []column {
	out := slices.Clone(list)
	for i := range out {
		out[i].generated = false
	}
	return out
}

// listed are the columns of a table that a statement may name: all, where the
// generator is wild.
func (g *Generator) listed(t *table) (list []column) {
	for _, c := range t.columns {
		if !c.closed() || g.wild && !g.odds(3) {
			list = append(list, c)
		}
	}
	return list
}

// shown are the columns that a FROM has of a table. To a task that is blind,
// those that are masked are like any other.
func (g *Generator) shown(t *table) []column {
	list := bare(g.listed(t))
	for i := range list {
		if g.blind && !list[i].closed() {
			list[i].mask = ""
		}
	}
	return list
}

func (g *Generator) table() *table {
	t := &tables[g.IntN(len(tables))]
	if g.odds(3) {
		t = &tables[0]
	}
	if t.probes || t.since > g.major || t.rare && !g.odds(4) || len(g.listed(t)) == 0 {
		return g.table()
	}
	g.touched = g.touched || t.protects()
	return t
}

// from gives one element of a FROM. near is what LATERAL can see.
func (g *Generator) from(depth int, outer, near []source) (string, []source) {
	alias := g.name()
	switch k := g.IntN(20); {
	case k <= 1 && depth > 0:
		lateral, see := "", outer
		if g.odds(2) {
			lateral, see = "LATERAL ", near
		}
		text, cols := g.query(depth-1, see)
		return lateral + "(" + text + ") AS " + g.renamed(alias, &cols), []source{{alias: alias, columns: cols}}
	case k <= 5 && depth > 0:
		return g.join(depth, outer, near)
	case k == 6:
		switch g.IntN(10) {
		case 4:
			return fmt.Sprintf("XMLTABLE('/r/v' PASSING xmlelement(name r, xmlelement(name v, %s)) COLUMNS n FOR ORDINALITY, x text PATH '.', d int PATH '@n' DEFAULT %s) AS %s", g.expr("text", 0, near), g.expr("int", 0, near), alias), []source{{alias: alias, columns: columns("n int\nx text\nd int")}}
		case 5:
			if g.major >= 17 {
				return fmt.Sprintf("JSON_TABLE(%s, '$.a[*]' PASSING %s AS v COLUMNS (n FOR ORDINALITY, i int PATH '$' DEFAULT 3 ON ERROR, NESTED PATH '$.b[*]' COLUMNS (x text PATH '$'))) AS %s", g.expr("jsonb", 0, near), g.expr("int", 0, near), alias), []source{{alias: alias, columns: columns("n int\ni int\nx text")}}
			}
			return fmt.Sprintf("jsonb_to_recordset(%s) AS %s(i int, x text)", g.expr("jsonb", 0, near), alias), []source{{alias: alias, columns: columns("i int\nx text")}}
		case 6:
			return fmt.Sprintf("unnest(%s, ARRAY[1, 2]) AS %s(x, i)", g.expr("text[]", 0, near), alias), []source{{alias: alias, columns: columns("x text\ni int")}}
		case 7:
			return fmt.Sprintf("json_array_elements_text(to_json(%s)) AS %s(x)", g.expr("text[]", 0, near), alias), []source{{alias: alias, columns: columns("x text")}}
		case 0:
			return fmt.Sprintf("unnest(%s) WITH ORDINALITY AS %s(x, n)", g.expr("text[]", 0, near), alias), []source{{alias: alias, columns: columns("x text\nn bigint")}}
		case 1:
			return fmt.Sprintf("regexp_split_to_table(%s, 'n') AS %s(x)", g.expr("text", 0, near), alias), []source{{alias: alias, columns: columns("x text")}}
		case 2:
			return fmt.Sprintf("jsonb_each_text(%s) AS %s(k, v)", g.expr("jsonb", 0, near), alias), []source{{alias: alias, columns: columns("k text\nv text")}}
		case 3:
			return fmt.Sprintf("ROWS FROM (generate_series(1, %s), unnest(ARRAY['p', 'q'])) AS %s(i, x)", g.pick("2", "3"), alias), []source{{alias: alias, columns: columns("i int\nx text")}}
		}
		return fmt.Sprintf("generate_series(1, %s %% 5) AS %s(i)", g.expr("int", 0, near), alias), []source{{alias: alias, columns: columns("i int")}}
	case k == 7:
		return fmt.Sprintf("(VALUES (%s, 'v'), (2, %s)) AS %s(i, x)", g.expr("int", 0, outer), g.expr("text", 0, outer), alias), []source{{alias: alias, columns: columns("i int\nx text")}}
	case k <= 10 && len(g.ctes) > 0:
		c := g.ctes[g.IntN(len(g.ctes))]
		return c.alias + " AS " + alias, []source{{alias: alias, columns: c.columns}}
	}
	if len(g.temps) > 0 && g.odds(8) {
		s := g.temps[g.IntN(len(g.temps))]
		return g.pick("", "", "pg_temp.") + s.alias + " AS " + alias, []source{{alias: alias, columns: s.columns, table: true}}
	}
	t := g.table()
	name := g.pick("", "", "", "public.") + t.name
	if !t.view && g.odds(8) {
		name = "ONLY " + name
	}
	cols := g.shown(t)
	if len(cols) == 0 {
		cols = bare(t.columns)
	}
	if g.odds(8) {
		return name, []source{{alias: t.name, columns: cols, table: true}}
	}
	if g.odds(8) && (g.blind || !slices.ContainsFunc(t.columns, column.closed)) {
		name += " AS " + g.renamed(alias, &cols)
	} else {
		name += g.pick(" ", " AS ") + alias
	}
	if !t.view && g.odds(25) && g.bares(t) {
		name += " TABLESAMPLE BERNOULLI (50) REPEATABLE (1)"
	}
	return name, []source{{alias: alias, columns: cols, table: true}}
}

// bares says whether a task has no veil before a table, or not to care.
func (g *Generator) bares(t *table) bool { return !g.blind || !t.protects() || g.odds(8) }

// renamed gives some of the columns other names.
func (g *Generator) renamed(alias string, cols *[]column) string {
	if len(*cols) == 0 || !g.odds(3) {
		return alias
	}
	*cols = slices.Clone(*cols)
	var names []string
	for i := range 1 + g.IntN(len(*cols)) {
		(*cols)[i].name = g.pick("ssn", "id", "name", "x", "y")
		if g.odds(2) || slices.Contains(names, (*cols)[i].name) {
			(*cols)[i].name = g.name()
		}
		names = append(names, (*cols)[i].name)
	}
	return alias + "(" + strings.Join(names, ", ") + ")"
}

func (g *Generator) join(depth int, outer, near []source) (string, []source) {
	left, ls := g.from(depth-1, outer, near)
	right, rs := g.from(depth-1, outer, with(near, ls...))
	both := with(ls, rs...)
	kind := g.pick("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
	switch g.IntN(8) {
	case 0:
		return left + " CROSS JOIN " + right, both
	case 1:
		return left + " NATURAL " + kind + " " + right, both
	case 2, 3:
		for _, c := range ls[0].columns {
			if i := slices.IndexFunc(rs[len(rs)-1].columns, func(d column) bool { return d.name == c.name && d.kind == c.kind }); i >= 0 && (!c.protected() || g.slip()) {
				text := fmt.Sprintf("%s %s %s USING (%s)", left, kind, right, c.name)
				if g.major >= 14 && g.odds(3) {
					j := g.name()
					return text + " AS " + j, append(both, source{alias: j, columns: []column{c}})
				}
				return text, both
			}
		}
	}
	on := g.condition(1, with(outer, both...))
	if g.odds(2) {
		on = fmt.Sprintf("%s = %s", g.expr("int", 0, ls), g.expr("int", 0, rs))
	}
	text := fmt.Sprintf("%s %s %s ON %s", left, kind, right, on)
	return text, both
}

// scalar is a query of one column and at most one row.
func (g *Generator) scalar(kind string, depth int, outer []source) string {
	from, s := g.from(depth, outer, outer)
	in := with(outer, s...)
	if g.odds(2) {
		in := s // of what is outside it would be the outer query's
		of := g.expr("int", depth, in)
		call := map[string][]string{"int": {"count(*)::int", "max(" + of + ")", "count(DISTINCT " + of + ")::int", "(min(" + of + ") FILTER (WHERE " + g.condition(0, in) + "))"}, "text": {"string_agg(" + g.expr("text", depth, in) + ", ',' ORDER BY " + of + ")", "max(" + g.expr("text", depth, in) + ")"},
			"bool": {"bool_or(" + g.condition(depth, in) + ")", "every(" + g.condition(0, in) + ")"}, "numeric": {"avg(" + of + ")", "sum(" + g.expr("numeric", depth, in) + ")", "percentile_cont(0.5) WITHIN GROUP (ORDER BY " + of + ")::numeric"},
			"jsonb": {"jsonb_agg(" + of + " ORDER BY 1)"}, "text[]": {"array_agg(" + g.expr("text", depth, in) + ")"}}[kind]
		if len(call) > 0 {
			return "SELECT " + g.pick(call...) + " FROM " + from + g.where(depth, with(outer, s...))
		}
	}
	text := "SELECT " + g.expr(kind, depth, in) + " FROM " + from + g.where(depth, in)
	if g.odds(2) {
		text += " ORDER BY " + g.sorted(in)
	}
	return text + " LIMIT 1"
}

// sorted is what rows can be sorted by: a bare number would be a column's.
func (g *Generator) sorted(in []source) string { return number(g.expr("int", 0, in)) }

func number(e string) string {
	if e[0] >= '0' && e[0] <= '9' || e[0] == '-' || e[0] == '$' {
		return "(" + e + " + 0)"
	}
	return e
}

// some is a query whose rows alone count.
func (g *Generator) some(depth int, outer []source) string {
	from, s := g.from(depth, outer, outer)
	return "SELECT " + g.pick("1", "", "*") + " FROM " + from + g.where(depth, with(outer, s...))
}

func (g *Generator) where(depth int, in []source) string {
	if g.odds(2) {
		return ""
	}
	return " WHERE " + g.condition(depth, in)
}

// query gives a text and its columns.
func (g *Generator) query(depth int, outer []source) (string, []column) {
	head := ""
	defer func(n int) { g.ctes = g.ctes[:n] }(len(g.ctes))
	if depth > 0 && g.odds(6) {
		head = g.with(depth, outer)
	}
	if g.odds(25) {
		t := g.table()
		for slices.ContainsFunc(t.columns, column.closed) && !g.wild && !g.blind {
			t = g.table()
		}
		return head + "TABLE " + t.name, g.shown(t)
	}
	if g.odds(30) {
		return head + fmt.Sprintf("VALUES (%s, %s), (%s, 'w')"+g.pick("", "", " ORDER BY 1, 2", " LIMIT 1"), g.expr("int", depth, outer), g.expr("text", depth, outer), g.expr("int", 0, outer)), columns("column1 int\ncolumn2 text")
	}
	from, s := g.from(depth, outer, outer)
	for depth > 0 && g.odds(4) && len(s) < 4 {
		more, ms := g.from(depth-1, outer, with(outer, s...))
		from, s = from+", "+more, with(s, ms...)
	}
	in := with(outer, s...)
	if g.odds(6) {
		return g.grouped(head, from, depth, in)
	}
	list, cols, pure := g.list(depth, s, in)
	kind, on := "", ""
	if g.odds(7) && (pure || g.slip()) {
		kind = "DISTINCT "
	} else if g.odds(12) {
		if on = g.sorted(in); g.odds(3) {
			on = g.expr("text", 0, in)
		}
		if c := g.copied(in).name; c != "" && g.slip() {
			on = c
		}
		if strings.ContainsAny(on[:1], "'$UN") { // a constant alone is refused to sort by
			on = "(" + on + " || '')"
		}
		kind = "DISTINCT ON (" + on + g.pick("", "", ", "+g.sorted(in)) + ") "
	}
	text := "SELECT " + kind + strings.Join(list, ", ") + " FROM " + from + g.where(depth, in)
	window := g.odds(14)
	if window {
		text = "SELECT " + strings.Join(list, ", ") + fmt.Sprintf(", %s OVER %s FROM %s WINDOW v AS (PARTITION BY %s), w AS (v ORDER BY %s%s)", g.windowed(in), g.pick("w", "w", "v"), from, g.expr("int", 0, in), g.expr("int", 0, in), g.frame())
		cols = append(cols, column{name: "w", kind: "bigint"})
	} else if g.odds(8) {
		more, ok := g.more(cols, pure)
		if ok {
			return head + text + more + g.pick("", " ORDER BY 1", " LIMIT 3"), cols
		}
	}
	if on != "" && !window && g.odds(2) {
		text += " ORDER BY " + on + g.pick("", " DESC NULLS LAST") + g.pick("", ", "+g.sorted(in)) + g.pick("", "", " LIMIT 3")
	}
	if kind == "" || kind == "DISTINCT " && !window {
		order := g.sorted(in)
		if kind != "" || g.odds(3) {
			order = "1"
		}
		ordered := g.odds(2) && (order != "1" || pure || g.slip())
		if ordered {
			text += " ORDER BY " + order + g.pick("", " DESC", " NULLS FIRST", " USING <", " ASC NULLS LAST")
		}
		switch g.IntN(12) {
		case 0:
			text += " LIMIT " + g.pick("3", "ALL", "(SELECT 2)", "1 + 1 OFFSET 1", "greatest(1, 2)", "(SELECT count(*) FROM grp)", g.constant("int"))
		case 1:
			text += " OFFSET 1 FETCH FIRST 2 ROWS " + map[bool]string{false: "ONLY", true: "WITH TIES"}[ordered && g.odds(2)]
		case 3:
			if c := g.copied(in).name; c != "" && g.slip() {
				text += g.pick(" LIMIT (SELECT length(", " OFFSET (SELECT length(") + c + "::text) % 3)"
			}
		case 2:
			if kind == "" && !window && (!g.blind || g.odds(8)) {
				text += " FOR " + g.pick("UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE") + g.pick("", "", " OF "+s[0].alias) + g.pick("", " SKIP LOCKED", " NOWAIT")
			}
		}
	}
	if g.odds(8) {
		return head + "SELECT " + g.pick("*", "z.*") + " FROM (" + text + ") AS z", cols
	}
	return head + text, cols
}

// list is what a query gives. pure says that nothing of it is protected.
func (g *Generator) list(depth int, s, in []source) (list []string, cols []column, pure bool) {
	pure = true
	add := func(c column, text string) {
		list, cols, pure = append(list, text), append(cols, c), pure && !c.protected()
	}
	for range 1 + g.IntN(4) {
		at := s[g.IntN(len(s))]
		switch k := g.IntN(12); {
		case k <= 3 && len(at.columns) > 0: // a copy, whatever it is of
			c := at.columns[g.IntN(len(at.columns))]
			text := at.alias + "." + c.name
			if g.odds(3) {
				c.name = g.pick("ssn", "name", "id", "secret", g.name())
				text += g.pick(" ", " AS ") + quoteName(c.name)
			}
			add(c, text)
		case k == 4 && g.star(at):
			for _, c := range at.columns {
				add(c, "")
			}
			list = append(list[:len(list)-len(at.columns)], at.alias+".*")
		case k == 5 && (!slices.ContainsFunc(at.columns, column.protected) || g.slip()) && at.alias != "":
			add(column{name: "r", kind: "text"}, g.pick(at.alias+"::text", "to_json("+at.alias+")::text", "to_jsonb("+at.alias+") ->> 'name'", "num_nulls("+at.alias+")::text")+" AS r")
		case k == 6 && at.table && g.odds(2) && (!g.blind || g.odds(8)):
			add(column{name: "ctid", kind: "tid"}, at.alias+".ctid")
		case k == 7 && depth > 0: // a copy through a subquery
			if c := g.copied(in); c.name != "" {
				add(column{name: "sub", kind: c.kind, mask: c.mask}, "(SELECT "+c.name+") AS sub")
			}
		case k == 8 && at.table && g.odds(2) && len(at.columns) > 0: // a field of a row
			c := at.columns[g.IntN(len(at.columns))]
			add(c, "("+at.alias+")."+c.name)
		case k == 9 && depth > 0 && g.slip(): // what is more than a copy
			c := g.copied(in)
			text, _ := g.query(depth-1, in)
			add(column{name: "more", kind: "text"}, g.pick("ARRAY(SELECT "+c.name+")", "ROW("+c.name+", 1)", "("+c.name+", 2) IS NULL", "num_nonnulls("+c.name+")", "octet_length("+c.name+"::text)", "EXISTS (SELECT "+c.name+" EXCEPT SELECT NULL)", "("+c.name+" IS NULL)", "unnest(ARRAY["+c.name+", NULL])",
				"("+c.name+" = ANY (SELECT "+c.name+"))", "json_build_array("+c.name+")", "CASE WHEN "+c.name+" IS NULL THEN 1 / 0 END", "ARRAY("+text+")", "count("+c.name+") OVER ()", "generate_series(1, length("+c.name+"::text))")+" AS more")
		case k == 10 && depth > 0 && !g.single:
			add(column{name: "over", kind: "bigint"}, fmt.Sprintf("%s OVER (PARTITION BY %s ORDER BY %s%s) AS over", g.windowed(in), g.expr("int", 0, in), g.expr("int", 0, in), g.frame()))
		default:
			kind := kinds[g.IntN(len(kinds))]
			name := g.pick("ssn", "x", "id", g.name())
			if slices.ContainsFunc(cols, func(c column) bool { return c.name == name }) {
				name = g.name()
			}
			add(column{name: name, kind: kind}, g.expr(kind, depth, in)+" AS "+name)
		}
	}
	if len(list) == 0 {
		add(column{name: "one", kind: "int"}, "1 AS one")
	}
	return list, cols, pure
}

// windowed is what can stand before OVER.
func (g *Generator) windowed(in []source) string {
	i, t := g.expr("int", 0, in), g.expr("text", 0, in)
	return g.pick("row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "ntile(2)", "lag("+i+")", "lead("+t+", 1, 'z')", "first_value("+t+")", "last_value("+i+")", "nth_value("+t+", 2)", "sum("+i+")", "count(*)", "max("+t+")", "count("+i+") FILTER (WHERE "+g.condition(0, in)+")", "array_agg("+i+")")
}

// frame is that of a window over integers.
func (g *Generator) frame() string {
	if g.odds(2) {
		return ""
	}
	return " " + g.pick("ROWS", "RANGE", "GROUPS") + " " + g.pick("UNBOUNDED PRECEDING", "BETWEEN 1 PRECEDING AND CURRENT ROW", "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", "BETWEEN 2 PRECEDING AND 1 FOLLOWING", "2 PRECEDING") + g.pick("", "", " EXCLUDE TIES", " EXCLUDE CURRENT ROW", " EXCLUDE GROUP", " EXCLUDE NO OTHERS")
}

// star says whether a star over it reads what is listed alone.
func (g *Generator) star(s source) bool {
	if g.wild || !s.table || g.blind {
		return len(s.columns) > 0
	}
	for i := range tables {
		if tables[i].columns[0].name == s.columns[0].name && slices.ContainsFunc(tables[i].columns, column.closed) {
			return g.odds(6) // it may be the one that has more
		}
	}
	return len(s.columns) > 0
}

// copied is any column in reach, protected or not, as it is named there.
func (g *Generator) copied(in []source) column {
	s := in[g.IntN(len(in))]
	if len(s.columns) == 0 {
		return column{}
	}
	c := s.columns[g.IntN(len(s.columns))]
	c.name = s.alias + "." + c.name
	return c
}

func quoteName(s string) string { return `"` + s + `"` }

func (g *Generator) grouped(head, from string, depth int, in []source) (string, []column) {
	if at := in[len(in)-1]; at.table && g.odds(3) { // by a key, on which all of its table depends
		id, c := at.columns[0], at.columns[g.IntN(len(at.columns))]
		by := at.alias + "." + id.name
		if g.blind && !g.odds(8) { // a veil has no key
			by += ", " + at.alias + "." + c.name
		}
		text := fmt.Sprintf("SELECT %s.%s AS k, %s.%s AS c, count(*) AS n FROM %s%s GROUP BY %s", at.alias, id.name, at.alias, c.name, from, g.where(depth, in), by)
		c.name, id.name = "c", "k"
		return head + text + g.pick("", " ORDER BY 1", " HAVING count(*) > 1"), []column{id, c, {name: "n", kind: "bigint"}}
	}
	by, and := g.expr("int", 0, in), g.expr("text", 0, in)
	if c := g.copied(in).name; c != "" && g.slip() {
		by = c
	}
	by = number(by)
	if strings.ContainsAny(and[:1], "'$U") {
		and = "upper(" + and + ")"
	}
	of := g.expr("int", depth-1, in)
	n := g.pick("count(*)", "sum("+of+")", "max("+of+")", "count(DISTINCT "+of+")", "array_agg("+of+" ORDER BY "+of+")", "string_agg("+g.expr("text", 0, in)+", '' ORDER BY "+of+")", "bool_and("+g.condition(0, in)+")", "json_agg("+of+")",
		"mode() WITHIN GROUP (ORDER BY "+of+")", "count(*) FILTER (WHERE "+g.condition(0, in)+")", "stddev("+of+")", "rank(2) WITHIN GROUP (ORDER BY "+of+")", "percentile_disc(ARRAY[0.2, 0.8]) WITHIN GROUP (ORDER BY "+of+" DESC)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY "+of+")", "string_agg(DISTINCT "+and+", ',' ORDER BY "+and+")",
		"jsonb_object_agg("+of+"::text, "+of+") FILTER (WHERE "+of+" IS NOT NULL)", "bit_xor("+of+")", "count(DISTINCT ("+of+", 1))", "xmlagg(xmlelement(name e, "+of+") ORDER BY "+of+")::text", "grouping("+by+")", "corr("+of+", "+of+")")
	if g.major >= 16 && g.odds(15) {
		n = "any_value(" + of + ")"
	}
	if g.odds(4) {
		n = g.pick("grouping("+by+", "+and+")", "grouping("+and+") + count(*)", "coalesce("+and+", 'all')", and)
		sets := g.pick("ROLLUP ("+by+", "+and+")", "CUBE ("+by+", "+and+")", "GROUPING SETS (("+by+"), ("+and+"))", "GROUPING SETS (("+by+", "+and+"), ("+by+"), ())", by+", GROUPING SETS (("+and+"), ())", "ROLLUP (("+by+", "+and+"))", "GROUPING SETS (CUBE ("+by+"), GROUPING SETS (("+by+", "+and+"), ()))")
		return head + fmt.Sprintf("SELECT %s AS k, %s AS n FROM %s%s GROUP BY %s", by, n, from, g.where(depth, in), sets) + g.pick("", " ORDER BY 1", " HAVING grouping("+by+") = 0"), columns("k int\nn text")
	}
	text := fmt.Sprintf("SELECT %s AS k, %s AS n FROM %s%s GROUP BY ", by, n, from, g.where(depth, in))
	text += g.pick(by, by, "1", "k", "ROLLUP ("+by+", "+and+")", "CUBE ("+by+")", "GROUPING SETS (("+by+"), ())", "DISTINCT "+by+", "+and, "DISTINCT ROLLUP ("+by+", "+and+"), CUBE ("+and+")", "GROUPING SETS (ROLLUP ("+by+"), CUBE ("+by+", "+and+"), ())", "("+by+", "+and+")", by+", ()")
	if g.odds(3) {
		text += " HAVING " + g.pick("count(*) > 1", "max("+of+") IS NOT NULL", g.condition(0, nil))
	}
	return head + text + g.pick("", " ORDER BY 1", " ORDER BY n DESC, k"), columns("k int\nn bigint")
}

// more is a set operation with as many columns.
func (g *Generator) more(cols []column, pure bool) (string, bool) {
	kind := g.pick("UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT", "INTERSECT ALL", "EXCEPT ALL")
	if !pure && !g.slip() {
		kind = "UNION ALL"
	}
	var list []string
	for _, c := range cols {
		switch {
		case g.odds(4) || c.protected() && !g.odds(3):
			list = append(list, "NULL")
		case constants[c.kind] != nil:
			list = append(list, g.constant(c.kind))
		default:
			return "", false
		}
	}
	values := strings.Join(list, ", ")
	return " " + kind + g.pick(" SELECT "+values, " SELECT "+values, " (SELECT "+values+" LIMIT 1)", " VALUES ("+values+"), ("+values+")", " (SELECT "+values+" INTERSECT ALL SELECT "+values+")"), true
}

// with gives a WITH, whose names are in reach from then on.
func (g *Generator) with(depth int, outer []source) string {
	var list []string
	recursive := ""
	for range 1 + g.IntN(2) {
		name := "c" + g.name()
		switch g.IntN(6) {
		case 0:
			recursive = "RECURSIVE "
			list = append(list, fmt.Sprintf("%s(n, x) AS (SELECT 1, %s UNION ALL SELECT n + 1, %s FROM %s WHERE n < 4)", name, g.expr("text", 0, nil), g.pick("x", "x || 'y'", "'z'"), name))
			g.ctes = append(g.ctes, source{alias: name, columns: columns("n int\nx text")})
		case 1:
			// One whose every level copies: of tables, with their columns as they are.
			t := g.table()
			shown := g.shown(t)
			if len(shown) == 0 {
				shown = bare(t.columns)
			}
			c, id := shown[g.IntN(len(shown))], shown[0].name
			recursive = "RECURSIVE "
			more, cols := "", []column{{name: "n", kind: "int"}, {name: "v", kind: c.kind, mask: c.mask}}
			if g.major >= 14 && g.odds(2) {
				by := g.pick("n", "n", "n, v", "v")
				more = g.pick(" SEARCH DEPTH FIRST BY "+by+" SET o", " SEARCH BREADTH FIRST BY "+by+" SET o", " CYCLE "+by+" SET b USING w", " CYCLE "+by+" SET x TO 'y' DEFAULT 'n' USING w")
				switch {
				case strings.Contains(more, "SET b"):
					cols = append(cols, column{name: "b", kind: "bool", mask: cols[len(cols)-1].mask})
				case strings.Contains(more, "SET x"):
					cols = append(cols, column{name: "x", kind: "text", mask: cols[len(cols)-1].mask})
				}
				if by == "n" {
					for i := range cols[2:] {
						cols[2+i].mask = ""
					}
				}
			}
			list = append(list, fmt.Sprintf("%s(n, v) AS (SELECT %s, %s FROM %s WHERE %s < 3 UNION ALL SELECT n + 10, v FROM %s WHERE n < 25)%s", name, id, c.name, t.name, id, name, more))
			g.ctes = append(g.ctes, source{alias: name, columns: cols})
		default:
			text, cols := g.query(depth-1, outer)
			seen := map[string]bool{}
			for _, c := range cols {
				if seen[c.name] { // ambiguous
					cols = nil
					break
				}
				seen[c.name] = true
			}
			list = append(list, name+" AS "+g.pick("", "", "MATERIALIZED ", "NOT MATERIALIZED ")+"("+text+")")
			g.ctes = append(g.ctes, source{alias: name, columns: cols})
		}
	}
	return "WITH " + recursive + strings.Join(list, ", ") + " "
}
