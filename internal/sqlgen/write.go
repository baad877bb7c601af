package sqlgen

import (
	"fmt"
	"slices"
	"strings"
)

// change is an INSERT, UPDATE, DELETE or MERGE.
func (g *Generator) change() string {
	var t *table
	verb := g.pick("insert", "insert", "update", "update", "update", "delete", "merge")
	for t = g.table(); verb != "merge" && !strings.Contains(t.writes, verb) || verb == "merge" && t.view; t = g.table() {
		if g.wild && !t.view {
			break
		}
	}
	head := ""
	defer func(n int) { g.ctes = g.ctes[:n] }(len(g.ctes))
	if g.odds(8) {
		head = g.with(1, nil)
	}
	in := []source{{alias: "t", columns: bare(g.listed(t)), table: true}}
	switch verb {
	case "insert":
		return head + g.insert(t, in)
	case "update":
		text := fmt.Sprintf("%sUPDATE %s AS t SET %s", head, g.only(t), g.sets(t, in))
		if g.odds(3) {
			from, s := g.from(1, nil, nil)
			in = with(in, s...)
			text += " FROM " + from
		}
		return text + " WHERE " + g.key(in) + g.returning(in)
	case "delete":
		text := fmt.Sprintf("%sDELETE FROM %s AS t", head, g.only(t))
		if g.odds(3) {
			from, s := g.from(1, nil, nil)
			in = with(in, s...)
			text += " USING " + from
		}
		return text + " WHERE " + g.key(in) + g.returning(in)
	}
	from, s := g.from(0, nil, nil)
	all := with(in, s...)
	text := fmt.Sprintf("%sMERGE INTO %s AS t USING %s ON %s", head, g.only(t), from, g.key(all))
	text += g.pick("", " WHEN MATCHED AND "+g.condition(1, all)+" THEN UPDATE SET "+g.sets(t, all), " WHEN MATCHED THEN DELETE", " WHEN MATCHED THEN DO NOTHING", " WHEN MATCHED AND "+g.condition(0, all)+" THEN DELETE WHEN MATCHED THEN UPDATE SET "+g.sets(t, all))
	if g.major >= 17 && g.odds(3) {
		text += " WHEN NOT MATCHED BY SOURCE" + g.pick("", " AND "+g.condition(0, in)) + " THEN " + g.pick("DELETE", "DO NOTHING", "UPDATE SET "+g.sets(t, in))
	}
	list, values := g.some_(t, s)
	text += g.pick(" WHEN NOT MATCHED", " WHEN NOT MATCHED AND "+g.condition(0, s)) + " THEN " + g.pick("DO NOTHING", "INSERT DEFAULT VALUES", fmt.Sprintf("INSERT (%s) VALUES (%s)", list, values))
	if g.major >= 17 {
		if text += g.returning(all); g.odds(4) && strings.Contains(text, " RETURNING ") {
			text += ", merge_action()"
		}
	}
	return text
}

func (g *Generator) only(t *table) string {
	if !t.view && g.odds(10) {
		return "ONLY " + t.name
	}
	return t.name
}

// key mostly hits one row.
func (g *Generator) key(in []source) string {
	if g.odds(3) {
		return g.condition(1, in)
	}
	if c := in[0].columns[0]; c.kind != "int" {
		return "t.room = 'room 2'"
	}
	return fmt.Sprintf("t.id = %s", g.constant("int"))
}

// writable are columns of a table that a statement may set.
func (g *Generator) writable(t *table) (list []column) {
	for _, c := range t.columns {
		if !c.closed() && !c.generated && (!c.protected() || g.odds(4)) || g.wild && g.odds(5) {
			list = append(list, c)
		}
	}
	return list
}

// some_ gives columns and values for them.
func (g *Generator) some_(t *table, in []source) (list, values string) {
	var names, out []string
	for i, c := range g.writable(t) {
		if i > 1 && g.odds(2) {
			continue
		}
		names = append(names, c.name)
		switch {
		case c.name == "id" && c.kind == "int" && !g.odds(4):
			out = append(out, g.pick("1", "3", "30", "31", "50", "-"))
			if out[len(out)-1] == "-" {
				out[len(out)-1] = g.expr("int", 1, in)
			}
		case g.odds(12):
			out = append(out, "DEFAULT")
		default:
			out = append(out, g.expr(c.kind, 1, in))
		}
	}
	if len(names) == 0 {
		return "id", "77"
	}
	return strings.Join(names, ", "), strings.Join(out, ", ")
}

