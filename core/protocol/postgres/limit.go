package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

// A limit on what a write changes or returns has to be kept before its
// transaction is committed, and the server commits a Query message before it
// says how many rows it was. So such a write goes by the extended protocol, and
// what ends its transaction follows only when its count and rows are known to
// fit; else a text that fails stands there, and the server rolls back.

// tally is one such write. Its answer waits until it is known to fit.
type tally struct {
	most   uint64
	bound  bool   // most holds
	simple bool   // a Query message asked for it
	entry  *entry // of its Execute

	refusal *refusal // why it does not fit; under mu
	synced  bool     // a COPY has failed, and the server's side has sent the Sync; under mu

	mark   int // where its answer begins in conn.in
	tag    int // where its CommandComplete does, and ends
	tagEnd int
}

// maxKept bounds the rows that wait for the count, in bytes.
const maxKept = 1 << 20

func refuseRows(message, hint string) error {
	return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.rows", Message: message, Hint: hint}}
}

// limited gives the count that a command needs, nil where no limit holds for
// it, and an error where one does that cannot be kept.
func limited(a *sql.Analysis, ex *gate.Exchange) (*tally, error) {
	most, bound := ex.RowsWritten()
	changes, returning, runs := false, false, false
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		switch {
		case o.Via != "" || !o.Effect.Writes() || o.Attrs&abi.Explain != 0:
		case o.Kind == abi.KindFunction || o.Kind == abi.KindStatement:
			runs = true
		case o.Kind == abi.KindRelation && o.Verb != "select":
			changes = true
			returning = returning || o.Attrs&abi.Returning != 0
		}
	}
	v := ex.Verdict()
	bound = bound && (changes || runs)
	shown := returning && (v.Terms.RowsReturned > 0 || v.Limits.Bytes > 0 || ex.Masks() && len(a.Parts) == 1)
	if !bound && !shown || onlyPrepares(a) {
		return nil, nil
	}
	if len(a.Parts) != 1 {
		return nil, refuseRows("the task limits the rows of a write in this text, which has several statements", "send the write by itself")
	}
	if n := &(tally{most: most, bound: bound}); !bound {
		switch a.Parts[0].Kind {
		case sql.Query, sql.Write, sql.Execute:
			return n, nil
		}
		return nil, nil
	}
	p := &a.Parts[0]
	switch p.Kind {
	case sql.Write, sql.Execute, sql.CopyIn:
	default:
		runs = true
	}
	switch {
	case runs:
		return nil, refuseRows(fmt.Sprintf("the task limits this to %d rows, and how many it changes cannot be counted before it is committed", most), "write it as one INSERT, UPDATE, DELETE or MERGE without functions that write")
	case ruled(a.Statement):
		return nil, refuseRows(fmt.Sprintf("the task limits this to %d rows, and what a rule (CREATE RULE) of its table writes is not counted", most), "write to the table that the rule writes to")
	case p.Nested:
		return nil, refuseRows(fmt.Sprintf("the task limits this to %d rows, and what a WITH in it changes is not counted", most), "send what the WITH does by itself")
	case anyOf(a.Statement.Operations, func(o *abi.Operation) bool { return o.Via == "" && o.Verb == "truncate" }):
		return nil, refuseRows(fmt.Sprintf("the task limits this to %d rows, and TRUNCATE does not count them", most), "DELETE counts them")
	}
	return &tally{most: most, bound: true}, nil
}

// ruled says whether a rule writes in the place of a statement, or beside it:
// what the server counts then is not what is written.
func ruled(st *abi.Statement) bool {
	return anyOf(st.Operations, func(o *abi.Operation) bool { return strings.HasPrefix(o.Via, "rule ") && o.Effect.Writes() })
}

// again is the count of another execution.
func (n *tally) again() *tally {
	if n == nil {
		return nil
	}
	return &tally{most: n.most, bound: n.bound}
}

