// Package config reads gateway.yaml. Parse opens nothing but what it is given
// and reports every fault at once, each with its line.
package config

import (
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/internal/nearest"
)

// Schema is the JSON Schema of gateway.yaml, for editors. Parse has the last
// word.
//
//go:embed gateway.schema.json
var Schema []byte

// Config is the whole of gateway.yaml. Relative paths are relative to it.
type Config struct {
	Data      string // store, audit log, recordings, keys, admin socket; default ./data
	Listeners Listeners
	Issuers   []Issuer
	Resources map[string]*Resource
	Catalog   string // the directory of the task files; default ./tasks
	Plugins   []Plugin
	Audit     Audit
	Record    string // none, head (default), full
	Approvals Approvals

	files   []file
	configs map[string]strict.Node // of the plugins, by name; the plugin where there is none
}

// Listeners are where the gateway listens.
type Listeners struct {
	API      *Listener // logins, health and metrics
	Postgres *Listener
	SSH      *SSHListener
}

// All gives those that there are, by name. SSH has its own encryption, and so
// counts as plain.
func (l Listeners) All() map[string]*Listener {
	all := map[string]*Listener{}
	if l.API != nil {
		all["api"] = l.API
	}
	if l.Postgres != nil {
		all["postgres"] = l.Postgres
	}
	if l.SSH != nil {
		all["ssh"] = &Listener{Address: l.SSH.Address, Plain: true, Public: l.SSH.Public}
	}
	return all
}

// Listener is one address.
type Listener struct {
	Address string
	Cert    string // file of a PEM certificate chain; empty is plain
	Key     string // file of its key
	Plain   bool   // passwords in the clear: loopback alone
	Public  string // host:port as clients reach it; empty is the address
	Loop    bool   // sessions are carried by io_uring, where there is one: of postgres, default true
}

// Issuer is an OpenID provider that the gateway trusts.
type Issuer struct {
	URL       string
	ClientID  string
	Subject   string   // claim, default sub
	Groups    string   // claim, default groups
	MayAssert []string // patterns of groups that count, default task:*
	RawTokens bool     // its ID tokens are taken as passwords, default true
	Scopes    []string // asked for at a login through the gateway, besides openid and offline_access
	Secret    *Secret  // of the client; nil for a public one

	People string // whose people its subjects are: a subject of two issuers that say the same is one person, also where both say nothing

	Roles map[string][]string // approver, auditor, operator: the groups that have it here; nobody has one that is not named
}

// Digest is over all that is written of an issuer. A secret counts as what it
// refers to.
func (i Issuer) Digest() string {
	return fmt.Sprintf("%q %q %q %q %q %t %q %v %q %q", i.URL, i.ClientID, i.Subject, i.Groups, i.MayAssert, i.RawTokens, i.Scopes, i.Secret, i.People, i.Roles)
}

// Resource is a database or a host behind the gateway.
type Resource struct {
	Name     string
	Protocol string // postgres (default), ssh
	Address  string
	Logins   map[string]*Login

	// Of a database.
	Database string
	TLS      string // verify-full (default), disable (loopback alone)
	CA       string // file of the certificates to trust; empty is the system's

	Extensions []string // whose types and immutable functions every text may use
	Drift      string   // poll (default), strict: how a schema that others change is noticed
	Probe      bool     // the server is asked what each text reads

	// Of a host. It has either keys or an authority.
	HostKeys []string // fingerprints, SHA256:…, or lines of public keys
	HostCA   string   // file:PATH or the line of a public key, that signs host certificates
	Posix    bool     // the login shells read words as POSIX has it
}

// Digest is over all that is written of a resource. A secret counts as what it
// refers to.
func (r *Resource) Digest() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q %q %q %q %q %q %q %t %t", r.Protocol, r.Address, r.Database, r.TLS, r.CA, r.Extensions, r.Drift, r.HostKeys, r.HostCA, r.Posix, r.Probe)
	for _, name := range slices.Sorted(maps.Keys(r.Logins)) {
		l := r.Logins[name]
		fmt.Fprintf(&b, " %q %q %q %t %q %q", name, l.User, l.Password, l.Privileged, l.Key, l.CA)
	}
	return b.String()
}

// Login is a role of a database, or an account of a host.
type Login struct {
	User string

	Password   Secret
	Privileged bool // it may be a superuser, bypass row-level security or own tables

	// Of a host: one of them.
	Key Secret // a private key
	CA  Secret // the private key of an authority that signs a certificate for each connection
}

