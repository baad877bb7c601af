package server

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sort"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/config"
	sshproto "github.com/taskgate/taskgate/core/protocol/ssh"
)

// sshKeys are the two keys of the SSH listener: what clients know the gateway
// by, and what signs the certificates that open it.
type sshKeys struct {
	host ssh.Signer
	ca   *auth.CA
}

// openKeys reads those of the SSH listener, nil where there is none. What is not
// configured is made at the first start, and lies in the data directory.
func openKeys(c *config.Config, data string) (*sshKeys, error) {
	l := c.Listeners.SSH
	if l == nil {
		return nil, nil
	}
	at := func(given, made string) string {
		if given != "" {
			return given
		}
		return filepath.Join(data, "keys", made)
	}
	k := &sshKeys{}
	path := at(l.HostKey, "ssh-host")
	text, err := auth.OpenKey(path, "taskgate host key")
	if err == nil {
		if k.host, err = ssh.ParsePrivateKey(text); err != nil { // what the library says may have some of it
			err = fmt.Errorf("%s: no private key as ssh-keygen writes it, or one with a passphrase", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listeners.ssh.host_key: %w", err)
	}
	if k.ca, err = auth.OpenCA(at(l.UserCA, "ssh-ca")); err != nil {
		return nil, fmt.Errorf("listeners.ssh.user_ca: %w", err)
	}
	if k.ca.Authority(k.host.PublicKey()) {
		return nil, errors.New("listeners.ssh: host_key and user_ca are one key: they have to be two")
	}
	return k, k.apart(c)
}

// apart says which hosts are opened by the key that opens the gateway. One that
// cannot be read now is looked at again when it is used.
func (k *sshKeys) apart(c *config.Config) error {
	var faults []error
	for _, r := range c.Resources {
		for name, l := range r.Logins {
			for _, secret := range []config.Secret{l.Key, l.CA} {
				if !secret.Given() {
					continue
				}
				if signer, err := privateKey(secret); err == nil && k.ca.Authority(signer.PublicKey()) {
					faults = append(faults, fmt.Errorf("resource %s: login %s: %s: %w", r.Name, name, secret, errOneKey))
				}
			}
		}
	}
	sort.Slice(faults, func(i, j int) bool { return faults[i].Error() < faults[j].Error() })
	return errors.Join(faults...)
}

// use makes the keys count, from the next connection on.
func (s *Server) use(k *sshKeys) {
	s.keys.Store(k)
	if k == nil {
		s.logins.SetCA(nil)
		return
	}
	s.logins.SetCA(k.ca)
}

// keyChanges says in words what use is going to change.
func (s *Server) keyChanges(next *sshKeys) (changes []string) {
	was := s.keys.Load()
	if was == nil || next == nil {
		return nil
	}
	if !same(was.host.PublicKey(), next.host.PublicKey()) {
		changes = append(changes, "listener ssh: another host key, "+ssh.FingerprintSHA256(next.host.PublicKey()))
	}
	if !same(was.ca.PublicKey(), next.ca.PublicKey()) {
		changes = append(changes, "listener ssh: another authority: the certificates of the old one open nothing any more")
	}
	return changes
}

func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// settings are what the next client is met with.
func (s *Server) settings() *sshproto.Settings {
	k := s.keys.Load()
	if k == nil {
		return &sshproto.Settings{}
	}
	return &sshproto.Settings{HostKeys: []ssh.Signer{k.host}, Authority: k.ca.Authority, Own: *s.own.Load()}
}

// itself is where the gateway is reached, which no forward leads to. The caller
// holds mu.
func (s *Server) itself(c *config.Config) {
	var own []string
	for name, l := range c.Listeners.All() {
		if l.Public != "" {
			own = append(own, l.Public)
		}
		if f := s.fronts[name]; f != nil {
			own = append(own, f.Addr().String())
		}
	}
	if admin, err := filepath.Abs(filepath.Join(c.Data, "admin.sock")); err == nil {
		own = append(own, admin)
	}
	s.own.Store(&own)
}

// hostKeys are what clients know the gateway by.
func (s *Server) hostKeys() []ssh.PublicKey {
	if k := s.keys.Load(); k != nil {
		return []ssh.PublicKey{k.host.PublicKey()}
	}
	return nil
}

// foreign says of a key that it may open no host: it opens the gateway.
func (s *Server) foreign(key ssh.PublicKey) bool {
	ca := s.logins.CA()
	return ca != nil && ca.Authority(key)
}
