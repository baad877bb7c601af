package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

// The bounds of a client's messages, in bytes. Copy data has none: it passes
// in pieces.
const (
	maxText = parse.MaxBytes + 64<<10
	maxBind = 64 << 20
	maxMisc = 64 << 10
)

// fromClient reads messages, judges what is to be judged and sends upstream
// what may go, many messages in one write.
func (c *conn) fromClient(ctx context.Context) error {
	f := &frames{conn: c.client}
	err := f.run(func() error {
		if err := c.messages(ctx, f); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return fmt.Errorf("postgres: upstream: %w", err)
		}
		return nil
	})
	if errors.Is(err, io.EOF) || c.clientGone.Load() && ctx.Err() == nil {
		err = errGoodbye
	}
	if errors.Is(err, errGoodbye) {
		c.leave()
	}
	return err
}

// leave tells the server that nothing more comes, and waits until it has ended:
// what the client sent before it left is carried out and answered, as it would
// be without a gateway. What was not committed by then the server rolls back.
func (c *conn) leave() {
	if err := c.flush(); err != nil {
		return
	}
	half, ok := c.upstream.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over {
		c.moved.Wait()
	}
}

// messages takes what is there of the client's messages. Copy data passes in
// pieces, so that its size does not matter.
func (c *conn) messages(ctx context.Context, f *frames) error {
	for {
		if c.dataLeft > 0 {
			if f.have() == 0 {
				return nil
			}
			piece := f.take(min(c.dataLeft, f.have()))
			c.dataLeft -= len(piece)
			if c.dataPass {
				if err := c.dataInto.Input(piece); err != nil {
					return err
				}
				c.out = append(c.out, piece...)
			}
			if len(c.out) >= largeBuffer {
				if err := c.flush(); err != nil {
					return fmt.Errorf("postgres: upstream: %w", err)
				}
			}
			continue
		}
		kind, size, ok, err := f.head()
		if err != nil {
			return &fatal{code: "08P01", message: err.Error()}
		}
		if !ok {
			return nil
		}
		if kind == 'd' { // outside COPY the server would ignore it, and it is dropped
			c.dataLeft, c.dataPass = size, c.inCopy()
			c.mu.Lock()
			c.dataInto = c.copyInto
			c.mu.Unlock()
			continue
		}
		if size > limit(kind) {
			return &fatal{code: "54000", message: fmt.Sprintf("a message %q of %d bytes: at most %d", kind, size, limit(kind))}
		}
		if f.have() < size {
			return nil
		}
		if err := c.message(ctx, kind, f.take(size)); err != nil {
			return err
		}
	}
}

func limit(kind byte) int {
	switch kind {
	case 'Q', 'P':
		return maxText
	case 'B':
		return maxBind
	}
	return maxMisc
}

// message takes one whole message.
func (c *conn) message(ctx context.Context, kind byte, m []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.bound(); err != nil {
		return err
	}
	body := cursor{b: m[5:]}
	switch kind {
	case 'X':
		c.out = append(c.out, m...)
		return errGoodbye
	case 'c', 'f':
		return c.endCopy(m)
	}
	if c.inCopy() {
		if kind == 'S' || kind == 'H' {
			return nil // the server ignores them as well
		}
		return &fatal{code: "08P01", message: fmt.Sprintf("the message %q in the middle of COPY", kind)}
	}
	if c.called && (kind == 'Q' || kind == 'P' || kind == 'B' || kind == 'E') {
		if err := c.readBack(); err != nil {
			return err
		}
	}
	switch kind {
	case 'Q':
		return c.query(ctx, body)
	case 'P':
		return c.parse(ctx, m, body)
	case 'B':
		return c.bind(ctx, m, body)
	case 'D':
		return c.describe(m, body)
	case 'E':
		return c.execute(ctx, m, body)
	case 'C':
		return c.close(m, body)
	case 'H':
		c.out = append(c.out, m...)
		return nil
	case 'S':
		c.catchUp()
		if !c.open { // the implicit transaction ends, and its portals with it
			for name := range c.portals {
				c.drop(name)
			}
		}
		c.push(entry{kind: 'S', changes: c.named})
		c.named = false
		c.group++
		c.out = append(c.out, m...)
		return nil
	case 'F':
		if skipped, err := c.skips(); err != nil || skipped {
			return err
		}
		c.push(entry{kind: 'Q', refusal: &refusal{code: "0A000", message: "the function call message is refused", hint: "call the function in a SELECT"}})
		c.group++
		c.failingQuery()
		return nil
	}
	return &fatal{code: "08P01", message: fmt.Sprintf("the message %q is not known", kind)}
}

