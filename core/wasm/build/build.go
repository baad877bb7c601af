// Package build makes a module of a guard's source in Go.
package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/taskgate/taskgate/core/wasm"
)

// ErrSource is a guard that the compiler refuses; it has said why on standard
// error.
var ErrSource = errors.New("the guard does not build")

// Guard builds the package in dir, whose manifest.json says what it is, into
// out; an empty out is NAME.wasm in dir. It gives the file's absolute path.
func Guard(dir, out string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return "", err
	}
	m := &wasm.Manifest{}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return "", fmt.Errorf("%s/manifest.json: %w", dir, err)
	}
	if out == "" {
		out = filepath.Join(dir, m.Name+".wasm")
	}
	if out, err = filepath.Abs(out); err != nil {
		return "", err
	}
	tmp := out + ".tmp"
	defer os.Remove(tmp)
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", tmp, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", ErrSource
	}
	b, err := os.ReadFile(tmp)
	if err != nil {
		return "", err
	}
	if b, err = wasm.AppendManifest(b, m); err != nil {
		return "", fmt.Errorf("%s/manifest.json: %w", dir, err)
	}
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return "", err
	}
	return out, os.Rename(tmp, out)
}
