package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/loop"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// conn is one client's connection and its upstream's.
type conn struct {
	p       *Protocol
	client  net.Conn
	guest   *door.Guest // until it is known
	session *gate.Session

	asked          bool // the client has asked for TLS
	version        uint32
	key            string
	upstream       net.Conn
	carried        [2]*loop.Conn // the client's socket and the upstream's, nil where no loop carries them
	begun          atomic.Bool   // both sides are at work
	toClient       *output       // of the server's side
	toUpstream     *output       // under sending
	upstreamKey    []byte
	serverVersion  string
	superuser      string // whose session it is, as the server said at login
	authorization  string
	parametersSeen [][]byte
	told           string // about what was given at connect
	state          *resourceState
	known          reading // what the last text was read under
	closed         closedTask
	seen           atomic.Pointer[schema.Schema] // the catalog as this session alone sees it, nil where it is as for all
	strict         bool                          // drift of the schema is looked for at each answer
	probes         bool                          // the server is asked what a text reads

	// Of the client's side.
	out      []byte // for the upstream, not yet sent
	group    uint64
	prepared map[string]*prepared
	portals  map[string]*portal
	names    names
	inside   overlay
	temp     temporary
	kept     keeping        // behind names
	looks    uint64         // counts the schemas that were read within a transaction
	grown    group          // since the last Sync
	crowded  bool           // too much is in flight
	called   bool           // a function that may do anything has been, and the settings were not read back since
	late     bool           // the open transaction has called one, or will when it ends
	unsynced bool           // messages of the extended protocol have come since the last Sync
	scripted bool           // a Query is carried out one statement at a time
	named    bool           // a text of this group makes names
	types    []byte         // that the text at hand is parsed with
	params   []abi.Param    // room for those of a Bind
	texts    []judged       // that the command at hand was judged by, where drift is looked for
	open     bool           // a transaction is open, as far as the client's side knows
	dropLeft int            // bytes of a message that is too large, which nobody reads
	dataLeft int            // bytes of a CopyData message that are still to come
	dataPass bool           // and whether they go upstream
	dataInto *gate.Exchange // of the command that takes them
	written  bool           // something since the last Sync has written, and no transaction is open
	feeds    bool           // a COPY that takes data has been sent, and the server may not be done with it
	spool    *spool         // what is kept of a COPY that has to be approved
	taking   *tally         // of a COPY that a limit holds for

	clientGone   atomic.Bool // the peer has ended the connection
	upstreamGone atomic.Bool

	sending    sync.Mutex  // writes upstream
	telling    sync.Mutex  // writes to the client
	torn       atomic.Bool // the client has half of a message
	cancelling sync.Mutex

	// Between the two sides.
	mu        sync.Mutex
	moved     *sync.Cond
	queue     []entry
	ring      [16]entry
	promising int // bytes of texts in it
	changing  int
	naming    int                     // promises that make names
	learned   []learned               // what the server has done, for the client's side
	learning  bool                    // something of this transaction was
	status    byte                    // of the transaction, as the server has said last
	undecided bool                    // it has changed tables
	stepping  bool                    // a Query is carried out one statement at a time
	stopping  bool                    // and a cancel has come: the next may not run
	copying   bool                    // the server takes COPY data
	copyInto  *gate.Exchange          // and for which command
	strays    strays                  // Syncs among the data
	fits      bool                    // the settings are as at login, as the server said last
	gathering *gathered               // of a query of the gateway's own
	over      bool                    // the server's side has ended
	pending   bool                    // an answer is taken, and not yet with the client
	held      context.CancelCauseFunc // of the command that waits for people
	settings  map[string]string       // that the server has told of
	closing   []closing
	undo      []entry
	skipping  bool     // something has failed, and no Sync is promised yet
	skipped   []ending // exchanges that failed or were skipped

	// Of the server's side.
	in       []byte // for the client, not yet sent
	part     int    // of the first promise's text: how many are answered
	tag      string // that was completed with last
	rowLeft  int    // bytes of a large row that are still to come
	ending   []ending
	partly   []*gate.Exchange // of portals that have run in part
	writes   span
	marks    []mark
	unmarked span     // of writes, what came before the first of them
	unsaid   []byte   // the CommandComplete of the last statement of several, until all are committed
	failure  bool     // something in this group has failed at the server
	wrote    bool     // something in this group has written, and no transaction is open
	stopped  *refusal // the first promise's rows may not be shown: the rest is dropped, and this ends it

	rewrite  dataRows
	copied   copyRows
	answered []byte    // formats of the result at hand, of a Query
	shaped   byte      // how its rows were announced: T or H, 0 is not
	aside    time.Time // when what was said unasked is due
	arrived  time.Time // when what is looked at was read, where drift is looked for
	compared bool      // and the answer at hand was held against what was judged
	secret   secret
	counting *tally // the answer at hand waits in in until it is known to fit
}

// closing is an exchange whose portal is gone; once the group is answered it is
// done, executed or not.
type closing struct {
	exchange *gate.Exchange
	group    uint64
}