// Plugin is a guard.
type Plugin struct {
	Name         string
	Path         string
	SHA256       string
	May          []string // allow, deny, review, mask
	Isolation    string   // task (default), subject, shared
	Cache        bool
	Capabilities []string
	Config       json.RawMessage
}

// Approvals is how people are asked.
type Approvals struct {
	Webhooks []Webhook
}

// Webhook is told of requests and of what came of them.
type Webhook struct {
	URL     string
	Secret  Secret // that what is sent, and what is sent back, is signed with
	Actions string // url of the issuer whose subjects it may speak for; empty is none
}

// Audit is how the audit log is kept.
type Audit struct {
	Sync    string // writes (default), always, interval
	Witness string
}

// commandTime bounds a command that prints a secret.
const commandTime = 10 * time.Second

// Secret is a reference to one: file:PATH, env:NAME, or command:TEXT, which a
// shell runs and whose output it is. It never prints what
// it refers to.
type Secret struct{ ref string }

// String names the reference, which is no secret.
func (s Secret) String() string { return s.ref }

// Given says whether there is one.
func (s Secret) Given() bool { return s.ref != "" }

// Resolve reads the secret.
func (s Secret) Resolve() (string, error) {
	kind, what, _ := strings.Cut(s.ref, ":")
	switch kind {
	case "file":
		b, err := os.ReadFile(what)
		if err != nil {
			return "", fmt.Errorf("config: secret: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case "command":
		ctx, stop := context.WithTimeout(context.Background(), commandTime)
		defer stop()
		cmd := exec.CommandContext(ctx, "sh", "-c", what)
		cmd.WaitDelay = time.Second
		b, err := cmd.Output() // what it says of itself may hold the secret: it is not told
		if err != nil {
			return "", fmt.Errorf("config: secret: the command failed: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case "env":
		v, ok := os.LookupEnv(what)
		if !ok {
			return "", fmt.Errorf("config: secret: the environment has no %s", what)
		}
		return v, nil
	}
	return "", fmt.Errorf("config: no secret")
}

// Source is where a configuration comes from: a file, and what lies over it.
type Source struct {
	Path string
	Set  []string // KEY.KEY=VALUE, as --set has them
}

// Load reads and checks a file. The environment lies over it, and flags over
// that.
func Load(s Source) (*Config, error) {
	b, err := strict.ReadFile(s.Path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	layers := environment(os.Environ())
	for _, set := range s.Set {
		key, value, ok := strings.Cut(set, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("config: --set %s: KEY.KEY=VALUE is expected", set)
		}
		layers = append(layers, strict.Layer{Origin: "--set " + key, Path: strings.Split(key, "."), Value: value})
	}
	return Parse(s.Path, b, layers...)
}

// A file is one that a value names.
type file struct {
	strict.Node
	path string
	dir  bool
}

// OfPlugin is a fault of a plugin's own configuration, at a path in it.
func (c *Config) OfPlugin(name string, path []string, message string) strict.Fault {
	return c.configs[name].Under(path).Wrong("%s", message)
}

// Missing are the faults of files that have to be there for the configuration to
// count. Secrets are not among them: each is read when it is needed.
func (c *Config) Missing() (faults strict.Faults) {
	for _, f := range c.files {
		if why := f.missing(); why != "" {
			faults = append(faults, f.Wrong("%s", why))
		}
	}
	return faults
}

func (f *file) missing() string {
	r, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if strings.HasSuffix(f.path, ".wasm") {
			return "there is no " + f.path + ": `taskgate plugin build` makes a module, and of plugins/tasks the tasks guard"
		}
		return "there is no " + f.path
	} else if err != nil {
		return err.Error()
	}
	defer r.Close()
	st, err := r.Stat()
	switch {
	case err != nil:
		return err.Error()
	case f.dir && !st.IsDir():
		return f.path + " is no directory"
	case !f.dir && !st.Mode().IsRegular():
		return f.path + " is no file"
	}
	return ""
}

// environment gives the variables that are settings: TASKGATE_ and the keys, in
// capitals, with two underscores between them. TASKGATE_DATA is data,
// TASKGATE_LISTENERS__POSTGRES__ADDRESS is listeners.postgres.address. Others
// without two underscores are not ours: a cluster sets TASKGATE_PORT and its
// like beside a service of that name.
func environment(env []string) (layers []strict.Layer) {
	slices.Sort(env)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		keys, ok := strings.CutPrefix(name, "TASKGATE_")
		path := strings.Split(strings.ToLower(keys), "__")
		if !ok || len(path) == 1 && !slices.Contains([]string{"data", "catalog", "listeners", "issuers", "resources", "plugins", "audit", "record", "approvals"}, path[0]) {
			continue
		}
		layers = append(layers, strict.Layer{Origin: name, Path: path, Value: value, Fold: true})
	}
	return layers
}

// Parse checks the text of a file with layers over it. The error is
// strict.Faults; what could be read comes with it, for whoever looks for more.
func Parse(path string, b []byte, layers ...strict.Layer) (*Config, error) {
	var faults strict.Faults
	p := &parser{dir: filepath.Dir(path)}
	c := &Config{Data: p.path("data"), Catalog: p.path("tasks"), Resources: map[string]*Resource{}, Audit: Audit{Sync: "writes"}, Record: "head"}
	n := strict.Parse(path, b, &faults)
	if !n.Exists() {
		return nil, faults.Err()
	}
	n = n.With(layers)
	var hooks []strict.Node
	n.Fields(map[string]func(strict.Node){
		"data": func(v strict.Node) { c.Data = p.path(v.String()) },
		"catalog": func(v strict.Node) {
			c.Catalog = p.path(v.String())
			p.needs(v, c.Catalog, true)
		},
		"listeners": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){
				"api": func(v strict.Node) {
					c.Listeners.API = p.listener(v, func(v strict.Node) { v.Fault("loop is for the sessions of databases") })
				},
				"postgres": func(v strict.Node) {
					loop := true
					c.Listeners.Postgres = p.listener(v, func(v strict.Node) { loop = v.Bool() })
					c.Listeners.Postgres.Loop = loop
				},
				"ssh":  func(v strict.Node) { c.Listeners.SSH = p.sshListener(v) },
				"kube": func(v strict.Node) { v.Fault("this version does not speak to clusters yet") },
			})
		},
		"issuers": func(v strict.Node) {
			urls := map[string]bool{}
			for _, e := range v.List() {
				i := p.issuer(e)
				if urls[i.URL] && i.URL != "" {
					e.Fault("another issuer has the url %q", i.URL)
				}
				urls[i.URL] = true
				c.Issuers = append(c.Issuers, i)
			}
		},
		"resources": func(v strict.Node) {
			v.Each(func(name string, v strict.Node) { c.Resources[name] = p.resource(name, v) })
		},
		"plugins": func(v strict.Node) {
			names := map[string]bool{}
			for _, e := range v.List() {
				pl := p.plugin(e)
				if names[pl.Name] {
					e.Fault("another plugin is called %q", pl.Name)
				}
				names[pl.Name] = true
				c.Plugins = append(c.Plugins, pl)
			}
		},
		"audit": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){
				"sync":    func(v strict.Node) { c.Audit.Sync = v.One("writes", "always", "interval") },
				"witness": func(v strict.Node) { c.Audit.Witness = p.file(v) },
			})
		},
		"approvals": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){"webhooks": func(v strict.Node) { hooks = v.List() }})
		},
		"record": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){"results": func(v strict.Node) { c.Record = v.One("none", "head", "full") }})
		},
	})
	if c.Listeners.Postgres == nil && c.Listeners.SSH == nil {
		n.Fault("no listener: listeners: {postgres: {address: 127.0.0.1:6432, …}} or {ssh: {address: 127.0.0.1:2222}}")
	}
	at := map[string]string{} // listeners by address
	all := c.Listeners.All()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a := all[name].Address
		if a == "" || strings.HasSuffix(a, ":0") {
			continue
		}
		if at[a] != "" {
			n.Fault("listeners: %s and %s have the same address", at[a], name)
		}
		at[a] = name
	}
	if len(c.Issuers) == 0 {
		n.Fault("no issuers, so nobody could log in")
	}
	if len(c.Resources) == 0 {
		n.Fault("no resources")
	}
	if !slices.ContainsFunc(c.Plugins, func(p Plugin) bool { return slices.Contains(p.May, "allow") }) {
		n.Fault("no plugin that may allow, so that everything is refused: plugins: [{name: tasks, path: …, may: [allow, deny, review, mask]}]")
	}
	for _, h := range hooks { // the issuers are there by now
		c.Approvals.Webhooks = append(c.Approvals.Webhooks, p.webhook(h, c))
	}
	c.files, c.configs = p.files, p.configs
	return c, faults.Err()
}