// noParam is the server's error for a Query with parameters.
func (c *conn) noParam(text string) error {
	e := &sql.Error{Code: "42P02", Message: "there is no parameter $1", Offset: -1}
	if s := c.judging(); s != nil {
		if g, err := parse.ForServer(s.Major); err == nil {
			tokens, _ := g.Lex(text) // it has been read before
			for i := range tokens {
				if t := &tokens[i]; g.Class(t) == parse.Param {
					e.Message, e.Offset = "there is no parameter $"+t.Value, int(t.Start)
					break
				}
			}
		}
	}
	return e
}

// queryCounted carries out a Query message of one statement that a limit holds
// for. The unnamed statement and portal, which a Query ends, are free for it.
func (c *conn) queryCounted(a *sql.Analysis, ex *gate.Exchange, cmd *abi.Command, n *tally, quiet bool) error {
	var r *refusal
	switch {
	case c.unsynced: // servers differ in whether the Query ends what was not yet ended
		r = &refusal{late: true, code: "0A000", message: "a Query whose rows the task limits, behind messages without a Sync", hint: "send Sync first"}
	case a.Params > 0 && a.Parts[0].Kind != sql.Execute:
		r, _ = refuse(a.Statement.Text, c.noParam(a.Statement.Text))
	}
	if r != nil {
		c.push(entry{kind: 'Q', refusal: r})
		c.group++
		c.failingQuery()
		return ex.Done(c.session.Context(), gate.Outcome{State: gate.Failed, Code: r.code})
	}
	n.simple = true
	own := &portal{statement: &prepared{analysis: a}, analysis: a, exchange: ex, command: cmd, judged: c.texts}
	e := entry{exchange: ex, command: cmd, analysis: a, count: n, portal: own, judged: c.texts, simple: true}
	ask := func(kind byte, body []byte) {
		e.kind = kind
		c.push(e)
		c.out = append(c.out, frame(kind, body)...)
	}
	names := c.names.makesNames(a)
	names = c.calls(a) || names
	for name := range c.portals {
		if name == "" || !c.open {
			c.drop(name)
		}
	}
	delete(c.prepared, "")
	ask('P', append(append([]byte{0}, a.Statement.Canonical...), 0, 0, 0))
	ask('B', make([]byte, 8))
	if a.Parts[0].Kind != sql.CopyIn {
		ask('D', []byte{'P', 0})
	}
	e.changes, e.naming, e.swallow = changes(a), names, quiet
	n.entry = &entry{kind: 'E', exchange: ex, command: cmd, analysis: a, changes: e.changes}
	ask('E', make([]byte, 5))
	if a.Parts[0].Kind != sql.CopyIn {
		return c.conclude(n)
	}
	return c.takes(n)
}

// takes waits, where a write that a limit holds for is a COPY, until the server
// has said whether it takes data.
func (c *conn) takes(n *tally) error {
	ex := n.entry.exchange
	if err := c.await(func() bool { return c.copying || !c.promised(ex) }); err != nil {
		return err
	}
	if !c.inCopy() {
		return c.conclude(n)
	}
	c.taking = n
	return nil
}

// conclude waits until a write that a limit holds for is answered, and has the
// server undo it where it does not fit.
func (c *conn) conclude(n *tally) error {
	c.taking = nil
	ex := n.entry.exchange
	if err := c.await(func() bool { return !c.promised(ex) }); err != nil {
		return err
	}
	c.mu.Lock()
	r, synced := n.refusal, n.synced
	c.mu.Unlock()
	if r != nil {
		e := *n.entry
		e.refusal, e.exchange, e.portal, e.count, e.changes = r, nil, nil, nil, false
		c.push(e)
		c.failingParse()
	}
	if !n.simple {
		return nil
	}
	if synced {
		c.grows(&entry{kind: 'S'})
		c.unsynced = false
	} else {
		c.push(entry{kind: 'S', exchange: ex, command: n.entry.command, analysis: n.entry.analysis, count: n, changes: n.entry.changes})
		c.out = append(c.out, frame('S', nil)...)
	}
	c.group++
	return nil
}

