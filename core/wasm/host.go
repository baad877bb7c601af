// Package wasm runs the guards: it verifies a module, meters it, compiles it,
// keeps instances of it and calls them. It is the only place that knows an
// engine. Whatever goes wrong in a guest ends that call with an error, which
// the gate reads as a refusal.
package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/wasm/meter"
)

// Host loads modules. Its cache keeps compiled code from one start to the next.
type Host struct {
	Version string                    // told to modules
	Log     func(module, line string) // what modules log; nil drops it

	Deadline time.Duration // wall-clock end of one call, behind its budget of ticks; 0 is a second

	dir       string
	cache     wazero.CompilationCache
	compile   sync.Mutex // one at a time: compiling on every core starves live traffic
	interpret bool       // as on a machine without a compiler
}

// Open makes a host that caches compiled code in dir, which it creates with
// mode 0700: whoever can write there decides what runs. An empty dir keeps the
// cache in memory.
func Open(dir string) (*Host, error) {
	if dir == "" {
		return &Host{cache: wazero.NewCompilationCache()}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	} else if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("wasm: cache: %s belongs to another user, who could decide what runs: use a directory of your own", dir)
	} else if st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("wasm: cache: others can write to %s, and so decide what runs: chmod 700 it", dir)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	}
	return &Host{dir: dir, cache: cache}, nil
}

// Close frees the cache. Every Set has to be closed before.
func (h *Host) Close() error { return h.cache.Close(context.Background()) }

// Isolation says whom one instance may serve, since its memory is a channel
// between them.
type Isolation string

// The isolations. The zero value is ByTask.
const (
	ByTask    Isolation = "task"
	BySubject Isolation = "subject"
	Shared    Isolation = "shared" // for modules that the operator trusts
)

// Source is one module of a generation, with what the operator grants it.
type Source struct {
	Name         string
	Path         string
	SHA256       string // hexadecimal; empty takes the file as it is
	May          abi.May
	Config       json.RawMessage
	Isolation    Isolation
	Cache        bool     // its verdicts depend on its input alone
	Capabilities []string // "clock", "random", and "params" to be sent bound parameters
}

// MaxModule bounds a module's file, in bytes; MemoryPages one instance's
// memory, in pages of 64 KiB.
const (
	MaxModule   = 32 << 20
	MemoryPages = 512
)

// features are those of the ABI: no threads, no SIMD, no reference types
// beyond what bulk memory needs.
const features = api.CoreFeaturesV1 | api.CoreFeatureSignExtensionOps | api.CoreFeatureNonTrappingFloatToIntConversion |
	api.CoreFeatureBulkMemoryOperations | api.CoreFeatureMultiValue | api.CoreFeatureReferenceTypes

// Set is the modules of one generation. They share a runtime, which Close
// frees.
type Set struct {
	Modules []*Module

	host     *Host
	runtime  wazero.Runtime
	compiled []wazero.CompiledModule
	symbols  abi.Symbols // sealed once every module is configured

	mu     sync.Mutex
	sealed bool
	live   int           // instances
	closed bool          // no more of them
	gone   chan struct{} // closed with the last of them
}

// Module is one guard of one generation.
type Module struct {
	Manifest *Manifest

	set       *Set
	source    Source
	digest    string
	hooks     map[abi.Hook]bool
	inputs    abi.Inputs
	impure    bool // it may tell the time or draw lots
	keeps     bool // its verdicts may be kept
	abstain   *abi.Verdict
	skipped   *abi.Verdict // of a command that the manifest does without
	configure []byte
	compiled  wazero.CompiledModule
	logs      logs
	buffers   sync.Pool // of *[]byte: projected commands, not instances
	pools     pools
	cache     cache
	breaker   breaker
}

