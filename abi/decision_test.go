package abi

import "testing"

// WM10, WM14, WM19: order, grants, forgotten and unknown decisions.
func TestWM10Combine(t *testing.T) {
	for _, c := range []struct {
		in   []Decision
		want Decision
		who  int
	}{
		{nil, Deny, -1},
		{[]Decision{Abstain, Abstain}, Deny, -1},
		{[]Decision{Abstain, Allow}, Allow, 1},
		{[]Decision{Allow, Allow}, Allow, 0},
		{[]Decision{Allow, Review}, Review, 1},
		{[]Decision{Need, Review, Allow}, Need, 0},
		{[]Decision{Allow, Need, Deny, Review}, Deny, 2},
		{[]Decision{Allow, Unset}, Deny, 1},
		{[]Decision{Allow, 4}, Deny, 1},
		{[]Decision{Allow, 255}, Deny, 1},
	} {
		if got, who := Combine(c.in); got != c.want || who != c.who {
			t.Errorf("Combine(%v) = %v by %d, want %v by %d", c.in, got, who, c.want, c.who)
		}
	}
}

// One more guard never loosens what the others decided, for every number a
// guard can send.
func TestWM10CombineNeverLoosens(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			one, _ := Combine([]Decision{Decision(a)})
			two, _ := Combine([]Decision{Decision(a), Decision(b)})
			if one != Deny && rank(two) < rank(one) {
				t.Fatalf("adding %d to %d went from %v to %v", b, a, one, two)
			}
			if one == Deny && Decision(a).Normal() == Deny && two != Deny {
				t.Fatalf("%d lifted the refusal of %d", b, a)
			}
		}
	}
}

func TestWM14Grants(t *testing.T) {
	for _, c := range []struct {
		may      May
		in, want Decision
	}{
		{May{}, Allow, Abstain},
		{May{}, Review, Deny},
		{May{}, Deny, Deny},
		{May{}, 77, Deny},
		{May{Allow: true}, Allow, Allow},
		{May{Review: true}, Review, Review},
		{May{Allow: true}, Unset, Deny},
	} {
		if got := c.may.Limit(c.in); got != c.want {
			t.Errorf("%+v limits %d to %v, want %v", c.may, c.in, got, c.want)
		}
	}
}
