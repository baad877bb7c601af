package approval

import (
	"encoding/hex"
	"time"
	"unicode/utf8"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// State is how a request stands, and Voice what one person said to it.
type (
	State = gate.RequestState
	Voice = gate.Voice
)

// Card is all there is to know of a request: what people look at before they
// decide. Its texts are whole; whoever shows them uses Visible.
type Card struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	Code  string `json:"code"` // typed by who approves

	Issuer   string   `json:"issuer"` // who asks
	Subject  string   `json:"subject"`
	Groups   []string `json:"groups"`
	Task     string   `json:"task"`
	Resource string   `json:"resource"`
	Login    string   `json:"login"` // the resource's
	Address  string   `json:"address"`
	Protocol string   `json:"protocol"`
	Session  string   `json:"session"`

	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	Text       string   `json:"text"`      // as sent
	Canonical  string   `json:"canonical"` // as it would run
	Strange    []string `json:"strange"`   // characters of both that are not seen as such: U+202E
	Operations []string `json:"operations"`
	Params     []string `json:"params"`
	Payload    *Payload `json:"payload,omitempty"`
	Earlier    []string `json:"earlier"` // what the open transaction has written before
	Open       bool     `json:"open"`    // it runs in a transaction that is open
	Estimated  *int64   `json:"estimated_rows,omitempty"`
	Counted    *int64   `json:"counted_rows,omitempty"`
	Binding    string   `json:"binding"` // SHA-256 of all that an approval holds for

	Needs  []Need  `json:"needs"`
	Voices []Voice `json:"voices"`

	Ended   *time.Time `json:"ended,omitempty"`
	Why     string     `json:"why,omitempty"`     // it ended
	Command uint64     `json:"command,omitempty"` // of its session, that used it
	Outcome string     `json:"outcome,omitempty"` // of that command: completed, failed, pending, committed, rolled back, unknown
}

// Need is what one guard asks for, and how far it is met.
type Need struct {
	Guard   string   `json:"guard"`
	Summary string   `json:"summary,omitempty"`
	Groups  []string `json:"groups"`
	People  int      `json:"people"`
	Have    int      `json:"have"` // people who have approved and count
	Met     bool     `json:"met"`
}

// Payload is a stream that belongs to the command.
type Payload struct {
	Size   uint64 `json:"size"`
	Digest string `json:"sha256,omitempty"`
	Head   string `json:"head,omitempty"` // its first bytes, made visible
	Whole  bool   `json:"whole"`          // the head is all of it
	Unseen bool   `json:"unseen"`         // nobody can see what will be sent
}

// Brief is a line of a list of requests. It has no code: whoever approves opens
// the card.
type Brief struct {
	ID       string    `json:"id"`
	State    State     `json:"state"`
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Task     string    `json:"task"`
	Resource string    `json:"resource"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Text     string    `json:"text"` // its beginning, made visible
	Cut      bool      `json:"cut"`  // there is more of it
	Needs    []Need    `json:"needs"`
	Why      string    `json:"why,omitempty"`
	Own      bool      `json:"own"`      // who looks has asked for it
	MayVote  bool      `json:"may_vote"` // who looks may decide it, and has not yet
}

// briefly is how much of a text a list shows, in characters.
const briefly = 200

func newCard(r *gate.Request) *Card {
	s := r.Session
	c := &Card{ID: r.ID, State: gate.Waiting, Code: r.Code, Issuer: s.Issuer, Subject: s.Subject, Groups: list(s.Groups), Task: s.Task, Resource: s.Resource, Login: s.Login,
		Address: s.Address, Protocol: s.Protocol, Session: s.ID, Since: r.Since.UTC(), Until: r.Until.UTC(), Text: exact(r.Text), Canonical: exact(r.Canonical), Strange: list(strange(r.Text, r.Canonical)),
		Operations: list(r.Operations), Params: list(r.Params), Earlier: list(r.Earlier), Open: r.Open, Estimated: known(r.Rows.Estimated), Counted: known(r.Rows.Counted),
		Binding: hex.EncodeToString(r.Binding[:]), Voices: []Voice{}}
	for _, n := range r.Needs {
		c.Needs = append(c.Needs, Need{Guard: n.Guard, Summary: n.Summary, Groups: list(n.Groups), People: int(max(n.People, 1))})
	}
	switch in := &r.Input; in.Kind {
	case abi.InputNone:
	case abi.InputSpooled:
		c.Payload = &Payload{Size: in.Size, Digest: hex.EncodeToString(in.Digest), Head: Visible(string(in.Head)), Whole: uint64(len(in.Head)) == in.Size}
	default:
		c.Payload = &Payload{Unseen: true}
	}
	return c
}

// list is never null in JSON.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// exact is a text that JSON keeps as it is: one that is not UTF-8 is shown by
// its bytes.
func exact(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return Visible(s)
}

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func (c *Card) brief() Brief {
	b := Brief{ID: c.ID, State: c.State, Subject: c.Subject, Issuer: c.Issuer, Task: c.Task, Resource: c.Resource, Since: c.Since, Until: c.Until, Needs: c.Needs, Why: c.Why}
	n := 0
	for i := range c.Text {
		if n++; n > briefly {
			b.Text, b.Cut = Visible(c.Text[:i]), true
			return b
		}
	}
	b.Text = Visible(c.Text)
	return b
}
