package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// elsewhere refuses a forward that would be another way into a resource, or into
// the gateway, beside its own rules, whatever a task lists (SC23). What it means
// the host says, so all that it may mean from there is looked at.
func (c *conn) elsewhere(ctx context.Context, to *target) error {
	own := c.p.Settings().Own
	if len(to.object) != 2 {
		if slices.Contains(own, to.object[0]) && c.neighbour(ctx) {
			return errItself
		}
		return nil
	}
	gen := c.gate.Current()
	if gen == nil {
		return nil
	}
	host, port := to.object[0], to.object[1]
	hosts := []string{host}
	if r := gen.Resources[c.session.About().Resource]; r != nil && loopback(host) {
		at, _, _ := net.SplitHostPort(strings.ToLower(r.Address))
		hosts = append(hosts, at)
	}
	// means says whether the host would reach by this name what the gateway
	// reaches by that one.
	means := func(name string) bool {
		return slices.Contains(hosts, name) || onMachine(name) && onMachine(host) && (!loopback(host) || c.neighbour(ctx))
	}
	for _, address := range append(slices.Clip(own), c.nc.LocalAddr().String()) {
		if at, p, err := net.SplitHostPort(strings.ToLower(address)); err == nil && p == port && means(at) {
			return errItself
		}
	}
	for name, r := range gen.Resources {
		at, p, err := net.SplitHostPort(strings.ToLower(r.Address))
		if err != nil || p != port || !means(at) {
			continue
		}
		if r.Protocol == "ssh" {
			return fmt.Errorf("that is the resource %s, which is reached by itself: ssh TASK+%s@GATEWAY", name, name)
		}
		return fmt.Errorf("that is the resource %s, which is reached through the gateway by %s, for a task that has it", name, r.Protocol)
	}
	return nil
}

var errItself = errors.New("that is the gateway itself, which no forward leads to")

// neighbour says whether the host is on the gateway's own machine, as far as its
// address tells. One that cannot be reached connects to nothing.
func (c *conn) neighbour(ctx context.Context) bool {
	host, err := c.there(ctx)
	if err != nil {
		return false
	}
	at, _, err := net.SplitHostPort(host.RemoteAddr().String())
	return err == nil && onMachine(at)
}

// onMachine says whether a name is one of the gateway's machine, or one by which
// every machine calls itself.
func onMachine(host string) bool {
	if loopback(host) {
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		name, err := os.Hostname()
		name = strings.ToLower(name)
		short, _, _ := strings.Cut(name, ".")
		return err == nil && (host == name || host == short)
	}
	if a.IsUnspecified() {
		return true
	}
	list, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(list, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a.Unmap()
	})
}

// loopback says whether a host means itself by a name.
func loopback(host string) bool {
	switch host {
	case "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback":
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.HasSuffix(host, ".localhost")
}
