package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// way is one to send a statement: batches of messages, each up to what the
// server answers with ReadyForQuery. nil is a statement that cannot go that way.
type way struct {
	name, title string
	batches     func(text string) [][]pgproto3.FrontendMessage
}

func query(text string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{&pgproto3.Query{String: text}}
}

// bound are the messages of a statement by Parse and Bind.
func bound(name, text string, format int16) [][]pgproto3.FrontendMessage {
	bind := &pgproto3.Bind{PreparedStatement: name, ResultFormatCodes: []int16{format}}
	if name == "" {
		return [][]pgproto3.FrontendMessage{{&pgproto3.Parse{Query: text}, bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}}
	}
	again := []pgproto3.FrontendMessage{bind, &pgproto3.Execute{}, &pgproto3.Sync{}} // undescribed
	if leads(text, "SELECT", "WITH", "VALUES", "TABLE") {
		again = slices.Insert(again, 1, pgproto3.FrontendMessage(&pgproto3.Execute{MaxRows: 1})) // and in pieces
	}
	return [][]pgproto3.FrontendMessage{{&pgproto3.Parse{Name: name, Query: text}, &pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Sync{}}, again, again}
}

// leads says whether a statement begins with one of these words.
func leads(text string, words ...string) bool {
	word := strings.ToUpper(strings.TrimLeft(text, " \t\n\r\f(;"))
	return slices.ContainsFunc(words, func(w string) bool {
		rest, ok := strings.CutPrefix(word, w)
		return ok && (rest == "" || !(rest[0] >= 'A' && rest[0] <= 'Z' || rest[0] == '_'))
	})
}

// ways are those beside the Query message that a case is written for.
var ways = []way{
	{"X", "Parse, Bind and Execute, text", func(text string) [][]pgproto3.FrontendMessage { return bound("", text, 0) }},
	{"XB", "Parse, Bind and Execute, binary", func(text string) [][]pgproto3.FrontendMessage { return bound("", text, 1) }},
	{"N", "a named statement, text", func(text string) [][]pgproto3.FrontendMessage { return bound("n0", text, 0) }},
	{"NB", "a named statement, binary", func(text string) [][]pgproto3.FrontendMessage { return bound("n1", text, 1) }},
	{"P", "PREPARE and EXECUTE", func(text string) [][]pgproto3.FrontendMessage {
		if !leads(text, "SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE") {
			return nil
		}
		return [][]pgproto3.FrontendMessage{query("PREPARE bp AS " + text), query("EXECUTE bp")}
	}},
	{"D", "DECLARE and FETCH", func(text string) [][]pgproto3.FrontendMessage {
		if !leads(text, "SELECT", "WITH", "VALUES", "TABLE") {
			return nil
		}
		return [][]pgproto3.FrontendMessage{query("DECLARE bc CURSOR FOR " + text), query("FETCH ALL FROM bc")}
	}},
	{"DB", "a binary cursor, held over COMMIT", func(text string) [][]pgproto3.FrontendMessage {
		if !leads(text, "SELECT", "WITH", "VALUES", "TABLE") {
			return nil
		}
		return [][]pgproto3.FrontendMessage{query("DECLARE bh BINARY CURSOR WITH HOLD FOR " + text), query("COMMIT"), query("FETCH ALL FROM bh"), query("CLOSE bh")}
	}},
	{"C", "COPY (…) TO STDOUT, text", func(text string) [][]pgproto3.FrontendMessage { return copied(text, "") }},
	{"CB", "COPY (…) TO STDOUT, binary", func(text string) [][]pgproto3.FrontendMessage { return copied(text, " (FORMAT binary)") }},
}

func copied(text, options string) [][]pgproto3.FrontendMessage {
	if !leads(text, "SELECT", "WITH", "VALUES", "TABLE") && !strings.Contains(strings.ToUpper(text), "RETURNING") {
		return nil
	}
	return [][]pgproto3.FrontendMessage{query("COPY (" + text + ") TO STDOUT" + options)}
}

