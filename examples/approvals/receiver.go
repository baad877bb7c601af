package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Receiver takes the gateway's messages and sends signed actions back.
type Receiver struct {
	Secret  []byte
	Gateway string
	Post    func(text string) // into the chat

	mu       sync.Mutex
	seen     map[string]time.Time // messages: one may come twice
	bindings map[string]string    // of the requests that were shown, by id
}

// card is what of a request is shown.
type card struct {
	ID, State, Code, Subject, Issuer, Task, Resource, Text, Canonical, Binding, Why, Outcome string

	Until              time.Time
	Params, Operations []string
	Strange, Earlier   []string
	Estimated          *int64 `json:"estimated_rows"`
	Counted            *int64 `json:"counted_rows"`
	Payload            *struct {
		Size   uint64
		Digest string `json:"sha256"`
		Head   string
		Whole  bool
		Unseen bool
	}
	Needs []struct {
		Groups       []string
		People, Have int
	}
	Voices []struct {
		Subject, Reason string
		Approve         bool
	}
}

const fresh = 5 * time.Minute

// ServeHTTP takes one message (standardwebhooks.com).
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 32<<20))
	if err != nil || req.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	id, at := req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp")
	sec, err := strconv.ParseInt(at, 10, 64)
	age := time.Since(time.Unix(sec, 0))
	if err != nil || age > fresh || age < -fresh || !r.signed(req.Header.Get("webhook-signature"), id, at, body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var m struct {
		Type string
		Data card
	}
	if err := json.Unmarshal(body, &m); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if r.first(id, &m.Data) {
		r.Post(show(m.Type, &m.Data))
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Receiver) sign(id, at string, body []byte) string {
	h := hmac.New(sha256.New, r.Secret)
	fmt.Fprintf(h, "%s.%s.%s", id, at, body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func (r *Receiver) signed(header, id, at string, body []byte) bool {
	want, ok := []byte(r.sign(id, at, body)), false
	for _, s := range strings.Fields(header) {
		ok = hmac.Equal([]byte(s), want) || ok
	}
	return ok
}

// first says whether a message is here for the first time, and remembers what
// its request is bound to.
func (r *Receiver) first(id string, c *card) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen, r.bindings = map[string]time.Time{}, map[string]string{}
	}
	for old, at := range r.seen {
		if time.Since(at) > 2*fresh {
			delete(r.seen, old)
		}
	}
	_, again := r.seen[id]
	r.seen[id] = time.Now()
	r.bindings[c.ID] = c.Binding
	if c.State != "waiting" {
		delete(r.bindings, c.ID)
	}
	return !again
}

// Act sends what somebody has said of a request that was shown. The gateway
// refuses whatever does not count, and says why.
func (r *Receiver) Act(ctx context.Context, subject, decision, id, code, reason string) (string, error) {
	r.mu.Lock()
	binding := r.bindings[id]
	r.mu.Unlock()
	if binding == "" {
		return "", errors.New("no such request waits")
	}
	body, err := json.Marshal(map[string]string{"decision": decision, "reason": reason, "code": code, "subject": subject, "binding": binding})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Gateway+"/v1/approvals/"+id+"/actions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	var random [12]byte
	_, _ = rand.Read(random[:])
	message, at := "act_"+base64.RawURLEncoding.EncodeToString(random[:]), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", message)
	req.Header.Set("webhook-timestamp", at)
	req.Header.Set("webhook-signature", r.sign(message, at, body))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct{ State, Error, Hint string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 32<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("the gateway answers %s", resp.Status)
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSuffix(answer.Error+" ("+answer.Hint+")", " ()"))
	}
	return answer.State, nil
}

// show is a message as a chat shows it. All of a text is there: what does not
// fit has to be looked at elsewhere, and not approved here.
func show(kind string, c *card) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s for %s on %s", strings.TrimPrefix(kind, "approval."), c.ID, plain(c.Subject), plain(c.Task), plain(c.Resource))
	if kind != "approval.asked" {
		for _, v := range c.Voices {
			fmt.Fprintf(&b, "\n  %s: %s", plain(v.Subject), plain(v.Reason))
		}
		for _, s := range []string{c.Why, c.Outcome} {
			if s != "" {
				fmt.Fprintf(&b, "\n  %s", plain(s))
			}
		}
		return b.String()
	}
	for _, n := range c.Needs {
		fmt.Fprintf(&b, "\n  needs %d of %s", n.People, plain(strings.Join(n.Groups, " or ")))
	}
	fmt.Fprintf(&b, " until %s\n  %s", c.Until.Format(time.RFC3339), plain(c.Text))
	if c.Canonical != c.Text {
		fmt.Fprintf(&b, "\n  runs as %s", plain(c.Canonical))
	}
	if len(c.Strange) > 0 {
		fmt.Fprintf(&b, "\n  careful: it has %s", strings.Join(c.Strange, ", "))
	}
	for i, p := range c.Params {
		fmt.Fprintf(&b, "\n  $%d = %s", i+1, plain(p))
	}
	for _, o := range c.Operations {
		fmt.Fprintf(&b, "\n  does %s", plain(o))
	}
	for _, e := range c.Earlier {
		fmt.Fprintf(&b, "\n  after %s", plain(e))
	}
	if c.Estimated != nil {
		fmt.Fprintf(&b, "\n  rows: about %d (an estimate)", *c.Estimated)
	}
	if c.Counted != nil {
		fmt.Fprintf(&b, "\n  rows: %d when it was asked", *c.Counted)
	}
	if p := c.Payload; p != nil && p.Unseen {
		b.WriteString("\n  nobody can see what will be sent into it")
	} else if p != nil {
		fmt.Fprintf(&b, "\n  %d bytes, sha256 %s: %s", p.Size, p.Digest, plain(p.Head))
		if !p.Whole {
			b.WriteString(" (and more)")
		}
	}
	fmt.Fprintf(&b, "\n  code %s", c.Code)
	return b.String()
}

// plain names every character that is not seen as itself.
func plain(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsPrint(c) && !unicode.In(c, unicode.Bidi_Control, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			b.WriteRune(c)
		} else if c == '\n' {
			b.WriteString("\n  ")
		} else {
			fmt.Fprintf(&b, "<%U>", c)
		}
	}
	return b.String()
}

func parseSecret(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), "whsec_"))
	if err != nil || len(b) < 24 {
		return nil, errors.New("whsec_ and the base64 of 24 bytes or more are expected")
	}
	return b, nil
}
