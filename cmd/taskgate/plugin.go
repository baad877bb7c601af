package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/core/wasm/meter"
)

func pluginCommand() *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "write and build guards of your own"}
	out := ""
	build := &cobra.Command{Use: "build DIR", Short: "build a guard written in Go, with its manifest.json inside", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return buildPlugin(args[0], out)
	}}
	build.Flags().StringVarP(&out, "output", "o", "", "the module's file, if not NAME.wasm in the directory")
	c.AddCommand(build,
		&cobra.Command{Use: "new DIR", Short: "write the beginnings of a guard", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error { return newPlugin(args[0]) }},
		&cobra.Command{Use: "inspect FILE", Short: "what a module asks for, and what it really imports", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error { return inspect(args[0]) }})
	return c
}

func buildPlugin(dir, out string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return hinted{err, "a guard needs a manifest.json: `taskgate plugin new` writes one"}
	}
	m := &wasm.Manifest{}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return fmt.Errorf("%s/manifest.json: %w", dir, err)
	}
	if out == "" {
		out = filepath.Join(dir, m.Name+".wasm")
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	tmp := out + ".tmp"
	defer os.Remove(tmp)
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", tmp, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return errors.New("the guard does not build")
	}
	b, err := os.ReadFile(tmp)
	if err != nil {
		return err
	}
	if b, err = wasm.AppendManifest(b, m); err != nil {
		return fmt.Errorf("%s/manifest.json: %w", dir, err)
	}
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, out); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, sha256 %x\n", out, len(b), sha256.Sum256(b))
	return nil
}

func inspect(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := wasm.ReadManifest(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, rep, err := meter.Inject(b, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Printf("name      %s %s\nsha256    %x\nhooks     %s\ninputs    %s\n", m.Name, m.Version, sha256.Sum256(b), strings.Join(m.Hooks, ", "), strings.Join(m.Inputs, ", "))
	for _, c := range m.Capabilities {
		fmt.Printf("asks for  %s: %s\n", c.Name, c.Reason)
	}
	seen := map[string]bool{}
	for _, im := range rep.Imports {
		if !seen[im.Module] {
			seen[im.Module] = true
			fmt.Printf("imports   %s\n", im.Module)
		}
	}
	return nil
}

func newPlugin(dir string) error {
	name := filepath.Base(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"manifest.json": `{
  "name": "` + name + `",
  "kind": "guard",
  "abi": {"major": 1, "min_minor": 0},
  "hooks": ["configure", "command"],
  "inputs": ["task", "operations"]
}
`,
		"main.go": `// The ` + name + ` guard refuses every write while frozen: change it to what you need.
package main

import (
	"encoding/json"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&mine{}) }

type mine struct {
	Frozen bool ` + "`json:\"frozen\"`" + `
}

// Configure takes what gateway.yaml says under config.
func (m *mine) Configure(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	return json.Unmarshal(config, m)
}

// Command decides on one command. A guard that has no opinion abstains.
func (m *mine) Command(c *abi.Command, v *abi.Verdict) {
	v.Decision = abi.Abstain
	for i := range c.Statement.Operations {
		if m.Frozen && c.Statement.Operations[i].Effect.Writes() {
			v.Decision = abi.Deny
			v.Reason = abi.Reason{Code: "` + name + `.frozen", Message: "writes are frozen", Hint: "try again when the freeze is over"}
		}
	}
}

func main() {}
`,
	}
	for file, text := range files {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("wrote %s/main.go and manifest.json; build it with `taskgate plugin build %s`\n", dir, dir)
	return nil
}
