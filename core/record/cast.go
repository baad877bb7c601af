package record

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrNoScreen says that a session ran nothing that a terminal could show.
var ErrNoScreen = errors.New("only what ran on a host can be shown as a terminal")

// Cast writes what the programs of an SSH session showed as an asciicast,
// version 3 (docs.asciinema.org): output, input, sizes, a mark for each decision
// and the last exit status. only is the number of one command; 0 is all.
func Cast(w io.Writer, path string, only uint64) error {
	s, err := Summarize(path)
	if err != nil {
		return err
	}
	if err := s.screened(only); err != nil {
		return err
	}
	type term struct {
		Cols int `json:"cols"`
		Rows int `json:"rows"`
	}
	header := struct {
		Version   int    `json:"version"`
		Term      term   `json:"term"`
		Timestamp int64  `json:"timestamp,omitempty"`
		Title     string `json:"title,omitempty"`
	}{Version: 3, Timestamp: s.Began.Unix(), Title: s.title()}
	header.Term.Cols, header.Term.Rows = s.Size()
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out) // a line each; < and > are escaped, wherever that is shown
	if err := enc.Encode(header); err != nil {
		return err
	}
	var before time.Duration
	err = show(path, s, only, func(e shot) error {
		at := e.at.Round(time.Microsecond) // of the whole, so that rounding does not add up
		defer func() { before = at }()
		return enc.Encode([]any{json.Number(fmt.Sprintf("%.6f", (at - before).Seconds())), e.kind, e.data})
	})
	if errors.Is(err, ErrTorn) { // as far as it goes
		err = nil
	}
	return errors.Join(err, out.Flush())
}

// screened says whether there is something to show.
func (s *Summary) screened(only uint64) error {
	switch {
	case s.Protocol != protocolSSH:
		return fmt.Errorf("record: a session of protocol %q: %w", s.Protocol, ErrNoScreen)
	case only != 0 && s.ends[only] == nil:
		return fmt.Errorf("record: the session has no command %d", only)
	}
	return nil
}

// title is "ada for restart-web on web-1".
func (s *Summary) title() string {
	return Escape(s.Subject) + " for " + Escape(s.Task) + " on " + Escape(s.Resource)
}