// inForms runs a case's last statement in each form that it can have, within a
// transaction that is rolled back, and gives what came of each: R where it was
// refused or failed, S where it was answered, - where it cannot go that way.
func (w *bypassWorld) inForms(t *testing.T, k *bypass) (verdicts []string) {
	t.Helper()
	var c *wireClient
	defer func() {
		if c != nil {
			c.conn.Close()
		}
	}()
	last := len(k.SQL) - 1
	text := strings.TrimRight(w.fill(k.SQL[last], "bypass"), "; \n")
	for _, f := range ways {
		batches := f.batches(text)
		if batches == nil || strings.Contains(k.SQL[last], ";") || leads(text, "COPY", "BEGIN", "COMMIT") && f.name != "X" {
			verdicts = append(verdicts, "-")
			continue
		}
		if c == nil {
			var err error
			if c, err = dialServer(w.port, "app", w.tokens[w.n%len(w.tokens)], "bypass"); err != nil {
				t.Fatalf("%s: %v", k.ID, err)
			}
			w.n++
		}
		from := len(c.got.Bytes())
		before := c.transcript.Len()
		ended := c.query("BEGIN")
		for _, earlier := range k.SQL[:last] {
			if ended == nil {
				ended = c.query(w.fill(earlier, "bypass"))
			}
		}
		c.errors, c.denied = 0, 0
		for _, batch := range batches {
			if ended == nil {
				ended = c.send(batch...)
			}
		}
		refused, denied := c.errors > 0, c.denied > 0
		if ended == nil {
			ended = c.query("ROLLBACK")
		}
		if ended == nil {
			ended = c.query("DEALLOCATE ALL")
		}
		expected := k.wants()
		got := c.got.Bytes()[from:]
		where := fmt.Sprintf("%s by %s: %q\n%s", k.ID, f.title, text, c.transcript.String()[before:])
		switch {
		case ended != nil:
			t.Errorf("%s: the session ended: %v", where, ended)
		case w.shows(got) != "":
			t.Errorf("%s: it leaks %s", where, w.shows(got))
		case expected == "deny" && !refused:
			t.Errorf("%s: it is not refused", where)
		case (expected == "allow" || expected == "mask") && denied:
			t.Errorf("%s: it is refused", where)
		}
		if verdicts = append(verdicts, map[bool]string{true: "R", false: "S"}[refused]); ended != nil {
			c.conn.Close()
			c = nil
		}
	}
	return verdicts
}

// wants is what a case has to come out as.
func (k *bypass) wants() string {
	if otherwise[k.ID] != "" {
		return otherwise[k.ID]
	}
	return k.Expected
}

const leakFile = "../../docs/leak-matrix.md"

// matrixRow is one case and what came of it in each form.
type matrixRow struct {
	id, group, channel, text string
	verdicts                 []string
}

// leakTable gives the document: a case that this server does not have keeps the
// line that another server's run has written.
func leakTable(old string, rows []matrixRow, all []bypass) string {
	lines := map[string]string{}
	for line := range strings.Lines(old) {
		if id, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok && strings.HasPrefix(line, "| ") {
			lines[id] = line
		}
	}
	for _, r := range rows {
		text := []rune(strings.Join(strings.Fields(r.text), " "))
		if len(text) > 110 {
			text = append(text[:110], '…')
		}
		code := strings.NewReplacer("|", "\\|", "`", "'").Replace(string(text))
		lines[r.id] = fmt.Sprintf("| %s | %s | `%s` | %s |\n", r.id, r.channel, code, strings.Join(r.verdicts, " | "))
	}
	var b, names strings.Builder
	rule := "|---|---|---|---"
	fmt.Fprintf(&names, "Q")
	b.WriteString(leakHead)
	for _, f := range ways {
		fmt.Fprintf(&b, "| %s | %s |\n", f.name, f.title)
		fmt.Fprintf(&names, " | %s", f.name)
		rule += "|---"
	}
	type count struct{ refused, shown int }
	byGroup, byChannel := map[string]*count{}, map[string]*count{}
	var groups, channels []string
	var list strings.Builder
	for i := range all {
		line := lines[all[i].ID]
		if line == "" {
			continue
		}
		list.WriteString(line)
		cells := strings.Split(strings.TrimSuffix(line, " |\n"), " | ")
		verdicts := cells[len(cells)-len(ways)-1:]
		for m, key := range map[*map[string]*count]string{&byGroup: all[i].Group, &byChannel: channelOf(&all[i])} {
			if (*m)[key] == nil {
				(*m)[key] = &count{}
				if m == &byGroup {
					groups = append(groups, key)
				} else {
					channels = append(channels, key)
				}
			}
			for _, v := range verdicts {
				switch v {
				case "R":
					(*m)[key].refused++
				case "S":
					(*m)[key].shown++
				}
			}
		}
	}
	table := func(title string, keys []string, m map[string]*count) {
		slices.Sort(keys)
		fmt.Fprintf(&b, "\n| %s | refused | answered, with nothing protected in it | leaks |\n|---|---|---|---|\n", title)
		for _, k := range keys {
			fmt.Fprintf(&b, "| %s | %d | %d | 0 |\n", k, m[k].refused, m[k].shown)
		}
	}
	table("construct", groups, byGroup)
	table("channel in which it leaks elsewhere", channels, byChannel)
	b.WriteString(matrixInterference)
	b.WriteString(matrixFilter)
	fmt.Fprintf(&b, "\n## Case by case\n\n| case | channel | its last statement | %s |\n%s|\n%s", names.String(), rule, list.String())
	return b.String()
}

func channelOf(k *bypass) string {
	switch {
	case k.Channel != "":
		return k.Channel
	case k.Protocol:
		return "messages"
	}
	return "none: it has to pass"
}

const leakHead = `# Leak matrix

Made by ` + "`make docs`" + ` from the runs of TestBypass on servers 15 and 18; the test fails where it is stale. Each case is a statement that leaks or escapes
elsewhere. It is first run at the server itself, where it has to be alive, then through the gateway, with values of that run that are searched in every byte
which the client gets, as they are and as an expression could give them (hexadecimal, base64, MD5, reversed, …), and then in everything that the
gateway has written: audit log, recordings, store, and its own log.

R is refused (or failed at the server), S answered with nothing protected in it, - a statement that cannot go that way.

| | the statement goes by |
|---|---|
| Q | a Query message |
`