// keep begins to keep the answer to a promise, where a limit holds for it. The
// server's side calls this and what follows.
func (c *conn) keep(e *entry) {
	if e.count != nil && c.counting != e.count {
		c.counting, e.count.mark = e.count, len(c.in)
		e.count.tag, e.count.tagEnd = len(c.in), len(c.in)
	}
}

// tooMuch says whether rows of that size are too many to keep.
func (c *conn) tooMuch(size int) bool {
	if c.counting == nil || len(c.in)-c.counting.mark+size <= maxKept {
		return false
	}
	if c.stopped == nil {
		c.stopped = &refusal{code: "42501", message: fmt.Sprintf("the task limits the rows of this write, and it returns more than %d bytes: they cannot be kept until they are counted", maxKept), hint: "return fewer columns, or change fewer rows at a time"}
	}
	return true
}

// counted takes the CommandComplete of a write that a limit holds for.
func (c *conn) counted(ctx context.Context, e *entry, tag string, m []byte) error {
	n := e.count
	r := c.stopped
	if r == nil && n.bound {
		switch rows, ok := affected(tag); {
		case !ok:
			r = &refusal{code: "42501", message: fmt.Sprintf("the task limits this to %d rows, and the server has not counted them", n.most)}
		case rows > n.most:
			r = &refusal{code: "42501", message: fmt.Sprintf("%d rows are written, of the %d that are allowed: it was rolled back", rows, n.most), hint: "narrow the condition, or do it in parts"}
		}
	}
	if r != nil {
		return c.unfits(ctx, e, r)
	}
	n.tag = len(c.in)
	c.in = append(c.in, m...)
	n.tagEnd = len(c.in)
	if !n.simple {
		c.counting = nil
	}
	c.finish(ctx, gate.Outcome{State: gate.Completed, Tag: tag})
	return nil
}

// unfits drops an answer that may not be given. What ends its transaction has
// not been sent, and now something that fails is.
func (c *conn) unfits(ctx context.Context, e *entry, r *refusal) error {
	c.in = c.in[:e.count.mark]
	c.counting, c.stopped = nil, nil
	c.mu.Lock()
	e.count.refusal, c.copying = r, false
	c.mu.Unlock()
	c.finish(ctx, gate.Outcome{State: gate.Failed, Code: r.code})
	return nil
}

// uncount ends the keeping where the server has failed: what it would not have
// said by then goes.
func (c *conn) uncount(e *entry) {
	n := c.counting
	if n == nil {
		return
	}
	switch {
	case e != nil && e.kind == 'S': // it failed when it was committed
		c.in = slices.Delete(c.in, n.tag, n.tagEnd)
	case n.simple:
		c.in = c.in[:n.mark]
	}
	c.counting = nil
}

// beside puts what comes outside of answers before one that is kept.
func (c *conn) beside(b []byte) {
	if c.counting == nil {
		c.in = append(c.in, b...)
		return
	}
	n := c.counting
	c.in = slices.Insert(c.in, n.mark, b...)
	n.mark, n.tag, n.tagEnd = n.mark+len(b), n.tag+len(b), n.tagEnd+len(b)
}

// syncFor ends the group of a COPY that has failed, for a client that knows of
// no Sync. The caller holds mu.
func (c *conn) syncFor(e *entry) bool {
	if e.count == nil || !e.count.simple || e.kind != 'E' || copies(e.analysis) == 0 || !c.copying {
		return false
	}
	e.count.synced, c.skipping = true, false
	c.queue = append(c.queue, entry{kind: 'S', group: e.group, exchange: e.exchange, command: e.command, analysis: e.analysis, count: e.count})
	return true
}

func (c *conn) sendSync() error {
	c.sending.Lock()
	defer c.sending.Unlock()
	_, err := c.toUpstream.Write(frame('S', nil))
	return err
}

// affected reads the count in a command's tag.
func affected(tag string) (uint64, bool) {
	words := strings.Fields(tag)
	if len(words) < 2 || !slices.Contains([]string{"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"}, words[0]) {
		return 0, false
	}
	n, err := strconv.ParseUint(words[len(words)-1], 10, 64)
	return n, err == nil
}
