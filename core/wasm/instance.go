package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/wasm/meter"
)

// instance is one copy of a module. It serves one call at a time; after any
// error it is discarded, since a trap leaves the guest's own runtime broken.
type instance struct {
	m      *Module
	ctx    context.Context // carries the instance to the functions that it imports
	mod    api.Module
	memory api.Memory
	linear mapping
	buffer api.Function
	call   api.Function
	fuel   api.MutableGlobal
	stack  [2]uint64
	at     uint32 // where the guest's input buffer is
	room   uint32 // and how much it holds

	// Of the call that runs.
	hook     abi.Hook
	left     int64 // ticks' worth of fuel that the call may still draw
	deadline time.Time
	stop     error // why a tick ended the call
	impure   bool
	fail     string // the guest's own words
	wall     int64  // Unix ns that WASI's real-time clock shows
	mono     int64
	logged   int
	slept    int
	ready    bool // _initialize has returned
}

type instanceKey struct{}

// The limits of a call.
const (
	slice        = 20_000      // fuel between two looks at the clock
	callFuel     = 4_000_000   // of one call
	byteFuel     = 60          // more for each byte of its input: a text over a thousand partitions has as many operations
	startFuel    = 500_000_000 // of _initialize and CONFIGURE together
	callDeadline = time.Second // the backstop
	startTime    = 10 * time.Second
	maxReply     = 1 << 20
	maxLog       = 64 << 10 // bytes a call may log
)

var (
	errBudget   = errors.New("the tick budget of the call is spent")
	errDeadline = errors.New("the call ran for too long")
)

func fuelFor(input []byte) int64 { return callFuel + byteFuel*int64(len(input)) }

// mostCells bounds what RESULT_BATCH may answer to an input of n bytes: four
// times its cells, which (*abi.Batch).Fits counts, and what stands around them.
func mostCells(n int) int { return 5*n + 1024 }

// instantiate makes an instance and configures it.
func (m *Module) instantiate() (*instance, error) {
	if !m.set.begin() {
		return nil, errClosed
	}
	in := &instance{m: m, left: startFuel, deadline: time.Now().Add(startTime), hook: abi.HookConfigure}
	err := in.make()
	if err == nil {
		err = in.start()
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// make has the engine build the instance, which runs a start function if the
// module has one. The engine panics where there is no memory to be had.
func (in *instance) make() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("instantiate: %v", p)
		}
	}()
	in.ctx = context.WithValue(experimental.WithMemoryAllocator(context.Background(), &in.linear), instanceKey{}, in)
	in.mod, err = in.m.set.runtime.InstantiateModule(in.ctx, in.m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		in.mod = nil
		return fmt.Errorf("instantiate: %w", in.explain(err))
	}
	return nil
}

func (in *instance) start() error {
	in.counter(in.mod)
	in.memory = in.mod.Memory()
	in.buffer, in.call = in.mod.ExportedFunction("taskgate_v1_buffer"), in.mod.ExportedFunction("taskgate_v1_call")
	if init := in.mod.ExportedFunction("_initialize"); init != nil {
		in.refill()
		if err := init.CallWithStack(in.ctx, nil); err != nil {
			return fmt.Errorf("_initialize: %w", in.explain(err))
		}
	}
	in.ready = true
	if in.m.hooks[abi.HookConfigure] {
		left, deadline := in.left, in.deadline
		reply, err := in.run(abi.HookConfigure, in.m.configure, left, deadline, 0)
		if err != nil {
			return fmt.Errorf("configure: %w", err)
		}
		if len(reply) > 0 {
			return fmt.Errorf("configure: %s", sentence(string(reply)))
		}
	}
	return nil
}

// refill hands the guest its next slice of fuel.
func (in *instance) refill() {
	n := min(in.left, slice)
	in.left -= n
	in.fuel.Set(uint64(n))
}

// counter looks the fuel counter up; a start function runs before start does.
func (in *instance) counter(mod api.Module) {
	if in.fuel == nil {
		in.fuel = mod.ExportedGlobal(meter.FuelExport).(api.MutableGlobal) // the meter has put it there
	}
}

// charge draws what an import costs, so that a loop over imports meets the
// same end as any other.
func (in *instance) charge(mod api.Module, n int64) {
	in.counter(mod)
	left := int64(in.fuel.Get()) - n
	if in.fuel.Set(uint64(left)); left < 0 {
		in.tick(mod)
	}
}

