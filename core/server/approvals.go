package server

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/gate"
)

// Requests is a list of requests for approval. Seq is what the next watch goes
// on after.
type Requests struct {
	Seq      uint64           `json:"seq,omitempty"`
	Requests []approval.Brief `json:"requests"`
}

// Decision is what a person says to a request.
type Decision struct {
	Decision string `json:"decision"` // approve or deny
	Reason   string `json:"reason"`
	Code     string `json:"code"` // that the card shows
}

//go:embed openapi.yaml
var openAPI []byte

// approving makes what hears people decide.
func (s *Server) approving(log gate.Log, store approval.Store) *approval.Service {
	return &approval.Service{Store: store, Log: log, Now: s.clock, Groups: s.logins.Groups, Directory: s.logins.Directory, Notify: s.hooks.Notify}
}

// ran notes how a command that was held has ended. The log has it already.
func (s *Server) ran(request string, command uint64, how gate.State) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := s.approvals.Ran(ctx, request, command, how.String()); err != nil {
		s.Log.Warn().Str("request", request).Uint64("command", command).Str("outcome", how.String()).Err(err).Msg("approval")
	}
}

// approvalRoutes adds what only a control token opens.
func (s *Server) approvalRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/approvals", s.controlled(s.listApprovals))
	mux.HandleFunc("GET /v1/approvals/watch", s.controlled(s.watchApprovals))
	mux.HandleFunc("GET /v1/approvals/{id}", s.controlled(s.showApproval))
	mux.HandleFunc("POST /v1/approvals/{id}", s.controlled(s.decideApproval))
	mux.Handle("/v1/approvals/{id}/actions", s.actions())
	mux.HandleFunc("GET /v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI)
	})
}

// controlled lets in who has a control token, as the person that it is of.
func (s *Server) controlled(f func(http.ResponseWriter, *http.Request, approval.Person)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, l, ok := s.bearer(w, r)
		if !ok {
			return
		}
		if t.Audience != auth.Control {
			failHint(w, http.StatusForbidden, "this token does not decide: that needs a fresh login for it", `POST /v1/login with {"for": "control"}, as taskgate approvals does`)
			return
		}
		all := s.logins.Has(l.Issuer, "approver", l.Groups) || s.logins.Has(l.Issuer, "auditor", l.Groups)
		f(w, r, approval.Person{Issuer: l.Issuer, Subject: l.Subject, Groups: l.Groups, All: all})
	}
}

func (s *Server) listApprovals(w http.ResponseWriter, r *http.Request, who approval.Person) {
	state := r.URL.Query().Get("state")
	if state != "" && state != "waiting" && state != "all" {
		failHint(w, http.StatusBadRequest, fmt.Sprintf("state: %q", state), "waiting or all")
		return
	}
	list, err := s.approvals.List(r.Context(), who, state == "all")
	if err != nil {
		s.notDecided(w, err)
		return
	}
	reply(w, http.StatusOK, Requests{Requests: list})
}

func (s *Server) watchApprovals(w http.ResponseWriter, r *http.Request, who approval.Person) {
	var after uint64
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			failHint(w, http.StatusBadRequest, fmt.Sprintf("after: %q", text), "the seq of an earlier answer, or 0")
			return
		}
	}
	if s.watching.Add(1) > maxWatching {
		s.watching.Add(-1)
		fail(w, http.StatusTooManyRequests, "too many are watching: try again later")
		return
	}
	defer s.watching.Add(-1)
	ctx, cancel := context.WithTimeout(r.Context(), waitAtMost)
	defer cancel()
	seq, changed := s.approvals.Watch(ctx, who, after)
	reply(w, http.StatusOK, Requests{seq, changed})
}

func (s *Server) showApproval(w http.ResponseWriter, r *http.Request, who approval.Person) {
	c, err := s.approvals.Card(r.Context(), r.PathValue("id"), who)
	if err != nil {
		s.notDecided(w, err)
		return
	}
	reply(w, http.StatusOK, c)
}

func (s *Server) decideApproval(w http.ResponseWriter, r *http.Request, who approval.Person) {
	var in Decision
	if !take(w, r, &in) {
		return
	}
	if in.Decision != "approve" && in.Decision != "deny" {
		failHint(w, http.StatusBadRequest, fmt.Sprintf("decision: %q", in.Decision), "approve or deny")
		return
	}
	c, err := s.approvals.Decide(r.Context(), r.PathValue("id"), who, in.Decision == "approve", in.Reason, in.Code)
	if err != nil {
		s.notDecided(w, err)
		return
	}
	reply(w, http.StatusOK, c)
}

// notDecided says why a decision, or a look at a request, was not to be had.
func (s *Server) notDecided(w http.ResponseWriter, err error) {
	e := new(approval.Error)
	if !errors.As(err, &e) {
		e = &approval.Error{Kind: approval.Failed, Message: "the requests cannot be had now", Err: err}
	}
	status := http.StatusServiceUnavailable
	switch e.Kind {
	case approval.Unknown:
		status = http.StatusNotFound
	case approval.Unsigned:
		status = http.StatusUnauthorized
	case approval.Over, approval.Twice, approval.Repeated, approval.Other:
		status = http.StatusConflict
	case approval.Self, approval.Group:
		status = http.StatusForbidden
	case approval.Code, approval.Reason, approval.Malformed:
		status = http.StatusBadRequest
	default:
		s.Log.Error().AnErr("why", e.Err).Msg("approval: " + e.Message)
	}
	failHint(w, status, e.Message, e.Hint)
}

func failHint(w http.ResponseWriter, status int, why, hint string) {
	said := map[string]string{"error": why}
	if hint != "" {
		said["hint"] = hint
	}
	reply(w, status, said)
}
