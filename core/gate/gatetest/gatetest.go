// Package gatetest holds a protocol to the laws of the gate: what it owes
// whatever it speaks. Laws runs it with its real client and its real upstream,
// and looks at every byte that goes upstream and every record that is written.
package gatetest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// Secret is what a client logs in with, for the task x at the resource r.
const Secret = "token"

// Protocol is a protocol under test, with its own words for what the laws
// need.
type Protocol struct {
	Name    string
	Serve   func(ctx context.Context, nc net.Conn, g *gate.Gate) error // one client
	Run     func(ctx context.Context) error                            // what the protocol keeps going, may be nil
	Options any                                                        // of the task

	// Upstream is a real server that is reached without TLS, so that the laws
	// can read along.
	Upstream struct {
		Addr, User, Password, Database string
		Auth                           any // of gate.Upstream
	}

	Connect func(addr, secret string) (Client, error)
	Refused func(err error) bool      // an error that says: this command may not run, the session goes on
	Write   func(mark string) string  // a text that sets something to the mark
	State   func(t testing.TB) string // what it is set to, read behind the gateway's back
	Read    string                    // a text that answers one row
	Many    string                    // a text that answers more than ten, empty where answers have no rows
	Begin   string                    // opens a transaction, empty where there are none
	Commit  string
}

// Client is one session of a real client.
type Client interface {
	// Do runs one text and gives how many rows it got.
	Do(text string) (rows int, err error)
	// Close says goodbye; Drop vanishes.
	Close()
	Drop()
}

// Laws runs every law as a test of its own.
func Laws(t *testing.T, p Protocol) {
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			w := start(t, p)
			l.holds(&law{t, w})
		})
	}
}

type law struct {
	testing.TB
	*world
}

func (l *law) connect() Client {
	l.Helper()
	c, err := l.p.Connect(l.addr, Secret)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(c.Drop)
	return c
}

// goesOn holds that a session can still be used.
func (l *law) goesOn(c Client) {
	l.Helper()
	if n, err := c.Do(l.p.Read); err != nil || n != 1 {
		l.Errorf("the session does not go on: %d rows, %v", n, err)
	}
}

// grace is how long what should not have been sent has to arrive.
const grace = 50 * time.Millisecond

// untouched holds that a text with the mark has not run.
func (l *law) untouched(mark string) {
	l.Helper()
	time.Sleep(grace)
	if l.went(mark) {
		l.Errorf("%q has gone upstream", mark)
	}
	if s := l.p.State(l); s == mark {
		l.Errorf("%q has run", mark)
	}
}

// unrun holds that a text which people look at has not run, though it may have
// been made ready, and the server asked what it would do.
func (l *law) unrun(mark string) {
	l.Helper()
	time.Sleep(grace)
	if s := l.p.State(l); s == mark {
		l.Errorf("%q has run", mark)
	}
}

