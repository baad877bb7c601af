package loop

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNone: where there are no loops, connections are left as they were, and so are
// Go's processors.
func TestNone(t *testing.T) {
	had := runtime.GOMAXPROCS(0)
	stays(t, &Group{err: errors.New("the kernel says no")})
	if has := runtime.GOMAXPROCS(0); has != had {
		t.Errorf("Go has %d processors, had %d", has, had)
	}
	one, two := net.Pipe() // no sockets
	defer one.Close()
	defer two.Close()
	_, near := pipe(t)
	if _, _, err := new(Group).Adopt(one, near); !errors.Is(err, ErrNone) {
		t.Fatal(err)
	}
}

// TestFewDescriptors: where there are none for one more loop, those that run carry.
func TestFewDescriptors(t *testing.T) {
	if !needLoop(t) {
		return
	}
	g := &Group{}
	a, b := pipe(t)
	one, other, err := g.Adopt(a, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Release(); other.Release() })
	c, d := pipe(t)
	var had unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
			t.Error(err)
		}
	}()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, e := range open {
		n, _ := strconv.Atoi(e.Name())
		highest = max(highest, n)
	}
	last := -1
	for last <= highest { // until no number below is free
		if last, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(last)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(last) + 1 + 2, Max: had.Max}); err != nil { // two sockets
		t.Fatal(err)
	}
	two, more, err := g.Adopt(c, d)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Release()
	defer more.Release()
	if two.loop.Load() != one.loop.Load() {
		t.Error("a second loop runs")
	}
}
