package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// hold is a command that waits for people. Until they have decided the client's
// side stands still: what the client sends meanwhile stays unread.
type hold struct {
	c      *conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	began  bool
	watch  sync.WaitGroup
}

// presence is how often a client that waits is looked at.
const presence = 250 * time.Millisecond

// errLeft is why a client's hold ends that is no longer there.
var errLeft = fmt.Errorf("the client has left: %w", errGoodbye)

// submit asks the gate, and waits where people have to approve. again reads the
// command anew: what was approved is what it still means after that. Where spool
// is set, errSpool comes instead of a hold.
func (c *conn) submit(ctx context.Context, cmd *abi.Command, a *sql.Analysis, spool bool, again func() (*sql.Analysis, error)) (*gate.Exchange, error) {
	ex, err := c.submitted(ctx, cmd, a, spool, again)
	return ex, unseen(a, err)
}

// unseen takes out of a refusal what its task is not told of.
func unseen(a *sql.Analysis, err error) error {
	if err == nil || !a.Beneath {
		return err
	}
	var d *gate.Denied
	if !errors.As(err, &d) {
		return err
	}
	blank := *d
	blank.Reason = abi.Reason{Code: d.Reason.Code, Message: sql.Unseen, Hint: "whoever keeps the task sees in the records what it is"}
	return &blank
}

func (c *conn) submitted(ctx context.Context, cmd *abi.Command, a *sql.Analysis, spool bool, again func() (*sql.Analysis, error)) (*gate.Exchange, error) {
	if ex, ok := c.session.TrySubmit(cmd); ok {
		return ex, nil
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	h := &hold{c: c}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	failed := false
	cmd.Bound = c.meaning(a)
	named := c.stands(cmd.Statement)
	cmd.Held = func(v *abi.Verdict) (err error) {
		if spool {
			return errSpool
		}
		if err := c.readable(a); err != nil {
			return err
		}
		if failed, err = c.mayWait(cmd, v.Terms); err == nil {
			err = h.reachable()
		}
		return err
	}
	cmd.Rows = func() abi.Rows { return c.preview(h.ctx, a, cmd.Params) }
	ex, err := c.session.Submit(h.ctx, cmd, h.tell)
	cmd.Held, cmd.Rows = nil, nil
	why := h.end()
	if err == nil && why != nil { // it was approved, and called off before a byte of it went
		err = why
	}
	if err == nil && h.began {
		err = c.unchanged(cmd, again, named)
	}
	switch {
	case err == nil:
		return ex, nil
	case ex != nil:
		_ = ex.Done(ctx, gate.Outcome{State: gate.Failed})
	case failed:
		return nil, &sql.Error{Code: aborted.code, Message: aborted.message, Offset: -1}
	}
	if errors.Is(err, gate.ErrCancelled) && ctx.Err() == nil {
		err = &sql.Error{Code: "57014", Message: "canceling statement due to user request", Offset: -1}
	}
	return nil, err
}

// readable refuses what has to be approved and does not say what it does: by the row
// of a cursor, or by the query of a temporary view.
func (c *conn) readable(a *sql.Analysis) error {
	unseen := func(what, hint string) error {
		return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.on-hold", Message: "this needs the approval of other people, who cannot see " + what, Hint: hint}}
	}
	for i := range a.Parts {
		if a.Parts[i].Current != "" {
			return unseen("which row the cursor stands on", "name the row by its key")
		}
	}
	if c.temp.own == nil {
		return nil
	}
	for i := range a.Statement.Operations {
		o := &a.Statement.Operations[i]
		if o.Kind != abi.KindRelation || len(o.Object) != 2 || o.Object[0] != schema.Temporary {
			continue
		}
		if r := c.temp.own.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]; r != nil && r.Kind == 'v' {
			return unseen("what the temporary view "+r.Name.Name+" reads", "write its query in its place")
		}
	}
	return nil
}

// mayWait refuses a command that has to be approved where the server would not
// run it, or where others would wait for it.
func (c *conn) mayWait(cmd *abi.Command, terms abi.Terms) (failed bool, err error) {
	if err := c.allAnswered(); err != nil {
		return false, err
	}
	cmd.Open = c.open
	c.mu.Lock()
	failed = c.skipping || c.status == 'E'
	c.mu.Unlock()
	if failed {
		return true, &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.aborted", Message: aborted.message}}
	}
	if c.written && !c.open && terms.OnHold != "keep" {
		return false, &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.on-hold", Message: "this needs the approval of other people, and what was sent before it and not yet ended by Sync has written: its locks would wait as well",
			Hint: "send Sync first, or have the operator say on_hold: keep"}}
	}
	return false, nil
}

// allAnswered waits until the client has the answers to everything before.
func (c *conn) allAnswered() error {
	err := c.await(func() bool { return len(c.queue) == 0 && !c.pending })
	c.catchUp()
	return err
}

// unchanged refuses what no longer means what was approved.
func (c *conn) unchanged(cmd *abi.Command, again func() (*sql.Analysis, error), named []uint32) error {
	a, err := again()
	if err != nil {
		return err
	}
	if a.Statement != cmd.Statement && !reflect.DeepEqual(a.Statement, cmd.Statement) || !slices.Equal(named, c.stands(a.Statement)) {
		return &gate.Denied{Decision: abi.Deny, Guard: "gate", Reason: abi.Reason{Code: "gate.changed", Message: "the schema has changed since this was asked: it would do something else than was approved", Hint: "ask again"}}
	}
	return nil
}