type parser struct {
	dir     string
	files   []file
	configs map[string]strict.Node // of the plugins, by name; the plugin where there is none
}

func (p *parser) needs(n strict.Node, path string, dir bool) {
	if path != "" {
		p.files = append(p.files, file{n, path, dir})
	}
}

func (p *parser) path(s string) string {
	if s == "" || filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(p.dir, s)
}

// file reads file:PATH.
func (p *parser) file(n strict.Node) string {
	s := n.String()
	f, ok := strings.CutPrefix(s, "file:")
	if !ok || f == "" {
		if n.Exists() {
			n.Fault("file:PATH is expected")
		}
		return ""
	}
	return p.path(f)
}

func (p *parser) secret(n strict.Node) Secret {
	s := n.String()
	kind, what, _ := strings.Cut(s, ":")
	switch {
	case kind == "file" && what != "":
		return Secret{"file:" + p.path(what)}
	case (kind == "env" || kind == "command") && what != "":
		return Secret{s}
	}
	n.Fault("a secret is never written here: file:PATH, env:NAME or command:TEXT is expected")
	return Secret{}
}

func (p *parser) listener(n strict.Node, loop func(strict.Node)) *Listener {
	l := &Listener{}
	addressed, secured := false, false
	n.Fields(map[string]func(strict.Node){
		"address": func(v strict.Node) { l.Address, addressed = address(v), true },
		"public":  func(v strict.Node) { l.Public = address(v) },
		"plain":   func(v strict.Node) { l.Plain = v.Bool() },
		"loop":    loop,
		"tls": func(v strict.Node) {
			secured = true
			v.Fields(map[string]func(strict.Node){
				"cert": func(v strict.Node) { l.Cert = p.file(v); p.needs(v, l.Cert, false) },
				"key":  func(v strict.Node) { l.Key = p.file(v); p.needs(v, l.Key, false) },
			})
			if l.Cert == "" || l.Key == "" {
				v.Fault("tls needs cert and key")
			}
		},
	})
	switch {
	case l.Address == "":
		if !addressed {
			n.Fault("no address")
		}
	case l.Plain && !loopback(l.Address):
		n.Fault("plain: true sends tokens in the clear: only on a loopback address")
	case l.Plain && secured:
		n.Fault("either plain: true or tls, not both")
	case !l.Plain && !secured:
		n.Fault("no tls: give cert and key, or plain: true on a loopback address")
	}
	return l
}