func (g *Generator) sets(t *table, in []source) string {
	var list []string
	can := g.writable(t)
	for range 1 + g.IntN(2) {
		if len(can) == 0 {
			break
		}
		at := g.IntN(len(can))
		c := can[at]
		can = slices.Delete(can, at, at+1)
		value := g.expr(c.kind, 1, in)
		if g.slip() { // of whatever is in reach
			value = g.copied(in).name
		}
		switch g.IntN(8) {
		case 0:
			value = "DEFAULT"
		case 1:
			value = "(" + g.scalar(c.kind, 1, in) + ")"
		}
		if g.odds(6) && len(can) > 0 && value != "DEFAULT" {
			also := can[0]
			can = can[1:]
			list = append(list, g.pick(fmt.Sprintf("(%s) = ROW (%s)", c.name, value), fmt.Sprintf("(%s) = (SELECT %s)", c.name, value), fmt.Sprintf("(%s, %s) = (%s, DEFAULT)", c.name, also.name, value), fmt.Sprintf("(%s, %s) = (SELECT %s, %s)", c.name, also.name, g.expr(c.kind, 1, in), g.expr(also.kind, 0, in))))
			continue
		}
		list = append(list, c.name+" = "+value)
	}
	if len(list) == 0 {
		return "id = 1"
	}
	return strings.Join(list, ", ")
}

func (g *Generator) insert(t *table, in []source) string {
	list, values := g.some_(t, nil)
	over := ""
	if t.name == "people" || t.name == "log" || t.name == "ledger" {
		over = g.pick("", "", "OVERRIDING SYSTEM VALUE ", "OVERRIDING USER VALUE ")
	}
	text := fmt.Sprintf("INSERT INTO %s AS t (%s) %sVALUES (%s)", t.name, list, over, values)
	switch g.IntN(8) {
	case 0:
		text = "INSERT INTO " + t.name + " AS t DEFAULT VALUES"
	case 1, 2:
		from, s := g.from(1, nil, nil)
		var out []string
		for name := range strings.SplitSeq(list, ", ") {
			i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
			kind := t.columns[max(i, 0)].kind
			out = append(out, g.expr(kind, 1, s))
			if g.slip() {
				out[len(out)-1] = g.copied(s).name
			}
		}
		text = fmt.Sprintf("INSERT INTO %s AS t (%s) %sSELECT %s FROM %s%s", t.name, list, over, strings.Join(out, ", "), from, g.where(1, s))
	case 3:
		_, again := g.some_(t, nil)
		if strings.Count(again, ",") == strings.Count(values, ",") {
			text += ", (" + again + ")"
		}
	}
	if !t.view && g.odds(3) {
		key := "id"
		switch t.name {
		case "sales":
			key = "id, region"
		case "people":
			key = g.pick("id", "id", "name, grp")
		case "grp":
			key = g.pick("id", "rank")
		case "base", "derived": // they have none
			return text + " ON CONFLICT DO NOTHING" + g.returning(in)
		}
		excluded := with(in, source{alias: "excluded", columns: in[0].columns})
		text += g.pick(" ON CONFLICT DO NOTHING", " ON CONFLICT ("+key+") DO NOTHING", " ON CONFLICT ON CONSTRAINT "+t.name+"_pkey DO NOTHING", " ON CONFLICT ("+key+") DO UPDATE SET "+g.sets(t, excluded)+g.pick("", " WHERE "+g.condition(1, in), " WHERE "+g.condition(0, excluded)))
	}
	return text + g.returning(in)
}

func (g *Generator) returning(in []source) string {
	if g.odds(2) {
		return ""
	}
	if g.major >= 18 && g.odds(3) {
		c := in[0].columns[g.IntN(len(in[0].columns))]
		if c.protected() && !g.slip() {
			c = in[0].columns[0]
		}
		return " RETURNING " + g.pick(fmt.Sprintf("coalesce(old.%s, new.%s) AS v", c.name, c.name), fmt.Sprintf("old.%s IS DISTINCT FROM new.%s AS changed", c.name, c.name), fmt.Sprintf("(SELECT old.%s) AS o, (new).%s AS n", c.name, c.name), fmt.Sprintf("WITH (NEW AS n) n.%s, t.%s, old.%s IS NULL", c.name, c.name, c.name), "old.ctid IS NULL, new.id, t.id", "old, new", "old.*", fmt.Sprintf("old.%s AS o, new.%s AS n", c.name, c.name), fmt.Sprintf("WITH (OLD AS o, NEW AS n) o.%s, n.%s AS n", c.name, c.name), "old.id IS NULL AS made, new.*")
	}
	of := in[:1]
	if len(in) > 1 && g.odds(2) { // of what is joined as well
		of = in
	}
	g.single = true
	list, _, _ := g.list(1, of, of)
	g.single = false
	return " RETURNING " + strings.Join(list, ", ")
}
