package sqlgen

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Step is what a client sends at once, up to a Query or Sync.
type Step struct {
	Text     string // of the statement
	Form     string // how it is sent
	Kind     string // of construct
	Touches  bool   // a table with protected columns
	Judged   bool   // more than the floor that every task has
	Messages []pgproto3.FrontendMessage
}

func (s *Step) String() string { return fmt.Sprintf("%-8s %s", s.Form, s.Text) }

// wired is a statement that the session has prepared by the protocol.
type wired struct {
	name, text string
	params     []param
	touches    bool
}

// Step gives what comes next. failed says that the transaction is aborted, open
// that there is one.
func (g *Generator) Step(open, failed bool) *Step {
	g.wild, g.slips, g.touched, g.names, g.ctes, g.params, g.bound = g.odds(12), 0, false, 0, nil, nil, false
	if g.odds(3) {
		g.slips = 1
	}
	if len(g.todo) > 0 {
		return g.follow(failed)
	}
	if failed && !g.odds(6) {
		return g.plain("control", g.pick("ROLLBACK", "ROLLBACK", "ROLLBACK TO s1", "COMMIT"), false)
	}
	switch g.IntN(40) {
	case 0, 1, 2:
		if !open {
			return g.plain("control", "BEGIN"+g.pick("", "", "", " ISOLATION LEVEL REPEATABLE READ", " READ ONLY", " ISOLATION LEVEL SERIALIZABLE"), false)
		}
		return g.plain("control", g.pick("COMMIT", "ROLLBACK", "SAVEPOINT s1", "SAVEPOINT s1", "ROLLBACK TO s1", "RELEASE s1", "SET CONSTRAINTS ALL IMMEDIATE", "COMMIT AND CHAIN"), false)
	case 3:
		return g.plain("setting", g.setting(), true)
	case 4:
		return g.plain("catalog", g.catalog(), true)
	case 5, 6:
		return g.plain("explain", g.explain(), true)
	case 7, 8:
		return g.copyOut()
	case 9:
		return g.copyIn()
	case 10, 11:
		if text := g.cursor(open); text != "" {
			return g.plain("cursor", text, true)
		}
	case 12, 13:
		return g.plain("prepare", g.prepare(), true)
	case 14:
		return g.plain("several", g.statement()+"; "+g.statement(), true)
	case 17:
		if g.odds(2) {
			return g.plain("truncate", g.truncate(), true)
		}
	case 18:
		g.begin(open)
		return g.follow(failed)
	case 16:
		return g.plain("temporary", g.temporary(), true)
	case 15:
		if g.odds(12) {
			return &Step{Text: "length", Form: "function", Kind: "odd", Judged: true, Messages: []pgproto3.FrontendMessage{&pgproto3.FunctionCall{Function: 1257, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("x")}}}}
		}
		return g.plain("odd", g.pick("LOCK TABLE grp IN SHARE MODE", "TRUNCATE log", "TRUNCATE people CASCADE", "TRUNCATE trail RESTART IDENTITY", "SELECT last_value FROM ledger_id_seq", "ALTER SEQUENCE ledger_n_seq RESTART", "LISTEN trail", "NOTIFY trail, 'x'", "SELECT nextval('counter')", "CREATE TEMP TABLE q AS TABLE people", "SELECT * INTO q FROM people", "ALTER TABLE people ADD z int", "VACUUM people", "ANALYZE people",
			"REFRESH MATERIALIZED VIEW m_people", "DO $$ BEGIN RAISE NOTICE 'x'; END $$", "SELECT * FROM hidden", "SELECT count(*) FROM hidden", "SELECT v FROM v_vault, hidden", "COPY hidden TO STDOUT", "SELECT count(*) FROM trail", "SELECT 1 FROM people WHERE id = 1 AND EXISTS (SELECT FROM hidden)", "CALL p()", "SELECT 1/0", "selec 1", "SELECT 'a", "", "SELECT no_such(1)", "SELECT no_such FROM people"), true)
	}
	if g.odds(3) {
		return g.probe()
	}
	if g.odds(3) {
		g.bound = true
		s := g.extended()
		switch g.IntN(10) {
		case 0: // another behind it, skipped if it fails
			touched := g.touched
			g.touched, g.ctes, g.params = false, nil, nil
			next := g.extended()
			s.Text, s.Form, s.Touches = s.Text+" | "+next.Text, "pipeline", touched || s.Touches || next.Touches
			s.Messages = append(s.Messages[:len(s.Messages)-1], next.Messages...)
		case 1: // what is left of a portal, perhaps of an earlier one
			s.Messages = append(s.Messages, &pgproto3.Execute{Portal: "q", MaxRows: 1}, &pgproto3.Flush{}, &pgproto3.Execute{Portal: "q"}, &pgproto3.Close{ObjectType: 'P', Name: "q"}, &pgproto3.Sync{})
			s.Form = "resumed"
		}
		return s
	}
	return g.plain("query", g.statement(), true)
}

