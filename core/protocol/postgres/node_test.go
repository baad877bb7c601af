package postgres

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNodePostgres runs a node-postgres program, as its users write them,
// through the gateway: parameters, named statements, transactions, a refusal
// in the middle, a pool. .ci/install fetches the package.
func TestNodePostgres(t *testing.T) {
	modules, err := filepath.Abs("../../../.cache/node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "pg")); err != nil {
		t.Fatalf("node-postgres is not there: run .ci/install test (%v)", err)
	}
	g := serve(t, &rules{allow: noDelete})
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "node", "testdata/client.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "DATABASE_URL="+g.url())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "connected\nrow 3 new\nnamed 3 new\nnamed 4 paid\nupdated 1\nrefused 42501 not in the task | rule 1 of task x | ask\nstill in: 25P02\nback new\nnull true\npool 1,2,3,4,5\ndone\n"
	if got := string(out); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if strings.Contains(string(out), "Warning") {
		t.Error(string(out))
	}
}
