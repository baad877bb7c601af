package approval_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// log is an audit log that can be full.
type log struct{ full atomic.Bool }

func (l *log) Append(context.Context, []byte, bool) error {
	if l.full.Load() {
		return errors.New("no space left on device")
	}
	return nil
}
func (l *log) TryAppend([]byte, time.Time) bool { return false }

// room is a service with a webhook that acts, one that does not, and people.
type room struct {
	*testing.T
	service *approval.Service
	log     log
	file    string // of the store
	end     func()
	url     string
	refused []string
	n       int
}

const (
	idp   = "https://idp.example"
	acts  = "acts-acts-acts-acts-acts"
	tells = "tell-tell-tell-tell-tell"
)

func newRoom(t *testing.T) *room {
	r := &room{T: t, file: filepath.Join(t.TempDir(), "store.db")}
	r.begin()
	t.Cleanup(func() { r.end() })
	return r
}

// begin is a run of the gateway, over what an earlier one has left in the store.
func (r *room) begin() {
	r.Helper()
	t := r.T
	rows, err := store.Open(t.Context(), r.file)
	if err != nil {
		t.Fatal(err)
	}
	people := map[string][]string{"ada": {"dba"}, "bob": {"dba"}, "eve": {"interns"}}
	r.service = &approval.Service{Store: rows, Log: &r.log, Groups: func(_ context.Context, issuer, subject string) ([]string, error) {
		if g := people[subject]; issuer == idp && g != nil {
			return g, nil
		}
		return nil, errors.New("no login of theirs goes on")
	}}
	hooks := &approval.Webhooks{}
	secret := func(s string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) {
			return "whsec_" + base64.StdEncoding.EncodeToString([]byte(s)), nil
		}
	}
	hooks.Set([]approval.Webhook{{URL: "https://a.example/1", Secret: secret(acts), Issuer: idp}, {URL: "https://b.example/2", Secret: secret(tells)}})
	answer := func(w http.ResponseWriter, c *approval.Card, err error) {
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, err.(*approval.Error).Kind)
			return
		}
		_ = json.NewEncoder(w).Encode(c)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/approvals/{id}/actions", &approval.Actions{Webhooks: hooks, Service: r.service, Answer: answer,
		Own: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { _, _ = fmt.Fprint(w, "own ", req.PathValue("id")) }),
		Refused: func(_ *http.Request, hook, id, subject string, err error) {
			r.refused = append(r.refused, fmt.Sprint(hook, " ", id, " ", subject, ": ", err))
		}})
	s := httptest.NewServer(mux)
	r.url = s.URL
	r.end = func() {
		s.Close()
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.service.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ask makes a request of ada's and gives its card.
func (r *room) ask() *approval.Card {
	r.Helper()
	r.n++
	q := &gate.Request{ID: fmt.Sprintf("req%d", r.n), Code: "abcd", Session: &abi.Session{ID: fmt.Sprint("s", r.n), Issuer: idp, Subject: "ada", Task: "x", Resource: "shop"}, Since: time.Now(), Until: time.Now().Add(time.Hour),
		Needs: []gate.Need{{Guard: "tasks", Requirement: abi.Requirement{Groups: []string{"dba"}, People: 1}}}, Text: "delete from orders", Rows: abi.Rows{Estimated: -1, Counted: -1}, Binding: sha256.Sum256([]byte{byte(r.n)})}
	if err := r.service.Ask(r.Context(), q); err != nil {
		r.Fatal(err)
	}
	c, err := r.service.Card(r.Context(), q.ID, approval.Person{All: true})
	if err != nil || c.Binding != hex.EncodeToString(q.Binding[:]) {
		r.Fatal(err, c)
	}
	return c
}

// said is a signed action that counts; tests change it.
type said struct {
	method, id, message, secret string
	at                          time.Time
	body                        map[string]string
	raw                         string      // the body, where it is not body
	header                      http.Header // added
	after                       func(r *http.Request)
}

func (r *room) says(c *approval.Card) *said {
	r.n++
	return &said{method: http.MethodPost, id: c.ID, message: fmt.Sprintf("act_%d", r.n), secret: acts, at: time.Now(), header: http.Header{},
		body: map[string]string{"decision": "approve", "reason": "looked at it", "code": c.Code, "subject": "bob", "binding": c.Binding}}
}

func (r *room) send(s *said) (int, string) {
	r.Helper()
	if s.raw == "" {
		b, err := json.Marshal(s.body)
		if err != nil {
			r.Fatal(err)
		}
		s.raw = string(b)
	}
	req, err := http.NewRequestWithContext(r.Context(), s.method, r.url+"/v1/approvals/"+s.id+"/actions", strings.NewReader(s.raw))
	if err != nil {
		r.Fatal(err)
	}
	at := strconv.FormatInt(s.at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(s.secret))
	fmt.Fprintf(m, "%s.%s.%s", s.message, at, s.raw)
	req.Header.Set("webhook-id", s.message)
	req.Header.Set("webhook-timestamp", at)
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	for k, v := range s.header {
		req.Header[k] = append(req.Header[k], v...)
	}
	if s.after != nil {
		s.after(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// state is how a request stands, in the store.
func (r *room) state(id string) string {
	r.Helper()
	c, err := r.service.Store.Request(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return fmt.Sprint(c.State, len(c.Voices))
}

// TestAP19Actions: what is signed by who may act, now, once, by somebody who may
// decide, of what they have seen, counts. Nothing else does, and all of it is told.
func TestAP19Actions(t *testing.T) {
	r := newRoom(t)
	c := r.ask()
	if code, text := r.send(r.says(c)); code != 200 || !strings.Contains(text, `"state":"approved"`) || r.state(c.ID) != "approved1" || len(r.refused) > 0 {
		t.Fatal(code, text, r.state(c.ID), r.refused)
	}
	c = r.ask()
	no := r.says(c)
	no.body["decision"] = "deny"
	if code, text := r.send(no); code != 200 || !strings.Contains(text, `"state":"denied"`) || r.state(c.ID) != "denied1" {
		t.Fatal(code, text, r.state(c.ID))
	}
	if _, text := r.send(r.says(c)); text != "over" { // out of order: the second word comes too late
		t.Error(text)
	}
	other := r.ask()
	used := r.says(other)
	used.body["code"] = "wrong"
	if _, text := r.send(used); text != "code" {
		t.Error(text)
	}
	c = r.ask()
	for name, x := range map[string]struct {
		change func(s *said)
		why    string
	}{
		"another secret":       {func(s *said) { s.secret = "guessed-guessed-guessed-" }, "unsigned"},
		"a webhook that tells": {func(s *said) { s.secret = tells }, "unsigned"},
		"old":                  {func(s *said) { s.at = s.at.Add(-5*time.Minute - 2*time.Second) }, "unsigned"},
		"of the future":        {func(s *said) { s.at = s.at.Add(5*time.Minute + 2*time.Second) }, "unsigned"},
		"another body":         {func(s *said) { s.after = body(`{"decision":"approve"}`) }, "unsigned"},
		"another id":           {func(s *said) { s.after = func(q *http.Request) { q.Header.Set("webhook-id", "act_0") } }, "unsigned"},
		"another time": {func(s *said) {
			s.after = func(q *http.Request) { q.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix()+1, 10)) }
		}, "unsigned"},
		"no time":               {func(s *said) { s.after = func(q *http.Request) { q.Header.Del("webhook-timestamp") } }, "unsigned"},
		"no signature":          {func(s *said) { s.after = func(q *http.Request) { q.Header.Del("webhook-signature") } }, "unsigned"},
		"two times":             {func(s *said) { s.header["Webhook-Timestamp"] = []string{"1"} }, "unsigned"},
		"dots in the id":        {func(s *said) { s.message = "act.1" }, "unsigned"},
		"a token beside it":     {func(s *said) { s.header["Authorization"] = []string{"Bearer tg_x"} }, "unsigned"},
		"too large":             {func(s *said) { s.body["reason"] = strings.Repeat("x", 70000) }, "unsigned"},
		"repeated":              {func(s *said) { s.message = used.message }, "repeated"},
		"another binding":       {func(s *said) { s.body["binding"] = other.Binding }, "other"},
		"another request's":     {func(s *said) { s.id = other.ID }, "other"},
		"no binding":            {func(s *said) { s.body["binding"] = "" }, "malformed"},
		"part of a binding":     {func(s *said) { s.body["binding"] = s.body["binding"][:32] }, "other"},
		"no such request":       {func(s *said) { s.id = "nothing" }, "unknown"},
		"who asked":             {func(s *said) { s.body["subject"] = "ada" }, "self"},
		"who asked, respelled":  {func(s *said) { s.body["subject"] = "ADA" }, "group"},
		"who is not logged in":  {func(s *said) { s.body["subject"] = "zoe" }, "group"},
		"who is in no group":    {func(s *said) { s.body["subject"] = "eve" }, "unknown"},
		"nobody":                {func(s *said) { s.body["subject"] = "" }, "malformed"},
		"another code":          {func(s *said) { s.body["code"] = "abce" }, "code"},
		"no reason":             {func(s *said) { s.body["reason"] = " " }, "reason"},
		"another decision":      {func(s *said) { s.body["decision"] = "Approve" }, "malformed"},
		"more than is expected": {func(s *said) { s.body["groups"] = "dba" }, "malformed"},
		"two actions":           {func(s *said) { s.raw = `{"decision":"approve"} {}` }, "malformed"},
		"no JSON":               {func(s *said) { s.raw = "approve" }, "malformed"},
		"nothing":               {func(s *said) { s.raw = " " }, "malformed"},
	} {
		before := len(r.refused)
		s := r.says(c)
		x.change(s)
		if _, text := r.send(s); text != x.why {
			t.Errorf("%s: %q, not %q", name, text, x.why)
		}
		if r.state(c.ID) != "waiting0" || r.state(other.ID) != "waiting0" {
			t.Fatalf("%s: %s %s", name, r.state(c.ID), r.state(other.ID))
		}
		if len(r.refused) != before+1 {
			t.Errorf("%s: it was not told: %v", name, r.refused[before:])
		}
	}
	good := r.says(c)
	if code, text := r.send(good); code != 200 {
		t.Fatal(text)
	}
	if _, text := r.send(good); text != "repeated" {
		t.Error(text)
	}
	for _, line := range r.refused {
		if strings.Contains(line, "/1") || strings.Contains(line, acts) {
			t.Error(line)
		}
	}
}

func body(text string) func(*http.Request) {
	return func(q *http.Request) {
		q.Body, q.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

// TestAP17Links: a link that is fetched, looked at beforehand or sent as a form
// decides nothing, whatever it carries.
func TestAP17Links(t *testing.T) {
	r := newRoom(t)
	c := r.ask()
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"} {
		s := r.says(c)
		s.method = method
		if code, _ := r.send(s); code != http.StatusMethodNotAllowed || r.state(c.ID) != "waiting0" {
			t.Errorf("%s: %d %s", method, code, r.state(c.ID))
		}
	}
	resp, err := http.PostForm(r.url+"/v1/approvals/"+c.ID+"/actions", map[string][]string{"decision": {"approve"}, "code": {c.Code}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || r.state(c.ID) != "waiting0" {
		t.Error(resp.Status, r.state(c.ID))
	}
	s := r.says(c)
	s.header["Authorization"] = []string{"Bearer tg_own"}
	s.after = func(q *http.Request) { q.Header.Del("webhook-signature") }
	if code, text := r.send(s); code != 200 || text != "own "+c.ID {
		t.Error(code, text)
	}
}

// TestAP20ActionAgain: what could not be written down does not count, and may be
// sent again as it is.
func TestAP20ActionAgain(t *testing.T) {
	r := newRoom(t)
	c := r.ask()
	s := r.says(c)
	r.log.full.Store(true)
	if _, text := r.send(s); text != "failed" || r.state(c.ID) != "waiting0" {
		t.Fatal(text, r.state(c.ID))
	}
	r.log.full.Store(false)
	if code, text := r.send(s); code != 200 || r.state(c.ID) != "approved1" {
		t.Fatal(text, r.state(c.ID))
	}
}

// TestAP19Restart: a message that was here before a restart is not taken again
// after it, for whatever it is about; what came to nothing is.
func TestAP19Restart(t *testing.T) {
	r := newRoom(t)
	c := r.ask()
	taken, early := r.says(c), r.says(c)
	early.body["subject"] = "zoe" // who is not logged in yet
	if _, text := r.send(early); text != "group" {
		t.Fatal(text)
	}
	if code, text := r.send(taken); code != 200 {
		t.Fatal(text)
	}
	c = r.ask()
	lost := r.says(c)
	r.log.full.Store(true)
	if _, text := r.send(lost); text != "failed" {
		t.Fatal(text)
	}
	r.log.full.Store(false)
	r.end()
	r.begin()
	for name, s := range map[string]*said{"as it was": taken, "refused before": early} {
		if _, text := r.send(s); text != "repeated" {
			t.Errorf("%s: %q", name, text)
		}
	}
	c = r.ask()
	other := r.says(c)
	other.message = taken.message
	if _, text := r.send(other); text != "repeated" || r.state(c.ID) != "waiting0" {
		t.Error(text, r.state(c.ID))
	}
	if _, text := r.send(lost); text != "over" { // withdrawn by the restart
		t.Error(text)
	}
	// Where the store cannot say whether it has been here, it does not count.
	last := r.says(c)
	if err := r.service.Store.(*store.Store).Close(); err != nil {
		t.Fatal(err)
	}
	if _, text := r.send(last); text != "failed" {
		t.Error(text)
	}
}
