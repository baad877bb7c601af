package loop

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is the kernel's queue of requests and answers, as <linux/io_uring.h> and
// io_uring(7) have it. One goroutine at a time may use it.
type ring struct {
	fd       int
	memory   []byte // the heads and tails, and the answers
	requests []byte

	sqHead, sqTail, cqHead, cqTail *uint32
	sq                             []request
	cq                             []answer
	tail                           uint32 // of what is pushed, told or not
	told                           uint32

	files int // how many sockets it can know by slot

	arg   getevents
	wait  unix.Timespec
	began time.Time     // what times are told from: a difference is read faster than a time
	waits time.Duration // how long they are, on an average of the last

	// What letOthers goes by.
	crowd uint32        // how many answers a wait gives, in 64ths, on an average of the last 64
	shy   time.Duration // until when others are not let run
}

// request is struct io_uring_sqe.
type request struct {
	op     uint8
	flags  uint8
	ioprio uint16
	fd     int32
	off    uint64
	addr   uint64
	len    uint32
	how    uint32
	user   uint64
	_      [3]uint64
}

// answer is struct io_uring_cqe.
type answer struct {
	user  uint64
	res   int32
	flags uint32
}

// getevents is struct io_uring_getevents_arg.
type getevents struct {
	mask    uint64
	size    uint32
	minWait uint32
	wait    uint64
}

// table is struct io_uring_rsrc_register.
type table struct {
	size, flags       uint32
	_, entries, marks uint64
}

// update is struct io_uring_files_update.
type update struct {
	at, _ uint32
	fds   uint64
}

// setup is struct io_uring_params.
type setup struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		addr                                                uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		addr                                                uint64
	}
}

const (
	opRead, opCancel, opSend, opRecv = 22, 14, 26, 27

	featSingleMap, featNoDrop, featExtArg, featSkip = 1, 2, 256, 2048
	featAttr                                        = 1 << 16 // Linux 6.14

	setupCQSize      = 8
	setupCoopTaskrun = 256 // Linux 5.19: the kernel does not interrupt a thread to finish a request

	enterGetEvents, enterExtArg = 1, 8
	mapRings, mapRequests       = 0, 0x10000000
	pollFirst                   = 1 // of a reading: nothing is there yet, as far as is known
	fixedFile                   = 1
	skipSuccess                 = 64
	registerUpdate              = 6
	registerFiles               = 13
	sparse                      = 1
	entries                     = 1024
	answers                     = 8192

	short = 200 * time.Microsecond // of waits
	long  = 2 * time.Millisecond   // without the processor

	crowded = 8 * 64 // of fewer, as many come without

	seldom = 100 // times as long as others kept the processor it is not given away
)

func newRing(entries uint32) (*ring, error) {
	p := setup{flags: setupCQSize | setupCoopTaskrun, cqEntries: answers}
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return nil, fmt.Errorf("loop: io_uring_setup: %w", e)
	}
	r := &ring{fd: int(fd), began: time.Now(), wait: unix.Timespec{Nsec: 20e6}}
	if need := uint32(featSingleMap | featNoDrop | featExtArg | featSkip); p.features&need != need {
		return nil, errors.Join(fmt.Errorf("loop: io_uring has the features %#x, needed are %#x", p.features, need), r.close())
	}
	var err error
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(answer{})))
	if r.memory, err = unix.Mmap(r.fd, mapRings, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, errors.Join(fmt.Errorf("loop: %w", err), r.close())
	}
	if r.requests, err = unix.Mmap(r.fd, mapRequests, int(p.sqEntries)*int(unsafe.Sizeof(request{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, errors.Join(fmt.Errorf("loop: %w", err), r.close())
	}
	at := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[offset])) }
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = at(p.sq.head), at(p.sq.tail), at(p.cq.head), at(p.cq.tail)
	r.sq = unsafe.Slice((*request)(unsafe.Pointer(&r.requests[0])), p.sqEntries)
	r.cq = unsafe.Slice((*answer)(unsafe.Pointer(&r.memory[p.cq.cqes])), p.cqEntries)
	for i, array := uint32(0), unsafe.Slice(at(p.sq.array), p.sqEntries); i < p.sqEntries; i++ {
		array[i] = i
	}
	r.tail = *r.sqTail
	r.told = r.tail
	r.arg.wait = uint64(uintptr(unsafe.Pointer(&r.wait)))
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 0, 0, 0, 0, 0); e != 0 { // some forbid this one alone
		return nil, errors.Join(fmt.Errorf("loop: io_uring_enter: %w", e), r.close())
	}
	// Kernels before 6.13 give up what they knew by slots in order, and so no socket
	// that is closed while an older reading waits, of a session that is silent.
	if p.features&featAttr == 0 {
		return r, nil
	}
	r.files = most + 1
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerFiles, uintptr(unsafe.Pointer(&table{size: uint32(r.files), flags: sparse})), unsafe.Sizeof(table{}), 0, 0); e != 0 {
		r.files = 0 // it is merely slower where it may open fewer
	}
	return r, nil
}

