package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
)

// The messages of the extended protocol: Parse, Bind, Describe, Execute and
// Close.

// parse takes a Parse message: the statement may be prepared, nobody is asked.
func (c *conn) parse(ctx context.Context, m []byte, body cursor) error {
	name := body.name()
	if c.dropLeft > 0 {
		return c.parseLarge(ctx, name, body)
	}
	text := body.string()
	types := body.bytes(4 * body.uint16())
	if !body.end() {
		return malformed('P')
	}
	if body.long {
		return c.tooLong('P')
	}
	e := entry{kind: 'P', name: name, changes: name != ""}
	c.types = types
	a, ex, _, err := c.judge(ctx, text, abi.Prepare)
	c.types = nil
	e.before = c.prepared[name]
	if err == nil {
		if err = c.room(e.before == nil, a.Size()+len(types)); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err == nil && len(a.Parts) > 1 {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		ex, err = nil, multiple
	}
	if err == nil && (name == placeholderName || name == ownName) {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		err = &sql.Error{Code: "42P05", Message: "the name " + name + " is reserved", Offset: -1}
	}
	if err == nil {
		if err = c.givenTypes(types); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err != nil {
		r, ok := refuse(text, err)
		if !ok {
			return err
		}
		e.refusal = r
		c.push(e)
		c.failingParse()
		return nil
	}
	e.after = &prepared{analysis: a, group: c.group, read: c.known, path: c.names.path, types: bytes.Clone(types)}
	e.exchange = ex
	c.prepared[name] = e.after
	c.push(e)
	at := len(c.out)
	c.out = append(c.out, 'P', 0, 0, 0, 0)
	c.out = append(append(c.out, name...), 0)
	c.out = append(append(c.out, a.Statement.Canonical...), 0)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(types)/4))
	c.out = append(c.out, types...)
	binary.BigEndian.PutUint32(c.out[at+1:], uint32(len(c.out)-at-1))
	return nil
}

// parseLarge refuses a Parse of which only the beginning was read.
func (c *conn) parseLarge(ctx context.Context, name string, body cursor) error {
	if body.bad { // the name does not end within what the server keeps apart
		return c.tooLong('P')
	}
	err := c.tooLarge(ctx, abi.Prepare)
	r, ok := refuse("", err)
	if !ok {
		return err
	}
	c.push(entry{kind: 'P', name: name, changes: name != "", before: c.prepared[name], refusal: r})
	c.failingParse()
	return nil
}

var multiple = &sql.Error{Code: "42601", Message: "cannot insert multiple commands into a prepared statement", Offset: -1}

// givenTypes refuses parameters of types that users have made and no text may
// name: what reads or computes with them could run anything.
func (c *conn) givenTypes(types []byte) error {
	for i := 0; i+4 <= len(types); i += 4 {
		oid := binary.BigEndian.Uint32(types[i:])
		_, task := c.session.Resource()
		listed := reads(task).Listed
		if oid < 16384 && listed == nil { // the server's own
			continue
		}
		s, err := c.schema(c.session.Context())
		if err != nil {
			return err
		}
		if !sql.GivenType(&sql.Context{Schema: s, Extensions: c.extensions(), Listed: listed}, oid) {
			return &sql.Error{Code: "42501", Message: fmt.Sprintf("the type of parameter $%d is made by users, or names what the database has", i/4+1), Hint: "leave the type to the server", Offset: -1}
		}
	}
	return nil
}

// fewParams is how many parameters the room for them is kept for.
const fewParams = 64

