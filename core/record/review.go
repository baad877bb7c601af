package record

import (
	"fmt"
	"strings"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/count"
)

// Review is a request for approval, as a recording has it: who approved which
// digest for which reason, whether it was used, and what became of that.
type Review struct {
	ID      string       `json:"id"`
	State   string       `json:"state"` // waiting, where the recording has no end of it
	Binding string       `json:"binding"`
	Needs   []string     `json:"needs,omitempty"`
	Voices  []gate.Voice `json:"voices,omitempty"`  // of a request that was used
	Command uint64       `json:"command,omitempty"` // that used it
	Outcome string       `json:"outcome,omitempty"` // of that command
	Why     string       `json:"why,omitempty"`     // it was not used
}

// review gives the review of an event.
func (s *Summary) review(e *gate.Event) *Review {
	for _, r := range s.Reviews {
		if r.ID == e.Request {
			return r
		}
	}
	r := &Review{ID: e.Request, State: string(gate.Waiting), Binding: e.Binding}
	s.Reviews = append(s.Reviews, r)
	return r
}

// asked, used and settled follow a request through a recording.
func (s *Summary) asked(e *gate.Event) {
	r := s.review(e)
	r.Needs, r.Binding = e.Needs, e.Binding
}

func (s *Summary) used(e *gate.Event) {
	if e.Request == "" {
		return
	}
	r := s.review(e)
	r.State, r.Voices, r.Command, r.Binding = string(gate.Used), e.Voices, e.Command, e.Binding
}

// settled: what was asked for did not run, as if it had been refused at once.
func (s *Summary) settled(e *gate.Event) {
	r := s.review(e)
	r.State, r.Why = e.State, e.Why
	s.Commands++
	s.Denied++
	s.Outcomes[Refused]++
}

func (p *player) request(at string, e *gate.Event) {
	p.printf("%s  request %s of %s, needs %s, until %s", at, Escape(e.Request), Escape(e.Guard), Escape(strings.Join(e.Needs, " and ")), Escape(e.Until))
	p.text(e.Digest)
	p.params(e)
	for _, v := range e.Verdicts {
		if v.Decision == "review" {
			p.verdict(&v)
		}
	}
	var facts []string
	if e.Estimated != nil {
		facts = append(facts, "about "+count.Of(*e.Estimated, "row")+" by the planner")
	}
	if e.Counted != nil {
		facts = append(facts, count.Of(*e.Counted, "row")+" counted")
	}
	if e.Payload != nil {
		facts = append(facts, fmt.Sprintf("payload of %s, sha256 %s", count.Of(e.Payload.Size, "byte"), e.Payload.Digest))
	}
	for _, f := range append(facts, "bound to sha256 "+e.Binding) {
		p.printf("%s%s\n", indent, Escape(f))
	}
}

// voices prints what people said to a request.
func (p *player) voices(list []gate.Voice) {
	for i := range list {
		v := &list[i]
		word := "denied"
		if v.Approve {
			word = "approved"
		}
		p.printf("%s%s by %s (%s) at %s", indent, word, Escape(v.Subject), Escape(v.Issuer), v.At.Format("2006-01-02T15:04:05Z07:00"))
		if v.Reason != "" {
			p.printf(": %s", Escape(v.Reason))
		}
		p.printf("\n")
		if len(v.Groups) > 0 {
			p.printf("%s  as %s\n", indent, Escape(strings.Join(v.Groups, ", ")))
		}
	}
}

func (p *player) settled(at string, e *gate.Event) {
	p.printf("%s  request %s %s, nothing ran", at, Escape(e.Request), Escape(e.State))
	if e.Why != "" {
		p.printf(": %s", Escape(e.Why))
	}
	p.printf("\n")
}

// spent says what became of what was approved.
func (p *player) spent(e *gate.Event) {
	for i := range e.Masked {
		m := &e.Masked[i]
		p.printf("%smasked %s by %s, %s\n", indent, Escape(m.Column), Escape(m.Rule), count.Of(m.Cells, "cell"))
	}
	if c := p.sum.ends[e.Command]; e.Request != "" && c != nil {
		p.printf("%srequest %s was used, and what it approved was %s\n", indent, Escape(e.Request), fate(c.outcome))
	}
	for _, r := range p.sum.Reviews {
		if c := p.sum.ends[r.Command]; c != nil && e.First != 0 && e.First <= r.Command && r.Command <= e.Last && r.Command != e.Command {
			p.printf("%srequest %s: what it approved was %s\n", indent, Escape(r.ID), fate(c.outcome))
		}
	}
}

// fate fits an outcome into a sentence.
func fate(outcome string) string {
	switch outcome {
	case Failed:
		return "tried, and failed"
	case Unknown:
		return "begun, and nobody knows how it ended"
	}
	return outcome
}