// know has the kernel find a socket by its slot from now on, which is faster than
// by its descriptor, and says whether it does. Of -1 it knows nothing any more.
func (r *ring) know(slot uint32, fd int) bool {
	if int(slot) >= r.files {
		return false
	}
	one := int32(fd)
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerUpdate, uintptr(unsafe.Pointer(&update{at: slot, fds: uint64(uintptr(unsafe.Pointer(&one)))})), 1, 0, 0)
	return e == 0
}

// push puts a request into the queue, of which enter tells the kernel. Where there
// is no room the kernel is told right away.
func (r *ring) push(q request) error {
	for r.tail-atomic.LoadUint32(r.sqHead) == uint32(len(r.sq)) {
		if err := r.enter(false); err != nil {
			return err
		}
	}
	r.sq[r.tail%uint32(len(r.sq))] = q
	r.tail++
	return nil
}

// next takes an answer out of the queue, in which there is one.
func (r *ring) next() answer {
	head := *r.cqHead
	a := r.cq[head%uint32(len(r.cq))]
	atomic.StoreUint32(r.cqHead, head+1)
	return a
}

// each shows the answers that are there and leaves them.
func (r *ring) each(f func(answer)) {
	for at, tail := *r.cqHead, atomic.LoadUint32(r.cqTail); at != tail; at++ {
		f(r.cq[at%uint32(len(r.cq))])
	}
}

// come gives how many answers are there.
func (r *ring) come() uint32 { return atomic.LoadUint32(r.cqTail) - *r.cqHead }

func (r *ring) answered() bool { return r.come() > 0 }

// enter tells the kernel what was pushed, and waits for an answer where wait is
// said. Go's scheduler does not hear of the wait where waits are short: told of
// one that takes more than 20 µs it gives the processor away and looks for others
// of the kind for a while, which costs more than what is waited for. The end of
// such a wait is far off, or each would set the processor's timer.
func (r *ring) enter(wait bool) error {
	if !wait && r.told == r.tail {
		return nil
	}
	atomic.StoreUint32(r.sqTail, r.tail)
	var began time.Duration
	if wait {
		if came, err := r.letOthers(); came || err != nil {
			return err
		}
		began = time.Since(r.began)
		defer func() {
			r.waits += (time.Since(r.began) - began - r.waits) / 8
			r.count()
		}()
	}
	for told := r.waits > short; ; {
		want, flags := uintptr(0), uintptr(0)
		if wait {
			want, flags = 1, enterGetEvents|enterExtArg
		}
		var n uintptr
		var e syscall.Errno
		if told {
			n, _, e = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.tail-r.told), want, flags&^enterExtArg, 0, 0)
		} else {
			n, _, e = unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.tail-r.told), want, flags, uintptr(unsafe.Pointer(&r.arg)), unsafe.Sizeof(r.arg))
		}
		if e == 0 {
			r.told += uint32(n)
		} else {
			r.told = atomic.LoadUint32(r.sqHead) // what it has taken
		}
		switch {
		case e == unix.ETIME, e == unix.EINTR: // interrupted by Go, whose world is to stop and waits for this thread
			told = true
		case e == unix.EAGAIN, e == unix.EBUSY, e == unix.ENOMEM: // there is no memory just now
			runtime.Gosched()
		case e != 0:
			return fmt.Errorf("loop: io_uring_enter: %w", e)
		}
		if r.told == r.tail && (!wait || r.answered()) {
			return nil
		}
	}
}

// letOthers comes before a wait that is likely to be short and to end with one
// answer of the many that are about to come. It tells the kernel what was pushed and
// gives the processor to others, among them those who answer: what has come after
// that is taken together, and the thread need not be put to sleep and woken for
// each. Where others keep the processor for long, it is not given away again soon.
func (r *ring) letOthers() (came bool, err error) {
	if r.waits > short || r.crowd < crowded {
		return false, nil
	}
	began := time.Since(r.began)
	if began < r.shy {
		return false, nil
	}
	if err := r.enter(false); err != nil {
		return false, err
	}
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // cannot fail
	if now := time.Since(r.began); now-began > long {
		r.shy = now + seldom*(now-began)
	}
	if !r.answered() {
		return false, nil
	}
	r.count()
	return true, nil
}

func (r *ring) count() {
	r.crowd += r.come() - r.crowd/64
}

func (r *ring) close() error {
	var errs []error
	for _, m := range [][]byte{r.requests, r.memory} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(append(errs, unix.Close(r.fd))...)
}