// tooLong refuses a message whose name the server would not tell from another.
func (c *conn) tooLong(kind byte) error {
	c.push(entry{kind: kind, refusal: &refusal{code: "42622", message: fmt.Sprintf("the name of a statement or portal is longer than %d bytes", maxName)}})
	c.failingParse()
	return nil
}

func malformed(kind byte) error {
	return &fatal{code: "08P01", message: fmt.Sprintf("a malformed message %q", kind)}
}

// submit asks the gate; what was promised before goes first if it has to wait.
func (c *conn) submit(ctx context.Context, cmd *abi.Command) (*gate.Exchange, error) {
	if ex, ok := c.session.TrySubmit(cmd); ok {
		return ex, nil
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	return c.session.Submit(ctx, cmd, nil)
}

// judge finds out what a text does and asks the gate. A text that cannot be
// understood is submitted all the same, so that it stands in the record, and
// is refused whatever the guards say.
func (c *conn) judge(ctx context.Context, text string, phase abi.Phase) (*sql.Analysis, *gate.Exchange, *abi.Command, error) {
	if err := c.settle(); err != nil {
		return nil, nil, nil, err
	}
	raw, err := c.understand(text, c.names.path)
	a := raw
	if err == nil && givesName(raw) {
		err = c.room()
	}
	if err == nil {
		a, err = c.resolve(raw)
	}
	if err != nil {
		st := &abi.Statement{Protocol: "postgres", Text: text, Incomplete: err.Error()}
		ex, e := c.session.Submit(ctx, &abi.Command{Phase: phase, Statement: st, Open: c.open}, nil)
		if e == nil {
			e = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
		var denied *gate.Denied
		if e != nil && !errors.As(e, &denied) {
			return nil, nil, nil, e
		}
		return nil, nil, nil, err
	}
	if onlyPrepares(a) {
		phase = abi.Prepare
	}
	cmd := &abi.Command{Phase: phase, Statement: a.Statement, Params: c.given(a, nil), Open: c.open}
	ex, err := c.submit(ctx, cmd)
	if err == nil && a.Statement.Incomplete != "" { // no guard can allow what is not understood
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		err = &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.incomplete", Message: "not understood, and so refused: " + a.Statement.Incomplete}}
		ex = nil
	}
	if phase == abi.Prepare && !onlyPrepares(a) {
		a = raw // what its names stand for is looked up each time it runs
	}
	return a, ex, cmd, err
}

// query takes a Query message: one command, whatever it holds, refused whole.
func (c *conn) query(ctx context.Context, body cursor) error {
	text := body.string()
	if !body.end() {
		return malformed('Q')
	}
	if skipped, err := c.skips(); err != nil || skipped {
		return err
	}
	a, ex, cmd, err := c.judge(ctx, text, abi.Execute)
	if err != nil {
		r, ok := refuse(text, err)
		if !ok {
			return err
		}
		if c.answerIdle(r) {
			return nil
		}
		c.push(entry{kind: 'Q', refusal: r})
		c.group++
		c.failingQuery()
		return nil
	}
	c.countOn(a, ex)
	names := c.names.makesNames(a)
	c.push(entry{kind: 'Q', exchange: ex, command: cmd, analysis: a, changes: changes(a), naming: c.calls(a) || names})
	c.group++
	c.assume(a)
	for name := range c.portals { // a Query ends the unnamed portal, and a transaction the others
		if name == "" || !c.open {
			c.drop(name)
		}
	}
	delete(c.prepared, "")
	c.out = append(c.out, 'Q', 0, 0, 0, 0)
	binary.BigEndian.PutUint32(c.out[len(c.out)-4:], uint32(len(a.Statement.Canonical)+5))
	c.out = append(append(c.out, a.Statement.Canonical...), 0)
	return c.awaitCopy(a, ex)
}

// skips says whether the server skips a Query: something before it has failed,
// and no Sync stands between.
func (c *conn) skips() (bool, error) {
	if !c.unsynced {
		return false, nil
	}
	defer c.catchUp()
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skipping, nil
}

// awaitCopy waits, where a command takes data, until the server has said
// whether it does: what the client sends next is data only if so.
func (c *conn) awaitCopy(a *sql.Analysis, ex *gate.Exchange) error {
	if copies(a) == 0 {
		return nil
	}
	return c.await(func() bool { return c.copying || !c.promised(ex) })
}

// copies counts the statements of a text that take data.
func copies(a *sql.Analysis) (n int) {
	for i := range a.Parts {
		if a.Parts[i].Kind == sql.CopyIn {
			n++
		}
	}
	return n
}

// answerIdle answers a refused Query at once where nothing is in flight and no
// transaction is open, so that the server need not be asked.
func (c *conn) answerIdle(r *refusal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 || c.unsynced || c.pending || c.status != 'I' || len(c.out) > 0 {
		return false
	}
	m := append(r.encode(), 'Z', 0, 0, 0, 5, 'I')
	if _, err := c.client.Write(m); err != nil {
		c.torn = true
	}
	return true
}

// assume follows the transaction as it will be if what was sent succeeds.
func (c *conn) assume(a *sql.Analysis) {
	for i := range a.Parts {
		switch a.Parts[i].Kind {
		case sql.Begin:
			c.open = true
		case sql.Commit, sql.Rollback:
			c.open = false
		}
	}
}

// changes says whether a text may change what later texts mean.
func changes(a *sql.Analysis) bool {
	for i := range a.Parts {
		switch a.Parts[i].Kind {
		case sql.Query, sql.Write, sql.Execute, sql.Show, sql.ExplainPlan, sql.CopyOut, sql.CopyIn:
		default:
			return true
		}
	}
	return false
}

// parse takes a Parse message: the statement may be prepared, nobody is asked.
func (c *conn) parse(ctx context.Context, m []byte, body cursor) error {
	name, text := body.name(), body.string()
	types := body.bytes(4 * body.uint16())
	if !body.end() {
		return malformed('P')
	}
	if body.long {
		return c.tooLong('P')
	}
	e := entry{kind: 'P', name: name, changes: name != ""}
	a, ex, _, err := c.judge(ctx, text, abi.Prepare)
	e.before = c.prepared[name]
	if err == nil && e.before == nil {
		if err = c.room(); err != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		}
	}
	if err == nil && len(a.Parts) > 1 {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
		ex, err = nil, &sql.Error{Code: "42601", Message: "cannot insert multiple commands into a prepared statement", Offset: -1}
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
	e.after = &prepared{analysis: a, group: c.group, read: reading{c.known, c.names.moved}, path: c.names.path}
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

// givenTypes refuses parameters of types that users have made and no text may
// name: what reads or computes with them could run anything.
func (c *conn) givenTypes(types []byte) error {
	for i := 0; i+4 <= len(types); i += 4 {
		oid := binary.BigEndian.Uint32(types[i:])
		if oid < 16384 { // the server's own
			continue
		}
		s, err := c.schema(c.session.Context())
		if err != nil {
			return err
		}
		if !sql.GivenType(&sql.Context{Schema: s, Extensions: c.extensions()}, oid) {
			return &sql.Error{Code: "42501", Message: fmt.Sprintf("the type of parameter $%d is made by users, and its functions could run anything", i/4+1), Hint: "leave the type to the server", Offset: -1}
		}
	}
	return nil
}

// bind takes a Bind message, which is the command: it runs input functions and
// folds immutable ones, so it does not go before the verdict.
func (c *conn) bind(ctx context.Context, m []byte, body cursor) error {
	name, statement := body.name(), body.name()
	formats := body.bytes(2 * body.uint16())
	count := body.uint16()
	if body.bad {
		return malformed('B')
	}
	params := make([]abi.Param, 0, count)
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
	body.bytes(2 * body.uint16())
	if !body.end() {
		return malformed('B')
	}
	if body.long {
		return c.tooLong('B')
	}
	if err := c.settle(); err != nil {
		return err
	}
	st := c.prepared[statement]
	if st != nil && st.group < c.group { // whether the server has it is not known before it says so
		if err := c.confirm(st); err != nil {
			return err
		}
		st = c.prepared[statement]
	}
	if st == nil { // the server knows no such statement either, and says so in its own words
		c.push(entry{kind: 'B', refusal: &refusal{code: "26000", message: fmt.Sprintf("prepared statement %q does not exist", statement)}})
		c.failingParse()
		return nil
	}
	if name != "" && (c.portals[name] != nil || c.names.cursors[name] != nil) {
		c.push(entry{kind: 'B', refusal: &refusal{late: true, code: "42P03", message: fmt.Sprintf("cursor %q already exists", name)}})
		c.failingParse()
		return nil
	}
	c.drop(name)
	if err := c.room(); err != nil {
		r, _ := refuse("", err)
		c.push(entry{kind: 'B', refusal: r})
		c.failingParse()
		return nil
	}
	cmd := &abi.Command{Phase: abi.Execute, Open: c.open}
	var ex *gate.Exchange
	var a *sql.Analysis
	var given []abi.Param
	err := c.renew(st)
	if err == nil {
		a, err = c.resolve(st.analysis)
	}
	if err == nil {
		given = c.given(a, params)
		cmd.Statement, cmd.Params = a.Statement, given
		ex, err = c.submit(ctx, cmd)
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
	cmd.Params = nil // they point into the buffer that is read into next
	c.names.serial++
	p := &portal{statement: st, analysis: a, exchange: ex, command: cmd, serial: c.names.serial, moved: c.names.moved, params: keepParams(a, params), given: len(given)}
	if p.given > 0 && ex.WantsParams() {
		p.bound = cloneParams(given)
	}
	c.portals[name] = p
	c.push(entry{kind: 'B', portal: p, exchange: ex, command: cmd, analysis: a, name: name})
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
	now := reading{s.Version, c.names.moved}
	if st.read == now {
		return nil
	}
	a, err := c.understand(st.analysis.Statement.Text, st.path)
	if err != nil {
		return err
	}
	if a.Statement.Incomplete != "" || a.Statement.Canonical != st.analysis.Statement.Canonical {
		return &sql.Error{Code: "0A000", Message: "the schema has changed under the prepared statement", Hint: "prepare it again", Offset: -1}
	}
	st.analysis, st.read = a, now
	return nil
}

// confirm waits until the server has said whether it has a statement.
func (c *conn) confirm(st *prepared) error {
	defer c.catchUp()
	c.mu.Lock()
	known := st.confirmed
	c.mu.Unlock()
	if known {
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
	e := entry{kind: 'D'}
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
		c.push(entry{kind: 'E', refusal: &refusal{code: "34000", message: fmt.Sprintf("portal %q does not exist", name)}})
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
	c.countOn(p.analysis, p.exchange)
	if p.exchange.WantsSchema() && !p.described { // the plan is fixed before the first row
		p.described = true
		c.push(entry{kind: 'D', swallow: true, portal: p, exchange: p.exchange, command: p.command, analysis: p.analysis})
		c.out = append(c.out, frame('D', append(append([]byte{'P'}, name...), 0))...)
	}
	a := p.analysis
	names := c.names.makesNames(a)
	names = c.calls(a) || names
	c.named = c.named || names
	c.push(entry{kind: 'E', portal: p, exchange: p.exchange, command: p.command, analysis: a, changes: changes(a), naming: names, params: p.params})
	c.assume(a)
	c.out = append(c.out, m...)
	return c.awaitCopy(a, p.exchange)
}

// still gives a refusal where a portal is no longer what was judged when it was
// bound: its names stand for something else, or another generation, schema or
// search path judges it and does not allow it.
func (c *conn) still(ctx context.Context, name string, p *portal) (*refusal, error) {
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
			return &refusal{code: "34000", message: fmt.Sprintf("portal %q does not exist", name)}, nil
		}
		if err := c.renew(p.statement); err != nil {
			return bindAgain("", err)
		}
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
	if err != nil {
		return bindAgain(p.analysis.Statement.Text, err)
	}
	if p.given > 0 && p.bound == nil && ex.WantsParams() { // it was judged without what it looks at
		return &refusal{code: "34000", message: "the policy looks at parameters since the portal was bound", hint: "bind it again"}, ex.Done(ctx, gate.Outcome{State: gate.Failed})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = append(c.closing, closing{p.exchange, c.group})
	ex.CountOn(p.exchange)
	p.exchange, p.ended = ex, false
	return nil, nil
}

// planned says whether the server fixes at Bind what a statement's names stand
// for, or there are none in it. All else, as COPY and EXPLAIN, it reads when it
// executes it.
func planned(a *sql.Analysis) bool {
	for i := range a.Parts {
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

func (c *conn) inCopy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copying
}

// endCopy takes CopyDone or CopyFail. A text of several statements may take
// more data.
func (c *conn) endCopy(m []byte) error {
	c.mu.Lock()
	if !c.copying {
		c.mu.Unlock()
		return nil
	}
	c.copying = false
	var more *gate.Exchange
	if len(c.queue) > 0 && c.queue[0].kind == 'Q' && copies(c.queue[0].analysis) > 1 {
		more = c.queue[0].exchange
	}
	c.mu.Unlock()
	c.out = append(c.out, m...)
	if more == nil {
		return nil
	}
	return c.await(func() bool { return c.copying || !c.promised(more) })
}
