// The bothsides guard has every write to some tables looked at from two sides: a
// person of the one group and another of the other. The gateway counts people
// who are in either; that they are one of each is this guard's own condition.
package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&sides{}) }

type sides struct {
	Tables []string `json:"tables"`
	Groups []string `json:"groups"` // two
	Within uint32   `json:"within"` // seconds, 0 is what the gateway has
}

// Configure implements guard.Configurer.
func (s *sides) Configure(config []byte) error { return json.Unmarshal(config, s) }

// Command wants a review of writes to the tables, and leaves the rest to others.
func (s *sides) Command(c *abi.Command, v *abi.Verdict) {
	v.Decision = abi.Abstain
	for i := range c.Statement.Operations {
		o := &c.Statement.Operations[i]
		if table := strings.Join(o.Object, "."); o.Effect.Writes() && slices.Contains(s.Tables, table) {
			v.Decision = abi.Review
			v.Reason = abi.Reason{Code: "bothsides.review", Message: "writes to " + table + " need one of " + s.Groups[0] + " and one of " + s.Groups[1]}
			v.Review = abi.Requirement{Groups: s.Groups, People: 2, Within: s.Within, Summary: v.Reason.Message}
			return
		}
	}
}

// Approval ends a request for which two people of one side have spoken, and
// none of the other.
func (s *sides) Approval(a *abi.Approval, v *abi.Verdict) {
	if v.Decision = abi.Abstain; a.Met && !s.both(a.Voices) {
		v.Decision = abi.Deny
		v.Reason = abi.Reason{Code: "bothsides.one-side", Message: "one of " + s.Groups[0] + " and one of " + s.Groups[1] + " have to approve: these are not",
			Hint: "ask again, and have somebody of the other group look"}
	}
}

// both says whether somebody approves for each side, and not the same one.
func (s *sides) both(voices []abi.Voice) bool {
	for i := range voices {
		for j := range voices {
			one, other := &voices[i], &voices[j]
			if one.Approve && other.Approve && (one.Issuer != other.Issuer || one.Subject != other.Subject) &&
				slices.Contains(one.Groups, s.Groups[0]) && slices.Contains(other.Groups, s.Groups[1]) {
				return true
			}
		}
	}
	return false
}

func main() {}
