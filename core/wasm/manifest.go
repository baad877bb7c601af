package wasm

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgate/taskgate/abi"
)

// ManifestSection names the custom section that holds the manifest.
const ManifestSection = "taskgate.manifest"

// MaxManifest bounds the manifest, in bytes.
const MaxManifest = 64 << 10

// Manifest is what a module asks for. It is a request: the operator's grants
// decide.
type Manifest struct {
	Name         string          `json:"name"`
	Version      string          `json:"version,omitempty"`
	Kind         string          `json:"kind"` // guard
	ABI          ABI             `json:"abi"`
	Hooks        []string        `json:"hooks"`
	Inputs       []string        `json:"inputs,omitempty"`
	Skip         []Skip          `json:"skip,omitempty"`
	Capabilities []Capability    `json:"capabilities,omitempty"`
	ConfigSchema json.RawMessage `json:"config_schema,omitempty"` // JSON Schema 2020-12
	SDK          string          `json:"sdk,omitempty"`
	Source       string          `json:"source,omitempty"`
	Licence      string          `json:"licence,omitempty"`
}

// ABI is the version that a module was built for.
type ABI struct {
	Major    int `json:"major"`
	MinMinor int `json:"min_minor"`
}

// Skip is what a guard need not see: commands that do nothing but operations of
// these verbs, all that its ABI minor knows where there are none, in this
// protocol, or in every one where it has no name.
type Skip struct {
	Protocol string   `json:"protocol,omitempty"`
	Verbs    []string `json:"verbs,omitempty"`
}

// Capability is an import module that a module wants, and why.
type Capability struct {
	Name   string `json:"name"` // clock, random
	Reason string `json:"reason"`
}

// HostMinor is the minor version of the ABI that this host speaks.
const HostMinor = 3

var hookNames = map[string]abi.Hook{
	"configure": abi.HookConfigure, "session_open": abi.HookSessionOpen, "session_close": abi.HookSessionClose,
	"command": abi.HookCommand, "result_schema": abi.HookResultSchema,
	"result_batch": abi.HookResultBatch, "approval": abi.HookApproval,
}

// ReadManifest finds the manifest in a module's custom sections. Fields that
// it does not know are left to later minors; hooks, inputs and capabilities
// that it does not know are a fault, as is a second manifest.
func ReadManifest(module []byte) (*Manifest, error) {
	var raw []byte
	err := sections(module, func(id byte, body []byte) error {
		if id != 0 {
			return nil
		}
		name, rest, ok := cutName(body)
		if !ok || name != ManifestSection {
			return nil
		}
		if raw != nil {
			return errors.New("two manifests")
		}
		raw = rest
		return nil
	})
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("no section %s: build the module with `taskgate plugin build`", ManifestSection)
	}
	if len(raw) > MaxManifest {
		return nil, fmt.Errorf("a manifest of %d bytes: at most %d", len(raw), MaxManifest)
	}
	m := &Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, m.Check()
}

