package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

type log struct{}

func (log) Append(context.Context, []byte, bool) error { return nil }
func (log) TryAppend([]byte, time.Time) bool           { return false }

const (
	secret = "whsec_bm90IGEgc2VjcmV0OiBpdCBpcyBpbiBhIHRlc3Q="
	idp    = "https://idp.example"
)

// TestReceiver: a request comes into the chat as it is, what somebody says there
// is counted by the real service, and the chat is told what came of it.
func TestReceiver(t *testing.T) {
	rows, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	chat := make(chan string, 100)
	key, err := parseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	receiver := &Receiver{Secret: key, Post: func(text string) { chat <- text }}
	there := httptest.NewServer(receiver)
	defer there.Close()

	hooks := &approval.Webhooks{Failed: func(_, message string, err error) { t.Error(message, err) }}
	hooks.Set([]approval.Webhook{{URL: there.URL, Secret: func(context.Context) (string, error) { return secret, nil }, Issuer: idp}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- hooks.Run(ctx) }()
	defer func() { stop(); <-done }()
	service := &approval.Service{Store: rows, Log: log{}, Notify: hooks.Notify, Groups: func(_ context.Context, issuer, subject string) ([]string, error) {
		if issuer == idp && (subject == "bob" || subject == "ada") {
			return []string{"dba"}, nil
		}
		return nil, errors.New("not logged in")
	}}
	mux := http.NewServeMux()
	mux.Handle("/v1/approvals/{id}/actions", &approval.Actions{Webhooks: hooks, Service: service, Answer: func(w http.ResponseWriter, c *approval.Card, err error) {
		if e := (*approval.Error)(nil); errors.As(err, &e) {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": e.Message, "hint": e.Hint})
			return
		}
		_ = json.NewEncoder(w).Encode(c)
	}})
	gateway := httptest.NewServer(mux)
	defer gateway.Close()
	receiver.Gateway = gateway.URL

	for _, x := range []struct{ id, who, decision, code, want string }{
		{"r1", "bob", "approve", "c0de", "approved"},
		{"r2", "bob", "deny", "c0de", "denied"},
		{"r3", "ada", "approve", "c0de", "it is your own request"},
		{"r4", "eve", "approve", "c0de", "whether eve may decide cannot be confirmed"},
		{"r5", "bob", "approve", "zzzz", "the code is not that of the card"},
	} {
		id, counts := x.id, x.want == "approved" || x.want == "denied"
		q := &gate.Request{ID: id, Code: "c0de", Session: &abi.Session{ID: "s", Issuer: idp, Subject: "ada", Task: "fix", Resource: "shop"}, Since: time.Now(), Until: time.Now().Add(time.Hour), Text: "delete from orders\nwhere id = $1 -- \u202e", Params: []string{"'7'"},
			Operations: []string{"delete public.orders"}, Needs: []gate.Need{{Guard: "tasks", Requirement: abi.Requirement{Groups: []string{"dba"}, People: 1}}}, Rows: abi.Rows{Estimated: 3, Counted: 1}, Binding: [32]byte{1}}
		if err := service.Ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		asked := <-chat
		for _, want := range []string{"asked " + id + ": ada for fix on shop\n  needs 1 of dba until ", "\n  delete from orders\n  where id = $1 -- <U+202E>\n", "$1 = '7'", "does delete public.orders", "rows: about 3 (", "rows: 1 when", "careful: it has U+202E", "code c0de"} {
			if !strings.Contains(asked, want) {
				t.Errorf("%q is missing in\n%s", want, asked)
			}
		}
		answer, err := receiver.Act(t.Context(), x.who, x.decision, id, x.code, "looks right")
		if err != nil {
			answer = err.Error()
		}
		if !strings.HasPrefix(answer, x.want) {
			t.Errorf("%+v: %s", x, answer)
		}
		if counts {
			if told := <-chat; !strings.HasPrefix(told, x.decision+" "+id+": ada for fix on shop\n  bob: looks right") {
				t.Errorf("%q", told)
			}
		}
		if err := service.Withdraw(t.Context(), id, "the test is over"); err != nil {
			t.Fatal(err)
		}
		if x.want != "denied" {
			if told := <-chat; !strings.HasPrefix(told, "withdrawn "+id) {
				t.Errorf("%q", told)
			}
		}
		if _, err := receiver.Act(t.Context(), x.who, x.decision, id, x.code, "again"); err == nil {
			t.Error("what is over was sent")
		}
	}
}

// TestReceiverRefuses: what is not signed, or not now, is not shown.
func TestReceiverRefuses(t *testing.T) {
	r := &Receiver{Secret: []byte("a secret of 24 bytes and more"), Post: func(text string) { t.Error(text) }}
	body := []byte(`{"type":"approval.asked","data":{"id":"x"}}`)
	for name, set := range map[string]func(h http.Header){
		"nothing":    func(h http.Header) { h.Del("webhook-signature") },
		"another id": func(h http.Header) { h.Set("webhook-id", "b") },
		"an old one": func(h http.Header) {
			h.Set("webhook-timestamp", "1700000000")
			h.Set("webhook-signature", r.sign("a", "1700000000", body))
		},
		"no time": func(h http.Header) {
			h.Set("webhook-timestamp", "now")
			h.Set("webhook-signature", r.sign("a", "now", body))
		},
		"another's": func(h http.Header) { h.Set("webhook-signature", "v1,AAAA") },
	} {
		req := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		at := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("webhook-id", "a")
		req.Header.Set("webhook-timestamp", at)
		req.Header.Set("webhook-signature", r.sign("a", at, body))
		set(req.Header)
		w := httptest.NewRecorder()
		if r.ServeHTTP(w, req); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}
