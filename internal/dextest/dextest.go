// Package dextest starts Dex, a real identity provider that others run too, for
// tests, and does in it what people do with a browser.
package dextest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/taskgate/taskgate/internal/pgtest"
)

// Password is everybody's.
const (
	Password = "password"
	hash     = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"
)

// Server is one Dex. It keeps what it has given out in a database, so that a
// restart with other users forgets nothing.
type Server struct {
	URL      string
	Callback string // where a browser may be sent back to, besides the device flow's page

	program, dir, database, address string
	pg                              *pgtest.Server
	cmd                             *exec.Cmd
	log                             bytes.Buffer
}

// Start starts a Dex on a free port of loopback, with a database of its own in
// pg and a public client taskgate. Users have their groups, and NAME@example.com
// as their address.
func Start(dir string, pg *pgtest.Server, users map[string][]string, callback string) (*Server, error) {
	root, err := pgtest.Root()
	if err != nil {
		return nil, fmt.Errorf("dextest: %w", err)
	}
	s := &Server{program: filepath.Join(root, ".cache/dex/dex"), dir: dir, pg: pg, Callback: callback}
	if _, err := os.Stat(s.program); err != nil {
		return nil, errors.New("dextest: Dex is not there: run `.ci/install test`")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("dextest: %w", err)
	}
	s.address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(s.address)
	s.URL, s.database = "http://"+s.address+"/dex", "dex"+port
	if err := pg.Database(s.database, ""); err != nil {
		return nil, fmt.Errorf("dextest: %w", err)
	}
	return s, s.Restart(users)
}

// Restart starts it anew, with these users.
func (s *Server) Restart(users map[string][]string) error {
	s.Stop()
	type object = map[string]any
	var list []object
	for name, groups := range users {
		list = append(list, object{"email": name + "@example.com", "hash": hash, "username": name, "userID": "id-of-" + name, "preferredUsername": name, "groups": groups})
	}
	config, err := json.Marshal(object{ // JSON is YAML too
		"issuer":  s.URL,
		"web":     object{"http": s.address},
		"storage": object{"type": "postgres", "config": object{"host": "127.0.0.1", "port": s.pg.Port, "database": s.database, "user": "owner", "password": s.pg.Password, "ssl": object{"mode": "disable"}}},
		"oauth2":  object{"skipApprovalScreen": true},
		"expiry":  object{"idTokens": "1h"},
		"staticClients": []object{{"id": "taskgate", "name": "taskgate", "public": true,
			"redirectURIs": []string{"/dex/device/callback", s.Callback}}}, // the first is what the device flow of a public client needs
		"enablePasswordDB": true,
		"staticPasswords":  list,
	})
	if err != nil {
		return fmt.Errorf("dextest: %w", err)
	}
	path := filepath.Join(s.dir, "dex.yaml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return fmt.Errorf("dextest: %w", err)
	}
	s.log.Reset()
	s.cmd = exec.Command(s.program, "serve", path)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("dextest: %w", err)
	}
	for range 400 {
		if resp, err := http.Get(s.URL + "/.well-known/openid-configuration"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Stop()
	return fmt.Errorf("dextest: it does not come up: %s", s.log.String())
}

// Stop ends it.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	timer.Stop()
	s.cmd = nil
}

// Confirm does what a user does who was shown a page and a code.
func (s *Server) Confirm(ctx context.Context, page, code, user string) error {
	return browse(ctx, page, map[string]string{"user_code": code, "login": user + "@example.com", "password": Password}, "Login Successful")
}

// Return does what a user does whose browser goes back to a program on this
// host, which says that it is done.
func (s *Server) Return(ctx context.Context, page, user, done string) error {
	return browse(ctx, page, map[string]string{"login": user + "@example.com", "password": Password}, done)
}

// IDToken gives an ID token of a user as another program gets one: by a device
// flow of its own.
func (s *Server) IDToken(ctx context.Context, user string) (string, error) {
	var d struct {
		Device string `json:"device_code"`
		Code   string `json:"user_code"`
		Page   string `json:"verification_uri"`
	}
	if err := post(ctx, s.URL+"/device/code", url.Values{"client_id": {"taskgate"}, "scope": {"openid email groups"}}, &d); err != nil {
		return "", err
	}
	if err := s.Confirm(ctx, d.Page, d.Code, user); err != nil {
		return "", err
	}
	var t struct {
		Token string `json:"id_token"`
	}
	return t.Token, post(ctx, s.URL+"/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"taskgate"}, "device_code": {d.Device}}, &t)
}

func post(ctx context.Context, to string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("dextest: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("dextest: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("dextest: %s says %s %s: %w", to, resp.Status, b, err)
	}
	return json.Unmarshal(b, into)
}

// Rotate has it sign with a new key from its next start on.
func (s *Server) Rotate() error {
	_, err := s.pg.Psql(s.database, "update keys set next_rotation = now() - interval '1 hour'")
	return err
}

var (
	form  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)".*?</form>`)
	input = regexp.MustCompile(`<input[^>]*\bname="([^"]*)"[^>]*>`)
	value = regexp.MustCompile(`\bvalue="([^"]*)"`)
	tags  = regexp.MustCompile(`<[^>]*>|\s+`)
)

// browse opens a page, fills every form that it meets with what it is given,
// and goes on until the text is there that says it is done.
func browse(ctx context.Context, page string, fill map[string]string, done string) error {
	jar, _ := cookiejar.New(nil) // never fails without options
	c := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	method, body := http.MethodGet, url.Values{}
	for range 6 {
		req, err := http.NewRequestWithContext(ctx, method, page, strings.NewReader(body.Encode()))
		if err != nil {
			return fmt.Errorf("dextest: %w", err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := c.Do(req)
		if err != nil {
			return fmt.Errorf("dextest: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("dextest: %w", err)
		}
		if strings.Contains(string(text), done) {
			return nil
		}
		m := form.FindSubmatch(text)
		if resp.StatusCode != http.StatusOK || m == nil || strings.Contains(string(text), `id="login-error"`) {
			return fmt.Errorf("dextest: %s says %s: %s", page, resp.Status, tags.ReplaceAllString(string(text), " "))
		}
		to, err := resp.Request.URL.Parse(html.UnescapeString(string(m[1])))
		if err != nil {
			return fmt.Errorf("dextest: %w", err)
		}
		method, page, body = http.MethodPost, to.String(), url.Values{}
		for _, i := range input.FindAllSubmatch(m[0], -1) {
			if name := string(i[1]); fill[name] != "" {
				body.Set(name, fill[name])
			} else if v := value.FindSubmatch(i[0]); v != nil {
				body.Set(name, html.UnescapeString(string(v[1])))
			}
		}
	}
	return fmt.Errorf("dextest: %s leads nowhere", page)
}