func (g *Generator) statement() string {
	if g.odds(3) {
		return g.change()
	}
	if g.odds(12) { // one that writes within WITH
		text := g.change()
		for strings.Contains(text, "MERGE") && g.major < 17 {
			text = g.change()
		}
		q, _ := g.query(1, nil)
		if strings.Contains(text, " RETURNING ") {
			q = g.pick(q, "SELECT * FROM w", "SELECT count(*) FROM w")
		}
		if !strings.HasPrefix(q, "WITH") {
			return "WITH w AS (" + text + ") " + q
		}
	}
	text, _ := g.query(g.IntN(3), nil)
	return text
}

func (g *Generator) plain(kind, text string, judged bool) *Step {
	return &Step{Text: text, Form: "simple", Kind: kind, Touches: g.touched, Judged: judged, Messages: []pgproto3.FrontendMessage{&pgproto3.Query{String: text}}}
}

// extended sends a statement by Parse, Bind and Execute, or binds one again.
func (g *Generator) extended() *Step {
	var w wired
	var batch []pgproto3.FrontendMessage
	if len(g.wires) > 0 && g.odds(4) {
		w = g.wires[g.IntN(len(g.wires))]
		if g.odds(10) {
			batch = append(batch, &pgproto3.Close{ObjectType: 'S', Name: w.name})
		}
	} else {
		w.text = g.statement()
		w.params, w.touches = g.params, g.touched
		if g.odds(3) {
			w.name = fmt.Sprintf("p%d", g.IntN(5))
			g.wires = append(g.wires, w)
			if len(g.wires) > 6 {
				g.wires = g.wires[1:]
			}
			if g.odds(2) {
				batch = append(batch, &pgproto3.Close{ObjectType: 'S', Name: w.name})
			}
		}
		p := &pgproto3.Parse{Name: w.name, Query: w.text}
		if g.odds(2) {
			for _, v := range w.params {
				p.ParameterOIDs = append(p.ParameterOIDs, oids[v.kind])
			}
		}
		batch = append(batch, p)
	}
	if g.odds(3) {
		batch = append(batch, &pgproto3.Describe{ObjectType: 'S', Name: w.name})
	}
	b := &pgproto3.Bind{PreparedStatement: w.name, DestinationPortal: g.pick("", "", "q")}
	switch g.IntN(3) {
	case 0:
		b.ResultFormatCodes = []int16{1}
	case 1:
		b.ResultFormatCodes = []int16{0}
	}
	form := "extended"
	for _, v := range w.params {
		raw, format := v.wire(g.odds(2))
		b.Parameters, b.ParameterFormatCodes = append(b.Parameters, raw), append(b.ParameterFormatCodes, format)
	}
	batch = append(batch, b)
	if g.odds(2) {
		batch = append(batch, &pgproto3.Describe{ObjectType: 'P', Name: b.DestinationPortal})
	}
	most := uint32(0)
	if g.odds(5) {
		most = 2
	}
	batch = append(batch, &pgproto3.Execute{Portal: b.DestinationPortal, MaxRows: most})
	for most > 0 && g.odds(2) {
		batch = append(batch, &pgproto3.Execute{Portal: b.DestinationPortal, MaxRows: most})
	}
	if len(b.ResultFormatCodes) == 1 && b.ResultFormatCodes[0] == 1 {
		form = "binary"
	}
	if w.name != "" {
		form = "named"
	}
	return &Step{Text: fmt.Sprintf("%s %v", w.text, w.params), Form: form, Kind: "query", Touches: w.touches, Judged: true, Messages: append(batch, &pgproto3.Sync{})}
}