// stands gives the relations that a statement's names stand for, by OID: one
// that takes another's name is not what people looked at.
func (c *conn) stands(st *abi.Statement) (list []uint32) {
	s := c.judging()
	if s == nil {
		return nil
	}
	for i := range st.Operations {
		o := &st.Operations[i]
		if o.Kind != abi.KindRelation || len(o.Object) != 2 {
			continue
		}
		oid := uint32(0)
		if r := s.RelationByName[schema.Name{Namespace: o.Object[0], Name: o.Object[1]}]; r != nil {
			oid = uint32(r.OID)
		}
		list = append(list, oid)
	}
	return list
}

// tell says what the command waits for. The first time it sees that the client
// has been answered all else, and that its leaving is noticed from then on.
func (h *hold) tell(p gate.Pending) error {
	c := h.c
	if !h.began {
		h.began = true
		if err := c.allAnswered(); err != nil {
			return err
		}
		if client := descriptor(c.client); client != nil {
			h.watch.Go(func() { h.look(client) })
		}
	}
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	return c.tell(waits(p))
}

// reachable lets what calls a command off reach this one from now on, before
// anybody is asked: finding out how many rows it would change may take a while.
func (h *hold) reachable() error {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errOver
	}
	c.held = h.cancel
	if c.spool != nil && c.spool.off.Load() != nil {
		h.cancel(*c.spool.off.Load())
	}
	return nil
}

// end gives why the command was called off, if it was.
func (h *hold) end() error {
	c := h.c
	c.mu.Lock()
	c.held = nil
	c.mu.Unlock()
	why := context.Cause(h.ctx)
	h.cancel(nil)
	h.watch.Wait()
	return why
}

// look calls the command off once the client has left.
func (h *hold) look(client syscall.RawConn) {
	tick := time.NewTicker(presence)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		if left(client) {
			h.cancel(errLeft)
			return
		}
	}
}

// callOff ends the command that is held or whose data is kept, if one is.
func (c *conn) callOff(why error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return false
	}
	c.held(why)
	return true
}

// waits is the notice to a client whose command is held.
func waits(p gate.Pending) []byte {
	needs := make([]string, len(p.Needs))
	for i := range needs {
		needs[i] = p.Needs[i].String()
	}
	n := &pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "waiting for approval: request " + p.ID,
		Detail: fmt.Sprintf("It needs %s, until %s.", strings.Join(needs, " and "), p.Until.UTC().Format("2006-01-02 15:04:05 UTC")),
		Hint:   "who may approve it runs: taskgate approve " + p.ID}
	if p.Summary != "" {
		n.Message += ": " + p.Summary
	}
	n.Message, n.Detail = readable(n.Message), readable(n.Detail)
	return encode(n)
}

// readable takes out of a text what other people or modules have written what
// would end a field, or move a terminal.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// tell writes whole messages to the client, from either side.
func (c *conn) tell(b []byte) error {
	c.telling.Lock()
	defer c.telling.Unlock()
	n, err := c.toClient.Write(b)
	if err != nil {
		if n > 0 {
			c.torn.Store(true)
		}
		return fmt.Errorf("%w: %w", errTell, err)
	}
	return nil
}

// descriptor gives the socket under a connection, nil where there is none.
func descriptor(nc net.Conn) syscall.RawConn {
	for {
		switch v := nc.(type) {
		case *tls.Conn:
			nc = v.NetConn()
		case *prefixed:
			nc = v.Conn
		case syscall.Conn:
			raw, err := v.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		default:
			return nil
		}
	}
}

// left says whether the peer has ended its side of a connection, whatever of it
// is still unread.
func left(raw syscall.RawConn) bool {
	gone := false
	err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}

// meaning is what an approval holds for beside the text and its parameters: as
// whom it runs, along which path, in which transaction, under which settings and
// schema, and what the names in it stand for.
func (c *conn) meaning(a *sql.Analysis) string {
	var b strings.Builder
	if s := c.judging(); s != nil {
		fmt.Fprintf(&b, "role=%q schema=%d/%s/%s", s.Role.Name, s.Version, s.Mark.Server, s.Mark.Users)
	}
	fmt.Fprintf(&b, " login=%q path=%q moved=%t", c.names.login, c.names.path, c.names.moved)
	c.mu.Lock()
	fmt.Fprintf(&b, " transaction=%c settings=%q", c.status, fmt.Sprint(c.settings)) // a map prints in order
	c.mu.Unlock()
	for i := range a.Parts {
		switch p := &a.Parts[i]; p.Kind {
		case sql.Execute:
			if st := c.prepared[p.Name]; st != nil {
				fmt.Fprintf(&b, " %q=%q path=%q", p.Name, st.analysis.Statement.Canonical, st.path)
			}
		case sql.Fetch:
			if d := c.names.cursors[p.Name]; d != nil {
				fmt.Fprintf(&b, " %q=%q", p.Name, d.analysis.Statement.Canonical)
			}
		}
	}
	return b.String()
}
