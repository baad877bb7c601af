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
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/internal/count"
)

// Build makes a generation of a configuration: it reads the catalog, loads the
// modules and resolves what tasks and resources refer to. All faults are
// reported together; nothing that runs is touched. The catalog comes with
// faults too, where it could be read.
func Build(ctx context.Context, host *wasm.Host, c *config.Config) (*gate.Generation, *catalog.Catalog, error) {
	gen, cat, err := plan(c)
	if err != nil {
		return nil, cat, err
	}
	rules, digest, err := cat.Compile()
	if err != nil {
		return nil, cat, err
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
	set, err := host.Load(ctx, sources)
	if err != nil {
		return nil, cat, placed(c, err)
	}
	gen.Guards = set.Guards()
	gen.Close = func() { _ = set.Close() }
	for _, g := range gen.Guards {
		fmt.Fprintln(sum, g.Name(), g.Digest())
	}
	gen.Digest = fmt.Sprintf("%x", sum.Sum(nil))
	return gen, cat, nil
}

// placed says where in the configuration the faults of modules are.
func placed(c *config.Config, err error) error {
	var of *wasm.ConfigError
	if !errors.As(err, &of) {
		return err
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var faults strict.Faults
		for _, e := range many.Unwrap() {
			faults = append(faults, strict.Of(placed(c, e))...)
		}
		return faults.Err()
	}
	var faults strict.Faults
	for _, f := range of.Faults {
		faults = append(faults, c.OfPlugin(of.Plugin, f.Path, f.Message))
	}
	return faults.Err()
}

// plan is what a generation is without its guards. It reads, and makes nothing.
func plan(c *config.Config) (*gate.Generation, *catalog.Catalog, error) {
	faults := c.Missing()
	missing := slices.ContainsFunc(faults, func(f strict.Fault) bool { return f.Path == "catalog" })
	cat, err := catalog.Load(c.Catalog)
	if cat != nil || !missing {
		faults = append(faults, strict.Of(err)...)
	}
	gen := &gate.Generation{Tasks: map[string]*gate.Task{}, Resources: map[string]*gate.Resource{}}
	known := map[string]catalog.Resource{}
	for name, r := range c.Resources {
		res, err := resource(r)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // that is among the missing
			faults = append(faults, strict.Of(fmt.Errorf("resource %s: %w", name, err))...)
		}
		gen.Resources[name] = res
		known[name] = catalog.Resource{Protocol: r.Protocol, Address: r.Address, Logins: slices.Collect(maps.Keys(r.Logins)), Posix: r.Posix}
	}
	if cat == nil {
		return nil, nil, faults.Err()
	}
	faults = append(faults, cat.Against(known)...)
	if err := faults.Err(); err != nil {
		return nil, cat, err
	}
	for name, t := range cat.Tasks {
		task := &gate.Task{Name: name, Groups: t.Groups, Resources: t.Resources, Login: t.LoginAt(known), Session: t.Session, Digest: t.Digest()}
		if len(t.Resources) > 0 && known[t.Resources[0]].Protocol == "ssh" { // they are all of one protocol
			task.Options = &sshproto.TaskOptions{CommandShell: t.CommandShell, Rsync: t.Rsync()}
		} else {
			o := &postgres.TaskOptions{StatementTimeout: t.Timeout, Introspect: t.Introspect, Channels: t.Channels, Masked: t.Masked(), Filter: postgres.Filter(t.Filtered())}
			if t.Listed {
				o.Listed = postgres.Listing(t.Lists)
			}
			if t.Definitions {
				o.Definitions = postgres.Definitions(t.Opens, t.Hides)
			}
			if t.Blind {
				o.Blind = postgres.Blind(t.Protects(), t.Reads)
			}
			task.Options = o
		}
		gen.Tasks[name] = task
	}
	return gen, cat, nil
}

// Changes says in words what differs between two generations.
func Changes(old, next *gate.Generation) []string {
	var out []string
	if old == nil {
		return []string{count.Of(len(next.Tasks), "task") + ", " + count.Of(len(next.Resources), "resource") + ", " + count.Of(len(next.Guards), "guard")}
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
	return out
}

// issuerChanges says in words which issuers differ.
func issuerChanges(old, next *config.Config) []string {
	of := func(c *config.Config) map[string]config.Issuer {
		m := map[string]config.Issuer{}
		for _, i := range c.Issuers {
			m[i.URL] = i
		}
		return m
	}
	out := differ("issuer", of(old), of(next), config.Issuer.Digest)
	sort.Strings(out)
	return out
}

// needRestart says which settings differ that a running gateway cannot take.
func needRestart(old, next *config.Config) (out []string) {
	for what, same := range map[string]bool{"data": old.Data == next.Data, "audit": old.Audit == next.Audit, "record": old.Record == next.Record} {
		if !same {
			out = append(out, what+" differs: that counts after a restart")
		}
	}
	sort.Strings(out)
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
	if r.Protocol == "ssh" {
		return hostResource(r)
	}
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
	return &gate.Resource{Name: r.Name, Protocol: "postgres", Address: r.Address, Database: r.Database, Options: &postgres.ResourceOptions{Extensions: r.Extensions, Privileged: privileged, Dial: t, DriftStrict: r.Drift == "strict", Probe: r.Probe}, Digest: r.Digest()}, nil
}

// Dialer reaches resources over TCP. It implements gate.Dialer.
type Dialer struct {
	Foreign func(ssh.PublicKey) bool // keys that open no host; may be nil
}

// Dial implements gate.Dialer. Secrets are read each time, so that one that was
// changed in its file counts from the next connection on.
func (d Dialer) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	switch o := r.Options.(type) {
	case *postgres.ResourceOptions:
		return d.dialDatabase(ctx, r, login, o)
	case *sshproto.ResourceOptions:
		return d.dialHost(ctx, r, login, o)
	}
	return gate.Upstream{}, fmt.Errorf("server: resource %s has no options", r.Name)
}