func address(n strict.Node) string {
	s := n.String()
	_, port, err := net.SplitHostPort(s)
	if _, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil {
		if n.Exists() && s != "" {
			n.Fault("%q: host:port is expected, as 127.0.0.1:6432", s)
		}
		return ""
	}
	return s
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (p *parser) issuer(n strict.Node) Issuer {
	i := Issuer{Subject: "sub", Groups: "groups", MayAssert: []string{"task:*"}, RawTokens: true}
	named := true // unless what stands there has its fault
	n.Fields(map[string]func(strict.Node){
		"url":        func(v strict.Node) { i.URL = v.String() },
		"client_id":  func(v strict.Node) { i.ClientID, named = v.String(), v.IsText() },
		"subject":    func(v strict.Node) { i.Subject = v.String() },
		"groups":     func(v strict.Node) { i.Groups = v.String() },
		"may_assert": func(v strict.Node) { i.MayAssert = v.Strings() },
		"raw_tokens": func(v strict.Node) { i.RawTokens = v.Bool() },
		"scopes":     func(v strict.Node) { i.Scopes = v.Strings() },
		"people":     func(v strict.Node) { i.People = v.String() },
		"client_secret": func(v strict.Node) {
			secret := p.secret(v)
			i.Secret = &secret
		},
		"roles": func(v strict.Node) {
			i.Roles = map[string][]string{}
			role := func(name string) func(strict.Node) {
				return func(v strict.Node) {
					if i.Roles[name] = v.Strings(); slices.ContainsFunc(i.Roles[name], func(g string) bool { return g == "" || strings.Contains(g, "*") }) || v.IsEmpty() {
						v.Fault("a list of groups is expected, any of which gives the role; a role that is left out nobody has")
					}
				}
			}
			v.Fields(map[string]func(strict.Node){"approver": role("approver"), "auditor": role("auditor"), "operator": role("operator")})
		},
	})
	if !reachable(i.URL) {
		n.Fault("url: https is expected (http on loopback alone), not %q", i.URL)
	}
	if i.ClientID == "" && named {
		n.Fault("no client_id: tokens of every client would be taken")
	}
	if len(i.MayAssert) == 0 {
		n.Fault("may_assert: it may assert no group, so that none of its subjects has a task")
	}
	for _, g := range i.MayAssert {
		if g == "" || strings.Contains(strings.TrimSuffix(g, "*"), "*") {
			n.Fault("may_assert: %q: a group, or what it begins with and a * at the end, is expected", g)
		}
	}
	return i
}

// reachable says whether a url is one that nobody can listen to: https, or http
// on loopback. What stands before an @ would be a secret.
func reachable(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopback(net.JoinHostPort(u.Hostname(), "1")))
}

