//go:build linux && amd64

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// order tells the tracer which system call to end the gateway at, or to let
// fail. Names are of sockets, by "local" or "remote" port.
type order struct {
	Names map[string]string // "local 6432": "client"
	Point string            // "fdatasync audit", empty is none
	Nth   int               // which of them, from 1
	After bool              // killed once it has been done, not before
	Errno syscall.Errno     // it fails so instead, and so do all that follow; 0 is killed
	Once  bool              // only that one fails
}

// points are the system calls by which the gateway changes anything outside of
// its memory, or learns of it.
var points = map[uint64]string{
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_WRITEV: "write", unix.SYS_PREAD64: "", unix.SYS_PWRITE64: "write",
	unix.SYS_IO_URING_ENTER: "enter", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FTRUNCATE: "cut", unix.SYS_FALLOCATE: "allocate", unix.SYS_FCNTL: "lock",
}

// tracer runs a gateway as its child and, once it has an order, stops it at
// every system call. Nothing of the gateway has to know of it. Its name in
// TestMain is tracer; the process that orders reads what it prints:
//
//	pid N              the gateway's
//	armed              the order is understood
//	met POINT          one that is named, in the order in which they are met
//	fired              that was the one
//	gone               the gateway is
func tracer() {
	runtime.LockOSThread() // only the thread that attached may ask for more
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	t := &tracing{pid: cmd.Process.Pid, calls: map[int]string{}, sockets: map[string]string{}, count: map[string]int{}}
	fmt.Println("pid", t.pid)
	in := bufio.NewScanner(os.Stdin)
	if in.Scan() {
		err := json.Unmarshal(in.Bytes(), &t.order)
		if err == nil {
			err = t.seize()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "tracer:", err)
			_ = cmd.Process.Kill()
		} else {
			fmt.Println("armed")
		}
		t.run()
	} else {
		_ = cmd.Wait()
	}
	fmt.Println("gone")
}

type tracing struct {
	order
	pid     int
	calls   map[int]string // what a thread is in, as its point; "" is of no interest
	sockets map[string]string
	count   map[string]int
	fired   bool
	failing map[int]bool // threads whose call is not done
}

const (
	ptraceSeize          = 0x4206
	ptraceGetSyscallInfo = 0x420e
	entry, exit          = 1, 2
)

// seize attaches to all threads, until there is no new one.
func (t *tracing) seize() error {
	t.failing = map[int]bool{}
	seen := map[string]bool{}
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return err
		}
		for _, e := range tasks {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()], again = true, true
			var tid int
			_, _ = fmt.Sscan(e.Name(), &tid)
			if _, _, no := unix.RawSyscall6(unix.SYS_PTRACE, ptraceSeize, uintptr(tid), 0, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL, 0, 0); no != 0 {
				if no == unix.EPERM || no == unix.ESRCH { // a thread of one that is attached is so already
					continue
				}
				return no
			}
			if err := unix.PtraceInterrupt(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// run follows all threads until the last is gone.
func (t *tracing) run() {
	for {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // no child is left
			return
		case !ws.Stopped():
			continue
		}
		signal := 0
		switch {
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			t.call(tid)
		case ws>>16 == 0: // a signal of its own
			signal = int(ws.StopSignal())
		}
		_ = unix.PtraceSyscall(tid, signal) // it may be killed by now
	}
}

// call looks at a thread that enters or leaves a system call.
func (t *tracing) call(tid int) {
	var info [88]byte
	if _, _, no := unix.RawSyscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), uintptr(len(info)), uintptr(unsafe.Pointer(&info)), 0, 0); no != 0 {
		return
	}
	switch info[0] {
	case entry:
		point := t.point(binary.LittleEndian.Uint64(info[24:]), binary.LittleEndian.Uint64(info[32:]), binary.LittleEndian.Uint64(info[40:]))
		t.calls[tid] = point
		if point != "" && !strings.HasPrefix(point, "read ") {
			t.meet(tid, point, true)
		}
	case exit:
		point := t.calls[tid]
		delete(t.calls, tid)
		result := int64(binary.LittleEndian.Uint64(info[24:]))
		switch {
		case point == "":
		case t.failing[tid]:
			delete(t.failing, tid)
			t.set(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(t.Errno) })
		case strings.HasPrefix(point, "read "): // one that gave nothing has told nothing
			if result > 0 {
				t.meet(tid, point, false)
			}
		case t.After && point == t.Point && t.count[point] == t.Nth:
			t.kill()
		}
	}
}

// meet counts a point, and fires where it is the one.
func (t *tracing) meet(tid int, point string, before bool) {
	t.count[point]++
	fmt.Println("met", point)
	if point != t.Point || t.count[point] < t.Nth || t.Once && t.fired {
		return
	}
	switch {
	case t.Errno != 0 && before:
		t.failing[tid] = true
		t.set(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
		if !t.fired {
			fmt.Println("fired")
		}
		t.fired = true
	case t.Errno != 0: // it has been read already, and is lost
		t.set(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(t.Errno) })
		if !t.fired {
			fmt.Println("fired")
		}
		t.fired = true
	case t.count[point] == t.Nth && (!t.After || !before):
		t.kill()
	}
}

func (t *tracing) kill() {
	_ = unix.Kill(t.pid, unix.SIGKILL)
	fmt.Println("fired")
	t.fired = true
}

func (t *tracing) set(tid int, change func(*unix.PtraceRegs)) {
	var r unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &r) == nil {
		change(&r)
		_ = unix.PtraceSetRegs(tid, &r)
	}
}

// point names a system call by what it does to what, or gives "".
func (t *tracing) point(nr, fd, arg uint64) string {
	verb := points[nr]
	if verb == "" || verb == "lock" && arg != unix.F_SETLK {
		return ""
	}
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, fd))
	if err != nil {
		return ""
	}
	name := filepath.Base(to)
	switch {
	case strings.HasPrefix(to, "socket:["):
		inode := strings.Trim(to[len("socket:"):], "[]")
		if t.sockets[inode] == "" {
			t.sockets[inode] = t.socket(inode)
		}
		name = strings.TrimSpace(t.sockets[inode])
	case filepath.Base(filepath.Dir(to)) == "audit" && strings.HasSuffix(name, ".log"), name == "next":
		name = "audit"
	case filepath.Base(to) == "audit": // the directory
		name = "audit"
	case to == "anon_inode:[io_uring]":
		name = "loop"
	case strings.HasSuffix(name, ".tgr"):
		name = "recording"
	case name == "checkpoints":
	case strings.HasPrefix(name, "store.db"):
		name = "store"
	default:
		name = ""
	}
	if name == "" {
		return ""
	}
	return verb + " " + name
}

// socket gives a socket's name, or " ".
func (t *tracing) socket(inode string) string {
	for _, table := range []string{"tcp", "tcp6"} {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", t.pid, table))
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[9] != inode {
				continue
			}
			for i, which := range []string{"local", "remote"} {
				_, port, _ := strings.Cut(f[1+i], ":")
				n, err := hex.DecodeString(port)
				if err != nil {
					continue
				}
				if name := t.Names[fmt.Sprintf("%s %d", which, binary.BigEndian.Uint16(n))]; name != "" {
					return name
				}
			}
		}
	}
	return " "
}

// arm sends the order.
func (o *order) arm(to interface{ Write([]byte) (int, error) }) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(o); err != nil {
		return err
	}
	_, err := to.Write(b.Bytes())
	return err
}