var oids = map[string]uint32{"int": 23, "text": 25, "bool": 16, "numeric": 1700, "date": 1082}

// wire gives a parameter as it is sent.
func (p param) wire(inBinary bool) ([]byte, int16) {
	switch {
	case p.text == "-":
		return nil, 0
	case inBinary && p.kind == "text":
		return []byte(p.text), 1
	case inBinary && p.kind == "int":
		var n uint32
		if _, err := fmt.Sscan(p.text, &n); err != nil {
			return []byte{1, 2, 3}, 1
		}
		return binary.BigEndian.AppendUint32(nil, n), 1
	}
	return []byte(p.text), 0
}

// temporary makes tables of the session's own and uses them. Their OIDs are not the
// same in two databases: rows are asked for as text, so that no result names them.
func (g *Generator) temporary() string {
	if g.odds(3) {
		return g.make()
	} else if len(g.temps) > 0 && g.odds(2) {
		return g.use()
	}
	name := g.pick("own1", "own2")
	q, _ := g.query(g.IntN(2), nil)
	if g.own == 0 || g.odds(3) {
		g.own++
		return g.pick("CREATE TEMP TABLE "+name+g.pick("", "", " ON COMMIT DROP", " ON COMMIT DELETE ROWS")+" AS "+q, "CREATE TEMP TABLE IF NOT EXISTS "+name+" (id int PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> 'y'), n serial)", "CREATE TEMP TABLE "+name+" (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text, n int GENERATED ALWAYS AS IDENTITY)", "SELECT id, name INTO TEMP "+name+" FROM people",
			"SELECT ssn, email INTO "+name+" FROM people", "CREATE TEMP TABLE "+name+" (LIKE people)", "CREATE TEMP TABLE "+name+" (LIKE people INCLUDING ALL)", "CREATE TEMP TABLE "+name+" (LIKE grp INCLUDING ALL)", "CREATE TEMP TABLE people (id int)", "CREATE TEMP TABLE "+name+" () INHERITS (people)",
			"CREATE OR REPLACE TEMP VIEW "+name+" AS "+q, "CREATE TEMP VIEW "+name+" AS "+q, "CREATE OR REPLACE TEMP VIEW "+name+" AS SELECT id, name, age FROM people WHERE age > 20", "CREATE TEMP VIEW "+name+" AS SELECT id, ssn AS v FROM people", "CREATE TEMP VIEW "+name+" AS SELECT * FROM v_adults")
	}
	return g.pick("SELECT t::text FROM "+name+" t ORDER BY 1", "SELECT t::text FROM pg_temp."+name+" t ORDER BY 1", "SELECT count(*) FROM "+name, "INSERT INTO "+name+" "+q, "INSERT INTO "+name+" VALUES (1, 'a'), (2, 'y')", "INSERT INTO "+name+" (id, v) SELECT id, ssn FROM people", "INSERT INTO "+name+" (id) SELECT id FROM people ON CONFLICT DO NOTHING",
		"UPDATE "+name+" SET id = id + 1", "UPDATE "+name+" t SET v = p.name FROM people p WHERE p.id = t.id", "UPDATE "+name+" t SET v = p.ssn FROM people p WHERE p.id = t.id", "DELETE FROM "+name, "TRUNCATE "+name, "TRUNCATE "+name+" RESTART IDENTITY", "TRUNCATE "+name+" CONTINUE IDENTITY", "INSERT INTO "+name+" (id) VALUES (9), (9) ON CONFLICT DO NOTHING RETURNING n", "COPY "+name+" TO STDOUT", "CREATE UNIQUE INDEX ON "+name+" (id)", "ALTER TABLE "+name+" ADD z int DEFAULT 4", "ALTER TABLE "+name+" RENAME TO vault",
		"SELECT p.id, t::text FROM people p JOIN "+name+" t USING (id) ORDER BY 1, 2", "SELECT p.ssn, count(t) FROM people p LEFT JOIN "+name+" t ON t.id = p.id GROUP BY p.id, p.ssn ORDER BY p.id", "DROP TABLE "+name, "DROP TABLE IF EXISTS "+name+" CASCADE", "DISCARD TEMP", "DROP VIEW "+name, "SELECT p.name, p.email, t.id + 0 FROM "+name+" t JOIN people p USING (id) WHERE t.id < 9 ORDER BY 3", "ANALYZE "+name, "VACUUM FULL "+name, "CLUSTER "+name+" USING "+name+"_id_idx", "REINDEX TABLE "+name, "EXPLAIN (COSTS OFF) SELECT id FROM "+name, "WITH d AS (DELETE FROM "+name+" RETURNING *) SELECT count(*) FROM d")
}

