package record

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// Summary is what a recording tells as a whole.
type Summary struct {
	ID       string        `json:"id"`
	Issuer   string        `json:"issuer,omitempty"`
	Subject  string        `json:"subject"`
	Groups   []string      `json:"groups,omitempty"`
	Task     string        `json:"task"`
	Resource string        `json:"resource"`
	Protocol string        `json:"protocol,omitempty"`
	Address  string        `json:"address,omitempty"`
	Began    time.Time     `json:"began"`
	Ended    time.Time     `json:"ended,omitzero"`
	Commands int           `json:"commands"` // that were executed or refused
	Denied   int           `json:"denied"`
	Outcomes Outcomes      `json:"outcomes"`
	Rows     uint64        `json:"rows"`
	Bytes    uint64        `json:"bytes"`
	Masked   uint64        `json:"masked"`            // cells
	Reviews  []*Review     `json:"reviews,omitempty"` // what people were asked to approve
	Modules  []gate.Module `json:"modules,omitempty"` // that judged it, each digest once
	State    string        `json:"state"`             // ended, or unfinished: it goes on, or its gateway was killed
	Why      string        `json:"why,omitempty"`
	Fault    string        `json:"fault,omitempty"` // why not all of it can be read
	Terminal bool          `json:"terminal,omitempty"`

	ends map[uint64]*end
	size string // of the first terminal
}

// Size is that of a session's first terminal, 80x24 where nothing says so.
func (s *Summary) Size() (cols, rows int) { return sizeOf(s.size) }

// Outcomes counts commands by how they ended.
type Outcomes map[string]int

// The outcomes of a command, as sessions and replay name them. What read is
// completed; what wrote is committed, rolled back, or nobody knows.
const (
	Refused    = "refused"
	Completed  = "completed"
	Committed  = "committed"
	RolledBack = "rolled back"
	Failed     = "failed"
	Skipped    = "skipped"
	Unknown    = "unknown"
)

// end is how one command ended.
type end struct {
	outcome string
	by      uint64 // the command that settled it, 0 where it settled itself
	prepare bool
	writes  bool
}

// Summarize reads a recording as a whole. A torn end is a fault of the summary;
// what is no recording at all is an error.
func Summarize(path string) (*Summary, error) {
	s := &Summary{ID: strings.TrimSuffix(filepath.Base(path), Extension), State: "unfinished", Outcomes: Outcomes{}, ends: map[uint64]*end{}}
	writes := map[string]bool{}
	pending := map[uint64]bool{}
	hosts := newHosts()
	err := Read(path, func(e *gate.Event) error {
		switch e.Kind {
		case gate.EventOpen:
			s.Issuer, s.Subject, s.Groups, s.Task, s.Resource, s.Protocol, s.Address, s.Began = e.Issuer, e.Subject, e.Groups, e.Task, e.Resource, e.Protocol, e.Address, e.Time
			s.judges(e.Modules)
		case gate.EventGeneration:
			s.judges(e.Modules)
		case gate.EventText:
			writes[e.Digest] = e.Writes
			_, hosts.shells[e.Digest] = programs(e.Operations)
		case gate.EventCommand:
			c := &end{outcome: Unknown, prepare: e.Phase == "prepare", writes: writes[e.Digest]}
			if refused(e) {
				c.outcome = Refused
				s.Denied++
			}
			if !c.prepare || c.outcome == Refused {
				s.Commands++
			}
			s.ends[e.Command] = c
			s.used(e)
			s.Terminal = s.Terminal || s.Protocol == protocolSSH && c.outcome != Refused && hosts.shells[e.Digest]
			hosts.streams.end(0)
		case gate.EventResult, gate.EventInput:
			if s.Protocol == protocolSSH {
				s.came(hosts, e)
			}
		case gate.EventRequest:
			s.asked(e)
		case gate.EventSettled:
			s.settled(e)
		case gate.EventDone:
			s.Rows += e.Rows
			s.Bytes += e.Bytes - min(hosts.framing[e.Command], e.Bytes)
			delete(hosts.framing, e.Command)
			hosts.streams.end(e.Command)
			for i := range e.Masked {
				s.Masked += e.Masked[i].Cells
			}
			if c := s.ends[e.Command]; c != nil {
				switch c.outcome = e.State; e.State {
				case "pending":
					c.outcome = Unknown // until it is settled
					pending[e.Command] = true
				case Completed:
					if c.writes && !c.prepare && s.Protocol != protocolSSH { // a host has no transactions
						c.outcome = Committed
					}
				}
			}
			for n := range pending {
				if c := s.ends[n]; n >= e.First && n <= e.Last {
					c.outcome, c.by = e.Settles, e.Command
					delete(pending, n)
				}
			}
		case gate.EventClose:
			s.Ended, s.Why, s.State = e.Time, e.Why, "ended"
		}
		return nil
	})
	for _, c := range s.ends {
		if !c.prepare || c.outcome == Refused {
			s.Outcomes[c.outcome]++
		}
	}
	for _, r := range s.Reviews {
		if c := s.ends[r.Command]; c != nil {
			r.Outcome = c.outcome
		}
	}
	if err != nil {
		if !errors.Is(err, ErrTorn) {
			return nil, err
		}
		s.Fault = ErrTorn.Error()
	}
	return s, nil
}

// came looks for terminals, and for what of the bytes is not the answer's own.
func (s *Summary) came(h *hosts, e *gate.Event) {
	n := h.streams.each(e, func(kind byte, b []byte) {
		if kind == frameResize {
			if s.Terminal = true; s.size == "" {
				s.size = size(b)
			}
		}
	})
	if e.Kind == gate.EventResult {
		h.framing[e.Command] += uint64(n)
	}
}

// refused says whether a command did not run. What needs people, or facts, is
// prepared all the same; it is held when it is executed.
func refused(e *gate.Event) bool {
	switch e.Decision {
	case "allow":
		return false
	case "review":
		return e.Phase != "prepare" && e.Request == ""
	case "need":
		return e.Phase != "prepare"
	}
	return true
}

func (s *Summary) judges(list []gate.Module) {
next:
	for _, m := range list {
		for _, known := range s.Modules {
			if known == m {
				continue next
			}
		}
		s.Modules = append(s.Modules, m)
	}
}

// String is "3 committed, 1 refused".
func (o Outcomes) String() string {
	var list []string
	for _, word := range []string{Completed, Committed, RolledBack, Failed, Skipped, Refused, Unknown} {
		if n := o[word]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, word))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// List summarizes every recording of a directory, the oldest first. One that
// cannot be read has its fault.
func List(dir string) ([]*Summary, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+Extension))
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	list := make([]*Summary, 0, len(paths))
	for _, p := range paths {
		s, err := Summarize(p)
		if err != nil {
			s = &Summary{ID: strings.TrimSuffix(filepath.Base(p), Extension), State: "unreadable", Fault: err.Error()}
		}
		list = append(list, s)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Began.Before(list[j].Began) })
	return list, nil
}
