package approval_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

const victim = "TASKGATE_APPROVAL_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		if err := dies(dir); err != nil {
			fmt.Println("failed", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// dies asks and decides until it is killed, saying what it was told has been done.
func dies(dir string) error {
	ctx := context.Background()
	log, _, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Segment: 1 << 20})
	if err != nil {
		return err
	}
	rows, err := store.Open(ctx, filepath.Join(dir, "store.db"))
	if err != nil {
		return err
	}
	s := &approval.Service{Log: log, Store: rows, Groups: func(context.Context, string, string) ([]string, error) { return []string{"dba"}, nil }}
	bob := approval.Person{Issuer: "https://idp", Subject: "bob", Groups: []string{"dba"}}
	for i := 0; ; i++ {
		id := fmt.Sprint("r", i)
		r := request(id, 1, "dba")
		r.Session.Subject = id
		if err := s.Ask(ctx, r); err != nil {
			return err
		}
		fmt.Println("waiting", id)
		if i%4 == 0 {
			continue
		}
		if _, err := s.Decide(ctx, id, bob, i%4 != 1, "yes", "k7qa"); err != nil {
			return err
		}
		if i%4 == 1 {
			fmt.Println("denied", id)
			continue
		}
		fmt.Println("approved", id)
		if i%4 == 3 {
			if _, err := s.Spend(ctx, id); err != nil {
				return err
			}
			fmt.Println("used", id)
		}
	}
}

// AP09: after kill -9 everything that was said to be done is there, what was
// decided is in the log, and nothing that was open can be used.
func TestAP09Killed(t *testing.T) {
	w := &world{TB: t, dir: t.TempDir()}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+w.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := map[string]approval.State{}
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		state, id, _ := strings.Cut(lines.Text(), " ")
		if state == "failed" {
			t.Fatal(lines.Text())
		}
		if last[id] = approval.State(state); len(last) > 30 && !killed {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	log, _, err := audit.Open(filepath.Join(w.dir, "audit"), audit.Options{Segment: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	rows := w.open()
	w.log = &failing{Log: log, Store: rows}
	cards, err := rows.Requests(t.Context(), false, 1000)
	if err != nil || len(cards) < len(last) {
		t.Fatalf("%d of %d: %v", len(cards), len(last), err)
	}
	found := map[string]*approval.Card{}
	for _, c := range cards {
		found[c.ID] = c
		if got := w.logged(c.ID); len(c.Voices) > 0 && len(got) == 0 {
			t.Errorf("%s has a voice that is not in the log", c.ID)
		}
	}
	order := map[approval.State]int{gate.Waiting: 0, gate.Approved: 1, gate.Refused: 1, gate.Used: 2}
	for id, state := range last {
		if c := found[id]; c == nil || order[c.State] < order[state] {
			t.Errorf("%s was said to be %s: %+v", id, state, c)
		}
	}
	w.Service = w.service()
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, c := range found {
		d, err := w.Spend(t.Context(), id)
		if err != nil || d.State == gate.Used {
			t.Errorf("%s can be used after it: %+v %v", id, d, err)
		}
		want := gate.Withdrawn
		if c.State == gate.Refused || c.State == gate.Used {
			want = c.State
		}
		w.state(id, want)
	}
}