func (p *parser) webhook(n strict.Node, c *Config) Webhook {
	h := Webhook{}
	placed, signed := false, false
	n.Fields(map[string]func(strict.Node){
		"url": func(v strict.Node) {
			h.URL, placed = v.String(), true
			switch {
			case h.URL == "" && !v.IsText(): // it has its fault
			case !reachable(h.URL):
				v.Fault("https is expected (http on loopback alone), without a password in it")
			case slices.ContainsFunc(c.Approvals.Webhooks, func(o Webhook) bool { return o.URL == h.URL }):
				v.Fault("another webhook has this url")
			}
		},
		"secret": func(v strict.Node) { h.Secret, signed = p.secret(v), true },
		"actions": func(v strict.Node) {
			v.Fields(map[string]func(strict.Node){"issuer": func(v strict.Node) {
				if h.Actions = v.String(); h.Actions == "" || slices.ContainsFunc(c.Issuers, func(i Issuer) bool { return i.URL == h.Actions }) {
					return
				}
				known := func(yield func(string) bool) {
					for _, i := range c.Issuers {
						if !yield(i.URL) {
							return
						}
					}
				}
				hint := "known are " + strings.Join(slices.Collect(known), ", ")
				if near := nearest.Word(h.Actions, known); near != "" {
					hint = fmt.Sprintf("did you mean %q?", near)
				}
				v.Fault("no issuer has this url, whose people it could speak for (%s)", hint)
			}})
			if h.Actions == "" {
				v.Fault("for whom? actions: {issuer: URL}")
			}
		},
	})
	if !placed {
		n.Fault("no url")
	}
	if !signed {
		n.Fault("no secret: whoever gets it could not tell that it is from here: secret: file:PATH, env:NAME or command:TEXT")
	}
	return h
}

func (p *parser) plugin(n strict.Node) Plugin {
	config := n
	pl := Plugin{May: []string{"deny", "review", "mask"}, Isolation: "task"}
	n.Fields(map[string]func(strict.Node){
		"name":   func(v strict.Node) { pl.Name = v.String() },
		"path":   func(v strict.Node) { pl.Path = p.path(v.String()); p.needs(v, pl.Path, false) },
		"sha256": func(v strict.Node) { pl.SHA256 = v.String() },
		"may": func(v strict.Node) {
			pl.May = nil
			for _, w := range v.List() {
				pl.May = append(pl.May, w.One("allow", "deny", "review", "mask"))
			}
		},
		"isolation":    func(v strict.Node) { pl.Isolation = v.One("task", "subject", "shared") },
		"cache":        func(v strict.Node) { pl.Cache = v.Bool() },
		"capabilities": func(v strict.Node) { pl.Capabilities = v.Strings() },
		"config": func(v strict.Node) {
			config = v
			b, err := json.Marshal(v.JSON())
			if err != nil {
				v.Fault("%v", err)
			}
			pl.Config = b
		},
	})
	if pl.Name == "" {
		n.Fault("no name")
	}
	if p.configs == nil {
		p.configs = map[string]strict.Node{}
	}
	p.configs[pl.Name] = config
	if pl.Path == "" {
		n.Fault("no path: path: FILE.wasm")
	}
	if len(pl.May) == 0 {
		n.Fault("may: it may say nothing at all")
	}
	if b, err := hex.DecodeString(pl.SHA256); pl.SHA256 != "" && (err != nil || len(b) != 32) {
		n.Fault("sha256: 64 hexadecimal digits are expected")
	}
	return pl
}
