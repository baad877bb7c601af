package sqlgen

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// probes are the ways in which a value tells of itself that is not shown: c is a
// protected column of t and d another one. Each is one slip and nothing else, so
// that a gateway which lets one kind pass shows it soon. A number before one is
// the first server that has it, and what stands between bars goes by itself. Where
// people are named, c is a column of theirs.
var probes = strings.Split(strings.TrimSpace(`
SELECT DISTINCT c FROM t
SELECT c FROM t GROUP BY c
SELECT c FROM t UNION SELECT c FROM t
SELECT c FROM t INTERSECT SELECT c FROM t
SELECT c FROM t EXCEPT ALL SELECT c FROM t WHERE id > 3
SELECT count(*) FROM (SELECT DISTINCT ON (c) id FROM t) q
SELECT DISTINCT ON (1) c, id FROM t
SELECT count(*) FROM t GROUP BY c ORDER BY 1
SELECT id > 3, count(*) FROM t GROUP BY 1, c ORDER BY 1, 2
SELECT count(*) FROM t GROUP BY ROLLUP (c) ORDER BY 1
SELECT count(*) FROM t GROUP BY GROUPING SETS ((c), ()) ORDER BY 1
SELECT count(*) FROM t GROUP BY CUBE (c, id) ORDER BY 1
SELECT count(*) FROM (SELECT DISTINCT c FROM t) q
WITH RECURSIVE r AS (SELECT c FROM t UNION SELECT c FROM r) SELECT count(*) FROM r
SELECT id FROM t ORDER BY c, id
SELECT id, c FROM t ORDER BY c, id
SELECT id, c AS x FROM t ORDER BY x, id
SELECT id, c FROM t ORDER BY 2, 1
SELECT id FROM t ORDER BY c USING <, id
SELECT id, row_number() OVER (ORDER BY c, id) FROM t ORDER BY 1
SELECT id, rank() OVER w FROM t WINDOW w AS (PARTITION BY c ORDER BY id) ORDER BY id
SELECT id, rank() OVER w FROM t WINDOW v AS (PARTITION BY c), w AS (v ORDER BY id) ORDER BY id
SELECT id, count(*) OVER (ORDER BY id ROWS (SELECT count(c) FROM t) PRECEDING) FROM t ORDER BY 1
SELECT array_agg(id ORDER BY c, id) FROM t
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY c) FROM t
SELECT rank('m') WITHIN GROUP (ORDER BY c::text) FROM t
SELECT mode() WITHIN GROUP (ORDER BY c) FROM t
SELECT id FROM t WHERE c IS NULL
SELECT count(*) FROM t WHERE c::text > 'm'
SELECT id FROM t WHERE c::text LIKE '%1%' ORDER BY 1
SELECT id FROM t WHERE (c, id) IS NOT NULL ORDER BY 1
SELECT id FROM t WHERE c::text IN ('x', 'eu', '12') ORDER BY 1
SELECT id FROM t WHERE c::text BETWEEN SYMMETRIC 'z' AND 'f' ORDER BY 1
SELECT id FROM t WHERE c IS DISTINCT FROM NULL ORDER BY 1
SELECT a.id, b.id FROM t a JOIN t b ON a.c = b.c ORDER BY 1, 2
SELECT a.id, b.id FROM t a LEFT JOIN t b ON b.c IS NULL ORDER BY 1, 2
SELECT count(*) FROM t a JOIN t b USING (c)
SELECT count(*) FROM (SELECT c FROM t) a NATURAL JOIN (SELECT c FROM t) b
SELECT id FROM t WHERE c IN (SELECT c FROM t WHERE id = 1) ORDER BY 1
SELECT id FROM t WHERE 'x' = ANY (SELECT c::text FROM t) ORDER BY 1
SELECT id FROM t a WHERE EXISTS (SELECT FROM t b WHERE b.c = a.c AND b.id <> a.id) ORDER BY 1
SELECT count(*) FILTER (WHERE c IS NULL) FROM t
SELECT n FROM (SELECT count(*) AS n FROM t GROUP BY id HAVING max(c::text) > 'm') q
SELECT count(*) FROM t HAVING count(c) > 3
DELETE FROM t WHERE c IS NULL
DELETE FROM log USING people WHERE log.id = people.id AND people.c IS NULL
UPDATE t SET id = id WHERE c::text > 'm'
UPDATE log SET at = at FROM people WHERE log.id = people.id AND people.c IS NULL
SELECT c IS NULL FROM t ORDER BY id
SELECT c::text || '' FROM t ORDER BY id
SELECT length(c::text) FROM t ORDER BY id
SELECT max(c::text), count(c) FROM t
SELECT count(DISTINCT c) FROM t
SELECT CASE WHEN c IS NULL THEN 1 END FROM t ORDER BY id
SELECT CASE c WHEN c THEN 1 END FROM t ORDER BY id
SELECT t FROM t ORDER BY id
SELECT t.*::text FROM t ORDER BY id
SELECT to_json(t) FROM t ORDER BY id
SELECT q FROM (SELECT id, c FROM t ORDER BY id) q
SELECT count(*) FROM t a JOIN t b ON a = b
SELECT ROW(c) FROM t ORDER BY id
SELECT ARRAY[c, c] FROM t ORDER BY id
SELECT (ARRAY[c, c])[1] FROM t ORDER BY id
SELECT coalesce(c, c) FROM t ORDER BY id
SELECT nullif(c, c) FROM t ORDER BY id
SELECT greatest(c, c) FROM t ORDER BY id
SELECT (t).c FROM t ORDER BY id
SELECT (q).c FROM (SELECT t AS q FROM t ORDER BY id) z
SELECT (SELECT c)::text FROM t ORDER BY id
SELECT ARRAY(SELECT c FROM t ORDER BY id)
SELECT (SELECT c FROM t b WHERE b.id = a.id) FROM t a ORDER BY id
SELECT 1 / length(c::text) FROM t
SELECT c::int FROM t
SELECT CAST(c AS text)::date FROM t
SELECT lag(c) OVER (ORDER BY id) FROM t
SELECT first_value(c) OVER (ORDER BY id) FROM t
16 SELECT any_value(c) FROM t
SELECT string_agg(c::text, ',' ORDER BY id) FROM t
SELECT json_agg(c ORDER BY id) FROM t
SELECT json_build_object(c::text, 1) FROM t
SELECT format('%s', c) FROM t ORDER BY id
SELECT pg_typeof(c), pg_column_size(c) FROM t ORDER BY id
SELECT id FROM t LIMIT (SELECT count(c) FROM t)
SELECT id FROM t ORDER BY id OFFSET (SELECT count(c) FROM t) ROWS
SELECT id FROM t ORDER BY id FETCH FIRST (SELECT count(c) FROM t) ROWS ONLY
SELECT id FROM t TABLESAMPLE BERNOULLI ((SELECT count(c) * 10 FROM t)) REPEATABLE (1)
SELECT generate_series(1, length(c::text)) FROM t
SELECT q.n FROM t, generate_series(1, length(c::text)) AS q(n) ORDER BY 1
SELECT id FROM t, LATERAL (SELECT length(c::text) AS n) l ORDER BY n, id
SELECT x.v FROM t, XMLTABLE('/a' PASSING xmlelement(name a, c::text) COLUMNS v text PATH '.') x
17 SELECT x.v FROM t, JSON_TABLE(to_jsonb(c), '$' COLUMNS (v text PATH '$')) x
16 SELECT JSON_OBJECT('k': c) FROM t ORDER BY id
16 SELECT c::text IS JSON FROM t ORDER BY id
WITH x AS MATERIALIZED (SELECT c FROM t) SELECT count(*) FROM x WHERE c IS NULL
SELECT count(c) FROM (TABLE t) q
SELECT NULL UNION ALL SELECT c FROM t
SELECT c FROM t UNION ALL SELECT NULL
SELECT c FROM t UNION ALL SELECT d FROM t
SELECT d FROM t UNION ALL SELECT c FROM t
SELECT c FROM t UNION ALL SELECT 'x'
SELECT hs FROM keyed UNION ALL VALUES ('x'), ('eu'), ('ann1'), ('12'), ('nick')
SELECT label FROM keyed UNION ALL SELECT hs FROM keyed
SELECT card FROM people UNION ALL SELECT ssn FROM people
SELECT code FROM base UNION ALL SELECT secret FROM sales
SELECT code FROM v_both
VALUES ((SELECT c FROM t WHERE id = 1)), ('x')
VALUES ((SELECT c FROM t WHERE id = 1)), (NULL)
VALUES (NULL), ((SELECT c FROM t WHERE id = 1))
WITH RECURSIVE r(n, x, y, z) AS (SELECT id, NULL::text, NULL::text, c FROM t UNION ALL SELECT n + 20, y, z, z FROM r WHERE n < 40) SELECT x FROM r ORDER BY n
WITH RECURSIVE r(n, v) AS (SELECT id, NULL::text FROM t UNION ALL SELECT n + 20, (SELECT c FROM t WHERE id = 1) FROM r WHERE n < 20) SELECT v FROM r ORDER BY n
INSERT INTO log (person, body) SELECT id, c::text FROM people RETURNING body
INSERT INTO log (person, body) SELECT id, c FROM people RETURNING body
INSERT INTO log (person) SELECT id FROM people WHERE c IS NOT NULL
INSERT INTO log (person) SELECT id FROM people ORDER BY c LIMIT 2 RETURNING person
INSERT INTO sales (id, region) VALUES (1, 'eu'), (2, 'eu'), (3, 'us') ON CONFLICT (id, region) DO UPDATE SET amount = 1 WHERE sales.secret > 'm'
INSERT INTO sales (id, region) VALUES (1, 'eu'), (2, 'us') ON CONFLICT (id, region) DO UPDATE SET amount = length(sales.secret) RETURNING amount
INSERT INTO slots (id, label) VALUES (1, 'n'), (2, 'n'), (3, 'n'), (4, 'n') ON CONFLICT (id) DO UPDATE SET id = slots.id WHERE slots.code > 'f'
INSERT INTO slots AS s (id) VALUES (1), (2), (3), (4) ON CONFLICT (id) DO UPDATE SET id = s.id WHERE s.code IS NULL RETURNING id
INSERT INTO slots (id) VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET label = slots.code RETURNING label
INSERT INTO slots (id, code) SELECT id + 1, code FROM slots WHERE id < 5 ON CONFLICT (id) DO UPDATE SET id = slots.id WHERE excluded.code > 'f'
INSERT INTO slots (id) VALUES (1), (2), (3), (4) ON CONFLICT (id) DO UPDATE SET id = slots.id WHERE EXISTS (SELECT FROM v_slots v WHERE v.id = slots.id AND v.code IS NULL)
EXPLAIN SELECT id FROM slots WHERE code IS NULL
EXPLAIN SELECT id, code FROM v_slots ORDER BY id
EXPLAIN SELECT count(*) FROM slots GROUP BY pay
EXPLAIN (FORMAT JSON) SELECT DISTINCT pay FROM v_slots
PREPARE pe AS SELECT count(*) FROM slots GROUP BY pay | EXPLAIN EXECUTE pe | DEALLOCATE pe
LISTEN bell | UPDATE slots SET label = 'rung' WHERE id = 1 | UNLISTEN *
INSERT INTO v_keyed (id, tag) VALUES (101, 'x'), (102, 'eu'), (103, 'ann1'), (104, '12'), (105, 'nick') | SELECT hs FROM keyed ORDER BY id
UPDATE v_keyed SET tag = 'x' WHERE id = 1 | SELECT hs FROM keyed ORDER BY id
INSERT INTO v_turned (id, tag) VALUES (1, 'x'), (2, 'eu'), (3, 'ann1'), (4, '12'), (5, 'nick') RETURNING tag | SELECT hs FROM keyed ORDER BY id
UPDATE v_turned SET tag = 'x' WHERE id = 1 RETURNING tag | SELECT hs FROM keyed ORDER BY id
WITH w AS (UPDATE grp SET rank = rank RETURNING id) SELECT count(*) FROM w JOIN people ON w.id = people.id WHERE c IS NULL
WITH w AS (INSERT INTO spot (id) VALUES (70) RETURNING id) SELECT (SELECT count(c) FROM people) FROM w
UPDATE grp SET title = c FROM people WHERE people.id = grp.id RETURNING title
UPDATE spot SET (label) = ROW ((SELECT c FROM people WHERE id = 1)) RETURNING label
UPDATE spot SET (id, label) = (SELECT id, c FROM people WHERE people.id = spot.id) RETURNING label
MERGE INTO spot USING people ON spot.id = people.id AND people.c IS NULL WHEN MATCHED THEN UPDATE SET label = 'm'
MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED AND people.c IS NULL THEN UPDATE SET label = 'm'
MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED THEN UPDATE SET label = people.c; SELECT label FROM spot ORDER BY id
MERGE INTO spot USING people ON false WHEN NOT MATCHED AND people.id < 3 THEN INSERT (id, label) VALUES (people.id + 50, people.c); SELECT label FROM spot ORDER BY id
17 MERGE INTO spot USING people ON spot.id = people.id AND people.c IS NULL WHEN NOT MATCHED BY SOURCE THEN UPDATE SET label = 'm'
17 MERGE INTO spot USING (SELECT id, c FROM people) q ON spot.id = q.id WHEN MATCHED THEN UPDATE SET label = 'm' RETURNING q.c IS NULL
18 UPDATE t SET id = id WHERE id = 1 RETURNING old.c, new.c
18 UPDATE t SET id = id WHERE id = 1 RETURNING WITH (OLD AS o) o.c IS NULL
18 DELETE FROM t WHERE id = 1 RETURNING old
EXPLAIN SELECT id FROM t WHERE c IS NULL
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM t WHERE c IS NULL
SELECT c FROM t FOR UPDATE OF t
COPY t (c) TO STDOUT
COPY (SELECT c FROM t ORDER BY c) TO STDOUT
COPY (SELECT (SELECT c)::text FROM t) TO STDOUT (FORMAT csv)
DECLARE cx CURSOR WITH HOLD FOR SELECT c FROM t ORDER BY id; FETCH 2 FROM cx; CLOSE cx
DECLARE cy CURSOR WITH HOLD FOR SELECT c FROM t ORDER BY c; FETCH 2 FROM cy; CLOSE cy
PREPARE px AS SELECT c FROM t ORDER BY id; EXECUTE px; DEALLOCATE px
PREPARE py AS SELECT id FROM t WHERE c IS NULL; EXECUTE py; DEALLOCATE py
SELECT xmin::text, c FROM t WHERE c IS NULL
SELECT name FROM v_rich
SELECT count(*) FROM v_rich
SELECT id FROM v_multi
SELECT big FROM v_made ORDER BY id
SELECT count(*) FROM v_joined
SELECT tax FROM v_people ORDER BY id
SELECT id FROM v_people WHERE tax IS NULL ORDER BY id
SELECT id FROM papers
SELECT count(*) FROM papers
SELECT upper_k FROM made ORDER BY id
SELECT id FROM made WHERE upper_k IS NULL ORDER BY id
18 SELECT low_k FROM made ORDER BY id
18 SELECT room FROM stays WHERE guest IS NULL
SELECT arr[1], k FROM made ORDER BY id
SELECT code FROM derived ORDER BY id
SELECT id FROM derived WHERE code > 'm' ORDER BY id
SELECT tag FROM sales ORDER BY id
SELECT tag FROM sales_eu ORDER BY id
SELECT id FROM sales_us WHERE secret IS NULL ORDER BY id
INSERT INTO guarded (id, code) VALUES (77, 'x')
INSERT INTO guarded (id, pin) VALUES (77, 3)
INSERT INTO guarded (id, span) VALUES (77, '[20,26)')
INSERT INTO guarded (id, ref) VALUES (77, 9)
INSERT INTO guarded (id, code) VALUES (77, 'eu') ON CONFLICT DO NOTHING
INSERT INTO slots (id) VALUES (1), (2) ON CONFLICT (lower(code)) DO NOTHING
INSERT INTO slots AS s (id) VALUES (1), (2) ON CONFLICT ((s.code || 'x'), id) WHERE code > 'f' DO NOTHING RETURNING id
UPDATE guarded SET code = 'x' WHERE id = 2
UPDATE guarded SET ref = 8 WHERE id = 1
INSERT INTO v_guarded (id, code) VALUES (77, 'x')
UPDATE made SET level = 60 WHERE id = 1
UPDATE made SET label = 'd'
UPDATE made SET place = 7
UPDATE made SET k = 'eu' WHERE id = 1
DELETE FROM spot WHERE id = 2
UPDATE spot SET id = 40 WHERE id = 3
DELETE FROM perch WHERE id = 2
INSERT INTO log (person, body) VALUES (3, 'bad')
INSERT INTO log (person, body) VALUES (2, 'odd')
BEGIN | INSERT INTO log (person, body) VALUES (3, 'bad') | COMMIT
BEGIN | INSERT INTO log (person, body) VALUES (2, 'odd') | COMMIT
BEGIN | INSERT INTO log (person, body) VALUES (4, 'set') | COMMIT
BEGIN | INSERT INTO log (person, body) VALUES (3, 'bad') | SET CONSTRAINTS ALL IMMEDIATE | ROLLBACK
UPDATE spot SET label = 'bad' WHERE id = 3
BEGIN | UPDATE spot SET label = 'bad' WHERE id = 2 | COMMIT
BEGIN | UPDATE spot SET label = 'bad' WHERE id = 4 | SET CONSTRAINTS ALL IMMEDIATE | ROLLBACK
BEGIN | SELECT c FROM t | SELECT nextval('nowhere') | ROLLBACK
INSERT INTO log (person, body) VALUES (4, 'set')
UPDATE people SET name = 'twin' WHERE id < 4
UPDATE people SET name = NULL WHERE id = 3
UPDATE people SET amount = -5000 WHERE id = 3
DELETE FROM people WHERE id = 5
SELECT DISTINCT ON (c) id, c FROM t ORDER BY c, id
SELECT DISTINCT ON (id) id, c FROM t ORDER BY id, c
SELECT DISTINCT ON (id > 3) c FROM t ORDER BY id > 3, id
SELECT DISTINCT ON (1) id FROM t ORDER BY 1, c
SELECT grouping(c), count(*) FROM t GROUP BY ROLLUP (c) ORDER BY 1
SELECT c FROM t GROUP BY GROUPING SETS ((c), (id))
SELECT id, count(*) FROM t GROUP BY GROUPING SETS ((id, c), ()) ORDER BY 1, 2
SELECT id, c FROM t GROUP BY CUBE (id), c ORDER BY 1
CREATE TEMP TABLE kept AS SELECT id, c AS v FROM t | SELECT v FROM kept ORDER BY id | SELECT count(*) FROM kept WHERE v IS NULL | DROP TABLE kept
CREATE TEMP TABLE kept AS SELECT id FROM t WHERE c IS NULL | SELECT count(*) FROM kept | DROP TABLE kept
CREATE TEMP TABLE kept AS SELECT id FROM t ORDER BY c | SELECT id FROM kept | DROP TABLE kept
CREATE TEMP TABLE kept AS TABLE t | SELECT count(c) FROM kept | DROP TABLE kept
SELECT id, c AS v INTO TEMP kept FROM t | SELECT max(v::text) FROM kept | DROP TABLE kept
CREATE TEMP TABLE kept (id int, v text) | INSERT INTO kept SELECT id, c FROM t | SELECT v FROM kept ORDER BY id | DROP TABLE kept
CREATE TEMP TABLE kept (id int GENERATED ALWAYS AS IDENTITY, v int) | INSERT INTO kept (v) SELECT id FROM t ORDER BY c | SELECT id, v FROM kept ORDER BY id | TRUNCATE kept RESTART IDENTITY | INSERT INTO kept (v) SELECT 1 FROM t WHERE c IS NULL | INSERT INTO kept (v) VALUES (1) RETURNING id | DROP TABLE kept
PREPARE pm AS SELECT id, c FROM t ORDER BY id | CREATE TEMP TABLE kept AS EXECUTE pm | SELECT * FROM kept | DROP TABLE kept | DEALLOCATE pm
BEGIN | DECLARE ch CURSOR WITH HOLD FOR SELECT c FROM t ORDER BY id | COMMIT | FETCH 2 FROM ch | FETCH ALL FROM ch | CLOSE ch
BEGIN | DECLARE ch SCROLL CURSOR WITH HOLD FOR SELECT id, c FROM t ORDER BY c | COMMIT | FETCH LAST FROM ch | FETCH ABSOLUTE 1 FROM ch | CLOSE ch
BEGIN | DECLARE ch CURSOR WITH HOLD FOR SELECT 1 / length(c::text) FROM t | COMMIT
BEGIN | SAVEPOINT u | DECLARE ch CURSOR WITH HOLD FOR SELECT c FROM t ORDER BY id | FETCH 1 FROM ch | ROLLBACK TO u | FETCH 1 FROM ch | COMMIT | FETCH 1 FROM ch
BEGIN | SAVEPOINT u | SELECT c FROM t | ROLLBACK TO u | SELECT nextval('nowhere') | ROLLBACK
BEGIN | SAVEPOINT u | UPDATE people SET name = NULL WHERE id = 3 | ROLLBACK TO u | SELECT 1 / 0 | ROLLBACK
BEGIN | SAVEPOINT u | INSERT INTO log (person, body) VALUES (3, 'bad') | ROLLBACK TO u | INSERT INTO log (person, body) VALUES (2, 'odd') | RELEASE u | COMMIT
BEGIN | SAVEPOINT u | UPDATE spot SET label = 'bad' WHERE id = 3 | RELEASE u | COMMIT
BEGIN | SAVEPOINT u | DELETE FROM people WHERE c IS NULL | ROLLBACK TO u | SELECT count(*) FROM log | COMMIT
BEGIN | SAVEPOINT u | DELETE FROM people WHERE id < 4 | SELECT count(*) FROM hidden | ROLLBACK TO u | COMMIT
TRUNCATE ledger RESTART IDENTITY | INSERT INTO ledger (label, secret) VALUES ('n', 'x') RETURNING id, n, secret | SELECT secret IS NULL FROM ledger
TRUNCATE ledger RESTART IDENTITY | INSERT INTO ledger (label) SELECT 'n' FROM people WHERE c IS NULL | INSERT INTO ledger (label) VALUES ('m') RETURNING id, n
TRUNCATE ledger CONTINUE IDENTITY | INSERT INTO ledger (label) SELECT c FROM people | INSERT INTO ledger (label) VALUES ('m') RETURNING id, n
BEGIN | TRUNCATE ledger RESTART IDENTITY | SAVEPOINT u | INSERT INTO ledger (label) SELECT secret FROM ledger | ROLLBACK TO u | INSERT INTO ledger (label) VALUES ('m') RETURNING id | ROLLBACK
TRUNCATE people, log, hidden RESTART IDENTITY
TRUNCATE people CASCADE
TRUNCATE spot CASCADE
17 MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED THEN UPDATE SET label = 'm' RETURNING people.c
17 MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED THEN UPDATE SET label = 'm' RETURNING merge_action(), people.c IS NULL, spot.id
17 MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED AND people.c IS NULL THEN DELETE WHEN MATCHED THEN DO NOTHING RETURNING merge_action(), spot.id
17 MERGE INTO spot USING (SELECT id, c AS v FROM people) q ON spot.id = q.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, label) VALUES (q.id, 'm') RETURNING q, spot.label
17 WITH w AS (MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED THEN UPDATE SET label = 'm' RETURNING people.c AS v) SELECT count(*) FROM w WHERE v IS NULL
17 MERGE INTO v_turned v USING (VALUES (1, 'x'), (2, 'eu')) q (i, x) ON v.id = q.i WHEN MATCHED THEN UPDATE SET tag = q.x RETURNING v.tag | SELECT hs FROM keyed ORDER BY id
18 MERGE INTO spot USING people ON spot.id = people.id WHEN MATCHED THEN UPDATE SET label = people.c RETURNING old.label, new.label
18 UPDATE t SET id = id WHERE id = 1 RETURNING coalesce(old.c, new.c)
18 UPDATE t SET id = id WHERE id = 1 RETURNING old.c = new.c
18 UPDATE t SET id = id WHERE id = 1 RETURNING (old).c, (SELECT new.c)
18 UPDATE t SET id = id WHERE id = 1 RETURNING WITH (OLD AS o, NEW AS n) o, n
18 UPDATE t SET id = id WHERE id < 3 RETURNING old.*
18 INSERT INTO slots (id) VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET label = 'n' RETURNING old.code, new.code, old.pay
18 INSERT INTO slots (id) VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET label = 'n' RETURNING old.code IS NULL
18 UPDATE v_turned SET tag = 'x' WHERE id = 1 RETURNING old.tag, new.tag
18 WITH w AS (DELETE FROM sales WHERE id < 3 RETURNING old.secret AS v) SELECT count(*) FROM w WHERE v IS NULL
`), "\n")

var probed = regexp.MustCompile(`\b[cdt]\b`)

// probe tells of one protected column: it is the next of them.
func (g *Generator) probe() *Step {
	text := probes[g.next%len(probes)]
	g.next++
	if n := since.FindString(text); n != "" {
		if major, err := strconv.Atoi(strings.TrimSpace(n)); err != nil || major > g.major {
			return g.probe()
		}
		text = text[len(n):]
	}
	t := &tables[0]
	if !strings.Contains(text, t.name) {
		for t = g.table(); !t.protects(); t = g.table() {
		}
	}
	g.touched = true
	var hidden []string
	for _, c := range t.columns {
		if c.protected() && (!c.closed() || g.odds(8)) {
			hidden = append(hidden, c.name)
		}
	}
	if len(hidden) == 0 {
		hidden = []string{t.columns[0].name}
	}
	words := map[string]string{"t": t.name, "c": g.pick(hidden...), "d": g.pick(hidden...)}
	text = probed.ReplaceAllStringFunc(text, func(word string) string { return words[word] })
	s := g.plain("probe", text, true)
	s.Messages = nil
	for part := range strings.SplitSeq(text, " | ") {
		s.Messages = append(s.Messages, &pgproto3.Query{String: part})
	}
	return s
}
