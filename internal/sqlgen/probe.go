package sqlgen

import "regexp"

// probes are the ways in which a value tells of itself that is not shown: c is a
// protected column of t. Each is one slip and nothing else, so that a gateway
// which lets one kind pass shows it soon.
var probes = []string{
	"SELECT DISTINCT c FROM t", "SELECT c FROM t GROUP BY c", "SELECT c FROM t UNION SELECT c FROM t", "SELECT c FROM t INTERSECT SELECT c FROM t", "SELECT c FROM t EXCEPT ALL SELECT c FROM t WHERE id > 3",
	"SELECT DISTINCT ON (c) id FROM t ORDER BY c, id", "SELECT count(*) FROM t GROUP BY c ORDER BY 1", "SELECT count(*) FROM t GROUP BY ROLLUP (c) ORDER BY 1", "SELECT count(*) FROM (SELECT DISTINCT c FROM t) q", "WITH RECURSIVE r AS (SELECT c FROM t UNION SELECT c FROM r) SELECT count(*) FROM r",
	"SELECT id FROM t ORDER BY c, id", "SELECT id, c FROM t ORDER BY c, id", "SELECT id, c FROM t ORDER BY 2, 1", "SELECT id, row_number() OVER (ORDER BY c, id) FROM t ORDER BY 1", "SELECT id, rank() OVER w FROM t WINDOW w AS (PARTITION BY c ORDER BY id) ORDER BY id", "SELECT array_agg(id ORDER BY c, id) FROM t",
	"SELECT id FROM t WHERE c IS NULL", "SELECT count(*) FROM t WHERE c::text > 'm'", "SELECT id FROM t WHERE c::text LIKE '%1%' ORDER BY 1", "SELECT a.id, b.id FROM t a JOIN t b ON a.c = b.c ORDER BY 1, 2", "SELECT count(*) FROM t a JOIN t b USING (c)", "SELECT id FROM t WHERE c IN (SELECT c FROM t WHERE id = 1) ORDER BY 1",
	"SELECT id FROM t a WHERE EXISTS (SELECT FROM t b WHERE b.c = a.c AND b.id <> a.id) ORDER BY 1", "SELECT count(*) FILTER (WHERE c IS NULL) FROM t", "SELECT n FROM (SELECT count(*) AS n FROM t GROUP BY id HAVING max(c::text) > 'm') q", "DELETE FROM t WHERE c IS NULL", "UPDATE t SET id = id WHERE c::text > 'm'",
	"SELECT c IS NULL FROM t ORDER BY id", "SELECT c::text || '' FROM t ORDER BY id", "SELECT length(c::text) FROM t ORDER BY id", "SELECT max(c::text), count(c) FROM t", "SELECT CASE WHEN c IS NULL THEN 1 END FROM t ORDER BY id", "SELECT t FROM t ORDER BY id", "SELECT to_json(t) FROM t ORDER BY id", "SELECT ROW(c) FROM t ORDER BY id", "SELECT coalesce(c, c) FROM t ORDER BY id",
	"SELECT (SELECT c)::text FROM t ORDER BY id", "SELECT 1 / length(c::text) FROM t", "SELECT lag(c) OVER (ORDER BY id) FROM t", "SELECT string_agg(c::text, ',' ORDER BY id) FROM t", "SELECT id FROM t LIMIT (SELECT count(c) FROM t)", "SELECT generate_series(1, length(c::text)) FROM t", "SELECT id FROM t, LATERAL (SELECT length(c::text) AS n) l ORDER BY n, id",
	"INSERT INTO log (person, body) SELECT id, c::text FROM t RETURNING body", "INSERT INTO log (person, body) SELECT id, c FROM t RETURNING body", "INSERT INTO log (person) SELECT id FROM t WHERE c IS NOT NULL", "UPDATE grp SET title = c FROM t WHERE t.id = grp.id RETURNING title", "EXPLAIN SELECT id FROM t WHERE c IS NULL",
	"SELECT c::int FROM t", "SELECT c FROM t FOR UPDATE OF t", "VALUES ((SELECT c FROM t WHERE id = 1)), ('x')",
}

var probed = regexp.MustCompile(`\b[ct]\b`)

// probe tells of one protected column.
func (g *Generator) probe() string {
	t := g.table()
	for !g.touched {
		t = g.table()
	}
	var hidden []column
	for _, c := range t.columns {
		if c.protected() {
			hidden = append(hidden, c)
		}
	}
	c := hidden[g.IntN(len(hidden))]
	return probed.ReplaceAllStringFunc(g.pick(probes...), func(word string) string {
		if word == "c" {
			return c.name
		}
		return t.name
	})
}
