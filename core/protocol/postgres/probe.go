package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// A second analyser, where the resource says `probe: on`: PostgreSQL itself
// reads a text before it is let through for the first time. It is made the body
// of a function of the session's own, which resolves its names and runs
// nothing; then the server's catalog says which relations and columns these
// are, and its own words for the text are read again. What our analysis does
// not know of is a refusal and an alarm. The transaction is rolled back.

// probeTime bounds one question.
const probeTime = 5 * time.Second

// probed counts how that went.
type probed struct{ agreed, disagreed, failed, left atomic.Uint64 }

// Probes are how often the server was asked what a text reads.
type Probes struct {
	Agreed, Disagreed uint64
	Failed            uint64 // it could not say, and the text was refused
	Left              uint64 // it was not asked: the text has no query, or runs what is not on the committed list
}

// Probes gives how often the server was asked what a text reads.
func (p *Protocol) Probes() Probes {
	return Probes{p.probed.agreed.Load(), p.probed.disagreed.Load(), p.probed.failed.Load(), p.probed.left.Load()}
}

// analysis is what a text does by our own reading.
func (p *Protocol) analysis(c *sql.Context, text string) (*sql.Analysis, error) {
	if p.analyze != nil {
		return p.analyze(c, text)
	}
	return sql.Analyze(c, text)
}

// probe holds the analysis of a text against what the server makes of it. A text
// that is not asked about passes, one that the server cannot be asked about does
// not.
func (c *conn) probe(ctx context.Context, under *sql.Context, a *sql.Analysis) error {
	for i := range a.Parts {
		p := &a.Parts[i]
		if p.Inner != nil {
			if err := c.probe(ctx, under, p.Inner); err != nil {
				return err
			}
			continue
		}
		if p.Body == "" || !p.Plain {
			c.p.probed.left.Add(1)
			continue
		}
		err := c.session.Note(ctx, "asks the server what a text reads")
		var r *resolved
		if err == nil {
			r, err = c.resolvedBy(ctx, under, p.Body)
		}
		var said *pgconn.PgError
		switch {
		case errors.As(err, &said) && (said.Code[:2] == "42" && said.Code != "42501" || said.Code == "0A000"): // of names, types and forms alone, as it would say to the client
			c.p.probed.failed.Add(1)
			return &sql.Error{Code: said.Code, Message: said.Message, Hint: said.Hint, Offset: -1}
		case err != nil:
			c.p.probed.failed.Add(1)
			c.p.log(c.session.ID(), "probe", err)
			return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.probe", Message: "the server could not be asked what this reads, as the resource demands (probe: on)", Hint: tellOperator}}
		}
		if what := r.beyond(under, a.Statement, i); what != "" {
			c.p.probed.disagreed.Add(1)
			c.p.log(c.session.ID(), "alarm", &gate.Alarm{What: "the server reads a text otherwise than it was judged: " + what + ": " + a.Statement.Text})
			return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.probe", Message: "refused: the server reads this otherwise than the gateway (" + what + ")", Hint: "write it another way, and " + tellOperator}}
		}
		c.p.probed.agreed.Add(1)
	}
	return nil
}

// resolved is what the server makes of a text.
type resolved struct {
	relations map[schema.OID]bool // that stand in a FROM, or are written
	uses      []dependency        // of its catalog
	excluded  bool                // it has ON CONFLICT DO UPDATE, by which the catalog has every column of what is inserted into
	text      string              // the statement in its own words, each name with its schema
}

// dependency is what a function's body depends on: the number of a catalog, of an
// object in it and of a column.
type dependency struct {
	class, object schema.OID
	column        int16
}

// What the numbers of catalogs stand for (pg_class.dat).
const (
	ofFunction = 1255
	ofRelation = 1259
	ofOperator = 2617
)

const probeName = "taskgate_probe"

var relid = regexp.MustCompile(`:relid (\d+)`)