func noLogin(r *gate.Resource, login string) error {
	return fmt.Errorf("server: resource %s has no login %q", r.Name, login)
}

func (Dialer) dialDatabase(ctx context.Context, r *gate.Resource, login string, o *postgres.ResourceOptions) (gate.Upstream, error) {
	t, ok := o.Dial.(*target)
	if !ok || t.logins[login] == nil {
		return gate.Upstream{}, noLogin(r, login)
	}
	l := t.logins[login]
	password, err := l.Password.Resolve()
	if err != nil {
		return gate.Upstream{}, &gate.Credential{Err: fmt.Errorf("server: resource %s: login %s: %w", r.Name, login, err)}
	}
	nc, err := connect(ctx, r)
	if err != nil {
		return gate.Upstream{}, err
	}
	up := gate.Upstream{Conn: nc, User: l.User, Password: password, Database: r.Database}
	if t.tls != nil {
		up.TLS = t.tls
	}
	return up, nil
}

func connect(ctx context.Context, r *gate.Resource) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return nil, fmt.Errorf("server: resource %s: %w", r.Name, err)
	}
	return nc, nil
}

// Warnings say what stops nobody now, and will be in somebody's way.
func Warnings(c *config.Config, cat *catalog.Catalog) []string {
	out := append(unreached(c, cat), closed(c)...)
	for _, w := range cat.Warnings {
		out = append(out, w.Error())
	}
	for _, t := range cat.Tasks {
		if !slices.ContainsFunc(t.Groups, func(g string) bool {
			return slices.ContainsFunc(issuers(c), func(i auth.Issuer) bool { return i.May(g) })
		}) {
			out = append(out, fmt.Sprintf("%s: nobody can do the task: no issuer may assert %s (issuers: may_assert)", t.File, strings.Join(t.Groups, " or ")))
		}
	}
	for _, p := range c.Plugins {
		for _, t := range cat.Tasks {
			if p.Name == "tasks" && len(t.Masks) > 0 && !slices.Contains(p.May, "mask") {
				out = append(out, fmt.Sprintf("plugins: the guard tasks may not mask, and the task %s does: all that touches a table is refused: may: [%s, mask]", t.Name, strings.Join(p.May, ", ")))
			}
		}
	}
	if certs, err := certificates(c); err == nil {
		for name, t := range certs {
			if end := t.Certificates[0].Leaf.NotAfter; time.Until(end) < 14*24*time.Hour {
				out = append(out, fmt.Sprintf("listeners.%s.tls: the certificate is good until %s", name, end.UTC().Format(time.RFC3339)))
			}
		}
	}
	if rel, err := filepath.Rel(c.Data, c.Audit.Witness); c.Audit.Witness != "" && err == nil && filepath.IsLocal(rel) {
		out = append(out, "audit.witness: it lies in the data directory, and proves nothing against who can write there")
	}
	sort.Strings(out)
	return append(out, Secrets(c)...)
}

// Secrets says which logins have a password or key that cannot be had now. That stops
// nobody but those who need it, and it is read again each time.
func Secrets(c *config.Config) (missing []string) {
	for _, r := range c.Resources {
		for login, l := range r.Logins {
			var err error
			switch {
			case l.Key.Given():
				_, err = privateKey(l.Key)
			case l.CA.Given():
				_, err = privateKey(l.CA)
			default:
				_, err = l.Password.Resolve()
			}
			if err != nil {
				missing = append(missing, fmt.Sprintf("resource %s: login %s: %v", r.Name, login, err))
			}
		}
	}
	for _, h := range webhooks(c) {
		text, err := h.Secret(context.Background())
		if err == nil {
			_, err = approval.ParseSecret(text)
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("approvals: webhook %s: %v", h.Name(), err))
		}
	}
	sort.Strings(missing)
	return missing
}

// clean makes text safe for one line of a log, and for the terminal that it is
// read on (X18).
func clean(s string) string { return record.Escape(s) }
