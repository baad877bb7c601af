package config

import "github.com/taskgate/taskgate/core/strict"

// of is the protocol that a key of a resource is for, where it is not for all.
var of = map[string]string{"database": "postgres", "tls": "postgres", "ca": "postgres", "extensions": "postgres", "drift": "postgres", "probe": "postgres",
	"host_key": "ssh", "host_ca": "ssh", "login": "ssh", "key": "ssh", "user_ca": "ssh", "shell": "ssh"}

// ofLogin is the same of a login.
var ofLogin = map[string]string{"password": "postgres", "privileged": "postgres", "key": "ssh", "user_ca": "ssh"}

// given are the keys that stand in a mapping.
type given map[string]strict.Node

// note makes the readers of a mapping note what they read.
func (g given) note(fields map[string]func(strict.Node)) map[string]func(strict.Node) {
	for key, f := range fields {
		fields[key] = func(v strict.Node) { g[key] = v; f(v) }
	}
	return fields
}

func (g given) has(key string) bool { _, ok := g[key]; return ok }

// foreign faults what a resource of a protocol does not have.
func (g given) foreign(protocol string, of map[string]string) {
	for key, v := range g {
		switch of[key] {
		case "", protocol:
		case "ssh":
			v.Fault("a database has no %s: it is for protocol: ssh", key)
		default:
			v.Fault("a host has no %s: it is for protocol: %s", key, of[key])
		}
	}
}

func (p *parser) resource(name string, n strict.Node) *Resource {
	r := &Resource{Name: name, Protocol: "postgres", TLS: "verify-full", Drift: "poll", Logins: map[string]*Login{}}
	g, logins := given{}, given{}
	short, every := &Login{}, &Login{} // login: NAME; and what opens each that has nothing of its own
	n.Fields(g.note(map[string]func(strict.Node){
		"protocol":   func(v strict.Node) { r.Protocol = v.One("postgres", "ssh") },
		"address":    func(v strict.Node) { r.Address = address(v) },
		"database":   func(v strict.Node) { r.Database = v.String() },
		"tls":        func(v strict.Node) { r.TLS = v.One("verify-full", "disable") },
		"ca":         func(v strict.Node) { r.CA = p.file(v); p.needs(v, r.CA, false) },
		"extensions": func(v strict.Node) { r.Extensions = v.Strings() },
		"drift":      func(v strict.Node) { r.Drift = v.One("poll", "strict") },
		"probe":      func(v strict.Node) { r.Probe = v.One("off", "on") == "on" },
		"host_key":   func(v strict.Node) { r.HostKeys = hostKeys(v) },
		"host_ca":    func(v strict.Node) { r.HostCA = p.hostCA(v) },
		"shell":      func(v strict.Node) { r.Posix = v.One("posix") != "" },
		"login":      func(v strict.Node) { short.User = v.String() },
		"key":        func(v strict.Node) { every.Key = p.secret(v) },
		"user_ca":    func(v strict.Node) { every.CA = p.secret(v) },
		"logins":     func(v strict.Node) { v.Each(func(name string, v strict.Node) { logins[name] = v }) },
	}))
	if !g.has("address") {
		n.Fault("no address: address: HOST:PORT")
	}
	if r.Protocol == "" { // it has its fault
		return r
	}
	g.foreign(r.Protocol, of)
	for name, v := range logins {
		r.Logins[name] = p.login(r.Protocol, v, every)
	}
	if r.Protocol == "ssh" {
		p.host(n, r, g, short, every)
	} else {
		r.database(n)
	}
	return r
}

func (p *parser) login(protocol string, n strict.Node, every *Login) *Login {
	l, g := &Login{}, given{}
	n.Fields(g.note(map[string]func(strict.Node){
		"user":       func(v strict.Node) { l.User = v.String() },
		"password":   func(v strict.Node) { l.Password = p.secret(v) },
		"privileged": func(v strict.Node) { l.Privileged = v.One("accepted") != "" },
		"key":        func(v strict.Node) { l.Key = p.secret(v) },
		"user_ca":    func(v strict.Node) { l.CA = p.secret(v) },
	}))
	g.foreign(protocol, ofLogin)
	if l.User == "" {
		n.Fault("the login has no user")
	}
	if protocol == "ssh" {
		if !g.has("key") && !g.has("user_ca") {
			l.Key, l.CA = every.Key, every.CA
		}
		opens(n, l, g.has("key") || g.has("user_ca"))
	} else if !g.has("password") {
		n.Fault("the login has no password: password: file:PATH, env:NAME or command:TEXT")
	}
	return l
}

// database faults what a database lacks.
func (r *Resource) database(n strict.Node) {
	if r.Database == "" {
		n.Fault("no database")
	}
	if r.TLS == "disable" && r.Address != "" && !loopback(r.Address) {
		n.Fault("tls: disable is for a resource on loopback alone")
	}
	if r.TLS == "disable" && r.CA != "" {
		n.Fault("ca says whom to trust by TLS, and tls: disable has none")
	}
	if len(r.Logins) == 0 {
		n.Fault("no logins: logins: {app: {user: app, password: file:…}}")
	}
}