var laws = []struct {
	name  string
	holds func(*law)
}{
	{"allowed is recorded before it goes", func(l *law) {
		l.judge(func(c *abi.Command) (*abi.Verdict, error) {
			time.Sleep(grace) // what goes too early has arrived by now
			return allow(c)
		})
		c := l.connect()
		l.mu.Lock()
		l.watch = func() {
			if i := l.sent.String(); contains(i, "mark1") && !l.allowed("mark1") {
				l.Error("it went upstream before it was recorded")
				l.watch = nil
			}
		}
		l.mu.Unlock()
		if _, err := c.Do(l.p.Write("mark1")); err != nil {
			l.Fatal(err)
		}
		if s := l.p.State(l); s != "mark1" {
			l.Errorf("what is allowed does not run: %q", s)
		}
		l.goesOn(c)
	}},
	{"refused never goes, and the session goes on", func(l *law) {
		l.judge(denying("mark2"))
		c := l.connect()
		for range 2 { // what a guard has said once may be remembered
			if _, err := c.Do(l.p.Write("mark2")); !l.p.Refused(err) {
				l.Errorf("not refused: %v", err)
			}
		}
		l.untouched("mark2")
		l.goesOn(c)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.allowed("mark2") {
			l.Error("the log says that it was allowed")
		}
	}},
	{"a guard that fails refuses", func(l *law) {
		l.judge(func(c *abi.Command) (*abi.Verdict, error) {
			if contains(c.Statement.Text, "mark3") {
				return nil, context.DeadlineExceeded
			}
			return allow(c)
		})
		c := l.connect()
		if _, err := c.Do(l.p.Write("mark3")); !l.p.Refused(err) {
			l.Errorf("not refused: %v", err)
		}
		l.untouched("mark3")
		l.goesOn(c)
	}},
	{"no record, no command", func(l *law) {
		c := l.connect()
		l.goesOn(c)
		l.mu.Lock()
		l.logFails = true
		l.mu.Unlock()
		if _, err := c.Do(l.p.Write("mark4")); err == nil {
			l.Error("it ran without a record")
		}
		l.untouched("mark4")
	}},
	{"a limit on rows holds, and the session goes on", func(l *law) {
		if l.p.Many == "" {
			return
		}
		l.judge(func(*abi.Command) (*abi.Verdict, error) {
			return &abi.Verdict{Decision: abi.Allow, Terms: abi.Terms{RowsReturned: 3}}, nil
		})
		c := l.connect()
		if n, err := c.Do(l.p.Many); err == nil || n > 3 {
			l.Errorf("%d rows of 3, %v", n, err)
		}
		l.goesOn(c)
	}},
	{"a new policy judges the next command", func(l *law) {
		c := l.connect()
		if _, err := c.Do(l.p.Write("before")); err != nil {
			l.Fatal(err)
		}
		l.judge(denying("before")) // the same text, which is known and was allowed
		if _, err := c.Do(l.p.Write("before")); !l.p.Refused(err) {
			l.Errorf("judged by the old policy: %v", err)
		}
		l.judge(allow)
		if _, err := c.Do(l.p.Write("after")); err != nil {
			l.Error(err)
		}
	}},
	{"the end of the right takes back what is open", func(l *law) {
		c := l.connect()
		if l.p.Begin != "" {
			if _, err := c.Do(l.p.Begin); err != nil {
				l.Fatal(err)
			}
			if _, err := c.Do(l.p.Write("mark5")); err != nil {
				l.Fatal(err)
			}
		}
		if n := l.gate.Kill("the group is gone", func(*gate.Session) bool { return true }); n != 1 {
			l.Fatalf("%d sessions ended", n)
		}
		if !wait(func() bool { return l.count(gate.EventClose) == 1 }) {
			l.Error("the session is not closed in the log, though the client does nothing")
		}
		if _, err := c.Do(l.p.Write("mark5")); err == nil {
			l.Error("the session goes on")
		}
		if l.p.Begin != "" {
			if _, err := c.Do(l.p.Commit); err == nil {
				l.Error("it commits")
			}
		}
		if s := l.p.State(l); s == "mark5" {
			l.Error("what was open has lasted")
		}
	}},
	{"every command has one end", func(l *law) {
		l.judge(denying("mark6"))
		for range 3 {
			c := l.connect()
			_, _ = c.Do(l.p.Read)
			if l.p.Many != "" {
				_, _ = c.Do(l.p.Many)
			}
			_, _ = c.Do(l.p.Write("mark6"))
			_, _ = c.Do(l.p.Write("mark7"))
			if l.p.Begin != "" {
				_, _ = c.Do(l.p.Begin)
				_, _ = c.Do(l.p.Write("mark8"))
			}
			c.Close()
		}
		if !wait(func() bool { return l.count(gate.EventClose) == 3 }) {
			l.Fatal("sessions are not closed in the log")
		}
		l.ends()
	}},
	{"rows are counted", func(l *law) {
		if l.p.Many == "" {
			return
		}
		c := l.connect()
		n, err := c.Do(l.p.Many)
		if err != nil || n <= 10 {
			l.Fatal(n, err)
		}
		c.Close()
		wait(func() bool { return l.count(gate.EventClose) == 1 })
		l.mu.Lock()
		defer l.mu.Unlock()
		most := uint64(0)
		for _, e := range l.events {
			most = max(most, e.Rows)
		}
		if most != uint64(n) {
			l.Errorf("the client got %d rows, the log has %d", n, most)
		}
	}},
	{"nobody is let in without the right", func(l *law) {
		if c, err := l.p.Connect(l.addr, "another"); err == nil {
			c.Drop()
			l.Error("let in")
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.dialled > 0 {
			l.Error("the upstream was asked")
		}
		refused := 0
		for _, e := range l.events {
			if e.Kind == gate.EventRefused {
				refused++
			}
		}
		if refused == 0 {
			l.Error("the log does not say so")
		}
	}},
	{"a client that vanishes leaves nothing behind", func(l *law) {
		c := l.connect()
		if l.p.Begin != "" {
			_, _ = c.Do(l.p.Begin)
		}
		if _, err := c.Do(l.p.Write("mark9")); err != nil {
			l.Fatal(err)
		}
		c.Drop()
		if !wait(func() bool { return len(l.gate.Sessions()) == 0 && l.count(gate.EventClose) == 1 }) {
			l.Error("the session stays")
		}
		if l.p.Begin != "" && l.p.State(l) == "mark9" {
			l.Error("what was open has lasted")
		}
		l.ends()
	}},
	{"a held command goes when it is approved, and not before", func(l *law) {
		l.judge(reviewing("mark11"))
		c := l.connect()
		done := l.later(c, l.p.Write("mark11"))
		l.unrun("mark11")
		if l.count(gate.EventRequest) != 1 {
			l.Error("the log does not say that it waits")
		}
		l.decided <- gate.Decided{State: gate.Approved}
		if err := <-done; err != nil {
			l.Errorf("approved, and it does not run: %v", err)
		}
		if s := l.p.State(l); s != "mark11" {
			l.Errorf("what was approved has not run: %q", s)
		}
		l.goesOn(c)
		c.Close()
		wait(func() bool { return l.count(gate.EventClose) == 1 })
		l.ends()
	}},
	{"a held command that is denied never goes, and the session goes on", func(l *law) {
		l.judge(reviewing("mark12"))
		c := l.connect()
		done := l.later(c, l.p.Write("mark12"))
		l.decided <- gate.Decided{State: gate.Refused, Reason: "no"}
		if err := <-done; !l.p.Refused(err) {
			l.Errorf("not refused: %v", err)
		}
		l.unrun("mark12")
		l.goesOn(c)
	}},
	{"a held command goes with its client", func(l *law) {
		l.judge(reviewing("mark13"))
		c := l.connect()
		done := l.later(c, l.p.Write("mark13"))
		c.Drop()
		<-done
		if !wait(func() bool { return l.count(gate.EventSettled) == 1 && l.count(gate.EventClose) == 1 }) {
			l.Error("the request stays, though its client has gone")
		}
		select {
		case l.decided <- gate.Decided{State: gate.Approved}: // too late
		default:
		}
		l.unrun("mark13")
	}},
	{"an upstream that vanishes ends the session", func(l *law) {
		c := l.connect()
		l.goesOn(c)
		l.hangUp()
		if _, err := c.Do(l.p.Write("mark10")); err == nil {
			l.Error("answered by nobody")
		}
		if !wait(func() bool { return len(l.gate.Sessions()) == 0 && l.count(gate.EventClose) == 1 }) {
			l.Error("the session stays")
		}
		l.ends()
	}},
}

// later does a text beside the law, which goes on when it waits for people.
func (l *law) later(c Client, text string) (done chan error) {
	l.Helper()
	done = make(chan error, 1)
	go func() {
		_, err := c.Do(text)
		done <- err
	}()
	if !wait(l.waits) {
		l.Fatal("nobody is asked")
	}
	return done
}

// ends holds that every command that was let through has exactly one end, that
// none has an end which was not let through, and that numbers have no gaps.
func (l *law) ends() {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	type key struct {
		session string
		command uint64
	}
	begun, ended, last := map[key]bool{}, map[key]int{}, map[string]uint64{}
	for _, e := range l.events {
		k := key{e.Session, e.Command}
		switch e.Kind {
		case gate.EventCommand:
			if e.Command != last[e.Session]+1 {
				l.Errorf("command %d follows %d", e.Command, last[e.Session])
			}
			last[e.Session] = e.Command
			if runs(e) {
				begun[k] = true
			}
		case gate.EventDone:
			ended[k]++
		}
	}
	if len(begun) == 0 {
		l.Error("no command is in the log")
	}
	for k := range begun {
		if ended[k] != 1 {
			l.Errorf("command %d of session %s has %d ends", k.command, k.session, ended[k])
		}
	}
	for k := range ended {
		if !begun[k] {
			l.Errorf("command %d of session %s ends and never began", k.command, k.session)
		}
	}
}

func contains(text, mark string) bool { return strings.Contains(text, mark) }
