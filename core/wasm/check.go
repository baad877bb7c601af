package wasm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/wasm/meter"
)

// The modules that a guest may import from.
const (
	coreModule   = "taskgate:core/v1"
	clockModule  = "taskgate:clock/v1"
	randomModule = "taskgate:random/v1"
	wasiModule   = "wasi_snapshot_preview1"
)

// imports are all functions there are, with their exact types.
var imports = map[string]map[string]string{
	coreModule: {
		"log": "(i32 i32 i32) -> ()", "log_level": "() -> (i32)", "fail": "(i32 i32) -> ()",
		"take": "(i32 i32) -> (i32)", "symbol": "(i32 i32) -> (i32)",
	},
	clockModule:  {"now": "(i32) -> (i64)"},
	randomModule: {"fill": "(i32 i32) -> (i32)"},
	wasiModule: {
		"sched_yield": "() -> (i32)", "proc_exit": "(i32) -> ()",
		"args_get": "(i32 i32) -> (i32)", "args_sizes_get": "(i32 i32) -> (i32)",
		"environ_get": "(i32 i32) -> (i32)", "environ_sizes_get": "(i32 i32) -> (i32)",
		"clock_time_get": "(i32 i64 i32) -> (i32)", "random_get": "(i32 i32) -> (i32)",
		"fd_write": "(i32 i32 i32 i32) -> (i32)", "poll_oneoff": "(i32 i32 i32 i32) -> (i32)",
		// A Go guest that imports fmt asks for these as well; they answer EBADF.
		"fd_close": "(i32) -> (i32)", "fd_fdstat_get": "(i32 i32) -> (i32)", "fd_fdstat_set_flags": "(i32 i32) -> (i32)",
		"fd_prestat_get": "(i32 i32) -> (i32)", "fd_prestat_dir_name": "(i32 i32 i32) -> (i32)",
	},
	"env": {"abort": "(i32 i32 i32 i32) -> ()"},
}

// laterModules are import modules of the ABI that this host does not have yet.
var laterModules = []string{"taskgate:kv/v1", "taskgate:crypto/v1", "taskgate:metrics/v1"}

// capabilities gives the import module that each grant opens.
var capabilities = map[string]string{clockModule: "clock", randomModule: "random"}

// Imports gives the modules that a module imports from, in order, and says why
// the host would not load it if everything that its manifest asks for were
// granted.
func (m *Manifest) Imports(module []byte) ([]string, error) {
	_, rep, err := meter.Inject(module, 0)
	if err != nil {
		return nil, err
	}
	list := []string{}
	for _, im := range rep.Imports {
		if !slices.Contains(list, im.Module) {
			list = append(list, im.Module)
		}
	}
	var granted []string
	for _, c := range m.Capabilities {
		granted = append(granted, c.Name)
	}
	return list, checkShape(rep, granted)
}

// checkShape holds what a module imports and exports against the ABI. granted
// are the capabilities that the manifest asks for and the operator grants.
func checkShape(rep meter.Report, granted []string) error {
	for _, im := range rep.Imports {
		if im.Kind != 0 {
			return fmt.Errorf("imports the global %s of %s: only functions can be imported", im.Name, im.Module)
		}
		want, ok := imports[im.Module][im.Name]
		switch {
		case !ok && imports[im.Module] != nil:
			return fmt.Errorf("imports %s of %s, which has no such function", im.Name, im.Module)
		case !ok && slices.Contains(laterModules, im.Module):
			return fmt.Errorf("imports %s of %s, which this version of the gateway does not offer yet", im.Name, im.Module)
		case !ok:
			return fmt.Errorf("imports from %q, which this host does not have", im.Module)
		case want != im.Type:
			return fmt.Errorf("imports %s of %s as %s: it is %s", im.Name, im.Module, im.Type, want)
		}
		if c := capabilities[im.Module]; c != "" && !slices.Contains(granted, c) {
			return fmt.Errorf("imports %s without the capability %q: name it in the manifest and grant it", im.Module, c)
		}
	}
	found := map[string]meter.Export{}
	for _, e := range rep.Exports {
		found[e.Name] = e
		if f, ok := strings.CutPrefix(e.Name, "taskgate_requires_"); ok {
			return fmt.Errorf("requires the feature %q, which this host does not have", f)
		}
	}
	if _, ok := found["_start"]; ok {
		return errors.New("has _start, which is a command's: build a reactor with -buildmode=c-shared")
	}
	for _, want := range []struct{ name, typ string }{
		{"taskgate_abi_v1", "() -> ()"}, {"taskgate_v1_buffer", "(i32) -> (i32)"}, {"taskgate_v1_call", "(i32 i32) -> (i64)"},
	} {
		e, ok := found[want.name]
		if !ok {
			return fmt.Errorf("does not export %s %s", want.name, want.typ)
		}
		if e.Kind != 0 {
			return fmt.Errorf("exports %s, but not as a function: it should be %s", want.name, want.typ)
		}
		if e.Type != want.typ {
			return fmt.Errorf("exports %s as %s: it should be %s", want.name, e.Type, want.typ)
		}
	}
	if e, ok := found["_initialize"]; ok && (e.Kind != 0 || e.Type != "() -> ()") {
		return fmt.Errorf("exports _initialize as %s: it should be () -> ()", e.Type)
	}
	if e, ok := found["memory"]; !ok || e.Kind != 2 {
		return errors.New("does not export its memory as \"memory\"")
	}
	return nil
}
