// Package abi is the contract between the gateway and its WebAssembly modules.
// It imports nothing of ours, so that host and guest compile the same source.
package abi

// Decision is what one guard wants done with a command. The numbers are
// frozen: they travel between host and guest.
type Decision uint8

// The decisions of ABI version 1. Unset is what a forgotten field means and
// reads as Deny, and so does every number that is not listed here.
const (
	Unset   Decision = 0
	Allow   Decision = 1 // run
	Deny    Decision = 2 // refuse
	Review  Decision = 3 // run only once other people approve
	Need    Decision = 5 // ask again with the facts that the verdict names
	Abstain Decision = 6 // no opinion
)

// Normal maps everything that is not a known decision to Deny.
func (d Decision) Normal() Decision {
	switch d {
	case Allow, Deny, Review, Need, Abstain:
		return d
	}
	return Deny
}

// String gives the word of the specification.
func (d Decision) String() string {
	switch d.Normal() {
	case Allow:
		return "allow"
	case Review:
		return "review"
	case Need:
		return "need"
	case Abstain:
		return "abstain"
	}
	return "deny"
}

// May is what the operator grants a module to decide. The zero value grants
// nothing but to deny: a guard can always close.
type May struct {
	Allow  bool // an Allow without it reads as Abstain
	Review bool // a Review without it reads as Deny
	Mask   bool
}

// Limit reads a module's decision under its grant, never looser than it was.
func (m May) Limit(d Decision) Decision {
	switch d = d.Normal(); {
	case d == Allow && !m.Allow:
		return Abstain
	case d == Review && !m.Review:
		return Deny
	}
	return d
}

// Combine joins the decisions of all guards, already under their grants:
// Deny > Need > Review > Allow > Abstain. All abstaining is Deny, and so is
// nobody asked. It returns the index of the deciding guard, -1 where none is.
func Combine(decisions []Decision) (Decision, int) {
	best, who := Abstain, -1
	for i, d := range decisions {
		if d = d.Normal(); rank(d) > rank(best) {
			best, who = d, i
		}
	}
	if best == Abstain {
		return Deny, -1
	}
	return best, who
}

func rank(d Decision) int {
	switch d {
	case Abstain:
		return 0
	case Allow:
		return 1
	case Review:
		return 2
	case Need:
		return 3
	}
	return 4
}
