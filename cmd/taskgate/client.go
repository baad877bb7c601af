package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/taskgate/taskgate/core/server"
)

// kept is what `taskgate login` leaves for the commands after it. It holds a
// secret: its file has mode 0600.
type kept struct {
	Gateway string    `json:"gateway"`
	CA      string    `json:"ca,omitempty"` // file of the certificates to trust, absolute
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`

	Control        string    `json:"control,omitempty"` // a token to decide with, of another login
	ControlExpires time.Time `json:"control_expires,omitzero"`
}

func keptPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep a login: %w", err)
	}
	return filepath.Join(dir, "taskgate", "login.json"), nil
}

func loadKept() (*kept, error) {
	path, err := keptPath()
	if err != nil {
		return nil, err
	}
	const login = "run `taskgate login --gateway URL`"
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hinted{errors.New("you are not logged in"), login}
	} else if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, hinted{fmt.Errorf("%s can be read by others", path), "chmod 600 it, or log in again: `taskgate logout` and `taskgate login`"}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k := &kept{}
	if err := json.Unmarshal(b, k); err != nil {
		return nil, hinted{fmt.Errorf("%s: %w", path, err), login}
	}
	if !time.Now().Before(k.Expires) {
		return nil, hinted{errors.New("your login is over"), login}
	}
	return k, nil
}

// save writes the file whole or not at all, and nobody else can read it at any time.
func (k *kept) save() error {
	path, err := keptPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".login-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// client gives an HTTP client for the gateway that was named. Secrets go in the
// clear to loopback alone.
func (k *kept) client() (*http.Client, error) {
	u, err := url.Parse(k.Gateway)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is no URL of a gateway: https://HOST:PORT is expected", k.Gateway)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s: secrets would go in the clear: https is expected", k.Gateway)
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second}
	if k.CA != "" {
		pem, err := os.ReadFile(k.CA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", k.CA)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t, Timeout: time.Minute}, nil
}

// errWait is an answer that is not there yet, errCannot one that never will be;
// errLogin is of a token that is not taken, errAbsent of what the gateway does
// not have, errAway of one that does not answer: they are said by what they stand in.
var (
	errWait   = errors.New("not yet")
	errCannot = errors.New("the provider offers no device flow")
	errLogin  = errors.New("")
	errAbsent = errors.New("")
	errAway   = errors.New("")
)

// do calls the gateway's API. In is sent as JSON; what comes back goes into out.
func (k *kept) do(ctx context.Context, method, path string, in, out any) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(k.Gateway, "/")+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if k.Token != "" {
		req.Header.Set("Authorization", "Bearer "+k.Token)
	}
	resp, err := c.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return hinted{fmt.Errorf("no gateway answers on %s: %w%w", k.Gateway, errors.Unwrap(err), errAway), "does one run there (`taskgate serve`)? Its `listeners: api` is the address; --ca names whom to trust"}
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(resp.Body).Decode(out)
	case http.StatusAccepted:
		return errWait
	case http.StatusNotImplemented:
		return errCannot
	}
	var e struct{ Error, Hint string }
	if json.NewDecoder(resp.Body).Decode(&e) != nil || e.Error == "" {
		e.Error = resp.Status
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return hinted{fmt.Errorf("%s%w", e.Error, errLogin), "run `taskgate login`"}
	}
	switch {
	case resp.StatusCode >= http.StatusInternalServerError:
		err = errAway
	case resp.StatusCode == http.StatusNotFound:
		err = errAbsent
	default:
		err = errors.New("")
	}
	if err = fmt.Errorf("%s%w", e.Error, err); e.Hint != "" {
		return hinted{err, e.Hint}
	}
	return err
}

func (k *kept) me(ctx context.Context) (*server.Me, error) {
	m := &server.Me{}
	return m, k.do(ctx, http.MethodGet, "/v1/me", nil, m)
}

// narrow asks for a token for one task on one resource.
func (k *kept) narrow(ctx context.Context, task, resource string, lasts time.Duration, from []string) (*server.Token, error) {
	t := &server.Token{}
	return t, k.do(ctx, http.MethodPost, "/v1/tokens", map[string]any{"task": task, "resource": resource, "seconds": int64(lasts / time.Second), "from": from}, t)
}