// tick is called by the guest when its slice is spent: a look at the budget
// and the clock, and, being Go, a point where the goroutine can be preempted.
func (in *instance) tick(mod api.Module) {
	in.counter(mod)
	if debt := -int64(in.fuel.Get()); debt > 0 {
		in.left -= debt
	}
	switch {
	case in.left <= 0:
		in.stop = errBudget
	case time.Now().After(in.deadline):
		in.stop = errDeadline
	default:
		in.refill()
		return
	}
	panic(in.stop)
}

// run makes one call. The reply is the guest's memory: it is valid until the
// instance is entered again, so the caller copies at once. Any error means
// that the instance must be discarded, except *Failed.
func (in *instance) run(hook abi.Hook, input []byte, fuel int64, deadline time.Time, wall int64) ([]byte, error) {
	in.hook, in.left, in.deadline, in.wall = hook, fuel, deadline, wall
	in.stop, in.impure, in.fail, in.logged, in.slept = nil, false, "", 0, 0
	in.refill()
	if uint32(len(input)) > in.room || in.at == 0 {
		in.stack[0] = uint64(max(len(input), 4096))
		if err := in.buffer.CallWithStack(in.ctx, in.stack[:]); err != nil {
			return nil, in.explain(err)
		}
		in.at, in.room = uint32(in.stack[0]), uint32(max(len(input), 4096))
		if in.at == 0 || in.at%8 != 0 {
			return nil, errors.New("the guest has no input buffer of that size, or none that is aligned to 8 bytes")
		}
	}
	if !in.memory.Write(in.at, input) {
		return nil, errors.New("the guest's input buffer is outside its memory")
	}
	in.stack[0], in.stack[1] = uint64(hook), uint64(len(input))
	if err := in.call.CallWithStack(in.ctx, in.stack[:]); err != nil {
		return nil, in.explain(err)
	}
	at, n := uint32(in.stack[0]>>32), uint32(in.stack[0])
	if at == 0 {
		if abi.Status(n) == abi.StatusNothing {
			return nil, nil
		}
		return nil, &Failed{Status: abi.Status(n), Text: in.words()}
	}
	most := maxReply
	if hook == abi.HookResultBatch {
		most = mostCells(len(input))
	}
	if int64(n) > int64(most) {
		return nil, fmt.Errorf("a reply of at most %d bytes is taken, and this one has more", most) // how many more is a number that the guest has chosen
	}
	reply, ok := in.memory.Read(at, n)
	if !ok {
		return nil, errors.New("the reply is outside the guest's memory")
	}
	return reply, nil
}

// mute says that nothing which the guest says gets out: it is given parameters
// or cells of a result, which that could show.
func (in *instance) mute() bool {
	return in.hook == abi.HookResultBatch || in.m.inputs&abi.InputParams != 0 && in.hook != abi.HookConfigure
}

// words are what the guest says of its own failure, in one line.
func (in *instance) words() string {
	if in.mute() {
		return ""
	}
	return sentence(in.fail)
}

// sentence makes one line of a guest's text.
func sentence(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(clip(s, 1024), ""))
	return strings.Join(strings.Fields(s), " ")
}

// explain finds the cause behind the engine's error.
func (in *instance) explain(err error) error {
	if in.stop != nil {
		return in.stop
	}
	text, _, _ := strings.Cut(err.Error(), "\n") // the engine adds a stack trace
	if w := in.words(); w != "" {
		text += ": " + w
	}
	return errors.New("trapped: " + text)
}

func (in *instance) close() {
	if in.mod != nil {
		_ = in.mod.Close(in.ctx)
	}
	in.linear.Free()
	in.m.set.end()
}

// Failed is a call that returned a status instead of a reply. The instance is
// whole.
type Failed struct {
	Status abi.Status
	Text   string
}

func (f *Failed) Error() string {
	what := "internal"
	switch f.Status {
	case abi.StatusNotImplemented:
		what = "not implemented"
	case abi.StatusBadInput:
		what = "bad input"
	case abi.StatusNoResources:
		what = "out of resources"
	}
	if f.Text != "" {
		return what + ": " + f.Text
	}
	return what
}
