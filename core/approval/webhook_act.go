package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxAction = 64 << 10 // bytes of a signed action
	maxActed  = 10000    // signed actions within the time that their ids are kept
)

// Why a signed action does not count.
const (
	Unsigned  Kind = "unsigned"  // not by a webhook that may act, or not now
	Malformed Kind = "malformed" // not what is expected
	Repeated  Kind = "repeated"  // it has been here before
	Other     Kind = "other"     // it is about something else than the request has
)

// Actions takes what people said elsewhere, for POST /v1/approvals/{id}/actions:
// by their own control token, or signed by a webhook that may act for the people
// of one issuer. Everything else is refused.
type Actions struct {
	Webhooks *Webhooks
	Service  *Service
	Own      http.Handler // takes POST /v1/approvals/{id}, with a control token
	Now      func() time.Time
	// Refused is told of a signed action that did not count, and why.
	Refused func(r *http.Request, hook, id, subject string, err error)
	// Answer writes an answer: a card, or why there is none.
	Answer func(w http.ResponseWriter, c *Card, err error)
}

// action is what a signed action says.
type action struct {
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	Code     string `json:"code"`
	Subject  string `json:"subject"` // at the webhook's issuer
	Binding  string `json:"binding"` // what the card had that was looked at
}

// ServeHTTP implements http.Handler.
func (a *Actions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost { // a link that is fetched does nothing
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	signature, own := r.Header.Get(headerSignature) != "", r.Header.Get("Authorization") != ""
	if own && !signature {
		a.Own.ServeHTTP(w, r)
		return
	}
	var said action
	c, hook, err := a.act(r, own, &said)
	if err != nil && a.Refused != nil {
		a.Refused(r, hook, r.PathValue("id"), said.Subject, err)
	}
	a.Answer(w, c, err)
}

// act counts a signed action, or says why it does not.
func (a *Actions) act(r *http.Request, own bool, said *action) (*Card, string, error) {
	if own { // whose word would it be?
		return nil, "", &Error{Kind: Unsigned, Message: "an action is either signed or carries a control token"}
	}
	at, ok := sound(r.Header)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAction+1))
	if err != nil || !ok || len(body) > maxAction {
		return nil, "", &Error{Kind: Unsigned, Message: errUnsigned.Error(), Hint: "headers webhook-id, webhook-timestamp and webhook-signature, once each, over a body of 64 KB at most", Err: err}
	}
	hook, err := a.Webhooks.signer(r.Context(), r.Header, body)
	if err != nil {
		return nil, "", &Error{Kind: Unsigned, Message: errUnsigned.Error(), Err: err}
	}
	now := time.Now()
	if a.Now != nil {
		now = a.Now()
	}
	if old := now.Sub(at); old > maxAge || old < -maxAge {
		return nil, hook.Name(), &Error{Kind: Unsigned, Message: errOld.Error(), Hint: "are both clocks right?"}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(said); err != nil || d.Decode(&struct{}{}) != io.EOF {
		return nil, hook.Name(), &Error{Kind: Malformed, Message: "the action is not the JSON that is expected", Hint: `{"decision": "approve", "reason": "…", "code": "…", "subject": "…", "binding": "…"}`, Err: err}
	}
	approve := said.Decision == "approve"
	switch {
	case !approve && said.Decision != "deny":
		return nil, hook.Name(), &Error{Kind: Malformed, Message: fmt.Sprintf("decision: approve or deny is expected, not %q", said.Decision)}
	case said.Subject == "" || said.Binding == "":
		return nil, hook.Name(), &Error{Kind: Malformed, Message: "subject and binding are expected: who says it, and of what"}
	}
	message := hook.Issuer + " " + r.Header.Get(headerID)
	if err := a.once(r.Context(), message, now, at); err != nil {
		return nil, hook.Name(), err
	}
	c, err := a.count(r.Context(), r.PathValue("id"), hook, said, approve)
	if e := (*Error)(nil); errors.As(err, &e) && e.Kind == Failed { // it may be sent again
		ctx, stop := context.WithTimeout(context.WithoutCancel(r.Context()), patience)
		defer stop()
		_ = a.Service.Store.Unact(ctx, message) // and where the store fails too, under another id
	}
	return c, hook.Name(), err
}

// count has the person's word counted, if they are somebody now and the request
// is what they looked at.
func (a *Actions) count(ctx context.Context, id string, hook *Webhook, said *action, approve bool) (*Card, error) {
	groups, err := a.Service.Groups(ctx, hook.Issuer, said.Subject)
	if err != nil {
		return nil, &Error{Kind: Group, Message: "whether " + Visible(said.Subject) + " may decide cannot be confirmed", Hint: "they have to be logged in: `taskgate login`", Err: err}
	}
	who := Person{Issuer: hook.Issuer, Subject: said.Subject, Groups: groups}
	c, err := a.Service.Card(ctx, id, who)
	if err != nil {
		return nil, err
	}
	if c.Binding != said.Binding {
		return nil, &Error{Kind: Other, Message: "that is about something else than this request has: its binding is another", Hint: "send the binding of the card that was looked at"}
	}
	return a.Service.Decide(ctx, id, who, approve, said.Reason, said.Code)
}

// signer gives the webhook that has signed a message and may act.
func (w *Webhooks) signer(ctx context.Context, header http.Header, body []byte) (*Webhook, error) {
	w.mu.Lock()
	hooks := w.hooks
	w.mu.Unlock()
	var found *Webhook
	var faults []error
	for _, h := range hooks {
		hook := h.webhook()
		if hook.Issuer == "" {
			continue
		}
		secret, err := hook.key(ctx)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", hook.Name(), err))
			continue
		}
		if !signed(secret, header, body) {
			continue
		}
		if found != nil && found.Issuer != hook.Issuer {
			return nil, errors.New("two webhooks with one secret act for two issuers")
		}
		found = &hook
	}
	if found == nil {
		return nil, errors.Join(append(faults, errUnsigned)...)
	}
	return found, nil
}

// once says whether a message is here for the first time. Ids are in the store,
// so that no restart forgets them, for longer than a timestamp can be taken for
// one of now.
func (a *Actions) once(ctx context.Context, message string, now, at time.Time) error {
	switch err := a.Service.Store.Act(ctx, message, now, at.Add(2*maxAge), maxActed); {
	case err == nil:
		return nil
	case errors.Is(err, ErrTwice):
		return &Error{Kind: Repeated, Message: errRepeated.Error()}
	case errors.Is(err, ErrMany):
		return &Error{Kind: Failed, Message: "too many actions came within ten minutes", Hint: "send it again later"}
	default:
		return &Error{Kind: Failed, Message: "whether it has been here before cannot be found out", Hint: "send it again later, and tell the operator", Err: err}
	}
}