// leakMatrix compares the document with what has come of this run, or writes it.
func leakMatrix(t *testing.T, rows []matrixRow, all []bypass) {
	t.Helper()
	old, err := os.ReadFile(leakFile)
	write := os.Getenv("TASKGATE_WRITE_DOCS") != ""
	if err != nil && !write {
		t.Fatal(err)
	}
	now := leakTable(string(old), rows, all)
	if write {
		if err := os.WriteFile(leakFile, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if bytes.Equal(old, []byte(now)) {
		return
	}
	was := strings.Split(string(old), "\n")
	for line := range strings.Lines(now) {
		if line = strings.TrimSuffix(line, "\n"); !slices.Contains(was, line) {
			t.Errorf("docs/leak-matrix.md is stale (make docs): it has not\n%s", line)
		}
	}
	if !t.Failed() {
		t.Error("docs/leak-matrix.md is stale: make docs")
	}
}

const matrixInterference = `
## Channels

What TestPM01NonInterference (` + "`make fuzz`" + ` without an end) compares: two databases are equal but for protected values, unlisted columns, and unlisted tables with the number of their rows. Random
statements go to both through the gateway, and every byte that comes back has to be the same, but for session ids; of HASH and TOKENIZE which are equal. They go under three tasks: one
that shows no error, one that shows errors, and one that is ` + "`blind`" + `. Of what is generated at least a fifth has to be accepted under the first two, and half under the last; some of it are
probes, statements of one slip each, one for each way in which something is learned that is not shown. TestPM01NonInterferenceSQLsmith compares the same with what SQLsmith generates, which knows
nothing of tasks and masks.

| channel | constructs that reach for it |
|---|---|
| RowDescription, DataRow in text and binary | copies, computing, conditions, joins, LATERAL, subqueries, WITH (recursive, and writing), set operations, windows, grouping sets, whole rows, RETURNING, views of each kind, partitions, inheritance, row-level security |
| CopyData, CopyOutResponse | COPY of tables and queries in text, CSV and binary |
| CommandComplete | counts of writes, of COPY and MOVE, of ON CONFLICT and MERGE, cascades and triggers beside them |
| ErrorResponse | casts, division, constraints of each kind over listed and protected columns, at once and deferred to COMMIT, domains, policies, WITH CHECK OPTION, triggers, COPY with wrong data, refusals |
| NoticeResponse | triggers that print whole rows |
| NotificationResponse | triggers that send rows |
| ParameterStatus | SET, set_config of constants and of columns |
| ParameterDescription, NoData, ParseComplete, PortalSuspended | named and unnamed statements, portals in pieces, cursors of DECLARE, PREPARE and EXECUTE |
| plans of EXPLAIN | of all of these, and over a table that the server keeps statistics of |
| the catalogs | statistics, sizes, counters, definitions, other sessions' queries |
| ReadyForQuery, and the end of a session | transactions, savepoints, and errors within |
`

const matrixFilter = `
## Under ` + "`filter: eq`" + `

No more of the cases below pass where what they reach for has a filter (TestPM01BypassFilter). What passes beside is one comparison along the ANDs of a WHERE, and tells which rows hold a value that the
text names (TestPM13Filter): of two databases that are equal but for protected values, and in which the same rows hold those that are named, each answer is the same.

| construct | what of a column with a filter is told |
|---|---|
| column = constant or parameter, column IN (constants and parameters), at most 10 in a text | which rows hold it |
| the same within subqueries, WITH, cursors, COPY (…), PREPARE, UPDATE, DELETE, INSERT … SELECT, through views that copy the column | which rows hold it |
| NOT, OR, CASE, IS NULL, IS DISTINCT FROM, <>, <, LIKE, BETWEEN, ANY (array), IN (query), rows, casts, COLLATE, OPERATOR(…), another column | nothing: refused |
| JOIN … ON, USING, HAVING, FILTER, ON CONFLICT, MERGE, outputs, grouping, sorting, EXPLAIN, a view's own condition, generated columns, what is kept by CREATE TABLE … AS or CREATE VIEW | nothing: refused |
| bool, enumerations, floats, JSON, arrays, types that users have made | nothing: refused, and a fault of check --live |
`

// TestLeakMatrix: the document is what its own lines make it, so that it is not
// written by hand and has each case; what stands in the lines holds TestBypass.
func TestLeakMatrix(t *testing.T) {
	all := corpus(t)
	leakMatrix(t, nil, all)
	raw, err := os.ReadFile(leakFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if elsewhere[k.ID] == "" && k.MinPG <= 18 && !strings.Contains(string(raw), "\n| "+k.ID+" | ") {
			t.Errorf("docs/leak-matrix.md has no %s: make docs", k.ID)
		}
	}
}