// resolvedBy asks the server, on a connection of the gateway's own.
func (c *conn) resolvedBy(ctx context.Context, under *sql.Context, body string) (*resolved, error) {
	ctx, stop := context.WithTimeout(ctx, 4*probeTime) // it may have to connect first
	defer stop()
	begin := fmt.Sprintf("BEGIN; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %[1]d; SET LOCAL check_function_bodies = on", probeTime.Milliseconds())
	if path := under.SearchPath; path != nil || under.Login != nil {
		if path == nil {
			path = under.Login
		}
		quoted := make([]string, len(path))
		for i, name := range path {
			quoted[i] = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
		begin += "; SELECT pg_catalog.set_config('search_path', " + quoteLiteral(strings.Join(quoted, ", ")) + ", true)"
	}
	on, err := c.state.askOn(ctx, begin)
	if err != nil {
		return nil, err
	}
	defer c.state.asked(ctx, on)
	pg := on.conn.PgConn()
	var args string
	if strings.Contains(body, "$") {
		if args, err = c.argumentTypes(ctx, pg, under.Schema, body); err != nil {
			return nil, err
		}
	}
	// By the extended protocol: it takes one statement, whatever the body holds.
	if r := pg.ExecParams(ctx, "CREATE FUNCTION pg_temp."+probeName+" ("+args+") RETURNS void LANGUAGE sql BEGIN ATOMIC "+body+" ; END", nil, nil, nil, nil).Read(); r.Err != nil {
		return nil, r.Err
	}
	answers, err := pg.Exec(ctx, "SELECT pg_catalog.set_config('search_path', '', true); "+
		"SELECT p.prosqlbody::text, pg_catalog.pg_get_function_sqlbody(p.oid), (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', d.refclassid, d.refobjid, d.refobjsubid), ',') "+
		"FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid) FROM pg_catalog.pg_proc p "+
		"WHERE p.proname = '"+probeName+"' AND p.pronamespace = pg_catalog.pg_my_temp_schema()").ReadAll()
	if err != nil {
		return nil, err
	}
	if len(answers) != 2 || len(answers[1].Rows) != 1 || len(answers[1].Rows[0]) != 3 {
		return nil, errors.New("the server does not show what it has read")
	}
	row := answers[1].Rows[0]
	r := &resolved{relations: map[schema.OID]bool{}, text: string(row[1]), excluded: strings.Contains(string(row[0]), ":exclRelTlist (")}
	for _, m := range relid.FindAllSubmatch(row[0], -1) {
		if n, err := strconv.ParseUint(string(m[1]), 10, 32); err == nil && n != 0 {
			r.relations[schema.OID(n)] = true
		}
	}
	for one := range strings.SplitSeq(string(row[2]), ",") {
		var u dependency
		if _, err := fmt.Sscan(one, &u.class, &u.object, &u.column); err != nil && one != "" {
			return nil, fmt.Errorf("%q: %w", one, err)
		}
		r.uses = append(r.uses, u)
	}
	begun, ended := "BEGIN ATOMIC\n", ";\nEND"
	if !strings.HasPrefix(r.text, begun) || !strings.HasSuffix(r.text, ended) {
		return nil, errors.New("the server shows what it has read in a form that is not known")
	}
	r.text = r.text[len(begun) : len(r.text)-len(ended)]
	return r, nil
}

// argumentTypes gives the types of a text's parameters: those that the client has
// said, and those that the server finds.
func (c *conn) argumentTypes(ctx context.Context, pg *pgconn.PgConn, s *schema.Schema, body string) (string, error) {
	var given []uint32
	for i := 0; i+4 <= len(c.types); i += 4 {
		given = append(given, binary.BigEndian.Uint32(c.types[i:]))
	}
	st, err := pg.Prepare(ctx, "", body, given)
	if err != nil {
		return "", err
	}
	list := make([]string, len(st.ParamOIDs))
	for i, oid := range st.ParamOIDs {
		t := s.Types[oid]
		if t == nil {
			return "", fmt.Errorf("the type of parameter $%d is not known", i+1)
		}
		list[i] = quoteIdent(t.Name.Namespace) + "." + quoteIdent(t.Name.Name)
	}
	return strings.Join(list, ", "), nil
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// named are relations and columns, by their names.
type named map[string]map[string]bool

func (n named) add(object []string, columns ...string) {
	key := strings.Join(object, "\x00")
	if n[key] == nil {
		n[key] = map[string]bool{}
	}
	for _, c := range columns {
		n[key][c] = true
	}
}

func (n named) has(object []string, column string) bool {
	columns, ok := n[strings.Join(object, "\x00")]
	return ok && (column == "" || columns[column])
}

// direct are the relations and columns that one statement of a text names
// itself.
func direct(under *sql.Context, st *abi.Statement, part int) named {
	n := named{}
	for i := range st.Operations {
		if o := &st.Operations[i]; o.Statement == part && o.Via == "" && (o.Kind == abi.KindRelation || o.Kind == abi.KindSystem) {
			n.add(o.Object)
			for _, col := range o.Columns {
				n.add(o.Object, col.Name)
			}
			if o.Attrs&abi.Blind != 0 && len(o.Object) == 2 { // its subselect names all that is listed
				if r := under.Schema.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]; r != nil {
					n.add(o.Object, under.Blind.Listed(r)...)
				}
			}
		}
	}
	return n
}

// inserts says whether a statement inserts into a relation by its name.
func inserts(st *abi.Statement, part int, r *schema.Relation) bool {
	return anyOf(st.Operations, func(o *abi.Operation) bool {
		return o.Statement == part && o.Verb == "insert" && o.Via == "" && slices.Equal(o.Object, r.Name.Parts())
	})
}

// beyond gives what the server reads and the analysis of a statement does not
// know of, or nothing.
func (r *resolved) beyond(under *sql.Context, st *abi.Statement, part int) string {
	known := direct(under, st, part)
	for oid := range r.relations {
		switch rel := under.Schema.Relations[oid]; {
		case rel == nil:
			return "a relation that is not known"
		case rel.System && under.Listed != nil: // the text looks up there what may be seen
		case !known.has(rel.Name.Parts(), ""):
			return "the relation " + strings.Join(rel.Name.Parts(), ".")
		}
	}
	for _, u := range r.uses {
		switch {
		case u.class == ofFunction && u.object >= 16384, u.class == ofOperator && u.object >= 16384:
			return "a function or operator that users have made"
		case u.class != ofRelation || u.column == 0: // a constant can name a relation, and reads nothing of it
			continue
		}
		rel := under.Schema.Relations[u.object]
		if rel == nil {
			return "a relation that is not known"
		}
		if rel.System && under.Listed != nil {
			continue
		}
		if r.excluded && inserts(st, part, rel) {
			continue
		}
		column := ""
		if u.column < 0 && int(-u.column) < len(systemColumns) {
			column = systemColumns[-u.column]
		} else if col := rel.ColumnAt(u.column); col != nil {
			column = col.Name
		}
		if column == "" || !known.has(rel.Name.Parts(), column) {
			return "the column " + strings.Join(append(rel.Name.Parts(), column), ".")
		}
	}
	return r.otherwise(under, st, part, known)
}

// otherwise reads the statement as the server has it, and gives what that does
// and shows beside what was judged. Not all of the server's own words are
// understood: then its catalog alone has spoken.
func (r *resolved) otherwise(under *sql.Context, st *abi.Statement, part int, known named) string {
	plain := *under
	plain.SearchPath, plain.Login, plain.Anywhere, plain.Blind, plain.Filter, plain.Listed = []string{}, nil, false, nil, nil, nil // its masks and lists stand in the text
	looks := func(namespace string) bool {
		return under.Listed != nil && (namespace == "pg_catalog" || namespace == "information_schema")
	}
	again, err := sql.Analyze(&plain, r.text)
	if err != nil || again.Statement.Incomplete != "" || len(again.Parts) != 1 {
		return ""
	}
	for object, columns := range direct(&plain, again.Statement, 0) {
		for column := range columns {
			if namespace, _, _ := strings.Cut(object, "\x00"); !known[object][column] && !looks(namespace) {
				return "the column " + strings.ReplaceAll(object, "\x00", ".") + "." + column
			}
		}
	}
	at := map[int]*abi.Output{}
	for i := range st.Outputs {
		if o := &st.Outputs[i]; o.Statement == part {
			at[o.Index] = o
		}
	}
	for i := range again.Statement.Outputs {
		theirs := &again.Statement.Outputs[i]
		ours := at[theirs.Index]
		if ours == nil {
			if len(at) == 0 { // EXPLAIN shows none of them
				continue
			}
			return fmt.Sprintf("its column %d", theirs.Index+1)
		}
		from := named{}
		for _, list := range [][]abi.Source{ours.Copies, ours.Computed} {
			for _, s := range list {
				from.add(s.Relation, s.Column)
			}
		}
		for _, list := range [][]abi.Source{theirs.Copies, theirs.Computed} {
			for _, s := range list {
				if !from.has(s.Relation, s.Column) && !looks(s.Relation[0]) {
					return fmt.Sprintf("%s.%s in its column %d", strings.Join(s.Relation, "."), s.Column, theirs.Index+1)
				}
			}
		}
	}
	return ""
}
