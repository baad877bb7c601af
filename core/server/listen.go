package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/protocol/postgres"
)

// The bounds of the API's listener, and how long what is under way there has
// when it closes. The other listeners' are their protocol's matter.
const (
	maxOpen     = 1000 // connections
	maxOpenOne  = 250  // of one address
	httpClosing = 2 * time.Second
)

// alpn is what TLS is for at each listener. A client that means another
// protocol is refused in the handshake (X06).
var alpn = map[string]string{"postgres": "postgresql", "api": "http/1.1"}

// front is an open listener, and how clients are met there.
type front struct {
	net.Listener
	address string                     // as it was asked for
	tls     atomic.Pointer[tls.Config] // nil is plain
	stop    context.CancelFunc
}

// certificates reads those of the listeners. A listener that is plain has none.
func certificates(c *config.Config) (map[string]*tls.Config, error) {
	list := map[string]*tls.Config{}
	var faults []error
	for name, l := range c.Listeners.All() {
		if l.Cert == "" {
			continue
		}
		pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
		if err == nil && time.Now().After(pair.Leaf.NotAfter) {
			err = fmt.Errorf("%s was good until %s", l.Cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("listeners.%s.tls: %w", name, err))
			continue
		}
		list[name] = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{alpn[name]}}
	}
	return list, errors.Join(faults...)
}

// open opens the listeners that are configured and not open yet. It starts
// none of them, and leaves nothing open where one cannot be.
func (s *Server) open(c *config.Config) (map[string]*front, error) {
	opened := map[string]*front{}
	var faults []error
	for name, l := range c.Listeners.All() {
		was := s.fronts[name]
		if was != nil && was.address == l.Address {
			continue
		}
		nl, err := net.Listen("tcp", l.Address)
		if was != nil && errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("it cannot move from %s to %s while something has that port: %w", was.address, l.Address, err)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("listeners.%s: %w", name, err))
			continue
		}
		opened[name] = &front{Listener: nl, address: l.Address}
	}
	if err := errors.Join(faults...); err != nil {
		for _, f := range opened {
			f.Close()
		}
		return nil, err
	}
	return opened, nil
}

// listenerChanges says in words what turn is going to change.
func (s *Server) listenerChanges(c *config.Config, opened map[string]*front, certs map[string]*tls.Config) (changes []string) {
	all, before := c.Listeners.All(), s.config.Listeners.All()
	for name, was := range s.fronts {
		switch d := difference(was.tls.Load(), certs[name]); {
		case all[name] == nil:
			changes = append(changes, "listener "+name+" closed")
		case opened[name] != nil:
			changes = append(changes, fmt.Sprintf("listener %s moved from %s to %s", name, was.Addr(), opened[name].Addr()))
		case d != "":
			changes = append(changes, "listener "+name+": "+d)
		case *all[name] != *before[name]:
			changes = append(changes, "listener "+name+" changed")
		}
	}
	for name, f := range opened {
		if s.fronts[name] == nil {
			changes = append(changes, fmt.Sprintf("listener %s opened at %s", name, f.Addr()))
		}
	}
	sort.Strings(changes)
	return changes
}

// turn makes the listeners those of the configuration. One that is gone takes
// nobody any more; who is in goes on.
func (s *Server) turn(c *config.Config, opened map[string]*front, certs map[string]*tls.Config, keys *sshKeys) {
	s.hooks.Set(webhooks(c))
	s.use(keys)
	p := c.Listeners.Postgres
	if p != nil {
		first := c.Issuers[0]
		s.pg.Loop(p.Loop)
		s.pg.Secure(certs["postgres"], p.Plain, postgres.OAuth{Configuration: strings.TrimRight(first.URL, "/") + "/.well-known/openid-configuration", Scope: strings.Join(append([]string{"openid"}, first.Scopes...), " ")})
	}
	for name, was := range s.fronts {
		if c.Listeners.All()[name] != nil && opened[name] == nil {
			if difference(was.tls.Load(), certs[name]) != "" { // else sessions of TLS can be resumed
				was.tls.Store(certs[name])
			}
			continue
		}
		was.stop()
		was.Close()
		delete(s.fronts, name)
	}
	for name, f := range opened {
		f.tls.Store(certs[name])
		s.fronts[name] = f
	}
	s.itself(c)
	for name, f := range opened {
		s.run(name, f)
	}
	to := Front{}
	if p != nil {
		to = Front{Address: s.fronts["postgres"].Addr().String(), TLS: certs["postgres"] != nil}
		if p.Public != "" {
			to.Address = p.Public
		}
	}
	s.front.Store(&to)
	s.tellSSH(c)
}

// difference says how two ways to meet clients differ. One that is the same
// stays, so that its sessions can be resumed.
func difference(was, next *tls.Config) string {
	switch {
	case was == nil && next == nil:
		return ""
	case was == nil:
		return "TLS from now on"
	case next == nil:
		return "plain from now on"
	case slices.EqualFunc(was.Certificates[0].Certificate, next.Certificates[0].Certificate, bytes.Equal):
		return ""
	}
	return "another certificate, good until " + next.Certificates[0].Leaf.NotAfter.UTC().Format(time.DateOnly)
}

// run starts to take clients at a listener, until it is stopped or the gateway is.
func (s *Server) run(name string, f *front) {
	ctx, stop := context.WithCancel(s.listening)
	f.stop = stop
	s.top.Go(func() error {
		if p := s.protocols[name]; p != nil {
			return s.accept(ctx, f, func(nc net.Conn) { s.serve(p, nc) })
		}
		return s.serveHTTP(ctx, &met{front: f, of: map[string]int{}, crowded: s.metrics.crowded.Inc}, s.steady(s.api()))
	})
}

// accept hands connections on; a failure that passes, as one of too many open
// files, is waited out (X11).
func (s *Server) accept(ctx context.Context, l net.Listener, f func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for wait := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			f(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.Log.Error().Err(err).Dur("wait", wait).Msg("accept")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// met is a front whose clients are met by TLS, where it has a certificate, and
// whose connections are counted: over the bounds they are closed at once (X02).
type met struct {
	*front
	crowded func()
	mu      sync.Mutex
	all     int
	of      map[string]int // by address
}

func (m *met) Accept() (net.Conn, error) {
	for {
		nc, err := m.front.Accept()
		if err != nil {
			return nil, err
		}
		from := door.Address(nc.RemoteAddr())
		m.mu.Lock()
		full := m.all >= maxOpen || m.of[from] >= maxOpenOne
		if !full {
			m.all++
			m.of[from]++
		}
		m.mu.Unlock()
		if full {
			m.crowded()
			nc.Close()
			continue
		}
		nc = &counted{Conn: nc, done: sync.OnceFunc(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.all--
			if m.of[from]--; m.of[from] == 0 {
				delete(m.of, from)
			}
		})}
		if t := m.tls.Load(); t != nil {
			nc = tls.Server(nc, t)
		}
		return nc, nil
	}
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}

func (s *Server) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	hs := &http.Server{Handler: h, ErrorLog: log.New(s.Log, "", 0), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peer(nc))
		}}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpClosing)
		defer cancel()
		if hs.Shutdown(end) != nil {
			_ = hs.Close()
		}
	})
	err := hs.Serve(l)
	if stop() {
		_ = hs.Close()
	} else {
		<-closed
	}
	if ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}