// Load builds the modules of a generation: read, verify, meter, compile,
// instantiate, configure. One that fails fails the whole set, and all faults
// are reported together.
func (h *Host) Load(ctx context.Context, sources []Source) (*Set, error) {
	config := wazero.NewRuntimeConfig() // the compiler where there is one for this machine
	if h.interpret {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	config = config.WithCoreFeatures(features).WithMemoryLimitPages(MemoryPages).
		WithCompilationCache(h.cache).WithCustomSections(false).WithDebugInfoEnabled(false)
	s := &Set{host: h, runtime: wazero.NewRuntimeWithConfig(ctx, config), symbols: abi.Symbols{}, gone: make(chan struct{})}
	if err := provide(ctx, s.runtime); err != nil {
		return nil, errors.Join(fmt.Errorf("wasm: %w", err), s.Close())
	}
	var faults []error
	names := map[string]bool{}
	for _, src := range sources {
		if names[src.Name] {
			faults = append(faults, fmt.Errorf("plugin %s: the name is taken by another", src.Name))
			continue
		}
		names[src.Name] = true
		m, err := s.load(ctx, src)
		if err != nil {
			faults = append(faults, fmt.Errorf("plugin %s: %s: %w", src.Name, src.Path, err))
			continue
		}
		s.Modules = append(s.Modules, m)
	}
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	if len(faults) > 0 {
		return nil, errors.Join(errors.Join(faults...), s.Close())
	}
	return s, nil
}

// Guards gives the modules as the gate asks them.
func (s *Set) Guards() []gate.Guard {
	list := make([]gate.Guard, len(s.Modules))
	for i, m := range s.Modules {
		list[i] = m
	}
	return list
}

// Close lets no call begin, waits for those that run, which their deadline
// ends, and frees the runtime. Memory is never taken from under a call.
func (s *Set) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.gone
		return nil
	}
	s.closed = true
	if s.live == 0 {
		close(s.gone)
	}
	s.mu.Unlock()
	for _, m := range s.Modules {
		m.pools.close()
	}
	<-s.gone
	err := s.runtime.Close(context.Background())
	for _, c := range s.compiled { // the cache that generations share would keep their code
		err = errors.Join(err, c.Close(context.Background()))
	}
	return err
}

// begin counts an instance in, end counts it out.
func (s *Set) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.live++
	return true
}

func (s *Set) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live--; s.live == 0 && s.closed {
		close(s.gone)
	}
}

// maxSymbols bounds the names of a generation.
const maxSymbols = 1 << 17

// symbol gives the id of a name, making one while the set is loaded; 0 where
// it has none.
func (s *Set) symbol(name string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.symbols[name]
	if id == 0 && !s.sealed && len(s.symbols) < maxSymbols {
		id = uint32(len(s.symbols) + 1)
		s.symbols[name] = id
	}
	return id
}

// read gives the module's bytes. What is hashed is what is compiled.
func read(src Source) ([]byte, string, error) {
	st, err := os.Stat(src.Path)
	if err == nil && !st.Mode().IsRegular() {
		return nil, "", errors.New("not a regular file")
	}
	if err != nil {
		return nil, "", unreadable(err)
	}
	f, err := os.Open(src.Path)
	if err != nil {
		return nil, "", unreadable(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxModule+1))
	if err != nil {
		return nil, "", unreadable(err)
	}
	if len(b) > MaxModule {
		return nil, "", fmt.Errorf("the file has over %d bytes, which is the most that a module may have", MaxModule)
	}
	sum := sha256.Sum256(b)
	got := hex.EncodeToString(sum[:])
	if src.SHA256 != "" && !strings.EqualFold(src.SHA256, got) {
		return nil, "", fmt.Errorf("its sha256 is %s, the configuration says %s", got, src.SHA256)
	}
	return b, got, nil
}

// unreadable leaves the path out, which the caller names.
func unreadable(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("the file cannot be read: %w", err)
}

