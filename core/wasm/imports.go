package wasm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/wasm/meter"
)

// Statuses of the imported functions.
const (
	statusOK       = 0
	statusNotFound = 1
	statusInvalid  = 3
)

// Errors of WASI preview 1 that a guest can meet.
const (
	errnoBadf  = 8
	errnoFault = 21
)

// maxBytes bounds what one import handles.
const maxBytes = 64 << 10

// maxName bounds a name that a symbol is asked for, in bytes.
const maxName = 512

// function is the body of an import: the guest, its memory, and the stack that
// holds the arguments and takes the result.
type function func(in *instance, mod api.Module, stack []uint64)

// bodies are the functions behind the table in check.go.
var bodies = map[string]map[string]function{
	coreModule: {
		"log":       func(in *instance, mod api.Module, s []uint64) { in.log(text(in, mod, s[1], s[2])) },
		"log_level": func(in *instance, _ api.Module, s []uint64) { s[0] = 1 },
		"fail":      func(in *instance, mod api.Module, s []uint64) { in.fail = clip(text(in, mod, s[0], s[1]), 1024) },
		"take":      func(in *instance, _ api.Module, s []uint64) { s[0] = statusNotFound }, // nothing here is ever too large
		"symbol":    symbol,
	},
	clockModule: {"now": func(in *instance, _ api.Module, s []uint64) {
		in.impure = true
		if uint32(s[0]) == 0 {
			s[0] = uint64(time.Now().UnixNano())
		} else {
			s[0] = uint64(time.Since(started))
		}
	}},
	randomModule: {"fill": func(in *instance, mod api.Module, s []uint64) {
		in.impure = true
		s[0] = fill(in, mod, s[0], s[1], statusOK, statusInvalid)
	}},
	wasiModule: {
		"sched_yield":         func(_ *instance, _ api.Module, s []uint64) { s[0] = 0 },
		"proc_exit":           func(in *instance, _ api.Module, s []uint64) { panic(errors.New("the guest called exit")) },
		"poll_oneoff":         sleep,
		"args_get":            func(_ *instance, _ api.Module, s []uint64) { s[0] = 0 },
		"environ_get":         func(_ *instance, _ api.Module, s []uint64) { s[0] = 0 },
		"args_sizes_get":      nothing,
		"environ_sizes_get":   nothing,
		"clock_time_get":      clock,
		"fd_write":            write,
		"fd_close":            badf,
		"fd_fdstat_get":       badf,
		"fd_fdstat_set_flags": badf,
		"fd_prestat_get":      badf,
		"fd_prestat_dir_name": badf,
		"random_get": func(in *instance, mod api.Module, s []uint64) {
			if in.ready { // before that it only seeds the guest's own runtime
				in.impure = true
			}
			s[0] = fill(in, mod, s[0], s[1], 0, errnoFault)
		},
	},
	"env": {"abort": func(in *instance, mod api.Module, s []uint64) {
		in.fail = "abort"
		panic(errors.New("the guest aborted"))
	}},
}

var started = time.Now()

