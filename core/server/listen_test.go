package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/audit"
)

// get asks the API, from an address of loopback.
func (w *world) get(host byte, path string) (int, string) {
	w.Helper()
	t := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}).DialContext}
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Get("http://" + w.addr["api"] + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Error(err)
	}
	return resp.StatusCode, string(b)
}

// TestX02API: the API's connections are bounded by address, and those that say
// nothing or half of something keep nobody else out (X01); what is not HTTP is
// refused (X03, X05); a fault in a handler ends one request (X12).
func TestX02API(t *testing.T) {
	w := newWorld(t, nil)
	for name, b := range map[string]string{
		"PROXY":      "PROXY TCP4 192.0.2.7 192.0.2.1 1234 8443\r\n\r\n",
		"PostgreSQL": "\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n",
		"TLS":        "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n",
		"SSH":        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
	} {
		nc, err := net.Dial("tcp", w.addr["api"])
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(nc, b)
		if all, _ := io.ReadAll(nc); strings.Contains(string(all), "200 OK") {
			t.Errorf("%s: %q", name, all)
		}
		nc.Close()
	}
	for i := range maxOpenOne {
		nc, err := net.Dial("tcp", w.addr["api"])
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\n"[:i%16])
	}
	nc, err := net.Dial("tcp", w.addr["api"])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(4 * time.Second)) // sooner than half a request is given up
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("one more than there may be of one address: %v", err)
	}
	if n, b := w.get(2, "/readyz"); n != http.StatusOK || b != "ready\n" {
		t.Errorf("another address: %d %s", n, b)
	}
	if got := code(w.in(), "select id from orders"); got != "" {
		t.Error(got)
	}

	broken := httptest.NewServer(w.s.steady(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("hunter2") })))
	defer broken.Close()
	if resp, err := http.Get(broken.URL); err == nil {
		resp.Body.Close()
		t.Errorf("a handler that panics answers %s", resp.Status)
	}
	w.s.protocolLog("", "panic", errors.New("x"))
	w.s.protocolLog("", "schema of shop", errors.New("x"))
	_, b := w.get(2, "/metrics")
	for _, want := range []string{"taskgate_panics_total 2", `taskgate_upstream_errors_total{what="schema"} 1`, `taskgate_logins_total{outcome="opened"} 1`, `taskgate_commands_total{verdict="allow"} 1`,
		`taskgate_guard_seconds_count{guard="tasks",outcome="allow"}`, "taskgate_audit_sync_seconds_count", `taskgate_reloads_total{outcome="refused"} 0`, `taskgate_probes_total{outcome="disagreed"} 0`, "taskgate_ready 1"} {
		if !strings.Contains(b, want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
	if strings.Contains(b, `"shop`) || strings.Contains(b, `"look`) || strings.Contains(b, `"ada`) {
		t.Error("X20: the metrics name what is behind the gateway")
	}

	// A log that takes nothing: nobody should be sent here.
	if err := w.s.audit.Close(); err != nil {
		t.Fatal(err)
	}
	if n, b := w.get(2, "/readyz"); n != http.StatusServiceUnavailable || b != "not ready: the audit log takes nothing new\n" {
		t.Errorf("%d %s", n, b)
	}
	w.ended = true
	w.stop()
	if err := <-w.done; !errors.Is(err, audit.ErrClosed) {
		t.Error(err)
	}
	noneLeft(t)
}