// run carries messages both ways until one side ends, and rolls back what is
// open by ending the upstream's connection.
func (c *conn) run() error {
	defer c.p.unregister(c)
	c.kept.holding = c.holds()
	defer c.kept.drop()
	c.grown.held = c.holds()
	defer c.grown.held.drop()
	c.temp.held = c.holds()
	defer c.temp.held.drop()
	ctx := c.session.Context()
	c.moved = sync.NewCond(&c.mu)
	c.adopt()
	c.toClient, c.toUpstream = newOutput(c.client), newOutput(c.upstream)
	c.mu.Lock() // somebody may be about to cancel already
	c.queue, c.status = c.ring[:0], 'I'
	c.mu.Unlock()
	c.prepared, c.portals = map[string]*prepared{}, map[string]*portal{}
	path := c.names.login // where the client has given one, at connect
	c.names = names{cursors: map[string]*declared{}, resolved: map[use]*sql.Analysis{}, login: path, path: path, lasting: path, before: path, moved: path != nil}
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	c.begun.Store(true)
	served := make(chan error, 1)
	go func() {
		err := c.p.contain(c.session.ID(), func() error { return c.fromServer(ctx) })
		c.mu.Lock()
		c.over = true
		c.moved.Broadcast()
		c.mu.Unlock()
		c.callOff(errOver)
		_ = c.client.SetReadDeadline(time.Now()) // wakes the client's side
		served <- err
	}()
	err := c.p.contain(c.session.ID(), func() error { return c.fromClient(ctx) })
	_ = c.upstream.SetReadDeadline(time.Now())
	_ = c.client.SetWriteDeadline(time.Now().Add(lastWrite)) // or a client that does not read would keep the server's side
	c.upstream.Close()                                       // the server rolls back what is open
	serverErr := <-served
	if c.carried[0] != nil {
		_ = c.upstream.SetWriteDeadline(time.Now())
		c.carried[1].Release() // the server rolls back what is open
		if c.carried[0].Finish() != nil {
			c.torn.Store(true)
		}
	}
	if c.mayBlame(err, serverErr) {
		err = serverErr
	}
	c.abandon(ctx)
	if err == nil || errors.Is(err, errGoodbye) && ctx.Err() == nil {
		return nil
	}
	if errors.Is(err, io.EOF) && ctx.Err() == nil {
		err = &fatal{code: "08006", message: "the resource closed the connection", cause: err}
	}
	err = ended(ctx, c.session.ID(), err)
	if c.torn.Load() {
		return errors.Join(errGoodbye, err) // nothing that we could say would be read as a message
	}
	return err
}

// lastWrite is how long a client has to take what was under way when its
// session ended.
const lastWrite = time.Second

// mayBlame says whether the server's side ended first, so that what the
// client's side met is only the consequence.
func (c *conn) mayBlame(client, server error) bool {
	var timeout net.Error
	return server != nil && (errors.Is(client, errOver) || errors.As(client, &timeout) && timeout.Timeout()) && !errors.Is(server, net.ErrClosed)
}

// look wakes a side whose peer has gone without being noticed.
func (c *conn) look() {
	if !c.begun.Load() {
		return
	}
	if ended, closed := hungUp(c.client); ended || closed { // who is not there any more needs no answers
		c.clientGone.Store(true)
		_ = c.client.SetReadDeadline(time.Now())
	}
	if ended, _ := hungUp(c.upstream); ended {
		c.upstreamGone.Store(true)
		_ = c.upstream.SetReadDeadline(time.Now())
	}
}

// interrupt makes both sides return: nothing waits for a peer any longer.
func (c *conn) interrupt() {
	now := time.Now()
	_ = c.client.SetDeadline(now)
	_ = c.upstream.SetDeadline(now)
	c.mu.Lock()
	c.moved.Broadcast()
	c.mu.Unlock()
}

// abandon closes what the end of the connection left open: nobody knows what
// became of it.
func (c *conn) abandon(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	for _, e := range c.ending {
		_ = e.exchange.Done(ctx, gate.Outcome{State: gate.Lost, Tag: e.outcome.Tag, Code: e.outcome.Code})
	}
	for _, e := range c.skipped {
		_ = e.exchange.Done(ctx, e.outcome)
	}
	for i := range c.queue {
		if ex := c.queue[i].exchange; ex != nil {
			_ = ex.Done(ctx, gate.Outcome{State: gate.Lost})
		}
	}
	for _, p := range c.portals {
		if p.exchange != nil {
			_ = p.exchange.Done(ctx, gate.Outcome{State: gate.Lost})
		}
	}
	for _, ex := range c.partly {
		_ = ex.Done(ctx, gate.Outcome{State: gate.Lost})
	}
	for _, cl := range c.closing { // one that is not done by now was never executed
		_ = cl.exchange.Done(ctx, gate.Outcome{State: gate.Skipped})
	}
}

// flush sends what is waiting upstream.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.sending.Lock()
	_, err := c.toUpstream.Write(c.out)
	c.sending.Unlock()
	if cap(c.out) > largeBuffer {
		c.out = nil
	}
	c.out = c.out[:0]
	return err
}