// text gives a copy of the guest's bytes, cut to what an import handles.
func text(in *instance, mod api.Module, at, n uint64) string {
	in.charge(mod, int64(min(uint32(n), maxBytes))/bytesPerFuel)
	b, ok := mod.Memory().Read(uint32(at), min(uint32(n), maxBytes))
	if !ok {
		panic(errors.New("an import was given a pointer outside the guest's memory"))
	}
	return string(b)
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// log hands a line on.
func (in *instance) log(line string) {
	if in.mute() {
		return
	}
	to := in.m.set.host.Log
	if in.logged += len(line) + 1; in.logged > maxLog || to == nil {
		return
	}
	ok, dropped := in.m.logs.take(len(line)+1, time.Now())
	if dropped > 0 {
		to(in.m.source.Name, fmt.Sprintf("(%d bytes of its log were dropped: more than %d in a second)", dropped, logsBytes))
	}
	if ok {
		to(in.m.source.Name, line)
	}
}

// logsBytes bounds what a module may log in a second, over all of its
// instances: the gateway's own log is not a guard's to fill.
const logsBytes = 128 << 10

// logs counts what a module logs.
type logs struct {
	mu      sync.Mutex
	since   time.Time
	n       int
	dropped int
}

// take says whether so many bytes may be logged, and how many were dropped in
// a second that is over.
func (l *logs) take(n int, now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= time.Second {
		dropped = l.dropped
		l.since, l.n, l.dropped = now, 0, 0
	}
	if l.n+n > logsBytes {
		l.dropped += n
		return false, dropped
	}
	l.n += n
	return true, dropped
}

// symbol gives the host's id for a name, while the guest is configured. It
// never answers with less than an exact id: a guard that took 0 for a name
// would find it in every operation whose name nobody asked for.
func symbol(in *instance, mod api.Module, s []uint64) {
	if in.hook != abi.HookConfigure {
		panic(errors.New("symbol was called outside CONFIGURE"))
	}
	if uint32(s[1]) > maxName {
		panic(fmt.Errorf("symbol was asked for a name of over %d bytes", maxName))
	}
	id := in.m.set.symbol(text(in, mod, s[0], s[1]))
	if id == 0 {
		panic(errors.New("symbol was asked for a name that was not asked for when the module was loaded, or for too many names"))
	}
	s[0] = uint64(id)
}

func nothing(_ *instance, mod api.Module, s []uint64) {
	if !mod.Memory().WriteUint32Le(uint32(s[0]), 0) || !mod.Memory().WriteUint32Le(uint32(s[1]), 0) {
		s[0] = errnoFault
		return
	}
	s[0] = 0
}

// sleep is what a guest calls that waits for something. Go's runtime does so
// for a moment while it prints a panic; whoever does it again and again waits
// for what cannot come.
func sleep(in *instance, _ api.Module, s []uint64) {
	if in.slept++; in.slept > 16 {
		panic(errors.New("the guest waits for something that cannot happen here"))
	}
	s[0] = 0
}

func badf(_ *instance, _ api.Module, s []uint64) { s[0] = errnoBadf }

// clock answers WASI's clocks without telling the time: the real one shows the
// command's own time where the guest is given that, else 0; the monotonic one
// moves a little with each look, since a guest's collector waits for it.
func clock(in *instance, mod api.Module, s []uint64) {
	v := uint64(in.wall)
	if uint32(s[0]) != 0 { // what stands above an i32 is anything
		in.mono += 50_000
		v = uint64(in.mono)
	}
	if !mod.Memory().WriteUint64Le(uint32(s[2]), v) {
		s[0] = errnoFault
		return
	}
	s[0] = 0
}

// write is the guest's standard error: the module's log.
func write(in *instance, mod api.Module, s []uint64) {
	if fd := uint32(s[0]); fd != 1 && fd != 2 {
		s[0] = errnoBadf
		return
	}
	mem, total := mod.Memory(), uint32(0)
	for i := range min(uint32(s[2]), 64) {
		head, ok := mem.Read(uint32(s[1])+8*i, 8)
		if !ok {
			s[0] = errnoFault
			return
		}
		at, n := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
		b, ok := mem.Read(at, n)
		if !ok {
			s[0] = errnoFault
			return
		}
		if total += n; n > 0 {
			b = b[:min(len(b), maxBytes)]
			in.charge(mod, int64(len(b))/bytesPerFuel)
			line := string(b)
			in.log(line)
			in.fail = clip(in.fail+line, 1024) // a panic's text comes this way
		}
	}
	if !mem.WriteUint32Le(uint32(s[3]), total) {
		s[0] = errnoFault
		return
	}
	s[0] = 0
}

func fill(in *instance, mod api.Module, at, n uint64, good, bad uint64) uint64 {
	in.charge(mod, int64(min(uint32(n), maxBytes))/bytesPerFuel)
	b, ok := mod.Memory().Read(uint32(at), uint32(n))
	if !ok || len(b) > maxBytes {
		return bad
	}
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return good
}

// What an import draws: for being called, and for the bytes it handles.
const (
	importFuel   = 200
	bytesPerFuel = 8
)

// provide instantiates the host's side of every import in a runtime.
func provide(ctx context.Context, r wazero.Runtime) error {
	for name, functions := range imports {
		b := r.NewHostModuleBuilder(name)
		for fn, typ := range functions {
			params, results := types(typ)
			b.NewFunctionBuilder().WithGoModuleFunction(charged(bodies[name][fn]), params, results).Export(fn)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	tick := api.GoModuleFunc(func(ctx context.Context, mod api.Module, _ []uint64) {
		ctx.Value(instanceKey{}).(*instance).tick(mod)
	})
	_, err := r.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(tick, nil, nil).Export(meter.ImportName).Instantiate(ctx)
	return err
}

// charged makes an import draw fuel.
func charged(f function) api.GoModuleFunction {
	return api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
		in := ctx.Value(instanceKey{}).(*instance)
		in.charge(mod, importFuel)
		f(in, mod, stack)
	})
}

func types(typ string) (params, results []api.ValueType) {
	list := &params
	for i := 0; i+3 <= len(typ); i++ {
		switch typ[i : i+3] {
		case "i32":
			*list = append(*list, api.ValueTypeI32)
		case "i64":
			*list = append(*list, api.ValueTypeI64)
		case " ->":
			list = &results
		}
	}
	return params, results
}
