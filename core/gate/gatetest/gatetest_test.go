package gatetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// store is an upstream of a protocol of lines: SET x, READ, MANY, BEGIN,
// COMMIT; each is answered by rows and OK.
type store struct {
	mu    sync.Mutex
	state string
}

func (s *store) serve(nc net.Conn) {
	defer nc.Close()
	in, open, held := bufio.NewScanner(nc), false, ""
	for in.Scan() {
		switch word, arg, _ := strings.Cut(in.Text(), " "); word {
		case "SET":
			if held = arg; !open {
				s.set(arg)
			}
		case "BEGIN":
			open = true
		case "COMMIT":
			open = false
			s.set(held)
		case "READ":
			fmt.Fprintln(nc, "row")
		case "MANY":
			fmt.Fprint(nc, strings.Repeat("row\n", 20))
		}
		fmt.Fprintln(nc, "OK")
	}
}

func (s *store) set(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = v
}

// toy is a protocol that keeps every law, but for its bug.
type toy struct{ bug string }

func (p toy) serve(_ context.Context, nc net.Conn, g *gate.Gate) error {
	defer nc.Close()
	in := bufio.NewScanner(nc)
	if !in.Scan() {
		return nil
	}
	ctx := context.Background()
	if p.bug == "asks the upstream first" {
		if w, ok := g.Dialer.(*world); ok {
			up, err := w.Dial(ctx, nil, "")
			if err != nil {
				return err
			}
			defer up.Conn.Close()
		}
	}
	s, err := g.Open(ctx, gate.Login{Protocol: "toy", Task: "x", Resource: "r", Secret: in.Text()})
	if err != nil {
		fmt.Fprintln(nc, "no")
		return err
	}
	err = p.session(s, nc, in)
	if p.bug != "never closes" {
		return errors.Join(err, s.Close(err))
	}
	return err
}

func (p toy) session(s *gate.Session, nc net.Conn, in *bufio.Scanner) error {
	ctx := s.Context()
	up, err := s.Dial(ctx)
	if err != nil {
		return err
	}
	defer up.Conn.Close()
	if p.bug != "does not see the end" {
		defer context.AfterFunc(ctx, func() { nc.Close(); up.Conn.Close() })()
	}
	fmt.Fprintln(nc, "hello")
	answers, known := bufio.NewScanner(up.Conn), map[string]*abi.Statement{}
	held, gone := context.WithCancelCause(ctx)
	lines, over := make(chan string), make(chan bool)
	var reading sync.WaitGroup
	reading.Go(func() { // beside what waits, so that the client's end is seen
		defer close(lines)
		for in.Scan() {
			select {
			case lines <- in.Text():
			case <-over:
				return
			}
		}
		if p.bug != "does not see its client go" {
			gone(errors.New("the client has gone"))
		}
	})
	defer reading.Wait()
	defer nc.Close()
	defer close(over)
	for text := range lines {
		if known[text] == nil {
			known[text] = &abi.Statement{Protocol: "toy", Text: text, Canonical: text, Operations: []abi.Operation{{Verb: "do", Kind: abi.KindStatement}}}
		} else if p.bug == "remembers what was allowed" {
			if err := p.relay(nil, text, up.Conn, answers, nc); err != nil {
				return err
			}
			continue
		}
		if p.bug == "sends before it asks" {
			fmt.Fprintln(up.Conn, text)
		}
		cmd := &abi.Command{Phase: abi.Execute, Statement: known[text]}
		ex, ok := s.TrySubmit(cmd)
		var err error
		if !ok {
			ex, err = s.Submit(held, cmd, func(gate.Pending) error {
				if p.bug == "sends what is held" {
					fmt.Fprintln(up.Conn, text)
				}
				return nil
			})
		}
		var denied *gate.Denied
		if errors.As(err, &denied) {
			if p.bug == "ends on a denial" && denied.Reason.Code == "gate.denied" {
				return nil
			}
			if p.bug == "sends what is refused" {
				fmt.Fprintln(up.Conn, text)
				answers.Scan()
			}
			fmt.Fprintln(nc, "refused")
			if p.bug == "ends on a refusal" {
				return nil
			}
			continue
		}
		if err != nil {
			if p.bug == "runs without a record" {
				fmt.Fprintln(up.Conn, text)
			}
			return err
		}
		if err := p.relay(ex, text, up.Conn, answers, nc); err != nil {
			return err
		}
	}
	return nil
}