// AppendManifest gives the module with the manifest as its last section, and
// without the one that it had.
func AppendManifest(module []byte, m *Manifest) ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), module[:min(8, len(module))]...)
	err = sections(module, func(id byte, body []byte) error {
		if name, _, ok := cutName(body); id == 0 && ok && name == ManifestSection {
			return nil
		}
		out = append(appendLEB(append(out, id), len(body)), body...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	body := append(appendLEB(nil, len(ManifestSection)), ManifestSection...)
	body = append(body, raw...)
	return append(appendLEB(append(out, 0), len(body)), body...), nil
}

// Check says what is wrong with the manifest itself.
func (m *Manifest) Check() error {
	switch {
	case !name(m.Name):
		return fmt.Errorf("manifest: the name %q: it has to be of letters, digits, -, _ and ., at most 64", m.Name)
	case m.Kind != "guard":
		return fmt.Errorf("manifest: kind %q: this host runs guards", m.Kind)
	case m.ABI.Major != 1:
		return fmt.Errorf("manifest: abi major %d: this host speaks 1", m.ABI.Major)
	case m.ABI.MinMinor > HostMinor:
		return fmt.Errorf("manifest: needs abi minor %d, this host speaks %d", m.ABI.MinMinor, HostMinor)
	case len(m.Hooks) == 0:
		return errors.New("manifest: no hooks, so it would never be asked")
	}
	for _, h := range m.Hooks {
		if hookNames[h] == 0 {
			return fmt.Errorf("manifest: hook %q is not known", h)
		}
	}
	if _, err := m.inputs(); err != nil {
		return err
	}
	for _, s := range m.Skip {
		if s.Protocol == "" && len(s.Verbs) == 0 {
			return errors.New("manifest: skip: an entry without protocol and verbs would skip everything")
		}
		for _, v := range s.Verbs {
			if minor, known := abi.VerbMinor(v); !known || minor > m.ABI.MinMinor {
				return fmt.Errorf("manifest: skip: the verb %q is not one of abi 1.%d: a guard can only do without what it knows", v, m.ABI.MinMinor)
			}
		}
	}
	for _, c := range m.Capabilities {
		switch c.Name {
		case "clock", "random":
		case "kv", "crypto", "metrics":
			return fmt.Errorf("manifest: capability %q is not offered by this version of the gateway yet", c.Name)
		default:
			return fmt.Errorf("manifest: capability %q is not known", c.Name)
		}
	}
	return nil
}

// name says whether a module can be called so.
func name(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// skips says whether the module need not see a statement: every operation that
// it does is one that the module's ABI minor knows and the manifest lists.
// What is mixed, incomplete or does nothing is never skipped.
func (m *Manifest) skips(st *abi.Statement) bool {
	if len(m.Skip) == 0 || st == nil || st.Incomplete != "" || len(st.Operations) == 0 {
		return false
	}
next:
	for i := range st.Operations {
		o := &st.Operations[i]
		verb, knownVerb := abi.VerbMinor(o.Verb)
		kind, knownKind := abi.KindMinor(o.Kind)
		if !knownVerb || !knownKind || max(verb, kind) > m.ABI.MinMinor || o.Attrs&abi.Dynamic != 0 {
			return false
		}
		for _, s := range m.Skip {
			if (s.Protocol == "" || s.Protocol == st.Protocol) && (len(s.Verbs) == 0 || slices.Contains(s.Verbs, o.Verb)) {
				continue next
			}
		}
		return false
	}
	return true
}

func (m *Manifest) inputs() (abi.Inputs, error) {
	var in abi.Inputs
next:
	for _, word := range m.Inputs {
		for _, n := range abi.InputNames {
			if n.Word == word {
				in |= n.Bit
				continue next
			}
		}
		return 0, fmt.Errorf("manifest: input %q is not known", word)
	}
	return in, nil
}

// sections calls f with each section of a module.
func sections(module []byte, f func(id byte, body []byte) error) error {
	if len(module) < 8 || string(module[:8]) != "\x00asm\x01\x00\x00\x00" {
		return errors.New("not a WebAssembly 1 module")
	}
	for b := module[8:]; len(b) > 0; {
		id := b[0]
		n, rest, ok := cutLEB(b[1:])
		if !ok || n > len(rest) {
			return errors.New("the module is cut short")
		}
		if err := f(id, rest[:n]); err != nil {
			return err
		}
		b = rest[n:]
	}
	return nil
}

func cutName(b []byte) (string, []byte, bool) {
	n, rest, ok := cutLEB(b)
	if !ok || n > len(rest) {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}

func cutLEB(b []byte) (int, []byte, bool) {
	v := 0
	for i := 0; i < len(b) && i < 5; i++ {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], true
		}
	}
	return 0, nil, false
}

func appendLEB(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}
