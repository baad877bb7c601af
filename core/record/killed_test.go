package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/gate"
)

// steps counts what happens between receiving a command and answering it, and
// kills the process at one of them.
type steps struct{ n, at int }

func (s *steps) step() {
	if s.n++; s.n == s.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// killing puts a step before and after everything that the gate does to the log
// and to the recording.
type killing struct {
	script
	*steps
	log *audit.Log
	rec *Recorder
}

func (k killing) Append(ctx context.Context, b []byte, durable bool) error {
	k.step()
	err := k.log.Append(ctx, b, durable)
	k.step()
	return err
}

func (k killing) TryAppend(b []byte, now time.Time) bool {
	k.step()
	ok := k.log.TryAppend(b, now)
	k.step()
	return ok
}

func (k killing) Record(id string) (gate.Recording, error) {
	k.step()
	r, err := k.rec.Record(id)
	k.step()
	return tape{r, k.steps}, err
}

type tape struct {
	gate.Recording
	*steps
}

func (t tape) Append(b []byte) error {
	t.step()
	err := t.Recording.Append(b)
	t.step()
	return err
}

func (t tape) Close() error {
	t.step()
	err := t.Recording.Close()
	t.step()
	return err
}

// gateway is one that is killed at a step: its upstream is a file, to which it
// writes each command that goes there.
func gateway(dir string, at int) error {
	k := killing{steps: &steps{at: at}}
	var err error
	if k.log, _, err = audit.Open(filepath.Join(dir, "audit"), audit.Options{Segment: 2048}); err != nil {
		return err
	}
	if k.rec, err = Open(filepath.Join(dir, "recordings"), 1000); err != nil {
		return err
	}
	upstream, err := os.OpenFile(filepath.Join(dir, "upstream"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	g := &gate.Gate{Identity: k, Log: k, Recorder: k}
	g.Swap(&gate.Generation{Guards: []gate.Guard{guard{}}, Tasks: map[string]*gate.Task{"x": {Name: "x", Groups: []string{"task:x"}, Resources: []string{"shop"}}},
		Resources: map[string]*gate.Resource{"shop": {Name: "shop", Protocol: "postgres"}}})
	ctx := context.Background()
	s, err := g.Open(ctx, gate.Login{Protocol: "postgres", Task: "x", Resource: "shop"})
	if err != nil {
		return err
	}
	for _, text := range []string{"read", "write", "drop it", "read", "write"} {
		st := &abi.Statement{Text: text, Operations: []abi.Operation{{Verb: "x", Effect: abi.EffectRead}}}
		if text == "write" {
			st.Operations[0].Effect = abi.EffectWrite
		}
		for range 2 { // the second time what is remembered may answer
			c := &abi.Command{Phase: abi.Execute, Statement: st}
			k.step()
			ex, ok := s.TrySubmit(c)
			if !ok {
				ex, err = s.Submit(ctx, c, nil)
			}
			if _, denied := err.(*gate.Denied); denied {
				continue
			}
			if err != nil {
				return err
			}
			k.step()
			if _, err := fmt.Fprintf(upstream, "%s %d\n", s.ID(), ex.Number()); err != nil {
				return err
			}
			k.step()
			err = errors.Join(ex.Result(ctx, &abi.Result{Frames: []byte{'D', 0, 0, 0, 6, 0, 0}, Rows: 1}), ex.Done(ctx, gate.Outcome{State: gate.Completed}))
			if err != nil {
				return err
			}
			k.step()
		}
	}
	if err := errors.Join(s.Close(nil), k.log.Close()); err != nil {
		return err
	}
	fmt.Println("whole", k.n)
	return nil
}

// TestRC01Killed kills the gateway at every step: what went upstream is in the
// log as allowed, the chain verifies once the next start has been, and that
// start goes on.
func TestRC01Killed(t *testing.T) {
	if dir := os.Getenv("TASKGATE_TEST_KILLED"); dir != "" {
		at, _ := strconv.Atoi(os.Getenv("TASKGATE_TEST_KILLED_AT"))
		if err := gateway(dir, at); err != nil {
			t.Fatal(err)
		}
		return
	}
	acted, dirs := 0, []string{}
	for at, whole := 1, false; !whole; at++ {
		if at%12 == 1 { // each start goes on where the last one was killed
			dirs = append(dirs, t.TempDir())
		}
		dir := dirs[len(dirs)-1]
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRC01Killed$")
		cmd.Env = append(os.Environ(), "TASKGATE_TEST_KILLED="+dir, "TASKGATE_TEST_KILLED_AT="+strconv.Itoa(at))
		out, err := cmd.CombinedOutput()
		whole = bytes.Contains(out, []byte("whole"))
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !whole && (!ok || st.Signal() != syscall.SIGKILL) {
			t.Fatalf("step %d: %v\n%s", at, err, out)
		}
		if rep, err := audit.Verify(filepath.Join(dir, "audit"), "", ""); err != nil || len(rep.Torn) > 0 {
			t.Fatalf("step %d: %+v %v", at, rep, err)
		}
	}
	for _, dir := range dirs {
		acted += allActedIsLogged(t, dir)
	}
	if acted < 100 || len(dirs) < 5 {
		t.Errorf("only %d commands went upstream, in %d groups of steps", acted, len(dirs))
	}
}

// allActedIsLogged holds what went upstream against the log, and gives how much
// that was. The recordings are all there to be listed, whole or torn.
func allActedIsLogged(t *testing.T, dir string) int {
	t.Helper()
	allowed := map[string]bool{}
	err := audit.Read(filepath.Join(dir, "audit"), func(r audit.Record) error {
		e, err := gate.ReadEvent(r.Payload)
		if err == nil && e.Kind == gate.EventCommand && e.Decision == "allow" {
			allowed[fmt.Sprintf("%s %d", e.Session, e.Command)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := os.ReadFile(filepath.Join(dir, "upstream"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(upstream)) {
		n++
		if !allowed[strings.TrimSpace(line)] {
			t.Errorf("%s went upstream and is not in the log", line)
		}
	}
	list, err := List(filepath.Join(dir, "recordings"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.State == "unreadable" || s.State == "unfinished" && s.Ended.After(time.Time{}) {
			t.Errorf("%+v", s)
		}
	}
	return n
}
