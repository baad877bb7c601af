package server

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
)

// reading is every file that a reload reads, with a digest, "" where there is
// none. Secrets are not among them, which are read each time they are needed, nor
// the keys of the SSH listener, which are compared themselves. What lies over
// gateway.yaml, the environment and --set, is the process's own and stays.
type reading struct {
	files  map[string]string
	failed bool // a file could not be read: it says nothing
}

// file adds a file as it is now.
func (r *reading) file(path string) {
	if path == "" {
		return
	}
	digest, err := digestOf(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.failed = true
	}
	r.files[path] = digest
}

// digestOf reads a file to its end. It waits for no pipe.
func digestOf(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return "", err
	} else if !st.Mode().IsRegular() {
		return "", &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no file")}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return string(sum.Sum(nil)), nil
}

// look begins a reading with gateway.yaml, before that is read.
func look(path string) *reading {
	r := &reading{files: map[string]string{}}
	r.file(path)
	return r
}

// of adds what a configuration names.
func (r *reading) of(c *config.Config) {
	entries, err := os.ReadDir(c.Catalog)
	r.failed = r.failed || err != nil
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".yaml" && !strings.HasPrefix(e.Name(), ".") {
			r.file(filepath.Join(c.Catalog, e.Name()))
		}
	}
	r.file(filepath.Join(c.Catalog, catalog.LockFile))
	for _, p := range c.Plugins {
		r.file(p.Path)
	}
	for _, res := range c.Resources {
		r.file(res.CA)
		if path, ok := strings.CutPrefix(res.HostCA, "file:"); ok {
			r.file(path)
		}
	}
	for _, l := range c.Listeners.All() {
		r.file(l.Cert)
		r.file(l.Key)
	}
}

// still gives the reading where all files are what they were before they were
// read; else one that is like no other, since nobody knows what was read.
func (r *reading) still(path string, c *config.Config) *reading {
	now := look(path)
	if now.of(c); !now.same(r) {
		now.failed = true
	}
	return now
}

func (r *reading) same(o *reading) bool {
	return !r.failed && !o.failed && maps.Equal(r.files, o.files)
}

// changes says in words which files differ, where nothing else is known to.
func (r *reading) changes(next *reading) (out []string) {
	for path, digest := range next.files {
		if was, ok := r.files[path]; !ok || was != digest {
			out = append(out, path+" changed")
		}
	}
	if len(out) == 0 {
		return []string{"files changed while they were read"}
	}
	slices.Sort(out)
	return out
}