func (g *Generator) explain() string {
	return "EXPLAIN " + g.pick("", "", "(COSTS OFF) ", "(VERBOSE) ", "(FORMAT JSON) ", "(ANALYZE, TIMING OFF, SUMMARY OFF) ", "(ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ", "(SETTINGS, COSTS OFF) ") + g.statement()
}

func (g *Generator) cursor(open bool) string {
	name := g.pick("c1", "c2")
	if len(g.cursors) == 0 || g.odds(3) {
		hold := ""
		if !open || g.odds(4) {
			hold = "WITH HOLD "
		}
		text, _ := g.query(1, nil)
		g.cursors = append(g.cursors, name)
		return "DECLARE " + name + g.pick(" ", " SCROLL ", " BINARY ", " INSENSITIVE ", " NO SCROLL ", " ASENSITIVE ") + "CURSOR " + hold + "FOR " + text
	}
	return g.pick("FETCH "+name, "FETCH ALL FROM "+name, "FETCH BACKWARD 1 FROM "+name, "MOVE 2 "+name, "FETCH ABSOLUTE 2 FROM "+name, "FETCH FORWARD 2 IN "+name, "FETCH LAST "+name, "FETCH PRIOR "+name, "MOVE BACKWARD ALL IN "+name, "FETCH -1 "+name, "FETCH 0 "+name, "CLOSE "+name, "CLOSE ALL", "FETCH RELATIVE 0 FROM "+name, "DELETE FROM grp WHERE CURRENT OF "+name)
}

func (g *Generator) prepare() string {
	name := g.pick("s1", "s2", "s3")
	if len(g.prepared) == 0 || g.odds(2) {
		g.prepared = append(g.prepared, name)
		g.bound = true
		text := g.statement()
		types := make([]string, len(g.params))
		for i, p := range g.params {
			types[i] = p.kind
		}
		list := ""
		if len(types) > 0 {
			list = " (" + strings.Join(types, ", ") + ")"
		}
		return "PREPARE " + name + list + " AS " + text
	}
	return g.pick("EXECUTE "+name, "EXECUTE "+name+"(1)", "EXECUTE "+name+"('x')", "EXECUTE "+name+"(1, 'x')", "EXECUTE "+name+"(NULL)", "DEALLOCATE "+name, "EXPLAIN EXECUTE "+name, "DEALLOCATE ALL")
}

