package postgres

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// psql is a psql at work.
type psql struct {
	*exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *psql) Write(b []byte) (int, error) { p.mu.Lock(); defer p.mu.Unlock(); return p.out.Write(b) }

func (p *psql) said() string { p.mu.Lock(); defer p.mu.Unlock(); return p.out.String() }

// told waits until its user has read what. A request is there before its notice
// has reached the client, and who gives up in between sees none.
func (p *psql) told(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.said(), what); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in\n%s", what, p.said())
		}
	}
}

// asPsql runs psql on a text while decide looks after what is asked.
func (g *gateway) asPsql(t *testing.T, text string, decide func(*psql)) string {
	t.Helper()
	p := &psql{Cmd: exec.Command("psql", "-XAt", g.url())}
	p.Stdin = strings.NewReader(text)
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(60*time.Second, func() { _ = p.Process.Kill() }).Stop()
	decide(p)
	_ = p.Wait()
	return p.said()
}

func inOrder(t *testing.T, out string, list ...string) {
	t.Helper()
	at := 0
	for _, w := range list {
		i := strings.Index(out[at:], w)
		if i < 0 {
			t.Fatalf("no %q (in order) in\n%s", w, out)
		}
		at += i + len(w)
	}
}
