package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal gives both ends of a terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestCompletion: the Tab key completes names in psql, which asks the catalog
// while one types.
func TestCompletion(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	ours, theirs := terminal(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "/usr/lib/postgresql/15/bin/psql", "-X", g.url())
	cmd.Env = append(os.Environ(), "TERM=dumb", "PSQL_PAGER=", "PSQL_HISTORY=/dev/null", "INPUTRC=/dev/null")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	seen := ""
	until := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(seen, want) {
			n, err := ours.Read(buf)
			if err != nil {
				t.Fatalf("no %q in %q: %v", want, seen, err)
			}
			seen += strings.ReplaceAll(string(buf[:n]), "\a", "") // the bell rings while several names begin so
		}
		_, seen, _ = strings.Cut(seen, want)
	}
	until("=> ")
	for _, c := range []struct{ typed, want, rest, answer string }{
		{"select status from ord", "from orders", " where id = 3;", " new"},
		{"select 'got ' || status from orders where custo", "where customer_id", " > 0 and id = 3;", "got new"},
		{"update ite", "update items", " set sku = 'x' where false;", "UPDATE 0"},
		{"\\d cust", "d customers", "", "customers_pkey"},
		{"set datest", "set datestyle", " = 'German';", "SET"},
		{"insert into pay", "into payments", " select * from payments where false;", "INSERT 0 0"},
		{"delete from it", "from items", ";", "HINT:  ask"},
	} {
		if _, err := ours.WriteString(c.typed + "\t"); err != nil {
			t.Fatal(err)
		}
		until(c.want)
		if _, err := ours.WriteString(c.rest + "\n"); err != nil {
			t.Fatal(err)
		}
		until(c.answer)
		until("=> ")
	}
	if _, err := ours.WriteString("\\q\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
