package sqlgen

import (
	"slices"
	"strings"
)

// due is a step of a script that is still to come: its text is made when it is its
// turn. What ends or restores a transaction is no more than the floor of any task.
type due struct {
	kind string
	text func() string
}

func words(text string) due { return due{"control", func() string { return text }} }

// begin gives a script: steps that only mean something one behind another.
func (g *Generator) begin(open bool) {
	query := func(depth int) due {
		return due{"script", func() string { text, _ := g.query(depth, nil); return text }}
	}
	script := func(list ...string) due { return due{"script", func() string { return g.pick(list...) }} }
	change := due{"script", g.change}
	empty := due{"script", g.truncate}
	end := words(g.pick("COMMIT", "COMMIT", "ROLLBACK"))
	back, name := words(g.pick("ROLLBACK TO s2", "ROLLBACK TO s2; RELEASE s2")), g.pick("h1", "h2")
	held := due{"script", func() string {
		text, _ := g.query(1, nil)
		return "DECLARE " + name + g.pick(" ", " SCROLL ", " NO SCROLL ", " BINARY ", " INSENSITIVE ") + "CURSOR WITH HOLD FOR " + text
	}}
	fetch := script("FETCH "+name, "FETCH 2 FROM "+name, "FETCH ALL FROM "+name, "FETCH FIRST FROM "+name, "FETCH LAST FROM "+name, "MOVE 1 "+name, "FETCH BACKWARD ALL FROM "+name)
	own := due{"script", g.make}
	use := due{"script", g.use}
	list := [][]due{
		{words("SAVEPOINT s2"), change, query(1), back, query(0), end},
		{change, words("SAVEPOINT s2"), change, words("SAVEPOINT s3"), change, words("RELEASE s3"), back, query(1), end},
		{words("SAVEPOINT s2"), query(1), back, script("SELECT 1 / 0", "SELECT nextval('nowhere')", "UPDATE people SET name = NULL WHERE id = 3", "INSERT INTO grp VALUES (1, 'x')", "SELECT 'x'::int"), end},
		{words("SAVEPOINT s2"), script("SELECT 1 / 0", "UPDATE people SET name = NULL", "INSERT INTO log (person) VALUES (1000)"), back, query(1), change, end},
		{words("SAVEPOINT s2"), empty, change, back, change, query(0), end},
		{held, fetch, end, fetch, fetch, words("CLOSE " + name)},
		{held, words("COMMIT"), change, fetch, fetch, words("CLOSE " + name)},
		{words("SAVEPOINT s2"), held, fetch, back, fetch, words("COMMIT"), fetch},
		{change, held, words("COMMIT"), fetch, empty, fetch, words("CLOSE " + name)},
		{own, use, use, words("SAVEPOINT s2"), use, back, use, end, use},
		{words("SAVEPOINT s2"), own, use, back, use, end},
		{own, words("COMMIT"), use, held, fetch, use, words("CLOSE " + name)},
		{empty, change, script("SELECT * FROM ledger", "INSERT INTO ledger (label) VALUES ('more') RETURNING id, n", "SELECT count(*) FROM ledger"), end},
	}
	g.todo = slices.Clone(list[g.IntN(len(list))])
	if !open {
		g.todo = slices.Insert(g.todo, 0, words("BEGIN"))
	}
}

// follow gives the next step of the script. Where the transaction is aborted only
// what restores or ends it does anything.
func (g *Generator) follow(failed bool) *Step {
	for failed && len(g.todo) > 1 && g.todo[0].kind != "control" {
		g.todo = g.todo[1:]
	}
	d := g.todo[0]
	g.todo = g.todo[1:]
	return g.plain(d.kind, d.text(), d.kind != "control")
}

// truncate empties tables, and may start their sequences again.
func (g *Generator) truncate() string {
	var names []string
	for range 1 + g.IntN(4)/3 {
		t := g.table()
		for !strings.Contains(t.writes, "truncate") && !g.wild {
			t = g.table()
		}
		name := g.pick(t.name, t.name, "ledger")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return "TRUNCATE " + g.pick("", "TABLE ") + g.pick("", "", "", "ONLY ") + strings.Join(names, ", ") + g.pick("", " RESTART IDENTITY", " RESTART IDENTITY", " CONTINUE IDENTITY") + g.pick("", "", "", " CASCADE", " RESTRICT")
}

// make gives a table of the session's own, made of the rows of a query, whose columns
// later texts can name.
func (g *Generator) make() string {
	name := g.pick("own1", "own2", "own3")
	text, cols := g.query(g.IntN(2), nil)
	for try := 0; try < 8 && (!g.blind && slices.ContainsFunc(cols, column.protected) || twice(cols)) && !g.wild; try++ {
		g.touched = false
		text, cols = g.query(g.IntN(2), nil)
	}
	g.temps = slices.DeleteFunc(g.temps, func(s source) bool { return s.alias == name })
	g.own++
	how := g.pick("", "", "", " ON COMMIT PRESERVE ROWS", " ON COMMIT DELETE ROWS", " ON COMMIT DROP")
	if !twice(cols) {
		g.temps = append(g.temps, source{alias: name, columns: cols, table: true})
	}
	return "CREATE TEMP TABLE " + g.pick("", "", "IF NOT EXISTS ") + name + how + " AS " + text
}

// twice says whether two columns are called the same, which no table's may be.
func twice(cols []column) bool {
	seen := map[string]bool{}
	for _, c := range cols {
		if seen[c.name] {
			return true
		}
		seen[c.name] = true
	}
	return false
}

// use reads, writes or empties a table that make has made.
func (g *Generator) use() string {
	if len(g.temps) == 0 {
		return g.temporary()
	}
	t := g.temps[g.IntN(len(g.temps))]
	in := []source{{alias: "t", columns: t.columns, table: true}}
	switch g.IntN(8) {
	case 0:
		return "SELECT * FROM " + t.alias
	case 1:
		return "TRUNCATE " + t.alias + g.pick("", " RESTART IDENTITY", " CONTINUE IDENTITY")
	case 2:
		return "DELETE FROM " + t.alias + " t WHERE " + g.condition(1, in) + g.returning(in)
	case 3:
		if len(t.columns) > 0 {
			c := t.columns[g.IntN(len(t.columns))]
			return "UPDATE " + t.alias + " t SET " + quoteName(c.name) + " = " + g.expr(c.kind, 1, in) + g.returning(in)
		}
	case 4:
		text, _ := g.query(0, nil)
		return "INSERT INTO " + t.alias + " " + g.pick("TABLE "+t.alias, text)
	}
	from, s := g.from(1, nil, nil)
	in = append(in, s...)
	list, _, _ := g.list(1, in, in)
	return "SELECT " + strings.Join(list, ", ") + " FROM " + t.alias + " AS t, " + from + g.where(1, in)
}
