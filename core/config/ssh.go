package config

import (
	"encoding/base64"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/strict"
)

// SSHListener is where the gateway takes clients by SSH.
type SSHListener struct {
	Address string
	Public  string // host:port as clients reach it; empty is the address
	HostKey string // file of the private key that clients know it by; empty is one that it makes
	UserCA  string // file of the private key that signs what opens the gateway; empty is one that it makes
}

func (p *parser) sshListener(n strict.Node) *SSHListener {
	l := &SSHListener{}
	addressed := false
	none := func(v strict.Node) { v.Fault("SSH has its own encryption: take this out") }
	n.Fields(map[string]func(strict.Node){
		"address":  func(v strict.Node) { l.Address, addressed = address(v), true },
		"public":   func(v strict.Node) { l.Public = address(v) },
		"host_key": func(v strict.Node) { l.HostKey = p.file(v); p.needs(v, l.HostKey, false) },
		"user_ca":  func(v strict.Node) { l.UserCA = p.file(v); p.needs(v, l.UserCA, false) },
		"tls":      none,
		"plain":    none,
	})
	if !addressed {
		n.Fault("no address: address: 127.0.0.1:2222")
	}
	if l.UserCA != "" && l.UserCA == l.HostKey {
		n.Fault("host_key and user_ca are one file: they have to be two keys")
	}
	return l
}

// hostName is what may stand after the + of a user name, and as a word of ssh_config.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// account is the name of one at a host. It is a word of a protocol and of no
// command line, but hosts differ in what they make of it (SA20).
var account = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$`)

// host reads what a host has beside what every resource has.
func (p *parser) host(n strict.Node, r *Resource, g given, short, every *Login) {
	if !hostName.MatchString(r.Name) {
		n.Fault("%q cannot be the name of a host: letters, digits, '_', '.' and '-' are expected, since clients come as TASK+NAME", r.Name)
	}
	switch {
	case !g.has("host_key") && !g.has("host_ca"):
		n.Fault("no host_key and no host_ca, and an unknown host is never taken: host_key: \"SHA256:…\", as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it on the host")
	case g.has("host_key") && g.has("host_ca"):
		n.Fault("either host_key or host_ca: a host is known by one of them")
	}
	switch {
	case g.has("login") && g.has("logins"):
		n.Fault("either login or logins: login: ACCOUNT is short for one")
	case g.has("login"):
		if short.User == "" {
			if g["login"].IsText() {
				g["login"].Fault("an account is expected")
			}
			return
		}
		short.Key, short.CA = every.Key, every.CA
		opens(g["login"], short, g.has("key") || g.has("user_ca"))
		r.Logins[short.User] = short
	case len(r.Logins) == 0:
		n.Fault("no login: login: ACCOUNT, key: file:PATH; or logins: {NAME: {user: ACCOUNT, key: file:PATH}}")
	}
}

// opens sees that a login has an account, and one thing that opens it. Said is
// whether something stands there, which may have its fault.
func opens(n strict.Node, l *Login, said bool) {
	if l.User != "" && !account.MatchString(l.User) {
		n.Fault("%q is no account: letters, digits, '_', '.', '-', '@' and '\\' are expected, and no '-' at the front", l.User)
	}
	switch {
	case l.Key.Given() && l.CA.Given():
		n.Fault("either key or user_ca")
	case !l.Key.Given() && !l.CA.Given() && !said:
		n.Fault("nothing opens the host: key: file:PATH, env:NAME or command:TEXT of a private key, or user_ca: the same of an authority that the host trusts")
	}
}

// hostKeys reads one or more public keys, or their fingerprints.
func hostKeys(n strict.Node) (keys []string) {
	list := []strict.Node{n}
	if n.IsList() {
		list = n.List()
		if len(list) == 0 {
			n.Fault("no key at all: an unknown host is never taken")
		}
	}
	for _, v := range list {
		text := strings.TrimSpace(v.String())
		if text == "" {
			if v.IsText() {
				v.Fault("no key at all: an unknown host is never taken")
			}
			continue
		}
		if sum, ok := strings.CutPrefix(text, "SHA256:"); ok {
			if b, err := base64.RawStdEncoding.DecodeString(sum); err != nil || len(b) != 32 {
				v.Fault("a fingerprint is SHA256: and 43 letters, as `ssh-keygen -lf FILE.pub` prints it")
				continue
			}
			keys = append(keys, text)
			continue
		}
		key := publicKey(v, text)
		if key == nil {
			continue
		}
		keys = append(keys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
	return keys
}

// publicKey reads the line of a public key.
func publicKey(n strict.Node, text string) ssh.PublicKey {
	if strings.Contains(text, "PRIVATE KEY") {
		n.Fault("a private key never stands here: what the host shows is public, as `ssh-keygen -lf FILE.pub` prints it")
		return nil
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil || len(options) > 0 || strings.TrimSpace(string(rest)) != "":
		n.Fault("\"SHA256:…\" or the line of a public key (\"ssh-ed25519 AAAA…\") is expected; an unknown host is never taken")
		return nil
	case strings.Contains(key.Type(), "-cert-v01@"):
		n.Fault("this is a certificate: the key that has signed it goes into host_ca")
		return nil
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA:
		return key
	}
	n.Fault("a key of type %s is not taken: ssh-ed25519, ecdsa-sha2-nistp256, -384, -521 and ssh-rsa are", key.Type())
	return nil
}

// hostCA reads file:PATH, or the line of a public key.
func (p *parser) hostCA(n strict.Node) string {
	text := strings.TrimSpace(n.String())
	if strings.HasPrefix(text, "file:") {
		f := p.file(n)
		p.needs(n, f, false)
		if f == "" {
			return ""
		}
		return "file:" + f
	}
	if text == "" {
		if n.IsText() {
			n.Fault("no authority at all: an unknown host is never taken")
		}
		return ""
	}
	if strings.HasPrefix(text, "SHA256:") {
		n.Fault("a fingerprint is no authority: file:PATH or the line of its public key is expected")
		return ""
	}
	if key := publicKey(n, text); key != nil {
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	}
	return ""
}
