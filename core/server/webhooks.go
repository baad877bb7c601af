package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/config"
)

// webhooks gives those of the configuration.
func webhooks(c *config.Config) (list []approval.Webhook) {
	for _, h := range c.Approvals.Webhooks {
		list = append(list, approval.Webhook{URL: h.URL, Issuer: h.Actions, Secret: func(context.Context) (string, error) { return h.Secret.Resolve() }})
	}
	return list
}

// webhookChanges says in words whether the webhooks differ.
func webhookChanges(old, new *config.Config) []string {
	if fmt.Sprintf("%q", old.Approvals) == fmt.Sprintf("%q", new.Approvals) {
		return nil
	}
	return []string{"webhooks changed"}
}

func (s *Server) webhookFailed(hook, message string, err error) {
	s.Log.Warn().Str("webhook", hook).Str("message", message).Err(err).Msg("a webhook does not take a message")
}

// actions takes what people said elsewhere. What was signed and does not count
// is in the audit log; what was not, only in the log of who runs the gateway.
func (s *Server) actions() http.Handler {
	return &approval.Actions{Webhooks: s.hooks, Service: s.approvals, Own: s.controlled(s.decideApproval), Now: s.clock,
		Refused: func(r *http.Request, hook, id, subject string, err error) {
			var why error
			if e := (*approval.Error)(nil); errors.As(err, &e) {
				why = e.Err
			}
			s.Log.Warn().Str("webhook", hook).Str("request", clean(id)).Str("subject", clean(subject)).Str("from", host(r)).AnErr("why", why).Msg("a signed action does not count: " + clean(err.Error()))
			if hook == "" {
				return
			}
			if err := s.note("webhook "+hook, fmt.Sprintf("action for %q on request %q does not count: %v", subject, id, err)); err != nil {
				s.Log.Error().Err(err).Msg("audit")
			}
		},
		Answer: func(w http.ResponseWriter, c *approval.Card, err error) {
			if err != nil {
				s.notDecided(w, err)
				return
			}
			reply(w, http.StatusOK, c)
		}}
}