func (p toy) relay(ex *gate.Exchange, text string, up net.Conn, answers *bufio.Scanner, nc net.Conn) error {
	if p.bug != "sends before it asks" {
		fmt.Fprintln(up, text)
	}
	over := false
	for answers.Scan() {
		line := answers.Text()
		if line == "OK" {
			if ex != nil && p.bug != "forgets the end" {
				if err := ex.Done(context.Background(), gate.Outcome{State: gate.Completed}); err != nil {
					return err
				}
			}
			if over {
				line = "over"
			}
			fmt.Fprintln(nc, line)
			return nil
		}
		if ex != nil && p.bug != "does not count" {
			err := ex.Result(context.Background(), &abi.Result{Frames: []byte(line), Rows: 1})
			over = over || err != nil && p.bug != "looks away from limits"
		}
		if !over {
			fmt.Fprintln(nc, line)
		}
	}
	if ex != nil && p.bug != "forgets the end" {
		_ = ex.Done(context.Background(), gate.Outcome{State: gate.Lost})
	}
	return errors.New("the upstream is gone")
}

type toyClient struct {
	nc net.Conn
	in *bufio.Scanner
}

var errRefused = errors.New("refused")

func (c toyClient) Do(text string) (rows int, err error) {
	_ = c.nc.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintln(c.nc, text); err != nil {
		return 0, err
	}
	for c.in.Scan() {
		switch c.in.Text() {
		case "OK":
			return rows, nil
		case "refused":
			return rows, errRefused
		case "over":
			return rows, errors.New("over the limit")
		}
		rows++
	}
	return rows, errors.New("the session is over")
}

func (c toyClient) Close() { c.nc.Close() }
func (c toyClient) Drop()  { c.nc.Close() }

func protocol(t *testing.T, bug string) Protocol {
	s := &store{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(nc) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	p := Protocol{Name: "toy", Serve: toy{bug}.serve, Write: func(mark string) string { return "SET " + mark }, Read: "READ", Many: "MANY", Begin: "BEGIN", Commit: "COMMIT",
		State:   func(testing.TB) string { s.mu.Lock(); defer s.mu.Unlock(); return s.state },
		Refused: func(err error) bool { return errors.Is(err, errRefused) },
		Connect: func(addr, secret string) (Client, error) {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				return nil, err
			}
			fmt.Fprintln(nc, secret)
			in := bufio.NewScanner(nc)
			if !in.Scan() || in.Text() != "hello" {
				nc.Close()
				return nil, errors.New("not let in")
			}
			return toyClient{nc, in}, nil
		}}
	p.Upstream.Addr = l.Addr().String()
	return p
}

func TestLawsHold(t *testing.T) { Laws(t, protocol(t, "")) }

// found is a test that notes whether something was found.
type found struct {
	testing.TB
	mu  sync.Mutex
	any bool
}

func (f *found) note() { f.mu.Lock(); f.any = true; f.mu.Unlock() }

func (f *found) Helper()                           {}
func (f *found) Error(...any)                      { f.note() }
func (f *found) Errorf(string, ...any)             { f.note() }
func (f *found) Fatal(...any)                      { f.note(); runtime.Goexit() }
func (f *found) Fatalf(format string, args ...any) { f.Fatal() }

// TestLawsFind: each line that is wrong is found by the law that is about it.
func TestLawsFind(t *testing.T) {
	for bug, name := range map[string]string{
		"sends before it asks":       "allowed is recorded before it goes",
		"sends what is refused":      "refused never goes, and the session goes on",
		"ends on a refusal":          "a guard that fails refuses",
		"runs without a record":      "no record, no command",
		"looks away from limits":     "a limit on rows holds, and the session goes on",
		"remembers what was allowed": "a new policy judges the next command",
		"does not see the end":       "the end of the right takes back what is open",
		"forgets the end":            "every command has one end",
		"does not count":             "rows are counted",
		"asks the upstream first":    "nobody is let in without the right",
		"sends what is held":         "a held command goes when it is approved, and not before",
		"ends on a denial":           "a held command that is denied never goes, and the session goes on",
		"does not see its client go": "a held command goes with its client",
		"never closes":               "an upstream that vanishes ends the session",
	} {
		t.Run(bug, func(t *testing.T) {
			f := &found{TB: t}
			w := start(t, protocol(t, bug))
			for _, l := range laws {
				if l.name != name {
					continue
				}
				done := make(chan struct{})
				go func() { defer close(done); l.holds(&law{f, w}) }()
				<-done
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if !f.any {
				t.Errorf("%s: the law %q does not find it", bug, name)
			}
		})
	}
}
