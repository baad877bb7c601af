package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/protocol/ssh"
)

// metrics are what the gateway counts. None is labelled with a person, a task,
// a resource or an address: whoever reaches the API may read them.
type metrics struct {
	registry *prometheus.Registry
	guard    *prometheus.HistogramVec
	sync     prometheus.Histogram
	reloads  *prometheus.CounterVec
	upstream *prometheus.CounterVec
	ends     *prometheus.CounterVec
	sshEnds  *prometheus.CounterVec
	crowded  prometheus.Counter
	panics   prometheus.Counter
}

// newMetrics makes those of this server; what the gate has counted is read when
// somebody asks.
func (s *Server) newMetrics() *metrics {
	const ns = "taskgate"
	m := &metrics{registry: prometheus.NewRegistry(),
		guard: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Name: "guard_seconds", Help: "How long a guard took to judge a command; a verdict that is remembered is not asked for.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10)}, []string{"guard", "outcome"}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "audit_sync_seconds", Help: "How long the disk took to have the audit log.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 10)}),
		reloads:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "reloads_total", Help: "Reloads, done and refused."}, []string{"outcome"}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "upstream_errors_total", Help: "Resources that could not be reached or read: by a session, for a look at the schema, for a cancel."}, []string{"what"}),
		ends:     prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "postgres_ends_total", Help: "Connections of PostgreSQL's clients that have ended, by reason."}, []string{"reason"}),
		sshEnds:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "ssh_ends_total", Help: "Connections of SSH's clients that have ended, by reason."}, []string{"reason"}),
		crowded:  prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "api_crowded_total", Help: "Connections to the API that were one of too many."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "panics_total", Help: "Faults of the gateway itself, each of which ended one connection or request."})}
	for _, outcome := range []string{"done", "refused"} {
		m.reloads.WithLabelValues(outcome)
	}
	for _, what := range []string{"session", "schema", "cancel"} {
		m.upstream.WithLabelValues(what)
	}
	for _, reason := range postgres.Reasons {
		m.ends.WithLabelValues(reason)
	}
	for _, reason := range ssh.Reasons {
		m.sshEnds.WithLabelValues(reason)
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.guard, m.sync, m.reloads, m.upstream, m.ends, m.sshEnds, m.crowded, m.panics)
	count := func(name, help string, labels prometheus.Labels, f func(gate.Counts) uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(f(s.gate.Counts())) }))
	}
	const commands = "Commands that were judged, by verdict; review is held."
	count("commands_total", commands, prometheus.Labels{"verdict": "allow"}, func(c gate.Counts) uint64 { return c.Commands - c.Denied - c.Held })
	count("commands_total", commands, prometheus.Labels{"verdict": "deny"}, func(c gate.Counts) uint64 { return c.Denied })
	count("commands_total", commands, prometheus.Labels{"verdict": "review"}, func(c gate.Counts) uint64 { return c.Held })
	const logins = "Logins to a task."
	count("logins_total", logins, prometheus.Labels{"outcome": "opened"}, func(c gate.Counts) uint64 { return c.Opened })
	count("logins_total", logins, prometheus.Labels{"outcome": "refused"}, func(c gate.Counts) uint64 { return c.LoginsRefused })
	for _, state := range []gate.RequestState{gate.Used, gate.Refused, gate.Expired, gate.Withdrawn} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: ns, Name: "approvals_total", Help: "Requests for approval that came to an end, by outcome.",
			ConstLabels: prometheus.Labels{"outcome": string(state)}}, func() float64 { return float64(s.approvals.Counts().Ended[state]) }))
	}
	messages := func(outcome string, of func(sent, lost uint64) uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: ns, Name: "webhook_messages_total", Help: "Messages to webhooks that arrived, and that were given up.", ConstLabels: prometheus.Labels{"outcome": outcome}}, func() float64 { return float64(of(s.hooks.Counts())) }))
	}
	messages("sent", func(sent, _ uint64) uint64 { return sent })
	messages("lost", func(_, lost uint64) uint64 { return lost })
	for outcome, of := range map[string]func(postgres.Probes) uint64{"agreed": func(p postgres.Probes) uint64 { return p.Agreed }, "disagreed": func(p postgres.Probes) uint64 { return p.Disagreed },
		"failed": func(p postgres.Probes) uint64 { return p.Failed }, "left": func(p postgres.Probes) uint64 { return p.Left }} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: ns, Name: "probes_total", Help: "Statements whose server was asked what they read (probe: on), by outcome; left were not asked about.",
			ConstLabels: prometheus.Labels{"outcome": outcome}}, func() float64 { return float64(of(s.pg.Probes())) }))
	}
	show := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help}, f))
	}
	show("sessions", "Open sessions.", func() float64 { return float64(len(s.gate.Sessions())) })
	for _, protocol := range []string{"postgres", "ssh"} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Name: "protocol_sessions", Help: "Open sessions, by protocol.", ConstLabels: prometheus.Labels{"protocol": protocol}}, func() (n float64) {
			for _, x := range s.gate.Sessions() {
				if x.About().Protocol == protocol {
					n++
				}
			}
			return n
		}))
	}
	show("approvals_waiting", "Commands that wait for people.", func() float64 { return float64(s.approvals.Counts().Waiting) })
	show("generation", "The generation that judges.", func() float64 { return float64(s.gate.Current().Number) })
	show("ready", "1 where /readyz says so.", func() float64 {
		if s.unready() != nil {
			return 0
		}
		return 1
	})
	show("certificate_expires_seconds", "When the first certificate of a listener is over, in Unix time; 0 without any.", func() float64 {
		var first time.Time
		for _, l := range s.Listeners() {
			if l.Expires != nil && (first.IsZero() || l.Expires.Before(first)) {
				first = *l.Expires
			}
		}
		if first.IsZero() {
			return 0
		}
		return float64(first.Unix())
	})
	return m
}