func (s *Set) load(ctx context.Context, src Source) (*Module, error) {
	raw, digest, err := read(src)
	if err != nil {
		return nil, err
	}
	man, err := ReadManifest(raw)
	if err != nil {
		return nil, err
	}
	m := &Module{Manifest: man, set: s, source: src, digest: digest, hooks: map[abi.Hook]bool{}, abstain: &abi.Verdict{Decision: abi.Abstain},
		skipped: &abi.Verdict{Decision: abi.Abstain, Reason: abi.Reason{Code: "wasm.skipped", Detail: "not asked, as its manifest wants it"}}}
	for _, h := range man.Hooks {
		hook := hookNames[h]
		if (hook == abi.HookResultSchema || hook == abi.HookResultBatch) && !src.May.Mask {
			return nil, fmt.Errorf("has the hook %q, which is shown results, and may not mask: add mask to the may of the plugin (may: [deny, mask]) or do without the module", h)
		}
		m.hooks[hook] = true
	}
	if m.inputs, err = man.inputs(); err != nil {
		return nil, err
	}
	if m.inputs&abi.InputParams != 0 && !slices.Contains(src.Capabilities, "params") {
		return nil, errors.New("asks for the input \"params\", which is not granted: add it to the capabilities of the plugin or do without the module")
	}
	var granted []string
	for _, c := range man.Capabilities {
		if !slices.Contains(src.Capabilities, c.Name) {
			return nil, fmt.Errorf("asks for the capability %q (%s), which is not granted", c.Name, c.Reason)
		}
		granted = append(granted, c.Name)
	}
	m.impure = len(granted) > 0
	m.keeps = src.Cache && !m.impure && m.inputs&abi.InputTime == 0
	if err := checkConfig(man.ConfigSchema, src.Config); err != nil {
		if of, ok := errors.AsType[*ConfigError](err); ok {
			of.Plugin = src.Name
		}
		return nil, err
	}
	m.configure = (&abi.Configure{Config: src.Config, Host: s.host.Version, Capabilities: granted}).AppendTo(nil)
	metered, rep, err := meter.Inject(raw, slice)
	if err != nil {
		return nil, err
	}
	if err := checkShape(rep, granted); err != nil {
		return nil, err
	}
	if m.compiled, err = s.compile(ctx, metered); err != nil {
		return nil, err
	}
	m.pools.m = m
	in, err := m.instantiate()
	if err != nil {
		return nil, err
	}
	p := newPool(m)
	p.made.Store(1)
	m.pools.live.Store(1)
	m.pools.spare = p
	p.put(in, 0)
	return m, nil
}

// compile makes machine code of a metered module. What the engine trips over
// in it refuses the module, and no more than that.
func (s *Set) compile(ctx context.Context, metered []byte) (c wazero.CompiledModule, err error) {
	s.host.compile.Lock()
	defer s.host.compile.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compile: the engine failed: %v", p)
		}
	}()
	c, err = s.runtime.CompileModule(ctx, metered)
	if err != nil && s.host.clear(err) {
		c, err = s.runtime.CompileModule(ctx, metered)
	}
	if err != nil {
		return nil, errors.New("compile: " + sentence(err.Error())) // it comes in lines
	}
	s.compiled = append(s.compiled, c)
	return c, nil
}

// clear empties the cache on disk where the error is about an entry that is
// broken, by a crash or a full disk. It would break every start from then on.
func (h *Host) clear(err error) bool {
	if h.dir == "" || !strings.HasPrefix(err.Error(), "compilationcache: ") {
		return false
	}
	entries, err := filepath.Glob(filepath.Join(h.dir, "wazero-*", "*"))
	for _, e := range entries {
		err = errors.Join(err, os.Remove(e))
	}
	return err == nil
}

// noLoader keeps a module's schema from naming files or addresses for the
// gateway to fetch.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema has to hold all that it refers to", url)
}

// schemaURL is what a module's schema is called while it is compiled.
const schemaURL = "taskgate:config_schema"

// checkConfig holds a configuration against the module's own schema.
func checkConfig(schema, config json.RawMessage) error {
	if len(schema) == 0 {
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(schema)))
	if err != nil {
		return fmt.Errorf("config_schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return fmt.Errorf("config_schema: %w", err)
	}
	sch, err := c.Compile(schemaURL)
	if err != nil {
		return fmt.Errorf("config_schema: %w", err)
	}
	if len(config) == 0 {
		config = json.RawMessage("null")
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(config)))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := sch.Validate(value); err != nil {
		fault := &ConfigError{}
		if v, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
			fault.add(v)
		}
		return fault
	}
	return nil
}

// ConfigError is of a configuration that its module's schema does not allow.
type ConfigError struct {
	Plugin string
	Faults []ConfigFault
}

// ConfigFault is one value of it.
type ConfigFault struct {
	Path    []string // keys, and indexes of lists
	Message string
}

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = strings.Join(append([]string{"config"}, f.Path...), ".") + ": " + f.Message
	}
	return strings.Join(lines, "; ")
}

func (e *ConfigError) add(v *jsonschema.ValidationError) {
	for _, cause := range v.Causes {
		e.add(cause)
	}
	if len(v.Causes) > 0 {
		return
	}
	if unknown, ok := v.ErrorKind.(*kind.AdditionalProperties); ok {
		for _, key := range unknown.Properties {
			e.Faults = append(e.Faults, ConfigFault{append(slices.Clone(v.InstanceLocation), key), "unknown key"})
		}
		return
	}
	e.Faults = append(e.Faults, ConfigFault{v.InstanceLocation, v.BasicOutput().Error.String()})
}