// bind takes a Bind message, which is the command: it runs input functions and
// folds immutable ones, so it does not go before the verdict.
func (c *conn) bind(ctx context.Context, m []byte, body cursor) error {
	name, statement := body.name(), body.shown()
	formats := body.bytes(2 * body.uint16())
	count := body.uint16()
	if body.bad {
		return malformed('B')
	}
	params := c.params[:0] // they point into the buffer that is read into next
	for i := range count {
		n := int32(body.uint32())
		p := abi.Param{Null: n == -1}
		if len(formats) > 0 { // where there are fewer than parameters, the server refuses it
			p.Binary = formats[min(2*i, len(formats)-2)+1] == 1
		}
		if n < -1 {
			return malformed('B')
		}
		if n >= 0 {
			p.Value = body.bytes(int(n))
		}
		params = append(params, p)
	}
	if cap(params) <= fewParams {
		c.params = params
	}
	results := body.bytes(2 * body.uint16())
	if !body.end() {
		return malformed('B')
	}
	if body.long {
		return c.tooLong('B')
	}
	if err := c.settle(); err != nil {
		return err
	}
	st := c.prepared[string(statement)]
	if st != nil && st.group < c.group { // whether the server has it is not known before it says so
		if err := c.confirm(st); err != nil {
			return err
		}
		st = c.prepared[string(statement)]
	}
	if st == nil { // the server knows no such statement either, and says so in its own words
		c.push(entry{kind: 'B', refusal: &refusal{code: "26000", message: noStatement(string(statement))}})
		c.failingParse()
		return nil
	}
	if name != "" && (c.portals[name] != nil || c.names.cursors[name] != nil) {
		c.push(entry{kind: 'B', refusal: &refusal{late: true, code: "42P03", message: fmt.Sprintf("cursor %q already exists", name)}})
		c.failingParse()
		return nil
	}
	c.drop(name)
	if err := c.room(true, 0); err != nil {
		r, _ := refuse("", err)
		c.push(entry{kind: 'B', refusal: r})
		c.failingParse()
		return nil
	}
	for i := range params {
		if 4*i+4 <= len(st.types) {
			params[i].Type = binary.BigEndian.Uint32(st.types[4*i:])
		}
	}
	p := &portal{statement: st, own: abi.Command{Phase: abi.Execute, Open: c.open}}
	p.command = &p.own
	cmd := p.command
	var ex *gate.Exchange
	var a *sql.Analysis
	var given []abi.Param
	c.texts = nil
	err := c.renew(st)
	if err == nil {
		err = c.taskOpen(st.analysis)
	}
	if err == nil {
		a, err = c.resolve(st.analysis)
	}
	if err != nil {
		err = c.unjudged(ctx, st.analysis.Statement.Text, abi.Execute, err)
	}
	if err == nil {
		given = c.given(a, params)
		cmd.Statement, cmd.Params = a.Statement, given
		if copies(a) > 0 {
			cmd.Input.Kind = abi.InputStream
		}
		ex, err = c.submit(ctx, cmd, a, false, func() (*sql.Analysis, error) {
			if err := c.renew(st); err != nil {
				return nil, err
			}
			return c.resolve(st.analysis)
		})
	}
	if err == nil {
		ex, err = c.definable(ctx, a, ex, true)
	}
	var n *tally
	if err == nil {
		if n, err = limited(a, ex); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err == nil {
		ex, err = c.copyable(ctx, a, ex)
	}
	var declared, seen []abi.Param
	if err == nil {
		if declares(a) {
			declared = params
		}
		if ex.WantsParams() {
			seen = given
		}
		if err = c.room(false, sizeOf(declared)+sizeOf(seen)); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err != nil {
		r, ok := refuse(st.analysis.Statement.Text, err)
		if !ok {
			return err
		}
		c.push(entry{kind: 'B', refusal: r})
		c.failingParse()
		return nil
	}
	cmd.Params = nil
	c.names.serial++
	p.analysis, p.exchange, p.count, p.judged = a, ex, n, c.texts
	p.serial, p.moved = c.names.serial, c.names.moved
	p.params, p.bound, p.given, p.formats = cloneParams(declared), cloneParams(seen), len(given), keepFormats(results)
	p.described = ex.Again(st.plan.Load())
	c.portals[name] = p
	ex.Rest() // until it is executed
	c.push(entry{kind: 'B', portal: p, exchange: ex, command: cmd, analysis: a, name: name, judged: p.judged})
	c.out = append(c.out, m...)
	return nil
}

// renew reads a prepared statement again where the schema has changed since, or
// the search path: what its names stand for now is what is judged, as it is
// what the server would run, which plans it anew.
func (c *conn) renew(st *prepared) error {
	s, err := c.schema(c.session.Context())
	if err != nil {
		return err
	}
	resource, task := c.session.Resource()
	now := reading{s.Version, task, resource, c.names.moved}
	along := takesAlong(st.analysis)
	if st.read == now && !along {
		c.judgedBy(st.analysis, st.path, s)
		return nil
	}
	c.types = st.types
	a, err := c.understand(st.analysis.Statement.Text, st.path)
	c.types = nil
	if err != nil {
		return err
	}
	if a.Statement.Incomplete != "" || a.Statement.Canonical != st.analysis.Statement.Canonical {
		return &sql.Error{Code: "0A000", Message: "the schema has changed under the prepared statement", Hint: "prepare it again", Offset: -1}
	}
	if st.read = c.known; along && reflect.DeepEqual(a.Statement, st.analysis.Statement) { // what has been approved is that
		return nil
	}
	st.analysis = a
	st.plan.Store(nil)
	return nil
}

// confirm waits until the server has said whether it has a statement.
func (c *conn) confirm(st *prepared) error {
	if st.sure {
		return nil
	}
	defer c.catchUp()
	c.mu.Lock()
	st.sure = st.confirmed
	c.mu.Unlock()
	if st.sure {
		return nil
	}
	return c.await(func() bool { return st.confirmed || len(c.queue) == 0 || c.queue[0].group > st.group })
}

// drop forgets a portal and leaves its exchange to be closed.
func (c *conn) drop(name string) {
	if c.portals[name] == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(name)
}

// dropLocked is drop for who holds mu.
func (c *conn) dropLocked(name string) {
	p := c.portals[name]
	delete(c.portals, name)
	if !p.ended {
		p.ended = true
		c.closing = append(c.closing, closing{p.exchange, c.group})
	}
}

func (c *conn) describe(m []byte, body cursor) error {
	what, name := body.bytes(1), body.name()
	if !body.end() || what[0] != 'S' && what[0] != 'P' {
		return malformed('D')
	}
	if body.long {
		return c.tooLong('D')
	}
	e := entry{kind: 'D', name: name}
	if what[0] == 'P' {
		if p := c.portals[name]; p != nil {
			e.portal, e.exchange, e.command, e.analysis = p, p.exchange, p.command, p.analysis
			p.described = true
		}
	} else if st := c.prepared[name]; st != nil {
		e.analysis = st.analysis
	}
	c.push(e)
	c.out = append(c.out, m...)
	return nil
}

// execute takes an Execute message. A portal that another generation has
// judged is judged again.
func (c *conn) execute(ctx context.Context, m []byte, body cursor) error {
	name := body.name()
	body.uint32()
	if !body.end() {
		return malformed('E')
	}
	if body.long {
		return c.tooLong('E')
	}
	p := c.portals[name]
	if p == nil {
		c.push(entry{kind: 'E', refusal: &refusal{code: "34000", message: noPortal(name)}})
		c.failingParse()
		return nil
	}
	if r, err := c.still(ctx, name, p); err != nil {
		return err
	} else if r != nil {
		c.push(entry{kind: 'E', refusal: r})
		c.failingParse()
		return nil
	}
	if err := c.mayDefine(p.analysis, true); err != nil { // other portals may have run since Bind
		r, err := bindAgain(p.analysis.Statement.Text, err)
		if err != nil {
			return err
		}
		c.push(entry{kind: 'E', refusal: r})
		c.failingParse()
		return nil
	}
	if err := c.before(p.analysis); err != nil {
		return err
	}
	if c.portals[name] != p {
		c.push(entry{kind: 'E', refusal: &refusal{code: "34000", message: noPortal(name)}})
		c.failingParse()
		return nil
	}
	c.countOn(p.analysis, p.exchange)
	if p.exchange.WantsSchema() && !p.described { // the plan is fixed before the first row
		p.described = true
		c.push(entry{kind: 'D', swallow: true, portal: p, exchange: p.exchange, command: p.command, analysis: p.analysis})
		c.out = append(c.out, frame('D', append(append([]byte{'P'}, name...), 0))...)
	}
	a := p.analysis
	names := c.names.makesNames(a)
	names = c.calls(a) || names
	names = c.defines(a, false) || names
	c.named = c.named || names
	p.exchange.Run()
	e := entry{kind: 'E', name: name, portal: p, exchange: p.exchange, command: p.command, analysis: a, changes: changes(a), naming: names, params: p.params, judged: p.judged, count: p.count.again()}
	c.push(e)
	c.assume(a)
	c.written = c.written || !c.open && a.Statement.Writes()
	c.out = append(c.out, m...)
	if e.count == nil {
		return c.awaitCopy(a, p.exchange)
	}
	counted := e
	if counted.count.entry = &counted; copies(a) > 0 {
		return c.takes(counted.count)
	}
	return c.conclude(counted.count)
}

// still gives a refusal where a portal is no longer what was judged when it was
// bound: its names stand for something else, or another generation, schema or
// search path judges it and does not allow it.
func (c *conn) still(ctx context.Context, name string, p *portal) (*refusal, error) {
	if err := c.taskOpen(p.analysis); err != nil {
		return bindAgain("", c.unjudged(ctx, p.analysis.Statement.Text, abi.Execute, err))
	}
	again := p.exchange.Generation() != c.session.Generation()
	switch {
	case p.analysis.Named():
		if r, err := c.sameNames(name, p); r != nil || err != nil {
			return r, err
		}
	case !planned(p.analysis):
		if err := c.settle(); err != nil {
			return nil, err
		}
		if c.portals[name] != p {
			return &refusal{code: "34000", message: noPortal(name)}, nil
		}
		c.texts = nil
		if err := c.renew(p.statement); err != nil {
			return bindAgain("", c.unjudged(ctx, p.analysis.Statement.Text, abi.Execute, err))
		}
		p.judged = c.texts
		if a := p.statement.analysis; a != p.analysis {
			p.analysis, p.command.Statement, again = a, a.Statement, true
		}
	}
	if !again {
		return nil, nil
	}
	p.command.Open, p.command.Params = c.open, p.bound
	ex, err := c.session.Submit(ctx, p.command, nil)
	p.command.Params = nil
	if err == nil {
		ex, err = c.definable(ctx, p.analysis, ex, true)
	}
	if err == nil {
		ex, err = c.copyable(ctx, p.analysis, ex)
	}
	if err != nil {
		return bindAgain(p.analysis.Statement.Text, err)
	}
	if p.given > 0 && p.bound == nil && ex.WantsParams() { // it was judged without what it looks at
		return &refusal{code: "34000", message: "the policy looks at parameters since the portal was bound", hint: "bind it again"}, ex.Done(ctx, gate.Outcome{State: gate.Failed})
	}
	n, err := limited(p.analysis, ex)
	if err != nil {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		return bindAgain(p.analysis.Statement.Text, err)
	}
	p.count = n
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = append(c.closing, closing{p.exchange, c.group})
	ex.CountOn(p.exchange)
	p.exchange, p.ended, p.described = ex, false, false
	return nil, nil
}

// planned says whether the server fixes at Bind what a statement's names stand
// for, or there are none in it. All else, as COPY, EXPLAIN and TRUNCATE … CASCADE, it
// reads when it executes it.
func planned(a *sql.Analysis) bool {
	for i := range a.Parts {
		if a.Parts[i].Cascades {
			return false
		}
		switch a.Parts[i].Kind {
		case sql.Query, sql.Write, sql.Begin, sql.Commit, sql.Rollback, sql.Savepoint, sql.Release, sql.RollbackTo, sql.Set, sql.Reset, sql.Show, sql.SetPath, sql.Discard:
		default:
			return false
		}
	}
	return true
}

// bindAgain puts into words that a portal can no longer be executed.
func bindAgain(text string, err error) (*refusal, error) {
	r, ok := refuse(text, err)
	if !ok {
		return nil, err
	}
	if errors.As(err, new(*noSchema)) {
		return r, nil
	}
	r.code, r.hint, r.position = "34000", "the policy or the schema has changed since it was bound: bind it again", 0
	return r, nil
}

func (c *conn) close(m []byte, body cursor) error {
	what, name := body.bytes(1), body.name()
	if !body.end() || what[0] != 'S' && what[0] != 'P' {
		return malformed('C')
	}
	if body.long {
		return c.tooLong('C')
	}
	c.mu.Lock()
	naming := c.naming > 0
	c.mu.Unlock()
	if naming {
		if err := c.settle(); err != nil {
			return err
		}
	}
	e := entry{kind: 'C'}
	if what[0] == 'P' {
		c.drop(name)
		delete(c.names.cursors, name)
	} else {
		e.name, e.before, e.changes = name, c.prepared[name], name != ""
		delete(c.prepared, name)
	}
	c.push(e)
	c.out = append(c.out, m...)
	return nil
}
