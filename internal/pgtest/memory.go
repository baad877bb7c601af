package pgtest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	memory = "/dev/shm"
	prefix = "taskgate-pg"
	enough = 12 << 30 // bytes that have to be free, for a few clusters beside each other
)

// inMemory makes a directory in memory for a cluster's data, which a disk would
// take ten times as long to copy a database of. There is none where there is
// not enough room. The lock on it goes with the process.
func inMemory() (dir string, lock *os.File) {
	var fs unix.Statfs_t
	if unix.Statfs(memory, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || int64(fs.Bavail)*fs.Bsize < enough || available() < enough {
		return "", nil
	}
	sweep()
	dir, err := os.MkdirTemp(memory, prefix)
	if err != nil {
		return "", nil
	}
	if lock, err = os.Open(dir); err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil
	}
	return dir, lock
}

// sweep removes what processes left that were killed.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(memory, prefix+"*"))
	for _, dir := range left {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil && time.Since(st.ModTime()) > time.Minute && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}

// available is how many bytes of memory can be had without swapping.
func available() (n int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if _, err := fmt.Sscanf(s.Text(), "MemAvailable: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}