func (g *Generator) setting() string {
	return g.pick("SET datestyle = 'German'", "SET datestyle = 'ISO, MDY'", "SET timezone = 'Asia/Tokyo'", "SET timezone = 'UTC'", "SET bytea_output = 'escape'", "SET extra_float_digits = 0", "SHOW datestyle", "RESET ALL", "SET search_path = public, pg_catalog", "SET LOCAL timezone = 'UTC'",
		"SELECT set_config('application_name', 'x', false)", "SELECT set_config('application_name', ssn, false) FROM people", "SELECT set_config('application_name', name, false) FROM people WHERE id = 1", "SET client_min_messages = notice", "SET client_min_messages = debug5", "SET client_min_messages = error", "SET enable_seqscan = off",
		"SET intervalstyle = 'iso_8601'", "SET work_mem = '64kB'", "SET debug_print_plan = on", "SET row_security = off", "SET TRANSACTION READ ONLY", "SET ROLE app", "SELECT current_setting('application_name')", "SET statement_timeout = '20s'", "DISCARD PLANS", "SET xmlbinary = 'hex'", "SET application_name = 'me'")
}

// catalog asks the server for what it knows of tables and values.
func (g *Generator) catalog() string {
	g.touched = true
	c := g.pick("p.ssn", "p.email", "p.name", "p.raw", "p.tags")
	return g.pick("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1", "SELECT reltuples, relpages FROM pg_class WHERE relname IN ('people', 'hidden') ORDER BY relname", "SELECT * FROM pg_stats WHERE tablename = 'people'",
		"SELECT most_common_vals, n_distinct, null_frac, avg_width FROM pg_stats", "SELECT n_live_tup, n_tup_ins FROM pg_stat_user_tables WHERE relname = 'hidden'", "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'people'::regclass ORDER BY 1", "SELECT indexdef FROM pg_indexes WHERE tablename = 'people' ORDER BY 1",
		"SELECT pg_relation_size('hidden')", "SELECT pg_total_relation_size('people')", "SELECT pg_size_pretty(pg_table_size('hidden'))", "SELECT column_name, data_type, column_default FROM information_schema.columns WHERE table_name = 'people' ORDER BY ordinal_position", "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
		"SELECT pg_column_size("+c+") FROM people p", "SELECT pg_typeof("+c+") FROM people p LIMIT 1", "SELECT name, statement FROM pg_prepared_statements ORDER BY 1", "SELECT name, statement FROM pg_cursors ORDER BY 1", "SELECT query FROM pg_stat_activity WHERE query LIKE '%hidden%' AND pid <> pg_backend_pid()", "SELECT last_value FROM trail_at_seq",
		"SELECT pg_sequence_last_value('trail_at_seq')", "SELECT last_value FROM pg_sequences ORDER BY sequencename", "SELECT pg_get_viewdef('v_people'::regclass)", "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1", "SELECT prosrc FROM pg_proc WHERE proname = 'tell'", "SELECT attname, attgenerated FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 ORDER BY attnum",
		"SELECT loread(1, 1)", "SELECT pg_read_file('postgresql.conf')", "SELECT query_to_xml('SELECT * FROM people', true, true, '')", "SELECT table_to_xml('people', true, true, '')", "SELECT xmin IS NULL, ctid FROM people", "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef ORDER BY oid", "SELECT * FROM pg_locks WHERE relation = 'hidden'::regclass", "SELECT has_table_privilege('hidden', 'select')",
		"SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy", "SELECT count(*) FROM pg_stat_all_indexes WHERE relname = 'hidden' AND idx_scan > 0", "SELECT pg_relation_filenode('hidden') IS NULL", "SELECT obj_description('people'::regclass)", "SELECT currval('trail_at_seq')", "SELECT lastval()")
}
