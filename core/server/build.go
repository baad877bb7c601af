// Package server makes a running gateway of a configuration: it builds
// generations, swaps them, listens, and drains.
package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/wasm"
)

// Build makes a generation of a configuration: it reads the catalog, loads the
// modules and resolves what tasks and resources refer to. All faults are
// reported together; nothing that runs is touched.
func Build(ctx context.Context, host *wasm.Host, c *config.Config) (*gate.Generation, *catalog.Catalog, error) {
	cat, err := catalog.Load(c.Catalog)
	if err != nil {
		return nil, nil, err
	}
	var faults []error
	gen := &gate.Generation{Tasks: map[string]*gate.Task{}, Resources: map[string]*gate.Resource{}}
	for name, r := range c.Resources {
		res, err := resource(r)
		if err != nil {
			faults = append(faults, fmt.Errorf("resource %s: %w", name, err))
		}
		gen.Resources[name] = res
	}
	for name, t := range cat.Tasks {
		task := &gate.Task{Name: name, Groups: t.Groups, Resources: t.Resources, Login: t.Login, Session: t.Session, Digest: t.Digest(),
			Options: &postgres.TaskOptions{StatementTimeout: t.Timeout, Introspect: t.Introspect, Channels: t.Channels}}
		for _, r := range t.Resources {
			known := c.Resources[r]
			if known == nil {
				faults = append(faults, fmt.Errorf("%s: the resource %q is not in the configuration", t.File, r))
				continue
			}
			if task.Login == "" && len(known.Logins) == 1 {
				for only := range known.Logins {
					task.Login = only
				}
			}
			if known.Logins[task.Login] == nil {
				faults = append(faults, fmt.Errorf("%s: the resource %q has no login %q: name one with login: NAME", t.File, r, task.Login))
			}
		}
		gen.Tasks[name] = task
	}
	rules, digest, err := cat.Compile()
	if err != nil {
		faults = append(faults, err)
	}
	var sources []wasm.Source
	sum := sha256.New()
	fmt.Fprintln(sum, digest)
	for _, p := range c.Plugins {
		s := wasm.Source{Name: p.Name, Path: p.Path, SHA256: p.SHA256, Config: p.Config, Isolation: wasm.Isolation(p.Isolation), Cache: p.Cache, Capabilities: p.Capabilities,
			May: abi.May{Allow: slices.Contains(p.May, "allow"), Review: slices.Contains(p.May, "review"), Mask: slices.Contains(p.May, "mask")}}
		if p.Name == "tasks" && p.Config == nil {
			s.Config = rules
		}
		sources = append(sources, s)
		fmt.Fprintf(sum, "%+v\n", p)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, err
	}
	set, err := host.Load(ctx, sources)
	if err != nil {
		return nil, nil, err
	}
	gen.Guards = set.Guards()
	gen.Close = func() { _ = set.Close() }
	for _, g := range gen.Guards {
		fmt.Fprintln(sum, g.Name(), g.Digest())
	}
	gen.Digest = fmt.Sprintf("%x", sum.Sum(nil))
	return gen, cat, nil
}

// Changes says in words what differs between two generations.
func Changes(old, next *gate.Generation) []string {
	var out []string
	if old == nil {
		return []string{fmt.Sprintf("%d tasks, %d resources, %d guards", len(next.Tasks), len(next.Resources), len(next.Guards))}
	}
	guards := map[string]string{}
	for _, g := range old.Guards {
		guards[g.Name()] = g.Digest()
	}
	for _, g := range next.Guards {
		switch was, ok := guards[g.Name()]; {
		case !ok:
			out = append(out, "guard "+g.Name()+" added")
		case was != g.Digest():
			out = append(out, "guard "+g.Name()+" changed")
		}
		delete(guards, g.Name())
	}
	for name := range guards {
		out = append(out, "guard "+name+" removed")
	}
	out = append(out, differ("task", old.Tasks, next.Tasks, func(t *gate.Task) string { return t.Digest })...)
	out = append(out, differ("resource", old.Resources, next.Resources, func(r *gate.Resource) string { return r.Digest })...)
	sort.Strings(out)
	if len(out) == 0 && old.Digest != next.Digest {
		out = append(out, "the configuration of a guard changed")
	}
	if len(out) == 0 {
		out = append(out, "nothing changed")
	}
	return out
}

func differ[T any](what string, old, next map[string]T, digest func(T) string) (out []string) {
	for name, n := range next {
		if o, ok := old[name]; !ok {
			out = append(out, what+" "+name+" added")
		} else if digest(o) != digest(n) {
			out = append(out, what+" "+name+" changed")
		}
	}
	for name := range old {
		if _, ok := next[name]; !ok {
			out = append(out, what+" "+name+" removed")
		}
	}
	return out
}

// target is what the dialer needs of a resource.
type target struct {
	tls    *tls.Config
	logins map[string]*config.Login
}

func resource(r *config.Resource) (*gate.Resource, error) {
	t := &target{logins: r.Logins}
	if r.TLS == "verify-full" {
		host, _, err := net.SplitHostPort(r.Address)
		if err != nil {
			return nil, err
		}
		t.tls = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
		if r.CA != "" {
			pem, err := os.ReadFile(r.CA)
			if err != nil {
				return nil, err
			}
			t.tls.RootCAs = x509.NewCertPool()
			if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no certificate", r.CA)
			}
		}
	}
	privileged := map[string]bool{}
	for name, l := range r.Logins {
		privileged[name] = l.Privileged
	}
	return &gate.Resource{Name: r.Name, Protocol: "postgres", Address: r.Address, Database: r.Database, Options: &postgres.ResourceOptions{Extensions: r.Extensions, Privileged: privileged, Dial: t}, Digest: r.Digest()}, nil
}

// Dialer reaches resources over TCP. It implements gate.Dialer.
type Dialer struct{}

// Dial implements gate.Dialer. The password is read each time, so that one that
// was changed in its file counts from the next connection on.
func (Dialer) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	o, _ := r.Options.(*postgres.ResourceOptions)
	if o == nil {
		return gate.Upstream{}, fmt.Errorf("server: resource %s has no options", r.Name)
	}
	t, ok := o.Dial.(*target)
	if !ok || t.logins[login] == nil {
		return gate.Upstream{}, fmt.Errorf("server: resource %s has no login %q", r.Name, login)
	}
	l := t.logins[login]
	password, err := l.Password.Resolve()
	if err != nil {
		return gate.Upstream{}, fmt.Errorf("server: resource %s: login %s: %w", r.Name, login, err)
	}
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return gate.Upstream{}, fmt.Errorf("server: resource %s: %w", r.Name, err)
	}
	up := gate.Upstream{Conn: nc, User: l.User, Password: password, Database: r.Database}
	if t.tls != nil {
		up.TLS = t.tls
	}
	return up, nil
}

// Secrets says which logins have a password that cannot be had now. That stops
// nobody but those who need it, and it is read again each time.
func Secrets(c *config.Config) (missing []string) {
	for _, r := range c.Resources {
		for login, l := range r.Logins {
			if _, err := l.Password.Resolve(); err != nil {
				missing = append(missing, fmt.Sprintf("resource %s: login %s: %v", r.Name, login, err))
			}
		}
	}
	sort.Strings(missing)
	return missing
}

// clean makes text safe for one line of a log.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
