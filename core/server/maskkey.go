package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"github.com/taskgate/taskgate/internal/keyfile"
)

// maskKey gives the keys of masks, each by HMAC-SHA256 from one master key in a
// file, made where it is missing: of a task where the name is empty, else of the
// name alone, so that tasks that share a name mask alike.
func maskKey(path string) (func(task, name string) []byte, error) {
	master, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		master, err = newKey(path)
	}
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if len(master) != 32 {
		return nil, fmt.Errorf("%s: 32 bytes are expected, it has %d; with another key what is masked no longer matches what was masked before", path, len(master))
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so that others can read it: chmod 600 %s", path, m, path)
	}
	return func(task, name string) []byte {
		of := "name:" + name
		if name == "" {
			of = "task:" + task
		}
		h := hmac.New(sha256.New, master)
		h.Write([]byte(of))
		return h.Sum(nil)
	}, nil
}

// newKey makes a key and has it on disk whole, or not at all.
func newKey(path string) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return key, keyfile.Write(path, key)
}
