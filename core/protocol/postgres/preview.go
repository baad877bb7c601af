package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// previewTime bounds what the gateway asks for those who have to approve.
const previewTime = 5 * time.Second

// preview finds out how many rows a write would change: what the planner
// expects, and what a count finds. It asks on a connection of its own, reads
// only, and runs nothing but the server's own functions; what it cannot find
// out is -1.
func (c *conn) preview(ctx context.Context, a *sql.Analysis, params []abi.Param) abi.Rows {
	rows := abi.Rows{Estimated: -1, Counted: -1}
	if len(a.Parts) != 1 || a.Parts[0].Kind != sql.Write || !a.Parts[0].Plain || anyOf(a.Statement.Operations, func(o *abi.Operation) bool {
		return o.Verb == "truncate" || len(o.Object) == 2 && o.Object[0] == schema.Temporary // which the session alone has
	}) {
		return rows
	}
	ctx, stop := context.WithTimeout(ctx, 2*previewTime)
	defer stop()
	if err := c.asks(ctx, &a.Parts[0], params, ruled(a.Statement), &rows); err != nil {
		c.p.log(c.session.ID(), "preview", err)
	}
	return rows
}

func (c *conn) asks(ctx context.Context, p *sql.Part, params []abi.Param, ruled bool, rows *abi.Rows) error {
	if err := c.session.Note(ctx, "asks the server how many rows a command would change, for who has to approve it"); err != nil {
		return err
	}
	begin := fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d", previewTime.Milliseconds())
	c.mu.Lock()
	for _, name := range []string{"DateStyle", "IntervalStyle", "TimeZone"} {
		if v, ok := c.settings[name]; ok {
			begin += "; SET LOCAL " + name + " = " + quoteLiteral(v)
		}
	}
	c.mu.Unlock()
	on, err := c.state.askOn(ctx, begin)
	if err != nil {
		return err
	}
	defer c.state.asked(ctx, on)
	pg := on.conn.PgConn()
	types := make([]uint32, len(params))
	values, formats := make([][]byte, len(params)), make([]int16, len(params))
	for i := range params {
		types[i] = params[i].Type
		if !params[i].Null {
			values[i] = append([]byte{}, params[i].Value...)
		}
		if params[i].Binary {
			formats[i] = 1
		}
	}
	if len(params) > 0 {
		st, err := pg.Prepare(ctx, "", p.Canonical, types) // for the types that the server finds
		if err != nil {
			return err
		}
		if types = st.ParamOIDs; len(types) != len(params) {
			return fmt.Errorf("%d parameters where %d are bound", len(types), len(params))
		}
	}
	texts := []string{"EXPLAIN (FORMAT JSON) " + p.Canonical}
	if p.Count != "" && !ruled {
		texts = append(texts, p.Count)
	}
	var all pgconn.Batch // in one round trip: the client waits for it
	for _, text := range texts {
		all.ExecParams(text, values, types, formats, nil)
	}
	all.ExecParams("ROLLBACK", nil, nil, nil, nil)
	results, err := pg.ExecBatch(ctx, &all).ReadAll()
	if len(results) > 0 && results[0].Err == nil {
		if plan, err := cell(results[0]); err == nil {
			rows.Estimated = expected([]byte(plan))
		}
	}
	if err != nil || len(texts) == 1 {
		return err
	}
	n, err := cell(results[1])
	if err != nil {
		return err
	}
	counted, err := strconv.ParseInt(n, 10, 64)
	if err == nil {
		rows.Counted = counted
	}
	return err
}

// maxAsking is how long a connection for previews is used: to connect takes many
// times as long as to ask.
const maxAsking = time.Minute

// previewing is a connection for previews that nobody uses.
type previewing struct {
	conn  *pgx.Conn
	since time.Time
}

// askOn gives a connection with a transaction that was begun by a text.
func (s *resourceState) askOn(ctx context.Context, begin string) (previewing, error) {
	s.mu.Lock()
	a := s.asking
	s.asking = previewing{}
	s.mu.Unlock()
	if a.conn != nil && time.Since(a.since) < maxAsking {
		if _, err := a.conn.PgConn().Exec(ctx, begin).ReadAll(); err == nil {
			return a, nil
		}
	}
	a.close(ctx)
	conn, err := s.connect(ctx)
	if err != nil {
		return previewing{}, err
	}
	a = previewing{conn, time.Now()}
	if _, err := conn.PgConn().Exec(ctx, begin).ReadAll(); err != nil {
		a.close(ctx)
		return previewing{}, err
	}
	return a, nil
}

// asked rolls back what was begun, where that is not done, and keeps the
// connection for who asks next.
func (s *resourceState) asked(ctx context.Context, a previewing) {
	pg := a.conn.PgConn()
	if pg.TxStatus() != 'I' {
		_, _ = pg.Exec(ctx, "ROLLBACK").ReadAll()
	}
	if pg.IsClosed() || pg.TxStatus() != 'I' {
		a.close(ctx)
		return
	}
	s.mu.Lock()
	a, s.asking = s.asking, a
	s.mu.Unlock()
	a.close(ctx)
}

func (a previewing) close(ctx context.Context) {
	if a.conn != nil {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		_ = a.conn.Close(ctx)
	}
}

func cell(r *pgconn.Result) (string, error) {
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return "", fmt.Errorf("%d rows where one was asked for", len(r.Rows))
	}
	return string(r.Rows[0][0]), nil
}

// expected reads out of a plan how many rows come to what changes them.
func expected(plan []byte) int64 {
	var list []struct {
		Plan struct {
			Node  string `json:"Node Type"`
			Plans []struct {
				Parent string  `json:"Parent Relationship"`
				Rows   float64 `json:"Plan Rows"`
			}
		}
	}
	if json.Unmarshal(plan, &list) != nil || len(list) != 1 || list[0].Plan.Node != "ModifyTable" {
		return -1
	}
	n := int64(-1)
	for _, p := range list[0].Plan.Plans {
		if p.Parent == "Outer" || p.Parent == "Member" {
			n = max(n, 0) + int64(p.Rows)
		}
	}
	return n
}
